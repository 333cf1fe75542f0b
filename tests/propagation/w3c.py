#!/usr/bin/env python3
"""W3C Trace Context, levels 1 and 2, through a service that has no instrumentation of its own.

    tests/propagation/w3c.py [NAME]...

Each case sends requests with header lines of its own to a service (one thread per request) that calls a
recording receiver; spanwire is the only thing in between that knows of traces. Written from the
specification: https://www.w3.org/TR/trace-context-2/
"""
import atexit
import http.client
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.tracer import Tracer, free_port, need_root  # noqa: E402

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = re.compile(r"traceparent: 00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-0([0-3])")
OWN = "traceparent: 00-11111111111111111111111111111111-2222222222222222-01"
CASES = []


def serve(port, receiver):
    """The service: calls the receiver as often as the path says, with the headers that X-Own-N give."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            for _ in range(int(self.path[1:])):
                connection = http.client.HTTPConnection("127.0.0.1", receiver)
                own = {name[6:]: value for name, value in self.headers.items() if name.startswith("X-Own-")}
                connection.request("GET", "/", headers=own)
                connection.getresponse().read()
                connection.close()
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


class Receiver:
    """Answers, and keeps the trace lines of each head as they came."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heads = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            end, _ = self.listener.accept()
            threading.Thread(target=self.one, args=(end,), daemon=True).start()

    def one(self, end):
        head = b""
        while b"\r\n\r\n" not in head and (part := end.recv(65536)):
            head += part
        self.heads.append([line for line in head.decode("latin-1").split("\r\n") if line.lower().startswith("trace")])
        end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        end.close()


class Got:
    """One head at the receiver."""

    def __init__(self, lines):
        parents = [line for line in lines if line.lower().startswith("traceparent:")]
        states = [line for line in lines if line.lower().startswith("tracestate:")]
        assert len(parents) == 1, f"{len(parents)} traceparent lines: {lines}"
        assert len(states) <= 1, f"{len(states)} tracestate lines: {lines}"
        self.line, self.state = parents[0], states[0][12:] if states else None
        match = VALID.fullmatch(self.line)
        assert match, f"no valid traceparent: {self.line!r}"
        self.trace, self.parent, self.flags = match[1], match[2], int(match[3])

    def continues(self, state=None, flags=None):
        assert self.trace == TRACE, f"another trace: {self.line}"
        assert self.parent != PARENT, "the parent id is that of the caller"
        assert flags is None or self.flags == flags, f"flags are {self.flags}"
        assert self.state == state, f"tracestate is {self.state!r}, not {state!r}"

    def restarts(self):
        assert self.trace != TRACE, f"the trace goes on: {self.line}"
        assert self.state is None, f"tracestate of another trace: {self.state!r}"
        assert self.flags == 3, f"a root is sampled, and its id random: {self.flags}"


def case(name, *requests):
    """`requests`: (header lines, what holds for what arrives)."""
    CASES.append((name, requests))


def parent(version="00", trace=TRACE, span=PARENT, flags="01", tail="", name="traceparent"):
    return f"{name}: {version}-{trace}-{span}-{flags}{tail}"


def restarts(name, *variants):
    case(name, *[([line, "tracestate: foo=1"], Got.restarts) for line in variants])


def continues(name, *variants, **expected):
    case(name, *[([line], lambda got: got.continues(**expected)) for line in variants])


def state(name, *variants):
    """(tracestate lines, what is left of them)"""
    def one(left):
        return lambda got: got.continues(state=left)
    case(name, *[([parent(), *lines], one(left)) for lines, left in variants])


def either(*allowed):
    def check(got):
        assert got.state in allowed, f"tracestate is {got.state!r}"
        got.continues(state=got.state)
    return check


def members(count, value="v"):
    return ",".join(f"k{index}={value}" for index in range(count))


case("both missing", ([], Got.restarts))
continues("traceparent alone", parent(), flags=1)
case("two traceparents", ([parent(), parent(span="1234567890123456")], Got.restarts),
     ([parent(), parent()], Got.restarts))
restarts("traceparent, other names", parent(name="trace-parent"), parent(name="trace.parent"), parent(name="traceparents"))
continues("traceparent, any case of the name", parent(name="TraceParent"), parent(name="TRACEPARENT"), parent(name="trAcEpArEnT"))
restarts("version 00 with more behind", parent(tail="."), parent(tail="-what-the-future"), parent(tail="-"), parent(tail="0"))
continues("a later version", parent("cc"), parent("cc", tail="-what-the-future-will-be-like"), parent("01", tail="-"), flags=1)
restarts("a later version that does not parse", parent("cc", tail=".what"), parent("cc", tail="0"))
restarts("version ff", parent("ff"), parent("ff", tail="-1"))
restarts("version, illegal characters", parent(".0"), parent("0."), parent("CC"), parent("0x"))
restarts("version too long", parent("000"), parent("0000"))
restarts("version too short", parent("0"), parent(""))
restarts("trace id of zeros", parent(trace="0" * 32))
restarts("trace id, illegal characters", parent(trace="." + TRACE[1:]), parent(trace=TRACE[:-1] + "g"), parent(trace=TRACE.upper()))
restarts("trace id too long", parent(trace=TRACE + "1"), parent(trace=TRACE + "11"))
restarts("trace id too short", parent(trace=TRACE[1:]), parent(trace=""))
restarts("parent id of zeros", parent(span="0" * 16))
restarts("parent id, illegal characters", parent(span="." + PARENT[1:]), parent(span=PARENT[:-1] + "x"), parent(span=PARENT.upper()))
restarts("parent id too long", parent(span=PARENT + "1"), parent(span=PARENT + "11"))
restarts("parent id too short", parent(span=PARENT[1:]), parent(span=""))
restarts("flags, illegal characters", parent(flags=".0"), parent(flags="0."), parent(flags="0G"), parent(flags="0A"))
restarts("flags too long", parent(flags="001"), parent(flags="0001"))
restarts("flags too short", parent(flags="1"), parent(flags=""))
continues("traceparent, blanks around", "traceparent:  \t " + parent()[13:], parent() + " \t", flags=1)
case("sampled flag", ([parent(flags="00")], lambda got: got.continues(flags=0)), ([parent(flags="01")], lambda got: got.continues(flags=1)))
case("random flag, level 2", ([parent(flags="02")], lambda got: got.continues(flags=2)), ([parent(flags="03")], lambda got: got.continues(flags=3)))
case("flags unknown to levels 1 and 2 are zero", ([parent(flags="ff")], lambda got: got.continues(flags=3)),
     ([parent(flags="fc")], lambda got: got.continues(flags=0)))
case("tracestate without traceparent", (["tracestate: foo=1"], Got.restarts))
state("tracestate", (["tracestate: foo=1,bar=2"], "foo=1,bar=2"), (["tracestate: bar=2,foo=1"], "bar=2,foo=1"))
state("tracestate, other names", (["trace-state: foo=1"], None), (["trace.state: foo=1"], None))
state("tracestate, any case of the name", (["TraceState: foo=1"], "foo=1"), (["TRACESTATE: foo=1"], "foo=1"))
state("tracestate, several lines", (["tracestate: foo=1", "tracestate: bar=2"], "foo=1,bar=2"),
      (["tracestate: a=1,b=2", "tracestate: c=3", "Tracestate: d=4"], "a=1,b=2,c=3,d=4"))
state("tracestate, empty lines", (["tracestate:"], None), (["tracestate: foo=1", "tracestate:"], "foo=1"),
      (["tracestate:", "tracestate: foo=1"], "foo=1"))
state("tracestate, empty members", (["tracestate: foo=1,,bar=2"], "foo=1,bar=2"), (["tracestate: foo=1, ,"], "foo=1"))
state("tracestate, blanks", (["tracestate: foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"), (["tracestate: foo=1 \t "], "foo=1"))
# 3.3.1.4: a key shall not be there twice; to forward it or to drop the list are both seen as right
case("tracestate, a key twice", ([parent(), "tracestate: foo=1,foo=1"], either("foo=1,foo=1", "foo=1", None)),
     ([parent(), "tracestate: foo=1", "tracestate: foo=2"], either("foo=1,foo=2", "foo=1", "foo=2", None)))
ALL_KEY = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
ALL_VALUE = "".join(chr(code) for code in range(0x20, 0x7f) if chr(code) not in ",=")
state("tracestate, all characters", ([f"tracestate: {ALL_KEY}={ALL_VALUE[1:]}"], f"{ALL_KEY}={ALL_VALUE[1:]}"),
      ([f"tracestate: {ALL_KEY}@a-z0-9={ALL_VALUE[1:20]}"], f"{ALL_KEY}@a-z0-9={ALL_VALUE[1:20]}"))
state("tracestate, key of illegal characters", *[([f"tracestate: {key}=1,bar=2"], None)
                                                for key in ("foo ", "FOO", "foo.bar", "foo\t", "f(o", "")])
state("tracestate, key with an illegal vendor", *[([f"tracestate: {key}=1,bar=2"], None) for key in ("foo@", "@foo", "foo@@bar", "foo@bar@baz")])
state("tracestate, key beginning with a digit, level 2", (["tracestate: 1foo=1"], "1foo=1"), (["tracestate: 0a@b=1"], "0a@b=1"))
state("tracestate, long keys", ([f"tracestate: {'z' * 256}=1"], f"{'z' * 256}=1"), ([f"tracestate: {'t' * 241}@{'v' * 14}=1"], f"{'t' * 241}@{'v' * 14}=1"))
state("tracestate, key too long", ([f"tracestate: bar=2,{'z' * 257}=1"], None))
state("tracestate, value of illegal characters", (["tracestate: foo=bar=baz"], None), (["tracestate: foo=a\x01b"], None))
state("tracestate, no value", (["tracestate: foo=,bar=3"], None), (["tracestate: foo,bar=3"], None))
state("tracestate, long values", ([f"tracestate: foo={'v' * 256}"], f"foo={'v' * 256}"), ([f"tracestate: bar=1,foo={'v' * 257}"], None))
state("tracestate, 32 members", ([f"tracestate: {members(32)}"], members(32)),
      ([f"tracestate: {members(16)}", f"tracestate: {members(32)[len(members(16)) + 1:]}"], members(32)))
state("tracestate, 33 members", ([f"tracestate: {members(33)}"], None), ([f"tracestate: {members(32)}", "tracestate: z=1"], None))
state("tracestate, 512 characters", ([f"tracestate: {members(4, 'v' * 124)}"], members(4, "v" * 124)))
case("a header of the service's own", ([parent(), "tracestate: foo=1", "X-Own-" + OWN],
                                      lambda got: None if got.line == OWN and not got.state else 1 / 0))


def main():
    need_root(len(CASES))
    receiver, port = Receiver(), free_port()
    service = subprocess.Popen([sys.executable, __file__, "--serve", str(port), str(receiver.port)])
    atexit.register(service.kill)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
    tracer = Tracer("--pid", str(service.pid), settings={"ebpf.context_propagation": "headers"})
    atexit.register(tracer.kill)

    def send(lines, calls=1):
        receiver.heads.clear()
        with socket.create_connection(("127.0.0.1", port)) as end:
            text = "".join(line + "\r\n" for line in lines)
            end.sendall(f"GET /{calls} HTTP/1.1\r\nHost: x\r\n{text}Connection: close\r\n\r\n".encode("latin-1"))
            answer = b""
            while part := end.recv(4096):
                answer += part
        assert b" 200 " in answer, f"the service answers {answer[:60]!r}"
        assert len(receiver.heads) == calls, f"{len(receiver.heads)} requests at the receiver"
        return [Got(lines) for lines in receiver.heads]

    def several():
        got = send([parent()], calls=8)
        assert len({one.parent for one in got}) == 8, "parent ids are not distinct"
        for one in got:
            one.continues(flags=1)
        assert len({one.trace for one in send([], calls=3)}) == 1, "calls of one request are not in one trace"
        assert send([])[0].trace != send([])[0].trace, "two requests share a new trace"

    failed = ran = 0
    wanted = sys.argv[1:]
    for name, requests in [*CASES, ("several requests", None)]:
        if wanted and not any(part in name for part in wanted):
            continue
        ran += 1
        faults = []
        try:
            for lines, check in requests or []:
                try:
                    check(send(lines)[0])
                except (AssertionError, ZeroDivisionError) as fault:
                    faults.append(f"{lines}: {fault}")
            if requests is None:
                several()
        except AssertionError as fault:
            faults.append(str(fault))
        failed += bool(faults)
        print("FAILED" if faults else "ok    ", name, *(f"\n       {fault[:400]}" for fault in faults))
    print(f"{ran} cases, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main())
