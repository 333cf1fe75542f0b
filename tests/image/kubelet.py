"""The container of a pod as podman's flags: what a kubelet asks of its runtime. A field that is not known here is an error, not ignored."""
import socket
from pathlib import Path

# For the scheduler, the API server or the registry: nothing that the container would notice.
OTHERS = {"serviceAccountName", "automountServiceAccountToken", "tolerations", "nodeSelector", "affinity", "priorityClassName",
          "imagePullSecrets", "dnsPolicy", "terminationGracePeriodSeconds", "containers", "volumes"}
HERE = {"name", "image", "command", "args", "imagePullPolicy", "terminationMessagePolicy", "ports", "startupProbe", "livenessProbe", "readinessProbe",
        "env", "resources", "securityContext", "volumeMounts"}
POD_IP = "127.0.0.2"
FIELDS = {"spec.nodeName": socket.gethostname(), "status.podIP": POD_IP}
PROFILES = {"Unconfined": "unconfined"}


def known(what, fields, names):
    if set(fields) - names:
        raise ValueError(f"{what}: {sorted(set(fields) - names)} would be ignored")


def source(volume, maps, directory):
    if "hostPath" in volume:
        known("hostPath", volume["hostPath"], {"path"})
        return volume["hostPath"]["path"]
    wanted = volume["configMap"]
    data = maps[wanted["name"]]["data"]
    place = Path(directory, volume["name"])
    place.mkdir()
    for item in wanted.get("items", [{"key": key, "path": key} for key in data]):
        (place / item["path"]).write_text(data[item["key"]])
    return place


def security(context):
    known("securityContext", context, {"privileged", "runAsUser", "runAsGroup", "readOnlyRootFilesystem", "allowPrivilegeEscalation",
                                       "capabilities", "seccompProfile", "appArmorProfile"})
    if context.get("privileged"):
        yield "--privileged"
    if "runAsUser" in context:
        yield f"--user={context['runAsUser']}:{context.get('runAsGroup', 0)}"
    if context.get("readOnlyRootFilesystem"):
        yield from ("--read-only", "--read-only-tmpfs=false")
    if context.get("allowPrivilegeEscalation") is False:
        yield "--security-opt=no-new-privileges"
    for name, flag in (("drop", "--cap-drop"), ("add", "--cap-add")):
        yield from (f"{flag}={capability}" for capability in context.get("capabilities", {}).get(name, []))
    # Without a profile a kubelet asks for none, unless it was started with --seccomp-default.
    yield f"--security-opt=seccomp={PROFILES[context.get('seccompProfile', {'type': 'Unconfined'})['type']]}"


def container(documents, directory):
    """(flags, image, command) of a DaemonSet's only container."""
    maps = {one["metadata"]["name"]: one for one in documents if one["kind"] == "ConfigMap"}
    pod = next(one for one in documents if one["kind"] == "DaemonSet")["spec"]["template"]["spec"]
    known("pod", pod, OTHERS | {"hostPID", "hostNetwork"})
    (one,) = pod["containers"]
    known("container", one, HERE)
    flags = [f"--{name}=host" for name, field in (("pid", "hostPID"), ("network", "hostNetwork")) if pod.get(field)]
    flags += security(one.get("securityContext", {}))
    if limit := one.get("resources", {}).get("limits", {}).get("memory"):
        flags += [f"--memory={int(limit.removesuffix('Mi')) << 20}b"]
    for variable in one.get("env", []):
        value = variable["value"] if "value" in variable else FIELDS[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        flags.append(f"--env={variable['name']}={value}")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in one["volumeMounts"]:
        known("volumeMounts", mount, {"name", "mountPath", "readOnly"})
        place = source(volumes[mount["name"]], maps, directory)
        flags.append(f"--volume={place}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}")
    command = one.get("command", [])
    if command:
        flags.append(f"--entrypoint={command[0]}")
    return flags, one["image"], [*command[1:], *one.get("args", [])]


def probes(documents):
    """(kind, URL) of each httpGet, as the kubelet of the node asks."""
    (one,) = next(one for one in documents if one["kind"] == "DaemonSet")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in one.get("ports", [])}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        if kind in one:
            get = one[kind]["httpGet"]
            yield kind, f"http://{get.get('host', POD_IP)}:{ports.get(get['port'], get['port'])}{get['path']}"
