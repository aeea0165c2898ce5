"""Binary images from pixel probabilities, by one seeded draw that never changes."""

import numpy as np

from rebar_tf.datasets.validation import validate_images

BINARIZATIONS = ("fixed", "dynamic")

# Rows drawn at once. Float64 noise for all of MNIST would take 313 MB; the stream is the same in chunks.
_CHUNK = 2048


def binarize(images: np.ndarray, seed: int | tuple[int, ...] = 0) -> np.ndarray:
    """Draw each pixel from a Bernoulli of its probability, the same draw for the same seed.

    The result is that of `numpy.random.RandomState(seed).uniform(size=images.shape) < images`.

    Args:
        images: `[n, units]`, probabilities in [0, 1], compared in float32.
        seed: The seed of the draw, an int in [0, 2**32) or a tuple of such.

    Returns:
        `[n, units]`, float32, in {0, 1}.

    Raises:
        ValueError: If `images` is not such a matrix or `seed` is out of range.

    Example:
        >>> binarize(np.array([[0.0, 1.0]]))
        array([[0., 1.]], dtype=float32)
    """
    images = validate_images(images, units=None)
    return _draw(images, _random_state(seed))


def split_pixels(pixels: np.ndarray, binarization: str, seed: int | tuple[int, ...]) -> np.ndarray:
    """Turn pixel bytes into what a split holds under `binarization`.

    Args:
        pixels: `[n, units]`, uint8.
        binarization: "fixed" draws each pixel once, "dynamic" keeps its probability.
        seed: The seed of the fixed draw.

    Returns:
        `[n, units]`, float32: in {0, 1} for "fixed", in [0, 1] for "dynamic".

    Raises:
        ValueError: If `binarization` is unknown or `seed` is out of range.
    """
    check_binarization(binarization)
    if binarization == "dynamic":
        return _probabilities(pixels)
    return _draw(pixels, _random_state(seed))


def check_binarization(binarization: str) -> None:
    """Raise a ValueError that lists the accepted binarizations unless `binarization` is one of them."""
    if binarization not in BINARIZATIONS:
        accepted = ", ".join(map(repr, BINARIZATIONS))
        raise ValueError(f"binarization must be one of {accepted}. Received: binarization={binarization!r}")


def _random_state(seed: int | tuple[int, ...]) -> np.random.RandomState:
    try:
        return np.random.RandomState(seed)
    except (TypeError, ValueError):
        raise ValueError(f"seed must be an int in [0, 2**32) or a tuple of such. Received: seed={seed!r}") from None


def _draw(images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    binary = np.empty(images.shape, np.float32)
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        probabilities = _probabilities(images[rows])
        binary[rows] = random.uniform(size=probabilities.shape) < probabilities
    return binary


def _probabilities(images: np.ndarray) -> np.ndarray:
    """The float32 probabilities of pixel bytes; probabilities come back as they are."""
    return images / np.float32(255) if images.dtype == np.uint8 else images
