//! The kernel side's parser, compiled for this machine (tests/parser), on streams that are valid, nearly
//! so, or anything: however the bytes are cut, both ends of the connection see the same requests,
//! and nothing is left when it closes.

use std::fmt::{self, Write as _};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use spanwire::event::{self, Event};
use spanwire::proto::http2::huffman;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What a connection carries in each direction.
#[derive(Clone)]
struct Traffic {
    requests: Vec<u8>,
    responses: Vec<u8>,
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "requests b\"{}\" responses b\"{}\"",
            self.requests.escape_ascii(),
            self.responses.escape_ascii()
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Server = 0,
    Client = 1,
}

/// How the calls of one end cut the bytes.
#[derive(Clone)]
struct Cuts {
    /// Bytes offered or asked for by a call, in turn.
    calls: Vec<usize>,
    /// Bytes of an element of the vector; 0: no vector.
    piece: u32,
    /// What a socket takes of what it is offered, in percent, in turn.
    taken: Vec<usize>,
}

impl fmt::Debug for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calls of {:?}, pieces of {}, {:?} % taken", self.calls, self.piece, self.taken)
    }
}

impl Cuts {
    fn none() -> Self {
        Self { calls: vec![usize::MAX], piece: 0, taken: vec![100] }
    }
}

struct Parser {
    process: Child,
    to: BufWriter<ChildStdin>,
    from: BufReader<ChildStdout>,
}

/// What came of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    records: Vec<String>,
    left: u32,
    lost: bool,
}

fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build)
}

fn build() -> PathBuf {
    let binary = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("parser");
    let clang = std::env::var("BPF_CLANG").unwrap_or_else(|_| "clang".into());
    let arch = if cfg!(target_arch = "x86_64") { "x86" } else { "arm64" };
    let status = Command::new(clang)
        .current_dir(ROOT)
        .args([
            "-O1",
            "-g",
            "-w",
            "-fno-strict-aliasing",
            "-fsanitize=undefined",
            "-fsanitize-trap=undefined",
        ])
        .args(["-fno-sanitize=alignment", &format!("-D__TARGET_ARCH_{arch}")])
        .args(["-Itests/parser", &format!("-Ivmlinux/{arch}"), "-Ibpf/include", "-o"])
        .arg(&binary)
        .args(["tests/parser/kernel.c", "tests/parser/table.c", "tests/parser/main.c"])
        .status()
        .expect("clang compiles the kernel side for this machine");
    assert!(status.success(), "clang: {status}");
    binary
}

impl Parser {
    fn start() -> Self {
        let mut process = Command::new(built())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the parser starts");
        let mut to = BufWriter::new(process.stdin.take().unwrap());
        for entry in huffman::kernel_table().iter() {
            to.write_all(&entry.to_ne_bytes()).unwrap();
        }
        let from = BufReader::new(process.stdout.take().unwrap());
        Self { process, to, from }
    }

    fn word(&mut self) -> io::Result<u32> {
        let mut word = [0; 4];
        self.from.read_exact(&mut word)?;
        Ok(u32::from_ne_bytes(word))
    }

    /// One connection, as tests/parser/main.c wants it: what was left, whether it was lost, and the records.
    fn connection(&mut self, case: &[u8]) -> io::Result<(u32, bool, Vec<u8>)> {
        self.to.write_all(&(case.len() as u32).to_ne_bytes())?;
        self.to.write_all(case)?;
        self.to.flush()?;
        let (len, left, lost) = (self.word()?, self.word()?, self.word()?);
        let mut records = vec![0; len as usize];
        self.from.read_exact(&mut records)?;
        Ok((left, lost != 0, records))
    }

    /// All requests, then all responses, then the close.
    fn run(&mut self, end: End, traffic: &Traffic, cuts: &Cuts) -> Outcome {
        let mut case = (end as u32).to_ne_bytes().to_vec();
        let mut call = |what: u32, bytes: &[u8], taken: usize| {
            for word in [what, bytes.len() as u32, cuts.piece, taken as u32] {
                case.extend(word.to_ne_bytes());
            }
            case.extend(bytes);
            case.resize(case.len().next_multiple_of(4), 0);
        };
        for (stream, sent) in
            [(&traffic.requests, end == End::Client), (&traffic.responses, end == End::Server)]
        {
            let (mut rest, mut turn) = (stream.as_slice(), 0);
            while !rest.is_empty() {
                let offered = cuts.calls[turn % cuts.calls.len()].clamp(1, rest.len());
                let percent = cuts.taken[turn % cuts.taken.len()];
                // an empty socket takes what a connection begins with, which the parser relies on
                let whole = !sent || (turn == 0 && rest.starts_with(b"PRI"));
                let taken = if whole { offered } else { (offered * percent / 100).max(1) };
                call(u32::from(sent), &rest[..offered], taken);
                rest = &rest[taken..];
                turn += 1;
            }
        }
        call(2, &[], 0);
        let Ok((left, lost, bytes)) = self.connection(&case) else {
            // the next case is another's
            let status = self.process.wait().unwrap();
            *self = Self::start();
            panic!("the parser ended with {status}");
        };
        let mut records = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((len, tail)) = rest.split_first_chunk() {
            let (record, tail) = tail.split_at(u32::from_ne_bytes(*len) as usize);
            records.extend(said(record));
            rest = tail;
        }
        // a close ends what is open in no order
        let ended = |line: &String| line.split(' ').nth(3) == Some("1");
        records.sort_by_cached_key(|line| ended(line).then(|| line.clone()));
        Outcome { records, left, lost }
    }
}

/// What a record says, but for times, ids and which end saw it.
fn said(record: &[u8]) -> Option<String> {
    let mut line = String::new();
    match event::decode(record).expect("a record of the kernel's") {
        Event::Span(span, head) => {
            // a request of which nothing is to be told
            if span.reason == 3 {
                return None;
            }
            let (sent, received) = (span.request_body, span.response_body);
            write!(line, "{} {} {}/{} ", span.stream, span.status, sent, received).unwrap();
            write!(line, "{} {} {:?}", span.reason, span.flags, head.escape_ascii().to_string()).unwrap();
        }
        Event::Head(ev, head, _) => {
            write!(line, "head {} {:?}", ev.stream, head.escape_ascii().to_string()).unwrap()
        }
        Event::Block(ev, of, block, _) => {
            write!(line, "{of:?} {} {} {block:02x?}", ev.stream, ev.first).unwrap()
        }
        Event::ConnEnd(_) => line.push_str("end"),
        Event::Connect(_) => line.push_str("connect"),
    }
    Some(line)
}

fn parser() -> &'static Mutex<Parser> {
    static PARSER: OnceLock<Mutex<Parser>> = OnceLock::new();
    PARSER.get_or_init(|| Mutex::new(Parser::start()))
}

fn cuts() -> impl Strategy<Value = Cuts> {
    let call = prop_oneof![3 => 1..40usize, 1 => Just(1), 1 => 1..3000usize];
    let piece = prop_oneof![2 => Just(0), 1 => 1..30u32, 1 => 30..2000u32];
    let taken = prop_oneof![3 => Just(100usize), 1 => 1..100usize];
    (vec(call, 1..12), piece, vec(taken, 1..5)).prop_map(|(calls, piece, taken)| Cuts { calls, piece, taken })
}

/// What a stream may suffer: a byte changed, taken out or put in, or an end too early.
#[derive(Clone, Debug)]
enum Harm {
    Change(Index, u8),
    Remove(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Harm::Change(at, byte)),
        (any::<Index>(), 1..20u8).prop_map(|(at, n)| Harm::Remove(at, n)),
        (any::<Index>(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        any::<Index>().prop_map(Harm::Cut),
    ]
}

fn harmed(mut bytes: Vec<u8>, harm: &[Harm]) -> Vec<u8> {
    for one in harm {
        if bytes.is_empty() {
            break;
        }
        match one {
            Harm::Change(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Harm::Remove(at, n) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + usize::from(*n)).min(bytes.len()));
            }
            Harm::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Harm::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
    bytes
}

fn with_harm(traffic: impl Strategy<Value = Traffic>) -> impl Strategy<Value = Traffic> {
    let harms = || prop_oneof![2 => Just(Vec::new()), 1 => vec(harm(), 1..4)];
    (traffic, harms(), harms()).prop_map(|(traffic, requests, responses)| Traffic {
        requests: harmed(traffic.requests, &requests),
        responses: harmed(traffic.responses, &responses),
    })
}

/// A body that looks like what it is not.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let looks = select(vec![
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_vec(),
        b"\r\n\r\n0\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
    ]);
    prop_oneof![1 => Just(Vec::new()), 2 => vec(any::<u8>(), 0..200), 2 => looks, 1 => vec(Just(b'x'), 1000..5000)]
}

/// The framing of a message and its body, as header lines and bytes.
fn framed() -> impl Strategy<Value = (String, Vec<u8>)> {
    let chunked = (vec(body(), 0..4), any::<bool>()).prop_map(|(chunks, trailer)| {
        let mut bytes = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            bytes.extend(format!("{:x};ext=\"a\"\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(if trailer { &b"0\r\nx-sum: 1\r\n\r\n"[..] } else { b"0\r\n\r\n" });
        ("Transfer-Encoding: chunked\r\n".to_owned(), bytes)
    });
    prop_oneof![
        2 => body().prop_map(|body| (format!("content-length: {}\r\n", body.len()), body)),
        1 => chunked,
        1 => Just((String::new(), Vec::new())),
    ]
}

fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => "[a-zA-Z-]{1,12}: ?[ -~]{0,60}\r\n",
        1 => Just("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n".to_owned()),
        1 => Just("tracestate: a=1,b=2\r\n".to_owned()),
        // like those that count, or near to them
        2 => select(vec!["Content-Type", "Content-Language", "Connection", "User-Agent", "Upgrade-Insecure-Requests", "TE",
            "Trailer", "Jar", "If-Match"]).prop_map(|name| format!("{name}: 1\r\n")),
        1 => (1000..6000usize).prop_map(|n| format!("cookie: {}\r\n", "c".repeat(n))),
    ];
    vec(line, 0..6).prop_map(|lines| lines.concat())
}

fn http1() -> impl Strategy<Value = Traffic> {
    let method = select(vec!["GET", "POST", "HEAD", "OPTIONS", "PURGE"]);
    let request = (method, "/[a-z0-9/]{0,40}", lines(), framed());
    let status = select(vec![200u16, 201, 204, 304, 404, 500]);
    let response = (status, any::<bool>(), lines(), framed());
    vec((request, response), 1..6).prop_map(|exchanges| {
        let mut traffic = Traffic { requests: Vec::new(), responses: Vec::new() };
        for ((method, path, lines, (framing, body)), (status, early, more, (answer, bytes))) in exchanges {
            traffic.requests.extend(format!("{method} {path} HTTP/1.1\r\n{lines}{framing}\r\n").bytes());
            traffic.requests.extend(body);
            if early {
                traffic.responses.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            traffic.responses.extend(format!("HTTP/1.1 {status} Any\r\n{more}{answer}\r\n").bytes());
            if method != "HEAD" && status != 204 && status != 304 {
                traffic.responses.extend(bytes);
            }
        }
        traffic
    })
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields of a block: indexed, literal, with and without indexing, and changes of the table's size.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![3 => "[a-z0-9-]{1,30}", 1 => "[ -~]{200,600}"];
    let length = |text: &str| {
        let n = text.len();
        if n < 127 {
            vec![n as u8]
        } else {
            let rest = n - 127;
            if rest < 128 { vec![127, rest as u8] } else { vec![127, rest as u8 | 128, (rest >> 7) as u8] }
        }
    };
    let literal =
        (select(vec![0u8, 0x10, 0x40]), "[a-z-]{1,20}", text).prop_map(move |(kind, name, value)| {
            [vec![kind], length(&name), name.into_bytes(), length(&value), value.into_bytes()].concat()
        });
    let parent = Just({
        let mut field = vec![0x40, 11];
        field.extend(b"traceparent\x3700-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        field
    });
    let field = prop_oneof![
        3 => (1..70u8).prop_map(|index| vec![0x80 | index]),
        4 => literal,
        1 => parent,
        1 => Just(vec![0x40 | 15, 2, b'a', b'b']),
    ];
    vec(field, 0..8).prop_map(|fields| fields.concat())
}

/// A block in frames, padded, with a priority, continued.
fn headers(stream: u32, last: bool, block: &[u8], shape: u8) -> Vec<u8> {
    let mut flags = u8::from(last);
    let mut payload = Vec::new();
    if shape & 1 != 0 {
        flags |= 8;
        payload.push(7);
    }
    if shape & 2 != 0 {
        flags |= 0x20;
        payload.extend([0, 0, 0, 0, 15]);
    }
    let cut = if shape & 4 != 0 { block.len() / 2 } else { block.len() };
    payload.extend(&block[..cut]);
    if shape & 1 != 0 {
        payload.extend([0; 7]);
    }
    if shape & 4 == 0 {
        return frame(1, flags | 4, stream, &payload);
    }
    let mut bytes = frame(1, flags, stream, &payload);
    let middle = cut + (block.len() - cut) / 2;
    bytes.extend(frame(9, 0, stream, &block[cut..middle]));
    bytes.extend(frame(9, 4, stream, &block[middle..]));
    bytes
}

fn http2() -> impl Strategy<Value = Traffic> {
    let request = (fields(), any::<u8>(), body());
    let status = select(vec![0x88u8, 0x89, 0x8d, 0x8e]);
    let response = (status, fields(), any::<u8>(), body(), 0..8u8);
    let other = select(vec![
        frame(6, 0, 0, b"12345678"),
        frame(8, 0, 0, &[0, 0, 255, 255]),
        frame(4, 1, 0, b""),
        frame(0xfa, 3, 9, b"unknown"),
        frame(2, 0, 3, &[0, 0, 0, 0, 1]),
    ]);
    vec((request, response, other), 1..7).prop_map(|streams| {
        let settings = frame(4, 0, 0, &[0, 3, 0, 0, 0, 100, 0, 1, 0, 0, 16, 0]);
        let mut traffic =
            Traffic { requests: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), responses: settings.clone() };
        traffic.requests.extend(&settings);
        for (n, ((fields, shape, body), (status, more, answer, bytes, end), other)) in
            streams.into_iter().enumerate()
        {
            let stream = 2 * n as u32 + 1;
            // :method GET, :scheme http, :path /
            let block = [&[0x82, 0x86, 0x84], fields.as_slice()].concat();
            traffic.requests.extend(headers(stream, body.is_empty(), &block, shape));
            if !body.is_empty() {
                traffic.requests.extend(frame(0, 1, stream, &body));
            }
            traffic.requests.extend(&other);
            let block = [&[status], more.as_slice()].concat();
            traffic.responses.extend(&other);
            match end {
                0 => traffic.responses.extend(frame(3, 0, stream, &[0, 0, 0, 8])),
                1 => traffic.responses.extend(headers(stream, true, &block, answer)),
                2 | 3 => {
                    traffic.responses.extend(headers(stream, false, &block, answer));
                    traffic.responses.extend(frame(0, 0, stream, &bytes));
                    traffic.responses.extend(headers(stream, true, &[0, 1, b't', 1, b'v'], answer >> 3));
                }
                _ => {
                    traffic.responses.extend(headers(stream, false, &block, answer));
                    traffic.responses.extend(frame(0, 1, stream, &bytes));
                }
            }
        }
        traffic
    })
}

fn anything() -> impl Strategy<Value = Traffic> {
    let bytes =
        || prop_oneof![vec(any::<u8>(), 0..300), vec(select(b"GET / HTP1.\r\n:0ab ".to_vec()), 0..400)];
    (bytes(), bytes()).prop_map(|(requests, responses)| Traffic { requests, responses })
}

fn same(traffic: &Traffic, cuts: &Cuts) -> Result<(), TestCaseError> {
    let mut parser = parser().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let whole = parser.run(End::Server, traffic, &Cuts::none());
    prop_assert_eq!(whole.left, 0, "state is left");
    for end in [End::Server, End::Client] {
        let cut = parser.run(end, traffic, cuts);
        prop_assert_eq!(cut.lost, whole.lost, "the {:?} has lost its place", end);
        // where it goes on is for the cuts to say
        let compared = if whole.lost { 0 } else { whole.records.len().max(cut.records.len()) };
        for n in 0..compared {
            let (whole, cut) = (whole.records.get(n), cut.records.get(n));
            prop_assert!(whole == cut, "{end:?}: {cut:.200?} where the whole gives {whole:.200?}");
        }
        prop_assert_eq!(cut.left, 0, "state is left by the {:?}", end);
    }
    Ok(())
}

/// They are quick; PROPTEST_CASES makes it more still.
fn more_cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(2000), failure_persistence: None, ..config }
}

proptest! {
    #![proptest_config(more_cases())]

    #[test]
    fn http1_by_any_cut(traffic in with_harm(http1()), cuts in cuts()) {
        same(&traffic, &cuts)?;
    }

    #[test]
    fn http2_by_any_cut(traffic in with_harm(http2()), cuts in cuts()) {
        same(&traffic, &cuts)?;
    }

    #[test]
    fn anything_by_any_cut(traffic in anything(), cuts in cuts()) {
        same(&traffic, &cuts)?;
    }
}

/// The strategies make what they say: most of it comes out as requests that were answered.
#[test]
fn valid_streams_become_spans() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut spans, mut whole) = (0, 0);
    for strategy in [http1().boxed(), http2().boxed()] {
        for _ in 0..200 {
            let traffic = strategy.new_tree(&mut runner).unwrap().current();
            let outcome = parser().lock().unwrap().run(End::Server, &traffic, &Cuts::none());
            let requests = outcome.records.iter().filter(|line| line.as_bytes()[0].is_ascii_digit());
            let requests: Vec<_> = requests.collect();
            spans += requests.len();
            whole += requests.iter().filter(|line| line.split(' ').nth(3) == Some("0")).count();
        }
    }
    assert!(spans > 1200 && whole > spans / 2, "{whole} of {spans} spans are whole");
}

/// The kernel side reads what nearly all write, and all else, in two ways.
#[test]
fn lengths_as_they_may_be_written() {
    let sent = |lines: &[u8], length: usize| {
        let body = vec![b'x'; length];
        let requests =
            [b"POST /a HTTP/1.1\r\n", lines, b"\r\n\r\n", &body, b"GET /b HTTP/1.1\r\n\r\n"].concat();
        let answers =
            [b"HTTP/1.1 200 OK\r\n", lines, b"\r\n\r\n", &body, b"HTTP/1.1 204 No Content\r\n\r\n"].concat();
        let traffic = Traffic { requests, responses: answers };
        parser().lock().unwrap_or_else(std::sync::PoisonError::into_inner).run(
            End::Server,
            &traffic,
            &Cuts::none(),
        )
    };
    let good: [(&[u8], usize); 14] = [
        (b"Content-Length: 5", 5),
        (b"content-length:5", 5),
        (b"CONTENT-LENGTH:  \t 5", 5),
        (b"Content-Length:\t5", 5),
        (b"Content-Length: 5 \t ", 5),
        (b"Content-Length: 0000005", 5),
        (b"Content-Length: 00000000000000005", 5),
        (b"Content-Length: 1234", 1234),
        (b"Content-Length: 98765", 98765),
        (b"Content-Length: 1234567", 1_234_567),
        (b"Content-Length: 01234567", 1_234_567),
        (b"Content-Length: 5\r\nContent-Length: 05", 5),
        (b"Content-Lengths: 7\r\nContent-Location: 8\r\nX: y\r\n 9\r\nContent-Length: 5", 5),
        (b"Tra: 1\r\nupg: 2\r\n: 3\r\nContent-Length: 5", 5),
    ];
    for (lines, length) in good {
        let outcome = sent(lines, length);
        let first = format!("0 200 {length}/{length} 0 0 ");
        let said = outcome.records.iter().any(|line| line.starts_with(&first));
        assert!(said && !outcome.lost, "{}: {outcome:.300?}", lines.escape_ascii());
        assert!(outcome.records.iter().any(|line| line.starts_with("1 204 0/0 0 0 ")), "{outcome:.300?}");
    }
    let bad: [&[u8]; 16] = [
        b"Content-Length: ",
        b"Content-Length:",
        b"Content-Length: 5x",
        b"Content-Length: x5",
        b"Content-Length: +5",
        b"Content-Length: -5",
        b"Content-Length: 5:",
        b"Content-Length: /5",
        b"Content-Length: \xb5",
        b"Content-Length: 5 5",
        b"Content-Length: 5,5",
        b"Content-Length: 0x5",
        b"Content-Length: 9999999999999999999",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\n 6",
        b"Content-Length: 00000005a",
    ];
    for lines in bad {
        let outcome = sent(lines, 5);
        assert!(outcome.lost, "{}: {outcome:.300?}", lines.escape_ascii());
    }
}

/// What HTTP/1 leaves open does not outlive the HTTP/2 that follows it.
#[test]
fn http2_behind_an_open_request() {
    let requests =
        b"GET /a HTTP/1.1\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n\
        PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let traffic = Traffic { requests: requests.to_vec(), responses: Vec::new() };
    same(&traffic, &Cuts { calls: vec![1], piece: 0, taken: vec![100] }).unwrap();
}
