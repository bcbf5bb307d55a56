"""A voice that was asked for, until it is heard: its steps are done between blocks, where there is time for them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rvcd.engine.converter import Converter, EngineError
from rvcd.engine.voice_stream import VoiceStream

PATIENCE_BLOCKS = 12
"""A voice on its way in waits at most so many blocks, in all, for moments with enough time to prepare its steps: it must not
fall behind the stream for ever on a machine that never has the time."""


class VoiceChange:
    """stream: the new voice's. ended: set when it is heard from the next block on, or will not be; error says why not."""

    def __init__(self, stream: VoiceStream) -> None:
        self.stream = stream
        self.ended = threading.Event()
        self.error = ""
        self._waited_blocks = 0

    def end(self, error: str) -> None:
        """error "": it is heard from the next block on at the latest."""
        self.error = error
        self.ended.set()

    def go_on(self, converter: Converter, spare_ms: Callable[[], float]) -> str | None:
        """Do as many steps as there is time for. Returns how it ended ("" well, or why not), None when it has not yet.

        spare_ms(): how long the loop may be busy from now on. A step that would not fit waits for a better moment, but not for
        ever.
        """
        switch = converter.switch
        try:
            while (step := switch.next_step()) is not None:
                if switch.step_cost_ms(step) > spare_ms() and self._waited_blocks < PATIENCE_BLOCKS:
                    self._waited_blocks += 1
                    return None
                switch.prepare()
        except Exception as error:
            switch.cancel()
            return str(error) if isinstance(error, EngineError) else repr(error)
        # Told now, so that parameters that belong to the voice can be there when its first block is made.
        return ""
