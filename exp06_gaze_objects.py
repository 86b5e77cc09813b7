"""exp06: every attention head of a Vision Transformer against people's fixation heat maps on still objects.

Carrasco, González-Martín, Aranda & Oliveros (2026), "Vision Transformer attention alignment with human visual
perception in aesthetic object evaluation", PLOS ONE, doi 10.1371/journal.pone.0344006 (arXiv 2507.17616). 30
people looked at 20 objects; DINO's 12 heads are compared with every person's heat map over the width of its
Gaussian, by KL, CC, SIM and SSIM: the best sigma, the ranking of the heads (ANOVA, Tukey HSD), and attention
on the object beyond its area (lift).

Commands
    laptop, demo world    python exp06_gaze_objects.py
    planted answer        python exp06_gaze_objects.py --simulate 0 1.5 300
    one GPU               python exp06_gaze_objects.py --data OBJECTS --model dino_vitb16
    several GPUs          torchrun --nproc_per_node 4 exp06_gaze_objects.py --data OBJECTS --model dino_vitb16
    OSIE, any weights     python exp06_gaze_objects.py --data OSIE --model auto --weights FILE --size 392 518
    heads of two blocks   the same with --layer 8 11

Paper: best sigma 2.4 +- .03 (unit not stated); head 12 best, 7 and 9 worst, counted from 1; lift 30 to 40
points. Demo (other pictures, people, model): 3.0, the end of the sweep; head 4 best, 2 worst of 6; lift 16
points. Not stated, so our choice: last block; 480x480 px; Gaussian in patches, on the fixations; KL(human ||
attention), eps 1e-10; heads compared at the sigma of the least mean KL of any head. Data layouts, further
choices and two cautions: docs/notes_exp06_gaze_objects.md.
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage, stats
from torch import Tensor, nn

from common import (InputError, cc, cls_attention, fixation_counts, gaussian_blur, init_distributed, kld,
                    load_vit, minmax, pick_device, sim)
from data import Images, demo_folder, load_osie, read_csv, read_image, readable_only
from results import (Claim, argument_parser, begin, cli, estimate, evaluate, figure_grid, finish, in_batches,
                     only_draw, parse_args, redraw, save_figure)

# -------------------------------------------------------------------------------- constants

# Shapes: P participants, O objects (images), B of a batch, H heads of all blocks compared, S sigmas, h, w
# patch grid.
SIGMAS = .1, 3., .1  # first, last, step (arXiv abstract; the journal's 1,152,000 values mean 4.0), in patches
EPS = 1e-10  # in KL, added to attention and ratio; the paper's own is not stated
SIZE = 480, 480  # px, input of DINO's visualize_attention.py; the paper's own is not stated
DEMO_SIZE = 224, 224  # px, what the demo's models were trained on
SSIM_SD, SSIM_RADIUS, SSIM_K = 1.5, 5, (.01, .03)  # Wang et al. 2004: window of 11, here in patches
N_BOOT = 2000
PLAIN_RANGE, PLAIN_SHARE = 12, .95  # grey levels; share of border pixels within it on a plain background
BEST, WORST, OTHER = "#1f77b4", "#ff7f0e", "#b0b0b0"  # colours of heads
LABELS = {"kl": "KL (nats)", "cc": "CC", "sim": "SIM", "ssim": "SSIM"}

# -------------------------------------------------------------------------------- data

Gaze = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # participant -> rows, cols (px from 0), weights


def load_fixations(path: Path) -> dict[str, Gaze]:
    """Image name -> Gaze, of a fixations.csv: participant, image, x_px, y_px and, if known, duration_s.
    Empty coordinates become NaN, an empty duration 1. InputError: no such column, another value."""
    found: dict[str, dict[str, list]] = {}
    for line, row in enumerate(read_csv(path), 2):
        missing = {"participant", "image", "x_px", "y_px"} - set(row)
        if missing:
            raise InputError(f"{path}: no column {', '.join(sorted(missing))} among {list(row)}.")
        values = [np.nan if row[key] == "" else row[key] for key in ("y_px", "x_px")]
        values.append(1. if row.get("duration_s", "") == "" else row["duration_s"])
        person, image = row["participant"], row["image"]
        numbers = not any(isinstance(value, str) for value in values) and 0 <= values[2] < np.inf
        if not numbers or not person or Path(image).name != image:
            raise InputError(f"{path}, line {line}: participant {person!r}, image {image!r}, y, x, duration "
                             f"{values}; expected names (no folder in them), numbers, and a duration from 0.")
        found.setdefault(image, {}).setdefault(person, []).append(values)
    return {image: {p: tuple(np.array(v).T) for p, v in gaze.items()} for image, gaze in found.items()}


def load_data(data: str) -> list[tuple[Path, Gaze]]:
    """[(image file, Gaze)] sorted by name: "demo", a folder of the generic layout, or OSIE as distributed."""
    folder = demo_folder("objects") / "objects" if data == "demo" else Path(data)
    if (folder / "fixations.mat").is_file():
        return [(folder / "stimuli" / name, {f"s{i:02d}": g for i, g in enumerate(observers, 1)})
                for _, name, observers in load_osie(folder / "fixations.mat")]
    if not (folder / "fixations.csv").is_file():
        found = sorted(p.name for p in folder.iterdir())[:5] if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {found}; expected fixations.csv and images/, or OSIE's fixations.mat "
                         "and stimuli/: give that folder with --data.")
    gaze = load_fixations(folder / "fixations.csv")
    return [(folder / "images" / name, gaze[name]) for name in sorted(gaze)]


def fixation_maps(gaze: Gaze, participants: Sequence[str], size: tuple[int, int], grid: tuple[int, int]
                  ) -> tuple[Tensor, int]:
    """Seconds in every patch, (P, h, w), and how many fixations were dropped: outside the image or NaN.
    size: the image file's (img_h, img_w). Who never looked: zeros."""
    maps, dropped = torch.zeros(len(participants), *grid), 0
    for i, name in enumerate(participants):
        if name in gaze:
            rows, cols, seconds = gaze[name]
            patches = rows * grid[0] / size[0], cols * grid[1] / size[1]  # floored by fixation_counts
            maps[i] = fixation_counts(*patches, grid, seconds)
            dropped += len(rows) - int(fixation_counts(*patches, grid).sum())
    return maps, dropped


def object_mask(image: np.ndarray) -> np.ndarray | None:
    """Where the object is, (img_h, img_w) bool, of an image (img_h, img_w, 3) uint8 with a plain background:
    the largest region whose colour differs from the border's median by more than PLAIN_RANGE in some channel,
    holes filled. None: another background, or nothing on it."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).astype(float)  # (n, 3)
    colour = np.median(border, 0)
    plain = (np.abs(border - colour).max(1) <= PLAIN_RANGE).mean() >= PLAIN_SHARE
    regions, n = ndimage.label(np.abs(image - colour).max(-1) > PLAIN_RANGE)
    if n == 0 or not plain:
        return None
    return ndimage.binary_fill_holes(regions == 1 + np.bincount(regions.ravel())[1:].argmax())


def looked_at(i: int, items: list[tuple[Path, Gaze]], people: Sequence[str], grid: tuple[int, int]) -> dict:
    """Of image i: fixation maps (P, h, w), dropped fixations, the object's share of every patch (h, w), NaN
    if it is unknown where the object is. The object: masks/<image's stem>.png where not 0, or `object_mask`.
    """
    path, gaze = items[i]
    mask_file = path.parents[1] / "masks" / f"{path.stem}.png"
    try:
        image = np.asarray(read_image(path))  # (img_h, img_w, 3)
    except InputError:  # left out later: see Images
        image = np.zeros((1, 1, 3))
    mask = np.asarray(read_image(mask_file)).any(-1) if mask_file.is_file() else object_mask(image)
    fix, dropped = fixation_maps(gaze, people, image.shape[:2], grid)
    coverage = torch.full(grid, torch.nan)
    if mask is not None:
        coverage = F.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), grid)[0]
    return dict(fix=fix, dropped=dropped, coverage=coverage)


# -------------------------------------------------------------------------------- model

def load_model(name: str, weights: Path | None, size: tuple[int, int]) -> tuple:
    """(ViT, preprocessing that squashes any image to `size`, rounded to whole patches). No crop: every
    fixation stays. An image of another aspect ratio is distorted, its fixations with it."""
    model, preprocess = load_vit(name, weights)
    crop = tuple(max(1, round(n / model.patch_size)) * model.patch_size for n in size)
    return model, replace(preprocess, crop=crop, squash=True)


def check(blocks: Sequence[int], planted: Sequence[float] | None, pairs: int, model: nn.Module) -> None:
    """InputError: a block or head that the model does not have, nothing to compare."""
    depth, heads = len(model.blocks), len(blocks) * model.num_heads
    if not set(blocks) <= set(range(depth)) or planted and planted[0] not in range(heads):
        raise InputError(f"--layer {blocks}, --simulate {planted}: the model has blocks 0 to {depth - 1}, of "
                         f"{model.num_heads} heads each (counted from 0).")
    if heads < 2 or pairs < 2:
        raise InputError(f"{heads} heads, {pairs} participant-image pairs: comparing needs two of each.")


# -------------------------------------------------------------------------------- measure

def ssim(p: Tensor, q: Tensor, crop: int = 0) -> Tensor:
    """Structural similarity (Wang et al. 2004) of maps (..., h, w), broadcast; each scaled to [0, 1] first.
    In [-1, 1], 1 for equal maps; NaN where q is all zeros. Windows are cut off, not padded, at the map's
    border; crop leaves out that many patches on each side (5: whole windows only, as scikit-image does)."""
    dtype = torch.float64 if p.device.type == "cpu" else torch.float32
    x, y = minmax(p.to(dtype)), minmax(q.to(dtype))
    blur = partial(gaussian_blur, sigma=SSIM_SD, truncate=SSIM_RADIUS / SSIM_SD)
    inside = blur(torch.ones(x.shape[-2:]).to(x))  # share of the window that lies in the map
    mx, my = blur(x) / inside, blur(y) / inside
    vx, vy = blur(x * x) / inside - mx ** 2, blur(y * y) / inside - my ** 2
    cov = blur(x * y) / inside - mx * my
    c1, c2 = SSIM_K[0] ** 2, SSIM_K[1] ** 2
    s = (2 * mx * my + c1) * (2 * cov + c2) / ((mx ** 2 + my ** 2 + c1) * (vx + vy + c2))
    s = s[..., crop:s.shape[-2] - crop, crop:s.shape[-1] - crop].mean((-2, -1))
    return torch.where(q.flatten(-2).any(-1), s, torch.nan).cpu().double()


METRICS = {"kl": partial(kld, eps=EPS), "cc": cc, "sim": sim, "ssim": ssim}
SIGN = {"kl": 1, "cc": -1, "sim": -1, "ssim": -1}  # times the metric: the smaller the more alike


def kl_sweep(attn: Tensor, fix_maps: Tensor, sigmas: Sequence[float], metric: Callable = METRICS["kl"],
             blur: str = "fixations") -> Tensor:
    """KL(human || attention) in nats of every participant, object, head and blur: (P, O, H, S) float64, NaN
    without a fixation. attn (O, H, h, w), fix_maps (P, O, h, w), sigmas in grid units (patches). metric:
    another one of METRICS; blur: the side that is smoothed, "fixations" or "attention", zeros around it."""
    values = []
    for sigma in sigmas:
        p, q = attn[None], fix_maps[:, :, None]  # (1, O, H, h, w), (P, O, 1, h, w)
        if blur == "fixations":
            q = gaussian_blur(q, sigma)
        else:
            p = gaussian_blur(p, sigma)
        if metric is not ssim:  # which blurs each map once, before they are paired
            p, q = torch.broadcast_tensors(p, q)
            values.append(metric(p.flatten(0, 2), q.flatten(0, 2)).view(p.shape[:3]))
        else:
            values.append(ssim(p, q))  # (P, O, H)
    return torch.stack(values, -1)


def simulate(attn: Tensor, head: int, sigma: float, n: int, blur: str, participants: int,
             seeds: Sequence[tuple]) -> tuple[Tensor, Tensor]:
    """(attn (O, H, h, w), fix_maps (P, O, h, w)) with a known answer: n fixations a person, drawn at patches,
    follow head `head`. The side that the sweep is going to blur stays sharp, the other one is blurred here,
    so that `sigma` makes both agree."""
    sharp, blurred = attn.cpu().double(), gaussian_blur(attn.cpu().double(), sigma)
    seen_by_people, seen_by_model = (sharp, blurred) if blur == "fixations" else (blurred, sharp)
    density = seen_by_people[:, head].flatten(1).numpy()  # (O, h w)
    fix = np.stack([np.random.default_rng(seed).multinomial(n, d / d.sum(), participants)
                    for seed, d in zip(seeds, density)], 1)  # (P, O, h w)
    return seen_by_model.to(attn), torch.from_numpy(fix).view(participants, *attn[:, 0].shape).to(attn)


def measure(batch: dict, model: nn.Module, blocks: list[int], sigmas: np.ndarray, blur: str,
            planted: tuple | None, device: torch.device, dtype: torch.dtype, seed: int) -> dict:
    """Attention of every head (B, H, h, w), fixation maps (B, P, h, w) and each metric (B, P, H, S) of the
    images of a batch. planted: (head, sigma, n) of `simulate`."""
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        attn = cls_attention(model, batch["image"].to(device), blocks).flatten(1, 2).float()
    fix = batch["fix"].to(attn).transpose(0, 1)  # (P, B, h, w)
    if planted:
        seeds = [(seed, i) for i in batch["index"].tolist()]
        head, sigma, n = planted
        attn, fix = simulate(attn, int(head), sigma, int(n), blur, len(fix), seeds)
    found = {name: kl_sweep(attn, fix, sigmas, metric, blur).transpose(0, 1).float()
             for name, metric in METRICS.items()}
    found |= dict(attn=attn, fix=fix.transpose(0, 1))
    return found | {name: batch[name] for name in ("coverage", "dropped", "readable")}


def usable(arrays: dict[str, np.ndarray], paths: Sequence[Path]
           ) -> tuple[dict[str, np.ndarray], list[Path], list[str]]:
    """(arrays, paths) of the readable images with a fixation on them, metrics as (P, O, H, S); what was left
    out. InputError: nothing is left."""
    arrays, paths, bad = readable_only(arrays, paths)
    seen = arrays["fix"].any((1, 2, 3))
    left_out = [f"{path.name}: unreadable" for path in bad]
    left_out += [f"{path.name}: {n} fixations outside the image or without coordinates"
                 for path, n in zip(paths, arrays["dropped"]) if n]
    if seen.sum() == 0:
        raise InputError(f"none of {len(seen)} images has a fixation on it ({left_out[:2]}); "
                         "check the pixels in the fixation file.")
    arrays = {name: values[seen].astype(np.float64) for name, values in arrays.items()}
    arrays |= {name: arrays[name].swapaxes(0, 1) for name in METRICS}
    return arrays, [path for path, ok in zip(paths, seen) if ok], left_out


# -------------------------------------------------------------------------------- statistics

def best_sigma(curves: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Where curves (..., S) are least: vertex of the parabola through the least value and its neighbours, on
    evenly spaced sigmas; an end of the sweep is returned as it is."""
    j = curves.argmin(-1)
    mid = np.clip(j, 1, len(sigmas) - 2)
    a, b, c = (np.take_along_axis(curves, (mid + d)[..., None], -1)[..., 0] for d in (-1, 0, 1))
    bend = a - 2 * b + c
    shift = np.where((mid == j) & (bend > 0), (a - c) / np.where(bend > 0, 2 * bend, 1), 0)
    return sigmas[j] + shift * (sigmas[1] - sigmas[0])


def optimum(values: np.ndarray) -> tuple[int, int]:
    """(head, index of sigma) of the least mean over participants and objects; values (P, O, H, S)."""
    curves = np.nanmean(values, (0, 1))  # (H, S)
    return tuple(int(i) for i in np.unravel_index(curves.argmin(), curves.shape))


def crossed_bootstrap(values: np.ndarray, n_boot: int = N_BOOT, seed: int = 0) -> np.ndarray:
    """Means over participants and objects, (n_boot, ...), both drawn anew with replacement and independently
    (Owen 2007: both are samples from populations); values (P, O, ...), NaN = not seen. Draws without any seen
    pair have no mean and are left out."""
    (n_people, n_objects), rng = values.shape[:2], np.random.default_rng(seed)
    flat, out = values.reshape(n_people * n_objects, -1), []
    seen = ~np.isnan(flat[:, 0])  # a pair is NaN for all heads and sigmas, or for none
    for _ in range(0, n_boot, 100):
        people = rng.multinomial(n_people, np.full(n_people, 1 / n_people), 100)  # (100, P)
        objects = rng.multinomial(n_objects, np.full(n_objects, 1 / n_objects), 100)
        weights = (people[:, :, None] * objects[:, None]).reshape(100, -1)[:, seen]
        weights = weights[weights.any(1)]
        out.append(weights @ flat[seen] / weights.sum(1, keepdims=True))
    return np.concatenate(out)[:n_boot].reshape(-1, *values.shape[2:])


def anova(values: np.ndarray) -> dict:
    """One-way ANOVA over heads of values (P, O, H), every seen pair one value, as the paper; eta2 = share of
    the variance between heads; p of Tukey's HSD (H, H). And Friedman's test of the objects' means, which
    allows for their pairing."""
    groups = values[~np.isnan(values[..., 0])].T  # (H, n)
    f, p = stats.f_oneway(*groups)
    df1, df2 = len(groups) - 1, groups.size - len(groups)
    means = np.nanmean(values, 0)  # (O, H)
    friedman = stats.friedmanchisquare(*means.T) if min(means.shape[0], df1) > 1 else (np.nan, np.nan)
    return dict(F=float(f), df1=df1, df2=df2, p=float(p), n=groups.shape[1],
                eta2=float(f * df1 / (f * df1 + df2)), friedman_chi2=float(friedman[0]),
                friedman_p=float(friedman[1]), objects=len(means), tukey_p=stats.tukey_hsd(*groups).pvalue)


def shares(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Percent of attention (O, H) and of people's gaze (O,) on the object, and of the area it has (O,)."""
    maps = np.concatenate([arrays["attn"], arrays["fix"].sum(1, keepdims=True)], 1)  # (O, H + 1, h, w)
    total = maps.sum((-2, -1))
    on_object = (maps * arrays["coverage"][:, None]).sum((-2, -1)) / np.where(total > 0, total, np.nan)
    return 100 * on_object[:, :-1], 100 * on_object[:, -1], 100 * arrays["coverage"].mean((1, 2))


def lift_of(arrays: dict[str, np.ndarray], heads: Sequence[str]) -> dict[str, dict]:
    """Attention of each head, and "people"'s gaze, on the object minus its area's share, points, over the
    objects with a region; empty for fewer than two."""
    known = ~np.isnan(arrays["coverage"][:, 0, 0])
    if known.sum() < 2:
        return {}
    attention, gaze, area = shares({name: arrays[name][known] for name in ("attn", "fix", "coverage")})
    lift = np.column_stack([attention, gaze]) - area[:, None]  # (O, H + 1)
    return {name: estimate(v) | {"p": stats.ttest_1samp(v, 0).pvalue}
            for name, v in zip([*heads, "people"], lift.T)}


def estimate_of(value: float, draws: np.ndarray, n: int, scale: float = 1.) -> dict:
    """scale times a value with the 95 % interval of its bootstrap draws."""
    return dict(ours=float(scale * value), ci=sorted(scale * np.quantile(draws, (.025, .975))), n=n)


def compare_heads(values: np.ndarray, sign: int, sigmas: np.ndarray, patch: int, heads: Sequence[str],
                  seed: int) -> dict:
    """One metric, values (P, O, H, S): its best sigma, and all heads there. sign: 1 where less is more alike,
    else -1."""
    cost = sign * values
    best, s = optimum(cost)
    curves, n = np.nanmean(cost, (0, 1)), int((~np.isnan(cost[:, :, 0, 0])).sum())  # (H, S), pairs
    draws = crossed_bootstrap(cost, seed=seed)  # (n_boot, H, S)
    at, width = best_sigma(curves[best], sigmas), best_sigma(draws[:, best], sigmas)
    mean_at, mean_width = best_sigma(curves.mean(0), sigmas), best_sigma(draws.mean(1), sigmas)
    means = {k: estimate_of(curves[i, s], draws[:, i, s], n, sign) for i, k in enumerate(heads)}
    return dict(sigma_index=s, sigma=estimate_of(at, width, n), sigma_px=estimate_of(at, width, n, patch),
                sigma_sd=dict(ours=float(width.std()), n=n),
                sigma_of_mean=estimate_of(mean_at, mean_width, n),
                ranking=[heads[i] for i in curves[:, s].argsort()], heads=means, best=means[heads[best]])


def head_number(found: dict, metric: str, rank: int) -> dict:
    """Value of a claim: a head counted from 1, as in the paper; of several blocks with its block from 0."""
    name, several = found[metric]["ranking"][rank], found["heads"][0][:3] != found["heads"][-1][:3]
    number = int(name[-2:]) + 1
    return dict(ours=f"{name[:3]}: {number}" if several else number, n=found[metric]["sigma"]["n"])


def lifted(found: dict) -> dict | None:
    """Value of a claim: how many heads attend more to the object than its area, p <= .0001."""
    lifts = [v for name, v in found["lift"].items() if name != "people"]
    sure = [v for v in lifts if v["ours"] > 0 and v["p"] <= 1e-4]
    return dict(ours=f"{len(sure)} of {len(lifts)}", n=lifts[0]["n"]) if lifts else None


CLAIMS = [
    Claim("best sigma, best head, KL", 2.4, "patches", lambda found: found["kl"]["sigma"]),
    Claim("  in pixels of the input", None, "px", lambda found: found["kl"]["sigma_px"]),
    Claim("  SD of the bootstrap", .03, "patches", lambda found: found["kl"]["sigma_sd"]),
    Claim("best sigma, mean of heads, KL", None, "patches", lambda found: found["kl"]["sigma_of_mean"]),
    Claim("worst head, KL", "7, 9", "head from 1", lambda found: head_number(found, "kl", -1)),
    Claim("best head, KL", 12, "head from 1", lambda found: head_number(found, "kl", 0)),
    Claim("best head, CC", 12, "head from 1", lambda found: head_number(found, "cc", 0)),
    Claim("best head, SIM", 12, "head from 1", lambda found: head_number(found, "sim", 0)),
    Claim("best head, SSIM", 12, "head from 1", lambda found: head_number(found, "ssim", 0)),
    Claim("KL of the best head", None, "nats", lambda found: found["kl"]["best"]),
    Claim("lift of the best head", "30 to 40", "points",
          lambda found: found["lift"].get(found["kl"]["ranking"][0])),
    Claim("heads with lift > 0, p <= .0001", "12 of 12", "", lifted)]


def image_rows(names: Sequence[str], arrays: dict[str, np.ndarray], found: dict) -> list[dict]:
    """Rows of per_image.csv, image x head: means over participants at each metric's best sigma, percent."""
    attention, gaze, area = shares(arrays)
    means = {name: np.nanmean(arrays[name][..., found[name]["sigma_index"]], 0) for name in METRICS}  # (O, H)
    people = (~np.isnan(arrays["kl"][:, :, 0, 0])).sum(0)
    return [{"image": name, "condition": head, "participants": int(people[o]),
             **{metric: means[metric][o, i] for metric in METRICS}, "attention_on_object": attention[o, i],
             "gaze_on_object": gaze[o], "object_area": area[o], "lift": attention[o, i] - area[o]}
            for o, name in enumerate(names) for i, head in enumerate(found["heads"])]


# -------------------------------------------------------------------------------- figures

def draw_sweep(ax, curves: np.ndarray, name: str, summary: dict) -> None:
    """A metric against sigma, curves (H, S): a line a head, their mean, the optimum and its interval."""
    sigmas, found = summary["sigmas"], summary[name]
    for head, curve in zip(summary["heads"], curves):
        ax.plot(sigmas, curve, color=OTHER)
    for head, colour, word in ((found["ranking"][-1], WORST, "worst"), (found["ranking"][0], BEST, "best")):
        ax.plot(sigmas, curves[summary["heads"].index(head)], color=colour, label=f"{word}: {head}")
    ax.plot(sigmas, curves.mean(0), "k--", lw=1, label="mean of heads")
    ax.axvspan(*found["sigma"]["ci"], color=BEST, alpha=.2, lw=0, label="optimum, 95 % CI")
    ax.axvline(found["sigma"]["ours"], color=BEST, lw=1)
    ax.set(xlabel=f"SD of the blur of the {summary['blur']} (patches)", ylabel=LABELS[name])
    ax.legend(loc="lower center", bbox_to_anchor=(.5, 1), ncol=2, frameon=False, fontsize=7)


def draw_heads(ax, values: dict[str, dict], ranking: Sequence[str], label: str) -> None:
    """A point a head with its 95 % interval; people's gaze, if any, as a line."""
    for i, head in enumerate(ranking):
        ax.plot(values[head]["ci"], [i, i], color="#555555", lw=1)
        ax.plot(values[head]["ours"], i, "o", color={0: BEST, len(ranking) - 1: WORST}.get(i, OTHER))
    if "people" in values:
        ax.axvline(values["people"]["ours"], color="black")
        ax.axvspan(*values["people"]["ci"], color="black", alpha=.12, lw=0)
    ax.set(xlabel=f"{label}\nbars: 95 % CI", yticks=range(len(ranking)), yticklabels=ranking)


def draw(arrays: dict[str, np.ndarray], results: dict, folder: Path) -> None:
    """fig_sweep: every metric against sigma; fig_heads: every metric by head at its best sigma, and lift,
    best head of KL first."""
    summary = results["summary"]
    fig, axes = figure_grid(1, len(METRICS), 3.25, 3.4)
    for ax, name in zip(axes[0], METRICS):
        draw_sweep(ax, np.nanmean(arrays[name], (0, 1)), name, summary)
    save_figure(fig, folder / "fig_sweep")
    panels = {f"{LABELS[name]} at sigma {summary['sigmas'][summary[name]['sigma_index']]:.1f}":
              summary[name]["heads"] for name in METRICS}
    if summary["lift"]:
        panels["lift (points), line: people's gaze"] = summary["lift"]
    fig, axes = figure_grid(1, len(panels), 3.25, .8 + max(2.2, .22 * len(summary["heads"])), sharey=True)
    for ax, (label, values) in zip(axes[0], panels.items()):
        draw_heads(ax, values, summary["kl"]["ranking"], label)
    axes[0, 0].set_ylabel("block and head (from 0), by KL")
    axes[0, 0].invert_yaxis()
    save_figure(fig, folder / "fig_heads")


# -------------------------------------------------------------------------------- main

def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    p = argument_parser(__file__, __doc__, batch_size=8)
    add = p.add_argument_group("study").add_argument
    add("--model", help="in common.WEIGHTS, or auto (default: dino_vitb16, demo: demo_dino12)")
    add("--layer", type=int, nargs="+", help="blocks, from 0 (default: the last)")
    add("--size", type=int, nargs=2, metavar=("H", "W"),
        help="px of the model's input, rounded to whole patches (default: 480 480; demo: 224 224)")
    add("--sigmas", type=float, nargs=3, default=SIGMAS, metavar=("FIRST", "LAST", "STEP"),
        help="blur widths in patches (default: .1 3 .1)")
    add("--blur", choices=["fixations", "attention"], default="fixations",
        help="which of the two maps is smoothed (default: fixations)")
    add("--simulate", type=float, nargs=3, metavar=("HEAD", "SIGMA", "N"),
        help="people are replaced: N fixations each where HEAD (from 0) attends, at blur SIGMA")
    args = parse_args(p, argv)
    args.model = args.model or ("demo_dino12" if args.data == "demo" else "dino_vitb16")
    args.size = args.size or list(DEMO_SIZE if args.data == "demo" else SIZE)
    first, last, step = args.sigmas
    if min(first, step, *args.size, *(args.simulate or [1])[1:]) <= 0 or last < first + 1.5 * step:
        raise InputError("--sigmas, --size, --simulate: expected positive numbers, three widths or more.")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    if only_draw(args):
        return redraw(args.out, draw)
    device = pick_device(args.device)
    init_distributed(device)

    # Images with every participant's fixations; a model, whose heads are compared; blur widths
    items = load_data(args.data)[:args.limit]
    people = sorted({person for _, gaze in items for person in gaze})
    model, preprocess = load_model(args.model, args.weights, args.size)
    blocks = args.layer or [len(model.blocks) - 1]
    heads = [f"b{b:02d}h{h:02d}" for b in blocks for h in range(model.num_heads)]
    first, last, step = args.sigmas
    sigmas = (first + step * np.arange(round((last - first) / step) + 1)).round(9)  # .1, .2, ..., both ends
    check(blocks, args.simulate, sum(len(gaze) for _, gaze in items), model)

    # Every participant x object x head x sigma
    folder = begin(args, [path.name for path, _ in items], model=model)
    grid = tuple(n // model.patch_size for n in preprocess.crop)
    images = Images([path for path, _ in items], preprocess,
                    partial(looked_at, items=items, people=people, grid=grid))
    how = partial(measure, model=model.to(device), blocks=blocks, sigmas=sigmas, blur=args.blur,
                  planted=args.simulate, device=device, dtype=getattr(torch, args.dtype), seed=args.seed)
    arrays = in_batches(folder / "images", images, args.batch_size, how, args.workers)
    arrays, paths, left_out = usable(arrays, images.paths)

    # The best sigma and head of each metric, ANOVA and Tukey over heads, lift, the paper's numbers
    found = dict(heads=heads, sigmas=sigmas, blur=args.blur, lift=lift_of(arrays, heads))
    tests = []
    for name in METRICS:
        found[name] = compare_heads(arrays[name], SIGN[name], sigmas, model.patch_size, heads, args.seed)
        tests.append(dict(test=f"ANOVA, {name}", **anova(arrays[name][..., found[name]["sigma_index"]])))
        if found[name]["sigma"]["ours"] in (sigmas[0], sigmas[-1]):
            left_out.append(f"{LABELS[name]}: the best sigma is an end of the sweep, no optimum")
    not_run = [] if found["lift"] else ["lift (fewer than two images with a mask or a plain background)"]
    finish(args, "exp06_gaze_objects", arrays, image_rows([path.name for path in paths], arrays, found),
           evaluate(CLAIMS, found), draw, began, device, tests, not_run, images.paths, summary=found,
           notes=left_out)


if __name__ == "__main__":
    cli(main)
