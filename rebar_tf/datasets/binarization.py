"""Binary images from pixel probabilities, by one seeded draw."""

import numpy as np

from rebar_tf.validation import validate_images

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
    return draw(images, random_state(seed)).astype(np.float32)


def split_pixels(pixels: np.ndarray, binarization: str, seed: int | tuple[int, ...]) -> np.ndarray:
    """Turn pixel bytes into what a split holds under `binarization`.

    Args:
        pixels: `[n, units]`, bytes as uint8, or probabilities as float32.
        binarization: "fixed" draws each pixel once, "dynamic" keeps its probability.
        seed: The seed of the fixed draw.

    Returns:
        `[n, units]`: boolean for "fixed", float32 in [0, 1] for "dynamic".

    Raises:
        ValueError: If `binarization` is unknown or `seed` is out of range.
    """
    check_binarization(binarization)
    if binarization == "dynamic":
        return probabilities(pixels)
    return draw(pixels, random_state(seed))


def check_binarization(binarization: str) -> None:
    """Raise a ValueError that lists the accepted binarizations unless `binarization` is one of them."""
    if binarization not in BINARIZATIONS:
        accepted = ", ".join(map(repr, BINARIZATIONS))
        raise ValueError(f"binarization must be one of {accepted}. Received: binarization={binarization!r}")


def random_state(seed: int | tuple[int, ...]) -> np.random.RandomState:
    """The generator of a fixed draw; a ValueError where `seed` is out of range."""
    try:
        return np.random.RandomState(seed)
    except (TypeError, ValueError):
        raise ValueError(f"seed must be an int in [0, 2**32) or a tuple of such. Received: seed={seed!r}") from None


def draw(pixels: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Draw each pixel from a Bernoulli of its probability, with the next numbers of `random`.

    Args:
        pixels: `[n, units]`, bytes as uint8, or probabilities as float32.
        random: The generator.

    Returns:
        `[n, units]`, boolean.
    """
    binary = np.empty(pixels.shape, bool)
    for start in range(0, len(pixels), _CHUNK):
        rows = slice(start, start + _CHUNK)
        binary[rows] = random.uniform(size=pixels[rows].shape) < probabilities(pixels[rows])
    return binary


def probabilities(pixels: np.ndarray) -> np.ndarray:
    """The float32 probabilities of pixel bytes; probabilities come back as they are."""
    return pixels / np.float32(255) if pixels.dtype == np.uint8 else pixels
