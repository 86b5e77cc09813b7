"""Rollout and exp01's training step beside what a user would write.

    python benchmarks/bench_rollout.py [--quick]

Rollout: ours (a row vector through the blocks) and the product of all N x N matrices, of the same attention.
Training step: ours (teacher's CLS cached; of the last block the CLS token alone) and a loop that runs teacher
and student with all their attentions, multiplies the matrices and interpolates the map; both tune the same
parameters with the same loss.
"""
import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from bench import Row, main, take_turns

from common import VisionTransformer, generator, minmax, rollout
from exp01_finetune_vit import RolloutViT, attention_kl, tunable


def matrix_rollout(attn: list) -> torch.Tensor:
    """(B, N - 1): all matrices multiplied."""
    eye = torch.eye(attn[0].shape[-1])
    product = None
    for a in attn:
        a = a.mean(1) + eye
        a = a / a.sum(-1, keepdim=True)
        product = a if product is None else a @ product
    return product[:, 0, 1:]


def training_steps(width: int, heads: int, depth: int, batch: int):
    """(our step, the straightforward step) on random weights and images."""
    vit = VisionTransformer(224, 16, width, depth, heads, num_classes=1000).eval()
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


def rows(quick: bool) -> Iterator[Row]:
    rounds, depth, batch = (1, 2, 1) if quick else (7, 12, 8)
    ms, n = 1e3 / batch, f"{rounds} x {batch}"
    for heads, target in ((6, 3), (12, 2)):
        attn = [torch.rand(batch, heads, 197, 197, generator=generator(i)).softmax(-1) for i in range(depth)]
        t = take_turns({"ours": lambda: rollout(attn), "theirs": lambda: matrix_rollout(attn)}, rounds)
        yield Row(f"rollout, 12 blocks, {heads} heads, 197 tokens", "full matrix product", "ms/image",
                  t["ours"] * ms, t["theirs"] * ms, n, target)
    for name, width, heads in (("ViT-S/16", 384, 6), ("ViT-B/16", 768, 12)):
        with torch.enable_grad():
            ours, theirs = training_steps(width, heads, depth, batch)
            t = take_turns({"ours": ours, "theirs": theirs}, max(1, rounds // 3))
        yield Row(f"exp01 training step, {name}, batch of 8", "plain loop: teacher, eager attentions",
                  "ms/image", t["ours"] * ms, t["theirs"] * ms, f"{max(1, rounds // 3)} x {batch}", 1.5)


if __name__ == "__main__":
    main(rows, __doc__)
