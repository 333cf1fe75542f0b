//! What runtime a process is, and what that means for its threads.

use std::fs::File;
use std::io::{BufReader, Read, Seek};

use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, ReadCache, elf};

use super::facts::Facts;
use crate::bpf::Threads;

/// A runtime, by its `telemetry.sdk.language`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the values")]
pub enum Language {
    Go,
    Java,
    Dotnet,
    Python,
    Ruby,
    Nodejs,
    Rust,
    Php,
    Erlang,
    #[default]
    Generic,
}

impl Language {
    /// The attribute's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Java => "java",
            Self::Dotnet => "dotnet",
            Self::Python => "python",
            Self::Ruby => "ruby",
            Self::Nodejs => "nodejs",
            Self::Rust => "rust",
            Self::Php => "php",
            Self::Erlang => "erlang",
            Self::Generic => "generic",
        }
    }

    /// What its threads are to requests. Servers for the JVM (Tomcat, Jetty) have one thread poll for a pool, and its selectors
    /// take a socket off the epoll when nobody asks for more of it.
    #[must_use]
    pub fn threads(self) -> Threads {
        match self {
            Self::Go | Self::Erlang | Self::Dotnet | Self::Rust => Threads::Moved,
            Self::Java => Threads::Workers,
            _ => Threads::Held,
        }
    }

    /// By the name of the executable, its libraries, then its sections.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let name = facts.exe_name();
        let by_name: [(&str, Self); 9] = [
            ("python", Self::Python),
            ("pypy", Self::Python),
            ("ruby", Self::Ruby),
            ("node", Self::Nodejs),
            ("java", Self::Java),
            ("php", Self::Php),
            ("beam", Self::Erlang),
            ("dotnet", Self::Dotnet),
            ("nginx", Self::Generic),
        ];
        if let Some((_, language)) = by_name.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            return *language;
        }
        let maps = facts.maps();
        let by_library: [(&str, Self); 6] = [
            ("libjvm.so", Self::Java),
            ("libcoreclr.so", Self::Dotnet),
            ("libpython3", Self::Python),
            ("libruby", Self::Ruby),
            ("libnode.so", Self::Nodejs),
            ("libphp", Self::Php),
        ];
        if let Some((_, language)) = by_library.iter().find(|(library, _)| maps.contains(library)) {
            return *language;
        }
        File::open(facts.exe_file())
            .ok()
            .and_then(|file| by_sections(BufReader::new(file)))
            .unwrap_or_default()
    }
}

fn by_sections(file: impl Read + Seek) -> Option<Language> {
    let cache = ReadCache::new(file);
    let header = elf::FileHeader64::<Endianness>::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, &cache).ok()?;
    for section in sections.iter() {
        match sections.section_name(endian, section).ok()? {
            b".go.buildinfo" | b".gopclntab" => return Some(Language::Go),
            b".comment" => {
                let comment = section.data(endian, &cache).ok()?;
                if comment.windows(5).any(|word| word == b"rustc") {
                    return Some(Language::Rust);
                }
            }
            _ => {}
        }
    }
    None
}
