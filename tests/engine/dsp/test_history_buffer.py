from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.engine.dsp.history_buffer import HistoryBuffer


@given(chunks=st.lists(st.integers(0, 40), max_size=30), capacity=st.integers(1, 30), first=st.integers(-10, 10))
def test_a_track_answers_like_a_list_that_forgets(chunks, capacity, first):
    history, model = HistoryBuffer(capacity, first=first), []
    for size in chunks:
        rows = np.arange(len(model), len(model) + size, dtype=np.float32)
        history.append(rows)
        model += list(rows)
        assert history.end == first + len(model)
        newest = min(capacity, len(model))
        assert list(history.rows(history.end - newest, history.end)) == model[len(model) - newest :]


def test_rows_before_the_first_are_zeros_while_nothing_was_let_go():
    history = HistoryBuffer(8, width=2, first=3)
    history.append(np.ones((2, 2), np.float32))
    assert history.rows(0, 5).tolist() == [[0, 0]] * 3 + [[1, 1]] * 2


def test_rows_that_were_let_go_or_are_not_there_yet_are_an_error():
    history = HistoryBuffer(4)
    history.append(np.zeros(10, np.float32))
    with pytest.raises(IndexError):
        history.rows(0, 10)
    with pytest.raises(IndexError):
        history.rows(8, 11)
