"""The engine for programs: a voice is loaded once, then arrays are converted whole, or streams block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rvcd.config.settings import load_config
from rvcd.engine.converter import Converter
from rvcd.errors import ParamError
from rvcd.geometry import StreamGeometry
from rvcd.params import VOICE_PARAMS, Param, ParamStore, Snapshot, find_param
from rvcd.rendering.renderer import Renderer
from rvcd.rendering.setup import MAX_VOICES, render_setup

FloatArray = NDArray[np.float32]

LEAST_PAST_MS = 400
"""What a stream's content encoder sees of the past at least, unless its context is given."""
USUAL_CONTEXT_MS = 2000
SOURCE_BLOCK_SAMPLES = 65536


class Engine:
    """One voice with its models.

    Of an engine and its streams one thread at a time may be in a call; engines do not know of each other. It changes nothing of
    the process: the number of torch's threads is the program's to set (`torch.set_num_threads`), and one is often quickest.
    """

    def __init__(
        self,
        voice: str | PathLike[str] = "",
        *,
        index: str | PathLike[str] = "",
        f0_method: str = "",
        config: str | PathLike[str] | None = None,
        params: Mapping[str, float | str] | None = None,
    ) -> None:
        """Load a voice: its name in the configured folders, its .pth file, or "": the configured one.

        index: in place of the voice's own. f0_method: one of protocol.F0_METHODS; "": as configured. config: a configuration
        file; None: the one that the commands of rvcd find. params: live parameters by name, in place of the voice's own and the
        configured ones, in the units of `Engine.parameters`, or a word of its choices; out of range they are limited.
        `engine.pitch_mode` counts for manual: `pitch` alone transposes.

        Raises RvcdError with one sentence: ConfigError, VoiceNotFoundError, ModelFileError, ParamError, MissingExtraError.
        """
        settings = load_config(None if config is None else Path(config))
        setup = render_setup(
            settings, voice=str(voice), index=str(index), f0_method=f0_method, params=params, channels="keep"
        )  # fmt: skip
        self._renderer = Renderer(setup)

    @property
    def voice(self) -> str:
        """The voice's name."""
        return self._renderer.voice.name

    @property
    def rate_hz(self) -> int:
        """The rate at which the voice itself makes sound."""
        return int(self._renderer.voice.spec.rate_hz)

    @property
    def device(self) -> str:
        """The torch device that computes: cpu, cuda, ..."""
        return self._renderer.device

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done without, in sentences: an index that cannot serve."""
        return tuple(self._renderer.notes)

    @property
    def params(self) -> dict[str, float]:
        """The parameters that conversions start from, by name."""
        return dict(zip((param.name for param in VOICE_PARAMS), self._renderer.snapshot.values(), strict=True))

    @staticmethod
    def parameters() -> tuple[Param, ...]:
        """Return the table of live parameters: name, range, unit, default, and what each does."""
        return VOICE_PARAMS

    def convert(
        self, audio: NDArray[Any], rate_hz: int, *, output_rate_hz: int = 0, params: Mapping[str, float | str] | None = None
    ) -> FloatArray:
        """Return a whole recording in the voice, aligned with it and as long, float32 within -1..1.

        audio: (T,), or (T, C) of up to 8 channels, each of which becomes a voice of its own; float of full scale +-1.0, or
        signed integers. Samples that are no number count as 0. rate_hz: 8,000..384,000. output_rate_hz: a multiple of 100 in
        8,000..192,000; 0: rate_hz where it is one, else the voice's own. params: in place of the engine's.

        Raises ParamError for audio or numbers that cannot be, EngineError where the networks give no numbers.
        """
        frames = _as_frames(audio)
        if not 8000 <= rate_hz <= 384_000:
            raise ParamError(f"rate_hz = {rate_hz} is out of range; it takes 8000..384000")
        source = _ArraySource(frames, rate_hz)
        made_at = output_rate_hz or (rate_hz if rate_hz % 100 == 0 and rate_hz <= 192_000 else self.rate_hz)
        conversion = self._renderer.convert(source, rate_hz=made_at, snapshot=self._snapshot(params))
        blocks = list(conversion.blocks)
        made: FloatArray = np.concatenate(blocks) if blocks else np.zeros((0, frames.shape[1]), np.float32)
        return made[:, 0] if np.ndim(audio) == 1 else made

    def stream(
        self,
        rate_hz: int = 48000,
        *,
        block_ms: int = 140,
        lookahead_ms: int = 100,
        context_ms: int = 0,
        denoiser: bool = False,
        params: Mapping[str, float | str] | None = None,
    ) -> Stream:
        """Return a new stream of this voice.

        rate_hz: of input and output, a multiple of 100 in 8,000..192,000. block_ms: of one call, a multiple of 20, at most 2000:
        longer ones need less computation. lookahead_ms: how much of the future each part may see, a multiple of 20 in 40..1000:
        more sounds better. context_ms: all that the content encoder sees, 0: 2000 or as much as there must be. denoiser: load
        what the parameter `denoise` needs, which adds 36 ms; done anyway where `denoise` begins above 0.

        Raises ParamError that names the value and its bounds.
        """
        snapshot = self._snapshot(params)
        least_ms = block_ms + lookahead_ms + LEAST_PAST_MS
        geometry = StreamGeometry.from_ms(
            rate_hz=rate_hz, block_ms=block_ms, lookahead_ms=lookahead_ms, deadline_ms=block_ms,
            context_ms=context_ms or max(USUAL_CONTEXT_MS, least_ms),
            denoiser=denoiser or snapshot.denoise > 0,
        )  # fmt: skip
        return Stream(self._renderer.converter(geometry, snapshot), snapshot)

    def _snapshot(self, params: Mapping[str, float | str] | None) -> Snapshot:
        store = ParamStore(self.params)
        for name, value in (params or {}).items():
            store.set(_of_voice(name), value)
        return store.snapshot()


def _of_voice(name: str) -> str:
    """Return the name of a parameter. Raises ParamError for an unknown one, and for one of the desk, such as the monitor's."""
    if not find_param(name).of_voice:
        known = ", ".join(param.name for param in VOICE_PARAMS)
        raise ParamError(f"{name} is no parameter of a voice; these are: {known}")
    return name


class Stream:
    """Audio that comes block by block. Made by Engine.stream(); parameters may change between blocks, and glide."""

    def __init__(self, converter: Converter, snapshot: Snapshot) -> None:
        self._converter = converter
        self._store = ParamStore(dict(zip((param.name for param in VOICE_PARAMS), snapshot.values(), strict=True)))
        self._waiting = np.zeros(0, np.float32)

    @property
    def rate_hz(self) -> int:
        """Of input and output."""
        return self._converter.geometry.rate_hz

    @property
    def block_samples(self) -> int:
        """What process() takes and returns."""
        return self._converter.geometry.block_samples

    @property
    def delay_samples(self) -> int:
        """How far the output is behind the input: output sample n is the voice of input sample n - delay_samples."""
        return self._converter.geometry.delay_samples

    @property
    def latency_ms(self) -> float:
        """What a listener waits for, besides computing: a block to come together, and the delay."""
        return self._converter.geometry.ms(self.block_samples + self.delay_samples)

    @property
    def params(self) -> dict[str, float]:
        """The parameters that the next block ends with, by name."""
        return dict(self._store.current)

    def set(self, name: str, value: float | str) -> float:
        """Set a live parameter from the next block on; return what it is now, limited to its range. Raises ParamError."""
        if name == "denoise" and find_param(name).named(str(value)) > 0 and not self._converter.geometry.denoise_samples:
            raise ParamError("denoise needs a denoiser, and this stream has none: open it with denoiser=True")
        return self._store.set(_of_voice(name), value)

    def process(self, block: NDArray[Any]) -> FloatArray:
        """Return the voice of a block (block_samples,), delay_samples behind it, float32 within -1..1.

        Raises ParamError for a block of another length, EngineError where the networks give no numbers; reset() goes on then.
        """
        frames = _as_frames(block)
        if frames.shape != (self.block_samples, 1):
            raise ParamError(f"a block has {self.block_samples} samples of one channel, not {np.shape(block)}; feed() takes any")
        return self._converter.process(frames[:, 0], self._store.snapshot()).audio

    def feed(self, samples: NDArray[Any]) -> FloatArray:
        """Take samples (T,) of any number, and return what is ready, (N,), N a multiple of block_samples or 0."""
        frames = _as_frames(samples)
        if frames.shape[1] != 1:
            raise ParamError(f"a stream has one channel, not {frames.shape[1]}; make a stream for each")
        self._waiting = np.concatenate((self._waiting, frames[:, 0]))
        made = []
        while len(self._waiting) >= self.block_samples:
            block, self._waiting = self._waiting[: self.block_samples], self._waiting[self.block_samples :]
            made.append(self._converter.process(block, self._store.snapshot()).audio)
        return np.concatenate(made) if made else np.zeros(0, np.float32)

    def finish(self) -> FloatArray:
        """Return the rest of what was fed, as if silence followed, and begin anew. All in all delay_samples more than came in."""
        rest = len(self._waiting) + self.delay_samples
        silence = np.zeros(-(-rest // self.block_samples) * self.block_samples - len(self._waiting), np.float32)
        made = self.feed(silence)[:rest]
        self.reset()
        return made

    def convert(self, blocks: Iterable[NDArray[Any]]) -> Iterator[FloatArray]:
        """Yield the voice of samples that come in pieces of any length, aligned with them and as long all in all."""
        skip = self.delay_samples
        for samples in blocks:
            made = self.feed(samples)
            yield made[skip:]
            skip = max(0, skip - len(made))
        yield self.finish()[skip:]

    def reset(self) -> None:
        """Forget all audio; the parameters stay."""
        self._waiting = np.zeros(0, np.float32)
        self._converter.reset()


class _ArraySource:
    """An array as a source to convert."""

    note = ""

    def __init__(self, frames: FloatArray, rate_hz: int) -> None:
        self._frames, self.rate_hz, self.channels, self.total_samples = frames, rate_hz, frames.shape[1], len(frames)

    def frames(self) -> Iterator[FloatArray]:
        for start in range(0, len(self._frames), SOURCE_BLOCK_SAMPLES):
            yield self._frames[start : start + SOURCE_BLOCK_SAMPLES]

    def __iter__(self) -> Iterator[FloatArray]:
        return (frames[:, 0] for frames in self.frames())


def _as_frames(audio: NDArray[Any]) -> FloatArray:
    """Return audio as float32 (T, C), full scale +-1.0, finite. Raises ParamError for what is no audio."""
    given = np.asarray(audio)
    if given.ndim not in (1, 2) or (given.ndim == 2 and not 1 <= given.shape[1] <= MAX_VOICES):
        raise ParamError(f"audio of shape {given.shape} cannot be converted; it takes (T,), or (T, C) with C in 1..{MAX_VOICES}")
    if np.issubdtype(given.dtype, np.signedinteger):
        made = given.astype(np.float64) / -float(np.iinfo(given.dtype).min)
    elif np.issubdtype(given.dtype, np.floating):
        made = given
    else:
        raise ParamError(f"audio of type {given.dtype} cannot be converted; it takes float or signed integers")
    with np.errstate(over="ignore"):
        frames = np.array(made, np.float32).reshape(len(given), -1 if given.size else (given.shape[1] if given.ndim == 2 else 1))
    frames[~np.isfinite(frames)] = 0.0
    return frames
