//! Bytes of a ring record → typed event. Lengths are checked, nothing is trusted, nothing panics.

mod recording;

use plain::Plain;
use thiserror::Error;

use crate::bpf::abi::{ev_conn_end, ev_connect, ev_hdr, ev_head, ev_proc, ev_span, types};

pub use recording::{Recording, RecordingError, Writer};

/// Names one request: the socket's cookie and the number of the request on it.
pub type RequestKey = (u64, u32);

/// What a header block of HTTP/2 belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOf {
    /// What the client sent.
    Request,
    /// What the server sent, where it may say more than a status.
    Response,
    /// What the server sent behind its answer.
    Trailers,
}

/// A record of the data ring.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A head that is too long for the span's record, with the server's path of a unix socket.
    Head(ev_head, &'a [u8], &'a [u8]),
    /// A header block of HTTP/2, with the server's path of a unix socket.
    Block(ev_head, BlockOf, &'a [u8], &'a [u8]),
    /// No more blocks of this HTTP/2 connection.
    ConnEnd(ev_conn_end),
    /// A request is over; with its head, unless that came ahead.
    Span(Box<ev_span>, &'a [u8]),
    /// A connect failed.
    Connect(Box<ev_connect>),
}

/// A record of the control ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcEvent {
    /// A process runs another program now.
    Exec {
        /// Host pid.
        pid: u32,
        /// It was started for a request that is still open.
        serving: bool,
    },
    /// A selected process started another; the kernel side selected that too.
    Fork {
        /// Host pid.
        parent: u32,
        /// Host pid.
        child: u32,
    },
    /// The last thread of a process is gone.
    Exit {
        /// Host pid.
        pid: u32,
    },
    /// A selected process has read a request from a socket that it waits for together with others.
    Loop {
        /// Host pid.
        pid: u32,
    },
    /// A TCP socket listens.
    Listen {
        /// Host pid.
        pid: u32,
        /// Local port.
        port: u16,
        /// Inode of the network namespace.
        netns: u32,
    },
}

/// Why a record is no event.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than its kind needs.
    #[error("a record of {len} bytes is too short for kind {kind}")]
    Short {
        /// Length of the record.
        len: usize,
        /// Its kind, 0 if not even that was there.
        kind: u32,
    },
    /// No kind that we know.
    #[error("unknown record kind {0}")]
    Kind(u32),
}

fn copy<T: Plain + Default>(record: &[u8], kind: u32) -> Result<T, DecodeError> {
    let mut value = T::default();
    plain::copy_from_bytes(&mut value, record).map_err(|_| DecodeError::Short { len: record.len(), kind })?;
    Ok(value)
}

/// Decodes a record of the data ring.
pub fn decode(record: &[u8]) -> Result<Event<'_>, DecodeError> {
    let header: ev_hdr = copy(record, 0)?;
    let short = DecodeError::Short { len: record.len(), kind: header.kind };
    match types::ev_kind(header.kind) {
        kind @ (types::ev_kind::EV_HEAD
        | types::ev_kind::EV_REQUEST_BLOCK
        | types::ev_kind::EV_RESPONSE_BLOCK
        | types::ev_kind::EV_TRAILER_BLOCK) => {
            let event: ev_head = copy(record, header.kind)?;
            let rest = record.get(size_of::<ev_head>()..).ok_or(short)?;
            let (head, rest) = rest.split_at_checked(event.captured as usize).ok_or(short)?;
            let path = rest.get(..event.unix_len as usize).ok_or(short)?;
            Ok(match kind {
                types::ev_kind::EV_HEAD => Event::Head(event, head, path),
                types::ev_kind::EV_REQUEST_BLOCK => Event::Block(event, BlockOf::Request, head, path),
                types::ev_kind::EV_RESPONSE_BLOCK => Event::Block(event, BlockOf::Response, head, path),
                _ => Event::Block(event, BlockOf::Trailers, head, path),
            })
        }
        types::ev_kind::EV_CONN_END => Ok(Event::ConnEnd(copy(record, header.kind)?)),
        types::ev_kind::EV_SPAN => {
            let event: Box<ev_span> = Box::new(copy(record, header.kind)?);
            let rest = record.get(size_of::<ev_span>()..).ok_or(short)?;
            let head = rest.get(..event.captured.into()).ok_or(short)?;
            Ok(Event::Span(event, head))
        }
        types::ev_kind::EV_CONNECT => Ok(Event::Connect(Box::new(copy(record, header.kind)?))),
        other => Err(DecodeError::Kind(other.0)),
    }
}

/// Decodes a record of the control ring.
pub fn decode_proc(record: &[u8]) -> Result<ProcEvent, DecodeError> {
    let header: ev_hdr = copy(record, 0)?;
    let event: ev_proc = copy(record, header.kind)?;
    let pid = header.tgid;
    match types::ev_kind(header.kind) {
        types::ev_kind::EV_EXEC => {
            let serving = event.flags & types::ev_exec_flag::EXEC_SERVING.0 != 0;
            Ok(ProcEvent::Exec { pid, serving })
        }
        types::ev_kind::EV_FORK => Ok(ProcEvent::Fork { parent: pid, child: event.other }),
        types::ev_kind::EV_EXIT => Ok(ProcEvent::Exit { pid }),
        types::ev_kind::EV_LOOP => Ok(ProcEvent::Loop { pid }),
        types::ev_kind::EV_LISTEN => {
            let port = u16::try_from(event.other).map_err(|_| DecodeError::Kind(header.kind))?;
            Ok(ProcEvent::Listen { pid, port, netns: event.flags })
        }
        other => Err(DecodeError::Kind(other.0)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _any = decode(&bytes);
            let _any = decode_proc(&bytes);
        }

        #[test]
        fn forged_lengths_are_refused(captured in any::<u32>(), unix_len in any::<u32>(), tail in 0_usize..64) {
            let mut record = vec![0; 40 + tail];
            record[8..12].copy_from_slice(&types::ev_kind::EV_HEAD.0.to_ne_bytes());
            record[28..32].copy_from_slice(&captured.to_ne_bytes());
            record[32..36].copy_from_slice(&unix_len.to_ne_bytes());
            match decode(&record) {
                Ok(Event::Head(_, head, path)) => {
                    prop_assert_eq!(head.len(), captured as usize);
                    prop_assert_eq!(path.len(), unix_len as usize);
                    prop_assert!(head.len() + path.len() <= tail);
                }
                Ok(_) => prop_assert!(false, "another kind"),
                Err(_) => prop_assert!(captured as usize + unix_len as usize > tail),
            }
        }
    }
}
