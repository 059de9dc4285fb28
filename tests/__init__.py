"""Tests of otel_perf."""
