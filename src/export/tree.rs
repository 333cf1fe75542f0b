//! Traces as trees, printed once no span has been added for a moment.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::span::{Operation, Span, SpanId, SpanKind, TraceId, error_type, name};

const QUIET: Duration = Duration::from_millis(300);
/// Spans held; the oldest trace is printed early when there are more.
const HELD_MAX: usize = 20_000;

#[derive(Debug)]
struct Trace {
    spans: Vec<Span>,
    last: Instant,
}

#[derive(Debug)]
pub(super) struct Tree {
    traces: HashMap<TraceId, Trace>,
    order: VecDeque<TraceId>,
    held: usize,
    colour: bool,
}

impl Tree {
    pub(super) fn new(colour: bool) -> Self {
        Self { traces: HashMap::new(), order: VecDeque::new(), held: 0, colour }
    }

    pub(super) fn add(&mut self, span: Span, now: Instant) {
        let id = span.trace_id;
        let trace = self.traces.entry(id).or_insert_with(|| {
            self.order.push_back(id);
            Trace { spans: Vec::new(), last: now }
        });
        trace.last = now;
        trace.spans.push(span);
        self.held += 1;
    }

    pub(super) fn take(&mut self, now: Instant, all: bool) -> String {
        let mut out = String::new();
        let mut keep = VecDeque::new();
        while let Some(id) = self.order.pop_front() {
            let Some(trace) = self.traces.get(&id) else { continue };
            let over = self.held > HELD_MAX;
            if all || over || now.duration_since(trace.last) >= QUIET {
                if let Some(trace) = self.traces.remove(&id) {
                    self.held -= trace.spans.len();
                    self.draw(&mut out, id, trace.spans);
                }
            } else {
                keep.push_back(id);
            }
        }
        self.order = keep;
        out
    }

    fn draw(&self, out: &mut String, id: TraceId, mut spans: Vec<Span>) {
        spans.sort_by_key(|span| span.start_ns);
        let known: Vec<SpanId> = spans.iter().map(|span| span.span_id).collect();
        let count = spans.len();
        out.push_str(&self.paint("1", &format!("trace {id}")));
        out.push_str(&format!("  {count} span{}\n", if count == 1 { "" } else { "s" }));
        let roots: Vec<usize> = (0..count)
            .filter(|at| {
                let parent = spans.get(*at).and_then(|span| span.parent);
                parent.is_none_or(|parent| !known.contains(&parent))
            })
            .collect();
        let mut seen = vec![false; count];
        for (nth, root) in roots.iter().enumerate() {
            self.branch(out, &spans, *root, "", nth + 1 == roots.len(), &mut seen);
        }
        out.push('\n');
    }

    fn branch(
        &self,
        out: &mut String,
        spans: &[Span],
        at: usize,
        indent: &str,
        last: bool,
        seen: &mut [bool],
    ) {
        let (Some(span), Some(drawn)) = (spans.get(at), seen.get_mut(at)) else { return };
        if std::mem::replace(drawn, true) {
            return; // a cycle: the program's own ids can be anything
        }
        out.push_str(&format!("{indent}{} {}\n", if last { "└─" } else { "├─" }, self.describe(span)));
        let children: Vec<usize> = (0..spans.len())
            .filter(|child| {
                *child != at && spans.get(*child).is_some_and(|child| child.parent == Some(span.span_id))
            })
            .collect();
        let indent = format!("{indent}{}  ", if last { " " } else { "│" });
        for (nth, child) in children.iter().enumerate() {
            self.branch(out, spans, *child, &indent, nth + 1 == children.len(), seen);
        }
    }

    fn describe(&self, span: &Span) -> String {
        let target = match &span.operation {
            Operation::Http(http) => match &http.query {
                Some(_) => format!(" {}?…", http.path),
                None => format!(" {}", http.path),
            },
            Operation::Connect => String::new(),
        };
        let status = match &span.operation {
            Operation::Http(http) if http.status != 0 => http.status.to_string(),
            _ => "-".to_owned(),
        };
        let kind = if span.kind == SpanKind::Server { "server" } else { "client" };
        let micros = (span.end_ns - span.start_ns) / 1000;
        let parent = span.parent.map_or_else(|| "none".to_owned(), |parent| parent.to_string());
        let error = match error_type(span) {
            Some(error) => self.paint("31", &format!("  error={error}")),
            None => String::new(),
        };
        format!(
            "{} {kind} {}{target}  {status}  {}.{:03} ms  span={} parent={parent} ({}){error}",
            self.paint("36", &span.resource.service_name),
            name(span),
            micros / 1000,
            micros % 1000,
            span.span_id,
            span.link.as_str(),
        )
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
