//! A pod, as far as it names what runs in it.

use std::collections::BTreeMap;

/// Annotations with this beginning are attributes of the resource (OpenTelemetry's conventions for Kubernetes).
pub(super) const RESOURCE_ANNOTATION: &str = "resource.opentelemetry.io/";

/// Who made a pod, or made who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// As Kubernetes has it: `ReplicaSet`.
    pub kind: Box<str>,
    /// Its name, in the pod's namespace.
    pub name: Box<str>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Unique in space and time.
    pub uid: Box<str>,
    /// Of a static pod, what its cgroup is called after instead.
    pub config_hash: Option<Box<str>>,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// The node it runs on.
    pub node: Option<Box<str>>,
    /// RFC 3339.
    pub start_time: Option<Box<str>>,
    /// All of them.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// Those that somebody asks for.
    pub annotations: BTreeMap<Box<str>, Box<str>>,
    /// Its controller.
    pub owner: Option<Owner>,
    /// Name by id, of the containers that have been started.
    pub containers: BTreeMap<Box<str>, Box<str>>,
    /// The only container it can have, where there is only one.
    pub only_container: Option<Box<str>>,
}

impl Pod {
    /// Its controller and, where names tell that, the controller's: Deployment and ReplicaSet, `CronJob` and Job.
    /// The last one is at the top.
    #[must_use]
    pub fn owners(&self) -> Vec<Owner> {
        let Some(owner) = &self.owner else { return Vec::new() };
        let above = match &*owner.kind {
            "ReplicaSet" => self.labels.get("pod-template-hash").and_then(|hash| {
                let name = owner.name.strip_suffix(&**hash)?.strip_suffix('-')?;
                Some(Owner { kind: "Deployment".into(), name: name.into() })
            }),
            // The name ends with the minutes since 1970 that it was scheduled for.
            "Job" => owner.name.rsplit_once('-').and_then(|(name, minutes)| {
                let is_time = minutes.len() >= 8 && minutes.bytes().all(|b| b.is_ascii_digit());
                is_time.then(|| Owner { kind: "CronJob".into(), name: name.into() })
            }),
            _ => None,
        };
        std::iter::once(owner.clone()).chain(above).filter(|owner| !owner.name.is_empty()).collect()
    }

    /// Attributes that annotations give.
    pub fn annotated(&self) -> impl Iterator<Item = (&str, &str)> {
        self.annotations
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(RESOURCE_ANNOTATION)?, &**value)))
    }

    /// The name of the container with that id.
    #[must_use]
    pub fn container(&self, id: &str) -> Option<&str> {
        self.containers.get(id).or(self.only_container.as_ref()).map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(kind: &str, name: &str, hash: Option<&str>) -> Vec<String> {
        let labels = hash.map(|hash| ("pod-template-hash".into(), hash.into())).into_iter().collect();
        let owner = Some(Owner { kind: kind.into(), name: name.into() });
        let pod = Pod { owner, labels, ..Pod::default() };
        pod.owners().iter().map(|owner| format!("{} {}", owner.kind, owner.name)).collect()
    }

    #[test]
    fn the_owner_of_the_owner_is_told_by_its_name() {
        assert_eq!(owned("ReplicaSet", "shop-5d8", Some("5d8")), ["ReplicaSet shop-5d8", "Deployment shop"]);
        assert_eq!(owned("ReplicaSet", "shop-5d8", None), ["ReplicaSet shop-5d8"]);
        assert_eq!(owned("ReplicaSet", "shop-5d8", Some("77")), ["ReplicaSet shop-5d8"]);
        assert_eq!(owned("ReplicaSet", "-5d8", Some("5d8")), ["ReplicaSet -5d8"]);
        assert_eq!(owned("Job", "nightly-29384756", None), ["Job nightly-29384756", "CronJob nightly"]);
        assert_eq!(owned("Job", "import-2024", None), ["Job import-2024"]);
        assert_eq!(owned("StatefulSet", "db", None), ["StatefulSet db"]);
        assert!(Pod::default().owners().is_empty());
    }

    #[test]
    fn a_container_by_its_id_or_because_there_is_one() {
        let mut pod = Pod { containers: [("a".into(), "web".into())].into(), ..Pod::default() };
        assert_eq!(pod.container("a"), Some("web"));
        assert_eq!(pod.container("b"), None);
        pod.only_container = Some("web".into());
        assert_eq!(pod.container("b"), Some("web"));
    }
}
