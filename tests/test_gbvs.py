"""GBVS: Markov equilibrium against dense linear algebra, pop-out, degenerate input, the original's maps."""
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import map_coordinates

import gbvs as gbvs_file
from common import fixation_counts, nss, upsample
from gaze import load_osie
from gbvs import (attenuate_borders, feature_maps, gabor_filters, gbvs, gbvs_sets, halve, local_variance,
                  markov_equilibrium, reichardt)

SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def display(n_rows=6, n_cols=8, odd=(2, 5), cell=48):
    """Vertical bars on grey, a horizontal one at cell `odd` (row, column): (1, 3, img_h, img_w)."""
    image = torch.full((n_rows * cell, n_cols * cell), 0.5)
    for r in range(n_rows):
        for c in range(n_cols):
            half_h, half_w = (4, 14) if (r, c) == odd else (14, 4)
            y, x = r * cell + cell // 2, c * cell + cell // 2
            image[y - half_h:y + half_h, x - half_w:x + half_w] = 1
    return image.expand(1, 3, -1, -1).contiguous()


def test_markov_equilibrium_is_the_leading_eigenvector_of_the_dense_transition_matrix():
    h, w, sigma = 5, 6, 1.3
    maps = noise(3, h, w).double()
    for m, ours in zip(maps.numpy(), markov_equilibrium(maps, sigma).numpy()):
        weights = np.zeros((h * w, h * w))
        for i in range(h * w):
            for j in range(h * w):
                distance2 = (i // w - j // w) ** 2 + (i % w - j % w) ** 2
                weights[j, i] = abs(m.flat[i] - m.flat[j]) * np.exp(-distance2 / (2 * sigma**2))
        values, vectors = np.linalg.eig(weights / weights.sum(0))
        lead = np.argmax(values.real)
        vector = vectors[:, lead].real
        assert values[lead].real == pytest.approx(1)
        np.testing.assert_allclose(ours.ravel(), vector / vector.sum(), atol=1e-12)


def test_equilibrium_of_a_constant_map_is_uniform_and_every_map_sums_to_one():
    p = markov_equilibrium(torch.stack([torch.full((4, 6), .3), noise(4, 6)]), 1.5)
    torch.testing.assert_close(p[0], torch.full((4, 6), 1 / 24))
    torch.testing.assert_close(p.sum((1, 2)), torch.ones(2))


def test_gabor_filters_have_zero_mean_unit_norm_and_turn_with_their_angle():
    bank = gabor_filters()[:, 0]
    assert bank.mean((1, 2)).abs().max() < 1e-7
    torch.testing.assert_close(bank.square().sum((1, 2)), torch.ones(8))
    torch.testing.assert_close(bank[4], bank[0].T)                        # 90 degrees = 0 degrees, even phase
    torch.testing.assert_close(bank[6], bank[2].flip(1))                  # 135 mirrors 45
    torch.testing.assert_close(bank[2], bank[2].T)                        # 45 is symmetric about a diagonal


@pytest.mark.parametrize("n", [11, 12, 63])
def test_halving_is_filtering_renormalised_at_the_borders(n):
    matrix = np.zeros((n // 2, n + 6))                                    # columns: input pixels -2 .. n + 3
    for k in range(n // 2):
        matrix[k, 2 * k:2 * k + 6] = 1, 5, 10, 10, 5, 1
    matrix = matrix[:, 2:n + 2] / matrix[:, 2:n + 2].sum(1, keepdims=True)
    x = noise(1, 1, n, n)
    np.testing.assert_allclose(halve(x)[0, 0], matrix @ x[0, 0].numpy() @ matrix.T, atol=1e-6)


def test_border_attenuation_is_a_linear_ramp():
    row = attenuate_borders(torch.ones(1, 20, 9), 4)[0, 10]
    torch.testing.assert_close(row, torch.tensor([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 5)
    torch.testing.assert_close(attenuate_borders(torch.ones(1, 20, 9), 13)[0, :, 4],
                               attenuate_borders(torch.ones(1, 20, 9), 4)[0, :, 4])


@pytest.mark.parametrize("img_h, img_w, h, w", [(600, 800, 24, 32), (224, 384, 19, 32), (384, 288, 32, 24),
                                                (64, 64, 32, 32), (101, 67, 32, 21)])
def test_grid_has_the_aspect_of_the_image_and_values_span_zero_to_one(img_h, img_w, h, w):
    master = gbvs(noise(1, 3, img_h, img_w))
    assert master.shape == (1, h, w) and master.min() == 0 and master.max() == pytest.approx(1)


def test_each_image_of_a_batch_gets_the_map_it_gets_alone():
    images = torch.cat([noise(2, 3, 96, 128), display()[:, :, ::3, ::3], torch.full((1, 3, 96, 128), .2)])
    together, alone = gbvs(images), torch.cat([gbvs(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert torch.equal(together, gbvs(images))


@pytest.mark.parametrize("grey", [0., .2, 1.])
def test_an_image_without_contrast_gives_zeros(grey):
    image = torch.full((2, 3, 96, 130), grey)
    assert torch.equal(gbvs(image, "CDIORFM", previous=image), torch.zeros(2, 24, 32))


def test_a_faint_spot_is_still_seen():
    image = torch.full((1, 3, 128, 128), 100 / 255)
    image[:, :, 80:96, 32:48] += 1 / 255
    row, col = divmod(int(gbvs(image).argmax()), 32)
    assert abs(row - 21.5) < 4 and abs(col - 9.5) < 4


@pytest.mark.parametrize("odd", [(2, 5), (4, 2), (1, 3)])
def test_peak_is_at_the_odd_orientation(odd):
    row, col = divmod(int(gbvs(display(odd=odd), "O").argmax()), 32)
    assert abs(row - (odd[0] * 4 + 1.5)) <= 2 and abs(col - (odd[1] * 4 + 1.5)) <= 2     # 4 nodes a cell


def test_map_of_a_fixed_display_is_unchanged():
    master = gbvs(display() * torch.tensor([1, .9, .5])[:, None, None], "CDIO")[0]       # (24, 32)
    blocks = master.unflatten(0, (4, 6)).unflatten(2, (4, 8)).mean((1, 3))
    # this code's own means, from when its maps correlated .9999 with the authors' on 60 OSIE images
    expected = torch.tensor([[.1082, .1944, .1977, .1098], [.2251, .4051, .4995, .2372],
                             [.2250, .4018, .4153, .2304], [.1082, .1937, .1948, .1086]])
    torch.testing.assert_close(blocks, expected, atol=2e-3, rtol=0)


def test_dkl_axes_are_the_toolboxs_up_to_an_affine_map():
    rgb = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [.5, .5, .5], [.8, .4, .2],
                        [.3, .6, .7]]).T
    ours = feature_maps(torch.cat([rgb, rgb.amax(0, True)])[None, :, None], "D")[0, :, 0]
    # luminance, L - M, S - (L + M) by the toolbox's formula and full 256-entry table
    theirs = [[-.968, -.569, .354, -.721, 1.001, -.399, -.479, -.190],
              [.002, .614, -.363, -.251, -.004, -.016, .371, -.281],
              [.021, -.144, -.499, .683, -.002, .032, -.163, .171]]
    for a, b in zip(ours.numpy(), np.array(theirs)):
        slope, intercept = np.polyfit(a, b, 1)
        assert slope > 0
        np.testing.assert_allclose(slope * a + intercept, b, atol=.01)


def test_peak_is_at_the_odd_colour():
    image = display(odd=None) * torch.tensor([.2, .8, .2])[:, None, None]
    image[..., 96:144, 240:288] = image[:, [1, 0, 2], 96:144, 240:288]      # row 2, column 5: red
    row, col = divmod(int(gbvs(image, "D").argmax()), 32)
    assert abs(row - 9.5) <= 2 and abs(col - 21.5) <= 2


@pytest.mark.parametrize("y, x, side", [(30, 50, 3), (24, 17, 3), (47, 20, 5), (9, 12, 1)])
def test_contrast_is_the_variance_in_a_square_of_a_tenth_of_the_height(y, x, side):
    lum = noise(2, 1, y, x)
    reach = side // 2  # the toolbox rounds height / 10 (3, 2, 5, 1), halves it and takes as many on each side
    expected = np.zeros((2, 1, y, x))
    for b in range(2):
        for r in range(y):
            for c in range(x):
                square = lum[b, 0, max(r - reach, 0):r + reach + 1, max(c - reach, 0):c + reach + 1]
                expected[b, 0, r, c] = square.double().numpy().var()
    np.testing.assert_allclose(local_variance(lum), expected, atol=1e-6)


def test_contrast_peaks_where_a_texture_is_and_not_where_the_picture_is_bright():
    image = torch.full((1, 3, 192, 256), .3)
    image[..., 20:70, 20:70] = .5                                             # brighter, without texture
    texture = (noise(1, 1, 6, 6) > .5).float() * .6
    image[..., 120:168, 176:224] = texture.repeat_interleave(8, 2).repeat_interleave(8, 3)
    row, col = divmod(int(gbvs(image, "R").argmax()), 32)
    assert abs(row - 17.5) <= 3 and abs(col - 24.5) <= 3


@pytest.mark.parametrize("size, scales", [((64, 64), [16, 8, 8]), ((128, 192), [32, 16, 8]),
                                          ((88, 400), [22, 11, 5]), ((80, 400), [20, 10, 10])])
def test_features_are_of_the_image_halved_twice_to_four_times_down_to_ten_pixels(size, scales, monkeypatch):
    seen, features = [], gbvs_file.feature_maps
    monkeypatch.setattr(gbvs_file, "feature_maps",
                        lambda x, channel: seen.append(x.shape[2]) or features(x, channel))
    gbvs(noise(1, 3, *size), "I")
    assert seen == scales


def test_intensity_is_the_largest_of_red_green_and_blue():
    """What orientation, contrast, flicker and motion are of, too."""
    now, before = noise(1, 3, 64, 96, seed=1), noise(1, 3, 64, 96, seed=2)
    brightest, earlier = (x.amax(1, keepdim=True).expand(-1, 3, -1, -1) for x in (now, before))
    sets = [*"IORFM"]
    torch.testing.assert_close(gbvs_sets(now, sets, before), gbvs_sets(brightest, sets, earlier))


def test_colour_is_opponency_relative_to_the_intensity_and_0_in_black():
    rgb = noise(1, 3, 20, 24)
    rgb[:, :, 3, 4] = 0
    found = feature_maps(torch.cat([rgb, rgb.amax(1, True)], 1), "C")[0].numpy()
    for row, col in ((0, 0), (3, 4), (7, 11), (19, 23), (12, 5)):
        r, g, b = rgb[0, :, row, col].tolist()
        expected = [abs(b - min(r, g)) / max(r, g, b), abs(r - g) / max(r, g, b)] if r else [0, 0]
        assert found[:, row, col] == pytest.approx(expected, abs=1e-6)


def test_flicker_is_the_absolute_difference_of_the_halved_intensities():
    now, before = noise(2, 3, 128, 160, seed=1), noise(2, 3, 128, 160, seed=2)
    lum, earlier = now.amax(1, True), before.amax(1, True)
    for _ in range(2):
        now, lum, earlier = halve(now), halve(lum), halve(earlier)
    flicker = feature_maps(torch.cat([now, lum, earlier], 1), "F")
    assert torch.equal(flicker, (lum - earlier).abs()) and flicker.shape == (2, 1, 32, 40)


def test_motion_is_the_toolboxs_correlation_of_shifted_frames():
    now, before = noise(1, 1, 12, 15, seed=1), noise(1, 1, 12, 15, seed=2)
    rows, cols = np.mgrid[:12, :15].astype(float)
    ours = reichardt(now, before)[0]
    for angle, found in zip((0, 45, 90, 135), ours.numpy()):
        at = [rows - np.sin(np.radians(angle)), cols + np.cos(np.radians(angle))]
        a, b = now[0, 0].double().numpy(), before[0, 0].double().numpy()
        shifted_a, shifted_b = (map_coordinates(m, at, order=1, mode="nearest") for m in (a, b))
        np.testing.assert_allclose(found, np.abs(a * shifted_b - b * shifted_a), atol=1e-6)


@pytest.mark.parametrize("step, axis", [((0, 1), 0), ((-1, 1), 1), ((-1, 0), 2), ((-1, -1), 3), ((0, -1), 0)])
def test_a_moving_dot_is_seen_at_the_dot_by_the_detector_of_its_direction(step, axis):
    before, now = torch.zeros(1, 1, 20, 24), torch.zeros(1, 1, 20, 24)
    before[..., 8, 11] = 1
    now[..., 8 + step[0], 11 + step[1]] = 1                                   # rows count downwards: -1 is up
    maps = reichardt(now, before)[0]                                          # (4, 20, 24)
    strongest, place = divmod(int(maps.argmax()), 20 * 24)
    row, col = divmod(place, 24)
    assert strongest == axis and max(abs(row - 8), abs(col - 11)) <= 1
    assert maps[(axis + 2) % 4].max() < 1e-6                                  # across: nothing


def moving_dot(n=4, still=(40, 60)):
    """A square moves to the right by 8 px a frame, another one rests: (n, 3, 192, 256)."""
    frames = torch.full((n, 3, 192, 256), .1)
    frames[..., still[0] - 12:still[0] + 12, still[1] - 12:still[1] + 12] = .9
    for t in range(n):
        frames[t, :, 120:144, 150 + 8 * t:174 + 8 * t] = .9
    return frames


@pytest.mark.parametrize("channels", ["F", "M", "FM"])
def test_flicker_and_motion_find_what_moves(channels):
    frames = moving_dot()
    for t, master in enumerate(gbvs(frames[1:], channels, previous=frames[:-1]), 1):
        row, col = divmod(int(master.argmax()), 32)                           # 8 px a node
        assert abs(row - 16) <= 2 and abs(col - (158 + 8 * t) / 8) <= 3
    assert torch.equal(gbvs(frames, channels, previous=frames), torch.zeros(4, 24, 32))  # nothing moves


def test_a_frame_is_compared_with_its_own_previous_one():
    frames = moving_dot()
    together = gbvs(frames[1:], "DIORFM", previous=frames[:-1])
    alone = torch.cat([gbvs(frames[t:t + 1], "DIORFM", previous=frames[t - 1:t]) for t in (1, 2, 3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert not torch.equal(gbvs(frames[1:], "DIORFM", previous=frames[1:]), together)


def test_several_sets_of_channels_give_the_maps_of_each_alone(monkeypatch):
    frames, sets, graphs = moving_dot(), ["DIORFM", *"IORFMD", "CIO"], []
    alone = [gbvs(frames[1:], channels, previous=frames[:-1]) for channels in sets]
    monkeypatch.setattr("gbvs.markov_equilibrium", lambda maps, sigma: graphs.append(maps.shape[1])
                        or markov_equilibrium(maps, sigma))
    together = gbvs_sets(frames[1:], sets, frames[:-1])                       # (3, 8, 24, 32)
    torch.testing.assert_close(together, torch.stack(alone, 1), atol=1e-6, rtol=0)
    assert graphs == [3 * (3 + 1 + 4 + 1 + 1 + 4 + 2)]                        # every channel once, at 3 scales
    assert not torch.equal(together[:, 0], together[:, 1])


@pytest.mark.parametrize("sets", [[], ["DIO", ""], ["DIO", "X"], ["DIO", "M"]])
def test_a_set_that_is_empty_or_has_no_such_channel_or_lacks_previous_frames_is_refused(sets):
    with pytest.raises(ValueError, match="^gbvs got .*expected.*: .*[.]$"):
        gbvs_sets(noise(2, 3, 96, 96), sets)


def test_previous_frames_change_nothing_without_flicker_or_motion():
    frames = noise(2, 3, 96, 128)
    assert torch.equal(gbvs(frames, "DIOR"), gbvs(frames, "DIOR", previous=noise(2, 3, 96, 128, seed=5)))


@pytest.mark.parametrize("previous", [None, noise(1, 3, 96, 96), noise(2, 3, 64, 96), noise(2, 3, 96, 96) * 255,
                                      torch.zeros(2, 3, 96, 96, dtype=torch.uint8)])
def test_flicker_without_fitting_previous_frames_is_refused_in_one_sentence(previous):
    for channels in ("F", "DIOM"):
        with pytest.raises(ValueError, match="^gbvs got .*expected.*: .*[.]$"):
            gbvs(noise(2, 3, 96, 96), channels, previous=previous)


def test_a_mirrored_image_gives_the_mirrored_map():
    image = noise(1, 3, 8, 8).repeat_interleave(16, 2).repeat_interleave(16, 3)
    torch.testing.assert_close(gbvs(image.flip(3)), gbvs(image).flip(2), atol=1e-4, rtol=0)


def test_half_precision_images_are_accepted():
    images = (noise(1, 3, 96, 128) * 255).round() / 255
    assert gbvs(images.half()).dtype == torch.float32
    assert np.corrcoef(gbvs(images.half()).flatten(), gbvs(images).flatten())[0, 1] > .999


def test_autocast_changes_nothing():
    images = noise(1, 3, 96, 128)
    with torch.autocast("cpu", torch.bfloat16):
        inside = gbvs(images, "CDIO")
    assert torch.equal(inside, gbvs(images, "CDIO"))


@pytest.mark.parametrize("images, channels", [
    (noise(3, 96, 96), "DIO"), (noise(1, 1, 96, 96), "DIO"), (noise(1, 3, 63, 96), "DIO"),
    (torch.zeros(1, 3, 96, 96, dtype=torch.uint8), "DIO"), (torch.full((1, 3, 96, 96), torch.nan), "DIO"),
    (torch.full((1, 3, 96, 96), 255.), "DIO"), (torch.full((1, 3, 96, 96), -.1), "DIO"),
    (noise(1, 3, 96, 96).numpy(), "DIO"), ([[0.]], "DIO"),
    (torch.zeros(0, 3, 96, 96), "DIO"), (torch.zeros(1, 3, 96, 96), "DF"), (torch.zeros(1, 3, 96, 96), "")])
def test_wrong_input_is_refused_in_one_sentence(images, channels):
    with pytest.raises(ValueError, match="^gbvs got .*expected.*: .*[.]$"):
        gbvs(images, channels)


def read_reference(name):
    path = SHARED / "reference" / name
    if not path.exists():
        pytest.skip(f"{path} is missing: set GAZE_SHARED to the folder of reference arrays")
    return np.load(path)


@pytest.mark.real
@pytest.mark.parametrize("channels, key", [("DIO", "master_dio"), ("CIO", "master_cio")])
def test_map_correlates_with_the_authors_matlab_code(channels, key):
    reference = read_reference("gbvs_matlab.npz")
    image = torch.from_numpy(reference["image_bgr"][..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    assert np.corrcoef(gbvs(image, channels).flatten(), reference[key].ravel())[0, 1] > .999


@pytest.mark.real
def test_maps_of_osie_images_correlate_with_the_authors_matlab_code():
    reference = read_reference("gbvs_osie.npz")
    folder = SHARED / "real/osie/stimuli"
    if not folder.exists():
        pytest.skip(f"{folder} is missing")
    gaze = {Path(name).stem: o for _, name, o in load_osie(SHARED / "real/osie/fixations.mat")}
    correlations, scores = [], []
    for key in reference.files:
        image = torch.from_numpy(np.array(Image.open(folder / f"{key}.jpg"))).permute(2, 0, 1)[None] / 255
        maps = torch.cat([gbvs(image), torch.from_numpy(reference[key]).float()[None]])  # (2, 24, 32)
        correlations.append(np.corrcoef(maps.flatten(1))[0, 1])
        rows, cols = (np.concatenate([o[k] for o in gaze[key]]) for k in (0, 1))
        fix = fixation_counts(rows, cols, (600, 800)).expand(2, -1, -1)
        scores.append(nss(upsample(maps, (600, 800)), fix))
    ours, theirs = torch.stack(scores).mean(0)
    assert len(correlations) == 60 and np.mean(correlations) > .999 and min(correlations) > .99
    assert abs(ours - theirs) < .03
