from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]


def test_the_pictures_of_the_readme_can_be_made_are_small_and_show_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("make_screenshots", ROOT / "tools" / "make_screenshots.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, tool)
    spec.loader.exec_module(tool)
    tool.main(tmp_path / "new folder")
    made = {path.name: path for path in (tmp_path / "new folder").iterdir()}
    assert set(made) == {path.name for path in (ROOT / "docs").glob("rvcctl*.svg")}
    for name, words in {
        "rvcctl.svg": ("LIVE", "412.0", "loading"),
        "rvcctl-panic.svg": ("PANIC",),
        "rvcctl-small.svg": ("REC",),
    }.items():
        text = "".join(ElementTree.parse(made[name]).getroot().itertext())
        assert all(word in text for word in words), name
        assert made[name].stat().st_size < 120_000
    assert capsys.readouterr().out.count("kB") == len(made)
