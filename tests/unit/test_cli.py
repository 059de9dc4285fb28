"""The command ``otel-perf``: what it prints, finds and answers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_perf.cli import doctor, main
from otel_perf.segment import VERSION, Segment

MIB = 1 << 20


def group(**changes: Any) -> dict[str, Any]:
    """A group in which all is well, but for what is given."""
    worker = {"lane": 1, "pid": 70, "age_seconds": 90.0, "command": "python app.py", "is_leader": True}
    return {
        "path": "/dev/shm/otel_perf-0-70-1",
        "service_name": "shop",
        "size": MIB,
        "age_seconds": 7200.0,
        "leader": 70,
        "endpoint": "http://127.0.0.1:9464/metrics",
        "workers": [worker, {**worker, "lane": 2, "pid": 71, "is_leader": False}],
        "observers": [],
        "memory": {"header": 1024, "histogram_pages": 300 << 10, "free": MIB - (301 << 10)},
        "series": 1234,
        "series_limit": 2048,
        "streams": 12,
        "histograms": 7,
        "overflowing": 0,
        "drops": {"overflow": 0, "no_exemplar": 3},
        "findings": [],
        **changes,
    }


def test_a_report_says_who_is_there_and_where_the_metrics_are() -> None:
    """Service, segment, leader, endpoint, each process with its lane, memory by part, series and drops are printed."""
    text = doctor.report(group())
    assert text.splitlines() == [
        "shop",
        "  segment    /dev/shm/otel_perf-0-70-1, 1,024 KiB, 2 h old",
        "  leader     process 70",
        "  endpoint   http://127.0.0.1:9464/metrics",
        "  processes  2 workers, 0 observers",
        "    lane  pid  role           age    command",
        "    1     70   worker, leads  2 min  python app.py",
        "    2     71   worker         2 min  python app.py",
        "  memory     29% used: header 1, histogram_pages 300, free 723 KiB",
        "  series     1,234 of 2,048 in 12 streams, 7 of them histograms",
        "  drops      no_exemplar 3",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"leader": None}, ["nobody exports", "--enable-threads"]),
        ({"memory": {"free": MIB // 20}}, ["95% full", "OTEL_PERF_MEMORY_LIMIT"]),
        ({"overflowing": 2}, ["2 streams", "OTEL_PERF_CARDINALITY_LIMIT"]),
        ({"drops": {"no_page": 1200}}, ["1,200 recordings", "OTEL_PERF_MEMORY_LIMIT"]),
        ({"drops": {"non_finite": 1}}, ["NaN"]),
        (
            {"workers": [{"lane": 1, "pid": 7, "age_seconds": 1.0, "command": None, "is_leader": False}], "leader": 0},
            ["another pid namespace"],
        ),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(changes: dict[str, Any], said: list[str]) -> None:
    """Each finding is one sentence that names the setting."""
    (finding,) = doctor.findings(group(**changes))
    assert all(text in finding for text in said), finding
    assert finding in doctor.report(group(**changes, findings=[finding]))


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("/srv/shop/.venv/bin/python3 /srv/shop/.venv/bin/gunicorn -w 4 shop:app", "python3 gunicorn -w 4 shop:app"),
        ("python -m shop", "python -m shop"),
        (f"python {'x' * 100}", f"python {'x' * 64}…"),
        (None, "(not seen from here)"),
    ],
)
def test_a_command_is_shown_without_the_folders_of_its_programs(command: str | None, shown: str) -> None:
    """What is left is at most 72 characters, of which the first tell what runs."""
    assert doctor._short(command) == shown


def test_a_group_in_which_all_is_well_has_no_findings() -> None:
    """Exemplars that were not kept are none either."""
    assert doctor.findings(group()) == []


def test_every_reason_for_drops_is_explained() -> None:
    """All that the native core counts, but exemplars, has a sentence."""
    segment = Segment.create()
    assert set(segment.status()["drops"]) - {"no_exemplar"} == set(doctor._DROPS)
    segment.close()


@pytest.fixture
def running() -> Iterator[Segment]:
    """A service that this process runs, without a leader."""
    segment = Segment.create(service_name="doctored")
    yield segment
    segment.close()


def test_a_service_is_found_by_name(running: Segment, capsys: pytest.CaptureFixture[str]) -> None:
    """The report is of that service; nobody leads it from the view of its own process, which is a finding and exit status 1."""
    assert main(["doctor", "--service", "doctored"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("doctored\n")
    assert str(running.path) in out


def test_json_has_all_that_the_text_has(running: Segment, capsys: pytest.CaptureFixture[str]) -> None:
    """The list has one object for each group, with lanes, memory, drops and findings."""
    assert main(["doctor", "--json", "--segment", str(running.path)]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["service_name"] == "doctored"
    assert found["workers"][0]["lane"] == running.lane
    assert 0 <= found["age_seconds"] < 60
    assert sum(found["memory"].values()) == running.size
    assert len(found["findings"]) == 1


def test_nothing_found_says_how_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a group the answer is a remedy and exit status 2."""
    assert main(["doctor", "--service", "nobody's"]) == 2
    out = capsys.readouterr().out
    assert 'service "nobody\'s"' in out
    assert "opentelemetry-instrument" in out


def test_a_file_that_is_no_segment_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with it is said, with exit status 2."""
    path = tmp_path / "notes"
    path.write_bytes(b"x" * 4096)
    path.chmod(0o600)
    assert main(["doctor", "--segment", str(path)]) == 2
    assert f"! {path}" in capsys.readouterr().out


def test_segments_that_nobody_uses_are_named(tmp_path: Path) -> None:
    """A file of a killed process is listed once it is older than what is just being made."""
    path = tmp_path / f"otel_perf-{os.geteuid()}-1-2"
    path.write_bytes(b"")
    assert doctor.left_behind(tmp_path) == []
    old = path.stat().st_mtime - 10
    os.utime(path, (old, old))
    assert doctor.left_behind(tmp_path) == [path]


def test_the_version_and_the_help_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` names the version; without a command there is help and exit status 2."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"otel-perf {VERSION}\n"
    assert main([]) == 2
    assert "doctor" in capsys.readouterr().out
