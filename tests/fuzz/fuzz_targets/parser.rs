//! The kernel side's parser on any bytes: however they are cut, the same records, and nothing is left.
#![no_main]

use std::sync::Once;

unsafe extern "C" {
    fn parser_table(huffman: *const u32);
    fn parser_open(end: u32);
    fn parser_recv(bytes: *const u8, len: u32, piece: u32);
    fn parser_send(bytes: *const u8, len: u32, piece: u32, taken: u32);
    fn parser_close();
    fn parser_records(out: *mut *const u8) -> u32;
    fn parser_lost() -> u32;
    fn parser_left() -> u32;
}

/// Times, ids and the role, by their place in the record of a span.
const SPAN: u32 = 2;
const DIFFER: [std::ops::Range<usize>; 4] = [16..32, 56..88, 88..124, 124..126];

fn records() -> Vec<Vec<u8>> {
    let mut at = std::ptr::null();
    // as tests/parser/parser.h says: they stay until the next connection
    let mut rest = unsafe {
        let len = parser_records(&mut at);
        if len == 0 { &[] } else { std::slice::from_raw_parts(at, len as usize) }
    };
    let mut all = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk() {
        let (record, tail) = tail.split_at(u32::from_ne_bytes(*len) as usize);
        let mut record = record.to_vec();
        let kind = u32::from_ne_bytes(record[8..12].try_into().expect("four bytes"));
        record[..8].fill(0);
        if kind == SPAN {
            DIFFER.into_iter().for_each(|place| record[place].fill(0));
        } else {
            record[16..24].fill(0);
        }
        // what is open at the close ends in no order, and what is discarded is told nobody
        if kind != SPAN || !matches!(record[134], 1 | 3) {
            all.push(record);
        }
        rest = tail;
    }
    all
}

/// Requests up to `middle`, then responses, `cut` bytes a call. Nothing of a cut that goes beyond.
fn run(end: u32, bytes: &[u8], middle: usize, cut: usize, taken: usize) -> Option<Vec<Vec<u8>>> {
    // all that these are given is `len` bytes long
    unsafe {
        parser_open(end);
        for (stream, sent) in [(&bytes[..middle], end == 1), (&bytes[middle..], end == 0)] {
            let mut rest = stream;
            while !rest.is_empty() {
                let len = cut.min(rest.len());
                let took = if sent && !rest.starts_with(b"PRI") { len.min(taken) } else { len };
                if sent {
                    parser_send(rest.as_ptr(), len as u32, 0, took as u32);
                } else {
                    parser_recv(rest.as_ptr(), len as u32, 0);
                }
                rest = &rest[took..];
            }
        }
        parser_close();
        let lost = parser_lost() != 0;
        let said = records();
        assert_eq!(parser_left(), 0, "state is left");
        (!lost).then_some(said)
    }
}

libfuzzer_sys::fuzz_target!(|input: (u16, u8, u8, &[u8])| {
    static TABLE: Once = Once::new();
    TABLE.call_once(|| unsafe { parser_table(spanwire::proto::http2::huffman::kernel_table().as_ptr()) });
    let (middle, cut, taken, bytes) = input;
    let middle = usize::from(middle).min(bytes.len());
    let whole = run(0, bytes, middle, usize::MAX, usize::MAX);
    for end in [0, 1] {
        assert_eq!(run(end, bytes, middle, usize::from(cut).max(1), usize::from(taken).max(1)), whole);
    }
});
