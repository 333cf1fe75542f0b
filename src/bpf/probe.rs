//! What a kernel allows and only a trial tells.

use std::mem::MaybeUninit;

use libbpf_rs::UprobeMultiOpts;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};

use super::runtime::{has_multi, must_stay};
use super::skel::probe::{OpenProbeSkel, ProbeSkel, ProbeSkelBuilder};

/// Something that a program may do, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Write the memory of a traced program. Lockdown forbids it.
    WriteMemory,
    /// Write its registers at a uprobe, and so the arguments of a function.
    WriteRegister,
}

/// Loads a program that does it. Nothing is attached.
pub fn allows(right: Right) -> Result<(), String> {
    let choose = |open: &mut OpenProbeSkel<'_>| match right {
        Right::WriteMemory => open.progs.write_memory.set_autoload(true),
        Right::WriteRegister => open.progs.write_register.set_autoload(true),
    };
    trial(choose, |_| Ok(()))
}

/// Attaches one to this process, where nothing is run, and takes it away.
pub fn uprobes() -> Result<(), String> {
    must_stay()?;
    let me = std::process::id().cast_signed();
    let multi = || {
        let options = UprobeMultiOpts { offsets: vec![0], ..UprobeMultiOpts::default() };
        trial(
            |open| open.progs.look_multi.set_autoload(true),
            |skel| skel.progs.look_multi.attach_uprobe_multi_with_opts(me, "/proc/self/exe", "", options),
        )
    };
    let each = || {
        trial(
            |open| open.progs.look.set_autoload(true),
            |skel| skel.progs.look.attach_uprobe(false, me, "/proc/self/exe", 0),
        )
    };
    if has_multi() { multi().or_else(|_| each()) } else { each() }
}

/// Loads what `choose` names and does `then` with it; nothing is left.
fn trial<T>(
    choose: impl FnOnce(&mut OpenProbeSkel<'_>),
    then: impl FnOnce(&ProbeSkel<'_>) -> libbpf_rs::Result<T>,
) -> Result<(), String> {
    let mut storage = MaybeUninit::uninit();
    let mut open = ProbeSkelBuilder::default().open(&mut storage).map_err(|e| format!("opening: {e}"))?;
    for mut program in open.open_object_mut().progs_mut() {
        program.set_autoload(false);
    }
    choose(&mut open);
    let skel = open.load().map_err(|e| e.to_string())?;
    then(&skel).map(drop).map_err(|e| format!("attaching: {e:#}"))
}
