"""Say which phone is spoken when in transcribed speech, with PocketSphinx's English model (in its wheel).

    align_phones.py MANIFEST OUT --corpora librispeech-train-clean-5 librispeech-test-clean

MANIFEST: tab-separated with a header: path (beside it), corpus, speaker, seconds, transcript. For each clip OUT/CORPUS/NAME.npz:
audio (samples,) int16 at 16 kHz, frames (N,) int8 classes of phones.py every 10 ms, said (M,) int8 phones in order, speaker, sure
(False where a pronunciation was guessed). Clips that are there already are left alone; short ones come first. With --words the
phones are only looked up, many times as fast: the frames are unknown;
clips with a word that the dictionary lacks are left out.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pocketsphinx
import soundfile
import soxr
from numpy.typing import NDArray
from phones import CLASS_OF, SILENCE, UNKNOWN

RATE_HZ = 16_000
FRAME_SAMPLES = 160
GUESSES = {
    "ch": "CH", "sh": "SH", "th": "TH", "ph": "F", "ng": "NG", "ck": "K", "qu": "K W", "ee": "IY", "ea": "IY", "oo": "UW",
    "ou": "AW", "ow": "OW", "ai": "EY", "ay": "EY", "oi": "OY", "oy": "OY", "au": "AO", "aw": "AO", "er": "ER", "ie": "IY",
    "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH", "k": "K", "l": "L",
    "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T", "u": "AH", "v": "V", "w": "W", "x": "K S",
    "y": "IY", "z": "Z",
}  # fmt: skip
"""What letters usually say: for words that the dictionary does not have."""


@dataclass
class Aligned:
    frames: NDArray[np.int8]
    said: NDArray[np.int8]
    sure: bool


def guess(word: str) -> str:
    phones, at = [], 0
    while at < len(word):
        size = 2 if word[at : at + 2] in GUESSES else 1
        if word[at : at + size] in GUESSES:
            phones.append(GUESSES[word[at : at + size]])
        at += size
    return " ".join(phones)


class Aligner:
    def __init__(self) -> None:
        self.guessed: set[str] = set()
        self._start()

    def _start(self) -> None:
        self._failed = 0
        self._decoder = pocketsphinx.Decoder(loglevel="FATAL", beam=1e-60, wbeam=1e-40)

    def __call__(self, audio: NDArray[np.int16], text: str) -> Aligned | None:
        """None where the transcript does not fit."""
        words = [word for word in text.lower().split() if guess(word)]
        for word in words:
            if self._decoder.lookup_word(word) is None:
                self._decoder.add_word(word, guess(word), True)
                self.guessed.add(word)
        try:
            self._decoder.set_align_text(" ".join(words))
            self._hear(audio)
            self._decoder.set_alignment()  # of phones within the words just found
            self._hear(audio)
        except RuntimeError:
            self._failed += 1
            if self._failed > 2:  # it may be stuck in the middle of an utterance; loading it anew takes more than a second
                self._start()
            return None
        self._failed = 0
        frames = np.zeros(len(audio) // FRAME_SAMPLES, np.int8)
        said: list[int] = []
        for word in self._decoder.get_alignment():
            plain = word.name.split("(")[0]
            for phone in word:
                number = CLASS_OF.get(phone.name, SILENCE)
                frames[phone.start : phone.start + phone.duration] = UNKNOWN if plain in self.guessed else number
                if number != SILENCE:
                    said.append(number)
        return Aligned(frames, np.array(said, np.int8), not self.guessed.intersection(words))

    def look_up(self, audio: NDArray[np.int16], text: str) -> Aligned | None:
        """As if aligned, without saying when; None where a word is not in the dictionary."""
        said = [self._decoder.lookup_word(word) for word in text.lower().split()]
        if not all(said):
            return None
        phones = [CLASS_OF[phone] for word in said for phone in word.split()]
        return Aligned(np.full(len(audio) // FRAME_SAMPLES, UNKNOWN, np.int8), np.array(phones, np.int8), True)

    def _hear(self, audio: NDArray[np.int16]) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(audio.tobytes(), full_utt=True)
        self._decoder.end_utt()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpora", nargs="+", required=True)
    parser.add_argument("--speakers", nargs="+", help="only of these, as the manifest names them")
    parser.add_argument("--part", default="0/1", help="K/N: every N-th clip from the K-th on, for one process a core")
    parser.add_argument("--shortest-s", type=float, default=0.0)
    parser.add_argument("--longest-s", type=float, default=20.0)
    parser.add_argument("--words", action="store_true", help="look the phones up, and leave open when they are said")
    args = parser.parse_args()
    part, parts = map(int, args.part.split("/"))
    with args.manifest.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if row["corpus"] in args.corpora]
    if args.speakers:
        rows = [row for row in rows if row["speaker"] in args.speakers]
    rows = [row for row in rows if args.shortest_s <= float(row["seconds"]) <= args.longest_s]
    rows = sorted(rows, key=lambda row: (float(row["seconds"]), row["path"]))[part::parts]
    align, failed = Aligner(), 0
    for row in rows:
        out = args.out / row["corpus"] / f"{Path(row['path']).stem}.npz"
        if out.exists():
            continue
        audio, rate_hz = soundfile.read(args.manifest.parent / row["path"], dtype="int16")
        if rate_hz != RATE_HZ:
            audio = soxr.resample(audio, rate_hz, RATE_HZ)
        aligned = (align.look_up if args.words else align)(audio, row["transcript"])
        if aligned is None:
            failed += 1
            continue
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.with_suffix(".part").open("wb") as file:
            np.savez(file, audio=audio, speaker=row["speaker"], **vars(aligned))
        out.with_suffix(".part").replace(out)
    print(f"{len(rows)} clips, {failed} did not fit their transcript")


if __name__ == "__main__":
    main()
