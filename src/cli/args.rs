//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

/// Distributed traces of a Linux host with eBPF and no code change.
#[derive(Clone, Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Without a command, `run`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `run`.
    #[command(flatten)]
    pub run: Run,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Trace the selected processes until a signal, or a command until it ends.
    Run(Run),
    /// Tell what this host allows, feature by feature, and what to do about the rest.
    Check {
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// Print the effective configuration with the origin of each value.
    Config {
        /// The same flags as `run`.
        #[command(flatten)]
        run: Run,
        /// For machines.
        #[arg(long)]
        json: bool,
    },
}

/// Flags of `run`.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct Run {
    /// YAML file; see docs/CONFIG.md.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Trace processes that listen on these TCP ports, such as 80,8000-8999.
    #[arg(short, long, value_name = "PORTS")]
    pub port: Option<String>,
    /// Trace executables that match this glob, such as '*/nginx'; may be repeated.
    #[arg(short, long, value_name = "GLOB")]
    pub exe: Vec<String>,
    /// Trace these processes.
    #[arg(long, value_name = "PIDS")]
    pub pid: Option<String>,
    /// OTLP endpoint, such as http://localhost:4317.
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// grpc or http/protobuf.
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// Print spans: tree, text, json.
    #[arg(long, value_name = "FORMAT")]
    pub print: Option<String>,
    /// error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Any key of the configuration.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Write the raw records of the kernel side to a file.
    #[arg(long, value_name = "FILE", hide = true)]
    pub record: Option<PathBuf>,
    /// A command to start and trace, with its children.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

impl Run {
    /// As a layer of the configuration: key, value, flag.
    #[must_use]
    pub fn flags(&self) -> Vec<(String, String, String)> {
        let exe = match self.exe.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(format!("{{{}}}", many.join(","))),
        };
        let flags = [
            ("open_port", &self.port, "--port"),
            ("auto_target_exe", &exe, "--exe"),
            ("target_pids", &self.pid, "--pid"),
            ("otel_traces_export.common_endpoint", &self.endpoint, "--endpoint"),
            ("otel_traces_export.traces_protocol", &self.protocol, "--protocol"),
            ("trace_printer", &self.print, "--print"),
            ("log_level", &self.log_level, "--log-level"),
        ];
        let mut all: Vec<(String, String, String)> = flags
            .into_iter()
            .filter_map(|(key, value, flag)| Some((key.to_owned(), value.clone()?, flag.to_owned())))
            .collect();
        for pair in &self.set {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            all.push((key.to_owned(), value.to_owned(), "--set".to_owned()));
        }
        all
    }
}

/// OBI's `-config FILE` and `-config=FILE`, with one dash, as ours.
pub(super) fn normalized(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut command = false;
    args.map(|arg| {
        command |= arg == "--";
        match arg.to_str() {
            Some(text) if !command && (text == "-config" || text.starts_with("-config=")) => {
                format!("-{text}").into()
            }
            _ => arg,
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_become_keys_and_the_rest_a_command() {
        let args = ["spanwire", "run", "-p", "80", "-e", "a", "-e", "b", "--", "ls", "-config"];
        let args = Args::parse_from(normalized(args.into_iter().map(OsString::from)));
        let Some(Command::Run(run)) = args.command else { panic!("no run") };
        assert_eq!(run.command, ["ls", "-config"]);
        assert_eq!(run.flags()[1].1, "{a,b}");
    }

    #[test]
    fn bare_is_run_and_one_dash_will_do() {
        let args = ["spanwire", "-config=/x.yml"].into_iter().map(OsString::from);
        let args = Args::parse_from(normalized(args));
        assert!(args.command.is_none());
        assert_eq!(args.run.config, Some("/x.yml".into()));
    }
}
