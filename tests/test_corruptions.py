"""corruptions.py: the 15 corruptions are ImageNet-C's, their draws a function of seed and image alone."""
import colorsys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, signal

import corruptions as C

torch.set_num_threads(1)

# imagecorruptions-imaug 1.1.5 (numpy 2.4, opencv 5, scikit-image 0.26) on picture(img_h, img_w) after
# np.random.seed(7): 12 of the values, severities 1 to 5, in hexadecimal; glass_blur as plain Python
ORACLE = {
    (48, 70): {
        "defocus_blur": (
            "d6d67f577b8eb0c2ad966649 d5d08856778fadc4ac90684b d6bf8c677592abbcab8d6a51 "
            "d1b791797896acb0ac906f5b bcad95868397a5a5a5927a65"),
        "glass_blur": (
            "d6db7a55838fb1c2b398604f d5d87854808fb2c2ae97654d d5d77d567f8fb2c1ae96674c "
            "d4d67d557e91b1c1ad95674b d4cf84597a93afc0ac93694b"),
        "motion_blur": (
            "d0ceb75d678594c2c8968553 cdcbbc675e8296c3c494905c c7c6bd795f7a99c1b98c9673 "
            "c4c3bd8a6d7a93b8ad849a85 bfbfba90767c8eafa5819c8d"),
        "zoom_blur": (
            "cbdf5852828badc7bf8c7c53 d0db5951898ba4c9bd8d7f51 ced358558e88a9cdbf8a7c4c "
            "d0cf58588f8ba8cebe8f8152 ccbf58559793a8c1b29c9069"),
        "snow": (
            "fffe9197fcf3ffe2b2b48fc4 ebffb0b5ffc4ffefbdfee1dc ebffb0b5c7e6ffffc0c5acc4 "
            "f2ffbfc3c5d5fff7c2cdbbd3 fffffff5eec1ffffe8dbd7ef"),
        "fog": (
            "cbdda0a4beb5ccc4b6a88685 cddba8acc2bacdc5b9ab8c88 cfdeb6bed7ceddd4cab99a90 "
            "c0d4afbbd6ceddd1c6b59589 b6cbacbbd6d0dbccc1b29382"),
        "brightness": (
            "d9ff5e68b1a2e2d6b1a8627c f3ff6874cbbceef0c3bc6e8b ffff6874e4d5eeffc3c67392 "
            "ffff6874feefeeffc3c67392 ffff6874ffffeeffc3c67392"),
        "contrast": (
            "9daf72758d87a19c8f8c737c 97a577798b869a968d8a777e 919a7c7d898693918a897c81 "
            "8b90818187868c8b88878183 888b83838686898887868384"),
        "elastic_transform": (
            "e2c257418ca0bdcc9fa94a57 e9c5703b8998bdce9faa3c4f ebd06d3f88a2c3d09fa83a3f "
            "e5db684c7fa9c0cf9fa54337 dbd95d587883b9cf9fa55940"),
        "pixelate": (
            "d1e2904d7f9ebec8c1966754 d1e3444dab90beb9a2964b49 dad73e60868daebebb994a58 "
            "dad46e576f93c6c0b0997d4e d4d65750918fc7c59b924d4a"),
        "jpeg_compression": (
            "e0daa24c7289e9d095a38643 d2ee9f527d89d8c685a8742d f2cba75b7b92e4d0a9978d39 "
            "ebc89546567be2d595747d45 dec0945f8fafe7cd89707d48"),
    },
    (64, 64): {
        "defocus_blur": (
            "c950d97a3369aba1bf9651d5 ca54ce793972ac9cb59358c2 cf5abd764879ae959f90609d "
            "cf5eb277557baf91888f6688 ba63aa81607aa68a778f6a78"),
        "glass_blur": (
            "ca2fcf83276b9c9bb59838d0 c75fd080316aa399ad9c3ebe c73da47f3877a5958698597f "
            "c74c977f375ca59a8d99488c c955a47c4e80a88f7c946274"),
        "motion_blur": (
            "d776d2621a70bfb5bb5f7bd2 d183c05b1f77bfb49e5c80ae c892b060307cb5b688678a93 "
            "c49aa870447baab68472908b c09da778517ca2b383768e8c"),
        "zoom_blur": (
            "e32ed6911f66a2a2b95c40b4 e237d9912063a0a4b75c4699 dc3cd9911f68a7a5b55b4686 "
            "dd41d8922067aba6b2574d81 de41d0922065a8acb255577d"),
        "snow": (
            "ff37e3d941a2b8d9ffc97bff ff49f5ac94dacdedffdd9bff ff49f5ef56b8b5edffe69bff "
            "ff51ffb061c9bff6ffe7abff ff6afff39cd9fbfffffbfaff"),
        "fog": (
            "e06dbbb1557b627c9a7973c4 de77bab45b7c5f76927579be dd75bcc468855c76886380b6 "
            "d05eadc0658252757a507aa8 c4519dbb667d48716a3f7999"),
        "brightness": (
            "ff17d9ae1c857fccfcb440ff ff17f3c822947fe5ffc442ff ff17ffe1289a7fffffc442ff "
            "ff17fffb2e9a7fffffc442ff ff17ffff349a7fffffc442ff"),
        "contrast": (
            "b44f9f8c5082808ead915eb5 a9599a8a59848288a58e64aa 9d629589638683829c8b6a9f "
            "926c8f876c88857c93897095 8c718d87718985798f87738f"),
        "elastic_transform": (
            "b48bd9741f6f7c9ec4e46fe9 b88fe96a217e7e98c6e477e6 bb96e35f24789595cfe37fe2 "
            "baa3c95826749c9cd6ce87df b99ad9502892979cd4b390dc"),
        "pixelate": (
            "c625d38825748faae58943f0 c61fd69125648f9ed2cf43d1 c665da822a64a5accc6f6cdd "
            "c627db6c306aac9ec9ac33da cb23dd943064909bc9ca3ad4"),
        "jpeg_compression": (
            "c024e175205c8fa0d4996bd2 c424d3762b61799dc89360cb c028da7d276073a0c2a15ec5 "
            "f535d25634739d9cbc9b55bf b532ce6c2f66979aba9258c1"),
    },
}


def picture(img_h: int, img_w: int) -> np.ndarray:
    rng = np.random.RandomState(3)
    blocks = np.kron(rng.randint(0, 256, (img_h // 8 + 1, img_w // 8 + 1, 3)), np.ones((8, 8, 1)))
    return (.7 * blocks[:img_h, :img_w] + .3 * rng.randint(0, 256, (img_h, img_w, 3))).astype(np.uint8)


class LegacyDraw:
    """numpy's global generator after np.random.seed(7), through the interface of Draw."""

    def __init__(self, reach: int):
        self.rng, self.reach = np.random.RandomState(7), reach

    def uniform(self, *shape: int) -> torch.Tensor:
        if len(shape) == 3:  # glass_blur: whole jumps, from the last pixel to the first
            jump = self.rng.randint(-self.reach, self.reach, shape)[::-1, ::-1]
            return torch.from_numpy((jump + self.reach + .5) / (2 * self.reach)).float()[None]
        return torch.from_numpy(np.asarray(self.rng.uniform(size=shape))).float()[None]

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self.rng.normal(size=shape)).float()[None]


@pytest.mark.parametrize("size", ORACLE, ids=str)
@pytest.mark.parametrize("name", ORACLE[48, 70])
def test_corruption_equals_reference_within_one_level_given_its_draws(name, size):
    x = torch.from_numpy(picture(*size)).permute(2, 0, 1)[None]
    for severity, stored in enumerate(ORACLE[size][name].split()):
        draw = LegacyDraw((1, 2, 2, 3, 4)[severity])
        if name in C.OF_BYTES:
            y = C.CORRUPTIONS[name](x, severity, draw)
        else:
            y = (C.CORRUPTIONS[name](x.float() / 255, severity, draw).clamp(0, 1) * 255 + C.LEVEL).byte()
        levels = y[0].permute(1, 2, 0).flatten().numpy().astype(int)
        found = levels[np.arange(12) * len(levels) // 12 + 5]
        assert np.abs(found - list(bytes.fromhex(stored))).max() <= 1, severity


def grey(level: int, n: int = 1, side: int = 96) -> torch.Tensor:
    return torch.full((n, 3, side, side), level, dtype=torch.uint8)


def spectrum_slope(noise: torch.Tensor) -> float:
    """Power in the higher half of frequencies over that in the lower half; 1 for white noise."""
    power = torch.fft.fft2(noise - noise.mean((-2, -1), keepdim=True)).abs().square().mean((0, 1))
    f = torch.fft.fftfreq(noise.shape[-1]).abs()
    high = torch.maximum(f[:, None], f) > .25
    return float(power[high].mean() / power[~high].mean())


def test_seeds_are_a_list_and_images_an_array_too():
    images = torch.randint(0, 256, (2, 3, 40, 48), dtype=torch.uint8)
    plain = C.corrupt(images, "gaussian_noise", 3, torch.tensor([4, 7]))
    assert torch.equal(C.corrupt(images.numpy(), "gaussian_noise", 3, [4, 7]), plain)
    for odd in (images[0], images.float()):
        with pytest.raises(ValueError, match="expected uint8 .B, 3, img_h, img_w."):
            C.corrupt(odd, "fog", 3, [4, 7])
    for seeds in ([4], 4):
        with pytest.raises(ValueError, match="a seed for each image"):
            C.corrupt(images, "fog", 3, seeds)


def test_gaussian_noise_has_its_mean_variance_and_a_flat_spectrum():
    for severity, sd in enumerate((.08, .12, .18, .26, .38)):  # before the values are cut
        noise = C.gaussian_noise(torch.full((4, 3, 96, 96), .5), severity, C.Draw(torch.arange(4), 0)) - .5
        assert float(noise.std()) == pytest.approx(sd, rel=.01)
    y = C.corrupt(grey(128, 8), "gaussian_noise", 1, torch.arange(8)).double()
    assert float(y.mean()) == pytest.approx(127.5, abs=.15)  # cut to whole levels: half a level less
    assert float(y.std()) == pytest.approx(.08 * 255, rel=.01)
    assert spectrum_slope(y) == pytest.approx(1, abs=.05)
    assert np.abs(np.corrcoef(y.transpose(0, 1).flatten(1).numpy())[np.triu_indices(3, 1)]).max() < .02


def test_shot_noise_has_the_moments_of_the_cut_poisson_law():
    from scipy import stats
    for severity, photons in enumerate((60, 25, 12, 5, 3), 1):
        for level in (20, 128, 250):
            counts = np.arange(200)
            p = stats.poisson.pmf(counts, photons * level / 255)
            value = np.floor(np.minimum(counts / photons, 1) * 255 + 1e-9)
            mean, sd = p @ value, np.sqrt(p @ value**2 - (p @ value)**2)
            y = C.corrupt(grey(level, 4), "shot_noise", severity, torch.arange(4)).double()
            assert float(y.mean()) == pytest.approx(mean, abs=4 * sd / y.numel()**.5 + .02)
            assert float(y.std()) == pytest.approx(sd, rel=.02)
            assert spectrum_slope(y) == pytest.approx(1, abs=.06)


def test_impulse_noise_hits_its_share_half_white_half_black():
    for severity, share in enumerate((.03, .06, .09, .17, .27), 1):
        y = C.corrupt(grey(128, 8), "impulse_noise", severity, torch.arange(8))
        shares = [float((y == v).double().mean()) for v in (0, 255, 128)]
        assert shares == pytest.approx([share / 2, share / 2, 1 - share], abs=.004)
        assert spectrum_slope(y.double()) == pytest.approx(1, abs=.05)


def test_frost_is_a_weighted_sum_with_a_crop_of_a_texture(tmp_path):
    for k in range(1, 7):
        Image.new("RGBA" if k == 2 else "RGB", (120, 110), (k * 20, 0, 100)).save(tmp_path / f"frost{k}.png")
    for severity, (keep, add) in enumerate(((1, .4), (.8, .6), (.7, .7), (.65, .7), (.6, .75)), 1):
        y = C.corrupt(grey(100, 12, 48), "frost", severity, torch.arange(12), tmp_path)
        red = {k: int(keep * 100 + add * 20 * k + 1e-3) for k in range(1, 7)}
        assert set(y[:, 0].unique().tolist()) <= set(red.values()) and len(y[:, 0].unique()) > 2
        assert y[:, 1].unique().tolist() == [int(keep * 100 + 1e-3)]
        assert y[:, 2].unique().tolist() == [int(keep * 100 + add * 100 + 1e-3)]
    faint = C.corrupt(grey(0, 64, 48), "frost", 1, torch.arange(64), tmp_path)[:, 0].unique()
    assert faint.tolist() == [8 * k for k in range(1, 7)]  # every texture has its turn
    with pytest.raises(ValueError, match="5 of frost1"):
        (tmp_path / "frost3.png").unlink()
        C.frost_textures.cache_clear()
        C.frost_textures(tmp_path)


def test_frost_is_cut_from_all_over_a_texture(tmp_path):
    rows, cols = np.mgrid[:200, :250].astype(np.uint8)
    for k in range(1, 7):
        Image.fromarray(np.stack([rows, cols, 0 * rows + 40 * k], 2)).save(tmp_path / f"frost{k}.png")
    (tmp_path / "frost1.png~").write_bytes(b"a copy that an editor keeps")
    for img_h, img_w, size in ((48, 70, (220, 275)), (300, 70, (330, 413)), (48, 400, (352, 440))):
        assert C.frost_texture(tmp_path, 0, img_h, img_w).shape[1:] == pytest.approx(size, abs=1)
    x = torch.zeros(64, 3, 48, 70)  # textures are enlarged by 1.1, to 220x275
    ice = 255 * C.frost(x, 0, C.Draw(torch.arange(64), 8), tmp_path) / .4
    top, left = 1.1 * ice[:, 0, 24, 35] - 24, 1.1 * ice[:, 1, 24, 35] - 35  # of each image's piece
    for place, free in ((top, 220 - 48), (left, 275 - 70)):
        assert -3 < place.min() < .1 * free and .9 * free < place.max() < free + 3
    assert np.abs(np.corrcoef([top, left, ice[:, 2, 0, 0]])[np.triu_indices(3, 1)]).max() < .3


def test_defocus_blur_of_one_point_is_the_softened_disk():
    """OpenCV's GaussianBlur of the disk: 3x3 taps up to a radius of 8 px, 5x5 above."""
    for severity, (radius, alias) in enumerate(((3, .1), (4, .5), (6, .5), (8, .5), (10, .5))):
        x, reach, taps = torch.zeros(1, 3, 41, 41), max(radius, 8), 1 if radius <= 8 else 2
        x[..., 20, 20] = 1
        soft = np.exp(-np.arange(-taps, taps + 1.)**2 / (2 * alias**2))
        soft /= soft.sum()
        disk = np.array([[float(i * i + j * j <= radius * radius) for j in range(-reach, reach + 1)]
                         for i in range(-reach, reach + 1)])
        kernel = signal.convolve2d(np.pad(disk / disk.sum(), taps, "reflect"), np.outer(soft, soft), "valid")
        found = C.defocus_blur(x, severity, None)[0, 1].numpy()
        np.testing.assert_allclose(found, np.pad(kernel, 20 - reach), atol=1e-7)


def test_brightness_raises_the_value_of_hsv_of_black_too():
    colours = [(0, 0, 0), (0, 0, 200), (30, 30, 30), (250, 10, 60), (255, 255, 255), (90, 140, 3)]
    x = torch.tensor(colours, dtype=torch.uint8).T[None, :, :, None].expand(1, 3, 6, 6)
    for severity, more in enumerate((.1, .2, .3, .4, .5)):
        for colour, found in zip(colours, C.brightness(x / 255, severity, None)[0, :, :, 0].T.tolist()):
            hue, saturation, value = colorsys.rgb_to_hsv(*(v / 255 for v in colour))
            raised = colorsys.hsv_to_rgb(hue, saturation, min(value + more, 1))
            assert found == pytest.approx(raised, abs=1e-6)


def test_fog_of_a_red_image_is_grey_up_to_its_highest_channel():
    """(x + 1.5 plasma) top / (top + 1.5), top the highest value .784 of all channels, plasma from 0 to 1."""
    red = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    red[:, 0] = 200
    found, top = C.corrupt(red, "fog", 1, torch.tensor([3])).int()[0], 200 / 255
    assert (found[1] == found[2]).all()
    assert (found[1].min(), found[1].max()) == (0, int(255 * 1.5 * top / (top + 1.5)))
    assert ((found[0] - found[1]) - 255 * top ** 2 / (top + 1.5)).abs().max() <= 1
    assert C.corrupt(grey(9, 1, 65), "fog", 1, [3]).shape == (1, 3, 65, 65)  # of a plasma of 128x128


def test_a_gaussian_blur_is_scipys():
    x = torch.rand(2, 11, 14, dtype=torch.float64)
    for mode, scipys in dict(edge="nearest", symmetric="reflect", reflect="mirror").items():
        expected = ndimage.gaussian_filter(x.numpy(), (0, .6, 1.1), mode=scipys, truncate=4)
        np.testing.assert_allclose(C.gaussian(x, (.6, 1.1), mode, 4.), expected, atol=1e-12)


def test_a_motion_longer_than_the_image_ends_at_its_border():
    """As in ImageNet-C: of 41 steps along a row of 36 pixels the last 5 add nothing, but count in the sum."""
    tap = np.exp(-.5 * (np.arange(41) / 15) ** 2)
    along_a_row, along_a_column = C.motion(torch.ones(2, 1, 32, 36), 20, 15, torch.tensor([0., 90]))
    np.testing.assert_allclose(along_a_row, np.full((1, 32, 36), tap[:36].sum() / tap.sum()), rtol=1e-5)
    np.testing.assert_allclose(along_a_column, np.full((1, 32, 36), tap[:32].sum() / tap.sum()), rtol=1e-5)


def test_motion_blur_draws_a_point_out_to_half_a_gaussian():
    x = torch.zeros(1, 3, 33, 101)
    x[..., 16, 90] = 1
    for severity, (radius, sigma) in enumerate(((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))):
        tap = np.exp(-.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
        found = C.motion_blur(x, severity, SimpleNamespace(uniform=lambda: torch.tensor([.5])))  # an angle of 0
        expected = np.zeros((33, 101))
        expected[16, 90 - 2 * radius:91] = tap[::-1] / tap.sum()
        np.testing.assert_allclose(found[0, 2], expected, atol=1e-7)


def test_a_flake_of_snow_is_white_at_most():
    noise = torch.zeros(1, 1, 48, 48)
    noise[..., 24, 24] = 1000
    draw = SimpleNamespace(normal=lambda *shape: noise, uniform=lambda: torch.tensor([.5]))
    assert .3 < C.snow(torch.zeros(1, 3, 48, 48), 0, draw).max() < 1.2


def test_drawn_frost_has_the_mean_colours_and_contrasts_of_the_originals():
    originals = (((78, 149, 166), 19), ((201, 205, 214), 22), ((201, 205, 214), 22), ((138, 153, 165), 29),
                 ((112, 123, 135), 43), ((71, 95, 105), 42))  # mean R, G, B and SD of the grey values
    for texture, (colour, contrast) in zip(C.frost_textures(), originals, strict=True):
        assert texture.shape == (1, 3, 600, 900)  # the largest of the originals
        assert (255 * texture.mean((0, 2, 3))).tolist() == pytest.approx(colour, abs=3)
        assert float(255 * texture.mean(1).std()) == pytest.approx(contrast, rel=.06)
    stored = [60, 166, 182], [181, 199, 214], [212, 157, 200], [104, 131, 255], [90, 140, 109], [80, 102, 57]
    for texture, levels in zip(C.frost_textures(), stored):  # everybody draws the same, in whole levels
        found = 255 * texture[0, [0, 1, 2], [100, 299, 500], [200, 450, 700]]
        assert found.tolist() == pytest.approx(levels, abs=1e-3)


@pytest.mark.parametrize("name", C.CORRUPTIONS)
def test_same_image_seed_and_name_give_the_same_bytes_whatever_the_batch(name):
    x = torch.from_numpy(picture(48, 70)).permute(2, 0, 1).repeat(3, 1, 1, 1)
    x[1] = 255 - x[1]
    together = C.corrupt(x, name, 5, torch.tensor([4, 9, 4]))
    assert torch.equal(C.corrupt(x[1:2], name, 5, torch.tensor([9]))[0], together[1])
    assert torch.equal(together[0], together[2]) and together.dtype == torch.uint8
    if name not in C.OF_BYTES:  # an accelerator takes the images of a batch at once
        draw = C.Draw(torch.tensor([4, 9, 4]), list(C.CORRUPTIONS).index(name))
        at_once = (C.CORRUPTIONS[name](x / 255, 4, draw).clamp(0, 1) * 255 + C.LEVEL).byte()
        assert (at_once.int() - together.int()).abs().max() <= 1
    chance = {"gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost",
              "fog", "elastic_transform"}
    other = C.corrupt(x[:1], name, 5, torch.tensor([5]))[0]
    assert torch.equal(other, together[0]) == (name not in chance)


def test_draws_are_uniform_independent_and_the_same_on_any_machine():
    draw = C.Draw(torch.tensor([0, 1, 2**33]), 3)
    u = draw.uniform(50_000)
    assert u.min() > 0 and u.max() < 1
    for row in u:
        assert float(row.mean()) == pytest.approx(.5, abs=.006)
        assert np.histogram(row.numpy(), 20, (0, 1))[0].std() < 90  # 50 expected
    r = np.corrcoef(torch.cat([u, draw.uniform(50_000)]).numpy())
    assert np.abs(r[np.triu_indices(6, 1)]).max() < .02
    first = C.Draw(torch.tensor([5]), 1).uniform(3)[0].tolist()
    assert first == pytest.approx([.0413583, .5470271, .8527744], abs=1e-6)


def plain_hash(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_draws_equal_the_plain_loop_of_the_docstring():
    seeds, stream = [0, 12, 2**40 + 3], 7
    draw = C.Draw(torch.tensor(seeds), stream)
    draw.uniform(3)  # two words
    found = draw.uniform(5)
    for seed, row in zip(seeds, found):
        key = plain_hash((plain_hash(seed) + stream) % 2**64)
        for i, u in enumerate(row.tolist()):
            word = plain_hash((key + 0x9E3779B97F4A7C15 * (1 + 2 + i // 2)) % 2**64)
            assert u == ((word >> 32 * (i % 2)) % 2**23 + .5) / 2**23


@pytest.mark.parametrize("severity", range(5))
def test_glass_blur_equals_the_plain_loop_of_its_docstring(severity):
    sigma, reach, rounds = ((.7, 1, 2), (.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity]
    x, seeds, img_h, img_w = torch.rand(2, 3, 33, 40), torch.tensor([3, 8]), 33, 40
    draw = C.Draw(seeds, 4)
    y = (C.gaussian(x, (sigma, sigma), "edge", 4.) * 255 + C.LEVEL).floor() / 255
    for _ in range(rounds):
        jump = (draw.uniform(img_h - 2 * reach, img_w - 2 * reach, 2) * 2 * reach).long() - reach
        for row in range(img_h - reach, reach, -1):
            for col in range(img_w - reach, reach, -1):
                for image, (dx, dy) in zip(y, jump[:, row - reach - 1, col - reach - 1].tolist()):
                    image[:, row, col] = image[:, row + dy, col + dx]
    y = C.gaussian(y, (sigma, sigma), "edge", 4.)
    assert torch.equal(C.glass_blur(x, severity, C.Draw(seeds, 4)), y)


def test_pixelate_equals_pillow_on_images_that_are_not_tall():
    x = torch.from_numpy(picture(70, 90))
    for severity, share in enumerate((.6, .5, .4, .3, .25), 1):
        image = Image.fromarray(x.numpy()).resize((int(90 * share), int(70 * share)), Image.BOX)
        expected = torch.from_numpy(np.array(image.resize((90, 70), Image.NEAREST))).permute(2, 0, 1)
        found = C.corrupt(x.permute(2, 0, 1)[None], "pixelate", severity, torch.zeros(1))[0]
        assert torch.equal(found, expected)


def test_a_damaged_frost_texture_is_named(tmp_path):
    for k in range(1, 7):
        (tmp_path / f"frost{k}.png").write_bytes(b"no image")
    with pytest.raises(OSError, match="frost1.png"):
        C.frost_textures(tmp_path)


def test_corrupt_refuses_what_it_cannot_do():
    x = grey(0, 2, 32)
    picture = Image.fromarray(np.zeros((32, 32, 3), np.uint8))
    for bad in (dict(name="rain"), dict(severity=6), dict(severity=0), dict(images=x.float()),
                dict(images=x[..., :31]), dict(images=x[:, :, :31]), dict(images=x[:, :2]),
                dict(images=picture), dict(images=[picture, picture]), dict(images=x.numpy()[0]),
                dict(seeds=torch.zeros(3))):
        with pytest.raises(ValueError, match="expected"):
            C.corrupt(**dict(images=x, name="fog", severity=1, seeds=torch.zeros(2, dtype=torch.long)) | bad)
