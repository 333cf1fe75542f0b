"""What the spans of a container say of its pod, and what its service is called."""
import datetime
import json
import socket
import time

from cluster import POD_TEMPLATE_HASH
from rig import NODE, case, differences, wait_for


def standard(world):
    """Traces whatever is in containers."""
    return world.shared("standard", environment={"OTEL_EBPF_KUBE_CLUSTER_NAME": "rig-cluster"}, instrument=[
        {"k8s_pod_name": "entry*", "name": "by-entry", "namespace": "space-by-entry"}, {"exe_path": "*/python3*", "containers_only": True}])


def ports(*pods):
    return ["--port", ",".join(str(container.port) for pod in pods for container in pod.containers.values())]


def hashed(name):
    """Name and labels of a deployment's replica set."""
    return f"{name}-{POD_TEMPLATE_HASH}", {"pod-template-hash": POD_TEMPLATE_HASH}


def seconds(text):
    return datetime.datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()


@case
def attributes_of_a_pod(world, say):
    name, labels = hashed("checkout")
    owner = world.cluster.owner("ReplicaSet", name, "shop", labels=labels)
    pod = world.running(f"{name}-x2k4p", owners=[owner], labels=labels)
    standard(world)
    found = world.known(pod.only)
    full = f"{name}-x2k4p"
    problems = differences(found, {
        "k8s.namespace.name": "shop", "k8s.pod.name": full, "k8s.pod.uid": pod.uid, "k8s.container.name": "app", "k8s.node.name": NODE,
        "k8s.cluster.name": "rig-cluster", "k8s.owner.name": "checkout", "k8s.kind": "Deployment", "k8s.deployment.name": "checkout",
        "k8s.replicaset.name": name, "k8s.statefulset.name": None, "k8s.daemonset.name": None, "k8s.job.name": None, "k8s.cronjob.name": None,
        "container.id": pod.ids["app"], "service.name": "checkout", "service.namespace": "shop", "service.instance.id": f"shop.{full}.app",
        "service.version": None, "host.name": socket.gethostname()})
    started = pod.pod["status"]["startTime"]
    try:
        same = seconds(found.get("k8s.pod.start_time")) == seconds(started)
    except ValueError:
        same = False
    return problems + ([] if same else [f"k8s.pod.start_time is {found.get('k8s.pod.start_time')!r}, not {started!r}"])


@case
def owners(world, say):
    """Of each kind; only the owner that controls the pod counts."""
    replica_set, template = hashed("by-deployment")
    minute = str(int(time.time()) // 60)
    other = world.cluster.owner("StatefulSet", "not-in-control", "shop", controller=False)
    table = {
        "deployment": ("ReplicaSet", replica_set, template, {"k8s.deployment.name": "by-deployment", "k8s.replicaset.name": replica_set},
                       "by-deployment"),
        "replicaset": ("ReplicaSet", "by-hand", {}, {"k8s.deployment.name": None, "k8s.replicaset.name": "by-hand"}, "by-hand"),
        "statefulset": ("StatefulSet", "by-set", {}, {"k8s.statefulset.name": "by-set"}, "by-set"),
        "daemonset": ("DaemonSet", "by-daemon", {}, {"k8s.daemonset.name": "by-daemon"}, "by-daemon"),
        "cronjob": ("Job", f"nightly-{minute}", {}, {"k8s.cronjob.name": "nightly", "k8s.job.name": f"nightly-{minute}"}, "nightly"),
        "job": ("Job", "migrate", {}, {"k8s.job.name": "migrate", "k8s.cronjob.name": None}, "migrate"),
        "none": (None, None, {}, {"k8s.deployment.name": None, "k8s.replicaset.name": None, "k8s.job.name": None}, "owned-none")}
    pods = {}
    for word, (kind, name, labels, _, _) in table.items():
        references = [other, world.cluster.owner(kind, name, "shop", labels=labels)] if kind else [other]
        pods[word] = world.running(f"owned-{word}", owners=references, labels=labels)
    standard(world)
    problems = []
    for word, pod in pods.items():
        *_, attributes, service = table[word]
        found = world.known(pod.only)
        if word != "statefulset":
            attributes = {"k8s.statefulset.name": None, **attributes}
        problems += [f"{word}: {one}" for one in differences(found, {**attributes, "service.name": service})]
        kind = {"deployment": "Deployment", "cronjob": "CronJob"}.get(word, table[word][0])
        if kind:
            problems += [f"{word}: {one}" for one in differences(found, {"k8s.kind": kind, "k8s.owner.name": service})]
    return problems


ANNOTATION = "resource.opentelemetry.io/"
INSTANCE, NAME, PART, VERSION = (f"app.kubernetes.io/{word}" for word in ("instance", "name", "part-of", "version"))


@case
def order_of_service_names(world, say):
    """Each step of the order against the one below it."""
    replica_set, template = hashed("named-by-owner")
    owner = world.cluster.owner("ReplicaSet", replica_set, "shop", labels=template)
    labels = {**template, INSTANCE: "by-instance", NAME: "by-name", PART: "by-part", VERSION: "by-version-label"}
    annotations = {ANNOTATION + "service.name": "by-annotation", ANNOTATION + "service.namespace": "space-by-annotation",
                   ANNOTATION + "service.version": "by-version-annotation", ANNOTATION + "service.instance.id": "instance-by-annotation"}
    process = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=by-attributes,service.namespace=space-by-process,service.instance.id=by-process"}
    table = {
        "variable": (dict(labels=labels, annotations=annotations, environment={**process, "OTEL_SERVICE_NAME": "by-variable"}),
                     ("by-variable", "space-by-process", "by-version-annotation", "by-process")),
        "process": (dict(labels=labels, annotations=annotations, environment=process),
                    ("by-attributes", "space-by-process", "by-version-annotation", "by-process")),
        "annotation": (dict(labels=labels, annotations=annotations), ("by-annotation", "space-by-annotation", "by-version-annotation", ...)),
        "instance": (dict(labels=labels), ("by-instance", "by-part", "by-version-label", "shop.order-instance.app")),
        "name": (dict(labels={key: value for key, value in labels.items() if key != INSTANCE}), ("by-name", "by-part", "by-version-label", ...)),
        "owner": (dict(labels=template), ("named-by-owner", "shop", None, "shop.order-owner.app")),
        "pod": (dict(owners=()), ("order-pod", "shop", None, "shop.order-pod.app"))}
    pods = {word: world.running(f"order-{word}", **{"owners": [owner], **settings}) for word, (settings, _) in table.items()}
    standard(world)
    problems = []
    for word, pod in pods.items():
        expected = zip(("service.name", "service.namespace", "service.version", "service.instance.id"), table[word][1])
        problems += [f"{word}: {one}" for one in differences(world.known(pod.only), {key: value for key, value in expected if value is not ...})]
    return problems


@case
def names_of_an_entry(world, say):
    """They win over what the pod says, and not over the process."""
    annotations = {ANNOTATION + "service.name": "by-annotation", ANNOTATION + "service.namespace": "space-by-annotation"}
    pod = world.running("entry", annotations=annotations)
    own = world.running("entry-own", annotations=annotations, environment={"OTEL_SERVICE_NAME": "own"})
    standard(world)
    return (differences(world.known(pod.only), {"service.name": "by-entry", "service.namespace": "space-by-entry", "k8s.pod.name": "entry"}) +
            differences(world.known(own.only), {"service.name": "own", "service.namespace": "space-by-entry"}))


@case
def annotations_are_attributes(world, say):
    annotations = {ANNOTATION + "team": "checkout ünïcode", ANNOTATION + "deployment.environment.name": "staging",
                   ANNOTATION + "empty": "", "other.example/team": "no", "team2": "no"}
    pod = world.running("annotated", annotations=annotations)
    standard(world)
    found = world.known(pod.only)
    return (differences(found, {"team": "checkout ünïcode", "deployment.environment.name": "staging", "team2": None, "k8s.pod.name": "annotated"}) +
            [f"{key} is an attribute" for key in found if "other.example" in key or ANNOTATION in key])


@case
def containers_of_one_pod(world, say):
    """Each has its own name and instance; a sidecar is an init container that goes on."""
    pod = world.running("several", containers=("app", "proxy"), init=("sidecar",))
    standard(world)
    problems = []
    for name, container in pod.containers.items():
        problems += differences(world.known(container), {
            "k8s.container.name": name, "container.id": pod.ids[name], "service.instance.id": f"shop.several.{name}", "service.name": "several"})
    return problems


@case
def two_processes_of_a_container(world, say):
    """One that was there before, and one that `kubectl exec` starts."""
    pod = world.running("exec")
    standard(world)
    second = world.container(pod.only.group)
    wait_for(lambda: world.arrival(second)[0], 3)
    return [problem for container in (pod.only, second) for problem in differences(
        world.known(container), {"k8s.pod.name": "exec", "k8s.container.name": "app", "service.instance.id": "shop.exec.app"})]


CHOSEN = {"service.name": ["example.com/none", "example.com/app"], "service.namespace": ["example.com/space"],
          "service.version": ["example.com/tag"], "team.name": ["example.com/team"]}


def by_labels(world):
    """Traces services in containers and outside of them."""
    return world.shared("labels", instrument=[{"cmd_args": "*kube/service.py*"}],
                        settings={"attributes.kubernetes.resource_labels": json.dumps(CHOSEN)})


@case
def process_outside_of_containers(world, say):
    """A daemon of the node: it has the names that it has without a cluster."""
    by_labels(world)
    daemon = world.container("system.slice/rig-daemon.service")
    found, late = world.arrival(daemon)
    wrong = [key for key in found or {} if key.startswith(("k8s.pod", "k8s.container", "k8s.namespace", "container."))]
    say(f"its span after {late:.1f} s")
    return ([f"it has {key}" for key in wrong] if found else ["no span came"]) + ([] if late < 1.9 else [f"its span waited {late:.1f} s"])


@case
def labels_by_configuration(world, say):
    labels = {INSTANCE: "by-instance", "example.com/app": "by-own-label", "example.com/space": "own-space", "example.com/tag": "v7",
              "example.com/team": "t1"}
    pod = world.running("configured", labels=labels)
    by_labels(world)
    return differences(world.known(pod.only), {
        "service.name": "by-own-label", "service.namespace": "own-space", "service.version": "v7", "team.name": "t1"})
