//! Does a program ever ask how many bytes are pending? Searched for in its code: the request number of
//! FIONREAD as the second argument of a call.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use memchr::memmem;

use crate::proc::mappings;

/// `mov esi, 0x541b` or `mov w1, #0x541b`.
#[cfg(target_arch = "x86_64")]
const LOADS_FIONREAD: &[u8] = &[0xbe, 0x1b, 0x54, 0, 0];
#[cfg(target_arch = "aarch64")]
const LOADS_FIONREAD: &[u8] = &[0x61, 0x83, 0x8a, 0x52];

/// Extensions that hand the number to scripts, which no search of code finds.
const HAND_IT_OUT: [&str; 2] = ["/termios.", "/io/wait.so"];
const KEPT: usize = 4096;

/// Files that were searched, by device and inode.
#[derive(Debug, Default)]
pub(super) struct Searched(HashMap<(u64, u64), bool>);

impl Searched {
    /// Whether the process may ask. What cannot be read may.
    pub(super) fn process(&mut self, pid: u32) -> bool {
        let Ok(maps) = std::fs::read_to_string(format!("/proc/{pid}/maps")) else { return true };
        let mut seen = HashSet::new();
        // Code that was made at run time is of a virtual machine, whose own code is searched.
        for mapping in mappings(&maps) {
            if HAND_IT_OUT.iter().any(|part| mapping.path.contains(part)) {
                return true;
            }
            // The C library has it in its wrappers for everyone; who calls those has the number too.
            if mapping.executable
                && !mapping.is_c_library()
                && seen.insert(mapping.path)
                && self.file(mapping.open(pid))
            {
                return true;
            }
        }
        seen.is_empty()
    }

    fn file(&mut self, file: std::io::Result<File>) -> bool {
        let Ok(file) = file else { return true };
        let Ok(about) = file.metadata() else { return true };
        let key = (about.dev(), about.ino());
        if let Some(known) = self.0.get(&key) {
            return *known;
        }
        let found = search(file).unwrap_or(true);
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        self.0.insert(key, found);
        found
    }
}

/// Reads in pieces that overlap: a library may be larger than what we may hold.
fn search(mut file: File) -> io::Result<bool> {
    let finder = memmem::Finder::new(LOADS_FIONREAD);
    let overlap = LOADS_FIONREAD.len() - 1;
    let mut piece = vec![0; 256 << 10];
    let mut kept = 0;
    loop {
        let read = file.read(&mut piece[kept..])?;
        if read == 0 {
            return Ok(false);
        }
        let filled = kept + read;
        if finder.find(&piece[..filled]).is_some() {
            return Ok(true);
        }
        kept = filled.min(overlap);
        piece.copy_within(filled - kept..filled, 0);
    }
}
