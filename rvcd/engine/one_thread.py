"""faiss on its caller's thread alone, without touching how many torch uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import faiss


@contextmanager
def faiss_on_one_thread() -> Iterator[None]:
    """Let faiss compute on this thread only, inside the with block.

    Both libraries bring an OpenMP of their own, but the loader may bind faiss's calls to torch's: then faiss's number is torch's,
    and setting it for good would leave every network of this thread on one core. So it is put back.
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
