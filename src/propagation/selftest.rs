//! What membership of a sockhash does to a socket on this kernel, measured on a pair of our own.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::bpf::{Claims, socket};

/// The finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// No difference.
    Harmless,
    /// `ioctl(FIONREAD)` says 0 when bytes are waiting: 929e30f93125 ("bpf, sockmap: Fix FIONREAD for
    /// sockmap"), in 6.6.128, 6.12.75, 6.18.14, 6.19 and up to its repair in 7.2.
    HidesPending,
    /// Something else: nothing is ever claimed.
    Broken(&'static str),
}

impl Membership {
    /// For logs and `check`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::HidesPending => "hides pending bytes from FIONREAD",
            Self::Broken(how) => how,
        }
    }
}

/// Sends both ways through a claimed socket and looks at it as programs do.
pub(super) fn run(claims: &Claims) -> io::Result<Membership> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut ours = TcpStream::connect(listener.local_addr()?)?;
    let (mut peer, _) = listener.accept()?;
    for end in [&ours, &peer] {
        end.set_read_timeout(Some(Duration::from_secs(2)))?;
        end.set_nodelay(true)?;
    }
    let cookie = socket::cookie(&ours)?;
    claims.add(ours.as_fd(), cookie).map_err(io::Error::other)?;
    let finding = observe(&mut ours, &mut peer);
    claims.remove(cookie);
    if finding? == Membership::HidesPending {
        // Let go of, it must be a socket like any other.
        peer.write_all(b"again")?;
        if pending_soon(&ours)? != 5 {
            return Ok(Membership::Broken("FIONREAD stays wrong after the release"));
        }
        return Ok(Membership::HidesPending);
    }
    Ok(Membership::Harmless)
}

fn observe(ours: &mut TcpStream, peer: &mut TcpStream) -> io::Result<Membership> {
    let mut bytes = [0; 16];
    ours.write_all(b"request")?;
    peer.read_exact(&mut bytes[..7])?;
    peer.write_all(b"answer")?;
    let pending = pending_soon(ours)?;
    let read = ours.read(&mut bytes)?;
    Ok(match (&bytes[..read], pending) {
        (b"answer", 6) => Membership::Harmless,
        (b"answer", 0) => Membership::HidesPending,
        (b"answer", _) => Membership::Broken("FIONREAD"),
        _ => Membership::Broken("recv()"),
    })
}

fn pending_soon(socket: &TcpStream) -> io::Result<usize> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(2000_u16))?;
    socket::pending(socket)
}
