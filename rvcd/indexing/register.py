"""A voice's register: the median of its pitch, from recordings of its speaker."""

from __future__ import annotations

from pathlib import Path

from rvcd.engine.pitch import create_pitch_method
from rvcd.engine.pitch.register import LEAST_VOICED_S, Register
from rvcd.errors import AudioFileError
from rvcd.indexing.recordings import Heard, pieces_of


def measure_register(paths: list[Path]) -> tuple[float, Heard]:
    """Return the median of recordings, 50..1000 Hz, and what was made of the files.

    Raises AudioFileError where there is less than LEAST_VOICED_S of voiced speech.
    """
    register, heard = Register(create_pitch_method("swift")), Heard()
    for piece in pieces_of(paths, heard, lambda done: None):
        register.hear(piece)
    if not (median_hz := register.median_hz()):
        reasons = f": {'; '.join(heard.notes[:5])}" if heard.notes else ""
        raise AudioFileError(
            f"the recordings hold {register.voiced_s:.1f} s of voiced speech, and a register takes {LEAST_VOICED_S:g} s{reasons}"
        )
    return median_hz, heard
