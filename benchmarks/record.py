"""Cost of a recording: OpenTelemetry Python's own grid, on the no-op API, the stock SDK and otel_perf, with other libraries beside.

Run as ``python -m benchmarks.record [--rounds N] [--json PATH]``. The unit is a call of a native method that does nothing.
"""

from __future__ import annotations

import argparse
from operator import ge, gt, le, lt
from typing import Any

from benchmarks import grid, machine
from benchmarks.harness import ROUNDS_DEFAULT, ROUNDS_MIN, Result, Statement, at_least, measure


class Results:
    """What was measured, sorted into the grid and the controls."""

    def __init__(self, statements: list[Statement], results: list[Result]) -> None:
        self.cases: list[dict[str, Any]] = []
        self.rotations: list[dict[str, Any]] = []
        self.spans: list[dict[str, Any]] = []
        self.literal_ns: dict[int, float] = {}
        self.next_ns: dict[int | str, float] = {}
        self.noop_ns = self.control_ns = 0.0
        for statement, result in zip(statements, results, strict=True):
            self._take(statement.label, result)

    def _take(self, label: dict[str, Any], result: Result) -> None:
        ns = round(result.ns, 2)
        measured = {
            "ns": ns,
            "spread": round(result.spread, 4),
            "raw_ns": round(result.raw_ns, 2),
            "checked": result.checked,
        }
        if label["case"] == grid.NOOP:
            self.noop_ns = ns
        elif label["case"] == grid.LITERAL:
            self.literal_ns[label["attributes"]] = ns
        elif label["case"] == grid.CONTROL:
            self.control_ns = ns
        elif label["case"] == grid.NEXT:
            self.next_ns[label["of"]] = ns
        elif label["case"] == grid.ROTATION:
            self.rotations.append({**label, "case": label["of"], **measured})
        elif label["case"] == grid.SPAN:
            self.spans.append({**label, "case": label["of"], **measured})
        else:
            self.cases.append({**label, **measured})

    def of(self, case: str, kind: str, impl: str = "otel_perf", key: str = "ns") -> float:
        """A figure of the case with two attributes."""
        wanted = (case, 2, kind, impl)
        found = [c for c in self.cases if (c["case"], c["attributes"], c["dict"], c["impl"]) == wanted]
        return float(found[0][key])

    def in_span(self, case: str, when: str, span: str = "sampled") -> float:
        """Nanoseconds of a recording with a reused dict in a span."""
        wanted = (case, when, span, "reused", "otel_perf")
        found = [s for s in self.spans if (s["case"], s["when"], s["span"], s["dict"], s["impl"]) == wanted]
        return float(found[0]["ns"])

    def rotating(self) -> list[dict[str, Any]]:
        """Rotations with the call's own share: without what it costs to get the next dict and the next value."""
        found = []
        for rotation in self.rotations:
            own = rotation["ns"] - self.next_ns[rotation["series"]]
            if rotation["case"] == grid.EXPLICIT:
                own -= self.next_ns["values"]
            found.append({**{key: value for key, value in rotation.items() if key != "of"}, "own_ns": round(own, 2)})
        return found

    def figures(self) -> list[dict[str, Any]]:
        """The figures that the project promises, with the measured values and whether each is met."""
        unit = self.noop_ns
        add, record = "counter.add", grid.EXPLICIT
        reused = [
            case
            for case in self.cases
            if case["impl"] == "otel_perf" and case["dict"] != "literal" and case["attributes"] <= 3
        ]
        literal = self.of(add, "literal") - self.literal_ns[2]
        wanted = [
            ("bound add / no-op call", self.of(add, "bound") / unit, "<=", 1.6),
            ("add(1, d) / no-op call", self.of(add, "reused") / unit, "<=", 4),
            ("record(x, d) / no-op call", self.of(record, "reused") / unit, "<=", 4),
            ("add(1, {...}) without the literal, ns", literal, "<=", 40),
            ("record(x, {...}) without the literal, ns", self.of(record, "literal") - self.literal_ns[2], "<=", 40),
            ("slowest call with at most 3 attributes, no literal, ns", max(case["ns"] for case in reused), "<", 100),
            ("add(1, d) made before the provider / no-op call", self.of(grid.EARLY, "reused") / unit, "<=", 4),
            ("add(1, d) dropped by a view / no-op call", self.of(grid.DROPPED, "reused") / unit, "<=", 1.5),
            *(
                (
                    f"{call} in a sampled span / {text}",
                    self.in_span(case, when) / self.in_span(case, when, other),
                    "<=",
                    1.5,
                )
                for case, call in ((add, "add(1, d)"), (record, "record(x, d)"))
                for when, other, text in (
                    ("first", grid.OFF, "exemplars off, first 1,000 of a window"),
                    ("later", "none", "outside, later"),
                )
            ),
            ("stock / otel_perf, add(1, d)", self.of(add, "reused", "stock") / self.of(add, "reused"), ">=", 100),
            (
                "stock / otel_perf, record(x, d)",
                self.of(record, "reused", "stock") / self.of(record, "reused"),
                ">=",
                100,
            ),
            ("million add(1, d) a second, with the loop", 1e3 / self.of(add, "reused", key="raw_ns"), ">=", 10),
            ("million record(x, d) a second, with the loop", 1e3 / self.of(record, "reused", key="raw_ns"), ">=", 10),
            ("million bound add a second, with the loop", 1e3 / self.of(add, "bound", key="raw_ns"), ">=", 10),
            ("million bound record a second, with the loop", 1e3 / self.of(record, "bound", key="raw_ns"), ">=", 10),
            ("control: through a Python function / add(1, d)", self.control_ns / self.of(add, "reused"), ">", 1),
        ]
        compare = {"<=": le, "<": lt, ">=": ge, ">": gt}
        return [
            {
                "figure": name,
                "value": round(value, 3),
                "target": f"{sign} {bound:g}",
                "met": compare[sign](value, bound),
            }
            for name, value, sign, bound in wanted
        ]

    def print(self) -> None:
        """Prints the table and the figures."""
        print(f"{'case':<30} {'attributes':>10} {'dict':<8} {'impl':<18} {'ns':>9} {'spread':>7} {'x no-op':>8}")
        for case in sorted(self.cases, key=lambda c: (c["case"], c["attributes"], c["dict"], c["impl"])):
            print(
                f"{case['case']:<30} {case['attributes']:>10} {case['dict']:<8} {case['impl']:<18} {case['ns']:>9.1f} "
                f"{case['spread']:>7.1%} {case['ns'] / self.noop_ns:>8.2f}"
            )
        print(
            f"\n{'in turn, 2 attributes':<30} {'series':>10} {'':<8} {'impl':<18} {'ns':>9} {'spread':>7} {'own ns':>8}"
        )
        for turn in self.rotating():
            print(
                f"{turn['case']:<30} {turn['series']:>10} {'reused':<8} {turn['impl']:<18} {turn['ns']:>9.1f} "
                f"{turn['spread']:>7.1%} {turn['own_ns']:>8.1f} {turn['overflowed']:>8.2%}"
            )
        print(
            f"\n{'in spans, 2 attributes':<30} {'span':>10} {'dict':<8} {'impl':<18} {'ns':>9} {'spread':>7} {'of a window'}"
        )
        for one in self.spans:
            print(
                f"{one['case']:<30} {one['span']:>10} {one['dict']:<8} {one['impl']:<18} {one['ns']:>9.1f} {one['spread']:>7.1%} "
                f"{one['when']}"
            )
        literals = ", ".join(f"{count}: {ns:.1f} ns" for count, ns in self.literal_ns.items())
        print(f"\nempty native method: {self.noop_ns:.1f} ns; through a Python function: {self.control_ns:.1f} ns")
        print(f"dict literal alone, by attributes: {literals}\n")
        for figure in self.figures():
            met = "met   " if figure["met"] else "MISSED"
            print(f"{met} {figure['figure']:<56} {figure['value']:>9.2f}  {figure['target']}")


def main() -> None:
    """Measures, prints and optionally writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record", description="Cost of a recording.")
    parser.add_argument(
        "--rounds",
        type=at_least(ROUNDS_MIN),
        default=ROUNDS_DEFAULT,
        help=f"rounds over all statements (default {ROUNDS_DEFAULT}; fewer only for a quick look)",
    )
    parser.add_argument("--json", metavar="PATH", help="where to write the results")
    options = parser.parse_args()
    machine.require_release_build()
    statements = grid.statements()
    results = Results(statements, measure(statements, options.rounds))
    results.print()
    machine.write(
        options.json,
        {
            "noop_ns": results.noop_ns,
            "cases": results.cases,
            "spans": results.spans,
            "literal_ns": results.literal_ns,
            "control_ns": results.control_ns,
            "rotating": results.rotating(),
            "rounds": options.rounds,
            "figures": results.figures(),
            **machine.description(),
        },
    )


if __name__ == "__main__":
    main()
