"""exp06: every attention head of a Vision Transformer against people's fixation heat maps on still objects.

Carrasco, González-Martín, Aranda & Oliveros (2026), "Vision Transformer attention alignment with human visual
perception in aesthetic object evaluation", PLOS ONE, doi 10.1371/journal.pone.0344006 (arXiv 2507.17616). 30
people looked at 20 objects (10 bags, 10 jars), 10 s each; DINO's 12 heads are compared with every person's
heat map over the width of its Gaussian. Measured for each participant x object x head x sigma: KL, CC, SIM,
SSIM. Then: the best sigma, the ranking of the heads, ANOVA and Tukey HSD, attention on the object (lift).

Commands
    laptop, demo world    python exp06_gaze_objects.py
    planted answer        python exp06_gaze_objects.py --simulate 0 1.5 300
    one GPU               python exp06_gaze_objects.py --data OBJECTS --model dino_vitb16
    several GPUs          torchrun --nproc_per_node 4 exp06_gaze_objects.py --data OBJECTS --model dino_vitb16
    OSIE, any weights     python exp06_gaze_objects.py --data OSIE --model auto --weights FILE --size 392 518
    heads of two blocks   the same with --layer 8 11
Data: OBJECTS/images/* and OBJECTS/fixations.csv (participant, image, x_px, y_px, duration_s; pixels from 0 at
the top left; an empty duration counts 1); where there are any, OBJECTS/masks/<image's stem>.png (object: not
0). Or OSIE as distributed: OSIE/fixations.mat and OSIE/stimuli/.
Result, in runs/exp06_gaze_objects/<tag>/ or --out: per_image.csv (object x head), sweep/ (all values, maps),
anova.csv, tukey.csv, results.json, fig_sweep, fig_heads, fig_tukey, fig_lift, fig_examples (.png, .pdf).
Time and memory, one CPU core: demo 15 s, 1.1 GB; OSIE at 392x518 px (350 images, 15 people, 6 heads, 30
widths) 7 to 13 min; the paper's sweep alone (30 x 20 x 12 x 40 x 4): 3 s on 14x14 patches, 13 s on 30x30.

Paper: best sigma 2.4 +- .03 (unit not stated); head 12 best, 7 and 9 worst, counted from 1; attention on the
object 30 to 40 points above its area for heads 12, 1, 3. Its pictures and gaze are not public. Demo (other
pictures, people and model): 3.0, the end of the sweep; head 4 best, 2 worst of 6; lift of the best 16 points.
Not stated in the abstracts and summary, so our choice: last block; 480x480 px (DINO's visualize_attention);
the Gaussian in patches and on the fixations (--blur attention: the other side); KL(human || attention), eps
1e-10; durations as weights; heads compared at the sigma of the least mean KL of any head; "+-" an SD of the
bootstrap. Beside the paper: a bootstrap over participants and objects, and Friedman's test over objects,
because the participant x object values of the ANOVA are not independent.
Two cautions: KL at two sigmas has two human maps, and wide ones favour flat heads; few fixations push the
best sigma up, since the blur also fills the gaps between them. --blur attention has neither fault: the human
side stays as it is, and sigma is a maximum-likelihood estimate (README.md has the numbers of --simulate).
"""
from __future__ import annotations

import argparse
import csv
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage, stats
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from common import (ImageList, InputError, Preprocess, VisionTransformer, barrier, bootstrap_ci, cc,
                    cls_attention, collate_readable, fixation_counts, gaussian_blur, init_distributed,
                    input_errors, kld, load_osie, load_vit, minmax, paired_t, pick_device, rank_world,
                    read_image, scale_fixations, shard, sim, upsample)
from legacy import (PALETTE, add_common_args, argument_parser, cli, demo_folder, figure_grid,
                     print_paper_vs_ours, read_arrays, read_csv, redraw, save_arrays, save_figure, slices,
                     start_run, write_csv, write_results)

# -------------------------------------------------------------------------------- constants

# Shapes: P participants, O objects (images), B of a batch, H heads of all blocks compared, S sigmas, h, w
# patch grid.
PAPER = dict(sigma=2.4, sigma_sd=.03, best_head=12, worst_heads="7, 9", lift="30 to 40")  # heads from 1
SIGMAS = .1, 3., .1  # first, last, step (arXiv abstract; the journal's 1,152,000 values mean 4.0), in patches
EPS = 1e-10  # in KL, added to attention and ratio; the paper's own is not stated
SIZE = 480, 480  # px, input of DINO's visualize_attention.py; the paper's own is not stated
DEMO_SIZE = 224, 224  # px, what the demo's models were trained on
SSIM_SD, SSIM_RADIUS, SSIM_K = 1.5, 5, (.01, .03)  # Wang et al. 2004: window of 11, here in patches
N_BOOT = 2000
PLAIN_RANGE, PLAIN_SHARE = 12, .95  # grey levels; share of border pixels within it on a plain background
EXAMPLES = 4  # rows of fig_examples
LABELS = {"kl": "KL (nats)", "cc": "CC", "sim": "SIM", "ssim": "SSIM"}

# -------------------------------------------------------------------------------- data

Gaze = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # participant -> rows, cols (px from 0), weights


def load_fixations(path: Path) -> dict[str, Gaze]:
    """Image name -> Gaze, of a fixations.csv. Empty coordinates become NaN, an empty duration 1."""
    names, found = ("participant", "image", "y_px", "x_px", "duration_s"), {}
    with input_errors(path, f"a CSV with the columns {', '.join(names)}, numbers in the last three"), \
            open(path, newline="", encoding="utf-8-sig") as f:
        rows = csv.DictReader(f)
        if missing := set(names[:4]) - set(rows.fieldnames or ()):
            raise ValueError(f"no column {', '.join(sorted(missing))} among {rows.fieldnames}")
        for row in rows:
            person, image, *numbers = ((row.get(n) or "").strip() for n in names)
            try:
                values = [float(v) if v else empty for v, empty in zip(numbers, (np.nan, np.nan, 1.))]
            except ValueError as e:
                raise ValueError(f"line {rows.line_num}: {e}") from None
            if not person or Path(image).name != image or not 0 <= values[2] < np.inf:
                raise ValueError(f"line {rows.line_num}: participant {person!r}, duration {values[2]}, image "
                                 f"{image!r} (expected: not empty, 0 or more, a file name without folders)")
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


def fixation_maps(gaze: Gaze, participants: list[str], size: tuple[int, int], grid: tuple[int, int]
                  ) -> tuple[Tensor, int]:
    """Seconds in every patch, (P, h, w), and how many fixations were dropped: outside the image or NaN.
    size: the image file's (img_h, img_w). Who never looked: zeros."""
    maps, kept, total = torch.zeros(len(participants), *grid, dtype=torch.float64), 0, 0
    for i, name in enumerate(participants):
        if name in gaze:
            rows, cols, seconds = gaze[name]
            rows, cols = scale_fixations(rows, cols, size, grid)
            maps[i] = fixation_counts(rows, cols, grid, seconds)
            kept, total = kept + int(fixation_counts(rows, cols, grid).sum()), total + len(rows)
    return maps, total - kept


def object_mask(image: np.ndarray, mask_file: Path | None = None) -> np.ndarray | None:
    """Where the object is, (img_h, img_w) bool, of an image (img_h, img_w, 3) uint8; None if that is unknown.

    From the mask file (not 0) or, before a plain background, the largest region whose colour differs from the
    border's median by more than PLAIN_RANGE in some channel, holes filled.
    """
    if mask_file is not None and mask_file.is_file():
        mask = np.asarray(read_image(mask_file)).any(-1)
        if mask.shape != image.shape[:2]:
            raise InputError(f"{mask_file} has {mask.shape} pixels, its image {image.shape[:2]}; they must "
                             "have the same height and width.")
        return mask
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).astype(float)  # (n, 3)
    colour = np.median(border, 0)
    if (np.abs(border - colour).max(1) <= PLAIN_RANGE).mean() < PLAIN_SHARE:
        return None
    regions, n = ndimage.label(np.abs(image - colour).max(-1) > PLAIN_RANGE)
    if n == 0:
        return None
    return ndimage.binary_fill_holes(regions == 1 + np.bincount(regions.ravel())[1:].argmax())


# -------------------------------------------------------------------------------- model

def model_for(name: str, weights: Path | None, size: tuple[int, int]) -> tuple[VisionTransformer, Preprocess]:
    """The model and a preprocessing that squashes any image to `size`, rounded to whole patches.

    No crop: every fixation stays. An image of another aspect ratio is distorted, its fixations with it.
    """
    model, preprocess = load_vit(name, weights)
    crop = tuple(max(1, round(n / model.patch_size)) * model.patch_size for n in size)
    return model, replace(preprocess, crop=crop, squash=True)


# -------------------------------------------------------------------------------- measure

def ssim(p: Tensor, q: Tensor, crop: int = 0) -> Tensor:
    """Structural similarity (Wang et al. 2004) of maps (..., h, w), broadcast; each scaled to [0, 1] first.

    In [-1, 1], 1 for equal maps. Windows are cut off, not padded, at the map's border; crop leaves out that
    many patches on each side (5: whole windows only, as scikit-image does). NaN where q is all zeros.
    """
    dtype = torch.float64 if p.device.type == "cpu" else torch.float32
    x, y = minmax(p.to(dtype)), minmax(q.to(dtype))
    blur = partial(gaussian_blur, sigma=SSIM_SD, truncate=SSIM_RADIUS / SSIM_SD)
    inside = blur(torch.ones(x.shape[-2:]).to(x))  # share of the window that lies in the map

    def local(m: Tensor) -> Tensor:
        return blur(m) / inside
    mx, my, (c1, c2) = local(x), local(y), (k ** 2 for k in SSIM_K)
    vx, vy, cov = local(x * x) - mx ** 2, local(y * y) - my ** 2, local(x * y) - mx * my
    s = (2 * mx * my + c1) * (2 * cov + c2) / ((mx ** 2 + my ** 2 + c1) * (vx + vy + c2))
    s = s[..., crop:s.shape[-2] - crop, crop:s.shape[-1] - crop].mean((-2, -1))
    return torch.where(q.flatten(-2).any(-1), s, torch.nan).cpu().double()


METRICS = {"kl": partial(kld, eps=EPS), "cc": cc, "sim": sim, "ssim": ssim}
SIGN = {"kl": 1, "cc": -1, "sim": -1, "ssim": -1}  # times the metric: the smaller the more alike


def metric_sweep(attn: Tensor, fix_maps: Tensor, sigmas, metric, blur: str = "fixations") -> Tensor:
    """A metric for every participant, object, head and blur: (P, O, H, S) float64, NaN without a fixation.

    attn (O, H, h, w), fix_maps (P, O, h, w), sigmas in grid units (patches). metric(model, human), as in
    METRICS. blur: which side the Gaussian smooths, "fixations" or "attention" (zeros beyond the border).
    """
    pairs = len(fix_maps) * attn.shape[1] * attn[0, 0].numel()
    some = max(1, 2**18 // pairs) if attn.device.type == "cpu" else len(attn)  # objects; fits a CPU's cache
    values = [[] for _ in sigmas]
    for a, f in zip(attn.split(some), fix_maps.split(some, 1)):
        for column, sigma in zip(values, sigmas):
            p, q = a[None], f[:, :, None]  # (1, o, H, h, w), (P, o, 1, h, w)
            p, q = (p, gaussian_blur(q, sigma)) if blur == "fixations" else (gaussian_blur(p, sigma), q)
            if metric is ssim:
                column.append(ssim(p, q))  # (P, o, H)
            else:
                p, q = torch.broadcast_tensors(p, q)
                column.append(metric(p.flatten(0, 2), q.flatten(0, 2)).view(p.shape[:3]))
    return torch.stack([torch.cat(column, 1) for column in values], -1)


def kl_sweep(attn: Tensor, fix_maps: Tensor, sigmas, eps: float = EPS, blur: str = "fixations") -> Tensor:
    """KL(human || attention) in nats, both of sum 1: metric_sweep of common.kld, (P, O, H, S)."""
    return metric_sweep(attn, fix_maps, sigmas, partial(kld, eps=eps), blur)


def simulate(attn: Tensor, head: int, sigma: float, n: int, blur: str, participants: int,
             seeds: list[tuple]) -> tuple[Tensor, Tensor]:
    """(attn, fix_maps) with a known answer: people follow head `head`, a Gaussian of `sigma` lies between.

    attn (O, H, h, w); n fixations a person, drawn at patches, fix_maps (P, O, h, w). The side that the sweep
    is going to blur stays sharp, the other one is blurred here, so that `sigma` makes both agree.
    """
    sharp, blurred = attn.cpu().double(), gaussian_blur(attn.cpu().double(), sigma)
    seen_by_people, seen_by_model = (sharp, blurred) if blur == "fixations" else (blurred, sharp)
    density = seen_by_people[:, head].flatten(1).numpy()  # (O, h w)
    fix = np.stack([np.random.default_rng(seed).multinomial(n, d / d.sum(), participants)
                    for seed, d in zip(seeds, density)], 1)  # (P, O, h w)
    return seen_by_model.to(attn), torch.from_numpy(fix).view(participants, *attn[:, 0].shape).to(attn)


def part_file(folder: Path, image: str) -> Path:
    return folder / "sweep" / f"{image}.npz"


@torch.no_grad()
def measure(model: VisionTransformer, preprocess: Preprocess, items: list[tuple[Path, Gaze]], folder: Path,
            sigmas: np.ndarray, blocks: list[int], device: torch.device, blur: str, planted: tuple | None,
            batch: int, workers: int, bf16: bool, seed: int) -> None:
    """One file an image in folder/sweep: attn (H, h, w), fix (P, h, w), coverage of the patches by the object
    (h, w; NaN if unknown), dropped fixations, and each metric (P, H, S). An unreadable image gets none.

    Processes share the images. A batch with all files there is skipped, any other done whole, so that a
    resumed run sees the same batches. planted: (head, sigma, n), see `simulate`.
    """
    grid = tuple(n // model.patch_size for n in preprocess.crop)
    people = sorted({p for _, gaze in items for p in gaze})
    mine = shard([(path, gaze, i) for i, (path, gaze) in enumerate(items)])
    batches = [b for b in slices(range(len(mine)), batch)
               if not all(part_file(folder, mine[i][0].name).exists() for i in b)]
    loader = DataLoader(ImageList(mine, preprocess), batch_sampler=batches, num_workers=workers,
                        collate_fn=collate_readable)
    for x, index, _ in tqdm(loader, unit="batch", disable=rank_world()[0] > 0):
        if not len(index):
            continue
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            attn = cls_attention(model, x.to(device), blocks).flatten(1, 2).float()  # (B, H, h, w)
        paths, gazes, numbers = zip(*(mine[i] for i in index))
        images = [np.asarray(read_image(path)) for path in paths]
        maps, dropped = zip(*(fixation_maps(gaze, people, image.shape[:2], grid)
                              for gaze, image in zip(gazes, images)))
        fix = torch.stack(maps, 1).to(attn)  # (P, B, h, w)
        if planted:
            attn, fix = simulate(attn, *planted, blur, len(people), [(seed, i) for i in numbers])
        values = {name: metric_sweep(attn, fix, sigmas, m, blur) for name, m in METRICS.items()}
        for b, path in enumerate(paths):
            mask = object_mask(images[b], path.parents[1] / "masks" / f"{path.stem}.png")
            coverage = np.full(grid, np.nan) if mask is None else \
                F.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), grid)[0].numpy()
            arrays = dict(attn=attn[b], fix=fix[:, b], **{k: v[:, b].float() for k, v in values.items()})
            save_arrays(part_file(folder, path.name), coverage=coverage, dropped=0 if planted else dropped[b],
                        **arrays)


def load_sweep(folder: Path, images: list[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Names and arrays of the images with a file and any fixation: attn (O, H, h, w), fix (P, O, h, w),
    coverage (O, h, w), dropped (O,), kl, cc, sim, ssim (P, O, H, S); float64."""
    found = {name: read_arrays(file) for name in images if (file := part_file(folder, name)).exists()}
    with input_errors(folder, "the parts of a run; remove them or choose another --out"):
        found = {name: part for name, part in found.items() if part["fix"].any()}
    if not found:
        raise InputError(f"none of {len(images)} images ({', '.join(images[:3])} ...) can be read and has a "
                         "fixation on it; check the names and pixels in the fixation file, and the images.")
    parts = list(found.values())
    return list(found), {k: np.stack([p[k].astype(np.float64) for p in parts],
                                     0 if k in ("attn", "coverage", "dropped") else 1) for k in parts[0]}


def save_examples(paths: list[Path], size: tuple[int, int], folder: Path) -> None:
    """EXAMPLES pictures evenly spaced, squashed to `size`, (n, img_h, img_w, 3) uint8, in examples.npz."""
    chosen = sorted({i * len(paths) // EXAMPLES for i in range(EXAMPLES)})
    images = [read_image(paths[i]).resize(size[::-1], Image.Resampling.BICUBIC) for i in chosen]
    save_arrays(folder / "examples.npz", images=np.stack([np.asarray(i) for i in images]), chosen=chosen)


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


def interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, (.025, .975))
    return float(low), float(high)


def anova(values: np.ndarray) -> dict:
    """One-way ANOVA over heads of values (P, O, H), every seen pair one value, as the paper; eta2 = share of
    the variance between heads. And Friedman's test of the objects' means, which allows for their pairing."""
    groups = values[~np.isnan(values[..., 0])].T  # (H, n)
    n_heads, n = groups.shape
    means = np.nanmean(values, 0)  # (O, H)
    f, p = stats.f_oneway(*groups)
    ranks = stats.friedmanchisquare(*means.T) if n_heads > 2 and len(means) > 1 else (np.nan, np.nan)
    spread = n * ((groups.mean(1) - groups.mean()) ** 2).sum()
    return dict(F=float(f), df1=n_heads - 1, df2=n_heads * (n - 1), p=float(p), n=n,
                eta2=float(spread / ((groups - groups.mean()) ** 2).sum()),
                friedman_chi2=float(ranks[0]), friedman_p=float(ranks[1]), objects=len(means))


def tukey(values: np.ndarray, heads: list[str]) -> list[dict]:
    """Tukey's HSD of all pairs of heads, values (P, O, H): rows head_a, head_b, mean difference a - b with
    its simultaneous 95 % interval, p."""
    found = stats.tukey_hsd(*values[~np.isnan(values[..., 0])].T)
    ci = found.confidence_interval()
    return [dict(head_a=heads[i], head_b=heads[j], difference=found.statistic[i, j], low=ci.low[i, j],
                 high=ci.high[i, j], p=found.pvalue[i, j])
            for i in range(len(heads)) for j in range(i + 1, len(heads))]


def shares(data: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of attention (O, H) and of the people's gaze (O,) on the object, and its area's share (O,)."""
    coverage = data["coverage"]

    def on_object(maps: np.ndarray) -> np.ndarray:  # (O, ..., h, w)
        weight = coverage.reshape(len(coverage), *[1] * (maps.ndim - 3), *coverage.shape[1:])
        total = maps.sum((-2, -1))
        return (maps * weight).sum((-2, -1)) / np.where(total > 0, total, np.nan)
    gaze = on_object(data["fix"].sum(0))
    return on_object(data["attn"]), gaze, coverage.mean((1, 2))


def analyse(data: dict[str, np.ndarray], sigmas: np.ndarray, heads: list[str], every_sigma: bool,
            seed: int) -> tuple[dict, list[dict], list[dict], list[dict]]:
    """(summary, tests, rows of anova.csv, rows of tukey.csv). Heads are compared for each metric at its own
    optimum, with every_sigma at each sigma too."""
    n = int((~np.isnan(data["kl"][:, :, 0, 0])).sum())
    if n < 2 or len(heads) < 2:
        raise InputError(f"{len(heads)} heads, {n} participant-image pairs: comparing needs two of each.")
    summary, tests, anovas, pairs = {"metrics": {}}, [], [], []
    for name in METRICS:
        cost = SIGN[name] * data[name]  # (P, O, H, S), least where most alike
        head, s = optimum(cost)
        draws, curves = crossed_bootstrap(cost, seed=seed), np.nanmean(cost, (0, 1))  # (n_boot, H, S), (H, S)
        at = best_sigma(curves, sigmas)
        joint = draws.min(-1).argmin(1)  # best head of each draw
        widths, means = best_sigma(draws[:, head], sigmas), SIGN[name] * curves[:, s]
        summary["metrics"][name] = dict(
            best_head=heads[head], best_head_in_bootstrap=float((joint == head).mean()),
            sigma=float(at[head]), sigma_ci=interval(widths), sigma_sd=float(widths.std()),
            sigma_index=s, at_end_of_sweep=s in (0, len(sigmas) - 1),
            sigma_of_mean=float(best_sigma(curves.mean(0), sigmas)),
            sigma_of_mean_ci=interval(best_sigma(draws.mean(1), sigmas)),
            sigma_of_heads=dict(zip(heads, at.tolist())),
            ranking=[heads[i] for i in curves[:, s].argsort()], means=dict(zip(heads, means.tolist())),
            ci={k: sorted(SIGN[name] * v for v in interval(draws[:, i, s])) for i, k in enumerate(heads)})
        for j in range(len(sigmas)) if every_sigma else [s]:
            row = dict(metric=name, sigma=round(float(sigmas[j]), 6), **anova(data[name][..., j]))
            some = [dict(metric=name, sigma=row["sigma"], **r) for r in tukey(data[name][..., j], heads)]
            row |= dict(tukey_pairs=len(some), tukey_below_05=sum(r["p"] < .05 for r in some),
                        best=heads[curves[:, j].argmin()], worst=heads[curves[:, j].argmax()])
            anovas.append(row)
            pairs += some
            if j == s:
                tests.append(dict(name=f"ANOVA over heads, {name} at its best sigma", **row))
    return summary, tests, anovas, pairs


def lift_tests(data: dict[str, np.ndarray], heads: list[str], seed: int) -> dict | None:
    """Attention (and gaze) on the object minus its area share, points, over the objects with a region; None
    for fewer than two."""
    known = ~np.isnan(data["coverage"][:, 0, 0])
    if known.sum() < 2:
        return None
    attention, gaze, area = (100 * v[known] for v in shares(data))
    out = {"objects": int(known.sum()), "area": float(area.mean()), "heads": {}}
    for name, share in [*zip(heads, attention.T), ("people", gaze)]:
        test = paired_t(share, area)
        out["heads"][name] = dict(lift=float(np.nanmean(share - area)), t=test["t"], p=test["p"],
                                  ci=bootstrap_ci(share - area, seed=seed))
    out["people"] = out["heads"].pop("people")
    return out


def headline(summary: dict, n: int) -> list[dict]:
    """The study's numbers beside the paper's; heads are counted from 1 as there."""
    kl, lift, patch = summary["metrics"]["kl"], summary["lift"], summary["patch"]
    first, last = kl["ranking"][0], kl["ranking"][-1]

    many = len(summary["blocks"]) > 1  # then a number alone would not tell which head
    unit = "block, head from 0" if many else "head from 1"

    def number(head: str):
        return head if many else int(head.split("h")[1]) + 1
    sigma, ci, mean, mean_ci = (kl[k] for k in ("sigma", "sigma_ci", "sigma_of_mean", "sigma_of_mean_ci"))
    rows = [("best sigma, best head, KL", PAPER["sigma"], sigma, ci, n, "patches"),
            ("  in pixels of the input", None, patch * sigma, [patch * v for v in ci], n, "px"),
            ("  SD of the bootstrap", PAPER["sigma_sd"], kl["sigma_sd"], None, n, "patches"),
            ("best sigma, mean of heads, KL", None, mean, mean_ci, n, "patches"),
            ("worst head, KL", PAPER["worst_heads"], number(last), None, n, unit)]
    rows += [(f"best head, {k.upper()}", PAPER["best_head"], number(v["best_head"]), None, n, unit)
             for k, v in summary["metrics"].items()]
    rows += [("KL of the best head", None, kl["means"][first], kl["ci"][first], n, "nats")]
    if lift:
        top, sure = lift["heads"][first], [v["lift"] > 0 and v["p"] <= 1e-4 for v in lift["heads"].values()]
        rows += [("lift of the best head", PAPER["lift"], top["lift"], top["ci"], lift["objects"], "points"),
                 ("heads with lift > 0, p <= .0001", "12 of 12", f"{sum(sure)} of {len(sure)}", None,
                  lift["objects"], "")]
    return [dict(zip(("name", "paper", "ours", "ci", "n", "unit"), row)) for row in rows]


def image_rows(names: list[str], data: dict[str, np.ndarray], heads: list[str], summary: dict) -> list[dict]:
    """Rows of per_image.csv: means over participants at each metric's best sigma, and shares in %."""
    attention, gaze, area = (100 * v for v in shares(data))
    means = {k: np.nanmean(data[k][..., summary["metrics"][k]["sigma_index"]], 0) for k in METRICS}
    people = (~np.isnan(data["kl"][:, :, 0, 0])).sum(0)
    return [{"image": name, "condition": head, "participants": int(people[o]),
             **{k: means[k][o, i] for k in METRICS}, "attention_on_object": attention[o, i],
             "gaze_on_object": gaze[o], "object_area": area[o], "lift": attention[o, i] - area[o]}
            for o, name in enumerate(names) for i, head in enumerate(heads)]


def summarise(folder: Path, items: list[tuple[Path, Gaze]], setting: dict, every_sigma: bool, seed: int
              ) -> tuple[dict, list[dict]]:
    """(summary, tests) of the files of `measure`; writes per_image.csv, anova.csv, tukey.csv, examples.npz.
    setting: heads, sigmas, size, ... of the run, which become part of the summary."""
    heads, sigmas = setting["heads"], np.array(setting["sigmas"])
    names, data = load_sweep(folder, [path.name for path, _ in items])
    summary, tests, anovas, pairs = analyse(data, sigmas, heads, every_sigma, seed)
    problems = [{"image": path.name, "problem": "unreadable, or no fixation on it: left out"}
                for path, _ in items if path.name not in names]
    problems += [{"image": name, "problem": f"{n:.0f} fixations outside the image or empty: left out"}
                 for name, n in zip(names, data["dropped"]) if n]
    summary |= setting | dict(lift=lift_tests(data, heads, seed), images=names, problems=problems,
                              participants=len(data["kl"]))
    save_examples([path for path, _ in items if path.name in names], setting["size"], folder)
    for name, rows in (("per_image", image_rows(names, data, heads, summary)), ("anova", anovas),
                       ("tukey", pairs)):
        write_csv(rows, folder / f"{name}.csv")
    return summary, tests


def report(summary: dict, n_images: int) -> None:
    """What was compared, what could not be used, and which optimum lies at an end of the sweep."""
    blocks, (img_h, img_w) = ", ".join(map(str, summary["blocks"])), summary["size"]
    print(f"block {blocks} (from 0), {len(summary['heads'])} heads, {len(summary['images'])} of {n_images} "
          f"images, {summary['participants']} participants, input {img_h}x{img_w} px, patches of "
          f"{summary['patch']} px, Gaussian on the {summary['blur']}")
    for problem in summary["problems"]:
        print(f"{problem['image']}: {problem['problem']}")
    for name, found in summary["metrics"].items():
        if found["at_end_of_sweep"]:
            print(f"{LABELS[name]}: the best sigma, {found['sigma']:.2f}, is an end of the sweep, no optimum")
    print("by KL, best first: " + " ".join(summary["metrics"]["kl"]["ranking"]))


# -------------------------------------------------------------------------------- figures

def head_colours(ranking: list[str]) -> dict[str, str]:
    """Best head blue, second and third lighter, worst orange, the rest grey."""
    colours = dict.fromkeys(ranking, "#c8c8c8")
    colours |= dict(zip(ranking[:3], (PALETTE["attention"], "#6baed6", "#9ecae1")))
    return colours | {ranking[-1]: PALETTE["sl"]}


def draw_sweep(data: dict, summary: dict, folder: Path) -> None:
    """fig_sweep: every metric against sigma, a line a head, their mean, the optimum and its interval."""
    patch, sigmas = summary["patch"], np.array(summary["sigmas"])
    fig, axes = figure_grid(1, len(METRICS), 3.25, 3.9)
    for ax, name in zip(axes[0], METRICS):
        found, curves = summary["metrics"][name], np.nanmean(data[name], (0, 1))  # (H, S)
        order, colours = found["ranking"], head_colours(found["ranking"])
        for head in reversed(order):
            label = head if head in (*order[:3], order[-1]) else None
            ax.plot(sigmas, curves[summary["heads"].index(head)], color=colours[head], label=label)
        ax.plot(sigmas, curves.mean(0), "k--", lw=1, label="mean of heads")
        ax.axvspan(*found["sigma_ci"], color=colours[order[0]], alpha=.2, lw=0, label="optimum, 95 % CI")
        ax.axvline(found["sigma"], color=colours[order[0]], lw=1)
        ax.set(xlabel=f"SD of the blur of the {summary['blur']} (patches)", ylabel=LABELS[name])
        top = ax.secondary_xaxis("top", functions=(lambda s: s * patch, lambda px: px / patch))
        top.set_xlabel("SD (px of the input)")
        ax.legend(loc="upper center", bbox_to_anchor=(.5, -.2), ncol=2, frameon=False, fontsize=7)
    save_figure(fig, folder / "fig_sweep")


def draw_heads(summary: dict, folder: Path) -> None:
    """fig_heads: mean of every metric by head at the metric's best sigma, best of KL first, 95 % intervals of
    the bootstrap over participants and objects."""
    order = summary["metrics"]["kl"]["ranking"]
    colours = head_colours(order)
    fig, axes = figure_grid(1, len(METRICS), 3.25, .8 + max(2.2, .22 * len(order)), sharey=True)
    for ax, name in zip(axes[0], METRICS):
        found = summary["metrics"][name]
        for i, head in enumerate(order):
            ax.plot(found["ci"][head], [i, i], color="#555555", lw=1)
            ax.plot(found["means"][head], i, "o", color=colours[head], markeredgecolor="#555555")
        sigma = summary["sigmas"][found["sigma_index"]]
        ax.set(xlabel=f"{LABELS[name]} at sigma {sigma:.1f}, bars: 95 % CI")
    axes[0, 0].set(yticks=range(len(order)), yticklabels=order, ylabel="block and head (from 0), by KL")
    axes[0, 0].invert_yaxis()
    save_figure(fig, folder / "fig_heads")


def draw_tukey(summary: dict, folder: Path) -> None:
    """fig_tukey: p of Tukey's HSD for every pair of heads at each metric's best sigma, best of KL first."""
    order, rows = summary["metrics"]["kl"]["ranking"], read_csv(folder / "tukey.csv")
    n, side = len(order), max(2.4, min(6, .42 * len(order)))
    fig, axes = figure_grid(1, len(METRICS), side + .25, side + .8, sharey=True)
    for ax, name in zip(axes[0], METRICS):
        sigma, p = summary["sigmas"][summary["metrics"][name]["sigma_index"]], np.full((n, n), np.nan)
        for r in rows:
            if r["metric"] == name and abs(r["sigma"] - sigma) < 1e-5:
                i, j = order.index(r["head_a"]), order.index(r["head_b"])
                p[i, j] = p[j, i] = r["p"]
        shown = ax.imshow(np.log10(np.maximum(p, 1e-4)), cmap="viridis", vmin=-4, vmax=0)
        for i, j in np.argwhere(p >= .05) if n <= 16 else ():
            text = f"{p[i, j]:.2f}"[1:] if p[i, j] < .995 else "1"
            ax.text(j, i, text, ha="center", va="center", fontsize=6)
        ax.set(title=f"{LABELS[name]}, sigma {sigma:.1f}", xticks=range(n), yticks=range(n))
        ax.set_xticklabels(order, rotation=90, fontsize=7)
        ax.set_yticklabels(order, fontsize=7)
    axes[0, 0].set_ylabel("block and head (from 0), by KL")
    bar = fig.colorbar(shown, ax=axes, ticks=[-4, -3, -2, np.log10(.05), 0], fraction=.02)
    bar.ax.set_yticklabels(["≤ .0001", ".001", ".01", ".05", "1"])
    bar.set_label("p, Tukey's HSD (numbers: p ≥ .05)")
    save_figure(fig, folder / "fig_tukey")


def draw_lift(summary: dict, folder: Path) -> None:
    """fig_lift: attention on the object minus the object's area share, a bar a head, best of KL first; the
    people's gaze as a line; 95 % intervals of a bootstrap over objects."""
    lift, order = summary["lift"], summary["metrics"]["kl"]["ranking"]
    means = np.array([lift["heads"][h]["lift"] for h in order])
    low, high = np.array([lift["heads"][h]["ci"] for h in order]).T
    fig, ((ax,),) = figure_grid(1, 1, max(4.5, .45 * len(order) + 1.5), 3.4)
    ax.bar(range(len(order)), means, color=[head_colours(order)[h] for h in order],
           yerr=np.maximum([means - low, high - means], 0), error_kw=dict(lw=1))
    ax.axhline(lift["people"]["lift"], color=PALETTE["human"], lw=1.2, label="people's gaze")
    ax.axhspan(*lift["people"]["ci"], color=PALETTE["human"], alpha=.12, lw=0)
    ax.axhline(0, color="#555555", lw=.8)
    ax.set(xticks=range(len(order)), ylabel="share on the object minus\nits area share (points)",
           xlabel=f"block and head (from 0), by KL\nbars: 95 % CI over {lift['objects']} objects")
    ax.set_xticklabels(order, rotation=90)
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(.5, 1))
    save_figure(fig, folder / "fig_lift")


def draw_examples(data: dict, summary: dict, folder: Path) -> None:
    """fig_examples: objects, the people's summed map, the blurred side (gaze or best head) at the best sigma,
    three heads with the people's mean KL; pictures from examples.npz."""
    images, chosen = read_arrays(folder / "examples.npz").values()
    found = summary["metrics"]["kl"]
    three = [found["ranking"][i] for i in (0, len(found["ranking"]) // 2, -1)]
    index, sigma = [summary["heads"].index(h) for h in three], summary["sigmas"][found["sigma_index"]]
    fix = torch.from_numpy(data["fix"][:, chosen].sum(0))  # (n, h, w)
    attn = torch.from_numpy(data["attn"][chosen][:, index])  # (n, 3, h, w)
    smooth = gaussian_blur(fix if summary["blur"] == "fixations" else attn[:, 0], sigma)
    maps = torch.cat([fix[:, None], smooth[:, None], attn], 1)  # (n, 5, h, w)
    kl = np.nanmean(data["kl"][:, chosen, :, found["sigma_index"]], 0)[:, index]  # (n, 3)
    titles = ["gaze", f"{'gaze' if summary['blur'] == 'fixations' else three[0]}, sigma {sigma:.1f}",
              *map("{} ({})".format, three, ("best", "middle", "worst"))]
    img_h, img_w = images.shape[1:3]
    fig, axes = figure_grid(len(images), 6, 2, 2 * img_h / img_w + .1)
    for row, image, some, values in zip(axes, images, minmax(upsample(maps, (img_h, img_w))), kl):
        row[0].imshow(image)
        for ax, m in zip(row[1:], some.numpy()):
            ax.imshow(image.mean(-1), cmap="gray", vmin=0, vmax=255)
            ax.imshow(m, cmap="inferno", alpha=.25 + .65 * m)
        for ax, value in zip(row[3:], values):
            ax.text(.03, .04, f"KL {value:.2f}", transform=ax.transAxes, fontsize=8,
                    bbox=dict(facecolor="white", alpha=.8, lw=0, pad=1.5))
    for ax, title in zip(axes[0], ["object", *titles]):
        ax.set_title(title, fontsize=9)
    save_figure(fig, folder / "fig_examples", pictures=True)


def draw_all(folder: Path, summary: dict) -> None:
    """All figures, from the files of a run and the summary in its results.json."""
    _, data = load_sweep(folder, summary["images"])
    draw_sweep(data, summary, folder)
    draw_heads(summary, folder)
    draw_tukey(summary, folder)
    if summary["lift"]:
        draw_lift(summary, folder)
    draw_examples(data, summary, folder)


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argument_parser(__doc__)
    add_common_args(p, batch_size=8)
    add = p.add_argument_group("study").add_argument
    add("--model", help="in common.WEIGHTS, or auto (default: dino_vitb16, demo: demo_dino12)")
    add("--layer", type=int, nargs="+", help="blocks, from 0 (default: the last)")
    add("--size", type=int, nargs=2, metavar=("H", "W"),
        help="px of the model's input, rounded to whole patches (default: 480 480; demo: 224 224)")
    add("--sigmas", type=float, nargs=3, default=SIGMAS, metavar=("FIRST", "LAST", "STEP"),
        help="blur widths in patches (default: .1 3 .1)")
    add("--blur", choices=["fixations", "attention"], default="fixations",
        help="which of the two maps is smoothed (default: fixations)")
    add("--every-sigma", action="store_true", help="ANOVA and Tukey at every sigma, too")
    add("--simulate", type=float, nargs=3, metavar=("HEAD", "SIGMA", "N"),
        help="people are replaced: N fixations each where HEAD (from 0) attends, at blur SIGMA")
    args = p.parse_args(argv)
    args.model = args.model or ("demo_dino12" if args.data == "demo" else "dino_vitb16")
    args.size = args.size or list(DEMO_SIZE if args.data == "demo" else SIZE)
    first, last, step = args.sigmas
    if not (0 < first and step > 0 and last > first + 1.5 * step) or min(args.size) < 1:
        raise InputError(f"--sigmas {first:g} {last:g} {step:g}, --size {args.size}: expected positive "
                         "numbers and three widths or more.")
    if args.simulate and not (args.simulate[1] > 0 and args.simulate[2] >= 1):
        raise InputError(f"--simulate {args.simulate}: expected a positive sigma and a fixation or more.")
    return args


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    rank, world = init_distributed(device)
    tag = [Path(args.data).resolve().name, args.model, *["simulated"] * bool(args.simulate),
           *["blur-attention"] * (args.blur == "attention"), *[f"limit{args.limit}"] * bool(args.limit)]
    begin = partial(start_run, args, "exp06_gaze_objects", "_".join(tag), parts=["sweep/*.npz"])
    if args.plot_only:
        return redraw(folder := begin(), lambda results: draw_all(folder, results["summary"]))
    items = load_data(args.data)[:args.limit]
    model, preprocess = model_for(args.model, args.weights, args.size)
    blocks = args.layer or [len(model.blocks) - 1]
    heads = [f"b{b:02d}h{h:02d}" for b in blocks for h in range(model.num_heads)]
    planted = args.simulate and (int(args.simulate[0]), args.simulate[1], int(args.simulate[2]))
    if not set(blocks) <= set(range(len(model.blocks))) or planted and planted[0] not in range(len(heads)):
        raise InputError(f"--layer {blocks}, --simulate {planted}: {args.model} has blocks 0 to "
                         f"{len(model.blocks) - 1}, of {model.num_heads} heads each (counted from 0).")
    folder = begin()  # only now: a run whose data, model or heads are not there removes no other run
    first, last, step = args.sigmas
    sigmas = (first + step * np.arange(round((last - first) / step) + 1)).round(9)  # .1, .2, ..., both ends
    measure(model.to(device), preprocess, items, folder, sigmas, blocks, device, args.blur, planted,
            max(1, args.batch_size // world), args.workers, args.dtype == "bfloat16", args.seed)
    barrier()
    if rank > 0:
        return
    summary, tests = summarise(folder, items, dict(
        heads=heads, blocks=blocks, patch=model.patch_size, size=preprocess.crop, sigmas=sigmas.tolist(),
        blur=args.blur, eps=EPS, planted=planted), args.every_sigma, args.seed)
    not_run = [] if summary["lift"] else ["lift (fewer than two images with a mask or a plain background)"]
    results = write_results(
        folder, "exp06_gaze_objects", args.data, headline(summary, tests[0]["n"]), args, time.time() - began,
        device, tests, not_run, [path for path, _ in items if path.is_file()], summary=summary)
    draw_all(folder, summary)
    report(summary, len(items))
    print_paper_vs_ours(results)


if __name__ == "__main__":
    cli(main)
