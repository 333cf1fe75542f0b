//! The log in systemd's journal, by its native protocol: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.
//!
//! Not by tracing-journald: its message is the bare text, and `journalctl` shows the message alone. Here the fields are in
//! it as they are on standard error, and once more as fields.

use std::fmt::{Debug, Write};
use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const SOCKET: &str = "/run/systemd/journal/socket";
/// A datagram that is longer might not be taken.
const VALUE_MAX: usize = 16 << 10;

/// Sends every event.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    pub(super) fn connect() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        Ok(Self(socket))
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        // There is no better place to complain in.
        let _journal_gone = self.0.send(&entry.datagram(*event.metadata().level()));
    }
}

#[derive(Default)]
struct Entry {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" { self.message = text } else { self.fields.push((field.name(), text)) }
    }
}

impl Entry {
    fn datagram(mut self, level: Level) -> Vec<u8> {
        for (name, value) in &self.fields {
            let _infallible = write!(self.message, " {name}={value}");
        }
        let mut out = Vec::new();
        put(&mut out, "MESSAGE", &self.message);
        put(&mut out, "PRIORITY", priority(level));
        put(&mut out, "SYSLOG_IDENTIFIER", "spanwire");
        for (name, value) in &self.fields {
            put(&mut out, &variable(name), value);
        }
        out
    }
}

/// As in syslog(3).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// Upper-case letters, digits and underscores are allowed.
fn variable(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    "SPANWIRE_".chars().chain(name.chars().map(allowed)).collect()
}

fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    let mut end = value.len().min(VALUE_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let value = value.get(..end).unwrap_or_default();
    out.extend(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend((value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_in_the_message_and_beside_it() {
        let entry = Entry {
            message: "Tracing a process.".to_owned(),
            fields: vec![("pid", "7".to_owned()), ("log.error", "a\nb".to_owned())],
        };
        let text = entry.datagram(Level::INFO);
        let wanted = [
            &b"MESSAGE\n\x26\0\0\0\0\0\0\0Tracing a process. pid=7 log.error=a\nb\n"[..],
            b"PRIORITY=6\nSYSLOG_IDENTIFIER=spanwire\nSPANWIRE_PID=7\nSPANWIRE_LOG_ERROR\n\x03\0\0\0\0\0\0\0a\nb\n",
        ];
        assert_eq!(text, wanted.concat(), "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let mut out = Vec::new();
        put(&mut out, "A", &"é".repeat(VALUE_MAX));
        assert_eq!(out.len(), "A=\n".len() + VALUE_MAX);
        let mut out = Vec::new();
        put(&mut out, "A", &format!("x{}", "é".repeat(VALUE_MAX)));
        assert!(std::str::from_utf8(&out).is_ok());
    }
}
