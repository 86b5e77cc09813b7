"""GBVS speed on one CPU thread: seconds an image at 288x384, alone and in a batch.

    python benchmarks/bench_gbvs.py [--repeats 20] [--batch-size 8]

Theirs are quoted, not run: 2-core machine, one thread, 224x384 images (19x32 nodes); ours also at that size.
"""
import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[:2]]
from common import gbvs

QUOTED = {"Python port (shreelock/gbvs)": 1.7, "original MATLAB toolbox, in Octave": 0.44}   # s an image


def seconds_per_image(images: torch.Tensor, repeats: int) -> float:
    """Median over `repeats` calls after one warm-up call."""
    gbvs(images)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        gbvs(images)
        times.append((time.perf_counter() - start) / len(images))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20, help="calls timed, default 20")
    parser.add_argument("--batch-size", type=int, default=8, help="images in the batched call, default 8")
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    print(f"{'s/image':>9}  {'ratio':>6}  {'n':>3}  what (one thread; {os.cpu_count()} cores)")
    for img_h, img_w in ((288, 384), (224, 384)):
        for batch in (1, args.batch_size):
            images = torch.rand(batch, 3, img_h, img_w, generator=generator)
            ours = seconds_per_image(images, args.repeats)
            print(f"{ours:9.4f}  {1:6.1f}  {args.repeats:3d}  ours, {img_h}x{img_w}, batch {batch}")
            if batch == 1:
                for name, theirs in QUOTED.items():
                    print(f"{theirs:9.4f}  {theirs / ours:6.1f}    -  {name}, quoted")


if __name__ == "__main__":
    main()
