"""exp01_benchmarks: labels, views and evidence of the benchmarks are the paper's, no kill changes an answer."""
import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from PIL import Image

import demo
import exp01_benchmarks as E
import exp01_claims as C
from by_formula import assert_same, bars, interval, log_jzs, mcnemar, paired
from common import InputError, generator
from corruptions import CORRUPTIONS, corrupt
from data import imagenet_wnids, read_csv
from processes import in_group
from results import PALETTE, evaluate
from weights import Preprocess

torch.set_num_threads(1)
PLAIN = Preprocess(36, 36, (0.,) * 3, (1.,) * 3)


@pytest.fixture(scope="module")
def world() -> Path:
    """Two pictures a class and benchmark."""
    return demo.demo_world(parts=("imagenet", "objectnet"))


def places(world: Path) -> dict[str, Path]:
    return {name: world / name for name in ("imagenet", "objectnet")}


# ------------------------------------------------------------------------------------------------ pictures

def test_a_folder_of_objectnet_is_right_by_all_its_names(tmp_path):
    """Two names of one label; the lines of the names, ImageNet's indices and the model's outputs in other orders."""
    wnids = imagenet_wnids()
    mappings = dict(folder_to_objectnet_label={"cup": "Cup", "hat": "Hat", "bag": "Bag"},
                    objectnet_to_imagenet_1k={"Cup": "mug; goblet", "Hat": "bonnet"},
                    pytorch_to_imagenet_2012_id={"700": 0, "20": 1, "3": 2, "41": 3})
    for folder in ("mappings", "images/cup", "images/hat", "images/bag"):
        (tmp_path / folder).mkdir(parents=True)
    for name, content in mappings.items():
        (tmp_path / "mappings" / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "mappings" / "imagenet_to_label_2012_v2").write_text("bonnet\ngoblet\nelse\nmug\n")
    for name in ("hat/a.png", "cup/b.png", "cup/c.jpg", "cup/d.txt", "bag/e.png"):
        (tmp_path / "images" / name).write_bytes(b"1")
    of_model = [wnids[41], wnids[700], wnids[5], wnids[20]]
    found = [(p.path.name, p.folder, p.right, p.number) for p in E.objectnet_pictures(tmp_path, of_model)]
    assert found == [("b.png", "cup", {0, 3}, 0), ("c.jpg", "cup", {0, 3}, 1), ("a.png", "hat", {1}, 2)]
    found = [(p.path.name, p.right) for p in E.objectnet_pictures(tmp_path, of_model[2:])]
    assert found == [("b.png", {1}), ("c.jpg", {1})]  # of classes that the model knows


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
    drawn = []
    for seed in (0, 1):  # six of each, five of ImageNet-C
        six, _ = E.load_data(places(world), torch.nn.Linear(2, 12), 5, 6, seed)
        drawn.append([[p.number for p in pictures] for pictures in six.values()])
        assert list(map(len, drawn[-1])) == [6, 5, 6] and set(drawn[-1][1]) < set(drawn[-1][0])
        assert all(part == sorted(part) for part in drawn[-1])
    assert all(a != b for a, b in zip(*drawn)) and drawn[0][0] != list(range(6))
    wnids = sorted(v[0] for v in demo.CLASSES.values())
    assert all(p.right == {wnids.index(p.path.parent.name)} for p in everything)
    with pytest.raises(InputError, match="12 classes and the model 7"):
        E.load_data(places(world), torch.nn.Linear(2, 7), 5, None, 0)


def test_objectnet_loses_its_red_frame(tmp_path):
    image = np.zeros((40, 50, 3), np.uint8)
    image[:2], image[-2:], image[:, :2], image[:, -2:] = ([255, 0, 0],) * 4
    image[2, 2], image[37, 47] = 200, 100  # the corners within it stay
    Image.fromarray(image).save(tmp_path / "a.png")
    some, whole = [E.Picture(tmp_path / "a.png", "cup", {0}, 0)], dataclasses.replace(PLAIN, crop=(36, 46), squash=True)
    inner = np.rint(255 * E.PictureViews("objectnet", some, whole)[0]["image"][0].permute(1, 2, 0).numpy())
    assert np.array_equal(inner, image[2:38, 2:48])
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

SETS = {"imagenet": ("ImageNet", 60, 1), "imagenet_c": ("ImageNet-C", 18, 15), "objectnet": ("ObjectNet", 40, 1)}


def three_benchmarks() -> dict:
    """Arrays of `measure`: no two models, benchmarks or views are alike."""
    rng, arrays = np.random.default_rng(3), {"benchmark_models": np.array(list("ABC"))}
    for i, (key, (_, n, views)) in enumerate(SETS.items()):
        easy = .3 * rng.random((n, views, 1)) + .3 * rng.random((n, 1, 1)) + np.linspace(-.1, .1, views)[:, None]
        arrays[f"{key}_correct"] = rng.random((n, views, 3)) < easy + [.4 - .1 * i, .5 - .1 * i, .3]
        arrays[f"{key}_image"] = np.array([f"{key}/{k}.png" for k in range(n)])
        arrays[f"{key}_class"] = np.array([f"n{k % 7}" for k in range(n)])
    return arrays


def bayes_factors(t: float, n: int) -> dict[str, float]:
    return {"unit information": math.log(n) / 2 - n / 2 * math.log(1 + t**2 / (n - 1)),
            "JZS, r = 1": log_jzs(t, n, 1.), "JZS, r = 0.707": log_jzs(t, n, math.sqrt(.5))}


def test_every_entry_of_the_tests_is_the_number_of_its_formula():
    arrays, expected = three_benchmarks(), []
    for key, (name, n, views) in SETS.items():
        a, b, c = arrays[f"{key}_correct"].reshape(-1, 3).T.astype(float)
        for k, v in (("B", b), ("C", c)):
            test = paired(v, a)
            expected.append(test | dict(benchmark=name, pair=f"{k} - A", n=n * views, mcnemar=mcnemar(v, a),
                                        log_bf01=bayes_factors(test["t"], n * views)))
    found = C.parity(arrays)
    assert len(found) == len(expected) == 6
    for one, other in zip(found, expected):
        assert_same(one, other)


def test_every_line_of_the_table_is_the_number_of_its_formula():
    """Intervals of pictures with several views are over pictures."""
    arrays, expected = three_benchmarks(), []
    paper = {"ImageNet": 222., "ImageNet-C": 242.8, "ObjectNet": 89.}
    for key, (name, n, views) in SETS.items():
        right = 100. * arrays[f"{key}_correct"]
        for k, v in zip("ABC", np.moveaxis(right, 2, 0)):
            expected.append(dict(name=f"{name} top-1, {k}", paper=None, ours=v.mean(), ci=interval(v.mean(1), 2000),
                                 n=n * views, unit="%"))
        d = (right[..., 1] - right[..., 0]).mean(1)
        ci = interval(d, 2000)
        if views == 1:
            ci = tuple(100 * v for v in mcnemar(right[:, 0, 1] / 100, right[:, 0, 0] / 100)["ci"])
        expected.append(dict(name=f"{name}, B - A", paper=None, ours=d.mean(), ci=ci, n=n * views, unit="points"))
        bf01 = bayes_factors(paired(right[..., 1].ravel(), right[..., 0].ravel())["t"], n * views)
        for form in ("unit information", "JZS, r = 1"):
            expected.append(dict(name=f"BF01 {name} ({form})", paper=paper[name], ours=math.exp(bf01[form]), ci=None,
                                 n=n * views, unit=""))
    found = evaluate(C.RECOGNITION, arrays)
    assert [row["name"] for row in found] == [row["name"] for row in expected]
    for row, other in zip(found, expected):
        row.pop("verdict")
        assert_same(row, other)


def test_the_figure_shows_accuracies_evidence_and_who_is_better_where(monkeypatch, tmp_path):
    arrays, kept = three_benchmarks(), []
    monkeypatch.setattr(E.results, "save_figure", lambda fig, path: kept.append(fig.axes))
    E.draw(arrays, {}, tmp_path)
    arrays["imagenet_class"] = np.array([f"n{k % 25:02d}" for k in range(60)])
    E.draw(arrays, {}, tmp_path)  # too many classes for bars
    (accuracy, evidence, corruptions, classes), (*_, dots) = kept
    right = {key: 100. * arrays[f"{key}_correct"] for key in SETS}
    expected = [(right[key][..., m].mean(), *interval(right[key][..., m].mean(1), 2000))
                for m in range(3) for key in SETS]
    assert bars(accuracy) == pytest.approx(np.array(expected))
    labels = [text.get_text() for text in accuracy.get_xticklabels()]
    assert labels == ["ImageNet\nn = 60", "ImageNet-C\nn = 18", "ObjectNet\nn = 40"]
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == list("ABC")
    bf01 = [bayes_factors(paired(*right[key].reshape(-1, 3)[:, [1, 0]].T)["t"], n * views)
            for key, (_, n, views) in SETS.items()]
    for line in evidence.lines:
        assert line.get_xdata().tolist() == [name for name, *_ in SETS.values()]
        assert line.get_ydata() == pytest.approx([math.exp(one[line.get_label()]) for one in bf01])
    some = {size: [np.arange(60) % size == k for k in range(size)] for size in (7, 25)}
    for m, k in enumerate("AB"):
        bar, of_class = corruptions.containers[m], classes.containers[m]
        assert bar.patches[0].get_facecolor() == to_rgba(PALETTE[k])
        assert [one.get_width() for one in bar] == pytest.approx(right["imagenet_c"][..., m].mean(0))
        assert [one.get_width() for one in of_class] == pytest.approx(
            [right["imagenet"][one, 0, m].mean() for one in some[7]])
    assert [text.get_text() for text in corruptions.get_yticklabels()] == [c.replace("_", " ") for c in CORRUPTIONS]
    a, b = (np.array([right["imagenet"][one, 0, m].mean() for one in some[25]]) for m in (0, 1))
    (cloud,) = dots.collections
    assert np.asarray(cloud.get_offsets()) == pytest.approx(np.stack([a, b], 1))
    better = ["B" if y > x else "A" if y < x else "C" for x, y in zip(a, b)]  # grey: neither
    assert [tuple(c) for c in cloud.get_facecolors()] == [to_rgba(PALETTE[k]) for k in better]
    assert set(better) == set("ABC")


def test_a_row_of_the_csv_is_an_answer_of_a_model_to_a_view():
    arrays, rows = three_benchmarks(), []
    for key, (_, n, views) in SETS.items():
        for i, v, m in np.ndindex(n, views, 3):
            rows.append(dict(image=f"{key}/{i}.png", condition="ABC"[m], benchmark=key, **{"class": f"n{i % 7}"},
                             view=list(CORRUPTIONS)[v] if views > 1 else "",
                             correct=int(arrays[f"{key}_correct"][i, v, m])))
    assert E.table(arrays) == rows


def linear(seed: int) -> torch.nn.Module:
    """Twelve classes, a random weight of every pixel of 3 x 36 x 36."""
    layer = torch.nn.Linear(3 * 36 * 36, 12)
    layer.weight.data = torch.randn(12, 3 * 36 * 36, generator=generator(seed, 1))
    layer.bias.data = torch.arange(12.)
    return torch.nn.Sequential(torch.nn.Flatten(), layer)


def test_every_answer_is_that_of_its_picture_view_and_model_and_any_right_class_counts(world, tmp_path):
    """One to six right classes a picture; the third picture of every benchmark cannot be read."""
    pictures, _ = E.load_data(places(world), torch.nn.Linear(2, 12), 5, 9, 0)
    (tmp_path / "broken.png").write_bytes(b"no image")
    gen = generator(4)
    for name, some in pictures.items():
        rights = [set(torch.randperm(12, generator=gen)[:1 + i % 6].tolist()) for i in range(len(some))]
        pictures[name] = [p._replace(right=right) for p, right in zip(some, rights)]
        pictures[name][2] = some[2]._replace(path=tmp_path / "broken.png")
    models = {"A": linear(1), "B": linear(2), "C": linear(3)}
    arrays, unreadable = E.measure(models, PLAIN, pictures, tmp_path, torch.device("cpu"), seed=5)
    assert [name.split("/")[0] for name in unreadable] == list(pictures) and len(pictures) == 3
    for name, some in pictures.items():
        views, read = E.PictureViews(name, some, PLAIN, seed=5), [i for i in range(len(some)) if i != 2]
        assert arrays[f"{name}_image"].tolist() == [f"{name}/{some[i].path.parent.name}/{some[i].path.name}"
                                                    for i in read]
        assert arrays[f"{name}_class"].tolist() == [some[i].folder for i in read]
        expected = []
        for i in read:
            x = views[i]["image"].flatten(1)
            answers = [(x @ net[1].weight.T + torch.arange(12.)).max(1).indices.tolist() for net in models.values()]
            expected.append([[answer in some[i].right for answer in view] for view in zip(*answers)])
        assert arrays[f"{name}_correct"].tolist() == expected
        assert 0 < np.mean(expected) < 1


def test_all_corruptions_are_of_severity_5_of_the_seed_and_with_the_folder_of_frost(tmp_path, monkeypatch):
    asked = []

    def corrupt(views, name, severity, seeds, frost_dir):
        asked.append((name, severity, seeds.tolist(), frost_dir))
        return views
    monkeypatch.setattr(E, "corrupt", corrupt)
    Image.new("RGB", (36, 36)).save(tmp_path / "a.png")
    some = [E.Picture(tmp_path / "a.png", "n", {11}, number) for number in (4, 2)]
    E.measure({"A": linear(1)}, PLAIN, {"imagenet_c": some}, tmp_path, torch.device("cpu"), seed=6,
              frost_dir=tmp_path / "frost")
    assert asked == [(name, 5, [6 * 2**32 + number], tmp_path / "frost") for number in (4, 2) for name in CORRUPTIONS]


@pytest.mark.parametrize("n, known, refused", [(50, 2, True), (60, 3, False), (49, 0, False)])
def test_a_baseline_below_five_per_cent_of_fifty_pictures_is_refused(tmp_path, n, known, refused):
    """A is right on the first ones alone: 4 %, 5 %, or of too few pictures; C on all the others."""
    Image.new("RGB", (36, 36)).save(tmp_path / "a.png")
    pictures = [E.Picture(tmp_path / "a.png", "n", {11} if i < known else {9}, i) for i in range(n)]
    models = {"A": linear(1), "C": linear(3)}  # A answers 11 to a black picture
    models["C"][1].bias.data[9] = 99.
    if refused:
        with pytest.raises(InputError, match="model A is right on 4.0 % of 50 imagenet images"):
            E.measure(models, PLAIN, {"imagenet": pictures}, tmp_path / "o", torch.device("cpu"))
    else:
        arrays, _ = E.measure(models, PLAIN, {"imagenet": pictures}, tmp_path / "o", torch.device("cpu"))
        assert arrays["imagenet_correct"][:, 0].sum(0).tolist() == [known, n - known]


def test_the_papers_settings_are_the_default():
    assert E.PAPER == dict(model="vit_base_patch16_224", imagenet_c_images=5000)
    assert (E.RESIZE, E.CROP, E.SEVERITY) == ((256, 256), 224, 5)


# ------------------------------------------------------------------------------------------------ the script

def run(world: Path, tuned: dict, out: Path, *more: str) -> dict | None:
    E.main(["--data", str(world), "--model", "demo_sl4", *[f"--model-{k.lower()}={tuned[k]}" for k in "BC"],
            "--workers", "0", "--device", "cpu", "--limit", "4", "--out", str(out), *more])
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def finished(world, tuned, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("run")
    return out, run(world, tuned, out)


@pytest.fixture
def no_figures(finished, monkeypatch) -> None:
    """Those of `finished` are enough."""
    monkeypatch.setattr(E, "draw", lambda *of: None)


def test_the_command_leaves_answers_figures_and_results(finished):
    out, results = finished
    rows = read_csv(out / "per_image.csv")
    assert list(rows[0]) == "image condition benchmark view class correct".split()
    assert len(rows) == 3 * (4 + 4 * 15 + 4)
    assert {r["view"] for r in rows} == {"", *CORRUPTIONS}
    assert {p.name for p in out.glob("fig*")} == {"fig_4.png", "fig_4.pdf"}
    names = [h["name"] for h in results["headline"]]
    assert {"ImageNet top-1, C", "ObjectNet, B - A", "BF01 ImageNet-C (JZS, r = 1)"} <= set(names)


def test_the_seed_chooses_pictures_and_their_corruptions(world, tuned, tmp_path, monkeypatch):
    given = []

    def measure(models, pre, pictures, folder, device, workers, bfloat16, seed, frost_dir, batch_size):
        given.append(({name: [p.number for p in some] for name, some in pictures.items()}, seed, list(models)))
        raise KeyboardInterrupt
    monkeypatch.setattr(E, "measure", measure)
    for seed in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            run(world, tuned, tmp_path / str(seed), "--seed", str(seed))
    (some, three, models), (others, four, _) = given
    assert (three, four, models) == (3, 4, ["A", "B", "C"])
    assert list(some) == list(others) == list(SETS) and all(some[name] != others[name] for name in some)


def test_a_killed_run_classifies_only_the_missing_batches_and_gives_the_same_bytes(
        world, tuned, finished, tmp_path, no_figures, monkeypatch):
    classify, seen = E.classify, []

    def classify_and_die(batch, **how):
        seen.append(len(batch["index"]))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return classify(batch, **how)
    monkeypatch.setattr(E, "classify", classify_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(world, tuned, tmp_path)
    run(world, tuned, tmp_path, "--resume")
    assert seen == [4, 2, 2, 2, 4]
    assert (tmp_path / "per_image.csv").read_bytes() == (finished[0] / "per_image.csv").read_bytes()


def test_two_processes_give_the_answers_of_one(world, tuned, finished, tmp_path, no_figures):
    in_group(2, run, world, tuned, tmp_path)
    assert (tmp_path / "per_image.csv").read_bytes() == (finished[0] / "per_image.csv").read_bytes()


@pytest.mark.parametrize("wrong, said", [
    (["--imagenet", "typo"], "no such folder"), (["--limit", "3"], "other arguments"),
    (["--frost", "none"], "six textures"), (["--model-b", "none.pth"], "none.pth")], ids=str)
def test_a_finished_run_stays_whole_after_wrong_arguments(world, tuned, finished, wrong, said):
    before = {p.name: p.read_bytes() for p in finished[0].iterdir()}
    with pytest.raises(InputError, match=said):
        run(world, tuned, finished[0], *wrong)
    assert {p.name: p.read_bytes() for p in finished[0].iterdir()} == before


def test_a_model_that_is_a_is_said_and_left_out(world, tuned, tmp_path, capsys):
    vit, _ = E.load_model("demo_sl4", None, torch.device("cpu"))
    torch.save({k: v for k, v in vit.state_dict().items() if ".attn." in k}, tmp_path / "a.pth")
    results = run(world, tuned, tmp_path / "o", "--limit", "2", "--model-b", str(tmp_path / "a.pth"))
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
