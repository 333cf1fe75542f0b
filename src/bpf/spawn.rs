//! Starting a child with a descriptor of ours as its number 3.
#![allow(unsafe_code)]

use std::io::PipeReader;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Spawns `command` with `reader` as descriptor 3.
pub fn spawn_with_fd3(command: &mut Command, reader: &PipeReader) -> std::io::Result<Child> {
    let fd = reader.as_raw_fd();
    // SAFETY: between fork and exec only dup2() is called, which is async-signal-safe; `fd` is
    // open in the parent until the child has been spawned.
    unsafe {
        command.pre_exec(move || {
            if fd == 3 {
                // dup2() onto itself would leave close-on-exec set.
                let copy = nix::libc::dup(fd);
                if copy < 0 || nix::libc::dup2(copy, 3) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            } else if nix::libc::dup2(fd, 3) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command.spawn()
}
