"""A recorder of steps without a GPU: it keeps the operators as a graph does, and does them again at the same addresses.

As with a CUDA graph no Python of the step runs again, every number that it computed with is what it was, and all it reads and
writes lies where it lay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operators called while it is on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        inputs = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        fresh = [x for x in tree_leaves(made) if isinstance(x, Tensor)]
        # Not func.is_view: a reshape is called a view, and copies where it must.
        if not func._schema.is_mutable and all(x.untyped_storage().data_ptr() in inputs for x in fresh):
            return made  # it lies in what it was taken from
        self.calls.append((func, args, kwargs or {}, [] if func._schema.is_mutable else fresh))
        return made

    def play(self) -> None:
        with torch.inference_mode():
            for func, args, kwargs, results in self.calls:
                made = func(*args, **kwargs)
                for x, y in zip(results, [x for x in tree_leaves(made) if isinstance(x, Tensor)], strict=False):
                    x.copy_(y)


class TapeRecorder:
    """Records on a tape. warmed, replayed: how often."""

    def __init__(self) -> None:
        self.warmed = self.replayed = 0

    def warm(self, work: Callable[[], Tensor]) -> None:
        self.warmed += 1
        work()

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        with Tape() as tape:
            result = work()

        def replay() -> None:
            self.replayed += 1
            tape.play()

        return replay, result
