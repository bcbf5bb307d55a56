"""`rvcd render IN OUT`: the same engine over a file, with longer blocks and more lookahead than a live voice can afford."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rvcd.audio.files import AtomicAudioWriter, AudioReader
from rvcd.config.settings import Settings
from rvcd.rendering.messages import Levels
from rvcd.rendering.renderer import Renderer, use_machine
from rvcd.rendering.setup import render_setup


@dataclass(frozen=True)
class RenderRequest:
    """What to convert. voice: a name of the registry or a .pth file; "": the configured one. rate_hz 0: the voice's own.

    params: live parameters by name that replace the configured ones. channels, loudness_lufs: as in RenderSetup. pitch_mode "":
    as configured. force: replace an existing target.
    """

    source: Path
    target: Path
    voice: str = ""
    index: str = ""
    f0_method: str = ""
    rate_hz: int = 0
    params: dict[str, float] = field(default_factory=dict)
    channels: str = "1"
    loudness_lufs: float | None = None
    pitch_mode: str = ""
    force: bool = False


@dataclass(frozen=True)
class RenderResult:
    """What was written. compute_s: time spent converting, without loading. notes: on what was made of IN, or done without."""

    voice: str
    rate_hz: int
    duration_s: float
    compute_s: float
    levels: Levels
    notes: tuple[str, ...] = ()


def render_file(settings: Settings, request: RenderRequest, progress: Callable[[float], None]) -> RenderResult:
    """Convert a file; progress is called with 0..1. The output is aligned with the input and as long.

    Raises RvcdError for anything wrong with files, voice or parameters; then the target is untouched.
    """
    with AudioReader(request.source):  # said before seconds are spent on loading
        setup = render_setup(
            settings, voice=request.voice, index=request.index, f0_method=request.f0_method, rate_hz=request.rate_hz,
            params=request.params, channels=request.channels, loudness_lufs=request.loudness_lufs, pitch_mode=request.pitch_mode,
        )  # fmt: skip
    AtomicAudioWriter.check(request.target, force=request.force)
    use_machine(setup)
    renderer = Renderer(setup)
    made = renderer.render(request.source, request.target, replace=request.force, progress=progress)
    return RenderResult(made.voice, made.rate_hz, made.duration_s, made.compute_s, made.made, tuple(renderer.notes) + made.notes)
