"""What an API server, a kubelet or an operator would refuse or not find, and no schema says."""

RECOMMENDED = {"helm.sh/chart", *(f"app.kubernetes.io/{name}" for name in ("name", "instance", "version", "component", "managed-by"))}
CAPABILITIES = {"BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "NET_ADMIN"}


def problems(documents):
    kinds = {}
    for one in documents:
        kinds.setdefault(one["kind"], []).append(one)
    daemon = kinds["DaemonSet"][0]
    template = daemon["spec"]["template"]
    return [*labels(documents, daemon, template), *pod(template["spec"]), *security(template["spec"]["containers"][0]),
            *probes(template["spec"]), *access(kinds, template["spec"]), *monitors(kinds, template)]


def labels(documents, daemon, template):
    yield from (f"{one['kind']} lacks {name}" for one in documents for name in RECOMMENDED - set(one["metadata"]["labels"]))
    wanted = daemon["spec"]["selector"]["matchLabels"].items()
    if not wanted <= template["metadata"]["labels"].items():
        yield "the selector does not select its own pods"


def pod(spec):
    container = spec["containers"][0]
    mounted, there = {one["name"] for one in container["volumeMounts"]}, {one["name"] for one in spec["volumes"]}
    if mounted != there:
        yield f"volumes {there}, mounted {mounted}"
    if not spec["hostPID"]:
        yield "spanwire refuses a pid namespace of its own"
    if spec["hostNetwork"] and spec["dnsPolicy"] == "ClusterFirst":
        yield "with the host's network ClusterFirst falls back to Default, and services have no names"
    where = next(one["mountPath"] for one in container["volumeMounts"] if one["name"] == "config")
    path = next(one for one in spec["volumes"] if one["name"] == "config")["configMap"]["items"][0]["path"]
    if f"--config={where}/{path}" not in container["args"]:
        yield f"{container['args']} do not name {where}/{path}"
    names = [one["name"] for one in container["env"]]
    if len(names) != len(set(names)) or "NODE_NAME" not in names:
        yield f"environment: {names}"


def security(container):
    context = container["securityContext"]
    if context.get("privileged"):
        if context.get("allowPrivilegeEscalation") is False or "capabilities" in context:
            yield "a privileged container with limits"
    else:
        granted = context["capabilities"]
        if granted["drop"] != ["ALL"] or not set(granted["add"]) <= CAPABILITIES or context["allowPrivilegeEscalation"]:
            yield f"more than is needed: {context}"
    if not context["readOnlyRootFilesystem"] or context["runAsUser"]:
        yield f"{context}"


def probes(spec):
    container = spec["containers"][0]
    named = {one["name"]: one["containerPort"] for one in container.get("ports", [])}
    variables = {one["name"]: one for one in container["env"]}
    by_pod_ip = "OTEL_EBPF_HEALTH_CHECK_LISTEN_ADDRESS" in variables
    kinds = [kind for kind in ("startupProbe", "livenessProbe", "readinessProbe") if kind in container]
    if bool(named) != bool(kinds):
        yield f"ports {named}, probes {kinds}"
    for kind in kinds:
        get = container[kind]["httpGet"]
        if get["port"] not in named or str(named[get["port"]]) != variables["OTEL_EBPF_HEALTH_CHECK_PORT"]["value"]:
            yield f"{kind} asks another port than spanwire has"
        if by_pod_ip == ("host" in get) or get.get("host", "127.0.0.1") != "127.0.0.1":
            yield f"{kind} asks another address than spanwire listens on"
        if not by_pod_ip and not spec["hostNetwork"]:
            yield f"{kind} cannot reach the loopback of a pod"


def access(kinds, spec):
    for binding in kinds.get("ClusterRoleBinding", []):
        if binding["roleRef"]["name"] not in {one["metadata"]["name"] for one in kinds["ClusterRole"]}:
            yield "the binding names no role of ours"
        if binding["subjects"][0]["name"] != spec["serviceAccountName"]:
            yield "the binding is for another account than the pods'"
    for role in kinds.get("ClusterRole", []):
        allowed = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
        if allowed != {("pods", "get"), ("pods", "list"), ("pods", "watch"), ("nodes", "get"), ("nodes", "list")}:
            yield f"the role allows {sorted(allowed)}"
    if any(one["metadata"]["name"] != spec["serviceAccountName"] for one in kinds.get("ServiceAccount", [])):
        yield "the account made is not the pods'"


def monitors(kinds, template):
    container = template["spec"]["containers"][0]
    ports = {one["name"] for one in container.get("ports", [])}
    path = next((one["value"] for one in container["env"] if one["name"] == "OTEL_EBPF_INTERNAL_METRICS_PROMETHEUS_PATH"), None)
    services = kinds.get("Service", [])
    for service in services:
        if not service["spec"]["selector"].items() <= template["metadata"]["labels"].items():
            yield "the service selects no pods"
        if not {one["targetPort"] for one in service["spec"]["ports"]} <= ports:
            yield "the service leads to no port"
    asked = [(one, one["spec"]["podMetricsEndpoints"], [template["metadata"]["labels"]], ports) for one in kinds.get("PodMonitor", [])]
    asked += [(one, one["spec"]["endpoints"], [service["metadata"]["labels"] for service in services],
               {port["name"] for service in services for port in service["spec"]["ports"]}) for one in kinds.get("ServiceMonitor", [])]
    for monitor, endpoints, selectable, named in asked:
        if not any(monitor["spec"]["selector"]["matchLabels"].items() <= labels.items() for labels in selectable):
            yield f"{monitor['kind']} selects nothing"
        if any(one["port"] not in named or one["path"] != path for one in endpoints):
            yield f"{monitor['kind']} asks {endpoints}"
