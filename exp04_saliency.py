"""exp04, second part: do maps of other saliency models guide saccades as well as DINO's attention does?

Dallain, Rodriguez, Perrinet & Miramond (2026), "A saccade-inspired approach to image classification using
vision transformer attention maps" (arXiv 2603.09613). The saccades of exp04_saccades.py on whole images of
288x384 px, ten of each class, guided by DINO, GBVS (Harel, Koch & Perona 2006), UNISAL (Droste, Jiao & Noble
2020), random maps, or the maps of any other model; and a ResNet-50 that sees one crop at the first fixation.

Commands
    laptop, demo world    python exp04_saliency.py
    after the saccades    python exp04_saccades.py --saliency
    one GPU, the paper    python exp04_saliency.py --data IMAGENET --dtype bfloat16
    maps of your model    python exp04_saliency.py --data FOLDER --train-head --saliency-dir MAPS

The paper: DINO about 5 points above GBVS and UNISAL; crops best at DINO's fixations, then UNISAL, centre,
GBVS, random. On the demo (60 images): DINO less random 19.2 points, DINO less GBVS -1.5 (undecided). Not
stated, ours: 288x384 px (a crop of 2.1 % implies that), crops moved inside the image and resized to 224 px.
Departure: GBVS is written anew (gbvs.py); the paper's Python port has faulty filters.
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
import torch.nn as nn
from matplotlib.patheffects import withStroke
from torch import Tensor
from torchvision.transforms.functional import normalize

import data
import exp04_claims as study
import exp04_saccades as exp04
import results
from common import InputError, generator, init_distributed, input_errors, pick_device, upsample
from gbvs import gbvs
from results import (Claim, begin, cli, difference, figure_grid, finish, in_batches, legend_beside,
                     parse_args, read_arrays, save_figure)
from unisal import UNISAL
from weights import (IMAGENET, WEIGHTS, Preprocess, load_resnet, locate_weights, must_exist,
                     read_state_dict)

# -------------------------------------------------------------------------------- constants

# Shapes: B images of a batch, n images of the run, P policies (whose maps guide), h, w token grid.
SALIENCY_GRID = (18, 24)  # tokens of an image: 288x384 px at patch 16
PER_CLASS = 10  # images of a class (Methods: a subset of the validation set)
UNISAL_DOMAIN = "DHF1K"  # the paper's choice among UNISAL's data sets, with its recurrent part
RESNET_SIZE = (224, 224)  # px, to which crops are resized
SAME = ("data", "model", "weights", "heads", "head", "train_head", "block", "border", "seed")  # of both runs
CROP_ORDER = ("dino", "unisal", "centre", "gbvs", "random")  # the paper's, best first
COLOURS = exp04.PALETTE | {"other": "#e377c2"}


# -------------------------------------------------------------------------------- data

def some_per_class(items: list[tuple], n: int, seed: int) -> list[tuple]:
    """A random n items (path, label) of every label, in order."""
    taken, keep = {label: 0 for _, label in items}, []
    for i in torch.randperm(len(items), generator=generator(seed, 2)).tolist():
        label = items[i][1]
        taken[label] += 1
        if taken[label] <= n:
            keep.append(i)
    return [items[i] for i in sorted(keep)]


def find_map(folder: Path, path: Path) -> Path:
    """Another model's map of an image: folder/[<class>/]<image name>.npy or an image file, which is read once
    to see that it can be."""
    stems = (f"{path.parent.name}/{path.stem}", path.stem)
    files = [folder / f"{stem}{suffix}" for stem in stems for suffix in (".npy", *data.IMAGE_SUFFIXES)]
    for file in files:
        if file.exists():
            data.read_map(file)
            return file
    raise InputError(f"--saliency-dir {folder}: no map for {data.image_name(path)}; expected {stems[0]}.npy "
                     "or .png, or the same without its folder.")


def given_map(i: int, files: list[Path], grid: tuple[int, int]) -> dict[str, Tensor]:
    """Item i's map (h, w) of another model, for `Images`."""
    values = torch.from_numpy(data.read_map(files[i]))
    return {"map": upsample(values - values.min(), grid)}  # saccades need an order, not a scale


def load_images(paths: list[Path], size: Sequence[int], grid: tuple[int, int], maps: list[Path]
                ) -> data.Images:
    """Whole images squashed to `size`, in [0, 1]; with maps of another model where there are any."""
    view = Preprocess(None, size, (0., 0., 0.), (1., 1., 1.), "bilinear", squash=True)
    return data.Images(paths, view, partial(given_map, files=maps, grid=grid) if maps else None)


def run_before(folder: Path | None, fovea: int, names: Sequence[str], asked: dict) -> dict[str, np.ndarray]:
    """{attention before, random before}: accuracy (n,) of these images in a run of exp04_saccades.py, NaN for
    those not measured there; {} without such a run. InputError: a run of other arguments, of other images."""
    if not folder:
        return {}
    before, found = results.read_json(folder / "args.json"), {}
    for key in SAME:
        if before.get(key) != asked[key]:
            raise InputError(f"--saccades {folder} was run with {key} {before.get(key)}, not {asked[key]}; "
                             "give a run of the same model, images and settings.")
    with input_errors(f"--saccades {folder}", f"a finished run of exp04_saccades.py with fovea {fovea}"):
        arrays = read_arrays(folder / "arrays.npz")
        for kind in ("attention", "random"):
            values = study.condition(arrays, f"{kind} fovea{fovea}")["accuracy"]
            value = dict(zip(arrays["image"].tolist(), values))
            found[f"{kind} before"] = np.array([value.get(name, np.nan) for name in names])
        if np.isfinite(found["random before"]).sum() < 2:
            raise ValueError("fewer than two of these images were measured there")
    return found


# -------------------------------------------------------------------------------- model

def load_unisal(file: Path | None = None) -> UNISAL:
    """UNISAL with the official weights_best.pth, strictly; file None: downloaded when absent."""
    net, state = UNISAL(UNISAL_DOMAIN), read_state_dict(file or locate_weights(WEIGHTS["unisal"]))
    with input_errors(file or "UNISAL", "UNISAL's weights_best.pth"):
        net.load_state_dict(state)
    return net.eval()


def load_others(demo: bool, unisal_file: Path | None, n_classes: int
                ) -> tuple[nn.Module | None, nn.Module | None, list[str]]:
    """(UNISAL, ResNet, what cannot run): None where weights that were not named cannot be had."""
    unisal, resnet, not_run = None, None, []
    try:
        if demo and not unisal_file:
            raise InputError("the demo has no weights for it; give --unisal-weights.")
        unisal = load_unisal(unisal_file)
    except InputError as e:
        if unisal_file:
            raise
        not_run.append(f"UNISAL: {e}".replace("--weights", "--unisal-weights"))
    try:
        if not demo and n_classes != 1000:
            raise InputError(f"torchvision's ResNet-50 has 1000 classes, the data {n_classes}.")
        resnet, _ = load_resnet("demo_resnet" if demo else "resnet50")
    except InputError as e:
        not_run.append(f"ResNet crops: {e}")
    return unisal, resnet, not_run


# -------------------------------------------------------------------------------- measure

def policies(unisal: nn.Module | None, maps: Path | None) -> list[str]:
    """Whose maps guide, in the order of the arrays' axis P."""
    there = dict(dino=True, gbvs=True, unisal=unisal, other=maps, random=True)
    return [name for name, given in there.items() if given]


def unisal_maps(unisal: nn.Module, images: Tensor) -> Tensor:
    """Probability of a fixation (B, y, x) for images in [0, 1], at sides that are multiples of 32."""
    size = [32 * max(1, round(side / 32)) for side in images.shape[-2:]]
    log_p = unisal(normalize(upsample(images, size), *IMAGENET)[:, None])  # (B, 1 frame, 1, y, x)
    return log_p[:, 0, 0].exp()


def policy_maps(batch: dict, images: Tensor, dino: Tensor, unisal: nn.Module | None, seed: int
                ) -> dict[str, Tensor]:
    """{policy: map (B, h, w)}, each resized bilinearly to the token grid of DINO's."""
    grid = tuple(dino.shape[-2:])
    maps = {"dino": dino, "gbvs": upsample(gbvs(images), grid)}
    if unisal:
        maps["unisal"] = upsample(unisal_maps(unisal, images), grid)
    if "map" in batch:
        maps["other"] = batch["map"].to(images.device)
    maps["random"] = exp04.random_maps(batch["index"], grid, seed).to(images.device)
    return maps


def crop_at(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Squares of `side` px around centres (B, 2) row, col in px, moved inside: (B, 3, side, side)."""
    last = torch.tensor(images.shape[-2:], device=images.device) - side
    corners = (centres - side / 2).round().long().clamp(min=0).minimum(last)  # (B, 2)
    crops = [image[:, y:y + side, x:x + side] for image, (y, x) in zip(images, corners.tolist())]
    return torch.stack(crops)


def crop_answers(resnet: nn.Module, images: Tensor, fixations: Tensor, patch: int, side: int) -> Tensor:
    """The ResNet's classes (B, P + 1) of crops at the fixations (B, P, 2), in tokens, and at the centre."""
    centre = torch.tensor(images.shape[-2:], device=images.device).expand(len(images), 1, 2) / 2
    places = torch.cat([(fixations + .5) * patch, centre], 1)  # (B, P + 1, 2), px
    answers = []
    for at in places.unbind(1):
        crops = upsample(crop_at(images, at, side), RESNET_SIZE)
        answers.append(resnet(normalize(crops, *IMAGENET)).argmax(1))
    return torch.stack(answers, 1)


def measure(batch: dict, model: nn.Module, head: nn.Linear, labels: Tensor, view: Preprocess,
            block: int, fovea: int, border: str, seed: int, unisal: nn.Module | None,
            resnet: nn.Module | None) -> dict[str, Tensor]:
    """Maps of every policy guide the same saccades, and one crop for a ResNet: arrays as of exp04_saccades,
    (B, P, 10), maps (B, P, h, w), crop_correct (B, P + 1), last at the centre; (B, 0) without a ResNet."""
    images = batch["image"].to(model.pos_embed.device)  # (B, 3, img_h, img_w) in [0, 1]
    label = labels[batch["index"]].to(images.device)
    x = normalize(images, view.mean, view.std).to(model.pos_embed)
    features, maps = exp04.look(model, x, [block], head.in_features // model.embed_dim)  # maps (B, 1, h, w)
    maps = policy_maps(batch, images, maps[:, 0], unisal, seed)
    guides = [(att, fovea) for att in maps.values()]
    found = exp04.saccades(model, head, x, label, features, guides, border)
    found["maps"] = torch.stack(list(maps.values()), 1)
    found["crop_correct"] = torch.zeros(len(label), 0)
    if resnet:
        first = torch.stack([found["row"][:, :, 0], found["col"][:, :, 0]], 2)  # (B, P, 2)
        pred = crop_answers(resnet, images, first, model.patch_size, fovea * model.patch_size)
        found["crop_correct"] = pred == label[:, None]
    return found | dict(index=batch["index"], readable=batch["readable"])


def examples(arrays: dict, images: data.Images) -> dict:
    """Images of Fig 9: their places in the arrays, and pictures."""
    chosen = np.unique(np.arange(exp04.EXAMPLES) * len(arrays["index"]) // exp04.EXAMPLES)
    pictures = torch.stack([images[int(i)]["image"] for i in arrays["index"][chosen]])
    return dict(example=chosen, example_image=(255 * pictures).round().byte().permute(0, 2, 3, 1))


# -------------------------------------------------------------------------------- statistics

def title(policy: str) -> str:
    return policy.upper() if policy in ("dino", "gbvs", "unisal") else policy


def distances(a: dict, b: dict) -> np.ndarray:
    """Tokens between the fixations of a and b at each saccade, (n, 10)."""
    return np.hypot(a["row"] - b["row"], a["col"] - b["col"])


def from_first(t: dict) -> np.ndarray:
    """Tokens from the first fixation to each, (n, 10)."""
    return np.hypot(t["row"] - t["row"][:, :1], t["col"] - t["col"][:, :1])


def both_sizes(t: dict, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy on these images and on exp04_saccades.py's smaller copies, where both were measured, (m,)."""
    both = ~np.isnan(before)
    return t["accuracy"][both], before[both]


def parting(a: dict, b: dict) -> np.ndarray:
    """Distance between the fixations of a and b at saccade 10 less that at saccade 1, (n,), tokens."""
    return distances(a, b)[:, -1] - distances(a, b)[:, 0]


def line(name: str, paper: str, unit: str, needs: Sequence[str], value: Callable) -> Claim:
    """A line computed from what `found` holds under the names `needs`; none where one of them is absent."""
    return Claim(name, paper, unit,
                 lambda found: value(*(found[key] for key in needs)) if set(needs) <= set(found) else None)


def less(what: str, a: str, b: str, paper: str, unit: str, quantity: Callable) -> Claim:
    """A policy less another one in a quantity of an image, (n,); points: of a share."""
    scale = 100 if unit == "points" else 1
    return line(f"{what}, {title(a)} - {title(b)}", paper, unit, (a, b),
                lambda x, y: difference(quantity(x), quantity(y), scale))


# found: {policy: what it gave, crop at policy: whether the ResNet was right (n,), ... before: see run_before}
CLAIMS = [
    line("accuracy, larger full image", None, "%", ["dino"], lambda t: study.share(t["correct_full"])),
    less("accuracy", "dino", "gbvs", "about 5", "points", lambda t: t["accuracy"]),
    less("accuracy", "dino", "unisal", "about 5", "points", lambda t: t["accuracy"]),
    *[less("accuracy", name, "random", "> 0", "points", lambda t: t["accuracy"])
      for name in ("dino", "gbvs", "unisal")],
    less("accuracy, saccades 1-5", "gbvs", "unisal", "< 0", "points",
         lambda t: t["correct"][:, :5].mean(1)),
    less("accuracy, saccades 6-10", "gbvs", "unisal", "about 0", "points",
         lambda t: t["correct"][:, 5:].mean(1)),
    less("visible", "dino", "unisal", "> 0", "% of image", lambda t: t["visible"].mean(1)),
    less("from first fixation", "dino", "unisal", "> 0", "tokens", lambda t: from_first(t)[:, 1:].mean(1)),
    less("visible", "gbvs", "unisal", "> 0", "% of image", lambda t: t["visible"].mean(1)),
    less("from first fixation", "gbvs", "unisal", "> 0", "tokens", lambda t: from_first(t)[:, 1:].mean(1)),
    *[line(f"{title(a)} to {title(b)}, saccade 10 - 1", "> 0", "tokens", (a, b),
           lambda t, u: difference(distances(t, u)[:, -1], distances(t, u)[:, 0]))
      for a, b in combinations(("dino", "gbvs", "unisal"), 2)],
    *[line(f"DINO to {title(a)} - GBVS to UNISAL, saccade 10 - 1", "> 0", "tokens",
           ("dino", a, "gbvs", "unisal"), lambda t, u, v, w: difference(parting(t, u), parting(v, w)))
      for a in ("gbvs", "unisal")],
    line("DINO to UNISAL - to GBVS, saccades 1-3", "< 0", "tokens", ("dino", "unisal", "gbvs"),
         lambda t, u, v: difference(distances(t, u)[:, :3].mean(1), distances(t, v)[:, :3].mean(1))),
    *[line(f"accuracy, larger - smaller images, {title(a)}", "< 0", "points", (a, before),
           lambda t, u: difference(*both_sizes(t, u), 100))
      for a, before in (("dino", "attention before"), ("random", "random before"))],
    line("loss by larger images, random - DINO", "> 0", "points",
         ("dino", "attention before", "random", "random before"),
         lambda t, u, v, w: difference(np.subtract(*both_sizes(t, u)), np.subtract(*both_sizes(v, w)), 100)),
    *[line(f"ResNet on a crop, {title(a)} - {title(b)}", "> 0", "points", (f"crop at {a}", f"crop at {b}"),
           lambda right_a, right_b: difference(right_a, right_b, 100))
      for a, b in combinations(CROP_ORDER, 2)]]


def tables(arrays: dict) -> tuple[dict, dict]:
    """({policy: what it gave}, {crop at policy, or at centre: whether the ResNet was right (n,)})."""
    found = {name: study.condition(arrays, name) for name in arrays["conditions"].tolist()}
    places = [f"crop at {name}" for name in (*found, "centre")]
    return found, dict(zip(places, arrays["crop_correct"].T))


def claims(arrays: dict, before: dict) -> list[dict]:
    """The lines of the table. before: of `run_before`, for the images of the arrays."""
    found, crops = tables(arrays)
    return results.evaluate(CLAIMS, found | crops | before)


# -------------------------------------------------------------------------------- figures

def draw_policies(found: dict, crops: dict, folder: Path) -> None:
    """Fig 10: ResNet crops, accuracy per saccade, visible part of the image."""
    fig, axes = figure_grid(1, 3, 3.6, 2.8)
    bars, accuracy, visible = axes[0]
    bars.set(ylabel="accuracy (%), 95 % interval", title="ResNet, crop at the first fixation")
    for place in sorted(crops, key=lambda k: -crops[k].mean()):
        name, right = place.removeprefix("crop at "), crops[place].astype(float)
        low, high = study.interval(right)
        error = 100 * np.array([[right.mean() - low], [high - right.mean()]])  # (2, 1)
        bars.bar(title(name), 100 * right.mean(), yerr=error, color=COLOURS[name])
    for name, t in found.items():
        exp04.accuracy_panels(accuracy, visible, t, title(name), COLOURS[name])
    exp04.levels(accuracy, t)
    bars.axhline(100 * t["chance"], color="black", linestyle="--", linewidth=.8)
    handles, names = accuracy.get_legend_handles_labels()
    legend_beside(visible, handles=handles, labels=names)
    save_figure(fig, folder / "fig10_policies")


def draw_fixations(found: dict, folder: Path) -> None:
    """Fig 11: distance between the models' fixations, from the first fixation, and from one to the next."""
    fig, axes = figure_grid(1, 3, 3.6, 2.8)
    between, spread, amplitude = axes[0]
    pairs = combinations([name for name in found if name != "random"], 2)
    for (a, b), style in zip(pairs, ("o-", "s-", "^-", "o--", "s--", "^--")):
        exp04.band(between, distances(found[a], found[b]), f"{title(a)} - {title(b)}", COLOURS[b],
                   "between two models (tokens)", style)
    legend_beside(between)
    for name, t in found.items():
        exp04.band(spread, from_first(t), title(name), COLOURS[name], "from the first fixation (tokens)")
        step = np.hypot(np.diff(t["row"], prepend=np.nan), np.diff(t["col"], prepend=np.nan))
        exp04.band(amplitude, step, title(name), COLOURS[name], "saccade amplitude (tokens)")
    legend_beside(amplitude)
    save_figure(fig, folder / "fig11_fixations")


def draw_maps(arrays: dict, patch: int, folder: Path) -> None:
    """Fig 9: maps of the saliency models with their first five fixations in order."""
    names = [title(name) for name in arrays["conditions"]]
    fig, axes = exp04.map_grid(arrays["example_image"], arrays["maps"][arrays["example"]], names)
    outline = [withStroke(linewidth=1.5, foreground="black")]
    for row, n in zip(axes, arrays["example"]):
        for p, ax in enumerate(row[1:]):
            y = (arrays["row"][n, p, :5] + .5) * patch - .5
            x = (arrays["col"][n, p, :5] + .5) * patch - .5
            ax.plot(x, y, "-", color="white", linewidth=.6)
            for s in range(5):
                ax.text(x[s], y[s], str(s + 1), color="white", fontsize=7, ha="center", va="center",
                        path_effects=outline)
    save_figure(fig, folder / "fig09_saliency_maps")


def draw(arrays: dict, facts: dict, folder: Path) -> None:
    """Every figure of a run."""
    found, crops = tables(arrays)
    draw_policies(found, crops, folder)
    draw_fixations(found, folder)
    draw_maps(arrays, facts["patch"], folder)


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = exp04.study_parser(__file__, __doc__)
    add = parser.add_argument_group("saliency").add_argument
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="px of the images (18x24 tokens: 288 384)")
    add("--saliency-dir", type=Path, help="folder with maps of another model, a further policy")
    add("--unisal-weights", type=Path, help="UNISAL's weights_best.pth (default: download; demo: not run)")
    add("--saccades", type=Path, help="folder of a run of exp04_saccades.py with the same arguments")
    return parse_args(parser, argv, exp04.PAPER, exp04.DEMO)


def image_size(size: Sequence[int] | None, patch: int, fovea: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(px, tokens) of the images; InputError unless they fit the patches, GBVS and the fovea."""
    size = tuple(size or (side * patch for side in SALIENCY_GRID))
    if size[0] % patch or size[1] % patch or min(size) < 64:
        raise InputError(f"--size {size[0]} {size[1]}: both must be multiples of the patch size {patch}, at "
                         "least 64 px.")
    grid = size[0] // patch, size[1] // patch
    exp04.fixation_sequence(torch.ones(1, *grid), fovea, 1)
    return size, grid


def head_file(args: argparse.Namespace) -> Path | None:
    """The classifier's file: --head, or what --saccades fitted. InputError: no such run, no such file."""
    must_exist(args.unisal_weights)
    if args.saccades and not (args.saccades / "results.json").is_file():
        raise InputError(f"--saccades {args.saccades}: no finished run of exp04_saccades.py; name one.")
    return args.saccades / "linear_head.pth" if args.saccades and args.train_head else args.head


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    init_distributed(device)
    if results.only_draw(args):
        return results.redraw(args.out, draw)
    # The network and classifier of exp04_saccades.py; ten images of each class, squashed to one size.
    own_head = head_file(args)
    items, fit, classes = exp04.load_data(args.data, args.train_head, args.limit, args.seed, args.workers)
    items = some_per_class(items, PER_CLASS, args.seed)
    maps = [find_map(args.saliency_dir, path) for path, _ in items] if args.saliency_dir else []
    model, view, head, block = exp04.load_model(args.model, args.weights, own_head, args.train_head,
                                               args.block, heads=args.heads)
    items, classes = data.labels_of(head, items, classes)
    paths, labels = zip(*items)
    names, fovea = list(map(data.image_name, paths)), args.fovea[0]
    size, grid = image_size(args.size, model.patch_size, fovea)
    images = load_images(paths, size, grid, maps)
    unisal, resnet, not_run = load_others(args.data == "demo", args.unisal_weights, len(classes))
    before = run_before(args.saccades, fovea, names, results.fixed_args(args))
    if not before:
        not_run.append("loss by larger images: give the folder of exp04_saccades.py with --saccades.")
    nets, fitted = dict(model=model, head=head, unisal=unisal, resnet=resnet), {}
    folder = begin(args, [*paths, *maps, *dict(fit)], **{key: net for key, net in nets.items() if net})
    model.to(device, getattr(torch, args.dtype))
    if head is None:
        nets["head"], fitted = exp04.fit_head(model, view, fit, len(classes), folder, args.batch_size,
                                              args.workers)
    nets = {key: net and net.to(device) for key, net in nets.items()}
    # On every image each model's map guides ten saccades; the ResNet sees a crop at the first of them.
    arrays = in_batches(folder / "saliency", images, args.batch_size, partial(
        measure, **nets, labels=torch.tensor(labels), view=view, block=block, fovea=fovea, border=args.border,
        seed=args.seed), args.workers)
    arrays, names, bad = data.readable_only(arrays, names, least=2)
    arrays |= dict(image=np.array(names), classes=np.array(classes),
                   conditions=np.array(policies(unisal, args.saliency_dir))) | examples(arrays, images)
    headline = claims(arrays, {key: values[arrays["index"]] for key, values in before.items()})
    finish(args, "exp04_saliency", arrays, study.image_rows(arrays), headline, draw, began, device, (),
           not_run, model=args.model, head_fitted=fitted, unreadable=fitted.get("unreadable", []) + bad,
           size=size, patch=model.patch_size, left_out=data.passed_over(args.data, args.train_head))


if __name__ == "__main__":
    cli(main)
