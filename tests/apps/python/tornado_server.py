"""Tornado: its loop reads a request before it registers the socket, and calls the next hop from a coroutine."""

import asyncio
import os

from tornado.httpclient import AsyncHTTPClient
from tornado.web import Application, RequestHandler

import background
from background import NEXT, SERVICE


async def call(path):
    return (await client.fetch(NEXT + path, request_timeout=20)).body


class Hop(RequestHandler):
    async def get(self):
        path = self.request.path
        forward = NEXT and not path.startswith("/bg/")
        try:
            self.write(SERVICE.encode() + b" " + (await call(path) if forward else path.encode()))
        except Exception as error:
            self.set_status(502)
            self.write(str(error))


async def main():
    global client
    client = AsyncHTTPClient(max_clients=1000)
    Application([("/.*", Hop)]).listen(int(os.environ["PORT"]), "127.0.0.1")
    task = asyncio.create_task(background.task(call))
    await asyncio.Event().wait()


asyncio.run(main())
