"""Training on two devices of one machine, and by two processes that stand for two machines."""

import functools
import importlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf
from helpers import command_line
from helpers.command_line import curve
from helpers.training import ROOT, TINY, command

from trainers.common import rendezvous
from trainers.common.errors import BadInput
from trainers.common.experiment import Experiment
from trainers.run.workdir import Workdir

assert_fails_with = functools.partial(command_line.assert_fails_with, command)
PATIENCE_S = 60  # in which a survivor has to end


def free_addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def cluster(addresses, worker):
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": worker}})


class Workers:
    """Two processes of one run."""

    def __init__(self, workdir, *arguments):
        addresses = free_addresses(2)
        line = [sys.executable, "-m", "trainers.train", "--distribution=multi_worker", *TINY, *arguments]
        self.processes = [
            subprocess.Popen(
                [*line, f"--workdir={workdir}"],
                cwd=ROOT,
                env={**os.environ, "TF_CONFIG": cluster(addresses, worker)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for worker in range(2)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for process in self.processes:
            process.kill()
            process.communicate()

    def wait(self):
        """Status, output and errors of each."""
        outputs = [process.communicate(timeout=PATIENCE_S) for process in self.processes]
        return [(process.returncode, *output) for process, output in zip(self.processes, outputs, strict=True)]


def train_on_two_devices(workdir, num_steps):
    """Trains, or continues to, on two logical processors."""
    line = [sys.executable, "-m", "tests.trainers.two_devices", *TINY, "--distribution=mirrored"]
    ended = subprocess.run(
        [*line, f"--num_steps={num_steps}", f"--workdir={workdir}"], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return workdir


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """A run of 24 steps on two devices."""
    return train_on_two_devices(tmp_path_factory.mktemp("mirrored"), 24)


def test_two_workers_train_what_two_devices_do(mirrored, tmp_path):
    """To the bit: the replicas' noise is by their number, their share of a batch by their place."""
    with Workers(tmp_path, "--num_steps=24") as workers:
        (status, output, errors), (other, silence, _) = workers.wait()
    assert (status, other) == (0, 0), errors
    assert silence == ""
    assert json.loads(output.splitlines()[-1])["steps"] == 24
    assert curve(tmp_path) == curve(mirrored)
    assert command_line.numbers(tmp_path) == command_line.numbers(mirrored)


def test_one_device_trains_otherwise(mirrored, tmp_path):
    """So that the test above is one: on one device a run of the same flags has other noise."""
    alone = command_line.finished_run(command, tmp_path, *TINY, "--num_steps=24")
    assert curve(alone) != curve(mirrored)


@pytest.mark.slow
def test_an_interrupted_run_on_two_devices_goes_on_to_the_bit(mirrored, tmp_path):
    for num_steps in (9, 24):  # within a report
        train_on_two_devices(tmp_path, num_steps)
    assert curve(tmp_path) == curve(mirrored)
    assert command_line.numbers(tmp_path) == command_line.numbers(mirrored)


def test_a_worker_that_is_killed_ends_the_other_and_the_run_goes_on(mirrored, tmp_path):
    often = "--checkpoint_minutes=0.0001"
    with Workers(tmp_path, "--num_steps=60000", often) as workers:
        deadline = time.monotonic() + PATIENCE_S
        while len(curve(tmp_path)) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        workers.processes[1].kill()
        (status, _, errors), _ = workers.wait()
    assert status == 2
    last = errors.splitlines()[-1]
    assert "a worker is gone" in last
    assert str(Workdir(tmp_path).checkpoint) in last
    reached = curve(tmp_path)[-1]["step"]
    assert reached >= 18
    flags = json.loads(Workdir(tmp_path).flags.read_text())
    Workdir(tmp_path).flags.write_text(json.dumps({**flags, "num_steps": 6}))  # it may not shrink
    with Workers(tmp_path, f"--num_steps={reached + 6}", often) as workers:
        statuses = workers.wait()
    assert [status for status, *_ in statuses] == [0, 0], statuses
    assert int(re.search(r"from step (\d+)", statuses[0][1])[1]) >= 6
    assert "crashed" not in statuses[0][2]  # the other worker leaves after the chief has summed up
    rows = curve(tmp_path)
    assert [row["step"] for row in rows] == list(range(6, reached + 7, 6))
    assert rows[:4] == curve(mirrored)[:4]


def meet(addresses, worker, flags, patience_s, errors):
    try:
        rendezvous.meet(addresses, worker, flags, patience_s)
        errors[worker] = None
    except BadInput as error:
        errors[worker] = str(error)


def met(flags_of_workers, patience_s=20.0, absent=()):
    """The error of each worker that comes, None for none."""
    addresses, errors = free_addresses(len(flags_of_workers)), {}
    threads = [
        threading.Thread(target=meet, args=(addresses, worker, flags, patience_s, errors))
        for worker, flags in enumerate(flags_of_workers)
        if worker not in absent
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors, addresses


def test_workers_of_the_same_flags_meet():
    assert met([{"seed": 1}] * 4)[0] == dict.fromkeys(range(4))


def test_workers_of_other_flags_are_told_which():
    errors, _ = met([{"seed": 1, "x": 2}, {"seed": 3, "x": 2}])
    assert errors == {
        0: "flag --seed=1: worker 1 has --seed=3; expected the same of all workers",
        1: "flag --seed=3: worker 0 has --seed=1; expected the same of all workers",
    }


def test_a_worker_that_does_not_come_is_named():
    begin = time.monotonic()
    errors, addresses = met([{}] * 3, patience_s=1.0, absent=[1])
    assert time.monotonic() - begin < 10.0
    assert errors.keys() == {0, 2}
    for error in errors.values():
        assert f"worker 1 at {addresses[1]} did not come within 1 s" in error


def test_a_stranger_at_the_door_is_no_worker():
    (address,) = free_addresses(1)
    host, port = address.split(":")
    with rendezvous._Server(address, 0, {}) as server, socket.create_connection((host, int(port))):  # and says nothing
        for word in (b"GET / HTTP/1.1\r\n\r\n", b"", b"1\n"):
            with socket.create_connection((host, int(port)), timeout=5.0) as visitor:
                visitor.sendall(word)
                visitor.shutdown(socket.SHUT_WR)
                while visitor.recv(1000):
                    pass
    assert server.told == {1}


def test_the_command_names_a_worker_that_does_not_come(capsys, monkeypatch, tmp_path):
    addresses = free_addresses(2)
    monkeypatch.setenv("TF_CONFIG", cluster(addresses, 0))
    flags = ["--distribution=multi_worker", "--worker_minutes=0.05", f"--workdir={tmp_path / 'run'}"]
    assert_fails_with(f"worker 1 at {addresses[1]} did not come within 3 s", capsys, *flags)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "config",
    [
        None,
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_bad_cluster_is_shown(config, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    message = f"TF_CONFIG is {config or 'not set'}; expected in the environment of each worker"
    assert_fails_with(message, capsys, "--distribution=multi_worker", f"--workdir={tmp_path}")


def test_an_address_that_is_taken_is_named(capsys, monkeypatch, tmp_path):
    with socket.create_server(("", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("TF_CONFIG", cluster([address], 0))
        assert_fails_with(f"cannot listen at {address}", capsys, "--distribution=multi_worker", f"--workdir={tmp_path}")


def test_workers_need_whole_reports(capsys, monkeypatch, tmp_path):
    placement = importlib.import_module("trainers.common.placement")
    monkeypatch.setattr(placement, "_multi_worker", lambda experiment: placement.Placement(workers=2))
    message = "flag --num_steps=9: expected with --distribution=multi_worker a multiple of --report_every=6"
    assert_fails_with(message, capsys, "--distribution=multi_worker", *TINY, "--num_steps=9", f"--workdir={tmp_path}")


def test_a_worker_whose_chief_is_gone_says_so(monkeypatch, tmp_path):
    placement = importlib.import_module("trainers.common.placement")

    class Cluster:
        def get_config_key_value(self, key, timeout_ms):
            raise tf.errors.UnavailableError(None, None, "Socket closed")

    monkeypatch.setattr(placement.context, "context", Cluster)
    worker = placement.Placement(worker=1, workers=2)
    for ask in (worker.part, lambda: worker.agree_on_checkpoint(None)):
        with pytest.raises(BadInput, match=r"the chief is gone \(UnavailableError\); see what it printed"):
            ask()


def test_a_worker_that_does_not_see_the_checkpoint_says_so(monkeypatch, tmp_path):
    placement = importlib.import_module("trainers.common.placement")
    said = {}

    class Cluster:
        def set_config_key_value(self, key, value):
            said[key] = value

        def get_config_key_value(self, key, timeout_ms):
            return said[key]

    monkeypatch.setattr(placement.context, "context", Cluster)
    chief, worker = (placement.Placement(worker=i, workers=2) for i in range(2))
    path = tmp_path / "checkpoint.keras"
    path.write_text("whole")
    assert chief.agree_on_checkpoint(None) is worker.agree_on_checkpoint(None) is None
    assert chief.agree_on_checkpoint(path) == worker.agree_on_checkpoint(None) == path
    path.write_text("another")
    with pytest.raises(BadInput, match=r"worker 1 does not see .*checkpoint.keras; expected one that all share"):
        worker.agree_on_checkpoint(None)


def test_a_machine_with_one_device_cannot_mirror(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [tf.config.LogicalDevice("CPU:0", "CPU")])
    message = "flag --distribution=mirrored: expected two devices of a kind or more; there is CPU:0"
    assert_fails_with(message, capsys, "--distribution=mirrored", f"--workdir={tmp_path}")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--batch_size=3", "flag --batch_size=3: expected a multiple of the 2 replicas"),
        ("--distribution=both", "flag --distribution=both: expected one of none, mirrored, multi_worker"),
        ("--mixed_precision=half", "flag --mixed_precision=half: expected one of float32, bfloat16, float16"),
        ("--worker_minutes=0", "flag --worker_minutes=0"),
    ],
)
def test_bad_flags_are_named(flag, message, capsys, tmp_path):
    assert_fails_with(message, capsys, "--distribution=mirrored", flag, f"--workdir={tmp_path}")


@pytest.mark.slow
def test_a_run_in_half_precision_goes_on_to_the_bit(tmp_path):
    """Its overflows are counted, and shown in the summary."""
    flags = [*TINY, "--mixed_precision=float16"]
    for num_steps in (15, 24):
        assert command(*flags, f"--num_steps={num_steps}", f"--workdir={tmp_path / 'broken'}") == 0
    unbroken = command_line.finished_run(command, tmp_path / "unbroken", *flags, "--num_steps=24")
    assert curve(tmp_path / "broken") == curve(unbroken)
    assert command_line.numbers(tmp_path / "broken") == command_line.numbers(unbroken)
    assert command_line.numbers(unbroken)["skipped_steps"] > 0
    assert "skipped" in (unbroken / "stdout").read_text()


def test_what_is_the_default_is_as_if_not_given():
    """Runs that were begun before there were these flags have none of them."""
    given = Experiment.from_flags({"distribution": "none", "mixed_precision": "float32"})
    assert given == Experiment()
    assert given.flags()["distribution"] is None
