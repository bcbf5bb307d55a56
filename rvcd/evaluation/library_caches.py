"""What the judges' libraries keep to start faster goes below rvcd's own cache folder, not beside it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from rvcd.config.folders import cache_folder

VARIABLES = {
    "MPLCONFIGDIR": "matplotlib",  # its list of fonts
    "NUMBA_CACHE_DIR": "numba",  # what it compiled of librosa: beside librosa, else in ~/.cache/numba where that is read-only
}
"""Of the environment, each with a folder's name."""


def keep_library_caches() -> None:
    """Tell the libraries, unless the user has: they read it when they are imported."""
    for variable, name in VARIABLES.items():
        os.environ.setdefault(variable, str(cache_folder() / name))


@contextlib.contextmanager
def caches_of_programs() -> Iterator[None]:
    """Meanwhile programs that a library starts find the user's caches in rvcd's: matplotlib asks fontconfig's fc-list once."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(cache_folder())
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
