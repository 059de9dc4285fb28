"""The shape of the source: who imports whom, how large files are, and where `unsafe` is allowed."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.peers.program import ROOT, run

SOURCE = ROOT / "src" / "otel_perf"
MODULES = sorted(SOURCE.rglob("*.py"))
RUST = sorted(path for crate in ("core", "python") for path in (ROOT / "crates" / crate / "src").rglob("*.rs"))
FUZZ = sorted((ROOT / "crates" / "fuzz").glob("[bf]*/*.rs"))


def name_of(path: Path) -> str:
    """Dotted name of a module."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def at_run_time(tree: ast.AST) -> list[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        found += [node, *at_run_time(node)]
    return found


def imports(path: Path, *, all_of_them: bool = False) -> set[str]:
    """Modules and members that a file imports, at run time or also for types."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in ast.walk(tree) if all_of_them else at_run_time(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


CORE_USERS = {
    "otel_perf._context",
    "otel_perf.config",
    "otel_perf.exporters.prometheus",
    "otel_perf.metrics",
    "otel_perf.metrics._consumer",
    "otel_perf.metrics._instruments",
    "otel_perf.metrics._views",
    "otel_perf.observer._windows",
    "otel_perf.segment",
    "otel_perf.trace._processor",
    "otel_perf.trace._sampler",
    "otel_perf.trace._spans",
    "otel_perf.trace._tracers",
    "otel_perf.trace._unsampled",
}


def test_the_core_is_imported_only_by_those_that_wrap_it() -> None:
    """Native code is behind a few modules; the others take it from them."""
    assert {name_of(path) for path in MODULES if "otel_perf._core" in imports(path)} == CORE_USERS


ALLOWED: dict[str, set[str]] = {
    "otel_perf": set(),
    "otel_perf.environment_variables": set(),
    "otel_perf.config": {"otel_perf.environment_variables"},
    "otel_perf._context": set(),
    "otel_perf._components": {"otel_perf.config"},
    "otel_perf._exit": {"otel_perf._green", "otel_perf.environment_variables"},
    "otel_perf._green": set(),
    "otel_perf._logs": {"otel_perf._components", "otel_perf._exit"},
    "otel_perf._rivals": set(),
    # The distribution, in processes that are spawned.
    "otel_perf._spawned": {"otel_perf.distro"},
    "otel_perf.segment": {"otel_perf.config", "otel_perf.environment_variables"},
    "otel_perf.hdr": set(),
    "otel_perf.exporters": set(),
    "otel_perf.exporters._http": set(),
    "otel_perf.exporters._negotiation": set(),
    "otel_perf.exporters.prometheus": {
        "otel_perf.exporters._http",
        "otel_perf.exporters._negotiation",
        "otel_perf.segment",
    },
    "otel_perf.exporters._http_answers": set(),
    "otel_perf.exporters._otlp_transport": {"otel_perf.exporters._http_answers"},
    "otel_perf.exporters.otlp": {"otel_perf.exporters._otlp_transport"},
    "otel_perf.exporters.hdr_log": {"otel_perf.hdr", "otel_perf.segment"},
    "otel_perf.trace": {
        "otel_perf.trace._processor",
        "otel_perf.trace._sampler",
        "otel_perf.trace._spans",
        "otel_perf.trace._tracers",
        "otel_perf.trace._unsampled",
    },
    "otel_perf.trace._conventions": set(),
    "otel_perf.trace._instruments": {"otel_perf.segment"},
    "otel_perf.trace._processor": {
        "otel_perf.segment",
        "otel_perf.trace._conventions",
        "otel_perf.trace._instruments",
    },
    "otel_perf.trace._sampler": set(),
    "otel_perf.trace._spans": {"otel_perf.segment", "otel_perf.trace._processor"},
    "otel_perf.trace._tracers": {"otel_perf.trace._sampler"},
    "otel_perf.trace._unsampled": {"otel_perf._context"},
    "otel_perf.metrics._averages": set(),
    "otel_perf.metrics._noop": set(),
    "otel_perf.metrics.attribute_keys": set(),
    "otel_perf.metrics._points": set(),
    "otel_perf.metrics._readers": {"otel_perf.metrics.aggregation"},
    "otel_perf.metrics._exemplars": {"otel_perf.metrics._instruments"},
    "otel_perf.metrics._views": {"otel_perf.metrics._readers"},
    "otel_perf.metrics._consumer": {
        "otel_perf.config",
        "otel_perf.metrics._exemplars",
        "otel_perf.metrics._points",
        "otel_perf.metrics._readers",
        "otel_perf.metrics._views",
        "otel_perf.segment",
    },
    "otel_perf.metrics._self_metrics": {"otel_perf.segment"},
    "otel_perf.metrics._instruments": {"otel_perf._context", "otel_perf.segment"},
    "otel_perf.metrics._meter": {"otel_perf.metrics._instruments"},
    "otel_perf.metrics._prometheus": set(),
    "otel_perf.metrics._proxies": {"otel_perf.metrics._instruments"},
    "otel_perf.metrics._provider": {
        "otel_perf.config",
        "otel_perf.metrics._consumer",
        "otel_perf.metrics._meter",
        "otel_perf.metrics._noop",
        "otel_perf.metrics._prometheus",
        "otel_perf.metrics._self_metrics",
        "otel_perf.segment",
    },
    "otel_perf.metrics._quantiles": {"otel_perf.metrics._window", "otel_perf.segment"},
    "otel_perf.metrics._window": set(),
    "otel_perf.metrics.aggregation": {"otel_perf.metrics._averages", "otel_perf.metrics._quantiles"},
    "otel_perf.metrics": {
        "otel_perf.metrics._instruments",
        "otel_perf.metrics._meter",
        "otel_perf.metrics._provider",
        "otel_perf.metrics._proxies",
        "otel_perf.metrics.aggregation",
    },
    "otel_perf.config_file._node": set(),
    "otel_perf.config_file._problems": set(),
    "otel_perf.config_file._substitution": set(),
    "otel_perf.config_file._json": {"otel_perf.config_file._node", "otel_perf.config_file._substitution"},
    "otel_perf.config_file._yaml": {"otel_perf.config_file._node", "otel_perf.config_file._substitution"},
    "otel_perf.config_file._document": {
        "otel_perf.config_file._json",
        "otel_perf.config_file._problems",
        "otel_perf.config_file._yaml",
    },
    "otel_perf.config_file._cursor": {"otel_perf.config_file._node"},
    "otel_perf.config_file._aggregations": {"otel_perf.metrics.aggregation"},
    "otel_perf.config_file.views": {
        "otel_perf.config",
        "otel_perf.config_file._aggregations",
        "otel_perf.config_file._cursor",
        "otel_perf.config_file._document",
        "otel_perf.config_file._node",
        "otel_perf.metrics.attribute_keys",
    },
    "otel_perf.config_file": {"otel_perf.config_file._problems", "otel_perf.config_file.views"},
    "otel_perf.config_file._schema": {"otel_perf.config_file._cursor", "otel_perf.config_file._node"},
    "otel_perf.config_file._refused": {"otel_perf.config", "otel_perf.config_file._node"},
    "otel_perf.config_file._metrics": {
        "otel_perf.exporters",
        "otel_perf.exporters.otlp",
        "otel_perf.exporters.prometheus",
        "otel_perf.metrics",
        "otel_perf.metrics.attribute_keys",
        "otel_perf.segment",
    },
    "otel_perf.config_file.sdk": {
        "otel_perf._exit",
        "otel_perf.config_file._cursor",
        "otel_perf.config_file._document",
        "otel_perf.config_file._metrics",
        "otel_perf.config_file._problems",
        "otel_perf.config_file._refused",
        "otel_perf.config_file._schema",
        "otel_perf.config_file.views",
        "otel_perf.metrics._noop",
    },
    "otel_perf.observer": set(),
    "otel_perf.observer._channel": set(),
    "otel_perf.observer._launch": set(),
    "otel_perf.observer._seen": set(),
    "otel_perf.observer._windows": {
        "otel_perf.config",
        "otel_perf.observer",
        "otel_perf.observer._seen",
        "otel_perf.segment",
    },
    "otel_perf.observer._default": {
        "otel_perf.observer",
        "otel_perf.observer._process",
        "otel_perf.observer._windows",
    },
    "otel_perf.observer._asked": {"otel_perf.observer._channel", "otel_perf.observer._windows"},
    "otel_perf.observer._process": {
        "otel_perf.metrics._readers",
        "otel_perf.observer",
        "otel_perf.observer._asked",
        "otel_perf.observer._channel",
        "otel_perf.observer._launch",
        "otel_perf.observer._leading",
        "otel_perf.segment",
    },
    "otel_perf.observer._leading": {"otel_perf.observer", "otel_perf.observer._default", "otel_perf.segment"},
    # What it makes readers for is loaded by name, and so is the endpoint, which imports nothing of ours.
    "otel_perf.observer._readers": {
        "otel_perf._components",
        "otel_perf.exporters",
        "otel_perf.exporters.otlp",
        "otel_perf.exporters.prometheus",
    },
    "otel_perf.observer._observing": {
        "otel_perf.config",
        "otel_perf.exporters",
        "otel_perf.exporters.hdr_log",
        "otel_perf.metrics",
        "otel_perf.observer._asked",
        "otel_perf.observer._channel",
        "otel_perf.observer._default",
        "otel_perf.observer._leading",
        "otel_perf.observer._readers",
        "otel_perf.segment",
    },
    "otel_perf.observer.__main__": {
        "otel_perf.observer._channel",
        "otel_perf.observer._launch",
        "otel_perf.observer._observing",
    },
    "otel_perf.cli": {"otel_perf.cli.doctor", "otel_perf.segment"},
    "otel_perf.cli.doctor": {"otel_perf.segment"},
    "otel_perf.cli.__main__": {"otel_perf.cli"},
    "otel_perf.distro": {
        "otel_perf._components",
        "otel_perf._exit",
        "otel_perf._logs",
        "otel_perf._spawned",
        "otel_perf.config",
        "otel_perf.config_file",
        "otel_perf.config_file.sdk",
        "otel_perf.environment_variables",
        "otel_perf.exporters",
        "otel_perf.exporters.hdr_log",
        "otel_perf.metrics",
        "otel_perf.metrics._noop",
        "otel_perf.metrics._self_metrics",
        "otel_perf.observer",
        "otel_perf.observer._launch",
        "otel_perf.observer._leading",
        "otel_perf.observer._process",
        "otel_perf.observer._readers",
        "otel_perf.segment",
        "otel_perf.trace",
    },
}


def test_imports_point_one_way() -> None:
    """Each module imports only what stands below it: settings, then segment, metrics, observer, exporters and distro."""
    known = {name_of(path) for path in MODULES}
    found = {name_of(path): (imports(path) & known) - {"otel_perf", name_of(path)} for path in MODULES}

    assert found == ALLOWED


def test_settings_know_only_names_of_the_sdk() -> None:
    """Of the SDK the settings import the names of environment variables and nothing that does anything."""
    sdk = {name for name in imports(SOURCE / "config.py") if name.startswith("opentelemetry.sdk")}

    assert {name for name in sdk if not name.startswith("opentelemetry.sdk.environment_variables")} == set()


@pytest.mark.parametrize("module", ["otel_perf", "otel_perf.environment_variables"])
def test_the_launcher_loads_nothing(module: str) -> None:
    """The package and its variables alone, which the wrapper's launcher imports, load neither OpenTelemetry nor native code."""
    code = f"import sys, {module}; print(*[m for m in sys.modules if m.startswith(('opentelemetry', 'otel_perf'))])"
    done = run("-c", code, wrapper=False)

    assert done.code == 0, done.err
    assert {name for name in done.out.split() if not name.startswith("opentelemetry.")} - {"opentelemetry"} == {
        "otel_perf",
        module,
    }
    assert "opentelemetry.sdk" not in done.out


def test_the_hook_that_every_distribution_runs_loads_nothing() -> None:
    """Where another distribution is started, looking for it loads neither the SDK nor native code."""
    code = "import sys, otel_perf._rivals; print(*[m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'otel_perf'))])"

    assert set(run("-c", code, wrapper=False).out.split()) == {"otel_perf", "otel_perf._rivals"}


def test_files_are_not_read_unless_they_are_named() -> None:
    """Configuring without a file loads neither the code that reads files nor what that needs."""
    code = (
        "import sys, otel_perf; otel_perf.configure()\n"
        "print([m for m in sys.modules if m.startswith(('otel_perf.config_file', 'yaml', 'jsonschema', 'opentelemetry.configuration'))])"
    )

    assert run("-c", code, wrapper=False, OTEL_METRICS_EXPORTER="none").out == "[]\n"


def test_the_endpoint_loads_no_server_of_others() -> None:
    """Serving metrics loads neither Prometheus' client and the stock exporter, which need not be installed, nor `ssl` and what else a web server has."""
    others = ("prometheus_client", "opentelemetry.exporter", "ssl", "http", "socketserver", "wsgiref")
    code = (
        "import sys, otel_perf.distro; before = set(sys.modules); otel_perf.configure()\n"
        "from opentelemetry import metrics; print(type(metrics.get_meter_provider()._metric_readers[0]).__name__)\n"
        f"print(*[m for m in set(sys.modules) - before if (m + '.').startswith({tuple(f'{name}.' for name in others)})])"
    )
    done = run("-c", code, wrapper=False, OTEL_METRICS_EXPORTER="prometheus", OTEL_EXPORTER_PROMETHEUS_PORT="0")

    assert (done.out, done.err) == ("PrometheusEndpoint\n\n", "")


def test_settings_do_not_load_the_sdk() -> None:
    """Importing the settings loads no part of the SDK but the names of its variables."""
    code = "import sys, otel_perf.config; print(*[m for m in sys.modules if m.startswith('opentelemetry.sdk')])"

    assert set(run("-c", code, wrapper=False).out.split()) == {
        "opentelemetry.sdk",
        "opentelemetry.sdk.environment_variables",
    }


def code_lines(path: Path) -> int:
    """Lines that are neither blank nor comment."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return sum(bool(line) and not line.startswith(("#", "//")) for line in lines)


LARGER: dict[str, int] = {
    # One module of native code has one stub.
    "src/otel_perf/_core.pyi": 760,
}
"""Files that may have more than 400 lines of code, with the number they may have."""


@pytest.mark.parametrize(
    "path", [*MODULES, SOURCE / "_core.pyi", *RUST, *FUZZ], ids=lambda path: str(path.relative_to(ROOT))
)
def test_files_are_small(path: Path) -> None:
    """No source file has more than 400 lines of code, but for the exceptions that are named."""
    assert code_lines(path) <= LARGER.get(str(path.relative_to(ROOT)), 400)


UNSAFE = {
    "core/src": {"clock.rs", "fork.rs", "local.rs", "lock.rs", "mapping.rs", "region.rs", "segment.rs", "ticker.rs"},
    "python/src": {
        "arguments.rs",
        "bound.rs",
        "context.rs",
        "dict.rs",
        "exemplars.rs",
        "guarded.rs",
        "hot.rs",
        "instance.rs",
        "instruments.rs",
        "lookup.rs",
        "number.rs",
        "plain.rs",
        "sampler.rs",
        "shapes.rs",
        "starter.rs",
    },
}


def code_of(path: Path) -> str:
    """Rust code without comments."""
    return re.sub(r"//.*", "", path.read_text())


@pytest.mark.parametrize("crate", UNSAFE)
def test_unsafe_is_only_where_it_is_named(crate: str) -> None:
    """`unsafe` is in the files of the list and in no other."""
    folder = ROOT / "crates" / crate
    found = {path.name for path in RUST if folder in path.parents and re.search(r"\bunsafe\b", code_of(path))}

    assert found <= UNSAFE[crate]


def test_the_core_names_its_unsafe_files() -> None:
    """The head of `region.rs` lists the files of the core that have `unsafe`, all of them."""
    text = (ROOT / "crates/core/src/region.rs").read_text()
    head = "\n".join(line for line in text.splitlines() if line.startswith("//!"))

    assert {*re.findall(r"`(\w+\.rs)`", head), "region.rs"} == UNSAFE["core/src"]


@pytest.mark.parametrize(
    "path",
    [path for path in RUST if path.parts[-3:-1] == ("python", "src") and path.name in UNSAFE["python/src"]],
    ids=lambda p: p.name,
)
def test_unsafe_code_says_why_it_is_sound(path: Path) -> None:
    """Files with `unsafe` of the Python crate have at least one safety comment for two uses."""
    uses = len(re.findall(r"\bunsafe\s*(\{|impl)", code_of(path)))
    comments = len(re.findall(r"SAFETY:|# Safety", path.read_text()))

    assert comments * 2 >= uses


PUBLIC = [path for path in MODULES if not any(part.startswith("_") for part in name_of(path).split("."))]


@pytest.mark.parametrize("path", PUBLIC, ids=name_of)
def test_public_modules_say_what_is_public(path: Path) -> None:
    """Every public module has an `__all__` whose names exist, without repetition."""
    module = importlib.import_module(name_of(path))

    assert hasattr(module, "__all__"), f"{path} has no __all__"
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)
