"""Why a request is refused, as the status and the text of its answer."""

from __future__ import annotations

from collections.abc import Mapping

from mmreg.errors import MmregError
from mmreg.messages import printable


class Refused(MmregError, ValueError):
    """A request that is not answered with predictions.

    Args:
        status: of HTTP.
        detail: what was found, and what to do.
        headers: of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__("\n".join(map(printable, detail.splitlines())))
        self.status = status
        self.headers = dict(headers or {})


def try_again(why: str, seconds: int = 1) -> Refused:
    """There is too much to do just now."""
    return Refused(503, f"{why}; try again", {"Retry-After": str(seconds)})
