"""Importing third-party packages that import something they do not need and that may be missing or broken."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType


@contextlib.contextmanager
def stand_ins(**modules: Mapping[str, object]) -> Iterator[None]:
    """Put modules with the given attributes in the place of those named, while the block runs.

    A dot in a module's name is written as two underscores. A package that is already imported is left as it is, with its
    submodules.
    """
    added: dict[str, ModuleType] = {}
    for key, attributes in modules.items():
        name = key.replace("__", ".")
        package = name.partition(".")[0]
        if package in sys.modules and package not in added:
            continue
        module = ModuleType(name)
        vars(module).update(attributes)
        added[name] = module
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, module in added.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
