"""Decodes what a scrape in the protobuf format answers, with descriptors made here of Prometheus' `io/prometheus/client/metrics.proto`."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.internal.decoder import _DecodeVarint32  # type: ignore[attr-defined]

_PACKAGE = "io.prometheus.client"
_TYPES = ("COUNTER", "GAUGE", "SUMMARY", "UNTYPED", "HISTOGRAM", "GAUGE_HISTOGRAM")
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "LabelPair": [("name", 1, "string"), ("value", 2, "string")],
    "Exemplar": [("label", 1, "*LabelPair"), ("value", 2, "double"), ("timestamp", 3, ".google.protobuf.Timestamp")],
    "Gauge": [("value", 1, "double")],
    "Counter": [("value", 1, "double"), ("exemplar", 2, "Exemplar"), ("created", 3, ".google.protobuf.Timestamp")],
    "Bucket": [("cumulative_count", 1, "uint64"), ("upper_bound", 2, "double"), ("exemplar", 3, "Exemplar")],
    "BucketSpan": [("offset", 1, "sint32"), ("length", 2, "uint32")],
    "Histogram": [
        ("sample_count", 1, "uint64"),
        ("sample_sum", 2, "double"),
        ("bucket", 3, "*Bucket"),
        ("schema", 5, "sint32"),
        ("zero_threshold", 6, "double"),
        ("zero_count", 7, "uint64"),
        ("negative_span", 9, "*BucketSpan"),
        ("negative_delta", 10, "*sint64"),
        ("positive_span", 12, "*BucketSpan"),
        ("positive_delta", 13, "*sint64"),
        ("created", 15, ".google.protobuf.Timestamp"),
        ("exemplars", 16, "*Exemplar"),
    ],
    "Metric": [
        ("label", 1, "*LabelPair"),
        ("gauge", 2, "Gauge"),
        ("counter", 3, "Counter"),
        ("histogram", 7, "Histogram"),
    ],
    "MetricFamily": [
        ("name", 1, "string"),
        ("help", 2, "string"),
        ("type", 3, "MetricType"),
        ("metric", 4, "*Metric"),
        ("unit", 5, "string"),
    ],
}
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _FIELD.TYPE_STRING,
    "double": _FIELD.TYPE_DOUBLE,
    "uint64": _FIELD.TYPE_UINT64,
    "uint32": _FIELD.TYPE_UINT32,
    "sint32": _FIELD.TYPE_SINT32,
    "sint64": _FIELD.TYPE_SINT64,
}


def _family_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package=_PACKAGE, syntax="proto2")
    file.dependency.append(timestamp_pb2.DESCRIPTOR.name)
    types = file.enum_type.add(name="MetricType")
    for number, name in enumerate(_TYPES):
        types.value.add(name=name, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, stated in fields:
            kind = stated.lstrip("*")
            field = message.field.add(name=field_name, number=number)
            field.label = _FIELD.LABEL_REPEATED if stated.startswith("*") else _FIELD.LABEL_OPTIONAL
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
                if stated.startswith("*"):
                    field.options.packed = True
            else:
                field.type_name = kind if kind.startswith(".") else f".{_PACKAGE}.{kind}"
                field.type = _FIELD.TYPE_ENUM if kind == "MetricType" else _FIELD.TYPE_MESSAGE
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.MetricFamily"))


_Family = _family_class()


def families_of(body: bytes) -> dict[str, Any]:
    """The families of an answer by name, which must be complete, each once, and have no field that is not known here."""
    found: dict[str, Any] = {}
    at = 0
    while at < len(body):
        length, at = _DecodeVarint32(body, at)
        family = _Family.FromString(body[at : at + length])
        at += length
        assert family.name not in found
        assert family.ByteSize() == length
        assert _known(family) == family
        found[family.name] = family
    assert at == len(body)
    return found


def _known(family: Any) -> Any:
    copy = _Family()
    copy.CopyFrom(family)
    copy.DiscardUnknownFields()
    return copy


def labels_of(metric: Any) -> dict[str, str]:
    """Labels of a metric or an exemplar, whose names must not repeat."""
    labels = {pair.name: pair.value for pair in metric.label}
    assert len(labels) == len(metric.label)
    return labels


def buckets_of(spans: Any, deltas: Any) -> dict[int, int]:
    """Counts of native buckets by index, those that are not empty."""
    found: dict[int, int] = {}
    index, count, rest = 0, 0, list(deltas)
    for number, span in enumerate(spans):
        assert number == 0 or span.offset > 0
        index += span.offset
        for _ in range(span.length):
            count += rest.pop(0)
            if count:
                found[index] = count
            index += 1
    assert rest == []
    return found
