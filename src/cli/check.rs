//! `spanwire check`: what this host allows.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use caps::{CapSet, Capability};
use serde_json::json;

use crate::bpf::{LoadError, LoadOptions, Right, Tracer, allows, uprobes};
use crate::config::{Sources, load};
use crate::propagation::Membership;

/// A capability, and what is off without it.
pub(super) struct Need {
    capability: Capability,
    pub(super) off: &'static str,
    /// Nothing works without.
    vital: bool,
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.capability)
    }
}

const NEEDS: [Need; 5] = [
    Need { capability: Capability::CAP_BPF, off: "no BPF program can be loaded", vital: true },
    Need { capability: Capability::CAP_PERFMON, off: "BPF cannot read memory", vital: true },
    Need {
        capability: Capability::CAP_SYS_PTRACE,
        off: "processes of other users are not found by executable, nor named by their environment",
        vital: false,
    },
    Need {
        capability: Capability::CAP_DAC_READ_SEARCH,
        off: "executables that others may not read have no language, and their sockets brief claims",
        vital: false,
    },
    Need { capability: Capability::CAP_NET_ADMIN, off: "no headers in outgoing requests", vital: false },
];

/// The capabilities that are missing, with headers to be written or without.
pub(super) fn missing_capabilities(headers: bool) -> Vec<&'static Need> {
    let has = |cap| caps::has_cap(None, CapSet::Effective, cap).unwrap_or(false);
    // It stands for CAP_BPF and CAP_PERFMON; with it there is hardly a process that lacks the rest.
    if has(Capability::CAP_SYS_ADMIN) {
        return Vec::new();
    }
    let wanted = |need: &&Need| headers || need.capability != Capability::CAP_NET_ADMIN;
    NEEDS.iter().filter(wanted).filter(|need| !has(need.capability)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Yes,
    No,
    Partly,
}

struct Finding {
    feature: String,
    verdict: Verdict,
    detail: String,
    remedy: String,
}

fn finding(feature: &str, verdict: Verdict, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { feature: feature.to_owned(), verdict, detail: detail.into(), remedy: remedy.into() }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    if !crate::bpf::has_loop() {
        return finding(
            "kernel",
            Verdict::No,
            format!("{release} has no bpf_loop"),
            "5.17 or newer, or an older one with that backported; docs/KERNELS.md has the tested ones",
        );
    }
    finding("kernel", Verdict::Yes, release, "")
}

fn btf() -> Finding {
    match fs::metadata("/sys/kernel/btf/vmlinux") {
        Ok(_) => finding("btf", Verdict::Yes, "/sys/kernel/btf/vmlinux", ""),
        Err(error) => finding(
            "btf",
            Verdict::No,
            error.to_string(),
            "a kernel with CONFIG_DEBUG_INFO_BTF=y, and /sys mounted",
        ),
    }
}

fn lockdown() -> Finding {
    match fs::read_to_string("/sys/kernel/security/lockdown") {
        Ok(modes) if modes.contains("[confidentiality]") => finding(
            "lockdown",
            Verdict::No,
            "confidentiality: BPF may not read memory",
            "boot with lockdown=integrity or less",
        ),
        Ok(modes) => finding("lockdown", Verdict::Yes, modes.trim(), ""),
        Err(_) => finding("lockdown", Verdict::Yes, "not visible; the trial below decides", ""),
    }
}

/// Why the numbers of processes here are not the kernel's; `None` if they are.
pub(super) fn foreign_pids() -> Option<String> {
    let found = pid_namespace();
    (found.verdict == Verdict::No).then(|| format!("pid namespace: {} ({})", found.detail, found.remedy))
}

fn pid_namespace() -> Finding {
    // The inode of the first pid namespace is fixed (include/linux/proc_ns.h).
    let own = fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned());
    match own {
        Ok(link) if link == "pid:[4026531836]" => finding("pid namespace", Verdict::Yes, "the host's", ""),
        Ok(link) => finding(
            "pid namespace",
            Verdict::No,
            format!("{link} is not the host's"),
            "hostPID: true, or --pid=host",
        ),
        Err(error) => finding("pid namespace", Verdict::No, error.to_string(), "mount /proc"),
    }
}

/// Whether headers can be written into requests, by what a claimed socket of our own does.
fn propagation() -> Finding {
    let options = LoadOptions::default();
    let probed = Tracer::load(&options)
        .map_err(|error| error.to_string())
        .and_then(|tracer| crate::propagation::probe(&tracer, &options));
    match probed {
        Ok((_, false)) => finding(
            "propagation",
            Verdict::Partly,
            "of the cgroup v2 hierarchy only our own part can be reached: no headers outside of it",
            "mount the host's /sys/fs/cgroup, or grant CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
        ),
        Ok((membership @ Membership::Harmless, _)) => {
            finding("propagation", Verdict::Yes, format!("claimed sockets: {}", membership.as_str()), "")
        }
        Ok((membership, _)) => finding(
            "propagation",
            Verdict::Partly,
            format!("a claimed socket {} on this kernel", membership.as_str()),
            "handled: of programs that ask FIONREAD, only the first request of a connection gets a header",
        ),
        Err(error) => finding(
            "propagation",
            Verdict::No,
            error,
            "tracing works without; needs CAP_NET_ADMIN and a cgroup v2 mount",
        ),
    }
}

fn capabilities() -> Finding {
    let missing = missing_capabilities(true);
    if missing.is_empty() {
        return finding("capabilities", Verdict::Yes, "all that are needed", "");
    }
    let verdict = if missing.iter().any(|need| need.vital) { Verdict::No } else { Verdict::Partly };
    let each: Vec<String> = missing.iter().map(|need| format!("{need}: {}", need.off)).collect();
    let detail = format!("without {}", each.join("; without "));
    finding("capabilities", verdict, detail, "run as root or grant them")
}

/// Whether functions of programs' libraries can be looked at.
fn runtime_probes() -> Finding {
    match uprobes() {
        Ok(()) => finding("runtime probes", Verdict::Yes, "uprobes: puma, gRPC in Ruby", ""),
        Err(why) => finding(
            "runtime probes",
            Verdict::Partly,
            format!("uprobes: {why}"),
            "CONFIG_UPROBE_EVENTS=y; before Linux 6.12 CAP_SYS_ADMIN (docs/RUNTIMES.md); calls of puma's workers may have no \
             parent without",
        ),
    }
}

/// What nothing of ours does yet; runtimes' probes will where they may.
fn right(feature: &str, right: Right) -> Finding {
    match (allows(right), right) {
        (Ok(()), Right::WriteMemory) => {
            finding(feature, Verdict::Yes, "of traced programs: allowed, not used", "")
        }
        (Ok(()), Right::WriteRegister) => finding(feature, Verdict::Yes, "at uprobes: allowed, not used", ""),
        (Err(why), Right::WriteMemory) => finding(
            feature,
            Verdict::Partly,
            format!("of traced programs: {why}"),
            "lockdown forbids it; nothing needs it yet",
        ),
        (Err(why), Right::WriteRegister) => finding(
            feature,
            Verdict::Partly,
            format!("at uprobes: {why}"),
            "it came with Linux 6.18; nothing needs it yet",
        ),
    }
}

fn findings() -> Vec<Finding> {
    let mut all = vec![kernel(), btf()];
    all.push(capabilities());
    all.push(lockdown());
    all.push(pid_namespace());
    let mut used = None;
    match Tracer::try_all(&LoadOptions::default()) {
        Ok(trials) => {
            for trial in trials {
                let feature = format!("tier {}", trial.tier.as_str());
                match trial.error {
                    None => {
                        let role = if used.is_none() { "works, and is used" } else { "works" };
                        used = used.or(Some(trial.tier));
                        all.push(finding(&feature, Verdict::Yes, role, ""));
                    }
                    Some(error) => all.push(finding(&feature, Verdict::No, error, "")),
                }
            }
        }
        Err(LoadError::NoLoop) => {} // said already
        Err(error) => all.push(finding("tiers", Verdict::No, error.to_string(), "see above")),
    }
    if used.is_some() {
        for other in all.iter_mut().filter(|f| f.feature.starts_with("tier ") && f.verdict == Verdict::No) {
            other.verdict = Verdict::Partly;
            "not needed where another tier works".clone_into(&mut other.remedy);
        }
    }
    all.push(match used {
        Some(tier) => finding(
            "tracing",
            Verdict::Yes,
            format!("HTTP/1, HTTP/2 and gRPC over TCP and unix sockets, by tier {}", tier.as_str()),
            "",
        ),
        None => finding("tracing", Verdict::No, "no tier works", "see the reasons above"),
    });
    if used.is_some() {
        all.extend([propagation(), runtime_probes()]);
    }
    if used.is_some() {
        all.extend([
            right("write memory", Right::WriteMemory),
            right("write arguments", Right::WriteRegister),
        ]);
    }
    if let Some(tier) = used {
        let detail = match tier {
            crate::bpf::Tier::A | crate::bpf::Tier::B => {
                "requests through io_uring are seen, without a thread of their own"
            }
            crate::bpf::Tier::C => {
                "what is received through io_uring, splice and 32-bit system calls is unseen"
            }
        };
        all.push(finding("blind spots", Verdict::Partly, detail, "counted as lost_sync in the metrics"));
    }
    all
}

/// What the API server says to us, where it would be asked.
fn kubernetes(env: BTreeMap<String, String>) -> Option<Finding> {
    let loaded = load(&Sources { file: None, env, flags: Vec::new() }).ok()?;
    let settings = super::cluster::settings(&loaded.config)?;
    Some(match crate::kube::probe(&settings) {
        Ok(node) => finding("kubernetes", Verdict::Yes, format!("the pods of node {node} are told"), ""),
        Err(error) => finding(
            "kubernetes",
            Verdict::Partly,
            format!("{error:#}"),
            "spans go without what only the API server knows; docs/METADATA.md has the rights that it takes",
        ),
    })
}

/// Prints the findings; fails when nothing can be traced.
pub(super) fn check(machine: bool, environment: BTreeMap<String, String>) -> Result<ExitCode> {
    crate::logging::quiet();
    let mut all = findings();
    all.extend(kubernetes(environment));
    let mut out = std::io::stdout().lock();
    let word = |verdict| match verdict {
        Verdict::Yes => "yes",
        Verdict::No => "no",
        Verdict::Partly => "partly",
    };
    if machine {
        let list: Vec<_> = all
            .iter()
            .map(|f| json!({"feature": f.feature, "verdict": word(f.verdict), "detail": f.detail, "remedy": f.remedy}))
            .collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
    } else {
        for f in &all {
            writeln!(out, "{:<14} {:<7} {}", f.feature, word(f.verdict), f.detail)?;
            if !f.remedy.is_empty() && f.verdict != Verdict::Yes {
                writeln!(out, "{:<22} → {}", "", f.remedy)?;
            }
        }
    }
    let works = all.iter().any(|f| f.feature == "tracing" && f.verdict == Verdict::Yes);
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
