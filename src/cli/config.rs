//! `spanwire config`: the effective configuration with the origin of each value.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

use super::args::Run;
use crate::config::{ConfigError, Loaded};

/// Prints the values on standard output, warnings on standard error.
pub(super) fn show(loaded: &Loaded, json: bool) -> Result<ExitCode> {
    write(&mut io::stdout().lock(), loaded, json)?;
    warn(loaded);
    Ok(ExitCode::SUCCESS)
}

/// Whether `run` would start: all that can be told without the kernel and the network.
pub(super) fn check(loaded: &Loaded, run: &Run) -> Result<(), ConfigError> {
    warn(loaded);
    loaded.config.validate(!run.command.is_empty())?;
    loaded.config.check_files()
}

/// For when there is no log yet.
pub(super) fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        eprintln!("spanwire: {warning}");
    }
}

pub(super) fn write(out: &mut impl Write, loaded: &Loaded, json: bool) -> Result<()> {
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&loaded.values)?)?;
    } else {
        for value in &loaded.values {
            writeln!(out, "{}: {}  # {}", value.key, value.text(), value.origin)?;
        }
    }
    Ok(())
}
