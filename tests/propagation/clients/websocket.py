"""A session that leaves HTTP: what is sent and what comes back are the same bytes, both ways at once."""
import os
import random
import socket
import sys
from urllib.parse import urlsplit

base = urlsplit(sys.argv[1])
rng = random.Random(1)
with socket.create_connection((base.hostname, base.port)) as end:
    end.sendall(b"GET /websocket/0 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += end.recv(1)
    assert b" 101 " in head, head
    for number in range(int(sys.argv[2]) * 20):
        text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" if number % 3 == 0 else os.urandom(rng.randrange(60000))
        mask = os.urandom(4)
        size = bytes([0xfe]) + len(text).to_bytes(2, "big") if len(text) > 125 else bytes([0x80 | len(text)])
        frame = b"\x82" + size + mask + text
        end.sendall(frame)
        back = b""
        while len(back) < len(frame):
            part = end.recv(1 << 16)
            assert part, "closed"
            back += part
        assert back == frame, f"frame {number} differs"
