//! Real records of the kernel side, through decoding, assembling and encoding. `replays/record*.py` make them.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message;
use spanwire::conn::Assembler;
use spanwire::event::{Event, Recording, decode};
use spanwire::export::encode;
use spanwire::span::{ErrorType, Link, Operation, Resource, Span, SpanId, SpanKind};
use spanwire::time::WallClock;

const CHAIN: &[u8] = include_bytes!("replays/chain.rec");

const HTTP2: &[u8] = include_bytes!("replays/http2.rec");

fn records() -> Vec<Vec<u8>> {
    records_of(CHAIN)
}

fn records_of(recording: &[u8]) -> Vec<Vec<u8>> {
    Recording::open(recording).unwrap().collect::<Result<_, _>>().unwrap()
}

fn assembled(records: &[Vec<u8>]) -> (Vec<Span>, Assembler) {
    let clock = WallClock::fixed(Recording::open(CHAIN).unwrap().offset());
    let mut assembler = Assembler::new(100);
    let mut names: HashMap<u32, Arc<Resource>> = HashMap::new();
    let spans = records
        .iter()
        .filter_map(|record| {
            let name = |pid, _| Some(Arc::clone(names.entry(pid).or_default()));
            assembler.on_event(decode(record).ok()?, &clock, name)
        })
        .collect();
    (spans, assembler)
}

/// Method and path of each span, by its id; for a call of gRPC the latter alone.
fn said(spans: &[Span]) -> HashMap<SpanId, (String, String)> {
    let said = |span: &Span| match &span.operation {
        Operation::Http(http) => (http.method.to_string(), http.path.to_string()),
        Operation::Grpc(call) => (String::new(), format!("/{}", call.method)),
        Operation::Connect => unreachable!("no connect fails there"),
    };
    spans.iter().map(|span| (span.span_id, said(span))).collect()
}

fn path(span: &Span) -> &str {
    match &span.operation {
        Operation::Http(http) => &http.path,
        Operation::Grpc(_) | Operation::Connect => "",
    }
}

#[test]
fn every_path_says_what_came_of_it() {
    let (spans, assembler) = assembled(&records());
    assert_eq!(assembler.totals, spanwire::conn::Totals::default(), "nothing was lost");
    let mut traces: HashMap<_, Vec<&Span>> = HashMap::new();
    for span in &spans {
        traces.entry(span.trace_id).or_default().push(span);
    }
    let mut seen = [0, 0, 0];
    for trace in traces.values_mut() {
        trace.sort_by_key(|span| span.start_ns);
        let root = trace[0];
        assert_eq!((root.kind, root.parent, root.link), (SpanKind::Server, None, Link::Root));
        let parts: Vec<&str> = path(root).split('/').collect();
        match parts[1] {
            "r" => {
                seen[0] += 1;
                let [_, call, far] = trace[..] else { panic!("{trace:?}") };
                assert_eq!(
                    (call.kind, call.parent, call.link),
                    (SpanKind::Client, Some(root.span_id), Link::Thread)
                );
                assert_eq!(
                    (far.kind, far.parent, far.link),
                    (SpanKind::Server, Some(call.span_id), Link::Joined)
                );
                assert!(
                    root.end_ns >= call.end_ns && call.start_ns <= far.start_ns && far.start_ns < far.end_ns
                );
                for span in [root, call, far] {
                    let Operation::Http(http) = &span.operation else { panic!("{span:?}") };
                    assert_eq!(http.status, parts[3].parse::<u16>().unwrap());
                    assert_eq!(http.response_body, parts[4].parse::<u64>().unwrap());
                    assert_eq!((path(span), span.error.as_ref()), (path(root), None));
                }
            }
            "refuse" => {
                seen[1] += 1;
                let [_, call] = trace[..] else { panic!("{trace:?}") };
                assert_eq!((&call.operation, call.parent), (&Operation::Connect, Some(root.span_id)));
                assert_eq!(call.error, Some(ErrorType::Errno(111)));
            }
            "cut" => {
                seen[2] += 1;
                assert_eq!((trace.len(), root.error.as_ref()), (1, Some(&ErrorType::ConnectionClosed)));
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(seen, [60, 4, 2]);
    let request = encode(&spans, true).encode_to_vec();
    let back = ExportTraceServiceRequest::decode(request.as_slice()).unwrap();
    let count: usize = back.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum();
    assert_eq!((count, back.resource_spans.len()), (spans.len(), 2));
}

#[test]
fn streams_of_all_kinds() {
    let (spans, assembler) = assembled(&records_of(HTTP2));
    assert_eq!(assembler.totals, spanwire::conn::Totals::default(), "nothing was lost");
    assert_eq!(spans.len(), 200, "a hundred streams, two ends");
    let clients: HashMap<_, _> =
        spans.iter().filter(|span| span.kind == SpanKind::Client).map(|span| (span.span_id, span)).collect();
    let said = said(&spans);
    for server in spans.iter().filter(|span| span.kind == SpanKind::Server) {
        let client = clients[&server.parent.unwrap()];
        assert_eq!((client.trace_id, &said[&client.span_id]), (server.trace_id, &said[&server.span_id]));
        assert!(said[&server.span_id].1.starts_with("/rec-"));
    }
    assert!(
        spans.iter().any(|span| matches!(&span.operation, Operation::Grpc(call) if call.status == Some(14)))
    );
}

#[test]
fn the_command_prints_the_same_and_names_what_is_no_recording() {
    let replay = |file: &str, print: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spanwire"));
        command.args(["replay", file, "--print", print]).output().unwrap()
    };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/replays/chain.rec");
    let out = replay(file, "json");
    let lines = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && lines.lines().count() == assembled(&records()).0.len());
    let wrong = replay(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "json");
    let stderr = String::from_utf8(wrong.stderr).unwrap();
    assert!(!wrong.status.success() && stderr.contains("Cargo.toml: this is no recording"), "{stderr}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Header blocks that are lost cost what they said, and what later ones refer to; nothing is taken for something else.
    #[test]
    fn lost_blocks_leave_holes(kept in proptest::collection::vec(proptest::bool::weighted(0.9), 2000)) {
        let all = records_of(HTTP2);
        let whole = said(&assembled(&all).0);
        let is_block = |record: &[u8]| matches!(decode(record), Ok(Event::Block(..)));
        let some: Vec<_> =
            all.into_iter().zip(kept.iter().cycle()).filter(|(r, kept)| **kept || !is_block(r)).map(|(r, _)| r).collect();
        let (spans, _) = assembled(&some);
        prop_assert_eq!(spans.len(), whole.len());
        for (id, (method, path)) in said(&spans) {
            let (was_method, was_path) = &whole[&id];
            prop_assert!(path == *was_path || path.is_empty() || path == "/", "{path} was {was_path}");
            // Without its content type a call of gRPC is a POST.
            prop_assert!(method == *was_method || method.is_empty() || (was_method.is_empty() && method == "POST"));
        }
    }

    /// Forged, lost, repeated and swapped records: whatever comes of them is encoded, never more spans than records.
    #[test]
    fn damaged_records_do_no_harm(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..200),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
        swaps in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..50),
    ) {
        let mut records = records();
        let many = records.len();
        for (record, byte, to) in flips {
            let record = record.get_mut(&mut records);
            if !record.is_empty() {
                *byte.get_mut(record) = to;
            }
        }
        for (record, at) in cuts {
            let record = record.get_mut(&mut records);
            record.truncate(at.index(record.len() + 1));
        }
        for (one, other) in swaps {
            records.swap(one.index(many), other.index(many));
        }
        let (spans, _) = assembled(&records);
        prop_assert!(spans.len() <= many);
        let _bytes = encode(&spans, true).encode_to_vec();
    }
}
