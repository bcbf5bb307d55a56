"""Reads the pickles inside torch files without running anything they ask for. Stdlib only.

A pickle is a program that may name any function of the machine and call it. This reader knows the few instructions that
torch.save writes, and of names only those below: it builds tensors' outlines (shape, type, where the numbers lie) and plain
values. Everything else stops it. Work and memory are bounded by the length of the pickle.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rvcd.yielding import yield_point

MAX_DIMENSIONS = 8
MAX_INSTRUCTIONS = 1_000_000
"""Bound of a scan's time (a second or two) and memory; a voice takes 15,000, a training checkpoint some 100,000."""
INSTRUCTIONS_AT_ONCE = 500
"""Between two yield points: about half a millisecond."""

ITEM_SIZES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2,
    "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
"""Bytes of one number of each storage class that torch.save names."""
FLOATING = frozenset({"DoubleStorage", "FloatStorage", "HalfStorage", "BFloat16Storage"})

INERT_CLASSES = frozenset({
    # fairseq checkpoints keep the training set-up beside the tensors.
    "argparse.Namespace",
    "fairseq.data.dictionary.Dictionary",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.EnumNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.StringNode",
    "torch.device",
})  # fmt: skip
"""Classes whose objects become an InertObject: their state is kept as plain values, none of their code runs."""
INERT_NAMES = frozenset({
    "typing.Any", "builtins.dict", "builtins.list", "builtins.int", "builtins.float", "builtins.str", "builtins.bool",
    "torch.float16", "torch.float32", "torch.float64", "torch.bfloat16",
})  # fmt: skip
"""Names that may be mentioned, never called."""
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_NUMPY_TYPES = (
    "dtype", "ndarray", "bool", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "longlong", "str_",
)  # fmt: skip
HARMLESS_CLASSES = frozenset({
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS),
    *(f"datetime.{name}" for name in ("timedelta", "datetime", "date", "time", "timezone")),
    *(f"builtins.{name}" for name in ("set", "frozenset", "complex", "bytes", "bytearray", "range", "slice")),
    *(f"numpy.{name}" for name in _NUMPY_TYPES),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    "collections.Counter", "collections.deque", "decimal.Decimal", "fractions.Fraction", "types.SimpleNamespace", "uuid.UUID",
})  # fmt: skip
"""What trainers leave beside the weights without meaning any harm: InertObjects too, and the reader says that they are there.

numpy's scalars become plain numbers. torch.load need not know any of these: such files are read by rvcd.formats.checkpoint.
"""
_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_NUMPY_CODES = {
    "b1": "?", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip
"""numpy's names of its plain types, and struct's."""


class ScanError(Exception):
    """The bytes are not a pickle as torch writes them."""


class UnsafeNameError(ScanError):
    """The pickle names something that is not allowed. name: dotted, as 'os.system'."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"names {name}")


@dataclass(frozen=True)
class GlobalName:
    """A name the pickle mentions, not imported."""

    name: str


@dataclass
class InertObject:
    """What is left of an object of an allowed class: its class's name, its arguments and its state."""

    name: str
    args: tuple[Any, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StorageRef:
    """A run of numbers stored outside the pickle. kind: a key of ITEM_SIZES. length: in numbers."""

    kind: str
    key: str
    length: int

    @property
    def size_bytes(self) -> int:
        return self.length * ITEM_SIZES[self.kind]


@dataclass(frozen=True)
class TensorRef:
    """A tensor's outline; it lies inside its storage. offset, stride: in numbers."""

    storage: StorageRef
    shape: tuple[int, ...]
    offset: int = 0
    stride: tuple[int, ...] = ()

    @property
    def is_floating(self) -> bool:
        return self.storage.kind in FLOATING

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * ITEM_SIZES[self.storage.kind]


@dataclass(frozen=True)
class Scan:
    """What one pickle holds. end: offset of the first byte after it. storages: each once, by key.

    harmless: the HARMLESS_CLASSES it names. as_torch_writes: torch.load(weights_only=True) knows all of its instructions and
    names; it reads protocol 2 only.
    """

    value: Any
    end: int
    storages: dict[str, StorageRef]
    harmless: tuple[str, ...] = ()
    as_torch_writes: bool = True


def scan_pickle(data: bytes, start: int = 0) -> Scan:
    """Read the pickle that begins at data[start]. Raises UnsafeNameError or ScanError."""
    machine = _Machine(data, start)
    try:
        value = machine.run()
    except (IndexError, struct.error, UnicodeDecodeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ScanError(f"is damaged near byte {machine.at} of its description ({type(error).__name__})") from None
    harmless = tuple(sorted(machine.harmless))
    return Scan(value, machine.at, machine.storages, harmless, not harmless and machine.as_torch_writes)


_MARK = object()


class _Machine:
    """The pickle machine, reduced. One method an instruction, named after pickletools' opcodes."""

    def __init__(self, data: bytes, start: int) -> None:
        self.data, self.at = data, start
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, StorageRef] = {}
        self.harmless: set[str] = set()
        self.as_torch_writes = True

    def run(self) -> Any:
        for number in range(MAX_INSTRUCTIONS):
            if number % INSTRUCTIONS_AT_ONCE == 0:
                yield_point()
            opcode = self.take(1)[0]
            if opcode == _STOP:
                value = self.stack.pop()
                if value is _MARK:
                    raise ScanError("ends too early")
                return value
            step = _STEPS.get(opcode)
            if step is None:
                raise ScanError(f"holds the instruction {opcode:#04x}, which torch.save does not write")
            if opcode in _ONLY_OURS:
                self.as_torch_writes = False
            step(self)
        raise ScanError("describes more than any model holds")

    # Reading

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise ScanError("ends too early")
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + 512)
        if end < 0:
            raise ScanError("ends too early")
        text = self.data[self.at : end].decode("utf-8")
        self.at = end + 1
        return text

    def pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        items.reverse()
        return items

    # Values

    def push_text(self, length: int) -> None:
        self.stack.append(self.take(length).decode("utf-8", "surrogatepass"))

    def push_global(self, module: str, name: str) -> None:
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        dotted = f"{module}.{name}"
        storage_class = module == "torch" and name in ITEM_SIZES
        if dotted in HARMLESS_CLASSES:
            self.harmless.add(dotted)
        elif not (storage_class or dotted in _CALLS or dotted in INERT_CLASSES or dotted in INERT_NAMES):
            raise UnsafeNameError("".join(c if c.isprintable() else "?" for c in dotted[:120]))
        self.stack.append(GlobalName(dotted))

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise ScanError("names something that is not text")
        self.push_global(module, name)

    def instance(self) -> None:
        """An outdated way to call a class: refused, by its name where that is not allowed anyway."""
        self.push_global(self.line(), self.line())
        raise ScanError("calls a class in an outdated way")

    def long(self) -> None:
        self.stack.append(int.from_bytes(self.take(self.take(1)[0]), "little", signed=True))

    def call_with_names(self) -> None:
        self.stack.pop()  # arguments by name, which nothing here takes
        self.call()

    def push_inert_bytes(self) -> None:
        self.take(self.number("<Q"))
        self.push_inert("builtins.bytearray")

    def push_inert(self, name: str) -> None:
        self.harmless.add(name)
        self.stack.append(InertObject(name))

    def freeze(self) -> None:
        self.pop_to_mark()
        self.push_inert("builtins.frozenset")

    def add_items(self) -> None:
        self.pop_to_mark()
        if not isinstance(self.stack[-1], InertObject):
            raise ScanError("fills something that is not a set")

    def whole_number(self) -> None:
        text = self.line()
        # "00" and "01" are false and true in protocols 0 and 1.
        self.stack.append(text == "01" if text in ("00", "01") else int(text.removesuffix("L")))

    def call(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, GlobalName) or type(args) is not tuple:
            raise ScanError("calls something that is not a function")
        if function.name in _SCALARS:
            self.stack.append(_numpy_scalar(function.name, args))
        elif function.name in INERT_CLASSES or function.name in HARMLESS_CLASSES:
            self.stack.append(InertObject(function.name, args))
        elif function.name in _CALLS:
            self.stack.append(_CALLS[function.name](*args))
        else:
            raise ScanError(f"calls {function.name}")

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, InertObject):
            if isinstance(state, dict):
                target.state.update(state)
            elif target.name == "numpy.dtype" and type(state) is tuple and len(state) > 1:
                target.state["order"] = state[1]
        elif type(target) is not dict:
            # An OrderedDict's own attributes (a state dict's _metadata) are dropped.
            raise ScanError("sets the state of a plain value")

    # Containers

    def append(self) -> None:
        item = self.stack.pop()
        if not self.on_inert():
            self.target(list).append(item)

    def appends(self) -> None:
        items = self.pop_to_mark()
        if not self.on_inert():
            self.target(list).extend(items)

    def on_inert(self) -> bool:
        """Say whether what is filled is the InertObject of a container, which stays empty."""
        return isinstance(self.stack[-1], InertObject) and self.stack[-1].name in HARMLESS_CLASSES

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.target(dict), key, value)

    def set_items(self) -> None:
        items = self.pop_to_mark()
        if len(items) % 2:
            raise ScanError("holds a key without a value")
        target = self.target(dict)
        for i in range(0, len(items), 2):
            _put(target, items[i], items[i + 1])

    def target(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ScanError(f"fills something that is not a {kind.__name__}")
        return self.stack[-1]

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise ScanError("ends too early")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(items)

    # Tensors

    def storage(self) -> None:
        """A persistent id: ('storage', class, key, location, length) and, in the legacy layout, a view that must be None."""
        pid = self.stack.pop()
        if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage" or (len(pid) == 6 and pid[5] is not None):
            raise ScanError("points to something that is not a tensor's storage")
        kind, key, length = pid[1], pid[2], pid[4]
        if not (isinstance(kind, GlobalName) and kind.name.removeprefix("torch.") in ITEM_SIZES and isinstance(key, str)):
            raise ScanError("points to a storage of an unknown kind")
        ref = StorageRef(kind.name.removeprefix("torch."), key, _count(length))
        if self.storages.setdefault(key, ref) != ref:
            raise ScanError("describes one storage in two ways")
        self.stack.append(ref)


def _put(target: dict[Any, Any], key: Any, value: Any) -> None:
    # A tuple may be nested so deep, or shared so often, that hashing it never ends; large numbers may all have one hash.
    if not (isinstance(key, (str, bytes, type(None))) or (isinstance(key, int) and abs(key) < 1 << 31)):
        raise ScanError("uses a key that is not text or a small number")
    target[key] = value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise ScanError("holds an impossible size")
    return value


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any = False, hooks: Any = None, more: Any = None
) -> TensorRef:
    """torch._utils._rebuild_tensor(_v2), as an outline that provably lies inside its storage."""
    if not isinstance(storage, StorageRef) or type(shape) is not tuple or type(stride) is not tuple or hooks or more:
        raise ScanError("describes a tensor in an unknown way")
    if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
        raise ScanError("describes a tensor with impossible dimensions")
    sizes, steps = [_count(n) for n in shape], [_count(n) for n in stride]
    numbers = math.prod(sizes)
    last = _count(offset) + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    if numbers and (last >= storage.length or numbers > storage.length):
        raise ScanError("describes a tensor larger than its data")
    return TensorRef(storage, tuple(sizes), offset, tuple(steps))


def _ordered_dict(*args: Any) -> dict[Any, Any]:
    filled: dict[Any, Any] = {}
    if args and type(args[0]) is list:
        for key, value in args[0]:
            _put(filled, key, value)
    return filled


def _parameter(data: Any, *_flags: Any) -> TensorRef:
    if not isinstance(data, TensorRef):
        raise ScanError("describes a parameter without a tensor")
    return data


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise ScanError("describes bytes in an unknown way")
    return text.encode("latin1")


def _numpy_scalar(name: str, args: tuple[Any, ...]) -> Any:
    """Return the number that numpy.core.multiarray.scalar(dtype, bytes) makes; an InertObject where it is no plain number."""
    dtype, data = args if len(args) == 2 else (None, None)
    if isinstance(dtype, InertObject) and dtype.name == "numpy.dtype" and dtype.args and type(data) is bytes:
        kind, order = dtype.args[0], ">" if dtype.state.get("order") == ">" else "<"
        code = _NUMPY_CODES.get(kind) if isinstance(kind, str) else None
        if code is not None and struct.calcsize(order + code) == len(data):
            return struct.unpack(order + code, data)[0]
    return InertObject(name, args)


def _size(values: Any) -> tuple[Any, ...]:
    if type(values) is not tuple:
        raise ScanError("describes a size in an unknown way")
    return values


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": lambda *_: {},
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "_codecs.encode": _encode,
}
"""The only functions a pickle may call, each replaced by our own."""

_STOP = ord(".")


def _steps() -> dict[int, Callable[[_Machine], None]]:
    def push(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
        return lambda m: m.stack.append(value(m))

    def remember(key: Callable[[_Machine], int]) -> Callable[[_Machine], None]:
        return lambda m: m.memo.__setitem__(key(m), m.stack[-1])

    steps: dict[bytes, Callable[[_Machine], None]] = {
        b"\x80": lambda m: None if m.take(1)[0] <= 5 else _fail("is of an unknown pickle version"),
        b"N": push(lambda m: None), b"\x88": push(lambda m: True), b"\x89": push(lambda m: False),
        b"K": push(lambda m: m.number("<B")), b"M": push(lambda m: m.number("<H")), b"J": push(lambda m: m.number("<i")),
        b"G": push(lambda m: m.number(">d")), b"\x8a": _Machine.long,
        b"X": lambda m: m.push_text(m.number("<I")), b"\x8c": lambda m: m.push_text(m.number("<B")),
        b"U": push(lambda m: m.take(m.number("<B")).decode("latin1")),
        b"(": push(lambda m: _MARK), b")": push(lambda m: ()), b"]": push(lambda m: []), b"}": push(lambda m: {}),
        b"t": push(lambda m: tuple(m.pop_to_mark())),
        b"\x85": lambda m: m.tuple_of(1), b"\x86": lambda m: m.tuple_of(2), b"\x87": lambda m: m.tuple_of(3),
        b"a": _Machine.append, b"e": _Machine.appends, b"s": _Machine.set_item, b"u": _Machine.set_items,
        b"q": remember(lambda m: m.number("<B")), b"r": remember(lambda m: m.number("<I")),
        b"\x94": remember(lambda m: len(m.memo)),
        b"h": push(lambda m: m.memo[m.number("<B")]), b"j": push(lambda m: m.memo[m.number("<I")]),
        b"c": lambda m: m.push_global(m.line(), m.line()), b"\x93": _Machine.stack_global,
        b"i": _Machine.instance,
        b"\x92": _Machine.call_with_names, b"\x8f": lambda m: m.push_inert("builtins.set"),
        b"\x90": _Machine.add_items, b"\x91": _Machine.freeze, b"\x96": _Machine.push_inert_bytes,
        b"C": push(lambda m: m.take(m.number("<B"))), b"B": push(lambda m: m.take(m.number("<I"))),
        b"\x8e": push(lambda m: m.take(m.number("<Q"))), b"\x8d": lambda m: m.push_text(m.number("<Q")),
        b"I": _Machine.whole_number, b"L": _Machine.whole_number, b"F": push(lambda m: float(m.line())),
        b"R": _Machine.call, b"\x81": _Machine.call, b"b": _Machine.build, b"Q": _Machine.storage,
        b"\x95": lambda m: None if m.number("<Q") <= len(m.data) else _fail("ends too early"),
    }  # fmt: skip
    return {code[0]: step for code, step in steps.items()}


def _fail(reason: str) -> None:
    raise ScanError(reason)


_STEPS = _steps()
_ONLY_OURS = frozenset(b"\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96BCFIL")
"""Instructions that torch.load(weights_only=True) does not know: those of other pickle protocols than 2."""
