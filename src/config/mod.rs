//! What the user asked for: defaults < YAML < environment < flags.

mod docs;
mod expand;
mod keys;
mod load;
mod model;
mod resolve;
mod types;

pub use docs::markdown;
pub use load::{ConfigError, Loaded, Sources, load};
pub use model::{Config, Level, LogFormat, MetricsExporter, Selector, TierName};
pub(crate) use resolve::percent_decoded;
pub use types::{Glob, IntSet, Span as GoDuration};
