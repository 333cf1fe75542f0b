//! The configuration file: references expanded, parsed, and sorted into what is known, what is known
//! from OBI and not built yet, and what is a slip of the pen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use figment::value::{Dict, Value};

use super::error::ConfigError;
use super::expand::expand;
use super::keys::{self, KEYS, Kind};
use super::report::{Origin, Warning};
use super::value::{coerced, is_nothing, is_unset, shown};
use super::{legacy, unbuilt};

/// Reads a file into a layer that has only known keys.
pub(super) fn read(
    path: &Path,
    env: &BTreeMap<String, String>,
    warnings: &mut Vec<Warning>,
) -> Result<Dict, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File(path.to_owned(), error))?;
    let mut missing = BTreeSet::new();
    let text = expand(&text, |name| env.get(name).cloned(), |name| missing.extend([name.to_owned()]));
    let origin = Origin::File(path.to_owned());
    for name in missing {
        warnings.push(Warning::new(format!(
            "`${{{name}}}` in {origin} is not set and has no default, so nothing stands there"
        )));
    }
    let bad = |problem: String| ConfigError::Yaml(path.to_owned(), problem);
    match parse(&text).map_err(bad)? {
        Value::Dict(_, dict) => Reader { origin: &origin, warnings }.section(dict, ""),
        Value::Empty(..) => Ok(Dict::new()),
        _ => Err(bad("the top level is no mapping".to_owned())),
    }
}

fn parse(text: &str) -> Result<Value, String> {
    // Words such as `on` are booleans where the key is one, and text elsewhere.
    // No snippet in errors: an expanded line may have a secret in it.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let content = |line: &str| !matches!(line.trim(), "" | "---" | "...") && !line.trim().starts_with('#');
    if !text.lines().any(content) {
        return Ok(Value::from(Dict::new()));
    }
    let json: serde_json::Value =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    Value::serialize(json).map_err(|error| error.to_string())
}

/// The value that a flag or a variable gives to a list of entries, as YAML in one line.
pub(super) fn entries_of_text(
    path: &'static str,
    text: &str,
    origin: &Origin,
    warnings: &mut Vec<Warning>,
) -> Result<Value, ConfigError> {
    let value = parse(text).map_err(|problem| ConfigError::value(path, problem, origin))?;
    Reader { origin, warnings }.entries(value, path, false)
}

/// The same, of a mapping.
pub(super) fn map_of_text(path: &'static str, text: &str, origin: &Origin) -> Result<Value, ConfigError> {
    match parse(text) {
        Ok(value @ Value::Dict(..)) => Ok(value),
        Ok(_) => Err(ConfigError::value(path, format!("`{text}` is not a mapping"), origin)),
        Err(problem) => Err(ConfigError::value(path, problem, origin)),
    }
}

/// The key that is written most like `path`.
pub(super) fn nearest(path: &str) -> &'static str {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |known: &str| {
        // The right name in the wrong section is near, too.
        let names = strsim::damerau_levenshtein(&last(known), &last(path)) + 1;
        strsim::damerau_levenshtein(known, path).min(names)
    };
    let all = KEYS.iter().map(|key| key.path).chain(unbuilt::KEYS.iter().copied());
    all.min_by_key(|known| distance(known)).unwrap_or_default()
}

pub(super) fn unknown(path: &str, origin: &Origin) -> Warning {
    Warning::new(format!("unknown key `{path}` ({origin}); the nearest is `{}`", nearest(path)))
}

pub(super) fn not_built(path: &str, origin: &Origin) -> Warning {
    Warning::info(format!("`{path}` ({origin}) is known from OBI and does nothing here yet"))
}

struct Reader<'r> {
    origin: &'r Origin,
    warnings: &'r mut Vec<Warning>,
}

impl Reader<'_> {
    fn section(&mut self, dict: Dict, prefix: &str) -> Result<Dict, ConfigError> {
        let mut out = Dict::new();
        let mut old = Vec::new();
        for (name, value) in dict {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let is_section = || KEYS.iter().any(|key| is_below(key.path, &path));
            let was_list = || prefix == "discovery" && legacy::LISTS.iter().any(|(was, _)| *was == name);
            if let Some(key) = keys::find(&path) {
                if is_unset(&value) {
                    continue;
                }
                let value = match (key.kind, value) {
                    (Kind::Selectors, value) => self.entries(value, key.path, false)?,
                    (Kind::Map, Value::Dict(tag, dict)) => Value::Dict(tag, dict),
                    (Kind::Map, other) => return Err(self.wrong(key.path, &other, "a mapping")),
                    (kind, value) => coerced(kind, value),
                };
                out.insert(name, value);
            } else if is_section() {
                match value {
                    Value::Dict(_, inner) => {
                        out.insert(name, self.section(inner, &path)?.into());
                    }
                    Value::Empty(..) => {}
                    other => return Err(self.wrong(&path, &other, "a mapping")),
                }
            } else if was_list() || prefix.is_empty() && legacy::KEYS.contains(&name.as_str()) {
                old.push((name, value));
            } else if unbuilt::find(&path).is_some() {
                if !is_nothing(&value) {
                    self.warnings.push(not_built(&path, self.origin));
                }
            } else {
                self.warnings.push(unknown(&path, self.origin));
            }
        }
        for (name, value) in old {
            self.old(&name, value, &mut out)?;
        }
        Ok(out)
    }

    /// A key of Beyla that has a successor.
    fn old(&mut self, name: &str, value: Value, out: &mut Dict) -> Result<(), ConfigError> {
        if is_unset(&value) {
            return Ok(());
        }
        let list = legacy::LISTS.iter().find(|(was, _)| *was == name);
        let (path, new) = match list {
            Some((was, new)) => (format!("discovery.{was}"), *new),
            None => (name.to_owned(), "auto_target_exe"),
        };
        if out.contains_key(new) {
            let text = format!("`{path}` ({}) is not read: `{new}` is there and wins", self.origin);
            self.warnings.push(Warning::new(text));
            return Ok(());
        }
        let value = match list {
            Some(_) => self.entries(value, &path, true)?,
            None => glob(&path, &coerced(Kind::Text, value), self.origin)?,
        };
        self.warnings.push(Warning::info(format!(
            "`{path}` ({}) is old and read as `{new}`, its expressions as globs",
            self.origin
        )));
        out.insert(new.to_owned(), value);
        Ok(())
    }

    /// A list of entries, each with known fields only. `old` ones have regular expressions.
    fn entries(&mut self, value: Value, path: &str, old: bool) -> Result<Value, ConfigError> {
        let Value::Array(tag, list) = value else { return Err(self.wrong(path, &value, "a list")) };
        let mut out = Vec::new();
        for (index, entry) in list.into_iter().enumerate() {
            let path = format!("{path}.{index}");
            let Value::Dict(tag, fields) = entry else { return Err(self.wrong(&path, &entry, "a mapping")) };
            let fields = self.entry(fields, &path, old)?;
            out.push(Value::Dict(tag, fields));
        }
        Ok(Value::Array(tag, out))
    }

    fn entry(&mut self, fields: Dict, path: &str, old: bool) -> Result<Dict, ConfigError> {
        let mut out = Dict::new();
        for (name, value) in fields {
            let path = format!("{path}.{name}");
            match name.as_str() {
                _ if matches!(value, Value::Empty(..)) => {}
                "open_ports" | "target_pids" if is_unset(&value) => {}
                "open_ports" | "target_pids" => {
                    out.insert(name, value);
                }
                "containers_only" => {
                    out.insert(name, coerced(Kind::Bool, value));
                }
                "k8s_pod_labels" | "k8s_pod_annotations" => match value {
                    Value::Dict(tag, globs) => {
                        let globs: Result<Dict, ConfigError> = globs
                            .into_iter()
                            .map(|(label, value)| {
                                let value = coerced(Kind::Text, value);
                                let key = format!("{path}.{label}");
                                Ok((label, if old { glob(&key, &value, self.origin)? } else { value }))
                            })
                            .collect();
                        out.insert(name, Value::Dict(tag, globs?));
                    }
                    other => return Err(self.wrong(&path, &other, "a mapping")),
                },
                known if old && is_condition(known) => {
                    let value = glob(&path, &coerced(Kind::Text, value), self.origin)?;
                    out.insert(name, value);
                }
                "sampler" => match value {
                    Value::Dict(tag, sampler) => {
                        self.warnings.push(not_built(&path, self.origin));
                        let text = |(name, value)| (name, coerced(Kind::Text, value));
                        out.insert(name, Value::Dict(tag, sampler.into_iter().map(text).collect()));
                    }
                    other => return Err(self.wrong(&path, &other, "a mapping")),
                },
                known if keys::ENTRY.contains(&known) => {
                    out.insert(name, coerced(Kind::Text, value));
                }
                // Not to export something is a wish, too.
                known if unbuilt::ENTRY.contains(&known) => {
                    self.warnings.push(not_built(&path, self.origin));
                }
                _ => {
                    let all = keys::ENTRY.iter().chain(unbuilt::ENTRY);
                    let near = all.min_by_key(|known| strsim::damerau_levenshtein(known, &name));
                    self.warnings.push(Warning::new(format!(
                        "unknown key `{path}` ({}); the nearest is `{}`",
                        self.origin,
                        near.copied().unwrap_or_default()
                    )));
                }
            }
        }
        Ok(out)
    }

    fn wrong(&self, path: &str, value: &Value, wanted: &str) -> ConfigError {
        ConfigError::value(path, format!("`{}` is not {wanted}", shown(value)), self.origin)
    }
}

/// Whether the field of an entry is a glob that a process has to match.
fn is_condition(name: &str) -> bool {
    matches!(name, "exe_path" | "cmd_args" | "languages" | "container_name") || name.starts_with("k8s_")
}

/// The glob of a regular expression.
pub(super) fn glob(path: &str, value: &Value, origin: &Origin) -> Result<Value, ConfigError> {
    let text = shown(value);
    legacy::glob(&text).map(Value::from).ok_or_else(|| {
        let problem = format!(
            "`{text}` has no glob that matches the same; use auto_target_exe or discovery.instrument"
        );
        ConfigError::value(path, problem, origin)
    })
}

fn is_below(path: &str, section: &str) -> bool {
    path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}
