"""Contrib's instrumentations, which are released later than the SDK, so that some are missing beside the newest one."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(*names: str) -> pytest.MarkDecorator:
    """Skips a test where one of these instrumentations is not installed."""
    missing = [name for name in names if find_spec(f"opentelemetry.instrumentation.{name}") is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed, contrib's instrumentation of {', '.join(missing)}")
