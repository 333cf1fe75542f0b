//! Any bytes as header blocks of one direction, some missed and some fed twice: never a panic.
#![no_main]

use spanwire::proto::http2::{RequestFields, ResponseFields, Table};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut table = Table::default();
    let mut first = 0_u32;
    let mut rest = input;
    while let [low, high, length, tail @ ..] = rest {
        first = first.wrapping_add_signed(i16::from_le_bytes([*low, *high]).into());
        let (block, tail) = tail.split_at(tail.len().min((*length).into()));
        rest = tail;
        let (mut request, mut response) = (RequestFields::default(), ResponseFields::default());
        let _any = table.decode(first, block, |field| {
            request.take(field.clone());
            response.take(field);
        });
        let _grpc = request.is_grpc();
    }
});
