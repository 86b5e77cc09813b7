"""exp04: what the paper claims of its saccades, as rows beside ours, and the statistics that give them.

exp04_saccades.py measures the arrays and prints the rows; exp04_saliency.py has rows of its own. A row is its
name, what the paper says, its unit, and a function of what was measured.
"""
from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from results import Claim, difference, estimate, evaluate

# -------------------------------------------------------------------------------- constants

# Shapes: n images of the run, C conditions.
SACCADES = 10  # an image (Methods, Classification)
STEPS = np.arange(1, SACCADES + 1)
TOLD = (1, 2, 3, 5, 10)  # saccades of the tables
KINDS = ("attention", "random")  # what guides the saccades
GRIDS = ("full", "12x12", "10x10", "8x8")
OFFICIAL = 77.0  # %, DINO ViT-S/16 with its published linear head on ImageNet (DINO's repository)
STOP_LOSS = 0.01  # accuracy that early stopping may lose on the half that chooses its threshold
FULL_IMAGE = ("label", "pred_full", "correct_full", "certainty_full", "n_tokens", "entropy")  # arrays (n,)
PER_SACCADE = ("correct", "tokens", "certainty", "pred", "row", "col")  # arrays (n, C, 10)
ON_SCREEN = (  # lines of the printed table; results.json holds all
    r"accuracy, full image|fovea \d+: (attention - random, saccade (1|10)|gap .*|accuracy, saccade 10 - .*"
    r"|correct (in full|at least).*|visible.*|certainty, attention - (random|full image))"
    r"|fovea 5 - 3.*|accuracy, (block0[01]|10x10).*")
CHANGES = ("correct to wrong", "back to correct", "still wrong after a change", "still correct after one")


# -------------------------------------------------------------------------------- statistics

def conditions(foveas: Sequence[int], depth: int, sweep: bool) -> list[str]:
    """Names along the second axis of the arrays, C."""
    names = [f"{name} fovea{f}" for name in KINDS for f in foveas]
    if sweep:
        names += [f"block{b:02d} {grid}" for grid in GRIDS for b in range(depth)]
    return names


def condition(arrays: dict, name: str) -> dict[str, np.ndarray]:
    """What one condition gave: FULL_IMAGE (n,) and PER_SACCADE (n, 10), correct 0 or 1, certainty in %, and
    accuracy (n,)  share of the saccades that are correct
    visible (n, 10)  % of the image
    ever, first (n,)  whether correct at some saccade, and at which first; 11 = never
    later (n,)  correct on the full image, and first correct after the first saccade
    chance  accuracy of guesses
    changed (n, 10)  from correct to wrong or back; and the sets of `transitions`"""
    c = list(arrays["conditions"]).index(name)
    t = {key: arrays[key].astype(float) for key in FULL_IMAGE}
    t |= {key: arrays[key][:, c].astype(float) for key in PER_SACCADE}
    t |= {key: 100 * t[key] for key in ("certainty", "certainty_full")}
    t["chance"] = 1 / len(arrays.get("classes", np.unique(t["label"])))
    ever = t["correct"].any(1)
    first = np.where(ever, t["correct"].argmax(1) + 1, SACCADES + 1)
    sets = transitions(t["correct"])
    return t | sets | dict(
        accuracy=t["correct"].mean(1), visible=100 * t["tokens"] / t["n_tokens"][:, None],
        ever=ever, first=first, later=(t["correct_full"] == 1) & ever & (first > 1),
        changed=sets["correct to wrong"] | sets["back to correct"])


def image_rows(arrays: dict, n_conditions: int | None = None) -> Iterator[dict]:
    """Rows of per_image.csv, one for an image and condition (what guides, with which fovea). Of the full
    image: label, pred_full, correct_full, certainty_full (0 to 1), n_tokens, entropy of the attention map
    (bits). After saccade s: correct_s, tokens_s (visible), certainty_s, pred_s, row_s and col_s (fixated)."""
    for i, image in enumerate(arrays["image"]):
        full = {key: round(arrays[key][i].item(), 6) for key in FULL_IMAGE}
        for c, name in enumerate(arrays["conditions"][:n_conditions]):
            row = dict(image=image, condition=name) | full
            for key in PER_SACCADE:
                row |= {f"{key}_{s}": round(arrays[key][i, c, s - 1].item(), 6) for s in STEPS}
            yield row


def sweep_rows(arrays: dict) -> Iterator[dict]:
    """Rows of sweep.csv, a condition and saccade each: means over the images."""
    mean = {key: arrays[key].mean(0, dtype=float).round(6) for key in ("correct", "tokens", "certainty")}
    for c, name in enumerate(arrays["conditions"]):
        for s in STEPS:
            yield dict(condition=name, saccade=s) | {key: value[c, s - 1] for key, value in mean.items()}


def transitions(correct: np.ndarray) -> dict[str, np.ndarray]:
    """Whether an image changes from correct to wrong at a saccade, goes back to correct after such a change,
    or has had one and stays wrong or correct, (n, 10) each. A first success is no transition."""
    now = correct.astype(bool)
    before = np.pad(now, ((0, 0), (1, 0)))[:, :-1]
    lost = before & ~now
    had = np.pad(np.cumsum(lost, 1) > 0, ((0, 0), (1, 0)))[:, :-1]  # a change to wrong at an earlier saccade
    return dict(zip(CHANGES, (lost, had & ~before & now, had & ~before & ~now, had & before & now)))


def stopping(t: dict, seed: int) -> tuple[dict, dict]:
    """Early stopping by certainty. The threshold is chosen on a random half of the images: the one with the
    fewest tokens among those that lose at most STOP_LOSS of accuracy against ten saccades.

    (stopped, last): {correct, tokens} of the other half, when stopped early and at saccade 10."""
    n = len(t["certainty"])
    half = np.random.default_rng([seed, 4]).permutation(n) < n // 2
    thresholds = np.append(np.quantile(t["certainty"][half], np.linspace(0, 1, 200)), np.inf)  # inf: never
    reached = t["certainty"] >= thresholds[:, None, None]  # (thresholds, n, 10)
    stop = np.where(reached.any(2), reached.argmax(2), SACCADES - 1)  # (thresholds, n), index of the saccade
    stopped = {key: t[key][np.arange(n), stop] for key in ("correct", "tokens")}  # (thresholds, n)
    enough = stopped["correct"][:, half].mean(1) >= t["correct"][half, -1].mean() - STOP_LOSS
    best = np.where(enough, stopped["tokens"][:, half].mean(1), np.inf).argmin()
    return ({key: values[best, ~half] for key, values in stopped.items()},
            {key: t[key][~half, -1] for key in stopped})


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval (low, high) of the mean over axis 0: Wilson's of answers 0 and 1, else +- 1.96 SEM."""
    n, mean = len(values), values.mean(0)
    if not np.isin(values, (0, 1)).all():
        half = 1.96 * values.std(0, ddof=1) / math.sqrt(n)
        return mean - half, mean + half
    z2 = 1.96**2 / n
    centre = (mean + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * mean * (1 - mean) + z2**2 / 4) / (1 + z2)
    return centre - half, centre + half


def share(right: np.ndarray, among: np.ndarray | bool = True) -> dict | None:
    """% of some images, answers 0 or 1, with Wilson's interval; None without any."""
    kept = right[np.full(len(right), True) & among].astype(float)
    if len(kept) == 0:
        return None
    low, high = interval(kept)
    return dict(ours=100 * float(kept.mean()), ci=(100 * float(low), 100 * float(high)), n=len(kept))


def less(a: np.ndarray, b: np.ndarray, among: np.ndarray) -> dict | None:
    """Mean of a - b over some of the images; None for fewer than two."""
    return difference(a[among], b[among]) if among.sum() > 1 else None


def slope(t: dict, key: str, among: np.ndarray | bool = True) -> dict | None:
    """Slope of a column over the saccade of first success, with 95 % interval, among the images that were
    correct at some saccade; None if they are too few or alike."""
    keep = t["ever"] & among
    if keep.sum() < 3 or np.ptp(t["first"][keep]) == 0:
        return None
    fit = stats.linregress(t["first"][keep], t[key][keep])
    half = stats.t.ppf(.975, keep.sum() - 2) * fit.stderr
    return dict(ours=float(fit.slope), ci=(fit.slope - half, fit.slope + half), n=int(keep.sum()))


def lowest_entropy(t: dict) -> dict | None:
    """Of the maps of images never correct. The paper's 6.0 bits are of 196 tokens (at most 7.61 bits)."""
    failed = t["entropy"][~t["ever"]]
    if len(failed) == 0 or t["n_tokens"][0] != 196:
        return None
    return dict(ours=float(failed.min()), n=len(failed))


def at(values: np.ndarray, saccade: np.ndarray) -> np.ndarray:
    """Values (n, 10) at each image's saccade (n,), counted from 1; at 0 and 11 the first and the last."""
    place = np.clip(saccade - 1, 0, SACCADES - 1)
    return np.take_along_axis(values, place[:, None], 1)[:, 0]


# a, r: what attention and random gave with one fovea; t: both
FOVEA_CLAIMS = [
    *[Claim(f"accuracy, {name}, saccade {s}", None, "%",
            lambda *t, k=k, i=s - 1: share(t[k]["correct"][:, i]))
      for k, name in enumerate(KINDS) for s in TOLD],
    *[Claim(f"attention - random, saccade {s}", "> 0", "points",
            lambda a, r, i=s - 1: difference(a["correct"][:, i], r["correct"][:, i], 100)) for s in TOLD],
    Claim("gap at saccade 1 - at 10", "> 0", "points", lambda a, r: difference(
        a["correct"][:, 0] - r["correct"][:, 0], a["correct"][:, -1] - r["correct"][:, -1], 100)),
    Claim("attention - random, mean of all", "> 0", "points",
          lambda a, r: difference(a["accuracy"], r["accuracy"], 100)),
    *[Claim(f"saccade 10 - 1, {name}", "> 0", "points",
            lambda *t, k=k: difference(t[k]["correct"][:, -1], t[k]["correct"][:, 0], 100))
      for k, name in enumerate(KINDS)],
    Claim("gain to saccade 5 - from 5 to 10", "> 0", "points", lambda a, r: difference(
        a["correct"][:, 4] - a["correct"][:, 0], a["correct"][:, 9] - a["correct"][:, 4], 100)),
    Claim("accuracy, saccade 10 - full image", "< 0", "points",
          lambda a, r: difference(a["correct"][:, -1], a["correct_full"], 100)),
    Claim("correct in full: also with less than half seen", "> 50", "%", lambda a, r: share(
        at(a["correct"], (a["visible"] < 50).sum(1)), a["correct_full"] == 1)),
    Claim("visible, attention - random", "< 0", "% of image",
          lambda a, r: difference(a["visible"].mean(1), r["visible"].mean(1))),
    Claim("correct at least once - full", "> 0", "points",
          lambda a, r: difference(a["ever"], a["correct_full"], 100)),
    Claim("changes of the answer, saccades 2 to 5 - 6 to 10", "> 0", "an image", lambda a, r: difference(
        a["changed"][:, 1:5].sum(1), a["changed"][:, 5:].sum(1))),
    Claim("of those changed to wrong, correct again", None, "%", lambda a, r: share(
        a["back to correct"].any(1), a["correct to wrong"].any(1))),
    *[Claim(f"{name}, saccade 10 - 5", paper, "points",
            lambda a, r, name=name: difference(a[name][:, 9], a[name][:, 4], 100))
      for name, paper in (("still wrong after a change", "< 0"), ("still correct after one", "> 0"))],
    Claim("correct at most saccades", "> 50", "%", lambda a, r: share(a["accuracy"] > .5)),
    Claim("wrong in full: correct at most saccades", "< 50", "%",
          lambda a, r: share(a["accuracy"] > .5, a["ever"] & (a["correct_full"] == 0))),
    # certainty: of images correct on the full image; the paper leaves out those never correct in saccades
    # from its sets, and does not say whether from its means: both
    Claim("certainty, attention - random", "> 0", "points", lambda a, r: less(
        a["certainty"].mean(1), r["certainty"].mean(1), (a["correct_full"] == 1) & a["ever"] & r["ever"])),
    Claim("certainty, attention - random, with never correct", "> 0", "points", lambda a, r: less(
        a["certainty"].mean(1), r["certainty"].mean(1), a["correct_full"] == 1)),
    Claim("certainty, attention - full image", "about 0", "points", lambda a, r: less(
        a["certainty"].mean(1), a["certainty_full"], (a["correct_full"] == 1) & a["ever"])),
    Claim("certainty, attention - full image, with never correct", "about 0", "points", lambda a, r: less(
        a["certainty"].mean(1), a["certainty_full"], a["correct_full"] == 1)),
    *[Claim(f"certainty, first correct - before, {name}", "> 0", "points", lambda *t, k=k: less(
        at(t[k]["certainty"], t[k]["first"]), at(t[k]["certainty"], t[k]["first"] - 1), t[k]["later"]))
      for k, name in enumerate(KINDS)],
    *[Claim(f"certainty, saccade 10 - first correct, {name}", "> 0", "points", lambda *t, k=k: less(
        t[k]["certainty"][:, 9], at(t[k]["certainty"], t[k]["first"]), t[k]["later"]))
      for k, name in enumerate(KINDS)],
    Claim("full-image certainty per saccade needed", "< 0", "points",
          lambda a, r: slope(a, "certainty_full", a["correct_full"] == 1)),
    Claim("entropy per saccade needed, attention", "> 0", "bits", lambda a, r: slope(a, "entropy")),
    Claim("lowest entropy, never correct, attention", "> 6.0", "bits", lambda a, r: lowest_entropy(a)),
    Claim("entropy per saccade needed, random", "< 0", "bits", lambda a, r: slope(r, "entropy")),
    Claim("lowest entropy, never correct, random", "< 6.0", "bits", lambda a, r: lowest_entropy(r))]
STOPPING_CLAIMS = [  # stopped, last: early stopping, and saccade 10 of the same images
    Claim("accuracy, stopped early - at saccade 10", None, "points",
          lambda stopped, last: difference(stopped["correct"], last["correct"], 100)),
    Claim("tokens when stopped early", None, "% of saccade 10",
          lambda stopped, last: estimate(100 * stopped["tokens"] / last["tokens"]))]
FIVE_AND_THREE = [  # a, b: attention with foveas 5 and 3
    Claim("fovea 5 - 3: accuracy, mean of all", "> 0", "points",
          lambda a, b: difference(a["accuracy"], b["accuracy"], 100)),
    Claim("fovea 5 - 3: correct at least once", "> 0", "points",
          lambda a, b: difference(a["ever"], b["ever"], 100)),
    Claim("fovea 5: accuracy, saccade 5 - full image", "about 0", "points",
          lambda a, b: difference(a["correct"][:, 4], a["correct_full"], 100))]


def sweep_claims(depth: int, random: str) -> list[Claim]:
    """Lines of --sweep. random: the condition of random maps with the same fovea."""
    def line(name: str, paper: str, a: list[str], b: list[str], key: str = "correct") -> Claim:
        def mean(arrays: dict, names: list[str]) -> np.ndarray:  # over conditions and saccades, (n,)
            return arrays[key][:, [list(arrays["conditions"]).index(name) for name in names]].mean((1, 2))
        unit, scale = ("points", 100) if key == "correct" else ("tokens", 1)
        return Claim(name, paper, unit, lambda arrays: difference(mean(arrays, a), mean(arrays, b), scale))

    full = [f"block{b:02d} full" for b in range(depth)]
    rows = [line("accuracy, block00 - random", "< 0", full[:1], [random]),
            line("accuracy, block01 - random", "> 0", full[1:2], [random]),
            line("accuracy, block03 - block02", "> 0", full[3:4], full[2:3]),
            line("accuracy, last block - block00", "> 0", full[-1:], full[:1]),
            line("visible, last block - block00", "about 0", full[-1:], full[:1], "tokens")]
    for grid, paper in zip(GRIDS[1:], ("< 0", "about 0", "< 0")):
        small = [f"block{b:02d} {grid}" for b in range(depth)]
        rows += [line(f"accuracy, {grid} maps - random", "> 0", small[-1:], [random]),
                 line(f"accuracy, {grid} maps - full maps", paper, small[-1:], full[-1:]),
                 line(f"visible, {grid} maps - full maps", "< 0", small[-1:], full[-1:], "tokens"),
                 line(f"accuracy, every block's {grid} maps - random", "> 0", small, [random]),
                 line(f"accuracy, every block's {grid} maps - full maps", "< 0", small, full)]
    return rows


def official(args: argparse.Namespace, labels: np.ndarray) -> float | None:
    """The published accuracy, if the paper's network, with its own weights and head, saw all of ImageNet."""
    own = args.weights or args.head or args.train_head
    return OFFICIAL if args.model == "dino_vits16" and not own and len(set(labels)) > 500 else None


def claims(arrays: dict, foveas: Sequence, sweep: bool, seed: int, paper: float | None = None) -> list[dict]:
    """The lines of the table. paper: accuracy on full images, see `official`."""
    print("computing tables", flush=True)
    rows = evaluate([Claim("accuracy, full image", paper, "%", share)], arrays["correct_full"])
    for f in foveas:
        a, r = condition(arrays, f"attention fovea{f}"), condition(arrays, f"random fovea{f}")
        rows += evaluate(FOVEA_CLAIMS, a, r, prefix=f"fovea {f}: ")
        rows += evaluate(STOPPING_CLAIMS, *stopping(a, seed), prefix=f"fovea {f}: ")
    if 3 in foveas and 5 in foveas:
        a, b = condition(arrays, "attention fovea5"), condition(arrays, "attention fovea3")
        rows += evaluate(FIVE_AND_THREE, a, b)
    if sweep:
        depth = sum(name.endswith("full") for name in arrays["conditions"])
        rows += evaluate(sweep_claims(depth, f"random fovea{foveas[0]}"), arrays)
    return rows


def print_accuracy(arrays: dict, foveas: Sequence[int]) -> None:
    """Accuracy at a glance: a line for each kind of saccades and fovea."""
    print(f"{'accuracy (%) at saccade':<24}" + "".join(f"{s:>7}" for s in TOLD) + "   full image")
    for f in foveas:
        for name in KINDS:
            t = condition(arrays, f"{name} fovea{f}")
            cells = [f"{100 * t['correct'][:, s - 1].mean():7.1f}" for s in TOLD]
            full = f"{100 * t['correct_full'].mean():13.1f}"
            print(f"{name + f', fovea {f}x{f}':<24}" + "".join(cells) + full)
