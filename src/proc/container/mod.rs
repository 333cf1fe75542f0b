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
