import asyncio
import hashlib
import sys

import aiohttp

base, count = sys.argv[1], int(sys.argv[2])


async def one(session, number):
    async with session.get(f"{base}/get/{number}") as answer:
        assert await answer.text() == "ok"
    body = bytes([number % 256]) * 300000
    async with session.post(f"{base}/upload/{number}", data=body) as answer:
        assert await answer.text() == hashlib.sha256(body).hexdigest()
    async with session.get(f"{base}/download/{number}") as answer:
        assert answer.headers["X-Sum"] == hashlib.sha256(await answer.read()).hexdigest()


async def main():
    async with aiohttp.ClientSession() as session:
        for start in range(0, count, 8):
            await asyncio.gather(*(one(session, number) for number in range(start, min(start + 8, count))))


asyncio.run(main())
