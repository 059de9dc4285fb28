"""``otel-perf doctor``: what running groups of processes look like from outside, and what is wrong with them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from otel_perf.segment import Segment, SegmentError, find

__all__ = ["examine", "findings", "report", "run"]

_DIRECTORY = Path("/dev/shm")  # noqa: S108 - where segments are.
_MORE_MEMORY = "raise OTEL_PERF_MEMORY_LIMIT"
_DROPS = {
    "non_finite": "recordings of NaN or infinity were ignored: mend what records them",
    "negative": "negative recordings on counters or histograms were ignored: mend what records them, or use an up-down counter",
    "overflow": "recordings found no series of their own and were counted with the attribute otel.metric.overflow=true: leave out attributes by a view, "
    "or raise OTEL_PERF_CARDINALITY_LIMIT",
    "no_page": f"recordings of histograms found no room and were counted with the attribute otel.metric.overflow=true: {_MORE_MEMORY}",
    "no_instrument": f"recordings were lost, because there was no room for their instruments: {_MORE_MEMORY}",
    "long_attributes": "recordings had attributes that are too long for a series and were counted with the attribute otel.metric.overflow=true: leave out "
    "attributes by a view",
    "corrupt": "recordings were lost, because something has written into the segment that is not otel_perf: restart the service",
    "panic": "faults of otel_perf were caught: restart the service, and report it",
    "no_span": f"running spans were measured, but are not shown, because the span table was full: {_MORE_MEMORY}",
    "wrong_type": "recordings were no numbers, or had attributes that are no mapping, and were ignored: mend what records them",
}
"""What drops mean, by reason. Of exemplars one is as good as the other: that some were not kept is no finding."""
_FULL = 0.9
"""Part of the memory from which on a segment is nearly full."""
_GRACE_S = 2.0
"""Age up to which a segment may be just being made."""
_COMMAND_MAX = 72
_KIB = 1024
_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400


def run(*, service: str | None = None, segment: str | None = None, as_json: bool = False) -> int:
    """Prints a report of all groups, or of those that are asked for.

    Args:
        service: Only the groups of this service.
        segment: Only the group with this segment.
        as_json: Whether to print JSON.

    Returns:
        Exit status, see `otel_perf.cli.main`.
    """
    examined = [_examined(path) for path in ([Path(segment)] if segment else find(service))]
    groups = [group for group in examined if isinstance(group, dict)]
    problems = [problem for problem in examined if isinstance(problem, str)]
    stale = [] if service or segment else left_behind()
    if as_json:
        _print(json.dumps(groups, indent=2))
    else:
        for group in groups:
            _print(report(group))
        for problem in problems:
            _print(f"! {problem}")
        for path in stale:
            _print(f"! {path} was left behind by processes that were killed; the next service that starts removes it")
        if not groups:
            asked = f" as service {service!r}" if service else ""
            _print(
                f"No program of this user runs with otel_perf{asked}. Start one with: opentelemetry-instrument python app.py\n"
                "Programs of other users are seen by those users; metrics in private memory, which the log then tells of, by nobody."
            )
    if problems or not groups:
        return 2
    return 1 if stale or any(group["findings"] for group in groups) else 0


def _examined(path: Path) -> dict[str, Any] | str:
    try:
        return examine(path)
    except SegmentError as error:
        return str(error)


def examine(path: Path, now_s: float | None = None) -> dict[str, Any]:
    """Looks at one group, without a lane in it.

    Args:
        path: Its segment.
        now_s: Seconds since the epoch; those of now if not given.

    Returns:
        What `Segment.status` answers, with ``path``, ``age_seconds``, ``memory`` in bytes by part, ``command`` and ``is_leader`` for each process, and
        ``findings``, a list of sentences.

    Raises:
        SegmentError: It is no segment, or one of another version or user.
    """
    segment = Segment.attach(path)
    group: dict[str, Any] = {
        "path": str(path),
        **segment.status(),
        "memory": segment.memory_usage(),
    }
    now_s = time.time() if now_s is None else now_s
    group["age_seconds"] = max(0.0, now_s - group.pop("created_unix_ns") / 1e9)
    for process in (*group["workers"], *group["observers"]):
        process["age_seconds"] = max(0.0, now_s - process.pop("started_unix_ns") / 1e9)
        process["command"] = _command(process["pid"])
        process["is_leader"] = process["pid"] == group["leader"]
    group["findings"] = findings(group)
    return group


def _command(pid: int) -> str | None:
    """The command line of a process, shortened; None if it is not seen from here."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return " ".join(word.decode(errors="replace") for word in words if word)


def left_behind(directory: Path = _DIRECTORY) -> list[Path]:
    """This user's segments that no process uses."""
    used = set(find())
    unused = [path for path in directory.glob(f"otel_perf-{os.geteuid()}-*") if path not in used]
    return sorted(path for path in unused if _age_of(path) > _GRACE_S)


def _age_of(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def findings(group: dict[str, Any]) -> list[str]:
    """What is wrong with a group, and what to do.

    Args:
        group: As `examine` has it.
    """
    found = []
    size, free = group["size"], group["memory"]["free"]
    if group["leader"] is None:
        found.append(
            "nobody exports: no process leads. In the first half of a second after the end of a leader that is so; where it stays so, the processes run "
            "with OTEL_PERF_OBSERVER=off, or let no thread of Python run (uWSGI without --enable-threads)"
        )
    if free < (1 - _FULL) * size:
        found.append(
            f"the segment is {1 - free / size:.0%} full, and new series lose precision first, then their attributes: raise OTEL_PERF_MEMORY_LIMIT "
            f"above {size}"
        )
    if group["overflowing"]:
        found.append(
            f"{group['overflowing']} streams have more series than their cardinality limit; what is above it is counted with the attribute "
            "otel.metric.overflow=true: leave out attributes by a view, or raise OTEL_PERF_CARDINALITY_LIMIT"
        )
    found += [
        f"{number:,} {_DROPS[reason]}" for reason, number in group["drops"].items() if number and reason in _DROPS
    ]
    if any(process["command"] is None for process in group["workers"]):
        found.append(
            "some workers live in another pid namespace: their process ids are those that they have there, and profilers of this one do not see them"
        )
    return found


def report(group: dict[str, Any]) -> str:
    """The group as text.

    Args:
        group: As `examine` has it.
    """
    size = group["size"]
    memory = {part: bytes_ for part, bytes_ in group["memory"].items() if bytes_}
    lines = [
        f"{group['service_name'] or 'a service without a name'}",
        f"  segment    {group['path']}, {size / _KIB:,.0f} KiB, {_age(group['age_seconds'])} old",
        f"  leader     {_leader(group)}",
        f"  endpoint   {group['endpoint'] or 'none'}",
        f"  processes  {len(group['workers'])} workers, {len(group['observers'])} observers",
        *_processes(group),
        f"  memory     {1 - group['memory']['free'] / size:.0%} used: "
        + ", ".join(f"{part} {bytes_ / _KIB:,.0f}" for part, bytes_ in memory.items())
        + " KiB",
        f"  series     {group['series']:,} of {group['series_limit']:,} in {group['streams']:,} streams, {group['histograms']:,} of them histograms",
        f"  drops      {', '.join(f'{reason} {n:,}' for reason, n in group['drops'].items() if n) or 'none'}",
        *(f"  ! {finding}" for finding in group["findings"]),
    ]
    return "\n".join(lines)


def _leader(group: dict[str, Any]) -> str:
    leader = group["leader"]
    if leader is None:
        return "none"
    return f"process {leader}" if leader else "a process of another pid namespace"


def _processes(group: dict[str, Any]) -> list[str]:
    rows = [
        (
            f"{process['lane']}",
            f"{process['pid']}",
            role + (", leads" if process["is_leader"] else ""),
            _age(process["age_seconds"]),
            _short(process["command"]),
        )
        for role, processes in (("worker", group["workers"]), ("observer", group["observers"]))
        for process in processes
    ]
    if not rows:
        return []
    head = ("lane", "pid", "role", "age", "command")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(4)]
    return [
        "    " + "  ".join(text.ljust(width) for text, width in zip(row, (*widths, 0), strict=True)).rstrip()
        for row in (head, *rows)
    ]


def _short(command: str | None) -> str:
    if command is None:
        return "(not seen from here)"
    # Program and script are known by their names; where they are takes the place of what tells the processes apart.
    words = command.split(" ")
    text = " ".join([*(Path(word).name for word in words[:2]), *words[2:]])
    return text if len(text) <= _COMMAND_MAX else f"{text[: _COMMAND_MAX - 1]}…"


def _age(seconds: float) -> str:
    for unit, size in (("d", _DAY_S), ("h", _HOUR_S), ("min", _MINUTE_S)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _print(text: str) -> None:
    print(text)  # noqa: T201 - it is a command.
