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
DEMO_MODELS = ["demo_dino4", "demo_dino8", "demo_dino12", "demo_sl4", "demo_sl8", "demo_sl12"]
METRICS = {"nss": "NSS", "auc": "AUC", "sauc": "shuffled AUC", "gain": "information gain (bits a fixation)"}
KINDS = {"best head": "#1f77b4", "last block": "#ff7f0e", "rollout": "#2ca02c"}  # maps of a model
PLAIN = {"GBVS": results.PALETTE["gbvs"], "centre": results.PALETTE["centre"],
         "others": results.PALETTE["others"], "people": results.PALETTE["human"]}

# -------------------------------------------------------------------------------- data

def load_data(place: str, limit: int | None, lost_at_zero: bool) -> tuple[list, list[str]]:
    """[(image file, Fixations of 1 s)] of images with a fixation on them, names of the others. InputError:
    fewer than four."""
    everything = objects.load_data(place, lost_at_zero)
    gaze.check_units(everything[0][0].parents[1], gaze.looks_of(everything))
    items, left_out = [], []
    for path, looks in everything:
        img_h, img_w = gaze.picture_size(path) or (0, 0)
        inside = [(who, row, col, 1.) for who, row, col, _ in looks if 0 <= row < img_h and 0 <= col < img_w]
        if inside:
            items.append((path, inside))
        else:
            left_out.append(path.name)
    if len(items[:limit]) < 4:
        raise InputError(f"{len(items)} of {len(everything)} images can be read and have fixations, --limit "
                         f"{limit}: four are needed, half to choose a head; correct their names or --limit.")
    return items[:limit], left_out


def as_inputs(inputs: dict[str, Preprocess], picture: Image.Image) -> dict[str, Tensor]:
    return {name: preprocess(picture) for name, preprocess in inputs.items()}


def looks_at(i: int, items: list, people: Sequence[str]) -> dict[str, Tensor]:
    """For item i of `Images`: how often each of the people looked at each pixel, (P, 224, 224)."""
    path, looks = items[i]
    return {"fix": objects.fixation_maps(looks, people, gaze.picture_size(path), data.MAP_SIZE)[0]}


def pictures(items: list, people: Sequence[str], inputs: dict[str, Preprocess]) -> data.Images:
    """The pictures as people saw them, one for every model's input, and where people looked."""
    return data.Images([path for path, _ in items], partial(as_inputs, inputs),
                       partial(looks_at, items=items, people=people), as_displayed=True)


# -------------------------------------------------------------------------------- model

def load_models(names: Sequence[str], tuned: Sequence[Path], size: Sequence[int]) -> tuple[dict, dict]:
    """{name: ViT} and {name: preprocessing that squashes any image to `size`} of NAME or NAME=FILE, then of
    files that exp01 tuned from the first of them, NAME+FILE; GBVS's, too. InputError: a name twice."""
    split = [name.partition("=") for name in names]
    must_exist(*tuned, *[Path(file) for _, _, file in split if file])
    labels = [Path(file).stem if name == "auto" else name for name, _, file in split]
    labels += [f"{labels[0]}+{file.stem}" for file in tuned]
    if len({"GBVS", *labels}) < 1 + len(labels):
        raise InputError(f"--model, --tuned: {', '.join(labels)}: expected names that differ; rename a file.")
    found = [objects.load_model(name, Path(file) if file else None, size)[:2] for name, _, file in split]
    found += [(load_tuned(found[0][0], file), found[0][1]) for file in tuned]
    models, inputs = (dict(zip(labels, part)) for part in zip(*found))
    inputs["GBVS"] = Preprocess(None, tuple(size), (0.,) * 3, (1.,) * 3, "bilinear", squash=True)  # 0 to 1
    return models, inputs


# -------------------------------------------------------------------------------- measure

def maps_of(vit: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The heads of all blocks, the mean of the last block's, the rollout: (B, L H + 2, h, w)."""
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        attn = vit.encode(vit.embed(x), full_attn=True, cls_only=True).attn
    heads = torch.stack([a[:, :, 0, vit.n_prefix:] for a in attn], 1)  # (B, L, H, N)
    maps = [heads.flatten(1, 2), heads[:, -1].mean(1, keepdim=True), rollout(attn, vit.n_prefix)[:, None]]
    return torch.cat(maps, 1).unflatten(2, [n // vit.patch_size for n in x.shape[-2:]])


def choose(batch: dict, models: dict[str, nn.Module], device: torch.device, dtype: torch.dtype) -> dict:
    """NSS of every head of every model, {name: (B, L H)}."""
    found = {"readable": batch["readable"]}
    for name, vit in models.items():
        heads = upsample(maps_of(vit, batch["image"][name].to(device), dtype)[:, :-2], data.MAP_SIZE)
        fix = batch["fix"].to(device).sum(1, keepdim=True).expand_as(heads)
        found[name] = torch.stack([nss(*pair) for pair in zip(heads, fix)])
    return found


def judge(maps: Tensor, fix: Tensor, others: Tensor) -> Tensor:
    """METRICS of maps (S, img_h, img_w) of an image, (4, S). fix: counts of the fixations on it, for all maps
    (1, img_h, img_w) or for each; others: of those on all other images (1, img_h, img_w)."""
    fix, centre, others = (m.expand_as(maps) for m in (fix, centre_gaussian(others), others))
    return torch.stack([nss(maps, fix), auc_judd(maps, fix), shuffled_auc(maps, fix, others),
                        information_gain(maps, centre, fix)])


def measure(batch: dict, models: dict[str, nn.Module], best: dict[str, int], everyone: Tensor,
            device: torch.device, dtype: torch.dtype) -> dict:
    """METRICS of all sources, (B, 4, S): KINDS of each model, then PLAIN. People: the mean over each one's
    fixations by the map of the others'; NaN where fewer than two looked. everyone: counts of all images."""
    images, scores = {name: x.to(device) for name, x in batch["image"].items()}, []
    maps = [maps_of(vit, images[name], dtype)[:, [best[name], -2, -1]] for name, vit in models.items()]
    maps = [upsample(some, data.MAP_SIZE) for some in [*maps, gbvs(images["GBVS"])[:, None]]]
    for looks, seen in zip(batch["fix"].to(device), torch.cat(maps, 1)):  # (P, 224, 224), (S - 3, 224, 224)
        fix = looks.sum(0, keepdim=True)
        others = everyone - fix
        unseen = [centre_gaussian(others), gaussian_blur(others, SIGMA)]
        people = judge(gaussian_blur(fix - looks, SIGMA), looks, others)[:, looks.flatten(1).any(1).cpu()]
        people = people.mean(1) if people.shape[1] > 1 else torch.full((4,), torch.nan)
        scores.append(torch.cat([judge(torch.cat([seen, *unseen]), fix, others), people[:, None]], 1))
    return {"scores": torch.stack(scores), "readable": batch["readable"]}


# -------------------------------------------------------------------------------- statistics

def claims(sources: Sequence[str]) -> list[results.Claim]:
    """A row for each metric of each source: its mean over the images that have it, of scores (n, 4, S)."""
    def mean(scores: np.ndarray, m: int, s: int) -> dict | None:
        known = scores[~np.isnan(scores[:, m, s]), m, s]
        return results.estimate(known) if len(known) else None

    return [results.Claim(f"{source}: {label}", None, "", partial(mean, m=m, s=s))
            for m, label in enumerate(METRICS.values()) for s, source in enumerate(sources)]


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
    items, left_out = load_data(args.data, args.limit, args.lost_at_zero)
    paths = [path for path, _ in items]
    people = sorted({who for _, looks in items for who, *_ in looks})
    everyone = sum(looks_at(i, items, people)["fix"].sum(0) for i in range(len(items)))
    models, inputs = load_models(args.model, args.tuned, args.size)
    folder = results.begin(args, [*paths, *sorted(paths[0].parents[1].glob("fixations.*"))],
                           **{f"model {name}": vit for name, vit in models.items()})

    # The head of each model with the highest NSS on every second image; then all maps on the others
    how = dict(models={name: vit.to(device) for name, vit in models.items()}, device=device,
               dtype=getattr(torch, args.dtype))
    heads = results.in_batches(folder / "choosing", pictures(items[::2], people, inputs), args.batch_size,
                               partial(choose, **how), args.workers)
    heads, _, bad = data.readable_only(heads, [path.name for path in paths[::2]])
    best = {name: int(scores.mean(0).argmax()) for name, scores in heads.items()}
    how |= dict(best=best, everyone=everyone.to(device))
    arrays = results.in_batches(folder / "judging", pictures(items[1::2], people, inputs), args.batch_size,
                                partial(measure, **how), args.workers)
    arrays, judged, more = data.readable_only(arrays, [path.name for path in paths[1::2]])  # scores (n, 4, S)

    sources = [f"{name}, {kind}" for name in models for kind in KINDS] + [*PLAIN]
    rows = [{"image": image, "condition": source} | dict(zip(METRICS, scores[:, s]))
            for image, scores in zip(judged, arrays["scores"]) for s, source in enumerate(sources)]
    notes = [f"best head of {name}: block {i // models[name].num_heads}, head {i % models[name].num_heads}"
             for name, i in best.items()]
    arrays |= {f"NSS of heads, {name}": scores for name, scores in heads.items()}
    results.finish(args, "exp06_models", arrays, rows, results.evaluate(claims(sources), arrays["scores"]),
                   draw, began, device, model=", ".join(models), sources=sources,
                   notes=notes + gaze.zero_note(gaze.at_zero(items)),
                   left_out={"unreadable, or no fixation on it": left_out + bad + more},
                   on_screen=".*: shuffled AUC")


if __name__ == "__main__":
    results.cli(main)
