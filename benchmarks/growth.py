"""What one size of network costs: seconds of a step, memory, and how fast its products run. For `benchmarks.scaling`.

  python -m benchmarks.growth --batch_size=240 --hidden_units=500

Takes the flags of trainers.train, and trains on random digits. The output is a line of JSON: `seconds` a step;
`peak_mb` of the process; `mflop` of the products of a step; `share`, the time that these would take at the rate of one
large product, in parts of the step's.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence

from benchmarks import products, random_network, step_profile
from trainers.common.errors import reports_bad_input

_ROUNDS, _MOST_STEPS, _IMAGES = 5, 100, 4800


@reports_bad_input("growth")
def main(argv: Sequence[str]) -> int:
    experiment = random_network.parse(argv, __doc__)
    steps = max(min(_IMAGES // experiment.batch_size, _MOST_STEPS), 2)
    model, batches = random_network.build(experiment, steps)

    def train() -> None:
        model.fit(batches, steps_per_epoch=steps * programs, verbose=0, shuffle=False)

    programs = 1
    train()  # compiles
    programs = max(int(1.0 / step_profile.seconds(train)), 1)  # some second
    seconds = min(step_profile.seconds(train) for _ in range(_ROUNDS)) / (steps * programs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    flops = step_profile.product_flops(step_profile.optimized(model, batches, steps))
    share = flops / products.large_product_rate() / seconds
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "mflop": flops / 1e6, "share": share}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
