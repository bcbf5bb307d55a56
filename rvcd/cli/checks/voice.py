"""The voice the daemon would start with."""

from __future__ import annotations

from rvcd.cli.checks.finding import Finding, Level
from rvcd.cli.checks.probes import Probes
from rvcd.config.folders import cache_folder
from rvcd.config.settings import TEST_WEIGHTS, Settings
from rvcd.errors import ModelFileError, RvcdError
from rvcd.formats.index_header import read_fitting_index_header, without_index
from rvcd.voices.encoders import choose_encoder, encoder_problem
from rvcd.voices.test_weight_paths import TestWeightPaths

PUBLISHED_UNIT_WIDTHS = (256, 768)
"""What voices trained by RVC v1 and v2 take; the test weights' units are narrower."""


def voice_finding(settings: Settings, probes: Probes, resumed: str) -> Finding:
    """Read the headers of the voice and its index. resumed: the voice the state file names, "" for none."""
    try:
        entry = probes.first_voice(settings, resumed)
        if entry is None:
            folders = ", ".join(settings.voices.folders) or "any folder: voices.folders is empty"
            advice = "put one there, or set voices.voice; an empty models.content_encoder takes the built-in voice"
            return Finding(Level.FAIL, "voice", f"there is no voice (*.pth) in {folders}; {advice}")
        tested = settings.models.content_encoder == TEST_WEIGHTS
        if tested and TestWeightPaths.below(cache_folder()).folder in entry.path.parents:
            return Finding(Level.NOTE, "voice", f"{entry.name}: a test voice, which buzzes and speaks no words")
        voice = probes.read_voice(entry.path)
    except RvcdError as error:
        return Finding(Level.FAIL, "voice", str(error))
    choice = choose_encoder(settings, entry.encoder or voice.embedder)
    if choice.usual and not choice.path and not choice.problem and voice.unit_width in PUBLISHED_UNIT_WIDTHS:
        own = settings.models.content_encoder
        advice = 'set it to "auto", and type `rvcd assets fetch` if the file is not there'
        return Finding(
            Level.FAIL, "voice", f"{entry.path} needs a real content encoder, not {own!r} as models.content_encoder: {advice}"
        )
    if problem := encoder_problem(choice, entry.path, voice.unit_width, voice.unit_layer):
        return Finding(Level.FAIL, "voice", problem)
    if entry.index_path is not None:
        try:
            read_fitting_index_header(entry.index_path, voice.unit_width)
        except ModelFileError as error:
            return Finding(Level.NOTE, "voice", f"{entry.name} {without_index(error)}")
    index = f", index {entry.index_path.name}" if entry.index_path is not None else ", no index"
    text = f"{entry.name}: {voice.version}, {voice.rate_hz} Hz, {voice.unit_width}-wide units{index} ({entry.path})"
    return Finding(Level.OK, "voice", text)
