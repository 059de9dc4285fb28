"""Views from a file: all that is honoured, and one line for each thing that is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import view as views
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_perf import distro
from otel_perf.config import Settings
from otel_perf.config_file import ConfigurationFileError, load_views
from otel_perf.metrics.aggregation import EwmaAggregation, HdrHistogramAggregation
from otel_perf.metrics.attribute_keys import AttributeKeys
from tests.conftest import points_of
from tests.peers.program import run

Load = Callable[..., list[views.View]]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes a file into an empty working directory and loads its views."""
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes, name: str = "v.yaml", **env: str) -> list[views.View]:
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return load_views(name, env)

    return write


def refused(load: Load, text: str | bytes, name: str = "v.yaml", **env: str) -> list[str]:
    """The problems of a file, without its name."""
    with pytest.raises(ConfigurationFileError) as caught:
        load(text, name, **env)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(line.startswith(f"{name}:") and line.isprintable() for line in caught.value.problems)
    return [line.removeprefix(f"{name}:") for line in caught.value.problems]


def one(selector: str = "{instrument_name: i}", stream: str = "{}") -> str:
    """A file with one view."""
    return f"- selector: {selector}\n  stream: {stream}\n"


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


WRONG: list[tuple[str, list[str]]] = [
    ("", ["1: there are no views; accepted: a list of views, or a mapping with views or meter_provider"]),
    ("[]", ["1: is empty; accepted: a list with at least one item"]),
    ("views: []", ["1: views: is empty; accepted: a list with at least one item"]),
    ("views:", ["1: views: null is not accepted; accepted: a list"]),
    ("meter_provider: {}", ["1: meter_provider: views is missing"]),
    ("a: 1", ["1: a: is not known; accepted: file_format, views", "1: views is missing"]),
    ("text", ["1: there are no views; accepted: a list of views, or a mapping with views or meter_provider"]),
    ("views: [1]", ["1: views[0]: 1 is not accepted; accepted: a mapping with selector, stream"]),
    ("- selector: {unit: s}", ["1: [0]: stream is missing"]),
    (
        "file_format: 1.0\nviews: [{selector: {unit: s}, stream: {}}]",
        ["1: file_format: 1.0 is not accepted; accepted: a text"],
    ),
    (
        "file_format: '2.0'\nviews: [{selector: {unit: s}, stream: {}}]",
        ["1: file_format: '2.0' is not accepted; accepted: '1.0' and later 1.x"],
    ),
    (
        one("{}"),
        [
            (
                "1: [0].selector: selects nothing; accepted: at least one of instrument_name, instrument_type, unit, meter_name, "
                "meter_version, meter_schema_url; instrument_name '*' for all"
            )
        ],
    ),
    (one("{instrument_name: 5}"), ["1: [0].selector.instrument_name: 5 is not accepted; accepted: a text"]),
    (
        one("{instrument_type: timer}"),
        [
            (
                "1: [0].selector.instrument_type: 'timer' is not accepted; accepted: counter, gauge, histogram, observable_counter, "
                "observable_gauge, observable_up_down_counter, up_down_counter"
            )
        ],
    ),
    (
        one("{instrument_name: 9x}"),
        [
            (
                "1: [0].selector.instrument_name: '9x' can be the name of no instrument; accepted: letters, digits and _ . - / "
                "after a letter; * and ? for any"
            )
        ],
    ),
    (
        one("{unit: é}"),
        ["1: [0].selector.unit: 'é' can be the unit of no instrument; accepted: ASCII, at most 63 characters"],
    ),
    (
        one("{meter_name: ''}"),
        ["1: [0].selector.meter_name: is empty, which no meter's name is; accepted: the name of a meter"],
    ),
    (
        one(stream="{name: 9}"),
        ["2: [0].stream.name: 9 is not accepted; accepted: a text"],
    ),
    (
        one(stream="{name: a b}"),
        [
            (
                "2: [0].stream.name: 'a b' can be the name of no metric; accepted: a letter, then at most 254 letters, digits and "
                "_ . - /"
            )
        ],
    ),
    *(
        (
            one(selector, "{name: x}"),
            [
                (
                    "2: [0].stream.name: 'x' would be the name of all instruments that the selector may match; accepted: a selector "
                    "with an instrument_name without * and ?"
                )
            ],
        )
        for selector in ("{instrument_name: a*}", "{instrument_name: 'a?'}", "{instrument_type: counter}")
    ),
    *(
        (
            one(stream=f"{{aggregation_cardinality_limit: {limit}}}"),
            [
                f"2: [0].stream.aggregation_cardinality_limit: {shown} is not accepted; accepted: an integer from 1 to 1000000"
            ],
        )
        for limit, shown in (
            ("0", "0"),
            ("1000001", "1000001"),
            ("1.5", "1.5"),
            ("true", "true"),
            ("'5'", "'5'"),
            (".nan", "nan"),
        )
    ),
    (
        one(stream="{attribute_keys: {included: []}}"),
        ["2: [0].stream.attribute_keys.included: is empty; accepted: a list with at least one item"],
    ),
    (
        one(stream="{attribute_keys: {excluded: [a, 1]}}"),
        ["2: [0].stream.attribute_keys.excluded[1]: 1 is not accepted; accepted: a text"],
    ),
    (
        one(stream="{attribute_keys: }"),
        ["2: [0].stream.attribute_keys: null is not accepted; accepted: a mapping with included, excluded"],
    ),
    (
        one("{unit: s}") + one("{unit: s}"),
        ["3: [1]: selects the same instruments for the same name as [0]; accepted: another selector or name"],
    ),
]


@pytest.mark.parametrize(("text", "problems"), WRONG)
def test_what_is_wrong_is_one_line(text: str, problems: list[str], load: Load) -> None:
    """A wrong thing has a line with its place, what is wrong and what is accepted, and nothing is loaded."""
    assert refused(load, text) == problems


ONE_OF = (
    "exactly one of default, drop, explicit_bucket_histogram, base2_exponential_bucket_histogram, last_value, sum, "
    "hdr_histogram/otel_perf, ewma/otel_perf"
)
WRONG_AGGREGATIONS: list[tuple[str, list[str]]] = [
    ("{}", [f": has 0 keys; accepted: {ONE_OF}"]),
    ("{sum: , drop: }", [f": has 2 keys; accepted: {ONE_OF}"]),
    ("{histogram: }", [f".histogram: is not known; accepted: {ONE_OF.removeprefix('exactly one of ')}"]),
    ("{sum: {a: 1}}", [".sum.a: is not known; accepted: nothing"]),
    ("{drop: 1}", [".drop: 1 is not accepted; accepted: nothing or {}"]),
    (
        "{explicit_bucket_histogram: {boundaries: }}",
        [".explicit_bucket_histogram.boundaries: null is not accepted; accepted: a list"],
    ),
    (
        "{explicit_bucket_histogram: {boundaries: [2, 1, x, .inf, 3, 3]}}",
        [
            f".explicit_bucket_histogram.boundaries[{i}]: {problem}"
            for i, problem in (
                (1, "1 is not larger than the one before; accepted: numbers in increasing order"),
                (2, "'x' is not accepted; accepted: a finite number"),
                (3, "inf is not accepted; accepted: a finite number"),
                (5, "3 is not larger than the one before; accepted: numbers in increasing order"),
            )
        ],
    ),
    (
        "{base2_exponential_bucket_histogram: {max_scale: 21, max_size: 1, record_min_max: 1}}",
        [
            ".base2_exponential_bucket_histogram.max_scale: 21 is not accepted; accepted: an integer from -10 to 20",
            ".base2_exponential_bucket_histogram.max_size: 1 is not accepted; accepted: an integer from 2 to 16384",
            ".base2_exponential_bucket_histogram.record_min_max: 1 is not accepted; accepted: true, false",
        ],
    ),
    ("{ewma/otel_perf: {tau: soon}}", [".ewma/otel_perf.tau: 'soon' is not accepted; accepted: a finite number"]),
    (
        "{hdr_histogram/otel_perf: {digits: 3, quantiles: [half]}}",
        [
            ".hdr_histogram/otel_perf.digits: is not known; accepted: significant_digits, quantiles, window",
            ".hdr_histogram/otel_perf.quantiles[0]: 'half' is not accepted; accepted: a finite number",
        ],
    ),
]


@pytest.mark.parametrize(("aggregation", "problems"), WRONG_AGGREGATIONS)
def test_a_wrong_aggregation_is_one_line_each(aggregation: str, problems: list[str], load: Load) -> None:
    """Each wrong option of an aggregation has a line."""
    text = one(stream=f"{{aggregation: {aggregation}}}")

    assert refused(load, text) == [f"2: [0].stream.aggregation{problem}" for problem in problems]


@pytest.mark.parametrize(
    "aggregation", ["{ewma/otel_perf: {tau: -1}}", "{hdr_histogram/otel_perf: {significant_digits: 9}}"]
)
def test_our_aggregations_say_themselves_what_they_refuse(aggregation: str, load: Load) -> None:
    """A number that one of our aggregations does not take is a line at the aggregation with its own words."""
    (line,) = refused(load, one(stream=f"{{aggregation: {aggregation}}}"))

    assert line.startswith("2: [0].stream.aggregation.")
    assert "accepted" in line


UNFIT = [
    *(
        (kind, f"observable_{of}")
        for kind in ("explicit_bucket_histogram", "hdr_histogram/otel_perf")
        for of in ("counter", "gauge")
    ),
    ("base2_exponential_bucket_histogram", "observable_up_down_counter"),
]


@pytest.mark.parametrize(("aggregation", "kind"), UNFIT)
def test_an_aggregation_must_fit_the_instruments(aggregation: str, kind: str, load: Load) -> None:
    """A histogram of observable instruments, which would be left out with a warning, is refused."""
    text = one(f"{{instrument_type: {kind}}}", f"{{aggregation: {{{aggregation}: }}}}")

    assert refused(load, text) == [
        f"2: [0].stream.aggregation.{aggregation}: cannot be the aggregation of an instrument of type {kind}"
    ]


def test_all_problems_are_in_one_error(load: Load) -> None:
    """One error lists everything in the order of the lines, and goes through pickle, as between processes."""
    text = (
        "views:\n- selector:\n    nonsense: 1\n    unit: s\n  stream:\n    aggregation: {sum: , x: }\n"
        "- selector: {instrument_name: '${9}'}\n  stream: {name: n}\n- 5\n"
    )

    assert [line.split(":")[0] for line in refused(load, text)] == ["3", "6", "6", "7", "9"]
    with pytest.raises(ConfigurationFileError) as caught:
        load(text)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.problems, str(again)) == (caught.value.problems, str(caught.value))


def test_a_line_break_in_a_value_does_not_break_the_line(load: Load) -> None:
    """What a file says appears escaped, so that each problem stays one line."""
    (line,) = refused(load, one("{instrument_name: i, 'a\\n\\u001b': 1}".replace("'", '"')))

    assert line.startswith(r"1: [0].selector.a\n\x1b: is not known")


@pytest.mark.parametrize("name", ["v.yaml", "v.json"])
def test_lines_are_those_of_keys_and_items(name: str, load: Load) -> None:
    """A problem has the line of its key or item, in YAML and in JSON."""
    lines = [
        "[",
        " {",
        '  "selector":',
        '   {"unit": "s",',
        '    "bad": 1},',
        '  "stream": {"attribute_keys":',
        '   {"included": ["a",',
        "    2]}}",
        " }",
        "]",
    ]

    assert [problem.split(":")[:2] for problem in refused(load, "\n".join(lines), name)] == [
        ["5", " [0].selector.bad"],
        ["8", " [0].stream.attribute_keys.included[1]"],
    ]


def test_a_provider_gets_the_views_of_the_setting(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configurator hands the views of OTEL_PERF_VIEWS_FILE to the provider."""
    load(one("{instrument_name: of.the.file}"))
    given: list[Any] = []

    class Provider:
        def __init__(self, *_: Any, views: Any, **__: Any) -> None:
            given.extend(views)

    monkeypatch.setattr(distro, "MeterProvider", Provider)
    monkeypatch.setattr(distro, "open_default", lambda _settings: None)
    monkeypatch.setattr(distro, "set_meter_provider", lambda _provider: None)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    parts = distro._Parts(Settings(views_file=Path("v.yaml")), {}, raise_errors=True)
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
