"""HTTP/2 with prior knowledge by httpx; see ../README.md: httpx_.py BASE COUNT LEVEL"""
import asyncio
import sys

import httpx


def body(number):
    return bytes([number % 256]) * (70000 if number % 50 == 7 else number * 7 % 600)


async def main(base, count, level):
    errors = []
    async with httpx.AsyncClient(http1=False, http2=True, trust_env=False, timeout=60) as client:
        async def run(worker):
            for number in range(worker, count, level):
                try:
                    answer = await client.post(f"{base}/echo?id={number}", content=body(number), headers={"x-id": str(number)})
                    if (answer.status_code, answer.http_version, answer.content) != (200, "HTTP/2", body(number)):
                        errors.append(f"{number}: status {answer.status_code}, {answer.http_version}, {len(answer.content)} bytes came back, or others")
                except httpx.HTTPError as error:
                    errors.append(f"{number}: {error!r}")

        await asyncio.gather(*(run(worker) for worker in range(level)))
    if errors:
        sys.exit(f"{len(errors)} errors: {errors[:3]}")


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
