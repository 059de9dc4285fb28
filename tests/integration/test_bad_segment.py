"""Segments that cannot be used: a clear error, and the application runs on with one of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_perf import Segment, SegmentError, _core
from tests.peers.program import run
from tests.peers.prometheus import free_port


def _valid(path: Path) -> bytearray:
    segment = Segment.create(service_name="test")
    assert segment.path is not None
    content = bytearray(Path(segment.path).read_bytes())
    segment.close()
    return content


def _write(path: Path, content: bytes | bytearray) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def _other_version(path: Path) -> None:
    content = _valid(path)
    at = _core.LAYOUT_VERSION_OFFSET
    content[at : at + 4] = (99).to_bytes(4, "little")
    _write(path, content)


def _other_user(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    _write(path, _valid(path))
    os.chown(path, 65534, 65534)


def _open_mode(path: Path) -> None:
    _write(path, _valid(path))
    path.chmod(0o644)


def _link(path: Path) -> None:
    target = path.with_suffix(".target")
    _write(target, _valid(target))
    path.symlink_to(target)


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "corrupt": (lambda path: _write(path, os.urandom(1 << 20)), "magic number"),
    "truncated": (lambda path: _write(path, bytes(_valid(path)[: 512 << 10])), "truncated"),
    "empty": (lambda path: _write(path, b""), "truncated"),
    "of another version": (_other_version, "layout version 99"),
    "missing": (lambda _path: None, "No such file"),
    "of another user": (_other_user, "belongs to user 65534"),
    "open to others": (_open_mode, "mode 644"),
    "a link": (_link, "not a regular file"),
    "a directory": (lambda path: path.mkdir(), "not a regular file"),
}


@pytest.mark.parametrize("case", CASES)
def test_attaching_names_the_file_and_the_problem(case: str, tmp_path: Path) -> None:
    """The error says which file and what is wrong with it."""
    make, problem = CASES[case]
    path = tmp_path / "segment"
    make(path)
    with pytest.raises(SegmentError) as raised:
        Segment.attach(str(path))

    assert str(path) in str(raised.value)
    assert problem in str(raised.value)


@pytest.mark.parametrize("case", ["corrupt", "truncated", "of another version", "missing", "of another user"])
def test_the_application_runs_on_with_a_segment_of_its_own(case: str, tmp_path: Path) -> None:
    """One log line, and the metrics are there all the same."""
    make, problem = CASES[case]
    path = tmp_path / "segment"
    make(path)
    port = str(free_port())
    done = run("-m", "tests.integration.apps.count", OTEL_PERF_SEGMENT=str(path), OTEL_EXPORTER_PROMETHEUS_PORT=port)

    assert done.code == 0
    assert len(done.err.splitlines()) == 1
    assert problem in done.err
    assert 'app_count_total{kind="x"' in done.out


def test_a_size_out_of_range_is_refused() -> None:
    """The error names the accepted sizes."""
    with pytest.raises(SegmentError, match="131072 to 1073741824"):
        Segment.create(memory_limit=1000)
