"""The same hop as a WSGI application, for gunicorn."""
import threads


def app(environ, start_response):
    if threads.NEXT:
        status, body = threads.call(environ["PATH_INFO"])
    else:
        status, body = 200, b"end"
    start_response(f"{status} OK", [("Content-Length", str(len(body)))])
    return [body]
