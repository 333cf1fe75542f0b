"""Objects of a cluster, made as controllers, schedulers and kubelets make them: through the API server, by an administrator."""
import http.client
import json
import os
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

POD_TEMPLATE_HASH = "5d4f8c7b9"
# What the pods of real clusters carry besides: it decides what a list of them costs.
BULK = {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{" + "x" * 1200 + "}", "checksum/config": "0" * 64},
        "labels": {"pod-template-hash": POD_TEMPLATE_HASH, "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "web-1.2.3"}}


class ApiError(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body[:300]}")
        self.status = status


def timestamp(seconds=None):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def plural(group, namespace, kind, name=""):
    base = "/api/v1" if group == "v1" else f"/apis/{group}"
    return f"{base}/{f'namespaces/{namespace}/' if namespace else ''}{kind}{f'/{name}' if name else ''}"


class Cluster:
    """`port`: another API server of the same etcd; `token`: another user."""

    def __init__(self, plane, port=None, token=None):
        self.plane, self.port, self.token = plane, port or plane.port, token or plane.admin_token
        self.local, self.context = threading.local(), plane.context()

    def call(self, method, path, body=None, kind="application/json", stream=False):
        for attempt in range(2):
            connection = None if stream else getattr(self.local, "connection", None)
            kept = connection is not None
            connection = connection or http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=30)
            if not stream:
                self.local.connection = connection
            try:
                connection.request(method, path, body and json.dumps(body), {"Authorization": f"Bearer {self.token}", "Content-Type": kind})
                answer = connection.getresponse()
                if stream and answer.status < 300:
                    return answer
                data = answer.read()
                break
            except (OSError, http.client.HTTPException):
                connection.close()
                self.local.connection = None
                if attempt or not kept:  # the server may have been another one since
                    raise
        if answer.status >= 300:
            raise ApiError(answer.status, data.decode(errors="replace"))
        return json.loads(data)

    def patch(self, path, body):
        return self.call("PATCH", path, body, "application/merge-patch+json")

    def apply(self, path, body):
        """Made, unless it is there."""
        try:
            return self.call("POST", path, body)
        except ApiError as error:
            if error.status != 409:
                raise
        return self.call("GET", f"{path}/{body['metadata']['name']}")

    def watch(self, path):
        """(type, object) of each event, until the server ends it."""
        with self.call("GET", path, stream=True) as answer:
            for line in answer:
                event = json.loads(line)
                yield event["type"], event["object"]

    # ---- what there is in every cluster

    def namespace(self, name):
        return self.apply("/api/v1/namespaces", {"metadata": {"name": name}})

    def node(self, name, host_name=None):
        labels = {"kubernetes.io/hostname": host_name or name, "kubernetes.io/os": "linux"}
        self.apply("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        status = {"addresses": [{"type": "InternalIP", "address": "10.0.0.9"}, {"type": "Hostname", "address": host_name or name}],
                  "nodeInfo": {"machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "", "operatingSystem": "linux",
                               "architecture": "amd64", "containerRuntimeVersion": "containerd://2.0.0", "kubeletVersion": "v1.34.0",
                               "kubeProxyVersion": ""}}
        return self.patch(f"/api/v1/nodes/{name}/status", {"status": status})

    def account(self, namespace, name, rules=()):
        """A service account with the rights of `rules`, in the whole cluster."""
        self.namespace(namespace)
        made = self.apply(plural("v1", namespace, "serviceaccounts"), {"metadata": {"name": name}})
        if rules:
            self.apply("/apis/rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": f"{namespace}-{name}"}, "rules": list(rules)})
            self.grant(namespace, name)
        return made

    def grant(self, namespace, name):
        self.apply("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
            "metadata": {"name": f"{namespace}-{name}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"{namespace}-{name}"},
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}]})

    def revoke(self, namespace, name):
        self.call("DELETE", f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{namespace}-{name}")

    def token_of(self, namespace, account, seconds=3600):
        path = plural("v1", namespace, "serviceaccounts", account) + "/token"
        return self.call("POST", path, {"spec": {"expirationSeconds": seconds}})["status"]["token"]

    # ---- workloads

    def owner(self, kind, name, namespace, controller=True, labels=None):
        """The reference to an owner, which is made."""
        template = {"metadata": {"labels": {"rig": name}}, "spec": {"containers": [{"name": "app", "image": "rig"}], "restartPolicy": "Always"}}
        spec = {"selector": {"matchLabels": {"rig": name}}, "template": template}
        group = "apps/v1"
        if kind == "StatefulSet":
            spec["serviceName"] = name
        elif kind == "ReplicaSet":
            spec["replicas"] = 0
        elif kind == "Job":
            group, spec = "batch/v1", {"template": {"spec": {**template["spec"], "restartPolicy": "Never"}}}
        made = self.apply(plural(group, namespace, f"{kind.lower()}s"), {"metadata": {"name": name, "labels": labels or {}}, "spec": spec})
        return {"apiVersion": group, "kind": kind, "name": name, "uid": made["metadata"]["uid"], "controller": controller, "blockOwnerDeletion": True}

    def pod(self, namespace, name, node, containers=("app",), labels=None, annotations=None, owners=(), host_network=False, init=()):
        """A pod that the scheduler has bound; no container of it runs yet."""
        def image(name):
            return {"name": name, "image": "registry.example/rig:1", "resources": {"requests": {"cpu": "1m"}}}

        body = {"metadata": {"name": name, "labels": labels or {}, "annotations": annotations or {}, "ownerReferences": list(owners)},
                "spec": {"nodeName": node, "hostNetwork": host_network, "containers": [image(one) for one in containers],
                         "initContainers": [image(one) for one in init], "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 30}}
        return self.call("POST", plural("v1", namespace, "pods"), body)

    def running(self, pod, ids, address="10.0.0.10", started=None, runtime="containerd"):
        """What a kubelet says once containers run: `ids` is {container: id}."""
        begun = timestamp(started)
        inits = {one["name"] for one in pod["spec"].get("initContainers", [])}
        rows = [{"name": name, "containerID": f"{runtime}://{identity}", "image": "rig", "imageID": "", "ready": True, "restartCount": 0,
                 "started": True, "state": {"running": {"startedAt": begun}}} for name, identity in ids.items()]
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": "10.0.0.9", "startTime": begun,
                  "containerStatuses": [row for row in rows if row["name"] not in inits],
                  "initContainerStatuses": [row for row in rows if row["name"] in inits]}
        return self.patch(self.path(pod) + "/status", {"status": status})

    def path(self, pod):
        return plural("v1", pod["metadata"]["namespace"], "pods", pod["metadata"]["name"])

    def change(self, pod, labels=None, annotations=None):
        return self.patch(self.path(pod), {"metadata": {"labels": labels or {}, "annotations": annotations or {}}})

    def delete(self, pod, grace=0):
        return self.call("DELETE", f"{self.path(pod)}?gracePeriodSeconds={grace}")

    # ---- many

    def many(self, namespace, prefix, node, count, first=0):
        """Pods with running containers; `node`: by number of the pod."""
        def make(number):
            pod = self.pod(namespace, f"{prefix}-{number}", node(number), labels={**BULK["labels"], "app.kubernetes.io/name": prefix},
                           annotations=BULK["annotations"])
            return self.running(pod, {"app": secrets.token_hex(32)})

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(make, range(first, first + count)))


def account_directory(directory, plane, token, namespace):
    """What a kubelet mounts into a pod at /var/run/secrets/kubernetes.io/serviceaccount: links to a directory that is replaced as a whole."""
    data = Path(directory, "..data-1")
    data.mkdir(parents=True)
    (data / "ca.crt").write_bytes((plane.directory / "ca.crt").read_bytes())
    (data / "namespace").write_text(namespace)
    (data / "token").write_text(token)
    Path(directory, "..data").symlink_to("..data-1")
    for name in ("ca.crt", "namespace", "token"):
        Path(directory, name).symlink_to(f"..data/{name}")
    return Path(directory)


def rotate(directory, token):
    """A new token, as the kubelet brings it."""
    old = Path(os.readlink(directory / "..data"))
    number = int(old.name.rsplit("-", 1)[1]) + 1
    data = directory / f"..data-{number}"
    data.mkdir()
    for name in ("ca.crt", "namespace"):
        (data / name).write_bytes((directory / old / name).read_bytes())
    (data / "token").write_text(token)
    (directory / "..data-new").symlink_to(data.name)
    os.rename(directory / "..data-new", directory / "..data")
