//! Decoding, assembling and encoding of one core, in spans a second.
#![allow(missing_docs)]

use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use spanwire::conn::Assembler;
use spanwire::event::decode;
use spanwire::export::encode;
use spanwire::span::{Resource, Span};
use spanwire::time::WallClock;

const HEAD: &[u8] = b"GET /cart/42?coupon=spring HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";

/// A record as the kernel side lays it out (`struct ev_span` of bpf/include/abi.h).
fn record(number: u64) -> Vec<u8> {
    let mut bytes = vec![0_u8; 136];
    bytes[0..8].copy_from_slice(&number.to_ne_bytes());
    bytes[8..12].copy_from_slice(&2_u32.to_ne_bytes());
    bytes[12..16].copy_from_slice(&77_u32.to_ne_bytes());
    bytes[16..24].copy_from_slice(&(number + 1_000_000).to_ne_bytes());
    bytes[24..32].copy_from_slice(&number.to_ne_bytes());
    bytes[56..88].fill(7);
    bytes[124] = 1;
    bytes[126] = 1;
    bytes[128..130].copy_from_slice(&200_u16.to_ne_bytes());
    bytes[132..134].copy_from_slice(&u16::try_from(HEAD.len()).unwrap().to_ne_bytes());
    bytes.extend_from_slice(HEAD);
    bytes
}

fn main() {
    let resource = Arc::new(Resource { service_name: "shop".into(), ..Resource::default() });
    let records: Vec<Vec<u8>> = (0..4096).map(record).collect();
    let clock = WallClock::fixed(0);
    let mut assembler = Assembler::new(100);
    let (mut spans, mut bytes) = (0_u64, 0_usize);
    let begun = Instant::now();
    while begun.elapsed().as_secs() < 3 {
        let batch: Vec<Span> = records
            .iter()
            .filter_map(|record| {
                assembler.on_event(decode(record).ok()?, &clock, |_| Some(Arc::clone(&resource)))
            })
            .collect();
        assert_eq!(batch.len(), records.len());
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
