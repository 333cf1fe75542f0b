//! What runtimes keep on disk of a container: read as root, from directories of root, and still believed no further than needed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Container, ContainerRef, Pod, Runtime};

/// Bytes of a file. That of docker or of the OCI has some ten thousand, podman's has 400 for each container.
const FILE_MAX: u64 = 1 << 20;

/// Ancestors of a process that are looked at, and mount namespaces among them.
const ANCESTORS: usize = 32;
const ROOTS: usize = 6;

/// Clients of containerd that share it.
const NAMESPACES: usize = 32;

const DOCKER: [&str; 2] = ["var/lib/docker", "var/snap/docker/common/var-lib-docker"];
/// That of the distribution, of K3s and RKE2, of K0s, and of MicroK8s.
const CONTAINERD: [&str; 4] =
    ["run/containerd", "run/k3s/containerd", "run/k0s/containerd", "var/snap/microk8s/common/run/containerd"];
const STORAGE: [&str; 2] = ["var/lib/containers/storage", "run/containers/storage"];
/// Storage drivers of Podman and CRI-O, which name the directories.
const DRIVERS: [&str; 4] = ["overlay", "vfs", "btrfs", "zfs"];

type Strings = HashMap<String, String>;

/// `config.v2.json` of Docker.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerState {
    name: String,
    config: DockerConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    image: Option<String>,
    labels: Option<Strings>,
}

/// `daemon.json` of Docker.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DockerDaemon {
    data_root: String,
}

/// `config.json` of an OCI bundle.
#[derive(Deserialize)]
struct Bundle {
    annotations: Option<Strings>,
}

/// One of `containers.json` of Podman and CRI-O.
#[derive(Deserialize)]
struct Stored {
    id: String,
    names: Option<Vec<String>>,
    /// JSON in JSON.
    metadata: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StoredMetadata {
    image_name: Option<String>,
}

/// A file below `root`, where links lead as they do for who has that root. Nothing that would block, nothing that is no file.
fn read(root: &Path, path: &str) -> Option<Vec<u8>> {
    let directory = File::open(root).ok()?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let file = File::from(openat2(&directory, path, how).ok()?);
    let mut bytes = Vec::new();
    file.metadata().ok()?.is_file().then_some(())?;
    file.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn json<T: DeserializeOwned>(root: &Path, path: &str) -> Option<T> {
    serde_json::from_slice(&read(root, path)?).ok()
}

fn take(strings: &mut Strings, key: &str) -> Option<String> {
    strings.remove(key).filter(|value| !value.is_empty())
}

/// What the kubelet tells each runtime, under that runtime's names of it.
fn pod(strings: &mut Strings, [namespace, name, uid]: [&str; 3]) -> Option<Pod> {
    let (namespace, name) = (take(strings, namespace)?, take(strings, name)?);
    Some(Pod { namespace, name, uid: take(strings, uid) })
}

const KUBELET: [&str; 3] = ["io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.pod.uid"];

const COMPOSE: [&str; 2] = ["com.docker.compose.project", "com.docker.compose.service"];

fn docker(root: &Path, data: &str, id: &str) -> Option<Container> {
    let DockerState { name, config } = json(root, &format!("{data}/containers/{id}/config.v2.json"))?;
    let mut labels = config.labels.unwrap_or_default();
    let name = name.strip_prefix('/').unwrap_or(&name).to_owned();
    Some(Container {
        runtime: Some(Runtime::Docker),
        name: take(&mut labels, "io.kubernetes.container.name")
            .or(Some(name))
            .filter(|name| !name.is_empty()),
        image: config.image.filter(|image| !image.is_empty()),
        pod: pod(&mut labels, KUBELET),
        compose_project: take(&mut labels, COMPOSE[0]),
        compose_service: take(&mut labels, COMPOSE[1]),
        ..Container::default()
    })
}

fn of_docker(root: &Path, home: Option<&str>, id: &str) -> Option<Container> {
    let mine = home.map(|home| format!("{home}/.local/share/docker"));
    let all = DOCKER.iter().map(|data| (*data).to_owned()).chain(mine);
    all.into_iter().find_map(|data| docker(root, &data, id)).or_else(|| {
        let DockerDaemon { data_root } = json(root, "etc/docker/daemon.json")?;
        docker(root, &data_root, id)
    })
}

fn of_containerd(root: &Path, id: &str) -> Option<Container> {
    CONTAINERD.iter().find_map(|state| {
        let tasks = format!("{state}/io.containerd.runtime.v2.task");
        let namespaces = fs::read_dir(root.join(&tasks)).ok()?.flatten().take(NAMESPACES);
        // Docker's are there too, without a word of their names.
        let names =
            namespaces.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name != "moby");
        let mut bundles =
            names.filter_map(|name| json::<Bundle>(root, &format!("{tasks}/{name}/{id}/config.json")));
        let mut said = bundles.next()?.annotations.unwrap_or_default();
        let cri = ["namespace", "name", "uid"].map(|key| format!("io.kubernetes.cri.sandbox-{key}"));
        Some(Container {
            runtime: Some(Runtime::Containerd),
            name: take(&mut said, "io.kubernetes.cri.container-name")
                .or_else(|| take(&mut said, "nerdctl/name")),
            image: take(&mut said, "io.kubernetes.cri.image-name"),
            pod: pod(&mut said, [&cri[0], &cri[1], &cri[2]]),
            // nerdctl before 2.0 has the labels here; the image it has nowhere that is a text.
            compose_project: take(&mut said, COMPOSE[0]),
            compose_service: take(&mut said, COMPOSE[1]),
            ..Container::default()
        })
    })
}

/// Podman and CRI-O keep the same files; CRI-O's bundle has all there is to know, of Podman's the list has.
fn of_storage(root: &Path, home: Option<&str>, id: &str) -> Option<Container> {
    let mine = home.map(|home| format!("{home}/.local/share/containers/storage"));
    let all = STORAGE.iter().map(|storage| (*storage).to_owned()).chain(mine);
    let places = all.flat_map(|storage| DRIVERS.map(|driver| format!("{storage}/{driver}-containers")));
    let mut out: Option<Container> = None;
    for place in places {
        if let Some(bundle) = json::<Bundle>(root, &format!("{place}/{id}/userdata/config.json")) {
            let mut said = bundle.annotations.unwrap_or_default();
            let crio = said.get("io.container.manager").is_some_and(|manager| manager == "cri-o");
            let found = Container {
                runtime: Some(if crio { Runtime::Crio } else { Runtime::Podman }),
                name: take(&mut said, "io.kubernetes.container.name"),
                image: take(&mut said, "io.kubernetes.cri-o.ImageName"),
                pod: pod(&mut said, KUBELET),
                ..Container::default()
            };
            if crio {
                return Some(found);
            }
            out.get_or_insert(found);
        }
        for list in ["containers.json", "volatile-containers.json"] {
            let stored: Vec<Stored> = json(root, &format!("{place}/{list}")).unwrap_or_default();
            let Some(stored) = stored.into_iter().find(|stored| stored.id == id) else { continue };
            let metadata =
                stored.metadata.and_then(|text| serde_json::from_str::<StoredMetadata>(&text).ok());
            return Some(Container {
                runtime: Some(Runtime::Podman),
                name: stored.names.and_then(|names| names.into_iter().next()),
                image: metadata.and_then(|metadata| metadata.image_name).filter(|image| !image.is_empty()),
                ..Container::default()
            });
        }
    }
    out
}

/// Home of a user, as the file says; directories of users elsewhere (LDAP) are not asked.
fn home(root: &Path, user: u32) -> Option<String> {
    let users = String::from_utf8(read(root, "etc/passwd")?).ok()?;
    let user = user.to_string();
    let mut lines = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.get(2) == Some(&user.as_str()))?.get(5).map(|home| (*home).to_owned())
}

fn in_root(root: &Path, reference: &ContainerRef) -> Option<Container> {
    let id = &*reference.id;
    let home = reference.user.and_then(|user| home(root, user));
    match reference.runtime {
        Some(Runtime::Docker) => of_docker(root, home.as_deref(), id),
        Some(Runtime::Containerd) => of_containerd(root, id),
        Some(Runtime::Podman | Runtime::Crio) => of_storage(root, home.as_deref(), id),
        Some(Runtime::Lxc | Runtime::Nspawn | Runtime::Buildkit) => None,
        None => of_containerd(root, id)
            .or_else(|| of_docker(root, home.as_deref(), id))
            .or_else(|| of_storage(root, home.as_deref(), id)),
    }
}

/// Name, image and pod of a container: what the first of the roots says that knows it. Without any, the id is all. Reads some
/// files, for the caller to do once for each container.
#[must_use]
pub fn look_up(reference: &ContainerRef, roots: &[PathBuf]) -> Container {
    let mut out = roots.iter().find_map(|root| in_root(root, reference)).unwrap_or_default();
    out.id.clone_from(&reference.id);
    out.runtime = reference.runtime.or(out.runtime);
    if matches!(out.runtime, Some(Runtime::Lxc | Runtime::Nspawn)) {
        out.name = Some(reference.id.clone());
    }
    if let (Some(pod), Some(uid)) = (&mut out.pod, &reference.pod_uid) {
        pod.uid.get_or_insert_with(|| uid.clone());
    }
    out
}

/// Root directories in which the runtime of the container that a process is in may keep its state: that of the host, then
/// those of the ancestors of the process, the outermost first. A container's first process is a child of its runtime's shim, so
/// that one of them is the runtime's own also where that is in a container, or is run by a user in namespaces. The host's
/// comes first: what is in a container could tell anything.
#[must_use]
pub fn roots(pid: u32) -> Vec<PathBuf> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let mut seen = vec![namespace(&pid.to_string())];
    let mut inner = Vec::new();
    let mut at = pid;
    for _ in 0..ANCESTORS {
        let Some(parent) = parent(at).filter(|parent| *parent > 1) else { break };
        at = parent;
        let its = namespace(&at.to_string());
        if its.is_some() && !seen.contains(&its) {
            inner.push((its.clone(), PathBuf::from(format!("/proc/{at}/root"))));
            seen.push(its);
        }
    }
    let (own, first) = (namespace("self"), namespace("1"));
    // Where spanwire is in a container itself, the host is behind the first process.
    let outside = Path::new("/proc/1/root");
    let hidden = own == first || fs::metadata(outside.join("proc")).is_err();
    let host = if hidden { PathBuf::from("/") } else { outside.to_owned() };
    inner.retain(|(its, _)| *its != if hidden { own.clone() } else { first.clone() });
    std::iter::once(host).chain(inner.into_iter().rev().map(|(_, root)| root).take(ROOTS)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;

    const ID: &str = "60ac13c4b249533bf660c41c460b81826ab657b2bc40ffce6a4725945506ac55";

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path.replace("$I", ID));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.replace("$I", ID)).unwrap();
        }
        root
    }

    fn reference(runtime: Option<Runtime>) -> ContainerRef {
        ContainerRef { id: ID.to_owned(), runtime, pod_uid: None, user: None }
    }

    fn known(runtime: Option<Runtime>, root: &tempfile::TempDir) -> Container {
        look_up(&reference(runtime), &[root.path().to_owned()])
    }

    fn named(runtime: Runtime, name: &str, image: &str) -> Container {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Container {
            id: ID.to_owned(),
            runtime: Some(runtime),
            name: some(name),
            image: some(image),
            ..Container::default()
        }
    }

    const DOCKER_FILE: &str = r#"{"StreamConfig":{},"State":{"Running":true,"Pid":10867},"ID":"$I","Image":"sha256:dc6a","Name":"/cart",
        "Config":{"Hostname":"vm","Env":["PATH=/bin"],"Image":"shop/tiny:1.2","Labels":LABELS},"RestartCount":0}"#;

    #[test]
    fn docker() {
        let place = "var/lib/docker/containers/$I/config.v2.json";
        let plain = DOCKER_FILE.replace("LABELS", "{}");
        assert_eq!(
            known(Some(Runtime::Docker), &root(&[(place, &plain)])),
            named(Runtime::Docker, "cart", "shop/tiny:1.2")
        );
        let composed = DOCKER_FILE.replace(
            "LABELS",
            r#"{"com.docker.compose.project":"shop","com.docker.compose.service":"cart","a":"b"}"#,
        );
        let found = known(None, &root(&[(place, &composed)]));
        assert_eq!(
            (found.compose_project.as_deref(), found.compose_service.as_deref()),
            (Some("shop"), Some("cart"))
        );
        assert_eq!(found.runtime, Some(Runtime::Docker));
        let other = [
            ("etc/docker/daemon.json", r#"{"data-root":"/srv/docker"}"#),
            ("srv/docker/containers/$I/config.v2.json", &plain),
        ];
        assert_eq!(known(Some(Runtime::Docker), &root(&other)).name.as_deref(), Some("cart"));
        let kubelet = DOCKER_FILE.replace(
            "LABELS",
            r#"{"io.kubernetes.container.name":"app","io.kubernetes.pod.name":"cart-0","io.kubernetes.pod.namespace":"shop"}"#,
        );
        let kubelet = root(&[(place, &kubelet)]);
        let found = look_up(
            &ContainerRef { pod_uid: Some("u".to_owned()), ..reference(Some(Runtime::Docker)) },
            &[kubelet.path().to_owned()],
        );
        assert_eq!(found.name.as_deref(), Some("app"));
        assert_eq!(
            found.pod,
            Some(Pod { namespace: "shop".to_owned(), name: "cart-0".to_owned(), uid: Some("u".to_owned()) })
        );
    }

    #[test]
    fn containerd() {
        let bundle = |annotations: &str| {
            format!(r#"{{"ociVersion":"1.0.2","process":{{"args":["a"]}},"annotations":{annotations}}}"#)
        };
        let cri = bundle(
            r#"{"io.kubernetes.cri.container-name":"app","io.kubernetes.cri.container-type":"container",
            "io.kubernetes.cri.image-name":"docker.io/shop/tiny:1.2","io.kubernetes.cri.sandbox-id":"5","io.kubernetes.cri.sandbox-name":"cart-0",
            "io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.sandbox-uid":"0f9a"}"#,
        );
        let pod =
            Pod { namespace: "shop".to_owned(), name: "cart-0".to_owned(), uid: Some("0f9a".to_owned()) };
        let whole =
            Container { pod: Some(pod), ..named(Runtime::Containerd, "app", "docker.io/shop/tiny:1.2") };
        for state in CONTAINERD {
            let place = format!("{state}/io.containerd.runtime.v2.task/k8s.io/$I/config.json");
            assert_eq!(known(None, &root(&[(&place, &cri)])), whole, "{state}");
        }
        let place = "run/containerd/io.containerd.runtime.v2.task/default/$I/config.json";
        let nerdctl = bundle(
            r#"{"nerdctl/name":"cart","nerdctl/namespace":"default","com.docker.compose.project":"shop"}"#,
        );
        let shop =
            Container { compose_project: Some("shop".to_owned()), ..named(Runtime::Containerd, "cart", "") };
        assert_eq!(known(None, &root(&[(place, &nerdctl)])), shop);
        assert_eq!(known(None, &root(&[(place, &bundle("null"))])), named(Runtime::Containerd, "", ""));
        assert_eq!(known(None, &root(&[(&place.replace("default", "moby"), &nerdctl)])).runtime, None);
    }

    #[test]
    fn podman_and_crio() {
        let stored = r#"[{"id":"0","names":["other"],"layer":"1"},{"id":"$I","names":["cart"],"image":"72dd","layer":"641f",
            "metadata":"{\"image-name\":\"localhost/shop/tiny:1.2\",\"name\":\"cart\",\"created-at\":1795282365}","flags":{"Volatile":true}}]"#;
        let podman = named(Runtime::Podman, "cart", "localhost/shop/tiny:1.2");
        let bundle = r#"{"annotations":{"io.container.manager":"libpod","io.kubernetes.cri-o.TTY":"false"}}"#;
        for (list, root_of) in [("containers.json", STORAGE[0]), ("volatile-containers.json", STORAGE[1])] {
            let files = [
                (format!("{root_of}/overlay-containers/{list}"), stored),
                (format!("{}/overlay-containers/$I/userdata/config.json", STORAGE[0]), bundle),
            ];
            let files = files.each_ref().map(|(path, text)| (path.as_str(), *text));
            assert_eq!(known(Some(Runtime::Podman), &root(&files)), podman, "{list}");
        }
        let place = "home/one/.local/share/containers/storage/vfs-containers/containers.json";
        let rootless = root(&[
            (place, stored),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\none:x:1000:1000::/home/one:/bin/sh\n"),
        ]);
        let of_user = ContainerRef { user: Some(1000), ..reference(Some(Runtime::Podman)) };
        assert_eq!(look_up(&of_user, &[rootless.path().to_owned()]), podman);
        let crio = r#"{"annotations":{"io.container.manager":"cri-o","io.kubernetes.container.name":"app","io.kubernetes.cri-o.ImageName":"localhost/shop/tiny:1.2",
            "io.kubernetes.pod.name":"cart-0","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"0f9a"}}"#;
        let pod =
            Pod { namespace: "shop".to_owned(), name: "cart-0".to_owned(), uid: Some("0f9a".to_owned()) };
        let files = [("run/containers/storage/overlay-containers/$I/userdata/config.json", crio)];
        let whole = Container { pod: Some(pod), ..named(Runtime::Crio, "app", "localhost/shop/tiny:1.2") };
        assert_eq!(known(None, &root(&files)), whole);
    }

    #[test]
    fn without_files() {
        let nothing = root(&[]);
        assert_eq!(known(None, &nothing), Container { id: ID.to_owned(), ..Container::default() });
        assert_eq!(known(Some(Runtime::Lxc), &nothing), named(Runtime::Lxc, ID, ""));
        let place = "var/lib/docker/containers/$I/config.v2.json";
        for damaged in ["", "{", "[]", "null", r#"{"Name":5,"Config":{}}"#, &"[".repeat(100_000)] {
            assert_eq!(
                known(Some(Runtime::Docker), &root(&[(place, damaged)])),
                named(Runtime::Docker, "", "")
            );
        }
    }

    #[test]
    fn what_is_read() {
        let files = root(&[("in/secret", "in"), ("big", &"x".repeat(2 << 20))]);
        let outside = root(&[("secret", "out")]);
        symlink("/in", files.path().join("absolute")).unwrap();
        symlink(outside.path(), files.path().join("leaves")).unwrap();
        nix::unistd::mkfifo(&files.path().join("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(read(files.path(), "absolute/secret").as_deref(), Some(&b"in"[..]));
        assert_eq!(read(files.path(), "../../in/secret").as_deref(), Some(&b"in"[..]));
        assert_eq!(read(files.path(), "leaves/secret"), None);
        assert_eq!(read(files.path(), "pipe"), None);
        assert_eq!(read(files.path(), "in"), None);
        assert_eq!(read(files.path(), "big").map(|bytes| bytes.len()), Some(1 << 20));
    }

    #[test]
    fn the_host_is_first() {
        let found = roots(std::process::id());
        assert!(!found.is_empty() && found.len() <= 1 + ROOTS, "{found:?}");
        let host = fs::read_link("/proc/1/ns/mnt").ok();
        if host.is_some() && host == fs::read_link("/proc/self/ns/mnt").ok() {
            assert_eq!(found[0], Path::new("/"));
        }
    }

    #[test]
    fn the_first_root_that_knows() {
        let place = "var/lib/docker/containers/$I/config.v2.json";
        let (empty, outer) = (root(&[]), root(&[(place, &DOCKER_FILE.replace("LABELS", "null"))]));
        let inner = root(&[(place, &DOCKER_FILE.replace("LABELS", "null").replace("/cart", "/liar"))]);
        let roots = [&empty, &outer, &inner].map(|root| root.path().to_owned());
        assert_eq!(look_up(&reference(Some(Runtime::Docker)), &roots).name.as_deref(), Some("cart"));
    }
}
