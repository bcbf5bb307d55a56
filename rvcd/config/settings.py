"""The configuration: one TOML file becomes validated, immutable settings; everything wrong with it is reported at once.

config/rvcd.toml documents every key. Live parameters start from [params], whose keys come from params.VOICE_PARAMS.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)

from rvcd.config import config_errors
from rvcd.config.folders import config_files, expand_home, models_folder, voices_folder
from rvcd.config.toml_text import decode_toml, parse_toml, windows_path_problem
from rvcd.errors import ConfigError, ParamError, RvcdError
from rvcd.geometry import (
    FRAME_MS,
    FRAMES_PER_SECOND,
    FRAMES_PER_UNIT,
    LIVE_MAX_BLOCK_MS,
    LIVE_MAX_LOOKAHEAD_MS,
    MAX_RATE_HZ,
    MIN_RATE_HZ,
)
from rvcd.params import BY_NAME, VOICE_PARAMS, Param
from rvcd.protocol import DEFAULT_HOST, DEFAULT_PORT, names_voice_file

CONFIG_VARIABLE = "RVCD_CONFIG"
ANY_PORT = 0
"""osc.port of a daemon with a name whose file sets none: a free one, which it tells where rvcctl looks (rvcd.running)."""
DEFAULT_CONFIG = Path(__file__).parents[1] / "data" / "rvcd.toml"
"""The documented default configuration inside the package (config/rvcd.toml of the source tree)."""
UNIT_MS = round(FRAME_MS * FRAMES_PER_UNIT)
"""One content unit: blocks, lookahead and context are whole multiples of it."""


def _resolve(value: Any, info: ValidationInfo) -> Any:
    """Make a path absolute: `~` is expanded, a relative one counts from the configuration file's folder."""
    if not isinstance(value, str) or not value:
        return value
    if problem := windows_path_problem(value):
        raise ValueError(problem)
    base = info.context["base"] if info.context else Path.cwd()
    try:
        return str(base / expand_home(value))
    except RvcdError as error:
        raise ValueError(str(error)) from None


NO_DENOISER = "none"
"""engine.denoiser where none is loaded."""
AUTO, BUILT_IN, TEST_WEIGHTS = "auto", "built-in", "test"
"""models.content_encoder for the fetched one or else the built-in voice's, for that in any case, for the test weights."""
FETCHED_ENCODER, FETCHED_RMVPE = "hubert_base.pt", "rmvpe.pt"
"""What `rvcd assets fetch` calls them in models.folder."""
FilePath = Annotated[str, BeforeValidator(_resolve)]
"""An absolute path as text; "" means none."""


def _resolve_encoder(value: Any, info: ValidationInfo) -> Any:
    return AUTO if value == "" else value if value in (AUTO, BUILT_IN, TEST_WEIGHTS) else _resolve(value, info)


def _resolve_rmvpe(value: Any, info: ValidationInfo) -> Any:
    return AUTO if value in ("", AUTO) else _resolve(value, info)


EncoderPath = Annotated[str, BeforeValidator(_resolve_encoder)]
"""An absolute path, or one of the words; "" means AUTO."""
RmvpePath = Annotated[str, BeforeValidator(_resolve_rmvpe)]
"""An absolute path, or AUTO; "" means AUTO."""


class Section(BaseModel):
    """Unknown keys are refused, types are exact (no text for a number), values never change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class VirtualAudio(Section):
    """The device that is no device: files, a tone or silence instead of a sound card."""

    input: str = Field(default="demo", description="demo, null, tone:HZ or an audio file")
    loop: bool = True
    output: FilePath = ""
    realtime: bool = True

    @field_validator("input")
    @classmethod
    def _known_source(cls, value: str, info: ValidationInfo) -> str:
        if value in ("demo", "null"):
            return value
        if value.startswith("tone:"):
            if not re.fullmatch(r"\d+(\.\d+)?", value[5:]) or not 20.0 <= float(value[5:]) <= 20_000.0:
                raise ValueError(f"'{value}' is no tone; write tone:HZ with 20..20000 Hz, for example tone:440")
            return value
        if not value:
            raise ValueError("'' is empty; it takes demo, null, tone:HZ or an audio file")
        return str(_resolve(value, info))


MONITOR_GAIN = BY_NAME["monitor"]


class Monitor(Section):
    """A second output, on which the user hears themselves. device "": none."""

    device: str = ""
    source: Literal["converted", "microphone"] = "converted"
    gain_db: float = Field(default=MONITOR_GAIN.default, ge=MONITOR_GAIN.low, le=MONITOR_GAIN.high, allow_inf_nan=False)


class Audio(Section):
    """Where sound comes from and goes to, as rvcd.audio.portaudio_devices.DeviceRequest takes it."""

    backend: Literal["auto", "jack", "portaudio", "virtual"] = "auto"
    host_api: str = ""
    input: str = "default"
    output: str = "default"
    rate_hz: int = Field(default=48_000, ge=MIN_RATE_HZ, le=MAX_RATE_HZ, multiple_of=FRAMES_PER_SECOND)
    period_samples: int = Field(default=256, ge=16, le=4_096)
    input_channel: int = Field(default=1, ge=0, le=64)
    virtual_microphone: str = Field(default="auto", description="auto, off or a name")
    latency_offset_ms: float = Field(default=0.0, ge=-1_000.0, le=1_000.0, allow_inf_nan=False)
    monitor: Monitor = Monitor()
    virtual: VirtualAudio = VirtualAudio()

    @field_validator("virtual_microphone")
    @classmethod
    def _listable_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}", value):
            raise ValueError(
                f"{config_errors.show(value)} is no name for a microphone; it takes auto, off, or a name"
                " of 1..40 letters, digits, spaces, . _ -"
            )
        return value


@dataclass(frozen=True)
class LatencyBudget:
    """The parts of the constant latency that are chosen, and what the content encoder sees at once. Milliseconds."""

    block_ms: int
    lookahead_ms: int
    deadline_ms: int
    context_ms: int


CONTEXT_MS = 2_000
"""Of every preset: a block costs the same with less, and two seconds are nearer to offline than one (docs/context.md). A past is
left before the longest block and lookahead, too."""

LATENCY_PRESETS: Mapping[str, LatencyBudget] = {
    "low": LatencyBudget(block_ms=40, lookahead_ms=100, deadline_ms=30, context_ms=CONTEXT_MS),
    "balanced": LatencyBudget(block_ms=140, lookahead_ms=100, deadline_ms=140, context_ms=CONTEXT_MS),
    "safe": LatencyBudget(block_ms=200, lookahead_ms=120, deadline_ms=160, context_ms=CONTEXT_MS),
}


UNMEASURED_PRESET = "balanced"
"""What "auto" means for whoever does not measure, and until it is measured."""


class Latency(Section):
    """A preset, and numbers that replace single parts of it."""

    preset: Literal["auto", "low", "balanced", "safe"] = "auto"
    block_ms: int | None = Field(default=None, ge=UNIT_MS, le=LIVE_MAX_BLOCK_MS, multiple_of=UNIT_MS)
    lookahead_ms: int | None = Field(default=None, ge=2 * UNIT_MS, le=LIVE_MAX_LOOKAHEAD_MS, multiple_of=UNIT_MS)
    context_ms: int | None = Field(default=None, ge=200, le=5_000, multiple_of=UNIT_MS)
    deadline_ms: int | None = Field(default=None, ge=1, le=LIVE_MAX_BLOCK_MS)

    @field_validator("deadline_ms")
    @classmethod
    def _within_block(cls, value: int | None, info: ValidationInfo) -> int | None:
        if not {"preset", "block_ms"} <= info.data.keys():
            return value  # the block itself is wrong, and reported
        block_ms = info.data["block_ms"] or LATENCY_PRESETS[_named(info.data["preset"])].block_ms
        if value is not None and value > block_ms:
            raise ValueError(f"{value} is longer than the block; it takes a whole number, 1..{block_ms}")
        return value

    @property
    def named(self) -> str:
        """The preset, UNMEASURED_PRESET for "auto"."""
        return _named(self.preset)

    @property
    def chooses(self) -> bool:
        """Whether the daemon is to choose a preset by what it measures: nothing is configured."""
        numbers = (self.block_ms, self.lookahead_ms, self.context_ms, self.deadline_ms)
        return self.preset == AUTO and all(number is None for number in numbers)

    def budget(self) -> LatencyBudget:
        """Return the preset with its overrides.

        A shorter block shortens the preset's deadline to its own length.
        """
        preset = LATENCY_PRESETS[self.named]
        block_ms = self.block_ms or preset.block_ms
        return LatencyBudget(
            block_ms=block_ms,
            lookahead_ms=self.lookahead_ms or preset.lookahead_ms,
            deadline_ms=self.deadline_ms or min(preset.deadline_ms, block_ms),
            context_ms=self.context_ms or preset.context_ms,
        )


def _named(preset: str) -> str:
    return UNMEASURED_PRESET if preset == AUTO else preset


class Engine(Section):
    """How the worker computes."""

    device: str = Field(default="auto", description="cpu, cuda, cuda:NUMBER or auto")
    threads: int = Field(default=0, ge=0, le=256)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    cuda_graphs: Literal["auto", "off"] = "auto"
    keep_warm: bool = False
    context: Literal["remembered", "window"] = "remembered"
    f0_method: Literal["swift", "rmvpe", "fcpe", "harvest", "dio", "pm", "yin"] = "swift"
    pitch_mode: Literal["manual", "auto"] = "manual"
    denoiser: Literal["none", "gtcrn"] = "none"
    unvoiced: Literal["keep", "interpolate"] = "keep"
    autotune_a4_hz: float = Field(default=440.0, ge=400.0, le=480.0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"cpu|auto|cuda(:\d{1,2})?", value):
            suggestion = config_errors.did_you_mean(value, ["cpu", "cuda", "auto"])
            raise ValueError(f"'{value}' is no device; it takes cpu, cuda, cuda:NUMBER or auto{suggestion}")
        return value


class Checksums(Section):
    """Expected SHA-256 of the model files; "" means: compare with the published ones and only report."""

    content_encoder: str = ""
    rmvpe: str = ""

    @field_validator("content_encoder", "rmvpe")
    @classmethod
    def _hexadecimal(cls, value: str) -> str:
        if value and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
            raise ValueError(
                f"{config_errors.show(value)} is no SHA-256; it takes 64 hexadecimal digits, as sha256sum prints them"
            )
        return value.lower()


class Models(Section):
    """The networks shared by all voices."""

    content_encoder: EncoderPath = AUTO
    rmvpe: RmvpePath = AUTO
    folder: FilePath = ""
    mirror: str = ""
    sha256: Checksums = Checksums()

    @field_validator("mirror")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError(f"{config_errors.show(value)} is no address; write it as https://host, without ? and @")
        return value.rstrip("/")

    @property
    def real_encoder(self) -> str:
        """The path of the encoder that voices made by others need, "" when there is none. Looks at the disk for AUTO."""
        if self.content_encoder == AUTO:
            return self.fetched(FETCHED_ENCODER)
        return "" if self.content_encoder in (BUILT_IN, TEST_WEIGHTS) else self.content_encoder

    @property
    def rmvpe_file(self) -> str:
        """The path of RMVPE, "" when there is none. Looks at the disk for AUTO."""
        return self.fetched(FETCHED_RMVPE) if self.rmvpe == AUTO else self.rmvpe

    @property
    def fetched_folder(self) -> Path:
        """Where `rvcd assets fetch` puts files. Raises RvcdError where no home folder is known."""
        return Path(self.folder) if self.folder else models_folder()

    def fetched(self, name: str) -> str:
        """Return the path of a fetched file, "" where it is not there."""
        try:
            path = self.fetched_folder / name
        except RvcdError:
            return ""  # without a home folder there is nothing in it
        return str(path) if path.is_file() else ""


class Encoders(Section):
    """Content encoders by the names that voices call them; each key is a name, each value a file or a Transformers folder."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, FilePath] = Field(init=False)

    @property
    def files(self) -> Mapping[str, str]:
        """Paths by name."""
        return self.__pydantic_extra__ or {}


class Voices(Section):
    """Where voices are looked for, and which one is live at the first start."""

    folders: tuple[FilePath, ...] = Field(default_factory=lambda: (str(voices_folder()),), strict=False)
    voice: str = ""
    index: FilePath = ""
    keep_loaded: int = Field(default=3, ge=1, le=64)

    @field_validator("voice")
    @classmethod
    def _name_or_path(cls, value: str, info: ValidationInfo) -> str:
        if names_voice_file(value) or "/" in value:
            return str(_resolve(value, info))
        return value


def _check_address(value: str) -> str:
    try:
        ipaddress.ip_address("127.0.0.1" if value == "localhost" else value)
    except ValueError:
        raise ValueError(
            f"{config_errors.show(value)} is no IP address; write numbers such as {DEFAULT_HOST}, or localhost"
        ) from None
    return value


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host ('localhost' or an IP address)."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


class Feedback(Section):
    """One client that is always told the state: a tablet that cannot renew a subscription."""

    host: str
    port: int = Field(ge=1, le=65_535)
    hz: int = Field(default=10, ge=1, le=30)
    groups: tuple[Literal["params", "meters", "stats", "log"], ...] = Field(
        default=("params", "meters"), strict=False, description="a list of: params, meters, stats, log"
    )

    @field_validator("host")
    @classmethod
    def _address(cls, value: str) -> str:
        return _check_address(value)


class Osc(Section):
    """The control socket. Anything but this machine itself needs the list of networks that may talk to it."""

    host: str = DEFAULT_HOST
    port: int = Field(default=DEFAULT_PORT, ge=1, le=65_535)
    allow: tuple[str, ...] = Field(default=(), strict=False, validate_default=True)
    feedback: tuple[Feedback, ...] = Field(default=(), strict=False)

    @field_validator("host")
    @classmethod
    def _address(cls, value: str) -> str:
        return _check_address(value)

    @field_validator("allow")
    @classmethod
    def _networks(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"'{network}' is no network; write it as 192.168.1.0/24 ({error})") from None
        host = info.data.get("host", DEFAULT_HOST)
        if not value and not is_loopback(host):
            raise ValueError(f"is empty, but osc.host is {host}; list the networks that may control rvcd, or bind {DEFAULT_HOST}")
        return value


class Talk(Section):
    """What holding /talk does."""

    mode: Literal["off", "push-to-talk", "push-to-convert"] = "off"


class Record(Section):
    """Where recordings go, and what ends one."""

    folder: FilePath = ""
    min_free_mb: int = Field(default=500, ge=10, le=10_000_000)
    max_minutes: int = Field(default=180, ge=1, le=1440)


class Log(Section):
    """What is worth a line."""

    level: Literal["debug", "info", "warning", "error"] = "info"


def _param_value(param: Param, value: Any) -> Any:
    """Return the number for the word of a parameter that has choices, and anything else as it is."""
    if not param.choices or not isinstance(value, str):
        return value
    try:
        return param.named(value)
    except ParamError:
        suggestion = config_errors.did_you_mean(value, param.choices)
        raise ValueError(f"{config_errors.show(value)} is not {_param_takes(param)}{suggestion}") from None


def _param_takes(param: Param) -> str:
    return f"one of {param.range_text()}" if param.choices else f"a number, {param.range_text()}"


InitialParams: type[Section] = create_model(
    "InitialParams",
    __base__=Section,
    **{
        param.name: (
            Annotated[float, BeforeValidator(partial(_param_value, param))],
            Field(param.default, ge=param.low, le=param.high, allow_inf_nan=False, description=_param_takes(param)),
        )
        for param in VOICE_PARAMS
    },  # type: ignore[call-overload]
)
"""[params]: one key for each row of params.VOICE_PARAMS."""


class Settings(Section):
    """The whole configuration. `source` is the file it came from."""

    audio: Audio = Audio()
    latency: Latency = Latency()
    engine: Engine = Engine()
    models: Models = Models()
    encoders: Encoders = Encoders()
    voices: Voices = Field(default_factory=Voices)  # not at import: its folders need a home
    params: InitialParams = InitialParams()  # type: ignore[valid-type]  # its keys exist at run time only
    osc: Osc = Osc()
    talk: Talk = Talk()
    record: Record = Record()
    log: Log = Log()
    _source: Path = PrivateAttr(default=DEFAULT_CONFIG)
    _instance: str = PrivateAttr(default="")

    @property
    def source(self) -> Path:
        """The file these settings came from."""
        return self._source

    @property
    def instance(self) -> str:
        """The name of the daemon that they are for, "" for the one without."""
        return self._instance

    def initial_params(self) -> dict[str, float]:
        """Return the start value of every live parameter by name, in params.PARAMS' order and units."""
        voice = {param.name: float(getattr(self.params, param.name)) for param in VOICE_PARAMS}
        return {**voice, MONITOR_GAIN.name: self.audio.monitor.gain_db}


def find_config(explicit: Path | None = None, instance: str = "") -> Path:
    """Return the configuration file to use.

    Order: explicit (--config), $RVCD_CONFIG, $XDG_CONFIG_HOME/rvcd/rvcd.toml (~/.config without the variable),
    /etc/rvcd/rvcd.toml, the default inside the package. A file that is named must exist: load_config says so if it does not.
    A daemon with a name has rvcd@NAME.toml in their places, and not $RVCD_CONFIG: a variable is the same for all of them.
    """
    if explicit is not None:
        return expand_home(explicit)
    if not instance and (named := os.environ.get(CONFIG_VARIABLE)):
        return expand_home(named)
    return next((file for file in config_files(instance) if os.path.exists(file)), DEFAULT_CONFIG)


def load_config(path: Path | None = None, instance: str = "") -> Settings:
    """Read, validate and return the configuration of a daemon; path None searches as find_config says.

    Raises ConfigError with every problem: an unreadable file, TOML's syntax (with its line), unknown keys, wrong types and
    values out of range, each with the key's path, what it takes and a suggestion.
    """
    source = find_config(path, instance)
    try:
        tables = parse_toml(decode_toml(source.read_bytes()))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(str(source), [f"cannot be read: {reason}; `rvcd config` prints a documented one"]) from None
    except ValueError as error:
        raise ConfigError(str(source), [str(error)]) from None
    return parse_config(tables, source, instance)


def parse_config(tables: Mapping[str, Any], source: Path, instance: str = "") -> Settings:
    """Validate tables as read from source; relative paths count from its folder. Raises ConfigError with every problem.

    With an instance osc.port is ANY_PORT unless the daemon's own file sets it: the default port is the unnamed daemon's.
    """
    try:
        settings = Settings.model_validate(dict(tables), context={"base": source.absolute().parent})
    except ValidationError as error:
        raise ConfigError(str(source), config_errors.sentences(Settings, error)) from None
    if instance and (source == DEFAULT_CONFIG or "port" not in settings.osc.model_fields_set):
        settings = settings.model_copy(update={"osc": settings.osc.model_copy(update={"port": ANY_PORT})})
    settings._source, settings._instance = source, instance
    return settings
