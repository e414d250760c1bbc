"""What a server answered, checked, counted and kept: its text is data, whatever it says."""

import hashlib
import json
import threading
from dataclasses import asdict, dataclass, field
from typing import Any

from spae.data.publishing import join, publish, read_bytes
from spae.incontext.language_model import AnswerLimits, cut

_TOKEN_BYTES = 64
"""An answer of more bytes a token than this is none."""
_COUNTS = 1_000_000_000
"""No request has more tokens."""


class AnswerError(Exception):
    """What came back is no answer."""


@dataclass(frozen=True)
class ServedAnswer:
    """One answer of a server."""

    text: str
    """Cut at the stop, without whitespace at both ends."""
    model: str
    """Who answered, as the server says."""
    prompt_tokens: int | None
    """As the server says, None where it does not."""
    answer_tokens: int | None


def parse_answer(response: Any, limits: AnswerLimits) -> ServedAnswer:
    """What the openai client returned for a completion or a chat; AnswerError where it is empty, too long or other."""
    try:
        choice = response.choices[0]
        text = choice.message.content if hasattr(choice, "message") else choice.text
        reason = getattr(choice, "finish_reason", None)
        usage = getattr(response, "usage", None)
        counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        said, mark = response.model, getattr(response, "system_fingerprint", None)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise AnswerError(f"the answer has another form than OpenAI's: {str(response)[:200]!r}") from error
    if not isinstance(text, str) or not (short := cut(text, limits.stop)):
        raise AnswerError(f"the model answered nothing (finish_reason {str(reason)[:40]!r})")
    prompt_tokens, answer_tokens = (n if type(n) is int and 0 <= n <= _COUNTS else None for n in counts)
    whole = short == text.strip()
    if len(short.encode(errors="replace")) > _TOKEN_BYTES * limits.most_tokens or (
        whole and answer_tokens is not None and answer_tokens > limits.most_tokens
    ):
        raise AnswerError(f"the answer is longer than the {limits.most_tokens} tokens that were asked for")
    model = f"{said} ({mark})" if isinstance(mark, str) and mark else str(said)
    clean = short.encode(errors="replace").decode()  # half characters cannot be written to a file
    return ServedAnswer(clean, model[:200].encode(errors="replace").decode(), prompt_tokens, answer_tokens)


@dataclass
class Usage:
    """What was asked of a server so far; counts of tokens are the server's own where it gives them."""

    requests: int = 0
    """Answered by the server."""
    kept: int = 0
    """Answered from the folder of kept answers."""
    failed: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    prompt_price: float = 0.0
    """Of a million tokens."""
    answer_price: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def cost(self) -> float:
        """At the given prices."""
        return (self.prompt_tokens * self.prompt_price + self.answer_tokens * self.answer_price) / 1e6

    def add(self, prompt_tokens: int = 0, answer_tokens: int = 0, **counts: int) -> None:
        """Count a request; safe from any thread."""
        with self._lock:
            self.prompt_tokens += prompt_tokens
            self.answer_tokens += answer_tokens
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)


@dataclass(frozen=True)
class KeptAnswers:
    """Answers of a server in a folder, one JSON file a request, so that nothing is asked twice.

    Args:
        folder: any fsspec URL; None keeps nothing.
    """

    folder: str | None

    def read(self, request: dict[str, Any]) -> ServedAnswer | None:
        """The answer to a request, None where there is none that can be read."""
        content = read_bytes(self._url(request)) if self.folder else None
        if content is None:
            return None
        try:
            document = json.loads(content)
            answer = ServedAnswer(**document["answer"])
        except (ValueError, KeyError, TypeError):
            return None
        counts = [count for count in (answer.prompt_tokens, answer.answer_tokens) if count is not None]
        whole = isinstance(answer.text, str) and isinstance(answer.model, str) and all(type(n) is int for n in counts)
        return answer if whole and document.get("request") == request else None

    def keep(self, request: dict[str, Any], answer: ServedAnswer) -> None:
        """Keep an answer, whole or not at all."""
        if self.folder:
            content = json.dumps({"request": request, "answer": asdict(answer)}, indent=1)
            publish(self._url(request), content.encode())

    def _url(self, request: dict[str, Any]) -> str:
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        return join(self.folder or "", f"{digest}.json")
