"""Where whatever goes wrong stops: a fault of ours costs one answer, one look or one version, and never the server."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

from engine.serve.model import Rejected

Found = TypeVar("Found")
Instead = TypeVar("Instead")


def attempt(work: Callable[[], Found], instead: Callable[[Exception], Instead]) -> Found | Instead:
    """What ``work`` gives, or what ``instead`` makes of any error."""
    try:
        return work()
    except Exception as error:
        return instead(error)


def fault(error: Exception) -> Rejected:
    """The answer to what we did wrong; what it was is for the operator alone, on standard error."""
    sys.stderr.write("".join(traceback.format_exception(error)))
    return Rejected(500, "the server failed at this request", kind="fault")
