//! What an exporter is told.

use std::path::PathBuf;
use std::time::Duration;

/// How OTLP travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf in an HTTP POST.
    HttpProtobuf,
}

/// When a failed export is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// First pause.
    pub initial: Duration,
    /// Longest pause.
    pub max: Duration,
    /// Spans are dropped after so long.
    pub max_elapsed: Duration,
}

/// Settings of the OTLP exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportSettings {
    /// Where to: for HTTP with the path.
    pub endpoint: String,
    /// gRPC or HTTP.
    pub protocol: Protocol,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// Of one request.
    pub timeout: Duration,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// CA certificates in PEM, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Take any certificate of the collector's.
    pub insecure_skip_verify: bool,
    /// Client certificate in PEM.
    pub client_certificate: Option<PathBuf>,
    /// Its key in PEM.
    pub client_key: Option<PathBuf>,
    /// Spans in one request, at most.
    pub batch_max_size: usize,
    /// How long spans wait for a batch to fill.
    pub batch_timeout: Duration,
    /// Spans that may wait, at most; the newest are dropped when there are more.
    pub queue_size: usize,
    /// Retries.
    pub retry: Retry,
    /// Whether spans carry `spanwire.link`.
    pub link_attribute: bool,
}
