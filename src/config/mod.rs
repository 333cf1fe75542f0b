//! What the user asked for: defaults < YAML < environment < flags.
//!
//! [`load()`] reads all layers from [`Sources`] and never from the process's own surroundings;
//! [`Config::validate`] says whether the whole makes sense. Warnings are data: the log may not be
//! there yet.

mod advice;
mod docs;
mod env;
mod error;
mod expand;
mod keys;
mod legacy;
mod load;
mod model;
mod nets;
mod report;
mod resolve;
mod types;
mod unbuilt;
mod validate;
mod value;
mod words;
mod yaml;

pub use docs::{markdown, yaml as annotated};
pub use error::ConfigError;
pub use load::{Loaded, Sources, load};
pub use model::{
    Attributes, Config, DefaultExclude, Discovery, Ebpf, HealthCheck, InternalMetrics, Kubernetes, Own,
    PodSelector, PrometheusPort, SamplerName, Selector, Shutdown, SourceLabels, Traces,
};
pub use nets::{Net, Nets};
pub use report::{Effective, Origin, Severity, Warning};
pub(crate) use resolve::percent_decoded;
pub use resolve::{RootSampler, Sampler};
pub use types::{Glob, IntSet, Span as GoDuration};
pub use words::{
    Claim, Compression, KubeEnable, Level, LogConfig, LogFormat, MetricsExporter, Printer, Propagation,
    ProtocolName, TierName,
};
