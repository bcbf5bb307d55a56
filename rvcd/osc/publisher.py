"""Everything that goes out: replies, echoes of changes, and telemetry at each target's rate."""

from __future__ import annotations

from collections.abc import Callable

from rvcd.osc.codec import encode
from rvcd.osc.session import Session
from rvcd.osc.subscriptions import SocketAddress, Subscriptions, Target
from rvcd.osc.telemetry import Message, meter_messages, stats_message
from rvcd.params import BY_ADDRESS, PARAMS
from rvcd.protocol import PREFIX, STATUS_SWITCHES, SWITCH_ADDRESSES, Stats, switch_name

ECHO_GAP_S = 0.02
"""Least time between two echoes of one switch to one target. Numbers keep to the target's own rate."""

Args = tuple[str | int | float, ...]


class Publisher:
    """Sends through `send(datagram, address)`; knows what every target has been told."""

    def __init__(
        self,
        session: Session,
        subscriptions: Subscriptions,
        send: Callable[[bytes, SocketAddress], None],
        clock: Callable[[], float],
        report: Callable[[Exception], None],
    ) -> None:
        """report: told what kept telemetry or state from being built; the next push tries again."""
        self._session = session
        self._subscriptions = subscriptions
        self._send = send
        self._clock = clock
        self._report = report
        self._published: dict[str, Args] = {}
        self._told: set[tuple[SocketAddress, str]] = set()

    def reply(self, to: SocketAddress, address: str, *args: object) -> None:
        """Send one message to one client. address: below /rvc. The next publish_changes does not repeat it there."""
        self._told.add((to, address))
        self._send(encode(PREFIX + address, *args), to)

    def reply_stats(self, to: SocketAddress) -> None:
        """Send the telemetry once. The peaks it takes are kept for those who subscribe."""
        stats = self._session.stats()
        for target in self._subscriptions.targets():
            target.peaks.add(stats)
        address, args = stats_message(stats)
        self.reply(to, address, *args)

    def state_messages(self) -> list[Message]:
        """Return the whole state as messages, each the identical path a client would set."""
        session = self._session
        voice = session.voice()
        return [
            *((param.address, (float(session.get_param(param.name)),)) for param in PARAMS),
            *((at, (int(session.get_switch(switch_name(at))),)) for at in SWITCH_ADDRESSES),
            ("/monitor/source", (session.monitor_source(),)),
            ("/pitch/mode", (session.pitch_mode(),)),
            ("/panic", (int(session.panicked()),)),
            ("/voice", (voice.name,)),
            ("/voice/slot", (voice.slot,)),
            ("/speaker", (session.speaker(),)),
            ("/preset", (session.preset(),)),
            ("/latency/preset", (session.latency_preset(),)),
            ("/f0/method", (session.f0_method(),)),
            status_message(session),
        ]

    def send_state(self, target: Target) -> None:
        """Tell a new target the state, at once; its telemetry follows after one period, over which its meters are taken.

        A session that cannot tell yet is asked again with the next push.
        """
        try:
            messages = self.state_messages() if "params" in target.groups else []
        except Exception as error:
            self._report(error)
            return
        for address, args in messages:
            self._send(encode(PREFIX + address, *args), target.address)
        target.knows_state = True
        if len(self._subscriptions.targets()) == 1:
            self._stats()  # nobody has read the peaks for a while: the first meter must not show an old one
        target.next_push_s = self._clock() + target.period_s

    def publish_changes(self) -> None:
        """Echo to group 'params' whatever has changed since the last call, whoever changed it."""
        targets = [target for target in self._subscriptions.targets() if "params" in target.groups and target.knows_state]
        for address, args in self.state_messages():
            if self._published.get(address) == args:
                continue
            self._published[address] = args
            for target in targets:
                if (target.address, address) in self._told:
                    target.held.pop(address, None)  # older than the reply it has just had
                else:
                    self._offer(target, address, args)
        self._told.clear()

    def push_due(self) -> float | None:
        """Push to every target whose time has come. Return when the next push is due (clock seconds), None without targets.

        What the session cannot tell yet, or at all, is left out and reported: the rest is sent.
        """
        self._subscriptions.expire()
        targets = self._subscriptions.targets()
        now = self._clock()
        try:
            self.publish_changes()
        except Exception as error:
            self._report(error)
        for target in targets:
            if not target.knows_state:
                self.send_state(target)
        due = [target for target in targets if target.next_push_s <= now]
        if due:
            stats = self._stats()
            if stats is not None:
                for target in targets:
                    target.peaks.add(stats)
            for target in due:
                self._push(target, now)
                messages = self._telemetry(target, stats) if stats is not None else []
                if "log" in target.groups:
                    messages += self._new_log_lines(target)
                for address, args in messages:
                    self._send(encode(PREFIX + address, *args), target.address)
        return min((target.next_push_s for target in targets), default=None)

    def _stats(self) -> Stats | None:
        try:
            return self._session.stats()
        except Exception as error:
            self._report(error)
            return None

    def _telemetry(self, target: Target, stats: Stats) -> list[Message]:
        held = target.peaks.take(stats)
        messages = meter_messages(held) if "meters" in target.groups else []
        return [*messages, stats_message(held)] if "stats" in target.groups else messages

    def _new_log_lines(self, target: Target) -> list[Message]:
        lines = self._session.log_lines(target.log_number)
        if lines:
            target.log_number = lines[-1].number
        return [("/log", (line.number, line.level, line.text)) for line in lines]

    def _push(self, target: Target, now: float) -> None:
        """Send the held echoes and set the next time; after a stall no burst makes up for what was missed."""
        for address, args in target.held.items():
            target.sent_at_s[address] = now
            self._send(encode(PREFIX + address, *args), target.address)
        target.held.clear()
        on_time = target.next_push_s + target.period_s
        target.next_push_s = on_time if on_time > now else now + target.period_s

    def _offer(self, target: Target, address: str, args: Args) -> None:
        """Send a change now, or hold it for the next push if the target was told of this address a moment ago."""
        now = self._clock()
        gap = target.period_s if address in BY_ADDRESS else ECHO_GAP_S
        if now - target.sent_at_s.get(address, float("-inf")) < gap:
            target.held[address] = args
            return
        target.held.pop(address, None)
        target.sent_at_s[address] = now
        self._send(encode(PREFIX + address, *args), target.address)


def status_message(session: Session) -> Message:
    """Return the message that says state, voice, bypass, mute, record, talk, panic."""
    switches = (int(session.get_switch(switch_name(at))) for at in STATUS_SWITCHES)
    return "/status", (session.state().value, session.voice().name, *switches, int(session.panicked()))
