//! Processes: which there are, which are traced, and what they are called.

mod container;
mod discovery;
mod facts;
mod language;
mod listen;

pub use container::{Container, ContainerRef, Pod, Runtime, look_up, roots};
pub use discovery::{Discovery, Rules, Selection};
pub use facts::{Facts, netns};
pub use language::Language;
pub use listen::{Listeners, listeners};
