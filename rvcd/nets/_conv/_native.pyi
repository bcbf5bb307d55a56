"""The compiled convolution kernels (built by _build.py). Their functions are declared, with their meaning, in conv.h."""

from typing import Any

ffi: Any
lib: Any
