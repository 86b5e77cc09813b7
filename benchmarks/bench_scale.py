"""What the scripts cost against the number of images and tokens; and a step of full-size models.

    python benchmarks/bench_scale.py                  # measures, prints, draws docs/scale.png
    python benchmarks/bench_scale.py --device cuda    # the same on a GPU
    python benchmarks/bench_scale.py --full           # costs an image of the full studies (docs/full_runs.md)

Images: the demo command of exp04 from start to end (start-up, figures and tables included) and the line
through the times. Tokens: ViT-S/16, random weights, one image. On the CPU each process has
one thread and times are CPU seconds, which other work on the machine changes little. On GPUs times are
wall-clock.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
import exp01_benchmarks as benchmarks  # noqa: E402
import exp01_finetune_vit as exp01
import exp02_resnet as exp02
import exp04_saccades as exp04
import exp04_saliency
import exp05_gaze_video as exp05
import exp05_train_vits as trainer
from common import VisionTransformer, cls_attention, generator, observer_consistency, pick_device
from data import read_image
from gaze import GazeImage
from results import figure_grid, write_json
from weights import IMAGENET, VIT_BENCHMARK, WEIGHTS

OUT = ROOT / "runs" / "bench_scale"
IMAGES = (25, 50, 100, 200)
GRIDS = (14, 20, 28, 40, 60)  # tokens a side: 196 to 3,600
COLOURS = {"CLS maps": "#084594", "rollout": "#d62728", "evaluation": "#084594"}


# -------------------------------------------------------------------------------- measure

def clock(device: torch.device) -> float:
    """CPU seconds of this process; on a GPU seconds, when it has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def seconds(work, device: torch.device, rounds: int) -> float:
    """Median after a warm-up."""
    times = []
    for _ in range(rounds + 1):
        began = clock(device)
        work()
        times.append(clock(device) - began)
    return float(np.median(times[1:]))


def run(argv: list, env: dict) -> tuple[float, float, float]:
    """(CPU seconds, wall-clock seconds, peak GiB) of a command with its children, the largest of them."""
    began = time.time()
    process = subprocess.Popen([sys.executable, *map(str, argv)], env=env, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(map(str, argv))} failed")
    return used.ru_utime + used.ru_stime, time.time() - began, used.ru_maxrss / 2**20


def over_images(device: torch.device, env: dict) -> list[dict]:
    rows = []
    for n in IMAGES:
        with tempfile.TemporaryDirectory() as folder:
            cpu, wall, memory = run([ROOT / "exp04_saccades.py", "--limit", n, "--workers", 0, "--device",
                                     device.type, "--out", folder], env)
        rows.append(dict(images=n, seconds=cpu if device.type == "cpu" else wall, wall=wall, gib=memory))
        print("images", rows[-1], flush=True)
    return rows


def tokens_worker(what: str, grid: int, device: torch.device, rounds: int) -> dict:
    """Seconds and memory above the loaded model; in a process of its own, because a peak never falls."""
    net = VisionTransformer(pos_rule="size").eval().requires_grad_(False).to(device)
    x = torch.randn(1, 3, 16 * grid, 16 * grid, device=device)
    rollout = exp01.RolloutViT(net, x.shape[-2:])
    work = partial(cls_attention, net, x) if what == "CLS maps" else partial(rollout, x)
    with torch.no_grad():
        if device.type == "cuda":
            before = torch.cuda.memory_allocated()
            took = seconds(work, device, rounds)
            memory = torch.cuda.max_memory_allocated() - before
        else:
            import resource
            peak = partial(resource.getrusage, resource.RUSAGE_SELF)
            cls_attention(net, x[..., :224, :224])  # what the libraries need once
            before = peak().ru_maxrss
            took = seconds(work, device, rounds)
            memory = (peak().ru_maxrss - before) * 1024
    return dict(what=what, tokens=grid**2, seconds=took, mib=memory / 2**20)


def over_tokens(device: torch.device, rounds: int, env: dict) -> list[dict]:
    rows = []
    for what in ("CLS maps", "rollout"):
        for grid in GRIDS:
            with tempfile.TemporaryDirectory() as folder:
                run([__file__, "--worker", what, "--grid", grid, "--device", device.type, "--rounds", rounds,
                     "--to", Path(folder) / "found.json"], env)
                rows.append(json.loads((Path(folder) / "found.json").read_text()))
            print("tokens", rows[-1], flush=True)
    return rows


# -------------------------------------------------------------------------------- full-size models

def photograph(path: Path) -> Path:
    """A smooth coloured JPEG of ImageNet's usual 500x375 px, about as large a file as its photographs."""
    noise = torch.rand(1, 3, 94, 125, generator=generator(0))
    image = torch.nn.functional.interpolate(noise, (375, 500), mode="bicubic").clamp(0, 1)[0]
    Image.fromarray((image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(path, quality=92)
    return path


def observers(seed: int) -> list[tuple]:
    """60 observers of a SALICON image, 123 samples each: the usual 7,400."""
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(0, 224, (2, 123)).astype(np.int16)) for _ in range(60)]


def tuning_work(net, device: torch.device, batch: int = 8):
    """(a training step of exp01 or exp02, alignment of a batch by one model)."""
    images = [GazeImage("", Path(), observers(i)) for i in range(batch)]
    counts = torch.stack([exp01.fixations(images, i)["fixations"] for i in range(batch)])
    x = torch.rand(batch, 3, 224, 224)
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 1e-5)

    def step() -> None:
        features, maps = net(x.to(device))  # (B, D), (B, 224, 224)
        kl = exp01.attention_kl(maps, exp01.human_maps(counts.to(device)))
        loss = features.square().mean() + kl.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    @torch.no_grad()
    def align() -> None:  # without the observers' consistency, which is a part of its own
        seen = dict(image=x, fixations=counts, index=torch.arange(batch), readable=torch.ones(batch))
        exp01.agreement(seen, {"A": net}, [[]] * batch, device)
    return step, align


def full_exp01(path: Path, device: torch.device):
    """(part, function, items of a call, unit) of everything that exp01 and exp03 repeat."""
    vit, people = VisionTransformer(224, 16, 768, 12, 12, num_classes=1000).eval().to(device), observers(0)
    exp01.tunable(vit)
    step, align = tuning_work(exp01.RolloutViT(vit), device)
    x = torch.rand(8, 3, 224, 224, device=device)
    corrupted = benchmarks.PictureViews("imagenet_c", [benchmarks.Picture(path, "", {0}, 0)], VIT_BENCHMARK)
    yield "exp01: training step, ViT-B/16, 8 images", step, 1, "step"
    yield "exp01, exp03: rollout and metrics, ViT-B/16, one model", align, 8, "image"
    yield "exp01: classification, ViT-B/16, one model", torch.no_grad()(lambda: vit(x)), 8, "image"
    yield "exp01: the 15 corruptions of a 500x375 px image (CPU)", lambda: corrupted[0], 1, "image"
    yield ("exp01: agreement of 60 observers (CPU)",
           lambda: observer_consistency(people, (224, 224), 15.), 1, "image")


def full_exp02(device: torch.device):
    resnet, x = torchvision.models.resnet50().eval().to(device), torch.rand(8, 3, 224, 224, device=device)
    exp01.tunable(resnet, exp02.layer4_state)
    step, align = tuning_work(exp02.GradCamResNet(resnet), device)
    yield "exp02: training step, ResNet-50, 8 images", step, 1, "step"
    yield "exp02: Grad-CAM and metrics, ResNet-50, one model", align, 8, "image"
    yield "exp02: classification, ResNet-50, one model", torch.no_grad()(lambda: resnet(x)), 8, "image"


def full_exp04(path: Path, device: torch.device, batch: int):
    """exp04's main part, sweep and saliency (DINO, GBVS, random; without UNISAL and ResNet) of a batch."""
    net = VisionTransformer(pos_rule="offset").eval().requires_grad_(False).to(device)
    head, view = torch.nn.Linear(4 * 384, 1000).to(device), WEIGHTS["dino_vits16"].preprocess
    common = dict(model=net, head=head, labels=torch.zeros(batch, dtype=torch.long), block=11, border="clip",
                  seed=0)
    small, wide = (dict(image=torch.rand(batch, 3, *size), index=torch.arange(batch),
                        readable=torch.ones(batch, dtype=torch.bool)) for size in ((224, 224), (288, 384)))
    measure = partial(exp04.measure, small, foveas=exp04.FOVEAS, **common)
    saliency = partial(exp04_saliency.measure, wide, view=view, fovea=3, unisal=None, resnet=None, **common)
    for name, work in (("main part, fovea 3 and 5", partial(measure, sweep=False)),
                       ("--sweep and main part", partial(measure, sweep=True)), ("--saliency", saliency)):
        yield f"exp04: {name}, ViT-S/16", torch.no_grad()(work), batch, "image"
    yield "exp04: decode a 500x375 JPEG, resize, crop (CPU)", lambda: view(read_image(path)), 1, "image"


def full_exp05(path: Path, device: torch.device, batch: int):
    """A video frame of N2010's size; a training step of each method, from pixels that are there."""
    video = torch.randint(0, 256, (1, 480, 720, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in IMAGENET)
    net = VisionTransformer(pos_rule="offset").eval().to(device)
    model = exp05.Model("dino12", "dino12.0", net, mean, std)

    def heads() -> None:
        exp05.head_gaze(exp05.attend(video.permute(0, 3, 1, 2).to(device), model, None), 16)
    yield "exp05: a 720x480 frame, ViT-S/16, one model", heads, 1, "frame"
    everything = partial(exp05.measure, dict(image=video), [model], None, "float32", device)
    yield "exp05: a 720x480 frame, the same and GBVS", torch.no_grad()(everything), 1, "frame"
    for method in ("dino", "supervised"):
        args = trainer.parse(["--data", "IMAGENET", "--method", method, "--dtype",
                              "float32" if device.type == "cpu" else "bfloat16"])
        job = trainer.Training(args, 1000, 10**4, device)  # so many steps an epoch: nothing is saved
        sizes = [224] * 2 + [96] * 8 if method == "dino" else [224]
        views = [torch.randint(0, 256, (batch, 3, s, s), dtype=torch.uint8) for s in sizes]
        yield (f"exp05_train_vits: {method} step, 12 blocks", partial(
            trainer.train, job, [(views, torch.zeros(batch, dtype=torch.long))], path.parent), batch, "image")


def full(device: torch.device, rounds: int, path: Path, batch: int) -> list[dict]:
    """Seconds and, on a GPU, peak memory of every part of the full studies; random weights."""
    rows, gpu = [], device.type == "cuda"
    for parts in (full_exp01(path, device), full_exp02(device), full_exp04(path, device, batch),
                  full_exp05(path, device, 4 * batch)):
        for part, work, items, per in parts:
            if gpu:
                torch.cuda.reset_peak_memory_stats()
            s = seconds(work, device, rounds) / items
            gib = torch.cuda.max_memory_allocated() / 2**30 if gpu else None
            rows.append(dict(part=part, seconds=s, per=per, gib=gib, n=rounds))
            print(f"{part:58s}{s:10.3f} s / {per}" + (f"{gib:8.1f} GiB" if gpu else ""), flush=True)
    return rows


# SALICON: 10,000 images, a tenth held out; 20 epochs of batches of 8; a validation every 200 steps.
STEPS = 20 * (9_000 // 8)
CHECKS = 1_000 * (1 + STEPS // 200)
FRAME = "exp05: a 720x480 frame, "
PLAN = (  # work of the full studies: processes that can share it, and {start of a part's name: how many}
    ("exp01: features of the 10,000 training images", 16, {"exp01, exp03: rollout": 10_000}),
    ("exp01: tuning one model, with validations, at most", 8, {"exp01: training": STEPS,
                                                               "exp01, exp03: rollout": CHECKS}),
    ("exp01: alignment, 5,000 images, 3 models", 16, {"exp01, exp03: rollout": 15_000}),
    ("exp01: agreement of observers, 5,000 images", 16, {"exp01: agreement": 5_000}),
    ("exp01: ImageNet, 50,000 images, 3 models", 16, {"exp01: classification": 150_000}),
    ("exp01: ImageNet-C, 5,000 x 15, 3 models", 16, {"exp01: classification": 225_000,
                                                     "exp01: the 15": 5_000}),
    ("exp01: ObjectNet, 18,574 images, 3 models", 16, {"exp01: classification": 3 * 18_574}),
    ("exp02: features of the 10,000 training images", 16, {"exp02: Grad-CAM": 10_000}),
    ("exp02: tuning, with validations, at most", 8, {"exp02: training": STEPS, "exp02: Grad-CAM": CHECKS}),
    ("exp02: alignment, 5,000 images, 2 models", 16, {"exp02: Grad-CAM": 10_000}),
    ("exp02: ImageNet, 50,000 images, 2 models", 16, {"exp02: classification": 100_000}),
    ("exp03: 5,000 images, 3 models", 16, {"exp01, exp03: rollout": 15_000}),
    ("exp04: 50,000 images, 2 policies, 2 foveas", 16, {"exp04: main": 50_000, "exp04: decode": 50_000}),
    ("exp04: --sweep, 50,000 images", 16, {"exp04: --sweep": 50_000, "exp04: decode": 50_000}),
    ("exp04: --saliency, 10,000 images", 16, {"exp04: --saliency": 10_000, "exp04: decode": 10_000}),
    ("exp05: N2010, 2,327 frames, 2 models and GBVS", 16, {FRAME + "V": 2_327, FRAME + "the": 2_327}),
    ("exp05: CW2019, 144,000 frames, at most", 16, {FRAME + "V": 144_000, FRAME + "the": 144_000}),
    ("exp05_train_vits: one DINO model, 300 epochs", 16, {"exp05_train_vits: dino": 300 * 1_281_167}),
    ("exp05_train_vits: one supervised model", 16, {"exp05_train_vits: sup": 300 * 1_281_167}),
)


def extrapolate(rows: list[dict], gpu: bool) -> None:
    """The table of docs/full_runs.md: measured seconds x number, in hours. Several: a division, an ideal."""
    unit, most = ("GPU", 8) if gpu else ("core", 16)
    print(f"\n| work | s, measured x number | h, one {unit} | h, {most} {unit}s |\n|---|---|---|---|")
    for work, share, counts in PLAN:
        cost = {start: next(r["seconds"] for r in rows if r["part"].startswith(start)) for start in counts}
        hours = sum(n * cost[start] for start, n in counts.items()) / 3600
        terms = " + ".join(f"{cost[start]:.3g} x {n:,}" for start, n in counts.items())
        one, many = (f"{h:,.0f}" if h >= 100 else f"{h:.2g}" for h in (hours, hours / min(most, share)))
        print(f"| {work} | {terms} | {one} | {many}{' (8 processes)' * (share < most)} |")


# -------------------------------------------------------------------------------- figure

def draw(found: dict) -> None:
    """docs/scale.png: seconds against images, memory against tokens."""
    fig, ((a, b),) = figure_grid(1, 2, 3.8, 3.3)
    x, y = (np.array([r[k] for r in found["images"]]) for k in ("images", "seconds"))
    slope, fixed = np.polyfit(x, y, 1)
    a.plot(x, y, "o", color=COLOURS["evaluation"])
    a.plot([0, x.max()], [fixed, fixed + slope * x.max()], "-", color=COLOURS["evaluation"], linewidth=1)
    memory = [r["gib"] for r in found["images"]]
    a.set(xlabel="images", ylabel=found["time"], ylim=(0, None), xlim=(0, None))
    a.set_title(f"exp04, demo: {fixed:.0f} s + {slope:.2f} s an image\npeak memory {min(memory):.2f} to "
                f"{max(memory):.2f} GiB", fontsize=10)
    for what, marker in (("CLS maps", "o"), ("rollout", "s")):
        rows = [r for r in found["tokens"] if r["what"] == what]
        b.loglog([r["tokens"] for r in rows], [r["mib"] for r in rows], f"{marker}-", color=COLOURS[what],
                 label=f"{what}: {rows[0]['seconds']:.2g} to {rows[-1]['seconds']:.2g} s")
    b.set(xlabel="tokens (ViT-S/16, one image)", ylabel="memory above the model (MiB)")
    b.set_title("attention of all blocks and heads", fontsize=10)
    ticks = sorted({r["tokens"] for r in found["tokens"]})
    b.set_xticks(ticks, [f"{t:,}" for t in ticks])
    b.minorticks_off()
    b.legend(frameon=False, fontsize=8)
    fig.supxlabel(f"built-in demo world; {found['machine']}, one thread, torch {found['torch']}", fontsize=7)
    fig.savefig(ROOT / "docs" / "scale.png", dpi=150)


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", help="cuda or cpu (default: cpu)", default="cpu")
    p.add_argument("--rounds", type=int, default=3, help="timed calls after a warm-up (%(default)s)")
    p.add_argument("--batch", type=int, default=4, help="images a call with --full (%(default)s)")
    p.add_argument("--full", action="store_true", help="full-size models, an item of each part")
    for name in ("--worker", "--grid", "--to"):
        p.add_argument(name, help=argparse.SUPPRESS)
    return p.parse_args(argv)


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    device, env = pick_device(args.device), {**os.environ, "OMP_NUM_THREADS": "1"}
    if args.worker:
        return write_json(tokens_worker(args.worker, int(args.grid), device, args.rounds), args.to)
    OUT.mkdir(parents=True, exist_ok=True)
    gpu = device.type == "cuda"
    about = dict(machine=f"{torch.cuda.get_device_name()}" if gpu else f"{platform.machine()} CPU",
                 torch=torch.__version__, time="wall-clock seconds" if gpu else "CPU seconds")
    if args.full:
        with tempfile.TemporaryDirectory() as folder:
            rows = full(device, args.rounds, photograph(Path(folder) / "photo.jpg"), args.batch)
        write_json(about | dict(rows=rows), OUT / "full.json")
        return extrapolate(rows, gpu)
    found = about | dict(images=over_images(device, env), tokens=over_tokens(device, args.rounds, env))
    write_json(found, OUT / "scale.json")
    draw(found)


if __name__ == "__main__":
    main()
