//! Processes: which there are, which are traced, and what they are called.

mod container;
mod discovery;
mod facts;
mod language;
mod listen;
mod maps;
mod place;
mod waits;

pub use container::{Container, ContainerRef, Runtime};
pub use discovery::{Discovery, Rules, Selection};
pub use facts::{Facts, netns};
pub use language::Language;
pub use listen::Listeners;
pub use maps::{Mapping, mappings};
pub use place::{Place, Places};
pub use waits::Waits;
