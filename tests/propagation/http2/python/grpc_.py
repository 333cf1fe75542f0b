"""rig.Echo with grpcio: a server, and a client of it; see ../README.md.

    grpc_.py serve PORT | grpc_.py call HOST:PORT COUNT LEVEL [own]

With `own`, each call carries a traceparent of the program's. When a line comes on its standard input, the server says in
JSON how many calls it saw, with a traceparent and with two.
"""
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc


def body(number):
    return bytes([number % 256]) * (70000 if number % 50 == 7 else number * 7 % 600)


class Echo(grpc.GenericRpcHandler):
    def __init__(self):
        self.counts, self.lock = {"requests": 0, "with": 0, "twice": 0}, threading.Lock()

    def service(self, details):
        lines = sum(key == "traceparent" for key, _ in details.invocation_metadata)
        with self.lock:
            self.counts["requests"] += 1
            self.counts["with"] += lines > 0
            self.counts["twice"] += lines > 1
        if details.method == "/rig.Echo/Stream":
            return grpc.stream_stream_rpc_method_handler(lambda messages, _: messages)
        return grpc.unary_unary_rpc_method_handler(lambda message, _: message)


def serve(port):
    echo = Echo()
    # A stream keeps its thread; as many as the clients have at a time.
    server = grpc.server(ThreadPoolExecutor(128), handlers=[echo], options=[("grpc.so_reuseport", 0)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    for _ in sys.stdin:
        with echo.lock:
            print(json.dumps(echo.counts), flush=True)
            echo.counts = dict.fromkeys(echo.counts, 0)
    server.stop(0)


def call(target, count, level, own):
    errors = []
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        unary, stream = channel.unary_unary("/rig.Echo/Call"), channel.stream_stream("/rig.Echo/Stream")

        def one(number):
            fields = [("x-id", str(number))]
            if own:
                fields.insert(number % 2, ("traceparent", f"00-{number + 1:032x}-{number + 1:016x}-01"))
            if number % 10 == 9:
                sent = [body(number), body(number + 1), body(number + 2)]
                if list(stream(iter(sent), metadata=fields)) != sent:
                    errors.append(f"{number}: messages differ")
            elif unary(body(number), metadata=fields) != body(number):
                errors.append(f"{number}: other bytes came back")

        def run(worker):
            for number in range(worker, count, level):
                try:
                    one(number)
                except grpc.RpcError as error:
                    errors.append(f"{number}: {error.code()} {error.details()}")

        with ThreadPoolExecutor(level) as pool:
            list(pool.map(run, range(level)))
    if errors:
        sys.exit(f"{len(errors)} errors: {errors[:3]}")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        call(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), len(sys.argv) > 5)
