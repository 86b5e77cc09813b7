"""Fixation maps and metrics against scipy, double loops, closed forms and stored values of other codes."""
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.ndimage import gaussian_filter
from scipy.stats import mannwhitneyu

from common import (InputError, auc_judd, cc, centre_gaussian, density_map, fixation_counts, gaussian_blur,
                    information_gain, kld, nss, observer_consistency, scale_fixations, shuffled_auc, sim)
from gaze import load_salicon
from pretended import pretended

SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
METRICS = {"cc": cc, "sim": sim, "kld": kld, "nss": nss, "auc_judd": auc_judd,
           "sauc": lambda p, q: shuffled_auc(p, q, torch.as_tensor(q > -1).flatten(1).cumsum(1).view(q.shape) % 3),
           "gain": lambda p, q: information_gain(p, torch.as_tensor(p).roll(1, -1).abs(), q)}
OF_FIXATIONS = ("nss", "auc_judd", "sauc", "gain")


def formula_maps():
    """A model map without ties, a human map and 40 fixations on 38 pixels of 24x32, from closed formulas."""
    r, c = np.mgrid[0:24, 0:32].astype(float)
    p = np.sin(0.37 * r + 0.11) ** 2 + np.cos(0.23 * c - 0.4) ** 2 * (1 + 0.01 * r * c / 700)
    q = np.exp(-((r - 9) ** 2 + (c - 13) ** 2) / 60) + 0.5 * np.exp(-((r - 17) ** 2 + (c - 25) ** 2) / 30)
    k = np.arange(40)
    fix = fixation_counts((7 * k * k + 3 * k + 5) % 24, (11 * k * k + 5 * k + 2) % 32, (24, 32))
    return torch.from_numpy(p)[None], torch.from_numpy(q)[None], fix[None]


def naive_auc(p, hit):
    """The definition of auc_judd in words of one threshold at a time."""
    curve = [(0.0, 0.0)]
    for t in sorted(set(p[hit]), reverse=True):
        curve.append((np.mean(p[~hit] >= t), np.mean(p[hit] >= t)))
    curve.append((1.0, 1.0))
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in zip(curve, curve[1:]))


def mit_auc(p, hit):
    """AUC-Judd by its usual algorithm: the i-th highest fixated value, i / n and the rest above it."""
    values = np.sort(p[hit])[::-1]
    above = [(p >= t).sum() for t in values]
    tp = np.array([0, *[(i + 1) / len(values) for i in range(len(values))], 1])
    fp = np.array([0, *[(a - i - 1) / (p.size - len(values)) for i, a in enumerate(above)], 1])
    return trapezoid(tp, fp)


def random_case(seed, n_fix, levels=None, size=(15, 21)):
    rng = np.random.default_rng(seed)
    p = rng.standard_normal(size)
    p = p if levels is None else np.round(p * levels) / levels
    hit = np.zeros(p.size, dtype=bool)
    hit[rng.choice(p.size, n_fix, replace=False)] = True
    return p, hit.reshape(size)


# fixation maps

@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.3, 4, 30])
def test_gaussian_blur_equals_scipy_with_zero_padding(sigma):
    maps = torch.from_numpy(np.random.default_rng(0).random((3, 17, 26)))
    expected = np.stack([gaussian_filter(m, sigma, mode="constant", truncate=4) for m in maps.numpy()])
    np.testing.assert_allclose(gaussian_blur(maps, sigma), expected, atol=1e-14)
    np.testing.assert_allclose(gaussian_blur(maps.float(), sigma), expected, atol=1e-6)


def test_gaussian_blur_is_differentiable_and_self_adjoint():
    maps, other = torch.rand(2, 2, 9, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    maps.requires_grad_()
    (gaussian_blur(maps, 1.5) * other).sum().backward()
    torch.testing.assert_close(maps.grad, gaussian_blur(other, 1.5))


def test_gaussian_blur_without_width_changes_nothing():
    maps = torch.eye(4)[None]
    torch.testing.assert_close(gaussian_blur(maps, 0), maps)


def test_salicon_pixels_are_scaled_as_in_integer_arithmetic():
    v = np.arange(1, 641)
    rows, cols = scale_fixations(v[:480] - 1, v - 1, (480, 640), (224, 224))
    np.testing.assert_array_equal(rows, (v[:480] - 1) * 224 // 480)
    np.testing.assert_array_equal(cols, (v - 1) * 224 // 640)


def test_fixations_are_floored_and_those_outside_or_missing_dropped():
    nan = np.nan
    counts = fixation_counts([0, 0.9, 2.99, -0.1, 3, nan, 1], [0, 0.2, 3.5, 1, 1, 1, 4], (3, 4))
    assert counts.shape == (3, 4) and counts.dtype == torch.float64
    assert counts[0, 0] == 2 and counts[2, 3] == 1 and counts.sum() == 3
    weighted = fixation_counts([0, 0, 1], [0, 0, 1], (3, 4), weights=[0.25, 0.5, nan])
    assert weighted[0, 0] == 0.75 and weighted.sum() == 0.75


@pytest.mark.parametrize("args", [([0, 1], [0], None), ([0], [0], [-1.0]), ([0], [0], [1.0, 2.0])])
def test_fixations_that_do_not_fit_together_are_refused(args):
    with pytest.raises(InputError, match="expected one of each"):
        fixation_counts(args[0], args[1], (3, 4), args[2])


def test_density_map_is_a_blurred_count_map_from_0_to_1():
    rows, cols = [3, 3, 10, 18.7], [4, 4, 25, 0.2]
    counts = np.zeros((20, 30))
    for r, c in zip(rows, cols):
        counts[int(r), int(c)] += 1
    expected = gaussian_filter(counts, 2.5, mode="constant", truncate=4)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    density = density_map(rows, cols, (20, 30), 2.5)
    np.testing.assert_allclose(density, expected, atol=1e-14)
    assert density.min() == 0 and density.max() == 1


def test_density_map_without_fixations_is_zero():
    assert (density_map([], [], (5, 6), 2) == 0).all()
    assert (density_map([-1, np.nan], [2, 2], (5, 6), 2) == 0).all()


# metrics against stored values and definitions

def test_metrics_equal_pysaliency_on_a_formula_map():
    # pysaliency 0.2.22: CC, SIM, MIT_KLDiv, NSS().mean(), general_roc(judd=1) of fixated and other pixels
    p, q, fix = formula_maps()
    assert cc(p, q).item() == pytest.approx(-0.17445934857593562, abs=1e-12)
    assert sim(p, q).item() == pytest.approx(0.5665935122222301, abs=1e-12)
    assert kld(p, q).item() == pytest.approx(0.6580057084036741, abs=1e-10)
    assert nss(p, fix).item() == pytest.approx(0.07718653620046159, abs=1e-12)
    assert nss(p, fix, counts=True).item() == pytest.approx(0.0788889385845496, abs=1e-12)
    assert auc_judd(p, fix).item() == pytest.approx(0.5440879596250902, abs=1e-12)
    assert auc_judd((p * 4).floor() / 4, fix).item() == pytest.approx(0.5251441961067052, abs=1e-12)    # ties


def test_shuffled_auc_and_information_gain_equal_pysaliency():
    # pysaliency 0.2.22, two images of 24x32 with the 40 and 90 fixations below: a SaliencyMapModel of the map,
    # AUC_per_image(nonfixations="shuffled"); two Models of log(map / sum), information_gain and
    # information_gains, the means of each image
    p, q, fix = formula_maps()
    k = np.arange(90)
    others = fixation_counts((5 * k * k + k + 3) % 24, (3 * k * k + 7 * k + 1) % 32, (24, 32))[None]
    assert fix.max() > 1 and others.max() > 1  # pixels that count more than once
    for m, expected in ((p, .5302777777777778), ((p * 4).floor() / 4, .5168055555555556), (q, .44138888888888883)):
        assert shuffled_auc(m, fix, others).item() == pytest.approx(expected, abs=1e-12)
        assert shuffled_auc(m, others, fix).item() == pytest.approx(1 - expected, abs=1e-12)
    assert information_gain(p, q, fix, 2**-52).item() == pytest.approx(0.8143245170230179, abs=1e-9)
    assert information_gain(q, p, fix, 2**-52).item() == pytest.approx(-0.8143245170230179, abs=1e-9)
    assert information_gain(p, q, others, 2**-52).item() == pytest.approx(0.4647435566589573, abs=1e-9)


@pytest.mark.parametrize("levels", [None, 2, 1])
def test_shuffled_auc_equals_the_loop_over_pairs_of_fixations(levels):
    rng = np.random.default_rng(4)
    p, _ = random_case(4, 1, levels)
    fix, others = rng.integers(0, 3, (2, *p.shape)) * (rng.random((2, *p.shape)) < .2)
    here, elsewhere = (np.repeat(p.ravel(), m.ravel()) for m in (fix, others))  # the map at every fixation
    wins = [(a > b) + .5 * (a == b) for a in here for b in elsewhere]
    batch = [torch.from_numpy(np.stack([m, m[::-1]])) for m in (p, fix, others)]  # another image beside it
    assert shuffled_auc(*batch).tolist() == pytest.approx([np.mean(wins)] * 2, abs=1e-13)


def test_what_all_images_share_is_at_chance_and_what_one_image_has_is_not():
    """Twelve images of 400 fixations: all around the middle, and a third of them on an object of each."""
    rng = np.random.default_rng(0)
    size, maps, planted = (40, 60), [], []
    for i in range(12):
        spot = np.array([5 + 5 * (i % 6), 8 + 15 * (i % 4)])
        points = np.concatenate([rng.normal((20, 30), (7, 10), (300, 2)), rng.normal(spot, 2, (150, 2))]).T
        maps.append(fixation_counts(*points, size))
        planted.append(gaussian_blur(fixation_counts(*spot[:, None], size), 3))
    fix, planted = torch.stack(maps), torch.stack(planted)
    others = fix.sum(0) - fix
    centre = centre_gaussian(others)
    planted = planted / planted.sum((1, 2), keepdim=True) / 3 + 2 / 3 * centre / centre.sum((1, 2), keepdim=True)
    same = shuffled_auc(centre, fix, others)
    assert abs(same.mean() - .5) < 2 * same.std() / 12**.5 + 1e-3
    assert (information_gain(centre, centre, fix) == 0).all()
    assert shuffled_auc(planted, fix, others).min() > .55 and information_gain(planted, centre, fix).min() > .3
    wrong = planted.roll(1, 0)  # another image's object
    assert abs(shuffled_auc(wrong, fix, others).mean() - .5) < .05 and information_gain(wrong, centre, fix).mean() < 0


def test_centre_gaussian_has_the_sds_of_the_fixations_about_the_middle():
    points = np.array([[3, 10], [12, 2], [7, 20], [7, 20]])
    fix = fixation_counts(*points.T, (15, 25))[None]
    sd = ((points - [7, 12]) ** 2).mean(0) ** .5
    r, c = np.mgrid[0:15, 0:25]
    expected = np.exp(-.5 * ((r - 7) / sd[0]) ** 2) * np.exp(-.5 * ((c - 12) / sd[1]) ** 2)
    np.testing.assert_allclose(centre_gaussian(torch.cat([fix, 0 * fix])), [expected, np.ones((15, 25))], atol=1e-14)
    middle = fixation_counts([7], [12], (15, 25))[None]
    assert centre_gaussian(middle)[0, 7, 13].item() == pytest.approx(np.exp(-.5))  # at least 1 px, never 0/0


def test_eps_of_the_information_gain_is_a_share_of_uniform_and_the_cost_of_a_zero():
    p, q, fix = formula_maps()
    eps, n = 1e-4, p.numel()
    mixed = [(m / m.sum() + eps) / (1 + n * eps) for m in (p, q)]
    assert information_gain(p, q, fix, eps).item() == pytest.approx(information_gain(*mixed, fix, 2**-52).item(), abs=1e-9)
    hole = torch.where(fix > 0, 0, p)
    expected = -52 - (np.log2((q / q.sum()).numpy()) * fix.numpy()).sum() / 40
    assert information_gain(hole, q, fix, 2**-52).item() == pytest.approx(expected, abs=1e-6)
    flat, uniform = torch.zeros_like(p), torch.ones_like(p)
    torch.testing.assert_close(information_gain(flat, q, fix), information_gain(uniform, q, fix))
    torch.testing.assert_close(information_gain(p - 5, q, fix), information_gain(p - p.min(), q, fix))


def test_metrics_equal_their_definitions_pixel_by_pixel():
    p, q, fix = formula_maps()
    a, b, f = p[0].numpy().ravel(), q[0].numpy().ravel(), fix[0].numpy().ravel() > 0
    pn, qn, eps = a / a.sum(), b / b.sum(), 2.0**-52
    assert cc(p, q).item() == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)
    assert sim(p, q).item() == pytest.approx(sum(min(x, y) for x, y in zip(pn, qn)), abs=1e-12)
    kl = sum(y * np.log(eps + y / (x + eps)) for x, y in zip(pn, qn))
    assert kld(p, q).item() == pytest.approx(kl, abs=1e-12)
    assert nss(p, fix).item() == pytest.approx(((a - a.mean()) / a.std())[f].mean(), abs=1e-12)


def test_nss_of_the_mit_code_differs_by_the_degrees_of_freedom_alone():
    p, _, fix = formula_maps()
    a, f = p[0].numpy(), fix[0].numpy() > 0
    mit = ((a - a.mean()) / a.std(ddof=1))[f].mean()
    assert nss(p, fix).item() * np.sqrt((a.size - 1) / a.size) == pytest.approx(mit, abs=1e-14)


def test_eps_decides_the_kl_where_the_model_is_zero():
    p, q = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    p[0, 0] = 1
    for eps in (2.0**-52, 1e-10):
        expected = 0.5 * np.log(eps + 0.25 / (0.5 + eps)) + 0.5 * np.log(eps + 0.25 / eps)
        assert kld(p, q, eps).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [None, 8, 1])
@pytest.mark.parametrize("n_fix", [1, 7, 160, 314])
def test_auc_judd_equals_the_loop_over_thresholds(n_fix, levels):
    for seed in range(3):
        p, hit = random_case(seed, n_fix, levels)
        value = auc_judd(torch.from_numpy(p)[None], torch.from_numpy(hit)[None])
        assert value.item() == pytest.approx(naive_auc(p, hit), abs=1e-13)


def test_auc_judd_equals_mit_code_without_ties():
    p, hit = random_case(0, 40)
    assert naive_auc(p, hit) == pytest.approx(mit_auc(p, hit), abs=1e-14)
    value = auc_judd(torch.from_numpy(p)[None], torch.from_numpy(hit)[None]).item()
    assert value == pytest.approx(mit_auc(p, hit), abs=1e-13)


def test_mann_whitney_is_smaller_by_the_last_false_positive_share_over_2n():
    p, hit = random_case(3, 25)
    u = mannwhitneyu(p[hit], p[~hit]).statistic / (25 * (p.size - 25))
    last = np.mean(p[~hit] >= p[hit].min())
    value = auc_judd(torch.from_numpy(p)[None], torch.from_numpy(hit)[None]).item()
    assert value == pytest.approx(u + last / 50, abs=1e-13)


@pytest.mark.parametrize("make", [lambda p: np.exp(8 * p), lambda p: p * 1e-300, lambda p: 1 + p * 1e-15,
                                  lambda p: np.where(p == p.max(), 1e12, p), lambda p: np.sign(p)])
@pytest.mark.parametrize("n_fix", [20, 250])
def test_auc_judd_equals_the_loop_on_skewed_and_tied_maps(make, n_fix):
    p, hit = random_case(5, n_fix)
    p = make(p)
    assert auc_judd(p[None], hit[None]).item() == pytest.approx(naive_auc(p, hit), abs=1e-13)


def test_auc_judd_keeps_all_digits_on_a_large_map():
    p, hit = random_case(9, 6000, size=(224, 224))
    t = np.sort(p[hit])[::-1]
    fp = np.searchsorted(np.sort(-p[~hit]), -t, side="right")  # other pixels >= t
    area = sum(int(a) + int(b) for a, b in zip(fp, [0, *fp]))  # whole numbers
    expected = 1 - area / (2 * hit.sum() * (~hit).sum())
    assert auc_judd(p[None], hit[None]).item() == pytest.approx(expected, abs=1e-15)


def test_auc_judd_is_invariant_to_monotone_change_of_the_map():
    p, _, fix = formula_maps()
    torch.testing.assert_close(auc_judd(p.exp(), fix), auc_judd(p, fix))


# degenerate cases

def test_constant_model_maps_have_defined_values():
    p, q, fix = formula_maps()
    for value in (0.0, 0.1, 7.3, -0.3):
        flat, uniform = torch.full_like(p, value), torch.ones_like(p)
        assert cc(flat, q).item() == 0 and cc(p, flat + 1e3).item() == 0
        assert nss(flat, fix).item() == 0
        assert auc_judd(flat, fix).item() == 0.5 and shuffled_auc(flat, fix, fix.roll(3, 1)).item() == 0.5
        torch.testing.assert_close(kld(flat, q), kld(uniform, q))
        torch.testing.assert_close(sim(flat, q), sim(uniform, q))


@pytest.mark.parametrize("name", METRICS)
def test_an_empty_human_side_is_nan_and_spares_the_others(name):
    p, q, fix = formula_maps()
    human = fix if name in OF_FIXATIONS else q
    value = METRICS[name](p.expand(3, -1, -1), torch.cat([human, torch.zeros_like(human), human]))
    assert torch.equal(value.isnan(), torch.tensor([False, True, False]))
    torch.testing.assert_close(value[0], METRICS[name](p, human)[0])


def test_auc_judd_is_nan_when_every_pixel_is_fixated():
    p, _, fix = formula_maps()
    assert auc_judd(p, torch.ones_like(fix)).isnan().all()
    assert nss(p, torch.ones_like(fix)).item() == pytest.approx(0, abs=1e-12)


def test_one_fixation_has_a_defined_score():
    p, fix = torch.arange(12.).view(1, 3, 4), torch.zeros(1, 3, 4)
    fix[0, 2, 3] = 1  # at the maximum
    assert nss(p, fix).item() == pytest.approx(5.5 / np.sqrt(143 / 12)) and auc_judd(p, fix).item() == 1


def test_a_large_offset_does_not_cost_the_metrics_their_digits():
    p, q = torch.rand(2, 1, 30, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert cc(p + 1e6, q).item() == pytest.approx(cc(p, q).item(), abs=1e-9)
    assert -1 <= cc(q, q + 1e9).item() <= 1


def test_counts_of_whole_numbers_can_be_blurred():
    counts = torch.zeros(9, 9, dtype=torch.int64)
    counts[4, 4] = 3
    assert gaussian_blur(counts, 1.).sum().item() == pytest.approx(3)


def test_nothing_is_rounded_under_autocast():
    p = torch.rand(30, 30, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert (p @ p).dtype == torch.bfloat16  # what it protects from
        assert (gaussian_blur(p, 2.) - gaussian_blur(p.double(), 2.)).abs().max() < 1e-6
        assert cc(p[None], p[None]).item() == pytest.approx(1, abs=1e-12)
    assert cc(p=p[None], q=p[None]).item() == pytest.approx(1)


def test_negative_maps_are_shifted_to_a_minimum_of_zero_for_sim_and_kl():
    p, q, _ = formula_maps()
    torch.testing.assert_close(sim(p - 5, q), sim(p - p.min(), q))
    torch.testing.assert_close(kld(p - 5, q), kld(p - p.min(), q))
    assert not torch.isclose(sim(p - p.min(), q), sim(p, q))    # no negative value: nothing subtracted


def test_equal_maps_are_perfect():
    _, q, _ = formula_maps()
    assert cc(q, 3 * q).item() == pytest.approx(1) and sim(q, 3 * q).item() == pytest.approx(1)
    assert kld(q, 3 * q).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_nan_infinity_and_unequal_shapes_are_refused(name):
    p, _, fix = formula_maps()
    for bad in (np.nan, np.inf):
        broken = p.clone()
        broken[0, 3, 4] = bad
        with pytest.raises(InputError, match="NaN or infinity"):
            METRICS[name](broken, fix)
    for other in (fix[:, :-1], fix[0]):
        with pytest.raises(InputError, match="expected two of shape"):
            METRICS[name](p, other)
    with pytest.raises(InputError, match="a single map a batch axis"):
        METRICS[name](p[0], fix[0])


@pytest.mark.parametrize("name", METRICS)
def test_numpy_arrays_of_any_number_type_are_taken(name):
    p, _, fix = formula_maps()
    value = METRICS[name](p.numpy().astype(np.float32), fix.numpy().astype(np.uint8))
    assert value.dtype == torch.float64 and torch.equal(value, METRICS[name](p.float(), fix))


# shapes, types, devices

@pytest.mark.parametrize("name", METRICS)
def test_a_batch_equals_its_images_and_leaves_its_input_alone(name):
    g = torch.Generator().manual_seed(0)
    p = gaussian_blur(torch.rand(7, 224, 224, dtype=torch.float64, generator=g), 3)
    human = (torch.rand(7, 224, 224, generator=g) > 0.95).double()
    before = p.clone(), human.clone()
    value = METRICS[name](p, human)
    assert value.shape == (7,) and value.dtype == torch.float64 and value.device.type == "cpu"
    one_by_one = torch.cat([METRICS[name](p[i:i + 1], human[i:i + 1]) for i in range(7)])
    torch.testing.assert_close(value, one_by_one)
    assert torch.equal(p, before[0]) and torch.equal(human, before[1])
    assert METRICS[name](p[:0], human[:0]).shape == (0,)


@pytest.mark.parametrize("name", METRICS)
def test_an_accelerator_agrees_in_float32(name):
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
    if device is None:
        pytest.skip("no GPU")
    p, q, fix = (m.repeat(3, 1, 1) for m in formula_maps())
    human = fix if name in OF_FIXATIONS else q
    value = METRICS[name](p.float().to(device), human.float().to(device))
    assert value.dtype == torch.float64 and value.device.type == "cpu"
    torch.testing.assert_close(value, METRICS[name](p, human), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("levels", [None, 8, 1])
@pytest.mark.parametrize("device", ["cuda:0", "mps:0"])
def test_auc_judd_of_a_gpu_equals_that_of_the_cpu_to_the_last_digit(device, levels):
    """By a pretended GPU: another branch, which sorts whole maps instead of one image's pixels."""
    cases = [random_case(seed, n_fix, levels) for seed, n_fix in enumerate((0, 1, 7, 160, 315))]
    p, hit = (torch.from_numpy(np.stack(part)).float() for part in zip(*cases))  # no fixation ... every pixel
    with pretended(device) as found:
        value = auc_judd(p.to(device), hit.to(device))
    assert torch.equal(value.nan_to_num(-1), auc_judd(p, hit).nan_to_num(-1)) and not found.faults
    assert value.isnan().tolist() == [True, False, False, False, True]
    expected = [naive_auc(p[i].numpy(), hit[i].numpy() > 0) for i in (1, 2, 3)]
    assert value[1:4].tolist() == pytest.approx(expected, abs=1e-13)
    assert found.copies.total() == 2  # the check of the maps, and the numbers


def test_consistency_is_the_mean_over_pairs_of_workers():
    rng = np.random.default_rng(2)
    workers = [rng.uniform(0, 40, (2, n)) for n in (1, 2, 7, 30, 31)]
    workers[3] = np.array([[5, 5, 5], [9, 9, 300]])  # repeated, and outside the map
    maps = [density_map(rows, cols, (40, 60), 4).numpy().ravel() for rows, cols in workers]
    expected = np.mean([np.corrcoef(a, b)[0, 1] for i, a in enumerate(maps) for b in maps[:i]])
    assert observer_consistency(workers, (40, 60), 4) == pytest.approx(expected, abs=1e-9)
    idle = np.empty((2, 0))
    assert observer_consistency([idle, *workers, idle], (40, 60), 4) == pytest.approx(expected, abs=1e-9)
    assert np.isnan(observer_consistency([workers[0], idle], (40, 60), 4))


# values of other codes on larger maps

def reference(name):
    if not (SHARED / "reference" / name).exists():
        pytest.skip(f"{SHARED / 'reference' / name} is not there")
    return SHARED / "reference" / name


@pytest.mark.real
@pytest.mark.parametrize("image", ["123067", "123177"])
def test_salicon_density_maps_are_reproduced(image):
    stored = np.load(reference("salicon_maps.npz"))
    workers = {str(i): workers for i, _, workers, _ in load_salicon(
        reference("../real/salicon/fixations_train2014examples.json"))}[image]
    rows, cols = (np.concatenate([w[k] for w in workers]) for k in (0, 1))
    rows, cols = scale_fixations(rows, cols, (480, 640), (224, 224))
    density = density_map(rows, cols, (224, 224), 15)
    np.testing.assert_allclose(density, stored[f"{image}_m224_count_floor_const"], atol=1e-5)
    assert np.abs(density.numpy() - stored[f"{image}_m224_count_round_const"]).max() > 1e-3


@pytest.mark.real
@pytest.mark.parametrize("name", ["smooth", "smooth2", "ties8bit", "zeros", "rect"])
def test_mit_code_and_pysaliency_are_reproduced(name):
    maps, stored = np.load(reference("metrics_maps.npz")), json.loads(reference("metrics.json").read_text())
    mit, other = stored["octave_mit_benchmark"][name], stored["variants"][name]
    p, q = (torch.from_numpy(maps[f"{name}_{kind}"])[None] for kind in ("sal", "dens"))
    fix = fixation_counts(maps[f"{name}_fy"], maps[f"{name}_fx"], p.shape[1:])[None]
    low, high = p.min(), p.max()
    assert cc(p, q).item() == pytest.approx(mit["cc"], abs=1e-9)
    assert kld(p, q).item() == pytest.approx(mit["kl"], abs=1e-9)
    assert sim((p - low) / (high - low), q).item() == pytest.approx(mit["sim"], abs=1e-9)    # MIT: min-max
    assert sim(p, q).item() == pytest.approx(other["sim"]["pysaliency_nominmax"], abs=1e-9)
    n = p.numel()
    assert nss(p, fix).item() * np.sqrt((n - 1) / n) == pytest.approx(mit["nss"], abs=1e-9)   # MIT: ddof 1
    assert nss(p, fix).item() == pytest.approx(other["nss"]["ddof0_unique"], abs=1e-9)
    assert nss(p, fix, counts=True).item() == pytest.approx(other["nss"]["pysaliency_ddof0_allfix"], abs=1e-9)
    value = auc_judd(p, fix).item()
    assert value == pytest.approx(other["auc_judd"]["pysaliency_nojitter_unique"], abs=1e-12)
    if name not in ("ties8bit", "zeros"):    # with ties the MIT code needs its random jitter
        assert value == pytest.approx(mit["auc_nojitter"], abs=1e-12)
