"""What an installed project holds."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("rebar_tf", "trainers")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the wheel and the sdist."""
    # From a copy: setuptools leaves files beside what it builds.
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source], check=True)
    return folder


@pytest.mark.slow
def test_wheel_carries_all_modules_and_data(built):
    (wheel,) = built.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    trained = {str(path.relative_to(ROOT)) for path in (ROOT / "rebar_tf" / "models" / "trained").iterdir()}
    assert held == modules | trained | {"rebar_tf/py.typed", "trainers/report/paper_tables.csv"}


@pytest.mark.slow
def test_wheel_and_sdist_are_as_the_index_wants_them(built):
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *built.iterdir()], check=True)


@pytest.mark.slow
def test_the_installed_wheel_passes_the_tests_of_the_layers_from_another_folder(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    subprocess.run([sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel], check=True)
    for folder in ("layers", "helpers"):
        shutil.copytree(ROOT / "tests" / folder, elsewhere / folder)
    shutil.copy(ROOT / "tests" / "conftest.py", elsewhere)
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{elsewhere}"}
    where = [sys.executable, "-c", "import rebar_tf; print(rebar_tf.__file__)"]
    found = subprocess.run(where, cwd=elsewhere, env=environment, check=True, capture_output=True, text=True).stdout
    assert pathlib.Path(found.strip()).is_relative_to(site)
    options = ["-c", os.devnull, "--rootdir", elsewhere, "--import-mode=importlib", "-m", "not slow", "-W", "ignore"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, elsewhere / "layers"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout


def test_tensorflow_probability_is_imported_only_when_used():
    code = (
        "import sys, rebar_tf as rt; model = rt.models.SigmoidBeliefNetwork(hidden_units=2, visible_units=3); "
        "assert 'tensorflow_probability' not in sys.modules; model.prior(); "
        "assert 'tensorflow_probability' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
