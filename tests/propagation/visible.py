#!/usr/bin/env python3
"""What a program sees of its sockets, with and without a header being written: the same.

    tests/propagation/visible.py [--claim auto|lasting|brief]

A program does a list of things to client sockets and writes down all that the kernel tells it: return values,
errno, readiness, bytes pending and unsent, control messages. It runs as it is, then under spanwire; every line
must be the same. On kernels whose claimed sockets hide pending bytes from FIONREAD, claim=lasting is expected to
show just that.
"""
import argparse
import array
import errno
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.tracer import BINARY, need_root  # noqa: E402

SIOCOUTQ = termios.TIOCOUTQ
SO_ZEROCOPY, MSG_ZEROCOPY, TCP_INQ, TCP_ULP, RDHUP = 60, 0x4000000, 36, 31, 0x2000
THINGS = []


def thing(function):
    THINGS.append(function)
    return function


def serve(listener):
    def one(end):
        data = b""
        with end:
            while b"\r\n\r\n" not in data:
                part = end.recv(1 << 16)
                if not part:
                    return
                data += part
            path = data.split(b" ")[1].decode().split("/")
            if path[1] == "answer":
                end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % int(path[2]) + b"x" * int(path[2]))
            elif path[1] == "reset":
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            elif path[1] == "stall":
                time.sleep(0.5)
            elif path[1] == "close":
                return
            try:
                while end.recv(1 << 20):
                    pass
            except ConnectionResetError:
                pass

    while True:
        end, _ = listener.accept()
        threading.Thread(target=one, args=(end,), daemon=True).start()


class Told:
    """A socket, and what was told of it."""

    def __init__(self, port, before=None):
        self.lines = []
        self.sock = socket.socket()
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 1, 0))
        if before:
            before(self)
        self.sock.connect(("127.0.0.1", port))

    def tell(self, what, value):
        self.lines.append(f"{what}: {value}")

    def call(self, what, function):
        try:
            value = function()
            value = value.hex() if isinstance(value, bytes) and len(value) < 64 else len(value) if isinstance(value, bytes) else value
            self.tell(what, value)
        except OSError as error:
            self.tell(what, errno.errorcode.get(error.errno, error.errno))

    def send(self, path="answer/10", flags=0, extra=""):
        self.call("send", lambda: self.sock.send(f"GET /{path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode(), flags))

    def ioctl(self, what, number):
        value = array.array("i", [0])
        self.call(what, lambda: (fcntl.ioctl(self.sock, number, value), value[0])[1])

    def ready(self, timeout=1000, events=select.POLLIN | select.POLLOUT | RDHUP):
        poll = select.poll()
        poll.register(self.sock, events)
        self.tell("poll", [event for _, event in poll.poll(timeout)])

    def answered(self):
        """Waits for the answer without a look at it."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        poll.poll(2000)
        time.sleep(0.05)


@thing
def answer(told):
    told.ioctl("pending", termios.FIONREAD)
    told.send()
    told.answered()
    told.ioctl("pending", termios.FIONREAD)
    told.ready()
    told.call("peek", lambda: told.sock.recv(5, socket.MSG_PEEK))
    told.call("recv", lambda: told.sock.recv(7))
    told.ioctl("pending", termios.FIONREAD)
    told.call("all", lambda: told.sock.recv(41, socket.MSG_WAITALL))
    told.ioctl("pending", termios.FIONREAD)
    told.call("none left", lambda: told.sock.recv(10, socket.MSG_DONTWAIT))
    told.ready(0)


@thing
def second_request(told):
    for size in (10, 2000, 0):
        told.send(f"answer/{size}")
        told.answered()
        told.ioctl("pending", termios.FIONREAD)
        told.call("recv", lambda: told.sock.recv(4096))


@thing
def in_parts(told):
    for part in (b"GE", b"T /answer/3 HTTP/1.1\r\nHo", b"st: x\r\n", b"\r", b"\n"):
        told.call("send", lambda part=part: told.sock.send(part))
        told.ready(0, select.POLLOUT)
    told.answered()
    told.call("recv", lambda: told.sock.recv(4096))


@thing
def vectors(told):
    told.call("sendmsg", lambda: told.sock.sendmsg([b"POST /answer/1 HTTP/1.1\r\nContent-", b"Length: 5000\r\n\r\n", b"x" * 5000]))
    told.answered()
    into = bytearray(20), bytearray(100)
    told.call("recvmsg", lambda: told.sock.recvmsg_into(into)[0])
    told.tell("bytes", bytes(into[0]).hex())


@thing
def unsent(told):
    told.send()
    told.answered()
    told.ioctl("unsent", SIOCOUTQ)


@thing
def flags(told):
    told.send(flags=socket.MSG_MORE)
    told.call("more", lambda: told.sock.send(b"", 0))
    told.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    told.answered()
    told.call("out of band", lambda: told.sock.send(b"!", socket.MSG_OOB))
    told.call("dontwait", lambda: told.sock.send(b"GET / HTTP/1.1\r\n\r\n", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL))
    told.call("eor", lambda: told.sock.send(b"GET / HTTP/1.1\r\n\r\n", socket.MSG_EOR))
    told.call("nothing", lambda: told.sock.send(b""))


@thing
def options(told):
    for name in ("TCP_NODELAY", "TCP_CORK", "TCP_QUICKACK", "TCP_KEEPIDLE", "TCP_USER_TIMEOUT", "TCP_DEFER_ACCEPT"):
        number = getattr(socket, name)
        told.call(name, lambda: told.sock.setsockopt(socket.IPPROTO_TCP, number, 1))
        told.call(name, lambda: told.sock.getsockopt(socket.IPPROTO_TCP, number))
        if name == "TCP_CORK":
            told.sock.setsockopt(socket.IPPROTO_TCP, number, 0)
    told.send()
    told.call("type", lambda: told.sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
    told.call("error", lambda: told.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    told.call("peer", lambda: told.sock.getpeername()[0])


@thing
def full(told):
    told.sock.setblocking(False)
    told.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20000)
    told.send("stall")
    sent, last = 0, None
    while sent < 1 << 26:
        try:
            count = told.sock.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
            if not 0 < count <= 8100:
                told.tell("count", count)
            sent += count
        except OSError as error:
            last = errno.errorcode[error.errno]
            break
    told.tell("then", (last, sent > 4096))
    told.ready(0, select.POLLOUT)
    time.sleep(0.8)
    told.ready(1000, select.POLLOUT)
    told.call("send", lambda: told.sock.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))


@thing
def half_closed(told):
    told.send()
    told.answered()
    told.call("shutdown", lambda: told.sock.shutdown(socket.SHUT_WR))
    told.call("send", lambda: told.sock.send(b"GET / HTTP/1.1\r\n\r\n", socket.MSG_NOSIGNAL))
    told.call("recv", lambda: told.sock.recv(4096))
    told.call("recv", lambda: told.sock.recv(4096))


@thing
def closed_by_the_peer(told):
    told.send("close")
    told.answered()
    told.ready()
    told.ioctl("pending", termios.FIONREAD)
    told.call("recv", lambda: told.sock.recv(100))


@thing
def reset_by_the_peer(told):
    told.send("reset")
    told.answered()
    told.ready()
    told.call("recv", lambda: told.sock.recv(100))
    told.call("send", lambda: told.sock.send(b"GET / HTTP/1.1\r\n\r\n", socket.MSG_NOSIGNAL))
    told.call("error", lambda: told.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


@thing
def edge_triggered(told):
    with select.epoll() as epoll:
        epoll.register(told.sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET | select.EPOLLRDHUP)
        told.tell("events", [event for _, event in epoll.poll(1)])
        told.send("answer/20")
        told.answered()
        told.tell("events", [event & ~select.EPOLLOUT for _, event in epoll.poll(1)])
        told.tell("events", [event & ~select.EPOLLOUT for _, event in epoll.poll(0.05)])
        told.call("recv", lambda: told.sock.recv(3))
        told.tell("events", [event & ~select.EPOLLOUT for _, event in epoll.poll(0.05)])


@thing
def in_the_queue(told):
    told.sock.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 1)
    told.send("answer/100")
    told.answered()

    def inq():
        data, control, _, _ = told.sock.recvmsg(10, 100)
        return len(data), [(level, kind, value.hex()) for level, kind, value in control]

    told.call("inq", inq)
    told.call("inq", inq)


@thing
def low_mark(told):
    told.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1000)
    told.send("answer/10")
    time.sleep(0.1)
    told.ready(0, select.POLLIN)


@thing
def from_a_file(told):
    with tempfile.TemporaryFile() as file:
        file.write(b"POST /answer/1 HTTP/1.1\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50000)
        file.flush()
        told.call("sendfile", lambda: os.sendfile(told.sock.fileno(), file.fileno(), 0, 50100))
    told.answered()
    told.call("recv", lambda: told.sock.recv(4096))
    out, into = os.pipe()
    os.write(into, b"GET /answer/2 HTTP/1.1\r\nHost: x\r\n\r\n")
    told.call("splice", lambda: os.splice(out, told.sock.fileno(), 4096))
    told.call("splice back", lambda: os.splice(told.sock.fileno(), into, 4096, flags=os.SPLICE_F_NONBLOCK))


def completions(told, pause):
    """A claimed socket is let go of in the first send after the option, not at once."""
    for flags in (0, MSG_ZEROCOPY):
        told.call("send", lambda flags=flags: told.sock.send(b"POST /answer/1 HTTP/1.1\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60000, flags))
        time.sleep(pause)
    time.sleep(0.2)

    def done():
        _, control, _, _ = told.sock.recvmsg(1, 200, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        return [struct.unpack("IBBBBII", value[:16]) for _, _, value in control]

    told.call("completed", done)


@thing
def zero_copy(told):
    told.call("option", lambda: told.sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1))
    completions(told, 0.2)


def zero_copy_from_the_start(port):
    told = Told(port, lambda told: told.sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1))
    completions(told, 0)
    return told


@thing
def upper_layer(told):
    told.send()
    told.answered()
    told.call("ulp", lambda: told.sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls"))
    told.call("ulp", lambda: told.sock.getsockopt(socket.IPPROTO_TCP, TCP_ULP, 10))
    told.call("send", lambda: told.sock.send(b"GET /answer/1 HTTP/1.1\r\n\r\n"))


@thing
def shared_by_fork(told):
    child = os.fork()
    if not child:
        told.sock.send(b"GET /answer/30 HTTP/1.1\r\nHost: x\r\n\r\n")
        os._exit(0)
    os.waitpid(child, 0)
    told.answered()
    told.call("recv", lambda: told.sock.recv(4096))


@thing
def disconnected(told):
    told.send()
    told.answered()
    import ctypes
    address = struct.pack("H14x", socket.AF_UNSPEC)
    told.tell("disconnect", ctypes.CDLL(None).connect(told.sock.fileno(), address, len(address)))
    told.ready(0)
    told.call("send", lambda: told.sock.send(b"GET / HTTP/1.1\r\n\r\n", socket.MSG_NOSIGNAL))


def program(port):
    out = {}
    for function in THINGS:
        told = Told(port)
        function(told)
        told.sock.close()
        out[function.__name__] = told.lines
    out["zero_copy_from_the_start"] = zero_copy_from_the_start(port).lines
    print(json.dumps(out))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claim", default="auto", choices=["auto", "lasting", "brief"])
    claim = parser.parse_args().claim
    need_root(len(THINGS) + 1)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    command = [sys.executable, __file__, "--program", str(listener.getsockname()[1])]
    settings = {"ebpf.context_propagation": "headers", "spanwire.claim": claim, "otel_traces_export.sampler.name": "always_off"}
    traced = [BINARY, "run", "--print", "text", *(f"--set={key}={value}" for key, value in settings.items()), "--", *command]
    bare = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    done = subprocess.run(traced, capture_output=True, check=True, text=True)
    with_us = json.loads(done.stdout)
    hidden = "hides pending" in done.stderr and claim == "lasting"
    failed = known = 0
    for name, lines in bare.items():
        other = with_us[name]
        differing = [f"{one} / {two}" for one, two in zip(lines, other) if one != two]
        if hidden and differing and all(line.startswith("pending: ") for line in differing):
            known += 1
            print(f"known   {name}: pending bytes are hidden")
        elif differing or len(lines) != len(other):
            failed += 1
            print(f"FAILED  {name}: {differing}")
        else:
            print(f"ok      {name}: {len(lines)} lines")
    print(f"{len(bare)} things, {failed} differ, {known} as known of this kernel; claim: {claim}")
    return bool(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--program"]:
        program(int(sys.argv[2]))
    else:
        sys.exit(main())
