"""exp01: a Vision Transformer tuned on human fixations, and what that costs in recognition.

Knights (2026), "Cognitive alignment at no cost: inducing human attention biases for interpretable Vision
Transformers", arXiv 2604.20027. Model A: ViT-B/16, frozen. B: A with its self-attention tuned so that its
attention rollout matches where people looked (SALICON) while its CLS vector stays A's. C: the same with the
fixation maps dealt to other images. Measured: agreement with fixations (CC, NSS, AUC-Judd, KL, SIM), its
relation to the agreement among observers, and top-1 accuracy on ImageNet, ImageNet-C and ObjectNet with Bayes
factors for B = A.

Commands
    laptop, demo world    python exp01_finetune_vit.py
    one GPU               python exp01_finetune_vit.py --salicon SALICON --coco COCO --imagenet IMAGENET
                              --objectnet OBJECTNET
    eight GPUs            torchrun --nproc_per_node 8 exp01_finetune_vit.py (the same)
    some stages           ... --stages B C (of: B C align consistency benchmark figures); more: + --resume
    own fixations (OSIE)  python exp01_finetune_vit.py --salicon OSIE --model dinov2_vits14
    go on after a kill    the same command with --resume
    redraw                the same command with --plot-only
Data: SALICON/fixations_{train,val}2014.json and images in SALICON/images/ or COCO/{train,val}2014/;
COCO/annotations/instances_val2014.json (gain by category); IMAGENET/val/<wnid>/; OBJECTNET/{images,mappings}/
as released; or OSIE/fixations.mat and OSIE/stimuli/. A part without its data is reported as not run.
--data FOLDER: one that holds salicon/, coco/, imagenet/ and objectnet/.
Result, in runs/exp01_finetune_vit/<tag>/ or --out: tuned_B.pth, tuned_C.pth (attention weights), tuned_*.csv
(losses), per_image.csv (alignment), consistency/ and benchmark/per_image.csv, categories.csv, examples.npz,
results.json; from these files fig_1B, fig_2A to 2C, fig_4A to 4C and fig_training (.png, .pdf).
Corruptions alone: corruptions.py.
Time, one core of a busy 2-core machine (AMD EPYC): demo 3 minutes, 1.7 GB; a training step of ViT-B/16 (8
images) 7.3 s, 2.7 GiB; 15 corruptions of a 224 px image 55 ms; consistency of a SALICON image 12 ms. No GPU
time was measured.

The paper's numbers: r(gain, consistency) -.55; a gain on every image and category; BF01 222 (ImageNet), 242.8
(ImageNet-C), 89 (ObjectNet). It prints no table of the five metrics and no accuracies. The demo: CC of A, B,
C .387, .487, .418; B above A on 88 % of the images; accuracy of B - A -0.8, -0.6, 0.0 points, BF01 2, 14, 10.
Departures, and choices where the paper is silent: KL(human || rollout) (--kl model: the reverse); the CLS
vector before the final norm; the held-out set is a random tenth of the training images (for C its maps are
dealt anew within it); weight decay .01; the loss before the first step counts as a validation; C's dealing
leaves no image its own map; gains below min_delta add up until they count as one; ImageNet-C is computed anew
(the paper's package no longer imports), with random draws that are a function of seed, image and corruption,
the same for A, B and C; frost has drawn textures unless --frost names the six original ones; ObjectNet is
cropped by 2 px.
"""
from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torchvision.transforms.functional as TF
from PIL import Image
from scipy import stats
from torch import Tensor
from tqdm import tqdm

from common import (IMAGE_SUFFIXES, InputError, Preprocess, ROOT, VIT_BENCHMARK, generator, imagenet_wnids,
                    init_distributed, input_errors, load_vit, observer_consistency, pick_device, rank_world,
                    read_image, shard)
from corruptions import CORRUPTIONS, corrupt, frost_textures
from gaze_tuning import (Classifier, GazeData, GazeImage, GazeTuner, MAP_SIGMA, MAP_SIZE, Recipe, RolloutViT,
                         add_gaze_args, align_stage, alignment_tables, attention_state, check_baseline,
                         classify, coco_files, data_places, diagonal, draw_gain, draw_metrics, draw_training,
                         fill_in, gain_shares, gaze_features, gaze_files, held_out_split, human_maps,
                         imagenet_items, left_out_before, load_gaze, load_tuned, model_log, open_run,
                         paired_values, parity_tests, prepare_plain, run_tuner, set_trainable, view_plain)
from legacy import (PALETTE, RowLog, add_common_args, argument_parser, cli, figure_grid, new_figure,
                     print_paper_vs_ours, read_arrays, read_json, read_rows, redraw, result_row, save_arrays,
                     save_figure, write_results)

# -------------------------------------------------------------------------------- constants

PAPER = dict(lr=1e-5, epochs=20, eval_every=200, patience=3, min_delta=1e-3, weight_decay=.01, lam=1.,
             severity=5, imagenet_c_images=5000, model="vit_base_patch16_224")  # Methods
# Demo: 81 steps for the paper's thousands, and a CLS vector of larger scale (variance 6.4 a channel).
DEMO = PAPER | dict(lr=3e-4, epochs=3, eval_every=27, lam=10., imagenet_c_images=24, model="demo_sl12")
SHUFFLE_SEED = 42  # of model C's maps (Model Variants)
DATA = "salicon", "coco", "imagenet", "objectnet"
STAGES = "B", "C", "align", "consistency", "benchmark", "figures"
BENCHMARKS = {"imagenet": "ImageNet", "imagenet_c": "ImageNet-C", "objectnet": "ObjectNet"}
PAPER_BF01 = {("imagenet", "BF01"): 222., ("imagenet_c", "BF01"): 242.8,  # n 50,000, 75,000 ...
              ("objectnet", "BF01"): 89.}  # ... and about 18,500
PAPER_GAIN = {"images": 100., "COCO categories": 100.}  # %
PAPER_GAIN_R = -.55  # r(gain, consistency)
JEFFREYS = {3: "moderate", 10: "strong", 30: "very strong", 100: "decisive"}  # BF01 above
OBJECTNET_OFFICIAL = 313, 113, 18574  # folders, classes of ImageNet among them, their images
BORDER = 2  # px of red frame round every ObjectNet image
HEADROOM_EPS = 1e-8
EXAMPLES = 4  # images of figure 1B


# -------------------------------------------------------------------------------- data

def derangement(n: int, seed: int = SHUFFLE_SEED) -> np.ndarray:
    """A permutation of n > 1 items that leaves none in its place: steps along a random ring."""
    ring, target = np.random.default_rng(seed).permutation(n), np.empty(n, dtype=int)
    target[ring] = np.roll(ring, 1)
    return target


def objectnet_items(root: Path, classes: list[str]) -> tuple[list[tuple], dict]:
    """Items of classify (path, folder, right classes, number) of the ObjectNet classes that the model knows.

    classes: wnids in the order of the model's outputs. Folder -> ObjectNet's label -> names of ImageNet
    classes -> line of the list of names -> index in wnid order: the release's four mapping files. InputError
    for missing folders or images.
    """
    def mapping(name: str) -> dict:
        file = root / "mappings" / name
        if not file.is_file():
            raise InputError(f"{file}: no such file; give the release, with images/ and mappings/.")
        text = file.read_text(encoding="utf-8")
        return json.loads(text) if file.suffix == ".json" else dict(enumerate(text.splitlines()))
    with input_errors(root / "mappings", "ObjectNet's four mapping files as released; unpack them again"):
        folders, names = mapping("folder_to_objectnet_label.json"), mapping("objectnet_to_imagenet_1k.json")
        line_of_name = {name: line for line, name in mapping("imagenet_to_label_2012_v2").items()}
        wnid_of_line = {int(line): imagenet_wnids()[int(i)]
                        for i, line in mapping("pytorch_to_imagenet_2012_id.json").items()}
        wnids = {folder: {wnid_of_line[line_of_name[name.strip()]]
                          for name in names.get(label, "").split(";") if name}
                 for folder, label in sorted(folders.items())}
    there = {p.name for p in (root / "images").iterdir()} if (root / "images").is_dir() else set()
    if absent := sorted(set(folders) - there):
        raise InputError(f"{root}/images: {len(absent)} of {len(folders)} class folders are missing "
                         f"({absent[0]} ...); unpack the whole release.")
    items, known = [], 0
    for folder, own in wnids.items():
        right = {classes.index(w) for w in own if w in classes}
        files = sorted(p for p in (root / "images" / folder).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if right:
            known += 1
            items += [(p, folder, right, len(items) + i) for i, p in enumerate(files)]
    official = len(folders) == OBJECTNET_OFFICIAL[0] and len(classes) == 1000
    if official and (known != OBJECTNET_OFFICIAL[1] or len(items) < .99 * OBJECTNET_OFFICIAL[2]) or not items:
        raise InputError(f"{root}: {len(items)} images in {known} classes that ImageNet has; expected "
                         f"{OBJECTNET_OFFICIAL[2]} in {OBJECTNET_OFFICIAL[1]}: unpack the whole release.")
    return items, dict(folders=len(folders), classes=known, images=len(items))


# What classify's loaders and views do with an image: top-level functions, which any process can import.

def prepare_objectnet(image: Image.Image, number: int, pre: Preprocess) -> Tensor:
    return pre(image.crop((BORDER, BORDER, image.width - BORDER, image.height - BORDER)))


def prepare_crop(image: Image.Image, number: int, pre: Preprocess) -> Tensor:
    """The crop as (3, img_h, img_w) uint8, to be corrupted in a batch."""
    return (dataclasses.replace(pre, mean=(0,) * 3, std=(1,) * 3)(image) * 255).round().byte()


def prepare_corrupted(image: Image.Image, number: int, pre: Preprocess, severity: int, seed: int,
                      frost_dir: Path | None) -> Tensor:
    """All corruptions of the unresized image, each preprocessed: (15, 3, img_h, img_w)."""
    x, seeds = TF.pil_to_tensor(image)[None], item_seeds(seed, [number])
    try:
        return torch.stack([pre(TF.to_pil_image(corrupt(x, name, severity, seeds, frost_dir)[0]))
                            for name in CORRUPTIONS])
    except ValueError as error:  # an image that is too small
        raise InputError(str(error)) from error


def view_corrupted(x: Tensor, numbers: list[int]) -> Iterator[tuple[str, Tensor]]:
    return zip(CORRUPTIONS, x.unbind(1))


def view_crops(x: Tensor, numbers: list[int], pre: Preprocess, severity: int, seed: int,
               frost_dir: Path | None) -> Iterator[tuple[str, Tensor]]:
    for name in CORRUPTIONS:
        y = corrupt(x, name, severity, item_seeds(seed, numbers), frost_dir)
        yield name, TF.normalize(y.float() / 255, pre.mean, pre.std)


def item_seeds(seed: int, numbers: list[int]) -> Tensor:
    """Seeds of corrupt for images by their number in the whole data set."""
    return torch.tensor([seed * 2**32 + n for n in numbers])


# -------------------------------------------------------------------------------- model

def tunable(vit: nn.Module) -> tuple[int, int]:
    """Only the attention's q, k, v and output projections take gradients; (their number, all parameters)."""
    return set_trainable(vit, attention_state(vit))


def tune(vit: nn.Module, pre: Preprocess, images: list[GazeImage], teacher: Tensor, shuffled: bool,
         recipe: Recipe, stem: Path, workers: int, resume: bool, half: bool) -> dict:
    """Train B, or C with shuffled maps, from vit; writes stem.pth, stem.csv and stem.json. The record."""
    parts, target = held_out_split(len(images), recipe.seed), np.arange(len(images))
    for part in parts:
        if shuffled:  # each set within itself: the held-out maps stay unseen
            target[part] = np.array(part)[derangement(len(part))]
    tunable(vit)
    tuner = GazeTuner(RolloutViT(vit), GazeData(images, pre, target), teacher, *parts, recipe,
                      stem.with_suffix(".pt"), workers)
    return run_tuner(tuner, stem, partial(attention_state, vit), resume, half)


# -------------------------------------------------------------------------------- measure

def measure_consistency(images: list[GazeImage], log: RowLog) -> None:
    """Rows image, condition, observers, consistency: mean correlation of two observers' maps."""
    for image in tqdm(shard(images), desc="consistency", disable=rank_world()[0] > 0):
        if image.name not in log.done:
            value = observer_consistency(image.observers, MAP_SIZE, MAP_SIGMA)
            log.add([{"image": image.name, "condition": "human", "observers": len(image.observers),
                      "consistency": "" if math.isnan(value) else value}])


def run_benchmarks(models: dict[str, nn.Module], pre: Preprocess, places: dict, args: argparse.Namespace,
                   log: RowLog, device: torch.device) -> tuple[list[str], list[str], dict, list[Path]]:
    """(parts not run, unreadable images, counts of ObjectNet, files); rows into log."""
    head, not_run, bad, found, files = models["A"].vit.head, [], [], {}, []
    if not isinstance(head, nn.Linear):
        return [f"benchmarks: {args.model} has no classification head"], [], {}, []
    pre, n_classes = VIT_BENCHMARK if args.model == PAPER["model"] else pre, head.out_features
    models = {k: Classifier(m.vit, args.dtype == "bfloat16") for k, m in models.items()}
    how = dict(log=log, device=device, batch_size=args.eval_batch_size, workers=args.workers)
    classes = imagenet_wnids() if n_classes == 1000 else None
    corruption = dict(pre=pre, severity=args.severity, seed=args.seed, frost_dir=args.frost)
    if places["imagenet"]:
        items, classes = imagenet_items(places["imagenet"], n_classes, args.limit, args.seed)
        prepare, files = partial(prepare_plain, pre=pre), [item[0] for item in items]
        bad += classify(models, items, prepare, view_plain, benchmark="imagenet", **how)
        check_baseline(log, "imagenet")
        n = min(args.imagenet_c_images, args.limit or args.imagenet_c_images)
        items, _ = imagenet_items(places["imagenet"], n_classes, n, args.seed)
        prepare, view = partial(prepare_crop, pre=pre), partial(view_crops, **corruption)
        if args.corrupt_at == "original":
            prepare, view = partial(prepare_corrupted, **corruption), view_corrupted
            how["batch_size"] = max(1, args.eval_batch_size // len(CORRUPTIONS))
        bad += classify(models, items, prepare, view, benchmark="imagenet_c", **how)
        if not args.frost:
            not_run.append("frost with ImageNet-C's six textures: drawn ones were used, give --frost")
    else:
        not_run += [f"{name}: no data, give --imagenet" for name in ("ImageNet", "ImageNet-C")]
    if places["objectnet"] and classes:
        items, found = objectnet_items(places["objectnet"], classes)
        order = torch.randperm(len(items), generator=generator(args.seed, 3)).tolist()[:args.limit]
        how["batch_size"], items = args.eval_batch_size, [items[i] for i in sorted(order)]
        prepare = partial(prepare_objectnet, pre=pre)
        files += [item[0] for item in items]
        bad += classify(models, items, prepare, view_plain, benchmark="objectnet", **how)
        check_baseline(log, "objectnet")
    else:
        not_run.append("ObjectNet: no data, give --objectnet" if classes else
                       "ObjectNet: the model's classes are unknown, give --imagenet too")
    return not_run, bad, found, files


@torch.no_grad()
def save_examples(models: dict[str, nn.Module], images: list[GazeImage], pre: Preprocess, folder: Path,
                  device: torch.device) -> None:
    """EXAMPLES images, evenly spread over the quarter that gained most, as uint8, with human, A, B maps."""
    names, cc = paired_values(read_rows(folder / "per_image.csv"), "cc")
    ranked = [names[i][0] for i in np.argsort(cc["A"] - cc["B"])]
    wanted = ranked[:max(len(ranked) // 4, EXAMPLES)][::max(len(ranked) // (4 * EXAMPLES), 1)][:EXAMPLES]
    data = GazeData([i for name in wanted for i in images if i.name == name], pre)
    items = [data[i] for i in range(len(data))]
    x, human = torch.stack([v[1] for v in items]), human_maps(torch.stack([v[2] for v in items]))
    maps = {k: models[k](x.to(device))[1] for k in ("A", "B")}
    pictures = np.stack([np.asarray(TF.resize(read_image(i.path), list(MAP_SIZE))) for i in data.images])
    save_arrays(folder / "examples.npz", images=pictures, human=human, **maps)


# -------------------------------------------------------------------------------- statistics

def consistency_tests(rows: list[dict], human: list[dict]) -> tuple[list[dict], list[dict], list[dict]]:
    """(headline, tests, quartiles) of the relation between gain in CC and the observers' agreement."""
    agreement = {r["image"]: r["consistency"] for r in human if r["consistency"] != ""}
    items, cc = paired_values([r for r in rows if r["image"] in agreement], "cc")
    c = np.array([agreement[i] for i, in items])
    if not len(c):
        return [], [], []
    headline = [result_row("inter-observer consistency", c, None)]
    if len(c) < 4 or not {"A", "B"} <= set(cc):
        return headline, [], []
    gain, head = cc["B"] - cc["A"], (cc["B"] - cc["A"]) / (1 - cc["A"] + HEADROOM_EPS)
    tests = [dict(test="Pearson r", x="consistency", y=y, n=len(c), r=float(r.statistic), p=float(r.pvalue),
                  ci=tuple(map(float, r.confidence_interval())))
             for y, v in [*((f"CC of {k}", v) for k, v in cc.items()), ("gain B - A", gain),
                          ("headroom-normalised gain", head)] for r in [stats.pearsonr(c, v)]]
    r = next(t for t in tests if t["y"] == "gain B - A")
    headline.append(dict(name="r(gain, consistency)", paper=PAPER_GAIN_R, ours=r["r"], ci=r["ci"], n=len(c)))
    headline.append(result_row("headroom gain", head, None))
    rank, quartiles = np.argsort(np.argsort(c, kind="stable"), kind="stable"), []  # ties in the rows' order
    quarter = rank * 4 // len(c)
    for q in range(4):
        part = quarter == q
        gains = {"gain_A": gain[part], "headroom": head[part]} | (
            {"gain_C": cc["B"][part] - cc["C"][part]} if "C" in cc else {})
        quartiles.append(dict(quartile=q + 1, n=int(part.sum()), consistency=float(c[part].mean())))
        quartiles[-1] |= {k: float(v.mean()) for k, v in gains.items()}
        quartiles[-1] |= {f"{k}_sem": float(stats.sem(v)) for k, v in gains.items()}
    return headline, tests, quartiles


def summarise(folder: Path, trained: str) -> dict:
    """Everything that results.json says, from the tables in the folder. trained: the models made there."""
    rows = read_rows(folder / "per_image.csv")
    headline, tests, quartiles, gain = [], [], [], []
    if rows:
        headline, tests = alignment_tables(rows, ("BA", "BC", "CA"))
        gain = gain_shares(rows, read_rows(folder / "categories.csv"), PAPER_GAIN)
    human = read_rows(folder / "consistency" / "per_image.csv")
    if rows and human:
        more, found, quartiles = consistency_tests(rows, human)
        gain, tests = gain + more, tests + found
    benchmark = read_rows(folder / "benchmark" / "per_image.csv")
    more, found = parity_tests(benchmark, BENCHMARKS, PAPER_BF01) if benchmark else ([], [])
    training = {k: read_json(folder / f"tuned_{k}.json") for k in trained
                if (folder / f"tuned_{k}.json").exists()}
    return dict(headline=headline + gain + more, tests=tests + found, quartiles=quartiles, training=training)


# -------------------------------------------------------------------------------- figures

def draw_1b(folder: Path) -> None:
    """fig_1B: images, fixations, rollouts of A and B, and B - A of maps that sum to one."""
    data = read_arrays(folder / "examples.npz")
    images, human, a, b = (data[k] for k in ("images", "human", "A", "B"))
    fig, axes = figure_grid(len(images), 5, 1.68, 1.65)
    share = [m / m.sum((1, 2), keepdims=True) * m[0].size for m in (a, b)]
    change = share[1] - share[0]
    top = np.quantile(np.abs(change), .995)
    for row, image, *maps in zip(axes, images, human, a, b, change):
        row[0].imshow(image)
        for ax, m in zip(row[1:4], maps):
            ax.imshow(image.mean(2), cmap="gray")
            ax.imshow(m, cmap="inferno", alpha=.75, vmin=0, vmax=1)
        row[4].imshow(image.mean(2), cmap="gray")
        mappable = row[4].imshow(maps[3], cmap="coolwarm", alpha=.75, vmin=-top, vmax=top)
    for ax, title in zip(axes[0], ("image", "fixations", "rollout, A", "rollout, B", "B - A")):
        ax.set_title(title, fontsize=9)
    for ax in axes.flat:
        ax.axis("off")
    fig.colorbar(mappable, ax=axes[:, 4], shrink=.7, label="change (1 = the mean attention)")
    save_figure(fig, folder / "fig_1B")


def draw_alignment(folder: Path, rows: list[dict]) -> None:
    """fig_2A: the five metrics, +-1 SEM; fig_2B: CC of B against A by image and, with C, by category."""
    fig, axes = new_figure(5, 1.7, 2.6)
    draw_metrics(axes, rows)
    save_figure(fig, folder / "fig_2A")
    if {"A", "B"} <= {r["condition"] for r in rows}:
        save_figure(draw_gain(rows, read_rows(folder / "categories.csv")), folder / "fig_2B")


def draw_2c(folder: Path, rows: list[dict], human: list[dict], quartiles: list[dict]) -> None:
    """fig_2C: gain in CC against the observers' agreement; mean gain over A and C by quartile, +-1 SEM."""
    agreement = {r["image"]: r["consistency"] for r in human if r["consistency"] != ""}
    items, cc = paired_values([r for r in rows if r["image"] in agreement], "cc")
    x, gain = np.array([agreement[i] for i, in items]), cc["B"] - cc["A"]
    fig, axes = new_figure(2, 3.6)
    axes[0].scatter(x, gain, s=6, color=PALETTE["B"], alpha=.6, linewidths=0)
    fit, ends = np.polyfit(x, gain, 1), np.array([x.min(), x.max()])
    axes[0].plot(ends, np.polyval(fit, ends), color="black", linewidth=1)
    axes[0].axhline(0, color="black", linewidth=.5, linestyle=":")
    axes[0].set(xlabel="inter-observer consistency (CC)", ylabel="gain in CC, B - A",
                title=f"r = {np.corrcoef(x, gain)[0, 1]:.2f}, n = {len(x)}")
    for key, label, shift in (("gain_A", "B - A", -.2), ("gain_C", "B - C", .2)):
        if key in quartiles[0]:
            axes[1].bar([r["quartile"] + shift for r in quartiles], [r[key] for r in quartiles], .38,
                        yerr=[r[f"{key}_sem"] for r in quartiles], capsize=3, label=label,
                        color=PALETTE["B" if key == "gain_A" else "C"])
    axes[1].set(xlabel="quartile of consistency", ylabel="gain in CC, mean ±1 SEM", xticks=range(1, 5))
    axes[1].legend(frameon=False)
    save_figure(fig, folder / "fig_2C")


def draw_benchmarks(folder: Path, rows: list[dict], headline: list[dict], tests: list[dict]) -> None:
    """fig_4A: accuracies, 95 % intervals; fig_4B: Bayes factors on Jeffreys' scale."""
    present = [k for k in BENCHMARKS if any(r["benchmark"] == k for r in rows)]
    fig, (ax,) = new_figure(1, 4.2)
    for i, k in enumerate(sorted({r["condition"] for r in rows})):
        found = {h["name"]: h for h in headline}
        bars = [found[f"{BENCHMARKS[b]} top-1, {k}"] for b in present]
        y = np.array([h["ours"] for h in bars])
        ci = np.array([h["ci"] for h in bars]).T
        ax.bar(np.arange(len(present)) + .27 * i - .27, y, .25, color=PALETTE[k], label=k, capsize=2,
               yerr=np.abs(ci - y))
    ax.set(xticks=range(len(present)), xticklabels=[BENCHMARKS[b] for b in present],
           ylabel="top-1 accuracy (%), 95 % CI", ylim=(0, 100))
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(.5, 1))
    save_figure(fig, folder / "fig_4A")
    parity = [t for t in tests if t["test"] == "parity" and t["pair"] == "B - A"]
    if not parity:
        return
    fig, (ax,) = new_figure(1, 4.6)
    forms = dict(unit_information="unit information", jzs_r1="JZS, r = 1", jzs_r707="JZS, r = 0.707")
    for i, (form, label) in enumerate(forms.items()):
        y = [t["log_bf01"][form] / math.log(10) for t in parity]
        ax.plot(range(len(parity)), y, "os^"[i], label=label, color=PALETTE["B"],
                markerfacecolor=("none", PALETTE["B"], PALETTE["C"])[i])
    for bound, label in JEFFREYS.items():
        ax.axhline(math.log10(bound), color="black", linewidth=.5, linestyle=":")
        ax.text(len(parity) - .45, math.log10(bound) + .02, label, fontsize=7, va="bottom")
    ax.axhline(0, color="black", linewidth=.8)
    ax.set(xticks=range(len(parity)), ylabel="log10 BF01 (> 0: B = A)",
           xlim=(-.5, len(parity)),
           xticklabels=[f"{BENCHMARKS[t['benchmark']]}\n{t['n']:,} pairs" for t in parity])
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(.5, 1))
    save_figure(fig, folder / "fig_4B")


def draw_4c(folder: Path, rows: list[dict]) -> None:
    """fig_4C: accuracy of B against A by corruption and by class; green: B is better, red: A."""
    groups = [g for g in (("imagenet_c", "view", "corruptions"), ("imagenet", "class", "classes"))
              if any(r["benchmark"] == g[0] for r in rows)]
    fig, axes = new_figure(max(len(groups), 1), 3.4)
    for ax, (benchmark, field, label) in zip(axes, groups):
        sums: dict[str, list] = {}
        for r in rows:
            if r["benchmark"] == benchmark and r["condition"] in "AB":
                sums.setdefault(str(r[field]), {"A": [], "B": []})[r["condition"]].append(r["correct"])
        a, b = (100 * np.array([np.mean(v[k]) for v in sums.values()]) for k in "AB")
        colour = np.where(b > a, PALETTE["B"], np.where(b < a, PALETTE["A"], PALETTE["C"]))
        ax.scatter(a, b, s=14, c=colour)
        diagonal(ax, a, b)
        ax.set(xlabel="accuracy of A (%)", ylabel="accuracy of B (%)", title=f"{len(a)} {label}")
    save_figure(fig, folder / "fig_4C")


def draw_all(folder: Path) -> None:
    """The figures whose tables the folder holds."""
    found, rows = summarise(folder, ""), read_rows(folder / "per_image.csv")
    human, benchmark = (read_rows(folder / k / "per_image.csv") for k in ("consistency", "benchmark"))
    if list(folder.glob("tuned_[BC].csv")):
        draw_training(folder)
    if (folder / "examples.npz").exists():
        draw_1b(folder)
    if rows:
        draw_alignment(folder, rows)
    if found["quartiles"]:
        draw_2c(folder, rows, human, found["quartiles"])
    if benchmark:
        draw_benchmarks(folder, benchmark, found["headline"], found["tests"])
        if any(r["condition"] == "B" for r in benchmark):
            draw_4c(folder, benchmark)


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argument_parser(__doc__)
    add_common_args(p, batch_size=8)
    add = add_gaze_args(p, STAGES, DATA, PAPER, DEMO)
    add("--model-c", type=Path, help="the same of C")
    add("--severity", type=int, choices=range(1, 6), help="of the corruptions (paper: 5)")
    add("--corrupt-at", choices=["original", "crop"], default="original",
        help="before resizing (paper; default), or the 224 crop in batches (ImageNet-C's own way)")
    add("--imagenet-c-images", type=int, help="size of the random subset (paper: 5000)")
    add("--frost", type=Path, help="folder of ImageNet-C's six frost textures (default: drawn)")
    args = fill_in(p.parse_args(argv), DATA, PAPER, DEMO)
    if args.frost:
        try:
            frost_textures(args.frost)  # a wrong folder ends the run now, not in an hour
        except (OSError, ValueError) as error:
            raise InputError(f"--frost: {error}") from error
    return args


def tune_stage(args: argparse.Namespace, vit: nn.Module, places: dict, pre: Preprocess, folder: Path
               ) -> dict[str, list[str]]:
    """Stages B and C, from copies of vit; the names of images left out, by reason."""
    images, skipped = load_gaze(places["salicon"], "train", places["coco"], args.limit)
    recipe = Recipe(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Recipe)})
    images, features, bad = gaze_features(RolloutViT(vit), images, pre, vit.cls_token.device, args.workers)
    for k in [k for k in "BC" if k in args.stages]:
        stem = folder / f"tuned_{k}"
        if not (args.resume and stem.with_suffix(".pth").exists()):
            tune(copy.deepcopy(vit), pre, images, features, k == "C", recipe, stem, args.workers, args.resume,
                 half=args.data == "demo")
    return skipped | {"train, unreadable": bad}


def load_models(args: argparse.Namespace, vit: nn.Module, folder: Path) -> tuple[dict, list[str]]:
    """{"A", "B", "C": RolloutViT} as far as there are weights, A of vit; parts not run."""
    models, not_run = {"A": RolloutViT(vit).eval()}, []
    for k, given in (("B", args.model_b), ("C", args.model_c)):
        file, shipped = given or folder / f"tuned_{k}.pth", ROOT / "checkpoints" / f"demo_{k}.pth"
        if not given and not file.exists() and args.data == "demo" and shipped.exists():
            file = shipped
            print(f"No training in {folder}: model {k} is checkpoints/{file.name}.")
        if file.exists() or given:
            models[k] = RolloutViT(load_tuned(vit, file)).eval()
        else:
            not_run.append(f"model {k}: not trained yet, run --stages {k} or give --model-{k.lower()}")
    return models, not_run


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    rank, _ = init_distributed(device)
    places = {} if args.plot_only else data_places(args, DATA, ("imagenet", "objectnet", "salicon"))
    folder = open_run(args, "exp01_finetune_vit", ("align", "consistency", "benchmark"))
    if args.plot_only:
        return redraw(folder, lambda results: draw_all(folder))
    vit, pre = load_vit(args.model, args.weights)
    vit = vit.to(device)
    squash = dataclasses.replace(pre, crop=MAP_SIZE, squash=True, interpolation="bilinear")  # of gaze images
    skipped, not_run, objectnet = left_out_before(folder, args.resume), [], {}
    files = gaze_files(places["salicon"])
    if not places["salicon"]:
        not_run.append("tuning, alignment, consistency: no data, give --salicon")
    elif {"B", "C"} & set(args.stages):
        skipped |= tune_stage(args, vit, places, squash, folder)
    models, missing = load_models(args, vit, folder)
    not_run += missing
    if places["salicon"] and {"align", "consistency"} & set(args.stages):
        images, more = load_gaze(places["salicon"], "val", places["coco"], args.limit)
        skipped |= more
        if "align" in args.stages:
            skipped["val, unreadable"], parts = align_stage(
                models, images, places["coco"], squash, folder, args.resume, device=device,
                batch_size=args.eval_batch_size, workers=args.workers)
            not_run += parts
            if rank == 0 and "B" in models:
                save_examples(models, images, squash, folder, device)
        if "consistency" in args.stages:
            measure_consistency(images, log := RowLog(folder / "consistency", args.resume))
            log.merge()
    if "benchmark" in args.stages:
        log = model_log(folder / "benchmark", models, args.resume)
        parts, bad, objectnet, more = run_benchmarks(models, pre, places, args, log, device)
        log.merge()
        skipped["benchmark, unreadable"], not_run, files = bad, not_run + parts, files + more
    tuned = [getattr(args, f"model_{k.lower()}") or folder / f"tuned_{k}.pth" for k in "BC"]
    files += [*coco_files(places["coco"], "val"), *(p for p in tuned if p.exists())]
    found = summarise(folder, "B" * (not args.model_b) + "C" * (not args.model_c))
    results = write_results(
        folder, "exp01_finetune_vit", args.data or "files", found.pop("headline"), args, time.time() - began,
        device, found.pop("tests"), not_run, files, skipped={k: v for k, v in skipped.items() if v},
        objectnet=objectnet, **found)
    if rank == 0:
        if "figures" in args.stages:
            draw_all(folder)
        print_paper_vs_ours(results)


if __name__ == "__main__":
    cli(main)
