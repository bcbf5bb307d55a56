"""The user unit under a real `systemd --user` on a private PipeWire desktop: servers start, and rvcd is a microphone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import free_port

ROOT = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
UNITS = ("pipewire.service", "pipewire.socket", "wireplumber.service", "pipewire-pulse.service", "pipewire-pulse.socket")
BEGIN = """
set -u
mount -t tmpfs tmpfs /run || exit 77
for name in system users seats sessions machines; do mkdir -p /run/systemd/$name; done
mkdir -m 700 "$XDG_RUNTIME_DIR" || exit 77
dbus-daemon --session --address="$DBUS_SESSION_BUS_ADDRESS" --nofork --nopidfile & bus=$!
until [ -S "$XDG_RUNTIME_DIR/bus" ]; do sleep 0.1; done
/lib/systemd/systemd --user >"$HOME/systemd.log" 2>&1 & manager=$!
for _ in $(seq 100); do systemctl --user is-system-running --quiet && break; sleep 0.1; done
systemctl --user is-system-running --quiet || { kill $bus; exit 77; }
"""
ONE = """
systemctl --user start rvcd.service; echo "start $?"
for _ in $(seq 200); do "$PROGRAM" mic status >/dev/null && break; sleep 0.2; done
for unit in rvcd pipewire wireplumber; do echo "$unit $(systemctl --user is-active $unit)"; done
for _ in $(seq 200); do systemctl --user show rvcd -p StatusText | grep -q no-device, && break; sleep 0.2; done
systemctl --user show rvcd -p StatusText
"$PROGRAM" mic status
systemctl --user stop rvcd.service; echo "stop $?"
"""
TWO = """
systemctl --user start rvcd.service rvcd@deep.service rvcd@high-2.service; echo "start $?"
for name in "" "--name deep" "--name high-2"; do
    for _ in $(seq 200); do "$PROGRAM" mic status $name >/dev/null && break; sleep 0.2; done
    "$PROGRAM" mic status $name
done
"$CLIENT" list
"$CLIENT" set mute on --name deep
"$CLIENT" get mute --name high-2
"$PROGRAM" run --name deep; echo "second $?"
systemctl --user stop rvcd.service rvcd@deep.service; echo "stop $?"
echo "left: $("$CLIENT" list | cut -d ' ' -f 1 | tr '\\n' ' ')"
"$CLIENT" get mute --name high-2
systemctl --user start rvcd@deep.service; echo "again $?"
"$CLIENT" get mute --name deep
systemctl --user stop rvcd@deep.service rvcd@high-2.service; echo "end $?"
"""
END = """
systemctl --user stop wireplumber pipewire pipewire.socket pipewire-pulse pipewire-pulse.socket
kill $manager; wait $manager
kill $bus
"""


def in_a_private_session(script: str, tmp_path: Path, names: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a script in a session of systemd of its own, with the units installed. names: of daemons that are configured, too."""
    tools = ("unshare", "systemctl", "dbus-daemon", "pipewire", "wireplumber", "pw-cli", "pipewire-pulse")
    if not SYSTEMD.exists() or (missing := [tool for tool in tools if shutil.which(tool) is None]):
        pytest.skip(f"not installed: systemd or {missing}")
    if not all(Path("/usr/lib/systemd/user", unit).exists() for unit in UNITS):
        pytest.skip("PipeWire's user units are not installed")
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/run/rvcd-test",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/rvcd-test/bus", "LC_ALL": "C.UTF-8",
        "PROGRAM": str(Path(sys.executable).parent / "rvcd"), "CLIENT": str(Path(sys.executable).parent / "rvcctl"),
    }  # fmt: skip
    venv = Path(environment["PROGRAM"]).parents[1]
    subprocess.run([ROOT / "tools" / "install_service.sh", venv], env=environment, capture_output=True, timeout=60, check=True)
    for unit in UNITS:  # Debian's refuse root, which a private session in a container may be
        drop_in = tmp_path / ".config" / "systemd" / "user" / f"{unit}.d" / "any-user.conf"
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text("[Unit]\nConditionUser=\n")
    config = tmp_path / ".config" / "rvcd" / "rvcd.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[osc]\nport = {free_port()}\n[models]\ncontent_encoder = "test"\n')
    for name in names:
        config.with_name(f"rvcd@{name}.toml").write_text('[models]\ncontent_encoder = "test"\n')
    (tmp_path / "session.sh").write_text(BEGIN + script + END)
    command = ["unshare", "--mount", "--propagation", "private", "sh", str(tmp_path / "session.sh")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("no private session of systemd can be started here")
    return done


def test_the_user_unit_starts_pipewire_and_rvcd_and_rvcd_is_a_microphone(tmp_path: Path) -> None:
    done = in_a_private_session(ONE, tmp_path)
    for line in ("start 0", "rvcd active", "pipewire active", "wireplumber active", "stop 0"):
        assert line in done.stdout.splitlines(), done.stdout + done.stderr
    assert "StatusText=no-device" in done.stdout, "this PipeWire has no source, and rvcd does not take its own"
    assert "PipeWire has the microphone 'rvcd'" in done.stdout


@pytest.mark.soak
def test_units_of_two_names_run_beside_the_one_without_and_each_ends_by_itself(tmp_path: Path) -> None:
    done = in_a_private_session(TWO, tmp_path, ("deep", "high-2"))
    lines, output = done.stdout.splitlines(), done.stdout + done.stderr
    for line in ("start 0", "second 1", "stop 0", "again 0", "end 0", "left: name high-2 "):
        assert line in lines, output
    for label in ("rvcd", "rvcd deep", "rvcd high-2"):
        assert f"PipeWire has the microphone '{label}'" in done.stdout, output
    assert [line.split()[0] for line in lines if line.startswith(("- ", "deep ", "high-2 "))] == ["-", "deep", "high-2"], output
    assert [line for line in lines if line in ("on", "off", "mute on")] == ["mute on", "off", "off", "on"], output
    assert "rvcd 'deep' runs already (process" in done.stderr
