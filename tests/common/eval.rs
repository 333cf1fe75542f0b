//! Exact evaluation: every span is counted by the id in its path, so nothing is estimated.
//!
//! A request `/r/<id>` through the chain A → B → C makes five spans: SERVER A, CLIENT A→B, SERVER B, CLIENT B→C, SERVER C.
//! Which one a span is follows from its kind and its `server.port`, which names the callee for both kinds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::load::GRPC_PREFIX;

/// The kinds that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Server,
    Client,
    Other,
}

/// One received span, as far as the evaluation looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanRec {
    pub trace: [u8; 16],
    pub id: [u8; 8],
    pub parent: Option<[u8; 8]>,
    pub kind: Kind,
    pub name: String,
    pub service: String,
    /// Path without query, of `url.path` or `url.full`, of a gRPC span `/` and `rpc.method`; empty when the span has none.
    pub path: String,
    /// `server.port`, else the port in `url.full`, else 0.
    pub port: u16,
    /// It has `rpc.method`.
    pub grpc: bool,
    /// What is wrong with the name and the attributes of a gRPC span of an answered call.
    pub fault: Option<String>,
}

/// What a span is about: equal for all spans of one request, different for all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum About {
    /// `/r/<id>`, or the method `hop.Chain/<id>`
    Request(String),
    /// `/bg/<service>/<pid>-<n>`, or the method `hop.Chain/bg-<service>-<pid>-<n>`: a call of a program by itself.
    Background(String),
    /// Any other path (warming up).
    Path(String),
    /// No path: a failed connect.
    Nothing,
}

impl SpanRec {
    #[must_use]
    pub fn about(&self) -> About {
        if let Some(id) = self.path.strip_prefix("/r/") {
            About::Request(id.to_owned())
        } else if let Some(rest) = self.path.strip_prefix("/bg/") {
            About::Background(rest.to_owned())
        } else if let Some(id) = self.path.strip_prefix(GRPC_PREFIX) {
            match id.strip_prefix("bg-").and_then(|call| call.split_once('-')) {
                Some((service, number)) => About::Background(format!("{service}/{number}")),
                None if id.starts_with("warm-") => About::Path(self.path.clone()),
                None => About::Request(id.to_owned()),
            }
        } else if self.path.is_empty() {
            About::Nothing
        } else {
            About::Path(self.path.clone())
        }
    }
}

/// Path and port of an absolute URL, or of a bare path.
#[must_use]
pub fn split_url(url: &str) -> (String, Option<u16>) {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None if rest.is_empty() => ("", url),
        None => (rest, "/"),
    };
    let path = path.split(['?', '#']).next().unwrap_or("").to_owned();
    (path, authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()))
}

/// The trace id and the span id of a `traceparent`.
pub type Remote = ([u8; 16], [u8; 8]);

/// What was sent through the chain.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Listening ports of the hops, first to last.
    pub chain: Vec<u16>,
    /// Ids that were answered; for each the remote parent, where the request carried one.
    pub requests: BTreeMap<String, Option<Remote>>,
    /// They are gRPC calls.
    pub grpc: bool,
}

impl Expected {
    /// The spans of one request in order: each is the child of the one before.
    #[must_use]
    pub fn hops(&self) -> Vec<(Kind, u16)> {
        let mut hops = Vec::new();
        for (n, port) in self.chain.iter().enumerate() {
            if n > 0 {
                hops.push((Kind::Client, *port));
            }
            hops.push((Kind::Server, *port));
        }
        hops
    }
}

/// The count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub requests: usize,
    /// Requests whose spans are all there once, in one trace, with exactly the right parents.
    pub complete: usize,
    /// The ids of the others.
    pub incomplete: Vec<String>,
    pub expected_spans: usize,
    /// Distinct expected spans that arrived.
    pub found_spans: usize,
    /// Spans that arrived more than once, or whose id did.
    pub duplicates: usize,
    /// Spans with a parent of another request, of the wrong hop, or in a trace of something else. Each with its reason.
    pub wrong: Vec<String>,
    /// Spans of the requests that are a root though they should have a parent.
    pub unlinked: usize,
    /// Spans whose parent never arrived.
    pub dangling: usize,
    /// Spans of a request at a port or of a kind that is not in the chain.
    pub unexpected: Vec<String>,
    /// Spans of the requests that are gRPC and should not be, or the reverse, or say something wrong.
    pub faulty: Vec<String>,
    /// CLIENT and SERVER spans of background calls, and the SERVER spans among them that hang on their CLIENT span.
    pub background_clients: usize,
    pub background_servers: usize,
    pub background_joined: usize,
    /// Background calls inside the range of numbers seen, without a CLIENT span.
    pub background_missing: usize,
    /// Spans without a path (failed connects).
    pub pathless: usize,
}

impl Report {
    #[must_use]
    pub fn complete_share(&self) -> f64 {
        self.complete as f64 / self.requests.max(1) as f64
    }

    #[must_use]
    pub fn span_share(&self) -> f64 {
        self.found_spans as f64 / self.expected_spans.max(1) as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "complete {}/{}, spans {}/{}, wrong {}, duplicates {}, unlinked {}, dangling {}, unexpected {}, faulty {}, background {} calls {} joined {} missing, pathless {}",
            self.complete,
            self.requests,
            self.found_spans,
            self.expected_spans,
            self.wrong.len(),
            self.duplicates,
            self.unlinked,
            self.dangling,
            self.unexpected.len(),
            self.faulty.len(),
            self.background_clients,
            self.background_joined,
            self.background_missing,
            self.pathless
        )
    }
}

/// A span in a message: enough to find it.
fn describe(span: &SpanRec) -> String {
    format!("{:?} {:?} port {} of {}", span.kind, span.about(), span.port, span.service)
}

/// Counts `spans[from..]`; parents are looked up among all of them.
#[must_use]
pub fn evaluate(spans: &[SpanRec], from: usize, expected: &Expected) -> Report {
    let hops = expected.hops();
    let mut report = Report {
        requests: expected.requests.len(),
        expected_spans: expected.requests.len() * hops.len(),
        ..Report::default()
    };
    let mut by_id: HashMap<[u8; 8], Vec<&SpanRec>> = HashMap::new();
    for span in spans {
        by_id.entry(span.id).or_default().push(span);
    }
    let parent_of = |span: &SpanRec| -> Option<Option<&SpanRec>> {
        let id = span.parent?;
        let found = by_id.get(&id);
        // The right trace first, else any: a parent in another trace is a wrong link.
        Some(found.and_then(|all| all.iter().find(|p| p.trace == span.trace).or(all.first())).copied())
    };

    // Duplicates by id over everything, and by place for the requests.
    let mut ids = HashSet::new();
    for span in &spans[..from] {
        ids.insert((span.trace, span.id));
    }
    let mut places: HashMap<(String, Kind, u16), Vec<&SpanRec>> = HashMap::new();
    let mut background: HashMap<(About, Kind), usize> = HashMap::new();
    let mut numbers: HashMap<(String, u16), Vec<u64>> = HashMap::new();
    for span in &spans[from..] {
        let mut duplicate = !ids.insert((span.trace, span.id));
        let about = span.about();
        match &about {
            About::Request(id) if expected.requests.contains_key(id) => {
                if span.grpc != expected.grpc {
                    let what = if span.grpc { "gRPC" } else { "not gRPC" };
                    report.faulty.push(format!("{} is {what}", describe(span)));
                } else if let Some(fault) = &span.fault {
                    report.faulty.push(format!("{} has {fault}", describe(span)));
                }
                if hops.contains(&(span.kind, span.port)) {
                    let same = places.entry((id.clone(), span.kind, span.port)).or_default();
                    duplicate |= !same.is_empty();
                    same.push(span);
                } else {
                    report.unexpected.push(describe(span));
                }
            }
            // Not answered, or of an earlier round: its links still count below.
            About::Request(_) | About::Path(_) => {}
            About::Background(call) => {
                let seen = background.entry((about.clone(), span.kind)).or_default();
                duplicate |= *seen > 0;
                *seen += 1;
                match span.kind {
                    Kind::Client => {
                        report.background_clients += 1;
                        if let Some((caller, n)) = call.rsplit_once('-')
                            && let Ok(n) = n.parse()
                        {
                            numbers.entry((caller.to_owned(), span.port)).or_default().push(n);
                        }
                    }
                    Kind::Server => report.background_servers += 1,
                    Kind::Other => {}
                }
            }
            About::Nothing => report.pathless += 1,
        }
        report.duplicates += usize::from(duplicate);

        // The link of every span, whatever it is about.
        let hop = hops.iter().position(|h| *h == (span.kind, span.port));
        match (parent_of(span), &about) {
            (None, About::Request(id)) => {
                let remote = expected.requests.get(id).is_some_and(Option::is_some);
                if hop.is_some_and(|h| h > 0) || remote {
                    report.unlinked += 1;
                }
            }
            (None, _) => {}
            (Some(Some(parent)), _) => {
                let right_hop = match &about {
                    About::Request(_) => {
                        hop.is_some_and(|h| h > 0 && hops[h - 1] == (parent.kind, parent.port))
                    }
                    About::Background(_) => span.kind == Kind::Server && parent.kind == Kind::Client,
                    // A failed connect has no path: its parent cannot be checked.
                    About::Nothing | About::Path(_) => true,
                };
                if about != About::Nothing && parent.about() != about {
                    report.wrong.push(format!("{} has the parent {}", describe(span), describe(parent)));
                } else if parent.trace != span.trace {
                    report.wrong.push(format!("{} is in another trace than its parent", describe(span)));
                } else if !right_hop {
                    report.wrong.push(format!(
                        "{} hangs on the wrong hop: {}",
                        describe(span),
                        describe(parent)
                    ));
                } else if matches!(about, About::Background(_)) {
                    report.background_joined += 1;
                }
            }
            (Some(None), About::Request(id)) => {
                let given = expected.requests.get(id).copied().flatten();
                if given != span.parent.map(|parent| (span.trace, parent)) || hop != Some(0) {
                    report.dangling += 1;
                }
            }
            // The CLIENT span of a background call in flight at the end may be missing; a CLIENT span may have no parent.
            (Some(None), About::Background(_)) if span.kind == Kind::Client => {
                report.wrong.push(format!("{} has a parent that never arrived", describe(span)));
            }
            (Some(None), _) => report.dangling += 1,
        }
    }

    // One trace is about one thing, also where the link itself was lost.
    let mut traces: HashMap<[u8; 16], About> = HashMap::new();
    let mut linked_wrong: HashSet<[u8; 16]> = HashSet::new();
    for (at, span) in spans.iter().enumerate() {
        let about = span.about();
        if about == About::Nothing {
            continue;
        }
        let first = traces.entry(span.trace).or_insert_with(|| about.clone());
        // A linked span was judged by its parent above; this is for those without a parent that arrived.
        let judged = matches!(parent_of(span), Some(Some(_)));
        if at >= from && *first != about && !judged && linked_wrong.insert(span.trace) {
            report.wrong.push(format!("{} shares its trace with {first:?}", describe(span)));
        }
    }

    for (id, given) in &expected.requests {
        let mut complete = true;
        let mut above: Option<&SpanRec> = None;
        for (n, (kind, port)) in hops.iter().enumerate() {
            let Some(here) = places.get(&(id.clone(), *kind, *port)) else {
                complete = false;
                above = None;
                continue;
            };
            report.found_spans += 1;
            let span = here[0];
            complete &= here.len() == 1;
            complete &= match (n, above) {
                (0, _) => match given {
                    None => span.parent.is_none(),
                    Some((trace, parent)) => span.trace == *trace && span.parent == Some(*parent),
                },
                (_, Some(above)) => span.parent == Some(above.id) && span.trace == above.trace,
                (_, None) => false,
            };
            above = Some(span);
        }
        if complete {
            report.complete += 1;
        } else {
            report.incomplete.push(id.clone());
        }
    }
    for seen in numbers.values_mut() {
        seen.sort_unstable();
        seen.dedup();
        if let (Some(first), Some(last)) = (seen.first(), seen.last()) {
            report.background_missing += (last - first + 1) as usize - seen.len();
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: [u16; 3] = [1001, 1002, 1003];

    fn id8(n: u64) -> [u8; 8] {
        n.to_be_bytes()
    }

    fn trace(n: u128) -> [u8; 16] {
        n.to_be_bytes()
    }

    fn span(t: u128, id: u64, parent: u64, kind: Kind, path: &str, port: u16) -> SpanRec {
        SpanRec {
            trace: trace(t),
            id: id8(id),
            parent: (parent != 0).then(|| id8(parent)),
            kind,
            name: "GET".into(),
            service: "test".into(),
            path: path.into(),
            port,
            grpc: false,
            fault: None,
        }
    }

    /// The five right spans of request `n`, with the span ids `10n+1` to `10n+5`.
    fn request(n: u64) -> Vec<SpanRec> {
        let path = format!("/r/t-{n}");
        let place = [
            (Kind::Server, CHAIN[0]),
            (Kind::Client, CHAIN[1]),
            (Kind::Server, CHAIN[1]),
            (Kind::Client, CHAIN[2]),
            (Kind::Server, CHAIN[2]),
        ];
        place
            .iter()
            .zip(1..)
            .map(|((kind, port), i)| {
                let parent = if i == 1 { 0 } else { 10 * n + i - 1 };
                span(u128::from(n), 10 * n + i, parent, *kind, &path, *port)
            })
            .collect()
    }

    fn background(n: u64, parent: u64) -> Vec<SpanRec> {
        let path = format!("/bg/A/77-{n}");
        let t = 10_000 + u128::from(n);
        vec![
            span(t, 100_000 + 10 * n, parent, Kind::Client, &path, CHAIN[1]),
            span(t, 100_001 + 10 * n, 100_000 + 10 * n, Kind::Server, &path, CHAIN[1]),
        ]
    }

    fn expected(count: u64) -> Expected {
        Expected {
            chain: CHAIN.to_vec(),
            requests: (1..=count).map(|n| (format!("t-{n}"), None)).collect(),
            grpc: false,
        }
    }

    #[test]
    fn right_spans_in_any_order_are_complete() {
        let mut spans: Vec<_> =
            (1..=3).flat_map(request).chain(background(1, 0)).chain(background(2, 0)).collect();
        spans.reverse();
        let report = evaluate(&spans, 0, &expected(3));
        assert_eq!(
            report,
            Report {
                requests: 3,
                complete: 3,
                expected_spans: 15,
                found_spans: 15,
                background_clients: 2,
                background_servers: 2,
                background_joined: 2,
                ..Report::default()
            }
        );
    }

    #[test]
    fn a_lost_span_is_a_missing_span_and_a_dangling_child_but_no_wrong_link() {
        let mut spans: Vec<_> = (1..=2).flat_map(request).collect();
        spans.remove(2); // SERVER B of request 1
        let report = evaluate(&spans, 0, &expected(2));
        assert_eq!((report.complete, report.found_spans, report.dangling, report.wrong.len()), (1, 9, 1, 0));
    }

    #[test]
    fn nothing_received_is_nothing_complete() {
        let report = evaluate(&[], 0, &expected(2));
        assert_eq!((report.complete, report.found_spans, report.expected_spans), (0, 0, 10));
    }

    #[test]
    fn a_call_on_the_request_of_another_is_a_wrong_link() {
        let mut spans: Vec<_> = (1..=2).flat_map(request).collect();
        // CLIENT A of request 2 and what follows land in request 1.
        for span in &mut spans[6..] {
            span.trace = trace(1);
        }
        spans[6].parent = Some(id8(11));
        let report = evaluate(&spans, 0, &expected(2));
        assert_eq!((report.complete, report.wrong.len(), report.found_spans), (1, 1, 10));
    }

    #[test]
    fn swapped_parents_of_two_requests_are_two_wrong_links() {
        let mut spans: Vec<_> = (1..=2).flat_map(request).collect();
        (spans[3].parent, spans[8].parent) = (spans[8].parent, spans[3].parent);
        let report = evaluate(&spans, 0, &expected(2));
        assert_eq!((report.complete, report.wrong.len()), (0, 2));
    }

    #[test]
    fn a_background_call_on_a_request_is_a_wrong_link() {
        let mut spans = request(1);
        let mut call = background(1, 11);
        for span in &mut call {
            span.trace = trace(1);
        }
        spans.extend(call);
        let report = evaluate(&spans, 0, &expected(1));
        assert_eq!((report.complete, report.wrong.len()), (1, 1));
    }

    #[test]
    fn a_call_of_a_request_on_a_background_call_is_a_wrong_link() {
        let mut spans = request(1);
        spans.extend(background(1, 0));
        spans[1].parent = Some(id8(100_010));
        let report = evaluate(&spans, 0, &expected(1));
        assert_eq!((report.complete, report.wrong.len()), (0, 1));
    }

    #[test]
    fn a_background_call_with_a_parent_that_never_came_is_a_wrong_link() {
        let mut spans = request(1);
        spans.extend(background(1, 999));
        assert_eq!(evaluate(&spans, 0, &expected(1)).wrong.len(), 1);
    }

    #[test]
    fn the_wrong_hop_of_the_same_request_is_a_wrong_link() {
        let mut spans = request(1);
        spans[4].parent = Some(id8(12)); // SERVER C on CLIENT A
        let report = evaluate(&spans, 0, &expected(1));
        assert_eq!((report.complete, report.wrong.len()), (0, 1));
    }

    #[test]
    fn two_requests_in_one_trace_are_wrong_even_without_a_link() {
        let mut spans: Vec<_> = (1..=2).flat_map(request).collect();
        for span in &mut spans[5..] {
            span.trace = trace(1);
        }
        let report = evaluate(&spans, 0, &expected(2));
        assert_eq!((report.complete, report.wrong.len()), (2, 1));
    }

    #[test]
    fn a_parent_in_another_trace_is_a_wrong_link() {
        let mut spans = request(1);
        spans[2].trace = trace(50);
        let report = evaluate(&spans, 0, &expected(1));
        // SERVER B left its parent's trace, CLIENT B's parent is in another trace than itself.
        assert_eq!((report.complete, report.wrong.len()), (0, 2));
    }

    #[test]
    fn a_root_in_the_middle_is_unlinked_not_wrong() {
        let mut spans = request(1);
        spans[3].parent = None;
        for span in &mut spans[3..] {
            span.trace = trace(60);
        }
        let report = evaluate(&spans, 0, &expected(1));
        assert_eq!((report.complete, report.unlinked, report.wrong.len(), report.found_spans), (0, 1, 0, 5));
    }

    #[test]
    fn duplicates_count_by_place_and_by_id() {
        let mut spans = request(1);
        spans.push(spans[1].clone());
        let mut again = spans[4].clone();
        again.id = id8(777);
        spans.push(again);
        let report = evaluate(&spans, 0, &expected(1));
        assert_eq!((report.complete, report.duplicates, report.found_spans), (0, 2, 5));
        let mut spans = request(1);
        spans.extend(background(1, 0));
        spans.extend(background(1, 0));
        assert_eq!(evaluate(&spans, 0, &expected(1)).duplicates, 2);
    }

    #[test]
    fn a_span_at_a_port_outside_the_chain_is_unexpected() {
        let mut spans = request(1);
        spans.push(span(1, 900, 0, Kind::Client, "/r/t-1", CHAIN[0]));
        let report = evaluate(&spans, 0, &expected(1));
        assert_eq!((report.complete, report.unexpected.len()), (1, 1));
    }

    #[test]
    fn a_given_traceparent_must_be_the_parent_of_the_first_span() {
        let mut want = expected(2);
        want.requests.insert("t-1".into(), Some((trace(1), id8(5000))));
        want.requests.insert("t-2".into(), Some((trace(2), id8(5001))));
        let mut spans: Vec<_> = (1..=2).flat_map(request).collect();
        spans[0].parent = Some(id8(5000));
        let report = evaluate(&spans, 0, &want);
        assert_eq!((report.complete, report.unlinked, report.dangling), (1, 1, 0));
        spans[5].parent = Some(id8(5002));
        let report = evaluate(&spans, 0, &want);
        assert_eq!((report.complete, report.dangling), (1, 1));
    }

    #[test]
    fn parents_of_an_earlier_round_are_known_but_not_counted() {
        let mut spans = request(1);
        spans.extend(request(2));
        spans[5].parent = Some(id8(11));
        spans[5].trace = trace(1);
        let mut want = expected(0);
        want.requests.insert("t-2".into(), None);
        let report = evaluate(&spans, 5, &want);
        // SERVER A hangs on a span of the earlier round, CLIENT A's parent is in another trace.
        assert_eq!((report.requests, report.complete, report.wrong.len(), report.duplicates), (1, 0, 2, 0));
    }

    #[test]
    fn gaps_in_the_numbers_of_a_background_caller_are_missing_calls() {
        let spans: Vec<_> = [1, 2, 5].into_iter().flat_map(|n| background(n, 0)).collect();
        assert_eq!(evaluate(&spans, 0, &expected(0)).background_missing, 2);
    }

    #[test]
    fn warming_up_may_not_be_a_parent_of_a_request() {
        let mut spans = request(1);
        spans.push(span(1, 800, 0, Kind::Server, "/warm/1", CHAIN[0]));
        spans[1].parent = Some(id8(800));
        assert!(!evaluate(&spans, 0, &expected(1)).wrong.is_empty());
    }

    #[test]
    fn methods_have_the_id_as_paths_have_it() {
        let about = |path: &str| span(1, 1, 0, Kind::Server, path, 1).about();
        assert_eq!(about("/hop.Chain/t-1"), About::Request("t-1".into()));
        assert_eq!(about("/hop.Chain/bg-A-77-5"), about("/bg/A/77-5"));
        assert_eq!(about("/hop.Chain/warm-1"), About::Path("/hop.Chain/warm-1".into()));
        assert_eq!(about("//hop.Chain/t-1"), About::Path("//hop.Chain/t-1".into()));
    }

    #[test]
    fn spans_of_calls_must_be_grpc_and_say_it_right() {
        let mut spans = request(1);
        for span in &mut spans {
            (span.path, span.grpc) = ("/hop.Chain/t-1".into(), true);
        }
        let mut want = expected(1);
        assert_eq!(evaluate(&spans, 0, &want).faulty.len(), 5);
        want.grpc = true;
        let report = evaluate(&spans, 0, &want);
        assert_eq!((report.complete, report.faulty.len()), (1, 0));
        spans[0].grpc = false;
        spans[1].fault = Some("no status".into());
        assert_eq!(evaluate(&spans, 0, &want).faulty.len(), 2);
    }

    #[test]
    fn urls_split_into_path_and_port() {
        assert_eq!(split_url("http://127.0.0.1:8080/r/1?x=/y"), ("/r/1".into(), Some(8080)));
        assert_eq!(split_url("http://[::1]:81/r/1#f"), ("/r/1".into(), Some(81)));
        assert_eq!(split_url("http://host"), ("/".into(), None));
        assert_eq!(split_url("/bg/A/1"), ("/bg/A/1".into(), None));
    }
}
