"""Shared cookbook: devices and processes, Vision Transformer, attention maps, fixation maps and metrics,
statistics. Plain functions and modules that can be copied alone. Shapes in comments use one legend:

    B batch   L layers (blocks)   H heads   N tokens   D width   h, w patch grid   img_h, img_w pixels

Row comes before column everywhere; blocks are 0-based (`block 11` is layer 12 of 12). Input that cannot be
used raises InputError with one sentence: what was found, what was expected, what to do."""
from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from scipy import ndimage, special, stats
from torch import Tensor

ROOT = Path(__file__).resolve().parent


class InputError(ValueError):
    """Wrong input, told in one sentence: found, expected, what to do. Scripts turn it into exit status 2."""

    def __init__(self, sentence: str):
        super().__init__(" ".join(sentence.split()))  # one line, whatever the names in it


@contextmanager
def input_errors(where: str | Path, expected: str) -> Iterator[None]:
    """Whatever the parser of a bad file raises becomes InputError("where: what went wrong; expected ...")."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the parsers of JSON, CSV, MATLAB, zip and image files know some thirty kinds
        found = str(error) if isinstance(error, (OSError, ValueError)) else repr(error)
        raise InputError(f"{where}: {found[:300]}; expected {expected}") from error


# -------------------------------------------------------------------------------- devices and processes

def pick_device(name: str | None = None) -> torch.device:
    """The named device, or the first there is of cuda, mps, cpu; cuda: the GPU of torchrun's LOCAL_RANK.
    Turns TF32 off: float32 means float32, in convolutions too, whose default on CUDA rounds to 10 bits.
    InputError: no such device, or a Mac's GPU whose attention differs from the processor's."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as e:
        raise InputError(f"--device {name} cannot be used here ({str(e).splitlines()[0]}); leave it out to "
                         "take the best there is; start no more processes than there are GPUs.") from e
    if device.type == "mps":  # a fault of some releases for few queries (PyTorch 163597, 169222, 181133)
        q, k, v = torch.randn(1, 8, 3, 2, 64, generator=generator(0)).permute(2, 0, 3, 1, 4)
        there = attend(q.to(device), k.to(device), v.to(device)).cpu()
        if not torch.allclose(there, attend(q, k, v), atol=1e-3):
            raise InputError(f"torch {torch.__version__} computes attention wrongly on this Mac's GPU; use "
                             "--device cpu or another release of torch.")
    return device


def generator(*key: int) -> torch.Generator:
    """A CPU random generator that is a pure function of integers >= 0, e.g. generator(seed, epoch, index).
    Keys that differ only in trailing zeros are one key (numpy's SeedSequence): end them with a constant."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def init_distributed(device: torch.device | None = None) -> tuple[int, int]:
    """(rank, world). A process group is made only when torchrun has set the environment; else (0, 1).
    device: where this process computes (default: pick_device()); nccl on cuda, gloo elsewhere."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        return 0, 1
    if not dist.is_initialized():
        device = device or pick_device()
        if device.type == "mps":
            raise InputError("torchrun on a Mac: processes cannot add up tensors of the one GPU (mps); run "
                             "without torchrun, or with --device cpu.")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(days=1))  # the fastest may wait for hours
    return rank_world()


def rank_world() -> tuple[int, int]:
    """(rank, world) of the running process group; (0, 1) without one."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def shard(items: Sequence) -> Sequence:
    """This process's share, items[rank::world]: no padding and no duplicates, unlike DistributedSampler."""
    rank, world = rank_world()
    return items[rank::world]


def training_order(n: int, batch: int, seed: int, start: int, stop: int) -> Iterator[list[tuple[int, int]]]:
    """This process's part of the global batches of the steps from start to stop, as (epoch, index).

    The order is a pure function of (seed, epoch). Processes take contiguous parts; their union is the batch
    of a single process. The last, incomplete batch of an epoch is dropped.
    """
    rank, world = rank_world()
    current, order = None, []
    for step in range(start, stop):
        epoch, i = divmod(step, n // batch)
        if epoch != current:
            order = torch.randperm(n, generator=generator(seed, 0, epoch)).tolist()
            current = epoch
        first = i * batch + rank * batch // world
        yield [(epoch, j) for j in order[first:first + batch // world]]


def barrier() -> None:
    """Wait for all processes; does nothing without a process group."""
    if dist.is_initialized():
        dist.barrier()


def gather_rows(rows: list) -> list:
    """The rows of all processes in rank order, on every process."""
    parts = [rows] * rank_world()[1]
    if dist.is_initialized():
        dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


@contextmanager
def first_process_first() -> Iterator[None]:
    """The first process runs the block before the others do: what it draws or downloads, they find there."""
    if rank_world()[0] > 0:
        barrier()
    try:
        yield
    except InputError:
        if rank_world()[0] == 0:
            barrier()  # the others meet the same fault
        raise
    if rank_world()[0] == 0:
        barrier()


# -------------------------------------------------------------------------------- ViT

def rotary_angles(h: int, w: int, width: int, device: torch.device) -> Tensor:
    """Cosines and sines (h w, width) of DINOv3's rotary positions for heads `width` wide: width/4 frequencies
    100^(-4i/width), times 2 pi and the patch centre's row and column in -1 ... 1 of the image."""
    rows, cols = (2 * (torch.arange(n, device=device) + 0.5) / n - 1 for n in (h, w))
    centres = torch.stack(torch.meshgrid(rows, cols, indexing="ij"), -1).flatten(0, 1)  # (h w, 2)
    frequencies = 100.0 ** -torch.arange(0, 1, 4 / width, device=device)  # (width / 4,)
    angles = (2 * math.pi * centres[..., None] * frequencies).flatten(1)  # (h w, width / 2)
    return torch.cat([angles.cos(), angles.sin()], 1)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Queries or keys (B, H, N, d) turned in d/2 planes by cosines and sines turn (B, N, d)."""
    cos, sin = turn[:, None].to(x.dtype).chunk(2, -1)  # (B, 1, N, d/2)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of (B, H, N, d) by the fused kernel, heads side by side: (B, N, H d)."""
    if q.device.type == "mps":  # its kernel is reported wrong on permuted views (PyTorch 181133)
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)


def attend_in_groups(q: Tensor, k: Tensor, v: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
    """attend of q, k, v (1, H, N, d) that hold n sets of m tokens, for (n, m) of the first group, then those
    of the next group ...; each set attends to itself alone."""
    found = []
    rows = [t[0].split([n * m for n, m in groups], 1) for t in (q, k, v)]  # (H, n m, d) each
    for (n, m), *parts in zip(groups, *rows):
        sets = attend(*(part.unflatten(1, (n, m)).transpose(0, 1) for part in parts))  # (n, m, H d)
        found.append(sets.flatten(0, 1))
    return torch.cat(found)[None]


class Attention(nn.Module):
    """Multi-head self-attention, by the fused kernel unless the full matrix is wanted.
    forward(x (B, N, D), want) -> (out (B, N, D), attn): want None gives attn None, "cls" the softmax row of
    token 0 (B, H, N) at the cost of one query, "full" the matrix (B, H, N, N) with gradients, "first" token
    0's row of it (B, H, 1, N) and output (B, 1, D) alone. turn: rotary positions or None. With want None:
    groups, sets of tokens in x (1, N, D), see `attend_in_groups`; mask (B, 1, N, N), if query sees key."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, want: str | None = None, turn: Tensor | None = None, groups: Sequence = (),
                mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # each (B, H, N, D/H)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        scale, attn = q.shape[-1] ** -0.5, None
        exact = torch.promote_types(q.dtype, torch.float32)  # half precisions are too coarse for a softmax
        if want == "first":
            q = q[:, :, :1]
        if want in ("full", "first"):
            attn = (scale * q @ k.transpose(-2, -1)).softmax(-1, dtype=exact)  # (B, H, N, N)
            out = (attn.to(v.dtype) @ v).transpose(1, 2).flatten(2)
        else:
            out = attend_in_groups(q, k, v, groups) if groups else attend(q, k, v, mask)
        if want == "cls":  # one query against all keys: O(N) memory instead of O(N^2)
            with torch.autocast(q.device.type, enabled=False):  # bfloat16 logits would tie at the maximum
                row = scale * q[:, :, :1].to(exact) @ k.to(exact).transpose(-2, -1)  # (B, H, 1, N)
            attn = row.softmax(-1)[:, :, 0]  # (B, H, N)
        return self.proj(out), attn


class LayerScale(nn.Module):
    """Learned gain per channel on a residual branch (DINOv2)."""

    def __init__(self, dim: int, value: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block with optional LayerScale and stochastic depth (in training, a branch is
    dropped for a whole sample with probability drop_path and the others scaled by 1 / (1 - drop_path))."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, eps: float, layerscale: float | None,
                 drop_path: float):
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.attn = Attention(dim, num_heads)
        layers = OrderedDict(fc1=nn.Linear(dim, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, dim))
        self.mlp = nn.Sequential(layers)
        self.ls1 = nn.Identity() if layerscale is None else LayerScale(dim, layerscale)
        self.ls2 = nn.Identity() if layerscale is None else LayerScale(dim, layerscale)
        self.drop_path = drop_path

    def residual(self, x: Tensor, branch: Tensor) -> Tensor:
        if self.training and self.drop_path > 0:
            keep = 1 - self.drop_path
            branch = branch * (torch.rand(len(x), 1, 1, device=x.device) < keep) / keep
        return x + branch

    def forward(self, x: Tensor, want: str | None = None, turn: Tensor | None = None, groups: Sequence = (),
                mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        y, attn = self.attn(self.norm1(x), want, turn, groups, mask)
        x = self.residual(x[:, :y.shape[1]], self.ls1(y))
        return self.residual(x, self.ls2(self.mlp(self.norm2(x)))), attn


class Encoded(NamedTuple):
    """What VisionTransformer.encode returns."""
    tokens: Tensor          # (B, N, D) after the last block run, before the final norm; cls_only: (B, 1, D)
    cls: Tensor             # (B, L, D) CLS token after every block, before the final norm
    cls_attn: list[Tensor]  # per requested block: softmax row of the CLS query, (B, H, N)
    attn: list[Tensor]      # per block with full_attn: (B, H, N, N); cls_only: the last (B, H, 1, N)


class VisionTransformer(nn.Module):
    """Vision Transformer (Dosovitskiy et al. 2021) with the state-dict keys of timm and DINO.
    img_size only fixes the shape of the stored position embedding: any input whose sides are multiples of
    patch_size runs, square or not. Tokens are ordered CLS, registers, patches (row-major); n_prefix counts
    the first two. pos_rule says how position embeddings are resampled to another grid, see `pos_embed_for`.
    forward(x) -> logits (B, num_classes), or the normalised CLS vector (B, D) when num_classes is 0.
    distilled: the token after CLS has a classifier too, head_dist; logits are the mean of both (DeiT).
    rotary: positions turn queries and keys in every block (DINOv3) instead of being added once."""

    def __init__(self, img_size: int | tuple[int, int] = 224, patch_size: int = 16, embed_dim: int = 384,
                 depth: int = 12, num_heads: int = 6, num_classes: int = 0, mlp_ratio: float = 4.0,
                 eps: float = 1e-6, layerscale: float | None = None, registers: int = 0,
                 drop_path: float = 0.0, pos_rule: str = "size", distilled: bool = False,
                 rotary: bool = False):
        super().__init__()
        img_h, img_w = (img_size, img_size) if isinstance(img_size, int) else img_size
        if num_heads < 1 or embed_dim % num_heads:
            raise InputError(f"width {embed_dim} is not a multiple of {num_heads} heads; change one of them.")
        self.patch_size, self.embed_dim, self.num_heads = patch_size, embed_dim, num_heads
        self.grid, self.pos_rule = (img_h // patch_size, img_w // patch_size), pos_rule
        self.rotary = rotary
        self.n_prefix = 1 + registers
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, embed_dim, patch_size, patch_size)))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid[0] * self.grid[1], embed_dim))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, embed_dim))
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]  # rising with depth
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio, eps, layerscale, r) for r in rates)
        self.norm = nn.LayerNorm(embed_dim, eps)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        self.head_dist = nn.Linear(embed_dim, num_classes) if distilled and num_classes else None
        self.init_weights()

    def init_weights(self, gen: torch.Generator | None = None) -> None:
        """Truncated normal (std .02) for linear weights and embeddings, zero biases; randomness is gen's."""
        for name, p in self.named_parameters():
            if name.endswith("gamma") or "norm" in name:
                continue  # LayerScale and LayerNorm start at their constants
            nn.init.trunc_normal_(p, std=0.02, generator=gen) if p.ndim > 1 else nn.init.zeros_(p)

    def embed(self, x: Tensor) -> Tensor:
        """Patch tokens with their position embedding, (B, 3, img_h, img_w) -> (B, h w, D). Rotary positions
        travel beside the tokens, (B, h w, D + D/H), so that a subset of the patches keeps its own."""
        x = torch.as_tensor(x)
        if not x.is_floating_point():
            raise InputError(f"images of {x.dtype}: expected floating-point values; normalise them as "
                             "`preprocess` of load_vit does.")
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[-2] % self.patch_size or x.shape[-1] % self.patch_size:
            raise InputError(f"images of shape {tuple(x.shape)}: expected (B, 3, img_h, img_w), both sides "
                             f"multiples of the patch size {self.patch_size}; resize or crop them, and give "
                             "a single image a batch axis, x[None].")
        x = self.patch_embed(x.to(self.cls_token))  # (B, D, h, w)
        if self.rotary:
            turn = rotary_angles(*x.shape[-2:], self.embed_dim // self.num_heads, x.device).to(x.dtype)
            return torch.cat([x.flatten(2).transpose(1, 2), turn.expand(len(x), -1, -1)], 2)
        pos = pos_embed_for(self.pos_embed[:, 1:], self.grid, x.shape[-2:], self.pos_rule)
        return x.flatten(2).transpose(1, 2) + pos  # (B, h w, D)

    def prefix(self) -> Tensor:
        """CLS with its position, then the registers, which have none, as `embed` gives patches."""
        tokens = self.cls_token + self.pos_embed[:, :1]  # (1, 1, D)
        if self.n_prefix > 1:
            tokens = torch.cat([tokens, self.register_tokens], 1)
        if self.rotary:  # not turned: cosine 1, sine 0
            turn = tokens.new_tensor([1.0, 0.0]).repeat_interleave(self.embed_dim // self.num_heads // 2)
            tokens = torch.cat([tokens, turn.expand(1, self.n_prefix, -1)], 2)
        return tokens

    def encode(self, patches: Tensor, cls_attn: Iterable[int] = (), full_attn: bool = False,
               n_blocks: int | None = None, cls_only: bool = False) -> Encoded:
        """Run the first n_blocks blocks (default: all) on the prefix and all patches of `embed` or a subset
        (B, K, D), as with the other keys masked. cls_attn: blocks whose CLS row is returned beside fused
        attention. full_attn: all matrices, with gradients; cls_only: of the last block the CLS alone."""
        x = torch.cat([self.prefix().expand(len(patches), -1, -1), patches], 1)
        turn, want_cls, cls, rows, matrices = None, set(cls_attn), [], [], []
        if self.rotary:
            x, turn = x.split([self.embed_dim, x.shape[2] - self.embed_dim], 2)  # (B, N, D), (B, N, D/H)
        blocks = self.blocks[:n_blocks]
        for i, block in enumerate(blocks):
            full = "first" if cls_only and i == len(blocks) - 1 else "full"
            want = full if full_attn else "cls" if i in want_cls else None
            x, attn = block(x, want, turn)
            cls.append(x[:, 0].clone())  # a view would keep every block's tokens in memory
            if full_attn:
                matrices.append(attn)
            if i in want_cls:
                rows.append(attn[:, :, 0] if full_attn else attn)
        return Encoded(x, torch.stack(cls, 1), rows, matrices)

    def seen(self, patches: Tensor, keep: Tensor) -> Tensor:
        """Those of the patches (B, N, D) with the indices keep (B, K): (B, K, D). InputError: another shape
        or type or, where looking does not wait for an accelerator, an index not from 0 to N - 1."""
        keep, (B, N, D) = torch.as_tensor(keep), patches.shape
        if keep.ndim != 2 or len(keep) != B or keep.is_floating_point() or keep.dtype == torch.bool:
            raise InputError(f"keep of shape {tuple(keep.shape)}, {keep.dtype}: expected whole numbers, the "
                             f"indices of the patches that are seen, of shape ({B}, K).")
        if keep.device.type == "cpu" and not ((keep >= 0) & (keep < N)).all():
            raise InputError(f"keep holds {keep.min()} to {keep.max()}: expected indices of patches, 0 to "
                             f"{N - 1}.")
        return patches.gather(1, keep.long().to(patches.device)[..., None].expand(-1, -1, D))

    def forward(self, x: Tensor, keep: Tensor | None = None, return_cls_attn: bool = False):
        """Logits (or normalised CLS vector). keep (B, K): indices of the patches that are seen, row-major.
        With return_cls_attn also the CLS rows of all blocks over the seen patches, (B, L, H, K)."""
        patches = self.embed(x)
        if keep is not None:
            patches = self.seen(patches, keep)  # (B, K, D)
        e = self.encode(patches, range(len(self.blocks)) if return_cls_attn else ())
        out = self.head(self.norm(e.tokens[:, 0]))
        if self.head_dist is not None:
            out = (out + self.head_dist(self.norm(e.tokens[:, 1]))) / 2
        return (out, torch.stack(e.cls_attn, 1)[..., self.n_prefix:]) if return_cls_attn else out


@lru_cache(maxsize=128)
def resize_matrix(n_in: int, n_out: int, mode: str, scale: float | None = None,
                  antialias: bool = False) -> Tensor:
    """One-dimensional resampling as a matrix (n_out, n_in): F.interpolate of the unit vectors. A map is
    resized by A_h @ map @ A_w^T: differentiable, deterministic, without kernels that some devices lack.
    scale: F.interpolate's factor."""
    # along the width: torch 2.15's antialiased kernel is wrong along the height of an image one pixel wide
    how = {"size": (1, n_out)} if scale is None else {"scale_factor": (1.0, scale)}
    with torch.inference_mode(False):  # the kept matrix must serve later calls that need gradients
        basis = torch.eye(n_in)[None, :, None]  # (1, channels = n_in, 1, n_in): one unit vector per channel
        out = F.interpolate(basis, mode=mode, align_corners=False, antialias=antialias, **how)
        return out[0, :, 0, :n_out].T.contiguous()  # (1, n_in, 1, n_out) -> (n_out, n_in)


def pos_embed_for(pos: Tensor, grid: tuple[int, int], size: Sequence[int], rule: str) -> Tensor:
    """Patch position embeddings (1, h0 w0, D) resampled bicubically from `grid` (h0, w0) to `size` (h, w).
    Rules, as in the official code of the weights: "offset" (DINO, DINOv2: scale factor (h + 0.1) / h0, which
    shifts the samples), "antialias" (DINOv2 with registers: target size, antialiased), "size" (the rest)."""
    if tuple(size) == tuple(grid):
        return pos
    rows, cols = (resize_matrix(n0, n, "bicubic", (n + 0.1) / n0 if rule == "offset" else None,
                                rule == "antialias").to(pos.device) for n0, n in zip(grid, size))
    with torch.autocast(pos.device.type, enabled=False):
        out = torch.einsum("ih,jw,hwd->ijd", rows, cols, pos.float().view(*grid, -1))  # (h, w, D)
    return out.flatten(0, 1)[None].to(pos.dtype)


# -------------------------------------------------------------------------------- attention

def cls_attention(model: VisionTransformer, x: Tensor, blocks: Sequence[int] | int | None = None) -> Tensor:
    """Attention of the CLS token to every patch, (B, L, H, h, w), of the given blocks (or of one; None: all).
    x (B, 3, img_h, img_w). Softmax rows of the CLS query without the CLS and register columns: a map sums to
    at most 1. Only that row is computed beside fused attention, up to the last block asked for."""
    depth = len(model.blocks)
    blocks = np.ravel(range(depth) if blocks is None else blocks).tolist()
    if not blocks or not all(isinstance(b, int) and 0 <= b < depth for b in blocks):
        raise InputError(f"block {blocks}: this model has blocks 0 to {depth - 1} (0-based).")
    e = model.encode(model.embed(x), blocks, n_blocks=max(blocks) + 1)
    rows = dict(zip(sorted(set(blocks)), e.cls_attn))
    maps = torch.stack([rows[b] for b in blocks], 1)  # (B, L, H, N)
    return maps[..., model.n_prefix:].unflatten(-1, (x.shape[-2] // model.patch_size, -1))


def rollout(attn: Sequence[Tensor] | Tensor, n_prefix: int = 1) -> Tensor:
    """Attention rollout (Abnar & Zuidema 2020): CLS row of prod_l A_l, A_l = rownorm(mean over heads + I).
    attn: L matrices (B, H, N, N), block 0 first; of the last the CLS row (B, H, 1, N) is enough
    -> (B, N - n_prefix), not normalised; with n_prefix 0 a row sums to 1. Differentiable. It is
    e_cls A_L ... A_1: a row vector times matrices from the last block down, O(L N^2) instead of O(L N^3)."""
    attn = [torch.as_tensor(a) for a in attn]
    if not attn or attn[0].ndim != 4:
        raise InputError("rollout takes a matrix (B, H, N, N) per block; give a single image a batch axis.")
    row = torch.zeros_like(attn[0][:, 0, 0])
    row[:, 0] = 1  # (B, N), e_cls
    with torch.autocast(row.device.type, enabled=False):  # half precisions have no digits to spare for it
        for a in reversed(attn):
            a = a.mean(1)  # (B, N, N)
            row = row / (a.sum(-1) + 1)  # the row sums of A + I divide the vector from the left
            row = row + torch.einsum("bi,bij->bj", row[:, :a.shape[1]], a)  # r (A + I) = r + r A
    return row[:, n_prefix:]


def upsample(map: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear up-sampling (align_corners=False) as M_h R M_w^T: (..., h, w) -> (..., img_h, img_w)."""
    map = torch.as_tensor(map)
    map = map if map.is_floating_point() else map.float()
    rows = resize_matrix(map.shape[-2], size[0], "bilinear").to(map)
    cols = resize_matrix(map.shape[-1], size[1], "bilinear").to(map)
    with torch.autocast(map.device.type, enabled=False):
        return rows @ map @ cols.T


def minmax(maps: Tensor) -> Tensor:
    """Each map scaled to [0, 1] over its last two axes; a constant map becomes 0."""
    maps = torch.as_tensor(maps)
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)


# -------------------------------------------------------------------------------- fixations and metrics

def gaussian_blur(maps: Tensor, sigma: float, truncate: float = 4.0) -> Tensor:
    """Gaussian blur of maps (..., img_h, img_w), sigma >= 0 in pixels, zeros outside the map.
    Equals scipy.ndimage.gaussian_filter(mode="constant"): taps within int(truncate sigma + 0.5) px, of sum 1.
    Two matrix products, so batched and differentiable."""
    maps = torch.as_tensor(maps)
    maps = maps if maps.is_floating_point() else maps.float()  # counts may be whole numbers
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return maps
    total = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).double() / sigma) ** 2).sum()
    bands = []  # (n, n) for each side; row i: the taps around pixel i
    for n in maps.shape[-2:]:
        offset = (torch.arange(n)[:, None] - torch.arange(n)).double()
        band = torch.exp(-0.5 * (offset / sigma) ** 2) * (offset.abs() <= radius)
        bands.append((band / total).to(maps))
    with torch.autocast(maps.device.type, enabled=False):
        return bands[0] @ maps @ bands[1]


def scale_fixations(rows, cols, from_size: tuple[int, int], to_size: tuple[int, int]):
    """0-based pixels of an image of from_size (img_h, img_w) -> floored 0-based pixels of a map of to_size.
    SALICON, 1-based v: floor((v - 1) 224/480). Multiplied before divided: whole numbers stay whole."""
    return tuple(np.floor(np.asarray(v, dtype=np.float64) * new / old)
                 for v, old, new in zip((rows, cols), from_size, to_size))


def fixation_counts(rows, cols, size: tuple[int, int], weights=None) -> Tensor:
    """Fixations per pixel, or their summed weights (durations): (img_h, img_w) float64 on the CPU.
    rows, cols: 1-D, 0-based map pixels, floored. Those outside the map or with a NaN anywhere are dropped."""
    rows, cols = (np.floor(np.asarray(v, dtype=np.float64)).ravel() for v in (rows, cols))
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    if not len(rows) == len(cols) == len(weights) or (weights < 0).any():
        raise InputError(f"{len(rows)} rows, {len(cols)} columns, {len(weights)} weights, or one below 0: "
                         "expected one of each per fixation, none negative; check the fixation file.")
    keep = (rows >= 0) & (rows < size[0]) & (cols >= 0) & (cols < size[1]) & np.isfinite(weights)
    pixel = (rows[keep] * size[1] + cols[keep]).astype(np.int64)
    counts = np.bincount(pixel, weights[keep], size[0] * size[1])
    return torch.from_numpy(counts.astype(np.float64)).view(*size)


def density_map(rows, cols, size: tuple[int, int], sigma: float, weights=None) -> Tensor:
    """Fixation density (img_h, img_w) in [0, 1], float64: fixation_counts, Gaussian (sigma px), min-max.
    All zeros without a fixation in the map."""
    counts = fixation_counts(rows, cols, size, weights).numpy()
    density = ndimage.gaussian_filter(counts, sigma, mode="constant")  # zeros outside; ends at 4 sigma
    return torch.from_numpy((density - density.min()) / (np.ptp(density) or 1))


# A metric takes the model map p and the human map q or fixation counts fix, each (B, img_h, img_w), and gives
# (B,) float64 on the CPU. NaN where the human side is empty: use nanmean and report how many images counted.
# On a CPU pass about 2**18 pixels at a time (5 maps of 224x224): they stay in its cache.

def pixels(p: Tensor, q: Tensor, shift: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """A pair of maps as pixels (B, N), float64 on the CPU, float32 on an accelerator; their sums (2, B, 1).
    shift: copies, less their minimum where it is negative.
    InputError: NaN or infinity, shapes or devices that differ, a map without a batch axis."""
    maps = [torch.as_tensor(m).detach() for m in (p, q)]
    if maps[0].ndim != 3 or maps[0].shape != maps[1].shape or maps[0].device != maps[1].device:
        found = " and ".join(f"{tuple(m.shape)} on {m.device}" for m in maps)
        raise InputError(f"maps of shape {found}: expected two of shape (B, img_h, img_w) on one device; "
                         "resize or move one, and give a single map a batch axis, map[None].")
    dtype = torch.float64 if maps[0].device.type == "cpu" else torch.float32
    maps = [m.to(dtype).flatten(1) for m in maps]
    if shift:
        maps = [m - m.amin(1, keepdim=True).clamp(max=0) for m in maps]
    sums = torch.stack([m.sum(1, keepdim=True) for m in maps])  # NaN or infinite by one such value
    if not sums.isfinite().all():
        raise InputError("a map holds NaN or infinity: expected finite values; leave the image out.")
    return *maps, sums


def cc(p: Tensor, q: Tensor) -> Tensor:
    """Pearson correlation over pixels, in [-1, 1]; 0 if either map is constant; NaN if q is all zeros."""
    p, q, _ = pixels(p, q)
    empty = torch.linalg.vector_norm(q, dim=1) == 0
    p, q = p - p[:, :1], q - q[:, :1]  # a constant map becomes exactly 0
    p -= p.mean(1, keepdim=True)
    q -= q.mean(1, keepdim=True)
    norm = torch.linalg.vector_norm(p, dim=1) * torch.linalg.vector_norm(q, dim=1)
    r = p.mul_(q).sum(1) / torch.where(norm > 0, norm, 1)
    return r.clamp(-1, 1).masked_fill(empty, torch.nan).cpu().double()


def nss(p: Tensor, fix: Tensor, counts: bool = False) -> Tensor:
    """Normalised scanpath saliency (Peters et al. 2005): mean of (p - mean) / SD (ddof 0) over the fixated
    pixels, each once (MIT benchmark), or with counts=True over all fixations, a pixel as often as fix says:
    another number where people agree, so report which. Constant map: 0. NaN: no fixation. The MIT code has an
    SD of ddof 1: it gives sqrt((N-1)/N) of this."""
    p, fix, _ = pixels(p, fix)
    weight = fix if counts else torch.gt(fix, 0, out=torch.empty_like(fix))  # 0 or 1 in the type of p
    z = p - p[:, :1]  # a constant map becomes exactly 0
    z -= z.mean(1, keepdim=True)
    sd = torch.linalg.vector_norm(z, dim=1) / z.shape[1] ** 0.5
    value = z.mul_(weight).sum(1) / weight.sum(1) / torch.where(sd > 0, sd, 1)  # no fixation: 0/0 is NaN
    return value.cpu().double()


def sim(p: Tensor, q: Tensor) -> Tensor:
    """Similarity (Judd et al. 2012): sum of min(p, q), both of sum 1; in [0, 1], 1 for equal maps.
    The minimum is subtracted only if negative (the MIT code: always). Zero p: uniform. NaN: q all zeros."""
    p, q, (p_sum, q_sum) = pixels(p, q, shift=True)
    p += p_sum == 0  # a model map of zeros becomes uniform
    p *= q_sum / torch.where(p_sum > 0, p_sum, p.shape[1])
    shared = torch.minimum(p, q, out=p).sum(1)
    return (shared / q_sum[:, 0]).cpu().double()  # q all zeros: 0/0 is NaN


def kld(p: Tensor, q: Tensor, eps: float = 2.0**-52) -> Tensor:
    """KL(human || model), MIT benchmark: sum q log(eps + q / (p + eps)) in nats, both of sum 1; 0 if equal.
    Where p is 0, a pixel adds about q log(q / eps): eps decides the value of maps with zeros, so report it
    (2**-52: the MIT code's; 1e-10: of exp01's loss). Negative and constant maps and NaN: as in sim."""
    p, q, (p_sum, q_sum) = pixels(p, q, shift=True)
    p += p_sum == 0  # a model map of zeros becomes uniform
    p /= torch.where(p_sum > 0, p_sum, p.shape[1])
    q /= q_sum  # all zeros: 0/0 is NaN
    p += eps
    ratio = q / p
    ratio += eps
    return q.mul_(ratio.log_()).sum(1).cpu().double()


def auc_judd(p: Tensor, fix: Tensor) -> Tensor:
    """AUC-Judd (Judd et al. 2009), in [0, 1], exact with ties, no jitter.
    Each distinct value t of the fixated pixels is a threshold: tp, fp = shares of fixated and of other pixels
    with p >= t; trapezoid through (0, 0), these and (1, 1). Equals the MIT code if there are no ties;
    Mann-Whitney is smaller by about 1/(2n). Constant map: 0.5. NaN: no fixation, or no other pixel."""
    p, fix, _ = pixels(p, fix)
    if p.device.type == "cpu":
        found = []  # area left of the curve, times 2 n_hit n_other; n_hit
        for v, f in zip(p.numpy(), fix.numpy()):  # (N,) each
            t, other = np.sort(v[f > 0]), np.sort(v[f <= 0])  # t: thresholds, one for each fixated pixel
            fp = np.append(len(other) - np.searchsorted(other, t), 0)  # other pixels >= t; none above all
            higher = np.searchsorted(t, t, side="right")  # place of the next threshold
            found.append([(fp[:-1] + fp[higher]).sum(), len(t)])
        area, n_hit = torch.tensor(found, dtype=torch.int64).view(-1, 2).T
    else:  # the same of all maps at once; t holds every fixated pixel, then infinity, above which is nothing
        hit = fix > 0
        other = p.masked_fill(hit, -torch.inf).sort(1)[0]
        t = p.masked_fill(~hit, torch.inf).sort(1)[0]
        fp = F.pad(p.shape[1] - torch.searchsorted(other, t), (0, 1))  # (B, N + 1)
        higher = torch.searchsorted(t, t, right=True)  # place of the next threshold
        area = (fp[:, :-1] + fp.gather(1, higher)).sum(1)
        area, n_hit = torch.stack([area, hit.sum(1)]).cpu()
    return 1 - area.double() / (2 * n_hit * (p.shape[1] - n_hit))  # no pair of pixels: 0/0 is NaN


def shuffled_auc(p: Tensor, fix: Tensor, others: Tensor) -> Tensor:
    """Shuffled AUC (Tatler et al. 2005, Zhang et al. 2008), in [0, 1]: the chance that p is higher where this
    image was fixated (fix) than where other images were (others, fixation counts on the same pixels), ties
    counted half. Every fixation counts, as in pysaliency's sAUC; nothing is drawn at random. What all images
    share, such as the centre bias, gives .5, a constant map 0.5. NaN: no fixation on one of the sides."""
    (p, fix, _), (_, others, _) = pixels(p, fix), pixels(p, others)
    seen = (fix + others).any(0)  # no other pixel counts
    p, fix, others = (m[:, seen] for m in (p, fix, others))
    values, order = p.sort(1)
    place = (values.diff(prepend=values[:, :1]) > 0).cumsum(1)  # (B, N), equal values share one
    hits, misses = (torch.zeros_like(p).scatter_add(1, place, m.gather(1, order)) for m in (fix, others))
    area = (hits * (misses.cumsum(1) - misses / 2)).sum(1)  # lower misses, and half of the equal ones
    return (area / (fix.sum(1) * others.sum(1))).cpu().double()


def information_gain(p: Tensor, q: Tensor, fix: Tensor, eps: float = 1e-6) -> Tensor:
    """Information gain of a density p over a baseline q in bits a fixation (Kümmerer et al. 2015): mean of
    log2(eps + p) - log2(eps + q) over all fixations, both of sum 1; 0 if equal, below 0 if q says it better.
    The same as of both mixed with a uniform map of share N eps / (1 + N eps), N pixels: on 224x224 px, .05.
    A fixation where p is 0 costs log2(q / eps), so report eps. Negative maps, zeros and NaN: as in sim."""
    (p, q, sums), (_, fix, _) = pixels(p, q, shift=True), pixels(p, fix)
    p, q = (m + (s == 0) for m, s in zip((p, q), sums))  # a map of zeros becomes uniform
    p, q = (m / m.sum(1, keepdim=True) for m in (p, q))
    bits = torch.log2(p + eps) - torch.log2(q + eps)
    return ((bits * fix).sum(1) / fix.sum(1)).cpu().double()  # no fixation: 0/0 is NaN


def centre_gaussian(fix: Tensor) -> Tensor:
    """The centre bias of fixation counts (B, img_h, img_w): a Gaussian in the middle of the image whose two
    SDs are those of the fixations about the middle (at least 1 px), of height 1, (B, img_h, img_w). Of no
    fixation: uniform."""
    fix, sides = torch.as_tensor(fix) * 1., []  # integers become floats
    for along in (fix.sum(2), fix.sum(1)):  # fixations in every row, in every column: (B, n)
        n = along.shape[1]
        squares = (torch.arange(n).to(along) - (n - 1) / 2).square()
        variance = (along @ squares / along.sum(1)).nan_to_num(torch.inf).clamp(min=1)
        sides.append(torch.exp(-squares / (2 * variance[:, None])))
    return sides[0][:, :, None] * sides[1][:, None]


def observer_consistency(workers: Sequence[tuple], size: tuple[int, int], sigma: float) -> float:
    """Mean correlation of the workers' density maps over all pairs; NaN below two workers.
    workers: (rows, cols) each; one without a fixation in the map is left out. The sum of n standardised maps
    has a mean square that holds every pair twice and each map with itself once: no loop over pairs."""
    units = [torch.eye(n, dtype=torch.float64)[:, None] for n in size]  # (n, 1, n): single pixels of a side
    tall, wide = (gaussian_blur(unit, sigma)[:, 0] for unit in units)  # (n, n), row i: pixel i blurred
    total, n = torch.zeros(size, dtype=torch.float64), 0
    for rows, cols in workers:
        counts = fixation_counts(rows, cols, size)
        r, c = counts.nonzero(as_tuple=True)
        density = (tall[r] * counts[r, c, None]).T @ wide[c]  # (img_h, img_w), density_map up to its scale
        sd, mean = torch.std_mean(density, correction=0)
        if sd > 1e-9 * mean:
            total += (density - mean) / sd
            n += 1
    return (total.square().mean().item() - n) / (n * (n - 1)) if n > 1 else float("nan")


# -------------------------------------------------------------------------------- statistics

def paired_t(a, b) -> dict:
    """Paired t test of a - b, 1-D of equal length; pairs with a NaN are dropped (n = df + 1 remain).
    t, df, two-sided p, dz = t / sqrt(n) (Cohen's d_z), mean of a - b, ci = its 95 % interval. All differences
    0: t = dz = 0, p = 1; all equal: t = dz = +-inf, p = 0. Fewer than two pairs: NaN."""
    d = np.subtract(*np.array([a, b], dtype=np.float64))  # numpy refuses to stack unequal lengths
    d = d[~np.isnan(d)]
    n, mean = len(d), float(d.mean()) if len(d) else np.nan
    if n < 2:
        return dict(t=np.nan, df=n - 1, p=np.nan, dz=np.nan, mean=mean, ci=(np.nan, np.nan))
    if np.ptp(d) == 0:
        t = float(np.copysign(np.inf, mean)) if mean else 0.0
        return dict(t=t, df=n - 1, p=0.0 if mean else 1.0, dz=t, mean=mean, ci=(mean, mean))
    test = stats.ttest_1samp(d, 0)
    t, (low, high) = float(test.statistic), test.confidence_interval()
    return dict(t=t, df=n - 1, p=float(test.pvalue), dz=t / math.sqrt(n), mean=mean,
                ci=(float(low), float(high)))


def bf01_unit_information(t: float, n: int, log: bool = False) -> float:
    """BF01 of a one-sample or paired t with n pairs under the unit-information prior (BIC; Wagenmakers 2007).
    sqrt(n) (1 + t^2/(n-1))^(-n/2); above 1 it favours the null. log=True gives the natural logarithm, finite
    where BF01 itself falls below 1e-308 and becomes 0. NaN for t = NaN and n < 2."""
    if n < 2:
        return np.nan
    value = 0.5 * np.log(n) - n / 2 * np.log1p(t * t / (n - 1))
    return float(value if log else np.exp(value))


def bf01_jzs(t: float, n: int, r: float = 1.0, log: bool = False) -> float:
    """BF01 of a one-sample or paired t with n pairs, two-sided, Cauchy(r) prior on the effect size.
    Rouder et al. 2009, eq. 1, with g scaled by r^2; r = 1 is their default, sqrt(2)/2 today's usual one. The
    integral over log g is summed on an even grid: the integrand is analytic and vanishes at both ends, so the
    trapezoid rule converges geometrically. log, NaN: as bf01_unit_information."""
    if n < 2 or np.isnan(t):
        return np.nan
    if np.isinf(t * t):
        return -np.inf if log else 0.0
    nu, step = n - 1, 0.05
    # exp(-1/2g) ends the integrand on the left; beyond g = (1 + t^2)/(n r^2) it falls as 1/g
    u = np.arange(-8, 80 + max(0.0, np.log((1 + t**2) / (n * r**2))), step)    # u = log g
    spread = 1 + n * r**2 * np.exp(u)
    log_f = (-0.5 * np.log(spread) - n / 2 * np.log1p(t**2 / (nu * spread))
             - 0.5 * np.log(2 * np.pi) - 0.5 * u - 0.5 * np.exp(-u))           # g^(-3/2) dg = g^(-1/2) du
    value = -n / 2 * np.log1p(t**2 / nu) - special.logsumexp(log_f) - np.log(step)
    return float(value if log else np.exp(value))


def mcnemar(correct_a, correct_b) -> dict:
    """Two classifiers on the same images: 1-D of 0 (wrong) and 1 (right) each.
    b = right by a alone, c = right by b alone; p of the exact two-sided binomial test of b in b + c (McNemar
    1947; 1 without a discordant image); diff = (b - c)/n, accuracy of a minus that of b; ci = its 95 %
    interval, the adjusted Wald of Bonett & Price 2012: D +- 1.96 sqrt((S - D^2)/(n+2)) with
    D = (b - c)/(n+2), S = (b + c + 2)/(n+2), cut at +-1."""
    right = np.array([correct_a, correct_b], dtype=np.float64)  # (2, n); unequal lengths are refused
    if not np.isin(right, (0, 1)).all():
        raise InputError("McNemar's test takes 0 (wrong) and 1 (right); leave out images without an answer.")
    difference = right[0] - right[1]
    n, b, c = len(difference), int((difference > 0).sum()), int((difference < 0).sum())
    d, s = (b - c) / (n + 2), (b + c + 2) / (n + 2)
    half = float(stats.norm.ppf(0.975) * np.sqrt((s - d**2) / (n + 2)))
    p = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    return dict(b=b, c=c, p=float(p), diff=(b - c) / n, ci=(max(d - half, -1), min(d + half, 1)))


def bootstrap_ci(x, stat=np.mean, n_boot: int = 10_000, seed: int = 0, level: float = 0.95) -> tuple:
    """Percentile bootstrap interval (low, high) of stat over the values (images) of x, 1-D, NaNs dropped.
    stat takes (samples, axis), as np.mean does. Equal for equal seed and x. Below two values: (NaN, NaN)."""
    x = np.asarray(x, dtype=np.float64)
    x = x[~np.isnan(x)]
    if len(x) < 2:
        return np.nan, np.nan
    batch = max(1, 2_000_000 // len(x))  # resamples at a time: 2 million values, 16 MB
    found = stats.bootstrap((x,), stat, n_resamples=n_boot, batch=batch, vectorized=True, method="percentile",
                            confidence_level=level, random_state=np.random.default_rng(seed))
    return tuple(map(float, found.confidence_interval))


LINEAR_ROWS = 2**15  # with 1,000 classes .1 GB of logits


def fit_linear(x: Tensor, y: Tensor, n_classes: int, l2: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression by L-BFGS on standardised features, (weight, bias) for the raw ones.
    x (n, d), y (n,); weight (classes, d). l2: penalty on the squared standardised weights. Beside x it needs
    the memory of LINEAR_ROWS rows and their logits."""
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    w = torch.zeros(n_classes, x.shape[1], device=x.device, requires_grad=True)
    b = torch.zeros(n_classes, device=x.device, requires_grad=True)
    lbfgs = torch.optim.LBFGS([w, b], max_iter=200, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        lbfgs.zero_grad()
        total = l2 * w.square().sum()
        total.backward()
        for rows, labels in zip(x.split(LINEAR_ROWS), y.split(LINEAR_ROWS)):
            loss = F.cross_entropy((rows - mean) / std @ w.T + b, labels) * (len(rows) / len(x))
            loss.backward()
            total = total.detach() + loss.detach()
        return total
    lbfgs.step(closure)
    weight = w.detach() / std
    return weight, b.detach() - weight @ mean
