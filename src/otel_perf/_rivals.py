"""Says so where the wrapper started another distribution although otel_perf is installed.

``opentelemetry-instrument`` runs this hook whatever distribution it starts, so it imports nothing that another one would have to pay for.
"""

from __future__ import annotations

import logging
import os
import sys

from opentelemetry.instrumentation.environment_variables import OTEL_PYTHON_CONFIGURATOR, OTEL_PYTHON_DISTRO

_NAME = "otel_perf"
_logger = logging.getLogger(__name__)


def warn_if_another_distro_won() -> None:
    """Logs one line if our configurator has not run and nobody chose another (entry point ``opentelemetry_pre_instrument``)."""
    ours = sys.modules.get("otel_perf.distro")
    if ours is not None and ours.OtelPerfConfigurator._has_run:
        return
    if os.environ.get(OTEL_PYTHON_CONFIGURATOR, "").strip() in ("", _NAME):
        _logger.warning(
            "otel_perf is installed but another distribution was started; set %s=%s and %s=%s to use otel_perf",
            OTEL_PYTHON_DISTRO,
            _NAME,
            OTEL_PYTHON_CONFIGURATOR,
            _NAME,
        )
