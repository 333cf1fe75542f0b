//! Open requests: a head here, an end there, one span out.
//!
//! Pure state; time is an argument. The kernel side pairs requests and responses, this joins
//! the two records of a request and notices what never ends.

mod assemble;

pub use assemble::{Assembler, Outcome, Totals};
