"""GBVS of an image of 288x384 px, alone and in a batch.

    python benchmarks/bench_gbvs.py [--quick]

No peer can be installed: the target stands in its column. Measured once, not in this run (two-core machine,
one thread, 224x384 px): Python port (shreelock/gbvs) 1.7 s an image, the MATLAB toolbox in Octave 0.44 s.
"""
from collections.abc import Iterator

import torch
from bench import Row, main, take_turns

from common import generator
from gbvs import gbvs


def rows(quick: bool) -> Iterator[Row]:
    rounds, size = (1, (72, 96)) if quick else (11, (288, 384))
    for batch in (1, 8):
        images = torch.rand(batch, 3, *size, generator=generator(0))
        t = take_turns({"ours": lambda: gbvs(images)}, rounds)
        yield Row(f"GBVS, 288x384, batch of {batch}", "the target", "ms/image", t["ours"] * 1e3 / batch, 50.,
                  f"{rounds} x {batch}", 1)


if __name__ == "__main__":
    main(rows, __doc__)
