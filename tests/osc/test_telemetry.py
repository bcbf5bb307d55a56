from __future__ import annotations

from dataclasses import astuple, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcctl.reading import MAX_ARGUMENTS
from rvcd.errors import ProtocolError
from rvcd.osc.codec import decode, encode
from rvcd.osc.telemetry import meter_messages, stats_message
from rvcd.protocol import ALWAYS_SENT, PREFIX, Stats, stats_from_args, stats_to_args

SAMPLE = Stats(state="live", voice="Anna", voice_slot=1, f0_hz=440.0, input_xruns=2, output_xruns=3, load=0.25, rate_hz=48000)


def test_stats_travel_in_one_message_and_come_back_equal() -> None:
    address, args = stats_message(SAMPLE)
    (message,) = decode(encode(PREFIX + address, *args), max_arguments=MAX_ARGUMENTS)
    assert message.address == "/rvc/stats"
    assert stats_from_args(message.args) == SAMPLE


def test_each_value_of_stats_has_the_type_of_its_field_whatever_was_put_in() -> None:
    args = stats_to_args(Stats(bypass=True, load=1, blocks=7.0))  # type: ignore[arg-type]
    assert [type(arg).__name__ for arg in args] == [field.type for field in fields(Stats)]


def test_values_of_a_newer_daemon_are_ignored() -> None:
    assert stats_from_args([*stats_to_args(SAMPLE), "more", 1, None]) == SAMPLE


@given(st.integers(ALWAYS_SENT, len(fields(Stats))))
def test_what_an_older_daemon_does_not_send_is_default(sent: int) -> None:
    stats = replace(SAMPLE, late_samples=480, scheduling="FIFO 60", fault="the voice is too heavy")
    read = stats_from_args(stats_to_args(stats)[:sent])
    assert astuple(read) == (*astuple(stats)[:sent], *astuple(Stats())[sent:])


def test_the_first_fields_are_in_the_order_in_which_clients_know_them() -> None:
    names = [field.name for field in fields(Stats)]
    assert names[:3] == ["state", "voice", "voice_slot"]
    assert names[ALWAYS_SENT - 1] == "gpu_memory_total_mb" and ALWAYS_SENT == 47


def test_a_fault_is_sent_as_one_short_line() -> None:
    _, args = stats_message(replace(SAMPLE, fault="cut\nshort\x1b[31m " + "x" * 2000))
    fault = stats_from_args(args).fault
    assert fault.startswith("cut\\nshort\\x1b[31m xxx") and len(fault) == 300


@pytest.mark.parametrize(("args", "expected"), [
    ((), "has 0 values"),
    (stats_to_args(SAMPLE)[: ALWAYS_SENT - 1], "another version"),
    ((1, *stats_to_args(SAMPLE)[1:]), "'state' is 1 where text is needed"),
    (("live", "Anna", "one", *stats_to_args(SAMPLE)[3:]), "'voice_slot' is 'one' where a number is needed"),
    (("live", "Anna", float("nan"), *stats_to_args(SAMPLE)[3:]), "finite"),
    (("live", "Anna", None, *stats_to_args(SAMPLE)[3:]), "number is needed"),
])  # fmt: skip
def test_stats_that_do_not_fit_are_refused_by_name(args: tuple[object, ...], expected: str) -> None:
    with pytest.raises(ProtocolError, match=expected):
        stats_from_args(args)


def test_meters_are_one_value_an_address() -> None:
    messages = dict(meter_messages(SAMPLE))
    assert messages == {
        "/meter/in/peak": (-120.0,),
        "/meter/out/peak": (-120.0,),
        "/latency/total": (0.0,),
        "/f0/hz": (440.0,),
        "/f0/note": ("A4",),
        "/f0/cents": (0.0,),
        "/xruns": (5,),
        "/buffer/fill": (0.0,),
        "/load": (0.25,),
    }
    assert dict(meter_messages(Stats()))["/f0/note"] == ("-",)
