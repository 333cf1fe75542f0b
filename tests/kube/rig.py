"""What the cases stand on: the cluster of this run, pods that run, spanwire as its DaemonSet runs it, and the spans a collector got."""
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cluster import ApiError, Cluster, account_directory  # noqa: E402
from control_plane import ControlPlane, ends_with_us  # noqa: E402
from kubelet import Container, Groups, identity, systemd_driver  # noqa: E402
from lib.tracer import ROOT, Tracer, free_port  # noqa: E402

NODE, OTHER_NODES = "rig-node", [f"other-node-{number}" for number in range(50)]
OWN = "system:serviceaccount:spanwire:spanwire"
RULES = [{"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}]
WARNING = re.compile(r"WARN.*(kube|api server)", re.IGNORECASE)
ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"  # /var/run is a link to /run
# The collector's time to get a span, beyond what spanwire may wait: a batch, and a machine with other things to do.
SLACK = 2.0


CASES = {}


def case(function):
    """A test: it is given the world and a way to say a figure, and returns its problems."""
    CASES[function.__name__] = function
    return function


class Skip(Exception):
    pass


def wait_for(condition, limit, pause=0.02):
    """What `condition` returns as soon as that is something, or its last answer."""
    deadline = time.monotonic() + limit
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(pause)
    return found


class Collector:
    """The receiver of the end-to-end tests."""

    def __init__(self, directory):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        python = Path(os.environ.get("SPANWIRE_VENV") or cache / "spanwire/venv", "bin/python")
        if not python.exists():
            raise FileNotFoundError(f"no {python}: tests/setup test")
        self.port, self.out = free_port(), Path(directory, "otlp")
        self.out.touch()
        with open(Path(directory, "otlp.log"), "wb") as log:
            self.process = subprocess.Popen([python, ROOT / "tests/e2e/receivers/otlp_receiver.py", str(free_port()), str(self.port), self.out],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=ends_with_us)
        if not wait_for(self.listens, 20, 0.1):
            raise RuntimeError("the OTLP receiver does not start")
        self.read, self.rest = [], ""
        self.file = open(self.out)

    def listens(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True

    def spans(self):
        *lines, self.rest = (self.rest + self.file.read()).split("\n")
        for line in lines:
            span = json.loads(line)
            span["attributes"] = {key: value for key, (_, value) in span["attributes"].items()}
            span["resource"] = {key: value for key, (_, value) in span["resource"].items()}
            self.read.append(span)
        return self.read

    def server_span(self, path):
        return next((span for span in self.spans() if span["kind"] == 2 and span["attributes"].get("url.path") == path), None)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.file.close()


class Wire:
    """Between spanwire and the API server, byte by byte; what goes over it can be cut."""

    def __init__(self, port):
        self.to, self.ends, self.listener = port, [], socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near = self.listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self.to))
                self.ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    @staticmethod
    def carry(one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def cut(self):
        """As a load balancer does that thinks a connection idle; how many there were."""
        ends, self.ends = self.ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        return len(ends) // 2

    def close(self):
        self.listener.close()
        self.cut()


class World:
    """All of a run that cases share."""

    def __init__(self):
        self.stack = contextlib.ExitStack()
        self.directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="spanwire-kube-run-")))
        self.groups = Groups()
        self.left = []
        self.stack.callback(lambda: self.left.extend(self.groups.close()))
        begun = time.monotonic()
        self.plane = ControlPlane()
        self.stack.callback(self.plane.close)
        self.started_in = time.monotonic() - begun
        self.cluster = Cluster(self.plane)
        self.collector = Collector(self.directory)
        self.stack.callback(self.collector.close)
        self.cluster.node(NODE)
        self.account = self.cluster.account("spanwire", "spanwire", RULES)
        for name in ("shop", "other"):
            self.cluster.namespace(name)
        self.own_pod = self.cluster.pod("spanwire", "spanwire-x7k2p", NODE, containers=("spanwire",), host_network=True)
        own = identity()
        self.cluster.running(self.own_pod, {"spanwire": own}, address="10.0.0.9")
        self.own_group = self.groups.make(systemd_driver(self.own_pod["metadata"]["uid"], own))
        self.number = 0
        self.logs, self.long, self.usual, self.took = [], {}, None, None
        self.cases, self.long_stack = contextlib.ExitStack(), contextlib.ExitStack()

    def path(self, word="r"):
        """A request path that no other case uses."""
        self.number += 1
        return f"/{word}/{self.number}"

    # ---- pods

    def container(self, group, version=2, **settings):
        made = Container(self.groups.make(group, version), **settings)
        self.cases.callback(made.end)
        return made

    def pod(self, name, namespace="shop", node=NODE, **settings):
        """A pod without containers that run, gone after the case."""
        pod = self.cluster.pod(namespace, name, node, **settings)
        self.cases.callback(lambda: self.gone(pod))
        return pod

    def gone(self, pod):
        with contextlib.suppress(ApiError, OSError):
            self.cluster.delete(pod)

    def running(self, name, driver=systemd_driver, containers=("app",), runtime="containerd", environment=None, group=None, version=2, **settings):
        """A pod with a process for each container, as the kubelet brings it up; its containers are in `.containers`."""
        pod = self.pod(name, containers=containers, **settings)
        return Running(self, pod, driver, [*settings.get("init", ()), *containers], runtime, environment, group, version)

    # ---- spanwire

    def in_cluster(self, directory, host_name=None):
        """Runs what follows as a container of our own pod: its cgroup, its mounts, the files of its service account."""
        rename = "hostname \"$1\";" if host_name else ""
        return ["sh", "-ec", 'echo 0 >"$0/cgroup.procs"; exec "$@"', str(self.own_group),
                "unshare", "-m", "-C", *(["-u"] if host_name else []),
                "sh", "-ec", f'mount -t tmpfs none /run; mkdir -p {ACCOUNT}; mount --bind "$0" {ACCOUNT}; {rename} shift; exec "$@"',
                str(directory), host_name or "-"]

    def files(self, token=None, namespace="spanwire"):
        """The service account's files of a pod."""
        at = Path(self.cases.enter_context(tempfile.TemporaryDirectory(prefix="spanwire-account-")), "account")
        return account_directory(at, self.plane, token or self.cluster.token_of("spanwire", "spanwire"), namespace)

    def spanwire(self, *arguments, instrument=None, files=None, host="127.0.0.1", port=None, node=NODE, host_name=None, settings=None,
                 environment=None, outside=False, before=()):
        """`outside`: with nothing that says it is in a cluster."""
        settings = dict(settings or {})
        if instrument is not None:
            settings["discovery.instrument"] = json.dumps(instrument)
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.collector.port}", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        prefix = list(before)
        if not outside:
            variables |= {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port or self.plane.port)}
            prefix += self.in_cluster(files or self.files(), host_name)
        if node:
            variables["SPANWIRE_NODE_NAME"] = node
        begun, started = Tracer.__new__(Tracer), time.monotonic()
        # Ahead of its start, which can be interrupted.
        self.cases.callback(lambda: self.logs.append(end(begun)))
        begun.__init__(*arguments, settings=settings, environment={**variables, **(environment or {})}, prefix=prefix)
        self.took = time.monotonic() - started
        return begun

    def arrival(self, container, limit=2 + SLACK, path=None):
        """A request, its resource at the collector, and how long that took."""
        path = path or self.path()
        container.ask(path)
        begun = time.monotonic()
        span = wait_for(lambda: self.collector.server_span(path), limit)
        return (span["resource"] if span else None), time.monotonic() - begun

    def resource(self, container, limit=2 + SLACK):
        found = self.arrival(container, limit)[0]
        if found is None:
            raise LookupError("no span came")
        return found

    def known(self, container, limit=4):
        """The resource of a process, once it has the container's name: a kubelet tells of that after the start."""
        found = {}
        deadline = time.monotonic() + limit
        while "k8s.container.name" not in found and time.monotonic() < deadline:
            found = self.resource(container)
        return found

    def silent(self, containers, pause=1.0):
        """Those of {name: container} that have a span of a request made now; none should."""
        paths = {}
        for name, container in containers.items():
            paths[self.path("silent")] = name
            container.ask(list(paths)[-1])
        time.sleep(pause)
        return [name for path, name in paths.items() if self.collector.server_span(path)]

    def until_known(self, container, pod, limit):
        """Seconds until a request's span names the pod, or None. The uid alone would be no news: it is in the cgroup's path."""
        wanted = {"k8s.pod.name": pod["metadata"]["name"], "k8s.pod.uid": pod["metadata"]["uid"]}
        begun = time.monotonic()
        while time.monotonic() < begun + limit:
            found = self.arrival(container)[0]
            if found and not differences(found, wanted):
                return time.monotonic() - begun
            time.sleep(0.1)
        return None

    @contextlib.contextmanager
    def case(self):
        """What a case opens is closed with it; a server that it stopped runs again."""
        self.logs = []
        try:
            yield
        finally:
            self.cases.close()
            self.logs += [begun.log.read_text() for begun in self.long.values()]
            self.plane.revive()

    def shared(self, key, **settings):
        """A spanwire that several cases use one after the other, as loading its programs takes longer than most of them. One at a time:
        of two, each would have a span of every request."""
        if key not in self.long:
            self.end_shared()
            before, self.cases = self.cases, self.long_stack
            try:
                self.long[key] = self.spanwire(**settings)
            finally:
                self.cases = before
        return self.long[key]

    def end_shared(self):
        self.long_stack.close()
        self.long.clear()

    @contextlib.contextmanager
    def alone(self):
        """A part of a case, with a spanwire of its own."""
        outer, self.cases = self.cases, contextlib.ExitStack()
        try:
            yield
        finally:
            self.cases.close()
            self.cases = outer

    def asked(self, since=0):
        return self.plane.requests(OWN, since)

    def close(self):
        self.cases.close()
        self.end_shared()
        self.stack.close()


class Running:
    def __init__(self, world, pod, driver, names, runtime, environment, group, version):
        self.world, self.pod, self.uid = world, pod, pod["metadata"]["uid"]
        self.ids = {name: identity() for name in names}
        self.containers = {name: world.container(group(self.uid, one) if group else driver(self.uid, one), version, environment=environment)
                           for name, one in self.ids.items()}
        self.pod = world.cluster.running(pod, self.ids, runtime=runtime)

    @property
    def only(self):
        return next(iter(self.containers.values()))


def end(begun):
    """Its log."""
    if not hasattr(begun, "process"):
        return ""
    if begun.process.poll() is None:
        begun.process.terminate()
        try:
            begun.process.wait(15)
        except subprocess.TimeoutExpired:
            begun.kill()
    log = begun.log.read_text()
    shutil.rmtree(begun.directory, ignore_errors=True)
    return log


def warnings(begun):
    return [line for line in begun.log.read_text().splitlines() if WARNING.search(line)]


def differences(found, expected):
    """`expected`: {key: value}, a value of None means that the key is not there."""
    return [f"{key} is {found.get(key)!r}, not {value!r}" for key, value in expected.items() if found.get(key) != value]
