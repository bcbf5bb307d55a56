"""`rvcd voice export`, and what `rvcd voice info` says of an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rvcd.cli.common import ConfigOption, NameOption, unwound_by_signals
from rvcd.cli.voice_names import find_voices
from rvcd.cli.voice_text import note, printable
from rvcd.config.folders import expand_home
from rvcd.errors import RvcdError

SUFFIX = ".onnx"


def export_voice(
    voice: Annotated[str, typer.Argument(help="A voice's name, or its .pth file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write: units and pitch to samples.")],
    content_encoder: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write its content encoder too: audio at 16 kHz to units.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace files that are there.")] = False,
    config: ConfigOption = None,
    instance: NameOption = None,
) -> None:
    """Write a voice as an ONNX file for other programs, compared with torch before it is kept. Takes a minute."""
    targets = [expand_home(path) for path in (out, content_encoder) if path is not None]
    _check_targets(targets, force)
    from rvcd.exporting.onnx_file import ask_for_packages

    ask_for_packages()
    from rvcd.config.settings import load_config
    from rvcd.exporting.command import export_encoder, export_voice
    from rvcd.formats.voice_header import read_voice_spec
    from rvcd.voices.encoders import choose_encoder, encoder_problem

    settings = load_config(config, instance or "")
    found = find_voices(settings, voice)
    if len(found) != 1:
        raise RvcdError(f"{voice}: holds {len(found)} voices; name one of their .pth files")
    entry = found[0]
    spec = read_voice_spec(entry.path)
    encoder = choose_encoder(settings, entry.encoder or spec.embedder)
    if content_encoder is not None:
        problem = encoder_problem(encoder, entry.path, spec.unit_width, spec.unit_layer)
        if not problem and not encoder.path:
            problem = f"{entry.path}: its content encoder is no file of its own; name one in models.content_encoder"
        if problem:
            raise RvcdError(problem)
    with unwound_by_signals():
        written = []
        if content_encoder is not None:  # first: more can be wrong with it
            written.append(export_encoder(Path(encoder.path), spec.unit_width, spec.unit_layer, targets[1], replace=force))
        written.insert(0, export_voice(entry.path, entry.name, targets[0], replace=force))
    for done in written:
        agreed = f"onnxruntime makes what torch makes, to {done.difference:.1g}"
        typer.echo(f"{printable(done.path)}: {done.size_bytes / 1e6:.1f} MB; {agreed}")


def onnx_info(path: Path, *, as_json: bool) -> None:
    """Say what an ONNX file is: a voice of rvcd's, of VC Client's, or another model."""
    from rvcd.formats.onnx_header import read_onnx_header

    header = read_onnx_header(path)
    fields: dict[str, Any] = {"file": f"{printable(path)}, {header.size_bytes:,} bytes"}
    own, theirs = header.exported_by_rvcd, header.of_vc_client
    if own:
        fields["kind"] = f"a {own.pop('kind', 'model')} that rvcd exported"
    elif theirs:
        fields["kind"] = f"an RVC voice that {theirs.pop('application')} exported (w-okada's voice changer)"
    else:
        fields["kind"] = "an ONNX model that does not say what it is for"
    fields |= own or theirs
    fields |= {"producer": header.producer, "opset": str(header.opset or "")}
    if as_json:
        typer.echo(json.dumps(fields, indent=2, default=str))
    else:
        width = max(len(key) for key in fields)
        for key, value in fields.items():
            if value not in ("", None):
                typer.echo(f"{printable(key):<{width}} {printable(value)}")
    note(f"{printable(path)}: rvcd converts with the .pth that a voice was exported from, not with ONNX files")


def _check_targets(targets: list[Path], force: bool) -> None:
    """Raise RvcdError for files that cannot be written, before a minute is spent on them."""
    for path in targets:
        if path.suffix.lower() != SUFFIX:
            raise RvcdError(f"{path}: the name of an ONNX file ends in {SUFFIX}; write {path.with_suffix(SUFFIX)}")
        if not path.parent.is_dir():
            raise RvcdError(f"{path}: the folder {path.parent} does not exist; make it, or choose another")
        if path.exists() and not force:
            raise RvcdError(f"{path}: is there already; choose another name, or replace it with --force")
    if len(targets) != len({path.absolute() for path in targets}):
        raise RvcdError(f"{targets[0]}: is named twice; the voice and its content encoder are two files")
