"""All judged clips together: a verdict, with how sure it is; and the judges' table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rvcd.evaluation.judging import Row
from rvcd.evaluation.standard_errors import Drawn, standard_error


@dataclass(frozen=True)
class StandardErrors:
    """Of the verdict's figures of the same names, from drawing the clips anew; NaN for fewer than two clips."""

    to_target: float = math.nan
    to_source: float = math.nan
    source_wer: float = math.nan
    wer: float = math.nan
    wer_above_source: float = math.nan
    source_mos: float = math.nan
    mos: float = math.nan
    cents: float = math.nan
    voicing: float = math.nan


@dataclass(frozen=True)
class Verdict:
    """All clips together. Rates and shares are 0..1, errors are counted over all words; medians over the clips.

    wer_above_source: the conversion's word errors less the source's.
    """

    voice: str
    preset: str
    block_ms: float
    algorithmic_ms: float
    clips: int
    to_target: float
    least_to_target: float
    closer_to_target: int
    offline_to_target: float
    source_wer: float
    wer: float
    source_mos: float
    offline_mos: float
    mos: float
    cents: float
    voicing: float
    load: float
    to_source: float = math.nan
    wer_above_source: float = math.nan
    standard_errors: StandardErrors = StandardErrors()


def summarise(
    rows: Sequence[Row], voice: str, preset: str, block_ms: float, algorithmic_ms: float, together: Sequence[str] | None = None
) -> Verdict:
    """Return the clips' verdict. block_ms, algorithmic_ms: of the stream that was judged.

    together: a name for each clip, its speaker's for instance: clips of one name are drawn together for the standard errors,
    because what they say is no more than one sample each of many speakers. None: each clip by itself.
    """
    names = list(range(len(rows))) if together is None else list(together)
    groups = [np.array([n for n, name in enumerate(names) if name == one]) for one in dict.fromkeys(names)]
    figures: dict[str, Callable[[Drawn], float]] = {
        **{name: _Figure(rows, name) for name in ("to_target", "to_source", "source_mos", "mos", "cents", "voicing")},
        **{name: _WordErrors(rows, name) for name in ("source_wer", "wer", "wer_above_source")},
    }
    every = np.arange(len(rows))
    found = {name: figure(every) for name, figure in figures.items()}
    known = [row for row in rows if not math.isnan(row.to_target)]
    return Verdict(
        voice=voice,
        preset=preset,
        block_ms=block_ms,
        algorithmic_ms=algorithmic_ms,
        clips=len(rows),
        to_target=found["to_target"],
        least_to_target=min((row.to_target for row in known), default=math.nan),
        closer_to_target=sum(row.to_target > row.to_source for row in known),
        offline_to_target=_Figure(rows, "offline_to_target")(every),
        source_wer=found["source_wer"],
        wer=found["wer"],
        source_mos=found["source_mos"],
        offline_mos=_Figure(rows, "offline_mos")(every),
        mos=found["mos"],
        cents=found["cents"],
        voicing=found["voicing"],
        load=_Figure(rows, "load", median=True)(every),
        to_source=found["to_source"],
        wer_above_source=found["wer_above_source"],
        standard_errors=StandardErrors(
            **{name: _error_of(figure, groups) for name, figure in figures.items()},
        ),
    )


def _error_of(figure: Callable[[Drawn], float], groups: Sequence[Drawn]) -> float:
    return standard_error(len(groups), lambda drawn: figure(np.concatenate([groups[n] for n in drawn])))


class _Figure:
    """Of the clips that are drawn, what is known of one column: its mean, or its median (always of cents)."""

    def __init__(self, rows: Sequence[Row], name: str, *, median: bool = False) -> None:
        self._values = np.array([getattr(row, name) for row in rows], np.float64)
        self._median = median or name == "cents"

    def __call__(self, drawn: Drawn) -> float:
        known = self._values[drawn]
        known = known[~np.isnan(known)]
        if not len(known):
            return math.nan
        return float(np.median(known) if self._median else np.mean(known))


class _WordErrors:
    """Of the clips that are drawn, word errors over all words: of the source, of the conversion, or what it adds."""

    def __init__(self, rows: Sequence[Row], name: str) -> None:
        source, made = (np.array([getattr(row, n) for row in rows], np.float64) for n in ("source_errors", "errors"))
        self._errors = {"source_wer": source, "wer": made, "wer_above_source": made - source}[name]
        self._words = np.array([row.words for row in rows], np.float64)

    def __call__(self, drawn: Drawn) -> float:
        return float(self._errors[drawn].sum() / max(1.0, self._words[drawn].sum()))


HEADINGS = ("clip", "s", "pitch", "to target", "to source", "word errors", "MOS", "cents", "voicing")


def table_rows(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the clips' rows under HEADINGS: sources and offline in brackets."""
    return [
        (
            row.clip, f"{row.seconds:.1f}", f"{row.pitch_semitones:+g}", _shown(row.to_target), _shown(row.to_source),
            f"{row.errors} of {row.words} ({row.source_errors})", f"{row.mos:.2f} ({row.source_mos:.2f}, {row.offline_mos:.2f})",
            _shown(row.cents, 0), f"{100 * row.voicing:.0f} %",
        )
        for row in rows
    ]  # fmt: skip


def summary_lines(v: Verdict) -> list[str]:
    """Return the verdict in sentences. A standard error follows its figure, where it is known."""
    sure = v.standard_errors
    similar = (
        f"speaker similarity to the target {_with_error(v.to_target, sure.to_target, 2)} (least {v.least_to_target:.2f}, "
        f"in one pass {v.offline_to_target:.2f}), to the source {_with_error(v.to_source, sure.to_source, 2)}; "
        f"closer to the target than to the source: {v.closer_to_target} of {v.clips}"
        if not math.isnan(v.to_target)
        else "speaker similarity to the target: unknown; name samples of the voice with --target"
    )
    words, of_source, more = (
        _with_error(100 * getattr(v, name), 100 * getattr(sure, name), 1) for name in ("wer", "source_wer", "wer_above_source")
    )
    return [
        similar,
        f"word errors {words} %, of the source {of_source} %: {more} points more",
        f"naturalness (MOS) {_with_error(v.mos, sure.mos, 2)} streamed, {v.offline_mos:.2f} in one pass, "
        f"{_with_error(v.source_mos, sure.source_mos, 2)} source",
        f"pitch error {_with_error(v.cents, sure.cents, 0)} cents (median), voicing alike in "
        f"{_with_error(100 * v.voicing, 100 * sure.voicing, 1)} % of frames",
        f"load {v.load:.2f} at {v.block_ms:g} ms blocks ({v.preset}: {v.algorithmic_ms:g} ms of block, lookahead and deadline)",
    ]


def _shown(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _with_error(value: float, error: float, digits: int) -> str:
    return _shown(value, digits) + ("" if math.isnan(error) else f" ± {error:.{digits}f}")
