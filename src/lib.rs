//! spanwire turns the traffic of a Linux host into distributed traces; docs/ARCHITECTURE.md is the map.
#![deny(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unsafe_op_in_unsafe_fn)]

pub mod bpf;
pub mod cli;
pub mod config;
pub mod conn;
pub mod enrich;
pub mod event;
pub mod export;
pub mod kube;
pub mod logging;
pub mod pipeline;
pub mod proc;
pub mod propagation;
pub mod proto;
pub mod runtime;
pub mod selfmetrics;
pub mod span;
pub mod time;
