"""From views and readers to the streams of an instrument."""

from __future__ import annotations

import logging
import re
from copy import copy
from fnmatch import translate
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.sdk.metrics.view import View

from otel_perf import _core
from otel_perf.metrics._readers import DEFAULT, SDK_TYPES, ReaderOptions, Stated, stated, with_boundaries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from otel_perf.metrics._exemplars import CustomExemplars

_logger = logging.getLogger(__name__)

Stream: TypeAlias = "tuple[int, int, str, str, Stated, Stated, int, Any, Callable[..., None] | None]"
"""View, variant, name, description, aggregation, aggregation for this process's readers, limit, attribute keys, follower."""

_HISTOGRAMS = ("explicit", "exponential")
_EXPLICIT: Stated = ("explicit", None, True)
_NO_VIEW = View(instrument_name="")


class _Selector:
    """What a view selects by, prepared for many instruments.

    Args:
        number: Number of the view, counted from 1.
        view: The view.

    Raises:
        ValueError: The view states an aggregation that is neither the SDK's nor ours.
    """

    def __init__(self, number: int, view: View) -> None:
        self.number = number
        self.view = view
        self.aggregation = stated(view._aggregation)
        name = view._instrument_name
        self.exact = name.lower() if name is not None and not _is_pattern(name) else None
        self._name = None if name is None or self.exact is not None else re.compile(translate(name.lower())).match
        self._unit = None if view._instrument_unit is None else re.compile(translate(view._instrument_unit)).match
        wanted = view._instrument_type
        self._kinds = frozenset(
            kind for kind, sdk_type in SDK_TYPES.items() if wanted is None or issubclass(sdk_type, wanted)
        )

    def selects(self, kind: str, scope: InstrumentationScope, name: str, unit: str) -> bool:
        """Whether an instrument whose name the exact selector allows is selected, by the rules of `View._match`."""
        view = self.view
        return (
            (self._name is None or self._name(name) is not None)
            and kind in self._kinds
            and (self._unit is None or self._unit(unit) is not None)
            and (view._meter_name is None or view._meter_name == scope.name)
            and (view._meter_version is None or view._meter_version == scope.version)
            and (view._meter_schema_url is None or view._meter_schema_url == scope.schema_url)
        )

    def with_default(self) -> _Selector:
        """Returns the same with the default aggregation."""
        other = copy(self)
        other.aggregation = DEFAULT
        return other


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


class Views:
    """The views of a provider.

    Args:
        views: In the order of the provider.
        exemplars: Who follows the streams whose exemplars are not native.

    Raises:
        ValueError: A view states an aggregation that is neither the SDK's nor ours.
    """

    def __init__(self, views: Sequence[View], exemplars: CustomExemplars) -> None:
        self._exemplars = exemplars
        self._exact: dict[str, list[_Selector]] = {}
        self._others: list[_Selector] = []
        self._unviewed = _Selector(0, _NO_VIEW)
        self._identities: dict[tuple[Any, ...], View] = {}
        for number, view in enumerate(views, 1):
            selector = _Selector(number, view)
            if selector.exact is None:
                self._others.append(selector)
            else:
                self._exact.setdefault(selector.exact, []).append(selector)

    def _selecting(self, kind: str, scope: InstrumentationScope, name: str, unit: str) -> list[_Selector]:
        candidates = self._others
        exact = self._exact.get(name)
        if exact:
            candidates = sorted([*exact, *self._others], key=lambda selector: selector.number)
        found = []
        for selector in candidates:
            if not selector.selects(kind, scope, name, unit):
                continue
            if kind.startswith("Observable") and selector.aggregation[0] == "hdr":
                _logger.warning("%r is not applied to %s, which is observable", selector.view._aggregation, name)
                found.append(selector.with_default())
                continue
            if kind.startswith("Observable") and selector.aggregation[0] in _HISTOGRAMS:
                _logger.warning(
                    "View %s and instrument %s will produce semantic errors when matched, the view has not been applied.",
                    selector.view,
                    name,
                )
                continue
            found.append(selector)
        return found or [self._unviewed]

    def streams(
        self,
        readers: Sequence[ReaderOptions],
        kind: str,
        scope: InstrumentationScope,
        name: str,
        unit: str,
        advice: Sequence[float] | None,
    ) -> list[Stream]:
        """Returns the streams of an instrument that the readers want, none if all of them drop it.

        A view has more than one stream where its readers store differently or state different cardinality limits.

        Args:
            readers: What the readers of this process ask for, at least one.
            kind: Class name of the instrument.
            scope: Its instrumentation scope.
            name: Its name, lower-cased.
            unit: Its unit.
            advice: Advised boundaries.
        """
        streams: list[Stream] = []
        for selector in self._selecting(kind, scope, name, unit):
            view = selector.view
            # Storage and limit, each with what the first reader that wants them makes of the view.
            wanted: dict[tuple[int, int], Stated] = {}
            stated_limit = getattr(view, "_aggregation_cardinality_limit", None)
            is_default = selector.aggregation == DEFAULT
            for reader in readers:
                effective = reader.aggregation[kind] if is_default else selector.aggregation
                storage = _core.storage(kind, effective)
                if storage is not None:
                    key = (storage, stated_limit or reader.limit[kind])
                    wanted.setdefault(key, with_boundaries(kind, effective, advice))
            largest = {storage: max(limit for other, limit in wanted if other == storage) for storage, _ in wanted}
            for (storage, limit), effective in wanted.items():
                self._check_identity(selector, kind, view._name or name, unit, effective)
                # With percentiles the stream is a histogram all the same, and its exemplars are spread over the default buckets.
                buckets = with_boundaries(kind, _EXPLICIT, advice) if effective[0] == "hdr" else effective
                streams.append(
                    (
                        selector.number,
                        0 if limit == largest[storage] else limit,
                        view._name or "",
                        view._description or "",
                        selector.aggregation,
                        effective,
                        limit,
                        view._attribute_keys,
                        self._exemplars.follower(view, buckets, kind),
                    )
                )
        return streams

    def _check_identity(self, selector: _Selector, kind: str, name: str, unit: str, effective: Stated) -> None:
        """Warns, as the SDK does, of a view whose stream has the identity of another one."""
        is_sum = effective[0] == "sum" or (effective[0] == "default" and "Counter" in kind)
        identity = (name, unit, "sum" if is_sum else effective[0], kind if is_sum else "")
        other = self._identities.setdefault(identity, selector.view)
        if other is not selector.view and selector.number > 0:
            _logger.warning("Views %s and %s will cause conflicting metrics identities", other, selector.view)
