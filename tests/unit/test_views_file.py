"""Views from a file: all that is honoured, and how a program gets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import view as views
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_perf import distro
from otel_perf.config import Settings
from otel_perf.config_file import ConfigurationFileError
from otel_perf.metrics.aggregation import EwmaAggregation, HdrHistogramAggregation
from otel_perf.metrics.attribute_keys import AttributeKeys
from tests.conftest import points_of
from tests.peers.program import run
from tests.unit.views_file import Load, one

SELECTORS: list[tuple[str, str, Any]] = [
    ("{instrument_name: 'http.*.x?'}", "_instrument_name", "http.*.x?"),
    ("{instrument_name: Upper}", "_instrument_name", "Upper"),
    ("{unit: s}", "_instrument_unit", "s"),
    ("{unit: ''}", "_instrument_unit", ""),
    ("{unit: '[degF]*'}", "_instrument_unit", "[[]degF][*]"),
    ("{meter_name: m}", "_meter_name", "m"),
    ("{meter_version: '1'}", "_meter_version", "1"),
    ("{meter_schema_url: http://x}", "_meter_schema_url", "http://x"),
    ("{instrument_type: counter}", "_instrument_type", sdk.Counter),
    ("{instrument_type: up_down_counter}", "_instrument_type", sdk.UpDownCounter),
    ("{instrument_type: histogram}", "_instrument_type", sdk.Histogram),
    ("{instrument_type: gauge}", "_instrument_type", sdk._Gauge),
    ("{instrument_type: observable_counter}", "_instrument_type", sdk.ObservableCounter),
    ("{instrument_type: observable_up_down_counter}", "_instrument_type", sdk.ObservableUpDownCounter),
    ("{instrument_type: observable_gauge}", "_instrument_type", sdk.ObservableGauge),
    ("{instrument_name: i, instrument_type: null, unit: ~}", "_instrument_type", None),
]


@pytest.mark.parametrize(("selector", "attribute", "expected"), SELECTORS)
def test_selectors_are_those_of_the_schema(selector: str, attribute: str, expected: Any, load: Load) -> None:
    """Each criterion reaches the view, a unit as it is written, and null is as if it were not there."""
    (view,) = load(one(selector))

    assert getattr(view, attribute) == expected
    others = {name for _, name, _ in SELECTORS} - {attribute, "_instrument_name"}
    assert all(getattr(view, other) is None for other in others)


STREAMS: list[tuple[str, dict[str, Any]]] = [
    ("{}", {"_name": None, "_description": None, "_attribute_keys": None}),
    ("{name: n.m, description: text}", {"_name": "n.m", "_description": "text"}),
    ("{name: null, description: null}", {"_name": None, "_description": None}),
    ("{description: ''}", {"_description": ""}),
    ("{aggregation_cardinality_limit: 7}", {"_aggregation_cardinality_limit": 7}),
    ("{aggregation_cardinality_limit: 1000000}", {"_aggregation_cardinality_limit": 1_000_000}),
    ("{attribute_keys: {included: [a, b*]}}", {"_attribute_keys": AttributeKeys(["a", "b*"])}),
    ("{attribute_keys: {excluded: [a]}}", {"_attribute_keys": AttributeKeys(None, ["a"])}),
    ("{attribute_keys: {included: [a*], excluded: [ab]}}", {"_attribute_keys": AttributeKeys(["a*"], ["ab"])}),
    ("{attribute_keys: {}}", {"_attribute_keys": None}),
]


@pytest.mark.parametrize(("stream", "expected"), STREAMS)
def test_streams_are_those_of_the_schema(stream: str, expected: dict[str, Any], load: Load) -> None:
    """Each setting of a stream reaches the view; the aggregation is the default one if none is named."""
    (view,) = load(one(stream=stream))

    assert {name: getattr(view, name) for name in expected} == expected
    assert isinstance(view._aggregation, views.DefaultAggregation)


AGGREGATIONS: list[tuple[str, type, dict[str, Any]]] = [
    ("{default: }", views.DefaultAggregation, {}),
    ("{default: {}}", views.DefaultAggregation, {}),
    ("{drop: }", views.DropAggregation, {}),
    ("{sum: }", views.SumAggregation, {}),
    ("{last_value: }", views.LastValueAggregation, {}),
    (
        "{explicit_bucket_histogram: }",
        views.ExplicitBucketHistogramAggregation,
        {"_boundaries": None, "_record_min_max": True},
    ),
    ("{explicit_bucket_histogram: {boundaries: []}}", views.ExplicitBucketHistogramAggregation, {"_boundaries": []}),
    (
        "{explicit_bucket_histogram: {boundaries: [-1, 0.5, 1e3], record_min_max: false}}",
        views.ExplicitBucketHistogramAggregation,
        {"_boundaries": [-1, 0.5, 1000], "_record_min_max": False},
    ),
    (
        "{base2_exponential_bucket_histogram: {max_size: null}}",
        views.ExponentialBucketHistogramAggregation,
        {"_max_size": 160, "_max_scale": 20, "_record_min_max": True},
    ),
    (
        "{base2_exponential_bucket_histogram: {max_scale: -10, max_size: 2, record_min_max: false}}",
        views.ExponentialBucketHistogramAggregation,
        {"_max_size": 2, "_max_scale": -10, "_record_min_max": False},
    ),
    ("{hdr_histogram/otel_perf: }", HdrHistogramAggregation, {"significant_digits": 3}),
    (
        "{hdr_histogram/otel_perf: {significant_digits: 2, quantiles: [0.5, 0.999], window: 10}}",
        HdrHistogramAggregation,
        {"significant_digits": 2, "quantiles": (0.5, 0.999), "window": 10.0},
    ),
    ("{hdr_histogram/otel_perf: {quantiles: []}}", HdrHistogramAggregation, {"quantiles": ()}),
    ("{ewma/otel_perf: }", EwmaAggregation, {"tau": 60.0}),
    ("{ewma/otel_perf: {tau: 10}}", EwmaAggregation, {"tau": 10.0}),
]


@pytest.mark.parametrize(("aggregation", "kind", "options"), AGGREGATIONS)
def test_aggregations_are_the_schemas_and_ours(
    aggregation: str, kind: type, options: dict[str, Any], load: Load
) -> None:
    """Each aggregation with its options is built; what is left out or null has the default."""
    (view,) = load(one(stream=f"{{aggregation: {aggregation}}}"))

    assert type(view._aggregation) is kind
    assert {name: getattr(view._aggregation, name) for name in options} == options


SHAPES = [
    "views:\n- {selector: {unit: s}, stream: {}}\n",
    "file_format: '1.0'\nviews:\n- {selector: {unit: s}, stream: {}}\n",
    "- {selector: {unit: s}, stream: {}}\n",
    "file_format: '1.1'\nresource: {}\nmeter_provider:\n  readers: []\n  views: [{selector: {unit: s}, stream: {}}]\n",
]


@pytest.mark.parametrize("text", SHAPES)
def test_the_shapes_of_a_file(text: str, load: Load) -> None:
    """A list, a mapping with views, and a whole configuration file give the same, in YAML and in JSON."""
    (view,) = load(text)
    (same,) = load(json.dumps(yaml.safe_load(text)), "v.json")

    assert view._instrument_unit == same._instrument_unit == "s"


def test_views_stay_in_order(load: Load) -> None:
    """The views are in the order of the file."""
    assert [view._instrument_name for view in load("".join(one(f"{{instrument_name: i{i}}}") for i in range(5)))] == [
        f"i{i}" for i in range(5)
    ]


def test_the_stock_provider_takes_the_views(load: Load) -> None:
    """What is read are views of the SDK: its own provider renames, leaves out attributes and uses the boundaries."""
    found = load(
        "- selector: {instrument_name: latency, meter_name: m}\n"
        "  stream:\n"
        "    name: renamed\n"
        "    aggregation: {explicit_bucket_histogram: {boundaries: [1, 2]}}\n"
        "    attribute_keys: {excluded: [user*]}\n"
        "- selector: {instrument_name: dropped}\n"
        "  stream: {aggregation: {drop: }}\n"
    )
    reader = InMemoryMetricReader()
    provider = sdk.MeterProvider([reader], shutdown_on_exit=False, views=found)
    meter = provider.get_meter("m")
    meter.create_histogram("latency").record(1.5, {"user.id": 1, "kind": "x"})
    meter.create_counter("dropped").add(1)
    points = points_of(reader.get_metrics_data())
    provider.shutdown()

    ((key, point),) = points.items()
    assert key == ("renamed", frozenset({("kind", "x")}))
    assert (list(point.explicit_bounds), list(point.bucket_counts)) == ([1, 2], [0, 1, 0])


def test_a_provider_gets_the_views_of_the_setting(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configurator hands the views of OTEL_PERF_VIEWS_FILE to the provider."""
    load(one("{instrument_name: of.the.file}"))
    given: list[Any] = []

    class Provider:
        def __init__(self, *_: Any, views: Any, **__: Any) -> None:
            given.extend(views)

        def serve_by(self, _endpoints: Any) -> None:
            pass

    monkeypatch.setattr(distro, "MeterProvider", Provider)
    monkeypatch.setattr(distro, "open_default", lambda _settings: None)
    monkeypatch.setattr(distro, "_observe", lambda *_: None)
    monkeypatch.setattr(distro, "set_meter_provider", lambda _provider: None)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    parts = distro._Parts(Settings(views_file=Path("v.yaml"), self_metrics=False), {}, raise_errors=True)
    parts.metrics()

    assert [view._instrument_name for view in given] == ["of.the.file"]


def test_a_refused_file_raises_in_code_and_is_one_line_under_the_wrapper(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    """With `configure()` a refused file raises; under the wrapper it is one line with all problems, and there are no views."""
    with pytest.raises(ConfigurationFileError):
        load("- 1\n- 2\n")
    settings = Settings(views_file=Path("v.yaml"))
    with pytest.raises(ConfigurationFileError):
        distro._Parts(settings, {}, raise_errors=True)._views()

    assert distro._Parts(settings, {}, raise_errors=False)._views() == []
    (message,) = caplog.messages
    assert message.startswith("No views: ConfigurationFileError: v.yaml:1: [0]: 1 is not accepted; ")
    assert " | v.yaml:2: [1]: 2 is not accepted; " in message


def test_yaml_needs_the_extra_and_json_does_not(tmp_path: Path) -> None:
    """Without PyYAML a JSON file is read, and a YAML file is refused with the command that installs what it needs."""
    (tmp_path / "v.json").write_text('[{"selector": {"unit": "s"}, "stream": {}}]')
    (tmp_path / "v.yaml").write_text(one())
    code = (
        "import os, sys; sys.modules['yaml'] = None; os.chdir(sys.argv[1])\n"
        "from otel_perf.config_file import load_views\n"
        "print(len(load_views('v.json')))\n"
        "try: load_views('v.yaml')\n"
        "except ValueError as error: print(error)\n"
    )
    done = run("-c", code, str(tmp_path), wrapper=False)

    assert done.out.splitlines() == [
        "1",
        'v.yaml: YAML needs PyYAML: pip install "otel-perf[views]"; accepted: .json without it',
    ]
