# SPDX-License-Identifier: Apache-2.0
"""Pickles of items that typed JSON does not give back, also those that an earlier version of this package wrote."""

from __future__ import annotations

import io
import pickle
from typing import Any

from airflow_parallel_provider.foreign.calls import Conversion, convert

PICKLE_LENGTH = 1_000_000
"""Bytes; a longer pickle is not kept."""

_PACKAGE = __name__.partition(".")[0]
_MOVED = {
    ("engine.sink", "DeadLetter"): "engine.interfaces.records",
    ("engine.values", "DROP"): "engine.interfaces.drop",
    ("engine.values", "_Drop"): "engine.interfaces.drop",
    ("sinks.kinds", "Column"): "values.kinds",
    ("sinks.kinds", "Kind"): "values.kinds",
    ("sinks.typed_json", "Opaque"): "values.typed_json",
    ("sources.brokers", "Message"): "values.items",
    ("sources.storage", "SourceFile"): "values.items",
}
"""Where to find what an item may hold and what a pickle names by an old module of this package."""


def dump_item(item: Any) -> bytes | None:
    """The pickle of an item; None if it cannot be pickled in time, or is too long."""
    import cloudpickle

    def pickled(conversion: Conversion) -> bytes | None:
        conversion.need_code()  # the item's own methods may raise anything, or hang: the dead letter has no pickle then
        found: bytes = cloudpickle.dumps(item)
        return found if len(found) <= PICKLE_LENGTH else None

    return convert(pickled, None)


def load_item(pickled: bytes) -> Any:
    """The item of a pickle. Runs code of whatever wrote the pickle."""
    return _ItemUnpickler(io.BytesIO(pickled)).load()


class _ItemUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """What a pickle names, also if it has moved within this package since."""
        package, _, old = module.partition(".")
        new = _MOVED.get((old, name)) if package == _PACKAGE else None
        return super().find_class(module if new is None else f"{_PACKAGE}.{new}", name)
