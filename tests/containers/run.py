#!/usr/bin/env python3
"""Containers of real runtimes are named: id, name, image and runtime, from the cgroup and the runtime's state on disk.

    tests/containers/run.py [--binary PATH] [--show] [RUNTIME]...

Each runtime runs two web servers on the host's network, of an image that is one static program; a third is in no container. With
--show, no spanwire: what the cgroups are called. Runtimes that need systemd get one, booted in a
container of this machine's own files that writes to memory. Needs root, and what `tests/setup containers` installs.
"""
import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.collector import collector  # noqa: E402
from lib.tracer import BINARY, Tracer, free_port, need_root  # noqa: E402

IMAGE, TAG = "localhost/spanwire-rig/tiny", "1.2"
# What may not be raised without CAP_SYS_RESOURCE, and a limit that needs a controller.
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--pids-limit", "0"]
RUNTIMES, TESTS = {}, []
whole, machine = contextlib.ExitStack(), None


class Skip(Exception):
    pass


def runtime(function):
    RUNTIMES[function.__name__.replace("_", "-")] = function
    return function


def test(function):
    TESTS.append(function)
    return function


def needed(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not there")


def run(*command, **options):
    done = subprocess.run(command, **{"input": "", "capture_output": True, "text": True, "timeout": 120, **options})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout.strip()


def until(what, seconds, text):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            raise RuntimeError(text)
        time.sleep(0.05)
    return found


def ended(process):
    process.kill()
    process.wait()


def daemon(stack, log, *command, **options):
    """Runs until `stack` is closed, and is asked to end first."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=open(log, "wb"), stderr=subprocess.STDOUT, **options)

    def end():
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            ended(process)

    stack.callback(end)
    return process


# ---- the image, and servers of it


def image(directory):
    """A root directory of one program, and a tar of it."""
    busybox = shutil.which("busybox")
    if not busybox or "interpreter" in run("file", "--brief", busybox):
        raise Skip("a static busybox is not there")
    root = Path(directory, "root")
    for name in ("bin", "www", "tmp", "etc", "proc", "sys", "dev", "run", "usr"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    (root / "www/index.html").write_text("ok\n")
    (root / "etc/os-release").write_text("ID=tiny\n")
    layer, config, archive = (f"{directory}/{name}" for name in ("root.tar", "config.json", "image.tar"))
    run("tar", "-C", str(root), "-cf", layer, ".")
    digest = hashlib.sha256(Path(layer).read_bytes()).hexdigest()
    kind = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    command = {"Cmd": ["/bin/busybox", "sleep", "1000000"]}  # of the pods
    Path(config).write_text(json.dumps({"architecture": kind, "os": "linux", "config": command, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}))
    Path(directory, "manifest.json").write_text(json.dumps([{"Config": "config.json", "RepoTags": [f"{IMAGE}:{TAG}"], "Layers": ["root.tar"]}]))
    run("tar", "-C", directory, "-cf", archive, "manifest.json", "config.json", "root.tar")


def httpd(port, root=""):
    return [f"{root}/bin/busybox", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", f"{root}/www"]


def ask(port, path="/index.html"):
    with socket.create_connection(("127.0.0.1", port), 5) as end:
        end.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while more := end.recv(4096):
            answer += more
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"port {port} answers {answer[:60]}")


def answers(port):
    with contextlib.suppress(OSError):
        ask(port)
        return True


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True


def listener(port):
    """The process that listens there: of the servers it is the one with that argument."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            if words[1:2] == [b"httpd"] and f"127.0.0.1:{port}".encode() in words:
                return int(entry.parent.name)


# ---- places to run in


class Place:
    """Where commands run: `prefix` leads there, `directory` is this rig's as seen there."""

    def __init__(self, directory, prefix=()):
        self.directory, self.prefix = directory, list(prefix)

    def run(self, *command, **options):
        return run(*self.prefix, *command, **options)


BOOT = """
for group in {groups}; do mkdir $group; echo $$ >$group/cgroup.procs; done
mount -t tmpfs none {directory}/machine
mkdir {directory}/machine/upper {directory}/machine/work {directory}/machine/root
mount -t overlay none -o lowerdir=/,upperdir={directory}/machine/upper,workdir={directory}/machine/work {directory}/machine/root
rm -f {directory}/machine/root/etc/systemd/system/*.wants/*
exec systemd-nspawn -q --register=no --keep-unit --capability=all --system-call-filter='bpf perf_event_open add_key keyctl' \\
    -D {directory}/machine/root -M spanwire-rig --bind={directory}:/rig --tmpfs=/var/lib/containers --tmpfs=/var/lib/docker \\
    --boot -- --unit=basic.target
"""


def hierarchies():
    """Where those are mounted that systemd uses: v2, and on hybrid hosts its own of v1."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, (kind, _, options) = line.split()[4], line.split(" - ")[1].split(" ")
        if line.split()[3] == "/" and (kind == "cgroup2" or "name=systemd" in options):
            yield place


def removed(group):
    for path, _, _ in os.walk(group, topdown=False):
        for _ in range(50):
            with contextlib.suppress(OSError):  # the last process is still on its way out
                os.rmdir(path)
                break
            time.sleep(0.02)


def with_systemd(host):
    """A machine with systemd, booted at the first need; its pure cgroup v2 is a part of this one's."""
    global machine
    if machine:
        return machine
    needed("systemd-nspawn", "machinectl", "nsenter", "dbus-daemon")
    if not os.path.exists("/lib/systemd/systemd"):
        raise Skip("systemd is not there")
    Path(host.directory, "machine").mkdir(exist_ok=True)
    log = f"{host.directory}/boot.log"
    groups = [f"{place}/spanwire-rig-{os.getpid()}" for place in hierarchies()]
    for group in groups:
        whole.callback(removed, group)
    script = BOOT.format(directory=host.directory, groups=" ".join(groups))
    process = subprocess.Popen(["unshare", "--mount", "sh", "-ec", script], stdin=subprocess.DEVNULL, stdout=open(log, "wb"),
                               stderr=subprocess.STDOUT, env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"})
    whole.callback(ended, process)

    def child():
        if process.poll() is not None:
            raise Skip(f"systemd does not boot here: {Path(log).read_text()[-200:]}")
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                return int(pid)

    first = until(child, 20, "systemd does not boot")
    whole.callback(os.kill, first, signal.SIGKILL)  # before the process above, which it would outlive
    place = Place("/rig", ["nsenter", f"--target={first}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"])
    ready = [*place.prefix, "systemctl", "is-active", "--quiet", "basic.target", "dbus.socket"]
    until(lambda: subprocess.run(ready, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0, 60, "systemd does not get ready")
    machine = place
    return place


# ---- runtimes: each gives what starts a server, and that what its resource must have


def docker_like(stack, place, client, engine, flags=(), forget=()):
    place.run(*client, "import", f"{place.directory}/root.tar", f"{IMAGE}:{TAG}")
    stack.callback(lambda: place.run(*client, "rmi", f"{IMAGE}:{TAG}"))

    def start(name, port, env):
        labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": f"{name}-of-shop"}
        words = [*(f"--env={key}={value}" for key, value in env.items()), *(f"--label={key}={value}" for key, value in labels.items())]
        stack.callback(lambda: place.run(*client, "rm", "-f", *forget, name))
        identity = place.run(*client, "run", "-d", "--name", name, "--network", "host", *flags, *words, f"{IMAGE}:{TAG}", *httpd(port))
        # Podman keeps labels in a database.
        service = labels["com.docker.compose.service"] if engine == "docker" else name
        return {"service.name": service, "container.id": identity, "container.name": name, "container.image.name": IMAGE, "container.image.tags": [TAG], "container.runtime": engine}

    return start


def podman_in(stack, place):
    needed("podman", "runc", "conmon")
    return docker_like(stack, place, ["podman", "--runtime", "runc"], "podman", LIMITS, ["-t", "0"])


@runtime
def podman(stack, host):
    """With the cgroupfs driver, in the places of the host."""
    return podman_in(stack, host)


@runtime
def podman_systemd(stack, host):
    return podman_in(stack, with_systemd(host))


@runtime
def podman_rootless(stack, host):
    """Of a user, whose session is systemd's too: the storage is in that user's home."""
    needed("newuidmap", "useradd", "setpriv", "loginctl")
    place, user, number = with_systemd(host), "rig", "4242"
    lines = [f"useradd -m -u {number} {user}", f"echo {user}:200000:65536 | tee -a /etc/subuid >>/etc/subgid",
             f"cp {place.directory}/root.tar /home/{user}", f"chown {user}: /home/{user}/root.tar", f"mkdir -p /run/user/{number}",
             f"chown {user}: /run/user/{number}", "systemctl start systemd-logind", f"loginctl enable-linger {user}",
             f"systemctl start user@{number}", f"until [ -e /run/user/{number}/bus ]; do sleep 0.1; done"]
    place.run("sh", "-ec", "\n".join(lines))
    stack.callback(lambda: place.run("systemctl", "stop", f"user@{number}"))
    session = [f"XDG_RUNTIME_DIR=/run/user/{number}", f"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{number}/bus", f"HOME=/home/{user}"]
    there = ["systemd-run", "--user", "--quiet", "--wait", "--pipe", "--property=KillMode=process", "--setenv=STORAGE_DRIVER=vfs"]
    drop = ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups"]
    return podman_in(stack, Place(f"/home/{user}", [*place.prefix, *drop, "env", *session, *there]))


DOCKERD = ["--storage-driver", "vfs", "--iptables=false", "--ip6tables=false", "--bridge=none"]


def docker_at(stack, place, address):
    client = ["docker", "--host", f"unix://{address}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    until(lambda: subprocess.run([*place.prefix, *client, "version"], **quiet).returncode == 0, 60, "dockerd does not get ready")
    return docker_like(stack, place, client, "docker")


@runtime
def docker(stack, host):
    """With the cgroupfs driver, its own data in a mount namespace: the state is where the shim sees it, not where this process does."""
    needed("dockerd", "docker", "containerd", "runc")
    for path in ("/var/lib/docker", "/run/docker"):
        if not os.path.isdir(path):
            os.mkdir(path)
            stack.callback(os.rmdir, path)
    own = "mount -t tmpfs none /var/lib/docker; mount -t tmpfs none /run/docker"
    places = ["--host", f"unix://{host.directory}/docker.sock", "--pidfile", f"{host.directory}/docker.pid", "--exec-opt", "native.cgroupdriver=cgroupfs"]
    daemon(stack, f"{host.directory}/dockerd.log", "unshare", "--mount", "sh", "-ec", f'{own}; exec dockerd "$@"', "sh", *DOCKERD, *places)
    return docker_at(stack, host, f"{host.directory}/docker.sock")


@runtime
def docker_systemd(stack, host):
    needed("dockerd", "docker", "containerd", "runc")
    place = with_systemd(host)
    places = ["--host", "unix:///run/rig-docker.sock", "--exec-opt", "native.cgroupdriver=systemd"]
    place.run("systemd-run", "--quiet", "--unit=rig-docker", "--property=Delegate=yes", "dockerd", *DOCKERD, *places)
    stack.callback(lambda: place.run("systemctl", "stop", "rig-docker"))
    return docker_at(stack, place, "/run/rig-docker.sock")


CONTAINERD = """
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = {systemd}
"""


def containerd_in(stack, host, namespace, guest=None):
    """In the usual places, which are its own in its mount namespace; with the image. (where its clients run, its socket as seen here)"""
    needed("containerd", "ctr", "runc", "nsenter")
    directory = tempfile.mkdtemp(dir=host.directory)
    seen = directory.replace(host.directory, guest.directory) if guest else directory
    Path(directory, "config.toml").write_text(CONTAINERD.format(image=f"{IMAGE}:{TAG}", systemd="true" if guest else "false"))
    options = ["--config", f"{seen}/config.toml", "--address", f"{seen}/sock"]
    if guest:
        place, unit = guest, f"rig-containerd-{namespace}"
        place.run("systemd-run", "--quiet", f"--unit={unit}", "--property=Delegate=yes", "containerd", *options)
        stack.callback(lambda: place.run("systemctl", "stop", unit))
    else:
        for path in ("/var/lib/containerd", "/run/containerd"):
            if not os.path.isdir(path):
                os.mkdir(path)
                stack.callback(os.rmdir, path)
        own = "mount -t tmpfs none /var/lib/containerd; mount -t tmpfs none /run/containerd"
        process = daemon(stack, f"{directory}/log", "unshare", "--mount", "sh", "-ec", f'{own}; exec containerd "$@"', "sh", *options)
        place = Place(host.directory, ["nsenter", f"--target={process.pid}", "--mount", "--"])
    client, quiet = ["ctr", "--address", f"{seen}/sock"], {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    until(lambda: subprocess.run([*place.prefix, *client, "version"], **quiet).returncode == 0, 60, "containerd does not get ready")
    place.run(*client, "--namespace", namespace, "images", "import", "--snapshotter", "native", f"{place.directory}/image.tar")
    return place, f"{directory}/sock"


def pods(stack, address, parent):
    python = Path(os.environ.get("SPANWIRE_VENV", Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "spanwire/venv")), "bin/python")
    if not python.exists():
        raise Skip("the Python services' venv is not there")
    cri = [str(python), str(Path(__file__).with_name("cri.py")), address]

    def start(name, port, env):
        uid = str(uuid.uuid4())
        asked = {"name": name, "namespace": "rig", "pod": f"{name}-0", "uid": uid, "parent": parent(uid),
                 "image": f"{IMAGE}:{TAG}", "command": httpd(port), "env": env}
        sandbox, container = run(*cri, "start", input=json.dumps(asked)).split()
        stack.callback(lambda: run(*cri, "remove", sandbox))
        return {"service.name": asked["pod"], "container.id": container, "container.name": name, "container.image.name": IMAGE, "container.image.tags": [TAG], "container.runtime": "containerd",
                "k8s.pod.name": asked["pod"], "k8s.namespace.name": "rig", "k8s.pod.uid": uid}

    return start


@runtime
def containerd(stack, host):
    """Pods, asked for as by the kubelet."""
    _, address = containerd_in(stack, host, "k8s.io")
    return pods(stack, address, "/kubepods/besteffort/pod{}".format)


@runtime
def containerd_systemd(stack, host):
    place = with_systemd(host)
    if "cpu" not in place.run("cat", "/sys/fs/cgroup/cgroup.controllers").split():
        raise Skip("a pod's shares of the CPU are set, and cgroup v2 has no such controller here: v1 has it")
    _, address = containerd_in(stack, host, "k8s.io", place)
    return pods(stack, address, lambda uid: f"kubepods-besteffort-pod{uid.replace('-', '_')}.slice")


@runtime
def nerdctl(stack, host):
    """Which says nothing of the image to who reads files."""
    needed("nerdctl")
    place, address = containerd_in(stack, host, "default")
    client = ["nerdctl", "--address", address, "--snapshotter", "native", "--data-root", tempfile.mkdtemp(dir=host.directory)]

    def start(name, port, env):
        words = [f"--env={key}={value}" for key, value in env.items()]
        stack.callback(lambda: place.run(*client, "rm", "-f", name))
        identity = place.run(*client, "run", "-d", "--name", name, "--net", "host", "--pull", "never", *words, f"{IMAGE}:{TAG}", *httpd(port))
        return {"service.name": name, "container.id": identity, "container.name": name, "container.runtime": "containerd", "container.image.name": None}

    return start


@runtime
def nspawn(stack, host):
    """As a machine that systemd-machined knows."""
    place = with_systemd(host)

    def start(name, port, env):
        words = [f"--setenv={key}={value}" for key, value in env.items()]
        copied = f"{place.directory}/{name}"
        run("cp", "-a", f"{host.directory}/root", f"{host.directory}/{name}")
        place.run("systemd-run", "--quiet", f"--unit=rig-{name}", "systemd-nspawn", "--quiet", "-D", copied, "-M", name, "--as-pid2", *words, *httpd(port))
        stack.callback(lambda: place.run("machinectl", "terminate", name))
        return {"service.name": name, "container.id": name, "container.name": name, "container.runtime": "systemd-nspawn", "container.image.name": None}

    return start


@runtime
def crio(stack, host):
    raise Skip("CRI-O is not in the distribution's packages; its files are in the unit tests")


@runtime
def lxc(stack, host):
    needed("lxc-start", "lxc-stop")
    path = Path(host.directory, "lxc")
    path.mkdir()

    def start(name, port, env):
        (path / name).mkdir()
        lines = {"lxc.rootfs.path": f"dir:{host.directory}/root", "lxc.net.0.type": "none", "lxc.uts.name": name, "lxc.autodev": "0",
                 "lxc.apparmor.profile": "unconfined", "lxc.init.cmd": " ".join(httpd(port))}
        rows = [f"{key} = {value}" for key, value in lines.items()] + [f"lxc.environment = {key}={value}" for key, value in env.items()]
        (path / name / "config").write_text("\n".join(rows) + "\n")
        run("lxc-start", "-P", str(path), "-n", name, "-d", "-o", f"{path}/{name}.log", "-l", "INFO")
        stack.callback(lambda: run("lxc-stop", "-P", str(path), "-n", name, "-k"))
        return {"service.name": name, "container.id": name, "container.name": name, "container.runtime": "lxc", "container.image.name": None}

    return start


# ---- what is looked at


class Servers:
    """Of one runtime: `cart` is named by its container, by the pod or by the service of Compose that it is of, `till` names itself, `plain` is in no container."""

    def __init__(self, stack, host, start):
        self.start = start
        self.ports = {name: free_port() for name in ("cart", "till", "plain")}
        self.names = {name: f"{name}-{os.getpid()}" for name in ("cart", "till")}
        self.services = {}
        self.wanted = {"cart": start(self.names["cart"], self.ports["cart"], {}),
                       "till": start(self.names["till"], self.ports["till"], {"OTEL_SERVICE_NAME": "by-env"})}
        for name in self.wanted:
            self.services[name] = self.wanted[name].pop("service.name")
        plain = subprocess.Popen(httpd(self.ports["plain"], f"{host.directory}/root"), stdin=subprocess.DEVNULL)
        stack.callback(ended, plain)
        for name, port in self.ports.items():
            until(lambda: answers(port), 20, f"{name} does not answer")

    def all_ports(self):
        return ",".join(str(port) for port in self.ports.values())

    def traced(self, binary, *arguments, rules=None, prefix=(), late=None):
        """The resources of what spanwire says of a request to each, and the services it says it of. `late` is started behind spanwire."""
        with contextlib.ExitStack() as stack:
            resources, settings = collector(stack)
            if rules:
                settings["discovery.instrument"] = json.dumps(rules)
            try:
                tracer = Tracer(*arguments, binary=binary, settings=settings, prefix=prefix)
            except SystemExit as error:
                raise RuntimeError(error.code) from error
            stack.callback(shutil.rmtree, tracer.directory)
            try:
                time.sleep(0.3)
                if late:
                    self.ports["late"] = port = free_port()
                    self.wanted["late"] = self.start(late, port, {})
                    self.services["late"] = self.wanted["late"].pop("service.name")
                    until(lambda: listens(port), 20, f"{late} does not listen")
                    time.sleep(0.3)
                for port in self.ports.values():
                    ask(port)
                spans = tracer.finish(0.6)
            finally:
                if tracer.process.poll() is None:
                    ended(tracer.process)
        by_port = {}
        for span in spans:
            by_port.setdefault(span["attributes"].get("server.port"), set()).add(span["service"])
        return resources, {name: sorted(by_port.get(port, ())) for name, port in self.ports.items()}


def compare(resources, service, wanted):
    mine = [resource for resource in resources if resource.get("service.name") == service]
    if not mine:
        return [f"no resource is called {service}, but {sorted({str(resource.get('service.name')) for resource in resources})}"]
    return [f"{service}: {key} is {mine[0].get(key)!r}, not {value!r}" for key, value in wanted.items() if mine[0].get(key) != value]


def services(got, **wanted):
    return [f"{name} is {got[name] or 'not traced'}, not {value or 'untraced'}" for name, value in wanted.items() if got[name] != value]


@test
def resource(servers, binary):
    """The process's own name wins over its container's, that over its program's."""
    resources, got = servers.traced(binary, "--port", servers.all_ports())
    cart, nothing = servers.services["cart"], {key: None for key in servers.wanted["cart"]}
    return services(got, cart=[cart], till=["by-env"], plain=["busybox"]) + compare(resources, cart, servers.wanted["cart"]) \
        + compare(resources, "by-env", servers.wanted["till"]) + compare(resources, "busybox", nothing)


@test
def container_name(servers, binary):
    """Of the two the one of that name, without a word of ports; the name that the entry gives wins over the container's."""
    resources, got = servers.traced(binary, rules=[{"container_name": f"ca?t-{os.getpid()}", "name": "by-entry"}])
    return services(got, cart=["by-entry"], till=[], plain=[]) + compare(resources, "by-entry", servers.wanted["cart"])


@test
def containers_only(servers, binary):
    resources, got = servers.traced(binary, rules=[{"containers_only": True, "open_ports": servers.all_ports()}])
    cart = servers.services["cart"]
    return services(got, cart=[cart], till=["by-env"], plain=[]) + compare(resources, cart, servers.wanted["cart"])


@test
def from_elsewhere(servers, binary):
    """spanwire has a mount namespace of its own, as in a container, and the places of the runtimes are empty there."""
    places = [place for place in ("/var/lib/containers", "/var/lib/docker", "/run") if os.path.isdir(place)]
    own = "; ".join(f"mount -t tmpfs none {place}" for place in places)
    resources, got = servers.traced(binary, "--port", servers.all_ports(), prefix=["unshare", "--mount", "sh", "-ec", f'{own}; exec "$@"', "sh"])
    cart = servers.services["cart"]
    return services(got, cart=[cart], till=["by-env"], plain=["busybox"]) + compare(resources, cart, servers.wanted["cart"])


@test
def started_later(servers, binary):
    name = f"late-{os.getpid()}"
    resources, got = servers.traced(binary, rules=[{"container_name": name}], late=name)
    service = servers.services["late"]
    return services(got, late=[service], cart=[], till=[], plain=[]) + compare(resources, service, servers.wanted["late"])


def show(servers):
    for name in servers.wanted:
        pid = listener(servers.ports[name])
        rows = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        print(f"       {name}: pid {pid}, {json.dumps(servers.wanted[name])}")
        for path in sorted({row.split(":", 2)[2] for row in rows}):
            print(f"         {' '.join(row.split(':', 2)[1] or 'v2' for row in rows if row.split(':', 2)[2] == path)}: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=BINARY)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("runtimes", nargs="*", metavar="RUNTIME", help=", ".join(RUNTIMES))
    arguments = parser.parse_args()
    need_root(len(RUNTIMES) * len(TESTS))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if unknown := set(arguments.runtimes) - set(RUNTIMES):
        parser.error(f"no runtime: {', '.join(unknown)}")
    ran = failed = skipped = 0
    with whole:
        host = Place(whole.enter_context(tempfile.TemporaryDirectory(prefix="spanwire-containers-")))
        os.chmod(host.directory, 0o755)
        image(host.directory)
        for name in arguments.runtimes or RUNTIMES:
            try:
                with contextlib.ExitStack() as stack:
                    servers = Servers(stack, host, RUNTIMES[name](stack, host))
                    if arguments.show:
                        print(name)
                        show(servers)
                        continue
                    for check in TESTS:
                        begun = time.monotonic()
                        try:
                            problems = check(servers, arguments.binary)
                        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
                            problems = [str(error)]
                        ran, failed = ran + 1, failed + bool(problems)
                        print(f"{'FAILED' if problems else 'ok':<7}{name}: {check.__name__} ({time.monotonic() - begun:.1f} s)", flush=True)
                        for problem in problems[:8]:
                            print(f"       {problem}")
            except Skip as why:
                print(f"skip   {name} ({len(TESTS)} tests): {why}")
                skipped += len(TESTS)
            except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
                print(f"FAILED {name}: {error}", flush=True)
                ran, failed = ran + 1, failed + 1
    print(f"{ran} tests, {failed} failed, {skipped} skipped")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
