"""`rvcd voice`: the voices of this machine. list and info read headers only, check reads
everything, import copies. Export: voice_onnx.py."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rvcd.cli.checks.finding import Level
from rvcd.cli.common import ConfigOption, JsonOption, NameOption, checked_name, coloured, print_table, unwound_by_signals
from rvcd.cli.voice_names import find_voices
from rvcd.cli.voice_onnx import SUFFIX as ONNX_SUFFIX
from rvcd.cli.voice_onnx import export_voice, onnx_info
from rvcd.cli.voice_register import measured_register
from rvcd.cli.voice_text import (
    commands_to_use,
    entry_fields,
    index_problems,
    note,
    params_text,
    printable,
    speakers_text,
    table_row,
    without_encoder,
)
from rvcd.config.folders import expand_home
from rvcd.errors import RvcdError, VoiceNotFoundError

if TYPE_CHECKING:
    from rvcd.voices.import_scratch import Scratch

app = typer.Typer(help="List, inspect, check, import and export voices.", no_args_is_help=True, rich_markup_mode=None)
app.command("export")(export_voice)


@app.command("list")
def list_voices(config: ConfigOption = None, instance: NameOption = None, as_json: JsonOption = False) -> None:
    """List the voices of the configured folders, in the order of their slots."""
    from rvcd.config.settings import load_config
    from rvcd.voices.configured import scan_voices

    settings = load_config(config, instance or "")
    registry = scan_voices(settings)
    if as_json:
        typer.echo(json.dumps([entry_fields(entry) for entry in registry.entries], indent=2))
    elif registry.entries:
        rows = [table_row(entry) for entry in registry.entries]
        print_table(("slot", "name", "index", "gain", "params", "file"), rows)
    else:
        typer.echo(f"no voice (*.pth) in {', '.join(settings.voices.folders) or 'any folder: voices.folders is empty'}")
    note(*registry.skipped, *index_problems(registry.entries), *without_encoder(settings))


@app.command("info")
def voice_info(
    voice: Annotated[str, typer.Argument(help="A voice's name, or its .pth file.")],
    config: ConfigOption = None,
    instance: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a voice is, without loading its weights: version, rate, pitch, speakers, unit width, index, settings.

    Also of an .onnx file.
    """
    from rvcd.config.settings import load_config
    from rvcd.formats.index_header import read_index_header
    from rvcd.formats.voice_header import read_voice_spec
    from rvcd.voices.encoders import choose_encoder

    if voice.lower().endswith(ONNX_SUFFIX) and expand_home(voice).exists():
        onnx_info(expand_home(voice), as_json=as_json)
        return
    settings = load_config(config, instance or "")
    found = find_voices(settings, voice)
    if len(found) != 1:
        raise RvcdError(
            f"{voice}: holds {len(found)} voices ({', '.join(e.name for e in found[:5])}); name one of their .pth files"
        )
    entry = found[0]
    spec = read_voice_spec(entry.path)
    choice = choose_encoder(settings, entry.encoder or spec.embedder)
    missing = [f"{entry.path}: {choice.problem}"] if choice.problem else []
    unserved = list(index_problems([entry]))
    if as_json:
        fields = {**asdict(spec), **entry_fields(entry)}
        typer.echo(json.dumps(fields, indent=2, default=str))
        note(*entry.problems, *unserved, *missing)
        return
    index = "none"
    if entry.index_path is not None:
        index = f"{printable(entry.index_path.name)}, "
        if unserved:
            index += "which cannot serve"
        else:
            header = read_index_header(entry.index_path)
            index += f"{header.vectors:,} vectors of width {header.width}"
    for key, value in (
        ("name", entry.name),
        ("slot", str(entry.slot) if entry.slot else ""),
        ("file", f"{printable(spec.path)}, {spec.size_bytes:,} bytes"),
        ("version", spec.version),
        ("rate", f"{spec.rate_hz} Hz"),
        ("pitch", "follows the speaker's (f0)" if spec.has_f0 else "none: the voice keeps no melody (no f0)"),
        ("speakers", speakers_text(spec)),
        ("speaker", str(entry.speaker) if spec.speakers > 1 else ""),
        ("unit width", str(spec.unit_width)),
        ("encoder", " ".join(filter(None, (choice.name, f"({choice.path})" if choice.path else "")))),
        ("layer", str(spec.unit_layer or "")),
        ("vocoder", spec.vocoder),
        ("trained", spec.epochs or "unknown"),
        ("index", index),
        ("gain", f"{entry.gain_db:g} dB" if entry.gain_db else ""),
        ("register", f"{entry.f0_median_hz:g} Hz" if entry.f0_median_hz else ""),
        ("params", params_text(entry)),
    ):
        if value:
            typer.echo(f"{key:<11} {value}")
    note(*entry.problems, *unserved, *missing, *([spec.note] if spec.note else []))


@app.command("check")
def check_voices(
    voices: Annotated[
        list[str] | None, typer.Argument(help="Names, .pth files or folders; default: every voice of the configured folders.")
    ] = None,
    config: ConfigOption = None,
    instance: NameOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read voices whole: header, tensors, index, voice.toml, the content encoder's width. Exit code 1: one would not run."""
    from rvcd.config.settings import load_config
    from rvcd.formats.contentvec_header import read_unit_widths
    from rvcd.voices.builtin_paths import BUILT_IN_FOLDER
    from rvcd.voices.registry import VoiceRegistry

    settings = load_config(config, instance or "")
    skipped: tuple[str, ...] = ()
    if voices:
        chosen = [entry for voice in voices for entry in find_voices(settings, voice)]
    else:
        registry = VoiceRegistry.scan(settings.voices.folders)
        chosen, skipped = list(registry.entries), registry.skipped
        if not chosen:
            note(*skipped)
            where = ", ".join(settings.voices.folders) or "any folder: voices.folders is empty"
            raise VoiceNotFoundError(f"there is no voice (*.pth) in {where}; `rvcd voice import FILE` puts one there")
    encoder = settings.models.real_encoder
    if encoder:
        read_unit_widths(encoder)  # what is wrong with it is said once, not of every voice
    from rvcd.cli.voice_check import check_voice, find_twins

    twins = find_twins(chosen)
    width = max(len(entry.name) for entry in chosen)
    reports = []
    for entry in chosen:
        report = check_voice(settings, entry, twins.get(entry.path, ""))
        reports.append(report)
        if not as_json:
            typer.echo(f"{coloured(report.level)}  {entry.name:<{width}}  {printable(report.text)}")
    if as_json:
        fields = [
            {"level": r.level.value, **entry_fields(r.voice), "findings": [{"level": a.value, "text": b} for a, b in r.findings]}
            for r in reports
        ]
        typer.echo(json.dumps(fields, indent=2))
    told = {problem for entry in chosen for problem in entry.problems}
    own = all(entry.path.parent == BUILT_IN_FOLDER for entry in chosen)
    note(*(sentence for sentence in skipped if sentence not in told), *([] if own else without_encoder(settings)))
    raise typer.Exit(1 if any(report.level is Level.FAIL for report in reports) else 0)


@app.command("import")
def import_voices(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC...", help="One voice: a .pth, a .pth and its .index, a folder, a .zip, or https://... of those."
        ),
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
    sample: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A recording of the voice's speaker, of which its register is measured. Repeatable."),
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Let an address lead to this machine or a private network, by http too.")
    ] = False,
    config: ConfigOption = None,
    instance: Annotated[
        str | None, typer.Option("--for", metavar="NAME", help="Name of the daemon, where several run.", callback=checked_name)
    ] = None,
) -> None:
    """Copy a voice into FOLDER/NAME, checked before: whole or not at all. Nothing in it is run.

    Of https://... the file is downloaded first.
    """
    from rvcd.config.settings import load_config
    from rvcd.voices.encoders import choose_encoder
    from rvcd.voices.import_scratch import scratch_in
    from rvcd.voices.importing import ImportRequest, import_voice
    from rvcd.voices.registry import VoiceRegistry
    from rvcd.voices.voice_toml import FILE_NAME

    settings = load_config(config, instance or "")
    folders = [Path(folder) for folder in settings.voices.folders]
    if to is None and not folders:
        raise RvcdError("voices.folders is empty: name a folder with --to, and add it to the configuration")
    folder = (expand_home(to) if to else folders[0]).absolute()
    known = folder in folders
    others = VoiceRegistry.scan(path for path in (folders if known else [*folders, folder]) if path.is_dir())
    with unwound_by_signals(), scratch_in(folder) as scratch:
        local, words = _download_what_is_elsewhere(sources, scratch, allow_private)
        f0_median_hz = measured_register(map(str, sample)) if sample else None
        request = ImportRequest(tuple(local), folder, name, slot, gain, force, f0_median_hz)
        try:
            done = import_voice(request, others)
        except RvcdError as error:
            raise RvcdError(words(str(error))) from None
    spec, called = done.spec, done.settings.name
    index = f"an index of {done.index.vectors:,} vectors" if done.index else "no index"
    typer.echo(f"imported    {called}: {spec.version}, {spec.rate_hz} Hz, speakers: {speakers_text(spec)}, {index}")
    typer.echo(f"folder      {done.folder}")
    typer.echo(f"settings    {done.folder / FILE_NAME}")
    if done.settings.f0_median_hz:
        typer.echo(f"register    {done.settings.f0_median_hz:g} Hz")
    chosen = f" --config {shlex.quote(str(config))}" if config else ""
    chosen += f" --name {instance}" if instance else ""
    typer.echo(f"check it    rvcd voice check {shlex.quote(str(done.folder / spec.path.name))}{chosen}")
    typer.echo(f"use it      {commands_to_use(called, settings)}")
    choice = choose_encoder(settings, done.settings.encoder or spec.embedder)
    note(*map(words, done.notes), *([f"{called} {choice.problem}"] if choice.problem and not choice.usual else []))
    if not known:
        note(f"{folder} is not one of voices.folders: add it to your configuration, or its voices are not found")
    note(*without_encoder(settings))


def _download_what_is_elsewhere(
    sources: Sequence[str], scratch: Scratch, allow_private: bool
) -> tuple[list[Path], Callable[[str], str]]:
    """Return each source as a path, addresses downloaded, and what turns messages about those files into ones about addresses."""
    if not any("://" in source for source in sources):
        return [expand_home(source) for source in sources], lambda text: text
    from rvcd.cli.transfer_progress import ShownProgress
    from rvcd.transfer.voice import fetch_voice_file, is_address, local_words

    local: list[Path] = []
    origins: list[tuple[Path, str]] = []
    with ShownProgress() as progress:
        for source in sources:
            if is_address(source):
                local.append(fetch_voice_file(source, scratch.folder(), progress, allow_private=allow_private))
                origins.append((local[-1], source))
            else:
                local.append(expand_home(source))
    return local, lambda text: local_words(text, origins)
