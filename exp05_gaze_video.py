"""exp05: where every attention head of a Vision Transformer looks in a video, against where people look.

Yamamoto, Akahoshi & Kitazawa (2025), "Emergence of human-like attention and distinct head clusters in
self-supervised Vision Transformers: a comparative eye-tracking study", Neural Networks 189, 107595,
doi 10.1016/j.neunet.2025.107595. Every head gets a gaze position in every frame, the peak of its smoothed
attention. Heads are placed among the viewers (multidimensional scaling) and compared by their distance from
the median viewer. The paper's claims, row by row: exp05_claims.py. At the end exp05_clusters.py starts, which
groups the late heads.

Commands
    laptop, demo world    python exp05_gaze_video.py
    a quick look          python exp05_gaze_video.py --limit 8
    one GPU               python exp05_gaze_video.py --data N2010
    own models            python exp05_gaze_video.py --data N2010 --models dino12=RUN1/model.pth
                          dino12=RUN2/model.pth sl12=RUN3/model.pth (made by exp05_train_vits.py)
    eight GPUs            torchrun --nproc_per_node 8 exp05_gaze_video.py --data CW2019 --dtype bfloat16
    two data sets         the same with --compare FOLDER_OF_THE_OTHER_RUN
    after a kill; redraw  the same command with --resume; with --plot-only

Paper (N2010, px from the median viewer, medians of the five best heads of six models): DINO with 4, 8 and 12
layers 94.2, 74.8, 62.6; supervised 166.5, 155.7, 147.6. The demo (320x240 px, one model each): 28.7, 23.2,
22.2; 50.2, 28.2, 29.5. Departures: of equal maxima the first in reading order (authors: any); GBVS is
this project's own. The data's layouts: exp05_data.py; more in docs/exp05.md.
"""
from __future__ import annotations

import argparse
import math
import re
import runpy
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import exp05_claims as paper
import exp05_data as videos
import exp05_frames as frames
import exp05_looks as looking
import exp05_scaling as scaling
import results
from common import InputError, barrier, cls_attention, init_distributed, pick_device, resize_matrix
from gbvs import gbvs_sets
from results import (PALETTE, argument_parser, at_least, begin, cli, evaluate, figure_grid, finish,
                     in_batches, only_draw, parse_args, redraw, save_figure)
from weights import IMAGENET, load_vit, read_state_dict, vit_from_state

# -------------------------------------------------------------------------------- constants

# Shapes: B frames of a batch, L blocks, H heads, h, w patch grid; T frames, S gaze samples, V viewers, C
# traces (heads and GBVS: what looks somewhere in every frame), K late heads. Gaze is x, y in px.
HEADS = 6  # of a block, in the models of exp05_train_vits.py
SHALLOWEST = 5  # blocks of a model whose late heads are clustered; the paper's have 8 and 12
CHANNELS = {"GBVS": "DIORFM", "GBVS intensity": "I", "GBVS orientation": "O", "GBVS contrast": "R",
            "GBVS flicker": "F", "GBVS motion": "M", "GBVS colour": "D"}  # the authors' seven
GBVS_SIDE = 64  # px, the smallest side that gbvs takes
DEMO_MODELS = ("demo_dino4", "demo_dino8", "demo_dino12", "demo_sl4", "demo_sl8", "demo_sl12")
ON_SCREEN = r"(?!GBVS [a-z]).*|GBVS vs .*"  # rows that are printed: of GBVS not the single channels
EXAMPLES = 6  # frames that the figures show
DATA_SETS = {"n2010": "N2010", "cw2019": "CW2019"}  # by layout; other runs have their folder's name
COLOURS = {"viewer": PALETTE["human"], "GBVS": PALETTE["gbvs"],  # by the beginning of a kind's name
           "dino4": "#74b3e0", "dino8": "#2b7bba", "dino": PALETTE["dino"],
           "sl4": "#fdb863", "sl8": "#d8912b", "sl": "#8c510a", "deit": PALETTE["sl"]}
STYLES = {4: ":", 8: "--", 12: "-"}  # lines of models of so many blocks
FEWEST = 5  # values whose median and quartiles are drawn


# -------------------------------------------------------------------------------- data

def load_data(data: str, seed: int, limit: int | None, lost_at_zero: bool = False
              ) -> tuple[videos.Study, list[videos.Watched]]:
    """The data set, and its clips with their viewers; their key points and masks, which exp05_clusters.py
    uses, are only checked. InputError: wrong tables, frames too small for GBVS."""
    study = videos.load_study(data, seed, lost_at_zero)
    watched = videos.watch_all(study, limit)
    looking.check_tables(watched)
    for w in watched:
        side = min(w.size) * (study.scale or 1)
        if CHANNELS and side < GBVS_SIDE:
            raise InputError(f"{w.clip.name}: {w.size[1]}x{w.size[0]} px; GBVS needs sides of {GBVS_SIDE}.")
    return study, watched


def other_distances(folder: Path | None) -> dict[str, dict[str, float]]:
    """{"data set or run: set of clips": {head: distance}} of another finished run."""
    if folder is None:
        return {}
    if not (folder / "arrays.npz").is_file():
        raise InputError(f"--compare {folder}: no arrays.npz; give the folder of a finished run.")
    run = results.read_arrays(folder / "arrays.npz")
    name = DATA_SETS.get(str(run["layout"]), folder.resolve().name)
    own = zip(run["sets"].tolist(), run["units"], run["distance"])  # without those that it was compared with
    return {f"{name}: {place}": dict(zip(run["condition"].tolist(), distance)) for place, _, distance in own}


# -------------------------------------------------------------------------------- model

class Model(NamedTuple):
    kind: str  # what is compared: dino4 ... sl12, or the name of an official model
    name: str  # kind.run
    net: nn.Module
    mean: Tensor  # (3, 1, 1)
    std: Tensor

    def late(self) -> tuple[int, ...]:
        """Blocks whose heads are clustered: of DINO models the two past two thirds of the depth."""
        depth = len(self.net.blocks)
        if not self.kind.startswith("dino") or depth < SHALLOWEST:
            return ()
        first = min(math.ceil(2 * depth / 3), depth - 2)
        return first, first + 1


def load_models(names: Sequence[str], weights: Path | str | None, device: torch.device,
                heads: int | None = None) -> list[Model]:
    """NAME in weights.py, or KIND=FILE, KIND dino4 ... sl12. heads: of a block in these files, which do
    not say it; without it those 96 or 384 wide have six, as exp05_train_vits.py makes them."""
    models = []
    if weights and len(names) > 1:
        raise InputError("--weights belongs to one model; give several as --models KIND=FILE KIND=FILE.")
    if heads and not any("=" in name or name == "auto" for name in names):
        raise InputError("--heads belongs to models given as KIND=FILE; all others have heads of their own.")
    for name in names:
        kind, _, file = name.partition("=")
        if file and not re.fullmatch(r"(dino|sl)\d+", kind):
            raise InputError(f"--models {name}: expected KIND=FILE with a kind like dino12 or sl4.")
        if file:
            net, norm = vit_from_state(read_state_dict(file), num_heads=heads or HEADS), IMAGENET
            if len(net.blocks) != int(re.sub(r"\D", "", kind)):
                raise InputError(f"--models {name}: {len(net.blocks)} blocks; expected those of {kind}.")
            if heads is None and net.embed_dim not in (96, 384):
                raise InputError(f"--models {name}: {net.embed_dim} wide, so not of exp05_train_vits.py; say "
                                 "with --heads how many heads a block has.")
        else:
            net, preprocess = load_vit(name, weights, heads if name == "auto" else None)
            kind, norm = name.removeprefix("demo_"), (preprocess.mean, preprocess.std)
        if net.pos_rule == "size":
            net.pos_rule = "offset"  # the authors run DINO's interpolation on supervised models too
        mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in norm)
        models.append(Model(kind, f"{kind}.{sum(m.kind == kind for m in models)}", net.to(device), mean, std))
    if len({m.net.patch_size for m in models}) > 1:
        raise InputError("models of different patch sizes have maps of different sizes; run them one by one.")
    return models


def assumed(names: Sequence[str], heads: int | None) -> list[str]:
    """What the models given as KIND=FILE are taken to be, because their files do not say it."""
    what = f"{heads} heads a block (--heads)" if heads else f"assumed: {HEADS} heads a block (else --heads)"
    return [f"{name}: {what}; assumed: mean and SD of ImageNet" for name in names if "=" in name]


def corner_means(n: int, patch: int) -> tuple[Tensor, Tensor]:
    """(n + 1, n): weights of a line's n patches in its n + 1 box means that can be the largest, and where.

    Means over 2 patch px of a line that is constant within patches are linear between the pixels patch k - 1.
    Borders are reflected: the box at pixel 0 holds 2 patch - 1 times the first patch, once the second; so do,
    at the other end, the boxes at the last two pixels, of which the first is taken.
    """
    weight = (torch.eye(n + 1, n) + torch.eye(n + 1, n).roll(1, 0)) / 2
    edge = torch.tensor([2 * patch - 1., 1.]) / (2 * patch)
    weight[0], weight[-1] = 0, 0
    weight[0, :2], weight[-1, -2:] = edge, edge.flip(0)
    return weight, (torch.arange(n + 1) * patch - 1).clamp(0, n * patch - 2)


def head_gaze(attn: Tensor, patch: int) -> Tensor:
    """Peak of smoothed attention: attn (..., h, w), both at least 2 -> (..., 2) x, y in px of the input.

    The authors': nearest up-sampling by `patch`, mean over boxes of 2 patch px (patch - 1 before, patch after
    the pixel, borders reflected), arg-max; here exactly, from (h + 1)(w + 1) boxes instead of one for every
    pixel. Of equal maxima the first in reading order.
    """
    (rows, y), (cols, x) = (corner_means(n, patch) for n in attn.shape[-2:])
    boxes = rows.to(attn.device) @ attn.float() @ cols.to(attn.device).T  # (..., h + 1, w + 1)
    best = boxes.flatten(-2).argmax(-1).cpu()
    return torch.stack([x[best % len(x)], y[best // len(x)]], -1).float()


def attend(images: Tensor, model: Model, scale: float | None, dtype: str = "float32") -> Tensor:
    """CLS attention of every head: frames (B, 3, img_h, img_w) uint8 -> (B, L, H, h, w)."""
    x = (frames.resized(images, model.net.patch_size, scale) - model.mean) / model.std
    with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        return cls_attention(model.net, x)


def saliency_gaze(rgb: Tensor, previous: Tensor) -> Tensor:
    """Peaks of the GBVS maps of all CHANNELS at full size, NaN where nothing stands out (or moves): frames
    and those before them, (B, 3, img_h, img_w) in [0, 1] -> (B, CHANNELS, 2) x, y."""
    maps = gbvs_sets(rgb, list(CHANNELS.values()), previous)  # (B, CHANNELS, h, w)
    rows, cols = (resize_matrix(a, b, "bicubic").to(maps) for a, b in zip(maps.shape[2:], rgb.shape[2:]))
    best = torch.stack([(rows @ m @ cols.T).flatten(1).argmax(1) for m in maps.unbind(1)], 1).cpu()
    xy = torch.stack([best % rgb.shape[-1], best // rgb.shape[-1]], -1).float()
    return xy.where(maps.amax((2, 3)).cpu()[..., None] > 0, torch.nan)


# -------------------------------------------------------------------------------- measure

def trace_table(models: Sequence[Model], viewers: Sequence[str], groups: dict[str, str]
                ) -> dict[str, np.ndarray]:
    """Columns of every table: who looks, in the order of the arrays: every head, GBVS, viewers."""
    rows = [(f"{m.name} block {block} head {head}", m.kind, m.name, block, block in m.late())
            for m in models for block in range(len(m.net.blocks)) for head in range(m.net.num_heads)]
    rows += [(name, "GBVS", "", -1, False) for name in CHANNELS]
    rows += [(viewer, f"viewer {groups.get(viewer, '')}".strip(), "", -1, False) for viewer in viewers]
    names = "condition", "kind", "model", "block", "late"
    return {name: np.array(column) for name, column in zip(names, zip(*rows))}  # (R,) each


def measure(batch: dict, models: Sequence[Model], scale: float | None, dtype: str, device: torch.device
            ) -> dict[str, Tensor]:
    """Of a batch of frames: gaze (B, C, 2) of all heads and GBVS, in the frames' px; every head's mean cosine
    with the other heads of its block (B, heads); cosine distances between the late heads (B, K, K)."""
    images = batch["image"].to(device).permute(0, 3, 1, 2)  # (B, 3, img_h, img_w)
    frame = torch.tensor([images.shape[3], images.shape[2]])  # width, height
    gaze, alike, late = [], [], []
    for m in models:
        attn = attend(images, m, scale, dtype)  # (B, L, H, h, w)
        seen = torch.tensor([attn.shape[4], attn.shape[3]]) * m.net.patch_size
        gaze.append((head_gaze(attn, m.net.patch_size) * frame / seen).flatten(1, 2))
        unit = F.normalize(attn.flatten(-2).float(), dim=-1)  # (B, L, H, h w)
        cosine = (unit * unit.sum(2, keepdim=True)).sum(-1)  # (B, L, H), with all heads, itself included
        alike.append(((cosine - 1) / max(attn.shape[2] - 1, 1)).flatten(1))
        if m.late():
            late.append(unit[:, list(m.late())].flatten(1, 2))  # (B, 2 H, h w)
    if CHANNELS:
        previous = batch.get("previous", batch["image"]).to(device).permute(0, 3, 1, 2)
        rgb, before = (frames.resized(x, 1, scale) for x in (images, previous))
        seen = torch.tensor([rgb.shape[3], rgb.shape[2]])
        gaze.append(saliency_gaze(rgb, before) * frame / seen)
    late = torch.cat(late, 1) if late else torch.zeros(len(images), 0, 1)  # (B, K, h w)
    apart = (1 - late @ late.mT).clamp(min=0)
    return dict(gaze=torch.cat(gaze, 1), alike=torch.cat(alike, 1).cpu(), apart=apart.cpu())


def measure_all(watched: Sequence[videos.Watched], folder: Path, batch_size: int, look: Callable,
                workers: int) -> dict:
    """What exp05_clusters.py needs of every clip: gaze (T, C, 2), times (T,), size; over the frames of all
    clips that hold a picture the mean of alike (heads,) and apart (K, K). look: `measure` of a batch."""
    arrays, alike, apart, n = {}, 0, 0, 0
    for w in watched:
        at_once = workers if w.clip.source.is_dir() else min(workers, 1)  # a video is decoded in order
        data = frames.Frames(w.clip, len(w.times))
        found = in_batches(folder / w.clip.name, data, batch_size, look, at_once)
        shown = ~np.isin(np.arange(len(w.times)), w.clip.blank)
        arrays |= {f"gaze/{w.clip.name}": found["gaze"], f"times/{w.clip.name}": w.times,
                   f"size/{w.clip.name}": w.size}
        alike = alike + found["alike"][shown].sum(0, dtype=float)
        apart = apart + found["apart"][shown].sum(0, dtype=float)
        n += shown.sum()
    return arrays | dict(alike=alike / n, apart=apart / n)


def example_frames(watched: Sequence[videos.Watched], models: Sequence[Model], look: Callable) -> dict:
    """Up to EXAMPLES frames, evenly over all clips: picture, all heads' maps (heads, h, w), gaze of its
    viewers. look(frames, model) -> (B, L, H, h, w)."""
    shown = [(w, t) for w in watched for t in range(len(w.times)) if t not in w.clip.blank]
    n = min(EXAMPLES, len(shown))
    shown = [shown[int((i + .5) * len(shown) / n)] for i in range(n)]
    arrays = dict(example_clip=[w.clip.name for w, _ in shown], example_frame=[t for _, t in shown])
    for i, (w, t) in enumerate(shown):
        picture = frames.Frames(w.clip, len(w.times))[t]["image"]  # (img_h, img_w, 3)
        maps = [look(picture[None].permute(0, 3, 1, 2).to(m.mean.device), m)[0].flatten(0, 1) for m in models]
        now = np.flatnonzero(w.frame == t)[:1]
        arrays |= {f"picture{i}": picture, f"maps{i}": torch.cat(maps).half(),
                   f"viewers{i}": w.gaze[:, now].reshape(-1, 2)}
    return arrays


def image_rows(watched: Sequence[videos.Watched], by_clip: Sequence[np.ndarray], table: dict[str, np.ndarray]
               ) -> list[dict]:
    """per_image.csv: of every head, GBVS and viewer of every clip the distance to the other viewers, px
    (median over them). by_clip: distances (R, V)."""
    rows = []
    for w, d in zip(watched, by_clip):
        d = d.copy()
        np.fill_diagonal(d[-d.shape[1]:], np.nan)  # of viewers to themselves
        for r in np.flatnonzero(np.isfinite(d).any(1)):
            rows.append(dict(image=w.clip.name, condition=table["condition"][r], kind=table["kind"][r],
                             genre=w.clip.genre, distance_px=float(np.nanmedian(d[r]))))
    return rows


# -------------------------------------------------------------------------------- statistics

def heads_among_viewers(sets: dict[str, tuple[str, np.ndarray]], others: dict[str, dict[str, float]],
                        conditions: np.ndarray) -> tuple[dict, dict[str, dict]]:
    """(distance (sets, R) of everyone in every set of clips and in those of another run, xy (own sets, R, 2),
    names and units of the sets; facts of every own set)."""
    scaled = {}
    for name, (_, d) in sets.items():
        print(f"placing heads among viewers, {name}", flush=True)
        scaled[name] = scaling.scaled(d)
    print("computing tables", flush=True)
    placed = {name: found for name, found in scaled.items() if found}
    for name, found in placed.items():  # whoever never looks is nowhere
        found["distance"][np.isnan(sets[name][1]).all(1)] = np.nan
        found["xy"][np.isnan(found["distance"])] = np.nan
    if not placed:
        raise InputError("no 4 viewers who saw what another saw; give clips that several people watched.")
    xy = [found.pop("xy") for found in placed.values()]
    distance = [found.pop("distance") for found in placed.values()]
    distance += [[of.get(condition, np.nan) for condition in conditions] for of in others.values()]
    units = [sets[name][0] for name in placed]
    return dict(distance=np.array(distance), xy=np.array(xy), units=np.array(units),
                sets=[*placed, *others]), placed


def nearest_heads(table: dict[str, np.ndarray], distance: np.ndarray) -> list[int]:
    """Rows of the nearest head of the DINO models and of the others, the nearer first."""
    head, dino = table["model"] != "", np.char.startswith(table["kind"], "dino")
    sides = [mine for mine in (head & dino, head & ~dino) if mine.any()]
    return sorted((int(np.where(mine, distance, np.inf).argmin()) for mine in sides), key=distance.item)


# -------------------------------------------------------------------------------- figures

def colour_of(kind: str) -> str:
    """The colour of the first name in COLOURS that begins the kind's; supervised models have all others."""
    return next((colour for name, colour in COLOURS.items() if kind.startswith(name)), PALETTE["sl"])


def dots(ax, columns: dict[str, np.ndarray], colours: Sequence[str]) -> None:
    """One column of sorted dots per name, with a bar at the median of FEWEST or more."""
    for i, (values, colour) in enumerate(zip(columns.values(), colours)):
        ax.plot(i + np.linspace(-.25, .25, len(values)), np.sort(values), ".", color=colour, markersize=4,
                alpha=.6)
        if len(values) >= FEWEST:
            ax.hlines(np.median(values), i - .4, i + .4, color=colour, linewidth=2)
    ax.set_xticks(range(len(columns)), columns, rotation=45, fontsize=8, ha="right")


def draw_distance(arrays: dict[str, np.ndarray], folder: Path) -> None:
    """fig_distance: MDS distance of viewers, best heads, GBVS; of heads by block; all in two dimensions."""
    kind, model, block = arrays["kind"], arrays["model"], arrays["block"]
    distance, unit = arrays["distance"][0], arrays["units"][0]
    kinds = sorted(dict.fromkeys(kind.tolist()), key=lambda k: not k.startswith("viewer"))  # viewers first
    models = [k for k in kinds if (model[kind == k] != "").any()]
    fig, ((left, middle, right),) = figure_grid(1, 3, 5, 4.6, width_ratios=[1, 1.1, 1.2])
    columns = {k: distance[(kind == k) & np.isfinite(distance)] for k in kinds}
    columns |= {k: paper.best_heads(columns[k], model[kind == k]) for k in models}
    dots(left, columns, [colour_of(k) for k in columns])
    left.set(ylabel=f"MDS distance from the median viewer ({unit})", ylim=(0, None))
    left.set_title(f"viewers, {paper.BEST} best heads of each model, GBVS; bar: median", fontsize=9)
    for k in models:
        depth = block[kind == k].max() + 1
        by_block = [distance[(kind == k) & (block == b)] for b in range(depth)]
        low, half, high = np.transpose([np.quantile(d, (.25, .5, .75)) for d in by_block])
        x = (np.arange(depth) + 1) / depth
        middle.plot(x, half, STYLES.get(depth, "-"), color=colour_of(k), label=k)
        if min(map(len, by_block)) >= FEWEST:
            middle.fill_between(x, low, high, color=colour_of(k), alpha=.06, linewidth=0)
    people = np.concatenate([columns[k] for k in kinds if k.startswith("viewer")])
    middle.axhline(np.median(people), color="black", linewidth=1, label="viewers, median")
    middle.set(xlabel="block / number of blocks", ylabel=f"MDS distance ({unit})", ylim=(0, None))
    middle.set_title("all heads by block; line: median, band: quartiles", fontsize=9)
    middle.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(.5, -.13))
    for i, k in enumerate(kinds):
        marker = "^" if k.startswith("viewer") else "D" if k == "GBVS" else "."
        right.plot(*arrays["xy"][0, kind == k].T, marker, color=colour_of(k), alpha=.6, markersize=4, label=k,
                   fillstyle="none" if i and k.startswith("viewer") else "full")
    right.set(xlabel=f"dimension 1 ({unit})", ylabel=f"dimension 2 ({unit})", aspect="equal")
    right.set_title("scaling in two dimensions", fontsize=9)
    results.legend_beside(right)
    save_figure(fig, folder / "fig_distance")


def draw_gaze(arrays: dict[str, np.ndarray], folder: Path) -> None:
    """fig_gaze: frames with the gaze of viewers and of the nearest heads; below, what these heads attend."""
    nearest = arrays["nearest"].tolist()  # rows of the table
    names, kinds = arrays["condition"][nearest], arrays["kind"][nearest]
    fig, axes = figure_grid(1 + len(nearest), len(arrays["example_clip"]), 2.2, 1.8)
    for i, (column, clip, t) in enumerate(zip(axes.T, arrays["example_clip"], arrays["example_frame"])):
        picture = arrays[f"picture{i}"]
        img_h, img_w = picture.shape[:2]
        column[0].scatter(*arrays[f"viewers{i}"].T, s=9, c="white", edgecolors="black", linewidths=.4,
                          label="viewers")
        column[0].imshow(picture)
        column[0].set_title(f"{clip}, frame {t}", fontsize=9)
        for ax, head, name, kind in zip(column[1:], nearest, names, kinds):
            xy = arrays[f"gaze/{clip}"][t, head]
            column[0].scatter(*xy, s=30, c=colour_of(kind), marker="s", edgecolors="white", label=name)
            ax.imshow(picture.mean(2), cmap="gray")
            ax.imshow(arrays[f"maps{i}"][head], cmap="inferno", alpha=.65, interpolation="bilinear",
                      extent=(0, img_w, img_h, 0))
            axes[1 + nearest.index(head), 0].set_ylabel(name, color=colour_of(kind), fontsize=8)
        for ax in column:
            ax.set(xticks=[], yticks=[], xlim=(0, img_w), ylim=(img_h, 0), frame_on=False)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=8,
               frameon=False)
    save_figure(fig, folder / "fig_gaze")


def draw_heads(arrays: dict[str, np.ndarray], folder: Path) -> None:
    """fig_heads: likeness of a block's heads against depth; every head's distance in two sets of clips."""
    fig, ((left, right),) = figure_grid(1, 2, 4.5, 3.6)
    heads = arrays["model"] != ""
    for kind in dict.fromkeys(arrays["kind"][heads].tolist()):
        blocks = arrays["block"][arrays["kind"] == kind]
        depth, alike = blocks.max() + 1, arrays["alike"][arrays["kind"][heads] == kind]
        mean = [alike[blocks == block].mean() for block in range(depth)]
        left.plot(np.arange(depth) + 1, mean, marker="o", markersize=3, color=colour_of(kind), label=kind,
                  linestyle=STYLES.get(depth, "-"))
    left.set(xlabel="layer (block + 1)", ylabel="cosine between heads of a block",
             title="attention maps of a block's heads")
    results.legend_beside(left, handlelength=4)
    right.scatter(arrays["distance"][0][heads], arrays["distance"][-1][heads], s=6,
                  c=[colour_of(kind) for kind in arrays["kind"][heads]])
    right.set(xlabel=f"MDS distance, {arrays['sets'][0]} ({arrays['units'][0]})",
              ylabel=f"MDS distance, {arrays['sets'][-1]}", title="every head in two sets of clips")
    right.set_visible(len(arrays["sets"]) > 1)
    save_figure(fig, folder / "fig_heads")


def distance_rows(arrays: dict[str, np.ndarray]) -> list[dict]:
    """distances.csv: everyone in every set of clips: MDS distance, place in two dimensions."""
    return [dict(set=arrays["sets"][i], condition=arrays["condition"][r], kind=arrays["kind"][r], unit=unit,
                 distance=arrays["distance"][i, r], x=arrays["xy"][i, r, 0], y=arrays["xy"][i, r, 1])
            for i, unit in enumerate(arrays["units"].tolist())
            for r in np.flatnonzero(np.isfinite(arrays["distance"][i]))]


def draw(arrays: dict[str, np.ndarray], facts: dict, folder: Path) -> None:
    """All figures and distances.csv, from the files of a run."""
    draw_distance(arrays, folder)
    draw_gaze(arrays, folder)
    draw_heads(arrays, folder)
    results.write_csv(distance_rows(arrays), folder / "distances.csv")


# -------------------------------------------------------------------------------- main

def start_clusters(args: argparse.Namespace) -> None:
    """exp05_clusters.py on this run, so that one command gives the whole study."""
    file = Path(__file__).with_name("exp05_clusters.py")
    switches = [f"--{name}" for name in ("resume", "plot-only") if getattr(args, name.replace("-", "_"))]
    device = ["--device", args.device] if args.device else []
    sys.argv = [str(file), "--run", str(args.out), *device, *switches]
    runpy.run_path(str(file), run_name="__main__")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__file__, __doc__, batch_size=8, limit="the first N frames of every clip")
    add = parser.add_argument_group("study").add_argument
    add("--models", nargs="+", metavar="MODEL",
        help="names in weights.py, or KIND=FILE with a kind dino4 ... sl12; several files of a kind are "
             f"its seeds (default: the demo's six; with data {' '.join(paper.OFFICIAL)})")
    add("--heads", type=at_least(1), metavar="N",
        help=f"heads of a block in the files of KIND=FILE (default: {HEADS} if 96 or 384 wide)")
    add("--lost-at-zero", action="store_true", help="gaze at exactly (0, 0) is missing: the tracker lost it")
    add("--compare", type=Path, help="folder of another run, to correlate its heads' distances with these")
    args = parse_args(parser, argv)
    args.models = args.models or list(DEMO_MODELS if args.data == "demo" else paper.OFFICIAL)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    rank, _ = init_distributed(device)
    if only_draw(args):
        redraw(args.out, draw)
        return start_clusters(args)

    # Videos and their viewers; models; the distances of another run.
    study, watched = load_data(args.data, args.seed, args.limit, args.lost_at_zero)
    models = load_models(args.models, args.weights, device, args.heads)
    viewers = sorted({viewer for w in watched for viewer in w.viewers})
    table, others = trace_table(models, viewers, study.groups), other_distances(args.compare)

    # Where every head looks in every frame.
    folder = begin(args, [f for w in watched for f in w.clip.files()], **{m.name: m.net for m in models})
    how = dict(scale=study.scale, dtype=args.dtype)
    look = partial(measure, models=models, device=device, **how)
    arrays = measure_all(watched, folder, args.batch_size, look, args.workers)
    if rank > 0:  # the first process goes on alone, to the barrier at the end of finish
        barrier()
        return start_clusters(args)
    arrays |= table | example_frames(watched, models, partial(attend, **how))

    # Heads among viewers: distances, multidimensional scaling, tests.
    traces = [arrays[f"gaze/{w.clip.name}"] for w in watched]
    by_clip = [scaling.distances(w, trace, viewers) for w, trace in zip(watched, traces)]  # (R, V) each, px
    sets = scaling.distance_sets(watched, traces, by_clip, viewers, pool=study.layout != "cw2019")
    placed, facts = heads_among_viewers(sets, others, table["condition"])
    arrays |= placed | dict(nearest=nearest_heads(table, placed["distance"][0]), layout=study.layout)
    tests = [test for name, d in zip(facts, placed["distance"])
             for test in paper.compare_kinds(name, table["kind"], table["model"], d, study.layout)]
    tests += paper.set_correlations(placed["sets"], table, placed["distance"])
    kinds, units = list(dict.fromkeys(table["kind"].tolist())), dict(zip(facts, placed["units"]))
    headline = evaluate(paper.claims(study.layout, kinds, units), arrays, tests)
    finish(args, "exp05_gaze_video", arrays, image_rows(watched, by_clip, table), headline, draw, began,
           device, tests, paper.missing_parts(study.layout, kinds), unit="clips", layout=study.layout,
           sets=facts, best_head=str(table["condition"][arrays["nearest"][0]]), on_screen=ON_SCREEN,
           notes=sorted({*study.notes, *assumed(args.models, args.heads)}))
    start_clusters(args)


if __name__ == "__main__":
    cli(main)
