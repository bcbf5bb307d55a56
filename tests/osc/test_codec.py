from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.errors import ProtocolError
from rvcd.osc.codec import MAX_ARGUMENTS, OscMessage, decode, encode
from tests.counting import run_within
from tests.osc.packets import KILLERS, bundle, mutated, nested

DECODE_LINES, MATCH_LINES = 100_000, 10_000
ADDRESSES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40).map("/".__add__)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
FLOATS = st.floats(width=32, allow_nan=False)
INTS = st.integers(-(2**31), 2**31 - 1)


@given(ADDRESSES, st.lists(st.one_of(TEXTS, FLOATS, INTS), max_size=MAX_ARGUMENTS))
@settings(max_examples=100)
def test_what_is_encoded_decodes_to_the_same_message(address: str, args: list[object]) -> None:
    assert decode(encode(address, *args)) == [OscMessage(address, tuple(args))]


@pytest.mark.parametrize("datagram", KILLERS.values(), ids=list(KILLERS))
def test_a_known_killer_is_refused_at_once_with_a_short_reason(datagram: bytes) -> None:
    with pytest.raises(ProtocolError) as refusal:
        run_within(DECODE_LINES, lambda: decode(datagram))
    assert 0 < len(str(refusal.value)) < 80
    assert "\n" not in str(refusal.value)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes_decode_or_are_refused_but_nothing_else_happens(datagram: bytes) -> None:
    try:
        messages = decode(datagram)
    except ProtocolError:
        return
    assert all(message.address.isascii() and message.address.startswith("/") for message in messages)


def test_thousands_of_mutated_packets_decode_or_are_refused() -> None:
    rng = random.Random(1)
    outcomes = {"decoded": 0, "refused": 0}
    for _ in range(5000):
        try:
            decode(mutated(rng))
            outcomes["decoded"] += 1
        except ProtocolError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 200, outcomes


def test_a_bundle_is_flattened_in_order_and_its_timetag_does_not_hold_it_back() -> None:
    far_future = 2**64 - 1
    packet = bundle(encode("/a", 1), bundle(encode("/b", 2), timetag=far_future), encode("/c"), timetag=far_future)
    assert decode(packet) == [OscMessage("/a", (1,)), OscMessage("/b", (2,)), OscMessage("/c")]


def test_four_levels_and_64_messages_are_accepted() -> None:
    assert decode(nested(4, encode("/a"))) == [OscMessage("/a")]
    assert len(decode(bundle(*[encode("/a", 1)] * 64))) == 64
    assert decode(bundle()) == []


def test_every_accepted_type_tag_is_read() -> None:
    packet = b"/a\0\0,ifsShdTFNIb\0\0\0\0" + struct.pack(">if", -5, 1.5) + b"hi\0\0" + b"sym\0" + struct.pack(">qd", 2**40, 0.1)
    packet += struct.pack(">i", 5) + b"12345\0\0\0"
    assert decode(packet) == [OscMessage("/a", (-5, 1.5, "hi", "sym", 2**40, 0.1, True, False, None, True, b"12345"))]


def test_a_message_without_type_tags_has_no_arguments() -> None:
    assert decode(b"/abc\0\0\0\0") == [OscMessage("/abc")]


def test_the_largest_packets_decode_in_a_time_that_grows_with_their_size_only() -> None:
    worst = (
        bundle(*[encode("/rvc/ping", *range(20)) for _ in range(64)]),
        b"/a\0\0,s\0\0" + b"x" * 8180 + bytes(4),
        b"#bundle\0" + bytes(8) + b"".join(struct.pack(">i", 16) + b"#bundle\0" + bytes(8) for _ in range(400)),
    )
    for packet in worst:
        assert len(packet) <= 8192
        run_within(DECODE_LINES, lambda packet=packet: decode(packet))


def test_numbers_are_encoded_by_their_type_and_limited_to_32_bits() -> None:
    values = (True, False, 2**40, -(2**40), 1e300, -1e300, 7, 2.5)
    big = 3.4028234663852886e38
    assert decode(encode("/a", *values))[0].args == (1, 0, 2**31 - 1, -(2**31), big, -big, 7, 2.5)
    assert b",iiiiffif\0" in encode("/a", *values)
    inf, nan = decode(encode("/a", float("inf"), float("nan")))[0].args
    assert inf == float("inf")
    assert nan != nan


def test_numpy_scalars_are_encoded_by_their_value() -> None:
    values = (np.int64(3), np.uint8(4), np.float32(1.5), np.float64(2.5), np.bool_(True), np.str_("name"), np.float16(0.5))
    message = encode("/a", *values)
    assert b",iiffisf" in message
    assert decode(message)[0].args == (3, 4, 1.5, 2.5, 1, "name", 0.5)


def test_strings_that_cannot_travel_are_made_to() -> None:
    assert decode(encode("/a", "nul\0inside", "lone\ud800"))[0].args == ("nul?inside", "lone?")


def test_an_argument_that_is_no_value_is_a_type_error() -> None:
    for wrong in (b"blob", [1], None, {}):
        with pytest.raises(TypeError):
            encode("/a", wrong)
