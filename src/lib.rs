//! spanwire turns the traffic of a Linux host into distributed traces.

pub mod bpf;
pub mod config;
pub mod span;
