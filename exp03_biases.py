"""exp03: does a Vision Transformer tuned on human gaze acquire human biases of attention?

Knights (2026), "Cognitive alignment at no cost: inducing human attention biases for interpretable Vision
Transformers", arXiv 2604.20027, section Cognitive Bias, figure 3. Humans (SALICON's fixations), model A
(ViT-B/16), B (A tuned on fixation maps) and C (tuned on shuffled maps; both by exp01), on every image, with
COCO's instance masks: attention density on animate against inanimate regions, on small against large objects,
and the entropy of the map.

Commands
    laptop, demo world    python exp03_biases.py
    one GPU               python exp03_biases.py --salicon SALICON --coco COCO --model-b B.pth --model-c C.pth
    eight GPUs            torchrun --nproc_per_node 8 exp03_biases.py (the same)
    other models' maps    python exp03_biases.py --sources human --maps MAPS --salicon SALICON --coco COCO
    go on after a kill    the same command with --resume
    redraw                the same command with --plot-only
Data: SALICON/fixations_val2014.json, images in SALICON/images/ or COCO/val2014/; COCO/annotations/
instances_val2014.json. B.pth, C.pth: tuned_B.pth, tuned_C.pth of a run of exp01_finetune_vit.py. --data: one
folder that holds salicon/ and coco/. MAPS/<image name without ending>.npy (2-D) or .png ..., of any size: one
more source, with the folder's name; --maps may be repeated.
Result, in runs/exp03_biases/<tag>/ or --out: per_image.csv, results.json, and drawn from the rows fig_3A
(animacy), fig_3B (object size), fig_3C (entropy). Time: the demo (120 images) 20 s of one CPU core; 5,000
such images 4 min of two (models 3 min); three ViT-B/16 need 1.4 s of one core an image, so an hour, or a GPU.
People, animate - inanimate, small - large, entropy: paper d .29, d .13, 14.99 bits; the demo's simulated
observers d 1.28, d .81, 14.45 bits.
Density: the map scaled to sum 1, its mean over the pixels of a region at 224x224, times 10,000; for uniform
attention .1993 everywhere. The script prints every number of the paper's section beside ours.
Choices where the paper is silent
    crowds      are painted and are animate or inanimate; they are no objects: no size, not counted. An image
                whose annotations are all crowds has no object size, and 0 objects
    overlap     an object's density is that of its visible pixels (--object-masks whole: of all its pixels)
    area        COCO's `area` orders and bins; of equal areas the later annotation is on top
    no pixel    an annotation without a pixel in the original image is left out; an object without one at
                224x224, covered or too small, counts as an object but has no density
    category    outside COCO's 80: covers what is behind it, is neither animate nor inanimate, has a size
    excluded    images with tv, laptop, cell phone, teddy bear or potted plant leave the animacy analysis only
    resampling  of masks: nearest neighbour at pixel centres; of --maps: bilinear, then min-max as all maps
    flat maps   a constant map is uniform attention
    no masks    an image that the annotation file lacks has an entropy only; so have all without a file
The paper compares models by animate and by small-object density, which rise with any shift of attention to
objects. The tests "bias: B - A" in results.json compare the biases themselves.
"""
from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn as nn
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from pycocotools.coco import COCO
from torch import Tensor
from tqdm import tqdm

from common import (CROP_224, IMAGE_SUFFIXES, InputError, Preprocess, ROOT, bootstrap_ci, gather_rows,
                    init_distributed, input_errors, load_vit, minmax, paired_t, pick_device, rank_world,
                    read_image, resize_matrix)
from gaze_tuning import (GazeData, GazeImage, MAP_SIGMA, MAP_SIZE, RolloutViT, coco_files, collate_gaze,
                         data_places, gaze_files, human_maps, load_gaze, load_tuned, model_log, open_batches,
                         plain_name, read_coco)
from legacy import (PALETTE, RowLog, add_common_args, argument_parser, cli, new_figure, print_paper_vs_ours,
                     read_csv, redraw, save_figure, start_run, write_results)

# -------------------------------------------------------------------------------- constants

# Categories of COCO by name (Animacy Bias); an image with an excluded one is dropped.
ANIMATE = "person, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe".split(", ")
EXCLUDED = "tv, laptop, cell phone, teddy bear, potted plant".split(", ")
INANIMATE = (  # the other 64
    "bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, "
    "sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, "
    "wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, "
    "pizza, donut, cake, chair, couch, bed, dining table, toilet, mouse, remote, keyboard, microwave, oven, "
    "toaster, sink, refrigerator, book, clock, vase, scissors, hair drier, toothbrush").split(", ")
SMALL, LARGE = 32**2, 96**2  # px^2 in the original image: small < 1,024 <= medium < 9,216 <= large (COCO)
SCALE = 10_000  # of densities, "for readability" (Animacy Bias)
CLUTTER = (0, 1, 2, 3, 4, 5, 6, 8, 11, 16)  # objects an image, lower ends of fig_3C's bins; not stated
SOURCES = ("human", "A", "B", "C")
PAIRS = {"animacy": ("animate", "inanimate"), "size": ("small", "large")}
UNIT = {"animacy": "1e-4 of the map/px", "size": "1e-4 of the map/px", "sparsity": "bits"}

# The paper's numbers. Within a source: mean of the first and second region, difference, t, p, d_z.
PAPER_N = {"animacy": 2619, "size": 3068, "sparsity": 5000}  # images
PAPER_WITHIN = {
    ("animacy", "human"): (.45, .37, .077, 14.77, "< 0.001", .29),
    ("animacy", "A"): (.33, .30, .021, 7.94, "< 0.001", .16),
    ("animacy", "B"): (.36, .33, .029, 9.41, "< 0.001", .18),
    ("animacy", "C"): (.34, .31, .025, 8.94, "< 0.001", .17),
    ("size", "human"): (.37, .34, .030, 7.30, "< 0.001", .13),
    ("size", "A"): (.26, .27, -.007, -3.45, "< 0.001", -.06),
    ("size", "B"): (.30, .29, .009, 3.96, "< 0.001", .07),
    ("size", "C"): (.28, .28, -.0004, -.21, .836, "|d| < 0.01")}
# Between sources, of the first region's density or of the entropy: mean difference, t, p, d_z.
PAPER_BETWEEN = {
    ("animacy", "B", "A"): (None, 40.14, "< 0.001", .78),
    ("animacy", "B", "C"): (None, 42.34, "< 0.001", .83),
    ("size", "B", "A"): (None, 62.06, "< 0.001", 1.12), ("size", "B", "C"): (None, 78.22, "< 0.001", 1.41),
    ("sparsity", "B", "A"): (-.043, -61.90, "< 0.001", -.88),
    ("sparsity", "C", "A"): (-.012, None, None, -.31),
    **{("sparsity", m, "human"): (None, None, "< 0.001", "> 2.6") for m in "ABC"}}
PAPER_ENTROPY = {("sparsity", k): v for k, v in {  # bits, mean and SD; C's are not stated
    "human": (14.99, .17), "A": (15.42, .09), "B": (15.38, .12)}.items()}


# -------------------------------------------------------------------------------- data

def load_coco(folder: Path, split: str) -> tuple[COCO, dict[str, int], list[Path]]:
    """(annotations, {plain image name: COCO's id}, files read)."""
    coco, files = COCO(), coco_files(folder, split)
    with input_errors(folder / "annotations", "instances_*.json: COCO's images, annotations, categories"), \
            contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress there
        if not files:
            raise ValueError("no instances_*.json")
        coco.dataset = read_coco(files)
        coco.createIndex()
        ids = {plain_name(image["file_name"]): image["id"] for image in coco.dataset["images"]}
    return coco, ids, files


def decode_mask(ann: dict, coco: COCO, img_h: int, img_w: int) -> np.ndarray:
    """Pixels of one annotation, (img_h, img_w) bool: polygons, RLE, or a crowd's uncompressed RLE. A polygon
    of fewer than three points has none. InputError: anything else, or an RLE of another size."""
    with input_errors(f"annotation {ann.get('id')} of image {ann.get('image_id')}",
                      f"polygons or an RLE of {img_h}x{img_w} pixels; correct or remove it"):
        shape = ann["segmentation"]
        if not 0 < img_h * img_w < 2**31:
            raise ValueError("no size of an image")
        if isinstance(shape, list):
            shape = [polygon for polygon in shape if len(polygon) >= 6 and not np.isnan(polygon).all()]
            if not shape:
                return np.zeros((img_h, img_w), dtype=bool)
            if not (np.abs(np.concatenate(shape)) <= 2 * (img_h + img_w)).all():  # pycocotools would crash
                raise ValueError("a polygon that is not finite or far outside the image")
        elif tuple(shape["size"]) != (img_h, img_w) or isinstance(shape["counts"], list) and (
                min(shape["counts"]) < 0 or sum(shape["counts"]) != img_h * img_w):
            raise ValueError(f"an RLE of {shape['size']} pixels that does not fit")
        return coco.annToMask({**ann, "segmentation": shape}).view(bool)


def paint_masks(anns: Sequence[dict], coco: COCO, img_h: int, img_w: int,
                masks: Sequence[np.ndarray] | None = None) -> Tensor:
    """Index of the annotation on top of every pixel, (img_h, img_w) int16, -1 = background.

    Painter's algorithm: by area, large first, so that small ones stay whole; equal areas in the order of
    anns, the later one on top. masks: the annotations' masks (img_h, img_w), where they are decoded already.
    """
    masks = [decode_mask(ann, coco, img_h, img_w) for ann in anns] if masks is None else masks
    canvas = np.full((img_h, img_w), -1, np.int16, order="F")  # by columns, as pycocotools' masks
    for i in sorted(range(len(anns)), key=lambda i: -anns[i].get("area", masks[i].sum())):
        canvas[masks[i]] = i
    return torch.from_numpy(canvas)


def shrink(mask: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """Nearest neighbour of (..., img_h, img_w) at the pixel centres of MAP_SIZE."""
    rows, cols = (((np.arange(n) + .5) * old / n).astype(int) for n, old in zip(MAP_SIZE, mask.shape[-2:]))
    return mask[..., rows[:, None], cols]


class Scene(NamedTuple):
    """Regions of an image at MAP_SIZE, and what was left out of them."""
    regions: Tensor     # (2 + n, 224, 224) bool: animate, inanimate, then the n objects
    area: Tensor        # (n,) px^2 of the objects in the original image
    excluded: bool      # shows one of EXCLUDED
    crowds: int
    empty: int          # annotations without a pixel
    outside: int        # annotations of a category outside the 80


def make_scene(anns: Sequence[dict], coco: COCO, img_h: int, img_w: int, whole: bool = False) -> Scene:
    """Regions of an image from its annotations. whole: objects with the pixels that others cover."""
    masks = [decode_mask(ann, coco, img_h, img_w) for ann in anns]
    drawn = [i for i, mask in enumerate(masks) if mask.any()]
    anns, masks, empty = [anns[i] for i in drawn], [masks[i] for i in drawn], len(anns) - len(drawn)
    names = [coco.cats.get(ann["category_id"], {}).get("name") for ann in anns]
    objects = [i for i, ann in enumerate(anns) if not ann.get("iscrowd")]
    canvas = shrink(paint_masks(anns, coco, img_h, img_w, masks))
    regions = [torch.tensor([name in group for name in names] + [False])[canvas.long()]  # -1: the last, False
               for group in (ANIMATE, INANIMATE)]
    regions += [torch.from_numpy(shrink(masks[i])) if whole else canvas == i for i in objects]
    area = torch.tensor([float(anns[i].get("area", masks[i].sum())) for i in objects])
    return Scene(torch.stack(regions), area, any(name in EXCLUDED for name in names),
                 len(anns) - len(objects), empty,
                 sum(name not in ANIMATE + INANIMATE + EXCLUDED for name in names))


def read_map(path: Path | None) -> Tensor:
    """A model's map, .npy or image, min-max normalised (224, 224); NaN where there is no usable one."""
    try:
        with input_errors(path or "no file", "a map: a finite 2-D array, or an image"):
            values = np.load(path) if path.suffix == ".npy" else np.asarray(read_image(path)).mean(2)
            values = torch.from_numpy(np.asarray(values, np.float32))  # (h, w), any size
            if values.ndim != 2 or not values.numel() or not (values.abs() < 1e30).all():  # float32 overflows
                raise ValueError(f"shape {tuple(values.shape)}, or not finite")
    except (InputError, AttributeError):  # AttributeError: no path
        return torch.full(MAP_SIZE, torch.nan)
    rows, cols = (resize_matrix(n, m, "bilinear", antialias=True) for n, m in zip(values.shape, MAP_SIZE))
    return minmax(rows @ values @ cols.T)


class BiasData(GazeData):
    """Item i -> (i, image or None, fixation counts; Scene, None for an image that COCO lacks, or InputError;
    maps of the folders (K, 224, 224) or None)."""

    def __init__(self, images: Sequence[GazeImage], transform, coco: COCO | None, ids: dict[str, int],
                 folders: Sequence[Path] = (), whole: bool = False):
        super().__init__(images, transform)
        self.coco, self.ids, self.whole = coco, ids, whole
        for i, path in enumerate(folders):
            if not path.is_dir() or path.name in [*SOURCES, *(other.name for other in folders[:i])]:
                raise InputError(f"--maps {path}: expected a folder whose name is no other source's, such as "
                                 f"{', '.join(SOURCES)}; correct or rename it.")
        self.files = [{p.stem: p for p in sorted(folder.iterdir())
                       if p.suffix.lower() in (".npy", *IMAGE_SUFFIXES)} for folder in folders]

    def scene(self, name: str) -> Scene | None | InputError:
        image = self.coco.imgs.get(self.ids.get(plain_name(name))) if self.coco else None
        try:
            with input_errors(name, "an image with height and width, and annotations with category_id"):
                return image and make_scene(self.coco.imgToAnns.get(image["id"], []), self.coco,
                                            image["height"], image["width"], self.whole)
        except InputError as e:
            return e  # raised in a loader's process it would arrive as a page of traceback

    def __getitem__(self, i: int) -> tuple:
        maps = [read_map(files.get(Path(self.images[i].name).stem)) for files in self.files]
        return *super().__getitem__(i), self.scene(self.images[i].name), torch.stack(maps) if maps else None


def collate(batch: list[tuple]) -> tuple:
    """(images, counts, indices, unreadable indices) of collate_gaze, scenes, maps (B, K, 224, 224) | None."""
    good = [item for item in batch if item[1] is not None]
    maps = torch.stack([item[4] for item in good]) if good and good[0][4] is not None else None
    return *collate_gaze([item[:3] for item in batch]), [item[3] for item in good], maps


# -------------------------------------------------------------------------------- model

def load_models(name: str, weights: Path | None, tuned: dict[str, Path | None], wanted: Sequence[str],
                shipped: bool) -> tuple[dict[str, RolloutViT], Preprocess, list[str]]:
    """({"A", "B", "C": RolloutViT} as wanted and found, preprocessing, parts not run). tuned: attention
    weights of B and C; shipped: the demo's where none is given."""
    models, not_run, pre = {}, [], CROP_224
    if {"A", "B", "C"} & set(wanted):
        vit, pre = load_vit(name, weights)
        models |= {"A": RolloutViT(vit)} if "A" in wanted else {}
    for k in [k for k in ("B", "C") if k in wanted]:
        file = tuned[k] or ROOT / "checkpoints" / f"demo_{k}.pth"
        if tuned[k] or shipped and file.exists():
            models[k] = RolloutViT(load_tuned(vit, file))
        else:
            not_run.append(f"model {k}: give --model-{k.lower()} the tuned_{k}.pth of exp01_finetune_vit.py")
    # the ViT image processor squashes to 224x224, bilinear (Image & Human Behaviour Dataset)
    return models, dataclasses.replace(pre, crop=MAP_SIZE, squash=True, interpolation="bilinear"), not_run


# -------------------------------------------------------------------------------- measure

def density(maps: Tensor, regions: Tensor) -> Tensor:
    """Attention density (S, R) of maps (S, img_h, img_w) >= 0 in regions (R, img_h, img_w) bool: the map
    scaled to sum 1, its mean over the region's pixels, x 10,000. An all-zero map is uniform. NaN: a region
    without pixels, a map with a NaN."""
    maps, regions = maps.flatten(1).double(), regions.flatten(1).double()  # (S, N), (R, N)
    maps = torch.where(maps.sum(1, keepdim=True) == 0, 1, maps)
    return maps @ regions.T / regions.sum(1) * SCALE / maps.sum(1, keepdim=True)


def entropy(maps: Tensor) -> Tensor:
    """Shannon entropy (S,) in bits of maps (S, img_h, img_w), clipped at 0, scaled to sum 1: 0 to log2 of the
    number of pixels. An all-zero map is uniform."""
    maps = maps.flatten(1).double().clamp(min=0)
    maps = torch.where(maps.sum(1, keepdim=True) == 0, 1, maps)
    return torch.special.entr(maps / maps.sum(1, keepdim=True)).sum(1) / math.log(2)


def measures(maps: Tensor, scene: Scene | None) -> list[dict]:
    """Columns of per_image.csv for an image's maps (S, 224, 224). Sizes: mean over the objects of a bin."""
    fields = ("animate", "inanimate", "small", "medium", "large")
    rows = [{"entropy": h} | dict.fromkeys(fields, math.nan) for h in entropy(maps).tolist()]
    numbers = dict.fromkeys(("objects", "n_small", "n_medium", "n_large", "excluded", "crowds", "empty",
                             "unseen", "outside"), math.nan)
    if scene is None:
        return [row | numbers for row in rows]
    values = density(maps, scene.regions)  # (S, 2 + n)
    bins = {"small": scene.area < SMALL, "medium": (scene.area >= SMALL) & (scene.area < LARGE),
            "large": scene.area >= LARGE}
    for row, v in zip(rows, values):
        if not scene.excluded:
            row |= {"animate": v[0].item(), "inanimate": v[1].item()}
        row |= {k: v[2:][b].nanmean().item() for k, b in bins.items()}
    numbers |= {"objects": len(scene.area), **{f"n_{k}": int(b.sum()) for k, b in bins.items()},
                "excluded": int(scene.excluded), "crowds": scene.crowds, "empty": scene.empty,
                "unseen": int((~scene.regions[2:].flatten(1).any(1)).sum()), "outside": scene.outside}
    return [row | numbers for row in rows]


@torch.no_grad()
def source_maps(batch: tuple, models: dict[str, nn.Module], human: bool, folders: Sequence[str],
                device: torch.device, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """{source: maps (B, 224, 224) in [0, 1] on the CPU} of a batch of `collate`; NaN: no map of an image."""
    x, counts, _, _, _, extra = batch
    maps = {"human": human_maps(counts.to(device)).cpu()} if human else {}
    for name, model in models.items():
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            maps[name] = model(x.to(device))[1].float().cpu()
    return maps | {name: extra[:, k] for k, name in enumerate(folders)}


def measure(data: BiasData, log: RowLog, batch_size: int, workers: int, **sources) -> list[str]:
    """Rows of all images that the log lacks, one a source, into it; the names of unreadable images. sources:
    the further arguments of source_maps."""
    batches, bad = open_batches([image.name for image in data.images], batch_size, log), []
    loader = torch.utils.data.DataLoader(data, batch_sampler=batches, num_workers=workers, collate_fn=collate)
    for batch in tqdm(loader, "batches", disable=rank_world()[0] > 0 or None):
        bad += [data.images[i].name for i in batch[3]]
        maps = source_maps(batch, **sources) if len(batch[2]) else {}
        for b, (i, scene) in enumerate(zip(batch[2].tolist(), batch[4])):
            if isinstance(scene, InputError):
                raise scene
            name = data.images[i].name
            if name not in log.done:
                rows = measures(torch.stack([m[b] for m in maps.values()]), scene)
                log.add([{"image": name, "condition": k} | row for k, row in zip(maps, rows)])
    return sorted(gather_rows(bad))


# -------------------------------------------------------------------------------- statistics

def columns(rows: Sequence[dict]) -> dict[str, dict[str, np.ndarray]]:
    """{source: {field: (n,)}} of per_image.csv, images in one order, humans and models A, B, C first.

    And bias_animacy, bias_size: first less second region of PAIRS. The regions of images that lack one of the
    two, and for size of those with fewer than two objects, become NaN: an analysis has one set of images.
    """
    names = sorted({r["condition"] for r in rows}, key=lambda k: ((*SOURCES, k).index(k), k))
    fields = [f for f in rows[0] if f not in ("image", "condition")]
    table = {k: {f: np.array([r[f] for r in rows if r["condition"] == k]) for f in fields} for k in names}
    for column in table.values():
        for analysis, (first, second) in PAIRS.items():
            use = (column["objects"] >= 2) | (analysis == "animacy")
            bias = np.where(use, column[first] - column[second], np.nan)
            column[f"bias_{analysis}"] = bias
            for field in (first, second):
                column[field] = np.where(np.isfinite(bias), column[field], np.nan)
    return table


def paired_tests(table: dict[str, dict[str, np.ndarray]]) -> list[dict]:
    """Paired t tests with d_z: first less second region within every source; first region, bias and entropy
    between every two sources."""
    tests = []

    def test(analysis: str, contrast: str, sources: list[str], a: np.ndarray, b: np.ndarray) -> None:
        result = paired_t(a, b)
        if result["df"] > 0:
            tests.append({"test": "paired t", "analysis": analysis, "contrast": contrast, "sources": sources,
                          "n": result["df"] + 1} | result)

    for analysis, (first, second) in PAIRS.items():
        for k, column in table.items():
            test(analysis, f"{first} - {second}", [k], column[first], column[second])
    order = ["B", "C", "A", *(k for k in table if k not in SOURCES), "human"]  # the paper's signs
    for a, b in itertools.combinations([k for k in order if k in table], 2):
        for analysis, field in (("animacy", "animate"), ("animacy", "bias_animacy"), ("size", "small"),
                                ("size", "bias_size"), ("sparsity", "entropy")):
            word = field.split("_")[0]
            test(analysis, f"{word}: {a} - {b}", [a, b], table[a][field], table[b][field])
    return tests


def headline(table: dict[str, dict[str, np.ndarray]], tests: Sequence[dict]) -> list[dict]:
    """Every number of the paper's section beside ours."""
    rows = []

    def add(name: str, paper, ours, n: int, unit: str = "", ci=None) -> None:
        rows.append(dict(name=name, paper=paper, ours=ours, ci=ci, n=n, unit=unit))

    def add_test(name: str, paper: tuple, t: dict) -> None:
        add(f"{name}: mean difference", paper[0], t["mean"], t["n"], UNIT[t["analysis"]], t["ci"])
        for field, value in zip(("t", "p", "dz"), paper[1:]):
            add(f"{name}: {field[0]}", value, t[field], t["n"])

    for analysis, fields in {**PAIRS, "sparsity": ("entropy",)}.items():
        n = int(np.isfinite([column[fields[0]] for column in table.values()]).any(0).sum())
        add(f"{analysis}: images", PAPER_N[analysis], n, n)
        for k, column in table.items():
            paper = (PAPER_WITHIN | PAPER_ENTROPY).get((analysis, k), (None,) * 6)
            for field, value in zip(fields, paper):
                v = column[field][np.isfinite(column[field])]
                if len(v):
                    add(f"{analysis}, {k}: {field}", value, v.mean(), len(v), UNIT[analysis], bootstrap_ci(v))
            if analysis == "sparsity" and len(v) > 1:
                add(f"{analysis}, {k}: SD", paper[1], v.std(ddof=1), len(v), UNIT[analysis])
            for t in tests:
                if (t["analysis"], t["sources"]) == (analysis, [k]):
                    add_test(f"{analysis}, {k}", paper[2:], t)
        for t in tests:
            paper = PAPER_BETWEEN.get((analysis, *t["sources"]))
            if t["analysis"] == analysis and paper and not t["contrast"].startswith("bias"):
                add_test(f"{analysis}, {t['contrast']}", paper, t)
    return rows


def by_clutter(table: dict[str, dict[str, np.ndarray]]) -> list[dict]:
    """Entropy of every source by number of annotated objects, in the bins of CLUTTER."""
    out = []
    for (k, column), (low, high) in itertools.product(table.items(), zip(CLUTTER, (*CLUTTER[1:], math.inf))):
        v = column["entropy"][(column["objects"] >= low) & (column["objects"] < high)]
        v = v[np.isfinite(v)]
        label = f"{low}+" if high == math.inf else f"{low}" if high == low + 1 else f"{low}-{high - 1}"
        if len(v):
            out.append(dict(source=k, objects=label, low=low, n=len(v), mean=v.mean(), sem=sem(v)))
    return out


def summarise(rows: Sequence[dict]) -> dict:
    """headline; tests; clutter: entropy by number of objects; counts: what was measured and what left out."""
    table = columns(rows)
    first = next(iter(table.values()))
    left_out = {"not in the annotation file": np.isnan(first["objects"]),
                "with an excluded category": first["excluded"] == 1,
                "with fewer than two objects": first["objects"] < 2,
                **{f"without a map of {k}": np.isnan(c["entropy"]) for k, c in table.items()}}
    labels = dict(objects="objects", crowds="crowd annotations", empty="annotations without a pixel",
                  unseen="objects without a pixel at 224x224", outside="annotations outside the 80")
    counts = {"images": len(first["objects"]),
              **{k: int(np.isfinite([c[f"bias_{k}"] for c in table.values()]).any(0).sum()) for k in PAIRS},
              **{label: int(v.sum()) for label, v in left_out.items()},
              **{label: int(np.nansum(first[field])) for field, label in labels.items()}}
    tests = paired_tests(table)
    return dict(headline=headline(table, tests), tests=tests, clutter=by_clutter(table), counts=counts)


def sem(v: np.ndarray) -> float:
    """Standard error of the mean, NaN left out; 0 for a single value."""
    n = np.isfinite(v).sum()
    return float(np.nanstd(v, ddof=1) / n**.5) if n > 1 else 0.


# -------------------------------------------------------------------------------- figures

BAR = dict(edgecolor="black", linewidth=.8, capsize=3)


def colours(k: str, i: int) -> tuple:
    """Of a source: plain, light (first region), dark (second). Humans: white and grey."""
    if k == "human":
        return "white", "white", (.35, .35, .35)
    other = ("#1f77b4", "#ff7f0e", "#9467bd", "#17becf", "#bcbd22", "#8c564b")[i % 6]
    c = np.array(to_rgb(PALETTE[k] if k in SOURCES else other))
    return tuple(c), tuple(.45 * c + .55), tuple(.75 * c)


def two_panels(names: Sequence[str]) -> tuple[Figure, Axes, Axes]:
    fig, axes = new_figure(2, 1.7 + .45 * len(names), 3.1)
    for ax in axes:
        ax.set_xticks(range(len(names)), names)
    axes[0].axhline(0, color="black", linewidth=.8)
    fig.supxlabel("means over images; error bars: ±1 SEM", fontsize=7)
    return fig, *axes


def draw_pair(table: dict[str, dict[str, np.ndarray]], analysis: str, path: Path) -> None:
    """fig_3A, fig_3B: bias (left) and raw densities (right) of every source."""
    first, second = PAIRS[analysis]
    n = max(np.isfinite(c[f"bias_{analysis}"]).sum() for c in table.values())
    if n == 0:
        return
    fig, left, right = two_panels(list(table))
    for i, (k, column) in enumerate(table.items()):
        bias, (plain, *shades) = column[f"bias_{analysis}"], colours(k, i)
        left.bar(i, np.nanmean(bias), .7, yerr=sem(bias), color=plain, **BAR)
        for j, (field, shade) in enumerate(zip((first, second), shades)):
            v = column[field]
            right.bar(i + .38 * (j - .5), np.nanmean(v), .38, yerr=sem(v), color=[shade], **BAR)
    uniform = SCALE / math.prod(MAP_SIZE)
    right.axhline(uniform, color="black", linewidth=.8, linestyle=":")
    right.annotate("uniform", (1, uniform), (2, 0), xycoords=("axes fraction", "data"),
                   textcoords="offset points", va="center", fontsize=7)
    left.set(ylabel=f"{first} - {second} density\n({UNIT[analysis]})", title=f"bias, {n} images")
    right.set(ylabel=f"density ({UNIT[analysis]})", title=f"{first} (light), {second} (dark)")
    save_figure(fig, path)


def draw_entropy(table: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """fig_3C: entropy relative to model A (left); entropy by number of objects (right)."""
    fig, left, right = two_panels(list(table))
    base, clutter = "A" if "A" in table else next(iter(table)), by_clutter(table)
    bins = sorted({(row["low"], row["objects"]) for row in clutter})
    for i, k in enumerate(table):
        change, face = table[k]["entropy"] - table[base]["entropy"], colours(k, i)[0]
        if k != base and np.isfinite(change).any():
            left.bar(i, np.nanmean(change), .7, yerr=sem(change), color=face, **BAR)
        x, y, e = zip(*[(bins.index((r["low"], r["objects"])), r["mean"], r["sem"]) for r in clutter
                        if r["source"] == k]) if bins else ((), (), ())
        right.errorbar(x, y, e, marker="o", markersize=5, capsize=2, label=k, markerfacecolor=face,
                       color="black" if k == "human" else face)
    n = {r["low"]: r["n"] for r in clutter}
    left.set(ylabel=f"entropy relative to {base} (bits)",
             title=f"sparsity, {np.isfinite(table[base]['entropy']).sum()} images")
    right.set_xticks(range(len(bins)), [f"{label}\n({n[low]})" for low, label in bins], fontsize=7)
    right.set(xlabel="objects in the image (images)", ylabel="entropy (bits)",
              title=f"uniform attention: {math.log2(math.prod(MAP_SIZE)):.2f} bits")
    right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, .5))
    save_figure(fig, path)


def draw_all(folder: Path) -> None:
    """The figures, from per_image.csv."""
    table = columns(read_csv(folder / "per_image.csv"))
    draw_pair(table, "animacy", folder / "fig_3A")
    draw_pair(table, "size", folder / "fig_3B")
    draw_entropy(table, folder / "fig_3C")


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argument_parser(__doc__)
    add_common_args(p)
    g = p.add_argument_group("study")
    g.add_argument("--salicon", type=Path, help="SALICON's folder (or OSIE's, for the entropy alone)")
    g.add_argument("--coco", type=Path, help="COCO's folder (annotations/instances_*.json)")
    g.add_argument("--split", choices=["val", "train"], default="val", help="of the data (%(default)s)")
    g.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES), help="default: all")
    g.add_argument("--model", help="model A, a name of common.py's table (default: vit_base_patch16_224; "
                   "demo: demo_sl12); --weights: its file")
    g.add_argument("--model-b", type=Path, help="attention weights of B, from exp01 (demo: the shipped)")
    g.add_argument("--model-c", type=Path, help="the same of C")
    g.add_argument("--maps", type=Path, action="append", default=[], help="folder of another model's maps, "
                   "<image name without ending>.npy or .png; may be repeated")
    g.add_argument("--object-masks", choices=["visible", "whole"], default="visible",
                   help="pixels of an object: those not covered by smaller ones, or all (default: visible)")
    args = p.parse_args(argv)
    if args.data == "demo" and (args.salicon or args.coco):
        args.data = None  # only what was named
    args.model = args.model or ("demo_sl12" if args.data == "demo" else "vit_base_patch16_224")
    return args


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    rank, world = init_distributed(device)
    tag = f"{'demo' if args.data == 'demo' else Path(args.data or args.salicon or '.').name}_{args.model}"
    places = {} if args.plot_only else data_places(args, ("salicon", "coco"), ("salicon",))
    folder = start_run(args, "exp03_biases", tag)
    if args.plot_only:
        return redraw(folder, lambda results: draw_all(folder))

    if not places["salicon"]:
        raise InputError("no fixations; give --salicon, whose images are measured.")
    images, left_out = load_gaze(places["salicon"], args.split, places["coco"], args.limit)
    coco, ids, files = load_coco(places["coco"], args.split) if places["coco"] else (None, {}, [])
    models, pre, not_run = load_models(args.model, args.weights, {"B": args.model_b, "C": args.model_c},
                                       args.sources, args.data == "demo" and args.model == "demo_sl12")
    data = BiasData(images, pre, coco, ids, args.maps, args.object_masks == "whole")
    sources = dict(models={k: m.to(device).eval() for k, m in models.items()}, human="human" in args.sources,
                   folders=[path.name for path in args.maps], device=device, dtype=getattr(torch, args.dtype))

    log = model_log(folder, models, args.resume)
    unreadable = measure(data, log, max(1, args.batch_size // world), args.workers, **sources)
    rows = log.merge()
    if not rows:
        raise InputError(f"no source, or none of {len(data)} images can be read; check --sources and files.")
    found = summarise(rows)
    files += [image.path for image in data.images] + gaze_files(places["salicon"])
    files += [p for p in (args.model_b, args.model_c, *(p for f in data.files for p in f.values())) if p]
    not_run += [f"{k}: {found['counts'][k]} images" for k in PAIRS if coco and found["counts"][k] < 2]
    not_run += [] if coco else ["animacy, size, entropy by number of objects: no annotations, give --coco"]
    results = write_results(
        folder, "exp03_biases", args.data or "files", found.pop("headline"), args, time.time() - began,
        device, found.pop("tests"), not_run, files, preprocess=dataclasses.asdict(pre), sigma=MAP_SIGMA,
        unreadable=unreadable, left_out=left_out, **found)
    if rank == 0:
        draw_all(folder)
        print_paper_vs_ours(results)


if __name__ == "__main__":
    cli(main)
