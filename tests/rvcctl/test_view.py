from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
import struct
from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rvcctl.reading import clean_text, messages_of
from rvcctl.view import FRESH_S, KEPT_LOG_LINES, DaemonView, Done, Entry
from rvcd.errors import ProtocolError
from rvcd.osc.codec import OscMessage, encode
from rvcd.protocol import Stats
from tests.osc.packets import KILLERS, bundle, hostile, mutated


@given(st.binary(max_size=200))
@example(b"#bundle\0" + bytes(8) + struct.pack(">i", -4))
@example(b"/rvc/stats\0\0,[[[")
@example(b"/rvc/\xff\xfe\0,s\0\0\xff\xff\xff\0")
@example(b"/\0\0\0,b\0\0\xff\xff\xff\xff")
@example(b"/\0\0\0,sss")
def test_any_bytes_are_a_message_or_refused(datagram: bytes) -> None:
    view = DaemonView("test")
    with contextlib.suppress(ProtocolError):
        for message in messages_of(datagram):
            view.apply(message, 0.0)


@given(st.data())
def test_a_damaged_stats_message_is_applied_or_refused(data: st.DataObject) -> None:
    datagram = bytearray(encode("/rvc/stats", *dataclasses.astuple(Stats())))
    for _ in range(data.draw(st.integers(1, 4))):
        datagram[data.draw(st.integers(0, len(datagram) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        for message in messages_of(bytes(datagram)):
            DaemonView("test").apply(message, 0.0)


@pytest.mark.parametrize("datagram", [packet for kind, packet in KILLERS.items() if kind != "33 arguments"])
def test_what_is_known_to_hang_osc_programs_is_refused_here_too(datagram: bytes) -> None:
    with pytest.raises(ProtocolError):
        messages_of(datagram)


def test_thousands_of_hostile_datagrams_are_applied_or_refused_and_nothing_else_happens() -> None:
    view = DaemonView("test", stats=Stats(state="live"))
    rng = random.Random(3)
    for datagram in [mutated(rng) for _ in range(2000)] + [packet for _, packet in islice(hostile(3), 2000)]:
        with contextlib.suppress(ProtocolError):
            for message in messages_of(datagram):
                with contextlib.suppress(ProtocolError):
                    view.apply(message, 0.0)
    assert view.heard_at_s is not None


def test_the_messages_of_a_bundle_are_all_read() -> None:
    datagram = bundle(encode("/rvc/pitch", 3.0), bundle(encode("/rvc/gate", -50.0)))
    assert [message.address for message in messages_of(datagram)] == ["/rvc/pitch", "/rvc/gate"]


def test_unknown_type_tags_do_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ProtocolError):
        messages_of(b"/rvc\0\0\0\0,zzz\0\0\0\0")
    assert caplog.records == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_change_nothing(number: float) -> None:
    view = DaemonView("test")
    with pytest.raises(ProtocolError):
        view.apply(OscMessage("/rvc/pitch", (number,)), 1.0)
    with pytest.raises(ProtocolError):
        view.apply(OscMessage("/rvc/stats", dataclasses.astuple(Stats(load=number))), 1.0)
    assert (view.numbers, view.stats) == ({}, None)


def test_echoes_change_the_stats_at_once() -> None:
    view = DaemonView("test", stats=Stats(state="live"))
    told = (
        ("mute", 1), ("panic", True), ("voice", "alto"), ("voice/slot", 2.0), ("f0/method", "yin"), ("record", 1), ("talk", 1.0),
        ("speaker", 3), ("preset", "Deep"), ("latency/preset", "safe"),
    )  # fmt: skip
    for address, arg in told:
        view.apply(OscMessage(f"/rvc/{address}", (arg,)), 1.0)
    assert view.stats == Stats(
        state="panic", mute=1, panic=1, voice="alto", voice_slot=2, f0_method="yin", record=1, talk=1, speaker=3, preset="Deep",
        latency_preset="safe",
    )  # fmt: skip


def test_the_state_follows_the_echo_of_a_switch_until_the_next_stats_message() -> None:
    view = DaemonView("test", stats=Stats(state="live"))
    shown = []
    for address, arg in (("bypass", 1), ("mute", 1), ("panic", 1), ("panic", 0), ("mute", 0), ("bypass", 0)):
        view.apply(OscMessage(f"/rvc/{address}", (arg,)), 1.0)
        assert view.stats is not None
        shown.append(view.stats.state)
    assert shown == ["bypass", "muted", "panic", "muted", "bypass", "live"]
    view.apply(OscMessage("/rvc/stats", dataclasses.astuple(Stats(state="recovering"))), 1.0)
    view.apply(OscMessage("/rvc/mute", (1,)), 1.0)
    assert view.stats is not None
    assert view.stats.state == "recovering"


def test_unmuting_an_overloaded_daemon_does_not_call_it_live() -> None:
    view = DaemonView("test", stats=Stats(state="overloaded"))
    shown = []
    for address, arg in (("mute", 1), ("panic", 1)):
        view.apply(OscMessage(f"/rvc/{address}", (arg,)), 1.0)
        assert view.stats is not None
        shown.append(view.stats.state)
    assert shown == ["muted", "panic"]
    view = DaemonView("test", stats=Stats(state="overloaded"))
    view.apply(OscMessage("/rvc/bypass", (0,)), 1.0)
    assert view.stats is not None and view.stats.state == "overloaded"


@pytest.mark.parametrize(
    ("mode", "talk", "state"),
    [
        ("push-to-talk", 0, "standby"),
        ("push-to-talk", 1, "live"),
        ("push-to-convert", 0, "bypass"),
        ("push-to-convert", 1, "live"),
    ],
)
def test_what_is_heard_after_unmuting_follows_the_talk_key(mode: str, talk: int, state: str) -> None:
    view = DaemonView("test", stats=Stats(state="muted", mute=1, talk_mode=mode, talk=talk))
    view.apply(OscMessage("/rvc/mute", (0,)), 1.0)
    assert view.stats is not None
    assert view.stats.state == state


def listed(view: DaemonView, *entries: tuple[int, str], count: int) -> None:
    for entry in entries:
        view.apply(OscMessage("/rvc/voice/list", entry), 1.0)
    view.apply(OscMessage("/rvc/voice/list/end", (count,)), 1.0)


def test_a_list_counts_only_when_it_came_whole() -> None:
    view = DaemonView("test")
    listed(view, (1, "a"), count=2)
    assert view.voices is None
    listed(view, (2, "b"), (1, "a"), count=2)
    assert view.voices == (Entry(1, "a"), Entry(2, "b"))
    listed(view, (1, "c"), count=3)
    assert view.voices == (Entry(1, "a"), Entry(2, "b"))
    listed(view, count=0)
    assert view.voices == ()


def test_a_list_without_an_end_does_not_grow_for_ever() -> None:
    view = DaemonView("test")
    for number in range(5000):
        view.apply(OscMessage("/rvc/preset/list", (number, "x" * 100)), 1.0)
    assert len(view._coming["/preset/list"]) < 1000


def test_log_lines_that_come_twice_are_kept_once_and_only_the_newest_are_kept() -> None:
    view = DaemonView("test")
    for _ in range(2):
        for number in range(1, 4):
            view.apply(OscMessage("/rvc/log", (number, "info", f"line {number}")), 1.0)
    assert [line.number for line in view.log] == [1, 2, 3]
    for number in range(4, 1000):
        view.apply(OscMessage("/rvc/log", (number, "info", "x")), 1.0)
    assert len(view.log) == KEPT_LOG_LINES
    assert view.log[-1].number == 999


def test_what_was_done_is_reported_with_its_subject() -> None:
    view = DaemonView("test")
    assert view.apply(OscMessage("/rvc/done", ("/rvc/preset/save", "Deep")), 1.0) == Done("/preset/save", "Deep")
    assert view.apply(OscMessage("/rvc/done", ("/rvc/unsubscribe",)), 1.0) == Done("/unsubscribe", "")
    assert view.apply(OscMessage("/rvc/done"), 1.0) == Done("?", "")


def test_a_refused_subscription_is_the_trouble_until_the_daemon_says_something_else() -> None:
    view = DaemonView("test")
    failure = view.apply(OscMessage("/rvc/fail", ("/rvc/subscribe", "at most 8 subscribers")), 5.0)
    assert failure is not None
    assert (view.trouble, view.connected(5.0)) == ("at most 8 subscribers", False)
    view.apply(OscMessage("/rvc/pong"), 6.0)
    assert view.connected(6.0 + FRESH_S / 2)
    assert not view.connected(6.0 + FRESH_S)


def test_text_from_the_network_cannot_steer_the_terminal() -> None:
    assert clean_text("a\x1b[31m\nb\u202e", 64) == "a?[31m?b?"
    assert clean_text("x" * 100, 10) == "x" * 9 + "…"
