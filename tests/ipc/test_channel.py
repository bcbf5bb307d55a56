"""Messages between processes: framed by their length, of any size, and nothing else gets through."""

from __future__ import annotations

import os
import socket
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.errors import ProtocolError
from rvcd.geometry import StreamGeometry
from rvcd.ipc.channel import LENGTH, MAX_FRAME_BYTES, Channel, Frames, frame, hand_over
from rvcd.ipc.messages import (
    Cut,
    Flush,
    FromRecorder,
    FromWorker,
    LogLine,
    ModelSetup,
    Record,
    Report,
    Start,
    StopAt,
    ToRecorder,
    ToWorker,
    VoiceFiles,
    Want,
    Wanted,
    WorkerSetup,
)  # fmt: skip

TEXT = st.one_of(st.text(max_size=300), st.binary(max_size=40).map(lambda name: name.decode("utf-8", "surrogateescape")))
"""Texts, and names of files as Python gives them: bytes that are no UTF-8 become lone surrogates."""
COUNT = st.integers(0, 2**62)
VOICE = st.one_of(st.none(), st.builds(VoiceFiles, TEXT, TEXT, TEXT, st.floats(-24, 24), TEXT))
WANTED = st.builds(Wanted, VOICE, COUNT, TEXT, TEXT, COUNT)
REPORT = st.builds(Report, COUNT, WANTED, st.dictionaries(TEXT, TEXT, max_size=4), TEXT, st.lists(TEXT, max_size=50).map(tuple))
SETUP = st.builds(
    WorkerSetup, st.builds(ModelSetup, TEXT), st.just({"low": StreamGeometry(48000, 6, 10, 34, 1920)}), COUNT
)  # fmt: skip
TO_WORKER = st.one_of(
    st.builds(Start, SETUP, WANTED), st.builds(Want, WANTED), st.builds(Cut, TEXT), st.just(Flush())
)  # fmt: skip
FROM_WORKER = st.one_of(REPORT, st.builds(LogLine, TEXT, TEXT))


@given(st.lists(FROM_WORKER, max_size=8), st.data())
def test_messages_come_out_as_they_went_in_however_their_bytes_are_cut(messages: list[FromWorker], data: st.DataObject) -> None:
    sent, frames, received = b"".join(map(frame, messages)), Frames[FromWorker](FromWorker), []
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        frames.feed(sent[:size])
        sent = sent[size:]
        while (message := frames.take()) is not None:
            received.append(message)
    assert received == messages


@given(TO_WORKER)
def test_every_message_to_a_worker_survives_the_way(message: ToWorker) -> None:
    frames = Frames[ToWorker](ToWorker)
    frames.feed(frame(message))
    assert frames.take() == message and frames.take() is None


@pytest.mark.parametrize("message", [Record("/f", "take", "Anna", 5, 10, 20), StopAt(7)])
def test_every_message_to_a_recorder_survives_the_way(message: ToRecorder) -> None:
    frames = Frames[ToRecorder](ToRecorder)
    frames.feed(frame(message))
    assert frames.take() == message


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_an_error_and_nothing_worse(data: bytes) -> None:
    frames = Frames[FromRecorder](FromRecorder)
    frames.feed(LENGTH.pack(len(data)) + data)
    try:
        message = frames.take()
    except ProtocolError:
        return
    if data.startswith(b"{"):
        return  # JSON, which may be written in many ways
    assert msgspec.msgpack.decode(frame(message)[LENGTH.size :]) == msgspec.msgpack.decode(data)


def test_a_length_beyond_all_reason_is_refused_before_anything_is_kept_for_it() -> None:
    frames = Frames[FromRecorder](FromRecorder)
    frames.feed(LENGTH.pack(MAX_FRAME_BYTES + 1))
    with pytest.raises(ProtocolError, match="is the most"):
        frames.take()


def test_two_hundred_speakers_with_long_names_travel_whole() -> None:
    names = tuple("話" * 79 + chr(0x4E00 + number) for number in range(200))
    big = Report(1, Wanted(None, 0, "swift", "low"), {}, "", names * 20)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        sender = threading.Thread(target=Channel(theirs, ToWorker).send, args=(big,))
        sender.start()
        assert Channel[FromWorker](ours, FromWorker).receive() == big
        sender.join()


def test_the_descriptor_comes_before_the_first_message() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    read, write = os.pipe()
    with ours, theirs:
        hand_over(ours, write)
        ours.sendall(frame(Flush()))
        channel = Channel[ToWorker](theirs, ToWorker)
        received = channel.receive_descriptor()
        assert received is not None and channel.receive() == Flush()
        os.write(received, b"through")
        assert os.read(read, 10) == b"through"
        for descriptor in (read, write, received):
            os.close(descriptor)


def test_a_side_that_is_gone_is_the_end_and_no_error() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        ours.sendall(frame(Flush()))
        ours.close()
        channel = Channel[ToWorker](theirs, ToWorker)
        assert channel.comes_within(0) and channel.receive() == Flush()
        assert channel.comes_within(0) and channel.receive() is None
        assert channel.receive_descriptor() is None


def test_nothing_comes_while_nothing_was_sent() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        assert not Channel[ToWorker](theirs, ToWorker).comes_within(0)


def test_a_message_that_came_together_with_another_is_there_too() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        ours.sendall(frame(Flush()) + frame(Cut("low")))
        channel = Channel[ToWorker](theirs, ToWorker)
        assert channel.receive() == Flush()
        assert channel.comes_within(0) and channel.receive() == Cut("low")
        assert not channel.comes_within(0)
