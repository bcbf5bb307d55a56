"""All clips together: figures, and how sure they are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rvcd.evaluation.judging import Row
from rvcd.evaluation.standard_errors import standard_error
from rvcd.evaluation.verdict import StandardErrors, Verdict, summarise, summary_lines

ROW = Row("a.wav", 1.5, 0.0, 0.8, 0.5, 0.8, 10, 1, 3, 4.0, 3.5, 3.25, 9.0, 0.975, 0.25)


def verdict_of(rows: list[Row], together: list[str] | None = None) -> Verdict:
    return summarise(rows, "v", "low", 40, 170, together)


def test_the_standard_error_of_a_mean_is_its_deviation_over_the_root_of_the_clips() -> None:
    values = np.random.default_rng(0).normal(3, 0.5, 100)
    found = standard_error(100, lambda drawn: float(values[drawn].mean()))
    assert found == pytest.approx(values.std(ddof=1) / 10, rel=0.1)
    assert found == standard_error(100, lambda drawn: float(values[drawn].mean()))


def test_one_clip_and_figures_that_are_unknown_have_no_standard_error() -> None:
    assert math.isnan(standard_error(1, lambda drawn: 1.0)) and math.isnan(standard_error(5, lambda drawn: math.nan))
    assert "±" not in summary_lines(verdict_of([ROW]))[1]


def test_words_are_counted_over_all_clips_and_their_excess_is_paired_with_the_source() -> None:
    # Each clip loses two words of ten more than its source, hard or easy as it is.
    rows = [replace(ROW, source_errors=n % 7, errors=n % 7 + 2) for n in range(40)]
    found = verdict_of(rows)
    assert found.wer_above_source == pytest.approx(0.2) == found.wer - found.source_wer
    assert found.standard_errors.wer_above_source == pytest.approx(0) and found.standard_errors.wer > 0.02


def test_clips_of_one_speaker_are_drawn_together() -> None:
    rows = [replace(ROW, mos=2.0 + n // 10) for n in range(20)]
    apart, together = verdict_of(rows), verdict_of(rows, [str(n // 10) for n in range(20)])
    assert apart.mos == together.mos == 2.5
    assert together.standard_errors.mos > 2 * apart.standard_errors.mos > 0


def test_what_is_unknown_of_a_clip_counts_for_nothing() -> None:
    found = verdict_of([ROW, replace(ROW, to_target=math.nan, cents=math.nan), replace(ROW, to_target=0.4, cents=11.0)])
    assert (found.to_target, found.least_to_target, found.closer_to_target) == (pytest.approx(0.6), 0.4, 1)
    assert found.cents == 10.0 and found.to_source == 0.5


def test_a_standard_error_follows_its_figure() -> None:
    sure = StandardErrors(to_target=0.01, to_source=0.02, wer=0.021, source_wer=0.012, wer_above_source=0.019, mos=0.04)
    lines = summary_lines(replace(verdict_of([ROW]), standard_errors=sure))
    assert "target 0.80 ± 0.01 (least 0.80" in lines[0] and "to the source 0.50 ± 0.02;" in lines[0]
    assert lines[1] == "word errors 30.0 ± 2.1 %, of the source 10.0 ± 1.2 %: 20.0 ± 1.9 points more"
