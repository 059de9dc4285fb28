"""Configuration from files: views, and all of OpenTelemetry's declarative configuration. Nothing here is loaded unless a file is named."""

from otel_perf.config_file._problems import ConfigurationFileError
from otel_perf.config_file.views import load_views

__all__ = ["ConfigurationFileError", "load_views"]
