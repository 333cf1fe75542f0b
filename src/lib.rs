//! spanwire turns the traffic of a Linux host into distributed traces.

pub mod bpf;
pub mod cli;
pub mod config;
pub mod conn;
pub mod enrich;
pub mod event;
pub mod export;
pub mod logging;
pub mod pipeline;
pub mod proc;
pub mod proto;
pub mod selfmetrics;
pub mod span;
pub mod time;
