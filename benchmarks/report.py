"""Writes the tables of benchmarks/README.md, and the short one of the project's README, from the results.

Run as ``python -m benchmarks.report``. What stands between ``<!-- record -->`` and ``<!-- /record -->``, and so on for each result, is replaced; everything
else stays as it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import summary

_HERE = Path(__file__).resolve().parent
_README = _HERE / "README.md"
_KINDS = ("none", "bound", "reused", "literal")
_IMPLEMENTATIONS = ("otel_perf", "stock", "noop_api", "prometheus_client", "hdrhistogram")
_STEPS = ("recorded", "digits_2.0", "digits_1.5", "digits_0.0", "explicit", "exponential")
_MOMENTS = {
    "before": "before the recordings",
    "histograms": "added by the histograms",
    "recorded": "added by histograms and attribute sets",
    "collected": "the same, after one collection",
}
_STATES = {
    "histograms": "1,000 histogram series",
    "histograms_and_sets": "then a million attribute sets",
    "sets_alone": "a million attribute sets alone",
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A Markdown table: the first column to the left, the others to the right."""
    titles = list(head)
    yield f"| {' | '.join(titles)} |"
    yield f"|{'|'.join(['---', *['---:'] * (len(titles) - 1)])}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _figures(result: dict[str, Any]) -> Iterator[str]:
    rows = (
        [figure["figure"], f"{figure['value']:,}", figure["target"], "met" if figure["met"] else "**missed**"]
        for figure in result["figures"]
    )
    yield from table(["figure", "measured", "target", ""], rows)


def _provenance(result: dict[str, Any]) -> Iterator[str]:
    versions = ", ".join(
        f"{name.replace('_', '-')} {version.removeprefix(name).strip()}"
        for name, version in result["versions"].items()
        if version is not None
    )
    yield f"`{result['command']}`; {versions}."
    yield ""


def _record(result: dict[str, Any]) -> Iterator[str]:
    unit = result["noop_ns"]
    yield (
        f"Nanoseconds per call (± spread); {result['rounds']} rounds. A call of a native method that does nothing takes {unit:.1f} ns, "
        f"the same counter through one Python function {result['control_ns']:.1f} ns."
    )
    yield ""
    cells: dict[tuple[str, int, str], dict[str, str]] = {}
    for case in result["cases"]:
        row = cells.setdefault((case["case"], case["attributes"], case["dict"]), {})
        row[case["impl"]] = f"{case['ns']:,.1f} ± {case['spread']:.1%}"
    order = sorted(cells, key=lambda row: (row[0], row[1], _KINDS.index(row[2])))
    yield from table(
        ["call", "attributes", "dict", *_IMPLEMENTATIONS],
        ([row[0], str(row[1]), row[2], *(cells[row].get(impl, "") for impl in _IMPLEMENTATIONS)] for row in order),
    )
    yield "Series in turn, one reused dict of two attributes each; *own* is without getting the next dict and value:"
    yield ""
    yield from table(
        ["call", "series", "implementation", "ns", "own ns", "recordings in overflow"],
        (
            [
                turn["case"],
                f"{turn['series']:,}",
                turn["impl"],
                f"{turn['ns']:,.1f} ± {turn['spread']:.1%}",
                f"{turn['own_ns']:,.1f}",
                f"{turn['overflowed']:.2%}",
            ]
            for turn in result["rotating"]
        ),
    )
    literals = ", ".join(f"{count}: {ns:.1f}" for count, ns in result["literal_ns"].items())
    yield f"The dict literal alone, nanoseconds by attributes: {literals}. It is part of the figures of *literal* above."
    yield ""


def _memory(result: dict[str, Any]) -> Iterator[str]:
    states = result["state"]
    yield "State in bytes, as `otel_perf.memory_usage()` has it:"
    yield ""
    parts = list(states["histograms"]["parts"])
    rows = [[part.replace("_", " "), *(f"{states[name]['parts'][part]:,}" for name in _STATES)] for part in parts]
    sums = {
        "segment": "segment, with what is free",
        "used": "segment, without it",
        "used_and_caches": "the latter and process caches",
    }
    rows += [[f"**{text}**", *(f"**{states[name][key]:,}**" for name in _STATES)] for key, text in sums.items()]
    yield from table(["part", *_STATES.values()], rows)
    yield "Series of their own and recordings in the overflow series:"
    yield ""
    yield from table(
        ["implementation", "histogram series", "in overflow", "counter series", "in overflow"], _series(result)
    )
    yield "Precision steps of the 1,000 histogram series, a million recordings; a series publishes its coarsest:"
    yield ""
    digits = sorted({step for one in result["ladder"] for step in one["recordings_by_digits"]}, reverse=True)
    yield from table(
        [
            "traffic",
            *(f"series at {step}" for step in digits),
            *(f"recordings at {step}" for step in digits),
            "overflow",
        ],
        (
            [
                f"Zipf {one['exponent']}, {'series created first' if one['created_first'] else 'series as they come'}",
                *(f"{one['series_by_digits'].get(step, 0):,}" for step in digits),
                *(f"{one['recordings_by_digits'].get(step, 0):,}" for step in digits),
                f"{one['overflow']:,}",
            ]
            for one in result["ladder"]
        ),
    )
    yield f"Resident size in bytes, median (least to most) of {result['repeat']} processes:"
    yield ""
    resident = result["resident"]
    yield from table(
        ["size", *resident],
        (
            [f"{size}, {text}", *(_range(resident[impl].get(f"{size.lower()}_{moment}")) for impl in resident)]
            for size in ("RSS", "PSS")
            for moment, text in _MOMENTS.items()
        ),
    )


def _series(result: dict[str, Any]) -> Iterator[list[str]]:
    histogram, counter = "http.server.request.duration", "orders"
    for impl in ("otel_perf", "stock"):
        found = result["series"][impl]
        pairs = [(found[name]["series"], found[name]["overflow"]) for name in (histogram, counter)]
        yield [impl, *(f"{number:,}" for pair in pairs for number in pair)]
    alone = result["series"]["otel_perf_sets_alone"]
    yield ["otel_perf, attribute sets alone", "", "", f"{alone['series']:,}", f"{alone['overflow']:,}"]


def _range(size: dict[str, int] | None) -> str:
    return "" if size is None else f"{size['median']:,} ({size['min']:,} to {size['max']:,})"


def _startup(result: dict[str, Any]) -> Iterator[str]:
    yield f"Medians (± spread) of {result['rounds']} starts each:"
    yield ""
    names = {
        "cpu_ms": "CPU ms",
        "user_ms": "user ms",
        "system_ms": "system ms",
        "wall_ms": "elapsed ms",
        "end_bytes": "resident at the end",
        "max_bytes": "largest resident",
        "modules": "modules",
    }
    yield from table(
        ["program", *names.values()],
        (
            [one["variant"], *(f"{one[key]['median']:,} ± {one[key]['spread']:.1%}" for key in names)]
            for one in result["variants"]
        ),
    )
    yield "Quotients of the medians, and those of the two starts of each round:"
    yield ""
    yield from table(
        [
            "figure",
            "of medians",
            "10 % of rounds below",
            "median of rounds",
            "10 % above",
            "rounds below 1",
            "target",
            "",
        ],
        (
            [
                figure["figure"],
                f"{figure['value']:.4f}",
                *(f"{figure['by_round'][name]:.4f}" for name in ("p10", "median", "p90")),
                f"{figure['rounds_below_one']} of {result['rounds']}",
                figure["target"],
                "met" if figure["met"] else "**missed**",
            ]
            for figure in result["figures"]
        ),
    )


def _accuracy(result: dict[str, Any]) -> Iterator[str]:
    asked = ", ".join(f"p{percentile:g}" for percentile in result["percentiles"])
    yield f"Largest relative error of {asked}; {result['samples']:,} samples each:"
    yield ""
    titles = ["as recorded", "2 digits", "1.5 digits", "0 digits", "explicit buckets", "exponential buckets"]
    yield from table(
        ["samples", "unit", "published digits", *titles, "same as hdrhistogram"],
        (
            [
                f"{case['distribution']} around {case['around']}",
                case["unit"],
                str(case["published_digits"]),
                *(f"{max(case[step]):,.3%}" for step in _STEPS),
                "yes" if case["same_as_hdrhistogram"] else "**no**",
            ]
            for case in result["cases"]
        ),
    )
    yield "Series that share one segment, by the step that they publish:"
    yield ""
    yield from table(
        ["series", "of these", "publish digits", "largest error", "median of the series' largest", "promised"],
        (
            [
                f"{one['series']:,}",
                f"{step['series']:,}",
                str(step["digits"]),
                f"{step['largest_error']:.3%}",
                f"{step['median_error']:.3%}",
                f"{step['promised']:.1%}",
            ]
            for one in result["ladder"]
            for step in one["steps"]
        ),
    )
    units = result["units"]
    largest = units["largest_error"]
    yield (
        f"Decision 0002, lognormal durations with {units['medians']} medians from {units['median_us'][0]} to {units['median_us'][1]} microseconds: largest error "
        f"{largest['nanoseconds']:.3%} when kept in nanoseconds, {largest['microseconds']:.3%} in microseconds."
    )
    yield ""


def _views(result: dict[str, Any]) -> Iterator[str]:
    yield f"Milliseconds of CPU time (± spread); {result['rounds']} rounds:"
    yield ""
    yield from table(
        ["", "provider and instruments", "one recording each", "points"],
        (
            [
                one["variant"],
                *(f"{one[f'{part}_ms']:,.2f} ± {one[f'{part}_spread']:.1%}" for part in ("made", "recorded")),
                f"{one['points']:,}",
            ]
            for one in result["variants"]
        ),
    )


def _spans(result: dict[str, Any]) -> Iterator[str]:
    yield (
        "Two attributes, in a span or none, nanoseconds per call: the first 1,000 recordings of a window, in which exemplars are looked for and kept, and "
        "later ones."
    )
    yield ""
    cells: dict[tuple[str, str, str], dict[tuple[str, str], str]] = {}
    for one in result["spans"]:
        row = cells.setdefault((one["case"], one["dict"], one["span"]), {})
        row[one["impl"], one["when"]] = f"{one['ns']:,.1f} ± {one['spread']:.1%}"
    columns = [(impl, when) for impl in ("otel_perf", "stock") for when in ("first", "later")]
    yield from table(
        ["call", "dict", "span", *(f"{impl}, {when}" for impl, when in columns)],
        ([*row, *(cells[row].get(column, "") for column in columns)] for row in cells),
    )


def _export(result: dict[str, Any]) -> Iterator[str]:
    yield f"Milliseconds of CPU time (± spread), and bytes, for 1,000 histogram series; {result['rounds']} rounds:"
    yield ""
    cases = dict.fromkeys((one["values"], one["segment"]) for one in result["exports"])
    cells = {(one["variant"], (one["values"], one["segment"])): one for one in result["exports"]}
    yield from table(
        ["", *(f"{values} a series, {segment >> 20} MiB" for values, segment in cases), "bytes"],
        (
            [
                variant,
                *(f"{cells[variant, case]['ms']:,.2f} ± {cells[variant, case]['spread']:.1%}" for case in cases),
                f"{cells[variant, next(iter(cases))]['bytes']:,}",
            ]
            for variant in dict.fromkeys(one["variant"] for one in result["exports"])
        ),
    )
    yield "Looks of an observer at the same series, in a segment of the default size:"
    yield ""
    yield from table(
        ["recordings a series since the last", "median ms", "mean", "largest", "bytes of slices", "of what is known"],
        (
            [
                str(one["recordings"]),
                *(f"{one[key]:.4f}" for key in ("ms", "mean_ms", "max_ms")),
                *(f"{one[key]:,.0f}" for key in ("bytes", "known_bytes")),
            ]
            for one in result["looks"]
        ),
    )


def _observer(result: dict[str, Any]) -> Iterator[str]:
    yield f"Nanoseconds of a request, and quotients within a group of blocks: median (the middle 80 %); {result['rounds']} groups:"
    yield ""
    kinds = list(result["modes"]["process"]["cpu"]["ns"])
    yield from table(
        ["observer", "time", *kinds, "scraped / quiet", "quiet, again / quiet"],
        (
            [
                mode,
                what,
                *(f"{one['ns'][kind]:,.0f}" for kind in kinds),
                *(
                    f"{quotient['median']:.4f} ({quotient['p10']:.4f} to {quotient['p90']:.4f})"
                    for quotient in one["to_quiet"].values()
                ),
            ]
            for mode, times in result["modes"].items()
            for what, one in times.items()
        ),
    )


def _exit(result: dict[str, Any]) -> Iterator[str]:
    yield f"Seconds from the first exit handler to the end of the process; {result['rounds']} exits each:"
    yield ""
    yield from table(
        ["", "median", "shortest", "longest"],
        (
            [one["variant"], *(f"{one['seconds'][key]:.3f}" for key in ("median", "min", "max"))]
            for one in result["variants"]
        ),
    )


def _workers(result: dict[str, Any]) -> Iterator[str]:
    yield f"Milliseconds of CPU time of a scrape of 1,000 series, 8 recordings in each; {result['rounds']} rounds:"
    yield ""
    yield from table(
        ["series", "of", "ms", "bytes"],
        (
            [one["kind"], one["variant"], f"{one['ms']:,.2f} ± {one['spread']:.1%}", f"{one['bytes']:,}"]
            for one in result["scrapes"]
        ),
    )
    yield "Microseconds, median (99th percentile), as the forked child sees them:"
    yield ""
    parts = {"fork": "`os.fork`", "add": "first `counter.add`", "record": "first `histogram.record`"}
    yield from table(
        ["provider", *parts.values()],
        (
            [one["variant"], *(f"{one[part]['median_us']:,} ({one[part]['p99_us']:,})" for part in parts)]
            for one in result["forks"]
        ),
    )
    yield "Calls of two workers on a core each after five seconds at full speed, relative to those of one alone (± spread):"
    yield ""
    yield from table(
        ["call", "by time", "by CPU time", "one alone, again", "ns a call alone"],
        (
            [
                one["what"],
                *(f"{one[name]['median']:.3f} ± {one[name]['spread']:.1%}" for name in ("time", "cpu", "control")),
                f"{one['alone_ns']:.1f}",
            ]
            for one in result["together"]
        ),
    )


def _span_costs(result: dict[str, Any]) -> Iterator[str]:
    yield "Nanoseconds (± spread), without the loop around the call:"
    yield ""
    yield from table(
        ["", "variant", "ns"],
        ([case["part"], case["variant"], f"{case['ns']:,.1f} ± {case['spread']:.1%}"] for case in result["cases"]),
    )
    many = result["many"]
    yield (
        f"Of {many['spans']:,} running spans the table showed {many['shown']} and counted {many['counted']:,}, in {many['table_bytes']:,} of "
        f"{many['segment_bytes']:,} bytes."
    )
    yield ""


_SECTIONS: dict[str, list[Callable[[dict[str, Any]], Iterator[str]]]] = {
    "record": [_figures, _record, _spans, _provenance],
    "views": [_figures, _views, _provenance],
    "memory": [_figures, _memory, _provenance],
    "startup": [_startup, _provenance],
    "accuracy": [_figures, _accuracy, _provenance],
    "export": [_figures, _export, _provenance],
    "observer": [_figures, _observer, _provenance],
    "exit": [_figures, _exit, _provenance],
    "workers": [_figures, _workers, _provenance],
    "spans": [_figures, _span_costs, _provenance],
}


def load(results: Path) -> dict[str, Any]:
    """The results by name.

    Raises:
        SystemExit: One is missing.
    """
    found = {}
    for name in _SECTIONS:
        path = results / f"{name}.json"
        if not path.exists():
            raise SystemExit(f"benchmarks: {path.relative_to(results.parent)} is missing; run 'make bench-{name}'")
        found[name] = json.loads(path.read_text())
    return found


def replaced(text: str, name: str, lines: Iterable[str]) -> str:
    """The text with `lines` between the markers of `name`.

    Raises:
        SystemExit: A marker is missing.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"benchmarks: the README needs one pair of the markers {begin} and {end}; put them back")
    before, _, rest = text.partition(begin)
    return "\n".join([f"{before}{begin}", "", *lines, f"{end}{rest.partition(end)[2]}"])


def main() -> None:
    """Rewrites both pages."""
    results = load(_HERE / "results")
    text = _README.read_text()
    for name, writers in _SECTIONS.items():
        text = replaced(text, name, (line for writer in writers for line in writer(results[name])))
    _README.write_text(text)
    front = _HERE.parent / "README.md"
    front.write_text(replaced(front.read_text(), "figures", table(summary.HEAD, summary.rows(results))))
    print("the tables of README.md and benchmarks/README.md are those of benchmarks/results", file=sys.stderr)


if __name__ == "__main__":
    main()
