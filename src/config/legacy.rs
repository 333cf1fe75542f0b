//! Selection by regular expression, as Beyla had it: `executable_name`, `executable_path` and
//! `discovery.services`. The expressions in use are plain words, alternatives and `.*`; those become
//! globs, the rest is refused.

/// Old lists of `discovery` and the ones they became. An old list counts where the new one is not set.
pub(super) const LISTS: [(&str, &str); 3] = [
    ("services", "instrument"),
    ("exclude_services", "exclude_instrument"),
    ("default_exclude_services", "default_exclude_instrument"),
];

/// Old keys at the top level that became `auto_target_exe`.
pub(super) const KEYS: [&str; 2] = ["executable_path", "executable_name"];

/// Their environment variables.
pub(super) const VARIABLES: [&str; 4] = [
    "OTEL_EBPF_EXECUTABLE_PATH",
    "OTEL_EBPF_EXECUTABLE_NAME",
    "BEYLA_EXECUTABLE_PATH",
    "BEYLA_EXECUTABLE_NAME",
];

/// The glob that matches what the regular expression finds. `None` where there is no such glob.
pub(super) fn glob(regex: &str) -> Option<String> {
    let alternatives = alternatives(regex)?;
    let globs: Vec<String> = alternatives.into_iter().map(alternative).collect::<Option<_>>()?;
    match globs.as_slice() {
        [one] => Some(one.clone()),
        many => Some(format!("{{{}}}", many.join(","))),
    }
}

/// The parts between `|` that are in no group.
fn alternatives(regex: &str) -> Option<Vec<&str>> {
    let (mut depth, mut escaped, mut start) = (0_u32, false, 0);
    let mut all = Vec::new();
    for (at, c) in regex.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            '|' if depth == 0 => {
                all.push(regex.get(start..at)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    all.push(regex.get(start..)?);
    (depth == 0).then_some(all)
}

fn alternative(regex: &str) -> Option<String> {
    let (body, from_start) = regex.strip_prefix('^').map_or((regex, false), |body| (body, true));
    let (body, to_end) = match body.strip_suffix('$') {
        Some(body) if !body.ends_with('\\') => (body, true),
        _ => (body, false),
    };
    let start = if from_start { "" } else { "*" };
    let end = if to_end { "" } else { "*" };
    let glob = format!("{start}{}{end}", sequence(body)?);
    Some(glob.replace("**", "*").replace("**", "*"))
}

fn sequence(body: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = body;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        match c {
            '.' => {
                let (glob, after) = match (rest.strip_prefix('*'), rest.strip_prefix('+')) {
                    (Some(after), _) => ("*", after),
                    (_, Some(after)) => ("?*", after),
                    _ => ("?", rest),
                };
                out.push_str(glob);
                rest = after;
            }
            '\\' => {
                let c = rest.chars().next()?;
                // A class such as \d, or a glob's own sign.
                if c.is_alphanumeric() || "*?[]{},".contains(c) {
                    return None;
                }
                out.push(c);
                rest = rest.get(c.len_utf8()..)?;
            }
            '(' => {
                let (group, after) = group(rest)?;
                let group = group.strip_prefix("?:").unwrap_or(group);
                let parts: Vec<String> =
                    alternatives(group)?.into_iter().map(sequence).collect::<Option<_>>()?;
                out.push_str(&format!("{{{}}}", parts.join(",")));
                rest = after;
            }
            c if "*+?[]{})^$|,".contains(c) => return None,
            c => out.push(c),
        }
        // A repeated character or group is beyond a glob.
        if rest.starts_with(['*', '+', '?', '{']) {
            return None;
        }
    }
    Some(out)
}

/// Splits at the parenthesis that closes the group.
fn group(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut escaped) = (1_u32, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::types::Glob;
    use super::*;

    #[test]
    fn expressions_in_use_become_globs() {
        let table = [
            ("java", Some("*java*")),
            ("^/usr/bin/java$", Some("/usr/bin/java")),
            ("(python|node)", Some("*{python,node}*")),
            ("python|node$", Some("{*python*,*node}")),
            (".*/my-app.*", Some("*/my-app*")),
            (r"server\.py", Some("*server.py*")),
            ("^a(?:b|c(d|e))$", Some("a{b,c{d,e}}")),
            ("", Some("*")),
            (".", Some("*?*")),
            ("[ab]", None),
            ("a+", None),
            ("(a|b)?", None),
            (r"\d", None),
            ("(a", None),
            ("a)", None),
            ("(?i)a", None),
        ];
        for (regex, wanted) in table {
            assert_eq!(glob(regex).as_deref(), wanted, "{regex}");
        }
    }

    proptest! {
        #[test]
        fn a_glob_that_comes_out_is_one(regex in "[ab.*+?|()^$\\\\]{0,10}|.*") {
            if let Some(glob) = glob(&regex) {
                prop_assert!(glob.parse::<Glob>().is_ok(), "{}", glob);
            }
        }
    }
}
