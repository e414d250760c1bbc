"""How a command ends that cannot do what it should: one line that says why, and the status that goes with it."""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterator

_UNUSABLE = (ValueError, ImportError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
_REFUSALS = (401, 403)
_MISTAKES = (
    "TypeError",
    "AttributeError",
    "KeyError",
    "IndexError",
    "NameError",
    "AssertionError",
    "ZeroDivisionError",
)
"""Of the program, which are told with their traceback."""

logger = logging.getLogger(__name__)


def quiet_clients() -> None:
    """Let the client libraries of stores and Beam not tell of what they raise: whoever catches it does."""
    for name in ("gcsfs", *(f"apache_beam.runners.{part}" for part in ("common", "worker", "portability"))):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def one_line(error: BaseException) -> str:
    """What an error says, without the tracebacks that runners put before it; with its type where that is needed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):  # of a runner, whose worker raised what the last line says
        return re.sub(r"^(?:RuntimeError: )?(?:\w+\.)*", "", lines[-1])
    text = " ".join(lines)
    is_plain = isinstance(error, ValueError | ImportError | OSError | RuntimeError)
    return text if text and is_plain else f"{type(error).__name__}: {text}"


def status_before_work(error: Exception) -> int:
    """Tell why nothing could be begun: 2 where other arguments would mend it, 1 where a store or disk failed.

    A mistake of the program is raised again.
    """
    if is_mistake(error):
        raise error
    logger.error("%s", one_line(error))
    code = getattr(error, "code", getattr(error, "status", None))
    is_refusal = code in _REFUSALS or (type(error) is OSError and error.errno is None)  # of a store, of a model hub
    return 2 if isinstance(error, _UNUSABLE) or is_refusal else 1


def status_of_work(error: Exception) -> int:
    """Tell why the work failed, whatever a runner raises; 1."""
    message = "the run failed: %s; what is finished stays, give the same command again to continue it"
    logger.error(message, one_line(error), exc_info=error if is_mistake(error) else None)
    return 1


@contextlib.contextmanager
def ending_with_workers() -> Iterator[None]:
    """While the block runs, the death of a worker process of Beam's local runner ends this process, with status 1.

    The runner itself would wait for that worker for ever, in threads for which the end of the interpreter waits too.
    """
    hook = threading.excepthook

    def end(failed: threading.ExceptHookArgs) -> None:
        if failed.thread is None or failed.thread.name != "run_worker":
            hook(failed)
            return
        message = "a worker process died: %s; what is finished stays, give the same command again to continue it"
        logger.error(message, failed.exc_value)
        logging.shutdown()
        os._exit(1)

    threading.excepthook = end
    try:
        yield
    finally:
        threading.excepthook = hook


def is_mistake(error: Exception) -> bool:
    """Whether the program is to blame, here or in a worker."""
    return type(error).__name__ in _MISTAKES or one_line(error).startswith(tuple(f"{name}: " for name in _MISTAKES))
