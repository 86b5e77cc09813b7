"""The sweep of exp06: 30 participants x 20 objects x 12 heads x 40 sigmas x 4 metrics = 1,152,000 values.

    python benchmarks/bench_kl_sweep.py [--grid 14 14] [--threads 2] [--device cpu] [--share 0.01]

Ours: exp06_gaze_objects.metric_sweep, all values, wall-clock time. Beside it a plain loop over the pairs, as
one would write it from SciPy (gaussian_filter), NumPy (KL), pysaliency (CC, SIM) and scikit-image (SSIM) or,
where these are not installed, the same formulas; timed on a share of the values and scaled up. The largest
difference between both is over that share (SSIM: other treatment of the border, not compared). One
core of a shared two-core machine, torch 2.15: ours 3.6 s, loop 144 s on 14x14 patches; 18 s, 160 s on 30x30.
"""
import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from exp06_gaze_objects import EPS, METRICS, metric_sweep, ssim  # noqa: E402

try:
    from pysaliency.metrics import CC as peer_cc, SIM as peer_sim
except ImportError:
    peer_cc, peer_sim = None, None
try:
    from skimage.metrics import structural_similarity
except ImportError:
    structural_similarity = None

PEOPLE, OBJECTS, HEADS, SIGMAS = 30, 20, 12, np.arange(1, 41) / 10


def make_maps(grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Random attention (O, H, h, w) as of a softmax, a dozen weighted fixations a person (P, O, h, w)."""
    rng = np.random.default_rng(0)
    n = grid[0] * grid[1]
    attn = torch.from_numpy(rng.normal(0, 2, (OBJECTS, HEADS, n))).softmax(-1).view(OBJECTS, HEADS, *grid)
    fix = np.zeros((PEOPLE * OBJECTS, n))
    for row in fix:
        np.add.at(row, rng.integers(n, size=12), rng.gamma(6, .045, 12))
    return attn.float(), torch.from_numpy(fix).float().view(PEOPLE, OBJECTS, *grid)


def loop_kl(p: np.ndarray, q: np.ndarray) -> float:
    p, q = p / p.sum(), q / q.sum()
    return float((q * np.log(EPS + q / (p + EPS))).sum())


def loop_ssim(p: np.ndarray, q: np.ndarray) -> float:
    p, q = ((m - m.min()) / (m.max() - m.min()) for m in (p, q))
    if structural_similarity:
        return structural_similarity(p, q, data_range=1, gaussian_weights=True, sigma=1.5,
                                     use_sample_covariance=False)
    mp, mq, pp, qq, pq = (gaussian_filter(m, 1.5, truncate=3.5) for m in (p, q, p * p, q * q, p * q))
    top = (2 * mp * mq + 1e-4) * (2 * (pq - mp * mq) + 9e-4)
    return float((top / ((mp**2 + mq**2 + 1e-4) * (pp - mp**2 + qq - mq**2 + 9e-4))).mean())


LOOP = {"kl": loop_kl, "cc": peer_cc or (lambda p, q: np.corrcoef(p.ravel(), q.ravel())[0, 1]),
        "sim": peer_sim or (lambda p, q: np.minimum(p / p.sum(), q / q.sum()).sum()), "ssim": loop_ssim}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=int, nargs=2, default=[14, 14], help="patches (default: 14 14)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: 2); the loop has one")
    parser.add_argument("--device", default="cpu", help="of our sweep (default: cpu)")
    parser.add_argument("--share", type=float, default=.01, help="of the pairs in the loop (default: .01)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    attn, fix = make_maps(tuple(args.grid))
    on = [m.to(args.device) for m in (attn, fix)]
    metric_sweep(on[0][:1], on[1][:, :1], SIGMAS[:2], ssim)  # warm-up
    n = PEOPLE * OBJECTS * HEADS * len(SIGMAS)
    pairs = np.random.default_rng(1).choice(n, max(1, int(n * args.share)), replace=False)
    index = np.unravel_index(pairs, (PEOPLE, OBJECTS, HEADS, len(SIGMAS)))
    print(f"{n:,} values a metric on {args.grid[0]}x{args.grid[1]} patches, {args.threads} threads, "
          f"{args.device}; loop: {len(pairs):,} of them, CC and SIM by "
          f"{'pysaliency' if peer_cc else 'NumPy'}, SSIM by "
          f"{'scikit-image' if structural_similarity else 'SciPy'}")
    print(f"{'metric':10s}{'ours s':>10s}{'loop s':>10s}{'ratio':>8s}{'largest difference':>22s}")
    total = np.zeros(2)
    for name, metric in METRICS.items():
        began = time.perf_counter()
        values = metric_sweep(*on, SIGMAS, metric)  # (P, O, H, S), on the CPU: nothing left to wait for
        ours, began = time.perf_counter() - began, time.perf_counter()
        found = [LOOP[name](attn[o, h].numpy().astype(float), gaussian_filter(
            fix[p, o].numpy().astype(float), SIGMAS[s], mode="constant")) for p, o, h, s in zip(*index)]
        loop = (time.perf_counter() - began) / args.share
        same = "-" if name == "ssim" else f"{np.abs(np.array(found) - values.numpy()[index]).max():.1e}"
        print(f"{name:10s}{ours:10.2f}{loop:10.1f}{loop / ours:8.0f}{same:>22s}")
        total += ours, loop
    print(f"{'all four':10s}{total[0]:10.2f}{total[1]:10.1f}{total[1] / total[0]:8.0f}")


if __name__ == "__main__":
    main()
