//! Receivers nobody here wrote: the official protobuf definitions on grpcio, and rotel, a collector in Rust.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::Options;
use crate::common::load::{self, Connections, Plan, Wire};
use crate::common::otlp_sink::{sample, send_grpc, send_http_gzip};
use crate::common::services::{Process, free_ports, wait_until};
use crate::scenarios::{self, venv};

pub const NAMES: [&str; 4] = [
    "receiver-official-grpc",
    "receiver-official-http-gzip",
    "receiver-rotel-grpc",
    "receiver-rotel-http-gzip",
];

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/receivers/otlp_receiver.py");
const REQUESTS: usize = 20;

fn rotel() -> Option<PathBuf> {
    let lib = venv("python").parent()?.parent()?.join("lib");
    fs::read_dir(lib)
        .ok()?
        .flatten()
        .map(|version| version.path().join("site-packages/rotel/rotel-agent"))
        .find(|agent| agent.is_file())
}

pub fn missing(name: &str) -> Option<String> {
    let there = if name.contains("rotel") { rotel().is_some() } else { venv("python").exists() };
    (!there).then(|| "the Python venv is not complete (tests/setup test)".into())
}

/// Starts the receiver; its ports for gRPC and HTTP and the file its spans are written to.
fn start(name: &str, dir: &std::path::Path) -> io::Result<(Process, u16, u16, PathBuf)> {
    let ports = free_ports(2)?;
    let (mut command, out);
    if name.contains("rotel") {
        out = dir.join("receiver.log");
        command = Command::new(rotel().unwrap_or_default());
        command
            .args([
                "start",
                "--exporter",
                "blackhole",
                "--debug-log",
                "traces",
                "--debug-log-verbosity",
                "detailed",
            ])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{}", ports[0])])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{}", ports[1])]);
    } else {
        out = dir.join("spans.jsonl");
        command = Command::new(venv("python"));
        command.args([SCRIPT, &ports[0].to_string(), &ports[1].to_string()]).arg(&out);
    }
    let mut process = Process::start(&command, "receiver", dir)?;
    for port in &ports {
        process.wait_for_port(*port, Duration::from_secs(15))?;
    }
    Ok((process, ports[0], ports[1], out))
}

/// SERVER spans of `paths` in what the receiver wrote, with right types.
fn typed(name: &str, out: &std::path::Path, paths: &[String]) -> Result<usize, String> {
    let text = fs::read_to_string(out).unwrap_or_default();
    if name.contains("rotel") {
        return Ok(rotel_spans(&text, paths));
    }
    let (mut found, http) = (0, name.contains("http"));
    for line in text.lines() {
        let span: Value = serde_json::from_str(line).map_err(|e| format!("{e} in {line}"))?;
        let attribute = |key: &str| &span["attributes"][key];
        if span["kind"] != 2 || !paths.iter().any(|path| attribute("url.path")[1] == path.as_str()) {
            continue;
        }
        found += 1;
        let right = attribute("url.path")[0] == "string_value"
            && attribute("http.request.method") == &serde_json::json!(["string_value", "GET"])
            && attribute("http.response.status_code") == &serde_json::json!(["int_value", 200])
            && attribute("server.port")[0] == "int_value"
            && span["resource"]["service.name"][0] == "string_value"
            && span["trace_id"].as_str().is_some_and(|id| id.len() == 32)
            && span["span_id"].as_str().is_some_and(|id| id.len() == 16)
            && span["start"].as_u64().zip(span["end"].as_u64()).is_some_and(|(s, e)| s > 0 && s <= e)
            && span["transport"] == if http { "http" } else { "grpc" }
            && (!http || span["encoding"] == "gzip");
        if !right {
            return Err(format!("not as it should be: {line}"));
        }
    }
    Ok(found)
}

/// Counts the SERVER spans in rotel's detailed text that have the path and typed attributes.
fn rotel_spans(text: &str, paths: &[String]) -> usize {
    text.split("\nSpan #")
        .skip(1)
        .filter(|span| {
            let is = |what: &str| span.lines().any(|line| line.trim().trim_start_matches("-> ") == what);
            span.contains("SPAN_KIND_SERVER")
                && is("http.response.status_code: Int(200)")
                && is("http.request.method: Str(GET)")
                && span.contains("server.port: Int(")
                && paths.iter().any(|path| is(&format!("url.path: Str({path})")))
        })
        .count()
}

pub fn run(name: &str, options: &Options) -> Result<String, String> {
    let text = |e: io::Error| e.to_string();
    let dir = crate::work_dir().map_err(text)?;
    let (receiver, grpc, http, out) = start(name, dir.path()).map_err(text)?;
    let by_http = name.contains("http");

    if options.bare {
        // The receiver alone, with a span that is known to be right.
        if by_http {
            let status = send_http_gzip(http, &sample("bare")).map_err(text)?;
            if status != 200 {
                return Err(format!("the receiver answered {status}"));
            }
        } else {
            send_grpc(grpc, sample("bare"), false)?;
        }
        let paths = ["/r/bare".to_owned()];
        let mut found = Ok(0);
        wait_until(Duration::from_secs(5), || {
            found = typed(name, &out, &paths);
            found != Ok(0)
        });
        return match found? {
            1 => Ok("takes a sample span".into()),
            n => Err(format!("{n} spans instead of 1\n{}", receiver.log_tail())),
        };
    }

    let chain = scenarios::all().remove(0);
    if let Some(reason) = chain.missing() {
        return Err(reason);
    }
    let ports = free_ports(3).map_err(text)?;
    let _services = chain.start(&ports, dir.path()).map_err(text)?;
    let (protocol, port) = if by_http { ("http/protobuf", http) } else { ("grpc", grpc) };
    let compression: &[_] = if by_http { &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")] } else { &[] };
    let mut tracer =
        crate::spanwire(options, dir.path(), &ports, &[], protocol, port, compression).map_err(text)?;
    // Ready when a warming-up request has come through.
    let mut n = 0;
    let ready = wait_until(Duration::from_secs(15), || {
        n += 1;
        load::warm(Wire::Http1, ports[0], n);
        std::thread::sleep(Duration::from_millis(50));
        fs::read_to_string(&out).is_ok_and(|text| text.contains("/warm/")) || tracer.exited().is_some()
    });
    if !ready || tracer.exited().is_some() {
        return Err(format!("no span came within 15 s\n{}", tracer.log_tail()));
    }
    std::thread::sleep(Duration::from_millis(500));
    let plan = Plan {
        port: ports[0],
        wire: Wire::Http1,
        tag: name.to_owned(),
        requests: REQUESTS,
        concurrency: 2,
        traceparent: false,
        connections: Connections::Both,
        limit: Duration::from_secs(30),
    };
    let outcome = load::run(&plan);
    if let Some((id, e)) = outcome.errors.first() {
        return Err(format!("application error: {id}: {e}"));
    }
    let paths: Vec<_> = outcome.answered.iter().map(|id| format!("/r/{id}")).collect();
    let wanted = 3 * paths.len();
    let mut found = Ok(0);
    wait_until(Duration::from_secs(10), || {
        found = typed(name, &out, &paths);
        found.as_ref().map_or(true, |n| *n >= wanted)
    });
    match found? {
        n if n == wanted => Ok(format!("{n} server spans, typed")),
        n => Err(format!("{n} server spans instead of {wanted}\n{}", tracer.log_tail())),
    }
}
