"""What is printed: it fits 80 columns, says the same in Markdown, and the JSON document keeps its keys."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from rvcd.bench import figures as figures_module
from rvcd.bench.document import Findings, document
from rvcd.bench.figures import Unmeasured, comparison
from rvcd.bench.machine import look_at_machine, resident_mb
from rvcd.bench.plan import BenchRequest
from rvcd.bench.report import contents, to_markdown, to_terminal
from rvcd.bench.soak import Soaked
from tests.bench.invented import BUDGETS, BUSY, a_case, a_comparison, a_plan, figures_of, findings

SOAKED = Soaked(600.0, 7200.0, 40.0, (1000.0, 1000.5, 1001.0, 1001.0, 1001.2), 18.0, 18.2, 180_000, 0, 0, 0)


@pytest.fixture(autouse=True)
def presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_module, "LATENCY_PRESETS", BUDGETS)


def printed(found: Findings) -> str:
    out = io.StringIO()
    to_terminal(contents(found), Console(file=out, width=80, highlight=False))
    return out.getvalue()


def of_mode(mode: str) -> Findings:
    if mode == "compare":
        plan = a_plan(BenchRequest(synthetic=True, compare_recompute=True))
        dead = Unmeasured(a_case("safe"), "the measuring process was killed (SIGKILL)")
        return findings(plan=plan, cases=(), comparisons=(comparison(a_case("balanced"), a_comparison()), dead))
    if mode == "sweep":
        plan = a_plan(BenchRequest(synthetic=True, sweep=True))
        return findings(plan=plan, cases=tuple(figures_of(case, [100.0] * 50) for case in plan.cases))
    if mode == "soak":
        return findings(plan=a_plan(BenchRequest(synthetic=True, soak_minutes=10.0)), cases=(), soaked=SOAKED)
    return findings()


@pytest.mark.parametrize("mode", ["presets", "compare", "sweep", "soak"])
def test_everything_fits_80_columns_and_is_whole(mode: str) -> None:
    text = printed(of_mode(mode))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    assert text.startswith("Acme 9000, 2 cores, 16 GB")


def test_presets_show_every_stage_and_end_with_verdicts_and_a_suggestion() -> None:
    lines = [" ".join(line.split()) for line in printed(findings()).splitlines()]
    for row in ("content encoder 9.3 9.3 9.3 9.3", "F0, its own time 0.0 0.0 0.0 0.0", "total 18.6 18.6 18.6 18.6"):
        assert row in lines
    assert "kernels: avx2; shapes of convolutions: 1 direct, 2 tiles of 6" in lines
    assert "start-up: 3.2 s to the first converted block (imports 1.5, loading 1.0," in lines
    assert "memory: 1100 MB at most, 1000 MB at the end" in lines
    assert "balanced 186 ms 0.47 18.6 18.6 30 0/100 1100 MB 3.2 s" in lines
    end = lines.index("low: does not hold: load 1.31; try balanced")
    assert lines[end + 1 : end + 3] == ["balanced: holds with 38 % headroom", "safe: holds with 38 % headroom"]
    assert lines[end + 3].startswith("Suggestion: balanced: 186 ms from microphone to voice")


def test_a_soak_says_what_it_stands_for_and_whether_it_was_flat() -> None:
    text = printed(of_mode("soak"))
    assert "flat over 2.00 hours of audio in 10.0 minutes" in text
    assert "memory: +1.2 MB from the first mark to the last" in text
    grown = replace(SOAKED, rss_mb=(1000.0, 1002.0, 1003.0, 1004.0, 1006.0), last_ms=20.0, failed_blocks=1, late_blocks=2)
    assert grown.sentence == (
        "not flat over 2.00 hours of audio in 10.0 minutes: memory grew by 6.0 MB, "
        "a block takes 11 % longer at the end (is the machine quiet?), 1 block failed, 2 blocks late"
    )


def test_a_comparison_shows_both_ways_and_the_ratio() -> None:
    lines = [" ".join(line.split()) for line in printed(of_mode("compare")).splitlines()]
    assert "total 500.0 3000.0 6.0" in lines and "retrieval 0.0 0.0" in lines
    assert "balanced: 6.0 times less computing than upstream's way, side by side" in lines
    assert "safe: could not be measured: the measuring process was killed (SIGKILL)" in lines


def test_a_sweep_is_one_table_with_the_base_on_every_axis() -> None:
    text = to_markdown(contents(of_mode("sweep")))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["varied", "block", "context", "threads", "voice", "load", "median", "p99", "memory"]
    assert [row[0] for row in rows[2:]] == ["block"] * 4 + ["remembered", "window"] * 3 + ["threads"] * 2 + ["rate"] * 3
    assert sum(row[1:5] == ["200 ms", "1000 ms", "2", "40 kHz"] for row in rows) == 5


@pytest.mark.parametrize("mode", ["presets", "compare", "sweep", "soak"])
def test_the_document_is_json_with_the_same_keys_for_all_modes(mode: str) -> None:
    found = document(of_mode(mode))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    own = {"presets": {"cases", "suggestion"}, "compare": {"comparisons"}, "sweep": {"cases"}, "soak": {"soak"}}[mode]
    assert found.keys() == {"format", "mode", "command", "machine", "models", "paced", "notes"} | own
    assert found["machine"].keys() == {
        "cpu_model", "cores", "memory_mb", "load_average", "busy_share", "python_version", "system", "torch_version",
    }  # fmt: skip


def test_a_case_of_the_document_keeps_its_keys() -> None:
    found = document(findings())
    case = found["cases"][1]
    assert case.keys() == {
        "name", "block_ms", "lookahead_ms", "deadline_ms", "context_ms", "context", "latency_ms", "voice_rate_hz", "axes",
        "measured",
        "threads", "precision", "device", "device_name", "instructions", "convolutions", "blocks", "late_blocks", "load",
        "load_mean", "load_p99", "stages", "peak_rss_mb", "final_rss_mb", "gpu_peak_mb", "start_up", "verdict",
    }  # fmt: skip
    assert case["stages"].keys() == {
        "encode", "pitch", "retrieval", "prior", "decode", "resample", "other", "total", "pitch_own",
    }  # fmt: skip
    assert case["stages"]["total"] == {"median_ms": 18.6, "p95_ms": 18.6, "p99_ms": 18.6, "max_ms": 18.6}
    assert case["start_up"] == {"imports_s": 1.5, "loading_s": 1.0, "warm_up_s": 0.5, "first_block_s": 0.25, "total_s": 3.25}
    assert case["verdict"] == {
        "level": "holds", "sentence": "balanced: holds with 38 % headroom", "headroom": pytest.approx(0.38),
    }  # fmt: skip
    assert found["suggestion"]["name"] == "balanced" and found["suggestion"]["latency_ms"] == 186


def test_a_case_that_could_not_be_measured_is_in_the_document() -> None:
    case = document(findings(cases=(Unmeasured(a_case("low"), "it died"),)))["cases"][0]
    assert (case["measured"], case["verdict"]["level"]) == (False, "not measured")
    assert case["verdict"]["sentence"] == "low: could not be measured: it died"


def test_a_comparison_of_the_document_keeps_its_keys() -> None:
    one = document(of_mode("compare"))["comparisons"][0]
    assert {"ours", "recompute", "ratio", "sentence", "measured"} <= one.keys()
    assert one["ours"].keys() == one["recompute"].keys()
    assert one["ours"].keys() == {"compute_ms_per_s", "block_ms", "blocks", "stages", "threads", "precision"}


def test_a_busy_machine_is_warned_of_in_one_line() -> None:
    assert BUSY.warning() == (
        "other programs used 62 % of the processor (load average 1.24): on a quiet machine the figures are better"
    )
    assert "other programs used 62 %" in printed(findings(machine=BUSY))
    assert document(findings(machine=BUSY))["notes"] == [BUSY.warning()]
    assert document(findings())["notes"] == []


def test_this_machine_is_described() -> None:
    machine = look_at_machine()
    assert machine.cpu_model and machine.cores >= 1 and machine.memory_mb > 100 and 0 <= machine.busy_share <= 1
    now_mb, peak_mb = resident_mb()
    assert 1 < now_mb <= peak_mb
