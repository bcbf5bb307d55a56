from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcctl.peaks import PEAK_FRESH_S, SILENCE, PeakReader
from rvcctl.steps import coarse_step, fine_step, number_text, snapped, value_text
from rvcctl.widgets.big_text import big_text
from rvcctl.widgets.compute_bar import MARK, ComputeModel, compute_bar, compute_of, compute_text
from rvcctl.widgets.counters import CounterMemory, CounterRow, rows_that_fit
from rvcctl.widgets.latency_bar import latency_of
from rvcctl.widgets.level_meter import Ballistics, bar_eighths
from rvcctl.widgets.level_scale import scale_text
from rvcctl.widgets.note_display import NoteMemory, tuner_text
from rvcctl.widgets.shares import share_cells
from rvcctl.widgets.slider import KNOB, slider_text, value_of
from rvcctl.widgets.state_banner import age_text, banner_of, clock_text
from rvcctl.widgets.strain import gpu_text
from rvcd.params import BY_NAME, PARAMS, Param
from rvcd.protocol import Stats

ANY_PARAM = st.sampled_from(PARAMS)


def test_a_peak_is_held_for_one_and_a_half_seconds_and_then_falls() -> None:
    needle = Ballistics()
    needle.feed(-6.0, 0, 10.0)
    for tick in range(1, 16):
        needle.feed(-120.0, 0, 10.0 + tick / 10)
    assert needle.held_dbfs == -6.0
    assert needle.level_dbfs == pytest.approx(-51.0)
    needle.feed(-120.0, 0, 11.6)
    assert needle.held_dbfs == pytest.approx(-9.0)


def test_clips_from_before_the_screen_opened_do_not_latch_and_a_restart_of_the_daemon_adds_none() -> None:
    needle = Ballistics()
    needle.feed(-6.0, 7, 1.0)
    assert needle.clips == 0
    needle.feed(-6.0, 9, 1.1)
    assert needle.clips == 2
    needle.feed(-6.0, 0, 1.2)
    needle.feed(-6.0, 1, 1.3)
    assert needle.clips == 3
    needle.clear()
    assert needle.clips == 0


def test_the_bar_is_empty_at_minus_60_and_full_at_0_dbfs() -> None:
    assert [bar_eighths(level, 50) for level in (-120.0, -60.0, -30.0, 0.0, 12.0)] == [0, 0, 200, 400, 400]


@pytest.mark.parametrize("width", [60, 78, 118, 200])
def test_the_scale_fits_the_meter(width: int) -> None:
    assert len(scale_text(width)) <= width


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=8), st.integers(0, 300))
def test_a_stacked_bar_uses_every_cell_and_shows_every_part(amounts: list[int], cells: int) -> None:
    widths = share_cells(tuple(amounts), cells)
    shown = sum(1 for amount in amounts if amount)
    if shown == 0 or cells < shown:
        assert widths == [0] * len(amounts)
    else:
        assert sum(widths) == cells
        assert all((width > 0) == (amount > 0) for width, amount in zip(widths, amounts, strict=True))


def test_the_last_note_stays_a_moment_when_the_voice_stops() -> None:
    memory = NoteMemory()
    assert (memory.feed(440.0, 1.0).note, memory.feed(440.0, 1.0).voiced) == ("A4", True)
    kept = memory.feed(0.0, 1.5)
    assert (kept.note, kept.voiced) == ("A4", False)
    assert memory.feed(0.0, 1.7).note == "-"


def test_the_needle_points_to_the_middle_when_in_tune_and_to_the_ends_when_not() -> None:
    assert tuner_text(0, 25)[12] == "◆"
    assert tuner_text(-50, 25)[2] == "◆"
    assert tuner_text(50, 25)[-3] == "◆"
    assert len(tuner_text(7, 26)) <= 26


@pytest.mark.parametrize(("scale", "rows"), [(1, 3), (2, 5)])
def test_big_letters_have_rows_of_one_width(scale: int, rows: int) -> None:
    for note in ("C4", "G#3", "A-1", "F#10", "?"):
        drawn = big_text(note, scale)
        assert len(drawn) == rows
        assert len({len(row) for row in drawn}) == 1


def xruns_in(rows: tuple[CounterRow, ...]) -> CounterRow:
    return next(row for row in rows if row.name == "xruns in")


def test_a_counter_tells_when_it_last_grew_and_forgets_it_when_the_daemon_restarts() -> None:
    memory = CounterMemory()
    assert xruns_in(memory.feed(Stats(input_xruns=3), 0.0)).remark == "earlier"
    grown = xruns_in(memory.feed(Stats(input_xruns=4), 1.0))
    assert (grown.remark, grown.recent) == ("just now", True)
    assert xruns_in(memory.feed(Stats(input_xruns=4), 91.0)).remark == "1 min 30 s ago"
    restarted = xruns_in(memory.feed(Stats(input_xruns=0), 92.0))
    assert (restarted.remark, restarted.marked, restarted.recent) == ("", False, False)


LOSSES = (
    "late_blocks", "late_samples", "expired_samples", "skipped_blocks", "failed_blocks", "gap_samples", "overflow_samples",
    "bad_input_samples", "bad_output_samples", "input_xruns", "output_xruns", "worker_restarts",
)  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_everything_that_is_lost_is_counted_on_the_screen(name: str) -> None:
    marked = [row for row in CounterMemory().feed(replace(Stats(), **{name: 17}), 0.0) if row.marked]  # type: ignore[arg-type]
    assert [(row.value, row.is_loss) for row in marked] == [("17", True)]


@given(st.sets(st.sampled_from(LOSSES)), st.integers(0, 20))
def test_where_there_is_not_enough_room_what_is_at_zero_shares_a_line(lost: set[str], height: int) -> None:
    rows = CounterMemory().feed(replace(Stats(), **dict.fromkeys(lost, 3)), 0.0)  # type: ignore[arg-type]
    shown, left_out = rows_that_fit(rows, height)
    assert len(shown) + left_out == len(rows)
    assert len(shown) + bool(left_out) <= max(height, 1)
    assert [row for row in rows if row in shown] == list(shown), "in the order of the table"
    hidden = [row for row in rows if row not in shown]
    assert not any(row.marked for row in hidden) or not any(row.is_loss and not row.marked for row in shown)


@pytest.mark.parametrize(
    ("scheduling", "marked", "remark"),
    [("FIFO 60", False, "device thread"), ("RR 5", False, "device thread"), ("OTHER", True, "not real-time"), ("", False, "")],
)
def test_a_device_thread_that_is_not_real_time_is_marked_and_never_called_a_loss(
    scheduling: str, marked: bool, remark: str
) -> None:
    row = CounterMemory().feed(Stats(scheduling=scheduling), 0.0)[-1]
    assert (row.value, row.marked, row.remark, row.is_loss) == (scheduling or "–", marked, remark, False)


def test_durations_read_like_speech() -> None:
    assert [age_text(s) for s in (0.4, 59.9, 61, 3600, 7260)] == ["0 s", "59 s", "1 min 01 s", "1 h 00 min", "2 h 01 min"]


@given(ANY_PARAM, st.floats(0.0, 1.0), st.integers(5, 60))
def test_a_slider_has_its_knob_where_a_click_gives_the_same_cell_again(param: Param, norm: float, cells: int) -> None:
    row, first, end = slider_text(param, param.from_normalised(norm), cells)
    assert len(row) == cells
    assert row.count(KNOB) == 1
    knob = row.index(KNOB)
    assert first <= knob < end
    again, _, _ = slider_text(param, value_of(param, knob, cells), cells)
    assert again.index(KNOB) == knob


@given(ANY_PARAM, st.floats(0.0, 1.0))
def test_values_from_the_mouse_lie_on_the_grid_of_steps_and_in_the_range(param: Param, norm: float) -> None:
    value = snapped(param, param.from_normalised(norm), param.step)
    assert param.low <= value <= param.high
    assert value in (param.low, param.high) or abs(value / param.step - round(value / param.step)) < 1e-6
    assert abs(value - param.from_normalised(norm)) <= param.step


@pytest.mark.parametrize(
    ("name", "fine", "coarse"),
    [("pitch", 0.1, 12.0), ("formant", 0.1, 2.5), ("index_rate", 0.01, 0.25), ("protect", 0.001, 0.05), ("gate", 0.1, 5.0)],
)
def test_steps_are_round_numbers(name: str, fine: float, coarse: float) -> None:
    assert fine_step(BY_NAME[name]) == pytest.approx(fine)
    assert coarse_step(BY_NAME[name]) == pytest.approx(coarse)


def test_values_show_every_digit_of_a_fine_step_and_words_where_numbers_mislead() -> None:
    assert [number_text(BY_NAME["pitch"], value) for value in (3.0, -0.04, -2.1)] == ["+3.0", "0.0", "-2.1"]
    assert number_text(BY_NAME["protect"], 0.33) == "0.330"
    assert (value_text(BY_NAME["gate"], -90.0), value_text(BY_NAME["gate"], None)) == ("off", "–")


def test_an_index_that_takes_its_time_is_shown_apart_from_the_voice() -> None:
    stats = Stats(latency_deadline_ms=140.0, encode_ms=40.0, pitch_ms=5.0, retrieval_ms=60.0, synthesis_ms=30.0)
    assert compute_of(stats).parts == (400, 50, 600, 300)
    assert "index 60.0" in compute_bar(compute_of(stats), 60).plain


def test_the_slow_blocks_are_compared_with_the_deadline_not_with_the_block() -> None:
    stats = Stats(
        latency_block_ms=140.0, latency_deadline_ms=70.0, load_p95=0.4,
        encode_ms=20.0, pitch_ms=5.0, retrieval_ms=1.0, synthesis_ms=14.0,
    )  # fmt: skip
    model = compute_of(stats)
    assert (model.parts, model.p95, model.deadline, model.is_late) == ((200, 50, 0, 150), 560, 700, False)
    assert compute_text(model) == "p95 56 of 70 ms"
    bar = compute_bar(model, 35).plain
    assert len(bar) == 35
    assert bar.index(MARK) == round(0.8 * 35) - 1
    late = compute_of(Stats(latency_block_ms=140.0, latency_deadline_ms=70.0, load_p95=0.6))
    assert compute_text(late) == "▲ LATE p95 84 of 70 ms"


@given(st.tuples(*[st.integers(0, 10**9)] * 4), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(5, 100))
def test_a_computing_bar_is_as_wide_as_asked(parts: tuple[int, int, int, int], p95: int, deadline: int, cells: int) -> None:
    model = ComputeModel(parts, p95, deadline)
    assert len(compute_bar(model, cells).plain) == (cells if any(parts) or deadline else 0)


def test_a_letter_in_the_compute_bar_never_runs_into_the_next_name() -> None:
    model = ComputeModel(parts=(100, 8, 0, 510), p95=700, deadline=1360)
    texts = [compute_bar(model, cells).plain for cells in range(3, 121)]
    assert not [text for text in texts if "uf0" in text.lower() or "fvoice" in text]
    assert any("f voice 51.0" in text for text in texts)


def test_between_two_looks_the_highest_peak_the_worst_load_and_the_lowest_fill_are_kept() -> None:
    reader = PeakReader()
    for peak, load, fill in ((-30.0, 0.2, 0.9), (-3.0, 1.4, 0.1), (-20.0, 0.3, 0.5)):
        newest = Stats(in_peak_dbfs=peak, out_peak_dbfs=peak - 1, monitor_peak_dbfs=peak - 2, load=load, ring_fill=fill)
        reader.feed(newest)
        reader.feed(newest)
    assert reader.take_levels(1.0, fresh=True) == (-3.0, -4.0, -5.0)
    assert reader.take_levels(1.0 + PEAK_FRESH_S, fresh=True) == (-3.0, -4.0, -5.0)
    assert reader.take_levels(1.1 + PEAK_FRESH_S, fresh=True) == SILENCE
    assert reader.take_strain(newest) == (1.4, 0.1)
    assert reader.take_strain(newest) == (0.3, 0.5)


def test_old_data_shows_no_level() -> None:
    reader = PeakReader()
    reader.feed(Stats(in_peak_dbfs=-3.0, out_peak_dbfs=-3.0))
    assert reader.take_levels(1.0, fresh=False) == SILENCE


def test_a_machine_without_a_gpu_shows_none_and_one_without_a_size_only_its_use() -> None:
    assert gpu_text(Stats()) == ""
    assert gpu_text(Stats(gpu_util=0.5)) == "50 %"
    assert gpu_text(Stats(gpu_util=0.5, gpu_memory_mb=2048.0, gpu_memory_total_mb=8192.0)) == "50 % · 2.0 of 8.0 GB"


@pytest.mark.parametrize(
    ("stats", "words"),
    [
        (Stats(state="live", record=1, record_s=754.9), "● REC 12:34"),
        (Stats(state="live"), "○ rec off"),
        (Stats(state="live", talk_mode="push-to-talk", talk=1), "◆ TALK on"),
        (Stats(state="standby", talk_mode="push-to-talk"), "◇ talk off"),
        (Stats(state="live", preset="Deep"), "preset Deep"),
        (Stats(state="live", voice="Choir", voice_slot=3, speakers=4, speaker=2), "Choir [3] · speaker 2 of 0..3"),
        (Stats(state="live", voice="Anna", loading="Bruno"), "Anna → ◌ loading Bruno"),
        (Stats(state="bypass", talk_mode="push-to-convert"), "your own voice goes out · t converts"),
        (Stats(state="bypass", bypass=1, talk_mode="push-to-convert"), "b converts again"),
    ],
)
def test_the_banner_says_in_words_what_is_on(stats: Stats, words: str) -> None:
    banner = banner_of(stats, connected=True, age_s=0.1, target="here")
    assert words in f"{banner.meaning} | {banner.switches} | {banner.voice}"


def test_recorded_time_is_a_clock() -> None:
    assert [clock_text(seconds) for seconds in (-1.0, 7.9, 754.0, 3723.0)] == ["0:00", "0:07", "12:34", "1:02:03"]


def test_a_loaded_denoiser_is_a_part_of_the_latency_and_the_computing_stays_with_the_deadline() -> None:
    stats = Stats(latency_total_ms=232.3, latency_block_ms=40.0, latency_lookahead_ms=116.0, latency_deadline_ms=40.0)
    without, loaded = latency_of(stats), latency_of(replace(stats, latency_denoise_ms=36.3))
    assert [name for name, _ in without.parts] == ["in", "block", "lookahead", "deadline", "out"]
    assert loaded.parts[2] == ("denoiser", 363)
    assert (without.deadline_number, loaded.deadline_number) == (4, 5)
