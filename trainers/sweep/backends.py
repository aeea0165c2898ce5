"""The clusters that joblib can send the cells of a sweep to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import joblib

from trainers.common.errors import BadInput, one_line

GENERATING = ("local", "dask")  # those from which joblib returns each result as soon as it is there
_EXTRA = "needs more packages: pip install 'rebar_tf[sweep]'"


@contextlib.contextmanager
def connected(backend: str, address: str | None, jobs: int) -> Iterator[None]:
    """In this block `joblib.Parallel` runs on a cluster.

    Args:
        backend: dask or ray.
        address: of a cluster that runs already; None for one of `jobs` processes on this machine.
        jobs: tasks at a time.

    Raises:
        BadInput: if the package is not installed, or the cluster does not answer.
    """
    with _dask(address, jobs) if backend == "dask" else _ray(address, jobs), joblib.parallel_config(backend):
        yield


@contextlib.contextmanager
def _dask(address: str | None, jobs: int) -> Iterator[None]:
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise BadInput(f"flag --backend=dask: {_EXTRA} ({one_line(error)})") from error
    try:
        local = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": None}
        client = Client(address) if address else Client(**local)
    except (OSError, ValueError) as error:
        raise BadInput(f"flag --cluster={address}: {one_line(error)}; expected as in tcp://HOST:8786") from error
    with client:
        yield


@contextlib.contextmanager
def _ray(address: str | None, jobs: int) -> Iterator[None]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise BadInput(f"flag --backend=ray: {_EXTRA} ({one_line(error)})") from error
    try:
        ray.init(address) if address else ray.init(num_cpus=jobs, include_dashboard=False)
    except (ConnectionError, ValueError) as error:
        raise BadInput(f"flag --cluster={address}: {one_line(error)}; expected as in ray://HOST:10001") from error
    try:
        register_ray()
        yield
    finally:
        ray.shutdown()
