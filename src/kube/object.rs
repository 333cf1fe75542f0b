//! What is read of a Pod object: the rest of it, and there is much, is not kept for a moment.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube::api::ObjectMeta;
use serde::Deserialize;

use super::pod::{Owner, Pod, RESOURCE_ANNOTATION};

/// Longer annotations are kept if they are attributes: some are the whole object once more, for tools to compare with.
const ANNOTATION_MAX: usize = 256;

/// Holds the hash of a static pod, by which the kubelet names its cgroup.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// `v1.Pod`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct PodObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: Option<Box<str>>,
    containers: Vec<Named>,
    init_containers: Vec<Named>,
    ephemeral_containers: Vec<Named>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Named {
    name: Box<str>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    start_time: Option<Box<str>>,
    container_statuses: Vec<Started>,
    init_container_statuses: Vec<Started>,
    ephemeral_container_statuses: Vec<Started>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Started {
    name: Box<str>,
    /// `containerd://ID`.
    #[serde(rename = "containerID")]
    id: Box<str>,
}

impl kube::Resource for PodObject {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl PodObject {
    /// The node it runs on.
    pub(super) fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref()
    }

    /// Without a uid it is no pod.
    pub(super) fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    /// What of it is kept.
    pub(super) fn pod(self) -> Option<Pod> {
        let Self { metadata, spec, status } = self;
        let boxed = |map: Option<BTreeMap<String, String>>| {
            map.unwrap_or_default().into_iter().map(|(key, value)| (Box::from(key), Box::from(value)))
        };
        let kept =
            |name: &str, value: &str| value.len() <= ANNOTATION_MAX || name.starts_with(RESOURCE_ANNOTATION);
        let annotations: BTreeMap<Box<str>, Box<str>> =
            boxed(metadata.annotations).filter(|(name, value)| kept(name, value)).collect();
        let owner = metadata
            .owner_references
            .unwrap_or_default()
            .into_iter()
            // Of a static pod it is the node, which says nothing of what runs in it.
            .find(|owner| owner.controller == Some(true) && owner.kind != "Node")
            .map(|owner| Owner { kind: owner.kind.into(), name: owner.name.into() });
        let started =
            [status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses];
        let containers = started
            .into_iter()
            .flatten()
            .filter_map(|one| Some((Box::from(one.id.split_once("://")?.1), one.name)))
            .collect();
        let only_container = match spec.containers.as_slice() {
            [one] if spec.init_containers.is_empty() && spec.ephemeral_containers.is_empty() => {
                Some(one.name.clone())
            }
            _ => None,
        };
        Some(Pod {
            uid: metadata.uid?.into(),
            config_hash: annotations.get(CONFIG_HASH).cloned(),
            namespace: metadata.namespace.unwrap_or_default().into(),
            name: metadata.name.unwrap_or_default().into(),
            node: spec.node_name,
            start_time: status.start_time,
            labels: boxed(metadata.labels).collect(),
            annotations,
            owner,
            containers,
            only_container,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_as_the_api_server_sends_it() {
        let text = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"shop-5d8-x1","namespace":"eu","uid":"1-2",
            "labels":{"app":"shop"},"annotations":{"resource.opentelemetry.io/service.name":"s","huge":"HUGE","mine":"y"},
            "managedFields":[{"manager":"m"}],
            "ownerReferences":[{"apiVersion":"v1","kind":"X","name":"no","uid":"1"},
              {"apiVersion":"apps/v1","kind":"ReplicaSet","name":"shop-5d8","uid":"2","controller":true}]},
            "spec":{"nodeName":"n1","containers":[{"name":"web","image":"i"},{"name":"side"}],"volumes":[]},
            "status":{"phase":"Running","startTime":"2026-01-01T00:00:00Z",
              "containerStatuses":[{"name":"web","containerID":"containerd://abc","ready":true},{"name":"side"}]}}"#;
        let text = text.replace("HUGE", &"x".repeat(ANNOTATION_MAX + 1));
        let pod = serde_json::from_str::<PodObject>(&text).unwrap().pod().unwrap();
        assert_eq!((&*pod.namespace, &*pod.name, pod.node.as_deref()), ("eu", "shop-5d8-x1", Some("n1")));
        assert_eq!(pod.owner.as_ref().map(|owner| &*owner.name), Some("shop-5d8"));
        assert_eq!((pod.container("abc"), pod.container("def")), (Some("web"), None));
        assert_eq!(
            pod.annotations.keys().map(|name| &**name).collect::<Vec<_>>(),
            ["mine", "resource.opentelemetry.io/service.name"]
        );
        assert_eq!(pod.annotated().collect::<Vec<_>>(), [("service.name", "s")]);
    }

    #[test]
    fn one_that_has_only_begun() {
        let text = r#"{"metadata":{"name":"a","uid":"1"},"spec":{"containers":[{"name":"web"}]},"status":{"phase":"Pending"}}"#;
        let pod = serde_json::from_str::<PodObject>(text).unwrap().pod().unwrap();
        assert_eq!(pod.container("any"), Some("web"));
        assert!(serde_json::from_str::<PodObject>(r#"{"metadata":{}}"#).unwrap().pod().is_none());
    }
}
