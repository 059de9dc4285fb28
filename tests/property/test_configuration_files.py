"""Any file at all gives either views or one error with lines."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.view import View

from otel_perf.config_file import ConfigurationFileError, load_views
from otel_perf.config_file._cursor import at_root
from otel_perf.config_file._document import plain, read
from otel_perf.config_file._refused import check as check_refused
from otel_perf.config_file._schema import check as check_schema

KEYS = [
    "views", "meter_provider", "file_format", "selector", "stream", "instrument_name", "instrument_type", "unit", "meter_name",
    "name", "description", "aggregation", "aggregation_cardinality_limit", "attribute_keys", "included", "excluded", "default",
    "drop", "sum", "explicit_bucket_histogram", "boundaries", "record_min_max", "base2_exponential_bucket_histogram", "max_size",
    "max_scale", "hdr_histogram/otel_perf", "quantiles", "significant_digits", "window", "ewma/otel_perf", "tau", "resource",
    "tracer_provider", "processors", "batch", "simple", "exporter", "otlp_http", "tls", "sampler", "parent_based", "root",
    "readers", "periodic", "pull", "prometheus/development", "attributes", "value", "type", "composite_list", "headers_list",
    "instrumentation/development", "python", "max_queue_size", "cardinality_limits",
]  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["a", "a*", "counter", "observable_gauge", "histogram", "1.0", "${A}", "${A:-1}", "${9}", "$$", "int"]
    )
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)
AGGREGATION = st.dictionaries(
    st.sampled_from(["default", "sum", "explicit_bucket_histogram", "hdr_histogram/otel_perf", "ewma/otel_perf"]),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2) | st.none(),
    max_size=1,
)
VIEW = st.fixed_dictionaries(
    {
        "selector": st.dictionaries(
            st.sampled_from(["instrument_name", "unit", "instrument_type"]), SCALARS, max_size=2
        ),
        "stream": st.fixed_dictionaries(
            {},
            optional={
                "name": SCALARS,
                "aggregation": AGGREGATION,
                "attribute_keys": st.dictionaries(
                    st.sampled_from(["included", "excluded"]), st.lists(SCALARS, max_size=2), max_size=2
                ),
                "aggregation_cardinality_limit": SCALARS,
            },
        ),
    }
)
SETTINGS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def views_or_error(file: Path, text: str) -> None:
    """Loads the text; what is refused has a line each that names the file."""
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    found: list[View] = []
    problems: tuple[str, ...] = ()
    try:
        found = load_views(file, {"A": "a"})
    except ConfigurationFileError as error:
        problems = error.problems
    assert bool(found) is not bool(problems)
    assert all(isinstance(view, View) for view in found)
    assert all(re.match(rf"{re.escape(str(file))}(:[1-9][0-9]*)?: .", line) for line in problems)
    assert all(line.isprintable() for line in problems)


@SETTINGS
@given(VALUES | st.lists(VIEW, min_size=1, max_size=3))
def test_any_structure_gives_views_or_one_error(tmp_path: Path, value: Any) -> None:
    """A YAML and a JSON file of any structure is read whole or refused with lines, and never anything else happens."""
    views_or_error(tmp_path / "v.yaml", yaml.safe_dump(value, allow_unicode=True))
    views_or_error(tmp_path / "v.json", json.dumps(value))


@SETTINGS
@given(st.text(alphabet=st.characters() | st.sampled_from("[]{}:,-&*!|>'\"%@` \n#?$"), max_size=40))
@example("- selector: {unit: s}\n  stream: {}\n")
@example("%YAML 9.9\n---\na")
@example("a: !<> b")
@example("%TAG ! tag:x,1:\n--- !y z")
def test_any_text_gives_views_or_one_error(tmp_path: Path, text: str) -> None:
    """The same for any text at all."""
    for suffix in ("yaml", "json"):
        views_or_error(tmp_path / f"v.{suffix}", text)


@SETTINGS
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5))
def test_any_structure_can_be_checked_as_a_whole_configuration(tmp_path: Path, value: dict[str, Any]) -> None:
    """What checks a whole configuration file adds problems for any structure and never raises."""
    file = tmp_path / "c.json"
    file.write_text(json.dumps(value))
    try:
        document = read(file, {}, "file-config")
        document.problems.raise_any()
    except ConfigurationFileError:
        return
    check_schema(document, plain(document.root))
    check_refused(at_root(document))
    # The version of the format is not among what was drawn often enough.
    assert document.problems or "file_format" in value


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_what_is_drawn_includes_what_is_accepted(suffix: str, tmp_path: Path) -> None:
    """The strategy of views draws files that are accepted, so that the property is not only about refusals."""
    accepted = []

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(st.lists(VIEW, min_size=1, max_size=1))
    def draw(value: Any) -> None:
        file = tmp_path / f"v.{suffix}"
        file.write_text(json.dumps(value))
        with contextlib.suppress(ConfigurationFileError):
            accepted.append(load_views(file, {}))

    draw()
    assert accepted
