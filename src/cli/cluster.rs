//! Whether the API server of Kubernetes is asked, and how.

use crate::config::{Config, KubeEnable};
use crate::kube::{Reach, Settings};

/// How to ask about pods, if they are to be asked about.
pub(super) fn settings(config: &Config) -> Option<Settings> {
    let wanted = &config.attributes.kubernetes;
    let file = wanted.kubeconfig_path.as_ref().filter(|path| !path.is_empty()).map(Into::into);
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let reach = match (wanted.enable, file) {
        (KubeEnable::False, _) => return None,
        (_, Some(path)) => Reach::Kubeconfig(path),
        (_, None) if in_cluster => Reach::InCluster,
        (KubeEnable::True, None) => Reach::Anyhow,
        (KubeEnable::Autodetect, None) => return None,
    };
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let node = config.spanwire.node_name.clone().filter(|name| !name.is_empty());
    Some(Settings { reach, node, host, pause: wanted.reconnect_initial_interval.0 })
}
