"""exp04: does the attention of a self-supervised Vision Transformer tell where to look to recognise an image?

Dallain, Rodriguez, Perrinet & Miramond (2026), "A saccade-inspired approach to image classification using
vision transformer attention maps" (arXiv 2603.09613). The maximum of DINO's last CLS attention map is
fixated, a fovea of 3x3 or 5x5 tokens is revealed and suppressed in the map, and so on, ten times. After every
saccade the same network classifies the image from the revealed tokens alone; random maps are the control.

Commands
    laptop, demo world    python exp04_saccades.py
    one fovea, one block  python exp04_saccades.py --fovea 5 --layer 11
    blocks, resolutions   python exp04_saccades.py --sweep --limit 40
    and saliency models   python exp04_saccades.py --saliency --limit 120
    one GPU, the paper    python exp04_saccades.py --data IMAGENET --sweep --saliency --dtype bfloat16
    eight GPUs            torchrun --nproc_per_node 8 exp04_saccades.py --data IMAGENET --sweep --saliency
    own images            python exp04_saccades.py --data FOLDER --model dino_vits16 --train-head

The paper: 77.0 % on full images (DINO ViT-S/16, its published linear head); attention above random at every
saccade, with fewer tokens; correct at least once more often than on the full image. On the demo: full images
94.0 %; attention less random, fovea 3, at saccades 1, 2, 3 and 10: 36.5, 37.5, 26.5 and 3.5 points.
Not stated by the paper, ours: the fovea is cut at the border (--border shift: moved inside), hidden tokens
are dropped and not blanked, certainty is 1 - H / log(classes) (its sentence has the ends swapped), entropy
is in bits.
"""
from __future__ import annotations

import argparse
import copy
import math
import runpy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from matplotlib import colormaps
from scipy import stats
from torch import Tensor
from torchvision.models.resnet import ResNet50_Weights

import data
from common import (WEIGHTS, InputError, VisionTransformer, fit_linear, generator, init_distributed,
                    load_head, load_vit, pick_device, resize_matrix, upsample)
from results import (PALETTE, Claim, argument_parser, begin, cli, difference, estimate, evaluate, figure_grid,
                     finish, in_batches, only_draw, parse_args, redraw, save_checkpoint, save_figure,
                     write_csv)

# -------------------------------------------------------------------------------- constants

# Shapes: B images of a batch, n images of the run, C conditions, L blocks, D width, h, w patch grid.
SACCADES = 10  # an image (Methods, Classification)
SUPPRESSED = -1.0  # value of a visited square in the map: below every attention (the paper: "negative")
FOVEAS = (3, 5)  # tokens a side: 48 and 80 px at patch 16
LOW_GRIDS = (12, 10, 8)  # tokens a side of the smaller inputs of --sweep: 192, 160, 128 px at patch 16
GRIDS = ("full", *(f"{side}x{side}" for side in LOW_GRIDS))
OFFICIAL = 77.0  # %, DINO ViT-S/16 with its linear head (DINO's repository)
DEMO_IMAGES = 200  # of the demo world's 600, unless --limit says otherwise
HEAD_L2 = 1e-3  # penalty on the standardised weights of --train-head
STOP_LOSS = 0.01  # accuracy that early stopping may lose on the half that chooses its threshold
EXAMPLES = 6  # images in Fig 8 and 13
STEPS = np.arange(1, SACCADES + 1)
FULL_IMAGE = ("label", "pred_full", "correct_full", "certainty_full", "n_tokens", "entropy")  # arrays (n,)
PER_SACCADE = ("correct", "tokens", "certainty", "pred", "row", "col")  # arrays (n, C, 10)
NOT_RUN = dict(
    sweep="maps of every block and of smaller inputs (Fig 6, 17): add --sweep",
    saliency="other saliency models on larger images, ResNet crops (Fig 9 to 11): add --saliency")


# -------------------------------------------------------------------------------- data

def load_data(place: str, n_out: int | None, limit: int | None, seed: int, workers: int
              ) -> tuple[list, list, list[str]]:
    """(images to test, images to fit a head on, names of the classes); an image is (path, label).

    n_out: outputs of the head; 1000: labels are those of ImageNet-1k; None: a head is to be fitted, on train/
    or, without one, on a random half, which is left out of the test. limit: a random N, in the files' order.
    """
    root = Path(place)
    if place == "demo":
        root = data.demo_folder("imagenet", workers=max(workers, 1)) / "imagenet"
    if not root.is_dir():
        raise InputError(f"--data {root}: no such folder; give one with a folder of images for each class.")
    items, classes = data.load_imagefolder(root, data.imagenet_wnids() if n_out == 1000 else None)
    order = torch.randperm(len(items), generator=generator(seed, 1)).tolist()
    fit = []
    if n_out is None and (root / "train").is_dir() and (root / "val").is_dir():
        fit, _ = data.load_imagefolder(root / "train", classes)
    elif n_out is None:
        half = len(items) // 2
        fit = [items[i] for i in sorted(order[:half])]
        order = order[half:]
    if place == "demo" and limit is None:
        limit = DEMO_IMAGES
    items = [items[i] for i in sorted(order[:limit])]
    if len(items) < 2 or len(classes) < 2:
        raise InputError(f"--data {place}: {len(items)} images to test, {len(classes)} classes; the "
                         "statistics need at least two of each: give more images, or raise --limit.")
    if n_out not in (None, len(classes)):
        raise InputError(f"the head has {n_out} classes, the data {len(classes)} ({', '.join(classes[:3])} "
                         "...); give the head of these, or use --train-head.")
    words = dict(zip(data.imagenet_wnids(), ResNet50_Weights.IMAGENET1K_V2.meta["categories"]))
    return items, fit, [words.get(name, name) for name in classes]


# -------------------------------------------------------------------------------- model

def fixation_sequence(att: Tensor, fovea: int, n: int, border: str = "clip") -> tuple[Tensor, Tensor]:
    """Saccades over maps att (B, h, w) >= 0: (fixations (B, n, 2) row, col; visible (B, n, h, w) bool).

    Each saccade goes to the maximum, reveals the fovea x fovea square around it and suppresses it in the map
    (inhibition of return). visible is cumulative. border: "clip" cuts the square at the border, "shift" moves
    it inside (the fixation stays the maximum). Ties: the first in row-major order.
    """
    if not torch.is_tensor(att) or att.ndim != 3 or not (att >= 0).all():
        raise InputError("attention maps: expected a tensor (B, h, w) without NaN or negative values; "
                         "rescale them, and give a single map as map[None].")
    h, w = att.shape[1:]
    if fovea < 1 or fovea % 2 == 0 or fovea > min(h, w):
        raise InputError(f"fovea {fovea}: expected an odd number of tokens, at most {min(h, w)} on a grid of "
                         f"{h}x{w}.")
    half = fovea // 2
    rows = torch.arange(h, device=att.device)[:, None]  # (h, 1)
    cols = torch.arange(w, device=att.device)  # (w,)
    left, seen = att.clone(), torch.zeros_like(att, dtype=torch.bool)  # (B, h, w)
    fixations, visible = [], []
    for _ in range(n):
        best = left.flatten(1).argmax(1)  # (B,)
        row, col = best // w, best % w
        fixations.append(torch.stack([row, col], 1))
        if border == "shift":
            row = row.clamp(half, h - 1 - half)
            col = col.clamp(half, w - 1 - half)
        near_row = (rows - row[:, None, None]).abs() <= half  # (B, h, 1)
        near_col = (cols - col[:, None, None]).abs() <= half  # (B, 1, w)
        square = near_row & near_col  # (B, h, w)
        left = left.masked_fill(square, SUPPRESSED)
        seen = seen | square
        visible.append(seen)
    return torch.stack(fixations, 1), torch.stack(visible, 1)


def forward_visible(model: VisionTransformer, x: Tensor, visible: Tensor, n_last: int = 4) -> Tensor:
    """CLS of the last n_last blocks, each after norm, oldest first, from the visible tokens alone.

    x (B, 3, img_h, img_w), visible (B, ..., h, w) bool -> (B, ..., n_last D). Only visible tokens are
    computed, with the position embeddings of their places: equal to a full pass with the other keys masked.
    Masks with the same number of tokens run together, whatever their image or saccade: nothing is padded.
    """
    patches = model.embed(x)  # (B, h w, D)
    seen = visible.flatten(0, -3).flatten(1)  # (S, h w), S masks
    image = torch.arange(len(x), device=x.device).repeat_interleave(len(seen) // len(x))  # (S,)
    order = seen.int().argsort(dim=1, descending=True, stable=True)  # visible places first, row-major
    out = patches.new_empty(len(seen), n_last * patches.shape[-1])
    counts = seen.sum(1).cpu()
    budget = 4096 if x.device.type == "cpu" else 2**18  # tokens a pass: what fits in a CPU's cache
    for k in counts.unique().tolist():
        same = (counts == k).nonzero()[:, 0].to(x.device)  # masks with k tokens
        for part in same.split(max(1, budget // (k + model.n_prefix))):
            tokens = patches[image[part, None], order[part, :k]]  # (masks, k, D)
            out[part] = model.norm(model.encode(tokens).cls[:, -n_last:]).flatten(1)
    return out.unflatten(0, visible.shape[:-2])


def look(model: VisionTransformer, x: Tensor, blocks: Sequence[int], n_last: int = 4
         ) -> tuple[Tensor, Tensor]:
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
    """Shannon entropy in bits of maps (..., h, w), each divided by its sum; at most log2(h w)."""
    p = maps.flatten(-2).cpu().double()
    return torch.special.entr(p / p.sum(-1, keepdim=True)).sum(-1) / math.log(2)


def load_model(name: str, weights: Path | None, head_file: Path | None, train_head: bool, block: int | None
               ) -> tuple[VisionTransformer, Callable, nn.Linear | None, int]:
    """(model, preprocessing, head, block that guides). head: a file's, the published one, or the model's own,
    always in float32; None: to be fitted."""
    model, view = load_vit(name, weights)
    depth, width = len(model.blocks), model.embed_dim
    block = depth - 1 if block is None else block
    if not 0 <= block < depth:
        raise InputError(f"--layer {block}: this model has blocks 0 to {depth - 1} (0-based).")
    if train_head:
        return model, view, None, block
    if head_file or f"{name}_linear" in WEIGHTS:
        head = load_head(head_file or name)
    else:
        head = copy.deepcopy(model.head)
    if isinstance(head, nn.Identity):
        raise InputError(f"model {name} has no classifier; give one with --head FILE, or use --train-head.")
    if head.in_features not in (width, 4 * width):  # DINO's ViT-B heads read patch means, too
        raise InputError(f"the head reads {head.in_features} numbers, this model gives {width} (CLS of the "
                         f"last block) or {4 * width} (of the last 4); give another --head, or use "
                         "--train-head.")
    return model, view, head, block


def fit_head(model: VisionTransformer, view: Callable, fit: list[tuple], n_classes: int, folder: Path,
             batch_size: int, workers: int) -> tuple[nn.Linear, list[str]]:
    """A linear head on the frozen features of full images, and the images that could not be read."""
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
    return head.eval(), unreadable


# -------------------------------------------------------------------------------- measure

def random_maps(index: Tensor, grid: Sequence[int], seed: int) -> Tensor:
    """Uniform random values (B, h, w), a function of the seed and the image's index alone."""
    return torch.stack([torch.rand(*grid, generator=generator(seed, 3, i)) for i in index.tolist()])


def full_image(model: VisionTransformer, head: nn.Linear, x: Tensor, label: Tensor, block: int
               ) -> tuple[dict[str, Tensor], Tensor]:
    """What the full images give: the arrays FULL_IMAGE (B,), and the maps of every block (B, L, h, w)."""
    features, maps = look(model, x, range(len(model.blocks)), head.in_features // model.embed_dim)
    pred, certainty = classify(head, features)
    n_tokens = torch.full_like(label, maps[0, 0].numel())
    return dict(label=label, pred_full=pred, correct_full=pred == label, certainty_full=certainty,
                n_tokens=n_tokens, entropy=map_entropy(maps[:, block])), maps


def saccades(model: VisionTransformer, head: nn.Linear, x: Tensor, label: Tensor,
             guides: list[tuple[Tensor, int]], border: str) -> dict[str, Tensor]:
    """Ten saccades under each of C guides (map (B, h, w), fovea): the arrays PER_SACCADE, (B, C, 10)."""
    sequences = [fixation_sequence(att, fovea, SACCADES, border) for att, fovea in guides]
    fixations = torch.stack([f for f, _ in sequences], 1).short()  # (B, C, 10, 2)
    visible = torch.stack([v for _, v in sequences], 1)  # (B, C, 10, h, w)
    features = forward_visible(model, x, visible, head.in_features // model.embed_dim)
    pred, certainty = classify(head, features)  # (B, C, 10)
    return dict(correct=pred == label[:, None, None], tokens=visible.sum((-2, -1)).short(),
                certainty=certainty, pred=pred.short(), row=fixations[..., 0], col=fixations[..., 1])


def conditions(foveas: Sequence[int], depth: int, sweep: bool) -> dict[str, tuple[str, int]]:
    """{condition: (map, fovea)}, in the order of the arrays' second axis."""
    found = {f"{name} fovea{f}": (name, f) for name in ("attention", "random") for f in foveas}
    if sweep:
        names = [f"block{b:02d} {grid}" for grid in GRIDS for b in range(depth)]
        found |= {name: (name, foveas[0]) for name in names}
    return found


def sweep_maps(model: VisionTransformer, x: Tensor, maps: Tensor) -> dict[str, Tensor]:
    """Maps (B, h, w) of every block, of the images (given: (B, L, h, w)) and of smaller copies of them."""
    found = {f"block{b:02d} full": maps[:, b] for b in range(maps.shape[1])}
    for side in LOW_GRIDS:
        shrink = resize_matrix(x.shape[-1], side * model.patch_size, "bilinear", antialias=True).to(x)
        _, small = look(model, shrink @ x @ shrink.T, range(maps.shape[1]))  # (B, L, side, side)
        large = upsample(small, maps.shape[-2:])
        found |= {f"block{b:02d} {side}x{side}": large[:, b] for b in range(maps.shape[1])}
    return found


def measure(batch: dict, model: VisionTransformer, head: nn.Linear, labels: Tensor, block: int,
            foveas: Sequence[int], border: str, seed: int, sweep: bool) -> dict[str, Tensor]:
    """image -> attention map -> fixations -> revealed tokens -> class: the arrays FULL_IMAGE, (B,), and
    PER_SACCADE, (B, C, 10), of a batch; C as in `conditions`."""
    x = batch["image"].to(model.pos_embed)  # (B, 3, img_h, img_w), on the model's device, in its type
    label = labels[batch["index"]].to(x.device)
    full, maps = full_image(model, head, x, label, block)  # maps (B, L, h, w)
    map_of = {"attention": maps[:, block]}
    map_of["random"] = random_maps(batch["index"], maps.shape[-2:], seed).to(maps)
    if sweep:
        map_of |= sweep_maps(model, x, maps)
    guides = [(map_of[name], fovea) for name, fovea in conditions(foveas, maps.shape[1], sweep).values()]
    found = saccades(model, head, x, label, guides, border)
    return full | found | dict(index=batch["index"], readable=batch["readable"])


@torch.no_grad()
def examples(arrays: dict, images: data.Images, view: Callable, model: VisionTransformer, fovea: int) -> dict:
    """Of the images of Fig 8 and 13: their places in the arrays, pictures, and every block's map."""
    chosen = pick_examples(condition(arrays, f"attention fovea{fovea}"))
    x = torch.stack([images[int(i)]["image"] for i in arrays["index"][chosen]])
    _, maps = look(model, x.to(model.pos_embed), range(len(model.blocks)))
    pictures = x.permute(0, 2, 3, 1) * torch.tensor(view.std) + torch.tensor(view.mean)  # in [0, 1]
    return dict(example=chosen, example_image=(255 * pictures).round().byte(), example_map=maps)


# -------------------------------------------------------------------------------- statistics

def condition(arrays: dict, name: str) -> dict[str, np.ndarray]:
    """What one condition gave: FULL_IMAGE (n,) and PER_SACCADE (n, 10), as floats; correct is 0 or 1."""
    c = list(arrays["conditions"]).index(name)
    full = {key: arrays[key].astype(float) for key in FULL_IMAGE}
    return full | {key: arrays[key][:, c].astype(float) for key in PER_SACCADE}


def image_rows(arrays: dict, n_conditions: int) -> Iterator[dict]:
    """Rows of per_image.csv, an image and condition each: the full image's columns, then correct_1 ..."""
    for i, image in enumerate(arrays["image"]):
        full = {key: round(arrays[key][i].item(), 6) for key in FULL_IMAGE}
        for c, name in enumerate(arrays["conditions"][:n_conditions]):
            row = dict(image=image, condition=name) | full
            for key in PER_SACCADE:
                values = arrays[key][i, c].tolist()
                row |= {f"{key}_{s}": round(value, 6) for s, value in zip(STEPS, values)}
            yield row


def sweep_rows(arrays: dict) -> Iterator[dict]:
    """Rows of sweep.csv, a condition and saccade each: means over the images."""
    mean = {key: arrays[key].mean(0, dtype=float).round(6) for key in ("correct", "tokens", "certainty")}
    for c, name in enumerate(arrays["conditions"]):
        for s, step in enumerate(STEPS):
            yield dict(condition=name, saccade=step) | {key: value[c, s] for key, value in mean.items()}


def accuracy(t: dict, part: slice = slice(None)) -> np.ndarray:
    """Share of the ten saccades, or a part of them, at which an image is correct, in %: (n,)."""
    return 100 * t["correct"][:, part].mean(1)


def share_visible(t: dict) -> np.ndarray:
    """Visible part of an image, mean of the ten saccades, in %: (n,)."""
    return 100 * t["tokens"].mean(1) / t["n_tokens"]


def first_success(correct: np.ndarray) -> np.ndarray:
    """Saccade (1 to n) of the first correct answer, n + 1 = never; correct (images, n)."""
    return np.where(correct.any(1), correct.argmax(1) + 1, correct.shape[1] + 1)


def transitions(correct: np.ndarray) -> dict[str, np.ndarray]:
    """Share of images (n,) that at each saccade change from correct to wrong, go back to correct after such a
    change, or have had one and stay wrong or stay right. A first success is no transition."""
    now = correct.astype(bool)
    before = np.pad(now, ((0, 0), (1, 0)))[:, :-1]
    lost = before & ~now
    had = np.pad(np.cumsum(lost, 1) > 0, ((0, 0), (1, 0)))[:, :-1]  # a change to wrong at an earlier saccade
    sets = {"correct to wrong": lost, "back to correct": had & ~before & now,
            "stayed wrong": had & ~before & ~now, "stayed right": had & before & now}
    return {k: v.mean(0) for k, v in sets.items()}


def stopping(t: dict[str, np.ndarray], seed: int) -> dict:
    """Early stopping by certainty: threshold chosen on a random half of the images, judged on the other.

    Chosen: the threshold with the fewest tokens among those that lose at most STOP_LOSS against ten saccades.
    curve, fixed: (mean tokens, accuracy) on the other half, by threshold and by number of saccades.
    """
    n = len(t["certainty"])
    half = np.random.default_rng([seed, 4]).permutation(n) < n // 2
    thresholds = np.append(np.quantile(t["certainty"][half], np.linspace(0, 1, 200)), np.inf)  # inf: never
    reached = t["certainty"] >= thresholds[:, None, None]  # (thresholds, n, 10)
    stop = np.where(reached.any(2), reached.argmax(2), SACCADES - 1)  # (thresholds, n), index of the saccade
    tokens, correct = (t[key][np.arange(n), stop] for key in ("tokens", "correct"))
    enough = correct[:, half].mean(1) >= t["correct"][half, -1].mean() - STOP_LOSS
    best = int(np.where(enough, tokens[:, half].mean(1), np.inf).argmin())
    return {"threshold": float(thresholds[best]),
            "correct": correct[best, ~half], "tokens": tokens[best, ~half],
            "correct_10": t["correct"][~half, -1], "tokens_10": t["tokens"][~half, -1],
            "curve": (tokens[:, ~half].mean(1), correct[:, ~half].mean(1)),
            "fixed": (t["tokens"][~half].mean(0), t["correct"][~half].mean(0))}


def pick_examples(t: dict) -> np.ndarray:
    """Places of images with concentrated maps that needed three saccades or more, then with diffuse maps that
    needed one (Fig 8), then spread evenly."""
    first, order = first_success(t["correct"]), np.argsort(t["entropy"], kind="stable")
    late = [i for i in order if 3 <= first[i] <= SACCADES][:EXAMPLES // 3]
    early = [i for i in order[::-1] if first[i] == 1][:EXAMPLES // 3]
    spread = [i * len(order) // EXAMPLES for i in range(EXAMPLES)]
    return np.array(list(dict.fromkeys([*late, *early, *spread]))[:EXAMPLES])


def slope(t: dict, key: str, among: np.ndarray | bool = True) -> dict | None:
    """Slope of a column over the saccade of first success, with 95 % interval, among the images that were
    correct at some saccade; None if they are too few or alike."""
    first = first_success(t["correct"])
    keep = (first <= SACCADES) & among
    if keep.sum() < 3 or np.ptp(first[keep]) == 0:
        return None
    fit = stats.linregress(first[keep], t[key][keep])
    half = stats.t.ppf(.975, keep.sum() - 2) * fit.stderr
    return dict(ours=float(fit.slope), ci=(fit.slope - half, fit.slope + half), n=int(keep.sum()))


def lowest_entropy(t: dict) -> dict | None:
    """Of the maps of images never correct. The paper's 6.0 bits are of 196 tokens (at most 7.61 bits)."""
    failed = t["entropy"][~t["correct"].any(1)]
    if len(failed) == 0 or t["n_tokens"][0] != 196:
        return None
    return dict(ours=float(failed.min()), n=len(failed))


def certainty_gap(a: dict, r: dict) -> dict | None:
    """Over the images that are correct on the full image and, once at least, with both kinds of saccades."""
    both = (a["correct_full"] == 1) & a["correct"].any(1) & r["correct"].any(1)
    if both.sum() < 2:
        return None
    return difference(a["certainty"][both].mean(1), r["certainty"][both].mean(1))


# a, r: what attention and random gave with one fovea; stop: `stopping` of attention
FOVEA_CLAIMS = [
    Claim("accuracy, saccade 10", None, "%", lambda a, r, stop: estimate(100 * a["correct"][:, -1])),
    *[Claim(f"attention - random, saccade {s}", "> 0", "points",
            lambda a, r, stop, i=s - 1: difference(a["correct"][:, i], r["correct"][:, i], 100))
      for s in (1, 2, 3, 5, 10)],
    Claim("gap at saccade 1 - at 10", "> 0", "points", lambda a, r, stop: difference(
        a["correct"][:, 0] - r["correct"][:, 0], a["correct"][:, -1] - r["correct"][:, -1], 100)),
    Claim("attention - random, mean of all", "> 0", "points",
          lambda a, r, stop: difference(accuracy(a), accuracy(r))),
    Claim("visible, attention - random", "< 0", "% of image",
          lambda a, r, stop: difference(share_visible(a), share_visible(r))),
    Claim("correct at least once - full", "> 0", "points",
          lambda a, r, stop: difference(a["correct"].any(1), a["correct_full"], 100)),
    Claim("certainty, attention - random", "> 0", "0 to 1", lambda a, r, stop: certainty_gap(a, r)),
    Claim("full-image certainty per saccade needed", "< 0", "0 to 1",
          lambda a, r, stop: slope(a, "certainty_full", a["correct_full"] == 1)),
    Claim("entropy per saccade needed, attention", "> 0", "bits", lambda a, r, stop: slope(a, "entropy")),
    Claim("lowest entropy, never correct, attention", "> 6.0", "bits", lambda a, r, stop: lowest_entropy(a)),
    Claim("entropy per saccade needed, random", "< 0", "bits", lambda a, r, stop: slope(r, "entropy")),
    Claim("lowest entropy, never correct, random", "< 6.0", "bits", lambda a, r, stop: lowest_entropy(r)),
    Claim("stopping when certain - never", None, "points",
          lambda a, r, stop: difference(stop["correct"], stop["correct_10"], 100)),
    Claim("tokens used so", None, "%", lambda a, r, stop: estimate(100 * stop["tokens"] / stop["tokens_10"]))]
FIVE_AND_THREE = [  # a, b: attention with foveas 5 and 3
    Claim("accuracy, mean of all", "> 0", "points", lambda a, b: difference(accuracy(a), accuracy(b))),
    Claim("correct at least once", "> 0", "points",
          lambda a, b: difference(a["correct"].any(1), b["correct"].any(1), 100))]


def between(name: str, paper: str, a: str, b: str, key: str = "accuracy", unit: str = "points") -> Claim:
    """Of two conditions of --sweep; means: {accuracy or tokens: {condition: (n,)}}."""
    return Claim(name, paper, unit, lambda means: difference(means[key][a], means[key][b]))


SWEEP_CLAIMS = [between("accuracy, block00 - random", "< 0", "block00 full", "random"),
                between("accuracy, block01 - random", "> 0", "block01 full", "random"),
                between("accuracy, block03 - block02", "> 0", "block03 full", "block02 full")]
for grid, paper in zip(GRIDS[1:], ("< 0", "about 0", "< 0")):
    SWEEP_CLAIMS += [
        between(f"accuracy, {grid} maps - random", "> 0", f"last {grid}", "random"),
        between(f"accuracy, {grid} maps - full maps", paper, f"last {grid}", "last full"),
        between(f"visible, {grid} maps - full maps", "< 0", f"last {grid}", "last full", "tokens", "tokens")]


def claims(arrays: dict, foveas: Sequence[int], sweep: bool, seed: int) -> list[dict]:
    """The lines of the table."""
    official = OFFICIAL if len(set(arrays["label"])) > 500 else None  # of ImageNet-1k, not of ten classes
    rows = evaluate([Claim("accuracy, full image", official, "%", estimate)], 100. * arrays["correct_full"])
    for f in foveas:
        a, r = condition(arrays, f"attention fovea{f}"), condition(arrays, f"random fovea{f}")
        rows += evaluate(FOVEA_CLAIMS, a, r, stopping(a, seed), prefix=f"fovea {f}: ")
    if 3 in foveas and 5 in foveas:
        a, b = condition(arrays, "attention fovea5"), condition(arrays, "attention fovea3")
        rows += evaluate(FIVE_AND_THREE, a, b, prefix="fovea 5 - 3: ")
    if sweep:
        last = arrays["conditions"][-1].split()[0]  # the last block
        same = {f"last {grid}": f"{last} {grid}" for grid in GRIDS} | {"random": f"random fovea{foveas[0]}"}
        names = {name: name for name in arrays["conditions"]} | same
        means = {"accuracy": {}, "tokens": {}}
        for name, place in names.items():
            t = condition(arrays, place)
            means["accuracy"][name] = accuracy(t)
            means["tokens"][name] = t["tokens"].mean(1)
        rows += evaluate(SWEEP_CLAIMS, means)
    return rows


# -------------------------------------------------------------------------------- figures

def band(ax, values: np.ndarray, label: str, colour, style: str = "o-", y: str = "") -> None:
    """Mean over images at each saccade; bar: 95 % interval of the mean (normal approximation)."""
    half = 1.96 * values.std(0) / math.sqrt(len(values))
    ax.errorbar(STEPS, values.mean(0), half, fmt=style, color=colour, label=label, markersize=3,
                linewidth=1.2, elinewidth=.8)
    ax.set(xlabel="saccade (bars: 95 % intervals)", ylabel=y, xticks=STEPS)


def save(fig, path: Path) -> None:
    """save_figure with a legend in every panel that has labels."""
    for ax in fig.axes:
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize=6, handlelength=3, ncols=2 if len(ax.lines) > 9 else 1)
    save_figure(fig, path)


def picture_at(ax, picture, title: str = "", colour="black", **how) -> None:
    """A picture or map without axes."""
    ax.imshow(picture, **how)
    ax.set_title(title, fontsize=6, color=colour)
    ax.axis("off")


def draw_accuracy(shown: list, folder: Path) -> None:
    """Fig 3: accuracy per saccade, for each fovea, and visible part of the image."""
    fig, axes = figure_grid(1, len(shown) // 2 + 1, 3.6, 2.8)
    for i, (f, name, t) in enumerate(shown):
        ax = axes[0, i // 2]
        band(ax, 100 * t["correct"], name, PALETTE[name], y="accuracy (% of images)")
        band(axes[0, -1], 100 * t["tokens"] / t["n_tokens"][:, None], f"{name}, {f}x{f}", PALETTE[name],
             "o-" if i < 2 else "s--", "visible tokens (% of image)")
        ax.set_title(f"fovea {f}x{f} tokens")
        if name == "random":
            ax.axhline(100 * t["correct_full"].mean(), color="black", linestyle=":", label="full image")
    save(fig, folder / "fig03_accuracy")


def draw_dynamics(shown: list, folder: Path) -> None:
    """Fig 4: correct at least once so far; changes of mind; how often images are right, all and hard ones."""
    fig, axes = figure_grid(4, len(shown) // 2, 3.6, 2.6)
    for (once, changes, *histograms), (f, name, t) in zip(axes.T, shown[::2]):
        band(once, 100 * np.maximum.accumulate(t["correct"], 1), "correct at least once", PALETTE[name])
        band(once, 100 * t["correct"], "correct now", PALETTE[name], "s--", "images (%)")
        once.axhline(100 * t["correct_full"].mean(), color="black", linestyle=":", label="full image")
        once.set_title(f"attention, fovea {f}x{f}")
        for (change, share), style in zip(transitions(t["correct"]).items(), ("v-", "^-", "v:", "^:")):
            changes.plot(STEPS, 100 * share, style, markersize=4, label=change)
        changes.set(xlabel="saccade", ylabel="images (%)", xticks=STEPS)
        times = t["correct"].sum(1).astype(int)
        hard = times[t["correct_full"] == 0]
        for ax, part, which in zip(histograms, (times, hard), ("all images", "wrong on the full image")):
            share = np.bincount(part, minlength=SACCADES + 1) / max(len(part), 1)
            ax.bar(range(SACCADES + 1), 100 * share, color=PALETTE[name])
            ax.set(title=f"{which} (n = {len(part)})", xlabel="saccades at which the image is correct",
                   ylabel="images (%)", xticks=range(SACCADES + 1))
    save(fig, folder / "fig04_dynamics")


def draw_certainty(shown: list, folder: Path) -> None:
    """Fig 5: certainty of images correct on the full image, mean and by saccade of first success; at the
    right of each panel the same sets on the full image."""
    shades = colormaps["Blues_r"](np.linspace(0, .75, SACCADES))
    fig, axes = figure_grid(len(shown) // 2, 2, 4.6, 2.8)
    for ax, (f, name, t) in zip(axes.flat, shown):
        first = first_success(t["correct"])
        keep = (t["correct_full"] == 1) & (first <= SACCADES)
        for s in np.unique(first[keep]):
            part = keep & (first == s)
            ax.plot(STEPS, t["certainty"][part].mean(0), color=shades[s - 1],
                    label=f"first at {s}, n = {part.sum()}")
            ax.bar(SACCADES + 1 + .25 * s, t["certainty_full"][part].mean(), .25, color=shades[s - 1])
        if keep.any():
            band(ax, t["certainty"][keep], f"all, n = {keep.sum()}", PALETTE["A"], "o--")
            ax.hlines(t["certainty_full"][keep].mean(), SACCADES + 1, SACCADES + 4, color=PALETTE["A"])
        ax.axvline(SACCADES + .75, color="black", linewidth=.5)
        ax.set(title=f"{name}, fovea {f}x{f}", xlabel="saccade (columns: full image; bars: 95 %)",
               ylabel="certainty, 1 - H / log(classes)", ylim=(0, 1), xticks=STEPS)
    save(fig, folder / "fig05_certainty")


def draw_entropy(shown: list, folder: Path) -> None:
    """Fig 7: entropy of the attention map by saccade of first success; dashes: means."""
    fig, axes = figure_grid(len(shown) // 2, 2, 4.4, 2.8)
    for ax, (f, name, t) in zip(axes.flat, shown):
        first = first_success(t["correct"])
        jitter = np.random.default_rng([0, f]).uniform(-.3, .3, len(first))
        ax.plot(first + jitter, t["entropy"], ".", color=PALETTE[name], markersize=2, alpha=.5)
        found = np.unique(first)
        ax.plot(found, [t["entropy"][first == s].mean() for s in found], "_", color="black", markersize=12,
                label="mean")
        ok = first <= SACCADES
        if ok.sum() > 2 and np.ptp(first[ok]) > 0:
            fit = stats.linregress(first[ok], t["entropy"][ok])
            ax.plot(STEPS, fit.intercept + fit.slope * STEPS, color=PALETTE["A"],
                    label=f"{fit.slope:+.3f} bits a saccade, p = {fit.pvalue:.2g}")
        ax.set(title=f"{name}, fovea {f}x{f}", xlabel="saccade of the first correct answer",
               ylabel="entropy of the map (bits)", xticks=range(1, SACCADES + 2),
               xticklabels=[*STEPS, "never"])
    save(fig, folder / "fig07_entropy")


def draw_stopping(shown: list, seed: int, folder: Path) -> None:
    """Beyond the paper: accuracy against tokens when stopping at a certainty, and after a fixed number."""
    fig, axes = figure_grid(1, len(shown) // 2, 4, 2.8)
    for i, (f, name, t) in enumerate(shown):
        ax, stop = axes[0, i // 2], stopping(t, seed)
        for key, style, label in (("curve", "-", "stop at a certainty"), ("fixed", "o:", "fixed number")):
            tokens, correct = stop[key]
            ax.plot(tokens, 100 * correct, style, color=PALETTE[name], markersize=3, label=f"{name}, {label}")
        ax.plot(stop["tokens"].mean(), 100 * stop["correct"].mean(), "*", color=PALETTE["A"], markersize=9)
        ax.set(title=f"fovea {f}x{f}, held-out half (star: chosen)",
               xlabel="mean visible tokens at the answer", ylabel="accuracy (% of images)")
    save(fig, folder / "fig_early_stopping")


def draw_examples(arrays: dict, block: int, fovea: int, border: str, folder: Path) -> None:
    """Fig 2 and 8: image, attention map, what is revealed, prediction and certainty; Fig 13: every block."""
    pictures, maps = arrays["example_image"], torch.from_numpy(arrays["example_map"])  # maps (6, L, h, w)
    size, words, steps = pictures.shape[1:3], arrays["classes"], (0, 1, 2, 4, 9)
    _, revealed = fixation_sequence(maps[:, block], fovea, SACCADES, border)  # (6, 10, h, w)
    revealed = F.interpolate(revealed.float(), size).numpy() > 0  # (6, 10, img_h, img_w)
    maps = upsample(maps, size)
    strips, left = figure_grid(len(maps), 2 + len(steps), 1.55, 1.85)
    blocks, right = figure_grid(len(maps), 1 + maps.shape[1], 1.1, 1.15)
    for i, n in enumerate(arrays["example"]):
        label, full = words[arrays["label"][n]], words[arrays["pred_full"][n]]
        picture_at(left[i, 0], pictures[i], f"{label}\nfull image: {full}")
        bits = f"{arrays['entropy'][n]:.2f} bits"
        picture_at(left[i, 1], maps[i, block], f"attention, block {block}\n{bits}", cmap="inferno", vmin=0)
        pred, certainty, correct = (arrays[key][n, 0] for key in ("pred", "certainty", "correct"))
        for ax, s in zip(left[i, 2:], steps):
            picture_at(ax, np.where(revealed[i, s, :, :, None], pictures[i], 235),
                       f"saccade {s + 1}: {words[pred[s]]}\ncertainty {certainty[s]:.2f}",
                       PALETTE["B"] if correct[s] else PALETTE["A"])
        picture_at(right[i, 0], pictures[i])
        for b, ax in enumerate(right[i, 1:]):
            picture_at(ax, maps[i, b], f"block {b}" if i == 0 else "", cmap="inferno", vmin=0)
    save_figure(strips, folder / "fig08_examples")
    save_figure(blocks, folder / "fig13_maps")


def draw_sweep(arrays: dict, fovea: int, folder: Path) -> None:
    """Fig 6 (blocks; resolutions of the last block) and Fig 17 (blocks of smaller inputs)."""
    depth = arrays["example_map"].shape[1]
    blocks = {grid: {f"block {b}": f"block{b:02d} {grid}" for b in range(depth)} for grid in GRIDS}
    last = {f"{grid} maps": f"block{depth - 1:02d} {grid}" for grid in GRIDS}
    fig06 = {"maps of every block": blocks["full"], "last block, smaller inputs": last}
    fig17 = {f"maps of {grid} tokens": blocks[grid] for grid in GRIDS[1:]}
    for panels, name in ((fig06, "fig06_depth_resolution"), (fig17, "fig17_depth_by_resolution")):
        fig, axes = figure_grid(len(panels), 2, 4.2, 2.8)
        for row, (title, lines) in zip(axes, panels.items()):
            shades = [*colormaps["viridis"](np.linspace(0, .95, len(lines))), PALETTE["random"]]
            for (label, key), colour in zip([*lines.items(), ("random", f"random fovea{fovea}")], shades):
                t, style = condition(arrays, key), "--" if label == "random" else "-"
                row[0].plot(STEPS, 100 * t["correct"].mean(0), style, color=colour, label=label)
                row[1].plot(STEPS, t["tokens"].mean(0), style, color=colour, label=label)
            row[0].set(title=title, xlabel="saccade", ylabel="accuracy (% of images)", xticks=STEPS)
            row[1].set(title=title, xlabel="saccade", ylabel="visible tokens", xticks=STEPS)
        save(fig, folder / name)


def draw(arrays: dict, results: dict, folder: Path) -> None:
    """Every figure of a run."""
    args = results["args"]
    shown = [(f, name, condition(arrays, f"{name} fovea{f}"))
             for f in sorted(args["fovea"]) for name in ("attention", "random")]
    draw_accuracy(shown, folder)
    draw_dynamics(shown, folder)
    draw_certainty(shown, folder)
    draw_entropy(shown, folder)
    draw_stopping(shown, args["seed"], folder)
    draw_examples(arrays, results["block"], args["fovea"][0], args["border"], folder)
    if args["sweep"]:
        draw_sweep(arrays, args["fovea"][0], folder)


# -------------------------------------------------------------------------------- main

def study_parser(file: str, card: str) -> argparse.ArgumentParser:
    """The arguments that exp04_saccades.py and exp04_saliency.py share."""
    parser = argument_parser(file, card, limit=f"a random N of the images (demo: {DEMO_IMAGES})")
    group = parser.add_argument_group("study")
    add, one_of = group.add_argument, group.add_mutually_exclusive_group().add_argument
    add("--model", help="a ViT of the weight table, or auto with --weights (dino_vits16; demo: demo_dino12)")
    one_of("--head", type=Path, help="linear classifier: weight, bias (default: the model's published one)")
    one_of("--train-head", action="store_true", help="fit one on frozen features of the last 4 blocks")
    add("--fovea", type=int, nargs="+", default=list(FOVEAS), metavar="N",
        help="odd number of tokens; --sweep and --saliency use the first (default: 3 5)")
    add("--layer", type=int, dest="block", metavar="L",
        help="0-based block whose attention guides the saccades (default: the last)")
    add("--border", choices=["clip", "shift"], default="clip", help="fovea at the border (%(default)s)")
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = study_parser(__file__, __doc__)
    add = parser.add_argument_group("further parts").add_argument
    add("--sweep", action="store_true", help="also maps of every block, and of smaller inputs")
    add("--saliency", action="store_true", help="then exp04_saliency.py, with the same arguments")
    return parse_args(parser, argv)


def start_saliency(args: argparse.Namespace, argv: list[str] | None) -> None:
    """With --saliency: exp04_saliency.py with the same arguments, in the folder saliency/ of this run."""
    if args.saliency:
        file = Path(__file__).with_name("exp04_saliency.py")
        words = sys.argv[1:] if argv is None else argv
        shared = [word for word in words if word not in ("--sweep", "--saliency")]
        sys.argv = [str(file), *shared, "--out", str(args.out / "saliency"), "--saccades", str(args.out)]
        runpy.run_path(str(file), run_name="__main__")


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    init_distributed(device)
    if only_draw(args):
        redraw(args.out, draw)
        return start_saliency(args, argv)
    # A Vision Transformer, a classifier of its CLS tokens, and images that the classifier was not fitted on.
    name = args.model or ("demo_dino12" if args.data == "demo" else "dino_vits16")
    model, view, head, block = load_model(name, args.weights, args.head, args.train_head, args.block)
    items, fit, classes = load_data(args.data, head and head.out_features, args.limit, args.seed,
                                    args.workers)
    side = view.crop // model.patch_size
    for fovea in args.fovea:
        fixation_sequence(torch.ones(1, side, side), fovea, 1)  # refuses what does not fit the grid
    names, fitted = ([data.image_name(path) for path, _ in part] for part in (items, fit))
    folder = begin(args, names + fitted, model=model, head=head or model.head)
    model.to(device, getattr(torch, args.dtype))
    unreadable = []
    if args.train_head:
        head, unreadable = fit_head(model, view, fit, len(classes), folder, args.batch_size, args.workers)
        save_checkpoint(head.state_dict(), args.out / "linear_head.pth")
    # On every image an attention map and a random one guide ten saccades, each followed by a classification.
    images = data.Images([path for path, _ in items], view)
    arrays = in_batches(folder / "saccades", images, args.batch_size, partial(
        measure, model=model, head=head.to(device), labels=torch.tensor([label for _, label in items]),
        block=block, foveas=args.fovea, border=args.border, seed=args.seed, sweep=args.sweep), args.workers)
    arrays, names, bad = data.readable_only(arrays, names)
    arrays |= dict(image=np.array(names), classes=np.array(classes),
                   conditions=np.array(list(conditions(args.fovea, len(model.blocks), args.sweep))))
    arrays |= examples(arrays, images, view, model, args.fovea[0])
    # The paper's claims beside ours; tables and figures.
    headline = claims(arrays, args.fovea, args.sweep, args.seed)
    if args.sweep:
        write_csv(sweep_rows(arrays), args.out / "sweep.csv")
    finish(args, "exp04_saccades", arrays, image_rows(arrays, 2 * len(args.fovea)), headline, draw, began,
           device, not_run=[text for part, text in NOT_RUN.items() if not getattr(args, part)],
           files=[path for path, _ in items], model=name, block=block, images=len(names),
           unreadable=unreadable + bad, classes=len(classes), preprocessing=vars(view))
    start_saliency(args, argv)


if __name__ == "__main__":
    cli(main)
