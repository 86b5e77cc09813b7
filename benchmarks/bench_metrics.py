"""Five metrics (CC, NSS, AUC-Judd, KL, SIM) of 224x224 maps: ours on a batch, pysaliency per image; and
inter-observer consistency of 60 observers: ours by the sum of their maps, a loop over the pairs of maps.

    python benchmarks/bench_metrics.py [--quick]

pysaliency is timed on the functions that its models call for one image, on maps already in memory.
"""
from collections.abc import Iterator

import numpy as np
import torch
from bench import NO_GPU, NO_PEER, Row, main, optional, take_turns

from common import (auc_judd, cc, density_map, fixation_counts, gaussian_blur, kld, nss, observer_consistency,
                    sim)

SIZE = 224, 224
AT_ONCE = 4  # maps that a CPU's cache holds


def make_batch(batch: int, n_fix: int) -> tuple:
    """Smooth random maps p, and n_fix fixations an image around the image's own centres of interest."""
    rng = np.random.default_rng(0)
    p = gaussian_blur(torch.from_numpy(rng.random((batch, *SIZE))), 8)
    centres = rng.uniform(30, 194, (batch, 12, 2))
    points = [rng.choice(c, n_fix) + rng.normal(0, 22, (n_fix, 2)) for c in centres]
    points = [yx.clip(0, 223).astype(int) for yx in points]
    q = torch.stack([density_map(yx[:, 0], yx[:, 1], SIZE, 15) for yx in points])
    return p, q, torch.stack([fixation_counts(yx[:, 0], yx[:, 1], SIZE) for yx in points]), points


def ours(p: torch.Tensor, q: torch.Tensor, fix: torch.Tensor) -> dict:
    def run(metric, human: torch.Tensor) -> torch.Tensor:
        n = AT_ONCE if p.device.type == "cpu" else len(p)
        return torch.cat([metric(a, b) for a, b in zip(p.split(n), human.split(n))])
    return {"CC": lambda: run(cc, q), "NSS": lambda: run(nss, fix), "AUC-Judd": lambda: run(auc_judd, fix),
            "KL": lambda: run(kld, q), "SIM": lambda: run(sim, q)}


def pysaliency(p: torch.Tensor, q: torch.Tensor, points: list) -> dict:
    """The same of pysaliency, image by image; {} where it is not installed."""
    models, peer, roc = (optional(f"pysaliency.{name}") for name in ("saliency_map_models", "metrics", "roc"))
    if models is None:
        return {}
    maps = list(zip(p.numpy(), q.numpy(), points))

    def auc(m: np.ndarray, yx: np.ndarray) -> float:  # as SaliencyMapModel.AUC_per_image(judd) computes it
        y, x = yx.T
        return roc.general_roc(m[y, x], models._get_unfixated_values(m, y, x), judd=1)[0]
    return {"CC": lambda: [peer.CC(a, b) for a, b, _ in maps],
            "NSS": lambda: [peer.NSS(a, yx[:, 1], yx[:, 0]).mean() for a, _, yx in maps],
            "AUC-Judd": lambda: [auc(a, yx) for a, _, yx in maps],
            "KL": lambda: [peer.MIT_KLDiv(a, b) for a, b, _ in maps],
            "SIM": lambda: [peer.SIM(a, b) for a, b, _ in maps]}


def five(rounds: int, batch: int, n_fix: int, target: float) -> Iterator[Row]:
    """All five together, each alone, and all five on a GPU."""
    p, q, fix, points = make_batch(batch, n_fix)
    peer, gpu = pysaliency(p, q, points), torch.cuda.is_available()
    both = {f"our {k}": f for k, f in ours(p, q, fix).items()} | {f"their {k}": f for k, f in peer.items()}
    if gpu:
        on = ours(*(m.float().cuda() for m in (p, q, fix)))
        both["GPU"] = lambda: [f() for f in on.values()]
    t = {k: s / batch * 1e3 for k, s in take_turns(both, rounds, gpu=["GPU"]).items()}
    n, note, what = f"{rounds} x {batch}", "" if peer else NO_PEER, f"224x224, {n_fix:,} fixations"
    total = [sum(s for k, s in t.items() if k.startswith(who)) for who in ("our ", "their ")]
    total[1] = total[1] if peer else None
    yield Row(f"five metrics, {what}", "pysaliency", "ms/image", *total, n, target, note)
    for name in ours(p, q, fix):
        yield Row(f"{name}, {what}", "pysaliency", "ms/image", t[f"our {name}"], t.get(f"their {name}"), n,
                  note=note)
    yield Row(f"five metrics, {what}, GPU", "pysaliency, one CPU thread", "ms/image", t.get("GPU"), total[1],
              n if gpu else "", 50, note if gpu else NO_GPU)


def pairwise_loop(observers: list) -> float:
    """Mean correlation of the observers' maps, pair by pair."""
    maps = [density_map(rows, cols, SIZE, 15).numpy().ravel() for rows, cols in observers]
    return float(np.mean([np.corrcoef(a, b)[0, 1] for i, a in enumerate(maps) for b in maps[:i]]))


def rows(quick: bool) -> Iterator[Row]:
    rounds, batch, observers = (1, 2, 3) if quick else (21, 16, 60)
    for n_fix, target in ((60, 1), (7400, 4)):  # as a laboratory records; as SALICON's workers left
        yield from five(rounds, batch, n_fix, target)
    fixations = np.random.default_rng(1).integers(0, 224, (observers, 2, 123))  # samples each, as SALICON's
    t = take_turns({"ours": lambda: observer_consistency(fixations, SIZE, 15.),
                    "loop": lambda: pairwise_loop(fixations)}, max(1, rounds // 4))
    yield Row("consistency of 60 observers, 224x224", "loop over pairs of maps", "ms/image", t["ours"] * 1e3,
              t["loop"] * 1e3, f"{max(1, rounds // 4)} x 1")


if __name__ == "__main__":
    main(rows, __doc__)
