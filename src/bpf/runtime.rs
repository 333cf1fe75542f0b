//! The object of runtime probes: loaded on the maps of the tracer when the first process has a use for it.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ErrorKind, Link, MapHandle, OpenObject, ProgramInput, UprobeMultiOpts};

use super::load::{Tier, Tracer, release};
use super::skel::runtime::{RuntimeSkel, RuntimeSkelBuilder};

/// A function of a library that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeProbe {
    /// `getsockopt()` of the C library.
    Getsockopt,
}

/// Loads and attaches uprobes.
pub struct RuntimeProbes {
    maps: Vec<(&'static str, MapHandle)>,
    conns_in_hash: bool,
    /// Once it was tried.
    loaded: Option<Result<Loaded, String>>,
}

struct Loaded {
    skel: Box<RuntimeSkel<'static>>,
    /// Attached without perf events.
    multi: bool,
}

// SAFETY: libbpf's objects belong to no thread, and the methods of `RuntimeProbes` take it mutably.
unsafe impl Send for Loaded {}

/// A probe in one process. Drops with the value.
#[derive(Debug)]
pub struct Attached(#[expect(dead_code, reason = "detaches when dropped")] Link);

/// Whether they need no perf events. Before v6.10 ("bpf: Fix multi-uprobe PID filtering logic") it was for one thread of a
/// process only.
pub(super) fn has_multi() -> bool {
    release() >= (6, 12)
}

impl fmt::Debug for RuntimeProbes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loaded = matches!(self.loaded, Some(Ok(_)));
        f.debug_struct("RuntimeProbes").field("loaded", &loaded).finish_non_exhaustive()
    }
}

impl RuntimeProbes {
    /// Nothing is loaded yet.
    pub fn new(tracer: &Tracer) -> libbpf_rs::Result<Self> {
        let shared = tracer.maps();
        let mut maps = Vec::new();
        macro_rules! share {
            ($($map:ident),*) => { $(maps.push((stringify!($map), MapHandle::try_from(&shared.$map)?));)* };
        }
        share!(selected, watched, procs, conns, task_ctxs, slots, spanwire_stats);
        Ok(Self { maps, conns_in_hash: tracer.tier == Tier::B, loaded: None })
    }

    fn load(&self) -> Result<Loaded, String> {
        let loaded = match has_multi() {
            true => self.load_as(true).or_else(|_| self.load_as(false)),
            false => self.load_as(false),
        };
        super::memory::trim();
        loaded
    }

    fn load_as(&self, multi: bool) -> Result<Loaded, String> {
        let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = RuntimeSkelBuilder::default().open(storage).map_err(|e| format!("opening: {e}"))?;
        let rodata = open.maps.rodata_data.as_mut().ok_or("no read-only data in the BPF object")?;
        rodata.cfg.conns_in_hash = self.conns_in_hash.into();
        open.progs.up_getsockopt.set_autoload(!multi);
        open.progs.um_getsockopt.set_autoload(multi);
        for mut map in open.open_object_mut().maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            // What is behind a dot is of the object itself.
            let done = match self.maps.iter().find(|(known, _)| *known == name) {
                Some((_, shared)) => map.reuse_fd(shared.as_fd()),
                None if name.contains('.') => Ok(()),
                None => map.set_autocreate(false),
            };
            done.map_err(|e| format!("map {name}: {e}"))?;
        }
        let skel = Box::new(open.load().map_err(|e| format!("loading: {e:#}"))?);
        Ok(Loaded { skel, multi })
    }

    /// Puts a probe at `offset` of the code in `file`, for one process.
    pub fn attach(
        &mut self,
        probe: RuntimeProbe,
        tgid: u32,
        file: &File,
        offset: u64,
    ) -> Result<Attached, String> {
        let loaded = self.loaded.take().unwrap_or_else(|| self.load());
        let Loaded { skel, multi } = match self.loaded.insert(loaded) {
            Ok(loaded) => loaded,
            Err(reason) => return Err(reason.clone()),
        };
        let progs = &skel.progs;
        // The file itself: a path may lead elsewhere by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let pid = i32::try_from(tgid).map_err(|e| e.to_string())?;
        let offset = usize::try_from(offset).map_err(|e| e.to_string())?;
        // What it reads from now on can be found when it is handed over.
        let mut context = u64::from(tgid).to_ne_bytes();
        let input = ProgramInput { context_in: Some(&mut context), ..ProgramInput::default() };
        progs.rt_hands.test_run(input).map_err(|e| format!("telling the kernel side: {e:#}"))?;
        let program = match (probe, *multi) {
            (RuntimeProbe::Getsockopt, true) => &progs.um_getsockopt,
            (RuntimeProbe::Getsockopt, false) => &progs.up_getsockopt,
        };
        let link = if *multi {
            let options = UprobeMultiOpts { offsets: vec![offset], ..UprobeMultiOpts::default() };
            program.attach_uprobe_multi_with_opts(pid, path, "", options)
        } else {
            program.attach_uprobe(false, pid, path, offset)
        };
        link.map(Attached).map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied if !*multi => {
                format!("attaching {probe:?}: {e:#}: before Linux 6.12 that takes CAP_SYS_ADMIN")
            }
            _ => format!("attaching {probe:?}: {e:#}"),
        })
    }
}
