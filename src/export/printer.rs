//! Spans on standard output.

use std::borrow::Cow;
use std::io::{self, Write};
use std::str::FromStr;
use std::time::Instant;

use serde_json::{Map, Value as Json, json};

use super::tree::Tree;
use crate::span::{Endpoint, Operation, Span, SpanKind, Value, attributes, is_error, name};

/// How spans are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line a span.
    Text,
    /// One JSON object a line.
    Json,
    /// The same over several lines.
    JsonIndent,
    /// How many so far.
    Counter,
    /// Each trace as one tree.
    Tree,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "json_indent" => Ok(Self::JsonIndent),
            "counter" => Ok(Self::Counter),
            "tree" => Ok(Self::Tree),
            other => Err(format!("`{other}` is none of text, json, json_indent, counter, tree, disabled")),
        }
    }
}

/// Prints spans. A closed pipe ends the printing, not the program.
pub struct Printer {
    format: Format,
    out: Box<dyn Write + Send>,
    tree: Tree,
    count: u64,
    broken: bool,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Printer {
    /// `colour` is for terminals.
    #[must_use]
    pub fn new(format: Format, colour: bool, out: Box<dyn Write + Send>) -> Self {
        Self { format, out, tree: Tree::new(colour), count: 0, broken: false }
    }

    /// Takes spans.
    pub fn print(&mut self, spans: &[Span]) {
        let mut text = String::new();
        for span in spans {
            self.count += 1;
            match self.format {
                Format::Text => text.push_str(&line(span)),
                Format::Json => text.push_str(&format!("{}\n", object(span))),
                Format::JsonIndent => text.push_str(&format!("{:#}\n", object(span))),
                Format::Counter => {}
                Format::Tree => self.tree.add(span.clone(), Instant::now()),
            }
        }
        if self.format == Format::Counter {
            text = format!("{}\n", self.count);
        }
        self.write(&text);
    }

    /// Prints the trees that have been quiet for a while; all of them at the end.
    pub fn tick(&mut self, all: bool) {
        if self.format == Format::Tree {
            let text = self.tree.take(Instant::now(), all);
            self.write(&text);
        }
    }

    fn write(&mut self, text: &str) {
        if self.broken || text.is_empty() {
            return;
        }
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.broken = written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
    }
}

/// Nothing in it can move a cursor or ring a bell.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().flat_map(|c| match c {
        c if c.is_control() => c.escape_unicode().collect::<Vec<_>>(),
        c => vec![c],
    });
    Cow::Owned(escaped.collect())
}

fn end(end: &Endpoint) -> String {
    match end {
        Endpoint::Inet(ip, port) if ip.is_ipv6() => format!("[{ip}]:{port}"),
        Endpoint::Inet(ip, port) => format!("{ip}:{port}"),
        Endpoint::Unix(path) => format!("unix:{}", printable(path)),
    }
}

fn line(span: &Span) -> String {
    let (status, target, sizes) = match &span.operation {
        Operation::Http(http) => {
            (http.status, printable(&http.path), format!("{}B/{}B", http.request_body, http.response_body))
        }
        Operation::Grpc(call) => (
            call.status.unwrap_or(0).try_into().unwrap_or(u16::MAX),
            Cow::Borrowed(""),
            format!("{}B/{}B", call.request_body, call.response_body),
        ),
        Operation::Connect => (0, Cow::Borrowed(""), String::new()),
    };
    let kind = match (&span.operation, span.kind) {
        (Operation::Grpc(_), SpanKind::Server) => "GRPC",
        (Operation::Grpc(_), SpanKind::Client) => "GRPCClient",
        (_, SpanKind::Server) => "HTTP",
        (_, SpanKind::Client) => "HTTPClient",
    };
    let parent = span.parent.map(|id| id.to_string()).unwrap_or_default();
    format!(
        "{} ({}us) {kind} {status} {} {target} [{}]->[{}] {sizes} svc=[{}] traceparent=[00-{}-{}[{parent}]-{:02x}]\n",
        span.start_ns,
        (span.end_ns - span.start_ns) / 1000,
        printable(name(span)),
        if span.kind == SpanKind::Server { end(&span.peer) } else { end(&span.local) },
        if span.kind == SpanKind::Server { end(&span.local) } else { end(&span.peer) },
        printable(&span.resource.service_name),
        span.trace_id,
        span.span_id,
        span.trace_flags,
    )
}

fn object(span: &Span) -> Json {
    let value = |value: Value| match value {
        Value::Str(text) => Json::from(text),
        Value::Int(number) => Json::from(number),
        Value::List(texts) => Json::from(texts),
    };
    let all: Map<String, Json> =
        attributes(span, true).into_iter().map(|(key, v)| (key.to_owned(), value(v))).collect();
    let mut resource: Map<String, Json> =
        span.resource.attributes.iter().map(|(key, v)| (key.to_string(), value(v.clone()))).collect();
    resource.insert("service.name".to_owned(), Json::from(&*span.resource.service_name));
    resource.insert("service.instance.id".to_owned(), Json::from(&*span.resource.instance_id));
    if let Some(namespace) = &span.resource.service_namespace {
        resource.insert("service.namespace".to_owned(), Json::from(&**namespace));
    }
    json!({
        "trace_id": span.trace_id.to_string(),
        "span_id": span.span_id.to_string(),
        "parent_span_id": span.parent.map(|id| id.to_string()),
        "name": name(span),
        "kind": if span.kind == SpanKind::Server { "server" } else { "client" },
        "start_time_unix_nano": span.start_ns,
        "end_time_unix_nano": span.end_ns,
        "trace_flags": span.trace_flags,
        "error": is_error(span),
        "pid": span.pid,
        "service": &*span.resource.service_name,
        "service_instance": &*span.resource.instance_id,
        "resource": resource,
        "attributes": all,
    })
}
