//! The records of one request → a span.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::http2::{Exchange, Exchanges};
use crate::bpf::abi::{ev_connect, ev_span, open_req, types};
use crate::event::{Event, RequestKey};
use crate::proto::http1::RequestHead;
use crate::span::{
    Endpoint, ErrorType, GrpcCall, HttpExchange, HttpVersion, Link, Operation, Resource, Span, SpanId,
    SpanKind, TraceId,
};
use crate::time::WallClock;

/// A head that came before the record of its span.
#[derive(Debug)]
struct Ahead {
    head: Box<[u8]>,
    unix_path: Box<[u8]>,
    since: u64,
}

/// A span of a process that we have not heard of yet, as its fork comes on another ring, or whose pod may be told of yet.
#[derive(Debug)]
struct Early {
    event: Box<ev_span>,
    ahead: Ahead,
    exchange: Option<Exchange>,
    until: u64,
}

/// How long the word of a new process, or of its pod, may take.
const EARLY_NS: u64 = 2_000_000_000;
/// Spans that may wait for it.
const EARLY_MAX: usize = 4096;

/// What became of the records, beside spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Spans whose head was lost: they go without a path.
    pub head_lost: u64,
    /// Heads whose span never came.
    pub span_lost: u64,
    /// Requests on what turned out not to be HTTP, or on a stream that was lost.
    pub discarded: u64,
    /// More heads ahead than are kept.
    pub too_many: u64,
    /// Records that make no sense.
    pub malformed: u64,
    /// No resource: the process was deselected, or never ours.
    pub no_resource: u64,
}

/// Joins the records of requests.
#[derive(Debug)]
pub struct Assembler {
    ahead: HashMap<RequestKey, Ahead>,
    exchanges: Exchanges,
    max_ahead: usize,
    /// Reported as timed out, with the time of that: their end makes no second span.
    expired: HashMap<RequestKey, u64>,
    early: Vec<Early>,
    /// What was counted so far.
    pub totals: Totals,
}

impl Assembler {
    /// `max_ahead` bounds the heads, and so the memory.
    #[must_use]
    pub fn new(max_ahead: usize) -> Self {
        Self {
            ahead: HashMap::new(),
            exchanges: Exchanges::default(),
            max_ahead,
            expired: HashMap::new(),
            early: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// Takes one record; a finished span may come of it. `resource` names the process, and when it is asked with patience
    /// may say that it knows no name yet.
    pub fn on_event(
        &mut self,
        event: Event<'_>,
        clock: &WallClock,
        mut resource: impl FnMut(u32, bool) -> Option<Arc<Resource>>,
    ) -> Option<Span> {
        match event {
            Event::Head(head, bytes, path) => {
                if self.ahead.len() >= self.max_ahead {
                    self.totals.too_many += 1;
                    return None;
                }
                let ahead = Ahead { head: bytes.into(), unix_path: path.into(), since: head.hdr.ts };
                self.ahead.insert((head.conn, head.stream), ahead);
                None
            }
            Event::Block(head, of, block, path) => {
                let kept = self.exchanges.on_block(&head, of, block, path, self.max_ahead);
                self.totals.too_many += u64::from(!kept);
                None
            }
            Event::ConnEnd(end) => {
                self.exchanges.on_end(end.conn);
                None
            }
            Event::Span(event, head) => {
                let key = (event.conn, event.stream);
                let ahead = self.ahead.remove(&key);
                let exchange = self.exchanges.take(key);
                if self.expired.remove(&key).is_some() {
                    return None;
                }
                if event.reason == reason(types::end_reason::END_DISCARD) {
                    self.totals.discarded += 1;
                    return None;
                }
                let patience = self.early.len() < EARLY_MAX;
                let Some(resource) = resource(event.hdr.tgid, patience) else {
                    if !patience {
                        self.totals.no_resource += 1;
                        return None;
                    }
                    let until = event.end_ts.saturating_add(EARLY_NS);
                    let ahead = ahead.unwrap_or_else(|| Ahead {
                        head: head.into(),
                        unix_path: Box::default(),
                        since: event.hdr.ts,
                    });
                    self.early.push(Early { event, ahead, exchange, until });
                    return None;
                };
                let (head, path): (&[u8], &[u8]) = match &ahead {
                    Some(ahead) => (&ahead.head, &ahead.unix_path),
                    None => (head, &[]),
                };
                if head.is_empty() && exchange.is_none() {
                    self.totals.head_lost += 1;
                }
                let known = Known { head, unix_path: path, exchange: exchange.as_ref() };
                Some(finished(&event, &known, error_of(&event), clock, resource))
            }
            Event::Connect(connect) => {
                let Some(resource) = resource(connect.hdr.tgid, false) else {
                    self.totals.no_resource += 1;
                    return None;
                };
                Some(failed_connect(&connect, clock, resource))
            }
        }
    }

    /// Whether spans wait for the name of their process.
    #[must_use]
    pub fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Spans whose process has become known by `now` (monotonic).
    pub fn settle(
        &mut self,
        now: u64,
        clock: &WallClock,
        mut resource: impl FnMut(u32, bool) -> Option<Arc<Resource>>,
    ) -> Vec<Span> {
        let mut spans = Vec::new();
        for early in std::mem::take(&mut self.early) {
            let Early { event, ahead, exchange, until } = early;
            match resource(event.hdr.tgid, now < until) {
                Some(resource) => {
                    let error = error_of(&event);
                    let known =
                        Known { head: &ahead.head, unix_path: &ahead.unix_path, exchange: exchange.as_ref() };
                    spans.push(finished(&event, &known, error, clock, resource));
                }
                None if now < until => self.early.push(Early { event, ahead, exchange, until }),
                None => self.totals.no_resource += 1,
            }
        }
        spans
    }

    /// Makes spans of requests that are open for too long, as the kernel's table has them at
    /// `now` (monotonic), and forgets what never completes.
    pub fn expire(
        &mut self,
        old: Vec<Box<open_req>>,
        now: u64,
        keep_ns: u64,
        clock: &WallClock,
        mut resource: impl FnMut(u32, bool) -> Option<Arc<Resource>>,
    ) -> Vec<Span> {
        let mut spans = Vec::new();
        for mut open in old {
            let key = (open.ev.conn, open.ev.stream);
            if self.expired.contains_key(&key) {
                continue;
            }
            let Some(resource) = resource(open.ev.hdr.tgid, false) else {
                self.totals.no_resource += 1;
                continue;
            };
            self.expired.insert(key, now);
            open.ev.end_ts = now;
            let ahead = self.ahead.remove(&key);
            let (head, path): (&[u8], &[u8]) = match &ahead {
                Some(ahead) => (&ahead.head, &ahead.unix_path),
                None => (open.head.get(..open.ev.captured.into()).unwrap_or_default(), &[]),
            };
            let exchange = self.exchanges.take(key);
            let known = Known { head, unix_path: path, exchange: exchange.as_ref() };
            spans.push(finished(&open.ev, &known, Some(ErrorType::Timeout), clock, resource));
        }
        let limit = now.saturating_sub(keep_ns.saturating_mul(2));
        let heads = self.ahead.len();
        self.ahead.retain(|_, ahead| ahead.since > limit);
        self.totals.span_lost += (heads - self.ahead.len()) as u64;
        // A connection that is still open after a day of silence will not report any more.
        let silent = now.saturating_sub(86_400_000_000_000);
        self.totals.span_lost += self.exchanges.forget_before(limit, silent);
        let limit = silent;
        self.expired.retain(|_, at| *at > limit);
        spans
    }
}

fn reason(reason: types::end_reason) -> u8 {
    u8::try_from(reason.0).unwrap_or(u8::MAX)
}

fn error_of(event: &ev_span) -> Option<ErrorType> {
    if event.reason == reason(types::end_reason::END_RESET) {
        return Some(ErrorType::Reset(event.error));
    }
    match (event.reason == reason(types::end_reason::END_CLOSED), event.error) {
        (false, _) => None,
        (true, 0) => Some(ErrorType::ConnectionClosed),
        (true, errno) => Some(ErrorType::Errno(errno.into())),
    }
}

fn address(bytes: [u8; 16], port: u16) -> Endpoint {
    let v6 = Ipv6Addr::from(bytes);
    Endpoint::Inet(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4), port)
}

fn unix_name(path: &[u8]) -> Endpoint {
    let end = path.iter().skip(1).position(|b| *b == 0).map_or(path.len(), |at| at + 1);
    let mut name = String::from_utf8_lossy(path.get(..end).unwrap_or_default()).into_owned();
    if name.starts_with('\0') {
        name.replace_range(..1, "@"); // an abstract address, in the usual spelling
    }
    Endpoint::Unix(name.into())
}

fn link(code: u8) -> Link {
    match types::link(code.into()) {
        types::link::LINK_HEADER => Link::Header,
        types::link::LINK_JOINED => Link::Joined,
        types::link::LINK_THREAD => Link::Thread,
        types::link::LINK_HANDED => Link::Handed,
        types::link::LINK_INHERITED => Link::Inherited,
        types::link::LINK_EXCLUSIVE => Link::Exclusive,
        types::link::LINK_FORWARDED => Link::Forwarded,
        types::link::LINK_PROGRAM => Link::Program,
        _ => Link::Root,
    }
}

fn parent(id: [u8; 8]) -> Option<SpanId> {
    (id != [0; 8]).then_some(SpanId(id))
}

/// What is known of a request beside the record of its span.
struct Known<'a> {
    head: &'a [u8],
    unix_path: &'a [u8],
    exchange: Option<&'a Exchange>,
}

/// RST_STREAM's code for a request that nobody wants an answer to any more.
const CANCEL: u16 = 8;
const GRPC_CANCELLED: u32 = 1;
const GRPC_DEADLINE_EXCEEDED: u32 = 4;

/// A call that was given up has no trailers; its code is what the caller gets to see.
fn grpc(request: &ev_span, exchange: &Exchange, error: &mut Option<ErrorType>) -> GrpcCall {
    let fields = &exchange.request;
    let mut status = exchange.response.grpc_status;
    if status.is_none() && *error == Some(ErrorType::Reset(CANCEL)) {
        let took = request.end_ts.saturating_sub(request.hdr.ts);
        let late = fields.grpc_timeout_ns.is_some_and(|timeout| took >= timeout);
        status = Some(if late { GRPC_DEADLINE_EXCEEDED } else { GRPC_CANCELLED });
    }
    if status.is_some() {
        *error = None;
    }
    let path = fields.path.as_deref().unwrap_or_default();
    GrpcCall {
        method: path.strip_prefix('/').unwrap_or(path).into(),
        host: fields.authority.as_deref().map(Into::into),
        status,
        request_body: request.request_body,
        response_body: request.response_body,
    }
}

fn http1(request: &ev_span, head: &[u8]) -> HttpExchange {
    let head = RequestHead::parse(head);
    HttpExchange {
        method: head.method.into(),
        path: head.path.into(),
        query: head.query.map(Into::into),
        host: head.host.map(Into::into),
        scheme: if head.https { "https" } else { "http" },
        user_agent: head.user_agent.map(Into::into),
        version: if head.minor_version == 0 { HttpVersion::Http10 } else { HttpVersion::Http11 },
        ..answer(request)
    }
}

fn http2(request: &ev_span, exchange: Option<&Exchange>) -> HttpExchange {
    let mut http = HttpExchange { version: HttpVersion::Http2, scheme: "http", ..answer(request) };
    let Some(exchange) = exchange else { return http };
    let fields = &exchange.request;
    http.method = fields.method.as_deref().unwrap_or_default().into();
    http.path = fields.path.as_deref().unwrap_or_default().into();
    http.query = fields.query.as_deref().map(Into::into);
    http.host = fields.authority.as_deref().map(Into::into);
    http.user_agent = fields.user_agent.as_deref().map(Into::into);
    if fields.scheme.as_deref() == Some("https") {
        http.scheme = "https";
    }
    if http.status == 0 {
        http.status = exchange.response.status.unwrap_or(0);
    }
    http
}

/// What the kernel side says about the answer.
fn answer(request: &ev_span) -> HttpExchange {
    let ends = [types::end_reason::END_COMPLETE, types::end_reason::END_UPGRADED];
    HttpExchange {
        status: request.status,
        answered: ends.map(reason).contains(&request.reason),
        request_body: request.request_body,
        response_body: request.response_body,
        ..HttpExchange::default()
    }
}

fn finished(
    request: &ev_span,
    known: &Known<'_>,
    mut error: Option<ErrorType>,
    clock: &WallClock,
    resource: Arc<Resource>,
) -> Span {
    let server = u32::from(request.role) == types::role::ROLE_SERVER.0;
    let is_http2 = u32::from(request.flags) & types::span_flag::SPAN_HTTP2.0 != 0;
    let operation = match known.exchange {
        Some(exchange) if exchange.is_grpc() => Operation::Grpc(grpc(request, exchange, &mut error)),
        exchange if is_http2 => Operation::Http(http2(request, exchange)),
        _ => Operation::Http(http1(request, known.head)),
    };
    let unix_path = known.exchange.map_or(known.unix_path, |exchange| &exchange.unix_path);
    let (local, peer) = if u32::from(request.flags) & types::span_flag::SPAN_UNIX.0 == 0 {
        (address(request.laddr, request.lport), address(request.raddr, request.rport))
    } else if server {
        (unix_name(unix_path), Endpoint::Unix("".into()))
    } else {
        (Endpoint::Unix("".into()), unix_name(unix_path))
    };
    let link = link(request.link);
    Span {
        trace_id: TraceId(request.trace_id),
        span_id: SpanId(request.span_id),
        parent: parent(request.parent_id),
        parent_is_remote: matches!(link, Link::Header | Link::Joined),
        trace_flags: request.trace_flags,
        link,
        kind: if server { SpanKind::Server } else { SpanKind::Client },
        start_ns: clock.wall(request.hdr.ts),
        end_ns: clock.wall(request.end_ts.max(request.hdr.ts)),
        pid: request.hdr.tgid,
        resource,
        local,
        peer,
        operation,
        error,
    }
}

fn failed_connect(connect: &ev_connect, clock: &WallClock, resource: Arc<Resource>) -> Span {
    Span {
        trace_id: TraceId(connect.trace_id),
        span_id: SpanId(connect.span_id),
        parent: parent(connect.parent_id),
        parent_is_remote: false,
        trace_flags: connect.trace_flags,
        link: link(connect.link),
        kind: SpanKind::Client,
        start_ns: clock.wall(connect.start),
        end_ns: clock.wall(connect.hdr.ts.max(connect.start)),
        pid: connect.hdr.tgid,
        resource,
        local: address(connect.laddr, connect.lport),
        peer: address(connect.raddr, connect.rport),
        operation: Operation::Connect,
        error: Some(ErrorType::Errno(connect.error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::abi::{ev_hdr, ev_head};

    const HEAD: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

    fn span(conn: u64, stream: u32, reason: types::end_reason) -> Event<'static> {
        let event = ev_span {
            hdr: ev_hdr { ts: 5, kind: 2, tgid: 7 },
            end_ts: 9,
            conn,
            stream,
            role: 1,
            status: 200,
            reason: u8::try_from(reason.0).unwrap(),
            laddr: "::ffff:127.0.0.1".parse::<Ipv6Addr>().unwrap().octets(),
            lport: 8080,
            ..Default::default()
        };
        Event::Span(Box::new(event), HEAD)
    }

    fn named(_pid: u32, _patience: bool) -> Option<Arc<Resource>> {
        Some(Arc::default())
    }

    #[test]
    fn a_record_makes_a_span() {
        let clock = WallClock::fixed(1000);
        let mut assembler = Assembler::new(10);
        let span = assembler.on_event(span(1, 0, types::end_reason::END_COMPLETE), &clock, named).unwrap();
        assert_eq!((span.start_ns, span.end_ns), (1005, 1009));
        assert_eq!(span.local, Endpoint::Inet("127.0.0.1".parse().unwrap(), 8080));
        let Operation::Http(http) = span.operation else { panic!("no http") };
        assert_eq!((&*http.path, http.status), ("/a", 200));
    }

    #[test]
    fn a_head_ahead_belongs_to_its_stream_alone() {
        let clock = WallClock::fixed(0);
        let mut assembler = Assembler::new(10);
        let head = ev_head { conn: 1, stream: 1, ..Default::default() };
        let bytes = b"PUT /long HTTP/1.1\r\n\r\n";
        assembler.on_event(Event::Head(head, bytes, b"/run/app.sock\0"), &clock, named);
        let first = assembler.on_event(span(1, 0, types::end_reason::END_COMPLETE), &clock, named).unwrap();
        let second = assembler.on_event(span(1, 1, types::end_reason::END_COMPLETE), &clock, named).unwrap();
        let path = |span: Span| match span.operation {
            Operation::Http(http) => http.path,
            Operation::Grpc(_) | Operation::Connect => "".into(),
        };
        assert_eq!((&*path(first), &*path(second)), ("/a", "/long"));
    }

    #[test]
    fn what_was_no_http_makes_no_span() {
        let clock = WallClock::fixed(0);
        let mut assembler = Assembler::new(10);
        assert!(assembler.on_event(span(1, 0, types::end_reason::END_DISCARD), &clock, named).is_none());
        assert_eq!(assembler.totals.discarded, 1);
    }

    #[test]
    fn a_request_times_out_once() {
        let clock = WallClock::fixed(0);
        let mut assembler = Assembler::new(10);
        let old = || {
            let mut open = Box::<open_req>::default();
            open.ev.conn = 3;
            open.ev.hdr.ts = 5;
            open.head[..HEAD.len()].copy_from_slice(HEAD);
            open.ev.captured = u16::try_from(HEAD.len()).unwrap();
            vec![open]
        };
        let spans = assembler.expire(old(), 200, 100, &clock, named);
        assert_eq!((spans.len(), spans[0].error, spans[0].end_ns), (1, Some(ErrorType::Timeout), 200));
        assert!(assembler.expire(old(), 300, 100, &clock, named).is_empty());
        let late = assembler.on_event(span(3, 0, types::end_reason::END_COMPLETE), &clock, named);
        assert!(late.is_none(), "reported already");
    }

    #[test]
    fn a_span_may_come_before_its_process_is_known() {
        let clock = WallClock::fixed(0);
        let mut assembler = Assembler::new(10);
        let stranger = |_pid, _patience| None;
        assert!(assembler.on_event(span(1, 0, types::end_reason::END_COMPLETE), &clock, stranger).is_none());
        assert!(assembler.settle(10, &clock, stranger).is_empty());
        assert_eq!(assembler.settle(20, &clock, named).len(), 1);
        assembler.on_event(span(1, 1, types::end_reason::END_COMPLETE), &clock, stranger);
        assert!(assembler.settle(u64::MAX, &clock, stranger).is_empty());
        assert_eq!((assembler.totals.no_resource, assembler.has_early()), (1, false));
    }

    #[test]
    fn memory_is_bounded_and_loss_counted() {
        let clock = WallClock::fixed(0);
        let mut assembler = Assembler::new(2);
        for stream in 0..5 {
            let head = ev_head { conn: 1, stream, ..Default::default() };
            assembler.on_event(Event::Head(head, HEAD, b""), &clock, named);
        }
        assert_eq!(assembler.totals.too_many, 3);
        assembler.expire(Vec::new(), 1_000, 100, &clock, named);
        assert_eq!(assembler.totals.span_lost, 2);
    }
}
