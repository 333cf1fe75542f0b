//! Decoding, assembling and encoding of one core, in spans a second.
#![allow(missing_docs)]

use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use spanwire::conn::Assembler;
use spanwire::event::{Recording, decode};
use spanwire::export::encode;
use spanwire::span::{Resource, Span};
use spanwire::time::WallClock;

/// Records of real requests; see tests/it/replays.
const CHAIN: &[u8] = include_bytes!("../it/replays/chain.rec");

fn main() {
    let resource = Arc::new(Resource { service_name: "shop".into(), ..Resource::default() });
    let recording = Recording::open(CHAIN).expect("a recording");
    let clock = WallClock::fixed(recording.offset());
    let records: Vec<Vec<u8>> = recording.collect::<Result<_, _>>().expect("records");
    let mut assembler = Assembler::new(100);
    let (mut spans, mut bytes) = (0_u64, 0_usize);
    let begun = Instant::now();
    while begun.elapsed().as_secs() < 3 {
        let batch: Vec<Span> = records
            .iter()
            .filter_map(|record| {
                assembler.on_event(decode(record).ok()?, &clock, |_, _| Some(Arc::clone(&resource)))
            })
            .collect();
        assert!(!batch.is_empty());
        bytes += encode(&batch, false).encode_to_vec().len();
        spans += batch.len() as u64;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "decode + assemble + encode: {:.0} spans/s on one core, {:.2} us and {} bytes each",
        spans as f64 / seconds,
        seconds / spans as f64 * 1e6,
        bytes as u64 / spans
    );
}
