"""What the engine raises while it converts. What is wrong with a file or a parameter is an RvcdError, and raised before."""

from __future__ import annotations


class EngineError(Exception):
    """A block or a voice could not be converted (a network gave NaN or infinity)."""
