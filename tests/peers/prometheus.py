"""Scrapes an endpoint as Prometheus does and parses the answer back."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

SCOPE_LABELS = ("otel_scope_name", "otel_scope_version", "otel_scope_schema_url")


class Scrape:
    """A parsed scrape.

    Attributes:
        samples: Values by sample name and labels, scope labels left out.
        types: Type by family name.
        scopes: Scope labels by sample name.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self.types: dict[str, str] = {}
        self.scopes: dict[str, dict[str, str]] = {}
        for family in text_string_to_metric_families(text):
            self.types[family.name] = family.type
            for sample in family.samples:
                labels = {k: v for k, v in sample.labels.items() if not k.startswith("otel_scope_")}
                self.scopes[sample.name] = {k: v for k, v in sample.labels.items() if k.startswith("otel_scope_")}
                self.samples[sample.name, frozenset(labels.items())] = sample.value

    def value(self, name: str, **labels: str) -> float:
        """Value of exactly one sample."""
        return self.samples[name, frozenset(labels.items())]

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples that have at least these labels."""
        wanted = set(labels.items())
        return sum(value for (found, has), value in self.samples.items() if found == name and wanted <= has)


def scrape(url: str, **headers: Any) -> Scrape:
    """Fetches and parses an endpoint."""
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return Scrape(answer.read().decode())


def scrape_when(url: str, complete: Callable[[Scrape], bool], timeout: float = 10) -> Scrape:
    """Scrapes again and again until `complete`, also before anybody listens; after `timeout` seconds answers what there is, for the caller to judge."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            found = scrape(url)
        except OSError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.02)
            continue
        if complete(found) or time.monotonic() >= deadline:
            return found


def endpoint_at(port: int) -> dict[str, Any]:
    """Variables of a program that serves its metrics at a port of 127.0.0.1."""
    return {
        "OTEL_METRICS_EXPORTER": "prometheus",
        "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
    }


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
