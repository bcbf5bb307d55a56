"""`rvcd eval DIR`: convert a folder of speech as a live stream would, and say how good it is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from rvcd.config.settings import Settings
from rvcd.errors import AudioFileError, MissingExtraError, ParamError
from rvcd.evaluation import chart, html_report, judging, measuring
from rvcd.evaluation.conversion import Conversion, clips_in
from rvcd.evaluation.measures import RATE_HZ, FloatArray
from rvcd.evaluation.verdict import HEADINGS, Verdict, summarise, summary_lines, table_rows
from rvcd.voices.configured import named_voice

TARGET_STEM = "target"
"""A voice's folder may hold samples of the voice itself under this name: target.flac."""


@dataclass(frozen=True)
class EvalRequest:
    """folder: of speech. target: samples of the voice itself, files or a folder; (): those beside the voice, if any.

    pitch: semitones, or None for the whole semitones that bring each clip to the target's register. chart: a PNG, or None.
    report: an HTML page, or None. audio: a folder for the conversions, or None. judges: None: if they are installed.
    """

    folder: Path
    voice: str = ""
    index: str = ""
    preset: str = ""
    f0_method: str = ""
    target: tuple[Path, ...] = ()
    pitch: float | None = 0.0
    chart: Path | None = None
    report: Path | None = None
    audio: Path | None = None
    judges: bool | None = None


@dataclass(frozen=True)
class Findings:
    """What was found. verdict, rows: the judges', None and empty without them. failed: a sentence for each clip that failed."""

    voice: str
    preset: str
    block_ms: float
    algorithmic_ms: float
    measures: list[measuring.Measures]
    verdict: Verdict | None
    rows: list[judging.Row]
    failed: list[str]


def evaluate(settings: Settings, request: EvalRequest, told: Callable[[str], None]) -> Findings:
    """Convert, measure and judge every clip of the folder; told is called with a line of progress.

    Raises AudioFileError for a folder without audio, ParamError without a voice, MissingExtraError where judges are asked for
    that are not installed.
    """
    clips = clips_in(request.folder)
    if not clips:
        raise AudioFileError(f"{request.folder}: holds no audio file (WAV, FLAC, OGG, MP3)")
    if request.chart is not None:
        chart.find_matplotlib()
    for folder in (request.audio, *(page and page.absolute().parent for page in (request.chart, request.report))):
        _make_folder(folder)
    voice = named_voice(settings, request.voice, request.index)
    if voice is None:
        raise ParamError(f"there is no voice: put a .pth file into {', '.join(settings.voices.folders)}, or use --voice FILE.pth")
    judges = _judges(settings, request, told)
    told(f"loading {voice.name}")
    preset = request.preset or settings.latency.named
    f0_method = request.f0_method or settings.engine.f0_method
    conversion = Conversion(settings, voice, request.preset, f0_method, None if request.index else told)
    samples = _samples(request.target, Path(voice.path))
    target = judging.Target.of(samples, judges.speaker if judges else None, conversion) if samples else None
    found = Findings(
        voice.name,
        preset,
        conversion.geometry.ms(conversion.geometry.block_samples),
        _algorithmic_ms(conversion),
        [],
        None,
        [],
        [],
    )
    pictures: list[html_report.Picture] = []
    middle = (np.zeros(1, np.float32), np.zeros(1, np.float32))
    for number, path in enumerate(clips):
        told(f"{number + 1} of {len(clips)}: {path.name}")
        try:
            clip = measuring.convert_clip(path, conversion, target.register_hz if target else None, request.pitch)
        except AudioFileError as error:
            told(str(error))
            found.failed.append(str(error))
            continue
        streamed = clip.converted.streamed
        found.measures.append(measuring.measure(clip))
        if judges is not None:
            found.rows.append(judging.judge(clip, judges, target))
        if request.audio is not None:
            _write(request.audio / f"{path.stem}.wav", streamed)
        if request.report is not None:
            pictures.append(html_report.Picture.of(path.name, clip.audio, streamed))
        if number == len(clips) // 2 or not middle[0].any():
            middle = (clip.audio, streamed)
    if not found.measures:
        raise AudioFileError(found.failed[0])
    if judges is not None:
        verdict = summarise(found.rows, voice.name, preset, found.block_ms, found.algorithmic_ms)
        found = replace(found, verdict=verdict)
    if request.report is not None:
        _write_page(request.report, found, pictures)
    if request.chart is not None:
        try:
            chart.draw(request.chart, f"{voice.name}, {preset}: {len(found.rows)} clips", found.rows, *middle)
        except OSError as error:
            told(f"no picture: {request.chart}: {(error.strerror or str(error)).lower()}")  # the findings are worth more
    return found


def _judges(settings: Settings, request: EvalRequest, told: Callable[[str], None]) -> judging.Judges | None:
    """Load the judges that are wanted; None where nobody asked for them and they are not installed."""
    if request.judges is False:
        return None
    told("loading the judges")
    try:
        return judging.Judges.load(settings.engine.threads or 2)
    except MissingExtraError as error:
        if request.judges or request.chart is not None:
            raise
        told(f"measures only, without judges of similarity, words and naturalness: {error}")
        return None


def _write_page(path: Path, found: Findings, pictures: Sequence[html_report.Picture]) -> None:
    tables = [html_report.Table("Measures", measuring.HEADINGS, measuring.table_rows(found.measures))]
    lines = measuring.summary_lines(found.measures)
    if found.verdict is not None:
        tables.insert(0, html_report.Table("Judgements", HEADINGS, table_rows(found.rows)))
        lines = [*summary_lines(found.verdict), *lines]
    title = f"{found.voice}, {found.preset}: {len(found.measures)} clips"
    html_report.write_page(path, title, [*lines, *found.failed], tables, pictures)


def _algorithmic_ms(conversion: Conversion) -> float:
    geometry = conversion.geometry
    return geometry.ms(geometry.block_samples + geometry.lookahead_frames * geometry.hop_samples + geometry.deadline_samples)


def findings_document(found: Findings) -> str:
    """Return everything as JSON: the judges' verdict and rows, if there are any, and the measures; what is not known is null."""
    about = {
        "voice": found.voice, "preset": found.preset, "block_ms": found.block_ms, "algorithmic_ms": found.algorithmic_ms,
        "clips": len(found.measures),
    }  # fmt: skip
    judged = {**asdict(found.verdict), "rows": [asdict(row) for row in found.rows]} if found.verdict is not None else about
    document = {**judged, "measures": [asdict(row) for row in found.measures], "failed": found.failed}
    return json.dumps(_plain(document), indent=2)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value


def _samples(named: Sequence[Path], voice: Path) -> list[Path]:
    if not named:
        return [path for path in clips_in(voice.parent) if path.stem == TARGET_STEM]
    found = [clip for path in named for clip in (clips_in(path) if path.is_dir() else [path])]
    if not found:
        raise AudioFileError(f"{named[0]}: holds no audio file of the target")
    return found


def _make_folder(folder: Path | None) -> None:
    """Make the folder that findings go to, before minutes are spent on them. Raises AudioFileError."""
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioFileError(f"{folder}: cannot be made: {(error.strerror or str(error)).lower()}; name another folder") from None


def _write(path: Path, audio: FloatArray) -> None:
    from rvcd.audio.files import AtomicAudioWriter

    with AtomicAudioWriter(path, RATE_HZ, force=True) as writer:
        writer.write(audio)
