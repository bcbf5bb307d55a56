"""What passes between processor and device: many arrays by one copy, each as it was."""

from __future__ import annotations

import numpy as np
import torch

from rvcd.engine.device_link import ALIGNMENT_BYTES, CudaLink, NoLink, link_to, places, views

ARRAYS = (
    np.arange(7, dtype=np.int64),
    np.linspace(0, 1, 15, dtype=np.float32).reshape(5, 3),
    np.array([True, False, True]),
    np.zeros(0, np.float32),
    np.arange(4, dtype=np.float64),
)


def test_arrays_laid_out_in_one_buffer_come_back_as_they_were() -> None:
    offsets, size = places(ARRAYS)
    assert all(offset % ALIGNMENT_BYTES == 0 for offset in offsets)
    buffer = np.zeros(size, np.uint8)
    for array, offset in zip(ARRAYS, offsets, strict=True):
        buffer[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)[...] = array
    for array, found in zip(ARRAYS, views(torch.from_numpy(buffer), ARRAYS, offsets), strict=True):
        assert found.numpy().dtype == array.dtype and np.array_equal(found.numpy(), array)


def test_on_a_processor_nothing_is_copied() -> None:
    array = np.ones(3, np.float32)
    (there,) = NoLink().upload(array)
    array[0] = 2
    assert there[0] == 2 and NoLink().download(there)[0] == 2
    assert isinstance(link_to(torch.device("cpu")), NoLink) and isinstance(link_to(torch.device("cuda:0")), CudaLink)
