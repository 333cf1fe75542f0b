//! The table of keys: what exists, by which environment variables, and what for. The loader, the
//! documentation, the annotated file and `spanwire config` all go by it.

/// How a value that came as text is read, and what YAML may give instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Also a name, a glob, a word of a few: text, and so is a bare number or boolean.
    Text,
    Bool,
    Int,
    Bytes,
    Duration,
    /// A number of milliseconds, or a duration.
    Millis,
    /// Numbers and ranges.
    Ints,
    /// Separated by commas in the environment.
    List,
    /// Entries of `discovery`.
    Selectors,
    /// A mapping of what the user names; with flags and in the environment, YAML in one line.
    Map,
}

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Path in YAML.
    pub path: &'static str,
    pub kind: Kind,
    env: &'static [&'static str],
    /// For people.
    pub doc: &'static str,
    /// For the annotated file, where there is no default to show.
    pub example: &'static str,
    /// Whether setting it changes anything yet.
    pub works: bool,
    /// Whether the value is for nobody's eyes.
    pub secret: bool,
}

const fn key(path: &'static str, kind: Kind, env: &'static [&'static str], doc: &'static str) -> Key {
    Key { path, kind, env, doc, example: "", works: true, secret: false }
}

impl Key {
    const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    const fn inert(self) -> Self {
        Self { works: false, ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Environment variables; the first that is set wins. Beyla's name for one of OBI's differs by
    /// its prefix.
    pub fn env(&self) -> Vec<String> {
        let both = |name: &&str| {
            let beyla = name.strip_prefix("OTEL_EBPF_").map(|rest| format!("BEYLA_{rest}"));
            std::iter::once((*name).to_owned()).chain(beyla)
        };
        let mut all: Vec<String> = Vec::new();
        for name in self.env.iter().flat_map(both) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        all
    }
}

/// The key of that path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

use Kind::{Bool, Bytes, Duration, Int, Ints, List, Map, Millis, Selectors, Text};

/// All keys.
#[rustfmt::skip] // A table; a line is a key.
pub(super) const KEYS: &[Key] = &[
    key("open_port", Ints, &["OTEL_EBPF_OPEN_PORT"],
        "Trace processes that listen on one of these TCP ports.").example("80,443,8000-8999"),
    key("target_pids", Ints, &["OTEL_EBPF_TARGET_PID"],
        "Trace these pids of the host.").example("1234"),
    key("auto_target_exe", Text, &["OTEL_EBPF_AUTO_TARGET_EXE", "OTEL_GO_AUTO_TARGET_EXE"],
        "Trace processes whose executable path matches this glob; `*` crosses `/`.").example("'*/{nginx,python3*}'"),
    key("auto_target_language", Text, &["OTEL_EBPF_AUTO_TARGET_LANGUAGE"],
        "Trace processes of this runtime (a glob): go, java, dotnet, python, ruby, nodejs, rust, php, erlang, generic.").example("python"),
    key("service_name", Text, &["OTEL_SERVICE_NAME", "OTEL_EBPF_SERVICE_NAME"],
        "service.name of every traced process that does not name itself. Deprecated in OBI.").example("shop"),
    key("service_namespace", Text, &["OTEL_EBPF_SERVICE_NAMESPACE"],
        "service.namespace of every traced process. Deprecated in OBI.").example("eu"),
    key("resource_attributes", Text, &["OTEL_RESOURCE_ATTRIBUTES"],
        "Resource attributes of every traced process; what its own environment says wins.").example("deployment.environment=test,team=a"),

    key("discovery.instrument", Selectors, &[],
        "List of entries; a process is traced when all conditions of one entry hold: open_ports, exe_path, cmd_args, target_pids, languages, \
         containers_only, container_name, and of its pod k8s_namespace, k8s_pod_name, k8s_container_name, k8s_owner_name, \
         k8s_deployment_name, k8s_replicaset_name, k8s_statefulset_name, k8s_daemonset_name, k8s_job_name, k8s_cronjob_name \
         (globs), k8s_pod_labels, k8s_pod_annotations (mappings to globs). name and namespace set the service, sampler.name and sampler.arg its sampler (not built yet), context_propagation whether its requests are given headers. The first entry that holds wins. With --set, YAML in one line.").example("[{open_ports: 8080, exe_path: '*/java', name: shop}]"),
    key("discovery.exclude_instrument", Selectors, &[],
        "The same, of processes that are never traced.").example("[{exe_path: '*/postgres'}]"),
    key("discovery.default_exclude_instrument", Selectors, &[],
        "The same; its default is ourselves, collectors and the namespaces of Kubernetes itself, and setting it replaces that."),
    key("discovery.poll_interval", Duration, &["OTEL_EBPF_DISCOVERY_POLL_INTERVAL"],
        "Accepted for OBI's sake: discovery goes by events of the kernel and does not poll."),
    key("discovery.min_process_age", Duration, &["OTEL_EBPF_MIN_PROCESS_AGE"],
        "Accepted for OBI's sake, where it is 5s: a process is traced from its first request."),
    key("discovery.exclude_otel_instrumented_services", Bool, &["OTEL_EBPF_EXCLUDE_OTEL_INSTRUMENTED_SERVICES"],
        "Leave processes alone that export OTLP themselves.").inert(),
    key("discovery.default_otlp_grpc_port", Int, &["OTEL_EBPF_DEFAULT_OTLP_GRPC_PORT"],
        "The port by which such an export is told.").inert(),

    key("attributes.kubernetes.enable", Text, &["OTEL_EBPF_KUBE_METADATA_ENABLE"],
        "Ask the API server about the pods of this node: true, false, autodetect (inside a cluster, or with a kubeconfig). See docs/METADATA.md."),
    key("attributes.kubernetes.cluster_name", Text, &["OTEL_EBPF_KUBE_CLUSTER_NAME"],
        "k8s.cluster.name of every process in a pod.").example("eu-1"),
    key("attributes.kubernetes.kubeconfig_path", Text, &["KUBECONFIG"],
        "How to reach the API server from outside of a cluster.").example("/etc/spanwire/kubeconfig"),
    key("attributes.kubernetes.resource_labels", Map, &[],
        "Labels of the pod that give an attribute of the resource, the first that is there: service.name before the owner's \
         name, service.namespace before the namespace, any other as it is."),
    key("attributes.kubernetes.meta_source_labels.service_name", Text, &["OTEL_EBPF_KUBE_META_SOURCE_LABEL_SERVICE_NAME"],
        "One more label for service.name, before those of resource_labels. Deprecated in OBI.").example("shop.example/service"),
    key("attributes.kubernetes.meta_source_labels.service_namespace", Text, &["OTEL_EBPF_KUBE_META_SOURCE_LABEL_SERVICE_NAMESPACE"],
        "The same for service.namespace.").example("shop.example/team"),
    key("attributes.kubernetes.meta_restrict_local_node", Bool, &["OTEL_EBPF_KUBE_META_RESTRICT_LOCAL_NODE"],
        "Accepted for OBI's sake: the pods of this node are all that is ever asked for."),
    key("attributes.kubernetes.informers_sync_timeout", Duration, &["OTEL_EBPF_KUBE_INFORMERS_SYNC_TIMEOUT"],
        "Accepted for OBI's sake: nothing waits for the API server longer than docs/METADATA.md says."),
    key("attributes.kubernetes.reconnect_initial_interval", Duration, &["OTEL_EBPF_KUBE_RECONNECT_INITIAL_INTERVAL"],
        "First pause before the API server is asked again; it doubles up to 30s."),
    key("attributes.kubernetes.informers_resync_period", Duration, &["OTEL_EBPF_KUBE_INFORMERS_RESYNC_PERIOD"],
        "Accepted for OBI's sake: the watch is resumed, not repeated."),

    key("ebpf.context_propagation", Text, &["OTEL_EBPF_BPF_CONTEXT_PROPAGATION"],
        "Write context into outgoing requests: disabled, headers, tcp, `headers,tcp`, all. Of these, headers is built. OBI's old `ip` is read and ignored."),
    key("ebpf.enable_context_propagation", Bool, &["OTEL_EBPF_BPF_ENABLE_CONTEXT_PROPAGATION"],
        "Beyla's old spelling of `context_propagation: all`."),
    key("ebpf.max_transaction_time", Duration, &["OTEL_EBPF_BPF_MAX_TRANSACTION_TIME"],
        "A request that is open for longer becomes a span with error.type=timeout."),
    key("ebpf.track_request_headers", Bool, &["OTEL_EBPF_BPF_TRACK_REQUEST_HEADERS"],
        "Accepted for OBI's sake: an incoming traceparent is always read."),
    key("ebpf.disable_black_box_cp", Bool, &["OTEL_EBPF_BPF_DISABLE_BLACK_BOX_CP"],
        "Do not join the two ends of a connection on this host."),
    key("ebpf.wakeup_len", Int, &["OTEL_EBPF_BPF_WAKEUP_LEN"],
        "Events that may wait in the ring before user space is woken.").inert(),
    key("ebpf.batch_length", Int, &["OTEL_EBPF_BPF_BATCH_LENGTH"],
        "Events that go down the pipeline together.").inert(),
    key("ebpf.batch_timeout", Duration, &["OTEL_EBPF_BPF_BATCH_TIMEOUT"],
        "How long they wait for each other.").inert(),
    key("ebpf.http_request_timeout", Duration, &["OTEL_EBPF_BPF_HTTP_REQUEST_TIMEOUT"],
        "A request without an answer for so long becomes a span with status 408; 0 is never.").inert(),
    key("ebpf.high_request_volume", Bool, &["OTEL_EBPF_BPF_HIGH_REQUEST_VOLUME"],
        "End a request at the first byte of its response.").inert(),
    key("ebpf.override_bpfloop_enabled", Bool, &["OTEL_EBPF_OVERRIDE_BPF_LOOP_ENABLED"],
        "Unneeded: whether the kernel has bpf_loop is found by trial, backports included.").inert(),
    key("ebpf.bpf_debug", Bool, &["OTEL_EBPF_BPF_DEBUG"],
        "Messages of the kernel side in the log.").inert(),

    key("otel_traces_export.endpoint", Text, &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"],
        "OTLP endpoint for traces; its path is used as it is. Wins over common_endpoint, unless that comes from a flag.").example("http://localhost:4318/v1/traces"),
    key("otel_traces_export.common_endpoint", Text, &["OTEL_EXPORTER_OTLP_ENDPOINT"],
        "OTLP endpoint for all signals; `/v1/traces` is added for HTTP.").example("http://localhost:4317"),
    key("otel_traces_export.protocol", Text, &["OTEL_EXPORTER_OTLP_PROTOCOL"],
        "grpc or http/protobuf. Where neither protocol is set: grpc when the port ends in 4317, else http/protobuf.").example("grpc"),
    key("otel_traces_export.traces_protocol", Text, &["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"],
        "The same for traces alone; wins, unless the other comes from a flag.").example("grpc"),
    key("otel_traces_export.headers", Text, &["OTEL_EXPORTER_OTLP_HEADERS"],
        "Headers of every export, `key=value,…`; values are percent-decoded.").example("authorization=Bearer%20${TOKEN:-none}").secret(),
    key("otel_traces_export.traces_headers", Text, &["OTEL_EXPORTER_OTLP_TRACES_HEADERS"],
        "The same for traces alone; added, and wins.").example("x-tenant=a").secret(),
    key("otel_traces_export.timeout", Millis, &["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
        "For one export request, in milliseconds or as a duration."),
    key("otel_traces_export.compression", Text, &["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"],
        "none or gzip."),
    key("otel_traces_export.certificate", Text, &["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"],
        "PEM file with the CA to trust instead of the system's.").example("/etc/ssl/collector-ca.pem"),
    key("otel_traces_export.client_certificate", Text, &["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"],
        "PEM file with our certificate.").example("/etc/ssl/agent.pem"),
    key("otel_traces_export.client_key", Text, &["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"],
        "PEM file with its key.").example("/etc/ssl/agent.key"),
    key("otel_traces_export.insecure_skip_verify", Bool, &["OTEL_EBPF_INSECURE_SKIP_VERIFY"],
        "Take any certificate from the collector: whoever can redirect the connection gets the spans and the headers. `certificate` is the way to trust one's own CA."),
    key("otel_traces_export.sampler.name", Text, &["OTEL_TRACES_SAMPLER"],
        "always_on, always_off, traceidratio, parentbased_always_on (also the default), parentbased_always_off, parentbased_traceidratio.").example("parentbased_traceidratio"),
    key("otel_traces_export.sampler.arg", Text, &["OTEL_TRACES_SAMPLER_ARG"],
        "The ratio of the ratio samplers, 0 to 1.").example("\"0.1\""),
    key("otel_traces_export.instrumentations", List, &["OTEL_EBPF_TRACES_INSTRUMENTATIONS", "BEYLA_OTEL_TRACES_INSTRUMENTATIONS"],
        "Protocols whose spans are exported; there is HTTP.").inert(),
    key("otel_traces_export.batch_max_size", Int, &["OTEL_EBPF_OTLP_TRACES_BATCH_MAX_SIZE"],
        "Spans in one export request, at most. A request of OBI's 4096 takes 10 MiB while it is made."),
    key("otel_traces_export.queue_size", Int, &["OTEL_EBPF_OTLP_TRACES_QUEUE_SIZE"],
        "Spans that wait for the collector, at most; newer ones are dropped and counted. At least twice batch_max_size; 0 is four times."),
    key("otel_traces_export.batch_timeout", Duration, &["OTEL_EBPF_OTLP_TRACES_BATCH_TIMEOUT"],
        "How long spans wait for a batch to fill. OBI waits 15s, in which a newcomer thinks that nothing works."),
    key("otel_traces_export.backoff_initial_interval", Duration, &["OTEL_EBPF_BACKOFF_INITIAL_INTERVAL"],
        "First pause before an export is tried again."),
    key("otel_traces_export.backoff_max_interval", Duration, &["OTEL_EBPF_BACKOFF_MAX_INTERVAL"],
        "Longest pause."),
    key("otel_traces_export.backoff_max_elapsed_time", Duration, &["OTEL_EBPF_BACKOFF_MAX_ELAPSED_TIME"],
        "After so long the spans are dropped and counted."),

    key("trace_printer", Text, &["OTEL_EBPF_TRACE_PRINTER"],
        "Print spans on standard output: disabled, tree, text, json, json_indent, counter."),
    key("log_level", Text, &["OTEL_EBPF_LOG_LEVEL"],
        "error, warn, info, debug, trace. The log goes to standard error."),
    key("log_format", Text, &["OTEL_EBPF_LOG_FORMAT"],
        "text or json."),
    key("log_config", Text, &["OTEL_EBPF_LOG_CONFIG"],
        "Write the effective configuration to standard error at start: yaml or json.").example("yaml"),
    key("shutdown_timeout", Duration, &["OTEL_EBPF_SHUTDOWN_TIMEOUT"],
        "How long the last spans may take to leave after SIGTERM."),
    key("enforce_sys_caps", Bool, &["OTEL_EBPF_ENFORCE_SYS_CAPS"],
        "Refuse to start when a capability is missing."),
    key("channel_buffer_len", Int, &["OTEL_EBPF_CHANNEL_BUFFER_LEN"],
        "Batches between two stages of the pipeline.").inert(),

    key("internal_metrics.exporter", Text, &["OTEL_EBPF_INTERNAL_METRICS_EXPORTER"],
        "disabled or prometheus. OBI's `otel` is not built yet."),
    key("internal_metrics.prometheus.port", Int, &["OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PORT"],
        "Port of our own metrics; 0 is off."),
    key("internal_metrics.prometheus.path", Text, &["OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PATH"],
        "Path of our own metrics."),
    key("health_check.port", Int, &["OTEL_EBPF_HEALTH_CHECK_PORT"],
        "Port of /healthz; 0 is off."),
    key("health_check.listen_address", Text, &["OTEL_EBPF_HEALTH_CHECK_LISTEN_ADDRESS"],
        "Address of the metrics and health ports."),

    key("spanwire.node_name", Text, &["SPANWIRE_NODE_NAME", "NODE_NAME", "K8S_NODE_NAME", "MY_NODE_NAME"],
        "The name of this node in Kubernetes. Where it is not set: the node of our own pod, else the one with this host name.").example("worker-1"),
    key("spanwire.tier", Text, &["SPANWIRE_TIER"],
        "Which hooks to use: auto, a (fentry/fexit), b (kprobes), c (tracepoints)."),
    key("spanwire.claim", Text, &["SPANWIRE_CLAIM"],
        "How long sockets are claimed to write headers: auto, lasting, brief (one request). See docs/PROPAGATION.md."),
    key("spanwire.never_write_to", Text, &["SPANWIRE_NEVER_WRITE_TO"],
        "Destinations whose requests are never given a header: addresses and networks, with a port or without.").example("10.0.0.0/8,192.0.2.7:9200,[fd00::/8]:443"),
    key("spanwire.link_attribute", Bool, &["SPANWIRE_LINK_ATTRIBUTE"],
        "Put how the parent is known into the span, as spanwire.link."),
    key("spanwire.random_flag", Bool, &["SPANWIRE_RANDOM_FLAG"],
        "Whether the traces that begin here say in their flags that the trace id is random (03 instead of 01), as the \
         second level of W3C Trace Context wants. OpenTelemetry for Go before 1.42 drops such a context."),
    key("spanwire.runtime_probes", Bool, &["SPANWIRE_RUNTIME_PROBES"],
        "Look into language runtimes with uprobes where the kernel does not see which thread serves a request: puma, and gRPC in Ruby. See docs/RUNTIMES.md."),
    key("spanwire.jvm_worker_threads", List, &["SPANWIRE_JVM_WORKER_THREADS"],
        "Beginnings of the names of threads that serve one request after the other, in servers for the JVM that read \
         without blocking: those of Tomcat and Jetty. Threads with other names serve nothing there. Eight at most.").example("http-nio,qtp,dw-"),
    key("spanwire.ring_size", Bytes, &["SPANWIRE_RING_SIZE"],
        "Bytes of the ring between kernel and user space: a power of two, as 4194304 or 4MiB."),
];

/// What an entry of `discovery` may say.
pub(super) const ENTRY: &[&str] = &[
    "open_ports",
    "exe_path",
    "cmd_args",
    "target_pids",
    "languages",
    "name",
    "namespace",
    "sampler",
    "context_propagation",
    "containers_only",
    "container_name",
    "k8s_namespace",
    "k8s_pod_name",
    "k8s_container_name",
    "k8s_owner_name",
    "k8s_deployment_name",
    "k8s_replicaset_name",
    "k8s_statefulset_name",
    "k8s_daemonset_name",
    "k8s_job_name",
    "k8s_cronjob_name",
    "k8s_pod_labels",
    "k8s_pod_annotations",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_and_no_variable_is_there_twice() {
        let (mut paths, mut names) = (HashSet::new(), HashSet::new());
        for key in KEYS {
            assert!(paths.insert(key.path), "{}", key.path);
            for name in key.env() {
                assert!(names.insert(name.clone()), "{name}");
            }
        }
    }

    #[test]
    fn beylas_names_follow_obis() {
        assert_eq!(find("open_port").unwrap().env(), ["OTEL_EBPF_OPEN_PORT", "BEYLA_OPEN_PORT"]);
        let exe = find("auto_target_exe").unwrap().env();
        assert_eq!(exe.last().map(String::as_str), Some("OTEL_GO_AUTO_TARGET_EXE"));
        assert_eq!(find("otel_traces_export.sampler.name").unwrap().env(), ["OTEL_TRACES_SAMPLER"]);
    }
}
