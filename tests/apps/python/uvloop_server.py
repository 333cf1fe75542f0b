"""A bare ASGI app on uvicorn with uvloop, calling by httpx; the background caller is a task of the same loop."""

import asyncio
import os

import httpx
import uvicorn

import background
from background import NEXT, SERVICE


async def call(path):
    answer = await client.get(NEXT + path)
    answer.raise_for_status()
    return answer.content


async def lifespan(receive, send):
    global client, task
    await receive()
    client = httpx.AsyncClient(timeout=20, trust_env=False, limits=httpx.Limits(max_connections=256))
    task = asyncio.create_task(background.task(call))
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
