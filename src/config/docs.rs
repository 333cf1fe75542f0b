//! `docs/CONFIG.md` and the annotated configuration file, made from the table of keys.

use std::fmt::Write;

use super::keys::{KEYS, Key, Kind};
use super::load::{Sources, load};
use super::report::Effective;
use super::{legacy, unbuilt};

/// The defaults as `spanwire config` shows them, in the order of [`KEYS`].
fn defaults() -> Vec<Effective> {
    load(&Sources::default()).map(|loaded| loaded.values).unwrap_or_default()
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", text.replace('|', "\\|")) }
}

fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(code).collect::<Vec<_>>().join(", ")
}

/// The page. A test compares it with the committed file.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         This page is generated from `src/config/keys.rs`; `SPANWIRE_BLESS=1 cargo test --test it config` writes it anew.\n\n\
         Defaults are overridden by the YAML file, that by the environment, that by flags. The file is named by\n\
         `--config`, `OTEL_EBPF_CONFIG_PATH` or `BEYLA_CONFIG_PATH`; `packaging/config/spanwire.yaml` is one with every key.\n\
         `spanwire config` prints each value with its origin. Any key can be given as `--set key=value`.\n\n\
         - In the file, `${VAR}`, `${VAR:-default}`, `${env:VAR}` and `$(VAR)` stand for the environment; `$${VAR}` is the\n  \
         text `${VAR}`. Other dollars stay. A variable that is not set and has no default is a warning.\n\
         - Durations are Go's: `500ms`, `1m30s`, `0`. Lists in the environment are separated by commas.\n\
         - Sets of ports and pids are `80,443,8000-8999`; YAML may give a number or a list.\n\
         - Globs match the whole text: `*` (crosses `/`), `?`, `{a,b}`, `[a-z]`, `[!x]`.\n\
         - An empty value in YAML or the environment is as good as none.\n\
         - An unknown key is a warning that names the nearest one; a wrong value is an error that names key, value and origin.\n\
         - Of several variables, the first that is set wins.\n",
    );
    let mut section = None;
    for (key, default) in KEYS.iter().zip(defaults()) {
        let this = key.path.split_once('.').map_or("", |(section, _)| section);
        if section != Some(this) {
            section = Some(this);
            let title = if this.is_empty() { "Top level".to_owned() } else { code(this) };
            let again = if this.is_empty() && key.path != "open_port" { " (the rest)" } else { "" };
            let _infallible = write!(
                out,
                "\n## {title}{again}\n\n| key | environment | default | meaning |\n|---|---|---|---|\n"
            );
        }
        let env = key.env();
        let not_yet = if key.works { "" } else { " *Accepted; does nothing yet.*" };
        let _infallible = writeln!(
            out,
            "| `{}` | {} | {} | {}{not_yet} |",
            key.path,
            list(env.iter().map(String::as_str)),
            code(&default.text()),
            key.doc.replace('|', "\\|"),
        );
    }
    let old = legacy::LISTS.iter().map(|(was, new)| format!("`discovery.{was}` → `discovery.{new}`"));
    let old = old.chain(legacy::KEYS.iter().map(|key| format!("`{key}` → `auto_target_exe`")));
    let _infallible = write!(
        out,
        "\n## Old spellings\n\n\
         Read where the new key is not set; their regular expressions become globs, or are refused where no glob\n\
         matches the same: {}; in the environment {}.\n\n\
         ## Known and not built yet\n\n\
         These keys of OBI and Beyla, and all below them, are accepted, with one line in the log when they are set to something:\n\n{}\n",
        old.collect::<Vec<_>>().join(", "),
        list(legacy::VARIABLES),
        list(unbuilt::KEYS.iter().copied()),
    );
    out
}

/// The annotated file: every key that does something with its default, commented out.
#[must_use]
pub fn yaml() -> String {
    let mut out = String::from(
        "# Configuration of spanwire. Generated from src/config/keys.rs.\n\
         #\n\
         # What is commented out is the default, or an example where there is none (\"e.g.\").\n\
         # All about it: docs/CONFIG.md. What is in force, and why: spanwire config.\n",
    );
    let mut open: Vec<&str> = Vec::new();
    for (key, default) in KEYS.iter().zip(defaults()).filter(|(key, _)| key.works) {
        let mut path: Vec<&str> = key.path.split('.').collect();
        let name = path.pop().unwrap_or_default();
        let common = open.iter().zip(&path).take_while(|(a, b)| a == b).count();
        out.push('\n');
        for (depth, section) in path.iter().enumerate().skip(common) {
            let _infallible = writeln!(out, "{}{section}:", "  ".repeat(depth));
        }
        let indent = "  ".repeat(path.len());
        for line in wrapped(key.doc, 96 - indent.len()) {
            let _infallible = writeln!(out, "{indent}# {line}");
        }
        let (hint, value) = setting(key, &default);
        let _infallible = writeln!(out, "{indent}#{hint}{name}: {value}");
        open = path;
    }
    out
}

fn setting(key: &Key, default: &Effective) -> (&'static str, String) {
    if !key.example.is_empty() {
        return ("e.g. ", key.example.to_owned());
    }
    let value = match key.kind {
        Kind::Selectors | Kind::Map => default.value.to_string(),
        _ => default.text(),
    };
    ("", value)
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
