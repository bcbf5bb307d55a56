"""`rvcd voice`: the voices of this machine. list and info read headers only, check reads everything, import copies."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rvcd.cli.common import ConfigOption, JsonOption, print_table, unwound_by_signals
from rvcd.config.folders import expand_home
from rvcd.errors import ModelFileError, RvcdError, VoiceNotFoundError

if TYPE_CHECKING:
    from rvcd.config.settings import Settings
    from rvcd.formats.voice_header import VoiceSpec
    from rvcd.voices.registry import VoiceEntry, VoiceRegistry

WORDS_OF_RVCCTL = ("list", "next", "prev", "rescan")
"""What `rvcctl voice` takes for something else than a voice's name."""

app = typer.Typer(help="List, inspect, check and import voices.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_voices(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the voices of the configured folders, in the order of their slots."""
    from rvcd.config.settings import load_config
    from rvcd.voices.configured import scan_voices

    settings = load_config(config)
    registry = scan_voices(settings)
    if as_json:
        typer.echo(json.dumps([_entry_fields(entry) for entry in registry.entries], indent=2))
    elif registry.entries:
        rows = [_row(entry) for entry in registry.entries]
        print_table(("slot", "name", "index", "gain", "params", "file"), rows)
    else:
        typer.echo(f"no voice (*.pth) in {', '.join(settings.voices.folders) or 'any folder: voices.folders is empty'}")
    _note(*registry.skipped, *_without_encoder(settings))


@app.command("info")
def voice_info(
    voice: Annotated[str, typer.Argument(help="A voice's name, or its .pth file.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a voice is, without loading its weights: version, rate, pitch, speakers, unit width, index, settings."""
    from rvcd.config.settings import load_config
    from rvcd.formats.index_header import read_index_header
    from rvcd.formats.voice_header import read_voice_spec

    found = _find(load_config(config), voice)
    if len(found) != 1:
        raise RvcdError(
            f"{voice}: holds {len(found)} voices ({', '.join(e.name for e in found[:5])}); name one of their .pth files"
        )
    entry = found[0]
    spec = read_voice_spec(entry.path)
    if as_json:
        fields = {**asdict(spec), **_entry_fields(entry)}
        typer.echo(json.dumps(fields, indent=2, default=str))
        _note(*entry.problems)
        return
    index = "none"
    if entry.index_path is not None:
        try:
            header = read_index_header(entry.index_path)
            index = f"{_printable(entry.index_path.name)}, {header.vectors:,} vectors of width {header.width}"
        except ModelFileError as error:
            index = str(error)
    for key, value in (
        ("name", entry.name),
        ("slot", str(entry.slot) if entry.slot else ""),
        ("file", f"{_printable(spec.path)}, {spec.size_bytes:,} bytes"),
        ("version", spec.version),
        ("rate", f"{spec.rate_hz} Hz"),
        ("pitch", "follows the speaker's (f0)" if spec.has_f0 else "none: the voice keeps no melody (no f0)"),
        ("speakers", _speakers_text(spec)),
        ("speaker", str(entry.speaker) if spec.speakers > 1 else ""),
        ("unit width", str(spec.unit_width)),
        ("trained", spec.epochs or "unknown"),
        ("index", index),
        ("gain", f"{entry.gain_db:g} dB" if entry.gain_db else ""),
        ("params", _params_text(entry)),
    ):
        if value:
            typer.echo(f"{key:<11} {value}")
    _note(*entry.problems)


@app.command("check")
def check_voices(
    voices: Annotated[
        list[str] | None, typer.Argument(help="Names, .pth files or folders; default: every voice of the configured folders.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read voices whole: header, tensors, index, voice.toml, the content encoder's width. Exit code 1: one would not run."""
    from rvcd.config.settings import load_config
    from rvcd.formats.contentvec_header import read_unit_widths
    from rvcd.voices.builtin_paths import BUILT_IN_ENCODER, BUILT_IN_FOLDER
    from rvcd.voices.registry import VoiceRegistry

    settings = load_config(config)
    skipped: tuple[str, ...] = ()
    if voices:
        chosen = [entry for voice in voices for entry in _find(settings, voice)]
    else:
        registry = VoiceRegistry.scan(settings.voices.folders)
        chosen, skipped = list(registry.entries), registry.skipped
        if not chosen:
            _note(*skipped)
            where = ", ".join(settings.voices.folders) or "any folder: voices.folders is empty"
            raise VoiceNotFoundError(f"there is no voice (*.pth) in {where}; `rvcd voice import FILE` puts one there")
    encoder = settings.models.real_encoder
    if not encoder and all(entry.path.parent == BUILT_IN_FOLDER for entry in chosen):
        encoder = str(BUILT_IN_ENCODER)
    widths = read_unit_widths(encoder) if encoder else ()
    from rvcd.cli.checks import Level
    from rvcd.cli.voice_check import check_voice, find_twins

    twins = find_twins(chosen)
    colours = {Level.OK: typer.colors.GREEN, Level.NOTE: typer.colors.YELLOW, Level.FAIL: typer.colors.RED}
    width = max(len(entry.name) for entry in chosen)
    reports = []
    for entry in chosen:
        report = check_voice(entry, encoder, widths, twins.get(entry.path, ()))
        reports.append(report)
        if not as_json:
            level = typer.style(f"{report.level.value:<4}", fg=colours[report.level])
            typer.echo(f"{level}  {entry.name:<{width}}  {_printable(report.text)}")
    if as_json:
        fields = [
            {"level": r.level.value, **_entry_fields(r.voice), "findings": [{"level": a.value, "text": b} for a, b in r.findings]}
            for r in reports
        ]
        typer.echo(json.dumps(fields, indent=2))
    told = {problem for entry in chosen for problem in entry.problems}
    _note(*(sentence for sentence in skipped if sentence not in told), *([] if encoder else _without_encoder(settings)))
    raise typer.Exit(1 if any(report.level is Level.FAIL for report in reports) else 0)


@app.command("import")
def import_voices(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SRC...", help="One voice: a .pth, a .pth and its .index, a folder, or a .zip.")
    ],
    name: Annotated[str, typer.Option(help="What the voice is called; default: as its file.", show_default=False)] = "",
    slot: Annotated[int, typer.Option(help="Its fixed slot, 1..999; default: a free one.", show_default=False)] = 0,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where voices are kept; default: the first of voices.folders.")
    ] = None,
    gain: Annotated[
        float | None, typer.Option(metavar="DB", help="This voice's own gain, -24..24 dB.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace FOLDER/NAME, its voice.toml included.")] = False,
    config: ConfigOption = None,
) -> None:
    """Copy a voice into FOLDER/NAME, checked before: whole or not at all. Nothing in it is run."""
    from rvcd.config.settings import load_config
    from rvcd.voices.importing import ImportRequest, import_voice
    from rvcd.voices.registry import VoiceRegistry
    from rvcd.voices.voice_toml import FILE_NAME

    settings = load_config(config)
    folders = [Path(folder) for folder in settings.voices.folders]
    if to is None and not folders:
        raise RvcdError("voices.folders is empty: name a folder with --to, and add it to the configuration")
    folder = (expand_home(to) if to else folders[0]).absolute()
    known = folder in folders
    others = VoiceRegistry.scan(path for path in (folders if known else [*folders, folder]) if path.is_dir())
    request = ImportRequest(tuple(expand_home(source) for source in sources), folder, name, slot, gain, force)
    with unwound_by_signals():
        done = import_voice(request, others)
    spec, called = done.spec, done.settings.name
    index = f"an index of {done.index.vectors:,} vectors" if done.index else "no index"
    typer.echo(f"imported    {called}: {spec.version}, {spec.rate_hz} Hz, speakers: {_speakers_text(spec)}, {index}")
    typer.echo(f"folder      {done.folder}")
    typer.echo(f"settings    {done.folder / FILE_NAME}")
    chosen = f" --config {_quoted(str(config))}" if config else ""
    typer.echo(f"check it    rvcd voice check {_quoted(str(done.folder / spec.path.name))}{chosen}")
    typer.echo(f"use it      {_commands_to_use(called, settings)}")
    _note(*done.notes)
    if not known:
        _note(f"{folder} is not one of voices.folders: add it to your configuration, or its voices are not found")
    _note(*_without_encoder(settings))


# ---- naming


def _find(settings: Settings, wanted: str) -> Sequence[VoiceEntry]:
    """Return what a command line names: a .pth file, the voices of a folder, or a voice by its name. Raises RvcdError.

    Real voices are found by name without a content encoder too: they can be looked at before there is one.
    """
    from rvcd.voices.builtin_paths import BUILT_IN_FOLDER
    from rvcd.voices.configured import scan_voices
    from rvcd.voices.registry import VoiceRegistry, voice_of_file

    path = expand_home(wanted)
    if wanted.lower().endswith(".pth"):
        return [voice_of_file(path)]
    if os.sep in wanted and path.is_dir():
        return _all_of(VoiceRegistry.scan([path]), wanted)
    registry = VoiceRegistry.scan(settings.voices.folders)
    try:
        return [registry.find(wanted)]
    except VoiceNotFoundError:
        if path.is_dir():
            return _all_of(VoiceRegistry.scan([path]), wanted)
        if path.is_file() or os.sep in wanted:
            return [voice_of_file(path)]
        own_voices = () if settings.models.real_encoder else scan_voices(settings).entries
        built_in = VoiceRegistry.scan([BUILT_IN_FOLDER]).entries
        named = [entry for entry in (*own_voices, *built_in) if entry.name == wanted][:1]
        if not named:
            raise
        return named


def _all_of(registry: VoiceRegistry, folder: str) -> Sequence[VoiceEntry]:
    if not registry.entries:
        raise VoiceNotFoundError(f"{folder}: " + ("; ".join(registry.skipped[:3]) or "holds no voice (*.pth)"))
    return registry.entries


# ---- words


def _row(entry: VoiceEntry) -> tuple[str, ...]:
    index = _printable(entry.index_path.name) if entry.index_path else "-"
    return str(entry.slot), entry.name, index, f"{entry.gain_db:g} dB", _params_text(entry) or "-", _printable(entry.path)


def _entry_fields(entry: VoiceEntry) -> dict[str, Any]:
    """Return an entry for JSON."""
    return {
        "slot": entry.slot, "name": entry.name, "path": str(entry.path), "index": str(entry.index_path or ""),
        "speaker": entry.speaker, "gain_db": entry.gain_db, "params": dict(entry.params),
    }  # fmt: skip


def _params_text(entry: VoiceEntry) -> str:
    return " ".join(f"{name}={value:g}" for name, value in entry.params.items())


def _speakers_text(spec: VoiceSpec) -> str:
    named = [name for name in spec.speaker_names if name]
    return f"{spec.speakers}" + (f" ({', '.join(named)})" if named else "")


def _printable(text: object) -> str:
    from rvcd.voices.voice_toml import printable

    return printable(text)


def _commands_to_use(voice: str, settings: Settings) -> str:
    """Return what makes the daemon of these settings look for voices again, and switch to this one as it is on the disk now."""
    from rvcd.protocol import DEFAULT_HOST, DEFAULT_PORT

    rvcctl, osc = "rvcctl", settings.osc
    if osc.host not in (DEFAULT_HOST, "localhost", "0.0.0.0"):
        rvcctl += f" --host {osc.host}"
    if osc.port != DEFAULT_PORT:
        rvcctl += f" --port {osc.port}"
    # Where the short form takes a word for something else, the long one takes it for a name.
    choose = "set voice" if voice in WORDS_OF_RVCCTL or voice.isdecimal() else "voice"
    end_of_options = "-- " if voice.startswith("-") else ""
    return f"{rvcctl} voice rescan && {rvcctl} {choose} {end_of_options}{_quoted(voice)}"


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def _without_encoder(settings: Settings) -> Sequence[str]:
    """Return a note where no file of a content encoder is configured."""
    from rvcd.config.settings import BUILT_IN

    if settings.models.real_encoder:
        return ()
    own = "built-in voice is" if settings.models.content_encoder == BUILT_IN else "test voices are"
    return (f"models.content_encoder names no file: only the {own} listed and run; `rvcd assets` names what others' voices need",)


def _note(*sentences: str) -> None:
    """Print notes on stderr: the tables on stdout stay clean for scripts."""
    for sentence in sentences:
        typer.echo(f"note: {_printable(sentence)}", err=True)
