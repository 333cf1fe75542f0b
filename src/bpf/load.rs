//! Loads and attaches the kernel side, by the first tier that this kernel really runs.

use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Func, FuncProto, Struct, Typedef};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapHandle, OpenObject, OpenProgramMut, ProgramMut, ProgramType, libbpf_sys};
use nix::errno::Errno;
use thiserror::Error;

use super::control::Control;
use super::missed::Programs;
use super::raw;
use super::skel::{OpenTracerSkel, TracerMaps, TracerSkel, TracerSkelBuilder};
use crate::proto::http2::huffman;

/// Which hooks feed the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// fentry and fexit.
    A,
    /// kprobes.
    B,
    /// The `sock_*_length` tracepoints, with the arguments of the system call in progress.
    C,
}

impl Tier {
    /// Best first.
    pub const ALL: [Self; 3] = [Self::A, Self::B, Self::C];

    /// The letter used in the configuration and in `check`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
        }
    }
}

/// The head sampler, as the kernel side applies it when a root starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Fraction of traces kept: 1 for all, 0 for none.
    pub ratio: f64,
    /// Whether a span with a parent follows the parent's flag.
    pub parent_based: bool,
}

/// How many beginnings of names the kernel side compares.
pub const WORKER_NAMES: usize = 8;

/// What the kernel side is built for.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Only this tier; `None` takes the best one that works.
    pub tier: Option<Tier>,
    /// Head sampling.
    pub sampling: Sampling,
    /// Join both ends of a connection on this host.
    pub join: bool,
    /// Whether roots say that their trace id is random.
    pub random_flag: bool,
    /// How the names of a JVM's threads begin that serve what they read; [`WORKER_NAMES`] at most are looked at.
    pub worker_threads: Vec<String>,
    /// Bytes of the data ring, a power of two.
    pub ring_size: u32,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            tier: None,
            sampling: Sampling { ratio: 1.0, parent_based: true },
            join: true,
            random_flag: true,
            worker_threads: Vec::new(),
            ring_size: 4 << 20,
        }
    }
}

/// How a tier fared.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The tier that was tried.
    pub tier: Tier,
    /// `None` if it works, else the program and the reason.
    pub error: Option<String>,
}

/// No tier works, or the kernel has no type information.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Without BTF nothing can be relocated to this kernel.
    #[error("this kernel has no BTF (/sys/kernel/btf/vmlinux): it needs CONFIG_DEBUG_INFO_BTF=y: {0}")]
    NoBtf(String),
    /// A loop of the length of a head is no other way: bounded ones are too many instructions.
    #[error(
        "this kernel has no bpf_loop: Linux 5.17 or newer is needed, or an older one with that backported"
    )]
    NoLoop,
    /// Every tier failed.
    #[error("no way to hook this kernel works: {}", summary(.0))]
    NoTier(Vec<Trial>),
}

fn summary(trials: &[Trial]) -> String {
    let each = trials
        .iter()
        .map(|trial| format!("tier {}: {}", trial.tier.as_str(), trial.error.as_deref().unwrap_or("works")));
    each.collect::<Vec<_>>().join("; ")
}

/// What keeps a program attached.
#[expect(dead_code, reason = "held to be dropped")]
enum Hook {
    Link(Link),
    Raw(OwnedFd),
}

/// The loaded and attached kernel side. Detaches when dropped.
pub struct Tracer {
    /// The tier in use.
    pub tier: Tier,
    /// What was tried, best tier first.
    pub trials: Vec<Trial>,
    /// Whether a hook sees client bytes before they leave the host.
    pub early_send: bool,
    /// Whether sk_msg programs know the task that sends.
    pub(super) task_storage: bool,
    hooks: Vec<Hook>,
    control: Control,
    data: MapHandle,
    ctl: MapHandle,
    // Keeps maps and programs alive; declared last, so hooks go first.
    skel: Box<TracerSkel<'static>>,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("tier", &self.tier)
            .field("trials", &self.trials)
            .finish_non_exhaustive()
    }
}

/// Then it is not for one program that a load fails.
fn is_denied(error: &str) -> bool {
    error.contains("Operation not permitted")
}

/// The verifier gives up (EAGAIN) when a signal waits for its caller, be it the one that lets a stopped process go on. libbpf
/// tries five times for each program: not enough for a profiler's timer, and the next tier may have fewer features.
pub(super) fn despite_signals<T>(mut load: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let mut result = load();
    for _ in 0..5 {
        match &result {
            Err(error) if error.contains("Resource temporarily unavailable") => {
                tracing::debug!(error, "Signals kept the kernel side from being loaded; once more.");
                result = load();
            }
            _ => break,
        }
    }
    result
}

/// As libbpf's errors read.
fn said(error: Errno) -> std::io::Error {
    error.into()
}

/// Whether programs may call `bpf_loop`. True where it cannot be probed: the load will say.
#[must_use]
pub fn has_loop() -> bool {
    ProgramType::Tracepoint.is_helper_supported(libbpf_sys::BPF_FUNC_loop).unwrap_or(true)
}

/// Of the kernel.
pub(super) fn release() -> (u32, u32) {
    let text = nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned());
    let mut numbers = text.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Before, at the latest, a tracepoint forbids preemption by itself.
const TRACEPOINTS_YIELD: (u32, u32) = (6, 19);

/// Why an empty program cannot be hooked to a function of this kernel, if so: known before seconds of verifying, which are in vain.
fn no_trampoline(btf: &Btf<'_>) -> Option<Errno> {
    let function = btf.type_by_name::<Func<'_>>("tcp_sendmsg")?;
    let hooked = raw::Program::empty(function.type_id().into()).load().and_then(|empty| raw::attach(&empty));
    // A signal tells nothing of the kernel.
    hooked.err().filter(|error| *error != Errno::EAGAIN)
}

/// Facts about this kernel that decide which programs are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kernel {
    /// Whether, and why, functions cannot be hooked by fentry.
    no_trampoline: Option<Errno>,
    recvmsg_args: usize,
    early_send: bool,
    bpf_sendmsg: bool,
    kprobes: bool,
    /// Whether what a kprobe puts into a hash needs no memory from an allocator that may be in use.
    hash_from_kprobe: bool,
    /// See [`may_stay`].
    may_stay: bool,
    /// Whether poll(), select() and epoll_wait() can be looked at.
    waits: [bool; 3],
    /// Whether sk_msg programs may use the storage of a task.
    task_storage: bool,
}

impl Kernel {
    fn read(btf: &Btf<'_>) -> Result<Self, LoadError> {
        if !has_loop() {
            return Err(LoadError::NoLoop);
        }
        let recvmsg_args = btf
            .type_by_name::<Func<'_>>("tcp_recvmsg")
            .and_then(|func| FuncProto::try_from(func.next_type()?).ok())
            .map_or(0, |proto| proto.iter().count());
        let early_send = btf.type_by_name::<Typedef<'_>>("btf_trace_tcp_sendmsg_locked").is_some();
        let has = |name| btf.type_by_name::<Func<'_>>(name).is_some();
        let bpf_sendmsg = has("tcp_bpf_sendmsg");
        let kprobes = has("register_kprobe");
        let waits = ["do_sys_poll", "core_sys_select", "do_epoll_wait"].map(has);
        let task_storage =
            ProgramType::SkMsg.is_helper_supported(libbpf_sys::BPF_FUNC_task_storage_get).unwrap_or(false);
        let may_stay = may_stay(btf);
        let hash_from_kprobe = btf.type_by_name::<Struct<'_>>("bpf_mem_alloc").is_some();
        Ok(Self {
            no_trampoline: no_trampoline(btf),
            recvmsg_args,
            early_send,
            bpf_sendmsg,
            kprobes,
            hash_from_kprobe,
            may_stay,
            waits,
            task_storage,
        })
    }
}

/// Whether programs may forbid preemption around functions of their own.
pub(super) fn may_stay(btf: &Btf<'_>) -> bool {
    let has = |name| btf.type_by_name::<Func<'_>>(name).is_some();
    // Before, verifiers refuse functions that are verified by themselves there; on real-time kernels what helpers lock
    // may sleep.
    let real_time = std::path::Path::new("/sys/kernel/realtime").exists();
    has("bpf_preempt_disable") && has("bpf_local_irq_save") && release() >= (6, 15) && !real_time
}

pub(super) fn kernel_btf() -> Result<Btf<'static>, LoadError> {
    Btf::from_vmlinux().map_err(|error| LoadError::NoBtf(error.to_string()))
}

impl Tracer {
    /// Loads the best tier that `options` allow and this kernel runs.
    pub fn load(options: &LoadOptions) -> Result<Self, LoadError> {
        let btf = kernel_btf()?;
        let kernel = Kernel::read(&btf)?;
        let tiers: Vec<Tier> = options.tier.map_or_else(|| Tier::ALL.to_vec(), |tier| vec![tier]);
        let mut trials = Vec::new();
        for tier in tiers {
            match Self::try_tier(tier, options, &kernel, &btf) {
                Ok(mut tracer) => {
                    trials.push(Trial { tier, error: None });
                    tracer.trials = trials;
                    return Ok(tracer);
                }
                Err(error) => trials.push(Trial { tier, error: Some(error) }),
            }
        }
        Err(LoadError::NoTier(trials))
    }

    /// Tries every tier, leaves nothing loaded. For `spanwire check`.
    pub fn try_all(options: &LoadOptions) -> Result<Vec<Trial>, LoadError> {
        let btf = kernel_btf()?;
        let kernel = Kernel::read(&btf)?;
        let trial = |tier| Trial { tier, error: Self::try_tier(tier, options, &kernel, &btf).err() };
        Ok(Tier::ALL.into_iter().map(trial).collect())
    }

    /// A name in BTF is no promise that a function can be hooked or called: what a tier can do without is left out
    /// piece by piece.
    fn try_tier(tier: Tier, options: &LoadOptions, kernel: &Kernel, btf: &Btf<'_>) -> Result<Self, String> {
        let first = Self::try_with(tier, options, kernel, btf);
        let plainer =
            [Kernel { may_stay: false, ..*kernel }, Kernel { may_stay: false, waits: [false; 3], ..*kernel }];
        match &first {
            Err(error) if (tier != Tier::C || release() >= TRACEPOINTS_YIELD) && !is_denied(error) => plainer
                .iter()
                .filter(|plain| *plain != kernel)
                .find_map(|plain| Self::try_with(tier, options, plain, btf).ok())
                .inspect(|_| tracing::warn!(%error, "The kernel refuses a part of the kernel side, which runs without it."))
                .map_or(first, Ok),
            _ => first,
        }
    }

    fn try_with(tier: Tier, options: &LoadOptions, kernel: &Kernel, btf: &Btf<'_>) -> Result<Self, String> {
        let once = |at_once| despite_signals(|| Self::try_once(tier, options, kernel, at_once));
        // kprobes are attached in more ways than one, which libbpf knows
        if tier == Tier::B || !raw::has_helpers() {
            return once(None);
        }
        // libbpf has a log of what the verifier says
        once(Some(btf)).or_else(|error| if is_denied(&error) { Err(error) } else { once(None) })
    }

    /// With `at_once`, the BTF of the kernel, large programs are verified at the same time.
    fn try_once(
        tier: Tier,
        options: &LoadOptions,
        kernel: &Kernel,
        at_once: Option<&Btf<'_>>,
    ) -> Result<Self, String> {
        if let Some(error) = kernel.no_trampoline.filter(|_| tier == Tier::A) {
            // ENOTSUPP is a number of the kernel's own, and what architectures without trampolines say.
            let why = if error == Errno::UnknownErrno { "not supported" } else { error.desc() };
            return Err(format!("hooking a function: {why}"));
        }
        if tier == Tier::B && !kernel.kprobes {
            return Err("this kernel has no kprobes".to_owned());
        }
        if tier == Tier::B && !kernel.hash_from_kprobe {
            return Err("before Linux 6.1 a kprobe may not allocate what it keeps".to_owned());
        }
        // The skeleton borrows this for as long as it lives. One per attempt, a few hundred
        // bytes, a few times in the life of the process.
        let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = TracerSkelBuilder::default().open(storage).map_err(|e| format!("opening: {e}"))?;
        configure(&mut open, tier, options, kernel)?;
        choose(&mut open, tier, kernel);
        let large = at_once.map_or_else(|| Ok(Vec::new()), |btf| take_out(&mut open, tier, kernel, btf))?;
        let (names, large): (Vec<_>, Vec<_>) = large.into_iter().unzip();
        let (skel, large) = raw::load_all(&large, || open.load());
        let mut skel = Box::new(skel.map_err(|e| format!("loading: {e:#}"))?);
        let large: Vec<_> = names.into_iter().zip(large).collect();

        let data = MapHandle::try_from(&skel.maps.rb_data).map_err(|e| e.to_string())?;
        let ctl = MapHandle::try_from(&skel.maps.rb_ctl).map_err(|e| e.to_string())?;
        let mut hooks = Vec::new();
        let mut loaded = Programs::default();
        for (name, program) in programs(&mut skel, tier, kernel) {
            if let Some((_, program)) = large.iter().find(|(of, _)| *of == name) {
                let program = program.as_ref().map_err(|e| format!("loading {name}: {}", said(*e)))?;
                let hook = raw::attach(program).map_err(|e| format!("attaching {name}: {}", said(e)))?;
                hooks.push(Hook::Raw(hook));
                loaded.add(program);
            } else {
                let link = program.attach().map_err(|e| format!("attaching {name}: {e:#}"))?;
                hooks.push(Hook::Link(link));
                loaded.add(program);
            }
        }
        tracing::debug!(tier = tier.as_str(), ?kernel, "The kernel side is attached.");
        let control = Control::new(&skel.maps, loaded).map_err(|e| format!("maps: {e}"))?;
        Ok(Self {
            tier,
            trials: Vec::new(),
            early_send: tier != Tier::C || kernel.early_send,
            task_storage: kernel.task_storage,
            hooks,
            control,
            data,
            ctl,
            skel,
        })
    }

    /// Handle for the rest of the program.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The ring of request events.
    #[must_use]
    pub fn data_ring(&self) -> &MapHandle {
        &self.data
    }

    /// The ring of process events.
    #[must_use]
    pub fn ctl_ring(&self) -> &MapHandle {
        &self.ctl
    }

    pub(super) fn maps(&self) -> &TracerMaps<'static> {
        &self.skel.maps
    }

    /// Detaches all hooks: nothing new is seen, what is in the rings can still be read.
    pub fn detach(&mut self) {
        self.hooks.clear();
    }
}

/// Fills the configuration of one object; each skeleton has a type of its own for it.
macro_rules! fill_config {
    ($cfg:expr, $options:expr) => {{
        let (cfg, options): (_, &$crate::bpf::LoadOptions) = (&mut $cfg, $options);
        let ratio = options.sampling.ratio;
        // enum sampler_kind
        cfg.sampler = if ratio >= 1.0 {
            0
        } else if ratio <= 0.0 {
            1
        } else {
            2
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 < ratio < 1")]
        {
            cfg.sample_bound = (ratio * (1_u64 << 63) as f64) as u64;
        }
        cfg.parent_based = options.sampling.parent_based.into();
        cfg.join = options.join.into();
        cfg.random_flag = options.random_flag.into();
        cfg.self_tgid = std::process::id();
        cfg.exclusive_after_ns = 500_000_000;
        cfg.wakeup_bytes = options.ring_size / 8;
    }};
}
pub(super) use fill_config;

fn configure(
    open: &mut OpenTracerSkel<'_>,
    tier: Tier,
    options: &LoadOptions,
    kernel: &Kernel,
) -> Result<(), String> {
    let rodata = open.maps.rodata_data.as_mut().ok_or("no read-only data in the BPF object")?;
    fill_config!(rodata.cfg, options);
    rodata.huffman = *huffman::kernel_table();
    rodata.cfg.task_storage = kernel.task_storage.into();
    rodata.cfg.stay = (kernel.may_stay && (tier == Tier::A || release() >= TRACEPOINTS_YIELD)).into();
    rodata.cfg.conns_in_hash = (tier == Tier::B).into();
    rodata.cfg.waits_unseen = (tier == Tier::C).into();
    for (i, name) in options.worker_threads.iter().take(WORKER_NAMES).enumerate() {
        let (name, mask) = beginning(name);
        rodata.cfg.worker_names[i] = name;
        rodata.cfg.worker_masks[i] = mask;
    }
    // (sk, msg, len, nonblock, flags, addr_len) up to 5.18
    rodata.cfg.recv_flags_at = if kernel.recvmsg_args == 6 { 5 } else { 4 };
    if tier != Tier::B {
        open.maps.conns.set_max_entries(1).map_err(|e| e.to_string())?;
    }
    open.maps.rb_data.set_max_entries(options.ring_size).map_err(|e| e.to_string())
}

/// The two words that a thread's name begins with, and the bits of these that say so.
fn beginning(name: &str) -> ([u64; 2], [u64; 2]) {
    let (mut bytes, mut mask) = ([0; 16], [0; 16]);
    for (i, byte) in name.bytes().take(15).enumerate() {
        (bytes[i], mask[i]) = (byte, 0xff);
    }
    let words =
        |of: [u8; 16]| [0, 8].map(|at| u64::from_ne_bytes(of[at..at + 8].try_into().unwrap_or_default()));
    (words(bytes), words(mask))
}

/// The programs of a tier, by the macro that is to have them: `$do!(name)` in the order in which they are attached,
/// so that nothing is seen before it can be told apart.
macro_rules! of_tier {
    ($tier:expr, $kernel:expr, $do:ident) => {
        match $tier {
            Tier::A => {
                $do!(fx_tcp_sendmsg, fe_tcp_sendmsg);
                match $kernel.recvmsg_args {
                    4 => $do!(fx_tcp_recvmsg4),
                    6 => $do!(fx_tcp_recvmsg6),
                    _ => $do!(fx_tcp_recvmsg5),
                }
                $do!(fe_tcp_recvmsg);
                if $kernel.bpf_sendmsg {
                    $do!(fx_tcp_bpf_sendmsg, fe_tcp_bpf_sendmsg);
                }
                $do!(fx_unix_sendmsg, fe_unix_sendmsg, fx_unix_recvmsg, fe_unix_recvmsg);
                if $kernel.waits[0] {
                    $do!(fe_poll);
                }
                if $kernel.waits[1] {
                    $do!(fe_select);
                }
                if $kernel.waits[2] {
                    $do!(fe_epoll);
                }
            }
            Tier::B => {
                $do!(tp_destroy, kp_unix_release, kp_release, kp_tcp_sendmsg, kp_tcp_recvmsg);
                if $kernel.bpf_sendmsg {
                    $do!(kr_tcp_bpf_sendmsg, kp_tcp_bpf_sendmsg);
                }
                $do!(kr_unix_sendmsg, kp_unix_sendmsg, kr_unix_read, kp_unix_recvmsg);
                if $kernel.waits[0] {
                    $do!(kp_poll);
                }
                if $kernel.waits[1] {
                    $do!(kp_select);
                }
                if $kernel.waits[2] {
                    $do!(kp_epoll);
                }
            }
            Tier::C => {
                $do!(tp_sock_recv, tp_sock_send);
                if $kernel.early_send {
                    $do!(tp_tcp_send);
                }
            }
        }
    };
}

fn choose(open: &mut OpenTracerSkel<'_>, tier: Tier, kernel: &Kernel) {
    let progs = &mut open.progs;
    macro_rules! leave {
        ($($name:ident),*) => {{ $(progs.$name.set_autoload(false);)* }};
    }
    macro_rules! take {
        ($($name:ident),*) => {{ $(progs.$name.set_autoload(true);)* }};
    }
    let every = Kernel { bpf_sendmsg: true, early_send: true, waits: [true; 3], ..*kernel };
    for tier in Tier::ALL {
        for recvmsg_args in [4, 5, 6] {
            of_tier!(tier, Kernel { recvmsg_args, ..every }, leave);
        }
    }
    of_tier!(tier, kernel, take);
}

/// The tier's own programs, which have the parser, to be loaded at once. The object is prepared.
fn take_out(
    open: &mut OpenTracerSkel<'_>,
    tier: Tier,
    kernel: &Kernel,
    btf: &Btf<'_>,
) -> Result<Vec<(&'static str, raw::Program)>, String> {
    let types = raw::prepare(open.open_object()).map_err(|e| format!("loading: {}", said(e)))?;
    let mut all = Vec::new();
    macro_rules! add {
        ($($name:ident),*) => {{ $(
            let to = target(&open.progs.$name, btf)
                .ok_or_else(|| format!("loading {}: there is nothing to hook", stringify!($name)))?;
            let program = raw::Program::of(&mut open.progs.$name, types, to);
            all.push((stringify!($name), program));
        )* }};
    }
    of_tier!(tier, kernel, add);
    Ok(all)
}

/// The type of what a program is hooked to, as its section names it.
fn target(program: &OpenProgramMut<'_>, btf: &Btf<'_>) -> Option<u32> {
    let (kind, name) = program.section().to_str()?.split_once('/')?;
    let id = match kind {
        "tp_btf" => btf.type_by_name::<Typedef<'_>>(&format!("btf_trace_{name}"))?.type_id(),
        _ => btf.type_by_name::<Func<'_>>(name)?.type_id(),
    };
    Some(id.into())
}

/// What to attach, in order.
fn programs<'s, 'o>(
    skel: &'s mut TracerSkel<'o>,
    tier: Tier,
    kernel: &Kernel,
) -> Vec<(&'static str, &'s mut ProgramMut<'o>)> {
    let progs = &mut skel.progs;
    let mut all = Vec::new();
    macro_rules! add {
        ($($name:ident),*) => {{ $(all.push((stringify!($name), &mut progs.$name));)* }};
    }
    add!(tp_fork, tp_exec, tp_exit, tp_sock_state);
    of_tier!(tier, kernel, add);
    all
}
