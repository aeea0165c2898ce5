"""The trainer's flags: what help names, and what bad ones and unusable data are answered."""

import functools
import gzip
import os

import pytest
from helpers import command_line
from helpers.training import TINY, command, process

import rebar_tf as rt
from trainers.train import __main__ as train

assert_fails_with = functools.partial(command_line.assert_fails_with, command)


def test_help_in_a_process_names_what_is_accepted():
    with process("--help") as run:
        out, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    words = out.replace(",", " ").replace(".", " ").split()
    assert {*rt.datasets.names(), *rt.estimators.names(), "fixed", "dynamic"} <= set(words)
    assert {"generative", "structured", "paper", "deep"} <= set(words)
    assert all(f"--{name}" in out or f"--[no]{name}" in out for name in train.parse(["train.py"]).flags())


BAD_FLAGS = [
    (
        "--estimator=rebarr",
        "--estimator=rebarr: expected one of arm, arms, carms, concrete, decoupled_straight_through, disarm,",
    ),
    ("--dataset=cifar", "--dataset=cifar: expected one of mnist, mnist_5k"),
    ("--task=discriminative", "--task=discriminative: expected one of generative, structured"),
    ("--structured_generator=broad", "--structured_generator=broad: expected one of paper, deep"),
    ("--structured_generator=deep", "--structured_generator=deep: expected with --task=structured only"),
    ("--binarization=none", "--binarization=none: expected one of fixed, dynamic"),
    ("--batch_size=0", "--batch_size=0: expected an integer of 1 or more"),
    ("--batch_size=-24", "--batch_size=-24: expected an integer of 1 or more"),
    ("--batch_size=4001", "--batch_size=4001: expected at most 4000"),
    ("--batch_size=two", "--batch_size=two: expected an integer of 1 or more"),
    ("--num_steps=0", "--num_steps=0: expected an integer of 1 or more"),
    ("--num_steps=-1", "--num_steps=-1: expected an integer of 1 or more"),
    ("--num_layers=0", "--num_layers=0: expected an integer of 1 or more"),
    ("--hidden_units=0", "--hidden_units=0: expected an integer of 1 or more"),
    ("--report_every=0", "--report_every=0: expected an integer of 1 or more"),
    ("--eval_samples=0", "--eval_samples=0: expected an integer of 1 or more"),
    ("--temperature=0", "--temperature=0: expected a positive number"),
    ("--temperature=-0.5", "--temperature=-0.5: expected a positive number"),
    ("--temperature=nan", "--temperature=nan: expected a positive number"),
    ("--learning_rate=0", "--learning_rate=0: expected a positive number"),
    ("--learning_rate=-3e-4", "--learning_rate=-3e-4: expected a positive number"),
    ("--learning_rate=inf", "--learning_rate=inf: expected a positive number"),
    ("--checkpoint_minutes=0", "--checkpoint_minutes=0: expected a positive number"),
    ("--seed=-1", "--seed=-1: expected an integer from 0 to 2147483647"),
    ("--binarization_seed=-1", "--binarization_seed=-1: expected an integer from 0 to 4294967295"),
    ("--nonlinear=maybe", "--nonlinear=maybe: expected true or false"),
    ("--learn_temperature=2", "--learn_temperature=2: expected true or false"),
    (
        "--batchsize=24",
        "Unknown command line flag 'batchsize'. Did you mean: batch_size ?; expected those of --help",
    ),
    ("mnist", "argument 'mnist': expected flags only"),
]


@pytest.mark.parametrize(("flag", "message"), BAD_FLAGS)
def test_a_bad_flag_is_one_line_and_leaves_the_workdir_alone(flag, message, tmp_path, capsys):
    assert_fails_with(message, capsys, *TINY, f"--workdir={tmp_path / 'run'}", flag)
    assert os.listdir(tmp_path) == []


def test_a_bad_flag_in_a_process(tmp_path):
    with process("--num_steps=-1", f"--workdir={tmp_path / 'run'}") as run:
        out, error = run.communicate(timeout=60)
    assert run.returncode == 2
    assert out == ""
    assert error == "train.py: error: flag --num_steps=-1: expected an integer of 1 or more\n"
    assert os.listdir(tmp_path) == []


def test_an_option_that_the_estimator_refuses(tmp_path, capsys):
    message = "flag --eta=layer: expected one of shared, variable, unit"
    arguments = ("--estimator=relax", "--eta=layer", f"--workdir={tmp_path / 'run'}")
    assert_fails_with(message, capsys, *TINY, *arguments)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("estimator", "flag", "expected"),
    [
        ("nvil", "--temperature=0.1", "no option"),
        ("reinforce", "--learn_temperature=True", "no option"),
        ("concrete", "--learn_temperature=False", "--temperature"),
        ("concrete", "--eta=shared", "--temperature, --relaxation"),
    ],
)
def test_a_flag_that_the_estimator_does_not_take(estimator, flag, expected, tmp_path, capsys):
    message = f"{flag}: expected with --estimator={estimator}: {expected}"
    assert_fails_with(message, capsys, *TINY, f"--workdir={tmp_path / 'run'}", f"--estimator={estimator}", flag)
    assert os.listdir(tmp_path) == []


def write_raw_mnist(folder, keep=1.0):
    """Raw files as MNIST's, of which the training one may be cut."""
    (folder / "mnist").mkdir(parents=True)
    for name, count in (("train", 60000), ("t10k", 10000)):
        header = b"".join(number.to_bytes(4, "big") for number in (0x803, count, 28, 28))
        packed = gzip.compress(header + bytes(count * 784), compresslevel=1)
        size = int(len(packed) * keep) if name == "train" else len(packed)
        (folder / "mnist" / f"{name}-images-idx3-ubyte.gz").write_bytes(packed[:size])


def test_a_truncated_file_in_data_dir(tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    write_raw_mnist(data, keep=0.5)
    message = f"--dataset=mnist --data_dir={data}: {data / 'mnist' / 'train-images-idx3-ubyte.gz'} is truncated"
    assert_fails_with(message, capsys, *TINY, f"--workdir={run}", "--dataset=mnist", f"--data_dir={data}")
    assert not run.exists()


def test_a_data_dir_that_is_not_there(tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    message = f"--data_dir={data}: data_dir must be an existing folder"
    assert_fails_with(message, capsys, *TINY, f"--workdir={run}", "--dataset=mnist", f"--data_dir={data}")
    assert os.listdir(tmp_path) == []


def test_a_dataset_that_cannot_be_downloaded(tmp_path, capsys, monkeypatch):
    def no_network(*arguments):
        raise rt.datasets.DatasetUnavailableError("tried\na download. Use --dataset=mnist_5k or --data_dir=DIR")

    monkeypatch.setattr(rt.datasets, "load", no_network)
    message = "--dataset=mnist: tried a download. Use --dataset=mnist_5k or --data_dir=DIR"
    assert_fails_with(message, capsys, *TINY, f"--workdir={tmp_path / 'run'}", "--dataset=mnist")
    assert os.listdir(tmp_path) == []
