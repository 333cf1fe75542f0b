//! The configuration, with its defaults. The names are OBI's where it has the thing.

use serde::{Deserialize, Serialize};

use super::types::{Glob, IntSet, Span};

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Config {
    pub open_port: IntSet,
    pub target_pids: IntSet,
    pub auto_target_exe: Option<Glob>,
    pub auto_target_language: Option<Glob>,
    pub service_name: Option<String>,
    pub service_namespace: Option<String>,
    pub resource_attributes: Option<String>,
    pub discovery: Discovery,
    pub ebpf: Ebpf,
    pub otel_traces_export: Traces,
    pub trace_printer: Name<Printer>,
    pub log_level: Name<Level>,
    pub log_format: Name<LogFormat>,
    pub shutdown_timeout: Shutdown,
    pub enforce_sys_caps: bool,
    pub internal_metrics: InternalMetrics,
    pub health_check: HealthCheck,
    pub spanwire: Own,
}

/// A value with a default of its own type.
pub type Name<T> = T;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal $(| $alias:literal)*),+ $(,)? } default $default:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
        #[allow(missing_docs, reason = "the names are the values")]
        pub enum $name {
            $(#[serde(rename = $text $(, alias = $alias)*)] $variant),+
        }

        impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        }

        impl $name {
            /// As written in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

words! {
    /// `trace_printer`.
    Printer {
        Disabled = "disabled" | "",
        Text = "text",
        Json = "json",
        JsonIndent = "json_indent",
        Counter = "counter",
        Tree = "tree",
    } default Disabled
}
words! {
    /// `log_level`.
    Level {
        Error = "error" | "ERROR",
        Warn = "warn" | "WARN" | "warning",
        Info = "info" | "INFO",
        Debug = "debug" | "DEBUG",
        Trace = "trace" | "TRACE",
    } default Info
}
words! {
    /// `log_format`.
    LogFormat { Text = "text", Json = "json" } default Text
}
words! {
    /// `ebpf.context_propagation`.
    Propagation {
        Disabled = "disabled" | "",
        Headers = "headers",
        Tcp = "tcp",
        All = "all" | "headers,tcp" | "tcp,headers",
    } default Disabled
}
words! {
    /// `otel_traces_export.protocol`.
    ProtocolName { Grpc = "grpc", HttpProtobuf = "http/protobuf" } default HttpProtobuf
}
words! {
    /// `otel_traces_export.compression`.
    Compression { None = "none" | "", Gzip = "gzip" } default None
}
words! {
    /// `spanwire.tier`.
    TierName { Auto = "auto", A = "a", C = "c" } default Auto
}
words! {
    /// `internal_metrics.exporter`.
    MetricsExporter { Disabled = "disabled", Prometheus = "prometheus" } default Disabled
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Discovery {
    pub instrument: Vec<Selector>,
    pub exclude_instrument: Vec<Selector>,
    pub default_exclude_instrument: DefaultExclude,
    pub poll_interval: Span,
    pub min_process_age: Span,
}

/// An entry of `discovery.instrument`: all its conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the names are the keys")]
pub struct Selector {
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub open_ports: IntSet,
    pub exe_path: Option<Glob>,
    pub cmd_args: Option<Glob>,
    pub target_pids: IntSet,
    pub languages: Option<Glob>,
}

impl Selector {
    /// Whether it says nothing, and so would select everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open_ports.is_empty()
            && self.target_pids.is_empty()
            && self.exe_path.is_none()
            && self.cmd_args.is_none()
            && self.languages.is_none()
    }
}

/// Collectors and ourselves.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DefaultExclude(pub Vec<Selector>);

impl Default for DefaultExclude {
    fn default() -> Self {
        let glob = "{*/spanwire,*/obi,*/beyla,*otelcol*,*/rotel*}".parse().ok();
        Self(vec![Selector { exe_path: glob, ..Selector::default() }])
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Ebpf {
    pub context_propagation: Propagation,
    pub enable_context_propagation: bool,
    pub max_transaction_time: Span,
    pub track_request_headers: bool,
    pub disable_black_box_cp: bool,
}

fn seconds(seconds: u64) -> Span {
    Span(std::time::Duration::from_secs(seconds))
}

impl Default for Ebpf {
    fn default() -> Self {
        Self {
            context_propagation: Propagation::Disabled,
            enable_context_propagation: false,
            max_transaction_time: seconds(300),
            track_request_headers: false,
            disable_black_box_cp: false,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Traces {
    pub endpoint: Option<String>,
    pub common_endpoint: Option<String>,
    pub protocol: Option<ProtocolName>,
    pub traces_protocol: Option<ProtocolName>,
    pub headers: Option<String>,
    pub traces_headers: Option<String>,
    pub timeout: u64,
    pub compression: Compression,
    pub certificate: Option<String>,
    pub client_certificate: Option<String>,
    pub client_key: Option<String>,
    pub sampler: Sampler,
    pub batch_max_size: usize,
    pub queue_size: usize,
    pub batch_timeout: Span,
    pub backoff_initial_interval: Span,
    pub backoff_max_interval: Span,
    pub backoff_max_elapsed_time: Span,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            common_endpoint: None,
            protocol: None,
            traces_protocol: None,
            headers: None,
            traces_headers: None,
            timeout: 10_000,
            compression: Compression::None,
            certificate: None,
            client_certificate: None,
            client_key: None,
            sampler: Sampler::default(),
            batch_max_size: 4096,
            queue_size: 16_384,
            // OBI waits 15 s, which lets a newcomer think that nothing works.
            batch_timeout: Span(std::time::Duration::from_millis(200)),
            backoff_initial_interval: seconds(5),
            backoff_max_interval: seconds(30),
            backoff_max_elapsed_time: seconds(300),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Sampler {
    pub name: String,
    pub arg: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Shutdown(pub Span);

impl Default for Shutdown {
    fn default() -> Self {
        Self(seconds(10))
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct InternalMetrics {
    pub exporter: MetricsExporter,
    pub prometheus: PrometheusPort,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct PrometheusPort {
    pub port: u16,
    pub path: String,
}

impl Default for PrometheusPort {
    fn default() -> Self {
        Self { port: 0, path: "/internal/metrics".to_owned() }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct HealthCheck {
    pub port: u16,
    pub listen_address: String,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { port: 0, listen_address: "127.0.0.1".to_owned() }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Own {
    pub tier: TierName,
    pub link_attribute: bool,
    pub ring_size: u32,
}

impl Default for Own {
    fn default() -> Self {
        Self { tier: TierName::Auto, link_attribute: false, ring_size: 4 << 20 }
    }
}
