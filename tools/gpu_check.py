#!/usr/bin/env python3
"""Measures rvcd on a graphics card, by one command, within six minutes, without a network: `python3 tools/gpu_check.py`.

It tells parity with the processor, what a block takes with recorded graphs and without, in each precision, also beside a program
that keeps the card busy, memory, the start, and a verdict. --wheels FOLDER: install what is missing from there first (into a
virtual environment of its own). Each section is a process with a time limit: what one loses, no other does.

On a machine without a card: --device cpu --quick, with small random weights, to see that the script itself works.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Facts = dict[str, Any]
NEEDED = ("torch", "numpy", "faiss", "soundfile", "soxr", "safetensors", "msgspec", "pydantic", "cffi")
INSTALL_S = 120
PRECISIONS = ("bf16", "fp16", "fp32")
BLOCKS_MS = (40, 20, 60, 100, 140)
"""40: the preset low; 140: balanced."""
LOOKAHEAD_MS, CONTEXT_MS = 100, 1000
GOAL_BLOCK_MS, GOAL_MS = 40, 8.0
LEAST_PARITY_DB = {"fp32": 50.0, "bf16": 20.0, "fp16": 30.0}
"""How far what differs from the processor's float32 must lie below the voice."""


# ---- what a section measures; each runs in a process of its own and yields facts as soon as it has them


class Rig:
    """Models, loaded once for each precision."""

    def __init__(self, device: str, quick: bool, folder: Path) -> None:
        self.device, self.quick = device, quick
        if quick:
            from rvcd.nets.test_weights import ensure_test_weights

            small = ensure_test_weights(folder)
            self.encoder, self.voice, self.index = small.encoder, small.voice_v2, small.index_v2
        else:
            from rvcd.bench.synthetic import write_synthetic

            models = write_synthetic(folder)
            self.encoder, self.voice, self.index = models.encoder, models.voice, models.index

    def converter(self, precision: str, graphs: bool, block_ms: int = GOAL_BLOCK_MS, device: str = "") -> tuple[Any, list[str]]:
        """Return a warm converter, and what was said about graphs."""
        from rvcd.engine.loader import Loader
        from rvcd.geometry import StreamGeometry
        from rvcd.ipc.messages import ModelSetup, VoiceFiles
        from rvcd.worker.warm_up import warm_up

        setup = ModelSetup(
            str(self.encoder), device=device or self.device, precision=precision, cuda_graphs="auto" if graphs else "off"
        )
        geometry = StreamGeometry.from_ms(
            rate_hz=48000, block_ms=block_ms, lookahead_ms=LOOKAHEAD_MS, deadline_ms=block_ms, context_ms=CONTEXT_MS
        )
        lines: list[str] = []
        loader = Loader(setup, geometry, lines.append)
        voice = loader.voice(VoiceFiles("voice", str(self.voice), str(self.index)))
        converter = loader.converter(voice, loader.pitch_method("swift"), _measured())
        warm_up(converter)
        return converter, lines


def _measured() -> Any:
    from rvcd.params import Snapshot

    return Snapshot(gate=-90.0, index_rate=0.5)


def _speech(seconds: float) -> Any:
    from rvcd.bench.measure import speech

    return speech(str(ROOT / "rvcd" / "data" / "demo_speech.flac"), 48000)[: round(48000 * seconds)]


def _convert(converter: Any, seconds: float, pace_s: float = 0.0) -> tuple[Any, list[Any]]:
    """Return the samples, and the timings of the blocks that were heard."""
    import numpy as np

    audio, size, made, timings = _speech(seconds), converter.geometry.block_samples, [], []
    due_s = time.monotonic()
    for start in range(0, len(audio) - size + 1, size):
        due_s = max(due_s + pace_s, time.monotonic())
        time.sleep(max(0.0, due_s - time.monotonic()))
        block = converter.process(audio[start : start + size], _measured())
        made.append(block.audio)
        if not block.silent:
            timings.append(block.timings)
    return np.concatenate(made), timings


def _spread(values: list[float]) -> Facts:
    import numpy as np

    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (50, 95, 99)} | {"max": round(max(values), 3)}


def _is_gpu(rig: Rig) -> bool:
    return rig.device != "cpu"


def section_machine(rig: Rig) -> Iterator[Facts]:
    """What there is."""
    import torch

    yield {"torch": torch.__version__, "cuda": torch.version.cuda, "cores": len(os.sched_getaffinity(0)), "device": rig.device}
    if _is_gpu(rig):
        found = torch.cuda.get_device_properties(rig.device)
        yield {"name": found.name, "memory_mb": round(found.total_memory / 1e6), "capability": f"{found.major}.{found.minor}"}


def section_start(rig: Rig) -> Iterator[Facts]:
    """From an empty process to the first block, and what it holds then."""
    import torch

    for graphs in (True, False) if _is_gpu(rig) else (False,):
        started = time.monotonic()
        converter, lines = rig.converter("auto", graphs)
        converter.process(_speech(1.0)[: converter.geometry.block_samples], _measured())
        facts: Facts = {"graphs": graphs, "ready_s": round(time.monotonic() - started, 2), "said": lines}
        if _is_gpu(rig):
            facts["gpu_peak_mb"] = round(torch.cuda.max_memory_allocated(rig.device) / 1e6)
            facts["gpu_reserved_mb"] = round(torch.cuda.memory_reserved(rig.device) / 1e6)
        yield facts


def section_parity(rig: Rig) -> Iterator[Facts]:
    """How far the device's samples are from the processor's in float32."""
    import numpy as np

    seconds = 2.0 if rig.quick else 4.0
    expected, _ = _convert(rig.converter("fp32", False, device="cpu")[0], seconds)
    for precision in PRECISIONS:
        for graphs in (True, False) if _is_gpu(rig) else (False,):
            with told(precision=precision, graphs=graphs) as facts:
                found, _ = _convert(rig.converter(precision, graphs)[0], seconds)
                error = float(np.square(found - expected, dtype=np.float64).sum())
                power = float(np.square(expected, dtype=np.float64).sum())
                facts["apart_db"] = round(10 * float(np.log10(power / error)), 1) if error else 999.0
                facts["largest"] = float(np.abs(found - expected).max())
            yield facts


def section_blocks(rig: Rig) -> Iterator[Facts]:
    """What a block takes; what matters most comes first."""
    lengths = BLOCKS_MS[:1] if rig.quick else BLOCKS_MS
    for block_ms in lengths:
        for precision in PRECISIONS:
            for graphs in (True, False) if _is_gpu(rig) else (False,):
                with told(block_ms=block_ms, precision=precision, graphs=graphs) as facts:
                    converter, lines = rig.converter(precision, graphs, block_ms)
                    facts.update(_block_times(converter, 1.0 if rig.quick else 0.12 * block_ms), said=lines)
                yield facts


def section_busy(rig: Rig) -> Iterator[Facts]:
    """The same beside another program that multiplies matrices on the card without a pause."""
    busy = subprocess.Popen([sys.executable, __file__, "--keep-busy", rig.device])
    try:
        time.sleep(1 if rig.quick else 6)
        for graphs in (True, False) if _is_gpu(rig) else (False,):
            with told(block_ms=GOAL_BLOCK_MS, precision="auto", graphs=graphs) as facts:
                converter, lines = rig.converter("auto", graphs)
                facts.update(_block_times(converter, 1.0 if rig.quick else 8.0, paced=True), said=lines)
            yield facts
    finally:
        busy.kill()
        busy.wait()


def _block_times(converter: Any, seconds: float, *, paced: bool = False) -> Facts:
    block_s = converter.geometry.block_samples / 48000
    _, timings = _convert(converter, max(seconds, 12 * block_s), block_s if paced else 0.0)
    stages = ("encode", "pitch", "pitch_own", "retrieval", "prior", "decode", "resample", "other")
    return {
        "blocks": len(timings),
        "total_ms": _spread([timing.total_ms for timing in timings]),
        "median_ms": {stage: _spread([getattr(timing, f"{stage}_ms") for timing in timings])["p50"] for stage in stages},
    }


@contextlib.contextmanager
def told(**what: Any) -> Iterator[Facts]:
    """Facts about one case; an error in it is one of them."""
    facts: Facts = dict(what)
    try:
        yield facts
    except Exception as error:
        facts["error"] = f"{type(error).__name__}: {error}"


def keep_busy(device: str) -> None:
    """Multiply matrices until killed."""
    import torch

    size = 256 if device == "cpu" else 8192
    torch.set_num_threads(1)
    matrix = torch.randn(size, size, device=device)
    while True:
        matrix = matrix @ matrix
        matrix /= matrix.abs().max().clamp_min(1e-6)


SECTIONS: dict[str, tuple[Callable[[Rig], Iterator[Facts]], int]] = {
    "machine": (section_machine, 30),
    "start": (section_start, 50),
    "parity": (section_parity, 80),
    "blocks": (section_blocks, 130),
    "busy": (section_busy, 50),
}
"""What is measured, and the most seconds that it may take: 340 in all."""


def measure(name: str, device: str, quick: bool, folder: Path) -> int:
    """Run one section in this process and print its facts, one line of JSON each."""
    sys.path.insert(0, str(ROOT))
    try:
        for facts in SECTIONS[name][0](Rig(device, quick, folder)):
            print(json.dumps(facts), flush=True)
    except Exception:
        print(json.dumps({"error": traceback.format_exc(limit=-3)}), flush=True)
        return 1
    return 0


# ---- the sections, one after the other


def run_section(command: list[str], limit_s: float) -> list[Facts]:
    """Run a section and return its facts: those that it had when its time was over, or when it died."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    overdue = threading.Event()

    def end() -> None:
        overdue.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    timer = threading.Timer(limit_s, end)
    timer.start()
    try:
        out, err = child.communicate()
    finally:
        timer.cancel()
    facts: list[Facts] = []
    for line in out.splitlines():
        with contextlib.suppress(ValueError):
            facts.append(json.loads(line))
    if overdue.is_set():
        facts.append({"error": f"ended after {limit_s:g} s, its time limit"})
    elif child.returncode and not any("error" in fact for fact in facts):
        facts.append({"error": f"ended with status {child.returncode}: {err.strip()[-300:]}"})
    return facts


def verdict(results: dict[str, list[Facts]]) -> list[str]:
    """Return what the figures say, one sentence a line."""
    said: list[str] = []
    for fact in results.get("parity", []):
        if "apart_db" in fact:
            enough = fact["apart_db"] >= LEAST_PARITY_DB[fact["precision"]]
            said.append(
                f"parity {_case(fact)}: {fact['apart_db']} dB, {'as expected' if enough else 'TOO FAR from the processor'}"
            )
    timed = [fact for fact in results.get("blocks", []) if "total_ms" in fact]
    at_goal = [fact for fact in timed if fact["block_ms"] == GOAL_BLOCK_MS]
    if at_goal:
        best = min(at_goal, key=lambda fact: fact["total_ms"]["p99"])
        reached = best["total_ms"]["p99"] < GOAL_MS
        taken = best["total_ms"]
        said.append(
            f"a block of {GOAL_BLOCK_MS} ms takes {taken['p50']} ms, p99 {taken['p99']} ms ({_case(best)}): "
            f"the goal of {GOAL_MS:g} ms is {'reached' if reached else 'MISSED'}"
        )
    for fact in results.get("busy", []):
        if "total_ms" in fact:
            held = fact["total_ms"]["p99"] < fact["block_ms"]
            said.append(
                f"beside a busy program ({_case(fact)}): p99 {fact['total_ms']['p99']} ms, {'in time' if held else 'TOO LATE'}"
            )
    fast = [fact["block_ms"] for fact in timed if fact["total_ms"]["p99"] < 0.6 * fact["block_ms"]]
    if fast:
        said.append(f"shortest block that leaves 40 % of its time: {min(fast)} ms")
    errors = sum("error" in fact for facts in results.values() for fact in facts)
    said.append(f"{errors} of the cases failed" if errors else "no case failed")
    return said


def _case(fact: Facts) -> str:
    return f"{fact['precision']}, {'graphs' if fact['graphs'] else 'eager'}"


def as_text(results: dict[str, list[Facts]], said: list[str]) -> str:
    lines: list[str] = []
    for name, facts in results.items():
        lines.append(f"== {name}")
        lines += ["  " + "  ".join(f"{key}={_short(value)}" for key, value in fact.items() if value != []) for fact in facts]
    return "\n".join([*lines, "== verdict", *(f"  {sentence}" for sentence in said)]) + "\n"


def _short(value: object) -> str:
    return "/".join(f"{key}:{part}" for key, part in value.items()) if isinstance(value, dict) else str(value)


# ---- a bare machine


def python_with(wheels: Path | None, folder: Path) -> str:
    """Return a Python that has what rvcd needs, installed from a folder of wheels where this one lacks it.

    Raises SystemExit with a sentence.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if not missing:
        return sys.executable
    if wheels is None:
        raise SystemExit(f"gpu_check: this Python lacks {', '.join(missing)}; name a folder of wheels with --wheels")
    if not any(wheels.glob("*.whl")):
        raise SystemExit(f"gpu_check: --wheels {wheels}: there is no wheel (*.whl) in it")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(folder / "venv")], check=True)
    install = [str(python), "-m", "pip", "install", "-q", "--no-index", "--find-links", str(wheels), "rvcd"]
    try:
        subprocess.run(install, check=True, timeout=INSTALL_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"gpu_check: the wheels of {wheels} could not be installed: {error}") from None
    return str(python)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:NUMBER or cpu")
    parser.add_argument("--quick", action="store_true", help="small random weights and few blocks")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels for a machine that lacks them")
    parser.add_argument("--out", type=Path, help="write gpu_check.json and gpu_check.txt into this folder")
    parser.add_argument("--models", type=Path, help="a folder for the random models (0.5 GB), kept for another run")
    parser.add_argument("--section", choices=list(SECTIONS), help=argparse.SUPPRESS)
    parser.add_argument("--keep-busy", metavar="DEVICE", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.keep_busy:
        keep_busy(asked.keep_busy)
    if asked.section:
        return measure(asked.section, asked.device, asked.quick, asked.models)
    with tempfile.TemporaryDirectory(prefix="gpu_check-") as scratch:
        models = asked.models or Path(scratch)
        python, results = python_with(asked.wheels, Path(scratch)), dict[str, list[Facts]]()
        for name, (_, limit_s) in SECTIONS.items():
            command = [python, __file__, "--section", name, "--device", asked.device, "--models", str(models)]
            started = time.monotonic()
            results[name] = run_section([*command, *(["--quick"] if asked.quick else [])], limit_s)
            print(f"{name}: {time.monotonic() - started:.0f} s, {len(results[name])} results", file=sys.stderr, flush=True)
    said = verdict(results)
    text = as_text(results, said)
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "gpu_check.json").write_text(json.dumps({"results": results, "verdict": said}, indent=1) + "\n")
        (asked.out / "gpu_check.txt").write_text(text)
    print(text, end="")
    failed = [name for name, facts in results.items() if all("error" in fact for fact in facts)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
