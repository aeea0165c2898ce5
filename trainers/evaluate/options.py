"""What `trainers.evaluate` is asked for."""

from __future__ import annotations

import dataclasses

SPLITS = ("train", "valid", "test")
MANY_SAMPLES, FEW_IMAGES = 1000, 1000  # above so many samples, so many images unless --max_images is given


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of the command, by their names."""

    workdir: str
    data_dir: str | None
    verify_data: bool
    samples: list[int]
    splits: list[str]
    max_images: int | None
    fit_inference_network: bool
    fit_steps: int
    report_every: int
