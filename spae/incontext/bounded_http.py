"""HTTP for the openai client that a server can neither flood nor hold for ever, and that follows it nowhere else."""

import time
from collections.abc import Iterator

import httpx2


class BoundedTransport(httpx2.HTTPTransport):
    """Answers end with an error past a size or a time; compressed ones, whose size nobody knows, are refused.

    Args:
        most_bytes: of an answer's body.
        seconds: from the request on until the body's last byte.
    """

    def __init__(self, most_bytes: int, seconds: float) -> None:
        super().__init__()
        self._most_bytes, self._seconds = most_bytes, seconds

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        deadline = time.monotonic() + self._seconds
        request.headers["Accept-Encoding"] = "identity"
        response = super().handle_request(request)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise httpx2.ReadError("the server compresses its answer, though asked not to")
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _BoundedStream(response.stream, self._most_bytes, deadline)
        return response


class _BoundedStream(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, most_bytes: int, deadline: float) -> None:
        self._stream, self._most_bytes, self._deadline = stream, most_bytes, deadline

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            if size > self._most_bytes:
                raise httpx2.ReadError(f"the server's answer is longer than {self._most_bytes} bytes")
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("the server's answer comes too slowly")
            yield chunk

    def close(self) -> None:
        self._stream.close()
