"""CLS maps and saccades of a ViT-S/16, one thread: ours, and Hugging Face's ViTModel on the same weights.

    python benchmarks/bench_saccades.py [--rounds 5] [--batch 16]
    python benchmarks/bench_saccades.py --device cuda --batch 256          # images/s in bfloat16, no peer

Ours and theirs take turns in one process; medians of its CPU time, so that a busy machine counts less. Memory
is the growth of the peak resident set in a forked process. Without transformers: "not installed".
"""
import argparse
import multiprocessing
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import InputError, VisionTransformer, cls_attention, generator
from exp04_saccades import (Study, classify, fixation_sequence, forward_visible, image_name,  # noqa: E402
                            look, parse, set_up)

try:
    from transformers import ViTConfig, ViTModel
except ImportError:
    ViTModel = None

LARGE = 480, 720  # px: 30x45 = 1,350 tokens


def vit_small() -> VisionTransformer:
    net = VisionTransformer().eval().requires_grad_(False)
    net.init_weights(generator(0))
    return net


def hugging_face(net: VisionTransformer):
    """ViTModel of transformers 5, eager attention, with the weights of net."""
    config = ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536, layer_norm_eps=1e-6,
                       attn_implementation="eager")
    peer, state = ViTModel(config, add_pooling_layer=False).eval().requires_grad_(False), net.state_dict()
    names = {"embeddings.cls_token": "cls_token", "embeddings.position_embeddings": "pos_embed",
             "embeddings.patch_embeddings.projection": "patch_embed.proj", "layers.": "blocks.",
             "layernorm_before": "norm1", "layernorm_after": "norm2", "layernorm.": "norm.",
             "attention.o_proj": "attn.proj"}
    for key, value in peer.state_dict().items():
        ours = key
        for theirs, name in names.items():
            ours = ours.replace(theirs, name)
        part = next((i for i, p in enumerate("qkv") if f"attention.{p}_proj" in ours), None)
        if part is not None:
            value.copy_(state[ours.replace(f"attention.{'qkv'[part]}_proj", "attn.qkv")].chunk(3)[part])
        else:
            value.copy_(state[ours])
    return peer


def medians(work: dict, rounds: int) -> dict[str, float]:
    """CPU seconds of each function, in turns, after one warm-up."""
    times = {name: [] for name in work}
    for i in range(rounds + 1):
        for name, function in work.items():
            start = time.process_time()
            function()
            if i:
                times[name].append(time.process_time() - start)
    return {name: float(np.median(t)) for name, t in times.items()}


def peak_growth(function) -> float:
    """MiB by which the peak resident set of a forked process grows while it runs the function."""
    def child(pipe):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        function()
        pipe.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
    process.start()
    found = ours.recv()
    process.join()
    return found


def line(work: str, ours: float, other: float | None, name: str, n: int, unit: str = "s/image") -> None:
    cells = f"{other:10.4f}{other / ours:8.2f}" if other is not None else f"{'not installed':>18s}"
    print(f"{work:44s}{ours:10.4f}{cells}{n:4d}  {unit}, other: {name}", flush=True)


def cls_maps(net, peer, rounds: int, batch: int) -> None:
    x, large = torch.randn(batch, 3, 224, 224), torch.randn(1, 3, *LARGE)
    t = medians({"maps": lambda: cls_attention(net, x), "plain": lambda: net(x)}, rounds)
    line("CLS maps of all blocks, 196 tokens", t["maps"] / batch, t["plain"] / batch, "fused forward alone",
         rounds)
    work = {"maps": lambda: cls_attention(net, large), "plain": lambda: net(large)}
    if peer:
        work["peer"] = lambda: peer(large, output_attentions=True, interpolate_pos_encoding=True).attentions
    t = medians(work, rounds)
    line("CLS maps of all blocks, 1350 tokens", t["maps"], t["plain"], "fused forward alone", rounds)
    line("CLS maps of all blocks, 1350 tokens", t["maps"], t.get("peer"), "HF eager attentions", rounds)
    grown = {name: peak_growth(function) for name, function in work.items()}
    line("peak memory of that", grown["maps"], grown["plain"], "fused forward alone", 1, "MiB")
    line("peak memory of that", grown["maps"], grown.get("peer"), "HF eager attentions", 1, "MiB")
    kept = [sum(a.nbytes for a in work[k]()) / 2**20 for k in ("maps", "peer") if k in work]
    line("memory of the maps kept", kept[0], kept[1] if peer else None, "HF eager attentions", 1, "MiB")


def saccades(net, peer, rounds: int, batch: int) -> None:
    x = torch.randn(batch, 3, 224, 224)
    maps = look(net, x, [11])[1][:, 0]
    for fovea in (3, 5):
        visible = fixation_sequence(maps, fovea, 10)[1]  # (B, 10, 14, 14)
        masks = torch.cat([torch.ones(batch, 10, 1, dtype=torch.bool), visible.flatten(2)], 2).long()
        work = {"ours": lambda: forward_visible(net, x, visible), "full": lambda: net(x)}
        if peer:  # of two images: its time does not depend on the batch
            work["peer"] = lambda: [peer(x[:2], attention_mask=masks[:2, s]) for s in range(10)]
        t = medians(work, rounds)
        bound = t["full"] / 197 * (visible.sum().item() / batch + 10)  # tokens with CLS at full speed
        what = f"10 saccades, fovea {fovea}, {visible.sum((2, 3)).float().mean():.1f} tokens"
        line(what, t["ours"] / batch, bound / batch, "token-count bound", rounds)
        line(what, t["ours"] / batch, 10 * t["full"] / batch, "ten full passes of ours", rounds)
        line(what, t["ours"] / batch, t["peer"] / 2 if peer else None, "ten masked passes of HF", rounds)


def bfloat16_agreement(n: int) -> None:
    """Predictions and certainties of the demo model in bfloat16 against float32."""
    args = parse(["--limit", str(n), "--fovea", "3", "5", "--device", "cpu", "--workers", "0"])
    study, *_ = set_up(args, Path("."), torch.device("cpu"))
    images, index = study.pixels([image_name(path) for path, _ in study.items])
    rows = [sum(study.main(images, index), [])]
    rough = Study(study.model, study.view, study.head, study.items, study.foveas, study.block, "clip", 0,
                  study.device, torch.bfloat16)
    rows.append(sum(rough.main(images, index), []))
    pred, certainty = (np.array([[[r[f"{k}_{s}"] for s in range(1, 11)] for r in part] for part in rows])
                       for k in ("pred", "certainty"))
    full = np.mean([a["pred_full"] == b["pred_full"] for a, b in zip(*rows)])
    print(f"bfloat16 against float32, demo, {n} images: same class {100 * full:.1f} % (full image), "
          f"{100 * (pred[0] == pred[1]).mean():.1f} % (saccades), certainty differs by "
          f"{np.abs(certainty[0] - certainty[1]).mean():.4f} on average")


@torch.no_grad()
def accelerator(device: str, batch: int, rounds: int) -> None:
    """{attention, random} x 10 saccades in bfloat16: images/s, and seconds for 50,000."""
    net = vit_small().to(device, torch.bfloat16)
    head = torch.nn.Linear(4 * 384, 1000).to(device)
    x = torch.randn(batch, 3, 224, 224, device=device, dtype=torch.bfloat16)
    noise = torch.rand(batch, 14, 14, device=device)

    def run() -> None:
        maps = look(net, x, [11])[1][:, 0].float()
        visible = torch.stack([fixation_sequence(m, 3, 10)[1] for m in (maps, noise)], 1)
        classify(head, forward_visible(net, x, visible))[0].cpu()
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    rate = batch / np.median(times)
    print(f"{torch.cuda.get_device_name(device) if 'cuda' in device else device}: {rate:.0f} images/s, "
          f"{50000 / rate:.0f} s for 50,000 (target 60), batch {batch}, n = {rounds}")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds after a warm-up (default 5)")
    parser.add_argument("--batch", type=int, default=16, help="images per batch (default 16)")
    parser.add_argument("--device", default="cpu", help="cuda: throughput in bfloat16 only (default cpu)")
    args = parser.parse_args()
    if args.device != "cpu":
        return accelerator(args.device, args.batch, args.rounds)
    torch.set_num_threads(1)
    net = vit_small()
    peer = hugging_face(net) if ViTModel else None
    if peer:
        x = torch.randn(2, 3, 224, 224)
        worst = (peer(x).last_hidden_state[:, 0] - net(x)).abs().max().item()
        assert worst < 1e-4, f"the peer's weights differ: {worst}"
    print(f"{'':44s}{'ours':>10s}{'other':>10s}{'ratio':>8s}{'n':>4s}")
    cls_maps(net, peer, args.rounds, args.batch)
    saccades(net, peer, args.rounds, args.batch)
    try:
        bfloat16_agreement(48)
    except (InputError, ImportError) as e:
        print(f"bfloat16 against float32 not run: {e}")


if __name__ == "__main__":
    main()
