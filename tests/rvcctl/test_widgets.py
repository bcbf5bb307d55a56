from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcctl.widgets.big_text import big_text
from rvcctl.widgets.counters import CounterMemory
from rvcctl.widgets.latency_bar import share_cells
from rvcctl.widgets.level_meter import Ballistics, bar_eighths
from rvcctl.widgets.level_scale import scale_text
from rvcctl.widgets.note_display import NoteMemory, tuner_text
from rvcctl.widgets.state_banner import age_text
from rvcd.protocol import Stats


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


def test_a_counter_tells_when_it_last_grew_and_forgets_it_when_the_daemon_restarts() -> None:
    memory = CounterMemory()
    assert memory.feed(Stats(input_xruns=3), 0.0)[3].remark == "earlier"
    grown = memory.feed(Stats(input_xruns=4), 1.0)[3]
    assert (grown.remark, grown.recent) == ("just now", True)
    assert memory.feed(Stats(input_xruns=4), 91.0)[3].remark == "1 min 30 s ago"
    restarted = memory.feed(Stats(input_xruns=0), 92.0)[3]
    assert (restarted.remark, restarted.nonzero, restarted.recent) == ("", False, False)


def test_durations_read_like_speech() -> None:
    assert [age_text(s) for s in (0.4, 59.9, 61, 3600, 7260)] == ["0 s", "59 s", "1 min 01 s", "1 h 00 min", "2 h 01 min"]
