import hashlib
import sys

import requests

base, count = sys.argv[1], int(sys.argv[2])
session = requests.Session()
for number in range(count):
    assert session.get(f"{base}/get/{number}").text == "ok"
    body = bytes([number % 256]) * 300000
    assert session.post(f"{base}/upload/{number}", data=body).text == hashlib.sha256(body).hexdigest()
    answer = session.get(f"{base}/download/{number}")
    assert answer.headers["X-Sum"] == hashlib.sha256(answer.content).hexdigest()
    assert requests.get(f"{base}/get/once-{number}").text == "ok"
