"""Weight files: every layout loads strictly and alike; damaged and foreign files are refused."""
import argparse
import hashlib
import importlib
import io
import itertools
import json
import math
import os
import re
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision

import weights
from common import InputError, VisionTransformer
from exp04_saccades import forward_visible
from processes import in_group
from weights import (Preprocess, Spec, WEIGHTS, attention_state, frozen_sha256, load_head, load_resnet,
                     load_tuned, load_vit, locate_weights, must_exist, read_state_dict, to_timm_keys,
                     vit_from_state, weight_file)

SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
TINY = dict(img_size=32, embed_dim=32, depth=2, num_heads=2, num_classes=5)
X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def random_vit(**kw):
    model = VisionTransformer(**TINY | kw)
    gen = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=gen) * 0.3)
    return model.eval()


def renamed(state, names):
    """Keys rewritten by (from, to) pairs of whole dotted parts; written apart from the loader's own table."""
    out = {}
    for key, value in state.items():
        for old, new in names:
            key = re.sub(rf"(^|\.){re.escape(old)}(?=\.|$)", lambda m: m[1] + new, key)
        out[key] = value
    return out


def split_qkv(state, names):
    """The stacked projections as three tensors each."""
    out = {}
    for key, value in state.items():
        parts = zip(names, value.chunk(3)) if ".qkv." in key else [("qkv", value)]
        out.update({key.replace("qkv", name): part for name, part in parts})
    return out


def hf_file(state):
    state = renamed(split_qkv(state, ["attention.query", "attention.key", "attention.value"]), [
        ("attn.proj", "attention.output.dense"), ("attn", "attention"), ("norm1", "layernorm_before"),
        ("norm2", "layernorm_after"), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
        ("norm", "layernorm"), ("blocks", "encoder.layer"), ("cls_token", "embeddings.cls_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"), ("head", "classifier")])
    return {k if k.startswith("classifier") else "vit." + k: v for k, v in state.items()}


def hf_module(state):
    state = renamed(split_qkv(state, ["q_proj", "k_proj", "v_proj"]), [
        ("attn.proj", "attention.o_proj"), ("attn", "attention"), ("norm1", "layernorm_before"),
        ("norm2", "layernorm_after"), ("norm", "layernorm"), ("blocks", "layers"),
        ("cls_token", "embeddings.cls_token"), ("pos_embed", "embeddings.position_embeddings"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"), ("head", "classifier")])
    return {k if k.startswith("classifier") else "vit." + k: v for k, v in state.items()}


def dinov2_chunks(state):
    chunk = lambda m: f"blocks.{int(m[1]) // 2}.{m[1]}"
    return {re.sub(r"^blocks\.(\d+)", chunk, k): v for k, v in state.items()}


@torch.no_grad()
@pytest.mark.parametrize("layout", [lambda s: s, dinov2_chunks, hf_file, hf_module])
def test_every_layout_gives_the_same_output(layout):
    model = random_vit()
    loaded = vit_from_state(layout(model.state_dict()), num_heads=2, eps=1e-6)
    assert torch.equal(loaded(X), model(X))


@pytest.mark.parametrize("layout,eps", [(lambda s: s, 1e-6), (hf_file, 1e-12), (hf_module, 1e-12)])
def test_norm_eps_follows_the_layout(layout, eps):
    model = vit_from_state(layout(random_vit().state_dict()), num_heads=2)
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {eps}


@torch.no_grad()
def test_torchvision_vit_gives_its_own_logits():
    ref = torchvision.models.VisionTransformer(32, 16, 2, 2, 32, 128, num_classes=5).eval()
    gen = torch.Generator().manual_seed(2)
    for p in ref.parameters():
        p.copy_(torch.randn(p.shape, generator=gen) * 0.3)
    ours = vit_from_state(ref.state_dict(), num_heads=2)
    assert torch.allclose(ours(X), ref(X), atol=1e-5)
    released = {k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v
                for k, v in ref.state_dict().items()}  # as in the released file vit_b_16-c867db91.pth
    assert torch.equal(vit_from_state(released, num_heads=2)(X), ours(X))


def test_shape_facts_are_inferred():
    model = vit_from_state(random_vit(img_size=42, patch_size=14, embed_dim=192, num_classes=7, mlp_ratio=3,
                                      depth=3, layerscale=1.0, registers=4).state_dict())
    assert (model.patch_size, model.grid, model.embed_dim, model.num_heads) == (14, (3, 3), 192, 3)
    assert len(model.blocks) == 3
    assert (model.head.out_features, model.n_prefix, model.pos_rule) == (7, 5, "antialias")
    assert model.blocks[0].mlp.fc1.out_features == 576 and not model.training
    assert vit_from_state(random_vit(layerscale=1.0).state_dict(), num_heads=2).pos_rule == "offset"
    assert vit_from_state(random_vit().state_dict(), num_heads=2).pos_rule == "size"


@pytest.mark.parametrize("width,heads", [(96, 6), (192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16),
                                         (1408, 16), (1536, 24), (1664, 16)])
def test_heads_of_known_widths_are_those_of_the_published_models(width, heads):
    with torch.device("meta"):
        bare = VisionTransformer(img_size=16, embed_dim=width, depth=1, num_heads=1, mlp_ratio=.25)
        assert vit_from_state(bare.state_dict()).num_heads == heads


def test_number_of_heads_is_asked_for_where_no_rule_gives_it(tmp_path):
    for width in (32, 64, 128, 640):  # width / 64 is a guess, not a rule: ViT-H is 1280 wide and has 16
        with pytest.raises(InputError, match=f"heads a ViT {width} wide has; give num_heads .--heads.*"):
            vit_from_state(random_vit(embed_dim=width).state_dict(), eps=1e-6)
    torch.save(random_vit(embed_dim=64).state_dict(), tmp_path / "x.pth")
    assert load_vit("auto", tmp_path / "x.pth", num_heads=4)[0].num_heads == 4
    for heads in (0, 3):
        with pytest.raises(InputError, match=f"--heads {heads}: dino_vits16 has heads of its own"):
            load_vit("dino_vits16", tmp_path / "x.pth", num_heads=heads)
    for heads in (0, -2):
        with pytest.raises(InputError, match=f"not a multiple of {heads} heads"):
            load_vit("auto", tmp_path / "x.pth", num_heads=heads)
    with pytest.raises(InputError, match="not a multiple of 5 heads"):
        vit_from_state(random_vit().state_dict(), num_heads=5)


def test_half_precision_files_give_float32_models():
    state = {k: v.half() for k, v in random_vit().state_dict().items()}
    assert {p.dtype for p in vit_from_state(state, num_heads=2).parameters()} == {torch.float32}


def test_only_named_keys_are_dropped():
    state = random_vit().state_dict()
    harmless = {"mask_token": torch.zeros(1, 32), "vit.pooler.dense.weight": torch.zeros(2, 2)}
    assert to_timm_keys(state | harmless).keys() == state.keys()
    with pytest.raises(InputError, match="neck.0.weight.*local_token"):
        vit_from_state(state | {"neck.0.weight": torch.zeros(2), "local_token": torch.zeros(2)}, num_heads=2)


def test_missing_and_misfitting_weights_are_refused():
    state = random_vit().state_dict()
    with pytest.raises(InputError, match="blocks.1.norm2.bias"):
        vit_from_state({k: v for k, v in state.items() if k != "blocks.1.norm2.bias"}, num_heads=2)
    with pytest.raises(InputError, match="cls_token"):
        vit_from_state({k: v for k, v in state.items() if k != "cls_token"})
    with pytest.raises(InputError, match="attn.v.weight"):
        vit_from_state({k: v for k, v in hf_file(state).items() if not k.endswith("value.weight")})
    with pytest.raises(InputError, match="do not fit"):
        vit_from_state(state, embed_dim=64, num_heads=2)


# ---- layouts of others, against the originals

def hf_dinov2(state):
    state = renamed(split_qkv(state, ["attention.query", "attention.key", "attention.value"]), [
        ("attn.proj", "attention.output.dense"), ("attn", "attention"), ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"), ("norm", "layernorm"), ("blocks", "encoder.layer"),
        ("cls_token", "embeddings.cls_token"), ("pos_embed", "embeddings.position_embeddings"),
        ("register_tokens", "embeddings.register_tokens"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection")])
    return state | {"embeddings.mask_token": torch.zeros(1, 32)}


def distilled(state):
    """timm's distilled DeiT: a second token, its position and its classifier."""
    pos = state["pos_embed"]
    return state | {"dist_token": pos[:, :1], "pos_embed": torch.cat([pos[:, :1], pos], 1),
                    "head_dist.weight": state["head.weight"], "head_dist.bias": state["head.bias"]}


def hf_distilled(state):
    """Hugging Face's DeiTForImageClassificationWithTeacher."""
    state = {k.replace("vit.", "deit."): v for k, v in hf_file(distilled(state)).items()}
    return renamed(state, [("dist_token", "embeddings.distillation_token"), ("classifier", "cls_classifier"),
                           ("deit.head_dist", "distillation_classifier")])


def deit3(state):
    """The official DeiT-III: other names for LayerScale, no position for CLS."""
    state = {k.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): v for k, v in state.items()}
    return state | {"pos_embed": state["pos_embed"][:, 1:]}


def hf_dinov3(state):
    state = renamed(split_qkv(state, ["q_proj", "k_proj", "v_proj"]), [
        ("attn.proj", "attention.o_proj"), ("attn", "attention"), ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"), ("blocks", "layer"), ("mlp.fc1", "mlp.up_proj"),
        ("mlp.fc2", "mlp.down_proj"), ("cls_token", "embeddings.cls_token"),
        ("register_tokens", "embeddings.register_tokens"), ("patch_embed.proj", "embeddings.patch_embeddings")])
    return {k: v for k, v in state.items() if k != "pos_embed" and not k.endswith("k_proj.bias")}


def sines(state):
    """Weights 0.3 sin(0.7 index + i) for the i-th key in sorted order; 1 + that for gains."""
    out = {}
    for i, (name, p) in enumerate(sorted(state.items())):
        wave = torch.sin(torch.arange(p.numel(), dtype=torch.float64) * 0.7 + i).view(p.shape).float()
        out[name] = 0.3 * wave + (name.endswith(("gamma", "gamma_1", "gamma_2", "lambda1"))
                                  or "norm" in name and name.endswith("weight"))
    return out


DINOV3 = dict(num_classes=0, layerscale=1., registers=4, rotary=True)
# layout: (its keys, our template's arguments, size of the image, first 5 of the normalised CLS or the logits)
# by transformers 5.24 (the models of these names) and timm 1.0.31 (VisionTransformerDistilled;
# VisionTransformer with no_embed_class and init_values), with the weights of `sines`; sin(.7 index) as image
ORIGINALS = {
    "Dinov2": (hf_dinov2, {'num_classes': 0, 'layerscale': 1.0}, (48, 80),
        [-1.644267, 0.175145, 0.268693, 0.057131, -1.087026]),
    "Dinov2WithRegisters": (hf_dinov2, {'num_classes': 0, 'layerscale': 1.0, 'registers': 4}, (48, 80),
        [-2.029421, 0.455218, 0.441635, 0.632377, -0.720005]),
    "distilled DeiT": (distilled, {}, (32, 32),
        [-1.336706, 0.867491, 0.041033, -1.011152, 1.413713]),
    "DeiT-III": (deit3, {'layerscale': 1.0}, (32, 32),
        [-0.381112, -0.709708, 0.684698, -1.404822, 1.579736]),
    "DINOv3ViT": (hf_dinov3, DINOV3, (48, 80),
        [-0.565681, 2.164865, -0.408988, -0.563221, 0.302248])}


@torch.no_grad()
@pytest.mark.parametrize("name", ORIGINALS)
def test_layouts_of_others_equal_stored_outputs_of_the_originals(name):
    layout, how, size, expected = ORIGINALS[name]
    model = vit_from_state(sines(layout(VisionTransformer(**TINY | how).state_dict())), num_heads=2)
    x = torch.sin(torch.arange(3 * size[0] * size[1], dtype=torch.float64) * .7).view(1, 3, *size).float()
    assert (model(x)[0, :5] - torch.tensor(expected)).abs().max() < 1e-5
    assert model.n_prefix == (5 if "registers" in how else 2 if layout is distilled else 1)
    assert layout is not distilled or model.pos_rule == "size"  # its second token is no register


@torch.no_grad()
def test_hugging_faces_distilled_deit_is_timms():
    state = random_vit().state_dict()
    loaded = vit_from_state(hf_distilled(state), num_heads=2, eps=1e-6)
    assert torch.equal(loaded(X), vit_from_state(distilled(state), num_heads=2)(X)) and loaded.pos_rule == "size"


@torch.no_grad()
def test_registers_of_timm_come_without_a_position_for_cls():
    model = random_vit(layerscale=1., registers=4, pos_rule="antialias")
    model.pos_embed[:, :1] = 0
    state = model.state_dict()
    state["reg_token"] = state.pop("register_tokens")
    loaded = vit_from_state(state | {"pos_embed": model.pos_embed[:, 1:]}, num_heads=2)
    assert torch.equal(loaded(X), model(X)) and loaded.pos_rule == "antialias"


@torch.no_grad()
@pytest.mark.parametrize("name", ["Dinov2", "Dinov2WithRegisters", "DINOv3ViT"])
def test_folders_of_save_pretrained_equal_transformers(name, tmp_path):
    other = pytest.importorskip("transformers", reason="transformers is not installed (an optional check)")
    config = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=70, patch_size=14)
    if name == "DINOv3ViT":
        config |= dict(num_register_tokens=4, intermediate_size=128)
    torch.manual_seed(0)
    ref = getattr(other, f"{name}Model")(getattr(other, f"{name}Config")(**config)).eval()
    for p in ref.parameters():
        p.add_(.2 * torch.randn(p.shape))
    ref.save_pretrained(tmp_path)
    model, _ = load_vit("auto", tmp_path)
    assert model.num_heads == 4 and model.norm.eps == ref.config.layer_norm_eps  # as config.json says
    for size in ((70, 70), (98, 56)):
        x = torch.randn(2, 3, *size)
        assert (model(x) - ref(x).last_hidden_state[:, 0]).abs().max() < 1e-5


@torch.no_grad()
def test_dinov3s_own_files_equal_hugging_faces(tmp_path):
    state = sines(hf_dinov3(VisionTransformer(**TINY | DINOV3).state_dict()))
    model = vit_from_state(state, num_heads=2)
    torch.save(state, tmp_path / "x.pth")
    config = dict(image_size=224, rope_theta=100., num_attention_heads=2, hidden_act="gelu")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(load_vit("auto", tmp_path / "x.pth")[0](X), model(X))  # its positions have no size
    own = {k: v for k, v in model.state_dict().items() if k != "pos_embed"}
    own["storage_tokens"] = own.pop("register_tokens")
    own |= {"rope_embed.periods": torch.ones(4), "mask_token": torch.zeros(1, 32)}
    for i in range(2):
        mask = torch.ones(3, 32)
        mask[1] = 0
        own[f"blocks.{i}.attn.qkv.bias_mask"] = mask.flatten()
        own[f"blocks.{i}.attn.qkv.bias"] = own[f"blocks.{i}.attn.qkv.bias"] + (1 - mask.flatten())
    assert torch.equal(vit_from_state(own, num_heads=2)(X), model(X))


@torch.no_grad()
def test_kept_patches_keep_their_own_rotary_positions():
    """Equal to a full pass in which no token looks at the others: their keys' logits are minus infinity."""
    model = vit_from_state(sines(hf_dinov3(VisionTransformer(**TINY | DINOV3).state_dict())), num_heads=2)
    x, visible = torch.randn(2, 3, 64, 48), torch.rand(2, 3, 4, 3) > .4
    features = forward_visible(model, x, visible, 1)
    for image, step in itertools.product(range(2), range(3)):
        e = model.embed(x[image, None])
        tokens = torch.cat([model.cls_token, model.register_tokens, e[..., :32]], 1)  # (1, 17, D)
        seen = torch.cat([torch.ones(5, dtype=torch.bool), visible[image, step].flatten()])
        for block in model.blocks:
            q, k, v = block.attn.qkv(block.norm1(tokens)).view(1, 17, 3, 2, 16).permute(2, 0, 3, 1, 4)
            q, k = (turned(z, 4, 3) for z in (q, k))
            a = (q @ k.transpose(-2, -1) / 4).masked_fill(~seen, -torch.inf).softmax(-1)  # (1, H, 17, 17)
            tokens = tokens + block.ls1(block.attn.proj((a @ v).transpose(1, 2).flatten(2)))
            tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        assert torch.allclose(features[image, step], model.norm(tokens[0, 0]), atol=1e-5)


def turned(z, h, w):
    """DINOv3's rotation written as complex numbers, patch by patch; z (1, H, 5 + h w, 16)."""
    z = z.clone()
    for i, j in itertools.product(range(h), range(w)):
        place = 2 * (i + .5) / h - 1, 2 * (j + .5) / w - 1
        angle = torch.tensor([2 * math.pi * p * 100 ** (-f / 4) for p in place for f in range(4)])  # (8,)
        patch = z[0, :, 5 + i * w + j]  # (H, 16): 8 real, 8 imaginary parts
        number = torch.complex(patch[:, :8], patch[:, 8:]) * torch.polar(torch.ones(8), angle)
        z[0, :, 5 + i * w + j] = torch.cat([number.real, number.imag], 1)
    return z


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["model.", "net.", "student.backbone.", "teacher.backbone.",
                                    "module.backbone.", "_orig_mod.model.net."])
def test_prefixes_of_training_programs_are_cut(prefix, tmp_path):
    model = random_vit()
    torch.save({prefix + k: v for k, v in model.state_dict().items()}, tmp_path / "x.pth")
    assert torch.equal(load_vit("auto", tmp_path / "x.pth", num_heads=2)[0](X), model(X))


@torch.no_grad()
def test_training_checkpoints_of_dinov2_give_the_teachers_backbone(tmp_path):
    teacher, student = random_vit(num_classes=0, layerscale=1.), random_vit(num_classes=0, depth=1)
    extra = {"dino_head.mlp.0.weight": torch.zeros(3, 32), "dino_head.last_layer.weight_v": torch.zeros(9, 3),
             "ibot_head.mlp.0.bias": torch.zeros(3), "backbone.mask_token": torch.zeros(1, 32),
             "ibot_patch_loss.center": torch.zeros(1, 9), "dino_loss.center": torch.zeros(1, 9)}
    of = lambda m: {f"backbone.{k}": v for k, v in dinov2_chunks(m.state_dict()).items()} | extra
    torch.save({"teacher": of(teacher)}, tmp_path / "teacher_checkpoint.pth")
    both = {f"teacher.{k}": v for k, v in of(teacher).items()}
    both |= {f"student.{k}": v for k, v in of(student).items()} | {"dino_loss.center": torch.zeros(1, 9)}
    torch.save({"model": both, "iteration": 3}, tmp_path / "model_0.rank_0.pth")
    for name in ("teacher_checkpoint.pth", "model_0.rank_0.pth"):
        assert torch.equal(load_vit("auto", tmp_path / name, num_heads=2)[0](X), teacher(X))


@pytest.mark.parametrize("key,why", [
    ("blocks.0.mlp.w12.weight", "SwiGLU"), ("encoder.layer.0.mlp.weights_in.weight", "SwiGLU"),
    ("layer.0.mlp.gate_proj.weight", "SwiGLU"), ("visual.conv1.weight", "CLIP"),
    ("embeddings.class_embedding", "CLIP"), ("attn_pool.latent", "SigLIP"), ("head.probe", "SigLIP"),
    ("decoder_blocks.0.norm1.weight", "decoder"), ("encoder.layer.0.lambda_1", "BEiT"),
    ("blocks.0.attn.q_norm.weight", "normalised queries"), ("fc_norm.weight", "mean of all patches"),
    ("norm_pre.weight", "CLIP"), ("blocks.0.attns.1.norm.weight", "parallel"), ("blocks.0.ffns.1.norm.bias", "parallel"),
    ("blocks.0.mlp.w3.weight", "SwiGLU"), ("blocks.0.mlp.fc1_g.weight", "SwiGLU"), ("pre_layrnorm.weight", "CLIP"),
    ("vision_model.post_layernorm.weight", "CLIP"), ("text_model.final_layer_norm.weight", "CLIP"),
    ("blocks.0.attn.relative_position_bias_table", "Swin"), ("blocks.0.attn.k_norm.weight", "normalised queries")])
def test_models_that_are_not_built_here_are_refused_by_name(key, why, tmp_path):
    torch.save(random_vit().state_dict() | {key: torch.zeros(4)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=f"x.pth: .*{re.escape(key)} belongs to .*{why}"):
        load_vit("auto", tmp_path / "x.pth", num_heads=2)


@pytest.mark.parametrize("prefix", ["dinov2.", "dinov2_with_registers."])
def test_a_classifier_of_cls_and_mean_patch_is_left_out_and_said(prefix, tmp_path, capsys):
    state = hf_dinov2(random_vit(num_classes=0, layerscale=1.).state_dict())
    state = {prefix + k: v for k, v in state.items()} | {"classifier.bias": torch.zeros(5)}
    torch.save(state | {"classifier.weight": torch.zeros(5, 96)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="head.weight"):  # of whatever else
        load_vit("auto", tmp_path / "x.pth", num_heads=2)
    torch.save(state | {"classifier.weight": torch.zeros(5, 64)}, tmp_path / "x.pth")
    model, _ = load_vit("auto", tmp_path / "x.pth", num_heads=2)
    assert isinstance(model.head, torch.nn.Identity) and "no classifier" in capsys.readouterr().out


def test_of_a_folder_the_file_of_weights_is_taken(tmp_path):
    with pytest.raises(InputError, match="a folder without model.safetensors or pytorch_model.bin"):
        load_vit("auto", tmp_path)
    for name in ("pytorch_model.bin", "model.safetensors"):  # the latter goes first
        (tmp_path / name).touch()
        assert weight_file(tmp_path) == weight_file(str(tmp_path / name)) == tmp_path / name
    must_exist(None, tmp_path, tmp_path / name)
    with pytest.raises(InputError, match="gone.pth: no such weight file"):
        must_exist(None, tmp_path, tmp_path / "gone.pth")


@torch.no_grad()
def test_positions_of_an_image_that_is_not_square_are_never_taken_for_a_square(tmp_path):
    model = random_vit(img_size=(64, 96))  # 4 x 6 patches and CLS: 25 = 5 x 5
    for layout in (dinov2_chunks, hf_file):
        torch.save(layout(model.state_dict()), tmp_path / "x.pth")
        with pytest.raises(InputError, match="x.pth: .*CLS and 24 patches, no square; .*image_size"):
            load_vit("auto", tmp_path / "x.pth", num_heads=2)
    config = dict(image_size=[64, 96], num_attention_heads=2, layer_norm_eps=1e-6)
    (tmp_path / "config.json").write_text(json.dumps(config))
    x = torch.randn(1, 3, 64, 96)
    assert torch.equal(load_vit("auto", tmp_path / "x.pth")[0](x), model(x))


@torch.no_grad()
def test_a_bias_on_keys_in_dinov3_is_kept_and_registers_may_be_absent():
    model = random_vit(**DINOV3 | dict(registers=0))
    state = hf_dinov3(model.state_dict())
    state["embeddings.register_tokens"] = torch.zeros(1, 0, 32)
    keys = {f"layer.{i}.attention.k_proj.bias": b.attn.qkv.bias[32:64] for i, b in enumerate(model.blocks)}
    loaded = vit_from_state(state | keys, num_heads=2, eps=1e-6)
    assert torch.equal(loaded.blocks[1].attn.qkv.bias, model.blocks[1].attn.qkv.bias)
    assert loaded.blocks[1].attn.qkv.bias[32:64].abs().min() > 0 and loaded.n_prefix == 1
    assert vit_from_state(state, num_heads=2).blocks[1].attn.qkv.bias[32:64].abs().max() == 0


@pytest.mark.parametrize("without, why", [
    ("cls_token", "the model takes the mean of its patches"), ("pos_embed", "instead of timm's"),
    ("qkv.bias", "without bias on queries, keys and values")])
def test_published_files_without_a_part_are_refused_with_the_reason(without, why):
    with pytest.raises(InputError, match=f"no .*{without}: .*{why}"):
        vit_from_state({k: v for k, v in random_vit().state_dict().items() if without not in k}, num_heads=2)


# ---- files

def test_safetensors_round_trip_and_damaged_ones_are_refused(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed (optional)")
    path, tensors = tmp_path / "x.safetensors", {"a": torch.randn(3, 5), "b": torch.randn(7).half()}
    safetensors.save_file(tensors, path)
    back = read_state_dict(path)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[k], t) and back[k].dtype == t.dtype for k, t in tensors.items())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="x.safetensors: .*expected finite real tensors alone"):
        read_state_dict(path)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(InputError, match="pip install safetensors"):
        read_state_dict(tmp_path / "x.safetensors")


@pytest.mark.parametrize("content", [[torch.zeros(2)], torch.zeros(2), {}, {"a": 1}, {"model": {"a": "b"}}])
def test_files_that_hold_no_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match="x.pth: .*expected finite real tensors"):
        read_state_dict(tmp_path / "x.pth")


@pytest.mark.parametrize("odd", [
    lambda v: v * torch.nan, lambda v: v / 0, lambda v: v.to_sparse(), lambda v: v.to("meta"),
    lambda v: v.to(torch.complex64)], ids=["nan", "inf", "sparse", "meta", "complex"])
def test_weights_that_are_no_finite_real_numbers_are_refused(tmp_path, odd):
    torch.save({"weight": odd(torch.ones(2, 3)), "bias": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="x.pth: .*finite real tensors"):
        read_state_dict(tmp_path / "x.pth")


def test_weights_of_shapes_that_no_model_has_are_refused_at_once(tmp_path):
    state, path = random_vit().state_dict(), tmp_path / "x.pth"
    for change in ({"head.weight": torch.tensor(1.)}, {"cls_token": torch.zeros(1, 1, 0)},
                   {"pos_embed": torch.zeros(1, 0, 32)}, {f"blocks.{10**10}.norm1.weight": torch.zeros(32)}):
        with pytest.raises(InputError, match="do not fit"):
            vit_from_state(state | change, num_heads=2)
    for load, odd in ((load_head, {"weight": torch.ones(2, 3), "bias": torch.ones(3)}),
                      (partial(load_resnet, "resnet50"), {"fc.bias": torch.tensor(1.)})):
        torch.save(odd, path)
        with pytest.raises(InputError, match="x.pth"):
            load(path)


def test_cut_off_empty_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(random_vit().state_dict(), path)
    raw = path.read_bytes()
    for content in (raw[:len(raw) // 2], raw[:100], b"", b"<html>404</html>"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="x.pth: .*expected finite real tensors alone"):
            read_state_dict(path)
    path.unlink()
    with pytest.raises(InputError, match="x.pth: no such weight file"):
        read_state_dict(path)


@torch.no_grad()
def test_full_dino_checkpoint_gives_the_teacher_backbone(tmp_path):
    teacher, student = random_vit(num_classes=0), random_vit(num_classes=0, depth=1)
    projection = {"module.head.mlp.0.weight": torch.zeros(3, 32),
                  "module.head.last_layer.weight_g": torch.zeros(9, 1)}
    wrap = lambda m: {"module.backbone." + k: v for k, v in m.state_dict().items()} | projection
    torch.save({"student": wrap(student), "teacher": wrap(teacher), "epoch": 3, "optimizer": {"state": {}},
                "args": argparse.Namespace(arch="vit_small", lr=1e-3)}, tmp_path / "checkpoint.pth")
    model = vit_from_state(read_state_dict(tmp_path / "checkpoint.pth"), num_heads=2)
    assert torch.equal(model(X), teacher(X))


ONE = torch.ones(())


@pytest.mark.parametrize("around", [
    {"teacher": {"a": ONE}, "model": {"b": ONE}}, {"model": {"module.a": ONE}, "state_dict": {"b": ONE}, "epoch": 1},
    {"state_dict": {"a": ONE}, "model": "vit_tiny"}, {"model": {"state_dict": {"net.a": ONE}}}])
def test_nested_state_dicts_are_opened(tmp_path, around):
    torch.save(around, tmp_path / "x.pth")
    assert read_state_dict(tmp_path / "x.pth") == {"a": ONE}


# ---- table, downloads, loaders

def test_hash_in_a_file_name_starts_its_sha256():
    for name in ("resnet50", "deit_small_patch16_224"):
        assert WEIGHTS[name].sha256.startswith(re.search(r"-([0-9a-f]{8})\.pth$", WEIGHTS[name].url)[1])
    assert all(re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", s.sha256) for s in WEIGHTS.values() if s.sha256)


def test_files_of_the_table_have_different_names():
    names = [s.file or s.url.split("/")[-1] for s in WEIGHTS.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name,count", [  # parameters as published, DINOv2's less the mask token
    ("dino_vits16", 21_665_664), ("dino_vits8", 21_670_272), ("dinov2_vits14", 22_056_576 - 384),
    ("dinov2_vits14_reg", 22_058_112 - 384)])
def test_architectures_of_the_table_have_the_published_size(name, count):
    img = 518 if "v2" in name else 224
    with torch.device("meta"):
        vit = VisionTransformer(img_size=img, **WEIGHTS[name].arch)
    assert sum(p.numel() for p in vit.parameters()) == count


IMAGENET, HALF = ((.485, .456, .406), (.229, .224, .225)), ((.5,) * 3, (.5,) * 3)
EVAL_256 = Preprocess(256, 224, *IMAGENET, "bicubic")  # of DINO's, DINOv2's and DeiT's own evaluations
AS_PUBLISHED = {  # patch, heads, eps, how positions are resampled; preprocessing
    "vit_base_patch16_224": (16, 12, 1e-12, "size", Preprocess(224, 224, *HALF, "bilinear", squash=True)),
    "deit_small_patch16_224": (16, 6, 1e-6, "size", EVAL_256),
    "dino_vits16": (16, 6, 1e-6, "offset", EVAL_256), "dino_vits8": (8, 6, 1e-6, "offset", EVAL_256),
    "dino_vitb16": (16, 12, 1e-6, "offset", EVAL_256), "dino_vitb8": (8, 12, 1e-6, "offset", EVAL_256),
    "dinov2_vits14": (14, 6, 1e-6, "offset", EVAL_256), "dinov2_vits14_reg": (14, 6, 1e-6, "antialias", EVAL_256),
    **{f"demo_{kind}{depth}": (16, 6, 1e-6, "size", Preprocess(224, 224, *IMAGENET, "bicubic"))
       for kind in ("dino", "sl") for depth in (4, 8, 12)}}


def test_models_of_the_table_are_built_and_prepared_as_published():
    assert {name for name, spec in WEIGHTS.items() if spec.kind == "vit"} == set(AS_PUBLISHED)
    for name, expected in AS_PUBLISHED.items():
        with torch.device("meta"):
            vit = VisionTransformer(**WEIGHTS[name].arch)
        assert (vit.patch_size, vit.num_heads, vit.norm.eps, vit.pos_rule, WEIGHTS[name].preprocess) == expected, name
    assert WEIGHTS["resnet50"].preprocess == Preprocess(232, 224, *IMAGENET, "bilinear")  # IMAGENET1K_V2
    assert WEIGHTS["demo_resnet"].preprocess == AS_PUBLISHED["demo_sl12"][-1]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty TORCH_HOME and a local server that gives `content` under any address (None: 404)."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    hub = argparse.Namespace(folder=tmp_path / "hub/checkpoints", content=None, asked=0)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            hub.asked += 1
            if hub.content is None:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(hub.content)))
            self.end_headers()
            self.wfile.write(hub.content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(.01,), daemon=True)
    thread.start()
    hub.spec = Spec("vit", f"http://127.0.0.1:{server.server_port}/path/tiny.pth", RIGHT)
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


RIGHT, WRONG = (hashlib.sha256(content).hexdigest() for content in (b"right", b"wrong"))


def test_message_of_a_failed_download_has_url_path_and_hash(hub):
    with pytest.raises(InputError) as e:
        locate_weights(hub.spec)
    for part in (hub.spec.url, str(hub.folder / "tiny.pth"), RIGHT, "--weights", "404"):
        assert part in str(e.value)
    assert not list(hub.folder.iterdir())


@pytest.mark.parametrize("sha256", [RIGHT, RIGHT[:8], None])
def test_download_is_stored_once_under_its_name(hub, sha256):
    hub.content = b"right"
    path = locate_weights(hub.spec._replace(sha256=sha256))
    assert path == hub.folder / "tiny.pth" and path.read_bytes() == b"right"
    named = locate_weights(hub.spec._replace(file="vit-tiny.bin"))  # where the address ends like others
    assert named == hub.folder / "vit-tiny.bin" and hub.asked == 2
    named.unlink()
    assert locate_weights(hub.spec) == path and list(hub.folder.iterdir()) == [path] and hub.asked == 2


def test_a_hash_that_nobody_published_is_printed_for_the_reader(hub, capsys):
    hub.content = b"right"
    for _ in range(2):  # of a new file, and of one that is there
        locate_weights(hub.spec._replace(sha256=None))
        assert f"tiny.pth: sha256 {RIGHT}" in capsys.readouterr().out
    locate_weights(hub.spec)
    assert not capsys.readouterr().out


def test_a_download_that_mismatches_is_kept_beside_and_the_next_run_gets_it_anew(hub):
    hub.content = b"wrong"
    with pytest.raises(InputError, match=f"tiny.pth.mismatch: sha256 is {WRONG}, expected {RIGHT}.*run again"):
        locate_weights(hub.spec)
    assert [path.name for path in hub.folder.iterdir()] == ["tiny.pth.mismatch"]
    assert (hub.folder / "tiny.pth.mismatch").read_bytes() == b"wrong"
    hub.content = b"right"
    assert locate_weights(hub.spec).read_bytes() == b"right"


def refused(spec: Spec, said: str) -> None:
    with pytest.raises(InputError, match=said):
        locate_weights(spec)


def test_each_of_several_processes_is_told_of_a_mismatch_and_a_good_file_is_downloaded_once(hub):
    hub.content = b"wrong"
    in_group(3, refused, hub.spec, f"tiny.pth.mismatch: sha256 is {WRONG}, expected {RIGHT}")
    assert [path.name for path in hub.folder.iterdir()] == ["tiny.pth.mismatch"]
    hub.content, hub.asked = b"right", 0
    in_group(3, locate_weights, hub.spec)
    assert hub.asked == 1 and (hub.folder / "tiny.pth").read_bytes() == b"right"


def test_a_file_that_was_there_and_mismatches_is_left_alone(hub):
    hub.folder.mkdir(parents=True)
    (hub.folder / "tiny.pth").write_bytes(b"wrong")
    hub.content = b"right"
    for expected in (RIGHT, WRONG[:-1] + "x", WRONG[:7] + "x"):
        with pytest.raises(InputError, match=f"tiny.pth: sha256 is {WRONG}, expected {expected} .*move it away"):
            locate_weights(hub.spec._replace(sha256=expected))
    assert (hub.folder / "tiny.pth").read_bytes() == b"wrong" and hub.asked == 0
    assert [path.name for path in hub.folder.iterdir()] == ["tiny.pth"]


def test_a_damaged_download_without_a_known_hash_is_refused_by_the_strict_load(hub, monkeypatch):
    buffer = io.BytesIO()
    torch.save(random_vit().state_dict(), buffer)
    whole = buffer.getvalue()
    spec = hub.spec._replace(sha256=None, arch=dict(num_heads=2))
    monkeypatch.setitem(WEIGHTS, "tiny", spec)
    hub.content = whole[:len(whole) // 2]
    with pytest.raises(InputError, match="tiny.pth: .*expected finite real tensors"):
        load_vit("tiny")
    (hub.folder / "tiny.pth").unlink()
    hub.content = whole
    assert load_vit("tiny")[0].embed_dim == 32


def test_only_hashes_with_a_source_stand_in_the_table():
    assert WEIGHTS["dino_vitb16"].sha256 == "bf34ad0f424b9029b593e8dc3ed553bf26e88bcba0d32bf3e62a6209cb64c85e"
    known = {name for name, spec in WEIGHTS.items() if spec.sha256}
    assert known == {"resnet50", "deit_small_patch16_224", "dinov2_vits14", "dinov2_vits14_reg", "dino_vitb16"}


def test_dino_linear_file_loads_as_a_head(tmp_path):
    weight, bias = torch.randn(10, 1536), torch.randn(10)
    state = {"module.linear.weight": weight, "module.linear.bias": bias}
    torch.save({"epoch": 99, "best_acc": 77.0, "state_dict": state}, tmp_path / "dino.pth")
    torch.save({"weight": weight, "bias": bias}, tmp_path / "own.pth")
    for name in ("dino.pth", "own.pth"):
        head = load_head(tmp_path / name)
        assert torch.equal(head.weight, weight) and torch.equal(head.bias, bias)
    torch.save({"weight": weight}, tmp_path / "half.pth")
    with pytest.raises(InputError, match="half.pth"):
        load_head(tmp_path / "half.pth")


def test_attention_is_tuned_and_the_bytes_of_all_else_are_hashed():
    model = random_vit()
    parts = [f"blocks.{i}.attn.{part}" for i in range(2) for part in ("qkv.weight", "qkv.bias", "proj.weight", "proj.bias")]
    assert list(attention_state(model)) == parts
    frozen = b"".join(v.numpy().tobytes() for k, v in model.state_dict().items() if k not in parts)
    found = frozen_sha256(model)
    assert bytes(found.tolist()) == hashlib.sha256(frozen).digest() and found.dtype == torch.uint8
    norm = torch.nn.BatchNorm1d(2)
    before = frozen_sha256(norm, lambda net: {"weight": net.weight})
    norm.weight.data += 1
    assert torch.equal(frozen_sha256(norm, lambda net: {"weight": net.weight}), before)
    norm.running_mean += 1  # statistics are frozen too
    assert not torch.equal(frozen_sha256(norm, lambda net: {"weight": net.weight}), before)


def test_tuned_weights_fit_only_the_model_they_were_tuned_from(tmp_path):
    model, other = random_vit().train(), random_vit()
    with torch.no_grad():
        other.norm.bias[3] += 1e-3  # of the same shape, and what tuning leaves alone differs
    tuned = {k: v + 1 for k, v in attention_state(model).items()}
    torch.save(tuned | {"frozen_sha256": frozen_sha256(model)}, tmp_path / "tuned.pth")
    torch.save(tuned, tmp_path / "old.pth")  # a file that does not say
    for file in ("tuned.pth", "old.pth"):
        net = load_tuned(model, tmp_path / file)
        loaded = net.state_dict()
        assert all(torch.equal(loaded[k], tuned.get(k, v)) for k, v in model.state_dict().items())
        assert not net.training
    with pytest.raises(InputError, match="tuned.pth: was tuned from another model"):
        load_tuned(other, tmp_path / "tuned.pth")
    for another, said in ((random_vit(embed_dim=64), "8 tensors .*expected the 8"),
                          (random_vit(depth=3), "8 tensors .*expected the 12")):
        with pytest.raises(InputError, match=f"tuned.pth: {said} tuned weights"):
            load_tuned(another, tmp_path / "tuned.pth")
    retuned = load_tuned(model, tmp_path / "old.pth")  # a tuned model has the frozen part of its base
    assert torch.equal(frozen_sha256(retuned), frozen_sha256(model))
    assert not torch.equal(frozen_sha256(other), frozen_sha256(model))


def test_head_is_found_by_the_name_of_its_model(hub, monkeypatch):
    monkeypatch.setitem(WEIGHTS, "tiny_linear", hub.spec._replace(kind="linear"))
    for name in ("tiny", "tiny_linear"):
        with pytest.raises(InputError, match=f"{hub.spec.url} cannot be downloaded"):
            load_head(name)
    assert WEIGHTS["dino_vits16_linear"].url.endswith("/dino_deitsmall16_linearweights.pth")
    assert "dino_vitb16_linear" not in WEIGHTS  # of CLS and mean patch token: no script feeds it


def test_demo_models_load_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    (tmp_path / "checkpoints").mkdir()
    demo = VisionTransformer(embed_dim=96, depth=4, num_heads=6, num_classes=12)
    torch.save({k: v.half() for k, v in demo.state_dict().items()}, tmp_path / "checkpoints/demo_sl4.pth")
    model, preprocess = load_vit("demo_sl4")
    assert model.num_heads == 6 and model.head.out_features == 12 and not model.training
    assert (preprocess.resize, preprocess.crop, preprocess.interpolation) == (224, 224, "bicubic")
    with pytest.raises(InputError, match="demo_dino12.pth: not there"):
        load_vit("demo_dino12")


def test_named_architecture_must_fit_the_file(tmp_path):
    torch.save(random_vit(embed_dim=64).state_dict(), tmp_path / "tiny.pth")
    with pytest.raises(InputError, match="tiny.pth: the weights do not fit"):
        load_vit("dino_vits16", tmp_path / "tiny.pth")
    assert load_vit("auto", tmp_path / "tiny.pth", num_heads=2)[0].embed_dim == 64


def test_preprocessing_comes_with_the_model(tmp_path):
    state = random_vit(embed_dim=96).state_dict()
    deit = {key.replace("vit.", "deit."): value for key, value in hf_file(state).items()}  # its own code crops
    google = AS_PUBLISHED["vit_base_patch16_224"][-1]
    for own, expected in ((hf_file(state), google), (state, EVAL_256), (deit, EVAL_256)):
        torch.save(own, tmp_path / "x.pth")
        model, pre = load_vit("auto", tmp_path / "x.pth")
        assert pre == expected and model.norm.eps == (1e-6 if own is state else 1e-12)


def test_what_a_file_does_not_say_is_printed_as_assumed(tmp_path, capsys):
    torch.save(random_vit(embed_dim=96).state_dict(), tmp_path / "timm.pth")
    load_vit("auto", tmp_path / "timm.pth")
    said = capsys.readouterr().out
    for part in ("assumed 6 heads a block", "an eps of 1e-06", "short side 256, crop 224", "bicubic",
                 "mean (0.485, 0.456, 0.406), SD (0.229, 0.224, 0.225)"):
        assert part in said
    load_vit("auto", tmp_path / "timm.pth", num_heads=3)
    assert "heads a block" not in capsys.readouterr().out


MEAN, STD = (.1, .2, .3), (.4, .5, .6)
MEAN_STD = dict(image_mean=MEAN, image_std=STD)
CONFIGS = {  # what is written beside a file, and the preprocessing that it means
    "Hugging Face's ViT": ("preprocessor_config.json", dict(
        size=dict(height=384, width=384), resample=2, do_center_crop=False, crop_size=224, **MEAN_STD),
        Preprocess(384, 384, MEAN, STD, "bilinear", squash=True)),
    "an older one": ("preprocessor_config.json", dict(size=224, resample=1, rescale_factor=.00392, **MEAN_STD),
        Preprocess(224, 224, MEAN, STD, "lanczos", squash=True)),
    "Hugging Face's DINOv2": ("preprocessor_config.json", dict(
        size=dict(shortest_edge=256), do_center_crop=True, crop_size=dict(height=224, width=224), resample=3,
        **MEAN_STD), Preprocess(256, 224, MEAN, STD, "bicubic")),
    "Hugging Face's DeiT": ("preprocessor_config.json", dict(
        size=256, do_center_crop=True, crop_size=224, **MEAN_STD), Preprocess(256, 224, MEAN, STD, "bilinear")),
    "one without normalisation": ("preprocessor_config.json", dict(
        size=dict(height=224, width=224), do_normalize=False, **MEAN_STD),
        Preprocess(224, 224, (0.,) * 3, (1.,) * 3, "bilinear", squash=True)),
    "one of images that are not square": ("preprocessor_config.json", dict(
        size=dict(height=64, width=96), resample=0, **MEAN_STD),
        Preprocess(None, (64, 96), MEAN, STD, "nearest", squash=True)),
    "timm's, flat, without crop_pct": ("config.json", dict(
        input_size=[3, 224, 224], interpolation="bilinear", mean=MEAN, std=STD),
        Preprocess(256, 224, MEAN, STD, "bilinear")),
    "timm's, squashed": ("config.json", dict(
        input_size=[3, 224, 224], interpolation="bicubic", crop_mode="squash", crop_pct=1, mean=MEAN, std=STD),
        Preprocess(224, 224, MEAN, STD, "bicubic", squash=True)),
    "timm's augreg": ("config.json", dict(architecture="vit_small_patch16_224", pretrained_cfg=dict(
        input_size=[3, 224, 224], crop_pct=.9, interpolation="bicubic", mean=MEAN, std=STD)),
        Preprocess(248, 224, MEAN, STD, "bicubic"))}


@pytest.mark.parametrize("name", CONFIGS)
def test_preprocessing_is_read_from_the_configuration_beside_the_file(name, tmp_path, capsys):
    file, config, expected = CONFIGS[name]
    (tmp_path / file).write_text(json.dumps(config), encoding="utf-8-sig")  # as some editors do
    torch.save(random_vit(embed_dim=96).state_dict(), tmp_path / "x.pth")
    assert load_vit("auto", tmp_path / "x.pth")[1] == expected
    assert "mean" not in capsys.readouterr().out


@pytest.mark.parametrize("file, said", [
    ("config.json", dict(hidden_act="quick_gelu")), ("config.json", dict(rope_theta=50.)),
    ("config.json", dict(layer_norm_eps="1e-6")), ("preprocessor_config.json", dict(size=224, rescale_factor=1 / 256)),
    ("config.json", dict(interpolation="bicubic", mean=[.5] * 3, std=[.5] * 3, input_size=[3, 224, 448])),
    ("config.json", dict(input_size=[3, 224, 224], interpolation="bicubic", mean=[.5] * 3, crop_mode="border")),
    ("config.json", dict(input_size=[3, 224, 224], interpolation="bicubic", mean=[.5] * 3, crop_mode="squash",
                         crop_pct=.9)),
    ("config.json", dict(input_size=[3, 224, 224], mean=[.5] * 3, interpolation="random")),
    ("preprocessor_config.json", dict(size=224, do_rescale=False)),
    ("preprocessor_config.json", dict(size=224, do_resize=False)),
    ("preprocessor_config.json", dict(size=dict(shortest_edge=224), do_center_crop=False)),
    ("preprocessor_config.json", dict(size=dict(height=64, width=96), do_center_crop=True))])
def test_what_a_configuration_says_and_is_not_built_here_is_refused_by_name(file, said, tmp_path):
    (tmp_path / file).write_text(json.dumps(dict(image_mean=[.5] * 3, image_std=[.5] * 3) | said))
    torch.save(random_vit(embed_dim=96).state_dict(), tmp_path / "x.pth")
    with pytest.raises(InputError, match=list(said)[-1]):
        load_vit("auto", tmp_path / "x.pth")


def test_heads_and_eps_are_read_from_the_configuration_beside_the_file(tmp_path, capsys):
    torch.save(random_vit(embed_dim=64).state_dict(), tmp_path / "x.pth")
    config = dict(num_attention_heads=4, layer_norm_eps=1e-5, hidden_size=64, patch_size=None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pytorch_model.bin").write_bytes((tmp_path / "x.pth").read_bytes())
    for path in (tmp_path / "x.pth", tmp_path):  # a file, or its folder
        model = load_vit("auto", path)[0]
        assert model.num_heads == 4 and model.norm.eps == 1e-5
    assert load_vit("auto", tmp_path, num_heads=8)[0].num_heads == 8
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(dict(size=224, **MEAN_STD)))
    capsys.readouterr()
    load_vit("auto", tmp_path)
    assert not capsys.readouterr().out  # nothing is left to be assumed
    (tmp_path / "config.json").write_text(json.dumps(config | dict(hidden_size=128)))
    with pytest.raises(InputError, match="width 64, but config.json beside it says 128"):
        load_vit("auto", tmp_path / "x.pth")
    for wrong, said in ((dict(num_hidden_layers=12), "depth 2, but .* says 12"), (dict(patch_size=8), "patch 16, but .* 8"),
                        (dict(num_features=96), "width 64, but .* 96")):
        (tmp_path / "config.json").write_text(json.dumps(config | wrong))
        with pytest.raises(InputError, match=said):
            load_vit("auto", tmp_path / "x.pth")
    (tmp_path / "config.json").write_text(json.dumps(config | dict(num_hidden_layers=2, patch_size=[16, 16])))
    assert len(load_vit("auto", tmp_path / "x.pth")[0].blocks) == 2
    for damaged in ("{", "[1]", "3"):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(InputError, match="config.json: .*expected the JSON object"):
            load_vit("auto", tmp_path / "x.pth")


@torch.no_grad()
@pytest.mark.parametrize("size, told, n", [
    ((40, 40), dict(image_size=40), 25), ((40, 40), dict(image_size=[40, 40]), 25),  # patches alone, as timm's DeiT-III
    ((40, 40), dict(architecture="deit3_small", pretrained_cfg=dict(
        input_size=[3, 40, 40], mean=[.5] * 3, std=[.5] * 3, crop_pct=.9, interpolation="bicubic")), 25),
    ((16, 64), dict(image_size=[16, 64]), 16),  # 2 x 8 patches alone
    ((32, 48), dict(image_size=[32, 48]), 25)])  # CLS and 24 patches, as DINOv2 trained on a rectangle
def test_a_square_of_positions_beside_layerscale_is_asked_for_unless_a_configuration_says_the_size(
        size, told, n, tmp_path, capsys):
    alone = size != (32, 48)
    model = random_vit(img_size=size, patch_size=8, embed_dim=96, num_heads=6, layerscale=1.0,
                       pos_rule="size" if alone else "offset")
    state = model.state_dict()
    if alone:
        model.pos_embed[:, :1] = 0
        state = model.state_dict() | {"pos_embed": model.pos_embed[:, 1:]}
    torch.save(state, tmp_path / "x.pth")
    asked = rf'{n} positions, of a square .* of CLS and {n - 1} .* {{"image_size": \[img_h, img_w'
    with pytest.raises(InputError, match=asked):
        load_vit("auto", tmp_path / "x.pth")
    (tmp_path / "config.json").write_text(json.dumps(told))
    loaded = load_vit("auto", tmp_path / "x.pth")[0]
    x = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(3))
    assert loaded.pos_rule == model.pos_rule and loaded.grid == model.grid and torch.equal(loaded(x), model(x))


def test_a_rectangle_of_dinov2_with_its_mask_token_is_no_deit3():
    state = random_vit(img_size=(32, 48), patch_size=8, layerscale=1.0).state_dict() | {"mask_token": torch.zeros(1, 32)}
    with pytest.raises(InputError, match="positions of CLS and 24 patches, no square; give img_size"):
        vit_from_state(state, num_heads=2)
    assert vit_from_state(state, num_heads=2, img_size=(32, 48)).grid == (4, 6)


@pytest.mark.parametrize("script", ["exp01_benchmarks", "exp01_finetune_vit", "exp03_biases", "exp04_saccades",
                                    "exp04_saliency", "exp06_gaze_objects"])
def test_heads_can_be_said_wherever_a_model_can_be_auto(script):
    parse = getattr(importlib.import_module(script), "parse")
    assert parse(["--model", "auto", "--weights", "x.pth", "--heads", "5"]).heads == 5


@pytest.mark.parametrize("name", ["dino_vits32", "resnet50", "dino_vits16_linear", "auto"])
def test_unknown_model_names_are_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match="dino_vits16, .*demo_sl12"):
        load_vit(name)


@pytest.mark.real
def test_trained_dinov2_file_loads_strictly():
    path = SHARED / "real/weights/dinov2_vits14_derived_fp16.pth"
    if not path.exists():
        pytest.skip(f"{path} not there")
    named, inferred = load_vit("dinov2_vits14", path)[0], load_vit("auto", path)[0]
    assert named.grid == inferred.grid == (37, 37) and named.num_heads == inferred.num_heads == 6
    x = torch.randn(1, 3, 56, 84, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(named(x), inferred(x))


@pytest.mark.parametrize("name", [f"demo_{kind}{depth}" for kind in ("dino", "sl") for depth in (4, 8, 12)])
def test_shipped_checkpoints_load_strictly(name):
    model, preprocess = load_vit(name)
    assert len(model.blocks) == int(re.sub(r"\D", "", name)) and model.embed_dim == 96
    assert model.head.out_features == 12 if "sl" in name else isinstance(model.head, torch.nn.Identity)
    assert load_head("demo_dino12").in_features == 4 * 96


def test_a_prefix_that_nobody_knows_is_named_and_no_other_model_suspected(tmp_path):
    state = {f"trunk.{key}": value for key, value in random_vit(embed_dim=96).state_dict().items()}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(InputError, match="no cls_token: trunk.cls_token is there; save the weights without"):
        load_vit("auto", tmp_path / "x.pth")
