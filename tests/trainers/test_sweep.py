"""A sweep: its grid, its table, and what becomes of cells that fail, diverge or are stopped."""

import csv
import datetime
import fcntl
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from helpers import command_line

from rebar_tf import callbacks
from trainers.common.commit import commit
from trainers.common.experiment import Experiment
from trainers.run.workdir import Workdir
from trainers.sweep import __main__ as sweep
from trainers.sweep import grid, group, process, results
from trainers.sweep.settings import Settings
from trainers.train import __main__ as train

ROOT = pathlib.Path(__file__).parents[2]

# Stands in for trainers.train: the bounds depend on rate and seed; some cells misbehave. Each call leaves a line.
TRAINER = """
import json, os, pathlib, signal, sys, time
given = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
folder = pathlib.Path(given["workdir"])
calls = folder / "calls"
first = not calls.exists()
cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
threads = os.environ["TF_NUM_INTRAOP_THREADS"]
with open(calls, "a") as file:
    file.write(json.dumps({"flags": given, "cores": cores, "threads": threads}) + "\\n")
rate, seed = float(given["learning_rate"]), int(given["seed"])
if seed == 9 and first:
    print("out of luck", file=sys.stderr)
    sys.exit(7)
if seed in (3, 4) and first:
    print("as status 3 or 4 says", file=sys.stderr)
    sys.exit(seed)
if seed == 8 and first:
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
bound = None if rate == 1 else -100 - abs(rate - 0.01) - seed
bounds = dict.fromkeys(["train_bound", "valid_bound_100", "test_bound_100"], bound)
steps = int(given["num_steps"])
summary = {**bounds, "log_grad_variance": 1.5, "temperature": None, "steps_per_second": 10.0, "steps": steps}
(folder / "summary.json").write_text(json.dumps(summary))
"""


@pytest.fixture
def fake_trainer(tmp_path, monkeypatch):
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    monkeypatch.setattr(process, "TRAINER", (sys.executable, "-S", str(script)))


def command(*arguments):
    """Runs the sweep in this process; its exit status."""
    return command_line.exit_status(lambda: sweep.main(["sweep.py", *map(str, arguments)]))


assert_fails_with = functools.partial(command_line.assert_fails_with, command)


@pytest.fixture
def small(tmp_path, fake_trainer):
    """Runs a sweep with the fake trainer, of one model and method unless told otherwise; its exit status."""
    fixed = ("--models=linear1", "--methods=nvil", "--num_steps=50", f"--workdir={tmp_path / 'sweep'}")
    return lambda *arguments: command(*fixed, "--learning_rates=0.01", *arguments)


@pytest.fixture
def rows(tmp_path):
    return lambda: results.read(tmp_path / "sweep" / "results.csv")


def calls(tmp_path):
    """What the fake trainer was called with, by folder."""
    files = (tmp_path / "sweep").glob("*/calls")
    return {file.parent.name: [json.loads(line) for line in file.read_text().splitlines()] for file in files}


def settings(**others):
    texts = {"tasks": "mnist:generative", "models": "linear1", "methods": "nvil", "seeds": "0"}
    texts |= {"learning_rates": "3e-4", "nonlinear_learning_rates": "1e-4", **others}
    return Settings(Experiment(num_steps=100), **{name: text.split(",") for name, text in texts.items()})


def test_the_papers_grid_has_45_cells_and_those_of_a_task_are_together():
    cells = grid.cells(
        settings(
            tasks="mnist:generative,omniglot:generative,mnist:structured",
            models="linear1,linear2,nonlinear",
            methods="nvil,muprop,rebar:0.1,rebar,concrete:0.1",
        )
    )
    assert len(cells) == 45 == len({cell.command for cell in cells}) == len({cell.folder for cell in cells})
    assert {(cell.dataset, cell.task) for cell in cells[:15]} == {("mnist", "generative")}
    assert [cell.model for cell in cells[:15:5]] == ["linear1", "linear2", "nonlinear"]
    assert {cell.learning_rate for cell in cells if cell.model == "nonlinear"} == {1e-4}
    assert {cell.learning_rate for cell in cells if cell.model != "nonlinear"} == {3e-4}


def test_rates_and_seeds_are_crossed_with_the_rest():
    cells = grid.cells(settings(learning_rates="1e-4,3e-4", seeds="0,1,2", methods="nvil,rebar"))
    assert len(cells) == 12
    assert [(c.method.name, c.learning_rate, c.seed) for c in cells[2:5]] == [
        ("nvil", 1e-4, 2),
        ("nvil", 3e-4, 0),
        ("nvil", 3e-4, 1),
    ]


def test_the_command_of_a_cell_is_one_that_the_trainer_takes():
    (cell,) = grid.cells(settings(models="nonlinear", methods="rebar:0.1", tasks="mnist:structured"))
    given = train.parse(["train.py", *cell.arguments]).flags()
    assert {name: given[name] for name in ("dataset", "task", "num_layers", "nonlinear", "estimator")} == {
        "dataset": "mnist",
        "task": "structured",
        "num_layers": 1,
        "nonlinear": True,
        "estimator": "rebar",
    }
    assert (given["temperature"], given["learn_temperature"], given["learning_rate"]) == (0.1, False, 1e-4)
    assert cell.command == " ".join(["python -m trainers.train", *cell.arguments])


def test_a_method_without_a_learned_temperature_is_not_told_to_learn_none():
    (cell,) = grid.cells(settings(methods="concrete:0.1"))
    assert "--temperature=0.1" in cell.arguments
    assert "learn_temperature" not in cell.command


def test_a_row_for_each_cell_and_the_best_rate_on_the_validation_images(small, rows, capsys):
    assert small("--learning_rates=0.03,0.01,1", "--seeds=0,1", "--hidden_units=8") == 0
    table = rows()
    assert [tuple(row) for row in table] == [results.COLUMNS] * 6
    found = {(row["learning_rate"], row["seed"]): row for row in table}
    row = found[0.01, 1]
    assert row["valid_bound_100"] == row["test_bound_100"] == row["train_bound"] == -101
    assert (row["dataset"], row["model"], row["method"], row["steps"]) == ("mnist_5k", "linear1", "nvil", 50)
    assert (row["log_grad_variance"], row["temperature"], row["steps_per_second"]) == (1.5, None, 10)
    assert row["date"] == datetime.date.today().isoformat()
    assert row["command"].endswith("--num_steps=50 --seed=1 --hidden_units=8")
    assert {key: row["status"] for key, row in found.items()} == {
        (rate, seed): "diverged" if rate == 1 else "finished" for rate in (0.01, 0.03, 1) for seed in (0, 1)
    }
    out = capsys.readouterr().out.splitlines()
    assert out[-2].startswith("best of 2: mnist_5k generative linear1 nvil, learning rate 0.01  valid -100.50")
    assert json.loads(out[-1]) == {"finished": 4, "diverged": 2, "failed": 0, "not_run": 0}


def test_a_rate_at_which_a_seed_diverged_is_not_the_best():
    def row(rate, seed, bound, status="finished"):
        names = {"dataset": "mnist", "task": "generative", "model": "linear1", "method": "nvil"}
        return {**names, "learning_rate": rate, "seed": seed, "valid_bound_100": bound, "status": status}

    rows = [row(0.1, 0, -90.0), row(0.1, 1, None, "diverged"), row(0.2, 0, -99.0), row(0.2, 1, -99.0)]
    rows += [row(0.3, 0, -100.0), row(0.3, 1, -100.0)]
    (rates,) = results.by_rate(rows).values()
    assert results.best_rate(rates) == 0.2


def test_finished_cells_are_not_run_again_and_more_seeds_are(small, tmp_path, rows, capsys):
    assert small() == 0
    assert small("--seeds=0,1") == 0
    assert "2 cells, 1 of them done before" in capsys.readouterr().out
    assert {folder: len(each) for folder, each in calls(tmp_path).items()} == {
        "mnist_5k-generative-linear1-nvil-0.01-seed0": 1,
        "mnist_5k-generative-linear1-nvil-0.01-seed1": 1,
    }
    assert [row["seed"] for row in rows()] == [0, 1]


def test_a_failed_cell_is_recorded_and_tried_again_with_retry_only(small, tmp_path, rows, capsys):
    assert small("--seeds=9,1") == 1
    out = capsys.readouterr().out
    assert "seed 9: failed, exit status 7: out of luck" in out
    assert json.loads(out.splitlines()[-1]) == {"finished": 1, "diverged": 0, "failed": 1, "not_run": 0}
    assert {row["seed"]: row["status"] for row in rows()} == {9: "failed", 1: "finished"}
    assert small("--seeds=9,1") == 1
    assert [len(each) for each in calls(tmp_path).values()] == [1, 1]
    assert small("--seeds=9,1", "--retry=true") == 0
    assert sorted(len(each) for each in calls(tmp_path).values()) == [1, 2]
    assert {row["seed"]: row["status"] for row in rows()} == {9: "finished", 1: "finished"}


def test_more_steps_go_on_in_the_same_folder_and_add_a_row(small, tmp_path, rows):
    assert small() == 0
    assert small("--num_steps=80") == 0
    (each,) = calls(tmp_path).values()
    assert [call["flags"]["num_steps"] for call in each] == ["50", "80"]
    assert [row["steps"] for row in rows()] == [50, 80]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--report_every=20", "holds a run with other flags: --report_every was 500 and is now 20"),
        ("--num_steps=40", "flag --num_steps=40: expected for --workdir="),
    ],
)
def test_a_sweep_that_does_not_continue_the_runs_of_its_folders_is_refused(
    flag, message, small, tmp_path, rows, capsys
):
    assert small() == 0
    before = rows()
    (cell,) = grid.cells(settings(tasks="mnist_5k:generative", learning_rates="0.01"))
    folder = tmp_path / "sweep" / cell.folder
    parsed = group.parse(f"{' '.join(cell.arguments)} --num_steps=50 --workdir={folder}")
    (folder / "flags.json").write_text(json.dumps(parsed.flags()))
    assert small("--seeds=1", "--num_steps=50") == 0  # another folder
    assert small(flag) == 2
    assert message in capsys.readouterr().err
    assert [row for row in rows() if row["seed"] == 0] == before
    assert len(calls(tmp_path)[cell.folder]) == 1


def test_a_folder_that_cannot_be_made_stops_its_cell_alone(small, tmp_path, rows, capsys):
    cells = grid.cells(settings(tasks="mnist_5k:generative", learning_rates="0.01", seeds="0,1"))
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / cells[0].folder).write_text("a file")
    assert small("--seeds=0,1", "--jobs=1") == 1
    out = capsys.readouterr().out
    assert f"seed 0: not run, [Errno 17] File exists: '{tmp_path / 'sweep' / cells[0].folder}'" in out
    assert [row["seed"] for row in rows()] == [1]


def test_a_cell_is_one_however_it_is_spelt():
    cells = grid.cells(settings(methods="rebar:0.1,rebar:0.10,rebar:1e-1", seeds="0,00", learning_rates="1e-4,0.0001"))
    assert [(cell.method.name, cell.seed) for cell in cells] == [("rebar:0.1", 0)]


def test_a_signal_stops_the_cells_and_the_same_command_goes_on(small, tmp_path, rows, capsys):
    assert small("--seeds=8,1", "--jobs=1") == 143
    captured = capsys.readouterr()
    assert "the same command goes on" in captured.err
    first, _, last = captured.out.splitlines()
    assert first.startswith("2 cells, 0 of them done before; 1 at a time")
    assert json.loads(last)["not_run"] == 2
    assert rows() == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert small("--seeds=8,1", "--jobs=1") == 0
    assert {row["seed"]: row["status"] for row in rows()} == {8: "finished", 1: "finished"}


def test_a_cell_that_diverges_is_recorded_and_the_sweep_goes_on(small, rows, capsys):
    assert small("--seeds=3,1") == 0
    out = capsys.readouterr().out
    assert "seed 3: diverged, exit status 3: as status 3 or 4 says" in out
    assert {row["seed"]: row["status"] for row in rows()} == {3: "diverged", 1: "finished"}


def test_a_cell_that_another_process_trains_is_left_to_it(small, rows, capsys):
    assert small("--seeds=4,1") == 1
    assert "seed 4: not run, exit status 4: as status 3 or 4 says" in capsys.readouterr().out
    assert [row["seed"] for row in rows()] == [1]
    assert small("--seeds=4,1") == 0
    assert [row["seed"] for row in rows()] == [1, 4]


def test_a_cell_stops_with_a_checkpoint_when_its_sweep_is_killed(tmp_path):
    folder = tmp_path / "cell"
    script = (
        "import pathlib, sys; from trainers.common.experiment import Experiment; "
        "from trainers.sweep import grid, process;"
        "from trainers.sweep.settings import Settings;"
        "shared = Experiment(num_steps=10**6, hidden_units=4, report_every=50);"
        "one = Settings(shared, ['mnist_5k:generative'], ['linear1'], ['nvil'], ['3e-4'], ['1e-4'], ['0']);"
        "process.run((process.Job(*grid.cells(one), pathlib.Path(sys.argv[1])),))"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], cwd=ROOT, stderr=subprocess.DEVNULL) as sweeping:
        wait_for(lambda: "step      50/" in log(folder))
        sweeping.kill()
    wait_for(lambda: "stopped by SIGTERM at step" in log(folder))
    assert (folder / "checkpoint.keras").exists()


def log(folder):
    return (folder / "log.txt").read_text() if (folder / "log.txt").exists() else ""


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not pin processes to cores")
def test_each_cell_has_its_share_of_the_cores(small, tmp_path):
    before = os.sched_getaffinity(0)
    assert small("--jobs=1") == 0
    (call,) = calls(tmp_path)["mnist_5k-generative-linear1-nvil-0.01-seed0"]
    assert (call["cores"], call["threads"]) == (sorted(before), str(len(before)))
    assert small(f"--jobs={len(before)}", "--seeds=1") == 0
    (call,) = calls(tmp_path)["mnist_5k-generative-linear1-nvil-0.01-seed1"]
    assert (len(call["cores"]), call["threads"]) == (1, "1")
    assert os.sched_getaffinity(0) == before


def test_cores_are_shared_out_evenly():
    assert process.shares([0, 1, 2, 3, 4], 2) == [{0, 2, 4}, {1, 3}]
    assert process.shares([4, 7], 3) == [{4}, {7}, {4}]


def test_the_table_may_be_apart_and_is_replaced_as_a_whole(small, tmp_path, monkeypatch):
    table = tmp_path / "kept" / "x.csv"
    assert small(f"--results={table}") == 0
    before = table.read_bytes()
    (row,) = results.read(table)
    monkeypatch.setattr(os, "replace", lambda *paths: pytest.fail("no room"))
    with pytest.raises(pytest.fail.Exception):
        results.record(table, {**row, "command": "another"})
    assert table.read_bytes() == before
    assert list(table.parent.iterdir()) == [table]
    monkeypatch.undo()
    results.record(table, {**row, "command": "with another seed", "seed": 5, "temperature": 0.5})
    assert [(row["seed"], row["temperature"]) for row in results.read(table)][1] == (5, 0.5)
    results.record(table, {**row, "status": "failed"})
    assert [row["status"] for row in results.read(table)] == ["failed", "finished"]


def test_rows_stand_in_one_order_whichever_cell_ends_first(tmp_path):
    row = {
        **dict.fromkeys(results.COLUMNS, "x"),
        **dict.fromkeys(results.MEASURED, 1.0),
        "learning_rate": 3e-4,
        "steps": 9,
    }
    rows = [{**row, "seed": seed, "command": f"--seed={seed}"} for seed in (0, 2, 10)]
    for name, order in (("first", (0, 1, 2)), ("second", (2, 0, 1))):
        for place in order:
            results.record(tmp_path / name, rows[place])
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert [row["seed"] for row in results.read(tmp_path / "first")] == [0, 2, 10]


def test_a_table_waits_for_another_writer(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with results.locked(tmp_path), pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--models=linear3", "flag --models=linear3: 'linear3' is none; expected linear1, linear2, nonlinear"),
        ("--methods=nvil,rebarr", "'rebarr' is none; expected arm"),
        ("--methods=nvil:0.1", "'nvil:0.1' has no temperature"),
        ("--methods=", "flag --methods=: expected one or more of arm"),
        ("--tasks=mnist", "flag --tasks: 'mnist' is none; expected dataset:task"),
        ("--tasks=mnits:generative", "'mnits:generative' is none"),
        ("--tasks=mnist:generation", "'mnist:generation' is none"),
        ("--learning_rates=0.1,x", "flag --learning_rates=0.1,x: expected positive numbers"),
        ("--nonlinear_learning_rates=0", "flag --nonlinear_learning_rates=0: expected positive numbers"),
        ("--learning_rates=", "flag --learning_rates=: expected one value or more"),
        ("--seeds=-1", "flag --seeds=-1: expected integers from 0"),
        ("--binarization=both", "flag --binarization=both: expected one of"),
        ("--learning_rate=0.1", "Unknown command line flag 'learning_rate'"),
        ("--eval_samples=5", "Unknown command line flag 'eval_samples'"),
        ("--results=table", "flag --results=table: expected a path that ends in .csv"),
        ("--cluster=tcp://somewhere:1", "flag --cluster=tcp://somewhere:1: expected with --backend=dask or ray"),
        ("--jobs=0", "expected an integer of 1 or more"),
        ("--backend=slurm", "--backend=slurm"),
        ("--batch_size=4001", "flag --batch_size=4001: expected at most 4000"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_trained(flag, message, tmp_path, capsys):
    assert_fails_with(message, capsys, f"--workdir={tmp_path / 'sweep'}", flag)
    assert not list(tmp_path.glob("sweep/*/"))


def test_a_file_that_is_no_table_is_not_overwritten(small, tmp_path, capsys):
    table = tmp_path / "other.csv"
    table.write_text("a,b\n1,2\n")
    assert small(f"--results={table}") == 2
    assert "no results of trainers.sweep: its columns are not dataset, task" in capsys.readouterr().err
    assert table.read_text() == "a,b\n1,2\n"


def test_a_table_with_a_damaged_number_is_refused(small, tmp_path, capsys):
    table = tmp_path / "kept.csv"
    assert small(f"--results={table}") == 0
    table.write_text(table.read_text().replace("-100.0", "-1oo.0"))
    assert small(f"--results={table}") == 2
    assert "no results of trainers.sweep" in capsys.readouterr().err


def test_a_cluster_without_its_packages_says_what_to_install(small, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    assert small("--backend=dask") == 2
    assert "flag --backend=dask: needs more packages: pip install 'rebar_tf[sweep]'" in capsys.readouterr().err


def test_a_table_from_before_is_read_and_continued(small, rows, tmp_path):
    assert small("--seeds=0") == 0
    table = tmp_path / "sweep" / "results.csv"
    with open(table, newline="") as file:
        kept = list(csv.DictReader(file))
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, results._BEFORE, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
    assert small("--seeds=0,1") == 0
    assert [(row["seed"], bool(row["commit"])) for row in rows()] == [(0, False), (1, bool(commit()))]


def test_two_real_cells(tmp_path):
    workdir = tmp_path / "sweep"
    arguments = ("--models=linear1", "--methods=nvil,rebar:0.1", "--learning_rates=3e-4", f"--workdir={workdir}")
    assert command(*arguments, "--num_steps=20", "--hidden_units=4", "--report_every=10") == 0
    rows = {row["method"]: row for row in results.read(workdir / "results.csv")}
    assert rows.keys() == {"nvil", "rebar:0.1"}
    assert rows["rebar:0.1"]["temperature"] == pytest.approx(0.1)
    for row in rows.values():
        (folder,) = workdir.glob(f"*-{row['method'].replace(':', '_')}-*")
        summary = json.loads(Workdir(folder).summary.read_text())
        assert row["status"] == "finished"
        for name in ("valid_bound_100", "test_bound_100_standard_error"):
            assert row[name] == summary[name] != 0.0
        assert row["commit"] == commit()
        assert [each["step"] for each in callbacks.read_curve(folder / "curve.csv")] == [10, 20]
        assert "/" not in row["command"]
    with open(workdir / "results.csv", newline="") as file:
        assert tuple(next(csv.reader(file))) == results.COLUMNS
