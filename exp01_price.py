"""exp01, the price of alignment: what a larger weight of the attention loss gains, and what it costs.

The tuning paper weighs the two parts of its loss, mse + lambda kl, equally and searches for nothing better.
Here exp01_finetune_vit.py runs once for every lambda: gain in agreement with fixations over model A (CC, and
shuffled AUC, which no centre bias raises) against the change of ImageNet's top-1. B is tuned on where people
looked on each image; C, on other images' fixations, is the null: what it gains, no image has taught it.

Commands
    laptop, demo world    python exp01_price.py --limit 60
    one GPU               python exp01_price.py --lam .3 1 3 10 --salicon SALICON --imagenet IMAGENET

All arguments but --lam and --out are exp01_finetune_vit.py's. Its runs stand in the folder's lambda<L>/; the
same command goes on after an interruption, and a finished run is not repeated. Demo: see docs/exp01.md.
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import exp01_claims as study
import exp01_finetune_vit as exp01
import results
from common import InputError, rank_world
from data import data_places

LAMBDAS = (1., 10., 100.)  # the paper's, the demo's, ten times that
GAINS = {"cc": "CC", "sauc": "shuffled AUC"}


# -------------------------------------------------------------------------------- measure

def run_all(lambdas: Sequence[float], words: list[str], folder: Path) -> dict[float, dict]:
    """{lambda: arrays of exp01's run with it}, from the folder where it is finished."""
    found = {}
    for lam in lambdas:
        out = folder / f"lambda{lam:g}"
        print(f"\nlambda {lam:g}", flush=True)
        again = ["--resume"] if out.exists() else []
        exp01.main([*words, "--lam", str(lam), "--out", str(out), *again])
        found[lam] = results.read_arrays(out / "arrays.npz")
    return found


# -------------------------------------------------------------------------------- statistics

def gain(arrays: dict, metric: str, model: str) -> dict | None:
    """Mean gain of a model over A in a metric; None without the model: no step of its tuning lowered the
    loss, so that it is A."""
    of = study.scores(arrays, metric)
    return results.difference(of[model], of["A"]) if model in of else None


def cost(arrays: dict, model: str) -> dict | None:
    """ImageNet's top-1 of a model less A's, points."""
    right = study.correct(arrays, "imagenet")
    return results.difference(right[model][:, 0], right["A"][:, 0], 100.) if model in right else None


ROWS = [results.Claim(f"{label}, {model} - A", None, "", partial(gain, metric=metric, model=model))
        for metric, label in GAINS.items() for model in "BC"]  # of each lambda; the paper has none of them
ROWS += [results.Claim(f"ImageNet top-1, {model} - A", None, "points", partial(cost, model=model))
         for model in "BC"]


# -------------------------------------------------------------------------------- figures

def draw_price(runs: dict[float, dict], folder: Path) -> None:
    """fig_price: gain over A against the change of accuracy, 95 % intervals, a point a lambda."""
    fig, axes = results.figure_grid(1, len(GAINS), 4, 3.4)
    for ax, (metric, label) in zip(axes[0], GAINS.items()):
        for model in "BC":
            some = {lam: (cost(arrays, model), gain(arrays, metric, model)) for lam, arrays in runs.items()
                    if gain(arrays, metric, model) and cost(arrays, model)}
            for lam, (x, y) in some.items():
                ax.plot(x["ci"], [y["ours"]] * 2, color=results.PALETTE[model], linewidth=.8)
                ax.plot([x["ours"]] * 2, y["ci"], color=results.PALETTE[model], linewidth=.8)
                ax.annotate(f"{lam:g}", (x["ours"], y["ours"]), xytext=(4, 4), textcoords="offset points")
            ax.plot([x["ours"] for x, _ in some.values()], [y["ours"] for _, y in some.values()], "o-",
                    color=results.PALETTE[model], label=f"{model}, by lambda")
        ax.axhline(0, color="black", linestyle=":", linewidth=.8)
        ax.axvline(0, color="black", linestyle=":", linewidth=.8)
        ax.set(xlabel="ImageNet top-1, change (points)", ylabel=f"{label}, gain over A", title=label)
    results.legend_beside(axes[0, -1])
    results.save_figure(fig, folder / "fig_price")


# -------------------------------------------------------------------------------- main

def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Own arguments, and of_exp01, the words that are exp01's, but for --resume: see run_all."""
    parser = argparse.ArgumentParser(usage="python %(prog)s [options]", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--lam", type=results.at_least(0, float), nargs="+", default=LAMBDAS, metavar="L",
                        help="weights of the attention loss (default: 1 10 100)")
    parser.add_argument("--out", type=Path, help="folder (default: runs/exp01_price/<what was asked>)")
    args, words = parser.parse_known_args(argv)
    args.lam = sorted(set(args.lam))
    args.of_exp01 = [word for word in words if word != "--resume"]
    name = f"{exp01.parse(args.of_exp01).out.name}_lam{'-'.join(f'{lam:g}' for lam in args.lam)}"
    args.out = args.out or Path("runs") / "exp01_price" / name
    return args


def check(args: argparse.Namespace) -> None:
    """InputError: exp01's arguments name no images whose accuracy is the price, or models tuned before."""
    if args.model_b or args.model_c:
        raise InputError("--model-b, --model-c: were tuned with a lambda of their own; leave them out here.")
    if not data_places(args, tuple(exp01.FOLDERS), ("imagenet", "objectnet", "salicon"))["imagenet"]:
        raise InputError(f"--data {args.data}: no ImageNet there, whose accuracy is the price; give "
                         "--imagenet FOLDER, with val/.")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    folder = args.out
    check(exp01.parse(args.of_exp01))
    # exp01 with each lambda: A, B and C beside fixations, and on ImageNet.
    runs = run_all(args.lam, args.of_exp01, folder)
    if rank_world()[0] > 0:
        return
    # What B and C gained over A, and lost.
    rows = [row for lam, arrays in runs.items()
            for row in results.evaluate(ROWS, arrays, prefix=f"lambda {lam:g}: ")]
    of = [results.read_json(folder / f"lambda{lam:g}" / "results.json") for lam in args.lam]
    not_run = list(dict.fromkeys(text for one in of for text in one["not_run"]))
    found = of[0] | dict(study="exp01_price", headline=rows, tests=[], not_run=not_run, notes=[])
    results.write_json(found, folder / "results.json")
    results.print_table(found)
    draw_price(runs, folder)


if __name__ == "__main__":
    results.cli(main, "the same command")
