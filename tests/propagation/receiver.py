"""An HTTP/1.1 server that keeps every head as it came, for clients.py. A process of its own, not traced."""
import hashlib
import itertools
import json
import socket
import sys
import threading
import time

records, lock, numbers = [], threading.Lock(), itertools.count()
BLOCK = bytes(range(256)) * 256


def answer(end, body, *lines, status="200 OK", send_body=True):
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, ""))
    end.sendall(head.encode() + (body if send_body else b""))


class Connection:
    def __init__(self, end):
        self.end, self.data, self.number = end, b"", next(numbers)

    def more(self):
        part = self.end.recv(1 << 18)
        if not part:
            raise ConnectionError
        self.data += part

    def take(self, length):
        while len(self.data) < length:
            self.more()
        taken, self.data = self.data[:length], self.data[length:]
        return taken

    def line(self, end=b"\r\n"):
        while end not in self.data:
            self.more()
        return self.take(self.data.index(end) + len(end))

    def body(self, fields):
        total = hashlib.sha256()
        if "chunked" in fields.get("transfer-encoding", ""):
            while size := int(self.line().split(b";")[0], 16):
                total.update(self.take(size))
                assert self.take(2) == b"\r\n"
            while self.line() != b"\r\n":
                pass
            return total
        left = int(fields.get("content-length", 0))
        while left:
            if not self.data:
                self.more()
            part, self.data = self.data[:left], self.data[left:]
            total.update(part)
            left -= len(part)
        return total

    def run(self):
        for index in itertools.count():
            head = self.line(b"\r\n\r\n").decode("latin-1")
            lines = head.split("\r\n")
            method, path, _ = lines[0].split(" ")
            path = path[path.index("/", 8):] if path.startswith("http://") else path
            fields = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:-2])}
            if path != "/records":
                with lock:
                    records.append((self.number, index, head))
            if fields.get("expect") == "100-continue":
                self.end.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            total = self.body(fields)
            if fields.get("upgrade") == "websocket":
                return self.echo()
            self.respond(method, path, total)
            if fields.get("connection", "").lower() == "close":
                return None

    def respond(self, method, path, total):
        kind, argument = (path[1:].split("/") + ["", ""])[:2]
        if kind == "records":
            with lock:
                text = json.dumps(records).encode()
                records.clear()
            answer(self.end, text)
        elif kind == "upload":
            answer(self.end, total.hexdigest().encode())
        elif kind == "download":
            body = BLOCK * 4 + argument.encode()
            answer(self.end, body, f"X-Sum: {hashlib.sha256(body).hexdigest()}", send_body=method != "HEAD")
        elif kind == "big":
            self.end.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {int(argument) * len(BLOCK)}\r\n\r\n".encode())
            for _ in range(int(argument)):
                self.end.sendall(BLOCK)
        elif kind == "redirect":
            answer(self.end, b"", f"Location: /get/{argument}", status="302 Found")
        elif kind == "stream":
            self.end.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(int(argument)):
                self.end.sendall(b"8\r\n%8d\r\n" % number)
                time.sleep(0.02)
            self.end.sendall(b"0\r\n\r\n")
        else:
            answer(self.end, b"ok")

    def echo(self):
        self.end.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while part := self.data or self.end.recv(1 << 16):
            self.data = b""
            self.end.sendall(part)


def serve(end):
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with end:
        try:
            Connection(end).run()
        except (ConnectionError, TimeoutError):
            pass


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
