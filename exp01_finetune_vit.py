"""exp01: a Vision Transformer tuned on human fixations, and what that costs in recognition.

Knights (2026), "Cognitive alignment at no cost: inducing human attention biases for interpretable Vision
Transformers", arXiv 2604.20027. Model A: ViT-B/16, frozen. B: A with its self-attention tuned so that its
attention rollout matches where people looked (SALICON) while its CLS vector stays A's. C: the same with each
image's fixations exchanged for another's. Measured: agreement with fixations, its relation to the agreement
among observers, and recognition (exp01_benchmarks.py). The paper's claims, row by row: exp01_claims.py.
Loss and loop: train(); which weights are tuned: tunable(); for another kind of model: RolloutViT.

Commands
    laptop, demo world    python exp01_finetune_vit.py
    one GPU               python exp01_finetune_vit.py --salicon SALICON --coco COCO --imagenet IMAGENET
                              --objectnet OBJECTNET
    eight GPUs            torchrun --nproc_per_node 8 exp01_finetune_vit.py (the same)
    OSIE (downloaded)     python exp01_finetune_vit.py --data osie --model dinov2_vits14
    after a kill          the same command with --resume; to redraw: with --plot-only

The paper: B better than A and C on five metrics, p < .001 each; a gain on every image and category; r(gain,
consistency) -.55; no table. The demo: CC of A, B, C .387, .487, .418; B above A on 88 % of the images.
Choices where the paper is silent: KL(human || rollout), both maps 224x224, min-max, then of sum 1; the CLS
vector before the final norm; held out is a random tenth of the training images, C's exchanged among them;
weight decay .01; early stopping begins with the first validation after a step, so A itself is never chosen;
gains below min_delta add up. Two metrics have two conventions, both shown: NSS of each fixated pixel once, or
of every fixation (nss_counts); KL with eps 2^-52, or with the 1e-10 of the paper's loss (kl_loss_eps).
"""
from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
import torchvision.transforms.functional as TF
from scipy import stats
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

import data
import exp01_benchmarks as benchmarks
import exp01_claims as study
import results
import weights
from common import (InputError, VisionTransformer, auc_judd, cc, centre_gaussian, fixation_counts,
                    gather_rows, gaussian_blur, generator, information_gain, init_distributed, kld, minmax,
                    nss, observer_consistency, pick_device, rank_world, rollout, shard, shuffled_auc, sim,
                    training_order, upsample)
from gaze import load_gaze

# -------------------------------------------------------------------------------- constants

PAPER = benchmarks.PAPER | dict(  # ViT-B/16; Methods, Fine-Tuning Procedure
    lr=1e-5,              # AdamW
    weight_decay=.01,     # AdamW's default in torch; the paper states none
    epochs=20,            # at most
    eval_every=200,       # steps between validations
    patience=3,           # validations without a gain of min_delta
    min_delta=1e-3,       # of the validation loss
    lam=1.,               # weight of the attention loss
    precision="float32")  # of the files tuned_*.pth
# Demo: 81 steps for the paper's thousands, and a CLS vector of larger scale (variance 6.4 a channel).
DEMO = PAPER | dict(model="demo_sl12", lr=3e-4, epochs=3, eval_every=27, lam=10., precision="float16",
                    imagenet_c_images=benchmarks.DEMO["imagenet_c_images"])
HELD_OUT = .1  # share of the training images that early stopping looks at; the paper states none
SHUFFLE_SEED = 42  # of model C's fixations (Model Variants)
MAP_SIGMA = 15.  # px at 224x224, Gaussian on the fixations (Image & Human Behaviour Dataset)
TRAIN_BATCH, EVAL_BATCH = 16, 32  # images at a time without gradients, for the training and elsewhere
LOSS_EPS = 1e-10  # added to both maps in the loss (Fine-Tuning Procedure), the paper's only stated eps
# The paper does not say which NSS and KL it took: both conventions are reported.
METRICS = {"cc": cc, "nss": nss, "nss_counts": partial(nss, counts=True), "auc": auc_judd, "kl": kld,
           "kl_loss_eps": partial(kld, eps=LOSS_EPS), "sim": sim}
OF_FIXATIONS = ("nss", "nss_counts", "auc")  # metrics of single fixations; the others take the map of all
EXAMPLES = 4  # images of figure 1B, the first
FOLDERS = {"salicon": "SALICON's or OSIE's folder", "coco": "COCO's folder (annotations/, images)",
           "imagenet": "folder with val/", "objectnet": "folder with images/ and mappings/"}


# -------------------------------------------------------------------------------- data

def load_data(places: dict[str, Path | None], limit: int | None, batch_size: int | None
              ) -> tuple[list, list, dict[str, list[str]], dict[str, list[str]], list[str]]:
    """(training images, validation images; {COCO category: validation images that show it}; names left out;
    parts not run). batch_size: of the training; None: nothing is trained."""
    salicon, coco = places["salicon"], places["coco"]
    if salicon is None:
        raise InputError("no fixations; give --salicon SALICON's or OSIE's folder (or run exp01_benchmarks).")
    training, left_out = [], {}
    if batch_size:
        training, left_out = load_gaze(salicon, "train", coco, limit)
        split_held_out(range(len(training)), batch_size, seed=0)  # too few images end the run now
    validation, more = load_gaze(salicon, "val", coco, limit)
    shown = data.coco_categories(data.coco_files(coco, "val"), [image.name for image in validation])
    not_run = [] if shown else ["gain by COCO category: no annotations of these images, give --coco"]
    benchmarks.look_at(places)
    left_out |= more | data.passed_over(places["imagenet"])
    return training, validation, shown, left_out, not_run


def files_of(places: dict[str, Path | None], images: Sequence, pictures: dict[str, list]) -> list[Path]:
    """All files that a run reads."""
    tables = data.gaze_files(places["salicon"]) + data.coco_files(places["coco"], "val")
    return tables + [i.path for i in images] + [p.path for some in pictures.values() for p in some]


def gaze_images(images: Sequence, transform: Callable) -> data.Images:
    """Data set of the images with the counts of all their fixations, (224, 224)."""
    return data.Images([image.path for image in images], transform, partial(fixations, images), True)


def fixations(images: Sequence, i: int) -> dict[str, Tensor]:
    """Of image i, for `Images`: how often people looked at each pixel, (224, 224)."""
    rows, cols = np.concatenate(images[i].observers, 1)  # (n,) each, of all observers
    return {"fixations": fixation_counts(rows, cols, data.MAP_SIZE).float()}


def all_fixations(images: Sequence) -> Tensor:
    """How often people looked at each pixel on all of the images together, (224, 224)."""
    return sum(fixations(images, i)["fixations"] for i in range(len(images)))


def split_held_out(indices: Sequence[int], batch_size: int, seed: int) -> tuple[list[int], list[int]]:
    """Indices to train on, and a random HELD_OUT of them for early stopping. InputError: too few."""
    n, world = len(indices), rank_world()[1]
    k = max(2, round(HELD_OUT * n))
    if batch_size % world or batch_size > n - k or n - k < 2:
        raise InputError(f"--batch-size {batch_size}, {world} processes, {n - k} images to train on; a batch "
                         "must be a multiple of the processes and no larger than the images, two at least.")
    order = torch.randperm(n, generator=generator(seed, 2)).tolist()
    return [indices[i] for i in sorted(order[k:])], [indices[i] for i in sorted(order[:k])]


def exchange_fixations(images: Sequence, parts: Sequence[Sequence[int]]) -> list:
    """Model C's images: each with the fixations of the next one of its part in a random ring: never its own,
    and held-out fixations stay unseen."""
    changed = list(images)
    for part in parts:
        ring = np.random.default_rng(SHUFFLE_SEED).permutation(len(part))
        for i, j in zip(ring, np.roll(ring, 1)):
            changed[part[i]] = images[part[i]]._replace(observers=images[part[j]].observers)
    return changed


# -------------------------------------------------------------------------------- model

class RolloutViT(nn.Module):
    """forward(x (B, 3, img_h, img_w)) -> CLS vector of the last block before the final norm (B, D), attention
    rollout up-sampled to `size`, min-max (B, *size); differentiable. Another kind of model needs such a class
    and its own tuned_state (exp02_resnet.py)."""

    def __init__(self, vit: VisionTransformer, size: tuple[int, int] = data.MAP_SIZE):
        super().__init__()
        self.vit, self.size = vit, size

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self.vit.encode(self.vit.embed(x), full_attn=True, cls_only=True)
        grid = [n // self.vit.patch_size for n in x.shape[-2:]]
        maps = rollout(encoded.attn, self.vit.n_prefix).unflatten(1, grid)  # (B, h, w)
        return encoded.cls[:, -1], minmax(upsample(maps, self.size))


def squashed(pre: weights.Preprocess) -> weights.Preprocess:
    """The whole image on 224x224 pixels, as the fixations are; otherwise the model's own preprocessing."""
    return dataclasses.replace(pre, crop=data.MAP_SIZE, squash=True, interpolation="bilinear")


def tunable(net: nn.Module, tuned_state: Callable = weights.attention_state) -> None:
    """Only tuned_state(net) takes gradients. attention_state: the projections to q, k, v and the output
    projection of every block, of ViT-B/16 28,348,416 of 86,567,656 parameters, 32.7 %."""
    names = tuned_state(net)
    for name, p in net.named_parameters():
        p.requires_grad_(name in names)


def human_maps(counts: Tensor) -> Tensor:
    """Fixation maps (B, 224, 224) in [0, 1] of fixation counts: Gaussian of 15 px, min-max."""
    return minmax(gaussian_blur(counts, MAP_SIGMA))


def attention_kl(model: Tensor, human: Tensor, eps: float = LOSS_EPS) -> Tensor:
    """KL(human || model) = sum q log(q / p) in nats over the pixels of maps >= 0 (B, img_h, img_w), each
    divided by its sum (all zeros: uniform), eps added to both: (B,). A loss; the metric is common.kld."""
    p, q = (m.flatten(1) for m in (model, human))  # (B, N)
    p, q = (torch.where(m.sum(1, True) > 0, m / m.sum(1, True).clamp(min=1e-30), 1 / m.shape[1]) + eps
            for m in (p, q))
    return (q * (q / p).log()).sum(1)


def train(net: nn.Module, images: Dataset, teacher: Tensor, train_on: Sequence[int], held_out: Sequence[int],
          recipe: dict, file: Path, workers: int = 0) -> dict:
    """Tunes the parameters of net that require gradients; leaves those of the lowest validation loss in net.

    net(x) -> features (B, D), maps (B, 224, 224). Loss of an image: mean squared difference of the features
    from the frozen teacher's (n, D), plus lam KL(human map || map). Validates before the first step and every
    eval_every steps, writes its state to `file`, stops early. On the CPU resumed equals undisturbed.
    """
    parallel = DistributedDataParallel(net) if rank_world()[1] > 1 else net
    tuned = {name: p for name, p in net.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(tuned.values(), recipe["lr"], weight_decay=recipe["weight_decay"])
    state = dict(step=-1, lowest=math.inf, mark=math.inf, waited=0, log=[])
    if file.exists():  # go on from the last validation
        state = results.load_checkpoint(file)
        optimiser.load_state_dict(state.pop("optimiser"))
        optimiser.param_groups[0]["lr"] = recipe["lr"]  # another one than the file's after --resume --lr
        net.load_state_dict(net.state_dict() | state.pop("now"))

    def losses(batch: dict, forward: Callable) -> Tensor:
        features, maps = forward(batch["image"].to(teacher.device))  # (B, D), (B, 224, 224)
        mse = (features - teacher[batch["index"]]).square().mean(1)
        kl = attention_kl(maps, human_maps(batch["fixations"].to(teacher.device)))
        loss = mse + recipe["lam"] * kl
        return torch.stack([loss, mse, kl])  # (3, B)

    first, last = max(state["step"], 0), recipe["epochs"] * (len(train_on) // recipe["batch_size"])
    order = training_order(len(train_on), recipe["batch_size"], recipe["seed"], first, last)
    sampler = [[train_on[i] for _, i in part] for part in order]
    how = dict(num_workers=workers, pin_memory=torch.cuda.is_available())
    batches = iter(DataLoader(images, batch_sampler=sampler, **how))
    held_out_batches = DataLoader(Subset(images, shard(held_out)), TRAIN_BATCH, **how)
    for step in tqdm(range(first, last + 1), file.stem, disable=rank_world()[0] > 0):
        if step > state["step"] and (step % recipe["eval_every"] == 0 or step == last):
            with torch.no_grad():
                found = [losses(batch, net).cpu().double() for batch in held_out_batches]
            note_validation(state, step, found, tuned, optimiser, recipe["min_delta"])
            results.save_checkpoint(state | dict(optimiser=optimiser.state_dict(), now=tuned), file)
        if step == last or state["waited"] >= recipe["patience"]:
            break
        loss = losses(next(batches), parallel)[0].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.load_state_dict(net.state_dict() | state["best"])
    return state


def note_validation(state: dict, step: int, found: list[Tensor], tuned: dict,
                    optimiser: torch.optim.Optimizer, min_delta: float) -> None:
    """Adds a validation to the state: the losses of the held-out images (found, (3, B) each), the weights if
    they are the best, the age of the last gain. InputError where anything to be kept is NaN or infinite.

    Before the first step the losses are logged alone. Model A's distillation loss is 0 by construction, so it
    could win over every tuned state although the attention loss falls; the paper validates after steps."""
    loss, mse, kl = torch.cat(gather_rows(found), 1).mean(1).tolist()
    moments = [v for of_one in optimiser.state.values() for v in of_one.values()]
    if not math.isfinite(loss) or not all(v.isfinite().all() for v in [*tuned.values(), *moments]):
        raise InputError(f"the training broke before step {step}: validation loss {loss}, or a weight is no "
                         "number; its last good state is kept, go on with --resume, --out and a lower --lr.")
    lr = optimiser.param_groups[0]["lr"]
    state["log"].append(dict(step=step, lr=lr, val_loss=loss, val_distill=mse, val_kl=kl))
    state["step"] = step
    if step == 0:
        return
    state["waited"] += 1
    if loss < state["mark"] - min_delta:  # the mark stays, so that small gains add up
        state |= dict(mark=loss, waited=0)
    if loss < state["lowest"]:
        best = {name: p.detach().cpu().clone() for name, p in tuned.items()}
        state |= dict(lowest=loss, best_step=step, best=best)


def tuned_models(names: Sequence[str], net: nn.Module, wrap: Callable, tuned_state: Callable,
                 images: Sequence, transform: Callable, recipe: dict, folder: Path, workers: int
                 ) -> tuple[dict[str, nn.Module], dict[str, dict], list[str]]:
    """Copies of net tuned as B or C, {name: model}; their records; unreadable images. wrap(net): what `train`
    takes; tuned_state(net): the weights that are tuned and kept, in the precision of their file."""
    if not names:
        return {}, {}, []
    device, frozen = next(net.parameters()).device, wrap(net)

    def teach(batch: dict) -> dict:  # once, because no image is augmented
        return {"readable": batch["readable"], "features": frozen(batch["image"].to(device))[0]}
    taught = results.in_batches(folder / "teacher", gaze_images(images, transform), TRAIN_BATCH, teach,
                                workers)
    teacher = torch.from_numpy(taught["features"]).to(device)  # (n, D)
    readable = np.flatnonzero(taught["readable"]).tolist()
    parts = split_held_out(readable, recipe["batch_size"], recipe["seed"])
    fixated = {"B": images, "C": exchange_fixations(images, parts)}
    models, records = {}, {}
    for name in names:
        tuned = copy.deepcopy(net)
        tunable(tuned, tuned_state)
        state = train(wrap(tuned), gaze_images(fixated[name], transform), teacher, *parts, recipe,
                      folder / f"tuned_{name}.pt", workers)
        kept = {key: v.cpu().to(getattr(torch, recipe["precision"])) for key, v in tuned_state(tuned).items()}
        tuned.load_state_dict(tuned.state_dict() | kept)
        models[name] = tuned
        frozen = weights.frozen_sha256(net, tuned_state)
        records[name] = state | dict(weights=kept | {"frozen_sha256": frozen})
    return models, records, [images[i].name for i in np.flatnonzero(taught["readable"] == 0)]


def no_gain(records: dict[str, dict]) -> list[str]:
    """A sentence on each training whose lowest validation loss is not below that of A at step 0."""
    said = []
    for name, record in records.items():
        untuned = record["log"][0]["val_loss"]
        if record["lowest"] >= untuned:
            said.append(f"model {name}: no step lowered the validation loss, {untuned:.4g} of A, "
                        f"{record['lowest']:.4g} at best; lower --lr or raise --lam")
    return said


def save_files(records: dict[str, dict], arrays: dict, folder: Path) -> None:
    """tuned_B.pth (weights), tuned_B.csv (losses) ..., benchmarks.csv, written by the first process."""
    if rank_world()[0] == 0:
        for name, record in records.items():
            results.save_checkpoint(record["weights"], folder / f"tuned_{name}.pth")
            results.write_csv(record["log"], folder / f"tuned_{name}.csv")
        results.write_csv(benchmarks.table(arrays), folder / "benchmarks.csv")


# -------------------------------------------------------------------------------- measure

def agreement(batch: dict, nets: dict[str, nn.Module], observers: Sequence, everyone: Tensor,
              device: torch.device) -> dict:
    """Of a batch: each metric of the maps of the nets and of PRIORS with the fixations, (B, M), and the
    observers' consistency, the mean correlation of two observers' maps, (B,), NaN for fewer than two.
    everyone: counts of the fixations of all images, (224, 224)."""
    counts = batch["fixations"].to(device)
    human = human_maps(counts)  # (B, 224, 224)
    others = everyone.to(device) - counts  # of all images but this one
    centre = centre_gaussian(others)
    maps = [net(batch["image"].to(device))[1] for net in nets.values()]  # (B, 224, 224) each
    maps += [centre, human_maps(others)]
    consistency = [observer_consistency(observers[i], data.MAP_SIZE, MAP_SIGMA) for i in batch["index"]]
    found = {"readable": batch["readable"], "consistency": consistency}
    for name, metric in METRICS.items():
        truth = (counts if name in OF_FIXATIONS else human).split(4)  # four maps fit a CPU's cache
        values = [torch.cat([metric(*part) for part in zip(m.split(4), truth)]) for m in maps]
        found[name] = torch.stack(values, 1)
    found["sauc"] = torch.stack([shuffled_auc(m, counts, others) for m in maps], 1)
    found["gain"] = torch.stack([information_gain(m, centre, counts) for m in maps], 1)
    return found


def align(nets: dict[str, nn.Module], images: Sequence, transform: Callable, shown: dict[str, list[str]],
          folder: Path, device: torch.device, workers: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """(arrays, unreadable images). Arrays: models (M,), the nets and PRIORS; image, consistency (n,); each
    metric (n, M); category (K,), category_cc, the mean CC of the images that show it (K, M)."""
    measure = partial(agreement, nets=nets, observers=[image.observers for image in images],
                      everyone=all_fixations(images), device=device)
    arrays = results.in_batches(folder / "maps", gaze_images(images, transform), EVAL_BATCH, measure, workers)
    arrays, names, unreadable = data.readable_only(arrays, [image.name for image in images])
    arrays |= dict(models=np.array([*nets, *study.PRIORS]), image=np.array(names))
    members = {category: np.isin(names, some) for category, some in shown.items()}
    members = {category: inside for category, inside in members.items() if inside.any()}
    arrays["category"] = np.array(list(members))
    arrays["category_cc"] = np.array([arrays["cc"][inside].mean(0) for inside in members.values()])
    return arrays, unreadable


@torch.no_grad()
def examples(nets: dict[str, nn.Module], images: Sequence, names: Sequence[str], transform: Callable,
             device: torch.device) -> dict:
    """Arrays example_image, _human, _A, _B: the images `names`, people's maps, the models' maps, 224x224."""
    if "B" not in nets:
        return {}
    images = [image for image in images if image.name in names]
    batch = next(iter(DataLoader(gaze_images(images, transform), len(images))))
    pictures = [TF.resize(data.read_image(image.path, as_displayed=True), data.MAP_SIZE) for image in images]
    maps = {f"example_{k}": nets[k](batch["image"].to(device))[1].cpu().numpy() for k in "AB"}
    return maps | dict(example_image=np.stack(pictures), example_human=human_maps(batch["fixations"]).numpy())


def table(arrays: dict) -> list[dict]:
    """Rows of per_image.csv: image; condition, the model; metrics of its map and the fixations; consistency
    of the image's observers."""
    rows = []
    for i, m in np.ndindex(arrays["cc"].shape):
        values = {metric: arrays[metric][i, m] for metric in study.NAMES}
        rows.append(dict(image=arrays["image"][i], condition=arrays["models"][m], **values,
                         consistency=arrays["consistency"][i]))
    return rows


# -------------------------------------------------------------------------------- figures

def draw_examples(arrays: dict, folder: Path) -> None:
    """fig_1B: images, fixations, rollouts of A and B, and B - A of rollouts over their means."""
    images, human, a, b = (arrays[f"example_{key}"] for key in ("image", "human", "A", "B"))
    change = b / b.mean((1, 2), keepdims=True) - a / a.mean((1, 2), keepdims=True)  # 1: the mean attention
    top = np.quantile(np.abs(change), .995)
    fig, axes = results.figure_grid(5, len(images), 1.9, 1.8)
    for column, image, maps, difference in zip(axes.T, images, zip(human, a, b), change):
        column[0].imshow(image)
        for ax, one in zip(column[1:4], maps):
            ax.imshow(image.mean(2), cmap="gray")
            ax.imshow(one, cmap="inferno", alpha=.75, vmin=0, vmax=1)
        mappable = column[4].imshow(difference, cmap="coolwarm", vmin=-top, vmax=top)
    for row, label in zip(axes, ("image", "fixations", "rollout, A", "rollout, B", "B - A")):
        row[0].set_ylabel(label)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    fig.colorbar(mappable, ax=axes[4], label="1 = the mean")
    results.save_figure(fig, folder / "fig_1B")


def draw_metrics(arrays: dict, axes: Sequence) -> None:
    """The means of the five metrics, +-1 SEM, a panel each."""
    for ax, metric in zip(axes, study.FIVE):
        for k, v in study.scores(arrays, metric).items():
            if k not in study.PRIORS:
                ax.bar(k, v.mean(), yerr=stats.sem(v), color=results.PALETTE[k], capsize=3)
        ax.set(title=metric.upper())
        if metric == "kl":
            ax.set(title="KL (nats)", xlabel="lower is better")
        if metric == "auc":
            ax.axhline(.5, color="black", linestyle=":", linewidth=.8)
            ax.set(xlabel="dots: chance")
    axes[0].set_ylabel("mean over images, ±1 SEM")


def draw_centre(arrays: dict, folder: Path) -> None:
    """fig_centre: what goes beyond the centre bias, of models and of maps that see no image."""
    fig, axes = results.figure_grid(1, 2, 3.4, 2.8)
    for ax, metric, zero in zip(axes[0], study.BEYOND, (.5, 0)):
        for k, v in study.scores(arrays, metric).items():
            found = results.estimate(v)
            error = np.abs(np.subtract(found["ci"], found["ours"]))[:, None]
            ax.errorbar(k, found["ours"], error, marker="o", color=results.PALETTE[k], capsize=3)
        ax.axhline(zero, color="black", linestyle=":", linewidth=.8)
    axes[0, 0].set(ylabel="shuffled AUC, 95 % CI", xlabel="dots: what all images share")
    axes[0, 1].set(ylabel="bits a fixation, 95 % CI", xlabel="dots: the centre Gaussian")
    results.save_figure(fig, folder / "fig_centre")


def draw_gain(arrays: dict, path: Path) -> None:
    """CC of B against A by image and by category."""
    keys = {"cc": "images", "category_cc": "COCO categories"} if len(arrays["category"]) else {"cc": "images"}
    fig, axes = results.figure_grid(1, len(keys), 3.4)
    for ax, (key, what) in zip(axes[0], keys.items()):
        values, label = study.scores(arrays, key), "CC, B"
        a, b = values["A"], values["B"]
        if key == "category_cc" and "C" in values:
            ax.vlines(a, values["C"], b, color=results.PALETTE["C"], linewidth=.6)
            ax.scatter(a, values["C"], s=12, color=results.PALETTE["C"])
            label = "CC, B (grey: C)"
        ax.scatter(a, b, s=12, color=results.PALETTE["B"], linewidths=0)
        ax.axline((a[0], a[0]), slope=1, color="black", linestyle="--", linewidth=.8)
        ax.set(xlabel="CC with fixations, A", ylabel=label, title=f"{len(a)} {what}")
    results.save_figure(fig, path)


def draw_consistency(found: dict, folder: Path) -> None:
    """fig_2C: gain in CC against the observers' agreement; mean gain over A and C by quartile, +-1 SEM."""
    x, gain = found["consistency"], found["gain B - A"]
    fig, axes = results.figure_grid(1, 2, 3.6)
    axes[0, 0].scatter(x, gain, s=6, color=results.PALETTE["B"], linewidths=0)
    axes[0, 0].axline((x.mean(), gain.mean()), slope=np.polyfit(x, gain, 1)[0], color="black")
    axes[0, 0].set(xlabel="inter-observer consistency (CC)", ylabel="gain in CC, B - A")
    for label, shift, colour in (("gain B - A", -.2, "B"), ("gain B - C", .2, "C")):
        if label in found:
            parts = [found[label][quarter] for quarter in study.quarters(x)]
            axes[0, 1].bar(np.arange(1, 5) + shift, [part.mean() for part in parts], .38, label=label,
                           yerr=[stats.sem(part) for part in parts], color=results.PALETTE[colour])
    axes[0, 1].set(xlabel="quartile of consistency", ylabel="gain in CC, mean ±1 SEM", xticks=range(1, 5))
    results.legend_beside(axes[0, 1])
    results.save_figure(fig, folder / "fig_2C")


def draw(arrays: dict, facts: dict, folder: Path) -> None:
    """All figures, from arrays.npz; those that compare B with A where there is a B."""
    fig, axes = results.figure_grid(1, 5, 1.7, 2.6)
    draw_metrics(arrays, axes[0])
    results.save_figure(fig, folder / "fig_2A")
    if "sauc" in arrays:  # not in runs of older versions
        draw_centre(arrays, folder)
    if "B" in arrays["models"]:
        draw_examples(arrays, folder)
        draw_gain(arrays, folder / "fig_2B")
        if len(study.by_image(arrays)["consistency"]) > 7:  # two images a quarter
            draw_consistency(study.by_image(arrays), folder)
    benchmarks.draw(arrays, facts, folder)


# -------------------------------------------------------------------------------- main

def gaze_parser(file: str, card: str, folders: Sequence[str], paper: dict, demo: dict
                ) -> argparse.ArgumentParser:
    """Parser of exp01 and exp02: folders of data, the model, and what of the recipe a user varies."""
    parser = results.argument_parser(file, card, batch_size=8, limit="the first N images of every set")
    add = parser.add_argument_group("study").add_argument
    for name in folders:
        add(f"--{name}", type=Path, help=FOLDERS[name])
    add("--model", help=f"model A, in weights.py (default: {paper['model']}; demo: {demo['model']})")
    add("--model-b", type=Path, help="tuned weights of B, instead of training it")
    add = parser.add_argument_group("training (in brackets the paper's; the demo's differ)").add_argument
    add("--lr", type=results.at_least(0, float), help=f"AdamW's step ({paper['lr']})")
    add("--epochs", type=results.at_least(1), help=f"at most ({paper['epochs']})")
    add("--eval-every", type=results.at_least(1), help=f"steps between validations ({paper['eval_every']})")
    add("--lam", type=results.at_least(0, float), help=f"weight of the attention loss ({paper['lam']})")
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = gaze_parser(__file__, __doc__, tuple(FOLDERS), PAPER, DEMO)
    parser.add_argument("--model-c", type=Path, help="tuned weights of C, instead of training it")
    parser.add_argument("--heads", type=int, help="heads of a block, with --model auto (by its width)")
    parser.add_argument("--frost", type=Path, help="folder of ImageNet-C's frost textures (default: drawn)")
    return results.parse_args(parser, argv, PAPER, DEMO)


def main(argv: Sequence[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    init_distributed(device)
    if results.only_draw(args):
        return results.redraw(args.out, draw)
    # Images and where people looked, three benchmarks, model A: all is checked before anything is measured.
    benchmarks.check_files(args.frost, args.model_b, args.model_c)
    places = data.data_places(args, tuple(FOLDERS), ("imagenet", "objectnet", "salicon"))
    batch_size = None if args.model_b and args.model_c else args.batch_size
    training, validation, shown, left_out, not_run = load_data(places, args.limit, batch_size)
    vit, crop = benchmarks.load_model(args.model, args.weights, device, args.heads)
    squash = squashed(crop)
    pictures, missing = benchmarks.load_data(places, vit.head, args.imagenet_c_images, args.limit, args.seed,
                                             args.frost)
    models = benchmarks.with_tuned(vit, {"B": args.model_b, "C": args.model_c})
    files = files_of(places, training + validation, pictures)
    folder = results.begin(args, files, may_change=["lr"], **models)  # a lower one where the loss became NaN

    # A is the teacher. B learns where people looked on each image, C where they looked on another one.
    missing_models = [k for k in "BC" if k not in models]
    tuned, records, bad = tuned_models(missing_models, vit, RolloutViT, weights.attention_state, training,
                                       squash, vars(args), folder, args.workers)
    models, said = benchmarks.told_apart(dict(sorted((models | tuned).items())))
    said += no_gain(records)

    # On new images: how well do the models' maps agree with the fixations, and people with each other?
    nets = {k: RolloutViT(model) for k, model in models.items()}
    arrays, more = align(nets, validation, squash, shown, folder, device, args.workers)
    arrays |= examples(nets, validation, arrays["image"][:EXAMPLES], squash, device)
    # Do the models still recognise what they see?
    found, worse = benchmarks.measure(models, crop, pictures, folder, device, args.workers,
                                      args.dtype == "bfloat16", args.seed, args.frost)
    arrays |= found
    save_files(records, arrays, args.out)
    headline = results.evaluate(study.claims(arrays), arrays)
    benchmarks.warn(said)
    results.finish(args, "exp01_finetune_vit", arrays, table(arrays), headline, draw, began, device,
                   study.alignment_tests(arrays) + study.parity(arrays), said + not_run + missing,
                   left_out=left_out | {"unreadable": bad + more + worse}, conventions=study.CONVENTIONS)


if __name__ == "__main__":
    results.cli(main)
