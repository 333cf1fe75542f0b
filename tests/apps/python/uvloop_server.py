"""A bare ASGI app on uvicorn with uvloop, calling by httpx; the background caller is a task of the same loop."""

import asyncio
import os
import time

import httpx
import uvicorn

import background
from background import NEXT, SERVICE


async def call(path):
    answer = await client.get(NEXT + path)
    answer.raise_for_status()
    return answer.content


async def run_background():
    for at, path in background.paths():
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        try:
            await call(path)
        except Exception as error:
            print(f"background: {error}", flush=True)
            await asyncio.sleep(0.2)


async def lifespan(receive, send):
    global client, task
    await receive()
    client = httpx.AsyncClient(timeout=20, trust_env=False, limits=httpx.Limits(max_connections=256))
    if NEXT and background.HZ > 0:
        task = asyncio.create_task(run_background())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    path, status = scope["path"], 200
    try:
        forward = NEXT and not path.startswith("/bg/")
        body = SERVICE.encode() + b" " + (await call(path) if forward else path.encode())
    except Exception as error:
        body, status = str(error).encode(), 502
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), loop="uvloop", lifespan="on", http="h11", log_level="warning", backlog=256)
