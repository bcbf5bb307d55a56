"""Two daemons never share a state: the second is refused in one sentence, and what the first keeps stays as it is."""

from __future__ import annotations

from pathlib import Path

from tests.daemon_process import DEMO, DaemonProcess, running
from tests.waiting import HANG_S


def test_a_second_daemon_with_the_same_state_is_refused_and_the_first_ones_mute_stays(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    shared = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with running(tmp_path / "first", DEMO, shared) as first:
        first.osc.ask("/rvc/mute", 1)
        second = DaemonProcess(tmp_path / "second", DEMO, shared).start()
        assert second.process is not None and second.process.wait(HANG_S) == 1
        assert f"another rvcd (process {first.process.pid})" in second.log  # type: ignore[union-attr]
        assert len([line for line in second.log.splitlines() if line.startswith("rvcd: ")]) == 1
        assert "Traceback" not in second.log
        first.osc.until(lambda stats: stats.state == "muted")
