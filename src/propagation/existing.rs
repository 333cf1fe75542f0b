//! Client connections that a process already has.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getpeername, getsockname};

use crate::bpf::{Control, socket};

/// Calls `each` with a copy of every TCP socket of the process that has a peer and is no server's. The copy
/// is closed right after: the program's own close() has no effect while it lives.
pub(super) fn clients(
    pid: u32,
    control: &Control,
    mut each: impl FnMut(BorrowedFd<'_>, u64),
) -> io::Result<()> {
    let process = socket::pidfd_open(pid)?;
    let netns = crate::proc::netns(pid).unwrap_or(0);
    for entry in std::fs::read_dir(PathBuf::from(format!("/proc/{pid}/fd")))?.flatten() {
        let is_socket = entry.path().read_link().is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_string_lossy().parse::<i32>();
        let (true, Ok(number)) = (is_socket, number) else { continue };
        let Ok(copy) = socket::pidfd_getfd(process.as_fd(), number) else { continue };
        if is_client(&copy, netns, control)
            && let Ok(cookie) = socket::cookie(&copy)
        {
            each(copy.as_fd(), cookie);
        }
    }
    Ok(())
}

fn is_client(socket: &impl std::os::fd::AsRawFd, netns: u32, control: &Control) -> bool {
    let fd = socket.as_raw_fd();
    let Ok(peer) = getpeername::<SockaddrStorage>(fd) else { return false };
    let Ok(local) = getsockname::<SockaddrStorage>(fd) else { return false };
    let ip = matches!(peer.family(), Some(AddressFamily::Inet | AddressFamily::Inet6));
    let port = local
        .as_sockaddr_in()
        .map(nix::sys::socket::SockaddrIn::port)
        .or_else(|| local.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::port));
    ip && port.is_some_and(|port| !control.is_listener(netns, port))
}
