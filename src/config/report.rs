//! What loading has to say besides the values: where each came from, and what the user should know.

use std::fmt;
use std::path::PathBuf;

use figment::{Metadata, Source};
use serde::{Serialize, Serializer};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl Origin {
    /// As figment carries it with every value.
    pub(super) fn metadata(&self) -> Metadata {
        match self {
            Self::Default => Metadata::named("default"),
            Self::File(path) => Metadata::from("file", path.as_path()),
            Self::Env(name) => Metadata::from("env", Source::Custom(name.clone())),
            Self::Flag(flag) => Metadata::from("flag", Source::Custom(flag.clone())),
        }
    }

    pub(super) fn of(metadata: &Metadata) -> Self {
        match (metadata.name.as_ref(), &metadata.source) {
            ("file", Some(Source::File(path))) => Self::File(path.clone()),
            ("env", Some(Source::Custom(name))) => Self::Env(name.clone()),
            ("flag", Some(Source::Custom(flag))) => Self::Flag(flag.clone()),
            _ => Self::Default,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How much a warning matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Good to know: a key of OBI that does nothing here yet.
    Info,
    /// Probably not what the user means.
    Warn,
}

/// What the user should know about the configuration. A sentence, without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// For the log.
    pub severity: Severity,
    /// For people; names the key and its origin.
    pub text: String,
}

impl Warning {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { severity: Severity::Warn, text: text.into() }
    }

    pub(super) fn info(text: impl Into<String>) -> Self {
        Self { severity: Severity::Info, text: text.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One line of `spanwire config`. Secrets are masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// Path of the key.
    pub key: &'static str,
    /// In its normal form; null where nothing is set.
    pub value: serde_json::Value,
    /// The layer that won.
    pub origin: Origin,
}

impl Effective {
    /// The value as YAML has it: text as it is, the rest in JSON.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.value {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}
