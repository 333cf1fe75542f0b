#!/usr/bin/env python3
"""Runtime probes: requests that one thread reads and others serve, as puma does it. Needs root.

Both ends of each connection are in this process, which runs an interpreter that is called `ruby`: that is what a
process is taken for Ruby by. What hands requests over is written out here, so that every order of events can be had;
puma itself is among the scenarios of tests/e2e.

    tests/bpf/runtimes.py
"""
import ctypes
import os
import select
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from lib.renamed import run_as  # noqa: E402
from lib.tracer import Tracer, need_root  # noqa: E402
from run import OK, close, judge, pair, receive, simple  # noqa: E402

CASES = []
FAR = []
LOCK = threading.Lock()


def case(function):
    CASES.append(function)
    return function


def request(path):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


class Reactor:
    """Connections in an epoll; what comes is read on a thread of its own."""

    def __init__(self, count):
        self.ends = [pair() for _ in range(count)]
        self.epoll = select.epoll()
        for _, server in self.ends:
            self.epoll.register(server, select.EPOLLIN)

    def take(self, number, *paths):
        """Sends requests to a connection and reads them."""
        client, server = self.ends[number]
        data = b"".join(map(request, paths))

        def read():
            self.epoll.poll()
            receive(server, len(data))

        client.sendall(data)
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()

    def answer(self, number):
        client, server = self.ends[number]
        server.sendall(OK)
        receive(client, len(OK))

    def close(self):
        self.epoll.close()
        for ends in self.ends:
            close(ends)


def look(end):
    end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)


def far_side():
    """Answers on a thread of its own: who reads a request works for it."""
    while FAR[1].recv(4096):
        FAR[1].sendall(OK)


def call(path):
    with LOCK:
        FAR[0].sendall(request(path))
        receive(FAR[0], len(OK))


def worker(*steps):
    """On a thread that lives for the whole test, as those of a pool do: none is started by a request."""
    done = threading.Event()
    WORK.append((steps, done))
    WAKE.release()
    assert done.wait(10), "a worker died"


WORK, WAKE = [], threading.Semaphore(0)


def work():
    while WAKE.acquire():
        steps, done = WORK.pop(0)
        for step in steps:
            step()
        done.set()


def called(parent, path=None):
    path = path or f"{parent}-call"
    return [(path, "GET", 200, "client", {"child_of": parent, "spanwire.link": "handed"}),
            (path, "GET", 200, "server", {"child_of": path})]


def rooted(path):
    return [(path, "GET", 200, "client", {"parent_span_id": None}), (path, "GET", 200, "server", {"child_of": path})]


def one_hand_over(path):
    reactor = Reactor(1)
    reactor.take(0, path)
    worker(lambda: look(reactor.ends[0][1]), lambda: call(f"{path}-call"), lambda: reactor.answer(0))
    reactor.close()


@case
def the_first_of_a_process():
    one_hand_over("/first")
    return simple("/first") + called("/first")


@case
def crosswise():
    reactor = Reactor(3)
    for number in range(3):
        reactor.take(number, f"/cross-{number}")
    served = [threading.Event() for _ in range(3)]

    def serve(number):
        look(reactor.ends[number][1])
        served[number].set()
        for other in served:
            other.wait(5)
        call(f"/cross-{number}-call")
        reactor.answer(number)

    threads = [threading.Thread(target=serve, args=(number,)) for number in (2, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reactor.close()
    return [item for number in range(3) for item in simple(f"/cross-{number}") + called(f"/cross-{number}")]


@case
def kept_alive():
    reactor = Reactor(1)
    for number in range(3):
        reactor.take(0, f"/kept-{number}")
        worker(lambda: look(reactor.ends[0][1]), lambda: call(f"/kept-{number}-call"), lambda: reactor.answer(0))
    reactor.close()
    return [item for number in range(3) for item in simple(f"/kept-{number}") + called(f"/kept-{number}")]


@case
def pipelined():
    reactor = Reactor(1)
    paths = [f"/pipe-{number}" for number in range(12)]
    reactor.take(0, *paths)
    for path in paths:
        worker(lambda: look(reactor.ends[0][1]), lambda: call(f"{path}-call"), lambda: reactor.answer(0))
    reactor.close()
    # the thread that answers goes on to the next by itself, which is no hand-over; what its slots had no room for lies elsewhere
    return [item for path in paths for item in simple(path)] + [
        (f"{path}-call", "GET", 200, side, {"child_of": path if side == "client" else f"{path}-call"})
        for path in paths for side in ("client", "server")]


@case
def pipelined_for_two_workers():
    reactor = Reactor(1)
    reactor.take(0, "/two-0", "/two-1")
    worker(lambda: look(reactor.ends[0][1]), lambda: call("/two-0-call"), lambda: reactor.answer(0))
    thread = threading.Thread(target=lambda: [look(reactor.ends[0][1]), call("/two-1-call"), reactor.answer(0)])
    thread.start()
    thread.join()
    reactor.close()
    # Nothing shows the other worker which one it has.
    return simple("/two-0") + called("/two-0") + simple("/two-1") + rooted("/two-1-call")


@case
def nobody_looks():
    reactor = Reactor(1)
    reactor.take(0, "/unlooked")
    worker(lambda: call("/unlooked-call"), lambda: reactor.answer(0))
    reactor.close()
    return simple("/unlooked") + rooted("/unlooked-call")


@case
def a_look_at_what_is_answered():
    reactor = Reactor(1)
    reactor.take(0, "/answered")
    worker(lambda: reactor.answer(0), lambda: look(reactor.ends[0][1]), lambda: call("/answered-call"))
    reactor.close()
    return simple("/answered") + rooted("/answered-call")


@case
def a_look_at_its_own_connection():
    reactor = Reactor(1)
    reactor.take(0, "/own")
    worker(lambda: look(FAR[0]), lambda: look(reactor.ends[0][0]), lambda: call("/own-call"), lambda: reactor.answer(0))
    reactor.close()
    return simple("/own") + rooted("/own-call")


@case
def the_answer_ends_it():
    reactor = Reactor(1)
    reactor.take(0, "/ended")
    worker(lambda: look(reactor.ends[0][1]), lambda: reactor.answer(0), lambda: call("/ended-call"))
    reactor.close()
    return simple("/ended") + rooted("/ended-call")


@case
def other_questions():
    reactor = Reactor(1)
    reactor.take(0, "/other")
    server = reactor.ends[0][1]
    worker(lambda: server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), lambda: server.getsockopt(socket.SOL_SOCKET, socket.TCP_INFO),
           lambda: call("/other-call"), lambda: reactor.answer(0))
    reactor.close()
    return simple("/other") + rooted("/other-call")


@case
def who_looks_at_all_serves_none():
    reactor = Reactor(2)
    reactor.take(0, "/all-0")
    reactor.take(1, "/all-1")
    thread = threading.Thread(target=lambda: [look(reactor.ends[0][1]), look(reactor.ends[1][1]), call("/all-call")])
    thread.start()
    thread.join()
    reactor.answer(0)
    reactor.answer(1)
    reactor.close()
    return simple("/all-0") + simple("/all-1") + rooted("/all-call")


def first_bytes():
    """What the function begins with: a breakpoint while there is a probe."""
    function = ctypes.cast(ctypes.CDLL(None).getsockopt, ctypes.c_void_p).value
    return ctypes.string_at(function, 8)


def run():
    """All of it, in a process that is called ruby."""
    clean = first_bytes()
    failures = []

    def expect(what, holds):
        print(f"{'ok' if holds else 'FAILED':<7}{what}", flush=True)
        if not holds:
            failures.append(what)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    config = Path(tempfile.mkdtemp(prefix="spanwire-rig-"), "config.yaml")
    text = "spanwire:\n  link_attribute: true\n  runtime_probes: {}\n"
    config.write_text(text.format("true"))
    tracer = Tracer("--pid", str(os.getpid()), "--config", str(config))
    # Where background work calls too, being the only open request of the process makes none a parent.
    FAR.extend(pair())
    FAR[1].settimeout(None)
    threading.Thread(target=far_side, daemon=True).start()
    call("/idle")
    one_hand_over("/before")  # tells that the process waits for several connections
    time.sleep(0.5)
    marks = []
    for function in CASES:
        begun = time.time_ns()
        expected = function()
        time.sleep(0.05)
        marks.append((function.__name__, expected, begun, time.time_ns()))
        time.sleep(0.02)
    handed = sum(value for name, value in tracer.metrics().items() if "requests_handed" in name)

    def reloaded(value):
        config.write_text(text.format(value))
        tracer.reload()
        time.sleep(0.5)

    expect("the_probe_is_there", first_bytes() != clean)
    reloaded("false")
    expect("switched_off_by_a_reload_it_is_gone", first_bytes() == clean)
    begun = time.time_ns()
    one_hand_over("/off")
    time.sleep(0.05)
    marks.append(("and_links_nothing", simple("/off") + rooted("/off-call"), begun, time.time_ns()))
    reloaded("true")
    begun = time.time_ns()
    one_hand_over("/on")
    time.sleep(0.05)
    marks.append(("switched_on_again_it_does", simple("/on") + called("/on"), begun, time.time_ns()))
    expect("it_is_there_again", first_bytes() != clean)
    spans = tracer.finish()
    expect("nothing_is_left_of_it", first_bytes() == clean)
    expect(f"hand_overs_are_counted ({handed:.0f})", handed >= 8)
    for name, expected, begun, ended in marks:
        problems = judge(expected, [s for s in spans if begun - 2_000_000 <= s["start_time_unix_nano"] <= ended])
        expect(name, not problems)
        for problem in problems[:6]:
            print(f"       {problem}")
    if failures:
        print(tracer.log.read_text()[-3000:])
    print(f"{len(marks) + 5} tests, {len(failures)} failed, 0 skipped")
    return 1 if failures else 0


def main():
    need_root(len(CASES) + 7)
    if Path(sys.executable).name == "ruby" or "--ruby" in sys.argv:
        return run()
    return run_as("ruby", __file__)


if __name__ == "__main__":
    sys.exit(main())
