"""exp05: distances between gazes, their scaling, and the test that compares groups of them.

Shapes: T frames of a clip, S gaze samples, V viewers, C traces (heads and GBVS: who looks somewhere in every
frame), R = C + V. Gaze is x, y in px.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.optimize import minimize
from scipy.spatial.distance import pdist, squareform

from exp05_data import Watched

DIM = 32  # dimensions of the scaling for all numbers (authors' code), at most half the viewers; figures: 2
STARTS = 10  # of the least-squares placement (authors' MultiStart)


# -------------------------------------------------------------------------------- distances

def median_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Median over time of the px between the traces a (S, 2) and b (V, S, 2): (V,), NaN ignored."""
    d = np.hypot(*np.moveaxis(b - a, -1, 0))  # (V, S)
    seen = np.isfinite(d).any(1)
    return np.where(seen, np.nanmedian(np.where(seen[:, None], d, 0), 1), np.nan)


def nan_mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the arrays, NaN ignored; NaN where all are."""
    n = np.isfinite(arrays).sum(0)
    return np.where(n > 0, np.nansum(arrays, 0) / np.maximum(n, 1), np.nan)


def distances(w: Watched, traces: np.ndarray, viewers: Sequence[str]) -> np.ndarray:
    """Distances of a clip's traces (T, C, 2), then of all viewers, to all viewers: (C + V, V), px. NaN for
    viewers who did not see the clip."""
    d = np.full((traces.shape[1] + len(viewers), len(viewers)), np.nan)
    columns = [viewers.index(viewer) for viewer in w.viewers]
    rows = [*range(traces.shape[1]), *(traces.shape[1] + column for column in columns)]
    looks = [*traces[w.frame].swapaxes(0, 1), *w.gaze]  # (S, 2) each
    d[np.ix_(rows, columns)] = [median_distance(look, w.gaze) for look in looks]
    return d


def pooled(watched: Sequence[Watched], traces: Sequence[np.ndarray], viewers: Sequence[str]
           ) -> tuple[Watched, np.ndarray]:
    """All clips, and their traces, put together to one that all viewers saw."""
    gaze, frame, start = [], [], 0
    for w in watched:
        wide = np.full((len(viewers), len(w.frame), 2), np.nan)
        wide[[viewers.index(viewer) for viewer in w.viewers]] = w.gaze
        gaze.append(wide)
        frame.append(start + w.frame)
        start += len(w.times)
    times = np.concatenate([w.times for w in watched])
    whole = Watched(watched[0].clip, times, watched[0].size, list(viewers), np.concatenate(gaze, 1),
                    np.concatenate(frame))
    return whole, np.concatenate(traces)


def distance_sets(watched: Sequence[Watched], traces: Sequence[np.ndarray], by_clip: Sequence[np.ndarray],
                  viewers: Sequence[str], pool: bool) -> dict[str, tuple[str, np.ndarray]]:
    """{set of clips: (unit, distances (C + V, V))}: all, and every genre.

    "all" pooled (N2010): medians over the time of all clips, px. Else, and genres (CW2019): each clip's
    medians divided by their median over its pairs of viewers, then the mean over clips. by_clip: `distances`
    of every clip.
    """
    found, sets = [], {}
    for w, d in zip(watched, by_clip):
        pairs = d[-len(viewers):][np.triu_indices(len(viewers), 1)]
        if np.isfinite(pairs).any():
            found.append((w.clip.genre, d / np.nanmedian(pairs)))
    if pool:
        sets["all"] = "px", distances(*pooled(watched, traces, viewers), viewers)
    for genre in ([] if pool else [""]) + sorted({genre for genre, _ in found} - {""}):
        mine = nan_mean([d for g, d in found if genre in ("", g)])
        sets[genre or "all"] = "median between viewers", mine
    return sets


def fill(between: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which viewers met another (V,), distances between these): pairs that never met get the median of
    their column, averaged over both halves. between (V, V)."""
    d = np.where(np.eye(len(between), dtype=bool), np.nan, between)
    met = np.isfinite(d).any(1)
    d = d[np.ix_(met, met)]
    if met.any():
        d = np.where(np.isnan(d), np.nanmedian(d, 0), d) * (1 - np.eye(len(d)))
    return met, (d + d.T) / 2


# -------------------------------------------------------------------------------- scaling and tests

def classical(D: np.ndarray) -> np.ndarray:
    """Classical scaling: (n, n) distances -> (n, n) coordinates, the longest axis first."""
    centre = np.eye(len(D)) - 1 / len(D)
    value, vector = np.linalg.eigh(-.5 * centre @ D**2 @ centre)
    return (vector * np.sqrt(value.clip(min=0)))[:, ::-1]


def mds(D: np.ndarray, dim: int) -> np.ndarray:
    """Coordinates (n, dim) whose distances come nearest to D (n, n): least squared errors over the pairs.

    Metric stress from the classical solution, as MATLAB's mdscale does; by quasi-Newton steps, which reach
    the minimum that SMACOF creeps to. In two dimensions the classical start can miss the minimum by up to
    .4 %, so a random one is tried, too, and the better kept. Centred on the mean.
    """
    n, unit = len(D), D.max() or 1.
    wanted = D / unit
    starts = [classical(wanted)[:, :dim]]
    if dim == 2:
        starts.append(np.random.default_rng(0).normal(0, starts[0].std(), (n, dim)))

    def error(flat: np.ndarray) -> tuple[float, np.ndarray]:
        x = flat.reshape(n, dim)
        d = squareform(pdist(x))
        ratio = (d - wanted) / np.where(d > 0, d, 1)  # (n, n)
        slope = 2 * (ratio.sum(1, keepdims=True) * x - ratio @ x)
        return np.square(d - wanted).sum() / 2, slope.ravel()

    options = dict(maxiter=20000, maxfun=20000, ftol=1e-13, gtol=1e-8)
    found = [minimize(error, x.ravel(), jac=True, method="L-BFGS-B", options=options) for x in starts]
    best = found[-1] if found[-1].fun < (1 - 1e-6) * found[0].fun else found[0]  # if equal, the first's axes
    x = best.x.reshape(n, dim)
    return (x - x.mean(0)) * unit


def stress(D: np.ndarray, x: np.ndarray) -> float:
    """sqrt(sum of squared errors / sum of squared distances wanted), over pairs of points."""
    wanted = squareform(D, checks=False)
    return float(np.sqrt(np.square(pdist(x) - wanted).sum() / np.square(wanted).sum()))


def place(distances: np.ndarray, coords: np.ndarray, starts: int = STARTS, seed: int = 0) -> np.ndarray:
    """Points at given distances from fixed ones: distances (..., V), coords (V, dim) -> (..., dim).

    Least squares of |point - coords| - distance by Levenberg-Marquardt, the best of `starts` starts: the
    origin, then normal draws as wide as the coordinates. NaN distances do not count. All points take steps
    until the last one stands still, so place many in parts (`scaled`).
    """
    lead, dim = np.shape(distances)[:-1], coords.shape[1]
    wanted = np.reshape(distances, (-1, 1, len(coords))).astype(float)  # (b, 1, V)
    known, wanted = np.isfinite(wanted), np.nan_to_num(wanted)
    x = np.random.default_rng([seed, starts]).normal(0, np.sqrt(coords.var(0).mean()), (starts, dim))
    x[0] = 0
    x, damping = np.tile(x, (len(wanted), 1, 1)), np.ones((len(wanted), starts, 1, 1))

    def residuals(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = x[..., None, :] - coords  # (b, starts, V, dim)
        length = np.maximum(np.linalg.norm(away, axis=-1), 1e-12)
        return (length - wanted) * known, away / length[..., None] * known[..., None]

    r, jac = residuals(x)
    for _ in range(300):
        slope, square = jac.swapaxes(-1, -2) @ r[..., None], jac.swapaxes(-1, -2) @ jac
        step = np.linalg.solve(square + damping * np.eye(dim), slope)[..., 0]
        new_r, new_jac = residuals(x - step)
        cost, new_cost = np.square(r).sum(-1), np.square(new_r).sum(-1)  # (b, starts)
        better = (new_cost < cost)[..., None]
        x, r = np.where(better, x - step, x), np.where(better, new_r, r)
        jac = np.where(better[..., None], new_jac, jac)
        damping = np.where(better[..., None], damping / 5, damping * 4).clip(1e-9, 1e9)
        still = (cost - new_cost <= 1e-10 * cost) & (better[..., 0] | (damping[..., 0, 0] > 1e8))
        if (still | (cost < 1e-18)).all():
            break
    best = np.square(r).sum(-1).argmin(1)
    return x[np.arange(len(x)), best].reshape(*lead, dim)


def from_median(points: np.ndarray, viewers: np.ndarray) -> np.ndarray:
    """MDS distance: of points (..., dim) from the component-wise median of the viewers (V, dim)."""
    return np.linalg.norm(points - np.median(viewers, 0), axis=-1)


def scaled(d: np.ndarray) -> dict | None:
    """Viewers scaled by the distances between them, traces placed among them; d (C + V, V). MDS distances
    (R,) and 2-D coordinates (R, 2) of traces and viewers; NaN for viewers who met nobody. None: fewer than
    four viewers met."""
    n = len(d) - d.shape[1]
    met, between = fill(d[n:])
    if len(between) < 4:
        return None
    dim = min(DIM, (len(between) + 1) // 2)  # few viewers do not fix many dimensions
    rows = np.append(np.arange(n), n + np.flatnonzero(met))  # who has a place
    parts = np.array_split(d[:n, met], -(-n // 16))  # 16 traces at a time, which stay in a CPU's cache

    def among(people: np.ndarray) -> np.ndarray:  # the places of traces, then those of viewers
        return np.concatenate([*(place(part, people) for part in parts), people])

    people, distance, xy = mds(between, dim), np.full(len(d), np.nan), np.full((len(d), 2), np.nan)
    distance[rows] = from_median(among(people), people)
    xy[rows] = among(mds(between, 2))
    return dict(distance=distance, xy=xy, dim=dim, stress=stress(between, people), viewers=len(between))


def compare(name: str, a, b, n_tests: int = 1) -> dict:
    """Two-sided Mann-Whitney test of a against b, exact or, with ties, by the normal approximation corrected
    for them; Bonferroni for n_tests. Effect sizes: d, Cohen's with the pooled SD; delta, Cliff's: P(a > b) -
    P(a < b). NaN in a or b: p is NaN."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    tied = len(np.unique([*a, *b])) < len(a) + len(b)
    u, p = stats.mannwhitneyu(a, b, method="asymptotic" if tied else "exact")
    spread = np.sqrt((np.square(a - a.mean()).sum() + np.square(b - b.mean()).sum()) / (len(a) + len(b) - 2))
    return dict(name=name, n=[len(a), len(b)], medians=[float(np.median(a)), float(np.median(b))], U=float(u),
                p=float(p), p_bonferroni=float(np.minimum(1, p * n_tests)), n_tests=n_tests,
                d=float((a.mean() - b.mean()) / spread) if spread > 0 else None,
                delta=float(2 * u / (len(a) * len(b)) - 1))
