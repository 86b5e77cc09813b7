"""exp01, benchmarks: what tuning on human fixations costs in recognition.

Knights (2026), "Cognitive alignment at no cost: inducing human attention biases for interpretable Vision
Transformers", arXiv 2604.20027, Benchmark. Model A (frozen) and exp01_finetune_vit.py's B and C classify
ImageNet, ImageNet-C (15 corruptions at severity 5, the same for every model) and ObjectNet. Measured: top-1
accuracy, and the evidence that B is as accurate as A: paired t, three Bayes factors, McNemar.

Commands
    laptop, demo world    python exp01_benchmarks.py
    one GPU               python exp01_benchmarks.py --imagenet IMAGENET --objectnet OBJECTNET
                              --model-b tuned_B.pth --model-c tuned_C.pth
    eight GPUs            torchrun --nproc_per_node 8 exp01_benchmarks.py (the same)

The paper: BF01 222 (ImageNet), 242.8 (ImageNet-C), 89 (ObjectNet); it prints no accuracies. The demo: B - A
-0.8, -0.6, 0.0 points, BF01 2, 14, 10.
Departures: the corruptions are computed anew (the paper's package no longer imports); frost has drawn
textures unless --frost names the six original ones; ObjectNet's pictures lose their red frame of 2 px.
"""
from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision.transforms.functional as TF
from torch import Tensor, nn

import data
import results
from common import (InputError, Preprocess, ROOT, VIT_BENCHMARK, bf01_jzs, bf01_unit_information,
                    bootstrap_ci, generator, init_distributed, input_errors, load_tuned, load_vit, mcnemar,
                    paired_t, pick_device, rank_world)
from corruptions import CORRUPTIONS, corrupt

# -------------------------------------------------------------------------------- constants

PAPER = dict(model="vit_base_patch16_224", imagenet_c_images=5000)  # Benchmark
DEMO = dict(model="demo_sl12", imagenet_c_images=24, model_b=ROOT / "checkpoints" / "demo_B.pth",
            model_c=ROOT / "checkpoints" / "demo_C.pth")
BENCHMARKS = {"imagenet": "ImageNet", "imagenet_c": "ImageNet-C", "objectnet": "ObjectNet"}
PAPER_SAYS = {}  # of 50,000, 75,000 and about 18,500 pairs; "JZS" of a width that it does not state
for _name, _bf01 in (("ImageNet", 222.), ("ImageNet-C", 242.8), ("ObjectNet", 89.)):
    PAPER_SAYS |= {f"BF01 {_name} (unit information)": _bf01, f"BF01 {_name} (JZS, r = 1)": _bf01}
NEEDS = {"imagenet": "--imagenet", "imagenet_c": "--imagenet",
         "objectnet": "--objectnet (and --imagenet, if the model has other classes than its 1000)"}
SEVERITY = 5  # of ImageNet-C's corruptions
BORDER = 2  # px of red frame around every picture of ObjectNet
CHANCE = .05  # model A below this is a mistake in labels or preprocessing, not a result
JEFFREYS = {3: "moderate", 10: "strong", 30: "very strong", 100: "decisive"}  # BF01 above


# -------------------------------------------------------------------------------- data

class Picture(NamedTuple):
    """A picture of a benchmark."""
    path: Path
    folder: str      # its class: ImageNet's wnid, ObjectNet's folder
    right: set[int]  # classes of the model that are correct
    number: int      # in the whole data set, which seeds its corruptions


def imagenet_pictures(root: Path, n_classes: int, n: int | None, seed: int
                      ) -> tuple[list[Picture], list[str]]:
    """n random validation pictures (None: all) in their order, and the wnids of all classes.
    InputError: another number of classes than the model has."""
    files, wnids = data.load_imagefolder(root, data.imagenet_wnids() if n_classes == 1000 else None)
    if len(wnids) != n_classes:
        raise InputError(f"{root} has {len(wnids)} classes and the model {n_classes}; give the data that the "
                         "model was trained on.")
    chosen = sorted(torch.randperm(len(files), generator=generator(seed, 1)).tolist()[:n])
    return [Picture(files[i][0], wnids[files[i][1]], {files[i][1]}, i) for i in chosen], wnids


def objectnet_pictures(root: Path, wnids: Sequence[str]) -> list[Picture]:
    """All pictures of the ObjectNet classes that the model knows. wnids: the model's classes in the order of
    its outputs. A folder's classes, by the release's four mapping files: folder -> ObjectNet's label -> names
    of ImageNet classes ("coffee mug; cup") -> line in the list of names -> index in wnid order."""
    mappings, imagenet = root / "mappings", data.imagenet_wnids()
    with input_errors(root, "ObjectNet as released: images/ and four files in mappings/; unpack it again"):
        label_of_folder = json.loads((mappings / "folder_to_objectnet_label.json").read_text("utf-8"))
        names_of_label = json.loads((mappings / "objectnet_to_imagenet_1k.json").read_text("utf-8"))
        line_of_index = json.loads((mappings / "pytorch_to_imagenet_2012_id.json").read_text("utf-8"))
        lines = (mappings / "imagenet_to_label_2012_v2").read_text("utf-8").splitlines()
        line_of_name = {name: line for line, name in enumerate(lines)}
        wnid_of_line = {int(line): imagenet[int(i)] for i, line in line_of_index.items()}
        pictures = []
        for folder, label in sorted(label_of_folder.items()):
            names = [name.strip() for name in names_of_label.get(label, "").split(";") if name]
            same = [wnid_of_line[line_of_name[name]] for name in names]
            right = {wnids.index(wnid) for wnid in same if wnid in wnids}
            for path in data.entries(root / "images" / folder):
                if right and path.suffix.lower() in data.IMAGE_SUFFIXES:
                    pictures.append(Picture(path, folder, right, len(pictures)))
    return pictures


def load_data(places: dict[str, Path | None], head: nn.Module, n_corrupted: int, limit: int | None, seed: int,
              frost_dir: Path | None = None, wanted: Sequence[str] = tuple(NEEDS)
              ) -> tuple[dict[str, list[Picture]], list[str]]:
    """({benchmark: its pictures}, parts not run). places: {"imagenet", "objectnet": folder or None}; head:
    the model's classifier; n_corrupted: pictures of ImageNet-C; limit: most pictures of a benchmark."""
    if not isinstance(head, nn.Linear):
        return {}, ["benchmarks: the model has no classification head"]
    if frost_dir:  # a wrong folder ends the run now, not in an hour
        with input_errors(frost_dir, "ImageNet-C's six textures, frost1 to frost6"):
            corrupt(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "frost", 1, torch.zeros(1), frost_dir)
    pictures, imagenet, objectnet = {}, places["imagenet"], places.get("objectnet")
    wnids = data.imagenet_wnids() if head.out_features == 1000 else None
    if imagenet:
        pictures["imagenet"], wnids = imagenet_pictures(imagenet, head.out_features, limit, seed)
    if imagenet and "imagenet_c" in wanted:
        n = min(n_corrupted, limit or n_corrupted)
        pictures["imagenet_c"], _ = imagenet_pictures(imagenet, head.out_features, n, seed)
    if objectnet and wnids and "objectnet" in wanted:
        known = objectnet_pictures(objectnet, wnids)
        chosen = torch.randperm(len(known), generator=generator(seed, 3)).tolist()[:limit]
        pictures["objectnet"] = [known[i] for i in sorted(chosen)]
    not_run = [f"{BENCHMARKS[name]}: no data, give {NEEDS[name]}" for name in wanted if name not in pictures]
    if "imagenet_c" in pictures and not frost_dir:
        not_run.append("frost with ImageNet-C's six textures: drawn ones were used, give --frost")
    return pictures, not_run


class PictureViews(data.Images):
    """Item i -> as Images, image: the preprocessed views of picture i, (V, 3, img_h, img_w). ImageNet-C: all
    15 corruptions of the unresized picture, a function of the seed and its number alone; the others: one."""

    def __init__(self, benchmark: str, pictures: Sequence[Picture], pre: Preprocess, seed: int = 0,
                 frost_dir: Path | None = None):
        super().__init__([p.path for p in pictures], TF.pil_to_tensor)
        self.benchmark, self.pre, self.frost_dir = benchmark, pre, frost_dir
        self.seeds = torch.tensor([seed * 2**32 + p.number for p in pictures])

    def __getitem__(self, i: int) -> dict:
        item = super().__getitem__(i)
        views = item["image"][None]  # (1, 3, img_h, img_w) uint8, as in the file
        if self.benchmark == "objectnet":
            views = views[..., BORDER:-BORDER, BORDER:-BORDER]
        if self.benchmark == "imagenet_c":
            seed = self.seeds[i:i + 1]
            views = torch.cat([corrupt(views, name, SEVERITY, seed, self.frost_dir) for name in CORRUPTIONS])
        return item | {"image": torch.stack([self.pre(TF.to_pil_image(view)) for view in views])}


# -------------------------------------------------------------------------------- model

def load_model(name: str, weights: Path | None, device: torch.device, **tuned: Path | None
               ) -> dict[str, tuple[nn.Module, Preprocess]]:
    """{"A": (frozen ViT, preprocessing), "B": (the same with the weights of this file, ...)}. The paper
    resizes to 256 and crops here; the model's own preprocessing squashes the whole image."""
    vit, pre = load_vit(name, weights)
    pre = VIT_BENCHMARK if name == PAPER["model"] else pre
    models = {"A": vit.to(device)} | {k: load_tuned(vit, file) for k, file in tuned.items() if file}
    return {k: (model, pre) for k, model in models.items()}


# -------------------------------------------------------------------------------- measure

def classify(batch: dict, models: dict[str, nn.Module], device: torch.device, bfloat16: bool
             ) -> dict[str, Tensor]:
    """{model: the class of its highest logit among all, (B, V)} of the V views of each picture."""
    views = batch["image"].to(device).unbind(1)  # V of (B, 3, img_h, img_w)
    found = {"readable": batch["readable"]}
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        for name, model in models.items():
            found[name] = torch.stack([model(x).argmax(1) for x in views], 1)
    return found


def measure(models: dict[str, tuple[nn.Module, Preprocess]], pictures: dict[str, list[Picture]], folder: Path,
            device: torch.device, workers: int = 0, bfloat16: bool = False, seed: int = 0,
            frost_dir: Path | None = None, batch_size: int = 32) -> tuple[dict[str, np.ndarray], list[str]]:
    """(arrays, unreadable pictures). Of each benchmark: <benchmark>_image and _class, names (n,); _predicted,
    the models' classes, and _correct, whether they are right (n, V, M). models: {name: (model that maps
    images to logits, its preprocessing)}. folder: keeps finished batches (results.in_batches)."""
    arrays, unreadable = {"benchmark_models": np.array(list(models))}, []
    for benchmark, some in pictures.items():
        names = [f"{benchmark}/{data.image_name(p.path)}" for p in some]
        n = max(1, batch_size // len(CORRUPTIONS)) if benchmark == "imagenet_c" else batch_size
        found = {}
        for pre in {pre: None for _, pre in models.values()}:  # models that see the same pixels
            group = {name: model for name, (model, own) in models.items() if own == pre}
            views = PictureViews(benchmark, some, pre, seed, frost_dir)
            answer = partial(classify, models=group, device=device, bfloat16=bfloat16)
            found |= results.in_batches(folder / f"{benchmark}_{'_'.join(group)}", views, n, answer, workers)
        some = [p for p, readable in zip(some, found["readable"]) if readable]
        found, names, bad = data.readable_only(found, names)
        unreadable += bad
        predicted = np.stack([found[name] for name in models], -1)  # (n, V, M)
        right = np.array([np.isin(classes, list(p.right)) for classes, p in zip(predicted, some)])
        baseline = right[..., 0].mean()
        if len(right) >= 50 and baseline < CHANCE:
            raise InputError(f"model A is right on {100 * baseline:.1f} % of {len(right)} {benchmark} "
                             "images, far too few: do labels, weights and preprocessing fit together?")
        found = dict(image=names, predicted=predicted, correct=right)
        found["class"] = [p.folder for p in some]
        arrays |= {f"{benchmark}_{key}": np.asarray(values) for key, values in found.items()}
    return arrays, unreadable


# -------------------------------------------------------------------------------- statistics

def claims(lines: dict[str, str], says: dict[str, float]) -> list[results.Claim]:
    """Claims of lines {name: unit} whose values stand under these names in a summary; says: the paper's."""
    return [results.Claim(name, says.get(name), unit, methodcaller("get", name))
            for name, unit in lines.items()]


LINES = {}  # of the table, and their units
for _name in BENCHMARKS.values():
    LINES |= {f"{_name} top-1, A": "%", f"{_name} top-1, B": "%", f"{_name} top-1, C": "%",
              f"{_name}, B - A": "points", f"BF01 {_name} (unit information)": "",
              f"BF01 {_name} (JZS, r = 1)": ""}
CLAIMS = claims(LINES, PAPER_SAYS)


def correct(arrays: dict, benchmark: str) -> dict[str, np.ndarray]:
    """{model: 1. where its answer is right, else 0., (n, V)}; {} if the benchmark was not run."""
    if f"{benchmark}_correct" not in arrays:
        return {}
    right = np.moveaxis(arrays[f"{benchmark}_correct"], -1, 0).astype(float)  # (M, n, V)
    return dict(zip(arrays["benchmark_models"].tolist(), right))


def parity(right: np.ndarray, baseline: np.ndarray) -> dict:
    """Paired t test of two models' answers, McNemar's test, and Bayes factors for no difference. All answers
    count as independent, as in the paper, also those to several views of a picture."""
    right, baseline = right.ravel(), baseline.ravel()
    n, test = len(right), paired_t(right, baseline)
    log_bf01 = {"unit information": bf01_unit_information(test["t"], n, log=True),
                "JZS, r = 1": bf01_jzs(test["t"], n, 1., log=True),
                "JZS, r = 0.707": bf01_jzs(test["t"], n, .5**.5, log=True)}
    bf01 = {form: float(np.exp(value)) for form, value in log_bf01.items()}
    return test | dict(n=n, mcnemar=mcnemar(right, baseline), log_bf01=log_bf01, bf01=bf01)


def parity_tests(arrays: dict) -> list[dict]:
    """For results.json: `parity` of B and C with A on every benchmark."""
    tests = []
    for benchmark in BENCHMARKS:
        right = correct(arrays, benchmark)
        for k in sorted(right.keys() - {"A"}):
            tests.append(dict(test="parity", benchmark=benchmark, pair=f"{k} - A", images=len(right[k]),
                              **parity(right[k], right["A"])))
    return tests


def summary(arrays: dict) -> dict[str, dict]:
    """{line of the table: its number, 95 % interval and n}. Intervals are over pictures, however many views
    of each there are: bootstrapped, of a difference of single answers McNemar's."""
    found = {}
    for benchmark, name in BENCHMARKS.items():
        right = correct(arrays, benchmark)
        for k, v in right.items():
            ci = bootstrap_ci(100 * v.mean(1), n_boot=2000)
            found[f"{name} top-1, {k}"] = dict(ours=100 * v.mean(), ci=ci, n=v.size)
        if "B" in right:
            a, b = right["A"], right["B"]
            gap = results.difference(b.ravel(), a.ravel(), 100.)
            if a.shape[1] > 1:
                gap["ci"] = bootstrap_ci(100 * (b - a).mean(1), n_boot=2000)
            found[f"{name}, B - A"] = gap
            for form, value in parity(b, a)["bf01"].items():
                found[f"BF01 {name} ({form})"] = dict(ours=value, n=b.size)
    return found


def table(arrays: dict) -> list[dict]:
    """Rows of the CSV: image, condition (the model), benchmark, view (the corruption), class (of the
    picture), predicted (the model's class), correct (0 or 1)."""
    rows = []
    for benchmark in [b for b in BENCHMARKS if correct(arrays, b)]:
        of = {key: arrays[f"{benchmark}_{key}"] for key in ("image", "class", "predicted", "correct")}
        for i, v, m in np.ndindex(of["predicted"].shape):
            rows.append({"image": of["image"][i], "condition": arrays["benchmark_models"][m],
                         "benchmark": benchmark,
                         "view": list(CORRUPTIONS)[v] if benchmark == "imagenet_c" else "",
                         "class": of["class"][i], "predicted": of["predicted"][i, v, m],
                         "correct": int(of["correct"][i, v, m])})
    return rows


def save_table(arrays: dict, path: Path) -> None:
    """The table as a CSV file, by the first process."""
    if rank_world()[0] == 0:
        results.write_csv(table(arrays), path)


# -------------------------------------------------------------------------------- figures

def diagonal(ax, *values: np.ndarray) -> None:
    """Identity line over the values' range, axes square."""
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    pad = .05 * (high - low or 1)
    ax.plot([low - pad, high + pad], [low - pad, high + pad], "--", color="black", linewidth=.8, zorder=0)
    ax.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")


def draw_accuracy(arrays: dict, run: Sequence[str], folder: Path) -> None:
    """fig_4A: top-1 accuracy of every model on the benchmarks, 95 % intervals."""
    fig, axes = results.figure_grid(1, 1, 4.2)
    ax, found = axes[0, 0], summary(arrays)
    for i, k in enumerate(arrays["benchmark_models"]):
        lines = [found[f"{BENCHMARKS[benchmark]} top-1, {k}"] for benchmark in run]
        height = np.array([line["ours"] for line in lines])
        error = np.abs(np.array([line["ci"] for line in lines]).T - height)  # (2, benchmarks)
        ax.bar(np.arange(len(run)) + .27 * i - .27, height, .25, yerr=error, capsize=2, label=k,
               color=results.PALETTE[k])
    ax.set(xticks=range(len(run)), xticklabels=[BENCHMARKS[b] for b in run], ylim=(0, 100),
           ylabel="top-1 accuracy (%), 95 % CI")
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(.5, 1))
    results.save_figure(fig, folder / "fig_4A")


def draw_evidence(arrays: dict, folder: Path) -> None:
    """fig_4B: Bayes factors for equal accuracy of B and A on Jeffreys' scale."""
    tests = [t for t in parity_tests(arrays) if t["pair"] == "B - A"]
    fig, axes = results.figure_grid(1, 1, 4.6)
    ax, green = axes[0, 0], results.PALETTE["B"]
    for form, marker, fill in zip(tests[0]["log_bf01"], "os^", ("none", green, results.PALETTE["C"])):
        y = [t["log_bf01"][form] / math.log(10) for t in tests]
        ax.plot(range(len(tests)), y, marker, label=form, color=green, markerfacecolor=fill)
    for bound, label in JEFFREYS.items():
        ax.axhline(math.log10(bound), color="black", linewidth=.5, linestyle=":")
        ax.text(len(tests) - .45, math.log10(bound) + .02, label, fontsize=7, va="bottom")
    ax.axhline(0, color="black", linewidth=.8)
    ax.set(xticks=range(len(tests)), ylabel="log10 BF01 (> 0: B = A)", xlim=(-.5, len(tests)),
           xticklabels=[f"{BENCHMARKS[t['benchmark']]}\n{t['n']:,} pairs" for t in tests])
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(.5, 1))
    results.save_figure(fig, folder / "fig_4B")


def draw_directions(arrays: dict, folder: Path) -> None:
    """fig_4C: accuracy of B against A by corruption and by class; green: B is better, red: A."""
    corrupted, plain = correct(arrays, "imagenet_c"), correct(arrays, "imagenet")
    wnids = arrays["imagenet_class"]
    by_corruption = [100 * corrupted[k].mean(0) for k in "AB"]  # (15,) each
    by_class = [np.array([100 * plain[k][wnids == wnid].mean() for wnid in np.unique(wnids)]) for k in "AB"]
    fig, axes = results.figure_grid(1, 2, 3.4)
    for ax, (a, b), label in zip(axes[0], (by_corruption, by_class), ("corruptions", "classes")):
        colour = np.select([b > a, b < a], [results.PALETTE["B"], results.PALETTE["A"]], results.PALETTE["C"])
        ax.scatter(a, b, s=14, c=colour)
        diagonal(ax, a, b)
        ax.set(xlabel="accuracy of A (%)", ylabel="accuracy of B (%)", title=f"{len(a)} {label}")
    results.save_figure(fig, folder / "fig_4C")


def draw(arrays: dict, _, folder: Path) -> None:
    """The figures of the benchmarks that were run."""
    run = [benchmark for benchmark in BENCHMARKS if correct(arrays, benchmark)]
    if run:
        draw_accuracy(arrays, run, folder)
    if run and "B" in arrays["benchmark_models"]:
        draw_evidence(arrays, folder)
    if "imagenet_c" in run and "B" in arrays["benchmark_models"]:
        draw_directions(arrays, folder)


# -------------------------------------------------------------------------------- main

def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = results.argument_parser(__file__, __doc__, limit="N images of each benchmark")
    add = parser.add_argument_group("study").add_argument
    add("--imagenet", type=Path, help="folder with val/")
    add("--objectnet", type=Path, help="folder with images/ and mappings/")
    add("--model", help=f"model A, in common.WEIGHTS (default: {PAPER['model']}; demo: {DEMO['model']})")
    add("--model-b", type=Path, help="tuned weights of B (demo: checkpoints/demo_B.pth)")
    add("--model-c", type=Path, help="tuned weights of C (demo: checkpoints/demo_C.pth)")
    add("--frost", type=Path, help="folder of ImageNet-C's six frost textures (default: drawn)")
    args = results.parse_args(parser, argv)
    for name, value in (DEMO if args.data == "demo" else PAPER).items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    init_distributed(device)
    if results.only_draw(args):
        return results.redraw(args.out, draw)

    # Model A, and B and C as exp01_finetune_vit.py tuned them; pictures of the three benchmarks.
    models = load_model(args.model, args.weights, device, B=args.model_b, C=args.model_c)
    places = data.data_places(args, ("imagenet", "objectnet"), ("imagenet", "objectnet"))
    pictures, not_run = load_data(places, models["A"][0].head, args.imagenet_c_images, args.limit, args.seed,
                                  args.frost)
    not_run += [f"model {k}: give --model-{k.lower()}" for k in "BC" if k not in models]
    files = [p.path for some in pictures.values() for p in some]
    folder = results.begin(args, files, **{name: model for name, (model, _) in models.items()})

    # Every model classifies the same pictures; on each the answer is right or wrong.
    arrays, unreadable = measure(models, pictures, folder, device, args.workers, args.dtype == "bfloat16",
                                 args.seed, args.frost, args.batch_size)

    # Accuracies, their differences, and the evidence that there is none.
    headline = results.evaluate(CLAIMS, summary(arrays))
    results.finish(args, "exp01_benchmarks", arrays, table(arrays), headline, draw, began, device,
                   parity_tests(arrays), not_run, files, unreadable=unreadable)


if __name__ == "__main__":
    results.cli(main)
