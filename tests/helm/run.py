#!/usr/bin/env python3
"""The Helm chart by Helm's own library: lint, what is rendered, what Kubernetes and spanwire say to that, and values that are refused.

    tests/helm/run.py        in the venv of `tests/setup helm`; SPANWIRE_BLESS=1 writes the expected manifests anew
"""
import difflib
import itertools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from chart import CHART, CURRENT, HERE, ROOT, Chart, RenderError, documents, lint, render, versions
from kubernetes_validate import utils

import conventions
import server

sys.path.insert(0, str(ROOT / "tests"))
from lib.tracer import BINARY  # noqa: E402

CASES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((HERE / "cases").glob("*.yaml"))}
SMALLEST = {"endpoint": "http://collector:4317", "config": {"open_port": 80}}
NO_SCHEMA = {"PodMonitor", "ServiceMonitor"}  # of the Prometheus operator: conventions.monitors() looks at them
MANIFEST = ROOT / "packaging/kubernetes/daemonset.yaml"
MANIFEST_HEAD = """\
# spanwire on every node, for kubectl apply: Kubernetes 1.30 and newer. Made from the Helm chart (make test-helm keeps it fresh);
# docs/KUBERNETES.md says what each part is for. Change before use: the image, the endpoint, and in the ConfigMap what is traced.
---
apiVersion: v1
kind: Namespace
metadata:
  name: observability
  labels:
    # hostPID, host paths and the capabilities are more than the other levels allow.
    pod-security.kubernetes.io/enforce: privileged
"""


def same(path, text):
    """Differences from what is committed; blessed where asked for."""
    if os.environ.get("SPANWIRE_BLESS"):
        path.write_text(text)
    before = path.read_text() if path.exists() else ""
    return [line.rstrip("\n") for line in difflib.unified_diff(before.splitlines(True), text.splitlines(True), str(path.name), "rendered")]


def linted():
    reports = {"chart": lint()} | {name: lint(values) for name, values in CASES.items()}
    return [f"{name}: {message['error']}" for name, report in reports.items() for message in report["messages"] if message["severity"] > 1]


def versioned():
    """The chart installs the image of this spanwire."""
    with Chart.load(CHART) as chart:
        said = chart.metadata["appVersion"]
    wanted = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    return [] if said == wanted else [f"appVersion {said}, not {wanted}"]


def valid(text, version):
    problems = []
    for one in documents(text):
        if one["kind"] not in NO_SCHEMA:
            try:
                utils.validate(one, version, strict=True)
            except utils.ValidationError as error:
                problems.append(f"{version} {utils.kn(one)}: {'.'.join(map(str, error.path))}: {error.message}")
    return problems


def container(text):
    return next(one for one in documents(text) if one["kind"] == "DaemonSet")["spec"]["template"]["spec"]


def read_by_spanwire(text):
    """The ConfigMap and the container's environment, through the program that will read them."""
    maps = [one for one in documents(text) if one["kind"] == "ConfigMap"]
    pod = container(text)
    variables = {one["name"]: one.get("value", "192.0.2.1") for one in pod["containers"][0]["env"]}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "config.yaml")
        file.write_text(maps[0]["data"]["config.yaml"] if maps else "open_port: 80\ntrace_printer: text\n")
        outcome = {words: subprocess.run([BINARY, "config", *words, "--config", file], env=variables, capture_output=True, text=True)
                   for words in ((), ("check",))}
    said = outcome[()]
    problems = [line for line in said.stderr.splitlines() if line] + ([f"status {said.returncode}"] if said.returncode else [])
    in_force = dict(re.findall(r"^(\S+): (.*?)(?:  # .*)?$", said.stdout, re.M))
    port = variables.get("OTEL_EBPF_HEALTH_CHECK_PORT", "0")
    if in_force.get("health_check.port") != port:
        problems.append(f"health_check.port: {in_force.get('health_check.port')}, not {port}")
    grace, shutdown = pod["terminationGracePeriodSeconds"], in_force.get("shutdown_timeout", "")
    if not re.fullmatch(r"\d+s", shutdown) or grace <= int(shutdown[:-1]):
        problems.append(f"terminationGracePeriodSeconds: {grace}, with a shutdown_timeout of {shutdown}")
    check = outcome[("check",)]
    return problems + ([f"config check: status {check.returncode}: {check.stderr}"] if check.returncode and has_config_check() else [])


def has_config_check():
    return "check" in subprocess.run([BINARY, "config", "--help"], capture_output=True, text=True).stdout


def merged(below, above):
    def both(key, value):
        return merged(below.get(key) or {}, value) if isinstance(value, dict) and value else value
    return {**below, **{key: both(key, value) for key, value in above.items()}}


def refused(values, says):
    try:
        render(merged(SMALLEST, values))
    except RenderError as error:
        return [] if says in str(error) else [f"says something else: {error}"]
    return ["is taken"]


def taken(values):
    """By the chart, and the schema of Kubernetes."""
    try:
        return valid(render(merged(SMALLEST, values)), CURRENT)
    except RenderError as error:
        return [str(error)]


def leaves(values, path=()):
    for key, value in values.items():
        if isinstance(value, dict) and value and path + (key,) not in {("resources", "limits"), ("resources", "requests")}:
            yield from leaves(value, path + (key,))
        else:
            yield ".".join(path + (key,))


def documented():
    """Every value has a row in the chart's README, and every row a value."""
    rows = set(re.findall(r"^\| `([^`]+)`", (CHART / "README.md").read_text(), re.M))
    names = {name for name in leaves(yaml.safe_load((CHART / "values.yaml").read_text()))}
    together = r"^(startupProbe|livenessProbe|readinessProbe|nodeSelector|updateStrategy|securityContext\.\w+)\b.*"
    names = {re.sub(together, r"\1", name) for name in names}
    names = {re.sub(r"^metrics\.(pod|service)Monitor\.", "metrics.*Monitor.", name) for name in names}
    return [f"not in README.md: {name}" for name in sorted(names - rows)] + [f"not in values.yaml: {name}" for name in sorted(rows - names)]


def tests():
    yield "lint", linted
    yield "appVersion", versioned
    yield "README.md has each value", documented
    for name, values in CASES.items():
        text = render(values)
        yield f"{name}: as committed", lambda: same(HERE / f"rendered/{name}.yaml", text)
        yield f"{name}: conventions", lambda: conventions.problems(documents(text))
        yield f"{name}: read by spanwire", lambda: read_by_spanwire(text)
        for version in versions():
            yield f"{name}: Kubernetes {version}", lambda: valid(render(values, version), version)
    yield "the plain manifest is the default case", lambda: same(MANIFEST, MANIFEST_HEAD + render(CASES["default"], notes=False))
    for values in yaml.safe_load((HERE / "taken.yaml").read_text()):
        yield f"taken: {values}", lambda: taken(values)
    for one in yaml.safe_load((HERE / "refused.yaml").read_text()):
        yield f"refused: {one['values']}", lambda: refused(**one)


def before_a_server(api):
    """`api`: a real API server."""
    namespace, *plain = documents(MANIFEST.read_text())
    yield "the plain manifest's namespace", lambda: api.create(namespace, dry=False)
    yield "the plain manifest before an API server", lambda: api.refuses(plain)
    for name, values in CASES.items():
        rendered = documents(render(values, api.version))
        yield f"{name}: before an API server {api.version}", lambda: api.refuses(rendered)
    default = documents(render(CASES["default"], api.version))
    yield "the API server looks closely", lambda: api.knows_better(default)
    yield "the pods' account", lambda: api.access(default)


def main():
    with server.running() as (api, why):
        skipped = 0 if api else len(CASES) + 4
        if skipped:
            print(f"skip   {skipped} tests before an API server: {why}")
        return run(itertools.chain(tests(), before_a_server(api) if api else []), skipped)


def run(all_tests, skipped):
    count = failed = 0
    for name, test in all_tests:
        problems = test()
        count += 1
        failed += bool(problems)
        if problems:
            print(f"FAILED {name}")
            print("\n".join(f"       {line}" for line in problems[:40]))
        elif ": Kubernetes " not in name and not name.startswith(("refused: ", "taken: ")):
            print(f"ok     {name}")
    if not has_config_check():
        print(f"skip   config check of {len(CASES)} cases: this spanwire has no such command")
        skipped += len(CASES)
    print(f"{count + skipped} tests, {failed} failed, {skipped} skipped; Kubernetes {versions()[0]} to {versions()[-1]}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
