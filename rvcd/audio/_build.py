"""Builds the audio core: `_segment.c`, `_callback.c` and `_clock.c` as the extension module rvcd.audio._rvcd_audio.

setuptools runs this through `cffi_modules=["rvcd/audio/_build.py:ffibuilder"]` from the project's root; after a change to
the C files, `python setup.py build_ext --inplace` does it again. No PortAudio headers are needed.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path("rvcd/audio")
"""Relative, because distutils wants sources relative to the project's root."""


PARTS = ("_segment", "_callback", "_clock")
"""Each has a header and a source; a header may use those before it."""


def declarations() -> str:
    """Return the parts of the headers between their two cffi marks: one text for the compiler and for cffi."""
    headers = [(HERE / f"{part}.h").read_text(encoding="utf-8") for part in PARTS]
    return "".join(header.split("/* cffi: begin */")[1].split("/* cffi: end */")[0] for header in headers)


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "rvcd.audio._rvcd_audio",
    '#include "_clock.h"',
    sources=[str(HERE / f"{part}.c") for part in PARTS],
    depends=[str(HERE / f"{part}.h") for part in PARTS],
    include_dirs=[str(HERE)],
    libraries=["m", "pthread"],
    extra_compile_args=["-O2", "-std=c11", "-Wall", "-Wextra"],
)
