//! What is asked of sockets, our own and copies of others'.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The number that the kernel knows a socket by; never used twice.
pub fn cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: both pointers are to live variables of the sizes that are told.
    check(unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    })?;
    Ok(cookie)
}

/// Bytes that can be read, by the ioctl that programs ask with.
pub fn pending(socket: impl AsFd) -> io::Result<usize> {
    let mut pending: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut pending) })?;
    Ok(usize::try_from(pending).unwrap_or(0))
}

/// A handle to a process.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers; the descriptor it returns is ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    owned(fd)
}

/// A handle to a thread, since v6.9: 64f9dc3db5b1 ("pidfd: allow `pidfd_open()` on non-thread-group leaders").
pub fn pidfd_of_thread(tid: u32) -> io::Result<OwnedFd> {
    // PIDFD_THREAD
    // SAFETY: as above.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, tid, libc::O_EXCL) };
    owned(fd)
}

/// A copy of another process's descriptor. Close it at once: the other's close() waits for ours.
pub fn pidfd_getfd(process: BorrowedFd<'_>, fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: as above.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) };
    owned(fd)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = check(i32::try_from(fd).unwrap_or(-1))?;
    // SAFETY: a system call has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
