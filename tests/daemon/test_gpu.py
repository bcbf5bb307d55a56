"""The GPU reader against a module like pynvml, pynvml itself over a library in C, and folders that look like sysfs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from rvcd.daemon import gpu
from rvcd.daemon.gpu import GpuMonitor, GpuReader, GpuUsage

NOWHERE = Path("/nowhere/at/all")
HERE = Path(__file__).parent


class NvmlError(Exception):
    """What a call raises that the driver refuses."""


@dataclass
class FakeNvml:
    """Has the functions of pynvml. refuses: names of those that raise. hang: readings wait until it is set."""

    devices: int = 2
    busy_percent: int = 37
    used: int = 3_000_000_000
    total: int = 24_000_000_000
    refuses: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    hang: threading.Event | None = None
    hanging: threading.Event = field(default_factory=threading.Event)

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*args: object) -> object:
            self.calls.append(name)
            if name in self.refuses:
                raise NvmlError(name)
            return self._answer(name, *args)

        return call

    def _answer(self, name: str, *args: object) -> object:
        if name == "nvmlDeviceGetCount":
            return self.devices
        if name == "nvmlDeviceGetHandleByIndex":
            return ("device", *args)
        if name == "nvmlDeviceGetUtilizationRates":
            if self.hang is not None:
                self.hanging.set()
                self.hang.wait(60)
            return SimpleNamespace(gpu=self.busy_percent, memory=99)
        if name == "nvmlDeviceGetMemoryInfo":
            return SimpleNamespace(total=self.total, free=self.total - self.used, used=self.used)
        return None

    def reader(self, index: int = 0, drm_folder: Path = NOWHERE) -> GpuReader:
        return GpuReader(index, nvidia_signs=(HERE,), import_nvml=lambda: self, drm_folder=drm_folder)


def amd_reader(drm_folder: Path, index: int = 0) -> GpuReader:
    return GpuReader(index, nvidia_signs=(NOWHERE,), drm_folder=drm_folder)


@pytest.fixture
def nvml() -> FakeNvml:
    return FakeNvml()


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


def test_the_driver_is_woken_by_the_first_read_only_and_let_go_by_close(nvml: FakeNvml) -> None:
    reader = nvml.reader()
    assert nvml.calls == []
    reader.read()
    reader.read()
    assert (nvml.calls.count("nvmlInit"), nvml.calls.count("nvmlShutdown")) == (1, 0)
    reader.close()
    reader.close()
    assert nvml.calls.count("nvmlShutdown") == 1
    assert reader.read() is not None


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_a_library_without_a_driver_or_device_is_asked_once_and_never_again(nvml: FakeNvml, name: str) -> None:
    nvml.refuses = {name}
    reader = nvml.reader()
    assert [reader.read() for _ in range(3)] == [None] * 3
    assert not reader.found
    assert nvml.calls.count("nvmlInit") == 1
    assert nvml.calls.count("nvmlShutdown") == (0 if name == "nvmlInit" else 1)


@pytest.mark.parametrize("index", [2, -1, 10**9])
def test_a_device_that_is_not_there_is_none(nvml: FakeNvml, index: int) -> None:
    assert nvml.reader(index).read() is None
    assert "nvmlDeviceGetHandleByIndex" not in nvml.calls


@pytest.mark.parametrize("name", ["nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo"])
def test_a_device_that_does_not_tell_for_a_while_is_asked_again(nvml: FakeNvml, name: str) -> None:
    reader = nvml.reader()
    nvml.refuses = {name}
    assert reader.read() is None
    nvml.refuses = set()
    assert reader.read() == GpuUsage(0.37, 3000.0, 24000.0)


def test_a_driver_that_cannot_even_end_is_let_go(nvml: FakeNvml) -> None:
    nvml.refuses = {"nvmlShutdown"}
    reader = nvml.reader()
    reader.read()
    reader.close()


def test_a_load_beyond_100_percent_is_1(nvml: FakeNvml) -> None:
    nvml.busy_percent = 250
    usage = nvml.reader().read()
    assert usage is not None and usage.util == 1.0


def test_without_a_sign_of_a_driver_nothing_is_imported(nvml: FakeNvml) -> None:
    reader = amd_reader(NOWHERE)
    assert not reader.found
    assert reader.read() is None
    reader.close()
    assert nvml.calls == []


def test_a_package_that_is_missing_is_no_gpu() -> None:
    def missing() -> object:
        raise ModuleNotFoundError("No module named 'pynvml'")

    reader = GpuReader(nvidia_signs=(HERE,), import_nvml=missing, drm_folder=NOWHERE)
    assert reader.read() is None
    assert not reader.found


NVML_IN_C = """
#include <stddef.h>
static int device[2];
int nvmlInitWithFlags(unsigned flags) { return flags != 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &device[index]; return 0; }
int nvmlDeviceGetUtilizationRates(void *handle, unsigned percent[2])
{
    percent[0] = 37;
    percent[1] = 99;
    return handle != &device[1];
}
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long bytes[3])
{
    bytes[0] = 24000000000ull;
    bytes[1] = 21000000000ull;
    bytes[2] = 3000000000ull;
    return handle != &device[1];
}
"""


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (NVML_IN_C, "GpuUsage(util=0.37, memory_mb=3000.0, memory_total_mb=24000.0)"),
        ("int nvmlInit(void) { return 0; }", "None"),
        ("int nvmlInitWithFlags(unsigned flags) { return 9; }", "None"),
        (None, "None"),
    ],
    ids=["two devices", "a library of another age", "no driver", "no library"],
)
def test_the_real_package_reads_a_library_that_has_nvmls_functions(tmp_path: Path, source: str | None, told: str) -> None:
    if source is None:
        (tmp_path / "libnvidia-ml.so.1").write_text("this is no library")
    else:
        (tmp_path / "nvml.c").write_text(source)
        command = ["cc", "-shared", "-fPIC", "-o", str(tmp_path / "libnvidia-ml.so.1"), str(tmp_path / "nvml.c")]
        subprocess.run(command, check=True, timeout=60)
    code = (
        "from pathlib import Path; from rvcd.daemon.gpu import GpuReader;"
        "reader = GpuReader(1, nvidia_signs=(Path('/'),), drm_folder=Path('/nowhere'));"
        "print(reader.read()); print(reader.read()); reader.close()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=HERE.parents[1],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
    )  # fmt: skip
    assert ran.stdout.splitlines() == [told, told], ran.stderr


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
    first, second, third = (amd_reader(tmp_path, i) for i in range(3))
    assert first.read() == GpuUsage(0.05, 2000.0, 16000.0)
    assert second.read() == GpuUsage(0.8, 1500.0, 16000.0)
    assert not third.found


def test_an_amd_card_that_is_pulled_out_or_writes_nonsense_is_none(tmp_path: Path) -> None:
    folder = add_card(tmp_path, 0, "50\n")
    reader = amd_reader(tmp_path)
    (folder / "gpu_busy_percent").write_text("\n")
    assert reader.read() is None
    (folder / "gpu_busy_percent").write_text("50\n")
    assert reader.read() is not None
    (folder / "mem_info_vram_used").unlink()
    assert reader.read() is None


def test_nvidia_comes_first_and_amd_where_nvidia_has_no_driver(tmp_path: Path, nvml: FakeNvml) -> None:
    add_card(tmp_path / "drm", 0, "5\n")
    both = nvml.reader(drm_folder=tmp_path / "drm")
    assert both.read() == GpuUsage(0.37, 3000.0, 24000.0)
    nvml.refuses = {"nvmlInit"}
    without_driver = nvml.reader(drm_folder=tmp_path / "drm")
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
    nvml.busy_percent = 90
    assert wait_for(lambda: monitor.latest == GpuUsage(0.9, 3000.0, 24000.0))
    nvml.refuses = {"nvmlDeviceGetUtilizationRates"}
    assert wait_for(lambda: monitor.latest is None)
    monitor.stop()
    assert gpu_threads() == []
    assert nvml.calls.count("nvmlShutdown") == 1
    nvml.refuses = set()
    monitor.start()
    assert wait_for(lambda: monitor.latest is not None)


def test_without_a_gpu_there_is_no_thread(monitor_of: Callable[[GpuReader], GpuMonitor]) -> None:
    monitor = monitor_of(amd_reader(NOWHERE))
    monitor.start()
    assert gpu_threads() == []
    monitor.stop()
    assert monitor.latest is None


def test_without_a_driver_the_thread_ends_by_itself(nvml: FakeNvml, monitor_of: Callable[[GpuReader], GpuMonitor]) -> None:
    nvml.refuses = {"nvmlInit"}
    monitor = monitor_of(nvml.reader())
    monitor.start()
    assert wait_for(lambda: gpu_threads() == [])
    assert monitor.latest is None


def test_a_driver_that_hangs_holds_up_nobody_but_its_own_thread(
    nvml: FakeNvml, monitor_of: Callable[[GpuReader], GpuMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "STOP_TIMEOUT_S", 0.05)
    nvml.hang = threading.Event()
    monitor = monitor_of(nvml.reader())
    monitor.start()
    assert nvml.hanging.wait(20)
    monitor.stop()
    assert len(gpu_threads()) == 1 and monitor.latest is None
    nvml.hang.set()
    assert wait_for(lambda: gpu_threads() == [])
    assert monitor.latest is None


def test_the_machine_of_the_tests_is_read_without_an_error() -> None:
    usage = GpuReader().read()
    assert usage is None or (0.0 <= usage.util <= 1.0 and 0.0 <= usage.memory_mb <= usage.memory_total_mb)
