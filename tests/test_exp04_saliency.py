"""exp04_saliency: every policy guides the same saccades, UNISAL loads strictly, crops lie where they should."""
import json
import os
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms.functional import normalize

import exp04_saccades as S
import exp04_saliency as L
from common import InputError, cls_attention, generator, upsample
from data import imagenet_wnids, read_csv
from gbvs import gbvs
from pretended import one_device
from results import read_arrays, save_arrays
from processes import interrupted
from test_exp04_saccades import measured, small
from unisal import UNISAL
from weights import IMAGENET

torch.set_num_threads(1)
SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
DRAW = L.draw


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(S, "draw", lambda *args: None)
    monkeypatch.setattr(L, "draw", lambda *args: None)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Three classes of four pictures that differ in colour."""
    root = tmp_path_factory.mktemp("pictures")
    for k, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir()
        for i in range(4):
            noise = np.random.default_rng([k, i]).integers(0, 90, (60, 80, 3)).astype(np.uint8)
            noise[..., k] += 140
            Image.fromarray(noise).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def maps(pictures, tmp_path_factory) -> Path:
    """Another model's maps, brightest in the last column."""
    root = tmp_path_factory.mktemp("maps")
    for path in pictures.glob("*/*.png"):
        bright = np.zeros((30, 40), np.float32)
        bright[25:, 35:] = 1 + np.arange(5)
        (root / path.parent.name).mkdir(exist_ok=True)
        np.save(root / path.parent.name / f"{path.stem}.npy", bright - 7)
    return root


def test_demo_command_draws_its_figures_and_says_what_did_not_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(L, "draw", DRAW)
    L.main(["--limit", "3", "--out", str(tmp_path), "--workers", "0", "--device", "cpu"])
    assert {p.stem for p in tmp_path.glob("fig*")} == {"fig09_saliency_maps", "fig10_policies", "fig11_fixations"}
    results = json.loads((tmp_path / "results.json").read_text())
    assert [line.split(":")[0] for line in results["not_run"]] == ["UNISAL", "loss by larger images"]
    arrays, rows = read_arrays(tmp_path / "arrays.npz"), read_csv(tmp_path / "per_image.csv")
    assert [row["condition"] for row in rows] == 3 * ["dino", "gbvs", "random"]
    assert arrays["correct"].shape == (3, 3, 10) and arrays["crop_correct"].shape == (3, 4)
    assert arrays["maps"].shape == (3, 3, 18, 24)
    places = arrays["maps"].reshape(3, 3, -1).argmax(2)
    assert [24 * row["row_1"] + row["col_1"] for row in rows] == places.flatten().tolist()
    assert "ResNet on a crop, DINO - centre" in capsys.readouterr().out


def test_other_maps_and_unisal_are_policies_and_the_loss_is_that_of_both_runs(pictures, maps, tmp_path):
    """A picture of each class cannot be read, so that the images of the arrays are some of those asked for."""
    torch.save(UNISAL().state_dict(), tmp_path / "unisal.pth")
    data = shutil.copytree(pictures, tmp_path / "data")
    maps = shutil.copytree(maps, tmp_path / "maps")
    for name in ("red", "green", "blue"):
        for i in ("0", "00"):
            (data / name / f"{i}.png").write_bytes(b"no picture")
            shutil.copy(maps / name / "1.npy", maps / name / f"{i}.npy")
    S.main(small(data, tmp_path / "saccades"))
    before = read_arrays(tmp_path / "saccades/arrays.npz")  # all correct, and no two images alike from here on
    before["correct"] = np.random.default_rng(0).random(before["correct"].shape) < .6
    save_arrays(tmp_path / "saccades/arrays.npz", **before)
    L.main(small(data, tmp_path / "out", "--saliency-dir", str(maps), "--unisal-weights",
                 str(tmp_path / "unisal.pth"), "--size", "64", "96", "--saccades", str(tmp_path / "saccades")))
    arrays = read_arrays(tmp_path / "out/arrays.npz")
    unreadable = json.loads((tmp_path / "out/results.json").read_text())["unreadable"]
    assert 0 < len(unreadable) and arrays["index"].tolist() != list(range(len(arrays["index"])))
    assert arrays["conditions"].tolist() == ["dino", "gbvs", "unisal", "other", "random"]
    assert (arrays["col"][:, 3, 0] == 5).all()  # grid of 4x6 tokens
    assert set(arrays["image"]) == set(before["image"])  # the half that the head was not fitted on
    results = json.loads((tmp_path / "out/results.json").read_text())
    loss = next(row for row in results["headline"] if row["name"] == "loss by larger images, random - DINO")
    mean = 100 * before["correct"].mean((0, 2)) - 100 * arrays["correct"].mean((0, 2))[[0, 4]]  # DINO, random
    assert loss["ours"] == pytest.approx(mean[1] - mean[0]) and loss["n"] == len(before["image"])
    lost = [100 * (b.mean(1) - a.mean(1)) for b, a in zip(before["correct"].transpose(1, 0, 2),
                                                         arrays["correct"][:, [0, 4]].transpose(1, 0, 2))]
    ci = stats.ttest_rel(lost[1], lost[0]).confidence_interval()  # image by image
    assert loss["ci"] == pytest.approx((ci.low, ci.high), abs=1e-6)
    assert any(line.startswith("ResNet crops") for line in results["not_run"])


def test_interrupted_and_resumed_run_equals_an_undisturbed_one(pictures, maps, tmp_path, monkeypatch):
    more = ["--saliency-dir", str(maps), "--size", "64", "96"]
    L.main(small(pictures, tmp_path / "a", *more))
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(L, "measure", interrupted(L.measure, 2))
        L.main(small(pictures, tmp_path / "b", *more))
    L.main(small(pictures, tmp_path / "b", *more, "--resume"))
    assert (tmp_path / "a/per_image.csv").read_bytes() == (tmp_path / "b/per_image.csv").read_bytes()


def test_wrong_input_is_refused_in_one_sentence_and_a_finished_run_stays_whole(pictures, maps, tmp_path):
    out = tmp_path / "out"
    argv = small(pictures, out, "--saliency-dir", str(maps), "--size", "64", "96")
    L.main(argv)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    (tmp_path / "torn.pth").write_bytes(b"no weights")
    for more, message in (
            (["--size", "100", "96"], "multiples of the patch size 16"),
            (["--size", "48", "48"], "at least 64 px"),
            (["--fovea", "4"], "fovea 4: expected an odd"),
            (["--fovea", "5"], "at most 4, on a token grid of 4x6"),
            (["--layer", "9"], "blocks 0 to 3"),
            (["--data", str(tmp_path / "nowhere")], "nowhere: no such folder"),
            (["--saliency-dir", str(tmp_path)], "no map for .*expected"),
            (["--unisal-weights", str(tmp_path / "torn.pth")], "torn.pth"),
            (["--saccades", str(tmp_path)], "no finished run of exp04_saccades.py"),
            (["--border", "shift"], "other arguments .border")):
        with pytest.raises(InputError, match=message):
            L.main([*argv, *more])
        assert {path.name: path.read_bytes() for path in out.iterdir()} == whole, message


def test_the_run_before_must_be_finished_and_have_the_fovea(pictures, tmp_path):
    assert L.run_before(None, 3, [], {}) == {}
    with pytest.raises(InputError, match="args.json: .*No such file"):
        L.run_before(tmp_path, 3, [], {})
    S.main(small(pictures, tmp_path))
    asked = json.loads((tmp_path / "args.json").read_text())
    with pytest.raises(InputError, match="--saccades .*expected a finished run of .* with fovea 5"):
        L.run_before(tmp_path, 5, [], asked)
    for key, other in (("seed", 1), ("heads", 6), ("model", "dino_vits16"), ("border", "shift")):
        with pytest.raises(InputError, match=f"was run with {key} {asked[key]}, not {other}"):
            L.run_before(tmp_path, 3, [], asked | {key: other})
    with pytest.raises(InputError, match="fewer than two of these images"):
        L.run_before(tmp_path, 3, ["red/none.png"], asked)
    arrays = read_arrays(tmp_path / "arrays.npz")
    found = L.run_before(tmp_path, 3, ["red/none.png", *arrays["image"][::-1]], asked)
    for c, kind in enumerate(("attention", "random")):
        assert np.isnan(found[f"{kind} before"][0])
        assert found[f"{kind} before"][1:].tolist() == arrays["correct"][::-1, c].mean(1).tolist()


def test_unisal_loads_strictly(tmp_path):
    state = UNISAL().state_dict()
    torch.save(state, tmp_path / "whole.pth")
    torch.save(dict(list(state.items())[1:]), tmp_path / "short.pth")
    net, frames = L.load_unisal(tmp_path / "whole.pth"), torch.rand(1, 2, 3, 64, 64)
    assert len(net.state_dict()) == 835
    videos, stills = UNISAL("DHF1K").eval(), UNISAL("SALICON").eval()
    for other in (videos, stills):
        other.load_state_dict(state)
    with torch.no_grad():  # the paper's choice of UNISAL's data sets
        assert torch.equal(net(frames), videos(frames)) and not torch.allclose(net(frames), stills(frames))
    with pytest.raises(InputError, match="expected UNISAL's weights_best.pth"):
        L.load_unisal(tmp_path / "short.pth")


@torch.no_grad()
def test_unisal_maps_are_probabilities_of_sides_that_it_can_read():
    maps = L.unisal_maps(UNISAL().eval(), torch.rand(1, 3, 90, 130))
    assert maps.shape == (1, 96, 128)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(1))
    seen = []

    def net(x):
        seen.append(x)
        return torch.log(x[:, :, :1])
    images = torch.rand(1, 3, 33, 100) / 2 + .49
    maps = L.unisal_maps(net, images)
    expected = normalize(upsample(images, (32, 96)), *IMAGENET)
    torch.testing.assert_close(seen[0], expected[:, None])
    torch.testing.assert_close(maps, expected[:, 0])


def test_some_of_every_class_in_order():
    items = [(Path(f"{k}/{i}"), k) for k in range(3) for i in range(5 + k)]
    some = L.some_per_class(items, 4, 0)
    assert [label for _, label in some] == [0] * 4 + [1] * 4 + [2] * 4 and some == sorted(some)
    assert some != L.some_per_class(items, 4, 1) and L.PER_CLASS == 10
    drawn = {item for seed in range(30) for item in L.some_per_class(items, 1, seed)}
    assert drawn == set(items)  # each has its turn


def test_images_are_squashed_whole_to_18_by_24_tokens(tmp_path):
    wide = np.zeros((40, 200, 3), np.uint8)
    wide[:, :100, 0] = 255  # the left half red
    Image.fromarray(wide).save(tmp_path / "a.png")
    size, grid = L.image_size(None, 16, 3)
    image = L.load_images([tmp_path / "a.png"], size, grid, [])[0]["image"]
    assert (size, grid) == ((288, 384), (18, 24)) and image.shape == (3, 288, 384)
    assert (image[0, :, :190] == 1).all() and (image[0, :, 194:] == 0).all() and not image[1:].any()


def test_maps_are_found_with_and_without_their_class_folder(tmp_path):
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "x/a.npy", np.eye(3))
    Image.new("L", (4, 4)).save(tmp_path / "b.png")
    assert L.find_map(tmp_path, Path("x/a.jpg")) == tmp_path / "x/a.npy"
    assert L.find_map(tmp_path, Path("x/b.jpg")) == tmp_path / "b.png"
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(InputError, match="b.png"):
        L.find_map(tmp_path, Path("x/b.jpg"))


def test_a_map_guides_the_same_saccades_in_every_format(tmp_path):
    levels = np.random.default_rng(0).permutation(24 * 32).reshape(24, 32) // 4  # 0 to 191
    for name, values in (("a.npy", levels / 191 - 7), ("a.png", levels.astype(np.uint8)),
                         ("b.png", (levels * 257).astype(np.uint16)), ("a.tif", levels.astype(np.float32) * 1e-3)):
        np.save(tmp_path / name, values) if name == "a.npy" else Image.fromarray(values).save(tmp_path / name)
    maps = [L.given_map(0, [tmp_path / name], (6, 8))["map"] for name in ("a.npy", "a.png", "b.png", "a.tif")]
    places = [S.fixation_sequence(m[None], 3, 5)[0] for m in maps]
    assert all(torch.equal(place, places[0]) for place in places)
    for m in maps:  # one scale for all
        torch.testing.assert_close(m / m.max(), maps[0] / maps[0].max(), atol=1e-5, rtol=0)


def test_a_map_of_colours_is_refused_before_anything_is_measured(pictures, tmp_path):
    for path in pictures.glob("*/*.png"):
        (tmp_path / "maps" / path.parent.name).mkdir(exist_ok=True, parents=True)
        (tmp_path / "maps" / path.parent.name / path.name).symlink_to(path)
    with pytest.raises(InputError, match="expected a model's map"):
        L.main(small(pictures, tmp_path / "out", "--saliency-dir", str(tmp_path / "maps"), "--size", "64", "96"))
    assert not (tmp_path / "out").exists()


def test_crops_are_moved_inside_and_centred():
    images = torch.arange(20 * 30.).view(1, 1, 20, 30).expand(2, 3, 20, 30)
    for (row, col), (top, left) in {(0., 0.): (0, 0), (10., 15.): (7, 12), (19., 28.): (14, 24),
                                    (2., 29.): (0, 24), (18., 16.): (14, 13)}.items():
        crops = L.crop_at(images, torch.tensor([[row, col], [10., 15.]]), 6)
        assert crops.shape == (2, 3, 6, 6)
        assert torch.equal(crops[0], images[0, :, top:top + 6, left:left + 6]), (row, col)
        assert torch.equal(crops[1], images[1, :, 7:13, 12:18])


@torch.no_grad()
def test_every_policy_guides_by_its_own_map_and_crops_lie_at_its_first_fixation():
    """Images are in [0, 1]: the ViT gets them normalised by its own constants, UNISAL and the ResNet by
    ImageNet's, GBVS as they are."""
    model, view, _, _ = S.load_model("demo_dino4", None, None, True, None)
    head = torch.nn.Linear(4 * 96, 3)
    torch.nn.init.normal_(head.weight, std=.05, generator=generator(1))
    images = torch.rand(2, 3, 96, 128, generator=generator(2))
    labels, fovea, seed, block = torch.tensor([0, 2, 1, 0]), 3, 5, 2
    batch = dict(image=images, index=torch.tensor([3, 1]), readable=torch.ones(2),
                 map=torch.rand(2, 6, 8, generator=generator(3)))
    crops = []

    def resnet(x):
        crops.append(x)
        return torch.eye(3)[[len(crops) % 3, 2]]

    def unisal(x):
        return torch.log(torch.sigmoid(x[:, :, :1]))
    found = L.measure(batch, model, head, labels, view, block, fovea, "clip", seed, unisal, resnet)
    x = normalize(images, view.mean, view.std)
    size = (96, 128)
    maps = dict(dino=cls_attention(model, x, [block]).amax(2)[:, 0], gbvs=upsample(gbvs(images), (6, 8)),
                unisal=upsample(torch.sigmoid(normalize(images, *IMAGENET)[:, 0]), (6, 8)), other=batch["map"],
                random=torch.stack([torch.rand(6, 8, generator=generator(seed, 3, i)) for i in (3, 1)]))
    assert L.policies(unisal, Path("maps")) == list(maps)
    assert L.policies(None, None) == ["dino", "gbvs", "random"]
    assert found["label"].tolist() == [0, 2] and found["n_tokens"].tolist() == [48, 48]
    for p, (name, expected) in enumerate(maps.items()):
        torch.testing.assert_close(found["maps"][:, p], expected, atol=1e-5, rtol=1e-4)
        places, visible = S.fixation_sequence(found["maps"][:, p], fovea, 10)
        assert torch.equal(found["row"][:, p].long(), places[..., 0]), name
        assert torch.equal(found["col"][:, p].long(), places[..., 1]), name
        assert torch.equal(found["tokens"][:, p].long(), visible.sum((2, 3))), name
        for b in range(2):
            row, col = places[b, 0].tolist()
            top, left = (min(max(16 * v - 16, 0), n - 48) for v, n in zip((row, col), size))
            crop = images[b:b + 1, :, top:top + 48, left:left + 48]
            torch.testing.assert_close(crops[p][b:b + 1], normalize(upsample(crop, (224, 224)), *IMAGENET))
    torch.testing.assert_close(crops[5], normalize(upsample(images[:, :, 24:72, 40:88], (224, 224)), *IMAGENET))
    right = [[(k + 1) % 3 == 0 for k in range(6)], [True] * 6]
    assert found["crop_correct"].tolist() == right


def test_resnet_sees_the_first_fixations_and_the_centre():
    images, seen = torch.rand(2, 3, 224, 224), []

    def net(crops):
        seen.append(crops)
        return torch.eye(5)[[len(seen), 0]]
    fixations = torch.tensor([[9, 4], [0, 13]]).expand(2, 2, 2)
    answers = L.crop_answers(net, images, fixations, 16, 48)
    assert answers.tolist() == [[1, 2, 3], [0, 0, 0]]
    for crops, (top, left) in zip(seen, ((128, 48), (0, 176), (88, 88))):  # 48 px around row 152, col 72 ...
        crop = images[:, :, top:top + 48, left:left + 48]
        torch.testing.assert_close(crops, normalize(upsample(crop, (224, 224)), *IMAGENET))


def looked(correct, row: float) -> dict:
    place = np.full((len(correct), 10), row)
    return measured(correct, row=place, col=place)


def hand_made(n: int = 70) -> tuple[dict, dict]:
    """(arrays of a run, accuracies of the run before): no two policies, saccades or images are alike."""
    rng = np.random.default_rng(2)
    names = ["dino", "gbvs", "unisal", "other", "random"]
    shape = (n, 5, 10)
    arrays = dict(
        conditions=np.array(names), label=rng.integers(0, 4, n), classes=np.array(list("abcd")),
        correct=rng.random(shape) < np.array([.8, .5, .6, .3, .2])[:, None] * np.linspace(.3, 1, 10),
        tokens=np.sort(rng.integers(9, 300, shape)), n_tokens=np.full(n, 432), certainty=rng.random(shape),
        row=rng.integers(0, 18, shape) // np.array([[1], [2], [3], [1], [4]]), col=rng.integers(0, 24, shape),
        correct_full=rng.random(n) < .7, crop_correct=rng.random((n, 6)) < [.8, .6, .75, .3, .2, .5],
        **{key: rng.random(n) for key in ("pred_full", "certainty_full", "entropy")}, pred=np.zeros(shape))
    before = {"attention before": rng.random(n), "random before": rng.random(n) * .8}
    for values in before.values():
        values[:5] = np.nan  # measured here alone
    return arrays, before


def numbers(a, b, scale: float = 1.) -> tuple:
    """(mean difference, low, high, n) of a paired t test."""
    test = stats.ttest_rel(np.asarray(a, float), np.asarray(b, float))
    ci, mean = test.confidence_interval(), np.mean(a) - np.mean(b)
    return scale * mean, scale * ci.low, scale * ci.high, test.df + 1


def answers(a, b) -> tuple:
    """(points, low, high, n) of two rows of answers: the adjusted Wald interval of Bonett & Price."""
    n, gained, lost = len(a), sum(a & ~b), sum(b & ~a)
    d, s = (gained - lost) / (n + 2), (gained + lost + 2) / (n + 2)
    half = 1.959964 * ((s - d * d) / (n + 2))**.5
    return 100 * (gained - lost) / n, 100 * (d - half), 100 * (d + half), n


def test_every_line_of_the_table_equals_plain_sums_over_the_images():
    arrays, before = hand_made()
    right, seen, row, col = ({name: arrays[key][:, p] for p, name in enumerate(arrays["conditions"])}
                             for key in ("correct", "tokens", "row", "col"))
    short = {"DINO": "dino", "GBVS": "gbvs", "UNISAL": "unisal", "random": "random"}
    accuracy = {k: right[v].sum(1) / 10 for k, v in short.items()}

    def apart(a: str, b: str) -> np.ndarray:  # tokens between two policies' fixations, (n, 10)
        return np.sqrt((row[a] - row[b])**2 + (col[a] - col[b])**2)

    def far(k: str) -> np.ndarray:  # mean distance of saccades 2 to 10 from the first
        return sum(np.sqrt((row[k][:, s] - row[k][:, 0])**2 + (col[k][:, s] - col[k][:, 0])**2)
                   for s in range(1, 10)) / 9
    full = stats.binomtest(int(arrays["correct_full"].sum()), 70).proportion_ci(method="wilson")
    expected = {"accuracy, larger full image": (
        100 * arrays["correct_full"].mean(), 100 * full.low, 100 * full.high, 70)}
    for a, b in (("DINO", "GBVS"), ("DINO", "UNISAL"), ("DINO", "random"), ("GBVS", "random"), ("UNISAL", "random")):
        expected[f"accuracy, {a} - {b}"] = numbers(accuracy[a], accuracy[b], 100)
    for name, part in (("1-5", slice(0, 5)), ("6-10", slice(5, 10))):
        expected[f"accuracy, saccades {name}, GBVS - UNISAL"] = numbers(
            right["gbvs"][:, part].mean(1), right["unisal"][:, part].mean(1), 100)
    for a in ("DINO", "GBVS"):
        expected[f"visible, {a} - UNISAL"] = numbers(
            seen[short[a]].mean(1), seen["unisal"].mean(1), 100 / 432)
        expected[f"from first fixation, {a} - UNISAL"] = numbers(far(short[a]), far("unisal"))
    gain = {}
    for a, b in combinations(("DINO", "GBVS", "UNISAL"), 2):
        between = apart(short[a], short[b])
        gain[f"{a} to {b}"] = between[:, 9] - between[:, 0]
        expected[f"{a} to {b}, saccade 10 - 1"] = numbers(between[:, 9], between[:, 0])
    for k in ("GBVS", "UNISAL"):
        expected[f"DINO to {k} - GBVS to UNISAL, saccade 10 - 1"] = numbers(
            gain[f"DINO to {k}"], gain["GBVS to UNISAL"])
    early = {k: apart("dino", k)[:, :3].mean(1) for k in ("gbvs", "unisal")}
    expected["DINO to UNISAL - to GBVS, saccades 1-3"] = numbers(early["unisal"], early["gbvs"])
    smaller = {"DINO": before["attention before"][5:], "random": before["random before"][5:]}
    for k, values in smaller.items():
        expected[f"accuracy, larger - smaller images, {k}"] = numbers(accuracy[k][5:], values, 100)
    expected["loss by larger images, random - DINO"] = numbers(
        smaller["random"] - accuracy["random"][5:], smaller["DINO"] - accuracy["DINO"][5:], 100)
    crop = dict(zip(("DINO", "GBVS", "UNISAL", "other", "random", "centre"), arrays["crop_correct"].T))
    for a, b in combinations(("DINO", "UNISAL", "centre", "GBVS", "random"), 2):
        expected[f"ResNet on a crop, {a} - {b}"] = answers(crop[a], crop[b])
    rows = {row["name"]: row for row in L.claims(arrays, before)}
    assert set(rows) == set(expected)
    for name, (ours, low, high, n) in expected.items():
        assert rows[name]["ours"] == pytest.approx(ours, abs=1e-9), name
        assert rows[name]["ci"] == pytest.approx((low, high), rel=1e-4, abs=1e-4) and rows[name]["n"] == n, name


def test_bars_and_curves_of_the_figures_are_means_with_their_intervals(monkeypatch):
    arrays, kept = hand_made()[0], {}
    monkeypatch.setattr(L, "save_figure", lambda fig, path: kept.update({path.name: fig}))
    found, crops = L.tables(arrays)
    L.draw_policies(found, crops, Path())
    bars, accuracy, visible = kept["fig10_policies"].axes
    shares = dict(zip(("DINO", "GBVS", "UNISAL", "other", "random", "centre"), arrays["crop_correct"].mean(0)))
    order = sorted(shares, key=lambda k: -shares[k])
    assert [label.get_text() for label in bars.get_xticklabels()] == order
    assert [bar.get_height() for bar in bars.patches] == pytest.approx([100 * shares[k] for k in order])
    ends = [box.lines[2][0].get_segments()[0][:, 1] for box in bars.containers if hasattr(box, "lines")]
    for (low, high), k in zip(ends, order):
        ci = stats.binomtest(round(70 * shares[k]), 70).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((100 * ci.low, 100 * ci.high), abs=.01)
    for p in range(5):
        assert accuracy.containers[p].lines[0].get_ydata() == pytest.approx(100 * arrays["correct"][:, p].mean(0))
        assert visible.containers[p].lines[0].get_ydata() == pytest.approx(
            100 * arrays["tokens"][:, p].mean(0) / 432)
    L.draw_fixations(found, Path())
    between, spread, amplitude = kept["fig11_fixations"].axes
    row, col = arrays["row"].astype(float), arrays["col"].astype(float)
    pairs = list(combinations(range(4), 2))  # all but random
    for (a, b), box in zip(pairs, between.containers):
        apart = np.sqrt((row[:, a] - row[:, b])**2 + (col[:, a] - col[:, b])**2)
        assert box.lines[0].get_ydata() == pytest.approx(apart.mean(0))
    for p in range(5):
        from_first = np.sqrt((row[:, p] - row[:, p, :1])**2 + (col[:, p] - col[:, p, :1])**2)
        assert spread.containers[p].lines[0].get_ydata() == pytest.approx(from_first.mean(0))
        step = np.sqrt((row[:, p, 1:] - row[:, p, :-1])**2 + (col[:, p, 1:] - col[:, p, :-1])**2)
        assert amplitude.containers[p].lines[0].get_ydata()[1:] == pytest.approx(step.mean(0))


def test_the_first_five_fixations_are_numbered_where_they_lie(monkeypatch):
    arrays, kept = hand_made()[0], {}
    monkeypatch.setattr(L, "save_figure", lambda fig, path: kept.update({path.name: fig}))
    arrays |= dict(maps=np.random.default_rng(0).random((70, 5, 18, 24)).astype(np.float32),
                   example=np.array([3, 60]), example_image=np.zeros((2, 288, 384, 3), np.uint8))
    L.draw_maps(arrays, 16, Path())
    axes = np.array(kept["fig09_saliency_maps"].axes).reshape(2, 6)
    assert [ax.get_title() for ax in axes[0]] == ["image", "DINO", "GBVS", "UNISAL", "other", "random"]
    for i, n in enumerate((3, 60)):
        for p, ax in enumerate(axes[i, 1:]):
            centres = [(arrays["col"][n, p, s] * 16 + 7.5, arrays["row"][n, p, s] * 16 + 7.5) for s in range(5)]
            assert ax.lines[0].get_xydata().tolist() == [list(place) for place in centres]
            assert {text.get_text(): text.get_position() for text in ax.texts} == {
                f"{s + 1}": centres[s] for s in range(5)}
            shown = upsample(torch.from_numpy(arrays["maps"][n, p]), (288, 384))
            np.testing.assert_allclose(ax.images[0].get_array(), shown)


def test_policies_that_did_not_run_have_no_lines():
    found = {"dino": looked(np.ones((4, 10)), 1.), "gbvs": looked(np.ones((4, 10)), 0.),
             "random": looked(np.zeros((4, 10)), 0.)}
    names = [row["name"] for row in L.results.evaluate(L.CLAIMS, found)]
    assert names == ["accuracy, larger full image", "accuracy, DINO - GBVS", "accuracy, DINO - random",
                     "accuracy, GBVS - random", "DINO to GBVS, saccade 10 - 1"]


CLAIMS = {  # what the paper's text says: its number, lines of the table
    "DINO is about 5 % above the other two models across all saccades": ("about 5", [
        "accuracy, DINO - GBVS", "accuracy, DINO - UNISAL"]),
    "all saliency models guide fixations to informative areas": ("> 0", [
        "accuracy, DINO - random", "accuracy, GBVS - random", "accuracy, UNISAL - random"]),
    "GBVS is worse than UNISAL": ("< 0", ["accuracy, saccades 1-5, GBVS - UNISAL"]),
    "and reaches it after the sixth saccade": ("about 0", ["accuracy, saccades 6-10, GBVS - UNISAL"]),
    "at first DINO and UNISAL fixate similar regions, GBVS diverges": (
        "< 0", ["DINO to UNISAL - to GBVS, saccades 1-3"]),
    "disagreement between all three models increases": ("> 0", [
        "DINO to GBVS, saccade 10 - 1", "DINO to UNISAL, saccade 10 - 1", "GBVS to UNISAL, saccade 10 - 1"]),
    "above all that of the two saliency models with DINO": ("> 0", [
        "DINO to GBVS - GBVS to UNISAL, saccade 10 - 1", "DINO to UNISAL - GBVS to UNISAL, saccade 10 - 1"]),
    "DINO and GBVS reveal more than UNISAL": ("> 0", ["visible, DINO - UNISAL", "visible, GBVS - UNISAL"]),
    "their saccades move farther from the initial fixation": ("> 0", [
        "from first fixation, DINO - UNISAL", "from first fixation, GBVS - UNISAL"]),
    "accuracy is lower for larger images": ("< 0", [
        "accuracy, larger - smaller images, DINO", "accuracy, larger - smaller images, random"]),
    "the drop is much smaller for attention": ("> 0", ["loss by larger images, random - DINO"]),
    "ResNet crops: DINO, then UNISAL, centre, GBVS, random": ("> 0", [
        f"ResNet on a crop, {a} - {b}"
        for a, b in combinations(("DINO", "UNISAL", "centre", "GBVS", "random"), 2)])}


def test_every_claim_of_the_paper_has_a_row():
    rng = np.random.default_rng(0)
    found = {name: looked(rng.random((9, 10)) < .5, 1.) for name in ("dino", "gbvs", "unisal", "random")}
    found |= {f"crop at {name}": rng.random(9) < .5 for name in (*found, "centre")}
    found |= {f"{kind} before": rng.random(9) for kind in ("attention", "random")}
    rows = {row["name"]: row for row in L.results.evaluate(L.CLAIMS, found)}
    for claim, (paper, lines) in CLAIMS.items():
        for name in lines:
            assert name in rows and rows[name]["paper"] == paper, f"{claim}: {name}"
    shown = {name for _, lines in CLAIMS.values() for name in lines}
    assert set(rows) - shown == {"accuracy, larger full image"}


@pytest.mark.real
def test_the_study_runs_on_real_images(tmp_path, monkeypatch):
    folder, file = SHARED / "real/imagenet/val", SHARED / "real/weights/dinov2_vits14_derived_fp16.pth"
    if not (folder.is_dir() and file.exists()):
        pytest.skip(f"{folder} or {file} is missing: set GAZE_SHARED to the shared folder")
    monkeypatch.setattr(L, "load_others", lambda *args: (None, None, []))  # nothing is downloaded
    wnids = imagenet_wnids()
    for wnid in sorted(path.name for path in folder.iterdir())[::40]:
        place = tmp_path / "data" / ("animal" if wnids.index(wnid) < 398 else "other")
        place.mkdir(parents=True, exist_ok=True)
        for path in (folder / wnid).iterdir():
            (place / path.name).symlink_to(path)
    L.main(["--data", str(tmp_path / "data"), "--model", "dinov2_vits14", "--weights", str(file), "--train-head",
            "--limit", "4", "--out", str(tmp_path / "out"), "--workers", "0", "--device", "cpu"])
    arrays = read_arrays(tmp_path / "out/arrays.npz")
    assert arrays["correct"].shape == (4, 3, 10) and (arrays["n_tokens"] == 18 * 24).all()


@pytest.mark.parametrize("device", ["mps"])  # which is cuda and more: no float64
@pytest.mark.parametrize("script", [S, L])
def test_the_study_is_computed_on_one_device(script, pictures, maps, tmp_path, device):
    more = ["--sweep"] if script is S else ["--saliency-dir", str(maps), "--size", "64", "96"]
    with one_device(device):
        script.main(small(pictures, tmp_path / "o", "--device", device, *more))


@pytest.mark.parametrize("script", [S, L])
def test_files_of_an_ending_that_nothing_reads_are_counted_and_named(script, pictures, tmp_path, monkeypatch, capsys):
    shutil.copytree(pictures, tmp_path / "data")
    for name in ("red/a.heic", "blue/b.raw", "blue/._c.heic"):
        (tmp_path / "data" / name).write_bytes(b"1")
    script.main(small(tmp_path / "data", tmp_path / "o"))
    left_out = json.loads((tmp_path / "o/results.json").read_text())["left_out"]
    assert left_out == {"of an ending that nothing reads": ["blue/b.raw", "red/a.heic"]}
    assert "left out, of an ending that nothing reads: 2 (blue/b.raw" in capsys.readouterr().out
    for split in ("train", "val"):  # of both, where the head is fitted on the other
        shutil.copytree(tmp_path / "data", tmp_path / "both" / split)
    (tmp_path / "both/val/blue/b.raw").unlink()
    script.main(small(tmp_path / "both", tmp_path / "o2"))
    left_out = json.loads((tmp_path / "o2/results.json").read_text())["left_out"]
    assert [*left_out.values()] == [["blue/b.raw", "red/a.heic", "red/a.heic"]]
