//! Where finished spans go: OTLP over gRPC or HTTP, and printers.

mod grpc;
mod http;
mod otlp;
mod printer;
mod queue;
mod settings;
mod tls;
mod tree;

pub use otlp::encode;
pub use printer::{Format, Printer};
pub use queue::{Exporter, SpanQueue};
pub use settings::{ExportSettings, Protocol, Retry};
