//! An OTLP receiver inside the test: gRPC by tonic, HTTP/protobuf over plain sockets.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding;

use super::eval::{Kind, SpanRec, split_url};

const MAX_BODY: usize = 64 << 20;

#[derive(Default)]
struct Shared {
    spans: Mutex<Vec<SpanRec>>,
    first: OnceLock<Instant>,
    /// Requests taken by gRPC and by HTTP, and the HTTP ones among them that were gzip.
    grpc: AtomicUsize,
    http: AtomicUsize,
    gzip: AtomicUsize,
    /// Bodies that did not decode.
    bad: AtomicUsize,
}

impl Shared {
    fn take(&self, request: &ExportTraceServiceRequest) {
        let new = records(request);
        if !new.is_empty() {
            self.first.get_or_init(Instant::now);
        }
        self.spans.lock().unwrap().extend(new);
    }
}

/// Both receivers, on ports of their own, until dropped.
pub struct Sink {
    pub grpc_port: u16,
    pub http_port: u16,
    shared: Arc<Shared>,
    stop_grpc: Option<oneshot::Sender<()>>,
    stop_http: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// How many export requests came in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub grpc: usize,
    pub http: usize,
    pub http_gzip: usize,
    pub bad: usize,
}

impl Sink {
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let grpc = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (grpc_port, http_port) = (grpc.local_addr()?.port(), http.local_addr()?.port());
        let (stop_grpc, stopped) = oneshot::channel();
        let stop_http = Arc::new(AtomicBool::new(false));
        let threads = vec![
            thread::spawn({
                let shared = Arc::clone(&shared);
                move || serve_grpc(grpc, shared, stopped)
            }),
            thread::spawn({
                let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stop_http));
                move || serve_http(&http, &shared, &stop)
            }),
        ];
        Ok(Self { grpc_port, http_port, shared, stop_grpc: Some(stop_grpc), stop_http, threads })
    }

    /// All spans so far, in order of arrival.
    pub fn spans(&self) -> Vec<SpanRec> {
        self.shared.spans.lock().unwrap().clone()
    }

    /// When the first span came.
    pub fn first_arrival(&self) -> Option<Instant> {
        self.shared.first.get().copied()
    }

    pub fn len(&self) -> usize {
        self.shared.spans.lock().unwrap().len()
    }

    /// How many spans from number `from` on satisfy `what`.
    pub fn count(&self, from: usize, what: impl Fn(&SpanRec) -> bool) -> usize {
        self.shared.spans.lock().unwrap().iter().skip(from).filter(|span| what(span)).count()
    }

    pub fn requests(&self) -> Requests {
        let load = |n: &AtomicUsize| n.load(Ordering::Relaxed);
        Requests {
            grpc: load(&self.shared.grpc),
            http: load(&self.shared.http),
            http_gzip: load(&self.shared.gzip),
            bad: load(&self.shared.bad),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop_http.store(true, Ordering::Relaxed);
        drop(self.stop_grpc.take());
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http_port)); // wakes the accept
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.grpc.fetch_add(1, Ordering::Relaxed);
        self.0.take(request.get_ref());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

fn serve_grpc(listener: TcpListener, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("non-blocking");
        let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let service = TraceServiceServer::new(Service(shared))
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(MAX_BODY);
        let serve = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        // Not a graceful end: a client that keeps its connection would hold it up.
        tokio::select! {
            result = serve => result.expect("gRPC receiver"),
            _ = stopped => {}
        }
    });
}

fn serve_http(listener: &TcpListener, shared: &Arc<Shared>, stop: &Arc<AtomicBool>) {
    for stream in listener.incoming() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let (shared, stop) = (Arc::clone(shared), Arc::clone(stop));
        // Bounded by the read timeout and the stop flag.
        thread::spawn(move || {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
            let mut stream = BufReader::new(stream);
            while !stop.load(Ordering::Relaxed) && matches!(one_http_request(&mut stream, &shared), Ok(true))
            {
            }
        });
    }
}

/// Takes one request; `Ok(false)` at the end of the connection.
fn one_http_request(stream: &mut BufReader<TcpStream>, shared: &Shared) -> io::Result<bool> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut first = String::new();
    if stream.read_line(&mut first)? == 0 {
        return Ok(false);
    }
    let (mut length, mut chunked, mut gzip, mut protobuf) = (0usize, false, false, false);
    for _ in 0..100 {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        match line.split_once(':').map(|(name, value)| (name, value.trim())) {
            Some(("content-length", value)) => length = value.parse().map_err(|_| bad("length"))?,
            Some(("transfer-encoding", value)) => chunked = value.contains("chunked"),
            Some(("content-encoding", value)) => gzip = value == "gzip",
            Some(("content-type", value)) => protobuf = value == "application/x-protobuf",
            Some(("expect", _)) => stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(|_| bad("chunk"))?;
            if body.len() + size > MAX_BODY {
                return Err(bad("too large"));
            }
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..])?;
            stream.read_line(&mut line)?;
            if size == 0 {
                break;
            }
        }
    } else if length <= MAX_BODY {
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
    } else {
        return Err(bad("too large"));
    }
    shared.http.fetch_add(1, Ordering::Relaxed);
    if gzip {
        shared.gzip.fetch_add(1, Ordering::Relaxed);
        let mut plain = Vec::new();
        GzDecoder::new(&body[..]).take(MAX_BODY as u64).read_to_end(&mut plain).map(drop).unwrap_or_default();
        body = plain;
    }
    let right_place = first.starts_with("POST /v1/traces ") && protobuf;
    let status = match ExportTraceServiceRequest::decode(&body[..]) {
        Ok(request) if right_place => {
            shared.take(&request);
            "200 OK"
        }
        _ => {
            shared.bad.fetch_add(1, Ordering::Relaxed);
            "400 Bad Request"
        }
    };
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n");
    stream.get_mut().write_all(answer.as_bytes())?;
    Ok(true)
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    attributes.iter().find(|kv| kv.key == key).and_then(|kv| match &kv.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.as_str()),
        _ => None,
    })
}

fn integer(attributes: &[KeyValue], key: &str) -> Option<i64> {
    attributes.iter().find(|kv| kv.key == key).and_then(|kv| match kv.value {
        Some(AnyValue { value: Some(Value::IntValue(n)) }) => Some(n),
        _ => None,
    })
}

/// The spans of an export request as the evaluation wants them. A malformed id becomes zeros, which matches nothing.
pub fn records(request: &ExportTraceServiceRequest) -> Vec<SpanRec> {
    let record = |service: &str, span: &Span| {
        let url = text(&span.attributes, "url.path").or_else(|| text(&span.attributes, "url.full"));
        let (mut path, url_port) = url.map(split_url).unwrap_or_default();
        let method = text(&span.attributes, "rpc.method");
        let mut fault = None;
        if let Some(method) = method {
            path = format!("/{method}");
            let says = [
                ("the name", span.name.as_str(), method),
                ("rpc.system.name", text(&span.attributes, "rpc.system.name").unwrap_or(""), "grpc"),
                (
                    "rpc.response.status_code",
                    // On a connection older than spanwire it may be in a table that nobody saw.
                    text(&span.attributes, "rpc.response.status_code").unwrap_or("OK"),
                    "OK",
                ),
            ];
            fault = says
                .iter()
                .find(|(_, is, wanted)| is != wanted)
                .map(|(what, is, wanted)| format!("{what} {is:?}, not {wanted:?}"));
        }
        let port =
            integer(&span.attributes, "server.port").and_then(|port| u16::try_from(port).ok()).or(url_port);
        SpanRec {
            trace: span.trace_id.as_slice().try_into().unwrap_or_default(),
            id: span.span_id.as_slice().try_into().unwrap_or_default(),
            parent: (!span.parent_span_id.is_empty())
                .then(|| span.parent_span_id.as_slice().try_into().unwrap_or_default()),
            kind: match span.kind {
                2 => Kind::Server,
                3 => Kind::Client,
                _ => Kind::Other,
            },
            name: span.name.clone(),
            service: service.to_owned(),
            path,
            port: port.unwrap_or(0),
            grpc: method.is_some(),
            fault,
        }
    };
    request
        .resource_spans
        .iter()
        .flat_map(|resource| {
            let attributes = resource.resource.as_ref().map_or(&[][..], |r| &r.attributes[..]);
            let service = text(attributes, "service.name").unwrap_or("");
            resource.scope_spans.iter().flat_map(|scope| &scope.spans).map(move |span| record(service, span))
        })
        .collect()
}

/// A made-up export request with one SERVER span, for checking receivers without spanwire.
pub fn sample(id: &str) -> ExportTraceServiceRequest {
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
    let pair = |key: &str, value: Value| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    let string = |text: &str| Value::StringValue(text.to_owned());
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![pair("service.name", string("sample"))],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans {
                spans: vec![Span {
                    trace_id: vec![7; 16],
                    span_id: vec![9; 8],
                    name: "GET".into(),
                    kind: 2,
                    start_time_unix_nano: 1_700_000_000_000_000_000,
                    end_time_unix_nano: 1_700_000_000_001_000_000,
                    attributes: vec![
                        pair("url.path", string(&format!("/r/{id}"))),
                        pair("server.port", Value::IntValue(8080)),
                        pair("http.response.status_code", Value::IntValue(200)),
                        pair("http.request.method", string("GET")),
                    ],
                    ..Span::default()
                }],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// Sends `request` by gRPC, with or without gzip.
pub fn send_grpc(port: u16, request: ExportTraceServiceRequest, gzip: bool) -> Result<(), String> {
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
            .map_err(|e| e.to_string())?
            .timeout(Duration::from_secs(5))
            .connect()
            .await
            .map_err(|e| e.to_string())?;
        let mut client = TraceServiceClient::new(channel);
        if gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client.export(request).await.map(drop).map_err(|e| e.to_string())
    })
}

/// Sends `request` by HTTP/protobuf with gzip; the status of the answer.
pub fn send_http_gzip(port: u16, request: &ExportTraceServiceRequest) -> io::Result<u16> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&request.encode_to_vec())?;
    let body = encoder.finish()?;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| io::Error::other(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::services::wait_until;

    fn wait_for(sink: &Sink, count: usize) -> bool {
        wait_until(Duration::from_secs(5), || sink.len() >= count)
    }

    #[test]
    fn takes_spans_by_grpc_plain_and_gzip() {
        let sink = Sink::start().unwrap();
        send_grpc(sink.grpc_port, sample("1"), false).unwrap();
        send_grpc(sink.grpc_port, sample("2"), true).unwrap();
        assert!(wait_for(&sink, 2));
        let spans = sink.spans();
        assert_eq!((spans[0].path.as_str(), spans[0].port, spans[0].kind), ("/r/1", 8080, Kind::Server));
        assert_eq!((spans[1].path.as_str(), spans[1].service.as_str()), ("/r/2", "sample"));
        assert_eq!(sink.requests(), Requests { grpc: 2, ..Requests::default() });
    }

    #[test]
    fn takes_spans_by_http_with_gzip_and_refuses_garbage() {
        let sink = Sink::start().unwrap();
        assert_eq!(send_http_gzip(sink.http_port, &sample("3")).unwrap(), 200);
        assert!(wait_for(&sink, 1));
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, sink.http_port)).unwrap();
        stream.write_all(b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf\r\nContent-Length: 3\r\n\r\nxyz").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.contains("400"), "{line}");
        assert_eq!(sink.requests(), Requests { http: 2, http_gzip: 1, bad: 1, ..Requests::default() });
    }

    #[test]
    fn a_span_of_grpc_has_its_method_for_a_path_and_says_so() {
        let string = |key: &str, text: &str| KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(Value::StringValue(text.into())) }),
            ..KeyValue::default()
        };
        let mut request = sample("x");
        let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
        span.name = "hop.Chain/x".into();
        span.attributes.retain(|kv| kv.key == "server.port");
        span.attributes.push(string("rpc.method", "hop.Chain/x"));
        span.attributes.push(string("rpc.system.name", "grpc"));
        let record = records(&request).remove(0);
        assert_eq!((record.path.as_str(), record.port, record.grpc), ("/hop.Chain/x", 8080, true));
        assert_eq!(record.fault, None);
        let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
        span.attributes.push(string("rpc.response.status_code", "NOT_FOUND"));
        assert!(records(&request)[0].fault.as_ref().unwrap().contains("status_code"));
    }

    #[test]
    fn a_client_span_is_found_by_its_full_url() {
        let mut request = sample("x");
        let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
        span.kind = 3;
        span.parent_span_id = vec![1; 8];
        span.attributes.retain(|kv| kv.key == "http.request.method");
        span.attributes.push(KeyValue {
            key: "url.full".into(),
            value: Some(AnyValue { value: Some(Value::StringValue("http://127.0.0.1:99/r/x?a=1".into())) }),
            ..KeyValue::default()
        });
        let records = records(&request);
        assert_eq!((records[0].path.as_str(), records[0].port, records[0].kind), ("/r/x", 99, Kind::Client));
        assert_eq!(records[0].parent, Some([1; 8]));
    }
}
