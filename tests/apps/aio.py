"""The same hop on an event loop: asyncio, or uvloop with LOOP=uvloop."""
import asyncio
import os

import aiohttp
from aiohttp import web

NEXT = os.environ.get("NEXT", "")


async def main():
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) if NEXT else None

    async def call(path):
        async with session.get(NEXT + path) as response:
            return response.status, await response.read()

    async def handle(request):
        status, body = await call(request.path) if NEXT else (200, b"end")
        return web.Response(status=status, body=body)

    async def background(hertz):
        count = 0
        while True:
            await asyncio.sleep(1 / hertz)
            count += 1
            try:
                await call(f"/bg/{os.getpid()}-{count}")
            except aiohttp.ClientError:
                pass

    app = web.Application()
    app.router.add_get("/{tail:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"]), backlog=256).start()
    hertz = float(os.environ.get("BG_HZ", "0"))
    if NEXT and hertz:
        await background(hertz)
    await asyncio.Event().wait()


if os.environ.get("LOOP") == "uvloop":
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
