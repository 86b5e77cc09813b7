"""exp04, beyond the paper: what cost saccades save, when to stop, a periphery, a memory, looking again.

Dallain, Rodriguez, Perrinet & Miramond (2026), "A saccade-inspired approach to image classification using
vision transformer attention maps" (arXiv 2603.09613), "Limitations and Future Directions". To the saccades of
exp04_saccades.py are added: (1) operations; (2) rules that say when to stop; (3) a periphery: tokens of a
small copy of the image beside the foveal ones; (4) keys and values that are kept from saccade to saccade;
(5) looking again: the next fixation from what was seen and the periphery, without the full image's map.

Commands
    laptop, demo world    python exp04_beyond.py
    a finer periphery     python exp04_beyond.py --periphery 6
    one GPU, ImageNet     python exp04_beyond.py --data IMAGENET --dtype bfloat16

The paper has no numbers of these. Demo, 200 images: with the pass that draws the map, saccades cost more than
the full image (116 % after five, one answer), with a small copy's map 42 %, 11.5 points below the full image;
random foveas are on the front up to a third of its operations. No rule is seen to beat a fixed number. A
periphery of 4x4 tokens adds 4.5 points to attention, 12.4 to random foveas; alone it gives 54 %. With a
memory 97 % of the answers stay the same. Looking again is 8.8 points above random foveas, 7.7 below
attention; with the periphery in all answers 3.8 (-0.3 to 7.8) above, undecided, and 4.8 below. The first
--fovea is used. Nulls, choices: docs/exp04.md, "Beyond the paper".
"""
from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import data
import exp04_claims as study
import exp04_saccades as exp04
import results
from common import InputError, VisionTransformer, init_distributed, pick_device, resize_matrix, upsample
from exp04_claims import SACCADES, STEPS
from results import Claim, difference, estimate

# -------------------------------------------------------------------------------- constants

# Shapes: B images of a batch, n images of the run, S saccades, h, w patch grid, G x G tokens of periphery.
GUIDES = ("attention", "random", "small copy", "again", "again, turned")  # see measure()
CONDITIONS = (*GUIDES, *[f"{name} + periphery" for name in GUIDES], "attention + another's periphery",
              "remembered")
PAIRS = (  # conditions that are compared
    ("attention + periphery", "attention"), ("random + periphery", "random"),
    ("attention + another's periphery", "attention"), ("attention + periphery", "random + periphery"),
    ("remembered", "attention"), ("again", "random"), ("again, turned", "random"), ("again", "again, turned"),
    ("again", "attention"), ("again + periphery", "random + periphery"),
    ("again + periphery", "attention + periphery"))
SMALL = 8  # tokens a side of the small copy whose attention guides
RULES = ("certainty", "growth of certainty", "entropy of the map")
BUDGETS = np.arange(2, SACCADES)  # of stopping rules: the mean tokens of so many saccades
ON_SCREEN = (r"saccade 5, (one pass|.*map|looking.*): (with.*|acc.*)|stopped.*fixed number.*|periphery.*"
             r"|(?!again, turned).* - .*: accuracy|remembered(: time|.*10: answer as rec.*)")
QUANTILES = np.linspace(0, 1, 400)  # of what a rule watches: its thresholds


# -------------------------------------------------------------------------------- data

def another(i: int, images: data.Images) -> dict[str, Tensor]:
    """For item i of `Images`: the image half the list further on, of another class unless one fills half."""
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
    kept = step.argsort(dim=1, stable=True)[:, :int(seen[:, -1].sum(1).max())]  # (B, K), revealed first
    x = torch.cat([model.prefix().repeat(B, S, 1), model.seen(patches, kept)], 1)
    x, turn = x.split([D, x.shape[2] - D], 2)  # turn: DINOv3's, from embed
    own = torch.arange(S, device=x.device).repeat_interleave(P).expand(B, -1)  # (B, S P)
    when = torch.cat([own, step.gather(1, kept)], 1)  # (B, S P + K), every token's saccade
    mask = when[:, :, None] >= when[:, None]  # query, key
    mask[..., :S * P] = when[:, :, None] == own[:, None]
    cls = []
    for block in model.blocks:
        x, _ = block(x, turn=turn if model.rotary else None, mask=mask[:, None])
        cls.append(x[:, :S * P:P])  # (B, S, D)
    return model.norm(torch.stack(cls[-n_last:], 2)).flatten(2)


def look_again(model: VisionTransformer, patches: Tensor, coarse: Tensor, grid: tuple[int, int], fovea: int,
               border: str, block: int) -> tuple[Tensor, Tensor]:
    """As exp04.fixation_sequence, but each saccade goes to the maximum of the attention that CLS pays to the
    periphery, coarse (B, G G, D), in a pass over it and the patches revealed so far; not to revealed ones."""
    side = round(coarse.shape[1] ** .5)
    seen, looks = torch.zeros(len(coarse), *grid, dtype=torch.bool, device=coarse.device), []
    for _ in range(SACCADES):
        att, counts = torch.empty(len(coarse), side, side, device=coarse.device), seen.sum((1, 2))
        for k in counts.unique():  # images with equally many revealed patches go together
            some = counts == k
            own = patches[some][seen[some].flatten(1)].view(int(some.sum()), int(k), patches.shape[2])
            e = model.encode(torch.cat([coarse[some], own], 1), [block], n_blocks=block + 1)
            row = e.cls_attn[0][..., model.n_prefix:].float()  # (images, H, G G + k)
            att[some] = row[..., :side**2].amax(1).unflatten(1, (side, side))
        place, square = exp04.fixation_sequence(upsample(att, grid).masked_fill(seen, 0), fovea, 1, border)
        seen = seen | square[:, 0]
        looks.append((place[:, 0], seen))
    return tuple(torch.stack(parts, 1) for parts in zip(*looks))  # (B, 10, 2 and h, w)


# -------------------------------------------------------------------------------- measure

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
    places.cpu()  # waits for an accelerator
    clock = [time.perf_counter()]
    anew = exp04.forward_seen(model, patches, seen[:, :1], n_last).cpu()  # .cpu(): waits for an accelerator
    clock.append(time.perf_counter())
    kept = forward_remembered(model, patches, seen[:, 0], n_last)[:, None].cpu()
    clock.append(time.perf_counter())
    revealed = torch.cat([part.to(x) for part in (
        anew, exp04.forward_seen(model, patches, seen[:, 1:], n_last),
        exp04.forward_seen(model, torch.cat([patches, coarse], 1), beside, n_last),
        exp04.forward_seen(model, torch.cat([patches, wrong], 1), beside[:, :1], n_last), kept)], 1)
    guide = [*range(5), *range(5), 0, 0]  # of each condition
    found = exp04.answers(head, label, features, maps[:, 0], fixations[:, guide], visible[:, guide], revealed)
    alone, _ = exp04.classify(head, model.norm(model.encode(coarse).cls[:, -n_last:]).flatten(1))
    return found | dict(periphery=alone == label, seconds=np.tile(np.diff(clock) / len(x), (len(x), 1)),
                        index=batch["index"], readable=batch["readable"])


# -------------------------------------------------------------------------------- statistics

def stopping(t: dict) -> dict[str, dict[str, np.ndarray]]:
    """{rule, or fixed number: place, the index of the saccade at which it stops; correct and tokens there;
    null, correct where it stops on another image}, (m, 8) each, for the mean tokens of BUDGETS. A rule stops
    where its signal, (n, 10), reaches a threshold; every other image chooses it, the rest are given here."""
    growth = np.diff(t["certainty"], axis=1, prepend=-np.inf)  # infinite at the first saccade: goes on
    signals = t["certainty"], -growth, STEPS / np.maximum(t["entropy"], 1e-6)[:, None]  # saccades a bit
    chooses = np.arange(len(growth)) % 2 == 0
    correct, tokens = t["correct"][~chooses], t["tokens"][~chooses]
    budgets = t["tokens"][chooses].mean(0)[BUDGETS - 1]  # (8,)
    places = {"fixed number": np.tile(BUDGETS - 1, (len(tokens), 1))}  # (m, 8)
    for rule, signal in zip(RULES, signals):
        thresholds = np.append(np.quantile(signal[chooses, 1:], QUANTILES), np.inf)  # inf: never
        reached = signal[:, None] >= thresholds[:, None]  # (n, 401, 10)
        stops = np.where(reached.any(2), reached.argmax(2), SACCADES - 1)  # (n, 401)
        spent = np.take_along_axis(t["tokens"], stops, 1)[chooses].mean(0)
        places[rule] = stops[~chooses][:, np.abs(spent[:, None] - budgets).argmin(0)]
    return {rule: dict(
        place=place, correct=np.take_along_axis(correct, place, 1),
        tokens=np.take_along_axis(tokens, place, 1),
        null=np.take_along_axis(correct, np.roll(place, len(place) // 2, 0), 1))
        for rule, place in places.items()}


def front(cost: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Which points (P,) are on the front: none costs no more, is no less accurate, and differs."""
    good = (cost <= cost[:, None]) & (accuracy >= accuracy[:, None])  # (P, P): the second beside the first
    return ~(good & ((cost < cost[:, None]) | (accuracy > accuracy[:, None]))).any(1)


def tables(arrays: dict) -> tuple[dict, dict, dict]:
    """({condition: what it gave}, `stopping` of attention's saccades, {scheme: correct, GFLOP of the answer,
    and with those of what draws the map}, (n, points) each)."""
    found, work = {name: study.condition(arrays, name) for name in CONDITIONS}, partial(gflop, arrays["vit"])
    patch, width, _, *others = arrays["vit"]
    to_map = partial(gflop, [patch, width, arrays["map_blocks"], *others])  # the blocks up to the map's
    seen, correct = ({name: t[key] for name, t in found.items()} for key in ("tokens", "correct"))
    tokens, full, side = seen["attention"], work(arrays["n_tokens"])[:, None], arrays["side"]**2
    once, each, draw_full = work(tokens), work(tokens).cumsum(1), to_map(arrays["n_tokens"])[:, None]
    kept = work(np.diff(tokens, axis=1, prepend=0), np.pad(tokens, ((0, 0), (1, 0)))[:, :-1]).cumsum(1)
    looks = work(seen["again"] + side)  # each answers, and tells where to look next
    small, random = work(seen["small copy"]), work(seen["random"])
    stop = stopping(found["attention"])
    until = np.take_along_axis(each[1::2], stop["certainty"]["place"], 1)  # of images that chose no threshold
    return found, stop, {
        "each saccade": (correct["attention"], each, each + draw_full),
        "one pass": (correct["attention"], once, once + draw_full),
        "remembered": (correct["remembered"], kept, kept + draw_full),
        "one pass, small copy's map": (correct["small copy"], small, small + to_map(SMALL**2)),
        "looking again": (correct["again + periphery"], looks, to_map(side) + looks.cumsum(1)),
        "one pass, random": (correct["random"], random, random),
        "each, stopped by certainty (half the images)": (
            stop["certainty"]["correct"], until, until + draw_full[1::2]),
        "full image": (arrays["correct_full"][:, None], full, full)}


def claims(arrays: dict) -> list[dict]:
    """The lines of the table. The paper has no numbers of these: it asks for them."""
    (found, stop, costs), rows = tables(arrays), []

    def row(name: str, unit: str, value: dict) -> None:
        rows.append(Claim(name, None, unit, lambda: value))

    full = costs.pop("full image")[1][:, 0]
    row("full image: operations", "GFLOP", estimate(full))
    for name, (correct, *spent) in list(costs.items())[:-1]:  # those of ten saccades
        for cost, what in zip(spent, ("operations", "with the map's")):
            row(f"saccade 5, {name}: {what}", "% of full", estimate(100 * cost[:, 4] / full))
        loss = difference(correct[:, 4], arrays["correct_full"], 100)
        row(f"saccade 5, {name}: accuracy - full", "points", loss)
    fixed = {key: v.mean(1) for key, v in stop["fixed number"].items()}  # over BUDGETS
    for rule in RULES:
        correct, tokens, null = (stop[rule][key].mean(1) for key in ("correct", "tokens", "null"))
        gain = difference(correct, fixed["correct"], 100)
        row(f"stopped by {rule} - fixed number: correct", "points", gain)
        row(f"stopped by {rule} - fixed number: tokens", "tokens", difference(tokens, fixed["tokens"]))
        row(f"stopped by {rule} - as another image: correct", "points", difference(correct, null, 100))
    row("periphery alone: accuracy", "%", study.share(arrays["periphery"]))
    for a, b in PAIRS:
        right = (found[name]["correct"].sum(1) for name in (a, b))  # of ten answers
        row(f"{a} - {b}: accuracy", "points", difference(*right, 100 / SACCADES))
    first = difference(found["attention + periphery"]["first"], found["attention"]["first"])
    row("attention + periphery - attention: first correct", "saccades", first)
    for s in study.TOLD:
        row(f"remembered, saccade {s}: answer as recomputed", "%", study.share(same_answer(found)[:, s - 1]))
    null, (anew, kept) = same_answer(found, len(full) // 2), np.median(arrays["seconds"], 0)
    row("remembered, saccade 10: answer as another's", "%", study.share(null[:, 9]))
    row("remembered: time", "% of recomputed", dict(ours=100 * kept / anew, n=len(full)))
    return results.evaluate(rows)


def same_answer(found: dict, shift: int = 0) -> np.ndarray:
    """Whether answers with a memory (n, 10) are those computed anew, or those of an image further on."""
    return found["remembered"]["pred"] == np.roll(found["attention"]["pred"], shift, 0)


# -------------------------------------------------------------------------------- figures

def draw_panels(panels: dict, x: str, path: Path, best: bool = False) -> None:
    """Panels of curves {label: (x, answers 0 or 1), (n, points)}: means, 95 % intervals, or their front."""
    fig, axes = results.figure_grid(1, len(panels), 5, 3, sharey=True)
    labels = list({label: None for curves in panels.values() for label in curves})
    for ax, (title, curves) in zip(axes[0], panels.items()):
        points = [np.stack([where.mean(0), answers.mean(0)]) for where, answers in curves.values()]
        for (label, (_, answers)), (where, mean) in zip(curves.items(), points):
            low, high = study.interval(answers.astype(float))
            bars = 100 * np.abs([mean - low, high - mean])  # abs: of a rounded -1e-17
            ax.errorbar(where, 100 * mean, bars, fmt="o-", elinewidth=.5, markersize=3, label=label,
                        color=f"C{labels.index(label)}")  # the same in every panel
        ax.set(title=title, xlabel=x, ylabel="images (%)", xscale="log" if best else "linear")
        if best:
            where, mean = np.concatenate(points, 1)
            ends = sorted(zip(where[front(where, mean)], 100 * mean[front(where, mean)]))
            ax.step(*zip(*ends), "k:", where="post", label="front")
        results.legend_beside(ax)
    results.save_figure(fig, path)


def draw(arrays: dict, facts: dict, folder: Path) -> None:
    """A figure for each of the five parts."""
    found, stop, costs = tables(arrays)
    steps = np.broadcast_to(STEPS, (len(arrays["index"]), SACCADES))
    seen = {name: (steps, t["correct"]) for name, t in found.items()} | {
        name: (steps, arrays[key][:, None].repeat(SACCADES, 1)) for name, key in (
            ("full image", "correct_full"), ("periphery alone", "periphery"))}

    def some(*names: str, beside: str = "") -> dict:
        return {name: seen[name + beside] for name in names} | {"full image": seen["full image"]}

    draw_panels({title: {name: (cost[i], cost[0]) for name, cost in costs.items()} for i, title in (
        (1, "correct; operations of the answers"), (2, "correct; with those for the map"))},
        "GFLOP an image", folder / "fig_cost", best=True)
    draw_panels({"correct, of images that chose no threshold": {
        rule: (t["tokens"], t["correct"]) for rule, t in stop.items()}}, "foveal tokens an image",
        folder / "fig_stopping")
    draw_panels({"correct": some("attention", "attention + periphery", CONDITIONS[-2], "periphery alone"),
                 "correct, random": some("random", "random + periphery", "periphery alone")}, "saccade",
                folder / "fig_periphery")
    draw_panels({"correct": some("attention", "remembered"), "same answer": {
        "as recomputed": (steps, same_answer(found)),
        "as another image's": (steps, same_answer(found, len(steps) // 2))}}, "saccade",
        folder / "fig_remembered")
    draw_panels({"correct": some(*GUIDES), "correct, with periphery": some(*GUIDES, beside=" + periphery")},
                "saccade", folder / "fig_again")


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
        raise InputError(f"--periphery {args.periphery}: expected fewer tokens a side than the image's own "
                         f"{view.crop // model.patch_size}.")
    items, classes = data.labels_of(head, items, classes)
    paths, labels = zip(*items)
    folder = results.begin(args, [path for path, _ in items + fit], model=model, head=head or model.head)
    model.to(device, getattr(torch, args.dtype))
    fitted = {}
    if args.train_head:
        head, fitted = exp04.fit_head(model, view, fit, len(classes), folder, args.batch_size, args.workers)
    # On every image each guide makes ten saccades, classified from the foveas, and with a periphery.
    images = data.Images(paths, view, partial(another, images=data.Images(paths, view)))
    arrays = results.in_batches(folder / "beyond", images, args.batch_size, partial(
        measure, model=model, head=head.to(device), labels=torch.tensor(labels), block=block,
        fovea=args.fovea[0], border=args.border, seed=args.seed, side=args.periphery), args.workers)
    arrays, names, bad = data.readable_only(arrays, [data.image_name(path) for path in paths], least=2)
    hidden = model.blocks[0].mlp.fc1.out_features
    arrays |= dict(image=np.array(names), classes=np.array(classes), conditions=np.array(CONDITIONS),
                   side=np.array(args.periphery), map_blocks=np.array(block + 1), vit=np.array([
                       model.patch_size, model.embed_dim, len(model.blocks), hidden, model.n_prefix]))
    results.finish(args, "exp04_beyond", arrays, study.image_rows(arrays), claims(arrays), draw, began,
                   device, on_screen=ON_SCREEN, model=args.model, block=block, preprocessing=vars(view),
                   head_fitted=fitted, unreadable=fitted.get("unreadable", []) + bad,
                   left_out=data.passed_over(args.data, args.train_head))


if __name__ == "__main__":
    results.cli(main)
