//! What user space may change and read in the running kernel side.
#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libbpf_rs::{MapCore, MapFlags, MapHandle, Result};
use memmap2::{MmapOptions, MmapRaw};

use super::abi::types;
use super::skel::TracerMaps;

/// Highest host pid, plus one: `MAX_TGID` of `bpf/include/maps.h`.
const MAX_TGID: u32 = 4 << 20;

/// Names of the kernel side's counters, in the order of `enum counter` in `abi.h`.
const COUNTERS: [&str; 25] = [
    "ring_full_request",
    "ring_full_end",
    "ring_full_connect",
    "ring_full_ctl",
    "requests_full",
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
    "unsampled",
    "refused_ambiguous",
    "refused_background",
    "refused_answered",
    "refused_early",
    "refused_pool",
    "refused_traceparent",
    "joins",
    "speculation_undone",
];

const _: () = {
    assert!(types::counter::STAT_MAX.0 as usize == COUNTERS.len());
    assert!(types::counter::STAT_NOT_HTTP.0 == 14);
    assert!(types::counter::STAT_SPECULATION_UNDONE.0 == 24);
};

/// The kernel side's counters, summed over all CPUs since the start.
pub type Counters = Vec<(&'static str, u64)>;

/// A cheap handle to the running kernel side.
#[derive(Clone, Debug)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The selection bitmap, shared with the BPF programs.
    selected: MmapRaw,
    proc_conf: MapHandle,
    procs: MapHandle,
    dests: MapHandle,
    listeners: MapHandle,
    stats: MapHandle,
}

impl Control {
    pub(super) fn new(maps: &TracerMaps<'_>) -> Result<Self> {
        let selected = MapHandle::try_from(&maps.selected)?;
        let len = MAX_TGID as usize / 8;
        let mapping = MmapOptions::new().len(len).map_raw(&selected.as_fd())?;
        Ok(Self(Arc::new(Inner {
            selected: mapping,
            proc_conf: MapHandle::try_from(&maps.proc_conf)?,
            procs: MapHandle::try_from(&maps.procs)?,
            dests: MapHandle::try_from(&maps.dests)?,
            listeners: MapHandle::try_from(&maps.listeners)?,
            stats: MapHandle::try_from(&maps.stats)?,
        })))
    }

    fn word(&self, pid: u32) -> Option<&AtomicU64> {
        if pid >= MAX_TGID {
            return None;
        }
        // SAFETY: the mapping has MAX_TGID bits, is aligned to a page, lives as long as self,
        // and is only ever accessed atomically, here and by the BPF programs.
        Some(unsafe { &*self.0.selected.as_mut_ptr().cast::<AtomicU64>().add(pid as usize / 64) })
    }

    /// Starts to look at a process. `threads`: one of its threads may stand for one request.
    pub fn select(&self, pid: u32, threads: bool) -> Result<()> {
        let flags = if threads { types::proc_flag::PROC_THREADS.0 } else { 0 };
        let mut conf = [0_u8; 8];
        conf[..4].copy_from_slice(&flags.to_ne_bytes());
        self.0.proc_conf.update(&pid.to_ne_bytes(), &conf, MapFlags::ANY)?;
        if let Some(word) = self.word(pid) {
            word.fetch_or(1 << (pid % 64), Ordering::AcqRel);
        }
        Ok(())
    }

    /// Stops to look at a process.
    pub fn deselect(&self, pid: u32) {
        if let Some(word) = self.word(pid) {
            word.fetch_and(!(1 << (pid % 64)), Ordering::AcqRel);
        }
        // Both are gone already when the process is.
        let _gone = self.0.proc_conf.delete(&pid.to_ne_bytes());
        let _gone = self.0.procs.delete(&pid.to_ne_bytes());
    }

    /// Whether a process is selected; forks of selected ones are without our doing.
    #[must_use]
    pub fn is_selected(&self, pid: u32) -> bool {
        self.word(pid).is_some_and(|word| word.load(Ordering::Acquire) >> (pid % 64) & 1 == 1)
    }

    /// Tells the kernel side of a listening port that is older than it.
    pub fn add_listener(&self, netns: u32, port: u16) -> Result<()> {
        let mut key = [0_u8; 8];
        key[..4].copy_from_slice(&netns.to_ne_bytes());
        key[4..].copy_from_slice(&u32::from(port).to_ne_bytes());
        self.0.listeners.update(&key, &1_u32.to_ne_bytes(), MapFlags::ANY)
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
        let read = |index: usize| {
            let key = u32::try_from(index).unwrap_or(u32::MAX).to_ne_bytes();
            let per_cpu = self.0.stats.lookup_percpu(&key, MapFlags::ANY).ok().flatten()?;
            let value = |bytes: &Vec<u8>| bytes.as_slice().try_into().map(u64::from_ne_bytes).ok();
            Some(per_cpu.iter().filter_map(value).sum())
        };
        COUNTERS.iter().enumerate().map(|(index, name)| (*name, read(index).unwrap_or(0))).collect()
    }
}
