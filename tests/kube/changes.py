"""Pods that come, change and go while spanwire runs."""
import time

from kubelet import identity, systemd_driver
from names import ANNOTATION, INSTANCE, standard
from rig import SLACK, case, differences, wait_for


def started_early(world, name, **settings):
    """A process whose pod the API server does not know yet; `uid` is learnt when it is made, so the container's id leads to it."""
    one = identity()
    container = world.container(f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{'0' * 32}.slice/cri-containerd-{one}.scope")

    def known():
        pod = world.pod(name, **settings)
        return world.cluster.running(pod, {"app": one})

    return container, known


@case
def process_before_its_pod_is_known(world, say):
    """Its first span waits for the pod, which is known half a second later."""
    standard(world)
    container, known = started_early(world, "late")
    path = world.path("late")
    container.ask(path)
    time.sleep(0.5)
    too_early = world.collector.server_span(path)
    pod = known()
    span = wait_for(lambda: world.collector.server_span(path), 2 + SLACK)
    if not span:
        return ["no span came"]
    return (["its span did not wait"] if too_early else []) + differences(span["resource"], {
        "k8s.pod.name": "late", "k8s.pod.uid": pod["metadata"]["uid"], "k8s.container.name": "app", "service.name": "late"})


@case
def pod_that_stays_unknown(world, say):
    """The span goes after two seconds, without the pod."""
    standard(world)
    container, _ = started_early(world, "never")
    found, late = world.arrival(container, 5)
    say(f"after {late:.1f} s")
    return (differences(found, {"k8s.pod.name": None}) + ([] if late < 2 + SLACK else [f"after {late:.1f} s"])) if found else ["no span came"]


@case
def resource_is_completed_later(world, say):
    """Known long after the first span went without."""
    standard(world)
    container, known = started_early(world, "completed")
    first, _ = world.arrival(container, 5)
    pod = known()
    took = world.until_known(container, pod, 5)
    return ([] if first else ["no first span came"]) + ([] if took is not None else ["its pod stays unknown"])


@case
def pods_that_start_later(world, say):
    """The common case: the pod is bound, then its container starts, then the kubelet says so."""
    standard(world)
    problems = []
    for number in range(5):
        pod = world.running(f"new-{number}")
        took = world.until_known(pod.only, pod.pod, 3)
        found = world.known(pod.only)
        problems += [f"{number}: not traced"] if took is None else differences(found, {"k8s.container.name": "app", "k8s.pod.name": f"new-{number}"})
    return problems


@case
def container_named_later(world, say):
    """Known by the uid in its cgroup; which container of the two it is, the kubelet's status says."""
    pod = world.pod("status-late", containers=("app", "proxy"))
    one = identity()
    container = world.container(systemd_driver(pod["metadata"]["uid"], one))
    standard(world)
    before = world.resource(container)
    world.cluster.running(pod, {"proxy": one})
    named = wait_for(lambda: world.resource(container).get("k8s.container.name"), 3, 0.2)
    after = world.resource(container)
    return (differences(before, {"k8s.pod.name": "status-late", "k8s.container.name": None}) +
            differences({"k8s.container.name": named}, {"k8s.container.name": "proxy"}) +
            differences(after, {"service.instance.id": "shop.status-late.proxy"}))


@case
def container_that_starts_again(world, say):
    """The same pod, another container id."""
    pod = world.running("restarts")
    standard(world)
    first = world.known(pod.only)
    pod.only.end()
    one = identity()
    second = world.container(systemd_driver(pod.uid, one))
    world.cluster.running(pod.pod, {"app": one})
    took = world.until_known(second, pod.pod, 3)
    found = world.known(second) if took is not None else {}
    return (differences(first, {"container.id": pod.ids["app"], "k8s.container.name": "app"}) +
            differences(found, {"container.id": one, "k8s.container.name": "app", "k8s.pod.uid": pod.uid}))


@case
def pod_of_the_same_name(world, say):
    """As stateful sets make them: deleted, and made anew with another uid."""
    standard(world)
    first = world.running("db-0")
    problems = [] if world.until_known(first.only, first.pod, 3) is not None else ["the first is not traced"]
    world.cluster.delete(first.pod, grace=30)
    problems += differences(world.resource(first.only), {"k8s.pod.uid": first.uid})
    first.only.end()
    world.cluster.delete(first.pod)
    second = world.running("db-0")
    return problems + ([] if world.until_known(second.only, second.pod, 3) is not None else ["the second is not known by its own uid"])


@case
def labels_and_annotations_that_change(world, say):
    pod = world.running("changes", labels={INSTANCE: "before"})
    standard(world)
    first = world.known(pod.only).get("service.name")
    world.cluster.change(pod.pod, labels={INSTANCE: "after"}, annotations={ANNOTATION + "team": "new"})
    wait_for(lambda: world.resource(pod.only).get("service.name") == "after", 3, 0.2)
    return ([] if first == "before" else [f"service.name is {first} at first"]) + differences(
        world.resource(pod.only), {"service.name": "after", "team": "new"})


@case
def reload_keeps_pods(world, say):
    """SIGHUP reads the selection anew; what is known of pods stays."""
    pod = world.running("reloaded")
    tracer = standard(world)
    before = world.known(pod.only)
    tracer.reload()
    time.sleep(0.5)
    after = world.resource(pod.only)
    return [f"{when}: {one}" for when, found in (("before", before), ("after", after)) for one in differences(found, {"k8s.pod.name": "reloaded"})]


def selective(world):
    return world.shared("selective", instrument=[{"k8s_namespace": "shop", "k8s_pod_name": "sel-late-*"}, {"k8s_pod_labels": {"trace": "yes"}}])


@case
def selected_once_its_pod_is_known(world, say):
    selective(world)
    container, known = started_early(world, "sel-late-1")
    problems = [f"{name} is traced" for name in world.silent({"a process of no known pod": container})]
    took = world.until_known(container, known(), 5)
    return problems + ([] if took is not None else ["not traced with its pod"])


@case
def selected_by_a_label_that_comes(world, say):
    pod = world.running("to-be-labelled")
    selective(world)
    problems = [f"{name} is traced" for name in world.silent({"the pod without the label": pod.only})]
    world.cluster.change(pod.pod, labels={"trace": "yes"})
    return problems + ([] if world.until_known(pod.only, pod.pod, 5) is not None else ["not traced with the label"])
