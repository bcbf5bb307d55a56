"""What `rvcd bench` will measure: options and settings become a list of cases, or one sentence says why not. No torch."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from rvcd.audio.configured import DEMO_SPEECH
from rvcd.bench.tasks import MeasureTask, StreamSetup, SyntheticFiles
from rvcd.config.config_errors import did_you_mean
from rvcd.config.settings import LATENCY_PRESETS, NO_DENOISER, TEST_WEIGHTS, LatencyBudget, Settings
from rvcd.errors import ModelFileError, ParamError
from rvcd.formats.index_header import read_fitting_index_header, read_index_header, without_index
from rvcd.formats.voice_header import read_voice_spec
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import VoiceFiles
from rvcd.protocol import CONTEXTS, F0_METHODS, PRECISIONS, names_voice_file
from rvcd.voices.builtin_paths import BUILT_IN_ENCODER, BUILT_IN_FOLDER
from rvcd.voices.configured import model_setup, named_voice, voice_files

MIN_SECONDS, MAX_SECONDS = 1.0, 3600.0
MIN_SOAK_MINUTES, MAX_SOAK_MINUTES = 0.1, 1440.0
COMPARED_PRESETS = ("balanced", "safe")
SYNTHETIC_RATE_HZ = 40_000
"""The rate of a synthetic voice where rates are not compared: RVC's most common one."""
SWEEP_BUDGET = LatencyBudget(block_ms=200, lookahead_ms=120, deadline_ms=160, context_ms=1_000)
SWEEP_BLOCKS_MS, SWEEP_CONTEXTS_MS, SWEEP_RATES_HZ = (40, 100, 200, 400), (500, 1_000, 2_000), (32_000, 40_000, 48_000)
SWEEP_DEADLINE_SHARE = 0.8


class Mode(str, enum.Enum):
    """What is found out."""

    PRESETS = "presets"
    COMPARE = "compare-recompute"
    SWEEP = "sweep"
    SOAK = "soak"


SMALL_VOICE = "measuring the built-in voice, a small one: --synthetic measures random weights of the sizes that RVC voices have"


@dataclass(frozen=True)
class BenchRequest:
    """The command line. None, 0, "" and (): not given."""

    synthetic: bool = False
    presets: tuple[str, ...] = ()
    block_ms: int | None = None
    context_ms: int | None = None
    lookahead_ms: int | None = None
    deadline_ms: int | None = None
    threads: int | None = None
    precision: str = ""
    context: str = ""
    f0_method: str = ""
    voice: str = ""
    index: str = ""
    seconds: float = 20.0
    paced: bool = True
    compare_recompute: bool = False
    sweep: bool = False
    soak_minutes: float | None = None

    @property
    def mode(self) -> Mode:
        if self.soak_minutes is not None:
            return Mode.SOAK
        if self.sweep:
            return Mode.SWEEP
        return Mode.COMPARE if self.compare_recompute else Mode.PRESETS

    @property
    def free_ms(self) -> dict[str, int]:
        """The parts of a free combination, by LatencyBudget's names."""
        given = {name: getattr(self, name) for name in ("block_ms", "lookahead_ms", "deadline_ms", "context_ms")}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Case:
    """One measurement, one child. threads 0: as the worker chooses. context: of protocol.CONTEXTS. axes: those of a sweep."""

    name: str
    budget: LatencyBudget
    threads: int
    voice_rate_hz: int = SYNTHETIC_RATE_HZ
    axes: tuple[str, ...] = ()
    context: str = CONTEXTS[0]

    def geometry(self, settings: Settings) -> StreamGeometry:
        """Return the stream's sizes at the device's rate. Raises ParamError for what the engine cannot do."""
        budget = self.budget
        return StreamGeometry.from_ms(
            rate_hz=settings.audio.rate_hz, block_ms=budget.block_ms, lookahead_ms=budget.lookahead_ms,
            deadline_ms=budget.deadline_ms, context_ms=budget.context_ms, denoiser=settings.engine.denoiser != NO_DENOISER,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What will be measured. encoder "", voice None: random weights of the published sizes. notes: sentences for the user."""

    mode: Mode
    cases: tuple[Case, ...]
    settings: Settings
    encoder: str
    voice: VoiceFiles | None
    index: str
    f0_method: str
    precision: str
    seconds: float
    paced: bool
    soak_minutes: float
    notes: tuple[str, ...] = ()

    @property
    def rate_hz(self) -> int:
        """The device's."""
        return self.settings.audio.rate_hz

    @property
    def synthetic_rates_hz(self) -> tuple[int, ...]:
        """The rates of voices for which random weights are needed; () for none."""
        if self.voice is not None:
            return () if self.encoder else (SYNTHETIC_RATE_HZ,)
        return tuple(dict.fromkeys(case.voice_rate_hz for case in self.cases))

    @property
    def synthetic_rmvpe(self) -> bool:
        """Whether an RMVPE of random weights is needed: beside other random weights, where there is no file of one."""
        return self.f0_method == "rmvpe" and bool(self.synthetic_rates_hz) and not self.settings.models.rmvpe_file

    def setup(self, case: Case, synthetic: Mapping[int, SyntheticFiles]) -> StreamSetup:
        """Return what the worker would be told. synthetic: by the voice's rate, for what is not the user's own."""
        geometry = case.geometry(self.settings)
        voice, encoder = self.voice, self.encoder
        files = synthetic.get(case.voice_rate_hz if voice is None else SYNTHETIC_RATE_HZ, SyntheticFiles("", "", ""))
        if voice is None:
            voice = VoiceFiles("synthetic", files.voice, self.index or files.index)
        known = model_setup(self.settings)
        models = structs.replace(
            known, encoder=encoder or files.encoder, rmvpe=known.rmvpe or files.rmvpe, precision=self.precision,
            context=case.context, threads=case.threads, test_weights_cache="",
        )  # fmt: skip
        return StreamSetup(models, geometry, voice, self.f0_method)

    def task(self, case: Case, synthetic: Mapping[int, SyntheticFiles]) -> MeasureTask:
        """Return what the measuring child is told."""
        return MeasureTask(self.setup(case, synthetic), str(DEMO_SPEECH), self.seconds, self.paced)


def make_plan(settings: Settings, request: BenchRequest, cores: int) -> Plan:
    """Decide what to measure. cores: processors this process may use. Raises RvcdError with the first thing that is wrong."""
    _check_modes(request)
    threads = _threads(settings, request, cores)
    precision = _one_of("precision", request.precision or settings.engine.precision, PRECISIONS)
    context = _one_of("context", request.context or settings.engine.context, CONTEXTS)
    f0_method = _one_of("F0 method", request.f0_method or settings.engine.f0_method, F0_METHODS)
    _check_range("--seconds", request.seconds, MIN_SECONDS, MAX_SECONDS)
    if request.soak_minutes is not None:
        _check_range("--soak", request.soak_minutes, MIN_SOAK_MINUTES, MAX_SOAK_MINUTES)
    encoder, voice, notes = _models(settings, request)
    spec = read_voice_spec(voice.path) if voice is not None else None
    rate_hz = SYNTHETIC_RATE_HZ if spec is None else spec.rate_hz
    if request.mode is Mode.SWEEP:
        cases = _sweep(threads, cores, rate_hz, context, synthetic=voice is None)
    else:
        cases = tuple(replace(case, context=context) for case in _chosen(settings, request, threads, rate_hz))
    for case in cases:
        case.geometry(settings)
    index = voice.index if voice is not None else request.index
    if index and (request.index or spec is None):
        read_index_header(index)
    elif index and voice is not None and spec is not None:
        try:
            read_fitting_index_header(index, spec.unit_width)
        except ModelFileError as error:  # optional, as for the daemon: what is measured has none
            notes, index = (*notes, f"{voice.name} {without_index(error)}"), ""
            voice = structs.replace(voice, index="")
    return Plan(
        request.mode, cases, settings, encoder, voice, index, f0_method, precision, request.seconds, request.paced,
        request.soak_minutes or 0.0, notes,
    )  # fmt: skip


def usable_cores() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0))


# ---- what is wrong with a request


def _check_modes(request: BenchRequest) -> None:
    given = {
        "--soak": request.soak_minutes is not None,
        "--compare-recompute": request.compare_recompute,
        "--sweep": request.sweep,
    }
    chosen = [name for name, on in given.items() if on]
    if len(chosen) > 1:
        raise ParamError(f"{chosen[0]} and {chosen[1]} measure different things; run them one after the other")
    if request.sweep and (request.presets or request.free_ms):
        raise ParamError("--sweep chooses its own blocks and contexts; leave out --preset and the lengths in milliseconds")
    if len(request.presets) > 1 and (request.free_ms or request.soak_minutes is not None):
        what = "--soak" if request.soak_minutes is not None else "a free combination of lengths"
        raise ParamError(f"{what} takes one --preset at most, not {len(request.presets)}")
    for name in request.presets:
        _one_of("preset", name, tuple(LATENCY_PRESETS))


def _one_of(what: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ParamError(f"'{value}' is no {what}; it takes {', '.join(known)}{did_you_mean(value, known)}")
    return value


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise ParamError(f"{name} {value:g} is out of range; it takes {low:g}..{high:g}")


def _threads(settings: Settings, request: BenchRequest, cores: int) -> int:
    """Return the number asked for, 0 for the worker's own choice."""
    if request.threads is not None:
        name, threads = "--threads", request.threads
    else:
        name, threads = "engine.threads =", settings.engine.threads
    if threads < 0:
        raise ParamError(f"{name} {threads} is out of range; it takes 1..{cores}, or 0 to measure which number is faster")
    if threads > cores:
        raise ParamError(
            f"{name} {threads} is more than the {cores} core{'s' * (cores > 1)} this machine gives; "
            f"it takes 1..{cores}, or 0 to measure which number is faster"
        )
    return threads


# ---- which files


def _models(settings: Settings, request: BenchRequest) -> tuple[str, VoiceFiles | None, tuple[str, ...]]:
    """Return the encoder's path ("": random weights), the voice (None: random weights), and what the user should know."""
    encoder = "" if request.synthetic else settings.models.real_encoder
    own = not encoder and settings.models.content_encoder != TEST_WEIGHTS
    if own and not (request.synthetic or request.voice or request.index):
        return str(BUILT_IN_ENCODER), _own_voice(settings, request), (SMALL_VOICE,)
    if encoder and not Path(encoder).exists():
        raise ParamError(
            f"models.content_encoder: {encoder} does not exist; `rvcd assets fetch` gets one, --synthetic measures without it"
        )
    for option, path in (("--voice", request.voice if names_voice_file(request.voice) else ""), ("--index", request.index)):
        if path and not Path(path).is_file():
            raise ParamError(f"{option} {path}: {'is no file' if Path(path).exists() else 'does not exist; check the path'}")
    if encoder:
        voice = _own_voice(settings, request)
        return voice.encoder or encoder, voice, (SMALL_VOICE,) if Path(voice.path).parent == BUILT_IN_FOLDER else ()
    notes: tuple[str, ...] = ()
    if not request.synthetic:
        notes = (
            "there is no content encoder but rvcd's own small ones, which are no measure of it: "
            "measuring random weights of the published sizes, as --synthetic does",
        )
    if request.voice and not names_voice_file(request.voice):
        raise ParamError(
            f"--voice {request.voice} is looked for once there is a content encoder (`rvcd assets fetch`); "
            "without one, name a .pth file"
        )
    random = VoiceFiles(Path(request.voice).stem, request.voice, request.index) if request.voice else None
    return "", random, notes


def _own_voice(settings: Settings, request: BenchRequest) -> VoiceFiles:
    found = named_voice(settings, request.voice, request.index)
    if found is None:
        folders = ", ".join(settings.voices.folders) or "any folder: voices.folders is empty"
        raise ParamError(f"there is no voice (*.pth) in {folders}; name one with --voice FILE.pth, or use --synthetic")
    return voice_files(settings, found)


# ---- which sizes


def _chosen(settings: Settings, request: BenchRequest, threads: int, rate_hz: int) -> tuple[Case, ...]:
    if request.free_ms:
        preset = request.presets[0] if request.presets else settings.latency.named
        return (Case("custom", _free(LATENCY_PRESETS[preset], request.free_ms), threads, rate_hz),)
    configured = settings.latency.budget()
    named = {name: LATENCY_PRESETS[name] for name in request.presets}
    if not named and request.mode is Mode.SOAK:
        named = {_name_of(configured): configured}
    elif not named and request.mode is Mode.COMPARE:
        named = {name: LATENCY_PRESETS[name] for name in COMPARED_PRESETS}
    elif not named:
        named = {**LATENCY_PRESETS, _name_of(configured): configured}
    return tuple(Case(name, budget, threads, rate_hz) for name, budget in named.items())


def _name_of(budget: LatencyBudget) -> str:
    return next((name for name, preset in LATENCY_PRESETS.items() if preset == budget), "configured")


def _free(preset: LatencyBudget, given: Mapping[str, int]) -> LatencyBudget:
    """Return the preset with its parts replaced.

    Another block keeps the preset's ratio of deadline to block.
    """
    budget = replace(preset, **given)
    if "deadline_ms" not in given:
        budget = replace(budget, deadline_ms=max(1, round(budget.block_ms * preset.deadline_ms / preset.block_ms)))
    return budget


def _sweep(threads: int, cores: int, rate_hz: int, context: str, *, synthetic: bool) -> tuple[Case, ...]:
    """One axis at a time around one base, which belongs to every axis and is measured once."""
    base = Case("base", SWEEP_BUDGET, threads or cores, rate_hz, context=context)
    variants: list[tuple[str, Case]] = []
    for block_ms in SWEEP_BLOCKS_MS:
        budget = replace(SWEEP_BUDGET, block_ms=block_ms, deadline_ms=round(SWEEP_DEADLINE_SHARE * block_ms))
        variants.append(("block", replace(base, budget=budget)))
    for context_ms in SWEEP_CONTEXTS_MS:
        for way in CONTEXTS:
            variants.append(("context", replace(base, context=way, budget=replace(SWEEP_BUDGET, context_ms=context_ms))))
    for count in sorted({1, min(2, cores), cores}):
        variants.append(("threads", replace(base, threads=count)))
    for voice_rate_hz in SWEEP_RATES_HZ if synthetic else (rate_hz,):
        variants.append(("rate", replace(base, voice_rate_hz=voice_rate_hz)))
    axes: dict[Case, tuple[str, ...]] = {}
    for axis, case in variants:
        axes[case] = (*axes.get(case, ()), axis)
    return tuple(replace(case, name=_describe(case), axes=named) for case, named in axes.items())


def _describe(case: Case) -> str:
    budget = case.budget
    return f"{budget.block_ms} ms, {budget.context_ms} ms, {case.context}, {case.threads}, {case.voice_rate_hz} Hz"
