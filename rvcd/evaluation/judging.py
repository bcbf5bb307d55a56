"""One clip's conversion, judged: a row of the table that `rvcd eval` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rvcd.evaluation.conversion import Conversion, read_clip
from rvcd.evaluation.judges import NaturalnessJudge, SpeakerJudge, WordJudge
from rvcd.evaluation.measures import (
    RATE_HZ,
    FloatArray,
    at_level,
    cosine,
    median_f0_hz,
    pitch_agreement,
    word_errors,
    words_of,
)
from rvcd.evaluation.measuring import Clip


@dataclass(frozen=True)
class Row:
    """What was found for one clip. Similarities are cosines; to_target NaN where no target is known. MOS 1..5.

    words: in the reference; errors: of the recogniser on the source and on the conversion. cents: median absolute error of the
    streamed pitch; voicing: share of frames voiced as wanted.
    """

    clip: str
    seconds: float
    pitch_semitones: float
    to_target: float
    to_source: float
    offline_to_target: float
    words: int
    source_errors: int
    errors: int
    source_mos: float
    offline_mos: float
    mos: float
    cents: float
    voicing: float
    load: float


@dataclass(frozen=True)
class Judges:
    speaker: SpeakerJudge
    natural: NaturalnessJudge
    words: WordJudge
    reference: WordJudge

    @classmethod
    def load(cls, threads: int) -> Judges:
        """Load all. Raises MissingExtraError."""
        return cls(SpeakerJudge(), NaturalnessJudge(), WordJudge(threads=threads), WordJudge(reference=True, threads=threads))


@dataclass(frozen=True)
class Target:
    """Whom the voice should sound like. vector: of its samples, None without a judge. register_hz: the middle of its f0."""

    vector: FloatArray | None
    register_hz: float

    @classmethod
    def of(cls, paths: Sequence[Path], judge: SpeakerJudge | None, conversion: Conversion) -> Target:
        """Listen to samples of the target. Raises AudioFileError."""
        clips = [read_clip(path) for path in paths]
        vector = np.mean([judge.embed(at_level(clip)) for clip in clips], axis=0) if judge is not None else None
        tracks = [conversion.pitch(clip) for clip in clips]
        f0_hz, voiced = (np.concatenate([getattr(t, name) for t in tracks]) for name in ("f0_hz", "voiced"))
        return cls(vector, median_f0_hz(f0_hz, voiced))


def judge(clip: Clip, judges: Judges, target: Target | None) -> Row:
    """Judge one clip. A text file beside it (NAME.txt) says what is said in it; else the larger recogniser writes it down."""
    converted, track, pitch, path = clip.converted, clip.track, clip.pitch_semitones, clip.path
    agreement = pitch_agreement(track.f0_hz * 2 ** (pitch / 12), track.voiced, clip.made.f0_hz, clip.made.voiced)
    source, streamed, offline = (at_level(a) for a in (clip.audio, converted.streamed, converted.offline))
    beside = path.with_suffix(".txt")
    said = words_of(beside.read_text("utf-8", "replace") if beside.is_file() else judges.reference.text(source))
    vectors = [judges.speaker.embed(a) for a in (source, streamed, offline)]
    to_target = [cosine(vector, target.vector) if target and target.vector is not None else float("nan") for vector in vectors]
    return Row(
        clip=path.name,
        seconds=len(clip.audio) / RATE_HZ,
        pitch_semitones=pitch,
        to_target=to_target[1],
        to_source=cosine(vectors[1], vectors[0]),
        offline_to_target=to_target[2],
        words=len(said),
        source_errors=word_errors(said, words_of(judges.words.text(source))),
        errors=word_errors(said, words_of(judges.words.text(streamed))),
        source_mos=judges.natural.score(source),
        offline_mos=judges.natural.score(offline),
        mos=judges.natural.score(streamed),
        cents=agreement.median_cents,
        voicing=agreement.agreement,
        load=converted.load,
    )
