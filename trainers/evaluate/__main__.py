"""Evaluates a finished run of trainers.train: bounds, use of the units, pictures, a separate inference network.

  python -m trainers.evaluate --workdir=runs/mnist
      Bounds of 1, 100 and 5,000 samples on each split, KL and active units, samples and reconstructions.

  python -m trainers.evaluate --workdir=runs/mnist --samples=5000 --splits=test --max_images=10000
      One bound, on all test images of MNIST.

  python -m trainers.evaluate --workdir=runs/mnist --fit_inference_network --fit_steps=20000
      Also trains the inference network further on the test images, with the generator frozen (figure App.5). A point
      of the figure each time: continue the run to a larger --num_steps, and give the command again.

The bound of K samples is log 1/K sum_k exp(-f(b_k)) with discrete samples b_k, in nats, averaged over the images. Its
standard error is that of the mean over images, noise of the samples included. For each stochastic layer, from below:

    KL(i) = mean over x of E_q [log q(b_i | b_i-1) - log p(b_i | b_i+1)],    their sum is KL(q(b|x) || p(b)),
    active units = those with variance over x of E_q[b | x] above 0.01, b in {0, 1}        (Burda et al. 2016).

The KL of a top layer has closed form given the layer below; the rest is estimated from 10 samples an image. For
structured prediction there is no KL.

WORKDIR gets evaluation.json and evaluation.csv, samples.png, reconstructions.png and, where asked, inference.csv with
a row for each checkpoint and, below inference_network-*, the curve of that training. A bound is written when it is
done, and is not computed again as long as the checkpoint is the same: an interrupted command continues when it is given
again. The last line of the output is evaluation.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainers.common import flags
from trainers.common.errors import BadInput, reports_bad_input
from trainers.common.signals import exits_on_signals
from trainers.common.tensorflow_import import import_tensorflow
from trainers.evaluate.options import FEW_IMAGES, MANY_SAMPLES, SPLITS, Options


def parse(argv: Sequence[str]) -> Options:
    """The options of a command line."""
    values = flags.Flags()
    flags.define_string(values, "workdir", None, "Folder of a finished run of trainers.train.")
    flags.define_string(values, "data_dir", None, "Folder of the images, as in trainers.train. Unset: that of the run.")
    text = "Whether raw files must be the published ones, by their sums. False for a run that was trained without."
    flags.define_boolean(values, "verify_data", True, text)
    text = "Numbers of samples an image, separated by commas."
    flags.define(values, "samples", "1,100,5000", text, _integers, "integers of 1 or more")
    text = "What to evaluate, separated by commas."
    flags.define(values, "splits", ",".join(SPLITS), text, _splits, f"some of {', '.join(SPLITS)}")
    text = (
        f"The first images of each split that are taken. Unset: all, but {FEW_IMAGES} for more than {MANY_SAMPLES} "
        "samples, as 5,000 samples of 50,000 images take half an hour."
    )
    flags.define_integer(values, "max_images", None, text, low=1)
    text = "Whether to train a separate inference network on the test images."
    flags.define_boolean(values, "fit_inference_network", False, text)
    text = "Steps of that training in all, those of earlier calls included."
    flags.define_integer(values, "fit_steps", 2000, text, low=1)
    flags.define_integer(values, "report_every", 200, "Steps of that training between two points of its curve.", low=1)
    options = Options(**flags.parse(values, argv, __doc__))
    if not options.workdir:
        raise BadInput("flag --workdir: must be given; expected the folder of a finished run of trainers.train")
    return options


def _integers(text: str) -> list[int]:
    numbers = list(dict.fromkeys(int(part) for part in text.split(",")))
    if min(numbers) < 1:
        raise ValueError
    return numbers


def _splits(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    if not set(names) <= set(SPLITS):
        raise ValueError
    return names


@reports_bad_input("evaluate")
def main(argv: Sequence[str]) -> int:
    """Evaluates the run of the flags."""
    with exits_on_signals("while evaluating: the bounds that are done are kept"):
        options = parse(argv)
        import_tensorflow()
        from trainers.evaluate import evaluation

        evaluation.run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
