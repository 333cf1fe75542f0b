use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use spanwire::export::{ExportSettings, Exporter, Protocol, Retry, encode};
use spanwire::selfmetrics::Metrics;
use spanwire::span::{Endpoint, HttpExchange, Link, Operation, Resource, Span, SpanId, SpanKind, TraceId};
use tonic_types::StatusExt as _;

pub(crate) fn span(number: u8) -> Span {
    Span {
        trace_id: TraceId([number; 16]),
        span_id: SpanId([number; 8]),
        parent: Some(SpanId([9; 8])),
        parent_is_remote: true,
        trace_flags: 3,
        link: Link::Header,
        kind: SpanKind::Server,
        start_ns: 1_000,
        end_ns: 2_000,
        pid: 7,
        resource: Arc::new(Resource { service_name: "shop".into(), ..Resource::default() }),
        local: Endpoint::Inet("127.0.0.1".parse().unwrap(), 8080),
        peer: Endpoint::Inet("::1".parse().unwrap(), 40000),
        operation: Operation::Http(HttpExchange {
            method: "GET".into(),
            path: "/a".into(),
            query: Some("token=x&y=1".into()),
            host: Some("shop.example:81".into()),
            scheme: "http",
            status: 503,
            ..HttpExchange::default()
        }),
        error: None,
    }
}

pub(crate) fn settings(endpoint: String, protocol: Protocol) -> ExportSettings {
    ExportSettings {
        endpoint,
        protocol,
        headers: vec![("x-token".to_owned(), "abc".to_owned())],
        timeout: Duration::from_millis(400),
        gzip: true,
        ca_file: None,
        insecure_skip_verify: false,
        client_certificate: None,
        client_key: None,
        batch_max_size: 10,
        batch_timeout: Duration::from_millis(20),
        queue_size: 20,
        retry: Retry {
            initial: Duration::from_millis(20),
            max: Duration::from_millis(50),
            max_elapsed: Duration::from_millis(300),
        },
        link_attribute: true,
    }
}

/// Answers each connection's requests with what `answers` has next; hands over head and body.
fn fake_http(answers: Vec<impl AsRef<[u8]> + Send + 'static>) -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (sender, answers) = (sender.clone(), Arc::clone(&answers));
            std::thread::spawn(move || {
                let mut stream = stream;
                while let Some(request) = read_request(&mut stream) {
                    let Some(answer) = answers.lock().unwrap().next() else { return };
                    let _gone = sender.send(request);
                    if stream.write_all(answer.as_ref()).is_err() || answer.as_ref().is_empty() {
                        return;
                    }
                }
            });
        }
    });
    (endpoint, receiver)
}

pub(crate) fn read_request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length =
                head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok())?;
            if bytes.len() >= end + 4 + length {
                return Some((head, bytes[end + 4..].to_vec()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

pub(crate) fn export(settings: ExportSettings, spans: Vec<Vec<Span>>) -> Arc<Metrics> {
    let metrics = Arc::new(Metrics::default());
    let (exporter, queue) = Exporter::start(settings, Arc::clone(&metrics)).unwrap();
    for batch in spans {
        queue.push(batch);
    }
    std::thread::sleep(Duration::from_millis(50));
    drop(queue);
    exporter.finish(Instant::now() + Duration::from_secs(5));
    metrics
}

fn dropped(metrics: &Arc<Metrics>, reason: &str) -> bool {
    metrics.render().contains(&format!("spanwire_dropped_total{{place=\"export\",reason=\"{reason}\"}}"))
}

#[test]
fn a_span_is_encoded_by_the_conventions() {
    let request = encode(&[span(1), span(2)], true);
    let bytes = request.encode_to_vec();
    let request = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
    assert_eq!(request.resource_spans.len(), 2, "two processes");
    let scope = &request.resource_spans[0].scope_spans[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "spanwire");
    let span = &scope.spans[0];
    assert_eq!((span.name.as_str(), span.kind, span.flags), ("GET", 2, 0x303));
    assert_eq!(span.status.as_ref().unwrap().code, 2);
    let text = format!("{:?}", span.attributes);
    for part in [
        "\"shop.example\"",
        "IntValue(81)",
        "token=REDACTED&y=1",
        "\"503\"",
        "\"1.1\"",
        "\"header\"",
        "client.address",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn http_carries_headers_and_gzip_and_tries_again() {
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    let (endpoint, requests) = fake_http(vec![busy, OK]);
    let metrics = export(settings(endpoint, Protocol::HttpProtobuf), vec![vec![span(1)]]);
    let (head, body) = requests.recv().unwrap();
    assert!(head.contains("x-token: abc") && head.contains("content-encoding: gzip"), "{head}");
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain).unwrap();
    assert_eq!(ExportTraceServiceRequest::decode(plain.as_slice()).unwrap().resource_spans.len(), 1);
    requests.recv().expect("a second request");
    assert!(
        metrics.render().contains("spanwire_exported_spans_total{protocol=\"otlp\"} 1"),
        "{}",
        metrics.render()
    );
}

#[test]
fn only_the_very_first_spans_do_not_wait_for_others() {
    let (endpoint, requests) = fake_http(vec![OK; 2]);
    let settings = ExportSettings {
        batch_timeout: Duration::from_secs(60),
        gzip: false,
        ..settings(endpoint, Protocol::HttpProtobuf)
    };
    let (exporter, queue) = Exporter::start(settings, Arc::new(Metrics::default())).unwrap();
    let spans = |body: &[u8]| ExportTraceServiceRequest::decode(body).unwrap().resource_spans.len();
    queue.push(vec![span(1)]);
    let (_, first) = requests.recv_timeout(Duration::from_secs(20)).expect("the first spans at once");
    queue.push(vec![span(1)]);
    queue.push(vec![span(2)]);
    assert!(requests.recv_timeout(Duration::from_millis(300)).is_err(), "later ones wait");
    drop(queue);
    exporter.finish(Instant::now() + Duration::from_secs(5));
    let (_, second) = requests.recv().expect("what waited leaves at the end");
    assert_eq!((spans(&first), spans(&second)), (1, 2));
}

#[test]
fn a_request_is_never_larger_than_collectors_take() {
    let (endpoint, requests) = fake_http(vec![OK; 9]);
    let big: Vec<Span> = (1..=9)
        .map(|number| {
            let mut span = span(number);
            if let Operation::Http(http) = &mut span.operation {
                http.path = "/x".repeat(500_000).into();
            }
            span
        })
        .collect();
    let settings = ExportSettings { gzip: false, ..settings(endpoint, Protocol::HttpProtobuf) };
    let metrics = export(settings, vec![big]);
    let sizes: Vec<usize> = requests.try_iter().map(|(_, body)| body.len()).collect();
    assert!(sizes.len() >= 3 && sizes.iter().all(|size| *size < 3 << 20), "{sizes:?}");
    assert!(metrics.render().contains("spanwire_exported_spans_total{protocol=\"otlp\"} 9"));
}

#[test]
fn what_is_left_at_the_end_is_counted() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let settings =
        ExportSettings { timeout: Duration::from_secs(9), ..settings(endpoint, Protocol::HttpProtobuf) };
    let metrics = Arc::new(Metrics::default());
    let (exporter, queue) = Exporter::start(settings, Arc::clone(&metrics)).unwrap();
    queue.push(vec![span(1), span(2)]);
    drop(queue);
    let begun = Instant::now();
    exporter.finish(begun + Duration::from_millis(200));
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(metrics.render().contains("reason=\"shutdown\"} 2"), "{}", metrics.render());
}

fn body(answer: &ExportTraceServiceResponse) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.encoded_len());
    [head.into_bytes(), answer.encode_to_vec()].concat()
}

fn refusing(spans: i64) -> ExportTraceServiceResponse {
    let partial_success =
        Some(ExportTracePartialSuccess { rejected_spans: spans, error_message: "too old".to_owned() });
    ExportTraceServiceResponse { partial_success }
}

#[test]
fn a_partial_success_is_counted_and_not_sent_again() {
    for (rejected, kept) in [(1, 2), (0, 3), (-7, 3), (99, 0)] {
        let (endpoint, requests) = fake_http(vec![body(&refusing(rejected)); 5]);
        let spans = vec![vec![span(1), span(2), span(3)]];
        let text = export(settings(endpoint, Protocol::HttpProtobuf), spans).render();
        assert!(
            text.contains(&format!("spanwire_exported_spans_total{{protocol=\"otlp\"}} {kept}")),
            "{text}"
        );
        assert_eq!(text.contains("reason=\"rejected\""), rejected > 0, "{text}");
        assert_eq!(requests.try_iter().count(), 1);
    }
}

#[test]
fn the_collector_says_when_to_come_back() {
    let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let (endpoint, requests) = fake_http(vec![busy, OK]);
    let mut patient = settings(endpoint, Protocol::HttpProtobuf);
    patient.retry.max_elapsed = Duration::from_secs(9);
    let begun = Instant::now();
    export(patient, vec![vec![span(1)]]);
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(requests.try_iter().count(), 2);
}

#[test]
fn an_endless_retry_after_does_not_hold_the_end_up() {
    let busy = "HTTP/1.1 429 Slow\r\nRetry-After: 18446744073709551615\r\nContent-Length: 0\r\n\r\n";
    let (endpoint, _requests) = fake_http(vec![busy; 5]);
    let metrics = Arc::new(Metrics::default());
    let (exporter, queue) =
        Exporter::start(settings(endpoint, Protocol::HttpProtobuf), Arc::clone(&metrics)).unwrap();
    queue.push(vec![span(1)]);
    drop(queue);
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    exporter.finish(begun + Duration::from_millis(200));
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(metrics.render().contains("reason=\"shutdown\"} 1"), "{}", metrics.render());
}

#[test]
fn a_refusal_is_final_and_counted() {
    let (endpoint, _requests) = fake_http(vec!["HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n", OK]);
    let metrics = export(settings(endpoint, Protocol::HttpProtobuf), vec![vec![span(1)]]);
    assert!(dropped(&metrics, "refused"), "{}", metrics.render());
}

#[test]
fn nonsense_resets_and_stalls_end_in_a_counted_drop() {
    for answer in ["garbage\r\n\r\n", "", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"] {
        let (endpoint, _requests) = fake_http(vec![answer; 50]);
        let begun = Instant::now();
        let metrics = export(settings(endpoint, Protocol::HttpProtobuf), vec![vec![span(1)]]);
        assert!(begun.elapsed() < Duration::from_secs(4));
        let text = metrics.render();
        assert!(
            dropped(&metrics, "retries_exhausted")
                || text.contains("exported_spans_total{protocol=\"otlp\"} 1"),
            "{answer:?}: {text}"
        );
    }
}

#[test]
fn a_collector_that_is_away_costs_bounded_memory() {
    let mut away = settings("http://127.0.0.1:9".to_owned(), Protocol::Grpc);
    away.retry.max_elapsed = Duration::from_secs(60);
    let metrics = Arc::new(Metrics::default());
    let (exporter, queue) = Exporter::start(away, Arc::clone(&metrics)).unwrap();
    for _ in 0..10 {
        queue.push(vec![span(1); 5]);
    }
    assert!(dropped(&metrics, "queue_full"));
    drop(queue);
    let begun = Instant::now();
    exporter.finish(begun + Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(2), "the deadline holds");
}

#[test]
fn a_bad_ca_file_is_named_at_the_start() {
    let mut tls = settings("https://localhost:1".to_owned(), Protocol::HttpProtobuf);
    tls.ca_file = Some("/no/such/ca.pem".into());
    let error = Exporter::start(tls, Arc::default()).unwrap_err();
    assert!(format!("{error:#}").contains("/no/such/ca.pem"));
}

/// Answers every request with what it is given.
struct Answering(Result<ExportTraceServiceResponse, tonic::Status>, mpsc::Sender<()>);

#[tonic::async_trait]
impl TraceService for Answering {
    async fn export(
        &self,
        _request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let _gone = self.1.send(());
        self.0.clone().map(tonic::Response::new)
    }
}

/// Serves until the test ends; the endpoint.
fn serve_grpc(service: impl TraceService) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let service =
            TraceServiceServer::new(service).accept_compressed(tonic::codec::CompressionEncoding::Gzip);
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
        })
    });
    format!("http://{address}")
}

#[test]
fn grpc_codes_are_retried_as_the_specification_says() {
    let delay = |ms| tonic_types::ErrorDetails::with_retry_info(Some(Duration::from_millis(ms)));
    let cases = [
        (Err(tonic::Status::unavailable("soon")), "retries_exhausted"),
        (Err(tonic::Status::resource_exhausted("full")), "refused"),
        (
            Err(tonic::Status::with_error_details(tonic::Code::ResourceExhausted, "full", delay(30))),
            "retries_exhausted",
        ),
        (Err(tonic::Status::unknown("a program's own")), "refused"),
        (Err(tonic::Status::internal("a program's own")), "refused"),
        (Err(tonic::Status::unauthenticated("who?")), "refused"),
        (Ok(refusing(1)), "rejected"),
    ];
    for (answer, reason) in cases {
        let (sender, receiver) = mpsc::channel();
        let endpoint = serve_grpc(Answering(answer.clone(), sender));
        let metrics = export(settings(endpoint, Protocol::Grpc), vec![vec![span(1)]]);
        assert!(dropped(&metrics, reason), "{answer:?}: {}", metrics.render());
        assert_eq!(receiver.try_iter().count() > 1, reason == "retries_exhausted", "{answer:?}");
    }
}

#[test]
fn a_server_that_speaks_no_grpc_is_tried_again() {
    let (endpoint, _requests) = fake_http(vec![OK; 50]);
    let endpoint = endpoint.trim_end_matches("/v1/traces").to_owned();
    let metrics = export(settings(endpoint, Protocol::Grpc), vec![vec![span(1)]]);
    assert!(dropped(&metrics, "retries_exhausted"), "{}", metrics.render());
}

pub(crate) struct Sink(pub(crate) mpsc::Sender<(Option<String>, usize)>);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let token = request.metadata().get("x-token").map(|v| v.to_str().unwrap().to_owned());
        let _gone = self.0.send((token, request.into_inner().resource_spans.len()));
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[test]
fn grpc_carries_headers_and_gzip() {
    let (sender, receiver) = mpsc::channel();
    let endpoint = serve_grpc(Sink(sender));
    let metrics = export(settings(endpoint, Protocol::Grpc), vec![vec![span(1), span(2)]]);
    assert_eq!(receiver.recv_timeout(Duration::from_secs(2)).unwrap(), (Some("abc".to_owned()), 2));
    assert!(metrics.render().contains("spanwire_exported_spans_total{protocol=\"otlp\"} 2"));
}
