//! What a span needs from the header blocks of HTTP/2.
//!
//! The kernel side frames the connection and hands over whole header blocks; here they are
//! decompressed by an observer that may have missed some, and read into fields.

pub mod fields;
pub mod hpack;
pub mod huffman;

pub use fields::{RequestFields, ResponseFields};
pub use hpack::{Field, HpackError, Table};
