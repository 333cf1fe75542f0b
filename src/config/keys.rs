//! The table of keys: what exists, by which environment variables, and what for. The loader, the
//! documentation and `spanwire config` all go by it.

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Path in YAML.
    pub path: &'static str,
    /// Environment variables; the first that is set wins.
    pub env: &'static [&'static str],
    /// For people.
    pub doc: &'static str,
}

const fn key(path: &'static str, env: &'static [&'static str], doc: &'static str) -> Key {
    Key { path, env, doc }
}

/// All keys that do something.
pub const KEYS: &[Key] = &[
    key(
        "open_port",
        &["OTEL_EBPF_OPEN_PORT", "BEYLA_OPEN_PORT"],
        "Trace processes that listen on one of these TCP ports: `80,443,8000-8999`.",
    ),
    key("target_pids", &["OTEL_EBPF_TARGET_PID", "BEYLA_TARGET_PID"], "Trace these host pids."),
    key(
        "auto_target_exe",
        &[
            "OTEL_EBPF_AUTO_TARGET_EXE",
            "BEYLA_AUTO_TARGET_EXE",
            "BEYLA_EXECUTABLE_NAME",
            "OTEL_GO_AUTO_TARGET_EXE",
        ],
        "Trace processes whose executable path matches this glob; `*` crosses `/`.",
    ),
    key(
        "auto_target_language",
        &["OTEL_EBPF_AUTO_TARGET_LANGUAGE", "BEYLA_AUTO_TARGET_LANGUAGE"],
        "Trace processes of this runtime: go, java, dotnet, python, ruby, nodejs, rust, php, erlang, generic.",
    ),
    key(
        "service_name",
        &["OTEL_SERVICE_NAME", "OTEL_EBPF_SERVICE_NAME", "BEYLA_SERVICE_NAME"],
        "service.name for every traced process that does not name itself.",
    ),
    key(
        "service_namespace",
        &["OTEL_EBPF_SERVICE_NAMESPACE", "BEYLA_SERVICE_NAMESPACE"],
        "service.namespace for every traced process.",
    ),
    key(
        "resource_attributes",
        &["OTEL_RESOURCE_ATTRIBUTES"],
        "Resource attributes `key=value,…` for every traced process; its own win.",
    ),
    key(
        "discovery.instrument",
        &[],
        "List of selectors; a process is traced when all conditions of one entry hold: open_ports, exe_path, cmd_args, target_pids, languages; name and namespace set the service.",
    ),
    key("discovery.exclude_instrument", &[], "List of selectors of processes that are never traced."),
    key("discovery.default_exclude_instrument", &[], "The same, with collectors and agents as its default."),
    key(
        "discovery.poll_interval",
        &["OTEL_EBPF_DISCOVERY_POLL_INTERVAL", "BEYLA_DISCOVERY_POLL_INTERVAL"],
        "Accepted for OBI's sake. Discovery goes by kernel events and does not poll.",
    ),
    key(
        "discovery.min_process_age",
        &["OTEL_EBPF_MIN_PROCESS_AGE", "BEYLA_MIN_PROCESS_AGE"],
        "Accepted for OBI's sake. A process is traced from its first request.",
    ),
    key(
        "ebpf.context_propagation",
        &["OTEL_EBPF_BPF_CONTEXT_PROPAGATION", "BEYLA_BPF_CONTEXT_PROPAGATION"],
        "Write context into outgoing requests: disabled, headers, tcp, all. Not built yet: anything but disabled is accepted and does nothing.",
    ),
    key(
        "ebpf.enable_context_propagation",
        &["BEYLA_BPF_ENABLE_CONTEXT_PROPAGATION"],
        "Beyla's old spelling of `context_propagation: all`.",
    ),
    key(
        "ebpf.max_transaction_time",
        &["OTEL_EBPF_BPF_MAX_TRANSACTION_TIME", "BEYLA_BPF_MAX_TRANSACTION_TIME"],
        "A request that is open for longer becomes a span with error.type=timeout.",
    ),
    key(
        "ebpf.track_request_headers",
        &["OTEL_EBPF_BPF_TRACK_REQUEST_HEADERS", "BEYLA_BPF_TRACK_REQUEST_HEADERS"],
        "Accepted for OBI's sake. An incoming traceparent is always read.",
    ),
    key(
        "ebpf.disable_black_box_cp",
        &["OTEL_EBPF_BPF_DISABLE_BLACK_BOX_CP", "BEYLA_BPF_DISABLE_BLACK_BOX_CP"],
        "Do not join the two ends of a connection on this host.",
    ),
    key(
        "otel_traces_export.endpoint",
        &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"],
        "OTLP endpoint for traces, used as it is.",
    ),
    key(
        "otel_traces_export.common_endpoint",
        &["OTEL_EXPORTER_OTLP_ENDPOINT"],
        "OTLP endpoint for all signals; `/v1/traces` is added for HTTP.",
    ),
    key(
        "otel_traces_export.protocol",
        &["OTEL_EXPORTER_OTLP_PROTOCOL"],
        "grpc or http/protobuf. Default: grpc for port 4317, else http/protobuf.",
    ),
    key(
        "otel_traces_export.traces_protocol",
        &["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"],
        "The same for traces alone; wins.",
    ),
    key(
        "otel_traces_export.headers",
        &["OTEL_EXPORTER_OTLP_HEADERS"],
        "Headers of every export, `key=value,…`, percent-encoded.",
    ),
    key(
        "otel_traces_export.traces_headers",
        &["OTEL_EXPORTER_OTLP_TRACES_HEADERS"],
        "The same for traces alone; added, and wins.",
    ),
    key(
        "otel_traces_export.timeout",
        &["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
        "Milliseconds for one export request.",
    ),
    key(
        "otel_traces_export.compression",
        &["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"],
        "none or gzip.",
    ),
    key(
        "otel_traces_export.certificate",
        &["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"],
        "PEM file with the CA to trust instead of the system's.",
    ),
    key(
        "otel_traces_export.client_certificate",
        &["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"],
        "PEM file with our certificate.",
    ),
    key(
        "otel_traces_export.client_key",
        &["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"],
        "PEM file with its key.",
    ),
    key(
        "otel_traces_export.sampler.name",
        &["OTEL_TRACES_SAMPLER"],
        "always_on, always_off, traceidratio, parentbased_always_on (default), parentbased_always_off, parentbased_traceidratio.",
    ),
    key(
        "otel_traces_export.sampler.arg",
        &["OTEL_TRACES_SAMPLER_ARG"],
        "The ratio of the ratio samplers, 0 to 1.",
    ),
    key(
        "otel_traces_export.batch_max_size",
        &["OTEL_EBPF_OTLP_TRACES_BATCH_MAX_SIZE", "BEYLA_OTLP_TRACES_BATCH_MAX_SIZE"],
        "Spans in one export request, at most.",
    ),
    key(
        "otel_traces_export.queue_size",
        &["OTEL_EBPF_OTLP_TRACES_QUEUE_SIZE", "BEYLA_OTLP_TRACES_QUEUE_SIZE"],
        "Spans that wait for the collector, at most; newer ones are dropped and counted. At least twice batch_max_size.",
    ),
    key(
        "otel_traces_export.batch_timeout",
        &["OTEL_EBPF_OTLP_TRACES_BATCH_TIMEOUT", "BEYLA_OTLP_TRACES_BATCH_TIMEOUT"],
        "How long spans wait for a batch to fill. OBI's default is 15s.",
    ),
    key(
        "otel_traces_export.backoff_initial_interval",
        &["OTEL_EBPF_BACKOFF_INITIAL_INTERVAL", "BEYLA_BACKOFF_INITIAL_INTERVAL"],
        "First pause before an export is tried again.",
    ),
    key(
        "otel_traces_export.backoff_max_interval",
        &["OTEL_EBPF_BACKOFF_MAX_INTERVAL", "BEYLA_BACKOFF_MAX_INTERVAL"],
        "Longest pause.",
    ),
    key(
        "otel_traces_export.backoff_max_elapsed_time",
        &["OTEL_EBPF_BACKOFF_MAX_ELAPSED_TIME", "BEYLA_BACKOFF_MAX_ELAPSED_TIME"],
        "After so long the spans are dropped and counted.",
    ),
    key(
        "trace_printer",
        &["OTEL_EBPF_TRACE_PRINTER", "BEYLA_TRACE_PRINTER"],
        "Print spans on standard output: disabled, tree, text, json, json_indent, counter.",
    ),
    key(
        "log_level",
        &["OTEL_EBPF_LOG_LEVEL", "BEYLA_LOG_LEVEL"],
        "error, warn, info, debug, trace. The log goes to standard error.",
    ),
    key("log_format", &["OTEL_EBPF_LOG_FORMAT", "BEYLA_LOG_FORMAT"], "text or json."),
    key(
        "shutdown_timeout",
        &["OTEL_EBPF_SHUTDOWN_TIMEOUT", "BEYLA_SHUTDOWN_TIMEOUT"],
        "How long the last spans may take to leave after SIGTERM.",
    ),
    key(
        "enforce_sys_caps",
        &["OTEL_EBPF_ENFORCE_SYS_CAPS", "BEYLA_ENFORCE_SYS_CAPS"],
        "Refuse to start when a capability is missing.",
    ),
    key(
        "internal_metrics.exporter",
        &["OTEL_EBPF_INTERNAL_METRICS_EXPORTER", "BEYLA_INTERNAL_METRICS_EXPORTER"],
        "disabled or prometheus.",
    ),
    key(
        "internal_metrics.prometheus.port",
        &["OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PORT", "BEYLA_INTERNAL_METRICS_PROMETHEUS_PORT"],
        "Port of our own metrics; 0 is off.",
    ),
    key(
        "internal_metrics.prometheus.path",
        &["OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PATH", "BEYLA_INTERNAL_METRICS_PROMETHEUS_PATH"],
        "Path of our own metrics.",
    ),
    key("health_check.port", &["OTEL_EBPF_HEALTH_CHECK_PORT"], "Port of /healthz; 0 is off."),
    key(
        "health_check.listen_address",
        &["OTEL_EBPF_HEALTH_CHECK_LISTEN_ADDRESS"],
        "Address of the metrics and health ports.",
    ),
    key("spanwire.tier", &["SPANWIRE_TIER"], "Which hooks to use: auto, a (fentry/fexit), c (tracepoints)."),
    key(
        "spanwire.link_attribute",
        &["SPANWIRE_LINK_ATTRIBUTE"],
        "Put how the parent is known into the span, as spanwire.link.",
    ),
    key(
        "spanwire.ring_size",
        &["SPANWIRE_RING_SIZE"],
        "Bytes of the ring between kernel and user space, a power of two.",
    ),
];

/// Keys of OBI and Beyla that are known and do nothing here yet.
pub const UNBUILT: &[&str] = &[
    "attributes",
    "channel_buffer_len",
    "channel_send_timeout",
    "channel_send_timeout_panic",
    "discovery.bpf_pid_filter_off",
    "discovery.default_exclude_services",
    "discovery.default_otlp_grpc_port",
    "discovery.disabled_route_harvesters",
    "discovery.exclude_otel_instrumented_services",
    "discovery.exclude_otel_instrumented_services_span_metrics",
    "discovery.exclude_services",
    "discovery.excluded_linux_system_paths",
    "discovery.process_context_poll_interval",
    "discovery.route_harvester_advanced",
    "discovery.route_harvester_timeout",
    "discovery.services",
    "discovery.skip_go_specific_tracers",
    "ebpf.batch_length",
    "ebpf.batch_timeout",
    "ebpf.bpf_debug",
    "ebpf.bpf_fs_path",
    "ebpf.buffer_sizes",
    "ebpf.couchbase_db_cache_size",
    "ebpf.dns_request_timeout",
    "ebpf.force_bpf_map_reader",
    "ebpf.go_http_client_buffer_timeout",
    "ebpf.heuristic_sql_detect",
    "ebpf.high_request_volume",
    "ebpf.http_request_timeout",
    "ebpf.instrument_cuda",
    "ebpf.kafka_topic_uuid_cache_size",
    "ebpf.log_enricher",
    "ebpf.maps_config",
    "ebpf.mongo_requests_cache_size",
    "ebpf.mssql_prepared_statements_cache_size",
    "ebpf.mysql_prepared_statements_cache_size",
    "ebpf.override_bpfloop_enabled",
    "ebpf.payload_extraction",
    "ebpf.postgres_prepared_statements_cache_size",
    "ebpf.protocol_debug_print",
    "ebpf.redis_db_cache",
    "ebpf.stats_wakeup_data_bytes",
    "ebpf.traffic_control_backend",
    "ebpf.wakeup_len",
    "executable_path",
    "executable_name",
    "filter",
    "health_check.unix_socket_path",
    "internal_metrics.avoided_services",
    "internal_metrics.bpf_metric_scrape_interval",
    "javaagent",
    "jvm_runtime_metrics",
    "log_config",
    "metrics",
    "name_resolver",
    "network",
    "nodejs",
    "otel_metrics_export",
    "otel_traces_export.insecure_skip_verify",
    "otel_traces_export.instrumentations",
    "otel_traces_export.otel_sdk_log_level",
    "otel_traces_export.reporters_cache_len",
    "profile_port",
    "prometheus_export",
    "routes",
    "stats",
];
