"""Holds the shop: a FastAPI service under load, watched from outside through the segment of otel_perf."""
