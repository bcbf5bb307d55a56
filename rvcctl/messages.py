"""Textual messages of the screen: they go up from the client and the widgets; attributes go down."""

from __future__ import annotations

from textual.message import Message

from rvcctl.view import Failure


class CommandRefused(Message):
    """The daemon answered a command with /rvc/fail."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


class ClipClearRequested(Message):
    """Somebody clicked a meter: forget its clips."""
