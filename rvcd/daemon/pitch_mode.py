"""Whether the user alone transposes, or auto does below the user's own `pitch`: the mode, and what it makes of each voice."""

from __future__ import annotations

import logging

from rvcd.daemon.auto_pitch import AutoPitch
from rvcd.errors import ParamError
from rvcd.ipc.messages import VoiceFiles
from rvcd.ipc.worker_stats import WorkerStats
from rvcd.params import BY_NAME, ParamStore
from rvcd.protocol import PITCH_AUTO, PITCH_MANUAL

log = logging.getLogger("rvcd.pitch")


class PitchMode:
    """Owns the mode and the automatic transposition. `pitch` stays the user's: auto is added to it (transposition())."""

    def __init__(self, mode: str, semitones: int, params: ParamStore) -> None:
        """mode: one of protocol.PITCH_MODES. semitones: what auto chose last, in the run before."""
        self.mode = mode
        self._auto, self._params = AutoPitch(semitones if mode == PITCH_AUTO else 0), params
        self._register_hz, self._warned = 0.0, ""
        self._blocks = 0.0

    @property
    def register_hz(self) -> float:
        """The live voice's, 0.0: not known, or there is no voice."""
        return self._register_hz

    @property
    def acts(self) -> bool:
        """Whether auto transposes the live voice."""
        return self.mode == PITCH_AUTO and self._register_hz > 0

    @property
    def semitones(self) -> int:
        """What auto adds to `pitch`: whole semitones, 0 where it does not act."""
        return self._auto.semitones if self.acts else 0

    def transposition(self) -> float:
        """Return pitch and auto together, in semitones, within the parameter's range."""
        return BY_NAME["pitch"].clamp(self._params.get("pitch") + self.semitones)

    def set(self, mode: str, voice: VoiceFiles | None) -> None:
        """Change the mode without a jump: auto begins with what `pitch` was, which becomes 0, and `pitch` gets it back after.

        Raises ParamError where auto has nothing to go by.
        """
        if mode == self.mode and (mode == PITCH_MANUAL or self.acts):
            return
        self.use_voice(voice)
        pitch = self._params.get("pitch")
        if mode == PITCH_AUTO:
            if voice is None:
                raise ParamError("pitch mode auto: there is no voice whose register it could follow; choose a voice first")
            if not voice.f0_median_hz:
                raise ParamError(f"pitch mode auto: {voice.name} {_how_to_know(voice.name)}")
            self._auto.semitones = round(pitch)
            self._params.set("pitch", pitch - round(pitch))
        else:
            self._params.set("pitch", pitch + self.semitones)
        self.mode = mode
        self._auto.use_register(self._register_hz if mode == PITCH_AUTO else 0.0)

    def use_voice(self, voice: VoiceFiles | None) -> None:
        """A voice is live. One without a register is transposed by `pitch` alone, which is told once for each voice."""
        self._register_hz = voice.f0_median_hz if voice is not None else 0.0
        if self.mode != PITCH_AUTO:
            return
        if self._register_hz:
            self._auto.use_register(self._register_hz)
        elif voice is not None and self._warned != voice.path:
            self._warned = voice.path
            log.warning("pitch mode auto: %s %s; until then its pitch is set by hand", voice.name, _how_to_know(voice.name))

    def look(self, stats: WorkerStats, block_s: float) -> bool:
        """Hear what the newest blocks say of the speaker; call it often. Returns whether the transposition has moved."""
        blocks, self._blocks = stats.blocks - self._blocks, stats.blocks
        if blocks <= 0:  # none, or another worker's first
            return False
        moved = self._auto.hear(min(blocks, 4) * block_s, stats.f0_hz, stats.voiced >= 0.5, stats.level_dbfs)
        if moved and self.acts:
            log.info("pitch mode auto: %+d semitones (you: %.0f Hz, the voice: %.0f Hz)", self.semitones,
                     self._auto.speaker_hz, self._register_hz)  # fmt: skip
        return moved and self.acts


def _how_to_know(name: str) -> str:
    return f"has no register (f0_median_hz in its voice.toml); `rvcd voice register '{name}' --sample FILE` measures it"
