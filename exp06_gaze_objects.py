"""exp06: every attention head of a Vision Transformer against people's fixation heat maps on still objects.

Carrasco, González-Martín, Aranda & Oliveros (2026), "Vision Transformer attention alignment with human visual
perception in aesthetic object evaluation", PLOS ONE, doi 10.1371/journal.pone.0344006 (arXiv 2507.17616). 30
people looked at 20 objects; each head is compared with each person's heat map over the width of its Gaussian
by KL, CC, SIM and SSIM: best sigma, best head (ANOVA, Tukey HSD), attention on the object (lift).

Commands
    laptop, demo world    python exp06_gaze_objects.py
    one GPU               python exp06_gaze_objects.py --data OBJECTS --model dino_vitb16
    several GPUs          torchrun --nproc_per_node 4 exp06_gaze_objects.py --data OBJECTS --model dino_vitb16
    OSIE (downloaded)     python exp06_gaze_objects.py --data osie --model auto --weights FILE --layer 8 11

Heads are counted from 0 here, from 1 in the paper. Paper: best sigma 2.4 +- .03 (unit not stated); head 11
best, 6 and 8 worst; lift 30 to 40 points. Demo (other pictures, people, model): 4.0, the end of the sweep;
head 3 best, 1 worst of 6; lift 16. Not stated, so our choice: last block; 480x480 px; Gaussian in patches, on
the fixations, weighted by duration; KL(human || attention), eps 1e-10; heads compared at the sigma of least
mean KL; lift = attention's share on the object less its share of the area. See also the notes in docs/.
"""
from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from PIL import Image, ImageColor, ImageOps
from scipy import ndimage, stats
from scipy.interpolate import CubicSpline
from torch import Tensor, nn
from torch.utils.data import Dataset

import data
import download
import gaze
from common import (InputError, cc, cls_attention, gaussian_blur, init_distributed, kld, minmax,
                    pick_device, sim)
from results import (Claim, argument_parser, begin, cli, estimate, evaluate, figure_grid, finish, in_batches,
                     legend_beside, only_draw, parse_args, redraw, save_figure)
from weights import WEIGHTS, load_vit

# -------------------------------------------------------------------------------- constants

# Shapes: P participants, O objects (images), B of a batch, H heads compared, S sigmas, h, w patch grid.
SIGMAS = .1, 4., .1  # first, last, step in patches: the journal's range; its 1,152,000 values give the step
EPS = 1e-10  # in KL, added to attention and ratio; the paper's own is not stated
SIZE = 480, 480  # px, input of DINO's visualize_attention.py; the paper's own is not stated
DEMO_SIZE = 224, 224  # px, what the demo's models were trained on
SSIM_SD, SSIM_RADIUS, SSIM_C = 1.5, 5, (.01 ** 2, .03 ** 2)  # Wang et al. 2004: window of 11, here in patches
N_BOOT = 2000  # draws of participants and objects
TAIL_POINTS = 250  # at which the studentized range is computed
EXAMPLES = 4  # objects of fig_examples, evenly spaced
PLAIN_RANGE, PLAIN_SHARE = 12, .95  # grey levels; share of border pixels within it on a plain background
LABELS = {"kl": "KL (nats)", "cc": "CC", "sim": "SIM", "ssim": "SSIM"}

# -------------------------------------------------------------------------------- data

def load_data(place: str, lost_at_zero: bool = False) -> list[tuple[Path, gaze.Fixations]]:
    """[(image file, Fixations)], by name: "demo", a folder of the generic layout, or OSIE as distributed.
    lost_at_zero: fixations at exactly (0, 0) have no coordinates."""
    folder = data.demo_folder("objects") / "objects" if place == "demo" else download.data_folder(place)
    if not (folder / "fixations.mat").is_file():
        items = [(folder / "images" / name, fixations)
                 for name, fixations in sorted(gaze.load_fixations(folder / "fixations.csv").items())]
    else:
        items = []
        for _, name, observers in gaze.load_osie(folder / "fixations.mat"):
            fixations = [(f"s{i:02d}", *fixation) for i, observer in enumerate(observers, 1)
                         for fixation in zip(*observer)]
            path = folder / "stimuli" / name
            if gaze.picture_size(path) not in (gaze.OSIE_SIZE, None):
                raise InputError(f"{path}: not of {gaze.OSIE_SIZE} pixels, in which OSIE counts fixations; "
                                 "take its own pictures.")
            items.append((path, fixations))
    if lost_at_zero:
        items = [(path, [(person, np.nan, np.nan, seconds) if row == col == 0 else (person, row, col, seconds)
                         for person, row, col, seconds in fixations]) for path, fixations in items]
    return items


def check_pictures(items: Sequence[tuple[Path, gaze.Fixations]]) -> None:
    """InputError before anything is measured: none of the images is there, or a mask is empty, full or of
    another shape than its picture."""
    paths = [path for path, _ in items]
    if not any(path.is_file() for path in paths):
        raise InputError(f"{paths[0]}: no such image, as all {len(paths)} with fixations; correct the names.")
    masks = data.mask_files(paths[0].parents[1])
    for path in [path for path in paths if path.stem in masks]:
        (img_h, img_w), size = data.read_mask(masks[path.stem]).shape, gaze.picture_size(path)
        if size and not gaze.same_shape((img_h, img_w), size):
            raise InputError(f"{masks[path.stem]} is {img_h} x {img_w} px, its picture, as viewers turn it, "
                             f"{size[0]} x {size[1]}: another shape; give a mask of the whole picture.")


def left_out(items: Sequence[tuple[Path, gaze.Fixations]]) -> dict[str, list[str]]:
    """{reason: names} of the files in images/ that are in no result."""
    folder, names = items[0][0].parent, {path.name for path, _ in items}
    files = data.entries(folder) if folder.is_dir() else []
    others = [p for p in files if p.is_file() and p.name not in names]
    unread = [p.name for p in others if p.suffix.lower() not in data.IMAGE_SUFFIXES]
    return {"without a fixation": [p.name for p in others if p.name not in unread], data.UNREAD: unread}


def as_seen(path: Path, background: tuple[int, ...]) -> tuple[Image.Image, np.ndarray | None]:
    """(Picture as people saw it, RGB; where its object is, (img_h, img_w) bool, or None). A cut-out, an image
    with transparent pixels, lies on the background; its object is where it is at least half opaque, unless
    that is everywhere or nowhere: soft corners, a faint picture."""
    picture = data.read_image(path, as_displayed=True)
    with open(path, "rb") as file, Image.open(file) as image:
        if not image.has_transparency_data:
            return picture, None
        ImageOps.exif_transpose(image, in_place=True)
        rgba = image.convert("RGBA")
    mask = np.asarray(rgba)[..., 3] >= 128  # (img_h, img_w); 255 = opaque
    picture = Image.alpha_composite(Image.new("RGBA", rgba.size, background), rgba).convert("RGB")
    return picture, mask if 0 < mask.mean() < 1 else None


def fixation_maps(fixations: gaze.Fixations, people: Sequence[str], size: Sequence[int],
                  grid: Sequence[int]) -> tuple:
    """Seconds in every patch, (P, h, w), of an image file of size (img_h, img_w); zeros for who never looked.
    And how many fixations were dropped, because they lie outside the image or are NaN."""
    (img_h, img_w), (h, w) = size, grid
    maps, dropped = np.zeros((len(people), h, w)), 0
    for person, row, col, seconds in fixations:
        if 0 <= row < img_h and 0 <= col < img_w:
            maps[people.index(person), int(row * h / img_h), int(col * w / img_w)] += seconds
        else:
            dropped += 1
    return torch.from_numpy(maps).float(), dropped


def object_mask(image: np.ndarray) -> np.ndarray | None:
    """Where the object is, (img_h, img_w) bool, of an image (img_h, img_w, 3) with a plain background: the
    largest region that differs from the border's median by more than PLAIN_RANGE in a channel, holes filled.
    None: another background, or nothing on it."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).astype(float)  # (n, 3)
    colour = np.median(border, 0)
    plain = (np.abs(border - colour).max(1) <= PLAIN_RANGE).mean() >= PLAIN_SHARE
    regions, n = ndimage.label(np.abs(image - colour).max(-1) > PLAIN_RANGE)
    if n == 0 or not plain:
        return None
    return ndimage.binary_fill_holes(regions == 1 + np.bincount(regions.ravel())[1:].argmax())


class Objects(Dataset):
    """Item i, of image i as people saw it -> image, the model's input; readable; cut_out, whether it is one;
    fix, fixation maps (P, h, w); dropped, fixations off it; coverage, the share of every patch that the
    object covers (h, w), NaN where it is unknown. The object: `mask_files` where not 0, else a cut-out's,
    else `object_mask`. An image that cannot be read is black, and left out of every result."""

    def __init__(self, items: list[tuple[Path, gaze.Fixations]], people: Sequence[str], grid: Sequence[int],
                 preprocess: Callable, background: tuple[int, ...]):
        self.items, self.people, self.grid = items, people, grid
        self.preprocess, self.background = preprocess, background
        self.masks = data.mask_files(items[0][0].parents[1])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> dict:
        path, fixations = self.items[i]
        try:
            (picture, mask), readable = as_seen(path, self.background), True
        except InputError:
            picture, mask, readable = Image.new("RGB", (1, 1)), None, False
        is_cut_out = mask is not None
        if path.stem in self.masks:
            mask = data.read_mask(self.masks[path.stem])
        elif not is_cut_out:
            mask = object_mask(np.asarray(picture))
        fix, dropped = fixation_maps(fixations, self.people, picture.size[::-1], self.grid)
        coverage = torch.full(self.grid, torch.nan)
        if mask is not None:
            coverage = F.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), self.grid)[0]
        return dict(image=self.preprocess(picture), readable=readable, cut_out=is_cut_out, fix=fix,
                    dropped=dropped, coverage=coverage)


# -------------------------------------------------------------------------------- model

def load_model(name: str, weights: Path | None, size: Sequence[int], blocks: Sequence[int] | None = None,
               num_heads: int | None = None) -> tuple:
    """(ViT; preprocessing that squashes any image to `size`, rounded to whole patches; blocks, default the
    last; names of their heads, b11h00 ...). No crop: every fixation stays, distorted with its image.
    InputError: no such block, a single head."""
    known = WEIGHTS[name].arch.get("depth") if name in WEIGHTS else None  # before it is downloaded
    if known and max(blocks or [0]) >= known:
        raise InputError(f"--layer {blocks}: {name} has blocks 0 to {known - 1}.")
    model, preprocess = load_vit(name, weights, num_heads)
    crop = tuple(max(1, round(n / model.patch_size)) * model.patch_size for n in size)
    depth = len(model.blocks)
    blocks = blocks or [depth - 1]
    if not set(blocks) <= set(range(depth)):
        raise InputError(f"--layer {blocks}: the model has blocks 0 to {depth - 1}.")
    heads = [f"b{b:02d}h{h:02d}" for b in blocks for h in range(model.num_heads)]
    if len(heads) == 1:
        raise InputError(f"{name}: one head a block, and heads are compared; name two blocks with --layer.")
    return model, replace(preprocess, crop=crop, squash=True), blocks, heads


# -------------------------------------------------------------------------------- measure

def ssim(p: Tensor, q: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of maps (..., h, w), broadcast; each scaled to [0, 1] first.
    In [-1, 1], 1 for equal maps; NaN where q is all zeros. Windows are cut off, not padded, at the border."""
    dtype = torch.float64 if p.device.type == "cpu" else torch.float32
    x, y = minmax(p.to(dtype)), minmax(q.to(dtype))
    blur = partial(gaussian_blur, sigma=SSIM_SD, truncate=SSIM_RADIUS / SSIM_SD)
    inside = blur(torch.ones(x.shape[-2:]).to(x))  # share of the window that lies in the map
    mx, my = blur(x) / inside, blur(y) / inside
    vx, vy = blur(x * x) / inside - mx ** 2, blur(y * y) / inside - my ** 2
    cov = blur(x * y) / inside - mx * my
    c1, c2 = SSIM_C
    s = (2 * mx * my + c1) * (2 * cov + c2) / ((mx ** 2 + my ** 2 + c1) * (vx + vy + c2))
    return torch.where(q.flatten(-2).any(-1), s.mean((-2, -1)), torch.nan).cpu().double()


METRICS = {"kl": partial(kld, eps=EPS), "cc": cc, "sim": sim, "ssim": ssim}
SIGN = {"kl": 1, "cc": -1, "sim": -1, "ssim": -1}  # times the metric: the smaller, the more alike


def kl_sweep(attn: Tensor, fix_maps: Tensor, sigmas: Sequence[float], metric: Callable = METRICS["kl"],
             blur: str = "fixations") -> Tensor:
    """KL(human || attention) in nats of every participant, object, head and blur: (P, O, H, S) float64, NaN
    without a fixation. attn (O, H, h, w), fix_maps (P, O, h, w), sigmas in grid units (patches). metric:
    another one of METRICS; blur: the side that is smoothed, "fixations" or "attention", zeros around it."""
    values = []
    for sigma in sigmas:
        p = attn if blur == "fixations" else gaussian_blur(attn, sigma)  # (O, H, h, w)
        q = gaussian_blur(fix_maps, sigma) if blur == "fixations" else fix_maps  # (P, O, h, w)
        p, q = p[None], q[:, :, None]  # (1, O, H, h, w), (P, O, 1, h, w)
        if metric is not ssim:  # which blurs each map once, before they are paired
            p, q = (maps.flatten(0, 2) for maps in torch.broadcast_tensors(p, q))  # (P O H, h, w)
        values.append(metric(p, q).view(len(fix_maps), *attn.shape[:2]))  # (P, O, H)
    return torch.stack(values, -1)


def measure(batch: dict, model: nn.Module, blocks: list[int], sigmas: np.ndarray, blur: str,
            device: torch.device, dtype: torch.dtype) -> dict:
    """Attention of every head (B, H, h, w), fixation maps (B, P, h, w) and each metric (B, P, H, S) of the
    images of a batch."""
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        attn = cls_attention(model, batch["image"].to(device), blocks).flatten(1, 2).float()
    fix = batch["fix"].to(attn).transpose(0, 1)  # (P, B, h, w)
    found = {name: kl_sweep(attn, fix, sigmas, metric, blur).transpose(0, 1).float()
             for name, metric in METRICS.items()}
    kept = {name: batch[name] for name in ("fix", "coverage", "dropped", "cut_out", "readable")}
    return found | kept | {"attn": attn}


def usable(arrays: dict[str, np.ndarray], paths: Sequence[Path]) -> tuple:
    """(arrays, paths) of the readable images with a fixation on them, metrics as (P, O, H, S), and notes on
    what was left out. InputError: fewer than two maps of a participant are left."""
    absent = np.array([not path.is_file() for path in paths])
    unseen = ~arrays["fix"].any((1, 2, 3))
    reasons = np.select([absent, ~arrays["readable"], unseen], [
        "there are fixations, but no such image", "no readable image",
        "no fixation on it, all lie outside the image or have no coordinates"], "")
    notes = [f"{path.name}: {reason}" for path, reason in zip(paths, reasons) if reason]
    seen = reasons == ""
    if arrays["fix"][seen].any((2, 3)).sum() < 2:
        raise InputError(f"of the {len(paths)} images {seen.sum() or 'none'} can be used (first: "
                         f"{(notes or paths)[0]}), with fewer than two maps of a participant; check them and "
                         "the fixations' pixels.")
    dropped, cut_outs = (arrays.pop(name)[seen].sum() for name in ("dropped", "cut_out"))
    if dropped:
        notes.append(f"{dropped} fixations left out: outside the image or no coordinates")
    if cut_outs:
        notes.append(f"{cut_outs} images are cut-outs, laid on the colour of --background")
    arrays = {name: values[seen].astype(np.float64) for name, values in arrays.items()}
    arrays |= {name: arrays[name].swapaxes(0, 1) for name in METRICS}
    return arrays, [path for path, ok in zip(paths, seen) if ok], notes


def examples(paths: Sequence[Path], size: Sequence[int], background: tuple) -> dict[str, np.ndarray]:
    """Indices of EXAMPLES images, their pictures squashed to `size`, (n, img_h, img_w, 3) uint8."""
    chosen = np.unique(np.arange(EXAMPLES) * len(paths) // EXAMPLES)
    pictures = [np.asarray(as_seen(paths[i], background)[0].resize(size[::-1])) for i in chosen]
    return dict(examples=chosen, pictures=np.stack(pictures))


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


def crossed_bootstrap(values: np.ndarray, n_boot: int = N_BOOT, seed: int = 0) -> np.ndarray:
    """Means over participants and objects, (n_boot, ...), both drawn anew with replacement and independently
    (Owen 2007: both are samples from populations); values (P, O, ...), NaN = not seen. Draws in which nobody
    saw anything are drawn again; NaN where there is no seen pair at all."""
    (n_people, n_objects), rng = values.shape[:2], np.random.default_rng(seed)
    flat, out = values.reshape(n_people * n_objects, -1), []
    seen = ~np.isnan(flat[:, 0])  # a pair is NaN for all heads and sigmas, or for none
    if not seen.any():
        return np.full((n_boot, *values.shape[2:]), np.nan)
    while sum(map(len, out)) < n_boot:
        people = rng.multinomial(n_people, np.full(n_people, 1 / n_people), 100)  # (100, P)
        objects = rng.multinomial(n_objects, np.full(n_objects, 1 / n_objects), 100)
        weights = (people[:, :, None] * objects[:, None]).reshape(100, -1)[:, seen]
        weights = weights[weights.any(1)]
        out.append(weights @ flat[seen] / weights.sum(1, keepdims=True))
    return np.concatenate(out)[:n_boot].reshape(-1, *values.shape[2:])


def studentized_tail(q: np.ndarray, k: int, df: int) -> np.ndarray:
    """P(Q > q) of the studentized range of k groups, q (n,) >= 0. SciPy takes 10 ms a value: more values than
    TAIL_POINTS are read off a cubic spline through so many; error below 1e-6."""
    if len(q) <= TAIL_POINTS or not 0 < q.max() < np.inf:
        return stats.studentized_range.sf(q, k, df)
    u = np.linspace(0, q.max() / (4 + q.max()), TAIL_POINTS)  # u = q / (4 + q): dense where the tail is steep
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about integrals where the tail is 0
        spline = CubicSpline(u, stats.studentized_range.sf(4 * u / (1 - u), k, df))
    return spline(q / (4 + q)).clip(0, 1)


def anova(values: np.ndarray, heads: Sequence[str]) -> tuple[list[dict], dict[str, dict]]:
    """One-way ANOVA over heads of values (P, O, H), every seen pair one value, as the paper; eta2: share of
    the variance between heads. Then Tukey's HSD of every two heads: mean of a - b, its simultaneous 95 %
    interval, p. And {head: its mean less the least one, with the same interval}."""
    groups = values[~np.isnan(values[..., 0])].T  # (H, n)
    k, n = groups.shape
    df = k * (n - 1)
    f, p = stats.f_oneway(*groups)
    tests = [dict(test="ANOVA", F=f, df1=k - 1, df2=df, p=p, eta2=f * (k - 1) / (f * (k - 1) + df))]
    means, error = groups.mean(1), (groups.var(1, ddof=1).mean() / n) ** .5  # standard error of a mean
    half = error * stats.studentized_range.ppf(.95, k, df)  # of every interval
    a, b = np.triu_indices(k, 1)  # (pairs,) each
    difference = means[a] - means[b]
    for i, j, d, p in zip(a, b, difference, studentized_tail(abs(difference) / error, k, df)):
        tests.append(dict(test="Tukey HSD", head_a=heads[i], head_b=heads[j], difference=d,
                          ci=(d - half, d + half), p=p))
    return tests, {head: dict(ours=d, ci=(d - half, d + half), n=n)
                   for head, d in zip(heads, means - means.min())}


def lift_of(arrays: dict[str, np.ndarray], heads: Sequence[str]) -> tuple[np.ndarray, dict[str, dict]]:
    """Percent of attention, and last of people's gaze, on the object minus percent of the area it has:
    (O, H + 1), NaN where the object is unknown; and the mean of each head and of "people", empty for fewer
    than two objects."""
    maps = np.concatenate([arrays["attn"], arrays["fix"].sum(1, keepdims=True)], 1)  # (O, H + 1, h, w)
    share = (maps * arrays["coverage"][:, None]).sum((-2, -1)) / maps.sum((-2, -1))
    lift = 100 * share - 100 * arrays["coverage"].mean((1, 2))[:, None]  # (O, H + 1)
    known = lift[~np.isnan(lift[:, 0])]
    if len(known) < 2:
        return lift, {}
    return lift, {name: estimate(v) | {"p": stats.ttest_1samp(v, 0).pvalue}
                  for name, v in zip([*heads, "people"], known.T)}


def estimate_of(value: float, draws: np.ndarray, n: int, scale: float = 1.) -> dict:
    """scale times a value with the 95 % interval of its bootstrap draws."""
    return dict(ours=float(scale * value), ci=sorted(scale * np.quantile(draws, (.025, .975))), n=n)


def compare_heads(values: np.ndarray, sign: int, sigmas: np.ndarray, patch: int, heads: Sequence[str],
                  seed: int) -> dict:
    """One metric, values (P, O, H, S): its best sigma, and all heads there. sign: see SIGN."""
    cost = sign * values
    curves, n = np.nanmean(cost, (0, 1)), int((~np.isnan(cost[:, :, 0, 0])).sum())  # (H, S), pairs
    best, s = np.unravel_index(curves.argmin(), curves.shape)  # head, sigma
    draws = crossed_bootstrap(cost, seed=seed)  # (n_boot, H, S)
    at, width = best_sigma(curves[best], sigmas), best_sigma(draws[:, best], sigmas)
    mean_at, mean_width = best_sigma(curves.mean(0), sigmas), best_sigma(draws.mean(1), sigmas)
    means = {k: estimate_of(curves[i, s], draws[:, i, s], n, sign) for i, k in enumerate(heads)}
    return dict(sigma_index=s, sigma=estimate_of(at, width, n), sigma_px=estimate_of(at, width, n, patch),
                sigma_sd=dict(ours=float(width.std()), n=n),
                sigma_of_mean=estimate_of(mean_at, mean_width, n), heads=means,
                ranking=[heads[i] for i in curves[:, s].argsort()])


def compare(arrays: dict[str, np.ndarray], heads: Sequence[str], sigmas: np.ndarray, patch: int, seed: int
            ) -> tuple[dict, list[dict], np.ndarray]:
    """(What the claims and figures show; the tests of `anova` at KL's best sigma; lift, see `lift_of`)."""
    print("computing tables", flush=True)
    lift, lift_by_head = lift_of(arrays, heads)
    found = dict(heads=heads, sigmas=sigmas, lift=lift_by_head)
    for name in METRICS:
        found[name] = compare_heads(arrays[name], SIGN[name], sigmas, patch, heads, seed)
    found["best"] = found["kl"]["ranking"][0]
    tests, found["tukey"] = anova(arrays["kl"][..., found["kl"]["sigma_index"]], heads)
    found["anova"] = tests[0] | dict(n=found["kl"]["sigma"]["n"])
    return found, tests, lift


def ranked(found: dict, metric: str, place: int) -> dict:
    """Value of a claim: the head at a place of a metric's ranking."""
    name = found[metric]["ranking"][place]  # b11h03
    return dict(ours=f"block {int(name[1:3])}, head {int(name[-2:])}", n=found[metric]["sigma"]["n"])


def above_best(found: dict, place: int) -> dict:
    """Value of a claim: KL of a head less the best's, with Tukey's interval: it excludes 0 if p < .05."""
    return found["tukey"][found["kl"]["ranking"][place]]


def lifted(found: dict) -> dict | None:
    """Value of a claim: how many heads attend more to the object than its area, p <= .0001."""
    lifts = [v for name, v in found["lift"].items() if name != "people"]
    sure = [v for v in lifts if v["ours"] > 0 and v["p"] <= 1e-4]
    return dict(ours=f"{len(sure)} of {len(lifts)}", n=lifts[0]["n"]) if lifts else None


def highest_lifts(found: dict) -> dict | None:
    """Value of a claim: the least and the largest of the three highest lifts of a head."""
    highest = sorted(v["ours"] for name, v in found["lift"].items() if name != "people")[-3:]
    return dict(ours=(highest[0], highest[-1]), n=found["lift"]["people"]["n"]) if highest else None


CLAIMS = [  # "head 11 (#12)": the paper counts heads from 1
    Claim("best sigma, best head, KL", 2.4, "patches", lambda found: found["kl"]["sigma"]),
    Claim("  in pixels of the input", None, "px", lambda found: found["kl"]["sigma_px"]),
    Claim("  SD of the bootstrap", .03, "patches", lambda found: found["kl"]["sigma_sd"]),
    Claim("best sigma, mean of heads, KL", None, "patches", lambda found: found["kl"]["sigma_of_mean"]),
    Claim("ANOVA over heads, KL: F", None, "", lambda found: found["anova"] | dict(ours=found["anova"]["F"])),
    Claim("  its p", "significant", "", lambda found: found["anova"] | dict(ours=found["anova"]["p"])),
    Claim("worst head, KL", "heads 6, 8 (#7, #9)", "from 0", lambda found: ranked(found, "kl", -1)),
    Claim("  its KL less the best head's, Tukey", "> 0", "nats", lambda found: above_best(found, -1)),
    Claim("second worst head, KL", "heads 6, 8 (#7, #9)", "from 0", lambda found: ranked(found, "kl", -2)),
    Claim("  second worst's KL less the best head's, Tukey", "> 0", "nats",
          lambda found: above_best(found, -2)),
    *[Claim(f"best head, {name.upper()}", "head 11 (#12)", "from 0", partial(ranked, metric=name, place=0))
      for name in METRICS],
    Claim("KL of the best head", None, "nats", lambda found: found["kl"]["heads"][found["best"]]),
    Claim("lift of the best head", "30 to 40", "points", lambda found: found["lift"].get(found["best"])),
    Claim("lift of the three highest heads", "30 to 40 (#12, #1, #3)", "points", highest_lifts),
    Claim("heads with lift > 0, p <= .0001", "12 of 12", "", lifted)]


def image_rows(paths: Sequence[Path], arrays: dict[str, np.ndarray], lift: np.ndarray, found: dict) -> list:
    """Rows of per_image.csv, image x head: means over participants at each metric's best sigma; lift."""
    means = {name: np.nanmean(arrays[name][..., found[name]["sigma_index"]], 0) for name in METRICS}  # (O, H)
    return [{"image": path.name, "condition": head, **{name: means[name][o, i] for name in METRICS},
             "lift": lift[o, i]} for o, path in enumerate(paths) for i, head in enumerate(found["heads"])]


# -------------------------------------------------------------------------------- figures

def draw_sweep(arrays: dict[str, np.ndarray], summary: dict, colours: dict, folder: Path) -> None:
    """fig_sweep: every metric against sigma; a colour a head, the best and the worst thick, their mean, the
    optimum and its interval."""
    sigmas = summary["sigmas"]
    fig, axes = figure_grid(1, len(METRICS), 3.25, 3.4)
    for ax, name in zip(axes[0], METRICS):
        found, curves = summary[name], np.nanmean(arrays[name], (0, 1))  # (H, S)
        best, *_, worst = found["ranking"]
        for (head, colour), curve in zip(colours.items(), curves):
            ax.plot(sigmas, curve, color=colour, lw=2.5 if head in (best, worst) else 1, label=head)
        ax.plot(sigmas, curves.mean(0), "k--", lw=1, label="mean of heads")
        ax.axvspan(*found["sigma"]["ci"], color="black", alpha=.15, lw=0, label="optimum, 95 % CI")
        ax.axvline(found["sigma"]["ours"], color="black", lw=1)
        ax.set(xlabel=f"SD of the Gaussian\non the {summary['blur']} (patches)", ylabel=LABELS[name])
        ax.set_title(f"best: {best}\nworst: {worst}", fontsize=9)
    legend_beside(ax, ncols=1 + len(colours) // 20)
    save_figure(fig, folder / "fig_sweep")


def draw_heads(summary: dict, colours: dict, folder: Path) -> None:
    """fig_heads: every metric by head at its best sigma, and lift; best head of KL first."""
    panels = {f"{LABELS[name]} at sigma {summary['sigmas'][summary[name]['sigma_index']]:.1f}":
              summary[name]["heads"] for name in METRICS}
    if summary["lift"]:
        panels["lift (points), line: people's gaze"] = summary["lift"]
    ranking = summary["kl"]["ranking"]
    fig, axes = figure_grid(1, len(panels), 3.25, .8 + max(2.2, .22 * len(ranking)), sharey=True)
    for ax, (label, values) in zip(axes[0], panels.items()):
        for i, head in enumerate(ranking):
            ax.plot(values[head]["ci"], [i, i], color=colours[head], lw=1.5)
            ax.plot(values[head]["ours"], i, "o", color=colours[head])
        if "people" in values:
            ax.axvline(values["people"]["ours"], color="black")
            ax.axvspan(*values["people"]["ci"], color="black", alpha=.12, lw=0)
        ax.set(xlabel=f"{label}\nbars: 95 % CI", yticks=range(len(ranking)), yticklabels=ranking)
    axes[0, 0].set(ylabel="block, head, by KL", ylim=(len(ranking) - .5, -.5))  # the best at the top
    save_figure(fig, folder / "fig_heads")


def draw_examples(arrays: dict[str, np.ndarray], summary: dict, folder: Path) -> None:
    """fig_examples: some objects, people's gaze as it is compared at KL's best sigma, attention of the best,
    middle and worst head with the people's mean KL."""
    s, ranking = summary["kl"]["sigma_index"], summary["kl"]["ranking"]
    three = {"best": ranking[0], "middle": ranking[len(ranking) // 2], "worst": ranking[-1]}
    fig, axes = figure_grid(len(arrays["examples"]), 5, 2, 2.2)
    for row, picture, o in zip(axes, arrays["pictures"], arrays["examples"]):
        gaze, title = arrays["fix"][o].sum(0), "people's gaze"  # (h, w)
        if summary["blur"] == "fixations":
            gaze = gaussian_blur(gaze, summary["sigmas"][s]).numpy()
            title += f", sigma {summary['sigmas'][s]:.1f}"
        panels = {title: gaze}
        for word, name in three.items():
            head = summary["heads"].index(name)
            kl = np.nanmean(arrays["kl"][:, o, head, s])
            panels[f"{word}: {name}, KL {kl:.2f}"] = arrays["attn"][o, head]
        img_h, img_w = picture.shape[:2]
        row[0].imshow(picture)
        for ax, (title, values) in zip(row[1:], panels.items()):
            ax.imshow(picture.mean(-1), cmap="gray")
            ax.imshow(values, cmap="inferno", alpha=.7, interpolation="bilinear", extent=(0, img_w, img_h, 0))
            ax.set_title(title, fontsize=8)
        for ax in row:
            ax.axis("off")
    save_figure(fig, folder / "fig_examples")


def draw(arrays: dict[str, np.ndarray], results: dict, folder: Path) -> None:
    heads = results["summary"]["heads"]
    colours = dict(zip(heads, colormaps["turbo"](np.linspace(.05, .95, len(heads)))))  # one in all figures
    draw_sweep(arrays, results["summary"], colours, folder)
    draw_heads(results["summary"], colours, folder)
    draw_examples(arrays, results["summary"], folder)


# -------------------------------------------------------------------------------- main

def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__file__, __doc__, batch_size=8)
    add = parser.add_argument_group("study").add_argument
    add("--model", help="in weights.py, or auto (default: dino_vitb16, demo: demo_dino12)")
    add("--heads", type=int, help="heads of a block, with --model auto (default: known by its width)")
    add("--layer", type=int, nargs="+", help="blocks, from 0 (default: the last)")
    add("--size", type=int, nargs=2, metavar=("H", "W"),
        help="px of the model's input, rounded to whole patches (default: 480 480; demo: 224 224)")
    add("--sigmas", type=float, nargs=3, default=SIGMAS, metavar=("FIRST", "LAST", "STEP"),
        help="blur widths in patches (default: .1 4 .1)")
    add("--blur", choices=["fixations", "attention"], default="fixations",
        help="which of the two maps is smoothed (default: fixations)")
    add("--lost-at-zero", action="store_true",
        help="fixations at exactly (0, 0) are missing: the tracker lost the eye")
    add("--background", type=ImageColor.getrgb, default=(255, 255, 255), metavar="COLOUR",
        help="colour behind cut-outs, images with transparent pixels (default: white)")
    args = parse_args(parser, argv, paper=dict(model="dino_vitb16", size=SIZE),
                      demo=dict(model="demo_dino12", size=DEMO_SIZE))
    first, last, step = args.sigmas
    if min(first, step) <= 0 or last < first + 1.5 * step:
        raise InputError("--sigmas: expected positive numbers, and three widths or more.")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    init_distributed(device)
    if only_draw(args):
        return redraw(args.out, draw)

    # Images with every participant's fixations; a model, whose heads are compared; blur widths
    everything = load_data(args.data, args.lost_at_zero)
    gaze.check_units(everything[0][0].parents[1], gaze.looks_of(everything))
    items = everything[:args.limit]
    paths = [path for path, _ in items]
    check_pictures(items)
    people = sorted({person for _, fixations in items for person, *_ in fixations})
    model, preprocess, blocks, heads = load_model(args.model, args.weights, args.size, args.layer,
                                                 args.heads)
    grid = tuple(n // model.patch_size for n in preprocess.crop)
    first, last, step = args.sigmas
    sigmas = np.arange(first, last + step / 2, step).round(9)  # both ends

    # Every participant x object x head x sigma
    root = paths[0].parents[1]
    tables = [*sorted(root.glob("fixations.*")), *sorted(root.glob("masks/*"))]
    folder = begin(args, [*paths, *tables], model=model)
    images = Objects(items, people, grid, preprocess, args.background)
    how = partial(measure, model=model.to(device), blocks=blocks, sigmas=sigmas, blur=args.blur,
                  device=device, dtype=getattr(torch, args.dtype))
    arrays = in_batches(folder / "images", images, args.batch_size, how, args.workers)
    arrays, paths, notes = usable(arrays, paths)

    # The best sigma and head of each metric, ANOVA and Tukey over heads, lift, the paper's numbers
    found, tests, lift = compare(arrays, heads, sigmas, model.patch_size, args.seed)
    found["blur"] = args.blur
    notes += gaze.zero_note(gaze.at_zero(items))
    notes += [f"{LABELS[name]}: the best sigma is an end of the sweep, no optimum" for name in METRICS
              if found[name]["sigma"]["ours"] in (sigmas[0], sigmas[-1])]
    not_run = [] if found["lift"] else ["lift (fewer than two images with a mask or a plain background)"]
    finish(args, "exp06_gaze_objects", arrays | examples(paths, preprocess.crop, args.background),
           image_rows(paths, arrays, lift, found), evaluate(CLAIMS, found), draw, began, device, tests,
           not_run, summary=found, notes=notes, left_out=left_out(everything))


if __name__ == "__main__":
    cli(main)
