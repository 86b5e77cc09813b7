"""The sweep of exp06: 30 participants x 20 objects x 12 heads x 40 sigmas = 288,000 values a metric.

    python benchmarks/bench_kl_sweep.py [--quick]

Ours: exp06_gaze_objects.kl_sweep, all values. Theirs: a plain loop over the pairs, as one would write it
from SciPy (gaussian_filter), NumPy (KL), pysaliency (CC, SIM) and scikit-image (SSIM), timed on a hundredth
of the values. Both must find the same values (SSIM: other treatment of the border, not compared).
"""
from collections.abc import Iterator

import numpy as np
import torch
from bench import NO_PEER, Row, main, optional, take_turns
from scipy.ndimage import gaussian_filter

from exp06_gaze_objects import EPS, METRICS, kl_sweep

PEOPLE, OBJECTS, HEADS, SIGMAS = 30, 20, 12, np.arange(1, 41) / 10


def make_maps(people: int, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Random attention (O, H, h, w) as of a softmax, a dozen weighted fixations a person (P, O, h, w)."""
    rng = np.random.default_rng(0)
    n = grid[0] * grid[1]
    attn = torch.from_numpy(rng.normal(0, 2, (OBJECTS, HEADS, n))).softmax(-1).view(OBJECTS, HEADS, *grid)
    fix = np.zeros((people * OBJECTS, n))
    for row in fix:
        np.add.at(row, rng.integers(n, size=12), rng.gamma(6, .045, 12))
    return attn.float(), torch.from_numpy(fix).float().view(people, OBJECTS, *grid)


def loop_kl(p: np.ndarray, q: np.ndarray) -> float:
    p, q = p / p.sum(), q / q.sum()
    return float((q * np.log(EPS + q / (p + EPS))).sum())


def peers() -> dict:
    """A function of two maps for each metric; None where its package is not installed."""
    pysaliency, skimage = optional("pysaliency.metrics"), optional("skimage.metrics")

    def ssim(p: np.ndarray, q: np.ndarray) -> float:
        p, q = ((m - m.min()) / (m.max() - m.min()) for m in (p, q))
        return skimage.structural_similarity(p, q, data_range=1, gaussian_weights=True, sigma=1.5,
                                             use_sample_covariance=False)
    return {"kl": (loop_kl, "NumPy"), "cc": (pysaliency and pysaliency.CC, "pysaliency"),
            "sim": (pysaliency and pysaliency.SIM, "pysaliency"), "ssim": (skimage and ssim, "scikit-image")}


def sweep(metric: str, peer, people: int, grid: tuple[int, int], share: float,
          rounds: int) -> dict[str, float]:
    """Seconds of all values: ours, and the loop's scaled up from a share of the pairs."""
    attn, fix = make_maps(people, grid)
    n = people * OBJECTS * HEADS * len(SIGMAS)
    pairs = np.random.default_rng(1).choice(n, max(1, int(n * share)), replace=False)
    index = np.unravel_index(pairs, (people, OBJECTS, HEADS, len(SIGMAS)))
    found = {}

    def ours() -> None:
        found["ours"] = kl_sweep(attn, fix, SIGMAS, METRICS[metric])  # (P, O, H, S)

    def loop() -> None:
        found["loop"] = [peer(attn[o, h].numpy().astype(float), gaussian_filter(
            fix[p, o].numpy().astype(float), SIGMAS[s], mode="constant")) for p, o, h, s in zip(*index)]
    t = take_turns({"ours": ours} | ({"loop": loop} if peer else {}), rounds)
    if peer and metric != "ssim":
        assert np.allclose(found["loop"], found["ours"].numpy()[index], atol=1e-3), metric
    return {who: s * (n / len(pairs) if who == "loop" else 1) for who, s in t.items()}


def rows(quick: bool) -> Iterator[Row]:
    rounds, people, share = (1, 2, .002) if quick else (2, PEOPLE, .01)
    for side in (14, 30):
        for metric, (peer, package) in peers().items():
            t = sweep(metric, peer, people, (14, 14) if quick else (side, side), share, rounds)
            yield Row(f"exp06, sweep of {metric.upper()}, 288,000 values on {side}x{side} patches",
                      f"loop over SciPy, {package}", "s", t["ours"], t.get("loop"), f"{rounds} x 1", None,
                      "" if peer else NO_PEER)


if __name__ == "__main__":
    main(rows, __doc__)
