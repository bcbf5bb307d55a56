"""A batch on a real Ray cluster of this machine. Takes a minute, and needs the extra `ray`: `make soak` runs it where that is."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from rvcd.config.settings import Settings, parse_config
from rvcd.errors import MissingExtraError, RvcdError
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.rendering.batch import BatchRequest, run_batch
from rvcd.rendering.ray_cluster import RayCluster, RayWorker
from rvcd.rendering.report import BatchReport, Status
from tests.rendering.test_batch import Watcher, statuses
from tests.support import speech_like

SETTINGS = parse_config({"models": {"content_encoder": "test"}}, Path("test.toml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]))
    for n in range(5):
        path = tmp_path / f"in/{n % 2}/{n}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speech_like(16000, 1.0 + 0.3 * n, seed=n), 16000)
    (tmp_path / "in/bad.wav").write_text("no audio")
    return tmp_path


def run(folder: Path, out: str, settings: Settings = SETTINGS, **options: Any) -> BatchReport:
    request = BatchRequest((str(folder / "in"),), folder / out, jobs=2, **options)
    return run_batch(settings, request, Watcher())


def check(folder: Path, report: BatchReport, out: str, settings: Settings = SETTINGS) -> None:
    assert (report.count(Status.DONE), report.count(Status.FAILED)) == (5, 1), statuses(report)
    error = next(row.error for row in report.rows if row.error)
    assert error.startswith(f"{folder}/in/bad.wav: not an audio file")
    run(folder, "here", settings)
    for n in range(5):
        name = f"{n % 2}/{n}.wav"
        assert (folder / out / name).read_bytes() == (folder / "here" / name).read_bytes(), "the same bits as without Ray"
    assert not [path for path in (folder / out).rglob("*") if ".part-" in path.name]


@pytest.mark.soak
def test_a_cluster_makes_the_same_files_when_one_of_two_workers_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    killed: list[int] = []
    converted = RayWorker.convert

    async def convert(self: RayWorker, job: Any) -> Any:
        if not killed:
            killed.append(self.pid)
            os.kill(self.pid, signal.SIGKILL)
        return await converted(self, job)

    monkeypatch.setattr(RayWorker, "convert", convert)
    report = run(folder, "out", ray="local")
    assert killed and any("the worker process died over it" in note for note in report.notes)
    check(folder, report, "out")
    resumed = run(folder, "out", ray="local", resume=True)
    assert (resumed.count(Status.SKIPPED), resumed.count(Status.FAILED)) == (5, 1)


@pytest.mark.soak
def test_nodes_that_share_no_folder_are_sent_models_and_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    made = RayCluster.__init__

    def init(self: RayCluster, *args: Any) -> None:
        made(self, *args)
        self.token = "what no node finds"
        assert len(self.hashes) == 3, "encoder, voice, index"
        self.hashes = dict.fromkeys(self.hashes, "what no node has")

    monkeypatch.setattr(RayCluster, "__init__", init)
    weights = ensure_test_weights(folder / "weights")
    models = {"models": {"content_encoder": str(weights.encoder)}, "voices": {"voice": str(weights.voice_v2)}}
    settings = parse_config(models, folder / "test.toml")
    check(folder, run(folder, "out", settings, ray="local"), "out", settings)


@pytest.mark.parametrize(
    ("address", "words"),
    [("nowhere", "takes HOST:PORT, auto or local"), ("127.0.0.1:{free}", "nobody answers there"), ("127.0.0.1:x", "nobody")],
)
def test_a_cluster_that_is_not_there_is_said_in_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, address: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", sys)  # what is checked comes before Ray is called
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    with pytest.raises(RvcdError, match=words) as caught:
        run(folder, "out", ray=address.format(free=free))
    assert "\n" not in str(caught.value) and "ray start --head" in str(caught.value)


def test_without_ray_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"--ray needs Ray .*pip install -e '\.\[ray\]'"):
        run(folder, "out", ray="auto")
