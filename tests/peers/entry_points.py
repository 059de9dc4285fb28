"""Entry points of a distribution that is not installed: a folder that the interpreter finds them in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

STOCK: Mapping[str, Mapping[str, str]] = {
    "opentelemetry_distro": {"stock": "opentelemetry.instrumentation.distro:DefaultDistro"},
    "opentelemetry_configurator": {"stock": "opentelemetry.sdk._configuration:_OTelSDKConfigurator"},
}
"""The stock distribution, which is not installed beside ours; its variables are in `AS_STOCK`."""

AS_STOCK = {"OTEL_PYTHON_DISTRO": "stock", "OTEL_PYTHON_CONFIGURATOR": "stock"}
"""Chooses the stock distribution where `STOCK` is on the path."""


def on_path(folder: Path, groups: Mapping[str, Mapping[str, str]], **modules: str) -> str:
    """Writes metadata of a distribution into a folder.

    Args:
        folder: An empty folder.
        groups: Objects by name, by group.
        **modules: Sources of modules that the objects may be in.

    Returns:
        The folder, for ``PYTHONPATH``.
    """
    metadata = folder / "peer-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: peer\nVersion: 1.0\n")
    lines = [
        line
        for group, names in groups.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in names.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return str(folder)
