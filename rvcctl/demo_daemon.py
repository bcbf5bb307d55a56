"""A daemon that is only played: it obeys commands and tells a plausible story, as a function of the time it is given."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rvcctl.demo_singer import sung
from rvcctl.reading import number_of
from rvcd import protocol
from rvcd.errors import how_to_install
from rvcd.osc.codec import OscMessage
from rvcd.params import BY_ADDRESS, PARAMS, VOICE_PARAMS
from rvcd.protocol import (
    MONITOR_SOURCES,
    ON_FROM,
    PITCH_AUTO,
    PITCH_MANUAL,
    PITCH_MODES,
    SILENCE_DBFS,
    MonitorState,
    State,
    Stats,
)

Args = tuple[str | int | float, ...]

VOICES = ("Anna", "Bruno", "Choir", "Dusk", "Old take", "Robot")
SPEAKERS = {"Choir": 4}
BROKEN = {"Old take": "Old take.pth is a training file (it holds an optimizer); take the small file that was exported"}
LOAD_S = 1.4
RESIZE_S = 1.2
LATENCIES_MS: dict[str, tuple[float, float, float]] = {
    "low": (40.0, 116.0, 30.0), "balanced": (140.0, 116.0, 140.0), "safe": (200.0, 136.0, 160.0),
}  # fmt: skip
"""Block, lookahead with the synthesis tail, deadline."""
DEVICE_MS = (5.3, 10.7)
MISSING_METHODS = {
    "rmvpe": "rmvpe needs its weights: set models.rmvpe in the configuration",
    "fcpe": f"f0 method fcpe needs torchfcpe; {how_to_install('fcpe')}",
    "pm": f"f0 method pm needs praat-parselmouth; {how_to_install('pm')}",
}
METHOD_LOADS = {"swift": 0.0, "harvest": 0.28, "dio": -0.02, "yin": -0.04}
USUAL_LOADS = {"low": 0.61, "balanced": 0.47, "safe": 0.38}
SLOW_BLOCK_EVERY, SLOW_BLOCK = 331, 1.18
"""One block in so many takes this share of its own length: it is late."""
RATE_HZ = 48_000
UP_S = 3 * 3600.0 + 12 * 60.0
"""How long the demo claims to have run when it opens."""
PRESETS: dict[str, dict[str, float]] = {
    "Natural": {},
    "Deep": {"/pitch": -5.0, "/formant": -1.5, "/index_rate": 0.7},
    "Bright": {"/pitch": 4.0, "/formant": 1.0, "/protect": 0.25},
    "Stage": {"/pitch": 2.0, "/gate": -48.0, "/rms_mix": 0.6, "/gain/out": 3.0},
}


@dataclass
class _Due:
    """Something that happens later."""

    at_s: float
    what: Callable[[float], list[OscMessage]]


AUTO_SEMITONES, REGISTER_HZ = 4, 220.0


@dataclass
class DemoDaemon:
    """Call obey() for each command and tick() for the telemetry; both return messages with the /rvc prefix.

    Times are seconds of one clock; the same commands at the same times give the same messages.
    """

    started_s: float
    talk_mode: str = "push-to-talk"
    numbers: dict[str, float] = field(default_factory=lambda: {param.address: param.default for param in PARAMS})
    presets: dict[str, dict[str, float]] = field(default_factory=lambda: {name: dict(values) for name, values in PRESETS.items()})
    switches: dict[str, int] = field(
        default_factory=lambda: {**dict.fromkeys(protocol.SWITCH_ADDRESSES, 0), "/talk": 1, "/panic": 0}
    )
    voice: str = VOICES[0]
    speaker: int = 0
    method: str = "swift"
    latency: str = "balanced"
    preset: str = "Natural"
    loading: str = ""
    fault: str = ""
    monitor_state: str = MonitorState.OFF.value
    monitor_source: str = MONITOR_SOURCES[0]
    monitor_problem: str = ""
    pitch_mode: str = PITCH_MANUAL
    resizing: bool = False
    recorded_from_s: float = 0.0
    blocks: int = 0
    late_blocks: int = 0
    in_clips: int = 0
    out_clips: int = 0
    log_lines: int = 0
    _loads: deque[float] = field(default_factory=lambda: deque([0.4], maxlen=100))
    _due: list[_Due] = field(default_factory=list)
    _ticked_s: float | None = None

    # ---- commands

    def greeting(self) -> list[OscMessage]:
        """Return what a new subscriber is told at once: numbers, lists and the last lines of the log."""
        told = [_message(address, value) for address, value in self.numbers.items()]
        told += [*self._voice_list(), *self._preset_list()]
        told += self._log("info", "rvcd 0.1.0 starts (this is a demo: nothing is heard)")
        told += self._log("info", f"device scarlett 2i2 at {RATE_HZ} Hz, 256 samples; latency {self.latency}")
        return told + self._log("info", f"voice {self.voice} is live, loaded in {LOAD_S:.1f} s")

    def obey(self, address: str, args: Args, now_s: float) -> list[OscMessage]:
        """Carry out one command below /rvc and return what the daemon would answer."""
        if address in BY_ADDRESS:
            return self._set_number(address, args)
        if address in protocol.SWITCH_ADDRESSES:
            return self._set_switch(address, args, now_s)
        handlers: dict[str, Callable[[Args, float], list[OscMessage]]] = {
            "/panic": lambda _args, _now_s: self._panic(1),
            "/panic/clear": lambda _args, _now_s: self._panic(0),
            "/voice": lambda args, now_s: self._load(str(args[0]), "/voice", now_s),
            "/voice/slot": self._load_slot,
            "/voice/list": lambda _args, _now_s: self._voice_list(),
            "/speaker": self._set_speaker,
            "/preset/recall": self._recall,
            "/preset/save": self._save,
            "/preset/delete": self._delete,
            "/preset/list": lambda _args, _now_s: self._preset_list(),
            "/f0/method": self._set_method,
            "/latency/preset": self._set_latency,
            "/monitor/source": self._set_monitor_source,
            "/pitch/mode": self._set_pitch_mode,
        }
        if address not in handlers or (not args and address not in _WITHOUT_ARGUMENT):
            return _fail(address, "the demo does not know this command")
        return handlers[address](args, now_s)

    def _set_number(self, address: str, args: Args) -> list[OscMessage]:
        value = number_of(args[0]) if args else self.numbers[address]
        if value is None:
            return _fail(address, "a finite number is needed")
        applied = BY_ADDRESS[address].clamp(value)
        changed, self.numbers[address] = applied != self.numbers[address], applied
        echoes = [_message(address, applied)]
        if changed and self.preset and BY_ADDRESS[address].of_voice:
            self.preset = ""
            echoes.append(_message("/preset", ""))
        return echoes

    def _set_switch(self, address: str, args: Args, now_s: float) -> list[OscMessage]:
        on = int((number_of(args[0]) or 0.0) >= ON_FROM) if args else self.switches[address]
        lines: list[OscMessage] = []
        if address == "/record" and on != self.switches[address]:
            self.recorded_from_s = now_s
            lines = self._log("info", "records to take-007.flac" if on else "the recording ended: take-007.flac")
        self.switches[address] = on
        return [_message(address, on), *lines]

    def _panic(self, on: int) -> list[OscMessage]:
        self.switches["/panic"] = on
        return [_message("/panic", on), *self._log("warning" if on else "info", "panic" if on else "panic cleared")]

    def _load_slot(self, args: Args, now_s: float) -> list[OscMessage]:
        slot = int(number_of(args[0]) or 0)
        if not 1 <= slot <= len(VOICES):
            return _fail("/voice/slot", f"there is no voice in slot {slot}; slots 1..{len(VOICES)} are taken")
        return self._load(VOICES[slot - 1], "/voice/slot", now_s)

    def _load(self, name: str, address: str, now_s: float) -> list[OscMessage]:
        if name not in VOICES:
            return _fail(address, f"no voice is called '{name}'; /rvc/voice/list has the names")
        self.loading = name

        def loaded(_now_s: float) -> list[OscMessage]:
            if self.loading != name:
                return _fail(address, protocol.SUPERSEDED)
            self.loading = ""
            self.fault = f"'{name}' cannot be loaded: {BROKEN[name]}" if name in BROKEN else ""
            if name in BROKEN:
                return [*_fail(address, BROKEN[name]), *self._log("error", f"{BROKEN[name]}; {self.voice} stays live")]
            self.voice, self.speaker = name, 0
            return [
                _message("/done", protocol.PREFIX + address, name), _message("/voice", name),
                _message("/voice/slot", _slot_of(name)), _message("/speaker", 0),
                *self._log("info", f"voice {name} is live, loaded in {LOAD_S:.1f} s"),
            ]  # fmt: skip

        self._due.append(_Due(now_s + (LOAD_S / 2 if name in BROKEN else LOAD_S), loaded))
        return []

    def _set_speaker(self, args: Args, _now_s: float) -> list[OscMessage]:
        number, speakers = int(number_of(args[0]) or 0), SPEAKERS.get(self.voice, 1)
        if not 0 <= number < speakers:
            return _fail("/speaker", f"{self.voice} has no speaker {number}; it has 0..{speakers - 1}")
        self.speaker = number
        return [_message("/speaker", number), *_done("/speaker", number)]

    def _recall(self, args: Args, _now_s: float) -> list[OscMessage]:
        name = str(args[0])
        if name not in self.presets:
            return _fail("/preset/recall", f"no preset is called '{name}'; /rvc/preset/list has the names")
        for param in VOICE_PARAMS:
            self.numbers[param.address] = self.presets[name].get(param.address, param.default)
        self.preset = name
        echoes = [_message(address, value) for address, value in self.numbers.items()]
        return [*echoes, _message("/preset", name), *_done("/preset/recall", name), *self._log("info", f"preset {name} recalled")]

    def _save(self, args: Args, _now_s: float) -> list[OscMessage]:
        name = str(args[0])
        self.presets[name] = {param.address: self.numbers[param.address] for param in VOICE_PARAMS}
        self.preset = name
        told = [_message("/preset", name), *_done("/preset/save", name), *self._log("info", f"preset {name} saved")]
        return told + self._preset_list()

    def _delete(self, args: Args, _now_s: float) -> list[OscMessage]:
        name = str(args[0])
        if self.presets.pop(name, None) is None:
            return _fail("/preset/delete", f"no preset is called '{name}'")
        self.preset = "" if self.preset == name else self.preset
        told = [_message("/preset", self.preset), *_done("/preset/delete", name), *self._log("info", f"preset {name} deleted")]
        return told + self._preset_list()

    def _set_method(self, args: Args, _now_s: float) -> list[OscMessage]:
        name = str(args[0])
        if name in MISSING_METHODS or name not in protocol.F0_METHODS:
            return _fail("/f0/method", MISSING_METHODS.get(name, f"unknown pitch method '{name}'"))
        self.method = name
        return [_message("/f0/method", name), *_done("/f0/method", name), *self._log("info", f"pitch is tracked by {name}")]

    def _set_latency(self, args: Args, now_s: float) -> list[OscMessage]:
        name = str(args[0])
        if name not in LATENCIES_MS:
            return _fail("/latency/preset", f"unknown latency preset '{name}'; known: {', '.join(LATENCIES_MS)}")
        self.resizing = True

        def resized(_now_s: float) -> list[OscMessage]:
            self.latency, self.resizing = name, False
            self._loads.clear()
            self._loads.append(self._load_of(self.blocks))
            return [
                _message("/latency/preset", name), *_done("/latency/preset", name),
                *self._log("info", f"latency {name}: {self._latency_ms():.1f} ms"),
            ]  # fmt: skip

        self._due.append(_Due(now_s + RESIZE_S, resized))
        return []

    def _set_pitch_mode(self, args: Args, _now_s: float) -> list[OscMessage]:
        if args[0] not in PITCH_MODES:
            return _fail("/pitch/mode", f"unknown pitch mode '{args[0]}'; known: {', '.join(PITCH_MODES)}")
        self.pitch_mode = str(args[0])
        return [_message("/pitch/mode", self.pitch_mode)]

    def _set_monitor_source(self, args: Args, _now_s: float) -> list[OscMessage]:
        if args[0] not in MONITOR_SOURCES:
            return _fail("/monitor/source", f"unknown source of the monitor '{args[0]}'; known: {', '.join(MONITOR_SOURCES)}")
        self.monitor_source = str(args[0])
        return [_message("/monitor/source", self.monitor_source)]

    # ---- telemetry

    def tick(self, now_s: float) -> list[OscMessage]:
        """Return what happened since the last tick and the telemetry of now."""
        happened = []
        for due in [due for due in self._due if due.at_s <= now_s]:
            self._due.remove(due)
            happened += due.what(now_s)
        happened += self._compute_blocks(now_s)
        stats = self.stats(now_s)
        self.in_clips += stats.in_peak_dbfs > 0.0
        self.out_clips += stats.out_peak_dbfs >= 0.0
        return [*happened, OscMessage(protocol.PREFIX + "/stats", protocol.stats_to_args(stats))]

    def _compute_blocks(self, now_s: float) -> list[OscMessage]:
        """Compute the blocks that are due since the last tick; a slow one is late."""
        before_s, self._ticked_s = self._ticked_s if self._ticked_s is not None else now_s - 1.0, now_s
        block_s = LATENCIES_MS[self.latency][0] / 1000
        lines: list[OscMessage] = []
        for _ in range(min(200, int((now_s - self.started_s) / block_s) - int((before_s - self.started_s) / block_s))):
            self.blocks += 1
            self._loads.append(self._load_of(self.blocks))
            if self.blocks % SLOW_BLOCK_EVERY == 0:
                self.late_blocks += 1
                lines += self._log("warning", f"block {self.blocks} was late: another program took its time")
        return lines

    def _load_of(self, block: int) -> float:
        """Return computing time / length of a block: a usual one with a little noise, now and then a slow one."""
        if block and block % SLOW_BLOCK_EVERY == 0:
            return SLOW_BLOCK
        noise = math.sin(12.9898 * block) * 43758.5453
        return USUAL_LOADS[self.latency] + METHOD_LOADS[self.method] + 0.16 * (noise - math.floor(noise)) ** 3 - 0.03

    def _latency_ms(self) -> float:
        return sum(LATENCIES_MS[self.latency]) + sum(DEVICE_MS)

    def state(self) -> State:
        """Return the state, by the precedence of protocol.State."""
        on = self.switches
        if on["/panic"]:
            return State.PANIC
        if self.resizing:
            return State.STARTING
        if on["/mute"]:
            return State.MUTED
        if self.talk_mode == "push-to-talk" and not on["/talk"]:
            return State.STANDBY
        if on["/bypass"] or (self.talk_mode == "push-to-convert" and not on["/talk"]):
            return State.BYPASS
        if not self.voice:
            return State.NO_VOICE
        return State.LIVE

    def stats(self, now_s: float) -> Stats:
        """Return the telemetry of now."""
        at_s, state = now_s - self.started_s, self.state()
        f0_hz, sung_dbfs = sung(at_s)
        in_dbfs = max(SILENCE_DBFS, sung_dbfs + self.numbers["/gain/in"])
        _, said_dbfs = sung(max(0.0, at_s - self._latency_ms() / 1000))
        gated = said_dbfs + self.numbers["/gain/in"] < self.numbers["/gate"]
        audible = state in (State.LIVE, State.BYPASS) and not (gated and state is State.LIVE)
        block_ms, lookahead_ms, deadline_ms = LATENCIES_MS[self.latency]
        out_dbfs = min(said_dbfs + 2.5 + self.numbers["/gain/out"], 3.0) if audible else SILENCE_DBFS
        heard_dbfs = (in_dbfs if self.monitor_source == "microphone" else out_dbfs) + self.numbers["/monitor"]
        is_heard = self.monitor_state == MonitorState.OPEN and not self.switches["/monitor/mute"] and not self.switches["/panic"]
        load, compute_ms = self._loads[-1], self._loads[-1] * block_ms
        return Stats(
            state=state.value, voice=self.voice, voice_slot=_slot_of(self.voice), f0_method=self.method,
            bypass=self.switches["/bypass"], mute=self.switches["/mute"], panic=self.switches["/panic"],
            in_peak_dbfs=in_dbfs, in_clips=self.in_clips, out_clips=self.out_clips, f0_hz=f0_hz,
            out_peak_dbfs=out_dbfs,
            latency_total_ms=self._latency_ms(), latency_device_in_ms=DEVICE_MS[0], latency_device_out_ms=DEVICE_MS[1],
            latency_block_ms=block_ms, latency_lookahead_ms=lookahead_ms, latency_deadline_ms=deadline_ms,
            ring_fill=0.55 + 0.2 * math.sin(0.7 * at_s) * math.sin(2.9 * at_s), load=load, load_p95=_p95(self._loads),
            blocks=self.blocks, late_blocks=self.late_blocks, expired_samples=int(0.04 * RATE_HZ) * self.late_blocks,
            callback_gap_max_ms=5.9, encode_ms=0.52 * compute_ms, pitch_ms=0.17 * compute_ms, synthesis_ms=0.27 * compute_ms,
            rate_hz=RATE_HZ, device="scarlett 2i2", uptime_s=UP_S + at_s, record=self.switches["/record"],
            record_s=now_s - self.recorded_from_s if self.switches["/record"] else 0.0,
            talk=self.switches["/talk"], talk_mode=self.talk_mode, speaker=self.speaker, speakers=SPEAKERS.get(self.voice, 1),
            latency_preset=self.latency, preset=self.preset, loading=self.loading,
            late_samples=int(0.04 * RATE_HZ) * self.late_blocks, late_events=self.late_blocks,
            retrieval_ms=0.02 * compute_ms, scheduling="FIFO 60", fault=self.fault,
            monitor_state=self.monitor_state, monitor_source=self.monitor_source, monitor_mute=self.switches["/monitor/mute"],
            monitor_problem=self.monitor_problem, monitor_peak_dbfs=max(SILENCE_DBFS, heard_dbfs) if is_heard else SILENCE_DBFS,
            pitch_mode=self.pitch_mode, register_hz=REGISTER_HZ,
            pitch_auto=AUTO_SEMITONES if self.pitch_mode == PITCH_AUTO else 0,
            gpu_util=0.31 + 0.05 * math.sin(1.3 * at_s), gpu_memory_mb=2150.0, gpu_memory_total_mb=8192.0,
        )  # fmt: skip

    def _voice_list(self) -> list[OscMessage]:
        return _listed("/voice/list", VOICES)

    def _preset_list(self) -> list[OscMessage]:
        return _listed("/preset/list", tuple(self.presets))

    def _log(self, level: str, text: str) -> list[OscMessage]:
        self.log_lines += 1
        return [_message("/log", self.log_lines, level, text)]


_WITHOUT_ARGUMENT = frozenset({"/panic", "/panic/clear", "/voice/list", "/preset/list"})


def _slot_of(voice: str) -> int:
    return VOICES.index(voice) + 1 if voice else 0


def _message(address: str, *args: str | int | float) -> OscMessage:
    return OscMessage(protocol.PREFIX + address, args)


def _done(address: str, *subject: str | int) -> list[OscMessage]:
    return [_message("/done", protocol.PREFIX + address, *subject)]


def _fail(address: str, reason: str) -> list[OscMessage]:
    return [_message("/fail", protocol.PREFIX + address, reason)]


def _listed(address: str, names: tuple[str, ...]) -> list[OscMessage]:
    items = [_message(address, number, name) for number, name in enumerate(names, start=1)]
    return [*items, _message(address + "/end", len(names))]


def _p95(loads: deque[float]) -> float:
    return sorted(loads)[max(0, math.ceil(0.95 * len(loads)) - 1)]
