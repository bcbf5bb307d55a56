"""How `rvcd voice` writes: rows and fields of a voice, notes, what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rvcd.config.settings import Settings
    from rvcd.formats.voice_header import VoiceSpec
    from rvcd.voices.registry import VoiceEntry

WORDS_OF_RVCCTL = ("list", "next", "prev", "rescan")
"""What `rvcctl voice` takes for something else than a voice's name."""


def table_row(entry: VoiceEntry) -> tuple[str, ...]:
    """Return an entry for the table of `rvcd voice list`."""
    index = printable(entry.index_path.name) if entry.index_path else "-"
    return str(entry.slot), entry.name, index, f"{entry.gain_db:g} dB", params_text(entry) or "-", printable(entry.path)


def entry_fields(entry: VoiceEntry) -> dict[str, Any]:
    """Return an entry for JSON."""
    return {
        "slot": entry.slot, "name": entry.name, "path": str(entry.path), "index": str(entry.index_path or ""),
        "speaker": entry.speaker, "gain_db": entry.gain_db, "params": dict(entry.params), "encoder": entry.encoder,
        "f0_median_hz": entry.f0_median_hz,
    }  # fmt: skip


def index_problems(entries: Iterable[VoiceEntry]) -> Iterator[str]:
    """Yield a sentence for each voice whose index cannot serve. Reads headers; what is wrong with a voice is not told here."""
    from rvcd.errors import ModelFileError
    from rvcd.formats.index_header import read_fitting_index_header, read_index_header, without_index
    from rvcd.formats.voice_header import read_voice_spec

    for entry in entries:
        if entry.index_path is None or not entry.path.is_file():  # the test voices may not have been written yet
            continue
        try:
            header = read_index_header(entry.index_path)
            try:
                unit_width = read_voice_spec(entry.path).unit_width
            except ModelFileError:
                continue
            if header.width != unit_width:
                read_fitting_index_header(entry.index_path, unit_width)
        except ModelFileError as error:
            yield f"{entry.name} {without_index(error)}"


def params_text(entry: VoiceEntry) -> str:
    """Return the parameters of the voice's own, "" for none."""
    return " ".join(f"{name}={value:g}" for name, value in entry.params.items())


def speakers_text(spec: VoiceSpec) -> str:
    """Return how many speakers a voice has, and the names of those that have one."""
    named = [name for name in spec.speaker_names if name]
    return f"{spec.speakers}" + (f" ({', '.join(named)})" if named else "")


def printable(text: object) -> str:
    """Return text on one line that every terminal can show. The module that does it is imported when it is needed."""
    from rvcd.voices import voice_toml

    return voice_toml.printable(text)


def commands_to_use(voice: str, settings: Settings) -> str:
    """Return what makes the daemon of these settings look for voices again, and switch to this one as it is on the disk now."""
    from rvcd.protocol import DEFAULT_HOST, DEFAULT_PORT

    rvcctl, osc = "rvcctl", settings.osc
    if settings.instance:
        rvcctl += f" --name {settings.instance}"
    elif osc.host not in (DEFAULT_HOST, "localhost", "0.0.0.0"):
        rvcctl += f" --host {osc.host}"
    if not settings.instance and osc.port != DEFAULT_PORT:
        rvcctl += f" --port {osc.port}"
    # Where the short form takes a word for something else, the long one takes it for a name.
    choose = "set voice" if voice in WORDS_OF_RVCCTL or voice.isdecimal() else "voice"
    end_of_options = "-- " if voice.startswith("-") else ""
    return f"{rvcctl} voice rescan && {rvcctl} {choose} {end_of_options}{shlex.quote(voice)}"


def without_encoder(settings: Settings) -> Sequence[str]:
    """Return a note where no file of a content encoder is configured."""
    from rvcd.config.settings import TEST_WEIGHTS
    from rvcd.voices.encoders import has_encoders

    if has_encoders(settings):
        return ()
    own = "test voices are" if settings.models.content_encoder == TEST_WEIGHTS else "built-in voice is"
    return (f"there is no content encoder for others' voices: only the {own} listed and run; `rvcd assets fetch` gets one",)


def note(*sentences: str) -> None:
    """Print notes on stderr: the tables on stdout stay clean for scripts."""
    for sentence in sentences:
        typer.echo(f"note: {printable(sentence)}", err=True)
