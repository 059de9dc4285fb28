"""Native core: segments, instruments and collection. Everything here records or reads shared memory; nothing exports."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final, final

from opentelemetry.context import Context
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status
from opentelemetry.util.types import AnyValue, Attributes
from typing_extensions import Self, disjoint_base

LAYOUT_VERSION: Final[int]
"""Version of the segment's layout; processes share a segment only if theirs are equal."""
LAYOUT_VERSION_OFFSET: Final[int]
"""Byte offset of the layout version in a segment, a little-endian 32-bit integer."""
MEMORY_LIMIT_DEFAULT: Final[int]
"""Bytes of a segment unless stated otherwise."""
MEMORY_LIMIT_MIN: Final[int]
"""Smallest accepted size of a segment in bytes."""
MEMORY_LIMIT_MAX: Final[int]
"""Largest accepted size of a segment in bytes."""
READS_IN_PLACE: Final[bool]
"""Whether attributes of spans are read where the interpreter keeps them, as in CPython 3.11 to 3.13, and not asked for by name."""
BUILD_PROFILE: Final[str]
"""``release``, or ``debug`` for a build with assertions, which is several times slower."""
__version__: Final[str]

class SegmentError(Exception):
    """A segment could not be created or attached; the text names the file, the problem and the remedy."""

@final
class Segment:
    """All metric state of a service: a fixed number of bytes that several processes share.

    Thread-safe. Not to be created by calling: see `create` and `attach`.
    """

    @staticmethod
    def create(memory_limit: int = ..., service_name: str = "") -> Segment:
        """Creates a segment under a name in shared memory, or a private one where that cannot be had (see `private_because`).

        Also removes segments of the same user that no living process uses.

        Args:
            memory_limit: Size in bytes, `MEMORY_LIMIT_MIN` to `MEMORY_LIMIT_MAX`.
            service_name: Service it belongs to; at most 255 bytes are kept.

        Raises:
            SegmentError: The size is not accepted or no memory can be mapped.
        """

    @staticmethod
    def attach(path: str | PathLike[str]) -> Segment:
        """Attaches to the segment in a file.

        Args:
            path: The file, owned by this user with mode 600.

        Raises:
            SegmentError: The file is missing, truncated, corrupt, of another layout version or of another user.
        """

    @property
    def path(self) -> Path | None:
        """The file, or None for a private segment."""

    @property
    def private_because(self) -> str | None:
        """Why the segment has no name although one was wanted."""

    @property
    def size(self) -> int:
        """Bytes of the whole segment; it never grows."""

    @property
    def service_name(self) -> str:
        """The service that the segment belongs to."""

    @property
    def lane(self) -> int:
        """Lane of this process, 1 to 63, or 0 for the common lane of the workers beyond that."""

    def memory_usage(self) -> dict[str, int]:
        """Bytes by part; the parts add up to the size and ``free`` is what is left."""

    def status(self) -> dict[str, Any]:
        """What there is: service name, size, living workers and observers, numbers of streams, series and histograms, and drops by reason.

        ``leader`` is the process id of another process that leads, 0 if it is of a pid namespace that is not seen from here, None if none does;
        ``endpoint`` is the address that `serve_at` stated, of a process that lives.

        ``overflowing`` are the streams with recordings in their overflow series, ``precision`` the histogram series by the digits of their coarsest
        part.
        """

    def histograms(self) -> list[HistogramSeries]:
        """Snapshots of all histogram series with recordings, read without the GIL. About 10 to 50 microseconds a series."""

    def instrument(
        self,
        kind: str,
        scope: InstrumentationScope,
        name: str,
        unit: str,
        description: str,
        boundaries: Sequence[float] | None = None,
        streams: Sequence[tuple[Any, ...]] | None = None,
        exemplar_filter: str = "always_off",
    ) -> Any:
        """Makes or finds an instrument with its streams.

        Args:
            kind: Class name of the API, for example ``Counter``.
            scope: Instrumentation scope.
            name: Name, valid and lower-cased.
            unit: Unit (UCUM).
            description: Description.
            boundaries: Advised bucket boundaries of a histogram.
            streams: For each stream the number of its view, 0 or the cardinality limit if it is one of several for different limits, name and description
                (empty for the instrument's), aggregation of the view, aggregation for this process's readers, cardinality limit, a container
                of the attribute keys that stay or None, and a callable that is told of every recording or None. An aggregation is its name and
                arguments: ``("explicit", boundaries, record_min_max)``. None for the one stream of an instrument without views.
            exemplar_filter: ``always_off``, ``always_on`` or ``trace_based``.

        Returns:
            A native instrument; for observable kinds an `Observer`.

        Raises:
            ValueError: There is no such kind, aggregation or filter.
        """

    def descriptor(self, stream: int) -> dict[str, Any] | None:
        """What a stream is, by number: kind, exported name, unit, exported description, scope and boundaries; None if there is none."""

    def lead(self) -> bool:
        """Whether this process exports for the group; it becomes the leader if no process is. About one microsecond."""

    def bar_leading(self, barred: bool) -> None:
        """States whether this process, and what is forked from it, never leads."""

    def set_separate(self, separate: bool) -> None:
        """States whether each process that is forked from this one gets a segment of its own, with its first lane, in which nothing was recorded yet."""

    @property
    def is_separate(self) -> bool:
        """Whether forked processes get segments of their own."""

    def serve_at(self, address: str) -> None:
        """States where this process serves its endpoint, for those who look at the group; nowhere if the address is empty. At most 248 bytes are kept."""

    @property
    def collections_of_others(self) -> int:
        """Number of collections that other processes have made of the segment, modulo 2^32. It stays while this one leads."""

    def resign(self) -> None:
        """Gives leadership up, for a process that exports in this one's stead."""

    def keep_file(self, kept: bool) -> None:
        """States whether the file stays when this process ends, for one that is about to attach and removes it in its turn."""

    def observe(self) -> None:
        """Makes this process an observer, which has a lane for what it records of itself and is no worker. To be called before it records anything."""

    def is_observed(self) -> bool:
        """Whether another process is an observer of the segment. Some 60 system calls."""

    def join(self) -> bool:
        """Joins as a worker that has attached.

        Returns:
            Whether the segment is in use. If not, its last process has it no longer read, and removes it.
        """

    def end(self) -> bool:
        """Keeps others from joining from now on, for an observer that is about to collect for the last time.

        Returns:
            Whether that was done; it is not while workers of other processes live. Some 120 system calls.
        """

    def others(self) -> list[int]:
        """Lanes of the workers of other processes that live. Some 60 system calls, 30 microseconds."""

    def has_left(self, lane: int) -> bool:
        """Whether the last worker of a lane ended in the ordinary way, and was not killed."""

    def mourn(self, lanes: list[int]) -> None:
        """Lets the gauges and up-down counters of dead workers count for this handle, for a last collection after their end.

        Args:
            lanes: Lanes that the workers had; no other worker may have taken them.
        """

    def close(self) -> None:
        """Gives lane and leadership back and removes the file if no other process uses it. Recording goes on to work."""

@final
class HistogramSeries:
    """One histogram series of a segment."""

    @property
    def number(self) -> int:
        """Number of the series in its segment. It stays, and is what tells apart series that are the same by name and attributes."""

    @property
    def scope(self) -> str:
        """Name of the instrumentation scope."""

    @property
    def name(self) -> str:
        """Name of the instrument."""

    @property
    def unit(self) -> str:
        """Unit of the instrument."""

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the series."""

    @property
    def snapshot(self) -> HistogramSnapshot:
        """The recordings."""

@final
class HistogramSnapshot:
    """A histogram at one moment. Immutable.

    Slots are those of HdrHistogram (Gil Tene) with three significant digits, or fewer where memory was short, see `digits`.
    """

    @staticmethod
    def of(values: list[float], unit: str = "", digits: float = 3.0) -> HistogramSnapshot:
        """The snapshot of a histogram of this unit and precision that recorded `values`.

        Raises:
            ValueError: `digits` is not 3.0, 2.0, 1.5 or 0.0.
        """

    @property
    def count(self) -> int:
        """Number of recordings; exact."""

    @property
    def sum(self) -> int | float:
        """Sum of the recordings; an integer if all of them were."""

    @property
    def min(self) -> float:
        """Smallest recording; infinity if there is none. Exact, except after `minus`, where it is that of its slot."""

    @property
    def max(self) -> float:
        """Largest recording; negative infinity if there is none. As exact as `min`."""

    @property
    def digits(self) -> float:
        """Precision step of the coarsest slot in use: 3.0, 2.0 or 1.5 significant digits; 0.0 for one slot per power of two."""

    @property
    def units_per_one(self) -> float:
        """Integer units in which one unit of the instrument is kept."""

    def percentile(self, percentile: float) -> float:
        """Value at a percentile from 0 to 100 by HdrHistogram's rank rule: never too small, at most one slot too large.

        Returns:
            The value in the instrument's unit; NaN if there are no recordings.

        Raises:
            ValueError: The percentile is outside 0 to 100.
        """

    def percentiles(self, percentiles: list[float]) -> list[float]:
        """Values at several percentiles, in one pass over the slots each."""

    def minus(self, earlier: HistogramSnapshot) -> HistogramSnapshot:
        """The recordings made after `earlier`, a snapshot of the same series."""

    def merge(self, other: HistogramSnapshot) -> HistogramSnapshot:
        """The recordings of both; exact.

        Raises:
            ValueError: They are kept in different integer units.
        """

    def coarsened(self, digits: float) -> HistogramSnapshot:
        """The same recordings at a lower precision; exact, because a step merges whole slots.

        Raises:
            ValueError: `digits` is not 3.0, 2.0, 1.5 or 0.0.
        """

    def slots(self) -> list[tuple[int, int, int]]:
        """Non-empty slots as lowest value, highest value and count; values in integer units. Negative recordings are not among them."""

    @property
    def negative_count(self) -> int:
        """Number of recordings below zero."""

    def v2_counts(self) -> bytes:
        """Counts of an HdrHistogram with three digits, in the bytes that its encoding V2 compresses; those of negative recordings are not among them.

        The counts of a coarser slot go to the largest value of that slot that is not beyond the maximum.
        """

    def explicit(self, boundaries: list[float]) -> list[int]:
        """Counts by explicit bucket. A slot that a boundary cuts counts below it, so recordings equal to a boundary are exact."""

    def exponential(self, max_size: int = 160, max_scale: int = 20) -> tuple[int, int, int, list[int]]:
        """Scale, zero count, offset and counts of an OpenTelemetry exponential histogram at the finest scale that fits."""

@final
class Quantiles:
    """Quantiles as gauges beside histograms, for `Collector`.

    There is a family ``<name>.quantile`` with an attribute ``quantile``, of the series that recorded in the window. It has at most as many points as the reader's cardinality limit; one set of them stands for all series that find no room.

    Args:
        windows: Where they come from, at least as long as the window. In a forked child nothing comes from a parent's.
        quantiles: 0 to 1.
        window: Seconds.
        patterns: Names of the histograms, with ``*`` and ``?``; case does not matter.

    Raises:
        ValueError: A quantile is not accepted.
        RuntimeError: The windows are a parent's.
    """

    def __new__(
        cls, windows: Windows, quantiles: Sequence[float], window: float, patterns: Sequence[str]
    ) -> Quantiles: ...

@final
class Windows:
    """Trailing windows and moving averages of the counters and histograms of a segment.

    A tick keeps what was recorded since the last one; percentiles are computed when somebody asks. A window ends at the last tick. It is as long as
    asked for (from 95 % on) or a little longer, because it begins where a slice does, which is a tick or at most a sixth of the time that it is ago, and
    says how long it is. It is shorter while the windows have only just begun, and longer where a tick was late. What was recorded before the first tick is
    in none. Times are monotonic, so a clock that is set does nothing, and time for which the machine was suspended does not count.

    Slots are those of the segment: percentiles are the exact ones or at most one slot larger. Where the memory does not suffice, older slices go down the
    precision ladder, and then the oldest are given up.

    Args:
        segment: The segment.
        windows: Lengths in seconds, 1 to 3600, at most eight.
        taus: Time constants of the averages in seconds, 1 to 86400, at most eight.
        memory_limit: Bytes of slices, 65536 to 1 GiB; 1,000 histogram series with 20 recordings a second take about 2.7 MB for a minute. A copy of the
            slots of the segment comes to that.

    Raises:
        ValueError: An argument is not accepted; the text names it.
    """

    def __new__(
        cls,
        segment: Segment,
        windows: Sequence[float] = (1.0, 10.0, 60.0),
        taus: Sequence[float] = (10.0, 60.0, 300.0, 900.0),
        memory_limit: int = 4194304,
    ) -> Windows: ...
    def tick(self, now_ns: int) -> bool:
        """Looks at the segment, without the GIL: about a microsecond for each series that was recorded into.

        Args:
            now_ns: Monotonic time in nanoseconds.

        Returns:
            False, and nothing is done, if that is not later than the last tick.
        """

    def start(self, interval_s: float = 1.0) -> None:
        """Ticks in a native thread, which never takes the GIL and handles no signal, from now on until `stop`.

        Args:
            interval_s: Seconds between ticks.

        Raises:
            ValueError: The interval is not accepted.
            OSError: No thread can be started.
        """

    def stop(self) -> None:
        """Ends the thread and waits for the tick that is under way. A forked child has no such thread."""

    def read(
        self,
        name: str,
        attributes: Mapping[str, Any] | None,
        scope: str | None,
        window: float,
        percentiles: Sequence[float],
    ) -> dict[str, Any] | None:
        """What was recorded in a trailing window.

        Args:
            name: Exported name.
            attributes: Exactly those of one series; None for all series of the name together.
            scope: Name of the scope; None for all.
            window: Seconds.
            percentiles: 0 to 100.

        Returns:
            ``kind`` (``histogram`` or ``counter``), ``unit``, ``seconds`` (real length), ``count``, ``sum``, ``rate`` per second, ``mean``, ``min``,
            ``max`` (within a slot), ``percentiles`` (None, as the three before them, if nothing was recorded or it is a counter), ``digits`` of the
            coarsest slot, ``overflow``. None if there is no such series.
        """

    def averages(
        self, name: str, attributes: Mapping[str, Any] | None, scope: str | None, tau: float
    ) -> tuple[float | None, float | None] | None:
        """Exponentially weighted moving averages of rate per second and mean; None where there is none yet, or no such series.

        Raises:
            ValueError: There is no average with this time constant.
        """

    def snapshot(self, percentiles: Sequence[float]) -> list[dict[str, Any]]:
        """All series: ``scope``, ``name``, ``unit``, ``kind``, ``attributes``, ``windows`` (what `read` says, by seconds asked for), ``averages`` by tau."""

    def statistics(self) -> dict[str, float]:
        """What it costs and lacks.

        Returns:
            ``ticks``, ``ignored_ticks``, ``errors``, ``cpu_seconds``, ``lag_seconds`` and ``lag_max_seconds`` (by which a tick of the thread began later
            than planned), ``memory_bytes`` and ``memory_limit`` of slices, ``known_bytes`` (copy of the segment's slots), ``digits`` of the coarsest
            slices, ``lost_slices``, ``series``.
        """

class _Instrument:
    @property
    def name(self) -> str:
        """Name, lower-cased."""

    @property
    def unit(self) -> str:
        """Unit as given."""

    @property
    def description(self) -> str:
        """Description as given."""

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """The scope whose meter made it."""

    @property
    def _memory(self) -> int: ...
    def _is_enabled(self) -> bool: ...
    def _enable(self, enabled: bool) -> None: ...
    def _change_streams(self, streams: Sequence[tuple[Any, ...]]) -> None: ...

@final
class Counter(_Instrument):
    """Native `opentelemetry.metrics.Counter`."""

    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        """Adds a non-negative amount. Never blocks. Tens of nanoseconds for attribute sets seen before.

        Args:
            amount: Integer or float; NaN, infinities and negative amounts are ignored, logged and counted.
            attributes: Attributes of the series; the dict is not kept and may be changed afterwards.
            context: Context whose span an exemplar names; the current one if not given.

        Raises:
            TypeError: The amount is no number.
        """

    def bind(self, attributes: Attributes = None) -> BoundCounter:
        """The counter's series of these attributes, looked up once (OpenTelemetry specification, metrics API, "Bind")."""

@final
class UpDownCounter(_Instrument):
    """Native `opentelemetry.metrics.UpDownCounter`."""

    def add(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        """Adds an amount of either sign; otherwise as `Counter.add`."""

    def bind(self, attributes: Attributes = None) -> BoundUpDownCounter:
        """The series of these attributes, looked up once."""

@final
class Histogram(_Instrument):
    """Native `opentelemetry.metrics.Histogram`."""

    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        """Records a non-negative amount: slot, count, sum, minimum and maximum; otherwise as `Counter.add`."""

    def bind(self, attributes: Attributes = None) -> BoundHistogram:
        """The series of these attributes, looked up once."""

@final
class Gauge(_Instrument):
    """Native `opentelemetry.metrics.Gauge`."""

    def set(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        """Sets the value; otherwise as `Counter.add`."""

    def bind(self, attributes: Attributes = None) -> BoundGauge:
        """The series of these attributes, looked up once."""

@final
class BoundCounter:
    """One series of a counter."""

    @property
    def instrument(self) -> Counter:
        """The counter."""

    def add(self, amount: float, context: Context | None = None) -> None:
        """Adds a non-negative amount, without any lookup."""

@final
class BoundUpDownCounter:
    """One series of an up-down counter."""

    @property
    def instrument(self) -> UpDownCounter:
        """The up-down counter."""

    def add(self, amount: float, context: Context | None = None) -> None:
        """Adds an amount of either sign, without any lookup."""

@final
class BoundHistogram:
    """One series of a histogram."""

    @property
    def instrument(self) -> Histogram:
        """The histogram."""

    def record(self, amount: float, context: Context | None = None) -> None:
        """Records a non-negative amount, without any lookup."""

@final
class BoundGauge:
    """One series of a gauge."""

    @property
    def instrument(self) -> Gauge:
        """The gauge."""

    def set(self, amount: float, context: Context | None = None) -> None:
        """Sets the value, without any lookup."""

@final
class Observer:
    """The recording end of an observable instrument."""

    def _change_streams(self, streams: Sequence[tuple[Any, ...]]) -> None: ...
    def observe(
        self, value: float, attributes: Attributes = None, context: Context | None = None, since_ns: int = 0
    ) -> None:
        """Takes what a callback reported: the total or the value of a series.

        Args:
            value: Total or value.
            attributes: Attributes of the series.
            context: Context of the observation.
            since_ns: Monotonic time at which the collection began; totals of one series that are reported since then add up.

        Raises:
            TypeError: The value is no number.
        """

@final
class Collector:
    """Takes points out of a segment for the readers of one process, each with its own intervals."""

    def __new__(
        cls, segment: Segment, default_boundaries: list[float], gauge_mode: str = "mostrecent"
    ) -> Collector: ...
    def add_reader(self, reader: int, preferences: Sequence[tuple[str, bool, tuple[Any, ...], int]]) -> None:
        """Adds a reader under a number.

        Args:
            reader: Number of the caller's choice.
            preferences: For each kind its class name, whether its points are deltas, the aggregation where no view states one, and the cardinality
                limit.

        Raises:
            ValueError: A kind or an aggregation is unknown.
        """

    def remove_reader(self, reader: int) -> None:
        """Forgets a reader."""

    def keep_up(self, reader: int) -> None:
        """Lets the next interval of what a reader wants as deltas begin now, as if it had collected; as long as a collection, without the GIL.

        For a process that does not export, and may have to take over from the one that does.
        """

    @staticmethod
    def now_ns() -> int:
        """Monotonic time in nanoseconds, on the clock that stamps what callbacks report."""

    def encoding_seconds(self) -> float:
        """CPU seconds that encoding has taken so far, that is, neither reading the segment nor sending."""

    def reported(self, since_ns: int) -> None:
        """Notes in the segment that all callbacks of this process have reported, for readers in other processes.

        Args:
            since_ns: Monotonic time at which they began; what was reported before no longer counts.
        """

    def collect(
        self,
        reader: int,
        since_ns: int,
        made: Sequence[tuple[str, str, str, str, list[tuple[Mapping[str, Any], float]]]] = ...,
        quantiles: Quantiles | None = None,
    ) -> tuple[int, list[tuple[int | None, str, str, str, str, bool, bool, list[tuple[Any, ...]]]]]:
        """Time and metrics of a reader; the scan runs without the GIL.

        Args:
            reader: The reader's number.
            since_ns: Reports of this process's callbacks that are older are left out.
            made: What is made at collection and not recorded, in the scope ``otel_perf``: name, description, unit, class name of the kind (an
                observable one), and values by attributes, those of sums since the segment was made.
            quantiles: Quantiles that leave beside the histograms.

        Returns:
            Time in nanoseconds since the epoch, and for each metric the number of its stream (None for those of `made`), the shape of its points
            (``sum``, ``gauge``, ``explicit`` or ``exponential``), name, description, unit, whether it is monotonic, whether its points are deltas,
            and the points.

        Raises:
            ValueError: A kind of `made` is unknown.
        """

    def encode_prometheus(
        self,
        reader: int,
        since_ns: int,
        encoder: PrometheusEncoder,
        format: str,  # noqa: A002 - the word of Prometheus.
        resource: Mapping[str, Any],
        constant: Mapping[str, Any],
        made: Sequence[tuple[str, str, str, str, list[tuple[Mapping[str, Any], float]]]] = ...,
        quantiles: Quantiles | None = None,
    ) -> bytes:
        """The metrics of a reader as a scrape gets them; scan and encoding run without the GIL.

        Cost: from the second scrape on 2 to 4 microseconds for a series of a histogram with 15 buckets, half of it for reading the segment; reading
        takes more where values fill many pages of slots.

        Args:
            reader: The reader's number.
            since_ns: As of `collect`.
            encoder: Keeps the labels of series from one scrape to the next. It is for one segment.
            format: ``text`` (0.0.4), ``openmetrics`` (1.0) or ``protobuf`` (delimited, with native histograms).
            resource: Attributes of the resource, for ``target_info``.
            constant: Those of them that all series get as labels.
            made: As of `collect`.
            quantiles: As of `collect`.

        Returns:
            The body of the answer.

        Raises:
            ValueError: The format or a kind of `made` is unknown.
        """

    def encode_otlp(
        self,
        reader: int,
        since_ns: int,
        attributes: Mapping[str, Any],
        schema_url: str,
        made: Sequence[tuple[str, str, str, str, list[tuple[Mapping[str, Any], float]]]] = ...,
        quantiles: Quantiles | None = None,
    ) -> tuple[bytes, int, int]:
        """What `collect` answers, as an OTLP ``ExportMetricsServiceRequest``; scan and encoding run without the GIL.

        About half a microsecond for a histogram of 15 buckets, beside the scan.

        Args:
            reader: The reader's number.
            since_ns: As of `collect`.
            attributes: Attributes of the resource, clean.
            schema_url: Schema URL of the resource, empty if it has none.
            made: As of `collect`.
            quantiles: As of `collect`.

        Returns:
            The bytes, the number of data points, and how many of these are deltas.

        Raises:
            ValueError: A kind of `made` is unknown.
        """

@final
class PrometheusEncoder:
    """Encodes what one endpoint answers.

    Args:
        prefix: What all names begin with, before an underscore; empty for nothing.
        scope_labels: Whether series have labels ``otel_scope_...``.
        target_info: Whether there is a family ``target_info`` with the attributes of the resource.
    """

    def __new__(cls, *, prefix: str = "", scope_labels: bool = True, target_info: bool = True) -> PrometheusEncoder: ...
    @property
    def kept(self) -> int:
        """Number of series whose labels are kept: those of the last answer."""

    def take_left_out(self) -> list[str]:
        """A line for each metric that answers had to leave out since this was called last; no line comes twice."""

@final
class AllRecorder:
    """What `RecordAllSampler` does.

    Args:
        should_sample: What the other sampler is asked by.
        result_class: The SDK's class of answers.
        drop: The decision to drop a span.
        record_only: The decision that takes its place.
    """

    def __new__(
        cls, should_sample: Callable[..., Any], result_class: type, drop: object, record_only: object
    ) -> AllRecorder: ...
    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        """What the other sampler answers, recording in place of dropping, and with the attributes that a dropped span begins with."""

@final
class SpanRecorder:
    """What a span processor does with spans: notes them while they run, and measures them when they end. Nothing that goes wrong is raised.

    Args:
        segment: Where running and slow spans are kept.
        planner: Called with name of the scope, kind and status as OTLP numbers them, the attribute keys, and None; answers what becomes of such spans:
            None for nothing; ``("measure", histogram or None, units per nanosecond, counter or None, source of the counter's amount or None, pairs of
            attribute key and source)``; or ``("switch", source)``, and is called again with a tuple of the value. A source is
            ``("attribute", position)``, ``("mapped", position, dict)``, ``("verb", position)``, ``("joined", position, position)``,
            ``("computed", position, callable)``, ``("constant", value)``, ``("name",)`` or ``("error",)``.
        error_type: Answers the ``error.type`` of a span.
        in_context: Answers a context in which a span context is current.
        keys: Keys of the attributes that the planner may ask for; it is told of no others.
        shown: Keys of the attributes that are kept of running and slow spans.
        measures: Whether spans are measured.
    """

    def __new__(
        cls,
        segment: Segment,
        planner: Callable[[str, int, int, tuple[str, ...], tuple[object] | None], tuple[Any, ...] | None],
        error_type: Callable[[Any], str],
        in_context: Callable[[Any], Context],
        keys: Sequence[str],
        shown: Sequence[str] = ...,
        measures: bool = True,
    ) -> SpanRecorder: ...
    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        """Notes that a span runs."""

    def on_end(self, span: Any) -> None:
        """Measures a span that ended."""

    def live(self, place: int, span: int) -> Any:
        """The span of this process that has a record of the table; None if its object is gone.

        Args:
            place: The record.
            span: The span id.
        """

    def sweep(self) -> int:
        """Frees the records of this process's spans whose objects are gone without an end; how many there were."""

    def forget(self) -> None:
        """Has the planner asked anew."""

@disjoint_base
class UnsampledSpan:
    """What native code knows of a span that its sampler dropped; `otel_perf.trace.UnsampledSpan` is the whole.

    Args:
        starter: What begins the tracer's spans. An object that it did not make itself is no span.
    """

    def __new__(cls, starter: SpanStarter) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> SpanKind: ...
    @property
    def context(self) -> SpanContext: ...
    @property
    def parent(self) -> SpanContext | None: ...
    @property
    def attributes(self) -> Mapping[str, AnyValue]: ...
    @property
    def start_time(self) -> int:
        """Nanoseconds since the epoch."""

    @property
    def end_time(self) -> int | None:
        """Nanoseconds since the epoch; None as long as it runs."""

    @property
    def _links(self) -> Sequence[Link] | None: ...
    @property
    def _record_exception(self) -> bool: ...
    @property
    def _set_status_on_exception(self) -> bool: ...
    @property
    def _status(self) -> Status | None: ...
    @property
    def _tracer(self) -> Any: ...
    def _keep_status(self, status: Status, number: int) -> None:
        """Takes a status, and its number in OTLP."""

    def get_span_context(self) -> SpanContext:
        """Its ids and flags; the object is made when it is first asked for."""

    def is_recording(self) -> bool:
        """Whether it has not ended."""

    def update_name(self, name: str) -> None:
        """Gives it another name."""

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Sets an attribute, within the limits of the tracer."""

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Sets several attributes."""

    def end(self, end_time: int | None = None) -> None:
        """Measures it, and takes it out of those that run.

        Args:
            end_time: Nanoseconds since the epoch; now if it is not given.
        """

@final
class SpanStarter:
    """How a tracer begins spans when all are measured: those that its sampler drops natively, the others as the SDK does.

    A tracer that is disabled, or whose `sampler` or `id_generator` is another one by now, and arguments that are not usual, are left to the SDK.

    Args:
        tracer: Tracer of the SDK, whose method takes over.
        recorder: What measures spans.
        scope: Name of the tracer's instrumentation scope.
        should_sample: What the sampler is asked by.
        most_attributes: Most attributes of a span; as many as there are if it is None.
        longest: Most characters of a text among them; all if it is None.
        metrics: What the tracer counts spans with; None if it does not.
    """

    def __new__(
        cls,
        tracer: Any,
        recorder: SpanRecorder,
        scope: str,
        should_sample: Callable[..., Any],
        most_attributes: int | None = None,
        longest: int | None = None,
        metrics: Any = None,
    ) -> SpanStarter: ...
    def start_span(self, name: str, *args: Any, **kwargs: Any) -> Span:
        """See `opentelemetry.trace.Tracer`."""

def set_unsampled(
    span_class: type[UnsampledSpan],
    api_span: type,
    span_context_class: type,
    internal: SpanKind,
    drop: Any,
    make_context: Callable[[int, int, bool, Any], SpanContext],
    record: Callable[..., Span],
    set_item: Callable[[Any, dict[str, Any], Any, Any], None],
    set_items: Callable[[Any, dict[str, Any], Any], None],
    warn: Callable[[str], None],
) -> None:
    """States once what Python does for spans that are not sampled.

    Args:
        span_class: Their class.
        api_span: The API's class of spans.
        span_context_class: The API's class of span contexts.
        internal: Kind of spans that are begun without one.
        drop: The decision to drop a span.
        make_context: Makes a span context of trace id, span id, whether the trace id is random, and trace state.
        record: Makes the span of a sampler that does not drop it.
        set_item: Sets an attribute of a tracer's span that has to be cleaned.
        set_items: Sets several.
        warn: Logs what was done to a span that has ended.
    """

@final
class Noop:
    """An object whose method does nothing: the unit in which benchmarks measure."""

    def __new__(cls) -> Noop: ...
    def call(self, amount: object) -> None:
        """Does nothing."""

def find(service_name: str | None = None) -> list[Path]:
    """Paths of this user's segments that a living process uses, newest first.

    Args:
        service_name: Only those of this service.
    """

def set_hooks(clean: Any, ignored: Any) -> None:
    """Installs the callables that slow paths use; the first installation stays."""

def set_forked(forked: Callable[[], None]) -> None:
    """Installs the callable that is called once in each forked process when it first records, for forks that no interpreter is told of.

    Args:
        forked: Called with nothing, in the thread that records. What it raises stays there.
    """

def forks() -> int:
    """Number of forks between the first process that loaded this module and this one."""

def set_context(variable: Any, get_current: Callable[[], Context], span_key: str) -> None:
    """States where the current context is: its context variable or None, what answers it, and the key of the span in it. The first call stays."""

def storage(kind: str, stated: tuple[Any, ...]) -> int | None:
    """Number of what is kept for an aggregation of a kind of instrument; None if nothing is.

    Raises:
        ValueError: The kind or the aggregation is unknown.
    """

def set_span_members(kinds: Sequence[Any], statuses: Sequence[Any]) -> None:
    """States the members of the API's span kinds and status codes, in the order of OTLP. The first call stays."""

def active_spans(segment: Segment) -> list[dict[str, Any]]:
    """Spans that run, those that began first first; read without the GIL.

    Returns:
        For each ``trace_id``, ``span_id``, ``parent_span_id`` (0 for none), ``name``, ``kind``, ``start_time``, ``attributes``, ``place``, ``lane``, ``pid``.
    """

def slowest_spans(segment: Segment) -> list[dict[str, Any]]:
    """The slowest spans by name, the slowest first; read without the GIL.

    Returns:
        For each what `active_spans` has of it up to ``attributes``, ``duration_ns``, and ``metric``: name, unit, boundaries and attributes of the series that
        the duration went into, or None.
    """
