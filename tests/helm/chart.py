"""The chart, rendered and linted by Helm's own library."""
import json
from pathlib import Path

import yaml
from helm_python import _native
from helm_python.chart import Chart
from helm_python.chart import lint as helm_lint
from helm_python.errors import HelmError as RenderError
from kubernetes_validate import utils

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHART = ROOT / "packaging/helm/spanwire"
CURRENT = "1.30"  # the oldest with all fields that the chart uses

__all__ = ["CHART", "CURRENT", "HERE", "ROOT", "Chart", "RenderError", "documents", "lint", "render", "versions"]


def lint(values=None):
    return helm_lint(CHART, values, strict=True, kube_version=f"v{CURRENT}.0")


def render(values, version=CURRENT, notes=True):
    """One text of all manifests. The wrapper of the library's render() has no way to say the version of Kubernetes; what it wraps has."""
    options = {"name": "spanwire", "namespace": "observability", "kube_version": f"v{version}.0"}
    with Chart.load(CHART) as chart:
        files = json.loads(_native.call_string("helm_render", chart._raw(), json.dumps(values), json.dumps(options)))
    said = "".join(f"# {line}".rstrip() + "\n" for path, text in files.items() if path.endswith("NOTES.txt") for line in text.strip().splitlines())
    manifests = [text.strip() for path, text in sorted(files.items()) if path.endswith(".yaml") and text.strip()]
    return (said if notes else "") + "".join(f"---\n{text}\n" for text in manifests)


def documents(text):
    return [one for one in yaml.safe_load_all(text) if one]


def versions():
    """From the oldest that Chart.yaml allows to the newest that can be validated."""
    oldest = Chart.load(CHART).metadata["kubeVersion"].removeprefix(">=").split(".")[1]
    newest = utils.latest_version().split(".")[1]
    return [f"1.{minor}" for minor in range(int(oldest), int(newest) + 1)]
