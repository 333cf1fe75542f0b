use std::collections::BTreeMap;
use std::io::Write;

use spanwire::config::{ConfigError, Loaded, Sources, load, markdown};

fn sources(yaml: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> (Sources, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let flags = flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned(), "--set".to_owned())).collect();
    (Sources { file: Some(file.path().to_owned()), env, flags }, file)
}

fn loaded(yaml: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let (sources, _file) = sources(yaml, env, flags);
    load(&sources)
}

#[test]
fn flags_win_over_the_environment_and_that_over_yaml() {
    let yaml = "log_level: warn\nopen_port: 1\ntrace_printer: text\n";
    let env = [("OTEL_EBPF_LOG_LEVEL", "DEBUG"), ("OTEL_EBPF_OPEN_PORT", "2,5-7")];
    let all = loaded(yaml, &env, &[("open_port", "3")]).unwrap();
    assert_eq!(all.config.log_level.as_str(), "debug");
    assert_eq!(all.config.open_port.to_string(), "3");
    let origin = |key: &str| all.values.iter().find(|(name, ..)| name == key).unwrap().2.clone();
    assert_eq!(origin("open_port"), "flag --set");
    assert_eq!(origin("log_level"), "environment OTEL_EBPF_LOG_LEVEL");
    assert!(origin("trace_printer").starts_with("file "));
    assert_eq!(origin("shutdown_timeout"), "default");
}

#[test]
fn obis_own_example_loads_without_a_word() {
    let yaml = "
discovery:
  instrument:
    - open_ports: 8080,8443
      name: shop
    - exe_path: '*/{nginx,python3*}'
      cmd_args: '*cart*'
  exclude_instrument:
    - target_pids: [1, 2]
ebpf:
  context_propagation: 'disabled'
  max_transaction_time: 1m30s
otel_traces_export:
  endpoint: ${COLLECTOR:-http://localhost:4318/v1/traces}
  sampler:
    name: parentbased_traceidratio
    arg: \"0.25\"
trace_printer: json
";
    let all = loaded(yaml, &[], &[]).unwrap();
    assert_eq!(all.warnings, Vec::<String>::new());
    assert_eq!(all.config.discovery.instrument.len(), 2);
    assert_eq!(all.config.ebpf.max_transaction_time.0.as_secs(), 90);
    let (sampling, warning) = all.config.sampling();
    assert_eq!((sampling.ratio, sampling.parent_based, warning), (0.25, true, None));
    let export = all.config.export().unwrap().unwrap();
    assert_eq!(export.endpoint, "http://localhost:4318/v1/traces");
    all.config.validate(false).unwrap();
}

#[test]
fn beylas_spellings_are_understood() {
    let env = [
        ("BEYLA_OPEN_PORT", "8080"),
        ("BEYLA_TRACE_PRINTER", "text"),
        ("BEYLA_BPF_ENABLE_CONTEXT_PROPAGATION", "true"),
    ];
    let all = loaded("", &env, &[]).unwrap();
    assert!(all.config.open_port.contains(8080) && all.config.wants_propagation());
    assert_eq!(all.warnings, Vec::<String>::new());
}

#[test]
fn unknown_keys_name_the_nearest_and_obis_are_told_apart() {
    let yaml =
        "opne_port: 1\nebpf:\n  max_transaction_tim: 5s\n  wakeup_len: 10\nroutes:\n  unmatched: path\n";
    let warnings = loaded(yaml, &[("OTEL_EBPF_OPEN_PROT", "1")], &[]).unwrap().warnings;
    let has = |parts: &[&str]| warnings.iter().any(|w| parts.iter().all(|part| w.contains(part)));
    assert!(has(&["opne_port", "`open_port`"]), "{warnings:?}");
    assert!(has(&["ebpf.max_transaction_tim", "ebpf.max_transaction_time"]), "{warnings:?}");
    assert!(has(&["ebpf.wakeup_len", "does nothing here yet"]), "{warnings:?}");
    assert!(has(&["`routes`", "does nothing here yet"]), "{warnings:?}");
    assert!(has(&["OTEL_EBPF_OPEN_PROT", "OTEL_EBPF_OPEN_PORT"]), "{warnings:?}");
    assert_eq!(warnings.len(), 5, "{warnings:?}");
}

#[test]
fn a_wrong_value_names_key_value_and_source() {
    let wrong = |yaml: &str, env: &[(&str, &str)]| loaded(yaml, env, &[]).unwrap_err().to_string();
    let text = wrong("", &[("OTEL_EBPF_BPF_MAX_TRANSACTION_TIME", "soon")]);
    for part in ["ebpf.max_transaction_time", "soon", "OTEL_EBPF_BPF_MAX_TRANSACTION_TIME"] {
        assert!(text.contains(part), "{text}");
    }
    let text = wrong("internal_metrics:\n  prometheus:\n    port: many\n", &[]);
    for part in ["internal_metrics.prometheus.port", "many", "file "] {
        assert!(text.contains(part), "{text}");
    }
    assert!(wrong("trace_printer: pretty\n", &[]).contains("pretty"));
    assert!(wrong("a: [\n", &[]).contains("not valid YAML"));
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let refused = |flags: &[(&str, &str)]| {
        loaded("", &[], flags).unwrap().config.validate(false).unwrap_err().to_string()
    };
    assert!(refused(&[("trace_printer", "text")]).contains("nothing to trace"));
    assert!(refused(&[("open_port", "80")]).contains("no place for traces"));
    let queue = [("open_port", "80"), ("trace_printer", "text"), ("otel_traces_export.queue_size", "10")];
    assert!(refused(&queue).contains("queue_size"));
}

#[test]
fn endpoints_follow_the_rules_of_otlp() {
    let export = |env: &[(&str, &str)]| loaded("", env, &[]).unwrap().config.export().unwrap().unwrap();
    let http = export(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/")]);
    assert_eq!(http.endpoint, "http://c:4318/v1/traces");
    let grpc = export(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")]);
    assert_eq!((grpc.endpoint.as_str(), grpc.protocol), ("http://c:4317", spanwire::export::Protocol::Grpc));
    let own = export(&[
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1/x"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://d:2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b=x%20y"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "A=2"),
    ]);
    assert_eq!(own.endpoint, "http://c:1/x");
    assert_eq!(own.headers, [("b".to_owned(), "x y".to_owned()), ("A".to_owned(), "2".to_owned())]);
}

#[test]
fn the_documentation_is_as_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFIG.md");
    if std::env::var_os("SPANWIRE_BLESS").is_some() {
        std::fs::write(path, markdown()).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == markdown(), "docs/CONFIG.md is stale: SPANWIRE_BLESS=1 cargo test --test it");
}
