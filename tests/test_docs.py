"""The pages of the documentation: their code runs, and the site has every public name."""

import importlib
import inspect
import os
import pathlib
import pkgutil
import re
import subprocess
import sys

import keras
import pytest
from helpers.marks import slow_but

import rebar_tf

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text())]
QUICK = [ROOT / "README.md"]
PACKAGES = [f"rebar_tf.{module.name}" for module in pkgutil.iter_modules(rebar_tf.__path__) if module.ispkg]


@pytest.mark.parametrize("page", slow_but(QUICK, WITH_CODE), ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.disable_interactive_logging()
    names = {"__name__": page.stem}  # a block goes on from the one before
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, page.name, "exec"), names)


def test_the_api_page_has_every_package():
    page = (ROOT / "docs" / "api.md").read_text()
    assert re.findall(r"automodule:: (\S+)", page).count("rebar_tf") == 1
    assert {*re.findall(r"automodule:: (rebar_tf\.\S+)", page)} == {*PACKAGES, "rebar_tf.initializers"}


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_has_every_public_name(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    page = (tmp_path / "api.html").read_text()
    members = [
        (package, name, getattr(importlib.import_module(package), name))
        for package in ("rebar_tf", *PACKAGES)
        for name in importlib.import_module(package).__all__
    ]
    missing = [
        f"{package}.{name}"
        for package, name, member in members
        if not inspect.ismodule(member) and not re.search(rf'id="rebar_tf\.([\w.]*\.)?{name}"', page)
    ]
    assert missing == []
