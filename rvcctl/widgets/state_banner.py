"""The state of the daemon in one word, readable from across the room and without colour."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from rvcd import protocol
from rvcd.protocol import State


@dataclass(frozen=True)
class Face:
    """How a state looks: symbol, word, what it means for the listener, and the colour class of the banner."""

    symbol: str
    word: str
    meaning: str
    mood: str


FACES: dict[str, Face] = {
    State.LIVE.value: Face("●", "LIVE", "your converted voice goes out", "-good"),
    State.STANDBY.value: Face("◇", "STANDBY", "nothing goes out · t talks", "-warn"),
    State.BYPASS.value: Face("⇄", "BYPASS", "your own voice goes out · b converts again", "-warn"),
    State.MUTED.value: Face("■", "MUTED", "nothing goes out · m unmutes", "-warn"),
    State.PANIC.value: Face("▲", "PANIC", "silenced and flushed · c clears", "-alarm"),
    State.NO_VOICE.value: Face("○", "NO VOICE", "silence until a voice is chosen · v", "-warn"),
    State.OVERLOADED.value: Face("!", "OVERLOADED", "silence: blocks come too late · d: safer latency", "-alarm"),
    State.NO_INPUT.value: Face("○", "NO INPUT", "silence: nothing comes from the microphone", "-warn"),
    State.STARTING.value: Face("◌", "STARTING", "loading, silence until it is done", "-idle"),
    State.RECOVERING.value: Face("↻", "RECOVERING", "the worker restarts, silence meanwhile", "-alarm"),
    State.NO_DEVICE.value: Face("✕", "NO DEVICE", "the audio device is gone", "-alarm"),
}
NO_DAEMON = Face("✕", "NO DAEMON", "", "-idle")
MOODS = ("-good", "-warn", "-alarm", "-idle")


@dataclass(frozen=True)
class BannerModel:
    """What the banner shows, as plain text: state, what it means, the voice; recording, talk and preset; details."""

    face: Face = NO_DAEMON
    meaning: str = ""
    voice: str = ""
    switches: str = ""
    details: str = ""


def banner_of(
    stats: protocol.Stats | None, *, connected: bool, age_s: float | None, target: str, trouble: str = "", name: str = ""
) -> BannerModel:
    """Return the banner for what is known. age_s: of the newest data, None when there never was any. name: the daemon's own."""
    if not connected or stats is None:
        meaning = "asking for the state" if connected else trouble or "nobody answers, asking again"
        age = "never heard from it" if age_s is None else f"data {age_text(age_s)} old"
        return BannerModel(NO_DAEMON, meaning, _voice_text(stats), details=f"{target} · {age}")
    face = FACES.get(stats.state, Face("?", stats.state.upper() or "?", "a state that this rvcctl does not know", "-idle"))
    meaning = face.meaning
    if stats.state == State.BYPASS.value and not stats.bypass and stats.talk_mode == "push-to-convert":
        meaning = "your own voice goes out · t converts"
    details = [
        *([name] if name else []),
        stats.device or "no device",
        f"{stats.rate_hz / 1000:g} kHz",
        f"up {age_text(stats.uptime_s)}",
    ]
    if age_s is not None and age_s >= 1.0:
        details.append(f"data {age_text(age_s)} old")
    return BannerModel(face, meaning, _voice_text(stats), _switches_text(stats), " · ".join(details))


def _switches_text(stats: protocol.Stats) -> str:
    """Return recording, talk and preset: a filled sign and capitals say that it is on."""
    pieces = [f"● REC {clock_text(stats.record_s)}" if stats.record else "○ rec off"]
    if stats.talk_mode != "off":
        pieces.append("◆ TALK on" if stats.talk else "◇ talk off")
    if stats.preset:
        pieces.append(f"preset {stats.preset}")
    return "   ".join(pieces)


def clock_text(seconds: float) -> str:
    """Return a duration as a counter shows it: '0:07', '12:34', '1:02:03'."""
    whole = max(0, int(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def age_text(seconds: float) -> str:
    """Return a duration as people say it: '7 s', '3 min 05 s', '2 h 10 min'."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _voice_text(stats: protocol.Stats | None) -> str:
    if stats is None:
        return "no voice"
    voice = stats.voice or "no voice"
    if stats.voice and stats.voice_slot > 0:
        voice += f" [{stats.voice_slot}]"
    if stats.voice and stats.speakers > 1:
        voice += f" · speaker {stats.speaker} of 0..{stats.speakers - 1}"
    if stats.loading:
        voice += f" → ◌ loading {stats.loading}"
    return voice


class StateBanner(Widget):
    """Two lines: state and voice; meaning and details. Set `model`."""

    model: reactive[BannerModel] = reactive(BannerModel())

    def watch_model(self, model: BannerModel) -> None:
        """Colour the whole banner by the state's mood."""
        for mood in MOODS:
            self.set_class(model.face.mood == mood, mood)

    def render(self) -> Content:
        """Return both lines, each with a left and a right part."""
        model, width = self.model, self.size.width
        state = Content.assemble((f" {model.face.symbol} {model.face.word}", "bold"), f"  {model.meaning}")
        first = _spread(state, f"{model.voice} ", width, "bold")
        second = _spread(Content(f" {model.switches}"), f"{model.details} ", width)
        return Content("\n").join([first, second])


def _spread(left: Content, right: str, width: int, style: str = "") -> Content:
    """Return left and right at both ends of width cells; the right part is shortened first, down to nothing."""
    room = max(0, width - left.cell_length - 1)
    fitted = Content.styled(right, style)
    if fitted.cell_length > room:
        fitted = fitted.truncate(room, ellipsis=True)
    return Content.assemble(left, " " * max(0, width - left.cell_length - fitted.cell_length), fitted).truncate(width)
