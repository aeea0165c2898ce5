"""Batches that depend only on the seed and the step, so that runs resume exactly."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from rebar_tf.datasets.dataset import is_binary
from rebar_tf.validation import check_images, is_integer

# Sets the noise of the pixels apart from the noise of a model that is keyed by the same seed and step.
_PIXEL_STREAM = 0x70697865
_GATHERED = 32  # batches


def batches(
    images: npt.ArrayLike,
    batch_size: int,
    seed: int = 0,
    start_step: int = 0,
    binarize: bool = False,
    dtype: str = "float32",
) -> tf.data.Dataset:
    """Make an infinite dataset of batches; the batch of step t depends only on `seed` and t.

    Each pass over the images is a permutation, `numpy.random.default_rng([seed, pass])`; the last
    images of a pass that do not fill a batch are left out.

    Args:
        images: `[n, units]`, boolean, integer or floating, values in [0, 1].
        batch_size: The number of images of a batch, from 1 to n.
        seed: The seed of the permutations and of the drawn pixels, not negative.
        start_step: The step of the first batch, not negative: a run that stopped after t steps
            resumes with `start_step=t`.
        binarize: Whether to draw each pixel from a Bernoulli of its value, with a new draw at each step.
        dtype: `"float32"`, or `"bool"` for binary pixels: a quarter of the bytes to copy beside the training, for a
            model that casts its inputs, as those of `rebar_tf.models` do.

    Returns:
        An infinite `tf.data.Dataset` of `[batch_size, units]`.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> import numpy as np
        >>> dataset = batches(np.eye(4), batch_size=2)
        >>> next(iter(dataset)).shape
        TensorShape([2, 4])
    """
    images = check_images(images, "images", units=None)
    _check_arguments(len(images), batch_size, seed, start_step)
    steps_per_pass = len(images) // batch_size
    first_pass, skipped = divmod(start_step, steps_per_pass)

    def rows_of_pass(pass_: np.int64) -> np.ndarray:
        order = np.random.default_rng([seed, int(pass_)]).permutation(len(images))
        return order[: steps_per_pass * batch_size].reshape(steps_per_pass, batch_size)

    def pass_dataset(pass_: tf.Tensor) -> tf.data.Dataset:
        rows = tf.numpy_function(rows_of_pass, [pass_], tf.int64)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(rows, [steps_per_pass, batch_size]))

    pixels = images.astype(bool if is_binary(images) else np.float32, copy=False)
    if dtype not in ("float32", "bool") or (dtype == "bool" and pixels.dtype != bool and not binarize):
        raise ValueError(f"dtype must be 'float32', or 'bool' for binary pixels. Received: dtype={dtype!r}")

    def take(steps: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        # By NumPy: a tensor of the images would be a copy of them.
        taken = tf.numpy_function(lambda rows: pixels[rows], [rows], pixels.dtype)
        taken = tf.ensure_shape(taken, [*rows.shape, *pixels.shape[1:]])
        if binarize:
            taken = tf.map_fn(lambda pair: _draw(pair[0], seed, pair[1]), (taken, steps), tf.bool)
        return tf.cast(taken, dtype)

    dataset = tf.data.Dataset.counter(first_pass).flat_map(pass_dataset).skip(skipped).enumerate(start_step)
    # Many batches are gathered in one call: the call costs more than a batch.
    dataset = dataset.batch(_GATHERED).map(take).unbatch()
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return _without_tuning(dataset.prefetch(_GATHERED))


def _without_tuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset without tf.data's search for buffer sizes, which has nothing to choose here.

    An iterator ends only when its search wakes up. The search sleeps for as long as the run so far, at most a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _draw(probabilities: tf.Tensor, seed: int, step: tf.Tensor) -> tf.Tensor:
    # tf.data runs outside of XLA, where threefry does not exist; the algorithm is named all the same,
    # so that the draw is that of no other device.
    key = tf.stack([tf.constant(seed ^ _PIXEL_STREAM, tf.int64), step])
    noise = tf.random.stateless_uniform(tf.shape(probabilities), key, alg="philox")
    return noise < tf.cast(probabilities, tf.float32)


def _check_arguments(num_images: int, batch_size: int, seed: int, start_step: int) -> None:
    if not (is_integer(batch_size, least=1) and batch_size <= num_images):
        raise ValueError(
            f"batch_size must be an int from 1 to the number of images, {num_images}. "
            f"Received: batch_size={batch_size!r}"
        )
    for name, value in (("seed", seed), ("start_step", start_step)):
        if not (is_integer(value, least=0) and value < 2**63):
            raise ValueError(f"{name} must be an int that is not negative. Received: {name}={value!r}")
