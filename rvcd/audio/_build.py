"""Builds the audio core: `_callback.c` and `_clock.c` as the extension module rvcd.audio._rvcd_audio.

setuptools runs this through `cffi_modules=["rvcd/audio/_build.py:ffibuilder"]` from the project's root; after a change to
the C files, `python setup.py build_ext --inplace` does it again. No PortAudio headers are needed.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path("rvcd/audio")
"""Relative, because distutils wants sources relative to the project's root."""


def declarations() -> str:
    """Return the part of _callback.h between its two cffi marks: one text for the compiler and for cffi."""
    text = (HERE / "_callback.h").read_text(encoding="utf-8")
    return text.split("/* cffi: begin */")[1].split("/* cffi: end */")[0]


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "rvcd.audio._rvcd_audio",
    '#include "_callback.h"',
    sources=[str(HERE / "_callback.c"), str(HERE / "_clock.c")],
    depends=[str(HERE / "_callback.h"), str(HERE / "_segment.h")],
    include_dirs=[str(HERE)],
    libraries=["m", "pthread"],
    extra_compile_args=["-O2", "-std=c11", "-Wall", "-Wextra"],
)
