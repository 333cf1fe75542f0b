//! What a pod or a container adds to the resource of what runs in it. The order is OpenTelemetry's for services in Kubernetes.

use std::collections::BTreeMap;

use crate::config::Kubernetes;
use crate::proc::Place;
use crate::span::Value;

/// Owners that have an attribute of their own.
const WORKLOADS: [&str; 6] = ["CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"];

/// How places are told; the same for all of them.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    cluster: Option<String>,
    /// Attribute → labels of the pod, the first that is there counts.
    by_label: BTreeMap<String, Vec<String>>,
}

/// What a place says of a service, for where the process and the user say nothing.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) instance: Option<String>,
    pub(super) attributes: Vec<(String, String)>,
}

impl Labels {
    /// As configured.
    #[must_use]
    pub fn new(config: &Kubernetes) -> Self {
        let mut by_label = config.resource_labels.clone();
        let sources = &config.meta_source_labels;
        for (attribute, label) in
            [("service.name", &sources.service_name), ("service.namespace", &sources.service_namespace)]
        {
            if let Some(label) = label.as_ref().filter(|label| !label.is_empty()) {
                by_label.entry(attribute.to_owned()).or_default().insert(0, label.clone());
            }
        }
        Self { cluster: config.cluster_name.clone().filter(|name| !name.is_empty()), by_label }
    }

    /// What is said of a service: by annotations, by labels, by the names of who made the pod.
    pub(super) fn of(&self, place: &Place) -> Named {
        let mut named = Named::default();
        if let Some(pod) = &place.pod {
            let mut say = |key: &str, value: &str| {
                let place = match key {
                    "service.name" => &mut named.name,
                    "service.namespace" => &mut named.namespace,
                    "service.instance.id" => &mut named.instance,
                    _ => {
                        if !named.attributes.iter().any(|(known, _)| known == key) {
                            named.attributes.push((key.to_owned(), value.to_owned()));
                        }
                        return;
                    }
                };
                place.get_or_insert_with(|| value.to_owned());
            };
            for (key, value) in pod.annotated() {
                say(key, value);
            }
            for (key, labels) in &self.by_label {
                if let Some(value) = labels.iter().find_map(|label| pod.labels.get(label.as_str())) {
                    say(key, value);
                }
            }
        }
        let top = place.owners().pop().map(|owner| String::from(owner.name));
        let compose = || place.container.as_ref()?.compose_service.clone();
        let container = || place.container_name().map(str::to_owned);
        named.name = named
            .name
            .or(top)
            .or_else(|| place.pod_name().map(str::to_owned))
            .or_else(compose)
            .or_else(container);
        let project = || place.container.as_ref()?.compose_project.clone();
        named.namespace = named.namespace.or_else(|| place.namespace().map(str::to_owned)).or_else(project);
        let instance =
            || Some(format!("{}.{}.{}", place.namespace()?, place.pod_name()?, place.container_name()?));
        named.instance = named.instance.or_else(instance);
        named
    }

    /// Attributes of the place itself.
    pub(super) fn put(&self, place: &Place, put: &mut impl FnMut(&str, Value)) {
        let Some(container) = &place.container else { return };
        let image = container.image_name_and_tag();
        if let Some((_, Some(tag))) = image {
            put("container.image.tags", Value::List(vec![tag.to_owned()]));
        }
        let mut text = |key: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                put(key, Value::from(value));
            }
        };
        text("container.id", Some(&container.id));
        text("container.name", container.name.as_deref());
        text("container.image.name", image.map(|(name, _)| name));
        text("container.runtime", container.runtime.map(|runtime| runtime.as_str()));
        let in_pod = place.pod_uid().is_some() || place.pod_name().is_some();
        if !in_pod {
            return;
        }
        text("k8s.namespace.name", place.namespace());
        text("k8s.pod.name", place.pod_name());
        text("k8s.pod.uid", place.pod_uid());
        text("k8s.container.name", place.container_name());
        text("k8s.cluster.name", self.cluster.as_deref());
        let Some(pod) = &place.pod else { return };
        text("k8s.pod.start_time", pod.start_time.as_deref());
        text("k8s.node.name", pod.node.as_deref());
        let owners = place.owners();
        for owner in owners.iter().filter(|owner| WORKLOADS.contains(&&*owner.kind)) {
            text(&format!("k8s.{}.name", owner.kind.to_lowercase()), Some(&owner.name));
        }
        if let Some(top) = owners.last() {
            text("k8s.owner.name", Some(&top.name));
            text("k8s.kind", Some(&top.kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kube::{Owner, Pod};
    use crate::proc::Container;

    fn place(annotations: &[(&str, &str)], labels: &[(&str, &str)], owner: Option<(&str, &str)>) -> Place {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
        };
        let pod = Pod {
            uid: "u".into(),
            namespace: "eu".into(),
            name: "shop-5d8-x".into(),
            annotations: map(annotations),
            labels: map(labels),
            owner: owner.map(|(kind, name)| Owner { kind: kind.into(), name: name.into() }),
            containers: [("c".into(), "web".into())].into(),
            ..Pod::default()
        };
        let container =
            Container { id: "c".to_owned(), name: Some("k8s_web".to_owned()), ..Container::default() };
        Place { container: Some(Arc::new(container)), pod: Some(Arc::new(pod)), ..Place::default() }
    }

    fn name(place: &Place) -> String {
        Labels::new(&Kubernetes::default()).of(place).name.unwrap()
    }

    #[test]
    fn the_first_word_on_a_name_counts() {
        let said = ("resource.opentelemetry.io/service.name", "said");
        let (instance, app) =
            (("app.kubernetes.io/instance", "instance"), ("app.kubernetes.io/name", "name"));
        let hash = ("pod-template-hash", "5d8");
        let set = Some(("ReplicaSet", "shop-5d8"));
        assert_eq!(name(&place(&[said], &[instance, app], set)), "said");
        assert_eq!(name(&place(&[], &[app, instance], set)), "instance");
        assert_eq!(name(&place(&[], &[app], set)), "name");
        assert_eq!(name(&place(&[], &[hash], set)), "shop");
        assert_eq!(name(&place(&[], &[], set)), "shop-5d8");
        assert_eq!(name(&place(&[], &[], None)), "shop-5d8-x");
    }

    #[test]
    fn labels_are_as_configured() {
        let mut config = Kubernetes::default();
        config.resource_labels.insert("team".to_owned(), vec!["none".to_owned(), "t".to_owned()]);
        config.meta_source_labels.service_name = Some("mine".to_owned());
        let labels = [("mine", "first"), ("app.kubernetes.io/instance", "second"), ("t", "red")];
        let version = ("resource.opentelemetry.io/service.version", "2");
        let named = Labels::new(&config).of(&place(&[version], &labels, None));
        assert_eq!(named.name.as_deref(), Some("first"));
        assert_eq!(named.namespace.as_deref(), Some("eu"));
        assert_eq!(named.instance.as_deref(), Some("eu.shop-5d8-x.web"));
        let wanted = [("service.version", "2"), ("team", "red")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(named.attributes, wanted);
    }

    #[test]
    fn a_container_without_a_pod_names_its_service() {
        let container = Container {
            name: Some("shop-web-1".to_owned()),
            compose_service: Some("web".to_owned()),
            compose_project: Some("shop".to_owned()),
            ..Container::default()
        };
        let place = Place { container: Some(Arc::new(container)), ..Place::default() };
        let named = Labels::default().of(&place);
        assert_eq!((named.name.as_deref(), named.namespace.as_deref()), (Some("web"), Some("shop")));
        assert_eq!(named.instance, None);
        assert_eq!(Labels::default().of(&Place::default()).name, None);
    }

    #[test]
    fn the_pod_is_in_the_resource() {
        let set = Some(("ReplicaSet", "shop-5d8"));
        let mut out = Vec::new();
        let config = Kubernetes { cluster_name: Some("c1".to_owned()), ..Kubernetes::default() };
        Labels::new(&config).put(
            &place(&[], &[("pod-template-hash", "5d8")], set),
            &mut |key: &str, value: Value| {
                out.push(format!("{key}={value:?}"));
            },
        );
        let all = out.join(" ");
        for wanted in [
            "k8s.deployment.name=Str(\"shop\")",
            "k8s.replicaset.name=Str(\"shop-5d8\")",
            "k8s.owner.name=Str(\"shop\")",
            "k8s.kind=Str(\"Deployment\")",
            "k8s.container.name=Str(\"web\")",
            "k8s.cluster.name=Str(\"c1\")",
        ] {
            assert!(all.contains(wanted), "{all}");
        }
    }
}
