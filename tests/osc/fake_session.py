"""An honest stand-in for the daemon: it keeps real values, and its voices and disks take as long as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rvcd.daemon.presets import PresetBook
from rvcd.errors import MissingExtraError, ModelFileError, ParamError, RvcdError, how_to_install
from rvcd.osc.session import NO_VOICE, LogLine, SupersededError, VoiceStatus
from rvcd.params import ParamStore
from rvcd.protocol import SWITCH_ADDRESSES, State, Stats, switch_name


async def first_of(*events: asyncio.Event) -> None:
    """Wait until one of some events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


@dataclass
class FakeSession:
    """Satisfies rvcd.osc.session.Session.

    gate: while set to an unset Event, loading a voice waits for it. disk: the same for what is written (presets).
    is_ready: while False, state and telemetry cannot be told.
    """

    version: str = "0.1.0"
    params: ParamStore = field(default_factory=ParamStore)
    switches: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(map(switch_name, SWITCH_ADDRESSES), False))
    monitored: str = "converted"
    mode_of_pitch: str = "manual"
    without_register: bool = False
    is_panicked: bool = False
    live: VoiceStatus = NO_VOICE
    registry: tuple[VoiceStatus, ...] = (VoiceStatus("Anna", 1), VoiceStatus("Bo Li", 2), VoiceStatus("broken.v2", 3))
    method: str = "swift"
    gate: asyncio.Event | None = None
    disk: asyncio.Event | None = None
    is_ready: bool = True
    loads: list[str] = field(default_factory=list)
    applied: list[tuple[str, float]] = field(default_factory=list)
    telemetry: Stats = field(default_factory=Stats)
    defect: bool = False
    disk_is_full: bool = False
    speaker_number: int = 0
    book: PresetBook = field(default_factory=PresetBook)
    recalled: str = ""
    latency: str = "balanced"
    lines: list[LogLine] = field(default_factory=list)
    pending: VoiceStatus | None = None
    newest_load: asyncio.Event = field(default_factory=asyncio.Event, compare=False)

    def state(self) -> State:
        if not self.is_ready:
            raise KeyError("nothing measured yet")
        if self.is_panicked:
            return State.PANIC
        if self.switches["mute"]:
            return State.MUTED
        return State.LIVE if self.live.slot else State.NO_VOICE

    def stats(self) -> Stats:
        return replace(
            self.telemetry, state=self.state().value, voice=self.live.name, latency_preset=self.latency, preset=self.recalled
        )

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

    async def set_record(self, on: bool) -> bool:
        if on and self.disk_is_full:
            raise RvcdError("/recordings: 12 MB are free and 500 MB are needed; delete something there")
        return self.set_switch("record", on)

    def monitor_source(self) -> str:
        return self.monitored

    def set_monitor_source(self, name: str) -> str:
        self.monitored = name
        return name

    def pitch_mode(self) -> str:
        return self.mode_of_pitch

    def set_pitch_mode(self, name: str) -> str:
        if name == "auto" and self.without_register:
            raise ParamError("pitch mode auto: Anna has no register")
        self.mode_of_pitch = name
        return name

    def panicked(self) -> bool:
        return self.is_panicked

    def panic(self) -> None:
        self.is_panicked = True

    def clear_panic(self) -> None:
        self.is_panicked = False

    def voice(self) -> VoiceStatus:
        return self.live

    def wanted_voice(self) -> VoiceStatus:
        return self.pending or self.live

    def voices(self) -> Sequence[VoiceStatus]:
        return self.registry

    async def load_voice(self, name_or_slot: str | int) -> VoiceStatus:
        found = next(voice for voice in self.registry if name_or_slot in (voice.name, voice.slot))
        self.loads.append(found.name)
        self.pending = found
        self.newest_load.set()
        superseded = self.newest_load = asyncio.Event()
        if self.gate is not None:
            await first_of(self.gate, superseded)
        if superseded.is_set():
            raise SupersededError
        self.pending = None
        if found.name.startswith("broken"):
            raise ModelFileError(f"{found.name}.pth: is cut short; copy it again")
        self.live = found
        return found

    async def rescan_voices(self) -> int:
        return len(self.registry)

    def speaker(self) -> int:
        return self.speaker_number

    async def set_speaker(self, name_or_number: str | int) -> int:
        names = ("alto", "tenor")
        number = names.index(name_or_number) if name_or_number in names else name_or_number
        if not isinstance(number, int) or not 0 <= number < len(names):
            raise RvcdError(f"no speaker {name_or_number}; known: alto, tenor")
        self.speaker_number = number
        return number

    def preset(self) -> str:
        return self.recalled

    def presets(self) -> Sequence[str]:
        return self.book.names

    def recall_preset(self, name_or_number: str | int) -> str:
        preset = self.book.find(name_or_number)
        for name, value in preset.params.items():
            self.params.set(name, value)
        self.recalled = preset.name
        return preset.name

    async def save_preset(self, name_or_number: str | int) -> str:
        await self.write()
        self.book, self.recalled = self.book.put(name_or_number, self.params.of_voice())
        return self.recalled

    async def delete_preset(self, name_or_number: str | int) -> str:
        await self.write()
        self.book, name = self.book.without(name_or_number)
        return name

    async def write(self) -> None:
        if self.disk is not None:
            await self.disk.wait()

    def latency_preset(self) -> str:
        return self.latency

    async def set_latency_preset(self, name: str) -> str:
        self.latency = name
        return name

    def hint(self) -> str:
        return ""

    def advice(self) -> str:
        return ""

    def log_lines(self, after: int) -> Sequence[LogLine]:
        return [line for line in self.lines if line.number > after]

    def f0_method(self) -> str:
        return self.method

    async def set_f0_method(self, name: str) -> str:
        if name == "pm":
            raise MissingExtraError(f"pm needs praat-parselmouth; {how_to_install('pm')}")
        self.method = name
        return name
