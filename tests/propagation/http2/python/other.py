"""A program that speaks what is not HTTP over some connections, and HTTP/2 over one: other.py BASE RAW-PORT COUNT

The receiver on RAW-PORT answers with the SHA-256 of all it was sent. Ends with an error when a byte differs.
"""
import hashlib
import random
import socket
import struct
import sys
import threading

import httpx

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


# :method GET, :scheme http, :path /, an empty :authority
REQUEST = frame(1, 5, 1, b"\x82\x86\x84\x41\x00")


def yamux(dice, _):
    return b"".join(struct.pack(">BBHII", 0, dice.randrange(4), dice.randrange(16), stream, len(data)) + data
                    for stream in range(1, 600, 2) for data in [dice.randbytes(dice.randrange(3000))])


def resp(dice, _):
    return b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\nkey:%d\r\n$%d\r\n%s\r\n" % (4 + len(str(key)), key, len(value), value)
                    for key in range(2000) for value in [dice.randbytes(dice.randrange(200))])


def resp_with_http2_inside(dice, count):
    return b"*2\r\n$3\r\nGET\r\n" + PREFACE + frame(4, 0, 0, b"") + REQUEST * 50 + resp(dice, count)


def frames_without_preface(dice, _):
    return frame(4, 0, 0, b"") + REQUEST * 50 + dice.randbytes(5000)


def half_a_preface(dice, _):
    return PREFACE[:-2] + b"x\n" + frame(4, 0, 0, b"") + REQUEST + dice.randbytes(5000)


def preface_then_noise(dice, _):
    return PREFACE + b"\xff" * 9 + dice.randbytes(50000)


def almost_a_preface(dice, _):
    return b"PRI * HTTP/2.0\r\nHost: x\r\n\r\n" + dice.randbytes(5000)


def noise(dice, _):
    return b"\0" + dice.randbytes(200000)


def tls(dice, _):
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(data)) + data for data in (dice.randbytes(dice.randrange(1, 2000)) for _ in range(100)))


KINDS = [yamux, resp, resp_with_http2_inside, frames_without_preface, half_a_preface, preface_then_noise, almost_a_preface, noise, tls]


def send(kind, seed, port, faults):
    dice = random.Random(f"{kind.__name__} {seed}")
    data = kind(dice, None)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = 0
        while at < len(data):
            size = dice.choice([1, 9, 24, 1000, 20000, 70000])
            connection.sendall(data[at:at + size])
            at += size
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(100):
            answer += part
    if answer.decode() != hashlib.sha256(data).hexdigest():
        faults.append(kind.__name__)


def main(base, port, count):
    faults = []
    with httpx.Client(http1=False, http2=True, trust_env=False, timeout=60) as client:
        for number in range(count):
            threads = [threading.Thread(target=send, args=(kind, number, port, faults)) for kind in KINDS]
            for thread in threads:
                thread.start()
            body = bytes([number % 256]) * 5000
            if client.post(f"{base}/echo?id={number}", content=body).content != body:
                faults.append("HTTP/2")
            for thread in threads:
                thread.join()
    if faults:
        sys.exit(f"other bytes came: {sorted(set(faults))}")


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
