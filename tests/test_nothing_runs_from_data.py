"""Nothing that is read is run: the calls that could are not in the source."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted(
    path for folder in ("rebar_tf", "trainers", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")
)
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle", "yaml", "xmlrpc"}
CALLS = {
    *("eval", "exec", "compile", "__import__"),  # Python's own
    *("system", "popen", "mktemp", "extractall", "unpack_archive"),  # of os, tempfile, tarfile, zipfile, shutil
    *("enable_unsafe_deserialization", "read_pickle"),  # of Keras, of pandas
}
MODEL_METHODS = {"compile"}  # a Keras model's, not Python's
ARGUMENTS = {("allow_pickle", True), ("shell", True), ("safe_mode", False)}


def dangers(source):
    """What of the lists above is in a source, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found = [name for name in names if name.split(".")[0] in MODULES]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found = [node.func.id] if node.func.id in CALLS else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found = [node.func.attr] if node.func.attr in CALLS - MODEL_METHODS else []
        elif isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
            found = [node.arg] if (node.arg, node.value.value) in ARGUMENTS else []
        else:
            continue
        yield from (f"line {node.lineno}: {name}" for name in found)


def test_no_source_can_run_what_it_reads():
    assert len(SOURCES) > 100
    assert [f"{path}, {danger}" for path in SOURCES for danger in dangers(path.read_text())] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import yaml.reader",
        "from dill import loads",
        "eval(x)",
        "os.system(command)",
        "archive.extractall(folder)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
        "keras.saving.load_model(path, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
    ],
)
def test_what_is_forbidden_is_found(source):
    assert len(list(dangers(source))) == 1


def test_what_is_not_forbidden_passes():
    source = "model.compile()\nnp.load(path, allow_pickle=False)\nkeras.saving.load_model(path)\nre.compile(text)"
    assert list(dangers(source)) == []
