//! The only place that knows libbpf, and the only one with `unsafe`.
//!
//! [`Tracer`] owns what is loaded and attached; dropping it detaches everything. [`Control`] is
//! what the rest of the program may do to the running kernel side, from any thread.

pub mod abi;
mod control;
mod inject;
pub mod live;
mod load;
mod memory;
mod missed;
mod probe;
mod raw;
mod ring;
mod runtime;
mod skel;
pub mod socket;
mod spawn;

pub use control::{Control, Counters, Injection, Threads};
pub use inject::{Claims, Injector};
pub use load::{LoadError, LoadOptions, Sampling, Tier, Tracer, Trial, WORKER_NAMES, has_loop};
pub use memory::{few_arenas, started};
pub use probe::{Right, allows, uprobes};
pub use ring::{Fill, Reader, Ring, Stop};
pub use runtime::{Attached, RuntimeProbe, RuntimeProbes};
pub use spawn::spawn_with_fd3;
