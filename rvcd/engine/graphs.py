"""Steps of a steady stream as CUDA graphs: recorded once, then run again with one call.

A block launches a thousand small kernels, and launching them takes the processor longer than the device computes. A recorded
step runs no Python: it reads and writes the very addresses that it was recorded with. So it is run again only where everything
is as it was then: shapes, where the state lies, and whatever number the step was told. Anything else runs as usual, eagerly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rvcd.errors import ParamError
from rvcd.protocol import CUDA_GRAPHS

Work = Callable[[list[Tensor]], Tensor]
Places = Callable[[], list[Tensor | None]]
CLOSE = {torch.float16: 1e-2, torch.bfloat16: 1e-2}
"""How far, relative to the largest number, the first replay may be from what was computed eagerly."""
CLOSE_FLOAT32 = 1e-3


class Recorder(Protocol):
    """What can record work for a device."""

    def warm(self, work: Callable[[], Tensor]) -> None:
        """Do work beside what is queued: what libraries set up at a first call must not be recorded."""
        ...

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Return what does the work again, and its result, the same tensor each time. The work itself need not be done."""
        ...


class CudaRecorder:
    """Records CUDA graphs, on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm(self, work: Callable[[], Tensor]) -> None:
        """Twice: the first call may choose algorithms, the second uses them."""
        with self._aside():
            work()
            work()

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with self._aside():
            # Of this thread alone: the audio loop goes on launching and allocating meanwhile.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                result = work()
            finally:
                graph.capture_end()
        return graph.replay, result

    @contextmanager
    def _aside(self) -> Iterator[None]:
        present = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream):
            yield
        present.wait_stream(self._stream)


class Graphs:
    """Whether steps are recorded, and by whom. One for a converter; its streams share it."""

    def __init__(self, recorder: Recorder | None = None, log: Callable[[str], None] | None = None) -> None:
        """recorder None: nothing is ever recorded. log: told once, in one line, why recording was given up."""
        self._recorder, self._log = recorder, log
        self._of_thread = threading.local()

    @property
    def recorder(self) -> Recorder | None:
        return self._recorder

    @property
    def recording(self) -> bool:
        """Whether this thread is rehearsing: only then a step may take the time to be recorded."""
        return self._recorder is not None and getattr(self._of_thread, "recording", False)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Let the steps of this thread be recorded as soon as they are steady."""
        self._of_thread.recording = True
        try:
            yield
        finally:
            self._of_thread.recording = False

    def give_up(self, reason: str) -> None:
        """Run everything eagerly from now on."""
        if self._recorder is not None and self._log is not None:
            self._log(f"CUDA graphs are not used: {reason}; every kernel is launched by itself")
        self._recorder = None


def graphs_of(name: str, device: torch.device, log: Callable[[str], None] | None = None) -> Graphs:
    """Return what engine.cuda_graphs says for a device. Raises ParamError for another name."""
    if name not in CUDA_GRAPHS:
        raise ParamError(f"engine.cuda_graphs = '{name}' is unknown; it takes {', '.join(CUDA_GRAPHS)}")
    if name == "off" or device.type != "cuda":
        return Graphs()
    return Graphs(CudaRecorder(device), log)


@dataclass(frozen=True)
class Recorded:
    """A step as it was recorded. kept: tensors that it reads and nobody else may own any more."""

    signature: Hashable
    inputs: list[Tensor]
    result: Tensor
    replay: Callable[[], None]
    kept: Any


class Step:
    """One step of a stream: run eagerly, or as it was recorded."""

    def __init__(self, name: str, graphs: Graphs, state: Places, kept: Callable[[], Any] = lambda: None) -> None:
        """state: returns where all that the step updates lies, None for what has not begun. kept: what else it reads."""
        self.name, self._graphs, self._state, self._kept = name, graphs, state, kept
        self._recorded: Recorded | None = None
        self._before: Hashable = None

    @property
    def recorded(self) -> bool:
        return self._recorded is not None

    def run(self, key: Hashable, inputs: list[Tensor], work: Work) -> Tensor:
        """Do the work on inputs. The result is valid until the next run.

        key: every number that changes what work does, besides the shapes of its inputs; None: this time it is not steady.
        """
        graphs = self._graphs
        if graphs.recorder is None or key is None:
            self._before = None
            if graphs.recorder is None:
                self._recorded = None
            return work(inputs)
        signature = (key, *((x.shape, x.dtype) for x in inputs), *_places(self._state()))
        # What the step before has left to this one is as it was then only if that one was the same, too.
        steady, self._before = signature == self._before, signature
        if steady and self._recorded is not None and self._recorded.signature == signature:
            return _again(self._recorded, inputs)
        if steady and graphs.recording:
            return self._record(graphs.recorder, signature, inputs, work)
        return work(inputs)

    def _record(self, recorder: Recorder, signature: Hashable, inputs: list[Tensor], work: Work) -> Tensor:
        """Do the work eagerly, then record it, and compare what it does when it is done again."""
        own, state, places = [x.clone() for x in inputs], [x for x in self._state() if x is not None], _places(self._state())
        before = _copies(state)
        result = work(own)
        expected, after = result.clone(), _copies(state)
        if _places(self._state()) != places:
            return result
        try:
            _put(state, before)
            recorder.warm(lambda: work(own))
            _put(state, before)
            replay, made = recorder.record(lambda: work(own))
            _put(state, before)
            replay()
            alike = _alike([made, *state], [expected, *after])
            problem = "" if alike else "a recorded step does not compute what it computes eagerly"
        except Exception as error:
            problem = f"recording failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        if problem:
            self._graphs.give_up(f"{self.name}: {problem}")
        else:
            self._recorded = Recorded(signature, own, made, replay, (state, self._kept()))
        _put(state, after)
        return expected


def _again(recorded: Recorded, inputs: Sequence[Tensor]) -> Tensor:
    for own, x in zip(recorded.inputs, inputs, strict=True):
        own.copy_(x)
    recorded.replay()
    return recorded.result


def _places(state: Sequence[Tensor | None]) -> tuple[Hashable, ...]:
    return tuple(None if x is None else (x.data_ptr(), x.shape) for x in state)


def _copies(state: Sequence[Tensor]) -> list[Tensor]:
    return [x.clone() for x in state]


def _put(state: Sequence[Tensor], numbers: Sequence[Tensor]) -> None:
    for x, number in zip(state, numbers, strict=True):
        x.copy_(number)


def _alike(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Say whether all numbers are near what they should be; a number that is none never is."""
    for x, y in zip(found, expected, strict=True):
        largest = float(y.double().abs().max()) if y.numel() else 0.0
        apart = float((x.double() - y.double()).abs().max()) if y.numel() else 0.0
        if not apart <= CLOSE.get(y.dtype, CLOSE_FLOAT32) * largest + 1e-6:
            return False
    return True
