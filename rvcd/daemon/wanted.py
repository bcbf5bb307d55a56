"""The one owner of what the user wants of the stream: voice, speaker, F0 method, latency. A state machine without I/O.

Requests change `wanted`, which gets a new revision. The worker is sent the newest `to_send`, and reports what it runs. Everything
else is derived from the two: a late answer, a worker that died, a load that failed, a second request before the first is done
all heal by comparing them. What cannot be applied is given back to what ran last, with a named error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from rvcd.ipc.messages import FIELDS, Choice, Report, Wanted

SUPERSEDED = "superseded by a newer request"
DEATHS_TO_GIVE_UP = 2
"""So many workers may die on the way to what is wanted before it is taken for the reason."""
DEATHS_TO_START_WITHOUT = 3
"""The same where nothing has run yet: then it is the voice that is left out."""


@dataclass
class Request:
    """One change that somebody waits for. error: "" once it holds, a sentence once it will not, None until then.

    on_end: called once, when error is no longer None.
    """

    field: str
    value: Any
    revision: int
    on_end: Callable[[Request], None]
    error: str | None = None

    def end(self, error: str) -> None:
        """Say how it ended; the first word counts."""
        if self.error is None:
            self.error = error
            self.on_end(self)


@dataclass
class Owner:
    """Who alone may change what is wanted.

    wanted: the newest wish, and what is saved. applied: what the running worker last said it runs (None: no worker has said
    anything yet). last_good: what ran last with nothing missing, and before that what was
    wanted first; has_run: whether it did run. errors: for wanted fields that do not run, why, where nothing
    good could be wanted again in their place. speakers, prepared: as reported. left_out: the wanted voice is sent to no worker,
    because they die of it. to_choose: latency presets of which a worker chooses one, as long as nobody has asked for one. choice:
    what it chose.
    """

    wanted: Wanted
    applied: Wanted | None = None
    last_good: Wanted = field(init=False)
    has_run: bool = False
    errors: dict[str, str] = field(default_factory=dict)
    speakers: tuple[str, ...] = ()
    prepared: str = ""
    left_out: bool = False
    to_choose: tuple[str, ...] = ()
    choice: Choice | None = None
    _reported_revision: int = -1
    _requests: list[Request] = field(default_factory=list)
    _deaths: int = 0

    def __post_init__(self) -> None:
        self.last_good = self.wanted

    # ---- what follows from them

    @property
    def to_send(self) -> Wanted:
        """What a worker is to run."""
        return replace(self.wanted, voice=None) if self.left_out else self.wanted

    @property
    def settled(self) -> bool:
        """Whether the worker runs what it was sent."""
        return self.applied is not None and same(self.applied, self.to_send)

    @property
    def pending(self) -> frozenset[str]:
        """The fields that are on their way: wanted, not applied, and not known to fail."""
        if self.applied is None:
            return frozenset(FIELDS) - frozenset(self.errors)
        sent = self.to_send
        return frozenset(name for name in FIELDS if getattr(self.applied, name) != getattr(sent, name)) - frozenset(self.errors)

    # ---- requests

    def request(self, on_end: Callable[[Request], None], field: str, value: Any, **others: Any) -> Request:
        """Want another value of one field; what waits for an earlier value of it ends as superseded.

        others: fields that change along with it, such as a new voice's speaker. A value that runs already ends at once.
        """
        changes = {field: value, **others}
        if "latency" in changes:
            self.to_choose = ()
        for name, new in changes.items():
            for waiting in self._open(name):
                if waiting.value != new:
                    waiting.end(SUPERSEDED)
        is_new = any(getattr(self.wanted, name) != new for name, new in changes.items())
        if is_new or self.errors.keys() & changes.keys():  # what failed is tried again
            self.wanted = replace(self.wanted, **changes, revision=self.wanted.revision + 1)
            self._deaths, self.left_out = 0, self.left_out and "voice" not in changes
            for name in changes:
                self.errors.pop(name, None)
        request = Request(field, value, self.wanted.revision, on_end)
        self._requests.append(request)
        self._end_requests()
        return request

    def _open(self, field: str) -> list[Request]:
        return [request for request in self._requests if request.field == field and request.error is None]

    # ---- the worker

    def worker_started(self) -> Wanted:
        """A new worker runs nothing yet; return what it is to be told."""
        self.applied, self.prepared, self._reported_revision = None, "", -1
        return self.to_send

    def worker_reported(self, report: Report) -> tuple[str, ...]:
        """Take in what the worker says of itself; return the errors that are new."""
        self.applied, self.speakers, self.prepared = report.applied, report.speakers, report.prepared
        self._reported_revision = report.revision
        if report.choice is not None and report.choice.latency in self.to_choose:
            self.choice = report.choice
            self.wanted = replace(self.wanted, latency=report.choice.latency)
        self.to_choose = ()  # from now on something may be heard
        news = self._take_errors(report) if report.revision == self.wanted.revision else ()
        if same(report.applied, self.wanted):
            self.last_good, self.has_run, self._deaths = self.wanted, True, 0
            self.errors.clear()
        self._end_requests()
        return news

    def _take_errors(self, report: Report) -> tuple[str, ...]:
        """Want again what runs, or ran last, in place of what failed; where nothing has, the wish stays, as does the error."""
        news = tuple(error for name, error in report.errors.items() if self.errors.get(name) != error)
        runs = report.applied.voice is not None and bool(report.applied.f0_method)
        self._fail(report.errors, report.applied if runs else self.last_good)
        return news

    def _fail(self, errors: Mapping[str, str], good: Wanted) -> None:
        """Give fields up that cannot be applied. good: what runs, or ran, and is wanted again in their place."""
        changes: dict[str, Any] = {}
        for name, error in errors.items():
            for request in self._open(name):
                request.end(error)
            if getattr(good, name) == getattr(self.wanted, name):
                self.errors[name] = error
            else:
                changes[name] = getattr(good, name)
        if "voice" in changes:  # a speaker belongs to its voice
            changes["speaker"] = good.speaker
        if changes:
            self.wanted = replace(self.wanted, **changes, revision=self.wanted.revision + 1)

    def worker_died(self, reason: str) -> tuple[str, ...]:
        """What is wanted stays wanted, unless workers keep dying on the way to it; return the errors that are new."""
        was_settled = self.settled
        self.applied, self.prepared, self.speakers = None, "", ()
        if was_settled:
            return ()
        self._deaths += 1
        good, deaths = self.last_good, self._deaths
        if not same(good, self.wanted) and deaths >= DEATHS_TO_GIVE_UP:
            error = f"the worker ended {deaths} times on the way to it ({reason}); going on as before"
            self._fail({name: error for name in FIELDS if getattr(good, name) != getattr(self.wanted, name)}, good)
        elif not self.has_run and self.wanted.voice is not None and not self.left_out and deaths >= DEATHS_TO_START_WITHOUT:
            error = f"the worker ended {deaths} times while loading it ({reason}); choose another voice, or mend this one"
            self._fail({"voice": error}, self.wanted)
            self.left_out = True
            self.wanted = replace(self.wanted, revision=self.wanted.revision + 1)
        else:
            return ()
        self._deaths = 0
        return (error,)

    def close(self, reason: str) -> None:
        """Nobody will be served any more: end what waits."""
        for request in self._requests:
            request.end(reason)
        self._requests.clear()

    def _end_requests(self) -> None:
        """End what holds now: by the word of a worker that knew of the request, for an earlier word may be out of date."""
        applied = self.applied
        for request in self._requests:
            heard = applied is not None and request.revision <= self._reported_revision
            if heard and request.error is None and getattr(applied, request.field) == request.value:
                request.end("")
        self._requests = [request for request in self._requests if request.error is None]


def same(one: Wanted, other: Wanted) -> bool:
    """Return whether two wishes differ in nothing but their revision."""
    return replace(one, revision=0) == replace(other, revision=0)
