#!/usr/bin/env python3
"""Programs in other namespaces are traced and told apart: network, pid, mount (another root), cgroup, all at once; and spanwire in its own.

    tests/bpf/namespaces.py [--binary PATH] [CASE]...

Services are chains of this file's own server; every request has an id in its path, every chain is looked at as a whole. Namespaces
live as long as their processes, which end with this one. Needs root.
"""
import argparse
import collections
import contextlib
import ctypes
import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.collector import collector  # noqa: E402
from lib.tracer import BINARY, ROOT, Tracer, free_port, need_root  # noqa: E402

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNET, DEATHSIG = 0x40000000, 1
PORTS = 10000  # source port of request 0
# The distribution's is one file, and says nothing of itself in its libraries.
PYTHON = os.path.realpath(shutil.which("python3", path="/usr/bin") or sys.executable)
HOME = subprocess.run([PYTHON, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True).stdout.strip()
CASES, open_things = {}, contextlib.ExitStack()
binary = BINARY


class Skip(Exception):
    pass


def case(function):
    CASES[function.__name__] = function
    return function


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=20)


# ---- services


def connect(to, number, bind=None, sequence=None, end=None):
    end = end or socket.socket()
    end.settimeout(20)
    if bind:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end.bind((bind, PORTS + number))
    if sequence:
        for option, value in ((19, 1), (20, 2), (21, sequence + number * 5000), (19, -1)):  # TCP_REPAIR…, the queue of sends
            end.setsockopt(socket.IPPROTO_TCP, option, value)
    end.connect(tuple(to))
    connection = http.client.HTTPConnection(to[0], to[1])
    connection.sock = end
    return connection


def ask(connection, path):
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise http.client.HTTPException(f"{path}: {answer.status} {body}")
    return json.loads(body)


def in_fork(call):
    """What `call` returns, made by a child of this process."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(Exception):
            os.write(writer, json.dumps(call()).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        out = json.load(file)
    os.waitpid(child, 0)
    return out


def serve(listen, following=None, bind=None, sequence=None, delay=0, fork=False, keep=False, away=False):
    """`fork`: a process for each connection, and another for its call; `away`: into another network namespace, with the listener of this one."""
    kept = threading.local()

    def call(path):
        connection = getattr(kept, "connection", None) or connect(following, int(path.rsplit("/", 1)[-1]), bind, sequence)
        if keep:
            kept.connection = connection
        try:
            return ask(connection, path)
        finally:
            if not keep:
                connection.close()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            time.sleep(delay)
            try:
                below, status = (following and (in_fork(lambda: call(self.path)) if fork else call(self.path))), 200
            except (OSError, ValueError, http.client.HTTPException) as error:
                below, status = repr(error), 502
            body = json.dumps({"header": self.headers["traceparent"], "pid": os.getpid(), "below": below}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(socketserver.ForkingMixIn if fork else socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads, request_queue_size = True, 256

        def handle_error(self, *_):
            pass

    server = Server(tuple(listen), Handler)
    if away:
        LIBC.unshare(NEWNET)
    print("ready", flush=True)
    server.serve_forever(60)


def leaf(pid):
    """The process that a row of `unshare --fork` and the like ends with."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return leaf(int(children[-1])) if children else pid


def ends_with_us():
    LIBC.prctl(DEATHSIG, signal.SIGKILL, 0, 0, 0)


def begin(*command, env=None, said="ready"):
    """Starts it; its pid on the host, once it says so. It ends with the case."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**environment, **(env or {})}, preexec_fn=ends_with_us)

    def end():
        for pid in [process.pid, leaf(process.pid)] if process.poll() is None else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()

    open_things.callback(end)
    line = process.stdout.readline().decode().strip()
    if line != said:
        raise RuntimeError(f"{command[:6]} does not start: {line}")
    return leaf(process.pid)


def service(name, listen, *prefix, python=PYTHON, env=None, **settings):
    env = {"PYTHONHOME": HOME, **({"OTEL_SERVICE_NAME": name} if name else {}), **(env or {})}
    return begin(*prefix, python, str(Path(__file__).resolve()), "--serve", json.dumps({"listen": listen, **settings}), env=env)


# ---- namespaces


def network():
    """A network namespace, by the process that holds it."""
    return begin("unshare", "--net", "sh", "-ec", "ip link set lo up; echo ready; exec sleep 600")


def inside(pid, *kinds):
    return ["nsenter", f"--target={pid}", *(kinds or ["--net"]), "--"]


def cable(one, other):
    """A link between two network namespaces, given by pids: 10.77.0.1 and 10.77.0.2."""
    run(*inside(one), "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(other))
    for pid, address in ((one, "10.77.0.1"), (other, "10.77.0.2")):
        run(*inside(pid), "ip", "address", "add", f"{address}/24", "dev", "eth0")
        run(*inside(pid), "ip", "link", "set", "eth0", "up")


def sockets(pid, count):
    """Sockets of another network namespace."""
    with open("/proc/self/ns/net") as own, open(f"/proc/{pid}/ns/net") as other:
        if LIBC.setns(other.fileno(), NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            return [socket.socket() for _ in range(count)]
        finally:
            LIBC.setns(own.fileno(), NEWNET)


PIVOT = "pivot_root . old; cd /; umount -l /old; exec"


def another_root(name, change=PIVOT, marked=False, proc="mount --rbind /proc proc"):
    """Runs in a new mount namespace: the rest of the line, in a root of its own where the interpreter is /inside/NAME; what to run it by."""
    directory = open_things.enter_context(tempfile.TemporaryDirectory(prefix="spanwire-root-"))
    program = Path(directory, "program")
    shutil.copy(PYTHON, program)
    if marked:  # as Go marks what it builds
        section = Path(directory, "section")
        section.write_bytes(b"\xff Go buildinf:")
        run("objcopy", "--add-section", f".go.buildinfo={section}", program)
    binds = {"/usr", HOME, str(ROOT)}
    binds = [path for path in binds if not any(path.startswith(f"{other}/") for other in binds)]
    lines = [f"cp {program} /dev/shm/spanwire-{os.getpid()}", f"mount -t tmpfs none {directory}", f"cd {directory}", "mkdir inside proc old tmp",
             f"mv /dev/shm/spanwire-{os.getpid()} inside/{name}"]
    lines += [f"mkdir -p .{path}; mount --rbind {path} .{path}" for path in sorted(binds)]
    for path in ("/bin", "/sbin", "/lib", "/lib64"):
        if os.path.islink(path):
            lines.append(f"ln -s {os.readlink(path)} .{path}")
        elif os.path.isdir(path):
            lines.append(f"mkdir .{path}; mount --rbind {path} .{path}")
    return ["sh", "-ec", "; ".join([*lines, proc, f'{change} "$@"']), "sh"], f"/inside/{name}"


def hierarchies():
    """(where cgroup v2 is mounted, where those of v1 are)"""
    two, one = None, []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        root, place = before.split()[3:5]
        if root == "/" and after.startswith("cgroup2 "):
            two = two or place
        if root == "/" and after.startswith("cgroup ") and "cpuset" not in after:
            one.append(place)
    return two, one


def cgroup(name, *places):
    """What makes a shell a member of new cgroups in all `places`. They go with the case."""
    lines = []
    for place in places:
        for left in Path(place).glob("spanwire-[0-9]*"):  # of one that was killed
            if not os.path.exists(f"/proc/{left.name.split('-')[1]}"):
                for path in [*(below for below in left.iterdir() if below.is_dir()), left]:
                    remove(path)
        path = Path(place, f"spanwire-{os.getpid()}")
        for path in (path, path / name):
            if not path.is_dir():
                path.mkdir()
                open_things.callback(remove, path)
        lines.append(f"echo $$ > {path}/cgroup.procs")
    return ["sh", "-ec", "; ".join([*lines, 'exec "$@"']), "sh"]


OWN_CGROUPS = "umount -R -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup"


def remove(path):
    for _ in range(50):
        try:
            return path.rmdir()
        except OSError:  # the last process is still on its way out
            time.sleep(0.02)
    print(f"       {path} stays")


# ---- what came of it


def path_of(span):
    attributes = span["attributes"]
    return attributes.get("url.path") or "/" + attributes.get("url.full", "").split("://", 1)[-1].partition("/")[2]


class Spans:
    def __init__(self, spans):
        self.all = spans
        self.of = collections.defaultdict(list)
        for span in spans:
            self.of[path_of(span)].append(span)
        self.known = {(span["trace_id"], span["span_id"]): path_of(span) for span in spans}

    def wrong(self):
        """Spans whose parent is a span of another request."""
        return [f"{span['service']} {path_of(span)} is a child of {self.known[key]}" for span in self.all
                if (key := (span["trace_id"], span["parent_span_id"])) in self.known and self.known[key] != path_of(span)]

    def chain(self, path, order):
        """What is wrong with the spans of a request. `order`: (service, kind, pid or None) from the root to the end, nothing else."""
        mine, parent = list(self.of[path]), None
        for name, kind, pid in order:
            found = [span for span in mine if (span["service"], span["kind"]) == (name, kind)]
            if len(found) != 1:
                return [f"{path}: {len(found)} {kind} spans of {name}; has {[(span['service'], span['kind']) for span in self.of[path]]}"]
            span = found[0]
            mine.remove(span)
            if pid and span["pid"] != pid or not span["service_instance"].endswith(f":{span['pid']}"):
                return [f"{path}: {kind} span of {name} has pid {span['pid']} and instance {span['service_instance']}, not {pid}"]
            if (span["parent_span_id"], span["trace_id"]) != ((parent["span_id"], parent["trace_id"]) if parent else (None, span["trace_id"])):
                return [f"{path}: the parent of {kind} {name} is {span['parent_span_id']}, {span['attributes']['spanwire.link']}"]
            parent = span
        return [f"{path}: also has {[(span['service'], span['kind']) for span in mine]}"] if mine else []

    def chains(self, paths, order):
        return self.wrong() + [problem for path in paths for problem in self.chain(path, order)]

    def find(self, path, name, kind):
        return next((span for span in self.of[path] if (span["service"], span["kind"]) == (name, kind)), None)

    def header(self, path, name, received):
        """What is wrong with the traceparent that the service called by `name` received."""
        span = self.find(path, name, "client")
        wanted = span and f"00-{span['trace_id']}-{span['span_id']}-{span['trace_flags']:02x}"
        return [] if received and received == wanted else [f"{path}: header {received}, not {wanted}"]


@contextlib.contextmanager
def traced(*arguments, prefix=(), **settings):
    """Runs spanwire for the block; its result has the `spans` behind it."""
    tracer = Tracer(*arguments, binary=binary, prefix=prefix, settings=settings)
    got = types.SimpleNamespace(tracer=tracer)
    try:
        time.sleep(0.2)
        yield got
        got.spans = Spans(tracer.finish(0.4))
    finally:
        if tracer.process.poll() is None:
            tracer.process.kill()
            tracer.process.wait()
        shutil.rmtree(tracer.directory, ignore_errors=True)


def expect(resources, name, **wanted):
    """What is wrong with the resource of a service."""
    found = next((resource for resource in resources if resource.get("service.name") == name), {})
    wanted = {key.replace("_", "."): value for key, value in wanted.items()}
    return [f"{name}: {key} is {found.get(key)!r}, not {value!r}" for key, value in wanted.items() if found.get(key) != value]


def requests(to, paths, net="self"):
    """One after another, from another network namespace if one is given; the answers."""
    answers = []
    for path, end in zip(paths, sockets(net, len(paths))):
        connection = connect(to, 0, end=end)
        answers.append(ask(connection, path))
        connection.close()
    return answers


# ---- cases


def twins(front, middle):
    """Two hosts alike, each of a namespace that calls and one that is called. {name: (the one that calls, pids of the services)}"""
    out = {}
    for name in "ab":
        callers, called = network(), network()
        cable(called, callers)
        back = service(f"back-{name}", ("127.0.0.1", 8080), *inside(called))
        second = service(f"middle-{name}", ("10.77.0.1", 8080), *inside(called), following=("127.0.0.1", 8080), bind="127.0.0.1", **middle)
        first = service(f"front-{name}", ("127.0.0.1", 8080), *inside(callers), following=("10.77.0.1", 8080), bind="10.77.0.2", **front)
        out[name] = (callers, (first, second, back))
    return out


def together(hosts, rounds, level=64):
    """What is wrong when each of the hosts is asked `level` times at once, and that `rounds` times."""
    ends = {name: sockets(callers, rounds * level) for name, (callers, _) in hosts.items()}
    gate, faults = threading.Barrier(level * len(hosts)), []

    def worker(name, index):
        for number in range(index, rounds * level, level):
            gate.wait(30)
            try:
                connection = connect(("127.0.0.1", 8080), number, "127.0.0.1", end=ends[name][number])
                ask(connection, f"/{name}/{number}")
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                faults.append(f"/{name}/{number}: {error!r}")

    workers = [threading.Thread(target=worker, args=(name, index)) for index in range(level) for name in hosts]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    return faults


def told_apart(rounds, front, middle):
    hosts = twins(front, middle)
    with traced("--port", "8080") as got:
        problems = together(hosts, rounds)
    problems += got.spans.wrong()
    for name, (_, (front, middle, back)) in hosts.items():
        order = [(f"front-{name}", "server", front), (f"front-{name}", "client", front), (f"middle-{name}", "server", middle),
                 (f"middle-{name}", "client", middle), (f"back-{name}", "server", back)]
        problems += [problem for number in range(rounds * 64) for problem in got.spans.chain(f"/{name}/{number}", order)]
    return problems


@case
def same_addresses_and_ports_in_two_networks():
    return told_apart(8, {}, {})


@case
def same_sequence_numbers_too():
    """What chance does once in a long time: with addresses and ports, the sequence numbers of the callers are equal."""
    return told_apart(2, {"sequence": 1 << 20}, {"delay": 0.02, "sequence": 1 << 24})


PID = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@case
def pid_namespaces():
    """Both are pid 1 where they live. The first forks for each connection, and again for the call."""
    front_port, back_port = free_port(), free_port()
    directory = open_things.enter_context(tempfile.TemporaryDirectory(prefix="spanwire-exe-"))
    executable = shutil.copy(PYTHON, Path(directory, "python3-of-the-test"))
    back = service("back", ("127.0.0.1", back_port), *PID, python=executable)
    front = service("front", ("127.0.0.1", front_port), *PID, python=executable, following=("127.0.0.1", back_port), fork=True)
    resources, export = collector(open_things)
    problems = []
    ways = {"port": f"{front_port},{back_port}", "exe": str(executable), "pid": f"{front},{back}"}
    for way, which in ways.items():
        paths = [f"/{way}/{number}" for number in range(8)]
        with traced(f"--{way}", which, **export) as got:
            answers = requests(("127.0.0.1", front_port), paths)
        problems += got.spans.chains(paths, [("front", "server", None), ("front", "client", None), ("back", "server", back)])
        for path, answer in zip(paths, answers):
            pids = [span["pid"] for span in got.spans.of[path] if span["service"] == "front"]
            if len(set(pids)) != 2 or front in pids:
                problems.append(f"{path}: the forks of {front} have pids {pids}")
            if answer["below"]["pid"] != 1:
                problems.append(f"{path}: is no namespace, pid {answer['below']['pid']}")
    return problems + expect(resources, "back", process_pid=back)


@case
def another_root_in_another_mount_namespace():
    """The executables are on file systems that are mounted nowhere else. One has its root by pivot_root, one by chroot."""
    if not shutil.which("objcopy"):
        raise Skip("objcopy is not there")
    front_port, back_port = free_port(), free_port()
    pivoted, billing = another_root("billing")
    changed, till = another_root("till", "exec chroot .", marked=True)
    back = service(None, ("127.0.0.1", back_port), "unshare", "--mount", *changed, python=till)
    front = service(None, ("127.0.0.1", front_port), "unshare", "--mount", *pivoted, python=billing, following=("127.0.0.1", back_port))
    if os.path.exists(billing) or os.path.exists(os.readlink(f"/proc/{back}/exe")):
        raise RuntimeError("the executables are here too")
    resources, export = collector(open_things)
    plain, marked = ("python", "python") if "libpython" in Path(f"/proc/{back}/maps").read_text() else ("generic", "go")
    rules = json.dumps([{"exe_path": billing}, {"exe_path": f"*{till}", "languages": marked, "name": "by-entry"}])
    paths = [f"/root/{number}" for number in range(8)]
    with traced(**{"discovery.instrument": rules}, **export) as got:
        requests(("127.0.0.1", front_port), paths)
    return got.spans.chains(paths, [("billing", "server", front), ("billing", "client", front), ("by-entry", "server", back)]) \
        + expect(resources, "billing", process_executable_path=billing, process_executable_name="billing", telemetry_sdk_language=plain) \
        + expect(resources, "by-entry", process_executable_name="till", telemetry_sdk_language=marked)


def headers_from(*prefix):
    """A client in `prefix` calls a service on the host."""
    front_port, back_port = free_port(), free_port()
    back = service("back", ("127.0.0.1", back_port))
    front = service("front", ("127.0.0.1", front_port), *prefix, following=("127.0.0.1", back_port))
    paths = [f"/cgroup/{number}" for number in range(16)]
    with traced("--port", f"{front_port},{back_port}", **{"ebpf.context_propagation": "headers"}) as got:
        answers = requests(("127.0.0.1", front_port), paths)
    return front, got.spans.chains(paths, [("front", "server", front), ("front", "client", front), ("back", "server", back)]) \
        + [problem for path, answer in zip(paths, answers) for problem in got.spans.header(path, "front", answer["below"]["header"])]


@case
def cgroup_v2_below_others():
    two, _ = hierarchies()
    if not two:
        raise Skip("no cgroup v2 is mounted")
    return headers_from(*cgroup("below", two))[1]


@case
def cgroup_hybrid():
    two, one = hierarchies()
    if not two or not one:
        raise Skip("cgroup v1 and v2 are not both mounted")
    front, problems = headers_from(*cgroup("below", two, *one))
    rows = Path(f"/proc/{front}/cgroup").read_text().split()
    return problems + ([] if sum("/below" in row for row in rows) == 1 + len(one) else [f"is not in all of them: {rows}"])


@case
def cgroup_namespace():
    """In which the client sees its own cgroup as the root, and mounts it as such."""
    two, _ = hierarchies()
    if not two:
        raise Skip("no cgroup v2 is mounted")
    mounts = ["unshare", "--cgroup", "--mount", "sh", "-ec", f'{OWN_CGROUPS}; exec "$@"', "sh"]
    front, problems = headers_from(*cgroup("below", two), *mounts)
    return problems + ([] if os.stat(f"/proc/{front}/root/sys/fs/cgroup").st_ino > 1 else ["sees the root"])


def container(*user):
    """outside → container → outside, over a cable; the ends joined by what the kernel sees, then by the header alone."""
    two, _ = hierarchies()
    identity = f"{os.getpid():064x}"
    member = cgroup(identity, two) if two else []
    outside = network()
    kinds = ("--pid", "--mount", "--net", "--ipc", "--uts", "--cgroup", "--time", "--boottime=100000", "--monotonic=100000")
    rooted, shop = another_root("shop", f"hostname box; ip link set lo up; {PIVOT}", proc="mount -t proc none proc")
    env = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=box"}
    inner = service("inside", ("0.0.0.0", 8080), *member, "unshare", *user, *kinds, "--fork", "--kill-child", *rooted,
                    python=shop, env=env, following=("10.77.0.1", 8080))
    cable(outside, inner)
    back = service("back", ("10.77.0.1", 8080), *inside(outside))
    front = service("front", ("127.0.0.1", 8080), *inside(outside), following=("10.77.0.2", 8080))
    order = [("front", "server", front), ("front", "client", front), ("inside", "server", inner), ("inside", "client", inner),
             ("back", "server", back)]
    resources, export = collector(open_things)
    problems = []
    ways = {"joined": {}, "header": {"ebpf.context_propagation": "headers", "ebpf.disable_black_box_cp": "true"}}
    for way, settings in ways.items():
        paths = [f"/{way}/{number}" for number in range(16)]
        with traced("--port", "8080", **settings, **export) as got:
            answers = requests(("127.0.0.1", 8080), paths, outside)
        problems += got.spans.chains(paths, order)
        called = [span for span in got.spans.all if span["kind"] == "server" and span["service"] != "front"]
        links = [(span, span["attributes"]["spanwire.link"]) for span in called]
        problems += [f"{path_of(span)}: {span['service']} is linked by {link}" for span, link in links if link != way]
        now = time.time_ns()
        problems += [f"{path_of(span)}: starts {(now - span['start_time_unix_nano']) / 1e9:.0f} s ago" for span in got.spans.all
                     if not 0 < now - span["start_time_unix_nano"] < 60e9][:1]
        if answers[0]["below"]["pid"] != 1:
            problems.append("is no container")
    wanted = {"process_pid": inner, "process_executable_path": shop, "host_name": socket.gethostname(), "deployment_environment_name": "box"}
    return problems + expect(resources, "inside", **wanted, **({"container_id": identity} if two else {}))


@case
def everything_at_once():
    return container()


@case
def everything_at_once_without_root():
    if subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], stderr=subprocess.DEVNULL).returncode:
        raise Skip("user namespaces are not allowed")
    return container("--user", "--map-root-user")


@case
def spanwire_like_a_pod_that_sees_the_pids_of_the_host():
    """Its own mounts, cgroup, network, and name; of the cgroups it sees its own."""
    two, _ = hierarchies()
    if not two:
        raise Skip("no cgroup v2 is mounted")
    net, port = network(), 8080
    back = service("back", ("127.0.0.1", port), *inside(net))
    front_port = free_port()
    called = service("called", ("127.0.0.1", front_port))
    host_port = free_port()
    front = service("front", ("127.0.0.1", host_port), following=("127.0.0.1", front_port))
    pod = [*cgroup("pod", two), "unshare", "--mount", "--net", "--cgroup", "--ipc", "--uts", "sh", "-ec",
           f'hostname pod; ip link set lo up; {OWN_CGROUPS}; mount -t proc none /proc; exec "$@"', "sh"]
    paths = [f"/pod/{number}" for number in range(8)]
    with traced("--port", f"{host_port},{front_port},{port}", prefix=pod, **{"ebpf.context_propagation": "headers"}) as got:
        answers = requests(("127.0.0.1", host_port), paths)
        requests(("127.0.0.1", port), ["/net/0"], net)
    return got.spans.chains(paths, [("front", "server", front), ("front", "client", front), ("called", "server", called)]) \
        + got.spans.chain("/net/0", [("back", "server", back)]) \
        + [problem for path, answer in zip(paths, answers) for problem in got.spans.header(path, "front", answer["below"]["header"])]


@case
def spanwire_in_a_pid_namespace():
    """Its numbers are not the kernel's: it refuses, or it is right. Here a program inside has the number of one outside, and is the one to trace."""
    port = free_port()
    outside = service("outside", ("127.0.0.1", port))
    with tempfile.TemporaryDirectory() as directory:
        decoy, spans, log = shutil.copy(shutil.which("sleep"), Path(directory, "decoy")), Path(directory, "spans"), Path(directory, "log")
        script = f"""
            echo {outside - 1} > /proc/sys/kernel/ns_last_pid
            {decoy} 60 & pid=$!
            echo $pid
            {binary} run --exe '*/decoy' --print json > {spans} 2> {log} & tracer=$!
            for wait in $(seq 100); do grep -q Ready {log} && break; kill -0 $tracer 2>/dev/null || break; sleep 0.1; done
            if kill -0 $tracer 2>/dev/null; then echo runs; sleep 2; kill $tracer; fi
            wait $tracer && echo status 0 || echo status $?"""
        process = subprocess.Popen([*PID, "sh", "-c", script], stdout=subprocess.PIPE, text=True, preexec_fn=ends_with_us)
        open_things.callback(process.wait)
        open_things.callback(process.kill)
        if int(process.stdout.readline()) != outside:
            raise RuntimeError("the number of a process cannot be chosen")
        answer = process.stdout.readline().strip()
        if answer == "runs":
            time.sleep(0.3)
            requests(("127.0.0.1", port), ["/pid/0"])
            process.wait(20)
            found = map(json.loads, spans.read_text().splitlines())
            return [f"a span of pid {span['pid']} on the host is said to be of {span['service']}" for span in found]
        process.wait(20)
        said = log.read_text()
        return [] if answer == "status 1" and "pid namespace" in said else [f"{answer}: {said}"]


@case
def listeners_older_than_spanwire():
    """And connections: in another network namespace, where the listener's process is in a pid namespace too."""
    net = network()
    back = service("back", ("127.0.0.1", 8081), *inside(net), *PID)
    front = service("front", ("127.0.0.1", 8080), *inside(net), following=("127.0.0.1", 8081), keep=True)
    ends = sockets(net, 16)
    older = [connect(("127.0.0.1", 8080), 0, end=end) for end in ends[:8]]
    for number, connection in enumerate(older):
        ask(connection, f"/before/{number}")
    with traced("--port", "8080,8081") as got:
        for turn in range(3):
            for number, connection in enumerate(older):
                ask(connection, f"/old-{turn}/{number}")
        for number, end in enumerate(ends[8:]):
            ask(connect(("127.0.0.1", 8080), 0, end=end), f"/new/{number}")
    paths = [f"/{kind}/{number}" for kind in ("old-0", "old-1", "old-2", "new") for number in range(8)]
    return got.spans.chains(paths, [("front", "server", front), ("front", "client", front), ("back", "server", back)])


def moved(*arguments, alone=False, own=False):
    """As with socket activation into a network of its own: the listener is of one network namespace, its process is in another."""
    net = None if own else network()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pid = service("moved", ("127.0.0.1", port), *(inside(net) if net else ()), away=True)
    ends = sockets(net or os.getpid(), 5)
    if alone:
        os.kill(net, signal.SIGKILL)
        time.sleep(0.1)
    older = connect(("127.0.0.1", port), 0, end=ends[0])
    ask(older, "/before/0")
    with traced(*(argument.format(pid=pid, port=port) for argument in arguments)) as got:
        ask(older, "/old/0")
        for number, end in enumerate(ends[1:]):
            ask(connect(("127.0.0.1", port), 0, end=end), f"/new/{number}")
    if alone:  # nothing leads to a namespace without processes: docs/LIMITS.md
        return [f"a span: {path_of(span)} {span['kind']}" for span in got.spans.all]
    return got.spans.chains(["/old/0", *(f"/new/{number}" for number in range(4))], [("moved", "server", pid)])


@case
def listener_of_another_network():
    return moved("--pid", "{pid}")


@case
def listener_of_another_network_by_port():
    return moved("--port", "{port}", own=True)


@case
def listener_of_a_network_without_processes():
    return moved("--pid", "{pid}", alone=True)


PREFORK = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=200)
listener.settimeout(0.5)
master = os.getpid()

def serve():
    while os.getppid() == master:
        try:
            end = listener.accept()[0]
        except TimeoutError:
            continue
        end.recv(4096)
        end.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}")
        end.close()

for _ in range(20):
    if os.fork() == 0:
        serve()
        os._exit(0)
print("ready", flush=True)
while True:
    os.wait()
"""


@case
def workers_forked_right_after_the_listen():
    """The kernel side tells of the forks of selected processes, and this one is not yet: its word of the listen is on its way."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with traced("--port", str(port)) as got:
        begin(PYTHON, "-c", PREFORK, str(port), env={"PYTHONHOME": HOME})
        time.sleep(0.5)
        for number in range(40):
            ask(connect(("127.0.0.1", port), 0), f"/fork/{number}")
    seen = {path_of(span) for span in got.spans.all if span["kind"] == "server"}
    return [] if len(seen) == 40 else [f"{len(seen)} of 40 requests have a span"]


@case
def started_by_a_shell_that_is_selected():
    """Everything is, but spanwire itself: what it serves has its client's span alone."""
    shell = ["sh", "-c", 'trap "kill -TERM \\$child" TERM; "$@" & child=$!; wait $child; wait $child', "sh"]
    with traced("--exe", "*", prefix=shell) as got:
        for _ in range(3):
            got.tracer.metrics()
    kinds = collections.Counter(span["kind"] for span in got.spans.of["/internal/metrics"])
    return [] if kinds == {"client": 3} else [f"3 requests to spanwire: {dict(kinds)}"]


def main():
    global binary
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=BINARY)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    arguments = parser.parse_args()
    binary = arguments.binary
    need_root(len(CASES))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = skipped = 0
    chosen = {name: function for name, function in CASES.items() if not arguments.cases or name in arguments.cases}
    for name, function in chosen.items():
        begun = time.monotonic()
        missing = [tool for tool in ("unshare", "nsenter", "ip") if not shutil.which(tool)]
        try:
            with open_things:
                if missing:
                    raise Skip(f"{missing[0]} is not there")
                problems = function()
        except Skip as why:
            print(f"skip   {name}: {why}")
            skipped += 1
            continue
        except (OSError, RuntimeError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as error:
            problems = [repr(error)]
        failed += bool(problems)
        print(f"{'FAILED' if problems else 'ok':<7}{name} ({time.monotonic() - begun:.1f} s)", flush=True)
        for problem in problems[:6]:
            print(f"       {problem}")
        if len(problems) > 6:
            print(f"       and {len(problems) - 6} more")
    print(f"{len(chosen)} tests, {failed} failed, {skipped} skipped")
    return int(bool(failed))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(**json.loads(sys.argv[2]))
    else:
        sys.exit(main())
