"""aiohttp server and client on asyncio's own loop; the background caller is a task of the same loop.

WAITS=poll: its selector is poll() and not epoll."""

import asyncio
import os
import selectors

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

import background
from background import NEXT, SERVICE


async def call(path):
    async with session.get(NEXT + path) as answer:
        answer.raise_for_status()
        return await answer.read()


async def handle(request):
    path = request.path
    forward = NEXT and not path.startswith("/bg/")
    try:
        body = SERVICE.encode() + b" " + (await call(path) if forward else path.encode())
        return web.Response(body=body)
    except Exception as error:
        return web.Response(status=502, text=str(error))


async def main():
    global session
    session = ClientSession(timeout=ClientTimeout(20), connector=TCPConnector(limit=0))
    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"]), backlog=256).start()
    task = asyncio.create_task(background.task(call))
    await asyncio.Event().wait()


waits = {"poll": selectors.PollSelector}.get(os.environ.get("WAITS"), selectors.DefaultSelector)
asyncio.SelectorEventLoop(waits()).run_until_complete(main())
