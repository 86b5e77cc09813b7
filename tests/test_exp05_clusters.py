"""exp05_clusters: clusters, looks at parts and time courses come back where they are planted."""
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

import demo
import exp05_clusters as C
import exp05_data as D
import exp05_frames as X
import exp05_gaze_video as E
import exp05_looks as L
import exp05_scaling as S
from common import InputError, generator
from data import read_csv
from gaze_worlds import TINY, n2010_as_distributed, quick, small_world, write_masks
from results import evaluate, read_arrays, read_json, write_csv
from test_exp05_frames import animal_world

torch.set_num_threads(1)


# ------------------------------------------------------------------------------------------------ statistics

def test_cluster_indices_equal_scikit_learn():
    t = np.arange(24)
    x = np.stack([np.cos(2.1 * t) + 3 * (t % 3 == 0), np.sin(1.7 * t) + 3 * (t % 3 == 1), np.cos(.9 * t * t)],
                 1)
    votes = C.cluster_votes(squareform(pdist(x)), hierarchy.linkage(pdist(x), "ward"), range(2, 5))
    # silhouette_score, calinski_harabasz_score of scikit-learn 1.9.1
    assert votes["silhouette"] == pytest.approx([.6227657087, .6225493085, .5071693067])
    assert votes["Calinski-Harabasz"] == pytest.approx([49.1050784257, 83.9688903928, 65.4275110330])


def test_heads_are_joined_by_ward_and_numbered_from_the_nearest_median():
    t = np.arange(12)
    x = np.stack([2.2 * np.cos(2.6 * t) + t / 4, np.sin(3.3 * t) + (t > 8)], 1)
    D = squareform(pdist(x))
    link = hierarchy.linkage(pdist(x), "ward")
    raw, average = (hierarchy.fcluster(hierarchy.linkage(pdist(x), how), 3, "maxclust")
                    for how in ("ward", "average"))
    assert not np.array_equal(raw[:, None] == raw, average[:, None] == average)
    members = sorted((np.flatnonzero(raw == c) for c in (1, 2, 3)), key=lambda rows: (len(rows), rows[0]))
    distance = np.zeros(12)
    for rows, middle, near in zip(members, (50, 30, 40), (1, 20, 10)):  # G3, G1, G2; order of the least: 3, 1, 2
        distance[rows] = middle
        distance[rows[0]] = near
    assert min(map(len, members)) > 2
    found = C.cluster_heads(D, distance)
    for rows, label in zip(members, (3, 1, 2)):
        assert set(found["labels"][rows]) == {label}
    np.testing.assert_allclose(found["link"][:, 2], link[:, 2])
    heights = link[:, 2]
    assert found["votes"]["Ward heights"] == pytest.approx(
        [heights[-k + 1] / heights[-k] for k in range(2, 11)])
    assert found["votes_for"] == {name: 2 + int(np.argmax(v)) for name, v in found["votes"].items()}
    for k, found_mean in zip(range(2, 11), found["votes"]["silhouette"], strict=True):
        of, widths = hierarchy.fcluster(link, k, "maxclust"), []
        for i, mine in enumerate(of):
            own, others = (of == mine) & (np.arange(12) != i), set(of.tolist()) - {mine}
            near, far = D[i, own].mean() if own.any() else np.nan, min(D[i, of == c].mean() for c in others)
            widths.append((far - near) / max(far, near) if own.any() else 0)  # alone: 0 (Rousseeuw 1987)
        assert found_mean == pytest.approx(np.mean(widths))


def test_every_line_of_the_table_and_every_test_is_worked_out_for_hand_made_looks():
    rng = np.random.default_rng(8)
    kind = np.array(["viewer adult"] * 8 + ["viewer child"] * 6 + ["dino8"] * 13 + ["GBVS", "viewer other"])
    cluster = np.array([""] * 14 + ["G2"] * 6 + ["G1"] * 5 + ["G3"] * 2 + [""] * 2)
    shares = rng.uniform(0, 100, (29, 8))
    shares[1, :3], shares[20, 5] = np.nan, np.nan
    courses = rng.normal(size=(50, 5)) + np.sin(np.arange(50))[:, None] * [1, 2, .2, -1, .4]
    courses[4:9, 3] = courses[20, 0] = np.nan
    groups = ["G1", "adult", "G2", "child", "other"]
    table = dict(kind=kind, cluster=cluster, mean_shares=shares, courses=courses, course_groups=np.array(groups))
    tests = C.region_tests(table)
    rows = {row["name"]: row for row in evaluate(C.claims(groups), table, tests)}
    who = dict(adult=slice(0, 8), child=slice(8, 14), G1=slice(20, 25))
    column = dict(eyes=0, mouth=1, face=2, body=6, ground=7)

    def of(group: str, part: str) -> np.ndarray:
        values = shares[who[group], column[part]]
        return values[~np.isnan(values)]
    pairs = ("adult", "child"), ("adult", "G1"), ("child", "G1")
    assert [t["name"] for t in tests] == [f"{part}: {a} vs {b}" for part in column for a, b in pairs]
    lines = {f"{g}: looks at {part}": (np.median(of(g, part)), len(of(g, part)))
             for part in ("eyes", "mouth", "face") for g in who}
    for t, (part, (a, b)) in zip(tests, itertools.product(column, pairs)):
        x, y = of(a, part), of(b, part)
        p = stats.mannwhitneyu(x, y, method="exact").pvalue
        pooled = ((len(x) - 1) * x.var(ddof=1) + (len(y) - 1) * y.var(ddof=1)) / (len(x) + len(y) - 2)
        assert (t["p"], t["p_bonferroni"], t["d"], t["delta"]) == pytest.approx(
            (p, min(1, 3 * p), (x.mean() - y.mean()) / pooled ** .5, np.sign(x[:, None] - y).mean()))
        assert t["medians"] == pytest.approx([np.median(x), np.median(y)]) and t["n"] == [len(x), len(y)]
        if part in ("eyes", "mouth", "face"):
            lines[t["name"]] = min(1, 3 * p), len(x) + len(y)
    lines |= {f"{g}: share of late heads": (100 * n / 13, 13) for g, n in (("G1", 5), ("G2", 6), ("G3", 2))}
    for i, group in ((0, "G1"), (2, "G2"), (3, "child"), (4, "other")):
        both = np.isfinite(courses[:, [1, i]]).all(1)
        lines[f"left-right face course of {group} with adults"] = (
            stats.pearsonr(courses[both, 1], courses[both, i]).statistic, both.sum())
    late = np.delete(shares[14:27], 6, 0)  # of the seventh no look at animals is known
    lines["G1: looks at animals' faces"] = np.median(shares[21:25, 5]), 4
    lines["human and animal faces, over late heads"] = np.corrcoef(late[:, 2], late[:, 5])[0, 1], 12
    assert set(rows) == set(lines)
    for name, (ours, n) in lines.items():
        assert (rows[name]["ours"], rows[name]["n"]) == pytest.approx((ours, n)), name


def test_looks_of_a_scene_are_those_at_the_points_and_masks_of_every_samples_frame():
    rng = np.random.default_rng(4)
    points = rng.uniform(0, 60, (3, 4, 2))  # two faces of an eye and a mouth
    parts = {"eyes": np.array([1, 0, 1, 0], bool), "mouth": np.array([0, 1, 0, 1], bool)}
    sides = np.tile([1, 1, -1, -1], (3, 1))
    sides[1] = 0  # no two faces there
    frame, traces = np.array([0, 0, 1, 2, 2]), rng.uniform(0, 60, (3, 2, 2))
    gaze = rng.uniform(0, 60, (2, 5, 2))
    gaze[1, 3] = np.nan
    masks = {"body": rng.uniform(size=(3, 60, 70)) < .5, "ground": rng.uniform(size=(3, 60, 70)) < .5}
    w = D.Watched(None, np.arange(3), (60, 70), ["q", "p"], gaze, frame)
    scene = L.Scene("s", w, traces, points, parts, sides, masks)
    groups = {"G1": np.array([0, 1]), "adult": np.array([3, 4]), "child": np.array([2]), "other": np.array([3])}
    shares, courses = C.measure(scene, ["a", "b", "absent", "p", "q"], groups)
    looks = {0: traces[frame, 0], 1: traces[frame, 1], 3: gaze[1], 4: gaze[0]}  # row: (5, 2)
    weights = {row: np.exp(-np.square(xy[:, None] - points[frame]).sum(-1) / 1800) for row, xy in looks.items()}
    weights = {row: w / np.maximum(w.sum(1, keepdims=True), 1) for row, w in weights.items()}  # (5, 4) each
    for row, xy in looks.items():
        of = np.nanmean(weights[row], 0)
        wanted = [100 * (of[0] + of[2]), 100 * (of[1] + of[3])] + [np.nan] * 4
        seen = np.isfinite(xy[:, 0])
        x, y = np.floor(xy[seen]).astype(int).T
        wanted += [100 * masks[part][frame[seen], y, x].mean() for part in ("body", "ground")]
        np.testing.assert_allclose(shares[row], wanted)
    assert np.isnan(shares[2]).all()
    left = {row: np.where(frame == 1, np.nan, w @ [1, 1, -1, -1]) for row, w in weights.items()}
    adult = (left[3] + left[4]) / 2
    adult[3] = left[4][3]
    np.testing.assert_allclose(courses.T, [(left[0] + left[1]) / 2, adult, np.full(5, np.nan), left[3]])


def test_pictures_show_the_mean_attention_of_each_clusters_late_heads(monkeypatch):
    rng, maps = np.random.default_rng(6), {}

    class Fake(E.Model):
        def late(self) -> tuple[int, ...]:
            return (1, 2) if self.kind == "dino4" else ()
    models = [Fake("dino4", f"dino4.{i}", None, None, None) for i in (0, 1)] + [Fake("sl4", "sl4.0", *[None] * 3)]

    def attend(x, model, scale, dtype):  # of four blocks of two heads
        maps[model.name] = torch.from_numpy(rng.uniform(size=(len(x), 4, 2, 3, 3)))
        return maps[model.name]
    monkeypatch.setattr(C, "attend", attend)
    monkeypatch.setattr(C, "gbvs", lambda rgb: rgb.mean((1, 2, 3), keepdim=True)[:, 0])
    member = np.array([1, 0, 0, 2, 2, 1, 0, 0])  # cluster of the late heads
    found = C.pop_out(models, None, "float32", [member == k for k in (0, 1, 2)], torch.device("cpu"))
    late = np.concatenate([maps[f"dino4.{i}"][:, 1:3].flatten(1, 2).numpy() for i in (0, 1)], 1)  # (n, 8, 3, 3)
    names = [*demo.popout_displays()]
    assert {name.split("/")[1] for name in found} == set(names)
    for i, name in enumerate(names):
        for k, group in enumerate(C.GROUPS):
            np.testing.assert_allclose(found[f"display/{name}/{group}"], late[i, member == k].mean(0), rtol=1e-5)
        assert float(found[f"display/{name}/GBVS"]) == pytest.approx(found[f"display/{name}"].mean() / 255, rel=1e-4)
    heads = rng.uniform(size=(2, 5, 3, 3)).astype(np.float32)
    arrays = dict(example_clip=["one", "two"], example_frame=[4, 7], maps0=heads[0], maps1=heads[1],
                  picture0=np.zeros(1), picture1=np.ones(1))
    found = C.example_maps(arrays, {"G1": np.array([1, 4]), "G2": np.array([0])})
    for i, name in enumerate(("frame/one, frame 4", "frame/two, frame 7")):
        assert found[name] == i
        np.testing.assert_allclose(found[f"{name}/G1"], (heads[i, 1] + heads[i, 4]) / 2)
        np.testing.assert_allclose(found[f"{name}/G2"], heads[i, 0])


# ------------------------------------------------------------------------------------------------ recovery

@pytest.fixture(scope="module")
def study() -> D.Study:
    return D.load_study("demo")


def planted_maps(study: D.Study, copies: int = 5) -> list[torch.Tensor]:
    """Per clip (T, 3 copies, h, w): heads that attend to faces, bodies and the ground, each with its own
    noise."""
    out = []
    for number, clip in enumerate(study.clips):
        with np.load(clip.masks) as m:
            masks = torch.from_numpy(np.stack([m[k] for k in ("face", "body", "ground")],
                                              1)).float()  # (T, 3, .., ..)
        rows, cols = (X.area_matrix(n, n // 16) for n in masks.shape[-2:])
        maps = F.normalize((rows @ masks @ cols.T).flatten(2), dim=-1).unflatten(-1, (15, 20))
        noise = torch.rand(len(maps), 3 * copies, 15, 20, generator=generator(5, number))
        out.append(maps.repeat_interleave(copies, 1) + .02 * noise)
    return out


def test_planted_face_heads_are_nearest_ground_heads_farthest_and_three_roles_make_three_clusters(study):
    maps = planted_maps(study)
    watched = [D.watch(clip, None, []) for clip in study.clips]
    traces = [E.head_gaze(m, 16).numpy().astype(float) for m in maps]  # (T, 15, 2) each
    viewers = sorted(study.groups)
    by_clip = [S.distances(w, trace, viewers) for w, trace in zip(watched, traces)]
    sets = S.distance_sets(watched, traces, by_clip, viewers, pool=True)
    found = {name: S.scaled(d) for name, (_, d) in sets.items()}
    assert list(found) == ["all", "animation", "drama", "nature"] and found["all"]["dim"] == 12
    role = np.repeat([1, 2, 3], 5)
    for one in found.values():
        face, body, ground = (np.sort(one["distance"][:15][role == k]) for k in (1, 2, 3))
        assert face[-1] < body[0] and body[-1] < ground[0]
    unit = F.normalize(torch.cat(maps).flatten(2), dim=-1)  # (frames, 15, h w)
    apart = (1 - unit @ unit.mT).clamp(min=0).double().mean(0).numpy()
    clusters = C.cluster_heads(apart, found["all"]["distance"][:15])
    assert clusters["labels"].tolist() == role.tolist()  # G1 faces, G2 bodies, G3 ground
    votes = clusters["votes_for"]
    assert [votes[k] for k in ("silhouette", "Calinski-Harabasz", "Ward heights")] == [3, 3, 3]


def viewers_eyes(study: D.Study, planted: bool) -> dict:
    """Looks at eyes of new simulated viewers, means over three clips: adults against children."""
    shares = np.zeros((24, 3))
    for c, clip in enumerate(study.clips[:3]):
        points = [(int(r["frame"]), r["part"], r["y_px"], r["x_px"]) for r in read_csv(clip.points)]
        xy, parts = L.key_points(clip.points, demo.FRAMES)
        for v in range(24):
            samples = demo.viewer_gaze(points, "adult" if v < 14 else "child",
                                       np.random.default_rng([77, c, v]), planted)
            record = np.array([[float(x) if x else np.nan for x in s] for s in samples])
            gaze, frame = D.align({"v": record}, np.arange(demo.FRAMES) / demo.FPS, clip)
            shares[v, c] = L.part_shares(gaze[0], xy[frame], parts)["eyes"]
    return S.compare("eyes", shares[:14].mean(1), shares[14:].mean(1))


def test_planted_preference_of_adults_for_eyes_is_found_and_not_where_absent(study):
    with_it, without = viewers_eyes(study, True), viewers_eyes(study, False)
    assert with_it["p"] < 1e-3 and with_it["medians"][0] > 1.3 * with_it["medians"][1]
    assert without["p"] > .05


# ------------------------------------------------------------------------------------------------ runs

@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of exp05_gaze_video on the demo, and its clusters."""
    out = tmp_path_factory.mktemp("run") / "o"
    with pytest.MonkeyPatch.context() as monkeypatch:
        quick(monkeypatch)
        E.main([*TINY, "--out", str(out)])
        C.main(["--run", str(out), "--device", "cpu"])
    return out


def test_a_run_has_claims_tests_and_tables(run):
    results = read_json(run / "clusters" / "results.json")
    names = [h["name"] for h in results["headline"]]
    assert names[0] == "adult: looks at eyes" and names[-1] == "human and animal faces, over late heads"
    assert {"G1: looks at eyes", "G3: share of late heads", "left-right face course of child with adults"} < set(
        names)
    assert sum(h["ours"] for h in results["headline"] if "share of late" in h["name"]) == pytest.approx(100)
    assert [t["name"] for t in results["tests"]][:2] == ["eyes: adult vs child", "eyes: adult vs G1"]
    assert results["not_run"] == [] and set(results["clusters"]) == {"votes", "votes_for"}
    rows = read_csv(run / "clusters" / "per_image.csv")
    assert {r["cluster"] for r in rows} == {"", "G1", "G2", "G3"} and len({r["image"] for r in rows}) == 3
    assert sum(r["kind"] in ("dino4", "sl4") for r in rows) == 3 * 48
    adults = [r["eyes"] for r in rows if r["kind"] == "viewer adult" and r["image"] == "clip01"]
    assert 10 < len(adults) <= 14 and all(0 <= share <= 100 for share in adults)


def test_figures_are_drawn_again_from_the_files(run, capsys):
    names = {f"fig_{k}.{end}" for k in ("clusters", "regions", "popout", "frames") for end in ("png", "pdf")}
    assert {p.name for p in (run / "clusters").glob("fig_*")} == names
    before = (run / "clusters" / "fig_clusters.png").read_bytes()
    (run / "clusters" / "fig_clusters.png").unlink()
    C.main(["--run", str(run), "--plot-only"])
    assert (run / "clusters" / "fig_clusters.png").read_bytes() == before
    assert "demo world" in capsys.readouterr().out


def test_a_run_that_was_cut_off_is_made_anew_and_a_whole_one_stays_after_a_typo(run, tmp_path, monkeypatch):
    quick(monkeypatch)
    monkeypatch.setattr(C, "draw", lambda arrays, results, folder: None)
    out = ["--run", str(run), "--out", str(tmp_path / "c")]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        def interrupt(*of):
            raise KeyboardInterrupt
        patch.setattr(C, "measure", interrupt)
        C.main(out)
    assert (tmp_path / "c" / "unfinished").exists()
    cluster_heads, given = C.cluster_heads, []
    monkeypatch.setattr(C, "cluster_heads", lambda D, distance: given.append(distance) or cluster_heads(D, distance))
    C.main(out)
    arrays = read_arrays(run / "arrays.npz")
    assert len(arrays["distance"]) > 1 and arrays["sets"][0] == "all"  # and genres
    np.testing.assert_array_equal(given[0], arrays["distance"][0][arrays["late"]])
    assert (tmp_path / "c" / "per_image.csv").read_bytes() == (run / "clusters" / "per_image.csv").read_bytes()
    for more in (["--data", "typo"], ["--limit", "3"], ["--weights", "x"], ["--run", str(tmp_path)], ["--fovea"]):
        with pytest.raises((InputError, SystemExit)):
            C.main([*out, *more])
    assert (tmp_path / "c" / "results.json").exists() and not (tmp_path / "c" / "unfinished").exists()


def plain_run(root: Path, out: Path, monkeypatch, model: str = "demo_sl4", *more: str) -> list[str]:
    """exp05_gaze_video and exp05_clusters on a small data set, without figures: what was not run."""
    quick(monkeypatch)
    monkeypatch.setattr(C, "draw", lambda arrays, results, folder: None)
    E.main(["--models", model, "--data", str(root), "--device", "cpu", "--out", str(out), *more])
    C.main(["--run", str(out), "--device", "cpu"])
    return read_json(out / "clusters" / "results.json")["not_run"]


def test_parts_without_data_are_named(tmp_path, monkeypatch):
    left_out = plain_run(small_world(tmp_path / "w"), tmp_path / "o", monkeypatch, "demo_sl4", "--limit", "2")
    assert [text.partition(":")[0] for text in left_out] == [
        "looks at eyes, mouth and face", "looks at animals' faces", "looks at body and ground",
        "course of left less right face", "clusters and pop-out displays"]
    assert read_json(tmp_path / "o" / "clusters" / "results.json")["headline"] == []


def test_n2010_as_distributed_gives_the_papers_regions_and_course(tmp_path, monkeypatch):
    root = n2010_as_distributed(tmp_path / "N")
    left_out = plain_run(root, tmp_path / "o", monkeypatch, "demo_dino4", "--batch-size", "64")
    names = [text.partition(":")[0] for text in left_out]
    assert names == ["looks at animals' faces", "looks at body and ground"]
    rows = {row["name"]: row for row in read_json(tmp_path / "o" / "clusters" / "results.json")["headline"]}
    eyes = 100 * (np.exp(-35**2 / 1800) + np.exp(-38.56**2 / 1800))  # of scene 3: 94.4
    face = (eyes + 100 * np.exp(-80**2 / 1800) + 100) / 2  # the mean of scenes 3 and 7
    for who, share in (("adult", 1), ("child", .5)):
        assert rows[f"{who}: looks at eyes"]["ours"] == pytest.approx(share * eyes, abs=.3)
        assert rows[f"{who}: looks at mouth"]["ours"] == pytest.approx(100 * share)
        assert rows[f"{who}: looks at face"]["ours"] == pytest.approx(share * face, abs=.3)
    assert rows["eyes: adult vs child"]["ours"] == pytest.approx(3 * 2 / 70)  # exact: 4 above 4 of 8, times 3
    assert rows["left-right face course of child with adults"]["ours"] == pytest.approx(1, abs=1e-3)
    assert rows["left-right face course of adult ASD with adults"]["ours"] == pytest.approx(-1, abs=1e-3)
    assert rows["left-right face course of child with adults"]["n"] == 187  # samples of scene 4
    images = {row["image"] for row in read_csv(tmp_path / "o" / "clusters" / "per_image.csv")}
    assert images == {"eyeclip1, scene 3", "eyeclip1, scene 7"}
    (root / "video_stimuli" / "eyeclip_annotation.txt").unlink()
    C.main(["--run", str(tmp_path / "o"), "--out", str(tmp_path / "c"), "--device", "cpu"])
    left_out = read_json(tmp_path / "c" / "results.json")["not_run"]
    assert "eyeclip_annotation.txt: " in left_out[0] and "looks at eyes, mouth and face" in left_out[1]


@pytest.mark.parametrize("shape", [(1, 64, 96), (12, 48, 96)])
def test_masks_of_another_size_than_the_clip_are_named_before_anything_is_written(tmp_path, monkeypatch, shape):
    root = small_world(tmp_path / "w")
    write_masks(root, *shape)
    with pytest.raises(InputError, match=re.escape(f"body has shape {(min(shape[0], 2), *shape[1:])}")):
        plain_run(root, tmp_path / "o", monkeypatch, "demo_sl4", "--limit", "2")
    assert not (tmp_path / "o" / "clusters").exists()


def test_key_points_without_their_columns_are_named(tmp_path, monkeypatch):
    root = small_world(tmp_path / "w")
    write_csv([dict(frame=0, what="eyes")], root / "keypoints" / "one.csv")
    with pytest.raises(InputError, match="no column part in the header"):
        plain_run(root, tmp_path / "o", monkeypatch)


def test_commands_of_the_card_parse(run, monkeypatch):
    commands = re.findall(r"python exp05_clusters\.py([^(;\n]*)", C.__doc__)
    assert len(commands) == 2
    for command in commands:
        given = command.replace("FOLDER", str(run)).split()
        args, results, arrays = C.parse(given or ["--run", str(run)])
        assert args.out == run / "clusters" and args.data == "demo"


def test_every_claim_of_the_paper_has_a_row(run):
    """Claims of the paper's text on clusters and regions: names of their rows, or what the demo lacks."""
    said = {
        "the late heads form groups of 16.7, 63.9 and 19.4 %": {
            "G1: share of late heads": 16.7, "G2: share of late heads": 63.9,
            "G3: share of late heads": 19.4},
        "looks at eyes": {"adult: looks at eyes": 43.1, "child: looks at eyes": 26.4,
                          "G1: looks at eyes": 42.4},
        "looks at mouths": {"adult: looks at mouth": 12.4, "child: looks at mouth": 19.2,
                            "G1: looks at mouth": 31.9},
        "looks at faces": {"adult: looks at face": 65.7, "child: looks at face": 66.2,
                           "G1: looks at face": 92.},
        "adults look at eyes as G1 does, more than children": {
            "eyes: adult vs child": .0025, "eyes: adult vs G1": 1., "eyes: child vs G1": .0059},
        "G1 looks at mouths more than both": {
            "mouth: adult vs child": .0036, "mouth: adult vs G1": 5.2e-14, "mouth: child vs G1": 1.4e-5},
        "G1 looks at faces more than both, who do not differ": {
            "face: adult vs child": .90, "face: adult vs G1": 1.7e-9, "face: child vs G1": 4.3e-12},
        "the course between two faces is alike in all groups, less so in G1": {
            "left-right face course of child with adults": .832,
            "left-right face course of G1 with adults": .425,
            "left-right face course of adult ASD with adults": "N2010: the demo has no autistic viewers",
            "left-right face course of child ASD with adults": "N2010: the demo has no autistic viewers"},
        "G1 looks at animals' faces": {"G1: looks at animals' faces": 85.2},
        "who looks at human faces looks at animals'": {"human and animal faces, over late heads": .749}}
    rows = {row["name"]: row["paper"] for row in read_json(run / "clusters" / "results.json")["headline"]}
    groups = ["G1", "adult", "child", "adult ASD", "child ASD"]
    names = {claim.name: claim.paper for claim in C.claims(groups)}
    for claim, expected in said.items():
        for name, paper in expected.items():
            assert name in names, claim
            if not isinstance(paper, str):
                assert rows[name] == names[name] == paper, claim


def test_animal_parts_beside_the_clips_give_the_share_of_looks_at_animals_faces(tmp_path, monkeypatch):
    root = small_world(tmp_path / "w")
    animal_world(root / "animal_parts")
    write_csv([dict(frame=t, part=part, x_px=x, y_px=30) for t in range(12)
               for part, x in (("eyes", 30), ("eyes", 50), ("mouth", 40))], root / "keypoints" / "one.csv")
    left_out = plain_run(root, tmp_path / "o", monkeypatch, "demo_dino4")
    assert not any("animals" in text or "eyes" in text for text in left_out)
    rows = {row["name"]: row for row in read_json(tmp_path / "o" / "clusters" / "results.json")["headline"]}
    assert 0 <= rows["G1: looks at animals' faces"]["ours"] <= 100
    r = rows["human and animal faces, over late heads"]
    assert -1 <= r["ours"] <= 1 and r["n"] == 12
    run, found = read_arrays(tmp_path / "o" / "arrays.npz"), read_arrays(tmp_path / "o" / "clusters" / "arrays.npz")
    assert run["gaze/animal_parts"].shape[0] == 2
    # by hand for the first late head: two eyes and a mouth share one unit, mean over the two pictures
    row, at = int(np.flatnonzero(run["late"])[0]), run["gaze/animal_parts"]
    wanted = []
    for t, points in enumerate(([[640 / 3, 51.2], [128, 200]], [[64, 224], [128, 294.4], [100, 100]])):
        w = np.exp(-np.square(np.array(points) - at[t, row]).sum(1) / 1800)
        wanted.append(100 * w.sum() / max(w.sum(), 1))
    share = found["mean_shares"][row, L.PARTS.index("animal_face")]
    assert share == pytest.approx(np.mean(wanted), rel=1e-5)
    alone = plain_apart(small_world(tmp_path / "v"), tmp_path / "p")
    np.testing.assert_array_equal(run["apart"], alone)  # still pictures count in no cluster


def plain_apart(root: Path, out: Path) -> np.ndarray:
    E.main(["--models", "demo_dino4", "--data", str(root), "--device", "cpu", "--out", str(out)])
    return read_arrays(out / "arrays.npz")["apart"]
