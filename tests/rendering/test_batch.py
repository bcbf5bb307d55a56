"""A batch from its plan to its report, with workers that convert nothing: what is done, skipped, failed, interrupted, resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rvcd.config.settings import Settings, parse_config
from rvcd.errors import RvcdError
from rvcd.rendering.batch import BatchRequest, Interrupted, run_batch
from rvcd.rendering.manifest import Manifest, Record
from rvcd.rendering.report import BatchReport, Row, Status, as_json, summary_line, table_rows
from tests.waiting import eventually, has_ended

ROOT = Path(__file__).parents[2]
WORKER = str(Path(__file__).with_name("fake_worker.py"))


class Watcher:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ended: list[str] = []
        self.begun: list[str] = []
        self.advanced: list[float] = []
        self.waiting = 0

    def begins(self, total: int, waiting: int) -> None:
        self.waiting = waiting

    def file_begins(self, number: int, source: str) -> None:
        self.begun.append(Path(source).name)

    def file_advances(self, number: int, done: float) -> None:
        self.advanced.append(done)

    def file_ends(self, number: int, row: Row) -> None:
        self.ended.append(Path(row.source).name)

    def says(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return parse_config({"models": {"content_encoder": "test"}}, Path("test.toml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, words in {"a": "one", "b": "two", "sub/c": "three"}.items():
        path = tmp_path / f"in/{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(words)
    return tmp_path


def run(settings: Settings, folder: Path, mode: str = "works", **options: Any) -> tuple[BatchReport, Watcher]:
    watcher = Watcher()
    request = BatchRequest(inputs=(str(folder / "in"),), out=folder / "out", **options)
    return run_batch(settings, request, watcher, (sys.executable, WORKER, mode)), watcher


def statuses(report: BatchReport) -> dict[str, str]:
    return {Path(row.source).name: row.status.value for row in report.rows}


def test_every_file_is_converted_and_reported(settings: Settings, folder: Path) -> None:
    report, watcher = run(settings, folder, jobs=2)
    assert statuses(report) == {"a.wav": "done", "b.wav": "done", "c.wav": "done"} and report.all_good
    assert (folder / "out/sub/c.wav").read_text() == "converted three"
    assert sorted(watcher.begun) == sorted(watcher.ended) == ["a.wav", "b.wav", "c.wav"]
    assert watcher.advanced == [1.0] * 3 and watcher.waiting == 3
    assert report.jobs == 2 and any("loads " in text for text in watcher.said)
    written = json.loads((folder / "out/rvcd-report.json").read_text())
    assert written["done"] == 3 and written["failed"] == 0 and written["audio_s"] == 6.0
    assert written["files"][0] == {
        "source": str(folder / "in/a.wav"), "target": str(folder / "out/a.wav"), "status": "done", "error": None,
        "duration_s": 2.0, "seconds": 1.0, "compute_s": 0.5, "speed": 2.0, "rate_hz": 40000, "channels": 1,
        "source_peak_dbfs": -3.0, "source_loudness_lufs": -20.0, "source_clipped_samples": 0, "peak_dbfs": -3.0,
        "loudness_lufs": -20.0, "clipped_samples": 0, "notes": [],
    }  # fmt: skip


def test_what_fails_is_reported_with_its_reason_and_the_others_are_done(settings: Settings, folder: Path) -> None:
    (folder / "in/b.wav").write_text("bad")
    os.mkfifo(folder / "in/p.wav")
    report, _ = run(settings, folder)
    assert statuses(report) == {"a.wav": "done", "b.wav": "failed", "p.wav": "failed", "c.wav": "done"}
    assert not report.all_good
    errors = {Path(row.source).name: row.error for row in report.rows if row.error}
    assert errors["b.wav"].endswith("b.wav: is bad") and "a pipe" in errors["p.wav"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == [".rvcd-render", "a.wav", "rvcd-report.json", "sub"]


def test_a_second_run_needs_to_be_told_what_to_do_with_what_is_there(settings: Settings, folder: Path) -> None:
    run(settings, folder)
    report, watcher = run(settings, folder)
    assert set(statuses(report).values()) == {"failed"} and watcher.begun == []
    assert report.rows[0].error.endswith("out/a.wav: exists already: --resume skips what is finished, --force replaces it")
    report, _ = run(settings, folder, force=True)
    assert set(statuses(report).values()) == {"done"}


def test_resume_skips_what_is_finished_and_does_again_what_has_changed(settings: Settings, folder: Path) -> None:
    run(settings, folder)
    facts = os.stat(folder / "in/a.wav")
    (folder / "in/a.wav").write_text("ONE")  # of the same size and, below, of the same time
    os.utime(folder / "in/a.wav", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    (folder / "in/d.wav").write_text("four")
    report, watcher = run(settings, folder, resume=True)
    assert statuses(report) == {"a.wav": "done", "b.wav": "skipped", "d.wav": "done", "c.wav": "skipped"}
    assert sorted(watcher.begun) == ["a.wav", "d.wav"] and watcher.waiting == 2
    assert (folder / "out/a.wav").read_text() == "converted ONE"
    assert report.rows[1].rendered is not None and report.all_good


def test_resume_does_everything_again_with_other_parameters(settings: Settings, folder: Path) -> None:
    run(settings, folder)
    report, _ = run(settings, folder, resume=True, params={"pitch": 3.0})
    assert set(statuses(report).values()) == {"done"}
    report, _ = run(settings, folder, resume=True, params={"pitch": 3.0}, jobs=2)
    assert set(statuses(report).values()) == {"skipped"} and report.jobs == 0


def test_resume_makes_a_missing_target_again_and_keeps_one_that_somebody_changed(settings: Settings, folder: Path) -> None:
    run(settings, folder)
    (folder / "out/a.wav").unlink()
    (folder / "out/b.wav").write_text("edited by hand")
    report, _ = run(settings, folder, resume=True)
    assert statuses(report) == {"a.wav": "done", "b.wav": "failed", "c.wav": "skipped"}
    assert "was changed since it was rendered: --force replaces it" in report.rows[1].error
    assert (folder / "out/b.wav").read_text() == "edited by hand"
    report, _ = run(settings, folder, resume=True, force=True)
    assert statuses(report) == {"a.wav": "skipped", "b.wav": "done", "c.wav": "skipped"}


def test_a_file_of_somebody_elses_is_not_replaced_by_a_batch_that_failed_there_once(settings: Settings, folder: Path) -> None:
    (folder / "in/a.wav").write_text("bad")
    run(settings, folder)
    (folder / "in/a.wav").write_text("good now")
    (folder / "out/a.wav").write_text("mine")
    report, _ = run(settings, folder, resume=True)
    assert "out/a.wav: exists already: is no file of a batch, --force replaces it" in report.rows[0].error
    assert (folder / "out/a.wav").read_text() == "mine"


def test_a_target_that_was_finished_just_before_the_end_is_known_as_ours(settings: Settings, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/a.wav").write_text("whole, but nobody could note it any more")
    with Manifest(folder / "out") as manifest:
        manifest.add(Record("a.wav", "some settings", str(folder / "in/a.wav")))
    report, _ = run(settings, folder, resume=True)
    assert set(statuses(report).values()) == {"done"}
    assert (folder / "out/a.wav").read_text() == "converted one"


def test_a_worker_that_dies_is_replaced_and_its_file_tried_once_more(settings: Settings, folder: Path) -> None:
    (folder / "in/a.wav").write_text("die once")
    report, watcher = run(settings, folder, jobs=1)
    assert set(statuses(report).values()) == {"done"}
    assert any("a.wav: the worker process died over it (exit status 9); it is tried once more" in text for text in watcher.said)
    assert list((folder / "out").rglob("*.part-*")) == []


def test_a_file_over_which_workers_die_fails_and_the_others_are_done(settings: Settings, folder: Path) -> None:
    (folder / "in/a.wav").write_text("die")
    report, _ = run(settings, folder, jobs=2)
    assert statuses(report) == {"a.wav": "failed", "b.wav": "done", "c.wav": "done"}
    assert "died over it twice (exit status 9)" in report.rows[0].error
    assert list((folder / "out").rglob("*.part-*")) == []


@pytest.mark.parametrize(("mode", "words"), [("refuses", "the voice is broken"), ("dies", "ends before it is ready")])
@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_models_that_cannot_be_loaded_end_the_batch_in_one_sentence(
    settings: Settings, folder: Path, mode: str, words: str, jobs: int
) -> None:
    with pytest.raises(RvcdError, match=words):
        run(settings, folder, mode, jobs=jobs)
    assert not (folder / "out/a.wav").exists()


def test_a_full_disk_ends_the_batch_and_what_was_not_begun_is_said(settings: Settings, folder: Path) -> None:
    (folder / "in/a.wav").write_text("full")
    for name in ("b", "sub/c"):  # shorter, hence later
        (folder / f"in/{name}.wav").write_text("x")
    report, watcher = run(settings, folder, jobs=1)
    assert statuses(report) == {"a.wav": "failed", "b.wav": "failed", "c.wav": "failed"}
    assert watcher.begun == ["a.wav"]
    assert report.rows[1].error == "not begun: the disk is full; free some space, then use --resume"
    (folder / "in/a.wav").write_text("room again")
    report, _ = run(settings, folder, resume=True)
    assert set(statuses(report).values()) == {"done"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_workers_leaves_nothing_unfinished_and_resume_goes_on(
    settings: Settings, folder: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)
    (folder / "in/b.wav").write_text("hang")
    (folder / "in/a.wav").write_text("the longest is done first")

    class Interrupting(Watcher):
        def file_advances(self, file: int, done: float) -> None:
            if done == 0.5:
                os.kill(os.getpid(), number)

    request = BatchRequest(inputs=(str(folder / "in"),), out=folder / "out", jobs=1)
    with pytest.raises(Interrupted) as caught:
        run_batch(settings, request, Interrupting(), (sys.executable, WORKER, "works"))
    assert caught.value.number == number
    found = statuses(caught.value.report)
    assert (found["a.wav"], found["b.wav"]) == ("done", "interrupted")
    assert list((folder / "out").rglob("*.part-*")) == [] and not (folder / "out/b.wav").exists()
    (folder / "in/b.wav").write_text("two")
    report, _ = run(settings, folder, resume=True)
    assert statuses(report)["a.wav"] == "skipped" and report.all_good


def test_a_batch_that_is_killed_takes_its_workers_with_it_and_resume_goes_on(settings: Settings, folder: Path) -> None:
    (folder / "in/b.wav").write_text("hang")
    (folder / "in/a.wav").write_text("the longest is done first")
    script = f"""
import sys
from pathlib import Path
from rvcd.config.settings import parse_config
from rvcd.rendering.batch import BatchRequest, run_batch
from tests.rendering.test_batch import Watcher
class Telling(Watcher):
    def file_advances(self, number, done):
        if done == 0.5: print("hangs", flush=True)
settings = parse_config({{"models": {{"content_encoder": "test"}}}}, Path("test.toml"))
request = BatchRequest(inputs=({str(folder / "in")!r},), out=Path({str(folder / "out")!r}), jobs=1)
run_batch(settings, request, Telling(), (sys.executable, {WORKER!r}, "works"))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, text=True) as killed:
        assert killed.stdout is not None and killed.stdout.readline() == "hangs\n"
        (part,) = (folder / "out").rglob("*.part-*")
        killed.kill()
    eventually(lambda: has_ended(int(part.name.rpartition("-")[2])), "the end of the worker")
    (folder / "in/b.wav").write_text("two")
    report, _ = run(settings, folder, resume=True)
    assert statuses(report)["a.wav"] == "skipped" and report.all_good
    assert list((folder / "out").rglob("*.part-*")) == []


def test_two_batches_do_not_write_into_one_folder(settings: Settings, folder: Path) -> None:
    with Manifest(folder / "out"), pytest.raises(RvcdError, match="another rvcd render writes into this folder"):
        run(settings, folder)
    assert run(settings, folder)[0].all_good


def test_an_output_that_is_no_folder_is_refused(settings: Settings, folder: Path) -> None:
    (folder / "out").write_text("mine")
    with pytest.raises(RvcdError, match=r"out: cannot be written: (not a directory|there is a file of that name)"):
        run(settings, folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "wma"}, "--format wma: is no format for files; it takes wav, flac"),
        ({"jobs": -1}, "--jobs -1: takes 1..256"),
        ({"channels": "9"}, "--channels 9: takes 1"),
        ({"channels": "both"}, "--channels both: takes 1"),
        ({"loudness_lufs": 3.0}, "--loudness 3: takes -60..-5 LUFS"),
        ({"loudness_lufs": float("nan")}, "--loudness nan: takes"),
        ({"voice": "nobody"}, "unknown voice 'nobody'"),
    ],
)
def test_values_that_cannot_be_are_refused_before_anything_is_written(
    settings: Settings, folder: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(RvcdError, match=words):
        run(settings, folder, **options)
    assert not (folder / "out").exists()


def test_a_manifest_that_was_cut_or_damaged_is_used_as_far_as_it_can_be(settings: Settings, folder: Path) -> None:
    run(settings, folder)
    manifest = folder / "out/.rvcd-render/manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines)[:-20])
    report, watcher = run(settings, folder, resume=True)
    assert sorted(statuses(report).values()) == ["done", "skipped", "skipped"]
    assert not any("damaged" in text for text in watcher.said)  # a last line that was cut is what an end leaves behind
    manifest.write_bytes(b"\xff\x00garbage\n[1, 2]\n{}\n" + b"[" * 100_000)
    report, watcher = run(settings, folder, resume=True)
    assert "4 lines are damaged" in watcher.said[0] and not report.all_good


def test_files_whose_names_are_no_text_are_converted_skipped_and_reported(settings: Settings, folder: Path) -> None:
    (folder / os.fsdecode(b"in/caf\xe9.wav")).write_text("x")
    run(settings, folder)
    report, _ = run(settings, folder, resume=True)
    assert set(statuses(report).values()) == {"skipped"} and len(report.rows) == 4
    assert "caf\\udce9.wav" in (folder / "out/rvcd-report.json").read_text()


def test_the_tables_and_the_sums_say_what_is_known() -> None:
    rows = (Row("a.wav", "", Status.FAILED, "a.wav: is bad"), Row("b.wav", "out/b.wav", Status.INTERRUPTED))
    report = BatchReport(rows, 1.5, 1, "anna", "hash")
    assert table_rows(report)[0] == ("a.wav", "failed", "-", "-", "-", "-", "-", "is bad")
    assert summary_line(report) == "0 done, 1 failed, 1 interrupted: 0.0 s of audio in 1.5 s, 1 worker(s), voice anna"
    assert json.loads(as_json(BatchReport((), 1.5, 1, "anna", "hash")))["files"] == []


def test_a_report_that_cannot_be_written_is_said(settings: Settings, folder: Path) -> None:
    with pytest.raises(RvcdError, match=r"report\.json: the report cannot be written: no such file"):
        run(settings, folder, report=folder / "nowhere/report.json")
    assert (folder / "out/a.wav").exists()


def test_the_batch_itself_loads_no_torch() -> None:
    code = "import sys, rvcd.cli.render_batch, rvcd.rendering.batch; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"
