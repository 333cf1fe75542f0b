#!/usr/bin/env python3
"""The image, built by buildah and run by podman and runc as users, Docker's composers and kubelets run it.

    tests/image/run.py [CASE]...     in the venv of `tests/setup helm image`

Everything happens in network and mount namespaces of its own, so that ports are free and securityfs is there. Needs root.
"""
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "helm")]
import chart  # noqa: E402
import kubelet  # noqa: E402
import tls  # noqa: E402
from engine import TOOLS, Container, Engine  # noqa: E402
from lib.tracer import ROOT, need_root  # noqa: E402
from node import BACK, FRONT, GRPC, SERVER, Node, chain  # noqa: E402

BINARY = os.environ.get("SPANWIRE_BINARY", str(ROOT / "target/dist/spanwire"))
IMAGE = "localhost/spanwire:latest"
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
NEEDED = ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "NET_ADMIN"]
CONFIG = f"open_port: {FRONT}-{BACK}\nebpf: {{context_propagation: headers}}\notel_traces_export: {{common_endpoint: 'http://127.0.0.1:{GRPC}'}}\n"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
CONFIG_PATH = "OTEL_EBPF_CONFIG_PATH=/configs/spanwire.yaml"
SIZE = 40 << 20
CASES = {}


def case(function):
    CASES[function.__name__.replace("_", " ")] = function
    return function


class Rig:
    def __init__(self, engine, node):
        self.engine, self.node, self.count = engine, node, 0
        # A binary that is not static can still be tried; the test of the image's content says so.
        interpreted = b"ld-linux" in Path(BINARY).read_bytes()[:4096]
        self.libraries = [f"--volume={place}:{place}:ro" for place in ("/lib", "/lib64")] if interpreted else []

    def directory(self):
        self.count += 1
        place = self.engine.directory / f"case-{self.count}"
        place.mkdir()
        return place

    def flags(self, without=(), caps=NEEDED, config=CONFIG):
        """Of the command that docs/CONTAINERS.md has."""
        place = self.directory()
        (place / "spanwire.yaml").write_text(config)
        left_out = {"--detach", "--name=spanwire", f"--env={CONFIG_PATH}", *(f"--volume={path}:{path}:ro" for path in without),
                    *(f"--cap-add={name}" for name in set(NEEDED) - set(caps))}
        return [*(flag.replace("$PWD/configs", str(place)) for flag in documented() if flag not in left_out), "--read-only-tmpfs=false"]

    def traces(self, flags, image=IMAGE, command=(), header=True, probed=(), asked=()):
        """What is wrong with ten requests to the services of the node, and with the end."""
        self.count += 1
        container = Container(self.engine, f"spanwire-{self.count}", [*flags, *self.libraries, "--add-host=otelcol:127.0.0.1"], image, command)
        if not container.ready():
            return [f"does not start: {container.log.read_text()[-2000:]}"]
        time.sleep(0.7)  # a process that is watched for less has no links by its only request
        paths = [f"/{container.name}-{number}-" for number in range(10)]
        headers = {path: self.node.ask(path) for path in paths}
        problems = [problem for kind, url in probed for problem in probe(kind, url)]
        for command, words in asked:
            # Beside the running one, within the same limit of memory.
            done = self.engine.podman("exec", container.name, "/spanwire", *command)
            problems += [] if done.returncode == 0 and words in done.stdout else [f"{command}: {done.returncode}: {done.stdout}{done.stderr}"]
        peak = container.peak_memory()
        time.sleep(0.5)
        status, killed = container.stop()
        if status or killed:
            problems.append(f"ended with {status}, by memory: {killed}: {container.log.read_text()[-500:]}")
        for path, received in headers.items():
            problems += [f"{path}: {problem}" for problem in chain(self.node.spans(path), received)]
            if bool(received) != header:
                problems.append(f"{path}: header {received}")
        print(f"       {f'{peak / (1 << 20):.0f} MiB' if peak else 'unknown'} at most, of 120")
        return problems


def documented():
    text = (ROOT / "docs/CONTAINERS.md").read_text()
    words = shlex.split(text[text.index("docker run --detach"):].split("```")[0])
    return [word for word in words if word.startswith("--")]


def probe(kind, url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return [] if answer.status == 200 else [f"{kind}: {answer.status}"]
    except OSError as error:
        return [f"{kind} {url}: {error}"]


@case
def content(rig):
    """What is in the image, and nothing else."""
    said = rig.engine.inspect(IMAGE)
    config = said["Config"]
    revision = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip() or "unknown"
    wanted = {"title": "spanwire", "licenses": "Apache-2.0", "version": VERSION, "revision": revision}
    labels = {name: config["Labels"].get(f"org.opencontainers.image.{name}") for name in wanted}
    problems = [] if labels == wanted else [f"labels: {labels}"]
    problems += [] if config["Entrypoint"] == ["/spanwire"] and not config.get("Cmd") and not config.get("User") else [f"starts {config}"]
    problems += [] if said["Architecture"] == ARCHITECTURE else [said["Architecture"]]
    problems += [] if said["Size"] < SIZE or rig.libraries else [f"{said['Size'] >> 20} MiB"]
    problems += [f"{BINARY} is not static"] if rig.libraries and "SPANWIRE_BINARY" not in os.environ else []
    place = rig.engine.podman("image", "mount", IMAGE).stdout.strip()
    files = {str(path.relative_to(place)): path for path in Path(place).rglob("*") if not path.is_dir() or path.is_symlink()}
    links = {name: "spanwire" for name in ("beyla", "obi", "ebpf-instrument")}
    if set(files) != {"spanwire", "etc/ssl/certs/ca-certificates.crt", *links}:
        problems.append(f"files: {sorted(files)}")
    problems += [f"{name} is no link to {to}" for name, to in links.items() if os.readlink(files[name]) != to]
    if "BEGIN CERTIFICATE" not in files["etc/ssl/certs/ca-certificates.crt"].read_text():
        problems.append("no certificate")
    rig.engine.podman("image", "unmount", IMAGE)
    return problems


@case
def both_architectures(rig):
    """A list of two images, each with its own binary."""
    files = {architecture: rig.directory() / architecture for architecture in ("amd64", "arm64")}
    for architecture, file in files.items():
        file.write_text(architecture)
    rig.engine.build("localhost/both:list", **files)
    problems = []
    for one in json.loads(rig.engine.podman("manifest", "inspect", "localhost/both:list").stdout)["manifests"]:
        architecture = one["platform"]["architecture"]
        found = rig.engine.podman("images", "--all", "--no-trunc", "--format", "{{.ID}} {{.Digest}}").stdout.splitlines()
        identity = next(row.split()[0] for row in found if row.endswith(one["digest"]))
        place = rig.engine.podman("image", "mount", identity).stdout.strip()
        said = Path(place, "spanwire").read_text()
        problems += [] if said == architecture else [f"{architecture} has the binary of {said}"]
        files.pop(architecture, None)
    return problems + [f"no image for {architecture}" for architecture in files]


@case
def the_command_of_the_documents(rig):
    return rig.traces([*rig.flags(), f"--env={CONFIG_PATH}"])


@case
def the_command_with_the_name_of_Beyla(rig):
    return rig.traces([*rig.flags(), "--entrypoint=/beyla"], command=["--config=/configs/spanwire.yaml"])


@case
def the_command_with_the_name_of_OBI(rig):
    return rig.traces([*rig.flags(), "--entrypoint=/obi"], command=["--config", "/configs/spanwire.yaml"])


@case
def the_variable_of_Beyla(rig):
    return rig.traces([*rig.flags(), "--env=BEYLA_CONFIG_PATH=/configs/spanwire.yaml"])


@case
def without_the_mount_of_cgroups(rig):
    """Where runtimes mount the container's own part of cgroup v2, it finds the whole by that; on others it goes without headers."""
    two = any(row.split()[1:3] == ["/sys/fs/cgroup", "cgroup2"] for row in Path("/proc/mounts").read_text().splitlines())
    return rig.traces([*rig.flags(without=["/sys/fs/cgroup"]), "--cgroupns=private"], command=["--config=/configs/spanwire.yaml"], header=two)


@case
def without_the_mount_of_securityfs(rig):
    return rig.traces(rig.flags(without=["/sys/kernel/security"]), command=["--config=/configs/spanwire.yaml"])


@case
def without_NET_ADMIN(rig):
    return rig.traces(rig.flags(caps=NEEDED[:-1]), command=["--config=/configs/spanwire.yaml"], header=False)


@case
def privileged(rig):
    flags = [flag for flag in rig.flags() if not flag.startswith(("--cap-", "--security-opt"))]
    return rig.traces([*flags, "--privileged"], command=["--config=/configs/spanwire.yaml"])


@case
def certificates_of_the_image(rig):
    """A collector behind TLS is believed by the bundle in the image, so by no CA that is not in there."""
    ca, certificate, key = tls.certificates(rig.directory())
    problems = []
    with tls.Collector(certificate, key) as collector:
        for flags, believed in (([], False), ([f"--volume={ca}:/etc/ssl/certs/ca-certificates.crt:ro"], True)):
            rig.count += 1
            config = f"open_port: {FRONT}\notel_traces_export: {{endpoint: {collector.url}/v1/traces}}\nshutdown_timeout: 1s\n"
            flags = [*rig.flags(config=config), *flags, *rig.libraries, "--add-host=otelcol:127.0.0.1"]
            container = Container(rig.engine, f"spanwire-{rig.count}", flags, IMAGE, ["--config=/configs/spanwire.yaml"])
            if not container.ready():
                return [f"does not start: {container.log.read_text()[-2000:]}"]
            rig.node.ask("/tls-")
            time.sleep(0.7)
            container.stop()
            if any(b"/tls-" in body for body in collector.bodies) != believed:
                said = container.log.read_text()[-1000:]
                problems.append(f"{len(collector.bodies)} exports arrived, with the CA in the bundle: {believed}: {said}")
    return problems


@case
def check(rig):
    done = rig.engine.run(IMAGE, "check", flags=rig.flags() + rig.libraries)
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    wanted = {"capabilities": "all that are needed", "pid namespace": "the host's", "tracing": "yes"}
    problems = [f"{name}: {rows.get(name)}" for name, words in wanted.items() if words not in rows.get(name, "")]
    return problems + ([] if "not visible" not in rows.get("lockdown", "") else ["the mode of lockdown cannot be seen"])


@case
def a_wrong_configuration(rig):
    """Status 2, and the reason is the last line, which FallbackToLogsOnError shows."""
    flags = rig.flags(config="open_port: eighty\n")
    container = Container(rig.engine, "wrong", [*flags, *rig.libraries], IMAGE, ["--config=/configs/spanwire.yaml"])
    if container.ready():
        return ["runs"]
    last = container.log.read_text().strip().splitlines()[-1]
    return [] if container.process.returncode == 2 and "open_port" in last else [f"status {container.process.returncode}: {last}"]


@case
def compose(rig):
    """Docker's own composer takes the file, and podman's runs it, with another service than nginx."""
    file = ROOT / "packaging/compose/compose.yaml"
    said = rig.engine.call("docker-compose", "-f", file, "config", "--quiet")
    problems = [] if not said.returncode and not said.stderr else [f"docker-compose config: {said.returncode}: {said.stderr}"]
    app = rig.directory()
    (app / "Dockerfile").write_text('FROM scratch\nCOPY busybox /busybox\nENTRYPOINT ["/busybox", "httpd", "-f", "-p", "80"]\n')
    shutil.copy(shutil.which("busybox"), app)
    rig.engine.call("buildah", "bud", "--isolation", "chroot", "-t", "localhost/app:1", app)
    more = " ".join(rig.engine.limits + rig.libraries)
    composer = [sys.executable, "-m", "podman_compose", "-f", file, "-p", "composed", f"--podman-run-args={more}"]
    images = {"SPANWIRE_IMAGE": IMAGE, "APP_IMAGE": "localhost/app:1"}
    up = rig.engine.call(*composer, "up", "--detach", "--no-deps", "app", "spanwire", **images)
    if not logged(rig.engine, "composed_spanwire_1"):
        return problems + [f"spanwire does not start: {up.stderr}", rig.engine.podman("logs", "composed_spanwire_1").stderr]
    time.sleep(0.5)
    for number in range(5):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:8080/composed-{number}-", timeout=5)
        except urllib.error.HTTPError as error:
            problems += [] if error.code == 404 else [repr(error)]
    time.sleep(0.8)
    rig.engine.call(*composer, "down", "--timeout", "2", **images)
    for number in range(5):
        spans = rig.node.spans(f"/composed-{number}-")
        if [(span["kind"], span["attributes"]["http.response.status_code"][1]) for span in spans] != [(SERVER, 404)]:
            problems.append(f"/composed-{number}-: {spans}")
    return problems


def logged(engine, name):
    deadline = time.monotonic() + 30
    while "Ready" not in engine.podman("logs", name).stderr:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def daemonset(rig, documents, asked=()):
    flags, image, command = kubelet.container(documents, rig.directory())
    return rig.traces(flags, image, command, probed=list(kubelet.probes(documents)), asked=asked)


@case
def the_plain_manifest(rig):
    """As packaging/kubernetes has it, but for the collector's name."""
    text = (ROOT / "packaging/kubernetes/daemonset.yaml").read_text().replace("http://otel-collector:", "http://otelcol:")
    return daemonset(rig, list(yaml.safe_load_all(text)), asked=[(["check"], "works, and is used")])


@case
def the_chart_privileged_and_with_metrics(rig):
    values = {"preset": "privileged", "metrics": {"enabled": True}, "endpoint": "http://otelcol:4317", "image": {"tag": "latest"},
              "config": {"open_port": f"{FRONT}-{BACK}", "ebpf": {"context_propagation": "headers"}}}
    rendered = chart.documents(chart.render(values))
    flags, image, command = kubelet.container(rendered, rig.directory())
    probed = [*kubelet.probes(rendered), ("metrics", f"http://{kubelet.POD_IP}:9400/internal/metrics")]
    return rig.traces(flags, image, command, probed=probed, asked=[(["check", "--live"], "writes headers")])


@case
def the_DaemonSet_of_Beyla(rig):
    return daemonset(rig, list(yaml.safe_load_all((HERE / "manifests/beyla.yaml").read_text())))


@case
def the_DaemonSet_of_OBI(rig):
    return daemonset(rig, list(yaml.safe_load_all((HERE / "manifests/obi.yaml").read_text())))


def main():
    need_root(len(CASES))
    missing = [tool for tool in (*TOOLS, "unshare") if not shutil.which(tool)]
    if missing:
        print(f"skipped {len(CASES)} tests: {', '.join(missing)}: tests/setup image")
        return 3
    if not os.environ.get("SPANWIRE_IMAGE_RIG"):
        own = "mount -t securityfs none /sys/kernel/security 2>/dev/null || :; ip link set lo up; exec \"$@\""
        line = ["unshare", "--mount", "--net", "sh", "-ec", own, "sh", sys.executable, *sys.argv]
        os.execvpe(line[0], line, {**os.environ, "SPANWIRE_IMAGE_RIG": "1"})
    chosen = {name: function for name, function in CASES.items() if not sys.argv[1:] or name in sys.argv[1:]}
    failed = 0
    with Engine() as engine, Node(engine.directory) as node:
        engine.build(IMAGE, **{ARCHITECTURE: BINARY})
        engine.podman("tag", IMAGE, f"localhost/spanwire:{VERSION}")  # of the chart
        rig = Rig(engine, node)
        for name, function in chosen.items():
            print(f"{name}:", flush=True)
            try:
                problems = function(rig)
            except (OSError, RuntimeError, ValueError, LookupError, StopIteration, subprocess.SubprocessError) as error:
                problems = [repr(error)]
            failed += bool(problems)
            print("       " + ("\n       ".join(["FAILED", *problems[:8]]) if problems else "ok"), flush=True)
        if rig.libraries:
            print(f"note: {BINARY} is not static: the machine's libraries were mounted, and the size not looked at")
    print(f"{len(chosen)} tests, {failed} failed, 0 skipped")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
