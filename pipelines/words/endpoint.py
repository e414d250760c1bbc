"""Embeddings of words from an endpoint that speaks OpenAI's protocol: POST {base}/embeddings."""

import json
import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import requests
import torch
from numpy.typing import NDArray
from torch import Tensor
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from pipelines.features.parts import VectorParts, WordVectors
from pipelines.words.tokens import RowsError, RowSource
from spae.progress import tracked

LONGEST_PAUSE = 300.0
"""Seconds to wait between two attempts at most; an endpoint that asks for more ends the run."""
_WIDEST = 16_384  # numbers of an embedding
_NUMBER_BYTES = 32  # of one number as JSON, with comma and blank
_TRY_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EndpointFlags:
    """Embeddings from an endpoint instead of a file."""

    embeddings_endpoint: str | None = None
    """Base address of an OpenAI-compatible endpoint, such as https://host/v1; asked for the chosen words alone."""
    embeddings_model: str | None = None
    """Model that the endpoint shall run."""
    embeddings_key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the endpoint's key; nothing is sent where it is not set."""
    embeddings_batch: int = 256
    """Words a request."""
    embeddings_price: float = 0.0
    """Price of a million tokens, for the estimate of --dry-run."""
    embeddings_timeout: float = 60.0
    """Seconds a request may take."""
    embeddings_attempts: int = 6
    """Times a request is made before the run fails; what is finished stays, and a rerun asks only for the rest."""

    def __post_init__(self) -> None:
        if (self.embeddings_endpoint is None) != (self.embeddings_model is None):
            raise ValueError("--embeddings-endpoint and --embeddings-model belong together; give both or neither")
        for name in ("embeddings_batch", "embeddings_attempts", "embeddings_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)} must be above 0")
        if self.embeddings_endpoint is not None:
            parts = urlsplit(self.embeddings_endpoint)
            if parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query:
                raise ValueError(
                    "--embeddings-endpoint must be an http(s) address without user, password and query; "
                    "a key goes into the environment (--embeddings-key-variable)"
                )


class EndpointRows(RowSource):
    """Embeddings that an endpoint gives for words, each finished request kept.

    Args:
        flags: with endpoint and model.
        parts: where finished requests are kept.
        first_pause: seconds before the second attempt, doubled before each further one.
    """

    on_demand = True

    def __init__(self, flags: EndpointFlags, parts: VectorParts, first_pause: float = 1.0) -> None:
        self.flags, self.parts, self.first_pause = flags, parts, first_pause
        self.url = f"{(flags.embeddings_endpoint or '').rstrip('/').removesuffix('/embeddings')}/embeddings"
        self.source = f"{flags.embeddings_model} by {urlsplit(self.url).netloc}"

    def rows(self, words: Sequence[str], tokens: Sequence[int]) -> Tensor:
        """Embeddings float32 (K, C) of the words.

        Raises:
            RowsError: the endpoint refuses, keeps failing, or answers something else than one finite row a word.
        """
        found, _ = self.parts.read()
        todo = [word for word in words if word not in found]
        logger.info("%d words to embed by %s, %d were there before", len(todo), self.source, len(words) - len(todo))
        width = next(iter(found.values())).size if found else None
        starts = range(0, len(todo), self.flags.embeddings_batch)
        with requests.Session() as session:
            for start in tracked(starts, len(starts), "request"):
                batch = todo[start : start + self.flags.embeddings_batch]
                rows = parse_answer(self._ask(session, batch), len(batch), width)
                self.parts.publish(WordVectors(tuple(batch), rows))
                width = rows.shape[1]
                found.update(zip(batch, rows, strict=True))
        return torch.from_numpy(np.stack([found[word] for word in words]))

    def clear(self) -> None:
        """Remove the kept requests."""
        self.parts.clear()

    def estimate(self, words: Sequence[str]) -> str:
        """What asking for the words that are not there yet would cost."""
        found, _ = self.parts.read()
        todo = [word for word in words if word not in found]
        tokens = sum(math.ceil(len(word.encode()) / 4) for word in todo)  # rule of thumb: four bytes a token
        requests_needed = math.ceil(len(todo) / self.flags.embeddings_batch)
        cost = tokens / 1e6 * self.flags.embeddings_price
        return (
            f"{len(todo)} words to embed by {self.source}: about {tokens} tokens in {requests_needed} requests, "
            f"{cost:.4f} at --embeddings-price {self.flags.embeddings_price:g} a million"
        )

    def _ask(self, session: requests.Session, batch: Sequence[str]) -> bytes:
        """The body of one answer, after as many attempts as it takes."""
        attempts = self.flags.embeddings_attempts
        for attempt in range(attempts):
            try:
                return self._attempt(session, batch)
            except _Failed as failed:
                backoff = min(self.first_pause * 2**attempt, LONGEST_PAUSE)
                pause = backoff if failed.pause is None else failed.pause
                if attempt + 1 == attempts or pause > LONGEST_PAUSE:
                    raise RowsError(
                        f"{self.url} failed {attempt + 1} times, at last with {failed}; it may be asked again in "
                        f"{pause:.0f} s, and the same command asks for the rest only"
                    ) from failed
                logger.warning("%s: %s; next attempt in %.1f s", self.url, failed, pause)
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, session: requests.Session, batch: Sequence[str]) -> bytes:
        content = {"model": self.flags.embeddings_model, "input": list(batch), "encoding_format": "float"}
        deadline = time.monotonic() + self.flags.embeddings_timeout
        try:
            with session.post(
                self.url,
                json=content,
                auth=self._authorise,  # given even without a key: else requests would take one from ~/.netrc
                timeout=self.flags.embeddings_timeout,
                stream=True,
                allow_redirects=False,  # a key goes nowhere else
            ) as response:
                limit = len(batch) * _WIDEST * _NUMBER_BYTES if response.status_code == 200 else 4096
                body = _read(response, limit, deadline)
        except (requests.RequestException, HTTPError, TimeoutError) as error:
            raise _Failed(f"{type(error).__name__}") from error
        if response.status_code == 200:
            return body
        answer = " ".join(body.decode(errors="replace").replace(self._key() or "\0", "KEY").split())[:300]
        message = f"status {response.status_code}: {answer}"
        if response.status_code not in _TRY_AGAIN:
            raise RowsError(f"{self.url} refused the request with {message}")
        raise _Failed(message, _retry_after(response))

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if key := self._key():
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    def _key(self) -> str:
        return os.environ.get(self.flags.embeddings_key_variable, "")


class _Failed(Exception):
    """An attempt that may go well another time."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


def parse_answer(body: bytes, count: int, width: int | None) -> NDArray[np.float32]:
    """Rows float32 (count, C) of an answer, in the order of its indices; RowsError where it is not what was asked."""
    try:
        data = json.loads(body)["data"]
        order = [item["index"] for item in data]
        if sorted(order) != list(range(count)):
            raise ValueError(f"{len(order)} rows, with other indices than 0 to {count - 1}")
        with np.errstate(over="ignore"):  # infinity is found below
            rows = np.array([item["embedding"] for item in sorted(data, key=lambda item: item["index"])], np.float32)
        if rows.ndim != 2:
            raise ValueError(f"an embedding is no list of numbers: {str(data[0])[:100]}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RowsError(f"the endpoint's answer is not one row a word: {type(error).__name__} {error}") from error
    if width is not None and rows.shape[1] != width:
        raise RowsError(f"the endpoint's rows are {rows.shape[1]} wide, those before {width}")
    if rows.shape[1] == 0 or not np.isfinite(rows).all():
        raise RowsError(f"the endpoint's rows {tuple(rows.shape)} hold NaN, infinity or nothing")
    return rows


def _read(response: requests.Response, limit: int, deadline: float) -> bytes:
    """The body, cut after an error's limit; RowsError where an answer is larger, TimeoutError where it is too slow."""
    chunks, size = [], 0
    for chunk in response.iter_content(2**16):
        chunks.append(chunk)
        size += len(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError
        if size > limit:
            if response.status_code == 200:
                raise RowsError(f"{response.url} answers more than {limit} bytes, far over what rows can take")
            break
    return b"".join(chunks)


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that the endpoint asks to wait, or None."""
    value = response.headers.get("Retry-After", "")
    try:
        return Retry().parse_retry_after(value) if value else None
    except HTTPError:
        return None
