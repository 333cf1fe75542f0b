//! The pods of this node, as the API server tells of them: a thread of its own that watches, and a store that everybody may ask.
//!
//! Nobody ever waits for the API server here: a question is a lookup, and its answer may be "not known (yet)".

mod object;
mod pod;
mod store;
mod watch;

pub use pod::{Owner, Pod};
pub use store::Cluster;
pub use watch::{Reach, Settings, Watch, probe};
