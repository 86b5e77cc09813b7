"""Rollout and exp01's training step on one CPU thread, side by side with what a user would write.

    python benchmarks/bench_rollout.py [--rounds 7] [--batch-size 8]

Rollout: ours (a row vector through the blocks) and the product of all N x N matrices, of the same attention.
Training step: ours (teacher's CLS cached; of the last block the CLS token alone) and a loop that runs teacher
and student with all their attentions, multiplies the matrices and interpolates the map; both tune the same
parameters with the same loss. The two take turns; medians of the process's CPU time.
"""
import argparse
import copy
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
from common import VisionTransformer, generator, minmax, rollout
from gaze_tuning import RolloutViT, attention_kl
from exp01_finetune_vit import tunable  # noqa: E402


def matrix_rollout(attn: list) -> torch.Tensor:
    """(B, N - 1): all matrices multiplied."""
    eye = torch.eye(attn[0].shape[-1])
    product = None
    for a in attn:
        a = a.mean(1) + eye
        a = a / a.sum(-1, keepdim=True)
        product = a if product is None else a @ product
    return product[:, 0, 1:]


def take_turns(ours, theirs, rounds: int) -> tuple[float, float]:
    """Median CPU seconds of both after a warm-up."""
    times = []
    for _ in range(rounds + 1):
        times.append([])
        for work in (ours, theirs):
            start = time.process_time()
            work()
            times[-1].append(time.process_time() - start)
    return tuple(statistics.median(t) for t in zip(*times[1:]))


def training_steps(width: int, heads: int, batch: int):
    """(our step, the straightforward step) on random weights and images."""
    vit = VisionTransformer(224, 16, width, 12, heads, num_classes=1000).eval()
    x, human = torch.randn(batch, 3, 224, 224, generator=generator(1)), torch.rand(batch, 224, 224)
    teacher = copy.deepcopy(vit).requires_grad_(False)
    tunable(vit)
    optimiser = torch.optim.AdamW([p for p in vit.parameters() if p.requires_grad], 1e-5)
    with torch.no_grad():
        cached = RolloutViT(teacher)(x)[0]
    net = RolloutViT(vit)

    def update(features, maps, target) -> None:
        loss = (features - target).square().mean() + attention_kl(maps, human).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    def ours() -> None:
        update(*net(x), cached)

    def straightforward() -> None:
        with torch.no_grad():
            target = teacher.encode(teacher.embed(x), full_attn=True).cls[:, -1]
        e = vit.encode(vit.embed(x), full_attn=True)
        grid = matrix_rollout(e.attn).view(batch, 1, 14, 14)
        maps = F.interpolate(grid, (224, 224), mode="bilinear")[:, 0]
        update(e.cls[:, -1], minmax(maps), target)
    return ours, straightforward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds after a warm-up (default 7)")
    parser.add_argument("--batch-size", type=int, default=8, help="images (default 8)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'work':44s}{'ours':>9s}{'theirs':>9s}{'ratio':>7s}   ms/image, n = {args.rounds} rounds")
    for heads in (6, 12):
        attn = [torch.rand(args.batch_size, heads, 197, 197, generator=generator(i)).softmax(-1)
                for i in range(12)]
        a, b = take_turns(lambda: rollout(attn), lambda: matrix_rollout(attn), args.rounds)
        ms = 1e3 / args.batch_size
        print(f"{f'rollout, 12 blocks, {heads} heads, 197 tokens':44s}{a * ms:9.2f}{b * ms:9.2f}{b / a:7.2f}")
    for name, width, heads in (("ViT-S/16", 384, 6), ("ViT-B/16", 768, 12)):
        a, b = take_turns(*training_steps(width, heads, args.batch_size), max(2, args.rounds // 2))
        work = f"training step, {name}, batch {args.batch_size}"
        print(f"{work:44s}{a * ms:9.0f}{b * ms:9.0f}{b / a:7.2f}")


if __name__ == "__main__":
    main()
