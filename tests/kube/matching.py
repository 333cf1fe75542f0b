"""From a process to its container to its pod, on the nodes there are; from spanwire to its node and its API server."""
import base64
import json
import os
import secrets
import socket
import subprocess

from kubelet import cgroupfs_driver, hierarchy, systemd_driver
from lib import tracer
from names import ports, standard
from rig import NODE, Skip, case, differences, wait_for, warnings


def quality(driver, name):
    return lambda uid, identity: driver(uid, identity, name)


def runtime(name):
    return lambda uid, identity: systemd_driver(uid, identity, runtime=name)


DRIVERS = {  # cgroup below the mount, runtime of the container's id; -v1: in a hierarchy of cgroup v1
    "systemd-burstable": (quality(systemd_driver, "burstable"), "containerd"),
    "systemd-besteffort": (quality(systemd_driver, "besteffort"), "containerd"),
    "systemd-guaranteed": (quality(systemd_driver, ""), "containerd"),
    "cgroupfs-burstable": (quality(cgroupfs_driver, "burstable"), "containerd"),
    "cgroupfs-besteffort": (quality(cgroupfs_driver, "besteffort"), "containerd"),
    "cgroupfs-guaranteed": (quality(cgroupfs_driver, ""), "containerd"),
    "crio": (runtime("crio"), "cri-o"),
    "docker": (runtime("docker"), "docker"),
    "nested": (lambda uid, identity: systemd_driver(uid, identity) + "/init.scope", "containerd"),
    # `--cgroup-root=/kubelet`, as kind and others run it.
    "cgroup-root": (lambda uid, identity: "kubelet.slice/kubelet-" + systemd_driver(uid, identity).replace("/kubepods", "/kubelet-kubepods"),
                    "containerd"),
    # Of static pods the kubelet makes the uid itself, and the API server gives another to the mirror pod.
    "static": (lambda uid, identity: systemd_driver(secrets.token_hex(16), identity), "containerd"),
    "id-alone": (lambda uid, identity: f"system.slice/docker-{identity}.scope", "docker")}
FIRST = {"systemd-v1": (systemd_driver, "containerd"), "cgroupfs-v1": (cgroupfs_driver, "containerd")} if hierarchy(1) else {}


def matched(world, say, **spanwire):
    pods = {word: world.running(word, driver=driver, runtime=name, version=1 if word in FIRST else 2)
            for word, (driver, name) in {**DRIVERS, **FIRST}.items()}
    if not FIRST:
        say("no cgroup v1 hierarchy is mounted")
    world.spanwire(*ports(*pods.values()), **spanwire)
    problems = []
    for word, pod in pods.items():
        expected = {"k8s.pod.name": word, "k8s.pod.uid": pod.uid, "k8s.container.name": "app", "container.id": pod.ids["app"]}
        problems += [f"{word}: {one}" for one in differences(world.resource(pod.only), expected)]
    return problems


@case
def cgroups_seen_from_a_container(world, say):
    """A container has a cgroup namespace of its own: paths of others begin with `/..`."""
    return matched(world, say)


@case
def cgroups_seen_from_the_host(world, say):
    path = world.directory / "kubeconfig-host"
    world.plane.kubeconfig(path, {"token": world.cluster.token_of("spanwire", "spanwire")})
    return matched(world, say, outside=True, environment={"KUBECONFIG": str(path)}, settings={"attributes.kubernetes.enable": "true"})


# ---- the API server


@case
def kubeconfig_with_a_certificate(world, say):
    world.plane.issue("certified", "/O=system:masters/CN=certified", "basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth")
    data = {f"client-{what}-data": base64.b64encode((world.plane.directory / f"certified.{suffix}").read_bytes()).decode()
            for what, suffix in (("certificate", "crt"), ("key", "key"))}
    path, pod = world.directory / "kubeconfig-certificate", world.running("certified")
    world.plane.kubeconfig(path, data)
    world.spanwire(*ports(pod), outside=True, settings={"attributes.kubernetes.kubeconfig_path": path, "attributes.kubernetes.enable": "true"})
    return differences(world.resource(pod.only), {"k8s.pod.name": "certified"})


@case
def check_tells_of_the_server(world, say):
    """`spanwire check`, with the rights that it takes and without."""
    def told(path, **environment):
        line = [tracer.BINARY, "check", "--json"]
        answer = subprocess.run(line, capture_output=True, text=True, timeout=60, env={**os.environ, "KUBECONFIG": str(path), **environment})
        return {row["feature"]: (row["verdict"], row["detail"]) for row in json.loads(answer.stdout)}.get("kubernetes")

    path, bare = world.directory / "kubeconfig-check", world.directory / "kubeconfig-bare"
    world.plane.kubeconfig(path, {"token": world.cluster.token_of("spanwire", "spanwire")})
    world.cluster.account("spanwire", "nobody")
    world.plane.kubeconfig(bare, {"token": world.cluster.token_of("spanwire", "nobody")})
    problems = []
    for found, verdict, word in ((told(path, NODE_NAME=NODE), "yes", NODE), (told(bare, NODE_NAME=NODE), "partly", "forbidden"),
                                 (told(world.directory / "none", NODE_NAME=NODE), "partly", "none")):
        if not found or found[0] != verdict or word not in found[1]:
            problems.append(f"{found}, and not {verdict} with {word}")
    return problems


@case
def kubeconfig_with_files(world, say):
    """Certificate and key beside it, by names relative to it."""
    world.plane.issue("filed", "/O=system:masters/CN=filed", "basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth")
    path, pod = world.plane.directory / "kubeconfig-files", world.running("filed")
    world.plane.kubeconfig(path, {"client-certificate": "filed.crt", "client-key": "filed.key"})
    world.spanwire(*ports(pod), outside=True, environment={"KUBECONFIG": str(path)}, settings={"attributes.kubernetes.cluster_name": "by-setting"})
    return differences(world.resource(pod.only), {"k8s.pod.name": "filed", "k8s.cluster.name": "by-setting"})


@case
def server_on_ipv6(world, say):
    """KUBERNETES_SERVICE_HOST has no brackets."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        raise Skip(f"no IPv6 here: {error}") from error
    pod = world.running("six")
    with world.plane.second("::1") as port:
        world.spanwire(*ports(pod), host="::1", port=port)
        return differences(world.resource(pod.only), {"k8s.pod.name": "six"})


@case
def server_of_another_authority(world, say):
    """Is not told our token."""
    files, pod = world.files(), world.running("untrusted")
    world.plane.issue("foreign", "/CN=foreign-ca")
    (files / "..data-1/ca.crt").write_bytes((world.plane.directory / "foreign.crt").read_bytes())
    since = world.plane.audit.stat().st_size
    begun = world.spanwire(*ports(pod), files=files)
    found = world.arrival(pod.only)[0]
    warned = wait_for(lambda: warnings(begun), 3, 0.1)
    return ((differences(found, {"k8s.pod.name": None}) if found else ["no span came"]) +
            [f"asked {entry['requestURI']}" for entry in world.asked(since)] + ([] if len(warned) == 1 else [f"{len(warned)} warnings"]))


# ---- switches


def unasked(world, since, found, name=None):
    return ((differences(found, {"k8s.pod.name": name, "k8s.namespace.name": name}) if found else ["no span came"]) +
            [f"asked {entry['requestURI']}" for entry in world.asked(since)[:3]])


@case
def switched_off(world, say):
    """Nothing is asked, and conditions on pods hold for none."""
    pod, since = world.running("off"), world.plane.audit.stat().st_size
    world.spanwire(instrument=[{"k8s_namespace": "*", "name": "by-namespace"}, {"cmd_args": "*kube/service.py*", "name": "by-arguments"}],
                   environment={"BEYLA_KUBE_METADATA_ENABLE": "false"})
    found = world.arrival(pod.only)[0]
    return unasked(world, since, found) + differences(found or {}, {"service.name": "by-arguments"})


@case
def autodetect_outside_of_a_cluster(world, say):
    pod, since = world.running("outside"), world.plane.audit.stat().st_size
    tracer = world.spanwire(*ports(pod), outside=True)
    text = tracer.log.read_text()
    return (unasked(world, since, world.arrival(pod.only)[0]) +
            [f"warns: {line}" for line in text.splitlines() if "WARN" in line and "kube" in line.lower()])


# ---- the node


def nodes_asked_for(world, since):
    """Of the lists and watches of pods."""
    return {entry["requestURI"].partition("fieldSelector=")[2].partition("&")[0].replace("%3D", "=") for entry in world.asked(since)
            if entry["objectRef"]["resource"] == "pods" and entry["verb"] in ("list", "watch")}


def node_of(world, **settings):
    since = world.plane.audit.stat().st_size
    with world.alone():
        world.spanwire("--port", "1", **settings)
        return wait_for(lambda: nodes_asked_for(world, since), 5, 0.1)


@case
def node_by_variable(world, say):
    got = node_of(world, node=None, environment={"MY_NODE_NAME": "by-name"}, host_name="nobody-knows-me")
    return [] if got == {"spec.nodeName=by-name"} else [f"asked for {got}"]


@case
def settings_by_variable(world, say):
    """The first name that is set wins."""
    nodes = ["SPANWIRE_NODE_NAME", "NODE_NAME", "K8S_NODE_NAME", "MY_NODE_NAME"]
    tables = {"spanwire.node_name": nodes, "attributes.kubernetes.enable": ["OTEL_EBPF_KUBE_METADATA_ENABLE", "BEYLA_KUBE_METADATA_ENABLE"],
              "attributes.kubernetes.cluster_name": ["OTEL_EBPF_KUBE_CLUSTER_NAME", "BEYLA_KUBE_CLUSTER_NAME"],
              "attributes.kubernetes.kubeconfig_path": ["KUBECONFIG"]}
    problems = []
    for key, variables in tables.items():
        for at, variable in enumerate(variables):
            chosen, other = ("false", "true") if key.endswith("enable") else ("chosen", "other")
            environment = {variable: chosen, **{later: other for later in variables[at + 1:]}}
            said = subprocess.run([tracer.BINARY, "config"], env={**os.environ, **environment}, capture_output=True, text=True, timeout=20).stdout
            lines = [line for line in said.splitlines() if key in line]
            problems += [] if any(chosen in line and variable in line for line in lines) else [f"{variable}: {lines}"]
    return problems


@case
def node_by_own_pod(world, say):
    """Its host name is the pod's name."""
    world.pod("spanwire-own-7h2kp", namespace="spanwire", node="node-of-own-pod")
    got = node_of(world, node=None, host_name="spanwire-own-7h2kp")
    return [] if got == {"spec.nodeName=node-of-own-pod"} else [f"asked for {got}"]


@case
def node_by_host_name(world, say):
    """On the host's network, the host's name: of the node's label, where the node is called otherwise."""
    problems = []
    for host, name in (("plain-host", "plain-host"), ("labelled-host", "ip-10-0-0-7.ec2.internal")):
        world.cluster.node(name, host)
        got = node_of(world, node=None, host_name=host)
        problems += [f"{host}: asked for {got}"] if got != {f"spec.nodeName={name}"} else []
    return problems


@case
def node_unknown(world, say):
    """No node has this name: no pods of the whole cluster instead; the spans come."""
    pod, since = world.running("nodeless"), world.plane.audit.stat().st_size
    world.spanwire(*ports(pod), node=None, host_name="nobody-knows-me")
    found, late = world.arrival(pod.only)
    whole = [entry["requestURI"] for entry in world.asked(since) if entry["objectRef"]["resource"] == "pods" and entry["verb"] in ("list", "watch")
             and "fieldSelector=spec.nodeName" not in entry["requestURI"]]
    return ([] if found else ["no span came"]) + [f"asked {one}" for one in whole]


@case
def pods_of_other_nodes(world, say):
    """A process whose pod, by the API server, is elsewhere: nothing is known of it."""
    pod = world.running("elsewhere", node="other-node")
    standard(world)
    return differences(world.arrival(pod.only)[0] or {"k8s.pod.name": "no span came"}, {"k8s.pod.name": None})
