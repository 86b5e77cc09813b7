"""exp05's claims: what the paper says of heads and viewers, and the tests and numbers that answer it.

exp05_gaze_video.py measures the distances and prints the rows. A row is its name, what the paper says, its
unit, and a function of what was measured.
"""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy import stats

import exp05_scaling as scaling
from results import Claim, estimate

# -------------------------------------------------------------------------------- constants

# Shapes: R everyone who looks (heads, GBVS, viewers).
ADULT = "viewer adult"  # the group that the others, heads and models are tested against
BEST = 5  # heads of a model that are compared with viewers
OFFICIAL = ("dino_vits16", "deit_small_patch16_224")
# The paper's MDS distances. N2010, px: medians of the five best heads of six models, best head of OFFICIAL,
# GBVS. Genres of CW2019, in median distances between viewers: the same, and the median viewer.
PAPER = {
    "N2010": {"dino4": 94.2, "dino8": 74.8, "dino12": 62.6, "sl4": 166.5, "sl8": 155.7, "sl12": 147.6,
              "dino_vits16": 53.1, "deit_small_patch16_224": 88.2, "GBVS": 137.0, "GBVS intensity": 108.2,
              "GBVS orientation": 101.9, "GBVS contrast": 150.2, "GBVS flicker": 162.6, "GBVS motion": 154.9,
              "GBVS colour": 134.3},
    "drama": dict(viewer=.68, dino4=1.30, dino8=.94, dino12=.92, sl4=2.54, sl8=2.20, sl12=1.94,
                  dino_vits16=.97, GBVS=1.63),
    "animation": dict(viewer=.70, dino4=1.40, dino8=1.14, dino12=1.13, sl4=2.19, sl8=1.95, sl12=1.95,
                      dino_vits16=1.04, GBVS=1.40),
    "nature": dict(viewer=.72, dino4=1.22, dino8=1.11, dino12=1.08, sl4=2.12, sl8=1.83, sl12=1.82,
                   dino_vits16=1.11, GBVS=1.18)}
# r, over the heads of a kind, between the distances on N2010 and in a genre of CW2019
PAPER_R = {"drama": dict(dino4=.93, dino8=.96, dino12=.94, sl4=.91, sl8=.94, sl12=.93),
           "animation": dict(dino4=.90, dino8=.95, dino12=.90, sl4=.92, sl8=.91, sl12=.88),
           "nature": dict(dino4=.91, dino8=.91, dino12=.89, sl4=.89, sl8=.84, sl12=.79)}
# p against adults on N2010, times the ten groups tested; dino8's Cohen's d; p of DINO against supervised
PAPER_P = {"viewer child": .0039, "viewer adult ASD": .00051, "viewer child ASD": 6.2e-10, "dino4": 2.1e-9,
           "dino8": 4.1e-5, "dino12": .100, "sl4": 1.4e-15, "sl8": 1.0e-14, "sl12": 5.3e-13, "GBVS": 3.7e-6}
PAPER_D, PAPER_PAIRS = 1.43, "<= 8.2e-07"
PAPER_TESTS = {"n2010": 10, "cw2019": 7}  # groups that the paper tests at a time: its factors of Bonferroni


# -------------------------------------------------------------------------------- statistics

def best_heads(distance: np.ndarray, model: np.ndarray) -> np.ndarray:
    """The BEST smallest distances of every model, joined; both (heads,)."""
    return np.concatenate([np.sort(distance[model == m])[:BEST] for m in dict.fromkeys(model.tolist())])


def compare_kinds(where: str, kind: np.ndarray, model: np.ndarray, distance: np.ndarray, layout: str = "any"
                  ) -> list[dict]:
    """The paper's tests in one set of clips: every condition and group of viewers against adults (all viewers
    if there are none), DINO against supervised at each depth. Units: the five best heads of every model
    together (the paper's), then the model (median of its five), from three models on. Bonferroni for the
    tests at a time; on the paper's data (layout) for its PAPER_TESTS at least, to hold p against its own."""
    there = np.isfinite(distance)
    kind, model, distance = kind[there], model[there], distance[there]
    of = {k: distance[kind == k] for k in dict.fromkeys(kind.tolist())}
    people = {k: v for k, v in of.items() if k.startswith("viewer")}
    name, adults = ADULT, people.pop(ADULT, None)
    if adults is None:  # the groups of viewers are part of all
        name, adults, people = "all viewers", np.concatenate(list(people.values())), {}
    heads, medians = dict(people), {}
    for k in dict.fromkeys(kind[model != ""].tolist()):
        runs = [np.sort(distance[model == m])[:BEST] for m in dict.fromkeys(model[kind == k].tolist())]
        heads[k], medians[k] = np.concatenate(runs), [np.median(run) for run in runs]
    if "GBVS" in of:
        heads["GBVS"] = of["GBVS"]
    tests = []
    for unit, least, values in (("heads", 2, heads), ("models", 3, medians)):
        values = {k: v for k, v in values.items() if len(v) >= least}
        n_tests = max(len(values), PAPER_TESTS.get(layout, 0))
        if len(adults) > 1:
            tests += [scaling.compare(f"{where}, {unit}: {k} vs {name}", v, adults, n_tests)
                      for k, v in values.items()]
        for k, v in values.items():
            supervised = k.replace("dino", "sl")
            if supervised != k and supervised in values:
                tests.append(scaling.compare(f"{where}, {unit}: {k} vs {supervised}", v, values[supervised]))
    return tests


def set_correlations(sets: Sequence[str], table: dict[str, np.ndarray], distance: np.ndarray) -> list[dict]:
    """Pearson r, over the heads of a kind (method and depth), between the MDS distances in every two sets of
    clips; distance (sets, R)."""
    kind, found = table["kind"], []
    for k in dict.fromkeys(kind[table["model"] != ""].tolist()):
        for (a, x), (b, y) in itertools.combinations(zip(sets, distance), 2):
            both = (kind == k) & np.isfinite(x) & np.isfinite(y)
            if both.sum() > 2:
                r, p = stats.pearsonr(x[both], y[both])
                found.append(dict(name=f"{k}: {a} and {b}", r=float(r), p=float(p), n=int(both.sum())))
    return found


def nearness(who: str, place: str, arrays: dict, tests: Sequence[dict]) -> dict | None:
    """Distance in a set of clips: of the best head of an official model, GBVS with all channels or one; the
    median of the best heads of other kinds, or of the viewers of a group."""
    distance = arrays["distance"][arrays["sets"].index(place)]
    names = arrays["condition" if who.startswith("GBVS") else "kind"]
    mine = (names == who) & np.isfinite(distance)
    distance, model = distance[mine], arrays["model"][mine]
    if len(distance) == 0:  # such as flicker in one frame
        return None
    if who in OFFICIAL or who.startswith("GBVS"):
        return dict(ours=float(distance.min()), n=len(distance))
    return estimate(distance if who.startswith("viewer") else best_heads(distance, model), np.median)


def reported(name: str, key: str, arrays: dict, tests: Sequence[dict]) -> dict | None:
    """A number of the test or correlation of this name; n of all its groups together."""
    for test in tests:
        if test["name"] == name and test[key] is not None:
            return dict(ours=test[key], n=int(np.sum(test["n"])))
    return None


def title(who: str) -> str:
    """Name of a row of distances."""
    if who == "GBVS":
        return "GBVS, all channels"
    if who in OFFICIAL:
        return f"{who}, best head"
    return who if who.startswith(("GBVS", "viewer")) else f"{who}, {BEST} best heads"


def claims(layout: str, kinds: Sequence[str], units: dict[str, str]) -> list[Claim]:
    """The table's rows; value(arrays, tests and correlations). units: of the sets of clips. CW2019: distances
    by genre; all other data: distances and tests over all clips."""
    rows, places = [], {"all": "N2010"}
    if layout == "cw2019":
        places = {genre: genre for genre in PAPER_R if genre in units} or {"all": ""}
    for place, data in places.items():
        paper, prefix = PAPER.get(data, {}), "" if place == "all" else f"{place}: "
        everyone = []
        for kind in kinds:  # of GBVS's channels those that the paper tells
            everyone += [who for who in paper if who.startswith("GBVS")] if kind == "GBVS" else [kind]
        rows += [Claim(prefix + title(who), paper.get(who), units[place], partial(nearness, who, place))
                 for who in everyone]
    if layout != "cw2019":
        rows += [Claim(f"{kind} vs {ADULT}", PAPER_P.get(kind), "p, Bonferroni",
                       partial(reported, f"all, heads: {kind} vs {ADULT}", "p_bonferroni")) for kind in kinds]
        rows.append(Claim(f"dino8 vs {ADULT}, Cohen's d", PAPER_D, "d",
                          partial(reported, f"all, heads: dino8 vs {ADULT}", "d")))
        rows += [Claim(f"dino{depth} vs sl{depth}", PAPER_PAIRS, "p",
                       partial(reported, f"all, heads: dino{depth} vs sl{depth}", "p"))
                 for depth in (4, 8, 12)]
    for genre, paper in PAPER_R.items():
        pair = f"{genre} and N2010: all" if layout == "cw2019" else f"all and CW2019: {genre}"
        rows += [Claim(f"{kind}: heads' distances on N2010 and {genre}", r, "r",
                       partial(reported, f"{kind}: {pair}", "r")) for kind, r in paper.items()]
    return rows


def missing_parts(layout: str, kinds: Sequence[str]) -> list[str]:
    """Parts of the study that were not run, and why."""
    parts = []
    if ADULT not in kinds and layout != "cw2019":  # there the paper, too, tests against all viewers
        parts.append("tests against the group adult: no such viewers; all instead")
    if not any(kind.startswith("dino") and kind.replace("dino", "sl") in kinds for kind in kinds):
        parts.append("DINO against supervised: needs dinoN and slN")
    return parts
