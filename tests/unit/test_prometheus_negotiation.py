"""Which format and which compression a scraper gets for what it accepts."""

from __future__ import annotations

import pytest

from otel_perf.exporters._negotiation import OPENMETRICS, PROTOBUF, TEXT, format_for, takes_gzip

MESSAGE = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
ACCEPTED: dict[str, str] = {
    "": TEXT,
    "*/*": TEXT,
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": TEXT,
    "text/plain": TEXT,
    "text/plain; version=0.0.4; charset=utf-8": TEXT,
    "application/openmetrics-text": OPENMETRICS,
    "application/openmetrics-text; version=1.0.0; charset=utf-8": OPENMETRICS,
    'Application/OpenMetrics-Text; Version="1.0.0"': OPENMETRICS,
    "application/openmetrics-text; version=0.0.1": TEXT,
    "application/openmetrics-text; version=2.0.0": TEXT,
    MESSAGE: PROTOBUF,
    "application/vnd.google.protobuf": TEXT,
    MESSAGE.replace("delimited", "text"): TEXT,
    "application/json": TEXT,
    # Prometheus 2.42 without and with native histograms, and 3.0.
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1": OPENMETRICS,
    f"{MESSAGE},application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1": PROTOBUF,
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2": OPENMETRICS,
    "text/plain;q=0.5,application/openmetrics-text;q=0.6": OPENMETRICS,
    "text/plain;q=0.6,application/openmetrics-text;q=0.5": TEXT,
    "text/plain,application/openmetrics-text": TEXT,
    "application/openmetrics-text;q=0,text/plain;q=0.1": TEXT,
    "application/openmetrics-text;q=0": TEXT,
    "application/openmetrics-text;q=high": TEXT,
    "application/openmetrics-text;q=nan": TEXT,
    ";;,,=;q=,": TEXT,
}


@pytest.mark.parametrize("accept", ACCEPTED)
def test_the_format_of_the_largest_weight_is_chosen(accept: str) -> None:
    """The accepted format of the largest weight is answered, of several the first, and text if there is none."""
    assert format_for(accept) == ACCEPTED[accept]


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("GZip, deflate, br", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("*", True),
        ("*, gzip;q=0", False),
        ("*;q=0", False),
        ("identity", False),
        ("x-gzip", False),
    ],
)
def test_answers_are_compressed_for_who_takes_it(accept_encoding: str, expected: object) -> None:
    """Gzip is used where it is accepted by name or by a star, with a weight above zero."""
    assert takes_gzip(accept_encoding) is expected
