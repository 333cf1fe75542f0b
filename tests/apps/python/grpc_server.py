"""grpcio, synchronous: a pool of threads serves, each calls the next hop on its own thread over one channel."""

import os
from concurrent import futures

import grpc

import background
from background import NEXT, SERVICE

PREFIX = "/hop.Chain/"
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.so_reuseport", 0)]


def call(path):
    return channel.unary_unary(path)(b"", timeout=20)


def serve(path, context):
    try:
        forward = NEXT and not path.startswith(PREFIX + "bg-")
        return SERVICE.encode() + b" " + (call(path) if forward else path.encode())
    except grpc.RpcError as error:
        context.abort(grpc.StatusCode.UNAVAILABLE, str(error))


class Handler(grpc.GenericRpcHandler):
    """Any method; without a serializer the messages are bytes."""

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda _, context: serve(details.method, context))


channel = grpc.insecure_channel(NEXT.removeprefix("http://"), OPTIONS) if NEXT else None
server = grpc.server(futures.ThreadPoolExecutor(max_workers=80), [Handler()], options=OPTIONS)
if not server.add_insecure_port("127.0.0.1:" + os.environ["PORT"]):
    raise SystemExit("cannot listen")
server.start()
background.start(lambda path: call(PREFIX + path[1:].replace("/", "-")))
server.wait_for_termination()
