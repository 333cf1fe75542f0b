"""A service that hands its requests on as puma does: one thread reads them, others serve, each after it asked for TCP_INFO of its connection.

It waits until two requests are open, so neither is the only one. Each is asked of the service on PORT, and that one's answer passed on.

usage: ruby reactor.py OWN_PORT PORT
"""
import http.client
import queue
import select
import socket
import sys
import threading

OWN, PORT = map(int, sys.argv[1:])
READ = queue.SimpleQueue()
BOTH = threading.Barrier(2)


def serve():
    while True:
        connection, path = READ.get()
        connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
        BOTH.wait()
        call = http.client.HTTPConnection("127.0.0.1", PORT)
        call.request("GET", path)
        answer = call.getresponse().read()
        call.close()
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
        connection.close()


for _ in range(2):
    threading.Thread(target=serve, daemon=True).start()
listener = socket.create_server(("127.0.0.1", OWN))
epoll, connections = select.epoll(), {}
epoll.register(listener, select.EPOLLIN)
while True:
    for number, _ in epoll.poll():
        if number == listener.fileno():
            accepted = listener.accept()[0]
            connections[accepted.fileno()] = accepted
            epoll.register(accepted, select.EPOLLIN)
            continue
        one = connections.pop(number)
        epoll.unregister(one)
        head = one.recv(4096)
        if head:  # one call has all of it
            READ.put((one, head.split()[1].decode()))
        else:
            one.close()
