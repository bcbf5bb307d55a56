"""Makes rvcd/data/swift_f0.safetensors of the network inside the PyPI package swift-f0 0.3.0.

    pip download --no-deps swift-f0==0.3.0 && unzip swift_f0-0.3.0-*.whl 'swift_f0/model.onnx'
    pip install onnx
    python tools/convert_swift_f0.py swift_f0/model.onnx

The numbers are copied as they are; of the three matrices that add spectral bins up to bands, what is not 0 is kept.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

TARGET = Path(__file__).parents[1] / "rvcd" / "data" / "swift_f0.safetensors"
MODEL_SHA256 = "6385e8c2ebc3872e82c9ff5946228de44cd3be77a750ea53698b7dbfe94b0a22"
LAYERS = {
    "stem": (353, 354),
    **{
        f"blocks.{i}.{part}": pair
        for i, pairs in enumerate(
            [
                [(357, 358), (361, 362)],
                [(366, 367), (370, 371)],
                [(375, 376), (379, 380)],
                [(384, 385), (388, 389)],
                [(393, 394), (397, 398)],
                [(402, 403), (406, 407)],
            ]
        )
        for part, pair in zip(("first", "second"), pairs, strict=True)
    },
    "head": (413, 414),
    "pitch": (425, 426),
    "peak": (417, 418),
    "voicing_hidden": (430, 431),
    "voicing": (434, 435),
}
"""Names of ours for the layers, and the numbers of weight and bias in the graph."""
BANDS = {1024: (123, 124), 2048: (241, 242), 512: (342, 343)}
"""Of each window's length: positions and values in its flattened matrix (bins, 128)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    path: Path = parser.parse_args().model
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != MODEL_SHA256:
        raise SystemExit(f"{path}: is not the model of swift-f0 0.3.0: its SHA-256 is not {MODEL_SHA256}")
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(data).graph.initializer}
    tensors: dict[str, np.ndarray] = {}
    for name, (weight, bias) in LAYERS.items():
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = found[f"v{weight}"].copy(), found[f"v{bias}"].copy()
    for length, (positions, values) in BANDS.items():
        tensors[f"bands_{length}.positions"] = found[f"v{positions}"].astype(np.int32)
        tensors[f"bands_{length}.values"] = found[f"v{values}"].copy()
    tensors["log_centres"] = found["v455"].copy()
    save_file(tensors, TARGET, metadata={"source": "swift-f0 0.3.0, by Lars Nieradzik, MIT licence"})
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
