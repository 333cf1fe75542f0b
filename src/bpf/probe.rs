//! What a kernel allows and only a trial tells.

use std::mem::MaybeUninit;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};

use super::skel::probe::ProbeSkelBuilder;

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
    let mut storage = MaybeUninit::uninit();
    let mut open = ProbeSkelBuilder::default().open(&mut storage).map_err(|e| format!("opening: {e}"))?;
    open.progs.write_memory.set_autoload(right == Right::WriteMemory);
    open.progs.write_register.set_autoload(right == Right::WriteRegister);
    open.load().map(drop).map_err(|e| e.to_string())
}
