"""What runs on a node of a Ray cluster: the models of a batch, loaded once. rvcd is installed there, in the same version."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from rvcd.errors import RvcdError
from rvcd.rendering.machine import private_bytes
from rvcd.rendering.messages import Failed, Finished, Job, Ready, Refused, RenderSetup
from rvcd.rendering.remote_files import Content, write_content
from rvcd.rendering.setup import METHOD, content_hash


class RenderActor:
    """One worker. Its calls are made one after the other, on one thread."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rvcd-render-")
        self._renderer: Any = None
        self._setup: RenderSetup | None = None

    def pid(self) -> int:
        """Return the process's number on its node."""
        return os.getpid()

    def missing(self, files: dict[str, str]) -> list[str]:
        """Return which of these models are not here. files: the hash of the content by the path."""
        return [path for path, wanted in files.items() if not _is_here(Path(path), wanted)]

    def sees(self, path: str, token: str) -> bool:
        """Return whether a file that was just written elsewhere is here too: a shared folder."""
        try:
            return Path(path).read_text() == token
        except (OSError, ValueError):
            return False

    def load(self, setup: RenderSetup, sent: dict[str, Content], method: int) -> Ready | Refused:
        """Load a setup. sent: models that are not here, by their paths there. method: setup.METHOD of who asks."""
        if method != METHOD:
            return Refused("a node of the cluster has another version of rvcd; install the same one everywhere")
        try:
            from rvcd.rendering.renderer import Renderer, use_machine

            self._setup = self._with_files(setup, sent)
            use_machine(self._setup)
            self._renderer = Renderer(self._setup)
            self._renderer.warm_up()
        except RvcdError as error:
            return Refused(str(error))
        except OSError as error:
            return Refused(f"a node of the cluster cannot keep the models: {error.strerror or error}")
        return Ready(self._renderer.device, private_bytes(), tuple(self._renderer.notes))

    def _with_files(self, setup: RenderSetup, sent: dict[str, Content]) -> RenderSetup:
        """Write the models that were sent, and return the setup with the paths they have here."""
        here: dict[str, str] = {}
        for number, (path, content) in enumerate(sent.items()):
            here[path] = str(Path(self._folder.name) / f"model-{number}" / Path(path).name)
            write_content(content, Path(here[path]))
        models, voice = setup.models, setup.voice
        models = msgspec.structs.replace(
            models, encoder=here.get(models.encoder, models.encoder), rmvpe=here.get(models.rmvpe, models.rmvpe)
        )
        voice = msgspec.structs.replace(voice, path=here.get(voice.path, voice.path), index=here.get(voice.index, voice.index))
        return msgspec.structs.replace(setup, models=models, voice=voice)

    def convert(self, job: Job) -> Finished | Failed:
        """Convert a file that is here, into a folder that is here."""
        from rvcd.rendering.renderer import use_machine
        from rvcd.rendering.worker import convert_job

        assert self._setup is not None
        use_machine(self._setup)
        outcome = convert_job(self._renderer, job, lambda done: None)
        assert isinstance(outcome, (Finished, Failed))
        return outcome

    def convert_sent(self, job: Job, data: bytes) -> tuple[Finished | Failed, bytes]:
        """Convert a file that was sent; return the target's content with the outcome, b"" where it failed."""
        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
            source, target = Path(folder) / "in" / Path(job.source).name, Path(folder) / "out" / Path(job.target).name
            source.parent.mkdir()
            source.write_bytes(data)
            outcome = self.convert(Job(job.number, str(source), str(target), False))
            if isinstance(outcome, Finished):
                return _renamed(outcome, {str(source): job.source, str(target): job.target}), target.read_bytes()
            return _renamed(outcome, {str(source): job.source, str(target): job.target}), b""


def _is_here(path: Path, wanted: str) -> bool:
    try:
        return path.exists() and content_hash(path) == wanted
    except RvcdError:
        return False


def _renamed(outcome: Any, names: dict[str, str]) -> Any:
    """Return an outcome whose sentences name the files as they are called where they come from."""

    def told(text: str) -> str:
        for here, there in names.items():
            text = text.replace(here, there)
        return text

    if isinstance(outcome, Failed):
        return msgspec.structs.replace(outcome, error=told(outcome.error))
    notes = tuple(told(note) for note in outcome.rendered.notes)
    return msgspec.structs.replace(outcome, rendered=msgspec.structs.replace(outcome.rendered, notes=notes))
