"""Writes the model of a run as one small .keras file, without optimizer and moments of the gradient.

  python -m trainers.export --workdir=runs/mnist --file=model.keras

`keras.saving.load_model("model.keras")` loads it after `import rebar_tf`: to evaluate it, to draw from it, or to
compile it and train it anew.
"""

from __future__ import annotations

import pathlib
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

from trainers.common import flags
from trainers.common.errors import BadInput, one_line, reports_bad_input
from trainers.common.tensorflow_import import import_tensorflow


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """The flags of a command line."""
    values = flags.Flags()
    flags.define_string(values, "workdir", None, "Folder of a run of trainers.train.")
    flags.define_string(values, "file", None, "Where to. Expected: a path that ends in .keras.")
    given = flags.parse(values, argv, __doc__)
    if given["workdir"] is None:
        raise BadInput("flag --workdir: must be given; expected the folder of a run of trainers.train")
    if not str(given["file"]).endswith(".keras"):
        raise BadInput(f"flag --file={given['file']}: expected a path that ends in .keras")
    return given


@reports_bad_input("export")
def main(argv: Sequence[str]) -> int:
    """Writes the file that the flags ask for."""
    given = parse(argv)
    import_tensorflow()
    from trainers.run.workdir import load_model

    model, path = load_model(given["workdir"]), pathlib.Path(given["file"])
    alone = type(model).from_config(model.get_config())
    alone.set_weights(model.get_weights())
    try:
        write(alone, path)
    except OSError as error:
        raise BadInput(f"flag --file={path}: {one_line(error)}; expected one that can be written to") from error
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def write(model: Any, path: pathlib.Path) -> None:
    """Saves a model, compressed: Keras's own file is not, and a new model's moments are zeros."""
    from trainers.common.files import replacing

    with replacing(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary) as saved:
            content = {name: saved.read(name) for name in saved.namelist()}
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
