"""Interval log: what its lines say, that they add up, and what files, disks and processes may do meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.view import View

from otel_perf import MeterProvider
from otel_perf.config import Settings
from otel_perf.exporters import hdr_log
from otel_perf.exporters.hdr_log import HdrLog
from otel_perf.hdr import to_hdrhistogram
from tests.peers.hdr_log import intervals, totals
from tests.peers.program import run

EPOCH = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log goes."""
    return tmp_path / "latency.hlog"


@pytest.fixture
def log(provider: MeterProvider, path: Path) -> HdrLog:
    """A log of the provider's segment whose clock stands still."""
    return HdrLog(path, provider.segment, clock=lambda: EPOCH)


@pytest.fixture
def record(provider: MeterProvider) -> Callable[..., None]:
    """Records a duration in seconds."""
    return provider.get_meter("shop").create_histogram("shop.duration", "s").record


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """Logs that a test has started are stopped."""
    yield
    for running in tuple(hdr_log._running):
        running.stop()


def test_a_file_begins_with_its_header(log: HdrLog, record: Callable[..., None], path: Path) -> None:
    """Version, start, base time and legend come first, and a series is described before its first line."""
    record(0.25, {"route": "/a"})

    assert log.write(EPOCH + 10) == 1
    *header, line = path.read_text().splitlines()
    assert header == [
        "#[Histogram log format version 1.3]",
        "#[StartTime: 1700000000.000 (seconds since epoch), 2023-11-14T22:13:20Z]",
        "#[BaseTime: 0.000 (seconds since epoch)]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
        "#[Series: shop.duration{route=/a} of shop, unit s, values in 1/1000000000 of it, Interval_Max in ms]",
    ]
    assert line.startswith("Tag=shop.duration{route=/a},1700000000.000,10.000,250.0")


def test_intervals_are_what_was_recorded_in_them(log: HdrLog, record: Callable[..., None], path: Path) -> None:
    """A line has the recordings since the last one, between the times of both; series without recordings have none."""
    record(0.1, {"route": "/a"})
    record(0.2, {"route": "/b"})
    assert log.write(EPOCH + 10) == 2
    record(0.3, {"route": "/a"})
    record(0.3, {"route": "/a"})
    assert log.write(EPOCH + 20) == 1
    assert log.write(EPOCH + 30) == 0

    a, b, again = intervals(path)
    assert [part.get_tag() for part in (a, b, again)] == [f"shop.duration{{route=/{name}}}" for name in "aba"]
    assert [part.get_total_count() for part in (a, b, again)] == [1, 1, 2]
    assert again.get_max_value() == pytest.approx(300_000_000, rel=0.001)
    assert (again.get_start_time_stamp(), again.get_end_time_stamp()) == ((EPOCH + 10) * 1000, (EPOCH + 20) * 1000)


def test_lines_add_up_to_the_snapshot(
    log: HdrLog, provider: MeterProvider, record: Callable[..., None], path: Path
) -> None:
    """The sum of all lines is the histogram of all recordings, slot by slot."""
    for interval in range(1, 8):
        for number in range(50 * interval):
            record(1e-6 * 1.1 ** (number % 120))
        log.write(EPOCH + interval)

    first, *rest = intervals(path)
    for part in rest:
        first.add(part)
    (series,) = provider.segment.histograms()
    expected = to_hdrhistogram(series.snapshot)
    assert [first.get_count_at_index(at) for at in range(first.counts_len)] == [
        expected.get_count_at_index(at) for at in range(expected.counts_len)
    ]


TEXTS: list[tuple[dict[str, Any], str]] = [
    ({"b": 1, "a": "x"}, "h{a=x;b=1}"),
    ({"a": True}, "h{a=true}"),
    ({"a": "one, two\nthree"}, "h{a=one__two_three}"),
    ({"a": ["x", "y"]}, "h{a=x|y}"),
    ({"a": "größe\u2028"}, "h{a=größe_}"),
    ({}, "h"),
]


@pytest.mark.parametrize(("attributes", "tag"), TEXTS)
def test_tags_are_name_and_attributes(
    log: HdrLog, provider: MeterProvider, path: Path, attributes: dict[str, Any], tag: str
) -> None:
    """Attributes are sorted, and commas, blanks and line breaks, which end a field, are underlines."""
    provider.get_meter("m").create_histogram("h").record(1, attributes)

    log.write(EPOCH + 1)
    assert totals(path) == {tag: 1}


def test_series_that_look_the_same_have_tags_of_their_own(log: HdrLog, provider: MeterProvider, path: Path) -> None:
    """Series of other scopes, units and types of values are never added to one another."""
    provider.get_meter("m").create_histogram("h", "s").record(1, {"a": 1})
    provider.get_meter("m").create_histogram("h", "s").record(1, {"a": "1"})
    provider.get_meter("n").create_histogram("h", "By").record(1, {"a": 1})
    log.write(EPOCH + 1)
    provider.get_meter("n").create_histogram("h", "By").record(1, {"a": 1})
    log.write(EPOCH + 2)

    assert sorted(totals(path).items()) == [("h{a=1}", 1), ("h{a=1}~2", 1), ("h{a=1}~3", 2)]


MAXIMA = [
    ("s", 2.0, "2000."),
    ("ms", 2.0, "2."),
    ("us", 2000.0, "2."),
    ("By", 1024.0, "1024.000"),
    ("1", 0.5, "0.5"),
    ("{item}", 7.0, "7.000"),
]


@pytest.mark.parametrize(("unit", "value", "largest"), MAXIMA)
def test_interval_maxima_are_milliseconds_or_the_unit(
    log: HdrLog, provider: MeterProvider, path: Path, unit: str, value: float, largest: str
) -> None:
    """The largest value is in milliseconds for durations, as the format's readers show them, and in the instrument's unit else."""
    provider.get_meter("m").create_histogram("h", unit).record(value)

    log.write(EPOCH + 1)
    assert path.read_text().splitlines()[-1].split(",")[3].startswith(largest)


@pytest.mark.parametrize("how", ["moved", "removed", "truncated"])
def test_rotated_files_begin_anew(log: HdrLog, record: Callable[..., None], path: Path, how: str) -> None:
    """A file that was moved, removed or truncated is followed by one with a header of its own, and no interval is lost."""
    old = path.with_suffix(".1")
    record(0.1)
    log.write(EPOCH + 10)
    if how == "truncated":
        old.write_bytes(path.read_bytes())
        os.truncate(path, 0)
    elif how == "moved":
        path.rename(old)
    else:
        path.unlink()
    record(0.1)
    log.write(EPOCH + 20)

    assert totals(path) == {"shop.duration": 1}
    assert "#[StartTime: 1700000010.000" in path.read_text()
    assert "#[Series: shop.duration of shop" in path.read_text()
    assert how == "removed" or totals(old) == {"shop.duration": 1}


def test_another_run_appends_with_its_own_header(
    log: HdrLog, provider: MeterProvider, record: Callable[..., None], path: Path
) -> None:
    """A process that finds a file goes on in it, after a header that says when it began."""
    record(0.1)
    log.write(EPOCH + 10)
    HdrLog(path, provider.segment, clock=lambda: EPOCH + 100).write(EPOCH + 110)

    assert path.read_text().count("#[StartTime: ") == 2
    assert [part.get_start_time_stamp() for part in intervals(path)] == [EPOCH * 1000, (EPOCH + 100) * 1000]


def test_what_cannot_be_written_is_one_warning_and_comes_later(
    log: HdrLog, record: Callable[..., None], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the file cannot be had there is one warning; the interval that can be written has everything since the last that could."""
    path.mkdir()
    record(0.1)
    assert [log.write(EPOCH + 10), log.write(EPOCH + 20)] == [0, 0]
    (message,) = caplog.messages
    assert message.startswith(f"OTEL_PERF_HDR_LOG: {path} cannot be written ([Errno 21] Is a directory")
    path.rmdir()
    record(0.1)

    assert log.write(EPOCH + 30) == 1
    (interval,) = intervals(path)
    assert (interval.get_total_count(), interval.get_start_time_stamp()) == (2, EPOCH * 1000)
    assert interval.get_end_time_stamp() == (EPOCH + 30) * 1000
    path.unlink()
    path.mkdir()
    record(0.1)
    log.write(EPOCH + 40)
    assert len(caplog.messages) == 2


def test_a_missing_directory_may_come_later(
    provider: MeterProvider, record: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory that is missing is a warning, and is written to once it is there."""
    path = tmp_path / "later" / "latency.hlog"
    log = HdrLog(path, provider.segment, clock=lambda: EPOCH)
    record(0.1)
    assert log.write(EPOCH + 10) == 0
    path.parent.mkdir()

    assert log.write(EPOCH + 20) == 1
    assert totals(path) == {"shop.duration": 1}
    assert "No such file or directory" in caplog.messages[0]


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_other_than_regular_files_are_refused(
    provider: MeterProvider,
    record: Callable[..., None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    """A pipe that nobody reads and a device are a warning and do not block."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    record(0.1)

    assert HdrLog(pipe if kind == "pipe" else "/dev/full", provider.segment).write(EPOCH) == 0
    assert "cannot be written" in caplog.messages[0]


FULL = """
import os, resource, signal, sys
from otel_perf import MeterProvider
from otel_perf.exporters.hdr_log import HdrLog
provider = MeterProvider()
record = provider.get_meter("m").create_histogram("h", "s").record
path = sys.argv[1]
log = HdrLog(path, provider.segment, clock=lambda: 1e9)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
record(0.1)
written = [log.write(1e9 + 1)]
size = os.path.getsize(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
record(0.1)
written.append(log.write(1e9 + 2))
print(os.path.getsize(path) - size)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
written.append(log.write(1e9 + 3))
print(written)
"""


def test_a_full_disk_leaves_no_partial_line(path: Path) -> None:
    """Where only a part of an interval has room nothing of it stays, and it is written whole when there is room again."""
    done = run("-c", FULL, str(path), wrapper=False)

    assert done.code == 0, done.err
    assert done.out == "0\n[1, 0, 1]\n"
    assert "No space left on device" in done.err
    assert totals(path) == {"h": 2}


def test_negative_recordings_are_left_out_with_one_warning(
    make_provider: Callable[..., MeterProvider], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Negative recordings, which views can bring about, are one warning; those beside them are logged."""
    from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation  # noqa: PLC0415

    provider = make_provider(views=[View(instrument_name="*", aggregation=ExplicitBucketHistogramAggregation())])
    log = HdrLog(path, provider.segment, clock=lambda: EPOCH)
    counter = provider.get_meter("m").create_up_down_counter("u")
    for amount in (-1, -2, 3):
        counter.add(amount)
    counter.add(-1, {"only": "negative"})
    log.write(EPOCH + 1)

    assert totals(path) == {"u": 1}
    assert len(caplog.messages) == 1
    assert "negative recordings, for example of u" in caplog.messages[0]


def test_only_the_leader_writes_and_the_next_goes_on(
    provider: MeterProvider, record: Callable[..., None], path: Path
) -> None:
    """A process that does not lead writes nothing, and one that comes to lead logs what is recorded from its first interval on."""

    class Segment:
        leads = False
        is_separate = False
        histograms = provider.segment.histograms

        def lead(self) -> bool:
            return self.leads

    segment: Any = Segment()
    log = HdrLog(path, segment, clock=lambda: EPOCH)
    record(0.1)
    assert log.write(EPOCH + 10) == 0
    segment.leads = True
    assert log.write(EPOCH + 20) == 0
    assert not path.exists()
    record(0.1)

    assert log.write(EPOCH + 30) == 1
    (interval,) = intervals(path)
    assert (interval.get_total_count(), interval.get_start_time_stamp()) == (1, (EPOCH + 20) * 1000)


def test_a_clock_that_is_set_back_makes_no_negative_length(
    log: HdrLog, record: Callable[..., None], path: Path
) -> None:
    """An interval whose end is before its start has no length."""
    record(0.1)
    log.write(EPOCH - 100)

    (interval,) = intervals(path)
    assert interval.get_start_time_stamp() == interval.get_end_time_stamp() == EPOCH * 1000


def test_stopping_writes_the_last_interval(provider: MeterProvider, record: Callable[..., None], path: Path) -> None:
    """The thread writes what has been recorded when it is stopped, and starting or stopping twice changes nothing."""
    log = HdrLog(path, provider.segment, interval_s=3600)
    log.start()
    log.start()
    record(0.1)
    log.stop(timeout_s=30)
    log.stop()

    assert totals(path) == {"shop.duration": 1}


def test_the_settings_start_one_log_for_a_file(provider: MeterProvider, path: Path) -> None:
    """Without a path there is no log, and two configurations of one file share one."""
    settings = Settings(hdr_log=path, hdr_log_interval_s=60)

    assert hdr_log.start(Settings(), provider.segment) is None
    log = hdr_log.start(settings, provider.segment)
    assert log is not None
    assert hdr_log.start(settings, provider.segment) is log


def test_a_path_is_of_the_directory_at_the_start(
    provider: MeterProvider, record: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path stays where it was when the application changes its directory."""
    monkeypatch.chdir(tmp_path)
    log = HdrLog("latency.hlog", provider.segment)
    monkeypatch.chdir("/")
    record(0.1)
    log.write(EPOCH)

    assert totals(tmp_path / "latency.hlog") == {"shop.duration": 1}
