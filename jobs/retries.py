"""Trying again what a store or a machine refused for a while."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")

PAUSES = (1.0, 5.0, 25.0)
"""Seconds before each further attempt, on average; a store's own library has tried for about half a minute before."""
_FINAL = (ValueError, FileNotFoundError, PermissionError)  # of what is asked for, not of how it goes just now

logger = logging.getLogger(__name__)


def persistently(what: str, work: Callable[[], ResultT]) -> ResultT:
    """The result of work, which is tried again after each of `PAUSES`; then what it raises.

    Stores tell of their troubles by exceptions of many libraries, so that all count but those that would come again.

    Args:
        what: is being done, for the log.
        work: safe to repeat.
    """
    for pause in PAUSES:
        try:
            return work()
        except _FINAL:
            raise
        except Exception as error:
            logger.warning("%s failed and is tried again: %s", what, repr(error))
            time.sleep(pause * random.uniform(0.5, 1.5))
    return work()
