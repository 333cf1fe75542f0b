//! The configuration, with its defaults. The names are OBI's where it has the thing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::nets::Nets;
use super::types::{self, Glob, IntSet, Span};
use super::words::{
    Claim, Compression, KubeEnable, Level, LogConfig, LogFormat, MetricsExporter, Printer, Propagation,
    ProtocolName, TierName,
};

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
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
    pub attributes: Attributes,
    pub ebpf: Ebpf,
    pub otel_traces_export: Traces,
    pub trace_printer: Printer,
    pub log_level: Level,
    pub log_format: LogFormat,
    pub log_config: Option<LogConfig>,
    pub shutdown_timeout: Shutdown,
    pub enforce_sys_caps: bool,
    pub channel_buffer_len: usize,
    pub internal_metrics: InternalMetrics,
    pub health_check: HealthCheck,
    pub spanwire: Own,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            open_port: IntSet::default(),
            target_pids: IntSet::default(),
            auto_target_exe: None,
            auto_target_language: None,
            service_name: None,
            service_namespace: None,
            resource_attributes: None,
            discovery: Discovery::default(),
            attributes: Attributes::default(),
            ebpf: Ebpf::default(),
            otel_traces_export: Traces::default(),
            trace_printer: Printer::Disabled,
            log_level: Level::Info,
            log_format: LogFormat::Text,
            log_config: None,
            shutdown_timeout: Shutdown::default(),
            enforce_sys_caps: false,
            channel_buffer_len: 50,
            internal_metrics: InternalMetrics::default(),
            health_check: HealthCheck::default(),
            spanwire: Own::default(),
        }
    }
}

/// `discovery`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Discovery {
    pub instrument: Vec<Selector>,
    pub exclude_instrument: Vec<Selector>,
    pub default_exclude_instrument: DefaultExclude,
    pub poll_interval: Span,
    /// OBI's 5s spares it processes that end at once, at the price of every request before; an event
    /// tells us of each process in time, so there is nothing to wait for.
    pub min_process_age: Span,
    pub exclude_otel_instrumented_services: bool,
    pub default_otlp_grpc_port: u16,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            instrument: Vec::new(),
            exclude_instrument: Vec::new(),
            default_exclude_instrument: DefaultExclude::default(),
            poll_interval: Span::default(),
            min_process_age: Span::default(),
            exclude_otel_instrumented_services: true,
            default_otlp_grpc_port: 4317,
        }
    }
}

/// An entry of `discovery.instrument`: all its conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the keys")]
pub struct Selector {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "IntSet::is_empty")]
    pub open_ports: IntSet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe_path: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd_args: Option<Glob>,
    #[serde(skip_serializing_if = "IntSet::is_empty")]
    pub target_pids: IntSet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub languages: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<SamplerName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_propagation: Option<Propagation>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub containers_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_name: Option<Glob>,
    #[serde(flatten)]
    pub pod: PodSelector,
}

/// The conditions of an entry on the pod of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the keys")]
pub struct PodSelector {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_namespace: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_pod_name: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_container_name: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_owner_name: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_deployment_name: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_replicaset_name: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_statefulset_name: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_daemonset_name: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_job_name: Option<Glob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_cronjob_name: Option<Glob>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub k8s_pod_labels: BTreeMap<String, Glob>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub k8s_pod_annotations: BTreeMap<String, Glob>,
}

impl PodSelector {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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
            && !self.containers_only
            && self.container_name.is_none()
            && self.pod.is_empty()
    }
}

/// `attributes`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Attributes {
    pub kubernetes: Kubernetes,
}

/// `attributes.kubernetes`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Kubernetes {
    pub enable: KubeEnable,
    pub cluster_name: Option<String>,
    pub kubeconfig_path: Option<String>,
    pub resource_labels: BTreeMap<String, Vec<String>>,
    pub meta_source_labels: SourceLabels,
    pub meta_restrict_local_node: bool,
    pub informers_sync_timeout: Span,
    pub reconnect_initial_interval: Span,
    pub informers_resync_period: Span,
}

impl Default for Kubernetes {
    fn default() -> Self {
        let labels = [
            ("service.name", &["app.kubernetes.io/instance", "app.kubernetes.io/name"][..]),
            ("service.namespace", &["app.kubernetes.io/part-of"]),
            ("service.version", &["app.kubernetes.io/version"]),
        ];
        let owned = |(name, labels): (&str, &[&str])| {
            (name.to_owned(), labels.iter().map(|label| (*label).to_owned()).collect())
        };
        Self {
            enable: KubeEnable::default(),
            cluster_name: None,
            kubeconfig_path: None,
            resource_labels: labels.into_iter().map(owned).collect(),
            meta_source_labels: SourceLabels::default(),
            meta_restrict_local_node: true,
            informers_sync_timeout: seconds(30),
            reconnect_initial_interval: seconds(5),
            informers_resync_period: seconds(1800),
        }
    }
}

/// `attributes.kubernetes.meta_source_labels`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct SourceLabels {
    pub service_name: Option<String>,
    pub service_namespace: Option<String>,
}

/// What clusters run for themselves; OBI's list.
const SYSTEM_NAMESPACES: &str = "{kube-system,kube-node-lease,local-path-storage,cert-manager,monitoring,\
    gke-connect,gke-gmp-system,gke-managed-cim,gke-managed-filestorecsi,gke-managed-metrics-server,\
    gke-managed-system,gke-system,gke-managed-volumepopulator,gatekeeper-system}";

/// Collectors, ourselves, and what clusters run for themselves.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the name says it")]
pub struct DefaultExclude(pub Vec<Selector>);

impl Default for DefaultExclude {
    fn default() -> Self {
        let exe_path = "{*/spanwire,*/obi,*/beyla,*otelcol*,*/rotel*}".parse().ok();
        let pod = PodSelector { k8s_namespace: SYSTEM_NAMESPACES.parse().ok(), ..PodSelector::default() };
        Self(vec![Selector { exe_path, ..Selector::default() }, Selector { pod, ..Selector::default() }])
    }
}

/// `ebpf`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Ebpf {
    pub context_propagation: Propagation,
    pub enable_context_propagation: bool,
    pub max_transaction_time: Span,
    pub track_request_headers: bool,
    pub disable_black_box_cp: bool,
    pub wakeup_len: u32,
    pub batch_length: u32,
    pub batch_timeout: Span,
    pub http_request_timeout: Span,
    pub high_request_volume: bool,
    pub override_bpfloop_enabled: bool,
    pub bpf_debug: bool,
}

fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

impl Default for Ebpf {
    fn default() -> Self {
        Self {
            context_propagation: Propagation::default(),
            enable_context_propagation: false,
            max_transaction_time: seconds(300),
            track_request_headers: false,
            disable_black_box_cp: false,
            wakeup_len: 500,
            batch_length: 100,
            batch_timeout: seconds(1),
            http_request_timeout: Span::default(),
            high_request_volume: false,
            override_bpfloop_enabled: false,
            bpf_debug: false,
        }
    }
}

/// `otel_traces_export`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
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
    pub insecure_skip_verify: bool,
    pub sampler: SamplerName,
    pub instrumentations: Vec<String>,
    pub batch_max_size: usize,
    pub queue_size: usize,
    pub batch_timeout: Span,
    pub backoff_initial_interval: Span,
    pub backoff_max_interval: Span,
    pub backoff_max_elapsed_time: Span,
}

/// What OBI exports unless told otherwise; spanwire makes spans of HTTP.
const INSTRUMENTATIONS: [&str; 13] = [
    "http",
    "grpc",
    "sql",
    "redis",
    "kafka",
    "mqtt",
    "nats",
    "amqp",
    "mongo",
    "couchbase",
    "memcached",
    "sunrpc",
    "aerospike",
];

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
            insecure_skip_verify: false,
            sampler: SamplerName::default(),
            instrumentations: INSTRUMENTATIONS.map(str::to_owned).to_vec(),
            // OBI has 4096, which take 10 MiB while they become a request.
            batch_max_size: 1024,
            queue_size: 16_384,
            // OBI waits 15 s, which lets a newcomer think that nothing works.
            batch_timeout: Span(Duration::from_millis(200)),
            backoff_initial_interval: seconds(5),
            backoff_max_interval: seconds(30),
            backoff_max_elapsed_time: seconds(300),
        }
    }
}

/// A sampler as it is named; [`Config::sampler`] says what that means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct SamplerName {
    pub name: String,
    pub arg: String,
}

/// `shutdown_timeout`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Shutdown(pub Span);

impl Default for Shutdown {
    fn default() -> Self {
        Self(seconds(10))
    }
}

/// `internal_metrics`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct InternalMetrics {
    pub exporter: MetricsExporter,
    pub prometheus: PrometheusPort,
}

/// `internal_metrics.prometheus`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
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

/// `health_check`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
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

/// `spanwire`: what OBI has no key for.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each field is documented in the table of keys")]
pub struct Own {
    pub node_name: Option<String>,
    pub tier: TierName,
    pub claim: Claim,
    pub never_write_to: Nets,
    pub link_attribute: bool,
    pub random_flag: bool,
    pub runtime_probes: bool,
    pub jvm_worker_threads: Vec<String>,
    #[serde(deserialize_with = "types::bytes")]
    pub ring_size: u32,
}

impl Default for Own {
    fn default() -> Self {
        Self {
            node_name: None,
            tier: TierName::Auto,
            claim: Claim::Auto,
            never_write_to: Nets::default(),
            link_attribute: false,
            random_flag: true,
            runtime_probes: true,
            jvm_worker_threads: ["http-nio", "tomcat-exec", "catalina-exec", "qtp"]
                .map(String::from)
                .to_vec(),
            ring_size: 4 << 20,
        }
    }
}
