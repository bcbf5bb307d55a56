"""Builds the C core as the extension module rvcd.ipc._native: segment, callback, JACK client, two clocks, monitor, virtual clock.

setuptools runs this through `cffi_modules=["rvcd/ipc/_build.py:ffibuilder"]` from the project's root; after a change to
the C files, `python setup.py build_ext --inplace` does it again. No headers of PortAudio or JACK are needed.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

IPC, AUDIO = Path("rvcd/ipc"), Path("rvcd/audio")
"""Relative, because distutils wants sources relative to the project's root."""
PARTS = (
    IPC / "_segment",
    *(AUDIO / name for name in ("_callback", "_split", "_probe", "_drift", "_clock", "_monitor", "_jack")),
)  # fmt: skip
"""Each has a header and a source; a header may use those before it."""


def declarations() -> str:
    """Return the parts of the headers between their two cffi marks: one text for the compiler and for cffi."""
    headers = [part.with_suffix(".h").read_text(encoding="utf-8") for part in PARTS]
    return "".join(header.split("/* cffi: begin */")[1].split("/* cffi: end */")[0] for header in headers)


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "rvcd.ipc._native",
    "".join(f'#include "{name}.h"\n' for name in ("_split", "_probe", "_drift", "_clock", "_monitor", "_jack")),
    sources=[str(part.with_suffix(".c")) for part in PARTS],
    depends=[str(part.with_suffix(".h")) for part in PARTS],
    include_dirs=[str(IPC), str(AUDIO)],
    libraries=["m", "pthread", "dl"],
    extra_compile_args=["-O2", "-std=c11", "-Wall", "-Wextra"],
)
