"""What keys and mouse ask the daemon for. Absolute values go out: a datagram that is lost or doubled does no harm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rvcctl.client import ClientLike
from rvcd.params import Param
from rvcd.protocol import switch_name

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
        now_on = bool(getattr(stats, switch_name(switch), 0))
        self._client.send(switch, int(not now_on))

    def panic(self) -> None:
        """Silence the output at once. Pressing again never undoes it."""
        self._client.send("/panic")

    def clear_panic(self) -> None:
        """End the panic."""
        self._client.send("/panic/clear")

    def value(self, param: Param) -> float | None:
        """Return what a number is, or was just asked to be; None while it is unknown."""
        sent = self._under_way(param.address)
        return sent.value if sent is not None else self._client.view.numbers.get(param.address)

    def nudge(self, param: Param, change: float) -> float | None:
        """Move a number and return what was asked for; None, and nothing sent, while its value is unknown.

        Fast presses add up although their echoes are not back yet.
        """
        present = self.value(param)
        return None if present is None else self.place(param, present + change)

    def place(self, param: Param, value: float) -> float:
        """Ask for a value, limited to the parameter's range, and return it."""
        limited = param.clamp(round(value, 6))
        pending = self._under_way(param.address)
        echoes_due = 1 + (pending.echoes_due if pending is not None else self._client.view.echoes.get(param.address, 0))
        self._sent[param.address] = _Sent(limited, self._clock(), echoes_due)
        self._client.send(param.address, float(limited))
        return limited

    def choose_monitor_source(self, name: str) -> None:
        """Hear something else of oneself on the monitor."""
        self._client.send("/monitor/source", name)

    def choose_pitch_mode(self, name: str) -> None:
        """Let auto transpose, or the user alone."""
        self._client.send("/pitch/mode", name)

    def load_slot(self, slot: int) -> None:
        """Switch to the voice in a slot."""
        self._client.send("/voice/slot", slot)

    def load_voice(self, name: str) -> None:
        """Switch to a voice."""
        self._client.send("/voice", name)

    def recall_preset(self, name: str) -> None:
        """Set every parameter as a preset has it."""
        self._client.send("/preset/recall", name)

    def save_preset(self, name: str) -> None:
        """Keep the present parameters under a name."""
        self._client.send("/preset/save", name)

    def delete_preset(self, name: str) -> None:
        """Forget a preset."""
        self._client.send("/preset/delete", name)

    def choose_speaker(self, number: int) -> None:
        """Let another speaker of the live voice speak, 0, 1, ..."""
        self._client.send("/speaker", number)

    def choose_f0_method(self, name: str) -> None:
        """Track the pitch in another way."""
        self._client.send("/f0/method", name)

    def choose_latency(self, name: str) -> None:
        """Give the stream another latency; a short silence."""
        self._client.send("/latency/preset", name)

    def _under_way(self, address: str) -> _Sent | None:
        """Return the value that was sent last while its echo may still come."""
        sent = self._sent.get(address)
        if sent is None or self._client.view.echoes.get(address, 0) >= sent.echoes_due:
            return None
        return sent if self._clock() - sent.at_s < ECHO_PATIENCE_S else None
