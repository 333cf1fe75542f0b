//! Environment variables.

use std::collections::BTreeMap;

use figment::value::Value;

use super::error::ConfigError;
use super::keys::{KEYS, Key, Kind};
use super::report::{Origin, Warning};
use super::value::{coerced, is_nothing_text};
use super::{legacy, unbuilt, yaml};

/// Variables that name the configuration file, in order of precedence.
pub(super) const FILES: [&str; 2] = ["OTEL_EBPF_CONFIG_PATH", "BEYLA_CONFIG_PATH"];

/// The keys that the environment sets, with their values.
pub(super) fn values(
    env: &BTreeMap<String, String>,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<(&'static Key, Value, Origin)>, ConfigError> {
    let mut out = Vec::new();
    for key in KEYS {
        // Empty is as good as not set, by the specification of OpenTelemetry.
        let set = |name: String| Some((env.get(&name).filter(|text| !text.is_empty())?, name));
        if let Some((text, name)) = key.env().into_iter().find_map(set) {
            let origin = Origin::Env(name);
            out.push((key, of_text(key, text, &origin, warnings)?, origin));
        } else if key.path == "auto_target_exe" {
            let set = |name: &'static str| Some((env.get(name).filter(|text| !text.is_empty())?, name));
            if let Some((text, name)) = legacy::VARIABLES.into_iter().find_map(set) {
                let origin = Origin::Env(name.to_owned());
                out.push((key, yaml::glob(key.path, &Value::from(text.as_str()), &origin)?, origin));
            }
        }
    }
    unknown(env, warnings);
    Ok(out)
}

/// A value from a variable or a flag.
pub(super) fn of_text(
    key: &'static Key,
    text: &str,
    origin: &Origin,
    warnings: &mut Vec<Warning>,
) -> Result<Value, ConfigError> {
    match key.kind {
        Kind::Selectors => yaml::entries_of_text(key.path, text, origin, warnings),
        Kind::Map => yaml::map_of_text(key.path, text, origin),
        kind => Ok(coerced(kind, Value::from(text))),
    }
}

fn unknown(env: &BTreeMap<String, String>, warnings: &mut Vec<Warning>) {
    let known: Vec<String> = KEYS.iter().flat_map(Key::env).collect();
    for (name, text) in env {
        let theirs = name.starts_with("OTEL_EBPF_") || name.starts_with("BEYLA_");
        let read = FILES.contains(&name.as_str())
            || legacy::VARIABLES.contains(&name.as_str())
            || known.contains(name);
        if read || !theirs && !name.starts_with("SPANWIRE_") {
            continue;
        }
        let distance = |known: &&String| strsim::damerau_levenshtein(known, name);
        if unbuilt::is_variable(name) {
            if !is_nothing_text(text) {
                warnings.push(yaml::not_built(name, &Origin::Env(name.clone())));
            }
        } else if let Some(nearest) = known.iter().min_by_key(distance)
            // Our own prefix is on variables of scripts, too; a slip is close to a key.
            && (theirs || distance(&nearest) <= 3)
        {
            warnings.push(Warning::new(format!(
                "unknown environment variable `{name}`; the nearest is `{nearest}`"
            )));
        }
    }
}
