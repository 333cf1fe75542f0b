//! Layers: defaults < YAML < environment < flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::providers::Serialized;
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};
use thiserror::Error;

use super::expand::expand;
use super::keys::{KEYS, UNBUILT};
use super::model::Config;

/// Where values come from, so that nothing here reads the process's own surroundings.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Flags: key, value as in YAML, and the flag for messages.
    pub flags: Vec<(String, String, String)>,
}

/// A configuration that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// What the user should know: unknown keys, keys that do nothing yet.
    pub warnings: Vec<String>,
    /// Every key with its value and where that came from.
    pub values: Vec<(String, String, String)>,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading the configuration file {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The file is no YAML.
    #[error("the configuration file {0} is not valid YAML: {1}")]
    Yaml(PathBuf, String),
    /// A value is wrong.
    #[error("{key}: {problem} (from {origin})")]
    Value {
        /// Path of the key.
        key: String,
        /// What is wrong, with the value.
        problem: String,
        /// File, variable or flag.
        origin: String,
    },
    /// The values do not go together.
    #[error("{0}")]
    Invalid(String),
}

/// One layer, with a name for messages.
struct Layer {
    origin: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

fn nested(path: &str, value: Value) -> Dict {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let value = match rest {
        Some(rest) => Value::from(nested(rest, value)),
        None => value,
    };
    Dict::from([(first.to_owned(), value)])
}

/// A value from the environment or a flag, as YAML would have it.
fn scalar(text: &str) -> Value {
    match text {
        "true" | "True" | "TRUE" => Value::from(true),
        "false" | "False" | "FALSE" => Value::from(false),
        text => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
    }
}

/// Keys that are text whatever they look like.
fn value_for(path: &str, text: &str) -> Value {
    let words = ["service_name", "service_namespace", "otel_traces_export.sampler.arg"];
    if words.contains(&path) { Value::from(text) } else { scalar(text) }
}

impl Sources {
    /// The file that the flag or the environment names.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        let from_env = |name: &str| self.env.get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        self.file
            .clone()
            .or_else(|| from_env("OTEL_EBPF_CONFIG_PATH"))
            .or_else(|| from_env("BEYLA_CONFIG_PATH"))
    }
}

/// Reads all layers.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut warnings = Vec::new();
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = sources.config_file() {
        let dict = yaml(&path, &sources.env)?;
        check_keys(&dict, "", &path, &mut warnings);
        figment = figment.merge(Layer { origin: format!("file {}", path.display()), dict });
    }
    for key in KEYS {
        let found = key.env.iter().find_map(|name| Some((*name, sources.env.get(*name)?)));
        let Some((name, text)) = found.filter(|(_, text)| !text.is_empty()) else { continue };
        let dict = nested(key.path, value_for(key.path, text));
        figment = figment.merge(Layer { origin: format!("environment {name}"), dict });
    }
    check_env(&sources.env, &mut warnings);
    for (path, text, flag) in &sources.flags {
        if !KEYS.iter().any(|key| key.path == path) {
            warnings.push(unknown(path, flag));
        }
        figment = figment
            .merge(Layer { origin: format!("flag {flag}"), dict: nested(path, value_for(path, text)) });
    }
    let config: Config = figment.extract().map_err(|error| wrong(&error, &figment))?;
    let values = KEYS
        .iter()
        .map(|key| {
            let value = figment.find_value(key.path).map_or_else(|_| String::new(), |value| show(&value));
            let origin = figment.find_metadata(key.path).map_or_else(|| "default".to_owned(), origin);
            let secret = key.path.ends_with("headers") && !value.is_empty();
            (key.path.to_owned(), if secret { "***".to_owned() } else { value }, origin)
        })
        .collect();
    Ok(Loaded { config, warnings, values })
}

fn origin(metadata: &Metadata) -> String {
    if metadata.name.starts_with("file ") || metadata.name.contains(' ') && !metadata.name.contains("Config")
    {
        metadata.name.to_string()
    } else {
        "default".to_owned()
    }
}

fn wrong(error: &Error, figment: &Figment) -> ConfigError {
    let key = error.path.join(".");
    let value = figment.find_value(&key).map(|value| show(&value)).unwrap_or_default();
    let origin = error
        .metadata
        .as_ref()
        .or_else(|| figment.find_metadata(&key))
        .map_or_else(|| "default".to_owned(), |metadata| metadata.name.to_string());
    ConfigError::Value { key, problem: format!("`{value}` is wrong: {}", error.kind), origin }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(_, text) => text.clone(),
        Value::Empty(..) => String::new(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

fn yaml(path: &Path, env: &BTreeMap<String, String>) -> Result<Dict, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File(path.to_owned(), error))?;
    let text = expand(&text, |name| env.get(name).cloned());
    let bad = |error: String| ConfigError::Yaml(path.to_owned(), error);
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Dict::new());
    }
    let json: serde_json::Value = serde_saphyr::from_str(&text).map_err(|error| bad(error.to_string()))?;
    match Value::serialize(json).map_err(|error| bad(error.to_string()))? {
        Value::Dict(_, dict) => Ok(dict),
        Value::Empty(..) => Ok(Dict::new()),
        _ => Err(bad("the top level is no mapping".to_owned())),
    }
}

fn known(path: &str) -> bool {
    KEYS.iter()
        .any(|key| key.path == path || key.path.starts_with(path) && key.path[path.len()..].starts_with('.'))
}

fn unbuilt(path: &str) -> bool {
    UNBUILT
        .iter()
        .any(|name| path == *name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

fn unknown(path: &str, origin: &str) -> String {
    let nearest =
        KEYS.iter().map(|key| key.path).min_by_key(|known| strsim::damerau_levenshtein(known, path));
    format!("unknown key `{path}` in {origin}; did you mean `{}`?", nearest.unwrap_or_default())
}

fn check_keys(dict: &Dict, prefix: &str, file: &Path, warnings: &mut Vec<String>) {
    for (name, value) in dict {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if unbuilt(&path) {
            warnings
                .push(format!("`{path}` in {} is known from OBI and does nothing here yet", file.display()));
        } else if !known(&path) {
            warnings.push(unknown(&path, &file.display().to_string()));
        } else if let Value::Dict(_, inner) = value {
            check_keys(inner, &path, file, warnings);
        }
    }
}

fn check_env(env: &BTreeMap<String, String>, warnings: &mut Vec<String>) {
    let ours =
        |name: &str| ["OTEL_EBPF_", "BEYLA_", "SPANWIRE_"].iter().any(|prefix| name.starts_with(prefix));
    let paths = ["OTEL_EBPF_CONFIG_PATH", "BEYLA_CONFIG_PATH"];
    let all = || KEYS.iter().flat_map(|key| key.env.iter().copied());
    for name in env.keys().filter(|name| ours(name) && !paths.contains(&name.as_str())) {
        if all().any(|known| known == name) {
            continue;
        }
        let (nearest, distance) = all()
            .map(|known| (known, strsim::damerau_levenshtein(known, name)))
            .min_by_key(|(_, distance)| *distance)
            .unwrap_or_default();
        warnings.push(if distance <= 3 {
            format!("unknown environment variable `{name}`; did you mean `{nearest}`?")
        } else {
            format!("the environment variable `{name}` does nothing here (yet)")
        });
    }
}
