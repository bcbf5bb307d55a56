"""Whether ONNX Runtime is ever faster than rvcd's own kernels: the same full-size random weights, call by call in turn.

    .venv/bin/python tools/measure_onnx.py [--threads 1 2] [--calls 9]

Needs the extra `onnx`. Prints a table in Markdown with medians in ms: of a voice behind its content encoder, and of the
encoder, for windows of 100 ms to 1 s. On rvcd's side it is the network as the engine packs it; both compute a window alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from rvcd.bench.synthetic import write_synthetic
from rvcd.engine.decoder import StreamingDecoder
from rvcd.engine.voice_stream import Voice
from rvcd.exporting.command import export_encoder, export_voice
from rvcd.exporting.networks import ExportedEncoder, ExportedVoice, Inputs
from rvcd.formats.voice_file import read_voice
from rvcd.nets.contentvec_file import load_content_encoder
from rvcd.nets.conv_ways import Ways
from rvcd.nets.synthesizer import build_synthesizer

WINDOWS_FRAMES = (10, 20, 50, 100)


def packed_voice(path: Path, frames: int) -> Callable[[Inputs], object]:
    """Return what converts units with the packed networks, as a stream's step of so many frames does."""
    file = read_voice(path)
    voice = Voice.of("voice", file.spec, build_synthesizer(file.spec.config, file.weights), ways=Ways(frames, None))
    synthesizer = voice.synthesizer
    speaker = synthesizer.speaker(0)
    decoder = StreamingDecoder(voice.decoder, speaker)  # type: ignore[arg-type]  # the synthetic voice is a HiFi-GAN

    @torch.inference_mode()
    def convert(inputs: Inputs) -> object:
        mean, log_std = synthesizer.enc_p(inputs["units"], torch.ones(inputs["f0_hz"].shape, dtype=torch.int64))
        z = synthesizer.flow(mean + torch.exp(log_std) * inputs["prior_noise"], speaker)
        source = torch.zeros(1, 1, frames * decoder.hop)
        return decoder.step(z, source, frames)

    return convert


def packed_encoder(path: Path, width: int) -> Callable[[Inputs], object]:
    encoder = load_content_encoder(path)
    encoder.pack(torch.float32)

    @torch.inference_mode()
    def convert(inputs: Inputs) -> object:
        return encoder.units(inputs["audio"], unit_width=width)

    return convert


def session(path: Path, threads: int) -> Callable[[Inputs], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or its idle threads take rvcd's turn
    opened = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: opened.run(None, {name: value.numpy() for name, value in inputs.items()})


def row(what: str, window: int, threads: int, ways: list[Callable[[Inputs], object]], inputs: Any, calls: int) -> str:
    """Call both in turn, so that both meet the same machine."""
    times_ms: list[list[float]] = [[] for _ in ways]
    for call in range(calls + 2):
        for way, times in zip(ways, times_ms, strict=True):
            started = time.perf_counter()
            way(inputs)
            if call >= 2:
                times.append(1000 * (time.perf_counter() - started))
    ours, theirs = (statistics.median(times) for times in times_ms)
    return f"| {what} | {10 * window} ms | {threads} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--calls", type=int, default=9)
    parser.add_argument("--models", type=Path, help="keep the models (1 GB) in this folder, for the next run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.models or Path(scratch)
        models = write_synthetic(folder)
        config = read_voice(models.voice).spec.config
        files = folder / "voice.onnx", folder / "encoder.onnx"
        if not files[0].exists():
            export_voice(models.voice, "synthetic", files[0])
        if not files[1].exists():
            export_encoder(models.encoder, config.unit_width, 0, files[1])
        plain = read_voice(models.voice)
        voice = ExportedVoice(build_synthesizer(config, plain.weights))
        encoder = ExportedEncoder(load_content_encoder(models.encoder), config.unit_width, 0)
        print("| network | window | threads | rvcd, ms | ONNX Runtime, ms | times |\n|---|--:|--:|--:|--:|--:|")
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            there = session(files[0], threads), session(files[1], threads)
            units = packed_encoder(models.encoder, config.unit_width)
            for frames in WINDOWS_FRAMES:
                ways = [packed_voice(models.voice, frames), there[0]]
                print(row("voice", frames, threads, ways, voice.example(frames, 0), arguments.calls), flush=True)
                audio = encoder.example(160 * frames + 80, 0)
                print(row("content encoder", frames, threads, [units, there[1]], audio, arguments.calls), flush=True)


if __name__ == "__main__":
    main()
