"""Weights from outside: the table of those that download or come with this project; the key layouts of timm,
DINO, DINOv2, DINOv3, DeiT, Hugging Face and torchvision; the preprocessing that belongs to a model. Way in:
`load_vit`; `load_tuned` reads what exp01 and exp02 wrote. A file loads strictly or is refused in a sentence.
"""
from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from PIL import Image
from torch import Tensor
from torchvision.models.resnet import Bottleneck, ResNet

from common import ROOT, InputError, VisionTransformer, first_process_first, input_errors

# -------------------------------------------------------------------------------- preprocessing

@dataclass(frozen=True)
class Preprocess:
    """PIL image -> normalised float32 (3, img_h, img_w), by PIL's 8-bit antialiased resampling.
    Short side to `resize`, then centre crop; with `squash` straight to `crop`, whatever the aspect ratio
    (`resize` unused). crop: side or (img_h, img_w). interpolation: bilinear, bicubic, lanczos ..."""
    resize: int | None
    crop: int | tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    squash: bool = False

    def __call__(self, image: Image.Image) -> Tensor:
        size = [self.crop, self.crop] if isinstance(self.crop, int) else list(self.crop)
        resample = TF.InterpolationMode(self.interpolation)
        image = TF.resize(image, size if self.squash else self.resize, resample)
        return TF.normalize(TF.to_tensor(TF.center_crop(image, size)), self.mean, self.std)


IMAGENET, HALF = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5,) * 3, (0.5,) * 3)  # mean, std
SHORT_256 = Preprocess(256, 224, *IMAGENET, "bicubic")  # DINO, DeiT, DINOv2
CROP_224 = Preprocess(224, 224, *IMAGENET, "bicubic")  # the demo
VIT_BENCHMARK = Preprocess(256, 224, *HALF, "bilinear")  # google/vit-base-patch16-224 in exp01's benchmarks
VIT_SQUASHED = Preprocess(224, 224, *HALF, "bilinear", squash=True)  # the same model's own preprocessing


# -------------------------------------------------------------------------------- table


class Spec(NamedTuple):
    """One row of WEIGHTS. kind: "vit", "resnet" and "linear" load here, "unisal" in its script."""
    kind: str
    url: str | None      # None: `file` in this project's checkpoints/
    sha256: str | None = None  # hex digest or its first digits; None: no source publishes one
    preprocess: Preprocess | None = None
    arch: dict = {}      # arguments of VisionTransformer that the file does not tell, or must agree with
    file: str = ""       # local name where the url's own says too little


FAIR = "https://dl.fbaipublicfiles.com/"
DINO = FAIR + "dino/dino_{0}_pretrain/dino_{0}_{1}.pth"  # deitsmall8: not the file of the paper's figures
SMALL, BASE = dict(embed_dim=384, depth=12, num_heads=6), dict(embed_dim=768, depth=12, num_heads=12)
P8, P14, P16, OFFSET = dict(patch_size=8), dict(patch_size=14), dict(patch_size=16), dict(pos_rule="offset")
DEMO = dict(embed_dim=96, num_heads=6, patch_size=16)
# A hash needs a source: the digits in a file's own name (resnet50, deit), or the download as several other
# projects record it (DINOv2; dino_vitb16, of 343,242,485 bytes). None is published for DINO's other files.
WEIGHTS: dict[str, Spec] = {
    "vit_base_patch16_224": Spec(  # the same page's model.safetensors loads too, with weights=PATH
        "vit", "https://huggingface.co/google/vit-base-patch16-224/resolve/main/pytorch_model.bin", None,
        VIT_SQUASHED, BASE | P16 | dict(eps=1e-12), "google-vit-base-patch16-224.bin"),
    "resnet50": Spec("resnet", "https://download.pytorch.org/models/resnet50-11ad3fa6.pth", "11ad3fa6",
                     Preprocess(232, 224, *IMAGENET, "bilinear")),  # torchvision IMAGENET1K_V2
    "unisal": Spec("unisal", "https://github.com/rdroste/unisal/raw/master/training_runs/pretrained_unisal/"
                   "weights_best.pth", None, file="unisal_weights_best.pth"),
    "deit_small_patch16_224": Spec("vit", FAIR + "deit/deit_small_patch16_224-cd65a155.pth", "cd65a155",
                                   SHORT_256, SMALL | P16),
    "dinov2_vits14": Spec("vit", FAIR + "dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
                          "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9", SHORT_256,
                          SMALL | P14 | OFFSET | dict(layerscale=1.0)),
    "dinov2_vits14_reg": Spec("vit", FAIR + "dinov2/dinov2_vits14/dinov2_vits14_reg4_pretrain.pth",
                              "f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb", SHORT_256,
                              SMALL | P14 | dict(layerscale=1.0, registers=4, pos_rule="antialias")),
    "dino_vits16": Spec("vit", DINO.format("deitsmall16", "pretrain"), None, SHORT_256, SMALL | P16 | OFFSET),
    "dino_vits8": Spec("vit", DINO.format("deitsmall8", "pretrain"), None, SHORT_256, SMALL | P8 | OFFSET),
    "dino_vitb16": Spec("vit", DINO.format("vitbase16", "pretrain"),
                        "bf34ad0f424b9029b593e8dc3ed553bf26e88bcba0d32bf3e62a6209cb64c85e",
                        SHORT_256, BASE | P16 | OFFSET),
    "dino_vitb8": Spec("vit", DINO.format("vitbase8", "pretrain"), None, SHORT_256, BASE | P8 | OFFSET),
    "dino_vits16_linear": Spec("linear", DINO.format("deitsmall16", "linearweights")),
    "dino_vits8_linear": Spec("linear", DINO.format("deitsmall8", "linearweights")),
    **{f"demo_{kind}{depth}": Spec("vit", None, None, CROP_224, DEMO | dict(depth=depth),
                                   f"demo_{kind}{depth}.pth")  # made by exp05_train_vits.py
       for kind in ("dino", "sl") for depth in (4, 8, 12)},
    "demo_dino12_linear": Spec("linear", None, file="demo_dino12_linear.pth"),
    "demo_resnet": Spec("resnet", None, None, CROP_224, file="demo_resnet.pth")}


# -------------------------------------------------------------------------------- files

def weight_file(path: str | Path) -> Path:
    """The path, or of a folder as save_pretrained writes it the file of weights in it."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return path / name
    raise InputError(f"{path}: a folder without model.safetensors or pytorch_model.bin; give the weight file "
                     "itself (weights in several files: save them in one first, with max_shard_size).")


def must_exist(*paths: Path | None) -> None:
    """InputError: a weight file that was named is not there; asked before any others are downloaded."""
    for path in paths:
        if path and not path.exists():
            raise InputError(f"{path}: no such weight file; correct the path.")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """State dict of a .safetensors or torch file, on the CPU; no code in the file is run.
    A folder of save_pretrained: its model.safetensors or pytorch_model.bin. Nested checkpoints are opened at
    `teacher`, `model`, `state_dict`; of keys teacher.* and student.* the teacher's stay. The prefixes
    `module.`, `backbone.`, `_orig_mod.`, `model.`, `net.` are cut. InputError: not names and finite tensors
    alone."""
    path = weight_file(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weight file; give the path of a .pth, .bin or .safetensors file.")
    if path.suffix == ".safetensors" and not find_spec("safetensors"):
        raise InputError(f"{path}: needs the package safetensors; pip install safetensors, or give a .pth.")
    with input_errors(path, "finite real tensors alone, as torch.save(model.state_dict(), path) writes them"):
        if path.suffix == ".safetensors":
            import safetensors.torch
            state = safetensors.torch.load_file(path)
        else:  # full DINO checkpoints hold their arguments as a Namespace
            with torch.serialization.safe_globals([argparse.Namespace]):
                state = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("teacher", "model", "state_dict"):
            if isinstance(state, dict) and isinstance(state.get(key), dict):
                state = state[key]
        if not isinstance(state, dict) or not state:
            raise ValueError(f"a {type(state).__name__} that is no state dict (names to tensors)")
        for key, value in state.items():
            if value.is_complex() or not value.isfinite().all():
                raise ValueError(f"NaN, infinity or complex numbers in {key}")
    for network in ("teacher.", "student."):
        if any(str(key).startswith(network) for key in state):
            state = {key.removeprefix(network): v for key, v in state.items() if key.startswith(network)}
    return {re.sub(r"^((module|backbone|_orig_mod|model|net)\.)+", "", str(k)): v for k, v in state.items()}


def locate_weights(spec: Spec) -> Path:
    """Path of a row's file: in the project, or in torch's folder ($TORCH_HOME/hub/checkpoints), where it is
    downloaded when absent. Its sha256 is checked every time, or printed where none is known. What does not
    match is never deleted: a new download is kept as FILE.mismatch, a file that was there stays."""
    if spec.url is None:
        path = ROOT / "checkpoints" / spec.file
        if not path.is_file():
            raise InputError(f"{path}: not there; checkpoints/README.md gives the command that makes it.")
        return path
    path = Path(torch.hub.get_dir(), "checkpoints", spec.file or spec.url.split("/")[-1])
    with first_process_first():
        return downloaded(spec, path)


def downloaded(spec: Spec, path: Path) -> Path:
    """`locate_weights` of a file that has an address, by one process after the first."""
    file = path
    if not path.is_file():
        file = path.with_name(f"{path.name}.{os.getpid()}")  # it gets its name when it has been checked
        with input_errors(f"{spec.url} cannot be downloaded", f"a connection; get it elsewhere and put it at "
                          f"{path}, or pass --weights PATH (sha256: {spec.sha256 or 'none known'})"):
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(spec.url, str(file), progress=sys.stderr.isatty())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if spec.sha256 and not digest.startswith(spec.sha256):
        kept, again = path, "move it away to get it anew"
        if file != path:
            kept, again = Path(f"{path}.mismatch"), "run again to get it anew"
            os.replace(file, kept)
        raise InputError(f"{kept}: sha256 is {digest}, expected {spec.sha256} of {spec.url}; {again}, or "
                         "pass a file that you trust with --weights PATH.")
    if not spec.sha256:
        print(f"{path}: sha256 {digest}, none is known to compare it with")
    if file != path:
        os.replace(file, path)
    return path


# -------------------------------------------------------------------------------- key layouts

RENAMED_KEYS = {  # in this order
    # Hugging Face ViT, DeiT and DINOv2, in files and in the modules of transformers 5
    "vit.": "", "deit.": "", "dinov2.": "", "dinov2_with_registers.": "",
    "embeddings.register_tokens": "register_tokens", "embeddings.mask_token": "mask_token",
    "embeddings.distillation_token": "dist_token", "distillation_classifier": "head_dist",
    "cls_classifier": "head", "layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma",
    "embeddings.cls_token": "cls_token", "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj", "embeddings.patch_embeddings":
    "patch_embed.proj", "mlp.up_proj": "mlp.fc1", "mlp.down_proj": "mlp.fc2",  # DINOv3
    "storage_tokens": "register_tokens", "encoder.layer.": "blocks.",
    "attention.attention.query": "attn.q", "attention.attention.key": "attn.k",
    "attention.attention.value": "attn.v", "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2", "attention.q_proj": "attn.q",
    "attention.k_proj": "attn.k", "attention.v_proj": "attn.v", "attention.o_proj": "attn.proj",
    "layernorm_before": "norm1", "layernorm_after": "norm2", "layernorm": "norm", "classifier": "head",
    # torchvision vit_b_16 (its released file has mlp.linear_1)
    "class_token": "cls_token", "encoder.pos_embedding": "pos_embed", "conv_proj": "patch_embed.proj",
    "encoder.layers.encoder_layer_": "blocks.", "layers.": "blocks.", "ln_1": "norm1", "ln_2": "norm2",
    "self_attention.in_proj_": "attn.qkv.", "self_attention.out_proj": "attn.proj", "mlp.0.": "mlp.fc1.",
    "mlp.linear_1": "mlp.fc1", "mlp.3.": "mlp.fc2.", "mlp.linear_2": "mlp.fc2", "encoder.ln": "norm",
    "heads.head": "head",
    "reg_token": "register_tokens",  # timm
    ".gamma_1": ".ls1.gamma", ".gamma_2": ".ls2.gamma"}  # DeiT-III
# not of the encoder; the projections of DINO and DINOv2
DROPPED_KEYS = (r"mask_token|rope_embed\.periods|pooler\..*|head\.(mlp|last_layer)\..*|"
                r"(dino|ibot)(_patch)?_(head|loss)\..*")
ROTARY_KEYS = r"mlp\.up_proj|^rope_embed\."  # DINOv3, of Hugging Face and of its own repository
REFUSED_KEYS = {  # a part of a key that no ViT built here has -> what it belongs to
    r"mlp\.(w12|w3|weights_in|gate_proj|fc1_g)\b": "a SwiGLU MLP (DINOv2 giant, DINOv3 H+), not built here",
    r"attn_pool|head\.probe": "SigLIP, which has no CLS token",
    r"vision_model|visual\.|class_embedding|pre_layrnorm|^norm_pre\.|text_model":
        "CLIP, which normalises before the first block and has another MLP",
    r"decoder": "the decoder of a masked autoencoder; save its encoder alone",
    r"lambda_1|relative_position": "BEiT or Swin, whose positions are relative; not built here",
    r"(^|\.)[qk]_norm\.": "normalised queries and keys, not built here",
    r"\.(attns|ffns)\.\d": "parallel blocks (18x2), not built here",
    r"fc_norm": "a classifier of the mean of all patches, not of CLS"}


NEEDED_KEYS = {  # a key of timm -> why a published file lacks it
    "cls_token": "the model takes the mean of its patches (I-JEPA, SigLIP ...), and CLS is studied here",
    "pos_embed": "of DINOv3 take Hugging Face's or Meta's file of the same weights instead of timm's",
    "blocks.0.attn.qkv.bias": "a model without bias on queries, keys and values (qkv_bias) is not built here"}
NO_CLS_POSITION = r"^reg_token$|\.gamma_1$"  # timm's registers; DeiT-III


def no_cls_position(state: dict[str, Tensor], img_size: Sequence[int] | None = None) -> bool:
    """Whether the positions are those of a square of patches alone: in layouts with NO_CLS_POSITION. timm's
    DeiT-III and DINOv2 without its mask token have the same keys, so img_size (img_h, img_w) decides, and
    ValueError asks for it."""
    n = state.get("pos_embed", torch.empty(1, 0)).shape[1]
    if n == 0 or math.isqrt(n) ** 2 != n:
        return False
    if any(re.search(NO_CLS_POSITION, key) for key in state):
        return True
    if "blocks.0.ls1.gamma" not in state or "mask_token" in state:
        return False
    if img_size is None:
        raise ValueError(f"{n} positions, of a square of patches (DeiT-III) or of CLS and {n - 1} patches "
                         '(DINOv2); write {"image_size": [img_h, img_w]} into a config.json beside the file')
    patch = state["patch_embed.proj.weight"].shape[-1]
    return (img_size[0] // patch) * (img_size[1] // patch) == n


def to_timm_keys(state: dict[str, Tensor], img_size: Sequence[int] | None = None) -> dict[str, Tensor]:
    """State dict of timm, DINO, DeiT, DINOv2, Hugging Face ViT or torchvision vit_b_16 with timm's keys,
    q, k, v stacked, a position for CLS, the distillation token as a register. DROPPED_KEYS go, REFUSED_KEYS
    raise ValueError; any other key stays, for the strict load to refuse."""
    for pattern, owner in REFUSED_KEYS.items():
        for key in state:
            if re.search(pattern, key):
                raise ValueError(f"{key} belongs to {owner}")
    out = {}
    for key, value in state.items():
        for old, new in RENAMED_KEYS.items():
            key = key.replace(old, new)
        key = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key)  # chunks of blocks in DINOv2
        key = re.sub(r"^layer\.", "blocks.", key)  # DINOv3
        if value.numel() and not re.fullmatch(DROPPED_KEYS, key):  # empty: no registers
            out[key] = value
    if any(re.search(ROTARY_KEYS, key) for key in state):  # mostly no bias on k; positions are no weights
        for key in [k for k in out if k.endswith(".attn.q.bias")]:
            out.setdefault(key.replace(".q.", ".k."), torch.zeros_like(out[key]))
        for key in [k for k in out if k.endswith(".attn.qkv.bias_mask")]:
            out[key.removesuffix("_mask")] = out[key.removesuffix("_mask")] * out.pop(key)
        out["pos_embed"] = torch.zeros(1, 2, len(out["norm.weight"]))
    for key in [k for k in out if ".attn.q." in k]:
        parts = [out.pop(key.replace(".q.", f".{part}.")) for part in "qkv"]
        out[key.replace(".q.", ".qkv.")] = torch.cat(parts)
    for key, why in NEEDED_KEYS.items():
        if key not in out:
            longer = [name for name in out if name.endswith(f".{key}")]
            if longer:
                why = f"{longer[0]} is there; save the weights without what stands before {key}"
            raise ValueError(f"no {key}: {why}")
    if no_cls_position(state, img_size):
        out["pos_embed"] = F.pad(out["pos_embed"], (0, 0, 1, 0))
    if "dist_token" in out:  # distilled DeiT: a second token, with a position of its own
        cls, own, patches = out["pos_embed"].tensor_split([1, 2], 1)
        out["register_tokens"], out["pos_embed"] = out.pop("dist_token") + own, torch.cat([cls, patches], 1)
    return out


# -------------------------------------------------------------------------------- what lies beside a file

def config_beside(path: Path) -> dict:
    """{"num_heads", "eps", "width", "depth", "patch", "img_size", "preprocess"}: what config.json (Hugging
    Face's or timm's) and preprocessor_config.json in the folder of a weight file say of it; what they do not
    say is left out. InputError: what they say is not built here."""
    told, files = {}, {}
    for name in ("config.json", "preprocessor_config.json"):
        file = path.with_name(name)
        if file.is_file():
            with input_errors(file, "the JSON object that save_pretrained or timm writes beside weights"):
                files[name] = dict(json.loads(file.read_text(encoding="utf-8-sig")))
    model, image = files.get("config.json", {}), files.get("preprocessor_config.json", {})
    with input_errors(path.parent, "config.json and preprocessor_config.json of one Vision Transformer"):
        for name, key in (("num_attention_heads", "num_heads"), ("layer_norm_eps", "eps"),
                          ("hidden_size", "width"), ("num_hidden_layers", "depth"), ("patch_size", "patch"),
                          ("num_features", "width")):  # the last one is timm's
            if model.get(name) is not None:  # transformers writes null where it has a default
                told[key] = model[name]
                if not isinstance(told[key], (int, float, list)):
                    raise ValueError(f"{name} is {told[key]!r}, no number")
        for key, built in (("hidden_act", "gelu"), ("rope_theta", 100)):
            if model.get(key, built) != built:
                raise ValueError(f"{key} {model[key]}, and {built} alone is built here")
        size = model.get("image_size")
        if size is not None and "rope_theta" not in model:  # rotary: of no size
            told["img_size"] = tuple(size) if isinstance(size, list) else (size, size)
        of_timm = model.get("pretrained_cfg", model)  # older files of timm are flat
        if str(model.get("architecture")).startswith("deit3"):
            told["img_size"] = tuple(of_timm["input_size"][1:])
        if image:
            told["preprocess"] = hugging_face_preprocess(image)
        elif "mean" in of_timm:
            told["preprocess"] = timm_preprocess(of_timm)
    return told


def hugging_face_preprocess(config: dict) -> Preprocess:
    """What a preprocessor_config.json says: squashed, or short side and crop (as DeiT's own code does).
    ValueError: steps that `Preprocess` does not take."""
    def side(size: int | dict) -> int | tuple[int, int]:
        if isinstance(size, int):
            return size
        h, w = (size["shortest_edge"],) * 2 if "shortest_edge" in size else (size["height"], size["width"])
        return h if h == w else (h, w)
    for key in ("do_resize", "do_rescale"):
        if config.get(key) is False:
            raise ValueError(f"{key} is false, and images are always resized and scaled to 0 ... 1 here")
    if abs(config.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-3:
        raise ValueError(f"rescale_factor {config['rescale_factor']}, and 1/255 alone is built here")
    size, crops = config["size"], config.get("do_center_crop")
    resize, mean, std = side(size), (0., 0., 0.), (1., 1., 1.)
    short = isinstance(size, dict) and "shortest_edge" in size
    if short and not crops or crops and not isinstance(resize, int):
        raise ValueError(f"size {size}, do_center_crop {crops}: a short side goes with a crop here")
    if config.get("do_normalize") is not False:
        mean, std = tuple(config["image_mean"]), tuple(config["image_std"])
    how = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}[config.get("resample", 2)]
    crop = side(config["crop_size"]) if crops else resize
    return Preprocess(resize if isinstance(resize, int) else None, crop, mean, std, how, squash=not crops)


def timm_preprocess(config: dict) -> Preprocess:
    """What timm's pretrained_cfg says: short side to the crop's side / crop_pct, or squashed. ValueError:
    steps that `Preprocess` does not take."""
    _, img_h, side = config["input_size"]
    mode, how = config.get("crop_mode", "center"), config["interpolation"]
    share = config.get("crop_pct", 0.875)  # of the side that is kept; timm crops after a squash too
    is_built = mode == "center" or mode == "squash" and share == 1
    if img_h != side or not is_built or how not in ("bilinear", "bicubic"):
        raise ValueError(f"input_size {config['input_size']}, crop_mode {mode}, crop_pct {share}, "
                         f"interpolation {how}: not built here, but squares, center or a squash with "
                         "crop_pct 1, and bilinear or bicubic are")
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Preprocess(math.floor(side / share), side, mean, std, how, squash=mode == "squash")


# -------------------------------------------------------------------------------- models

# Heads of a block by width, which no weight file says (Ti, S, B, L, H, g, G of their papers; 96: the demo's)
HEADS = {96: 6, 192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16}


def vit_from_state(state: dict[str, Tensor], **overrides) -> VisionTransformer:
    """VisionTransformer (float32, eval mode) with the weights of a state dict in a layout of `to_timm_keys`.
    From the shapes: width, depth, patch, MLP, classes, LayerScale, registers, square grid. Assumed:
    heads by the table HEADS (no file stores them); eps 1e-12 for Hugging Face's ViT, 1e-5 for DINOv3, else
    1e-6; pos_rule "antialias" with registers, "offset" with LayerScale (DINOv2's own files), else "size".
    overrides: arguments of VisionTransformer that say otherwise. The load is strict."""
    rotary = any(re.search(ROTARY_KEYS, key) for key in state)
    eps = 1e-5 if rotary else 1e-12 if any("layernorm_before" in key for key in state) else 1e-6
    with input_errors("the weights do not fit", "the whole state dict of a ViT; name its model"):
        distilled = any(re.search(r"(dist|distillation)_token$", key) for key in state)
        own_rule = any("layer_scale1" in key for key in state)  # Hugging Face's DINOv2: not the official rule
        own_rule |= no_cls_position(state, overrides.get("img_size"))  # DeiT-III
        state = to_timm_keys(state, overrides.get("img_size"))
        width, patch = state["cls_token"].shape[-1], state["patch_embed.proj.weight"].shape[-1]
        registers = state["register_tokens"].shape[1] if "register_tokens" in state else 0
        layerscale = 1.0 if "blocks.0.ls1.gamma" in state else None
        if width not in HEADS and "num_heads" not in overrides:
            raise ValueError(f"no file says how many heads a ViT {width} wide has; give num_heads (--heads)")
        patches = state["pos_embed"].shape[1] - 1
        if math.isqrt(patches) ** 2 != patches and "img_size" not in overrides:
            raise ValueError(f"positions of CLS and {patches} patches, no square; give img_size=(img_h, "
                             'img_w) or, in a config.json beside the file, "image_size": [img_h, img_w]')
        rule = "antialias" if registers else "offset" if layerscale and not own_rule else "size"
        inferred = dict(
            img_size=math.isqrt(patches) * patch, patch_size=patch, embed_dim=width,
            depth=len({key.split(".")[1] for key in state if key.startswith("blocks.")}),
            num_heads=HEADS.get(width), num_classes=len(state.get("head.weight", ())), eps=eps,
            mlp_ratio=len(state["blocks.0.mlp.fc1.weight"]) / width, layerscale=layerscale,
            registers=registers, distilled=distilled, rotary=rotary, pos_rule="size" if distilled else rule)
        model = VisionTransformer(**inferred | overrides)
        model.load_state_dict(state)
    return model.eval()


def load_vit(name: str, weights: str | Path | None = None, num_heads: int | None = None
             ) -> tuple[VisionTransformer, Preprocess]:
    """(model, preprocess) of a "vit" row of WEIGHTS: float32, on the CPU, in eval mode, loaded strictly.
    weights: a file instead of the row's own, whose sha256 is not checked. name "auto": architecture from that
    file (`vit_from_state`) and from the configuration beside it (`config_beside`); what neither says is
    assumed and printed. num_heads: of a block, for "auto" alone. Name DINO's files: they do not say their
    pos_rule."""
    names = [n for n, spec in WEIGHTS.items() if spec.kind == "vit"]
    if name not in names and not (name == "auto" and weights is not None):
        raise InputError(f"no model {name}; expected {', '.join(names)}, or auto with --weights PATH.")
    if name != "auto" and num_heads is not None:
        raise InputError(f"--heads {num_heads}: {name} has heads of its own; it belongs to --model auto.")
    path = locate_weights(WEIGHTS[name]) if weights is None else Path(weights)
    if name == "auto":
        return load_any_vit(path, num_heads)
    try:
        return vit_from_state(read_state_dict(path), **WEIGHTS[name].arch), WEIGHTS[name].preprocess
    except InputError as e:
        raise InputError(f"{path}: {e}") from e


def load_any_vit(path: Path, num_heads: int | None) -> tuple[VisionTransformer, Preprocess]:
    """load_vit("auto"): prints what was assumed, because neither the file nor those beside it say it."""
    path = weight_file(path)
    state, told = read_state_dict(path), config_beside(path)
    pre = told.pop("preprocess", None)
    of_config = {name: told.pop(name) for name in ("width", "depth", "patch") if name in told}
    if num_heads is not None:
        told["num_heads"] = num_heads
    head = state.get("classifier.weight")
    tokens = [value for key, value in state.items() if key.endswith("cls_token")]
    assumed = []
    if head is not None and tokens and head.shape[-1] == 2 * tokens[0].shape[-1]:
        state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
        assumed.append("no classifier (the file's takes the mean of the patches beside CLS: left out)")
    try:
        model = vit_from_state(state, **told)
    except InputError as e:
        raise InputError(f"{path}: {e}") from e
    of_file = dict(width=model.embed_dim, depth=len(model.blocks), patch=model.patch_size)
    for name, value in of_config.items():
        if value not in (of_file[name], [of_file[name]] * 2):
            raise InputError(f"{path}: {name} {of_file[name]}, but config.json beside it says {value}; keep "
                             "each model's files in a folder of their own.")
    if "num_heads" not in told:
        assumed.append(f"{model.num_heads} heads a block (--heads says otherwise)")
    if "eps" not in told:
        assumed.append(f"an eps of {model.norm.eps} in LayerNorm")
    if pre is None:
        deit = any(key.startswith("deit.") for key in state)  # 256, then 224; eps 1e-12: Hugging Face's
        pre = VIT_SQUASHED if model.norm.eps == 1e-12 and not deit else SHORT_256
        resize = f"squashed to {pre.crop}" if pre.squash else f"short side {pre.resize}, crop {pre.crop}"
        assumed.append(f"images {resize}, {pre.interpolation}, mean {pre.mean}, SD {pre.std} (a "
                       "preprocessor_config.json or timm's config.json beside the file says otherwise)")
    if assumed:
        print(f"{path}: assumed {'; '.join(assumed)}")
    return model, pre


def load_resnet(name: str, weights: str | Path | None = None) -> tuple[ResNet, Preprocess]:
    """(model, preprocess) of the rows "resnet50" and "demo_resnet": float32, on the CPU, in eval mode.
    weights: as in load_vit, of any of torchvision's ResNets of bottleneck blocks; the load is strict."""
    if name not in ("resnet50", "demo_resnet"):
        raise InputError(f"no model {name}; expected resnet50 or demo_resnet.")
    path = locate_weights(WEIGHTS[name]) if weights is None else Path(weights)
    state = read_state_dict(path)
    with input_errors(path, "the weights of a ResNet of bottleneck blocks, such as torchvision's ResNet-50"):
        blocks = [len({k.split(".")[1] for k in state if k.startswith(f"layer{i}.")}) for i in range(1, 5)]
        model = ResNet(Bottleneck, blocks, len(state["fc.bias"]),
                       width_per_group=len(state["layer1.0.conv1.weight"]))
        model.load_state_dict(state)
    return model.eval(), WEIGHTS[name].preprocess


def load_head(name: str | Path) -> nn.Linear:
    """Linear classifier of a row ("dino_vits16" or "dino_vits16_linear") or a path: DINO's linear files
    (`state_dict` with `module.linear.*`) or a plain {weight, bias}. dino_vits*: CLS of the last 4 blocks."""
    spec = WEIGHTS.get(f"{name}_linear") or WEIGHTS.get(str(name))
    path = locate_weights(spec) if spec and spec.kind == "linear" else Path(name)
    state = {k.removeprefix("linear."): v for k, v in read_state_dict(path).items()}
    with input_errors(path, "weight (classes, d) and bias (classes,) alone"):
        classes, width = state["weight"].shape
        head = nn.Linear(width, classes)
        head.load_state_dict(state)
    return head.eval()


# -------------------------------------------------------------------------------- tuned weights

def attention_state(vit: nn.Module) -> dict[str, Tensor]:
    """q, k, v and output projections of all blocks, weights and biases: what exp01 tunes and keeps."""
    return {k: v for k, v in vit.state_dict().items() if ".attn." in k}


def weights_sha256(weights: Iterable[Tensor]) -> bytes:
    """SHA-256 of the bytes of tensors, one after the other."""
    sha = hashlib.sha256()
    for value in weights:
        sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return sha.digest()


def frozen_sha256(net: nn.Module, tuned_state: Callable = attention_state) -> Tensor:
    """SHA-256, 32 uint8, of what is not tuned: a file of tuned weights keeps it to know the model it fits."""
    tuned = tuned_state(net)
    frozen = [value for key, value in net.state_dict().items() if key not in tuned]
    return torch.tensor(list(weights_sha256(frozen)), dtype=torch.uint8)


def load_tuned(net: nn.Module, path: str | Path, tuned_state: Callable = attention_state) -> nn.Module:
    """A copy of net, in eval mode, with the weights of a file that exp01 or exp02 wrote; others are net's.
    tuned_state(net): the entries of its state dict that such a file holds, beside `frozen_sha256`.
    InputError: a file of another architecture, or tuned from a model with other frozen weights."""
    state, own = read_state_dict(path), tuned_state(net)
    base = state.pop("frozen_sha256", None)  # older files have none
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in own.items()}:
        raise InputError(f"{path}: {len(state)} tensors ({next(iter(state), None)} ...), expected the "
                         f"{len(own)} tuned weights of this model ({next(iter(own))} ...); name the one that "
                         "was tuned.")
    if base is not None and not torch.equal(base, frozen_sha256(net, tuned_state)):
        raise InputError(f"{path}: was tuned from another model, whose untuned weights differ; "
                         "name that model with --model or --weights, or tune this one.")
    net = copy.deepcopy(net)
    net.load_state_dict(net.state_dict() | {k: v.to(own[k]) for k, v in state.items()})
    return net.eval()
