#!/usr/bin/env python3
"""Threads that read requests from sockets that another thread polls, as those of Tomcat and Jetty do. Needs root.

Both ends of each connection are in this process, which runs an interpreter that is called `java`: that is what a process is
taken for a JVM by. Who polls, reads, calls and answers is written out here, so that every order of events can be had; Tomcat
and Jetty themselves are among the scenarios of tests/e2e.

    tests/bpf/workers.py
"""
import ctypes
import os
import queue
import re
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
POLLING = select.epoll()
ENOUGH, LOST = 8, 64  # KEPT_ENOUGH, and KEPT_LOST below zero, of bpf/include/parent.h
WAITS_ARE_SEEN = False  # by the tier
PR_SET_NAME = 15


def case(function):
    CASES.append(function)
    return function


class Hand(threading.Thread):
    """A thread of a pool, called as those of Tomcat: it does what it is given, and lives on."""

    def __init__(self, name="http-nio-8080-e"):
        super().__init__(daemon=True)
        self.steps, self.done, self.called = queue.SimpleQueue(), queue.SimpleQueue(), name
        self.start()

    def run(self):
        ctypes.CDLL(None).prctl(PR_SET_NAME, self.called.encode(), 0, 0, 0)
        while True:
            self.done.put(self.steps.get()())

    def do(self, *steps):
        for step in steps:
            self.steps.put(step)
            self.done.get(timeout=10)


def request(path):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def far_side():
    while FAR[1].recv(4096):
        FAR[1].sendall(OK)


def call(path):
    FAR[0].sendall(request(path))
    receive(FAR[0], len(OK))


class Served:
    """A request on its way. The steps of a server, each for the thread that is to do it."""

    def __init__(self, path, polled=True, listener=None):
        self.path = path
        if listener:
            self.client = socket.create_connection(listener.getsockname(), 5)
            self.server = listener.accept()[0]
        else:
            self.client, self.server = pair()
        if polled:
            POLLING.register(self.server, select.EPOLLIN)
        self.client.sendall(request(path))

    def poll(self):
        POLLING.poll(5)

    def read(self):
        receive(self.server, len(request(self.path)))

    def give_away(self):
        POLLING.unregister(self.server)

    def call(self):
        call(f"{self.path}-call")

    def answer(self):
        self.server.sendall(OK)

    def over(self):
        receive(self.client, len(OK))
        close((self.client, self.server))


def linked(path):
    return [(f"{path}-call", "GET", 200, "client", {"child_of": path, "spanwire.link": "thread"}),
            (f"{path}-call", "GET", 200, "server", {"child_of": f"{path}-call"})]


def rooted(path):
    return [(f"{path}-call", "GET", 200, "client", {"parent_span_id": None}), (f"{path}-call", "GET", 200, "server", {"child_of": f"{path}-call"})]


def given(path, worker):
    one = Served(path)
    POLLER.do(one.poll)
    worker.do(one.read)
    POLLER.do(one.give_away)
    worker.do(one.call, one.answer)
    one.over()
    return simple(path)


@case
def nobody_is_believed_at_once():
    expected = []
    for number in range(ENOUGH // 2 - 1):  # the far side keeps as many, and has kept two
        path = f"/first/{number}"
        expected += given(path, WORKER) + rooted(path)
    return expected + given("/first/believed", WORKER) + linked("/first/believed")


@case
def any_worker_of_the_process():
    return given("/other", Hand()) + linked("/other")


@case
def still_polled():
    one = Served("/polled")
    POLLER.do(one.poll)
    WORKER.do(one.read, one.call, one.answer)
    POLLER.do(one.give_away)
    one.over()
    return simple("/polled") + linked("/polled")


@case
def an_event_loop():
    """It polls, reads, and leaves the socket where it is, as Netty's do."""
    loop, one = Hand("nioEventLoopGro"), Served("/loop")
    loop.do(one.poll, one.read, one.call, one.answer, one.give_away)
    one.over()
    return simple("/loop") + rooted("/loop")


@case
def who_polled_serves_while_another_polls():
    """As with Jetty."""
    producer, one = Hand(), Served("/producer")
    producer.do(one.poll, one.read)
    POLLER.do(one.give_away)
    producer.do(one.call, one.answer)
    one.over()
    return simple("/producer") + linked("/producer")


def read_unpolled(path, worker, blocking=False):
    """Selectors take a socket off the epoll before they let anyone read."""
    one = Served(path, polled=False)
    if blocking:
        one.server.settimeout(None)
    worker.do(one.read, one.call, one.answer)
    one.over()
    return simple(path)


@case
def a_thread_of_virtual_ones():
    thread = Hand("ForkJoinPool-1-")
    return (given("/virtual", thread) + rooted("/virtual") + read_unpolled("/virtual-unpolled", thread) + rooted("/virtual-unpolled"))


@case
def a_thread_of_actors():
    thread = Hand("hop-pekko.actor")
    return (given("/actors", thread) + rooted("/actors") + read_unpolled("/actors-unpolled", thread) + rooted("/actors-unpolled") +
            read_unpolled("/blocking", thread, blocking=True) + linked("/blocking"))


@case
def names_begin_with_it():
    return (read_unpolled("/jetty", Hand("qtp1234-17")) + linked("/jetty") + read_unpolled("/not-jetty", Hand("qt")) + rooted("/not-jetty") +
            read_unpolled("/long", Hand("catalina-exec-1")) + linked("/long") + read_unpolled("/too", Hand("catalina-exit")) + rooted("/too"))


@case
def what_nobody_polls():
    return read_unpolled("/unpolled", WORKER) + linked("/unpolled")


@case
def others_answer_and_nobody_is_believed_for_a_while():
    expected = []
    one = Served("/left", polled=False)
    WORKER.do(one.read)
    Hand().do(one.answer)
    one.over()
    expected += simple("/left")
    expected += given("/left/given", WORKER) + rooted("/left/given")
    # Of those who read for themselves that says nothing.
    expected += read_unpolled("/left/blocking", WORKER, blocking=True) + linked("/left/blocking")

    def keep(name, many):
        for number in range(many):
            one = Served(f"/left/{name}/{number}", polled=False)
            WORKER.do(one.read, one.answer)
            one.over()
            expected.extend(simple(one.path))

    keep("kept", LOST + ENOUGH)
    expected += given("/left/again", WORKER) + linked("/left/again")
    # The second time it takes twice as many.
    one = Served("/left/twice", polled=False)
    WORKER.do(one.read)
    Hand().do(one.answer)
    one.over()
    expected += simple("/left/twice")
    keep("half", LOST + ENOUGH)
    expected += given("/left/still", WORKER) + rooted("/left/still")
    keep("whole", LOST)
    return expected + given("/left/at-last", WORKER) + linked("/left/at-last")


@case
def back_to_polling():
    """The request waits for something, and its thread polls again: what it calls then is another's, or nobody's. Tier C sees no waits."""
    thread, one, other = Hand(), Served("/asynchronous"), select.epoll()
    thread.do(one.poll, one.read, one.give_away, lambda: other.poll(0), one.call, one.answer)
    one.over()
    seen = rooted if WAITS_ARE_SEEN else linked
    expected = simple("/asynchronous") + seen("/asynchronous")
    # It was told as one that leaves its requests.
    return expected + given("/asynchronous/then", WORKER) + seen("/asynchronous/then")


@case
def another_one_before_the_answer():
    """A thread that has not answered what it read, and reads the next."""
    one, other, thread = Served("/before", polled=False), Served("/meanwhile", polled=False), Hand()
    thread.do(one.read, other.read, other.answer, one.answer)
    one.over()
    other.over()
    return simple("/before") + simple("/meanwhile") + given("/before/then", WORKER) + rooted("/before/then")


def busy_from_the_start():
    """The only open request of a process that was never seen without one: any call may be of its own."""
    begun, one = time.time_ns(), Served("/long", polled=False)
    Hand("reader").do(one.read)
    time.sleep(0.6)
    call("/by-itself")
    Hand().do(one.answer)
    one.over()
    time.sleep(0.05)
    return "busy_from_the_start", simple("/long") + [
        ("/by-itself", "GET", 200, "client", {"parent_span_id": None}),
        ("/by-itself", "GET", 200, "server", {"child_of": "/by-itself"})], begun, time.time_ns()


def run():
    """All of it, in a process that is called java."""
    global WAITS_ARE_SEEN, POLLER, WORKER
    POLLER, WORKER = Hand(), Hand()
    config = Path(tempfile.mkdtemp(prefix="spanwire-rig-"), "config.yaml")
    config.write_text("spanwire:\n  link_attribute: true\n")
    tracer = Tracer("--pid", str(os.getpid()), "--config", str(config))
    tier = re.search(r"tier.*=.*([abc])\b", tracer.log.read_text())[1]
    WAITS_ARE_SEEN = tier in "ab"
    # Where background work calls too, being the only open request of the process makes none a parent.
    FAR.extend(pair())
    FAR[1].settimeout(None)
    threading.Thread(target=far_side, daemon=True).start()
    marks = [busy_from_the_start()]
    call("/idle")
    time.sleep(0.5)
    for function in CASES:
        begun = time.time_ns()
        expected = function()
        time.sleep(0.05)
        marks.append((function.__name__, expected, begun, time.time_ns()))
        time.sleep(0.02)
    refused = {name: value for name, value in tracer.metrics().items() if "refused" in name and value}
    spans = tracer.finish()
    failures = []
    for name, expected, begun, ended in marks:
        problems = judge(expected, [s for s in spans if begun - 2_000_000 <= s["start_time_unix_nano"] <= ended])
        print(f"{'FAILED' if problems else 'ok':<7}{name}", flush=True)
        failures += [name] if problems else []
        for problem in problems[:6]:
            print(f"       {problem}")
    if failures:
        print(tracer.log.read_text()[-3000:], refused)
    print(f"{len(marks)} tests, {len(failures)} failed, 0 skipped (tier {tier})")
    return 1 if failures else 0


def main():
    need_root(len(CASES))
    if "--java" in sys.argv:
        return run()
    return run_as("java", __file__)


if __name__ == "__main__":
    sys.exit(main())
