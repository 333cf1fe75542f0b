use std::collections::BTreeMap;
use std::io::Write;

use spanwire::config::{
    Config, ConfigError, Effective, Loaded, Severity, Sources, annotated, load, markdown,
};

#[path = "config_values.rs"]
mod values;
#[path = "config_yaml.rs"]
mod yaml;

/// Names and values, of variables or flags.
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn loaded(yaml: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let flags = flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned(), "--set".to_owned())).collect();
    load(&Sources { file: Some(file.path().to_owned()), env, flags })
}

fn texts(loaded: &Loaded) -> Vec<&str> {
    loaded.warnings.iter().map(|warning| warning.text.as_str()).collect()
}

fn value<'l>(loaded: &'l Loaded, key: &str) -> &'l Effective {
    loaded.values.iter().find(|value| value.key == key).unwrap()
}

/// Asserts that exactly one warning has all parts.
fn assert_one(loaded: &Loaded, parts: &[&str]) {
    let hits = texts(loaded).iter().filter(|text| parts.iter().all(|part| text.contains(part))).count();
    assert_eq!(hits, 1, "{parts:?} in {:#?}", texts(loaded));
}

#[test]
fn flags_win_over_the_environment_and_that_over_yaml() {
    let yaml = "log_level: warn\nopen_port: 1\ntrace_printer: text\n";
    let env = [("OTEL_EBPF_LOG_LEVEL", "DEBUG"), ("OTEL_EBPF_OPEN_PORT", "2,5-7")];
    let all = loaded(yaml, &env, &[("open_port", "3")]).unwrap();
    assert_eq!(all.config.log_level.as_str(), "debug");
    assert_eq!(all.config.open_port.to_string(), "3");
    let origin = |key: &str| value(&all, key).origin.to_string();
    assert_eq!(origin("open_port"), "flag --set");
    assert_eq!(origin("log_level"), "env:OTEL_EBPF_LOG_LEVEL");
    assert!(origin("trace_printer").starts_with("file:/"));
    assert_eq!(origin("shutdown_timeout"), "default");
}

#[test]
fn layers_meet_in_one_section() {
    let yaml =
        "otel_traces_export:\n  batch_max_size: 10\n  queue_size: 100\n  sampler: {name: traceidratio}\n";
    let env = [("OTEL_TRACES_SAMPLER_ARG", "0.5"), ("BEYLA_OTLP_TRACES_QUEUE_SIZE", "50")];
    let all = loaded(yaml, &env, &[("otel_traces_export.batch_timeout", "2s")]).unwrap();
    let traces = &all.config.otel_traces_export;
    assert_eq!((traces.batch_max_size, traces.queue_size), (10, 50));
    assert_eq!(traces.batch_timeout.0.as_secs(), 2);
    assert_eq!((traces.sampler.name.as_str(), traces.sampler.arg.as_str()), ("traceidratio", "0.5"));
    assert_eq!(traces.backoff_max_interval.0.as_secs(), 30);
}

#[test]
fn the_file_is_named_by_flag_then_obi_then_beyla() {
    let file = |text: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    let (flag, obi, beyla) = (file("open_port: 1"), file("open_port: 2"), file("open_port: 3"));
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().unwrap().to_owned();
    let mut sources = Sources {
        file: Some(flag.path().to_owned()),
        env: BTreeMap::from([
            ("OTEL_EBPF_CONFIG_PATH".to_owned(), path(&obi)),
            ("BEYLA_CONFIG_PATH".to_owned(), path(&beyla)),
        ]),
        flags: Vec::new(),
    };
    let port = |sources: &Sources| load(sources).unwrap().config.open_port.to_string();
    assert_eq!(port(&sources), "1");
    sources.file = None;
    assert_eq!(port(&sources), "2");
    sources.env.insert("OTEL_EBPF_CONFIG_PATH".to_owned(), String::new());
    assert_eq!(port(&sources), "3");
    sources.env.insert("BEYLA_CONFIG_PATH".to_owned(), "/no/such.yml".to_owned());
    assert!(load(&sources).unwrap_err().to_string().contains("/no/such.yml"));
    sources.env.clear();
    assert_eq!(port(&sources), "");
}

#[test]
fn nothing_given_is_the_defaults_without_a_word() {
    for yaml in ["", "\n# nothing\n", "---\n", "ebpf:\n", "{}", "log_level: ''\nopen_port: ~\n"] {
        let all = loaded(yaml, &[("OTEL_EBPF_OPEN_PORT", ""), ("PATH", "/bin")], &[]).unwrap();
        assert_eq!(all.config, Config::default(), "{yaml}");
        assert!(all.warnings.is_empty(), "{yaml} {:?}", all.warnings);
    }
}

#[test]
fn variables_with_several_names() {
    let table: &[(Pairs, &str, &str)] = &[
        (&[("BEYLA_OPEN_PORT", "8080")], "open_port", "8080"),
        (&[("BEYLA_OPEN_PORT", "1"), ("OTEL_EBPF_OPEN_PORT", "2")], "open_port", "2"),
        (&[("BEYLA_OPEN_PORT", "1"), ("OTEL_EBPF_OPEN_PORT", "")], "open_port", "1"),
        (&[("OTEL_EBPF_TARGET_PID", "7,9")], "target_pids", "7,9"),
        (&[("OTEL_GO_AUTO_TARGET_EXE", "/a")], "auto_target_exe", "/a"),
        (&[("OTEL_GO_AUTO_TARGET_EXE", "/a"), ("OTEL_EBPF_AUTO_TARGET_EXE", "/b")], "auto_target_exe", "/b"),
        (&[("BEYLA_EXECUTABLE_NAME", "python|node")], "auto_target_exe", "{*python*,*node*}"),
        (&[("BEYLA_EXECUTABLE_NAME", "x"), ("OTEL_GO_AUTO_TARGET_EXE", "/a")], "auto_target_exe", "/a"),
        (&[("OTEL_EBPF_AUTO_TARGET_LANGUAGE", "{go,java}")], "auto_target_language", "{go,java}"),
        (&[("OTEL_EBPF_SERVICE_NAME", "a"), ("OTEL_SERVICE_NAME", "b")], "service_name", "b"),
        (&[("OTEL_SERVICE_NAME", "123")], "service_name", "123"),
        (&[("BEYLA_SERVICE_NAMESPACE", "true")], "service_namespace", "true"),
        (&[("BEYLA_LOG_LEVEL", "Warning")], "log_level", "warn"),
        (&[("BEYLA_TRACE_PRINTER", "TEXT")], "trace_printer", "text"),
        (&[("OTEL_EBPF_ENFORCE_SYS_CAPS", "1")], "enforce_sys_caps", "true"),
        (&[("BEYLA_BPF_ENABLE_CONTEXT_PROPAGATION", "T")], "ebpf.enable_context_propagation", "true"),
        (&[("OTEL_EBPF_BPF_CONTEXT_PROPAGATION", "headers,tcp")], "ebpf.context_propagation", "all"),
        (&[("OTEL_EBPF_MIN_PROCESS_AGE", "1m30s")], "discovery.min_process_age", "90s"),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "2500")], "otel_traces_export.timeout", "2500"),
        (
            &[("OTEL_EXPORTER_OTLP_TIMEOUT", "1"), ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "3s")],
            "otel_traces_export.timeout",
            "3000",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none")],
            "otel_traces_export.compression",
            "none",
        ),
        (&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca")], "otel_traces_export.certificate", "/ca"),
        (&[("OTEL_TRACES_SAMPLER_ARG", "0.1")], "otel_traces_export.sampler.arg", "0.1"),
        (
            &[("BEYLA_OTEL_TRACES_INSTRUMENTATIONS", "http, grpc")],
            "otel_traces_export.instrumentations",
            r#"["http","grpc"]"#,
        ),
        (&[("SPANWIRE_RING_SIZE", "8MiB")], "spanwire.ring_size", "8388608"),
        (&[("SPANWIRE_JVM_WORKER_THREADS", "qtp,dw-")], "spanwire.jvm_worker_threads", r#"["qtp","dw-"]"#),
        (&[("SPANWIRE_TIER", "C")], "spanwire.tier", "c"),
    ];
    for (env, key, wanted) in table {
        let all = loaded("", env, &[]).unwrap();
        assert_eq!(value(&all, key).text(), *wanted, "{env:?}");
        let unknown = texts(&all).into_iter().filter(|text| text.contains("unknown")).count();
        assert_eq!(unknown, 0, "{env:?} {:?}", all.warnings);
    }
}

#[test]
fn unknown_variables_name_the_nearest_and_obis_are_told_apart() {
    let env = [
        ("OTEL_EBPF_OPEN_PROT", "1"),
        ("BEYLA_TRACE_PRINTR", "text"),
        ("OTEL_EBPF_KUBE_DISABLE_INFORMERS", "node"),
        ("OTEL_EBPF_NETWORK_METRICS", "true"),
        ("OTEL_EBPF_NODEJS_ENABLED", "false"),
        ("SPANWIRE_TEIR", "a"),
        ("SPANWIRE_BLESS", "1"),
    ];
    let all = loaded("", &env, &[]).unwrap();
    assert_one(&all, &["OTEL_EBPF_OPEN_PROT", "`OTEL_EBPF_OPEN_PORT`"]);
    assert_one(&all, &["BEYLA_TRACE_PRINTR", "`BEYLA_TRACE_PRINTER`"]);
    assert_one(&all, &["OTEL_EBPF_KUBE_DISABLE_INFORMERS", "does nothing here yet"]);
    assert_one(&all, &["OTEL_EBPF_NETWORK_METRICS", "does nothing here yet"]);
    assert_one(&all, &["SPANWIRE_TEIR", "`SPANWIRE_TIER`"]);
    assert_eq!(all.warnings.len(), 5, "{:?}", texts(&all));
}

#[test]
fn unknown_flags_are_told_and_entries_can_be_typed() {
    let flags = [
        ("opne_port", "1"),
        ("routes.unmatched", "path"),
        ("discovery.instrument", "[{open_ports: '80-90', name: shop}, {exe_path: '*/a', typo: 1}]"),
    ];
    let all = loaded("", &[], &flags).unwrap();
    assert_one(&all, &["`opne_port` (flag --set)", "`open_port`"]);
    assert_one(&all, &["`routes.unmatched` (flag --set)", "does nothing here yet"]);
    assert_one(&all, &["discovery.instrument.1.typo"]);
    let entries = &all.config.discovery.instrument;
    assert_eq!(entries[0].name.as_deref(), Some("shop"));
    assert!(entries[0].open_ports.contains(85));
    let bad = loaded("", &[], &[("discovery.instrument", "{open_ports: 1}")]).unwrap_err().to_string();
    assert!(bad.contains("is not a list") && bad.contains("flag --set"), "{bad}");
}

#[test]
fn an_empty_flag_gives_the_default_back() {
    let yaml = "otel_traces_export: {endpoint: 'http://a:1/x', queue_size: 9999}\nlog_level: debug\n";
    let flags =
        [("otel_traces_export.endpoint", ""), ("otel_traces_export.queue_size", ""), ("log_level", "")];
    assert_eq!(loaded(yaml, &[], &flags).unwrap().config, Config::default());
}

#[test]
fn a_wrong_value_names_key_value_and_source() {
    let table: &[(&str, Pairs, Pairs, &[&str])] = &[
        (
            "",
            &[("OTEL_EBPF_BPF_MAX_TRANSACTION_TIME", "soon")],
            &[],
            &["ebpf.max_transaction_time", "`soon`", "env:OTEL_EBPF_BPF_MAX_TRANSACTION_TIME"],
        ),
        ("", &[("BEYLA_OPEN_PORT", "http")], &[], &["open_port", "`http`", "env:BEYLA_OPEN_PORT"]),
        ("open_port: 9-1", &[], &[], &["open_port", "`9-1`", "file:/"]),
        ("open_port: true", &[], &[], &["open_port", "`true`", "numbers and ranges", "file:/"]),
        ("open_port: -5", &[], &[], &["open_port", "`-5`", "file:/"]),
        ("open_port: {a: 1}", &[], &[], &["open_port", r#"`{"a":1}`"#, "file:/"]),
        (
            "internal_metrics: {prometheus: {port: many}}",
            &[],
            &[],
            &["internal_metrics.prometheus.port", "`many`", "0 to 65535", "file:/"],
        ),
        ("health_check: {port: 70000}", &[], &[], &["health_check.port", "`70000`", "0 to 65535"]),
        ("trace_printer: pretty", &[], &[], &["trace_printer", "`pretty`", "tree", "file:/"]),
        ("", &[], &[("log_level", "loud")], &["log_level", "`loud`", "debug", "flag --set"]),
        ("enforce_sys_caps: maybe", &[], &[], &["enforce_sys_caps", "`maybe`", "true or false"]),
        ("shutdown_timeout: 10", &[], &[], &["shutdown_timeout", "`10` has no unit", "10s"]),
        ("shutdown_timeout: -1s", &[], &[], &["shutdown_timeout", "`-1s`"]),
        ("auto_target_exe: '{a'", &[], &[], &["auto_target_exe", "`{a`"]),
        ("discovery: 5", &[], &[], &["discovery", "`5`", "a mapping"]),
        ("discovery: {instrument: 80}", &[], &[], &["discovery.instrument", "`80`", "a list"]),
        (
            "discovery: {instrument: [{open_ports: 1}, {open_ports: x}]}",
            &[],
            &[],
            &["discovery.instrument.1.open_ports", "`x`", "file:/"],
        ),
        ("spanwire: {ring_size: 5GiB}", &[], &[], &["spanwire.ring_size", "`5GiB`"]),
        ("executable_name: '[ab]'", &[], &[], &["executable_name", "`[ab]`", "glob"]),
        (
            "otel_traces_export: {protocol: http/json}",
            &[],
            &[],
            &["otel_traces_export.protocol", "`http/json`", "grpc"],
        ),
        ("", &[("OTEL_EXPORTER_OTLP_TIMEOUT", "never")], &[], &["`never`", "OTEL_EXPORTER_OTLP_TIMEOUT"]),
    ];
    for (yaml, env, flags, parts) in table {
        let text = loaded(yaml, env, flags).unwrap_err().to_string();
        for part in *parts {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

#[test]
fn secrets_are_masked_in_values_and_errors() {
    let env = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret,x-a=s3cret"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:s3cret@host:4317/p"),
    ];
    let all = loaded("", &env, &[]).unwrap();
    assert_eq!(value(&all, "otel_traces_export.headers").text(), "authorization=***,x-a=***");
    assert_eq!(value(&all, "otel_traces_export.common_endpoint").text(), "http://user:***@host:4317/p");
    assert!(!format!("{:?}", all.values).contains("s3cret"));
    let lost = loaded("", &[("OTEL_EXPORTER_OTLP_HEADERS", "s3cret,a=b")], &[]).unwrap();
    assert_one(&lost, &["1 part(s) without `=`"]);
    assert!(!format!("{:?}{:?}", lost.warnings, lost.values).contains("s3cret"));
    let wrong = loaded("otel_traces_export: {headers: [s3cret]}", &[], &[]).unwrap_err().to_string();
    assert!(wrong.contains("headers") && !wrong.contains("s3cret"), "{wrong}");
    let bad = loaded("", &[("OTEL_EXPORTER_OTLP_HEADERS", "a b=s3cret"), env[1]], &[]).unwrap();
    let bad = bad.config.export().unwrap_err().to_string();
    assert!(bad.contains("`a b`") && !bad.contains("s3cret"), "{bad}");
}

#[test]
fn what_does_nothing_yet_is_said_when_it_is_changed() {
    let yaml = "ebpf: {wakeup_len: 500, bpf_debug: true, high_request_volume: true}\n";
    let all = loaded(yaml, &[("OTEL_EBPF_CHANNEL_BUFFER_LEN", "50")], &[]).unwrap();
    assert_one(&all, &["`ebpf.bpf_debug` (file:", "does nothing here yet"]);
    assert_one(&all, &["`ebpf.high_request_volume`", "does nothing here yet"]);
    assert_eq!(all.warnings.len(), 2, "{:?}", texts(&all));
    assert!(all.warnings.iter().all(|warning| warning.severity == Severity::Info));
}

pub fn blessed(path: &str, text: &str) {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SPANWIRE_BLESS").is_some() {
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "{path} is stale: SPANWIRE_BLESS=1 cargo test --test it");
}

#[test]
fn the_documentation_is_as_the_code() {
    blessed("docs/CONFIG.md", &markdown());
}

#[test]
fn the_annotated_file_is_as_the_code_and_loads() {
    let file = annotated();
    blessed("packaging/config/spanwire.yaml", &file);
    let all = loaded(&file, &[], &[]).unwrap();
    assert_eq!((texts(&all), &all.config), (Vec::new(), &Config::default()));

    // With every default written out nothing changes; with the examples all is still known.
    let set = |text: &str, mark: &str| {
        let line = |line: &str| match line.trim_start().strip_prefix(mark) {
            Some(rest) if !rest.starts_with([' ', 'e']) || mark.len() > 1 => {
                format!("{}{rest}\n", " ".repeat(line.len() - line.trim_start().len()))
            }
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect::<String>()
    };
    let defaults = set(&file, "#");
    assert!(defaults.lines().any(|line| line == "log_level: info"), "{defaults}");
    let all = loaded(&defaults, &[], &[]).unwrap();
    assert_eq!((texts(&all), &all.config), (Vec::new(), &Config::default()));
    let all = loaded(&set(&defaults, "#e.g. "), &[], &[]).unwrap();
    assert_eq!(texts(&all), Vec::<&str>::new());
    all.config.validate(false).unwrap();
}
