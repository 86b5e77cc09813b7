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
Pictures are squeezed to 256x256, as the paper says, so their aspect is lost; RESIZE = 256 keeps it.
Departures: the corruptions are computed anew (the paper's package no longer imports); frost has drawn
textures unless --frost names the six original ones.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
import torchvision.transforms.functional as TF
from torch import Tensor, nn

import data
import results
from common import (InputError, ROOT, generator, init_distributed, input_errors, pick_device, rank_world)
from corruptions import CORRUPTIONS, corrupt, frost_textures
from exp01_claims import BENCHMARKS, RECOGNITION, correct, parity, top1
from weights import Preprocess, attention_state, load_tuned, load_vit, must_exist

# -------------------------------------------------------------------------------- constants

PAPER = dict(model="vit_base_patch16_224", imagenet_c_images=5000)  # Benchmark
DEMO = dict(model="demo_sl12", imagenet_c_images=24, model_b=ROOT / "checkpoints" / "demo_B.pth",
            model_c=ROOT / "checkpoints" / "demo_C.pth")
NEEDS = {"imagenet": "--imagenet", "imagenet_c": "--imagenet",
         "objectnet": "--objectnet (demo models: --imagenet, too)"}
SEVERITY = 5  # of ImageNet-C's corruptions
BARS = 20  # accuracies that are drawn as bars; more are dots
BORDER = 2  # px of red frame around every picture of ObjectNet
# px, whatever the aspect ratio (Benchmark). RESIZE = 256 keeps it, with the short side at 256 px, as in the
# pipelines whose accuracies of these weights are quoted.
RESIZE = (256, 256)
CROP = 224  # px, the middle
CHANCE = 5  # %; model A below this is a mistake in labels or preprocessing, not a result
JEFFREYS = {3: "moderate", 10: "strong", 30: "very strong", 100: "decisive"}  # BF01 above


# -------------------------------------------------------------------------------- data

class Picture(NamedTuple):
    path: Path
    folder: str      # its class: ImageNet's wnid, ObjectNet's folder
    right: set[int]  # classes of the model that are correct
    number: int      # in the whole data set, which seeds its corruptions


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
        if not pictures:
            raise ValueError("no picture of a class that the model knows")
    return pictures


def look_at(places: dict[str, Path | None]) -> None:
    """InputError for folders in another layout: before any weights are downloaded, without which `load_data`
    cannot tell classes."""
    if places.get("imagenet"):
        data.load_imagefolder(places["imagenet"])
    if places.get("objectnet"):
        objectnet_pictures(places["objectnet"], data.imagenet_wnids())


def check_files(frost_dir: Path | None, *tuned: Path | None) -> None:
    """InputError, before weights are loaded: one is not there, or a folder without the six textures."""
    must_exist(*tuned)
    if frost_dir and not frost_dir.is_dir():
        raise InputError(f"{frost_dir}: no such folder of six textures; correct --frost.")
    if frost_dir:
        with input_errors(frost_dir, "ImageNet-C's six textures, frost1 to frost6"):
            frost_textures(frost_dir)


def load_data(places: dict[str, Path | None], head: nn.Module, n_corrupted: int, limit: int | None, seed: int,
              frost_dir: Path | None = None, wanted: Sequence[str] = tuple(BENCHMARKS)
              ) -> tuple[dict[str, list[Picture]], list[str]]:
    """({benchmark: pictures}, parts not run). places: {"imagenet", "objectnet": folder or None}; head: the
    model's classifier; n_corrupted, limit: at most so many pictures of ImageNet-C, of any, at random."""
    if not isinstance(head, nn.Linear):
        return {}, ["benchmarks: the model has no classification head"]
    every, wnids, n_classes = {}, data.imagenet_wnids(), head.out_features
    if places["imagenet"]:
        files, wnids = data.load_imagefolder(places["imagenet"], wnids if n_classes == 1000 else None)
        if len(wnids) != n_classes:
            raise InputError(f"{places['imagenet']} has {len(wnids)} classes and the model {n_classes}; give "
                             "the data that the model was trained on.")
        every["imagenet"] = [Picture(path, wnids[k], {k}, i) for i, (path, k) in enumerate(files)]
        every["imagenet_c"] = every["imagenet"]
    if places.get("objectnet") and len(wnids) == n_classes:
        every["objectnet"] = objectnet_pictures(places["objectnet"], wnids)
    pictures, not_run = {}, []
    for name in wanted:
        if name not in every:
            not_run.append(f"{BENCHMARKS[name]}: no data, give {NEEDS[name]}")
            continue
        some = torch.randperm(len(every[name]), generator=generator(seed, 1)).tolist()[:limit]
        if name == "imagenet_c":
            some = some[:n_corrupted]
        pictures[name] = [every[name][i] for i in sorted(some)]
        if len(some) < 2:
            raise InputError(f"{BENCHMARKS[name]}: one picture; comparing models needs two or more.")
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

def papers(pre: Preprocess) -> Preprocess:
    """The paper's resizing and crop for all benchmarks, otherwise the preprocessing of the weights."""
    return dataclasses.replace(pre, resize=RESIZE, crop=CROP, squash=False)


def load_model(name: str, weights: Path | None, device: torch.device, heads: int | None = None
               ) -> tuple[nn.Module, Preprocess]:
    """(model A, its preprocessing: of the paper's model the paper's, of others that of their weights)."""
    vit, pre = load_vit(name, weights, heads)
    return vit.to(device), papers(pre) if name == PAPER["model"] else pre


def with_tuned(net: nn.Module, files: dict[str, Path | None], tuned_state: Callable = attention_state
               ) -> dict[str, nn.Module]:
    """{"A": net, "B" or "C": net with the tuned weights of its file, if there is one}."""
    return {"A": net} | {k: load_tuned(net, file, tuned_state) for k, file in files.items() if file}


def told_apart(models: dict[str, nn.Module]) -> tuple[dict[str, nn.Module], list[str]]:
    """(the models whose weights are not A's, a sentence on each of the others): A is not compared with A."""
    weights = {k: results.digest(model) for k, model in models.items()}
    same = [k for k in models if k != "A" and weights[k] == weights["A"]]
    said = [f"model {k}: it is A, its weights are the same; raise --lr, or name another file" for k in same]
    return {k: model for k, model in models.items() if k not in same}, said


def warn(sentences: Sequence[str]) -> None:
    """Before the table, by the first process."""
    for sentence in sentences:
        if rank_world()[0] == 0:
            print(f"warning: {sentence}")


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


def measure(models: dict[str, nn.Module], pre: Preprocess, pictures: dict[str, list[Picture]], folder: Path,
            device: torch.device, workers: int = 0, bfloat16: bool = False, seed: int = 0,
            frost_dir: Path | None = None, batch_size: int = 32) -> tuple[dict[str, np.ndarray], list[str]]:
    """(arrays, unreadable pictures). Of each benchmark: <benchmark>_image and _class, names (n,); _correct,
    whether each model is right (n, V, M). models: {name: maps images to logits}; folder: of the batches."""
    arrays, unreadable = {"benchmark_models": np.array(list(models))}, []
    answer = partial(classify, models=models, device=device, bfloat16=bfloat16)
    for benchmark, some in pictures.items():
        n = max(1, batch_size // len(CORRUPTIONS)) if benchmark == "imagenet_c" else batch_size
        views = PictureViews(benchmark, some, pre, seed, frost_dir)
        found = results.in_batches(folder / benchmark, views, n, answer, workers)
        predicted = np.stack([found.pop(name) for name in models], -1)  # (n, V, M)
        right = [np.isin(classes, list(p.right)) for classes, p in zip(predicted, some)]  # n of (V, M)
        found |= {"class": np.array([p.folder for p in some]), "correct": np.array(right)}
        names = [f"{benchmark}/{data.image_name(p.path)}" for p in some]
        found, names, bad = data.readable_only(found, names)
        arrays |= {f"{benchmark}_{key}": values for key, values in found.items()}
        arrays[f"{benchmark}_image"] = np.array(names)
        unreadable += bad
        baseline = 100 * found["correct"][..., 0].mean()
        if len(names) >= 50 and baseline < CHANCE:
            raise InputError(f"model A is right on {baseline:.1f} % of {len(names)} {benchmark} images, far "
                             "too few: do labels, weights and preprocessing fit together?")
    return arrays, unreadable


def table(arrays: dict) -> list[dict]:
    """Rows of the CSV: image, condition (the model), benchmark, view (the corruption), class (of the
    picture), correct (0 or 1)."""
    rows = []
    for benchmark in [b for b in BENCHMARKS if correct(arrays, b)]:
        views = list(CORRUPTIONS) if benchmark == "imagenet_c" else [""]
        image, label, right = (arrays[f"{benchmark}_{key}"] for key in ("image", "class", "correct"))
        for i, v, m in np.ndindex(right.shape):
            row = dict(image=image[i], condition=arrays["benchmark_models"][m], benchmark=benchmark)
            rows.append(row | {"view": views[v], "class": label[i], "correct": int(right[i, v, m])})
    return rows


# -------------------------------------------------------------------------------- figures

def draw_accuracy(arrays: dict, run: Sequence[str], ax) -> None:
    for i, k in enumerate(arrays["benchmark_models"]):
        accuracy = [top1(arrays, benchmark, k) for benchmark in run]
        height = np.array([found["ours"] for found in accuracy])
        error = np.abs(np.array([found["ci"] for found in accuracy]).T - height)  # (2, benchmarks)
        ax.bar(np.arange(len(run)) + .27 * i, height, .25, yerr=error, label=k, color=results.PALETTE[k])
    names = [f"{BENCHMARKS[benchmark]}\nn = {len(correct(arrays, benchmark)['A'])}" for benchmark in run]
    ax.set_xticks(np.arange(len(run)) + .27, names, fontsize=8)
    ax.set(ylim=(0, 100), ylabel="top-1 accuracy (%), 95 % CI")
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(.5, 1))


def draw_directions(arrays: dict, axes: Sequence) -> None:
    """Accuracy of A (red) and B (green) by corruption and by class: a bar each, for more than BARS B against
    A, in the colour of the better one."""
    corrupted, plain = correct(arrays, "imagenet_c"), correct(arrays, "imagenet")
    wnids, kinds = arrays["imagenet_class"], np.unique(arrays["imagenet_class"])
    by_corruption = [100 * corrupted[k].mean(0) for k in "AB"]  # (15,) each
    by_class = [np.array([100 * plain[k][wnids == wnid].mean() for wnid in kinds]) for k in "AB"]
    panels = (CORRUPTIONS, by_corruption, "corruptions"), (kinds, by_class, "classes")
    for ax, (names, (a, b), label) in zip(axes, panels):
        ax.set(title=f"{len(a)} {label}")
        if len(a) <= BARS:
            for values, k, shift in ((a, "A", -.2), (b, "B", .2)):
                ax.barh(np.arange(len(a)) + shift, values, .4, color=results.PALETTE[k])
            ax.set_yticks(range(len(a)), [name.replace("_", " ") for name in names], fontsize=8)
            ax.set(xlabel="accuracy (%)", xlim=(0, 100))
            ax.invert_yaxis()
            continue
        colour = np.select([b > a, b < a], [results.PALETTE["B"], results.PALETTE["A"]], results.PALETTE["C"])
        ax.scatter(a, b, s=14, c=colour)
        ax.axline((a[0], a[0]), slope=1, color="black", linestyle="--", linewidth=.8)
        ax.set(xlabel="accuracy of A (%)", ylabel="accuracy of B (%)")


def draw(arrays: dict, facts: dict, folder: Path) -> None:
    """fig_4: accuracy; evidence that B is as accurate as A; B against A by corruption and by class."""
    run = [benchmark for benchmark in BENCHMARKS if correct(arrays, benchmark)]
    if not run:
        return
    fig, axes = results.figure_grid(1, 4, 3.6, 3.6)
    draw_accuracy(arrays, run, axes[0, 0])
    tests, ax = [test for test in parity(arrays) if test["pair"] == "B - A"], axes[0, 1]
    for form, marker in zip(("unit information", "JZS, r = 1", "JZS, r = 0.707"), "os^"):
        bf01 = [math.exp(test["log_bf01"][form]) for test in tests]
        ax.plot([test["benchmark"] for test in tests], bf01, marker, color=results.PALETTE["B"], label=form)
    ax.set(yscale="log", yticks=list(JEFFREYS), yticklabels=JEFFREYS.values(), ylabel="BF01 (> 1: B = A)")
    ax.tick_params("x", labelsize=8)
    ax.grid(axis="y")
    ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(.5, 1))
    if "imagenet" in run and tests:
        draw_directions(arrays, axes[0, 2:])
    results.save_figure(fig, folder / "fig_4")


# -------------------------------------------------------------------------------- main

def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = results.argument_parser(__file__, __doc__, limit="N images of each benchmark")
    add = parser.add_argument_group("study").add_argument
    add("--imagenet", type=Path, help="folder with val/")
    add("--objectnet", type=Path, help="folder with images/ and mappings/")
    add("--model", help=f"model A, in weights.py (default: {PAPER['model']}; demo: {DEMO['model']})")
    add("--heads", type=int, help="heads of a block, with --model auto (default: known by its width)")
    add("--model-b", type=Path, help="tuned weights of B (demo: checkpoints/demo_B.pth)")
    add("--model-c", type=Path, help="tuned weights of C (demo: checkpoints/demo_C.pth)")
    add("--frost", type=Path, help="folder of ImageNet-C's six frost textures (default: drawn)")
    return results.parse_args(parser, argv, PAPER, DEMO)


def main(argv: Sequence[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    init_distributed(device)
    if results.only_draw(args):
        return results.redraw(args.out, draw)

    # Model A, and B and C as exp01_finetune_vit.py tuned them; pictures of the three benchmarks.
    check_files(args.frost, args.model_b, args.model_c)
    places = data.data_places(args, ("imagenet", "objectnet"), ("imagenet", "objectnet"))
    look_at(places)
    if not any(places.values()):
        raise InputError("no benchmark can be run: no data; give --imagenet or --objectnet.")
    vit, pre = load_model(args.model, args.weights, device, args.heads)
    models = with_tuned(vit, {"B": args.model_b, "C": args.model_c})
    not_run = [f"model {k}: give --model-{k.lower()}" for k in "BC" if k not in models]
    models, copies = told_apart(models)
    pictures, missing = load_data(places, vit.head, args.imagenet_c_images, args.limit, args.seed, args.frost)
    if not pictures:
        raise InputError("no benchmark can be run: " + "; ".join(missing))
    files = [p.path for some in pictures.values() for p in some]
    folder = results.begin(args, files, **models)

    # Every model classifies the same pictures; on each the answer is right or wrong.
    arrays, bad = measure(models, pre, pictures, folder, device, args.workers, args.dtype == "bfloat16",
                          args.seed, args.frost, args.batch_size)

    # Accuracies, their differences, and the evidence that there is none.
    headline = results.evaluate(RECOGNITION, arrays)
    warn(copies)
    results.finish(args, "exp01_benchmarks", arrays, table(arrays), headline, draw, began, device,
                   parity(arrays), copies + missing + not_run, unreadable=bad,
                   left_out=data.passed_over(places["imagenet"]))


if __name__ == "__main__":
    results.cli(main)
