"""unisal.py: keys and outputs are the official code's."""
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from unisal import UNISAL

torch.set_num_threads(1)
SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def test_unisal_equals_the_official_code_on_two_frames():
    # rdroste/unisal 0440df7 (its CNN without the pretrained file), these sine-wave weights: log probability
    # at (frame, row, column) (0, 10, 20), (0, 50, 80), (1, 10, 20), (1, 50, 80), (1, 32, 5)
    official = {("DHF1K", False): [-51.24914, -42.36685, -57.25731, -32.72544, -28.31666],
                ("DHF1K", True): [-51.35513, -42.52542, -57.37542, -32.93945, -28.45394],
                ("SALICON", True): [-34.45187, -46.03407, -38.43686, -45.46565, -43.13538]}
    x = torch.sin(torch.arange(2 * 3 * 64 * 96).double() ** 1.2 * .00211).float().view(1, 2, 3, 64, 96) * 1.5
    for (domain, static), numbers in official.items():
        net = UNISAL(domain).eval()
        with torch.no_grad():
            for i, (name, p) in enumerate(sorted(net.state_dict().items())):
                if p.is_floating_point():
                    p.copy_(sine_weights(name, i, p.shape))
            out = net(x, static)[0, :, 0]
        torch.testing.assert_close(out.exp().sum((1, 2)), torch.ones(2))
        ours = [out[at] for at in ((0, 10, 20), (0, 50, 80), (1, 10, 20), (1, 50, 80), (1, 32, 5))]
        np.testing.assert_allclose(ours, numbers, atol=2e-3)


def sine_weights(name: str, i: int, shape: torch.Size) -> torch.Tensor:
    wave = torch.sin(torch.arange(shape.numel()).double() * (.7 + .01 * (i % 50)) + i).view(shape)
    if name.startswith("smoothing"):
        return (1 + wave) / shape.numel()
    if len(shape) == 4:
        return wave * (6 / shape[1:].numel()) ** .5 * (300 if name.startswith("adaptation") else 1)
    if "gaussians" in name:
        return torch.stack([.5 + .3 * wave[..., 0], -1 + .5 * wave[..., 1]], -1)
    if name.endswith("running_var"):
        return 1 + .5 * wave
    return .1 * wave if name.endswith(("running_mean", "bias")) or ".b_" in name else 1 + .3 * wave


def test_unisal_has_the_official_keys():
    state = UNISAL().state_dict()
    assert len(state) == 835 and "rnn.cell_list.0.w_r.sep_bn.bn_UCFSports.running_mean" in state


@pytest.mark.parametrize("shape", [(2, 3, 64, 96), (1, 1, 4, 64, 96), (1, 1, 3, 60, 96), (1, 1, 3, 64, 90)])
def test_another_shape_is_refused_with_the_one_expected(shape):
    with pytest.raises(ValueError, match=r"expected a Tensor \(B, T, 3, img_h, img_w\), sides multiples"):
        UNISAL().eval()(torch.zeros(shape))
    with pytest.raises(ValueError, match="got a ndarray of shape .* expected a Tensor"):
        UNISAL().eval()(torch.zeros(1, 1, 3, 64, 96).numpy())


@pytest.mark.real
def test_unisal_equals_both_reference_outputs():
    folder = SHARED / "reference"
    if not (folder / "unisal_dhf1k.npz").exists():
        pytest.skip(f"{folder}/unisal_dhf1k.npz is missing: set GAZE_SHARED to the shared folder")
    reference = np.load(folder / "unisal_dhf1k.npz")
    net = UNISAL("DHF1K").eval()
    net.load_state_dict(torch.load(folder / "unisal_random_weights.pt", weights_only=True))
    with torch.no_grad():
        for key in ("static", "gru"):
            out = net(torch.from_numpy(reference["x"]), static=key == "static")
            np.testing.assert_allclose(out, reference[key], atol=1e-4)
