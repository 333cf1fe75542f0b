//! `${VAR}`, `$(VAR)`, `${env:VAR}`, `${VAR:-default}` in a configuration file.
//!
//! A dollar before a reference makes it plain text: `$${VAR}` is `${VAR}`. Other dollars stay, alone
//! or in pairs, so that patterns and passwords need no escaping.

/// Replaces references to the environment in a text. What is no reference stays as it is, and so do
/// lines that are comments. Names that `lookup` does not know and that have no default become
/// nothing and are told to `missing`.
#[must_use]
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>, mut missing: impl FnMut(&str)) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('#') {
            out.push_str(line);
        } else {
            expand_line(line, &lookup, &mut missing, &mut out);
        }
    }
    out
}

fn expand_line(
    line: &str,
    lookup: &impl Fn(&str) -> Option<String>,
    missing: &mut impl FnMut(&str),
    out: &mut String,
) {
    let mut rest = line;
    while let Some(at) = rest.find('$') {
        let (before, from_dollar) = rest.split_at(at);
        out.push_str(before);
        let escaped = from_dollar.strip_prefix('$').and_then(|second| Some((second, reference(second)?)));
        if let Some((second, found)) = escaped {
            out.push_str(second.strip_suffix(found.after).unwrap_or(second));
            rest = found.after;
        } else if let Some(found) = reference(from_dollar) {
            match (lookup(found.name), found.default) {
                (Some(value), None) => out.push_str(&value),
                (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
                (_, Some(default)) => out.push_str(default),
                (None, None) => missing(found.name),
            }
            rest = found.after;
        } else {
            out.push('$');
            rest = from_dollar.strip_prefix('$').unwrap_or_default();
        }
    }
    out.push_str(rest);
}

struct Reference<'t> {
    name: &'t str,
    default: Option<&'t str>,
    after: &'t str,
}

/// The reference that `text` starts with.
fn reference(text: &str) -> Option<Reference<'_>> {
    let (inner, close) = match text.strip_prefix("${") {
        Some(inner) => (inner, '}'),
        None => (text.strip_prefix("$(")?, ')'),
    };
    let (body, after) = inner.split_once(close)?;
    let body = body.strip_prefix("env:").unwrap_or(body);
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name =
        !name.is_empty() && name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then_some(Reference { name, default, after })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn expanded(text: &str) -> String {
        expand(text, env, |_| ())
    }

    #[test]
    fn references_are_replaced() {
        let table = [
            ("x: ${A} $(A) ${env:A} $(env:A)", "x: 1 1 1 1"),
            ("${NO:-d} ${EMPTY:-d} ${A:-d} ${NO}|${EMPTY}", "d d 1 |"),
            ("${NO:-} ${NO:-a b:-c}", " a b:-c"),
            ("$${A} $$(A) $$${A}", "${A} $(A) $${A}"),
            ("$$ pa$$word $A ${ ${} ${1A} ${A-B} $(A} $", "$$ pa$$word $A ${ ${} ${1A} ${A-B} $(A} $"),
            ("^/a$", "^/a$"),
            ("# ${A}\n  # ${A}\na: ${A}\n", "# ${A}\n  # ${A}\na: 1\n"),
            ("é${A}é", "é1é"),
        ];
        for (text, wanted) in table {
            assert_eq!(expanded(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_not_set_is_told() {
        let mut missing = Vec::new();
        let _text = expand("${NO} ${NO:-x} ${A} $${NO2} ${EMPTY}\n# ${NO3}", env, |name| {
            missing.push(name.to_owned())
        });
        assert_eq!(missing, ["NO"]);
    }

    proptest! {
        #[test]
        fn any_text(text in "([${}()a-zA:-]|.)*") {
            let _any = expanded(&text);
        }

        #[test]
        fn text_without_dollars_stays(text in "[^$]*") {
            prop_assert_eq!(expanded(&text), text);
        }
    }
}
