//! Pure parsers: no I/O, no clock, no threads.

pub mod http1;
pub mod http2;
