#!/usr/bin/env python3
"""HTTP/2 and gRPC on this kernel: frames on real sockets, and the spans that must come of them.

Frames and header blocks are those of hyperframe and hpack, which know nothing of spanwire. Most cases have both ends
in this process, which is selected by its pid; where an end must not be seen, or is to be given headers, it is in a
fork. Needs root.

    tests/bpf/http2.py [--binary PATH] [--only NAME...] [--claim auto|lasting|brief] [--streams N] [--seed S]
"""
import argparse
import array
import collections
import json
import os
import pickle
import random
import re
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.tracer import BINARY, Tracer, need_root  # noqa: E402

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
VENV = Path(os.environ.get("SPANWIRE_VENV", CACHE / "spanwire/venv"))
sys.path += map(str, VENV.glob("lib/python3*/site-packages"))  # both are plain Python: any interpreter will do
try:
    import hpack
    from hpack.hpack import encode_integer
    from hyperframe import frame as frames
    from hyperframe.exceptions import InvalidPaddingError
except ImportError:
    print("skipped: hpack and hyperframe are not there: tests/setup test")
    sys.exit(3)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LIMIT = 16384  # SETTINGS_MAX_FRAME_SIZE, which no case raises
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{PARENT}-01"
VALID = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-0[0-3]")
CODES = ["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
         "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
         "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"]
SERVER_ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
METHODS = {"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"}
RESETS = {"NO_ERROR": 0, "PROTOCOL_ERROR": 1, "INTERNAL_ERROR": 2, "REFUSED_STREAM": 7, "CANCEL": 8,
          "ENHANCE_YOUR_CALM": 11, "HTTP_1_1_REQUIRED": 13}
CASES, ALONE = [], []


def case(function):
    """Its spans are those of the one tracer; it returns what they must be: Wants, and functions of all its spans."""
    CASES.append(function)
    return function


def alone(function):
    """It starts a tracer of its own, while no other runs, and returns its problems."""
    ALONE.append(function)
    return function


# What is wanted

@dataclass
class Want:
    """One request: a span on each side. Wanted values are compared; a set holds those that will do, None is absence."""
    key: str  # the path, or the method of gRPC
    both: dict
    client: dict = field(default_factory=dict)
    server: dict = field(default_factory=dict)
    sides: tuple = ("client", "server")
    linked: bool = True  # the server's is the child of the client's
    grpc: bool = False
    window: tuple = None  # names of marks: found by its time, as the path may not be known
    needed: bool = True
    talk: object = None
    check: object = None  # of one span: a problem, or None


def http(path, method="GET", status=200, error=None, authority="x", **more):
    known = method if method in METHODS else "_OTHER"
    both = {"name": known if known == method else "HTTP", "http.request.method": known,
            "http.response.status_code": status,
            "network.protocol.version": "2", "rpc.system.name": None}
    plain, _, query = path.partition("?")
    wanted = [error or (str(status) if status and status >= least else None) for least in (400, 500)]
    return Want(plain, both, {"url.full": f"http://{authority}{path}", "error.type": wanted[0]},
                {"url.path": plain, "url.query": query or None, "error.type": wanted[1]}, **more)


def grpc(method, status="OK", error=None, **more):
    """`status` is None where no grpc-status came."""
    both = {"name": method, "rpc.system.name": "grpc", "rpc.method": method, "rpc.response.status_code": status,
            "network.protocol.version": {"2", None}}
    client = error or (status if status not in ("OK", None) else None)
    server = error or (status if status in SERVER_ERRORS else None)
    return Want(method, both, {"error.type": client}, {"error.type": server}, grpc=True, **more)


def path_of(span):
    """What Want.key says; "" where the span does not know."""
    attributes = span["attributes"]
    if "rpc.method" in attributes:
        return attributes["rpc.method"]
    if "url.full" in attributes:
        rest = attributes["url.full"].split("://", 1)[-1]
        at = min((rest.find(c) for c in "/*?" if c in rest), default=len(rest))
        return rest[at:].split("?")[0]
    return attributes.get("url.path", "")


def show(span):
    """A span in one line."""
    attributes = span["attributes"]
    said = [attributes.get(key) for key in ("http.response.status_code", "rpc.response.status_code", "error.type")
            if attributes.get(key)]
    return " ".join(map(str, [span["kind"], span["name"], path_of(span), *said]))


def fits(actual, wanted):
    return actual in wanted if isinstance(wanted, set) else actual == wanted


def differences(want, side, span):
    attributes = span["attributes"]
    for key, value in {**want.both, **getattr(want, side)}.items():
        actual = span[key] if key in span else attributes.get(key)
        if key == "not_trace_id":
            if span["trace_id"] == value:
                yield "took up an invalid traceparent"
        elif want.window and actual in (None, ""):
            pass  # what is unknown may lack
        elif want.window and key == "url.full":
            if path_of(span) not in ("", want.key):
                yield f"url.full: expected a path of {want.key!r}, got {actual!r}"
        elif not fits(actual, value):
            yield f"{key}: expected {value!r}, got {actual!r}"
    if want.grpc and (wrong := sorted(key for key in attributes if key.startswith(("http.", "url.")))):
        yield f"attributes of HTTP on gRPC: {wrong}"
    if want.check and (problem := want.check(span)):
        yield problem


def judge(wanted, spans):
    """Problems of a case: what is missing, what is too much, what is wrong in detail."""
    problems, left = [], sorted(spans, key=lambda span: span["start_time_unix_nano"])
    clients = {span["span_id"] for span in spans if span["kind"] == "client"}
    for want in wanted:
        if callable(want):
            problems += want(spans)
            continue
        found = {}
        for side in want.sides:
            rows = [span for span in left if span["kind"] == side]
            if want.window:
                begun, ended = (want.talk.marks[name] for name in want.window)
                rows = [span for span in rows if begun - 2_000_000 <= span["start_time_unix_nano"] <= ended]
            else:
                rows = [span for span in rows if path_of(span) == want.key]
            if side == "server" and want.linked:  # its own child, or one that is no other's
                mine = found.get("client", {}).get("span_id", 0)
                rows = [span for span in rows if span["parent_span_id"] not in clients - {mine}]
                rows.sort(key=lambda span: span["parent_span_id"] != mine)
            if not rows:
                if want.needed:
                    problems.append(f"no {side} span {want.key}")
                continue
            found[side] = rows[0]
            left.remove(rows[0])
            problems += [f"{side} {want.key}: {problem}" for problem in differences(want, side, rows[0])]
        if want.linked and len(found) == 2:
            client, server = found["client"], found["server"]
            if (server["parent_span_id"], server["trace_id"]) != (client["span_id"], client["trace_id"]):
                problems.append(f"server {want.key}: expected the client span {client['span_id']} as its parent, got "
                                f"{server['parent_span_id']} ({server['attributes'].get('spanwire.link')})")
    return problems + [f"unexpected: {show(span)}" for span in left]


# What is said

class Fields(hpack.Encoder):
    """An encoder that can be told how to write a field: (name, value[, how]).

    `how` is "index" (by index, or literal with an index made: what hpack does), "plain" (literal, no index is made),
    "never" (the same, never to be indexed), "spelled" (plain, and the name literal too), "again" (literal with an
    index made, all spelled out).
    """

    def block(self, fields, huffman=True, sizes=()):
        """`huffman` is a truth value, or a function that gives one for each field; `sizes` are those of the table."""
        out = b""
        for size in sizes:
            self.header_table.maxsize = size
            number = encode_integer(size, 5)
            out += bytes([number[0] | 0x20]) + bytes(number[1:])
        self.header_table.resized = False
        for name, value, *how in fields:
            out += self.one(name.encode(), value.encode(), how[0] if how else "index",
                            huffman() if callable(huffman) else huffman)
        return out

    def one(self, name, value, how, huffman):
        if how == "index":
            return self.add((name, value), False, huffman)
        if how == "again":
            self.header_table.add(name, value)
            return self._encode_literal(name, value, b"\x40", huffman)
        bits, match = b"\x10" if how == "never" else b"\0", how != "spelled" and self.header_table.search(name, value)
        if match:
            return self._encode_indexed_literal(match[0], value, bits, huffman)
        return self._encode_literal(name, value, bits, huffman)


def spread(stream, block, end=True, cuts=(), pad=None, priority=None):
    """A header block as HEADERS and CONTINUATION frames; `cuts` are offsets, more are made for what is too long.

    0 among them makes an empty frame in front, -1 one at the end.
    """
    room = LIMIT - 300
    edges = sorted({0, len(block), *(cut for cut in cuts if 0 < cut < len(block)), *range(room, len(block), room)})
    parts = [block[at:until] for at, until in zip(edges, edges[1:])] or [b""]
    if 0 in cuts:
        parts.insert(0, b"")
    if -1 in cuts:
        parts.append(b"")
    flags = ["END_STREAM"] * bool(end) + ["PADDED"] * (pad is not None) + ["PRIORITY"] * bool(priority)
    flags += ["END_HEADERS"] * (len(parts) == 1)
    weights = dict(zip(("depends_on", "stream_weight", "exclusive"), priority)) if priority else {}
    out = [frames.HeadersFrame(stream, parts[0], flags=flags, pad_length=pad or 0, **weights).serialize()]
    for number, part in enumerate(parts[1:], 2):
        out.append(frames.ContinuationFrame(stream, part, flags=["END_HEADERS"] * (number == len(parts))).serialize())
    return out


def data(stream, body, end=True, pad=None, size=LIMIT - 300):
    """A body as DATA frames."""
    parts = [body[at:at + size] for at in range(0, len(body), size)] or [b""]
    padded = ["PADDED"] * (pad is not None)
    return [frames.DataFrame(stream, part, pad_length=pad or 0,
                             flags=padded + ["END_STREAM"] * bool(end and number == len(parts))).serialize()
            for number, part in enumerate(parts, 1)]


def settings(values=None):
    return frames.SettingsFrame(0, values or {}).serialize()


def reset(stream, code):
    return frames.RstStreamFrame(stream, RESETS[code]).serialize()


def unknown(kind, stream, payload=b"\0\0\1\1\5\0\0\0\3\x82" * 3, flags=0x25):
    """A frame of a type that nobody knows; its payload looks like a request."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


ACK = frames.SettingsFrame(0, flags=["ACK"]).serialize()
PING = frames.PingFrame(0, b"\0\0\1\1\5\0\0\0").serialize()
PONG = frames.PingFrame(0, b"\0\0\1\1\5\0\0\0", flags=["ACK"]).serialize()
LOOK_ALIKE = b"".join(spread(7, b"\x82\x86\x84\x01\x01x")) + PREFACE + b"GET /fake HTTP/1.1\r\nHost: x\r\n\r\n"


def message(text=b"hello"):
    """A message of gRPC."""
    return b"\0" + struct.pack(">I", len(text)) + text


class Talk:
    """A connection: who sends what and when, and what is wanted of it. Made first, and played on sockets then."""

    def __init__(self, opened=True, huffman=True, server=None, client=None):
        self.steps, self.wanted, self.marks = [], [], {}
        self.coders = {"client": Fields(), "server": Fields()}
        self.heads = {"client": [], "server": []}
        self.before = {"client": 0, "server": 0}  # bytes that are not HTTP/2
        self.next, self.huffman = 1, huffman
        if opened:
            self.say("client", PREFACE, settings(client))
            self.say("server", settings(server), ACK)
            self.say("client", ACK)

    def say(self, side, *parts):
        """One send."""
        self.steps.append((side, b"".join(b"".join(part) if isinstance(part, list) else part for part in parts)))

    def each(self, side, parts):
        """A send for each part."""
        for part in parts:
            self.say(side, part)

    def wait(self, seconds):
        self.steps.append(("wait", seconds))

    def mark(self, name):
        """Keeps the time."""
        self.steps.append(("mark", name))

    def want(self, *wanted):
        for want in wanted:
            want.talk = self
        self.wanted += wanted

    def head(self, side, stream, fields, end=True, huffman=None, sizes=(), **how):
        """A header block in frames. The blocks of a side must be said in the order in which they are made."""
        self.heads[side].append([(name, value) for name, value, *_ in fields])
        return spread(stream, self.coders[side].block(fields, self.huffman if huffman is None else huffman, sizes), end,
                      **how)

    def ask(self, path, method="GET", extra=(), body=None, trailers=(), end=True, authority="x", path_how="index",
            pad_data=None, **how):
        """(the stream, the frames of a request on it)"""
        stream, self.next = self.next, self.next + 2
        fields = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path, path_how),
                  *extra]
        out = self.head("client", stream, fields, end and body is None and not trailers, **how)
        if body is not None:
            out += data(stream, body, end and not trailers, pad_data)
        if trailers:
            out += self.head("client", stream, trailers)
        return stream, out

    def reply(self, stream, status=200, extra=(), body=None, trailers=(), end=True, status_how="index", pad_data=None,
              **how):
        out = self.head("server", stream, [(":status", str(status), status_how), *extra],
                        end and body is None and not trailers, **how)
        if body is not None:
            out += data(stream, body, end and not trailers, pad_data)
        if trailers:
            out += self.head("server", stream, trailers)
        return out

    def get(self, path, method="GET", status=200, reply=None, want=True, **ask):
        """A request and its answer, each in one send."""
        stream, out = self.ask(path, method, **ask)
        self.say("client", out)
        self.say("server", self.reply(stream, status, **({"body": b"ok"} if reply is None else reply)))
        if want:
            self.want(http(path, method, status, authority=ask.get("authority", "x")))
        return stream

    def dial(self, method, extra=(), kind="application/grpc", **more):
        """The head of a call of gRPC."""
        return self.ask(f"/{method}", "POST", [("te", "trailers"), ("content-type", kind), *extra], **more)

    def hang_up(self, stream, status=0, said=()):
        return self.head("server", stream, [("grpc-status", str(status)), ("grpc-message", "as it is"), *said])

    def call(self, method, status=0, extra=(), up=(b"hello",), down=(b"world",), kind="application/grpc"):
        """A call of gRPC from one end to the other."""
        stream, out = self.dial(method, extra, kind, body=b"".join(map(message, up)))
        self.say("client", out)
        self.say("server", self.reply(stream, extra=[("content-type", kind)], body=b"".join(map(message, down)),
                                      end=False),
                 self.hang_up(stream, status))
        self.want(grpc(method, CODES[status]))

    def check(self):
        """What was said is HTTP/2, and its fields are those that were meant, by another decoder."""
        for side in ("client", "server"):
            said = b"".join(part for who, part in self.steps if who == side)[self.before[side]:]
            if side == "client":
                assert said.startswith(PREFACE)
                said = said[len(PREFACE):]
            decoder = hpack.Decoder(1 << 20)
            decoder.max_allowed_table_size = 1 << 16
            heads = [unit.fields for unit in units(said, decoder) if unit.fields is not None]
            assert heads == self.heads[side], f"{side}: {heads} and not {self.heads[side]}"

    def play(self, ends=None, way="whole", over=None):
        """On a fresh connection, or `ends`. `way`: "whole", "bytes", or a random.Random that cuts it anywhere.

        `over` ends the connection; else it is closed, and "open" leaves it.
        """
        client, server = ends = ends or pair()
        for who, part in joined(self.steps) if isinstance(way, random.Random) else self.steps:
            if who == "wait":
                time.sleep(part)
            elif who == "mark":
                self.marks[part] = time.time_ns()
            else:
                deliver(*((client, server) if who == "client" else (server, client)), part, way)
        if over != "open":
            (over or close)(ends)
        return self.wanted


def joined(steps):
    """Steps of one side that follow each other as one."""
    out = []
    for who, part in steps:
        if out and out[-1][0] == who and isinstance(part, bytes):
            out[-1] = (who, out[-1][1] + part)
        else:
            out.append((who, part))
    return out


@dataclass
class Unit:
    """A frame, or the frames of a header block."""
    raw: bytes
    first: object
    sizes: list
    fields: list = None


def units(said, decoder=None):
    """Reads frames, strictly: all of them whole, CONTINUATION where it must be."""
    out, at, block = [], 0, None
    while at < len(said):
        one, length = frames.Frame.parse_frame_header(memoryview(said)[at:at + 9])
        raw = said[at:at + 9 + length]
        assert len(raw) == 9 + length, f"a frame is cut off: {one!r}"
        try:
            one.parse_body(memoryview(raw)[9:])
        except InvalidPaddingError:  # hyperframe refuses padding alone, which RFC 9113 does not
            assert one.pad_length + 5 * ("PRIORITY" in one.flags) == one.body_len, f"padding is too long: {one!r}"
        at += len(raw)
        assert (block is None) == (not isinstance(one, frames.ContinuationFrame)), f"{one!r} where it may not be"
        if block is None:
            out.append(Unit(raw, one, [length]))
            block = one.data if isinstance(one, (frames.HeadersFrame, frames.PushPromiseFrame)) else None
        else:
            assert one.stream_id == out[-1].first.stream_id
            out[-1].raw += raw
            out[-1].sizes.append(length)
            block += one.data
        if block is not None and "END_HEADERS" in one.flags:
            out[-1].fields = [tuple(pair) for pair in decoder.decode(block)] if decoder else []
            block = None
    assert block is None, "a header block has no end"
    return out


# Sockets

def pair(listener=None):
    """A fresh connection: client end, server end. A given listener stays open."""
    with listener.dup() if listener else socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    for end in (client, server):
        prepare(end)
    return client, server


def prepare(end):
    end.settimeout(5)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def close(ends):
    for end in ends:
        end.close()


def by_server(ends):
    close((ends[1], ends[0]))


def receive(end, length):
    out = bytearray()
    while len(out) < length:
        part = end.recv(length - len(out))
        if not part:
            break
        out += part
    return bytes(out)


def deliver(sender, receiver, part, way="whole"):
    """Sends, receives, and looks that it is the same."""
    got = bytearray()
    if way == "bytes":
        for at in range(len(part)):
            sender.send(part[at:at + 1])
            got += receiver.recv(1)
    elif way == "whole":
        for at in range(0, len(part), 60000):  # what certainly has room in the buffers
            sender.sendall(part[at:at + 60000])
            got += receive(receiver, len(part[at:at + 60000]))
    else:
        at = 0
        while len(got) < len(part):
            if at < len(part) and (len(got) == at or way.random() < 0.5):
                at += sender.send(part[at:at + way.choice([1, 2, 3, 5, 9, 10, 17, 64, 300, 1000, 9000])])
            if len(got) < at:
                got += receiver.recv(way.choice([1, 2, 5, 9, 33, 64, 700, 3000, 20000]))
    assert got == part, f"bytes differ: {bytes(got[:80])!r} and not {part[:80]!r}"


class Other:
    """Another process, forked before anything is selected: calls of functions of this file, one at a time."""

    def __init__(self):
        (out, self.asked), (self.told, into) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(out)
            os.close(into)
            self.asked, self.told = os.fdopen(self.asked, "wb"), os.fdopen(self.told, "rb")
            return
        os.close(self.asked)
        os.close(self.told)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with os.fdopen(out, "rb") as out, os.fdopen(into, "wb") as into:
            while True:
                try:
                    name, arguments = pickle.load(out)
                except EOFError:
                    os._exit(0)
                try:
                    result = (None, globals()[name](*arguments))
                except Exception as fault:
                    result = (f"{name} in the other process: {fault!r}", None)
                pickle.dump(result, into)
                into.flush()

    def begin(self, name, *arguments):
        pickle.dump((name, arguments), self.asked)
        self.asked.flush()

    def result(self):
        fault, result = pickle.load(self.told)
        assert not fault, fault
        return result


def one_side(end, steps, mine):
    """The part of one end, when the other is elsewhere."""
    for who, part in steps:
        if who == mine:
            end.sendall(part)
        elif isinstance(part, bytes):
            assert receive(end, len(part)) == part, "bytes differ"


def client_side(port, steps):
    with socket.create_connection(("127.0.0.1", port)) as end:
        prepare(end)
        one_side(end, steps, "client")
        end.recv(1)  # until the server closes


def from_outside(talk):
    """Plays with a client that is not selected: no client spans, and nothing to join."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        OTHER.begin("client_side", listener.getsockname()[1], talk.steps)
        server, _ = listener.accept()
        prepare(server)
        one_side(server, talk.steps, "server")
        server.close()
    OTHER.result()
    for want in talk.wanted:
        want.sides, want.linked = ("server",), False
    return talk.wanted


OTHER = None


# Cases

@case
def http1_as_before():
    """The rig itself: what holds for HTTP/1 is seen beside all this."""
    talk = Talk(opened=False)
    talk.say("client", b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n")
    talk.say("server", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    talk.want(http("/one"))
    outside = Talk(opened=False)
    outside.say("client", b"GET /outside HTTP/1.1\r\nHost: x\r\ntraceparent: %s\r\n\r\n" % GOOD.encode())
    outside.say("server", b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    outside.want(http("/outside", status=404))
    outside.wanted[0].server.update(trace_id=TRACE, parent_span_id=PARENT)
    wanted = talk.play() + from_outside(outside)
    for want in wanted:
        want.both["network.protocol.version"] = "1.1"
    return wanted


@case
def plain():
    talk = Talk()
    talk.get("/plain/get")
    talk.get("/plain/post?a=1&b=2", "POST", body=b"field=value", status=201)
    talk.get("/plain/put", "PUT", body=b"x" * 50000, reply={"body": b"y" * 100000})
    talk.get("/plain/empty", "POST", body=b"", reply={})
    talk.get("/plain/lost", status=404)
    talk.get("/plain/broken", "DELETE", status=503)
    talk.get("/plain/other", "MKCALENDAR", status=200)
    talk.get("*", "OPTIONS", status=200)
    talk.get("/", status=200)
    talk.check()
    return talk.play()


@case
def each_in_a_send_of_its_own():
    talk = Talk(opened=False)
    stream, asked = talk.ask("/own/first", "POST", body=b"abc")
    talk.each("client", [PREFACE, settings({3: 100}), *asked])
    talk.each("server", [settings(), ACK, *talk.reply(stream, 202, body=b"answer")])
    talk.say("client", ACK)
    talk.want(http("/own/first", "POST", 202))
    talk.get("/own/next")
    talk.check()
    return talk.play()


@case
def preface_and_request_in_one_send():
    talk = Talk(opened=False)
    stream, asked = talk.ask("/at-once")
    talk.say("client", PREFACE, settings(), frames.WindowUpdateFrame(0, 1 << 20).serialize(), asked)
    talk.say("server", settings(), ACK, talk.reply(stream, body=b"ok"))
    talk.want(http("/at-once"))
    talk.check()
    return talk.play()


@case
def byte_by_byte():
    talk = Talk()
    talk.get("/byte/get", reply={"body": b"x" * 300, "extra": [("x-long", "v" * 200)]})
    talk.get("/byte/post", "POST", body=LOOK_ALIKE, status=302, extra=[("x-key", "first")], cuts=(3, 9), pad=7,
             priority=(0, 15, False))
    talk.get("/byte/again", "POST", body=LOOK_ALIKE, status=302, extra=[("x-key", "first")], pad_data=5)
    talk.call("byte.Service/Call")
    talk.check()
    return talk.play(way="bytes")


@case
def settings_of_the_server_come_first():
    wanted = []
    for number, way in enumerate(["whole", "bytes"]):
        talk = Talk(opened=False)
        talk.say("server", settings({3: 128, 4: 65536, 5: LIMIT}), frames.WindowUpdateFrame(0, 1 << 20).serialize())
        talk.say("client", PREFACE)
        talk.say("client", settings({2: 0}), ACK)
        talk.say("server", ACK)
        talk.get(f"/server-first/{number}")
        talk.get(f"/server-first/{number}/again", "POST", body=b"abc")
        talk.check()
        wanted += talk.play(way=way)
    return wanted


@case
def settings_of_the_server_come_within_the_preface():
    wanted = []
    for cut in (1, 5, 14, 15, 16, 17, 23):
        for way in ("whole", "bytes"):
            talk = Talk(opened=False)
            talk.say("client", PREFACE[:cut])
            talk.say("server", settings({3: 128}))
            talk.say("client", PREFACE[cut:], settings())
            talk.say("server", ACK)
            talk.get(f"/within/{cut}/{way}")
            talk.get(f"/within/{cut}/{way}/again", "POST", body=b"abc")
            talk.check()
            wanted += talk.play(way=way)
    return wanted


@case
def both_sides_begin_at_once():
    """On one socket of the server, two threads: one writes its SETTINGS while the other reads the preface."""
    wanted, count = [], 300
    opening = PREFACE + settings()
    gate = threading.Barrier(2)
    ends = [pair() for _ in range(count)]

    def each(step):
        def run():
            for number in range(count):
                gate.wait(10)
                step(*ends[number])
        return threading.Thread(target=run)

    for client, _ in ends:
        client.sendall(opening)
    threads = [each(lambda client, server: server.sendall(settings({3: 128}))),
               each(lambda client, server: receive(server, len(opening)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, both in enumerate(ends):
        receive(both[0], len(settings({3: 128})))
        talk = Talk(opened=False)
        talk.get(f"/both/{number}")
        wanted += talk.play(both)
    return wanted


@case
def many_open_at_once():
    """32 streams, DATA of all of them mixed, answered in any order."""
    rng, talk = random.Random(1), Talk()
    streams, left = {}, {}
    for number in range(32):
        stream, asked = talk.ask(f"/open/{number}", "POST", extra=[("x-number", str(number % 5))], end=False)
        streams[stream], left[stream] = number, 4
        talk.say("client", asked)
    while any(left.values()):
        some = rng.sample([stream for stream in left if left[stream]], min(3, sum(map(bool, left.values()))))
        for stream in some:
            left[stream] -= 1
        talk.say("client", *[data(stream, LOOK_ALIKE, not left[stream]) for stream in some])
    order = list(streams)
    rng.shuffle(order)
    for stream in order:
        talk.say("server", talk.reply(stream, 200 + streams[stream] % 7, end=False))
    parts = order * 3
    rng.shuffle(parts)
    for stream in parts:
        talk.say("server", data(stream, LOOK_ALIKE, False))
    for stream in rng.sample(order, 32):
        talk.say("server", data(stream, b"", True))
    talk.want(*[http(f"/open/{number}", "POST", 200 + number % 7) for number in streams.values()])
    talk.check()
    return talk.play()


@case
def many_in_one_send():
    talk = Talk(opened=False)
    asked = [talk.ask(f"/send/{number}", "POST" if number % 3 else "GET", body=LOOK_ALIKE if number % 3 else None)
             for number in range(40)]
    talk.say("client", PREFACE, settings(), *[out for _, out in asked])
    talk.say("server", settings(), ACK, *[talk.reply(stream, body=LOOK_ALIKE) for stream, _ in reversed(asked)])
    talk.want(*[http(f"/send/{number}", "POST" if number % 3 else "GET") for number in range(40)])
    talk.check()
    return talk.play()


@case
def a_thousand_after_each_other():
    talk = Talk()
    for number in range(1000):
        talk.get(f"/thousand/{number}", extra=[("x-id", str(number))])
    talk.check()
    return talk.play()


@case
def continuation():
    talk = Talk(huffman=False)
    long = [("x-first", "a" * 30, "plain"), ("x-second", "b" * 90), ("x-third", "c" * 10)]
    for number, together in enumerate((True, False)):
        stream, asked = talk.ask(f"/continued/{number}", extra=long, cuts=(20, 40), path_how="plain")
        assert len(asked) == 3
        (talk.say if together else talk.each)("client", asked)
        talk.say("server", talk.reply(stream, 302, extra=long, body=b"ok", cuts=(1, 2)))
        talk.want(http(f"/continued/{number}", status=302))
    for at in range(41):
        path = f"/continued/at/{at}"
        stream, asked = talk.ask(path, extra=long, cuts=(at,), path_how="spelled")
        (talk.say if at % 2 else talk.each)("client", asked)
        talk.say("server", talk.reply(stream, 418, extra=long, cuts=(at,), status_how="spelled"))
        talk.want(http(path, status=418))
    for number, cuts in enumerate([(-1,), (0, -1), (0, 7, -1)]):
        talk.get(f"/continued/empty/{number}", extra=long, cuts=cuts, status=418, reply={"cuts": cuts})
    talk.get("/continued/each-byte", extra=long, cuts=range(0, 300))
    talk.get("/continued/after", extra=long)
    talk.check()
    return talk.play()


@case
def padding_and_priority():
    talk = Talk()
    for number, pad in enumerate((0, 1, 8, 255)):
        talk.get(f"/padded/{number}", "POST", body=b"a" * 20, pad=pad, pad_data=pad,
                 reply={"body": LOOK_ALIKE, "pad": pad, "pad_data": pad})
    talk.get("/padded/priority", priority=(0, 255, True))
    talk.get("/padded/both", "POST", priority=(1, 0, False), pad=20, cuts=(4,), body=b"", pad_data=30,
             reply={"pad": 3, "cuts": (0, 1), "extra": [("x-a", "b")]})
    talk.check()
    return talk.play()


@case
def frames_in_between():
    talk = Talk(client={0xa0a0: 5, 1: 4096}, server={0x1a1a: 1})
    priority = frames.PriorityFrame(9, depends_on=3, stream_weight=7).serialize()
    for number, kind in enumerate((0x0b, 0x20, 0xff)):
        stream, asked = talk.ask(f"/between/{number}", "POST", end=False)
        talk.say("client", PING, unknown(kind, 0), priority, asked, unknown(kind, stream),
                 frames.WindowUpdateFrame(stream, 99).serialize())
        talk.say("server", PONG, frames.WindowUpdateFrame(0, 1000).serialize(), unknown(kind, stream), PING)
        talk.say("client", PONG, data(stream, b"abc", False), unknown(kind, stream, b""), PING, data(stream, b"def"))
        answer = talk.reply(stream, 202, body=b"ok", end=False)
        talk.say("server", PONG, answer[0], unknown(kind, stream), PING, answer[1], settings({3: 50 + number}),
                 data(stream, b""))
        talk.say("client", PONG, ACK, frames.PriorityFrame(stream, depends_on=0, stream_weight=1).serialize())
        talk.want(http(f"/between/{number}", "POST", 202))
    talk.get("/between/last")
    talk.check()
    return talk.play()


@case
def representations_of_fields():
    """Huffman and raw; indexed, literal with and without an index made, never indexed; names by index and spelled."""
    talk = Talk()
    for number, huffman in enumerate([True, False, True, False, random.Random(3)]):
        coin = (lambda rng=huffman: rng.random() < 0.5) if isinstance(huffman, random.Random) else huffman
        for how in ("index", "plain", "never", "spelled", "again", "index"):
            path = f"/fields/{number}/{how}?q=~{{}}%20"
            extra = [("x-custom", "some value", how), ("user-agent", "rig/1.0 (x; y)", how), ("cookie", "a=b; c=d"),
                     ("x-custom", "other")]
            talk.get(path, "PATCH", extra=extra, path_how=how, huffman=coin, status=218,
                     reply={"extra": [("server", "rig"), ("x-custom", "some value", how)], "status_how": how,
                            "huffman": coin})
    for word in ("index", "plain", "never", "spelled", "again", "index"):
        stream, asked = talk.next, []
        talk.next += 2
        path = "/fields/method"
        asked = talk.head("client", stream, [(":path", path, word), (":method", "QUERY", word),
                                             (":authority", "x", word), (":scheme", "http", word)])
        talk.say("client", asked)
        talk.say("server", talk.reply(stream, 200, status_how=word))
        talk.want(http(path, "QUERY"))
    talk.check()
    return talk.play()


@case
def everything_from_the_table():
    """The same request again and again: all of it indexed; entries pushed out, entries that do not fit at all."""
    talk = Talk()
    extra = [("x-one", "1" * 20), ("x-two", "2" * 20), ("traceparents", "x")]
    for _ in range(5):
        talk.get("/table/same", "PUT", extra=extra, body=b"abc", status=302, reply={"extra": [("x-answer", "same")]})
    for number in range(60):
        talk.get(f"/table/{number % 7}", extra=[("x-fill", str(number) * 60)], status=302 + number % 3)
    talk.get("/table/no-room", extra=[("x-huge", "h" * 5000), ("x-after", "1")])  # empties the table
    talk.get("/table/no-room", extra=[("x-after", "1")])
    talk.get("/table/same", "PUT", extra=extra, body=b"abc", status=302)
    talk.check()
    return talk.play()


@case
def sizes_of_the_table():
    wanted = []
    for size in (0, 100, 4096, 65536):
        talk = Talk(server={1: size}, client={1: size})
        coin = random.Random(size)
        for number in range(12):
            sizes = ([size], [size // 2, size], [], [0, size], [])[number % 5] if number else [size]
            talk.get(f"/size/{size}/{number % 4}", status=510 + number % 3, sizes=sizes,
                     extra=[("x-same", "value"), ("x-new", str(number))],
                     huffman=coin.random() < 0.5, reply={"sizes": sizes, "extra": [("x-same", "value")]})
        talk.check()
        wanted += talk.play()
    return wanted


@case
def a_table_of_64_kib():
    """References to entries that are far back."""
    talk = Talk(server={1: 65536}, client={1: 65536})
    talk.get("/far/first", "PUT", sizes=[65536], status=507, reply={"sizes": [65536]})
    for number in range(120):
        talk.get(f"/far/{number % 10}", extra=[("x-fill", f"{number:04}" * 100, "again")],
                 reply={"extra": [("x-fill", f"{number:04}" * 100, "again")]})
    talk.get("/far/first", "PUT", status=507, reply={})
    talk.get("/far/3")
    talk.check()
    return talk.play()


@case
def a_smaller_table_while_it_is_used():
    talk = Talk()
    for number in range(10):
        talk.get(f"/shrink/{number}", status=302, extra=[("x-a", "b")])
    talk.say("server", settings({1: 128}))
    talk.say("client", ACK)
    talk.get("/shrink/less", sizes=[128], extra=[("x-a", "b")], status=302)
    talk.get("/shrink/less", extra=[("x-a", "b")], status=302)
    talk.say("server", settings({1: 0}))
    talk.say("server", settings({1: 4096}))
    talk.say("client", ACK, ACK)
    talk.get("/shrink/more", sizes=[0, 4096], extra=[("x-a", "b")], status=302)
    for number in range(6):
        talk.get(f"/shrink/{number % 3}", extra=[("x-a", "b")], status=302)
    talk.check()
    return talk.play()


def big(size):
    """Fields that make a block of about `size` bytes."""
    return [("x-big", "b" * min(4000, size - at), "plain") for at in range(0, size, 4000)]


@case
def large_headers():
    """In front of the path, and behind it; entries that such a block made are used later."""
    talk = Talk(huffman=False)
    for size in (8 << 10, 15 << 10):
        talk.get(f"/large/{size}", extra=[*big(size), ("x-kept", f"of {size}")], status=302,
                 reply={"extra": [*big(size), ("x-kept", "x")]})
        talk.get(f"/large/{size}/next", extra=[("x-kept", f"of {size}")], status=302,
                 reply={"extra": [("x-kept", "x")]})
        stream, talk.next = talk.next, talk.next + 2
        path = f"/large/{size}/behind"
        asked = talk.head("client", stream, [(":method", "GET"), (":scheme", "http"), (":authority", "x" * 250),
                                             (":path", path), *big(size)])
        talk.say("client", asked)
        talk.say("server", talk.reply(stream, 302))
        talk.want(http(path, status=302, authority="x" * 250))
        talk.get(path, status=302)
    talk.check()
    return talk.play()


@case
def headers_of_40_kib():
    """What such a block puts into the table is not known: spans may lack what refers to it, and are never wrong."""
    talk = Talk(huffman=False)
    talk.get("/huge/before", extra=[("x-kept", "one")])

    def by_time(name, path, method="GET", status=302, **how):
        talk.wait(0.02)
        talk.mark(f"from {name}")
        talk.get(path, method, status=status, want=False, **how)
        talk.mark(f"to {name}")
        talk.wait(0.02)
        want = http(path, method, status, window=(f"from {name}", f"to {name}"), needed=False)
        want.both.update({"name": {method, "HTTP"}, "http.request.method": {method, "_OTHER"},
                          "http.response.status_code": {status, None}})
        want.client["error.type"] = {None, "_OTHER", str(status)}
        want.server["error.type"] = {None, "_OTHER", str(status)}
        want.check = lambda span: None if path_of(span) in (path, "", None) else f"a wrong path: {path_of(span)!r}"
        talk.want(want)

    for number, side in enumerate(("request", "answer", "both")):
        path = f"/huge/{number}"
        ask = {"extra": [*big(40 << 10), ("x-late", path)]} if side != "answer" else {}
        reply = {"extra": [*big(40 << 10), ("x-late", path)]} if side != "request" else {}
        by_time(f"{number} itself", path, "PUT", reply=reply, **ask)
        by_time(f"{number} next", path + "/next", extra=[("x-kept", "one"), ("x-late", path)],
                reply={"extra": [("x-late", path)]})
        by_time(f"{number} new", path + "/next", "PUT", extra=[("x-new", path)], status=508)
        by_time(f"{number} last", path + "/last", "PUT", extra=[("x-new", path)], status=508)
    talk.wanted.sort(key=lambda want: not want.window)  # those go by time, and are looked for first
    talk.check()
    return talk.play()


@case
def answers_of_all_kinds():
    talk = Talk()
    stream, asked = talk.ask("/kinds/early")
    talk.say("client", asked)
    talk.say("server", talk.head("server", stream, [(":status", "103"), ("link", "</style.css>; rel=preload")],
                                 end=False))
    talk.say("server", talk.head("server", stream, [(":status", "103"), ("link", "</more.css>; rel=preload")],
                                 end=False))
    talk.say("server", talk.reply(stream, 200, body=b"ok"))
    talk.want(http("/kinds/early"))
    stream, asked = talk.ask("/kinds/expect", "POST", extra=[("expect", "100-continue")], end=False)
    talk.say("client", asked)
    talk.say("server", talk.head("server", stream, [(":status", "100")], end=False))
    talk.say("client", data(stream, b"the body"))
    talk.say("server", talk.reply(stream, 200, body=b"ok"))
    talk.want(http("/kinds/expect", "POST"))
    talk.get("/kinds/head", "HEAD", reply={"extra": [("content-length", "1000")]})
    talk.get("/kinds/204", status=204, reply={})
    talk.get("/kinds/304", status=304, reply={"extra": [("etag", '"x"'), ("content-length", "10")]})
    for how in ("plain", "index", "index", "spelled", "never"):
        talk.get("/kinds/599", status=599, reply={"status_how": how})
    for _ in range(2):
        talk.get("/kinds/302", status=302, reply={"extra": [("location", "/kinds/elsewhere")]})
    talk.get("/kinds/trailers", "POST", body=b"abc", trailers=[("x-sum", "1234"), ("x-kept", "yes")], status=201,
             reply={"body": b"abc", "trailers": [("x-sum", "1234"), ("grpc-status", "5")]})
    talk.get("/kinds/trailers-again", "POST", extra=[("x-kept", "yes")], trailers=[("x-sum", "1234")],
             reply={"extra": [("x-sum", "1234")], "trailers": [("x-sum", "5678")]})
    talk.get("/kinds/empty-data", "POST", body=b"", reply={"body": b""})
    stream, asked = talk.dial("kinds.Service/TrailersOnly", body=message())
    talk.say("client", asked)
    talk.say("server", talk.reply(stream, 200, extra=[("content-type", "application/grpc"), ("grpc-status", "12"),
                                                      ("grpc-message", "no")]))
    talk.want(grpc("kinds.Service/TrailersOnly", "UNIMPLEMENTED"))
    talk.get("/kinds/after", status=302)
    talk.check()
    return talk.play()


@case
def resets():
    talk = Talk()

    def asked(path, **ask):
        stream, out = talk.ask(f"/reset/{path}", **ask)
        talk.say("client", out)
        return stream

    for number, (side, code) in enumerate([
            ("client", "CANCEL"), ("server", "REFUSED_STREAM"), ("server", "INTERNAL_ERROR"),
            ("server", "ENHANCE_YOUR_CALM"), ("server", "HTTP_1_1_REQUIRED"), ("client", "PROTOCOL_ERROR")]):
        stream = asked(number)
        talk.say(side, reset(stream, code))
        talk.want(http(f"/reset/{number}", status=None, error=code))
    stream = asked("in-the-body")
    talk.say("server", talk.reply(stream, 200, body=b"abc", end=False))
    talk.say("server", reset(stream, "INTERNAL_ERROR"))
    talk.want(http("/reset/in-the-body", error="INTERNAL_ERROR"))
    stream = asked("enough")
    talk.say("server", talk.reply(stream, 200, body=b"abc" * 1000, end=False))
    talk.say("client", reset(stream, "CANCEL"))
    talk.say("server", data(stream, b"under way"))
    talk.want(http("/reset/enough", error="CANCEL"))
    stream = asked("no-need", method="POST", body=b"a" * 100, end=False)
    talk.say("server", talk.reply(stream, 413, body=b"too long"), reset(stream, "NO_ERROR"))
    talk.say("client", data(stream, b"under way"))
    talk.want(http("/reset/no-need", "POST", 413))
    stream = asked("done-early", method="POST", body=b"a" * 100, end=False)
    talk.say("server", talk.reply(stream, 200, body=b"done"))
    talk.say("server", reset(stream, "NO_ERROR"))
    talk.want(http("/reset/done-early", "POST"))
    stream = asked("after-all")
    talk.say("server", talk.reply(stream, 200, body=b"done"))
    talk.say("client", reset(stream, "CANCEL"))
    talk.want(http("/reset/after-all"))
    stream = asked("upload-cancelled", method="POST", body=b"a" * 100, end=False)
    talk.say("client", reset(stream, "CANCEL"))
    talk.want(http("/reset/upload-cancelled", "POST", None, "CANCEL"))
    talk.get("/reset/last")
    talk.check()
    return talk.play()


@case
def going_away():
    """Streams above the last one that is named were not served; the rest is answered."""
    talk = Talk()
    streams = []
    for number in range(4):
        stream, out = talk.ask(f"/away/{number}")
        talk.say("client", out)
        streams.append(stream)
    talk.say("server", frames.GoAwayFrame(0, last_stream_id=streams[1], error_code=0,
                                          additional_data=LOOK_ALIKE).serialize())
    talk.say("server", talk.reply(streams[1], 200, body=b"ok"))
    talk.say("server", talk.reply(streams[0], 302, body=b"ok"))
    talk.want(http("/away/0", status=302), http("/away/1"))
    for number in (2, 3):
        want = http(f"/away/{number}", status=None)
        want.both["error.type"] = {"REFUSED_STREAM", "connection_closed"}
        del want.client["error.type"], want.server["error.type"]
        talk.want(want)
    talk.check()
    return talk.play(over=by_server)


@case
def closed_with_open_streams():
    def by_reset(ends):
        ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, array.array("i", [1, 0]).tobytes())
        ends[1].close()
        time.sleep(0.05)
        ends[0].close()

    wanted = []
    for name, over in (("client", close), ("server", by_server), ("reset", by_reset)):
        talk = Talk()
        talk.get(f"/closed/{name}/done")
        _, out = talk.ask(f"/closed/{name}/waiting", "POST", body=b"abc")
        talk.say("client", out)
        _, out = talk.ask(f"/closed/{name}/sending", "POST", body=b"abc", end=False)
        talk.say("client", out)
        stream, out = talk.ask(f"/closed/{name}/receiving")
        talk.say("client", out)
        talk.say("server", talk.reply(stream, 200, body=b"abc", end=False))
        talk.want(http(f"/closed/{name}/waiting", "POST", None, "connection_closed"),
                  http(f"/closed/{name}/sending", "POST", None, "connection_closed"),
                  http(f"/closed/{name}/receiving", error="connection_closed"))
        if name == "reset":
            for want in talk.wanted[1:]:
                want.client["error.type"] = "ECONNRESET"
        talk.check()
        wanted += talk.play(over=over)
    return wanted


@case
def grpc_calls():
    talk = Talk()
    for status, name in enumerate(CODES):
        talk.call(f"rig.Unary/{name}", status)
    talk.call("rig.Unary/Again", 5)
    talk.call("rig.Unary/Again", 5)
    for number, kind in enumerate(("application/grpc+proto", "application/grpc+json",
                                   "application/grpc;charset=utf-8")):
        talk.call(f"rig.Kind/{number}", kind=kind)
    talk.call("rig.deep.v1.Service/Upload", up=[b"a" * 1000] * 20, down=[b""])
    talk.call("rig.deep.v1.Service/Watch", up=[b""], down=[b"a" * 1000] * 20)
    stream, out = talk.dial("rig.Unary/NoStatus", body=message())
    talk.say("client", out)
    talk.say("server", talk.reply(stream, extra=[("content-type", "application/grpc")], body=message()))
    no_status = grpc("rig.Unary/NoStatus", None)
    del no_status.client["error.type"], no_status.server["error.type"]
    talk.want(no_status)
    talk.check()
    return talk.play()


@case
def grpc_streams():
    """Messages of both sides mixed, over several calls at a time; messages in pieces."""
    talk = Talk()
    streams = [talk.dial(f"rig.Chat/{number}", end=False) for number in range(3)]
    talk.say("client", *[out for _, out in streams])
    for stream, _ in streams:
        talk.say("server", talk.reply(stream, extra=[("content-type", "application/grpc")], end=False))
    for number in range(5):
        for stream, _ in streams:
            talk.say("client", data(stream, message(LOOK_ALIKE), False))
            talk.say("server", data(stream, message(LOOK_ALIKE)[:number], False),
                     data(stream, message(LOOK_ALIKE)[number:], False))
    for number, (stream, _) in enumerate(reversed(streams)):
        talk.say("client", data(stream, b""))
        talk.say("server", talk.hang_up(stream, (0, 5, 8)[number]))
        talk.want(grpc(f"rig.Chat/{2 - number}", CODES[(0, 5, 8)[number]]))
    stream, out = talk.dial("rig.Chat/AnsweredEarly", end=False)
    talk.say("client", out, data(stream, message(), False))
    talk.say("server", talk.reply(stream, extra=[("content-type", "application/grpc")], end=False),
             talk.hang_up(stream, 7), reset(stream, "NO_ERROR"))
    talk.want(grpc("rig.Chat/AnsweredEarly", "PERMISSION_DENIED"))
    talk.check()
    return talk.play()


@case
def grpc_resets():
    talk = Talk()

    def cancelled(name, timeout, wait, side="client", code="CANCEL", head=False):
        stream, out = talk.dial(f"rig.Reset/{name}", [("grpc-timeout", timeout)] if timeout else [], body=message())
        talk.say("client", out)
        if head:
            talk.say("server", talk.reply(stream, extra=[("content-type", "application/grpc")], body=message(),
                                          end=False))
        talk.wait(wait)
        talk.say(side, reset(stream, code))

    cancelled("Cancel", None, 0.01)
    cancelled("CancelInTheMiddle", None, 0.01, head=True)
    cancelled("CancelInTime", "10S", 0.05)
    cancelled("CancelInTimeOfHours", "1H", 0.05)
    cancelled("CancelInTimeOfMinutes", "2M", 0.05)
    cancelled("CancelByServer", None, 0.01, "server")
    talk.want(*[grpc(f"rig.Reset/{name}", "CANCELLED") for name in
                ("Cancel", "CancelInTheMiddle", "CancelInTime", "CancelInTimeOfHours", "CancelInTimeOfMinutes",
                 "CancelByServer")])
    cancelled("Deadline", "50m", 0.09)
    cancelled("DeadlineInTheMiddle", "50m", 0.09, head=True)
    cancelled("DeadlineOfMicroseconds", "40000u", 0.08)
    cancelled("DeadlineOfNanoseconds", "40000000n", 0.08)
    cancelled("DeadlineByServer", "50m", 0.09, "server")
    talk.want(*[grpc(f"rig.Reset/{name}", "DEADLINE_EXCEEDED") for name in
                ("Deadline", "DeadlineInTheMiddle", "DeadlineOfMicroseconds", "DeadlineOfNanoseconds",
                 "DeadlineByServer")])
    for code in ("REFUSED_STREAM", "INTERNAL_ERROR", "ENHANCE_YOUR_CALM"):
        cancelled(code, "10S", 0, "server", code)
        talk.want(grpc(f"rig.Reset/{code}", None, code))
    stream, out = talk.dial("rig.Reset/Closed", body=message())
    talk.say("client", out)
    talk.want(grpc("rig.Reset/Closed", None, "connection_closed"))
    talk.check()
    return talk.play(over=by_server)


@case
def grpc_web_and_connect_are_http():
    talk = Talk()
    kinds = ("application/grpc-web+proto", "application/grpc-web", "application/grpc-web-text", "application/proto",
             "application/connect+proto", "application/json", "text/application/grpc", "application/grpcx")
    for number, kind in enumerate(kinds):
        talk.get(f"/rig.Web/{number}", "POST", extra=[("content-type", kind), ("te", "trailers")], body=message(),
                 reply={"extra": [("content-type", kind)], "body": message(), "trailers": [("grpc-status", "5")]})
    talk.check()
    return talk.play()


@case
def pushes():
    """A promised stream is no request of the client; its blocks make entries all the same."""
    talk = Talk()
    for number, cuts in enumerate([(), (10, 20)]):
        stream, out = talk.ask(f"/push/{number}")
        talk.say("client", out)
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", f"/push/style-{number}"),
                  ("x-promised", "entry")]
        block = talk.coders["server"].block(fields)
        talk.heads["server"].append(fields)
        edges = [0, *cuts, len(block)]
        parts = [block[at:until] for at, until in zip(edges, edges[1:])]
        flags = ["PADDED"] * number + ["END_HEADERS"] * (len(parts) == 1)
        promised = frames.PushPromiseFrame(stream, 2 * number + 2, parts[0], pad_length=9 * number, flags=flags)
        promise = [promised.serialize()]
        promise += [frames.ContinuationFrame(stream, part, flags=["END_HEADERS"] * (part is parts[-1])).serialize()
                    for part in parts[1:]]
        talk.say("server", promise)
        if number:
            talk.say("server", talk.reply(stream, 302, body=b"ok", extra=[("x-promised", "entry")]))
        talk.say("server", talk.reply(2 * number + 2, 302, body=b"a {}",
                                      extra=[("x-promised", "entry"), ("x-pushed", "entry")]))
        if not number:
            talk.say("server", talk.reply(stream, 302, body=b"ok", extra=[("x-promised", "entry")]))
        talk.want(http(f"/push/{number}", status=302))
    talk.get("/push/after", status=302, reply={"extra": [("x-pushed", "entry")]})
    stream, out = talk.ask("/push/refused")
    talk.say("client", out)
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", "/push/no"),
              ("x-promised", "entry")]
    talk.heads["server"].append(fields)
    talk.say("server", frames.PushPromiseFrame(stream, 6, talk.coders["server"].block(fields),
                                               flags=["END_HEADERS"]).serialize())
    talk.say("client", reset(6, "REFUSED_STREAM"))
    talk.say("server", talk.reply(stream, 418, body=b"ok"))
    talk.want(http("/push/refused", status=418))
    talk.get("/push/last", status=418)
    talk.check()
    return talk.play()


@case
def tunnels():
    """A CONNECT is over with the 2xx; what the stream carries then is not HTTP."""
    talk = Talk(server={8: 1})

    def tunnel(name, fields, wanted):
        stream, talk.next = talk.next, talk.next + 2
        talk.say("client", talk.head("client", stream, fields, end=False))
        talk.say("server", talk.reply(stream, 200, end=False))
        talk.mark(name)
        talk.wait(0.1)
        for side in ("client", "server"):
            talk.say(side, data(stream, LOOK_ALIKE, False))
            talk.say(side, data(stream, b"last"))

        def check(span):
            late = (span["end_time_unix_nano"] - talk.marks[name]) / 1e6
            return f"expected the end at the 2xx, got {late:.0f} ms later" if late > 20 else None

        wanted.check = check
        talk.want(wanted)

    chat = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/tunnel/chat"),
            (":authority", "x"), ("sec-websocket-version", "13")]
    tunnel("websocket", chat, http("/tunnel/chat", "CONNECT"))
    target = http("", "CONNECT", authority="db:5432")
    target.client["url.full"], target.server["url.path"] = {"http://db:5432", None}, {"", None}
    tunnel("plain", [(":method", "CONNECT"), (":authority", "db:5432")], target)
    stream, talk.next = talk.next, talk.next + 2
    refused = [(":path", "/tunnel/refused") if name == ":path" else (name, value) for name, value in chat]
    talk.say("client", talk.head("client", stream, refused, end=False))
    talk.say("server", talk.reply(stream, 403, body=b"no"))
    talk.say("client", reset(stream, "CANCEL"))
    talk.want(http("/tunnel/refused", "CONNECT", 403))
    talk.get("/tunnel/after")
    talk.check()
    return talk.play()


@case
def upgrades_from_http1():
    wanted = []
    version = {"1.1", "2"}
    request = ("{} {} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
               "HTTP2-Settings: AAMAAABkAAQAAP__\r\n{}\r\n")
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    for number, kind in enumerate(("apart", "together", "answered first", "with a body")):
        talk = Talk(opened=False)
        talk.next = 3
        method, body = ("POST", b"a body") if kind == "with a body" else ("GET", b"")
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        first = request.format(method, f"/upgrade/{number}", length).encode() + body
        talk.before = {"client": len(first), "server": len(switch)}
        talk.say("client", first)
        if kind == "answered first":
            talk.say("server", switch, settings(), talk.reply(1, body=b"ok", extra=[("x-a", "b")]))
            talk.say("client", PREFACE, settings(), ACK)
            talk.say("server", ACK)
        else:
            if kind == "together":
                talk.say("server", switch, settings())
            else:
                talk.each("server", [switch, settings()])
            talk.say("client", PREFACE, settings())
            talk.say("server", ACK, talk.reply(1, body=b"ok", extra=[("x-a", "b")]))
            talk.say("client", ACK)
        talk.want(http(f"/upgrade/{number}", method))
        talk.wanted[0].both["network.protocol.version"] = version
        talk.get(f"/upgrade/{number}/next", status=302)
        talk.get(f"/upgrade/{number}/last", status=302)
        talk.check()
        wanted += talk.play()
    talk = Talk(opened=False)
    for path, more in (("/upgrade/refused", request.format("GET", "/upgrade/refused", "").encode()),
                       ("/upgrade/refused/next", b"GET /upgrade/refused/next HTTP/1.1\r\nHost: x\r\n\r\n")):
        talk.say("client", more)
        talk.say("server", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        talk.want(http(path))
        talk.wanted[-1].both["network.protocol.version"] = "1.1"
    return wanted + talk.play()


@case
def traceparent():
    """On requests that come from elsewhere: each way to write the field."""
    talk = Talk()

    def take(name, *lines, kept=None, **ask):
        talk.get(f"/parent/{name}", extra=[("x-before", "1"), *lines], **ask)
        want = talk.wanted[-1]
        if kept:
            want.server.update(trace_id=kept[0], parent_span_id=kept[1])
        else:
            want.server.update(not_trace_id=TRACE, parent_span_id=None)

    good, second = (TRACE, PARENT), ("11111111111111111111111111111111", "2222222222222222")
    take("raw", ("traceparent", GOOD, "plain"), kept=good, huffman=False)
    take("huffman", ("traceparent", GOOD, "plain"), kept=good)
    take("never", ("traceparent", GOOD, "never"), kept=good)
    take("none-yet")
    take("made-raw", ("traceparent", GOOD), kept=good, huffman=False)
    take("indexed", ("traceparent", GOOD), kept=good)
    take("indexed-again", ("x-other", "2"), ("traceparent", GOOD), kept=good)
    take("name-by-index", ("traceparent", "00-" + "-".join(second) + "-01"), kept=second, huffman=False)
    take("name-by-index-huffman", ("traceparent", f"00-{second[0]}-{PARENT}-01", "plain"), kept=(second[0], PARENT))
    take("first-again", ("traceparent", GOOD), kept=good)
    take("second-again", ("traceparent", "00-" + "-".join(second) + "-01"), kept=second)
    take("later-version", ("traceparent", f"cc-{TRACE}-{PARENT}-01-what"), kept=good)
    take("continued", ("traceparent", GOOD, "again"), kept=good, cuts=range(10, 120, 7))
    take("behind-large", *big(6000), ("traceparent", GOOD, "plain"), kept=good)
    take("none-now")
    take("twice", ("traceparent", GOOD), ("traceparent", GOOD))
    bad = [f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE.upper()}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01",
           f"00-{TRACE}-{'0' * 16}-01", f"{GOOD}-x", GOOD[:-1], f"00_{TRACE}-{PARENT}-01", ""]
    for number, value in enumerate(bad):
        take(f"bad/{number}", ("traceparent", value, ("plain", "index")[number % 2]), huffman=number % 3 == 0)
        take(f"bad/{number}/again", ("traceparent", value))
    take("other-names", ("trace-parent", GOOD), ("traceparents", GOOD), ("xtraceparent", GOOD))
    take("in-trailers", body=b"abc", trailers=[("traceparent", GOOD)])
    take("last", ("traceparent", GOOD), kept=good)
    for huffman in (True, False):
        stream, out = talk.dial(f"rig.Parent/{huffman}", [("traceparent", GOOD)], body=message(), huffman=huffman)
        talk.say("client", out)
        talk.say("server", talk.reply(stream, extra=[("content-type", "application/grpc")], end=False),
                 talk.hang_up(stream))
        talk.want(grpc(f"rig.Parent/{huffman}"))
        talk.wanted[-1].server.update(trace_id=TRACE, parent_span_id=PARENT)
    talk.check()
    return from_outside(talk)


def look_alikes(rng):
    """(name, who says what) of sessions that are not HTTP/2."""
    def yamux(kind, flags, stream, length, payload=b""):
        return struct.pack(">BBHII", 0, kind, flags, stream, length) + payload

    def amqp(kind, channel, payload):
        return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"

    def resp(*words):
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)

    def mqtt(kind, payload):
        length, out = len(payload), bytes([kind])
        while True:
            length, low = divmod(length, 128)
            out += bytes([low | (0x80 if length else 0)])
            if not length:
                return out + payload

    fill = rng.randbytes(3000)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(505)
    request = b"".join(spread(1, Fields().block([(":method", "GET"), (":scheme", "http"), (":authority", "x"),
                                                 (":path", "/no-settings")])))
    answer = b"".join(spread(1, b"\x88"))
    yield "yamux", [
        ("client", yamux(1, 1, 1, 0)), ("server", yamux(1, 2, 1, 0)), ("client", yamux(0, 0, 1, 3000, fill)),
        ("client", yamux(2, 1, 0, 7)), ("server", yamux(2, 2, 0, 7)),
        *[("client", yamux(1, 1, at, 0)) for at in range(3, 99, 2)],
        ("server", yamux(0, 0, 1, 10, b"0123456789")), ("client", yamux(3, 0, 0, 0))]
    yield "amqp", [
        ("client", b"AMQP\0\0\x09\x01"), ("server", amqp(1, 0, b"\0\x0a\0\x0a\0\x09" + fill[:400])),
        ("client", amqp(1, 0, b"\0\x0a\0\x0b" + fill[:200])),
        ("client", amqp(1, 1, b"\0\x3c\0\x28") + amqp(2, 1, b"\0\x3c\0\0" + bytes(10)) + amqp(3, 1, fill)),
        ("server", amqp(8, 0, b""))]
    yield "redis", [
        ("client", resp(b"PING")), ("server", b"+PONG\r\n"),
        ("client", resp(b"SET", b"key", fill)), ("server", b"+OK\r\n"),
        ("client", resp(b"GET", b"key")), ("server", b"$3000\r\n" + fill + b"\r\n")]
    for number in range(8):
        yield f"random bytes {number}", [(side, rng.randbytes(4000)) for side in ("client", "server", "client")]
    for cut in (14, 16, 18, 20, 23):
        yield f"the preface up to {cut}", [
            ("client", PREFACE[:cut] + b"XX"), ("server", settings() + ACK),
            ("client", settings() + request + fill), ("server", answer)]
    yield "a preface and no SETTINGS", [
        ("client", PREFACE + request), ("server", settings() + answer + fill), ("client", fill)]
    yield "a preface and PING", [("client", PREFACE + PING + request), ("server", PONG), ("client", fill)]
    yield "a preface and bytes", [("client", PREFACE), ("client", fill), ("server", fill)]
    yield "mqtt", [
        ("client", mqtt(0x10, b"\0\x04MQTT\x04\x02\0\x3c\0\x03rig")), ("server", b"\x20\x02\0\0"),
        ("client", mqtt(0x82, b"\0\1\0\1#\0")), ("server", b"\x90\x03\0\1\0"),
        ("client", mqtt(0x30, b"\0\3a/b" + fill)), ("client", b"\xc0\0"), ("server", b"\xd0\0")]
    startup = b"\0\3\0\0user\0rig\0database\0rig\0\0"
    yield "postgresql", [
        ("client", struct.pack(">I", len(startup) + 4) + startup), ("server", b"R\0\0\0\x08\0\0\0\0Z\0\0\0\5I"),
        ("client", b"Q" + struct.pack(">I", 3005) + b"s" * 3000 + b"\0"),
        ("server", b"C\0\0\0\rSELECT 0\0Z\0\0\0\5I"), ("client", b"X\0\0\0\4")]
    yield "postgresql asks for TLS", [
        ("client", struct.pack(">II", 8, 80877103)), ("server", b"S"), ("client", hello),
        ("server", b"\x16\x03\x03\x0b\xb8" + fill)]
    yield "tls", [
        ("client", hello), ("server", b"\x16\x03\x03\x0b\xb8" + fill), ("client", b"\x17\x03\x03\x0b\xb8" + fill)]
    yield "the server begins", [("server", settings({3: 100}) + PING), ("client", fill), ("server", answer)]
    yield "frames without a preface", [
        ("client", b"\0" * 24 + settings() + request), ("server", settings() + ACK + answer)]


@case
def look_alikes_make_no_span():
    for number, (name, steps) in enumerate(look_alikes(random.Random(15))):
        talk = Talk(opened=False)
        talk.steps = steps
        talk.play(way=("whole", "bytes", random.Random(number))[number % 3])
    talk = Talk()
    talk.get("/look-alikes/after")
    return talk.play()


def varied(rng, prefix, count=20):
    """A connection with streams of all kinds."""
    talk = Talk(huffman=lambda: rng.random() < 0.5)
    waiting = []

    def answer():
        stream, number, kind = waiting.pop(rng.randrange(len(waiting)))
        how = {"pad": rng.choice([None, None, 3]), "cuts": rng.choice([(), (), (1,), (2, 9)])}
        if kind == "grpc":
            status = rng.choice([0, 0, 5, 14])
            talk.say("server", talk.reply(stream, extra=[("content-type", "application/grpc")],
                                          body=message(LOOK_ALIKE), end=False, **how),
                     talk.hang_up(stream, status))
            talk.want(grpc(f"{prefix}.Service/{number}", CODES[status]))
            return
        path, method = f"/{prefix}/{number}", "GET" if kind == "get" else "POST"
        if kind == "reset":
            side, code = rng.choice([("client", "CANCEL"), ("server", "REFUSED_STREAM")])
            talk.say(side, reset(stream, code))
            talk.want(http(path, method, None, code))
            return
        status = rng.choice([200, 200, 302, 404, 503, 599])
        early = []
        if rng.random() < 0.2:
            early = talk.head("server", stream, [(":status", "103"), ("link", "</a>")], end=False)
        fields, body = [("server", "rig"), ("x-r", "r" * rng.randrange(200))], rng.choice([None, b"", LOOK_ALIKE * 5])
        talk.say("server", early, talk.reply(stream, status, fields, body, rng.choice([(), [("x-end", "1")]]),
                                             pad_data=rng.choice([None, 4]), **how))
        talk.want(http(path, method, status))

    for number in range(count):
        kind = rng.choice(["get", "get", "post", "grpc", "reset"])
        how = {"pad": rng.choice([None, None, 30]), "cuts": rng.choice([(), (), (5,), (1, 2, 30)]),
               "priority": rng.choice([None, (0, 9, False)])}
        extra = [("user-agent", "rig"), ("x-id", str(number), rng.choice(["index", "plain", "never", "again"])),
                 ("x-v", "v" * rng.randrange(300))]
        if kind == "grpc":
            stream, out = talk.dial(f"{prefix}.Service/{number}", extra, body=message(LOOK_ALIKE), **how)
        else:
            stream, out = talk.ask(f"/{prefix}/{number}", "GET" if kind == "get" else "POST", extra,
                                   body=None if kind == "get" else LOOK_ALIKE * rng.randrange(5),
                                   pad_data=rng.choice([None, 2]), **how)
        waiting.append((stream, number, kind))
        talk.say("client", rng.choice([b"", PING, unknown(0x30, 0)]), out)
        while waiting and rng.random() < 0.5:
            answer()
    while waiting:
        answer()
    talk.check()
    return talk


@case
def any_cut_of_any_stream():
    """The same bytes in 50 ways: the same spans, but for ids, times and ports."""
    talk = varied(random.Random(164), "cut")
    wanted = talk.play()
    for number in range(50):
        wanted = wanted + talk.play(way=random.Random(number))

    def alike(spans):
        rows = collections.Counter()
        for span in spans:
            # a client here may belong to a request that its own thread has read already, or not yet
            said = {key: value for key, value in span["attributes"].items()
                    if not key.endswith((".port", "url.full")) and (key, span["kind"]) != ("spanwire.link", "client")}
            rows[json.dumps([span["kind"], span["name"], span["error"], path_of(span), said], sort_keys=True)] += 1
        return [f"expected each span in each of 51 plays, got {count} times {row}" for row, count in rows.items() if count % 51]

    return [*wanted, alike]


@case
def many_connections_at_once():
    talks = [varied(random.Random(1700 + number), f"at-once-{number}", 10) for number in range(64)]
    faults = []

    def play(number, talk):
        try:
            talk.play(way=("whole", random.Random(number))[number % 2])
        except (AssertionError, OSError) as fault:
            faults.append(f"connection {number}: {fault!r}")

    threads = [threading.Thread(target=play, args=one) for one in enumerate(talks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[0]
    return [want for talk in talks for want in talk.wanted]


def unix_pair():
    """As `pair`, over a unix socket with a name."""
    path = tempfile.mktemp(prefix="spanwire-", suffix=".sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        server, _ = listener.accept()
    os.unlink(path)
    for end in (client, server):
        end.settimeout(5)
    return client, server


@case
def over_unix_sockets():
    """Their end is not seen by every tier: a connection more than are kept must not be one too many."""
    talks = []
    for number in range(1100):
        talk = Talk()
        talk.get(f"/unix/{number}", authority="localhost")
        talks.append(talk)
        talk.play(unix_pair(), over=(close, by_server)[number % 2])
    return [want for talk in talks for want in talk.wanted]


# Cases with a tracer of their own

def before_and_after(talk, at):
    """The talk in two, for the same connection."""
    first, rest = Talk(opened=False), talk
    first.steps, rest.steps = talk.steps[:at], talk.steps[at:]
    return first, rest


@alone
def in_the_middle(arguments):
    """Connections that are older than the tracer: what is unknown may lack, nothing may be wrong."""
    sessions = []
    listener = socket.create_server(("127.0.0.1", 0))  # what listens tells the server's end from the client's
    for name, how in (("huffman", {}), ("raw", {"huffman": False}), ("no-table", {"server": {1: 0}, "client": {1: 0}}),
                      ("settings", {"server": {1: 65536}})):
        talk = Talk(**how)
        sizes = {"no-table": [0], "settings": [65536]}.get(name, [])
        for number in range(3):
            talk.get(f"/middle/{name}/old/{number}", extra=[("x-old", str(number)), ("x-same", "same")], want=False,
                     authority="older",
                     status=302, sizes=[] if number else sizes,
                     reply={"sizes": sizes if name == "no-table" and not number else []})
        at = len(talk.steps)
        # What the first names is known to those who were there; the last names what was said since.
        rest = [("old/1", "index", "GET", "older", [("x-old", "1")], 302),
                ("new/0", "index", "GET", "older", [("x-same", "same")], 200),
                ("new/1", "plain", "POST", "older", [("x-old", "2"), ("x-same", "same")], 418),
                ("new/2", "again", "PUT", "newer", [("x-same", "same")], 418),
                ("new/2", "index", "GET", "newer", [("x-same", "new")], 200)]
        for number, (path, path_how, method, authority, extra, status) in enumerate(rest):
            path = f"/middle/{name}/{path}"
            talk.wait(0.02)
            talk.mark(f"from {number}")
            talk.get(path, method, extra=extra, path_how=path_how, authority=authority, status=status, want=False)
            talk.mark(f"to {number}")
            want = http(path, method, status, authority=authority, window=(f"from {number}", f"to {number}"),
                        needed=number >= 2)
            want.client["error.type"] = {None, "_OTHER", want.client["error.type"]}
            want.server["error.type"] = {None, "_OTHER"}
            if number in (1, 2, 3):
                want.check = lambda span, path=path: (
                    None if path_of(span) == path else f"expected the literal path {path}, got {path_of(span)!r}")
            talk.want(want)
        talk.check()
        talk.wait(0.02)
        sessions.append((pair(listener), *before_and_after(talk, at)))
    for ends, first, _ in sessions:
        first.play(ends, over="open")
    tracer = Tracer("--pid", str(os.getpid()), binary=arguments.binary)
    wanted = []
    for ends, _, rest in sessions:
        wanted += rest.play(ends)
    listener.close()
    return judge(wanted, tracer.finish())


@alone
def look_alikes_in_the_middle(arguments):
    """The same sessions, older than the tracer: no beginning says what they are."""
    sessions = [(pair(), name, steps) for seed in range(5) for name, steps in look_alikes(random.Random(seed))
                if "preface" not in name and name != "the server begins"]  # those are HTTP/2 in part
    for ends, _, steps in sessions:
        talk = Talk(opened=False)
        talk.steps = steps[:1]
        talk.play(ends, over="open")
    tracer = Tracer("--pid", str(os.getpid()), binary=arguments.binary)
    for ends, _, steps in sessions:
        talk = Talk(opened=False)
        talk.steps = steps[1:] * 2
        talk.play(ends)
    return judge([], tracer.finish())


# Headers in outgoing requests

def sender(port, batches):
    """The client whose requests are given headers: (pieces, bytes to wait for before the next batch), ..."""
    with socket.create_connection(("127.0.0.1", port)) as end:
        prepare(end)
        for pieces, awaited in batches:
            for piece in pieces:
                if isinstance(piece, list):
                    sent = end.sendmsg(piece)
                    assert sent == sum(map(len, piece)), f"a short send: {sent}"
                else:
                    end.sendall(piece)
            got = receive(end, awaited)
            assert len(got) == awaited, f"the connection ended after {len(got)} of {awaited} bytes"
        end.shutdown(socket.SHUT_WR)
        end.recv(1)


ANSWER = b"".join(spread(1, b"\x88"))  # of a stream whose number is filled in


def answering(end, first):
    """The receiver: its SETTINGS, an answer to each request that is whole; all bytes that came."""
    end.sendall(first)
    got, at, settled = bytearray(), len(PREFACE), False
    while part := end.recv(1 << 16):
        got += part
        out = b""
        while len(got) >= at + 9 and len(got) >= at + 9 + (length := int.from_bytes(got[at:at + 3], "big")):
            kind, flags, stream = got[at + 3], got[at + 4], bytes(got[at + 5:at + 9])
            if kind == 4 and not flags & 1 and not settled:
                out, settled = out + ACK, True
            if kind in (0, 1) and flags & 1:
                out += ANSWER[:5] + stream + ANSWER[9:]
            at += 9 + length
        end.sendall(out)
    return bytes(got)


@dataclass
class Sent:
    """A header block that left."""
    stream: int
    path: str
    want: str  # "one": a field more, "none", "either"
    kind: str  # for the table that is printed
    whole: bool = True


class Stream:
    """A connection of the client, made of a seed."""

    def __init__(self, seed, number):
        self.rng = rng = random.Random(f"{seed}/{number}")
        self.number, self.blocks, self.batches = number, [], []
        table = rng.choice([None, None, 0, 256, 65536])
        self.small = rng.random() < 0.1
        values = {3: 1000, 4: 1 << 20, **({1: table} if table is not None else {}),
                  **({6: rng.choice([64, 1000])} if self.small else {})}
        self.first = settings(values) + frames.WindowUpdateFrame(0, 1 << 24).serialize()
        self.talk = Talk(opened=False, huffman=lambda: rng.random() < 0.5)
        knows = rng.random() < 0.5
        start = PREFACE + settings({4: 1 << 20})
        if knows:
            self.batches.append(([start], len(self.first) + len(ACK)))
            start = ACK
        sizes = [table] if table is not None and knows else []
        for index in range(rng.randrange(1, 6)):
            parts, count = [start] if start else [], rng.randrange(1, 5)
            heads = []
            for one in range(count):
                at = sum(map(len, parts))
                block, rest = self.request(f"/inject/{number}/{index}-{one}", sizes)
                sizes = []
                parts += [*block, *rest]
                heads.append((self.blocks[-1], at, at + sum(map(len, block))))
            awaited = count * len(ANSWER) + (len(self.first) + len(ACK) if index == 0 and not knows else 0)
            if not knows and index == 0:
                parts_next = ACK
                sizes = [table] if table is not None else []
            else:
                parts_next = b""
            pieces = self.cut(parts)
            edges, total = [], 0
            for piece in pieces:
                length = sum(map(len, piece)) if isinstance(piece, list) else len(piece)
                edges.append((total, total + length))
                total += length
            for block, at, until in heads:
                block.whole = any(begin <= at and until <= end for begin, end in edges)
            self.batches.append((pieces, awaited))
            start = parts_next
        if start:
            self.batches.append(([start], 0))
        self.data = b"".join(part for pieces, _ in self.batches for piece in pieces
                             for part in (piece if isinstance(piece, list) else [piece]))

    def request(self, path, sizes):
        """(frames of the head, frames behind it)"""
        rng, talk = self.rng, self.talk
        method = rng.choice(["GET", "GET", "POST", "PUT", "DELETE", "PURGE"])
        extra = [(f"x-{rng.choice('abc')}", rng.choice("vw") * rng.choice([0, 1, 20, 100, 500]),
                  rng.choice(["index", "index", "plain", "never", "again"]))
                 for _ in range(rng.randrange(6))]
        kind, want = "plain", "one"
        if rng.random() < 0.15:
            own = ("traceparent", f"00-{TRACE}-{rng.choice([PARENT, '2222222222222222'])}-01",
                   rng.choice(["index", "index", "plain", "never", "spelled"]))
            extra.insert(rng.randrange(len(extra) + 1), own)
            kind, want = "own traceparent", "none"
        elif rng.random() < 0.1:
            extra += [("x-large", "l" * 1000, "plain")] * rng.randrange(1, 8)
            kind = "1 to 8 KiB"
        how = {}
        if rng.random() < 0.15:
            how["cuts"] = rng.choice([(10,), (1, 5), (0,), (30, 31)])
            kind = kind if want == "none" else "with CONTINUATION"
        if rng.random() < 0.15:
            how["pad"] = rng.choice([0, 1, 255])
            kind = kind if want == "none" or "cuts" in how else "padded"
        if rng.random() < 0.1:
            how["priority"] = (0, rng.randrange(256), rng.random() < 0.5)
        if rng.random() < 0.15:
            method, path = "POST", f"/inject.Service/{path[8:].replace('/', '-')}"
            extra = [("content-type", "application/grpc"), ("te", "trailers"), *extra]
        body = LOOK_ALIKE * rng.randrange(8) + rng.choice([b"", b"traceparent", rng.randbytes(500)])
        body = None if method in ("GET", "DELETE") else body
        trailers = [("x-sum", "1")] if body is not None and rng.random() < 0.2 else ()
        stream, out = talk.ask(path, method, extra, body=body, trailers=trailers, sizes=sizes,
                               pad_data=rng.choice([None, None, 9]), **how)
        self.blocks.append(Sent(stream, path, want, kind))
        length = next(at for at, one in enumerate(out, 1) if one[4] & 4)  # END_HEADERS
        return out[:length], out[length:]

    def cut(self, parts):
        """What goes out in one send each: bytes, or a list of them for one of vectors."""
        rng, ways = self.rng, ["whole"] * 4 + ["frames", "frames", "pieces", "bytes", "vectors", "vectors"]
        way = rng.choice(ways)
        everything = b"".join(parts)
        if way == "frames":
            return parts
        if way == "bytes" and len(everything) < 4000:
            return [everything[at:at + 1] for at in range(len(everything))]
        if way == "whole":
            return [everything]
        out, at = [], 0
        while at < len(everything):
            size = rng.choice([1, 2, 9, 50, 700, 5000])
            out.append(everything[at:at + size])
            at += size
        return out if way != "vectors" else [out[at:at + 1000] for at in range(0, len(out), 1000)]


def compare(stream, got):
    """What arrived beside what was sent: (blocks with the fields they were given, the first fault or None)."""
    given = []
    try:
        if not got.startswith(PREFACE):
            return given, f"no preface: {got[:40]!r}"
        decoders = [hpack.Decoder(1 << 20) for _ in range(2)]
        for decoder in decoders:
            decoder.max_allowed_table_size = 1 << 16
        sent, came = units(stream.data[len(PREFACE):], decoders[0]), units(got[len(PREFACE):], decoders[1])
    except Exception as fault:  # those of hyperframe and hpack are many
        return given, f"not well-formed: {fault!r}"
    known = {block.stream: block for block in stream.blocks}
    if len(sent) != len(came):
        return given, f"expected {len(sent)} frames and blocks, got {len(came)}"
    for one, other in zip(sent, came):
        if max(other.sizes) > LIMIT:
            return given, f"a frame of {max(other.sizes)} bytes"
        if one.raw == other.raw:
            if one.fields and one.fields[0][0].startswith(":"):
                given.append((known.pop(one.first.stream_id), None))
            continue
        if one.fields is None or other.fields is None:
            return given, f"frame differs: expected {one.raw[:60]!r}, got {other.raw[:60]!r}"
        block = known.pop(one.first.stream_id, None)
        where = f"stream {one.first.stream_id}"
        if block is None:
            return given, f"{where}: trailers differ: expected {one.fields}, got {other.fields}"
        added = [at for at, pair in enumerate(other.fields) if pair[0] == "traceparent"]
        if block.want == "none" or len(added) != 1:
            return given, f"{where}, {block.kind}: expected {one.fields}, got {other.fields}"
        line = other.fields.pop(added[0])[1]
        if other.fields != one.fields:
            return given, f"{where}: beside the traceparent, expected {one.fields}, got {other.fields}"
        if not VALID.fullmatch(line):
            return given, f"{where}: no valid traceparent: {line!r}"
        if any(name.startswith(":") for name, _ in other.fields[added[0]:]):
            return given, f"{where}: in front of a pseudo-header"
        kept = [[unit.first.stream_id, "END_STREAM" in unit.first.flags, "PRIORITY" in unit.first.flags,
                 *(getattr(unit.first, name, 0) for name in ("depends_on", "stream_weight", "exclusive"))]
                for unit in (one, other)]
        if kept[0] != kept[1]:
            return given, f"{where}: flags or priority: expected {kept[0]}, got {kept[1]}"
        given.append((block, line))
    return given, None


def over_http1(listener):
    """How many of three requests of one connection are given a header: are claims lasting?"""
    request, answer = b"GET /inject/http1 HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    OTHER.begin("sender", listener.getsockname()[1], [([request], len(answer))] * 3)
    end, _ = listener.accept()
    found = 0
    with end:
        prepare(end)
        for _ in range(3):
            head = b""
            while b"\r\n\r\n" not in head:
                head += end.recv(4096)
            found += b"traceparent: 00-" in head
            end.sendall(answer)
        end.recv(1)
    OTHER.result()
    return found


@alone
def injection(arguments):
    """A selected client, a receiver that is not: what arrives is what was sent, and a field more in each request."""
    problems, counts, lines = [], collections.defaultdict(lambda: [0, 0]), []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)
    tracer = Tracer("--pid", str(OTHER.pid), binary=arguments.binary,
                    settings={"ebpf.context_propagation": "headers", "spanwire.claim": arguments.claim})
    # a program's code is searched for FIONREAD a second after it was seen, which takes its time on an emulated CPU
    found, limit = 0, time.monotonic() + 20
    while found != 3 and time.monotonic() < limit:
        time.sleep(1)
        found = over_http1(listener)
    if found != 3:
        problems.append(f"claims do not last: {found} of 3 requests of HTTP/1 have a header")
    streams = [Stream(arguments.seed, number) for number in range(arguments.streams)]
    for stream in streams:
        OTHER.begin("sender", listener.getsockname()[1], stream.batches)
        got, fault = b"", None
        try:
            with listener.accept()[0] as end:
                prepare(end)
                got = answering(end, stream.first)
        except OSError as error:
            fault = f"the receiver: {error!r}"
        try:
            OTHER.result()
        except AssertionError as error:
            fault = f"{fault or ''} {error}"
        given, differs = ([], None) if fault else compare(stream, got)
        for block, line in given:
            lines.append((block, line))
            kind = block.kind if block.whole else "split over sends"
            kind = "small MAX_HEADER_LIST_SIZE" if stream.small else kind
            if block.want == "one":
                counts[kind][0] += line is not None
                counts[kind][1] += 1
        if fault or differs:
            problems.append(f"connection {stream.number} (--seed {arguments.seed}): {fault or differs}")
            if len(problems) > 5:
                break
    metrics = {re.search('"(.*)"', key)[1]: int(value) for key, value in tracer.metrics().items()
               if key.startswith("spanwire_injection_total") and value}
    spans = collections.defaultdict(list)
    for span in tracer.finish():
        spans[path_of(span)].append(span)
    unseen = unequal = 0
    for block, line in lines:
        mine = spans.get(block.path.lstrip("/") if block.path.startswith("/inject.") else block.path, [])
        unseen += len(mine) != 1
        if line and len(mine) == 1:
            unequal += VALID.fullmatch(line).groups() != (mine[0]["trace_id"], mine[0]["span_id"])
    if unseen:
        problems.append(f"{unseen} of {len(lines)} requests have not exactly one client span")
    if unequal:
        problems.append(f"{unequal} headers do not name the client's span")
    for kind, (have, may) in sorted(counts.items()):
        print(f"       {kind}: {have} of {may} have a header")
    print(f"       counters: {metrics}")
    due = [row for kind, row in counts.items() if not kind.startswith(("small", "split"))]
    have, may = sum(row[0] for row in due), sum(row[1] for row in due)
    print(f"       sent whole: {have} of {may} have a header ({have / max(may, 1):.1%})")
    if have < 0.99 * may or not may:
        problems.append(f"expected a header in 99 % of those that were sent whole, got {have} of {may}")
    return problems


def report(name, problems):
    print(f"{'FAILED' if problems else 'ok':<7}{name}", flush=True)
    for problem in problems[:6]:
        print(f"       {problem[:600]}")
    if len(problems) > 6:
        print(f"       and {len(problems) - 6} more")
    return bool(problems)


def main():
    global OTHER
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=BINARY)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[])
    parser.add_argument("--claim", default="auto", choices=["auto", "lasting", "brief"])
    parser.add_argument("--streams", type=int, default=200, help="connections of the injection case")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    names = {function.__name__ for function in CASES + ALONE}
    if wrong := set(arguments.only) - names:
        parser.error(f"no such case: {', '.join(sorted(wrong))}; there are {', '.join(sorted(names))}")
    chosen = [[function for function in some if not arguments.only or function.__name__ in arguments.only]
              for some in (CASES, ALONE)]
    need_root(sum(map(len, chosen)))
    OTHER = Other()
    failed, marks, faults = 0, [], {}
    if chosen[0]:
        tracer = Tracer("--pid", str(os.getpid()), binary=arguments.binary)
        for function in chosen[0]:
            begun, wanted = time.time_ns(), []
            try:
                wanted = function()
            except (AssertionError, OSError) as fault:
                faults[function.__name__] = [f"the rig: {fault!r}"]
            time.sleep(0.05)
            marks.append((function.__name__, wanted, begun, time.time_ns()))
            time.sleep(0.02)
        spans = tracer.finish(0.5)
        for name, wanted, begun, ended in marks:
            # clocks: a span's times are the kernel's, taken a moment off ours
            mine = [span for span in spans if begun - 2_000_000 <= span["start_time_unix_nano"] <= ended]
            failed += report(name, faults.get(name) or judge(wanted, mine))
        if failed:
            print(tracer.log.read_text()[-1500:])
    for function in chosen[1]:
        try:
            problems = function(arguments)
        except (AssertionError, OSError) as fault:
            problems = [f"the rig: {fault!r}"]
        failed += report(function.__name__, problems)
    print(f"{sum(map(len, chosen))} tests, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
