"""Prepares a dataset, and reports its statistics; with --preview it draws some of the images.

  python -m trainers.data --dataset=omniglot --data_dir=data --preview
      Reads the raw files below data once; from then on the trainers read a prepared copy in a second.

The table shows for each split the number of images; the least, largest and mean pixel; the ink, which is the fraction
of pixels that are 1 after the fixed binarization; and the start of the SHA-256 of these binary pixels, a byte each, by
which two machines can tell that they have the same images. WORKDIR gets statistics.json and, with --preview,
preview.png. The last line of the output is statistics.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.tensorflow_import import import_tensorflow


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """The flags of a command line, by name."""
    values = flags.Flags()
    flags.define_experiment(values, "dataset", "data_dir", "verify_data", "binarization_seed")
    flags.define_boolean(values, "preview", False, "Whether to draw some images of each split.")
    text = "Folder of statistics.json and preview.png, which are replaced. Unset: runs/data-DATASET."
    flags.define_string(values, "workdir", None, text)
    return flags.parse(values, argv, __doc__)


@reports_bad_input("data")
def main(argv: Sequence[str]) -> int:
    """Prepares the dataset of the flags."""
    given = parse(argv)
    import_tensorflow()
    from trainers.data import preparation

    preparation.run(**given)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
