"""What the service counts, as the text that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Histogram:
    """How many values are up to each bound.

    Args:
        bounds: in ascending order.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> Iterator[str]:
        """Its lines, the counts of which are of all values up to a bound."""
        total = 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum}"
        yield f"{name}_count {total}"


class Metrics:
    """Counts of the requests to /predict; used from one thread.

    Attributes:
        in_flight: requests that are being answered.
        queue_rows: rows that wait for the model.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.queue_rows = 0
        self._requests: Counter[int] = Counter()
        self._seconds = Histogram(SECONDS)
        self._batches = Histogram(ROWS)

    def request(self, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests[status] += 1
        self._seconds.add(seconds)

    def batch(self, rows: int) -> None:
        """Rows are predicted together."""
        self._batches.add(rows)

    def text(self) -> str:
        """All of it."""
        lines = ["# HELP mmreg_requests_total Requests to /predict by the status of the answer."]
        lines += ["# TYPE mmreg_requests_total counter"]
        lines += [f'mmreg_requests_total{{status="{status}"}} {n}' for status, n in sorted(self._requests.items())]
        for name, what, histogram in (
            ("mmreg_request_seconds", "Seconds from a request's first byte to its answer.", self._seconds),
            ("mmreg_batch_rows", "Rows that were predicted together.", self._batches),
        ):
            lines += [f"# HELP {name} {what}", f"# TYPE {name} histogram", *histogram.lines(name)]
        for name, what, value in (
            ("mmreg_requests_in_flight", "Requests to /predict that are being answered.", self.in_flight),
            ("mmreg_queue_rows", "Rows that wait for the model.", self.queue_rows),
        ):
            lines += [f"# HELP {name} {what}", f"# TYPE {name} gauge", f"{name} {value}"]
        return "\n".join(lines) + "\n"
