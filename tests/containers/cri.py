"""Asks a container runtime as the kubelet does: a pod with one container is started, or goes.

    cri.py SOCKET start < {"name", "namespace", "pod", "uid", "parent", "image", "command", "env"}      prints the ids of both
    cri.py SOCKET remove SANDBOX
"""
import json
import sys

import grpc

NODE = {1: 2, 2: 0, 3: 2}  # network and IPC of the node


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def encode(message):
    """{field: number, text, message, or a list of those}"""
    out = b""
    for field, values in message.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                out += varint(field << 3) + varint(value)
            else:
                data = value.encode() if isinstance(value, str) else encode(value)
                out += varint(field << 3 | 2) + varint(len(data)) + data
    return out


def identity(answer):
    """The one field of the answers that matter here is shorter than 128 bytes."""
    return answer[2:2 + answer[1]].decode() if answer else ""


def entries(strings):
    return [{1: key, 2: value} for key, value in strings.items()]


def main():
    address, verb, *rest = sys.argv[1:]
    channel = grpc.insecure_channel(f"unix://{address}")

    def call(method, message):
        stub = channel.unary_unary(f"/runtime.v1.RuntimeService/{method}", request_serializer=encode, response_deserializer=identity)
        return stub(message, timeout=60, wait_for_ready=True)

    if verb == "remove":
        call("StopPodSandbox", {1: rest[0]})
        call("RemovePodSandbox", {1: rest[0]})
        return
    asked = json.load(sys.stdin)
    of_pod = {"io.kubernetes.pod.name": asked["pod"], "io.kubernetes.pod.namespace": asked["namespace"], "io.kubernetes.pod.uid": asked["uid"]}
    pod = {1: {1: asked["pod"], 2: asked["uid"], 3: asked["namespace"]}, 6: entries(of_pod), 8: {1: asked["parent"], 2: {1: NODE}}}
    sandbox = call("RunPodSandbox", {1: pod})
    container = {1: {1: asked["name"]}, 2: {1: asked["image"]}, 3: asked["command"], 6: entries(asked["env"]),
                 9: entries({**of_pod, "io.kubernetes.container.name": asked["name"]}), 15: {2: {3: NODE}}}
    started = call("CreateContainer", {1: sandbox, 2: container, 3: pod})
    call("StartContainer", {1: started})
    print(sandbox, started)


if __name__ == "__main__":
    main()
