#!/usr/bin/env python3
"""The kernel side on this kernel: bytes on real sockets, and the spans that must come of them.

Both ends of each connection are in this process, which is selected by its pid; the cases are what
RFC 9112 allows and what sockets do to it. Needs root.

    tests/bpf/run.py [--binary PATH]
"""
import argparse
import array
import os
import queue
import random
import re
import select
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.tracer import BINARY, Tracer, need_root  # noqa: E402

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CASES = []
OTHERS = queue.SimpleQueue()
BEGUN = time.monotonic()
IDLE_PER_OPEN = 10  # of bpf/include/parent.h


def case(function):
    CASES.append(function)
    return function


def pair(family=socket.AF_INET, listener=None):
    """A fresh connection: client end, server end. A given listener stays open."""
    with listener.dup() if listener else socket.socket(family) as listener:
        if family == socket.AF_UNIX:
            path = tempfile.mktemp(prefix="spanwire-", suffix=".sock")
            listener.bind(path)
        else:
            listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listener.listen()
        client = socket.socket(family)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        if family == socket.AF_UNIX:
            os.unlink(path)
    for end in (client, server):
        end.settimeout(5)
        if family != socket.AF_UNIX:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, server


def receive(end, length):
    data = b""
    while len(data) < length:
        part = end.recv(length - len(data))
        if not part:
            break
        data += part
    return data


def exchange(ends, request, response=OK):
    client, server = ends
    client.sendall(request)
    receive(server, len(request))
    server.sendall(response)
    receive(client, len(response))


def serve_others():
    while True:
        end, length, done = OTHERS.get()
        receive(end, length)
        end.sendall(OK)
        done.set()


def ask(ends, request, wait=lambda: None):
    """The same, where it matters which thread serves: not the one that calls."""
    done = threading.Event()
    OTHERS.put((ends[1], len(request), done))
    ends[0].sendall(request)
    wait()
    receive(ends[0], len(OK))
    done.wait()


def close(ends):
    for end in ends:
        end.close()


def simple(path, method="GET", extra=b"", status=200):
    return [(path, method, status, side) for side in ("client", "server")]


@case
def byte_by_byte():
    ends = pair()
    request = b"GET /byte HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    for at in range(len(request)):
        ends[0].send(request[at:at + 1])
        ends[1].recv(1)
    for at in range(len(OK)):
        ends[1].send(OK[at:at + 1])
        ends[0].recv(1)
    exchange(ends, b"GET /byte-next HTTP/1.1\r\nHost: x\r\n\r\n")
    close(ends)
    return simple("/byte") + simple("/byte-next")


@case
def pipelined():
    ends = pair()
    requests = b"".join(b"GET /pipe-%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(5))
    exchange(ends, requests, OK * 5)
    close(ends)
    return [item for n in range(5) for item in simple(f"/pipe-{n}")]


def framed(rng, start, body):
    """A message with `body`, in one of the ways there are."""
    fields = b"".join(b"X-%d: %s\r\n" % (n, b"v" * rng.choice([0, 1, 60, 63, 64, 65, 900])) for n in range(rng.randrange(5)))
    if rng.random() < 0.5:
        return start + fields + b"Content-Length: %d\r\n\r\n" % len(body) + body
    out, at = start + b"Transfer-Encoding: chunked\r\n" + fields + b"\r\n", 0
    while at < len(body):
        part = body[at:at + rng.choice([1, 7, 100, 5000])]
        out += b"%x%s\r\n%s\r\n" % (len(part), rng.choice([b"", b";e=1"]), part)
        at += len(part)
    return out + b"0\r\n" + rng.choice([b"", b"T: GET / HTTP/1.1\r\n"]) + b"\r\n"


def hand_over(rng, sender, receiver, data):
    """In pieces of any size, read in pieces of any other."""
    at = taken = 0
    while taken < len(data):
        if at < len(data) and (taken == at or rng.random() < 0.5):
            at += sender.send(data[at:at + rng.choice([1, 2, 3, 17, 64, 1000, 9000])])
        if taken < at:
            taken += len(receiver.recv(rng.choice([1, 2, 5, 33, 64, 3000, 20000])))


@case
def any_cut_of_any_framing():
    expected = []
    for number in range(120):
        rng = random.Random(number)
        client, server = pair()
        requests = responses = b""
        for index in range(rng.randrange(1, 6)):
            path = f"/cut-{number}-{index}"
            body = (b"GET /fake HTTP/1.1\r\n\r\n" * 200)[:rng.choice([0, 1, 2, 23, 64, 4000])]
            method = rng.choice(["GET", "HEAD", "POST", "PUT"])
            start = f"{method} {path} HTTP/1.1\r\n".encode()
            requests += framed(rng, start, body) if method in ("POST", "PUT") else start + b"Host: x\r\n\r\n"
            status = rng.choice([200, 200, 204, 304, 404, 500])
            responses += rng.choice([b"", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"])
            start = b"HTTP/1.1 %d Word\r\n" % status
            if status in (204, 304) or method == "HEAD":
                responses += start + (b"" if status == 204 else b"Content-Length: 5\r\n") + b"\r\n"
            else:
                responses += framed(rng, start, body)
            expected += simple(path, method, status=status)
        hand_over(rng, client, server, requests)
        hand_over(rng, server, client, responses)
        close((client, server))
    return expected


@case
def bodies_that_look_like_requests():
    ends = pair()
    body = b"GET /fake HTTP/1.1\r\nHost: x\r\n\r\n" * 3
    head = b"POST /look HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    client, server = ends
    client.sendall(head)
    receive(server, len(head))
    client.sendall(body)
    receive(server, len(body))
    server.sendall(answer)
    receive(client, len(answer))
    chunk = b"%x\r\n" % len(body) + body + b"\r\n"
    exchange(ends, b"POST /chunked HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 2 + b"0\r\nTrailer: x\r\n\r\n",
             b"HTTP/1.1 201 Made\r\nTransfer-Encoding: Chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\n\r\n")
    exchange(ends, b"GET /after HTTP/1.1\r\n\r\n")
    close(ends)
    return simple("/look", "POST") + simple("/chunked", "POST", status=201) + simple("/after")


@case
def responses_without_a_body():
    ends = pair()
    exchange(ends, b"HEAD /head HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    exchange(ends, b"GET /204 HTTP/1.1\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n")
    exchange(ends, b"GET /304 HTTP/1.1\r\n\r\n", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n")
    exchange(ends, b"PUT /100 HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
             b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK)
    close(ends)
    return simple("/head", "HEAD") + simple("/204", status=204) + simple("/304", status=304) + simple("/100", "PUT")


@case
def other_targets_and_methods():
    ends = pair()
    exchange(ends, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    exchange(ends, b"GET http://abs.example/abs?q=1 HTTP/1.1\r\nHost: y\r\n\r\n")
    exchange(ends, b"MKCALENDAR /cal HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    exchange(ends, b"\r\nGET /crlf HTTP/1.1\r\n\r\n")
    close(ends)
    return (simple("*", "OPTIONS") + simple("/abs") + simple("/cal", "_OTHER") + simple("/crlf"))


@case
def upgrades_hand_off():
    ends = pair()
    exchange(ends, b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", b"HTTP/1.1 101 Switch\r\nUpgrade: websocket\r\n\r\n")
    exchange(ends, b"GET /not-http HTTP/1.1\r\n\r\n", OK)
    close(ends)
    tunnel = pair()
    exchange(tunnel, b"CONNECT db:5432 HTTP/1.1\r\nHost: db\r\n\r\n", b"HTTP/1.1 200 Yes\r\n\r\n")
    exchange(tunnel, b"GET /in-tunnel HTTP/1.1\r\n\r\n", OK)
    close(tunnel)
    return simple("/ws", status=101) + simple("", "CONNECT")


@case
def until_close():
    client, server = ends = pair()
    request = b"GET /close HTTP/1.0\r\n\r\n"
    client.sendall(request)
    receive(server, len(request))
    server.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    server.sendall(b"x" * 5000)
    server.close()
    assert len(receive(client, 1 << 20)) == 5000 + 19
    client.close()
    return [("/close", "GET", 200, side, {"http.response.body.size": 5000}) for side in ("client", "server")]


@case
def a_fin_in_the_segment_of_the_last_bytes():
    """It takes a number of the sequence, which is no byte of the message."""
    expected = []
    for at in range(3):
        client, server = pair()
        last = client if at == 1 else server
        last.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        last.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        client.sendall(f"POST /fin/{at} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".encode())
        if at == 1:
            client.shutdown(socket.SHUT_WR)
        time.sleep(0.02)
        server.recv(4096)
        server.sendall(OK)
        if at != 1:
            server.shutdown(socket.SHUT_WR)
        time.sleep(0.02)
        client.recv(4096)
        close((client, server))
        expected += simple(f"/fin/{at}", "POST")
    return expected


@case
def long_heads():
    ends = pair()
    for size in (300, 1024, 5000, 15900):
        exchange(ends, b"GET /long-%d HTTP/1.1\r\nHost: x\r\nCookie: %s\r\n\r\n" % (size, b"c" * (size - 60)))
    close(ends)
    over = pair()
    exchange(over, b"GET /too-long HTTP/1.1\r\nCookie: " + b"c" * 40000 + b"\r\n\r\n")
    close(over)
    return [item for size in (300, 1024, 5000, 15900) for item in simple(f"/long-{size}")]


@case
def vectors_and_messages():
    client, server = ends = pair()
    parts = [b"GE", b"T /vec HTTP/1.1\r\nHo", b"st: x\r\nContent-Length: 4\r", b"\n\r\nbo", b"dy"]
    os.writev(client.fileno(), parts)
    buffers = [bytearray(3), bytearray(20), bytearray(500)]
    time.sleep(0.05)
    os.readv(server.fileno(), buffers)
    server.sendmsg([OK[:10], OK[10:]])
    client.recvmsg(100)
    client.sendmsg([b"GET /msg HTTP/1.1\r\n", b"\r\n"])
    server.recvmsg_into([bytearray(7), bytearray(100)])
    os.write(server.fileno(), OK)
    os.read(client.fileno(), 100)
    close(ends)
    return simple("/vec") + simple("/msg")


@case
def peeking_and_waiting():
    client, server = ends = pair()
    request = b"GET /peek HTTP/1.1\r\n\r\n"
    client.sendall(request)
    server.recv(5, socket.MSG_PEEK)
    server.recv(100, socket.MSG_PEEK)
    server.setblocking(True)
    late = threading.Timer(0.05, client.sendall, [request.replace(b"peek", b"wait")])
    late.start()
    assert len(server.recv(2 * len(request), socket.MSG_WAITALL)) == 2 * len(request)
    server.sendall(OK * 2)
    receive(client, 2 * len(OK))
    close(ends)
    return simple("/peek") + simple("/wait")


@case
def while_many_wait():
    """A kretprobe has room for some twenty calls of the host: whoever waits in one must not keep others from being seen."""
    waiting = [pair(family) for family in (socket.AF_INET, socket.AF_UNIX) for _ in range(40)]
    threads = [threading.Thread(target=client.recv, args=(1,)) for client, _ in waiting]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    for at, family in enumerate((socket.AF_INET, socket.AF_UNIX)):
        ends = pair(family)
        exchange(ends, f"GET /waited/{at} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        close(ends)
    for _, server in waiting:
        server.shutdown(socket.SHUT_WR)
    for thread in threads:
        thread.join()
    for ends in waiting:
        close(ends)
    return simple("/waited/0") + simple("/waited/1")


@case
def sendfile_and_splice():
    client, server = ends = pair()
    with tempfile.TemporaryFile() as file:
        file.write(b"GET /fake HTTP/1.1\r\n\r\n" * 2000)
        file.flush()
        size = file.tell()
        for path in (b"/sendfile", b"/sendfile-again"):
            request = b"GET " + path + b" HTTP/1.1\r\n\r\n"
            client.sendall(request)
            receive(server, len(request))
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            head = len(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            sent = 0
            while sent < size:
                sent += os.sendfile(server.fileno(), file.fileno(), sent, size - sent)
                receive(client, min(sent, 1000) if sent < size else 0)
                break
            reader = threading.Thread(target=receive, args=(client, size + head - min(sent, 1000) * (sent < size)))
            reader.start()
            while sent < size:
                sent += os.sendfile(server.fileno(), file.fileno(), sent, size - sent)
            reader.join()
    close(ends)
    return [(path, "GET", 200, side, {"http.response.body.size": size})
            for path in ("/sendfile", "/sendfile-again") for side in ("client", "server")]


@case
def partial_sends():
    client, server = ends = pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.setblocking(False)
    body = b"GET /fake HTTP/1.1\r\n\r\n" * 100000
    data = memoryview(b"POST /partial HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    reader = threading.Thread(target=receive, args=(server, len(data)))
    reader.start()
    sent = 0
    while sent < len(data):
        try:
            sent += client.send(data[sent:])
        except BlockingIOError:
            time.sleep(0.001)
    reader.join()
    client.settimeout(5)
    server.sendall(OK)
    receive(client, len(OK))
    close(ends)
    return [("/partial", "POST", 200, side, {"http.request.body.size": len(body)}) for side in ("client", "server")]


@case
def families():
    v6 = pair(socket.AF_INET6)
    exchange(v6, b"GET /v6 HTTP/1.1\r\n\r\n")
    close(v6)
    unix = pair(socket.AF_UNIX)
    exchange(unix, b"GET /unix HTTP/1.1\r\nHost: x\r\n\r\n")
    exchange(unix, b"GET /unix-again HTTP/1.1\r\nHost: x\r\n\r\n")
    close(unix)
    return simple("/v6") + simple("/unix") + simple("/unix-again")


@case
def errors():
    client, server = pair()
    request = b"GET /cut HTTP/1.1\r\n\r\n"
    client.sendall(request)
    receive(server, len(request))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, array.array("i", [1, 0]).tobytes())
    server.close()
    time.sleep(0.05)
    client.close()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with socket.socket() as refused:
        assert refused.connect_ex(("127.0.0.1", port))
    return [
        ("/cut", "GET", None, "client", {"error.type": "ECONNRESET"}),
        ("/cut", "GET", None, "server", {"error.type": "connection_closed"}),
        (None, "CONNECT", None, "client", {"error.type": "ECONNREFUSED", "server.port": port}),
    ]


@case
def garbage_is_no_request():
    for junk in (os.urandom(5000), b"\x16\x03\x01\x02\x00" + os.urandom(100), b"SSH-2.0-x\r\n",
                 b"GET / HTTP/3.0\r\n\r\n", b"GET  \r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 100,
                 b"GET /x HTTP/1.1\nno", b"A" * 20000):
        ends = pair()
        ends[0].sendall(junk)
        receive(ends[1], len(junk))
        ends[1].sendall(b"\xff" * 50)
        receive(ends[0], 50)
        close(ends)
    ends = pair()
    writer = threading.Thread(target=ends[0].sendall, args=(b"GET /endless HTTP/1.1\r\nX: " + b"a" * 10_000_000,))
    writer.start()
    receive(ends[1], 10_000_000)
    writer.join()
    close(ends)
    return []


@case
def traceparent_rules():
    ends = pair()
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

    def send(path, *lines):
        exchange(ends, f"GET {path} HTTP/1.1\r\n{''.join(line + chr(13) + chr(10) for line in lines)}\r\n".encode())

    good = f"00-{trace}-{parent}-01"
    send("/tp-good", f"traceparent: {good}")
    send("/tp-case", f"TraceParent:\t{good} ")
    send("/tp-later", f"traceparent: cc-{trace}-{parent}-01-what-comes")
    send("/tp-off", f"traceparent: 00-{trace}-{parent}-00")
    send("/tp-twice", f"traceparent: {good}", f"traceparent: {good}")
    bad = [f"ff-{trace}-{parent}-01", f"00-{trace.upper()}-{parent}-01", f"00-{'0' * 32}-{parent}-01",
           f"00-{trace}-{'0' * 16}-01", f"{good}-x", good[:-1], f"00_{trace}-{parent}-01"]
    for number, value in enumerate(bad):
        send(f"/tp-bad-{number}", f"traceparent: {value}")
    close(ends)
    kept = {"trace_id": trace}
    expected = [(path, "GET", 200, side, kept) for path in ("/tp-good", "/tp-case", "/tp-later") for side in ("client", "server")]
    fresh = ["/tp-twice"] + [f"/tp-bad-{number}" for number in range(len(bad))]
    return expected + [(path, "GET", 200, side, {"not_trace_id": trace}) for path in fresh for side in ("client", "server")]


def call_in_between(name, wait=lambda listener, far: None, before=lambda listener: None, blocks=False):
    """A thread takes a request up, waits, and calls where background work calls too."""
    listener, far = socket.socket(), pair()
    exchange(far, f"GET /{name}-idle HTTP/1.1\r\n\r\n".encode())
    client, server = pair(listener=listener)
    request, call = (f"GET /{name}{what} HTTP/1.1\r\n\r\n".encode() for what in ("", "-call"))
    client.sendall(request)
    if blocks:
        server.settimeout(None)  # with a limit Python does not block, but polls

    def serve():
        before(listener)
        receive(server, len(request))
        wait(listener, far[0])
        ask(far, call)
        server.sendall(OK)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    receive(client, len(OK))
    close([client, server, listener, *far])


def on_poll(*ends, limit=0):
    waits = select.poll()
    for end in ends:
        waits.register(end, select.POLLIN)
    waits.poll(limit)


@case
def a_wait_for_the_own_call_keeps_the_link():
    call_in_between("own", lambda _, far: (on_poll(far), select.select([far], [far], [], 0)))
    return simple("/own-idle") + simple("/own") + [
        ("/own-call", "GET", 200, "client", {"child_of": "/own"}), ("/own-call", "GET", 200, "server", {"child_of": "/own-call"})]


@case
def a_loop_on_poll_or_select_is_no_thread_of_a_request():
    call_in_between("poll", on_poll)
    call_in_between("select", lambda listener, far: select.select([far, listener], [], [], 0))
    return [item for name in ("poll", "select") for item in simple(f"/{name}-idle") + simple(f"/{name}") + [
        (f"/{name}-call", "GET", 200, "client", {"parent_span_id": None}), (f"/{name}-call", "GET", 200, "server")]]


a_loop_on_poll_or_select_is_no_thread_of_a_request.tiers = "ab"


@case
def a_loop_that_reads_before_it_polls():
    """The request itself is on no epoll; the thread waits on one meanwhile, for what else may come, or for something of its own."""
    def on_epoll(*ends):
        with select.epoll() as waits:
            for end in ends:
                waits.register(end)
            waits.poll(0)

    others = [pair() for _ in range(40)]
    ends = [end for one in others for end in one]
    call_in_between("epoll-own", lambda listener, far: on_epoll(*ends))
    call_in_between("epoll-for-all", lambda listener, far: on_epoll(*ends[:40], listener, *ends[40:]))
    call_in_between("epoll-within", lambda listener, far: on_epoll(listener), blocks=True)
    close(ends)
    return called("epoll-own", True) + called("epoll-for-all", False) + called("epoll-within", True)


a_loop_that_reads_before_it_polls.tiers = "ab"


@case
def who_was_seen_to_wait_for_connections_is_a_loop():
    """In processes of their own, as these are looked at for a while only."""
    waits = {"poll": lambda listener: on_poll(listener, limit=800),
             "select": lambda listener: select.select([listener], [], [], 0.8),
             "blocking": lambda listener: on_poll(listener, limit=800),
             "nothing": lambda listener: time.sleep(0.8)}
    children = []
    for name, wait in waits.items():
        child = os.fork()
        if not child:
            try:
                threading.Thread(target=serve_others, daemon=True).start()
                call_in_between(f"idle-{name}", before=wait, blocks=name == "blocking")
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return [item for name in waits for item in called(f"idle-{name}", name in ("blocking", "nothing"))]


who_was_seen_to_wait_for_connections_is_a_loop.tiers = "c"


def called(name, known):
    parents = {"child_of": f"/{name}"} if known else {"parent_span_id": None}
    return simple(f"/{name}-idle") + simple(f"/{name}") + [
        (f"/{name}-call", "GET", 200, "client", parents), (f"/{name}-call", "GET", 200, "server", {"child_of": f"/{name}-call"})]


@case
def who_reads_answers_from_polled_sockets_is_a_loop():
    """So it is one when it reads a request before it polls for it."""
    expected = []
    for name, polled in (("answers-unpolled", False), ("answers-polled", True)):
        ends, epoll = pair(), select.epoll()
        if polled:
            epoll.register(ends[0])
        call_in_between(name, before=lambda _: ask(ends, f"GET /{name}-before HTTP/1.1\r\n\r\n".encode()))
        close(ends)
        expected += simple(f"/{name}-before") + called(name, not polled)
    return expected


@case
def what_a_loop_starts_inherits_nothing():
    expected = []
    for name, polled in (("starts", False), ("loop-starts", True)):
        ends, helpers, epoll = pair(), pair(), select.epoll()
        if polled:
            epoll.register(ends[0])

        def before(_):
            ask(ends, f"GET /{name}-before HTTP/1.1\r\n\r\n".encode())
            ask(helpers, f"GET /{name}-helper-idle HTTP/1.1\r\n\r\n".encode())

        def starts(*_):
            thread = threading.Thread(target=ask, args=(helpers, f"GET /{name}-helper HTTP/1.1\r\n\r\n".encode()))
            thread.start()
            thread.join()

        call_in_between(name, starts, before)
        close([*ends, *helpers])
        parents = {"parent_span_id": None} if polled else {"child_of": f"/{name}", "spanwire.link": "inherited"}
        expected += simple(f"/{name}-before") + simple(f"/{name}-helper-idle") + called(name, not polled) + [
            (f"/{name}-helper", "GET", 200, "client", parents), (f"/{name}-helper", "GET", 200, "server", {"child_of": f"/{name}-helper"})]
    return expected


@case
def who_reads_requests_from_polled_sockets_is_a_loop():
    ends, epoll = pair(), select.epoll()
    epoll.register(ends[1])
    call_in_between("requests-polled", before=lambda _: exchange(ends, b"GET /requests-polled-before HTTP/1.1\r\n\r\n"))
    close(ends)
    return simple("/requests-polled-before") + called("requests-polled", False)


def on_loop(ends, request):
    """As a loop calls, which asks for the answer when it is there."""
    with select.epoll() as epoll:
        epoll.register(ends[0])
        ask(ends, request, lambda: epoll.poll(5))


@case
def a_call_on_a_polled_socket():
    """Its thread will not wait for the answer, so that it may be anyone's: here it is the only open request's."""
    calls = lambda *_: on_loop(pair(), b"GET /events HTTP/1.1\r\n\r\n")
    call_in_between("after-events", calls)
    return called("after-events", False) + [
        ("/events", "GET", 200, "client", {"child_of": "/after-events", "spanwire.link": "exclusive"}), ("/events", "GET", 200, "server", {"child_of": "/events"})]


@case
def a_loop_within_a_request():
    """Who reads a request from a socket that blocks has nothing else to do meanwhile, as in asyncio.run()."""
    far = pair()
    exchange(far, b"GET /within-far-idle HTTP/1.1\r\n\r\n")
    call_in_between("within", lambda *_: on_loop(far, b"GET /within-far HTTP/1.1\r\n\r\n"), blocks=True)
    close(far)
    return simple("/within-far-idle") + called("within", True) + [
        ("/within-far", "GET", 200, "client", {"child_of": "/within", "spanwire.link": "thread"}), ("/within-far", "GET", 200, "server", {"child_of": "/within-far"})]


@case
def who_turns_away_from_its_calls_is_a_loop():
    """What it called hangs on an epoll, which it takes it off before it reads; or it reads a request before the answer."""

    def polls(ends, other, request):
        with select.epoll() as epoll:
            epoll.register(ends[0])
            ask(other, request)

    def serves(other, request):
        receive(other[1], len(request))
        other[1].sendall(OK)

    orders = {
        "waits": lambda ends, other, first, second: (ask(ends, first), ask(other, second)),
        "connected": lambda ends, other, first, second: (polls(ends, other, second), ask(ends, first)),
        "called": lambda ends, other, first, second: ask(ends, first, lambda: polls(ends, other, second)),
        "serves": lambda ends, other, first, second: ask(ends, first, lambda: serves(other, second)),
    }
    expected = []
    for name, order in orders.items():
        known, other = pair(), pair()
        paths = [f"/{name}-{what}" for what in ("before", "first", "second")]
        begins, *both = (f"GET {path} HTTP/1.1\r\n\r\n".encode() for path in paths)

        def before(_):
            ask(known, begins)
            ends = pair()
            order(ends, other, *both)
            close(ends)

        if name == "serves":
            other[0].sendall(both[1])
        call_in_between(name, before=before)
        if name == "serves":
            receive(other[0], len(OK))
        close([*known, *other])
        expected += [item for path in paths for item in simple(path)] + called(name, name == "waits")
    return expected


@case
def who_gives_a_call_up_waits_no_longer():
    def before(_):
        ends = pair()
        ends[0].sendall(b"GET /given-up HTTP/1.1\r\n\r\n")
        close(ends)

    call_in_between("after-giving-up", before=before)
    return [("/given-up", "GET", None, "client")] + called("after-giving-up", True)


@case
def the_only_request_if_it_is_open_for_long():
    """What the process calls by itself may show for the first time while it is open."""
    ends, epoll = pair(), select.epoll()
    epoll.register(ends[1])
    ends[0].sendall(b"GET /stream HTTP/1.1\r\n\r\n")

    def serve():
        receive(ends[1], len(b"GET /stream HTTP/1.1\r\n\r\n"))
        exchange(pair(), b"GET /stream-early HTTP/1.1\r\n\r\n")
        time.sleep((time.monotonic() - BEGUN) / IDLE_PER_OPEN * 1.1)
        exchange(pair(), b"GET /stream-late HTTP/1.1\r\n\r\n")
        ends[1].sendall(OK)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    receive(ends[0], len(OK))
    close(ends)
    return simple("/stream") + [
        ("/stream-early", "GET", 200, "client", {"child_of": "/stream", "spanwire.link": "exclusive"}), ("/stream-early", "GET", 200, "server"),
        ("/stream-late", "GET", 200, "client", {"parent_span_id": None}), ("/stream-late", "GET", 200, "server")]


def describe(span):
    attributes = span["attributes"]
    path = attributes.get("url.path")
    if path is None and "url.full" in attributes:
        rest = attributes["url.full"].split("://", 1)[1]
        at = min((rest.find(c) for c in "/*" if c in rest), default=len(rest))
        path = rest[at:].split("?")[0]
    method = attributes.get("http.request.method", span["name"])
    return path, method, attributes.get("http.response.status_code"), span["kind"]


def judge(expected, spans):
    """Problems of a case: what is missing, what is too much, what is wrong in detail."""
    problems, left = [], list(spans)
    for path, method, status, side, *more in expected:
        found = next((s for s in left if describe(s) == (path, method, status, side)), None)
        if found is None:
            problems.append(f"no {side} span {method} {path} {status}")
            continue
        left.remove(found)
        for key, value in (more[0] if more else {}).items():
            if key == "not_trace_id":
                if found["trace_id"] == value:
                    problems.append(f"{side} {path}: took up an invalid traceparent")
                continue
            if key == "child_of":
                other = "client" if describe(found)[3] == "server" else "server"
                parent = next((s for s in spans if describe(s)[0] == value and describe(s)[3] == other), {"span_id": "missing"})
                if found["parent_span_id"] != parent["span_id"]:
                    problems.append(f"{side} {path}: is no child of {other} {value}")
                continue
            actual = found[key] if key in found else found["attributes"].get(key)
            if actual != value:
                problems.append(f"{side} {path}: {key} is {actual!r}, not {value!r}")
    return problems + [f"unexpected {describe(span)}" for span in left]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=BINARY)
    arguments = parser.parse_args()
    need_root(len(CASES) + 1)
    threading.Thread(target=serve_others, daemon=True).start()
    kept = socket.socket()
    before = pair(listener=kept)
    exchange(before, b"GET /unseen HTTP/1.1\r\n\r\n")
    config = Path(tempfile.mkdtemp(prefix="spanwire-rig-"), "config.yaml")
    config.write_text("spanwire:\n  link_attribute: true\n")
    tracer = Tracer("--pid", str(os.getpid()), "--config", str(config), binary=arguments.binary)
    marks = []
    begun = time.time_ns()
    exchange(before, b"GET /older HTTP/1.1\r\nHost: x\r\n\r\n")
    close(before)
    time.sleep(0.05)
    marks.append(("connection_older_than_the_tracer", simple("/older"), begun, time.time_ns()))
    tier = re.search(r"tier.*=.*([abc])\b", tracer.log.read_text())[1]
    for function in CASES:
        if tier not in getattr(function, "tiers", tier):
            print(f"skip   {function.__name__}: tier {tier} cannot tell")
            continue
        begun = time.time_ns()
        expected = function()
        time.sleep(0.05)
        marks.append((function.__name__, expected, begun, time.time_ns()))
        time.sleep(0.02)
    spans = tracer.finish()
    failed = 0
    for name, expected, begun, ended in marks:
        # clocks: a span's times are the kernel's, taken a moment off ours
        mine = [s for s in spans if begun - 2_000_000 <= s["start_time_unix_nano"] <= ended]
        if name == "traceparent_rules":
            mine = [s for s in mine if describe(s)[0] != "/tp-off"]
            if any(describe(s)[0] == "/tp-off" for s in spans):
                mine.append(next(s for s in spans if describe(s)[0] == "/tp-off"))
        problems = judge(expected, mine)
        failed += bool(problems)
        print(f"{'FAILED' if problems else 'ok':<7}{name}")
        for problem in problems[:6]:
            print(f"       {problem}")
    if failed:
        print(tracer.log.read_text()[-1500:])
    print(f"{len(marks)} tests, {failed} failed, {len(CASES) + 1 - len(marks)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
