//! Tests that need no privilege: the configuration, the exporter, the command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod cli;
mod config;
mod export;
mod export_tls;
mod packaging;
mod parser;
mod replay;
