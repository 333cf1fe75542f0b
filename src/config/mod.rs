//! What the user asked for: defaults < YAML < environment < flags.

pub mod types;

pub use types::{Glob, IntSet};
