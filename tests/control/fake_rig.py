"""An honest stand-in for the daemon: it keeps real values, and its voices take as long to load as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rvcd.control.rig import NO_VOICE, VoiceStatus
from rvcd.errors import MissingExtraError, ModelFileError
from rvcd.params import ParamStore
from rvcd.protocol import State, Stats


@dataclass
class FakeRig:
    """Satisfies rvcd.control.rig.Rig. gate: while set to an unset Event, loading a voice waits for it."""

    version: str = "0.1.0"
    params: ParamStore = field(default_factory=ParamStore)
    switches: dict[str, bool] = field(default_factory=lambda: {"bypass": False, "mute": False})
    is_panicked: bool = False
    live: VoiceStatus = NO_VOICE
    registry: tuple[VoiceStatus, ...] = (VoiceStatus("Anna", 1), VoiceStatus("Bo Li", 2), VoiceStatus("broken.v2", 3))
    method: str = "swift"
    gate: asyncio.Event | None = None
    loads: list[str] = field(default_factory=list)
    applied: list[tuple[str, float]] = field(default_factory=list)
    telemetry: Stats = field(default_factory=Stats)
    defect: bool = False

    def state(self) -> State:
        if self.is_panicked:
            return State.PANIC
        if self.switches["mute"]:
            return State.MUTED
        return State.LIVE if self.live.slot else State.NO_VOICE

    def stats(self) -> Stats:
        return replace(self.telemetry, state=self.state().value, voice=self.live.name)

    def get_param(self, name: str) -> float:
        return self.params.get(name)

    def set_param(self, name: str, value: float) -> float:
        if self.defect:
            raise ZeroDivisionError("a defect inside the daemon")
        applied = self.params.set(name, value)
        self.applied.append((name, applied))
        return applied

    def get_switch(self, name: str) -> bool:
        return self.switches[name]

    def set_switch(self, name: str, on: bool) -> bool:
        self.switches[name] = on
        return on

    def panicked(self) -> bool:
        return self.is_panicked

    def panic(self) -> None:
        self.is_panicked = True

    def clear_panic(self) -> None:
        self.is_panicked = False

    def voice(self) -> VoiceStatus:
        return self.live

    def voices(self) -> Sequence[VoiceStatus]:
        return self.registry

    async def load_voice(self, name_or_slot: str | int) -> VoiceStatus:
        self.loads.append(str(name_or_slot))
        if self.gate is not None:
            await self.gate.wait()
        found = next(voice for voice in self.registry if name_or_slot in (voice.name, voice.slot))
        if found.name.startswith("broken"):
            raise ModelFileError(f"{found.name}.pth: is cut short; copy it again")
        self.live = found
        return found

    def f0_method(self) -> str:
        return self.method

    async def set_f0_method(self, name: str) -> str:
        if name == "pm":
            raise MissingExtraError("pm needs praat-parselmouth; install it with: pip install rvcd[pm]")
        self.method = name
        return name
