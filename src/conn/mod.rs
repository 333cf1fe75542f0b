//! Records of the kernel side → spans.
//!
//! Pure state; time is an argument. The kernel side pairs requests and responses; this joins a
//! span with the head, or the header blocks, that came ahead of it, and makes spans of what never ends.

mod assemble;
mod http2;

pub use assemble::{Assembler, Totals};
