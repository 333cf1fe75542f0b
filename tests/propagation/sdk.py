#!/usr/bin/env python3
"""Services with an OpenTelemetry SDK join as parents and as children, sampled and not.

    tests/propagation/sdk.py [--requests N] [python|node|java|go|go-old]...

front → service → back: front and back are plain and seen by spanwire, the service has an SDK of its own that
exports for itself; it is looked at by spanwire too, or not. All spans of a request are one chain.
"""
import argparse
import atexit
import collections
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from clients import VENV, wait_for  # noqa: E402
from lib.tracer import Tracer, free_port, need_root  # noqa: E402

APPS = HERE.parent / "apps/sdk"
MODULES = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "spanwire/sdk"
LANGUAGES = {
    "python": [VENV, str(APPS / "service.py")],
    "node": ["node", str(MODULES / "service.mjs")],
    "java": ["java", "-cp", f"{MODULES}/java:{MODULES}/java/lib/*", "Service"],
    "go": [str(MODULES / "go/service")],
    "go-old": [str(MODULES / "go-old/service")],
}
# Before 1.42 it drops the flags 03.
SETTINGS = {"go-old": {"spanwire.random_flag": "false"}}


def fetch(directory, files, ready, *command):
    """Copies `files` and runs `command` there, unless `ready` is there already. Why it fails; None if it does not."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in files:
        shutil.copy(APPS / name, directory)
    if (directory / ready).exists():
        return None
    if not shutil.which(command[0]):
        return f"{command[0]} is not there"
    done = subprocess.run(command, cwd=directory, capture_output=True)
    said = (done.stderr or done.stdout)[-300:].decode(errors="replace")
    return f"{command[0]} fails: {said}" if done.returncode else None


def install(language):
    """Why the language cannot be had; None if it can."""
    if language == "python":
        found = subprocess.run([VENV, "-c", "import opentelemetry.sdk.trace"], stderr=subprocess.DEVNULL).returncode == 0
        return None if found else "opentelemetry-sdk is not there: tests/setup test"
    if language == "node":
        return fetch(MODULES, ["package.json", "service.mjs"], "node_modules/@opentelemetry/sdk-trace-base",
                     "npm", "install", "--silent", "--no-audit", "--no-fund")
    if language in ("go", "go-old"):
        modules = "go" if language == "go" else "go/old"
        return fetch(MODULES / language, [f"{modules}/go.mod", f"{modules}/go.sum", "go/main.go"], "service",
                     "go", "build", "-o", "service", ".")
    java = MODULES / "java"
    return fetch(java, ["java/pom.xml", "java/Service.java"], "lib", "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib") \
        or fetch(java, [], "Service.class", "javac", "-cp", "lib/*", "Service.java")


class Chain:
    """The three services; `sdk` is what the one in the middle wrote."""

    def __init__(self, language, sampler):
        self.port, middle, back = free_port(), free_port(), free_port()
        self.middle = middle
        self.out = tempfile.TemporaryFile()
        plain = [sys.executable, str(HERE / "hosts.py"), "--serve"]
        commands = {"back": [*plain, str(back), ""], "sdk": [*LANGUAGES[language], str(middle), f"127.0.0.1:{back}", sampler],
                    "front": [*plain, str(self.port), f"127.0.0.1:{middle}"]}
        self.processes = {}
        for name, command in commands.items():
            self.processes[name] = subprocess.Popen(command, stdout=self.out if name == "sdk" else None, env={**os.environ, "OTEL_SERVICE_NAME": name})
            atexit.register(self.processes[name].kill)
        for port in (back, middle, self.port):
            wait_for(port)

    def pids(self, *names):
        return ",".join(str(self.processes[name].pid) for name in names)

    def ask(self, port, prefix, count, level, **headers):
        faults = []

        def one(worker):
            for number in range(worker, count, level):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                try:
                    connection.request("GET", f"/{prefix}-{number}", headers=headers)
                    if connection.getresponse().status != 200:
                        faults.append(number)
                except OSError as error:
                    faults.append(repr(error))
                connection.close()

        workers = [threading.Thread(target=one, args=(worker,)) for worker in range(level)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return len(faults)

    def end(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.out.seek(0)
        return [{**json.loads(line), "service": "sdk-own"} for line in self.out.read().splitlines()]


def by_request(spans):
    of = collections.defaultdict(dict)
    for span in spans:
        attributes = span.get("attributes", {})
        path = span["name"] if span["service"] == "sdk-own" else attributes.get("url.path", attributes.get("url.full", ""))
        of[path.rsplit("/", 1)[-1]].setdefault((span["service"], span["kind"]), []).append(span)
    return of


def linked(chain):
    return all(len(one) == 1 for one in chain) and all(
        after[0]["trace_id"] == before[0]["trace_id"] and after[0]["parent_span_id"] == before[0]["span_id"]
        for before, after in zip(chain, chain[1:]))


FROM_FRONT = [("front", "server"), ("front", "client"), ("sdk-own", "server"), ("sdk-own", "client"), ("back", "server")]


def run(language, both, requests):
    faults = []
    names = ("front", "sdk", "back") if both else ("front", "back")
    chain = Chain(language, "on")
    tracer = Tracer("--pid", chain.pids(*names), settings={"ebpf.context_propagation": "headers", "ebpf.disable_black_box_cp": "true", **SETTINGS.get(language, {})})
    errors = sum(chain.ask(chain.port, f"front{level}", requests, level) for level in (1, 8, 64))
    errors += chain.ask(chain.middle, "root", requests, 8)
    off = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    errors += chain.ask(chain.port, "off", 20, 4, traceparent=off)
    spans = tracer.finish(1)
    of = by_request(spans + chain.end())
    complete = sum(linked([of[f"front{level}-{number}"].get(key, []) for key in FROM_FRONT]) for level in (1, 8, 64) for number in range(requests))
    roots = sum(linked([of[f"root-{number}"].get(key, []) for key in FROM_FRONT[2:]]) for number in range(requests))
    unsampled = sum(len(of[f"off-{number}"]) for number in range(20))
    if both:  # what spanwire sees of the SDK's call is the span that the SDK announced
        for number in range(requests):
            own, seen = of[f"root-{number}"].get(("sdk-own", "client")), of[f"root-{number}"].get(("sdk", "client"))
            if not own or not seen or own[0]["span_id"] != seen[0]["span_id"]:
                faults.append(f"root-{number}: the client span is not the SDK's")
    if complete != 3 * requests or roots != requests or unsampled or errors:
        faults.append("not every chain is whole")
    text = f"{3 * requests} requests through front, {complete} complete; {requests} from the SDK, {roots} complete; " \
           f"{unsampled} spans of 20 that are not sampled; {errors} application errors"

    chain = Chain(language, "off")
    tracer = Tracer("--pid", chain.pids("back"), settings={"ebpf.context_propagation": "headers"})
    errors = chain.ask(chain.middle, "root", 20, 4)
    spans = tracer.finish(1) + chain.end()
    if spans or errors:
        faults.append(f"the SDK decided not to sample, and there are {len(spans)} spans, {errors} errors")
    print("FAILED" if faults else "ok    ", f"{language}, {'seen by spanwire too' if both else 'with its SDK alone'}: {text}", *faults[:3])
    return bool(faults)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("languages", nargs="*", choices=[*LANGUAGES, []])
    arguments = parser.parse_args()
    need_root(len(LANGUAGES))
    failed = skipped = 0
    for language in arguments.languages or LANGUAGES:
        if reason := install(language):
            print(f"skip    {language}: {reason}")
            skipped += 1
            continue
        for both in (False, True):
            failed += run(language, both, arguments.requests)
    print(f"{len(LANGUAGES)} SDKs, {failed} failed, {skipped} skipped")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
