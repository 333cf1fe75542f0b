//! What is known of the pods of this node, and whether more may come to be known.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pod::Pod;

#[derive(Debug, Default)]
struct State {
    by_uid: HashMap<Box<str>, Arc<Pod>>,
    /// The uid, by the id of a container, and by the hash of a static pod.
    by_other: HashMap<Box<str>, Box<str>>,
    /// The server cannot be reached, or refuses: nobody need wait for it.
    failing: bool,
    synced: bool,
    failures: u64,
}

impl State {
    fn forget(&mut self, uid: &str) -> bool {
        let Some(pod) = self.by_uid.remove(uid) else { return false };
        for other in pod.containers.keys().chain(&pod.config_hash) {
            self.by_other.remove(other);
        }
        true
    }

    /// Whether that is news.
    fn learn(&mut self, pod: Pod) -> bool {
        if self.by_uid.get(&pod.uid).is_some_and(|known| **known == pod) {
            return false;
        }
        self.forget(&pod.uid);
        for other in pod.containers.keys().chain(&pod.config_hash) {
            self.by_other.insert(other.clone(), pod.uid.clone());
        }
        self.by_uid.insert(pod.uid.clone(), Arc::new(pod));
        true
    }
}

/// The pods of this node; a handle.
#[derive(Clone, Debug, Default)]
pub struct Cluster(Arc<Mutex<State>>);

impl Cluster {
    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means that a thread panicked, which ends the process.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod with that uid, or hash of a static pod, or container.
    #[must_use]
    pub fn pod(&self, uid: Option<&str>, container: Option<&str>) -> Option<Arc<Pod>> {
        let state = self.state();
        let by = |key: &str| state.by_uid.get(key).or_else(|| state.by_uid.get(state.by_other.get(key)?));
        uid.and_then(by).or_else(|| container.and_then(by)).cloned()
    }

    /// Whether it is worth a moment to wait for a pod that is not known: not where the server is away.
    #[must_use]
    pub fn may_answer(&self) -> bool {
        !self.state().failing
    }

    /// How many pods are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().by_uid.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the list is complete and kept up to date.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        let state = self.state();
        state.synced && !state.failing
    }

    pub(crate) fn learn(&self, pod: Pod) -> bool {
        self.state().learn(pod)
    }

    pub(super) fn forget(&self, uid: &str) {
        self.state().forget(uid);
    }

    /// The list is complete: what is not in it is gone.
    pub(super) fn complete(&self, uids: &HashSet<Box<str>>) {
        let mut state = self.state();
        let gone: Vec<Box<str>> = state.by_uid.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
        for uid in gone {
            state.forget(&uid);
        }
        state.synced = true;
    }

    /// How often the server could not be asked.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.state().failures
    }

    pub(crate) fn set_failing(&self, failing: bool) {
        let mut state = self.state();
        state.failing = failing;
        state.failures += u64::from(failing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, container: &str) -> Pod {
        Pod {
            uid: uid.into(),
            config_hash: Some(format!("hash-{uid}").into()),
            containers: [(container.into(), "web".into())].into(),
            ..Pod::default()
        }
    }

    #[test]
    fn pods_are_found_by_each_of_their_names_until_they_go() {
        let cluster = Cluster::default();
        assert!(cluster.learn(pod("1", "a")));
        assert!(!cluster.learn(pod("1", "a")), "nothing new");
        assert!(cluster.learn(pod("1", "b")), "the container was started anew");
        assert!(cluster.learn(pod("2", "c")));
        let found = |uid, container| cluster.pod(uid, container).map(|pod| pod.uid.to_string());
        assert_eq!(found(Some("1"), None).as_deref(), Some("1"));
        assert_eq!(found(Some("hash-1"), None).as_deref(), Some("1"));
        assert_eq!(found(None, Some("b")).as_deref(), Some("1"));
        assert_eq!(found(Some("9"), Some("c")).as_deref(), Some("2"));
        assert_eq!(found(None, Some("a")), None);
        cluster.forget("1");
        assert_eq!((found(Some("1"), Some("b")), cluster.len()), (None, 1));
        assert!(!cluster.is_synced());
        cluster.complete(&HashSet::from(["3".into()]));
        assert!(cluster.is_empty() && cluster.is_synced());
        cluster.set_failing(true);
        assert!(!cluster.is_synced() && !cluster.may_answer());
    }
}
