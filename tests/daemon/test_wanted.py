"""The owner of what is wanted: whatever is asked for, fails, dies or comes late, in the end the worker runs what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from rvcd.daemon.wanted import SUPERSEDED, Owner, Request, same
from rvcd.ipc.messages import Choice, Report, VoiceFiles, Wanted

ANNA, BERT, CARL = (VoiceFiles(name, f"{name}.pth", identity="1") for name in ("Anna", "Bert", "Carl"))
BROKEN, DEADLY = VoiceFiles("Broken", "broken.pth"), VoiceFiles("Deadly", "deadly.pth")
ANNA_REPLACED = replace(ANNA, identity="2")
NOTHING = Wanted(None, 0, "", "low")
START = Wanted(ANNA, 0, "swift", "low")


@dataclass
class FakeWorker:
    """Applies field by field, as the real one does: f0 method, voice with speaker, latency. Every voice has two speakers."""

    applied: Wanted
    revision: int = -1

    def bring_about(self, wanted: Wanted) -> Report | None:
        """Return the report, None when it died."""
        errors: dict[str, str] = {}
        if wanted.f0_method == "rmvpe":
            errors["f0_method"] = "there is no rmvpe.pt"
        else:
            self.applied = replace(self.applied, f0_method=wanted.f0_method)
        if wanted.voice == DEADLY:
            return None
        if wanted.voice == BROKEN:
            errors["voice"] = "broken.pth: is cut short"
        elif self.applied.f0_method:
            speaker = wanted.speaker
            if speaker > 1 and wanted.voice is not None:
                errors["speaker"] = f"has speakers 0..1, not {speaker}"
                speaker = self.applied.speaker if wanted.voice == self.applied.voice else 0
            self.applied = replace(self.applied, voice=wanted.voice, speaker=speaker)
        else:
            errors["voice"] = "there is no F0 method to convert with"
        self.applied = replace(self.applied, latency=wanted.latency)
        self.revision = wanted.revision
        return self.report(errors)

    def report(self, errors: dict[str, str] | None = None) -> Report:
        return Report(self.revision, self.applied, errors or {}, "", ("", ""))


@dataclass
class World:
    """An owner, a worker that may be dead, and reports that are under way."""

    owner: Owner
    worker: FakeWorker | None = None
    sent: list[Wanted] = field(default_factory=list)
    coming: list[Report] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    ends: list[Request] = field(default_factory=list)

    def request(self, name: str, value: object, **others: object) -> Request:
        request = self.owner.request(self.ends.append, name, value, **others)
        self.requests.append(request)
        self.tell()
        return request

    def start(self) -> None:
        if self.worker is None:
            wanted = self.owner.worker_started()
            self.worker = FakeWorker(replace(NOTHING, latency=wanted.latency))
            self.sent, self.coming = [wanted], []

    def tell(self) -> None:
        if self.worker is not None and self.sent[-1].revision != self.owner.wanted.revision:
            self.sent.append(self.owner.to_send)

    def work(self) -> None:
        """The worker deals with the newest it was sent."""
        if self.worker is not None:
            newest = self.sent[-1]
            if newest.revision != self.worker.revision:
                report = self.worker.bring_about(newest)
                if report is None:
                    self.die("killed by signal 11")
                else:
                    self.coming.append(report)

    def deliver(self) -> None:
        """The oldest report arrives."""
        if self.worker is not None and self.coming:
            self.owner.worker_reported(self.coming.pop(0))
            self.tell()

    def die(self, reason: str) -> None:
        if self.worker is not None:
            self.worker, self.coming = None, []
            self.owner.worker_died(reason)

    def settle(self) -> None:
        for _ in range(30):
            self.start()
            self.work()
            while self.coming:
                self.deliver()


def world(wanted: Wanted = START) -> World:
    made = World(Owner(wanted))
    made.settle()
    return made


VOICES = st.sampled_from([ANNA, BERT, CARL, BROKEN, DEADLY, ANNA_REPLACED])
ACTIONS: st.SearchStrategy[Callable[[World], object]] = st.one_of(
    VOICES.map(lambda voice: lambda w: w.request("voice", voice, speaker=0)),
    st.integers(0, 3).map(lambda speaker: lambda w: w.request("speaker", speaker)),
    st.sampled_from(["swift", "yin", "rmvpe"]).map(lambda name: lambda w: w.request("f0_method", name)),
    st.sampled_from(["low", "balanced", "safe"]).map(lambda name: lambda w: w.request("latency", name)),
    st.just(World.start),
    st.just(World.work),
    st.just(World.deliver),
    st.just(lambda w: w.die("killed by signal 9")),
)
STARTS = st.builds(
    Wanted, voice=st.one_of(st.none(), VOICES), speaker=st.integers(0, 3), f0_method=st.sampled_from(["swift", "rmvpe"]),
    latency=st.sampled_from(["low", "safe"]),
)  # fmt: skip


@given(STARTS, st.lists(ACTIONS, max_size=40))
def test_in_the_end_what_is_wanted_runs_or_there_is_a_named_error(
    wanted: Wanted, actions: list[Callable[[World], object]]
) -> None:
    made = World(Owner(wanted))
    for act in actions:
        act(made)
    had_one_that_ran = made.owner.has_run and made.owner.last_good.voice is not None
    made.settle()
    owner = made.owner
    assert made.worker is not None and owner.applied == made.worker.applied
    assert same(owner.applied, owner.wanted) or owner.errors
    if had_one_that_ran:
        assert owner.applied.voice is not None and same(owner.applied, owner.wanted)


@given(STARTS, st.lists(ACTIONS, max_size=40))
def test_in_the_end_every_request_has_ended_once(wanted: Wanted, actions: list[Callable[[World], object]]) -> None:
    made = World(Owner(wanted))
    for act in actions:
        act(made)
    made.settle()
    made.owner.close("stopping")
    assert sorted(map(id, made.ends)) == sorted(map(id, made.requests))
    for request in made.requests:
        assert request.error is not None


@given(st.lists(ACTIONS, max_size=40))
def test_a_request_that_ended_well_did_run(actions: list[Callable[[World], object]]) -> None:
    made = world()
    for act in actions:
        before = len(made.ends)
        act(made)
        for request in made.ends[before:]:
            if request.error == "":
                assert made.owner.applied is not None and getattr(made.owner.applied, request.field) == request.value


@given(st.lists(ACTIONS, max_size=30))
def test_revisions_only_grow(actions: list[Callable[[World], object]]) -> None:
    made = world()
    for act in actions:
        before = made.owner.wanted
        act(made)
        assert made.owner.wanted.revision >= before.revision
        assert made.owner.wanted == before or made.owner.wanted.revision > before.revision


def test_what_is_asked_for_is_what_is_saved_while_it_still_loads() -> None:
    made = world()
    made.request("voice", BERT, speaker=0)
    assert made.owner.wanted.voice == BERT and made.owner.applied.voice == ANNA
    assert made.owner.pending == {"voice"}


def test_a_late_answer_to_the_old_request_does_not_answer_the_new_one() -> None:
    made = world()
    bert = made.request("voice", BERT, speaker=0)
    made.work()  # Bert is live in the worker, and nobody knows yet
    anna = made.request("voice", ANNA, speaker=0)
    made.deliver()
    assert bert.error == SUPERSEDED and anna.error is None and made.owner.applied.voice == BERT
    made.settle()
    assert anna.error == "" and made.worker.applied.voice == ANNA


def test_a_voice_that_is_live_already_is_done_at_once() -> None:
    made = world()
    assert made.request("voice", ANNA, speaker=0).error == ""


def test_a_file_that_was_replaced_is_another_voice() -> None:
    made = world()
    request = made.request("voice", ANNA_REPLACED, speaker=0)
    assert request.error is None
    made.settle()
    assert request.error == "" and made.worker.applied.voice == ANNA_REPLACED


def test_a_voice_that_fails_leaves_the_last_good_one_live_and_says_why() -> None:
    made = world()
    request = made.request("voice", BROKEN, speaker=1)
    made.settle()
    assert request.error == "broken.pth: is cut short"
    assert made.owner.wanted.voice == ANNA == made.owner.applied.voice and made.owner.wanted.speaker == 0
    assert not made.owner.errors


def test_a_failure_is_the_answer_to_what_failed_only() -> None:
    made = world()
    broken = made.request("voice", BROKEN, speaker=0)
    method = made.request("f0_method", "yin")
    made.settle()
    assert broken.error and method.error == ""
    assert made.owner.wanted.f0_method == "yin" and made.owner.wanted.voice == ANNA


def test_at_the_start_a_broken_voice_stays_wanted_and_is_a_named_error() -> None:
    made = world(replace(START, voice=BROKEN))
    assert made.owner.wanted.voice == BROKEN and made.owner.errors == {"voice": "broken.pth: is cut short"}
    bert = made.request("voice", BERT, speaker=0)
    made.settle()
    assert bert.error == "" and not made.owner.errors


def test_asking_again_for_what_failed_tries_again() -> None:
    made = world(replace(START, voice=BROKEN))
    before = made.owner.wanted.revision
    assert made.request("voice", BROKEN, speaker=0).error is None
    assert made.owner.wanted.revision > before


def test_a_voice_that_fails_in_the_next_worker_leaves_the_last_good_one_too() -> None:
    made = world()
    broken = made.request("voice", BROKEN, speaker=0)
    made.die("killed by signal 9")
    made.settle()
    assert broken.error == "broken.pth: is cut short" and made.worker.applied.voice == ANNA


def test_a_good_voice_whose_file_breaks_while_the_worker_is_away_is_a_named_error() -> None:
    made = world()
    made.owner.last_good = made.owner.wanted = replace(made.owner.wanted, voice=BROKEN)
    made.die("killed by signal 9")
    made.settle()
    assert made.owner.errors == {"voice": "broken.pth: is cut short"} and made.owner.wanted.voice == BROKEN


def test_a_worker_that_dies_by_chance_is_given_the_same_again() -> None:
    made = world()
    bert = made.request("voice", BERT, speaker=0)
    made.die("killed by signal 9")
    made.settle()
    assert bert.error == "" and made.worker.applied.voice == BERT


def test_a_voice_that_kills_worker_after_worker_is_given_up_for_the_last_good_one() -> None:
    made = world()
    deadly = made.request("voice", DEADLY, speaker=0)
    made.settle()
    assert "ended 2 times" in deadly.error and "signal 11" in deadly.error
    assert made.owner.wanted.voice == ANNA and made.worker.applied.voice == ANNA


def test_a_first_voice_that_kills_worker_after_worker_is_left_out_but_not_forgotten() -> None:
    made = world(replace(START, voice=DEADLY))
    assert made.worker is not None and made.worker.applied.voice is None
    assert made.owner.wanted.voice == DEADLY and "ended 3 times" in made.owner.errors["voice"]
    method = made.request("f0_method", "yin")
    made.settle()
    assert method.error == "" and made.worker.applied.voice is None
    bert = made.request("voice", BERT, speaker=0)
    made.settle()
    assert bert.error == "" and not made.owner.errors


def test_twenty_deaths_with_a_good_voice_change_nothing_that_is_wanted() -> None:
    made = world()
    for _ in range(20):
        made.die("killed by signal 9")
        made.start()
        made.die("killed by signal 9")  # before it was ready, too
        made.settle()
        assert same(made.owner.wanted, START) and same(made.owner.applied, START)


def test_a_voice_asked_for_after_a_speaker_replaces_that_request_too() -> None:
    made = world()
    speaker = made.request("speaker", 1)
    voice = made.request("voice", BERT, speaker=0)
    made.settle()
    assert speaker.error == SUPERSEDED and voice.error == "" and made.owner.applied.speaker == 0


def test_two_who_want_the_same_are_both_told() -> None:
    made = world()
    one, two = made.request("voice", BERT, speaker=0), made.request("voice", BERT, speaker=0)
    made.settle()
    assert one.error == two.error == ""


CHOICES = ("low", "balanced", "safe")


def chosen(owner: Owner, latency: str) -> Report:
    """What a worker reports that was to choose."""
    return Report(owner.wanted.revision, replace(owner.wanted, latency=latency), {}, "", ("", ""), Choice(latency, {}, True))


def test_a_latency_that_the_worker_has_chosen_is_wanted_from_then_on() -> None:
    owner = Owner(replace(START, latency="balanced"), to_choose=CHOICES)
    owner.worker_started()
    owner.worker_reported(chosen(owner, "low"))
    assert owner.wanted.latency == "low" and owner.settled and owner.last_good.latency == "low"
    assert owner.choice == Choice("low", {}, True) and owner.to_choose == ()


def test_a_latency_that_was_asked_for_meanwhile_comes_before_the_choice() -> None:
    owner = Owner(replace(START, latency="balanced"), to_choose=CHOICES)
    owner.worker_started()
    ends: list[Request] = []
    owner.request(ends.append, "latency", "safe")
    owner.worker_reported(chosen(owner, "low"))
    assert owner.wanted.latency == "safe" and owner.choice is None and not owner.settled and not ends


def test_the_next_worker_does_not_choose_again_even_where_the_first_had_no_voice_to_measure() -> None:
    owner = Owner(replace(START, latency="balanced"), to_choose=CHOICES)
    owner.worker_started()
    owner.worker_reported(Report(0, replace(owner.wanted, voice=None), {"voice": "is cut short"}, "", ()))
    assert owner.to_choose == () and owner.wanted.latency == "balanced"


def test_a_choice_that_nobody_asked_for_changes_nothing() -> None:
    owner = Owner(replace(START, latency="balanced"))
    owner.worker_started()
    owner.worker_reported(chosen(owner, "low"))
    assert owner.wanted.latency == "balanced" and owner.choice is None
