"""exp05, scores of the trained Vision Transformers: do they know the class, and where do their heads look?

exp05_train_vits.py calls `score` at its end and with --eval, by the protocols of facebookresearch/dino:
eval_knn.py (weighted 20-NN on CLS tokens) and eval_linear.py (a linear head on those of the last 4 blocks);
of supervised networks also their own head. On the demo, whose objects are known: how much of the last block's
CLS attention lands on the main object. Scored are validation images; the neighbours, and what a linear head
is fitted to, are training images.
"""
from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.resnet import ResNet
from torchvision.transforms import v2 as T

from common import InputError, fit_linear, gather_rows, rank_world, shard
from data import Images, image_name, readable_only
from results import (Claim, batch_files, estimate, figure_grid, in_batches, read_arrays, save_checkpoint,
                     save_figure)
from weights import IMAGENET

# -------------------------------------------------------------------------------- constants

# Shapes: B images of a batch, n validation and m training images, D width, H heads, h, w patches.

KNN_K, KNN_TEMP = 20, .07  # DINO's eval_knn.py
LAST_BLOCKS = 4  # a linear head reads their CLS tokens (DINO's eval_linear.py, ViT-S)
BATCH = 128  # images
EXAMPLES = 6  # rows of fig_attention


# -------------------------------------------------------------------------------- data

def truth(samples: list, masks: bool, i: int) -> dict:
    """label of sample i; with masks, mask (224, 224): 1 on the main object of a demo picture, which is drawn
    again from the seed and the number in its name."""
    path, label = samples[i]
    if not masks:
        return dict(label=label)
    import demo  # only here: real data need no demo world
    seed = json.loads((path.parents[1] / demo.DONE).read_text())["seed"]
    scene = demo.render_scene(seed, int(path.stem.split("_")[-1]))
    return dict(label=label, mask=torch.from_numpy(scene.ids == 1).float())


def load_data(samples: list, resize: int, flip: bool = False, masks: bool = False) -> Images:
    """The samples (path, class) as uint8: short side to `resize` px, centre 224 (DINO's eval_linear.py)."""
    view = T.Compose([T.Resize(resize, T.InterpolationMode.BICUBIC), T.CenterCrop(224),
                      T.RandomHorizontalFlip(float(flip)), T.PILToTensor()])
    return Images([path for path, _ in samples], view, partial(truth, samples, masks))


def mean_sd(device: torch.device) -> Tensor:
    """ImageNet's mean and SD of each colour, (2, 3, 1, 1), made once: torchvision's normalize copies them to
    the GPU, and waits for it, at every call."""
    return torch.tensor(IMAGENET, device=device)[..., None, None]


def normalise(images: Tensor, mean_sd: Tensor) -> Tensor:
    """(B, 3, img_h, img_w) uint8 -> float32, ImageNet mean 0 and SD 1."""
    return (images.float() / 255 - mean_sd[0]) / mean_sd[1]


# -------------------------------------------------------------------------------- measure

def look(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Of images x (B, 3, img_h, img_w): CLS of the last 4 blocks, each after `norm`, oldest first (B, 4 D),
    and the CLS token's attention in the last block (B, H, h, w). Of a ResNet: pooled features (B, 2048)."""
    if isinstance(model, ResNet):
        return nn.Sequential(*list(model.children())[:-1])(x).flatten(1), None
    seen = model.encode(model.embed(x), cls_attn=[len(model.blocks) - 1])
    attention = seen.cls_attn[0][:, :, model.n_prefix:]  # (B, H, h w)
    attention = attention.unflatten(2, (x.shape[-2] // model.patch_size, -1))  # (B, H, h, w)
    return model.norm(seen.cls[:, -LAST_BLOCKS:]).flatten(1), attention


def attention_lift(attention: Tensor, masks: Tensor) -> Tensor:
    """Share of each head's attention that lands on the main object minus the object's area share, (B, H).
    attention (B, H, h, w) of the CLS token; masks (B, img_h, img_w), 0 or 1."""
    share = F.avg_pool2d(masks[:, None], masks.shape[-1] // attention.shape[-1]).flatten(2)  # (B, 1, h w)
    attention = attention.flatten(2)  # (B, H, h w)
    return (attention * share).sum(-1) / attention.sum(-1) - share.mean(-1)


def measure(model: nn.Module, mean_sd: Tensor, batch: dict) -> dict:
    """features (B, 4 D) and, where masks are known, lift (B, H)."""
    features, attention = look(model, normalise(batch["image"].to(mean_sd.device), mean_sd))
    found = {key: batch[key] for key in ("index", "label", "readable")} | {"features": features}
    if "mask" in batch:
        found["lift"] = attention_lift(attention.cpu(), batch["mask"])
    return found


def nearest(cosines: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """The KNN_K largest cosines (n, m) of each image, and their neighbours' classes: (n, 20) each."""
    cosines, i = cosines.topk(min(KNN_K, cosines.shape[1]), 1)
    return cosines, classes.gather(1, i)


def vote(cosines: Tensor, classes: Tensor, n_classes: int) -> Tensor:
    """Class (n,) by weighted k-NN (DINO's eval_knn.py): neighbours, (n, 20), vote with exp(cosine / .07)."""
    votes = torch.zeros(len(cosines), n_classes, device=cosines.device)
    return votes.scatter_add_(1, classes, (cosines / KNN_TEMP).exp()).argmax(1)


def neighbours(files: list[Path], x: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """`nearest` of features x (n, D), the last block's, among the training images in the files of
    `batch_files`; the numbers of unreadable ones. A process goes through its share of the files, one of them
    in memory (ImageNet's are 7.9 GB together), then the processes compare what they found."""
    x, bad = F.normalize(x, dim=1), []
    cosines, classes = x.new_zeros(len(x), 0), torch.zeros(len(x), 0, dtype=torch.long, device=x.device)
    for file in shard(files):
        part = {name: torch.from_numpy(values).to(x.device) for name, values in read_arrays(file).items()}
        good = part["readable"]
        bad += part["index"][~good].tolist()
        bank = F.normalize(part["features"][good, -x.shape[1]:], dim=1)  # (b, D)
        labels = part["label"][good].expand(len(x), -1)  # (n, b)
        cosines, classes = nearest(torch.cat([cosines, x @ bank.T], 1), torch.cat([classes, labels], 1))
    found = gather_rows([(cosines.cpu(), classes.cpu(), bad)])  # a row a process
    cosines, classes = nearest(*(torch.cat([row[i] for row in found], 1).to(x.device) for i in (0, 1)))
    if not cosines.shape[1]:
        raise InputError("none of the training images can be read; check the files.")
    return cosines, classes, sorted(i for row in found for i in row[2])


def fit_head(files: list[Path], n_classes: int, device: torch.device, file: Path) -> dict:
    """A linear head for the features in the files of `batch_files`; the first process fits and writes it."""
    head = {}
    if rank_world()[0] == 0:
        parts = [read_arrays(part) for part in files]
        x, y = (np.concatenate([part[name][part["readable"]] for part in parts])
                for name in ("features", "label"))  # (2 m, 4 D), (2 m,)
        weight, bias = fit_linear(torch.from_numpy(x).to(device), torch.from_numpy(y).to(device), n_classes)
        head = {"weight": weight.cpu(), "bias": bias.cpu()}
        save_checkpoint(head, file)
    return gather_rows([head])[0]


def score(model: nn.Module, train_set: list, val_set: list, n_classes: int, recipe: argparse.Namespace,
          device: torch.device, folder: Path, head: dict) -> tuple[dict, list[str], list[str]]:
    """Of the readable validation images 0 or 1 (n,): knn, top1 (own head), linear; in the demo lift (n,);
    their names; the names of unreadable ones. A sample is (path, class). A linear head is fitted to the
    training images, plain and flipped, where none is given and the recipe wants one."""
    r, look_at = recipe, partial(measure, model, mean_sd(device))
    masks = r.data == "demo" and r.arch == "vit"
    pictures = load_data(val_set, r.eval_resize, masks=masks)
    val, names, bad = readable_only(in_batches(folder / "val", pictures, BATCH, look_at, r.workers),
                                    [image_name(path) for path, _ in val_set])
    x, y = (torch.from_numpy(val[key]).to(device) for key in ("features", "label"))  # (n, 4 D), (n,)
    d = getattr(model, "embed_dim", x.shape[1])  # the last block's CLS token stands last
    bank = batch_files(folder / "train", load_data(train_set, r.eval_resize), BATCH, look_at, r.workers)
    cosines, classes, gone = neighbours(bank, x[:, -d:])
    right = {"knn": vote(cosines, classes, n_classes) == y}
    if r.method == "supervised":
        own = model.fc if r.arch == "resnet" else model.head
        right["top1"] = own(x[:, -d:]).argmax(1) == y
    if r.train_head and not head:
        flipped = load_data(train_set, r.eval_resize, flip=True)
        bank += batch_files(folder / "train_flipped", flipped, BATCH, look_at, r.workers)
        head = fit_head(bank, n_classes, device, folder / "linear_head.pth")
    if head:
        right["linear"] = F.linear(x, head["weight"].to(x), head["bias"].to(x)).argmax(1) == y
    found = {key: v.cpu().double().numpy() for key, v in right.items()}  # MPS has no float64
    if masks:
        found["lift"] = val["lift"].mean(1, dtype=np.float64)  # over the heads
    return found, names, sorted(bad + [image_name(train_set[i][0]) for i in gone])


@torch.no_grad()
def examples(model: nn.Module, val_set: list, names: list[str], recipe: argparse.Namespace,
             device: torch.device) -> dict:
    """For fig_attention: some readable images (n, 224, 224, 3) and their attention, maps (n, H, h, w)."""
    known = set(names)
    readable = [sample for sample in val_set if image_name(sample[0]) in known]
    some = [readable[i * len(readable) // EXAMPLES] for i in range(EXAMPLES)]
    data = load_data(some, recipe.eval_resize)
    images = torch.stack([data[i]["image"] for i in range(len(data))])  # (n, 3, 224, 224)
    _, attention = look(model, normalise(images.to(device), mean_sd(device)))
    return {} if attention is None else dict(images=images.permute(0, 2, 3, 1), maps=attention)


# -------------------------------------------------------------------------------- statistics

def percent(key: str, arrays: dict) -> dict | None:
    """Mean over images in percent with its bootstrap 95 % interval."""
    return estimate(100 * arrays[key]) if key in arrays else None


CLAIMS = (Claim("k-NN top-1", None, "%", partial(percent, "knn")),  # the paper states none of them
          Claim("own head top-1", None, "%", partial(percent, "top1")),
          Claim("linear head top-1", None, "%", partial(percent, "linear")),
          Claim("attention lift", None, "points", partial(percent, "lift")))


# -------------------------------------------------------------------------------- figures

def draw(arrays: dict, results: dict, folder: Path) -> None:
    """fig_attention: images and CLS attention of the last block, mean and every head; its root is shown,
    because single peaks would hide the rest."""
    if "maps" not in arrays:
        return  # a ResNet
    maps = np.concatenate([arrays["maps"].mean(1, keepdims=True), arrays["maps"]], 1)  # (n, 1 + H, h, w)
    fig, axes = figure_grid(len(maps), 1 + maps.shape[1], 1.3, 1.35)
    titles = ["held-out image", "mean of heads", *(f"head {i}" for i in range(maps.shape[1] - 1))]
    for ax, title in zip(axes[0], titles):
        ax.set_title(title, fontsize=8)
    for row, image, attention in zip(axes, arrays["images"], maps):
        row[0].imshow(image)
        for ax, a in zip(row[1:], attention):
            ax.imshow(np.sqrt(a), cmap="inferno", vmin=0, interpolation="bilinear")
    for ax in axes.flat:
        ax.set_axis_off()
    save_figure(fig, folder / "fig_attention")
