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
from torch import nn
from torch.utils.data import default_collate
from torchvision.transforms.functional import normalize

import exp04_saccades as S
import exp04_saliency as L
from common import IMAGENET, InputError, upsample
from data import Images, image_name, imagenet_wnids, read_csv
from pretended import pretended
from results import read_arrays
from test_exp04_saccades import interrupted, measured, small
from unisal import UNISAL

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
    for module in (S, L):
        monkeypatch.setattr(module, "save_figure", lambda fig, path: fig.savefig(f"{path}.png", dpi=20))
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
    torch.save(UNISAL().state_dict(), tmp_path / "unisal.pth")
    S.main(small(pictures, tmp_path / "saccades"))
    L.main(small(pictures, tmp_path / "out", "--saliency-dir", str(maps), "--unisal-weights",
                 str(tmp_path / "unisal.pth"), "--size", "64", "96", "--saccades", str(tmp_path / "saccades")))
    arrays, before = read_arrays(tmp_path / "out/arrays.npz"), read_arrays(tmp_path / "saccades/arrays.npz")
    assert arrays["conditions"].tolist() == ["dino", "gbvs", "unisal", "other", "random"]
    assert (arrays["col"][:, 3, 0] == 5).all()  # grid of 4x6 tokens
    assert set(arrays["image"]) == set(before["image"])  # the half that the head was not fitted on
    results = json.loads((tmp_path / "out/results.json").read_text())
    loss = next(row for row in results["headline"] if row["name"] == "loss by larger images, random - DINO")
    mean = 100 * before["correct"].mean((0, 2)) - 100 * arrays["correct"].mean((0, 2))[[0, 4]]  # DINO, random
    assert loss["ours"] == pytest.approx(mean[1] - mean[0]) and loss["n"] == 6
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
            (["--saccades", str(tmp_path)], "linear_head.pth: no such weight file"),
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
    with pytest.raises(InputError, match="was run with seed 0, not 1"):
        L.run_before(tmp_path, 3, [], asked | {"seed": 1})
    with pytest.raises(InputError, match="fewer than two of these images"):
        L.run_before(tmp_path, 3, ["red/none.png"], asked)
    found = L.run_before(tmp_path, 3, ["red/none.png", *read_arrays(tmp_path / "arrays.npz")["image"]], asked)
    assert np.isnan(found["random before"][0]) and not np.isnan(found["random before"][1:]).any()


def test_unisal_loads_strictly(tmp_path):
    state = UNISAL().state_dict()
    torch.save(state, tmp_path / "whole.pth")
    torch.save(dict(list(state.items())[1:]), tmp_path / "short.pth")
    assert len(L.load_unisal(tmp_path / "whole.pth").state_dict()) == 835
    with pytest.raises(InputError, match="expected UNISAL's weights_best.pth"):
        L.load_unisal(tmp_path / "short.pth")


@torch.no_grad()
def test_unisal_maps_are_probabilities_of_sides_that_it_can_read():
    maps = L.unisal_maps(UNISAL().eval(), torch.rand(1, 3, 90, 130))
    assert maps.shape == (1, 96, 128)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(1))


def test_some_of_every_class_in_order():
    items = [(Path(f"{k}/{i}"), k) for k in range(3) for i in range(5 + k)]
    some = L.some_per_class(items, 4, 0)
    assert [label for _, label in some] == [0] * 4 + [1] * 4 + [2] * 4 and some == sorted(some)
    assert some != L.some_per_class(items, 4, 1)


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
    crops = L.crop_at(images, torch.tensor([[0., 0.], [10., 15.]]), 6)
    assert crops.shape == (2, 3, 6, 6)
    assert torch.equal(crops[0], images[0, :, :6, :6]) and torch.equal(crops[1], images[1, :, 7:13, 12:18])


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


def test_lines_of_the_table_subtract_in_the_order_they_name():
    right, wrong = looked(np.ones((8, 10)), 3.), looked(np.zeros((8, 10)), 0.)
    moves = looked(np.ones((8, 10)), 3.) | dict(col=np.tile(np.arange(5., 15.), (8, 1)))
    found = {"dino": right, "gbvs": wrong, "unisal": moves, "random": wrong,
             "crop at dino": np.ones(8, bool), "crop at centre": np.zeros(8, bool),
             "attention before": np.ones(8), "random before": np.full(8, .9)}
    ours = {row["name"]: row["ours"] for row in L.evaluate(L.CLAIMS, found)}
    assert ours["accuracy, DINO - random"] == ours["accuracy, DINO - GBVS"] == 100
    assert ours["accuracy, saccades 1-5, GBVS - UNISAL"] == -100
    assert ours["DINO to UNISAL - to GBVS, saccades 1-3"] == pytest.approx(3 - 18 ** .5)
    assert ours["DINO to UNISAL, saccade 10 - 1"] == 9  # at the last saccade less that at the first
    # GBVS to UNISAL: from (0, 0) to (3, 5) at the first saccade and to (3, 14) at the last; DINO to GBVS stays
    assert ours["DINO to UNISAL - GBVS to UNISAL, saccade 10 - 1"] == pytest.approx(9 + 34 ** .5 - 205 ** .5)
    assert ours["DINO to GBVS - GBVS to UNISAL, saccade 10 - 1"] == pytest.approx(34 ** .5 - 205 ** .5)
    assert ours["accuracy, larger - smaller images, DINO"] == 0
    assert ours["accuracy, larger - smaller images, random"] == -90
    assert ours["from first fixation, DINO - UNISAL"] == -5
    assert ours["loss by larger images, random - DINO"] == 90
    assert ours["ResNet on a crop, DINO - centre"] == 100 and "ResNet on a crop, DINO - GBVS" not in ours


def test_policies_that_did_not_run_have_no_lines():
    found = {"dino": looked(np.ones((4, 10)), 1.), "gbvs": looked(np.ones((4, 10)), 0.),
             "random": looked(np.zeros((4, 10)), 0.)}
    names = [row["name"] for row in L.evaluate(L.CLAIMS, found)]
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
    rows = {row["name"]: row for row in L.evaluate(L.CLAIMS, found)}
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


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("script", [S, L])
def test_the_study_is_computed_on_one_device(script, pictures, maps, tmp_path, monkeypatch, device):
    monkeypatch.setattr(script, "draw", lambda *args: None)
    more = ["--sweep"] if script is S else ["--saliency-dir", str(maps)]
    with pretended(device) as found:
        script.main(small(pictures, tmp_path / "o", "--device", device, *more))
    assert not found.faults


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
