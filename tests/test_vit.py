"""VisionTransformer, its attention maps, rollout and up-sampling against independent computations."""
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.bench import peak_mib
from common import (InputError, VisionTransformer, cls_attention, fixation_counts, minmax, nss, pos_embed_for,
                    resize_matrix, rollout, upsample)
from data import read_image
from gaze import load_osie
from weights import IMAGENET, Preprocess, load_vit, vit_from_state

SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def sine(shape, phase):
    """A deterministic tensor: sin(0.7 index + phase)."""
    n = torch.Size(shape).numel()
    return torch.sin(torch.arange(n, dtype=torch.float64) * 0.7 + phase).view(shape).float()


def sine_state(state):
    """Weights 0.3 sin(0.7 index + i) for the i-th key in sorted order; 1 + that for gains."""
    is_gain = lambda name: name.endswith("gamma") or "norm" in name and name.endswith("weight")
    return {name: 0.3 * sine(p.shape, i) + is_gain(name) for i, (name, p) in enumerate(sorted(state.items()))}


def random_vit(seed=0, **kw):
    """A small model in which every parameter is random, so that no two of them can be mixed up unseen."""
    defaults = dict(img_size=(32, 48), embed_dim=32, depth=3, num_heads=2, num_classes=5)
    model = VisionTransformer(**defaults | kw)
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=gen) * 0.3 + ("norm" in name and name.endswith("weight")))
    return model.eval()


def images(n=2, img_h=32, img_w=48, seed=1):
    return torch.randn(n, 3, img_h, img_w, generator=torch.Generator().manual_seed(seed))


def plain_forward(model, x, visible=None):
    """The Transformer written out with masked keys: CLS vector after the norm, full matrices per block."""
    s, D, H = dict(model.named_parameters()), model.embed_dim, model.num_heads
    norm = lambda t, key: F.layer_norm(t, (D,), s[key + ".weight"], s[key + ".bias"], model.norm.eps)
    linear = lambda t, key: t @ s[key + ".weight"].T + s[key + ".bias"]
    t = F.conv2d(x, s["patch_embed.proj.weight"], s["patch_embed.proj.bias"], stride=model.patch_size)
    t = t.flatten(2).transpose(1, 2)
    t = torch.cat([s["cls_token"].expand(len(t), -1, -1), t], 1) + s["pos_embed"]  # (B, N, D)
    mask = torch.zeros(t.shape[:2])
    if visible is not None:
        mask[:, 1:][~visible] = -torch.inf
    matrices = []
    for i in range(len(model.blocks)):
        q, k, v = linear(norm(t, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv").chunk(3, -1)
        q, k, v = (z.unflatten(-1, (H, D // H)).transpose(1, 2) for z in (q, k, v))  # (B, H, N, D/H)
        a = (q @ k.transpose(-2, -1) / (D // H) ** 0.5 + mask[:, None, None]).softmax(-1)  # (B, H, N, N)
        t = t + linear((a @ v).transpose(1, 2).flatten(2), f"blocks.{i}.attn.proj")
        hidden = linear(norm(t, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")
        t = t + linear(0.5 * hidden * (1 + torch.erf(hidden / 2 ** 0.5)), f"blocks.{i}.mlp.fc2")
        matrices.append(a)
    return norm(t, "norm")[:, 0], matrices


# Outputs of timm 1.0.31 (its VisionTransformer, fused attention off) with the weights of `sine_state` and the
# input sine((1, 3, img_h, img_w), 0.5): logits; softmax rows of the CLS query in the last block, per head.
TIMM_PLAIN = dict(  # img_size (32, 48), patch 16, dim 32, depth 2, heads 2, 5 classes
    logits=[1.10413, -0.582806, 0.50781, 0.614199, -0.70381],
    cls=[[0.714694, 0.00046, 0.177782, 0.000346, 0.097505, 0.001245, 0.007967],
         [0.726533, 0.000387, 0.172214, 0.000292, 0.092387, 0.001085, 0.007102]])
TIMM_REGISTERS = dict(  # img_size 48, init_values 1, reg_tokens 2, no_embed_class; input 32 x 80
    logits=[-0.373272, -0.7165, 0.689321, -1.406515, 1.57822],
    cls=[[0.010602, 0.012484, 0.02588, 0.015824, 0.028834, 0.232631, 0.032322, 0.014847, 0.336815, 0.059453,
          0.016949, 0.03125, 0.182109],
         [0.011644, 0.01475, 0.027159, 0.01654, 0.030065, 0.232528, 0.034121, 0.016101, 0.329996, 0.062119,
          0.018414, 0.032661, 0.173902]])


def test_logits_and_attention_equal_timm():
    model = VisionTransformer(img_size=(32, 48), embed_dim=32, depth=2, num_heads=2, num_classes=5).eval()
    model.load_state_dict(sine_state(model.state_dict()))
    x = sine((1, 3, 32, 48), 0.5)
    with torch.no_grad():
        logits, rows = model(x, return_cls_attn=True)
    assert torch.allclose(logits[0], torch.tensor(TIMM_PLAIN["logits"]), atol=5e-6)
    assert torch.allclose(rows[0, -1], torch.tensor(TIMM_PLAIN["cls"])[:, 1:], atol=2e-6)


def test_registers_layerscale_and_resampled_positions_equal_timm():
    template = VisionTransformer(img_size=48, embed_dim=32, depth=2, num_heads=2, num_classes=5,
                                 layerscale=1.0, registers=2).state_dict()
    template["reg_token"] = template.pop("register_tokens")
    template["pos_embed"] = template["pos_embed"][:, 1:]  # timm keeps no position for CLS here
    model = vit_from_state(sine_state(template), num_heads=2)
    assert model.pos_rule == "antialias" and model.n_prefix == 3
    x = sine((1, 3, 32, 80), 0.5)
    with torch.no_grad():
        logits, rows = model(x, return_cls_attn=True)
    assert torch.allclose(logits[0], torch.tensor(TIMM_REGISTERS["logits"]), atol=5e-6)
    assert torch.allclose(rows[0, -1], torch.tensor(TIMM_REGISTERS["cls"])[:, 3:], atol=2e-6)


@torch.no_grad()
def test_model_equals_attention_written_out():
    model, x = random_vit(num_classes=0), images()
    cls, matrices = plain_forward(model, x)
    assert torch.allclose(model(x), cls, atol=1e-5)
    e = model.encode(model.embed(x), cls_attn=[0, 2])
    rows = [matrices[0][:, :, 0], matrices[2][:, :, 0]]
    assert torch.allclose(torch.stack(e.cls_attn), torch.stack(rows), atol=1e-6)
    full = model.encode(model.embed(x), full_attn=True)
    assert torch.allclose(torch.stack(full.attn), torch.stack(matrices), atol=1e-6)
    assert torch.allclose(full.tokens, e.tokens, atol=1e-5)


@torch.no_grad()
def test_gathered_tokens_equal_masked_attention():
    model, x = random_vit(num_classes=0), images()
    keep = torch.tensor([[0, 4], [5, 1]])
    visible = torch.zeros(2, 6, dtype=torch.bool).scatter(1, keep, True)
    cls, matrices = plain_forward(model, x, visible)
    out, rows = model(x, keep=keep, return_cls_attn=True)
    assert torch.allclose(out, cls, atol=1e-5)
    masked = matrices[-1][:, :, 0, 1:].gather(-1, keep[:, None].expand(-1, 2, -1))
    assert torch.allclose(rows[:, -1], masked, atol=1e-6)
    assert not torch.allclose(out, model(x), atol=1e-3)


@torch.no_grad()
def test_order_of_the_kept_tokens_does_not_matter():
    model, x = random_vit(), images(1)
    orders = torch.tensor([[3, 0, 5]]), torch.tensor([[5, 3, 0]])
    assert torch.allclose(model(x, keep=orders[0]), model(x, keep=orders[1]), atol=1e-5)


def test_kept_patches_may_be_of_numpy_and_wrong_ones_are_told_in_a_sentence():
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2).eval()
    x = torch.rand(2, 3, 32, 32)
    kept = np.array([[0, 3], [15, 2]], np.int32)
    assert torch.equal(model(x, kept), model(x, torch.from_numpy(kept).long()))
    assert torch.equal(model(x.numpy()), model(x))
    for wrong, said in ((np.array([0, 3]), r"keep of shape \(2,\), torch.int64: expected .* of shape \(2, K\)"),
                        (kept[:1], r"keep of shape \(1, 2\)"), (kept / 1, "torch.float64: expected whole"),
                        (kept > 1, "torch.bool"), (kept + 1, "keep holds 1 to 16: expected .* 0 to 15"),
                        (kept - 1, "keep holds -1 to 14")):
        with pytest.raises(InputError, match=said):
            model(x, wrong)
    with pytest.raises(InputError, match="images of torch.uint8: expected floating-point"):
        cls_attention(model, (255 * x).byte())


@torch.no_grad()
@pytest.mark.parametrize("registers", [0, 3])
def test_cls_attention_has_the_patch_grid_and_sums_below_one(registers):
    model, x = random_vit(registers=registers), images(2, 48, 80)
    maps = cls_attention(model, x)
    assert maps.shape == (2, 3, 2, 3, 5)
    full = torch.stack(model.encode(model.embed(x), full_attn=True).attn, 1)  # (B, L, H, N, N)
    assert torch.allclose(maps.flatten(-2), full[..., 0, 1 + registers:], atol=1e-6)
    assert (maps.sum((-2, -1)) < 1).all()


@torch.no_grad()
def test_cls_attention_gives_blocks_in_the_order_asked():
    model, x = random_vit(), images()
    every = cls_attention(model, x)
    assert torch.equal(cls_attention(model, x, [2, 0, 2]), every[:, [2, 0, 2]])
    for blocks in ([], [3], [-1], [1.0], "1"):
        with pytest.raises(InputError, match="blocks 0 to 2"):
            cls_attention(model, x, blocks)


def test_sides_that_are_no_multiple_of_the_patch_are_refused():
    with pytest.raises(InputError, match="40, 48.*patch size 16"):
        random_vit()(images(1, 40, 48))


def full_rollout(attn):
    """Rollout by the whole matrix product, in float64."""
    product = torch.eye(attn[0].shape[-1], dtype=torch.float64)
    for a in attn:
        a = a.double().mean(1) + torch.eye(a.shape[-1])
        product = a / a.sum(-1, keepdim=True) @ product
    return product[:, 0]


def random_attention(L=4, B=2, H=3, N=7):
    return list(torch.randn(L, B, H, N, N, generator=torch.Generator().manual_seed(3)).mul(2).softmax(-1))


def test_rollout_equals_full_matrix_product():
    attn = random_attention()
    assert torch.allclose(rollout(attn).double(), full_rollout(attn)[:, 1:], atol=1e-6)
    assert torch.equal(rollout(torch.stack(attn)), rollout(attn))
    assert torch.equal(rollout(attn, n_prefix=3), rollout(attn)[:, 2:])


def test_rollout_of_reversed_blocks_is_another_map():
    attn = random_attention()
    assert (rollout(attn[::-1]) - rollout(attn)).abs().max() > 0.01


def test_rollout_row_sums_to_one():
    assert torch.allclose(rollout(random_attention(), n_prefix=0).sum(-1), torch.ones(2))


def test_rollout_has_exact_gradients():
    attn = [a.double()[:1].requires_grad_() for a in random_attention(3, 1, 2, 4)]
    assert torch.autograd.gradcheck(lambda *a: rollout(a), attn)


@pytest.mark.parametrize("size", [(224, 224), (9, 40), (5, 7)])
def test_upsample_equals_interpolate(size):
    maps = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    assert torch.allclose(upsample(maps, size), expected, atol=1e-6)


@pytest.mark.parametrize("rule,how", [("size", {}), ("antialias", {"antialias": True})])
@pytest.mark.parametrize("size", [(3, 9), (10, 6), (5, 14)])
def test_resampled_positions_equal_interpolate(rule, how, size):
    pos = torch.randn(1, 35, 4, generator=torch.Generator().manual_seed(0))
    image = pos.view(1, 5, 7, 4).permute(0, 3, 1, 2)
    expected = F.interpolate(image, size=size, mode="bicubic", **how).permute(0, 2, 3, 1).reshape(1, -1, 4)
    assert torch.allclose(pos_embed_for(pos, (5, 7), size, rule), expected, atol=1e-5)


def test_offset_rule_equals_scaled_interpolate():
    pos = torch.randn(1, 35, 4, generator=torch.Generator().manual_seed(0))
    image = pos.view(1, 5, 7, 4).permute(0, 3, 1, 2)
    expected = F.interpolate(image, scale_factor=(6.1 / 5, 11.1 / 7), mode="bicubic")  # DINO: (h + 0.1) / h0
    expected = expected.permute(0, 2, 3, 1).reshape(1, -1, 4)
    assert torch.allclose(pos_embed_for(pos, (5, 7), (6, 11), "offset"), expected, atol=1e-5)
    assert (pos_embed_for(pos, (5, 7), (6, 11), "size") - expected).abs().max() > 0.01


@pytest.mark.real
def test_offset_rule_equals_official_dino_code():
    path = SHARED / "reference/dino_pos_embed.npz"
    if not path.exists():
        pytest.skip(f"{path} not there")
    ref = {k: torch.from_numpy(v) for k, v in np.load(path).items()}
    for key, size in (("r224x384_pos", (14, 24)), ("s96_pos", (6, 6)), ("s480_pos", (30, 30))):
        ours = pos_embed_for(ref["pos_embed"][:, 1:], (14, 14), size, "offset")
        assert (ours - ref[key][:, 1:]).abs().max() < 1e-5, key


def test_resize_matrix_rows_sum_to_one():
    for mode, antialias in (("bilinear", False), ("bicubic", False), ("bicubic", True)):
        assert torch.allclose(resize_matrix(14, 37, mode, None, antialias).sum(1), torch.ones(37), atol=1e-5)


def test_minmax_of_a_constant_map_is_zero():
    maps = torch.stack([torch.full((3, 4), 5.0), torch.arange(12.0).view(3, 4)])
    assert torch.equal(minmax(maps)[0], torch.zeros(3, 4))
    assert minmax(maps)[1].min() == 0 and minmax(maps)[1].max() == 1


def test_attention_weights_of_vit_b_16_are_a_third_of_all():
    # 28,348,416 of 86,567,656 = 32.7 %: q, k, v and output projections with biases of all 12 blocks
    model = VisionTransformer(embed_dim=768, num_heads=12, num_classes=1000)
    assert sum(p.numel() for p in model.parameters()) == 86_567_656
    assert sum(p.numel() for n, p in model.named_parameters() if ".attn." in n) == 28_348_416


def test_drop_path_leaves_evaluation_alone_and_keeps_the_mean():
    model, x = random_vit(drop_path=0.5, num_classes=0), images(1)
    assert torch.equal(model(x), model(x))
    block = model.blocks[-1].train()
    torch.manual_seed(0)
    kept = block.residual(torch.zeros(4000, 1, 1), torch.ones(4000, 1, 1))
    assert set(kept.flatten().tolist()) == {0.0, 2.0} and abs(kept.mean() - 1) < 0.1


# timm 1.0.31 with `numpy_state` weights and image: 5 logits; last block, CLS to token 100, per head.
TIMM_WHOLE = [
    ({}, [0.289043, -0.056091, -0.23002, 0.099942, -0.47767],
     [0.0042656, 0.0043615, 0.0021701, 0.0093571, 0.0031353, 0.0042484]),
    ({"embed_dim": 768, "num_heads": 12}, [-0.77747, -0.327832, -1.853693, 1.358582, 0.592602],
     [0.00087835, 0.0023434, 0.0012837, 0.0039342, 0.0040056, 0.003233, 0.0055091, 0.00044271, 0.014779,
      0.0016534, 0.0033831, 0.0037204]),
    ({"patch_size": 14, "layerscale": 1.}, [-0.888841, -1.066006, 0.483209, -0.475599, -1.74254],
     [0.0031437, 0.0026419, 0.0067318, 0.001289, 0.0017929, 0.0057376])]


def numpy_state(state):
    """Weights .04 N(0, 1), seed = position of the key in sorted order; 1 + that for gains."""
    is_gain = lambda name: name.endswith("gamma") or "norm" in name and name.endswith("weight")
    return {name: 0.04 * torch.from_numpy(np.random.default_rng(i).standard_normal(p.shape)).float()
            + is_gain(name) for i, (name, p) in enumerate(sorted(state.items()))}


@pytest.mark.parametrize("how, logits, to_token_100", TIMM_WHOLE, ids=["ViT-S/16", "ViT-B/16", "DINOv2-like"])
@torch.no_grad()
def test_whole_size_models_equal_stored_outputs_of_timm(how, logits, to_token_100):
    model = VisionTransformer(**{"num_classes": 5, **how}).eval()
    model.load_state_dict(numpy_state(model.state_dict()))
    x = torch.from_numpy(np.random.default_rng(99).standard_normal((1, 3, 224, 224)).astype(np.float32))
    ours, rows = model(x, return_cls_attn=True)
    assert (ours[0] - torch.tensor(logits)).abs().max() < 1e-5
    assert (rows[0, -1, :, 99] - torch.tensor(to_token_100)).abs().max() < 1e-6  # CLS is token 0


@pytest.mark.parametrize("how", [{}, {"embed_dim": 768, "num_heads": 12},
                                 {"patch_size": 14, "init_values": 1.}])
@torch.no_grad()
def test_whole_size_models_equal_timm(how):
    """ViT-S/16, ViT-B/16 and a DINOv2-like one: tokens, logits and the last block's CLS row within 1e-5."""
    timm = pytest.importorskip("timm", reason="timm is not installed (an optional check)")
    torch.manual_seed(0)
    ref = timm.models.vision_transformer.VisionTransformer(**dict(embed_dim=384, num_heads=6) | how).eval()
    ref.blocks[-1].attn.fused_attn, seen = False, []
    ref.blocks[-1].attn.attn_drop.register_forward_hook(lambda module, args, out: seen.append(out))
    model, x = vit_from_state(ref.state_dict()), images(1, 224, 224)
    logits, rows = model(x, return_cls_attn=True)
    assert (model.norm(model.encode(model.embed(x)).tokens) - ref.forward_features(x)).abs().max() < 1e-5
    assert (logits - ref(x)).abs().max() < 1e-5 and (rows[:, -1] - seen[0][:, :, 0, 1:]).abs().max() < 1e-5


@torch.no_grad()
def test_whole_size_models_equal_hugging_face():
    other = pytest.importorskip("transformers", reason="transformers is not installed (an optional check)")
    torch.manual_seed(0)
    ref = other.ViTForImageClassification(other.ViTConfig(attn_implementation="eager", num_labels=10)).eval()
    model, x = vit_from_state(ref.state_dict()), images(1, 224, 224)
    logits, rows = model(x, return_cls_attn=True)
    out = ref(x, output_attentions=True)
    assert model.norm.eps == 1e-12 and (logits - out.logits).abs().max() < 1e-5
    assert (rows[:, -1] - out.attentions[-1][:, :, 0, 1:]).abs().max() < 1e-5


def test_gradients_work_after_a_call_in_inference_mode():
    model, x = random_vit(), images()

    def maps_of(x):
        attn = model.encode(model.embed(x), full_attn=True).attn
        return upsample(rollout(attn).unflatten(-1, (2, 3)), (17, 19))
    with torch.inference_mode():
        maps = maps_of(x)
    again = maps_of(x)
    again.sum().backward()
    assert torch.equal(again.detach(), maps) and model.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_maps_keep_full_precision_under_autocast():
    model, x = random_vit(), images()
    attn = [a.detach() for a in model.encode(model.embed(x), full_attn=True).attn]
    plain = upsample(rollout(attn).unflatten(-1, (2, 3)), (32, 48))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(upsample(rollout(attn).unflatten(-1, (2, 3)), (32, 48)), plain)


@torch.no_grad()
def test_the_cls_row_has_no_ties_in_bfloat16():
    """Logits rounded to bfloat16 have some 8 bits: of 400 tokens many share a value, often the largest."""
    x = torch.randn(4, 401, 32, generator=torch.Generator().manual_seed(0))
    attention = random_vit().blocks[0].attn
    exact = attention(x, "cls")[1]  # (B, H, N)
    low = attention.bfloat16()(x.bfloat16(), "cls")[1]
    assert low.dtype == torch.float32 and (low - exact).abs().max() < .05 * exact.max()
    distinct = [len(row.unique()) for row in low.flatten(0, 1)]
    assert min(distinct) > 395
    with torch.autocast("cpu", torch.bfloat16):
        rows = attention.float()(x, "cls")[1]
    assert min(len(row.unique()) for row in rows.flatten(0, 1)) > 395


def test_cls_rows_beside_full_matrices_are_their_first_rows():
    model, x = random_vit(), images()
    e = model.encode(model.embed(x), cls_attn=(0, 2), full_attn=True)
    assert len(e.cls_attn) == 2 and len(e.attn) == 3 and torch.equal(e.cls_attn[1], e.attn[2][:, :, 0])


@torch.no_grad()
def test_a_forward_pass_holds_one_block_in_memory_however_deep_the_model():
    x, peak = images(1, 160, 160), {}
    for depth in (2, 12):
        model = random_vit(depth=depth)
        cls_attention(model, x)  # position embeddings are resampled once
        peak[depth] = peak_mib(lambda: cls_attention(model, x))
    assert peak[2] > .1 and peak[12] < 1.2 * peak[2]


def test_rollout_of_nothing_is_refused():
    for nothing in ([], [torch.rand(2, 5, 5)]):
        with pytest.raises(InputError, match="a matrix .B, H, N, N. per block"):
            rollout(nothing)


@torch.no_grad()
def test_numpy_arrays_are_taken_and_an_image_without_a_batch_axis_is_refused():
    model, x = random_vit(), images()
    assert torch.equal(cls_attention(model, x.double().numpy()), cls_attention(model, x))
    attn = random_attention()
    assert torch.equal(rollout([a.numpy() for a in attn]), rollout(attn))
    assert torch.equal(upsample(np.eye(4), (8, 8)), upsample(torch.eye(4).double(), (8, 8)))
    with pytest.raises(InputError, match="expected .B, 3, img_h, img_w."):
        cls_attention(model, x[0])


@torch.no_grad()
def test_one_block_is_given_as_a_number_and_maps_as_arrays():
    model, x = random_vit(), images()
    for one in (1, np.int64(1), torch.tensor(1), np.array([1])):
        assert torch.equal(cls_attention(model, x, one), cls_attention(model, x, [1]))
    with pytest.raises(InputError, match=r"\(2, 1, .*expected \(B, 3"):
        cls_attention(model, x[:, :1])
    with pytest.raises(InputError, match="blocks 0 to 2"):
        cls_attention(model, x, 3)
    with pytest.raises(InputError, match=r"\(3, 32, 48\): .*a batch axis, x\[None\]"):
        cls_attention(model, x[0])
    assert torch.equal(minmax(np.eye(4)), minmax(torch.eye(4).double()))


def osie_nss(model, n, block, head):
    """Mean NSS of one head's CLS map (392x518 input, bilinear to 600x800) on the first n images."""
    view, scores = Preprocess(None, (392, 518), *IMAGENET, "bicubic", squash=True), []
    for _, name, observers in load_osie(SHARED / "real/osie/fixations.mat")[:n]:
        x = view(read_image(SHARED / "real/osie/stimuli" / name))[None]
        map = upsample(cls_attention(model, x, [block])[:, 0, head], (600, 800))
        rows, cols = (np.concatenate([o[k] for o in observers]) for k in (0, 1))
        scores.append(nss(map, fixation_counts(rows, cols, (600, 800))[None]).item())
    return float(np.mean(scores))


@pytest.mark.real
@torch.no_grad()
def test_trained_dinov2_attention_follows_gaze_on_osie():
    path = SHARED / "real/weights/dinov2_vits14_derived_fp16.pth"
    if not path.exists():
        pytest.skip(f"{path} not there")
    model, _ = load_vit("dinov2_vits14", path)
    # 2.03 by another implementation
    assert osie_nss(model, 50, block=8, head=4) == pytest.approx(2.03, abs=0.02)
