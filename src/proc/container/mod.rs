//! Containers without an orchestrator's API: the id from the cgroup, the rest from the state that the runtime keeps on disk.

mod cgroup;
mod state;

pub use cgroup::ContainerRef;
pub use state::{look_up, roots};

/// What made a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// BuildKit, for one step of a build.
    Buildkit,
    /// containerd, by whichever client.
    Containerd,
    /// CRI-O.
    Crio,
    /// Docker Engine.
    Docker,
    /// LXC, also under Proxmox, LXD and Incus.
    Lxc,
    /// systemd-nspawn.
    Nspawn,
    /// Podman.
    Podman,
}

impl Runtime {
    /// Value of `container.runtime`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buildkit => "buildkit",
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
            Self::Docker => "docker",
            Self::Lxc => "lxc",
            Self::Nspawn => "systemd-nspawn",
            Self::Podman => "podman",
        }
    }
}

/// A container and what its runtime calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its id, or its name for runtimes that have no ids.
    pub id: String,
    /// Unknown where neither the cgroup nor a state file tells.
    pub runtime: Option<Runtime>,
    /// In a pod that of the pod's specification, without the pod.
    pub name: Option<String>,
    /// Reference by which the image was asked for.
    pub image: Option<String>,
    /// The pod that it is of.
    pub pod: Option<Pod>,
    /// `com.docker.compose.project`.
    pub compose_project: Option<String>,
    /// `com.docker.compose.service`.
    pub compose_service: Option<String>,
}

impl Container {
    /// Name of the image without tag and digest, and the tag: `container.image.name`, `container.image.tags`.
    #[must_use]
    pub fn image_name_and_tag(&self) -> Option<(&str, Option<&str>)> {
        let image = self.image.as_deref()?;
        let image = image.split_once('@').map_or(image, |(image, _digest)| image);
        // A colon before the last slash is that of a registry's port.
        Some(match image.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (image, None),
        })
    }
}

/// A Kubernetes pod, as the runtime was told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; of a static pod the hash of its manifest.
    pub uid: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        for (image, name, tag) in [
            ("nginx", "nginx", None),
            ("docker.io/library/nginx:1.27", "docker.io/library/nginx", Some("1.27")),
            ("localhost:5000/shop/cart", "localhost:5000/shop/cart", None),
            ("localhost:5000/shop/cart:v2@sha256:72dd0b50", "localhost:5000/shop/cart", Some("v2")),
            ("shop/cart@sha256:72dd0b50", "shop/cart", None),
        ] {
            let container = Container { image: Some(image.to_owned()), ..Container::default() };
            assert_eq!(container.image_name_and_tag(), Some((name, tag)), "{image}");
        }
        assert_eq!(Container::default().image_name_and_tag(), None);
    }
}
