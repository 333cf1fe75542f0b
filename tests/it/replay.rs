//! Real records of the kernel side, through decoding, assembling and encoding. `replays/record.py` makes them.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message;
use spanwire::conn::Assembler;
use spanwire::event::{Recording, decode};
use spanwire::export::encode;
use spanwire::span::{ErrorType, Link, Operation, Resource, Span, SpanKind};
use spanwire::time::WallClock;

const CHAIN: &[u8] = include_bytes!("replays/chain.rec");

fn records() -> Vec<Vec<u8>> {
    Recording::open(CHAIN).unwrap().collect::<Result<_, _>>().unwrap()
}

fn assembled(records: &[Vec<u8>]) -> (Vec<Span>, Assembler) {
    let clock = WallClock::fixed(Recording::open(CHAIN).unwrap().offset());
    let mut assembler = Assembler::new(100);
    let mut names: HashMap<u32, Arc<Resource>> = HashMap::new();
    let spans = records
        .iter()
        .filter_map(|record| {
            let name = |pid| Some(Arc::clone(names.entry(pid).or_default()));
            assembler.on_event(decode(record).ok()?, &clock, name)
        })
        .collect();
    (spans, assembler)
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
