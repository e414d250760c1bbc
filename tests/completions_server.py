"""A local server that speaks OpenAI's completions and chats, and fails as it is told."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.loopback import QuietHandler, serving_on_loopback


@dataclass
class CompletionsServer:
    """What was asked, and what goes wrong: the faults are taken one a request, then all goes well."""

    url: str = ""
    faults: list[str] = field(default_factory=list)
    requests: list[tuple[str, dict]] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)
    model: str = ""
    """What the server calls itself; what it is asked for where empty."""
    forms: tuple[str, ...] = ("completions", "chat")
    busiest: int = 0
    """Requests at once, at most."""
    _running: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)


@contextlib.contextmanager
def serving() -> Iterator[CompletionsServer]:
    """A server as long as the block runs; it answers a prompt with its last word in capitals, and a line after it."""
    state = CompletionsServer()

    class Handler(QuietHandler):
        def do_POST(self):
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            form = "chat" if self.path.endswith("/chat/completions") else "completions"
            with state._lock:
                state.requests.append((form, content))
                state.headers.append({name.lower(): value for name, value in self.headers.items()})
                fault = state.faults.pop(0) if state.faults else ""
                state._running += 1
                state.busiest = max(state.busiest, state._running)
            _wait(fault)
            with state._lock:  # before the answer leaves: who has read it may ask again at once
                state._running -= 1
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                _answer(self, state, form, content, fault)

    with serving_on_loopback(Handler) as address:
        state.url = f"{address}/v1"
        yield state


def _wait(fault):
    time.sleep({"late": 1.0, "slow": 0.1}.get(fault, 0.0))


def _answer(handler, state, form, content, fault):
    if fault == "hang up":
        handler.connection.close()
        return
    status, *headers = fault.split() if fault[:1].isdigit() else ["200"]
    if form not in state.forms:
        status = "404"
    key = handler.headers.get("Authorization", "")
    body = f"{key}: no".encode() if int(status) >= 400 else _body(state, form, content, fault, key)
    handler.send_response(int(status))
    for header in ["Content-Type=application/json", *headers]:
        handler.send_header(*header.split("="))
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if fault == "drip":
        for start in range(0, len(body), 10):
            handler.wfile.write(body[start : start + 10])
            handler.wfile.flush()
            time.sleep(0.1)
    else:
        handler.wfile.write(body[: len(body) // 2] if fault == "cut" else body)


def _body(state, form, content, fault, key):
    if fault in _OTHER_BODIES:
        return _OTHER_BODIES[fault]
    prompt = content["prompt"] if form == "completions" else content["messages"][0]["content"]
    text = _TEXTS.get(fault, f" {prompt.split()[-1].upper()}\nand more")
    text = key if fault == "key" else text
    choice = {"index": 0, "finish_reason": "stop"}
    choice |= {"text": text} if form == "completions" else {"message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    document = {"id": "1", "model": state.model or content["model"], "choices": [choice], "usage": usage}
    if fault == "uncounted":
        document["usage"] = {"prompt_tokens": "many", "completion_tokens": -1}
    return json.dumps(document).encode()


_TEXTS = {"empty": "", "blank": " \n", "null": None, "number": 7, "long": "x" * 100_000, "half": "a\ud800b"}
_OTHER_BODIES = {
    "not json": b"<html>busy</html>",
    "other json": b'{"error": "none of this"}',
    "list": b"[1, 2]",
    "no choice": b'{"model": "m", "choices": []}',
    "deep": b'{"choices":' + b"[" * 100_000,
    "flood": b" " * ((1 << 22) + 1),
}
