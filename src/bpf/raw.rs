//! Programs that are loaded past libbpf. It takes one after the other, and the verifier is busy with a large one for tens of
//! milliseconds, in which another processor may as well look at the next.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use libbpf_rs::libbpf_sys::{self, bpf_func_info, bpf_insn, bpf_line_info};
use libbpf_rs::{AsRawLibbpf, OpenObject, OpenProgramMut};
use nix::errno::Errno;

/// More would take processors from those for whom the host is there.
const THREADS: usize = 4;

/// As the objects have it, see bpf/.
const LICENSE: &CStr = c"Dual BSD/GPL";

/// What the kernel wants to know of a program that is hooked to a function or a tracepoint; libbpf's own may go meanwhile.
#[derive(Debug)]
pub(super) struct Program {
    name: Vec<u8>,
    kind: u32,
    attach_type: u32,
    /// Type of what it is hooked to, in the kernel's BTF.
    target: u32,
    instructions: Vec<bpf_insn>,
    functions: Vec<bpf_func_info>,
    lines: Vec<bpf_line_info>,
    btf: u32,
}

/// Relocates the programs of `object` and makes its maps, so that [`Program::of`] finds them as the kernel wants them. Gives the
/// descriptor of their types.
pub(super) fn prepare(object: &OpenObject) -> Result<u32, Errno> {
    let object = object.as_libbpf_object().as_ptr();
    // SAFETY: the object is open and not loaded, which is what this is for.
    match unsafe { libbpf_sys::bpf_object__prepare(object) } {
        // SAFETY: it is still open.
        0 => unsafe { libbpf_sys::bpf_object__btf_fd(object) }.try_into().map_err(|_| Errno::ENOENT),
        error => Err(Errno::from_raw(-error)),
    }
}

/// `count` elements from `first` on.
///
/// # Safety
///
/// They are there, unless `first` is null.
unsafe fn copied<T: Copy>(first: *const T, count: usize) -> Vec<T> {
    if first.is_null() {
        return Vec::new();
    }
    // SAFETY: promised by the caller.
    unsafe { std::slice::from_raw_parts(first, count) }.to_vec()
}

impl Program {
    /// One of a prepared object, whose types are `btf`. It is not loaded with that any more.
    pub(super) fn of(program: &mut OpenProgramMut<'_>, btf: u32, target: u32) -> Self {
        program.set_autoload(false);
        let name = program.name().as_encoded_bytes().iter().copied().chain([0]).collect();
        let program = program.as_libbpf_object().as_ptr();
        // SAFETY: it is there, and what libbpf says of it as well, for as long as its object is.
        unsafe {
            Self {
                name,
                kind: libbpf_sys::bpf_program__type(program),
                attach_type: libbpf_sys::bpf_program__expected_attach_type(program),
                target,
                instructions: copied(
                    libbpf_sys::bpf_program__insns(program),
                    libbpf_sys::bpf_program__insn_cnt(program) as usize,
                ),
                functions: copied(
                    libbpf_sys::bpf_program__func_info(program),
                    libbpf_sys::bpf_program__func_info_cnt(program) as usize,
                ),
                lines: copied(
                    libbpf_sys::bpf_program__line_info(program),
                    libbpf_sys::bpf_program__line_info_cnt(program) as usize,
                ),
                btf,
            }
        }
    }

    /// One that does nothing, at the entry of a function.
    pub(super) fn empty(target: u32) -> Self {
        let instruction = |code| bpf_insn { code, ..bpf_insn::default() };
        Self {
            name: b"spanwire_trial\0".to_vec(),
            kind: libbpf_sys::BPF_PROG_TYPE_TRACING,
            attach_type: libbpf_sys::BPF_TRACE_FENTRY,
            target,
            instructions: vec![instruction(0xb7), instruction(0x95)], // r0 = 0; exit
            functions: Vec::new(),
            lines: Vec::new(),
            btf: 0,
        }
    }

    /// Has the kernel verify and keep it.
    pub(super) fn load(&self) -> Result<OwnedFd, Errno> {
        let mut options = libbpf_sys::bpf_prog_load_opts {
            sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as _,
            expected_attach_type: self.attach_type,
            attach_btf_id: self.target,
            prog_btf_fd: self.btf,
            func_info: self.functions.as_ptr().cast(),
            func_info_cnt: self.functions.len() as _,
            func_info_rec_size: size_of::<bpf_func_info>() as _,
            line_info: self.lines.as_ptr().cast(),
            line_info_cnt: self.lines.len() as _,
            line_info_rec_size: size_of::<bpf_line_info>() as _,
            ..Default::default()
        };
        // SAFETY: there are as many of each as is said, all outlive the call, which keeps none of them, and the name ends in
        // a zero.
        descriptor(unsafe {
            libbpf_sys::bpf_prog_load(
                self.kind,
                self.name.as_ptr().cast(),
                LICENSE.as_ptr(),
                self.instructions.as_ptr(),
                self.instructions.len() as _,
                &raw mut options,
            )
        })
    }
}

/// Hooks a program to its target, until the descriptor is closed.
pub(super) fn attach(program: &OwnedFd) -> Result<OwnedFd, Errno> {
    // SAFETY: without a name the kernel goes by what the program was loaded for.
    descriptor(unsafe { libbpf_sys::bpf_raw_tracepoint_open(std::ptr::null(), program.as_raw_fd()) })
}

/// libbpf gives a descriptor, or an error below zero.
fn descriptor(raw: i32) -> Result<OwnedFd, Errno> {
    if raw < 0 {
        return Err(Errno::from_raw(-raw));
    }
    // SAFETY: the kernel has just given it to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Is there anyone to do it at once?
pub(super) fn has_helpers() -> bool {
    thread::available_parallelism().is_ok_and(|n| n.get() > 1)
}

/// Loads all of them at once, and does `meanwhile` with it. What comes of each, in the order in which they are given.
pub(super) fn load_all<T>(
    programs: &[Program],
    meanwhile: impl FnOnce() -> T,
) -> (T, Vec<Result<OwnedFd, Errno>>) {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(programs.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(program) = programs.get(at)
        {
            done.push((at, program.load()));
        }
        done
    };
    let mut all: Vec<_> = programs.iter().map(|_| Err(Errno::ECANCELED)).collect();
    let value = thread::scope(|scope| {
        // where no more threads may be had, this one does what is left
        let helpers: Vec<_> =
            (0..threads).filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let value = meanwhile();
        let done = helpers.into_iter().filter_map(|helper| helper.join().ok()).flatten();
        for (at, loaded) in work().into_iter().chain(done) {
            all[at] = loaded;
        }
        value
    });
    (value, all)
}
