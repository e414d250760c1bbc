"""A language model behind an address that speaks OpenAI's protocol: vLLM, llama.cpp, transformers serve, hosted ones.

A server that fails, stalls, lies, or answers empty or too long costs the prompts that it was asked, each with its
reason, and never the run.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import openai

from spae.incontext.bounded_http import BoundedTransport
from spae.incontext.endpoint_answers import AnswerError, KeptAnswers, ServedAnswer, Usage, parse_answer
from spae.incontext.generation import AllowedTexts, WordTokens
from spae.incontext.language_model import Answer, AnswerLimits, Prompt, context_overrun
from spae.incontext.text_tokens import TextTokens
from spae.incontext.weights import open_tokenizer

_BODY_BYTES = 1 << 22
"""Of an answer, with all that servers put around it."""
_MOST_STOPS = 4
"""OpenAI takes no more; the answer is cut at all of them here."""

Form = Literal["completions", "chat"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """How a server is asked."""

    form: Literal["auto", "completions", "chat"] = "auto"
    """auto asks for a completion, and for a chat from then on where the server has none."""
    other_models: Literal["record", "refuse"] = "record"
    """Whether an answer counts in which the server names another model than was asked for."""
    allowed_by: Literal["checking", "allowed_token_ids", "logit_bias"] = "checking"
    """How allowed texts reach the server: not at all, or as the ids of their tokens, which needs a tokenizer."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; a server without keys needs none."""
    folder: str | None = None
    """Where answers are kept, so that a rerun asks nothing twice."""
    context_tokens: int = 131_072
    tokenizer: str | None = None
    """Folder, hub id or .gguf file whose tokenizer counts tokens; without it a count is estimated from bytes."""
    concurrency: int = 8
    """Requests at once."""
    timeout: float = 120.0
    """Seconds that a request may take."""
    retries: int = 4
    """Further attempts at a request that fails, after pauses that double or that the server asks for."""
    prompt_price: float = 0.0
    """Of a million tokens."""
    answer_price: float = 0.0

    def __post_init__(self) -> None:
        for name in ("context_tokens", "concurrency", "timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        if self.retries < 0:
            raise ValueError(f"retries={self.retries} must be 0 or more")
        if self.allowed_by != "checking" and self.tokenizer is None:
            raise ValueError(f"allowed_by={self.allowed_by} needs the server's tokenizer; give tokenizer as well")


@dataclass(frozen=True)
class Estimate:
    """What asking would take."""

    requests: int
    kept: int
    """Prompts whose answers are there already."""
    prompt_tokens: int
    answer_tokens: int
    """At most."""
    cost: float
    """At most, at the given prices."""
    exact: bool
    """Whether the prompts' tokens were counted by a tokenizer, not estimated from bytes."""


class EndpointModel:
    """A model that a server runs.

    Args:
        address: such as http://localhost:8000/v1.
        name: as the server calls the model.
        settings: how it is asked.

    Raises:
        ValueError: the address is none of http or https, or holds a user, a password or a query.
    """

    def __init__(self, address: str, *, name: str, settings: EndpointSettings | None = None) -> None:
        settings = settings or EndpointSettings()
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query or not parts.netloc:
            raise ValueError(
                "an endpoint's address is http(s)://HOST/v1 without user, password and query, "
                f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} is not; a key goes into the environment's "
                f"{settings.key_variable}"
            )
        self.name, self.settings, self.context_tokens = name, settings, settings.context_tokens
        self.usage = Usage(prompt_price=settings.prompt_price, answer_price=settings.answer_price)
        self._kept = KeptAnswers(settings.folder)
        self._tokens = TextTokens(open_tokenizer(settings.tokenizer)) if settings.tokenizer else None
        self._key = os.environ.get(settings.key_variable, "")
        self._client = _client(address, self._key, settings)
        self._form: Form | None = None if settings.form == "auto" else settings.form
        self._lock = threading.Lock()
        self._said: set[str] = set()

    @property
    def revision(self) -> str:
        """All that the server called itself in its answers so far, the models and their marks."""
        return ", ".join(sorted(self._said)) or "has not answered yet"

    @property
    def counts_exactly(self) -> bool:
        """Whether `count_tokens` asks a tokenizer; else it is an estimate."""
        return self._tokens is not None

    def count_tokens(self, text: str) -> int:
        """Tokens of a text by the tokenizer, without one an estimate that is rather high: three bytes a token."""
        return len(self._tokens.ids(text)) if self._tokens else math.ceil(len(text.encode(errors="replace")) / 3)

    def estimate(self, prompts: Sequence[Prompt], limits: AnswerLimits) -> Estimate:
        """What `answer` would ask of the server; nothing is sent."""
        todo = {prompt.text for prompt in prompts if self._kept.read(self._request(prompt.text, limits)) is None}
        tokens, most = sum(map(self.count_tokens, todo)), len(todo) * limits.most_tokens
        cost = (tokens * self.settings.prompt_price + most * self.settings.answer_price) / 1e6
        kept = sum(prompt.text not in todo for prompt in prompts)
        return Estimate(len(todo), kept, tokens, most, cost, self.counts_exactly)

    def answer(self, prompts: Sequence[Prompt], limits: AnswerLimits) -> list[Answer]:
        """One answer a prompt, in their order, each with an error where the server gave none.

        With `allowed`, an answer that is none of the texts stays as it is.
        """
        asked = list(dict.fromkeys((prompt.text, limits.seed + prompt.draw) for prompt in prompts))
        with ThreadPoolExecutor(self.settings.concurrency) as threads:
            found = threads.map(lambda one: self._answer(one[0], replace(limits, seed=one[1])), asked)
            answers = dict(zip(asked, found, strict=True))
        return [answers[prompt.text, limits.seed + prompt.draw] for prompt in prompts]

    def log_likelihoods(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[list[float]]:
        """ValueError: servers do not tell the likelihood of a given text."""
        raise ValueError(f"{self.name}: a server tells no likelihood of given texts; take a local model, or free text")

    def _answer(self, text: str, limits: AnswerLimits) -> Answer:
        started = time.perf_counter()
        tokens = self.count_tokens(text)
        if message := context_overrun(self.context_tokens, tokens, limits.most_tokens):
            return Answer("", tokens, 0, 0.0, message)
        try:
            served = self._kept.read(request := self._request(text, limits))
            fresh = served is None or bool(self._objection(served))
            if served is None or fresh:
                served = parse_answer(self._ask(text, limits), limits)
                if objection := self._objection(served):
                    raise AnswerError(objection)
                self._kept.keep(request, served)
        except Exception as error:  # whatever a server brings about costs its own prompt alone
            self.usage.add(failed=1)
            return Answer("", tokens, 0, time.perf_counter() - started, self._reason(error))
        with self._lock:
            self._said.add(served.model)
        spent = tokens if served.prompt_tokens is None else served.prompt_tokens
        given = self.count_tokens(served.text) if served.answer_tokens is None else served.answer_tokens
        self.usage.add(spent, given, requests=1) if fresh else self.usage.add(kept=1)
        return Answer(served.text, spent, given, time.perf_counter() - started)

    def _objection(self, served: ServedAnswer) -> str:
        """Why an answer does not count, empty where it does."""
        if self._key and self._key in served.text + served.model:
            return "the server sent the key back"
        said = served.model.split(" (")[0]
        if self.settings.other_models == "refuse" and said != self.name:
            return f"{said!r} answered where {self.name!r} was asked"
        return ""

    def _request(self, text: str, limits: AnswerLimits) -> dict[str, Any]:
        """All that an answer depends on."""
        return {
            "model": self.name,
            "form": self.settings.form,
            "prompt": text,
            "most_tokens": limits.most_tokens,
            "stop": list(limits.stop),
            "allowed": list(limits.allowed),
            "allowed_by": self.settings.allowed_by,
            "temperature": limits.temperature,
            "seed": limits.seed,
            **({"count": limits.count} if limits.count > 1 else {}),
        }

    def _ask(self, text: str, limits: AnswerLimits) -> Any:
        if self._form is not None:
            return self._ask_in(self._form, text, limits)
        try:
            response = self._ask_in("completions", text, limits)
        except openai.APIStatusError as error:
            if error.status_code not in (404, 405, 501):
                raise
            response = self._ask_in("chat", text, limits)
            self._form = "chat"
            logger.info("%s has no completions; it is asked for chats", self.name)
        else:
            self._form = "completions"
        return response

    def _ask_in(self, form: Form, text: str, limits: AnswerLimits) -> Any:
        options: dict[str, Any] = {
            "model": self.name,
            "max_tokens": limits.most_tokens,
            "temperature": limits.temperature,
            "seed": limits.seed,
            **self._constraint(text, limits),
        }
        if limits.stop:
            options["stop"] = list(limits.stop[:_MOST_STOPS])
        if form == "completions":
            return self._client.completions.create(prompt=text, **options)
        return self._client.chat.completions.create(messages=[{"role": "user", "content": text}], **options)

    def _constraint(self, text: str, limits: AnswerLimits) -> dict[str, Any]:
        """The ids that an answer may consist of, in the server's own option; order and end are up to the model."""
        if not limits.allowed or self._tokens is None or self.settings.allowed_by == "checking":
            return {}
        if limits.count > 1:
            rows: Iterable[tuple[int, ...]] = WordTokens.of(limits.allowed, self._tokens).rows
        else:
            rows = AllowedTexts.behind(text, self._tokens, limits).text_of
        ids = {token for row in rows for token in row}
        ids |= {token for stop in limits.stop for token in self._tokens.behind(text, stop)[:1]}
        if self.settings.allowed_by == "logit_bias":
            return {"logit_bias": {str(token): 100 for token in sorted(ids)}}
        return {"extra_body": {"allowed_token_ids": sorted(ids)}}

    def _reason(self, error: Exception) -> str:
        """An error in one line, without the key that a server may have sent back."""
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        message = " ".join(f"{type(error).__name__}: {error}{cause}".split())
        return (message.replace(self._key, "KEY") if self._key else message)[:300]


def _client(address: str, key: str, settings: EndpointSettings) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=address,
        api_key=key or "none",
        timeout=settings.timeout,
        max_retries=settings.retries,
        http_client=httpx2.Client(
            transport=BoundedTransport(_BODY_BYTES, settings.timeout),
            follow_redirects=False,  # a key goes nowhere else
        ),
    )
