"""What an installed project holds."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("rebar_tf", "trainers")


@pytest.mark.slow
def test_wheel_carries_all_modules_the_type_marker_and_the_papers_numbers(tmp_path):
    # Built from a copy: setuptools leaves files beside what it builds.
    source = tmp_path / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package)
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", tmp_path, source], check=True, capture_output=True)

    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert held == modules | {"rebar_tf/py.typed", "trainers/report/paper_tables.csv"}


def test_tensorflow_probability_is_imported_only_when_used():
    code = (
        "import sys, rebar_tf as rt; model = rt.models.SigmoidBeliefNetwork(hidden_units=2, visible_units=3); "
        "assert 'tensorflow_probability' not in sys.modules; model.prior(); "
        "assert 'tensorflow_probability' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
