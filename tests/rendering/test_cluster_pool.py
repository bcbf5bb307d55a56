"""A batch on a cluster that loses nodes: every file ends once, and nobody waits for what does not come."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from rvcd.errors import AudioFileError, RvcdError
from rvcd.ipc.messages import ModelSetup, VoiceFiles
from rvcd.rendering.cluster_pool import ClusterPool, WorkerLost
from rvcd.rendering.messages import Failed, Finished, Job, Levels, Ready, Refused, Rendered, RenderSetup
from rvcd.rendering.remote_files import commit, content_of, write_content

SETUP = RenderSetup(ModelSetup("e"), VoiceFiles("v", "v.pth"), 0, "yin", ())
MADE = Rendered("v", 40000, 1, 1.0, 0.1, 0.2, Levels(None, None, 0), Levels(None, None, 0))


class Observer:
    def __init__(self) -> None:
        self.ended: dict[int, Finished | Failed] = {}
        self.said: list[str] = []
        self.ends_count: Counter[int] = Counter()

    def begins(self, job: Job) -> None: ...

    def advances(self, number: int, done: float) -> None: ...

    def ends(self, outcome: Finished | Failed) -> None:
        self.ends_count[outcome.number] += 1
        self.ended[outcome.number] = outcome

    def says(self, text: str) -> None:
        self.said.append(text)


class FakeWorker:
    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster, self.ended, self.number = cluster, False, len(cluster.workers)
        cluster.workers.append(self)

    async def load(self) -> Ready | Refused:
        await asyncio.sleep(0)
        if self.cluster.loads == "lost":
            raise WorkerLost("no module named rvcd")
        if self.cluster.loads == "refused":
            return Refused("the voice is broken")
        return Ready("cpu", 1, ())

    async def convert(self, job: Job) -> Finished | Failed:
        await asyncio.sleep(0)
        self.cluster.begun[job.number] += 1
        if self.cluster.begun[job.number] <= self.cluster.losses.get(job.number, 0):
            raise WorkerLost("the node died")
        if job.number in self.cluster.full:
            return Failed(job.number, "the disk is full", disk_full=True)
        return Finished(job.number, MADE, "a", "b")

    def end(self) -> None:
        self.ended = True


class FakeCluster:
    """losses: how many workers are lost over a job. room: workers that ever start; others wait for ever."""

    def __init__(
        self, losses: dict[int, int] | None = None, loads: str = "", room: int = 1000, full: tuple[int, ...] = ()
    ) -> None:
        self.losses, self.loads, self.room, self.full = losses or {}, loads, room, full
        self.workers: list[FakeWorker] = []
        self.begun: Counter[int] = Counter()

    def slots(self) -> int:
        return 2

    async def start(self) -> FakeWorker:
        if len(self.workers) >= self.room:
            await asyncio.Event().wait()
        return FakeWorker(self)


def run(cluster: FakeCluster, jobs: int = 5, workers: int = 0) -> tuple[Observer, ClusterPool]:
    observer = Observer()

    async def all_jobs() -> ClusterPool:
        pool = ClusterPool(SETUP, workers, observer, cluster)
        await pool.run([Job(n, f"{n}.wav", f"/nowhere/{n}.wav", False) for n in range(jobs)])
        return pool

    return observer, asyncio.run(asyncio.wait_for(all_jobs(), 60))


def test_all_jobs_are_done_by_as_many_workers_as_there_is_room_for_and_all_of_them_end() -> None:
    cluster = FakeCluster()
    observer, pool = run(cluster)
    assert set(observer.ends_count.values()) == {1} and len(observer.ended) == 5
    assert pool.workers == 2 and all(worker.ended for worker in cluster.workers)
    assert run(FakeCluster(), jobs=1)[1].workers == 1 and run(FakeCluster(), workers=4)[1].workers == 4
    assert run(FakeCluster(), jobs=0)[0].ended == {}


def test_what_a_lost_worker_had_is_done_again() -> None:
    observer, _ = run(FakeCluster(losses={1: 1, 3: 3}))
    assert set(observer.ends_count.values()) == {1}
    assert all(isinstance(outcome, Finished) for outcome in observer.ended.values())
    assert len(observer.said) == 4 and "1.wav: the worker process died over it (the node died)" in " ".join(observer.said)


def test_a_file_over_which_workers_are_lost_again_and_again_fails() -> None:
    observer, _ = run(FakeCluster(losses={1: 99}))
    failed = observer.ended.pop(1)
    assert isinstance(failed, Failed) and "died over it 4 times (the node died)" in failed.error
    assert all(isinstance(outcome, Finished) for outcome in observer.ended.values())


def test_a_node_that_is_gone_for_good_is_not_waited_for() -> None:
    observer, _ = run(FakeCluster(losses={0: 1}, room=2))
    assert len(observer.ended) == 5


def test_models_that_cannot_be_loaded_end_it_in_one_sentence() -> None:
    with pytest.raises(RvcdError, match="the voice is broken"):
        run(FakeCluster(loads="refused"))
    with pytest.raises(RvcdError, match=r"ends before it is ready \(no module named rvcd\)"):
        run(FakeCluster(loads="lost"))


def test_on_a_full_disk_nothing_more_is_begun() -> None:
    cluster = FakeCluster(full=(0,))
    observer, _ = run(cluster, workers=1)
    assert len(observer.ended) == 5 and cluster.begun == {0: 1}


def test_files_and_folders_travel_and_targets_are_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "a/sub").mkdir(parents=True)
    (tmp_path / "a/x").write_bytes(b"1")
    (tmp_path / "a/sub/y").write_bytes(b"2")
    write_content(content_of(tmp_path / "a"), tmp_path / "b")
    write_content(content_of(tmp_path / "a/x"), tmp_path / "c/x")
    assert (tmp_path / "b/sub/y").read_bytes() == b"2" and (tmp_path / "c/x").read_bytes() == b"1"
    with pytest.raises(RvcdError, match="gone: cannot be read: no such file"):
        content_of(tmp_path / "gone")
    commit(b"new", tmp_path / "out/t.wav", replace=False)
    with pytest.raises(AudioFileError, match="appeared while it was being made"):
        commit(b"newer", tmp_path / "out/t.wav", replace=False)
    commit(b"newest", tmp_path / "out/t.wav", replace=True)
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"newest"]
    with pytest.raises(AudioFileError, match="cannot be written"):
        commit(b"", tmp_path / "out/t.wav/below.wav", replace=False)
