"""The compiled audio core (built by _build.py). Its functions are declared, with their meaning, in the headers."""

from typing import Any

ffi: Any
lib: Any
