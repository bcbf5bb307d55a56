"""Write down what is said in a folder of speech: FOLDER -> JSON {file name: text}, by Whisper (CTranslate2).

transcribe.py MODEL FOLDER OUT.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import soundfile
import soxr
from faster_whisper import WhisperModel


def main() -> None:
    model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8", cpu_threads=1)
    texts = {}
    for path in sorted(Path(sys.argv[2]).iterdir()):
        audio, rate_hz = soundfile.read(path, dtype="float32")
        audio = soxr.resample(audio, rate_hz, 16000)
        texts[path.name] = " ".join(s.text.strip() for s in model.transcribe(audio, language="en", beam_size=3)[0])
        Path(sys.argv[3]).write_text(json.dumps(texts, indent=1))


if __name__ == "__main__":
    main()
