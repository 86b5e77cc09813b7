"""exp06, models: how human is the attention of a Vision Transformer, beside other ViTs and beside plain maps?

On the data of exp06_gaze_objects.py, three maps of each model: its best head (chosen by NSS on every second
image; judged, as all else, on the others), the mean of the last block's heads, the attention rollout. Beside
them a Gaussian in the middle, where people looked on other images, GBVS, and where the other people looked on
the same image. NSS and AUC reward the centre bias; shuffled AUC and information gain ask what goes beyond it.
No paper has these numbers; ours are in docs/exp06.md. Each fixation counts once, however long it lasted.

Commands
    laptop, demo world    python exp06_models.py
    one GPU               python exp06_models.py --data OBJECTS --model dino_vits16 dino_vitb16
    OSIE (downloaded)     python exp06_models.py --data osie --model dinov2_vits14 --tuned tuned_B.pth
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import data
import exp06_gaze_objects as objects
import gaze
import results
from common import (InputError, auc_judd, centre_gaussian, gaussian_blur, information_gain, init_distributed,
                    nss, pick_device, rollout, shuffled_auc, upsample)
from gbvs import gbvs
from weights import Preprocess, load_tuned, must_exist

# -------------------------------------------------------------------------------- constants

# Shapes: B images of a batch, n images, P people, S maps of an image, each on data.MAP_SIZE, 224 x 224.
SIGMA = 7.  # px of 224, Gaussian on people's fixations: on OSIE a degree (24 of 800 px)
GAIN_EPS = 1e-6  # of the information gain: both maps with .05 of a uniform one, as 224x224 px are 5e4
DEMO_MODELS = ["demo_dino4", "demo_dino8", "demo_dino12", "demo_sl4", "demo_sl8", "demo_sl12"]
METRICS = {"nss": "NSS", "auc": "AUC", "sauc": "shuffled AUC", "gain": "information gain (bits a fixation)"}
KINDS = {"best head": "#1f77b4", "last block": "#ff7f0e", "rollout": "#2ca02c"}  # maps of a model
PLAIN = {"centre": "#bcbd22", "others": "#e377c2", "GBVS": "#9467bd", "people": "#000000"}

# -------------------------------------------------------------------------------- data

def load_data(place: str, limit: int | None, lost_at_zero: bool) -> tuple[list, list[str]]:
    """[(image file, Fixations of 1 s)], names of the images that cannot be read. InputError: fewer than 4."""
    everything = objects.load_data(place, lost_at_zero)
    gaze.check_units(everything[0][0].parents[1], gaze.looks_of(everything))
    unreadable = [path.name for path, _ in everything if not gaze.picture_size(path)]
    items = [(path, [(*look[:3], 1.) for look in looks]) for path, looks in everything
             if path.name not in unreadable][:limit]
    if len(items) < 4:
        raise InputError(f"{len(items)} images that can be read ({everything[0][0]} ...): expected four, "
                         "half of them to choose a head; correct the names or --limit.")
    return items, unreadable


def as_inputs(inputs: dict[str, Preprocess], picture: Image.Image) -> dict[str, Tensor]:
    return {name: preprocess(picture) for name, preprocess in inputs.items()}


# -------------------------------------------------------------------------------- model

def load_models(names: Sequence[str], tuned: Sequence[Path], size: Sequence[int]
                ) -> tuple[dict[str, nn.Module], dict[str, Preprocess]]:
    """{name: ViT} and {name: its input of `size`} of NAME or NAME=FILE; then of files that exp01 tuned from
    the first of them, NAME+FILE; and the "plain" input, RGB in [0, 1]. InputError: a name twice."""
    split = [name.partition("=") for name in names]
    must_exist(*tuned, *[Path(file) for _, _, file in split if file])
    labels = [Path(file).stem if name == "auto" else name for name, _, file in split]
    labels += [f"{labels[0]}+{file.stem}" for file in tuned]
    if len({*labels, "plain", "readable"}) < 2 + len(labels):  # two names of arrays
        raise InputError(f"--model, --tuned: {', '.join(labels)}: expected names that differ; rename a file.")
    found = [objects.load_model(name, Path(file) if file else None, size) for name, _, file in split]
    models = [vit for vit, *_ in found] + [load_tuned(found[0][0], file) for file in tuned]
    inputs = [preprocess for _, preprocess, *_ in found] + [found[0][1] for _ in tuned]
    plain = Preprocess(None, tuple(size), (0.,) * 3, (1.,) * 3, "bilinear", squash=True)
    return dict(zip(labels, models)), dict(zip(labels, inputs)) | {"plain": plain}


# -------------------------------------------------------------------------------- measure

def judge(maps: Tensor, fix: Tensor, others: Tensor) -> Tensor:
    """METRICS of maps (S, img_h, img_w) of an image, (4, S). fix: counts of the fixations on it, for all maps
    (1, img_h, img_w) or for each; others: of those on all other images (1, img_h, img_w)."""
    found, centre = [], centre_gaussian(others)
    for p, f in zip(maps.split(4), fix.expand_as(maps).split(4)):  # four maps fit a CPU's cache
        found.append(torch.stack([nss(p, f), auc_judd(p, f), shuffled_auc(p, f, others.expand_as(p)),
                                  information_gain(p, centre.expand_as(p), f, GAIN_EPS)]))
    return torch.cat(found, 1)


def maps_of(vit: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The heads of all blocks, the mean of the last block's, the rollout: (B, S = L H + 2, 224, 224)."""
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        attn = vit.encode(vit.embed(x), full_attn=True, cls_only=True).attn
    heads = torch.stack([a[:, :, 0, vit.n_prefix:] for a in attn], 1)  # (B, L, H, N)
    maps = [heads.flatten(1, 2), heads[:, -1].mean(1, keepdim=True), rollout(attn, vit.n_prefix)[:, None]]
    grid = [n // vit.patch_size for n in x.shape[-2:]]
    return upsample(torch.cat(maps, 1).unflatten(2, grid), data.MAP_SIZE)


def measure(batch: dict, models: dict[str, nn.Module], everyone: Tensor, device: torch.device,
            dtype: torch.dtype) -> dict:
    """METRICS (B, 4, S) of each model's maps, and (B, 4, 4) of the "plain" ones, PLAIN. People: the mean
    over each one's fixations by the map of the others; NaN where fewer than two looked."""
    images = {name: x.to(device) for name, x in batch["image"].items()}
    maps = {name: maps_of(vit, images[name], dtype) for name, vit in models.items()}
    maps["plain"] = upsample(gbvs(images["plain"]), data.MAP_SIZE)[:, None]
    found = {name: [] for name in maps}
    for i, looks in enumerate(batch["fix"].to(device)):  # (P, 224, 224)
        fix = looks.sum(0, keepdim=True)
        others = everyone - fix  # everybody's fixations on all other images
        scores = {name: judge(some[i], fix, others) for name, some in maps.items()}
        priors = judge(torch.cat([centre_gaussian(others), gaussian_blur(others, SIGMA)]), fix, others)
        people = judge(gaussian_blur(fix - looks, SIGMA), looks, others)[:, looks.flatten(1).any(1).cpu()]
        people = people.mean(1) if people.shape[1] > 1 else torch.full((4,), torch.nan)
        scores["plain"] = torch.cat([priors, scores["plain"], people[:, None]], 1)
        for name, values in scores.items():
            found[name].append(values)
    return {"readable": batch["readable"]} | {name: torch.stack(values) for name, values in found.items()}


# -------------------------------------------------------------------------------- statistics

def by_source(arrays: dict[str, np.ndarray], heads: dict[str, int]) -> tuple[dict, list[str]]:
    """{source: METRICS of the judged images, (n, 4)}, which head is the best; heads: {model: of a block}."""
    sources, best = {}, []
    for name, n in heads.items():
        scores = arrays[name]
        head = scores[::2, 0, :-2].mean(0).argmax()  # by NSS, on the images that are not judged
        best.append(f"best head of {name}: block {head // n}, head {head % n}")
        for kind, i in zip(KINDS, (head, -2, -1)):
            sources[f"{name}, {kind}"] = scores[1::2, :, i]
    for i, name in enumerate(PLAIN):
        sources[name] = arrays["plain"][1::2, :, i]
    return sources, best


def claims(sources: dict) -> list[results.Claim]:
    """A row for each metric of each source, over the images that have it."""
    def mean(values: dict, name: str, m: int) -> dict | None:
        known = values[name][~np.isnan(values[name][:, m]), m]
        return results.estimate(known) if len(known) else None

    return [results.Claim(f"{name}: {label}", None, "", partial(mean, name=name, m=m))
            for m, label in enumerate(METRICS.values()) for name in sources]


# -------------------------------------------------------------------------------- figures

def draw(arrays: dict[str, np.ndarray], facts: dict, folder: Path) -> None:
    """fig_models: every metric of every source, mean and 95 % interval; dotted: the centre Gaussian."""
    names, found = facts["sources"], {row["name"]: row for row in facts["headline"]}
    fig, axes = results.figure_grid(1, len(METRICS), 2.9, 1 + .2 * len(names), sharey=True)
    for ax, label in zip(axes[0], METRICS.values()):
        for y, name in enumerate(names):
            row, colour = found.get(f"{name}: {label}"), (KINDS | PLAIN)[name.split(", ")[-1]]
            if row:
                ax.plot(row["ci"], [y, y], color=colour)
                ax.plot(row["ours"], y, "o", color=colour)
        ax.axvline(found[f"centre: {label}"]["ours"], color=PLAIN["centre"], linestyle=":")
        ax.set(xlabel=label, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - .5, -.5))
    results.save_figure(fig, folder / "fig_models")


# -------------------------------------------------------------------------------- main

def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = results.argument_parser(__file__, __doc__, batch_size=2)
    add = parser.add_argument_group("study").add_argument
    add("--model", nargs="+", metavar="NAME[=FILE]",
        help="in weights.py, or auto=FILE (default: dino_vitb16; demo: all of the demo's)")
    add("--tuned", type=Path, nargs="+", default=[], metavar="FILE", help="of exp01; of the first model")
    add("--size", type=results.at_least(64), nargs=2, metavar=("H", "W"),
        help="px of the input (default: 480 480; demo: 224 224)")
    add("--lost-at-zero", action="store_true", help="fixations at exactly (0, 0) are missing")
    args = results.parse_args(parser, argv, paper=dict(model=["dino_vitb16"], size=objects.SIZE),
                              demo=dict(model=DEMO_MODELS, size=objects.DEMO_SIZE))
    if args.weights:
        raise InputError("--weights: write --model NAME=FILE here; a file that exp01 tuned: --tuned FILE.")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    init_distributed(device)
    if results.only_draw(args):
        return results.redraw(args.out, draw)

    # Pictures with everybody's fixations; models
    items, unreadable = load_data(args.data, args.limit, args.lost_at_zero)
    paths = [path for path, _ in items]
    people = sorted({person for _, looks in items for person, *_ in looks})
    models, inputs = load_models(args.model, args.tuned, args.size)
    folder = results.begin(args, [*paths, *sorted(paths[0].parents[1].glob("fixations.*"))], **models)

    # Every map of every image
    everyone = sum(objects.fixation_maps(looks, people, gaze.picture_size(path), data.MAP_SIZE)[0].sum(0)
                   for path, looks in items).to(device)
    images = objects.Objects(items, people, data.MAP_SIZE, partial(as_inputs, inputs), (255, 255, 255))
    how = partial(measure, models={name: vit.to(device) for name, vit in models.items()}, everyone=everyone,
                  device=device, dtype=getattr(torch, args.dtype))
    arrays = results.in_batches(folder / "images", images, args.batch_size, how, args.workers)
    seen = arrays.pop("readable") & np.isfinite(arrays["plain"][:, 0, 0])
    arrays = {name: scores[seen] for name, scores in arrays.items()}  # (n, 4, S)

    # A head of each model is chosen on half of the images, and everything judged on the other half
    sources, best = by_source(arrays, {name: vit.num_heads for name, vit in models.items()})
    names = np.array([path.name for path in paths])
    rows = [{"image": image, "condition": source} | dict(zip(METRICS, values))
            for source, scores in sources.items() for image, values in zip(names[seen][1::2], scores)]
    results.finish(args, "exp06_models", arrays, rows, results.evaluate(claims(sources), sources), draw,
                   began, device, model=", ".join(models), sources=list(sources),
                   notes=best + gaze.zero_note(gaze.at_zero(items)), on_screen=".*: shuffled AUC",
                   left_out={"damaged or no fixation on it": [*unreadable, *names[~seen]]})


if __name__ == "__main__":
    results.cli(main)
