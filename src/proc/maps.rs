//! The memory map of a process: which files it runs code of.

use std::fs::File;
use std::io;

/// Parts of the C library's file names: the map has no shorter list of what everyone has.
const C_LIBRARIES: [&str; 3] = ["/libc.so", "/libc-2.", "/ld-musl-"];

/// A file in the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    range: &'a str,
    /// Whether it is code.
    pub executable: bool,
    /// As the process sees it.
    pub path: &'a str,
}

/// The files in the text of `/proc/PID/maps`, a line for each part of them. Code that was made at run time has none.
pub fn mappings(maps: &str) -> impl Iterator<Item = Mapping<'_>> {
    maps.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights) = (fields.next()?, fields.next()?);
        // The path is the rest of the line: it may have blanks.
        let first = fields.nth(3)?;
        let at = first.as_ptr() as usize - line.as_ptr() as usize;
        let path = line.get(at..)?;
        path.starts_with('/').then_some(Mapping { range, executable: rights.contains('x'), path })
    })
}

impl Mapping<'_> {
    /// Whether it is the C library.
    #[must_use]
    pub fn is_c_library(&self) -> bool {
        C_LIBRARIES.iter().any(|part| self.path.contains(part))
    }

    /// Opens the file. The link of the map also leads to those that were deleted; it takes CAP_CHECKPOINT_RESTORE.
    pub fn open(&self, pid: u32) -> io::Result<File> {
        File::open(format!("/proc/{pid}/map_files/{}", self.range))
            .or_else(|_| File::open(format!("/proc/{pid}/root{}", self.path)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
55d0c0a000-55d0c0b000 r--p 00000000 08:01 131 /usr/bin/a program
7f5e8000-7f5e9000 r-xp 00026000 08:01 917 /usr/lib/x86_64-linux-gnu/libc.so.6
7f5ea000-7f5eb000 rwxp 00000000 00:00 0 
7ffc3000-7ffc4000 r-xp 00000000 00:00 0                          [vdso]
";

    #[test]
    fn files_and_nothing_else() {
        let all: Vec<_> = mappings(TEXT).collect();
        assert_eq!(
            all,
            [
                Mapping { range: "55d0c0a000-55d0c0b000", executable: false, path: "/usr/bin/a program" },
                Mapping {
                    range: "7f5e8000-7f5e9000",
                    executable: true,
                    path: "/usr/lib/x86_64-linux-gnu/libc.so.6"
                },
            ]
        );
        assert!(!all[0].is_c_library() && all[1].is_c_library());
    }

    #[test]
    fn our_own() {
        let text = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mapping = mappings(&text).find(|mapping| mapping.executable).unwrap();
        mapping.open(std::process::id()).unwrap();
    }

    proptest! {
        #[test]
        fn any_text(text in "\\PC*") {
            let _any = mappings(&text).count();
        }
    }
}
