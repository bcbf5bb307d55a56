"""How busy the GPU is, without torch: NVIDIA's management library through pynvml, AMD's files in sysfs.

Whatever is missing or fails (no library, no driver, no such device, a card that does not tell) is answered with None.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NVIDIA_SIGNS = (Path("/proc/driver/nvidia"), Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""One of them exists where NVIDIA's driver is loaded (the last under WSL): pynvml takes 6 MB, for nothing without it."""
DRM_FOLDER = Path("/sys/class/drm")
READ_INTERVAL_S = 1.0
STOP_TIMEOUT_S = 1.0
_BYTES_PER_MB = 1e6


@dataclass(frozen=True)
class GpuUsage:
    """util: share of the last moment in which the GPU computed, 0..1. Memory in MB of 10^6 bytes, of all programs."""

    util: float
    memory_mb: float
    memory_total_mb: float


def import_nvml() -> Any:
    """Import pynvml, which is needed only where there is a driver."""
    import pynvml

    return pynvml


class GpuReader:
    """Reads one device, NVIDIA's before AMD's. A read may block for as long as a driver does: use a thread of its own.

    Devices are numbered as nvidia-smi does and as /sys/class/drm/card* come; CUDA_VISIBLE_DEVICES is not looked at.
    """

    def __init__(
        self,
        index: int = 0,
        *,
        nvidia_signs: Sequence[Path] = NVIDIA_SIGNS,
        import_nvml: Callable[[], Any] = import_nvml,
        drm_folder: Path = DRM_FOLDER,
    ) -> None:
        """index: which device, from 0. Looks only whether there is anything to ask; the driver is woken by the first read.

        nvidia_signs: paths of which one exists where NVIDIA's driver is loaded. import_nvml: returns the module pynvml.
        """
        self._index = index
        self._import_nvml = import_nvml
        self._may_be_nvidia = any(sign.exists() for sign in nvidia_signs)
        self._nvidia: _Nvidia | None = None
        self._amd = _amd_card(drm_folder, index)

    @property
    def found(self) -> bool:
        """Whether a read may ever tell something."""
        return self._may_be_nvidia or self._amd is not None

    def read(self) -> GpuUsage | None:
        """Return what the device does now. Never raises."""
        if self._may_be_nvidia and self._nvidia is None:
            self._nvidia = _open(self._import_nvml, self._index)
            # Not again each second: starting NVML may start nvidia-modprobe.
            self._may_be_nvidia = self._nvidia is not None
        if self._nvidia is not None:
            return _read_nvidia(self._nvidia)
        return _read_amd(self._amd) if self._amd is not None else None

    def close(self) -> None:
        """Let the driver go. A later read opens it again."""
        if self._nvidia is not None:
            with contextlib.suppress(Exception):
                self._nvidia.nvml.nvmlShutdown()
        self._nvidia = None


class GpuMonitor:
    """Keeps the newest reading. Without anything to read there is no thread."""

    def __init__(self, reader: GpuReader | None = None, *, interval_s: float = READ_INTERVAL_S) -> None:
        """reader: of device 0 where none is given."""
        self.latest: GpuUsage | None = None
        """What was read last; None: no GPU, not read yet, stopped, or it does not tell."""
        self._reader = reader if reader is not None else GpuReader()
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read, if there is anything to read."""
        if self._thread is None and self._reader.found:
            self._stopping = threading.Event()  # one for each thread: an old one may still hang
            self._thread = threading.Thread(target=self._run, args=(self._stopping,), name="gpu", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; one that hangs in a driver is left to the end of the process."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
        self._thread = None
        self.latest = None

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            usage = self._reader.read()
            if stopping.is_set() or not self._reader.found:
                break
            self.latest = usage
            stopping.wait(self._interval_s)
        self._reader.close()


@dataclass(frozen=True)
class _Nvidia:
    """The module pynvml, started, and its handle of the device."""

    nvml: Any
    handle: Any


def _open(import_module: Callable[[], Any], index: int) -> _Nvidia | None:
    """Start NVIDIA's library, None where module, library, driver or device is missing.

    pynvml raises NVMLError for most of it, but also what ctypes does for a library that is cut short or of another kind.
    """
    try:
        nvml = import_module()
        nvml.nvmlInit()
    except Exception:
        return None
    try:
        if 0 <= index < nvml.nvmlDeviceGetCount():
            return _Nvidia(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
    except Exception:
        pass  # a device that does not answer is none, like one that is not there
    with contextlib.suppress(Exception):
        nvml.nvmlShutdown()
    return None


def _read_nvidia(nvidia: _Nvidia) -> GpuUsage | None:
    try:
        busy = nvidia.nvml.nvmlDeviceGetUtilizationRates(nvidia.handle)
        memory = nvidia.nvml.nvmlDeviceGetMemoryInfo(nvidia.handle)
        return _usage(busy.gpu, memory.used, memory.total)
    except Exception:  # a card that is lost, sleeps or does not support the question
        return None


def _amd_card(drm_folder: Path, index: int) -> Path | None:
    """Return the folder of the index-th card that tells how busy it is (Intel's and virtual ones do not)."""
    try:
        numbers = [int(found[1]) for path in drm_folder.glob("card*") if (found := re.fullmatch(r"card(\d+)", path.name))]
        folders = [drm_folder / f"card{number}" / "device" for number in sorted(numbers)]
        telling = [folder for folder in folders if (folder / "gpu_busy_percent").is_file()]
    except OSError:
        return None
    return telling[index] if 0 <= index < len(telling) else None


def _read_amd(folder: Path) -> GpuUsage | None:
    try:
        busy, used, total = (
            int((folder / name).read_text()) for name in ("gpu_busy_percent", "mem_info_vram_used", "mem_info_vram_total")
        )
    except (OSError, ValueError):  # a card that sleeps or was pulled out
        return None
    return _usage(busy, used, total)


def _usage(busy_percent: int, used_bytes: int, total_bytes: int) -> GpuUsage:
    return GpuUsage(min(max(busy_percent / 100.0, 0.0), 1.0), used_bytes / _BYTES_PER_MB, total_bytes / _BYTES_PER_MB)
