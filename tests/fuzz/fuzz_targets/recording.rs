//! Any bytes as a recording, and its records as events: never a panic, never more memory than the file has bytes.
#![no_main]

use spanwire::event::{Recording, decode};

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let Ok(recording) = Recording::open(file) else { return };
    for record in recording.flatten() {
        let _event = decode(&record);
    }
});
