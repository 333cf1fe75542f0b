//! Where a function lies in a library.

use std::io::{Read, Seek};

use object::read::elf::{FileHeader, ProgramHeader, Sym};
use object::{Endianness, ReadCache, elf};

/// Offset in the file of a function that the library exports; `None` also where the file makes no sense.
pub(super) fn offset_of(library: impl Read + Seek, name: &str) -> Option<u64> {
    let cache = ReadCache::new(library);
    let header = elf::FileHeader64::<Endianness>::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, &cache).ok()?;
    let symbols = sections.symbols(endian, &cache, elf::SHT_DYNSYM).ok()?;
    let function = symbols.iter().find(|symbol| {
        symbol.st_type() == elf::STT_FUNC
            && !symbol.is_undefined(endian)
            && symbols.symbol_name(endian, symbol) == Ok(name.as_bytes())
    })?;
    let address = function.st_value(endian);
    let segments = header.program_headers(endian, &cache).ok()?;
    segments.iter().find_map(|segment| {
        let inside = address.checked_sub(segment.p_vaddr(endian))?;
        let code = segment.p_type(endian) == elf::PT_LOAD && segment.p_flags(endian).contains(elf::PF_X);
        (code && inside < segment.p_filesz(endian)).then(|| segment.p_offset(endian).checked_add(inside))?
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::proc::mappings;

    fn library() -> (File, u64, u64) {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mapping = mappings(&maps).find(|mapping| mapping.executable && mapping.is_c_library()).unwrap();
        let line = maps.lines().find(|line| line.contains(mapping.path) && line.contains("r-xp")).unwrap();
        let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
        let offset = u64::from_str_radix(line.split_whitespace().nth(2).unwrap(), 16).unwrap();
        (mapping.open(std::process::id()).unwrap(), start, offset)
    }

    #[test]
    fn as_the_loader_has_it() {
        let (file, start, begin) = library();
        let found = offset_of(file, "getsockopt").unwrap();
        let address = nix::libc::getsockopt as *const () as u64;
        assert_eq!(address - start + begin, found);
    }

    #[test]
    fn what_is_not_there() {
        assert_eq!(offset_of(library().0, "no_such_function"), None);
        assert_eq!(offset_of(Cursor::new(b"#!/bin/sh\n"), "getsockopt"), None);
    }

    proptest! {
        #[test]
        fn harmed_files_are_no_panic(changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..40)) {
            static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let whole = WHOLE.get_or_init(|| {
                let mut bytes = Vec::new();
                library().0.read_to_end(&mut bytes).unwrap();
                bytes
            });
            let mut bytes = whole.clone();
            for (at, value) in changes {
                bytes[usize::from(at % 1024)] = value;
            }
            let _any = offset_of(Cursor::new(bytes), "getsockopt");
        }
    }
}
