"""An ASGI service for hypercorn, which decodes with h2: bodies come back; /seen tells of the requests since the last look.

A body whose trailers or length are not right never arrives here: h2 ends the connection.
"""
import json

counts = {"requests": 0, "with": 0, "twice": 0}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    if scope["path"] == "/seen":
        text = json.dumps(counts).encode()
        counts.update(dict.fromkeys(counts, 0))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
        return await send({"type": "http.response.body", "body": text})
    lines = sum(name == b"traceparent" for name, _ in scope["headers"])
    counts["requests"] += 1
    counts["with"] += lines > 0
    counts["twice"] += lines > 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        event = await receive()
        if event["type"] != "http.request":
            return
        more = event.get("more_body", False)
        await send({"type": "http.response.body", "body": event.get("body", b""), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
