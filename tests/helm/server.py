"""The manifests before a real API server: field by field as kubectl asks for it, and by what its validation knows beyond schemas."""
import contextlib
import http.client
import json
import sys
from copy import deepcopy

from chart import ROOT

sys.path.insert(0, str(ROOT / "tests/kube"))
PLACES = {
    "Namespace": ("/api/v1", "namespaces"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"), "ConfigMap": ("/api/v1", "configmaps"), "Service": ("/api/v1", "services"),
    "DaemonSet": ("/apis/apps/v1", "daemonsets"), "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
}
# What spanwire asks for, and what it must not be given.
ALLOWED = ["/api/v1/pods?fieldSelector=spec.nodeName%3Dhere", "/api/v1/pods?watch=true&timeoutSeconds=1", "/api/v1/nodes", "/api/v1/nodes/here"]
FORBIDDEN = ["/api/v1/secrets", "/api/v1/configmaps", "/api/v1/services", "/apis/apps/v1/daemonsets", "/api/v1/nodes?watch=true&timeoutSeconds=1"]


@contextlib.contextmanager
def running():
    """A server, or the reason why there is none."""
    try:
        from control_plane import ControlPlane

        class Plane(ControlPlane):
            def launch(self, port, *flags):
                return super().launch(port, "--allow-privileged=true", *flags)

        plane = Plane()
    except (ImportError, FileNotFoundError) as error:
        yield None, str(error)
        return
    try:
        yield Server(plane), ""
    finally:
        plane.close()


class Server:
    def __init__(self, plane):
        self.plane = plane

    @property
    def version(self):
        """1.34 of 1.34.4"""
        return ".".join(self.call("GET", "/version")[1]["gitVersion"].lstrip("v").split(".")[:2])

    def call(self, method, path, body=None, token=None):
        connection = http.client.HTTPSConnection("127.0.0.1", self.plane.port, context=self.plane.context(), timeout=20)
        headers = {"Authorization": f"Bearer {token or self.plane.admin_token}", "Content-Type": "application/json"}
        connection.request(method, path, body and json.dumps(body), headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, json.JSONDecoder().raw_decode(data.decode() or "{}")[0]  # a watch has several

    def create(self, one, dry=True):
        """What the server has against it."""
        if one["kind"] not in PLACES:
            return []
        group, plural = PLACES[one["kind"]]
        namespace = one["metadata"].get("namespace")
        inside = f"/namespaces/{namespace}" if namespace else ""
        status, said = self.call("POST", f"{group}{inside}/{plural}?fieldValidation=Strict{'&dryRun=All' if dry else ''}", one)
        return [] if status == 201 else [f"{one['kind']}: {status}: {said.get('message')}"]

    def refuses(self, documents):
        return [problem for one in documents for problem in self.create(one)]

    def knows_better(self, documents):
        """That it does refuse what no schema knows: a privileged container that may not gain privileges, a field that there is not."""
        daemon = next(one for one in documents if one["kind"] == "DaemonSet")
        contradicting, unknown = deepcopy(daemon), deepcopy(daemon)
        contradicting["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"] = True
        unknown["spec"]["template"]["spec"]["hostPid"] = True
        cases = ((contradicting, "`allowPrivilegeEscalation` to false and `privileged` to true"),
                 (unknown, 'unknown field "spec.template.spec.hostPid"'))
        said = [(" ".join(self.create(one)), words) for one, words in cases]
        return [f"says {answer!r}, not {words}" for answer, words in said if words not in answer]

    def access(self, documents):
        """What the pods' own account may do, by the chart's role."""
        kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")
        problems = [problem for one in documents if one["kind"] in kinds for problem in self.create(one, dry=False)]
        name = next(one["metadata"]["name"] for one in documents if one["kind"] == "ServiceAccount")
        wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        status, said = self.call("POST", f"/api/v1/namespaces/observability/serviceaccounts/{name}/token", wanted)
        if status != 201:
            return [*problems, f"no token: {said}"]
        token = said["status"]["token"]
        statuses = {path: self.call("GET", path, token=token)[0] for path in ALLOWED + FORBIDDEN}
        return problems + [f"{path}: {status}" for path, status in statuses.items() if (status == 403) != (path in FORBIDDEN)]
