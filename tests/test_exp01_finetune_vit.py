"""exp01: the training is the paper's, planted effects are found."""
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import demo
import exp01_finetune_vit as E
import gaze_tuning
from common import (BASE, InputError, Preprocess, VisionTransformer, bootstrap_ci, cc, density_map, generator,
                    observer_consistency)
from gaze_tuning import (GazeData, GazeTuner, Recipe, RolloutViT, alignment_tables, attention_kl,
                         attention_state, coco_categories, coco_files, gaze_features, gaze_files, human_maps,
                         load_gaze, load_tuned, parity_tests, read_coco)
from legacy import RowLog, fingerprint, load_checkpoint, read_csv, save_checkpoint
from processes import FORK, in_group

torch.set_num_threads(1)
SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))

# ------------------------------------------------------------------------------------------------ the loss

def small_vit(**more) -> VisionTransformer:
    shape = dict(patch_size=16, embed_dim=24, depth=3, num_heads=2, num_classes=3)
    vit = VisionTransformer(64, **shape | more)
    vit.init_weights(generator(1))
    for block in vit.blocks:  # sharper attention than at the start of a training
        block.attn.qkv.weight.data.mul_(8)
    return vit.eval()


@pytest.mark.parametrize("reverse", [False, True], ids=["KL(human || model)", "KL(model || human)"])
def test_loss_through_the_rollout_has_the_right_gradient(reverse):
    vit = small_vit(embed_dim=6, depth=2).double()
    net, x = RolloutViT(vit, (16, 16)), torch.randn(1, 3, 64, 64, generator=generator(2)).double()
    q = torch.rand(1, 16, 16, generator=generator(3)).double()

    def loss(*weights):
        features, maps = torch.func.functional_call(net, dict(zip(names, weights)), x)
        return attention_kl(*((q, maps) if reverse else (maps, q))), features.square().mean(1)
    names = [f"vit.{k}" for k in attention_state(vit)]
    weights = [v.clone().requires_grad_() for v in attention_state(vit).values()]
    assert torch.autograd.gradcheck(loss, weights, eps=1e-6, atol=1e-6, rtol=1e-4)


def test_attention_kl_equals_its_formula_and_is_zero_for_equal_maps():
    p, q = (torch.rand(3, 20, 30, generator=generator(i)).double() for i in (1, 2))
    a, b = (m / m.sum((1, 2), keepdim=True) + 1e-10 for m in (p, q))
    torch.testing.assert_close(attention_kl(p, q), (b * (b / a).log()).sum((1, 2)))
    assert attention_kl(p, 7 * p).abs().max() < 1e-12
    assert torch.isfinite(attention_kl(torch.zeros(1, 4, 4), q[:1, :4, :4].float())).all()


def test_rollout_map_equals_the_full_matrix_product():
    vit, x = small_vit(), torch.randn(2, 3, 64, 96, generator=generator(5))
    with torch.no_grad():
        attn = vit.encode(vit.embed(x), full_attn=True).attn
        product = torch.eye(25)
        for a in attn:  # block 0 first: later matrices from the left
            a = a.mean(1) + torch.eye(25)
            product = a / a.sum(-1, keepdim=True) @ product
        features, maps = RolloutViT(vit)(x)
    row = product[:, :1, 1:].view(2, 1, 4, 6)
    big = torch.nn.functional.interpolate(row, (224, 224), mode="bilinear")[:, 0]
    low, high = big.amin((1, 2), keepdim=True), big.amax((1, 2), keepdim=True)
    torch.testing.assert_close(maps, (big - low) / (high - low), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(vit.head(vit.norm(features)), vit(x), atol=1e-4, rtol=1e-4)


def test_trainable_share_is_the_papers():
    with torch.device("meta"):
        vit = VisionTransformer(224, 16, num_classes=1000, **BASE)
    assert E.tunable(vit) == (28_348_416, 86_567_656)  # 32.7 %


def test_paper_defaults():
    args = E.parse("--salicon SALICON --coco COCO --imagenet IMAGENET --objectnet OBJECTNET".split())
    assert (args.lr, args.batch_size, args.epochs, args.eval_every) == (1e-5, 8, 20, 200)
    assert (args.patience, args.min_delta, args.lam) == (3, 1e-3, 1.)
    assert (args.severity, args.imagenet_c_images) == (5, 5000)
    assert args.model == "vit_base_patch16_224" and args.kl == "human" and args.corrupt_at == "original"
    args = E.parse("--salicon OSIE --model dinov2_vits14 --stages B C --resume".split())
    assert args.data is None and args.stages == ["B", "C"]


def test_no_image_keeps_its_map_in_the_control():
    for n in (2, 3, 10_000):
        target = E.derangement(n)
        assert sorted(target) == list(range(n)) and (target != np.arange(n)).all()
    assert (E.derangement(50) == E.derangement(50, 42)).all()
    assert (E.derangement(50) != E.derangement(50, 1)).any()


# ------------------------------------------------------------------------------------------------ training

PRE = Preprocess(None, 64, (.5,) * 3, (.5,) * 3, "bilinear", squash=True)


def tuned(blobs: list, out: Path, shuffled: bool = False, resume: bool = False, **more) -> tuple:
    vit, stem = small_vit(), out / f"tuned_{'C' if shuffled else 'B'}"
    _, features, _ = gaze_features(RolloutViT(vit), blobs, PRE, torch.device("cpu"), 0)
    recipe = Recipe(**dict(lr=3e-3, epochs=6, eval_every=4, lam=10.) | more)
    return E.tune(vit, PRE, blobs, features, shuffled, recipe, stem, 0, resume, False), vit


def held_out_cc(vit: VisionTransformer, blobs: list) -> float:
    data = [GazeData(blobs, PRE)[i] for i in range(len(blobs))]
    with torch.no_grad():
        _, maps = RolloutViT(vit)(torch.stack([x for _, x, _ in data]))
    return float(cc(maps, human_maps(torch.stack([c for *_, c in data]))).mean())


def test_tuning_finds_planted_fixations_and_shuffled_fixations_do_not(blobs, tmp_path):
    _, b = tuned(blobs[:40], tmp_path)
    _, c = tuned(blobs[:40], tmp_path, shuffled=True)
    a_cc, b_cc, c_cc = (held_out_cc(v, blobs[40:]) for v in (small_vit(), b, c))
    assert b_cc > a_cc + .1 and b_cc > c_cc + .1 and c_cc < a_cc + .02, (a_cc, b_cc, c_cc)


def test_only_attention_weights_move_and_the_file_restores_the_model(blobs, tmp_path):
    record, vit = tuned(blobs[:20], tmp_path, epochs=2)
    start, now = small_vit().state_dict(), vit.state_dict()
    moved = {k for k in now if not torch.equal(start[k], now[k])}
    assert moved == set(attention_state(vit))
    again = load_tuned(small_vit(), tmp_path / "tuned_B.pth").state_dict()
    assert all(torch.equal(again[k], now[k]) for k in now)
    assert record["train"] == 18 and record["held_out"] == 2 and record["step"] == 4
    with pytest.raises(InputError, match="tuned weights"):
        load_tuned(small_vit(depth=2), tmp_path / "tuned_B.pth")


def test_training_stops_early_and_keeps_the_lowest_validation_loss(blobs, tmp_path):
    record, _ = tuned(blobs[:40], tmp_path, lr=.3, eval_every=1, patience=3, epochs=20)  # diverges
    log = read_csv(tmp_path / "tuned_B.csv")
    losses = [r["val_loss"] for r in log]
    assert record["step"] < record["of_steps"] == 80 and record["lowest"] == min(losses)
    best = record["best_step"]
    assert losses[best] == min(losses) and record["step"] == best + 3


def test_killed_and_resumed_training_equals_uninterrupted_bit_for_bit(blobs, tmp_path):
    tuned(blobs[:40], tmp_path / "a", epochs=3)
    child = FORK.Process(target=tuned, args=(blobs[:40], tmp_path / "b"), kwargs=dict(epochs=3))
    child.start()
    file = tmp_path / "b" / "tuned_B.pt"
    while not file.exists() or load_checkpoint(file)["step"] < 4:
        assert child.is_alive()
        time.sleep(.005)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not (tmp_path / "b" / "tuned_B.pth").exists()
    tuned(blobs[:40], tmp_path / "b", epochs=3, resume=True)
    for name in ("tuned_B.pth", "tuned_B.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_training_killed_between_its_last_files_writes_all_when_resumed(blobs, tmp_path, monkeypatch):
    tuned(blobs[:20], tmp_path / "a", epochs=1)
    with monkeypatch.context() as m:
        m.setattr(gaze_tuning, "write_json", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tuned(blobs[:20], tmp_path / "b", epochs=1)
    assert not (tmp_path / "b" / "tuned_B.pth").exists()  # whose presence tells a resumed run to go on
    tuned(blobs[:20], tmp_path / "b", epochs=1, resume=True)
    assert {p.name for p in (tmp_path / "a").iterdir()} == {p.name for p in (tmp_path / "b").iterdir()}


def tuner_of(blobs: list, out: Path, **more) -> GazeTuner:
    vit = small_vit()
    E.tunable(vit)
    recipe = Recipe(**dict(batch_size=4, eval_every=1, epochs=2) | more)
    return GazeTuner(RolloutViT(vit), GazeData(blobs, PRE), torch.zeros(len(blobs), 24), range(8),
                     range(8, 12), recipe, out / "t.pt")


def test_a_checkpoint_of_something_else_is_refused_by_a_resumed_training(blobs, tmp_path):
    for odd in ({}, {"step": 3}, [1], {"optimiser": {}, "now": {}}):
        save_checkpoint(odd, tmp_path / "t.pt")
        with pytest.raises(InputError, match="t.pt: .*a checkpoint of this training"):
            tuner_of(blobs, tmp_path).resume()


@pytest.mark.parametrize("kl", ["human", "model"])
def test_loss_is_distillation_and_kl_in_the_stated_direction(blobs, tmp_path, kl):
    tuner = tuner_of(blobs[:12], tmp_path, kl=kl)
    batch = next(iter(tuner.loader([[0, 1]])))
    (features, maps), human = tuner.net(batch[0]), human_maps(batch[1])
    mse, found = tuner.loss(batch, tuner.net)
    torch.testing.assert_close(found, attention_kl(*((maps, human) if kl == "human" else (human, maps))))
    torch.testing.assert_close(mse, features.square().mean(1))  # the teacher's features are zeros


def test_gains_below_min_delta_end_the_training_and_a_worse_model_is_not_kept(blobs, tmp_path):
    assert tuner_of(blobs[:12], tmp_path, min_delta=1e6, patience=2, epochs=9).run()["step"] == 2
    tuner = tuner_of(blobs[:12], tmp_path, lr=.5, patience=2, epochs=9)
    assert tuner.run()["best_step"] == 0
    start = small_vit().state_dict()
    assert all(torch.equal(v, start[k]) for k, v in tuner.net.vit.state_dict().items())


def test_gains_below_min_delta_add_up_to_one(blobs, tmp_path, monkeypatch):
    tuner, losses = tuner_of(blobs[:12], tmp_path, min_delta=1., lam=0.), iter([10., 9.4, 8.8, 8.2])
    monkeypatch.setattr(tuner, "loss", lambda batch, _: torch.full((2, len(batch[2])), next(losses)))
    waited = []
    for _ in range(4):
        tuner.validate(float("nan"))
        waited.append(tuner.state["waited"])
    assert waited == [0, 1, 0, 1] and tuner.state["lowest"] == pytest.approx(8.2)


def test_control_s_maps_are_dealt_anew_within_the_training_and_the_held_out_set(blobs, tmp_path, monkeypatch):
    seen = []

    class Recorder(GazeTuner):
        def __init__(self, net, data, teacher, *more):
            seen.append((data.target, *map(list, more[:2])))
            super().__init__(net, data, teacher, *more)
    monkeypatch.setattr(E, "GazeTuner", Recorder)
    for shuffled in (False, True):
        tuned(blobs[:40], tmp_path, shuffled, epochs=1, eval_every=99, batch_size=36)
    (b, *_), (c, *parts) = seen
    assert (b == np.arange(40)).all()
    assert [len(part) for part in parts] == [36, 4]
    for part in parts:
        assert sorted(c[part]) == part and (c[part] != part).all()


def test_two_processes_train_the_same_model(blobs, tmp_path):
    tuned(blobs[:24], tmp_path / "one", epochs=2, eval_every=2)
    (tmp_path / "two").mkdir()
    in_group(2, two_train, blobs[:24], tmp_path / "two")
    a, b = (read_csv(tmp_path / k / "tuned_B.csv") for k in ("one", "two"))
    assert [r["val_loss"] for r in a] == pytest.approx([r["val_loss"] for r in b], rel=1e-4)
    assert [r["train_loss"] for r in a[1:]] == pytest.approx([r["train_loss"] for r in b[1:]], rel=1e-4)


def two_train(blobs: list, out: Path) -> None:
    tuned(blobs, out, epochs=2, eval_every=2)


# ------------------------------------------------------------------------------------------------ alignment

def some_observers(n: int, seed: int) -> list:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 40, n)
    return [tuple(rng.integers(0, 224, (2, k)) // (1 + i % 3)) for i, k in enumerate(counts)]


def test_consistency_equals_the_loop_over_pairs_of_maps():
    observers = some_observers(7, 1)
    observers[3] = (np.array([5, 5, 5]), np.array([9, 9, 300]))  # repeated, and outside
    maps = [density_map(r, c, (224, 224), 15).numpy().ravel() for r, c in observers]
    pairs = [np.corrcoef(a, b)[0, 1] for i, a in enumerate(maps) for b in maps[:i]]
    assert observer_consistency(observers, (224, 224), 15.) == pytest.approx(np.mean(pairs), abs=1e-9)


def test_observers_without_fixations_do_not_count_in_consistency():
    observers, empty = some_observers(4, 2), (np.empty(0), np.empty(0))
    with_empty = observer_consistency([empty, *observers, empty], (224, 224), 15.)
    assert with_empty == observer_consistency(observers, (224, 224), 15.)
    assert np.isnan(observer_consistency([observers[0], empty], (224, 224), 15.))


@pytest.mark.real
@pytest.mark.skipif(not (SHARED / "real" / "salicon").exists(), reason="no real SALICON at GAZE_SHARED")
def test_consistency_of_real_salicon_images(tmp_path):
    folder = SHARED / "real" / "salicon"
    shutil.copy(next(folder.glob("*.json")), tmp_path / "fixations_train2014.json")
    (tmp_path / "images").symlink_to(folder / "images")
    images, _ = load_gaze(tmp_path, "train")
    values = []
    for image in images:
        values.append(observer_consistency(image.observers, (224, 224), 15.))
        maps = torch.stack([density_map(r, c, (224, 224), 15) for r, c in image.observers])
        z = (maps - maps.mean((1, 2), keepdim=True)).flatten(1)
        r = (z / z.norm(dim=1, keepdim=True)).numpy()
        loop = [a @ b for i, a in enumerate(r) for b in r[:i]]
        assert values[-1] == pytest.approx(np.mean(loop), abs=1e-6)
    assert len(values) == 10 and np.mean(values) == pytest.approx(.395, abs=.005)


def rows_of(table: dict, **more) -> list[dict]:
    n = len(next(iter(table.values())))
    return [{"image": f"{i:03d}", "condition": k, **{c: v for c in ("cc", "nss", "auc", "kl", "sim")}} | more
            for k, values in table.items() for i, v in zip(range(n), values)]


def test_alignment_tests_are_paired_and_headroom_gain_follows_its_formula():
    rng = np.random.default_rng(0)
    a = rng.uniform(.2, .6, 80)
    consistency = rng.uniform(.2, .8, 80)
    b, c = a + .2 - .2 * consistency, a + .01 * rng.standard_normal(80)
    rows = rows_of({"A": a, "B": b, "C": c})
    headline, tests = alignment_tables(rows, ("BA", "BC", "CA"))
    found = next(t for t in tests if t.get("pair") == "B - A" and t["metric"] == "cc")
    d = b - a
    assert found["t"] == pytest.approx(d.mean() / (d.std(ddof=1) / 80**.5)) and found["df"] == 79
    assert found["dz"] == pytest.approx(found["t"] / 80**.5)
    human = [{"image": f"{i:03d}", "consistency": v} for i, v in enumerate(consistency)]
    headline, tests, quartiles = E.consistency_tests(rows, human)
    r = next(t for t in tests if t["y"] == "gain B - A")
    assert r["r"] == pytest.approx(-1) and next(h for h in headline if "r(gain" in h["name"])["paper"] == -.55
    head = next(h for h in headline if h["name"] == "headroom gain")["ours"]
    assert head == pytest.approx(np.mean(d / (1 - a + 1e-8)))
    assert [q["n"] for q in quartiles] == [20] * 4
    gains = [q["gain_A"] for q in quartiles]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] == pytest.approx(d[np.argsort(consistency)[:20]].mean())


def test_parity_reports_three_bayes_factors_and_discordant_counts():
    rng = np.random.default_rng(3)
    a = (rng.random(4000) < .8).astype(int)
    b = a.copy()
    b[np.flatnonzero(a == 0)[:6]], b[np.flatnonzero(a == 1)[:4]] = 1, 0
    rows = [{"image": f"{i}", "condition": k, "benchmark": "imagenet", "view": "", "correct": v}
            for k, x in (("A", a), ("B", b)) for i, v in enumerate(x)]
    headline, tests = parity_tests(rows, E.BENCHMARKS, E.PAPER_BF01)
    d = (b - a).astype(float)
    t = d.mean() / (d.std(ddof=1) / 4000**.5)
    assert tests[0]["bf01"]["unit_information"] == pytest.approx(4000**.5 * (1 + t**2 / 3999)**-2000)
    assert tests[0]["bf01"]["jzs_r1"] > tests[0]["bf01"]["jzs_r707"] > 1
    assert tests[0]["log_bf01"]["jzs_r1"] == pytest.approx(np.log(tests[0]["bf01"]["jzs_r1"]))
    assert (tests[0]["mcnemar"]["b"], tests[0]["mcnemar"]["c"]) == (6, 4)
    accuracy, gap = (next(h for h in headline if h["name"] == f"ImageNet{k}")
                     for k in (" top-1, A", ", B - A"))
    assert accuracy["ours"] == pytest.approx(100 * a.mean())
    assert gap["ours"] == pytest.approx(100 * d.mean()) and gap["ci"][0] < gap["ours"] < gap["ci"][1]


def test_intervals_of_several_views_are_over_images():
    """Two equal views of an image carry no more than one: the intervals are those of the images."""
    rng = np.random.default_rng(4)
    a, b = (rng.random(60) < .7).astype(int), (rng.random(60) < .8).astype(int)

    def rows(views: str) -> list[dict]:
        return [{"image": f"{i:02d}", "condition": k, "benchmark": "imagenet_c", "view": v, "correct": x[i]}
                for k, x in (("A", a), ("B", b)) for i in range(60) for v in views]
    headline, tests = parity_tests(rows("xy"), E.BENCHMARKS, {})
    found = {h["name"]: h for h in headline}
    assert found["ImageNet-C top-1, A"]["ci"] == pytest.approx(bootstrap_ci(100. * a, n_boot=2000))
    assert found["ImageNet-C, B - A"]["ci"] == pytest.approx(bootstrap_ci(100. * (b - a), n_boot=2000))
    assert tests[0]["n"] == 120 and tests[0]["images"] == 60 and "independent" in tests[0]["pairs"]
    one = parity_tests(rows("x"), E.BENCHMARKS, {})
    assert one[1][0]["pairs"] == "image" and one[1][0]["images"] == 60


def test_tied_consistencies_fill_four_quartiles_and_no_consistency_gives_no_test():
    values = np.random.default_rng(5).random((3, 12))
    rows = rows_of(dict(zip("ABC", values)))
    human = [{"image": f"{i:03d}", "consistency": .5 + .1 * (i == 3)} for i in range(12)]
    assert [q["n"] for q in E.consistency_tests(rows, human)[2]] == [3] * 4
    assert E.consistency_tests(rows, [h | {"consistency": ""} for h in human]) == ([], [], [])


# ------------------------------------------------------------------------------------------------ data

@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A small demo world: 12 + 8 gaze images, two pictures a class and benchmark."""
    return demo.demo_world(tmp_path_factory.mktemp("world"), n_train=12, n_val=24, n_salicon=(14, 8),
                           n_objectnet=2, parts=("imagenet", "objectnet", "salicon"))


def edited_salicon(world: Path, out: Path, change) -> Path:
    """The validation fixations, changed; the pictures are the world's."""
    data = json.loads((world / "salicon" / "fixations_val2014.json").read_text())
    change(data)
    out.mkdir()
    (out / "fixations_val2014.json").write_text(json.dumps(data))
    (out / "images").symlink_to(world / "salicon" / "images")
    return out


@pytest.mark.parametrize("change, found", [
    (lambda f: f[0].__setitem__(0, 0), "counts from 0"), (lambda f: f[0].__setitem__(0, 600), "swapped"),
    (lambda f: f[0].__setitem__(0, 3.5), "fractional")], ids=["0-based", "swapped", "fractions"])
def test_salicon_in_another_convention_is_refused_with_the_reason(world, tmp_path, change, found):
    folder = edited_salicon(world, tmp_path / "s", lambda d: change(
        next(a["fixations"] for a in d["annotations"] if len(a["fixations"]) > 1)))
    with pytest.raises(InputError, match=found):
        load_gaze(folder, "val")


def test_missing_images_and_images_without_fixations_are_left_out_and_listed(world, tmp_path, capsys):
    names = []

    def change(d):
        names.extend(i["file_name"] for i in d["images"])
        d["images"][0]["file_name"] = "gone.jpg"
        for a in d["annotations"]:
            if a["image_id"] == d["images"][1]["id"]:
                a["fixations"] = []
    images, other = load_gaze(edited_salicon(world, tmp_path / "s", change), "val")
    assert [i.name for i in images] == names[2:]
    assert other == {"val, missing": ["gone.jpg"], "val, no fixations": [names[1]]}
    assert "gone.jpg" in capsys.readouterr().out
    (tmp_path / "s" / "images").unlink()
    with pytest.raises(InputError, match="without a file in .* and 1 without fixations, no image left"):
        load_gaze(tmp_path / "s", "val")
    with pytest.raises(InputError, match="fixations_train2014.json"):
        load_gaze(tmp_path / "s", "train")


def test_gaze_maps_of_the_loader_equal_the_density_map_of_the_file(world):
    images, _ = load_gaze(world / "salicon", "val")
    data = json.loads((world / "salicon" / "fixations_val2014.json").read_text())
    image = next(i for i in data["images"] if i["file_name"] == images[3].name)
    mine = [a["fixations"] for a in data["annotations"] if a["image_id"] == image["id"]]
    points = np.concatenate([f for f in mine if f])
    rows, cols = (points[:, 0] - 1) * 224 / 480, (points[:, 1] - 1) * 224 / 640
    _, x, counts = GazeData(images, PRE)[3]
    torch.testing.assert_close(human_maps(counts[None])[0].double(), density_map(rows, cols, (224, 224), 15),
                               atol=1e-5, rtol=1e-4)


def test_objectnet_labels_by_the_release_files_and_half_a_release_is_refused(world, tmp_path):
    classes = sorted(v[0] for v in demo.CLASSES.values())
    items, info = E.objectnet_items(world / "objectnet", classes)
    assert info == dict(folders=16, classes=12, images=24)
    names = {v[0]: k for k, v in demo.CLASSES.items()}
    assert all([names[classes[r]] for r in right] == [folder] for _, folder, right, _ in items)
    from common import imagenet_wnids
    items, _ = E.objectnet_items(world / "objectnet", imagenet_wnids())
    assert {tuple(sorted(right)) for _, folder, right, _ in items if folder == "cup"} == {(504, 968)}
    half = shutil.copytree(world / "objectnet", tmp_path / "half")
    for folder in sorted((half / "images").iterdir())[:8]:
        shutil.rmtree(folder)
    with pytest.raises(InputError, match="8 of 16 class folders"):
        E.objectnet_items(half, classes)
    with pytest.raises(InputError, match="mappings"):
        E.objectnet_items(tmp_path, classes)


@pytest.mark.parametrize("name, change", [
    ("folder_to_objectnet_label.json", lambda text: text[:40]),
    ("imagenet_to_label_2012_v2", lambda _: "cup"),
    ("pytorch_to_imagenet_2012_id.json", lambda _: '{"0": 5000}')], ids=["torn", "short", "no class"])
def test_broken_mappings_of_objectnet_end_in_one_sentence(world, tmp_path, name, change):
    shutil.copytree(world / "objectnet" / "mappings", tmp_path / "mappings")
    file = tmp_path / "mappings" / name
    file.write_text(change(file.read_text()))
    with pytest.raises(InputError, match="four mapping files"):
        E.objectnet_items(tmp_path, ["n0"])


def test_categories_of_coco_are_found_by_2014_and_2017_names_and_overlapping_files(tmp_path):
    (tmp_path / "annotations").mkdir()
    for k, file_name in (("val2017", "000000000007.jpg"), ("train2017", "000000000007.jpg")):
        (tmp_path / "annotations" / f"instances_{k}.json").write_text(json.dumps(dict(
            images=[dict(id=7, file_name=file_name)], categories=[dict(id=1, name="dog")],
            annotations=[dict(id=3, image_id=7, category_id=1)])))
    files, name = coco_files(tmp_path, "val"), "COCO_val2014_000000000007.jpg"
    assert len(files) == 2 and coco_categories(files, {name, "other.jpg"}) == {"dog": [name]}
    assert [len(v) for v in read_coco(files).values()] == [1, 1, 1]  # each object once
    (tmp_path / "annotations" / "instances_val2014.json").write_text("{}")
    assert [f.name for f in coco_files(tmp_path, "val")] == ["instances_val2014.json"]  # the others unread
    assert coco_categories(coco_files(tmp_path / "none", "val"), {name}) == {}


def test_names_of_categories_that_are_no_names_end_in_one_sentence(tmp_path):
    tree = dict(images=[dict(id=i, file_name="7.jpg") for i in (1, 2)],
                categories=[dict(id=1, name="dog"), dict(id=2, name=5)],
                annotations=[dict(id=i, image_id=i, category_id=i) for i in (1, 2)])
    (tmp_path / "instances_val2014.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match="instances_val2014.json"):
        coco_categories([tmp_path / "instances_val2014.json"], {"7.jpg"})


def test_a_mistyped_folder_is_an_error_and_not_a_part_that_is_not_run(world, tmp_path):
    for name in ("coco", "imagenet", "objectnet"):
        with pytest.raises(InputError, match=f"--{name} .*no such folder"):
            E.main(["--salicon", str(world / "salicon"), f"--{name}", str(tmp_path / "typo"),
                    "--device", "cpu", "--out", str(tmp_path / "o")])


def test_objectnet_loses_its_red_frame():
    image = np.zeros((40, 50, 3), np.uint8)
    image[:2], image[-2:], image[:, :2], image[:, -2:] = ([255, 0, 0],) * 4
    y = E.prepare_objectnet(Image.fromarray(image), 0, Preprocess(36, 36, (0.,) * 3, (1.,) * 3))
    assert y.max() == 0


def test_corruption_of_the_crop_equals_that_of_an_image_of_crop_size():
    pre = Preprocess(64, 64, (.5,) * 3, (.2,) * 3)
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    first = E.prepare_corrupted(image, 9, pre, 5, 3, None)
    crop = E.prepare_crop(image, 9, pre)[None]
    views = dict(E.view_crops(crop, [9], pre, 5, 3, None))
    assert list(views) == list(E.CORRUPTIONS)
    for y, (name, z) in zip(first, views.items()):
        torch.testing.assert_close(y, z[0], atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------------------------------ the script

def run(world: Path, out: Path, *more: str) -> None:
    argv = ("--model demo_sl12 --workers 0 --device cpu --limit 10 --batch-size 4 --epochs 1 --eval-every 1 "
            "--lr 1e-4 --imagenet-c-images 2").split()
    E.main([*argv, "--data", str(world), "--out", str(out), *more])


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("run")
    run(world, out)
    return out, json.loads((out / "results.json").read_text())


def test_all_stages_leave_tables_figures_and_results(world, finished):
    out, results = finished
    rows = read_csv(out / "per_image.csv")
    assert list(rows[0])[:2] == ["image", "condition"] and len(rows) == 8 * 3
    benchmark = read_csv(out / "benchmark" / "per_image.csv")
    assert len(benchmark) == 3 * (10 + 2 * 15 + 10)
    assert len(read_csv(out / "consistency" / "per_image.csv")) == 8
    figures = "1B 2A 2B 2C 4A 4B 4C training".split()
    assert all((out / f"fig_{k}.{kind}").stat().st_size > 2000 for k in figures for kind in ("png", "pdf"))
    assert len(results["not_run"]) == 1 and results["not_run"][0].startswith("frost with ImageNet-C's six")
    used = [*gaze_files(world / "salicon"), *coco_files(world / "coco", "val"), *out.glob("tuned_[BC].pth")]
    assert results["data_fingerprint"] not in (fingerprint([]), fingerprint(used)) and len(used) == 5
    assert results["training"]["B"]["share"] == pytest.approx(.3112, abs=1e-3)
    names = [h["name"] for h in results["headline"]]
    assert {"CC, B", "KL, C", "r(gain, consistency)", "BF01 ImageNet-C (unit information)"} <= set(names)
    assert len(names) == len(set(names))


def test_resume_computes_only_what_is_missing_and_equals_the_undisturbed_run(world, finished, tmp_path,
                                                                                  monkeypatch):
    out, _ = finished
    again = shutil.copytree(out, tmp_path / "again")
    log = RowLog(again, resume=True)  # as after a kill: some images done, one line torn
    rows = log.rows()
    log.csv.unlink()
    log = RowLog(again, resume=True)
    for name in list(rows)[:3]:
        log.add(rows[name])
    log.file.write(b'[{"image": "torn')
    log.file.close()
    added, add = [], RowLog.add
    monkeypatch.setattr(RowLog, "add", lambda log, new: added.append(new[0]["image"]) or add(log, new))
    monkeypatch.setattr(E.Classifier, "forward", None)  # all benchmarks are done
    run(world, again, "--resume")
    assert sorted(added) == sorted(list(rows)[3:]) and len(added) == 5
    for name in ("per_image.csv", "benchmark/per_image.csv", "categories.csv"):
        assert (again / name).read_bytes() == (out / name).read_bytes(), name
    with pytest.raises(InputError, match="lr"):
        run(world, again, "--resume", "--lr", "2")
    with pytest.raises(InputError, match="holds a training"):
        run(world, again)


def test_stages_and_wrong_arguments_leave_rows_of_other_stages_alone(world, finished, tmp_path):
    again = shutil.copytree(finished[0], tmp_path / "again")
    for file in again.glob("tuned_*.pt"):  # not the training, the rows alone
        file.unlink()
    for stages in (["figures"], ["align"], ["B", "C"], ["align", "consistency"]):
        with pytest.raises(InputError, match="rows of other stages"):
            run(world, again, "--stages", *stages)
    with pytest.raises(InputError, match="no such folder"):
        run(world, again, "--data", str(tmp_path / "nowhere"))
    for name in ("per_image.csv", "benchmark/per_image.csv", "consistency/per_image.csv", "results.json"):
        assert (again / name).read_bytes() == (finished[0] / name).read_bytes(), name


def test_resume_keeps_no_row_of_other_models(world, finished, tmp_path):
    def means(*more: str) -> dict[str, float]:
        run(world, tmp_path, "--stages", "align", "--limit", "3", *more)
        rows = read_csv(tmp_path / "per_image.csv")
        cc = {k: [r["cc"] for r in rows if r["condition"] == k] for k in "ABC"}
        return {k: np.mean(v) for k, v in cc.items() if v}
    a = means()
    assert set(a) == {"A"}
    shutil.copy(finished[0] / "tuned_B.pth", tmp_path / "tuned_B.pth")  # as a later --stages B
    b = means("--resume")
    state = load_checkpoint(tmp_path / "tuned_B.pth")
    torch.save({k: v * 1.3 for k, v in state.items()}, tmp_path / "tuned_B.pth")  # B trained anew
    c = means("--resume")
    assert set(b) == set(c) == {"A", "B"} and a["A"] == b["A"] == c["A"] and b["B"] != c["B"]


def test_plot_only_redraws_without_a_model(finished, monkeypatch, capsys):
    out, _ = finished
    (out / "fig_2A.png").unlink()
    monkeypatch.setattr(E, "load_vit", None)
    monkeypatch.setattr(E, "init_distributed", lambda device: (0, 1))  # it must be told the device
    E.main(["--out", str(out), "--plot-only", "--data", "demo"])
    assert (out / "fig_2A.png").exists() and "paper" in capsys.readouterr().out


def two_stages(world: Path, out: Path) -> None:
    run(world, out, "--stages", "align", "consistency", "benchmark", "--model-b", str(out / "b.pth"))


def test_two_processes_give_the_rows_of_one(world, finished, tmp_path):
    out, _ = finished
    shutil.copy(out / "tuned_B.pth", tmp_path / "b.pth")
    in_group(2, two_stages, world, tmp_path)
    for name in ("per_image.csv", "benchmark/per_image.csv", "consistency/per_image.csv"):
        a, b = ([r for r in read_csv(f / name) if r["condition"] != "C"] for f in (out, tmp_path))
        assert len(a) == len(b)
        for r, s in zip(a, b):
            assert r["image"] == s["image"]
            assert all(s[k] == pytest.approx(v, rel=1e-4) if isinstance(v, float) else s[k] == v
                       for k, v in r.items())


def test_bare_demo_command_without_training_finds_the_planted_gaze_with_the_shipped_models(
        tmp_path, monkeypatch, capsys):
    world = demo.demo_world(tmp_path / "world", parts=("salicon",), n_salicon=(1, 40))
    monkeypatch.setattr(demo, "demo_world", lambda **_: world)
    E.main(["--out", str(tmp_path / "o"), "--stages", "align", "--workers", "0", "--device", "cpu"])
    said = capsys.readouterr().out
    assert "checkpoints/demo_B.pth" in said and "numbers of the built-in demo world" in said
    assert {r["condition"] for r in read_csv(tmp_path / "o" / "per_image.csv")} == {"A", "B", "C"}
    gain = {t["pair"]: t for t in json.loads((tmp_path / "o" / "results.json").read_text())["tests"]
            if t["test"] == "paired t" and t["metric"] == "cc"}
    assert all(gain[pair]["n"] == 40 and gain[pair]["ci"][0] > 0 for pair in ("B - A", "B - C")), gain


def test_baseline_that_recognises_nothing_is_refused(tmp_path):
    log = RowLog(tmp_path)
    for i in range(60):
        log.add([{"image": f"{i}", "condition": "A", "benchmark": "imagenet", "correct": int(i < 2)}])
    with pytest.raises(InputError, match="3.3 % of 60"):
        E.check_baseline(log, "imagenet")


@pytest.mark.real
@pytest.mark.skipif(not (SHARED / "real" / "osie").exists(), reason="no OSIE at GAZE_SHARED")
def test_osie_is_a_source_of_fixations_with_a_fixed_split():
    train, other = load_gaze(SHARED / "real" / "osie", "train")
    val, _ = load_gaze(SHARED / "real" / "osie", "val")
    assert (len(train), len(val)) == (250, 100) and not {i.name for i in train} & {i.name for i in val}
    assert len(train[0].observers) == 15 and not any(other.values())
