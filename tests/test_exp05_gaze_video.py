"""exp05_gaze_video: the authors' gaze, scaling and tests come back; planted heads are found."""
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import av
import exp05_claims as P
import exp05_data as D
import exp05_frames as X
import exp05_gaze_video as E
import exp05_scaling as S
from common import InputError, ROOT, VisionTransformer, generator
from data import read_csv
from gaze_worlds import (TINY, coarse_scaling, cw2019_world, n2010_world, quick, real, small_world, write_masks,
                         write_n2010_gaze, write_video)
from pretended import one_device
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


def test_measure_gives_every_heads_gaze_in_pixels_of_the_frame(monkeypatch):
    monkeypatch.setattr(E, "SHALLOWEST", 4)
    models = E.load_models(["demo_dino4"], None, torch.device("cpu"))
    images = (255 * torch.rand(2, 70, 99, 3, generator=generator(3))).byte()
    found = E.measure(dict(image=images), models, None, "float32", torch.device("cpu"))
    assert found["gaze"].shape == (2, 24 + 7, 2) and found["apart"].shape == (2, 12, 12)
    images = images.permute(0, 3, 1, 2)
    attn = E.attend(images, models[0], None)  # (2, 4, 6, 4, 6) of 64 x 96 px
    direct = E.head_gaze(attn[:, 1, 4], 16) * torch.tensor([99 / 96, 70 / 64])
    torch.testing.assert_close(found["gaze"][:, 6 + 4], direct)
    maps = attn[:, 2].flatten(2)  # (2, 6, 24)
    cosine = F.cosine_similarity(maps[:, :, None], maps[:, None], dim=-1)  # (2, 6, 6)
    torch.testing.assert_close(found["alike"][:, 12:18], (cosine.sum(2) - 1) / 5, atol=1e-5, rtol=0)
    torch.testing.assert_close(found["apart"][:, :6, :6], 1 - cosine, atol=1e-5, rtol=0)


def test_frames_are_scaled_to_the_models_mean_and_standard_deviation(monkeypatch):
    monkeypatch.setattr(E, "cls_attention", lambda net, x: x)
    images = (255 * torch.rand(2, 3, 64, 96, generator=generator(2))).byte()
    mean, std = torch.tensor([.1, .5, .9]).view(3, 1, 1), torch.tensor([.2, .3, .7]).view(3, 1, 1)
    model = E.Model("dino4", "dino4.0", SimpleNamespace(patch_size=16), mean, std)
    found = E.attend(images, model, None).numpy()
    for k, (m, s) in enumerate(((.1, .2), (.5, .3), (.9, .7))):
        np.testing.assert_allclose(found[:, k], (images[:, k].numpy() / 255 - m) / s, atol=1e-5)


def test_heads_that_a_file_does_not_tell_are_assumed_aloud_or_asked_for(tmp_path):
    for width, heads in ((96, 6), (96, 3), (192, 3)):
        net = VisionTransformer(64, 16, width, 4, heads)
        torch.save(net.state_dict(), tmp_path / f"{width}.pth")
    name, narrow = f"dino4={tmp_path}/192.pth", f"sl4={tmp_path}/96.pth"
    with pytest.raises(InputError, match="192 wide.*--heads"):
        E.load_models([name], None, torch.device("cpu"))
    (model,) = E.load_models([name], None, torch.device("cpu"), heads=3)
    assert model.net.num_heads == 3 and E.load_models([narrow], None, "cpu")[0].net.num_heads == 6
    assert E.load_models([narrow], None, "cpu", heads=3)[0].net.num_heads == 3
    assert E.load_models([narrow], None, "cpu")[0].net.pos_rule == "offset"  # as the authors resample all
    assert E.assumed(["demo_dino4"], None) == []
    assert E.assumed([narrow], None) == [
        f"{narrow}: assumed: 6 heads a block (else --heads); assumed: mean and SD of ImageNet"]
    assert "3 heads a block (--heads); assumed: mean" in E.assumed([name], 3)[0]
    assert E.parse(["--models", name, "--heads", "3"]).heads == 3


def test_one_worker_decodes_a_video_ahead_and_more_read_a_folder_of_frames(tmp_path, monkeypatch):
    asked = []

    def in_batches(folder, data, batch_size, look, workers):
        pickle.dumps(data)  # as sent to a worker where processes are spawned
        asked.append(workers)
        return dict(gaze=np.zeros((2, 1, 2)), alike=np.zeros((2, 1)), apart=np.zeros((2, 1, 1)))
    monkeypatch.setattr(E, "in_batches", in_batches)
    clip = D.load_study(str(n2010_world(tmp_path / "N"))).clips[0]
    (tmp_path / "frames").mkdir()
    for source in (clip.source, tmp_path / "frames"):
        for workers in (0, 1, 4):
            shown = D.Watched(replace(clip, source=source), np.arange(2), (64, 96), [], None, None)
            E.measure_all([shown], tmp_path, 2, None, workers)
    assert asked == [0, 1, 1, 0, 1, 4]


def test_late_blocks_are_the_papers_and_lie_past_two_thirds_of_any_depth():
    late = {depth: E.Model(f"dino{depth}", "", torch.nn.Module(), None, None) for depth in (4, 5, 8, 12, 24)}
    for depth, model in late.items():
        model.net.blocks = range(depth)
    assert {depth: model.late() for depth, model in late.items()} == {
        4: (), 5: (3, 4), 8: (6, 7), 12: (8, 9), 24: (16, 17)}
    assert late[12]._replace(kind="sl12").late() == ()


# ------------------------------------------------------------------------------------------------ scaling

@pytest.mark.real
def test_published_distances_medians_and_tests_come_back():
    data = real("yamamoto_n2010_mds32.npz")
    people, best = data["coord_subj"], {}
    np.testing.assert_allclose(S.from_median(people, people), data["dist_subj"], atol=1e-9)
    kinds = {f"{m}_{d}": f"{k}{d}" for m, k in (("dino", "dino"), ("supervised", "sl")) for d in (4, 8, 12)}
    for key in [*kinds, "dino_deit_small16", "supervised_deit_small16", "gbvs"]:
        heads = data["coord_" + key]
        distances = np.linalg.norm(heads[..., None, :] - people, axis=-1)
        ours = S.from_median(S.place(distances, people), people)
        np.testing.assert_allclose(ours, data["dist_" + key], atol=1e-9)
        if key in kinds:
            best[kinds[key]] = P.best_heads(ours.ravel(), np.repeat(np.arange(6), ours.size // 6))
            assert len(best[kinds[key]]) == 30
            assert np.median(best[kinds[key]]) == pytest.approx(P.PAPER["N2010"][kinds[key]], abs=.1)
        elif key == "gbvs":
            assert dict(zip(E.CHANNELS, ours)) == pytest.approx(
                {channel: P.PAPER["N2010"][channel] for channel in E.CHANNELS}, abs=.1)
        else:
            official = "dino_vits16" if key.startswith("dino") else "deit_small_patch16_224"
            assert ours.min() == pytest.approx(P.PAPER["N2010"][official], abs=.1)
            assert key != "dino_deit_small16" or np.argwhere(ours == ours.min()).tolist() == [[7, 4]]
    for depth in (4, 8, 12):
        assert S.compare("", best[f"dino{depth}"], best[f"sl{depth}"])["p"] <= 8.2e-7


# ------------------------------------------------------------------------------------------------ statistics

def test_viewers_who_each_saw_another_clip_are_refused(tmp_path, no_figures):
    root = small_world(tmp_path / "w", viewers=2)
    rows = read_csv(root / "gaze" / "two.csv")
    write_csv([row | dict(viewer=row["viewer"].replace("v1", "v2")) for row in rows if row["viewer"] != "v0"],
              root / "gaze" / "two.csv")
    with pytest.raises(InputError, match="2 viewers saw what another saw"):
        E.main([*ONE, "--data", str(root), "--out", str(tmp_path / "o")])
    assert not (tmp_path / "o").exists()


def test_rows_of_clips_are_medians_over_the_other_viewers():
    d = np.array([[10., 20, 90, 4], [0, 3, 50, 60], [3, 0, 70, 7], [50, 70, 0, np.nan], [60, 7, np.nan, 0],
                  [np.nan] * 4])
    d = d[[5, 0, 1, 2, 3, 4]]  # who never looks, a head, four viewers
    table = dict(condition=np.array(["none", "head", *"pqrs"]), kind=np.array(["dino4"] * 2 + ["viewer"] * 4))
    w = D.Watched(X.Clip("one", Path("one"), dict, "drama"), np.arange(2), (9, 9), list("pqrs"), None, None)
    rows = E.image_rows([w], [d], table)
    assert [(r["condition"], r["distance_px"]) for r in rows] == [
        ("head", 15), ("p", 50), ("q", 7), ("r", 60), ("s", 33.5)]
    assert {(r["image"], r["genre"]) for r in rows} == {("one", "drama")}


def test_likeness_of_heads_is_the_mean_over_the_frames_of_all_clips_that_are_not_blank(tmp_path, monkeypatch):
    alike = {"one": np.array([[.1, .5], [.9, .9], [.3, .2]]), "two": np.array([[.8, .4]])}
    monkeypatch.setattr(E, "in_batches", lambda folder, data, *of: dict(
        gaze=np.zeros((len(data), 2, 2)), alike=alike[folder.name], apart=alike[folder.name][:, :, None] * [1, 2]))
    clips = [X.Clip("one", tmp_path / "one.mp4", dict, blank=(1,)), X.Clip("two", tmp_path / "two.mp4", dict)]
    watched = [D.Watched(clip, np.arange(n), (4, 6), [], None, None) for clip, n in zip(clips, (3, 1))]
    found = E.measure_all(watched, tmp_path, 1, None, 0)
    np.testing.assert_allclose(found["alike"], [(.1 + .3 + .8) / 3, (.5 + .2 + .4) / 3])
    np.testing.assert_allclose(found["apart"], found["alike"][:, None] * [1, 2])


def test_fig_distance_shows_medians_by_block_the_best_heads_and_who_is_where(tmp_path, monkeypatch):
    rng, drawn = np.random.default_rng(2), []
    monkeypatch.setattr(E, "save_figure", lambda fig, path: drawn.append(fig))
    kind = np.repeat(["dino4", "sl4", "GBVS", "viewer adult"], (24, 24, 1, 8))
    model = np.repeat(["dino4.0", "sl4.0", ""], (24, 24, 9))
    block = np.r_[np.repeat(np.arange(4), 6), np.repeat(np.arange(4), 6), [-1] * 9]
    distance, xy = rng.uniform(10, 99, 57), rng.normal(size=(1, 57, 2))
    distance[-1] = np.nan
    E.draw_distance(dict(kind=kind, model=model, block=block, distance=distance[None], xy=xy, units=np.array(["px"])),
                    tmp_path)
    left, middle, right = drawn[0].axes
    by_block = {line.get_label(): line.get_ydata() for line in middle.lines}
    np.testing.assert_allclose(by_block["dino4"], np.median(distance[:24].reshape(4, 6), 1))
    np.testing.assert_allclose(by_block["sl4"], np.median(distance[24:48].reshape(4, 6), 1))
    people = np.sort(distance[49:56])
    assert by_block["viewers, median"][0] == pytest.approx(people[3])
    heads = [np.sort(distance[rows])[:5] for rows in (slice(24), slice(24, 48))]
    for line, values in zip(left.lines, (people, *heads, distance[48:49]), strict=True):
        np.testing.assert_allclose(line.get_ydata(), values)
    bars = [bar.get_segments()[0][0, 1] for bar in left.collections]
    assert bars == pytest.approx([people[3], heads[0][2], heads[1][2]])  # GBVS's one is too few
    for line in right.lines:
        np.testing.assert_allclose(line.get_xydata(), xy[0, kind == line.get_label()])
    assert len(right.lines) == 4


def test_example_frames_lie_evenly_over_all_clips_with_the_gaze_at_these_frames(tmp_path):
    clips = [X.Clip(name, tmp_path / f"{name}.mp4", dict, blank=blank) for name, blank in (("one", (3,)), ("two", ()))]
    pictures = {clip.name: write_video(clip.source, 6) for clip in clips}
    gaze = np.arange(2 * 12 * 2.).reshape(2, 12, 2)  # of two viewers, two samples a frame
    watched = [D.Watched(clip, np.arange(6), (64, 96), ["p", "q"], gaze + 100 * i, np.repeat(np.arange(6), 2))
               for i, clip in enumerate(clips)]
    models = [E.Model("dino4", f"dino4.{i}", None, torch.zeros(1) + i, None) for i in (1, 2)]

    def look(frames, model):  # of two blocks of one head
        return frames.double().mean() * model.mean * torch.ones(len(frames), 2, 1, 3, 4)
    found = E.example_frames(watched, models, look)
    times = [0, 2, 5, 1, 3, 5]  # of 11 frames that are not blank those 0, 2, 4, 6, 8, 10
    assert found["example_frame"] == times and found["example_clip"] == ["one"] * 3 + ["two"] * 3
    for i, t in enumerate(times):
        clip = found["example_clip"][i]
        assert abs(float(found[f"picture{i}"].double().mean()) - pictures[clip][t].mean()) < 3
        np.testing.assert_array_equal(found[f"viewers{i}"], gaze[:, 2 * t] + 100 * (clip == "two"))
        of_models = np.repeat([1, 2], 2)[:, None, None] * float(found[f"picture{i}"].double().mean())
        np.testing.assert_allclose(found[f"maps{i}"], np.broadcast_to(of_models, (4, 3, 4)), rtol=1e-3)


def test_whoever_never_looks_is_nowhere_and_another_run_comes_last():
    rng = np.random.default_rng(1)
    people, heads = rng.normal(size=(8, 3)), rng.normal(size=(3, 3))
    d = np.linalg.norm(np.concatenate([heads, people])[:, None] - people, axis=-1)
    d[1] = np.nan
    names = np.array(["a", "b", "c", *"pqrstuvw"])
    found, facts = E.heads_among_viewers({"all": ("px", d)}, {"N2010: all": {"a": 3., "b": 4.}}, names)
    assert np.isnan(found["distance"][0]).tolist() == np.isnan(found["xy"][0]).any(1).tolist() == [
        False, True, *[False] * 9]
    assert found["sets"] == ["all", "N2010: all"] and found["units"].tolist() == ["px"]
    np.testing.assert_array_equal(found["distance"][1], [3, 4, *[np.nan] * 9])
    assert facts["all"]["viewers"] == 8 and facts["all"]["dim"] == 4


# ------------------------------------------------------------------------------------------------ data

@pytest.mark.parametrize("more", [["--limit", "12"], []], ids=["limit", "short"])
def test_n2010_keeps_its_time_when_frames_are_missing(tmp_path, no_figures, more):
    (tmp_path / "N" / "clips").mkdir(parents=True)
    write_video(tmp_path / "N" / "clips" / "all.mp4", 14)
    rng = np.random.default_rng(0)  # a sample a frame of 2,327; all look at one place for 14 frames
    gaze = rng.uniform(0, 64, (5, 2327, 2))
    gaze[:, :14] = np.array([20, 30]) + rng.uniform(-1, 1, (5, 14, 2))
    write_n2010_gaze(tmp_path / "N", gaze, [1, 1, 1, 2, 2])
    E.main([*ONE, "--data", str(tmp_path / "N"), "--out", str(tmp_path / "o"), *more])
    rows = [r for r in read_csv(tmp_path / "o" / "per_image.csv") if r["kind"].startswith("viewer")]
    assert len(rows) == 5 and max(r["distance_px"] for r in rows) < 3
    notes = json.loads((tmp_path / "o" / "results.json").read_text())["notes"]
    share = "all: gaze in 100% of the frames (mean over 5 viewers)"
    assert notes == ([share] if more else ["all: 14 of 2327 frames; only their gaze is used", share])


def test_every_frame_comes_with_the_one_before_it_but_not_across_a_blank(tmp_path):
    pictures = write_video(tmp_path / "a.mp4", 12)
    clip = X.Clip("a", tmp_path / "a.mp4", dict, blank=(4, 5))
    pairs = X.Frames(clip, 12)
    assert len(pairs) == 12
    expected = {0: 0, 1: 0, 2: 1, 6: 6, 7: 6, 10: 9, 11: 10, 3: 2}  # frame: the one before it
    for i, before in expected.items():
        pair = pairs[i]
        assert abs(float(pair["image"].double().mean()) - pictures[i].mean()) < 3
        assert torch.equal(pair["image"], X.Frames(clip, 12)[i]["image"])
        assert torch.equal(pair["previous"], X.Frames(clip, 12)[before]["image"])


def test_measure_gives_gbvs_the_frames_before(monkeypatch):
    asked = []

    def gbvs_sets(images, sets, previous):
        asked.append((sets, images.mean((1, 2, 3)), previous.mean((1, 2, 3))))
        return images[:, :1, ::16, ::16].expand(-1, len(sets), -1, -1)
    monkeypatch.setattr(E, "gbvs_sets", gbvs_sets)
    images = torch.tensor([0, 51, 102, 255], dtype=torch.uint8)[:, None, None, None].expand(4, 64, 64, 3)
    E.measure(dict(image=images[1:], previous=images[:-1]), E.load_models(["demo_dino4"], None, "cpu"), None,
              "float32", torch.device("cpu"))
    (sets, now, before), = asked  # one call, so that no channel is computed twice
    assert sets == ["DIORFM", *"IORFMD"]
    torch.testing.assert_close(now, torch.tensor([.2, .4, 1.]))
    torch.testing.assert_close(before, torch.tensor([0, .2, .4]))


@pytest.mark.parametrize("scale", [None, .75])
def test_gbvs_looks_at_what_moves_and_nowhere_where_nothing_does(scale):
    images = torch.zeros(3, 96, 128, 3, dtype=torch.uint8)
    for i, x in enumerate((30, 30, 70)):
        images[i, 40:52, x:x + 12] = 255
        images[i, 70:90, 100:120] = 200  # this stays where it is
    previous = images[[0, 0, 1]]
    found = E.measure(dict(image=images, previous=previous), E.load_models(["demo_dino4"], None, "cpu"),
                      scale, "float32", torch.device("cpu"))["gaze"][:, -7:]
    gaze = dict(zip(E.CHANNELS, found.swapaxes(0, 1)))
    for channel in ("GBVS flicker", "GBVS motion"):
        assert gaze[channel][:2].isnan().all()
        x, y = gaze[channel][2].tolist()
        assert abs(y - 46) < 7 and 24 < x < 90
    assert all(gaze[channel].isfinite().all() for channel in (
        "GBVS", "GBVS intensity", "GBVS orientation", "GBVS contrast", "GBVS colour"))


def test_who_never_looks_has_no_distance(tmp_path, no_figures, monkeypatch):
    root = small_world(tmp_path / "w")
    monkeypatch.setattr(E, "CHANNELS", {"GBVS": "IF", "GBVS flicker": "F"})
    E.main([*ONE, "--data", str(root), "--out", str(tmp_path / "o"), "--limit", "1"])
    names = [h["name"] for h in read_json(tmp_path / "o" / "results.json")["headline"]]
    assert "GBVS, all channels" in names and "GBVS flicker" not in names


# ------------------------------------------------------------------------------------------------ wrong input

def edit_gaze(path: Path, change) -> None:
    rows = read_csv(path)
    write_csv([r for r in map(change, rows) if r], path)


def test_bad_gaze_is_left_out_and_named(tmp_path, no_figures):
    root = small_world(tmp_path / "w", viewers=6, seconds=2)

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
    assert "one, viewer v0: no gaze" in notes and "of the gaze lies outside the frame" in notes
    assert "0.5 s of video, 2.0 s of gaze" in notes and "gaze/on.csv: no clip has this name" in notes
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
    write_csv([dict(frame=0, part="eyes", x_px=9, y_px=9)], root / "keypoints" / "1.csv")
    E.main([*ONE, "--data", str(root), "--out", str(tmp_path / "o")])
    rows = read_csv(tmp_path / "o" / "per_image.csv")
    assert {(r["image"], r["genre"]) for r in rows} == {("one [1]", ""), ("1", "g1"), ("s.1", "gs.1"),
                                                        ("s.2", "gs.2")}
    assert {(r["condition"], r["kind"]) for r in rows} >= {("01", "viewer 1"), ("1", "viewer 2")}


@pytest.mark.parametrize("spoil, message", [
    (lambda w: (w / "gaze" / "one.csv").write_text("viewer,time\na,1\n"), "no column t_s in the header (viewer, time)"),
    (lambda w: (w / "gaze" / "one.csv").write_text("viewer,t_s,x_px,y_px\na,soon,1,1\n"), "one.csv"),
    (lambda w: (w / "clips.csv").write_text("name\none\n"), "clips.csv"),
    (lambda w: (w / "clips.csv").write_text("clip,fps\none,24 fps\n"), "'24 fps' frames/s"),
    (lambda w: (w / "clips" / "one").mkdir(), "two clips are called one"),
    (lambda w: [p.unlink() for p in (w / "clips").iterdir()], "no clips"),
    (lambda w: [p.write_bytes(b"x") for p in (w / "clips").iterdir()], "no clip could be decoded"),
    (lambda w: [p.unlink() for p in (w / "gaze").iterdir()], "0 viewers saw"),
    (lambda w: write_n2010_gaze(w, np.zeros((5, 9, 3)), [1] * 5), "gaze of shape"),
    (lambda w: write_csv([dict(part="eyes", x_px=9, y_px=9)], w / "keypoints/one.csv"), "no column frame"),
    (lambda w: write_csv([dict(frame=3, part="Eye", x_px=9, y_px=9)], w / "keypoints/one.csv"),
     "part 'Eye' of frame 3; expected columns frame (from 0), part (eyes, mouth, face"),
    (lambda w: write_masks(w, 12, 9, 9), "body has shape (12, 9, 9), its clip (12, 64, 96)"),
], ids=["columns", "time", "clips.csv", "fps", "same-name", "no-clips",
        "no-video", "no-gaze", "n2010-shape", "points", "part", "masks"])
def test_wrong_data_is_named(tmp_path, no_figures, spoil, message):
    root = small_world(tmp_path / "w")
    spoil(root)
    with pytest.raises(InputError, match=re.escape(message)):
        E.main([*ONE, "--data", str(root), "--out", str(tmp_path / "o")])
    assert not (tmp_path / "o").exists()  # before the first frame


@pytest.mark.parametrize("argv, message", [
    (["--models", "what=x.pth"], "KIND=FILE"), (["--models", "dino99"], "no model dino99"),
    (["--models", "dino4=/no/file.pth"], "no such weight file"), (["--weights", "x.pth"], "one model"),
    (["--heads", "3"], "--heads belongs to models given as KIND=FILE"),
    (["--data", "/no/such/folder"], "no such folder"),
    (["--models", f"dino12={ROOT}/checkpoints/demo_dino4.pth"], "4 blocks; expected"),
    (["--compare", "/no/run"], "no arrays.npz")])
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


@pytest.mark.parametrize("device", ["mps"])  # which is cuda and more: no float64
def test_the_study_is_computed_on_one_device(tmp_path, monkeypatch, device):
    quick(monkeypatch)
    monkeypatch.setattr(E, "CHANNELS", {"GBVS": "IRFM"})
    with one_device(device):
        E.main([*TINY, "--device", device, "--out", str(tmp_path / "o")])


def same_run(a: Path, b: Path) -> None:
    for name in ("per_image.csv", "distances.csv"):
        if (a / name).exists() and (b / name).exists():
            assert (a / name).read_bytes() == (b / name).read_bytes(), name
    x, y = (read_json(p / "results.json") for p in (a, b))
    assert all(x[k] == y[k] for k in ("headline", "tests", "sets", "notes"))
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
    figures = set()
    coarse_scaling(monkeypatch)
    for module in (E, __import__("exp05_clusters")):
        monkeypatch.setattr(module, "save_figure", lambda fig, path: figures.add(path.name))
    monkeypatch.setattr("results.save_figure", lambda fig, path: figures.add(path.name))
    E.main(["--limit", "2", "--out", str(tmp_path / "o"), "--device", "cpu"])
    results = read_json(tmp_path / "o" / "results.json")
    names = [h["name"] for h in results["headline"]]
    assert {f"{m.removeprefix('demo_')}, 5 best heads" for m in E.DEMO_MODELS} < set(names)
    assert {"GBVS, all channels", "GBVS motion", "viewer adult", "viewer child", "dino12 vs viewer adult",
            "dino12 vs sl12"} < set(names) and results["not_run"] == []
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
    heads, viewers = ([r["set"] for r in rows if (" head " in r["condition"]) == there] for there in (True, False))
    assert heads == [name for name in ("all", "animation", "drama", "nature") for _ in range(48)]
    assert viewers.count("all") == 24 and set(viewers) == set(heads) and rows[-1]["kind"] == "viewer child"
    correlations = [t for t in results["tests"] if "r" in t]
    assert len(correlations) == 2 * 6 and {t["n"] for t in correlations} == {24}
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
    found = read_json(tmp_path / "two" / "results.json")["tests"]
    same = {t["name"]: t for t in found}[f"sl4: all and {run.name}: all"]
    assert same["r"] == pytest.approx(1) and same["n"] == 24
    right = dict(drawn)["fig_heads"].axes[1]
    assert right.get_xlabel() == "MDS distance, all (px)" and f"{run.name}: nature" in right.get_ylabel()
    x, y = right.collections[0].get_offsets().T
    rows = {(r["set"], r["condition"]): r["distance"] for r in read_csv(run / "distances.csv")}
    heads = [c for kind, c in rows if kind == "all" and " head " in c]
    np.testing.assert_allclose(x, [rows["all", head] for head in heads])
    np.testing.assert_allclose(y, [rows["nature", head] for head in heads])
    assert len(x) == 48 and right.get_visible()


def test_cw2019_stands_beside_the_papers_numbers_by_genre_and_correlates_with_n2010(tmp_path, monkeypatch):
    quick(monkeypatch)
    monkeypatch.setattr(E, "CHANNELS", {"GBVS": "IF", "GBVS intensity": "I"})
    monkeypatch.setattr(E, "draw", lambda arrays, results, folder: write_csv(
        E.distance_rows(arrays), folder / "distances.csv"))
    models, rows = "--models demo_dino4 demo_sl4 --device cpu --data".split(), {}
    E.main([*models, str(n2010_world(tmp_path / "N")), "--out", str(tmp_path / "n2010")])
    E.main([*models, str(cw2019_world(tmp_path / "C")), "--out", str(tmp_path / "cw2019"), "--compare",
            str(tmp_path / "n2010")])
    for run in ("n2010", "cw2019"):
        rows[run] = {}
        for row in read_csv(tmp_path / run / "distances.csv"):
            rows[run].setdefault(row["set"], {})[row["condition"]] = row["distance"]
    headline = {h["name"]: h for h in read_json(tmp_path / "cw2019" / "results.json")["headline"]}
    paper = {"drama": (.68, 1.30, 2.54, 1.63, .93, .91), "animation": (.70, 1.40, 2.19, 1.40, .90, .92),
             "nature": (.72, 1.22, 2.12, 1.18, .91, .89)}
    assert len(headline) == 6 * len(paper)
    for genre, (viewer, dino, supervised, saliency, r_dino, r_supervised) in paper.items():
        of, n2010 = rows["cw2019"][genre], rows["n2010"]["all"]
        assert len(of) == 2 * 24 + 2 + 5 and of.keys() - n2010.keys() == {f"{v:04d}er" for v in range(5)}

        def row(name: str, number: float, ours: float, n: int) -> None:
            assert headline[name]["paper"] == number and headline[name]["n"] == n
            assert headline[name]["ours"] == pytest.approx(ours)
        row(f"{genre}: viewer", viewer, np.median([d for c, d in of.items() if c.endswith("er")]), 5)
        row(f"{genre}: GBVS, all channels", saliency, of["GBVS"], 1)
        for kind, number, r in (("dino4", dino, r_dino), ("sl4", supervised, r_supervised)):
            heads = [c for c in of if c.startswith(kind)]
            row(f"{genre}: {kind}, 5 best heads", number, np.median(sorted(of[c] for c in heads)[:5]), 5)
            pairs = np.array([(n2010[c], of[c]) for c in heads])
            row(f"{kind}: heads' distances on N2010 and {genre}", r, np.corrcoef(pairs.T)[0, 1], 24)


def test_the_papers_models_are_those_of_real_data():
    assert E.parse("--data N2010".split()).models == ["dino_vits16", "deit_small_patch16_224"]
