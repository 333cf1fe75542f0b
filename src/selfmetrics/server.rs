//! A small HTTP server for `/metrics` and `/healthz`. One connection at a time is enough.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::Metrics;

const REQUEST_MAX: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(2);

/// Serves until the process ends. `metrics_path` is where Prometheus looks; `refresh` reads the counters.
pub fn serve(
    address: SocketAddr,
    metrics_path: String,
    metrics: Arc<Metrics>,
    refresh: impl Fn() + Send + 'static,
) -> Result<SocketAddr> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("listening on {address} for metrics"))?;
    let bound = listener.local_addr().context("the metrics port")?;
    crate::pipeline::spawn("metrics", move || {
        for stream in listener.incoming().flatten() {
            let _client_gone = answer(stream, &metrics_path, &metrics, &refresh);
        }
    })?;
    Ok(bound)
}

/// The head of a request, which may take so long in all: one client at a time is served.
fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > REQUEST_MAX {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => head.extend(part.iter().take(count)),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn answer(
    mut stream: TcpStream,
    metrics_path: &str,
    metrics: &Arc<Metrics>,
    refresh: &impl Fn(),
) -> std::io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = read_head(&mut stream)?;
    let line = head.lines().next().unwrap_or_default();
    let path = line.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
    let (status, kind, body) = if path == metrics_path {
        refresh();
        ("200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.render())
    } else if path == "/healthz" {
        let stuck = metrics.health.stuck();
        let health = json!({
            "status": if stuck.is_empty() { "ok" } else { "stuck" },
            "stuck_threads": stuck,
            "uptime_seconds": metrics.health.uptime().as_secs(),
            "last_export_unix": metrics.last_export(),
        });
        let status = if stuck.is_empty() { "200 OK" } else { "503 Service Unavailable" };
        (status, "application/json", health.to_string())
    } else {
        ("404 Not Found", "text/plain", format!("{metrics_path} and /healthz are here\n"))
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}
