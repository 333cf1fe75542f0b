//! Why there is no configuration.

use std::path::PathBuf;

use figment::error::Kind;
use thiserror::Error;

use super::report::Origin;

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
    #[error("{key}: {problem} ({origin})")]
    Value {
        /// Path of the key.
        key: String,
        /// What is wrong, with the value.
        problem: String,
        /// File, variable or flag.
        origin: Origin,
    },
    /// The values do not go together.
    #[error("{0}")]
    Invalid(String),
}

impl ConfigError {
    pub(super) fn value(key: &str, problem: impl Into<String>, origin: &Origin) -> Self {
        Self::Value { key: key.to_owned(), problem: problem.into(), origin: origin.clone() }
    }
}

/// What is wrong with `value`, in the words of a user and not of serde.
pub(super) fn problem(kind: &Kind, value: &str) -> String {
    let expected = |expected: &str| match expected {
        "u16" => "a number from 0 to 65535".to_owned(),
        "u32" | "u64" | "usize" => "a whole number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        other if other.starts_with("struct ") => "a mapping".to_owned(),
        other => other.to_owned(),
    };
    match kind {
        // Our own types name the value themselves.
        Kind::Message(text) => text.clone(),
        Kind::InvalidType(_, wanted) | Kind::InvalidValue(_, wanted) => {
            format!("`{value}` is not {}", expected(wanted))
        }
        other => format!("`{value}` is wrong: {other}"),
    }
}
