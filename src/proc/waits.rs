//! What threads wait for while they have nothing to do, where no hook sees waits begin (tier C).
//!
//! A thread that waits in `poll()` or `select()` for new connections, and then reads requests from sockets that do not block, waits
//! for those in the same way: an event loop. The kernel side is told of such threads before they have a request, as a rule.
//! Nothing is stopped or changed by the look: `/proc/PID/task/TID/syscall` tells the arguments of a system call that sleeps, and
//! copies of the sockets that it names which of them listens.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};

use crate::bpf::{Control, socket};

/// After a process is found, begins to listen or is born: a program may take its time before it waits.
const LOOKS: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// Threads of a process that are looked at.
const MOST_THREADS: usize = 64;

/// Descriptors of a wait that are looked at.
const MOST_FDS: u64 = 1024;

/// Sockets of a wait that are copied: what a program listens on it opens first.
const MOST_COPIES: usize = 16;

/// Looks at the processes whose threads may hold a request.
#[derive(Debug)]
pub struct Waits {
    control: Control,
    /// Since when, and which look is next. Stays when all are over, for the children.
    known: HashMap<u32, (Instant, usize)>,
}

impl Waits {
    /// None is known yet.
    #[must_use]
    pub fn new(control: Control) -> Self {
        Self { control, known: HashMap::new() }
    }

    /// A process is selected, or begins to listen.
    pub fn expect(&mut self, pid: u32) {
        self.look(pid);
        self.known.insert(pid, (Instant::now(), 0));
    }

    /// A process that is selected has a child.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if self.known.contains_key(&parent) {
            self.known.insert(child, (Instant::now(), 0));
        }
    }

    /// A process runs another program now. Its first thread is the one that it had before.
    pub fn executed(&mut self, pid: u32) {
        if self.known.remove(&pid).is_some()
            && let Ok(thread) = socket::pidfd_open(pid)
        {
            let _never_there = self.control.set_poller(thread.as_fd(), false);
        }
    }

    /// A process is gone, or not selected any more.
    pub fn forget(&mut self, pid: u32) {
        self.known.remove(&pid);
    }

    /// Looks where it is due. To be called now and then.
    pub fn tick(&mut self) {
        let mut due = Vec::new();
        for (pid, (since, look)) in &mut self.known {
            if LOOKS.get(*look).is_some_and(|after| since.elapsed() >= *after) {
                *look += 1;
                due.push(*pid);
            }
        }
        for pid in due {
            self.look(pid);
        }
    }

    fn look(&self, pid: u32) {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
        let threads = threads.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for tid in threads.take(MOST_THREADS) {
            if let Some(descriptors) = waits_for(pid, tid)
                && any_listens(pid, &descriptors)
                && let Err(error) = self.tell(pid, tid)
            {
                tracing::debug!(pid, tid, %error, "A thread that polls is not known as such.");
            }
        }
    }

    fn tell(&self, pid: u32, tid: u32) -> anyhow::Result<()> {
        let thread = if tid == pid { socket::pidfd_open(pid) } else { socket::pidfd_of_thread(tid) }?;
        self.control.set_poller(thread.as_fd(), true)?;
        tracing::debug!(pid, tid, "A thread waits for connections by poll() or select().");
        Ok(())
    }
}

/// Descriptors whose bytes a thread waits for in `poll()` or `select()`; none if it does not.
fn waits_for(pid: u32, tid: u32) -> Option<Vec<i32>> {
    let call = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    let wait = Wait::parse(&call)?;
    let mut bytes = vec![0; wait.bytes()?];
    File::open(format!("/proc/{pid}/mem")).ok()?.read_exact_at(&mut bytes, wait.at()).ok()?;
    Some(wait.descriptors(&bytes))
}

/// Whether one of these descriptors of a process is a listening socket.
fn any_listens(pid: u32, descriptors: &[i32]) -> bool {
    let is_socket = |fd: i32| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{fd}"));
        link.is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
    };
    let Ok(process) = socket::pidfd_open(pid) else { return false };
    let mut lowest_first = descriptors.to_vec();
    lowest_first.sort_unstable();
    // Of nothing but sockets a copy is made: to close another's device may do something. And of as few as can be: a
    // close() of the program's waits for ours.
    lowest_first.into_iter().filter(|fd| is_socket(*fd)).take(MOST_COPIES).any(|fd| {
        socket::pidfd_getfd(process.as_fd(), fd)
            .is_ok_and(|copy| getsockopt(&copy, sockopt::AcceptConn).unwrap_or(false))
    })
}

/// A system call in progress.
#[derive(Debug, PartialEq, Eq)]
enum Wait {
    /// `struct pollfd` there, and how many.
    Poll(u64, u64),
    /// `fd_set` there, and bits in it.
    Select(u64, u64),
}

impl Wait {
    /// Of `/proc/PID/syscall`: the number and six arguments, or `running`.
    fn parse(call: &str) -> Option<Self> {
        let mut words = call.split_ascii_whitespace();
        let number: i64 = words.next()?.parse().ok()?;
        let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        let (first, second) = (argument()?, argument()?);
        match number {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll => Some(Self::Poll(first, second)),
            libc::SYS_ppoll => Some(Self::Poll(first, second)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_select => Some(Self::Select(second, first)),
            libc::SYS_pselect6 => Some(Self::Select(second, first)),
            _ => None,
        }
    }

    fn at(&self) -> u64 {
        let (Self::Poll(at, _) | Self::Select(at, _)) = self;
        *at
    }

    /// How much of the memory there is looked at; none if nothing is waited for.
    fn bytes(&self) -> Option<usize> {
        let bytes = match self {
            Self::Poll(_, count) => 8 * (*count).min(MOST_FDS),
            Self::Select(0, _) => 0,
            Self::Select(_, bits) => (*bits).min(MOST_FDS).div_ceil(64) * 8,
        };
        usize::try_from(bytes).ok().filter(|bytes| *bytes > 0)
    }

    fn descriptors(&self, bytes: &[u8]) -> Vec<i32> {
        match self {
            // Negative ones are left out by the kernel as well.
            Self::Poll(..) => bytes
                .chunks_exact(8)
                .filter_map(|one| Some(i32::from_ne_bytes(one[..4].try_into().ok()?)))
                .filter(|fd| *fd >= 0)
                .collect(),
            // An array of longs: on a little-endian machine, and we run on no other, also one of bytes.
            Self::Select(_, bits) => {
                let bits = i32::try_from((*bits).min(MOST_FDS)).unwrap_or(0);
                let set = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
                (0..bits).zip(set).filter_map(|(fd, is_set)| is_set.then_some(fd)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::select::{FdSet, select};
    use nix::unistd::gettid;
    use proptest::prelude::*;

    use super::*;

    /// What another thread is seen to wait for in `wait`, which is to last for a second.
    fn seen(wait: impl FnOnce() + Send) -> Option<Vec<i32>> {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _heard = tell.send(gettid());
                wait();
            });
            let tid = u32::try_from(told.recv().ok()?.as_raw()).ok()?;
            let until = Instant::now() + Duration::from_millis(900);
            while Instant::now() < until {
                if let Some(found) = waits_for(std::process::id(), tid) {
                    return Some(found);
                }
            }
            None
        })
    }

    #[test]
    fn what_a_thread_waits_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = listener.as_raw_fd();
        let polls = || {
            let mut one = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            poll(&mut one, PollTimeout::from(1000_u16)).unwrap();
        };
        let selects = || {
            let mut set = FdSet::new();
            set.insert(listener.as_fd());
            select(None, &mut set, None, None, &mut nix::sys::time::TimeVal::new(1, 0)).unwrap();
        };
        assert_eq!(seen(polls), Some(vec![fd]));
        assert_eq!(seen(selects), Some(vec![fd]));
        assert_eq!(seen(|| std::thread::sleep(Duration::from_millis(950))), None);
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(any_listens(std::process::id(), &[0, near.as_raw_fd(), fd]));
        assert!(!any_listens(std::process::id(), &[0, near.as_raw_fd(), 9999]));
    }

    #[test]
    fn calls() {
        assert_eq!(Wait::parse("running\n"), None);
        assert_eq!(Wait::parse("-1 0x7ffc 0x0\n"), None);
        let poll = format!("{} 0x10 0x2 0xffffffff 0x0 0x8 0x0 0x7ffe 0x7f00\n", libc::SYS_ppoll);
        assert_eq!(Wait::parse(&poll), Some(Wait::Poll(0x10, 2)));
        let select = format!("{} 0x5 0x20 0x0 0x0 0x0 0x0 0x7ffe 0x7f00\n", libc::SYS_pselect6);
        assert_eq!(Wait::parse(&select), Some(Wait::Select(0x20, 5)));
        assert_eq!(Wait::Select(0, 5).bytes(), None);
        assert_eq!(Wait::Select(1, 65).bytes(), Some(16));
        assert_eq!(Wait::Poll(1, u64::MAX).bytes(), Some(8192));
        assert_eq!(Wait::Select(1, 11).descriptors(&[0b101, 0xff, 0, 0, 0, 0, 0, 0]), [0, 2, 8, 9, 10]);
        assert_eq!(
            Wait::Poll(1, 2).descriptors(&[7, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0]),
            [7]
        );
    }

    proptest! {
        #[test]
        fn any_call(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..100), count: u64) {
            let _any = Wait::parse(&text);
            prop_assert!(Wait::Poll(0, count).descriptors(&bytes).len() <= bytes.len() / 8);
            prop_assert!(Wait::Select(0, count).descriptors(&bytes).len() <= bytes.len() * 8);
        }
    }
}
