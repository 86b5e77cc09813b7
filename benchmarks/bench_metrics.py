"""Five metrics (CC, NSS, AUC-Judd, KL, SIM), 224x224, one thread: ours on a batch, pysaliency per image; and
inter-observer consistency of 60 observers: ours without their maps, a loop over the pairs of maps.

    python benchmarks/bench_metrics.py [--batch 16] [--rounds 21]

Ours and theirs take turns in one process; medians of its CPU time, so that a busy machine counts less.
pysaliency is timed on the functions that its models call for one image, on maps already in memory;
without it the column says "not installed".
"""
import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[:2]]
from common import (auc_judd, cc, density_map, fixation_counts, gaussian_blur, kld, nss, observer_consistency,
                    sim)

try:
    import pysaliency.metrics as peer
    from pysaliency.roc import general_roc
    from pysaliency.saliency_map_models import _get_unfixated_values
except ImportError:
    peer = None

SIZE = 224, 224


def make_batch(batch: int, n_fix: int) -> tuple:
    """Smooth random maps p, and n_fix fixations an image around the image's own centres of interest."""
    rng = np.random.default_rng(0)
    p = gaussian_blur(torch.from_numpy(rng.random((batch, *SIZE))), 8)
    centres = rng.uniform(30, 194, (batch, 12, 2))
    points = [rng.choice(c, n_fix) + rng.normal(0, 22, (n_fix, 2)) for c in centres]
    points = [yx.clip(0, 223).astype(int) for yx in points]
    q = torch.stack([density_map(yx[:, 0], yx[:, 1], SIZE, 15) for yx in points])
    return p, q, torch.stack([fixation_counts(yx[:, 0], yx[:, 1], SIZE) for yx in points]), points


def peer_auc(m: np.ndarray, yx: np.ndarray) -> float:
    """AUC_Judd(jitter=False) of one image, as SaliencyMapModel.AUC_per_image computes it."""
    y, x = yx.T
    return general_roc(m[y, x], _get_unfixated_values(m, y, x), judd=1)[0]


def seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def pairwise_loop(observers: list) -> float:
    """Mean correlation of the observers' maps, pair by pair."""
    maps = [density_map(rows, cols, SIZE, 15).numpy().ravel() for rows, cols in observers]
    return float(np.mean([np.corrcoef(a, b)[0, 1] for i, a in enumerate(maps) for b in maps[:i]]))


def consistency_row(rounds: int) -> None:
    """60 observers with 123 samples each, as SALICON's."""
    rng = np.random.default_rng(1)
    images = [[rng.integers(0, 224, (2, 123)) for _ in range(60)] for _ in range(rounds + 1)]
    ours = 1e3 * np.median([seconds(lambda: observer_consistency(o, SIZE, 15.)) for o in images][1:])
    theirs = 1e3 * seconds(lambda: pairwise_loop(images[0]))
    print(f"\nconsistency of 60 observers, ms/image: ours {ours:.1f} (n = {rounds}), pairwise {theirs:.0f} "
          f"(n = 1), ratio {theirs / ours:.0f}; 5,000 images: {5 * ours:.0f} s, {theirs * 5 / 3600:.1f} h")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16, help="images per batch (default 16)")
    parser.add_argument("--rounds", type=int, default=21, help="timed rounds after a warm-up (default 21)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    consistency_row(args.rounds)
    for n_fix in (60, 7400):
        p, q, fix, points = make_batch(args.batch, n_fix)
        maps = list(zip(p.numpy(), q.numpy(), points))
        ours = {"CC": lambda: cc(p, q), "NSS": lambda: nss(p, fix), "AUC-Judd": lambda: auc_judd(p, fix),
                "KL": lambda: kld(p, q), "SIM": lambda: sim(p, q)}
        theirs = {} if peer is None else {
            "CC": lambda: [peer.CC(a, b) for a, b, _ in maps],
            "NSS": lambda: [peer.NSS(a, yx[:, 1], yx[:, 0]).mean() for a, _, yx in maps],
            "AUC-Judd": lambda: [peer_auc(a, yx) for a, _, yx in maps],
            "KL": lambda: [peer.MIT_KLDiv(a, b) for a, b, _ in maps],
            "SIM": lambda: [peer.SIM(a, b) for a, b, _ in maps]}
        times = [[[seconds(side[name]) for side in (ours, theirs) if side] for name in ours]
                 for _ in range(args.rounds + 1)][1:]                       # (rounds, metrics, sides)
        ms = np.array(times) / args.batch * 1e3
        print(f"\n{n_fix} fixations an image on {fix.gt(0).sum().item() / args.batch:.0f} pixels, "
              f"batch {args.batch}, n = {args.rounds} rounds, median ms/image")
        print(f"{'metric':10s}{'ours':>9s}{'pysaliency':>14s}{'ratio':>8s}")
        rows = [*zip(ours, np.median(ms, axis=0)), ("all five", np.median(ms.sum(1), axis=0))]
        for name, row in rows:
            other = f"{row[1]:14.3f}{row[1] / row[0]:8.1f}" if theirs else f"{'not installed':>14s}{'-':>8s}"
            print(f"{name:10s}{row[0]:9.3f}{other}")


if __name__ == "__main__":
    main()
