"""exp05_gaze_video: the authors' gaze, scaling and tests come back; planted viewers and roles are found."""
import json
import os
import re
import shutil
import signal
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

import demo
import exp05_gaze_video as E
from common import InputError, ROOT, generator
from processes import FORK, in_group
from legacy import read_csv, write_csv

torch.set_num_threads(1)
SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FIGURES = {f"fig_{k}" for k in ("distance", "gaze", "heads", "regions", "clusters", "popout")}
ONE = "--models demo_dino4 --no-gbvs --device cpu".split()
TINY = ("--models demo_dino4 demo_sl4 --cluster dino4:2,3 --no-gbvs --limit 3 --device cpu "
        "--batch-size 2").split()


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(E, "draw_all", lambda folder: None)


def real(name: str):
    path = SHARED / "reference" / name
    if not path.is_file():
        pytest.skip(f"no {path}: set GAZE_SHARED to the folder of reference arrays")
    return np.load(path)


def literal_gaze(attn: torch.Tensor, patch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The authors' procedure word for word: (x, y), whether the maximum exceeds every other pixel by 1e-6
    relative, and the blurred maps over their maximum (..., img_h, img_w)."""
    up = attn.double().repeat_interleave(patch, -1).repeat_interleave(patch, -2).flatten(0, -3)
    padded = F.pad(up, (patch - 1, patch, patch - 1, patch), mode="reflect")
    rows = F.avg_pool2d(padded, (2 * patch, 1), 1)
    blurred = F.avg_pool2d(rows, (1, 2 * patch), 1).flatten(1)
    (first, second), best = blurred.topk(2, -1).values.T, blurred.argmax(-1)
    xy = torch.stack([best % up.shape[-1], best // up.shape[-1]], -1)
    lead = attn.shape[:-2]
    return (xy.view(*lead, 2).float(), (first - second > 1e-6 * first).view(lead),
            (blurred / first[:, None]).view(*lead, *up.shape[-2:]))


# ------------------------------------------------------------------------------------------------ head gaze

@pytest.mark.parametrize("h, w, patch", [(15, 20, 16), (2, 3, 16), (5, 4, 14), (6, 9, 8), (3, 2, 2)])
def test_head_gaze_equals_blurring_every_pixel(h, w, patch):
    attn = torch.rand(2, 9, h, w, generator=generator(h, w)) ** 4
    expected, clear, blurred = literal_gaze(attn, patch)
    ours = E.head_gaze(attn, patch)
    assert clear.any() and torch.equal(ours[clear], expected[clear])
    x, y = ours.long().flatten(0, -2).T  # elsewhere several pixels are equal, of which any will do
    assert blurred.flatten(0, -3)[torch.arange(18), y, x].min() > 1 - 1e-6


def test_a_lone_corner_patch_is_seen_at_the_corner_and_ties_go_to_the_first_pixel():
    attn = torch.zeros(2, 4, 5)
    attn[0, 3, 0] = 1
    attn[1] = 1
    assert E.head_gaze(attn, 16).tolist() == [[0, 62], [0, 0]]  # rows 62 and 63 are equal


@pytest.mark.real
@pytest.mark.parametrize("depth", [4, 12])
def test_authors_gaze_is_reproduced_for_every_layer_head_and_frame_with_a_clear_maximum(depth):
    data = real("gaze_position.npz")
    attn = torch.from_numpy(data[f"attn_{depth}"]).unflatten(-1, (15, 20))  # (L, T, H, h, w)
    theirs = torch.from_numpy(np.moveaxis(data[f"gaze_{depth}"][:, :-1], 1, 2)).float()  # last: the mean head
    _, clear, _ = literal_gaze(attn, 16)
    assert clear.sum() > 25 and torch.equal(E.head_gaze(attn, 16)[clear], theirs[clear])


def test_area_resampling_equals_opencv():
    image = (np.arange(40 * 56 * 3).reshape(40, 56, 3) * 7919 % 256).astype(np.uint8)
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    ours = E.resized(x, 16, .8)  # ceil(.8 40 / 16) 16 = 32 rows, ceil(.8 56 / 16) 16 = 48 columns
    assert ours.shape == (1, 3, 32, 48)
    # cv2.resize(image, (48, 32), interpolation=cv2.INTER_AREA), OpenCV 5.0.0: green of some rows, columns
    expected = [[224, 87, 200, 56, 168], [46, 151, 81, 120, 144], [96, 201, 72, 184, 106],
                [160, 23, 136, 109, 104]]
    found = (255 * ours[0, 1, ::9, ::11]).round().int()
    off = (found - torch.tensor(expected)).abs()
    assert off.max() <= 1 and (off == 0).float().mean() > .9  # halves are rounded differently
    assert abs((255 * ours).sum() - 587387) < 500
    assert E.resized(torch.zeros(1, 3, 480, 720, dtype=torch.uint8), 16, None).shape[2:] == (480, 720)
    for (img_h, img_w), size in {(468, 851): (384, 688),
                                 (360, 853): (288, 688)}.items():  # the authors' CW2019
        assert E.resized(torch.zeros(1, 3, img_h, img_w, dtype=torch.uint8), 16, .8).shape[2:] == size


def test_look_gives_every_heads_gaze_in_pixels_of_the_frame():
    models = E.load_models(["demo_dino4"], None, torch.device("cpu"))
    images = (255 * torch.rand(2, 3, 70, 99, generator=generator(3))).byte()
    gaze, maps, alike = E.look(images, models, {"dino4": (2, 3)}, None, True, "float32")
    assert gaze.shape == (24 + 4, 2, 2) and maps.shape == (2, 12, 4, 6) and alike.shape == (2, 4)
    x = (E.resized(images, 16, None) - models[0].mean) / models[0].std  # 64 x 96
    direct = E.head_gaze(E.cls_attention(models[0].net, x, [1])[:, 0, 4],
                         16) * torch.tensor([99 / 96, 70 / 64])
    torch.testing.assert_close(gaze[6 + 4], direct)
    cosine = F.cosine_similarity(maps[:, :6, None].flatten(3), maps[:, None, :6].flatten(3),
                                 dim=-1)  # (2, 6, 6)
    torch.testing.assert_close(alike[:, 2], ((cosine.sum((1, 2)) - 6) / 30).double(), atol=1e-5, rtol=0)
    distance = E.cosine_distances(maps)
    np.testing.assert_allclose(distance[:, :6, :6], 1 - cosine, atol=1e-6)


# ------------------------------------------------------------------------------------------------ scaling

def test_mds_rebuilds_points_from_their_distances():
    x = np.random.default_rng(0).normal(0, 50, (30, 4))
    D = squareform(pdist(x))
    y = E.mds(D, 6)
    assert y.shape == (30, 6) and E.stress(D, y) < 1e-6
    np.testing.assert_allclose(squareform(pdist(y)), D, atol=1e-3)


def test_stress_is_not_above_smacof():
    t = np.arange(24)
    x = np.stack([np.cos(1.3 * t), np.sin(2.2 * t), np.cos(.7 * t * t), np.sin(3.1 * t)], 1)
    D = squareform(pdist(x)) * (1 + .2 * np.cos(np.add.outer(t, t) * 1.9))
    D = (D + D.T) / 2 * (1 - np.eye(24))
    # scikit-learn 1.9.1 MDS(metric="precomputed", max_iter=5000, eps=1e-12): the best of 8 random starts and
    # of the classical start
    for dim, smacof in ((2, .22888228733862317), (3, .15725215188673702)):
        assert E.stress(D, E.mds(D, dim)) <= smacof + 1e-9
        assert E.stress(1000 * D, E.mds(1000 * D, dim)) <= smacof + 1e-9  # whatever the unit


def test_place_finds_points_and_ignores_unknown_distances():
    rng = np.random.default_rng(1)
    people, heads = rng.normal(0, 40, (20, 5)), rng.normal(0, 90, (2, 3, 5))
    distances = np.linalg.norm(heads[..., None, :] - people, axis=-1)
    np.testing.assert_allclose(E.place(distances, people), heads, atol=1e-6)
    distances[0, 1, :4] = np.nan
    np.testing.assert_allclose(E.place(distances, people), heads, atol=1e-6)


def test_place_is_a_minimum_where_no_point_fits():
    rng = np.random.default_rng(2)
    people, d = rng.normal(0, 40, (20, 3)), rng.uniform(30, 120, 20)
    x = E.place(d, people)
    error = [np.square(np.linalg.norm(x + step - people, axis=1) - d).sum()
             for step in np.concatenate([np.zeros((1, 3)), np.eye(3) * .5, -np.eye(3) * .5,
                                         rng.normal(0, 60, (500, 3))])]
    assert np.argmin(error) == 0


@pytest.mark.real
def test_published_distances_medians_and_tests_come_back():
    data = real("yamamoto_n2010_mds32.npz")
    people, best = data["coord_subj"], {}
    np.testing.assert_allclose(E.from_median(people, people), data["dist_subj"], atol=1e-9)
    kinds = {f"{m}_{d}": f"{k}{d}" for m, k in (("dino", "dino"), ("supervised", "sl")) for d in (4, 8, 12)}
    for key in [*kinds, "dino_deit_small16", "supervised_deit_small16", "gbvs"]:
        heads = data["coord_" + key]
        distances = np.linalg.norm(heads[..., None, :] - people, axis=-1)
        ours = E.from_median(E.place(distances, people), people)
        np.testing.assert_allclose(ours, data["dist_" + key], atol=1e-9)
        if key in kinds:
            rows = [dict(model=i, distance=d) for i, model in enumerate(ours.reshape(6, -1)) for d in model]
            best[kinds[key]] = E.best_heads(rows)
            assert len(best[kinds[key]]) == 30
            assert np.median(best[kinds[key]]) == pytest.approx(E.PAPER[kinds[key]], abs=.1)
        elif key != "gbvs":
            official = "dino_vits16" if key.startswith("dino") else "deit_small_patch16_224"
            assert ours.min() == pytest.approx(E.PAPER[official], abs=.1)
            assert key != "dino_deit_small16" or np.argwhere(ours == ours.min()).tolist() == [[7, 4]]
    for depth in (4, 8, 12):
        assert E.compare("", best[f"dino{depth}"], best[f"sl{depth}"])["p"] <= 8.2e-7


# ------------------------------------------------------------------------------------------------ statistics

def test_median_distance_ignores_missing_gaze():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 9, (41, 2)), rng.normal(0, 9, (3, 41, 2))
    b[0, :20], b[1, :], a[40] = np.nan, np.nan, np.nan
    expected = [np.nanmedian(np.linalg.norm(a - g, axis=1)) if np.isfinite(g).any() else np.nan for g in b]
    np.testing.assert_allclose(E.median_distance(a, b), expected)


def test_mann_whitney_is_exact_and_effect_sizes_are_textbook():
    t = E.compare("x", [1, 2, 3], [4, 5, 6], 10)
    assert t["p"] == pytest.approx(2 / 20) and t["p_bonferroni"] == 1 and t["delta"] == -1
    assert t["d"] == pytest.approx(-3)  # both SDs are 1
    assert E.compare("x", [1, 4], [2, 3])["delta"] == 0


def test_cluster_indices_equal_scikit_learn():
    t = np.arange(24)
    x = np.stack([np.cos(2.1 * t) + 3 * (t % 3 == 0), np.sin(1.7 * t) + 3 * (t % 3 == 1), np.cos(.9 * t * t)],
                 1)
    votes = E.cluster_votes(squareform(pdist(x)), hierarchy.linkage(pdist(x), "ward"), range(2, 5))
    # silhouette_score, calinski_harabasz_score, davies_bouldin_score of scikit-learn 1.9.1
    assert votes["silhouette"] == pytest.approx([.6227657087, .6225493085, .5071693067])
    assert votes["Calinski-Harabasz"] == pytest.approx([49.1050784257, 83.9688903928, 65.4275110330])
    assert votes["Davies-Bouldin"] == pytest.approx([-.5243717904, -.5065176259, -.6255635756])


def test_best_heads_are_the_smallest_of_each_model():
    distances = dict(a=[9, 1, 8, 2, 7, 3, 4], b=[50, 51, 52, 53, 54, 55])
    rows = [dict(model=m, distance=d) for m, of in distances.items() for d in of]
    assert E.best_heads(rows).tolist() == [1, 2, 3, 4, 7, 50, 51, 52, 53, 54]


def test_looks_fall_off_with_distance_and_share_one_unit():
    points = np.array([[100., 100], [np.nan, np.nan], [400, 400]])
    at = E.viewing_proportion(np.array([[100., 100], [130, 100], [np.nan, np.nan]]), points)
    np.testing.assert_allclose(at[:2, 0], [1, np.exp(-.5)], atol=1e-12)
    assert (at[:2, 1] == 0).all() and np.isnan(at[2]).all()
    both = E.viewing_proportion(np.array([100., 100]), np.array([[100., 100], [100, 100]]))
    np.testing.assert_allclose(both, .5)


@pytest.mark.real
def test_authors_viewing_proportions_are_reproduced():
    data = real("gaze_position.npz")
    ours = E.viewing_proportion(data["vp_gaze"], np.stack([data["vp_x"].T, data["vp_y"].T], -1))
    keep = np.arange(50) != 9  # there their code moves the weights past an absent point
    np.testing.assert_allclose(ours[keep], data["vp"][keep], atol=1e-12)


def test_left_minus_right_needs_two_mouths_and_knows_left_from_right():
    points = np.array([[[200., 50], [200, 80], [40, 52], [40, 80]],
                       [[200., 50], [200, 80], [40, 52], [np.nan, np.nan]]])
    parts = np.array([["eyes", "mouth", "eyes", "mouth"], ["eyes", "mouth", "eyes", ""]])
    left, right = np.array([[40., 66], [40, 66]]), np.array([[200., 66], [200, 66]])
    for gaze, sign in ((left, 1), (right, -1)):
        value = E.left_minus_right(gaze, points, parts)
        assert value[0] == pytest.approx(sign, abs=1e-4) and np.isnan(value[1])


def test_relative_distances_average_clips_and_fill_pairs_that_never_met():
    rng, seen = np.random.default_rng(6), []
    for name, viewers in (("a", "pqrs"), ("b", "pqrs"), ("c", "pqt"),
                          ("d", "x")):  # t saw one clip, x met nobody
        seen.append(E.Seen(clip_of(genre="g"), rng.uniform(0, 99, (3, 8, 2)), list(viewers),
                           rng.uniform(0, 99, (len(viewers), 8, 2)), np.arange(8)))
    one = E.distance_sets(seen, pooled=False)["all"]
    assert one["names"] == list("pqrst") and one["traces"].shape == (3, 5)
    units = [np.median(s.between[np.triu_indices(len(s.viewers), 1)]) for s in seen[:3]]
    pq = np.mean([s.between[0, 1] / u for s, u in zip(seen, units)])
    assert one["viewers"][0, 1] == pytest.approx(pq)
    assert one["traces"][1, 4] == pytest.approx(seen[2].to_viewers[1, 2] / units[2])
    d = one["viewers"]
    pr, qr, rs = (np.mean([s.between[i, j] / u for s, u in zip(seen[:2], units)])
                  for i, j in ((0, 2), (1, 2), (2, 3)))
    pt, qt = (seen[2].between[i, 2] / units[2] for i in (0, 1))
    assert d[2, 4] == d[4, 2] == pytest.approx((np.median([pr, qr, rs]) + np.median([pt, qt])) / 2)
    assert (np.diag(d) == 0).all()


@pytest.mark.parametrize("pooled", [True, False])
def test_viewers_who_each_saw_another_clip_are_refused(pooled):
    gaze = np.random.default_rng(0).uniform(0, 99, (4, 2, 8, 2))
    seen = [E.Seen(clip_of(), g[:1], [v], g[1:], np.arange(8)) for v, g in zip("pqrs", gaze)]
    with pytest.raises(InputError, match="no 4 viewers who saw what another saw"):
        E.distance_sets(seen, pooled)


def test_groups_are_not_tested_against_all_viewers_who_include_them():
    def names(*groups: str) -> list[str]:
        kinds = [(f"viewer {g}", "") for g in groups] + [("dino4", "dino4.0")]
        return [t["name"] for t in E.compare_all([dict(set="all", kind=k, model=m, distance=float(i))
                                                  for k, m in kinds for i in range(5)])]
    assert names("adult", "old") == ["all, heads: viewer old vs viewer adult",
                                     "all, heads: dino4 vs viewer adult"]
    assert names("child", "old") == ["all, heads: dino4 vs all viewers"]


# ------------------------------------------------------------------------------------------------ recovery

@pytest.fixture(scope="module")
def study() -> E.Study:
    return E.load_study("demo")


def planted_maps(study: E.Study, copies: int = 5) -> list[torch.Tensor]:
    """Per clip (T, 3 copies, h, w): heads that attend to faces, bodies and the ground, each with its own
    noise."""
    out = []
    for number, clip in enumerate(study.clips):
        with np.load(clip.masks) as m:
            masks = torch.from_numpy(np.stack([m[k] for k in ("face", "body", "ground")],
                                              1)).float()  # (T, 3, .., ..)
        rows, cols = (E.area_matrix(n, n // 16) for n in masks.shape[-2:])
        maps = F.normalize((rows @ masks @ cols.T).flatten(2), dim=-1).unflatten(-1, (15, 20))
        noise = torch.rand(len(maps), 3 * copies, 15, 20, generator=generator(5, number))
        out.append(maps.repeat_interleave(copies, 1) + .02 * noise)
    return out


def seen_by(study: E.Study, maps: list[torch.Tensor]) -> list[E.Seen]:
    times = np.arange(demo.FRAMES) / demo.FPS
    return [E.Seen(c, E.head_gaze(m, 16).numpy().swapaxes(0, 1).astype(float),
                   *E.viewers_of(c, times, demo.VIDEO_SIZE, True, [])) for c, m in zip(study.clips, maps)]


def test_planted_face_heads_are_nearest_ground_heads_farthest_and_three_roles_make_three_clusters(study):
    maps = planted_maps(study)
    sets = E.distance_sets(seen_by(study, maps), pooled=True)
    E.place_all(sets, 32)
    assert list(sets) == ["all", "animation", "drama", "nature"] and sets["all"]["dim"] == 12
    role = np.repeat([1, 2, 3], 5)
    for one in sets.values():
        face, body, ground = (np.sort(one["distance"][role == k]) for k in (1, 2, 3))
        assert face[-1] < body[0] and body[-1] < ground[0]
    apart = np.concatenate([E.cosine_distances(m) for m in maps]).mean(0)
    found = E.cluster_heads(apart, sets["all"]["distance"])
    assert found["labels"].tolist() == role.tolist()  # G1 faces, G2 bodies, G3 ground
    assert [found["votes_for"][k] for k in ("silhouette", "Calinski-Harabasz", "Ward heights")] == [3, 3, 3]


def viewers_eyes(study: E.Study, planted: bool) -> dict:
    """Looks at eyes of new simulated viewers, means over three clips: adults against children."""
    shares = np.zeros((24, 3))
    for c, clip in enumerate(study.clips[:3]):
        points = [(int(r["frame"]), r["part"], r["y_px"], r["x_px"]) for r in read_csv(clip.points)]
        xy, parts = E.key_points(clip.points, demo.FRAMES)
        for v in range(24):
            samples = demo.viewer_gaze(points, "adult" if v < 14 else "child",
                                       np.random.default_rng([77, c, v]), planted)
            record = np.array([[float(x) if x else np.nan for x in s] for s in samples])
            gaze, frame = E.align({"v": record}, np.arange(demo.FRAMES) / demo.FPS, clip)
            shares[v, c] = E.part_shares(gaze[0], xy[frame], parts[frame])["eyes"]
    return E.compare("eyes", shares[:14].mean(1), shares[14:].mean(1))


def test_planted_preference_of_adults_for_eyes_is_found_and_not_where_absent(study):
    with_it, without = viewers_eyes(study, True), viewers_eyes(study, False)
    assert with_it["p"] < 1e-3 and with_it["medians"][0] > 1.3 * with_it["medians"][1]
    assert without["p"] > .05


# ------------------------------------------------------------------------------------------------ data

def clip_of(**more) -> E.Clip:
    return E.Clip("c", Path("c.mp4"), dict, **more)


def test_gaze_follows_the_times_of_frames_also_at_a_variable_rate():
    times = np.array([0, .1, .2, .5, .6])
    t = np.arange(0, .7, .01)
    gaze, frame = E.align({"v": np.stack([t, 1000 * t, t], 1)}, times, clip_of(samples=4))
    assert gaze.shape == (1, 20, 2) and frame.tolist() == [f for f in range(5) for _ in range(4)]
    np.testing.assert_allclose(gaze[0, 8:12, 0], 1000 * (.2 + .3 * (np.arange(4) + .5) / 4), atol=5.1)


def test_gaze_is_missing_in_gaps_and_beyond_its_end():
    t = np.r_[np.arange(0, .5, .01), np.arange(.8, 1, .01)]
    gaze, frame = E.align({"v": np.stack([t, t, t], 1)}, np.arange(48) / 24, clip_of())
    at = (np.arange(240) + .5) / 120
    gone = np.isnan(gaze[0, :, 0])
    assert gone[(at > .55) & (at < .74)].all() and gone[at > 1.05].all() and not gone[at < .5].any()


def test_n2010_samples_show_the_nearest_frame_and_blanks_are_left_out(tmp_path):
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "all.mp4", 4)
    gaze = np.random.default_rng(0).uniform(0, 40, (5, 388, 2))
    np.savez(tmp_path / "gaze.npz", gaze=gaze, group=np.array([0, 0, 1, 3, 4]))
    study = E.load_study(str(tmp_path))
    assert study.layout == "n2010" and set(study.groups.values()) == {"adult", "child", "child ASD",
                                                                      "adult ASD"}
    aligned, frame = E.align(study.clips[0].records(), np.arange(2327) / 29.93, study.clips[0])
    nearest = np.abs(np.linspace(0, 1, 388)[:, None] - np.linspace(0, 1, 2327)).argmin(1)
    assert (frame == nearest).all()
    blank = np.isin(frame, study.clips[0].blank)
    assert len(study.clips[0].blank) == 197 and np.isnan(aligned[:, blank]).all()
    np.testing.assert_array_equal(aligned[:, ~blank], gaze[:, ~blank])
    cells = np.empty(6, object)
    cells[:] = [*gaze, gaze[0]]
    scipy.io.savemat(tmp_path / "allclip1.mat",
                     dict(eyeclip1=cells, goodsubj=np.arange(1, 6), gr=[1, 1, 2, 4, 5, 1]))
    again = E.load_study(str(tmp_path))
    assert again.groups == study.groups
    np.testing.assert_array_equal(again.clips[0].records()["viewer004"][:, 1:], gaze[4])


@pytest.mark.parametrize("more", [["--limit", "12"], []], ids=["limit", "short"])
def test_n2010_keeps_its_time_when_frames_are_missing(tmp_path, no_figures, more):
    (tmp_path / "N" / "clips").mkdir(parents=True)
    write_video(tmp_path / "N" / "clips" / "all.mp4", 14)
    rng = np.random.default_rng(0)  # a sample a frame of 2,327; all look at one place for 14 frames
    gaze = rng.uniform(0, 64, (5, 2327, 2))
    gaze[:, :14] = np.array([20, 30]) + rng.uniform(-1, 1, (5, 14, 2))
    np.savez(tmp_path / "N" / "gaze.npz", gaze=gaze, group=np.array([0, 0, 0, 1, 1]))
    E.main([*ONE, "--data", str(tmp_path / "N"), "--out", str(tmp_path / "o"), *more])
    rows = [r for r in read_csv(tmp_path / "o" / "per_image.csv") if r["kind"].startswith("viewer")]
    assert len(rows) == 5 and max(r["distance_px"] for r in rows) < 3
    notes = json.loads((tmp_path / "o" / "results.json").read_text())["data_notes"]
    assert notes == ([] if more else ["all: 14 of 2327 frames; only their gaze is used"])


def write_video(path: Path, n: int = 12, size: tuple = (64, 96), pts=None) -> np.ndarray:
    """n frames of growing brightness; pts: presentation times in ms."""
    pictures = np.random.default_rng(9).integers(0, 40, (n, *size, 3), dtype=np.uint8)
    pictures += (np.arange(n) * 15)[:, None, None, None].astype(np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = size[1], size[0], "yuv420p", 1
        if pts is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = int(pts[i]), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return pictures


def test_videos_and_folders_of_frames_stream_one_frame_at_a_time(tmp_path):
    pictures, notes = write_video(tmp_path / "a.mp4"), []
    stream = E.frames(tmp_path / "a.mp4", None, notes)
    t, load = next(stream)
    assert t == 0 and load().shape == (64, 96, 3)
    rest = list(stream)
    assert [t for t, _ in rest] == pytest.approx(np.arange(1, 12) / 24, abs=1e-3) and notes == []
    means = [load().mean() for _, load in rest]
    np.testing.assert_allclose(means, pictures[1:].mean((1, 2, 3)), atol=3)
    (tmp_path / "b").mkdir()
    for i, p in enumerate(pictures):
        Image.fromarray(p).save(tmp_path / "b" / f"{i + 1}.png")  # 10 comes after 9
    found = list(E.frames(tmp_path / "b", 12., notes))
    assert [t for t, _ in found] == pytest.approx(np.arange(12) / 12)
    assert all((load() == p).all() for (_, load), p in zip(found, pictures))
    with pytest.raises(InputError, match="column fps"):
        list(E.frames(tmp_path / "b", None, notes))


def test_a_variable_frame_rate_is_kept(tmp_path):
    pts = [0, 40, 80, 300, 340]
    write_video(tmp_path / "v.mp4", 5, pts=pts)
    assert [t
            for t, _ in E.frames(tmp_path / "v.mp4", None, [])] == pytest.approx(np.array(pts) / 1000,
                                                                                 abs=2e-3)


def test_frames_before_the_damage_are_used_and_it_says_so(tmp_path):
    write_video(tmp_path / "a.mp4", 12)
    whole = bytearray((tmp_path / "a.mp4").read_bytes())
    with av.open(str(tmp_path / "a.mp4")) as file:
        packets = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    pos, size = packets[7]
    whole[pos:pos + size] = bytes(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    (tmp_path / "bad.mp4").write_bytes(whole)
    notes = []
    assert len(list(E.frames(tmp_path / "bad.mp4", None, notes))) == 7
    assert "bad.mp4: damaged after 7 frames" in notes[0] and "before the damage are used" in notes[0]
    (tmp_path / "none.mp4").write_bytes(b"no video at all")
    assert list(E.frames(tmp_path / "none.mp4", None, notes)) == [] and "after 0 frames" in notes[1]
    (tmp_path / "f").mkdir()
    for i in range(3):
        Image.new("RGB", (64, 64)).save(tmp_path / "f" / f"{i}.png")
    (tmp_path / "f" / "1.png").write_bytes(b"broken")
    assert len(list(E.frames(tmp_path / "f", 24., notes))) == 1 and "frames before the damage" in notes[2]


def test_a_clip_without_a_frame_or_a_known_codec_is_noted(tmp_path):
    write_video(tmp_path / "a.mp4", 3)
    raw, notes = (tmp_path / "a.mp4").read_bytes(), []
    for name, content in (("codec.mp4", raw.replace(b"mp4v", b"zzzz").replace(b"esds", b"zzzz")),
                          ("count.mp4", raw.replace(b"stsz" + bytes(8) + b"\0\0\0\3", b"stsz" + bytes(12)))):
        (tmp_path / name).write_bytes(content)
        assert content != raw and list(E.frames(tmp_path / name, None, notes)) == []
    (tmp_path / "folder").mkdir()
    assert list(E.frames(tmp_path / "folder", 24., notes)) == []
    assert [n.partition(":")[0] for n in notes] == ["codec.mp4", "count.mp4", "folder"]


def test_cw2019_is_read_as_distributed_with_the_displays_geometry(tmp_path):
    for folder in ("Clips_small_size", "GazeData/NV/0043er", "GazeData/NV/0724er"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("STEPF_3a_c", "BLUE_1a_c", "X_10_c", "X_1_c"):
        write_video(tmp_path / "Clips_small_size" / f"{name}.mov", 3, (48, 128))
    write_csv([{"index": i, "file name": n, "genre category": g} for i, (n, g) in enumerate(
        [("STEPF_3a", "a demo (drama/other)"), ("BLUE_1a", "doc/nature"), ("X_1", "cartoon"),
         ("X_10", "drama")])],
        tmp_path / "30s_segment_description.csv")
    record = dict(t=[5000., 5010, 5020, 5030], x=[0., 1280, 2560, 7], y=[240., 720, 1200, 7],
                  missing=[0, 0, 0, 1])
    for viewer, movie in (("0043er", "STEPF_3a_c 2.mov"), ("0724er", "STEPF_3a_c.mov"),
                          ("0724er", "BLUE_1a.mov"), ("0043er", "ABSENT_9z.mov"), ("0043er", "X_1_c.mov"),
                          ("0724er", "X_10_c.mov"), ("0724er", "")):
        scipy.io.savemat(tmp_path / "GazeData/NV" / viewer / f"{movie[:4]}{len(movie)}.mat",
                         dict(eyetrackRecord=record, movieFileName=movie))
    study = E.load_study(str(tmp_path))
    assert [(c.name, c.genre, c.samples)
            for c in study.clips] == [("BLUE_1a_c", "nature", 30), ("STEPF_3a_c", "drama", 30),
                                      ("X_10_c", "drama", 30), ("X_1_c", "animation", 30)]
    assert "2 gaze records" in study.notes[0]
    assert [list(c.records()) for c in study.clips[2:]] == [["0724er"], ["0043er"]]
    records = study.clips[1].records()
    assert list(records) == ["0043er", "0724er"]
    # 2560 display px are 128 video px; the picture has 48 / .05 = 960 of 1440 rows, so 240 above it
    np.testing.assert_allclose(records["0043er"],
                               [[0, 0, 0], [.01, 64, 24], [.02, 128, 48], [.03, np.nan, -11.65]])


# ------------------------------------------------------------------------------------------------ wrong input

def small_world(root: Path, viewers: int = 5, seconds: float = .5) -> Path:
    """Two clips of 12 frames, gaze of some viewers."""
    (root / "clips").mkdir(parents=True)
    rng = np.random.default_rng(4)
    for name in ("one", "two"):
        write_video(root / "clips" / f"{name}.mp4", 12)
        rows = [dict(viewer=f"v{v}", t_s=t, x_px=rng.uniform(0, 95), y_px=rng.uniform(0, 63))
                for v in range(viewers) for t in np.arange(0, seconds, 1 / 60)]
        write_csv(rows, root / "gaze" / f"{name}.csv")
    return root


def write_masks(root: Path, *shape: int) -> None:
    (root / "masks").mkdir()
    np.savez(root / "masks" / "one.npz", body=np.zeros(shape, bool), ground=np.ones(shape, bool))


def edit_gaze(path: Path, change) -> None:
    rows = read_csv(path)
    write_csv([r for r in map(change, rows) if r], path)


def test_bad_gaze_is_left_out_and_named(tmp_path):
    root = small_world(tmp_path / "w", viewers=6, seconds=3)

    def change(r: dict) -> dict | None:  # v0: all NaN; v1: outside the frame at first; v2: one clip only
        if r["viewer"] == "v0" or (r["viewer"] == "v1" and r["t_s"] < .2):
            r["x_px"] = "" if r["viewer"] == "v0" else 500
        return None if r["viewer"] == "v2" else r
    edit_gaze(root / "gaze" / "one.csv", change)
    (root / "gaze" / "on.csv").write_text("viewer,t_s,x_px,y_px\n")
    clip = root / "clips" / "two.mp4"
    write_video(clip, 12)
    raw = bytearray(clip.read_bytes())
    with av.open(str(clip)) as file:
        start, size = [(p.pos, p.size) for p in file.demux(video=0) if p.size][9]
    raw[start:start + size] = bytes(size)
    clip.write_bytes(raw)
    E.main([*ONE, "--data", str(root), "--out", str(tmp_path / "o")])
    results = json.loads((tmp_path / "o" / "results.json").read_text())
    notes = "\n".join(results["data_notes"])
    assert "one: no gaze of viewer v0" in notes and "of the gaze lies outside the frame" in notes
    assert "0.5 s of video, 3.0 s of gaze" in notes and "gaze/on.csv: no clip has this name" in notes
    assert "two.mp4: damaged after 9 frames" in notes
    assert results["sets"]["all"]["viewers"] == 6 and any("no keypoints" in n for n in results["not_run"])
    rows = read_csv(tmp_path / "o" / "per_image.csv")
    assert list(rows[0])[:2] == ["image", "condition"]
    assert {r["condition"]
            for r in rows if r["image"] == "one" and r["kind"] == "viewer"} == {"v1", "v3", "v4", "v5"}
    assert all(r["distance_px"] != "" for r in rows if r["condition"] == "v2")


def test_names_of_clips_and_viewers_are_kept_as_they_are(tmp_path, no_figures):
    root = small_world(tmp_path / "w")
    (root / "clips" / "two.mp4").rename(root / "clips" / "1.mp4")
    (root / "clips" / "one.mp4").rename(root / "clips" / "one [1].mp4")
    for name in ("s.1", "s.2"):
        (root / "clips" / name).mkdir()
        for i in range(2):
            Image.new("RGB", (96, 64), (i, 9, 9)).save(root / "clips" / name / f"{i}.png")
    rows = [r | {"viewer": {"v0": "01", "v1": "1"}.get(r["viewer"], r["viewer"])}
            for r in read_csv(root / "gaze" / "one.csv")]
    for name in ("one [1]", "1", "s.1", "s.2"):
        write_csv(rows, root / "gaze" / f"{name}.csv")
    write_csv([dict(viewer="01", group="1"), dict(viewer="1", group="2")], root / "viewers.csv")
    write_csv([dict(clip=c, genre=f"g{c}", fps=24) for c in ("1", "s.1", "s.2")], root / "clips.csv")
    write_csv([dict(frame=0, part="7", x_px=9, y_px=9)], root / "keypoints" / "1.csv")
    E.main([*ONE, "--data", str(root), "--out", str(tmp_path / "o")])
    rows = read_csv(tmp_path / "o" / "per_image.csv")
    assert {(r["image"], r["genre"]) for r in rows} == {("one [1]", ""), ("1", "g1"), ("s.1", "gs.1"),
                                                        ("s.2", "gs.2")}
    assert {(r["condition"], r["kind"]) for r in rows} >= {("01", "viewer 1"), ("1", "viewer 2")}


@pytest.mark.parametrize("spoil, message", [
    (lambda w: (w / "gaze" / "one.csv").write_text("viewer,time\na,1\n"), "columns viewer, t_s, x_px, y_px"),
    (lambda w: (w / "gaze" / "one.csv").write_text("viewer,t_s,x_px,y_px\na,soon,1,1\n"), "one.csv"),
    (lambda w: (w / "clips.csv").write_text("name\none\n"), "clips.csv"),
    (lambda w: (w / "clips.csv").write_text("clip,fps\none,24 fps\n"), "'24 fps' frames/s"),
    (lambda w: (w / "clips" / "one").mkdir(), "two clips are called one"),
    (lambda w: write_masks(w, 3, 64, 96), "body has shape (3, 64, 96), its clip (12, 64, 96)"),
    (lambda w: write_masks(w, 12, 48, 96), "body has shape (12, 48, 96)"),
    (lambda w: [p.unlink() for p in (w / "clips").iterdir()], "no clips"),
    (lambda w: [p.write_bytes(b"x") for p in (w / "clips").iterdir()], "no clip could be decoded"),
    (lambda w: [p.unlink() for p in (w / "gaze").iterdir()], "0 viewers have gaze"),
    (lambda w: np.savez(w / "gaze.npz", gaze=np.zeros((5, 9, 3))), "gaze of shape"),
], ids=["columns", "time", "clips.csv", "fps", "same-name", "mask-frames", "mask-size", "no-clips",
        "no-video", "no-gaze", "n2010-shape"])
def test_wrong_data_is_named(tmp_path, spoil, message):
    root = small_world(tmp_path / "w")
    spoil(root)
    with pytest.raises(InputError, match=re.escape(message)):
        E.main([*ONE, "--data", str(root), "--out", str(tmp_path / "o")])


@pytest.mark.parametrize("argv, message", [
    (["--models", "what=x.pth"], "KIND=FILE"), (["--models", "dino99"], "no model dino99"),
    (["--cluster", "dino12"], "KIND:BLOCK"), (["--models", "dino4=/no/file.pth"], "no such weight file"),
    (["--weights", "x.pth"], "one model"), (["--data", "/no/such/folder"], "no folder clips"),
    (["--models", f"dino12={ROOT}/checkpoints/demo_dino4.pth"], "4 blocks, 96 wide"),
    (["--compare", "/no/run"], "no distances.csv")])
def test_wrong_arguments_are_named(tmp_path, argv, message):
    with pytest.raises(InputError, match=message):
        E.main([*argv, "--out", str(tmp_path), "--device", "cpu"])


# ------------------------------------------------------------------------------------------------ runs

@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    for name in ("gaze/one.csv", "heads_gaze/mine.txt"):
        (out / name).parent.mkdir()
        (out / name).write_text("a user's")
    E.main([*TINY, "--out", str(out)])
    return out


def test_a_run_removes_no_data_and_no_run_before_its_data_are_read(run):
    before = (run / "results.json").read_bytes()
    for more in (["--data", str(run / "typo")], ["--models", "vgg"]):
        with pytest.raises(InputError, match="no folder clips|no model vgg"):
            E.main([*TINY, "--out", str(run), *more])
    assert (run / "results.json").read_bytes() == before and (run / "heads_gaze" / "clip01.0000.npz").exists()
    assert (run / "gaze" / "one.csv").exists() and (run / "heads_gaze" / "mine.txt").exists()


def test_runs_of_other_data_models_and_limits_have_other_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for argv, tag in (("", "demo_dino4_dino8_dino12_sl4_sl8_sl12"),
                      ("--models dino12=F sl12=G sl12=H --limit 3", "demo_dino12_sl12_limit3"),
                      ("--data A/B", "B_dino_vits16_deit_small_patch16_224")):
        with pytest.raises(InputError, match=f"/{tag};"):
            E.main([*argv.split(), "--plot-only", "--device", "cpu"])


def test_bare_demo_command_compares_six_models_and_gbvs_in_six_figures(tmp_path, monkeypatch):
    figures = set()
    monkeypatch.setattr(E, "save_figure", lambda fig, path, **how: figures.add(path.name))
    monkeypatch.setattr(E, "place", partial(E.place, starts=1))  # the other starts take 10 s
    E.main(["--limit", "2", "--out", str(tmp_path), "--device", "cpu"])
    names = [h["name"] for h in json.loads((tmp_path / "results.json").read_text())["headline"]]
    models = {f"{m.removeprefix('demo_')}, 5 best heads" for m in E.DEMO_MODELS}
    assert models | {"GBVS, all channels"} <= set(names)
    assert {"GBVS", "GBVS orientation"} <= {r["condition"] for r in read_csv(tmp_path / "per_image.csv")}
    assert figures == FIGURES


def test_order_of_blocks_in_the_command_does_not_matter(run, tmp_path, no_figures):
    E.main([*(a.replace("2,3", "3,2,3") for a in TINY), "--out", str(tmp_path)])
    same_tables(run, tmp_path)


def test_demo_run_writes_tables_figures_and_says_what_was_not_run(run, capsys):
    results = json.loads((run / "results.json").read_text())
    names = [h["name"] for h in results["headline"]]
    assert {"dino4, 5 best heads", "G1: looks at eyes", "G3: share of late heads"} <= set(names)
    assert any("dino4 vs sl4" in t["name"] for t in results["tests"])
    assert any("flicker and motion" in n
               for n in results["not_run"]) and "GBVS: switched off" in results["not_run"]
    assert {p.stem for p in run.glob("fig_*.png")} == {p.stem for p in run.glob("fig_*.pdf")} == FIGURES
    rows = read_csv(run / "distances.csv")
    assert len(rows) == 4 * (48 + 24) and {r["cluster"] for r in rows} == {"", "G1", "G2", "G3"}
    assert len(results["correlations"]) == 6 and results["correlations"][0]["n"] == 48
    before = (run / "fig_heads.png").read_bytes()
    (run / "fig_heads.png").unlink()
    E.main([*TINY, "--out", str(run), "--plot-only"])
    assert (run / "fig_heads.png").read_bytes() == before and "demo world" in capsys.readouterr().out


def same_tables(a: Path, b: Path) -> None:
    for name in ("per_image.csv", "distances.csv", "similarity.csv", "timecourse.csv"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    a, b = (json.loads((p / "results.json").read_text()) for p in (a, b))
    assert all(a[k] == b[k] for k in ("headline", "tests", "sets", "clusters", "correlations", "popout_lift"))


def test_killed_and_resumed_run_equals_an_undisturbed_one(run, tmp_path, no_figures):
    child = FORK.Process(target=E.main, args=([*TINY, "--out", str(tmp_path)],))
    child.start()
    while len(list((tmp_path / "heads_gaze").glob("[!.]*.npz"))) < 2:
        assert child.is_alive()
        time.sleep(.005)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not (tmp_path / "results.json").exists()
    first = sorted((tmp_path / "heads_gaze").glob("*.npz"))[0]
    stamp = first.stat().st_mtime_ns
    E.main([*TINY, "--out", str(tmp_path), "--resume"])
    assert first.stat().st_mtime_ns == stamp
    same_tables(run, tmp_path)
    with pytest.raises(InputError, match="gbvs"):
        E.main([*TINY, "--out", str(tmp_path), "--resume", "--gbvs"])


def test_two_processes_give_the_rows_of_one(run, tmp_path, no_figures):
    in_group(2, E.main, [*TINY, "--out", str(tmp_path)])
    same_tables(run, tmp_path)


def test_long_clips_are_cut_into_parts_and_put_together(run, tmp_path, monkeypatch, no_figures):
    monkeypatch.setattr(E, "CHUNK", 2)
    E.main([*TINY, "--out", str(tmp_path)])
    assert len(list((tmp_path / "heads_gaze").glob("clip01.*.npz"))) == 2
    whole, cut = read_csv(run / "per_image.csv"), read_csv(tmp_path / "per_image.csv")
    assert whole == cut


def test_compare_correlates_and_draws_two_runs_without_measuring_again(run, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(E, "save_figure", lambda fig, path, **how: drawn.append((path.name, fig)))
    monkeypatch.setattr(E, "watch_chunk", None)
    shutil.copytree(run, tmp_path / "o")
    E.main([*TINY, "--out", str(tmp_path / "o"), "--resume", "--compare", str(run)])
    found = json.loads((tmp_path / "o" / "results.json").read_text())["correlations"]
    same = next(c for c in found if c["sets"] == ["all", f"{run.name}: all"])
    assert same["r"] == pytest.approx(1) and same["n"] == 48
    right = dict(drawn)["fig_heads"].axes[1]
    assert right.get_xlabel() == "MDS distance, all (px)" and f"{run.name}: all" in right.get_ylabel()
    x, y = right.collections[0].get_offsets().T
    assert len(x) == 48 and (x == y).all() and right.get_visible()
    E.draw_heads(run, [r for r in read_csv(run / "distances.csv") if r["set"] == "all"])
    assert not drawn[-1][1].axes[1].get_visible()  # one set: nothing to compare


def test_commands_of_the_card_parse():
    commands = re.findall(r"exp05_gaze_video\.py(.*)",
                          re.sub(r"\n +(?=dino12=)", " ", E.__doc__.split("Data, one")[0]))
    assert len(commands) >= 6
    for command in commands:
        args = E.parse(command.split("(")[0].split())
        assert args.models
    assert E.parse("--data N2010".split()).models == ["dino_vits16", "deit_small_patch16_224"]
