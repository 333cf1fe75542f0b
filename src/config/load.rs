//! Layers: defaults < YAML < environment < flags.

use std::collections::BTreeMap;
use std::path::PathBuf;

use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::error::{ConfigError, problem};
use super::keys::{self, KEYS, Key};
use super::model::Config;
use super::report::{Effective, Origin, Warning};
use super::value::{nested, shown};
use super::{env, unbuilt, yaml};

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

impl Sources {
    /// The file that the flag or the environment names.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        let from_env = |name: &&str| self.env.get(*name).filter(|v| !v.is_empty()).map(PathBuf::from);
        self.file.clone().or_else(|| env::FILES.iter().find_map(from_env))
    }
}

/// A configuration that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// What the user should know: unknown keys, keys that do nothing yet.
    pub warnings: Vec<Warning>,
    /// Every key with its value and where that came from.
    pub values: Vec<Effective>,
}

/// One layer.
struct Layer {
    origin: Origin,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.origin.metadata()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// A flag for the one wins over the environment's or the file's for the other, which otherwise wins:
/// what is typed is meant.
const ALIKE: [(&str, &str); 2] = [
    ("otel_traces_export.endpoint", "otel_traces_export.common_endpoint"),
    ("otel_traces_export.traces_protocol", "otel_traces_export.protocol"),
];

/// Reads all layers.
///
/// # Errors
///
/// When the file cannot be read or a value is wrong. Whether the values make sense together is
/// [`Config::validate`]'s to say.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut warnings = Vec::new();
    let mut figment = Figment::from(defaults()?);
    if let Some(path) = sources.config_file() {
        let dict = yaml::read(&path, &sources.env, &mut warnings)?;
        figment = figment.merge(Layer { origin: Origin::File(path), dict });
    }
    for (key, value, origin) in env::values(&sources.env, &mut warnings)? {
        figment = figment.merge(Layer { origin, dict: nested(key.path, value) });
    }
    for (path, text, flag) in &sources.flags {
        let origin = Origin::Flag(flag.clone());
        match keys::find(path) {
            Some(key) => {
                let value = if text.is_empty() {
                    default_of(key)?
                } else {
                    env::of_text(key, text, &origin, &mut warnings)?
                };
                figment = figment.merge(Layer { origin, dict: nested(path, value) });
            }
            None if unbuilt::find(path).is_some() => warnings.push(yaml::not_built(path, &origin)),
            None => warnings.push(yaml::unknown(path, &origin)),
        }
    }
    for (one, other) in ALIKE {
        let by_flag = |path| matches!(origin_of(&figment, path), Origin::Flag(_));
        if by_flag(other) && !by_flag(one) {
            let dict = nested(one, Value::from(figment::value::Empty::None));
            let origin = origin_of(&figment, other);
            figment = figment.merge(Layer { origin, dict });
        }
    }
    let config: Config = figment.extract().map_err(|error| wrong(&error, &figment))?;
    let values = effective(&config, &figment)?;
    super::advice::advise(&config, &figment, &values, &mut warnings);
    Ok(Loaded { config, warnings, values })
}

fn defaults() -> Result<Layer, ConfigError> {
    let internal = |error: Error| ConfigError::Invalid(format!("the defaults do not hold: {error}"));
    let dict = Value::serialize(Config::default()).map_err(internal)?.into_dict().unwrap_or_default();
    Ok(Layer { origin: Origin::Default, dict })
}

fn default_of(key: &Key) -> Result<Value, ConfigError> {
    let none = || Value::from(figment::value::Empty::None);
    Ok(Value::from(defaults()?.dict).find(key.path).unwrap_or_else(none))
}

pub(super) fn origin_of(figment: &Figment, path: &str) -> Origin {
    figment.find_metadata(path).map_or(Origin::Default, Origin::of)
}

fn wrong(error: &Error, figment: &Figment) -> ConfigError {
    let key = error.path.join(".");
    let secret = keys::find(&key).is_some_and(|key| key.secret);
    let value = figment.find_value(&key).map(|value| shown(&value)).unwrap_or_default();
    let value = if secret { "***".to_owned() } else { value };
    let origin = error.metadata.as_ref().map_or_else(|| origin_of(figment, &key), Origin::of);
    ConfigError::value(&key, problem(&error.kind, &value), &origin)
}

/// Every key in its normal form.
fn effective(config: &Config, figment: &Figment) -> Result<Vec<Effective>, ConfigError> {
    let all = serde_json::to_value(config)
        .map_err(|error| ConfigError::Invalid(format!("showing the configuration: {error}")))?;
    let value = |key: &Key| {
        let pointer = format!("/{}", key.path.replace('.', "/"));
        let value = all.pointer(&pointer).cloned().unwrap_or_default();
        match value {
            serde_json::Value::String(text) if key.secret => masked(&text).into(),
            serde_json::Value::String(text) => without_password(&text).into(),
            other => other,
        }
    };
    let line = |key: &'static Key| Effective {
        key: key.path,
        value: value(key),
        origin: origin_of(figment, key.path),
    };
    Ok(KEYS.iter().map(line).collect())
}

/// `a=***,b=***`: which headers there are is no secret.
fn masked(headers: &str) -> String {
    let names = headers.split(',').map(|pair| match pair.split_once('=') {
        Some((name, _)) => format!("{}=***", name.trim()),
        None => "***".to_owned(),
    });
    names.collect::<Vec<_>>().join(",")
}

/// A URL may carry a user's password.
pub(super) fn without_password(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split('/').next()?;
        let (user, host) = authority.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}{}", rest.strip_prefix(authority)?))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}
