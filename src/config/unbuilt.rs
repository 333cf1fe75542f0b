//! What OBI and Beyla know and spanwire does not do yet: accepted, with one line that says so.

/// Keys; one with others below it stands for them all.
#[rustfmt::skip] // A list of words.
pub(super) const KEYS: &[&str] = &[
    "attributes.extra_group_attributes", "attributes.host_id", "attributes.instance_id",
    "attributes.kubernetes.disable_informers", "attributes.kubernetes.drop_external",
    "attributes.kubernetes.meta_cache_address", "attributes.kubernetes.service_name_template",
    "attributes.metadata_retry", "attributes.metric_span_names_limit",
    "attributes.rename_unresolved_hosts", "attributes.rename_unresolved_hosts_incoming",
    "attributes.rename_unresolved_hosts_outgoing", "attributes.select",
    "attributes.sensitive_query_params", "channel_send_timeout", "channel_send_timeout_panic", "discovery.bpf_pid_filter_off",
    "discovery.disabled_route_harvesters", "discovery.exclude_otel_instrumented_services_span_metrics",
    "discovery.excluded_linux_system_paths", "discovery.process_context_poll_interval",
    "discovery.route_harvester_advanced", "discovery.route_harvester_timeout",
    "discovery.skip_go_specific_tracers", "ebpf.bpf_fs_path", "ebpf.buffer_sizes",
    "ebpf.couchbase_db_cache_size", "ebpf.dns_request_timeout", "ebpf.force_bpf_map_reader",
    "ebpf.go_http_client_buffer_timeout", "ebpf.heuristic_sql_detect", "ebpf.instrument_cuda",
    "ebpf.kafka_topic_uuid_cache_size", "ebpf.log_enricher", "ebpf.maps_config",
    "ebpf.mongo_requests_cache_size", "ebpf.mssql_prepared_statements_cache_size",
    "ebpf.mysql_prepared_statements_cache_size", "ebpf.payload_extraction",
    "ebpf.postgres_prepared_statements_cache_size", "ebpf.protocol_debug_print", "ebpf.redis_db_cache",
    "ebpf.stats_wakeup_data_bytes", "ebpf.traffic_control_backend", "filter",
    "health_check.unix_socket_path", "internal_metrics.avoided_services",
    "internal_metrics.bpf_metric_scrape_interval", "javaagent", "jvm_runtime_metrics", "metrics",
    "name_resolver", "network", "nodejs", "otel_metrics_export",
    "otel_traces_export.otel_sdk_log_level", "otel_traces_export.reporters_cache_len", "profile_port",
    "prometheus_export", "routes", "stats",
];

/// Environment variables, without `OTEL_EBPF_` or `BEYLA_`.
#[rustfmt::skip] // A list of words.
const VARIABLES: &[&str] = &[
    "ALLOW_SERVICE_GRAPH_SELF_REFERENCES", "BPF_BUFFER_SIZE_HTTP", "BPF_BUFFER_SIZE_KAFKA",
    "BPF_BUFFER_SIZE_MSSQL", "BPF_BUFFER_SIZE_MYSQL", "BPF_BUFFER_SIZE_POSTGRES", "BPF_BUFFER_SIZE_TCP",
    "BPF_DNS_REQUEST_TIMEOUT", "BPF_FS_PATH", "BPF_GO_HTTP_CLIENT_BUFFER_TIMEOUT",
    "BPF_LOG_ENRICHER_ASYNC_WRITER_CHANNEL_LEN", "BPF_LOG_ENRICHER_ASYNC_WRITER_WORKERS",
    "BPF_LOG_ENRICHER_CACHE_SIZE", "BPF_LOG_ENRICHER_CACHE_TTL", "BPF_METRIC_SCRAPE_INTERVAL",
    "BPF_MONGO_REQUESTS_CACHE_SIZE", "BPF_MSSQL_PREPARED_STATEMENTS_CACHE_SIZE",
    "BPF_MYSQL_PREPARED_STATEMENTS_CACHE_SIZE", "BPF_PID_FILTER_OFF",
    "BPF_POSTGRES_PREPARED_STATEMENTS_CACHE_SIZE", "BPF_REDIS_DB_CACHE_ENABLED",
    "BPF_REDIS_DB_CACHE_MAX_SIZE", "BPF_TC_BACKEND", "CHANNEL_SEND_TIMEOUT",
    "CHANNEL_SEND_TIMEOUT_PANIC", "COUCHBASE_DB_CACHE_SIZE",
    "EXCLUDE_OTEL_INSTRUMENTED_SERVICES_SPAN_METRICS", "EXTRA_SPAN_RESOURCE_ATTRIBUTES",
    "FORCE_BPF_MAP_READER", "HEALTH_CHECK_UNIX_SOCKET_PATH", "HEURISTIC_SQL_DETECT", "HOSTNAME",
    "HOSTNAME_DNS_RESOLUTION", "HOST_ID", "HTTP_ANTHROPIC_ENABLED", "HTTP_AWS_ENABLED",
    "HTTP_BEDROCK_ENABLED", "HTTP_ELASTICSEARCH_ENABLED", "HTTP_ENRICHMENT_ENABLED",
    "HTTP_ENRICHMENT_OBFUSCATION_STRING", "HTTP_GEMINI_ENABLED", "HTTP_GENAI_EMBEDDING_ENABLED",
    "HTTP_GRAPHQL_ENABLED", "HTTP_JSONRPC_ENABLED", "HTTP_MCP_ENABLED", "HTTP_OLLAMA_ENABLED",
    "HTTP_OPENAI_COMPATIBLE_ENABLED", "HTTP_OPENAI_ENABLED", "HTTP_QWEN_ENABLED", "HTTP_RERANK_ENABLED",
    "HTTP_RETRIEVAL_ENABLED", "HTTP_SQLPP_ENABLED", "HTTP_SQLPP_ENDPOINT_PATTERNS", "INSTRUMENT_CUDA",
    "INTERNAL_METRICS_AVOIDED_SERVICES_DISABLED", "INTERNAL_METRICS_AVOIDED_SERVICES_LIMIT",
    "JAVAAGENT_ATTACH_TIMEOUT", "JAVAAGENT_DEBUG", "JAVAAGENT_DEBUG_INSTRUMENTATION",
    "JAVAAGENT_ENABLED", "JAVA_ROUTE_HARVEST_DELAY", "KUBE_DISABLE_INFORMERS",
    "KUBE_META_CACHE_ADDRESS", 
    "METADATA_RETRY_MAX_INTERVAL", "METADATA_RETRY_START_INTERVAL", "METADATA_RETRY_TIMEOUT",
    "METRICS_FEATURES", "METRICS_INSTRUMENTATIONS", "METRICS_INTERVAL", "METRICS_REPORT_CACHE_LEN",
    "METRICS_TTL", "METRIC_FEATURES", "METRIC_SPAN_NAMES_LIMIT", "NAME_RESOLVER_CACHE_LEN",
    "NAME_RESOLVER_CACHE_TTL", "NAME_RESOLVER_SOURCES", "NETWORK_DROP_EXTERNAL", "NODEJS_ENABLED",
    "NODEJS_MANUAL_SPANS", "PROCESS_CONTEXT_POLL_INTERVAL", "PROFILE_PORT",
    "PROMETHEUS_ALLOW_SERVICE_GRAPH_SELF_REFERENCES", "PROMETHEUS_DISABLE_BUILD_INFO",
    "PROMETHEUS_EXEMPLAR_FILTER", "PROMETHEUS_EXTRA_RESOURCE_ATTRIBUTES",
    "PROMETHEUS_EXTRA_SPAN_RESOURCE_ATTRIBUTES", "PROMETHEUS_FEATURES", "PROMETHEUS_INSTRUMENTATIONS",
    "PROMETHEUS_PATH", "PROMETHEUS_PORT", "PROMETHEUS_TTL", "PROTOCOL_DEBUG_PRINT",
    "RENAME_UNRESOLVED_HOSTS", "RENAME_UNRESOLVED_HOSTS_INCOMING", "RENAME_UNRESOLVED_HOSTS_OUTGOING",
    "ROUTE_HARVESTER_TIMEOUT", "SDK_LOG_LEVEL", "SENSITIVE_QUERY_PARAMS_ADD",
    "SENSITIVE_QUERY_PARAMS_REMOVE", "SERVICE_NAME_TEMPLATE", "SKIP_GO_SPECIFIC_TRACERS",
    "STATS_WAKEUP_DATA_BYTES", "TRACES_REPORT_CACHE_LEN",
];

/// Beginnings of the variables of metrics, all of them unknown to a tracer.
const METRICS: &[&str] = &["NETWORK_", "STATS_"];

/// Fields of a `discovery` entry that say how and not what.
pub(super) const ENTRY: &[&str] = &["exports", "metrics", "routes"];

/// The key of [`KEYS`] that stands for `path`.
pub(super) fn find(path: &str) -> Option<&'static str> {
    let is = |key: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    KEYS.iter().copied().find(|key| is(key))
}

/// Whether OBI or Beyla read this environment variable.
pub(super) fn is_variable(name: &str) -> bool {
    let rest = name.strip_prefix("OTEL_EBPF_").or_else(|| name.strip_prefix("BEYLA_"));
    rest.is_some_and(|rest| VARIABLES.contains(&rest) || METRICS.iter().any(|start| rest.starts_with(start)))
}
