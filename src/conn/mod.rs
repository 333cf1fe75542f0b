//! Records of the kernel side → spans.
//!
//! Pure state; time is an argument. The kernel side pairs requests and responses; this joins a
//! span with a head that came ahead of it, and makes spans of what never ends.

mod assemble;

pub use assemble::{Assembler, Totals};
