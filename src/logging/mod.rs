//! The log: standard error, as data goes to standard output; or the journal, where standard error leads there.

mod journal;

use std::io::IsTerminal;

use libbpf_rs::PrintLevel;
use tracing::{debug, level_filters::LevelFilter};
use tracing_subscriber::layer::SubscriberExt;

use self::journal::Journal;
use crate::config::{Level, LogFormat};

/// Starts the log and takes libbpf's messages into it.
pub fn init(level: Level, format: LogFormat) {
    let filter = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    // The journal keeps fields and levels; through standard error it would get lines.
    if format == LogFormat::Text
        && stderr_is_the_journal()
        && let Ok(journal) = Journal::connect()
    {
        let _first_stays = tracing::subscriber::set_global_default(
            tracing_subscriber::registry().with(filter).with(journal),
        );
        return quiet();
    }
    let log = tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // A second call, as tests make it, keeps the first log.
    let _first_stays = match format {
        LogFormat::Text => tracing::subscriber::set_global_default(log.finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(log.json().finish()),
    };
    quiet();
}

/// By the device and inode that systemd says its stream has (systemd.exec(5), `JOURNAL_STREAM`).
fn stderr_is_the_journal() -> bool {
    let Ok(wanted) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(std::io::stderr())
        .is_ok_and(|stderr| wanted == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// libbpf speaks of every trial that fails, and a failed trial is how a tier is chosen: its words
/// go to the debug log.
pub fn quiet() {
    fn print(_level: PrintLevel, message: String) {
        debug!("libbpf: {}", message.trim_end());
    }
    libbpf_rs::set_print(Some((PrintLevel::Warn, print)));
}
