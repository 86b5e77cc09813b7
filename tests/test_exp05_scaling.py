"""exp05_scaling: distances between gazes, their scaling and the test equal closed forms and other programs."""
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist, squareform

import exp05_data as D
import exp05_scaling as S
from gaze_worlds import clip_of


# ------------------------------------------------------------------------------------------------ distances

def test_median_distance_ignores_missing_gaze():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 9, (41, 2)), rng.normal(0, 9, (3, 41, 2))
    b[0, :20], b[1, :], a[40] = np.nan, np.nan, np.nan
    expected = [np.nanmedian(np.linalg.norm(a - g, axis=1)) if np.isfinite(g).any() else np.nan for g in b]
    np.testing.assert_allclose(S.median_distance(a, b), expected)


def test_relative_distances_average_clips_and_fill_pairs_that_never_met():
    rng, seen, traces, viewers = np.random.default_rng(6), [], [], list("pqrstx")
    for mine in ("pqrs", "pqrs", "pqt", "x"):  # t saw one clip, x met nobody
        gaze = rng.uniform(0, 99, (len(mine), 8, 2))
        seen.append(D.Watched(clip_of(genre="g"), np.arange(8), (99, 99), list(mine), gaze, np.arange(8)))
        traces.append(rng.uniform(0, 99, (8, 3, 2)))
    by_clip = [S.distances(w, trace, viewers) for w, trace in zip(seen, traces)]
    unit, d = S.distance_sets(seen, traces, by_clip, viewers, pool=False)["all"]
    assert d.shape == (3 + 6, 6) and unit == "median between viewers"
    units = [np.nanmedian(of[3:][np.triu_indices(6, 1)]) for of in by_clip[:3]]
    assert d[3, 1] == pytest.approx(np.mean([of[3, 1] / u for of, u in zip(by_clip, units)]))
    assert d[1, 4] == pytest.approx(by_clip[2][1, 4] / units[2])  # a trace to t
    met, between = S.fill(d[3:])
    assert met.tolist() == [True] * 5 + [False] and (np.diag(between) == 0).all()
    pr, qr, rs = (np.mean([of[3 + i, j] / u for of, u in zip(by_clip[:2], units)])
                  for i, j in ((0, 2), (1, 2), (2, 3)))
    pt, qt = (by_clip[2][3 + i, 4] / units[2] for i in (0, 1))
    assert between[2, 4] == between[4, 2] == pytest.approx((np.median([pr, qr, rs]) + np.median([pt, qt])) / 2)
    distance = S.scaled(d)["distance"]
    assert np.isfinite(distance[:8]).all() and np.isnan(distance[8])


def test_every_genre_has_the_mean_of_its_own_clips_and_all_that_of_every_clip():
    rng, viewers = np.random.default_rng(9), list("pqr")
    seen = [D.Watched(clip_of(genre=genre), np.arange(6), (99, 99), viewers, None, np.arange(6))
            for genre in ("drama", "nature", "drama", "nature")]
    by_clip = rng.uniform(1, 99, (4, 5, 3))  # two traces, three viewers
    by_clip[:, [2, 3, 4], [0, 1, 2]] = 0
    by_clip[2, 1] = by_clip[0, 3, 2] = np.nan
    relative = np.stack([d / np.nanmedian([d[2, 1], d[2, 2], d[3, 2]]) for d in by_clip])
    sets = S.distance_sets(seen, [], list(by_clip), viewers, pool=False)
    assert list(sets) == ["all", "drama", "nature"]
    for name, clips in (("all", [0, 1, 2, 3]), ("drama", [0, 2]), ("nature", [1, 3])):
        assert sets[name][0] == "median between viewers"
        np.testing.assert_allclose(sets[name][1], np.nanmean(relative[clips], 0))


def test_pooled_distances_are_medians_over_the_time_of_all_clips():
    rng, seen, traces, viewers = np.random.default_rng(2), [], [], list("pqr")
    for mine, n in (("pq", 5), ("qrp", 9)):
        gaze = rng.uniform(0, 99, (len(mine), 2 * n, 2))
        seen.append(D.Watched(clip_of(), np.arange(n), (99, 99), list(mine), gaze, np.repeat(np.arange(n), 2)))
        traces.append(rng.uniform(0, 99, (n, 1, 2)))
    by_clip = [S.distances(w, trace, viewers) for w, trace in zip(seen, traces)]
    of_head = np.repeat(traces[1][:, 0], 2, 0)  # two samples a frame
    expected = np.median(np.linalg.norm(of_head - seen[1].gaze, axis=-1), 1)[[2, 0, 1]]  # to p, q, r
    np.testing.assert_allclose(by_clip[1][0], expected)
    unit, d = S.distance_sets(seen, traces, by_clip, viewers, pool=True)["all"]
    p, q = np.r_[seen[0].gaze[0], seen[1].gaze[2]], np.r_[seen[0].gaze[1], seen[1].gaze[0]]
    assert unit == "px" and d[1, 1] == pytest.approx(np.median(np.linalg.norm(p - q, axis=1)))
    assert d[0, 0] == pytest.approx(np.median(
        np.linalg.norm(np.concatenate(traces)[:, 0].repeat(2, 0) - p, axis=1)))


# ------------------------------------------------------------------------------------------------ scaling

def test_mds_rebuilds_points_from_their_distances():
    x = np.random.default_rng(0).normal(0, 50, (30, 4))
    wanted = squareform(pdist(x))
    y = S.mds(wanted, 6)
    assert y.shape == (30, 6) and S.stress(wanted, y) < 1e-6
    np.testing.assert_allclose(squareform(pdist(y)), wanted, atol=1e-3)


def test_stress_is_not_above_smacof():
    t = np.arange(24)
    x = np.stack([np.cos(1.3 * t), np.sin(2.2 * t), np.cos(.7 * t * t), np.sin(3.1 * t)], 1)
    wanted = squareform(pdist(x)) * (1 + .2 * np.cos(np.add.outer(t, t) * 1.9))
    wanted = (wanted + wanted.T) / 2 * (1 - np.eye(24))
    # scikit-learn 1.9.1 MDS(metric="precomputed", max_iter=5000, eps=1e-12): the best of 8 random starts and
    # of the classical start
    for dim, smacof in ((2, .22888228733862317), (3, .15725215188673702)):
        assert S.stress(wanted, S.mds(wanted, dim)) <= smacof + 1e-9
        assert S.stress(1000 * wanted, S.mds(1000 * wanted, dim)) <= smacof + 1e-9  # whatever the unit


def test_two_dimensions_have_a_second_start_that_finds_a_lower_minimum(monkeypatch):
    wanted = squareform(pdist(np.random.default_rng(1).normal(0, 1, (24, 6)) ** 3))
    both = S.stress(wanted, S.mds(wanted, 2))
    classical = S.classical(wanted)
    start = SimpleNamespace(normal=lambda *of: classical[:, :2] / wanted.max())
    monkeypatch.setattr(np.random, "default_rng", lambda seed: start)  # so that both starts are the classical
    assert both < .9 * S.stress(wanted, S.mds(wanted, 2))


def test_place_finds_points_and_ignores_unknown_distances():
    rng = np.random.default_rng(1)
    people, heads = rng.normal(0, 40, (20, 5)), rng.normal(0, 90, (2, 3, 5))
    distances = np.linalg.norm(heads[..., None, :] - people, axis=-1)
    np.testing.assert_allclose(S.place(distances, people), heads, atol=1e-6)
    distances[0, 1, :4] = np.nan
    np.testing.assert_allclose(S.place(distances, people), heads, atol=1e-6)


def test_place_is_a_minimum_where_no_point_fits():
    rng = np.random.default_rng(2)
    people, d = rng.normal(0, 40, (20, 3)), rng.uniform(30, 120, 20)
    x = S.place(d, people)
    error = [np.square(np.linalg.norm(x + step - people, axis=1) - d).sum()
             for step in np.concatenate([np.zeros((1, 3)), np.eye(3) * .5, -np.eye(3) * .5,
                                         rng.normal(0, 60, (500, 3))])]
    assert np.argmin(error) == 0


def test_place_keeps_the_best_of_its_starts():
    rng = np.random.default_rng(7)
    people, d = rng.normal(0, 40, (6, 2)), rng.uniform(10, 120, (8, 6))  # far from any point's: several minima

    def errors(x: np.ndarray) -> np.ndarray:
        return np.square(np.linalg.norm(x[..., None, :] - people, axis=-1) - d).sum(-1)
    grid = np.stack(np.meshgrid(np.arange(-150, 151), np.arange(-150, 151)), -1).reshape(-1, 1, 2)  # (n, 1, 2)
    found = errors(S.place(d, people))
    assert (found <= errors(grid).min(0)).all()
    assert (errors(S.place(d, people, starts=1)) > 1.001 * found).sum() == 4  # the origin alone misses them


def test_mann_whitney_is_exact_and_effect_sizes_are_textbook():
    t = S.compare("x", [1, 2, 3], [4, 5, 6], 10)
    assert t["p"] == pytest.approx(2 / 20) and t["p_bonferroni"] == 1 and t["delta"] == -1
    assert t["d"] == pytest.approx(-3)  # both SDs are 1
    assert S.compare("x", [1, 4], [2, 3])["delta"] == 0


def test_every_entry_of_a_comparison_equals_the_textbook():
    a, b = np.array([3., 8, 9.5, 12, 20]), np.array([1., 2, 4, 5.5, 7, 10, 11])
    above = sum(x > y for x in a for y in b)  # of 35 pairs
    pooled = np.sqrt((4 * a.var(ddof=1) + 6 * b.var(ddof=1)) / 10)
    p = stats.mannwhitneyu(a, b, method="exact").pvalue
    for n_tests, corrected in ((1, p), (3, 3 * p), (40, 1)):
        found = S.compare("a vs b", a, b, n_tests)
        assert found == dict(name="a vs b", n=[5, 7], medians=[9.5, 5.5], U=above, n_tests=n_tests,
                             p=pytest.approx(p), p_bonferroni=pytest.approx(corrected),
                             d=pytest.approx((a.mean() - b.mean()) / pooled),
                             delta=pytest.approx((above - (35 - above)) / 35))
    assert S.compare("", a, b)["d"] == -S.compare("", b, a)["d"] > 0


def test_tied_values_are_compared_by_the_normal_approximation_corrected_for_them():
    a, b = np.repeat([0., 100], [10, 5]), np.zeros(15)
    u = 112.5 + 37.5  # pairs in which a is above, and half of the equal ones
    variance = 15 * 15 / 12 * (31 - (25 ** 3 - 25 + 5 ** 3 - 5) / (30 * 29))  # Lehmann 1975
    p = 2 * stats.norm.sf((u - 112.5 - .5) / variance ** .5)
    assert S.compare("", a, b)["p"] == pytest.approx(p) == pytest.approx(.0175, abs=1e-4)
    assert S.compare("", b, b)["p"] == 1


def test_mds_distance_is_from_the_median_of_every_component():
    people = np.array([[0., 0], [1, 9], [100, 3]])
    assert S.from_median(np.array([[1., 3], [4, 7]]), people).tolist() == [0, 5]


def test_dimensions_are_half_the_viewers_and_at_most_32():
    rng = np.random.default_rng(7)
    for n, dim in ((7, 4), (12, 6)):
        assert S.scaled(squareform(pdist(rng.normal(size=(n + 1, 3))))[:, 1:])["dim"] == dim
    assert S.DIM == 32 and S.STARTS == 10  # authors' code


def test_places_in_the_plane_are_a_scaling_of_their_own():
    rng = np.random.default_rng(3)
    people, heads = rng.normal(size=(12, 5)), rng.normal(size=(3, 5))
    d = squareform(pdist(np.concatenate([heads, people])))[:, 3:]
    found = S.scaled(d)
    assert found["dim"] == 6 and found["viewers"] == 12
    np.testing.assert_allclose(found["xy"][3:], S.mds(d[3:], 2), atol=1e-6)
    off = pdist(found["xy"][3:]) - pdist(people)
    assert found["stress"] < .01 < np.sqrt(np.square(off).sum() / np.square(pdist(people)).sum())
    errors = [np.square(np.linalg.norm(found["xy"][3:] - xy, axis=1) - d[0]).sum()
              for xy in (found["xy"][0], *(found["xy"][0] + rng.normal(size=(200, 2))))]
    assert np.argmin(errors) == 0


def test_a_p_that_is_no_number_stays_none_after_bonferroni():
    test = S.compare("x", [1, 2, np.nan], [4, 5, 6], 10)
    assert np.isnan(test["p"]) and np.isnan(test["p_bonferroni"])
