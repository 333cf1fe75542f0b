//! Which TCP ports are listened on, and by whom.

use std::collections::{HashMap, HashSet};
use std::fs;

use super::facts::{Facts, netns, pids};

/// Rows of `/proc/net/tcp` in state LISTEN: inode → port.
fn parse(table: &str) -> impl Iterator<Item = (u64, u16)> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        if state != "0A" {
            return None;
        }
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        Some((inode.parse().ok()?, port))
    })
}

fn listening(pid: u32) -> HashMap<u64, u16> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let (v4, v6) = (read("tcp"), read("tcp6"));
    parse(&v4).chain(parse(&v6)).collect()
}

/// Every listening port of the host: network namespace and port.
#[must_use]
pub fn listeners() -> Vec<(u32, u16)> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for pid in pids() {
        let Some(facts) = Facts::read(pid) else { continue };
        if facts.netns != 0 && seen.insert(facts.netns) {
            all.extend(listening(pid).into_values().map(|port| (facts.netns, port)));
        }
    }
    all
}

/// Who listens on what, read once for each network: a table is long where many connections were.
#[derive(Debug, Default)]
pub struct Listeners(HashMap<u32, HashMap<u64, u16>>);

impl Listeners {
    fn network_of(&mut self, pid: u32) -> Option<&HashMap<u64, u16>> {
        Some(self.0.entry(netns(pid)?).or_insert_with(|| listening(pid)))
    }

    /// Ports that a process listens on.
    pub fn of(&mut self, pid: u32) -> Vec<u16> {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
        let sockets: Vec<u64> = entries
            .flatten()
            .filter_map(|entry| {
                let target = fs::read_link(entry.path()).ok()?;
                target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
            })
            .collect();
        if sockets.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for one in std::iter::once(pid).chain(givers(pid)) {
            if let Some(ports) = self.network_of(one) {
                found.extend(sockets.iter().filter_map(|inode| ports.get(inode).copied()));
            }
        }
        found
    }
}

/// Processes by which to look into the other networks that a listener is handed over from: where `pid` has a network of
/// its own, systemd opens its sockets in the host's, which is ours too as a rule.
fn givers(pid: u32) -> Vec<u32> {
    let mut seen = vec![netns(pid)];
    let mut found = vec![1, std::process::id()];
    found.retain(|one| {
        let network = netns(*one);
        let new = network.is_some() && !seen.contains(&network);
        seen.push(network);
        new
    });
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_listeners() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 x\n   \
                     1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 x\n";
        assert_eq!(parse(table).collect::<Vec<_>>(), [(4711, 8080)]);
    }

    proptest! {
        #[test]
        fn any_table(text in ".{0,300}") {
            let _any = parse(&text).count();
        }
    }
}
