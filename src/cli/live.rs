//! `spanwire check --live`: what the instances of this host did, and refused to do.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::bpf::live::{Instance, instances};

/// Kinds of counters, by the prefix of their names.
const GROUPS: [(&str, &str); 3] = [
    ("inject_", "requests, by what became of the header"),
    ("claim_", "connections"),
    ("refused_", "parents refused"),
];

/// Prints the counters; fails when nothing runs.
pub(super) fn live(machine: bool) -> Result<ExitCode> {
    crate::logging::quiet();
    let all = instances();
    let mut out = std::io::stdout().lock();
    if machine {
        let list: Vec<_> = all
            .iter()
            .map(|one| {
                let counters =
                    one.counters.as_ref().map(|all| all.iter().copied().collect::<BTreeMap<_, _>>());
                json!({"id": one.id, "injects": one.injects, "counters": counters})
            })
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
    } else {
        for one in &all {
            write_one(&mut out, one)?;
        }
    }
    if all.is_empty() {
        eprintln!("spanwire: no instance runs on this host, or only root may see it");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn write_one(out: &mut impl Write, one: &Instance) -> Result<()> {
    let headers = if one.injects { "writes headers" } else { "writes no headers" };
    writeln!(out, "instance {}: {headers}", one.id)?;
    let Some(counters) = &one.counters else {
        return Ok(writeln!(out, "  of another version: its counters are not known")?);
    };
    for (prefix, title) in GROUPS {
        writeln!(out, "  {title}:")?;
        for (name, value) in counters {
            if let Some(name) = name.strip_prefix(prefix) {
                writeln!(out, "    {name:<20} {value}")?;
            }
        }
    }
    writeln!(out, "  other events:")?;
    for (name, value) in counters.iter().filter(|(_, value)| *value > 0) {
        if !GROUPS.iter().any(|(prefix, _)| name.starts_with(prefix)) {
            writeln!(out, "    {name:<20} {value}")?;
        }
    }
    Ok(())
}
