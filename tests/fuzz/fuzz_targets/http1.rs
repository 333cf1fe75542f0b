//! Any bytes as the head of a request: never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|head: &[u8]| {
    let _any = spanwire::proto::http1::RequestHead::parse(head);
});
