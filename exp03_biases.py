"""exp03: does a Vision Transformer that was tuned on human gaze acquire human biases of attention?

Knights (2026), "Cognitive alignment at no cost: inducing human attention biases for interpretable Vision
Transformers", arXiv 2604.20027, section Cognitive Bias, figure 3: the density of attention on animate against
inanimate regions and on small against large objects, and the entropy of the map; of people (SALICON's
fixations), model A (ViT-B/16), B (A tuned on fixation maps) and C (tuned on shuffled maps; both by exp01).

Commands
    laptop, demo world    python exp03_biases.py
    one GPU               python exp03_biases.py --salicon SALICON --coco COCO --model-b B.pth --model-c C.pth
    eight GPUs            torchrun --nproc_per_node 8 exp03_biases.py (the same)
    other models' maps    python exp03_biases.py --maps MAPS --salicon SALICON --coco COCO

People, animate - inanimate, small - large, entropy: paper d .29, d .13, 14.99 bits; the demo's simulated
observers d 1.28, d .81, 14.45 bits. Where the paper is silent: crowds are painted but are no objects; an
object without a pixel at 224x224 has no density; docs/exp03.md has further choices.
"""
from __future__ import annotations

import argparse
import io
import itertools
import math
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools.coco import COCO
from torch import Tensor

import data
from common import InputError, centre_gaussian, init_distributed, input_errors, paired_t, pick_device
from exp01_claims import PRIORS
from exp01_finetune_vit import RolloutViT, all_fixations, human_maps
from gaze import load_gaze, same_shape
from results import (Claim, argument_parser, begin, cli, estimate, evaluate, figure_grid, finish, in_batches,
                     legend_beside, only_draw, parse_args, redraw, save_figure)
from weights import load_tuned, load_vit, must_exist

# -------------------------------------------------------------------------------- constants

# Shapes: B images of a batch, n images, S sources (people and models), R regions; maps are 224 x 224.
# Categories of COCO by name (Animacy Bias). All others are inanimate; an excluded one drops its image.
ANIMATE = "person, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe".split(", ")
EXCLUDED = "tv, laptop, cell phone, teddy bear, potted plant".split(", ")
SMALL, LARGE = 32**2, 96**2  # px^2 in the original image: small < 1,024 <= medium < 9,216 <= large (COCO)
SCALE = 10_000  # of densities, "for readability" (Animacy Bias)
MAP_SIZE = 224, 224  # px
SPLIT = "val"  # of SALICON and COCO (Cognitive Bias Analyses)
COLOURS = {"human": "white", "A": "#d62728", "B": "#2ca02c", "C": "#8c8c8c",  # Figure 3
           "centre": "#bcbd22", "others": "#e377c2"}
REGIONS = ("animate", "inanimate", "small", "medium", "large")
NO_SCENE = dict(anns=[], height=1, width=1, objects=math.nan, excluded=math.nan)  # COCO lacks the image
PAIRS = {"animacy": ("animate", "inanimate"), "size": ("small", "large")}
UNIT = {"animacy": "1e-4 of the map/px", "size": "1e-4 of the map/px", "sparsity": "bits"}

# The paper's numbers. Within a source: mean of the first and second region, difference, t, p, d_z; of the
# entropy: mean, SD. Between two sources: mean difference of the first region or the entropy, t, p, d_z.
P = "p < 0.001"
PAPER_N = {"animacy": 2619, "size": 3068, "sparsity": 5000}  # images
PAPER = {
    ("animacy", "human"): (.45, .37, .077, 14.77, P, .29), ("animacy", "A"): (.33, .30, .021, 7.94, P, .16),
    ("animacy", "B"): (.36, .33, .029, 9.41, P, .18), ("animacy", "C"): (.34, .31, .025, 8.94, P, .17),
    ("animacy", "B", "C"): (None, 42.34, P, .83), ("animacy", "B", "A"): (None, 40.14, P, .78),
    ("size", "human"): (.37, .34, .030, 7.30, P, .13), ("size", "A"): (.26, .27, -.007, -3.45, P, -.06),
    ("size", "B"): (.30, .29, .009, 3.96, P, .07), ("size", "B", "C"): (None, 78.22, P, 1.41),
    ("size", "C"): (.28, .28, -.0004, -.21, .836, "|d| < 0.01"), ("size", "B", "A"): (None, 62.06, P, 1.12),
    ("sparsity", "human"): (14.99, .17), ("sparsity", "A"): (15.42, .09), ("sparsity", "B"): (15.38, .12),
    ("sparsity", "B", "A"): (-.043, -61.90, P, -.88), ("sparsity", "B", "human"): (None, None, P, "> 2.6"),
    ("sparsity", "C", "A"): (-.012, None, None, -.31), ("sparsity", "C", "human"): (None, None, P, "> 2.6"),
    ("sparsity", "A", "human"): (None, None, P, "> 2.6"),
    ("sparsity", "B", "C"): ("< 0", None, "significant", None)}  # Figure 3C
ON_SCREEN = (r"(animacy|size), (?!centre|others)\w+: (animate|inanimate|small|large)|"
             r"sparsity, (?!centre|others)\w+: entropy|"
             r".* - human: d|.*(animate|small): B - A: d")  # rows of the printed table

# -------------------------------------------------------------------------------- data

def load_data(salicon: Path, coco_folder: Path | None, limit: int | None, folders: Sequence[Path]) -> tuple:
    """(images with fixations, names of the others, annotations, scene of every image, {model: map files})."""
    images, left_out = load_gaze(salicon, SPLIT, coco_folder, limit)
    coco, scenes, maps = COCO(), [NO_SCENE for _ in images], {}
    if coco_folder:
        coco, scenes = load_scenes(coco_folder, [image.name for image in images])
        absent = [image.name for image, scene in zip(images, scenes) if scene is NO_SCENE]
        left_out["of densities, not in COCO's annotations"] = absent
    for image, scene in zip(images, scenes):
        (img_h, img_w), (height, width) = image.size, (scene["height"], scene["width"])
        if scene is not NO_SCENE and not same_shape((img_h, img_w), (height, width)):
            raise InputError(f"{image.path} is {img_h} x {img_w} px, but {height} x {width} in COCO: its "
                             "objects would be sought elsewhere; give COCO's own pictures (val2017 ...).")
    for folder in folders:
        if not folder.is_dir() or folder.name in (*COLOURS, *maps):
            raise InputError(f"--maps {folder}: expected a folder with a name that no other source has.")
        files = data.entries(folder, ".npy", *data.IMAGE_SUFFIXES)
        there = {data.plain_name(path.name): path for path in files}
        maps[folder.name] = [there.get(data.plain_name(image.name), folder / "missing") for image in images]
        found = [path for path in maps[folder.name] if path.is_file()]
        if not found:
            raise InputError(f"--maps {folder}: no map of any image; {images[0].name} wants "
                             f"{Path(images[0].name).stem}.npy or .png.")
        data.read_map(found[0])  # colours, for one, are no map: refused before anything is measured
    return images, left_out, coco, scenes, maps


def load_scenes(folder: Path, names: Sequence[str]) -> tuple[COCO, list[dict]]:
    """(annotations, COCO's record of every image with its "anns", number of "objects", whether a category is
    "excluded"). InputError: no instances_*.json of COCO's, none with these images."""
    coco, files = COCO(), data.coco_files(folder, SPLIT)
    coco.dataset = data.read_coco(files)
    with input_errors(files[0], "COCO's images with height and width, annotations, categories"), \
            redirect_stdout(io.StringIO()):  # pycocotools reports its progress there
        if names:
            data.check_coco(coco.dataset, names)
        coco.createIndex()
        known = [category["name"] for category in coco.dataset["categories"]]
        if not set(known) & set(ANIMATE):
            raise ValueError(f"categories {known[:3]} ..., none is called as COCO's people and animals, "
                             f"{ANIMATE[:3]} ...")
        scenes = {data.plain_name(image["file_name"]): image for image in coco.dataset["images"]}
        for scene in [scenes[name] for name in map(data.plain_name, names) if name in scenes]:
            anns = [with_mask(ann, coco, scene, files[0]) for ann in coco.imgToAnns[scene["id"]]]
            scene["anns"] = [ann for ann in anns if ann["segmentation"]]
            scene["objects"] = float(sum(not ann.get("iscrowd") for ann in scene["anns"]))
            scene["excluded"] = float(any(ann["name"] in EXCLUDED for ann in scene["anns"]))
    return coco, [scenes.get(data.plain_name(name), NO_SCENE) for name in names]


def with_mask(ann: dict, coco: COCO, image: dict, file: Path) -> dict:
    """The annotation with its category's name, less polygons of two points: COCO holds a few, which
    pycocotools takes for boxes. InputError, naming the file: a mask on which pycocotools would crash."""
    size = image["height"], image["width"]
    with input_errors(f"{file}, annotation {ann.get('id')}",
                      f"COCO's category_id, area, and a mask of {size} pixels; correct or remove it"):
        shape = ann["segmentation"]
        if isinstance(shape, list):
            shape = [polygon for polygon in shape if len(polygon) >= 6]
            fits = all((np.abs(polygon) <= 2 * sum(size)).all() for polygon in shape)  # NaN does not
        else:
            runs = shape["counts"]
            filled = isinstance(runs, str) or min(runs) >= 0 and sum(runs) == math.prod(size)
            fits = filled and tuple(shape["size"]) == size
        if not fits:
            raise ValueError("a mask that does not fit the image")
        name = coco.cats[ann["category_id"]]["name"]
        return ann | {"segmentation": shape, "area": float(ann["area"]), "name": name}


def paint_masks(anns: Sequence[dict], coco: COCO, img_h: int, img_w: int) -> Tensor:
    """Index of the annotation on top of every pixel, (img_h, img_w) int16, -1 = background. Painter's
    algorithm (Animacy Bias): by area, large first; of equal areas the later annotation is on top."""
    canvas = np.full((img_h, img_w), -1, np.int16)
    for i in sorted(range(len(anns)), key=lambda i: -anns[i]["area"]):
        canvas[coco.annToMask(anns[i]) == 1] = i
    return torch.from_numpy(canvas)


def other_map(path: Path) -> Tensor:
    """A model's map from a file, less its minimum, bilinear at MAP_SIZE; NaN where no file can be read."""
    try:
        values = torch.from_numpy(data.read_map(path))[None, None]  # (1, 1, h, w)
    except InputError:
        return torch.full(MAP_SIZE, torch.nan)
    values = F.interpolate(values, MAP_SIZE, mode="bilinear", antialias=True)[0, 0]
    return values - values.min()


def looked_at(i: int, images: list, coco: COCO, scenes: list[dict], maps: dict[str, list[Path]]) -> dict:
    """Of image i, at 224x224: fixation counts, what is where, other models' maps; objects, excluded."""
    counts, scene = np.zeros(MAP_SIZE, np.float32), scenes[i]
    for rows, cols in images[i].observers:
        np.add.at(counts, (rows, cols), 1)
    canvas = paint_masks(scene["anns"], coco, scene["height"], scene["width"])[None, None].float()
    canvas = F.interpolate(canvas, MAP_SIZE, mode="nearest-exact")[0, 0]  # nearest pixel centre
    return dict(counts=counts, canvas=canvas, maps=[other_map(files[i]) for files in maps.values()],
                objects=scene["objects"], excluded=scene["excluded"])


# -------------------------------------------------------------------------------- model

def load_models(name: str, weights: Path | None, tuned: dict[str, Path], heads: int | None = None) -> tuple:
    """({"A", "B", "C": RolloutViT}, preprocessing). tuned: the attention weights that exp01 writes."""
    vit, preprocess = load_vit(name, weights, heads)
    models = {"A": RolloutViT(vit)} | {k: RolloutViT(load_tuned(vit, file)) for k, file in tuned.items()}
    # the ViT image processor squashes to 224x224, bilinear (Image & Human Behaviour Dataset)
    return models, replace(preprocess, crop=MAP_SIZE, squash=True, interpolation="bilinear")


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


def regions_of(canvas: Tensor, anns: Sequence[dict]) -> dict[str, Tensor]:
    """{one of REGIONS: (R, 224, 224) bool}: one region of all animate pixels, one of all inanimate ones, and
    in the three size bins one region an object. canvas: see paint_masks."""
    masks = canvas == torch.arange(len(anns)).view(-1, 1, 1)  # (annotations, 224, 224)
    animate = torch.tensor([ann["name"] in ANIMATE for ann in anns], dtype=torch.bool)
    area = torch.tensor([math.nan if ann.get("iscrowd") else ann["area"] for ann in anns])  # NaN: in no bin
    return {"animate": masks[animate].any(0, keepdim=True), "inanimate": masks[~animate].any(0, keepdim=True),
            "small": masks[area < SMALL], "medium": masks[(area >= SMALL) & (area < LARGE)],
            "large": masks[area >= LARGE]}


def measure(batch: dict, models: Sequence[RolloutViT], scenes: Sequence[dict], everyone: Tensor,
            device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Entropy, and mean density over the regions of each of REGIONS (NaN where there is none), (B, S) each;
    sources: people, then the models, then other models' maps, then PRIORS, of the fixations of everyone,
    (224, 224), on the other images."""
    maps = [human_maps(batch["counts"].to(device)).cpu()]  # (B, 224, 224) in [0, 1] each
    for model in models:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            maps.append(model(batch["image"].to(device))[1].float().cpu())
    others = everyone - batch["counts"]
    maps += [*batch["maps"], centre_gaussian(others), human_maps(others)]
    found = {name: [] for name in ("entropy", *REGIONS)}
    for i, canvas, image in zip(batch["index"], batch["canvas"], torch.stack(maps, 1)):
        found["entropy"].append(entropy(image))  # image (S, 224, 224)
        regions = regions_of(canvas, scenes[i]["anns"])
        means = density(image, torch.cat([*regions.values()])).split([len(r) for r in regions.values()], 1)
        for name, mean in zip(regions, means):
            found[name].append(mean.nanmean(1))
    kept = {name: batch[name] for name in ("objects", "excluded", "readable")}
    return kept | {name: torch.stack(values) for name, values in found.items()}


# -------------------------------------------------------------------------------- statistics

def by_source(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """{source: {field: (n,)}}, with bias_animacy, bias_size: density of the first less the second of PAIRS.
    Both are NaN where one is missing, for animacy on images of an excluded category, for size on images of
    fewer than two objects: an analysis has one set of images. bias_sparsity: entropy less model A's."""
    use = {"animacy": arrays["excluded"] == 0, "size": arrays["objects"] >= 2}
    table = {}
    for s, source in enumerate(arrays["sources"].tolist()):
        fields = {name: arrays[name][:, s] for name in ("entropy", *REGIONS)} | {"objects": arrays["objects"]}
        fields["bias_sparsity"] = fields["entropy"] - arrays["entropy"][:, 1]  # of human, A, ...
        for analysis, (first, second) in PAIRS.items():
            bias = np.where(use[analysis], fields[first] - fields[second], np.nan)
            seen = np.where(np.isnan(bias), np.nan, 1)
            fields |= {f"bias_{analysis}": bias, first: fields[first] * seen, second: fields[second] * seen}
        table[source] = fields
    return table


def number(table: dict, key: str, source: str, field: str, less: str = "") -> dict | None:
    """Value of a claim over the images that have a source's field, or its difference from another source's:
    images, mean, SD, or a number of the t test against 0, of which a paired t test is one."""
    v = table[source][field] - (table[less][field] if less else 0)
    v = v[np.isfinite(v)]
    if len(v) < 2:
        return None
    if key == "mean":
        return estimate(v)
    test = paired_t(v, np.zeros(len(v)))
    d = test["dz"]
    half = 1.96 * ((1 + d * d / 2) / len(v))**.5  # of d's 95 % interval (Hedges & Olkin 1985)
    numbers = {"images": len(v), "SD": float(v.std(ddof=1)), "mean difference": test["mean"], "t": test["t"],
               "p": test["p"], "d": d}
    intervals = {"mean difference": test["ci"], "d": (d - half, d + half)}
    return dict(ours=numbers[key], ci=intervals.get(key), n=len(v))


def levels_of(objects: np.ndarray) -> list[float]:
    """The numbers of objects that two images or more have (Figure 3C, scene clutter)."""
    return [k for k in np.unique(objects) if (objects == k).sum() > 1]


def lower_entropy(table: dict, a: str, b: str) -> dict | None:
    """Value of a claim: at how many levels of clutter the mean entropy of a lies below that of b."""
    less, objects = table[a]["entropy"] - table[b]["entropy"], table[a]["objects"]
    levels = levels_of(objects)
    lower = [k for k in levels if np.nanmean(less[objects == k]) < 0]
    return dict(ours=f"{len(lower)} of {len(levels)}", n=len(less)) if levels else None


def t_claims(name: str, paper: Sequence, unit: str, **where) -> list[Claim]:
    """The four numbers of a t test; where: arguments of `number`."""
    units = {"mean difference": unit, "t": "", "p": "", "d": ""}
    return [Claim(f"{name}: {key}", value, units[key], partial(number, key=key, **where))
            for key, value in zip(units, paper)]


def claims(sources: Sequence[str]) -> list[Claim]:
    """Every number of the paper's section, in its order; other sources than the paper's have none."""
    rows = []
    for analysis, unit in UNIT.items():
        first, *second = PAIRS.get(analysis, ["entropy"])
        rows.append(Claim(f"{analysis}: images", PAPER_N[analysis], "",
                          partial(number, key="images", source="human", field=first)))
        for k in sources:
            paper = PAPER.get((analysis, k), (None,) * 6)
            for field, mean in zip([first, *second], paper):
                value = partial(number, key="mean", source=k, field=field)
                rows.append(Claim(f"{analysis}, {k}: {field}", mean, unit, value))
            if second:
                rows += t_claims(f"{analysis}, {k}", paper[2:], unit, source=k, field=f"bias_{analysis}")
            else:
                value = partial(number, key="SD", source=k, field=first)
                rows.append(Claim(f"{analysis}, {k}: SD", paper[1], unit, value))
        for (of, a, *b), paper in PAPER.items():
            if of == analysis and b and {a, *b} <= set(sources):
                name = f"{analysis}, {first}: {a} - {b[0]}"
                rows += t_claims(name, paper, unit, source=a, field=first, less=b[0])
    for k in "AC":
        if {"B", k} <= set(sources):
            value = partial(lower_entropy, a="B", b=k)
            rows.append(Claim(f"sparsity: levels of clutter with B below {k}", "all", "", value))
    return rows


def image_rows(names: Sequence[str], arrays: dict[str, np.ndarray]) -> list[dict]:
    return [{"image": name, "condition": source, **{k: arrays[k][i, s] for k in ("entropy", *REGIONS)},
             "objects": arrays["objects"][i], "excluded": arrays["excluded"][i]}
            for i, name in enumerate(names) for s, source in enumerate(arrays["sources"])]


# -------------------------------------------------------------------------------- figures

def draw_bars(ax, x: np.ndarray, table: dict, field: str, width: float, colours: list) -> None:
    """A bar a source at x: mean over images of a field, one standard error to each side."""
    means, errors = zip(*[mean_sem(fields[field]) for fields in table.values()])
    ax.bar(x, means, width, yerr=errors, color=colours, edgecolor="black", linewidth=.8, capsize=3)


def mean_sem(v: np.ndarray) -> tuple[float, float]:
    """Mean over the images that have a value, and its standard error."""
    return np.nanmean(v), np.nanstd(v, ddof=1) / np.isfinite(v).sum()**.5


def draw_clutter(ax, table: dict[str, dict[str, np.ndarray]], colours: list) -> None:
    """Fig 3C, right: entropy by the number of objects, where two images or more have it."""
    for (source, fields), face in zip(table.items(), colours):
        present = levels_of(fields["objects"])
        found = [mean_sem(fields["entropy"][fields["objects"] == k]) for k in present]
        ax.errorbar(present, [mean for mean, _ in found], [sem for _, sem in found], marker="o", capsize=2,
                    mfc=face, color="black" if source == "human" else face, label=source)
    ax.set(xlabel="objects in the image", ylabel="entropy (bits)")
    legend_beside(ax)


def draw(arrays: dict[str, np.ndarray], results: dict, folder: Path) -> None:
    """fig_3A, fig_3B, fig_3C, from the arrays of a run: biases (left), densities or entropy (right)."""
    table = by_source(arrays)
    x, colours = np.arange(len(table)), [COLOURS.get(source, f"C{i}") for i, source in enumerate(table)]
    for letter, (analysis, unit) in zip("ABC", UNIT.items()):
        if np.isnan(table["human"][f"bias_{analysis}"]).all():
            continue
        fig, ((left, right),) = figure_grid(1, 2, 1.7 + .45 * len(table), 3.1)
        draw_bars(left, x, table, f"bias_{analysis}", .7, colours)
        left.set_xticks(x, list(table))
        left.axhline(0, color="black", linewidth=.8)
        first, second = PAIRS.get(analysis, ("entropy", "A's"))
        left.set(ylabel=f"{analysis} bias ({unit})", title=f"{first} - {second}")
        if analysis in PAIRS:
            draw_bars(right, x - .19, table, first, .38, [(colour, .45) for colour in colours])
            draw_bars(right, x + .19, table, second, .38, [".35", *colours[1:]])  # people's white would hide
            right.set(ylabel=f"density ({unit})", title=f"{first} (light), {second} (dark)")
            right.set_xticks(x, list(table))
            right.axhline(SCALE / math.prod(MAP_SIZE), color="black", linewidth=.8, linestyle=":")
        else:
            draw_clutter(right, table, colours)
        fig.supxlabel("means over images; error bars: ±1 SEM; dots: uniform attention", fontsize=7)
        save_figure(fig, folder / f"fig_3{letter}")


# -------------------------------------------------------------------------------- main

def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    p = argument_parser(__file__, __doc__)
    add = p.add_argument_group("study", "Nothing is drawn at random: --seed changes no number.").add_argument
    add("--salicon", type=Path, help="folder of SALICON, COCO-FreeView, or OSIE (entropy alone)")
    add("--coco", type=Path, help="COCO's folder (annotations/instances_*.json)")
    add("--model", help="model A (default: vit_base_patch16_224; demo: demo_sl12); --weights: its file")
    add("--heads", type=int, help="heads of a block, with --model auto (default: known by its width)")
    add("--model-b", type=Path, help="attention weights of B, from exp01 (demo: those in checkpoints/)")
    add("--model-c", type=Path, help="the same of C")
    add("--maps", type=Path, action="append", default=[], help="another model's maps, <image>.npy or .png")
    args = parse_args(p, argv)
    shipped = Path(__file__).with_name("checkpoints")
    if args.data == "demo" and not args.model:
        args.model_b = args.model_b or shipped / "demo_B.pth"
        args.model_c = args.model_c or shipped / "demo_C.pth"
    args.model = args.model or ("demo_sl12" if args.data == "demo" else "vit_base_patch16_224")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    init_distributed(device)
    if only_draw(args):
        return redraw(args.out, draw)
    must_exist(args.model_b, args.model_c)
    # Images with people's fixations, COCO's masks of them, maps of other models; models A, B and C
    places = data.data_places(args, ("salicon", "coco"), ("salicon",))
    if not places["salicon"]:
        raise InputError("no fixations; give --salicon, whose images are measured.")
    images, left_out, coco, scenes, maps = load_data(places["salicon"], places["coco"], args.limit, args.maps)
    names, paths = [image.name for image in images], [image.path for image in images]
    tuned = {k: file for k, file in (("B", args.model_b), ("C", args.model_c)) if file}
    models, preprocess = load_models(args.model, args.weights, tuned, args.heads)

    # Entropy and densities of every source's map, on every image
    files = [*paths, *data.gaze_files(places["salicon"]), *data.coco_files(places["coco"], SPLIT)]
    folder = begin(args, [*files, *itertools.chain(*maps.values())], **models)
    how = partial(measure, models=[model.to(device).eval() for model in models.values()], scenes=scenes,
                  everyone=all_fixations(images), device=device, dtype=getattr(torch, args.dtype))
    more = partial(looked_at, images=images, coco=coco, scenes=scenes, maps=maps)
    items = data.Images(paths, preprocess, more, as_displayed=True)
    arrays = in_batches(folder / "images", items, args.batch_size, how, args.workers)
    arrays, names, left_out["unreadable"] = data.readable_only(arrays, names)
    arrays["sources"] = np.array(["human", *models, *maps, *PRIORS])

    # The paper's numbers beside ours; and the biases of every two sources, because the densities that the
    # paper compares rise with any shift of attention to objects
    table = by_source(arrays)
    tests = [dict(test="paired t", contrast=f"{k}: {a} - {b}", **paired_t(table[a][k], table[b][k]))
             for b, a in itertools.combinations(table, 2) for k in ("bias_animacy", "bias_size")]
    not_run = [f"model {k}: give --model-{k.lower()} the tuned_{k}.pth of exp01_finetune_vit.py"
               for k in "BC" if k not in models]
    not_run += [f"{k}: fewer than two images with both kinds of region (--coco)"
                for k in PAIRS if np.isfinite(table["human"][f"bias_{k}"]).sum() < 2]
    left_out |= {f"no map of {k}": [name for name, v in zip(names, fields["entropy"]) if np.isnan(v)]
                 for k, fields in table.items()}
    finish(args, "exp03_biases", arrays, image_rows(names, arrays), evaluate(claims(list(table)), table),
           draw, began, device, tests, not_run, left_out=left_out, on_screen=ON_SCREEN)


if __name__ == "__main__":
    cli(main)
