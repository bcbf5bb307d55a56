"""The one table of OSC verbs: routes, limits, wildcard rules and the README's reference are made from it."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rvcd.params import PARAMS
from rvcd.protocol import PREFIX, SWITCH_ADDRESSES


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
    F0_METHOD = enum.auto()
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

    FREE: none. Safety verbs must always pass, and values of numbers are coalesced per tick instead of dropped.
    """

    FREE = enum.auto()
    NORMAL = enum.auto()
    HEAVY = enum.auto()


@dataclass(frozen=True)
class Verb:
    """One address. Paths are below /rvc; a last part 'N' stands for a whole number.

    accepts, reply: type tags as users read them. example: arguments of liblo's `oscsend HOST PORT`.
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

    @property
    def full_address(self) -> str:
        """The address as it travels: '/rvc/pitch'."""
        return PREFIX + self.address


def _numbers() -> Iterator[Verb]:
    for param in PARAMS:
        at, name = param.address, param.name
        full = PREFIX + at
        yield Verb(
            at, Action.NUMBER, "f or i; none asks", f"{full} ,f", f"{param.doc} ({param.range_text()})",
            f"{full} f {param.default + param.step:g}", name, wildcard=Wildcard.SET, limit=Limit.FREE,
        )  # fmt: skip
        yield Verb(
            at + "/norm", Action.NORM, "f or i, 0..1; none asks", f"{full} ,f and {full}/norm ,f",
            f"{name} as 0..1 over its range", f"{full}/norm f 0.5", name, wildcard=Wildcard.SET, limit=Limit.FREE,
        )  # fmt: skip
        yield Verb(
            at + "/step", Action.STEP, "f or i", f"{full} ,f", f"change {name} by so much", f"{full}/step f {param.step:g}", name,
        )  # fmt: skip
        yield Verb(
            at + "/reset", Action.RESET, "none or >= 0.5", f"{full} ,f", f"{name} back to {param.default:g}",
            f"{full}/reset", name, trigger=True,
        )  # fmt: skip


_SWITCH_DOCS = {"/bypass": "pass the raw voice through instead of converting it", "/mute": "silence the output"}


def _switches() -> Iterator[Verb]:
    for at in SWITCH_ADDRESSES:
        name, full, doc = at.lstrip("/"), PREFIX + at, _SWITCH_DOCS[at]
        limit = Limit.FREE if at == "/mute" else Limit.NORMAL
        yield Verb(
            at, Action.SWITCH, "T F i f (>= 0.5 is on); none asks", f"{full} ,i", doc, f"{full} i 1", name,
            wildcard=Wildcard.QUERY, limit=limit,
        )  # fmt: skip
        for word, action in (("on", Action.SWITCH_ON), ("off", Action.SWITCH_OFF), ("toggle", Action.SWITCH_TOGGLE)):
            yield Verb(
                f"{at}/{word}", action, "none or >= 0.5", f"{full} ,i", f"{name} {word}", f"{full}/{word}", name,
                trigger=True, limit=limit,
            )  # fmt: skip


_DONE_VOICE = "/rvc/done or /rvc/fail when it is live; /rvc/voice ,s; /rvc/voice/slot ,i"

_OTHERS: tuple[Verb, ...] = (
    Verb("/panic", Action.PANIC, "none or >= 0.5", "/rvc/panic ,i 1", "mute and flush, latched until /rvc/panic/clear",
         "/rvc/panic", trigger=True, limit=Limit.FREE),
    Verb("/panic/clear", Action.PANIC_CLEAR, "none or >= 0.5", "/rvc/panic ,i 0", "release the panic latch",
         "/rvc/panic/clear", trigger=True, limit=Limit.FREE),
    Verb("/voice", Action.VOICE, "s name, or i/f slot; none asks", _DONE_VOICE, "switch to a voice of the registry",
         "/rvc/voice s Anna", wildcard=Wildcard.QUERY, limit=Limit.HEAVY),
    Verb("/voice/next", Action.VOICE_NEXT, "none or >= 0.5", _DONE_VOICE, "the next voice, round the registry",
         "/rvc/voice/next", trigger=True, limit=Limit.HEAVY),
    Verb("/voice/prev", Action.VOICE_PREV, "none or >= 0.5", _DONE_VOICE, "the previous voice, round the registry",
         "/rvc/voice/prev", trigger=True, limit=Limit.HEAVY),
    Verb("/voice/slot", Action.VOICE, "i/f slot; none asks", _DONE_VOICE, "switch to the voice in a slot (from 1)",
         "/rvc/voice/slot i 2", wildcard=Wildcard.QUERY, limit=Limit.HEAVY),
    Verb("/voice/slot/N", Action.VOICE_SLOT, "none or >= 0.5", _DONE_VOICE, "the same for buttons that send no argument",
         "/rvc/voice/slot/2", trigger=True, limit=Limit.HEAVY),
    Verb("/voice/list", Action.VOICE_LIST, "none", "/rvc/voice/list ,is for each, then /rvc/voice/list/end ,i",
         "slot and name of every voice, then their number", "/rvc/voice/list", limit=Limit.HEAVY),
    Verb("/f0/method", Action.F0_METHOD, "s name, or i/f index from 0; none asks",
         "/rvc/done or /rvc/fail; /rvc/f0/method ,s", "choose how the pitch is tracked",
         "/rvc/f0/method s swift", wildcard=Wildcard.QUERY, limit=Limit.HEAVY),
    Verb("/ping", Action.PING, "numbers, strings, booleans", "/rvc/pong with the same arguments", "is anybody there",
         "/rvc/ping i 7"),
    Verb("/version", Action.VERSION, "none", "/rvc/version ,ss", "version of rvcd and of this protocol",
         "/rvc/version", wildcard=Wildcard.QUERY),
    Verb("/status", Action.STATUS, "none", "/rvc/status ,ssiii", "state, voice, bypass, mute, panic",
         "/rvc/status", wildcard=Wildcard.QUERY),
    Verb("/stats", Action.STATS, "none", "/rvc/stats, every field of the telemetry in order",
         "the telemetry once, without subscribing", "/rvc/stats"),
    Verb("/subscribe", Action.SUBSCRIBE, "[i port] [i Hz 1-30] [s groups]",
         "/rvc/done ,ssiisi, then the whole state once",
         "push changes and telemetry here for 10 s; repeat to renew (port 0: the one you send from)",
         "/rvc/subscribe iis 0 10 params,meters", limit=Limit.HEAVY),
    Verb("/unsubscribe", Action.UNSUBSCRIBE, "none", "/rvc/done", "stop pushing here", "/rvc/unsubscribe"),
)  # fmt: skip

VERBS: tuple[Verb, ...] = (*_numbers(), *_switches(), *_OTHERS)
ROUTES: Mapping[str, Verb] = {verb.address: verb for verb in VERBS}

STATS_PATH = "/stats"
"""A question without arguments; with them it is what this side sends."""
SENT_ONLY = frozenset((
    "/done", "/fail", "/pong", "/voice/list/end", "/meter/in/peak", "/meter/out/peak", "/latency/total",
    "/f0/hz", "/f0/note", "/f0/cents", "/xruns", "/buffer/fill", "/load",
))  # fmt: skip
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


def reference_markdown() -> str:
    """Return the table for the README, one line a verb."""
    lines = ["| Address | Arguments | Reply | What it does | Example (`oscsend localhost 9720 ...`) |", "|---|---|---|---|---|"]
    lines += [f"| `{v.full_address}` | {v.accepts} | {v.reply} | {v.doc} | `{v.example}` |" for v in VERBS]
    return "\n".join(lines) + "\n"
