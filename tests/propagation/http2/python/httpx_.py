"""HTTP/2 with prior knowledge by httpx; see ../README.md: httpx_.py BASE COUNT LEVEL"""
import asyncio
import sys

import httpx


def body(number):
    return bytes([number % 256]) * (70000 if large(number) else number * 7 % 600)


def large(number):
    """More than the window takes at once.

    httpcore 1.0 may wait forever for a window while others are under way: whoever waits reads, though another has read
    the update meanwhile (_wait_for_outgoing_flow, _receive_events). So such a body is sent when nothing else is.
    """
    return number % 50 == 7


async def main(base, count, level):
    errors = []
    async with httpx.AsyncClient(http1=False, http2=True, trust_env=False, timeout=60) as client:
        async def run(numbers):
            for number in numbers:
                try:
                    answer = await client.post(f"{base}/echo?id={number}", content=body(number), headers={"x-id": str(number)})
                    if (answer.status_code, answer.http_version, answer.content) != (200, "HTTP/2", body(number)):
                        errors.append(f"{number}: status {answer.status_code}, {answer.http_version}, {len(answer.content)} bytes came back, or others")
                except httpx.HTTPError as error:
                    errors.append(f"{number}: {error!r}")

        small = [number for number in range(count) if not large(number)]
        await asyncio.gather(*(run(small[worker::level]) for worker in range(level)))
        await run(filter(large, range(count)))
    if errors:
        sys.exit(f"{len(errors)} errors: {errors[:3]}")


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
