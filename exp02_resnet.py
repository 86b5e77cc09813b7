"""exp02: a ResNet-50 tuned on human fixations as exp01 tunes a Vision Transformer, and what that costs.

Knights (2026), "Cognitive alignment at no cost: inducing human attention biases for interpretable Vision
Transformers", arXiv 2604.20027, CNN replication. Model A: ResNet-50, frozen. B: A with layer4 tuned so that
its Grad-CAM matches where people looked (SALICON) while its pooled vector stays A's. Measured: agreement with
fixations (CC, NSS, AUC-Judd, KL, SIM) and top-1 accuracy on ImageNet. `diff exp01_finetune_vit.py
exp02_resnet.py` shows what the CNN changes.

Commands
    laptop, demo world    python exp02_resnet.py
    one GPU               python exp02_resnet.py --salicon SALICON --coco COCO --imagenet IMAGENET
    eight GPUs            torchrun --nproc_per_node 8 exp02_resnet.py (the same)
    some stages           ... --stages B align (of: B align benchmark figures); more: + --resume
    own fixations (OSIE)  python exp02_resnet.py --salicon OSIE
    own network           python exp02_resnet.py --salicon SALICON --weights resnet50-0676ba61.pth
    batch norm's part     python exp02_resnet.py --batch-norm all
    go on after a kill    the same command with --resume
    redraw                the same command with --plot-only
Data: as exp01's. SALICON/fixations_{train,val}2014.json and images in SALICON/images/ or
COCO/{train,val}2014/; COCO/annotations/instances_val2014.json (gain by category); IMAGENET/val/<wnid>/; or
OSIE/fixations.mat and OSIE/stimuli/. A part without its data is reported as not run. --data FOLDER: one that
holds salicon/, coco/ and imagenet/.
Result, in runs/exp02_resnet/<tag>/ or --out: tuned_B.pth (layer4, batch norm's statistics), tuned_B.csv
(losses), per_image.csv (alignment), benchmark/per_image.csv, categories.csv, results.json; from these files
fig_5B (metrics, accuracy), fig_5C (gain by image and category), fig_training (.png, .pdf).
Grad-CAM alone: grad_cam(model, images, target).

The paper, A -> B: CC .39 -> .11, NSS .49 -> .13, AUC .74 -> .58, KL .90 -> 1.86, SIM .59 -> .45, ImageNet
80.3 -> 68.7 %; B above A on about 15 % of the images and in one category.
The demo's ResNet, tuned by the same recipe for 81 steps: CC .26 -> .37, NSS .48 -> .67, AUC .66 -> .70, KL
7.48 -> 0.73, SIM .38 -> .55, accuracy 88.5 -> 34.7 %: the cost without the loss of alignment (2.5 minutes of
one core, 1.4 GB).

Batch norm: the statistics of every block, frozen or tuned, stay the pretrained ones in all passes, so a map
depends on its own image alone; layer4's gains and offsets are tuned with its convolutions, the others are
frozen. --batch-norm layer4, or all: in training passes these blocks normalise by the batch and move their
running statistics, as a training loop does that calls model.train(): the frozen blocks' then drift too, and
in the demo the loss only rises, so that the untuned weights are kept.
Departures, and choices where the paper is silent: torchvision's IMAGENET1K_V2; ImageNet's mean and standard
deviation; Grad-CAM of the class that the model itself predicts, from its logit; KL(human || Grad-CAM)
(--kl model: the reverse); a map without any positive value is 0 everywhere (uniform in the loss), and
counted; held-out set, weight decay and first validation as in exp01; no control C, as in the paper.
"""
from __future__ import annotations

import argparse
import copy
import dataclasses
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from common import (InputError, Preprocess, init_distributed, load_resnet, minmax, pick_device, rank_world,
                    upsample)
from gaze_tuning import (Classifier, GazeData, GazeImage, GazeTuner, MAP_SIZE, Recipe, add_gaze_args,
                         align_stage, alignment_tables, check_baseline, classify, coco_files, data_places,
                         draw_gain, draw_metrics, draw_training, fill_in, gain_shares, gaze_features,
                         gaze_files, held_out_split, imagenet_items, left_out_before, load_gaze, load_tuned,
                         model_log, open_run, paired_values, parity_tests, prepare_plain, run_tuner,
                         set_trainable, view_plain)
from legacy import (PALETTE, RowLog, add_common_args, argument_parser, cli, new_figure, print_paper_vs_ours,
                     read_json, read_rows, redraw, save_figure, write_results)

# -------------------------------------------------------------------------------- constants

PAPER = dict(lr=5e-6, epochs=20, eval_every=200, patience=3, min_delta=1e-3, weight_decay=.01, lam=.01,
             model="resnet50")  # Generalisability to CNN Architectures; the rest is exp01's
DEMO = PAPER | dict(epochs=3, eval_every=27, model="demo_resnet")
DATA = "salicon", "coco", "imagenet"
STAGES = "B", "align", "benchmark", "figures"
BENCHMARKS = {"imagenet": "ImageNet"}
TUNED = "layer4."  # the one block that is trained
MOVING_NORMS = {"fixed": (), "layer4": TUNED, "all": ""}  # prefix of the batch norms that follow the batch
BENCHMARK_RESIZE = 256  # px, short side (Benchmark); torchvision's own for these weights is 232
PAPER_MEANS = dict(zip(((m, k) for m in ("cc", "nss", "auc", "kl", "sim") for k in "AB"),
                       (.39, .11, .49, .13, .74, .58, .90, 1.86, .59, .45)))  # CNN Replication
PAPER_TOP1 = {("imagenet", "A"): 80.3, ("imagenet", "B"): 68.7}  # %
PAPER_GAIN = {"images": 15., "COCO categories": 100 / 80}  # %; about 15, one category


# -------------------------------------------------------------------------------- model

def features_and_cam(model: nn.Module, x: Tensor, target: Tensor | None = None, layer: str = "layer4",
                     create_graph: bool = False) -> tuple[Tensor, Tensor]:
    """Pooled vector (B, D) and Grad-CAM (B, h, w) of a torchvision ResNet, from one forward pass."""
    parts = dict(model.named_children())  # conv1 ... layer4, avgpool, fc: in the order of the forward pass
    names = list(parts)
    cut = names.index(layer) + 1
    with torch.set_grad_enabled(create_graph):
        for name in names[:cut]:
            x = parts[name](x)
    with torch.enable_grad():  # also inside torch.no_grad()
        maps = x if x.requires_grad else x.requires_grad_()  # (B, K, h, w)
        for name in names[cut:-1]:
            x = parts[name](x)
        features = x.flatten(1)  # (B, D)
        logits = parts[names[-1]](features)
        target = logits.argmax(1) if target is None else target
        score = logits.gather(1, target[:, None]).sum()  # images do not mix: each has its own gradient
        (gradient,) = torch.autograd.grad(score, maps, create_graph=create_graph)
    weights = gradient.mean((2, 3))  # (B, K)
    cam = torch.relu(torch.einsum("bk,bkhw->bhw", weights, maps))
    return (features, cam) if create_graph else (features.detach(), cam.detach())


def grad_cam(model: nn.Module, x: Tensor, target: Tensor | None = None, layer: str = "layer4",
             create_graph: bool = False) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017): ReLU(sum_k mean_hw(d score / d A_k) A_k), (B, h, w), not normalised.

    A_k: maps of `layer` of a torchvision ResNet; x (B, 3, img_h, img_w); score: the logit of class target
    (B,), None: of the predicted class. create_graph: differentiable in the weights, through the gradient too.
    (After layer4 only pooling and a linear layer follow: there the map is the class's weighted sum, CAM.)
    """
    return features_and_cam(model, x, target, layer, create_graph)[1]


class GradCamResNet(nn.Module):
    """forward(x (B, 3, img_h, img_w)) -> pooled vector (B, D), Grad-CAM up-sampled to `size` and min-max
    normalised (B, *size): what exp02 tunes. Second-order graph where gradients are enabled.

    batch_norm: the blocks that use and move batch statistics in train mode: fixed (none), layer4, all.
    """

    def __init__(self, resnet: nn.Module, batch_norm: str = "fixed", size: tuple[int, int] = MAP_SIZE):
        super().__init__()
        self.resnet, self.batch_norm, self.size = resnet, batch_norm, size

    def train(self, mode: bool = True) -> GradCamResNet:
        super().train(False)
        for name, m in self.resnet.named_modules():
            if isinstance(m, nn.BatchNorm2d) and name.startswith(MOVING_NORMS[self.batch_norm]):
                m.train(mode)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features, cam = features_and_cam(self.resnet, x, create_graph=torch.is_grad_enabled())
        return features, minmax(upsample(cam, self.size))


def tuned_state(resnet: nn.Module) -> dict[str, Tensor]:
    """Weights of layer4, and the running statistics of all batch norms: what a tuned model is made of."""
    return {k: v for k, v in resnet.state_dict().items()
            if k.startswith(TUNED) and "num_batches" not in k or "running" in k}


def tunable(resnet: nn.Module) -> tuple[int, int]:
    """Only layer4, with its batch norms' gains and offsets, takes gradients; (their number, all)."""
    return set_trainable(resnet, [k for k, _ in resnet.named_parameters() if k.startswith(TUNED)])


def tune(resnet: nn.Module, pre: Preprocess, images: list[GazeImage], teacher: Tensor, batch_norm: str,
         recipe: Recipe, stem: Path, workers: int, resume: bool) -> dict:
    """Train B from resnet; writes stem.pth, stem.csv and stem.json. The record."""
    if batch_norm != "fixed" and rank_world()[1] > 1:
        raise InputError(f"--batch-norm {batch_norm} on {rank_world()[1]} processes: the statistics of a "
                         "batch need the whole batch; use one process.")
    tunable(resnet)
    tuner = GazeTuner(GradCamResNet(resnet, batch_norm), GazeData(images, pre), teacher,
                      *held_out_split(len(images), recipe.seed), recipe, stem.with_suffix(".pt"), workers)
    return run_tuner(tuner, stem, partial(tuned_state, resnet), resume)


# -------------------------------------------------------------------------------- measure

def run_benchmarks(models: dict[str, nn.Module], pre: Preprocess, places: dict, args: argparse.Namespace,
                   log: RowLog, device: torch.device) -> tuple[list[str], list[str], list[Path]]:
    """(parts not run, unreadable images, files); rows into log."""
    if not places["imagenet"]:
        return ["ImageNet: no data, give --imagenet"], [], []
    n_classes = models["A"].resnet.fc.out_features
    pre = dataclasses.replace(pre, resize=BENCHMARK_RESIZE) if args.model == PAPER["model"] else pre
    models = {k: Classifier(m.resnet, args.dtype == "bfloat16") for k, m in models.items()}
    items, _ = imagenet_items(places["imagenet"], n_classes, args.limit, args.seed)
    bad = classify(models, items, partial(prepare_plain, pre=pre), view_plain, log, "imagenet", device,
                   args.eval_batch_size, args.workers)
    check_baseline(log, "imagenet")
    return [], bad, [item[0] for item in items]


# -------------------------------------------------------------------------------- statistics

def blank_maps(rows: list[dict]) -> list[dict]:
    """Headline rows: share of images whose Grad-CAM has no positive value, which no metric can rank."""
    _, cc = paired_values(rows, "cc")
    return [dict(name=f"blank Grad-CAMs, {k}", ours=100 * float((v == 0).mean()), n=len(v), unit="%")
            for k, v in cc.items()]


def summarise(folder: Path, trained: str) -> dict:
    """Everything that results.json says, from the tables in the folder. trained: the models made there."""
    rows, benchmark = (read_rows(folder / k) for k in ("per_image.csv", "benchmark/per_image.csv"))
    headline, tests, gain = [], [], []
    if rows:
        headline, tests = alignment_tables(rows, ("BA",), PAPER_MEANS)
        gain = gain_shares(rows, read_rows(folder / "categories.csv"), PAPER_GAIN) + blank_maps(rows)
    more, found = parity_tests(benchmark, BENCHMARKS, PAPER_TOP1) if benchmark else ([], [])
    training = {k: read_json(folder / f"tuned_{k}.json") for k in trained
                if (folder / f"tuned_{k}.json").exists()}
    return dict(headline=headline + gain + more, tests=tests + found, training=training)


# -------------------------------------------------------------------------------- figures

def draw_alignment(folder: Path, rows: list[dict], headline: list[dict]) -> None:
    """fig_5B: the five metrics, +-1 SEM, and top-1 accuracy, 95 % interval; fig_5C: CC of B against A by
    image and by category."""
    accuracy = {k: h for h in headline for k in "AB" if h["name"] == f"ImageNet top-1, {k}"}
    fig, axes = new_figure(6 if accuracy else 5, 1.7, 2.6)
    draw_metrics(axes, rows)
    for i, (k, h) in enumerate(accuracy.items()):
        axes[5].bar(i, h["ours"], yerr=np.abs(np.array(h["ci"]) - h["ours"])[:, None], color=PALETTE[k],
                    capsize=3)
    if accuracy:
        axes[5].set(xticks=range(len(accuracy)), xticklabels=accuracy, ylim=(0, 100), title="ImageNet",
                    ylabel="top-1 (%), 95 % CI")
    save_figure(fig, folder / "fig_5B")
    if {"A", "B"} <= {r["condition"] for r in rows}:
        save_figure(draw_gain(rows, read_rows(folder / "categories.csv")), folder / "fig_5C")


def draw_all(folder: Path) -> None:
    """The figures whose tables the folder holds."""
    found, rows = summarise(folder, ""), read_rows(folder / "per_image.csv")
    if list(folder.glob("tuned_B.csv")):
        draw_training(folder)
    if rows:
        draw_alignment(folder, rows, found["headline"])


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argument_parser(__doc__)
    add_common_args(p, batch_size=8)
    add = add_gaze_args(p, STAGES, DATA, PAPER, DEMO)
    add("--batch-norm", choices=list(MOVING_NORMS), default="fixed",
        help="blocks that use and move batch statistics in training passes (%(default)s: none)")
    return fill_in(p.parse_args(argv), DATA, PAPER, DEMO)


def tune_stage(args: argparse.Namespace, resnet: nn.Module, places: dict, pre: Preprocess, folder: Path
               ) -> dict[str, list[str]]:
    """Stage B, from a copy of resnet; the names of images left out, by reason."""
    images, skipped = load_gaze(places["salicon"], "train", places["coco"], args.limit)
    recipe = Recipe(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Recipe)})
    images, features, bad = gaze_features(GradCamResNet(resnet), images, pre, resnet.fc.weight.device,
                                          args.workers)
    stem = folder / "tuned_B"
    if not (args.resume and stem.with_suffix(".pth").exists()):
        tune(copy.deepcopy(resnet), pre, images, features, args.batch_norm, recipe, stem, args.workers,
             args.resume)
    return skipped | {"train, unreadable": bad}


def load_models(args: argparse.Namespace, resnet: nn.Module, folder: Path) -> tuple[dict, list[str]]:
    """{"A", "B": GradCamResNet} as far as there are weights, A of resnet; parts not run."""
    models, not_run = {"A": GradCamResNet(resnet).eval()}, []
    file = args.model_b or folder / "tuned_B.pth"
    if file.exists() or args.model_b:
        models["B"] = GradCamResNet(load_tuned(resnet, file, tuned_state)).eval()
    else:
        not_run.append("model B: not trained yet, run --stages B or give --model-b")
    return models, not_run


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    rank, _ = init_distributed(device)
    places = {} if args.plot_only else data_places(args, DATA, ("imagenet", "salicon"))
    folder = open_run(args, "exp02_resnet", ("align", "benchmark"))
    if args.plot_only:
        return redraw(folder, lambda results: draw_all(folder))
    resnet, pre = load_resnet(args.model, args.weights)
    resnet = resnet.to(device)
    squash = dataclasses.replace(pre, crop=MAP_SIZE, squash=True, interpolation="bilinear")  # of gaze images
    skipped, not_run = left_out_before(folder, args.resume), []
    files = gaze_files(places["salicon"])
    if not places["salicon"]:
        not_run.append("tuning, alignment: no data, give --salicon")
    elif "B" in args.stages:
        skipped |= tune_stage(args, resnet, places, squash, folder)
    models, missing = load_models(args, resnet, folder)
    not_run += missing
    if places["salicon"] and "align" in args.stages:
        images, more = load_gaze(places["salicon"], "val", places["coco"], args.limit)
        skipped |= more
        skipped["val, unreadable"], parts = align_stage(
            models, images, places["coco"], squash, folder, args.resume, device=device,
            batch_size=args.eval_batch_size, workers=args.workers)
        not_run += parts
    if "benchmark" in args.stages:
        log = model_log(folder / "benchmark", models, args.resume)
        parts, bad, more = run_benchmarks(models, pre, places, args, log, device)
        log.merge()
        skipped["benchmark, unreadable"], not_run, files = bad, not_run + parts, files + more
    tuned = args.model_b or folder / "tuned_B.pth"
    files += [*coco_files(places["coco"], "val"), *[tuned] * tuned.exists()]
    found = summarise(folder, "" if args.model_b else "B")
    results = write_results(
        folder, "exp02_resnet", args.data or "files", found.pop("headline"), args, time.time() - began,
        device, found.pop("tests"), not_run, files, skipped={k: v for k, v in skipped.items() if v},
        batch_norm=args.batch_norm, **found)
    if rank == 0:
        if "figures" in args.stages:
            draw_all(folder)
        print_paper_vs_ours(results)


if __name__ == "__main__":
    cli(main)
