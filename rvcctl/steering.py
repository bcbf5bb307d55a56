"""What keys and mouse ask the daemon for. Absolute values go out: a datagram that is lost or doubled does no harm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rvcctl.client import ClientLike

ECHO_PATIENCE_S = 0.3
"""How long a value that was sent counts as the present one while its echo is under way."""


@dataclass
class _Sent:
    value: float
    at_s: float
    echoes_due: int


class Steering:
    """Sends commands, each based on the newest value known. clock: seconds, the one of the client's view."""

    def __init__(self, client: ClientLike, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._sent: dict[str, _Sent] = {}

    def toggle(self, switch: str) -> None:
        """Turn a switch of protocol.SWITCH_ADDRESSES over; when its state is unknown, turn it on."""
        stats = self._client.view.stats
        now_on = bool(getattr(stats, switch.lstrip("/"), 0))
        self._client.send(switch, int(not now_on))

    def panic(self) -> None:
        """Silence the output at once. Pressing again never undoes it."""
        self._client.send("/panic")

    def clear_panic(self) -> None:
        """End the panic."""
        self._client.send("/panic/clear")

    def nudge(self, address: str, step: float) -> float | None:
        """Move a number by step and return what was asked for; None, and nothing sent, while its value is unknown.

        The daemon limits the value and echoes it. Fast presses add up although their echoes are not back yet.
        """
        view, now_s = self._client.view, self._clock()
        if address not in view.numbers:
            return None
        base, echoes = view.numbers[address], view.echoes.get(address, 0)
        sent = self._sent.get(address)
        if sent is not None and echoes < sent.echoes_due and now_s - sent.at_s < ECHO_PATIENCE_S:
            base, echoes_due = sent.value, sent.echoes_due + 1
        else:
            echoes_due = echoes + 1
        self._sent[address] = _Sent(base + step, now_s, echoes_due)
        self._client.send(address, float(base + step))
        return base + step
