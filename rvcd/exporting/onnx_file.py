"""Writes a network as an ONNX file and holds the file against the network, before anybody gets to see it."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rvcd.errors import MissingExtraError, ModelFileError, RvcdError, how_to_install

OPSET = 18
"""The version of ONNX's operators: onnxruntime reads it since 1.14."""
TOLERANCE = 1e-4
"""The greatest difference from torch, relative to the greatest value, with which a file is kept."""
Axes = Mapping[str, Mapping[int, Any]]
"""By input: which of its axes is how long, in terms of one torch.export.Dim."""


class Exportable(nn.Module):
    """A network of which each input has a name, in the order of forward()'s parameters."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """size_bytes: of the file. difference: the greatest from torch, relative to the greatest value, over all examples."""

    path: Path
    size_bytes: int
    difference: float


def ask_for_packages() -> None:
    """Raise MissingExtraError unless what exports and what checks is installed: better said before a voice is loaded."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"to export ONNX takes more packages ({error}); {how_to_install('onnx')}") from None


def write_onnx(
    network: Exportable,
    output: str,
    axes: Axes,
    examples: Sequence[Mapping[str, Tensor]],
    metadata: Mapping[str, str],
    path: Path,
    *,
    replace: bool = False,
) -> Written:
    """Export with the first example, compare all examples through onnxruntime, and only then put the file at `path`.

    axes: those of variable length. Raises RvcdError where torch cannot export the network, ModelFileError where the file would
    not do what the network does or cannot be written, or is there already (unless `replace`), and MissingExtraError.
    """
    ask_for_packages()
    if path.exists() and not replace:
        raise ModelFileError(f"{path}: is there already; choose another name, or replace it with --force")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _export(network, output, axes, examples[0], metadata, part)
        difference = max(_difference(network, example, part) for example in examples)
        if not difference <= TOLERANCE:
            raise ModelFileError(
                f"{path}: was not kept, because onnxruntime made something else of it than torch (a difference of"
                f" {difference:.2g}, of at most {TOLERANCE:g}); please report this voice's kind (`rvcd voice info`)"
            )
        size_bytes = part.stat().st_size
        os.replace(part, path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ModelFileError(f"{path}: cannot be written: {why}; choose another place, or make room") from None
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or its folder is none
            part.unlink()
    return Written(path, size_bytes, difference)


def _export(
    network: Exportable, output: str, axes: Axes, example: Mapping[str, Tensor], metadata: Mapping[str, str], part: Path
) -> None:
    shapes = tuple(dict(axes.get(name, {})) or None for name in network.names)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network,
                tuple(example[name] for name in network.names),
                dynamo=True,
                input_names=list(network.names),
                output_names=[output],
                dynamic_shapes=(shapes,) if len(shapes) > 1 else {network.names[0]: shapes[0]},
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch's exporter has dozens of kinds, none of which a user can act on
        raise RvcdError(f"torch {torch.__version__} cannot export this network ({_first_line(error)})") from error
    if program is None:
        raise RvcdError(f"torch {torch.__version__} exported nothing")
    program.model.metadata_props.update(metadata)
    program.model.producer_name, program.model.producer_version = "rvcd", version("rvcd")
    program.save(part, external_data=False)


def _difference(network: Exportable, example: Mapping[str, Tensor], part: Path) -> float:
    """Return the greatest difference, relative to the greatest value, or infinity for another shape or a number that is none."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
        (made,) = session.run(None, {name: value.numpy() for name, value in example.items()})
    except Exception as error:  # its kinds have no common base; each means that the file would not run
        raise RvcdError(f"ONNX Runtime cannot run what was exported ({_first_line(error)})") from error
    with torch.no_grad():
        wanted = network(*(example[name] for name in network.names)).numpy()
    if made.shape != wanted.shape or not np.isfinite(made).all():
        return float("inf")
    return float(np.abs(made - wanted).max() / max(1.0, float(np.abs(wanted).max())))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own innards from the user."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
