from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcctl.client import Listener
from rvcctl.demo import DemoClient
from rvcctl.demo_daemon import BROKEN, LATENCIES_MS, LOAD_S, RESIZE_S, SLOW_BLOCK_EVERY, VOICES, DemoDaemon
from rvcctl.demo_singer import PHRASE_S, sung
from rvcctl.view import DaemonView, Failure
from rvcd.osc.codec import OscMessage
from rvcd.params import BY_ADDRESS, PARAMS
from rvcd.protocol import SILENCE_DBFS, Stats, note_of


class Played:
    """A demo daemon with the view that its messages fill, moved through time by the test."""

    def __init__(self, talk_mode: str = "push-to-talk") -> None:
        self.now_s = 100.0
        self.daemon = DemoDaemon(self.now_s, talk_mode=talk_mode)
        self.view = DaemonView("test")
        self.failures: list[Failure] = []
        self.take(self.daemon.greeting())
        self.wait(1.0)

    def take(self, messages: list[OscMessage]) -> None:
        for message in messages:
            outcome = self.view.apply(message, self.now_s)
            if isinstance(outcome, Failure):
                self.failures.append(outcome)

    def tell(self, address: str, *args: str | int | float) -> Stats:
        self.take(self.daemon.obey(address, args, self.now_s))
        return self.stats

    def wait(self, seconds: float) -> Stats:
        for _ in range(round(seconds * 15)):
            self.now_s += 1 / 15
            self.take(self.daemon.tick(self.now_s))
        return self.stats

    @property
    def stats(self) -> Stats:
        assert self.view.stats is not None
        return self.view.stats


def test_a_new_screen_is_told_everything() -> None:
    played = Played()
    assert set(played.view.numbers) == set(BY_ADDRESS)
    assert [entry.name for entry in played.view.voices or ()] == list(VOICES)
    assert len(played.view.presets or ()) == 4
    assert len(played.view.log) == 3
    assert played.stats.state == "live"


def test_the_same_times_and_commands_give_the_same_messages() -> None:
    first, second = Played(), Played()
    for played in (first, second):
        played.tell("/pitch", 4.0)
        played.tell("/voice", "Dusk")
        played.wait(20.0)
    assert first.view == second.view


def test_numbers_are_limited_and_echoed_and_end_the_preset() -> None:
    played = Played()
    assert played.stats.preset == "Natural"
    played.tell("/pitch", 99.0)
    assert played.view.numbers["/pitch"] == 24.0
    assert played.stats.preset == ""


def test_a_voice_is_loaded_a_while_and_a_broken_one_leaves_the_old_one_live() -> None:
    played = Played()
    played.tell("/voice/slot", 3)
    assert played.wait(LOAD_S / 2).loading == "Choir"
    stats = played.wait(LOAD_S)
    assert (stats.voice, stats.voice_slot, stats.loading, stats.speakers) == ("Choir", 3, "", 4)
    assert played.tell("/speaker", 3).speaker == 3
    (broken,) = BROKEN
    played.tell("/voice", broken)
    assert played.wait(LOAD_S).voice == "Choir"
    assert [failure.command for failure in played.failures] == ["/voice"]
    assert "training file" in played.failures[0].reason


def test_presets_are_recalled_saved_and_deleted() -> None:
    played = Played()
    played.tell("/preset/recall", "Deep")
    assert (played.view.numbers["/pitch"], played.stats.preset) == (-5.0, "Deep")
    played.tell("/formant", 2.0)
    assert played.tell("/preset/save", "Mine").preset == "Mine"
    assert [entry.name for entry in played.view.presets or ()][-1] == "Mine"
    played.tell("/preset/recall", "Natural")
    assert [played.view.numbers[param.address] for param in PARAMS] == [param.default for param in PARAMS]
    played.tell("/preset/delete", "Mine")
    assert len(played.view.presets or ()) == 4


def test_another_latency_holds_after_a_moment_of_starting() -> None:
    played = Played()
    before_ms = played.stats.latency_total_ms
    played.tell("/latency/preset", "safe")
    assert played.wait(RESIZE_S / 2).state == "starting"
    stats = played.wait(RESIZE_S)
    assert (stats.state, stats.latency_preset) == ("live", "safe")
    assert stats.latency_total_ms - before_ms == pytest.approx(sum(LATENCIES_MS["safe"]) - sum(LATENCIES_MS["balanced"]))


@pytest.mark.parametrize(
    ("address", "value", "state"),
    [("/mute", 1, "muted"), ("/bypass", 1, "bypass"), ("/panic", 1, "panic"), ("/talk", 0, "standby")],
)
def test_switches_change_the_state_and_what_is_heard(address: str, value: int, state: str) -> None:
    played = Played()
    played.tell(address, value)
    stats = played.wait(3.0)
    assert stats.state == state
    assert (stats.out_peak_dbfs > SILENCE_DBFS) == (state == "bypass")
    assert stats.in_peak_dbfs > SILENCE_DBFS


def test_push_to_convert_lets_the_raw_voice_through() -> None:
    played = Played("push-to-convert")
    played.tell("/talk", 0)
    assert played.wait(0.2).state == "bypass"


def test_a_recording_counts_its_seconds_and_is_named_in_the_log() -> None:
    played = Played()
    played.tell("/record", 1)
    assert played.wait(3.0).record_s == pytest.approx(3.0, abs=0.1)
    played.tell("/record", 0)
    assert played.wait(0.1).record_s == 0.0
    assert "recording ended" in played.view.log[-1].text


def test_now_and_then_a_block_is_late_and_counted() -> None:
    played = Played()
    stats = played.wait(0.14 * SLOW_BLOCK_EVERY + 1.0)
    assert stats.late_blocks == 1
    assert stats.expired_samples > 0
    assert played.view.log[-1].level == "warning"


def test_a_hot_input_clips() -> None:
    played = Played()
    played.tell("/gain/in", 24.0)
    assert played.wait(PHRASE_S).in_clips > 0


def test_the_parts_of_the_latency_add_up() -> None:
    stats = Played().stats
    parts = (
        stats.latency_device_in_ms, stats.latency_block_ms, stats.latency_lookahead_ms, stats.latency_deadline_ms,
        stats.latency_device_out_ms,
    )  # fmt: skip
    assert stats.latency_total_ms == pytest.approx(sum(parts))


@given(
    st.sampled_from(
        ["/voice", "/voice/slot", "/pitch", "/preset/recall", "/speaker", "/f0/method", "/record", "/nothing", "", "/rvc/x"]
    ),
    st.lists(st.one_of(st.text(max_size=8), st.integers(-(2**31), 2**31 - 1), st.floats(allow_nan=True)), max_size=2),
)
def test_whatever_is_asked_for_is_answered(address: str, args: list[str | int | float]) -> None:
    daemon = DemoDaemon(0.0)
    for message in [*daemon.obey(address, tuple(args), 1.0), *daemon.tick(9.0)]:
        DaemonView("test").apply(message, 1.0)
    assert dataclasses.is_dataclass(daemon.stats(9.0))


def test_it_sings_in_tune_but_with_vibrato() -> None:
    voiced = [f0_hz for f0_hz in (sung(tenth / 50)[0] for tenth in range(int(PHRASE_S * 50))) if f0_hz > 0]
    assert len(voiced) > 300
    assert all(100.0 < f0_hz < 600.0 for f0_hz in voiced)
    in_tune = [f0_hz for f0_hz in voiced if abs(note_of(f0_hz)[1]) < 35.0]
    assert len(in_tune) > 0.8 * len(voiced)


def test_the_client_obeys_at_once_and_tells_its_listener() -> None:
    class Ears(Listener):
        changes = 0
        failures: tuple[Failure, ...] = ()

        def on_view_changed(self) -> None:
            self.changes += 1

        def on_failed(self, failure: Failure) -> None:
            self.failures = (*self.failures, failure)

    client, ears = DemoClient(lambda: 5.0, push_hz=0), Ears()
    client._listener = ears
    client.advance()
    client.send("/mute", 1)
    assert client.view.stats is not None
    assert client.view.stats.state == "muted"
    client.send("/f0/method", "rmvpe")
    assert "set models.rmvpe" in ears.failures[0].reason
    assert ears.changes >= 2
