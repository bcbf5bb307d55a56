"""Loads what the daemon's worker would load, piece by piece, and converts a second of noise: for `rvcd check`.

A program: the request is one JSON object on standard input, each finding one JSON list (level, topic, text) on standard output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from rvcd.config.settings import load_config
from rvcd.config.sizes import geometry_of
from rvcd.engine.loader import Loader
from rvcd.errors import RvcdError
from rvcd.nets.tiled_conv import instruction_set_name
from rvcd.params import ParamStore
from rvcd.voices.configured import first_voice, model_setup, scan_voices, voice_files

CONVERTED_S = 1.0
NOISE_RMS = 0.05

Said = tuple[str, str, str]
"""Level (ok, note, fail), topic, sentence."""


def tried(request: Mapping[str, str]) -> Iterator[Said]:
    """Yield what is found. request: config (a path), and what the daemon would resume, "" as configured.

    voice, f0_method, latency_preset. Ends at the first thing that would end in no voice.
    """
    settings = load_config(Path(request["config"]))
    setup = model_setup(settings)
    if setup.threads:
        torch.set_num_threads(setup.threads)
    geometry = geometry_of(settings, request["latency_preset"])
    notes: list[str] = []
    loader, started = Loader(setup, geometry, warn=notes.append), time.perf_counter()
    topic = "voice"
    try:
        entry = first_voice(settings, scan_voices(settings), request["voice"])
        files = voice_files(settings, entry) if entry is not None else None
        topic = "models"
        if files is None or not files.problem:
            loader.encoder(files.encoder if files is not None else "")
        topic = "pitch"
        method = loader.pitch_method(request["f0_method"] or settings.engine.f0_method)
        topic = "voice"
        if entry is None or files is None:
            return
        voice = loader.voice(files)
        yield from (("note", "voice", note) for note in notes)
        notes.clear()
        snapshot = ParamStore({**settings.initial_params(), **entry.params, "gate": -90.0}).snapshot()
        converter = loader.converter(voice, method, snapshot, speaker=entry.speaker, gain_db=entry.gain_db)
    except RvcdError as error:
        yield "fail", topic, str(error)
        return
    yield from (("fail", "denoiser", note) for note in notes)
    loaded_s = time.perf_counter() - started
    noise = np.random.default_rng(0).standard_normal(geometry.block_samples).astype(np.float32) * np.float32(NOISE_RMS)
    for _ in range(max(1, round(CONVERTED_S * geometry.rate_hz / geometry.block_samples))):
        if not np.isfinite(converter.process(noise, snapshot).audio).all():
            yield "fail", "voice", f"{entry.path}: makes samples that are no number; download it again"
            return
    yield kernels_said(instruction_set_name())
    yield "ok", "trial", f"everything was loaded in {loaded_s:.1f} s, and {entry.name} converts"


def kernels_said(name: str) -> Said:
    """Say which kernels compute the networks on the CPU."""
    if name == "baseline":
        return (
            "note",
            "kernels",
            "torch's: rvcd's own need AVX2, which is not here or not wanted (RVCD_CPU)",
        )
    return "ok", "kernels", f"rvcd's own, with {name}"


def main() -> None:
    """Answer the request on standard input."""
    for said in tried(json.load(sys.stdin)):
        print(json.dumps(said), flush=True)
