"""A real web server on this machine that answers as servers of others do: slowly, busy, with errors, without an end."""

import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.loopback import QuietHandler, serving_on_loopback


@dataclass
class WebServer:
    """What a server holds by path, how it answers, and what it was asked.

    `/busy429-3/NAME` says 429 three times, `/busy503-3/NAME` 503 likewise, before it gives NAME; `/403/NAME` and other
    statuses are final; `/slow/NAME` takes `delay` seconds, `/silent/NAME` gives no answer, `/endless/NAME` never ends.
    """

    files: dict[str, bytes]
    headers: dict[str, str] = field(default_factory=dict)
    """What busy answers carry."""
    delay: float = 0.05
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    """The most slow answers that it worked on at once."""
    crowd: int = 0
    """The first slow answers wait for so many at once, 20 s at most: then a busy machine cannot keep them apart."""
    _now: int = 0
    _lock: threading.Condition = field(default_factory=threading.Condition)

    @contextlib.contextmanager
    def running(self) -> Iterator["WebServer"]:
        """The server, while the block runs."""
        handler = type("Handler", (_Handler,), {"site": self})
        with serving_on_loopback(handler) as self.url:
            yield self

    def ask(self, path: str) -> int:
        """Count a request; how often this path was asked for before."""
        with self._lock:
            self.asked[path] += 1
            return self.asked[path] - 1

    def work(self) -> None:
        """What an answer takes."""
        with self._lock:
            self._now += 1
            self.at_once = max(self.at_once, self._now)
            self._lock.notify_all()
            self._lock.wait_for(lambda: self.at_once >= self.crowd, timeout=20)
        time.sleep(self.delay)
        with self._lock:
            self._now -= 1


class _Handler(QuietHandler):
    site: WebServer

    def do_GET(self):
        with contextlib.suppress(OSError):
            self._answer(self.site.ask(self.path))

    def _answer(self, before: int) -> None:
        _, kind, *rest = self.path.split("/", 2)
        if match := re.fullmatch(r"busy(\d+)-(\d+)", kind):
            if before < int(match[2]):
                self._send(int(match[1]), b"busy", self.site.headers)
                return
        elif kind.isdigit():
            self._send(int(kind), b"no")
            return
        elif kind == "slow":
            self.site.work()
        elif kind == "silent":
            time.sleep(5)
            return
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(1 << 12):  # 4 GiB
                self.wfile.write(bytes(1 << 20))
        name = rest[0] if rest and f"{kind}/{rest[0]}" not in self.site.files else self.path[1:]
        self._send(200, self.site.files[name]) if name in self.site.files else self._send(404, b"")

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
