"""The report: the tables next to the paper's, the figures, and what is missing, mixed or damaged."""

import csv
import functools
import json
import math
import shutil
import statistics
import xml.etree.ElementTree

import pytest
from helpers import command_line
from matplotlib import image

from trainers.common.experiment import Experiment
from trainers.common.methods import Method
from trainers.evaluate import inference
from trainers.report import __main__ as report
from trainers.report import curves, figures, tables
from trainers.report.page import Page
from trainers.sweep import results
from trainers.sweep.grid import Cell
from trainers.sweep.settings import MODELS

MNIST = "mnist_larochelle"  # the paper's
METHODS = {name: Method(name, name.partition(":")[0], 0.1 if ":" in name else None) for name in tables.METHODS}
PAGE = (
    "# Results\n\n<!-- begin tables -->\n\nold\n\n<!-- end tables -->\n\nprose\n\n"
    "<!-- begin figures -->\n\nold\n\n<!-- end figures -->\n\nmore | a\\1\n"
)


def command(*arguments):
    """Runs the report in this process; its exit status."""
    return command_line.exit_status(lambda: report.main(["report.py", *map(str, arguments)]))


assert_fails_with = functools.partial(command_line.assert_fails_with, command)


def cell(
    method="nvil",
    seed=0,
    rate=3e-4,
    steps=1000,
    model="linear1",
    dataset=MNIST,
    task="generative",
    shared=(),
):
    return Cell(dataset, task, model, METHODS[method], rate, seed, steps, shared)


def row(train=-110.0, valid=-108.0, test=-109.0, status="finished", **of_cell):
    bounds = dict(zip(results.BOUNDS, (train, valid, test), strict=True))
    if status != "finished":
        bounds = dict.fromkeys(bounds)
    rest = {**dict.fromkeys(results.MEASURED), **bounds, "steps_per_second": 500.0}
    return {**cell(**of_cell).columns, **rest, "status": status, "date": "2026-11-23", "commit": "0a1b2c"}


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    for each in rows:
        results.record(path, each)


def write_run(folder, each, last=-100.0, reports=250, finished=True):
    """What trainers.train leaves of a run, as far as the report reads it."""
    folder.mkdir(parents=True)
    given = {"dataset": each.dataset, "task": each.task, **MODELS[each.model], "seed": each.seed}
    given |= {"learning_rate": each.learning_rate, "num_steps": each.num_steps, **dict(each.shared)}
    given |= {"estimator": each.method.estimator, **each.method.options}
    (folder / "flags.json").write_text(json.dumps({**Experiment().flags(), **given, "workdir": str(folder)}))
    write_curve(folder, each.num_steps, last, reports)
    if finished:
        (folder / "summary.json").write_text(json.dumps({"steps": each.num_steps}))


def write_curve(folder, num_steps, last=-100.0, reports=2):
    with open(folder / "curve.csv", "w", newline="") as file:
        file.write("step,bound,valid_bound,log_grad_variance,temperature,steps_per_second\n")
        for i in range(1, reports + 1):
            file.write(f"{i * num_steps // reports},{last - 200 / i:.9f},{last},-4.0,,500\n")


def write_variance(folder, seed=0, follow="simple_muprop", value=-4.0):
    folder.mkdir(parents=True)
    stored = {
        "dataset": MNIST,
        "task": "generative",
        "num_layers": 1,
        "nonlinear": False,
        "learning_rate": 3e-4,
    }
    stored |= {"methods": ["nvil", "rebar"], "follow": follow, "seed": seed, "num_steps": 1000}
    (folder / "flags.json").write_text(json.dumps(stored))
    (folder / "summary.json").write_text('{"steps": 1000}')
    write_curve(folder, 1000)
    origin = f"# python -m trainers.variance --dataset={MNIST} --methods=nvil,rebar --num_steps=1000 --seed={seed}"
    lines = [f"{origin}, 2026-11-23", "step,method,part,log_variance,signal_to_noise,temperature"]
    for step in (500, 1000):
        for i, method in enumerate(("nvil", "rebar")):
            lines += [f"{step},{method},{part},{value - i},0.1," for part in ("all", "encoder_0")]
    (folder / "variance.csv").write_text("\n".join(lines) + "\n")


def table_of(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {tuple(row[name] for name in ("column", "dataset", "task", "model", "method")): row for row in rows}


def test_the_papers_numbers_are_all_there():
    numbers = tables.paper()
    assert len(numbers) == 2 * 9 * 5
    assert str(numbers["train_bound", MNIST, "structured", "linear1", "rebar"]) == "-65.244 ± 0.009"
    assert str(numbers["test_bound_100", "omniglot_burda", "generative", "nonlinear", "rebar:0.1"]) == "-118.2 ± 0.1"
    best = max(tables.METHODS, key=lambda m: numbers["train_bound", MNIST, "structured", "linear1", m].mean)
    assert best == "muprop"


def test_mean_and_standard_error_over_seeds_at_the_rate_that_validation_picks(tmp_path):
    tests = (-109.0, -109.5, -108.7)
    rows = [row(test=value, seed=seed) for seed, value in enumerate(tests)]
    rows += [row(test=-100.0, valid=-120.0, seed=seed, rate=1e-3) for seed in range(3)]
    write_table(tmp_path / "few.csv", rows)
    assert command(f"--results_dir={tmp_path}") == 0
    found = table_of(tmp_path / "report" / "few.csv")
    ours = found["test_bound_100", MNIST, "generative", "linear1", "nvil"]
    assert float(ours["mean"]) == pytest.approx(statistics.mean(tests))
    assert float(ours["standard_error"]) == pytest.approx(statistics.stdev(tests) / math.sqrt(3))
    assert (ours["seeds"], ours["learning_rate"], ours["steps"], ours["status"]) == ("3", "0.0003", "1000", "finished")
    assert (ours["paper_mean"], ours["paper_standard_error"]) == ("-108.35", "0.06")
    text = (tmp_path / "report" / "few.md").read_text()
    assert "| Linear, 1 layer | here | -109.07 ± 0.23 (3 seeds) | not run |" in text
    assert "|  | paper | -108.35 ± 0.06 | -108.03 ± 0.07 |" in text
    assert "1,000 steps; learning rates 0.0003, 0.001; seeds 0, 1, 2; 2026-11-23." in text


def test_the_difference_to_the_paper_in_standard_errors(tmp_path):
    tests = (-108.25, -108.45, -108.35)
    write_table(tmp_path / "three.csv", [row(test=value + 0.2, seed=seed) for seed, value in enumerate(tests)])
    write_table(tmp_path / "one.csv", [row(test=-109.0), row(test=-109.0, dataset="mnist")])
    assert command(f"--results_dir={tmp_path}") == 0
    place = ("test_bound_100", MNIST, "generative", "linear1", "nvil")
    paper = tables.paper()[place].standard_error
    for name, difference, own in (
        ("three", 0.2, statistics.stdev(tests) / math.sqrt(3)),
        ("one", -0.65, paper * 5**0.5),
    ):
        found = table_of(tmp_path / "report" / f"{name}.csv")[place]
        assert float(found["difference"]) == pytest.approx(difference)
        assert float(found["difference_in_standard_errors"]) == pytest.approx(difference / math.hypot(own, paper))
    text = (tmp_path / "report" / "one.md").read_text()
    assert "|  | difference | -0.65 (-4.4 s.e.) | - | - | - | - |" in text
    other = text.partition("samples, mnist, generative; not in the paper**")[2].partition("Of the paper")[0]
    assert "-109.00" in other
    assert "difference" not in other


def test_what_was_not_run_is_marked_and_has_no_number(tmp_path):
    write_table(tmp_path / "one.csv", [row()])
    assert command(f"--results_dir={tmp_path}") == 0
    found = table_of(tmp_path / "report" / "one.csv")
    assert len(found) == 90
    missing = {key: each for key, each in found.items() if each["status"] == "not run"}
    assert len(missing) == 88
    assert {each["mean"] for each in missing.values()} == {""}
    assert all(each["paper_mean"] for each in found.values())
    text = (tmp_path / "report" / "one.md").read_text()
    assert "-109.00 (1 seed)" in text
    assert text.count("not run |") == 2 * (15 - 1)
    assert "omniglot_burda generative and mnist_larochelle structured: not run" in text


def test_cells_that_failed_or_diverged_say_so(tmp_path):
    rows = [row(), row(method="rebar", status="diverged"), row(method="muprop", status="failed")]
    rows += [row(seed=1, status="diverged")]
    write_table(tmp_path / "some.csv", rows)
    assert command(f"--results_dir={tmp_path}") == 0
    (line,) = {line for line in (tmp_path / "report" / "some.md").read_text().splitlines() if "-109.00" in line}
    assert line == "| Linear, 1 layer | here | -109.00 (1 of 2 seeds) | failed | not run | diverged | not run |"


def test_of_a_run_that_was_continued_the_longest_row_counts(tmp_path):
    diverged = [row(seed=1), row(seed=1, steps=2000, status="diverged")]
    write_table(tmp_path / "one.csv", [row(), row(steps=2000, train=-90.0), row(method="rebar", steps=2000), *diverged])
    assert command(f"--results_dir={tmp_path}") == 0
    found = table_of(tmp_path / "report" / "one.csv")
    assert found["train_bound", MNIST, "generative", "linear1", "nvil"]["mean"] == "-90.0"


def test_a_folder_of_the_reports_that_is_a_file_is_one_line(tmp_path, capsys):
    write_table(tmp_path / "one.csv", [row()])
    (tmp_path / "report").write_text("")
    assert command(f"--results_dir={tmp_path}") == 2
    assert capsys.readouterr().err == f"report.py: error: [Errno 17] File exists: '{tmp_path / 'report'}'\n"


def test_the_original_omniglot_is_not_set_against_the_papers(tmp_path):
    write_table(tmp_path / "drawings.csv", [row(dataset="omniglot"), row()])
    assert command(f"--results_dir={tmp_path}") == 0
    found = table_of(tmp_path / "report" / "drawings.csv")
    ours = found["test_bound_100", "omniglot", "generative", "linear1", "nvil"]
    assert (ours["mean"], ours["paper_mean"]) == ("-109.0", "")
    assert found["test_bound_100", "omniglot_burda", "generative", "linear1", "nvil"]["mean"] == ""
    text = (tmp_path / "report" / "drawings.md").read_text()
    part = text.partition("test bound of 100 samples, omniglot, generative; not in the paper**")[2].partition("**")[0]
    assert "-109.00 (1 seed)" in part
    assert "paper" not in part.partition("Of the paper's")[0]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (row(seed=1, steps=2000), "has runs of 1000 and 2000 steps"),
        (row(seed=1, shared=(("hidden_units", 8),)), "other flags: the trainer's own values / --hidden_units=8"),
        (row(seed=1, rate=1e-3), "learning rates 0.0003 and 0.001 at different seeds"),
    ],
)
def test_mixed_settings_are_refused_and_the_rest_is_written(other, message, tmp_path, capsys):
    write_table(tmp_path / "mixed.csv", [row(), other])
    write_table(tmp_path / "pure.csv", [row()])
    assert command(f"--results_dir={tmp_path}") == 2
    error = capsys.readouterr().err
    assert "mixed.csv: " in error
    assert message in error
    assert error.count("\n") == 1
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"pure.md", "pure.csv"}


def test_a_folder_without_a_finished_run_is_refused(tmp_path, capsys):
    assert_fails_with(f"--results_dir={tmp_path}: no finished run there", capsys, f"--results_dir={tmp_path}")
    write_table(tmp_path / "bad.csv", [row(status="failed")])
    assert_fails_with("bad.csv: has no finished run", capsys, f"--results_dir={tmp_path}")
    assert_fails_with("expected an existing folder", capsys, f"--results_dir={tmp_path / 'none'}")
    assert_fails_with("Unknown command line flag 'seed'", capsys, f"--results_dir={tmp_path}", "--seed=1")


def test_a_file_that_is_no_table_is_named(tmp_path, capsys):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert_fails_with("other.csv: no results of trainers.sweep", capsys, f"--results_dir={tmp_path}")


def test_runs_without_a_report_are_refused_and_nothing_is_kept(tmp_path, capsys):
    write_run(tmp_path / "runs" / "a", cell(), reports=0, finished=False)
    (tmp_path / "results").mkdir()
    arguments = (f"--results_dir={tmp_path / 'results'}", f"--runs={tmp_path / 'runs'}")
    assert_fails_with("runs: 1 runs there, none of them with a report", capsys, *arguments)
    assert list((tmp_path / "results").iterdir()) == []


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of results with tables, and three seeds of two methods and a comparison as runs, reported on."""
    top = tmp_path_factory.mktemp("made")
    for method, last in (("nvil", -112.0), ("rebar:0.1", -111.0)):
        for seed, apart in enumerate((0.5, -0.5, 0.0)):
            each = cell(method, seed=seed)
            write_run(top / "runs" / each.folder, each, last=last + apart)
            write_table(top / "results" / "tables.csv", [row(method=method, seed=seed)])
    write_variance(top / "runs" / "variance")
    page = top / "page.md"
    page.write_text(PAGE)
    assert command(f"--results_dir={top / 'results'}", f"--runs={top / 'runs'}", f"--page={page}") == 0
    return top


@pytest.fixture
def reported(made, tmp_path):
    """The folder of results, in a copy of all that is made."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "results"


def test_curves_are_kept_thinned_with_the_command_that_repeats_them(reported):
    files = sorted((reported / "curves").iterdir())
    assert len(files) == 6
    (path,) = (file for file in files if "rebar_0.1-0.0003-seed2" in file.name)
    first, *_ = path.read_text().splitlines()
    assert first.startswith(f"# {cell('rebar:0.1', seed=2).command}, 20")
    assert "runs" not in first
    (curve,) = (each for each in curves.read(reported / "curves") if each.path == path)
    named = (curve.dataset, curve.task, curve.model, curve.method, curve.learning_rate, curve.seed, curve.steps)
    assert named == (MNIST, "generative", "linear1", "rebar:0.1", 3e-4, 2, 1000)
    assert len(curve.rows) <= 100
    assert curve.rows[-1] == {
        "step": 1000,
        "bound": pytest.approx(-111.8),
        "valid_bound": -111,
        "log_grad_variance": -4,
        "steps_per_second": 500,
    }


def test_the_folder_of_a_sweep_is_enough(tmp_path, capsys):
    write_table(tmp_path / "results.csv", [row()])
    write_run(tmp_path / "mnist-nvil", cell())
    assert command(f"--workdir={tmp_path}") == 0
    assert table_of(tmp_path / "report" / "results.csv")
    printed = capsys.readouterr().out.splitlines()
    names = ("results.md", "app2.png", "bound_mnist_larochelle_generative.png")
    assert printed == [str(tmp_path / "report" / name) for name in names]
    assert_fails_with("flag --runs:", capsys, f"--workdir={tmp_path}", f"--runs={tmp_path}")
    assert_fails_with("flag --workdir=", capsys, f"--workdir={tmp_path / 'none'}")


def test_the_variance_of_the_whole_model_is_kept(reported):
    (curve,) = curves.read(reported / "variance")
    assert (curve.method, curve.model, curve.seed) == ("simple_muprop", "linear1", 0)
    assert [tuple(each.values()) for each in curve.rows] == [
        (500, "nvil", -4),
        (1000, "nvil", -4),
        (500, "rebar", -5),
        (1000, "rebar", -5),
    ]


def test_the_figures_are_drawn_from_what_is_kept(reported, tmp_path, capsys):
    names = {"app1", "app2", "bound_mnist_larochelle_generative", "variance_mnist_larochelle_generative"}
    written = {path.name for path in (reported / "report").iterdir()}
    assert written == {"tables.md", "tables.csv", *(f"{name}.{end}" for name in names for end in ("png", "svg"))}
    for name in names:
        assert image.imread(reported / "report" / f"{name}.png").std() > 0.05
        xml.etree.ElementTree.parse(reported / "report" / f"{name}.svg")
    before = (reported / "report" / "app2.svg").read_bytes()
    shutil.rmtree(reported / "report")
    shutil.rmtree(tmp_path / "runs")
    assert command(f"--results_dir={reported}") == 0  # without the runs
    assert (reported / "report" / "app2.svg").read_bytes() == before


def test_the_page_has_tables_and_figures_and_keeps_its_prose(reported, tmp_path):
    text = (tmp_path / "page.md").read_text()
    assert "old" not in text
    assert "prose" in text
    assert text.endswith("more | a\\1\n")
    assert "### tables.csv" in text
    assert (reported / "report" / "tables.md").read_text().strip() in text
    assert "](results/report/app2.png)" in text
    assert "Figure App.3: log variance of the gradient estimate: not run." in text
    assert "Figure App.5" in text


def test_thin_trials_a_bold_median_and_a_panel_that_was_not_run(reported):
    plot = figures.PAPER[1]
    trials = figures.bound_trials(curves.read(reported / "curves"), {})
    assert list(trials) == ["nvil", "rebar:0.1"]
    left, right = figures.draw(plot, [trials, {}]).axes
    bold = {line.get_label(): line for line in left.lines if line.get_linewidth() > 2}
    assert bold.keys() == {"NVIL", "REBAR (0.1)"}
    assert len(left.lines) == 6
    assert bold["NVIL"].get_ydata()[-1] == pytest.approx(-112.8)  # of -112.3, -113.3 and -112.8
    assert left.get_ylim()[0] > -150  # the first bounds, below -300, are left out
    assert [text.get_text() for text in right.texts] == ["not run"]
    assert right.lines[:] == []


def test_trials_of_different_settings_are_not_drawn_as_one(reported, tmp_path, capsys):
    each = cell(seed=3, steps=5000)
    write_run(tmp_path / "longer" / each.folder, each)
    assert command(f"--results_dir={reported}", f"--runs={tmp_path / 'longer'}") == 2
    error = capsys.readouterr().err
    assert "seed3.csv differ in steps: 1000 and 5000; expected trials that differ in the seed alone" in error
    assert error.count("\n") == 1
    assert (reported / "report" / "app1.png").exists()


def test_a_run_that_has_not_finished_is_shown_as_such_until_it_has(reported, tmp_path):
    each = cell("rebar")
    page = (f"--results_dir={reported}", f"--runs={tmp_path / 'more'}")
    for finished, shown in ((False, False), (True, True), (False, True)):  # an older copy of it replaces nothing
        write_run(tmp_path / "more" / each.folder, each, finished=finished)
        assert command(*page) == 0
        shutil.rmtree(tmp_path / "more")
        (curve,) = (kept for kept in curves.read(reported / "curves") if kept.method == "rebar")
        text = (reported / "report" / "tables.md").read_text()
        line = figures.draw(figures.PAPER[1], [figures.bound_trials([curve], {}), {}]).axes[0].lines[0]
        drawn = (curve.finished, text.count("| at step 1,000 |"), line.get_linestyle(), line.get_label())
        assert drawn == ((True, 0, "-", "REBAR") if shown else (False, 2, "--", "REBAR, unfinished"))


def test_a_run_that_is_being_continued_has_not_finished(reported, tmp_path):
    each = cell("rebar", steps=4000)
    write_run(tmp_path / "more" / each.folder, each, reports=3)
    (tmp_path / "more" / each.folder / "summary.json").write_text('{"steps": 3000}')
    assert command(f"--results_dir={reported}", f"--runs={tmp_path / 'more'}") == 0
    (curve,) = (kept for kept in curves.read(reported / "curves") if kept.method == "rebar")
    assert (curve.steps, curve.finished) == (4000, False)


def test_a_run_of_other_flags_is_not_said_to_be_a_cell_of_the_table(tmp_path):
    each = cell("rebar", shared=(("hidden_units", 50),))
    write_run(tmp_path / "more" / each.folder, each, finished=False)
    write_table(tmp_path / "results" / "one.csv", [row()])
    assert command(f"--results_dir={tmp_path / 'results'}", f"--runs={tmp_path / 'more'}") == 0
    assert "at step" not in (tmp_path / "results" / "report" / "one.md").read_text()


@pytest.mark.parametrize("method", ["nvil", "rebar"])
def test_a_run_of_other_flags_is_not_kept_beside_those_of_its_panel(method, reported, tmp_path, capsys):
    each = cell(method, steps=9000, shared=(("hidden_units", 50),))
    write_run(tmp_path / "more" / each.folder, each)
    assert command(f"--results_dir={reported}", f"--runs={tmp_path / 'more'}") == 0
    expected = "left out: its flags are --hidden_units=50, those of "
    assert expected in capsys.readouterr().out
    assert all(curve.shared == () for curve in curves.read(reported / "curves"))


def test_the_curve_of_an_inference_network_that_was_fitted_apart_is_none_of_the_run(reported, tmp_path):
    each = cell("rebar")
    write_run(tmp_path / "more" / each.folder, each, last=-90.0)
    longer = cell("rebar", steps=9000)
    write_run(tmp_path / "more" / each.folder / f"{inference.FOLDER}0a1b2c", longer, last=-50.0)
    assert command(f"--results_dir={reported}", f"--runs={tmp_path / 'more'}") == 0
    (curve,) = (kept for kept in curves.read(reported / "curves") if kept.method == "rebar")
    assert (curve.steps, curve.rows[-1]["valid_bound"]) == (1000, -90.0)


def test_the_longer_one_of_two_runs_is_kept(reported, tmp_path):
    each = cell("rebar:0.1", seed=0)
    for steps in (4000, 2000):
        folder = tmp_path / f"of_{steps}" / each.folder
        write_run(folder, cell("rebar:0.1", seed=0, steps=steps))
        list(curves.gather([tmp_path / f"of_{steps}"], reported))
    assert {curve.steps for curve in curves.read(reported / "curves") if curve.method == "rebar:0.1"} == {
        1000,
        4000,
    }


def test_of_several_rates_the_best_one_is_drawn(reported, tmp_path, capsys):
    each = cell(rate=1e-3)
    write_run(tmp_path / "other" / each.folder, each, last=-90.0)
    assert command(f"--results_dir={reported}", f"--runs={tmp_path / 'other'}") == 0
    kept = curves.read(reported / "curves")
    best = {(MNIST, "generative", "linear1", "nvil", 1000): 3e-4}
    assert len(figures.bound_trials(kept, best)["nvil"]) == 3
    (reported / "tables.csv").unlink()
    assert command(f"--results_dir={reported}") == 2
    assert "differ in learning_rate: 0.0003 and 0.001" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"eta": "shared"}, "--eta=shared is no flag of a run of the tables"),
        ({"num_layers": 3}, "--num_layers=3 --nonlinear=false is no model of the tables"),
        ({"temperature": 0.3}, "a temperature that is learned from 0.3 is no method"),
        ({"learn_temperature": False}, "--learn_temperature=false without --temperature is no method"),
    ],
)
def test_runs_that_are_none_of_the_tables_are_left_out(changed, message, reported, tmp_path, capsys):
    each = cell("rebar")
    folder = tmp_path / "more" / "a"
    write_run(folder, each)
    (folder / "flags.json").write_text(json.dumps({**json.loads((folder / "flags.json").read_text()), **changed}))
    assert command(f"--results_dir={reported}", f"--runs={tmp_path / 'more'}") == 0
    assert f"{folder} left out: {message}" in capsys.readouterr().out
    assert len(list((reported / "curves").iterdir())) == 6


def test_a_bound_of_a_network_fitted_apart_is_drawn_as_figure_app5(tmp_path):
    each = cell()
    folder = tmp_path / "runs" / "a"
    write_run(folder, each)
    lines = [",".join(inference.TABLE_COLUMNS), "500,-119,-118,1,0.1,9", "1000,-110,-107,3,0.1,9"]
    (folder / inference.TABLE).write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "results").mkdir()
    assert command(f"--results_dir={tmp_path / 'results'}", f"--runs={tmp_path / 'runs'}") == 0
    assert (tmp_path / "results" / "report" / "app5.svg").exists()
    figure = figures.draw_inference(curves.read(tmp_path / "results" / "inference"))
    lines = {line.get_label().rpartition(" network ")[2]: line for line in figure.axes[0].lines}
    assert {name: (line.get_linestyle(), list(line.get_ydata())) for name, line in lines.items()} == {
        "of the training": ("-.", [-119, -110]),
        "fitted apart": ("-", [-118, -107]),
    }


def test_a_kept_file_without_its_command_is_named(reported, capsys):
    path = next((reported / "curves").iterdir())
    path.write_text("step,bound\n1,-100\n")
    assert command(f"--results_dir={reported}") == 2
    assert f"{path}: no curve that trainers.report keeps" in capsys.readouterr().err
    assert (reported / "report" / "tables.md").exists()


def test_a_page_without_markers_is_refused(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("# Results\n")
    write_table(tmp_path / "one.csv", [row()])
    assert_fails_with("lines <!-- begin tables --> and", capsys, f"--results_dir={tmp_path}", f"--page={page}")
    assert_fails_with("expected a Markdown file", capsys, f"--results_dir={tmp_path}", f"--page={tmp_path}")
    assert not (tmp_path / "report").exists()
    with pytest.raises(Exception, match="expected a file with lines"):
        Page(page)
