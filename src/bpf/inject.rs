//! The object that writes into outgoing requests: loaded beside the tracer, on its maps.

use std::fmt;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ErrorKind, Link, MapCore, MapFlags, MapHandle, OpenObject};

use super::load::{LoadOptions, Tier, Tracer, despite_signals, fill_config};
use crate::config::Net;

use super::skel::inject::{InjectSkel, InjectSkelBuilder};
use crate::proto::http2::huffman;

/// Loaded and attached; lets go of every socket when dropped, and when the process dies.
pub struct Injector {
    claims: Claims,
    events: MapHandle,
    links: Vec<Link>,
    skel: Box<InjectSkel<'static>>,
}

impl fmt::Debug for Injector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injector").finish_non_exhaustive()
    }
}

impl Injector {
    /// Loads the programs on the maps of `tracer`. Nothing is claimed until [`Self::attach`].
    pub fn load(tracer: &Tracer, options: &LoadOptions) -> Result<Self, String> {
        despite_signals(|| Self::load_once(tracer, options))
    }

    fn load_once(tracer: &Tracer, options: &LoadOptions) -> Result<Self, String> {
        if !tracer.task_storage && tracer.tier == Tier::C {
            return Err("before Linux 6.18 it needs fentry or kprobes (tiers A, B)".to_owned());
        }
        let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = InjectSkelBuilder::default().open(storage).map_err(|e| format!("opening: {e}"))?;
        let rodata = open.maps.rodata_data.as_mut().ok_or("no read-only data in the BPF object")?;
        fill_config!(rodata.cfg, options);
        rodata.huffman = *huffman::kernel_table();
        rodata.cfg.task_storage = tracer.task_storage.into();
        rodata.cfg.conns_in_hash = (tracer.tier == Tier::B).into();
        let shared = tracer.maps();
        macro_rules! share {
            ($($map:ident),*) => {
                $(open.maps.$map.reuse_fd(shared.$map.as_fd())
                    .map_err(|e| format!("map {}: {e}", stringify!($map)))?;)*
            };
        }
        share!(
            selected, watched, procs, sk_ctxs, conns, task_ctxs, slots, joins, by_parent, dests, listeners
        );
        share!(
            tracestates,
            begun_calls,
            pollers,
            h2_conns,
            h2_unix_conns,
            freed_slots,
            heads,
            no_head,
            rb_data,
            rb_ctl,
            spanwire_stats,
            scratches,
            data_shared
        );
        let skel = Box::new(open.load().map_err(|e| format!("loading: {e:#}"))?);
        let claims = MapHandle::try_from(&skel.maps.claims).map_err(|e| e.to_string())?;
        let events = MapHandle::try_from(&skel.maps.rb_claim).map_err(|e| e.to_string())?;
        skel.progs
            .on_message
            .attach_sockmap(claims.as_fd().as_raw_fd())
            .map_err(|e| format!("attaching on_message: {e}"))?;
        Ok(Self { claims: Claims(Arc::new(claims)), events, links: Vec::new(), skel })
    }

    /// Claims what connects from now on, in all cgroups below `root`.
    pub fn attach(&mut self, root: &File) -> Result<(), String> {
        let link = self
            .skel
            .progs
            .on_sockops
            .attach_cgroup(root.as_raw_fd())
            .map_err(|e| format!("attaching on_sockops: {e}"))?;
        self.links.push(link);
        Ok(())
    }

    /// Nothing is written to these, and only these.
    pub fn deny(&self, nets: &[Net]) -> libbpf_rs::Result<()> {
        let map = &self.skel.maps.denied;
        let old: Vec<Vec<u8>> = map.keys().collect();
        let new: Vec<[u8; 24]> = nets.iter().map(prefix_key).collect();
        for key in &new {
            map.update(key, &1_u32.to_ne_bytes(), MapFlags::ANY)?;
        }
        for key in old.iter().filter(|key| !new.iter().any(|new| new == key.as_slice())) {
            map.delete(key)?;
        }
        Ok(())
    }

    /// The sockets that are claimed.
    #[must_use]
    pub fn claims(&self) -> Claims {
        self.claims.clone()
    }

    /// The ring of sockets to let go of.
    #[must_use]
    pub fn ring(&self) -> &MapHandle {
        &self.events
    }
}

/// `struct net_prefix`: the port is part of every prefix.
fn prefix_key(net: &Net) -> [u8; 24] {
    let mut key = [0; 24];
    key[..4].copy_from_slice(&(16 + u32::from(net.prefix)).to_ne_bytes());
    key[4..6].copy_from_slice(&net.port.unwrap_or(0).to_be_bytes());
    key[6..22].copy_from_slice(&net.address.octets());
    key
}

/// The sockets whose sends pass through our program, by cookie.
#[derive(Clone, Debug)]
pub struct Claims(Arc<MapHandle>);

impl Claims {
    /// Adds a socket. `Ok(false)`: it is there already.
    pub fn add(&self, socket: BorrowedFd<'_>, cookie: u64) -> libbpf_rs::Result<bool> {
        let fd = u64::try_from(socket.as_raw_fd()).unwrap_or(u64::MAX);
        match self.0.update(&cookie.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::NO_EXIST) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets go of a socket, which is as it was before at once.
    pub fn remove(&self, cookie: u64) {
        let _gone_by_itself = self.0.delete(&cookie.to_ne_bytes());
    }

    /// Cookies of all sockets claimed.
    pub fn all(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.keys().filter_map(|key| key.as_slice().try_into().ok().map(u64::from_ne_bytes))
    }
}
