"""Takes noise out of the microphone's signal, ahead of the gate: a stream of any rate, late by a constant number of samples.

The network (rvcd.nets.gtcrn) hears hops of 256 samples at 16 kHz. Blocks are no multiples of that at any rate, so what comes out
is held until it is `delay_samples` old: as long as the worst cut needs. The signal as it came is held as long, so that `amount`
moves between the two without shifting anything in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvcd.engine.dsp.glide import Glide
from rvcd.engine.dsp.history_buffer import HistoryBuffer
from rvcd.engine.dsp.resample import StreamResampler
from rvcd.geometry import denoise_samples
from rvcd.nets.gtcrn import BINS, HOP_SAMPLES, RATE_HZ, WINDOW_SAMPLES, GtcrnState

FloatArray = NDArray[np.float32]
Network = Callable[[Tensor, GtcrnState], Tensor]
"""Cleans the spectra of the next hops: nets.gtcrn.Gtcrn."""
LOUDEST = 1000.0
"""60 dB above full scale: the loudest input (18 dB above it) with the most gain (24 dB) stays below. More is a fault."""


@dataclass
class HopState:
    """waiting: samples at 16 kHz that are not yet a hop, with the hop before them. tail: the half of the last window that the
    next hop completes, (HOP_SAMPLES,). before: samples still to be made that lie before the stream's first."""

    network: GtcrnState = field(default_factory=GtcrnState.fresh)
    waiting: FloatArray = field(default_factory=lambda: np.zeros(HOP_SAMPLES, np.float32))
    tail: FloatArray = field(default_factory=lambda: np.zeros(HOP_SAMPLES, np.float32))
    before: int = HOP_SAMPLES


class Denoiser:
    """Mono, streaming. Output sample n is input sample n - delay_samples, cleaned as far as `amount` says; any cut into blocks
    gives the same samples, to within the rounding of the network's sums.

    fault: why the last block has silence where it should have been cleaned, "" where all is well.
    """

    def __init__(self, network: Network | None, rate_hz: int, max_block_samples: int) -> None:
        """network None: it could not be loaded, and the signal is only held back. max_block_samples: the longest block."""
        self.delay_samples = denoise_samples(rate_hz)
        self._network = network
        self._window = torch.hann_window(WINDOW_SAMPLES).sqrt()
        self._down = StreamResampler(rate_hz, RATE_HZ, max_block_samples)
        at_16k = -(-max_block_samples * RATE_HZ // rate_hz) + 2 * WINDOW_SAMPLES
        self._up = StreamResampler(RATE_HZ, rate_hz, at_16k)
        self._dry = HistoryBuffer(max_block_samples + self.delay_samples)
        self._clean = HistoryBuffer(2 * (max_block_samples + self.delay_samples))
        self._amount = Glide(rate_hz)
        self.reset()

    def reset(self) -> None:
        """Nothing heard."""
        for part in (self._down, self._up, self._dry, self._clean, self._amount):
            part.reset()
        self._state = HopState()
        self.fault = ""

    def process(self, block: FloatArray, amount: float) -> FloatArray:
        """Return the next samples, as many as the block has. amount 0..1: moves there within the block and 20 ms.

        What the network makes of a block is silence where it is no number or far too loud; the network then begins afresh.
        """
        self.fault = ""
        self._dry.append(block)
        first = self._dry.end - len(block) - self.delay_samples
        dry = np.asarray(self._dry.rows(first, first + len(block)), np.float32)
        if self._network is None:
            return dry.copy()
        self._clean.append(self._up.process(self._through_hops(self._down.process(block))))
        share = self._amount.over(len(block), amount)
        if isinstance(share, float) and share == 0.0:
            self.fault = ""  # nothing of it is heard
            return dry.copy()
        clean = np.asarray(self._clean.rows(first, first + len(block)), np.float32)
        return np.asarray(dry + share * (clean - dry), np.float32)

    def _through_hops(self, audio_16k: FloatArray) -> FloatArray:
        """Return every cleaned sample that is now whole: those up to the last known hop's beginning."""
        state = self._state
        known = np.concatenate((state.waiting, audio_16k))
        hops = len(known) // HOP_SAMPLES - 1
        if hops <= 0:
            state.waiting = known
            return np.zeros(0, np.float32)
        state.waiting = known[hops * HOP_SAMPLES :]
        windows = torch.from_numpy(known[: (hops + 1) * HOP_SAMPLES]).unfold(0, WINDOW_SAMPLES, HOP_SAMPLES)
        pieces = self._cleaned(windows)
        begun = np.concatenate((state.tail[None], pieces[:-1, HOP_SAMPLES:]))
        state.tail = pieces[-1, HOP_SAMPLES:]
        made: FloatArray = (begun + pieces[:, :HOP_SAMPLES]).reshape(-1)[state.before :]
        state.before = 0
        return made

    @torch.inference_mode()
    def _cleaned(self, windows: Tensor) -> FloatArray:
        """windows (hops, WINDOW_SAMPLES) -> the same shape: cleaned, and faded in and out to be added up."""
        assert self._network is not None
        try:
            spectra = self._network(torch.fft.rfft(windows * self._window, n=WINDOW_SAMPLES), self._state.network)
            assert spectra.shape == (len(windows), BINS)
            pieces: FloatArray = (torch.fft.irfft(spectra, n=WINDOW_SAMPLES) * self._window).numpy()
            if bool((np.abs(pieces) < LOUDEST).all()):  # False for NaN too
                return pieces
            self.fault = "the denoiser's network gave NaN, infinite or far too loud samples"
        except Exception as error:
            self.fault = f"the denoiser's network failed: {type(error).__name__}: {error}"
        self._state.network = GtcrnState.fresh()
        return np.zeros((len(windows), WINDOW_SAMPLES), np.float32)
