//! `spanwire replay`: the spans of a recording, for reports of faults. Needs no privilege.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, IsTerminal, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::conn::Assembler;
use crate::event::{Recording, decode};
use crate::export::{Format, Printer};
use crate::span::Resource;
use crate::time::WallClock;

/// Heads that may wait for their span, as in a run.
const HEADS_MAX: usize = 8192;

/// What is not in a recording is who the processes were.
fn nameless(pid: u32) -> Arc<Resource> {
    let name = format!("pid-{pid}");
    Arc::new(Resource {
        service_name: name.as_str().into(),
        instance_id: name.as_str().into(),
        ..Resource::default()
    })
}

/// Prints what the records come to. A recording that is cut short is printed as far as it goes.
pub(super) fn replay(path: &Path, format: Format) -> Result<ExitCode> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let recording = Recording::open(BufReader::new(file)).with_context(|| path.display().to_string())?;
    let clock = WallClock::fixed(recording.offset());
    let mut assembler = Assembler::new(HEADS_MAX);
    let mut names: HashMap<u32, Arc<Resource>> = HashMap::new();
    let mut printer = Printer::new(format, stdout().is_terminal(), Box::new(stdout()));
    let mut malformed = 0_u64;
    let mut end = None;
    for record in recording {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                end = Some(error);
                break;
            }
        };
        let Ok(event) = decode(&record) else {
            malformed += 1;
            continue;
        };
        let name = |pid, _| Some(Arc::clone(names.entry(pid).or_insert_with(|| nameless(pid))));
        if let Some(span) = assembler.on_event(event, &clock, name) {
            printer.print(&[span]);
        }
    }
    printer.tick(true);
    if malformed > 0 {
        eprintln!("spanwire: {malformed} records make no sense");
    }
    match end {
        Some(error) => Err(error).with_context(|| path.display().to_string()),
        None => Ok(ExitCode::SUCCESS),
    }
}
