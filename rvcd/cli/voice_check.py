"""`rvcd voice check`: whether voices would run. Reads their files whole, with torch and faiss as the worker does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rvcd.cli.checks.finding import Level
from rvcd.config.settings import Settings
from rvcd.engine.retrieval import read_index
from rvcd.errors import ModelFileError
from rvcd.formats.index_header import without_index
from rvcd.formats.voice_file import read_voice
from rvcd.voices.assets import sha256_of
from rvcd.voices.encoders import choose_encoder, encoder_problem
from rvcd.voices.registry import VoiceEntry


@dataclass(frozen=True)
class VoiceReport:
    """What was found about one voice. findings: (level, sentence), at least one, the worst first."""

    voice: VoiceEntry
    findings: tuple[tuple[Level, str], ...]

    @property
    def level(self) -> Level:
        """The worst of the findings."""
        return self.findings[0][0]

    @property
    def text(self) -> str:
        """The findings on one line; what is well with a voice that fails does not matter."""
        return "; ".join(text for level, text in self.findings if level is not Level.OK or self.level is not Level.FAIL)


def check_voice(settings: Settings, voice: VoiceEntry, twin: str = "") -> VoiceReport:
    """Read a voice whole: header, every tensor, index, voice.toml, and whether its content encoder makes its units.

    Where the encoder of most voices is not there, that is nothing of this voice's. twin: name of a voice with the same content.
    """
    failures, notes, fine = list(voice.problems), [], []
    try:
        spec = read_voice(voice.path).spec
        fine.append(
            f"{spec.version}, {spec.rate_hz} Hz, {'f0' if spec.has_f0 else 'no f0'}, {spec.unit_width}-wide units, tensors whole"
        )
        if spec.note:
            notes.append(spec.note.removeprefix(f"{spec.path}: "))
        if voice.speaker >= spec.speakers:
            failures.append(
                f"{voice.path}: has no speaker {voice.speaker}, which its voice.toml names; it has 0..{spec.speakers - 1}"
            )
        choice = choose_encoder(settings, voice.encoder or spec.embedder)
        problem = encoder_problem(choice, voice.path, spec.unit_width, spec.unit_layer)
        if problem and not (choice.usual and choice.problem):
            failures.append(problem)
        if voice.index_path is None:
            fine.append("no index")
        else:
            try:
                fine.append(f"{read_index(voice.index_path, spec.unit_width).vectors:,} vectors in its index")
            except ModelFileError as error:
                notes.append(without_index(error))
    except ModelFileError as error:
        failures.append(str(error))
    findings = [(Level.FAIL, text) for text in failures]
    findings += [(Level.NOTE, text) for text in notes]
    if twin:
        findings.append((Level.NOTE, f"has the same content as '{twin}'; one of them can go"))
    if fine:
        findings.append((Level.OK, ", ".join(fine)))
    return VoiceReport(voice, tuple(findings))


def find_twins(voices: Iterable[VoiceEntry]) -> dict[Path, str]:
    """Return, for each file that is byte for byte one before it, the name of the first such. An unreadable file has no twin."""
    sizes: dict[int, list[VoiceEntry]] = defaultdict(list)
    for voice in voices:
        if voice.path.is_file():
            sizes[voice.path.stat().st_size].append(voice)
    twins: dict[Path, str] = {}
    for alike in sizes.values():
        firsts: dict[str, str] = {}
        # Only files of one size can be equal: the others need not be read once more.
        for voice in alike if len(alike) > 1 else ():
            try:
                first = firsts.setdefault(sha256_of(voice.path), voice.name)
            except ModelFileError:
                continue
            if first != voice.name:
                twins[voice.path] = first
    return twins
