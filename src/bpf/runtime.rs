//! The object of runtime probes: loaded on the maps of the tracer when the first process has a use for it.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{ErrorKind, Link, MapHandle, OpenObject, ProgramInput, UprobeMultiOpts};

use super::load::{Tier, Tracer, kernel_btf, may_stay, release};
use super::skel::runtime::{RuntimeSkel, RuntimeSkelBuilder};

/// The program that is attached nowhere, and tells the tracer of a process.
const MARK: &str = "rt_mark";

/// Functions of a library that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuntimeProbe {
    /// `getsockopt()` of the C library.
    Getsockopt,
    /// Calls and streams of gRPC's core.
    GrpcCore,
}

/// `enum proc_flag` in `state.h`: what a probe needs of the tracer.
const PROC_HANDS: u64 = 2;
const PROC_CORE: u64 = 16;

impl RuntimeProbe {
    /// The functions by their symbols, in the order in which [`RuntimeProbes::attach`] takes them.
    #[must_use]
    pub fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Getsockopt => &["getsockopt"],
            // What is attached first is passed last: nothing begins that is not seen to go on.
            Self::GrpcCore => &[
                "_Z26grpc_chttp2_stream_map_addP22grpc_chttp2_stream_mapjPv",
                "_ZN18grpc_chttp2_streamC1EP21grpc_chttp2_transportP20grpc_stream_refcountPKvPN9grpc_core5ArenaE",
                "grpc_call_start_batch",
            ],
        }
    }

    /// The programs for these, by perf events or by several at once.
    fn programs(self, multi: bool) -> &'static [&'static str] {
        match (self, multi) {
            (Self::Getsockopt, false) => &["up_getsockopt"],
            (Self::Getsockopt, true) => &["um_getsockopt"],
            (Self::GrpcCore, false) => &["up_stream_numbered", "up_stream_made", "up_batch_starts"],
            (Self::GrpcCore, true) => &["um_stream_numbered", "um_stream_made", "um_batch_starts"],
        }
    }

    fn mark(self) -> u64 {
        match self {
            Self::Getsockopt => PROC_HANDS,
            Self::GrpcCore => PROC_CORE,
        }
    }

    /// Maps that only its programs have.
    fn maps(self) -> &'static [&'static str] {
        match self {
            Self::Getsockopt => &[],
            Self::GrpcCore => &["core_objects"],
        }
    }
}

/// Loads and attaches uprobes.
pub struct RuntimeProbes {
    maps: Vec<(&'static str, MapHandle)>,
    conns_in_hash: bool,
    /// Those that were tried.
    loaded: HashMap<RuntimeProbe, Result<Loaded, String>>,
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
pub struct Attached(#[expect(dead_code, reason = "detaches when dropped")] Vec<Link>);

/// Whether they need no perf events. Before v6.10 ("bpf: Fix multi-uprobe PID filtering logic") it was for one thread of a
/// process only.
pub(super) fn has_multi() -> bool {
    release() >= (6, 12)
}

/// Whether probes have to forbid preemption around what they do. From v6.13 on the JIT gives a program one stack a CPU, also
/// where it does not keep the next task out of the program, as at uprobes.
pub(super) fn must_stay() -> Result<bool, String> {
    if release() < (6, 13) {
        return Ok(false);
    }
    let btf = kernel_btf().map_err(|e| e.to_string())?;
    may_stay(&btf).then_some(true).ok_or_else(|| {
        "tasks may share the stack of a program (Linux 6.13 and 6.14, and real-time kernels since)".to_owned()
    })
}

impl fmt::Debug for RuntimeProbes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loaded: Vec<_> =
            self.loaded.iter().filter(|(_, loaded)| loaded.is_ok()).map(|(probe, _)| probe).collect();
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
        share!(selected, watched, procs, conns, task_ctxs, slots, begun_calls, spanwire_stats);
        Ok(Self { maps, conns_in_hash: tracer.tier == Tier::B, loaded: HashMap::new() })
    }

    fn load(&self, probe: RuntimeProbe) -> Result<Loaded, String> {
        let loaded = if has_multi() {
            self.load_as(probe, true).or_else(|_| self.load_as(probe, false))
        } else {
            self.load_as(probe, false)
        };
        super::memory::trim();
        loaded
    }

    fn load_as(&self, probe: RuntimeProbe, multi: bool) -> Result<Loaded, String> {
        let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = RuntimeSkelBuilder::default().open(storage).map_err(|e| format!("opening: {e}"))?;
        let rodata = open.maps.rodata_data.as_mut().ok_or("no read-only data in the BPF object")?;
        rodata.cfg.conns_in_hash = self.conns_in_hash.into();
        rodata.cfg.stay = must_stay()?.into();
        for mut program in open.open_object_mut().progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            program.set_autoload(name == MARK || probe.programs(multi).contains(&name.as_str()));
        }
        for mut map in open.open_object_mut().maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            // What is behind a dot is of the object itself.
            let own = name.contains('.') || probe.maps().contains(&name.as_str());
            let done = match self.maps.iter().find(|(known, _)| *known == name) {
                Some((_, shared)) => map.reuse_fd(shared.as_fd()),
                None if own => Ok(()),
                None => map.set_autocreate(false),
            };
            done.map_err(|e| format!("map {name}: {e}"))?;
        }
        let skel = Box::new(open.load().map_err(|e| format!("loading: {e:#}"))?);
        Ok(Loaded { skel, multi })
    }

    /// Puts a probe into the code in `file`, for one process: at these offsets are its functions.
    pub fn attach(
        &mut self,
        probe: RuntimeProbe,
        tgid: u32,
        file: &File,
        offsets: &[u64],
    ) -> Result<Attached, String> {
        let loaded = self.loaded.remove(&probe).unwrap_or_else(|| self.load(probe));
        let Loaded { skel, multi } = match self.loaded.entry(probe).insert_entry(loaded).into_mut() {
            Ok(loaded) => loaded,
            Err(reason) => return Err(reason.clone()),
        };
        // The file itself: a path may lead elsewhere by now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let pid = i32::try_from(tgid).map_err(|e| e.to_string())?;
        // What it reads from now on can be found when it is handed over.
        let mut context = [u64::from(tgid).to_ne_bytes(), probe.mark().to_ne_bytes()].concat();
        let input = ProgramInput { context_in: Some(&mut context), ..ProgramInput::default() };
        skel.progs.rt_mark.test_run(input).map_err(|e| format!("telling the kernel side: {e:#}"))?;
        let mut links = Vec::new();
        for (name, offset) in probe.programs(*multi).iter().zip(offsets) {
            let offset = usize::try_from(*offset).map_err(|e| e.to_string())?;
            let program = skel
                .object_mut()
                .progs_mut()
                .find(|p| p.name() == *name)
                .ok_or_else(|| format!("no program {name}"))?;
            let link = if *multi {
                let options = UprobeMultiOpts { offsets: vec![offset], ..UprobeMultiOpts::default() };
                program.attach_uprobe_multi_with_opts(pid, &path, "", options)
            } else {
                program.attach_uprobe(false, pid, &path, offset)
            };
            links.push(link.map_err(|e| match e.kind() {
                ErrorKind::PermissionDenied if !*multi => {
                    format!("attaching {probe:?}: {e:#}: before Linux 6.12 that takes CAP_SYS_ADMIN")
                }
                _ => format!("attaching {probe:?}: {e:#}"),
            })?);
        }
        Ok(Attached(links))
    }
}
