"""exp01: what the paper claims of its tuned models, as rows beside ours, and the statistics that give them.

exp01_finetune_vit.py measures the agreement with fixations, exp01_benchmarks.py the recognition, and
exp02_resnet.py has the same rows of its ResNet. A row is its name, what the paper says, its unit, and a
function of the arrays that were measured, which gives None for what was not.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy import stats

from common import bf01_jzs, bf01_unit_information, bootstrap_ci, mcnemar, paired_t
from results import Claim, difference, estimate

# -------------------------------------------------------------------------------- constants

# Shapes: n images or pictures, M models, V views of a picture (the corruptions of ImageNet-C, else one).
NAMES = {"cc": "CC", "nss": "NSS", "nss_counts": "NSS of every fixation", "auc": "AUC", "kl": "KL",
         "kl_loss_eps": "KL with eps 1e-10", "sim": "SIM", "sauc": "shuffled AUC", "gain": "information gain"}
UNITS = {"kl": "nats", "kl_loss_eps": "nats", "gain": "bits a fixation"}
CONVENTIONS = {  # of the metrics, for results.json
    "nss": "each fixated pixel once", "nss_counts": "each pixel as often as it was fixated",
    "auc": "Judd, each fixated pixel once, no jitter", "kl": "KL(human || model) in nats, eps 2^-52",
    "kl_loss_eps": "the same with the loss's eps, 1e-10",
    "sauc": "against all other images' fixations, every fixation, ties half",
    "gain": "bits a fixation over the centre prior, eps 1e-6"}
PRIORS = {"centre": "a centre Gaussian", "others": "the other images' fixations"}  # maps that see no image
BEYOND = ("sauc", "gain")  # metrics of what goes beyond the centre bias
FIVE = ("cc", "nss", "auc", "kl", "sim")  # the paper's metrics, in its figures and comparisons
BENCHMARKS = {"imagenet": "ImageNet", "imagenet_c": "ImageNet-C", "objectnet": "ObjectNet"}
PAPER_BF01 = {"imagenet": 222., "imagenet_c": 242.8, "objectnet": 89.}  # the paper does not say of which form


# -------------------------------------------------------------------------------- agreement with fixations

def scores(arrays: dict, metric: str) -> dict[str, np.ndarray]:
    """{model: its value of every image, (n,)}."""
    return dict(zip(arrays["models"].tolist(), arrays[metric].T))


def by_image(arrays: dict) -> dict[str, np.ndarray]:
    """Of the images with a consistency, (n,) each: consistency; CC of A, CC of B ...; gain B - A, gain B - C;
    headroom gain, the gain over A as a part of what A left open, (CC_B - CC_A) / (1 - CC_A)."""
    known = ~np.isnan(arrays["consistency"])
    cc_of = {k: v[known] for k, v in scores(arrays, "cc").items()}
    found = {"consistency": arrays["consistency"][known]} | {f"CC of {k}": v for k, v in cc_of.items()}
    if "B" in cc_of:
        found |= {f"gain B - {k}": cc_of["B"] - v for k, v in cc_of.items() if k != "B"}
        found["headroom gain"] = found["gain B - A"] / (1 - cc_of["A"] + 1e-8)
    return found


def quarters(consistency: np.ndarray) -> list[np.ndarray]:
    """Indices of the images in each quartile of consistency, lowest first."""
    return np.array_split(np.argsort(consistency, kind="stable"), 4)


def alignment_tests(arrays: dict) -> list[dict]:
    """For results.json: mean, SD and SEM of every metric; paired t tests of the models; Pearson's r of
    consistency with every model's CC and with the gains; their means by quartile of consistency."""
    tests = []
    for metric in NAMES:
        of = scores(arrays, metric)
        for k, v in of.items():
            tests.append(dict(test="mean", metric=metric, model=k, n=len(v), mean=v.mean(), sd=v.std(ddof=1),
                              sem=stats.sem(v)))
        for a, b in (("B", "A"), ("B", "C"), ("C", "A")):
            if a in of and b in of:
                tests.append(dict(test="paired t", metric=metric, pair=f"{a} - {b}", n=len(of[a]),
                                  **paired_t(of[a], of[b])))
    found = by_image(arrays)
    x = found["consistency"]
    if len(x) > 3:
        for y, v in list(found.items())[1:]:
            r = stats.pearsonr(x, v)
            tests.append(dict(test="Pearson r", x="consistency", y=y, n=len(x), r=r.statistic, p=r.pvalue,
                              ci=tuple(r.confidence_interval())))
        for q, quarter in enumerate(quarters(x), 1):
            means = {y: v[quarter].mean() for y, v in found.items()}
            tests.append(dict(test="quartile of consistency", quartile=q, n=len(quarter)) | means)
    return tests


def mean_score(arrays: dict, metric: str, model: str) -> dict | None:
    values = scores(arrays, metric).get(model)
    return None if values is None else estimate(values)


def images_gaining(arrays: dict) -> dict | None:
    """Share of images on which B's CC is above A's, in %."""
    values = scores(arrays, "cc")
    return estimate(100. * (values["B"] > values["A"])) if "B" in values else None


def categories_gaining(arrays: dict) -> dict | None:
    """In how many COCO categories B's mean CC is above A's."""
    values = scores(arrays, "category_cc")  # {} without categories
    if "B" not in values:
        return None
    n = len(values["B"])
    return dict(ours=f"{(values['B'] > values['A']).sum()} of {n}", n=n)


def mean_of(arrays: dict, key: str, quartile: int | None = None) -> dict | None:
    """Mean of a value of by_image, over all images or a quartile of consistency (1 to 4, 1 the lowest)."""
    found = by_image(arrays)
    if len(found["consistency"]) < 4 or key not in found:
        return None
    some = slice(None) if quartile is None else quarters(found["consistency"])[quartile - 1]
    return estimate(found[key][some])


def gain_and_consistency(arrays: dict) -> dict | None:
    """Pearson's r of B's gain over A with the observers' consistency."""
    for test in alignment_tests(arrays):
        if test["test"] == "Pearson r" and test["y"] == "gain B - A":
            return dict(ours=test["r"], ci=test["ci"], n=test["n"])
    return None


def comparisons(arrays: dict, metrics: Sequence[str] = FIVE) -> list[Claim]:
    """B is better than A and than C on all five metrics, each p < .001 (Saliency Alignment): the mean
    difference, with t, Cohen's d and p in the column of the unit. Lower KL is better."""
    rows = []
    for test in alignment_tests(arrays):
        if test["test"] != "paired t" or test["metric"] not in metrics or test["pair"] == "C - A":
            continue
        better = "< 0, p < .001" if test["metric"] == "kl" else "> 0, p < .001"
        p = "p < .001" if test["p"] < .001 else f"p = {test['p']:.3f}"
        found = dict(ours=test["mean"], ci=test["ci"], n=test["n"], p=test["p"])
        rows.append(Claim(f"{NAMES[test['metric']]}, {test['pair']}", better if metrics is FIVE else None,
                          f"t {test['t']:.1f}, d {test['dz']:.2f}, {p}", lambda arrays, found=found: found))
    return rows


SCORES = [  # Saliency Alignment
    *[Claim(f"{name}, {model}", None, UNITS.get(metric, ""), partial(mean_score, metric=metric, model=model))
      for metric, name in NAMES.items() if metric not in BEYOND for model in "ABC"],
    Claim("images with a gain in CC", 100., "%", images_gaining),
    Claim("COCO categories with a gain in CC", "all", "", categories_gaining)]
CONSISTENCY = [
    Claim("inter-observer consistency", None, "", partial(mean_of, key="consistency")),
    Claim("r(gain, consistency)", -.55, "", gain_and_consistency),
    Claim("headroom gain", None, "", partial(mean_of, key="headroom gain")),
    *[Claim(f"headroom gain, quartile {q} of consistency", "> 0", "",
            partial(mean_of, key="headroom gain", quartile=q)) for q in (1, 2, 3, 4)]]
CENTRE = [  # the centre bias: no number of the paper's
    Claim(f"{name}, {source}", None, UNITS.get(metric, ""), partial(mean_score, metric=metric, model=source))
    for metric, name in NAMES.items() for source in (*"ABC", *PRIORS) if metric in BEYOND or source in PRIORS]


# -------------------------------------------------------------------------------- recognition

def correct(arrays: dict, benchmark: str) -> dict[str, np.ndarray]:
    """{model: 1. where its answer is right, else 0., (n, V)}; {} if the benchmark was not run."""
    if f"{benchmark}_correct" not in arrays:
        return {}
    right = np.moveaxis(arrays[f"{benchmark}_correct"], -1, 0).astype(float)  # (M, n, V)
    return dict(zip(arrays["benchmark_models"].tolist(), right))


def parity(arrays: dict) -> list[dict]:
    """For results.json, B and C against A on every benchmark: paired t test, McNemar's test, Bayes factors
    for no difference. All answers count as independent, as in the paper, also the views of one picture."""
    tests = []
    for benchmark, name in BENCHMARKS.items():
        right = {k: v.ravel() for k, v in correct(arrays, benchmark).items()}
        for k in [k for k in "BC" if k in right]:
            n, test = len(right[k]), paired_t(right[k], right["A"])
            log_bf01 = {"unit information": bf01_unit_information(test["t"], n, log=True),
                        "JZS, r = 1": bf01_jzs(test["t"], n, 1., log=True),
                        "JZS, r = 0.707": bf01_jzs(test["t"], n, .5**.5, log=True)}
            tests.append(test | dict(benchmark=name, pair=f"{k} - A", n=n, log_bf01=log_bf01,
                                     mcnemar=mcnemar(right[k], right["A"])))
    return tests


def top1(arrays: dict, benchmark: str, model: str) -> dict | None:
    """Accuracy in %; its interval is over pictures, however many views of each there are."""
    right = correct(arrays, benchmark).get(model)
    if right is None:
        return None
    return dict(ours=100 * right.mean(), ci=bootstrap_ci(100 * right.mean(1), n_boot=2000), n=right.size)


def gap(arrays: dict, benchmark: str) -> dict | None:
    """Accuracy of B minus A's in points; McNemar's interval, over pictures of several views a bootstrap."""
    right = correct(arrays, benchmark)
    if "B" not in right:
        return None
    found = difference(right["B"].ravel(), right["A"].ravel(), 100.)
    if benchmark == "imagenet_c":
        found["ci"] = bootstrap_ci(100 * (right["B"] - right["A"]).mean(1), n_boot=2000)
    return found


def evidence(arrays: dict, benchmark: str, form: str) -> dict | None:
    """The Bayes factor for no difference between B and A."""
    for test in parity(arrays):
        if (test["benchmark"], test["pair"]) == (BENCHMARKS[benchmark], "B - A"):
            return dict(ours=math.exp(test["log_bf01"][form]), n=test["n"])
    return None


def rows_of(benchmark: str) -> list[Claim]:
    name, bf01 = BENCHMARKS[benchmark], PAPER_BF01[benchmark]
    return [
        *[Claim(f"{name} top-1, {model}", None, "%", partial(top1, benchmark=benchmark, model=model))
          for model in "ABC"],
        Claim(f"{name}, B - A", None, "points", partial(gap, benchmark=benchmark)),
        *[Claim(f"BF01 {name} ({form})", bf01, "", partial(evidence, benchmark=benchmark, form=form))
          for form in ("unit information", "JZS, r = 1")]]


RECOGNITION = [row for benchmark in BENCHMARKS for row in rows_of(benchmark)]  # Benchmark Evaluation


def claims(arrays: dict) -> list[Claim]:
    """Every number of the paper's sections Saliency Alignment and Benchmark Evaluation; the centre bias."""
    return [*SCORES, *comparisons(arrays), *CONSISTENCY, *CENTRE, *comparisons(arrays, BEYOND), *RECOGNITION]
