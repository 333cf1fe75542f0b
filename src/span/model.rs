//! Types of a finished span.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// W3C trace id, 16 bytes, never all zero in a span that leaves the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TraceId(pub [u8; 16]);

/// W3C parent id / OTLP span id, 8 bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SpanId(pub [u8; 8]);

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// OTLP span kind, as far as spanwire makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// The process received the request.
    Server,
    /// The process sent the request.
    Client,
}

/// How the parent of a span is known. The label travels with the span (`spanwire.link`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// No parent: the span starts a trace.
    Root,
    /// The request carried a valid `traceparent`.
    Header,
    /// Both ends of the connection are on this host; the kernel joined them by TCP sequence.
    Joined,
    /// The calling thread serves exactly this request.
    Thread,
    /// The calling thread took the request over from the one that read it.
    Handed,
    /// The calling thread or process was started while the request was open.
    Inherited,
    /// It was the only open request of the process.
    Exclusive,
    /// The program passed a received `traceparent` on unchanged, which names its request.
    Forwarded,
    /// The program's own `traceparent` on the outgoing request names a parent we did not see.
    Program,
}

impl Link {
    /// The value of `spanwire.link`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Header => "header",
            Self::Joined => "joined",
            Self::Thread => "thread",
            Self::Handed => "handed",
            Self::Inherited => "inherited",
            Self::Exclusive => "exclusive",
            Self::Forwarded => "forwarded",
            Self::Program => "program",
        }
    }
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP over IPv4 or IPv6; v4-mapped addresses are already IPv4 here.
    Inet(IpAddr, u16),
    /// A unix socket; the path is empty for an unnamed one and starts with `@` for an abstract one.
    Unix(Arc<str>),
}

/// Why a span failed, in the form of the semantic conventions' `error.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// The connection was closed before the exchange was complete.
    ConnectionClosed,
    /// Still open at `max_transaction_time`.
    Timeout,
    /// HTTP/2: the stream was reset with this code (RFC 9113 7).
    Reset(u16),
    /// A failed system call: the errno (ECONNREFUSED, ECONNRESET, ETIMEDOUT, …).
    Errno(i32),
}

/// An HTTP request with the answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HttpExchange {
    /// The method token as sent.
    pub method: Box<str>,
    /// Path of the target, without query; `*` for `OPTIONS *`, empty for CONNECT.
    pub path: Box<str>,
    /// The query without its `?`, when there is one.
    pub query: Option<Box<str>>,
    /// Host and port of `:authority` or the absolute-form target, else of the `Host` header.
    pub host: Option<Box<str>>,
    /// `http` or `https` (from `:scheme`, or an absolute-form target).
    pub scheme: &'static str,
    /// `User-Agent`, when it was within the captured part of the head.
    pub user_agent: Option<Box<str>>,
    /// Version of HTTP.
    pub version: HttpVersion,
    /// Status of the final response; 0 when none came, or it is not known.
    pub status: u16,
    /// The answer was complete, whether or not its status is known.
    pub answered: bool,
    /// Body bytes of the request, framing excluded.
    pub request_body: u64,
    /// Body bytes of the response, framing excluded.
    pub response_body: u64,
}

/// Version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

impl HttpVersion {
    /// The value of `network.protocol.version`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// A gRPC call: one stream, of whatever kind.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GrpcCall {
    /// `package.Service/Method`; empty where it is not known.
    pub method: Box<str>,
    /// Host and port of `:authority`.
    pub host: Option<Box<str>>,
    /// `grpc-status`; none where no trailers came, or it is not known.
    pub status: Option<u32>,
    /// Bytes of the messages and their frames, client to server.
    pub request_body: u64,
    /// ... and back.
    pub response_body: u64,
}

/// What the span did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One HTTP exchange.
    Http(HttpExchange),
    /// One gRPC call.
    Grpc(GrpcCall),
    /// A TCP connect that failed.
    Connect,
}

/// What a process is called, shared by all its spans. Attributes are already merged and ordered.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Resource {
    /// `service.name`.
    pub service_name: Box<str>,
    /// `service.namespace`, when known.
    pub service_namespace: Option<Box<str>>,
    /// `service.instance.id`: `<host>:<pid>`.
    pub instance_id: Box<str>,
    /// Everything else, in export order; keys are unique and none repeats a field above.
    pub attributes: Vec<(Box<str>, crate::span::Value)>,
}

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Trace id.
    pub trace_id: TraceId,
    /// Own id; for a SERVER span the one that propagates to its calls.
    pub span_id: SpanId,
    /// Parent span, `None` for a root.
    pub parent: Option<SpanId>,
    /// Whether the parent came over the wire (W3C flags `IS_REMOTE`).
    pub parent_is_remote: bool,
    /// W3C trace flags: bit 0 sampled, bit 1 random.
    pub trace_flags: u8,
    /// How the parent is known.
    pub link: Link,
    /// SERVER or CLIENT.
    pub kind: SpanKind,
    /// Nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// Nanoseconds since the Unix epoch, never before `start_ns`.
    pub end_ns: u64,
    /// Host pid of the process (thread group id).
    pub pid: u32,
    /// Who it is.
    pub resource: Arc<Resource>,
    /// Our end of the connection.
    pub local: Endpoint,
    /// The other end.
    pub peer: Endpoint,
    /// What it did.
    pub operation: Operation,
    /// Why it failed, when the status code does not say it.
    pub error: Option<ErrorType>,
}
