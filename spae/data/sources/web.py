"""Files of web servers: read within bounds, asked for again where that may help, waited for where a server says so."""

import email.utils
import time
from dataclasses import dataclass

import fsspec

from spae.data.media import MediaError

BUSY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of servers that have the file, or may have it, and cannot give it now."""
FIRST_WAIT = 0.5
"""Seconds before a server is asked again; doubled each time."""
MAX_WAIT = 60.0
"""Seconds that a server may ask to be left alone, so that it is still asked again."""
LOST_RETRIES = 2
"""Times that a host is asked again which cannot be reached, or falls silent: most such hosts are gone for good."""
UNAVAILABLE = "server unavailable"
"""The reason of inputs that may be had another time."""


@dataclass(frozen=True)
class Web:
    """How patient one is with web servers."""

    timeout: float = 30.0
    """Seconds that one answer may take to its end."""
    retries: int = 5
    """Times that a busy server is asked again."""

    def read(self, url: str, limit: int) -> bytes:
        """A file's bytes, cut after `limit`; MediaError where it cannot be had, or (UNAVAILABLE) not now."""
        attempt = 0
        while True:
            try:
                return self._stream(url, limit)
            except FileNotFoundError as error:
                raise MediaError("cannot be read", "404") from error
            except Exception as error:  # what the client raises has no common type
                if (wait := _wait(error, attempt)) is None:
                    raise MediaError("cannot be read", repr(error)) from error
                retries = self.retries if _status(error) else min(self.retries, LOST_RETRIES)
                if attempt >= retries or wait > MAX_WAIT:
                    raise MediaError(UNAVAILABLE, repr(error)) from error
            time.sleep(wait)
            attempt += 1

    def _stream(self, url: str, limit: int) -> bytes:
        """As many bytes as wanted, also of a server that ignores ranges and sends more."""
        from aiohttp import ClientTimeout  # what fsspec itself imports for http alone

        file_system = fsspec.filesystem("http", client_kwargs={"timeout": ClientTimeout(total=self.timeout)})
        data = bytearray()
        with file_system.open(url, block_size=0, size=1) as stream:  # any size, or one more request asks for it
            while len(data) < limit and (part := stream.read(limit - len(data))):
                data += part
        return bytes(data)


def _wait(error: Exception, attempt: int) -> float | None:
    """Seconds until it is worth while to ask again; None where it never is."""
    status, wait = _status(error), FIRST_WAIT * 2**attempt
    if isinstance(error, ValueError) or (status and status not in BUSY_STATUSES):  # the former for what is no URL
        return None
    said = (getattr(error, "headers", None) or {}).get("Retry-After", "")
    if said.isascii() and said.isdigit():
        return max(float(said), wait)
    try:
        return max(email.utils.parsedate_to_datetime(said).timestamp() - time.time(), wait)
    except (ValueError, TypeError, OverflowError):
        return wait


def _status(error: Exception) -> int:
    """The server's answer; 0 where there was none."""
    return int(getattr(error, "status", 0))
