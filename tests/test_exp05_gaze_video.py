"""exp05_gaze_video: the authors' gaze, scaling and tests come back; planted heads are found."""
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.spatial.distance import pdist, squareform

import av
import demo
import exp05_data as D
import exp05_gaze_video as E
from common import InputError, ROOT, generator
from data import read_csv
from gaze_worlds import TINY, clip_of, quick, real, small_world, write_video
from processes import in_group
from results import read_arrays, read_json, write_csv

torch.set_num_threads(1)
ONE = "--models demo_dino4 --device cpu".split()


@pytest.fixture
def no_figures(monkeypatch):
    quick(monkeypatch)


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
    ours = D.resized(x, 16, .8)  # ceil(.8 40 / 16) 16 = 32 rows, ceil(.8 56 / 16) 16 = 48 columns
    assert ours.shape == (1, 3, 32, 48)
    # cv2.resize(image, (48, 32), interpolation=cv2.INTER_AREA), OpenCV 5.0.0: green of some rows, columns
    expected = [[224, 87, 200, 56, 168], [46, 151, 81, 120, 144], [96, 201, 72, 184, 106],
                [160, 23, 136, 109, 104]]
    found = (255 * ours[0, 1, ::9, ::11]).round().int()
    off = (found - torch.tensor(expected)).abs()
    assert off.max() <= 1 and (off == 0).float().mean() > .9  # halves are rounded differently
    assert abs((255 * ours).sum() - 587387) < 500
    assert D.resized(torch.zeros(1, 3, 480, 720, dtype=torch.uint8), 16, None).shape[2:] == (480, 720)
    for (img_h, img_w), size in {(468, 851): (384, 688),
                                 (360, 853): (288, 688)}.items():  # the authors' CW2019
        assert D.resized(torch.zeros(1, 3, img_h, img_w, dtype=torch.uint8), 16, .8).shape[2:] == size


def test_measure_gives_every_heads_gaze_in_pixels_of_the_frame(monkeypatch):
    monkeypatch.setattr(E, "SHALLOWEST", 4)
    models = E.load_models(["demo_dino4"], None, torch.device("cpu"))
    images = (255 * torch.rand(2, 70, 99, 3, generator=generator(3))).byte()
    found = E.measure(dict(image=images), models, None, "float32", torch.device("cpu"))
    assert found["gaze"].shape == (2, 24 + 4, 2) and found["apart"].shape == (2, 12, 12)
    images = images.permute(0, 3, 1, 2)
    attn = E.attend(images, models[0], None)  # (2, 4, 6, 4, 6) of 64 x 96 px
    direct = E.head_gaze(attn[:, 1, 4], 16) * torch.tensor([99 / 96, 70 / 64])
    torch.testing.assert_close(found["gaze"][:, 6 + 4], direct)
    maps = attn[:, 2].flatten(2)  # (2, 6, 24)
    cosine = F.cosine_similarity(maps[:, :, None], maps[:, None], dim=-1)  # (2, 6, 6)
    torch.testing.assert_close(found["alike"][:, 12:18], (cosine.sum(2) - 1) / 5, atol=1e-5, rtol=0)
    torch.testing.assert_close(found["apart"][:, :6, :6], 1 - cosine, atol=1e-5, rtol=0)


def test_late_blocks_are_the_papers_and_lie_past_two_thirds_of_any_depth():
    late = {depth: E.Model(f"dino{depth}", "", torch.nn.Module(), None, None) for depth in (4, 5, 8, 12, 24)}
    for depth, model in late.items():
        model.net.blocks = range(depth)
    assert {depth: model.late() for depth, model in late.items()} == {
        4: (), 5: (3, 4), 8: (6, 7), 12: (8, 9), 24: (16, 17)}
    assert late[12]._replace(kind="sl12").late() == ()


# ------------------------------------------------------------------------------------------------ scaling

def test_mds_rebuilds_points_from_their_distances():
    x = np.random.default_rng(0).normal(0, 50, (30, 4))
    wanted = squareform(pdist(x))
    y = D.mds(wanted, 6)
    assert y.shape == (30, 6) and D.stress(wanted, y) < 1e-6
    np.testing.assert_allclose(squareform(pdist(y)), wanted, atol=1e-3)


def test_stress_is_not_above_smacof():
    t = np.arange(24)
    x = np.stack([np.cos(1.3 * t), np.sin(2.2 * t), np.cos(.7 * t * t), np.sin(3.1 * t)], 1)
    wanted = squareform(pdist(x)) * (1 + .2 * np.cos(np.add.outer(t, t) * 1.9))
    wanted = (wanted + wanted.T) / 2 * (1 - np.eye(24))
    # scikit-learn 1.9.1 MDS(metric="precomputed", max_iter=5000, eps=1e-12): the best of 8 random starts and
    # of the classical start
    for dim, smacof in ((2, .22888228733862317), (3, .15725215188673702)):
        assert D.stress(wanted, D.mds(wanted, dim)) <= smacof + 1e-9
        assert D.stress(1000 * wanted, D.mds(1000 * wanted, dim)) <= smacof + 1e-9  # whatever the unit


def test_two_dimensions_have_a_second_start_that_finds_a_lower_minimum(monkeypatch):
    wanted = squareform(pdist(np.random.default_rng(1).normal(0, 1, (24, 6)) ** 3))
    both = D.stress(wanted, D.mds(wanted, 2))
    classical = D.classical(wanted)
    start = SimpleNamespace(normal=lambda *of: classical[:, :2] / wanted.max())
    monkeypatch.setattr(np.random, "default_rng", lambda seed: start)  # so that both starts are the classical
    assert both < .9 * D.stress(wanted, D.mds(wanted, 2))


def test_place_finds_points_and_ignores_unknown_distances():
    rng = np.random.default_rng(1)
    people, heads = rng.normal(0, 40, (20, 5)), rng.normal(0, 90, (2, 3, 5))
    distances = np.linalg.norm(heads[..., None, :] - people, axis=-1)
    np.testing.assert_allclose(D.place(distances, people), heads, atol=1e-6)
    distances[0, 1, :4] = np.nan
    np.testing.assert_allclose(D.place(distances, people), heads, atol=1e-6)


def test_place_is_a_minimum_where_no_point_fits():
    rng = np.random.default_rng(2)
    people, d = rng.normal(0, 40, (20, 3)), rng.uniform(30, 120, 20)
    x = D.place(d, people)
    error = [np.square(np.linalg.norm(x + step - people, axis=1) - d).sum()
             for step in np.concatenate([np.zeros((1, 3)), np.eye(3) * .5, -np.eye(3) * .5,
                                         rng.normal(0, 60, (500, 3))])]
    assert np.argmin(error) == 0


@pytest.mark.real
def test_published_distances_medians_and_tests_come_back():
    data = real("yamamoto_n2010_mds32.npz")
    people, best = data["coord_subj"], {}
    np.testing.assert_allclose(D.from_median(people, people), data["dist_subj"], atol=1e-9)
    kinds = {f"{m}_{d}": f"{k}{d}" for m, k in (("dino", "dino"), ("supervised", "sl")) for d in (4, 8, 12)}
    for key in [*kinds, "dino_deit_small16", "supervised_deit_small16", "gbvs"]:
        heads = data["coord_" + key]
        distances = np.linalg.norm(heads[..., None, :] - people, axis=-1)
        ours = D.from_median(D.place(distances, people), people)
        np.testing.assert_allclose(ours, data["dist_" + key], atol=1e-9)
        if key in kinds:
            best[kinds[key]] = E.best_heads(ours.ravel(), np.repeat(np.arange(6), ours.size // 6))
            assert len(best[kinds[key]]) == 30
            assert np.median(best[kinds[key]]) == pytest.approx(E.PAPER[kinds[key]], abs=.1)
        elif key != "gbvs":
            official = "dino_vits16" if key.startswith("dino") else "deit_small_patch16_224"
            assert ours.min() == pytest.approx(E.PAPER[official], abs=.1)
            assert key != "dino_deit_small16" or np.argwhere(ours == ours.min()).tolist() == [[7, 4]]
    for depth in (4, 8, 12):
        assert D.compare("", best[f"dino{depth}"], best[f"sl{depth}"])["p"] <= 8.2e-7


# ------------------------------------------------------------------------------------------------ statistics

def test_median_distance_ignores_missing_gaze():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 9, (41, 2)), rng.normal(0, 9, (3, 41, 2))
    b[0, :20], b[1, :], a[40] = np.nan, np.nan, np.nan
    expected = [np.nanmedian(np.linalg.norm(a - g, axis=1)) if np.isfinite(g).any() else np.nan for g in b]
    np.testing.assert_allclose(D.median_distance(a, b), expected)


def test_mann_whitney_is_exact_and_effect_sizes_are_textbook():
    t = D.compare("x", [1, 2, 3], [4, 5, 6], 10)
    assert t["p"] == pytest.approx(2 / 20) and t["p_bonferroni"] == 1 and t["delta"] == -1
    assert t["d"] == pytest.approx(-3)  # both SDs are 1
    assert D.compare("x", [1, 4], [2, 3])["delta"] == 0


def test_best_heads_are_the_smallest_of_each_model():
    distance = np.array([9, 1, 8, 2, 7, 3, 4, 50, 51, 52, 53, 54, 55.])
    model = np.array(["a"] * 7 + ["b"] * 6)
    assert E.best_heads(distance, model).tolist() == [1, 2, 3, 4, 7, 50, 51, 52, 53, 54]


def test_relative_distances_average_clips_and_fill_pairs_that_never_met():
    rng, seen, traces, viewers = np.random.default_rng(6), [], [], list("pqrstx")
    for mine in ("pqrs", "pqrs", "pqt", "x"):  # t saw one clip, x met nobody
        gaze = rng.uniform(0, 99, (len(mine), 8, 2))
        seen.append(D.Watched(clip_of(genre="g"), np.arange(8), (99, 99), list(mine), gaze, np.arange(8)))
        traces.append(rng.uniform(0, 99, (8, 3, 2)))
    by_clip = [D.distances(w, trace, viewers) for w, trace in zip(seen, traces)]
    unit, d = D.distance_sets(seen, traces, by_clip, viewers, pool=False)["all"]
    assert d.shape == (3 + 6, 6) and unit == "median between viewers"
    units = [np.nanmedian(of[3:][np.triu_indices(6, 1)]) for of in by_clip[:3]]
    assert d[3, 1] == pytest.approx(np.mean([of[3, 1] / u for of, u in zip(by_clip, units)]))
    assert d[1, 4] == pytest.approx(by_clip[2][1, 4] / units[2])  # a trace to t
    met, between = D.fill(d[3:])
    assert met.tolist() == [True] * 5 + [False] and (np.diag(between) == 0).all()
    pr, qr, rs = (np.mean([of[3 + i, j] / u for of, u in zip(by_clip[:2], units)])
                  for i, j in ((0, 2), (1, 2), (2, 3)))
    pt, qt = (by_clip[2][3 + i, 4] / units[2] for i in (0, 1))
    assert between[2, 4] == between[4, 2] == pytest.approx((np.median([pr, qr, rs]) + np.median([pt, qt])) / 2)
    distance = D.scaled(d)["distance"]
    assert np.isfinite(distance[:8]).all() and np.isnan(distance[8])


def test_pooled_distances_are_medians_over_the_time_of_all_clips():
    rng, seen, traces, viewers = np.random.default_rng(2), [], [], list("pqr")
    for mine, n in (("pq", 5), ("qrp", 9)):
        gaze = rng.uniform(0, 99, (len(mine), n, 2))
        seen.append(D.Watched(clip_of(), np.arange(n), (99, 99), list(mine), gaze, np.arange(n)))
        traces.append(rng.uniform(0, 99, (n, 1, 2)))
    by_clip = [D.distances(w, trace, viewers) for w, trace in zip(seen, traces)]
    unit, d = D.distance_sets(seen, traces, by_clip, viewers, pool=True)["all"]
    p, q = np.r_[seen[0].gaze[0], seen[1].gaze[2]], np.r_[seen[0].gaze[1], seen[1].gaze[0]]
    assert unit == "px" and d[1, 1] == pytest.approx(np.median(np.linalg.norm(p - q, axis=1)))
    assert d[0, 0] == pytest.approx(np.median(np.linalg.norm(np.concatenate(traces)[:, 0] - p, axis=1)))


def test_viewers_who_each_saw_another_clip_are_refused(tmp_path, no_figures):
    root = small_world(tmp_path / "w", viewers=2)
    rows = read_csv(root / "gaze" / "two.csv")
    write_csv([row | dict(viewer=row["viewer"].replace("v1", "v2")) for row in rows if row["viewer"] != "v0"],
              root / "gaze" / "two.csv")
    with pytest.raises(InputError, match="2 viewers saw what another saw"):
        E.main([*ONE, "--data", str(root), "--out", str(tmp_path / "o")])
    assert not (tmp_path / "o").exists()


def test_groups_are_not_tested_against_all_viewers_who_include_them():
    def names(*groups: str) -> list[str]:
        kind = np.repeat([*(f"viewer {g}" for g in groups), "dino4"], 5)
        model = np.where(kind == "dino4", "dino4.0", "")
        return [t["name"] for t in E.compare_kinds("all", kind, model, np.arange(len(kind), dtype=float))]
    assert names("adult", "old") == ["all, heads: viewer old vs viewer adult",
                                     "all, heads: dino4 vs viewer adult"]
    assert names("child", "old") == ["all, heads: dino4 vs all viewers"]


def test_the_model_is_a_unit_from_three_models_on():
    kind = np.repeat(["viewer adult", "dino4", "sl4"], 18)
    model = np.array([""] * 18 + [f"dino4.{i // 6}" for i in range(18)] + [f"sl4.{i // 6}" for i in range(18)])
    tests = {t["name"]: t for t in E.compare_kinds("all", kind, model, np.arange(54.))}
    assert tests["all, heads: dino4 vs sl4"]["n"] == [15, 15]
    assert tests["all, models: dino4 vs sl4"]["medians"] == [26, 44]


# ------------------------------------------------------------------------------------------------ data

def test_gaze_follows_the_times_of_frames_also_at_a_variable_rate():
    times = np.array([0, .1, .2, .5, .6])
    t = np.arange(0, .7, .01)
    gaze, frame = D.align({"v": np.stack([t, 1000 * t, t], 1)}, times, clip_of(samples=4))
    assert gaze.shape == (1, 20, 2) and frame.tolist() == [f for f in range(5) for _ in range(4)]
    np.testing.assert_allclose(gaze[0, 8:12, 0], 1000 * (.2 + .3 * (np.arange(4) + .5) / 4), atol=5.1)


def test_gaze_is_missing_in_gaps_and_beyond_its_end():
    t = np.r_[np.arange(0, .5, .01), np.arange(.8, 1, .01)]
    gaze, frame = D.align({"v": np.stack([t, t, t], 1)}, np.arange(48) / 24, clip_of())
    at = (np.arange(240) + .5) / 120
    gone = np.isnan(gaze[0, :, 0])
    assert gone[(at > .55) & (at < .74)].all() and gone[at > 1.05].all() and not gone[at < .5].any()


def test_n2010_samples_show_the_nearest_frame_and_blanks_are_left_out(tmp_path):
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "all.mp4", 4)
    gaze = np.random.default_rng(0).uniform(0, 40, (5, 388, 2))
    np.savez(tmp_path / "gaze.npz", gaze=gaze, group=np.array([0, 0, 1, 3, 4]))
    study = D.load_study(str(tmp_path))
    assert study.layout == "n2010" and set(study.groups.values()) == {"adult", "child", "child ASD",
                                                                      "adult ASD"}
    aligned, frame = D.align(study.clips[0].records(), np.arange(2327) / 29.93, study.clips[0])
    nearest = np.abs(np.linspace(0, 1, 388)[:, None] - np.linspace(0, 1, 2327)).argmin(1)
    assert (frame == nearest).all()
    blank = np.isin(frame, study.clips[0].blank)
    assert len(study.clips[0].blank) == 197 and np.isnan(aligned[:, blank]).all()
    np.testing.assert_array_equal(aligned[:, ~blank], gaze[:, ~blank])
    cells = np.empty(6, object)
    cells[:] = [*gaze, gaze[0]]
    scipy.io.savemat(tmp_path / "allclip1.mat",
                     dict(eyeclip1=cells, goodsubj=np.arange(1, 6), gr=[1, 1, 2, 4, 5, 1]))
    again = D.load_study(str(tmp_path))
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
    notes = json.loads((tmp_path / "o" / "results.json").read_text())["notes"]
    assert notes == ([] if more else ["all: 14 of 2327 frames; only their gaze is used"])


def frames_of(path: Path, fps: float | None = None, notes: list | None = None) -> tuple[D.Watched, D.Frames]:
    clip = D.Clip(path.name, path, dict, fps=fps)
    w = D.watch(clip, None, [] if notes is None else notes)
    return w, D.Frames(clip, len(w.times))


def test_videos_and_folders_of_frames_come_in_order_and_again(tmp_path):
    pictures, notes = write_video(tmp_path / "a.mp4"), []
    w, data = frames_of(tmp_path / "a.mp4", notes=notes)
    assert w.size == (64, 96) and len(data) == 12 and notes == []
    assert w.times == pytest.approx(np.arange(12) / 24, abs=1e-3)
    means = [data[i]["image"].double().mean() for i in (0, 3, 4, 11, 2)]  # the last one starts again
    np.testing.assert_allclose(means, pictures[[0, 3, 4, 11, 2]].mean((1, 2, 3)), atol=3)
    (tmp_path / "b").mkdir()
    for i, p in enumerate(pictures):
        Image.fromarray(p).save(tmp_path / "b" / f"{i + 1}.png")  # 10 comes after 9
    w, data = frames_of(tmp_path / "b", 12.)
    assert w.times == pytest.approx(np.arange(12) / 12)
    assert all((data[i]["image"].numpy() == p).all() for i, p in enumerate(pictures))


def test_a_variable_frame_rate_is_kept(tmp_path):
    pts = [0, 40, 80, 300, 340]
    write_video(tmp_path / "v.mp4", 5, pts=pts)
    assert frames_of(tmp_path / "v.mp4")[0].times == pytest.approx(np.array(pts) / 1000, abs=2e-3)


def test_frames_before_the_damage_are_used_and_it_says_so(tmp_path):
    write_video(tmp_path / "a.mp4", 12)
    whole = bytearray((tmp_path / "a.mp4").read_bytes())
    with av.open(str(tmp_path / "a.mp4")) as file:
        packets = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    pos, size = packets[7]
    whole[pos:pos + size] = bytes(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    (tmp_path / "bad.mp4").write_bytes(whole)
    notes = []
    assert len(frames_of(tmp_path / "bad.mp4", notes=notes)[1]) == 7
    assert "bad.mp4: damaged after 7 frames" in notes[0] and "before the damage are used" in notes[0]
    (tmp_path / "none.mp4").write_bytes(b"no video at all")
    assert not len(frames_of(tmp_path / "none.mp4", notes=notes)[1]) and "after 0 frames" in notes[1]
    (tmp_path / "f").mkdir()
    for i in range(3):
        Image.new("RGB", (64, 64)).save(tmp_path / "f" / f"{i}.png")
    (tmp_path / "f" / "1.png").write_bytes(b"broken")
    assert len(frames_of(tmp_path / "f", 24., notes)[1]) == 1 and "frames before the damage" in notes[2]


def test_a_clip_without_a_frame_or_a_known_codec_is_noted(tmp_path):
    write_video(tmp_path / "a.mp4", 3)
    raw, notes = (tmp_path / "a.mp4").read_bytes(), []
    for name, content in (("codec.mp4", raw.replace(b"mp4v", b"zzzz").replace(b"esds", b"zzzz")),
                          ("count.mp4", raw.replace(b"stsz" + bytes(8) + b"\0\0\0\3", b"stsz" + bytes(12)))):
        (tmp_path / name).write_bytes(content)
        assert content != raw and not len(frames_of(tmp_path / name, notes=notes)[1])
    (tmp_path / "folder").mkdir()
    assert not len(frames_of(tmp_path / "folder", 24., notes)[1])
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
    study = D.load_study(str(tmp_path))
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

def edit_gaze(path: Path, change) -> None:
    rows = read_csv(path)
    write_csv([r for r in map(change, rows) if r], path)


def test_bad_gaze_is_left_out_and_named(tmp_path, no_figures):
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
    notes = "\n".join(results["notes"])
    assert "one: no gaze of viewer v0" in notes and "of the gaze lies outside the frame" in notes
    assert "0.5 s of video, 3.0 s of gaze" in notes and "gaze/on.csv: no clip has this name" in notes
    assert "two.mp4: damaged after 9 frames" in notes
    assert results["sets"]["all"]["viewers"] == 6
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
    (lambda w: [p.unlink() for p in (w / "clips").iterdir()], "no clips"),
    (lambda w: [p.write_bytes(b"x") for p in (w / "clips").iterdir()], "no clip could be decoded"),
    (lambda w: [p.unlink() for p in (w / "gaze").iterdir()], "0 viewers saw"),
    (lambda w: np.savez(w / "gaze.npz", gaze=np.zeros((5, 9, 3))), "gaze of shape"),
], ids=["columns", "time", "clips.csv", "fps", "same-name", "no-clips",
        "no-video", "no-gaze", "n2010-shape"])
def test_wrong_data_is_named(tmp_path, no_figures, spoil, message):
    root = small_world(tmp_path / "w")
    spoil(root)
    with pytest.raises(InputError, match=re.escape(message)):
        E.main([*ONE, "--data", str(root), "--out", str(tmp_path / "o")])


@pytest.mark.parametrize("argv, message", [
    (["--models", "what=x.pth"], "KIND=FILE"), (["--models", "dino99"], "no model dino99"),
    (["--models", "dino4=/no/file.pth"], "no such weight file"), (["--weights", "x.pth"], "one model"),
    (["--data", "/no/such/folder"], "no such folder"),
    (["--models", f"dino12={ROOT}/checkpoints/demo_dino4.pth"], "4 blocks, 96 wide"),
    (["--compare", "/no/run"], "no distances.csv")])
def test_wrong_arguments_are_named(tmp_path, no_figures, argv, message):
    with pytest.raises(InputError, match=message):
        E.main([*argv, "--out", str(tmp_path / "o"), "--limit", "1", "--device", "cpu"])
    assert not (tmp_path / "o").exists()


def test_frames_too_small_for_gbvs_or_of_different_sizes_are_refused(tmp_path, monkeypatch):
    root = small_world(tmp_path / "w")
    write_video(root / "clips" / "two.mp4", 12, (48, 96))
    with pytest.raises(InputError, match="two: 96x48 px; GBVS needs sides of 64"):
        E.main([*ONE, "--data", str(root), "--out", str(tmp_path / "o")])
    (root / "clips" / "s").mkdir()
    for i in (64, 96):
        Image.new("RGB", (i, 96)).save(root / "clips" / "s" / f"{i}.png")
    write_csv([dict(clip="s", fps=24)], root / "clips.csv")
    with pytest.raises(InputError, match="frames of different sizes"):
        E.main([*ONE, "--data", str(root), "--out", str(tmp_path / "o")])


# ------------------------------------------------------------------------------------------------ runs

@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "o"
    with pytest.MonkeyPatch.context() as monkeypatch:
        quick(monkeypatch, figures=True)
        E.main([*TINY, "--out", str(out)])
    return out


def same_run(a: Path, b: Path) -> None:
    for name in ("per_image.csv", "distances.csv"):
        if (a / name).exists() and (b / name).exists():
            assert (a / name).read_bytes() == (b / name).read_bytes(), name
    x, y = (read_json(p / "results.json") for p in (a, b))
    assert all(x[k] == y[k] for k in ("headline", "tests", "sets", "correlations", "notes"))
    x, y = (read_arrays(p / "arrays.npz") for p in (a, b))
    assert x.keys() == y.keys() and all((x[k] == y[k]).all() for k in x if x[k].dtype.kind != "f")
    assert all(np.array_equal(x[k], y[k], equal_nan=True) for k in x if x[k].dtype.kind == "f")


@pytest.mark.parametrize("more", [["--data", "typo"], ["--models", "vgg"], ["--limit", "2"], ["--fovea", "4"],
                                  ["--models", "demo_dino4"], ["--compare", "typo"]], ids=" ".join)
def test_a_finished_run_stays_whole_after_a_typo(run, no_figures, more, capsys):
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    with pytest.raises((InputError, SystemExit)):
        E.main([*TINY, "--out", str(run), *more])
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()} == before


def test_runs_of_other_data_models_and_limits_have_other_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = set()
    for argv in ("", "--models dino12=F sl12=G sl12=H --limit 3", "--data A/B", "--data C/B", "--dtype bfloat16"):
        with pytest.raises(InputError, match="no finished run in") as e:
            E.main([*argv.split(), "--plot-only", "--device", "cpu"])
        folders.add(str(e.value))
    assert len(folders) == 5


def test_bare_demo_command_compares_six_models_and_gbvs_and_starts_exp05_clusters(tmp_path, monkeypatch):
    figures, place = set(), D.place
    for module in (E, __import__("exp05_clusters")):
        monkeypatch.setattr(module, "save_figure", lambda fig, path: figures.add(path.name))
    monkeypatch.setattr("results.save_figure", lambda fig, path: figures.add(path.name))
    monkeypatch.setattr(D, "place", lambda *of: place(*of, starts=1))  # the other starts take 10 s
    E.main(["--limit", "2", "--out", str(tmp_path / "o"), "--device", "cpu"])
    results = read_json(tmp_path / "o" / "results.json")
    names = [h["name"] for h in results["headline"]]
    assert {f"{m.removeprefix('demo_')}, 5 best heads" for m in E.DEMO_MODELS} < set(names)
    assert {"GBVS, all channels", "viewer adult", "viewer child"} < set(names)
    assert any("flicker and motion" in n for n in results["not_run"])
    assert {"GBVS", "GBVS orientation"} <= {r["condition"] for r in read_csv(tmp_path / "o" / "per_image.csv")}
    names = [h["name"] for h in read_json(tmp_path / "o" / "clusters" / "results.json")["headline"]]
    assert names[0] == "adult: looks at eyes" and "G3: share of late heads" in names
    assert figures == {f"fig_{k}" for k in ("distance", "gaze", "heads", "regions", "clusters", "popout",
                                            "frames")}


def test_demo_run_writes_tables_and_figures_and_draws_them_again(run, no_figures, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.setattr(E, "start_clusters", lambda args: None)
    results = read_json(run / "results.json")
    assert any("dino4 vs sl4" in t["name"] for t in results["tests"])
    assert {p.name for p in run.glob("fig_*")} == {
        f"fig_{k}.{end}" for k in ("distance", "gaze", "heads") for end in ("png", "pdf")}
    rows = read_csv(run / "distances.csv")
    assert len(rows) == 4 * (48 + 24) and rows[-1]["kind"] == "viewer child"
    assert len(results["correlations"]) == 6 and results["correlations"][0]["n"] == 48
    assert results["best_head"] == min((r for r in rows if r["set"] == "all" and " head " in r["condition"]),
                                       key=lambda r: r["distance"])["condition"]
    before = (run / "fig_heads.png").read_bytes()
    (run / "fig_heads.png").unlink()
    E.main([*TINY, "--out", str(run), "--plot-only"])
    assert (run / "fig_heads.png").read_bytes() == before and "demo world" in capsys.readouterr().out


def test_killed_and_resumed_run_equals_an_undisturbed_one(run, tmp_path, no_figures, monkeypatch):
    measure, done = E.measure, []

    def killed(*of, **how):
        done.append(1)
        if len(done) == 4:
            raise KeyboardInterrupt
        return measure(*of, **how)

    monkeypatch.setattr(E, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        E.main([*TINY, "--out", str(tmp_path / "o")])
    batches = sorted((tmp_path / "o" / "unfinished").glob("*/*.npz"))
    assert [f"{p.parent.name}/{p.name}" for p in batches] == ["clip01/00000.npz", "clip01/00001.npz",
                                                              "clip02/00000.npz"]
    stamps = [p.stat().st_mtime_ns for p in batches]
    monkeypatch.setattr(E, "measure", measure)
    with pytest.raises(InputError, match="add --resume"):
        E.main([*TINY, "--out", str(tmp_path / "o")])
    with pytest.raises(InputError, match="dtype"):
        E.main([*TINY, "--out", str(tmp_path / "o"), "--resume", "--dtype", "bfloat16"])
    assert [p.stat().st_mtime_ns for p in batches] == stamps
    E.main([*TINY, "--out", str(tmp_path / "o"), "--resume"])
    same_run(run, tmp_path / "o")


def test_two_processes_give_the_run_of_one(run, tmp_path, no_figures):
    in_group(2, E.main, [*TINY, "--out", str(tmp_path / "o")])
    same_run(run, tmp_path / "o")


def test_compare_correlates_and_draws_two_runs(run, tmp_path, monkeypatch):
    drawn = []
    quick(monkeypatch, figures=True)
    monkeypatch.setattr(E, "save_figure", lambda fig, path: drawn.append((path.name, fig)))
    E.main([*TINY, "--out", str(tmp_path / "two"), "--compare", str(run)])
    found = read_json(tmp_path / "two" / "results.json")["correlations"]
    same = next(c for c in found if c["sets"] == ["all", f"{run.name}: all"])
    assert same["r"] == pytest.approx(1) and same["n"] == 48
    right = dict(drawn)["fig_heads"].axes[1]
    assert right.get_xlabel() == "MDS distance, all (px)" and f"{run.name}: nature" in right.get_ylabel()
    x, y = right.collections[0].get_offsets().T
    rows = {(r["set"], r["condition"]): r["distance"] for r in read_csv(run / "distances.csv")}
    heads = [c for kind, c in rows if kind == "all" and " head " in c]
    np.testing.assert_allclose(x, [rows["all", head] for head in heads])
    np.testing.assert_allclose(y, [rows["nature", head] for head in heads])
    assert len(x) == 48 and right.get_visible()


def test_commands_of_the_card_parse():
    card = re.sub(r"\n +(?=dino12=)", " ", E.__doc__.split("Paper (")[0])
    commands = re.findall(r"exp05_gaze_video\.py(.*)", card)
    assert len(commands) == 5
    for command in commands:
        assert E.parse(command.split("(")[0].split()).models
    assert E.parse("--data N2010".split()).models == ["dino_vits16", "deit_small_patch16_224"]
