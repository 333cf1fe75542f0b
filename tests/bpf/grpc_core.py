#!/usr/bin/env python3
"""The runtime probe of gRPC's core: calls that any thread of it reads and writes. Needs root, and libgrpc.so.29.

Both ends of each call are in this process, which runs an interpreter that is called `ruby`: that is what a process is taken
for Ruby by. The library is the real one, used as the gem uses it, a completion queue for each call; which thread takes a
step is written out here, so that every order of events can be had. Ruby's own server is among the scenarios of tests/e2e.

    tests/bpf/grpc_core.py
"""
import ctypes
import os
import socket
import sys
import tempfile
import threading
import time
from ctypes import POINTER, Structure, Union, byref, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint8, c_uint32, c_void_p
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lib.renamed import run_as  # noqa: E402
from lib.tracer import Tracer, free_port, need_root  # noqa: E402

LIBRARY = "libgrpc.so.29"
TESTS = 18
SEND_INITIAL_METADATA, SEND_MESSAGE, SEND_CLOSE, SEND_STATUS, RECEIVE_INITIAL_METADATA, RECEIVE_MESSAGE, RECEIVE_STATUS, RECEIVE_CLOSE = range(8)
UNARY = (SEND_INITIAL_METADATA, SEND_MESSAGE, SEND_CLOSE, RECEIVE_INITIAL_METADATA, RECEIVE_MESSAGE, RECEIVE_STATUS)
WAIT_FOR_READY = 0x20
CASES = []
CALLERS = []


class Timespec(Structure):
    _fields_ = [("seconds", c_int64), ("nanoseconds", c_int32), ("clock", c_int)]


class Event(Structure):
    _fields_ = [("type", c_int), ("success", c_int), ("tag", c_void_p)]


class Slice(Structure):
    class Data(Union):
        class Counted(Structure):
            _fields_ = [("length", c_size_t), ("bytes", c_void_p)]

        class Inlined(Structure):
            _fields_ = [("length", c_uint8), ("bytes", c_uint8 * 23)]

        _fields_ = [("counted", Counted), ("inlined", Inlined)]

    _fields_ = [("refcount", c_void_p), ("data", Data)]

    def text(self):
        if self.refcount:
            return ctypes.string_at(self.data.counted.bytes, self.data.counted.length).decode()
        return bytes(self.data.inlined.bytes[:self.data.inlined.length]).decode()


class Metadata(Structure):
    _fields_ = [("count", c_size_t), ("capacity", c_size_t), ("items", c_void_p)]


class Details(Structure):
    _fields_ = [("method", Slice), ("host", Slice), ("deadline", Timespec), ("reserved", c_void_p)]


class Op(Structure):
    class Data(Union):
        class Initial(Structure):
            _fields_ = [("count", c_size_t), ("items", c_void_p), ("level_set", c_uint8), ("level", c_int)]

        class Status(Structure):
            _fields_ = [("count", c_size_t), ("items", c_void_p), ("status", c_int), ("details", c_void_p)]

        class ReceivedStatus(Structure):
            _fields_ = [("metadata", c_void_p), ("status", c_void_p), ("details", c_void_p), ("error", c_void_p)]

        _fields_ = [("reserved", c_void_p * 8), ("initial", Initial), ("pointer", c_void_p), ("status", Status), ("received", ReceivedStatus)]

    _fields_ = [("op", c_int), ("flags", c_uint32), ("reserved", c_void_p), ("data", Data)]


class Arg(Structure):
    class Value(Union):
        _fields_ = [("string", c_char_p), ("integer", c_int), ("pointer", c_void_p * 2)]

    _fields_ = [("type", c_int), ("key", c_char_p), ("value", Value)]


class Args(Structure):
    _fields_ = [("count", c_size_t), ("items", POINTER(Arg))]


def core():
    """The library, with the types of what is called."""
    lib = ctypes.CDLL(LIBRARY)
    types = {
        "grpc_init": (None, []),
        "grpc_insecure_credentials_create": (c_void_p, []),
        "grpc_insecure_server_credentials_create": (c_void_p, []),
        "grpc_completion_queue_create_for_pluck": (c_void_p, [c_void_p]),
        "grpc_completion_queue_create_for_next": (c_void_p, [c_void_p]),
        "grpc_completion_queue_pluck": (Event, [c_void_p, c_void_p, Timespec, c_void_p]),
        "grpc_completion_queue_next": (Event, [c_void_p, Timespec, c_void_p]),
        "grpc_server_create": (c_void_p, [POINTER(Args), c_void_p]),
        "grpc_server_register_completion_queue": (None, [c_void_p, c_void_p, c_void_p]),
        "grpc_server_add_http2_port": (c_int, [c_void_p, c_char_p, c_void_p]),
        "grpc_server_start": (None, [c_void_p]),
        "grpc_server_request_call": (c_int, [c_void_p, POINTER(c_void_p), POINTER(Details), POINTER(Metadata), c_void_p, c_void_p, c_void_p]),
        "grpc_channel_create": (c_void_p, [c_char_p, c_void_p, POINTER(Args)]),
        "grpc_channel_create_call": (c_void_p, [c_void_p, c_void_p, c_uint32, c_void_p, Slice, POINTER(Slice), Timespec, c_void_p]),
        "grpc_channel_destroy": (None, [c_void_p]),
        "grpc_call_start_batch": (c_int, [c_void_p, POINTER(Op), c_size_t, c_void_p, c_void_p]),
        "grpc_call_unref": (None, [c_void_p]),
        "grpc_slice_from_copied_string": (Slice, [c_char_p]),
        "grpc_raw_byte_buffer_create": (c_void_p, [POINTER(Slice), c_size_t]),
        "grpc_metadata_array_init": (None, [POINTER(Metadata)]),
        "grpc_call_details_init": (None, [POINTER(Details)]),
    }
    for name, (result, arguments) in types.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.grpc_init()
    return lib


def args(**values):
    items = (Arg * len(values))(*(Arg(1, name.replace("__", ".").encode(), Arg.Value(integer=value)) for name, value in values.items()))
    return Args(len(values), items)


def soon():
    return Timespec(int(time.time()) + 15, 0, 1)


class Call:
    """A call of either side, with a queue of its own."""

    def __init__(self, at, queue):
        self.at, self.queue, self.kept = at, queue, []

    def batch(self, *ops):
        """Begins a batch and waits for it, as run_batch() of the gem does."""
        self.begin(*ops)
        self.wait()

    def begin(self, *ops, patient=False):
        table = (Op * len(ops))()
        for entry, op in zip(table, ops):
            entry.op = op
            if op == SEND_INITIAL_METADATA and patient:
                entry.flags = WAIT_FOR_READY
            elif op == SEND_MESSAGE:
                empty = LIB.grpc_slice_from_copied_string(b"")
                entry.data.pointer = LIB.grpc_raw_byte_buffer_create(byref(empty), 1)
            elif op == SEND_STATUS:
                entry.data.status.status = 0
            elif op in (RECEIVE_INITIAL_METADATA, RECEIVE_STATUS):
                entry.data.pointer = self.keep(Metadata())
                if op == RECEIVE_STATUS:
                    entry.data.received.status = self.keep(c_int())
                    entry.data.received.details = self.keep(Slice())
            elif op in (RECEIVE_MESSAGE, RECEIVE_CLOSE):
                entry.data.pointer = self.keep(c_void_p())
        self.kept.append(table)
        error = LIB.grpc_call_start_batch(self.at, table, len(ops), self.at, None)
        assert error == 0, f"grpc_call_error {error}"

    def wait(self):
        event = LIB.grpc_completion_queue_pluck(self.queue, self.at, soon(), None)
        assert event.type == 2 and event.success, "a batch failed"

    def keep(self, value):
        self.kept.append(value)
        return ctypes.addressof(value)

    # What a handler does, in its order.
    def take(self):
        self.batch(RECEIVE_MESSAGE)

    def answer(self):
        self.batch(SEND_INITIAL_METADATA, SEND_MESSAGE, SEND_STATUS, RECEIVE_CLOSE)


class Server:
    """Calls are asked for and read on a thread of its own, and taken by whoever wants them."""

    def __init__(self, serve=None, port=0):
        self.at = LIB.grpc_server_create(byref(args(grpc__so_reuseport=0)), None)
        self.queue = LIB.grpc_completion_queue_create_for_next(None)
        LIB.grpc_server_register_completion_queue(self.at, self.queue, None)
        self.port = LIB.grpc_server_add_http2_port(self.at, f"127.0.0.1:{port}".encode(), LIB.grpc_insecure_server_credentials_create())
        LIB.grpc_server_start(self.at)
        self.serve, self.calls, self.there = serve, {}, threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            at, details, metadata = c_void_p(), Details(), Metadata()
            LIB.grpc_call_details_init(byref(details))
            LIB.grpc_metadata_array_init(byref(metadata))
            queue = LIB.grpc_completion_queue_create_for_pluck(None)
            error = LIB.grpc_server_request_call(self.at, byref(at), byref(details), byref(metadata), queue, self.queue, 1)
            assert error == 0, f"grpc_call_error {error}"
            event = LIB.grpc_completion_queue_next(self.queue, Timespec(2**62, 0, 1), None)
            assert event.type == 2 and event.success
            call = Call(at.value, queue)
            if self.serve:
                self.serve(call)
                continue
            with self.there:
                self.calls[details.method.text()] = call
                self.there.notify_all()

    def call(self, path):
        """The call that came, once it has."""
        with self.there:
            assert self.there.wait_for(lambda: path in self.calls, 10), f"{path} did not come"
            return self.calls.pop(path)


class Channel:
    def __init__(self, port):
        settings = args(grpc__enable_http_proxy=0, grpc__use_local_subchannel_pool=1)
        self.at = LIB.grpc_channel_create(f"127.0.0.1:{port}".encode(), LIB.grpc_insecure_credentials_create(), byref(settings))

    def make(self, path):
        queue = LIB.grpc_completion_queue_create_for_pluck(None)
        method = LIB.grpc_slice_from_copied_string(path.encode())
        return Call(LIB.grpc_channel_create_call(self.at, None, 0xFFFF, queue, method, None, soon(), None), queue)

    def call(self, path):
        """Unary, from beginning to end on this thread."""
        self.make(path).batch(*UNARY)

    def send(self, path):
        """Unary; who waits for the answer is another."""
        call = self.make(path)
        call.begin(*UNARY)
        return call


def case(function):
    CASES.append(function)
    return function


class Pool:
    """Threads that live for the whole test: none is started by a request."""

    def __init__(self, count):
        self.work, self.wake = [], threading.Semaphore(0)
        for _ in range(count):
            threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while self.wake.acquire():
            steps, done = self.work.pop(0)
            for step in steps:
                step()
            done.set()

    def give(self, *steps):
        done = threading.Event()
        self.work.append((steps, done))
        self.wake.release()
        return done

    def do(self, *steps):
        assert self.give(*steps).wait(20), "a worker died"


def come(*paths):
    """Requests to our server, from a thread that serves nothing; the calls as the server has them."""
    for path in paths:
        CALLERS.append(NEAR.send(path))
    return [SERVER.call(path) for path in paths]


def over():
    while CALLERS:
        CALLERS.pop().wait()


def answer_all(call):
    call.take()
    call.answer()


@case
def the_first_of_a_process():
    (call,) = come("/t/first")
    POOL.do(call.take, lambda: FAR.call("/t/first-call"), call.answer)
    over()
    return {"/t/first-call": "/t/first"}


@case
def on_one_connection_at_once():
    paths = [f"/t/one-{n}" for n in range(8)]
    calls = come(*paths)
    gate = threading.Barrier(8, timeout=15)

    def serve(n):
        return (calls[n].take, gate.wait, lambda: FAR.call(f"{paths[n]}-call"), gate.wait, calls[n].answer)
    for done in [POOL.give(*serve(n)) for n in (3, 1, 7, 0, 6, 2, 5, 4)]:
        assert done.wait(20)
    over()
    return {f"{path}-call": path for path in paths}


@case
def over_a_channel_that_connects():
    """Calls wait until there is a connection, and another thread begins their streams."""
    paths = [f"/t/new-{n}" for n in range(4)]
    calls = come(*paths)
    channel = Channel(FAR_SERVER.port)
    gate = threading.Barrier(4, timeout=15)

    def serve(n):
        return (calls[n].take, gate.wait, lambda: channel.call(f"{paths[n]}-call"), calls[n].answer)
    for done in [POOL.give(*serve(n)) for n in (2, 0, 3, 1)]:
        assert done.wait(20)
    over()
    return {f"{path}-call": path for path in paths}


@case
def another_thread_waits_for_the_answer():
    first, second = come("/t/wait-0", "/t/wait-1")
    made = []
    POOL.do(first.take, lambda: made.append(FAR.send("/t/wait-0-call")))
    POOL.do(second.take, lambda: made[0].wait(), lambda: FAR.call("/t/wait-1-call"), second.answer)
    first.answer()
    over()
    return {"/t/wait-0-call": "/t/wait-0", "/t/wait-1-call": "/t/wait-1"}


@case
def several_calls_of_one_request():
    (call,) = come("/t/more")
    POOL.do(call.take, *(lambda n=n: FAR.call(f"/t/more-call-{n}") for n in range(5)), call.answer)
    over()
    return {f"/t/more-call-{n}": "/t/more" for n in range(5)}


@case
def a_call_that_streams():
    """Headers leave alone, and another thread goes on."""
    first, second = come("/t/stream-0", "/t/stream-1")
    call = FAR.make("/t/stream-0-call")
    POOL.do(first.take, lambda: call.batch(SEND_INITIAL_METADATA))
    POOL.do(second.take, lambda: call.batch(SEND_MESSAGE, SEND_CLOSE, RECEIVE_INITIAL_METADATA, RECEIVE_MESSAGE, RECEIVE_STATUS),
            lambda: FAR.call("/t/stream-1-call"), second.answer)
    first.answer()
    over()
    return {"/t/stream-0-call": "/t/stream-0", "/t/stream-1-call": "/t/stream-1"}


@case
def a_head_in_pieces():
    """The core makes the stream when its frame begins, and has the rest later."""
    client = socket.create_connection(("127.0.0.1", SERVER.port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def literal(name, value):
        return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
    block = b"\x83\x86" + literal(b":path", b"/t/pieces") + literal(b":authority", b"x") + literal(b"te", b"trailers") \
        + literal(b"content-type", b"application/grpc")
    message = b"\0\0\0\0\0"
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    for piece in (len(block).to_bytes(3, "big") + b"\1\4\0\0\0\1", block[:20], block[20:], len(message).to_bytes(3, "big") + b"\0\1\0\0\0\1" + message):
        time.sleep(0.05)
        client.sendall(piece)
    call = SERVER.call("/t/pieces")
    POOL.do(call.take, lambda: FAR.call("/t/pieces-call"), call.answer)
    time.sleep(0.1)
    client.close()
    return {"/t/pieces-call": "/t/pieces"}


@case
def a_thread_of_its_own():
    calls = come("/t/own-0", "/t/own-1")
    POOL.do(calls[0].take)
    FAR.call("/t/own-call")
    for call in calls:
        call.answer()
    over()
    return {"/t/own-call": None}


@case
def nobody_has_taken_it():
    calls = come("/t/nobody-0", "/t/nobody-1")
    POOL.do(lambda: FAR.call("/t/nobody-call"))
    for call in calls:
        call.answer()
    over()
    return {"/t/nobody-call": None}


@case
def the_answer_ends_it():
    calls = come("/t/ended-0", "/t/ended-1")
    POOL.do(calls[0].take, calls[0].answer, lambda: FAR.call("/t/ended-call"))
    calls[1].answer()
    over()
    return {"/t/ended-call": None}


@case
def begun_before_the_answer_and_sent_behind_it():
    """A call that still waits for its connection when its request is answered is nobody's."""
    calls = come("/t/late-0", "/t/late-1")
    port = free_port()
    made = Channel(port).make("/t/late-call")
    POOL.do(calls[0].take, lambda: made.begin(*UNARY, patient=True), calls[0].answer)
    Server(answer_all, port)
    made.wait()
    calls[1].answer()
    over()
    return {"/t/late-call": None}


def who_takes_all_serves_none():
    """Last, as that thread is never believed again."""
    calls = come("/t/all-0", "/t/all-1")
    for call in calls:
        call.take()
    FAR.call("/t/all-call")
    for call in calls:
        call.answer()
    over()
    return {"/t/all-call": None}


def problems_of(expected, spans):
    """What is wrong with the calls to the far side: {path: path of the parent, or None}."""
    def span(path, kind):
        found = [s for s in spans if s["name"] == path[1:] and s["kind"] == kind]
        assert len(found) == 1, f"{len(found)} {kind} spans of {path}"
        return found[0]

    for path, parent in expected.items():
        try:
            client, server = span(path, "client"), span(path, "server")
            link = client["attributes"]["spanwire.link"]
            if server["parent_span_id"] != client["span_id"]:
                yield f"{path}: its two ends are not joined"
            if parent is None and (client["parent_span_id"] or link != "root"):
                yield f"{path}: has a parent, by {link}"
            elif parent and (client["parent_span_id"] != span(parent, "server")["span_id"] or link != "handed"):
                yield f"{path}: not called by {parent}, but by {link}"
        except AssertionError as error:
            yield str(error)


def first_bytes():
    """What a function begins with: a breakpoint while there is a probe."""
    return ctypes.string_at(ctypes.cast(LIB.grpc_call_start_batch, c_void_p).value, 8)


def run():
    """All of it, in a process that is called ruby."""
    global LIB, SERVER, NEAR, FAR_SERVER, FAR, POOL
    LIB = core()
    clean = first_bytes()
    failures, marks = [], []

    def expect(what, problems):
        print(f"{'FAILED' if problems else 'ok':<7}{what}", flush=True)
        for problem in problems[:6]:
            print(f"       {problem}")
        if problems:
            failures.append(what)

    config = Path(tempfile.mkdtemp(prefix="spanwire-rig-"), "config.yaml")
    text = "spanwire:\n  link_attribute: true\n  runtime_probes: {}\n"
    config.write_text(text.format("true"))
    tracer = Tracer("--pid", str(os.getpid()), "--config", str(config))
    POOL = Pool(8)
    SERVER, FAR_SERVER = Server(), Server(answer_all)
    NEAR, FAR = Channel(SERVER.port), Channel(FAR_SERVER.port)
    deadline = time.monotonic() + 20
    while first_bytes() == clean and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    expect("the_probe_is_there", ["no breakpoint"] if first_bytes() == clean else [])
    # Where background work calls too, being the only open request of the process makes none a parent.
    FAR.call("/t/idle")

    def reloaded(value):
        config.write_text(text.format(value))
        tracer.reload()
        time.sleep(0.5)

    for function in CASES:
        marks.append((function.__name__, function()))
    handed = sum(value for name, value in tracer.metrics().items() if "requests_handed" in name)
    reloaded("false")
    expect("switched_off_by_a_reload_it_is_gone", [] if first_bytes() == clean else ["a breakpoint"])
    calls = come("/t/off-0", "/t/off-1")
    POOL.do(calls[0].take, lambda: FAR.call("/t/off-call"), calls[0].answer)
    calls[1].answer()
    over()
    marks.append(("and_links_nothing", {"/t/off-call": None}))
    reloaded("true")
    (call,) = come("/t/on")
    POOL.do(call.take, lambda: FAR.call("/t/on-call"), call.answer)
    over()
    marks.append(("switched_on_again_it_does", {"/t/on-call": "/t/on"}))
    marks.append((who_takes_all_serves_none.__name__, who_takes_all_serves_none()))
    counted = {name: value for name, value in tracer.metrics().items() if value and ("kernel_events" in name or "missed" in name)}
    spans = tracer.finish()
    expect("nothing_is_left_of_it", [] if first_bytes() == clean else ["a breakpoint"])
    expect(f"hand_overs_are_counted ({handed:.0f})", [] if handed >= 20 else ["too few"])
    for name, expected in marks:
        expect(name, list(problems_of(expected, spans)))
    if failures:
        print(tracer.log.read_text()[-3000:], counted)
    print(f"{len(marks) + 4} tests, {len(failures)} failed, 0 skipped")
    return 1 if failures else 0


def main():
    need_root(TESTS)
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        print(f"skipped {TESTS} tests: there is no {LIBRARY}")
        return 0
    if "--ruby" in sys.argv:
        return run()
    return run_as("ruby", __file__)


if __name__ == "__main__":
    sys.exit(main())
