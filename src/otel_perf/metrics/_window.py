"""The recordings of a trailing window in the slots of HdrHistogram, kept in Python for instruments of the stock SDK."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The arithmetic is that of the native core (`crates/core/src/hdr.rs`), so that both providers answer the same quantiles.
_HALF_BITS = {1: 5, 2: 7, 3: 10}
_MAX_UNITS = (1 << 49) - 1

_SLICES = 6


def highest_equivalent(units: int, half_bits: int) -> int:
    """The largest integer that is counted in the same slot as `units`."""
    shift = (units | ((2 << half_bits) - 1)).bit_length() - 1 - half_bits
    return (((units >> shift) + 1) << shift) - 1


class _Slice:
    def __init__(self, number: int) -> None:
        self.number = number
        self.counts: dict[int, int] = {}
        self.low = float("inf")
        self.high = float("-inf")


class TrailingWindow:
    """Counts by slot of what was recorded lately; thread-safe.

    The window is cut into six slices, and a seventh is being filled. A recording is therefore seen for at least `seconds` and for at
    most a sixth longer. Memory is some 65 bytes for each distinct slot of each slice, whatever the number of recordings.

    Args:
        significant_digits: 3 for slots at most 0.1 % wide, 2 for 0.8 %, 1 for 3.2 %.
        seconds: Length of the window.
        units_per_one: Integer units in which one unit of the instrument is kept.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self, significant_digits: int, seconds: float, units_per_one: float, clock: Callable[[], float]
    ) -> None:
        self._half_bits = _HALF_BITS[significant_digits]
        self._slice_seconds = seconds / _SLICES
        self._per_one = units_per_one
        self._clock = clock
        self._slices: deque[_Slice] = deque()
        # Re-entrant: a finaliser that records may run while this thread is in here.
        self._lock = RLock()

    def record(self, value: float) -> None:
        """Counts a value. Negative ones have no slot and are left out. One to two microseconds."""
        value = float(value)
        if value < 0:
            return
        units = value * self._per_one
        slot = highest_equivalent(round(units) if units < _MAX_UNITS else _MAX_UNITS, self._half_bits)
        with self._lock:
            number = self._advance()
            if not self._slices or self._slices[-1].number < number:
                self._slices.append(_Slice(number))
            current = self._slices[-1]
            current.counts[slot] = current.counts.get(slot, 0) + 1
            current.low = min(current.low, value)
            current.high = max(current.high, value)

    def quantiles(self, wanted: Sequence[float]) -> list[float]:
        """Values at quantiles from 0 to 1, by the rank rule of `HistogramSnapshot.percentile`.

        A value is the largest of its slot, within the exact minimum and maximum of the window. Costs about 0.2 microseconds for each
        slot in use, outside of the lock that recordings take.

        Returns:
            The values in the instrument's unit; nothing if nothing was recorded lately.
        """
        with self._lock:
            self._advance()
            slices = [(dict(part.counts), part.low, part.high) for part in self._slices]
        if not slices:
            return []
        merged: dict[int, int] = {}
        for counts, _, _ in slices:
            for slot, count in counts.items():
                merged[slot] = merged.get(slot, 0) + count
        low, high = min(low for _, low, _ in slices), max(high for _, _, high in slices)
        slots = sorted(merged)
        cumulative = list(accumulate(merged[slot] for slot in slots))
        total = cumulative[-1]
        answers = []
        for quantile in wanted:
            # By way of per cent, because the core is asked for those, and the last bit decides about ranks that end in a half.
            rank = min(max(int(quantile * 100 / 100 * total + 0.5), 1), total)
            answers.append(min(max(slots[bisect_left(cumulative, rank)] / self._per_one, low), high))
        return answers

    def _advance(self) -> int:
        """Forgets slices that are out of the window; the number of the slice that is current."""
        number = int(self._clock() // self._slice_seconds)
        while self._slices and self._slices[0].number < number - _SLICES:
            self._slices.popleft()
        return number
