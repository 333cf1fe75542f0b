//! What was typed, and what happens then.

mod args;
mod check;
mod run;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

pub use args::{Args, Command};

use crate::config::{ConfigError, Loaded, Sources, load};

/// Exit status for a wrong command line or configuration.
const USAGE: u8 = 2;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse_from(args::normalized(std::env::args_os()));
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect::<BTreeMap<_, _>>();
    let command = args.command.clone().unwrap_or(Command::Run(args.run.clone()));
    let result = match command {
        Command::Run(run) => match loaded(&run, environment) {
            Ok(loaded) => run::run(loaded, &run),
            Err(error) => return usage(&error),
        },
        Command::Check { json } => check::check(json),
        Command::Config { run, json } => match loaded(&run, environment) {
            Ok(loaded) => show(&loaded, json),
            Err(error) => return usage(&error),
        },
    };
    result.unwrap_or_else(|error| {
        eprintln!("spanwire: {error:#}");
        ExitCode::FAILURE
    })
}

fn usage(error: &ConfigError) -> ExitCode {
    eprintln!("spanwire: {error}");
    ExitCode::from(USAGE)
}

fn loaded(run: &args::Run, env: BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
    load(&Sources { file: run.config.clone(), env, flags: run.flags() })
}

/// `spanwire config`.
fn show(loaded: &Loaded, json: bool) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if json {
        let all: Vec<_> = loaded
            .values
            .iter()
            .map(|(key, value, origin)| serde_json::json!({"key": key, "value": value, "origin": origin}))
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        for (key, value, origin) in &loaded.values {
            writeln!(out, "{key}: {value}  # {origin}")?;
        }
    }
    for warning in &loaded.warnings {
        eprintln!("spanwire: {warning}");
    }
    Ok(ExitCode::SUCCESS)
}
