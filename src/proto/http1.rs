//! What a span needs from the head of an HTTP/1 request, as far as the head was captured.
//!
//! The kernel side has framed the message already; here a head may be cut short, and it may hold
//! anything: whatever cannot be read is left empty.

use std::borrow::Cow;

/// Headers looked at; a head with more still yields its first line.
const HEADERS_MAX: usize = 100;

/// The parts of a request head that end up in a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// The method token.
    pub method: String,
    /// Path of the target, without query.
    pub path: String,
    /// Query without its `?`.
    pub query: Option<String>,
    /// Authority of an absolute-form target or CONNECT, else `Host`.
    pub host: Option<String>,
    /// `http` unless an absolute-form target says otherwise.
    pub https: bool,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// Minor version.
    pub minor_version: u8,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl RequestHead {
    /// Reads a head, or the beginning of one.
    #[must_use]
    pub fn parse(head: &[u8]) -> Self {
        let complete = whole_lines(head);
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(&complete).is_ok();
        let (method, target, minor) = match (request.method, request.path, request.version) {
            (Some(method), Some(target), Some(minor)) => (method.as_bytes(), target.as_bytes(), minor),
            _ => first_line(head),
        };
        let mut out = Self { method: text(method), minor_version: minor, ..Self::default() };
        out.set_target(method, target);
        let headers: &[httparse::Header<'_>] = if parsed { request.headers } else { &[] };
        for header in headers {
            if header.name.eq_ignore_ascii_case("host") {
                out.host.get_or_insert_with(|| text(header.value));
            } else if header.name.eq_ignore_ascii_case("user-agent") {
                out.user_agent.get_or_insert_with(|| text(header.value));
            }
        }
        out
    }

    /// RFC 9112 3.2: origin-form, absolute-form, authority-form (CONNECT) or `*`.
    fn set_target(&mut self, method: &[u8], target: &[u8]) {
        let mut rest = target;
        if method == b"CONNECT" {
            self.host = Some(text(target));
            return;
        }
        if let Some((scheme, after)) = absolute(target) {
            let end = after.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(after.len());
            let (authority, path) = after.split_at(end);
            self.host = Some(text(authority));
            self.https = scheme.eq_ignore_ascii_case(b"https");
            rest = if path.is_empty() { b"/" } else { path };
        }
        match rest.iter().position(|b| *b == b'?') {
            Some(at) => {
                self.path = text(rest.get(..at).unwrap_or_default());
                self.query = Some(text(rest.get(at + 1..).unwrap_or_default()));
            }
            None => self.path = text(rest),
        }
    }
}

/// Scheme (RFC 3986 3.1) of an absolute-form target, and what follows its `://`.
fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = target.iter().position(|b| !(b.is_ascii_alphanumeric() || b"+-.".contains(b)))?;
    let (scheme, rest) = target.split_at(end);
    let after = rest.strip_prefix(b"://")?;
    scheme.first()?.is_ascii_alphabetic().then_some((scheme, after))
}

/// The captured lines that are whole, closed like a complete head.
fn whole_lines(head: &[u8]) -> Cow<'_, [u8]> {
    if head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n") {
        return Cow::Borrowed(head);
    }
    let end = head.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let mut whole = head.get(..end).unwrap_or_default().to_vec();
    whole.extend_from_slice(b"\r\n");
    Cow::Owned(whole)
}

/// A first line that httparse refuses: split at its spaces.
fn first_line(head: &[u8]) -> (&[u8], &[u8], u8) {
    let line = head.split(|b| *b == b'\r' || *b == b'\n').next().unwrap_or_default();
    let mut words = line.splitn(2, |b| *b == b' ');
    let method = words.next().unwrap_or_default();
    let rest = words.next().unwrap_or_default();
    let (target, version) = match rest.iter().rposition(|b| *b == b' ') {
        Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default()),
        None => (rest, rest.get(rest.len()..).unwrap_or_default()),
    };
    (method, target, u8::from(version != b"HTTP/1.0"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn origin_form_with_query() {
        let head = RequestHead::parse(
            b"GET /a/b?x=1&y=?2 HTTP/1.1\r\nHost: shop:8080\r\nUser-Agent: curl/8\r\n\r\n",
        );
        assert_eq!(head.method, "GET");
        assert_eq!(head.path, "/a/b");
        assert_eq!(head.query.as_deref(), Some("x=1&y=?2"));
        assert_eq!(head.host.as_deref(), Some("shop:8080"));
        assert_eq!(head.user_agent.as_deref(), Some("curl/8"));
        assert_eq!(head.minor_version, 1);
    }

    #[test]
    fn absolute_form_names_the_host() {
        let head = RequestHead::parse(b"GET HTTP://api.example:81?q HTTP/1.0\r\nHost: other\r\n\r\n");
        assert_eq!(head.host.as_deref(), Some("api.example:81"));
        assert_eq!(head.path, "");
        assert_eq!(head.query.as_deref(), Some("q"));
        assert_eq!(head.minor_version, 0);
        assert!(RequestHead::parse(b"GET https://a HTTP/1.1\r\n\r\n").https);
        let other = RequestHead::parse(b"GET ftp://me:secret@files/a HTTP/1.1\r\nHost: files\r\n\r\n");
        assert_eq!((other.path.as_str(), other.host.as_deref()), ("/a", Some("me:secret@files")));
        assert_eq!(RequestHead::parse(b"GET /a://b HTTP/1.1\r\n\r\n").path, "/a://b");
    }

    #[test]
    fn the_other_forms() {
        assert_eq!(RequestHead::parse(b"OPTIONS * HTTP/1.1\r\n\r\n").path, "*");
        let connect = RequestHead::parse(b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n");
        assert_eq!((connect.path.as_str(), connect.host.as_deref()), ("", Some("db:5432")));
    }

    #[test]
    fn a_head_cut_short_keeps_what_is_whole() {
        let head = RequestHead::parse(b"PURGE /x HTTP/1.1\r\nHost: a\r\nCookie: aaaaaaaaaa");
        assert_eq!((head.method.as_str(), head.path.as_str()), ("PURGE", "/x"));
        assert_eq!(head.host.as_deref(), Some("a"));
        let long = RequestHead::parse(b"GET /an/endless/pa");
        assert_eq!((long.method.as_str(), long.path.as_str()), ("GET", "/an/endless/pa"));
    }

    #[test]
    fn what_httparse_refuses_still_has_a_first_line() {
        let head = RequestHead::parse(b"GET /a b\xff HTTP/1.1\r\n\x00: x\r\n\r\n");
        assert_eq!(head.method, "GET");
        assert_eq!(head.path, "/a b\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _any = RequestHead::parse(&bytes);
        }

        #[test]
        fn any_cut_of_a_head(cut in 0_usize..80) {
            let whole = b"GET /path?query HTTP/1.1\r\nHost: example.org\r\nUser-Agent: x\r\n\r\n";
            let head = RequestHead::parse(&whole[..cut.min(whole.len())]);
            prop_assert!(b"GET".starts_with(head.method.as_bytes()));
            prop_assert!(b"/path".starts_with(head.path.as_bytes()));
            prop_assert!(head.host.is_none_or(|host| host == "example.org"));
        }
    }
}
