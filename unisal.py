"""UNISAL, one network for the saliency of images and of videos, with the keys of the official weights.

Source: Droste, Jiao & Noble (2020), Unified image and video saliency modeling, ECCV; weights_best.pth from
github.com/rdroste/unisal. Norms, priors and the last two layers are learned per data set ("domain"). Equal to
the authors' code. This file stands alone: it needs only torch. B clips, T frames; h, w: 1/32 of the image's.

    net = UNISAL("SALICON").eval()
    net.load_state_dict(torch.load("weights_best.pth", weights_only=True))
    log_p = net(images[:, None], static=True)[:, 0, 0]    # images (B, 3, 288, 384) -> (B, 288, 384)
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

DOMAINS = ("DHF1K", "Hollywood", "UCFSports", "SALICON")


class DomainNorm(nn.ModuleDict):
    """Batch normalisation with statistics of each domain."""

    def __init__(self, channels: int, domain: str):
        super().__init__({f"bn_{d}": nn.BatchNorm2d(channels) for d in DOMAINS})
        self.key = f"bn_{domain}"

    def forward(self, x: Tensor) -> Tensor:
        return self[self.key](x)


class InvertedResidual(nn.Module):
    """Expand by a 1x1, filter by a depthwise 3x3, project by a 1x1 convolution (MobileNetV2)."""

    def __init__(self, n_in: int, n_out: int, expand: int, norm: Callable = nn.BatchNorm2d, stride: int = 1):
        super().__init__()
        mid = n_in * expand
        widen = [nn.Conv2d(n_in, mid, 1, bias=False), norm(mid), nn.ReLU6()] if expand > 1 else []
        self.conv = nn.Sequential(*widen, nn.Conv2d(mid, mid, 3, stride, 1, groups=mid, bias=False),
                                  norm(mid), nn.ReLU6(), nn.Conv2d(mid, n_out, 1, bias=False), norm(n_out))
        self.residual = n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class ConvGRUCell(nn.Module):
    """Gated recurrent unit with separable 3x3 convolutions, each normalised and scaled."""

    def __init__(self, channels: int, norm: Callable):
        super().__init__()
        for name in ("w_r", "u_r", "w_z", "u_z", "w", "u"):  # w: from the input, u: from the state
            self.add_module(name, nn.Sequential(OrderedDict(
                conv_dw=nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False),
                sep_bn=norm(channels), sep_relu=nn.ReLU6(),
                conv_sep=nn.Conv2d(channels, channels, 1, bias=False))))
        for gate, out in (("r", "r"), ("z", "z"), ("h", "out")):  # reset, update, new state
            self.register_parameter(f"b_{gate}", nn.Parameter(torch.zeros(channels, 1, 1)))
            for source in ("x", "h"):
                self.register_parameter(f"a_{gate}_{source}", nn.Parameter(torch.ones(channels, 1, 1)))
                self.add_module(f"norm_{out}_{source}", norm(channels))
        self.register_buffer("drop_mask_1", torch.ones(3, channels))  # of training; in the official file

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        r = (self.a_r_x * self.norm_r_x(self.w_r(x)) + self.a_r_h * self.norm_r_h(self.u_r(state))
             + self.b_r).sigmoid()
        z = (self.a_z_x * self.norm_z_x(self.w_z(x)) + self.a_z_h * self.norm_z_h(self.u_z(state))
             + self.b_z).sigmoid()
        new = (self.a_h_x * self.norm_out_x(self.w(x)) + r * self.a_h_h * self.norm_out_h(self.u(state))
               + self.b_h).tanh()
        return (1 - z) * state + z * new


class MobileNetV2(nn.Module):
    """(B, 3, img_h, img_w) -> 1280 channels at 1/32 of the size, and skips: 160 at 1/16, 64 at 1/8."""

    def __init__(self):
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        layers, n_in = [first], 32
        for expand, n_out, repeats in ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3),
                                       (6, 160, 3), (6, 320, 1)):
            for _ in range(repeats):
                stride = 2 if len(layers) in (2, 4) else 1  # layers 7 and 14 halve after their skip is taken
                layers.append(InvertedResidual(n_in, n_out, expand, stride=stride))
                n_in = n_out
        layers.append(nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()))
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        skips = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in (7, 14):
                skips.append(x)
                x = x[..., ::2, ::2]
        return x, skips[1], skips[0]


def pointwise(n_in: int, n_out: int, norm: Callable) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, 1, bias=False), norm(n_out), nn.ReLU6())


def skip(n_in: int, n_out: int, norm: Callable) -> nn.ModuleDict:
    reduction = nn.Sequential(nn.Conv2d(2 * n_in, n_out, 1), norm(n_out))
    return nn.ModuleDict({"expansion": pointwise(n_in, 2 * n_in, norm), "reduction": reduction})


class UNISAL(nn.Module):
    """Unified image and video saliency, with the state-dict keys of the official weights (835).
    forward(x (B, T, 3, img_h, img_w), static=False) -> (B, T, 1, img_h, img_w), log probability over pixels.
    x: RGB with ImageNet's mean and SD, sides multiples of 32. static: without the GRU (the authors' setting
    for the domain SALICON). domain: one of DOMAINS. ValueError: another shape."""

    def __init__(self, domain: str = "DHF1K"):
        super().__init__()
        self.domain, norm = domain.lower(), partial(DomainNorm, domain=domain)
        self.cnn = MobileNetV2()
        self.post_cnn = nn.ModuleDict({"inv_res": InvertedResidual(1280 + 16, 256, 1)})
        self.rnn = nn.ModuleDict({"cell_list": nn.ModuleList([ConvGRUCell(256, norm)])})
        self.post_rnn = pointwise(256, 256, norm)
        self.skip_2x, self.skip_4x = skip(160, 128, norm), skip(64, 64, norm)
        self.upsampling_2 = nn.ModuleDict({"inv_res": InvertedResidual(256 + 128, 128, 2, norm)})
        self.post_upsampling_2 = nn.ModuleDict({"inv_res": InvertedResidual(128 + 64, 64, 2, norm)})
        for d in map(str.lower, DOMAINS):
            self.register_parameter(f"coarse_gaussians_{d}", nn.Parameter(torch.zeros(16, 2, 2)))
            self.add_module(f"adaptation_{d}", nn.Sequential(nn.Conv2d(64, 1, 1)))
            self.add_module(f"smoothing_{d}", nn.Conv2d(1, 1, 41, bias=False))

    def priors(self, x: Tensor) -> Tensor:
        """16 Gaussians on the grid of x, (B, 16, h, w), height 6: learned mean, log SD; image sides = 1."""
        mean, log_sd = getattr(self, f"coarse_gaussians_{self.domain}").unbind(-1)  # (16, 2) row, col each
        rows, cols = (torch.linspace(0, 1, n, device=x.device) for n in x.shape[-2:])
        rows = torch.exp(-((rows - mean[:, 0, None]) / log_sd[:, 0, None].exp()).square() / 2)  # (16, h)
        cols = torch.exp(-((cols - mean[:, 1, None]) / log_sd[:, 1, None].exp()).square() / 2)  # (16, w)
        return (6 * rows[:, :, None] * cols[:, None]).expand(len(x), -1, -1, -1)

    def decode(self, x: Tensor, half: Tensor, quarter: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, 256, h, w), skips (B, 128, 2h, 2w) and (B, 64, 4h, 4w) -> log probability (B, 1, *size)."""
        double = partial(F.interpolate, scale_factor=2, mode="bilinear", align_corners=False)
        x = double(self.upsampling_2["inv_res"](torch.cat([double(x), half], 1)))
        x = self.post_upsampling_2["inv_res"](torch.cat([x, quarter], 1))
        x = F.interpolate(getattr(self, f"adaptation_{self.domain}")(x), size, mode="nearest")
        x = getattr(self, f"smoothing_{self.domain}")(F.pad(x, (20,) * 4, mode="replicate"))
        return x.flatten(1).log_softmax(1).view(-1, 1, *size)

    def forward(self, x: Tensor, static: bool = False) -> Tensor:
        if not isinstance(x, Tensor) or x.ndim != 5 or x.shape[2] != 3 or x.shape[3] % 32 or x.shape[4] % 32:
            found = f"{type(x).__name__} of shape {tuple(getattr(x, 'shape', ()))}"
            raise ValueError(f"UNISAL got a {found}, expected a Tensor (B, T, 3, img_h, img_w), "
                             "sides multiples of 32: resize it, or give stills a time axis, images[:, None].")
        state, out = None, []
        for frame in x.unbind(1):
            coarse, half, quarter = self.cnn(frame)
            coarse = self.post_cnn["inv_res"](torch.cat([coarse, self.priors(coarse)], 1))  # (B, 256, h, w)
            if not static:
                state = self.rnn["cell_list"][0](coarse, torch.zeros_like(coarse) if state is None else state)
                coarse = coarse + self.post_rnn(state)
            half = self.skip_2x["reduction"](self.skip_2x["expansion"](half))           # (B, 128, 2h, 2w)
            quarter = self.skip_4x["reduction"](self.skip_4x["expansion"](quarter))     # (B, 64, 4h, 4w)
            out.append(self.decode(coarse, half, quarter, x.shape[-2:]))
        return torch.stack(out, 1)
