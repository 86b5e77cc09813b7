"""exp05, training: the Vision Transformers whose heads exp05_gaze_video.py compares with human gaze.

Yamamoto, Akahoshi & Kitazawa (2025), "Emergence of human-like attention and distinct head clusters in
self-supervised vision transformers". Two ways of training x 4, 8, 12 blocks x six seeds on ImageNet-1k: DINO
(Caron et al. 2021, arXiv 2104.14294; no labels, the teacher is kept), and supervised as in DeiT (Touvron et
al. 2021, arXiv 2012.12877).

Commands
    laptop, demo world    python exp05_train_vits.py --method dino --depth 4
    one GPU               python exp05_train_vits.py --method dino --depth 12 --data IMAGENET --seed 1
    eight GPUs            torchrun --nproc_per_node 8 exp05_train_vits.py --data IMAGENET --workers 10
    supervised            the same with --method supervised
    go on after a kill    the same command with --resume
    evaluate              the same command with --eval (--weights FILE: another checkpoint of that shape; demo
                          without a training: the shipped model); results in <tag>/eval/
Data: IMAGENET/train/<wnid>/*.JPEG and IMAGENET/val/<wnid>/*.JPEG, or any two folders of that layout.
Result, in runs/exp05_train_vits/<tag>/ or --out: model.pth (timm keys, fp16; DINO: the teacher's backbone),
linear_head.pth, last.pt (to resume), log.csv, per_image.csv, attention.npz, results.json; from these files
fig_training and fig_attention (.png, .pdf).

Time: the demo with 4, 8, 12 blocks 19, 29, 41 minutes (DINO) or 13, 15, 17 (supervised) of one CPU core, 2.5
more for drawing its scenes; 1.2 GB (a run of 96 scenes).

To compare with: official DINO ViT-S/16 (800 epochs) k-NN 74.5 %, linear head 77.0 %; DeiT-S 79.8 %. Ours on
the demo, 12 blocks: DINO 84.3 % and 92.4 %, supervised 98.7 % (checkpoints/README.md has all). The paper
states neither accuracy nor learning rate, batch or warm-up of its models: the defaults are those of the two
official repositories, at 300 epochs (which the paper's file names show).
Departures: bfloat16 autocast, not float16 with loss scaling; the global batch is the argument, split over the
processes. DINO: the last layer's weight norm is always 1 and the layer runs in float32. Supervised: no
repeated augmentation; RandAugment with torchvision's operations (two, each with probability .5, strength 9 of
10 without jitter); erased boxes get the mean colour; the schedule starts at 0 and moves every step; partners
in mixup and CutMix are neighbours in the batch, so that the number of processes changes nothing (with drop
path it does: every process draws its own).
"""
from __future__ import annotations

import argparse
import copy
import itertools
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.transforms import v2 as T
from torchvision.transforms.functional import normalize
from tqdm import tqdm

from common import (HEAD_BLOCKS, IMAGENET, InputError, ROOT, VisionTransformer, barrier, batches,
                    cls_attention, fit_linear, gather_rows, generator, init_distributed, input_errors,
                    load_head, pick_device, rank_world, read_image, shard, upsample)
from legacy import (PALETTE, add_common_args, argument_parser, cli, demo_folder, figure_grid, image_name,
                     load_checkpoint, print_paper_vs_ours, read_arrays, read_csv, read_json, redraw,
                     result_row, save_arrays, save_checkpoint, save_figure, slices, start_run, write_csv,
                     write_results)

# -------------------------------------------------------------------------------- constants

# Shapes: B images of a batch, V views of an image, D width, K outputs of DINO's head, H heads, h, w patches.
# Defaults of the official repositories (main_dino.py; DeiT's main.py). lr is per 256 (DINO), 512 images.
BOTH = dict(width=384, heads=6, epochs=300, drop_path=.1, global_size=224, final_size=224, final_epochs=0,
            eval_every=10, eval_images=50000, eval_resize=256, train_head=False, dtype="bfloat16", lr=5e-4)
PAPER = {
    "dino": BOTH | dict(
        batch_size=512, min_lr=1e-6, warmup_epochs=10, weight_decay=.04, weight_decay_end=.4, clip_grad=3.0,
        local_size=96, locals=8, global_scale=(.4, 1.), local_scale=(.05, .4), jitter=(.4, .4, .2, .1),
        grayscale=.2, blur=(1., .1, .5), solarise=.2, out_dim=65536, head_hidden=2048, bottleneck=256,
        momentum=.996, teacher_temp=.04, warmup_teacher_temp=.04, warmup_teacher_epochs=0,
        freeze_last_layer=1, pos_rule="offset"),
    "supervised": BOTH | dict(
        batch_size=1024, min_lr=1e-5, warmup_epochs=5, weight_decay=.05, weight_decay_end=.05, clip_grad=0.,
        global_scale=(.08, 1.), smoothing=.1, mixup=.8, cutmix=1., erasing=.25, randaugment=9.,
        pos_rule="size")}
# The demo world, one CPU core: narrow, small crops (few tokens), little change of colour (a cue to classes).
TINY = dict(width=96, drop_path=0., batch_size=32, lr=1.6e-2, warmup_epochs=1, global_size=112, eval_every=1,
            eval_images=1200, eval_resize=224, train_head=True, pos_rule="size", dtype="float32")
DEMO = {
    "dino": TINY | dict(epochs=4, lr=1.2e-2, min_lr=1e-5, weight_decay_end=.1, local_size=48, locals=4,
                        grayscale=.05, jitter=(.3, .3, .3, .02), blur=(.1, .1, 0.), solarise=0., out_dim=256,
                        head_hidden=256, bottleneck=64, momentum=.98, freeze_last_layer=0),
    "supervised": TINY | dict(epochs=4, final_epochs=1, final_size=160, global_scale=(.25, 1.), mixup=0.,
                              cutmix=0., randaugment=0.)}
HELP = dict(lr="peak, for 256 (dino) or 512 (supervised) images", clip_grad="per parameter; 0: off",
            global_size="px of large (or only) crops", final_size="px, in the last --final-epochs epochs",
            blur="probability in first, second large, small crops", momentum="of the teacher at the start",
            freeze_last_layer="epochs", eval_every="epochs", eval_images="for the scores during training",
            eval_resize="short side in px before the 224 crop", randaugment="0 to 10")
DEMO_IMAGES = 15600, 1200  # training and validation pictures of the demo world
STUDENT_TEMP, CENTRE_MOMENTUM = .1, .9  # DINO, defaults of its DINOLoss
KNN_K, KNN_TEMP = 20, .07  # DINO's eval_knn.py
SCORES = dict(knn="k-NN top-1", top1="own head top-1", linear="linear head top-1", lift="attention lift")
OFFICIAL = {("dino", "knn"): 74.5, ("dino", "linear"): 77.0, ("supervised", "top1"): 79.8}  # %, 12 blocks
EXAMPLES = 6  # rows of fig_attention
# Arguments that change where, how fast and how far, not what is trained: they may differ at --resume.
FREE = {"workers", "device", "stop_step", "save_minutes", "eval", "weights", "head", "train_head"}


# -------------------------------------------------------------------------------- data

def pil_blur(image: Image.Image) -> Image.Image:
    """Gaussian blur with a radius uniform in [.1, 2] px, as in DINO."""
    return image.filter(ImageFilter.GaussianBlur(float(torch.empty(()).uniform_(.1, 2.))))


def dino_views(size: int, local: int, n_local: int, global_scale: tuple, local_scale: tuple, jitter: tuple,
               grayscale: float, blur: tuple, solarise: float) -> list[T.Compose]:
    """One transform a view: two large crops of `size` px, then n_local small ones of `local` px."""
    def view(px: int, scale: tuple, p_blur: float, p_solarise: float) -> T.Compose:
        return T.Compose([T.RandomResizedCrop(px, tuple(scale), interpolation=T.InterpolationMode.BICUBIC),
                          T.RandomHorizontalFlip(), T.RandomApply([T.ColorJitter(*jitter)], .8),
                          T.RandomGrayscale(grayscale), T.RandomApply([pil_blur], p_blur),
                          T.RandomSolarize(128, p_solarise), T.PILToTensor()])
    large = [view(size, global_scale, blur[0], 0.), view(size, global_scale, blur[1], solarise)]
    return large + [view(local, local_scale, blur[2], 0.)] * n_local


def supervised_views(size: int, scale: tuple, randaugment: float, erasing: float) -> list[T.Compose]:
    """The one transform of DeiT. randaugment: 0 to 10 as in timm (torchvision counts to 30)."""
    op = T.RandomApply([T.RandAugment(1, round(3 * randaugment), 31, T.InterpolationMode.BICUBIC)], .5)
    return [T.Compose([T.RandomResizedCrop(size, tuple(scale), interpolation=T.InterpolationMode.BICUBIC),
                       T.RandomHorizontalFlip(), *([op, op] if randaugment else []), T.PILToTensor(),
                       T.RandomErasing(erasing, value=[round(255 * m) for m in IMAGENET[0]])])]


def transforms(args: argparse.Namespace) -> dict[int, list[T.Compose]]:
    """{first epoch: one transform a view}; sizes grow by --final-size / --global-size for --final-epochs."""
    def views(size: int) -> list[T.Compose]:
        if args.method == "supervised":
            return supervised_views(size, args.global_scale, args.randaugment, args.erasing)
        return dino_views(size, args.local_size * size // args.global_size, args.locals, args.global_scale,
                          args.local_scale, args.jitter, args.grayscale, args.blur, args.solarise)
    late = {args.epochs - args.final_epochs: views(args.final_size)} if args.final_epochs else {}
    return {0: views(args.global_size)} | late


class Views:
    """Views of an image: item (epoch, index) -> (uint8 (3, s, s) each, label, 1 if the file was unreadable).

    A pure function of (seed, epoch, index): torchvision draws from torch's global generator, which is seeded
    and put back. transforms: {first epoch: one transform a view}, so that sizes may change during training.
    An unreadable file is named on stderr; the next one takes its place, without substitute a black image.
    """

    def __init__(self, samples: list, transforms: dict[int, list], seed: int = 0, substitute: bool = True):
        self.samples, self.transforms, self.seed, self.substitute = samples, transforms, seed, substitute

    def __getitem__(self, key: tuple[int, int]) -> tuple[list[Tensor], int, int]:
        epoch, index = key
        path, label = self.samples[index]
        try:
            image, unreadable = read_image(path), 0
        except InputError as e:
            tqdm.write(f"skipped: {e}", file=sys.stderr)
            if self.substitute:
                return *self[epoch, (index + 1) % len(self.samples)][:2], 1
            image, unreadable = Image.new("RGB", (224, 224)), 1
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(generator(self.seed, 1, epoch, index).initial_seed())
            now = max(first for first in self.transforms if first <= epoch)
            return [t(image) for t in self.transforms[now]], label, unreadable


def image_folders(data: str, limit: int | None, workers: int) -> tuple[list, list, list[str]]:
    """(train samples, val samples, class names); a sample is (path, class). limit: a random N of each."""
    n_train, n_val = (min(n, limit or n) for n in DEMO_IMAGES)
    root = Path(data) if data != "demo" else \
        demo_folder("imagenet", n_train=n_train, n_val=n_val, workers=max(workers, 1)) / "imagenet"
    try:
        sets = [ImageFolder(root / split) for split in ("train", "val")]
    except FileNotFoundError as e:
        raise InputError(f"{str(e).splitlines()[0]}; expected {root}/train/<class>/*.JPEG and {root}/val/"
                         "<class>/*.JPEG: give that folder with --data.") from e
    if sets[0].classes != sets[1].classes:
        raise InputError(f"{root}: train and val have different class folders; both need the same.")
    chosen = [sorted(torch.randperm(len(s), generator=generator(0)).tolist()[:limit]) for s in sets]
    train, val = ([s.samples[i] for i in keep] for s, keep in zip(sets, chosen))
    return train, val, sets[0].classes


def normalise(images: Tensor) -> Tensor:
    """(B, 3, img_h, img_w) uint8 -> float32, ImageNet mean 0 and SD 1."""
    return normalize(images.float() / 255, *IMAGENET)


# -------------------------------------------------------------------------------- model

class DinoHead(nn.Module):
    """Projection head: MLP of three layers, L2-normalised bottleneck, cosine to out_dim prototypes.

    forward(x (..., D)) -> (..., out_dim) in [-1, 1]. The prototypes have norm 1 (weight norm) and no bias.
    """

    def __init__(self, dim: int, hidden: int, bottleneck: int, out_dim: int, gen: torch.Generator):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
                                 nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Parameter(torch.empty(out_dim, bottleneck))
        for layer in self.mlp[::2]:
            nn.init.trunc_normal_(layer.weight, std=.02, generator=gen)
            nn.init.zeros_(layer.bias)
        bound = bottleneck ** -.5  # torch's default for a linear layer
        nn.init.uniform_(self.prototypes, -bound, bound, generator=gen)

    def forward(self, x: Tensor) -> Tensor:
        x = F.normalize(self.mlp(x).float(), dim=-1)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 is too coarse
            return F.linear(x, F.normalize(self.prototypes, dim=-1))


class DinoNet(nn.Module):
    """Backbone and head over V views (B, 3, s, s), large first -> (V, B, out_dim); one pass per size."""

    def __init__(self, backbone: VisionTransformer, head: DinoHead):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, views: list[Tensor]) -> Tensor:
        groups = [torch.cat(list(g)) for _, g in itertools.groupby(views, key=lambda v: v.shape[-1])]
        x = torch.cat([self.backbone(g) for g in groups])  # (V B, D)
        return self.head(x).unflatten(0, (len(views), -1))


def dino_loss(student: Tensor, teacher: Tensor, centre: Tensor, teacher_temp: float) -> Tensor:
    """Mean cross-entropy over pairs of a teacher's view and another student view (Caron et al., eq. 1-3).

    student (V, B, K), teacher (2, B, K, no gradient): outputs of the heads, large views first; centre (K,).
    """
    q = ((teacher.float() - centre) / teacher_temp).softmax(-1).detach()
    log_p = (student.float() / STUDENT_TEMP).log_softmax(-1)
    pairs = [-(q[i] * log_p[j]).sum(-1).mean() for i in range(len(q)) for j in range(len(log_p)) if i != j]
    return sum(pairs) / len(pairs)


def process_mean(x: Tensor) -> Tensor:
    """Mean of a tensor over the processes."""
    if dist.is_initialized():
        dist.all_reduce(x)
        x = x / dist.get_world_size()
    return x


def mix(images: Tensor, target: Tensor, mixup: float, cutmix: float,
        rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mixup or CutMix (probability 1/2 each when both are on) of neighbours 2i and 2i + 1, one ratio a batch.

    images (B, 3, img_h, img_w), B even; target (B, classes); mixup, cutmix: alpha of the Beta law, 0 = off.
    """
    if not mixup and not cutmix:
        return images, target
    cut = rng.random() < (.5 if mixup and cutmix else float(cutmix > 0))
    ratio = rng.beta(*[cutmix if cut else mixup] * 2)
    other, other_target = (v.unflatten(0, (-1, 2)).flip(1).flatten(0, 1) for v in (images, target))
    if cut:
        img_h, img_w = images.shape[-2:]
        half_h, half_w = (int(s * math.sqrt(1 - ratio)) // 2 for s in (img_h, img_w))
        row, col = rng.integers(img_h), rng.integers(img_w)
        inside = torch.zeros(img_h, img_w, dtype=torch.bool, device=images.device)
        inside[max(row - half_h, 0):row + half_h, max(col - half_w, 0):col + half_w] = True
        images, ratio = torch.where(inside, other, images), 1 - float(inside.float().mean())
    else:
        images = ratio * images + (1 - ratio) * other
    return images, ratio * target + (1 - ratio) * other_target


def cosine(step: int, total: int, start: float, end: float, warmup: int = 0) -> float:
    """Value at `step`: linear from 0 to start in `warmup` steps, then half a cosine to end at total."""
    if step < warmup:
        return start * step / max(warmup - 1, 1)
    return end + .5 * (start - end) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def parameter_groups(net: nn.Module, decay_embeddings: bool) -> list[dict]:
    """AdamW groups: with decay, and without (1-D; position and CLS embeddings unless decay_embeddings)."""
    groups = [{"params": []}, {"params": [], "weight_decay": 0.}]
    for name, p in net.named_parameters():
        embedding = name.endswith(("pos_embed", "cls_token")) and not decay_embeddings
        groups[p.ndim <= 1 or embedding]["params"].append(p)
    return groups


@torch.no_grad()
def clip_each_gradient(net: nn.Module, limit: float) -> None:
    """Scale each parameter's own gradient to a norm of at most `limit` (in DINO not the global norm)."""
    for p in net.parameters():
        if p.grad is not None:
            p.grad.mul_((limit / (p.grad.norm() + 1e-6)).clamp(max=1))


@torch.no_grad()
def ema(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum teacher + (1 - momentum) student."""
    for t, s in zip(teacher.parameters(), student.parameters()):
        t.mul_(momentum).add_((1 - momentum) * s)


def build(args: argparse.Namespace, n_classes: int, gen: torch.Generator) -> nn.Module:
    """The network that is trained and kept (without DINO's head), initialised from `gen` alone."""
    if args.arch == "resnet":  # one narrow block a stage: 3.5 M parameters, layer4 (B, 2048, 7, 7) at 224 px
        net = ResNet(Bottleneck, [1, 1, 1, 1], n_classes, width_per_group=16)
        for m in net.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu", generator=gen)
        return net
    net = VisionTransformer(embed_dim=args.width, depth=args.depth, num_heads=args.heads,
                            num_classes=0 if args.method == "dino" else n_classes, drop_path=args.drop_path,
                            pos_rule=args.pos_rule)
    net.init_weights(gen)
    return net


def check(args: argparse.Namespace, n_train: int, world: int, device: torch.device) -> None:
    """InputError for a batch that cannot be filled or split."""
    local, rest = divmod(args.batch_size, world)
    if rest or (local % 2 and (args.mixup or args.cutmix)):
        raise InputError(f"--batch-size {args.batch_size} on {world} processes: each needs the same number "
                         "(even with mixup or CutMix); change --batch-size or the number of processes.")
    if n_train < args.batch_size:
        raise InputError(f"{n_train} training images, fewer than --batch-size {args.batch_size}; lower it.")
    if world > 1 and args.arch == "resnet" and device.type != "cuda":
        raise InputError("--arch resnet on several processes needs CUDA (joint batch norm); use one process.")


class Trainer:
    """All that a training step changes. A step is a function of this state, the seed and the data."""

    def __init__(self, args: argparse.Namespace, n_classes: int, per_epoch: int, device: torch.device):
        self.args, self.n_classes, self.per_epoch, self.device = args, n_classes, per_epoch, device
        self.total, self.step, self.log = args.epochs * per_epoch, 0, []
        self.sums = torch.zeros(2, device=device)  # of this epoch: losses of the steps, unreadable files
        self.teacher, self.centre, gen = None, None, generator(args.seed, 2)
        self.student = build(args, n_classes, gen)
        if args.method == "dino":
            head = DinoHead(args.width, args.head_hidden, args.bottleneck, args.out_dim, gen)
            self.student = DinoNet(self.student, head)
            self.teacher = copy.deepcopy(self.student).requires_grad_(False).to(device).eval()  # no drop path
            self.centre = torch.zeros(args.out_dim, device=device)
        if dist.is_initialized() and device.type == "cuda":
            self.student = nn.SyncBatchNorm.convert_sync_batchnorm(self.student)  # the ResNet's
        self.student.to(device).train()
        groups = parameter_groups(self.student, decay_embeddings=args.method == "dino")
        self.optimiser = torch.optim.AdamW(groups, lr=0., weight_decay=args.weight_decay)
        parallel = nn.parallel.DistributedDataParallel if dist.is_initialized() else lambda net: net
        self.net = parallel(self.student)

    @property
    def model(self) -> nn.Module:
        """What is evaluated and kept: the teacher's backbone (DINO) or the trained network."""
        return self.teacher.backbone if self.teacher else self.student

    def schedule(self, step: int) -> dict[str, float]:
        """lr, weight decay, and for DINO the teacher's momentum and temperature (linear in its warm-up)."""
        a, total = self.args, self.total
        base = a.lr * a.batch_size / (256 if a.method == "dino" else 512)
        now = {"lr": cosine(step, total, base, a.min_lr, a.warmup_epochs * self.per_epoch),
               "wd": cosine(step, total, a.weight_decay, a.weight_decay_end)}
        if a.method == "dino":
            n, epoch = a.warmup_teacher_epochs, step // self.per_epoch
            share = epoch / max(n - 1, 1) if epoch < n else 1.
            now["momentum"] = cosine(step, total, a.momentum, 1.)
            now["teacher_temp"] = a.warmup_teacher_temp + share * (a.teacher_temp - a.warmup_teacher_temp)
        return now

    def loss(self, views: list[Tensor], labels: Tensor, teacher_temp: float | None = None) -> Tensor:
        """Loss of this process's images; for DINO the centre moves on, after its use."""
        a = self.args
        if a.method == "dino":
            with torch.no_grad():
                teacher = self.teacher(views[:2])  # (2, B, K)
            loss = dino_loss(self.net(views), teacher, self.centre, teacher_temp)
            mean = process_mean(teacher.float().mean((0, 1)))  # (K,)
            self.centre = CENTRE_MOMENTUM * self.centre + (1 - CENTRE_MOMENTUM) * mean
            return loss
        target = F.one_hot(labels, self.n_classes) * (1 - a.smoothing) + a.smoothing / self.n_classes
        rng = np.random.default_rng([a.seed, 3, self.step])  # the same in all processes
        images, target = mix(views[0], target, a.mixup, a.cutmix, rng)
        return F.cross_entropy(self.net(images).float(), target)

    def train_step(self, views: list[Tensor], labels: Tensor, unreadable: Tensor) -> Tensor:
        """One update from this process's part of the batch (uint8 views); the loss of the whole batch."""
        now, a = self.schedule(self.step), self.args
        for group, decay in zip(self.optimiser.param_groups, (now["wd"], 0.)):
            group.update(lr=now["lr"], weight_decay=decay)
        torch.manual_seed(generator(a.seed, 4, self.step, rank_world()[0]).initial_seed())  # drop path
        views = [normalise(v.to(self.device, non_blocking=True)) for v in views]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=a.dtype == "bfloat16"):
            loss = self.loss(views, labels.to(self.device), now.get("teacher_temp"))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if a.clip_grad:
            clip_each_gradient(self.student, a.clip_grad)
        if a.method == "dino" and self.step < a.freeze_last_layer * self.per_epoch:
            self.student.head.prototypes.grad = None  # AdamW leaves it alone, decay included
        self.optimiser.step()
        if self.teacher:
            ema(self.teacher, self.student, now["momentum"])
        self.step += 1
        mean = process_mean(torch.stack([loss.detach(), unreadable.sum().to(loss)]))
        self.sums = self.sums + mean * torch.tensor([1., rank_world()[1]], device=self.device)
        return mean[0]

    def state_dict(self) -> dict:
        return {"step": self.step, "log": self.log, "sums": self.sums, "centre": self.centre,
                "student": self.student.state_dict(), "optimiser": self.optimiser.state_dict(),
                "teacher": self.teacher.state_dict() if self.teacher else {}}

    def load_state_dict(self, state: dict) -> None:
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.teacher:
            self.teacher.load_state_dict(state["teacher"])
            self.centre = state["centre"].to(self.device)
        self.step, self.log, self.sums = state["step"], state["log"], state["sums"].to(self.device)


def train(trainer: Trainer, data: Views, val: list, folder: Path) -> None:
    """Train to the end, or to --stop-step, with a progress bar; writes last.pt, log.csv and model.pth."""
    a, rank, stop = trainer.args, rank_world()[0], min(trainer.args.stop_step or trainer.total, trainer.total)
    first, saved, began = trainer.step, time.time(), time.time()
    bar = tqdm(total=trainer.total * a.batch_size, initial=trainer.step * a.batch_size, unit="img",
               smoothing=.02, disable=rank > 0, mininterval=2)
    order = batches(len(data.samples), a.batch_size, a.seed, trainer.step, stop)
    for batch in DataLoader(data, batch_sampler=order, num_workers=a.workers,
                            pin_memory=trainer.device.type == "cuda"):
        loss = trainer.train_step(*batch)
        bar.update(a.batch_size)
        if trainer.step % 20 == 0:
            bar.set_postfix(loss=f"{float(loss):.3f}")
        whole = trainer.step % trainer.per_epoch == 0
        if whole:
            rate = (trainer.step - first) * a.batch_size / (time.time() - began)
            end_of_epoch(trainer, data.samples, val, folder, rate)
            first, began = trainer.step, time.time()
        if whole or trainer.step == stop or time.time() - saved > 60 * a.save_minutes:
            if rank == 0:
                save_checkpoint(trainer.state_dict(), folder / "last.pt")
            saved = time.time()
    bar.close()
    barrier()


# -------------------------------------------------------------------------------- measure

def describe(model: nn.Module, x: Tensor) -> Tensor:
    """CLS of the last 4 blocks, each after `norm`, oldest first (B, 4 D); ResNet: pooled (B, 2048)."""
    if isinstance(model, ResNet):
        return nn.Sequential(*list(model.children())[:-1])(x).flatten(1)
    return model.norm(model.encode(model.embed(x)).cls[:, -HEAD_BLOCKS:]).flatten(1)


def eval_view(resize: int, flip: bool = False) -> T.Compose:
    """Short side to `resize` px bicubic, centre crop 224, flipped on request (DINO's eval_linear.py)."""
    return T.Compose([T.Resize(resize, T.InterpolationMode.BICUBIC), T.CenterCrop(224),
                      T.RandomHorizontalFlip(float(flip)), T.PILToTensor()])


@torch.no_grad()
def features(model: nn.Module, samples: list, resize: int, workers: int, device: torch.device, bf16: bool,
             flip: bool = False) -> tuple[Tensor, Tensor]:
    """describe() of all images in eval_view, (n, d) float32, and which were readable, (n,) bool, on every
    process's CPU; they share the work."""
    transform = eval_view(resize, flip)
    views, keys, rows = Views(samples, {0: [transform]}, substitute=False), range(len(samples)), []
    model.eval()
    for (x,), _, bad in DataLoader(views, 128, sampler=[(0, i) for i in shard(keys)], num_workers=workers):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            y = describe(model, normalise(x.to(device))).float().cpu()  # (b, d)
        rows.append(torch.cat([y, 1. - bad[:, None]], 1))
    parts = gather_rows([torch.cat(rows)])
    out = torch.empty(len(samples), parts[0].shape[1])
    for rank, part in enumerate(parts):
        out[rank::len(parts)] = part  # the inverse of shard
    return out[:, :-1], out[:, -1] > 0


def knn(bank: Tensor, bank_labels: Tensor, x: Tensor, n_classes: int) -> Tensor:
    """Classes (n,) by weighted k-NN (DINO's eval_knn.py): the 20 of largest cosine s vote with exp(s / .07).

    bank (m, d) with labels (m,), x (n, d).
    """
    bank, out = F.normalize(bank, dim=1), []
    for part in F.normalize(x, dim=1).split(256):
        s, i = (part @ bank.T).topk(min(KNN_K, len(bank)), 1)  # (b, k)
        votes = torch.zeros(len(part), n_classes, device=x.device)
        out.append(votes.scatter_add_(1, bank_labels[i], (s / KNN_TEMP).exp()).argmax(1))
    return torch.cat(out)


@torch.no_grad()
def attention_lift(model: VisionTransformer, samples: list, device: torch.device) -> Tensor:
    """Share of the last block's CLS attention on the main object minus the object's area share, (n, H).

    For 224x224 pictures of the demo world: masks are drawn again, from the seed and the index in the name.
    """
    import demo
    out, plain = [], Views(samples, {0: [T.PILToTensor()]})
    seed = read_json(Path(samples[0][0]).parents[1] / demo.DONE)["seed"]
    for part in slices(range(len(samples)), 64):
        scenes = [demo.render_scene(seed, int(Path(samples[j][0]).stem.split("_")[-1])) for j in part]
        masks = torch.stack([torch.from_numpy(s.ids == 1) for s in scenes]).float()  # (b, 224, 224)
        share = F.avg_pool2d(masks[:, None], model.patch_size).flatten(2)  # (b, 1, h w)
        x = normalise(torch.stack([plain[0, j][0][0] for j in part]).to(device))
        att = cls_attention(model.eval(), x, [len(model.blocks) - 1])[:, 0].flatten(2).cpu()  # (b, H, h w)
        out.append((att * share).sum(-1) / att.sum(-1) - share.mean(-1))
    return torch.cat(out)


@torch.no_grad()
def scores(model: nn.Module, bank: list, val: list, n_classes: int, args: argparse.Namespace,
           device: torch.device, head_file: Path | None = None) -> tuple[dict[str, Tensor], list, list]:
    """Per-image results on val, keys of SCORES: 0 or 1 (n,), and lift (n, H) in the demo; then the samples of
    val and of bank that could be read, in order.

    bank: samples for k-NN and, with head_file, for the linear head (plain and flipped) written there;
    --head scores a given one instead.
    """
    training, how = model.training, (args.eval_resize, args.workers, device, args.dtype == "bfloat16")
    (x, x_ok), (z, z_ok) = (features(model, s, *how) for s in (val, bank))
    val, bank = ([s for s, ok in zip(samples, good) if ok] for samples, good in ((val, x_ok), (bank, z_ok)))
    if not val or not bank:
        raise InputError("no readable image is left to score; look at the messages above.")
    x, z = x[x_ok].to(device), z[z_ok].to(device)  # (n, 4 D), (m, 4 D)
    y, bank_y = (torch.tensor([label for _, label in s], device=device) for s in (val, bank))
    d = getattr(model, "embed_dim", x.shape[1])  # the last block's CLS token stands last
    out = {"knn": knn(z[:, -d:], bank_y, x[:, -d:], n_classes) == y}
    if args.method == "supervised":
        head = model.fc if args.arch == "resnet" else model.head
        out["top1"] = head(x[:, -d:]).argmax(1) == y
    if args.head:
        head = load_head(args.head).to(device)
        if head.in_features != x.shape[1]:
            raise InputError(f"--head {args.head} reads {head.in_features} numbers an image, the model gives "
                             f"{x.shape[1]}; name the head that was fitted to it.")
        out["linear"] = head(x).argmax(1) == y
    elif head_file:
        z = torch.cat([z, features(model, bank, *how, flip=True)[0].to(device)])
        with torch.enable_grad():
            weight, bias = fit_linear(z, bank_y.repeat(2), n_classes)
        out["linear"] = (x @ weight.T + bias).argmax(1) == y
        if rank_world()[0] == 0:
            save_checkpoint({"weight": weight.cpu(), "bias": bias.cpu()}, head_file)
    if args.data == "demo" and args.arch == "vit":
        out["lift"] = attention_lift(model, val, device)
    model.train(training)
    return {k: v.double().cpu() for k, v in out.items()}, val, bank


def end_of_epoch(trainer: Trainer, bank: list, val: list, folder: Path, rate: float) -> None:
    """Append a row to the log; every --eval-every epochs score --eval-images images and write model.pth."""
    a, epoch = trainer.args, trainer.step // trainer.per_epoch
    loss, unreadable = float(trainer.sums[0]) / trainer.per_epoch, int(trainer.sums[1])
    if not math.isfinite(loss):
        raise InputError(f"the loss became {loss} in epoch {epoch}; lower --lr or raise --warmup-epochs.")
    row = {"epoch": epoch, "step": trainer.step, "loss": loss, **trainer.schedule(trainer.step - 1),
           "unreadable": unreadable, "images_per_s": round(rate, 1),
           "knn": "", "top1": "", "lift": ""}
    if epoch % a.eval_every == 0 or epoch == a.epochs:
        def some(samples: list) -> list:
            return [samples[i] for i in torch.randperm(len(samples), generator=generator(0))[:a.eval_images]]
        found, *_ = scores(trainer.model, some(bank), some(val), trainer.n_classes, a, trainer.device)
        row.update({k: 100 * float(v.mean()) for k, v in found.items()})
        if rank_world()[0] == 0:
            save_checkpoint({k: v.cpu().half() if v.is_floating_point() else v.cpu()
                             for k, v in trainer.model.state_dict().items()}, folder / "model.pth")
    trainer.sums = torch.zeros_like(trainer.sums)
    trainer.log.append(row)
    if rank_world()[0] == 0:
        write_csv(trainer.log, folder / "log.csv")
        tqdm.write("  ".join(f"{k} {v:.4g}" for k, v in row.items() if v != ""))


@torch.no_grad()
def save_examples(model: VisionTransformer, samples: list, resize: int, device: torch.device,
                  path: Path) -> None:
    """EXAMPLES images evenly spaced over the samples, (n, 224, 224, 3) uint8, and the last block's CLS
    attention (n, H, h, w), as .npz: what fig_attention is drawn from."""
    views = Views(samples, {0: [eval_view(resize)]})
    images = torch.stack([views[0, i * len(samples) // EXAMPLES][0][0] for i in range(EXAMPLES)])
    maps = cls_attention(model, normalise(images.to(device)), [len(model.blocks) - 1])[:, 0]  # (n, H, h, w)
    save_arrays(path, images=images.permute(0, 2, 3, 1), maps=maps)


def tag_of(args: argparse.Namespace) -> str:
    vit = f"{'dino' if args.method == 'dino' else 'sl'}{args.depth}"
    return f"{'demo_' * (args.data == 'demo')}{vit if args.arch == 'vit' else 'resnet'}_seed{args.seed}"


def model_to_score(args: argparse.Namespace, run: Path) -> tuple[Path, Path | None]:
    """Model and linear head of --eval: those named, else the training's, else (demo) the shipped ones."""
    file, head = args.weights or run / "model.pth", run / "linear_head.pth"
    if args.data == "demo" and not file.exists() and not args.weights:
        file = ROOT / "checkpoints" / f"{tag_of(args).rpartition('_')[0]}.pth"
        head = file.with_name(f"{file.stem}_linear.pth")
        if rank_world()[0] == 0:
            print(f"No training in {run}: scoring checkpoints/{file.name}.")
    return file, args.head or (head if head.exists() and not args.weights else None)


def load_model(args: argparse.Namespace, n_classes: int, path: Path) -> nn.Module:
    """A network of the run's shape with the weights of a file, strictly."""
    model, state = build(args, n_classes, generator(0)), load_checkpoint(path)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as e:
        raise InputError(f"{path} does not fit --method, --arch, --depth, --width or {n_classes} classes "
                         f"({str(e).splitlines()[-1].strip()}).") from e
    return model.eval()


# -------------------------------------------------------------------------------- statistics

def headline(found: dict[str, Tensor], args: argparse.Namespace) -> list[dict]:
    """Means in percent, bootstrap 95 % intervals over images; the official ViT-S/16 where it applies."""
    same, rows = args.data != "demo" and args.arch == "vit" and (args.depth, args.width) == (12, 384), []
    for key, v in found.items():
        v = 100 * (v.mean(1) if v.ndim > 1 else v)  # lift: mean over heads
        rows.append(result_row(SCORES[key], v.numpy(), "points" if key == "lift" else "%",
                               OFFICIAL.get((args.method, key)) if same else None))
    return rows


def evaluate(args: argparse.Namespace, file: Path, bank: list, val: list, classes: list[str], folder: Path,
             device: torch.device, began: float) -> dict:
    """Scores of a model file, as kept (rounded to fp16): per_image.csv, attention.npz, results.json."""
    model = load_model(args, len(classes), file).to(device)
    head_file = folder / "linear_head.pth" if args.train_head else None
    found, seen, seen_bank = scores(model, bank, val, len(classes), args, device, head_file)
    more = {"lift_per_head": (100 * found["lift"].mean(0)).tolist()} if "lift" in found else {}
    if rank_world()[0] == 0:
        columns = {k: (v.mean(1) if v.ndim > 1 else v).tolist() for k, v in found.items()}
        rows = [{"image": image_name(path), "condition": tag_of(args)} for path, _ in seen]
        rows = [row | {k: v[i] for k, v in columns.items()} for i, row in enumerate(rows)]
        write_csv(rows, folder / "per_image.csv")
        if args.arch == "vit":
            save_examples(model, seen, args.eval_resize, device, folder / "attention.npz")
    return write_results(folder, "exp05_train_vits", args.data, headline(found, args), args,
                         time.time() - began, device, files=[path for path, _ in seen], classes=classes,
                         n_train=len(seen_bank), unreadable=sorted(
                             image_name(path) for path, _ in {*val, *bank} - {*seen, *seen_bank}),
                         parameters=sum(p.numel() for p in model.parameters()), **more)


# -------------------------------------------------------------------------------- figures

def draw_training(folder: Path, method: str) -> None:
    """fig_training: loss, and scores during training, against epoch; from log.csv."""
    log, colour = read_csv(folder / "log.csv"), PALETTE["dino" if method == "dino" else "sl"]
    fig, ((left, right),) = figure_grid(1, 2, 4)
    left.plot([r["epoch"] for r in log], [r["loss"] for r in log], "o-", color=colour, markersize=3)
    left.set(xlabel="epoch", ylabel="training loss (nats)")
    for key, style in (("knn", "o-"), ("top1", "s--"), ("lift", "^:")):
        points = [(r["epoch"], r[key]) for r in log if r[key] != ""]
        if points:
            right.plot(*zip(*points), style, color=colour, markersize=3, label=SCORES[key])
    right.set(xlabel="epoch", ylabel="% of images; lift: points")
    save_figure(fig, folder / "fig_training", legends=True)


def draw_attention(folder: Path) -> None:
    """fig_attention: images, and the last block's CLS attention, mean and every head; from attention.npz.
    Brightness is the root of attention, up to each panel's maximum: single peaks would hide the rest."""
    images, maps = read_arrays(folder / "attention.npz").values()
    maps = np.concatenate([maps.mean(1, keepdims=True), maps], 1)  # (n, 1 + H, h, w)
    maps = upsample(torch.from_numpy(maps), images.shape[1:3]).numpy()
    fig, axes = figure_grid(len(images), maps.shape[1] + 1, 1.3, 1.35)
    for row, image, attention in zip(axes, images, maps):
        row[0].imshow(image)
        for ax, a in zip(row[1:], attention):
            ax.imshow(np.sqrt(a), cmap="inferno", vmin=0)
    titles = ["held-out image", "mean of heads", *(f"head {i}" for i in range(maps.shape[1] - 1))]
    for ax, title in zip(axes[0], titles):
        ax.set_title(title, fontsize=8)
    save_figure(fig, folder / "fig_attention", pictures=True)


def draw_all(folder: Path, method: str) -> None:
    """The figures whose data the folder holds."""
    if (folder / "log.csv").exists():
        draw_training(folder, method)
    if (folder / "attention.npz").exists():
        draw_attention(folder)


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments; the table of --help has the defaults of the recipes, by --method and --data."""
    table = [f"{'recipe':46s}dino{'dino, demo':>24s}{'supervised':>24s}{'supervised, demo':>24s}"]
    for k in {**PAPER["dino"], **PAPER["supervised"]}:
        cells = [(DEMO[m] if d else {}).get(k, PAPER[m].get(k, "-")) for m in PAPER for d in (0, 1)]
        table.append(f"{k:26s}" + "".join(f"{c!s:>24s}" for c in cells))
    p = argument_parser(__doc__, "\n".join(table))
    add_common_args(p)
    add = p.add_argument_group("study").add_argument
    add("--method", choices=list(PAPER), default="dino", help="default: dino")
    add("--arch", choices=["vit", "resnet"], default="vit", help="resnet: exp02's demo network")
    add("--depth", type=int, default=12, help="blocks (paper: 4, 8 and 12; default: 12)")
    add("--eval", action="store_true", help="no training: score the run's model.pth, or --weights")
    add("--head", type=Path, help="score this linear head instead of fitting one (weight, bias)")
    add("--train-head", action=argparse.BooleanOptionalAction,
        help="fit a linear head at the end (all training images' features must fit in memory)")
    add("--stop-step", type=int, help="stop after this step with a checkpoint; --resume goes on")
    add("--save-minutes", type=float, default=10, help="between checkpoints; also each epoch (10)")
    known, r = {action.dest for action in p._actions}, p.add_argument_group("recipe (defaults: table below)")
    for name, value in {**PAPER["supervised"], **PAPER["dino"]}.items():
        if name not in known:
            many = {"nargs": len(value), "type": float} if isinstance(value, tuple) else {"type": type(value)}
            r.add_argument("--" + name.replace("_", "-"), help=HELP.get(name), **many)
    first, _ = p.parse_known_args(argv)
    p.set_defaults(**PAPER[first.method] | (DEMO[first.method] if first.data == "demo" else {}))
    args = p.parse_args(argv)
    if args.arch == "resnet" and args.method == "dino":
        raise InputError("--arch resnet is trained supervised only; add --method supervised.")
    return args


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    rank, world = init_distributed(device)
    run = Path(args.out or Path("runs") / "exp05_train_vits" / tag_of(args))
    folder = run / "eval" if args.eval else run  # an evaluation leaves the training's files alone
    if (folder / "last.pt").exists() and not (args.resume or args.plot_only):
        raise InputError(f"{folder} holds a training; add --resume to go on, or choose another --out.")
    fixed = {k: v for k, v in vars(args).items() if k not in FREE}
    start_run(argparse.Namespace(**fixed | {"out": folder}), "exp05_train_vits", tag_of(args))
    if args.plot_only:
        return redraw(folder, lambda results: draw_all(folder, args.method))
    bank, val, classes = image_folders(args.data, args.limit, args.workers)
    if min(len(bank), len(val)) < world:
        raise InputError(f"{len(val)} validation images for {world} processes; start fewer processes.")
    file = folder / "model.pth"
    if args.eval:
        file, args.head = model_to_score(args, run)
    else:
        check(args, len(bank), world, device)
        trainer = Trainer(args, len(classes), len(bank) // args.batch_size, device)
        if (folder / "last.pt").exists():
            with input_errors(folder / "last.pt", "a checkpoint of this training; choose another --out"):
                trainer.load_state_dict(load_checkpoint(folder / "last.pt"))
        train(trainer, Views(bank, transforms(args), args.seed), val, folder)
        if trainer.step < trainer.total:
            if rank == 0:
                print(f"stopped at step {trainer.step} of {trainer.total}; --resume goes on.")
            return
    results = evaluate(args, file, bank, val, classes, folder, device, began)
    if rank == 0:
        draw_all(folder, args.method)
        print_paper_vs_ours(results)


if __name__ == "__main__":
    cli(main)
