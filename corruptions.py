"""ImageNet-C's 15 corruptions in torch: batches of images, any size, on any device, without the package.

Source: Hendrycks & Dietterich (2019), Benchmarking neural network robustness to common corruptions and
perturbations, ICLR; their constants. Frost has drawn textures unless frost_dir names the folder of the six
original ones. This file stands alone: it needs torch, torchvision, numpy, scipy and Pillow.

    images = torch.randint(256, (4, 3, 224, 224), dtype=torch.uint8)    # (B, 3, img_h, img_w) RGB
    snowy = corrupt(images, "snow", severity=5, seeds=torch.arange(4))  # the same shape and type
    same = corrupt(images[2:], "snow", 5, torch.arange(2, 4))          # equals snowy[2:]: a seed per image
"""
from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from PIL import Image
from scipy import fft, stats
from torch import Tensor

LEVEL = 1e-3  # of 255: float32 rounding must not cut a whole grey level to the one below
FROST_SIZE = 600, 900  # px, the largest original texture
FROST_COLOURS = (  # mean R, G, B and standard deviation of the grey values of the six original textures
    ((78., 149., 166.), 19.), ((201., 205., 214.), 22.), ((201., 205., 214.), 22.),
    ((138., 153., 165.), 29.), ((112., 123., 135.), 43.), ((71., 95., 105.), 42.))


class Draw:
    """Random numbers (B, *shape), functions of (seed, stream, how many were drawn before) alone, whatever the
    batch and the device. hash is the finaliser of SplitMix64 (Steele et al. 2014). With key = hash(hash(seed)
    + stream), uniform(n) of one item equals

        for i in range(n):  # modulo 2**64; two numbers in (0, 1), of 23 bits, from each word
            word = hash(key + 0x9E3779B97F4A7C15 * (1 + drawn + i // 2))
            u[i] = ((word >> 32 * (i % 2)) % 2**23 + .5) / 2**23
    """

    def __init__(self, seeds: Tensor, stream: int):
        self.key, self.drawn = self.hash(self.hash(seeds.long()) + stream), 0  # (B,), words drawn so far

    @staticmethod
    def hash(z: Tensor) -> Tensor:
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            shifted = (z >> shift) & (2**(64 - shift) - 1)  # int64's >> keeps the sign, the mask drops it
            z = (z ^ shifted) * (factor - 2**64)  # int64 wraps around
        return z ^ (z >> 31) & (2**33 - 1)

    def uniform(self, *shape: int) -> Tensor:
        n = math.prod(shape)
        count = torch.arange(1 + self.drawn, 1 + self.drawn + (n + 1) // 2, device=self.key.device)
        self.drawn += len(count)
        words = self.hash(self.key[:, None] + count * (0x9E3779B97F4A7C15 - 2**64))  # (B, words)
        low_bits = words.view(torch.int32)[:, :n] & 2**23 - 1
        return low_bits.float().add_(.5).mul_(2.**-23).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        return torch.erfinv(2 * self.uniform(*shape) - 1) * 2**.5


def pad(x: Tensor, dim: int, width: int, mode: str) -> Tensor:
    """x with width >= 1 more on both sides: edge (aa|abc|cc), reflect (cb|abc|ba), symmetric (ba|abc|cb)."""
    index = torch.from_numpy(np.pad(np.arange(x.shape[dim]), width, mode)).to(x.device)
    return torch.cat([x.index_select(dim, index[:width]), x, x.index_select(dim, index[-width:])], dim)


def gaussian(x: Tensor, sigma: tuple[float, float], mode: str, truncate: float) -> Tensor:
    """Gaussian blur of (..., img_h, img_w), sigma in px along rows, columns; as scipy.ndimage does it."""
    for dim, s in zip((-2, -1), sigma):
        radius, n = int(truncate * s + .5), x.shape[dim]
        taps = torch.exp(-.5 * (torch.arange(-radius, radius + 1).double() / s) ** 2)
        padded, x = pad(x, dim, radius, mode), torch.zeros_like(x)
        for k, tap in enumerate((taps / taps.sum()).tolist()):
            x += tap * padded.narrow(dim, k, n)
    return x


def filter2d(x: Tensor, kernels: Tensor, mode: str) -> Tensor:
    """Correlation of (B, C, img_h, img_w) with kernels (B or 1, odd, odd), by FFT: their area is free."""
    img_h, img_w = x.shape[-2:]
    x = pad(pad(x, 2, kernels.shape[1] // 2, mode), 3, kernels.shape[2] // 2, mode)
    size = [fft.next_fast_len(n, real=True) for n in x.shape[-2:]]
    spectrum = torch.fft.rfft2(x, s=size) * torch.fft.rfft2(kernels, s=size)[:, None].conj()
    return torch.fft.irfft2(spectrum, s=size)[..., :img_h, :img_w]


def motion(x: Tensor, radius: int, sigma: float, angle: Tensor) -> Tensor:
    """Half a Gaussian of 2 radius + 1 steps of one pixel along angle (B,) in degrees; borders repeated."""
    steps = torch.arange(2 * radius + 1, device=x.device)
    taps = torch.exp(-.5 * (steps / sigma) ** 2)
    angle = angle.double().deg2rad()[:, None] if x.device.type == "cpu" else angle.deg2rad()[:, None]
    rows, cols = (torch.ceil(steps * f(angle) - .5).long() for f in (torch.sin, torch.cos))  # (B, steps)
    inside = (rows.abs() < x.shape[-2]) & (cols.abs() < x.shape[-1])  # longer paths end at the border
    kernels, item = x.new_zeros(len(x), 4 * radius + 1, 4 * radius + 1), torch.arange(len(x))
    for i in range(len(steps)):  # two steps may share a pixel
        kernels[item, 2 * radius + rows[:, i], 2 * radius + cols[:, i]] += taps[i] * inside[:, i]
    return filter2d(x, kernels / taps.sum(), "edge")


def clipped_zoom(x: Tensor, factor: float) -> Tensor:
    """The middle of (B, C, img_h, img_w), enlarged by factor to at least img_h, img_w."""
    sides = [math.ceil(n / factor) for n in x.shape[-2:]]
    top, left = ((n - side) // 2 for n, side in zip(x.shape[-2:], sides))
    return F.interpolate(x[..., top:top + sides[0], left:left + sides[1]], mode="bilinear",
                         size=[round(side * factor) for side in sides], align_corners=True)


# The 15 corruptions: x (B, 3, img_h, img_w) in [0, 1], severity 0-4 -> the same, to be cut to [0, 1].

def gaussian_noise(x: Tensor, severity: int, draw: Draw) -> Tensor:
    return x + (.08, .12, .18, .26, .38)[severity] * draw.normal(*x.shape[1:])


def shot_noise(x: Tensor, severity: int, draw: Draw) -> Tensor:
    """Poisson counts of mean photons x, by inversion; counts above `photons` are white and need no tail."""
    photons = (60, 25, 12, 5, 3)[severity]
    mean = torch.arange(256) / 255 * photons  # of every grey level
    below = torch.from_numpy(stats.poisson.cdf(np.arange(photons)[:, None], mean)).to(x)  # (photons, 256)
    pixel, u = (x * 255).round().long(), draw.uniform(*x.shape[1:])
    return sum((u > row[pixel]).to(x) for row in below) / photons


def impulse_noise(x: Tensor, severity: int, draw: Draw) -> Tensor:
    share, u = (.03, .06, .09, .17, .27)[severity], draw.uniform(*x.shape[1:])
    return torch.where(u < share, (u < share / 2).to(x), x)  # half of the share white, half black


@lru_cache
def soft_disk(severity: int) -> Tensor:
    radius, alias = ((3, .1), (4, .5), (6, .5), (8, .5), (10, .5))[severity]
    line = torch.arange(-max(radius, 8), max(radius, 8) + 1)
    disk = (line[:, None] ** 2 + line ** 2 <= radius ** 2).float()
    return gaussian(disk / disk.sum(), (alias, alias), "reflect", (1 if radius <= 8 else 2) / alias)


def defocus_blur(x: Tensor, severity: int, draw: Draw) -> Tensor:
    return filter2d(x, soft_disk(severity).to(x)[None], "reflect")


def glass_blur(x: Tensor, severity: int, draw: Draw) -> Tensor:
    """Blur, pixels replaced in turn by near ones, blur. For one image, a round equals

        for row in range(img_h - reach, reach, -1):
            for col in range(img_w - reach, reach, -1):
                x[:, row, col] = x[:, row + jump[row, col, 1], col + jump[row, col, 0]]

    A source further on in the image was itself replaced before, so it is followed to its own source: for all
    pixels at once, by source = source[source], until none is left to follow.
    """
    sigma, reach, rounds = ((.7, 1, 2), (.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity]
    B, _, img_h, img_w = x.shape
    x = gaussian(x, (sigma, sigma), "edge", 4.).mul_(255).add_(LEVEL).floor_() / 255
    here = torch.arange(img_h * img_w, device=x.device).view(img_h, img_w)
    rows, cols = slice(reach + 1, img_h - reach + 1), slice(reach + 1, img_w - reach + 1)
    for _ in range(rounds):
        jump = (draw.uniform(*here[rows, cols].shape, 2) * 2 * reach).long() - reach  # column, row
        source = here.repeat(B, 1, 1)
        source[:, rows, cols] += jump[..., 1] * img_w + jump[..., 0]
        source = source.flatten(1)  # (B, img_h img_w)
        follow = source > here.flatten()
        while follow.any():
            beyond = source.gather(1, source)
            source, follow = torch.where(follow, beyond, source), follow & follow.gather(1, source)
        x = x.flatten(2).gather(2, source[:, None].expand(-1, 3, -1)).view_as(x)
    return gaussian(x, (sigma, sigma), "edge", 4.)


def motion_blur(x: Tensor, severity: int, draw: Draw) -> Tensor:
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity]
    return motion(x, radius, sigma, 90 * draw.uniform() - 45)


def zoom_blur(x: Tensor, severity: int, draw: Draw) -> Tensor:
    stop, step = ((1.11, .01), (1.16, .01), (1.21, .02), (1.26, .02), (1.31, .03))[severity]
    factors = np.arange(1, stop, step).tolist()
    return (x + sum(clipped_zoom(x, z)[..., :x.shape[2], :x.shape[3]] for z in factors)) / (len(factors) + 1)


def snow(x: Tensor, severity: int, draw: Draw) -> Tensor:
    mean, sd, zoom, cut, radius, sigma, keep = (
        (.1, .3, 3, .5, 10, 4, .8), (.2, .3, 2, .5, 12, 4, .7), (.55, .3, 4, .9, 12, 8, .7),
        (.55, .3, 4.5, .85, 12, 8, .65), (.55, .3, 2.5, .85, 12, 12, .55))[severity]
    flakes = clipped_zoom(mean + sd * draw.normal(1, *x.shape[2:]), zoom)
    flakes = torch.where(flakes < cut, 0, flakes.clamp(max=1))
    flakes = motion(flakes, radius, sigma, 90 * draw.uniform() - 135)[..., :x.shape[2], :x.shape[3]]
    flakes = (flakes * 255).round() / 255
    grey = (x * x.new_tensor([.299, .587, .114]).view(3, 1, 1)).sum(1, keepdim=True)
    return keep * x + (1 - keep) * torch.maximum(x, 1.5 * grey + .5) + flakes + flakes.flip(2, 3)


@lru_cache(maxsize=2)
def frost_textures(folder: Path | None = None) -> list[Tensor]:
    """Six (1, 3, h, w) in [0, 1]: frost1 ... frost6 of a folder, or drawn: needles in four directions (noise
    of amplitude 1/f, stretched along each), of the originals' mean colours and contrasts."""
    if folder:
        files = [path for k in range(1, 7) for path in sorted(Path(folder).glob(f"frost{k}.*"))[:1]]
        if len(files) < 6:
            raise ValueError(f"{folder}: {len(files)} of frost1 ... frost6; give the folder of ImageNet-C's "
                             "six frost textures, or leave it out for drawn ones.")
        return [TF.to_tensor(Image.open(path).convert("RGB"))[None] for path in files]
    rng, (h, w) = np.random.default_rng([15, 10]), FROST_SIZE
    fy, fx = np.meshgrid(np.fft.fftfreq(h), np.fft.rfftfreq(w), indexing="ij")
    out = []
    for colour, contrast in FROST_COLOURS:
        needles = []
        for angle in rng.uniform(0, np.pi) + np.arange(4) * np.pi / 4:
            along, across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
            noise = np.fft.rfft2(rng.standard_normal((h, w))) / (.004 + np.hypot(6 * along, across))
            needles.append(np.fft.irfft2(noise, (h, w)))
        relief = np.max(needles, 0)
        relief = torch.from_numpy((relief - relief.mean()) / relief.std()).float()
        ice = torch.tensor(colour)[:, None, None] + contrast * relief  # (3, h, w)
        out.append(ice.round().clamp(0, 255)[None] / 255)
    return out


@lru_cache(maxsize=12)
def frost_texture(folder: Path | None, k: int, img_h: int, img_w: int) -> Tensor:
    """Texture k enlarged to at least 1.1 img_h x 1.1 img_w, by at least 1.1, (3, h, w) whole levels / 255."""
    texture = frost_textures(folder)[k]
    h, w = texture.shape[2:]
    scale = 1.1 * max(1, img_h / h, img_w / w)
    ice = F.interpolate(texture, size=[math.ceil(h * scale), math.ceil(w * scale)], mode="bicubic")[0]
    return (ice * 255).round().clamp(0, 255) / 255


def frost(x: Tensor, severity: int, draw: Draw, folder: Path | None = None) -> Tensor:
    keep, add = ((1, .4), (.8, .6), (.7, .7), (.65, .7), (.6, .75))[severity]
    (img_h, img_w), ice = x.shape[2:], []
    for u in torch.stack([draw.uniform() for _ in range(3)], 1).tolist():
        texture = frost_texture(folder, int(6 * u[0]), img_h, img_w)
        top, left = (int(v * (n - m)) for v, n, m in zip(u[1:], texture.shape[1:], (img_h, img_w)))
        ice.append(texture[:, top:top + img_h, left:left + img_w])
    return keep * x + add * torch.stack(ice).to(x)


def fog(x: Tensor, severity: int, draw: Draw) -> Tensor:
    """Diamond-square fractal (Fournier et al. 1982) on a torus, side a power of two."""
    thick, decay = ((1.5, 2), (2., 2), (2.5, 1.7), (2.5, 1.5), (3., 1.4))[severity]
    side = 1 << (max(x.shape[1:]) - 1).bit_length()
    plasma, step, wibble = x.new_zeros(len(x), side, side), side, 100.
    noise = torch.cat([torch.stack([draw.uniform() for _ in range(3)], 1), draw.uniform(side ** 2 - 4)], 1)
    while step >= 2:
        half, n, corners = step // 2, side // step, plasma[:, ::step, ::step]  # corners (B, n, n)
        three, noise = noise.tensor_split([3 * n * n], 1)
        three = wibble ** 2 * (2 * three.unflatten(1, (3, n, n)) - 1)  # (B, 3, n, n)
        square = corners + corners.roll(-1, 1)
        middles = (square + square.roll(-1, 2)) / 4 + three[:, 0]
        above = middles + middles.roll(1, 1) + corners + corners.roll(-1, 2)
        beside = middles + middles.roll(1, 2) + corners + corners.roll(-1, 1)
        plasma[:, half::step, half::step] = middles
        plasma[:, ::step, half::step] = above / 4 + three[:, 1]
        plasma[:, half::step, ::step] = beside / 4 + three[:, 2]
        step, wibble = half, wibble / decay
    low, high = plasma.amin((1, 2), keepdim=True), plasma.amax((1, 2), keepdim=True)
    plasma = ((plasma - low) / (high - low))[:, None, :x.shape[2], :x.shape[3]]
    top = x.amax((1, 2, 3), keepdim=True)
    return (x + thick * plasma) * top / (top + thick)


def brightness(x: Tensor, severity: int, draw: Draw) -> Tensor:
    """V of HSV raised; hue and saturation kept means all three channels times the same."""
    value = x.amax(1, keepdim=True)
    new = (value + (.1, .2, .3, .4, .5)[severity]).clamp(max=1)
    return torch.where(value > 0, x * new / value.clamp(min=1e-6), new)


def contrast(x: Tensor, severity: int, draw: Draw) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * (.4, .3, .2, .1, .05)[severity] + mean


def elastic_transform(x: Tensor, severity: int, draw: Draw) -> Tensor:
    img_h, img_w = x.shape[2:]  # constants of the package imagecorruptions, which differ from the paper's
    alpha, sigma = 250 * (.05, .065, .085, .1, .12)[severity], (.01 * img_h, .01 * img_w)
    noise = [(2 * draw.uniform(img_h, img_w) - 1) * .005 * img_h for _ in range(2)]  # columns, then rows
    dx, dy = (alpha * gaussian(n, sigma, "symmetric", 3.) for n in noise)  # (B, img_h, img_w) px
    rows, cols = (torch.arange(n, device=x.device) for n in (img_h, img_w))
    grid = torch.stack([(2 * (cols + dx) + 1) / img_w - 1, (2 * (rows[:, None] + dy) + 1) / img_h - 1], -1)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def through_pillow(x: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Each image (B, 3, img_h, img_w) uint8 changed by Pillow, on the CPU."""
    levels = np.ascontiguousarray(x.permute(0, 2, 3, 1).cpu().numpy())  # (B, img_h, img_w, 3)
    changed = [np.stack(change(Image.fromarray(image)).split()) for image in levels]  # (3, img_h, img_w) each
    return torch.from_numpy(np.stack(changed)).to(x.device)


def pixelate(x: Tensor, severity: int, draw: None) -> Tensor:
    """Box means on a coarse grid, columns before rows whatever Pillow's version, then the nearest."""
    img_h, img_w = x.shape[2:]
    h, w = (int(n * (.6, .5, .4, .3, .25)[severity]) for n in (img_h, img_w))
    def pixelated(image: Image.Image) -> Image.Image:
        coarse = image.resize((w, img_h), Image.BOX).resize((w, h), Image.BOX)
        return coarse.resize((img_w, img_h), Image.NEAREST)
    return through_pillow(x, pixelated)


def jpeg_compression(x: Tensor, severity: int, draw: None) -> Tensor:
    def saved(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=(25, 18, 15, 10, 7)[severity])
        return Image.open(file)
    return through_pillow(x, saved)


OF_BYTES = "pixelate", "jpeg_compression"  # take and give uint8; the others take and give 0 to 1
CORRUPTIONS = {f.__name__: f for f in (
    gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur, zoom_blur, snow, frost,
    fog, brightness, contrast, elastic_transform, pixelate, jpeg_compression)}


def corrupt(images: Tensor, name: str, severity: int, seeds: Tensor, frost_dir: Path | None = None) -> Tensor:
    """ImageNet-C's corruption `name` of (B, 3, img_h, img_w) uint8 at severity 1-5; item i is a function of
    itself, seeds[i] and the name alone. On the CPU one image at a time, which fits its cache.
    frost_dir: folder of the six original textures (default: drawn ones). ValueError for other inputs.
    """
    if name not in CORRUPTIONS or severity not in range(1, 6):
        raise ValueError(f"corruption {name!r} at severity {severity}; expected 1 to 5 and one of "
                         f"{', '.join(CORRUPTIONS)}.")
    if not isinstance(images, (Tensor, np.ndarray)):
        raise ValueError(f"corrupt got a {type(images).__name__}; expected a tensor or array (B, 3, img_h, "
                         "img_w) of uint8.")
    images, seeds = torch.as_tensor(images), torch.as_tensor(seeds)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 32 \
            or seeds.shape != images.shape[:1]:
        raise ValueError(f"corrupt got {images.dtype} of shape {tuple(images.shape)} and seeds of shape "
                         f"{tuple(seeds.shape)}; expected uint8 (B, 3, img_h, img_w) of at least 32x32 px, a "
                         "seed for each image.")
    function = partial(frost, folder=frost_dir) if name == "frost" else CORRUPTIONS[name]
    out, chunk = [], 1 if images.device.type == "cpu" else len(images)
    for part, seed in zip(images.split(chunk), seeds.to(images.device).split(chunk)):
        if name in OF_BYTES:
            out.append(function(part, severity - 1, None))  # they draw nothing
        else:
            planes = part.float().contiguous() / 255  # a picture as read has its channels side by side
            y = function(planes, severity - 1, Draw(seed, list(CORRUPTIONS).index(name)))
            out.append(y.clamp_(0, 1).mul_(255).add_(LEVEL).byte())  # byte() cuts, as the originals do
    return torch.cat(out)
