import hashlib
import http.client
import sys
from urllib.parse import urlsplit

base, count = urlsplit(sys.argv[1]), int(sys.argv[2])
connection = http.client.HTTPConnection(base.netloc)


def call(method, path, body=None):
    connection.request(method, path, body=body)
    answer = connection.getresponse()
    return answer, answer.read()


for number in range(count):
    assert call("GET", f"/get/{number}")[1] == b"ok"
    body = bytes([number % 256]) * 300000
    assert call("POST", f"/upload/{number}", body)[1].decode() == hashlib.sha256(body).hexdigest()
    answer, data = call("GET", f"/download/{number}")
    assert answer.headers["X-Sum"] == hashlib.sha256(data).hexdigest()
