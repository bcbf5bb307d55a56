"""Textual messages of the screen: they go up from the client and the widgets; attributes go down."""

from __future__ import annotations

from textual.message import Message

from rvcctl.view import Done, Failure
from rvcd.params import Param


class CommandRefused(Message):
    """The daemon answered a command with /rvc/fail."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


class CommandDone(Message):
    """The daemon has carried out a slow command."""

    def __init__(self, done: Done) -> None:
        super().__init__()
        self.done = done


class ClipClearRequested(Message):
    """Somebody clicked a meter: forget its clips."""


class ParamMoved(Message):
    """A parameter is to change by so much, in its unit."""

    def __init__(self, param: Param, change: float) -> None:
        super().__init__()
        self.param = param
        self.change = change


class ParamPlaced(Message):
    """A parameter is to have a value, in its unit."""

    def __init__(self, param: Param, value: float) -> None:
        super().__init__()
        self.param = param
        self.value = value


class VoicePicked(Message):
    """A voice was chosen in the list."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class PresetPicked(Message):
    """A preset was chosen in the list."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class PresetUnwanted(Message):
    """A preset is to be deleted, if the user says so once more."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class PageChosen(Message):
    """Somebody clicked a page's name."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.page = page
