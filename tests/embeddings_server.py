"""A local endpoint that speaks OpenAI's embeddings protocol and fails as it is told."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.loopback import QuietHandler, serving_on_loopback

WIDTH = 6


def vector(word: str) -> list[float]:
    """What the endpoint says of a word."""
    digest = hashlib.sha256(word.encode()).digest()
    return [(byte - 128) / 128 for byte in digest[:WIDTH]]


@dataclass
class EmbeddingsServer:
    """What was asked, and what goes wrong: the faults are taken one a request, then all goes well."""

    url: str = ""
    faults: list[str] = field(default_factory=list)
    requests: list[dict] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)


@contextlib.contextmanager
def serving() -> Iterator[EmbeddingsServer]:
    """An endpoint as long as the block runs."""
    state = EmbeddingsServer()

    class Handler(QuietHandler):
        def do_POST(self):
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append(content)
            state.headers.append(dict(self.headers))
            fault = state.faults.pop(0) if state.faults else ""
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                _answer(self, content["input"], fault, self.headers.get("Authorization", ""))

    with serving_on_loopback(Handler) as address:
        state.url = f"{address}/v1"
        yield state


def _answer(handler: BaseHTTPRequestHandler, words: list[str], fault: str, key: str) -> None:
    if fault == "hang up":
        handler.connection.close()
        return
    if fault == "late":
        time.sleep(0.6)
    status, *headers = fault.split() if fault[:1].isdigit() else ["200"]
    body = key.encode() + b": too many" if int(status) >= 400 else _body(words, fault)
    handler.send_response(int(status))
    for header in headers:
        handler.send_header(*header.split("="))
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if fault == "drip":
        for start in range(0, len(body), 50):
            handler.wfile.write(body[start : start + 50])
            handler.wfile.flush()
            time.sleep(0.1)
    else:
        handler.wfile.write(body[: len(body) // 2] if fault == "cut" else body)


def _body(words: list[str], fault: str) -> bytes:
    if fault in _OTHER_BODIES:
        return _OTHER_BODIES[fault]
    if fault == "huge":
        return b" " * (len(words) * 16_384 * 32 + 1)
    rows = [{"index": number, "embedding": vector(word)} for number, word in enumerate(words)]
    if fault in _SPOILED:
        rows[0]["embedding"] = _SPOILED[fault](rows[0]["embedding"])
    elif fault == "wider":
        rows = [{**row, "embedding": [*row["embedding"], 0.5]} for row in rows]
    elif fault == "fewer":
        rows.pop()
    elif fault == "twice":
        rows[1]["index"] = 0
    elif fault == "shuffled":
        rows.reverse()
    return json.dumps({"object": "list", "data": rows}).encode()


_OTHER_BODIES = {
    "not json": b"<html>busy</html>",
    "other json": b'{"error": "none of this"}',
}
_SPOILED = {
    "ragged": lambda row: [*row, 0.5],
    "nan": lambda row: [float("nan"), *row[1:]],
    "huge number": lambda row: [1e300, *row[1:]],
    "text": lambda row: "AAAA",
}
