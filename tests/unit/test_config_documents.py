"""Reading files: types as in YAML 1.2, environment variables as the specification says, and lines."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from otel_perf.config_file import load_views
from otel_perf.config_file._document import plain, read
from otel_perf.config_file._problems import ConfigurationFileError
from otel_perf.config_file._substitution import substitute
from tests.peers.program import ROOT

ENV = {
    "STRING_VALUE": "value",
    "BOOL_VALUE": "true",
    "INT_VALUE": "1",
    "FLOAT_VALUE": "1.1",
    "HEX_VALUE": "0xdeadbeef",
    "INVALID_MAP_VALUE": "value\nkey:value",
    "DO_NOT_REPLACE_ME": "Never use this value",
    "REPLACE_ME": "${DO_NOT_REPLACE_ME}",
    "VALUE_WITH_ESCAPE": "value$$",
    "EMPTY": "",
}


def content(tmp_path: Path, text: str | bytes, name: str = "f.yaml") -> Any:
    """What a file holds."""
    file = tmp_path / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    document = read(file, ENV, "views")
    document.problems.raise_any()
    return plain(document.root)


def problems(tmp_path: Path, text: str | bytes, name: str = "f.yaml") -> list[str]:
    """The problems of a file, without its path."""
    with pytest.raises(ConfigurationFileError) as caught:
        content(tmp_path, text, name)
    return [line.removeprefix(f"{tmp_path / name}:").strip() for line in caught.value.problems]


SUBSTITUTIONS: list[tuple[str, Any]] = [
    ("${STRING_VALUE}", "value"),
    ("${BOOL_VALUE}", True),
    ("${INT_VALUE}", 1),
    ("${FLOAT_VALUE}", 1.1),
    ("${HEX_VALUE}", 3735928559),
    ('"${STRING_VALUE}"', "value"),
    ('"${BOOL_VALUE}"', "true"),
    ('"${INT_VALUE}"', "1"),
    ('"${FLOAT_VALUE}"', "1.1"),
    ('"${HEX_VALUE}"', "0xdeadbeef"),
    ("${env:STRING_VALUE}", "value"),
    ("${INVALID_MAP_VALUE}", "value\nkey:value"),
    ("foo ${STRING_VALUE} ${FLOAT_VALUE}", "foo value 1.1"),
    ("${INT_VALUE}${INT_VALUE}", "11"),
    ("${UNDEFINED_KEY}", None),
    ("${EMPTY}", None),
    ("${UNDEFINED_KEY:-fallback}", "fallback"),
    ("${EMPTY:-fallback}", "fallback"),
    ("${UNDEFINED_KEY:-5}", 5),
    ("${UNDEFINED_KEY:-}", None),
    ("${REPLACE_ME}", "${DO_NOT_REPLACE_ME}"),
    ("${UNDEFINED_KEY:-${STRING_VALUE}}", "${STRING_VALUE}"),
    ("$${STRING_VALUE}", "${STRING_VALUE}"),
    ("$$${STRING_VALUE}", "$value"),
    ("$$$${STRING_VALUE}", "$${STRING_VALUE}"),
    ("$${STRING_VALUE:-fallback}", "${STRING_VALUE:-fallback}"),
    ("$${STRING_VALUE:-${STRING_VALUE}}", "${STRING_VALUE:-value}"),
    ("${UNDEFINED_KEY:-$${UNDEFINED_KEY}}", "${UNDEFINED_KEY:-${UNDEFINED_KEY}}"),
    ("${VALUE_WITH_ESCAPE}", "value$$"),
    ("a $$ b", "a $ b"),
    ("a $ b", "a $ b"),
    ("$STRING_VALUE", "$STRING_VALUE"),
]


@pytest.mark.parametrize(("text", "value"), SUBSTITUTIONS)
def test_variables_are_put_in_as_the_specification_says(text: str, value: Any, tmp_path: Path) -> None:
    """Each row of the specification's table: references, defaults, escapes, and the type after the substitution."""
    found = content(tmp_path, f"key: {text}\n")["key"]

    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("text", ["${STRING_VALUE:?error}", "${1API_KEY}", "${API_$KEY}", "${}", "a ${ STRING_VALUE}"])
def test_other_references_are_refused(text: str, tmp_path: Path) -> None:
    """What looks like a reference and is none is a problem with its line, in YAML and in JSON."""
    reference = text[text.index("$") :]
    expected = f"2: key: {reference} is no reference to an environment variable; accepted: ${{NAME}}, ${{NAME:-default}}, $$ for a dollar sign"

    assert problems(tmp_path, f"a: 1\nkey: '{text}'") == [expected]
    assert problems(tmp_path, f'{{"a": 1,\n"key": "{text}"}}', "f.json") == [expected]


def test_keys_are_not_substituted(tmp_path: Path) -> None:
    """A reference in a key is the key."""
    assert content(tmp_path, "${STRING_VALUE}: 1") == {"${STRING_VALUE}": 1}
    assert content(tmp_path, '{"${STRING_VALUE}": "${INT_VALUE}"}', "f.json") == {"${STRING_VALUE}": "1"}


def test_an_anchored_value_is_substituted_once(tmp_path: Path) -> None:
    """A value that is used twice through an alias is escaped once."""
    assert content(tmp_path, "a: &x $${STRING_VALUE}\nb: *x") == {"a": "${STRING_VALUE}", "b": "${STRING_VALUE}"}


def test_an_unterminated_reference_is_text() -> None:
    """A dollar sign and brace without an end are no reference."""
    assert substitute("${A", {}) == "${A"


CORE: list[tuple[str, Any]] = [
    ("", None),
    ("~", None),
    ("Null", None),
    ("TRUE", True),
    ("False", False),
    ("yes", "yes"),
    ("on", "on"),
    ("1:30", "1:30"),
    ("010", 10),
    ("0o17", 15),
    ("0xFF", 255),
    ("-7", -7),
    ("1_000", "1_000"),
    ("1e3", 1000.0),
    (".5", 0.5),
    ("5.", 5.0),
    ("-.inf", -math.inf),
    (".INF", math.inf),
    ("2001-01-01", "2001-01-01"),
    ("'5'", "5"),
    ("!!str 5", "5"),
    ("!!int '5'", 5),
    ("!!float 1", 1),
    ("!!bool 'true'", True),
    ("!!null ''", None),
]


@pytest.mark.parametrize(("text", "value"), CORE)
def test_types_are_those_of_the_core_schema(text: str, value: Any, tmp_path: Path) -> None:
    """Plain values have the types of YAML 1.2, so that on, 1:30 and dates are text."""
    found = content(tmp_path, f"key: {text}\n")["key"]

    assert (type(found), found) == (type(value), value)


def test_nan_is_a_number(tmp_path: Path) -> None:
    """The word for no number is one, which those who read it refuse."""
    assert math.isnan(content(tmp_path, ".nan"))


def test_merged_mappings_yield_to_what_is_written(tmp_path: Path) -> None:
    """A merge key adds what is not there, the first of several winning."""
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd: {<<: *b}\ne: {'<<': 1}"

    assert content(tmp_path, text) == {
        "a": {"x": 1, "y": 1},
        "b": {"y": 2, "z": 2},
        "c": {"x": 3, "y": 1, "z": 2},
        "d": {"y": 2, "z": 2},
        "e": {"<<": 1},
    }


TOO_MUCH = "has more than 64 levels or 100000 values"
BAD_YAML: list[tuple[str | bytes, str]] = [
    ("a: [1\nb: 2", "2: is not YAML: while parsing a flow sequence, expected ',' or ']', but got ':'"),
    (
        "a: 1\n\tb: 2",
        "2: is not YAML: while scanning for the next token, found character '\\t' that cannot start any token",
    ),
    ("a\n---\nb", "2: is not YAML: expected a single document in the stream, but found another document"),
    ("a: *x", "1: is not YAML: found undefined alias 'x'"),
    ("a: \x07", "1: is not YAML: special characters are not allowed"),
    ("a: 1\na: 2", "2: a: is there twice"),
    ("? [a]\n: 1", "1: has a key that is no text"),
    ("a: !!timestamp 2001-01-01", "1: a: has the tag 'tag:yaml.org,2002:timestamp'; accepted: no tag"),
    ("a: !x {b: 1}", "1: a: has the tag '!x'; accepted: no tag"),
    ("a: !!int five", "1: a: 'five' has the tag 'tag:yaml.org,2002:int'; accepted: no tag"),
    ("a: !!int 'true'", "1: a: 'true' has the tag 'tag:yaml.org,2002:int'; accepted: no tag"),
    ("a: {<<: 1}", "1: a.<<: is not a mapping or a list of mappings"),
    ('a: "\\ud800"', "1: a: is not valid Unicode"),
    ("a: " + "9" * 5000, "1: a: has too many digits"),
    ("a: 0x" + "f" * 5000, "1: a: has too many digits"),
    ("a: &x [*x]", TOO_MUCH),
    ("[" * 100 + "]" * 100, TOO_MUCH),
    ("[" * 5000, TOO_MUCH),
    (
        "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)),
        TOO_MUCH,
    ),
    (b"a: 1\nb: \xff", "2: is not UTF-8"),
    ('a: "\\U00110000"', "is not YAML: chr() arg not in range(0x110000)"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_YAML, ids=range(len(BAD_YAML)))
def test_what_is_no_yaml_is_one_problem(text: str | bytes, problem: str, tmp_path: Path) -> None:
    """Whatever cannot be read, or would take much memory or time, is a problem, with its line if it has one."""
    assert problems(tmp_path, text) == [problem]


def test_json_is_what_the_standard_library_reads(tmp_path: Path) -> None:
    """All kinds of JSON values are read as they are, with a byte order mark too."""
    text = '\ufeff {"a": [1, -2.5, 1e3, true, false, null, "x\\u00e9\\n"], "b": {}, "c": [], "d": 0}\n'

    assert content(tmp_path, text, "f.json") == {
        "a": [1, -2.5, 1000.0, True, False, None, "xé\n"],
        "b": {},
        "c": [],
        "d": 0,
    }


BAD_JSON: list[tuple[str, str]] = [
    ("", "1: is not JSON: a value is expected"),
    ("{\n", "2: is not JSON: a key is expected"),
    ('{"a"\n1}', "2: is not JSON: a colon is expected"),
    ('{"a": 1\n"b": 2}', "2: is not JSON: a comma or a closing brace is expected"),
    ("[1\n2]", "2: is not JSON: a comma or a closing bracket is expected"),
    ("[1]\n[2]", "2: is not JSON: there is more after the value"),
    ("[NaN]", "1: is not JSON: a value is expected"),
    ('["a\n"]', "1: is not JSON: Invalid control character at"),
    ('["a', "1: is not JSON: Unterminated string starting at"),
    ('["\\ud800"]', "1: [0]: is not valid Unicode"),
    ('{"a": 1,\n "a": 2}', "2: a: is there twice"),
    ("9" * 5000, "1: is not JSON: the number has too many digits"),
    ("[" * 5000, f"1: is not JSON: it {TOO_MUCH}"),
    ("[" + "1," * 100_001, f"1: is not JSON: it {TOO_MUCH}"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_JSON, ids=range(len(BAD_JSON)))
def test_what_is_no_json_is_one_problem(text: str, problem: str, tmp_path: Path) -> None:
    """Whatever is no JSON is a problem with its line."""
    assert problems(tmp_path, text, "f.json") == [problem]


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """A missing file, a directory, another kind of name and a file of more than a mebibyte are said by name."""
    (tmp_path / "d.yaml").mkdir()
    (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 20) + b"#")
    found = {}
    for name in ("missing.yaml", "d.yaml", "f.toml", "large.yaml", "a\0b.yaml"):
        with pytest.raises(ConfigurationFileError) as caught:
            read(tmp_path / name, {}, "views")
        (found[name],) = (line.partition(": ")[2] for line in caught.value.problems)

    assert found.pop("a\0b.yaml").startswith(("cannot be read: ", "there is no such file"))
    assert found == {
        "missing.yaml": "there is no such file",
        "d.yaml": "is a directory or device",
        "f.toml": "the name ends in '.toml'; accepted: .yaml, .yml, .json",
        "large.yaml": "is larger than 1048576 bytes",
    }


def test_lines_of_what_is_not_there_are_those_of_what_would_hold_it(tmp_path: Path) -> None:
    """The line of a path is that of its last step that exists."""
    file = tmp_path / "f.yaml"
    file.write_text("a:\n  b:\n    - 1\n    - c: 2\n")
    document = read(file, {}, "views")

    paths: list[list[str | int]] = [[], ["a"], ["a", "b", 1, "c"], ["a", "b", 7, "c"], ["x"]]

    assert [document.line(path) for path in paths] == [1, 1, 4, 2, 1]


def test_the_examples_of_the_documentation_are_accepted(tmp_path: Path) -> None:
    """The YAML of docs/views.md and the views of docs/configuration-file.md are loaded without a problem."""
    found = {}
    for page in ("views", "configuration-file"):
        ((file, text),) = [
            (tmp_path / f"{page}.yaml", block.partition("```")[0])
            for block in (ROOT / "docs" / f"{page}.md").read_text().split("```yaml\n")[1:]
        ]
        file.write_text(text)
        found[page] = len(load_views(file))

    assert found == {"views": 3, "configuration-file": 1}
