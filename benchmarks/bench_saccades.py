"""CLS maps and saccades of a ViT-S/16: ours, and Hugging Face's ViTModel on the same weights.

    python benchmarks/bench_saccades.py [--quick]

Weights and images are random: neither time nor memory depends on them. Batches of 32 images, exp04's default;
saccades with equally many visible tokens run together, so smaller batches are slower. On a GPU: {attention,
random} x 10 saccades of 50,000 images in bfloat16, images already in memory.
"""
from collections.abc import Iterator

import torch
from bench import NO_GPU, NO_PEER, Row, main, optional, peak_mib, take_turns

from common import VisionTransformer, cls_attention, generator
from exp04_saccades import classify, fixation_sequence, forward_visible, look

LARGE = 480, 720  # px: 30x45 = 1,350 tokens


def vit_small(**options) -> VisionTransformer:
    net = VisionTransformer(**options).eval().requires_grad_(False)
    net.init_weights(generator(0))
    return net


def hugging_face(net: VisionTransformer):
    """ViTModel of transformers 5, eager attention, with the weights of net; None without transformers."""
    hf = optional("transformers")
    if hf is None:
        return None
    config = hf.ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536, layer_norm_eps=1e-6,
                          attn_implementation="eager")
    peer, state = hf.ViTModel(config, add_pooling_layer=False).eval().requires_grad_(False), net.state_dict()
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
    x = torch.randn(2, 3, 224, 224, generator=generator(1))
    worst = (peer(x).last_hidden_state[:, 0] - net(x)).abs().max().item()
    assert worst < 1e-4, f"the peer's weights differ: {worst}"
    return peer


def cls_maps(net, peer, rounds: int, batch: int, large: tuple[int, int]) -> Iterator[Row]:
    x, n = torch.randn(batch, 3, 224, 224), f"{rounds} x {batch}"
    t = take_turns({"maps": lambda: cls_attention(net, x), "plain": lambda: net(x)}, rounds)
    ms = 1e3 / batch
    yield Row("CLS maps of all blocks and heads, 196 tokens", "plain fused forward", "ms/image",
              t["maps"] * ms, t["plain"] * ms, n, .95)

    x, work, n = torch.randn(1, 3, *large), "CLS maps of all blocks and heads, 1,350 tokens", f"{rounds} x 1"
    calls = {"maps": lambda: cls_attention(net, x), "plain": lambda: net(x)}
    if peer:
        calls["peer"] = lambda: peer(x, output_attentions=True, interpolate_pos_encoding=True).attentions
    t, mib = take_turns(calls, rounds), {name: peak_mib(call) for name, call in calls.items()}
    ms, note = {name: 1e3 * s for name, s in t.items()}, "" if peer else NO_PEER
    yield Row(work, "plain fused forward", "ms/image", ms["maps"], ms["plain"], n, .95)
    yield Row(work, "Hugging Face, eager attentions", "ms/image", ms["maps"], ms.get("peer"), n, 3, note)
    yield Row("the plain fused forward, 1,350 tokens: the bound of the row above",
              "Hugging Face, eager attentions", "ms/image", ms["plain"], ms.get("peer"), n, None, note)
    yield Row(f"memory of {work}", "Hugging Face, eager attentions", "MiB", mib["maps"], mib.get("peer"), "1",
              20, note)


def saccades(net, peer, rounds: int, batch: int) -> Iterator[Row]:
    x = torch.randn(batch, 3, 224, 224)
    maps, ms, n = look(net, x, [11])[1][:, 0], 1e3 / batch, f"{rounds} x {batch}"
    for fovea in (3, 5):
        visible = fixation_sequence(maps, fovea, 10)[1]  # (B, 10, 14, 14)
        masks = torch.cat([torch.ones(batch, 10, 1, dtype=torch.bool), visible.flatten(2)], 2).long()
        calls = {"ours": lambda: forward_visible(net, x, visible), "full": lambda: net(x)}
        if peer:  # of two images: its time does not depend on the batch
            calls["peer"] = lambda: [peer(x[:2], attention_mask=masks[:2, s]) for s in range(10)]
        t, work = take_turns(calls, rounds), f"10 saccades of an image, fovea {fovea}"
        bound = t["full"] / 197 * (visible.sum().item() / batch + 10)  # tokens with CLS at full speed
        yield Row(work, "token-count bound", "ms/image", t["ours"] * ms, bound * ms, n, .85)
        yield Row(work, "ten full passes of ours", "ms/image", t["ours"] * ms, 10 * t["full"] * ms, n)
        yield Row(work, "ten masked passes of Hugging Face", "ms/image", t["ours"] * ms,
                  t["peer"] / 2 * 1e3 if peer else None, n, None, "" if peer else NO_PEER)


def on_gpu(rounds: int, batch: int, n_images: int = 50_000) -> Iterator[Row]:
    work, target = "50,000 images x {attention, random} x 10 saccades, bfloat16, GPU", "the target"
    if not torch.cuda.is_available():
        yield Row(work, target, "s", None, 60., "", 1, NO_GPU)
        return
    net, head = vit_small().to("cuda", torch.bfloat16), torch.nn.Linear(4 * 384, 1000).to("cuda")
    x = torch.randn(batch, 3, 224, 224, device="cuda", dtype=torch.bfloat16)
    noise = torch.rand(batch, 14, 14, device="cuda")

    def run() -> None:
        maps = look(net, x, [11])[1][:, 0].float()
        visible = torch.stack([fixation_sequence(m, 3, 10)[1] for m in (maps, noise)], 1)
        classify(head, forward_visible(net, x, visible))[0].cpu()
    t = take_turns({"ours": run}, rounds, gpu=["ours"])
    yield Row(work, target, "s", t["ours"] * n_images / batch, 60., f"{rounds} x {batch}", 1)


def rows(quick: bool) -> Iterator[Row]:
    rounds, batch, large = (1, 1, (64, 96)) if quick else (3, 32, LARGE)
    net = vit_small()
    peer = hugging_face(net)
    yield from cls_maps(net, peer, rounds, batch, large)
    yield from saccades(net, peer, rounds, batch)
    yield from on_gpu(rounds, batch if quick else 256)


if __name__ == "__main__":
    main(rows, __doc__)
