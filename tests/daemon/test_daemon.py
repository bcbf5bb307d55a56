"""The daemon as a process: the real worker, the real OSC socket, the virtual device."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import pty
import random
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from rvcd.nets.test_weights import ensure_test_weights
from rvcd.params import BY_NAME
from tests.daemon_process import DEMO, DaemonProcess, running
from tests.waiting import HANG_S, eventually, signals_as_at_a_terminal


class Evil:
    """Unpickling this would run a command."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with running(tmp_path_factory.mktemp("daemon"), DEMO) as process:
        process.osc.until(lambda s: s.state == "live" and s.blocks > 3)
        yield process


def test_it_converts_the_demo_speech(daemon: DaemonProcess):
    stats = daemon.osc.until(lambda s: s.in_peak_dbfs > -40 and s.out_peak_dbfs > -60 and s.f0_hz > 50)
    assert stats.voice == "test-buzz" and stats.voice_slot == 1
    assert stats.latency_total_ms == pytest.approx(200 + 136 + 160 + stats.latency_device_in_ms + stats.latency_device_out_ms)


def test_parameters_are_clamped_and_echoed(daemon: DaemonProcess):
    assert daemon.osc.ask("/rvc/pitch", 3.0).params == [3.0]
    assert daemon.osc.ask("/rvc/pitch", 99).params == [24.0]
    assert daemon.osc.ask("/rvc/pitch", float("nan")).address == "/rvc/fail"
    assert daemon.osc.ask("/rvc/pitch").params == [24.0]
    daemon.osc.ask("/rvc/pitch", 0)


def test_a_voice_is_switched_by_name_and_a_wrong_one_leaves_the_old_one_live(daemon: DaemonProcess):
    done = daemon.osc.do("/rvc/voice", "test-hum")
    assert done.address == "/rvc/done", done.params
    assert daemon.osc.stats().voice == "test-hum"
    fail = daemon.osc.do("/rvc/voice", "test-hun")
    assert fail.address == "/rvc/fail" and "'test-hun'" in fail.params[1]
    fail = daemon.osc.do("/rvc/voice", "../../etc/passwd")
    assert fail.address == "/rvc/fail"
    stats = daemon.osc.stats()
    assert stats.voice == "test-hum" and stats.state == "live"
    assert daemon.osc.do("/rvc/voice", 1).address == "/rvc/done"


def test_the_f0_method_is_switched_and_a_missing_one_is_named(daemon: DaemonProcess):
    assert daemon.osc.do("/rvc/f0/method", "yin").address == "/rvc/done"
    assert daemon.osc.stats().f0_method == "yin"
    fail = daemon.osc.do("/rvc/f0/method", "rmvpe")
    assert fail.address == "/rvc/fail" and "rmvpe.pt" in fail.params[1]
    assert daemon.osc.do("/rvc/f0/method", "swift").address == "/rvc/done"


def test_panic_silences_until_it_is_cleared(daemon: DaemonProcess):
    assert daemon.osc.ask("/rvc/panic").params == [1]
    daemon.osc.until(lambda s: s.state == "panic" and s.out_peak_dbfs == -120.0)  # faded out
    for _ in range(10):
        stats = daemon.osc.stats()
        assert stats.state == "panic" and stats.out_peak_dbfs == -120.0
    daemon.osc.send("/rvc/panic/clear")
    daemon.osc.until(lambda s: s.state == "live" and s.out_peak_dbfs > -60)


def test_garbage_datagrams_change_nothing(daemon: DaemonProcess):
    chance = random.Random(5)
    before = daemon.osc.stats()
    for _ in range(2000):
        daemon.osc.socket.send(chance.randbytes(chance.randrange(1, 80)))
    daemon.osc.socket.send(b"#bundle\0" + bytes(8) + b"\xff\xff\xff\xfc")
    daemon.osc.settle()
    daemon.osc.send("/rvc/ping", 7)
    assert daemon.osc.wait_for("/rvc/pong").params == [7]
    assert daemon.osc.stats().worker_restarts == before.worker_restarts
    for name in BY_NAME:
        assert np.isfinite(daemon.osc.ask("/rvc" + BY_NAME[name].address).params[0])


def test_a_killed_worker_gives_silence_then_the_voice_again_at_the_same_latency(tmp_path: Path):
    rate_hz = 48000
    with running(tmp_path, DEMO + '[audio.virtual]\ninput = "tone:220"\noutput = "out.wav"\n') as daemon:
        before = daemon.osc.until(lambda s: s.state == "live" and s.blocks > 3)
        pid = daemon.worker_pid()
        os.kill(pid, signal.SIGKILL)
        daemon.osc.until(lambda s: s.worker_restarts == before.worker_restarts + 1)
        # The device and the control process never stop.
        assert daemon.osc.ask("/rvc/pitch").params == [0.0]
        after = daemon.osc.until(lambda s: s.state == "live" and s.out_peak_dbfs > -60)
        assert after.latency_total_ms == before.latency_total_ms
        assert after.voice == before.voice and after.blocks >= before.blocks
        assert daemon.worker_pid() != pid
        daemon.osc.until(lambda s: s.blocks > after.blocks + 3)
    assert "killed by signal 9" in daemon.log
    out, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    heard = np.flatnonzero(out)
    # A new worker cannot be there before what the old one had finished is played: there is silence in between, and no raw tone.
    assert np.diff(heard).max() > 0.1 * rate_hz
    tenths = out[: len(out) // 4800 * 4800].reshape(-1, 4800)
    assert max(raw_share(tenth, rate_hz) for tenth in tenths) < 0.999


def raw_share(out: np.ndarray, rate_hz: int) -> float:
    """Return which share of some output's energy is a plain tone of 220 Hz, as the virtual device plays it in."""
    energy = float(np.sum(out.astype(np.float64) ** 2))
    turned = np.abs(np.sum(out * np.exp(-2j * np.pi * 220 * np.arange(len(out)) / rate_hz)))
    return 2 * float(turned) ** 2 / (len(out) * energy) if energy > 1e-6 * len(out) else 0.0


def test_a_hanging_worker_is_noticed_and_replaced(daemon: DaemonProcess):
    before = daemon.osc.until(lambda s: s.state == "live")
    os.kill(daemon.worker_pid(), signal.SIGSTOP)
    daemon.osc.until(lambda s: s.worker_restarts > before.worker_restarts)
    daemon.osc.until(lambda s: s.state == "live" and s.out_peak_dbfs > -60)
    assert "no sign of life" in daemon.log


def test_mute_voice_and_parameters_survive_a_restart_and_bypass_does_not(tmp_path: Path):
    with running(tmp_path, DEMO) as daemon:
        daemon.osc.until(lambda s: s.state == "live")
        daemon.osc.ask("/rvc/pitch", -5)
        assert daemon.osc.do("/rvc/voice", "test-hum").address == "/rvc/done"
        daemon.osc.ask("/rvc/bypass", 1)
        daemon.osc.ask("/rvc/mute", 1)
    saved = json.loads((tmp_path / "state" / "rvcd" / "state.json").read_text())
    assert saved["voice"] == "test-hum" and saved["mute"] is True and saved["params"]["pitch"] == -5.0
    again = DaemonProcess(tmp_path, DEMO).start()
    try:
        stats = again.osc.until(lambda s: s.state == "muted")
        assert stats.voice == "test-hum" and stats.bypass == 0
        assert again.osc.ask("/rvc/pitch").params == [-5.0]
    finally:
        again.stop()


def test_a_broken_voice_file_is_one_sentence_and_the_daemon_stays(tmp_path: Path):
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not a voice")
    with running(tmp_path, f'[audio]\nbackend = "virtual"\n[voices]\nvoice = "{broken}"\n') as daemon:
        stats = daemon.osc.until(lambda s: s.state == "no-voice")
        assert stats.out_peak_dbfs == -120.0
        assert daemon.log.count("broken.pth") == 1
        assert daemon.osc.do("/rvc/voice", "test-buzz").address == "/rvc/done"
        daemon.osc.until(lambda s: s.state == "live" and s.out_peak_dbfs > -60)


def test_bad_voices_of_a_folder_are_refused_one_by_one_and_the_good_one_stays_live(tmp_path: Path):
    weights = ensure_test_weights(tmp_path / "weights")
    voices = tmp_path / "voices"
    voices.mkdir()
    good = weights.voice_v2.read_bytes()
    (voices / "good.pth").write_bytes(good)
    (voices / "cut.pth").write_bytes(good[: len(good) // 2])
    (voices / "text.pth").write_text("hello")
    (voices / "empty.pth").write_bytes(b"")
    torch.save({"model": {}, "optimizer": {}, "learning_rate": 1e-4, "iteration": 5}, voices / "training.pth")
    torch.save({**torch.load(weights.voice_v2, weights_only=True), "vocoder": "BigVGAN"}, voices / "big.pth")
    (voices / "evil.pth").write_bytes(pickle.dumps(Evil(tmp_path / "owned")))
    config = f"""
[audio]
backend = "virtual"
[models]
content_encoder = "{weights.encoder}"
[voices]
folders = ["{voices}"]
voice = "good"
[latency]
preset = "safe"
"""
    with running(tmp_path, config) as daemon:
        daemon.osc.until(lambda s: s.state == "live")
        for name in ("cut", "text", "empty", "training", "big", "evil"):
            answer = daemon.osc.do("/rvc/voice", name)
            assert answer.address == "/rvc/fail", name
            assert f"{name}.pth" in answer.params[1] and "\n" not in answer.params[1], answer.params
            assert daemon.osc.stats().voice == "good"
        assert not (tmp_path / "owned").exists()
        stats = daemon.osc.until(lambda s: s.out_peak_dbfs > -60)
        assert stats.state == "live" and stats.worker_restarts == 0


def test_a_voice_with_a_broken_index_is_live_without_it_and_the_log_says_why_once(tmp_path: Path):
    weights = ensure_test_weights(tmp_path / "weights")
    voices = tmp_path / "voices"
    voices.mkdir()
    (voices / "anna.pth").write_bytes(weights.voice_v2.read_bytes())
    (voices / "anna.index").write_bytes(weights.index_v2.read_bytes()[:1000])
    config = f'''
[audio]
backend = "virtual"
[models]
content_encoder = "{weights.encoder}"
[voices]
folders = ["{voices}"]
[latency]
preset = "safe"
'''
    with running(tmp_path, config) as daemon:
        daemon.osc.until(lambda s: s.state == "live" and s.out_peak_dbfs > -60)
        assert daemon.log.count(f"anna runs without its index: {voices / 'anna.index'}: is cut short") == 1


def test_a_daemon_without_a_configured_latency_measures_it_before_anything_is_heard(tmp_path: Path):
    totals = {"low": 186, "balanced": 396, "safe": 496}
    with running(tmp_path, '[audio]\nbackend = "virtual"\n[voices]\nvoice = "test-buzz"\n') as daemon:
        stats = daemon.osc.until(lambda s: s.state == "live" and s.out_peak_dbfs > -60)
        device_ms = stats.latency_device_in_ms + stats.latency_device_out_ms
        assert stats.latency_total_ms == pytest.approx(totals[stats.latency_preset] + device_ms)
        assert daemon.log.count(f"latency preset {stats.latency_preset}, chosen by measurement") == 1
        assert "converts again" not in daemon.log
    assert not (tmp_path / "state" / "rvcd" / "state.json").exists()  # nobody has asked for anything


def test_a_file_through_the_virtual_device_comes_out_delayed_by_exactly_the_latency(tmp_path: Path):
    rate_hz = 48000
    clicks = np.zeros(rate_hz * 3, np.float32)
    clicks[rate_hz :: rate_hz // 2] = 0.5
    soundfile.write(tmp_path / "in.wav", clicks, rate_hz, subtype="FLOAT")
    # Until a key is held the raw clicks pass, through the same delay as the voice.
    config = (
        '[audio]\nbackend = "virtual"\n[audio.virtual]\ninput = "in.wav"\noutput = "out.wav"\nloop = false\nrealtime = false\n'
        '[talk]\nmode = "push-to-convert"\n'
    )
    daemon = DaemonProcess(tmp_path, config).start()
    assert daemon.process.wait(HANG_S) == 0, daemon.log
    out, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    latency = round(0.396 * rate_hz)
    heard = np.flatnonzero(out > 0.4)
    assert list(heard) == list(np.flatnonzero(clicks) + latency)


def test_it_refuses_to_start_beside_another_on_the_same_port(daemon: DaemonProcess, tmp_path: Path):
    second = DaemonProcess(tmp_path, "")
    second.config.write_text(f'[audio]\nbackend = "virtual"\n[osc]\nport = {daemon.port}\n')
    second.start()
    assert second.process.wait(HANG_S) == 1
    assert str(daemon.port) in second.log and "Traceback" not in second.log
    assert len(second.log.strip().splitlines()) <= 2


def test_a_daemon_whose_terminal_is_closed_stops(tmp_path):
    daemon = DaemonProcess(tmp_path, '[audio]\nbackend = "virtual"\n')
    ours, its = pty.openpty()
    with signals_as_at_a_terminal():
        daemon.process = subprocess.Popen(
            [sys.executable, "-m", "rvcd.cli.main", "run", "--config", str(daemon.config)],
            stdin=its, stdout=its, stderr=its, env=daemon.environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
    os.close(its)
    try:
        daemon.osc.until(lambda stats: stats.state != "")
        daemon.process.send_signal(signal.SIGHUP)  # by hand: only a look for voices
        time.sleep(0.5)
        assert daemon.osc.stats().uptime_s > 0 and daemon.process.poll() is None
        os.close(ours)
        assert daemon.process.wait(HANG_S) is not None
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()


def test_the_start_removes_what_killed_imports_have_left(tmp_path: Path):
    left = tmp_path / "voices" / ".import-0123456789abcdef"
    left.mkdir(parents=True)
    (left / "0").write_bytes(b"half a voice")
    with running(tmp_path, '[audio]\nbackend = "virtual"\n[voices]\nfolders = ["voices"]\n') as daemon:
        eventually(lambda: not left.exists())
        eventually(lambda: "removed what killed imports had left" in daemon.log)
    assert (tmp_path / "voices").is_dir()
