"""Statistics and verdicts, with invented numbers and exact sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.bench import figures as figures_module
from rvcd.bench.figures import (
    Comparison,
    Level,
    Spread,
    Unmeasured,
    comparison,
    count_late,
    figures,
    settings_for,
    suggest,
    verdict,
)
from rvcd.config.settings import LatencyBudget
from tests.bench.invented import BUDGETS, ENVIRONMENT, a_case, a_comparison, a_measurement, found

FP32 = replace(ENVIRONMENT, precision="fp32", instructions="baseline")


@pytest.fixture(autouse=True)
def presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_module, "LATENCY_PRESETS", BUDGETS)


# ---- statistics


@given(st.lists(st.floats(0, 1000, allow_subnormal=False), min_size=1, max_size=50))
def test_percentiles_are_numpys(values: list[float]) -> None:
    spread = Spread.of(values)
    expected = [np.median(values), np.percentile(values, 95), np.percentile(values, 99), max(values)]
    assert [spread.median, spread.p95, spread.p99, spread.max] == pytest.approx(expected, abs=1e-9)


def test_the_load_is_the_median_blocks_so_that_one_stall_does_not_make_an_overload() -> None:
    one = found("balanced", [10.0, 20.0, 30.0, 20.0])
    assert (one.load, one.load_mean) == (0.5, 0.5)
    stalled = found("balanced", [20.0] * 199 + [9000.0])
    assert stalled.load == 0.5 and stalled.load_mean > 1 and stalled.level is Level.HOLDS


def test_every_stage_is_summed_up_with_the_load_of_its_slowest_blocks_and_the_whole_latency() -> None:
    one = found("balanced", [10.0, 20.0, 30.0, 20.0])
    assert one.total.median == 20.0 and one.stages["decode_ms"].max == 15.0
    assert one.load_p99 == pytest.approx(0.7425)
    assert (one.latency_ms, one.start_up.total_s) == (186, 3.25)


def test_a_block_in_time_is_not_late_and_one_over_its_deadline_is() -> None:
    assert count_late([30.0] * 10, 40, 30) == 0
    assert count_late([30.1] * 10, 40, 30) == 10


def test_a_slow_block_makes_the_next_ones_late_until_they_have_caught_up() -> None:
    # It ends 45 ms after its own end: the next starts 5 ms late, ends 25 ms after being spoken, in time.
    assert count_late([45.0, 20.0, 20.0, 20.0], 40, 30) == 1
    # 60 ms: the next starts 20 ms late and ends after 40 ms, late; the third is in time.
    assert count_late([60.0, 20.0, 20.0, 20.0], 40, 30) == 2


def test_a_stall_skips_blocks_whose_time_has_passed_instead_of_being_behind_for_ever() -> None:
    # Blocks 1 to 8 cannot be heard any more when the stall ends at 400 ms; 9 and 10 come late, 11 is in time again.
    assert count_late([400.0] + [20.0] * 20, 40, 30) == 11


def test_an_overloaded_stream_is_late_nearly_always() -> None:
    assert count_late([52.0] * 100, 40, 30) == 100


# ---- verdicts


def test_a_case_that_holds_says_with_what_headroom() -> None:
    one = found("balanced", [18.6] * 100)
    assert one.level is Level.HOLDS
    assert verdict(one, [one]) == "balanced: holds with 38 % headroom"


def test_a_single_late_block_in_many_is_mentioned() -> None:
    one = found("balanced", [18.6] * 199 + [31.0])
    assert verdict(one, [one]) == "balanced: holds with 38 % headroom; 1 of 200 blocks is late"


def test_a_case_that_holds_mostly_says_how_many_blocks_are_late() -> None:
    one = found("balanced", [18.6] * 96 + [31.0] * 4)
    assert one.level is Level.MOSTLY
    assert verdict(one, [one]) == "balanced: holds mostly: 4 of 100 blocks are late"
    one = found("balanced", [18.6] * 49 + [31.0])
    assert verdict(one, [one]) == "balanced: holds mostly: 1 of 50 blocks is late"


def test_an_overload_says_its_load_and_what_to_try() -> None:
    low, safe = found("low", [26.2] * 100), found("safe", [100.0] * 50)
    assert verdict(low, [low, safe]) == "low: does not hold: load 1.31; try safe"
    assert verdict(low, [low]) == "low: does not hold: load 1.31; try balanced"
    assert verdict(low, [low, found("balanced", [60.0] * 100)]) == "low: does not hold: load 1.31; try safe"
    slow = found("safe", [262.0] * 50)
    assert verdict(slow, [slow]) == "safe: does not hold: load 1.31"


def test_blocks_that_are_late_without_overload_show_their_time_and_the_deadline() -> None:
    one = found("balanced", [35.0] * 100)
    assert (
        verdict(one, [one]) == "balanced: does not hold: 100 of 100 blocks are late: p99 is 35 ms, the deadline 30 ms; try safe"
    )


def test_a_case_whose_child_died_says_so() -> None:
    dead = Unmeasured(a_case("low"), "the measuring process was killed (SIGKILL)")
    assert verdict(dead, [dead]) == "low: could not be measured: the measuring process was killed (SIGKILL)"


# ---- the suggestion


def test_the_quickest_case_that_holds_is_suggested_with_its_whole_latency() -> None:
    best, sentence = suggest(
        [found("low", [26.2] * 100), found("balanced", [18.6] * 100), found("safe", [90.0] * 50)], f0_method="swift", busy=False
    )
    assert best is not None and best.case.name == "balanced"
    assert sentence == (
        "Suggestion: balanced: 186 ms from microphone to voice, plus the device's own buffers. Set latency.preset = 'balanced'."
    )


def test_a_free_combination_is_suggested_with_its_lengths() -> None:
    case = a_case("custom", LatencyBudget(100, 80, 60, 500))
    best, sentence = suggest([figures(case, a_measurement([30.0] * 50))], f0_method="swift", busy=False)
    assert best is not None and best.latency_ms == 256
    assert sentence.endswith("Set [latency] block_ms = 100, lookahead_ms = 80, deadline_ms = 60, context_ms = 500.")
    assert settings_for(case).startswith("[latency] block_ms = 100")


def test_when_nothing_holds_it_says_what_would_help() -> None:
    best, sentence = suggest(
        [found("balanced", [60.0] * 50, FP32), found("safe", [260.0] * 50, FP32)], f0_method="rmvpe", busy=True
    )
    assert best is None
    assert sentence == (
        "None of these holds here. What helps: closing the programs that use the processor, f0_method swift, "
        "precision bf16 where the processor multiplies it, "
        "longer blocks (--block-ms 400), a GPU."
    )


def test_a_case_that_nearly_holds_is_named() -> None:
    best, sentence = suggest([found("balanced", [18.6] * 96 + [31.0] * 4)], f0_method="swift", busy=False)
    assert best is None
    assert sentence.startswith("Nothing holds surely here; balanced does mostly (latency.preset = 'balanced'). What helps: ")


def test_without_any_figures_there_is_nothing_to_suggest() -> None:
    assert suggest([Unmeasured(a_case("low"), "it died")], f0_method="swift", busy=False) == (None, "Nothing could be measured.")


# ---- against upstream's way


def test_the_ratio_is_of_computing_time_for_the_same_audio() -> None:
    one = comparison(a_case("balanced"), a_comparison())
    assert (one.ours_ms_per_s, one.recompute_ms_per_s, one.ratio) == (500.0, 3000.0, 6.0)
    assert one.sentence == "balanced: 6.0 times less computing than upstream's way, side by side"
    worse = Comparison(a_case("balanced"), a_comparison(), 3000.0, 1500.0)
    assert worse.sentence == "balanced: 2.0 times more computing than upstream's way, side by side"
