import hashlib
import sys

import httpx

base, count = sys.argv[1], int(sys.argv[2])
with httpx.Client(trust_env=False) as client:
    for number in range(count):
        assert client.get(f"{base}/get/{number}").text == "ok"
        body = bytes([number % 256]) * 300000
        assert client.post(f"{base}/upload/{number}", content=body).text == hashlib.sha256(body).hexdigest()
        answer = client.get(f"{base}/download/{number}")
        assert answer.headers["X-Sum"] == hashlib.sha256(answer.content).hexdigest()
