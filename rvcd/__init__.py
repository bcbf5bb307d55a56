"""rvcd converts a live voice. For programs: `from rvcd import Engine` (docs/api.md); importing this alone loads nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rvcd.api.engine import Engine, Stream
    from rvcd.errors import RvcdError

__all__ = ["Engine", "RvcdError", "Stream"]


def __getattr__(name: str) -> Any:
    """Import what is asked for. The engine brings torch with it, which the daemon and its clients do without."""
    if name not in __all__:
        raise AttributeError(f"module 'rvcd' has no attribute '{name}'")
    return getattr(import_module("rvcd.errors" if name == "RvcdError" else "rvcd.api.engine"), name)


def __dir__() -> list[str]:
    return __all__
