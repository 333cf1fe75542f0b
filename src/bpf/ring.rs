//! Reading of the kernel's rings: one thread each, woken by the ring or by the stop signal.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use libbpf_rs::{AsRawLibbpf, MapHandle, RingBuffer, RingBufferBuilder, libbpf_sys};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Ends all readers that hold a clone.
#[derive(Clone, Debug)]
pub struct Stop(Arc<EventFd>);

impl Stop {
    /// A signal that is not given yet.
    pub fn new() -> Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_value_and_flags(0, flags).context("making an eventfd")?)))
    }

    /// Gives the signal. It stays given.
    pub fn signal(&self) {
        let _full_means_given = self.0.write(1);
    }
}

/// A ring with the function that gets its records.
pub struct Ring<'a>(RingBuffer<'a>);

/// How full a ring was found, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// Records that waited.
    pub waiting: u64,
    /// Room for all.
    pub size: u64,
}

impl std::fmt::Debug for Ring<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl<'a> Ring<'a> {
    /// `on_record` is called on the reader's thread, in the order of the records. It must copy.
    pub fn new(map: &'a MapHandle, mut on_record: impl FnMut(&[u8]) + 'a) -> Result<Self> {
        let mut builder = RingBufferBuilder::new();
        builder.add(map, move |record| {
            on_record(record);
            0
        })?;
        Ok(Self(builder.build().context("mapping a ring buffer")?))
    }

    #[allow(unsafe_code)]
    fn fill(&self) -> Fill {
        // SAFETY: libbpf's object lives as long as `self.0`, and it has one ring, number 0.
        let (waiting, size) = unsafe {
            let ring = libbpf_sys::ring_buffer__ring(self.0.as_libbpf_object().as_ptr(), 0);
            (libbpf_sys::ring__avail_data_size(ring), libbpf_sys::ring__size(ring))
        };
        Fill { waiting, size }
    }
}

/// Waits on a ring and a stop signal.
#[derive(Debug)]
pub struct Reader<'a> {
    ring: Ring<'a>,
    stop: Stop,
    tick: Duration,
}

impl<'a> Reader<'a> {
    /// `tick` bounds how long a record waits that did not wake us.
    #[must_use]
    pub fn new(ring: Ring<'a>, stop: Stop, tick: Duration) -> Self {
        Self { ring, stop, tick }
    }

    /// Reads until the stop signal; `after` runs whenever a batch of records was read, and at
    /// each tick; it is told how much waited. What is in the ring at the signal is still read.
    pub fn run(&self, mut after: impl FnMut(Fill)) -> Result<()> {
        let timeout = PollTimeout::try_from(self.tick).unwrap_or(PollTimeout::MAX);
        let ring_fd = self.ring.0.epoll_fd();
        loop {
            let stopped = {
                let ring_fd = borrow(ring_fd);
                let mut fds = [
                    PollFd::new(ring_fd, PollFlags::POLLIN),
                    PollFd::new(self.stop.0.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut fds, timeout) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error).context("polling a ring buffer"),
                }
                fds[1].any().unwrap_or(false)
            };
            let fill = self.ring.fill();
            self.ring.0.consume().context("reading a ring buffer")?;
            after(fill);
            if stopped {
                return Ok(());
            }
        }
    }
}

#[allow(unsafe_code)]
fn borrow<'fd>(fd: i32) -> BorrowedFd<'fd> {
    // SAFETY: libbpf owns the descriptor and keeps it open as long as the ring, which outlives
    // every use in `run`.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
