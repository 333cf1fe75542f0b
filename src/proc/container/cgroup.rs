//! The names that runtimes give to the cgroups of their containers.

use super::Runtime;

/// A container as the cgroup of one of its processes tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRef {
    /// Its id, or its name for runtimes that have no ids.
    pub id: String,
    /// Paths of some cgroup drivers name no runtime.
    pub runtime: Option<Runtime>,
    /// UID of the pod that it is of, with dashes.
    pub pod_uid: Option<String>,
    /// The user whose session it is in, if it is one of a user.
    pub user: Option<u32>,
}

impl ContainerRef {
    /// From the text of `/proc/PID/cgroup`. Of containers in containers the innermost, of hierarchies that differ the one that
    /// tells most: a driver may use some of those of v1 only.
    #[must_use]
    pub fn parse(cgroup: &str) -> Option<Self> {
        let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let mut best: Option<((usize, bool, bool), Self)> = None;
        for (depth, found) in paths.filter_map(walk) {
            let worth = (depth, found.pod_uid.is_some(), found.runtime.is_some());
            if best.as_ref().is_none_or(|(most, _)| worth > *most) {
                best = Some((worth, found));
            }
        }
        best.map(|(_, found)| found)
    }
}

/// The innermost container of one path, and how many it is in.
fn walk(path: &str) -> Option<(usize, ContainerRef)> {
    let mut found: Vec<ContainerRef> = Vec::new();
    let (mut pod_uid, mut user, mut before) = (None, None, "");
    // A colon parts what systemd's driver was to make a scope of, where the cgroupfs driver got it: "SLICE:PREFIX:ID".
    for (at, name) in path.split('/').filter(|name| !matches!(*name, "" | "..")).enumerate() {
        for word in name.split(':') {
            if let Some(uid) = pod(word) {
                pod_uid = Some(uid);
            } else if let Some(id) = word.strip_prefix("user-").and_then(|rest| rest.strip_suffix(".slice")) {
                user = id.parse().ok();
            } else if let Some((runtime, id)) = container(word, before, at == 1 || !found.is_empty()) {
                found.push(ContainerRef { id, runtime, pod_uid: pod_uid.clone(), user });
            } else if word == "supervisor"
                && found.last().is_some_and(|last| last.runtime == Some(Runtime::Nspawn))
            {
                found.pop();
            }
            before = word;
        }
    }
    Some((found.len(), found.pop()?))
}

/// UID of a pod's cgroup: `podUID`, or `ANY-podUID.slice` with underscores.
fn pod(word: &str) -> Option<String> {
    let word = word.strip_suffix(".slice").unwrap_or(word);
    let (parent, uid) = word.rsplit_once("pod")?;
    let digits: Vec<&str> = uid.split(['-', '_']).collect();
    let lengths: Vec<usize> = digits.iter().map(|part| part.len()).collect();
    let formed = matches!(lengths[..], [8, 4, 4, 4, 12] | [32]) && digits.iter().all(|part| is_hex(part));
    (formed && (parent.is_empty() || parent.ends_with('-'))).then(|| digits.join("-"))
}

/// `lxc` is of LXC where it is the first name, or inside a container.
fn container(word: &str, before: &str, lxc: bool) -> Option<(Option<Runtime>, String)> {
    let known = |runtime, id: &str| (!id.is_empty()).then(|| (Some(runtime), id.to_owned()));
    if let Some(name) = word.strip_prefix("lxc.payload.") {
        return known(Runtime::Lxc, name);
    }
    if before == "lxc.payload" || before == "lxc" && lxc {
        return known(Runtime::Lxc, word);
    }
    if let Some(name) = word.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service")) {
        return known(Runtime::Nspawn, &unescape(name));
    }
    if let Some(machine) = word.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope")) {
        // systemd-machined has virtual machines of libvirt too.
        return Some(unescape(machine))
            .filter(|name| !name.starts_with("qemu-"))
            .and_then(|name| known(Runtime::Nspawn, &name));
    }
    let (name, scope) = word.strip_suffix(".scope").map_or((word, false), |name| (name, true));
    let (prefix, id) = name.rsplit_once('-').unwrap_or((before, name));
    let runtime = match prefix {
        "buildkit" if is_build(id) => return known(Runtime::Buildkit, id),
        "docker" if is_build(id) && scope => return known(Runtime::Buildkit, id),
        "docker" => Runtime::Docker,
        "cri-containerd" | "nerdctl" => Runtime::Containerd,
        "crio" => Runtime::Crio,
        "libpod" | "libpod-payload" => Runtime::Podman,
        // The monitors of containers, and the parent of those of a podman pod.
        "conmon" | "crio-conmon" | "libpod-conmon" | "libpod_parent" => return None,
        _ => return is_id(id).then(|| (None, id.to_owned())),
    };
    if is_hex(id) && (12..=64).contains(&id.len()) { known(runtime, id) } else { None }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// BuildKit's ids are of base 36.
fn is_build(text: &str) -> bool {
    text.len() == 25 && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

/// Of what names of machines may have, systemd escapes the dash only.
fn unescape(name: &str) -> String {
    name.replace("\\x2d", "-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "60ac13c4b249533bf660c41c460b81826ab657b2bc40ffce6a4725945506ac55";
    const OTHER: &str = "af7a98f8bac48a8e99dfa558d3ee66c8beab4d58bc90f2f8f28b2e43a6555db0";
    const UID: &str = "0f9ae2d8-07b1-4b3a-9d2e-6a1c3b5d7e9f";
    const HASH: &str = "5d2bdf0b3c8e6a7f9e1d4c5b6a798081";

    /// `$I`, `$O`: ids; `$P`, `$U`: the UID of a pod with dashes and with underscores; `$H`: that of a static pod.
    fn of(template: &str) -> Option<(Option<Runtime>, String, Option<String>)> {
        let text = template
            .replace("$I", ID)
            .replace("$O", OTHER)
            .replace("$P", UID)
            .replace("$U", &UID.replace('-', "_"))
            .replace("$H", HASH);
        ContainerRef::parse(&text).map(|found| (found.runtime, found.id, found.pod_uid))
    }

    #[test]
    fn every_runtime_and_driver() {
        use Runtime::*;
        for (path, runtime) in [
            // Docker: systemd's driver, cgroupfs, v1, an init system or a nested cgroup inside, a parent of one's own.
            ("0::/system.slice/docker-$I.scope", Some(Docker)),
            ("0::/docker/$I", Some(Docker)),
            (
                "12:pids:/docker/$I\n1:name=systemd:/docker/$I\n0::/system.slice/containerd.service",
                Some(Docker),
            ),
            ("0::/docker/$I/init.scope", Some(Docker)),
            ("0::/system.slice/docker-$I.scope/system.slice/nginx.service", Some(Docker)),
            ("0::/actions_job/$I", None),
            ("4:memory:/ecs/0123456789abcdef0123456789abcdef/$I\n0::/", None),
            ("0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-$I.scope", Some(Docker)),
            // containerd by nerdctl, by ctr with a scope of its own, under the name of its namespace.
            ("0::/system.slice/nerdctl-$I.scope", Some(Containerd)),
            ("0::/default/$I", None),
            ("0::/system.slice/mine-$I.scope", None),
            // Podman: as root, without, by crun, with cgroups that Quadlet splits, in a pod, as the API's service.
            ("0::/machine.slice/libpod-$I.scope", Some(Podman)),
            ("0::/machine.slice/libpod-$I.scope/container", Some(Podman)),
            ("8:pids:/libpod_parent/libpod-$I\n0::/libpod_parent/libpod-$I", Some(Podman)),
            ("0::/libpod_parent/$O/libpod-$I", Some(Podman)),
            ("0::/machine.slice/machine-libpod_pod_$O.slice/libpod-$I.scope", Some(Podman)),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-$I.scope/container",
                Some(Podman),
            ),
            ("0::/system.slice/web.service/libpod-payload-$I", Some(Podman)),
            // As seen from another cgroup namespace.
            ("0::/../../system.slice/docker-$I.scope", Some(Docker)),
            ("0::/../cri-containerd-$I.scope", Some(Containerd)),
            ("0::/../$I", None),
            // Containers in containers.
            ("0::/docker/$O/docker/$I", Some(Docker)),
            ("0::/lxc.payload.box/system.slice/docker-$I.scope", Some(Docker)),
            ("0::/lxc/100/docker/$I", Some(Docker)),
            ("0::/docker/$I/libpod_parent/libpod-conmon-$O.scope", Some(Docker)),
            ("0::/docker/$O\n1:name=systemd:/docker/$O/docker/$I", Some(Docker)),
        ] {
            assert_eq!(of(path), Some((runtime, ID.to_owned(), None)), "{path}");
        }
    }

    #[test]
    fn pods() {
        use Runtime::*;
        let pods = "kubepods.slice/kubepods-burstable.slice";
        for (path, runtime, uid) in [
            (
                &*format!("0::/{pods}/kubepods-burstable-pod$U.slice/cri-containerd-$I.scope"),
                Some(Containerd),
                UID,
            ),
            ("0::/kubepods.slice/kubepods-pod$U.slice/crio-$I.scope", Some(Crio), UID),
            ("0::/kubepods.slice/kubepods-pod$U.slice/crio-$I.scope/container", Some(Crio), UID),
            (
                "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod$U.slice/docker-$I.scope",
                Some(Docker),
                UID,
            ),
            ("0::/kubepods/burstable/pod$P/$I", None, UID),
            ("0::/kubepods/besteffort/pod$P/crio-$I", Some(Crio), UID),
            ("9:cpu,cpuacct:/kubepods/pod$P/$I\n0::/", None, UID),
            ("0::/kubepods/burstable/pod$H/$I", None, HASH),
            (
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod$H.slice/cri-containerd-$I.scope",
                Some(Containerd),
                HASH,
            ),
            (
                "0::/system.slice/containerd.service/kubepods-besteffort-pod$U.slice:cri-containerd:$I",
                Some(Containerd),
                UID,
            ),
            ("0::/../../pod$P/$I", None, UID),
            // kind, and Docker in a pod.
            (
                "0::/docker/$O/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod$U.slice/cri-containerd-$I.scope",
                Some(Containerd),
                UID,
            ),
            ("0::/kubepods/pod$H/$O/kubepods/pod$P/$I", None, UID),
            ("0::/kubepods/pod$P/$O/docker/$I", Some(Docker), UID),
        ] {
            assert_eq!(of(path), Some((runtime, ID.to_owned(), Some(uid.to_owned()))), "{path}");
        }
        // A shim in the cgroup of its pod is of the node, not of the pod.
        assert_eq!(of("0::/docker/$I/kubelet/kubepods/pod$P"), Some((Some(Docker), ID.to_owned(), None)));
    }

    #[test]
    fn by_name() {
        use Runtime::*;
        for (path, runtime, name) in [
            ("0::/lxc.payload.shop", Lxc, "shop"),
            ("0::/lxc.payload.shop/system.slice/nginx.service", Lxc, "shop"),
            ("0::/lxc.payload/shop", Lxc, "shop"),
            ("0::/lxc/100/ns/init.scope", Lxc, "100"),
            ("8:pids:/lxc/shop\n0::/", Lxc, "shop"),
            ("0::/lxc.payload.shop/lxc.payload.till", Lxc, "till"),
            ("0::/machine.slice/machine-shop.scope/payload", Nspawn, "shop"),
            (
                "0::/machine.slice/machine-my\\x2dshop.scope/payload/system.slice/nginx.service",
                Nspawn,
                "my-shop",
            ),
            ("0::/machine.slice/systemd-nspawn@my-shop.service/payload", Nspawn, "my-shop"),
            ("0::/docker/buildkit/4fkqylwx2yzz8zq1ic6z3i2a9", Buildkit, "4fkqylwx2yzz8zq1ic6z3i2a9"),
            (
                "0::/system.slice/docker-4fkqylwx2yzz8zq1ic6z3i2a9.scope",
                Buildkit,
                "4fkqylwx2yzz8zq1ic6z3i2a9",
            ),
            ("0::/machine.slice/libpod-af7a98f8bac4.scope", Podman, "af7a98f8bac4"),
        ] {
            assert_eq!(of(path), Some((Some(runtime), name.to_owned(), None)), "{path}");
        }
    }

    #[test]
    fn no_container() {
        for path in [
            "",
            "0::/",
            "0::",
            "::",
            "0::/..",
            "0::/user.slice/user-1000.slice/session-3.scope",
            "0::/system.slice/docker.service",
            "0::/system.slice/docker-.scope",
            "0::/system.slice/lxc/web",
            "0::/lxc",
            "0::/lxc.monitor.shop",
            "0::/lxc.payload.",
            "0::/machine.slice/libpod-conmon-$I.scope",
            "0::/libpod_parent/conmon",
            "0::/libpod_parent/$I/libpod-conmon-$I",
            "0::/kubepods.slice/kubepods-pod$U.slice/crio-conmon-$I.scope",
            "0::/kubepods/besteffort/pod$P/crio-conmon-$I",
            "0::/kubepods/besteffort/pod$P",
            "0::/machine.slice/machine-shop.scope/supervisor",
            "0::/machine.slice/machine-qemu\\x2d1\\x2dshop.scope/libvirt/emulator",
            "0::/user.slice/podman-4711.scope",
            "0::/system.slice/docker-abcdef.scope",
            "0::/build/$I.mount/x",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn whose_session() {
        let user = |path: &str| ContainerRef::parse(&path.replace("$I", ID)).and_then(|found| found.user);
        assert_eq!(
            user("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-$I.scope"),
            Some(1000)
        );
        assert_eq!(user("0::/machine.slice/libpod-$I.scope"), None);
    }

    proptest! {
        #[test]
        fn anything(text in "[-/:._.a-f0-9]{0,6}(/|pod|lxc|docker-|\\\\x|é|\n|::|.scope|machine-){0,8}.{0,20}") {
            let _any = ContainerRef::parse(&text);
        }

        /// Whatever it is in, and whatever it makes below.
        #[test]
        fn innermost(outer in "(/[a-k]{1,9}(\\.slice)?){0,4}", inner in "(/[a-k]{1,9}(\\.service)?){0,3}") {
            let found = ContainerRef::parse(&format!("0::{outer}/docker-{ID}.scope{inner}"));
            prop_assert_eq!(found.map(|found| found.id), Some(ID.to_owned()));
        }
    }
}
