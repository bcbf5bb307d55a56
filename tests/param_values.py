"""Values of live parameters for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from rvcd.params import Param


def values_of(param: Param) -> st.SearchStrategy[float]:
    """Draw any value that a parameter can have."""
    if param.choices:
        return st.integers(0, len(param.choices) - 1).map(float)
    return st.floats(param.low, param.high)
