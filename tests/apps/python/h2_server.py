"""hypercorn and httpx, both HTTP/2 without TLS by prior knowledge; the background caller is a task of the same loop."""

import asyncio
import os

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config

import background
from background import NEXT, SERVICE


async def call(path):
    answer = await client.get(NEXT + path)
    answer.raise_for_status()
    return answer.content


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    forward = NEXT and not path.startswith("/bg/")
    status = 200
    try:
        body = SERVICE.encode() + b" " + (await call(path) if forward else path.encode())
    except Exception as error:
        status, body = 502, repr(error).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def main():
    global client, task
    client = httpx.AsyncClient(http1=False, http2=True, timeout=20, trust_env=False)
    task = asyncio.create_task(background.task(call))
    config = Config()
    config.bind = ["127.0.0.1:" + os.environ["PORT"]]
    config.keep_alive_max_requests = 1_000_000
    await serve(app, config)


asyncio.run(main())
