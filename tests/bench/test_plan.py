"""What is measured follows from options and settings; what cannot be measured is said in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rvcd.bench.plan import SYNTHETIC_RATE_HZ, BenchRequest, Mode, make_plan
from rvcd.bench.tasks import MeasureTask, SyntheticFiles, SyntheticTask
from rvcd.config.settings import BUILT_IN, LATENCY_PRESETS, TEST_WEIGHTS, LatencyBudget, Settings, parse_config
from rvcd.errors import RvcdError
from rvcd.voices.builtin_paths import BUILT_IN_ENCODER, BUILT_IN_VOICE
from tests.support import PARITY

SYNTHETIC = {rate: SyntheticFiles(f"encoder-{rate}", f"voice-{rate}.pth", f"{rate}.index") for rate in (32000, 40000, 48000)}
VOICE = str(PARITY / "v2_40k_f0.pth")
INDEX = str(PARITY / "added_IVF8_Flat_nprobe_1_kit_v1.index")


def settings(**sections: object) -> Settings:
    return parse_config(sections, Path("rvcd.toml"))


def request(**fields: object) -> BenchRequest:
    return BenchRequest(**{"synthetic": True, **fields})  # type: ignore[arg-type]


# ---- what is measured


def test_all_presets_are_measured_unless_some_are_named() -> None:
    assert [case.name for case in make_plan(Settings(), request(), 2).cases] == list(LATENCY_PRESETS)
    assert [case.name for case in make_plan(Settings(), request(presets=("safe", "low")), 2).cases] == ["safe", "low"]


def test_a_configured_latency_that_is_no_preset_is_measured_too() -> None:
    cases = make_plan(settings(latency={"preset": "safe", "block_ms": 160}), request(), 2).cases
    assert cases[-1].name == "configured" and cases[-1].budget.block_ms == 160


def test_a_free_combination_starts_from_a_preset_and_keeps_its_share_of_the_block_for_computing() -> None:
    (case,) = make_plan(Settings(), request(presets=("safe",), block_ms=100, context_ms=500), 2).cases
    safe = LATENCY_PRESETS["safe"]
    assert case.budget == LatencyBudget(100, safe.lookahead_ms, round(100 * safe.deadline_ms / safe.block_ms), 500)
    (case,) = make_plan(Settings(), request(block_ms=100, deadline_ms=90), 2).cases
    assert case.budget.deadline_ms == 90


def test_a_long_block_alone_finds_a_context_that_is_wide_enough_and_one_that_is_too_narrow_is_refused() -> None:
    (case,) = make_plan(Settings(), request(block_ms=1000, lookahead_ms=400), 2).cases
    assert case.budget.context_ms >= 1000 + 400 + 400
    with pytest.raises(RvcdError, match=r"^context_ms = 100 is out of range; it takes a multiple of 20 ms in "):
        make_plan(Settings(), request(block_ms=1000, context_ms=100), 2)


def test_the_worker_is_told_what_a_live_one_would_be() -> None:
    plan = make_plan(settings(engine={"seed": 7}), request(presets=("safe",), threads=2, precision="fp32", f0_method="dio"), 2)
    setup = plan.setup(plan.cases[0], SYNTHETIC)
    assert (setup.models.encoder, setup.models.test_weights_cache) == ("encoder-40000", "")
    assert (setup.voice.path, setup.voice.index) == ("voice-40000.pth", "40000.index")
    assert (setup.models.threads, setup.models.precision, setup.f0_method, setup.models.seed) == (2, "fp32", "dio", 7)
    assert setup.geometry.block_frames == LATENCY_PRESETS["safe"].block_ms // 10
    task = plan.task(plan.cases[0], SYNTHETIC)
    assert MeasureTask.from_json(task.to_json()) == task
    assert task.blocks() == 20_000 // LATENCY_PRESETS["safe"].block_ms


def test_short_measurements_still_have_enough_blocks_for_a_percentile() -> None:
    plan = make_plan(Settings(), request(presets=("safe",), seconds=1.0), 2)
    assert plan.task(plan.cases[0], SYNTHETIC).blocks() == 20


def test_the_built_in_voice_is_measured_with_its_own_encoder() -> None:
    plan = make_plan(settings(models={"content_encoder": BUILT_IN}), request(synthetic=False), 2)
    assert plan.encoder == str(BUILT_IN_ENCODER) and plan.voice is not None and plan.voice.name == BUILT_IN_VOICE
    (note,) = plan.notes
    assert "--synthetic" in note


def test_with_the_test_weights_random_ones_are_measured_and_it_is_said() -> None:
    plan = make_plan(settings(models={"content_encoder": TEST_WEIGHTS}), request(synthetic=False), 2)
    assert (plan.encoder, plan.voice, plan.synthetic_rates_hz) == ("", None, (40000,))
    (note,) = plan.notes
    assert note == (
        "there is no content encoder but rvcd's own small ones, which are no measure of it: "
        "measuring random weights of the published sizes, as --synthetic does"
    )
    assert make_plan(Settings(), request(), 2).notes == ()


def test_the_users_own_files_are_measured_when_there_are_some(tmp_path: Path) -> None:
    (tmp_path / "hubert.pt").write_bytes(b"")
    configured = settings(models={"content_encoder": str(tmp_path / "hubert.pt")}, voices={"folders": [str(PARITY)]})
    plan = make_plan(configured, request(synthetic=False, voice="v1_48k_f0"), 2)
    assert plan.encoder == str(tmp_path / "hubert.pt") and plan.voice is not None and plan.synthetic_rates_hz == ()
    assert plan.setup(plan.cases[0], {}).voice == plan.voice


def test_a_voice_of_ones_own_goes_with_a_random_encoder() -> None:
    plan = make_plan(Settings(), request(voice=VOICE, index=INDEX), 2)
    setup = plan.setup(plan.cases[0], SYNTHETIC)
    assert setup.models.encoder == "encoder-40000"
    assert (setup.voice.path, setup.voice.index) == (VOICE, INDEX)


def test_a_sweep_varies_one_thing_at_a_time_and_measures_the_common_base_once() -> None:
    plan = make_plan(Settings(), request(sweep=True), 4)
    assert plan.mode is Mode.SWEEP
    sizes = [(one.budget.block_ms, one.budget.context_ms, one.context, one.threads, one.voice_rate_hz) for one in plan.cases]
    assert len(set(sizes)) == len(sizes) == 1 + 3 + 5 + 2 + 2
    contexts = {(case.budget.context_ms, case.context) for case in plan.cases if "context" in case.axes}
    assert contexts == {(ms, way) for ms in (500, 1000, 2000) for way in ("remembered", "window")}
    base = next(case for case in plan.cases if len(case.axes) == 4)
    assert (base.budget.block_ms, base.budget.context_ms, base.threads, base.voice_rate_hz) == (200, 1000, 4, 40000)
    assert {case.threads for case in plan.cases if "threads" in case.axes} == {1, 2, 4}
    assert plan.synthetic_rates_hz == (40000, 32000, 48000)
    assert plan.setup(plan.cases[-1], SYNTHETIC).voice.path == "voice-48000.pth"  # type: ignore[union-attr]
    assert {plan.setup(case, SYNTHETIC).models.context for case in plan.cases} == {"remembered", "window"}


def test_the_encoders_context_is_the_configured_one_or_the_one_asked_for() -> None:
    for configured, asked, expected in (
        ("remembered", "", "remembered"),
        ("window", "", "window"),
        ("window", "remembered", "remembered"),
    ):
        plan = make_plan(settings(engine={"context": configured}), request(context=asked), 2)
        assert {case.context for case in plan.cases} == {plan.setup(plan.cases[0], SYNTHETIC).models.context} == {expected}
    with pytest.raises(RvcdError, match=r"^'windows' is no context; it takes remembered, window; did you mean 'window'"):
        make_plan(Settings(), request(context="windows"), 2)


def test_a_soak_takes_the_configured_latency_and_a_comparison_two_presets() -> None:
    plan = make_plan(settings(latency={"preset": "safe"}), request(soak_minutes=10.0), 2)
    assert (plan.mode, [case.name for case in plan.cases], plan.soak_minutes) == (Mode.SOAK, ["safe"], 10.0)
    plan = make_plan(Settings(), request(compare_recompute=True), 2)
    assert (plan.mode, [case.name for case in plan.cases]) == (Mode.COMPARE, ["balanced", "safe"])


# ---- what cannot be measured


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"presets": ("balancd",)}, "'balancd' is no preset; it takes low, balanced, safe; did you mean 'balanced'?"),
        ({"precision": "fp23"}, "'fp23' is no precision; it takes auto, fp32, bf16, fp16; did you mean 'fp32'?"),
        (
            {"f0_method": "swft"},
            "'swft' is no F0 method; it takes swift, rmvpe, fcpe, harvest, dio, pm, yin; did you mean 'swift'?",
        ),
        (
            {"threads": 8},
            "--threads 8 is more than the 2 cores this machine gives; it takes 1..2, or 0 to measure which number is faster",
        ),
        ({"threads": -1}, "--threads -1 is out of range; it takes 1..2, or 0 to measure which number is faster"),
        ({"seconds": 0.5}, "--seconds 0.5 is out of range; it takes 1..3600"),
        ({"seconds": float("nan")}, "--seconds nan is out of range; it takes 1..3600"),
        ({"soak_minutes": 0.0}, "--soak 0 is out of range; it takes 0.1..1440"),
        (
            {"soak_minutes": 10.0, "compare_recompute": True},
            "--soak and --compare-recompute measure different things; run them one after the other",
        ),
        ({"block_ms": 30}, "block_ms = 30 is out of range; it takes a multiple of 20 ms in 20..2000"),
        ({"block_ms": 40, "deadline_ms": 50}, "deadline_ms = 50 is out of range; it takes more than 0, at most block_ms = 40"),
        (
            {"sweep": True, "block_ms": 40},
            "--sweep chooses its own blocks and contexts; leave out --preset and the lengths in milliseconds",
        ),
        ({"presets": ("low", "safe"), "block_ms": 40}, "a free combination of lengths takes one --preset at most, not 2"),
        ({"presets": ("low", "safe"), "soak_minutes": 1.0}, "--soak takes one --preset at most, not 2"),
        ({"voice": "nobody.pth"}, "--voice nobody.pth: does not exist; check the path"),
        ({"index": "nothing.index"}, "--index nothing.index: does not exist; check the path"),
        (
            {"voice": "Anna"},
            "--voice Anna is looked for once there is a content encoder (`rvcd assets fetch`); without one, name a .pth file",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_one_sentence(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(RvcdError) as caught:
        make_plan(Settings(), request(**fields), 2)
    assert str(caught.value) == sentence


def test_one_core_is_called_one_core() -> None:
    with pytest.raises(RvcdError, match=r"^--threads 2 is more than the 1 core this machine gives"):
        make_plan(Settings(), request(threads=2), 1)


def test_configured_threads_beyond_the_machine_name_their_key() -> None:
    with pytest.raises(RvcdError, match=r"^engine\.threads = 64 is more than the 2 cores"):
        make_plan(settings(engine={"threads": 64}), request(), 2)


def test_a_missing_encoder_names_its_key_and_the_ways_out() -> None:
    configured = settings(models={"content_encoder": "/nowhere/hubert.pt"})
    with pytest.raises(RvcdError) as caught:
        make_plan(configured, request(synthetic=False), 2)
    assert str(caught.value) == (
        "models.content_encoder: /nowhere/hubert.pt does not exist; `rvcd assets fetch` gets one, --synthetic measures without it"
    )


def test_a_voice_or_index_that_is_none_is_found_before_anything_runs(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_text("hello")
    with pytest.raises(RvcdError, match=rf"^{broken}: "):
        make_plan(Settings(), request(voice=str(broken)), 2)
    with pytest.raises(RvcdError, match=rf"^{broken}: "):
        make_plan(Settings(), request(index=str(broken)), 2)


def test_with_an_encoder_and_no_voice_of_ones_own_the_built_in_one_is_measured_and_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "hubert.pt").write_bytes(b"")
    configured = settings(models={"content_encoder": str(tmp_path / "hubert.pt")}, voices={"folders": [str(tmp_path)]})
    plan = make_plan(configured, request(synthetic=False), 2)
    assert plan.encoder == str(BUILT_IN_ENCODER) and plan.voice is not None and plan.voice.name == BUILT_IN_VOICE
    assert plan.notes[0].startswith("measuring the built-in voice, a small one")


def test_random_weights_have_an_rmvpe_where_it_is_measured_and_there_is_no_file_of_it(tmp_path: Path) -> None:
    plan = make_plan(Settings(), request(f0_method="rmvpe"), 2)
    assert plan.synthetic_rmvpe
    written = {SYNTHETIC_RATE_HZ: replace(SYNTHETIC[SYNTHETIC_RATE_HZ], rmvpe="random.pt")}
    assert plan.setup(plan.cases[0], written).models.rmvpe == "random.pt"
    assert not make_plan(Settings(), request(), 2).synthetic_rmvpe
    task = SyntheticTask("folder", (40000,), rmvpe=True)
    assert SyntheticTask.from_json(json.loads(json.dumps(task.to_json()))) == task
    (tmp_path / "rmvpe.pt").write_bytes(b"")
    own = parse_config({"models": {"rmvpe": str(tmp_path / "rmvpe.pt")}}, tmp_path / "rvcd.toml")
    plan = make_plan(own, request(f0_method="rmvpe"), 2)
    assert not plan.synthetic_rmvpe
    assert plan.setup(plan.cases[0], SYNTHETIC).models.rmvpe == str(tmp_path / "rmvpe.pt")
