"""How busy the GPU is, without torch: NVIDIA's management library through ctypes, AMD's files in sysfs.

Whatever is missing or fails (no library, no driver, no such device, a card that does not tell) is answered with None.
"""

from __future__ import annotations

import ctypes
import re
import threading
from dataclasses import dataclass
from pathlib import Path

NVIDIA_LIBRARY = "libnvidia-ml.so.1"
DRM_FOLDER = Path("/sys/class/drm")
READ_INTERVAL_S = 1.0
STOP_TIMEOUT_S = 1.0
_BYTES_PER_MB = 1e6
_SUCCESS = 0


@dataclass(frozen=True)
class GpuUsage:
    """util: share of the last moment in which the GPU computed, 0..1. Memory in MB of 10^6 bytes, of all programs."""

    util: float
    memory_mb: float
    memory_total_mb: float


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t, in percent."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class GpuReader:
    """Reads one device, NVIDIA's before AMD's. A read may block for milliseconds, the first one longer: use a thread of its own.

    Devices are numbered as nvidia-smi does and as /sys/class/drm/card* come; CUDA_VISIBLE_DEVICES is not looked at.
    """

    def __init__(self, index: int = 0, *, nvidia_library: str = NVIDIA_LIBRARY, drm_folder: Path = DRM_FOLDER) -> None:
        """index: which device, from 0. Looks only whether there is anything to ask; the driver is woken by the first read."""
        self._index = index
        self._nvidia = _load(nvidia_library)
        self._device: ctypes.c_void_p | None = None
        self._amd = _amd_card(drm_folder, index)

    @property
    def found(self) -> bool:
        """Whether a read may ever tell something."""
        return self._nvidia is not None or self._amd is not None

    def read(self) -> GpuUsage | None:
        """Return what the device does now. Never raises."""
        if self._nvidia is not None and self._device is None:
            self._device = _open(self._nvidia, self._index)
            if self._device is None:
                # Not again each second: starting NVML may start nvidia-modprobe.
                self._nvidia = None
        if self._nvidia is not None and self._device is not None:
            return _read_nvidia(self._nvidia, self._device)
        return _read_amd(self._amd) if self._amd is not None else None

    def close(self) -> None:
        """Let the driver go. A later read opens it again."""
        if self._nvidia is not None and self._device is not None:
            self._nvidia.nvmlShutdown()
        self._device = None


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


def _load(name: str) -> ctypes.CDLL | None:
    """Return NVIDIA's library with its functions declared, None where it is missing or lacks one of them."""
    unsigned, device = ctypes.c_uint, ctypes.c_void_p
    try:
        library = ctypes.CDLL(name)
        library.nvmlInit_v2.argtypes = ()
        library.nvmlShutdown.argtypes = ()
        library.nvmlDeviceGetCount_v2.argtypes = (ctypes.POINTER(unsigned),)
        library.nvmlDeviceGetHandleByIndex_v2.argtypes = (unsigned, ctypes.POINTER(device))
        library.nvmlDeviceGetUtilizationRates.argtypes = (device, ctypes.POINTER(_Utilization))
        library.nvmlDeviceGetMemoryInfo.argtypes = (device, ctypes.POINTER(_Memory))
    except (OSError, AttributeError):
        return None
    return library


def _open(library: ctypes.CDLL, index: int) -> ctypes.c_void_p | None:
    """Start the library and return its handle of the device, None where the driver or the device is missing."""
    if library.nvmlInit_v2() != _SUCCESS:
        return None
    count, device = ctypes.c_uint(), ctypes.c_void_p()
    if (
        library.nvmlDeviceGetCount_v2(ctypes.byref(count)) == _SUCCESS
        and 0 <= index < count.value
        and library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == _SUCCESS
    ):
        return device
    library.nvmlShutdown()
    return None


def _read_nvidia(library: ctypes.CDLL, device: ctypes.c_void_p) -> GpuUsage | None:
    busy, memory = _Utilization(), _Memory()
    if library.nvmlDeviceGetUtilizationRates(device, ctypes.byref(busy)) != _SUCCESS:
        return None
    if library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) != _SUCCESS:
        return None
    return _usage(busy.gpu, memory.used, memory.total)


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
