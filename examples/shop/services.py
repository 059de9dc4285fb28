"""Responsible for how the shop and its supplier are started: commands and environment, nothing about their life."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from examples.shop.children import Child

SERVICE_NAME = "shop"
WORKERS = 2

_ROOT = Path(__file__).resolve().parents[2]
# Not resolved: in a virtual environment the interpreter is a link, and the programs lie beside the link.
_BIN = Path(sys.executable).parent
_INSTRUMENT = _BIN / "opentelemetry-instrument"
_GUNICORN = _BIN / "gunicorn"


def start_supplier(port: int, directory: Path) -> Child:
    """Starts the supplier on a loopback port; its log goes to the directory."""
    command = [sys.executable, "-m", "examples.shop.supplier", str(port)]
    return Child("the supplier", command, os.environ, _ROOT, directory / "supplier.log")


def start_shop(port: int, supplier_url: str, metrics_port: int, directory: Path) -> Child:
    """Starts the shop as any service is started with OpenTelemetry: `opentelemetry-instrument gunicorn ...`.

    Args:
        port: The loopback port the shop serves on.
        supplier_url: Base address of the supplier.
        metrics_port: The loopback port of the Prometheus endpoint.
        directory: Gets the database and the log.

    Returns:
        The process, which becomes the master of gunicorn.

    Raises:
        FileNotFoundError: A program is missing beside the running interpreter; the message names it.
    """
    for program in (_INSTRUMENT, _GUNICORN):
        if not program.exists():
            raise FileNotFoundError(
                f"{program} is missing: run the demo with the interpreter of the environment "
                "that has the development dependencies of the project"
            )
    # OTEL_PERF_SEGMENT would make the shop record into the segment of another service.
    environment = {name: value for name, value in os.environ.items() if name != "OTEL_PERF_SEGMENT"}
    environment |= {
        "OTEL_SERVICE_NAME": SERVICE_NAME,
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(metrics_port),
        # The driver asks this route until the shop answers; those requests are not the load generator's.
        "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "/healthz$",
        "SHOP_DB": str(directory / "shop.db"),
        "SUPPLIER_URL": supplier_url,
    }
    command = [
        str(_INSTRUMENT),
        str(_GUNICORN),
        "--worker-class=uvicorn_worker.UvicornWorker",
        f"--workers={WORKERS}",
        f"--bind=127.0.0.1:{port}",
        # Longer than any client waits between two requests: a connection closed under a request would lose it.
        "--keep-alive=30",
        "--graceful-timeout=3",
        # Its default place is in the home directory, which is none of a demo's business.
        "--no-control-socket",
        "--log-level=warning",
        "examples.shop.app:app",
    ]
    return Child("the shop", command, environment, _ROOT, directory / "shop.log")
