"""One clip, converted and measured: a row of numbers for which nobody has to listen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rvcd.audio.files import read_audio
from rvcd.audio.level_meter import LevelMeter
from rvcd.engine.pitch import PitchTrack
from rvcd.evaluation import objective
from rvcd.evaluation.conversion import Conversion, Converted, read_clip
from rvcd.evaluation.measures import RATE_HZ, FloatArray, at_level, median_f0_hz, pitch_agreement, semitones_to


@dataclass(frozen=True)
class Clip:
    """A recording and its conversions, at 16 kHz and aligned, with the pitch of the source and of the stream."""

    path: Path
    audio: FloatArray
    track: PitchTrack
    pitch_semitones: float
    converted: Converted
    made: PitchTrack


@dataclass(frozen=True)
class Measures:
    """What was measured of one clip; NaN for what is not known. Names without source_ are of the streamed conversion.

    lufs: integrated loudness. peak_dbfs. clipped: samples of the file. snr_db: speech above pauses. hnr_db: harmonics to noise.
    cents: median absolute pitch error; gross: share of frames that are voiced in both and more than 20 % off. voicing: share of
    frames voiced as wanted. stream_snr_db, stream_mcd_db, stream_distance_db: the stream against one pass, what streaming costs:
    SNR of the samples, mel-cepstral distortion, log-spectral distance. distance_db: log-spectral distance to the source. All four
    are taken at one loudness.
    load: time to compute a block / the block's own; real_time: seconds of audio converted in a second.
    """

    clip: str
    seconds: float
    pitch_semitones: float
    source_lufs: float
    lufs: float
    source_peak_dbfs: float
    peak_dbfs: float
    source_clipped: int
    clipped: int
    source_snr_db: float
    snr_db: float
    source_hnr_db: float
    hnr_db: float
    cents: float
    gross: float
    voicing: float
    stream_snr_db: float
    stream_mcd_db: float
    stream_distance_db: float
    distance_db: float
    load: float
    real_time: float


def convert_clip(path: Path, conversion: Conversion, register_hz: float | None, pitch: float | None) -> Clip:
    """Convert one clip. pitch: semitones; None: whole semitones to a register, where that is known. Raises AudioFileError."""
    audio = read_clip(path)
    track = conversion.pitch(audio)
    if pitch is None:
        pitch = semitones_to(median_f0_hz(track.f0_hz, track.voiced), register_hz) if register_hz else 0
    converted = conversion.convert(audio, pitch)
    return Clip(path, audio, track, pitch, converted, conversion.pitch(converted.streamed))


def measure(clip: Clip) -> Measures:
    """Measure a clip. Reads its file once more: clipping and loudness are those of the file."""
    source, made, streamed = _meter_of_file(clip.path), LevelMeter(RATE_HZ), clip.converted.streamed
    made.feed(streamed[:, None])
    wanted_hz = clip.track.f0_hz * 2 ** (clip.pitch_semitones / 12)
    agreement = pitch_agreement(wanted_hz, clip.track.voiced, clip.made.f0_hz, clip.made.voiced)
    # At one loudness: in one pass there are no gate, no loudness match and no limiter.
    source_level, level, one_pass = (at_level(a) for a in (clip.audio, streamed, clip.converted.offline))
    return Measures(
        clip=clip.path.name,
        seconds=len(clip.audio) / RATE_HZ,
        pitch_semitones=clip.pitch_semitones,
        source_lufs=_known(source.loudness_lufs()),
        lufs=_known(made.loudness_lufs()),
        source_peak_dbfs=_known(source.peak_dbfs()),
        peak_dbfs=_known(made.peak_dbfs()),
        source_clipped=source.clipped_samples,
        clipped=made.clipped_samples,
        source_snr_db=objective.snr_db(clip.audio),
        snr_db=objective.snr_db(streamed),
        source_hnr_db=objective.harmonics_to_noise_db(clip.audio, clip.track.f0_hz, clip.track.voiced),
        hnr_db=objective.harmonics_to_noise_db(streamed, clip.made.f0_hz, clip.made.voiced),
        cents=agreement.median_cents,
        gross=agreement.gross,
        voicing=agreement.agreement,
        stream_snr_db=objective.signal_to_error_db(level, one_pass),
        stream_mcd_db=objective.cepstral_distortion_db(level, one_pass),
        stream_distance_db=objective.spectral_distance_db(level, one_pass),
        distance_db=objective.spectral_distance_db(level, source_level),
        load=clip.converted.load,
        real_time=clip.converted.real_time,
    )


def _meter_of_file(path: Path) -> LevelMeter:
    audio, rate_hz = read_audio(path)
    meter = LevelMeter(rate_hz)
    for start in range(0, len(audio), 2**18):
        meter.feed(audio[start : start + 2**18, None])
    return meter


def _known(value: float | None) -> float:
    return float("nan") if value is None else value


HEADINGS = (
    "clip", "s", "pitch", "loudness", "clipped", "SNR", "HNR", "cents", "gross", "voicing", "stream SNR", "MCD", "distance",
    "x real time",
)  # fmt: skip


def table_rows(rows: list[Measures]) -> list[tuple[str, ...]]:
    """Return the clips' rows under HEADINGS; the source's numbers in brackets."""
    return [
        (
            row.clip, f"{row.seconds:.1f}", f"{row.pitch_semitones:+g}", f"{_n(row.lufs)} ({_n(row.source_lufs)}) LUFS",
            f"{row.clipped} ({row.source_clipped})", f"{_n(row.snr_db)} ({_n(row.source_snr_db)}) dB",
            f"{_n(row.hnr_db)} ({_n(row.source_hnr_db)}) dB", _n(row.cents, 0), _percent(row.gross), _percent(row.voicing),
            f"{_n(row.stream_snr_db)} dB", f"{_n(row.stream_mcd_db, 2)} dB", f"{_n(row.distance_db)} dB", _n(row.real_time),
        )
        for row in rows
    ]  # fmt: skip


def summary_lines(rows: list[Measures]) -> list[str]:
    """Return all clips together, in sentences: medians, and sums of what is counted."""

    def middle(name: str, digits: int = 1) -> str:
        values = np.array([getattr(row, name) for row in rows], np.float64)
        known = values[~np.isnan(values)]
        return _n(float(np.median(known)) if len(known) else float("nan"), digits)

    return [
        f"loudness {middle('lufs')} LUFS (source {middle('source_lufs')}); clipped samples {sum(row.clipped for row in rows)} "
        f"(source {sum(row.source_clipped for row in rows)})",
        f"speech {middle('snr_db')} dB above the pauses (source {middle('source_snr_db')}); "
        f"harmonics to noise {middle('hnr_db')} dB (source {middle('source_hnr_db')})",
        f"pitch error {middle('cents', 0)} cents, {100 * _mean([row.gross for row in rows]):.1f} % of frames more than 20 % off; "
        f"voicing alike in {100 * _mean([row.voicing for row in rows]):.1f} % of frames",
        f"the stream against one pass: SNR {middle('stream_snr_db')} dB, "
        f"mel-cepstral distortion {middle('stream_mcd_db', 2)} dB, "
        f"spectral distance {middle('stream_distance_db')} dB; to the source {middle('distance_db')} dB",
        f"{middle('real_time')} times real time, load {middle('load', 2)}",
    ]


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _n(value: float, digits: int = 1) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.0f} %"
