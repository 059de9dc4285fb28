"""The traffic that benchmarks.memory records: a thousand histogram series under Zipf's law, then a counter that gets a new attribute set each time.

Everything that it draws is drawn before the first recording, so that what grows afterwards is what recording keeps.
"""

from __future__ import annotations

import itertools
import random
from array import array
from collections.abc import Iterator
from typing import Any

SERIES = 1_000
SAMPLES = 1_000_000
SETS = 1_000_000
SIGMA = 0.5
"""Standard deviation of the logarithm of the latencies of one route, as in crates/core/tests/precision.rs."""
MEDIAN_S = 0.02
"""Median of the routes' median latencies, in seconds."""
SPREAD_OF_MEDIANS = 1.0
"""Standard deviation of the logarithm of the routes' medians."""
ROUNDS_BEFORE = 10
"""Recordings of each series before the traffic where series are created first."""
_METHODS = ("GET", "POST", "PUT")


class Traffic:
    """Which route is requested when, and how long it takes.

    Args:
        exponent: Zipf exponent; route `n` is requested in proportion to ``1 / n ** exponent``.
        created_first: Whether each series gets `ROUNDS_BEFORE` recordings before the traffic.
        series: Number of routes.

    Attributes:
        routes: Number of the route of each request.
        seconds: Latency of each request.
        names: Route by number.
    """

    def __init__(self, exponent: float = 1.0, *, created_first: bool = False, series: int = SERIES) -> None:
        chance = random.Random(42)
        before = list(range(series)) * ROUNDS_BEFORE if created_first else []
        weights = list(itertools.accumulate((rank + 1) ** -exponent for rank in range(series)))
        self.routes = array("i", before)
        self.routes.extend(chance.choices(range(series), cum_weights=weights, k=SAMPLES - len(before)))
        # exp(gauss(0, s)) * median is lognormal around the median.
        medians = [MEDIAN_S * chance.lognormvariate(0, SPREAD_OF_MEDIANS) for _ in range(series)]
        self.seconds = array("d", (medians[route] * chance.lognormvariate(0, SIGMA) for route in self.routes))
        self.names = [f"/api/v1/resource-{route}/{{id}}" for route in range(series)]

    def record(self, histogram: Any) -> None:
        """Records all requests, with the attributes of the semantic conventions in a new dict each."""
        for route, seconds in zip(self.routes, self.seconds, strict=True):
            attributes = {
                "http.request.method": _METHODS[route % 3],
                "http.route": self.names[route],
                "http.response.status_code": 200,
                "network.protocol.version": "1.1",
                "url.scheme": "http",
            }
            histogram.record(seconds, attributes)


def count_distinct(counter: Any) -> None:
    """Adds one for each of a million attribute sets that are all different."""
    for number in range(SETS):
        counter.add(1, {"customer": f"customer {number}"})


def points(data: Any, name: str) -> Iterator[tuple[dict[str, Any], int]]:
    """Attributes and count (of a histogram) or value (of a sum) of each point of a metric."""
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == name:
                    for point in metric.data.data_points:
                        found = point.count if hasattr(point, "count") else point.value
                        yield dict(point.attributes), found
