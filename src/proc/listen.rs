//! Which TCP ports are listened on, and by whom.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};

use super::facts::{netns, pids};

/// Rows of `/proc/net/tcp` in state LISTEN: inode → port. They come first (`tcp_get_idx()` of the kernel), and what follows may
/// be every connection of the host, so that nothing is read beyond them.
fn parse(table: impl BufRead) -> impl Iterator<Item = (u64, u16)> {
    let rows = table.lines().map_while(Result::ok).skip(1);
    rows.take_while(|row| row.split_ascii_whitespace().nth(3) == Some("0A")).filter_map(|row| {
        let mut fields = row.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let inode = fields.nth(7)?;
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        Some((inode.parse().ok()?, port))
    })
}

fn listening(pid: u32) -> HashMap<u64, u16> {
    let open = |name: &str| fs::File::open(format!("/proc/{pid}/net/{name}")).ok().map(BufReader::new);
    ["tcp", "tcp6"].into_iter().filter_map(open).flat_map(parse).collect()
}

/// Who listens on what, read once for each network: behind its listeners the kernel looks for the first connection, and it
/// has room for many.
#[derive(Debug, Default)]
pub struct Listeners(HashMap<u32, HashMap<u64, u16>>);

impl Listeners {
    /// Of all networks in which a process is.
    #[must_use]
    pub fn of_host() -> Self {
        let mut all = Self::default();
        for pid in pids() {
            all.network_of(pid);
        }
        all
    }

    /// Every listening port: network namespace and port.
    pub fn ports(&self) -> impl Iterator<Item = (u32, u16)> {
        self.0.iter().flat_map(|(netns, ports)| ports.values().map(|port| (*netns, *port)))
    }

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
        assert_eq!(parse(table.as_bytes()).collect::<Vec<_>>(), [(4711, 8080)]);
    }

    proptest! {
        #[test]
        fn any_table(text in ".{0,300}") {
            let _any = parse(text.as_bytes()).count();
        }
    }
}
