"""exp04: does the attention of a self-supervised Vision Transformer tell where to look to recognise an image?

Dallain, Rodriguez, Perrinet & Miramond (2026), "A saccade-inspired approach to image classification using
vision transformer attention maps" (arXiv 2603.09613). One pass of DINO over the whole image gives its last
CLS attention map. The maximum is fixated, a fovea of 3x3 or 5x5 tokens is revealed and suppressed in the map,
and so on, ten times; after every saccade the same network classifies the image from the revealed tokens
alone. Random maps are the control.

Commands
    laptop, demo world    python exp04_saccades.py
    one fovea, one block  python exp04_saccades.py --fovea 5 --layer 11
    blocks, resolutions   python exp04_saccades.py --sweep --limit 40
    one GPU, the paper    python exp04_saccades.py --data IMAGENET --sweep --saliency --dtype bfloat16
    eight GPUs            torchrun --nproc_per_node 8 exp04_saccades.py --data IMAGENET --sweep --saliency
    own images            python exp04_saccades.py --data FOLDER --model dino_vits16 --train-head

The paper: 77.0 % on full images (DINO ViT-S/16, its published head); attention above random at every saccade,
with fewer tokens, close to the full image with less than half of it seen. On the demo: 94.0 %; attention
minus random, fovea 3, at saccades 1, 2, 3 and 10: 36.5, 37.5, 26.5 and 3.5 points; 93 % of the images correct
in full are so with less than half seen. Our choices where the paper is silent: the fovea is cut at the
border, hidden tokens are dropped, not blanked, certainty is 1 - H / log(classes), entropy is in bits. The
paper's claims, row by row: exp04_claims.py. Attention: look(); saccades: fixation_sequence(); what is seen of
the image: forward_visible(); the answer: classify(); all of them, image by image: measure().
"""
from __future__ import annotations

import argparse
import copy
import math
import runpy
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from matplotlib import colormaps
from torch import Tensor

import data
import exp04_claims as study
from common import (InputError, VisionTransformer, fit_linear, generator, init_distributed, pick_device,
                    resize_matrix, upsample)
from exp04_claims import SACCADES, STEPS, condition
from results import (PALETTE, argument_parser, begin, cli, figure_grid, finish, in_batches, legend_beside,
                     only_draw, parse_args, redraw, save_checkpoint, save_figure, write_csv)
from weights import WEIGHTS, load_head, load_vit

# -------------------------------------------------------------------------------- constants

# Shapes: B images of a batch, n images of the run, C conditions, L blocks, D width, h, w patch grid.
PAPER = dict(model="dino_vits16")
DEMO = dict(model="demo_dino12", limit=200)  # of the demo world's 600 images
SUPPRESSED = -1.0  # value of a visited square in the map: below every attention (the paper: "negative")
FOVEAS = (3, 5)  # tokens a side: 48 and 80 px at patch 16
LOW_GRIDS = (12, 10, 8)  # tokens a side of the smaller inputs of --sweep: 192, 160, 128 px at patch 16
HEAD_L2 = 1e-3  # penalty on the standardised weights of --train-head
EXAMPLES = 6  # images in Fig 8, 9 and 13
FEWEST = 5  # images whose mean is drawn
NOT_RUN = dict(
    sweep="maps of every block and of smaller inputs (Fig 6, 17): add --sweep",
    saliency="other saliency models on larger images, ResNet crops (Fig 9 to 11): add --saliency")


# -------------------------------------------------------------------------------- data

def load_data(place: str, train_head: bool, limit: int | None, seed: int, workers: int
              ) -> tuple[list, list, list[str]]:
    """(images to test, images to fit a head on, names of the classes); an image is (path, label).
    train_head: a head will be fitted, on train/ or, without one, on a random half."""
    root = data.download.data_folder(place)
    if place == "demo":
        parts = ("imagenet", "training") if train_head else ("imagenet",)
        root = data.demo_folder(*parts, workers=max(workers, 1)) / "imagenet"
    items, classes = data.load_imagefolder(root)
    order = torch.randperm(len(items), generator=generator(seed, 1)).tolist()
    fit = []
    if train_head and (root / "train").is_dir() and (root / "val").is_dir():
        fit, _ = data.load_imagefolder(root / "train", classes)
    elif train_head:
        half = len(items) // 2
        fit = [items[i] for i in sorted(order[:half])]
        order = order[half:]
    items = [items[i] for i in sorted(order[:limit])]
    if len(items) < 2 or len(classes) < 2:
        raise InputError(f"--data {place}: {len(items)} images to test, {len(classes)} classes; expected "
                         "two at least of each: a folder of images for every class, a higher --limit.")
    return items, fit, classes


# -------------------------------------------------------------------------------- model

def fixation_sequence(att: Tensor, fovea: int, n: int, border: str = "clip") -> tuple[Tensor, Tensor]:
    """Saccades over maps att (B, h, w) >= 0: (fixations (B, n, 2) row, col; visible (B, n, h, w) bool).

    Each saccade goes to the maximum, reveals the fovea x fovea square around it and suppresses it in the map
    (inhibition of return). visible is cumulative. border: "clip" cuts the square at the border, "shift" moves
    it inside (the fixation stays the maximum). Ties: the first in row-major order. Values are checked on the
    CPU alone: elsewhere the processor would have to wait for them.
    """
    fits = torch.is_tensor(att) and att.ndim == 3
    if not fits or att.device.type == "cpu" and not (att >= 0).all():
        raise InputError("attention maps: expected a tensor (B, h, w) without NaN or negative values; "
                         "rescale them, and give a single map as map[None].")
    h, w = att.shape[1:]
    if fovea < 1 or fovea % 2 == 0 or fovea > min(h, w):
        raise InputError(f"fovea {fovea}: expected an odd number, at most {min(h, w)}, on a token grid of "
                         f"{h}x{w}.")
    half, rows, cols = fovea // 2, torch.arange(h, device=att.device), torch.arange(w, device=att.device)
    row, col = rows, cols  # of the square's centre, by the fixated row and column
    if border == "shift":
        row, col = rows.clamp(half, h - 1 - half), cols.clamp(half, w - 1 - half)
    near_row = (rows - row[:, None]).abs() <= half  # (h, h)
    near_col = (cols - col[:, None]).abs() <= half  # (w, w)
    squares = (near_row[:, None, :, None] & near_col[:, None]).flatten(0, 1)  # (h w, h, w), of every place
    left, seen, places, visible = att, torch.zeros_like(att, dtype=torch.bool), [], []  # (B, h, w) each
    for _ in range(n):
        places.append(left.flatten(1).argmax(1))  # (B,)
        square = squares[places[-1]]  # (B, h, w)
        left = left.masked_fill(square, SUPPRESSED)
        seen = seen | square
        visible.append(seen)
    place = torch.stack(places, 1)  # (B, n)
    return torch.stack([place // w, place % w], 2), torch.stack(visible, 1)


def forward_visible(model: VisionTransformer, x: Tensor, visible: Tensor, n_last: int = 4) -> Tensor:
    """CLS of the last n_last blocks, each after norm, oldest first, from the visible tokens alone.

    x (B, 3, img_h, img_w), visible (B, ..., h, w) bool -> (B, ..., n_last D). Only visible tokens are
    computed, with the position embeddings of their places: equal to a full pass with the other keys masked.
    For a mask of image i it is model.norm(model.encode(model.embed(x)[i:i+1, mask]).cls[:, -n_last:]).
    """
    return forward_seen(model, model.embed(x), visible.flatten(-2), n_last)


def forward_seen(model: VisionTransformer, patches: Tensor, seen: Tensor, n_last: int = 4) -> Tensor:
    """forward_visible of patches (B, N, D), as model.embed gives them, by masks seen (B, ..., N).

    The tokens of many masks stand behind one another in one pack, nothing is padded, and masks with the same
    number of tokens are neighbours, so that attention runs once for all of them.
    """
    shape, n_masks = seen.shape, seen[..., 0].numel() // len(patches)  # masks of an image
    tokens = torch.cat([model.prefix().expand(len(patches), -1, -1), patches], 1)
    del patches  # where nobody else holds them, their memory is free
    seen = F.pad(seen.flatten(0, -2), (model.n_prefix, 0), value=True)  # (M, N) with the prefix, M masks
    sizes, rank = seen.sum(1).sort(stable=True)  # tokens of each mask, ascending
    first = sizes.cumsum(0) - sizes  # where the CLS of each mask stands in the row of all seen tokens
    place = seen[rank].flatten().int().argsort(descending=True, stable=True)  # mask by mask; the hidden last
    image = rank // n_masks  # whose mask it is
    row = image[place // seen.shape[1]] * seen.shape[1] + place % seen.shape[1]  # of tokens.flatten(0, 1)
    sizes = sizes.cpu()
    longest = 512 if tokens.device.type == "cpu" else 2**18  # tokens a pack: a CPU's cache, 2 GB of a GPU
    out, start, end = tokens.new_empty(len(seen), n_last * model.embed_dim), 0, 0
    for n in (sizes.cumsum(0) // longest).unique_consecutive(return_counts=True)[1].tolist():
        some, begin = slice(start, start + n), end
        start, end = start + n, end + int(sizes[some].sum())
        pack = tokens.flatten(0, 1)[row[begin:end]]
        out[rank[some]] = encode_pack(model, pack, sizes[some], first[some] - begin, n_last)
    return out.unflatten(0, shape[:-1])


def encode_pack(model: VisionTransformer, pack: Tensor, sizes: Tensor, first: Tensor, n_last: int) -> Tensor:
    """forward_seen of M masks, (M, n_last D), whose tokens stand behind one another in pack (N, D): sizes
    (M,) says how many each has, ascending, first (M,) where its CLS is."""
    size, times = (v.tolist() for v in sizes.unique_consecutive(return_counts=True))
    x, turn = pack[None].split([model.embed_dim, pack.shape[1] - model.embed_dim], 2)
    cls = []
    for block in model.blocks:
        x, _ = block(x, turn=turn if model.rotary else None, groups=list(zip(times, size)))  # turn: of DINOv3
        cls.append(x[0, first])
    return model.norm(torch.stack(cls[-n_last:], 1)).flatten(1)


def look(model: VisionTransformer, x: Tensor, blocks: Sequence, n_last: int = 4) -> tuple[Tensor, Tensor]:
    """One full pass: features as forward_visible's (B, n_last D), and head-maximum maps (B, blocks, h, w)."""
    e = model.encode(model.embed(x), blocks)
    maps = torch.stack([row[..., model.n_prefix:].amax(1) for row in e.cls_attn], 1)  # (B, blocks, h w)
    grid = [s // model.patch_size for s in x.shape[-2:]]
    return model.norm(e.cls[:, -n_last:]).flatten(1), maps.float().unflatten(-1, grid)


def classify(head: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
    """(class, certainty) of features (..., d). Certainty = 1 - H / log(classes): 0 uniform, 1 one-hot."""
    log_p = head(features.float()).log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return log_p.argmax(-1), 1 - entropy / math.log(log_p.shape[-1])


def map_entropy(maps: Tensor) -> Tensor:
    """Shannon entropy in bits of maps (..., h, w), each divided by its sum; at most log2(h w). In float64 on
    the CPU, in float32 on an accelerator, where it stays: within 1e-5 bits."""
    p = maps.flatten(-2).to(torch.float64 if maps.device.type == "cpu" else torch.float32)
    p = p / p.sum(-1, keepdim=True)
    return 0 - torch.xlogy(p, p).sum(-1) / math.log(2)  # 0 minus, as -0.0 would be written as such


def load_model(name: str, weights: Path | None, head_file: Path | None, train_head: bool, block: int | None,
               foveas: Sequence[int] = (), heads: int | None = None
               ) -> tuple[VisionTransformer, Callable, nn.Linear | None, int]:
    """(model, preprocessing, head, block that guides). head: a file's, the published one, or the model's own,
    always in float32; None: to be fitted. InputError: no such block, foveas that do not fit the grid, images
    that are not square."""
    own = load_head(head_file) if head_file else None  # first: a wrong file ends the run before a download
    model, view = load_vit(name, weights, heads)
    depth, width = len(model.blocks), model.embed_dim
    block = depth - 1 if block is None else block
    if not 0 <= block < depth:
        raise InputError(f"--layer {block}: this model has blocks 0 to {depth - 1} (0-based).")
    if not isinstance(view.crop, int):
        raise InputError(f"{weights or name} takes images of {view.crop} px: expected square ones; saccades "
                         "are made on a square grid of tokens.")
    side = view.crop // model.patch_size
    for fovea in foveas:
        fixation_sequence(torch.ones(1, side, side), fovea, 1)  # refuses what does not fit
    if train_head and not own:
        return model, view, None, block
    head = own or copy.deepcopy(model.head)
    if not own and f"{name}_linear" in WEIGHTS:
        head = load_head(name)
    if getattr(head, "in_features", 0) == 2 * width:
        raise InputError(f"{head_file or name}: a head of {2 * width} numbers, the CLS and the mean of the "
                         "patches of the last block (DINO's ViT-B heads); saccades are classified from CLS "
                         "alone: use --train-head.")
    if getattr(head, "in_features", 0) not in (width, 4 * width):
        raise InputError(f"no classifier of the CLS of this model's last block ({width} numbers) or last 4 "
                         f"({4 * width}), but {head}; give one with --head FILE, or use --train-head.")
    return model, view, head, block


def fit_head(model: VisionTransformer, view: Callable, fit: list[tuple], n_classes: int, folder: Path,
             batch_size: int, workers: int) -> tuple[nn.Linear, dict]:
    """(linear head on the frozen features of full images, how it was fitted: images and accuracy on them in
    %, names of those that could not be read)."""
    def features(batch: dict) -> dict[str, Tensor]:
        x, _ = look(model, batch["image"].to(model.pos_embed), [0])
        return dict(x=x.float(), index=batch["index"], readable=batch["readable"])
    images = data.Images([path for path, _ in fit], view)
    arrays = in_batches(folder / "features", images, batch_size, features, workers)
    arrays, _, unreadable = data.readable_only(arrays, [data.image_name(path) for path, _ in fit])
    x, labels = torch.from_numpy(arrays["x"]), torch.tensor([label for _, label in fit])[arrays["index"]]
    weight, bias = fit_linear(x, labels, n_classes, HEAD_L2)
    head = nn.Linear(x.shape[1], n_classes)
    head.load_state_dict({"weight": weight, "bias": bias})
    correct = (head(x).argmax(1) == labels).float().mean().item()
    return head.eval(), dict(images=len(x), accuracy=round(100 * correct, 2), unreadable=unreadable)


# -------------------------------------------------------------------------------- measure

def random_maps(index: Tensor, grid: Sequence[int], seed: int) -> Tensor:
    """Uniform random values (B, h, w), a function of the seed and the image's index alone."""
    return torch.stack([torch.rand(*grid, generator=generator(seed, 3, i)) for i in index.tolist()])


def saccades(model: VisionTransformer, head: nn.Linear, x: Tensor, label: Tensor, features: Tensor,
             guides: list[tuple[Tensor, int]], border: str) -> dict[str, Tensor]:
    """Answers to the full images, whose features are given, and after ten saccades under each of C guides,
    (map (B, h, w), fovea), the model's own attention first: FULL_IMAGE, (B,), and PER_SACCADE, (B, C, 10)."""
    fixations, visible = {}, {}  # by the guide's place
    for fovea in dict.fromkeys(fovea for _, fovea in guides):  # all maps with one fovea go together
        those = [c for c, (_, own) in enumerate(guides) if own == fovea]
        maps = torch.cat([guides[c][0] for c in those])
        places, seen = fixation_sequence(maps, fovea, SACCADES, border)
        fixations |= zip(those, places.split(len(x)))
        visible |= zip(those, seen.split(len(x)))
    fixations = torch.stack([fixations[c] for c in range(len(guides))], 1)  # (B, C, 10, 2)
    visible = torch.stack([visible[c] for c in range(len(guides))], 1)  # (B, C, 10, h, w)
    revealed = forward_visible(model, x, visible, features.shape[1] // model.embed_dim)
    return answers(head, label, features, guides[0][0], fixations, visible, revealed)


def answers(head: nn.Linear, label: Tensor, features: Tensor, att: Tensor, fixations: Tensor, visible: Tensor,
            revealed: Tensor) -> dict[str, Tensor]:
    """FULL_IMAGE, (B,), from the full images' features (B, d) and maps att; PER_SACCADE, (B, C, 10), from
    fixations (B, C, 10, 2), visible (B, C, 10, h, w) and the features of what is revealed, (B, C, 10, d)."""
    pred_full, certainty_full = classify(head, features)  # (B,)
    pred, certainty = classify(head, revealed)
    row, col = fixations.short().unbind(-1)
    return dict(label=label, pred_full=pred_full, correct_full=pred_full == label,
                certainty_full=certainty_full, n_tokens=torch.full_like(label, visible[0, 0, 0].numel()),
                entropy=map_entropy(att), correct=pred == label[:, None, None], certainty=certainty,
                tokens=visible.sum((-2, -1)).short(), pred=pred.short(), row=row, col=col)


def sweep_maps(model: VisionTransformer, x: Tensor, maps: Tensor) -> Tensor:
    """Maps of every block, of the images (given: (B, L, h, w)) and of smaller copies: (B, 4 L, h, w)."""
    found = [maps]
    for side in LOW_GRIDS:
        shrink = resize_matrix(x.shape[-1], side * model.patch_size, "bilinear", antialias=True).to(x)
        _, small = look(model, shrink @ x @ shrink.T, range(maps.shape[1]))  # (B, L, side, side)
        found.append(upsample(small, maps.shape[-2:]))
    return torch.cat(found, 1)


def measure(batch: dict, model: VisionTransformer, head: nn.Linear, labels: Tensor, block: int,
            foveas: Sequence[int], border: str, seed: int, sweep: bool) -> dict[str, Tensor]:
    """image -> attention map -> fixations -> revealed tokens -> class: the arrays FULL_IMAGE, (B,), and
    PER_SACCADE, (B, C, 10), of a batch; image_rows says what they are."""
    x = batch["image"].to(model.pos_embed)  # (B, 3, img_h, img_w), on the model's device, in its type
    label = labels[batch["index"]].to(x.device)
    features, maps = look(model, x, range(len(model.blocks)), head.in_features // model.embed_dim)
    noise = random_maps(batch["index"], maps.shape[-2:], seed).to(maps)  # (B, h, w)
    guides = [(att, fovea) for att in (maps[:, block], noise) for fovea in foveas]  # as in study.conditions
    if sweep:
        guides += [(att, foveas[0]) for att in sweep_maps(model, x, maps).unbind(1)]
    found = saccades(model, head, x, label, features, guides, border)
    return found | dict(index=batch["index"], readable=batch["readable"])


@torch.no_grad()
def examples(arrays: dict, images: data.Images, view: Callable, model: VisionTransformer) -> dict:
    """Images of different classes from concentrated to diffuse maps: their places in the arrays, pictures,
    every block's map."""
    order, chosen = np.argsort(arrays["entropy"], kind="stable"), []
    for place in np.arange(EXAMPLES) * (len(order) - 1) // (EXAMPLES - 1):
        nearest = order[np.argsort(np.abs(np.arange(len(order)) - place), kind="stable")]
        new = ~np.isin(arrays["label"][nearest], arrays["label"][chosen])
        chosen += nearest[new][:1].tolist()
    x = torch.stack([images[int(i)]["image"] for i in arrays["index"][chosen]])
    _, maps = look(model, x.to(model.pos_embed), range(len(model.blocks)))
    pictures = x.permute(0, 2, 3, 1) * torch.tensor(view.std) + torch.tensor(view.mean)  # in [0, 1]
    return dict(example=chosen, example_image=(255 * pictures).round().byte(), example_map=maps)


# -------------------------------------------------------------------------------- figures

def band(ax, values: np.ndarray, label: str, colour, y: str, style: str = "o-", unit: float = 1.) -> None:
    """Mean over images (n, 10) at each saccade with its 95 % interval, times `unit`."""
    mean, (low, high) = values.mean(0), study.interval(values)
    bars = unit * np.abs([mean - low, high - mean])  # (2, 10); abs: matplotlib refuses a rounded -1e-17
    ax.errorbar(STEPS, unit * mean, bars, fmt=style, color=colour, label=label, markersize=3)
    ax.set(xlabel="saccade (bars: 95 % intervals)", ylabel=y, xticks=STEPS)


def accuracy_panels(above, below, t: dict, label: str, colour) -> None:
    """Accuracy and visible part of the image per saccade."""
    band(above, t["correct"], label, colour, "accuracy (% of images)", unit=100)
    band(below, t["visible"], label, colour, "visible tokens (% of image)")


def levels(ax, t: dict, guesses: int | np.ndarray = 1) -> None:
    """Accuracy (%) on the full image, and that of so many guesses, of which one must be correct."""
    chance = 1 - (1 - t["chance"]) ** guesses * np.ones(SACCADES)
    ax.axhline(100 * t["correct_full"].mean(), color="black", linestyle=":", label="full image")
    ax.plot(STEPS, 100 * chance, color="black", linestyle="--", linewidth=.8, label="chance")
    ax.set(ylim=(0, 102))


def map_grid(pictures: np.ndarray, maps: np.ndarray, names: Sequence[str], more: int = 0) -> tuple:
    """Figure and panels: in a row a picture (img_h, img_w, 3), its maps (columns, h, w), `more` free ones."""
    fig, axes = figure_grid(len(maps), 1 + len(names) + more, 1.7, 1.85)
    for row, picture, shown in zip(axes, pictures, upsample(maps, pictures.shape[1:3]).numpy()):
        for ax, image, name in zip(row, [picture, *shown], ["image", *names]):
            ax.imshow(image, cmap="inferno")
            ax.set_title(name, fontsize=8)
        for ax in row:
            ax.axis("off")
    return fig, axes


# shown: {fovea: {"attention" or "random": its condition}}

def draw_accuracy(shown: dict, folder: Path) -> None:
    """Fig 3: accuracy and visible part of the image, for each fovea (columns)."""
    fig, axes = figure_grid(2, len(shown), max(3.6, 5.4 / len(shown)), 2.8, sharey="row")  # room for a legend
    for (above, below), (f, kinds) in zip(axes.T, shown.items()):
        above.set_title(f"fovea {f}x{f}")
        for name, t in kinds.items():
            accuracy_panels(above, below, t, name, PALETTE[name])
        levels(above, t)
    legend_beside(axes[0, -1])
    save_figure(fig, folder / "fig03_accuracy")


def draw_dynamics(shown: dict, folder: Path) -> None:
    """Fig 4, attention: correct at least once so far; changes of the answer; how often images are correct."""
    fig, axes = figure_grid(4, len(shown), max(3.6, 5.4 / len(shown)), 2.6, sharey="row")
    for (once, changes, every, hard), (f, kinds) in zip(axes.T, shown.items()):
        t = kinds["attention"]
        band(once, np.maximum.accumulate(t["correct"], 1), "attention", PALETTE["attention"],
             "correct at least once so far (%)", unit=100)
        levels(once, t, STEPS)
        once.set_title(f"fovea {f}x{f}")
        for change, style in zip(study.CHANGES, ("v-", "^-", "v:", "^:")):
            changes.plot(STEPS, 100 * t[change].mean(0), style, markersize=4, label=change)
        changes.set(xlabel="saccade", ylabel="images (%)", xticks=STEPS)
        for ax, part, which in ((every, slice(None), "all images"), (
                hard, t["ever"] & (t["correct_full"] == 0), "wrong in full,\ncorrect at some saccade")):
            times = t["correct"][part].sum(1)
            ax.hist(times, np.arange(SACCADES + 2) - .5, rwidth=.8, color=PALETTE["attention"])
            ax.set_title(which, fontsize=9)
            ax.set(xlabel="saccades at which it is correct", ylabel="images", xticks=[0, *STEPS])
    legend_beside(axes[0, -1])
    legend_beside(axes[1, -1])
    save_figure(fig, folder / "fig04_dynamics")


def draw_first_success(shown: dict, folder: Path) -> None:
    """Fig 5: certainty of images correct on the full image, by saccade of first success (blue) and of all of
    these (red; dashed: with those never correct at a saccade); columns: on the full image. Fig 7: entropy of
    the attention map by saccade of first success; dashes: means of FEWEST images or more."""
    blues = colormaps["Blues_r"](np.linspace(0, .75, SACCADES))
    fig05, above = figure_grid(len(shown), 2, 4.6, 2.8)
    fig07, below = figure_grid(len(shown), 2, 4.6, 2.8)
    cells = [(f, name, t) for f, kinds in shown.items() for name, t in kinds.items()]
    for (f, name, t), certainty, entropy in zip(cells, above.flat, below.flat):
        right = t["correct_full"] == 1
        sets = [(f"first correct at {s}", right & (t["first"] == s), blues[s - 1], "-") for s in STEPS]
        sets += [("all of these", right & t["ever"], PALETTE["A"], "-"),
                 ("all, with never correct", right, PALETTE["A"], "--")]
        for i, (label, part, colour, style) in enumerate(sets):
            if part.sum() >= FEWEST:
                certainty.plot(STEPS, t["certainty"][part].mean(0), style, color=colour,
                               label=f"{label} (n = {part.sum()})")
                certainty.bar(SACCADES + 1 + .25 * i, t["certainty_full"][part].mean(), .25, color=colour)
        certainty.set(title=f"{name}, fovea {f}x{f}", xlabel="saccade (columns: full image)",
                      xticks=STEPS[::3], ylabel="certainty (%),\n1 - H / log(classes)", ylim=(0, 100))
        legend_beside(certainty)
        first = np.where(t["ever"], t["first"], SACCADES + 2)  # "never" stands apart
        entropy.plot(first, t["entropy"], ".", color=PALETTE[name], markersize=2, alpha=.5)
        for s in np.unique(first):
            if (first == s).sum() >= FEWEST:
                entropy.plot(s, t["entropy"][first == s].mean(), "_", color="black", markersize=12)
        entropy.set_xticks([*STEPS, SACCADES + 2], [*STEPS, "never"])
        entropy.set(title=f"{name} saccades, fovea {f}x{f}",
                    xlabel="saccade of the first correct answer (bars: means)",
                    ylabel="entropy of the\nattention map (bits)")
    save_figure(fig05, folder / "fig05_certainty")
    save_figure(fig07, folder / "fig07_entropy")


def draw_examples(arrays: dict, block: int, fovea: int, border: str, folder: Path) -> None:
    """Fig 2 and 8: image, attention map, what is revealed, prediction and certainty; Fig 13: every block."""
    pictures, maps = arrays["example_image"], torch.from_numpy(arrays["example_map"])  # maps (6, L, h, w)
    words, steps, patch = arrays["classes"], (0, 1, 2, 4, 9), pictures.shape[1] // maps.shape[-1]
    _, visible = fixation_sequence(maps[:, block], fovea, SACCADES, border)  # (6, 10, h, w)
    revealed = visible.repeat_interleave(patch, 2).repeat_interleave(patch, 3)  # (6, 10, img_h, img_w)
    fig, axes = map_grid(pictures, maps[:, [block]], [f"attention, block {block}"], len(steps))
    for row, n, picture, seen in zip(axes, arrays["example"], pictures, revealed.numpy()):
        full = words[arrays["pred_full"][n]]
        row[0].set_title(f"{words[arrays['label'][n]]}\nfull image: {full}", fontsize=7)
        pred, correct, certainty = (arrays[key][n, 0] for key in ("pred", "correct", "certainty"))  # (10,)
        for ax, s in zip(row[2:], steps):
            ax.imshow(np.where(seen[s, :, :, None], picture, 235))
            answer = f"saccade {s + 1}: {words[pred[s]]}\ncertainty {100 * certainty[s]:.0f} %"
            ax.set_title(answer, fontsize=7, color=PALETTE["B"] if correct[s] else PALETTE["A"])
    save_figure(fig, folder / "fig08_examples")
    fig, _ = map_grid(pictures, maps, [f"block {b}" for b in range(maps.shape[1])])
    save_figure(fig, folder / "fig13_maps")


def draw_sweep(arrays: dict, fovea: int, folder: Path) -> None:
    """Fig 6: every block, and smaller inputs of the last block; Fig 17: means of every block and input."""
    depth = arrays["example_map"].shape[1]
    panels = {"every block": [f"block{b:02d} full" for b in range(depth)],
              "last block": [f"block{depth - 1:02d} {grid}" for grid in study.GRIDS]}
    every = {name: dict(correct=100 * correct, tokens=tokens) for name, correct, tokens in zip(
        arrays["conditions"], arrays["correct"].mean(0), arrays["tokens"].mean(0))}  # (10,) each
    fig, axes = figure_grid(3, 2, 4.6, 2.8)
    for (left, right), (title, names) in zip(axes, panels.items()):
        colours = [*colormaps["viridis"](np.linspace(0, .95, len(names))), PALETTE["random"]]
        for name, colour in zip([*names, f"random fovea{fovea}"], colours):
            left.plot(STEPS, every[name]["correct"], color=colour)
            right.plot(STEPS, every[name]["tokens"], color=colour, label=name)
        levels(left, condition(arrays, f"random fovea{fovea}"))
        left.set_title(f"{title} (dots: full image, dashes: chance)", fontsize=9)
        left.set(ylabel="accuracy (% of images)")
        right.set(title=title, ylabel="visible tokens")
        for ax in (left, right):
            ax.set(xlabel="saccade", xticks=STEPS)
        legend_beside(right)
    for ax, key, what in zip(axes[2], ("correct", "tokens"), ("accuracy (%)", "tokens")):
        table = [[every[f"block{b:02d} {grid}"][key].mean() for b in range(depth)] for grid in study.GRIDS]
        fig.colorbar(ax.imshow(table, aspect="auto"), ax=ax, label=what)
        ax.set_yticks(range(len(study.GRIDS)), study.GRIDS)
        ax.set(title=f"mean over saccades: {what}", xlabel="block", ylabel="input (tokens)",
               xticks=range(depth))
    save_figure(fig, folder / "fig06_fig17_blocks_resolutions")


def draw(arrays: dict, results: dict, folder: Path) -> None:
    """Every figure of a run, and the accuracies on the screen."""
    args = results["args"]
    shown = {f: {name: condition(arrays, f"{name} fovea{f}") for name in study.KINDS}
             for f in sorted(args["fovea"])}
    draw_accuracy(shown, folder)
    draw_dynamics(shown, folder)
    draw_first_success(shown, folder)
    draw_examples(arrays, results["block"], args["fovea"][0], args["border"], folder)
    if args["sweep"]:
        draw_sweep(arrays, args["fovea"][0], folder)
    study.print_accuracy(arrays, args["fovea"])


# -------------------------------------------------------------------------------- main

def study_parser(file: str, card: str) -> argparse.ArgumentParser:
    """The arguments that exp04_saccades.py and exp04_saliency.py share."""
    at_once = 256 if torch.cuda.is_available() else 32  # images a batch
    parser = argument_parser(file, card, at_once, f"a random N of the images (demo: {DEMO['limit']})")
    group = parser.add_argument_group("study")
    add, one_of = group.add_argument, group.add_mutually_exclusive_group().add_argument
    add("--model", help=f"in weights.WEIGHTS, or auto (default: {PAPER['model']}; demo: {DEMO['model']})")
    add("--heads", type=int, help="heads of a block, with --model auto (default: known by its width)")
    one_of("--head", type=Path, help="linear classifier: weight, bias (default: the model's published one)")
    one_of("--train-head", action="store_true", help="fit one on frozen features of the last 4 blocks")
    add("--fovea", type=int, nargs="+", default=list(FOVEAS), metavar="N",
        help="odd number of tokens; --sweep and --saliency use the first (default: 3 5)")
    add("--layer", type=int, dest="block", metavar="L", help="0-based block that guides (default: the last)")
    add("--border", choices=["clip", "shift"], default="clip", help="fovea at the border (%(default)s)")
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = study_parser(__file__, __doc__)
    parser.add_argument("--sweep", action="store_true", help="also maps of every block, of smaller inputs")
    parser.add_argument("--saliency", action="store_true", help="then exp04_saliency.py, same arguments")
    args = parse_args(parser, argv, PAPER, DEMO)
    args.fovea = list(dict.fromkeys(args.fovea))  # each size once
    return args


def start_saliency(args: argparse.Namespace, argv: list[str] | None) -> None:
    """With --saliency: exp04_saliency.py with the same arguments, in saliency/ of this run's folder; there it
    goes on where it was interrupted, as a refusal would come only now, after hours."""
    if not args.saliency:
        return
    file, out = Path(__file__).with_name("exp04_saliency.py"), args.out / "saliency"
    words = sys.argv[1:] if argv is None else argv
    shared = [word for word in words if word not in ("--sweep", "--saliency")]
    if (out / "unfinished").exists():
        shared.append("--resume")
    sys.argv = [str(file), *shared, "--out", str(out), "--saccades", str(args.out)]
    runpy.run_path(str(file), run_name="__main__")


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    init_distributed(device)
    if only_draw(args):
        redraw(args.out, draw)
        return start_saliency(args, argv)
    # A Vision Transformer, a classifier of its CLS tokens, and images that the classifier was not fitted on.
    items, fit, classes = load_data(args.data, args.train_head, args.limit, args.seed, args.workers)
    model, view, head, block = load_model(args.model, args.weights, args.head, args.train_head,
                                          args.block, args.fovea, args.heads)
    items, classes = data.labels_of(head, items, classes)
    folder = begin(args, [path for path, _ in items + fit], model=model, head=head or model.head)
    model.to(device, getattr(torch, args.dtype))
    fitted = {}
    if args.train_head:
        head, fitted = fit_head(model, view, fit, len(classes), folder, args.batch_size, args.workers)
    # On every image an attention map and a random one guide ten saccades, each followed by a classification.
    paths, labels = zip(*items)
    images = data.Images(paths, view)
    arrays = in_batches(folder / "saccades", images, args.batch_size, partial(
        measure, model=model, head=head.to(device), labels=torch.tensor(labels), block=block,
        foveas=args.fovea, border=args.border, seed=args.seed, sweep=args.sweep), args.workers)
    arrays, names, bad = data.readable_only(arrays, [data.image_name(path) for path in paths], least=2)
    arrays |= dict(image=np.array(names), classes=np.array(classes),
                   conditions=np.array(study.conditions(args.fovea, len(model.blocks), args.sweep)))
    arrays |= examples(arrays, images, view, model)
    # The paper's claims beside ours; tables and figures.
    published = study.official(args, arrays["label"])
    headline = study.claims(arrays, args.fovea, args.sweep, args.seed, published)
    if args.sweep:
        write_csv(study.sweep_rows(arrays), args.out / "sweep.csv")
    if args.train_head:
        save_checkpoint(head.state_dict(), args.out / "linear_head.pth")
    finish(args, "exp04_saccades", arrays, study.image_rows(arrays, 2 * len(args.fovea)), headline, draw,
           began, device, not_run=[text for part, text in NOT_RUN.items() if not getattr(args, part)],
           on_screen=study.ON_SCREEN, model=args.model, block=block, preprocessing=vars(view),
           head_fitted=fitted, unreadable=fitted.get("unreadable", []) + bad,
           left_out=data.passed_over(args.data, args.train_head))
    start_saliency(args, argv)


if __name__ == "__main__":
    cli(main)
