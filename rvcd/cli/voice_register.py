"""`rvcd voice register`: writes a voice's usual pitch into its voice.toml, measured or by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from rvcd.cli.common import ConfigOption, NameOption
from rvcd.cli.voice_names import find_voices
from rvcd.cli.voice_text import commands_to_use, note, printable
from rvcd.errors import AudioFileError, ParamError, RvcdError


def register(
    voice: Annotated[str, typer.Argument(metavar="NAME", help="A voice's name, or its .pth file.")],
    sample: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A recording of the voice's speaker, or a folder of them. Repeatable."),
    ] = None,
    hz: Annotated[float | None, typer.Option(metavar="HZ", help="The register itself, 50..1000 Hz.", show_default=False)] = None,
    config: ConfigOption = None,
    instance: NameOption = None,
) -> None:
    """Write a voice's register, the median of its pitch, into its voice.toml: for pitch_mode = "auto"."""
    from rvcd.config.settings import load_config
    from rvcd.voices.builtin_paths import BUILT_IN_FOLDER
    from rvcd.voices.voice_toml import MAX_F0_HZ, MIN_F0_HZ
    from rvcd.voices.voice_toml_edit import set_in_voice_toml

    if (hz is None) == (not sample):
        raise ParamError("--sample FILE measures the register, --hz HZ says it: give one of the two")
    if hz is not None and not MIN_F0_HZ <= hz <= MAX_F0_HZ:
        raise ParamError(f"--hz {hz:g}: a register is within {MIN_F0_HZ:g}..{MAX_F0_HZ:g} Hz")
    settings = load_config(config, instance or "")
    found = find_voices(settings, voice)
    if len(found) != 1:
        raise RvcdError(f"{voice}: holds {len(found)} voices; name one of their .pth files")
    if found[0].path.parent.resolve() == BUILT_IN_FOLDER.resolve():
        raise RvcdError(f"{voice}: is the built-in voice, whose register is known ({found[0].f0_median_hz:g} Hz)")
    f0_median_hz = hz if hz is not None else measured_register(sample or ())
    path = set_in_voice_toml(found[0], {"f0_median_hz": float(f0_median_hz)})
    typer.echo(f"register    {f0_median_hz:g} Hz")
    typer.echo(f"settings    {printable(path)}")
    typer.echo(f"use it      {commands_to_use(found[0].name, settings)}")


def measured_register(recordings: Iterable[str]) -> float:
    """Return the register that recordings have, in Hz; what is wrong with some of them is noted. Raises AudioFileError."""
    from rvcd.audio.found_files import find_audio
    from rvcd.indexing.register import measure_register

    notes: list[str] = []
    files = find_audio(list(recordings), notes)
    usable = [Path(file.source) for file in files if not file.problem]
    note(*notes, *(file.problem for file in files if file.problem))
    if not usable:
        raise AudioFileError("there is no recording to measure a register of")
    median_hz, heard = measure_register(usable)
    note(*heard.notes)
    return median_hz
