"""The one table of OSC verbs: routes, limits, wildcard rules and the reference in docs/osc.md are made from it."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rvcd.params import PARAMS
from rvcd.protocol import (
    DEFAULT_PORT,
    F0_METHODS,
    GROUPS,
    LATENCY_PRESET_NAMES,
    MONITOR_SOURCES,
    PITCH_MODES,
    PREFIX,
    SWITCH_ADDRESSES,
    switch_name,
)


class Action(enum.Enum):
    """What a verb does; the router has one handler for each."""

    NUMBER = enum.auto()
    NORM = enum.auto()
    STEP = enum.auto()
    RESET = enum.auto()
    SWITCH = enum.auto()
    SWITCH_ON = enum.auto()
    SWITCH_OFF = enum.auto()
    SWITCH_TOGGLE = enum.auto()
    PANIC = enum.auto()
    PANIC_CLEAR = enum.auto()
    VOICE = enum.auto()
    VOICE_NEXT = enum.auto()
    VOICE_PREV = enum.auto()
    VOICE_SLOT = enum.auto()
    VOICE_LIST = enum.auto()
    VOICE_RESCAN = enum.auto()
    SPEAKER = enum.auto()
    PRESET = enum.auto()
    PRESET_RECALL_N = enum.auto()
    PRESET_SAVE = enum.auto()
    PRESET_DELETE = enum.auto()
    PRESET_LIST = enum.auto()
    LATENCY_PRESET = enum.auto()
    F0_METHOD = enum.auto()
    MONITOR_SOURCE = enum.auto()
    PITCH_MODE = enum.auto()
    PING = enum.auto()
    VERSION = enum.auto()
    STATUS = enum.auto()
    STATS = enum.auto()
    SUBSCRIBE = enum.auto()
    UNSUBSCRIBE = enum.auto()


class Wildcard(enum.Enum):
    """What an address pattern may do with a verb. Only live numbers may be set by one; nothing is triggered."""

    SET = enum.auto()
    QUERY = enum.auto()
    NEVER = enum.auto()


class Limit(enum.Enum):
    """Which rate limit a verb counts against.

    HEAVY: what loads or writes a file. RARE: what starts a process. FREE: none: safety verbs must always pass, and values of
    numbers are coalesced per tick instead of dropped.
    """

    FREE = enum.auto()
    NORMAL = enum.auto()
    HEAVY = enum.auto()
    RARE = enum.auto()


@dataclass(frozen=True)
class Verb:
    """One address. Paths are below /rvc; a last part 'N' stands for a whole number.

    accepts, reply: type tags as users read them. range, unit: of the argument, "" where it has none.
    example: arguments of liblo's `oscsend HOST PORT`.
    subject: the parameter or switch it acts on, or "". trigger: fires on no argument or >= 0.5, ignores 0.
    """

    address: str
    action: Action
    accepts: str
    reply: str
    doc: str
    example: str
    subject: str = ""
    trigger: bool = False
    wildcard: Wildcard = Wildcard.NEVER
    limit: Limit = Limit.NORMAL
    range: str = ""
    unit: str = ""

    @property
    def full_address(self) -> str:
        """The address as it travels: '/rvc/pitch'."""
        return PREFIX + self.address


TRIGGER = "none or >= 0.5"


def _numbers() -> Iterator[Verb]:
    for param in PARAMS:
        at, name, unit = param.address, param.name, param.unit
        full, span = PREFIX + at, f"{param.low:g}..{param.high:g}"
        default = param.word(param.default) if param.choices else f"{param.default:g}"
        accepts, example = "f or i; none asks", f"f {param.default + param.step:g}"
        if param.choices:
            accepts, example, span = "s, f or i; none asks", f"s {param.choices[1]}", f"{span}: {param.range_text()}"
        yield Verb(
            at, Action.NUMBER, accepts, f"{full} ,f", param.doc, f"{full} {example}", name,
            wildcard=Wildcard.SET, limit=Limit.FREE, range=span, unit=unit,
        )  # fmt: skip
        yield Verb(
            at + "/norm", Action.NORM, "f or i; none asks", f"{full} ,f and {full}/norm ,f", f"{name} as 0..1 over its range",
            f"{full}/norm f 0.5", name, wildcard=Wildcard.SET, limit=Limit.FREE, range="0..1",
        )  # fmt: skip
        yield Verb(
            at + "/step", Action.STEP, "f or i", f"{full} ,f", f"change {name} by so much", f"{full}/step f {param.step:g}", name,
            range="relative", unit=unit,
        )  # fmt: skip
        yield Verb(
            at + "/reset", Action.RESET, TRIGGER, f"{full} ,f", f"{name} back to {default}", f"{full}/reset", name,
            trigger=True,
        )  # fmt: skip


@dataclass(frozen=True)
class Switch:
    """What a switch does, and how often it may be turned: whatever can silence the output is never limited."""

    doc: str
    limit: Limit = Limit.NORMAL


SWITCHES: Mapping[str, Switch] = {
    "/bypass": Switch("pass the raw voice through instead of converting it"),
    "/mute": Switch("silence the output", Limit.FREE),
    "/record": Switch("write input and output to a two-channel FLAC file; /rvc/fail says why it cannot", Limit.RARE),
    "/talk": Switch("on while a key is held: with `talk.mode` lets the voice out, or converts it", Limit.FREE),
    "/monitor/mute": Switch("silence the monitor, and nothing else", Limit.FREE),
}


def _switches() -> Iterator[Verb]:
    for at in SWITCH_ADDRESSES:
        name, full, switch = switch_name(at), PREFIX + at, SWITCHES[at]
        yield Verb(
            at, Action.SWITCH, "T F i f (>= 0.5 is on); none asks", f"{full} ,i", switch.doc, f"{full} i 1", name,
            wildcard=Wildcard.QUERY, limit=switch.limit, range="0, 1",
        )  # fmt: skip
        for word, action in (("on", Action.SWITCH_ON), ("off", Action.SWITCH_OFF), ("toggle", Action.SWITCH_TOGGLE)):
            yield Verb(
                f"{at}/{word}", action, TRIGGER, f"{full} ,i", f"{name} {word}", f"{full}/{word}", name,
                trigger=True, limit=switch.limit,
            )  # fmt: skip


_DONE_VOICE = "/rvc/done or /rvc/fail when it is live; /rvc/voice ,s; /rvc/voice/slot ,i"
_DONE_PRESET = "/rvc/done ,ss or /rvc/fail"

_OTHERS: tuple[Verb, ...] = (
    Verb("/panic", Action.PANIC, TRIGGER, "/rvc/panic ,i 1", "mute and flush, latched until /rvc/panic/clear",
         "/rvc/panic", trigger=True, limit=Limit.FREE),
    Verb("/panic/clear", Action.PANIC_CLEAR, TRIGGER, "/rvc/panic ,i 0", "release the panic latch",
         "/rvc/panic/clear", trigger=True, limit=Limit.FREE),
    Verb("/voice", Action.VOICE, "s name, or i/f slot; none asks", _DONE_VOICE, "switch to a voice of the registry",
         "/rvc/voice s Anna", wildcard=Wildcard.QUERY, limit=Limit.HEAVY, range="a name or slot of /rvc/voice/list"),
    Verb("/voice/next", Action.VOICE_NEXT, TRIGGER, _DONE_VOICE, "the next voice, round the registry",
         "/rvc/voice/next", trigger=True, limit=Limit.HEAVY),
    Verb("/voice/prev", Action.VOICE_PREV, TRIGGER, _DONE_VOICE, "the previous voice, round the registry",
         "/rvc/voice/prev", trigger=True, limit=Limit.HEAVY),
    Verb("/voice/slot", Action.VOICE, "i/f slot; none asks", _DONE_VOICE, "switch to the voice in a slot",
         "/rvc/voice/slot i 2", wildcard=Wildcard.QUERY, limit=Limit.HEAVY, range="1..999"),
    Verb("/voice/slot/N", Action.VOICE_SLOT, TRIGGER, _DONE_VOICE, "the same for buttons that send no argument",
         "/rvc/voice/slot/2", trigger=True, limit=Limit.HEAVY, range="N 1..999"),
    Verb("/voice/list", Action.VOICE_LIST, "none", "/rvc/voice/list ,is for each, then /rvc/voice/list/end ,i",
         "slot and name of every voice, then their number", "/rvc/voice/list", limit=Limit.HEAVY),
    Verb("/voice/rescan", Action.VOICE_RESCAN, TRIGGER, "/rvc/done ,si",
         "look through the folders again; how many voices there are", "/rvc/voice/rescan", trigger=True, limit=Limit.HEAVY),
    Verb("/speaker", Action.SPEAKER, "i/f number or s name; none asks", "/rvc/done or /rvc/fail; /rvc/speaker ,i",
         "choose the speaker of a multi-speaker voice", "/rvc/speaker i 0", wildcard=Wildcard.QUERY, limit=Limit.HEAVY,
         range="0..the voice's last"),
    Verb("/preset", Action.PRESET, "none", "/rvc/preset ,s", "the preset recalled last; empty when a parameter has moved since",
         "/rvc/preset", wildcard=Wildcard.QUERY),
    Verb("/preset/save", Action.PRESET_SAVE, "s name, or i/f number", _DONE_PRESET,
         "keep the present parameters under a name; replaces the one of this name or number",
         "/rvc/preset/save s Deep", limit=Limit.HEAVY, range="a name of 1 to 64 characters, or 1..128"),
    Verb("/preset/recall", Action.PRESET, "s name, or i/f number", _DONE_PRESET, "set every parameter as the preset has it",
         "/rvc/preset/recall s Deep", limit=Limit.HEAVY, range="a name or number of /rvc/preset/list"),
    Verb("/preset/recall/N", Action.PRESET_RECALL_N, TRIGGER, _DONE_PRESET, "the same for buttons that send no argument",
         "/rvc/preset/recall/1", trigger=True, limit=Limit.HEAVY, range="N 1..128"),
    Verb("/preset/list", Action.PRESET_LIST, "none", "/rvc/preset/list ,is for each, then /rvc/preset/list/end ,i",
         "number and name of every preset, then how many", "/rvc/preset/list", limit=Limit.HEAVY),
    Verb("/preset/delete", Action.PRESET_DELETE, "s name, or i/f number", _DONE_PRESET, "forget a preset",
         "/rvc/preset/delete s Deep", limit=Limit.HEAVY, range="a name or number of /rvc/preset/list"),
    Verb("/latency/preset", Action.LATENCY_PRESET, "s name, or i/f index from 0; none asks",
         "/rvc/done or /rvc/fail when it holds; /rvc/latency/preset ,s", "give the stream another latency; a short silence",
         "/rvc/latency/preset s safe", wildcard=Wildcard.QUERY, limit=Limit.HEAVY, range=", ".join(LATENCY_PRESET_NAMES)),
    Verb("/f0/method", Action.F0_METHOD, "s name, or i/f index from 0; none asks",
         "/rvc/done or /rvc/fail; /rvc/f0/method ,s", "choose how the pitch is tracked",
         "/rvc/f0/method s swift", wildcard=Wildcard.QUERY, limit=Limit.HEAVY, range=", ".join(F0_METHODS)),
    Verb("/monitor/source", Action.MONITOR_SOURCE, "s name, or i/f index from 0; none asks", "/rvc/monitor/source ,s",
         "what the monitor gives: what goes out, or your own voice", "/rvc/monitor/source s microphone",
         wildcard=Wildcard.QUERY, range=", ".join(MONITOR_SOURCES)),
    Verb("/pitch/mode", Action.PITCH_MODE, "s name, or i/f index from 0; none asks", "/rvc/pitch/mode ,s, or /rvc/fail",
         "auto: bring your median pitch to the voice's register, whole semitones, in pauses; pitch is added",
         "/rvc/pitch/mode s auto", wildcard=Wildcard.QUERY, range=", ".join(PITCH_MODES)),
    Verb("/ping", Action.PING, "numbers, strings, booleans", "/rvc/pong with the same arguments", "is anybody there",
         "/rvc/ping i 7"),
    Verb("/version", Action.VERSION, "none", "/rvc/version ,ss", "version of rvcd and of this protocol",
         "/rvc/version", wildcard=Wildcard.QUERY),
    Verb("/status", Action.STATUS, "none", "/rvc/status ,ssiiiii", "state, voice, bypass, mute, record, talk, panic",
         "/rvc/status", wildcard=Wildcard.QUERY),
    Verb("/stats", Action.STATS, "none", "/rvc/stats, every field of the telemetry in order",
         "the telemetry once, without subscribing", "/rvc/stats"),
    Verb("/subscribe", Action.SUBSCRIBE, "[i port] [i rate] [s groups]",
         "/rvc/done ,ssiisi, then the whole state once",
         "push changes and telemetry here for 10 s; repeat to renew (port 0: the one you send from)",
         "/rvc/subscribe iis 0 10 params,meters", limit=Limit.HEAVY,
         range=f"port 0, 1024..65535; rate 1..30; groups {', '.join(GROUPS)}", unit="messages a second"),
    Verb("/unsubscribe", Action.UNSUBSCRIBE, "none", "/rvc/done", "stop pushing here", "/rvc/unsubscribe"),
)  # fmt: skip

VERBS: tuple[Verb, ...] = (*_numbers(), *_switches(), *_OTHERS)
ROUTES: Mapping[str, Verb] = {verb.address: verb for verb in VERBS}

STATS_PATH = "/stats"
"""A question without arguments; with them it is what this side sends."""


@dataclass(frozen=True)
class Pushed:
    """One address that only this side sends to subscribers of a group, besides the echoes of changes."""

    address: str
    tags: str
    group: str
    doc: str


PUSHED: tuple[Pushed, ...] = (
    Pushed("/meter/in/peak", "f", "meters", "input peak since the last push, dBFS"),
    Pushed("/meter/out/peak", "f", "meters", "output peak since the last push, dBFS"),
    Pushed("/meter/monitor/peak", "f", "meters", "the monitor's peak since the last push, dBFS; only where there is a monitor"),
    Pushed("/latency/total", "f", "meters", "published latency, ms"),
    Pushed("/f0/hz", "f", "meters", "pitch of the speaker in Hz; 0 when unvoiced"),
    Pushed("/f0/note", "s", "meters", "its nearest note, `A4`; `-` when unvoiced"),
    Pushed("/f0/cents", "f", "meters", "how far off that note, -50..50 cents"),
    Pushed("/xruns", "i", "meters", "underruns and overruns of the device since the start"),
    Pushed("/buffer/fill", "f", "meters", "output ring, 0..1 of what it may hold"),
    Pushed("/load", "f", "meters", "computing time of the last block / its length"),
    Pushed("/gpu/util", "f", "meters", "GPU utilisation, 0..1; only where there is a GPU"),
    Pushed("/log", "iss", "log", "number, level and text of a line of the daemon's log"),
)
REPLIES = ("/done", "/fail", "/pong", "/voice/list/end", "/preset/list/end")
SENT_ONLY = frozenset((*REPLIES, *(pushed.address for pushed in PUSHED)))
"""Addresses only this side sends. Coming in they are ignored: answering would let two daemons talk for ever."""

MAX_NUMBER_DIGITS = 4


def find_verb(path: str) -> tuple[Verb, int] | None:
    """Return (verb, N or 0) of a path below /rvc, or None."""
    verb = ROUTES.get(path)
    if verb is not None:
        return (verb, 0) if not path.endswith("/N") else None
    parent, _, last = path.rpartition("/")
    numbered = ROUTES.get(parent + "/N")
    if numbered is None or not (last.isascii() and last.isdigit() and len(last) <= MAX_NUMBER_DIGITS):
        return None
    return numbered, int(last)


REFERENCE_TITLES = ("Address", "Arguments", "Range, unit", "Reply", "What it does", "Example")


def reference_rows() -> Iterator[tuple[str, ...]]:
    """Yield (address, arguments, range and unit, reply, what it does, example) of every verb, then of what is pushed."""
    for verb in VERBS:
        span = f"{verb.range} {verb.unit}".strip()
        yield verb.full_address, verb.accepts, span, verb.reply, verb.doc, verb.example
    for pushed in PUSHED:
        yield PREFIX + pushed.address, f"pushed ,{pushed.tags}", "", "", f"{pushed.doc} (group {pushed.group})", ""


def reference_markdown() -> str:
    """Return the table of docs/osc.md, one line an address."""
    lines = [f"| {' | '.join(REFERENCE_TITLES)} (`oscsend localhost {DEFAULT_PORT} ...`) |", "|---" * len(REFERENCE_TITLES) + "|"]
    for address, *cells, example in reference_rows():
        lines.append(f"| `{address}` | {' | '.join(cells)} | {f'`{example}`' if example else ''} |")
    return "\n".join(lines) + "\n"
