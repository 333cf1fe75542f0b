//! Any bytes as a record of the kernel side: decoded or refused, never a panic.
#![no_main]

use std::sync::Arc;

use spanwire::conn::Assembler;
use spanwire::time::WallClock;

libfuzzer_sys::fuzz_target!(|record: &[u8]| {
    let _process = spanwire::event::decode_proc(record);
    if let Ok(event) = spanwire::event::decode(record) {
        let mut assembler = Assembler::new(4);
        let span = assembler.on_event(event, &WallClock::fixed(0), |_| Some(Arc::default()));
        if let Some(span) = span {
            let _request = spanwire::export::encode(&[span], true);
        }
    }
});
