"""The state of the whole rig in one word, readable from across the room and without colour."""

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
    State.BYPASS.value: Face("⇄", "BYPASS", "your own voice goes out · b converts again", "-warn"),
    State.MUTED.value: Face("■", "MUTED", "nothing goes out · m unmutes", "-warn"),
    State.PANIC.value: Face("▲", "PANIC", "silenced and flushed · c clears", "-alarm"),
    State.NO_VOICE.value: Face("○", "NO VOICE", "silence until a voice is chosen", "-warn"),
    State.STARTING.value: Face("◌", "STARTING", "loading, silence until it is done", "-idle"),
    State.RECOVERING.value: Face("↻", "RECOVERING", "the worker restarts, silence meanwhile", "-alarm"),
    State.NO_DEVICE.value: Face("✕", "NO DEVICE", "the audio device is gone", "-alarm"),
}
NO_DAEMON = Face("✕", "NO DAEMON", "", "-idle")
MOODS = ("-good", "-warn", "-alarm", "-idle")


@dataclass(frozen=True)
class BannerModel:
    """What the banner shows. voice and details are plain text; age_s is set when the data is old, else None."""

    face: Face = NO_DAEMON
    meaning: str = ""
    voice: str = ""
    details: str = ""


def banner_of(
    stats: protocol.Stats | None, *, connected: bool, age_s: float | None, target: str, trouble: str = ""
) -> BannerModel:
    """Return the banner for what is known. age_s: of the newest data, None when there never was any."""
    if not connected or stats is None:
        meaning = "asking for the state" if connected else trouble or "nobody answers, asking again"
        age = "never heard from it" if age_s is None else f"data {age_text(age_s)} old"
        return BannerModel(NO_DAEMON, meaning, _voice_text(stats), f"{target} · {age}")
    face = FACES.get(stats.state, Face("?", stats.state.upper() or "?", "a state that this rvcctl does not know", "-idle"))
    details = [stats.device or "no device", f"{stats.rate_hz / 1000:g} kHz", f"up {age_text(stats.uptime_s)}"]
    if age_s is not None and age_s >= 1.0:
        details.append(f"data {age_text(age_s)} old")
    return BannerModel(face, face.meaning, _voice_text(stats), " · ".join(details))


def age_text(seconds: float) -> str:
    """Return a duration as people say it: '7 s', '3 min 05 s', '2 h 10 min'."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _voice_text(stats: protocol.Stats | None) -> str:
    if stats is None or not stats.voice:
        return "no voice"
    return f"{stats.voice} [{stats.voice_slot}]" if stats.voice_slot > 0 else stats.voice


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
        first = _spread(Content.styled(f" {model.face.symbol} {model.face.word}", "bold"), f"{model.voice} ", width, "bold")
        second = _spread(Content(f" {model.meaning}"), f"{model.details} ", width)
        return Content("\n").join([first, second])


def _spread(left: Content, right: str, width: int, style: str = "") -> Content:
    """Return left and right at both ends of width cells; the right part is shortened first."""
    room = max(0, width - left.cell_length - 1)
    fitted = Content.styled(right, style)
    if fitted.cell_length > room:
        fitted = fitted.truncate(room, ellipsis=True)
    return Content.assemble(left, " " * max(0, width - left.cell_length - fitted.cell_length), fitted).truncate(width)
