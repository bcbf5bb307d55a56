"""The configuration: every problem at once, in words; and the documented file really is the default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from rvcd import protocol
from rvcd.config.settings import (
    ANY_PORT,
    DEFAULT_CONFIG,
    LATENCY_PRESETS,
    Engine,
    Feedback,
    Latency,
    Monitor,
    Settings,
    Talk,
    config_errors,
    find_config,
    load_config,
    parse_config,
)
from rvcd.errors import ConfigError
from rvcd.geometry import StreamGeometry
from rvcd.params import PARAMS

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib


def problems_of(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "rvcd.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))
    return caught.value.problems


def keys_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    keys = set()
    for name, field in model.model_fields.items():
        inner = next(
            (a for a in (field.annotation, *get_args(field.annotation)) if isinstance(a, type) and issubclass(a, BaseModel)), None
        )
        keys |= keys_of(inner, f"{prefix}{name}.") if inner else {f"{prefix}{name}"}
    return keys


def keys_in(tables: Any, prefix: str = "") -> set[str]:
    if isinstance(tables, list):
        return (
            set().union(*(keys_in(item, prefix) for item in tables)) if tables and isinstance(tables[0], dict) else {prefix[:-1]}
        )
    if isinstance(tables, dict):
        return set().union(*(keys_in(value, f"{prefix}{name}.") for name, value in tables.items()))
    return {prefix[:-1]}


def test_the_documented_file_loads_to_the_defaults() -> None:
    assert load_config(DEFAULT_CONFIG).model_dump() == Settings().model_dump()


def test_the_documented_file_names_every_key_and_its_optional_lines_are_valid(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^#(?=\[\[|\w+ = )", "", DEFAULT_CONFIG.read_text())
    text = text.replace("allow = []  ", "")  # a static table follows where an empty list stood
    assert keys_in(tomllib.loads(text)) | {"osc.allow"} == keys_of(Settings)
    path = tmp_path / "all.toml"
    path.write_text(text)
    settings = load_config(path)
    assert settings.latency.budget() == LATENCY_PRESETS["balanced"]
    assert settings.osc.feedback[0].port == 9731


def test_the_documented_file_says_the_ranges_of_the_parameters() -> None:
    text = DEFAULT_CONFIG.read_text()
    for param in PARAMS:
        key = param.name if param.of_voice else "gain_db"
        (line,) = re.findall(rf"(?m)^{key} = .*$", text)
        assert f"{param.low:g}..{param.high:g}" in line or (param.low, param.high) == (0, 1) or param.choices, line
        assert param.unit in line


def test_the_file_in_the_source_tree_is_the_one_in_the_package() -> None:
    in_tree = Path(__file__).parents[2] / "config" / "rvcd.toml"
    assert in_tree.read_bytes() == DEFAULT_CONFIG.read_bytes()


def test_the_choices_are_those_of_the_protocol() -> None:
    assert get_args(Engine.model_fields["f0_method"].annotation) == protocol.F0_METHODS
    assert get_args(Engine.model_fields["precision"].annotation) == protocol.PRECISIONS
    assert get_args(Talk.model_fields["mode"].annotation) == protocol.TALK_MODES
    assert tuple(LATENCY_PRESETS) == protocol.LATENCY_PRESET_NAMES
    assert get_args(Latency.model_fields["preset"].annotation) == ("auto", *LATENCY_PRESETS)
    assert get_args(get_args(Feedback.model_fields["groups"].annotation)[0]) == protocol.GROUPS


@pytest.mark.parametrize(
    ("latency", "chooses"),
    [
        ({}, True),
        ({"preset": "auto"}, True),
        ({"preset": "balanced"}, False),
        ({"block_ms": 100}, False),
        ({"context_ms": 900}, False),
    ],
)
def test_a_preset_is_chosen_by_measurement_where_nothing_is_configured(latency: dict[str, object], chooses: bool) -> None:
    found = Latency(**latency)  # type: ignore[arg-type]
    assert found.chooses is chooses
    assert found.named == "balanced"
    assert found.budget().lookahead_ms == LATENCY_PRESETS["balanced"].lookahead_ms


def test_every_latency_preset_is_a_stream_the_engine_can_do() -> None:
    for name in LATENCY_PRESETS:
        budget = parse_config({"latency": {"preset": name}}, DEFAULT_CONFIG).latency.budget()
        assert StreamGeometry.from_ms(rate_hz=44_100, **vars(budget)).latency_samples > 0


def test_all_problems_are_reported_at_once_with_path_bound_and_suggestion(tmp_path: Path) -> None:
    found = problems_of(
        """
        [audio]
        perod_samples = 3
        rate_hz = "48000"
        period_samples = 8
        backend = "virtul"
        host_api = true
        [audio.virtual]
        input = "tone:5"
        [latency]
        preset = "ballanced"
        block_ms = 50
        [engine]
        rate_hz = 48000
        device = "gpu"
        [params]
        pitch = 99
        gate = nan
        gainin = 2
        [osc]
        host = "0.0.0.0"
        port = 0
        [[osc.feedback]]
        host = "tablet"
        port = 70000
        groups = ["meter"]
        [voice]
        """,
        tmp_path,
    )
    assert sorted(found) == sorted(
        [
            "audio.backend: 'virtul' is not one of auto, jack, portaudio, virtual; did you mean 'virtual'?",
            "audio.host_api: true is a boolean; it takes text",
            "audio.rate_hz: '48000' is text; it takes a whole number, 8000..192000 in steps of 100",
            "audio.period_samples: 8 is too small; it takes a whole number, 16..4096",
            "audio.virtual.input: 'tone:5' is no tone; write tone:HZ with 20..20000 Hz, for example tone:440",
            "audio.perod_samples: unknown key; did you mean 'period_samples'?",
            "latency.preset: 'ballanced' is not one of auto, low, balanced, safe; did you mean 'balanced'?",
            "latency.block_ms: 50 does not fit; it takes a whole number, 20..1000 in steps of 20",
            "engine.device: 'gpu' is no device; it takes cpu, cuda, cuda:NUMBER or auto; did you mean 'cpu'?",
            "engine.rate_hz: unknown key; 'rate_hz' belongs in [audio]",
            "params.pitch: 99 is too large; it takes a number, -24..24 semitones",
            "params.gate: nan is not finite; it takes a number, -90..0 dBFS",
            "params.gainin: unknown key; did you mean 'gain_in'?",
            "osc.port: 0 is too small; it takes a whole number, 1..65535",
            "osc.allow: is empty, but osc.host is 0.0.0.0; list the networks that may control rvcd, or bind 127.0.0.1",
            "osc.feedback[0].host: 'tablet' is no IP address; write numbers such as 127.0.0.1, or localhost",
            "osc.feedback[0].port: 70000 is too large; it takes a whole number, 1..65535",
            "osc.feedback[0].groups[0]: 'meter' is not a list of: params, meters, stats, log; did you mean 'meters'?",
            "voice: unknown key; did you mean 'voices'?",
        ]
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[latency]\nblock_ms = 40\ndeadline_ms = 60", "latency.deadline_ms: 60 is longer than the block"),
        ("[latency]\npreset = 'balanced'\ndeadline_ms = 141", "it takes a whole number, 1..140"),
        ("[osc]\nallow = ['10.0.0.1/8']", "osc.allow: '10.0.0.1/8' is no network"),
        ("[models.sha256]\nrmvpe = 'abc'", "models.sha256.rmvpe: 'abc' is no SHA-256"),
        ("audio = 3", "audio: 3 is a whole number; it takes a table"),
        ("[voices]\nfolders = ['a', 2]", "voices.folders[1]: 2 is a whole number; it takes text"),
        ("[audio\n", "is not valid TOML"),
        ("a = 1\nb = = 2", "line 2"),
        ("[log]\nlevel = 'info'\nlevel = 'debug'", "is not valid TOML: Cannot overwrite a value"),
    ],
)
def test_a_problem_is_named(text: str, problem: str, tmp_path: Path) -> None:
    (found,) = problems_of(text, tmp_path)
    assert problem in found


def test_a_missing_a_binary_and_a_folder_for_a_file_are_each_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xff")
    for name, words in (("none.toml", "no such file"), ("binary.toml", "not UTF-8"), (".", "is a directory")):
        with pytest.raises(ConfigError, match=words):
            load_config(tmp_path / name)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(sorted(keys_of(Settings))),
)
def test_any_value_at_any_key_is_taken_or_refused_in_words(value: object, key: str) -> None:
    *sections, last = key.split(".")
    tables: Any = {last: value}
    for section in reversed(sections):
        tables = {section: [tables] if section == "feedback" else tables}
    found = []
    try:
        parse_config(tables, Path("/etc/rvcd.toml"))
    except ConfigError as error:
        found = error.problems
    assert all(problem.startswith(sections[0]) for problem in found)


@pytest.mark.parametrize(("written", "meant"), [("", "auto"), ("auto", "auto"), ("test", "test"), ("built-in", "built-in")])
def test_rvcds_own_encoders_are_words_and_no_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, meant: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rvcd.toml").write_text(f'[models]\ncontent_encoder = "{written}"\n')
    models = load_config(tmp_path / "rvcd.toml").models
    assert (models.content_encoder, models.real_encoder) == (meant, "")


@pytest.mark.parametrize("folder", ["", "nets"])
def test_what_was_fetched_is_found_once_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "rvcd.toml").write_text(f'[models]\nfolder = "{folder}"\n')
    models = load_config(tmp_path / "rvcd.toml").models
    where = tmp_path / "nets" if folder else tmp_path / "home/.local/share/rvcd/models"
    assert (models.real_encoder, models.rmvpe_file, models.fetched_folder) == ("", "", where)
    where.mkdir(parents=True)
    for name in ("hubert_base.pt", "rmvpe.pt"):
        (where / name).touch()
    assert (models.real_encoder, models.rmvpe_file) == (str(where / "hubert_base.pt"), str(where / "rmvpe.pt"))
    named = parse_config({"models": {"content_encoder": "/a.pt", "rmvpe": "/b.pt", "folder": str(where)}}, tmp_path / "rvcd.toml")
    assert (named.models.real_encoder, named.models.rmvpe_file) == ("/a.pt", "/b.pt")


def test_encoders_are_named_freely_and_their_paths_count_from_the_configuration(tmp_path: Path) -> None:
    settings = parse_config({"encoders": {"spin": "nets/spin", "my.own-1": "/srv/x.pt"}}, tmp_path / "rvcd.toml")
    assert settings.encoders.files == {"spin": str(tmp_path / "nets/spin"), "my.own-1": "/srv/x.pt"}
    with pytest.raises(ConfigError, match=r"encoders\.spin: 5 is a whole number; it takes a path as text"):
        parse_config({"encoders": {"spin": 5}}, tmp_path / "rvcd.toml")
    with pytest.raises(ConfigError, match=r"encoders\.spin: .*is a path of Windows|encoders\.spin: "):
        parse_config({"encoders": {"spin": "C:\\\\models\\\\spin"}}, tmp_path / "rvcd.toml")


@pytest.mark.parametrize("mirror", ["hf-mirror.com", "ftp://x", "https://user@x", "https://x?y", "https://"])
def test_a_mirror_is_an_address(mirror: str) -> None:
    with pytest.raises(ConfigError, match=r"models\.mirror: .* is no address; write it as https://host"):
        parse_config({"models": {"mirror": mirror}}, Path("/etc/rvcd.toml"))
    assert parse_config({"models": {"mirror": "https://hf-mirror.com/"}}, Path("/x")).models.mirror == "https://hf-mirror.com"


def test_paths_count_from_the_configuration_file_and_home_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    path = tmp_path / "rvcd.toml"
    path.write_text(
        '[models]\ncontent_encoder = "nets/hubert.pt"\n[voices]\nfolders = ["v", "~/voices", "/srv/v"]\nvoice = "anna.pth"\n'
        '[audio.virtual]\ninput = "talk.wav"\noutput = "~/out.wav"\n'
    )
    settings = load_config(path)
    assert settings.models.content_encoder == str(tmp_path / "nets" / "hubert.pt")
    assert settings.voices.folders == (str(tmp_path / "v"), "/home/ann/voices", "/srv/v")
    assert settings.voices.voice == str(tmp_path / "anna.pth")
    assert settings.audio.virtual.input == str(tmp_path / "talk.wav")
    assert settings.audio.virtual.output == "/home/ann/out.wav"
    assert settings.source == path
    assert parse_config({"voices": {"voice": "anna"}}, path).voices.voice == "anna"


def test_the_file_is_looked_for_in_the_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rvcd.config.folders.SYSTEM_CONFIG", tmp_path / "etc.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("RVCD_CONFIG", raising=False)
    assert find_config() == DEFAULT_CONFIG
    (tmp_path / "etc.toml").touch()
    assert find_config() == tmp_path / "etc.toml"
    own = tmp_path / "config" / "rvcd" / "rvcd.toml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_config() == own
    monkeypatch.setenv("RVCD_CONFIG", "/x.toml")
    assert find_config() == Path("/x.toml")
    assert find_config(Path("/y.toml")) == Path("/y.toml")


def test_overrides_replace_single_parts_of_a_preset() -> None:
    budget = parse_config({"latency": {"preset": "safe", "block_ms": 100, "lookahead_ms": 40}}, DEFAULT_CONFIG).latency.budget()
    assert (budget.block_ms, budget.lookahead_ms, budget.deadline_ms, budget.context_ms) == (100, 40, 100, 2000)


def test_a_public_host_with_networks_is_fine() -> None:
    assert parse_config({"osc": {"host": "0.0.0.0", "allow": ["192.168.1.0/24"]}}, DEFAULT_CONFIG).osc.allow == (
        "192.168.1.0/24",
    )


def test_the_start_values_are_those_of_the_table() -> None:
    assert parse_config({"params": {"pitch": 3}}, DEFAULT_CONFIG).initial_params() == {
        **{param.name: param.default for param in PARAMS},
        "pitch": 3.0,
    }


def test_a_parameter_of_words_takes_each_in_any_case_and_names_them_all_for_another() -> None:
    found = parse_config({"params": {"autotune_key": "Eb", "autotune_scale": "Minor"}}, DEFAULT_CONFIG).initial_params()
    assert (found["autotune_key"], found["autotune_scale"]) == (3.0, 2.0)
    with pytest.raises(ConfigError) as caught:
        parse_config({"params": {"autotune_key": "H", "autotune_scale": "majr"}}, DEFAULT_CONFIG)
    assert caught.value.problems == [
        "params.autotune_key: 'H' is not one of C, C#, D, D#, E, F, F#, G, G#, A, A#, B",
        "params.autotune_scale: 'majr' is not one of chromatic, major, minor, harmonic-minor, major-pentatonic, minor-pentatonic"
        "; did you mean 'major'?",
    ]


def test_the_monitor_is_off_by_default_and_its_gain_starts_from_its_own_table() -> None:
    assert parse_config({}, DEFAULT_CONFIG).audio.monitor == Monitor(device="", source="converted", gain_db=0.0)
    chosen = parse_config({"audio": {"monitor": {"device": "usb", "source": "microphone", "gain_db": -6.0}}}, DEFAULT_CONFIG)
    assert chosen.initial_params()["monitor"] == -6.0
    with pytest.raises(ConfigError, match=r"audio\.monitor\.gain_db"):
        parse_config({"audio": {"monitor": {"gain_db": 13.0}}}, DEFAULT_CONFIG)
    with pytest.raises(ConfigError, match=r"params\.monitor"):
        parse_config({"params": {"monitor": 0.0}}, DEFAULT_CONFIG)
    assert get_args(Monitor.model_fields["source"].annotation) == protocol.MONITOR_SOURCES


def test_a_long_value_is_cut() -> None:
    assert len(config_errors.show("x" * 1000)) == 60
    assert config_errors.show(16**10_000) == "a number of thousands of digits"


@pytest.mark.parametrize(
    "text, port",
    [("", ANY_PORT), ("[osc]\nhost = '127.0.0.1'\n", ANY_PORT), ("[osc]\nport = 9720\n", 9720), ("[osc]\nport = 9725\n", 9725)],
)
def test_a_name_has_a_free_port_unless_its_own_file_sets_one(tmp_path: Path, text: str, port: int) -> None:
    (tmp_path / "rvcd.toml").write_text(text)
    named = load_config(tmp_path / "rvcd.toml", "deep")
    assert (named.osc.port, named.instance, named.source) == (port, "deep", tmp_path / "rvcd.toml")
    unnamed = load_config(tmp_path / "rvcd.toml")
    assert (unnamed.osc.port, unnamed.instance) == (port or 9720, "")


def test_the_default_configuration_is_nobody_s_own_so_a_name_does_not_take_its_port() -> None:
    named = load_config(DEFAULT_CONFIG, "deep")
    assert (named.osc.port, named.source) == (ANY_PORT, DEFAULT_CONFIG)
    rate = named.audio.model_copy(update={"rate_hz": 44100})
    assert named.model_copy(update={"audio": rate}).instance == "deep", "a rate that is followed leaves the name as it is"


def test_port_0_cannot_be_configured(tmp_path: Path) -> None:
    (tmp_path / "rvcd.toml").write_text("[osc]\nport = 0\n")
    with pytest.raises(ConfigError, match=r"osc\.port"):
        load_config(tmp_path / "rvcd.toml", "deep")
