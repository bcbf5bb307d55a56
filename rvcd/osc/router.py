"""From a decoded message to the session: finds the verb, applies limits, acts, and replies in scsynth's grammar."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rvcd.config.logs import LogThrottle, fields, get_logger, one_printable_line
from rvcd.errors import ProtocolError, RvcdError
from rvcd.osc import arguments
from rvcd.osc.arguments import Args
from rvcd.osc.codec import OscMessage
from rvcd.osc.job_queue import Job, JobQueues, Order
from rvcd.osc.limits import RATES, WILDCARD_COST, Sources, TokenBucket
from rvcd.osc.names import did_you_mean, find_name, whole_in
from rvcd.osc.numbers import Numbers
from rvcd.osc.patterns import is_pattern, match
from rvcd.osc.publisher import Publisher, status_message
from rvcd.osc.session import NO_VOICE, Session, SupersededError, VoiceStatus
from rvcd.osc.subscriptions import DEFAULT_HZ, SocketAddress, Subscriptions
from rvcd.osc.verbs import SENT_ONLY, STATS_PATH, VERBS, Action, Limit, Verb, Wildcard, find_verb
from rvcd.params import BY_NAME
from rvcd.protocol import (
    F0_METHODS,
    LATENCY_PRESET_NAMES,
    MONITOR_SOURCES,
    PITCH_MODES,
    PREFIX,
    PROTOCOL_VERSION,
    SWITCH_ADDRESSES,
    switch_name,
)

MAX_REASON = 300
"""Characters of a /fail's reason."""
FAILURE_LINES_HZ, FAILURE_LINES_BURST = 0.2, 10.0
"""Lines a second in the log about commands that failed, and the most at once: a client that errs must not fill a disk."""

_log = get_logger("osc")
T = TypeVar("T")


@dataclass
class RouterCounters:
    """Well-formed messages since the start, and what became of the ones not acted on."""

    messages: int = 0
    foreign: int = 0
    unknown: int = 0
    throttled: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Call:
    """One message on its way to a handler. sent_as: the full address its sender used. n: the N of a numbered verb."""

    verb: Verb
    args: Args
    sender: SocketAddress
    sent_as: str
    n: int = 0


class Router:
    """Handles messages on the event loop's thread.

    defer(seconds, function) runs a function later (loop.call_later). local_port() is the port listened on.
    """

    def __init__(
        self,
        session: Session,
        publisher: Publisher,
        subscriptions: Subscriptions,
        queues: JobQueues,
        *,
        clock: Callable[[], float],
        defer: Callable[[float, Callable[[], None]], object],
        local_port: Callable[[], int],
    ) -> None:
        self._session = session
        self._publisher = publisher
        self._subscriptions = subscriptions
        self._queues = queues
        self._clock, self._local_port = clock, local_port
        self.sources = Sources(clock)
        self.counters = RouterCounters()
        self._numbers = Numbers(session, publisher, clock=clock, defer=defer, failed=self._number_failed)
        self._unloadable = (NO_VOICE, NO_VOICE)
        """(what was wanted when a load had failed, the voice that could not be loaded): next and prev go on from there."""
        self._crash_lines = LogThrottle(clock=clock)
        self._failure_lines = TokenBucket(FAILURE_LINES_HZ, FAILURE_LINES_BURST, FAILURE_LINES_BURST, clock())
        self._unlogged_failures = 0
        self._handlers: dict[Action, Callable[[Call], None]] = {
            Action.NUMBER: self._number,
            Action.NORM: self._number,
            Action.STEP: self._step,
            Action.RESET: self._reset,
            Action.SWITCH: self._switch,
            Action.SWITCH_ON: lambda call: self._set_switch(call, True),
            Action.SWITCH_OFF: lambda call: self._set_switch(call, False),
            Action.SWITCH_TOGGLE: lambda call: self._set_switch(call, not self._session.get_switch(call.verb.subject)),
            Action.PANIC: self._panic,
            Action.PANIC_CLEAR: self._panic_clear,
            Action.VOICE: self._voice,
            Action.VOICE_NEXT: lambda call: self._load_voice(call, lambda: self._voice_beside(1)),
            Action.VOICE_PREV: lambda call: self._load_voice(call, lambda: self._voice_beside(-1)),
            Action.VOICE_SLOT: lambda call: self._load_voice(call, lambda: self._voice_in_slot(call.n)),
            Action.VOICE_LIST: self._voice_list,
            Action.VOICE_RESCAN: self._voice_rescan,
            Action.SPEAKER: self._speaker,
            Action.PRESET: self._preset,
            Action.PRESET_RECALL_N: lambda call: self._recall_preset(call, call.n),
            Action.PRESET_SAVE: lambda call: self._change_preset(call, self._session.save_preset),
            Action.PRESET_DELETE: lambda call: self._change_preset(call, self._session.delete_preset),
            Action.PRESET_LIST: self._preset_list,
            Action.LATENCY_PRESET: self._latency_preset,
            Action.F0_METHOD: self._f0_method,
            Action.MONITOR_SOURCE: self._monitor_source,
            Action.PITCH_MODE: self._pitch_mode,
            Action.PING: self._ping,
            Action.VERSION: self._version,
            Action.STATUS: self._status,
            Action.STATS: lambda call: self._publisher.reply_stats(call.sender),
            Action.SUBSCRIBE: self._subscribe,
            Action.UNSUBSCRIBE: self._unsubscribe,
        }

    def handle(self, message: OscMessage, sender: SocketAddress) -> None:
        """Act on one message. Never raises: what a client got wrong becomes a /fail, a defect a log line and a /fail."""
        self.counters.messages += 1
        if not message.address.startswith(PREFIX + "/"):
            self.counters.foreign += 1
            return
        path = message.address[len(PREFIX) :]
        if path in SENT_ONLY or (path == STATS_PATH and message.args):
            self.counters.foreign += 1
        elif is_pattern(message.address):
            self._handle_pattern(message, sender)
        else:
            found = find_verb(path)
            if found is None:
                self.counters.unknown += 1
                if self._permitted(sender, Limit.NORMAL):
                    self._fail(sender, message.address, "unknown address")
                return
            verb, n = found
            call = Call(verb, message.args, sender, message.address, n)
            if self._permitted_call(call):
                self._run(call)

    def _handle_pattern(self, message: OscMessage, sender: SocketAddress) -> None:
        """Let a pattern set or query numbers and query other values; it never triggers anything."""
        if not self._permitted(sender, Limit.NORMAL, WILDCARD_COST):
            return
        allowed = (Wildcard.SET,) if message.args else (Wildcard.SET, Wildcard.QUERY)
        found = [verb for verb in VERBS if verb.wildcard in allowed and match(message.address, verb.full_address)]
        if found and not self._permitted(sender, Limit.NORMAL, len(found)):
            return  # each match is worked for and answered as a message of its own
        for verb in found:
            self._run(Call(verb, message.args, sender, message.address))
        if not found:
            self.counters.unknown += 1
            what = "number" if message.args else "value"
            self._fail(sender, message.address, f"matches no {what}; patterns do not trigger anything")

    def _permitted(self, sender: SocketAddress, limit: Limit, cost: float = 1.0) -> bool:
        permitted = self.sources.take((sender[0], sender[1]), limit, cost)
        self.counters.throttled += not permitted
        return permitted

    def _permitted_call(self, call: Call) -> bool:
        """Count a call against its verb's limit. Over a low one the sender is told, over the normal one it is not."""
        asks_only = not call.args and call.verb.wildcard is not Wildcard.NEVER
        limit = call.verb.limit
        is_low = limit in (Limit.HEAVY, Limit.RARE)
        if asks_only and is_low:
            limit, is_low = Limit.NORMAL, False
        if not is_low:
            return self._permitted(call.sender, limit)
        if not self._permitted(call.sender, Limit.NORMAL):
            return False
        if not self._permitted(call.sender, limit):
            rate_hz, burst = RATES[limit]
            self._fail(call.sender, call.sent_as, f"too many requests; at most {rate_hz:g} a second, {burst:g} at once")
            return False
        return True

    def _run(self, call: Call) -> None:
        try:
            if call.verb.trigger and not arguments.fires(call.args):
                return  # the release of a button
            self._handlers[call.verb.action](call)
        except Exception as error:
            self._fail_call(call, error)

    def _fail_call(self, call: Call, error: Exception) -> None:
        """Tell the sender why a command came to nothing; of one that loads or writes something, the log too.

        A pedal or a stream deck does not show a /fail: whoever wonders why nothing happened looks into the log.
        """
        if not isinstance(error, RvcdError):
            reason = self._report_defect(error, call.verb.address)
        else:
            reason = str(error)
            if call.verb.limit in (Limit.HEAVY, Limit.RARE) and not isinstance(error, SupersededError):
                self._log_failure(call, reason)
        self._fail(call.sender, call.sent_as, reason)

    def _log_failure(self, call: Call, reason: str) -> None:
        if not self._failure_lines.take(self._clock()):
            self._unlogged_failures += 1
            return
        unlogged = {"others_not_logged": self._unlogged_failures} if self._unlogged_failures else {}
        self._unlogged_failures = 0
        sender = f"{call.sender[0]}:{call.sender[1]}"
        reason = one_printable_line(reason, MAX_REASON)
        _log.warning("a command failed: %s", reason, extra=fields(address=call.sent_as, sender=sender, **unlogged))

    def _report_defect(self, error: Exception, address: str) -> str:
        """Log an exception nobody expected, at a limited rate, and return the reason for the client."""
        count = self._crash_lines.hit()
        if count:
            _log.error("a command failed unexpectedly", exc_info=error, extra=fields(address=PREFIX + address, count=count))
        return f"internal error ({type(error).__name__}); the daemon's log has more"

    def _fail(self, sender: SocketAddress, sent_as: str, reason: str) -> None:
        self.counters.failed += 1
        # What a client sent may be repeated in the reason: it must neither steer a terminal nor grow.
        self._publisher.reply(sender, "/fail", sent_as, one_printable_line(reason, MAX_REASON))

    # Numbers

    def _number(self, call: Call) -> None:
        """Set (or ask for) a number by its unit or by 0..1."""
        name, as_norm = call.verb.subject, call.verb.action is Action.NORM
        if call.args:
            is_word = BY_NAME[name].choices and not as_norm and arguments.is_text(call.args)
            value = BY_NAME[name].named(str(call.args[0])) if is_word else arguments.number(call.args)
            self._numbers.set(name, value, call.sender, as_norm=as_norm)
        else:
            self._numbers.tell(name, call.sender, as_norm=as_norm)

    def _number_failed(self, name: str, senders: Sequence[SocketAddress], error: Exception) -> None:
        address = BY_NAME[name].address
        reason = str(error) if isinstance(error, RvcdError) else self._report_defect(error, address)
        for sender in senders:
            self._fail(sender, PREFIX + address, reason)

    def _step(self, call: Call) -> None:
        step = arguments.number(call.args)
        self._numbers.put(call.verb.subject, lambda value: value + step, call.sender)

    def _reset(self, call: Call) -> None:
        name = call.verb.subject
        self._numbers.put(name, lambda value: BY_NAME[name].default, call.sender)

    # Switches and panic

    def _switch(self, call: Call) -> None:
        if call.args:
            self._set_switch(call, arguments.is_on(call.args))
        else:
            self._reply_switch(call)

    def _set_switch(self, call: Call, on: bool) -> None:
        if call.verb.subject == "record":
            self._record(call, on)
        else:
            self._session.set_switch(call.verb.subject, on)
            self._reply_switch(call)

    def _record(self, call: Call, on: bool) -> None:
        async def work() -> None:
            await self._session.set_record(on)
            self._reply_switch(call)

        self._submit("recording", Order.IN_TURN, call, work)

    def _reply_switch(self, call: Call) -> None:
        name = call.verb.subject
        address = next(at for at in SWITCH_ADDRESSES if switch_name(at) == name)
        self._publisher.reply(call.sender, address, int(self._session.get_switch(name)))

    def _panic(self, call: Call) -> None:
        self._session.panic()
        self._publisher.reply(call.sender, "/panic", int(self._session.panicked()))

    def _panic_clear(self, call: Call) -> None:
        self._session.clear_panic()
        self._publisher.reply(call.sender, "/panic", int(self._session.panicked()))

    # Voices, F0 methods, latency: slow

    def _voice(self, call: Call) -> None:
        if not call.args:
            self._reply_voice(call.sender)
            return
        asked = arguments.name_or_number(call.args)
        self._load_voice(call, lambda: self._voice_named(asked) if isinstance(asked, str) else self._voice_in_slot(asked))

    def _voice_named(self, name: str) -> VoiceStatus:
        """Return the voice of a name, without regard to case where that is clear; a number is a slot unless it is a name."""
        voices = {voice.name: voice for voice in self._session.voices()}
        found = find_name(name, tuple(voices))
        if found is not None:
            return voices[found]
        slot = whole_in(name)
        if slot is not None:
            return self._voice_in_slot(slot)
        hint = did_you_mean(name, tuple(voices), f"{PREFIX}/voice/list lists them")
        raise ProtocolError(f"no voice is called '{name}'; {hint}")

    def _voice_in_slot(self, slot: int) -> VoiceStatus:
        for voice in self._session.voices():
            if voice.slot == slot:
                return voice
        raise ProtocolError(f"no voice is in slot {slot}; {PREFIX}/voice/list lists them")

    def _voice_beside(self, by: int) -> VoiceStatus:
        """Return the next or previous voice, counted from the one that is wanted: two quick presses go two on.

        A voice that cannot be loaded does not bar the way to those behind it.
        """
        voices = sorted(self._session.voices(), key=lambda voice: voice.slot)
        if not voices:
            raise ProtocolError("there are no voices")
        here = self._session.wanted_voice()
        wanted_then, unloadable = self._unloadable
        if unloadable.slot and here == wanted_then:
            here = unloadable
        slots = [voice.slot for voice in voices]
        at = slots.index(here.slot) + by if here.slot in slots else min(by, 0)
        return voices[at % len(voices)]

    def _load_voice(self, call: Call, choose: Callable[[], VoiceStatus]) -> None:
        """Load the voice that is chosen when its turn comes: what was asked for before is wanted by then."""

        async def work() -> None:
            voice = choose()
            try:
                live = await self._session.load_voice(voice.name)
            except SupersededError:
                raise
            except RvcdError:
                self._unloadable = (self._session.wanted_voice(), voice)
                raise
            self._unloadable = (NO_VOICE, NO_VOICE)
            self._publisher.reply(call.sender, "/done", call.sent_as, live.name, live.slot)
            self._reply_voice(call.sender)

        self._submit("voice", Order.AT_ONCE, call, work)

    def _reply_voice(self, sender: SocketAddress) -> None:
        voice = self._session.voice()
        self._publisher.reply(sender, "/voice", voice.name)
        self._publisher.reply(sender, "/voice/slot", voice.slot)

    def _voice_list(self, call: Call) -> None:
        voices = self._session.voices()
        for voice in voices:
            self._publisher.reply(call.sender, "/voice/list", voice.slot, voice.name)
        self._publisher.reply(call.sender, "/voice/list/end", len(voices))

    def _voice_rescan(self, call: Call) -> None:
        async def work() -> None:
            self._publisher.reply(call.sender, "/done", call.sent_as, await self._session.rescan_voices())

        self._submit("rescan", Order.IN_TURN, call, work)

    def _speaker(self, call: Call) -> None:
        if not call.args:
            self._publisher.reply(call.sender, "/speaker", self._session.speaker())
            return
        self._change(call, "/speaker", self._session.set_speaker, arguments.name_or_number(call.args))

    def _f0_method(self, call: Call) -> None:
        if not call.args:
            self._publisher.reply(call.sender, "/f0/method", self._session.f0_method())
            return
        self._change(call, "/f0/method", self._session.set_f0_method, _choice(call.args, "F0 method", F0_METHODS))

    def _latency_preset(self, call: Call) -> None:
        if not call.args:
            self._publisher.reply(call.sender, "/latency/preset", self._session.latency_preset())
            return
        name = _choice(call.args, "latency preset", LATENCY_PRESET_NAMES)
        self._change(call, "/latency/preset", self._session.set_latency_preset, name)

    def _change(self, call: Call, address: str, change: Callable[[T], Awaitable[str | int]], wanted: T) -> None:
        """Change something slowly; what holds then is told with /done and at its own address."""

        async def work() -> None:
            holds = await change(wanted)
            self._publisher.reply(call.sender, "/done", call.sent_as, holds)
            self._publisher.reply(call.sender, address, holds)

        self._submit(address, Order.AT_ONCE, call, work)

    # Presets

    def _preset(self, call: Call) -> None:
        if call.verb.address != "/preset":
            self._recall_preset(call, arguments.name_or_number(call.args))
        elif call.args:
            raise ProtocolError(f"takes no argument; {PREFIX}/preset/recall sets a preset")
        else:
            self._publisher.reply(call.sender, "/preset", self._session.preset())

    def _recall_preset(self, call: Call, name_or_number: str | int) -> None:
        self._numbers.apply_all()  # a fader moved before the recall must not win over it
        self._publisher.reply(call.sender, "/done", call.sent_as, self._session.recall_preset(name_or_number))

    def _change_preset(self, call: Call, change: Callable[[str | int], Awaitable[str]]) -> None:
        wanted = arguments.name_or_number(call.args)

        async def work() -> None:
            self._publisher.reply(call.sender, "/done", call.sent_as, await change(wanted))

        self._submit("presets", Order.IN_TURN, call, work)

    def _preset_list(self, call: Call) -> None:
        names = self._session.presets()
        for number, name in enumerate(names, start=1):
            self._publisher.reply(call.sender, "/preset/list", number, name)
        self._publisher.reply(call.sender, "/preset/list/end", len(names))

    def _submit(self, kind: str, order: Order, call: Call, work: Callable[[], Awaitable[None]]) -> None:
        async def work_then_publish() -> None:
            await work()
            self._publisher.publish_changes()

        self._queues.submit(Job(kind, order, work_then_publish, lambda error: self._fail_call(call, error)))

    # Queries and subscriptions

    def _monitor_source(self, call: Call) -> None:
        if call.args:
            self._session.set_monitor_source(_choice(call.args, "source of the monitor", MONITOR_SOURCES))
        self._publisher.reply(call.sender, "/monitor/source", self._session.monitor_source())

    def _pitch_mode(self, call: Call) -> None:
        if call.args:
            self._session.set_pitch_mode(_choice(call.args, "pitch mode", PITCH_MODES))
        self._publisher.reply(call.sender, "/pitch/mode", self._session.pitch_mode())

    def _ping(self, call: Call) -> None:
        for value in call.args:
            if value is None or isinstance(value, bytes):
                raise ProtocolError("only numbers, strings and booleans are echoed")
        self._publisher.reply(call.sender, "/pong", *call.args)

    def _version(self, call: Call) -> None:
        self._publisher.reply(call.sender, "/version", self._session.version, str(PROTOCOL_VERSION))

    def _status(self, call: Call) -> None:
        address, args = status_message(self._session)
        self._publisher.reply(call.sender, address, *args)

    def _subscribe(self, call: Call) -> None:
        """[port] [Hz] as numbers in this order; strings anywhere are groups, joined by commas or spaces."""
        numbers = tuple(value for value in call.args if not isinstance(value, str))
        texts = [value for value in call.args if isinstance(value, str)]
        port = arguments.whole(numbers, 0) if numbers else 0
        hz = arguments.whole(numbers, 1) if len(numbers) > 1 else DEFAULT_HZ
        if port and port == self._local_port():
            raise ProtocolError(f"port {port} is the daemon's own; use 0 for the port you send from")
        groups = " ".join(texts).replace(",", " ").split()
        target, is_new = self._subscriptions.subscribe(call.sender, port=port, hz=hz, groups=groups)
        joined, lease_s = ",".join(target.groups), round(self._subscriptions.lease_s)
        self._publisher.reply(
            call.sender, "/done", call.sent_as, target.address[0], target.address[1], target.hz, joined, lease_s
        )
        if is_new:
            target.knows_state = False
            self._publisher.send_state(target)

    def _unsubscribe(self, call: Call) -> None:
        self._subscriptions.unsubscribe(call.sender)
        self._publisher.reply(call.sender, "/done", call.sent_as)


def _choice(args: Args, what: str, known: tuple[str, ...]) -> str:
    """Return the one of `known` that a name or an index from 0 stands for, also as text. Raises ProtocolError listing them."""
    index = whole_in(str(args[0])) if arguments.is_text(args) else arguments.whole(args)
    if index is None:
        name = str(args[0])
        found = find_name(name, known)
        if found is None:
            raise ProtocolError(f"unknown {what} '{name[:32]}'; known: {', '.join(known)}")
        return found
    if not 0 <= index < len(known):
        raise ProtocolError(f"{what} {index} is outside 0..{len(known) - 1}: {', '.join(known)}")
    return known[index]
