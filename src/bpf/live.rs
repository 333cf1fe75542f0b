//! Other instances that run on this host, as far as the kernel tells.

use libbpf_rs::query::{MapInfoIter, ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapHandle, MapType};

use super::control::{Counters, read_counters};

/// A kernel side that is loaded.
#[derive(Debug)]
pub struct Instance {
    /// Id of its map of counters.
    pub id: u32,
    /// Whether it writes headers: its sk_msg program is there.
    pub injects: bool,
    /// `None`: it is of another version, whose counters are not known.
    pub counters: Option<Counters>,
}

/// All of them, oldest first. Needs CAP_SYS_ADMIN, as every walk over BPF objects does.
#[must_use]
pub fn instances() -> Vec<Instance> {
    let injecting: Vec<u32> =
        ProgInfoIter::with_query_opts(ProgInfoQueryOptions::default().include_map_ids(true))
            .filter(|program| program.name == "on_message")
            .flat_map(|program| program.map_ids)
            .collect();
    MapInfoIter::default()
        .filter(|map| map.ty == MapType::PercpuArray && map.name == "spanwire_stats")
        .filter_map(|map| {
            let counters = MapHandle::from_map_id(map.id).ok()?;
            Some(Instance {
                id: map.id,
                injects: injecting.contains(&map.id),
                counters: read_counters(&counters, map.max_entries),
            })
        })
        .collect()
}
