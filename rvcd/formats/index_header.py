"""What an `.index` file holds, walked through without faiss: kind, width, vectors, and that all of it is there. Stdlib only.

faiss allocates what a file's numbers ask for before it reads: a damaged or hostile file is refused here first. Layout as
written by faiss.write_index for "Flat" and "IVFn,Flat" (little-endian).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rvcd.errors import ModelFileError
from rvcd.formats.torch_file import open_model_file

FLAT_L2, FLAT_INNER, IVF_FLAT = b"IxF2", b"IxFI", b"IwFl"
METRIC_INNER_PRODUCT, METRIC_L2 = 0, 1
FLOAT_BYTES, ID_BYTES = 4, 8
MAX_WIDTH = 16_384
FIX = "download or copy it again, or train the index anew"


@dataclass(frozen=True)
class IndexHeader:
    """lists: number of inverted lists, 0 for a flat index. probes: how many of them a search visits, as the file says."""

    path: Path
    width: int
    vectors: int
    lists: int
    probes: int


def read_index_header(path: Path | str) -> IndexHeader:
    """Read an index's header and check its structure against the file's length.

    Raises ModelFileError with one sentence for a missing, damaged, empty (`trained_`) or unsupported index.
    """
    path = Path(path)
    with open_model_file(path) as (file, size_bytes):
        header = _Walk(path, file, size_bytes).index()
    if not header.vectors:
        raise ModelFileError(f"{path}: holds no vectors{_added_hint(path)}")
    return header


def read_fitting_index_header(path: Path | str, unit_width: int) -> IndexHeader:
    """As read_index_header, for a voice whose units have unit_width: raises ModelFileError for an index of another width too."""
    header = read_index_header(path)
    if header.width != unit_width:
        raise ModelFileError(
            f"{header.path}: is an index of width {header.width}, but the voice's units have width {unit_width}; "
            "use the index trained with this voice"
        )
    return header


def without_index(error: ModelFileError) -> str:
    """Return what is said of a voice whose index cannot serve: it is optional, so the voice runs all the same."""
    return f"runs without its index: {error}"


class _Walk:
    """Reads forward; every length is checked against what is left of the file before it is believed."""

    def __init__(self, path: Path, file: BinaryIO, size_bytes: int) -> None:
        self.path, self.file, self.left = path, file, size_bytes

    def index(self) -> IndexHeader:
        kind = self.take(4)
        if kind in (FLAT_L2, FLAT_INNER):
            width, vectors = self.flat(kind)
            return IndexHeader(self.path, width, vectors, 0, 0)
        if kind != IVF_FLAT:
            if not (kind[:1] == b"I" and kind.isalnum()):
                raise ModelFileError(f"{self.path}: is not a FAISS index; use the added_*.index that belongs to the voice")
            raise ModelFileError(
                f"{self.path}: is a FAISS index of kind {kind.decode('ascii')}; rvcd reads 'IVF,Flat' and 'Flat', as RVC makes"
            )
        width, vectors = self.header()
        lists, probes = self.numbers("<QQ")
        quantizer = self.take(4)
        if quantizer not in (FLAT_L2, FLAT_INNER):
            raise ModelFileError(f"{self.path}: is a FAISS index with an unusual first stage; rvcd reads 'IVF,Flat' and 'Flat'")
        quantizer_width, centroids = self.flat(quantizer)
        if quantizer_width != width or centroids != lists or not lists:
            raise self.damaged("its lists do not match its first stage")
        (map_kind,) = self.numbers("<B")
        self.skip(self.numbers("<Q")[0], ID_BYTES)
        if map_kind == 2:
            self.skip(self.numbers("<Q")[0], 2 * ID_BYTES)
        self.inverted_lists(width, vectors, lists)
        return IndexHeader(self.path, width, vectors, lists, min(max(1, probes), lists))

    def header(self) -> tuple[int, int]:
        width, vectors, _, _, trained, metric = self.numbers("<iqqqBi")
        if not 0 < width <= MAX_WIDTH or vectors < 0 or trained > 1:
            raise self.damaged("its header holds impossible sizes")
        if metric != METRIC_L2 or not trained:
            what = "is not trained" if not trained else "compares by another measure than distance"
            raise ModelFileError(f"{self.path}: {what}; use the added_*.index that RVC made for the voice")
        return width, vectors

    def flat(self, kind: bytes) -> tuple[int, int]:
        if kind == FLAT_INNER:
            raise ModelFileError(f"{self.path}: compares by another measure than distance; use the added_*.index that RVC made")
        width, vectors = self.header()
        (floats,) = self.numbers("<Q")
        if floats != width * vectors:
            raise self.damaged("its vectors do not match its header")
        self.skip(floats, FLOAT_BYTES)
        return width, vectors

    def inverted_lists(self, width: int, vectors: int, lists: int) -> None:
        kind = self.take(4)
        if kind == b"il00" and not vectors:
            return
        if kind != b"ilar":
            raise ModelFileError(f"{self.path}: keeps its vectors in a way rvcd does not read; train the index anew")
        list_count, code_bytes = self.numbers("<QQ")
        layout = self.take(4)
        (numbers,) = self.numbers("<Q")
        if list_count != lists or code_bytes != FLOAT_BYTES * width or numbers * ID_BYTES > self.left:
            raise self.damaged("its lists do not match its header")
        values = struct.unpack(f"<{numbers}Q", self.take(numbers * ID_BYTES))
        if layout == b"sprs" and numbers % 2 == 0 and all(at < lists for at in values[::2]):
            sizes = values[1::2]
        elif layout == b"full" and numbers == lists:
            sizes = values
        else:
            raise self.damaged("its lists do not match its header")
        if sum(sizes) != vectors:
            raise self.damaged("its lists do not hold as many vectors as its header says")
        self.skip(vectors, code_bytes + ID_BYTES)

    # Reading

    def take(self, count: int) -> bytes:
        data = self.file.read(count) if count <= self.left else b""
        if len(data) != count:
            raise ModelFileError(f"{self.path}: is cut short or is not a FAISS index; {FIX}")
        self.left -= count
        return data

    def numbers(self, code: str) -> tuple[Any, ...]:
        return struct.unpack(code, self.take(struct.calcsize(code)))

    def skip(self, count: int, item_bytes: int) -> None:
        if count * item_bytes > self.left:
            raise ModelFileError(f"{self.path}: is cut short: it ends before its last vector; {FIX}")
        self.file.seek(count * item_bytes, 1)
        self.left -= count * item_bytes

    def damaged(self, reason: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: is damaged: {reason}; {FIX}")


def _added_hint(path: Path) -> str:
    """Say which file to use in the place of an empty one: RVC writes trained_* (empty) and added_* (filled) side by side."""
    if not path.name.startswith("trained_"):
        return "; use the added_*.index that belongs to the voice"
    added = path.with_name("added_" + path.name.removeprefix("trained_"))
    return f": it is the empty first half of an index; use {added.name}" + (" beside it" if added.is_file() else "")
