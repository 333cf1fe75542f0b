//! Any text as a configuration file, as a flag's value and in the environment: values or a clear error, never a panic.
#![no_main]

use std::collections::BTreeMap;
use std::io::Write;

use spanwire::config::{Sources, load};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("room");
    let value = text.lines().next().unwrap_or_default().to_owned();
    let names = ["OTEL_EBPF_OPEN_PORT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_TRACES_SAMPLER_ARG", "SPANWIRE_NEVER_WRITE_TO", "OTEL_EBPF_AUTO_TARGET_EXE"];
    for name in names {
        let env = BTreeMap::from([(name.to_owned(), value.clone())]);
        let _read = load(&Sources { file: None, env, flags: Vec::new() });
    }
    let flags = vec![("ebpf.max_transaction_time".to_owned(), value, "--set".to_owned())];
    let _read = load(&Sources { file: None, env: BTreeMap::new(), flags });
    if let Ok(loaded) = load(&Sources { file: Some(file.path().into()), ..Sources::default() }) {
        let _sense = loaded.config.validate(true);
        let _export = loaded.config.export();
        let _sampling = loaded.config.sampling();
    }
});
