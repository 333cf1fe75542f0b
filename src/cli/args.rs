//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::export::Format;

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
        /// What the instances that run here have done, and refused to do; needs root
        #[arg(long)]
        live: bool,
    },
    /// Print the effective configuration with the origin of each value.
    #[command(args_conflicts_with_subcommands = true)]
    Config {
        /// Without one, print.
        #[command(subcommand)]
        action: Option<ConfigAction>,
        /// The same flags as `run`.
        #[command(flatten)]
        run: Run,
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// Print the spans of a file that `run --record` wrote.
    #[command(hide = true)]
    Replay {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// As `run --print`.
        #[arg(long, value_name = "FORMAT", default_value = "tree")]
        print: Format,
    },
    /// Print the version.
    Version,
}

/// What to do with the configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigAction {
    /// Tell whether `run` would start with it: exit status 0, or 2 and the reason.
    Check {
        /// The same flags as `run`.
        #[command(flatten)]
        run: Box<Run>,
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
    /// How OTLP travels; by default grpc when the port ends in 4317, else http/protobuf.
    #[arg(long, value_name = "PROTOCOL", value_parser = PossibleValuesParser::new(["grpc", "http/protobuf"]))]
    pub protocol: Option<String>,
    /// Print spans on standard output.
    #[arg(
        long,
        value_name = "FORMAT",
        value_parser = PossibleValuesParser::new(["tree", "text", "json", "json_indent", "counter", "disabled"])
    )]
    pub print: Option<String>,
    /// Of the log on standard error.
    #[arg(
        long,
        value_name = "LEVEL",
        ignore_case = true,
        value_parser = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"])
    )]
    pub log_level: Option<String>,
    /// Any key of the configuration, such as ebpf.max_transaction_time=30s; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<String>,
    /// Write the raw records of the kernel side to a file, for `spanwire replay`.
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
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            all.push((key.trim().to_owned(), value.to_owned(), "--set".to_owned()));
        }
        all
    }
}

fn assignment(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("wanted KEY=VALUE".to_owned()),
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

    fn run(args: &[&str]) -> Run {
        let args = normalized(["spanwire"].iter().chain(args).map(OsString::from));
        let args = Args::try_parse_from(args).unwrap();
        match args.command {
            Some(Command::Run(run)) => run,
            None => args.run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_flag_has_its_key() {
        let args = [
            "run",
            "-c",
            "/a.yaml",
            "--port",
            "80,8000-8999",
            "-e",
            "*/a,b",
            "--pid",
            "12",
            "--endpoint",
            "http://c:4317",
            "--protocol",
            "grpc",
            "--print",
            "tree",
            "--log-level",
            "DEBUG",
            "--set",
            "ebpf.max_transaction_time=30s",
            "--set",
            "otel_traces_export.headers=a=b",
        ];
        let run = run(&args);
        assert_eq!(run.config, Some("/a.yaml".into()));
        let flags = run.flags();
        let flags: Vec<(&str, &str, &str)> =
            flags.iter().map(|(key, value, flag)| (key.as_str(), value.as_str(), flag.as_str())).collect();
        let wanted = [
            ("open_port", "80,8000-8999", "--port"),
            ("auto_target_exe", "*/a,b", "--exe"),
            ("target_pids", "12", "--pid"),
            ("otel_traces_export.common_endpoint", "http://c:4317", "--endpoint"),
            ("otel_traces_export.traces_protocol", "grpc", "--protocol"),
            ("trace_printer", "tree", "--print"),
            ("log_level", "DEBUG", "--log-level"),
            ("ebpf.max_transaction_time", "30s", "--set"),
            ("otel_traces_export.headers", "a=b", "--set"),
        ];
        assert_eq!(flags, wanted);
    }

    #[test]
    fn a_command_needs_no_run_and_keeps_its_flags() {
        for args in [["run", "--", "ls", "--port"], ["-p80", "--", "ls", "--port"]] {
            assert_eq!(run(&args).command, ["ls", "--port"], "{args:?}");
        }
        assert_eq!(run(&["--", "ls", "-config=x"]).command, ["ls", "-config=x"]);
        assert_eq!(run(&["run", "-config", "/x.yml"]).config, Some("/x.yml".into()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused: [&[&str]; 6] = [
            &["run", "--print", "pretty"],
            &["run", "--protocol", "http/json"],
            &["run", "--set", "novalue"],
            &["run", "--set", "=x"],
            &["run", "ls"],
            &["trace"],
        ];
        for args in refused {
            let args = normalized(["spanwire"].iter().chain(args).map(OsString::from));
            assert!(Args::try_parse_from(&args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn the_help_of_run() {
        let help = Run::augment_args(clap::Command::new("spanwire")).render_help().to_string();
        insta::assert_snapshot!(help, @r"
        Flags of `run`

        Usage: spanwire [OPTIONS] [-- <CMD>...]

        Arguments:
          [CMD]...  A command to start and trace, with its children

        Options:
          -c, --config <FILE>        YAML file; see docs/CONFIG.md
          -p, --port <PORTS>         Trace processes that listen on these TCP ports, such as 80,8000-8999
          -e, --exe <GLOB>           Trace executables that match this glob, such as '*/nginx'; may be repeated
              --pid <PIDS>           Trace these processes
              --endpoint <URL>       OTLP endpoint, such as http://localhost:4317
              --protocol <PROTOCOL>  How OTLP travels; by default grpc when the port ends in 4317, else http/protobuf [possible values: grpc, http/protobuf]
              --print <FORMAT>       Print spans on standard output [possible values: tree, text, json, json_indent, counter, disabled]
              --log-level <LEVEL>    Of the log on standard error [possible values: error, warn, info, debug, trace]
              --set <KEY=VALUE>      Any key of the configuration, such as ebpf.max_transaction_time=30s; may be repeated
          -h, --help                 Print help
        ");
    }
}
