"""Shared set-up. Tiny networks on two busy cores: one thread computes them faster than two that wait for each other."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
