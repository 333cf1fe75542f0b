//! Values on their way into the model: text from the environment and from flags takes the type of
//! its key, and YAML may say a thing in more than one way, as Go's does.

use figment::value::{Dict, Value};

use super::keys::Kind;
use super::types::Span;

/// `value` as the model wants it for a key of that kind. What does not fit stays as it is: the model
/// refuses it with the reason.
pub(super) fn coerced(kind: Kind, value: Value) -> Value {
    match (kind, value) {
        (Kind::Text, Value::Num(tag, num)) => Value::String(tag, number(&Value::Num(tag, num))),
        (Kind::Text, Value::Bool(tag, flag)) => Value::String(tag, flag.to_string()),
        (Kind::Text, Value::Char(tag, c)) => Value::String(tag, c.to_string()),
        (Kind::Bool, Value::String(tag, text)) => match boolean(&text) {
            Some(flag) => Value::Bool(tag, flag),
            None => Value::String(tag, text),
        },
        // In Go 1 is true where it is text, as in an environment variable.
        (Kind::Int, Value::String(tag, text)) => match text.trim().parse::<i64>() {
            Ok(number) => Value::Num(tag, number.into()),
            Err(_) => Value::String(tag, text),
        },
        (Kind::Millis, Value::String(tag, text)) => {
            let plain = text.trim().parse::<u64>().ok();
            let millis = || u64::try_from(text.parse::<Span>().ok()?.0.as_millis()).ok();
            match plain.or_else(millis) {
                Some(millis) => Value::Num(tag, millis.into()),
                None => Value::String(tag, text),
            }
        }
        (Kind::List, Value::String(tag, text)) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Value::Array(tag, parts.map(Value::from).collect())
        }
        (_, value) => value,
    }
}

/// As Go's `strconv.ParseBool`, and YAML 1.1's words for it.
fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "y" | "yes" | "on" => Some(true),
        "0" | "f" | "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn number(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Whether YAML says nothing here: no value, or empty text, which is Go's zero value.
pub(super) fn is_unset(value: &Value) -> bool {
    match value {
        Value::Empty(..) => true,
        Value::String(_, text) => text.is_empty(),
        _ => false,
    }
}

/// Whether a value switches something off or leaves it alone, all the way down.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Bool(_, flag) => !flag,
        Value::Num(..) => value.to_u128() == Some(0) || value.to_i128() == Some(0),
        Value::String(_, text) => is_nothing_text(text),
        Value::Array(_, parts) => parts.iter().all(is_nothing),
        Value::Dict(_, dict) => dict.values().all(is_nothing),
        Value::Empty(..) => true,
        Value::Char(..) => false,
    }
}

/// The same, of the text of an environment variable.
pub(super) fn is_nothing_text(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "" | "0" | "0s" | "false" | "disabled" | "off" | "none")
}

/// The dictionary that has `value` at `path`.
pub(super) fn nested(path: &str, value: Value) -> Dict {
    let (first, value) = match path.split_once('.') {
        Some((first, rest)) => (first, Value::from(nested(rest, value))),
        None => (path, value),
    };
    Dict::from([(first.to_owned(), value)])
}

/// For messages: text as it is, the rest as JSON.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => text.clone(),
        Value::Empty(..) => String::new(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_takes_the_type_of_its_key() {
        let of = |kind, text: &str| shown(&coerced(kind, Value::from(text)));
        for yes in ["true", "1", "T", "YES", "on"] {
            assert_eq!(coerced(Kind::Bool, Value::from(yes)).to_bool(), Some(true), "{yes}");
        }
        assert_eq!(coerced(Kind::Bool, Value::from("2")).to_bool(), None);
        assert_eq!(of(Kind::List, "http, sql,"), r#"["http","sql"]"#);
        assert_eq!(coerced(Kind::Int, Value::from(" 80 ")).to_i128(), Some(80));
        assert_eq!(coerced(Kind::Millis, Value::from("1m")).to_u128(), Some(60_000));
        assert_eq!(coerced(Kind::Millis, Value::from("250")).to_u128(), Some(250));
        assert_eq!(of(Kind::Millis, "soon"), "soon");
        assert_eq!(shown(&coerced(Kind::Text, Value::from(0.25))), "0.25");
        assert_eq!(coerced(Kind::Text, Value::from(12)).as_str(), Some("12"));
        assert_eq!(coerced(Kind::Text, Value::from(true)).as_str(), Some("true"));
    }

    #[test]
    fn switched_off_is_nothing() {
        let nothing = |text: &str| is_nothing(&serde_saphyr::from_str::<Value>(text).unwrap());
        for text in ["{enabled: false}", "[]", "{a: {b: '', c: 0}}", "disabled"] {
            assert!(nothing(text), "{text}");
        }
        for text in ["{enabled: true}", "[a]", "1", "path"] {
            assert!(!nothing(text), "{text}");
        }
    }
}
