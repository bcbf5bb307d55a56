"""A Ray cluster as a place for a batch's workers. Needs the extra `ray`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from rvcd.errors import DiskFullError, MissingExtraError, RvcdError, how_to_install
from rvcd.rendering.cluster_pool import WorkerLost
from rvcd.rendering.messages import Failed, Finished, Job, Ready, Refused, RenderSetup
from rvcd.rendering.plan import STATE_FOLDER
from rvcd.rendering.ray_actor import RenderActor
from rvcd.rendering.remote_files import commit, content_of, model_paths
from rvcd.rendering.setup import METHOD, content_hash

CONNECT_S = 10.0
TOKEN_NAME = "shared"
"""A file in the output folder that says to a node whether it sees that folder."""
LOCAL = "local"
"""In place of an address: a cluster of this machine alone, for as long as the batch runs."""
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Ray reports its use home otherwise; and it warns of its own future."""


@contextlib.contextmanager
def connected(address: str, setup: RenderSetup, out: Path) -> Iterator[RayCluster]:
    """Connect to a cluster, and leave it at the end. out: the output folder, which its nodes may share.

    Raises MissingExtraError without Ray, RvcdError where no cluster answers.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise MissingExtraError(f"--ray needs Ray ({error}); {how_to_install('ray')}") from None
    _check_that_somebody_listens(address)
    try:
        with _quiet():
            ray.init(
                address=None if address == LOCAL else address, log_to_driver=False, logging_level="ERROR",
                **({"include_dashboard": False} if address == LOCAL else {}),
            )  # fmt: skip
    except Exception as error:  # whatever its layers raise
        raise RvcdError(f"--ray {address}: no Ray cluster can be used there ({_first_line(error)}); {_HINT}") from None
    try:
        yield RayCluster(ray, setup, out)
    finally:
        ray.shutdown()
        with contextlib.suppress(OSError):
            (out / STATE_FOLDER / TOKEN_NAME).unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray's C++ says off the standard error meanwhile: a line a second where no cluster answers."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


_HINT = "start one with 'ray start --head' and name its HOST:6379, or use --ray auto on one of its machines"


def _check_that_somebody_listens(address: str) -> None:
    """Ask the address itself first: Ray tries for a minute. Raises RvcdError."""
    host, found, port = address.rpartition("://")[2].rpartition(":")
    if not found:
        if address not in ("auto", LOCAL):
            raise RvcdError(f"--ray {address}: takes HOST:PORT, auto or local; {_HINT}")
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise RvcdError(f"--ray {address}: nobody answers there ({_first_line(error)}); {_HINT}") from None


class RayCluster:
    """Starts actors. Models travel once, through the object store, to nodes that do not have them."""

    def __init__(self, ray: Any, setup: RenderSetup, out: Path) -> None:
        self.ray, self.setup = ray, setup
        self._gpu = setup.models.device.startswith("cuda")
        self._actor = ray.remote(RenderActor)
        self.hashes = {path: content_hash(Path(path)) for path in model_paths(setup)}
        self._sent: dict[str, Any] = {}
        self.token_path, self.token = out.absolute() / STATE_FOLDER / TOKEN_NAME, secrets.token_hex(16)
        try:
            self.token_path.write_text(self.token)
        except OSError as error:
            raise RvcdError(f"{self.token_path}: cannot be written: {(error.strerror or str(error)).lower()}") from None

    def slots(self) -> int:
        """Return the cluster's processors (graphics cards for engine.device = "cuda")."""
        return int(self.ray.cluster_resources().get("GPU" if self._gpu else "CPU", 0))

    async def start(self) -> RayWorker:
        """Start an actor on one processor. It is there when its first call returns."""
        options = {"num_cpus": 1, "num_gpus": 1} if self._gpu else {"num_cpus": 1, "num_gpus": 0}
        return RayWorker(self, self._actor.options(**options).remote())

    def model(self, path: str) -> Any:
        """Return a model in the object store."""
        if path not in self._sent:
            self._sent[path] = self.ray.put(content_of(Path(path)))
        return self._sent[path]


class RayWorker:
    """An actor, seen from the batch."""

    def __init__(self, cluster: RayCluster, actor: Any) -> None:
        self._cluster, self.actor = cluster, actor
        self._shares = False
        self.pid = 0

    async def _answer(self, reference: Any) -> Any:
        try:
            return await asyncio.wrap_future(reference.future())
        except self._cluster.ray.exceptions.RayError as error:
            raise WorkerLost(_first_line(error)) from None

    async def load(self) -> Ready | Refused:
        """Let it load the models, which are sent where it does not have them."""
        cluster = self._cluster
        self.pid = await self._answer(self.actor.pid.remote())
        missing = await self._answer(self.actor.missing.remote(cluster.hashes))
        sent = {path: await self._answer(cluster.model(path)) for path in missing}
        self._shares = await self._answer(self.actor.sees.remote(str(cluster.token_path), cluster.token))
        message = await self._answer(self.actor.load.remote(cluster.setup, cluster.ray.put(sent), METHOD))
        assert isinstance(message, (Ready, Refused))
        return message

    async def convert(self, job: Job) -> Finished | Failed:
        """Convert a file by its path where the node shares the folders, else through the object store."""
        there = msgspec.structs.replace(job, source=os.path.abspath(job.source), target=os.path.abspath(job.target))
        if self._shares and await self._answer(self.actor.missing.remote(_facts(there.source))) == []:
            outcome = await self._answer(self.actor.convert.remote(there))
            assert isinstance(outcome, (Finished, Failed))
            return outcome
        try:
            data = await asyncio.to_thread(lambda: content_of(Path(job.source))[""])
            outcome, made = await self._answer(self.actor.convert_sent.remote(job, self._cluster.ray.put(data)))
            if isinstance(outcome, Finished):
                await asyncio.to_thread(commit, made, Path(job.target), replace=job.replace)
        except RvcdError as error:
            return Failed(job.number, str(error), isinstance(error, DiskFullError))
        assert isinstance(outcome, (Finished, Failed))
        return outcome

    def end(self) -> None:
        """End the actor, whatever it does."""
        with contextlib.suppress(Exception):
            self._cluster.ray.kill(self.actor)


def _facts(path: str) -> dict[str, str]:
    """Return what the node is asked of a source: the hash of its content. An unreadable one is said where it is converted."""
    try:
        return {path: content_hash(Path(path))}
    except RvcdError:
        return {}


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
