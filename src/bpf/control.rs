//! What user space may change and read in the running kernel side.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use libbpf_rs::{MapCore, MapFlags, MapHandle, Result};
use memmap2::{MmapOptions, MmapRaw};

use super::abi::{open_req, types};
use super::missed::Programs;
use super::skel::TracerMaps;

/// Highest host pid, plus one: `MAX_TGID` of `bpf/include/maps.h`.
const MAX_TGID: u32 = 4 << 20;

/// A mapping counts as ours in full: 64 KiB instead of 2 MiB.
const PIDS_AT_ONCE: u32 = 2 * 65536;

/// All slots are 8 MiB, which would count as ours while they are mapped. A part is whole pages, and no rest is left.
const SLOTS_AT_ONCE: usize = 1024;
const _: () = assert!((SLOTS_AT_ONCE * size_of::<open_req>()).is_multiple_of(65536));
const _: () = assert!((types::abi_limits::SLOTS.0 as usize).is_multiple_of(SLOTS_AT_ONCE));

/// Names of the kernel side's counters, in the order of `enum counter` in `abi.h`.
const COUNTERS: [&str; 52] = [
    "ring_full_span",
    "ring_full_head",
    "ring_full_block",
    "ring_full_connect",
    "ring_full_ctl",
    "requests_full",
    "procs_full",
    "heads_full",
    "scratch_busy",
    "socket_state",
    "task_state",
    "head_too_long",
    "bad_framing",
    "pipeline_too_deep",
    "lost_sync",
    "unreadable",
    "not_http",
    "unexpected_response",
    "h2_connections",
    "h2_full",
    "h2_bad",
    "h2_block_too_long",
    "unsampled",
    "refused_ambiguous",
    "refused_background",
    "refused_answered",
    "refused_early",
    "refused_pool",
    "refused_unkept",
    "refused_events",
    "refused_traceparent",
    "joins",
    "speculation_undone",
    "loops_found",
    "requests_handed",
    "inject_done",
    "inject_own",
    "inject_unclaimed",
    "inject_unsynced",
    "inject_upgrade",
    "inject_framing",
    "inject_no_room",
    "inject_failed",
    "inject_unknown",
    "inject_unproved",
    "inject_split",
    "inject_too_large",
    "inject_cut",
    "claim_made",
    "claim_denied",
    "claim_held",
    "claim_refused",
];

const _: () = {
    assert!(types::counter::STAT_MAX.0 as usize == COUNTERS.len());
    assert!(types::counter::STAT_NOT_HTTP.0 == 16);
    assert!(types::counter::STAT_SPECULATION_UNDONE.0 == 32);
};

const SELECTION: u32 = types::select_bit::SELECT_ON.0 | types::select_bit::SELECT_THREADS.0;
const INJECTION: u32 = types::select_bit::SELECT_INJECT.0 | types::select_bit::SELECT_BRIEFLY.0;

/// `struct listen_port`.
fn listen_key(netns: u32, port: u16) -> [u8; 8] {
    let mut key = [0_u8; 8];
    key[..4].copy_from_slice(&netns.to_ne_bytes());
    key[4..].copy_from_slice(&u32::from(port).to_ne_bytes());
    key
}

/// The kernel side's counters, summed over all CPUs since the start.
pub type Counters = Vec<(&'static str, u64)>;

/// What it means that a thread of a process has read a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Nothing: the runtime moves work between threads without the kernel's knowledge.
    Moved,
    /// It works for it until it answers, unless it reads when an epoll says so.
    Held,
    /// The same, and another thread may poll for it: of what does not block, it depends on its name.
    Workers,
}

/// Whether the requests of a process are given a header, and how its sockets are claimed for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Injection {
    /// Nothing is claimed.
    #[default]
    Off,
    /// From the connect to the close.
    Lasting,
    /// For one request at a time: where membership of a sockhash changes what programs see.
    Brief,
}

/// A cheap handle to the running kernel side.
#[derive(Clone, Debug)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The selection bitmap, shared with the BPF programs.
    selected: MapHandle,
    /// The part of it that was looked at last, and where it begins.
    part: Mutex<Option<(u32, MmapRaw)>>,
    slots: MapHandle,
    watched: MapHandle,
    dests: MapHandle,
    listeners: MapHandle,
    pollers: MapHandle,
    stats: MapHandle,
    programs: Programs,
}

impl Control {
    pub(super) fn new(maps: &TracerMaps<'_>, programs: Programs) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            selected: MapHandle::try_from(&maps.selected)?,
            part: Mutex::default(),
            slots: MapHandle::try_from(&maps.slots)?,
            watched: MapHandle::try_from(&maps.watched)?,
            dests: MapHandle::try_from(&maps.dests)?,
            listeners: MapHandle::try_from(&maps.listeners)?,
            pollers: MapHandle::try_from(&maps.pollers)?,
            stats: MapHandle::try_from(&maps.spanwire_stats)?,
            programs,
        })))
    }

    /// Does `with` with the word that has the bits of a pid.
    fn word<R>(&self, pid: u32, with: impl FnOnce(&AtomicU64) -> R) -> Option<R> {
        if pid >= MAX_TGID {
            return None;
        }
        let first = pid / PIDS_AT_ONCE * PIDS_AT_ONCE;
        let mut part = self.0.part.lock().unwrap_or_else(PoisonError::into_inner);
        if part.as_ref().is_none_or(|(begins, _)| *begins != first) {
            let mut wanted = MmapOptions::new();
            wanted.offset(u64::from(first) / 2).len(PIDS_AT_ONCE as usize / 2);
            match wanted.map_raw(&self.0.selected.as_fd()) {
                Ok(mapping) => *part = Some((first, mapping)),
                Err(error) => {
                    tracing::error!(pid, %error, "The selection of a process cannot be read or changed.");
                    return None;
                }
            }
        }
        let (_, mapping) = part.as_ref()?;
        // SAFETY: the mapping has four bits for each pid from `first` on, is aligned to a page, lives as long as `part` is locked,
        // and is only ever accessed atomically, here and by the BPF programs.
        Some(with(unsafe { &*mapping.as_mut_ptr().cast::<AtomicU64>().add((pid - first) as usize / 16) }))
    }

    fn set(&self, pid: u32, mask: u32, bits: u32) {
        let shift = pid % 16 * 4;
        let change = |old: u64| Some(old & !(u64::from(mask) << shift) | u64::from(bits) << shift);
        self.word(pid, |word| word.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).ok());
    }

    /// Starts to look at a process.
    pub fn select(&self, pid: u32, threads: Threads) {
        // What a selected process has become by an exec is not what it was watched as.
        if !self.is_selected(pid) || threads == Threads::Workers {
            let workers = u64::from(types::watch_flag::WATCH_WORKERS.0);
            let flags = if threads == Threads::Workers { workers } else { 0 };
            let since = crate::time::monotonic_ns() & !workers | flags;
            // A full table leaves the process to its first request, which is later: no harm.
            let _full = self.0.watched.update(&pid.to_ne_bytes(), &since.to_ne_bytes(), MapFlags::ANY);
        }
        let threads = if threads == Threads::Moved { 0 } else { types::select_bit::SELECT_THREADS.0 };
        self.set(pid, SELECTION, types::select_bit::SELECT_ON.0 | threads);
    }

    /// Whether the requests of a selected process are given a header.
    pub fn inject(&self, pid: u32, injection: Injection) {
        let bits = match injection {
            Injection::Off => 0,
            Injection::Lasting => types::select_bit::SELECT_INJECT.0,
            Injection::Brief => INJECTION,
        };
        self.set(pid, INJECTION, bits);
    }

    /// Stops to look at a process.
    pub fn deselect(&self, pid: u32) {
        self.set(pid, SELECTION | INJECTION, 0);
        self.forget(pid);
    }

    /// A process is gone.
    pub fn forget(&self, pid: u32) {
        let _never_there = self.0.watched.delete(&pid.to_ne_bytes());
    }

    /// Whether a process is selected; forks of selected ones are without our doing.
    #[must_use]
    pub fn is_selected(&self, pid: u32) -> bool {
        self.word(pid, |word| word.load(Ordering::Acquire))
            .is_some_and(|word| word >> (pid % 16 * 4) & 1 == 1)
    }

    /// Requests that are open and began before `limit` (monotonic nanoseconds).
    #[must_use]
    pub fn open_since(&self, limit: u64) -> Vec<Box<open_req>> {
        let mut old = Vec::new();
        let count = types::abi_limits::SLOTS.0 as usize;
        let length = SLOTS_AT_ONCE * size_of::<open_req>();
        for first in (0..count).step_by(SLOTS_AT_ONCE) {
            let offset = (first * size_of::<open_req>()) as u64;
            let mut part = MmapOptions::new();
            let Ok(mapping) = part.offset(offset).len(length).map_raw_read_only(&self.0.slots.as_fd()) else {
                break;
            };
            let slots = mapping.as_ptr().cast::<open_req>();
            for slot in 0..SLOTS_AT_ONCE {
                // SAFETY: the mapping has as many slots of plain numbers and is aligned to a page. The BPF programs write to it
                // meanwhile, so it is read as volatile, and what may be a mixture of two requests is not taken: its tag changed.
                let (tag, open, after) = unsafe {
                    let tag = &raw const (*slots.add(slot)).tag;
                    let before = tag.read_volatile();
                    if before <= 1 {
                        continue;
                    }
                    (before, Box::new(slots.add(slot).read_volatile()), tag.read_volatile())
                };
                let sampled = open.flags & 1 == 1; // REQ_SAMPLED
                if tag == after && tag == open.tag && sampled && open.ev.hdr.ts < limit {
                    old.push(open);
                }
            }
        }
        old
    }

    /// Tells the kernel side of a listening port that is older than it.
    pub fn add_listener(&self, netns: u32, port: u16) -> Result<()> {
        self.0.listeners.update(&listen_key(netns, port), &1_u32.to_ne_bytes(), MapFlags::ANY)
    }

    /// Whether the port is, or was, listened on.
    #[must_use]
    pub fn is_listener(&self, netns: u32, port: u16) -> bool {
        self.0.listeners.lookup(&listen_key(netns, port), MapFlags::ANY).is_ok_and(|found| found.is_some())
    }

    /// Whether a thread waits for connections in `poll()` or `select()`.
    pub fn set_poller(&self, thread: BorrowedFd<'_>, polls: bool) -> Result<()> {
        let key = thread.as_raw_fd().to_ne_bytes();
        if polls {
            self.0.pollers.update(&key, &1_u32.to_ne_bytes(), MapFlags::ANY)
        } else {
            self.0.pollers.delete(&key)
        }
    }

    /// Forgets the destinations of processes that are gone.
    pub fn sweep_destinations(&self, alive: impl Fn(u32) -> bool) {
        let stale: Vec<Vec<u8>> = self
            .0
            .dests
            .keys()
            .filter(|key| {
                let tgid = key.get(16..20).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
                tgid.is_some_and(|tgid| !alive(tgid))
            })
            .collect();
        for key in stale {
            let _gone = self.0.dests.delete(&key);
        }
    }

    /// All counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let entries = u32::try_from(COUNTERS.len()).unwrap_or(0);
        let mut all = read_counters(&self.0.stats, entries).unwrap_or_default();
        all.push(("hooks_missed", self.0.programs.missed()));
        all
    }
}

/// The counters of a map, if its `entries` are those of this version.
pub(super) fn read_counters(map: &MapHandle, entries: u32) -> Option<Counters> {
    if entries as usize != COUNTERS.len() {
        return None;
    }
    let read = |index: usize| {
        let key = u32::try_from(index).ok()?.to_ne_bytes();
        let per_cpu = map.lookup_percpu(&key, MapFlags::ANY).ok().flatten()?;
        let value = |bytes: &Vec<u8>| bytes.as_slice().try_into().map(u64::from_ne_bytes).ok();
        Some(per_cpu.iter().filter_map(value).sum())
    };
    Some(COUNTERS.iter().enumerate().map(|(index, name)| (*name, read(index).unwrap_or(0))).collect())
}
