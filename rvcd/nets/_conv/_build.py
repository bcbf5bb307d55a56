"""Builds the convolution kernels as the extension module rvcd.nets._conv._native.

setuptools runs this from the project's root, as it runs rvcd/ipc/_build.py. Any C compiler will do: what an instruction set
needs is asked for in the file of its kernels, and which of them run is decided when they are called. On a processor other than
x86-64 the module says that it has none.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

FOLDER = Path("rvcd/nets/_conv")
"""Relative, because distutils wants sources relative to the project's root."""
SOURCES = ("conv.c", "threads.c", "kernels_avx2.c", "kernels_avx512.c", "plane.c", "plane_avx2.c", "plane_avx512.c")
DECLARED = ("conv.h", "plane.h")
"""What Python calls."""
HEADERS = (*DECLARED, "kernels.h", "functions.h", "rows.h", "plane_kernels.h", "tile_sizes.h")


def declarations() -> str:
    """Return the parts of the headers between their two cffi marks: one text for the compiler and for cffi."""
    texts = ((FOLDER / name).read_text(encoding="utf-8") for name in DECLARED)
    return "".join(text.split("/* cffi: begin */")[1].split("/* cffi: end */")[0] for text in texts)


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "rvcd.nets._conv._native",
    '#include "conv.h"\n#include "plane.h"',
    sources=[str(FOLDER / name) for name in SOURCES],
    depends=[str(FOLDER / name) for name in HEADERS],
    include_dirs=[str(FOLDER)],
    libraries=["dl", "m"],
    # A product and the sum behind it are one rounding: twice as fast, and more exact.
    extra_compile_args=["-O2", "-std=gnu11", "-ffp-contract=fast", "-Wall", "-Wextra"],
)
