"""The findings as one page of HTML with spectrograms: complete in itself, nothing is fetched and no script runs."""

from __future__ import annotations

import base64
import html
import os
import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rvcd.errors import AudioFileError
from rvcd.evaluation.measures import RATE_HZ, FloatArray
from rvcd.evaluation.objective import HOP_SAMPLES, mel_spectrum_db

WIDEST_PIXELS = 1000
BAND_PIXELS = 3
"""Height of a mel band."""
LOWEST_DB, HIGHEST_DB = -80.0, 0.0
COLOURS = ((0, 0, 4), (58, 9, 99), (150, 37, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))
"""From quiet to loud, straight lines between them."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 13px }
th, td { padding: .2em .6em; text-align: right } th:first-child, td:first-child { text-align: left }
tr:nth-child(even) td { background: #f4f4f4 } img { max-width: 100%; display: block }
figure { margin: 1em 0 } figcaption { font-size: 13px }
"""


@dataclass(frozen=True)
class Picture:
    """A clip's spectrograms, as PNG files."""

    name: str
    seconds: float
    source_png: bytes
    made_png: bytes

    @classmethod
    def of(cls, name: str, source: FloatArray, made: FloatArray) -> Picture:
        """Draw them. source, made: at 16 kHz."""
        return cls(name, len(source) / RATE_HZ, png(spectrogram(source)), png(spectrogram(made)))


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_page(path: Path, title: str, lines: Sequence[str], tables: Sequence[Table], pictures: Sequence[Picture]) -> None:
    """Write the page, whole or not at all. Raises AudioFileError where it cannot be written."""
    text = page(title, lines, tables, pictures)
    name = ""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            os.fchmod(descriptor, 0o644)
            file.write(text)
        os.replace(name, path)
    except OSError as error:
        if name:
            Path(name).unlink(missing_ok=True)
        raise AudioFileError(
            f"{path}: cannot be written: {(error.strerror or str(error)).lower()}; choose another place"
        ) from None


def page(title: str, lines: Sequence[str], tables: Sequence[Table], pictures: Sequence[Picture]) -> str:
    """Return the page. Names of files are shown as text, whatever they are."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(title)}</title><style>{STYLE}</style>",
        f"<h1>{_text(title)}</h1><ul>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>",
    ]
    for table in tables:
        head = "".join(f"<th>{_text(heading)}</th>" for heading in table.headings)
        rows = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
        parts.append(f"<h2>{_text(table.caption)}</h2><table><tr>{head}</tr>{rows}</table>")
    parts.append(
        "<h2>Spectrograms</h2><p>Mel bands from 0 to 8 kHz, upwards; the source above, the streamed conversion below.</p>"
    )
    for picture in pictures:
        images = "".join(f'<img alt="" src="{_data(image)}">' for image in (picture.source_png, picture.made_png))
        parts.append(f"<figure>{images}<figcaption>{_text(picture.name)}, {picture.seconds:.1f} s</figcaption></figure>")
    return "\n".join(parts) + "\n"


def spectrogram(audio: FloatArray) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3) of audio at 16 kHz: one column each 10 ms, or more where it would be too wide."""
    levels = mel_spectrum_db(np.pad(audio, (0, max(0, 4 * HOP_SAMPLES - len(audio)))))
    step = -(-len(levels) // WIDEST_PIXELS)
    starts = np.arange(0, len(levels), step)
    columns = np.maximum.reduceat(levels, starts, axis=0).T[::-1]
    share = np.clip((columns - LOWEST_DB) / (HIGHEST_DB - LOWEST_DB), 0, 1)
    at = np.linspace(0, 1, len(COLOURS))
    colours = np.stack([np.interp(share, at, [colour[n] for colour in COLOURS]) for n in range(3)], axis=2)
    return np.repeat(np.rint(colours).astype(np.uint8), BAND_PIXELS, axis=0)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels (height, width, 3) as a PNG file."""
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + 3 * width), np.uint8)  # each line begins with its filter: none
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    body = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _data(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")


def _text(text: str) -> str:
    return html.escape("".join(c if c.isprintable() else "?" for c in text))
