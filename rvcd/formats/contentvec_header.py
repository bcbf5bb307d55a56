"""Which widths of units a content encoder makes, told by its header: no torch, no number of its weights read. Stdlib only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rvcd.errors import ModelFileError
from rvcd.formats.pickle_scan import TensorRef
from rvcd.formats.safetensors_header import SUFFIX, read_header, shapes_of
from rvcd.formats.torch_file import read_outline

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
WIDTH_KEY, FINAL_KEY = "encoder.layer_norm.weight", "final_proj.weight"
LAYER_KEY = "encoder.layers.{}.final_layer_norm.weight"
FINAL_LAYER, MAX_LAYERS = 9, 64
"""RVC v1's units are layer 9's, through final_proj; no HuBERT has as many layers as the latter."""
ENVELOPE_KEY = "match.target_mean"
"""By it an envelope encoder is known (rvcd.nets.envelope_encoder_file); so wide are its units."""


def weights_of(path: Path) -> Path:
    """Return the file that holds a model's weights: the path itself, or the weight file in a Transformers folder."""
    if path.is_dir():
        return next((path / name for name in WEIGHT_FILES if (path / name).is_file()), path / WEIGHT_FILES[-1])
    return path


def read_unit_widths(path: Path | str) -> tuple[int, ...]:
    """Return the widths of the units an encoder can make, as ContentEncoder.unit_widths does once it is loaded.

    path: a fairseq `.pt`, a Transformers folder or a weight file in one. Raises ModelFileError when it is no such thing.
    """
    return _read_units(Path(path)).widths


def check_units(path: Path | str, unit_width: int, unit_layer: int = 0) -> None:
    """Raises ModelFileError when an encoder cannot make units of this width from this layer (0: the usual one of that width)."""
    path = Path(path)
    found = _read_units(path)
    if unit_width not in (*found.widths, *((found.final_width,) if unit_layer else ())):
        makes = " or ".join(map(str, found.widths))
        raise ModelFileError(
            f"{path}: makes units of width {makes}, but the voice takes width {unit_width}; "
            "use the content encoder that the voice was trained with"
        )
    if unit_layer > found.layers:
        raise ModelFileError(
            f"{path}: has no layer {unit_layer}, whose units the voice takes; use the encoder it was trained with"
        )


@dataclass(frozen=True)
class _Units:
    """widths: made in the usual way. final_width: of final_proj, 0 without one. layers 0: of no layer but its last."""

    widths: tuple[int, ...]
    final_width: int = 0
    layers: int = 0


def _read_units(path: Path) -> _Units:
    path = weights_of(path)
    shapes = shapes_of(read_header(path)) if path.suffix == SUFFIX else _torch_shapes(path)
    shapes = {key.removeprefix("hubert."): shape for key, shape in shapes.items()}
    if len(shapes.get(ENVELOPE_KEY, ())) == 1:
        return _Units(shapes[ENVELOPE_KEY])
    width, final = shapes.get(WIDTH_KEY, ()), shapes.get(FINAL_KEY, ())
    if len(width) != 1:
        raise ModelFileError(f"{path}: is not a HuBERT content encoder: it has no usable {WIDTH_KEY}")
    layers = sum(LAYER_KEY.format(number) in shapes for number in range(MAX_LAYERS))
    final_width = final[0] if len(final) == 2 else 0
    widths = [width[0]]
    if final_width and layers >= FINAL_LAYER:
        widths.append(final_width)
    return _Units(tuple(dict.fromkeys(widths)), final_width, layers)


def _torch_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    root = read_outline(path).root
    if isinstance(root, dict) and "weight" in root and "config" in root:
        raise ModelFileError(f"{path}: is an RVC voice, not a content encoder; it belongs into a folder of voices.folders")
    tensors = root.get("model", root) if isinstance(root, dict) else {}
    items = tensors.items() if isinstance(tensors, dict) else ()
    return {key: value.shape for key, value in items if isinstance(key, str) and isinstance(value, TensorRef)}
