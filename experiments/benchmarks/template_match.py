"""Template matches per second of each backend: which one `auto` should choose on this machine.

    python experiments/benchmarks/template_match.py [--device cpu]

Templates of 24 to 160 px in regions 100 px larger on every side, ten regions each, one thread.
"""

import argparse
import time

import cv2
import numpy as np
import torch

from hem.ops.template_match import match_templates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    generator = np.random.default_rng(0)
    print("| side | opencv, maps/s | torch, maps/s |\n|---|---|---|")
    for side in (24, 48, 96, 160):
        shape = (side + 200, side + 200)
        regions = [generator.integers(0, 256, shape, dtype=np.uint8) for _ in range(10)]
        template = regions[0][100 : 100 + side, 100 : 100 + side]
        rates = []
        for backend in ("opencv", "torch"):
            given = regions
            if backend == "torch":
                given = [torch.from_numpy(region).to(arguments.device) for region in regions]
            own = torch.from_numpy(template.copy()).to(arguments.device) if backend == "torch" else template
            match_templates([own] * 10, given, backend)
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < 1.0:
                match_templates([own] * 10, given, backend)
                count += 10
            rates.append(count / (time.perf_counter() - start))
        print(f"| {side} | {rates[0]:.0f} | {rates[1]:.0f} |")


if __name__ == "__main__":
    main()
