"""GBVS, graph-based visual saliency: where a picture stands out, without any learning.

Source: Harel, Koch & Perona (2006), Graph-based visual saliency, NIPS 19. Written anew after the authors'
MATLAB toolbox (August 2008), whose defaults the constants are. This file stands alone: it needs only torch.

    images = torch.rand(2, 3, 288, 384)         # (B, 3, img_h, img_w), RGB in [0, 1]
    maps = gbvs(images)                         # (B, 24, 32) in [0, 1]
    film = gbvs(images[1:], "DIORFM", images[:-1])      # with contrast, flicker, motion: (1, 24, 32)

Shapes: B images, M feature maps of an image; y, x pixels of one scale; h, w the saliency map, P = h w nodes.
"""
from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

GBVS_GRID = 32            # longer side of the saliency map, nodes
GBVS_LEVELS = (2, 3, 4)   # feature scales: the image halved 2, 3 and 4 times
GBVS_SIGMA = 0.15         # of the mean grid side: how fast edge weights fall with distance
GBVS_BLUR = 0.64          # nodes, 2 % of the longer side: sd of the final Gaussian, cut at 2 sd
GBVS_POWER = 1.5          # concentrates each activation map before the maps are summed
GBVS_CONTRAST = 0.1       # of the image's height: side of the square in which contrast is measured
GBVS_FLAT = 1e-5          # a feature map with a smaller range is constant (float32 rounding stays near 1e-6)
RGB_LIGHT = ((.025, .027, .051, .129, .283, .488, .650, .782, .986),  # monitor's light at R, G, B = 0, 1/8 ..
             (.008, .009, .038, .125, .289, .499, .663, .789, .988),  # (9 knots, least-squares fit to the
             (.043, .043, .076, .168, .337, .527, .672, .804, .993))  # toolbox's 256-entry table within .014)
RGB_TO_LMS = ((18.32535, 44.60077, 7.46216), (4.09544, 28.20135, 6.66066), (.02114, .10325, 1.05258))
LMS_GREY = (34.91854, 19.31480, .58561)  # cone responses to the grey at which the DKL axes meet


@lru_cache  # here and below: made once for each device, since every copy to it blocks
def constant(values: tuple, device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)


@lru_cache
def gabor_filters(device: torch.device | None = None) -> Tensor:
    """(8, 1, 27, 27): angles 0, 45, 90, 135 degrees x phases 0, 90; zero mean, unit norm. Period pi px; sd
    2 px along the wave, 4 px across. Angle 0: the wave runs down the rows (horizontal bars)."""
    v, bank = torch.arange(-13, 14, dtype=torch.float64), []
    for angle in torch.arange(4, dtype=torch.float64) * math.pi / 4:
        along = v[:, None] * angle.cos() - v * angle.sin()   # (27, 27)
        across = v[:, None] * angle.sin() + v * angle.cos()
        envelope = torch.exp(-along.square() / (2 * 2**2) - across.square() / (2 * 4**2))
        bank += [torch.cos(2 * along + phase) * envelope for phase in (0, math.pi / 2)]
    bank = torch.stack(bank)[:, None]
    return F.normalize(bank - bank.mean((2, 3), True), dim=(2, 3)).float().to(device)


@lru_cache
def shift_filters(device: torch.device | None = None) -> Tensor:
    """(4, 1, 3, 3): each pixel takes the value one pixel away at 0, 45, 90, 135 degrees (right, up and right,
    up, up and left), interpolated bilinearly."""
    offsets, bank = torch.arange(-1, 2, dtype=torch.float64), []
    for angle in torch.arange(4, dtype=torch.float64) * math.pi / 4:
        rows = (1 - (offsets + angle.sin()).abs()).clamp(min=0)               # (3,)
        cols = (1 - (offsets - angle.cos()).abs()).clamp(min=0)
        bank.append(torch.outer(rows, cols))
    return torch.stack(bank)[:, None].float().to(device)


def attenuate_borders(maps: Tensor, border: int) -> Tensor:
    """Multiply (..., h, w) by k/(border+1) at the k-th pixel from each side; border at most half a side."""
    border = min(border, maps.shape[-2] // 2, maps.shape[-1] // 2)
    places = (torch.arange(1, n + 1, device=maps.device) for n in maps.shape[-2:])
    ramps = [torch.minimum(k, k.flip(0)).div(border + 1).clamp(max=1) for k in places]
    return maps * torch.outer(*ramps).to(maps)


def halve(x: Tensor) -> Tensor:
    """(B, C, y, x) -> (B, C, y // 2, x // 2): low-pass 1 5 10 10 5 1, renormalised at the borders."""
    for dim, padding in ((2, (0, 0, 2, 2)), (3, (2, 2))):
        n = x.shape[dim]
        a, b, c, d, e, f = F.pad(x, padding).unfold(dim, 6, 2).unbind(-1)  # the six pixels under each filter
        total = x.new_full((n // 2, 1) if dim == 2 else (n // 2,), 32)     # sum of the taps that lie inside
        total[0], total[-1] = 26, 31 if n % 2 else 26
        x = (a + f + 5 * (b + e) + 10 * (c + d)) / total
    return x


def color_opponency(rgb: Tensor, lum: Tensor) -> Tensor:
    """|B - min(R, G)| / I and |R - G| / I, (B, 2, y, x); 0 where the picture is black."""
    r, g, b = rgb.split(1, 1)
    opponents = torch.cat([(b - torch.minimum(r, g)).abs(), (r - g).abs()], 1)
    return opponents / torch.where(lum > 0, lum, 1)


def dkl(rgb: Tensor) -> Tensor:
    """Luminance, L - M, S - (L + M), (B, 3, y, x), each up to an affine map, which the graph ignores."""
    knots = torch.arange(9, device=rgb.device)
    hat = (1 - (rgb[..., None] * 8 - knots).abs()).clamp(min=0)                          # (B, 3, y, x, 9)
    grey, light, to_lms = (constant(table, rgb.device) for table in (LMS_GREY, RGB_LIGHT, RGB_TO_LMS))
    lms = torch.einsum("lc,ck,bcyxk->blyx", to_lms / grey[:, None], light, hat)          # light interpolated
    lum_lm = (lms[:, :2] * grey[:2, None, None]).sum(1) / grey[:2].sum()
    return torch.stack([lum_lm, lms[:, 0] - lms[:, 1], lms[:, 2] - lum_lm], 1)


def gabor_energy(lum: Tensor) -> Tensor:
    """|even| + |odd| Gabor response at 4 angles, (B, 4, y, x)."""
    padded = F.pad(lum - lum.mean((2, 3), keepdim=True), (13,) * 4, mode="replicate")
    response = F.conv2d(padded, gabor_filters(lum.device)).abs()                # (B, 8, y, x)
    return attenuate_borders(response[:, 0::2] + response[:, 1::2], 13)


def local_variance(lum: Tensor) -> Tensor:
    """Variance in the square around each pixel, cut at the picture's edge, (B, 1, y, x)."""
    reach = int(lum.shape[2] * GBVS_CONTRAST + .5) // 2
    centred = lum - lum.mean((2, 3), keepdim=True)                            # keeps float32's digits
    window = dict(kernel_size=2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
    return F.avg_pool2d(centred.square(), **window) - F.avg_pool2d(centred, **window).square()


def reichardt(lum: Tensor, before: Tensor) -> Tensor:
    """Motion along 4 axes: |now * shifted before - before * shifted now|, (B, 4, y, x); either way counts."""
    padded = F.pad(torch.cat([lum, before]), (1,) * 4, mode="replicate")
    shifted_now, shifted_before = F.conv2d(padded, shift_filters(lum.device)).chunk(2)
    return (lum * shifted_before - before * shifted_now).abs()


def feature_maps(x: Tensor, channel: str) -> Tensor:
    """(B, ., y, x) of one scale, by the toolbox's letters: C colour, D DKL colour, I intensity,
    O orientation, R contrast, F flicker, M motion. x (B, 4 or 5, y, x): R, G, B, intensity max(R, G, B), and
    for F and M the intensity of the frame before, all halved."""
    rgb, lum, before = x[:, :3], x[:, 3:4], x[:, 4:]
    if channel == "C":
        return color_opponency(rgb, lum)
    if channel == "D":
        return dkl(rgb)
    if channel == "O":
        return gabor_energy(lum)
    if channel == "R":
        return local_variance(lum)
    if channel == "F":
        return (lum - before).abs()
    return reichardt(lum, before) if channel == "M" else lum


@lru_cache
def resize_matrix(n_in: int, n_out: int, device: torch.device | None = None) -> Tensor:
    """Antialiased bicubic resampling of an axis as a matrix (n_out, n_in): the image of each unit vector."""
    units = torch.eye(n_in)[None, :, None]                                    # (1, n_in, 1, n_in)
    columns = F.interpolate(units, size=(1, n_out), mode="bicubic", antialias=True)[0, :, 0]
    return columns.T.contiguous().to(device)


@lru_cache(maxsize=8)                                                         # 2.4 MB for 24x32 nodes
def closeness(h: int, w: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    nodes = torch.cartesian_prod(torch.arange(h), torch.arange(w)).to(device, dtype)     # (P, 2)
    return torch.exp((nodes[:, None] - nodes).square().sum(-1) / (-2 * sigma**2))        # (P, P)


def markov_equilibrium(maps: Tensor, sigma: float) -> Tensor:
    """Equilibrium of a random walk on the nodes of each map: (..., h, w) -> (..., h, w), sum 1.

    Step i to j: p = W_ij / sum_j W_ij, W_ij = |M_i - M_j| exp(-|i - j|^2 / (2 sigma^2)), sigma in nodes.
    W is symmetric, so the equilibrium is exactly sum_j W_ij / sum_ij W_ij. A constant map: uniform.
    """
    h, w = maps.shape[-2:]
    near = closeness(h, w, sigma, maps.dtype, maps.device)                    # (P, P)
    chunk = 1 if maps.device.type == "cpu" else 64                            # one graph fits a CPU's cache
    graph, strength = maps.new_empty(chunk, h * w, h * w), []                 # reused: saves page faults
    for m in maps.reshape(-1, h * w).split(chunk):                            # (chunk, P)
        differences = torch.sub(m[:, :, None], m[:, None], out=graph[:len(m)]).abs_()
        strength.append(differences.mul_(near).sum(-1))
    strength = torch.cat(strength)                                            # (maps, P)
    total = strength.sum(-1, True)
    return torch.where(total > 0, strength / total, 1 / (h * w)).view(maps.shape)


def check(images: Tensor, sets: list[str], previous: Tensor | None) -> None:
    """ValueError with one sentence for input that gbvs cannot use."""
    channels = set("".join(sets))
    if not sets or not all(sets) or not channels <= set("CDIORFM"):
        raise ValueError(f"gbvs got channels {sets!r}, expected letters of 'CDIORFM': pass 'DIO'.")
    for frames in (images,) if previous is None else (images, previous):
        if not isinstance(frames, Tensor):
            raise ValueError(f"gbvs got a {type(frames).__name__}, expected a tensor of RGB in [0, 1], "
                             "(B, 3, img_h, img_w): convert it, for instance with torch.from_numpy.")
        batch, rgb, img_h, img_w = frames.shape if frames.ndim == 4 else (0, 0, 0, 0)
        if batch < 1 or rgb != 3 or min(img_h, img_w) < 64 or not frames.is_floating_point():
            raise ValueError(f"gbvs got {frames.dtype} of shape {tuple(frames.shape)}, expected float images "
                             "(B, 3, img_h, img_w) of at least 64x64 px: convert, permute or enlarge them.")
        if not ((frames >= 0) & (frames <= 1)).all():
            raise ValueError("gbvs got NaN or values outside [0, 1], expected RGB in [0, 1]: scale them.")
    if channels & set("FM") and (previous is None or previous.shape != images.shape):
        found = None if previous is None else tuple(previous.shape)
        raise ValueError(f"gbvs got previous={found}, expected for flicker (F) and motion (M) the frame "
                         f"before each image, {tuple(images.shape)}: pass previous=frames.")


@torch.no_grad()
def gbvs_sets(images: Tensor, sets: list[str], previous: Tensor | None = None) -> Tensor:
    """`gbvs` with each of several sets of channels, such as ("DIORFM", "I", "M"): (B, sets, h, w). A
    channel's activation is computed once, however many sets hold it."""
    check(images, sets, previous)
    img_h, img_w = images.shape[2:]
    h, w = (max(1, int(n * GBVS_GRID / max(img_h, img_w) + .5)) for n in (img_h, img_w))
    used = [c for c in "CDIORFM" if c in "".join(sets)]
    with torch.autocast(images.device.type, enabled=False):                   # the sums need float32's digits
        parts = [images, images.amax(1, True)]
        if "F" in used or "M" in used:
            parts.append(previous.amax(1, True))
        x, maps, letters = torch.cat(parts, 1).float(), [], ""                # (B, 4 or 5, img_h, img_w)
        for level in range(1, max(GBVS_LEVELS) + 1):
            if min(x.shape[2:]) > 10:                                         # smaller ones stay (toolbox)
                x = halve(x)
            if level in GBVS_LEVELS:
                rows, cols = resize_matrix(x.shape[2], h, x.device), resize_matrix(x.shape[3], w, x.device)
                found = [feature_maps(x, channel) for channel in used]
                maps.append(rows @ torch.cat(found, 1) @ cols.T)              # (B, ., h, w)
                letters += "".join(c * f.shape[1] for c, f in zip(used, found))          # of each map
        maps = torch.cat(maps, 1)                                             # (B, M, h, w)
        contrast = maps.amax((2, 3), True) - maps.amin((2, 3), True) > GBVS_FLAT         # (B, M, 1, 1)
        active = markov_equilibrium(maps * contrast, GBVS_SIGMA * (h + w) / 2).pow(GBVS_POWER)
        taps = torch.exp(constant(((1., 0, 1),), x.device) / (-2 * GBVS_BLUR**2))        # (1, 3)
        own = [[m for m, letter in enumerate(letters) if letter in channels] for channels in sets]
        master = attenuate_borders(torch.stack([active[:, m].sum(1) for m in own], 1), 4)
        padded = F.pad(master.flatten(0, 1)[:, None], (1,) * 4, mode="replicate")
        master = F.conv2d(padded, (taps.T @ taps)[None, None]).view(master.shape)        # (B, sets, h, w)
        low, high = master.amin((2, 3), True), master.amax((2, 3), True)      # (B, sets, 1, 1)
        seen = torch.stack([contrast[:, m].any(1) for m in own], 1)
        return (master - low) / torch.where(high > low, high - low, 1) * seen


def gbvs(images: Tensor, channels: str = "DIO", previous: Tensor | None = None) -> Tensor:
    """Graph-based visual saliency of RGB images (B, 3, img_h, img_w) in [0, 1]: (B, h, w) in [0, 1].

    Features at 3 scales -> Markov equilibrium -> power 1.5 -> sum of all maps -> borders attenuated -> blur
    -> min-max. max(h, w) = 32 (24x32 for 600x800, 19x32 for 224x384). channels: letters of `feature_maps`.
    previous, for F and M alone: the frame before each image, of the images' shape; for the first frame of a
    clip and the first after a cut the image itself, which makes both 0. In float32 on the images' device. An
    image without contrast: zeros. Raises ValueError for a wrong shape, type or channel, NaN, values outside
    [0, 1], a side below 64 px, or F or M without previous.
    """
    return gbvs_sets(images, [channels], previous)[:, 0]
