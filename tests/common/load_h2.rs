//! The load over HTTP/2 without TLS, by prior knowledge: plain GETs, or unary gRPC calls whose messages are bytes.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use h2::client::SendRequest;
use http::{HeaderMap, Method, Request};
use prost::bytes::Bytes;

use super::load::{Connections, Outcome, Plan, Wire, traceparent, wrong_answer};

/// Streams that share a connection, at most.
const STREAMS: usize = 16;
const LIMIT: Duration = Duration::from_secs(30);

fn other(e: impl std::fmt::Display) -> io::Error {
    io::Error::other(e.to_string())
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Sends everything: streams share connections, or (`Connections::Once`) have one of their own each.
pub fn run(plan: &Plan) -> Outcome {
    let started = Instant::now();
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let done = runtime().and_then(|runtime| runtime.block_on(all(plan, started, &outcome)));
    let mut outcome = std::mem::take(&mut *outcome.lock().unwrap());
    if let Err(e) = done {
        outcome.errors.push((plan.tag.clone(), e.to_string()));
    }
    outcome.elapsed = started.elapsed();
    outcome
}

async fn all(plan: &Plan, started: Instant, outcome: &Arc<Mutex<Outcome>>) -> io::Result<()> {
    let mut shared = Vec::new();
    if plan.connections != Connections::Once {
        for _ in 0..plan.concurrency.div_ceil(STREAMS) {
            shared.push(connect(plan.port).await?);
        }
    }
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..plan.concurrency)
        .map(|worker| {
            let connection = (!shared.is_empty()).then(|| shared[worker % shared.len()].clone());
            let (plan, next, outcome) = (plan.clone(), Arc::clone(&next), Arc::clone(outcome));
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= plan.requests {
                        break;
                    }
                    let id = format!("{}-{n}", plan.tag);
                    let result = if started.elapsed() > plan.limit {
                        Err(other("not sent: time is over"))
                    } else {
                        request(&plan, &id, n, connection.as_ref()).await
                    };
                    let mut outcome = outcome.lock().unwrap();
                    match result {
                        Ok(()) => {
                            if connection.is_some() {
                                outcome.kept.insert(id.clone());
                            }
                            outcome.answered.push(id);
                        }
                        Err(e) => outcome.errors.push((id, e.to_string())),
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.map_err(other)?;
    }
    Ok(())
}

async fn request(plan: &Plan, id: &str, n: usize, shared: Option<&SendRequest<Bytes>>) -> io::Result<()> {
    let path = plan.wire.path(id);
    let parent = traceparent(plan, id, n);
    let connection = match shared {
        Some(connection) => connection.clone(),
        None => connect(plan.port).await?,
    };
    let body = exchange(connection, plan.wire, plan.port, &path, parent).await?;
    wrong_answer(&path, &body).map_or(Ok(()), Err)
}

async fn connect(port: u16) -> io::Result<SendRequest<Bytes>> {
    let stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = h2::client::handshake(stream).await.map_err(other)?;
    // Ends when the server closes, or the last handle for requests is gone.
    tokio::spawn(connection);
    Ok(requests)
}

/// One request that is answered well: its answer.
async fn exchange(
    connection: SendRequest<Bytes>,
    wire: Wire,
    port: u16,
    path: &str,
    traceparent: Option<String>,
) -> io::Result<Vec<u8>> {
    let limited = async {
        let mut connection = connection.ready().await.map_err(other)?;
        let grpc = wire == Wire::Grpc;
        let mut request = Request::builder()
            .method(if grpc { Method::POST } else { Method::GET })
            .uri(format!("http://127.0.0.1:{port}{path}"))
            .header("user-agent", "spanwire-e2e");
        if grpc {
            request = request.header("content-type", "application/grpc").header("te", "trailers");
        }
        if let Some(parent) = traceparent {
            request = request.header("traceparent", parent);
        }
        let request = request.body(()).map_err(other)?;
        let (answer, mut stream) = connection.send_request(request, !grpc).map_err(other)?;
        if grpc {
            // One message of no bytes: not compressed, length 0.
            stream.send_data(Bytes::from_static(&[0; 5]), true).map_err(other)?;
        }
        let (head, mut parts) = answer.await.map_err(other)?.into_parts();
        let mut body = Vec::new();
        while let Some(part) = parts.data().await {
            let part = part.map_err(other)?;
            let _ = parts.flow_control().release_capacity(part.len());
            body.extend_from_slice(&part);
        }
        let trailers = parts.trailers().await.map_err(other)?;
        if head.status != 200 {
            return Err(other(format!("status {}: {}", head.status, String::from_utf8_lossy(&body))));
        }
        if grpc {
            let end = trailers.unwrap_or(head.headers);
            let text = |key: &str| HeaderMap::get(&end, key).and_then(|v| v.to_str().ok()).unwrap_or("none");
            if text("grpc-status") != "0" {
                return Err(other(format!("grpc-status {}: {}", text("grpc-status"), text("grpc-message"))));
            }
            body.drain(..body.len().min(5));
        }
        Ok(body)
    };
    tokio::time::timeout(LIMIT, limited).await.map_err(|_| other("no answer in time"))?
}

/// One request on a connection of its own.
pub fn ask(wire: Wire, port: u16, path: &str) -> io::Result<Vec<u8>> {
    runtime()?.block_on(async { exchange(connect(port).await?, wire, port, path, None).await })
}
