"""hypercorn and httpx, both HTTP/2 without TLS by prior knowledge; the background caller is a task of the same loop."""

import asyncio
import os
import time

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


async def run_background():
    for at, path in background.paths():
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        try:
            await call(path)
        except Exception as error:
            print(f"background: {error!r}", flush=True)
            await asyncio.sleep(0.2)


async def main():
    global client, task
    client = httpx.AsyncClient(http1=False, http2=True, timeout=20, trust_env=False)
    if NEXT and background.HZ > 0:
        task = asyncio.create_task(run_background())
    config = Config()
    config.bind = ["127.0.0.1:" + os.environ["PORT"]]
    config.keep_alive_max_requests = 1_000_000
    await serve(app, config)


asyncio.run(main())
