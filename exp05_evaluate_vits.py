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

from common import IMAGENET, fit_linear
from data import Images, image_name, readable_only
from results import Claim, estimate, figure_grid, in_batches, save_checkpoint, save_figure

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
    found = dict(label=batch["label"], readable=batch["readable"], features=features)
    if "mask" in batch:
        found["lift"] = attention_lift(attention.cpu(), batch["mask"])
    return found


def knn(bank: Tensor, bank_labels: Tensor, x: Tensor, n_classes: int) -> Tensor:
    """Classes (n,) by weighted k-NN (DINO's eval_knn.py): the 20 of largest cosine s vote with exp(s / .07).
    bank (m, D) with labels (m,), x (n, D)."""
    bank, out = F.normalize(bank, dim=1), []
    for part in F.normalize(x, dim=1).split(256):
        s, i = (part @ bank.T).topk(min(KNN_K, len(bank)), 1)  # (b, k)
        votes = torch.zeros(len(part), n_classes, device=x.device)
        out.append(votes.scatter_add_(1, bank_labels[i], (s / KNN_TEMP).exp()).argmax(1))
    return torch.cat(out)


def features(model: nn.Module, device: torch.device, recipe: argparse.Namespace, samples: list, folder: Path,
             **how) -> tuple[dict, list[str], list[str]]:
    """What `measure` gives of the readable samples, their names, the names of the others."""
    data = load_data(samples, recipe.eval_resize, **how)
    arrays = in_batches(folder, data, BATCH, partial(measure, model, mean_sd(device)), recipe.workers)
    return readable_only(arrays, [image_name(path) for path, _ in samples])


def fit_head(x: Tensor, y: Tensor, n_classes: int, file: Path) -> dict:
    """A linear head for features x (m, 4 D) of the classes y (m,), also written to `file`."""
    weight, bias = fit_linear(x, y, n_classes)
    head = {"weight": weight.cpu(), "bias": bias.cpu()}
    save_checkpoint(head, file)
    return head


def score(model: nn.Module, train_set: list, val_set: list, n_classes: int, recipe: argparse.Namespace,
          device: torch.device, folder: Path, head: dict) -> tuple[dict, list[str], list[str]]:
    """Of the readable validation images 0 or 1 (n,): knn, top1 (own head), linear; in the demo lift (n,);
    their names; the names of unreadable ones. A sample is (path, class). A linear head is fitted to the
    training images, plain and flipped, where none is given and the recipe wants one."""
    seen = partial(features, model, device, recipe)
    on_demo = recipe.data == "demo" and recipe.arch == "vit"
    val, names, bad = seen(val_set, folder / "val", masks=on_demo)
    bank, _, bad_bank = seen(train_set, folder / "train")
    x, z = (torch.from_numpy(part["features"]).to(device) for part in (val, bank))  # (n, 4 D), (m, 4 D)
    y, bank_y = (torch.from_numpy(part["label"]).to(device) for part in (val, bank))
    if recipe.train_head and not head:
        flipped, _, _ = seen(train_set, folder / "train_flipped", flip=True)
        both = torch.cat([z, torch.from_numpy(flipped["features"]).to(device)])  # (2 m, 4 D)
        head = fit_head(both, bank_y.repeat(2), n_classes, folder / "linear_head.pth")
    d = getattr(model, "embed_dim", x.shape[1])  # the last block's CLS token stands last
    right = {"knn": knn(z[:, -d:], bank_y, x[:, -d:], n_classes) == y}
    if recipe.method == "supervised":
        own = model.fc if recipe.arch == "resnet" else model.head
        right["top1"] = own(x[:, -d:]).argmax(1) == y
    if head:
        right["linear"] = F.linear(x, head["weight"].to(x), head["bias"].to(x)).argmax(1) == y
    found = {key: v.cpu().double().numpy() for key, v in right.items()}  # MPS has no float64
    if on_demo:
        found["lift"] = val["lift"].mean(1, dtype=np.float64)  # over the heads
    return found, names, sorted(bad + bad_bank)


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
