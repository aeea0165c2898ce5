"""Where an experiment is trained: on one device, all of this machine, or several machines."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import json
import os
import pathlib
import platform

import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
from tensorflow.python.eager import context  # what tf.distribute sets up itself, with its own patience

from trainers.common import rendezvous
from trainers.common.errors import BadInput, one_line
from trainers.common.experiment import FREE_FLAGS, Experiment

DISTRIBUTIONS = ("none", "mirrored", "multi_worker")
_JOB = "worker"
_HEARTBEAT_S = 10
_CHECKPOINT, _DONE = "checkpoint", "done"
_CLUSTER = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True)
class Placement:
    """The devices of a run.

    Attributes:
        strategy: None for one device.
        worker: the number of this process among those of the run; 0 is the chief, which alone writes files.
        workers: how many there are.
        patience_s: seconds to wait for another worker's word.
    """

    strategy: tf.distribute.Strategy | None = None
    worker: int = 0
    workers: int = 1
    patience_s: float = 60.0

    @property
    def is_chief(self) -> bool:
        return self.worker == 0

    @property
    def replicas(self) -> int:
        """How many devices share a batch."""
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    def scope(self) -> contextlib.AbstractContextManager:
        """A block in which variables are created on all replicas."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def agree_on_checkpoint(self, path: pathlib.Path | None) -> pathlib.Path | None:
        """The chief's checkpoint.

        Args:
            path: the chief's; what another worker gives is not asked for.

        Raises:
            BadInput: where this worker does not see that file.
        """
        if self.workers == 1:
            return path
        cluster = context.context()
        if self.is_chief:
            said = {"path": None} if path is None else {"path": str(path.resolve()), "size": path.stat().st_size}
            cluster.set_config_key_value(_CHECKPOINT, json.dumps(said))
            return path
        said = json.loads(self._from_chief(_CHECKPOINT, int(1000 * self.patience_s)))
        if said["path"] is None:
            return None
        seen = pathlib.Path(said["path"])
        if not seen.is_file() or seen.stat().st_size != said["size"]:
            raise BadInput(f"flag --workdir: worker {self.worker} does not see {seen}; expected one that all share")
        return seen

    def part(self) -> None:
        """Ends the work together: a worker that leaves before the chief is done looks as if it had crashed."""
        if self.workers == 1:
            return
        if self.is_chief:
            context.context().set_config_key_value(_DONE, "")
        else:
            self._from_chief(_DONE, timeout_ms=0)

    def _from_chief(self, key: str, timeout_ms: int) -> str:
        """What the chief says; 0 waits for as long as it lives."""
        try:
            return context.context().get_config_key_value(key, timeout_ms)
        except tf.errors.OpError as error:
            raise BadInput(
                f"flag --distribution=multi_worker: the chief is gone ({type(error).__name__}); see what it printed"
            ) from error


ONE_DEVICE = Placement()


def place(experiment: Experiment) -> Placement:
    """The devices that an experiment asks for. To be called before TensorFlow has done anything.

    Raises:
        BadInput: if the machine does not have them, or another worker does not come.
    """
    if experiment.distribution is None:
        return ONE_DEVICE
    placement = _mirrored() if experiment.distribution == "mirrored" else _multi_worker(experiment)
    if placement.workers > 1 and experiment.num_steps % experiment.report_every:
        raise BadInput(
            f"flag --num_steps={experiment.num_steps}: expected with --distribution=multi_worker a multiple of "
            f"--report_every={experiment.report_every}, as no worker knows the averages of half a report"
        )
    if experiment.batch_size % placement.replicas:
        raise BadInput(
            f"flag --batch_size={experiment.batch_size}: expected a multiple of the {placement.replicas} replicas"
        )
    return placement


def _mirrored() -> Placement:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        found = ", ".join(device.name for device in devices)
        raise BadInput(f"flag --distribution=mirrored: expected two devices of a kind or more; there is {found}")
    return Placement(tf.distribute.MirroredStrategy([device.name for device in devices]))


def _multi_worker(experiment: Experiment) -> Placement:
    addresses, index = _task()
    patience_s = 60.0 * experiment.worker_minutes
    flags = {name: value for name, value in experiment.flags().items() if name not in FREE_FLAGS}
    rendezvous.meet(addresses, index, flags, patience_s)
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{_JOB}/replica:0/task:0",
        heartbeat_timeout_in_ms=1000 * _HEARTBEAT_S,
        coordinated_jobs=[coordination_config_pb2.CoordinatedJob(name=_JOB, num_tasks=len(addresses))],
    )
    faulthandler.dump_traceback_later(patience_s, exit=True)  # if one dies now, TensorFlow waits for it
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise BadInput(f"flag --distribution=multi_worker: {one_line(error)}; expected another cluster") from error
    finally:
        faulthandler.cancel_dump_traceback_later()
    return Placement(strategy, index, len(addresses), patience_s)


def _task() -> tuple[list[str], int]:
    """The addresses of all workers, and the number of this one."""
    given = os.environ.get("TF_CONFIG")
    try:
        config = json.loads(given or "")
        addresses, kind, index = config["cluster"][_JOB], config["task"]["type"], int(config["task"]["index"])
        if kind != _JOB or not 0 <= index < len(addresses) or set(config["cluster"]) != {_JOB}:
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"flag --distribution=multi_worker: TF_CONFIG is {given or 'not set'}; expected in the environment of each "
            f"worker {_CLUSTER}"
        ) from error
    return addresses, index


def device_name() -> str:
    """What this process computes on."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"CPU, {platform.processor() or platform.machine()}"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return name if len(gpus) == 1 else f"{len(gpus)} x {name}"
