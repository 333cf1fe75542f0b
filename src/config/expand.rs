//! `${VAR}`, `$(VAR)`, `${env:VAR}`, `${VAR:-default}`; `$$` is a dollar.

/// Replaces references to the environment in a text. What is no reference stays as it is.
#[must_use]
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = after.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some((value, after)) = reference(after, &lookup) {
            out.push_str(&value);
            rest = after;
        } else {
            out.push('$');
            rest = &after[1..];
        }
    }
    out.push_str(rest);
    out
}

fn reference<'t>(text: &'t str, lookup: &impl Fn(&str) -> Option<String>) -> Option<(String, &'t str)> {
    let close = match text.as_bytes().get(1)? {
        b'{' => '}',
        b'(' => ')',
        _ => return None,
    };
    let inner = text.get(2..)?;
    let end = inner.find(close)?;
    let (body, after) = (&inner[..end], &inner[end + 1..]);
    let body = body.strip_prefix("env:").unwrap_or(body);
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value = lookup(name).filter(|value| default.is_none() || !value.is_empty());
    Some((value.or_else(|| default.map(str::to_owned)).unwrap_or_default(), after))
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

    #[test]
    fn references_are_replaced() {
        assert_eq!(expand("x: ${A} $(A) ${env:A}", env), "x: 1 1 1");
        assert_eq!(expand("${NO:-d} ${EMPTY:-d} ${A:-d} ${NO}", env), "d d 1 ");
        assert_eq!(expand("$$ $${A} $A ${", env), "$ ${A} $A ${");
        assert_eq!(expand("^/a$", env), "^/a$");
    }

    proptest! {
        #[test]
        fn any_text(text in ".*") {
            let _any = expand(&text, env);
        }

        #[test]
        fn text_without_dollars_stays(text in "[^$]*") {
            prop_assert_eq!(expand(&text, env), text);
        }
    }
}
