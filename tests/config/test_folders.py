"""Which folders rvcd uses, and what is said where none can be known."""

from __future__ import annotations

import contextlib
import pwd
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rvcd.cli import main as cli
from rvcd.config import folders
from rvcd.config.settings import DEFAULT_CONFIG, Record, find_config, load_config, parse_config
from rvcd.daemon.recording import record_settings
from rvcd.daemon.state import state_path
from rvcd.errors import ConfigError, RvcdError

VARIABLES = ("HOME", "STATE_DIRECTORY", "CACHE_DIRECTORY", "RVCD_CONFIG", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
HOME = Path("/home/ann")
OF_A_USER: dict[str, tuple[Callable[[], Path], Path]] = {
    "XDG_STATE_HOME": (folders.state_folder, HOME / ".local/state/rvcd"),
    "XDG_CACHE_HOME": (folders.cache_folder, HOME / ".cache/rvcd"),
    "XDG_CONFIG_HOME": (lambda: folders.user_config().parent, HOME / ".config/rvcd"),
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing of folders but where the home is."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(HOME))
    return monkeypatch


@pytest.fixture
def homeless(environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A container's made-up user: no HOME, and no line in /etc/passwd."""

    def unknown(number: int) -> pwd.struct_passwd:
        raise KeyError(number)

    environment.delenv("HOME")
    environment.setattr(pwd, "getpwuid", unknown)
    return environment


@pytest.mark.parametrize("variable", OF_A_USER)
@pytest.mark.parametrize("relative", ["", "here", "./here", "~/here", "$HOME/here"])
def test_a_variable_names_the_place_unless_it_is_empty_or_relative(
    environment: pytest.MonkeyPatch, variable: str, relative: str
) -> None:
    folder, usual = OF_A_USER[variable]
    assert folder() == usual
    environment.setenv(variable, relative)
    assert folder() == usual
    environment.setenv(variable, "/elsewhere")
    assert folder() == Path("/elsewhere/rvcd")


def test_a_service_s_own_folders_come_first(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("XDG_STATE_HOME", "/y")
    environment.setenv("XDG_CACHE_HOME", "/y")
    environment.setenv("STATE_DIRECTORY", "/var/lib/rvcd:/var/lib/more")
    environment.setenv("CACHE_DIRECTORY", "/var/cache/rvcd")
    assert state_path() == Path("/var/lib/rvcd/state.json")
    assert folders.cache_folder() == Path("/var/cache/rvcd")


@pytest.mark.parametrize(
    "state, expected",
    [
        ("", "/home/ann/Music/rvcd"),
        ("/home/ann/.local/state/rvcd", "/home/ann/Music/rvcd"),
        ("/var/lib/rvcd:/var/lib/more", "/var/lib/rvcd/recordings"),
        ("/var/library/rvcd", "/home/ann/Music/rvcd"),
    ],
)
def test_without_a_folder_in_the_configuration_recordings_go_where_this_user_may_write(
    environment: pytest.MonkeyPatch, state: str, expected: str
) -> None:
    environment.setenv("STATE_DIRECTORY", state)
    assert record_settings(Record()).folder == Path(expected)


@pytest.mark.parametrize(
    "given, state, recordings",
    [
        ("", "/home/ann/.local/state/rvcd/rvcd@deep", "/home/ann/Music/rvcd/deep"),
        ("/var/lib/rvcd/rvcd@deep", "/var/lib/rvcd/rvcd@deep", "/var/lib/rvcd/rvcd@deep/recordings"),
        ("/var/lib/rvcd", "/var/lib/rvcd/rvcd@deep", "/var/lib/rvcd/rvcd@deep/recordings"),
        ("/home/ann/.config/rvcd/rvcd@deep", "/home/ann/.config/rvcd/rvcd@deep", "/home/ann/Music/rvcd/deep"),
        ("/var/lib/rvcd/rvcd@high", "/var/lib/rvcd/rvcd@high/rvcd@deep", "/var/lib/rvcd/rvcd@high/rvcd@deep/recordings"),
    ],
)
def test_a_name_has_folders_of_its_own_also_where_a_unit_gives_it_somebody_else_s(
    environment: pytest.MonkeyPatch, given: str, state: str, recordings: str
) -> None:
    environment.setenv("STATE_DIRECTORY", given)
    assert state_path("deep") == Path(state) / "state.json"
    assert record_settings(Record(), "deep").folder == Path(recordings)
    assert record_settings(Record(folder="/srv/sound"), "deep").folder == Path("/srv/sound")


def test_a_name_has_a_configuration_of_its_own_beside_the_unnamed_one_s(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RVCD_CONFIG", "/of/the/unnamed.toml")
    assert folders.config_files("deep") == (HOME / ".config/rvcd/rvcd@deep.toml", Path("/etc/rvcd/rvcd@deep.toml"))
    assert folders.config_files() == (HOME / ".config/rvcd/rvcd.toml", Path("/etc/rvcd/rvcd.toml"))
    assert find_config(instance="deep") == DEFAULT_CONFIG
    assert find_config(Path("/this.toml"), "deep") == Path("/this.toml")
    assert find_config() == Path("/of/the/unnamed.toml")


def test_voices_are_looked_for_where_the_documented_configuration_says(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("XDG_DATA_HOME", "/elsewhere")
    environment.setattr(folders, "SYSTEM_CONFIG", Path("/nonexistent.toml"))
    assert load_config().voices.folders == (str(folders.voices_folder()),) == ("/home/ann/.local/share/rvcd/voices",)
    assert parse_config({}, Path("rvcd.toml")).voices.folders == (str(folders.voices_folder()),)


@pytest.mark.parametrize("home", ["", "here"])
def test_an_empty_or_relative_home_counts_as_none(environment: pytest.MonkeyPatch, home: str) -> None:
    environment.setenv("HOME", home)
    known = pwd.getpwuid(0)
    environment.setattr(pwd, "getpwuid", lambda number: known)
    assert folders.state_folder() == Path(known.pw_dir, ".local/state/rvcd")
    assert folders.voices_folder() == Path(known.pw_dir, ".local/share/rvcd/voices")


def test_without_any_home_the_sentence_says_what_to_set(homeless: pytest.MonkeyPatch) -> None:
    for variable, (folder, _) in OF_A_USER.items():
        with pytest.raises(RvcdError, match=f"set HOME or {variable} to an absolute path"):
            folder()
        homeless.setenv(variable, "/set")
        assert folder() == Path("/set/rvcd")
    for place in (folders.voices_folder, folders.recordings_folder):
        with pytest.raises(RvcdError, match="set HOME to an absolute path"):
            place()


def test_without_any_home_a_configuration_that_needs_none_is_read(homeless: pytest.MonkeyPatch, tmp_path: Path) -> None:
    system = tmp_path / "rvcd.toml"
    homeless.setattr(folders, "SYSTEM_CONFIG", system)
    system.write_text('[voices]\nfolders = ["/srv/voices"]\n')
    assert load_config().voices.folders == ("/srv/voices",)
    system.write_text("")
    with pytest.raises(RvcdError, match=r"~/\.local/share/rvcd/voices: that home folder is not known; set HOME"):
        load_config()


@pytest.mark.parametrize("key", ["voices.folders[0]", "models.rmvpe", "voices.voice", "record.folder", "audio.virtual.output"])
def test_somebody_s_home_that_is_not_there_is_a_problem_of_its_key(environment: pytest.MonkeyPatch, key: str) -> None:
    section, _, name = key.rpartition(".")
    value: object = "~no-such-user/x"
    if name.endswith("[0]"):
        name, value = name[:-3], [value]
    tables: dict[str, object] = {name: value}
    for part in reversed(section.split(".")):
        tables = {part: tables}
    with pytest.raises(ConfigError) as caught:
        parse_config(tables, Path("rvcd.toml"))
    (problem,) = caught.value.problems
    assert problem.startswith(f"{key}: ~no-such-user/x: that home folder is not known")


@pytest.mark.parametrize("arguments", [("config", "--write", "~no-such-user/x"), ("check", "--config", "~no-such-user/x")])
def test_somebody_s_home_that_is_not_there_is_one_line_of_the_command(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Sequence[str]
) -> None:
    environment.setattr(sys, "argv", ["rvcd", *arguments])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert re.fullmatch("rvcd: ~no-such-user/x: that home folder is not known; .*\n", capsys.readouterr().err)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_path_is_expanded_as_the_shell_does_or_refused(environment: pytest.MonkeyPatch, text: str) -> None:
    if text.startswith("~"):
        with contextlib.suppress(RvcdError):
            assert folders.expand_home(text).is_absolute()
    else:
        assert folders.expand_home(text) == Path(text)
    assert folders.expand_home(f"~/{text.lstrip('/~')}") == HOME / text.lstrip("/~")
