//! Traces as trees, printed once no span has been added for a moment.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::printer::printable;
use crate::span::{Link, Operation, Span, SpanId, SpanKind, TraceId, error_type, grpc_code, name};

const QUIET: Duration = Duration::from_millis(300);
/// How long a trace waits for a parent on this host, which ends after its calls.
const PARENT: Duration = Duration::from_secs(30);
/// Levels that are still indented: beyond, a terminal shows nothing, and the text would grow with the square.
const INDENTED: usize = 40;
/// Spans held; the oldest trace is printed early when there are more.
const HELD_MAX: usize = 20_000;

#[derive(Debug)]
struct Trace {
    spans: Vec<Span>,
    first: Instant,
    last: Instant,
}

impl Trace {
    /// Nothing came for a while, and nothing more is to be expected.
    fn is_done(&self, now: Instant) -> bool {
        now.duration_since(self.last) >= QUIET
            && (now.duration_since(self.first) >= PARENT || !self.lacks_parent())
    }

    /// A parent that this process knows of is still open.
    fn lacks_parent(&self) -> bool {
        let known: HashSet<SpanId> = self.spans.iter().map(|span| span.span_id).collect();
        let local = |link| {
            matches!(link, Link::Thread | Link::Inherited | Link::Exclusive | Link::Forwarded | Link::Joined)
        };
        self.spans
            .iter()
            .any(|span| local(span.link) && span.parent.is_some_and(|parent| !known.contains(&parent)))
    }
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
            Trace { spans: Vec::new(), first: now, last: now }
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
            if all || over || trace.is_done(now) {
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
        let count = spans.len();
        out.push_str(&self.paint("1", &format!("trace {id}")));
        out.push_str(&format!("  {count} span{}\n", if count == 1 { "" } else { "s" }));
        let known: HashSet<SpanId> = spans.iter().map(|span| span.span_id).collect();
        let mut children: HashMap<SpanId, Vec<usize>> = HashMap::new();
        let mut roots = Vec::new();
        for (at, span) in spans.iter().enumerate() {
            match span.parent.filter(|parent| known.contains(parent) && *parent != span.span_id) {
                Some(parent) => children.entry(parent).or_default().push(at),
                None => roots.push(at),
            }
        }
        let mut seen = vec![false; count];
        self.branches(out, &spans, &children, &roots, &mut seen);
        // Ids that programs write can make a cycle, which no root leads to.
        while let Some(at) = seen.iter().position(|seen| !seen) {
            self.branches(out, &spans, &children, &[at], &mut seen);
        }
        out.push('\n');
    }

    /// Draws what hangs on `roots`, without recursion: a trace may be deeper than a stack.
    fn branches(
        &self,
        out: &mut String,
        spans: &[Span],
        children: &HashMap<SpanId, Vec<usize>>,
        roots: &[usize],
        seen: &mut [bool],
    ) {
        let mut indent: Vec<&str> = Vec::new();
        // (span, depth, whether it is the last of its siblings), the next one on top
        let mut open: Vec<(usize, usize, bool)> = Vec::new();
        let push = |open: &mut Vec<_>, some: &[usize], depth| {
            let last = some.last().copied();
            open.extend(some.iter().rev().map(|at| (*at, depth, Some(*at) == last)));
        };
        push(&mut open, roots, 0);
        while let Some((at, depth, last)) = open.pop() {
            let (Some(span), Some(drawn)) = (spans.get(at), seen.get_mut(at)) else { continue };
            if std::mem::replace(drawn, true) {
                continue;
            }
            indent.truncate(depth.min(INDENTED));
            out.extend(indent.iter().copied());
            out.push_str(&format!("{} {}\n", if last { "└─" } else { "├─" }, self.describe(span)));
            indent.push(if last { "   " } else { "│  " });
            if let Some(some) = children.get(&span.span_id) {
                push(&mut open, some, depth + 1);
            }
        }
    }

    fn describe(&self, span: &Span) -> String {
        let target = match &span.operation {
            Operation::Http(http) => match &http.query {
                Some(_) => format!(" {}?…", printable(&http.path)),
                None => format!(" {}", printable(&http.path)),
            },
            Operation::Grpc(_) | Operation::Connect => String::new(),
        };
        let status = match &span.operation {
            Operation::Http(http) if http.status != 0 => http.status.to_string(),
            Operation::Grpc(call) => call.status.map_or("-".to_owned(), |code| grpc_code(code).into_owned()),
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
            self.paint("36", &printable(&span.resource.service_name)),
            printable(name(span)),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::span::{Endpoint, HttpExchange, Resource};

    fn span(id: u64, parent: Option<u64>) -> Span {
        let local = Endpoint::Inet("127.0.0.1".parse().unwrap(), 80);
        Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId(id.to_be_bytes()),
            parent: parent.map(|id| SpanId(id.to_be_bytes())),
            parent_is_remote: false,
            trace_flags: 3,
            link: Link::Root,
            kind: SpanKind::Server,
            start_ns: id,
            end_ns: id + 1000,
            pid: 7,
            resource: Arc::new(Resource { service_name: "shop".into(), ..Resource::default() }),
            peer: local.clone(),
            local,
            operation: Operation::Http(HttpExchange {
                method: "GET".into(),
                path: "/".into(),
                ..HttpExchange::default()
            }),
            error: None,
        }
    }

    fn drawn(spans: Vec<Span>) -> String {
        let mut tree = Tree::new(false);
        let now = Instant::now();
        spans.into_iter().for_each(|span| tree.add(span, now));
        tree.take(now, true)
    }

    #[test]
    fn a_trace_may_be_deeper_than_a_stack() {
        let text = drawn((1..=50_000).map(|id| span(id, (id > 1).then(|| id - 1))).collect());
        assert_eq!(text.lines().filter(|line| line.contains("─ ")).count(), 50_000);
        assert!(text.len() < 50_000 * 300, "{}", text.len());
    }

    #[test]
    fn a_cycle_is_printed_once() {
        let text = drawn(vec![span(1, Some(2)), span(2, Some(1)), span(3, Some(3))]);
        assert_eq!(text.lines().filter(|line| line.contains("─ ")).count(), 3, "{text}");
    }

    #[test]
    fn branches_have_their_lines() {
        let text = drawn(vec![span(1, None), span(2, Some(1)), span(3, Some(2)), span(4, Some(1))]);
        let lines: Vec<String> = text.lines().map(|line| line.chars().take(9).collect()).collect();
        assert_eq!(lines[1..5], ["└─ shop s", "   ├─ sho", "   │  └─ ", "   └─ sho"], "{text}");
    }

    #[test]
    fn a_slow_root_keeps_its_tree_together() {
        let mut tree = Tree::new(false);
        let begin = Instant::now();
        tree.add(Span { link: Link::Thread, ..span(2, Some(1)) }, begin);
        assert_eq!(tree.take(begin + QUIET * 4, false), "");
        tree.add(span(1, None), begin + QUIET * 5);
        assert_eq!(tree.take(begin + QUIET * 6, false).lines().count(), 4);
        // of a parent elsewhere nothing will come
        tree.add(Span { link: Link::Header, ..span(2, Some(1)) }, begin);
        assert_eq!(tree.take(begin + QUIET, false).lines().count(), 3);
    }

    #[test]
    fn a_path_cannot_reach_the_terminal() {
        let mut evil = span(1, None);
        if let Operation::Http(http) = &mut evil.operation {
            http.path = "/\u{1b}[2J\u{7}é".into();
        }
        evil.resource = Arc::new(Resource { service_name: "shop\u{1b}[0m".into(), ..Resource::default() });
        let text = drawn(vec![evil]);
        assert!(text.contains("/\\u{1b}[2J\\u{7}é") && !text.contains('\u{1b}'), "{text}");
    }
}
