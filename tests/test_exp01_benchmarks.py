"""exp01_benchmarks: labels, views and evidence of the benchmarks are the paper's, no kill changes an answer."""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import demo
import exp01_benchmarks as E
from common import InputError, Preprocess, bootstrap_ci
from corruptions import CORRUPTIONS, corrupt
from data import imagenet_wnids, read_csv
from processes import in_group
from results import evaluate

torch.set_num_threads(1)
PLAIN = Preprocess(36, 36, (0.,) * 3, (1.,) * 3)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A small demo world: two pictures a class and benchmark."""
    return demo.demo_world(tmp_path_factory.mktemp("world"), n_train=12, n_val=24, n_objectnet=2,
                           parts=("imagenet", "objectnet"))


def places(world: Path) -> dict[str, Path]:
    return {name: world / name for name in ("imagenet", "objectnet")}


# ------------------------------------------------------------------------------------------------ pictures

def test_objectnet_labels_follow_the_release_files_and_half_a_release_is_refused(world, tmp_path):
    classes = sorted(v[0] for v in demo.CLASSES.values())
    pictures = E.objectnet_pictures(world / "objectnet", classes)
    names = {v[0]: k for k, v in demo.CLASSES.items()}
    assert len(pictures) == 24 and [p.number for p in pictures] == list(range(24))
    assert all([names[classes[label]] for label in p.right] == [p.folder] for p in pictures)
    pictures = E.objectnet_pictures(world / "objectnet", imagenet_wnids())
    assert {tuple(sorted(p.right)) for p in pictures if p.folder == "cup"} == {(504, 968)}
    half = shutil.copytree(world / "objectnet", tmp_path / "half")
    for folder in sorted((half / "images").iterdir())[:8]:
        shutil.rmtree(folder)
    with pytest.raises(InputError, match="No such file.*ObjectNet as released"):
        E.objectnet_pictures(half, classes)
    with pytest.raises(InputError, match="mappings"):
        E.objectnet_pictures(tmp_path, classes)


@pytest.mark.parametrize("name, change", [
    ("folder_to_objectnet_label.json", lambda text: text[:40]),
    ("imagenet_to_label_2012_v2", lambda _: "cup"),
    ("pytorch_to_imagenet_2012_id.json", lambda _: '{"0": 5000}')], ids=["torn", "short", "no class"])
def test_broken_mappings_of_objectnet_end_in_one_sentence(world, tmp_path, name, change):
    shutil.copytree(world / "objectnet", tmp_path / "objectnet")
    file = tmp_path / "objectnet" / "mappings" / name
    file.write_text(change(file.read_text()))
    with pytest.raises(InputError, match="four files in mappings"):
        E.objectnet_pictures(tmp_path / "objectnet", ["n0"])


def test_a_subset_is_random_in_order_and_knows_its_numbers(world):
    everything, _ = E.load_data(places(world), torch.nn.Linear(2, 12), 5, None, 0)
    everything, some = everything["imagenet"], everything["imagenet_c"]
    assert len(everything) == 24 and some == [everything[p.number] for p in some]
    numbers = [p.number for p in some]
    assert len(some) == 5 and numbers == sorted(numbers) and numbers != list(range(5))
    wnids = sorted(v[0] for v in demo.CLASSES.values())
    assert all(p.right == {wnids.index(p.path.parent.name)} for p in everything)
    with pytest.raises(InputError, match="12 classes and the model 7"):
        E.load_data(places(world), torch.nn.Linear(2, 7), 5, None, 0)


def test_objectnet_loses_its_red_frame(tmp_path):
    image = np.zeros((40, 50, 3), np.uint8)
    image[:2], image[-2:], image[:, :2], image[:, -2:] = ([255, 0, 0],) * 4
    Image.fromarray(image).save(tmp_path / "a.png")
    some = [E.Picture(tmp_path / "a.png", "cup", {0}, 0)]
    assert E.PictureViews("objectnet", some, PLAIN)[0]["image"].max() == 0
    assert E.PictureViews("imagenet", some, PLAIN)[0]["image"].max() == 1


def test_views_of_imagenet_c_are_its_corruptions_of_the_unresized_picture_by_seed_and_number(tmp_path):
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    whole = Preprocess(64, 64, (0.,) * 3, (1.,) * 3)
    some = [E.Picture(tmp_path / "a.png", "cup", {0}, number) for number in (9, 10)]
    views = E.PictureViews("imagenet_c", some, whole, seed=2)
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    found = views[0]["image"]
    assert found.shape == (15, 3, 64, 64)
    for view, name in zip(found, CORRUPTIONS):
        expected = corrupt(x, name, 5, torch.tensor([2 * 2**32 + 9]))[0]
        torch.testing.assert_close(255 * view, expected.float(), atol=1e-3, rtol=0)
    assert not torch.equal(found[0], views[1]["image"][0])  # noise of its own


def test_the_papers_pictures_are_squeezed_to_256_px_and_lose_16_px_a_side():
    """512x300 px, red left of column 32, blue right of 479, green in columns 100 to 109: squeezed,
    the stripes at the sides are 16 px wide and go, green stays. With the short side at 256 px, 437 px would
    lose 106 a side, green among them."""
    image = np.zeros((300, 512, 3), np.uint8)
    image[:, :32, 0], image[:, 480:, 2], image[:, 100:110, 1] = 255, 255, 255
    pre = E.papers(Preprocess(232, 200, (0.,) * 3, (1.,) * 3, "bilinear", squash=True))
    x = pre(Image.fromarray(image))
    assert x.shape == (3, 224, 224) and x[0, :, 1:].max() == 0 and x[2, :, :-1].max() == 0
    assert x[1, 112].argmax() in (34, 35, 36, 37)  # columns 50 to 54 of 256, less 16


def test_only_the_papers_model_is_given_the_papers_preprocessing(monkeypatch):
    monkeypatch.setattr(E, "load_vit", lambda name, weights, heads: (torch.nn.Identity(), PLAIN))
    _, pre = E.load_model("vit_base_patch16_224", None, torch.device("cpu"))
    assert (pre.resize, pre.crop, pre.squash) == ((256, 256), 224, False)
    assert E.load_model("dinov2_vits14", None, torch.device("cpu"))[1] == PLAIN


# ------------------------------------------------------------------------------------------------ evidence

def answers(benchmark: str, **right) -> dict:
    """Arrays of `measure` of models' right and wrong answers, (n,) or (n, V)."""
    stacked = np.stack([np.reshape(v, (len(v), -1)) for v in right.values()], -1).astype(bool)
    return {"benchmark_models": np.array(list(right)), f"{benchmark}_correct": stacked}


def test_parity_reports_three_bayes_factors_and_discordant_counts():
    rng = np.random.default_rng(3)
    a = (rng.random(4000) < .8).astype(int)
    b = a.copy()
    b[np.flatnonzero(a == 0)[:6]], b[np.flatnonzero(a == 1)[:4]] = 1, 0
    arrays = answers("imagenet", A=a, B=b)
    (test,) = E.parity(arrays)
    d = (b - a).astype(float)
    t = d.mean() / (d.std(ddof=1) / 4000**.5)
    bf01 = {form: np.exp(value) for form, value in test["log_bf01"].items()}
    assert bf01["unit information"] == pytest.approx(4000**.5 * (1 + t**2 / 3999)**-2000)
    assert bf01["JZS, r = 1"] > bf01["JZS, r = 0.707"] > 1
    assert (test["mcnemar"]["b"], test["mcnemar"]["c"]) == (6, 4) and test["pair"] == "B - A"
    both = E.parity(answers("imagenet", A=a, B=b, C=1 - a))
    assert [t["pair"] for t in both] == ["B - A", "C - A"] and both[0]["t"] == test["t"]
    assert both[1]["mcnemar"]["diff"] == pytest.approx((1 - 2 * a).mean())
    summary = {row["name"]: row for row in evaluate(E.CLAIMS, arrays)}
    gap = summary["ImageNet, B - A"]
    assert summary["ImageNet top-1, A"]["ours"] == pytest.approx(100 * a.mean())
    assert gap["ours"] == pytest.approx(100 * d.mean()) and gap["ci"][0] < gap["ours"] < gap["ci"][1]
    assert summary["BF01 ImageNet (JZS, r = 1)"]["ours"] == pytest.approx(bf01["JZS, r = 1"])
    assert summary["BF01 ImageNet (unit information)"]["paper"] == 222


def test_intervals_of_several_views_are_over_images():
    """Two equal views of an image carry no more than one: the intervals are those of the images."""
    rng = np.random.default_rng(4)
    a, b = (rng.random(60) < .7).astype(int), (rng.random(60) < .8).astype(int)
    arrays = answers("imagenet_c", A=np.stack([a, a], 1), B=np.stack([b, b], 1))
    summary, (test,) = {row["name"]: row for row in evaluate(E.CLAIMS, arrays)}, E.parity(arrays)
    assert summary["ImageNet-C top-1, A"]["ci"] == pytest.approx(bootstrap_ci(100. * a, n_boot=2000))
    assert summary["ImageNet-C, B - A"]["ci"] == pytest.approx(bootstrap_ci(100. * (b - a), n_boot=2000))
    assert test["n"] == 120


class Constant(torch.nn.Module):
    """Answers one class whatever it sees."""

    def __init__(self, answer: int):
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.full((len(x),), self.answer), 12).float()


def test_models_answer_side_by_side_and_any_right_class_counts(world, tmp_path):
    pictures, _ = E.load_data(places(world), torch.nn.Linear(2, 12), 2, None, 0)
    pictures["objectnet"] = [p._replace(right={3, 5}) for p in pictures["objectnet"]]
    models = {"A": Constant(3), "B": Constant(5), "C": Constant(4)}
    arrays, unreadable = E.measure(models, PLAIN, pictures, tmp_path, torch.device("cpu"))
    right = E.correct(arrays, "objectnet")
    assert [right[k].mean() for k in "ABC"] == [1, 1, 0] and unreadable == []
    assert arrays["imagenet_correct"].shape == (24, 1, 3) and arrays["imagenet_c_correct"].shape == (2, 15, 3)
    assert E.correct(arrays, "imagenet")["A"].mean() == pytest.approx(1 / 12)


def test_a_baseline_that_recognises_nothing_is_refused(world, tmp_path):
    pictures, _ = E.load_data(places(world), torch.nn.Linear(2, 12), 2, None, 0)
    wrong = [p._replace(right={11}) for p in pictures["imagenet"] * 3]
    with pytest.raises(InputError, match="model A is right on 0.0 % of 72 imagenet images"):
        E.measure({"A": Constant(3)}, PLAIN, {"imagenet": wrong}, tmp_path, torch.device("cpu"))


# ------------------------------------------------------------------------------------------------ the script

def run(world: Path, out: Path, *more: str) -> dict | None:
    tuned = [f"--model-{k.lower()}={E.ROOT}/checkpoints/demo_{k}.pth" for k in "BC"]
    E.main(["--data", str(world), "--model", "demo_sl12", *tuned, "--workers", "0", "--device", "cpu", "--limit",
            "6", "--out", str(out), *more])
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("run")
    return out, run(world, out)


def test_the_command_leaves_answers_figures_and_results(finished):
    out, results = finished
    rows = read_csv(out / "per_image.csv")
    assert list(rows[0]) == "image condition benchmark view class correct".split()
    assert len(rows) == 3 * (6 + 6 * 15 + 6)
    assert {r["view"] for r in rows} == {"", *CORRUPTIONS}
    assert all((out / f"fig_4.{kind}").stat().st_size > 2000 for kind in ("png", "pdf"))
    names = [h["name"] for h in results["headline"]]
    assert {"ImageNet top-1, C", "ObjectNet, B - A", "BF01 ImageNet-C (JZS, r = 1)"} <= set(names)


def test_a_killed_run_classifies_only_the_missing_batches_and_gives_the_same_bytes(world, finished, tmp_path,
                                                                                  monkeypatch):
    classify, seen = E.classify, []

    def classify_and_die(batch, **how):
        seen.append(len(batch["index"]))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return classify(batch, **how)
    monkeypatch.setattr(E, "classify", classify_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path)
    run(world, tmp_path, "--resume")
    assert seen == [6, 2, 2, 2, 2, 6]
    assert (tmp_path / "per_image.csv").read_bytes() == (finished[0] / "per_image.csv").read_bytes()


def test_two_processes_give_the_answers_of_one(world, finished, tmp_path):
    in_group(2, run, world, tmp_path)
    assert (tmp_path / "per_image.csv").read_bytes() == (finished[0] / "per_image.csv").read_bytes()


@pytest.mark.parametrize("wrong, said", [
    (["--imagenet", "typo"], "no such folder"), (["--limit", "5"], "other arguments"),
    (["--frost", "none"], "six textures"), (["--model-b", "none.pth"], "none.pth")], ids=str)
def test_a_finished_run_stays_whole_after_wrong_arguments(world, finished, wrong, said):
    before = {p.name: p.read_bytes() for p in finished[0].iterdir()}
    with pytest.raises(InputError, match=said):
        run(world, finished[0], *wrong)
    assert {p.name: p.read_bytes() for p in finished[0].iterdir()} == before


def test_a_model_that_is_a_is_said_and_left_out(world, tmp_path, capsys):
    vit, _ = E.load_model("demo_sl12", None, torch.device("cpu"))
    torch.save({k: v for k, v in vit.state_dict().items() if ".attn." in k}, tmp_path / "a.pth")
    results = run(world, tmp_path / "o", "--model-b", str(tmp_path / "a.pth"))
    assert "model B: it is A" in results["not_run"][0] and "warning: model B: it is A" in capsys.readouterr().out
    names = [row["name"] for row in results["headline"]]
    assert "ImageNet top-1, C" in names and not [name for name in names if "B" in name.replace("ObjectNet", "")]


def test_a_model_without_a_head_and_absent_data_are_reported_as_not_run(world):
    _, not_run = E.load_data(places(world), torch.nn.Identity(), 2, None, 0)
    assert not_run == ["benchmarks: the model has no classification head"]
    objectnet = places(world) | {"imagenet": None}
    pictures, not_run = E.load_data(objectnet, torch.nn.Linear(2, 12), 2, None, 0)
    assert pictures == {} and [line.split(":")[0] for line in not_run] == ["ImageNet", "ImageNet-C", "ObjectNet"]
    pictures, not_run = E.load_data(objectnet, torch.nn.Linear(2, 1000), 2, 3, 0)
    assert len(pictures["objectnet"]) == 3 and len(not_run) == 2
    pictures, not_run = E.load_data(places(world), torch.nn.Linear(2, 12), 0, 5, 0, wanted=["imagenet"])
    assert list(pictures) == ["imagenet"] and not_run == []


# ------------------------------------------------------------------------------------------------ other files

def test_files_of_an_ending_that_nothing_reads_are_counted_and_named(world, tmp_path, capsys):
    """An iPhone's .heic and a stray .txt beside ImageNet's pictures."""
    folder = tmp_path / "imagenet"
    shutil.copytree(world / "imagenet" / "val", folder / "val")
    some = sorted((folder / "val").glob("n*"))[0]
    for name in ("a.heic", "notes.txt", "._b.heic"):
        (some / name).write_bytes(b"1")
    E.main(["--imagenet", str(folder), *"--model demo_sl4 --limit 6 --workers 0 --device cpu".split(), "--out",
            str(tmp_path / "o")])
    results = json.loads((tmp_path / "o/results.json").read_text())
    assert results["left_out"] == {"of an ending that nothing reads": [f"{some.name}/a.heic", f"{some.name}/notes.txt"]}
    assert f"left out, of an ending that nothing reads: 2 ({some.name}/a.heic ...;" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["--imagenet", "--objectnet"])
def test_a_folder_in_another_layout_is_told_before_weights_are_sought(world, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(E, "load_model", lambda *a: pytest.fail("weights before data"))
    with pytest.raises(InputError, match=str(tmp_path)):
        E.main([wrong, str(tmp_path), "--out", str(tmp_path / "o")])
