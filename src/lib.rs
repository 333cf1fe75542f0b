//! spanwire turns the traffic of a Linux host into distributed traces.

pub mod bpf;
pub mod config;
pub mod conn;
pub mod event;
pub mod export;
pub mod pipeline;
pub mod proto;
pub mod selfmetrics;
pub mod span;
pub mod time;
