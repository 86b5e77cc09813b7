"""exp06: the sweep equals a plain loop, a planted head and blur come back, what is absent is not found."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from scipy import ndimage

import demo
import exp06_gaze_objects as E
from common import InputError, ROOT, cls_attention
from data import read_csv, read_image
from processes import in_group

torch.set_num_threads(1)
SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
MODEL = "--model demo_dino12 --size 224 224".split()
FAST = "--workers 0 --device cpu --sigmas .5 2.5 .5".split()


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> Path:
    return demo.demo_world(tmp_path_factory.mktemp("world"), parts=("objects",)) / "objects"


@pytest.fixture(scope="module")
def attention(objects):
    """Last block's maps of the demo's DINO model, (20 objects, 6 heads, 14, 14)."""
    model, preprocess, *_ = E.load_model("demo_dino12", None, E.DEMO_SIZE)
    x = torch.stack([preprocess(read_image(path)) for path, _ in E.load_data(objects, None)])
    with torch.no_grad():
        return cls_attention(model, x, [11])[:, 0]


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(E, "draw", lambda *a: None)


def small_copy(objects: Path, folder: Path, n=3, people=2) -> Path:
    """The first n objects and participants."""
    (folder / "images").mkdir(parents=True)
    names = sorted(p.name for p in (objects / "images").iterdir())[:n]
    for name in names:
        (folder / "images" / name).write_bytes((objects / "images" / name).read_bytes())
    header, *lines = (objects / "fixations.csv").read_text().splitlines()
    keep = [line for line in lines if line.split(",")[1] in names and int(line[1:3]) <= people]
    (folder / "fixations.csv").write_text("\n".join([header, *keep]) + "\n")
    return folder


# ------------------------------------------------------------------------------------------------ the sweep

@pytest.mark.parametrize("blur", ["fixations", "attention"])
def test_sweep_equals_a_plain_loop(blur):
    attn, fix = noise(3, 2, 5, 7), (noise(4, 3, 5, 7, seed=1) > .8) * noise(4, 3, 5, 7, seed=2)
    sigmas = .3, 1.7
    found = {k: E.kl_sweep(attn, fix, sigmas, m, blur).numpy() for k, m in E.METRICS.items()}
    assert torch.equal(E.kl_sweep(attn, fix, sigmas, blur=blur), torch.from_numpy(found["kl"]))
    for p in range(4):
        for o in range(3):
            for h in range(2):
                for s, sigma in enumerate(sigmas):
                    a, q = attn[o, h].numpy(), fix[p, o].numpy()
                    smooth = [ndimage.gaussian_filter(m, sigma, mode="constant") for m in (a, q)]
                    a, q = (smooth[0], q) if blur == "attention" else (a, smooth[1])
                    a, q = a / a.sum(), q / q.sum()
                    kl = sum(y * np.log(1e-10 + y / (x + 1e-10)) for x, y in zip(a.flat, q.flat))
                    assert found["kl"][p, o, h, s] == pytest.approx(kl, rel=1e-9)
                    assert found["cc"][p, o, h, s] == pytest.approx(np.corrcoef(a.flat, q.flat)[0, 1])
                    assert found["sim"][p, o, h, s] == pytest.approx(np.minimum(a, q).sum())


def loop_ssim(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """SSIM at every pixel of maps in [0, 1], Gaussian windows of 11 x 11 cut off at the border."""
    taps = np.exp(-.5 * (np.arange(-5, 6) / 1.5) ** 2)
    found = np.empty(p.shape)
    for i, j in np.ndindex(p.shape):
        rows = np.arange(max(0, i - 5), min(p.shape[0], i + 6))
        cols = np.arange(max(0, j - 5), min(p.shape[1], j + 6))
        w = np.outer(taps[rows - i + 5], taps[cols - j + 5])
        x, y, w = p[np.ix_(rows, cols)], q[np.ix_(rows, cols)], w / w.sum()
        mx, my = (w * x).sum(), (w * y).sum()
        vx, vy, cov = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum(), (w * (x - mx) * (y - my)).sum()
        found[i, j] = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    return found


def test_ssim_equals_a_plain_loop_that_equals_scikit_image_where_windows_are_whole():
    i = np.arange(18 * 23).reshape(18, 23)
    # scikit-image 0.26: structural_similarity(p, q, data_range=1, gaussian_weights=True, sigma=1.5,
    # use_sample_covariance=False) of the min-max scaled maps
    for (a, b), (c, d), stored in (((.7, .31), (.53, .11), .04512956798006783),
                                   ((.05, .02), (.06, .03), -.17798289262574946)):
        p, q = np.sin(a * i) ** 2 * np.cos(b * i) ** 2, np.abs(np.sin(c * i + 1) * np.cos(d * i))
        local = loop_ssim(*((m - m.min()) / np.ptp(m) for m in (p, q)))
        assert local[5:-5, 5:-5].mean() == pytest.approx(stored, rel=1e-9)
        assert float(E.ssim(torch.from_numpy(p), torch.from_numpy(3 * q + 1))) == pytest.approx(local.mean())


def test_ssim_is_one_for_equal_maps_of_any_size_and_nan_without_fixations():
    for size in ((14, 14), (3, 5)):
        p = noise(2, *size)
        torch.testing.assert_close(E.ssim(p, 7 * p), torch.ones(2, dtype=torch.float64))
        assert E.ssim(p, torch.zeros_like(p)).isnan().all()


def test_who_did_not_look_is_nan_for_every_head_and_leaves_the_others_alone():
    attn, fix = noise(3, 2, 4, 4), noise(2, 3, 4, 4, seed=1)
    whole = E.kl_sweep(attn, fix, [1.])
    fix[1, 2] = 0
    part = E.kl_sweep(attn, fix, [1.])
    assert part[1, 2].isnan().all() and int(part.isnan().sum()) == 2
    assert torch.equal(part[0], whole[0]) and torch.equal(part[1, :2], whole[1, :2])


# ------------------------------------------------------------------------------------------------ data

def test_fixations_fall_into_their_patch_with_their_duration():
    gaze = [("a", 0, 0, .1), ("a", 299, 399, .2), ("a", 150, 200, .4),
            ("c", 300, 5, 1), ("c", -1, 5, 1), ("c", np.nan, 5, 1)]
    maps, dropped = E.fixation_maps(gaze, ["a", "b", "c"], (300, 400), (6, 8))
    assert [float(v) for v in (maps[0, 0, 0], maps[0, 5, 7], maps[0, 3, 4])] == pytest.approx([.1, .2, .4])
    assert not maps[1:].any() and dropped == 3  # never there; outside or NaN


def test_csv_keeps_participants_as_text_and_fills_empty_fields(tmp_path):
    file = tmp_path / "fixations.csv"
    file.write_text("\ufeffparticipant,image,x_px,y_px,duration_s\n"
                    "01,a.png,3,4,\n01,a.png,,4,.2\n1,a.png,5,6,.3\n")
    gaze = E.load_fixations(file)["a.png"]
    assert gaze[0] == ("01", 4, 3, 1) and gaze[2] == ("1", 6, 5, .3)
    assert gaze[1][:2] == ("01", 4) and np.isnan(gaze[1][2]) and gaze[1][3] == .2


def test_osie_layout_is_read(tmp_path):
    subjects = np.array([{"fix_x": [400.6, 8.], "fix_y": [300.4, 9.], "fix_duration": [250., 100.]}] * 2)
    image = {"img": "1001.jpg", "subjects": subjects}
    scipy.io.savemat(tmp_path / "fixations.mat", {"fixations": np.array([image, image])})
    (path, gaze), _ = E.load_data(tmp_path, None)
    assert path == tmp_path / "stimuli" / "1001.jpg" and [f[0] for f in gaze] == ["s01", "s01", "s02", "s02"]
    maps, _ = E.fixation_maps(gaze, ["s01", "s02"], (600, 800), (600, 800))
    assert maps[0, 299, 400] == .25 and maps[0, 8, 7] == pytest.approx(.1)  # the authors' round(v), from 0


def test_object_before_a_plain_background_is_found(objects):
    for index, (path, _) in enumerate(E.load_data(objects, None)):
        truth = demo.still_object(demo.SEED_OF["objects"], index).objects[0]["mask"] > 0
        found = E.object_mask(np.asarray(read_image(path)))
        truth = ndimage.binary_fill_holes(truth)
        assert (found & truth).sum() / (found | truth).sum() > .9, path.name


def test_object_is_unknown_without_a_plain_background_unless_there_is_a_mask(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    assert E.object_mask(image) is None
    assert E.object_mask(np.full((40, 60, 3), 200, np.uint8)) is None  # nothing on it
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "a.png")
    items = [(tmp_path / "images" / "a.png", [])]
    assert E.looked_at(0, items, ["p"], (4, 6))["coverage"].isnan().all()
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 30:45] = 255
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    expected = torch.zeros(4, 6)
    expected[1, 3:5] = torch.tensor([1, .5])
    assert torch.equal(E.looked_at(0, items, ["p"], (4, 6))["coverage"], expected)


# ------------------------------------------------------------------------------------------------ statistics

def test_best_sigma_is_the_vertex_of_a_parabola_and_stops_at_the_ends():
    sigmas = np.arange(1, 31) / 10
    curves = np.stack([(sigmas - v) ** 2 + 1 for v in (1.234, 2.4, -3., 9.)])
    np.testing.assert_allclose(E.best_sigma(curves, sigmas), [1.234, 2.4, .1, 3.], atol=1e-9)
    assert E.best_sigma(np.ones((2, 30)), sigmas).tolist() == [.1, .1]


def test_bootstrap_has_the_variance_of_crossed_participants_and_objects():
    rng = np.random.default_rng(0)
    people, objects = rng.normal(0, 1, (20, 1, 1)), rng.normal(0, 2, (1, 30, 1))
    draws = E.crossed_bootstrap(people + objects, 4000)
    expected = people.var() / 20 + objects.var() / 30
    assert draws.var() == pytest.approx(expected, rel=.1)
    assert draws.mean() == pytest.approx((people + objects).mean(), abs=4 * np.sqrt(expected / 4000))
    assert np.array_equal(draws, E.crossed_bootstrap(people + objects, 4000))


def test_bootstrap_leaves_out_pairs_that_were_not_seen():
    values = np.full((3, 4, 2), 5.)
    values[1, 2] = np.nan
    np.testing.assert_allclose(E.crossed_bootstrap(values, 200), 5)


def test_anova_and_tukey_equal_pingouin_and_statsmodels():
    values = np.sin(1.7 * np.arange(120).reshape(5, 6, 4)) + [0, .2, .5, 1.1]
    found, *pairs = E.anova(values, "abcd")  # pingouin 0.7.0: anova(detailed)
    assert (found["df1"], found["df2"]) == (3, 116)
    assert found["F"] == pytest.approx(11.594881, rel=1e-6)
    assert found["eta2"] == pytest.approx(.230691, abs=1e-6)
    # statsmodels 0.15.0 pairwise_tukeyhsd
    p = [9.35541983e-01, 5.30219680e-01, 2.86305657e-06, 8.69228028e-01, 3.51528660e-05, 6.91326869e-04]
    np.testing.assert_allclose([pair["p"] for pair in pairs], p, rtol=1e-5)
    assert [pair["head_a"] + pair["head_b"] for pair in pairs] == ["ab", "ac", "ad", "bc", "bd", "cd"]
    means = values.mean((0, 1))
    for pair in pairs:
        assert pair["difference"] == pytest.approx(means["abcd".index(pair["head_a"])]
                                                   - means["abcd".index(pair["head_b"])])
        assert pair["ci"][0] < pair["difference"] < pair["ci"][1]
        assert (pair["ci"][0] > 0 or pair["ci"][1] < 0) == (pair["p"] < .05)


def test_lift_is_the_share_on_the_object_minus_its_area():
    coverage = np.zeros((2, 4, 5))
    coverage[:, 1:3, 1:4] = 1  # 6 of 20 patches
    attn = np.stack([np.ones((2, 4, 5)), coverage, coverage + 1], 1)  # uniform; all on it; 12 of 26
    data = dict(coverage=coverage, attn=attn, fix=np.stack([coverage] * 3, 1))
    lift, found = E.lift_of(data, ["flat", "on", "more"])
    lifts = [found[h]["ours"] for h in ("flat", "on", "more", "people")]
    np.testing.assert_allclose(lifts, [0, 70, 100 * (12 / 26 - .3), 70], atol=1e-12)
    assert found["people"]["n"] == 2 and lift.shape == (2, 4)
    assert E.lift_of(data | dict(coverage=np.full((2, 4, 5), np.nan)), ["flat", "on", "more"])[1] == {}


# ------------------------------------------------------------------------------------------------ recovery

def simulate(attn, head: int, sigma: float, n: int, blur: str, people: int):
    """(attn (O, H, h, w), fix_maps (P, O, h, w)) with a known answer: n fixations a person follow a head. The
    side that the sweep is going to blur stays sharp, the other is blurred here: `sigma` makes both agree."""
    sharp = attn.double()
    blurred = torch.from_numpy(ndimage.gaussian_filter(sharp.numpy(), (0, 0, sigma, sigma), mode="constant"))
    seen_by_people, seen_by_model = (sharp, blurred) if blur == "fixations" else (blurred, sharp)
    density = seen_by_people[:, head].flatten(1).numpy()  # (O, h w)
    fix = np.stack([np.random.default_rng((0, o)).multinomial(n, d / d.sum(), people)
                    for o, d in enumerate(density)], 1)  # (P, O, h w)
    return seen_by_model.to(attn), torch.from_numpy(fix).view(people, *attn[:, 0].shape).to(attn)


def planted(attention, head, sigma, n, blur, people=10, sigmas=np.arange(1, 31) / 10):
    """{metric: (best head, best sigma)} for simulated people."""
    attn, fix = simulate(attention, head, sigma, n, blur, people)
    values = {k: E.SIGN[k] * E.kl_sweep(attn, fix.to(attn), sigmas, m, blur).numpy()
              for k, m in E.METRICS.items() if k in ("kl", "cc")}
    best = {}
    for name, v in values.items():
        curves = v.mean((0, 1))  # (H, S)
        found = int(curves.min(1).argmin())
        best[name] = found, float(E.best_sigma(curves[found], sigmas))
    return best


@pytest.mark.parametrize("head, sigma", [(0, 1.5), (3, 1.), (5, 2.3)])
def test_planted_head_is_ranked_first_and_planted_blur_comes_back_within_a_step(attention, head, sigma):
    for name, (found, width) in planted(attention, head, sigma, 1000, "fixations").items():
        assert found == head and abs(width - sigma) <= .1, name


@pytest.mark.parametrize("head, sigma", [(0, 1.5), (3, 1.), (5, 2.3)])
def test_blurring_attention_recovers_head_and_blur_from_a_dozen_fixations(attention, head, sigma):
    found, width = planted(attention, head, sigma, 12, "attention", people=30)["kl"]
    assert found == head and abs(width - sigma) <= .1


def test_few_fixations_push_the_best_blur_of_heat_maps_up(attention):
    widths = [planted(attention, 3, 1., n, "fixations")["kl"][1] for n in (12, 50, 1000)]
    assert widths[0] > 1.5 > widths[1] > widths[2] and widths[2] < 1.1


def test_heads_that_do_not_differ_are_not_told_apart():
    rng, significant = np.random.default_rng(0), 0
    for _ in range(8):
        pairs = E.anova(rng.normal(size=(6, 5, 4)), "abcd")[1:]
        significant += min(pair["p"] for pair in pairs) < .05
    assert significant <= 2  # of 8; .4 expected


def test_participants_without_preference_agree_with_no_head_or_object(objects, attention, tmp_path):
    data = {}
    for name in ("planted", "null"):
        if name == "null":
            objects = demo.demo_world(tmp_path, parts=("objects",), planted=False) / "objects"
        items = E.load_data(objects, None)
        people = sorted({person for person, *_ in items[0][1]})
        fix = torch.stack([E.fixation_maps(g, people, demo.OBJECT_SIZE, (14, 14))[0]
                           for _, g in items], 1)  # (P, O, 14, 14)
        coverage = torch.stack([torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(
            E.object_mask(np.asarray(read_image(path))))[None].double(), (14, 14))[0] for path, _ in items])
        arrays = dict(coverage=coverage.numpy(), attn=attention.double().numpy(),
                      fix=fix.transpose(0, 1).numpy())
        cc = E.kl_sweep(attention, fix.to(attention), [1.], E.METRICS["cc"]).mean((0, 1))[:, 0]
        data[name] = float(cc.max()), E.lift_of(arrays, [f"h{i}" for i in range(6)])[1]["people"]
    assert data["planted"][0] > .25 and data["null"][0] < .03
    assert data["planted"][1]["ours"] > 50 and data["planted"][1]["p"] < 1e-10
    assert data["null"][1]["ci"][0] < 0 < data["null"][1]["ci"][1] and abs(data["null"][1]["ours"]) < 2


# ------------------------------------------------------------------------------------------------ whole runs

def run(data: Path, out: Path, *more: str) -> dict:
    E.main([*MODEL, *FAST, "--data", str(data), "--out", str(out), *more])
    return json.loads((out / "results.json").read_text())


def card_commands() -> list[list[str]]:
    return [line.split() for line in re.findall(r"exp06_gaze_objects\.py(.*)$", E.__doc__, re.MULTILINE)]


def test_commands_of_the_card_parse():
    parsed = [E.parse(argv) for argv in card_commands()]
    assert [a.model for a in parsed] == ["demo_dino12"] + ["dino_vitb16"] * 2 + ["auto"]
    assert [*parsed[0].size] == [224, 224] and [*parsed[1].size] == [480, 480]
    assert parsed[3].layer == [8, 11] and parsed[3].weights == Path("FILE")


def test_the_demo_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "demo_world", lambda parts, make=demo.demo_world: make(tmp_path, parts=parts))
    E.main(["--limit", "2", "--workers", "0", "--out", str(tmp_path / "run")])
    assert "demo world, not the paper's data" in capsys.readouterr().out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    figures = {p.name for p in (tmp_path / "run").glob("fig_*")}
    assert figures == {f"fig_{n}.{e}" for n in ("sweep", "heads", "examples") for e in ("png", "pdf")}
    assert len(results["headline"]) == len(E.CLAIMS)


def test_rows_are_images_times_heads_of_all_blocks_asked_for(objects, tmp_path, no_figures):
    results = run(small_copy(objects, tmp_path / "data"), tmp_path / "out", "--layer", "0", "11")
    rows = read_csv(tmp_path / "out" / "per_image.csv")
    assert list(rows[0])[:2] == ["image", "condition"] and len(rows) == 3 * 12
    assert {r["condition"] for r in rows} == {f"b{b}h0{h}" for b in ("00", "11") for h in range(6)}
    kl = results["summary"]["kl"]
    mean = np.mean([r["kl"] for r in rows if r["condition"] == "b11h02"])
    assert mean == pytest.approx(kl["heads"]["b11h02"]["ours"])
    assert results["headline"][0]["unit"] == "patches" and len(results["tests"]) == 1 + 12 * 11 / 2
    worst = kl["ranking"][-1]
    assert results["headline"][4]["ours"] == f"block {int(worst[1:3])}, head {int(worst[4:])}"
    assert results["headline"][4]["paper"] == "heads 6, 8 (#7, #9)"  # 7 and 9 of 1 to 12


def test_unreadable_images_and_stray_fixations_are_named(objects, tmp_path, no_figures, capsys):
    data = small_copy(objects, tmp_path / "data")
    (data / "images" / "bag02.png").write_bytes(b"no image")
    with open(data / "fixations.csv", "a") as f:
        f.write("p01,gone.png,3,3,.2\np01,bag01.png,9999,3,.2\np01,bag01.png,,,.2\n")
    results = run(data, tmp_path / "out")
    assert {r["image"] for r in read_csv(tmp_path / "out" / "per_image.csv")} == {"bag01.png", "bag03.png"}
    for name in ("bag02.png", "gone.png"):
        assert f"{name}: unreadable, or no fixation on it" in results["notes"]
    assert any(note.startswith("2 fixations left out") for note in results["notes"])
    assert "bag02.png: unreadable" in capsys.readouterr().out


def test_a_run_stopped_between_batches_ends_as_an_undisturbed_one(objects, tmp_path, no_figures, monkeypatch):
    data, measure, calls = small_copy(objects, tmp_path / "data"), E.measure, []
    straight = run(data, tmp_path / "a", "--batch-size", "1")

    def stop_at_the_third(batch, **how):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("killed")
        return measure(batch, **how)
    monkeypatch.setattr(E, "measure", stop_at_the_third)
    with pytest.raises(RuntimeError, match="killed"):
        run(data, tmp_path / "b", "--batch-size", "1")
    with pytest.raises(InputError, match="--resume"):
        run(data, tmp_path / "b", "--batch-size", "1")
    resumed = run(data, tmp_path / "b", "--batch-size", "1", "--resume")
    assert len(calls) == 4
    assert (tmp_path / "a" / "per_image.csv").read_bytes() == (tmp_path / "b" / "per_image.csv").read_bytes()
    assert straight["summary"] == resumed["summary"] and straight["headline"] == resumed["headline"]


def test_plot_only_redraws_without_model_or_data(objects, tmp_path, monkeypatch, capsys):
    data = small_copy(objects, tmp_path / "data", n=2)
    run(data, tmp_path / "out")
    table = capsys.readouterr().out.split("unit\n")[1]
    before = (tmp_path / "out" / "fig_heads.png").read_bytes()
    monkeypatch.setattr(E, "load_vit", None)
    shutil.rmtree(data)
    for figure in (tmp_path / "out").glob("fig_*"):
        figure.unlink()
    E.main([*MODEL, *FAST, "--data", str(data), "--out", str(tmp_path / "out"), "--plot-only"])
    assert (tmp_path / "out" / "fig_heads.png").read_bytes() == before
    assert len(list((tmp_path / "out").glob("fig_*"))) == 6
    assert capsys.readouterr().out.split("unit\n")[1] == table


def test_two_processes_give_the_rows_of_one(objects, tmp_path, no_figures):
    data = small_copy(objects, tmp_path / "data")
    run(data, tmp_path / "one")
    in_group(2, E.main, [*MODEL, *FAST, "--data", str(data), "--out", str(tmp_path / "two")])
    a, b = (read_csv(tmp_path / name / "per_image.csv") for name in ("one", "two"))
    assert len(a) == len(b) == 18
    for x, y in zip(a, b):
        for k, value in x.items():
            assert y[k] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-4)), k


# ------------------------------------------------------------------------------------------------ wrong input

HEADER = "participant,image,x_px,y_px,duration_s\n"


@pytest.mark.parametrize("content, says", [
    ("participant,image,x,y\np,bag01.png,1,2\n", "'y_px'.*expected columns participant, image, x_px, y_px"),
    (HEADER + "p,bag01.png,1,two,.2\n", "'two'"),
    (HEADER + "p,bag01.png,1,2,-3\n", "-3.0"),
    (HEADER + "p,bag01.png,1,2,nan\n", "nan"),
    (HEADER + "p,images/bag01.png,1,2,.3\nq,images/bag01.png,1,2,.3\n", "all 1 images"),
    (HEADER + "p,bag01.png,1,2,.3\n", "fewer than two maps of a participant"),
    (HEADER + "p,other.png,1,2,.3\nq,other.png,1,2,.3\n", "all 1 images"),
    (HEADER + "p,bag01.png,9000,2,.3\nq,bag01.png,9000,2,.3\n", "all 1 images"),
    (HEADER, "no fixation"),
    (None, "fixations.csv: .*No such file")])
def test_wrong_fixation_files_are_named(content, says, objects, tmp_path, no_figures):
    data = small_copy(objects, tmp_path / "data", n=1)
    if content is None:
        (data / "fixations.csv").unlink()
    else:
        (data / "fixations.csv").write_text(content)
    with pytest.raises(InputError, match=says):
        run(data, tmp_path / "out")


@pytest.mark.parametrize("argv, says", [
    ("--layer 12", "blocks 0 to 11"), ("--layer -1", "blocks 0 to 11"),
    ("--sigmas 0 2 .1", "positive"), ("--sigmas 1 1.1 .1", "three widths"),
    ("--model vgg", "no model vgg")])
def test_wrong_arguments_are_named(argv, says, objects, tmp_path, no_figures):
    with pytest.raises(InputError, match=says):
        run(small_copy(objects, tmp_path / "data", n=1), tmp_path / "out", *argv.split())


def test_wrong_input_ends_in_one_sentence_and_status_2(tmp_path):
    command = [sys.executable, ROOT / "exp06_gaze_objects.py", "--data", tmp_path / "none", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_a_finished_run_stays_whole_after_wrong_arguments(objects, tmp_path, no_figures):
    data, out = small_copy(objects, tmp_path / "data", n=2), tmp_path / "out"
    run(data, out)
    kept = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for more, says in (("--model vgg", "no model vgg"), ("--layer 12", "blocks 0 to 11"),
                       ("--limit 1", "other arguments"),
                       ("--blur attention --resume", "other arguments"),
                       ("--plot-only --seed 3", "other arg"),
                       (f"--data {tmp_path}/typo", "no such folder")):
        with pytest.raises(InputError, match=says):
            run(data, out, *more.split())
    with pytest.raises(InputError, match="into the data"):
        run(data, data / "runs")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == kept


# ------------------------------------------------------------------------------------------------ real data

@pytest.mark.real
def test_trained_vit_agrees_with_observers_on_osie(tmp_path, no_figures):
    weights = SHARED / "real" / "weights" / "dinov2_vits14_derived_fp16.pth"
    if not weights.exists():
        pytest.skip(f"no OSIE images and weights in {SHARED}; name their folder with GAZE_SHARED")
    E.main(["--data", str(SHARED / "real" / "osie"), "--model", "auto", "--weights", str(weights), *FAST,
            *"--size 224 294 --layer 8 --limit 6".split(), "--out", str(tmp_path)])
    results = json.loads((tmp_path / "results.json").read_text())
    cc = results["summary"]["cc"]
    assert cc["ranking"][0] == "b08h04" and cc["heads"]["b08h04"]["ours"] > .3
    assert results["headline"][0]["n"] == 6 * 15
    assert results["not_run"] and "lift" in results["not_run"][0]
