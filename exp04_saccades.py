"""exp04: does the attention of a self-supervised Vision Transformer tell where to look to recognise an image?

Dallain, Rodriguez, Perrinet & Miramond (2026), "A saccade-inspired approach to image classification using
vision transformer attention maps" (arXiv 2603.09613). The maximum of DINO's last CLS attention map is
fixated, a fovea of 3x3 or 5x5 tokens is revealed and suppressed in the map, and so on, ten times. After every
saccade the same network classifies the image from the revealed tokens alone. Measured: accuracy, certainty,
visible tokens and changes of mind over saccades, against random fixations, the full image, other blocks and
smaller inputs (--sweep), and other saliency models on larger images, for DINO and a ResNet-50 (--saliency).

Commands
    laptop, demo world    python exp04_saccades.py
    one fovea, one block  python exp04_saccades.py --fovea 5 --layer 11
    blocks, resolutions   python exp04_saccades.py --sweep --limit 40
    saliency models       python exp04_saccades.py --saliency --limit 120
    one GPU, the paper    python exp04_saccades.py --data IMAGENET --sweep --saliency --dtype bfloat16
    eight GPUs            torchrun --nproc_per_node 8 exp04_saccades.py --data IMAGENET --sweep --saliency
    no ImageNet at hand   python exp04_saccades.py --data imagenette    (330 MB; 10 of the 1000 classes)
    own images and head   python exp04_saccades.py --data FOLDER --model dino_vits16 --train-head
    own saliency maps     python exp04_saccades.py --data FOLDER --saliency --saliency-dir MAPS
Data: IMAGENET/val/<wnid>/*.JPEG, the flat validation folder with its devkit, or FOLDER[/val]/<class>/*.
--train-head fits on FOLDER/train/<class>/* or, without one, on a random half that is then left out.
MAPS/[<class>/]<image name>.npy or .png: one map of the whole image each. Weights download once.
Result, in runs/exp04_saccades/<tag>/ or --out: per_image.csv (a row an image and condition: correct, tokens,
certainty, pred, row, col of saccades 1 to 10), saccades.npz (fixations and classes, compact), sweep/ and
saliency/ (the same), examples.npz, results.json; from these files the figures fig03_* to fig17_*.
Time and memory: the bare demo (200 images) takes 65 s of one CPU core and 1.1 GB; --sweep on 50,000 images
writes 3 GB of rows, joined into a CSV of 0.7 GB, and its tables need about 3 GB in the first process alone.

To compare with: official DINO ViT-S/16 with its linear head, full images: 77.0 %. All else in the paper's
text is an ordering, but for 5 points (DINO over GBVS and UNISAL) and 6.0 bits (lowest entropy of failures);
the table that ends the run says whether ours agrees. On the demo: full images 94.0 %; attention less random,
fovea 3, at saccades 1, 2, 3 and 10: 36.5, 37.5, 26.5 and 3.5 points (README.md has the rest).
Not stated by the paper, ours: fovea cut at the border (--border shift: moved inside), tokens dropped and not
blanked, certainty 1 - H / log(classes) (its sentence has the ends swapped), entropy in bits, 288x384 px in
--saliency (a crop of 2.1 % implies that), ResNet crops moved inside the image and resized to 224 px.
Departures: GBVS is written anew after Harel et al. (gbvs.py); the paper's Python port has faulty Gabor
filters. UNISAL: the authors' own inference for DHF1K, with its GRU (--unisal-static: without).
"""
from __future__ import annotations

import argparse
import copy
import csv
import hashlib
import math
import os
import tempfile
import time
from array import array
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
from matplotlib import colormaps
from matplotlib.patheffects import withStroke
from scipy import stats
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import Imagenette
from torchvision.models.resnet import ResNet50_Weights
from torchvision.transforms.functional import normalize
from tqdm import tqdm

from common import (HEAD_BLOCKS, IMAGE_SUFFIXES, ImageList, IMAGENET, InputError, Preprocess, ROOT,
                    VisionTransformer, WEIGHTS, barrier, collate_readable, fit_linear, gather_rows, generator,
                    imagenet_wnids, init_distributed, input_errors, load_head, load_imagefolder,
                    load_resnet, load_vit, locate_weights, mcnemar, minmax, paired_t, pick_device, rank_world,
                    read_image, read_state_dict, resize_matrix, shard, upsample)
from gbvs import gbvs
from legacy import (PALETTE, RowLog, add_common_args, argument_parser, atomic_write, cli, demo_folder,
                     figure_grid, image_name, print_paper_vs_ours, read_arrays, read_json, redraw, result_row,
                     save_arrays, save_checkpoint, save_figure, slices, start_run, write_json, write_results)
from unisal import UNISAL

# -------------------------------------------------------------------------------- constants

# Shapes: B images of a batch, L blocks, D width, h, w patch grid; C conditions, n images in the tables.
SACCADES = 10  # an image (Methods, Classification)
SUPPRESSED = -1.0  # value of a visited square in the map: below every attention
FOVEAS = (3, 5)  # tokens a side: 48 and 80 px at patch 16
LOW_GRIDS = (12, 10, 8)  # tokens a side of the smaller inputs of --sweep: 192, 160, 128 px at patch 16
SALIENCY_GRID = (18, 24)  # tokens of the inputs of --saliency: 288x384 px at patch 16
PER_CLASS = 10  # images of a class in --saliency
N_ANIMALS = 398  # classes 0 to 397 of ImageNet-1k are animals
POLICIES = ("dino", "gbvs", "unisal", "random", "centre")  # centre: crops only
CLOSE = 2.0  # points: "close", "comparable" in the paper's text are confirmed by an interval within it
STEPS = np.arange(1, SACCADES + 1)
PER_SACCADE = ("correct", "tokens", "certainty", "pred", "row", "col")  # columns <name>_1 to <name>_10
COLOURS = dict(PALETTE, other="#e377c2")
EXAMPLES = 6  # images in the strips
DEMO_IMAGES = 200  # of the demo world's 600, unless --limit says otherwise
STOP_LOSS = 0.01  # accuracy that early stopping may lose on the half that chooses its threshold
HEAD_L2 = 1e-3  # penalty on the standardised weights of --train-head
NOT_RUN = dict(
    sweep="maps of every block and of smaller inputs (Fig 6, 17): add --sweep",
    saliency="other saliency models on larger images, ResNet crops (Fig 9 to 11): add --saliency")
CHOICES = dict(  # the paper states none of these
    suppressed=SUPPRESSED, hidden_tokens="dropped, position embeddings kept", random="uniform map per image",
    certainty="1 - H(softmax) / log(classes)", entropy="bits",
    saliency_input="whole image squashed, bilinear",
    low_resolution="antialiased bilinear resize of the crop",
    crop="fovea x patch px at the first fixation, moved inside, bilinear to 224")


# -------------------------------------------------------------------------------- data

class Images(ImageList):
    """Item i -> (i, uint8 (3, img_h, img_w) of `view`), or (i, None) when the file cannot be read.

    cache: a folder that keeps the decoded images in one sparse file (7.5 GB for 50,000 of 224x224), filled at
    the first reading; the first byte of an image's record says that it is there.
    """

    def __init__(self, items: list[tuple], view: Preprocess, cache: Path | None = None):
        super().__init__(items, replace(view, mean=(0., 0., 0.), std=(1., 1., 1.)))
        self.size = (view.crop, view.crop) if isinstance(view.crop, int) else tuple(view.crop)
        self.file, self.store, self.shape = None, None, (len(items), 1 + 3 * math.prod(self.size))
        if cache:
            how = f"{view.resize}{view.interpolation}{'x'.join(map(str, self.size))}"
            files = [(p, os.stat(p) if os.path.exists(p) else None) for p, _ in items]
            key = "\n".join(f"{Path(p).resolve()} {f and (f.st_size, f.st_mtime_ns)}" for p, f in files)
            self.file = Path(cache) / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}_{how}.uint8"
            if rank_world()[0] == 0 and not self.file.exists():
                with atomic_write(self.file, "wb") as f:
                    f.truncate(math.prod(self.shape))
            barrier()

    def __getitem__(self, i: int) -> tuple[int, Tensor | None]:
        if self.file and self.store is None:  # opened in each worker
            self.store = np.memmap(self.file, np.uint8, "r+", shape=self.shape)
        if self.store is not None and self.store[i, 0]:
            return i, torch.from_numpy(self.store[i, 1:].reshape(3, *self.size).copy())
        _, image = super().__getitem__(i)
        image = None if image is None else (image * 255).round().to(torch.uint8)
        if image is not None and self.store is not None:
            self.store[i, 1:] = image.flatten().numpy()
            self.store[i, 0] = 1
        return i, image


def find_data(data: str, n_out: int | None, animals: bool, limit: int | None, seed: int, workers: int
              ) -> tuple[list, list, list[str]]:
    """(items to test, items to fit a head on, class names); an item is (path, label).

    n_out: outputs of the head, None if it is still to be fitted: on train/ if there is one, else on a random
    half, which is left out of the test. With 1000 outputs the labels are those of ImageNet-1k. limit: a
    random N to test, in the files' order.
    """
    if data == "demo":
        root = demo_folder("imagenet", workers=max(workers, 1)) / "imagenet"
    else:
        root = download_imagenette(ROOT / "runs") if data == "imagenette" else Path(data)
    items, classes, _ = load_imagefolder(root, imagenet_wnids() if n_out == 1000 or animals else None)
    has_train = n_out is None and (root / "train").is_dir() and (root / "val").is_dir()
    fit = load_imagefolder(root / "train", classes)[0] if has_train else []
    if animals:
        items, fit = ([(p, int(k >= N_ANIMALS)) for p, k in part] for part in (items, fit))
        classes = ["animal", "other"]
    order = torch.randperm(len(items), generator=generator(seed, 1)).tolist()
    if n_out is None and not fit:
        half = len(items) // 2
        fit, order = [items[i] for i in sorted(order[:half])], order[half:]
    return [items[i] for i in sorted(order[:limit])], fit, classes


def download_imagenette(root: Path) -> Path:
    """Imagenette's folder (short side 320 px) below root; fetched by torchvision on first use."""
    folder = root / "imagenette2-320"
    if not folder.exists() and rank_world()[0] == 0:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root) as new:  # a folder under its name is a whole one
                Imagenette(new, split="val", size="320px", download=True)
                (Path(new) / folder.name).rename(folder)
        except Exception as e:  # network, proxy and disk faults have no common type
            raise InputError(f"Imagenette cannot be downloaded ({e}); unpack imagenette2-320.tgz elsewhere "
                             "and give its folder with --data.") from e
    barrier()
    return folder


def class_titles(classes: list[str]) -> np.ndarray:
    """Names to print: wnids of ImageNet-1k become words."""
    words = dict(zip(imagenet_wnids(), ResNet50_Weights.IMAGENET1K_V2.meta["categories"]))
    return np.array([words.get(c, c) for c in classes])


def some_per_class(items: list[tuple], n: int, seed: int) -> list[tuple]:
    """A random n items of every label, in order."""
    keep, order = {}, torch.randperm(len(items), generator=generator(seed, 2)).tolist()
    for i in order:
        keep.setdefault(items[i][1], []).append(i)
    return [items[i] for i in sorted(i for part in keep.values() for i in part[:n])]


def external_map(folder: Path, path: Path) -> Tensor:
    """Another model's map of an image, [<class>/]<image name>.npy or .png, (rows, columns), in [0, 1]."""
    stems = (f"{path.parent.name}/{path.stem}", path.stem)
    found = [f for s in stems for f in (folder / f"{s}{e}" for e in (".npy", *IMAGE_SUFFIXES)) if f.exists()]
    if not found:
        raise InputError(f"--saliency-dir {folder}: no map for {image_name(path)}; expected {stems[0]}.npy "
                         "or .png, or the same without its folder.")
    with input_errors(found[0], "one finite map (rows, columns)"):
        if found[0].suffix == ".npy":
            one = np.load(found[0], allow_pickle=False).astype(np.float32)
        else:
            one = np.asarray(read_image(found[0]).convert("L"), np.float32)
        if one.ndim != 2 or not one.size or not (np.abs(one) < 1e30).all():  # beyond, float32 overflows
            raise ValueError(f"shape {one.shape}, or not finite")
    return minmax(torch.from_numpy(one))


# -------------------------------------------------------------------------------- model

def fixation_sequence(att: Tensor, fovea: int, n: int, border: str = "clip") -> tuple[Tensor, Tensor]:
    """Saccades over maps att (B, h, w) >= 0: (fixations (B, n, 2) row, col; visible (B, n, h, w) bool).

    Each saccade goes to the maximum, reveals the fovea x fovea square around it and suppresses it in the map
    (inhibition of return). visible is cumulative. border: "clip" cuts the square at the border, "shift" moves
    it inside (the fixation stays the maximum). Ties: the first in row-major order.
    """
    B, h, w = att.shape
    if fovea < 1 or fovea % 2 == 0 or fovea > min(h, w):
        raise InputError(f"fovea {fovea}: expected an odd number of tokens, at most {min(h, w)} on a grid of "
                         f"{h}x{w}.")
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
    top, left = ((centres[:, d] - side / 2).round().long().clamp(0, images.shape[2 + d] - side)
                 for d in (0, 1))
    steps = torch.arange(side, device=images.device)
    rows, cols = (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None]
    return images[torch.arange(len(images))[:, None, None], :, rows, cols].permute(0, 3, 1, 2)


def find_head(file: Path | None, name: str, model: VisionTransformer) -> nn.Linear:
    """The classifier: a file, the one published with the model, or the model's own."""
    if file or f"{name}_linear" in WEIGHTS:
        return load_head(file or name)
    if isinstance(model.head, nn.Identity):
        raise InputError(f"model {name} has no classifier; give one with --head FILE, or fit it with "
                         "--train-head.")
    return copy.deepcopy(model.head)  # stays in float32 when the model goes to bfloat16


def load_unisal(file: Path | None, domain: str = "DHF1K") -> UNISAL:
    """UNISAL with the official weights_best.pth, strictly; file None: downloaded when absent."""
    net, state = UNISAL(domain), read_state_dict(file or locate_weights(WEIGHTS["unisal"]))
    try:
        net.load_state_dict(state)
    except RuntimeError as e:
        raise InputError("these weights are not UNISAL's weights_best.pth "
                         f"({' '.join(str(e).split())[:200]}).") from e
    return net.eval()


# -------------------------------------------------------------------------------- measure

class Study:
    """Network, classifier, images and settings of a run. Its methods map images in [0, 1] to rows."""

    def __init__(self, model: VisionTransformer, view: Preprocess, head: nn.Linear, items: list[tuple],
                 foveas: list[int], block: int, border: str, seed: int, device: torch.device,
                 dtype: torch.dtype = torch.float32, batch_size: int = 32, workers: int = 0,
                 cache: Path | None = None):
        depth, width = len(model.blocks), model.embed_dim
        if not 0 <= block < depth:
            raise InputError(f"--layer {block}: this model has blocks 0 to {depth - 1} (0-based).")
        if head.in_features not in (width, HEAD_BLOCKS * width):
            raise InputError(f"the head reads {head.in_features} numbers, this model gives {width} (CLS of "
                             f"the last block) or {HEAD_BLOCKS * width} (of the last {HEAD_BLOCKS}); give "
                             "another --head, or fit one with --train-head.")
        self.model, self.head = model.to(device, dtype).eval(), head.to(device).eval()
        self.n_last, self.view, self.foveas = head.in_features // width, view, foveas
        self.block, self.border, self.seed, self.device, self.dtype = block, border, seed, device, dtype
        self.batch_size, self.workers, self.cache = batch_size, workers, cache
        self.use(items)

    def use(self, items: list[tuple], view: Preprocess | None = None) -> Study:
        """Go on with these images, and this view of them."""
        self.items, self.view = items, view or self.view
        self.labels = torch.tensor([label for _, label in items], device=self.device)
        return self

    def pixels(self, names) -> tuple[Tensor, Tensor]:
        """Images (n, 3, img_h, img_w) in [0, 1] of these names, each once, and their indices."""
        place = {image_name(path): i for i, (path, _) in enumerate(self.items)}
        index, images = list(dict.fromkeys(place[n] for n in names)), Images(self.items, self.view)
        return torch.stack([images[i][1] for i in index]).to(self.device) / 255, torch.tensor(index)

    def normalise(self, images: Tensor) -> Tensor:
        return normalize(images, self.view.mean, self.view.std).to(self.dtype)

    def random_maps(self, index: Tensor, grid: tuple[int, int]) -> Tensor:
        """Uniform random values (B, h, w), a function of the seed and the image's index alone."""
        maps = [torch.rand(grid, generator=generator(self.seed, 3, i)) for i in index.tolist()]
        return torch.stack(maps).to(self.device)

    def full(self, x: Tensor, index: Tensor, blocks: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Columns of the full image, and its maps (B, blocks, h, w), from one pass."""
        features, maps = look(self.model, x, blocks, self.n_last)
        pred, certainty = classify(self.head, features)
        correct = (pred == self.labels[index]).int()
        return dict(label=self.labels[index], pred_full=pred, correct_full=correct, certainty_full=certainty,
                    n_tokens=torch.full_like(pred, maps[0, 0].numel())), maps.float()

    def saccades(self, x: Tensor, index: Tensor, conditions: dict[str, tuple[Tensor, int]]
                 ) -> dict[str, dict[str, Tensor]]:
        """{condition: {column: (B, 10)}} of conditions {name: (map (B, h, w), fovea)}, all in one go."""
        sequences = [fixation_sequence(m, f, SACCADES, self.border) for m, f in conditions.values()]
        visible = torch.stack([v for _, v in sequences], 1)  # (B, C, 10, h, w)
        features = forward_visible(self.model, x, visible, self.n_last)
        pred, certainty = classify(self.head, features)  # (B, C, 10)
        correct, tokens = (pred == self.labels[index][:, None, None]).int(), visible.sum((-2, -1))
        return {name: {"correct": correct[:, c], "tokens": tokens[:, c], "certainty": certainty[:, c],
                       "pred": pred[:, c], "row": fixations[..., 0], "col": fixations[..., 1]}
                for c, (name, (fixations, _)) in enumerate(zip(conditions, sequences))}

    def rows(self, index: Tensor, found: dict[str, dict[str, Tensor]], columns: dict[str, Tensor]
             ) -> list[list[dict]]:
        """For each image the rows of its conditions; columns (B,) are common to them."""
        out: list[list[dict]] = [[] for _ in index]
        for condition, measures in found.items():
            table = {}
            for name, v in (columns | measures).items():
                v = v.cpu().double() if v.is_floating_point() else v.cpu()
                table |= ({name: v} if v.ndim == 1 else
                          {f"{name}_{s}": u for s, u in enumerate(v.unbind(1), 1)})
            table = {k: [round(u, 6) for u in v.tolist()] for k, v in table.items()}
            for b, i in enumerate(index.tolist()):
                row = {"image": image_name(self.items[i][0]), "condition": condition}
                out[b].append(row | {k: v[b] for k, v in table.items()})
        return out

    def main(self, images: Tensor, index: Tensor) -> list[list[dict]]:
        """Attention and random, each fovea (Fig 3, 4, 5, 7)."""
        x = self.normalise(images)
        columns, maps = self.full(x, index, [self.block])
        maps = {"attention": maps[:, 0], "random": self.random_maps(index, maps.shape[-2:])}
        conditions = {f"{name} fovea{f}": (m, f) for name, m in maps.items() for f in self.foveas}
        columns["entropy"] = map_entropy(maps["attention"])
        return self.rows(index, self.saccades(x, index, conditions), columns)

    def sweep(self, images: Tensor, index: Tensor) -> list[list[dict]]:
        """Maps of every block, of the image and of smaller copies, one pass each (Fig 6, 17)."""
        x, blocks, fovea = self.normalise(images), list(range(len(self.model.blocks))), self.foveas[0]
        columns, maps = self.full(x, index, blocks)
        grid = tuple(maps.shape[-2:])
        conditions = {"random": (self.random_maps(index, grid), fovea)}
        for side in (grid[0], *LOW_GRIDS):
            if side != grid[0]:
                a = resize_matrix(x.shape[-1], side * self.model.patch_size, "bilinear", antialias=True).to(x)
                maps = upsample(look(self.model, a @ x @ a.T, blocks)[1].float(), grid)
            conditions |= {f"block{b:02d} grid{side:02d}": (maps[:, b], fovea) for b in blocks}
        return self.rows(index, self.saccades(x, index, conditions), columns)

    def saliency(self, images: Tensor, index: Tensor, maps_of: Callable, resnet: nn.Module | None
                 ) -> list[list[dict]]:
        """Maps of other models guide the same saccades, and one crop for a ResNet (Fig 10, 11)."""
        x, side = self.normalise(images), self.foveas[0] * self.model.patch_size
        columns, maps = self.full(x, index, [self.block])
        maps = {k: (m, self.foveas[0]) for k, m in maps_of(images, index, maps).items()}
        found = self.saccades(x, index, maps)
        if resnet:
            found["centre"] = {k: torch.full((len(x), SACCADES), math.nan) for k in PER_SACCADE}
            for name, t in found.items():
                at = torch.stack([t["row"][:, 0], t["col"][:, 0]], 1) * self.model.patch_size  # (B, 2)
                at = torch.tensor(images.shape[-2:]).expand(len(x), 2) / 2 if name == "centre" else \
                    at + self.model.patch_size / 2
                crops = upsample(crop_at(images, at.to(x.device), side), (224, 224))
                pred = resnet(normalize(crops, *IMAGENET)).argmax(1)
                if self.head.out_features == 2 and resnet.fc.out_features == 1000:  # --animals
                    pred = (pred >= N_ANIMALS).long()
                t["crop_correct"] = (pred == self.labels[index]).int()
        return self.rows(index, found, columns)

    def policy_maps(self, images: Tensor, index: Tensor, dino: Tensor, policies: list[str],
                    unisal: Callable | None, folder: Path | None) -> dict[str, Tensor]:
        """{policy: map (B, h, w)}, resized bilinearly to the token grid of dino (B, 1, h, w)."""
        grid, maps = tuple(dino.shape[-2:]), {}
        if "dino" in policies:
            maps["dino"] = dino[:, 0]
        if "gbvs" in policies:
            maps["gbvs"] = upsample(gbvs(images), grid)
        if unisal:
            size = [32 * max(1, round(s / 32)) for s in images.shape[-2:]]
            log_p = unisal(normalize(upsample(images, size), *IMAGENET)[:, None])[:, 0, 0]  # (B, *size)
            maps["unisal"] = upsample(log_p.exp(), grid)
        if folder:
            given = [upsample(external_map(folder, self.items[i][0]), grid) for i in index.tolist()]
            maps["other"] = torch.stack(given).to(images.device)
        if "random" in policies:
            maps["random"] = self.random_maps(index, grid)
        return maps


def run_part(folder: Path, study: Study, measure: Callable, resume: bool) -> list[str]:
    """measure(images, index) over all items into folder/per_image.csv; returns the unreadable images.

    Batches are fixed slices of the items. Processes share batches, and a resumed run repeats an interrupted
    batch as a whole, so neither changes a digit.
    """
    log, n = RowLog(folder, resume), len(study.items)
    names, bad = [image_name(p) for p, _ in study.items], []
    todo = [b for b in shard(slices(range(n), study.batch_size)) if any(names[i] not in log.done for i in b)]
    for images, index, unreadable in load_batches(study, study.items, todo, folder.name):
        bad += [names[i] for i in unreadable]
        for rows in measure(images, index) if len(index) else ():
            if rows[0]["image"] not in log.done:
                log.add(rows)
    bad = sorted(gather_rows(bad))
    if len(bad) == n:
        raise InputError(f"none of the {n} images can be read (first: {bad[0]}); check the files.")
    log.merge(read=False)
    return bad


def load_batches(study: Study, items: list[tuple], batches: list[list[int]], name: str):
    """(images in [0, 1] on the device, indices, unreadable indices) of each batch, decoded in workers."""
    loader = DataLoader(Images(items, study.view, study.cache), batch_sampler=batches,
                        num_workers=study.workers, collate_fn=collate_readable,
                        pin_memory=study.device.type == "cuda")
    with torch.no_grad():
        for pixels, index, unreadable in tqdm(loader, desc=name, disable=rank_world()[0] > 0, mininterval=2):
            yield pixels.to(study.device, non_blocking=True) / 255, index, unreadable


def train_head(study: Study, fit: list[tuple], n_classes: int, file: Path, resume: bool
               ) -> tuple[nn.Linear, list[str]]:
    """A linear head on the frozen features of full images, kept in `file`; and the unreadable images, kept
    beside it."""
    found, bad, listed = [], [], file.with_suffix(".json")
    if not (resume and file.exists() and listed.exists()):
        batches = shard(slices(range(len(fit)), study.batch_size))
        for images, index, unreadable in load_batches(study, fit, batches, "features for the head"):
            bad += [image_name(fit[i][0]) for i in unreadable]
            if len(index):
                x = look(study.model, study.normalise(images), [0])[0].float().cpu()
                found += zip(index.tolist(), x.numpy())  # a row of a tensor would be sent with all its batch
        found, bad = sorted(gather_rows(found), key=lambda f: f[0]), sorted(gather_rows(bad))
        if not found:
            raise InputError(f"--train-head: no readable image among the {len(fit)} to fit on; check them.")
        x, y = np.stack([row for _, row in found]), torch.tensor([fit[i][1] for i, _ in found])
        weight, bias = fit_linear(torch.from_numpy(x), y, n_classes, HEAD_L2)
        if rank_world()[0] == 0:
            write_json(bad, listed)  # first: where the head is, it is complete
            save_checkpoint({"weight": weight, "bias": bias}, file)
        barrier()
    return load_head(file), read_json(listed)


def save_fixations(folder: Path, found: dict[str, dict]) -> None:
    """saccades.npz: images (n,), conditions (C,), fixations (n, C, 10, 2), pred (n, C, 10); -1: none."""
    row, col, pred = (np.nan_to_num(np.stack([t[k] for t in found.values()], 1), nan=-1).astype(np.int16)
                      for k in ("row", "col", "pred"))
    first = next(iter(found.values()))
    save_arrays(folder / "saccades.npz", images=first["image"], conditions=list(found), pred=pred,
                fixations=np.stack([row, col], -1),
                **{k: first[k].astype(np.int16) for k in ("label", "pred_full")})


@torch.no_grad()
def save_examples(folder: Path, study: Study, names, titles: np.ndarray) -> None:
    """examples.npz: of these images, all that the strips and the maps of every block are drawn from."""
    images, index = study.pixels(names)
    x = study.normalise(images)
    columns, maps = study.full(x, index, list(range(len(study.model.blocks))))
    one = study.saccades(x, index, {"a": (maps[:, study.block], study.foveas[0])})["a"]
    visible = fixation_sequence(maps[:, study.block], study.foveas[0], SACCADES, study.border)[1]
    words = dict(pred=one["pred"], label=columns["label"], pred_full=columns["pred_full"])
    save_arrays(folder / "examples.npz", images=(images * 255).round().byte().permute(0, 2, 3, 1), maps=maps,
                visible=visible, entropy=map_entropy(maps[:, study.block]), block=study.block,
                **{k: one[k] for k in ("correct", "certainty")},
                **{k: titles[v.cpu()] for k, v in words.items()})


@torch.no_grad()
def save_map_examples(folder: Path, study: Study, names, maps_of: Callable) -> None:
    """examples.npz of --saliency: images, and every policy's map and fixations."""
    images, index = study.pixels(names)
    maps = maps_of(images, index, study.full(study.normalise(images), index, [study.block])[1])
    maps.pop("random", None)
    fixations = [fixation_sequence(m, study.foveas[0], SACCADES, study.border)[0] for m in maps.values()]
    if maps:
        save_arrays(folder / "examples.npz", images=images.permute(0, 2, 3, 1), policies=list(maps),
                    maps=torch.stack(list(maps.values()), 1), patch=study.model.patch_size,
                    fixations=torch.stack(fixations, 1))


# -------------------------------------------------------------------------------- statistics

def collect(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """{condition: {column: (n,), or (n, 10) for saccades}} of per_image.csv, images in the same order in all.

    Read into flat arrays: as dicts the 2.5 million rows of --sweep on ImageNet would fill any memory.
    """
    names, flat = {}, {}
    file = folder / "per_image.csv"
    with input_errors(file, "the rows of a run"), open(file, newline="", encoding="utf-8") as f:
        rows = csv.reader(f)
        columns = next(rows)[2:]
        for image, condition, *values in rows:
            names[image] = None
            flat.setdefault(condition, array("d")).extend(map(float, values))
        tables = {k: np.asarray(v).reshape(len(names), len(columns)) for k, v in flat.items()}
    one = [i for i, k in enumerate(columns) if not k[-1].isdigit()]
    first = {k: columns.index(f"{k}_1") for k in PER_SACCADE}
    return {condition: {"image": np.array(list(names))} | {columns[i]: t[:, i] for i in one}
            | {k: t[:, i:i + SACCADES] for k, i in first.items()} for condition, t in tables.items()}


def first_success(correct: np.ndarray) -> np.ndarray:
    """Saccade (1 to n) of the first correct answer, n + 1 = never; correct (images, n)."""
    return np.where(correct.any(1), correct.argmax(1) + 1, correct.shape[1] + 1)


def transitions(correct: np.ndarray) -> dict[str, np.ndarray]:
    """Share of images (n,) that at each saccade change from correct to wrong, go back to correct after such a
    change, or have had one and stay wrong or stay right. A first success is no transition.
    """
    now = correct.astype(bool)
    before = np.pad(now, ((0, 0), (1, 0)))[:, :-1]
    lost = before & ~now
    had = np.pad(np.cumsum(lost, 1) > 0, ((0, 0), (1, 0)))[:, :-1]  # a change to wrong at an earlier saccade
    sets = {"correct to wrong": lost, "back to correct": had & ~before & now,
            "stayed wrong": had & ~before & ~now, "stayed right": had & before & now}
    return {k: v.mean(0) for k, v in sets.items()}


def early_stop(certainty: np.ndarray, threshold: float) -> np.ndarray:
    """Index of the saccade (images,) where certainty (images, n) first reaches a threshold, else the last."""
    reached = certainty >= threshold
    return np.where(reached.any(1), reached.argmax(1), certainty.shape[1] - 1)


def stopping(t: dict[str, np.ndarray], seed: int) -> dict:
    """Early stopping by certainty: threshold chosen on a random half of the images, judged on the other.

    Chosen: the threshold with the fewest tokens among those that lose at most STOP_LOSS against ten saccades.
    curve, fixed: (mean tokens, accuracy) on the other half, by threshold and by number of saccades.
    """
    half = np.random.default_rng([seed, 4]).permutation(len(t["label"])) < len(t["label"]) // 2
    thresholds = np.append(np.quantile(t["certainty"][half], np.linspace(0, 1, 200)), np.inf)  # inf: never

    def judge(which: np.ndarray) -> list[np.ndarray]:
        """tokens, correct (thresholds, images)."""
        stops = [early_stop(t["certainty"][which], c)[:, None] for c in thresholds]
        return [np.stack([np.take_along_axis(t[k][which], s, 1)[:, 0] for s in stops])
                for k in ("tokens", "correct")]
    tokens, correct = judge(half)
    enough = correct.mean(1) >= t["correct"][half, -1].mean() - STOP_LOSS
    best = int(np.where(enough, tokens.mean(1), np.inf).argmin())
    tokens, correct = judge(~half)
    return {"threshold": float(thresholds[best]), "correct": correct[best], "tokens": tokens[best],
            "correct_10": t["correct"][~half, -1], "tokens_10": t["tokens"][~half, -1],
            "curve": (tokens.mean(1), correct.mean(1)),
            "fixed": (t["tokens"][~half].mean(0), t["correct"][~half].mean(0))}


def distances(a: dict, b: dict, from_first: bool = False) -> np.ndarray:
    """Tokens between the fixations of a and b at each saccade, (n, 10); from_first: to b's first one."""
    end = slice(0, 1) if from_first else slice(None)
    return np.hypot(a["row"] - b["row"][:, end], a["col"] - b["col"][:, end])


def verdict(expected: str, ci: tuple) -> str:
    """Whether ours agrees with "> 0", "< 0" (the interval lies on that side) or "about X" (the interval lies
    within CLOSE of X); "differs" where the interval excludes it, else "undecided"."""
    sign, number = expected.split()
    low, high = (v - float(number) for v in ci)
    if sign == "about":
        yes, no = low >= -CLOSE and high <= CLOSE, low > CLOSE or high < -CLOSE
    else:
        yes, no = (low > 0, high < 0) if sign == ">" else (high < 0, low > 0)
    return "agrees" if yes else "differs" if no else "undecided"


def ordering(name: str, a: np.ndarray, b: np.ndarray, expected: str | None, unit: str,
             scale: float = 1.0) -> dict:
    """Line of the table: mean of a - b over images, paired, with 95 % interval; expected by the paper."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    binary = np.isin(np.concatenate([a, b]), (0, 1)).all()
    found = mcnemar(a, b) if binary else paired_t(a, b)
    mean, ci = float(scale * found["diff" if binary else "mean"]), tuple(scale * v for v in found["ci"])
    unit += f", {verdict(expected, ci)}" if expected else ""
    return dict(name=name, paper=expected, ours=mean, ci=ci, n=len(a), unit=unit)


def slope_rows(name: str, first: np.ndarray, values: np.ndarray, expected: str, unit: str) -> list[dict]:
    """Line of the table: slope of a value over the saccade of first success; none if that is always one."""
    if len(first) < 3 or np.ptp(first) == 0:
        return []
    fit = stats.linregress(first, values)
    half = stats.t.ppf(.975, len(first) - 2) * fit.stderr
    ci = (fit.slope - half, fit.slope + half)
    return [dict(name=name, paper=expected, ours=float(fit.slope), ci=ci, n=len(first),
                 unit=f"{unit}, {verdict(expected, ci)}")]


def entropy_rows(tag: str, a: dict, r: dict) -> list[dict]:
    """Slope of the map's entropy over the saccade of first success, and the lowest entropy of failures."""
    out = []
    for name, t, expected in (("attention", a, "> 0"), ("random", r, "< 0")):
        first, entropy, full = first_success(t["correct"]), t["entropy"], int(t["n_tokens"][0])
        ok = first <= SACCADES
        out += slope_rows(f"{tag}: entropy per saccade needed, {name}", first[ok], entropy[ok], expected,
                          "bits")
        if (~ok).any():
            low, side = float(entropy[~ok].min()), expected.replace("0", "6.0")
            known = full == 196  # the paper's number of tokens
            unit = f"of {math.log2(full):.2f} bits" + (f", {verdict(side, (low, low))}" if known else "")
            out.append(dict(name=f"{tag}: lowest entropy, never correct, {name}", ours=low, ci=None,
                            paper=side if known else None, n=int((~ok).sum()), unit=unit))
    return out


def main_headline(found: dict, foveas: list[int], official: float | None, seed: int) -> list[dict]:
    """The table of the main part (Fig 3 to 5, 7), and early stopping."""
    full = found[f"attention fovea{foveas[0]}"]["correct_full"]
    out = [result_row("accuracy, full image", 100 * full, "%", official)]
    for f in foveas:
        a, r, tag = found[f"attention fovea{f}"], found[f"random fovea{f}"], f"fovea {f}"
        out.append(result_row(f"{tag}: accuracy, saccade {SACCADES}", 100 * a["correct"][:, -1], "%"))
        out += [ordering(f"{tag}: attention - random, saccade {s}", *(t["correct"][:, s - 1] for t in (a, r)),
                         "> 0", "points", 100) for s in (1, 2, 3, 5, SACCADES)]
        gaps = [a["correct"][:, s] - r["correct"][:, s] for s in (0, -1)]
        out.append(ordering(f"{tag}: gap at saccade 1 - at {SACCADES}", *gaps, "> 0", "points", 100))
        every = [100 * t["correct"].mean(1) for t in (a, r)]
        out.append(ordering(f"{tag}: attention - random, mean of all", *every, "> 0", "points"))
        share = [100 * t["tokens"].mean(1) / t["n_tokens"] for t in (a, r)]
        out += [ordering(f"{tag}: visible, attention - random", *share, "< 0", "% of image"),
                ordering(f"{tag}: correct at least once - full", a["correct"].any(1), full, "> 0", "points",
                         100)]
        both = full.astype(bool) & a["correct"].any(1) & r["correct"].any(1)
        if both.sum() > 1:
            out.append(ordering(f"{tag}: certainty, attention - random", a["certainty"][both].mean(1),
                                r["certainty"][both].mean(1), "> 0", "0 to 1"))
        first = first_success(a["correct"])
        solved = (full == 1) & (first <= SACCADES)
        out += slope_rows(f"{tag}: full-image certainty per saccade needed", first[solved],
                          a["certainty_full"][solved], "< 0", "0 to 1")
        stop = stopping(a, seed)
        out += [*entropy_rows(tag, a, r),
                ordering(f"{tag}: stopping when certain - never", stop["correct"], stop["correct_10"], None,
                         f"points, at {stop['threshold']:.3f}", 100),
                result_row(f"{tag}: tokens used so", 100 * stop["tokens"] / stop["tokens_10"], "%")]
    if {3, 5} <= {*foveas}:
        small, large = (found[f"attention fovea{f}"]["correct"] for f in (3, 5))
        every = (100 * t.mean(1) for t in (large, small))
        out += [ordering("fovea 5 - 3: accuracy, mean of all", *every, "> 0", "points"),
                ordering("fovea 5 - 3: correct at least once", large.any(1), small.any(1), "> 0", "points",
                         100)]
    return out


def sweep_headline(found: dict) -> list[dict]:
    """The table of --sweep (Fig 6). Accuracy of an image: share of its ten saccades that are correct."""
    acc = {k: 100 * t["correct"].mean(1) for k, t in found.items()}
    grid = max(k[-2:] for k in acc if k != "random")  # the image's own
    blocks = sorted(k for k in acc if k.endswith(grid))
    pairs = [(blocks[0], "random", "< 0"), (blocks[1], "random", "> 0")]
    pairs += [(blocks[3], blocks[2], "> 0")] if len(blocks) > 3 else []
    out = [ordering(f"accuracy, {a[:7]} - {b[:7]}", acc[a], acc[b], e, "points") for a, b, e in pairs]
    for side in LOW_GRIDS:
        low, tag = f"{blocks[-1][:7]} grid{side:02d}", f"{side}x{side} maps"
        out.append(ordering(f"accuracy, {tag} - random", acc[low], acc["random"], "> 0", "points"))
        out.append(ordering(f"accuracy, {tag} - full maps", acc[low], acc[blocks[-1]],
                            "about 0" if side == 10 else "< 0", "points"))
        out.append(ordering(f"visible, {tag} - full maps", found[low]["tokens"].mean(1),
                            found[blocks[-1]]["tokens"].mean(1), "< 0", "tokens"))
    return out


def saliency_headline(found: dict, main: dict, fovea: int) -> list[dict]:
    """The table of --saliency (Fig 10, 11), for the policies that ran."""
    out = [result_row("accuracy, larger full image", 100 * next(iter(found.values()))["correct_full"], "%")]

    def compare(what: str, a: str, b: str, expected: str, unit: str, value: Callable) -> None:
        if all(k in found and value(found[k]) is not None for k in (a, b)):
            values = value(found[a]), value(found[b])
            out.append(ordering(f"{what}, {title(a)} - {title(b)}", *values, expected, unit))

    def accuracy(t: dict, part: slice = slice(None)) -> np.ndarray:
        return 100 * t["correct"][:, part].mean(1)
    for b, expected in (("gbvs", "about 5"), ("unisal", "about 5"), ("random", "> 0")):
        compare("accuracy", "dino", b, expected, "points", accuracy)
    compare("accuracy, saccades 1-5", "gbvs", "unisal", "< 0", "points", lambda t: accuracy(t, slice(0, 5)))
    compare("accuracy, saccades 6-10", "gbvs", "unisal", "about 0", "points",
            lambda t: accuracy(t, slice(5, 10)))
    for a in ("dino", "gbvs"):
        compare("visible", a, "unisal", "> 0", "% of image",
                lambda t: 100 * t["tokens"].mean(1) / t["n_tokens"])
        compare("from first fixation", a, "unisal", "> 0", "tokens",
                lambda t: distances(t, t, True)[:, 1:].mean(1))
    for a, b in (("dino", "gbvs"), ("dino", "unisal"), ("gbvs", "unisal")):
        if {a, b} <= found.keys():
            apart = distances(found[a], found[b])
            out.append(ordering(f"{title(a)} to {title(b)}, saccade {SACCADES} - 1", apart[:, -1],
                                apart[:, 0], "> 0", "tokens"))
    if {"dino", "gbvs", "unisal"} <= found.keys():
        near, far = (distances(found["dino"], found[k])[:, :3].mean(1) for k in ("unisal", "gbvs"))
        out.append(ordering("DINO to UNISAL - to GBVS, saccades 1-3", near, far, "< 0", "tokens"))
    if {"dino", "random"} <= found.keys():
        place = {name: i for i, name in enumerate(main[f"random fovea{fovea}"]["image"])}
        j = [place[name] for name in found["dino"]["image"]]
        loss = [accuracy(main[f"{m} fovea{fovea}"])[j] - accuracy(found[k])
                for m, k in (("random", "random"), ("attention", "dino"))]
        out.append(ordering("loss by larger images, random - DINO", *loss, "> 0", "points"))
    order = ("dino", "unisal", "centre", "gbvs", "random")  # the paper's, best first
    for a, b in [(a, b) for i, a in enumerate(order) for b in order[i + 1:]]:
        compare("ResNet on a crop", a, b, "> 0", "points",
                lambda t: 100 * t["crop_correct"] if "crop_correct" in t else None)
    return out


def paired_tests(found: dict, foveas: list[int]) -> list[dict]:
    """McNemar's test of attention against random at each saccade."""
    return [{"test": f"attention - random, fovea {f}, saccade {s + 1}",
             **mcnemar(*(found[f"{name} fovea{f}"]["correct"][:, s] for name in ("attention", "random")))}
            for f in foveas for s in range(SACCADES)]


def analyse(folder: Path, parts: list[str], foveas: list[int], official: float | None, seed: int
            ) -> tuple[list[dict], list[dict]]:
    """(lines of the table, paired tests) of the CSV files, and saccades.npz beside each of them."""
    found = collect(folder)
    headline = main_headline(found, foveas, official, seed)
    save_fixations(folder, found)
    for part, lines in (("sweep", sweep_headline),
                        ("saliency", partial(saliency_headline, main=found, fovea=foveas[0]))):
        if part in parts:
            measured = collect(folder / part)
            headline += lines(measured)
            save_fixations(folder / part, measured)
    return headline, paired_tests(found, foveas)


def pick_examples(t: dict) -> np.ndarray:
    """Names of images with concentrated maps that needed three saccades or more, then with diffuse maps that
    needed one (Fig 8), then spread evenly."""
    first, order, n = first_success(t["correct"]), np.argsort(t["entropy"], kind="stable"), EXAMPLES
    late = [i for i in order if 3 <= first[i] <= SACCADES][:n // 3]
    early = [i for i in order[::-1] if first[i] == 1][:n // 3]
    return t["image"][list(dict.fromkeys(late + early + [i * len(order) // n for i in range(n)]))[:n]]


# -------------------------------------------------------------------------------- figures

def title(policy: str) -> str:
    return policy.upper() if policy in ("dino", "gbvs", "unisal") else policy


def band(ax, values: np.ndarray, label: str, colour, style: str = "o-", y: str = "") -> None:
    """Mean over images at each saccade; bar: 95 % interval of the mean (normal approximation)."""
    half = 1.96 * values.std(0) / math.sqrt(len(values))
    ax.errorbar(STEPS, values.mean(0), half, fmt=style, color=colour, label=label, markersize=3,
                linewidth=1.2, elinewidth=.8)
    ax.set(xlabel="saccade (bars: 95 % intervals)", xticks=STEPS)
    if y:
        ax.set_ylabel(y)


def conditions_of(found: dict) -> list[tuple[int, str, dict]]:
    """(fovea, attention or random, measurements), by fovea."""
    split = [(int(k.split("fovea")[1]), k.split()[0], t) for k, t in found.items()]
    return sorted(split, key=lambda c: c[:2])


def draw_accuracy(found: dict, folder: Path) -> None:
    """Fig 3: accuracy per saccade, for each fovea, and visible part of the image."""
    foveas = sorted({f for f, *_ in conditions_of(found)})
    fig, axes = figure_grid(1, len(foveas) + 1, 3.6, 2.8)
    for f, name, t in conditions_of(found):
        ax = axes[0, foveas.index(f)]
        band(ax, 100 * t["correct"], name, COLOURS[name], y="accuracy (% of images)")
        band(axes[0, -1], 100 * t["tokens"] / t["n_tokens"][:, None], f"{name}, {f}x{f}", COLOURS[name],
             "o-" if f == foveas[0] else "s--", "visible tokens (% of image)")
        ax.set_title(f"fovea {f}x{f} tokens")
        if name == "random":
            ax.axhline(100 * t["correct_full"].mean(), color="black", linestyle=":", label="full image")
    save_figure(fig, folder / "fig03_accuracy", legends=True)


def draw_dynamics(found: dict, folder: Path) -> None:
    """Fig 4: correct at least once so far; changes of mind; how often images are right, all and hard ones."""
    shown = [c for c in conditions_of(found) if c[1] == "attention"]
    fig, axes = figure_grid(4, len(shown), 3.6, 2.6)
    for column, (f, name, t) in zip(axes.T, shown):
        band(column[0], 100 * np.maximum.accumulate(t["correct"], 1), "correct at least once", COLOURS[name])
        band(column[0], 100 * t["correct"], "correct now", COLOURS[name], "s--", "images (%)")
        column[0].axhline(100 * t["correct_full"].mean(), color="black", linestyle=":", label="full image")
        column[0].set_title(f"attention, fovea {f}x{f}")
        for (change, share), style in zip(transitions(t["correct"]).items(), ("v-", "^-", "v:", "^:")):
            column[1].plot(STEPS, 100 * share, style, markersize=4, label=change)
        column[1].set(xlabel="saccade", ylabel="images (%)", xticks=STEPS)
        times = t["correct"].sum(1).astype(int)
        for ax, part, which in ((column[2], times, "all images"),
                                (column[3], times[t["correct_full"] == 0], "wrong on the full image")):
            ax.bar(range(SACCADES + 1), 100 * np.bincount(part, minlength=SACCADES + 1) / max(len(part), 1),
                   color=COLOURS[name])
            ax.set(title=f"{which} (n = {len(part)})", xlabel="saccades at which the image is correct",
                   ylabel="images (%)", xticks=range(SACCADES + 1))
    save_figure(fig, folder / "fig04_dynamics", legends=True)


def draw_certainty(found: dict, folder: Path) -> None:
    """Fig 5: certainty of images correct on the full image, mean and by saccade of first success; at the
    right of each panel the same sets on the full image."""
    shown, shades = conditions_of(found), colormaps["Blues_r"](np.linspace(0, .75, SACCADES))
    fig, axes = figure_grid(len(shown) // 2, 2, 4.6, 2.8)
    for ax, (f, name, t) in zip(axes.flat, shown):
        first = first_success(t["correct"])
        keep = (t["correct_full"] == 1) & (first <= SACCADES)
        for s in sorted(set(first[keep])):
            part = keep & (first == s)
            ax.plot(STEPS, t["certainty"][part].mean(0), color=shades[s - 1],
                    label=f"first at {s}, n = {part.sum()}")
            ax.bar(SACCADES + 1 + .25 * s, t["certainty_full"][part].mean(), .25, color=shades[s - 1])
        if keep.any():
            band(ax, t["certainty"][keep], f"all, n = {keep.sum()}", COLOURS["A"], "o--")
            ax.hlines(t["certainty_full"][keep].mean(), SACCADES + 1, SACCADES + 4, color=COLOURS["A"])
        ax.axvline(SACCADES + .75, color="black", linewidth=.5)
        ax.set(title=f"{name}, fovea {f}x{f}", xlabel="saccade (columns: full image; bars: 95 %)",
               ylim=(0, 1), xticks=STEPS,
               ylabel="certainty, 1 - H / log(classes)")
    save_figure(fig, folder / "fig05_certainty", legends=True)


def draw_entropy(found: dict, folder: Path) -> None:
    """Fig 7: entropy of the attention map by saccade of first success; dashes: means."""
    shown = conditions_of(found)
    fig, axes = figure_grid(len(shown) // 2, 2, 4.4, 2.8)
    for ax, (f, name, t) in zip(axes.flat, shown):
        first = first_success(t["correct"])
        jitter = np.random.default_rng([0, f]).uniform(-.3, .3, len(first))
        ax.plot(first + jitter, t["entropy"], ".", color=COLOURS[name], markersize=2, alpha=.5)
        ax.plot(*zip(*[(s, t["entropy"][first == s].mean()) for s in sorted(set(first))]), "_", color="black",
                markersize=12, label="mean")
        ok = first <= SACCADES
        if ok.sum() > 2 and np.ptp(first[ok]) > 0:
            fit = stats.linregress(first[ok], t["entropy"][ok])
            ax.plot(STEPS, fit.intercept + fit.slope * STEPS, color=COLOURS["A"],
                    label=f"{fit.slope:+.3f} bits a saccade, p = {fit.pvalue:.2g}")
        ax.set(title=f"{name}, fovea {f}x{f}", xlabel="saccade of the first correct answer",
               ylabel="entropy of the map (bits)", xticks=range(1, SACCADES + 2),
               xticklabels=[*STEPS, "never"])
    save_figure(fig, folder / "fig07_entropy", legends=True)


def draw_stopping(found: dict, folder: Path, seed: int) -> None:
    """Beyond the paper: accuracy against tokens when stopping at a certainty, and after a fixed number."""
    shown = conditions_of(found)
    fig, axes = figure_grid(1, len(shown) // 2, 4, 2.8)
    for i, (f, name, t) in enumerate(shown):
        ax, stop = axes[0, i // 2], stopping(t, seed)
        for key, style, label in (("curve", "-", "stop at a certainty"), ("fixed", "o:", "fixed number")):
            ax.plot(stop[key][0], 100 * stop[key][1], style, color=COLOURS[name], markersize=3,
                    label=f"{name}, {label}")
        ax.plot(stop["tokens"].mean(), 100 * stop["correct"].mean(), "*", color=COLOURS["A"], markersize=9)
        ax.set(title=f"fovea {f}x{f}, held-out half (star: chosen)",
               xlabel="mean visible tokens at the answer", ylabel="accuracy (% of images)")
    save_figure(fig, folder / "fig_early_stopping", legends=True)


def draw_sweep(found: dict, folder: Path) -> None:
    """Fig 6 (blocks; resolutions of the last block) and Fig 17 (blocks of smaller inputs)."""
    keys = [k for k in found if k != "random"]
    blocks, grids = sorted({k[:7] for k in keys}), sorted({k[-2:] for k in keys}, reverse=True)
    shades = colormaps["viridis"](np.linspace(0, .95, max(len(blocks), len(grids))))

    def lines(row, head: str, chosen: list[tuple[str, str]]) -> None:
        for ax, column, scale, y in zip(row, ("correct", "tokens"), (100, 1),
                                        ("accuracy (% of images)", "visible tokens")):
            step = len(shades) // len(chosen)
            for (key, label), colour in zip(chosen, shades[::step]):
                ax.plot(STEPS, scale * found[key][column].mean(0), color=colour, label=label)
            ax.plot(STEPS, scale * found["random"][column].mean(0), "--", color=COLOURS["random"],
                    label="random")
            ax.set(title=head, xlabel="saccade", ylabel=y, xticks=STEPS)
    every = [[(f"{b} grid{g}", f"block {int(b[5:])}") for b in blocks] for g in grids]
    fig, axes = figure_grid(2, 2, 4.2, 2.8)
    lines(axes[0], "maps of every block", every[0])
    lines(axes[1], "last block, smaller inputs",
          [(f"{blocks[-1]} grid{g}", f"{int(g)}x{int(g)} tokens") for g in grids])
    save_figure(fig, folder / "fig06_depth_resolution", legends=True)
    fig, axes = figure_grid(len(grids) - 1, 2, 4.2, 2.8)
    for row, g, chosen in zip(axes, grids[1:], every[1:]):
        lines(row, f"maps of {int(g)}x{int(g)} tokens", chosen)
    save_figure(fig, folder / "fig17_depth_by_resolution", legends=True)


def draw_policies(found: dict, folder: Path) -> None:
    """Fig 10 (ResNet crops; saccades; visible part) and Fig 11 (where the models look)."""
    looking = {k: t for k, t in found.items() if not np.isnan(t["correct"]).any()}
    crops = {k: 100 * t["crop_correct"] for k, t in found.items() if "crop_correct" in t}
    fig, axes = figure_grid(1, 2 + bool(crops), 3.6, 2.8)
    for k in sorted(crops, key=lambda k: -crops[k].mean()):
        axes[0, 0].bar(title(k), crops[k].mean(), yerr=1.96 * crops[k].std() / math.sqrt(len(crops[k])),
                       color=COLOURS[k])
        axes[0, 0].set(ylabel="accuracy of the ResNet (%), 95 %", title="crop at the first fixation")
    for k, t in looking.items():
        band(axes[0, -2], 100 * t["correct"], title(k), COLOURS[k], y="accuracy (% of images)")
        band(axes[0, -1], 100 * t["tokens"] / t["n_tokens"][:, None], title(k), COLOURS[k],
             y="visible tokens (% of image)")
    axes[0, -2].axhline(100 * t["correct_full"].mean(), color="black", linestyle=":", label="full image")
    save_figure(fig, folder / "fig10_policies", legends=True)
    fig, axes = figure_grid(1, 3, 3.6, 2.8)
    pairs = [(a, b) for i, a in enumerate(looking) for b in list(looking)[i + 1:] if "random" not in (a, b)]
    for (a, b), style in zip(pairs, ("o-", "s-", "^-", "o--", "s--", "^--")):
        band(axes[0, 0], distances(looking[a], looking[b]), f"{title(a)} - {title(b)}", COLOURS[b], style)
    for k, t in looking.items():
        band(axes[0, 1], distances(t, t, True), title(k), COLOURS[k])
        step = np.hypot(np.diff(t["row"], prepend=np.nan), np.diff(t["col"], prepend=np.nan))
        band(axes[0, 2], step, title(k), COLOURS[k])
    for ax, y in zip(axes[0], ("between two models", "from the first fixation", "saccade amplitude")):
        ax.set_ylabel(f"{y} (tokens)")
    save_figure(fig, folder / "fig11_fixations", legends=True)


def draw_strips(folder: Path) -> None:
    """Fig 2 and 8: image, attention map, what is revealed, prediction and certainty; Fig 13: every block."""
    d = read_arrays(folder / "examples.npz")
    n, shown, size = len(d["images"]), (0, 1, 2, 4, SACCADES - 1), d["images"].shape[1:3]
    maps = upsample(torch.from_numpy(d["maps"]), size).numpy()  # (n, L, img_h, img_w)
    cell = [s // v for s, v in zip(size, d["visible"].shape[2:])]
    fig, axes = figure_grid(n, 2 + len(shown), 1.55, 1.85)
    for i, row in enumerate(axes):
        row[0].imshow(d["images"][i])
        row[0].set_title(f"{d['label'][i]}\nfull image: {d['pred_full'][i]}", fontsize=6)
        row[1].imshow(maps[i, d["block"]], cmap="inferno", vmin=0)
        row[1].set_title(f"attention, block {d['block']}\n{d['entropy'][i]:.2f} bits", fontsize=6)
        for ax, s in zip(row[2:], shown):
            seen = np.kron(d["visible"][i, s], np.ones(cell, bool))[..., None] > 0
            ax.imshow(np.where(seen, d["images"][i], 235))
            ax.set_title(f"saccade {s + 1}: {d['pred'][i, s]}\ncertainty {d['certainty'][i, s]:.2f}",
                         fontsize=6, color=COLOURS["B"] if d["correct"][i, s] else COLOURS["A"])
    save_figure(fig, folder / "fig08_examples", pictures=True)
    fig, axes = figure_grid(n, 1 + maps.shape[1], 1.1, 1.15)
    for i, row in enumerate(axes):
        row[0].imshow(d["images"][i])
        for b, ax in enumerate(row[1:]):
            ax.imshow(maps[i, b], cmap="inferno", vmin=0)
            ax.set_title(f"block {b}" if i == 0 else "", fontsize=7)
    save_figure(fig, folder / "fig13_maps", pictures=True)


def draw_map_examples(folder: Path) -> None:
    """Fig 9: maps of the saliency models with their first five fixations in order."""
    d = read_arrays(folder / "examples.npz")
    maps = upsample(torch.from_numpy(d["maps"]), d["images"].shape[1:3]).numpy()
    fig, axes = figure_grid(len(maps), 1 + maps.shape[1], 1.9, 1.5)
    for i, row in enumerate(axes):
        row[0].imshow(d["images"][i])
        for p, ax in enumerate(row[1:]):
            ax.imshow(maps[i, p], cmap="inferno")
            y, x = ((d["fixations"][i, p, :5] + .5) * d["patch"] - .5).T
            ax.plot(x, y, "-", color="white", linewidth=.6)
            for s in range(5):
                ax.text(x[s], y[s], str(s + 1), color="white", fontsize=7, ha="center", va="center",
                        path_effects=[withStroke(linewidth=1.5, foreground="black")])
            ax.set_title(title(str(d["policies"][p])) if i == 0 else "", fontsize=8)
    save_figure(fig, folder / "fig09_saliency_maps", pictures=True)


def draw_all(folder: Path, parts: list[str], seed: int) -> None:
    """Every figure of the main part, and of `sweep` and `saliency` if named."""
    found = collect(folder)
    for draw in (draw_accuracy, draw_dynamics, draw_certainty, draw_entropy):
        draw(found, folder)
    draw_stopping(found, folder, seed)
    draw_strips(folder)
    for part, draw in (("sweep", draw_sweep), ("saliency", draw_policies)):
        if part in parts:
            draw(collect(folder / part), folder / part)
    if "saliency" in parts and (folder / "saliency" / "examples.npz").exists():
        draw_map_examples(folder / "saliency")


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argument_parser(__doc__)
    add_common_args(p, limit=f"a random N of the images (default: all; demo: {DEMO_IMAGES})")
    add = p.add_argument_group("model").add_argument
    add("--model", help="a ViT of the weight table, or auto with --weights (dino_vits16; demo: demo_dino12)")
    add("--head", type=Path, help="linear classifier, weight and bias (default: the model's published one)")
    add("--train-head", action="store_true", help="fit a linear head on frozen features of the last 4 blocks")
    add("--animals", action="store_true", help="two classes: animal (ImageNet class 0 to 397) or other")
    add = p.add_argument_group("study").add_argument
    add("--fovea", type=int, nargs="+", default=list(FOVEAS), metavar="N",
        help="odd number of tokens; --sweep and --saliency use the first (default: 3 5)")
    add("--layer", type=int, help="0-based block whose attention guides the saccades (default: the last)")
    add("--border", choices=["clip", "shift"], default="clip", help="fovea at the border (default: clip)")
    add("--sweep", action="store_true", help="also maps of every block, and of smaller inputs")
    add("--saliency", action="store_true", help="also other saliency models, larger images, ResNet crops")
    add("--cache", type=Path, help="folder that keeps the decoded images for repeated runs")
    add = p.add_argument_group("with --saliency").add_argument
    add("--policy", nargs="+", choices=POLICIES, default=list(POLICIES),
        help="default: all (centre stands for the ResNet's crops)")
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="px of its images (18x24 tokens: 288 384)")
    add("--per-class", type=int, default=PER_CLASS, help="images of each class (%(default)s)")
    add("--saliency-dir", type=Path, help="folder with maps of another model, a further policy")
    add("--unisal-weights", type=Path, help="UNISAL's weights_best.pth (default: download; demo: not run)")
    add("--unisal-static", action="store_true", help="without UNISAL's GRU")
    add("--resnet-weights", type=Path, help="a ResNet-50 of the same classes (torchvision's IMAGENET1K_V2)")
    args = p.parse_args(argv)
    args.limit = DEMO_IMAGES if args.data == "demo" and args.limit is None else args.limit
    args.model = args.model or ("demo_dino12" if args.data == "demo" else "dino_vits16")
    if args.train_head and args.head:
        raise InputError("--train-head and --head exclude each other; leave one out.")
    if args.per_class < 1:
        raise InputError(f"--per-class {args.per_class}: expected at least 1 image.")
    return args


def set_up(args: argparse.Namespace, folder: Path, device: torch.device
           ) -> tuple[Study, list[str], list[str]]:
    """(study, class names, images that could not be read for the head): model, data and head."""
    if args.saliency_dir and not args.saliency_dir.is_dir():
        raise InputError(f"--saliency-dir {args.saliency_dir}: no such folder; give the one with the maps.")
    model, view = load_vit(args.model, args.weights)
    head = None if args.train_head else find_head(args.head, args.model, model)
    n_out = head.out_features if head else None
    items, fit, classes = find_data(args.data, n_out, args.animals, args.limit, args.seed, args.workers)
    if len(classes) < 2:
        raise InputError(f"{args.data} has one class ({classes[0]}); a classification needs two or more.")
    block, bad = len(model.blocks) - 1 if args.layer is None else args.layer, []
    stand_in = nn.Linear(HEAD_BLOCKS * model.embed_dim, len(classes))  # until the head is fitted
    study = Study(model, view, head or stand_in, items, args.fovea, block, args.border, args.seed, device,
                  getattr(torch, args.dtype), args.batch_size, args.workers, args.cache)
    if args.train_head:
        head, bad = train_head(study, fit, len(classes), folder / "linear_head.pth", args.resume)
        study.head = head.to(device)
    if study.head.out_features != len(classes):
        raise InputError(f"the head has {study.head.out_features} classes, the data {len(classes)} "
                         f"({', '.join(classes[:3])} ...); give the head of these, or use --train-head.")
    return study, classes, bad


def optional(load: Callable, part: str, given: Path | None, not_run: list[str]) -> nn.Module | None:
    """load(); None, with a line in not_run, where weights that the user did not name cannot be had."""
    try:
        return load()
    except InputError as e:
        if given:
            raise
        not_run.append(f"{part}: {e}".replace("--weights", f"--{part.split()[0].lower()}-weights"))
        return None


def saliency_parts(args: argparse.Namespace, study: Study, not_run: list[str]) -> tuple:
    """(size of the images, UNISAL, ResNet) of --saliency, None where weights cannot be had."""
    patch, demo, unisal, resnet = study.model.patch_size, args.data == "demo", None, None
    size = tuple(args.size or (n * patch for n in SALIENCY_GRID))
    if any(s % patch for s in size) or study.foveas[0] * patch > min(size):
        raise InputError(f"--size {size[0]} {size[1]}: both must be multiples of the patch size {patch}, "
                         f"at least the fovea's {study.foveas[0] * patch} px.")
    if "gbvs" in args.policy and min(size) < 64:
        raise InputError(f"--size {size[0]} {size[1]}: GBVS needs at least 64 px a side; enlarge the images.")
    if "unisal" in args.policy and demo and not args.unisal_weights:
        not_run.append("UNISAL: the demo has no weights for it; give --unisal-weights.")
    elif "unisal" in args.policy:
        unisal = optional(lambda: load_unisal(args.unisal_weights), "UNISAL", args.unisal_weights, not_run)
    if "centre" in args.policy:
        name = "demo_resnet" if demo and not args.resnet_weights else "resnet50"
        resnet = optional(lambda: load_resnet(name, args.resnet_weights)[0], "ResNet crops",
                          args.resnet_weights, not_run)
    n, n_resnet = study.head.out_features, resnet.fc.out_features if resnet else 0
    if resnet and n_resnet != n and not (args.animals and n_resnet == 1000):
        not_run.append(f"ResNet crops: it has {n_resnet} classes, the data {n}; give --resnet-weights.")
        resnet = None
    if not (unisal or args.saliency_dir or {"dino", "gbvs", "random"} & {*args.policy}):
        raise InputError(f"--policy {' '.join(args.policy)}: no model is left that makes saccades; add dino, "
                         "gbvs or random.")
    return size, unisal, resnet


def run_saliency(args: argparse.Namespace, study: Study, folder: Path, size: tuple[int, int],
                 unisal: nn.Module | None, resnet: nn.Module | None) -> None:
    """--saliency: the study on larger, squashed images, with the policies whose weights are there."""
    items = some_per_class(study.items, args.per_class, args.seed)
    study.use(items, Preprocess(None, size, study.view.mean, study.view.std, "bilinear", squash=True))
    unisal, resnet = (net and net.to(study.device) for net in (unisal, resnet))
    unisal = unisal and partial(unisal, static=args.unisal_static)
    maps_of = partial(study.policy_maps, policies=args.policy, unisal=unisal, folder=args.saliency_dir)
    run_part(folder, study, partial(study.saliency, maps_of=maps_of, resnet=resnet), args.resume)
    if rank_world()[0] == 0:
        names = next(iter(collect(folder).values()))["image"]
        some = names[[i * len(names) // EXAMPLES for i in range(EXAMPLES)]]
        save_map_examples(folder, study, some, maps_of)


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    rank, _ = init_distributed(device)
    if not (args.plot_only or args.data in ("demo", "imagenette") or Path(args.data).is_dir()):
        raise InputError(f"--data {args.data}: no such folder; expected one with a folder of images a class, "
                         "or with val/; correct the path.")  # before old rows go and weights are fetched
    folder = start_run(args, "exp04_saccades", f"{args.model}_seed{args.seed}")
    if args.plot_only:
        return redraw(folder, lambda results: draw_all(folder, results["parts"], results["args"]["seed"]))
    study, classes, unreadable = set_up(args, folder, device)
    parts, not_run = [k for k in ("sweep", "saliency") if getattr(args, k)], []
    extra = saliency_parts(args, study, not_run) if args.saliency else ()  # before hours of work
    bad = run_part(folder, study, study.main, args.resume)
    if len(study.items) - len(bad) < 2:
        raise InputError("one readable image: the statistics need at least two; give more, or raise --limit.")
    facts = dict(model=args.model, block=study.block, images=len(study.items), unreadable=unreadable + bad,
                 classes=len(classes), preprocessing=vars(study.view), choices=CHOICES, parts=parts,
                 files=[p for p, _ in study.items])
    if rank == 0:
        names = pick_examples(collect(folder)[f"attention fovea{args.fovea[0]}"])
        save_examples(folder, study, names, class_titles(classes))
    if args.sweep:
        run_part(folder / "sweep", study, study.sweep, args.resume)
    if args.saliency:
        run_saliency(args, study, folder / "saliency", *extra)
    if rank > 0:
        return  # the tables take one process, and its memory
    official = 77.0 if args.model == "dino_vits16" and len(classes) == 1000 and not (
        args.weights or args.head or args.train_head or args.data == "imagenette") else None
    headline, tests = analyse(folder, parts, args.fovea, official, args.seed)
    not_run += [text for part, text in NOT_RUN.items() if part not in parts]
    results = write_results(folder, "exp04_saccades", args.data, headline, args, time.time() - began, device,
                            tests, not_run, **facts)
    draw_all(folder, parts, args.seed)
    if facts["unreadable"]:
        print(f"{len(facts['unreadable'])} unreadable images left out; results.json lists them.")
    depth = len(study.model.blocks)
    print(f"block {study.block} (layer {study.block + 1} of {depth}); results in {folder}")
    print_paper_vs_ours(results)


if __name__ == "__main__":
    cli(main)
