"""An S3 server on loopback (moto) behind a line that fails when it is told to.

    s3_server.py BUCKET

prints `listening at PORT` and serves until its standard input ends. `POST /_faults` with JSON sets what fails from then on:

    seed      of the dice
    permille  of requests that fail, of each kind:
      error     503 and nothing done
      after     done, then the connection is cut without an answer
      late      done, then no answer for `delay_s`
    delay_s   seconds
    ignore    take the preconditions out of every put, as a careless gateway does

`GET /_faults` gives how many of each kind there were. Puts are one at a time: as S3 does it, a condition and the write that
it is for are one step, which moto's own threads do not see to.
"""

import json
import random
import socket
import sys
import threading
import time

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Line:
    def __init__(self, app):
        self.app = app
        self.one_at_a_time = threading.Lock()
        self.faults = {}
        self.dice = random.Random(0)
        self.counts = {"requests": 0, "error": 0, "after": 0, "late": 0, "refused": 0}

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/_faults":
            return self.control(environ, start_response)
        with self.one_at_a_time:
            kind = self.throw()
            if kind == "error":
                body = b"<Error><Code>SlowDown</Code></Error>"
                start_response("503 Slow Down", [("Content-Length", str(len(body)))])
                return [body]
            if self.faults.get("ignore"):
                environ.pop("HTTP_IF_NONE_MATCH", None)
                environ.pop("HTTP_IF_MATCH", None)
            answer = []
            body = b"".join(self.app(environ, lambda status, headers, *_: answer.append((status, headers))))
            status, headers = answer[-1]
            if status.startswith(("412", "409")):
                self.counts["refused"] += 1
        if kind == "late":
            time.sleep(self.faults.get("delay_s", 1))
        if kind in ("after", "late"):
            connection = environ["werkzeug.socket"]
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            raise ConnectionError("cut, as asked")
        start_response(status, headers)
        return [body]

    def throw(self):
        self.counts["requests"] += 1
        share = self.dice.randrange(1000)
        for kind in ("error", "after", "late"):
            share -= self.faults.get("permille", {}).get(kind, 0)
            if share < 0:
                self.counts[kind] += 1
                return kind
        return None

    def control(self, environ, start_response):
        if environ["REQUEST_METHOD"] == "POST":
            self.faults = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            self.dice = random.Random(self.faults.get("seed", 0))
        body = json.dumps(self.counts).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


def main():
    app = Line(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    import http.client

    line = http.client.HTTPConnection("127.0.0.1", server.port)
    line.request("PUT", "/" + sys.argv[1], headers={"Authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request"})
    answer = line.getresponse()
    if answer.status != 200:
        sys.exit(f"no bucket: {answer.status} {answer.read()!r}")
    print(f"listening at {server.port}", flush=True)
    sys.stdin.read()


main()
