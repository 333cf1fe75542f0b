//! Names, attributes and status of a span, by the OpenTelemetry semantic conventions for HTTP and RPC.

use std::borrow::Cow;

use nix::errno::Errno;
use percent_encoding::percent_decode_str;

use super::{Endpoint, ErrorType, GrpcCall, HttpExchange, Operation, Span, SpanKind};

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Str(Cow<'static, str>),
    /// Integer.
    Int(i64),
    /// Texts.
    List(Vec<String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(Cow::Owned(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(Cow::Owned(text))
    }
}

/// Key and value.
pub type Attribute = (&'static str, Value);

/// Methods that keep their name; any other is `_OTHER` beside its original.
const METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"];

/// Query parameters whose value is a secret by its name, in lower case.
const SECRET_PARAMETERS: [&str; 22] = [
    "access_token",
    "api_key",
    "apikey",
    "auth",
    "authorization",
    "awsaccesskeyid",
    "client_secret",
    "code",
    "id_token",
    "jwt",
    "key",
    "password",
    "passwd",
    "pwd",
    "refresh_token",
    "secret",
    "session",
    "sig",
    "signature",
    "token",
    "x-amz-signature",
    "x-goog-signature",
];

/// A query with the values of secret parameters taken out. A `;` separates pairs too, as old servers have it;
/// without an `=` behind it, it is part of a value.
fn redacted(query: &str) -> Cow<'_, str> {
    let secret = |pair: &str| {
        let name = pair.split(['=', '&', ';']).next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8_lossy();
        SECRET_PARAMETERS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
    };
    if !query.split(['&', ';']).any(secret) {
        return Cow::Borrowed(query);
    }
    let mut out = String::with_capacity(query.len());
    let (mut hiding, mut before) = (false, '&');
    for pair in query.split_inclusive(['&', ';']) {
        let end = pair.chars().last().filter(|end| matches!(end, '&' | ';'));
        match pair.split_once('=') {
            Some((name, _)) if secret(pair) => {
                hiding = true;
                out.push_str(name);
                out.push_str("=REDACTED");
                out.extend(end);
            }
            None if hiding && before == ';' => out.extend(end),
            _ => {
                hiding = false;
                out.push_str(pair);
            }
        }
        before = end.unwrap_or('&');
    }
    Cow::Owned(out)
}

/// An authority without the name and password that may be in front.
fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// The method as the conventions want it.
fn method(http: &HttpExchange) -> &'static str {
    METHODS.iter().find(|known| **known == &*http.method).unwrap_or(&"_OTHER")
}

/// Codes of gRPC, by number.
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Codes that tell of a fault of the server: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const GRPC_FAULTS: [u32; 6] = [2, 4, 12, 13, 14, 15];

/// Codes of RST_STREAM (RFC 9113 7), by number.
const RESET_CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

fn coded(names: &[&'static str], code: u32) -> Cow<'static, str> {
    match usize::try_from(code).ok().and_then(|code| names.get(code)) {
        Some(name) => Cow::Borrowed(name),
        None => code.to_string().into(),
    }
}

/// The name of a gRPC status code.
#[must_use]
pub fn grpc_code(code: u32) -> Cow<'static, str> {
    coded(&GRPC_CODES, code)
}

/// Name of the span. Of HTTP it is the method alone, as no route is known and a path has no bound.
#[must_use]
pub fn name(span: &Span) -> &str {
    match &span.operation {
        Operation::Http(http) => match method(http) {
            "_OTHER" => "HTTP",
            known => known,
        },
        Operation::Grpc(call) if call.method.is_empty() => "grpc",
        Operation::Grpc(call) => &call.method,
        Operation::Connect => "CONNECT",
    }
}

/// Whether the span's status is Error. Client errors count for the client alone.
#[must_use]
pub fn is_error(span: &Span) -> bool {
    error_type(span).is_some()
}

/// `error.type`, for spans that failed.
#[must_use]
pub fn error_type(span: &Span) -> Option<Cow<'static, str>> {
    match span.error {
        Some(ErrorType::ConnectionClosed) => return Some("connection_closed".into()),
        Some(ErrorType::Timeout) => return Some("timeout".into()),
        Some(ErrorType::Reset(code)) => return Some(coded(&RESET_CODES, code.into())),
        Some(ErrorType::Errno(errno)) => {
            let known = Errno::from_raw(errno);
            return Some(match known {
                Errno::UnknownErrno => format!("errno {errno}").into(),
                known => format!("{known:?}").into(),
            });
        }
        None => {}
    }
    let http = match &span.operation {
        Operation::Http(http) => http,
        Operation::Grpc(call) => {
            let status = call.status?;
            let bad = match span.kind {
                SpanKind::Server => GRPC_FAULTS.contains(&status),
                SpanKind::Client => status != 0,
            };
            return bad.then(|| grpc_code(status));
        }
        Operation::Connect => return Some("_OTHER".into()),
    };
    if http.status == 0 {
        return (!http.answered).then(|| "_OTHER".into());
    }
    let least = if span.kind == SpanKind::Server { 500 } else { 400 };
    (http.status >= least).then(|| http.status.to_string().into())
}

/// Host and port of an authority; an IPv6 address keeps no brackets.
fn authority(text: &str) -> (&str, Option<u16>) {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address, rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    (host, port.and_then(|port| port.parse().ok()))
}

fn push_endpoint(
    out: &mut Vec<Attribute>,
    end: &Endpoint,
    address: &'static str,
    port: Option<&'static str>,
) {
    match end {
        Endpoint::Inet(ip, number) => {
            out.push((address, ip.to_string().into()));
            if let Some(port) = port {
                out.push((port, Value::Int((*number).into())));
            }
        }
        Endpoint::Unix(path) if !path.is_empty() => out.push((address, Value::from(&**path))),
        Endpoint::Unix(_) => {}
    }
}

/// Attributes of a span, in export order. `with_link` adds `spanwire.link`.
#[must_use]
pub fn attributes(span: &Span, with_link: bool) -> Vec<Attribute> {
    let mut out = Vec::with_capacity(18);
    let server = span.kind == SpanKind::Server;
    let server_end = if server { &span.local } else { &span.peer };
    match &span.operation {
        Operation::Http(http) => push_http(&mut out, span, http, server_end),
        Operation::Grpc(call) => push_grpc(&mut out, call, server_end),
        Operation::Connect => push_endpoint(&mut out, server_end, "server.address", Some("server.port")),
    }
    if server {
        push_endpoint(&mut out, &span.peer, "client.address", Some("client.port"));
    }
    push_endpoint(&mut out, &span.peer, "network.peer.address", Some("network.peer.port"));
    let unix = matches!(span.local, Endpoint::Unix(_));
    out.push(("network.transport", Value::Str(if unix { "unix" } else { "tcp" }.into())));
    if let Some(error) = error_type(span) {
        out.push(("error.type", Value::Str(error)));
    }
    if with_link {
        out.push(("spanwire.link", Value::Str(span.link.as_str().into())));
    }
    out
}

/// The server by the name that the client has for it, else by its address.
fn push_server(out: &mut Vec<Attribute>, host: Option<&str>, server_end: &Endpoint) {
    let host = host.map(without_user).filter(|host| !host.is_empty()).map(authority);
    match host {
        Some((name, port)) => {
            out.push(("server.address", name.into()));
            let port = port.or(match server_end {
                Endpoint::Inet(_, port) => Some(*port),
                Endpoint::Unix(_) => None,
            });
            if let Some(port) = port {
                out.push(("server.port", Value::Int(port.into())));
            }
        }
        None => push_endpoint(out, server_end, "server.address", Some("server.port")),
    }
}

fn push_grpc(out: &mut Vec<Attribute>, call: &GrpcCall, server_end: &Endpoint) {
    out.push(("rpc.system.name", Value::Str("grpc".into())));
    if !call.method.is_empty() {
        out.push(("rpc.method", Value::from(&*call.method)));
    }
    if let Some(status) = call.status {
        out.push(("rpc.response.status_code", Value::Str(grpc_code(status))));
    }
    push_server(out, call.host.as_deref(), server_end);
}

fn push_http(out: &mut Vec<Attribute>, span: &Span, http: &HttpExchange, server_end: &Endpoint) {
    let method = method(http);
    out.push(("http.request.method", Value::Str(method.into())));
    if method == "_OTHER" {
        out.push(("http.request.method_original", Value::from(&*http.method)));
    }
    if http.status != 0 {
        out.push(("http.response.status_code", Value::Int(http.status.into())));
    }
    push_server(out, http.host.as_deref(), server_end);
    let query = http.query.as_deref().map(redacted);
    if span.kind == SpanKind::Server {
        out.push(("url.scheme", Value::Str(http.scheme.into())));
        out.push(("url.path", Value::from(&*http.path)));
        if let Some(query) = query {
            out.push(("url.query", query.into_owned().into()));
        }
    } else {
        let authority = match (http.host.as_deref(), server_end) {
            (Some(host), _) => without_user(host).to_owned(),
            (None, Endpoint::Inet(ip, port)) if ip.is_ipv6() => format!("[{ip}]:{port}"),
            (None, Endpoint::Inet(ip, port)) => format!("{ip}:{port}"),
            (None, Endpoint::Unix(_)) => "localhost".to_owned(),
        };
        let mut url = format!("{}://{authority}{}", http.scheme, http.path);
        if let Some(query) = query {
            url.push('?');
            url.push_str(&query);
        }
        out.push(("url.full", url.into()));
    }
    out.push(("http.request.body.size", Value::Int(i64::try_from(http.request_body).unwrap_or(i64::MAX))));
    out.push(("http.response.body.size", Value::Int(i64::try_from(http.response_body).unwrap_or(i64::MAX))));
    out.push(("network.protocol.version", Value::Str(http.version.as_str().into())));
    if let Some(agent) = &http.user_agent {
        out.push(("user_agent.original", Value::from(&**agent)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        assert_eq!(authority("shop:8080"), ("shop", Some(8080)));
        assert_eq!(authority("shop"), ("shop", None));
        assert_eq!(authority("[::1]:81"), ("::1", Some(81)));
        assert_eq!(authority("[::1]"), ("::1", None));
    }

    #[test]
    fn secrets_leave_the_query() {
        assert_eq!(redacted("a=1&Token=abc&b"), "a=1&Token=REDACTED&b");
        assert_eq!(redacted("a=1"), "a=1");
        assert_eq!(redacted("a=1;token=abc;b=2&sig=x"), "a=1;token=REDACTED;b=2&sig=REDACTED");
        assert_eq!(redacted("%74oken=abc&%6Bey=1"), "%74oken=REDACTED&%6Bey=REDACTED");
        assert_eq!(redacted("token"), "token");
        assert_eq!(redacted("token=a;b;c&d;e"), "token=REDACTED;;&d;e");
    }

    #[test]
    fn a_password_leaves_the_authority() {
        assert_eq!(without_user("root:pw@shop:80"), "shop:80");
        assert_eq!(without_user("a@b@shop"), "shop");
        assert_eq!(without_user("shop"), "shop");
    }
}
