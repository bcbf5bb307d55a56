"""Counts late blocks with and without voice changes: a minute of speech each, live, on this machine.

    .venv/bin/python tools/measure_voice_changes.py [--full-size] [--seconds 60] [--changes 20] [--preset balanced]

The real worker behind the real-time virtual device, with rvcd's test voices or with full-size random weights (0.7 GB in
TMPDIR). The two stretches alternate in pieces of six seconds, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

from rvcd.audio.configured import DEMO_SPEECH
from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from rvcd.bench.synthetic import write_synthetic
from rvcd.config.settings import LATENCY_PRESETS
from rvcd.daemon.stream import Stream
from rvcd.daemon.switches import Switches, TalkKey
from rvcd.daemon.worker import WorkerState
from rvcd.geometry import StreamGeometry
from rvcd.ipc.messages import ModelSetup, VoiceFiles, Wanted
from rvcd.ipc.segment import AudioSegment
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.params import PARAMS

RATE_HZ = 48000
PIECE_S = 6.0


def requests(folder: Path, full_size: bool) -> tuple[str, list[VoiceFiles]]:
    """Return the content encoder's path and two voices."""
    if not full_size:
        test = ensure_test_weights(folder)
        return str(test.encoder), [
            VoiceFiles("one", str(test.voice_v2), str(test.index_v2)), VoiceFiles("two", str(test.voice_v1)),
        ]  # fmt: skip
    one, two = write_synthetic(folder), write_synthetic(folder, seed=1)
    return str(one.encoder), [
        VoiceFiles("one", str(one.voice), str(one.index)), VoiceFiles("two", str(two.voice), str(two.index)),
    ]  # fmt: skip


def late(stream: Stream) -> tuple[int, int]:
    """Return (blocks, late blocks) so far."""
    stats = stream.worker.stats
    return int(stats.blocks + stats.skipped_blocks), int(stats.late_blocks)


async def measure(options: argparse.Namespace, folder: Path) -> None:
    encoder, voices = requests(folder, options.full_size)
    budget = LATENCY_PRESETS[options.preset]
    geometry = StreamGeometry.from_ms(rate_hz=RATE_HZ, **dataclasses.asdict(budget))
    models = ModelSetup(encoder=encoder, precision="auto", threads=options.threads)
    segment = AudioSegment.create(RATE_HZ)
    segment.publish_params([-90.0 if param.name == "gate" else param.default for param in PARAMS])
    loop = asyncio.get_running_loop()
    switches = Switches(segment, "off", TalkKey(loop.call_later, lambda: None))
    stream = Stream(segment, models, {options.preset: geometry}, Wanted(voices[0], 0, "swift", options.preset), switches)
    device = VirtualDevice(VirtualRequest(str(DEMO_SPEECH), loop=True, rate_hz=RATE_HZ, period_samples=256), segment)
    device.open()
    device.start()
    stream.start()
    while stream.worker.state is not WorkerState.RUNNING:
        await asyncio.sleep(0.2)
    began = time.monotonic()
    before = late(stream)
    await stream.want("voice", voices[1])
    print(f"first change, files read: {time.monotonic() - began:.2f} s, late blocks {late(stream)[1] - before[1]}")
    await asyncio.sleep(3.0)
    pieces = max(1, round(options.seconds / PIECE_S))
    counts = {"quiet": [0, 0], "changing": [0, 0]}
    took_s: list[float] = []
    number = 0
    for piece in range(2 * pieces):
        kind = ("quiet", "changing")[piece % 2]
        start, until = late(stream), time.monotonic() + PIECE_S
        wanted = round(options.changes * (piece // 2 + 1) / pieces) if kind == "changing" else number
        while number < wanted:
            began = time.monotonic()
            await stream.want("voice", voices[number % 2])
            took_s.append(time.monotonic() - began)
            number += 1
            await asyncio.sleep(max(0.0, (until - time.monotonic()) / (wanted - number + 1)))
        await asyncio.sleep(max(0.0, until - time.monotonic()))
        end = late(stream)
        counts[kind][0] += end[0] - start[0]
        counts[kind][1] += end[1] - start[1]
    for kind, (blocks, late_blocks) in counts.items():
        print(f"{kind:<9} {blocks} blocks, {late_blocks} late")
    print(f"{number} changes: median {1000 * statistics.median(took_s):.0f} ms until live, slowest {1000 * max(took_s):.0f} ms")
    device.close()
    await stream.stop()
    segment.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full-size", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--preset", choices=LATENCY_PRESETS, default="balanced")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options, Path(folder)))


if __name__ == "__main__":
    main()
