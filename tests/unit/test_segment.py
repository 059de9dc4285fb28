"""Segments: create, attach, find, close, and which one a process records into."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import otel_perf
from otel_perf import MeterProvider, Segment, SegmentError, find
from otel_perf import segment as segments
from otel_perf.config import Settings
from tests.peers.program import run

VARIABLE = "OTEL_PERF_SEGMENT"


@pytest.fixture
def service() -> str:
    """A service name that no other segment has."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def no_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process has no default segment before and after the test."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert segments.default_segment() is None
    yield
    default = segments.default_segment()
    if default is not None:
        segments.close(default)
    os.environ.pop(VARIABLE, None)


@pytest.fixture
def made(service: str) -> Iterator[Segment]:
    """A segment of its own service."""
    segment = Segment.create(131_072, service)
    yield segment
    segment.close()


def test_a_segment_is_a_file_of_its_size(made: Segment, service: str) -> None:
    """It has the asked size, belongs to its service, is readable by its user only, and says where it is."""
    path = made.path
    assert path is not None
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (made.size, 0o600)
    assert (made.size, made.service_name, made.private_because) == (131_072, service, None)
    assert str(path) in repr(made)
    assert str(made.size) in repr(made)


def test_a_segment_cannot_be_called_into_being() -> None:
    """Segments come from `create` and `attach` only."""
    with pytest.raises(TypeError):
        Segment()


@pytest.mark.parametrize("size", [0, 131_071, (1 << 30) + 1, 1 << 40])
def test_a_size_out_of_bounds_is_an_error_that_names_them(size: int) -> None:
    """The text of the error names the size that was given and the accepted ones."""
    with pytest.raises(SegmentError) as raised:
        Segment.create(size)

    assert all(part in str(raised.value) for part in (str(size), "131072", "1073741824"))


@pytest.mark.parametrize("size", [-1, 1.5, "1"])
def test_a_size_that_is_no_natural_number_is_an_error(size: Any) -> None:
    """Negative numbers and other types are refused by Python's own exceptions."""
    with pytest.raises((TypeError, OverflowError)):
        Segment.create(size)


def test_attaching_gives_the_same_memory(made: Segment) -> None:
    """What one handle records the other reads, and their lanes are those of the same worker."""
    assert made.path is not None
    other = Segment.attach(made.path)
    provider = MeterProvider(segment=made, shutdown_on_exit=False)
    provider.get_meter("m").create_histogram("h", "s").record(0.5, {"a": 1})
    (series,) = other.histograms()

    assert (series.scope, series.name, series.unit, series.attributes) == ("m", "h", "s", {"a": 1})
    assert (series.snapshot.count, series.snapshot.sum) == (1, 0.5)
    assert (other.size, other.service_name, other.path) == (made.size, made.service_name, made.path)
    provider.shutdown()


@pytest.mark.parametrize("form", [str, Path, os.fspath])
def test_a_path_may_be_a_text_or_a_path(form: Callable[[Path], Any], made: Segment) -> None:
    """`attach` takes what `open` takes."""
    assert made.path is not None
    assert Segment.attach(form(made.path)).path == made.path


def test_find_lists_segments_in_use_newest_first(service: str) -> None:
    """Only segments of the asked service, the newest first, and none that was closed."""
    assert find(service) == []
    older, newer = Segment.create(131_072, service), Segment.create(131_072, service)
    assert find(service) == [newer.path, older.path]
    assert {newer.path, older.path} <= set(find())
    newer.close()
    assert find(service) == [older.path]
    older.close()

    assert find(service) == []


def test_closing_removes_the_file_and_recording_goes_on(made: Segment) -> None:
    """After `close`, also a second one, the file is gone and recordings are harmless."""
    meter = MeterProvider(segment=made, shutdown_on_exit=False).get_meter("m")
    counter = meter.create_counter("c")
    counter.add(1)
    path = made.path
    made.close()
    made.close()
    counter.add(1, {"new": 1})
    meter.create_counter("late").add(1)

    assert path is not None
    assert not path.exists()


def test_the_creator_has_a_lane_and_leads_at_once(made: Segment) -> None:
    """The creator is the first worker and exports for the group."""
    (worker,) = made.status()["workers"]

    assert made.lane == worker["lane"] >= 1
    assert worker["pid"] == os.getpid()
    assert made.lead()


def test_status_counts_what_there_is(made: Segment) -> None:
    """Instruments, series and histograms are numbers of what was made, and nothing was dropped."""
    meter = MeterProvider(segment=made, shutdown_on_exit=False).get_meter("m")
    before = made.status()
    meter.create_counter("c").add(1, {"a": 1})
    meter.create_histogram("h").record(1)
    status = made.status()

    assert status["streams"] - before["streams"] == 2
    assert status["series"] - before["series"] >= 2
    assert status["histograms"] > before["histograms"] == 0
    assert (status["precision"], status["overflowing"]) == ({3.0: 1, 2.0: 0, 1.5: 0, 0.0: 0}, 0)
    assert (status["size"], status["service_name"]) == (made.size, made.service_name)
    assert set(status["drops"].values()) == {0}


def test_parts_of_the_memory_add_up(made: Segment) -> None:
    """The parts of the segment add up to its size before and after recordings, and free memory falls."""
    before = made.memory_usage()
    histogram = MeterProvider(segment=made, shutdown_on_exit=False).get_meter("m").create_histogram("h")
    for number in range(200):
        histogram.record(number, {"n": number % 5})
    after = made.memory_usage()

    assert sum(before.values()) == sum(after.values()) == made.size
    assert 0 <= after["free"] < before["free"]


def test_a_full_segment_loses_no_counter(service: str) -> None:
    """When the segment is full, further sets are counted in the overflow series, and free memory stays within the size."""
    segment = Segment.create(131_072, service)
    meter = MeterProvider(segment=segment, shutdown_on_exit=False).get_meter("m")
    histogram = meter.create_histogram("h")
    for number in range(1500):
        histogram.record(number, {"n": f"{number}-{'x' * 100}"})

    assert sum(series.snapshot.count for series in segment.histograms()) == 1500
    assert sum(segment.memory_usage().values()) == segment.size
    assert segment.status()["drops"]["overflow"] + segment.status()["drops"]["no_page"] > 0
    segment.close()


@pytest.mark.usefixtures("no_default")
def test_memory_usage_of_the_process(service: str) -> None:
    """Without a configured segment only the process's caches are stated; with one its parts add up to its size."""
    assert set(otel_perf.memory_usage()) == {"process_caches"}
    segment = segments.open_default(Settings(service_name=service, memory_limit=131_072))
    usage = otel_perf.memory_usage()
    caches = usage.pop("process_caches")

    assert caches >= 0
    assert sum(usage.values()) == segment.size


def test_caches_grow_with_series_and_end_with_their_instrument(provider: MeterProvider) -> None:
    """`process_caches` includes what instruments keep to find their series."""
    counter = provider.get_meter("m").create_counter("c")
    before = otel_perf.memory_usage()["process_caches"]
    for number in range(100):
        counter.add(1, {"n": number})

    assert otel_perf.memory_usage()["process_caches"] >= before + 100 * 16


@pytest.mark.usefixtures("no_default")
def test_the_default_segment_is_opened_once_and_named_for_children(service: str) -> None:
    """`open_default` answers one segment, leads it, names it in the environment, and `close` undoes that."""
    segment = segments.open_default(Settings(service_name=service, memory_limit=131_072))
    assert segments.open_default(Settings(service_name="other")) is segment
    assert segments.default_segment() is segment
    assert os.environ[VARIABLE] == str(segment.path)
    assert (segment.service_name, segment.size) == (service, 131_072)
    assert segment.lead()
    segments.close(segment)

    assert VARIABLE not in os.environ
    assert segments.default_segment() is None
    assert find(service) == []


@pytest.mark.usefixtures("no_default")
def test_closing_leaves_another_segments_name_alone(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is removed only if it names the segment that is closed."""
    segment = segments.open_default(Settings(service_name=service, memory_limit=131_072))
    monkeypatch.setenv(VARIABLE, "/dev/shm/other")
    segments.close(segment)

    assert os.environ[VARIABLE] == "/dev/shm/other"


@pytest.mark.usefixtures("no_default")
def test_a_named_segment_of_the_same_service_is_attached(made: Segment, service: str) -> None:
    """The segment that a parent named is used."""
    segment = segments.open_default(Settings(service_name=service, segment_path=str(made.path)))

    assert segment.path == made.path
    assert find(service) == [made.path]


@pytest.mark.usefixtures("no_default")
def test_a_named_segment_of_another_service_is_not_attached(made: Segment, caplog: pytest.LogCaptureFixture) -> None:
    """A child of another service silently makes a segment of its own and names that."""
    settings = Settings(service_name="another", segment_path=str(made.path), memory_limit=131_072)
    segment = segments.open_default(settings)

    assert segment.path != made.path
    assert os.environ[VARIABLE] == str(segment.path)
    assert caplog.messages == []


@pytest.mark.usefixtures("no_default")
def test_a_named_segment_that_cannot_be_attached_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A missing file is one line with variable and path, and a new segment is used."""
    path = tmp_path / "missing"
    segment = segments.open_default(Settings(segment_path=str(path), memory_limit=131_072))

    assert segment.path is not None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{VARIABLE}={path}: ")
    assert caplog.messages[0].endswith("; using a segment of its own")


class Private:
    """A segment that could not be had under a name."""

    private_because = "No space left on device"

    def lead(self) -> None:
        """Leads, as every new segment does at once."""


def test_a_private_segment_is_one_line_that_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where shared memory cannot be had under a name, one warning says who does not see the metrics, and why."""
    private = Private()

    class Fake:
        @staticmethod
        def create(_limit: int, _service: str) -> Any:
            return private

    monkeypatch.setattr(segments, "Segment", Fake)
    found: Any = segments.create(131_072, "")

    assert found is private
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "private memory" in caplog.messages[0]
    assert caplog.messages[0].endswith("No space left on device")


ENDS: dict[str, str] = {
    "a provider that is kept": "p = o.MeterProvider(shutdown_on_exit=False); print(p.segment.path)",
    "a provider that is dropped": "p = o.MeterProvider(shutdown_on_exit=False); print(p.segment.path); del p",
    "a provider that is shut down": "p = o.MeterProvider(); print(p.segment.path); p.shutdown()",
    "a segment that is kept": "s = o.Segment.create(131072); print(s.path)",
    "a segment that is dropped": "s = o.Segment.create(131072); print(s.path); del s",
}


@pytest.mark.parametrize("case", ENDS)
def test_the_end_of_the_process_removes_the_file(case: str) -> None:
    """A process that ends leaves no file behind, whether or not it closed what it made."""
    done = run("-c", f"import gc, otel_perf as o; {ENDS[case]}; gc.collect()", wrapper=False)

    assert done.code == 0, done.err
    assert done.out.startswith("/dev/shm/otel_perf-")
    assert not Path(done.out.strip()).exists()
