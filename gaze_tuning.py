"""Tuning a network on human fixations, and what that costs: shared by exp01 (ViT), exp02 (ResNet), exp03.

A net takes images and gives (features, attention map); the scripts say how. GazeTuner trains it, resumable
and on several processes; align and classify write the rows of a run; alignment_tables and parity_tests are
the paper's statistics. Paper: Knights 2026, arXiv 2604.20027. Shapes as in common.py.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats
from torch import Tensor
from tqdm import tqdm

from common import (ImageList, InputError, Preprocess, SALICON_SIZE, VisionTransformer, auc_judd, barrier,
                    batches, bf01_jzs, bf01_unit_information, bootstrap_ci, cc, collate_readable,
                    fixation_counts, gather_rows, gaussian_blur, generator, imagenet_wnids, input_errors, kld,
                    attention_state, load_imagefolder, load_osie, load_salicon, load_tuned, mcnemar, minmax,
                    nss, paired_t, rank_world,
                    read_image, rollout, scale_fixations, shard, sim, upsample)
from legacy import (PALETTE, RowLog, at_least, demo_folder, load_checkpoint, new_figure, read_csv, read_json,
                     result_row, save_checkpoint, save_figure, slices, start_run, write_csv, write_json)

# -------------------------------------------------------------------------------- constants

MAP_SIZE = (224, 224)  # px, of model maps and of fixation maps
MAP_SIGMA = 15.0  # px at 224x224, Gaussian on the fixations (exp01, Image & Human Behaviour Dataset)
OSIE_TEST = 2 / 7  # share of OSIE's images that are held out; the data set has no split of its own
METRICS = {"cc": cc, "nss": nss, "auc": auc_judd, "kl": kld, "sim": sim}  # nss, auc: of fixations
HELD_OUT = .1  # share of the training images that early stopping looks at; the paper states none
FOLDERS = {"salicon": "SALICON's or OSIE's folder", "coco": "COCO's folder (annotations/)",
           "imagenet": "folder with val/", "objectnet": "folder with images/ and mappings/"}


# -------------------------------------------------------------------------------- data

class GazeImage(NamedTuple):
    """An image and where its observers looked: 0-based pixels of a map of MAP_SIZE."""
    name: str
    path: Path
    observers: list[tuple[np.ndarray, np.ndarray]]  # rows, cols, int16


def data_places(args: argparse.Namespace, names: Sequence[str],
                parts: Sequence[str]) -> dict[str, Path | None]:
    """Folder of each name: its own argument, else that subfolder of --data; None where there is none. In the
    demo the `parts` of the demo world are drawn first, by one process."""
    root = Path(args.data) if args.data else None
    if args.data == "demo":
        root = demo_folder(*parts, workers=max(args.workers, 1))
    elif root and not root.is_dir():
        raise InputError(f"--data {root}: no such folder; expected one that holds {', '.join(names)}.")
    given = {name: getattr(args, name, None) for name in names}
    for name, folder in given.items():
        if folder and not Path(folder).is_dir():
            raise InputError(f"--{name} {folder}: no such folder; expected one with the files that --help "
                             "lists.")
    return {k: v or (root / k if root and (root / k).is_dir() else None) for k, v in given.items()}


def load_gaze(folder: str | Path, split: str, coco: str | Path | None = None,
              limit: int | None = None) -> tuple[list[GazeImage], dict[str, list[str]]]:
    """(images with fixations, {"train, missing", "train, no fixations": names of the others}); train or val.

    folder: SALICON (fixations_<split>2014.json or fixations/<split>/*.mat; images in images/,
    images/<split>/, <split>/ or <split>2014/, there or in the COCO folder), or OSIE (fixations.mat,
    stimuli/; a fixed random OSIE_TEST of its images is "val"). limit: the first so many. InputError: no such
    file, none of its images, no fixation at all.
    """
    folder, osie = Path(folder), (Path(folder) / "fixations.mat").is_file()
    files = [folder / "fixations.mat", folder / f"fixations_{split}2014.json", folder / "fixations" / split]
    file, size = next((p for p in files if p.exists()), None), (600, 800) if osie else SALICON_SIZE
    if file is None:
        found = sorted(p.name for p in folder.iterdir())[:6] if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {found}; expected SALICON's {files[1].name} (or fixations/{split}/*.mat)"
                         " or OSIE's fixations.mat: give that folder.")
    places = [Path(root) / sub for root in (folder, coco) if root
              for sub in ("stimuli", "images", f"images/{split}", f"{split}2014", split, "")]
    paths = {p.name: p for place in reversed(places) if place.is_dir() for p in place.iterdir()}
    images, other = [], {f"{split}, missing": [], f"{split}, no fixations": []}
    for _, name, observers in load_osie(file) if osie else load_salicon(file):
        points = [[v.astype(np.int16) for v in scale_fixations(*o[:2], size, MAP_SIZE)] for o in observers]
        if name not in paths:
            other[f"{split}, missing"].append(name)
        elif not sum(len(rows) for rows, _ in points):
            other[f"{split}, no fixations"].append(name)
        else:
            images.append(GazeImage(name, paths[name], points))
    if not images:
        missing, unseen = map(len, other.values())
        raise InputError(f"{file}: {missing} images without a file in {places[1]} and {unseen} without "
                         "fixations, no image left; add the files, or give fixations of these images.")
    if osie:
        order = torch.randperm(len(images), generator=generator(0)).tolist()
        n = round(OSIE_TEST * len(images))
        images = [images[i] for i in sorted(order[:n] if split == "val" else order[n:])]
    for reason, names in other.items():
        if names and rank_world()[0] == 0:
            print(f"{reason}: {len(names)} images left out ({names[0]} ...; all are in results.json)")
    return images[:limit], other


def gaze_files(folder: str | Path | None) -> list[Path]:
    """The files of fixations in a folder as load_gaze's, for the data fingerprint."""
    names = "fixations.mat", "fixations_*2014.json", "fixations/*/*.mat"
    return sorted(p for name in names for p in Path(folder).glob(name)) if folder else []


def plain_name(file_name: str) -> str:
    """COCO_val2014_000000000042.jpg (2014, SALICON) and 000000000042.jpg (2017) are one image: its digits."""
    return re.sub(r"^COCO_\w+_(?=\d{12})", "", Path(file_name).stem)


def coco_files(folder: str | Path | None, split: str) -> list[Path]:
    """annotations/instances_<split>2014.json, else all instances_*.json there."""
    if folder is None:
        return []
    file = Path(folder) / "annotations" / f"instances_{split}2014.json"
    return [file] if file.is_file() else sorted(file.parent.glob("instances_*.json"))


def read_coco(files: Sequence[Path]) -> dict[str, list[dict]]:
    """COCO's images, annotations, categories of several files, each id once: the files may overlap."""
    parts: dict[str, dict] = {"images": {}, "annotations": {}, "categories": {}}
    for file in files:
        with input_errors(file, "instances_*.json: COCO's images, annotations, categories"):
            data = json.loads(file.read_text(encoding="utf-8"))
            for key, part in parts.items():
                part |= {v["id"]: v for v in data[key]}
    return {key: list(part.values()) for key, part in parts.items()}


def coco_categories(files: Sequence[Path], names: set[str]) -> dict[str, list[str]]:
    """{category: file names among `names` of images that show it}, of coco_files."""
    out: dict[str, set] = {}
    plain, data = {plain_name(name): name for name in names}, read_coco(files)
    with input_errors(files[0] if files else "", "COCO's instances_*.json"):
        label = {c["id"]: c["name"] for c in data["categories"]}
        image = {i["id"]: plain.get(plain_name(i["file_name"])) for i in data["images"]}
        for a in data["annotations"]:
            if name := image.get(a["image_id"]):
                out.setdefault(label[a["category_id"]], set()).add(name)
        return {k: sorted(v) for k, v in sorted(out.items())}


def imagenet_items(root: Path, n_classes: int, n: int | None, seed: int) -> tuple[list[tuple], list[str]]:
    """Items of classify: n random validation images (None: all) in their order; and the classes' wnids."""
    files, classes, _ = load_imagefolder(root, imagenet_wnids() if n_classes == 1000 else None)
    if len(classes) != n_classes:
        raise InputError(f"{root}: {len(classes)} classes, the model tells {n_classes}; give its own data.")
    keep = sorted(torch.randperm(len(files), generator=generator(seed, 1)).tolist()[:n])
    return [(files[i][0], classes[files[i][1]], {files[i][1]}, i) for i in keep], classes


class GazeData(torch.utils.data.Dataset):
    """Item i -> (i, transform(image i) or None if unreadable, fixation counts (img_h, img_w) of image
    target[i]; target None: its own)."""

    def __init__(self, images: Sequence[GazeImage], transform: Callable, target: Sequence[int] | None = None):
        self.images, self.transform, self.target = images, transform, target

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[int, Tensor | None, Tensor]:
        observers = self.images[i if self.target is None else self.target[i]].observers
        rows, cols = (np.concatenate([o[k] for o in observers] or [[]]) for k in (0, 1))
        counts = fixation_counts(rows, cols, MAP_SIZE).float()
        try:
            return i, self.transform(read_image(self.images[i].path)), counts
        except InputError:
            return i, None, counts


def collate_gaze(batch: list[tuple]) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Images (B, 3, img_h, img_w), counts (B, img_h, img_w), indices (B,) of readable items; the others'."""
    good = [item for item in batch if item[1] is not None]
    x, counts = (torch.stack([item[k] for item in good]) if good else torch.empty(0) for k in (1, 2))
    index = torch.tensor([i for i, *_ in good], dtype=torch.long)
    return x, counts, index, [item[0] for item in batch if item[1] is None]


# -------------------------------------------------------------------------------- model

class RolloutViT(nn.Module):
    """forward(x (B, 3, img_h, img_w)) -> CLS of the last block before the final norm (B, D), rollout
    up-sampled to `size` and min-max normalised (B, *size): what exp01 tunes, differentiable."""

    def __init__(self, vit: VisionTransformer, size: tuple[int, int] = (224, 224)):
        super().__init__()
        self.vit, self.size = vit, size

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        e = self.vit.encode(self.vit.embed(x), full_attn=True, cls_only=True)
        grid = [n // self.vit.patch_size for n in x.shape[-2:]]
        maps = rollout(e.attn, self.vit.n_prefix).unflatten(1, grid)  # (B, h, w)
        return e.cls[:, -1], minmax(upsample(maps, self.size))


# -------------------------------------------------------------------------------- loss

def human_maps(counts: Tensor) -> Tensor:
    """Fixation maps (B, 224, 224) in [0, 1] of fixation counts: Gaussian of 15 px, min-max."""
    return minmax(gaussian_blur(counts, MAP_SIGMA))


def attention_kl(p: Tensor, q: Tensor, eps: float = 1e-10) -> Tensor:
    """KL(q || p) in nats over the pixels of (B, img_h, img_w) maps, each of sum 1, eps added to both: (B,).

    The loss of exp01 and exp02, differentiable; the metric is `kld`. Maps are >= 0; all zeros: uniform.
    """
    p, q = (m.flatten(1) + 0 for m in (p, q))  # (B, N)
    p, q = (torch.where(m.sum(1, True) > 0, m / m.sum(1, True).clamp(min=1e-30), 1 / m.shape[1]) + eps
            for m in (p, q))
    return (q * (q / p).log()).sum(1)


# -------------------------------------------------------------------------------- tuning

@dataclass(frozen=True)
class Recipe:
    """How a model is tuned on gaze; defaults of exp01 (Fine-Tuning Procedure)."""
    lr: float = 1e-5
    batch_size: int = 8
    epochs: int = 20
    eval_every: int = 200       # steps
    patience: int = 3           # evaluations without an improvement of min_delta
    min_delta: float = 1e-3     # of the validation loss
    weight_decay: float = 0.01  # AdamW's default in torch; the paper does not state it
    lam: float = 1.0            # weight of the attention loss
    kl: str = "human"           # KL(human || model), or "model": the reverse
    seed: int = 0


@torch.no_grad()
def gaze_features(net: nn.Module, images: Sequence[GazeImage], transform: Callable, device: torch.device,
                  workers: int) -> tuple[list[GazeImage], Tensor, list[str]]:
    """(readable images, the frozen teacher's features of them (n, D), names of the unreadable ones)."""
    data, rows, bad = GazeData(images, transform), {}, []
    for x, _, index, unreadable in torch.utils.data.DataLoader(
            data, 16, sampler=shard(range(len(images))), num_workers=workers, collate_fn=collate_gaze):
        bad += [images[i].name for i in unreadable]
        if len(x):
            rows |= dict(zip(index.tolist(), net(x.to(device))[0].float().cpu()))
    rows = {i: row for part in gather_rows([rows]) for i, row in part.items()}
    if not rows:
        raise InputError(f"none of {len(images)} images can be read ({images[0].path} ...); check the files.")
    keep = sorted(rows)
    return [images[i] for i in keep], torch.stack([rows[i] for i in keep]), sorted(gather_rows(bad))


class GazeTuner:
    """Tunes the parameters of net that require gradients, by distillation and gaze (exp01, exp02).

    net(x (B, 3, img_h, img_w)) -> features (B, D), maps (B, 224, 224) in [0, 1]. Loss of an image: mean
    square of features - teacher's, plus lam KL(human map || map). teacher (n, D): the frozen model's
    features, made once, because nothing is augmented. train, held_out: indices into data. run() validates
    every eval_every steps, stops early, leaves net with the weights of the lowest validation loss (before the
    first step included). net is in train mode in its training passes alone. The state is in `file` after each
    validation; on the CPU a resumed run equals an undisturbed one bit for bit.
    """

    def __init__(self, net: nn.Module, data: GazeData, teacher: Tensor, train: Sequence[int],
                 held_out: Sequence[int], recipe: Recipe, file: Path, workers: int = 0):
        self.net, self.data, self.teacher, self.recipe, self.file = net, data, teacher, recipe, file
        self.sets, self.workers = (list(train), list(held_out)), workers
        world, self.device = rank_world()[1], next(net.parameters()).device
        if recipe.batch_size % world or recipe.batch_size > len(train) or not len(held_out):
            raise InputError(f"--batch-size {recipe.batch_size} on {world} processes, {len(train)} images to "
                             f"train, {len(held_out)} held out; it must divide evenly and find its images.")
        self.params = {n: p for n, p in net.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(self.params.values(), recipe.lr, weight_decay=recipe.weight_decay)
        self.kept = self.params | dict(net.named_buffers())  # batch norm's statistics may move too
        parallel = nn.parallel.DistributedDataParallel if dist.is_initialized() else lambda m: m
        self.parallel, self.total = parallel(net), recipe.epochs * (len(train) // recipe.batch_size)
        self.state = dict(step=0, lowest=math.inf, mark=math.inf, best_step=0, waited=0, log=[], best={},
                          seconds=0.0)

    def loss(self, batch: tuple, forward: Callable) -> Tensor:
        """(distillation, attention loss) of the images of a batch, (2, B)."""
        x, counts, index, _ = batch
        self.net.train(torch.is_grad_enabled())  # batch norm's mode; a ViT has no such thing
        features, maps = forward(x.to(self.device))
        human = human_maps(counts.to(self.device))
        pair = (maps, human) if self.recipe.kl == "human" else (human, maps)
        mse = (features - self.teacher[index].to(self.device)).square().flatten(1).mean(1)
        return torch.stack([mse, attention_kl(*pair)])

    def loader(self, sampler: Iterable) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(self.data, batch_sampler=sampler, num_workers=self.workers,
                                           collate_fn=collate_gaze)

    @torch.no_grad()
    def validate(self, train_loss: float) -> bool:
        """Mean losses on the held-out images into the log; the best weights kept; whether to go on."""
        s = self.state
        parts = [self.loss(batch, self.net).cpu().double()
                 for batch in self.loader(slices(shard(self.sets[1]), 16))]
        mse, kl = torch.cat(gather_rows(parts), 1).mean(1).tolist()
        total = mse + self.recipe.lam * kl
        if not math.isfinite(total):
            raise InputError(f"the validation loss became {total} at step {s['step']}; lower --lr.")
        gained = total < s["mark"] - self.recipe.min_delta  # since the last gain: small steps add up
        s.update(mark=total, waited=0) if gained else s.update(waited=s["waited"] + 1)
        if total < s["lowest"]:
            s.update(lowest=total, best_step=s["step"],
                     best={n: p.detach().cpu().clone() for n, p in self.kept.items()})
        s["log"].append({"step": s["step"], "train_loss": train_loss, "val_loss": total, "val_distill": mse,
                         "val_kl": kl})
        if rank_world()[0] == 0:
            save_checkpoint({**s, "optimiser": self.optimiser.state_dict(),
                             "now": {n: p.detach().cpu() for n, p in self.kept.items()}}, self.file)
        return s["step"] < self.total and s["waited"] < self.recipe.patience

    def resume(self) -> None:
        """Back to the last validation, if there was one."""
        if self.file.exists():
            with input_errors(self.file, "a checkpoint of this training; choose another --out"):
                saved = load_checkpoint(self.file)
                self.optimiser.load_state_dict(saved.pop("optimiser"))
                self.load(saved.pop("now"))
                self.state |= {k: saved[k] for k in self.state}

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        for n, p in self.kept.items():
            p.copy_(weights[n])

    def run(self, progress: Callable[[dict], None] = lambda row: None) -> dict:
        """Train to the end; returns the state: step, best_step, lowest, log, seconds ..."""
        s, r, began, losses = self.state, self.recipe, time.time() - self.state["seconds"], []
        go_on = s["step"] < self.total and s["waited"] < r.patience if s["log"] else self.validate(math.nan)
        stop, train = self.total if go_on else s["step"], self.sets[0]
        order = ([train[i] for _, i in part] for part in
                 batches(len(train), r.batch_size, r.seed, s["step"], stop))
        for batch in self.loader(order):
            loss = self.loss(batch, self.parallel).mean(1)
            self.optimiser.zero_grad(set_to_none=True)
            (loss[0] + r.lam * loss[1]).backward()
            self.optimiser.step()
            losses.append(float((loss[0] + r.lam * loss[1]).detach()))
            s["step"] += 1
            if s["step"] % r.eval_every == 0 or s["step"] == self.total:
                s["seconds"] = time.time() - began
                go_on, losses = self.validate(float(np.mean(gather_rows(losses)))), []
                progress(s["log"][-1])
                if not go_on:
                    break
        self.load(s["best"])
        return s


def held_out_split(n: int, seed: int) -> tuple[list[int], list[int]]:
    """Indices of n images in order: to train on, and a random HELD_OUT for early stopping."""
    order, k = torch.randperm(n, generator=generator(seed, 2)).tolist(), max(2, round(HELD_OUT * n))
    return sorted(order[k:]), sorted(order[:k])


def set_trainable(net: nn.Module, names: Iterable[str]) -> tuple[int, int]:
    """Only the named parameters take gradients; (their number, all parameters)."""
    names = set(names)
    for name, p in net.named_parameters():
        p.requires_grad_(name in names)
    sizes = [(p.requires_grad, p.numel()) for p in net.parameters()]
    return sum(n for on, n in sizes if on), sum(n for _, n in sizes)


def run_tuner(tuner: GazeTuner, stem: Path, tuned_state: Callable[[], dict], resume: bool,
              half: bool = False) -> dict:
    """Train to the end; writes stem.pth (tuned_state() of the weights that are kept; half: float16),
    stem.csv (losses) and stem.json: the record that it returns."""
    if resume:
        tuner.resume()
    with tqdm(total=tuner.total, initial=tuner.state["step"], desc=stem.name, unit="step",
              disable=rank_world()[0] > 0) as bar:
        def progress(row: dict) -> None:
            bar.update(row["step"] - bar.n)
            bar.set_postfix(val_loss=f"{row['val_loss']:.4f}")
        state = tuner.run(progress)
    trainable, total = (sum(p.numel() for p in v) for v in (tuner.params.values(), tuner.net.parameters()))
    record = {k: state[k] for k in ("step", "best_step", "lowest", "seconds")} | dict(
        recipe=asdict(tuner.recipe), train=len(tuner.sets[0]), held_out=len(tuner.sets[1]),
        trainable=trainable, parameters=total, share=trainable / total, of_steps=tuner.total)
    if rank_world()[0] == 0:
        write_csv(state["log"], stem.with_suffix(".csv"))
        write_json(record, stem.with_suffix(".json"))  # the weights last: where they are, all is there
        save_checkpoint({k: v.cpu().half() if half else v.cpu() for k, v in tuned_state().items()},
                        stem.with_suffix(".pth"))
    barrier()
    return record


# -------------------------------------------------------------------------------- measure

def model_log(folder: Path, models: dict[str, nn.Module], resume: bool) -> RowLog:
    """RowLog whose rows a resumed run keeps only if all models have the weights that made them; the SHA-256
    of each model's weights is in models.json."""
    now, file = {}, folder / "models.json"
    for name, model in models.items():
        digest = hashlib.sha256()
        for v in model.state_dict().values():
            digest.update(v.cpu().numpy().tobytes())
        now[name] = digest.hexdigest()
    with input_errors(file, "the models of a run; choose another --out"):
        same = file.exists() and json.loads(file.read_text(encoding="utf-8")) == now
    log = RowLog(folder, resume and same)
    if rank_world()[0] == 0:
        if resume and file.exists() and not same:
            print(f"{folder}: its rows are of other models and are computed anew.")
        write_json(now, file)
    return log


def open_batches(names: Sequence[str], batch_size: int, log: RowLog) -> list[list[int]]:
    """This process's batches of indices that hold an image without rows. An image keeps its batch in a
    resumed run, because the last bits of a result may depend on the batch."""
    parts = slices(shard(range(len(names))), batch_size)
    return [part for part in parts if any(names[i] not in log.done for i in part)]


@torch.no_grad()
def align(nets: dict[str, nn.Module], images: Sequence[GazeImage], transform: Callable, log: RowLog,
          device: torch.device, batch_size: int, workers: int) -> list[str]:
    """Rows image, condition (the net's name), cc, nss, auc, kl, sim into log; names of unreadable images.

    nets: as in GazeTuner. An image without fixations has no value: its fields stay empty.
    """
    data, bad = GazeData(images, transform), []
    todo = open_batches([i.name for i in images], batch_size, log)
    for x, counts, index, unreadable in torch.utils.data.DataLoader(
            data, batch_sampler=todo, num_workers=workers, collate_fn=collate_gaze):
        bad += [images[i].name for i in unreadable]
        if not len(x):
            continue
        counts, table = counts.to(device), {}
        human = human_maps(counts)
        for name, net in nets.items():
            maps = net(x.to(device))[1]
            parts = list(zip(maps.split(4), counts.split(4), human.split(4)))  # four maps fit a CPU's cache
            table[name] = {k: [v for m, c, h in parts for v in f(m, c if k in ("nss", "auc") else h).tolist()]
                           for k, f in METRICS.items()}
        for b, i in enumerate(index.tolist()):
            if images[i].name not in log.done:
                log.add([{"image": images[i].name, "condition": name} |
                         {k: "" if math.isnan(v[b]) else v[b] for k, v in values.items()}
                         for name, values in table.items()])
    return sorted(gather_rows(bad))


def align_stage(nets: dict[str, nn.Module], images: Sequence[GazeImage], coco: Path | None,
                transform: Callable, folder: Path, resume: bool, **how) -> tuple[list[str], list[str]]:
    """per_image.csv of `align` and, with COCO's annotations, categories.csv: (unreadable images, parts not
    run). how: align's device, batch_size, workers."""
    log = model_log(folder, nets, resume)
    bad = align(nets, images, transform, log, **how)
    rows = log.merge()
    table = category_table(rows, coco_categories(coco_files(coco, "val"), {r["image"] for r in rows}))
    if rank_world()[0] == 0:
        (folder / "categories.csv").unlink(missing_ok=True)  # of an older run
        if table:
            write_csv(table, folder / "categories.csv")
    return bad, [] if table else ["gain by COCO category: no annotations of these images, give --coco"]


@torch.no_grad()
def classify(nets: dict[str, nn.Module], items: Sequence[tuple], prepare: Callable, views: Callable,
             log: RowLog, benchmark: str, device: torch.device, batch_size: int, workers: int) -> list[str]:
    """Rows image, condition (the net's name), benchmark, view, class, predicted, correct into log.

    items: (path, folder or class name, set of right labels, number). prepare(image, number) -> tensor, in the
    loader's processes; views(batch on the device, numbers) -> [(view's name, (B, 3, img_h, img_w))]: the
    versions of the images that are classified. Correct: the arg-max over all classes is a right label.
    Returns the names of unreadable images.
    """
    names, bad = [f"{benchmark}/{path.parent.name}/{path.name}" for path, *_ in items], []
    for x, index, unreadable in torch.utils.data.DataLoader(
            NumberedImages(items, prepare), batch_sampler=open_batches(names, batch_size, log),
            num_workers=workers, collate_fn=collate_readable):
        bad += [names[i] for i in unreadable]
        rows: dict[int, list] = {i: [] for i in index.tolist()}
        for view, v in views(x.to(device), [items[i][3] for i in rows]) if rows else ():
            for name, net in nets.items():
                for i, label in zip(rows, net(v).argmax(1).tolist()):
                    rows[i].append({"image": names[i], "condition": name, "benchmark": benchmark,
                                    "view": view, "class": items[i][1], "predicted": label,
                                    "correct": int(label in items[i][2])})
        for i, r in rows.items():
            if names[i] not in log.done:
                log.add(r)
    return sorted(gather_rows(bad))


class Classifier(nn.Module):
    """forward(x) -> logits, in bfloat16 on request."""

    def __init__(self, net: nn.Module, bf16: bool):
        super().__init__()
        self.net, self.bf16 = net, bf16

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            return self.net(x)


def prepare_plain(image: Image.Image, number: int, pre: Preprocess) -> Tensor:
    return pre(image)


def view_plain(x: Tensor, numbers: list[int]) -> list[tuple[str, Tensor]]:
    return [("", x)]


class NumberedImages(ImageList):
    """ImageList whose transform also gets the item's last field."""

    def __getitem__(self, i: int) -> tuple[int, Tensor | None]:
        try:
            image = read_image(self.items[i][0])
        except InputError:
            return i, None
        return i, self.transform(image, self.items[i][-1])


# -------------------------------------------------------------------------------- statistics

def paired_values(rows: Sequence[dict], value: str, *more: str) -> tuple[list[tuple], dict[str, np.ndarray]]:
    """(items, {condition: values (n,)}) of rows of a CSV: the items (image, fields `more`) that have a number
    under every condition, in the rows' order."""
    cells: dict[tuple, dict] = {}
    for r in rows:
        if r[value] != "":
            cells.setdefault((r["image"], *(r[k] for k in more)), {})[r["condition"]] = float(r[value])
    names = sorted({r["condition"] for r in rows})
    items = [k for k, v in cells.items() if len(v) == len(names)]
    return items, {n: np.array([cells[i][n] for i in items]) for n in names}


def category_table(rows: Sequence[dict], categories: dict[str, list[str]]) -> list[dict]:
    """Rows category, n (images that show it), mean CC of every model, from align()'s rows."""
    items, table = paired_values(rows, "cc")
    place, out = {name: i for i, (name,) in enumerate(items)}, []
    for category, names in categories.items():
        if index := [place[n] for n in names if n in place]:
            out.append({"category": category, "n": len(index)} |
                       {k: float(v[index].mean()) for k, v in table.items()})
    return out


def check_baseline(log: RowLog, benchmark: str, least: float = 0.05, from_n: int = 50) -> None:
    """InputError when model A recognises next to nothing: wrong labels or preprocessing, not a result."""
    right = [float(r["correct"]) for rows in log.rows().values() for r in rows
             if (r["condition"], r["benchmark"]) == ("A", benchmark)]
    if len(right) >= from_n and np.mean(right) < least:
        raise InputError(f"model A is right on {100 * np.mean(right):.1f} % of {len(right)} {benchmark} "
                         "images, expected far more; check that labels, weights, preprocessing fit together.")


def alignment_tables(rows: Sequence[dict], pairs: Sequence[str],
                     paper: dict | None = None) -> tuple[list[dict], list[dict]]:
    """(headline, tests) of align()'s rows: mean, SD, SEM and bootstrap interval of every metric and model;
    paired t tests of the pairs, such as "BA": B - A. paper: {(metric, model): the paper's mean}."""
    headline, tests = [], []
    for metric in METRICS:
        _, table = paired_values(rows, metric)
        for name, v in table.items():
            headline.append(result_row(f"{metric.upper()}, {name}", v, "nats" if metric == "kl" else "",
                                       (paper or {}).get((metric, name))))
            tests.append(dict(test="mean", metric=metric, model=name, n=len(v), mean=float(v.mean()),
                              sd=float(v.std(ddof=1)) if len(v) > 1 else math.nan,
                              sem=float(stats.sem(v)) if len(v) > 1 else math.nan))
        tests += [dict(test="paired t", metric=metric, pair=f"{a} - {b}", n=len(table[a]),
                       **paired_t(table[a], table[b])) for a, b in pairs if a in table and b in table]
    return headline, tests


def parity_tests(rows: Sequence[dict], benchmarks: dict[str, str], paper: dict
                 ) -> tuple[list[dict], list[dict]]:
    """(headline, tests) of the benchmarks: accuracies; B and C against A with three Bayes factors for no
    difference, the difference with its interval, and the discordant counts. benchmarks: {key: name}; paper:
    {(key, condition or "BF01"): value}. Several views of an image are no independent pairs: intervals are
    bootstrapped over images; t, Bayes factors and McNemar take them as independent, as the paper does."""
    headline, tests = [], []
    for key, name in benchmarks.items():
        part = [r for r in rows if r["benchmark"] == key]
        items, right = paired_values(part, "correct", "view") if part else ([], {})
        if not items:
            continue
        image = np.unique([i for i, _ in items], return_inverse=True)[1]
        views, n_images = len(items) > image.max() + 1, int(image.max()) + 1
        for k, v in right.items():
            per_image = 100 * np.bincount(image, v) / np.bincount(image)
            headline.append(dict(name=f"{name} top-1, {k}", paper=paper.get((key, k)),
                                 ours=100 * float(v.mean()), n=len(v), unit="%",
                                 ci=bootstrap_ci(per_image, n_boot=2000)))
        for k in ("B", "C"):
            if k in right and "A" in right and len(items) > 1:
                t, n = paired_t(right[k], right["A"]), len(items)
                bf = {"unit_information": bf01_unit_information(t["t"], n, log=True),
                      "jzs_r1": bf01_jzs(t["t"], n, 1., log=True),
                      "jzs_r707": bf01_jzs(t["t"], n, .5**.5, log=True)}
                tests.append(dict(test="parity", benchmark=key, pair=f"{k} - A", n=n, images=n_images, **t,
                                  pairs="image x view, taken as independent" if views else "image",
                                  mcnemar=mcnemar(right[k], right["A"]), log_bf01=bf,
                                  bf01={form: float(np.exp(v)) for form, v in bf.items()}))
                if k == "B":
                    d = tests[-1]["mcnemar"]
                    gap = 100 * np.bincount(image, right["B"] - right["A"]) / np.bincount(image)
                    ci = bootstrap_ci(gap, n_boot=2000) if views else [100 * v for v in d["ci"]]
                    headline += [dict(name=f"{name}, B - A", ours=100 * d["diff"], unit="points", n=n,
                                      ci=ci),
                                 dict(name=f"BF01 {name} (unit information)", paper=paper.get((key, "BF01")),
                                      ours=float(np.exp(bf["unit_information"])), n=n),
                                 dict(name=f"BF01 {name} (JZS, r = 1)", paper=paper.get((key, "BF01")),
                                      ours=float(np.exp(bf["jzs_r1"])), n=n)]
    return headline, tests


def gain_shares(rows: Sequence[dict], categories: Sequence[dict], paper: dict[str, float]) -> list[dict]:
    """Headline rows: per cent of the images and of the COCO categories in which B's CC is above A's.

    paper: its values for "images" and "COCO categories".
    """
    values, out = {"images": paired_values(rows, "cc")[1]}, []
    if categories:
        values["COCO categories"] = {k: np.array([r[k] for r in categories])
                                     for k in "AB" if k in categories[0]}
    for what, v in values.items():
        if {"A", "B"} <= set(v):
            up = 100. * (v["B"] > v["A"])
            out.append(dict(name=f"{what} with a gain in CC", paper=paper[what], ours=float(up.mean()),
                            n=len(up), ci=bootstrap_ci(up) if what == "images" else None, unit="%"))
    return out


# -------------------------------------------------------------------------------- figures

def diagonal(ax: Axes, *values: np.ndarray) -> None:
    """Identity line over the values' range, axes square."""
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    pad = .05 * (high - low or 1)
    ax.plot([low - pad, high + pad], [low - pad, high + pad], "--", color="black", linewidth=.8, zorder=0)
    ax.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")


def draw_training(folder: Path) -> None:
    """fig_training: held-out losses against steps; the ring marks the weights that are kept."""
    fig, axes = new_figure(3)
    for k in (k for k in "BC" if (folder / f"tuned_{k}.csv").exists()):
        log = read_csv(folder / f"tuned_{k}.csv")
        for ax, key in zip(axes, ("val_loss", "val_kl", "val_distill")):
            how = dict(color=PALETTE[k], markersize=3)
            ax.plot([r["step"] for r in log], [r[key] for r in log], "o-", label=k, **how)
            for best in sorted(log, key=lambda r: r["val_loss"])[:1]:
                ax.plot(best["step"], best[key], "o", markerfacecolor="none", **how | {"markersize": 9})
    for ax, label in zip(axes, ("loss", "KL to fixations (nats)", "MSE of features")):
        ax.set(xlabel="step", ylabel=f"held-out {label}")
    axes[0].legend(title="model", frameon=False)
    save_figure(fig, folder / "fig_training")


def draw_metrics(axes: Sequence[Axes], rows: Sequence[dict]) -> None:
    """Means of the five metrics of align()'s rows, +-1 SEM, one panel each."""
    for ax, metric in zip(axes, METRICS):
        _, table = paired_values(rows, metric)
        for i, (k, v) in enumerate(table.items()):
            ax.bar(i, v.mean(), yerr=v.std(ddof=1) / len(v) ** .5, color=PALETTE[k], capsize=3)
        low = min(v.mean() - 4 * v.std() / len(v) ** .5 for v in table.values())
        ax.set(xticks=range(len(table)), xticklabels=table)
        ax.set_title(metric.upper() + (" (nats)" if metric == "kl" else ""))
        ax.set_ylim(bottom=min(low, 0) if metric != "auc" else .5)
        if metric == "kl":
            ax.set_xlabel("lower is better", fontsize=8)
    axes[0].set_ylabel("mean over images, ±1 SEM")


def draw_gain(rows: Sequence[dict], categories: Sequence[dict]) -> Figure:
    """CC of B against A by image and, with C where there is one, by category."""
    _, cc = paired_values(rows, "cc")
    fig, axes = new_figure(2 if categories else 1, 3.4)
    axes[0].scatter(cc["A"], cc["B"], s=6, color=PALETTE["B"], alpha=.6, linewidths=0)
    diagonal(axes[0], cc["A"], cc["B"])
    axes[0].set(xlabel="CC with fixations, A", ylabel="CC, B", title=f"{len(cc['A'])} images")
    if categories:
        columns = {k: np.array([r[k] for r in categories]) for k in cc}
        if "C" in cc:
            axes[1].vlines(columns["A"], columns["C"], columns["B"], color=PALETTE["C"], linewidth=.6)
            axes[1].scatter(columns["A"], columns["C"], s=14, color=PALETTE["C"], label="C")
        axes[1].scatter(columns["A"], columns["B"], s=14, color=PALETTE["B"], label="B")
        diagonal(axes[1], *columns.values())
        axes[1].set(xlabel="CC, A (mean of category)", ylabel="CC, B or C" if "C" in cc else "CC, B",
                    title=f"{len(categories)} COCO categories")
        if "C" in cc:
            axes[1].legend(frameon=False)
    return fig


# -------------------------------------------------------------------------------- main

def add_gaze_args(parser: argparse.ArgumentParser, stages: Sequence[str], folders: Sequence[str],
                  paper: dict, demo: dict) -> Callable:
    """Arguments of exp01 and exp02, those of Recipe too; add_argument of the study's group, for more.

    folders: keys of FOLDERS. paper, demo: what `fill_in` puts for arguments that were not given."""
    add = parser.add_argument_group("study").add_argument
    add("--stages", nargs="+", choices=stages, default=list(stages), help="default: all")
    for name in folders:
        add(f"--{name}", type=Path, help=FOLDERS[name])
    add("--model", help=f"model A, in common.WEIGHTS (default: {paper['model']}; demo: {demo['model']})")
    add("--model-b", type=Path, help="tuned weights of B, instead of training it")
    add("--eval-batch-size", type=at_least(1), default=32, help="images a batch elsewhere (%(default)s)")
    tune = parser.add_argument_group("training (in brackets the paper's; the demo's differ)").add_argument
    for name, what in (("lr", "AdamW's step"), ("weight_decay", ""), ("epochs", "at most"),
                       ("eval_every", "steps between validations"), ("patience", "validations without gain"),
                       ("min_delta", "smallest gain"), ("lam", "weight of the attention loss")):
        kind = type(paper[name])
        tune("--" + name.replace("_", "-"), type=at_least(kind is int, kind), help=f"{what} ({paper[name]})")
    tune("--kl", choices=["human", "model"], default="human", help="KL(human || model) or reverse")
    return add


def fill_in(args: argparse.Namespace, folders: Sequence[str], paper: dict, demo: dict) -> argparse.Namespace:
    """args with the demo's or the paper's values where none were given; a folder named: no demo; tuned
    weights given: no training of that model."""
    if args.data == "demo" and any(getattr(args, name) for name in folders):
        args.data = None  # only what was named
    args.stages = [k for k in args.stages if not getattr(args, f"model_{k.lower()}", None)]
    for name, value in (demo if args.data == "demo" else paper).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def open_run(args: argparse.Namespace, script: str, measured: Sequence[str]) -> Path:
    """The run's folder, as start_run; stages may come one after the other with --resume. InputError where a
    new run would remove a training, or the rows of `measured` stages that it leaves out."""
    tag = f"{args.model}_seed{args.seed}"
    folder = Path(args.out or Path("runs") / script / tag)
    if not (args.resume or args.plot_only):
        if any((folder / f"tuned_{k}.pt").exists() for k in args.stages):
            raise InputError(f"{folder} holds a training; add --resume to go on, or choose another --out.")
        rows = [*folder.glob("per_image.*"), *folder.glob("*/per_image.*")]
        if rows and not set(measured) <= set(args.stages):
            raise InputError(f"{folder} holds rows of other stages; add --resume to keep them, or choose "
                             "another --out.")
    return start_run(args, script, tag, free=["stages"])


def left_out_before(folder: Path, resume: bool) -> dict[str, list[str]]:
    """Images that earlier stages of a resumed run left out, by reason: its results.json's."""
    file = folder / "results.json"
    return dict(read_json(file).get("skipped", {})) if resume and file.exists() else {}
