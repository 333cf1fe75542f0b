//! What values mean together.

use spanwire::config::{Origin, RootSampler, Sampler, Severity};
use spanwire::export::Protocol;

use super::{Pairs, assert_one, loaded, texts, value};

#[test]
fn what_makes_no_sense_together_is_refused() {
    let good = [("open_port", "80"), ("trace_printer", "text")];
    let table: &[(Pairs, &str)] = &[
        (&[("open_port", "")], "nothing to trace"),
        (&[("trace_printer", "disabled")], "no place for traces"),
        (&[("otel_traces_export.queue_size", "10")], "queue_size: `10` is less than twice"),
        (&[("otel_traces_export.queue_size", "2047")], "queue_size"),
        (&[("otel_traces_export.batch_max_size", "0")], "batch_max_size must be at least 1"),
        (&[("otel_traces_export.backoff_max_interval", "0")], "backoff_max_interval must be more than 0"),
        (&[("otel_traces_export.client_key", "/k")], "client_certificate and client_key need each other"),
        (&[("ebpf.max_transaction_time", "0")], "ebpf.max_transaction_time must be more than 0"),
        (&[("spanwire.ring_size", "5000000")], "spanwire.ring_size: `5000000`"),
        (&[("spanwire.ring_size", "4096")], "spanwire.ring_size: `4096`"),
        (&[("spanwire.jvm_worker_threads", "qtp,a-name-of-sixteen")], "threads: `a-name-of-sixteen`"),
        (&[("spanwire.jvm_worker_threads", "a,b,c,d,e,f,g,h,i")], "threads: 9 names"),
        (&[("open_port", "80,70000")], "open_port: `70000` is no port"),
        (&[("discovery.instrument", "[{name: a}]")], "discovery.instrument.0 has no condition"),
        (&[("discovery.exclude_instrument", "[{open_ports: 1}, {}]")], "discovery.exclude_instrument.1"),
        (&[("discovery.instrument", "[{open_ports: 65536}]")], "discovery.instrument.0.open_ports"),
        (&[("internal_metrics.exporter", "prometheus")], "prometheus.port is not set"),
        (&[("internal_metrics.prometheus.path", "metrics")], "does not start with /"),
        (&[("health_check.listen_address", "localhost")], "`localhost` is no IP address"),
        (&[("otel_traces_export.common_endpoint", "collector:4317")], "`collector:4317`"),
        (&[("otel_traces_export.common_endpoint", "unix:///run/x.sock")], "needs http:// or https://"),
        (&[("otel_traces_export.common_endpoint", "http://u:s3cret@ x")], "http://u:***@ x"),
    ];
    for (flags, wanted) in table {
        let flags: Vec<(&str, &str)> = good.iter().chain(*flags).copied().collect();
        let config = loaded("", &[], &flags).unwrap().config;
        let text = config.validate(false).unwrap_err().to_string();
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    let config = loaded("", &[], &good).unwrap().config;
    config.validate(false).unwrap();
    let config = loaded("", &[], &[("trace_printer", "tree")]).unwrap().config;
    assert!(config.validate(false).is_err());
    config.validate(true).unwrap();
}

#[test]
fn a_queue_of_zero_is_four_batches() {
    let flags = [
        ("otel_traces_export.queue_size", "0"),
        ("otel_traces_export.batch_max_size", "100"),
        ("otel_traces_export.common_endpoint", "http://c:4317"),
        ("open_port", "1"),
    ];
    let config = loaded("", &[], &flags).unwrap().config;
    config.validate(false).unwrap();
    assert_eq!(config.export().unwrap().unwrap().queue_size, 400);
}

#[test]
fn endpoints_and_protocols_follow_the_rules_of_otlp() {
    let table: &[(Pairs, &str, Protocol)] = &[
        (&[("ENDPOINT", "http://c:4318/")], "http://c:4318/v1/traces", Protocol::HttpProtobuf),
        (&[("ENDPOINT", "https://c")], "https://c/v1/traces", Protocol::HttpProtobuf),
        (&[("ENDPOINT", "http://c/otlp")], "http://c/otlp/v1/traces", Protocol::HttpProtobuf),
        (&[("ENDPOINT", "http://c:4317")], "http://c:4317", Protocol::Grpc),
        (&[("ENDPOINT", "http://[::1]:14317")], "http://[::1]:14317", Protocol::Grpc),
        (
            &[("ENDPOINT", "http://c:4317"), ("PROTOCOL", "http/protobuf")],
            "http://c:4317/v1/traces",
            Protocol::HttpProtobuf,
        ),
        (&[("ENDPOINT", "http://c:9"), ("PROTOCOL", "grpc")], "http://c:9", Protocol::Grpc),
        (
            &[("ENDPOINT", "http://c:9"), ("PROTOCOL", "http/protobuf"), ("TRACES_PROTOCOL", "grpc")],
            "http://c:9",
            Protocol::Grpc,
        ),
        (
            &[("ENDPOINT", "http://d:2"), ("TRACES_ENDPOINT", "http://c:1/x")],
            "http://c:1/x",
            Protocol::HttpProtobuf,
        ),
        (&[("TRACES_ENDPOINT", "http://c:4317")], "http://c:4317", Protocol::Grpc),
    ];
    for (env, endpoint, protocol) in table {
        let env: Vec<(String, &str)> =
            env.iter().map(|(name, value)| (format!("OTEL_EXPORTER_OTLP_{name}"), *value)).collect();
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let export = loaded("", &env, &[]).unwrap().config.export().unwrap().unwrap();
        assert_eq!((export.endpoint.as_str(), export.protocol), (*endpoint, *protocol), "{env:?}");
    }
    assert!(loaded("", &[], &[]).unwrap().config.export().unwrap().is_none());
}

#[test]
fn a_flag_for_all_signals_wins_over_what_is_set_for_traces() {
    let env = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://env:1/x"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
    ];
    let flags =
        [("otel_traces_export.common_endpoint", "http://flag:1"), ("otel_traces_export.protocol", "grpc")];
    let all = loaded("", &env, &flags).unwrap();
    let export = all.config.export().unwrap().unwrap();
    assert_eq!((export.endpoint.as_str(), export.protocol), ("http://flag:1", Protocol::Grpc));
    assert_eq!(value(&all, "otel_traces_export.endpoint").origin, Origin::Flag("--set".to_owned()));
    let both = [flags[0], ("otel_traces_export.endpoint", "http://both:1/y")];
    let export = loaded("", &env, &both).unwrap().config.export().unwrap().unwrap();
    assert_eq!(export.endpoint, "http://both:1/y");
}

#[test]
fn headers_are_decoded_and_those_for_traces_win() {
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1, b = x%20y ,c=k=v,,"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "A=2"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k1"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/k2"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
    ];
    let export = loaded("", &env, &[]).unwrap().config.export().unwrap().unwrap();
    let headers: Vec<(&str, &str)> = export.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(headers, [("b", "x y"), ("c", "k=v"), ("A", "2")]);
    assert!(export.gzip && export.timeout.as_millis() == 1);
    let paths = [export.ca_file, export.client_key, export.client_certificate];
    assert_eq!(paths, [Some("/ca".into()), Some("/k2".into()), Some("/c".into())]);
}

#[test]
fn a_bad_sampler_is_a_warning_and_the_default() {
    let sampler = |name: &str, arg: &str| {
        let env = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", arg)];
        loaded("", &env, &[]).unwrap().config.sampler()
    };
    assert_eq!(
        sampler("parentbased_traceidratio", "0.25"),
        (Sampler::ParentBased(RootSampler::Ratio(0.25)), None)
    );
    let (fallback, warning) = sampler("xray", "");
    assert_eq!(fallback, Sampler::ParentBased(RootSampler::AlwaysOn));
    let warning = warning.unwrap();
    assert!(warning.text.contains("xray") && warning.severity == Severity::Warn);
    assert!(sampler("traceidratio", "half").1.unwrap().text.contains("`half`"));
}

#[test]
fn what_is_probably_not_meant_is_told() {
    let all = loaded("ebpf: {context_propagation: 'headers,ip'}", &[], &[]).unwrap();
    assert_one(&all, &["ebpf.context_propagation", "`ip` is gone"]);
    assert!(all.config.ebpf.context_propagation.headers && all.config.wants_headers());
    let all = loaded("", &[("OTEL_EBPF_BPF_CONTEXT_PROPAGATION", "ip")], &[]).unwrap();
    assert!(!all.config.wants_headers());

    let endpoint = |url| loaded("", &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)], &[]).unwrap();
    assert_one(&endpoint("http://c:4318"), &["/v1/traces", "http://c:4318"]);
    for fine in ["http://c:4318/v1/traces", "http://c:4317", "nonsense"] {
        assert_eq!(texts(&endpoint(fine)), Vec::<&str>::new(), "{fine}");
    }
    let all = loaded("internal_metrics: {exporter: otel}", &[], &[]).unwrap();
    assert_one(&all, &["internal_metrics.exporter: otel", "does nothing here yet"]);
}
