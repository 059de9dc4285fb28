"""What a file with views is refused for: each thing by line, place, what is wrong and what is accepted, all in one error."""

from __future__ import annotations

import pickle

import pytest

from otel_perf.config_file import ConfigurationFileError
from tests.unit.views_file import Load, one, refused

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
