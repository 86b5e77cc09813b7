"""exp04: does the attention of a self-supervised Vision Transformer tell where to look to recognise an image?

Dallain, Rodriguez, Perrinet & Miramond (2026), "A saccade-inspired approach to image classification using
vision transformer attention maps" (arXiv 2603.09613). The maximum of DINO's last CLS attention map is fixated,
a fovea of 3x3 or 5x5 tokens is revealed and suppressed in the map, and so on, ten times. After every saccade
the same network classifies the image from the revealed tokens alone. Measured: accuracy, certainty, visible
tokens and changes of mind over saccades, against random fixations, the full image, other blocks and smaller
inputs (--sweep), and other saliency models on larger images, for DINO and for a ResNet-50 (--saliency).

Commands
    laptop, demo world    python exp04_saccades.py
    one fovea, one block  python exp04_saccades.py --fovea 5 --layer 11
    blocks, resolutions   python exp04_saccades.py --sweep --limit 60
    saliency models       python exp04_saccades.py --saliency --limit 120
    one GPU, the paper    python exp04_saccades.py --data IMAGENET --sweep --saliency --dtype bfloat16
    eight GPUs            torchrun --nproc_per_node 8 exp04_saccades.py --data IMAGENET --sweep --saliency
    no ImageNet at hand   python exp04_saccades.py --data imagenette     (downloads 330 MB; 10 of the 1000 classes)
    own images and head   python exp04_saccades.py --data FOLDER --model dino_vits16 --train-head
    own saliency maps     python exp04_saccades.py --data FOLDER --saliency --saliency-dir MAPS
Data: IMAGENET/val/<wnid>/*.JPEG, the flat validation folder with its devkit, or FOLDER[/val]/<class>/*.
--train-head fits on FOLDER/train/<class>/* or, without one, on a random half that is then left out.
MAPS/[<class>/]<image name>.npy or .png: one map of the whole image each. Weights download once (torch's cache).
Result, in runs/exp04_saccades/<tag>/ or --out: per_image.csv (a row an image and condition: correct, tokens,
certainty, pred, row, col of saccades 1 to 10), saccades.npz (fixations and classes, compact), sweep/ and
saliency/ (the same), examples.npz, results.json; from these files the figures fig03_* to fig17_*.

To compare with: official DINO ViT-S/16 with its linear head, full images: 77.0 %. All else in the paper's text
is an ordering; the table that ends the run says whether ours agrees. Settings that the paper does not state,
ours: fovea cut at the border (--border shift: moved inside), tokens dropped and not blanked, certainty
1 - H / log(classes) (its sentence has the ends swapped), entropy in bits, 288x384 px in --saliency (its crop of
2.1 % implies that), ResNet crops moved inside the image, first fixation, resized to 224 px.
Departures: GBVS is written anew after Harel et al. (common.py); the paper's Python port has faulty Gabor
filters. UNISAL: the authors' own inference for DHF1K, with its GRU (--unisal-static: without).
"""
from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from scipy import stats
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.models.resnet import Bottleneck, ResNet, ResNet50_Weights
from tqdm import tqdm

from common import (IMAGENET, IMAGE_SUFFIXES, InputError, PALETTE, ROOT, WEIGHTS, Preprocess, RowLog,
                    VisionTransformer, add_common_args, atomic_write, barrier, bootstrap_ci, cli, collate_readable,
                    fingerprint, fit_linear, gather_rows, gbvs, generator, imagenet_wnids, init_distributed,
                    load_head, load_imagefolder, load_vit, locate_weights, mcnemar, minmax, paired_t, pick_device,
                    print_paper_vs_ours, rank_world, read_csv, read_image, read_state_dict, resize_matrix,
                    save_checkpoint, save_figure, shard, start_run, upsample, write_results)

matplotlib.use("Agg")

# -------------------------------------------------------------------------------- constants

SACCADES = 10  # an image (Methods, Classification)
SUPPRESSED = -1.0  # value of a visited square in the map: below every attention
FOVEAS = (3, 5)  # tokens a side: 48 and 80 px at patch 16
LOW_GRIDS = (12, 10, 8)  # tokens a side of the smaller inputs of --sweep: 192, 160, 128 px at patch 16
SALIENCY_GRID = (18, 24)  # tokens of the inputs of --saliency: 288x384 px at patch 16
PER_CLASS = 10  # images of a class in --saliency
LAST_BLOCKS = 4  # the linear head reads the CLS token of the last four blocks (DINO's eval_linear.py, ViT-S)
N_ANIMALS = 398  # classes 0 to 397 of ImageNet-1k are animals
POLICIES = ("dino", "gbvs", "unisal", "random", "centre")  # centre: crops only
CLOSE = 2.0  # points: "close", "comparable" in the paper's text count as confirmed within this difference
PER_SACCADE = ("correct", "tokens", "certainty", "pred", "row", "col")  # columns <name>_1 to <name>_10
LABELS = dict(dino="DINO", gbvs="GBVS", unisal="UNISAL", random="random", centre="centre")
COLOURS = dict(PALETTE, other="#e377c2")
EXAMPLES = 6  # images in the strips
HEAD_L2 = 1e-3  # penalty on the standardised weights of --train-head
CHOICES = dict(border="clip", suppressed=SUPPRESSED, certainty="1 - H(softmax) / log(classes)", entropy="bits",
               hidden_tokens="dropped, position embeddings kept", random="uniform map per image",
               low_resolution="antialiased bilinear resize of the crop", saliency_input="whole image squashed, bilinear",
               crop="fovea x patch px at the first fixation, moved inside, bilinear to 224")  # the paper states none


# -------------------------------------------------------------------------------- data

class Images(torch.utils.data.Dataset):
    """Item i -> (i, uint8 (3, img_h, img_w)) of `view`, or (i, None) when the file cannot be read.

    cache: a folder that keeps the decoded images in one sparse file (7.5 GB for 50,000 of 224x224), filled at
    the first reading; the first byte of an image's record says that it is there.
    """

    def __init__(self, items: list[tuple], view: Preprocess, cache: Path | None = None):
        self.items, self.view, self.store = items, replace(view, mean=(0., 0., 0.), std=(1., 1., 1.)), None
        size = (view.crop, view.crop) if isinstance(view.crop, int) else tuple(view.crop)
        self.size, self.file, self.shape = size, None, (len(items), 1 + 3 * size[0] * size[1])
        if cache:
            how = f"{view.resize}{view.interpolation}{'x'.join(map(str, size))}"
            self.file = Path(cache) / f"{fingerprint(p for p, _ in items)}_{how}.uint8"
            if rank_world()[0] == 0 and not self.file.exists():
                with atomic_write(self.file, "wb") as f:
                    f.truncate(math.prod(self.shape))
            barrier()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[int, Tensor | None]:
        if self.file and self.store is None:  # opened in each worker
            self.store = np.memmap(self.file, np.uint8, "r+", shape=self.shape)
        if self.store is not None and self.store[i, 0]:
            return i, torch.from_numpy(self.store[i, 1:].reshape(3, *self.size).copy())
        try:
            image = (self.view(read_image(self.items[i][0])) * 255).round().to(torch.uint8)
        except InputError:
            return i, None
        if self.store is not None:
            self.store[i, 1:] = image.flatten().numpy()
            self.store[i, 0] = 1
        return i, image


def find_data(data: str, n_out: int | None, animals: bool, limit: int | None, seed: int, workers: int
              ) -> tuple[list, list, list[str]]:
    """(items to test, items to fit a head on, class names); an item is (path, label).

    n_out: outputs of the head; with 1000 the labels are those of ImageNet-1k. To fit on: train/ if there is
    one, else a random half, which is left out of the test. limit: a random N to test, in the files' order.
    """
    if data == "demo":
        import demo  # only here: real data need no demo world
        if rank_world()[0] > 0:
            barrier()  # rank 0 draws the pictures, the others find them
        root = demo.demo_world(parts=("imagenet",), workers=max(workers, 1)) / "imagenet"
        if rank_world()[0] == 0:
            barrier()
    elif data == "imagenette":
        root = download_imagenette(ROOT / "runs")
    else:
        root = Path(data)
    wnids = imagenet_wnids()
    items, classes, _ = load_imagefolder(root, wnids if n_out == len(wnids) or animals else None)
    fit = []
    if (root / "train").is_dir() and (root / "val").is_dir():
        fit = load_imagefolder(root / "train", classes)[0]
    if animals:
        items, fit = ([(p, int(k >= N_ANIMALS)) for p, k in part] for part in (items, fit))
        classes = ["animal", "other"]
    order = torch.randperm(len(items), generator=generator(seed, 1)).tolist()
    if not fit:
        fit = [items[i] for i in sorted(order[:len(items) // 2])]
        order = order[len(items) // 2:] if n_out is None else order
    return [items[i] for i in sorted(order[:limit])], fit, classes


def download_imagenette(root: Path) -> Path:
    """Imagenette2-320's folder below root; fetched by torchvision on first use."""
    from torchvision.datasets import Imagenette
    folder = root / "imagenette2-320"
    if not folder.exists() and rank_world()[0] == 0:
        try:
            Imagenette(str(root), split="val", size="320px", download=True)
        except Exception as e:  # network, proxy and disk faults have no common type
            raise InputError(f"Imagenette cannot be downloaded ({e}); unpack imagenette2-320.tgz elsewhere and "
                             "give its folder with --data.") from e
    barrier()
    return folder


def image_name(path: Path) -> str:
    """<class>/<file>: the image's name in all results."""
    return f"{Path(path).parent.name}/{Path(path).name}"


def class_titles(classes: list[str]) -> list[str]:
    """Names to print: the demo's and ImageNet-1k's wnids become words."""
    from demo_shapes import CLASSES
    words = {v[0]: name for name, v in CLASSES.items()}
    words.update(zip(imagenet_wnids(), ResNet50_Weights.IMAGENET1K_V2.meta["categories"]))
    return [words.get(c, c) for c in classes]


def some_per_class(items: list[tuple], n: int, seed: int) -> list[tuple]:
    """A random n items of every label, in order."""
    order, taken, keep = torch.randperm(len(items), generator=generator(seed, 2)).tolist(), {}, []
    for i in order:
        label = items[i][1]
        taken[label] = taken.get(label, 0) + 1
        if taken[label] <= n:
            keep.append(i)
    return [items[i] for i in sorted(keep)]


def external_maps(folder: Path, items: list[tuple], index: Tensor, size: tuple[int, int]) -> Tensor:
    """Saliency maps of the images in folder, in [0, 1] on the token grid `size`, (B, h, w)."""
    maps = []
    for path in (items[i][0] for i in index.tolist()):
        stems = (folder / path.parent.name / path.stem, folder / path.stem)
        found = [f for s in stems for f in (s.with_name(s.name + e) for e in (".npy", *IMAGE_SUFFIXES)) if f.exists()]
        if not found:
            raise InputError(f"--saliency-dir {folder}: no map for {image_name(path)}; expected "
                             f"{path.parent.name}/{path.stem}.npy or .png (or the file name alone).")
        if found[0].suffix == ".npy":
            try:
                one = np.load(found[0], allow_pickle=False)
            except (ValueError, OSError, EOFError) as e:
                raise InputError(f"{found[0]}: not a readable array ({e}); save one (rows, columns) map.") from e
        else:
            one = np.asarray(read_image(found[0]).convert("L"))
        if one.ndim != 2 or not np.isfinite(one).all():
            raise InputError(f"{found[0]}: shape {one.shape} or NaN; expected one finite map (rows, columns).")
        maps.append(minmax(upsample(torch.from_numpy(one.astype(np.float32)), size)))
    return torch.stack(maps)


# -------------------------------------------------------------------------------- model

def fixation_sequence(att: Tensor, fovea: int, n: int, border: str = "clip") -> tuple[Tensor, Tensor]:
    """Saccades over maps att (B, h, w) >= 0: (fixations (B, n, 2) row, col; visible (B, n, h, w) bool).

    Each saccade goes to the maximum, reveals the fovea x fovea square around it and suppresses it in the map
    (inhibition of return). visible is cumulative. border: "clip" cuts the square at the border, "shift" moves
    it inside (the fixation stays the maximum). Ties: the first in row-major order.
    """
    B, h, w = att.shape
    if fovea < 1 or fovea % 2 == 0 or fovea > min(h, w):
        raise InputError(f"fovea {fovea}: expected an odd number of tokens, at most {min(h, w)} on a grid of {h}x{w}.")
    if not (att >= 0).all():
        raise InputError("attention map: found NaN or negative values, expected all at least 0; rescale it.")
    rows, cols = torch.arange(h, device=att.device)[:, None], torch.arange(w, device=att.device)
    left, seen, fixations, visible = att.clone(), torch.zeros_like(att, dtype=torch.bool), [], []
    for _ in range(n):
        best = left.flatten(1).argmax(1)  # (B,)
        row, col = best // w, best % w
        fixations.append(torch.stack([row, col], 1))
        if border == "shift":
            row, col = row.clamp(fovea // 2, h - 1 - fovea // 2), col.clamp(fovea // 2, w - 1 - fovea // 2)
        square = (((rows - row[:, None, None]).abs() <= fovea // 2)
                  & ((cols - col[:, None, None]).abs() <= fovea // 2))  # (B, h, w)
        left = left.masked_fill(square, SUPPRESSED)
        seen = seen | square
        visible.append(seen)
    return torch.stack(fixations, 1), torch.stack(visible, 1)


def forward_visible(model: VisionTransformer, x: Tensor, visible: Tensor, n_last: int = 4) -> Tensor:
    """CLS of the last n_last blocks, each after norm, oldest first, from the visible tokens alone.

    x (B, 3, img_h, img_w), visible (B, ..., h, w) bool -> (B, ..., n_last D). Only visible tokens are computed,
    with the position embeddings of their places: equal to a full pass with the other keys masked. All masks
    with the same number of tokens run together, whatever their image or saccade, so nothing is padded.
    """
    patches = model.embed(x)  # (B, h w, D)
    seen = visible.flatten(0, -3).flatten(1)  # (S, h w), S masks
    image = torch.arange(len(x), device=x.device).repeat_interleave(len(seen) // len(x))  # (S,)
    order = seen.int().argsort(dim=1, descending=True, stable=True)  # visible places first, row-major
    out = patches.new_empty(len(seen), n_last * patches.shape[-1])
    counts = seen.sum(1).cpu()
    budget = 4096 if x.device.type == "cpu" else 2**18  # tokens a pass: what fits in a CPU's cache
    for k in counts.unique().tolist():
        for part in (counts == k).nonzero()[:, 0].to(x.device).split(max(1, budget // (k + model.n_prefix))):
            tokens = patches[image[part, None], order[part, :k]]  # (g, k, D)
            out[part] = model.norm(model.encode(tokens).cls[:, -n_last:]).flatten(1)
    return out.unflatten(0, visible.shape[:-2])


def look(model: VisionTransformer, x: Tensor, blocks: list[int], n_last: int = 4) -> tuple[Tensor, Tensor]:
    """One full pass: features as forward_visible's (B, n_last D), and head-maximum maps (B, blocks, h, w)."""
    e = model.encode(model.embed(x), blocks)
    maps = torch.stack([row[..., model.n_prefix:].amax(1) for row in e.cls_attn], 1)  # (B, blocks, h w)
    grid = [s // model.patch_size for s in x.shape[-2:]]
    return model.norm(e.cls[:, -n_last:]).flatten(1), maps.unflatten(-1, grid)


def classify(head: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
    """(class, certainty) of features (..., d). Certainty = 1 - H / log(classes): 0 uniform, 1 one-hot."""
    log_p = head(features.float()).log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return log_p.argmax(-1), 1 - entropy / math.log(log_p.shape[-1])


def map_entropy(maps: Tensor) -> Tensor:
    """Shannon entropy in bits of maps (..., h, w), each divided by its sum; at most log2(h w)."""
    p = maps.flatten(-2).cpu().double()
    return torch.special.entr(p / p.sum(-1, keepdim=True)).sum(-1) / math.log(2)


def crop_at(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Squares of `side` px around centres (B, 2) row, col in px, moved inside: (B, 3, side, side)."""
    top, left = ((centres[:, d] - side / 2).round().long().clamp(0, images.shape[2 + d] - side) for d in (0, 1))
    steps = torch.arange(side, device=images.device)
    rows, cols = (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None]
    return images[torch.arange(len(images))[:, None, None], :, rows, cols].permute(0, 3, 1, 2)


def find_head(head: Path | None, name: str, model: VisionTransformer) -> nn.Module:
    """The classifier: a file, the one published with the model, or the model's own."""
    if head is None and f"{name}_linear" not in WEIGHTS:
        if isinstance(model.head, nn.Identity):
            raise InputError(f"model {name} has no classifier; give one with --head FILE or fit one with --train-head.")
        return model.head
    return load_head(head or name)


def blocks_read(head: nn.Linear, model: VisionTransformer) -> int:
    """How many last blocks' CLS tokens the head reads: 4, as DINO's for ViT-S, or 1."""
    width, d = head.in_features, model.embed_dim
    if width not in (d, LAST_BLOCKS * d):
        raise InputError(f"the head reads {width} numbers, expected {d} (CLS of the last block) or {LAST_BLOCKS * d} "
                         f"(of the last {LAST_BLOCKS}) from this model; give another --head or use --train-head.")
    return width // d


def load_resnet(file: Path | None, demo: bool) -> nn.Module:
    """The classifier of crops: ResNet-50 (IMAGENET1K_V2), or the demo's narrow one; classes as in the file."""
    state = read_state_dict(file or locate_weights(WEIGHTS["demo_resnet" if demo else "resnet50"]))
    n_classes = len(state.get("fc.weight", ()))
    layers, width = ([1, 1, 1, 1], 16) if demo else ([3, 4, 6, 3], 64)
    net = ResNet(Bottleneck, layers, n_classes or 1000, width_per_group=width)
    try:
        net.load_state_dict(state)
    except RuntimeError as e:
        raise InputError(f"{file or 'resnet50'}: not the state dict of torchvision's ResNet-50 "
                         f"({str(e).splitlines()[-1].strip()[:120]}).") from e
    return net.eval()


# UNISAL (Droste, Jiao & Noble 2020): MobileNetV2, a convolutional GRU and two up-sampling stages with skip
# connections; normalisation, priors, last layer and smoothing are learned once per data set ("domain").

DOMAINS = ("DHF1K", "Hollywood", "UCFSports", "SALICON")


class DomainNorm(nn.ModuleDict):
    """Batch normalisation with statistics of each domain."""

    def __init__(self, channels: int, domain: str):
        super().__init__({f"bn_{d}": nn.BatchNorm2d(channels) for d in DOMAINS})
        self.key = f"bn_{domain}"

    def forward(self, x: Tensor) -> Tensor:
        return self[self.key](x)


class InvertedResidual(nn.Module):
    """Expand by a 1x1, filter by a depthwise 3x3, project by a 1x1 convolution (MobileNetV2)."""

    def __init__(self, n_in: int, n_out: int, expand: int, norm: Callable = nn.BatchNorm2d, stride: int = 1):
        super().__init__()
        mid = n_in * expand
        widen = [nn.Conv2d(n_in, mid, 1, bias=False), norm(mid), nn.ReLU6()] if expand > 1 else []
        self.conv = nn.Sequential(*widen, nn.Conv2d(mid, mid, 3, stride, 1, groups=mid, bias=False), norm(mid),
                                  nn.ReLU6(), nn.Conv2d(mid, n_out, 1, bias=False), norm(n_out))
        self.residual = n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class ConvGRUCell(nn.Module):
    """Gated recurrent unit with separable 3x3 convolutions, each normalised and scaled."""

    def __init__(self, channels: int, norm: Callable):
        super().__init__()
        for name in ("w_r", "u_r", "w_z", "u_z", "w", "u"):  # w: from the input, u: from the state
            self.add_module(name, nn.Sequential())
            for part, layer in (("conv_dw", nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)),
                                ("sep_bn", norm(channels)), ("sep_relu", nn.ReLU6()),
                                ("conv_sep", nn.Conv2d(channels, channels, 1, bias=False))):
                self.get_submodule(name).add_module(part, layer)
        for gate in ("r", "z", "h"):
            setattr(self, f"b_{gate}", nn.Parameter(torch.zeros(channels, 1, 1)))
            for source in ("x", "h"):
                setattr(self, f"a_{gate}_{source}", nn.Parameter(torch.ones(channels, 1, 1)))
                self.add_module(f"norm_{'out' if gate == 'h' else gate}_{source}", norm(channels))
        self.register_buffer("drop_mask_1", torch.ones(3, channels))  # of training; in the official file

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        r = torch.sigmoid(self.a_r_x * self.norm_r_x(self.w_r(x)) + self.a_r_h * self.norm_r_h(self.u_r(state))
                          + self.b_r)
        z = torch.sigmoid(self.a_z_x * self.norm_z_x(self.w_z(x)) + self.a_z_h * self.norm_z_h(self.u_z(state))
                          + self.b_z)
        new = torch.tanh(self.a_h_x * self.norm_out_x(self.w(x)) + r * self.a_h_h * self.norm_out_h(self.u(state))
                         + self.b_h)
        return (1 - z) * state + z * new


class MobileNetV2(nn.Module):
    """(B, 3, img_h, img_w) -> 1280 channels at 1/32 of the size, and skips: 160 at 1/16, 64 at 1/8."""

    def __init__(self):
        super().__init__()
        layers, n_in = [nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())], 32
        for expand, n_out, repeats in ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3),
                                       (6, 320, 1)):
            for _ in range(repeats):
                stride = 2 if len(layers) in (2, 4) else 1  # layers 7 and 14 halve after their skip is taken
                layers.append(InvertedResidual(n_in, n_out, expand, stride=stride))
                n_in = n_out
        layers.append(nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        skips = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in (7, 14):
                skips.append(x)
                x = x[..., ::2, ::2]
        return x, skips[1], skips[0]


class UNISAL(nn.Module):
    """Unified image and video saliency, with the state-dict keys of the official weights (835).

    forward(x (B, T, 3, img_h, img_w), static=False) -> (B, T, 1, img_h, img_w), log probability over pixels.
    x: RGB with ImageNet's mean and SD, sides multiples of 32. static: without the GRU (the authors' setting for
    the domain SALICON). Also usable alone: UNISAL("SALICON").load_state_dict(torch.load(FILE)).
    """

    def __init__(self, domain: str = "DHF1K"):
        super().__init__()
        self.domain, norm = domain.lower(), partial(DomainNorm, domain=domain)

        def pointwise(n_in: int, n_out: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(n_in, n_out, 1, bias=False), norm(n_out), nn.ReLU6())

        def skip(n_in: int, n_out: int) -> nn.ModuleDict:
            return nn.ModuleDict({"expansion": pointwise(n_in, 2 * n_in),
                                  "reduction": nn.Sequential(nn.Conv2d(2 * n_in, n_out, 1), norm(n_out))})
        self.cnn = MobileNetV2()
        self.post_cnn = nn.ModuleDict({"inv_res": InvertedResidual(1280 + 16, 256, 1)})
        self.rnn = nn.ModuleDict({"cell_list": nn.ModuleList([ConvGRUCell(256, norm)])})
        self.post_rnn = pointwise(256, 256)
        self.skip_2x, self.skip_4x = skip(160, 128), skip(64, 64)
        self.upsampling_2 = nn.ModuleDict({"inv_res": InvertedResidual(256 + 128, 128, 2, norm)})
        self.post_upsampling_2 = nn.ModuleDict({"inv_res": InvertedResidual(128 + 64, 64, 2, norm)})
        for d in map(str.lower, DOMAINS):
            setattr(self, f"coarse_gaussians_{d}", nn.Parameter(torch.zeros(16, 2, 2)))
            setattr(self, f"adaptation_{d}", nn.Sequential(nn.Conv2d(64, 1, 1)))
            setattr(self, f"smoothing_{d}", nn.Conv2d(1, 1, 41, bias=False))

    def priors(self, x: Tensor) -> Tensor:
        """16 Gaussians on the grid of x, (B, 16, h, w), height 6; learned mean and log SD, image sides = 1."""
        mean, log_sd = getattr(self, f"coarse_gaussians_{self.domain}").unbind(-1)  # (16, 2) row, col each
        rows, cols = (torch.exp(-((torch.linspace(0, 1, n, device=x.device) - mean[:, d, None])
                                  / log_sd[:, d, None].exp()).square() / 2)
                      for d, n in enumerate(x.shape[-2:]))  # (16, h), (16, w)
        return (6 * rows[:, :, None] * cols[:, None]).expand(len(x), -1, -1, -1)

    def decode(self, x: Tensor, half: Tensor, quarter: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, 256, h, w), skips (B, 128, 2h, 2w) and (B, 64, 4h, 4w) -> log probability (B, 1, *size)."""
        double = partial(F.interpolate, scale_factor=2, mode="bilinear", align_corners=False)
        x = double(self.upsampling_2["inv_res"](torch.cat([double(x), half], 1)))
        x = self.post_upsampling_2["inv_res"](torch.cat([x, quarter], 1))
        x = F.interpolate(getattr(self, f"adaptation_{self.domain}")(x), size, mode="nearest")
        x = getattr(self, f"smoothing_{self.domain}")(F.pad(x, (20,) * 4, mode="replicate"))
        return x.flatten(1).log_softmax(1).view(-1, 1, *size)

    def forward(self, x: Tensor, static: bool = False) -> Tensor:
        state, out = None, []
        for frame in x.unbind(1):
            coarse, half, quarter = self.cnn(frame)
            coarse = self.post_cnn["inv_res"](torch.cat([coarse, self.priors(coarse)], 1))  # (B, 256, h, w)
            if not static:
                state = self.rnn["cell_list"][0](coarse, torch.zeros_like(coarse) if state is None else state)
                coarse = coarse + self.post_rnn(state)
            half, quarter = (skip["reduction"](skip["expansion"](f))
                             for skip, f in ((self.skip_2x, half), (self.skip_4x, quarter)))
            out.append(self.decode(coarse, half, quarter, x.shape[-2:]))
        return torch.stack(out, 1)


def load_unisal(file: Path | None, domain: str) -> UNISAL:
    """UNISAL with the official weights, strictly; file None: the published one, downloaded when absent."""
    net, state = UNISAL(domain), read_state_dict(file or locate_weights(WEIGHTS["unisal"]))
    try:
        net.load_state_dict(state)
    except RuntimeError as e:
        raise InputError(f"{file or 'unisal'}: not UNISAL's weights_best.pth ({' '.join(str(e).split())[:200]}).") from e
    return net.eval()


# -------------------------------------------------------------------------------- measure

class Study:
    """The fixed parts of a run: network, classifier, settings. Its methods map images in [0, 1] to rows."""

    def __init__(self, model: VisionTransformer, view: Preprocess, head: nn.Linear, items: list[tuple],
                 foveas: list[int], block: int, border: str, seed: int, device: torch.device, dtype: torch.dtype):
        depth = len(model.blocks)
        if not 0 <= block < depth:
            raise InputError(f"--layer {block}: this model has blocks 0 to {depth - 1} (0-based).")
        self.model, self.head = model.to(device, dtype).eval(), head.to(device).eval()
        self.n_last, self.items, self.foveas, self.block = blocks_read(head, model), items, foveas, block
        self.border, self.seed, self.device, self.dtype = border, seed, device, dtype
        self.mean, self.std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (view.mean, view.std))
        self.labels = torch.tensor([label for _, label in items], device=device)

    def on(self, items: list[tuple]) -> Study:
        """The same study of other images."""
        other = copy.copy(self)
        other.items, other.labels = items, torch.tensor([label for _, label in items], device=self.device)
        return other

    def places(self, names) -> list[int]:
        """Indices of the items with these names."""
        index = {image_name(path): i for i, (path, _) in enumerate(self.items)}
        return list(dict.fromkeys(index[name] for name in names))

    def normalise(self, images: Tensor) -> Tensor:
        return ((images - self.mean) / self.std).to(self.dtype)

    def random_maps(self, index: Tensor, grid: tuple[int, int]) -> Tensor:
        """Uniform random values (B, h, w), a function of the seed and the image's index alone."""
        return torch.stack([torch.rand(grid, generator=generator(self.seed, 3, i)) for i in index.tolist()])

    def saccades(self, x: Tensor, index: Tensor, conditions: dict[str, tuple[Tensor, int]], detail: bool = True
                 ) -> dict[str, dict[str, Tensor]]:
        """{condition: {column: (B, 10)}} for conditions {name: (map (B, h, w), fovea)}, all in one pass."""
        sequences = [fixation_sequence(m.to(x.device).float(), fovea, SACCADES, self.border)
                     for m, fovea in conditions.values()]
        visible = torch.stack([v for _, v in sequences], 1)  # (B, C, 10, h, w)
        pred, certainty = classify(self.head, forward_visible(self.model, x, visible, self.n_last))  # (B, C, 10)
        out = {}
        for c, (name, (fixations, seen)) in enumerate(zip(conditions, sequences)):
            out[name] = {"correct": (pred[:, c] == self.labels[index][:, None]).int(), "tokens": seen.sum((-2, -1))}
            if detail:
                out[name] |= {"certainty": certainty[:, c], "pred": pred[:, c], "row": fixations[..., 0],
                              "col": fixations[..., 1]}
        return out

    def rows(self, index: Tensor, found: dict[str, dict[str, Tensor]], **columns: Tensor) -> list[list[dict]]:
        """Per image the rows of its conditions; columns (B,): of every condition."""
        def cells(name: str, values: Tensor) -> list[dict]:
            values = values.cpu()
            if values.ndim == 1:
                return [{name: v} for v in rounded(values)]
            return [{f"{name}_{k}": v for k, v in enumerate(rounded(row), 1)} for row in values]
        out = [[] for _ in index]
        for condition, measures in found.items():
            parts = [cells(k, v) for k, v in ({"label": self.labels[index]} | columns | measures).items()]
            for b, i in enumerate(index.tolist()):
                row = {"image": image_name(self.items[i][0]), "condition": condition}
                out[b].append(row | {k: v for part in parts for k, v in part[b].items()})
        return out

    def full(self, x: Tensor, index: Tensor, blocks: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Columns of the full image, and its maps (B, blocks, h, w)."""
        features, maps = look(self.model, x, blocks, self.n_last)
        pred, certainty = classify(self.head, features)
        n_tokens = torch.full_like(pred, maps[0, 0].numel())
        return dict(pred_full=pred, correct_full=(pred == self.labels[index]).int(), certainty_full=certainty,
                    n_tokens=n_tokens), maps

    def main(self, images: Tensor, index: Tensor) -> list[list[dict]]:
        """Attention and random, each fovea (Fig 3, 4, 5, 7)."""
        x = self.normalise(images)
        columns, maps = self.full(x, index, [self.block])
        maps = {"attention": maps[:, 0], "random": self.random_maps(index, maps.shape[-2:])}
        conditions = {f"{name} fovea{f}": (m, f) for name, m in maps.items() for f in self.foveas}
        return self.rows(index, self.saccades(x, index, conditions), **columns,
                         entropy=map_entropy(maps["attention"]))

    def sweep(self, images: Tensor, index: Tensor) -> list[list[dict]]:
        """Maps of every block, from the image and from smaller copies; one pass each (Fig 6, 17)."""
        x, blocks, fovea = self.normalise(images), list(range(len(self.model.blocks))), self.foveas[0]
        _, maps = self.full(x, index, blocks)
        grid = maps.shape[-2:]
        conditions = {"random": (self.random_maps(index, grid), fovea)}
        for side in (grid[0], *LOW_GRIDS):
            if side != grid[0]:
                a = resize_matrix(x.shape[-1], side * self.model.patch_size, "bilinear", antialias=True).to(x)
                maps = upsample(look(self.model, a @ x @ a.T, blocks, self.n_last)[1].float(), grid)
            conditions |= {f"block{b:02d} grid{side:02d}": (maps[:, b], fovea) for b in blocks}
        return self.rows(index, self.saccades(x, index, conditions, detail=False))

    def saliency(self, images: Tensor, index: Tensor, policies: list[str], resnet: nn.Module | None,
                 unisal: UNISAL | None, static: bool, maps_dir: Path | None) -> list[list[dict]]:
        """Maps of other models guide the same saccades, and a crop for a ResNet (Fig 10, 11)."""
        x, fovea, patch = self.normalise(images), self.foveas[0], self.model.patch_size
        columns, maps = self.full(x, index, [self.block])
        maps = self.policy_maps(images, index, maps[:, 0], policies, unisal, static, maps_dir)
        found = self.saccades(x, index, {name: (m, fovea) for name, m in maps.items()})
        if "centre" in policies:
            found["centre"] = {k: torch.full((len(x), SACCADES), math.nan) for k in PER_SACCADE}
        for name, measures in found.items() if resnet else ():
            centre = torch.tensor(images.shape[-2:], device=x.device).expand(len(x), 2) / 2
            if name != "centre":
                centre = (torch.stack([measures["row"][:, 0], measures["col"][:, 0]], 1) + .5) * patch
            crops = upsample(crop_at(images, centre, fovea * patch), (224, 224))
            mean, std = (torch.tensor(v, device=x.device).view(3, 1, 1) for v in IMAGENET)
            pred = resnet((crops - mean) / std).argmax(1)
            if resnet.fc.out_features != self.head.out_features and self.head.out_features == 2:
                pred = (pred >= N_ANIMALS).long()
            measures["crop_correct"] = (pred == self.labels[index]).int()
        return self.rows(index, found, **columns)

    def policy_maps(self, images: Tensor, index: Tensor, dino: Tensor, policies: list[str], unisal: UNISAL | None,
                    static: bool, maps_dir: Path | None) -> dict[str, Tensor]:
        """{policy: map (B, h, w)}, resized bilinearly to the token grid of `dino`."""
        grid, maps = tuple(dino.shape[-2:]), {}
        if "dino" in policies:
            maps["dino"] = dino
        if "gbvs" in policies:
            maps["gbvs"] = upsample(gbvs(images), grid)
        if unisal:
            mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in IMAGENET)
            size = [32 * max(1, round(s / 32)) for s in images.shape[-2:]]
            maps["unisal"] = upsample(unisal((upsample(images, size) - mean)[:, None] / std, static)[:, 0, 0].exp(), grid)
        if "random" in policies:
            maps["random"] = self.random_maps(index, grid)
        if maps_dir:
            maps["other"] = external_maps(maps_dir, self.items, index, grid)
        return maps


def rounded(values: Tensor) -> list:
    """Numbers for a table: floats to 6 digits, integers as they are."""
    return [round(v, 6) for v in values.tolist()] if values.is_floating_point() else values.tolist()


def run_part(folder: Path, study: Study, view: Preprocess, measure: Callable, args: argparse.Namespace
             ) -> tuple[list[dict], list[str]]:
    """(rows of folder/per_image.csv, unreadable images): measure(images, index) over all items.

    Batches are fixed slices of the items. Processes share batches, and a resumed run repeats an interrupted
    batch as a whole, so neither changes a digit.
    """
    log, n = RowLog(folder, args.resume), len(study.items)
    names, bad = [image_name(p) for p, _ in study.items], []
    batches = shard([list(range(i, min(i + args.batch_size, n))) for i in range(0, n, args.batch_size)])
    todo = [b for b in batches if any(names[i] not in log.done for i in b)]
    loader = DataLoader(Images(study.items, view, args.cache), batch_sampler=todo, num_workers=args.workers,
                        collate_fn=collate_readable, pin_memory=study.device.type == "cuda")
    for pixels, index, unreadable in tqdm(loader, desc=folder.name, disable=rank_world()[0] > 0, mininterval=2):
        bad += [names[i] for i in unreadable]
        if len(index):
            with torch.no_grad():
                found = measure(pixels.to(study.device, non_blocking=True).float() / 255, index)
            for rows in found:
                if rows[0]["image"] not in log.done:
                    log.add(rows)
    bad = sorted(gather_rows(bad))
    if len(bad) == n:
        raise InputError(f"none of the {n} images can be read (first: {bad[0]}); check the files.")
    return log.merge(), bad


def train_head(study: Study, view: Preprocess, fit: list[tuple], n_classes: int, file: Path,
               args: argparse.Namespace) -> nn.Linear:
    """A linear head on the frozen full-image features of `fit`, written to `file`; read from there on --resume."""
    if not (args.resume and file.exists()):
        batches, found = [list(range(i, min(i + args.batch_size, len(fit)))) for i in range(0, len(fit), args.batch_size)], []
        loader = DataLoader(Images(fit, view, args.cache), batch_sampler=shard(batches), num_workers=args.workers,
                            collate_fn=collate_readable)
        for pixels, index, _ in loader:
            if len(index):
                with torch.no_grad():
                    x = look(study.model, study.normalise(pixels.to(study.device) / 255), [0], LAST_BLOCKS)[0]
                found += [(i, row) for i, row in zip(index.tolist(), x.float().cpu())]
        found = sorted(gather_rows(found), key=lambda f: f[0])
        if not found:
            raise InputError(f"--train-head: no readable image among the {len(fit)} to fit on; check the files.")
        x, y = torch.stack([row for _, row in found]), torch.tensor([fit[i][1] for i, _ in found])
        weight, bias = fit_linear(x, y, n_classes, HEAD_L2)
        if rank_world()[0] == 0:
            save_checkpoint({"weight": weight, "bias": bias}, file)
        barrier()
    return load_head(file)


def save_arrays(folder: Path, found: dict[str, dict]) -> None:
    """saccades.npz: images (n,), conditions (C,), fixations (n, C, 10, 2) row, col, pred (n, C, 10), -1 = none."""
    def stack(column: str, dtype: type) -> np.ndarray:
        return np.nan_to_num(np.stack([t[column] for t in found.values()], 1), nan=-1).astype(dtype)
    first = next(iter(found.values()))
    with atomic_write(folder / "saccades.npz", "wb") as f:
        np.savez_compressed(f, images=first["image"], conditions=list(found), label=first["label"].astype(np.int16),
                            pred=stack("pred", np.int16), pred_full=first["pred_full"].astype(np.int16),
                            fixations=np.stack([stack("row", np.int16), stack("col", np.int16)], -1))


@torch.no_grad()
def save_examples(folder: Path, study: Study, view: Preprocess, chosen: list[int], titles: list[str]) -> None:
    """examples.npz of the chosen images: what the strips and the maps of every block are drawn from."""
    images = torch.stack([Images(study.items, view)[i][1] for i in chosen])
    x, index = study.normalise(images.to(study.device) / 255), torch.tensor(chosen)
    columns, maps = study.full(x, index, list(range(len(study.model.blocks))))
    name = f"attention fovea{study.foveas[0]}"
    found = study.saccades(x, index, {name: (maps[:, study.block], study.foveas[0])})[name]
    _, visible = fixation_sequence(maps[:, study.block].float(), study.foveas[0], SACCADES, study.border)
    with atomic_write(folder / "examples.npz", "wb") as f:
        np.savez_compressed(f, images=images.permute(0, 2, 3, 1), maps=maps.float().cpu(), visible=visible.cpu(),
                            block=study.block, pred=np.array(titles)[found["pred"].cpu()],
                            label=np.array(titles)[study.labels[index].cpu()], correct=found["correct"].cpu(),
                            certainty=found["certainty"].cpu(), pred_full=np.array(titles)[columns["pred_full"].cpu()],
                            entropy=map_entropy(maps[:, study.block]).cpu())


@torch.no_grad()
def save_map_examples(folder: Path, study: Study, view: Preprocess, chosen: list[int], **how) -> None:
    """examples.npz of --saliency: images, and every policy's map and fixations."""
    images = torch.stack([Images(study.items, view)[i][1] for i in chosen])
    pixels, index = images.to(study.device).float() / 255, torch.tensor(chosen)
    dino = study.full(study.normalise(pixels), index, [study.block])[1][:, 0]
    maps = {k: m.to(study.device).float() for k, m in study.policy_maps(pixels, index, dino, **how).items()}
    fixations = [fixation_sequence(m, study.foveas[0], SACCADES, study.border)[0] for m in maps.values()]
    with atomic_write(folder / "examples.npz", "wb") as f:
        np.savez_compressed(f, images=images.permute(0, 2, 3, 1), policies=list(maps), patch=study.model.patch_size,
                            maps=torch.stack(list(maps.values()), 1).cpu(), fixations=torch.stack(fixations, 1).cpu())


# -------------------------------------------------------------------------------- statistics

def collect(rows: list[dict]) -> dict[str, dict[str, np.ndarray]]:
    """{condition: {column: (n,), or (n, 10) for the columns of saccades}}, images in the same order in all."""
    grouped: dict[str, list] = {}
    for row in rows:
        grouped.setdefault(row["condition"], []).append(row)
    out = {}
    for condition, part in grouped.items():
        plain = [k for k in part[0] if not k[-1].isdigit() and k != "condition"]
        out[condition] = {k: np.array([r[k] for r in part]) for k in plain}
        out[condition] |= {k: np.array([[r[f"{k}_{s}"] for s in range(1, SACCADES + 1)] for r in part], float)
                           for k in PER_SACCADE if f"{k}_1" in part[0]}
    return out


def first_success(correct: np.ndarray) -> np.ndarray:
    """Saccade (1 to n) of the first correct answer, n + 1 = never; correct (images, n)."""
    return np.where(correct.any(1), correct.argmax(1) + 1, correct.shape[1] + 1)


def transitions(correct: np.ndarray) -> dict[str, np.ndarray]:
    """Share of images (n,) that at each saccade change from correct to wrong, go back to correct after such a
    change, or have had one and stay wrong or stay right. A first success is no transition. correct (images, n).
    """
    now = correct.astype(bool)
    before = np.pad(now, ((0, 0), (1, 0)))[:, :-1]
    lost = before & ~now
    had = np.pad(np.cumsum(lost, 1) > 0, ((0, 0), (1, 0)))[:, :-1]  # a change to wrong at an earlier saccade
    sets = {"correct to wrong": lost, "back to correct": had & ~before & now, "stayed wrong": had & ~before & ~now,
            "stayed right": had & before & now}
    return {k: v.mean(0) for k, v in sets.items()}


def early_stop(certainty: np.ndarray, threshold: float) -> np.ndarray:
    """Index of the saccade (images,) at which certainty (images, n) first reaches the threshold, else the last."""
    reached = certainty >= threshold
    return np.where(reached.any(1), reached.argmax(1), certainty.shape[1] - 1)


def stopping(t: dict[str, np.ndarray], seed: int) -> dict:
    """Early stopping by certainty: threshold chosen on a random half of the images, judged on the other.

    Chosen: the threshold with the fewest tokens among those that lose nothing against ten saccades.
    """
    half = np.random.default_rng([seed, 4]).permutation(len(t["label"])) < len(t["label"]) // 2
    thresholds = np.linspace(0, 1, 101)

    def judge(which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """correct, tokens (thresholds, images)."""
        stops = [early_stop(t["certainty"][which], c)[:, None] for c in thresholds]
        return tuple(np.stack([np.take_along_axis(t[k][which], s, 1)[:, 0] for s in stops])
                     for k in ("correct", "tokens"))
    correct, tokens = judge(half)
    enough = correct.mean(1) >= t["correct"][half, -1].mean()
    best = int(np.where(enough, tokens.mean(1), np.inf).argmin())
    correct, tokens = judge(~half)
    return {"threshold": float(thresholds[best]), "correct": correct[best], "tokens": tokens[best],
            "correct_10": t["correct"][~half, -1], "tokens_10": t["tokens"][~half, -1],
            "curve": np.stack([tokens.mean(1), correct.mean(1)], 1).tolist(),
            "fixed": np.stack([t["tokens"][~half].mean(0), t["correct"][~half].mean(0)], 1).tolist()}


def mean_row(name: str, values: np.ndarray, unit: str, paper=None, scale: float = 1.0) -> dict:
    """Headline: a mean with its bootstrap 95 % interval over images."""
    low, high = bootstrap_ci(scale * np.asarray(values, float))
    return dict(name=name, paper=paper, ours=float(scale * np.mean(values)), ci=(low, high), n=len(values), unit=unit)


def ordering(name: str, a: np.ndarray, b: np.ndarray, expected: str, unit: str, scale: float = 1.0) -> dict:
    """Headline: mean of a - b over images (paired), with what the paper says: "> 0", "< 0" or "about 0 ..".

    "agrees" where the 95 % interval lies on the paper's side ("about": the mean within CLOSE of the number),
    "differs" where it lies on the other, else "undecided".
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    binary = len(a) and np.isin(np.concatenate([a, b]), (0, 1)).all()
    found = mcnemar(a, b) if binary else paired_t(a, b)
    mean, ci = scale * found["diff" if binary else "mean"], tuple(scale * v for v in found["ci"])
    if expected.startswith("about"):
        off = [v - float(expected.split()[1]) for v in (mean, *ci)]
        verdict = ("agrees" if abs(off[0]) <= CLOSE else "differs" if min(off[1:]) > CLOSE or max(off[1:]) < -CLOSE
                   else "undecided")
    else:
        side = 1 if expected[0] == ">" else -1
        verdict = ("agrees" if min(side * c for c in ci) > 0 else "differs" if max(side * c for c in ci) < 0
                   else "undecided")
    return dict(name=name, paper=expected, ours=float(mean), ci=ci, n=len(a), unit=f"{unit}, {verdict}")


def main_headline(found: dict, foveas: list[int], official: float | None, seed: int) -> list[dict]:
    """Rows of the table from the main part (Fig 3 to 5, 7) and early stopping."""
    any_t = found[f"attention fovea{foveas[0]}"]
    full, out = any_t["correct_full"], [mean_row("accuracy, full image", any_t["correct_full"], "%", official, 100)]
    for f in foveas:
        a, r = found[f"attention fovea{f}"], found[f"random fovea{f}"]
        tag = f"fovea {f}"
        out += [mean_row(f"{tag}: accuracy, attention, {SACCADES} saccades", a["correct"][:, -1], "%", None, 100)]
        out += [ordering(f"{tag}: attention - random, saccade {s}", a["correct"][:, s - 1], r["correct"][:, s - 1],
                         "> 0", "points", 100) for s in (1, 2, 3, 5, 10)]
        out += [ordering(f"{tag}: visible, attention - random", 100 * a["tokens"].mean(1) / a["n_tokens"],
                         100 * r["tokens"].mean(1) / a["n_tokens"], "< 0", "% of image"),
                ordering(f"{tag}: correct at least once - full", a["correct"].any(1), full, "> 0", "points", 100)]
        seen = full.astype(bool) & a["correct"].any(1) & r["correct"].any(1)
        if seen.sum() > 1:
            out.append(ordering(f"{tag}: certainty, attention - random", a["certainty"][seen].mean(1),
                                r["certainty"][seen].mean(1), "> 0", ""))
        out += entropy_rows(tag, a, r) + stop_rows(tag, stopping(a, seed))
    return out


def entropy_rows(tag: str, a: dict, r: dict) -> list[dict]:
    """Slope of the saccade of first success against the map's entropy, and the lowest entropy of failures."""
    out = []
    for name, t, side in (("attention", a, 1), ("random", r, -1)):
        first, entropy = first_success(t["correct"]), t["entropy"]
        ok = first <= SACCADES
        if ok.sum() > 2 and np.ptp(first[ok]) > 0:
            fit = stats.linregress(first[ok], entropy[ok])
            half = stats.t.ppf(.975, ok.sum() - 2) * fit.stderr
            ci = (fit.slope - half, fit.slope + half)
            verdict = ("agrees" if min(side * c for c in ci) > 0 else "differs" if max(side * c for c in ci) < 0
                       else "undecided")
            out.append(dict(name=f"{tag}: entropy per saccade needed, {name}", paper="> 0" if side > 0 else "< 0",
                            ours=float(fit.slope), ci=ci, n=int(ok.sum()), unit=f"bits, {verdict}"))
        if (~ok).any():
            low, high = entropy[~ok].min(), math.log2(t["n_tokens"][0])
            paper = None if t["n_tokens"][0] != 196 else "> 6.0" if side > 0 else "< 6.0"
            verdict = "" if paper is None else ", agrees" if (low > 6) == (side > 0) else ", differs"
            out.append(dict(name=f"{tag}: lowest entropy, never correct, {name}", paper=paper, ours=float(low),
                            ci=None, n=int((~ok).sum()), unit=f"bits of {high:.2f}{verdict}"))
    return out


def stop_rows(tag: str, stop: dict) -> list[dict]:
    """Beyond the paper: early stopping against ten saccades, on the half that did not choose the threshold."""
    rows = [ordering(f"{tag}: stop at certainty {stop['threshold']:.2f} - 10 saccades", stop["correct"],
                     stop["correct_10"], "> 0", "points", 100),
            mean_row(f"{tag}: tokens used by early stopping", stop["tokens"] / stop["tokens_10"], "% of 10", None, 100)]
    return [r | {"paper": None, "unit": r["unit"].split(",")[0]} for r in rows]


def sweep_headline(found: dict) -> list[dict]:
    """Rows of the table from --sweep (Fig 6): accuracy of an image = share of its ten saccades correct."""
    acc = {k: 100 * t["correct"].mean(1) for k, t in found.items()}
    full = sorted(k for k in acc if k.endswith(max(k2[-2:] for k2 in acc if k2 != "random")))  # the image's own grid
    last, rows = full[-1], []
    for name, a, b, expected in (
            ("block 0 - random", full[0], "random", "< 0"), ("block 1 - random", full[1], "random", "> 0"),
            ("block 3 - block 2", full[min(3, len(full) - 1)], full[min(2, len(full) - 1)], "> 0")):
        rows.append(ordering(f"mean accuracy, {name}", acc[a], acc[b], expected, "points"))
    for side in LOW_GRIDS:
        low = f"{last.split()[0]} grid{side:02d}"
        rows.append(ordering(f"mean accuracy, {side}x{side} maps - random", acc[low], acc["random"], "> 0", "points"))
        if side == 10:
            rows.append(ordering("mean accuracy, 10x10 maps - full maps", acc[low], acc[last], "about 0", "points"))
        rows.append(ordering(f"tokens, {side}x{side} maps - full maps", found[low]["tokens"].mean(1),
                             found[last]["tokens"].mean(1), "< 0", "tokens"))
    return rows


def saliency_headline(found: dict, main: dict, fovea: int) -> list[dict]:
    """Rows of the table from --saliency (Fig 10, 11), for the policies that ran."""
    out = [mean_row("larger images: accuracy, full image", next(iter(found.values()))["correct_full"], "%", None, 100)]

    def compare(name: str, a: str, b: str, expected: str, value: Callable, unit: str, scale: float = 1) -> None:
        if a in found and b in found:
            out.append(ordering(name, value(found[a]), value(found[b]), expected, unit, scale))
    every, share = (lambda t: t["correct"].mean(1)), (lambda t: 100 * t["tokens"].mean(1) / t["n_tokens"])
    for other in ("gbvs", "unisal"):
        compare(f"larger images: DINO - {LABELS[other]}", "dino", other, "about 5", every, "points", 100)
    compare("larger images: DINO - random", "dino", "random", "> 0", every, "points", 100)
    for name, s, expected in (("saccades 1-5", slice(0, 5), "< 0"), ("saccades 6-10", slice(5, 10), "about 0")):
        compare(f"larger images: GBVS - UNISAL, {name}", "gbvs", "unisal", expected,
                lambda t, s=s: t["correct"][:, s].mean(1), "points", 100)
    for a in ("dino", "gbvs"):
        compare(f"visible, {LABELS[a]} - UNISAL", a, "unisal", "> 0", share, "% of image")
        compare(f"distance from first fixation, {LABELS[a]} - UNISAL", a, "unisal", "> 0",
                lambda t: distances(t, t, True)[:, 1:].mean(1), "tokens")
    if {"dino", "gbvs", "unisal"} <= found.keys():
        near, far = (distances(found["dino"], found[k])[:, 0] for k in ("unisal", "gbvs"))
        out.append(ordering("distance at saccade 1, DINO to UNISAL - to GBVS", near, far, "< 0", "tokens"))
    if {"dino", "random"} <= found.keys():
        out.append(larger_costs(found, main, fovea))
    crops = [("dino", "unisal"), ("unisal", "centre"), ("centre", "gbvs"), ("gbvs", "random"), ("dino", "gbvs"),
             ("dino", "centre"), ("dino", "random")]
    for a, b in crops:
        if all("crop_correct" in found.get(k, {}) for k in (a, b)):
            compare(f"crop for ResNet, {LABELS[a]} - {LABELS[b]}", a, b, "> 0", lambda t: t["crop_correct"],
                    "points", 100)
    return out


def larger_costs(found: dict, main: dict, fovea: int) -> dict:
    """How much more accuracy random loses than attention from the main part's images to the larger ones."""
    place = {name: i for i, name in enumerate(main[f"attention fovea{fovea}"]["image"])}
    same = [(i, place[name]) for i, name in enumerate(found["dino"]["image"]) if name in place]
    i, j = np.array(same).T
    loss = {k: main[f"{m} fovea{fovea}"]["correct"][j].mean(1) - found[k]["correct"][i].mean(1)
            for k, m in (("random", "random"), ("dino", "attention"))}
    return ordering("larger images: loss of random - loss of DINO", loss["random"], loss["dino"], "> 0", "points", 100)


def distances(a: dict, b: dict, from_first: bool = False) -> np.ndarray:
    """Tokens between the fixations of a and b at each saccade, (n, 10); from_first: of a from b's first one."""
    end = slice(0, 1) if from_first else slice(None)
    return np.hypot(a["row"] - b["row"][:, end], a["col"] - b["col"][:, end])


def paired_tests(found: dict, foveas: list[int]) -> list[dict]:
    """McNemar's test of attention against random at each saccade."""
    return [{"test": f"attention - random, fovea {f}, saccade {s + 1}",
             **mcnemar(found[f"attention fovea{f}"]["correct"][:, s], found[f"random fovea{f}"]["correct"][:, s])}
            for f in foveas for s in range(SACCADES)]


def pick_examples(t: dict, n: int = EXAMPLES) -> list[int]:
    """Positions in t: concentrated maps that needed three saccades or more, then diffuse maps that needed one
    (Fig 8), then images spread evenly."""
    first, order = first_success(t["correct"]), np.argsort(t["entropy"])
    late = [i for i in order if 3 <= first[i] <= SACCADES][:n // 3]
    early = [i for i in order[::-1] if first[i] == 1][:n // 3]
    spread = [i * len(order) // n for i in range(n)]
    return list(dict.fromkeys(map(int, late + early + spread)))[:n]


# -------------------------------------------------------------------------------- figures

def band(ax, values: np.ndarray, label: str, colour, style: str = "o-") -> None:
    """Mean over images at each saccade with a bar: 95 % interval of the mean (normal approximation)."""
    n, x = len(values), np.arange(1, values.shape[1] + 1)
    half = 1.96 * values.std(0) / math.sqrt(max(n, 1))
    ax.errorbar(x, values.mean(0), half, fmt=style, color=colour, label=label, markersize=3, linewidth=1.2,
                elinewidth=.8)


def panels(n_rows: int, n_cols: int, width: float = 3.4, height: float = 2.8):
    return plt.subplots(n_rows, n_cols, figsize=(width * n_cols, height * n_rows), layout="constrained", squeeze=False)


def finish(fig, path: Path) -> None:
    save_figure(fig, path)
    plt.close(fig)


def each_fovea(found: dict) -> list[int]:
    return sorted({int(k.split("fovea")[1]) for k in found})


def draw_accuracy(found: dict, folder: Path) -> None:
    """Fig 3: accuracy per saccade, for each fovea, and visible part of the image."""
    foveas = each_fovea(found)
    fig, axes = panels(1, len(foveas) + 1)
    for ax, f in zip(axes[0], foveas):
        for name in ("attention", "random"):
            t = found[f"{name} fovea{f}"]
            band(ax, 100 * t["correct"], name, COLOURS[name])
            band(axes[0, -1], 100 * t["tokens"] / t["n_tokens"][:, None], f"{name}, {f}x{f}", COLOURS[name],
                 "o-" if f == foveas[0] else "s--")
        ax.axhline(100 * t["correct_full"].mean(), color="black", linestyle=":", label="full image")
        ax.set(title=f"fovea {f}x{f} tokens", xlabel="saccade", ylabel="accuracy (% of images)")
    axes[0, -1].set(title="revealed", xlabel="saccade", ylabel="visible tokens (% of image)")
    for ax in axes.flat:
        ax.legend(frameon=False, fontsize=7)
    finish(fig, folder / "fig03_accuracy")


def draw_dynamics(found: dict, folder: Path) -> None:
    """Fig 4: correct at least once so far; changes of mind; how often an image is right, all and full-wrong."""
    foveas = each_fovea(found)
    fig, axes = panels(4, len(foveas), height=2.5)
    for j, f in enumerate(foveas):
        t = found[f"attention fovea{f}"]
        once, full = np.maximum.accumulate(t["correct"], 1), t["correct_full"].mean()
        band(axes[0, j], 100 * once, "correct at least once", COLOURS["attention"])
        band(axes[0, j], 100 * t["correct"], "correct now", COLOURS["attention"], "s--")
        axes[0, j].axhline(100 * full, color="black", linestyle=":", label="full image")
        axes[0, j].set(title=f"attention, fovea {f}x{f}", xlabel="saccade", ylabel="images (%)")
        for (name, share), style in zip(transitions(t["correct"]).items(), ("v-", "^-", "v:", "^:")):
            axes[1, j].plot(np.arange(1, SACCADES + 1), 100 * share, style, markersize=4, label=name)
        axes[1, j].set(xlabel="saccade", ylabel="images (%)")
        times, wrong = t["correct"].sum(1).astype(int), t["correct_full"] == 0
        for ax, part, name in ((axes[2, j], times, "all images"), (axes[3, j], times[wrong], "wrong on the full image")):
            share = 100 * np.bincount(part, minlength=SACCADES + 1) / max(len(part), 1)
            ax.bar(np.arange(SACCADES + 1), share, color=COLOURS["attention"])
            ax.set(title=f"{name} (n = {len(part)})", xlabel="saccades at which the image is correct", ylabel="images (%)")
    for ax in axes[:2].flat:
        ax.legend(frameon=False, fontsize=7)
    finish(fig, folder / "fig04_dynamics")


def draw_certainty(found: dict, folder: Path) -> None:
    """Fig 5: certainty per saccade, mean and by saccade of first success; at the right the full image."""
    foveas = each_fovea(found)
    fig, axes = panels(len(foveas), 2, width=4.4)
    shades = plt.get_cmap("Blues_r")(np.linspace(0, .75, SACCADES))
    for i, f in enumerate(foveas):
        for ax, name in zip(axes[i], ("attention", "random")):
            t = found[f"{name} fovea{f}"]
            first = first_success(t["correct"])
            keep = (t["correct_full"] == 1) & (first <= SACCADES)
            for s in range(1, SACCADES + 1):
                part = keep & (first == s)
                if part.any():
                    ax.plot(np.arange(1, SACCADES + 1), t["certainty"][part].mean(0), "-", color=shades[s - 1],
                            label=f"first correct at {s} (n = {part.sum()})")
                    ax.bar(SACCADES + 1 + .25 * s, t["certainty_full"][part].mean(), .25, color=shades[s - 1])
            if keep.any():
                band(ax, t["certainty"][keep], f"all (n = {keep.sum()})", COLOURS["A"], "o--")
                ax.hlines(t["certainty_full"][keep].mean(), SACCADES + 1, SACCADES + 4, color=COLOURS["A"])
            ax.axvline(SACCADES + .75, color="black", linewidth=.5)
            ax.set(title=f"{name}, fovea {f}x{f}", xlabel="saccade (bars: full image)", ylim=(0, 1),
                   ylabel="certainty, 1 - H / log(classes)", xticks=range(1, SACCADES + 1))
            ax.legend(frameon=False, fontsize=5, ncols=2)
    finish(fig, folder / "fig05_certainty")


def draw_entropy(found: dict, folder: Path) -> None:
    """Fig 7: entropy of the attention map by saccade of first success, with means and the fitted line."""
    foveas = each_fovea(found)
    fig, axes = panels(len(foveas), 2, width=4.2)
    for i, f in enumerate(foveas):
        for ax, name in zip(axes[i], ("attention", "random")):
            t = found[f"{name} fovea{f}"]
            first, rng = first_success(t["correct"]), np.random.default_rng([0, f])
            ax.plot(first + rng.uniform(-.3, .3, len(first)), t["entropy"], ".", color=COLOURS[name], markersize=2,
                    alpha=.5)
            means = [(s, t["entropy"][first == s].mean()) for s in range(1, SACCADES + 2) if (first == s).any()]
            ax.plot(*zip(*means), "_", color="black", markersize=12)
            ok = first <= SACCADES
            if ok.sum() > 2 and np.ptp(first[ok]) > 0:
                fit, x = stats.linregress(first[ok], t["entropy"][ok]), np.array([1, SACCADES])
                ax.plot(x, fit.intercept + fit.slope * x, color=COLOURS["A"],
                        label=f"{fit.slope:+.3f} bits a saccade, p = {fit.pvalue:.2g}")
                ax.legend(frameon=False, fontsize=7)
            ax.set(title=f"{name}, fovea {f}x{f}", xlabel="saccade of the first correct answer",
                   ylabel="entropy of the attention map (bits)", xticks=range(1, SACCADES + 2),
                   xticklabels=[*range(1, SACCADES + 1), "never"])
    finish(fig, folder / "fig07_entropy")


def draw_stopping(found: dict, folder: Path, seed: int) -> None:
    """Beyond the paper: accuracy against tokens when stopping at a certainty, and after a fixed number."""
    foveas = each_fovea(found)
    fig, axes = panels(1, len(foveas), width=4)
    for ax, f in zip(axes[0], foveas):
        for name in ("attention", "random"):
            stop = stopping(found[f"{name} fovea{f}"], seed)
            for key, style, label in (("curve", "-", "stop at a certainty"), ("fixed", "o:", "fixed number")):
                x, y = np.array(stop[key]).T
                ax.plot(x, 100 * y, style, color=COLOURS[name], markersize=3, label=f"{name}, {label}")
            ax.plot(stop["tokens"].mean(), 100 * stop["correct"].mean(), "*", color=COLOURS["A"], markersize=9)
        ax.set(title=f"fovea {f}x{f}, held-out half (star: chosen)", xlabel="mean visible tokens at the answer",
               ylabel="accuracy (% of images)")
        ax.legend(frameon=False, fontsize=7)
    finish(fig, folder / "fig_early_stopping")


def draw_sweep(found: dict, folder: Path) -> None:
    """Fig 6 (blocks at full resolution; resolutions of the last block) and Fig 17 (blocks of small inputs)."""
    keys = [k for k in found if k != "random"]
    grids = sorted({k.split("grid")[1] for k in keys}, reverse=True)
    blocks = sorted({k.split()[0] for k in keys})
    shades = plt.get_cmap("viridis")(np.linspace(0, .95, len(blocks)))
    greys = plt.get_cmap("plasma")(np.linspace(0, .85, len(grids)))

    def lines(row, chosen: list[tuple]) -> None:
        for key, label, colour in [*chosen, ("random", "random", COLOURS["random"])]:
            for ax, column, y in zip(row, ("correct", "tokens"), ("accuracy (% of images)", "visible tokens")):
                ax.plot(np.arange(1, SACCADES + 1), (100 if column == "correct" else 1) * found[key][column].mean(0),
                        "--" if key == "random" else "-", color=colour, label=label)
                ax.set(xlabel="saccade", ylabel=y)
        row[0].legend(frameon=False, fontsize=6, ncols=2)
    fig, axes = panels(2, 2, width=4)
    lines(axes[0], [(f"{b} grid{grids[0]}", f"block {int(b[5:])}", c) for b, c in zip(blocks, shades)])
    lines(axes[1], [(f"{blocks[-1]} grid{g}", f"{int(g)}x{int(g)} tokens", c) for g, c in zip(grids, greys)])
    axes[0, 0].set_title("maps of every block")
    axes[1, 0].set_title("last block, smaller inputs")
    finish(fig, folder / "fig06_depth_resolution")
    fig, axes = panels(len(grids) - 1, 2, width=4)
    for row, g in zip(axes, grids[1:]):
        lines(row, [(f"{b} grid{g}", f"block {int(b[5:])}", c) for b, c in zip(blocks, shades)])
        row[0].set_title(f"maps of {int(g)}x{int(g)} tokens")
    finish(fig, folder / "fig17_depth_by_resolution")


def draw_policies(found: dict, folder: Path) -> None:
    """Fig 10 (ResNet crops; saccades; visible part) and Fig 11 (where the models look)."""
    saccadic = [k for k in found if not np.isnan(found[k]["correct"]).all()]
    crops = [k for k in found if "crop_correct" in found[k]]
    crops.sort(key=lambda k: -found[k]["crop_correct"].mean())
    fig, axes = panels(1, 2 + bool(crops), width=3.6)
    for k in crops:
        v = 100 * found[k]["crop_correct"]
        axes[0, 0].bar(LABELS.get(k, k), v.mean(), yerr=1.96 * v.std() / math.sqrt(len(v)), color=COLOURS[k])
    if crops:
        axes[0, 0].set(ylabel="accuracy of the ResNet on one crop (%)", title="first fixation")
    for k in saccadic:
        t = found[k]
        band(axes[0, -2], 100 * t["correct"], LABELS.get(k, k), COLOURS[k])
        band(axes[0, -1], 100 * t["tokens"] / t["n_tokens"][:, None], LABELS.get(k, k), COLOURS[k])
    axes[0, -2].axhline(100 * t["correct_full"].mean(), color="black", linestyle=":", label="full image")
    axes[0, -2].set(xlabel="saccade", ylabel="accuracy (% of images)")
    axes[0, -1].set(xlabel="saccade", ylabel="visible tokens (% of image)")
    axes[0, -2].legend(frameon=False, fontsize=7)
    finish(fig, folder / "fig10_policies")
    fig, axes = panels(1, 3, width=3.6)
    for i, a in enumerate(saccadic):
        for b in saccadic[i + 1:] if a != "random" else ():
            if b != "random":
                band(axes[0, 0], distances(found[a], found[b]), f"{LABELS.get(a, a)} - {LABELS.get(b, b)}", COLOURS[b])
        t, name = found[a], LABELS.get(a, a)
        band(axes[0, 1], distances(t, t, True), name, COLOURS[a])
        step = np.hypot(np.diff(t["row"]), np.diff(t["col"]))
        band(axes[0, 2], np.pad(step, ((0, 0), (1, 0)), constant_values=np.nan), name, COLOURS[a])
    for ax, y in zip(axes[0], ("between two models' fixations", "from the first fixation", "saccade amplitude")):
        ax.set(xlabel="saccade", ylabel=f"{y} (tokens)")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize=7)
    finish(fig, folder / "fig11_fixations")


def draw_strips(folder: Path) -> None:
    """Fig 2 and 8: image, attention map, what is revealed, prediction and certainty; Fig 13: map of each block."""
    with np.load(folder / "examples.npz") as data:
        d = {k: data[k] for k in data}
    n, shown = len(d["images"]), (0, 1, 2, 4, SACCADES - 1)
    size = d["images"].shape[1:3]
    maps = upsample(torch.from_numpy(d["maps"]), size).numpy()  # (n, L, img_h, img_w)
    fig, axes = panels(n, 2 + len(shown), width=1.55, height=1.85)
    for i, row in enumerate(axes):
        row[0].imshow(d["images"][i])
        row[0].set_title(f"{d['label'][i]}\nfull image: {d['pred_full'][i]}", fontsize=6)
        row[1].imshow(maps[i, d["block"]], cmap="inferno", vmin=0)
        row[1].set_title(f"attention, block {d['block']}\n{d['entropy'][i]:.2f} bits", fontsize=6)
        for ax, s in zip(row[2:], shown):
            cell = [size[k] // d["visible"].shape[2 + k] for k in (0, 1)]
            seen = np.kron(d["visible"][i, s], np.ones(cell, bool))[..., None] > 0
            ax.imshow(np.where(seen, d["images"][i], 235))
            ax.set_title(f"saccade {s + 1}: {d['pred'][i, s]}\ncertainty {d['certainty'][i, s]:.2f}", fontsize=6,
                         color=COLOURS["B"] if d["correct"][i, s] else COLOURS["A"])
    for ax in axes.flat:
        ax.axis("off")
    finish(fig, folder / "fig08_examples")
    fig, axes = panels(n, 1 + maps.shape[1], width=1.1, height=1.15)
    for i, row in enumerate(axes):
        row[0].imshow(d["images"][i])
        for b, ax in enumerate(row[1:]):
            ax.imshow(maps[i, b], cmap="inferno", vmin=0)
            ax.set_title(f"block {b}" if i == 0 else "", fontsize=7)
    for ax in axes.flat:
        ax.axis("off")
    finish(fig, folder / "fig13_maps")


def draw_map_examples(folder: Path) -> None:
    """Fig 9: maps of the saliency models with their first five fixations in order."""
    with np.load(folder / "examples.npz") as data:
        images, policies, maps, fixations, patch = (data[k] for k in ("images", "policies", "maps", "fixations", "patch"))
    maps = upsample(torch.from_numpy(maps), images.shape[1:3]).numpy()
    fig, axes = panels(len(images), 1 + len(policies), width=1.9, height=1.5)
    for i, row in enumerate(axes):
        row[0].imshow(images[i])
        for p, ax in enumerate(row[1:]):
            ax.imshow(maps[i, p], cmap="inferno")
            y, x = ((fixations[i, p, :5] + .5) * patch - .5).T
            ax.plot(x, y, "-", color="white", linewidth=.6)
            for s in range(5):
                ax.text(x[s], y[s], str(s + 1), color="white", fontsize=6, ha="center", va="center")
            ax.set_title(LABELS.get(str(policies[p]), str(policies[p])) if i == 0 else "", fontsize=8)
    for ax in axes.flat:
        ax.axis("off")
    finish(fig, folder / "fig09_saliency_maps")


def draw_all(folder: Path, seed: int) -> None:
    """Every figure whose data the folder holds."""
    found = collect(read_csv(folder / "per_image.csv"))
    for draw in (draw_accuracy, draw_dynamics, draw_certainty, draw_entropy):
        draw(found, folder)
    draw_stopping(found, folder, seed)
    draw_strips(folder)
    for part, draw in (("sweep", draw_sweep), ("saliency", draw_policies)):
        if (folder / part / "per_image.csv").exists():
            draw(collect(read_csv(folder / part / "per_image.csv")), folder / part)
    if (folder / "saliency" / "examples.npz").exists():
        draw_map_examples(folder / "saliency")


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_args(p)
    add = p.add_argument_group("model").add_argument
    add("--model", help="a ViT of the weight table, or auto with --weights (default: dino_vits16; demo: demo_dino12)")
    add("--head", type=Path, help="linear classifier, weight and bias (default: the one published with the model)")
    add("--train-head", action="store_true", help="fit a linear head on the frozen features of the last 4 blocks")
    add("--animals", action="store_true", help="two classes: animal (ImageNet class 0 to 397) or other")
    add = p.add_argument_group("study").add_argument
    add("--fovea", type=int, nargs="+", default=list(FOVEAS), help="odd, in tokens; --sweep and --saliency use the first "
        "(default: 3 5)")
    add("--layer", type=int, help="0-based block whose attention guides the saccades (default: the last)")
    add("--border", choices=["clip", "shift"], default="clip", help="fovea at the image border (default: clip)")
    add("--sweep", action="store_true", help="also maps of every block, and of smaller inputs")
    add("--saliency", action="store_true", help="also other saliency models, larger images, ResNet crops")
    add("--cache", type=Path, help="folder that keeps the decoded images for repeated runs")
    add = p.add_argument_group("with --saliency").add_argument
    add("--policy", nargs="+", choices=POLICIES, default=list(POLICIES), help="default: all")
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="pixels of its images (default: 18x24 tokens, 288 384)")
    add("--per-class", type=int, default=PER_CLASS, help="images of each class (%(default)s)")
    add("--saliency-dir", type=Path, help="folder with maps of another model, a further policy")
    add("--unisal-weights", type=Path, help="UNISAL's weights_best.pth (default: download; demo: not run)")
    add("--unisal-domain", choices=DOMAINS, default="DHF1K", help="default: DHF1K, as in the paper")
    add("--unisal-static", action="store_true", help="without UNISAL's GRU")
    add("--resnet-weights", type=Path, help="a ResNet-50 of the same classes (default: torchvision IMAGENET1K_V2)")
    args = p.parse_args(argv)
    args.model = args.model or ("demo_dino12" if args.data == "demo" else "dino_vits16")
    if args.train_head and args.head:
        raise InputError("--train-head and --head exclude each other; leave one out.")
    for name in ("limit", "per_class"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected at least 1 image.")
    if args.saliency_dir and not args.saliency_dir.is_dir():
        raise InputError(f"--saliency-dir {args.saliency_dir}: no such folder; give the one that holds the maps.")
    return args


def official(args: argparse.Namespace, classes: list[str]) -> float | None:
    """Published linear accuracy (%), where model, head and classes are those of DINO's ViT-S/16."""
    own = args.weights or args.head or args.train_head
    return 77.0 if args.model == "dino_vits16" and len(classes) == 1000 and not own else None


def optional(load: Callable, part: str, not_run: list[str], must: bool):
    """load(), or None with a line in not_run where weights are missing; with `must` the error stands."""
    try:
        return load()
    except InputError as e:
        if must:
            raise
        not_run.append(f"{part}: {e}")
        return None


def set_up(args: argparse.Namespace, folder: Path, device: torch.device) -> tuple[Study, Preprocess, list[str]]:
    """The study of the arguments: model, data, and the head, which may be fitted first."""
    model, view = load_vit(args.model, args.weights)
    head = None if args.train_head else find_head(args.head, args.model, model)
    items, fit, classes = find_data(args.data, head and head.out_features, args.animals, args.limit, args.seed,
                                    args.workers)
    block = len(model.blocks) - 1 if args.layer is None else args.layer
    stand_in = head or nn.Linear(LAST_BLOCKS * model.embed_dim, len(classes))  # until the head is fitted
    study = Study(model, view, stand_in, items, args.fovea, block, args.border, args.seed, device,
                  getattr(torch, args.dtype))
    if args.train_head:
        study.head = train_head(study, view, fit, len(classes), folder / "linear_head.pth", args).to(device)
    if study.head.out_features != len(classes):
        raise InputError(f"the head has {study.head.out_features} classes, the data {len(classes)} "
                         f"({', '.join(classes[:3])} ...); give the head of these classes, or use --train-head.")
    return study, view, classes


def run_saliency(args: argparse.Namespace, study: Study, view: Preprocess, folder: Path, not_run: list[str]) -> dict:
    """--saliency: the study on larger, squashed images with the policies whose weights are there."""
    patch, demo, policies = study.model.patch_size, args.data == "demo", list(args.policy)
    size = tuple(args.size or (n * patch for n in SALIENCY_GRID))
    if any(s % patch for s in size):
        raise InputError(f"--size {size[0]} {size[1]}: both must be multiples of the patch size {patch}.")
    view = Preprocess(None, size, view.mean, view.std, "bilinear", squash=True)
    unisal = resnet = None
    if "unisal" in policies and demo and not args.unisal_weights:
        not_run.append("UNISAL: the demo has no weights for it; give --unisal-weights.")
    elif "unisal" in policies:
        unisal = optional(partial(load_unisal, args.unisal_weights, args.unisal_domain), "UNISAL", not_run,
                          args.unisal_weights is not None)
    resnet = optional(partial(load_resnet, args.resnet_weights, demo and not args.resnet_weights), "ResNet crops",
                      not_run, args.resnet_weights is not None)
    items = some_per_class(study.items, args.per_class, args.seed)
    policies = [p for p in policies if p != "centre" or resnet]
    part = study.on(items)
    how = dict(policies=policies, unisal=unisal and unisal.to(study.device), static=args.unisal_static,
               maps_dir=args.saliency_dir)
    rows, bad = run_part(folder / "saliency", part, view,
                         partial(part.saliency, resnet=resnet and resnet.to(study.device), **how), args)
    found = collect(rows)
    if rank_world()[0] == 0:
        save_arrays(folder / "saliency", found)
        names = next(iter(found.values()))["image"]
        some = [names[i * len(names) // EXAMPLES] for i in range(EXAMPLES)]
        save_map_examples(folder / "saliency", part, view, part.places(some), **how)
    return found


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device, (rank, _) = pick_device(args.device), init_distributed()
    folder = start_run(args, "exp04_saccades", f"{'demo_' * (args.data == 'demo')}{args.model}_seed{args.seed}")
    if args.plot_only:
        draw_all(folder, args.seed)
        return print_paper_vs_ours(json.loads((folder / "results.json").read_text(encoding="utf-8")))
    study, view, classes = set_up(args, folder, device)
    rows, unreadable = run_part(folder, study, view, study.main, args)
    found, not_run = collect(rows), []
    headline = main_headline(found, args.fovea, official(args, classes), args.seed)
    if args.sweep:
        headline += sweep_headline(collect(run_part(folder / "sweep", study, view, study.sweep, args)[0]))
    else:
        not_run.append("maps of every block and of smaller inputs (Fig 6, 17): add --sweep")
    if args.saliency:
        headline += saliency_headline(run_saliency(args, study, view, folder, not_run), found, args.fovea[0])
    else:
        not_run.append("other saliency models on larger images, ResNet crops (Fig 9 to 11): add --saliency")
    if rank == 0:
        save_arrays(folder, found)
        first = found[f"attention fovea{args.fovea[0]}"]
        save_examples(folder, study, view, study.places(first["image"][pick_examples(first)]), class_titles(classes))
    results = write_results(
        folder, "exp04_saccades", args.data, headline, args, time.time() - began, device,
        paired_tests(found, args.fovea), not_run, model=args.model, block=study.block, classes=len(classes),
        images=len(study.items), unreadable=unreadable, fingerprint=fingerprint(p for p, _ in study.items),
        preprocessing=vars(view), choices=CHOICES)
    if rank == 0:
        if unreadable:
            print(f"{len(unreadable)} unreadable images left out, listed in results.json: {', '.join(unreadable[:3])}")
        draw_all(folder, args.seed)
        print(f"block {study.block} (layer {study.block + 1} of {len(study.model.blocks)}); results in {folder}")
        print_paper_vs_ours(results)


if __name__ == "__main__":
    cli(main)
