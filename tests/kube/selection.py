"""Which processes are traced, by what is known of their pods."""
import json
import time

from names import hashed
from rig import case, wait_for

SYSTEM_NAMESPACES = ("kube-system", "kube-node-lease", "local-path-storage", "cert-manager", "monitoring", "gke-connect", "gke-gmp-system",
                     "gke-managed-cim", "gke-managed-filestorecsi", "gke-managed-metrics-server", "gke-managed-system", "gke-system",
                     "gke-managed-volumepopulator", "gatekeeper-system")
PYTHON, SERVICE = "*/python3*", "*kube/service.py*"


def workloads(world):
    """A pod for each condition, and one that none names."""
    world.cluster.namespace("selected")
    replica_set, template = hashed("sel-deployment")

    def owned(kind, name, **labels):
        return [world.cluster.owner(kind, name, "shop", labels=labels)]

    return {
        "k8s_namespace": world.running("s1", namespace="selected"),
        "k8s_pod_name": world.running("sel-pod-abc"),
        "k8s_deployment_name": world.running("s3", owners=owned("ReplicaSet", replica_set, **template), labels=template),
        "k8s_replicaset_name": world.running("s4", owners=owned("ReplicaSet", "sel-replicas")),
        "k8s_statefulset_name": world.running("s5", owners=owned("StatefulSet", "sel-stateful")),
        "k8s_daemonset_name": world.running("s6", owners=owned("DaemonSet", "sel-daemon")),
        "k8s_job_name": world.running("s7", owners=owned("Job", "sel-job")),
        "k8s_cronjob_name": world.running("s8", owners=owned("Job", "sel-cron-29384710")),
        "k8s_owner_name": world.running("s9", owners=owned("StatefulSet", "owner-by-any-kind")),
        "k8s_container_name": world.running("s10", containers=("sel-container",)),
        "container_name": world.running("s11", containers=("other-container",)),
        "k8s_pod_labels": world.running("s12", labels={"tier": "backend", "track": "stable"}),
        "k8s_pod_annotations": world.running("s13", annotations={"example.com/trace": "yes, please"}),
        "none": world.running("s14", labels={"tier": "backend", "track": "canary"})}


CONDITIONS = {
    "k8s_namespace": "sel*", "k8s_pod_name": "sel-pod-?bc", "k8s_deployment_name": "sel-deploy*", "k8s_replicaset_name": "sel-repl*",
    "k8s_statefulset_name": "sel-st*", "k8s_daemonset_name": "{sel-daemon,x}", "k8s_job_name": "sel-job", "k8s_cronjob_name": "sel-cron",
    "k8s_owner_name": "owner-*", "k8s_container_name": "sel-cont*", "container_name": "other-cont*",
    "k8s_pod_labels": {"tier": "back*", "track": "stable"}, "k8s_pod_annotations": {"example.com/trace": "yes*"}}


def spans_of(world, pods, expected, limit=5):
    """{word: service.name} of those that are traced. Which those are is known a moment after the start: one request each, until all
    that are `expected` have a span, and then another one each."""
    def one_each():
        paths = {word: world.path(word) for word in pods}
        for word, path in paths.items():
            pods[word].only.ask(path)
        wait_for(lambda: all(world.collector.server_span(paths[word]) for word in expected), 1)
        spans = {word: world.collector.server_span(path) for word, path in paths.items()}
        return {word: span["resource"]["service.name"] for word, span in spans.items() if span}

    found, deadline = one_each(), time.monotonic() + limit
    while not set(expected) <= set(found) and time.monotonic() < deadline:
        found |= one_each()
    return found | one_each()


def traced_or_not(got, expected, words):
    return [f"{word} is {'' if word in got else 'not '}traced" for word in words if (word in got) != (word in expected)]


@case
def selected_by_each_condition(world, say):
    """One entry for each, with a name that says which one held; and one with several conditions, which all have to."""
    pods = workloads(world) | {"both": world.running("and-both", labels={"a": "1"}), "one": world.running("and-one", labels={"a": "2"}),
                               "another": world.running("not-this", labels={"a": "1"})}
    entries = [{condition: value, "name": f"by-{condition}"} for condition, value in CONDITIONS.items()]
    both = {"k8s_pod_name": "and-*", "k8s_pod_labels": {"a": "1"}, "exe_path": PYTHON, "open_ports": "1-65535", "name": "by-both"}
    world.spanwire(instrument=[*entries, both])
    expected = {word: f"by-{word}" for word in [*CONDITIONS, "both"]}
    got = spans_of(world, pods, expected)
    return [f"{word}: {got.get(word, 'not traced')}, not {expected.get(word, 'not traced')}" for word in pods if got.get(word) != expected.get(word)]


@case
def excluded_by_each_condition(world, say):
    """Another default of what is excluded takes the place of the system's namespaces."""
    for name in ("kube-system", "monitoring"):
        world.cluster.namespace(name)
    pods = workloads(world) | {name: world.running("system", namespace=name) for name in ("kube-system", "monitoring")}
    world.spanwire(instrument=[{"k8s_namespace": "*"}], settings={
        "discovery.exclude_instrument": json.dumps([{condition: value} for condition, value in CONDITIONS.items()]),
        "discovery.default_exclude_instrument": json.dumps([{"k8s_namespace": "monitoring"}])})
    expected = ("none", "kube-system")
    return traced_or_not(spans_of(world, pods, expected), expected, pods)


@case
def containers_only(world, say):
    """A service of the host is left alone, one in a pod that nobody knows yet is not."""
    pod, daemon = world.running("contained"), world.container("system.slice/rig-host.service")
    hidden = world.container("system.slice/docker-" + "ab" * 32 + ".scope")
    world.spanwire(instrument=[{"exe_path": PYTHON, "cmd_args": SERVICE, "containers_only": True}])
    paths = {word: world.path(word) for word in ("pod", "daemon", "container")}
    for container, path in zip((pod.only, daemon, hidden), paths.values()):
        container.ask(path)
    wait_for(lambda: all(world.collector.server_span(paths[word]) for word in ("pod", "container")), 4)
    got = {word for word, path in paths.items() if world.collector.server_span(path)}
    return traced_or_not(got, ("pod", "container"), paths)


@case
def system_namespaces_are_excluded(world, say):
    """By default, where an entry takes all namespaces."""
    for name in SYSTEM_NAMESPACES:
        world.cluster.namespace(name)
    pods = {name: world.running("system", namespace=name) for name in SYSTEM_NAMESPACES} | {"shop": world.running("system")}
    world.spanwire(instrument=[{"k8s_namespace": "*"}])
    return traced_or_not(spans_of(world, pods, ["shop"]), ["shop"], pods)
