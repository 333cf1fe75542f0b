use std::process::{Command, Output};

fn spanwire(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanwire"));
    command.args(args).env_clear().envs(env.iter().copied());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn nothing_to_do_is_a_usage_error_that_says_what_is_missing() {
    let out = spanwire(&[], &[]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("--port"), "{}", text(&out.stderr));
    assert!(out.stdout.is_empty());
    assert_eq!(spanwire(&["run", "--no-such-flag"], &[]).status.code(), Some(2));
}

#[test]
fn config_tells_the_origin_of_each_value() {
    let out = spanwire(&["config", "--port", "80"], &[("OTEL_EXPORTER_OTLP_HEADERS", "token=secret")]);
    let stdout = text(&out.stdout);
    assert!(out.status.success());
    assert!(stdout.contains("open_port: 80  # flag --port"), "{stdout}");
    assert!(!stdout.contains("secret"), "{stdout}");
    let json = spanwire(&["config", "--json"], &[]);
    let all: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(all.as_array().unwrap().len() > 40);
}

#[test]
fn a_missing_file_is_named() {
    let out = spanwire(&["run", "-config", "/no/such.yml"], &[]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("/no/such.yml"));
}
