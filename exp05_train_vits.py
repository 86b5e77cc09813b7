"""exp05, training: the Vision Transformers whose heads exp05_gaze_video.py compares with human gaze.

Yamamoto, Akahoshi & Kitazawa (2025), "Emergence of human-like attention and distinct head clusters in
self-supervised vision transformers": DINO (Caron et al. 2021, arXiv 2104.14294; the teacher is kept) and
supervised as in DeiT (Touvron et al. 2021, arXiv 2012.12877) x 4, 8, 12 blocks x six seeds on ImageNet-1k.

Commands
    laptop, demo world    python exp05_train_vits.py --method dino --depth 4
    one GPU               python exp05_train_vits.py --method dino --depth 12 --data IMAGENET --seed 1
    eight GPUs            torchrun --nproc_per_node 8 exp05_train_vits.py --data IMAGENET --workers 10
    supervised            the same with --method supervised
    after a kill          the same command with --resume
    evaluate              the same command with --eval

At its end exp05_evaluate_vits.py scores the model. To compare with (the paper states no accuracy): official
DINO ViT-S/16 (800 epochs) k-NN 74.5 %, linear head 77.0 %; DeiT-S 79.8 %. Ours on the demo, 12 blocks: DINO
84.3 % and 92.4 %, supervised 98.7 %. The recipes are the dicts PAPER and DEMO below, the loop is `train`.
Departures: bfloat16; where the paper is silent (learning rate, batch, warm-up), the official repositories.
"""
from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterable
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.transforms import v2 as T
from tqdm import tqdm

import exp05_evaluate_vits as scores
from common import (InputError, VisionTransformer, barrier, generator, init_distributed, pick_device,
                    rank_world, training_order)
from data import Images, demo_folder, load_imagefolder, passed_over
from results import (argument_parser, at_least, begin, cli, evaluate, finish, load_checkpoint, only_draw,
                     parse_args, redraw, save_checkpoint, write_csv)
from weights import IMAGENET

# -------------------------------------------------------------------------------- constants

# Shapes: B images of a batch, V views of an image, D width, K outputs of DINO's head.

# The recipes, to be edited here; a run's args.json says what it used. lr: the peak. Crops: px, shares of the
# picture. blur: probability in the first, the second large, the small crops. final_size: of the last epochs.
PAPER = {
    "dino": dict(  # main_dino.py of facebookresearch/dino; 300 epochs, as the paper's file names say
        width=384, heads=6, drop_path=.1, pos_rule="offset",
        out_dim=65536, head_hidden=2048, bottleneck=256,
        epochs=300, batch_size=512, dtype="bfloat16", warmup_epochs=10, lr=5e-4,  # of 256 images
        min_lr=1e-6, weight_decay=.04, weight_decay_end=.4, clip_grad=3., freeze_last_layer=1,  # epochs
        momentum=.996, teacher_temp=.04, locals=8, local_size=96, local_scale=(.05, .4),
        global_size=224, global_scale=(.4, 1.), final_size=224, final_epochs=0,
        jitter=(.4, .4, .2, .1), grayscale=.2, blur=(1., .1, .5), solarise=.2,
        eval_resize=256, train_head=False),
    "supervised": dict(  # main.py of facebookresearch/deit
        width=384, heads=6, drop_path=.1, pos_rule="size",
        epochs=300, batch_size=1024, dtype="bfloat16", warmup_epochs=5, lr=5e-4,  # of 512 images
        min_lr=1e-5, weight_decay=.05, weight_decay_end=.05, clip_grad=0.,  # 0: off
        smoothing=.1, mixup=.8, cutmix=1., erasing=.25, randaugment=9,  # strength, 0 to 10
        global_size=224, global_scale=(.08, 1.), final_size=224, final_epochs=0,
        eval_resize=256, train_head=False)}
# The demo world, one CPU core: narrow, small crops (few tokens), little change of colour (a cue to classes).
DEMO = {
    "dino": PAPER["dino"] | dict(
        width=96, drop_path=0., pos_rule="size", out_dim=256, head_hidden=256, bottleneck=64,
        epochs=4, batch_size=32, dtype="float32", warmup_epochs=1, lr=1.2e-2, min_lr=1e-5,
        weight_decay_end=.1, freeze_last_layer=0, momentum=.98, global_size=112, locals=4, local_size=48,
        jitter=(.3, .3, .3, .02), grayscale=.05, blur=(.1, .1, 0.), solarise=0.,
        eval_resize=224, train_head=True),
    "supervised": PAPER["supervised"] | dict(
        width=96, drop_path=0., epochs=4, batch_size=32, dtype="float32", warmup_epochs=1, lr=1.6e-2,
        mixup=0., randaugment=0, global_size=112, global_scale=(.25, 1.),
        final_size=160, final_epochs=1, eval_resize=224, train_head=True)}
DEMO_IMAGES = 15600, 1200  # training and validation pictures of the demo world
STUDENT_TEMP, CENTRE_MOMENTUM = .1, .9  # DINO, defaults of its DINOLoss
BICUBIC = T.InterpolationMode.BICUBIC


# -------------------------------------------------------------------------------- data

def load_data(data: str, limit: int | None, workers: int) -> tuple[list, list, list[str]]:
    """(training samples, validation samples, class names); a sample is (path, class). limit: a random N of
    each. InputError: no class folders in train/ or val/ there, or a class in val/ that train/ lacks."""
    root = Path(data)
    if data == "demo":
        n_train, n_val = (min(n, limit or n) for n in DEMO_IMAGES)
        world = demo_folder("imagenet", "training", n_train=n_train, n_val=n_val, workers=max(workers, 1))
        root = world / "imagenet"
    train, classes = load_imagefolder(root / "train")
    val, _ = load_imagefolder(root / "val", classes)

    def some(samples: list) -> list:
        kept = torch.randperm(len(samples), generator=generator(0))[:limit]
        return [samples[i] for i in kept.sort().values.tolist()]
    return some(train), some(val), classes


def pil_blur(image: Image.Image) -> Image.Image:
    """Gaussian blur with a radius uniform in [.1, 2] px, as in DINO."""
    return image.filter(ImageFilter.GaussianBlur(float(torch.empty(()).uniform_(.1, 2.))))


def crops(recipe: argparse.Namespace, epoch: int) -> list[T.Compose]:
    """One transform a view of an image: two large crops, then small ones (DINO), or one crop (supervised)."""
    r = recipe
    size = r.final_size if epoch >= r.epochs - r.final_epochs else r.global_size

    def crop(px: int, scale: tuple, *steps) -> T.Compose:
        cut = T.RandomResizedCrop(px, scale, interpolation=BICUBIC)
        return T.Compose([cut, T.RandomHorizontalFlip(), *steps])

    def dino_crop(px: int, scale: tuple, blur: float, solarise: float) -> T.Compose:
        return crop(px, scale, T.RandomApply([T.ColorJitter(*r.jitter)], .8), T.RandomGrayscale(r.grayscale),
                    T.RandomApply([pil_blur], blur), T.RandomSolarize(128, solarise), T.PILToTensor())

    if r.method == "dino":
        small = dino_crop(r.local_size * size // r.global_size, r.local_scale, r.blur[2], 0.)
        return [dino_crop(size, r.global_scale, r.blur[0], 0.),
                dino_crop(size, r.global_scale, r.blur[1], r.solarise), *[small] * r.locals]
    changes = []
    if r.randaugment:  # torchvision's strength goes to 30
        changes = 2 * [T.RandomApply([T.RandAugment(1, 3 * r.randaugment, 31, BICUBIC)], .5)]
    erase = T.RandomErasing(r.erasing, value=[round(255 * mean) for mean in IMAGENET[0]])
    return [crop(size, r.global_scale, *changes, T.PILToTensor(), erase)]


class Views:
    """Training views: item (epoch, index) -> (uint8 (3, s, s) each, label), a function of the seed and the
    item: torchvision draws from torch's global generator, which is seeded and put back."""

    def __init__(self, samples: list, recipe: argparse.Namespace):
        self.images = Images([path for path, _ in samples], T.Identity())
        self.labels, self.recipe = [label for _, label in samples], recipe

    def __getitem__(self, key: tuple[int, int]) -> tuple[list[Tensor], int]:
        epoch, index = key
        n = len(self.labels)
        for _ in range(n):
            item = self.images[index]
            if item["readable"]:
                break
            index = (index + 1) % n  # the next one takes its place; results.json names it
        else:
            raise InputError(f"none of the {n} training images can be read; check the files.")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(generator(self.recipe.seed, 1, epoch, index).initial_seed())
            return [crop(item["image"]) for crop in crops(self.recipe, epoch)], self.labels[index]


# -------------------------------------------------------------------------------- model

class Dino(nn.Module):
    """Backbone and projection head: V views (B, 3, s, s), two large first -> (V, B, K), cosines with
    prototypes. The head is an MLP of three layers; its output and the prototypes have norm 1."""

    def __init__(self, backbone: VisionTransformer, hidden: int, bottleneck: int, out_dim: int,
                 gen: torch.Generator):
        super().__init__()
        self.backbone = backbone
        self.mlp = nn.Sequential(nn.Linear(backbone.embed_dim, hidden), nn.GELU(),
                                 nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Parameter(torch.empty(out_dim, bottleneck))
        for layer in self.mlp[::2]:
            nn.init.trunc_normal_(layer.weight, std=.02, generator=gen)
            nn.init.zeros_(layer.bias)
        bound = bottleneck ** -.5  # torch's default for a linear layer
        nn.init.uniform_(self.prototypes, -bound, bound, generator=gen)
        self.register_buffer("centre", torch.zeros(out_dim))  # the teacher's: running mean of its outputs

    def forward(self, views: list[Tensor]) -> Tensor:
        x = self.backbone(torch.cat(views[:2]))  # (2 B, D), the large ones
        if len(views) > 2:
            x = torch.cat([x, self.backbone(torch.cat(views[2:]))])  # (V B, D)
        x = F.normalize(self.mlp(x).float(), dim=-1)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 is too coarse
            x = F.linear(x, F.normalize(self.prototypes, dim=-1))  # (V B, K)
        return x.unflatten(0, (len(views), -1))


def build(recipe: argparse.Namespace, n_classes: int, gen: torch.Generator) -> nn.Module:
    """The network that is trained and kept (without DINO's head), initialised from `gen` alone."""
    if recipe.arch == "resnet":  # one narrow block a stage: 3.5 M parameters
        net = ResNet(Bottleneck, [1, 1, 1, 1], n_classes, width_per_group=16)
        for m in net.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu", generator=gen)
        nn.init.zeros_(net.fc.bias)  # torch draws it from its global generator
        return net
    net = VisionTransformer(embed_dim=recipe.width, depth=recipe.depth, num_heads=recipe.heads,
                            num_classes=0 if recipe.method == "dino" else n_classes,
                            drop_path=recipe.drop_path, pos_rule=recipe.pos_rule)
    net.init_weights(gen)
    return net


def load_model(args: argparse.Namespace, n_classes: int, run: Path) -> tuple[nn.Module, dict, dict]:
    """What is scored: model, linear head (empty if there is none), and their files. They are --weights, else
    the training's in `run`, else, on the demo, the shipped ones. InputError: weights that do not fit."""
    file, head_file = args.weights or run / "model.pth", run / "linear_head.pth"
    if args.data == "demo" and not args.weights and not file.exists():
        kind = "dino" if args.method == "dino" else "sl"
        name = "demo_resnet" if args.arch == "resnet" else f"demo_{kind}{args.depth}"
        file = Path(__file__).with_name("checkpoints") / f"{name}.pth"
        head_file = file.with_name(f"{name}_linear.pth")
        if rank_world()[0] == 0:
            print(f"No training in {run}: scoring checkpoints/{name}.pth.")
    model, head, files = build(args, n_classes, generator(0)), {}, {"model": file}
    try:
        model.load_state_dict(load_checkpoint(file))
    except RuntimeError as e:
        raise InputError(f"{file} does not fit --method, --arch, --depth, --width or {n_classes} classes "
                         f"({str(e).splitlines()[-1].strip()}).") from e
    if head_file.exists() and not args.weights:
        head = load_checkpoint(head_file)
        files["head"] = head_file
    return model, head, files


# -------------------------------------------------------------------------------- training

def dino_loss(student: Tensor, teacher: Tensor, centre: Tensor, teacher_temp: float) -> Tensor:
    """Mean cross-entropy over pairs of a teacher's view and another student view (Caron et al., eq. 1-3).
    student (V, B, K), teacher (2, B, K, no gradient): outputs of the heads, large views first; centre K."""
    q = ((teacher.float() - centre) / teacher_temp).softmax(-1).detach()
    log_p = (student.float() / STUDENT_TEMP).log_softmax(-1)
    pairs = [-(q[i] * log_p[j]).sum(-1).mean() for i in range(len(q)) for j in range(len(log_p)) if i != j]
    return sum(pairs) / len(pairs)


def mix(images: Tensor, target: Tensor, mixup: float, cutmix: float,
        rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mixup or CutMix (probability 1/2 each) of neighbours 2i and 2i + 1, one ratio a batch.
    images (B, 3, img_h, img_w), B even; target (B, classes); mixup, cutmix: alpha of the Beta law."""
    cut = rng.random() < .5
    alpha = cutmix if cut else mixup
    ratio = rng.beta(alpha, alpha)
    other, other_target = (v.unflatten(0, (-1, 2)).flip(1).flatten(0, 1) for v in (images, target))
    if cut:
        img_h, img_w = images.shape[-2:]
        half_h, half_w = (int(s * math.sqrt(1 - ratio)) // 2 for s in (img_h, img_w))
        row, col = rng.integers(img_h), rng.integers(img_w)
        top, bottom = max(row - half_h, 0), min(row + half_h, img_h)
        left, right = max(col - half_w, 0), min(col + half_w, img_w)
        images = images.clone()
        images[..., top:bottom, left:right] = other[..., top:bottom, left:right]
        ratio = 1 - (bottom - top) * (right - left) / (img_h * img_w)  # the border may have cut the box
    else:
        images = ratio * images + (1 - ratio) * other
    return images, ratio * target + (1 - ratio) * other_target


def cosine(step: int, total: int, start: float, end: float, warmup: int = 0) -> float:
    """Value at `step`: linear from 0 to start in `warmup` steps, then half a cosine to end at total."""
    if step < warmup:
        return start * step / max(warmup - 1, 1)
    return end + .5 * (start - end) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def schedule(recipe: argparse.Namespace, step: int, per_epoch: int) -> dict[str, float]:
    """lr, weight decay, and for DINO the teacher's momentum."""
    r, total = recipe, recipe.epochs * per_epoch
    peak = r.lr * r.batch_size / (256 if r.method == "dino" else 512)
    now = {"lr": cosine(step, total, peak, r.min_lr, r.warmup_epochs * per_epoch),
           "wd": cosine(step, total, r.weight_decay, r.weight_decay_end)}
    if r.method == "dino":
        now["momentum"] = cosine(step, total, r.momentum, 1.)
    return now


def parameter_groups(net: nn.Module, decay_embeddings: bool) -> list[dict]:
    """AdamW groups: with decay, and without (1-D; position and CLS embeddings unless decay_embeddings)."""
    decayed, free = [], []
    for name, p in net.named_parameters():
        embedding = name.endswith(("pos_embed", "cls_token")) and not decay_embeddings
        group = free if p.ndim <= 1 or embedding else decayed
        group.append(p)
    return [{"params": decayed}, {"params": free, "weight_decay": 0.}]


@torch.no_grad()
def clip_each(parameters: Iterable[Tensor], longest: float) -> None:
    """Gradients of a norm above `longest` are shortened to it, each by its own norm, not by their common one.
    Equals nn.utils.clip_grad_norm_(p, longest) for every p, in an eighth of the launches."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, list((longest / (norms + 1e-6)).clamp(max=1)))


@torch.no_grad()
def ema(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum teacher + (1 - momentum) student, for all parameters at once."""
    kept = list(teacher.parameters())
    torch._foreach_mul_(kept, momentum)
    torch._foreach_add_(kept, torch._foreach_mul(list(student.parameters()), 1 - momentum))


def process_mean(x: Tensor) -> Tensor:
    """Mean of a tensor over the processes."""
    if dist.is_initialized():
        dist.all_reduce(x)
        x = x / dist.get_world_size()
    return x


class Training:
    """All that a training step changes. A step is a function of this state, the seed and the data."""

    def __init__(self, recipe: argparse.Namespace, n_classes: int, per_epoch: int, device: torch.device):
        r = recipe
        self.recipe, self.n_classes, self.per_epoch, self.device = r, n_classes, per_epoch, device
        self.step = 0
        self.total = r.epochs * per_epoch
        self.stop = min(r.stop_step or self.total, self.total)
        self.log: list[dict] = []  # a row an epoch
        self.notes: list[str] = []  # for the table's reader
        self.loss = torch.zeros((), device=device)  # sum over this epoch
        gen = generator(r.seed, 2)
        self.model = self.student = build(r, n_classes, gen)  # model: what is kept
        self.teacher = nn.Identity()
        if r.method == "dino":
            self.student = Dino(self.student, r.head_hidden, r.bottleneck, r.out_dim, gen)
            self.teacher = copy.deepcopy(self.student).requires_grad_(False).to(device).eval()  # no drop path
            self.model = self.teacher.backbone
        self.net = self.student.to(device).train()
        self.mean_sd = scores.mean_sd(device)
        groups = parameter_groups(self.student, decay_embeddings=r.method == "dino")
        self.optimiser = torch.optim.AdamW(groups, lr=0., weight_decay=r.weight_decay)
        if dist.is_initialized():
            self.net = nn.parallel.DistributedDataParallel(self.student)

    def require_finite(self, folder: Path) -> None:
        """InputError, so that nothing is saved, where the loss, weights or AdamW's moments are not finite."""
        moments = [v for state in self.optimiser.state.values() for v in state.values()]
        if not all(v.isfinite().all() for v in (self.loss, *self.student.state_dict().values(), *moments)):
            raise InputError(f"loss or weights are not finite after step {self.step}; the same command with "
                             f"--out {folder.parent} --resume and a lower --lr goes on from what was saved.")

    def save(self, folder: Path) -> None:
        """model.pth (fp16: the teacher's backbone, or the supervised network), log.csv, and last.pt."""
        kept = {name: v.half() if v.is_floating_point() else v for name, v in self.model.state_dict().items()}
        save_checkpoint({name: v.cpu() for name, v in kept.items()}, folder / "model.pth")  # first process
        write_csv(self.log, folder / "log.csv")
        parts = {name: getattr(self, name).state_dict() for name in ("student", "teacher", "optimiser")}
        save_checkpoint(parts | dict(step=self.step, log=self.log, notes=self.notes, loss=self.loss,
                                     lr=self.recipe.lr), folder / "last.pt")

    def load(self, file: Path) -> None:
        """Go on from a last.pt."""
        state = load_checkpoint(file)
        for name in ("student", "teacher", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.log, self.notes = state["step"], state["log"], state["notes"]
        self.loss = state["loss"].to(self.device)
        if state["lr"] != self.recipe.lr:
            self.notes.append(f"--lr was {state['lr']} up to step {self.step}, then {self.recipe.lr}")


def train(t: Training, batches: Iterable, folder: Path) -> None:
    """Steps t.step to t.stop, on this process's parts of the batches: uint8 views, labels (B,). The state is
    saved after each epoch, every save_minutes, and at the stop; a training that goes on from it ends in the
    same weights, bit for bit."""
    r, rank, saved = t.recipe, rank_world()[0], time.time()
    for views, labels in tqdm(batches, "steps", t.total, initial=t.step, disable=rank > 0, mininterval=2):
        now = schedule(r, t.step, t.per_epoch)
        for group, decay in zip(t.optimiser.param_groups, (now["wd"], 0.)):  # see parameter_groups
            group.update(lr=now["lr"], weight_decay=decay)
        torch.manual_seed(generator(r.seed, 4, t.step, rank).initial_seed())  # drop path draws from it
        views = [v.to(t.device, non_blocking=True) for v in views]
        views = [scores.normalise(v, t.mean_sd) for v in views]  # V x (B, 3, s, s)

        with torch.autocast(t.device.type, torch.bfloat16, enabled=r.dtype == "bfloat16"):
            if r.method == "dino":
                with torch.no_grad():
                    teacher = t.teacher(views[:2])  # (2, B, K)
                loss = dino_loss(t.net(views), teacher, t.teacher.centre, r.teacher_temp)
            else:
                target = F.one_hot(labels, t.n_classes) * (1 - r.smoothing) + r.smoothing / t.n_classes
                target = target.to(t.device, non_blocking=True)  # (B, classes); one_hot on a GPU waits for it
                if r.mixup:
                    rng = np.random.default_rng([r.seed, 3, t.step])  # the same in all processes
                    views[0], target = mix(views[0], target, r.mixup, r.cutmix, rng)
                loss = F.cross_entropy(t.net(views[0]).float(), target)
        t.optimiser.zero_grad()
        loss.backward()
        if r.clip_grad:
            clip_each(t.student.parameters(), r.clip_grad)
        if r.method == "dino" and t.step < r.freeze_last_layer * t.per_epoch:
            t.student.prototypes.grad = None  # AdamW leaves it alone, decay included
        t.optimiser.step()
        if r.method == "dino":
            ema(t.teacher, t.student, now["momentum"])
            mean = process_mean(teacher.float().mean((0, 1)))  # (K,)
            t.teacher.centre = CENTRE_MOMENTUM * t.teacher.centre + (1 - CENTRE_MOMENTUM) * mean

        t.step += 1
        t.loss = t.loss + process_mean(loss.detach())
        whole = t.step % t.per_epoch == 0
        if whole or t.step == t.stop or time.time() - saved > 60 * r.save_minutes:
            t.require_finite(folder)
            if whole:
                mean_loss = float(t.loss) / t.per_epoch
                t.log.append({"epoch": t.step // t.per_epoch, "step": t.step, "loss": mean_loss, **now})
                t.loss = torch.zeros_like(t.loss)
            t.save(folder)
            saved = time.time()


def trained(recipe: argparse.Namespace, train_set: list, n_classes: int, items: list[str],
            device: torch.device) -> tuple[Training, Path]:
    """The training up to its end or its stop, from last.pt where there is one; the folder of its files."""
    world, r = rank_world()[1], recipe
    if r.batch_size % world or r.batch_size // world % 2 or r.batch_size > len(train_set):
        raise InputError(f"--batch-size {r.batch_size}, {len(train_set)} training images, {world} processes: "
                         "a batch needs an even number in every process, an epoch a whole batch; change one.")
    if world > 1 and r.arch == "resnet":
        raise InputError("--arch resnet needs the whole batch for its batch norm; use one process.")
    training = Training(r, n_classes, len(train_set) // r.batch_size, device)
    folder = begin(r, items, may_change=["lr"])  # a lower one is the remedy for a loss that is not finite
    if (folder / "last.pt").exists():
        training.load(folder / "last.pt")
    order = training_order(len(train_set), r.batch_size, r.seed, training.step, training.stop)
    train(training, DataLoader(Views(train_set, r), batch_sampler=order, num_workers=r.workers,
                               pin_memory=device.type == "cuda"), folder)
    if not (folder / "model.pth").exists():  # the run was killed after its files had been handed over
        training.save(folder)
    barrier()  # the first process has written model.pth
    return training, folder


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments, and beside them all values of the recipe that they choose."""
    def default(name: str) -> str:
        return (f"dino {PAPER['dino'][name]}, supervised {PAPER['supervised'][name]}; "
                f"demo: {DEMO['dino'][name]}, {DEMO['supervised'][name]}")
    parser = argument_parser(__file__, __doc__, default("batch_size"), dtype=default("dtype"),
                             limit="a random N of the training and of the validation images")
    parser.set_defaults(batch_size=None, dtype=None)  # the recipe's, below
    add = parser.add_argument_group("study").add_argument
    add("--method", choices=list(PAPER), default="dino", help="whose recipe (%(default)s)")
    add("--arch", choices=["vit", "resnet"], default="vit", help="resnet: exp02's demo network (%(default)s)")
    add("--depth", type=at_least(1), default=12, help="blocks; paper: 4, 8 and 12 (%(default)s)")
    add("--width", type=at_least(1), help=f"channels ({default('width')})")
    add("--epochs", type=at_least(1), help=f"of training ({default('epochs')})")
    add("--lr", type=at_least(0, float), help=f"peak, of 256 or 512 images ({default('lr')})")
    add("--warmup-epochs", type=at_least(0), metavar="N", help=f"of the lr ({default('warmup_epochs')})")
    add("--drop-path", type=at_least(0, float), help=f"of the last block ({default('drop_path')})")
    add("--eval", action="store_true", help="score this command's training, or --weights, into <out>/eval")
    add("--train-head", action=argparse.BooleanOptionalAction,
        help=f"fit a linear head ({default('train_head')})")
    add("--save-minutes", type=at_least(0, float), metavar="N", default=10, help="interval (%(default)s)")
    add("--stop-step", type=at_least(1), help="stop after this step; --resume goes on")
    args = parse_args(parser, argv)
    for name, value in (DEMO if args.data == "demo" else PAPER)[args.method].items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    if args.arch == "resnet" and args.method == "dino":
        raise InputError("--arch resnet is trained supervised only; add --method supervised.")
    if args.weights and not args.eval:
        raise InputError("--weights names a model to score; add --eval.")
    if args.drop_path >= 1:
        raise InputError(f"--drop-path {args.drop_path}: expected a probability below 1.")
    return args


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    rank, _ = init_distributed(device)
    run = args.out
    if args.eval:
        args.out = run / "eval"  # an evaluation leaves the training's files alone
    if only_draw(args):
        return redraw(args.out, scores.draw)
    train_set, val_set, classes = load_data(args.data, args.limit, args.workers)
    items = [path for path, _ in train_set + val_set]

    # Train the network and keep it, or take one that is there.
    if args.eval:
        model, head, files = load_model(args, len(classes), run)
        folder, notes = begin(args, items, **files), []
    else:
        training, folder = trained(args, train_set, len(classes), items, device)
        if training.step < training.total:
            if rank == 0:
                print(f"stopped at step {training.step} of {training.total}; --resume goes on.")
            return
        model, head, _ = load_model(args, len(classes), folder)
        notes = training.notes
    model.to(device).eval()

    # Classify the held-out images by their neighbours and by heads; on the demo, see where attention lands.
    found, names, bad = scores.score(model, train_set, val_set, len(classes), args, device, folder, head)
    arrays = found | scores.examples(model, val_set, names, args, device)
    columns = {"image": names, "condition": [args.method] * len(names)} | found
    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    for name in ("model.pth", "linear_head.pth", "log.csv"):
        if rank == 0 and (folder / name).exists():
            (folder / name).replace(args.out / name)
    finish(args, "exp05_train_vits", arrays, rows, evaluate(scores.CLAIMS, found), scores.draw, began, device,
           unreadable=bad, left_out=passed_over(args.data, train=True), notes=notes,
           model=f"{args.method} {args.arch}, {args.depth} blocks")


if __name__ == "__main__":
    cli(main)
