"""F0 estimation: the registry of methods, and the one place the rest of the engine imports pitch from."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rvcd.engine.pitch.track import (
    ANALYSIS_RATE_HZ,
    F0_MAX_HZ,
    F0_MIN_HZ,
    FRAME_SAMPLES,
    PitchMethod,
    PitchTrack,
    coarse_pitch,
    fill_unvoiced,
    transpose,
)
from rvcd.engine.pitch.tracker import PitchTracker
from rvcd.errors import MissingExtraError, ModelFileError, ParamError
from rvcd.protocol import F0_METHODS

__all__ = [
    "ANALYSIS_RATE_HZ",
    "F0_MAX_HZ",
    "F0_MIN_HZ",
    "FRAME_SAMPLES",
    "PitchMethod",
    "PitchTrack",
    "PitchTracker",
    "coarse_pitch",
    "create_pitch_method",
    "fill_unvoiced",
    "import_packages",
    "transpose",
]

_Factory = Callable[[Path | None, str], PitchMethod]


def create_pitch_method(name: str, *, model_path: Path | None = None, device: str = "cpu") -> PitchMethod:
    """Return the method called name, one of protocol.F0_METHODS, with its weights loaded.

    model_path: rmvpe's weights; the others bring their own or need none. device: torch device of rmvpe and fcpe.
    Raises ParamError for an unknown name, MissingExtraError for a package that is not installed, ModelFileError for bad weights.
    """
    try:
        factory = _FACTORIES[name]
    except KeyError:
        close = difflib.get_close_matches(name.lower(), F0_METHODS, n=1, cutoff=0.5)
        hint = f"; did you mean '{close[0]}'?" if close else ";"
        raise ParamError(f"unknown f0 method '{name}'{hint} known: {', '.join(F0_METHODS)}") from None
    return factory(model_path, device)


def import_packages() -> None:
    """Import what every installed method needs, so that create_pitch_method() imports nothing any more. Takes 0.1 s and more.

    An import cannot be divided and keeps the interpreter's lock (40 ms for praat-parselmouth): call it before there is audio.
    """
    from rvcd.engine.pitch.methods import fcpe, pm, rmvpe, swift, world, yin  # noqa: F401
    from rvcd.nets import rmvpe as network  # noqa: F401

    for load in (partial(world.load_package, "harvest"), pm.load_package, fcpe.load_package):
        with contextlib.suppress(MissingExtraError):
            load()


# Each factory imports its method on use: only the chosen one costs start-up time, and only it can lack a package.
def _swift(model_path: Path | None, device: str) -> PitchMethod:
    from rvcd.engine.pitch.methods.swift import SwiftPitch

    return SwiftPitch()


def _rmvpe(model_path: Path | None, device: str) -> PitchMethod:
    from rvcd.engine.pitch.methods.rmvpe import RmvpePitch

    if model_path is None:
        raise ModelFileError("rmvpe needs its weights (rmvpe.pt): set the path of the file, or choose f0 method swift")
    return RmvpePitch.from_file(model_path, device)


def _fcpe(model_path: Path | None, device: str) -> PitchMethod:
    from rvcd.engine.pitch.methods.fcpe import FcpePitch

    return FcpePitch.bundled(device)


def _harvest(model_path: Path | None, device: str) -> PitchMethod:
    from rvcd.engine.pitch.methods.world import HarvestPitch

    return HarvestPitch()


def _dio(model_path: Path | None, device: str) -> PitchMethod:
    from rvcd.engine.pitch.methods.world import DioPitch

    return DioPitch()


def _pm(model_path: Path | None, device: str) -> PitchMethod:
    from rvcd.engine.pitch.methods.pm import PraatPitch

    return PraatPitch()


def _yin(model_path: Path | None, device: str) -> PitchMethod:
    from rvcd.engine.pitch.methods.yin import YinPitch

    return YinPitch()


_FACTORIES: dict[str, _Factory] = {
    "swift": _swift,
    "rmvpe": _rmvpe,
    "fcpe": _fcpe,
    "harvest": _harvest,
    "dio": _dio,
    "pm": _pm,
    "yin": _yin,
}
