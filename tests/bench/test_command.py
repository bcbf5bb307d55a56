"""`rvcd bench` as its user runs it: real processes, on the small test weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_imports import HEAVY, imported_by
from tests.waiting import eventually, has_ended

Start = Callable[..., "subprocess.Popen[str]"]
LIMIT_S = 400
QUICK = ("--preset", "safe", "--seconds", 1, "--flat-out")


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert "Traceback" not in out + err, err
    return process.returncode, out, err


def child_of(process: subprocess.Popen[str], module: str = "rvcd.bench.child") -> int:
    """Wait for the child that runs a module; return its process number."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            if module in Path(f"/proc/{pid}/cmdline").read_text():
                return int(pid)
        time.sleep(0.02)
    raise AssertionError(f"no {module} was started")


def test_a_preset_is_measured_for_scripts(start: Start, config: Path) -> None:
    code, out, err = finish(start("-c", config, *QUICK, "--json"))
    assert code == 0, err
    found = json.loads(out)
    (case,) = found["cases"]
    assert (case["name"], case["threads"], case["precision"], case["blocks"]) == ("safe", 1, "fp32", 20)
    assert found["command"].startswith("rvcd bench -c ") and found["machine"]["torch_version"]
    stages = {name: spread["median_ms"] for name, spread in case["stages"].items()}
    assert all(stages[name] > 0 for name in ("encode", "retrieval", "prior", "decode", "resample", "other", "pitch_own"))
    assert 0 < case["stages"]["total"]["median_ms"] <= case["stages"]["total"]["max_ms"]
    assert 50 < case["final_rss_mb"] <= case["peak_rss_mb"] + 1
    start_up = case["start_up"]
    assert start_up["imports_s"] > 0.1 and start_up["total_s"] == pytest.approx(sum(start_up.values()) - start_up["total_s"])
    assert err == "" or (err.startswith("rvcd: other programs used ") and err.count("\n") == 1)


def test_a_person_reads_a_table_and_a_verdict(start: Start, config: Path) -> None:
    code, out, _ = finish(start("-c", config, "--preset", "low", "--seconds", 1, "--paced"))
    assert code == 0
    assert all(len(line) <= 80 for line in out.splitlines() if str(config.parent) not in line)
    assert "content encoder" in out and "blocks at the pace of speech, 1 thread, fp32, cpu" in " ".join(out.split())
    assert "low: " in out


def test_upstreams_way_is_measured_side_by_side(start: Start, config: Path) -> None:
    code, out, err = finish(start("-c", config, *QUICK, "--compare-recompute", "--json"))
    assert code == 0, err
    (found,) = json.loads(out)["comparisons"]
    ours, theirs = found["ours"], found["recompute"]
    assert (found["name"], ours["block_ms"], theirs["block_ms"]) == ("safe", 200, 250)
    assert 0 <= theirs["blocks"] - 20 <= 1 and abs(ours["blocks"] * 200 - theirs["blocks"] * 250) <= 500
    assert found["ratio"] == pytest.approx(theirs["compute_ms_per_s"] / ours["compute_ms_per_s"])


def test_minutes_of_streaming_are_watched_through_the_real_worker(start: Start, config: Path) -> None:
    code, out, err = finish(start("-c", config, "--preset", "safe", "--soak", 0.1, "--json"))
    assert code == 0, err
    soak = json.loads(out)["soak"]
    assert soak["name"] == "safe" and len(soak["rss_mb"]) == 5
    assert soak["seconds"] > 2 and soak["blocks"] > 0 and soak["failed_blocks"] == 0
    assert soak["audio_s"] == pytest.approx(0.2 * soak["blocks"])
    assert soak["first_ms"] > 0 and min(soak["rss_mb"]) > 50


def test_a_worker_that_dies_ends_the_soak_with_a_sentence(start: Start, config: Path) -> None:
    process = start("-c", config, "--soak", 10)
    os.kill(child_of(process, "rvcd.worker"), signal.SIGKILL)
    code, out, err = finish(process)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "rvcd: the worker ended: killed by signal 9"


def test_ctrl_c_ends_a_soak_and_its_worker(start: Start, config: Path) -> None:
    process = start("-c", config, "--soak", 10)
    worker = child_of(process, "rvcd.worker")
    os.kill(process.pid, signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (130, "") and "Exception" not in err
    eventually(lambda: has_ended(worker))


def test_ctrl_c_ends_everything_without_a_word(start: Start, config: Path) -> None:
    process = start("-c", config, *QUICK)
    child = child_of(process)
    os.kill(process.pid, signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (130, "")
    assert err == "" or err.startswith("rvcd: other programs used ")
    eventually(lambda: has_ended(child))


def test_a_terminated_bench_takes_its_child_and_its_files_along(start: Start, tmp_path: Path) -> None:
    process = start("--synthetic", *QUICK)
    child = child_of(process)
    assert list(tmp_path.glob("rvcd-bench-*"))
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process)[0] == 128 + signal.SIGTERM
    eventually(lambda: has_ended(child))
    assert not list(tmp_path.glob("rvcd-bench-*"))


def test_a_killed_child_is_reported_and_the_exit_code_says_so(start: Start, config: Path) -> None:
    process = start("-c", config, *QUICK)
    os.kill(child_of(process), signal.SIGKILL)
    code, out, _ = finish(process)
    assert code == 1
    assert "safe: could not be measured: the measuring process was killed (SIGKILL)" in " ".join(out.split())
    assert "Nothing could be measured." in out


def test_a_broken_voice_is_one_sentence(start: Start, config: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_text("hello")
    code, out, err = finish(start("-c", config, "--voice", tmp_path / "bad.pth"))
    assert (code, out) == (1, "")
    assert err.startswith(f"rvcd: {tmp_path / 'bad.pth'}: ") and err.count("\n") == 1


def test_a_voice_of_other_units_than_the_encoders_is_the_childs_sentence(start: Start, config: Path) -> None:
    voice = Path(__file__).parents[1] / "data" / "parity" / "v2_40k_f0.pth"
    code, _, err = finish(start("-c", config, *QUICK, "--voice", voice))
    assert code == 1
    assert f"rvcd: {voice}: does not go with the content encoder" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--preset", "balancd"], 1, "rvcd: 'balancd' is no preset; it takes low, balanced, safe; did you mean 'balanced'?"),
        (["--threads", "4096"], 1, "rvcd: --threads 4096 is more than the "),
        (["--block-ms", "30"], 1, "rvcd: block_ms = 30 is out of range; it takes a multiple of 20 ms in 20..2000"),
        (["--json", "--markdown"], 1, "rvcd: --markdown and --json are two ways to print; choose one"),
        (["--seconds", "many"], 2, "Invalid value for '--seconds'"),
        (["--config", "/nowhere.toml"], 1, "/nowhere.toml has 1 problem(s):"),
    ],
)
def test_a_wrong_command_line_is_explained(start: Start, arguments: list[str], code: int, words: str) -> None:
    found, out, err = finish(start("--synthetic", *arguments))
    assert (found, out) == (code, "")
    assert words in err


def test_the_parent_holds_no_torch() -> None:
    assert not imported_by("import rvcd.bench.command") & {*HEAVY, "rvcd.engine", "rvcd.bench.measure"}
