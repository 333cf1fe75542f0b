//! What was typed, and what happens then.

mod args;
mod check;
mod cluster;
mod config;
mod live;
mod notify;
mod replay;
mod run;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

pub use args::{Args, Command, ConfigAction};

use crate::config::{ConfigError, Loaded, LogConfig, Sources, load};

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
            Ok(loaded) => start(loaded, &run),
            Err(error) => return usage(&error),
        },
        Command::Check { json, live: true } => live::live(json),
        Command::Check { json, live: false } => check::check(json, environment),
        Command::Config { action: Some(ConfigAction::Check { run }), .. } => {
            match loaded(&run, environment).and_then(|loaded| config::check(&loaded, &run)) {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(error) => return usage(&error),
            }
        }
        Command::Config { action: None, run, json } => match loaded(&run, environment) {
            Ok(loaded) => config::show(&loaded, json),
            Err(error) => return usage(&error),
        },
        Command::Replay { file, print } => replay::replay(&file, print),
        Command::Version => version(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("spanwire: {error:#}");
        ExitCode::FAILURE
    })
}

/// Checks what can be checked before the log is there.
fn start(loaded: Loaded, run: &args::Run) -> anyhow::Result<ExitCode> {
    if let Err(error) = loaded.config.validate(!run.command.is_empty()) {
        // A slip in a key is the likely reason why nothing is selected.
        config::warn(&loaded);
        return Ok(usage(&error));
    }
    if let Some(form) = loaded.config.log_config {
        config::write(&mut std::io::stderr().lock(), &loaded, form == LogConfig::Json)?;
    }
    run::run(loaded, run)
}

fn version() -> anyhow::Result<ExitCode> {
    writeln!(std::io::stdout().lock(), "spanwire {}", env!("CARGO_PKG_VERSION"))?;
    Ok(ExitCode::SUCCESS)
}

fn usage(error: &ConfigError) -> ExitCode {
    eprintln!("spanwire: {error}");
    ExitCode::from(USAGE)
}

fn loaded(run: &args::Run, env: BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
    load(&Sources { file: run.config.clone(), env, flags: run.flags() })
}
