//! Load with ids: an HTTP/1.1 client over plain sockets that knows exactly what it sent and what came back.
//! HTTP/2 and gRPC are in `load_h2`.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What is spoken along the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    #[default]
    Http1,
    /// Without TLS, by prior knowledge.
    Http2,
    /// Unary, over that.
    Grpc,
}

/// What the paths of gRPC calls begin with; the method is the id.
pub const GRPC_PREFIX: &str = "/hop.Chain/";

impl Wire {
    /// The path of the request with this id.
    pub fn path(self, id: &str) -> String {
        match self {
            Self::Http1 | Self::Http2 => format!("/r/{id}"),
            Self::Grpc => format!("{GRPC_PREFIX}{id}"),
        }
    }
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Plan {
    pub port: u16,
    pub wire: Wire,
    /// Ids are `<tag>-<n>`, `n` from 0; the path is `/r/<id>`, of gRPC `/hop.Chain/<id>`.
    pub tag: String,
    pub requests: usize,
    /// So many at a time, each on a connection of its own; HTTP/2 has up to 16 of them on one.
    pub concurrency: usize,
    /// Every second request carries a `traceparent` of its own.
    pub traceparent: bool,
    pub connections: Connections,
    /// No request starts after this; the rest counts as errors.
    pub limit: Duration,
}

/// How the client uses its connections. HTTP/2 keeps them but for `Once`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connections {
    /// Half of them are kept alive, half are used once; with one alone, half of its requests.
    #[default]
    Both,
    Kept,
    Once,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Ids that were answered 200 by the whole chain.
    pub answered: Vec<String>,
    /// Those among them that were asked for on a kept-alive connection.
    pub kept: HashSet<String>,
    /// Ids with the reason, for the others.
    pub errors: Vec<(String, String)>,
    pub elapsed: Duration,
}

/// Trace id and parent id that request `n` of `tag` carries when the plan says so.
pub fn remote_parent(id: &str) -> ([u8; 16], [u8; 8]) {
    // FNV-1a twice: distinct per id, never zero in practice, no dependency.
    let fnv = |seed: u64| id.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let (a, b) = (fnv(0xcbf2_9ce4_8422_2325), fnv(0x9ae1_6a3b_2f90_404f));
    let mut trace = [0; 16];
    trace[..8].copy_from_slice(&a.to_be_bytes());
    trace[8..].copy_from_slice(&b.to_be_bytes());
    (trace, (a ^ b.rotate_left(17)).to_be_bytes())
}

/// Whether the request with number `n` carries a `traceparent` under `plan`.
pub fn carries(plan: &Plan, n: usize) -> bool {
    plan.traceparent && n % 2 == 1
}

/// The `traceparent` of request `n`, where it carries one.
pub fn traceparent(plan: &Plan, id: &str, n: usize) -> Option<String> {
    carries(plan, n).then(|| {
        let (trace, parent) = remote_parent(id);
        format!("00-{}-{}-01", hex(&trace), hex(&parent))
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Sends everything.
pub fn run(plan: &Plan) -> Outcome {
    if plan.wire != Wire::Http1 {
        return super::load_h2::run(plan);
    }
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let outcome = Mutex::new(Outcome::default());
    thread::scope(|scope| {
        for worker in 0..plan.concurrency {
            let (next, outcome) = (&next, &outcome);
            thread::Builder::new()
                .stack_size(256 << 10)
                .spawn_scoped(scope, move || {
                    let mut connection = None;
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= plan.requests {
                            break;
                        }
                        let id = format!("{}-{n}", plan.tag);
                        let keep = match plan.connections {
                            Connections::Kept => true,
                            Connections::Once => false,
                            Connections::Both if plan.concurrency == 1 => n * 2 < plan.requests,
                            Connections::Both => worker % 2 == 0,
                        };
                        let result = if started.elapsed() > plan.limit {
                            Err(io::Error::other("not sent: time is over"))
                        } else {
                            request(plan, &id, n, keep, &mut connection)
                        };
                        let mut outcome = outcome.lock().unwrap();
                        match result {
                            Ok(()) => {
                                if keep {
                                    outcome.kept.insert(id.clone());
                                }
                                outcome.answered.push(id);
                            }
                            Err(e) => outcome.errors.push((id, e.to_string())),
                        }
                    }
                })
                .expect("thread");
        }
    });
    let mut outcome = outcome.into_inner().unwrap();
    outcome.elapsed = started.elapsed();
    outcome
}

fn request(
    plan: &Plan,
    id: &str,
    n: usize,
    keep: bool,
    connection: &mut Option<BufReader<TcpStream>>,
) -> io::Result<()> {
    let extra =
        traceparent(plan, id, n).map_or_else(String::new, |parent| format!("traceparent: {parent}\r\n"));
    let path = plan.wire.path(id);
    let (status, body) = get(plan.port, &path, &extra, keep, connection)?;
    let text = String::from_utf8_lossy(&body);
    if status != 200 {
        return Err(io::Error::other(format!(
            "status {status}: {}",
            text.chars().take(120).collect::<String>()
        )));
    }
    wrong_answer(&path, &body).map_or(Ok(()), Err)
}

/// What is wrong with the answer to `path`: it went through the whole chain, or it did not.
pub fn wrong_answer(path: &str, body: &[u8]) -> Option<io::Error> {
    let text = String::from_utf8_lossy(body);
    (!text.trim_end().ends_with(&format!("C {path}")))
        .then(|| io::Error::other(format!("wrong answer: {}", text.chars().take(120).collect::<String>())))
}

/// Asks for `/warm/<n>`, whatever comes of it.
pub fn warm(wire: Wire, port: u16, n: usize) {
    if wire == Wire::Http1 {
        let _ = get(port, &format!("/warm/{n}"), "", false, &mut None);
    } else {
        let path = if wire == Wire::Grpc { format!("{GRPC_PREFIX}warm-{n}") } else { format!("/warm/{n}") };
        let _ = super::load_h2::ask(wire, port, &path);
    }
}

/// One GET. A kept-alive connection that the server closed before any byte of the answer is replaced once.
pub fn get(
    port: u16,
    path: &str,
    extra_headers: &str,
    keep: bool,
    connection: &mut Option<BufReader<TcpStream>>,
) -> io::Result<(u16, Vec<u8>)> {
    let connection_header = if keep { "keep-alive" } else { "close" };
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: spanwire-e2e\r\nConnection: {connection_header}\r\n{extra_headers}\r\n"
    );
    let reused = connection.take();
    let was_reused = reused.is_some();
    let mut stream = match reused {
        Some(stream) => stream,
        None => connect(port)?,
    };
    let mut first = String::new();
    let sent = stream.get_mut().write_all(head.as_bytes()).and_then(|()| stream.read_line(&mut first));
    if was_reused && !matches!(sent, Ok(1..)) {
        stream = connect(port)?;
        first.clear();
        stream.get_mut().write_all(head.as_bytes())?;
        stream.read_line(&mut first)?;
    } else {
        sent?;
    }
    let (status, body, reusable) = answer(&mut stream, &first)?;
    if keep && reusable {
        *connection = Some(stream);
    }
    Ok((status, body))
}

fn connect(port: u16) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    Ok(BufReader::new(stream))
}

/// Status, body, and whether the connection can be used again.
fn answer(stream: &mut BufReader<TcpStream>, first: &str) -> io::Result<(u16, Vec<u8>, bool)> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| bad(&format!("not an answer: {first:?}")))?;
    let (mut length, mut chunked, mut reusable) = (None, false, first.starts_with("HTTP/1.1"));
    for _ in 0..100 {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("header without colon"))?;
        let value = value.trim().to_ascii_lowercase();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse().map_err(|_| bad("content-length"))?),
            "transfer-encoding" => chunked = value.contains("chunked"),
            "connection" => {
                reusable =
                    if value.contains("close") { false } else { reusable || value.contains("keep-alive") }
            }
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        for _ in 0..10_000 {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim().split(';').next().unwrap_or(""), 16)
                .map_err(|_| bad("chunk size"))?;
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..])?;
            stream.read_line(&mut line)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
    } else {
        stream.take(1 << 20).read_to_end(&mut body)?;
        reusable = false;
    }
    Ok((status, body, reusable))
}
