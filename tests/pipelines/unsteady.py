"""A proxy before a storage emulator that answers 503, or another status, as often as it is told to."""

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class UnsteadyProxy:
    """Passes requests on to a port of this machine; every `period`-th whose path holds `part` is answered with 503.

    `status` is another answer: Google's library itself tries again after a 503, for half a minute, and not after a 409;
    0 is none, the connection is cut. `gate` is called with "before" and "after" a request is passed on and its body,
    and may keep it waiting.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.period = 0
        self.status = 503
        self.part = ""
        self.gate: Callable[[str, bytes], None] = lambda moment, body: None
        self.requests = 0
        self.refused: list[str] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("localhost", 0), self._handler())
        self.port = self._server.server_port

    def __enter__(self) -> "UnsteadyProxy":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def refuses(self, method: str, path: str) -> bool:
        with self._lock:
            if not self.period or self.part not in f"{method} {path}":
                return False
            self.requests += 1
            if self.requests % self.period:
                return False
            self.refused.append(f"{method} {path}")
            return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.gate("before", body)
                if proxy.refuses(self.command, self.path):
                    if not proxy.status:
                        self.close_connection = True
                        return
                    answer = b'{"error": {"code": %d, "message": "Unavailable"}}' % proxy.status
                    status, headers = proxy.status, []
                else:
                    connection = http.client.HTTPConnection("localhost", proxy.target)
                    connection.request(self.command, self.path, body, dict(self.headers))
                    reply = connection.getresponse()
                    status, headers, answer = reply.status, reply.getheaders(), reply.read()
                    connection.close()
                    proxy.gate("after", body)
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass_on

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        return Handler
