"""What one request, and all of them together, may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Beyond any of these a request is refused.

    Attributes:
        bytes: of a request's body.
        rows: of a request.
        seconds: from the first byte of a request's body to its answer.
        batch_rows: rows that are predicted at a time, of one request or of several.
        queue_rows: rows that wait for their turn.
        bodies: how many bodies of the largest size may be in memory at a time.
        share_rows: predictions that the shares of one request may take: two to the power of modalities for each row.
    """

    bytes: int = 32_000_000
    rows: int = 256
    seconds: float = 30.0
    batch_rows: int = 64
    queue_rows: int = 1024
    bodies: int = 8
    share_rows: int = 8192
