"""The GPU reader against a library in C that has NVML's functions, and against folders that look like sysfs."""

from __future__ import annotations

import ctypes
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rvcd.control import gpu
from rvcd.control.gpu import GpuMonitor, GpuReader, GpuUsage

# What each function answers, and what it was asked, are variables that a test sets and reads.
NVML = """
#include <stddef.h>
#include <unistd.h>
int init_result, count_result, handle_result, busy_result, memory_result;
int inits, shutdowns, reads, asked_index = -1, hang, hanging;
unsigned devices = 2, busy_percent = 37;
unsigned long long used = 3000000000ull, total = 24000000000ull;
static int device[8];
int nvmlInit_v2(void) { inits++; return init_result; }
int nvmlShutdown(void) { shutdowns++; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = devices; return count_result; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
    asked_index = (int)index;
    *handle = &device[index];
    return handle_result;
}
int nvmlDeviceGetUtilizationRates(void *handle, unsigned percent[2])
{
    reads++;
    while (hang) {
        hanging = 1;
        usleep(1000);
    }
    if (handle != &device[asked_index])
        return 2;
    percent[0] = busy_percent;
    percent[1] = 99;
    return busy_result;
}
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long bytes[3])
{
    if (handle != &device[asked_index])
        return 2;
    bytes[0] = total;
    bytes[1] = total - used;
    bytes[2] = used;
    return memory_result;
}
"""
NOWHERE = Path("/nowhere/at/all")
NO_LIBRARY = "librvcd-test-nowhere.so.1"
DRIVER_NOT_LOADED, NOT_SUPPORTED, GPU_IS_LOST = 9, 3, 15


def compiled(folder: Path, source: str) -> str:
    """Return the path of a shared library made of source."""
    (folder / "nvml.c").write_text(source)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(folder / "nvml.c")], check=True, timeout=60)
    return str(library)


class FakeNvml:
    """The library and its variables: driver["devices"] = 1."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._library = ctypes.CDLL(path)

    def __getitem__(self, name: str) -> int:
        return ctypes.c_int.in_dll(self._library, name).value

    def __setitem__(self, name: str, value: int) -> None:
        ctypes.c_int.in_dll(self._library, name).value = value

    def reader(self, index: int = 0) -> GpuReader:
        return GpuReader(index, nvidia_library=self.path, drm_folder=NOWHERE)


@pytest.fixture
def nvml(tmp_path: Path) -> FakeNvml:
    # A copy for each test: its variables begin afresh.
    return FakeNvml(compiled(tmp_path, NVML))


@pytest.fixture
def monitor_of() -> Iterator[Callable[[GpuReader], GpuMonitor]]:
    started: list[GpuMonitor] = []

    def make(reader: GpuReader) -> GpuMonitor:
        started.append(GpuMonitor(reader, interval_s=0.01))
        return started[-1]

    yield make
    for monitor in started:
        monitor.stop()


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    return condition()


def gpu_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gpu"]


# --- NVIDIA


@pytest.mark.parametrize("index", [0, 1])
def test_an_nvidia_gpus_load_and_memory_are_read_from_the_chosen_device(nvml: FakeNvml, index: int) -> None:
    reader = nvml.reader(index)
    assert reader.found
    assert reader.read() == GpuUsage(0.37, 3000.0, 24000.0)
    assert nvml["asked_index"] == index


def test_the_driver_is_woken_by_the_first_read_only_and_let_go_by_close(nvml: FakeNvml) -> None:
    reader = nvml.reader()
    assert nvml["inits"] == 0
    reader.read()
    reader.read()
    assert (nvml["inits"], nvml["shutdowns"]) == (1, 0)
    reader.close()
    reader.close()
    assert nvml["shutdowns"] == 1
    assert reader.read() is not None


@pytest.mark.parametrize("name", ["init_result", "count_result", "handle_result"])
def test_a_library_without_a_driver_or_device_is_asked_once_and_never_again(nvml: FakeNvml, name: str) -> None:
    nvml[name] = DRIVER_NOT_LOADED
    reader = nvml.reader()
    assert [reader.read() for _ in range(3)] == [None] * 3
    assert not reader.found
    assert nvml["inits"] == 1
    assert nvml["shutdowns"] == (0 if name == "init_result" else 1)


@pytest.mark.parametrize("index", [2, -1, 10**9])
def test_a_device_that_is_not_there_is_none(nvml: FakeNvml, index: int) -> None:
    assert nvml.reader(index).read() is None
    assert nvml["asked_index"] == -1


@pytest.mark.parametrize("name", ["busy_result", "memory_result"])
def test_a_device_that_does_not_tell_for_a_while_is_asked_again(nvml: FakeNvml, name: str) -> None:
    reader = nvml.reader()
    nvml[name] = GPU_IS_LOST
    assert reader.read() is None
    nvml[name] = 0
    assert reader.read() == GpuUsage(0.37, 3000.0, 24000.0)


def test_a_load_beyond_100_percent_is_1(nvml: FakeNvml) -> None:
    nvml["busy_percent"] = 250
    usage = nvml.reader().read()
    assert usage is not None and usage.util == 1.0


def test_a_missing_library_is_no_gpu() -> None:
    reader = GpuReader(nvidia_library=NO_LIBRARY, drm_folder=NOWHERE)
    assert not reader.found
    assert reader.read() is None
    reader.close()


def test_a_library_that_lacks_a_function_or_is_none_is_no_gpu(tmp_path: Path) -> None:
    old = compiled(tmp_path, "int nvmlInit(void) { return 0; }")
    assert not GpuReader(nvidia_library=old, drm_folder=NOWHERE).found
    (tmp_path / "text.so").write_text("this is no library")
    assert not GpuReader(nvidia_library=str(tmp_path / "text.so"), drm_folder=NOWHERE).found


# --- AMD


def add_card(drm: Path, number: int, busy: str | None, used: int = 2_000_000_000, total: int = 16_000_000_000) -> Path:
    """Add a card as the amdgpu driver shows it; without `busy` one of another driver, with a connector beside it."""
    folder = drm / f"card{number}" / "device"
    folder.mkdir(parents=True)
    (drm / f"card{number}-HDMI-A-1" / "device").mkdir(parents=True)
    if busy is not None:
        (folder / "gpu_busy_percent").write_text(busy)
        (folder / "mem_info_vram_used").write_text(f"{used}\n")
        (folder / "mem_info_vram_total").write_text(f"{total}\n")
    return folder


def test_amd_cards_are_counted_in_order_and_those_that_do_not_tell_are_not(tmp_path: Path) -> None:
    add_card(tmp_path, 0, None)
    add_card(tmp_path, 10, "80\n", used=1_500_000_000)
    add_card(tmp_path, 2, "5\n")
    first, second, third = (GpuReader(i, nvidia_library=NO_LIBRARY, drm_folder=tmp_path) for i in range(3))
    assert first.read() == GpuUsage(0.05, 2000.0, 16000.0)
    assert second.read() == GpuUsage(0.8, 1500.0, 16000.0)
    assert not third.found


def test_an_amd_card_that_is_pulled_out_or_writes_nonsense_is_none(tmp_path: Path) -> None:
    folder = add_card(tmp_path, 0, "50\n")
    reader = GpuReader(nvidia_library=NO_LIBRARY, drm_folder=tmp_path)
    (folder / "gpu_busy_percent").write_text("\n")
    assert reader.read() is None
    (folder / "gpu_busy_percent").write_text("50\n")
    assert reader.read() is not None
    (folder / "mem_info_vram_used").unlink()
    assert reader.read() is None


def test_nvidia_comes_first_and_amd_where_nvidia_has_no_driver(tmp_path: Path, nvml: FakeNvml) -> None:
    add_card(tmp_path / "drm", 0, "5\n")
    both = GpuReader(nvidia_library=nvml.path, drm_folder=tmp_path / "drm")
    assert both.read() == GpuUsage(0.37, 3000.0, 24000.0)
    nvml["init_result"] = DRIVER_NOT_LOADED
    without_driver = GpuReader(nvidia_library=nvml.path, drm_folder=tmp_path / "drm")
    assert without_driver.read() == GpuUsage(0.05, 2000.0, 16000.0)
    assert without_driver.found


# --- the monitor


def test_the_monitor_keeps_the_newest_reading_until_it_is_stopped(
    nvml: FakeNvml, monitor_of: Callable[[GpuReader], GpuMonitor]
) -> None:
    monitor = monitor_of(nvml.reader())
    assert monitor.latest is None
    monitor.start()
    monitor.start()
    assert len(gpu_threads()) == 1
    assert wait_for(lambda: monitor.latest == GpuUsage(0.37, 3000.0, 24000.0))
    nvml["busy_percent"] = 90
    assert wait_for(lambda: monitor.latest == GpuUsage(0.9, 3000.0, 24000.0))
    nvml["busy_result"] = NOT_SUPPORTED
    assert wait_for(lambda: monitor.latest is None)
    monitor.stop()
    assert gpu_threads() == []
    assert nvml["shutdowns"] == 1
    nvml["busy_result"] = 0
    monitor.start()
    assert wait_for(lambda: monitor.latest is not None)


def test_without_a_gpu_there_is_no_thread(monitor_of: Callable[[GpuReader], GpuMonitor]) -> None:
    monitor = monitor_of(GpuReader(nvidia_library=NO_LIBRARY, drm_folder=NOWHERE))
    monitor.start()
    assert gpu_threads() == []
    monitor.stop()
    assert monitor.latest is None


def test_without_a_driver_the_thread_ends_by_itself(nvml: FakeNvml, monitor_of: Callable[[GpuReader], GpuMonitor]) -> None:
    nvml["init_result"] = DRIVER_NOT_LOADED
    monitor = monitor_of(nvml.reader())
    monitor.start()
    assert wait_for(lambda: gpu_threads() == [])
    assert monitor.latest is None


def test_a_driver_that_hangs_holds_up_nobody_but_its_own_thread(
    nvml: FakeNvml, monitor_of: Callable[[GpuReader], GpuMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "STOP_TIMEOUT_S", 0.05)
    nvml["hang"] = 1
    monitor = monitor_of(nvml.reader())
    monitor.start()
    assert wait_for(lambda: nvml["hanging"] == 1)
    monitor.stop()
    assert len(gpu_threads()) == 1 and monitor.latest is None
    nvml["hang"] = 0
    assert wait_for(lambda: gpu_threads() == [])
    assert monitor.latest is None


def test_the_machine_of_the_tests_is_read_without_an_error() -> None:
    usage = GpuReader().read()
    assert usage is None or (0.0 <= usage.util <= 1.0 and 0.0 <= usage.memory_mb <= usage.memory_total_mb)
