"""Make rvcd/data/demo_speech.flac: two synthetic speakers taking turns, with pauses, about 20 s, 16 kHz mono.

Needs the command `flite` (Debian package flite) and this project's own environment. The text below was written for rvcd;
NOTICE has the synthesiser's licence. Run: .venv/bin/python tools/make_demo_speech.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16_000
PEAK = 0.5
"""About -6 dBFS: the level of a speaker who sits at the microphone."""
KEPT_BITS = 13
"""flite's noise floor lies above the lowest bits of 16; rounding them away makes the FLAC a third smaller."""
TURNS: tuple[tuple[str, str, float], ...] = (
    ("slt", "Hello, this is the demo voice. Nobody plugged in a microphone, so I will talk instead.", 0.7),
    ("rms", "Good idea. I will join you, because a deeper voice shows what the pitch control really does.", 0.6),
    ("slt", "Now listen: whisper, shout, sizzle, and a long vowel. Aaah.", 0.9),
    ("rms", "Six thick thistle sticks. Then a pause, and we begin again.", 1.2),
)
"""(flite voice, text, silence after it in seconds)."""


def speak(voice: str, text: str, folder: Path) -> np.ndarray:
    """Return flite's samples: float64, shape (samples,), peak at PEAK. Raises CalledProcessError when flite fails."""
    wav = folder / "turn.wav"
    subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(wav)], check=True)
    samples, rate_hz = soundfile.read(wav)
    if rate_hz != RATE_HZ:
        raise SystemExit(f"flite's voice {voice} speaks at {rate_hz} Hz, not {RATE_HZ}")
    return np.asarray(samples) * (PEAK / np.abs(samples).max())


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "rvcd" / "data" / "demo_speech.flac"
    parts: list[np.ndarray] = []
    with tempfile.TemporaryDirectory() as folder:
        for voice, text, pause_s in TURNS:
            parts += [speak(voice, text, Path(folder)), np.zeros(round(pause_s * RATE_HZ))]
    scale = 2 ** (KEPT_BITS - 1)
    speech = np.round(np.concatenate(parts) * scale) / scale
    soundfile.write(target, speech, RATE_HZ, subtype="PCM_16", format="FLAC", compression_level=1.0)
    print(f"{target}: {len(speech) / RATE_HZ:.1f} s, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
