//! What a span needs from decompressed header blocks.
//!
//! A field whose name went by unseen says nothing; one whose value did leaves its place empty.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::hpack::Field;

/// Longest text kept, in bytes.
const TEXT_MAX: usize = 4096;

/// Longest sequence of UTF-8.
const CHAR_MAX: usize = 4;

/// What a span needs of a request's header block.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RequestFields {
    /// `:method`.
    pub method: Option<String>,
    /// `:scheme`.
    pub scheme: Option<String>,
    /// `:authority`, else `host`.
    pub authority: Option<String>,
    /// `:path`, without query.
    pub path: Option<String>,
    /// Query without its `?`.
    pub query: Option<String>,
    /// `user-agent`.
    pub user_agent: Option<String>,
    /// `content-type`.
    pub content_type: Option<String>,
    /// `grpc-timeout`, in nanoseconds.
    pub grpc_timeout_ns: Option<u64>,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub protocol: Option<String>,
}

/// What a span needs of a response's blocks: headers and trailers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ResponseFields {
    /// `:status`: the final one, if it has been seen.
    pub status: Option<u16>,
    /// `content-type`.
    pub content_type: Option<String>,
    /// `grpc-status`.
    pub grpc_status: Option<u32>,
    /// `grpc-message`, percent-decoded.
    pub grpc_message: Option<String>,
}

impl RequestFields {
    /// Keeps what a span needs; of a field that is repeated, the first.
    pub fn take(&mut self, field: Field<'_>) {
        let (Some(name), Some(value)) = (field.name, field.value) else { return };
        match name.as_ref() {
            // Wins over `host`, though it should stand before it.
            b":authority" => self.authority = Some(text(&value)),
            b"host" => keep(&mut self.authority, &value),
            b":method" => keep(&mut self.method, &value),
            b":scheme" => keep(&mut self.scheme, &value),
            b":protocol" => keep(&mut self.protocol, &value),
            b":path" if self.path.is_none() => {
                let mut parts = value.splitn(2, |b| *b == b'?');
                self.path = parts.next().map(text);
                self.query = parts.next().map(text);
            }
            b"user-agent" => keep(&mut self.user_agent, &value),
            b"content-type" => keep(&mut self.content_type, &value),
            b"grpc-timeout" => self.grpc_timeout_ns = self.grpc_timeout_ns.or_else(|| timeout_ns(&value)),
            _ => {}
        }
    }

    /// A call of gRPC; gRPC-Web is not, it is plain HTTP.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        const GRPC: &[u8] = b"application/grpc";
        let media_type = self.content_type.as_deref().unwrap_or_default().as_bytes();
        media_type.split_at_checked(GRPC.len()).is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';'))
        })
    }
}

impl ResponseFields {
    /// Keeps what a span needs, of headers and trailers alike.
    pub fn take(&mut self, field: Field<'_>) {
        let (Some(name), Some(value)) = (field.name, field.value) else { return };
        match name.as_ref() {
            b":status" => {
                let status = status(&value);
                // 103 behind 200 is no answer.
                if status.is_some_and(is_final) || !self.status.is_some_and(is_final) {
                    self.status = status.or(self.status);
                }
            }
            b"content-type" => keep(&mut self.content_type, &value),
            b"grpc-status" => self.grpc_status = number(&value).or(self.grpc_status),
            b"grpc-message" => self.grpc_message = Some(text(&Cow::from(percent_decode(&value)))),
            _ => {}
        }
    }
}

fn keep(place: &mut Option<String>, value: &[u8]) {
    place.get_or_insert_with(|| text(value));
}

/// Lossy, and cut to [`TEXT_MAX`].
fn text(bytes: &[u8]) -> String {
    // A little more is read than kept, so that no character is lost for being cut.
    let read = bytes.get(..TEXT_MAX + CHAR_MAX - 1).unwrap_or(bytes);
    let mut text = String::from_utf8_lossy(read).into_owned();
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
    }
    text
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    // `parse` alone would take a sign.
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

fn status(value: &[u8]) -> Option<u16> {
    if value.len() == 3 { number(value).filter(|status| *status >= 100) } else { None }
}

const fn is_final(status: u16) -> bool {
    status >= 200
}

/// gRPC over HTTP/2: up to 8 digits and a unit. What no clock can count to is cut to the end of time.
fn timeout_ns(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    let unit_ns: u64 = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    };
    if digits.len() > 8 {
        return None;
    }
    number::<u64>(digits).map(|units| units.saturating_mul(unit_ns))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field<'a>(name: &'a str, value: &'a [u8]) -> Field<'a> {
        Field { name: Some(name.as_bytes().into()), value: Some(value.into()) }
    }

    fn request(fields: &[(&str, &str)]) -> RequestFields {
        let mut out = RequestFields::default();
        for (name, value) in fields {
            out.take(field(name, value.as_bytes()));
        }
        out
    }

    fn response(fields: &[(&str, &str)]) -> ResponseFields {
        let mut out = ResponseFields::default();
        for (name, value) in fields {
            out.take(field(name, value.as_bytes()));
        }
        out
    }

    #[test]
    fn a_request() {
        let taken = request(&[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "shop:8443"),
            (":path", "/a/b?x=1&y=?2"),
            ("host", "other"),
            ("user-agent", "grpc-go/1.70"),
            ("content-type", "application/grpc"),
            ("cookie", "secret"),
            ("grpc-timeout", "250m"),
        ]);
        let wanted = RequestFields {
            method: Some("POST".into()),
            scheme: Some("https".into()),
            authority: Some("shop:8443".into()),
            path: Some("/a/b".into()),
            query: Some("x=1&y=?2".into()),
            user_agent: Some("grpc-go/1.70".into()),
            content_type: Some("application/grpc".into()),
            grpc_timeout_ns: Some(250_000_000),
            protocol: None,
        };
        assert_eq!(taken, wanted);
    }

    #[test]
    fn authority_wins_over_host() {
        assert_eq!(request(&[("host", "a")]).authority.as_deref(), Some("a"));
        assert_eq!(request(&[("host", "a"), (":authority", "b")]).authority.as_deref(), Some("b"));
        assert_eq!(request(&[(":authority", "b"), ("host", "a")]).authority.as_deref(), Some("b"));
    }

    #[test]
    fn paths() {
        let plain = request(&[(":path", "*"), (":path", "/b?c")]);
        assert_eq!((plain.path.as_deref(), plain.query), (Some("*"), None));
        let empty = request(&[(":path", "/?")]);
        assert_eq!((empty.path.as_deref(), empty.query.as_deref()), (Some("/"), Some("")));
        let socket = request(&[(":method", "CONNECT"), (":protocol", "websocket"), (":path", "/chat")]);
        assert_eq!(socket.protocol.as_deref(), Some("websocket"));
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let mut taken = request(&[(":method", "GET")]);
        taken.take(Field { name: None, value: Some(b"/secret"[..].into()) });
        taken.take(Field { name: Some(b":path"[..].into()), value: None });
        taken.take(Field { name: None, value: None });
        assert_eq!(taken, request(&[(":method", "GET")]));
        let mut taken = response(&[]);
        taken.take(Field { name: Some(b":status"[..].into()), value: None });
        taken.take(Field { name: None, value: Some(b"200"[..].into()) });
        assert_eq!(taken, ResponseFields::default());
    }

    #[test]
    fn grpc_by_its_media_type() {
        for (media_type, wanted) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("Application/GRPC", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(request(&[("content-type", media_type)]).is_grpc(), wanted, "{media_type}");
        }
        assert!(!RequestFields::default().is_grpc());
    }

    #[test]
    fn timeouts() {
        for (value, wanted) in [
            ("1H", Some(3_600_000_000_000)),
            ("2M", Some(120_000_000_000)),
            ("3S", Some(3_000_000_000)),
            ("4m", Some(4_000_000)),
            ("5u", Some(5_000)),
            ("99999999n", Some(99_999_999)),
            ("99999999H", Some(u64::MAX)),
            ("0S", Some(0)),
            ("100000000n", None),
            ("S", None),
            ("", None),
            ("5", None),
            ("5s", None),
            ("+5S", None),
            ("-5S", None),
            ("5 S", None),
        ] {
            assert_eq!(request(&[("grpc-timeout", value)]).grpc_timeout_ns, wanted, "{value}");
        }
    }

    #[test]
    fn a_response_with_trailers() {
        let taken = response(&[
            (":status", "103"),
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "13"),
            ("grpc-message", "50%25 of caf%C3%A9 %zz"),
        ]);
        let wanted = ResponseFields {
            status: Some(200),
            content_type: Some("application/grpc".into()),
            grpc_status: Some(13),
            grpc_message: Some("50% of café %zz".into()),
        };
        assert_eq!(taken, wanted);
    }

    #[test]
    fn statuses() {
        for (values, wanted) in [
            (&["100"][..], Some(100)),
            (&["100", "103"], Some(103)),
            (&["404", "103"], Some(404)),
            (&["200", "500"], Some(500)),
            (&["200", "5000", "", "abc", "+12", "099"], Some(200)),
            (&["099", "20"], None),
        ] {
            let fields: Vec<_> = values.iter().map(|value| (":status", *value)).collect();
            assert_eq!(response(&fields).status, wanted, "{values:?}");
        }
        let last = response(&[("grpc-status", "0"), ("grpc-status", "14"), ("grpc-status", "x")]);
        assert_eq!(last.grpc_status, Some(14));
        assert_eq!(response(&[("grpc-status", "4294967296")]).grpc_status, None);
        assert_eq!(response(&[("grpc-status", "")]).grpc_status, None);
    }

    #[test]
    fn texts_are_utf_8_and_end() {
        let mut taken = RequestFields::default();
        taken.take(field(":path", b"/\xff?\xff"));
        assert_eq!((taken.path.as_deref(), taken.query.as_deref()), (Some("/\u{fffd}"), Some("\u{fffd}")));
        assert_eq!(text(&[b'a'; TEXT_MAX + 1]).len(), TEXT_MAX);
        assert_eq!(text(&[0xff; TEXT_MAX]).len(), TEXT_MAX / 3 * 3);
        for before in TEXT_MAX - 4..TEXT_MAX {
            let long = "a".repeat(before) + "\u{1f980}\u{1f980}";
            let cut = text(long.as_bytes());
            assert!(long.starts_with(&cut) && cut.len() > TEXT_MAX - 4, "{before}");
        }
    }

    proptest! {
        #[test]
        fn any_field(name in proptest::sample::select(vec![
            ":method", ":scheme", ":authority", ":path", ":protocol", ":status", "host", "user-agent",
            "content-type", "grpc-timeout", "grpc-status", "grpc-message",
        ]), value in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let mut request = RequestFields::default();
            request.take(field(name, &value));
            let _grpc = request.is_grpc();
            let mut response = ResponseFields::default();
            response.take(field(name, &value));
            for text in [request.path, request.query, request.authority, response.grpc_message] {
                prop_assert!(text.unwrap_or_default().len() <= TEXT_MAX);
            }
        }
    }
}
