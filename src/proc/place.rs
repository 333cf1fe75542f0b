//! Where a process runs: its container, and its pod.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::container::{Container, look_up, roots};
use super::facts;
use crate::config::{Glob, PodSelector};
use crate::kube::{Cluster, Owner, Pod};

/// Containers whose state was read, before all of it is forgotten.
const CONTAINERS_KEPT: usize = 1024;

/// Where a process runs, as far as it is known now.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// None outside of containers.
    pub container: Option<Arc<Container>>,
    /// What the API server says of the pod.
    pub pod: Option<Arc<Pod>>,
    /// Of the pod, by the cgroup.
    pub uid: Option<Arc<str>>,
    /// It is in a pod of which the API server may still come to tell.
    pub pod_may_come: bool,
}

impl Place {
    /// The namespace of the pod.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        let by_runtime = || Some(&*self.container.as_ref()?.pod.as_ref()?.namespace);
        self.pod.as_ref().map(|pod| &*pod.namespace).or_else(by_runtime)
    }

    /// The name of the pod.
    #[must_use]
    pub fn pod_name(&self) -> Option<&str> {
        let by_runtime = || Some(&*self.container.as_ref()?.pod.as_ref()?.name);
        self.pod.as_ref().map(|pod| &*pod.name).or_else(by_runtime)
    }

    /// The UID of the pod.
    #[must_use]
    pub fn pod_uid(&self) -> Option<&str> {
        let by_runtime = || self.container.as_ref()?.pod.as_ref()?.uid.as_deref();
        self.pod.as_ref().map(|pod| &*pod.uid).or(self.uid.as_deref()).or_else(by_runtime)
    }

    /// In a pod the name that its specification gives, else that of the runtime.
    #[must_use]
    pub fn container_name(&self) -> Option<&str> {
        let container = self.container.as_ref()?;
        let in_pod = self.pod.as_ref().and_then(|pod| pod.container(&container.id));
        in_pod.or(container.name.as_deref())
    }

    /// Who made the pod, and who made them.
    #[must_use]
    pub fn owners(&self) -> Vec<Owner> {
        self.pod.as_ref().map(|pod| pod.owners()).unwrap_or_default()
    }

    /// Whether all conditions on the pod hold.
    #[must_use]
    pub fn matches(&self, wanted: &PodSelector) -> bool {
        if wanted.is_empty() {
            return true;
        }
        let is = |glob: &Option<Glob>, value: Option<&str>| {
            glob.as_ref().is_none_or(|glob| value.is_some_and(|value| glob.matches(value)))
        };
        let owners = self.owners();
        let owner = |kind: &str| owners.iter().find(|owner| &*owner.kind == kind).map(|owner| &*owner.name);
        let pod = self.pod.as_deref();
        let all = |globs: &BTreeMap<String, Glob>, of: fn(&Pod) -> &BTreeMap<Box<str>, Box<str>>| {
            globs.iter().all(|(name, glob)| {
                pod.and_then(|pod| of(pod).get(name.as_str())).is_some_and(|value| glob.matches(value))
            })
        };
        is(&wanted.k8s_namespace, self.namespace())
            && is(&wanted.k8s_pod_name, self.pod_name())
            && is(&wanted.k8s_container_name, self.namespace().and(self.container_name()))
            && is(&wanted.k8s_owner_name, owners.last().map(|owner| &*owner.name))
            && is(&wanted.k8s_deployment_name, owner("Deployment"))
            && is(&wanted.k8s_replicaset_name, owner("ReplicaSet"))
            && is(&wanted.k8s_statefulset_name, owner("StatefulSet"))
            && is(&wanted.k8s_daemonset_name, owner("DaemonSet"))
            && is(&wanted.k8s_job_name, owner("Job"))
            && is(&wanted.k8s_cronjob_name, owner("CronJob"))
            && all(&wanted.k8s_pod_labels, |pod| &pod.labels)
            && all(&wanted.k8s_pod_annotations, |pod| &pod.annotations)
    }
}

/// Finds places.
#[derive(Debug)]
pub struct Places {
    cluster: Option<Cluster>,
    seen: HashMap<String, Arc<Container>>,
}

impl Places {
    /// With the pods of this node, where they are watched.
    #[must_use]
    pub fn new(cluster: Option<Cluster>) -> Self {
        Self { cluster, seen: HashMap::new() }
    }

    /// Where `pid` runs.
    pub fn of(&mut self, pid: u32) -> Place {
        let Some(found) = facts::container(pid) else { return Place::default() };
        let uid = found.pod_uid.as_deref().map(Arc::from);
        let container = match self.seen.get(&found.id) {
            Some(known) => Arc::clone(known),
            None => {
                if self.seen.len() >= CONTAINERS_KEPT {
                    self.seen.clear();
                }
                let container = Arc::new(look_up(&found, &roots(pid)));
                self.seen.insert(found.id, Arc::clone(&container));
                container
            }
        };
        self.with_pod(container, uid)
    }

    /// The same place, with what is known of its pod by now.
    #[must_use]
    pub fn again(&self, place: &Place) -> Place {
        let known =
            place.container.as_ref().map(|container| self.with_pod(Arc::clone(container), place.uid.clone()));
        known.unwrap_or_default()
    }

    fn with_pod(&self, container: Arc<Container>, uid: Option<Arc<str>>) -> Place {
        let pod = self.cluster.as_ref().and_then(|cluster| cluster.pod(uid.as_deref(), Some(&container.id)));
        let pod_may_come =
            uid.is_some() && pod.is_none() && self.cluster.as_ref().is_some_and(Cluster::may_answer);
        Place { container: Some(container), pod, uid, pod_may_come }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(yaml: &str) -> PodSelector {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn a_pod_that_is_not_known_matches_nothing_but_what_the_runtime_tells() {
        let pod =
            super::super::container::Pod { namespace: "eu".to_owned(), name: "shop-1".to_owned(), uid: None };
        let container = Container { name: Some("web".to_owned()), pod: Some(pod), ..Container::default() };
        let place = Place { container: Some(Arc::new(container)), ..Place::default() };
        assert!(place.matches(&wanted("{}")));
        assert!(place.matches(&wanted("{k8s_namespace: e*, k8s_pod_name: shop-?, k8s_container_name: web}")));
        assert!(!place.matches(&wanted("{k8s_owner_name: '*'}")));
        assert!(!place.matches(&wanted("{k8s_pod_labels: {app: '*'}}")));
        assert!(!Place::default().matches(&wanted("{k8s_namespace: '*'}")));
    }

    #[test]
    fn all_conditions_on_a_pod_must_hold() {
        let pod = Pod {
            namespace: "eu".into(),
            owner: Some(Owner { kind: "StatefulSet".into(), name: "db".into() }),
            labels: [("app".into(), "db".into())].into(),
            annotations: [("trace".into(), "on".into())].into(),
            ..Pod::default()
        };
        let place = Place { pod: Some(Arc::new(pod)), ..Place::default() };
        assert!(place.matches(&wanted(
            "{k8s_namespace: eu, k8s_statefulset_name: db, k8s_owner_name: db, k8s_pod_labels: {app: d*}, \
             k8s_pod_annotations: {trace: on}}"
        )));
        for no in
            ["{k8s_statefulset_name: x}", "{k8s_deployment_name: '*'}", "{k8s_pod_labels: {app: db, x: '*'}}"]
        {
            assert!(!place.matches(&wanted(no)), "{no}");
        }
    }

    #[test]
    fn a_container_in_a_pod_that_may_come_to_be_known() {
        let cluster = Cluster::default();
        let places = Places::new(Some(cluster.clone()));
        let container = Arc::new(Container { id: "c".to_owned(), ..Container::default() });
        let place = Place { container: Some(container), uid: Some("u".into()), ..Place::default() };
        assert!(places.again(&place).pod_may_come);
        assert!(!Places::new(None).again(&place).pod_may_come);
        assert!(!places.again(&Place { uid: None, ..place.clone() }).pod_may_come);
        cluster.set_failing(true);
        assert!(!places.again(&place).pod_may_come);
        cluster.learn(Pod { uid: "u".into(), name: "p".into(), ..Pod::default() });
        let known = places.again(&place);
        assert_eq!((known.pod_name(), known.pod_may_come), (Some("p"), false));
    }
}
