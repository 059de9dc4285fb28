"""docs/differences.md names every wanted difference, and nothing else, each with its parts."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conformance import test_other_differences as others
from tests.conformance import test_wanted_differences as table
from tests.integration import test_upstream_faults as faults
from tests.peers.program import ROOT

SECTIONS: dict[str, str] = {
    name.strip(): re.split(r"^## ", text, flags=re.MULTILINE)[0]
    for name, _, text in (
        section.partition("\n") for section in (ROOT / "docs" / "differences.md").read_text().split("\n### ")[1:]
    )
}
EXPORTS = {
    "what prometheus_client has of its own": "test_what_prometheus_client_has_is_not_shown",
    "an export after one that failed": "test_attempts_after_a_failure_come_sooner_than_the_interval",
    "the end of a program": "test_no_receiver_holds_the_program_up",
}
WORKERS = {
    "gauges of several workers": "test_gauges_of_three_processes_become_what_the_mode_says",
    "metrics of processes and of the machine": "test_all_requests_are_counted_on_one_endpoint",
    "deltas when another worker takes over": "test_deltas_go_on_where_the_last_leader_has_left_off",
}
SPANS = {
    "spans that are not sampled": "test_the_setting_says_which_spans_are_measured",
    "metrics of spans": "test_a_client_that_records_a_metric_itself_is_left_to_it",
}
SHOWN = others.SHOWN | faults.SHOWN | EXPORTS | WORKERS | SPANS
PARTS = ("SDK", "Ours", "Why", "Upstream", "Test")
UPSTREAM = re.compile(r"<https://github\.com/open-telemetry/opentelemetry-(python|specification)/(issues|pull)/\d+>")


def parts(name: str) -> dict[str, str]:
    """Text by part of a section."""
    return dict(re.findall(r"^- (\w+): (.*(?:\n  .*)*)", SECTIONS[name], flags=re.MULTILINE))


def test_the_page_and_the_tests_name_the_same_differences() -> None:
    """Each difference of the table and of the other tests has its section, and each section its difference."""
    assert set(SECTIONS) == {*table.DIFFERENCES, *SHOWN}
    assert not set(table.DIFFERENCES) & set(SHOWN)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_difference_says_all_there_is_to_say(name: str) -> None:
    """A section has what the SDK does, what we do, why, where upstream knows of it, and the test that shows it."""
    found = parts(name)

    assert tuple(found) == PARTS
    assert found["Upstream"].startswith("none known") or UPSTREAM.match(found["Upstream"])
    assert "github.com" not in UPSTREAM.sub("", found["Upstream"])


@pytest.mark.parametrize("name", SECTIONS)
def test_the_named_test_shows_the_difference(name: str) -> None:
    """The test that a section names exists, and is the one of that difference."""
    path, _, function = parts(name)["Test"].strip("`").partition("::")
    tree = ast.parse((ROOT / path).read_text())

    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert function == SHOWN.get(name, table.test_it_differs_as_described.__name__)
