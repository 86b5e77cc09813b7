"""exp04, third part: what the saccades paper leaves for later. Cost, when to stop, a periphery, a memory.

Dallain, Rodriguez, Perrinet & Miramond (2026), "A saccade-inspired approach to image classification using
vision transformer attention maps" (arXiv 2603.09613), "Limitations and Future Directions". To the saccades of
exp04_saccades.py are added: (1) operations; (2) rules that say when to stop; (3) a periphery: tokens of a
small copy of the image beside the foveal ones; (4) keys and values that are kept from saccade to saccade;
(5) looking again: the next fixation from what was seen and the periphery, without the full image's map.

Commands
    laptop, demo world    python exp04_beyond.py
    a finer periphery     python exp04_beyond.py --periphery 6
    one GPU, ImageNet     python exp04_beyond.py --data IMAGENET --dtype bfloat16 --batch-size 256

"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from matplotlib import colormaps
from torch import Tensor

import data
import exp04_claims as study
import exp04_saccades as exp04
import results
from common import (InputError, VisionTransformer, init_distributed, pick_device, resize_matrix, rotate,
                    upsample)
from exp04_claims import SACCADES, STEPS
from results import Claim, difference, estimate, figure_grid, legend_beside, save_figure

# -------------------------------------------------------------------------------- constants

# Shapes: B images of a batch, n images of the run, S saccades, h, w patch grid, G x G tokens of periphery.
GUIDES = ("attention", "random", "small copy", "again", "again, turned")  # see measure()
CONDITIONS = (*GUIDES, *[f"{name} + periphery" for name in GUIDES], "attention + another's periphery",
              "remembered")
PAIRS = (
    ("attention + periphery", "attention"), ("random + periphery", "random"),
    ("attention + another's periphery", "attention"), ("attention + periphery", "random + periphery"),
    ("remembered", "attention"), ("again", "random"), ("again, turned", "random"), ("again", "again, turned"),
    ("again", "attention"), ("again", "small copy"), ("again + periphery", "random + periphery"),
    ("again + periphery", "attention + periphery"))  # conditions that are compared
SMALL = 8  # tokens a side of the small copy whose attention guides
SCHEMES = ("every saccade classified", "one pass at the end", "remembered", "one pass, small copy's map",
           "looking again", "one pass, random")
RULES = ("certainty", "growth of certainty", "entropy of the map", "another's certainty")
BUDGETS = np.arange(2, SACCADES)  # of stopping rules: the mean tokens of so many saccades
THRESHOLDS = np.linspace(0, 1, 400)  # quantiles of what a rule watches
COLOURS = colormaps["tab10"].colors


# -------------------------------------------------------------------------------- data

def another(i: int, images: data.Images) -> dict[str, Tensor]:
    """For item i of `Images`: the image half the list further on, of another class if there are several."""
    return {"other": images[(i + len(images) // 2) % len(images)]["image"]}


# -------------------------------------------------------------------------------- model

def gflop(vit: np.ndarray, tokens: np.ndarray, before: np.ndarray | int = 0) -> np.ndarray:
    """10^9 operations of a pass over so many patches; a multiplication with its addition is two. vit: patch,
    width, blocks, width of the MLP, prefix tokens. before: remembered patches that are attended to, too.
    Without biases, norms, softmax, GELU and the classifier."""
    patch, width, depth, hidden, prefix = vit
    n = tokens + prefix
    projections = 8 * n * width**2  # q, k, v and output
    attention = 4 * n * (n + before) * width  # q k^T, and its softmax times v
    mlp = 4 * n * hidden * width
    return (6 * tokens * patch**2 * width + depth * (projections + attention + mlp)) / 1e9


def smaller(model: VisionTransformer, x: Tensor, side: int) -> Tensor:
    """Square images (B, 3, img_h, img_w) reduced to side x side tokens."""
    shrink = resize_matrix(x.shape[-1], side * model.patch_size, "bilinear", antialias=True).to(x)
    return shrink @ x @ shrink.T


def forward_remembered(model: VisionTransformer, patches: Tensor, seen: Tensor, n_last: int) -> Tensor:
    """exp04.forward_seen of masks seen (B, S, N) that grow, with a memory: (B, S, n_last D). The plain loop:
    at each saccade, CLS, registers and the new patches attend to each other and to the keys and values kept
    from earlier patches; then those of the new patches are kept, too.

    Nothing depends on what comes later, so one pass does all saccades: each has a CLS and registers of its
    own, and a token attends to those of its saccade and to the patches revealed up to it."""
    (B, S, _), P, D = seen.shape, model.n_prefix, model.embed_dim
    step = S - seen.sum(1)  # (B, N), saccade that reveals a patch; S: none
    kept = step.argsort(dim=1, stable=True)[:, :int(seen[:, -1].sum(1).max())]  # (B, K), the revealed ones first
    x = torch.cat([model.prefix().repeat(B, S, 1), model.seen(patches, kept)], 1)
    x, turn = x.split([D, x.shape[2] - D], 2)  # turn: DINOv3's, from embed
    own = torch.arange(S, device=x.device).repeat_interleave(P).expand(B, -1)  # (B, S P)
    when = torch.cat([own, step.gather(1, kept)], 1)  # (B, S P + K), every token's saccade
    mask = when[:, :, None] >= when[:, None]  # query, key
    mask[..., :S * P] = when[:, :, None] == own[:, None]
    cls = []
    for block in model.blocks:
        q, k, v = block.attn.qkv(block.norm1(x)).unflatten(2, (3, model.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if model.rotary:
            q, k = rotate(q, turn), rotate(k, turn)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
        x = x + block.ls1(block.attn.proj(mixed.transpose(1, 2).flatten(2)))
        x = x + block.ls2(block.mlp(block.norm2(x)))
        cls.append(x[:, :S * P:P])  # (B, S, D)
    return model.norm(torch.stack(cls[-n_last:], 2)).flatten(2)


def look_again(model: VisionTransformer, patches: Tensor, coarse: Tensor, grid: tuple[int, int], fovea: int,
               border: str, block: int) -> tuple[Tensor, Tensor]:
    """As exp04.fixation_sequence, but each saccade goes to the maximum of the attention that CLS pays to the
    periphery, coarse (B, G G, D), in a pass over it and the patches revealed so far; not to revealed ones."""
    side = round(coarse.shape[1] ** .5)
    seen, looks = torch.zeros(len(coarse), *grid, dtype=torch.bool, device=coarse.device), []
    for _ in range(SACCADES):
        att = torch.empty(len(coarse), side, side, device=coarse.device)
        counts = seen.sum((1, 2))
        for k in counts.unique():  # images with equally many revealed patches go together
            some = counts == k
            own = patches[some][seen[some].flatten(1)].view(int(some.sum()), int(k), patches.shape[2])
            e = model.encode(torch.cat([coarse[some], own], 1), [block], n_blocks=block + 1)
            row = e.cls_attn[0][..., model.n_prefix:].float()  # (images, H, G G + k)
            att[some] = row[..., :side**2].amax(1).unflatten(1, (side, side))
        place, square = exp04.fixation_sequence(upsample(att, grid).masked_fill(seen, 0), fovea, 1, border)
        seen = seen | square[:, 0]
        looks.append((place[:, 0], seen))
    fixations, visible = zip(*looks)
    return torch.stack(fixations, 1), torch.stack(visible, 1)


# -------------------------------------------------------------------------------- measure

def timed(forward: Callable, *args) -> tuple[Tensor, float]:
    """What forward gives, and seconds; the copy to the CPU waits for an accelerator."""
    began = time.perf_counter()
    found = forward(*args)
    found.cpu()
    return found, time.perf_counter() - began


def measure(batch: dict, model: VisionTransformer, head: nn.Linear, labels: Tensor, block: int, fovea: int,
            border: str, seed: int, side: int) -> dict[str, Tensor]:
    """Arrays of exp04.answers under CONDITIONS; answers to the periphery alone; seconds an image of saccades
    computed anew and remembered. GUIDES: the image's map, a random one, a small copy's, look_again, and its
    foveas turned by 180 degrees: as many tokens, at places that mean nothing."""
    x, other = (batch[key].to(model.pos_embed) for key in ("image", "other"))
    label, n_last = labels[batch["index"]].to(x.device), head.in_features // model.embed_dim
    features, maps = exp04.look(model, x, [block], n_last)  # maps (B, 1, h, w)
    _, small = exp04.look(model, smaller(model, x, SMALL), [block])
    grid, patches = maps.shape[-2:], model.embed(x)
    coarse, wrong = (model.embed(smaller(model, v, side)) for v in (x, other))  # (B, G G, D)
    noise = exp04.random_maps(batch["index"], grid, seed).to(maps)
    looks = [exp04.fixation_sequence(att, fovea, SACCADES, border)
             for att in (maps[:, 0], noise, upsample(small[:, 0], grid))]
    places, foveas = look_again(model, patches, coarse, grid, fovea, border, block)
    looks += [(places, foveas), (places.new_tensor(grid) - 1 - places, foveas.flip(-2, -1))]
    fixations, visible = (torch.stack(parts, 1) for parts in zip(*looks))  # (B, 5, 10, 2 and h, w)
    seen = visible.flatten(-2)  # (B, 5, 10, h w)
    beside = F.pad(seen, (0, side**2), value=True)
    anew, seconds_anew = timed(exp04.forward_seen, model, patches, seen[:, :1], n_last)
    kept, seconds_kept = timed(forward_remembered, model, patches, seen[:, 0], n_last)
    revealed = torch.cat([
        anew, exp04.forward_seen(model, patches, seen[:, 1:], n_last),
        exp04.forward_seen(model, torch.cat([patches, coarse], 1), beside, n_last),
        exp04.forward_seen(model, torch.cat([patches, wrong], 1), beside[:, :1], n_last), kept[:, None]], 1)
    guide = [*range(5), *range(5), 0, 0]  # of each condition
    found = exp04.answers(head, label, features, maps[:, 0], fixations[:, guide], visible[:, guide], revealed)
    alone, _ = exp04.classify(head, model.norm(model.encode(coarse).cls[:, -n_last:]).flatten(1))
    seconds = torch.tensor([seconds_anew, seconds_kept]).expand(len(x), 2) / len(x)
    return found | dict(periphery=alone == label, seconds=seconds, index=batch["index"],
                        readable=batch["readable"])


# -------------------------------------------------------------------------------- statistics

def stopping(t: dict) -> dict[str, dict[str, np.ndarray]]:
    """{rule, or fixed: correct, tokens, and place, the index of the saccade at which it stops}, (m, 8) each,
    for the mean tokens of each of BUDGETS. A rule stops where what it watches, (n, 10), reaches a threshold,
    which every other image takes part in choosing; the results are of the rest. The last rule is the null."""
    growth = np.diff(t["certainty"], axis=1, prepend=-np.inf)  # infinite at the first saccade: goes on
    watched = (t["certainty"], -growth, STEPS / np.maximum(t["entropy"], 1e-6)[:, None],  # saccades a bit
               np.roll(t["certainty"], len(growth) // 2, 0))
    chooses = np.arange(len(growth)) % 2 == 0
    budgets = t["tokens"][chooses].mean(0)[BUDGETS - 1]  # (8,)
    places = dict(fixed=np.tile(BUDGETS - 1, (len(growth), 1)))  # (n, 8)
    for rule, signal in zip(RULES, watched):
        thresholds = np.append(np.quantile(signal[chooses, 1:], THRESHOLDS), np.inf)  # inf: never
        reached = [signal >= threshold for threshold in thresholds]
        stops = np.stack([np.where(r.any(1), r.argmax(1), SACCADES - 1) for r in reached], 1)  # (n, 401)
        spent = np.take_along_axis(t["tokens"], stops, 1)[chooses].mean(0)  # (401,)
        places[rule] = stops[:, np.abs(spent[:, None] - budgets).argmin(0)]
    return {rule: dict(place=place[~chooses]) | {
        key: np.take_along_axis(t[key], place, 1)[~chooses] for key in ("correct", "tokens")}
        for rule, place in places.items()}


def schemes(arrays: dict, found: dict) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """{scheme: correct, GFLOP of the answer, and with those of what draws the map}, (n, 10) each."""
    work, coarse = partial(gflop, arrays["vit"]), arrays["side"]**2
    tokens, correct = ({name: found[name][key] for name in CONDITIONS} for key in ("tokens", "correct"))
    seen, full = tokens["attention"], work(found["attention"]["n_tokens"])[:, None]
    kept = work(np.diff(seen, axis=1, prepend=0), np.pad(seen, ((0, 0), (1, 0)))[:, :-1]).cumsum(1)
    looks = work(tokens["again"] + coarse)  # each answers, and tells where to look next
    small, random = work(tokens["small copy"]), work(tokens["random"])
    return dict(zip(SCHEMES, (
        (correct["attention"], work(seen).cumsum(1), work(seen).cumsum(1) + full),
        (correct["attention"], work(seen), work(seen) + full),
        (correct["remembered"], kept, kept + full),
        (correct["small copy"], small, small + work(SMALL**2)),
        (correct["again + periphery"], looks, work(coarse) + looks.cumsum(1)),
        (correct["random"], random, random))))


def front(cost: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Which points (P,) are on the front: none costs no more, is no less accurate, and differs."""
    good = (cost <= cost[:, None]) & (accuracy >= accuracy[:, None])  # (P, P): the second beside the first
    return ~(good & ((cost < cost[:, None]) | (accuracy > accuracy[:, None]))).any(1)


def tables(arrays: dict) -> dict:
    """{condition: what it gave}, and what else claims and figures need, under names of their own."""
    found = {name: study.condition(arrays, name) for name in CONDITIONS}
    a, b = (found[name]["pred"] for name in ("remembered", "attention"))
    return found | dict(
        schemes=schemes(arrays, found), stopping=stopping(found["attention"]),
        full=gflop(arrays["vit"], found["attention"]["n_tokens"]), periphery=arrays["periphery"].astype(float),
        same=a == b, same_null=a == np.roll(b, len(b) // 2, 0))  # of another image


def claims(arrays: dict) -> list[dict]:
    """The lines of the table. The paper has no numbers of these: it asks for them."""
    found, rows = tables(arrays), []

    def row(name: str, unit: str, value: dict) -> None:
        rows.append(Claim(name, None, unit, lambda: value))

    row("full image", "GFLOP", estimate(found["full"]))
    for name, (correct, answer, whole) in found["schemes"].items():
        row(f"{name}, saccade 5", "% of full GFLOP", estimate(100 * answer[:, 4] / found["full"]))
        row(f"{name}, saccade 5, with its map", "% of full GFLOP", estimate(100 * whole[:, 4] / found["full"]))
        row(f"{name}, saccade 5: accuracy - full image", "points",
            difference(correct[:, 4], found["attention"]["correct_full"], 100))
    fixed = found["stopping"]["fixed"]
    for rule in RULES:
        for key, unit, scale in (("correct", "points", 100), ("tokens", "tokens", 1)):
            row(f"stopped by {rule} - after a fixed number: {key}", unit,
                difference(found["stopping"][rule][key].mean(1), fixed[key].mean(1), scale))
    row("periphery alone: accuracy", "%", study.share(found["periphery"]))
    for a, b in PAIRS:
        row(f"{a} - {b}: accuracy", "points", difference(found[a]["accuracy"], found[b]["accuracy"], 100))
    for s in study.TOLD:
        row(f"remembered: same answer as recomputed, saccade {s}", "%", study.share(found["same"][:, s - 1]))
    row("remembered: same answer as for another image", "%", study.share(found["same_null"][:, -1]))
    anew, kept = arrays["seconds"].sum(0)
    row("remembered: time", "% of recomputed", dict(ours=100 * kept / anew, n=len(arrays["seconds"])))
    return results.evaluate(rows)


# -------------------------------------------------------------------------------- figures

def draw_panels(panels: dict, x: str, path: Path, y: str = "accuracy (% of images)", best: bool = False) -> None:
    """Panels of curves {label: (x, answers 0 or 1), (n, points) each}: means, 95 % intervals; best: the front."""
    fig, axes = figure_grid(1, len(panels), 5, 3, sharey=True)
    for ax, (title, curves) in zip(axes[0], panels.items()):
        for (label, (where, answers)), colour in zip(curves.items(), COLOURS):
            mean, (low, high) = answers.mean(0), study.interval(answers.astype(float))
            bars = 100 * np.abs([mean - low, high - mean])  # abs: of a rounded -1e-17
            ax.errorbar(where.mean(0), 100 * mean, bars, fmt="o-", color=colour, label=label, markersize=3)
        if best:
            points = np.concatenate([np.stack([v.mean(0) for v in curve], 1) for curve in curves.values()])
            points = points[front(*points.T)]  # (points, 2)
            points = points[points[:, 0].argsort()]
            ax.step(points[:, 0], 100 * points[:, 1], "k:", where="post", label="front")
        ax.set(title=title, xlabel=x, ylabel=y)
        legend_beside(ax)
    save_figure(fig, path)


def draw(arrays: dict, facts: dict, folder: Path) -> None:
    """A figure for each of the five parts."""
    found, steps = tables(arrays), np.tile(STEPS, (len(arrays["index"]), 1))
    seen = {name: found[name]["correct"] for name in CONDITIONS}
    seen |= {name: np.tile(answers[:, None], SACCADES) for name, answers in (
        ("full image", found["attention"]["correct_full"]), ("periphery alone", found["periphery"]))}

    def curves(*names: str) -> dict:
        return {name: (steps, seen[name]) for name in names}

    costs, stop, full = {}, found["stopping"]["certainty"], (found["full"][:, None], seen["full image"][:, :1])
    for i, title in ((1, "without what draws the map"), (2, "with what draws the map")):
        costs[title] = {name: (scheme[i], scheme[0]) for name, scheme in found["schemes"].items()}
        spent = np.take_along_axis(found["schemes"][SCHEMES[0]][i][1::2], stop["place"], 1)
        costs[title] |= {"the same, stopped by certainty": (spent, stop["correct"]), "full image": full}
    draw_panels(costs, "GFLOP an image", folder / "fig_cost", best=True)
    rules = {rule: (found["stopping"][rule]["tokens"], found["stopping"][rule]["correct"]) for rule in found["stopping"]}
    draw_panels({"images that chose no threshold": rules}, "foveal tokens an image", folder / "fig_stopping")
    draw_panels({"attention": curves("attention", *[name for name in CONDITIONS if name.startswith("attention +")],
                                     "periphery alone", "full image"),
                 "random": curves("random", "random + periphery", "periphery alone", "full image")},
                "saccade", folder / "fig_periphery")
    same = {"as recomputed": (steps, found["same"]), "as for another image": (steps, found["same_null"])}
    draw_panels({"correct": curves("attention", "remembered", "full image"), "same answer": same}, "saccade",
                folder / "fig_remembered", "images (%)")
    draw_panels({"foveas alone": curves(*GUIDES, "full image"),
                 "foveas and periphery": curves(*CONDITIONS[5:10], "full image")}, "saccade", folder / "fig_again")


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = exp04.study_parser(__file__, __doc__)
    parser.add_argument("--periphery", type=results.at_least(1), default=4, metavar="G",
                        help="G x G tokens of the reduced image (%(default)s)")
    return results.parse_args(parser, argv, exp04.PAPER, exp04.DEMO)


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    init_distributed(device)
    if results.only_draw(args):
        return results.redraw(args.out, draw)
    # The network, classifier and images of exp04_saccades.py, with the first fovea.
    items, fit, classes = exp04.load_data(args.data, args.train_head, args.limit, args.seed, args.workers)
    model, view, head, block = exp04.load_model(args.model, args.weights, args.head, args.train_head,
                                                args.block, args.fovea[:1], args.heads)
    if args.periphery >= view.crop // model.patch_size:
        raise InputError(f"--periphery {args.periphery}: expected fewer tokens a side than the image's "
                         f"{view.crop // model.patch_size}; give a smaller number.")
    items, classes = data.labels_of(head, items, classes)
    paths, labels = zip(*items)
    folder = results.begin(args, [path for path, _ in items + fit], model=model, head=head or model.head)
    model.to(device, getattr(torch, args.dtype))
    fitted = {}
    if args.train_head:
        head, fitted = exp04.fit_head(model, view, fit, len(classes), folder, args.batch_size, args.workers)
    # On every image each guide makes ten saccades, classified from the foveas, and with a periphery.
    images = data.Images(paths, view)
    arrays = results.in_batches(
        folder / "beyond", data.Images(paths, view, partial(another, images=images)), args.batch_size, partial(
            measure, model=model, head=head.to(device), labels=torch.tensor(labels), block=block,
            fovea=args.fovea[0], border=args.border, seed=args.seed, side=args.periphery), args.workers)
    arrays, names, bad = data.readable_only(arrays, [data.image_name(path) for path in paths], least=2)
    vit = [model.patch_size, model.embed_dim, len(model.blocks), model.blocks[0].mlp.fc1.out_features, model.n_prefix]
    arrays |= dict(image=np.array(names), classes=np.array(classes), conditions=np.array(CONDITIONS),
                   vit=np.array(vit), side=np.array(args.periphery))
    headline = claims(arrays)
    results.finish(args, "exp04_beyond", arrays, exp04.image_rows(arrays), headline, draw, began, device,
                   model=args.model, block=block, preprocessing=vars(view),
                   head_fitted=fitted, unreadable=fitted.get("unreadable", []) + bad,
                   left_out=data.passed_over(args.data, args.train_head))


if __name__ == "__main__":
    results.cli(main)
