//! Two records of one request → a span.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::bpf::abi::{ev_connect, ev_end, ev_request, types};
use crate::event::{Event, RequestKey};
use crate::proto::http1::RequestHead;
use crate::span::{
    Endpoint, ErrorType, HttpExchange, Link, Operation, Resource, Span, SpanId, SpanKind, TraceId,
};
use crate::time::WallClock;

/// A request whose end has not come yet.
#[derive(Debug)]
struct Open {
    request: Box<ev_request>,
    head: Box<[u8]>,
    unix_path: Box<[u8]>,
    /// Ends that the kernel side had lost when this began.
    ends_lost: u64,
}

/// What became of the records, beside spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Ends without a beginning: its record was lost.
    pub unknown_end: u64,
    /// Beginnings whose end was lost.
    pub lost_end: u64,
    /// Requests on what turned out not to be HTTP, or on a stream that was lost.
    pub discarded: u64,
    /// More open requests than are kept.
    pub too_many: u64,
    /// No resource: the process was deselected, or never ours.
    pub no_resource: u64,
}

/// Result of a record.
#[derive(Debug)]
pub enum Outcome {
    /// A finished span.
    Span(Box<Span>),
    /// Nothing yet, or something counted in [`Totals`].
    Nothing,
}

/// Joins the records of requests.
#[derive(Debug)]
pub struct Assembler {
    open: HashMap<RequestKey, Open>,
    max_open: usize,
    max_age_ns: u64,
    /// What was counted so far.
    pub totals: Totals,
}

impl Assembler {
    /// `max_open` bounds memory, `max_age_ns` is `ebpf.max_transaction_time`.
    #[must_use]
    pub fn new(max_open: usize, max_age_ns: u64) -> Self {
        Self { open: HashMap::new(), max_open, max_age_ns, totals: Totals::default() }
    }

    /// Requests that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Takes one record. `ends_lost` is the kernel side's count of ends it could not report;
    /// `resource` names the process.
    pub fn on_event(
        &mut self,
        event: Event<'_>,
        ends_lost: u64,
        clock: &WallClock,
        mut resource: impl FnMut(u32) -> Option<Arc<Resource>>,
    ) -> Outcome {
        match event {
            Event::Request(request, head, unix_path) => {
                if self.open.len() >= self.max_open {
                    self.totals.too_many += 1;
                    return Outcome::Nothing;
                }
                let key = (request.conn, request.stream);
                let open = Open { request, head: head.into(), unix_path: unix_path.into(), ends_lost };
                if self.open.insert(key, open).is_some() {
                    self.totals.lost_end += 1;
                }
                Outcome::Nothing
            }
            Event::End(end) => {
                let Some(open) = self.open.remove(&(end.conn, end.stream)) else {
                    self.totals.unknown_end += 1;
                    return Outcome::Nothing;
                };
                if end.reason == reason(types::end_reason::END_DISCARD) {
                    self.totals.discarded += 1;
                    return Outcome::Nothing;
                }
                let Some(resource) = resource(open.request.hdr.tgid) else {
                    self.totals.no_resource += 1;
                    return Outcome::Nothing;
                };
                Outcome::Span(Box::new(finished(&open, &End::from(&end), clock, resource)))
            }
            Event::Connect(connect) => {
                let Some(resource) = resource(connect.hdr.tgid) else {
                    self.totals.no_resource += 1;
                    return Outcome::Nothing;
                };
                Outcome::Span(Box::new(failed_connect(&connect, clock, resource)))
            }
        }
    }

    /// Ends what is older than `max_transaction_time`, at `now` (monotonic).
    pub fn expire(
        &mut self,
        now: u64,
        ends_lost: u64,
        clock: &WallClock,
        mut resource: impl FnMut(u32) -> Option<Arc<Resource>>,
    ) -> Vec<Span> {
        let limit = now.saturating_sub(self.max_age_ns);
        let old: Vec<RequestKey> =
            self.open.iter().filter(|(_, open)| open.request.hdr.ts < limit).map(|(key, _)| *key).collect();
        let mut spans = Vec::new();
        for key in old {
            let Some(open) = self.open.remove(&key) else { continue };
            // An end may have been among those that the full ring could not take.
            if open.ends_lost != ends_lost {
                self.totals.lost_end += 1;
                continue;
            }
            match resource(open.request.hdr.tgid) {
                Some(resource) => {
                    let end = End { ts: now, error: Some(ErrorType::Timeout), ..End::default() };
                    spans.push(finished(&open, &end, clock, resource));
                }
                None => self.totals.no_resource += 1,
            }
        }
        spans
    }
}

fn reason(reason: types::end_reason) -> u8 {
    u8::try_from(reason.0).unwrap_or(u8::MAX)
}

#[derive(Default)]
struct End {
    ts: u64,
    status: u16,
    request_body: u64,
    response_body: u64,
    error: Option<ErrorType>,
}

impl From<&ev_end> for End {
    fn from(end: &ev_end) -> Self {
        let closed = end.reason == reason(types::end_reason::END_CLOSED);
        let error = match (closed, end.error) {
            (false, _) => None,
            (true, 0) => Some(ErrorType::ConnectionClosed),
            (true, errno) => Some(ErrorType::Errno(errno.into())),
        };
        Self {
            ts: end.hdr.ts,
            status: end.status,
            request_body: end.request_body,
            response_body: end.response_body,
            error,
        }
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

fn finished(open: &Open, end: &End, clock: &WallClock, resource: Arc<Resource>) -> Span {
    let request = &open.request;
    let server = u32::from(request.role) == types::role::ROLE_SERVER.0;
    let head = RequestHead::parse(&open.head);
    let (local, peer) = if request.is_unix == 0 {
        (address(request.laddr, request.lport), address(request.raddr, request.rport))
    } else if server {
        (unix_name(&open.unix_path), Endpoint::Unix("".into()))
    } else {
        (Endpoint::Unix("".into()), unix_name(&open.unix_path))
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
        end_ns: clock.wall(end.ts.max(request.hdr.ts)),
        pid: request.hdr.tgid,
        resource,
        local,
        peer,
        operation: Operation::Http(HttpExchange {
            method: head.method.into(),
            path: head.path.into(),
            query: head.query.map(Into::into),
            host: head.host.map(Into::into),
            scheme: if head.https { "https" } else { "http" },
            user_agent: head.user_agent.map(Into::into),
            minor_version: head.minor_version,
            status: end.status,
            request_body: end.request_body,
            response_body: end.response_body,
        }),
        error: end.error,
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
    use crate::bpf::abi::ev_hdr;

    fn request(conn: u64, stream: u32, ts: u64) -> Event<'static> {
        let request = ev_request {
            hdr: ev_hdr { ts, kind: 1, tgid: 7 },
            conn,
            stream,
            role: 1,
            laddr: "::ffff:127.0.0.1".parse::<Ipv6Addr>().unwrap().octets(),
            lport: 8080,
            ..Default::default()
        };
        Event::Request(Box::new(request), b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", b"")
    }

    fn end(conn: u64, stream: u32, ts: u64, reason: types::end_reason) -> Event<'static> {
        Event::End(ev_end {
            hdr: ev_hdr { ts, kind: 2, tgid: 7 },
            conn,
            stream,
            status: 200,
            reason: u8::try_from(reason.0).unwrap(),
            ..Default::default()
        })
    }

    fn named(_pid: u32) -> Option<Arc<Resource>> {
        Some(Arc::default())
    }

    #[test]
    fn a_head_and_an_end_make_a_span() {
        let clock = WallClock::fixed(1000);
        let mut assembler = Assembler::new(10, 100);
        assembler.on_event(request(1, 0, 5), 0, &clock, named);
        let outcome = assembler.on_event(end(1, 0, 9, types::end_reason::END_COMPLETE), 0, &clock, named);
        let Outcome::Span(span) = outcome else { panic!("no span") };
        assert_eq!((span.start_ns, span.end_ns), (1005, 1009));
        assert_eq!(span.local, Endpoint::Inet("127.0.0.1".parse().unwrap(), 8080));
        let Operation::Http(http) = span.operation else { panic!("no http") };
        assert_eq!((&*http.path, http.status), ("/a", 200));
        assert_eq!(assembler.open(), 0);
    }

    #[test]
    fn streams_of_one_connection_are_apart() {
        let clock = WallClock::fixed(0);
        let mut assembler = Assembler::new(10, 100);
        for stream in 0..3 {
            assembler.on_event(request(1, stream, 5), 0, &clock, named);
        }
        assert_eq!(assembler.open(), 3);
        assembler.on_event(end(1, 1, 9, types::end_reason::END_DISCARD), 0, &clock, named);
        assert_eq!((assembler.open(), assembler.totals.discarded), (2, 1));
    }

    #[test]
    fn an_old_request_is_a_timeout_unless_ends_were_lost() {
        let clock = WallClock::fixed(0);
        let mut assembler = Assembler::new(10, 100);
        assembler.on_event(request(1, 0, 5), 0, &clock, named);
        assert!(assembler.expire(100, 0, &clock, named).is_empty());
        let spans = assembler.expire(200, 0, &clock, named);
        assert_eq!(spans[0].error, Some(ErrorType::Timeout));
        assembler.on_event(request(1, 1, 5), 0, &clock, named);
        assert!(assembler.expire(200, 3, &clock, named).is_empty());
        assert_eq!(assembler.totals.lost_end, 1);
    }

    #[test]
    fn memory_is_bounded_and_loss_counted() {
        let clock = WallClock::fixed(0);
        let mut assembler = Assembler::new(2, 100);
        for stream in 0..5 {
            assembler.on_event(request(1, stream, 5), 0, &clock, named);
        }
        assert_eq!((assembler.open(), assembler.totals.too_many), (2, 3));
        assembler.on_event(end(1, 4, 9, types::end_reason::END_COMPLETE), 0, &clock, named);
        assert_eq!(assembler.totals.unknown_end, 1);
    }
}
