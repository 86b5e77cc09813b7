"""exp01: the loss and the training are the paper's, planted effects are found, no kill changes a number."""
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
from scipy.ndimage import gaussian_filter

import demo
import exp01_claims as C
import exp01_finetune_vit as E
from by_formula import assert_same, bars, correlation, interval, mean_and_sem, paired
from common import InputError, VisionTransformer, cc, density_map, generator, observer_consistency
from data import coco_categories, coco_files, read_coco, read_csv
from exp01_finetune_vit import RolloutViT, attention_kl, human_maps
from gaze import GazeImage, load_gaze
from processes import fork, in_group
from pretended import one_device
from results import evaluate, load_checkpoint
from weights import BASE, Preprocess, attention_state, load_tuned

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


def test_loss_through_the_rollout_has_the_right_gradient():
    vit = small_vit(embed_dim=6, depth=2).double()
    net, x = RolloutViT(vit, (16, 16)), torch.randn(1, 3, 64, 64, generator=generator(2)).double()
    q = torch.rand(1, 16, 16, generator=generator(3)).double()

    def loss(*weights):
        features, maps = torch.func.functional_call(net, dict(zip(names, weights)), x)
        return attention_kl(maps, q), features.square().mean(1)
    names = [f"vit.{k}" for k in attention_state(vit)]
    weights = [v.clone().requires_grad_() for v in attention_state(vit).values()]
    assert torch.autograd.gradcheck(loss, weights, eps=1e-6, atol=1e-6, rtol=1e-4)


def test_attention_kl_equals_its_formula_and_is_zero_for_equal_maps():
    p, q = (torch.rand(3, 20, 30, generator=generator(i)).double() for i in (1, 2))
    a, b = (m / m.sum((1, 2), keepdim=True) + 1e-10 for m in (p, q))
    torch.testing.assert_close(attention_kl(p, q), (b * (b / a).log()).sum((1, 2)))
    assert attention_kl(p, 7 * p).abs().max() < 1e-12
    uniform = b[:1, :4, :4] / b[:1, :4, :4].sum()  # a map that is 0 everywhere says nothing, so it is uniform
    torch.testing.assert_close(attention_kl(torch.zeros(1, 4, 4).double(), uniform),
                               (uniform * (16 * uniform).log()).sum((1, 2)), atol=1e-6, rtol=1e-6)


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
    E.tunable(vit)
    trained = sum(p.numel() for p in vit.parameters() if p.requires_grad)
    assert (trained, sum(p.numel() for p in vit.parameters())) == (28_348_416, 86_567_656)  # 32.7 %


def test_the_recipes_of_the_paper_and_of_the_demo():
    args = E.parse("--salicon SALICON --coco COCO --imagenet IMAGENET --objectnet OBJECTNET".split())
    assert (args.lr, args.batch_size, args.epochs, args.eval_every) == (1e-5, 8, 20, 200)
    assert (args.patience, args.min_delta, args.lam, args.weight_decay) == (3, 1e-3, 1., .01)
    assert args.model == "vit_base_patch16_224" and args.data is None and args.precision == "float32"
    args = E.parse([])
    assert (args.lr, args.batch_size, args.epochs, args.eval_every) == (3e-4, 8, 3, 27)
    assert (args.patience, args.min_delta, args.lam, args.weight_decay) == (3, 1e-3, 10., .01)
    assert args.model == "demo_sl12" and args.data == "demo" and args.precision == "float16"


def test_exchanged_fixations_stay_within_their_part_and_no_image_keeps_its_own(blobs):
    images = [image._replace(observers=i) for i, image in enumerate(blobs[:40])]
    parts = E.split_held_out(range(40), 36, 0)
    assert [len(part) for part in parts] == [36, 4] and sorted(parts[0] + parts[1]) == list(range(40))
    changed = E.exchange_fixations(images, parts)
    assert [image.path for image in changed] == [image.path for image in images]
    for part in parts:
        own = [changed[i].observers for i in part]
        assert sorted(own) == part and all(a != b for a, b in zip(own, part))
    assert E.split_held_out(range(0, 80, 2), 36, 0) == tuple([2 * i for i in part] for part in parts)
    assert np.ptp(parts[1]) > 3 and E.split_held_out(range(40), 36, 1)[1] != parts[1]  # random, by the seed


# ------------------------------------------------------------------------------------------------ training

PRE = Preprocess(None, 64, (.5,) * 3, (.5,) * 3, "bilinear", squash=True)


def tuned(blobs: list, out: Path, name: str = "B", **more) -> tuple[dict, VisionTransformer]:
    recipe = E.PAPER | dict(lr=3e-3, epochs=6, eval_every=4, lam=10., batch_size=8, seed=0) | more
    models, records, _ = E.tuned_models(name, small_vit(), RolloutViT, attention_state, blobs, PRE, recipe, out, 0)
    return records[name], models[name]


def held_out_cc(vit: VisionTransformer, blobs: list) -> float:
    items = [E.gaze_images(blobs, PRE)[i] for i in range(len(blobs))]
    with torch.no_grad():
        _, maps = RolloutViT(vit)(torch.stack([item["image"] for item in items]))
    return float(cc(maps, human_maps(torch.stack([item["fixations"] for item in items]))).mean())


def test_tuning_finds_planted_fixations_and_exchanged_fixations_do_not(blobs, tmp_path):
    _, b = tuned(blobs[:40], tmp_path)
    _, c = tuned(blobs[:40], tmp_path, "C")
    a_cc, b_cc, c_cc = (held_out_cc(v, blobs[40:]) for v in (small_vit(), b, c))
    assert b_cc > a_cc + .1 and b_cc > c_cc + .1 and c_cc < a_cc + .02, (a_cc, b_cc, c_cc)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_only_attention_weights_move_and_the_file_restores_the_model(blobs, tmp_path, precision):
    record, vit = tuned(blobs[:20], tmp_path, epochs=2, precision=precision)
    start, now = small_vit().state_dict(), vit.state_dict()
    assert {k for k in now if not torch.equal(start[k], now[k])} == set(attention_state(vit))
    E.save_files({"B": record}, {}, tmp_path)
    again = load_tuned(small_vit(), tmp_path / "tuned_B.pth").state_dict()
    assert all(torch.equal(again[k], now[k]) for k in now)
    kept = load_checkpoint(tmp_path / "tuned_B.pth")
    assert {v.dtype for k, v in kept.items() if k != "frozen_sha256"} == {getattr(torch, precision)}
    assert [row["step"] for row in read_csv(tmp_path / "tuned_B.csv")] == [0, 4]
    with pytest.raises(InputError, match="tuned weights"):
        load_tuned(small_vit(depth=2), tmp_path / "tuned_B.pth")


def test_training_stops_early_and_keeps_the_lowest_validation_loss(blobs, tmp_path):
    record, _ = tuned(blobs[:40], tmp_path, lr=.3, eval_every=1, patience=3, epochs=20)  # diverges
    losses = [row["val_loss"] for row in record["log"]]
    best = min(losses[1:])  # that of the untuned model, at step 0, is not compared
    assert record["step"] < 80 and record["lowest"] == best
    assert losses[record["best_step"]] == best and record["step"] == record["best_step"] + 3
    small, _ = tuned(blobs[:20], tmp_path / "small", eval_every=1, patience=3, epochs=9, min_delta=100.)
    assert small["step"] == 4  # no gain after the first is large enough


def test_the_untuned_model_is_never_the_best_and_a_training_without_gain_says_so(blobs, tmp_path):
    record, vit = tuned(blobs[:12], tmp_path, lr=.5, patience=2, epochs=9, eval_every=1)
    untuned = record["log"][0]["val_loss"]
    assert record["best_step"] >= 1 and untuned < min(row["val_loss"] for row in record["log"][1:])
    assert any(not torch.equal(v, small_vit().state_dict()[k]) for k, v in vit.state_dict().items())
    (said,) = E.no_gain({"B": record})
    assert said.startswith("model B: no step lowered the validation loss") and f"{untuned:.4g} of A" in said
    assert f"{record['lowest']:.4g} at best" in said
    better, _ = tuned(blobs[:40], tmp_path / "better")
    assert better["lowest"] < better["log"][0]["val_loss"] and E.no_gain({"B": better}) == []


def test_four_steps_of_tuning_equal_a_plain_loop(blobs, tmp_path, monkeypatch):
    """A teacher of random vectors, another one of each image; mse + 3 KL, AdamW with a decay of .5, by hand;
    three held-out images in batches of two and one count alike."""
    monkeypatch.setattr(E, "TRAIN_BATCH", 2)
    images, seen = E.gaze_images(blobs[:14], PRE), []

    class Seen(torch.utils.data.Dataset):
        """The images in double precision, and which were asked for."""
        def __len__(self) -> int:
            return 14

        def __getitem__(self, i: int) -> dict:
            seen.append(i)
            return images[i] | {key: images[i][key].double() for key in ("image", "fixations")}
    train_on, held_out = [0, 2, 3, 5, 7, 8, 10, 11, 12, 13], [1, 9, 4]  # two of ten are left over in an epoch
    teacher = torch.randn(14, 24, generator=generator(4)).double()
    recipe = dict(lr=.03, weight_decay=.5, lam=3., batch_size=4, epochs=2, eval_every=1, patience=9, min_delta=0.,
                  seed=5)
    vit, plain = small_vit().double(), small_vit().double()
    E.tunable(vit)
    record = E.train(RolloutViT(vit), Seen(), teacher, train_on, held_out, recipe, tmp_path / "tuned_B.pt")
    steps = [seen[k:k + 7] for k in range(0, 35, 7)]  # three to validate, four to learn from
    assert [step[:3] for step in steps] == [held_out] * 5 and len(seen) == 31
    batches = [step[3:] for step in steps[:4]]
    for epoch in (batches[0] + batches[1], batches[2] + batches[3]):
        assert len(set(epoch)) == 8 and set(epoch) < set(train_on) and sorted(epoch) != epoch
    assert batches[:2] != batches[2:]

    def losses(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        features, maps = RolloutViT(plain)(images[i]["image"][None].double())
        p = maps[0] / maps[0].sum() + 1e-10
        q = human_maps(images[i]["fixations"][None].double())[0]
        q = q / q.sum() + 1e-10
        return ((features[0] - teacher[i])**2).sum() / 24, (q * (q.log() - p.log())).sum()
    w = {name: value for name, value in plain.named_parameters() if name in attention_state(plain)}
    m, v = ({name: torch.zeros_like(value) for name, value in w.items()} for _ in range(2))
    kept = []
    for step in range(5):
        with torch.no_grad():
            mse, kl = np.mean([[float(loss) for loss in losses(i)] for i in held_out], 0)
        row = record["log"][step]
        assert (row["step"], row["lr"]) == (step, .03)
        assert [row["val_distill"], row["val_kl"], row["val_loss"]] == pytest.approx([mse, kl, mse + 3 * kl])
        kept.append({name: value.detach().clone() for name, value in w.items()})
        if step == 4:
            break
        loss = sum(mse + 3 * kl for mse, kl in map(losses, batches[step])) / 4
        for (name, value), g in zip(w.items(), torch.autograd.grad(loss, list(w.values()))):
            m[name] = .9 * m[name] + .1 * g
            v[name] = .999 * v[name] + .001 * g**2
            moved = m[name] / (1 - .9**(step + 1)) / ((v[name] / (1 - .999**(step + 1))).sqrt() + 1e-8)
            value.data -= .03 * (moved + .5 * value.data)
    best = 1 + int(np.argmin([row["val_loss"] for row in record["log"][1:]]))
    assert record["best_step"] == best < 4  # the last is not the best
    for name, value in vit.state_dict().items():
        torch.testing.assert_close(value, kept[best].get(name, plain.state_dict()[name]), atol=1e-7, rtol=1e-6)
    other = recipe | dict(seed=6, epochs=1, eval_every=9)
    E.train(RolloutViT(vit), Seen(), teacher, train_on, held_out, other, tmp_path / "other.pt")
    assert seen[34:42] != batches[0] + batches[1] and set(seen[34:42]) < set(train_on)


def test_a_teaches_every_image_b_learns_its_own_fixations_and_c_those_of_the_next(blobs, tmp_path, monkeypatch):
    """Image 3 cannot be read. What `train` is given, against direct calls; the ring of seed 42 written out."""
    (tmp_path / "broken.png").write_bytes(b"no image")
    blobs, given = blobs[:30], {}
    blobs[3] = blobs[3]._replace(name="broken.png", path=tmp_path / "broken.png")

    def remember(net, images, teacher, train_on, held_out, recipe, file, workers) -> dict:
        given[file.stem] = [images[i]["fixations"] for i in range(30)], teacher, train_on, held_out
        return dict(log=[])
    monkeypatch.setattr(E, "train", remember)
    recipe = E.PAPER | dict(seed=2, batch_size=8)
    _, _, unreadable = E.tuned_models("BC", small_vit(), RolloutViT, attention_state, blobs, PRE, recipe, tmp_path, 0)
    assert unreadable == ["broken.png"]
    own, teacher, *parts = given["tuned_B"]
    others, again, *same_parts = given["tuned_C"]
    readable = [i for i in range(30) if i != 3]
    assert parts == same_parts == list(E.split_held_out(readable, 8, 2)) and torch.equal(teacher, again)
    for i in readable:
        with torch.no_grad():
            expected, _ = RolloutViT(small_vit())(E.gaze_images(blobs, PRE)[i]["image"][None])
        torch.testing.assert_close(teacher[i], expected[0], atol=1e-5, rtol=1e-4)
    counts = []
    for image in blobs:
        counts.append(torch.zeros(224, 224))
        for rows, cols in image.observers:
            for row, col in zip(rows, cols):
                counts[-1][row, col] += 1
    assert all(torch.equal(own[i], counts[i]) for i in readable)
    for part in parts:
        ring = np.random.default_rng(42).permutation(len(part))
        for place in range(len(part)):
            assert torch.equal(others[part[ring[place]]], counts[part[ring[place - 1]]])


def test_the_whole_image_is_squashed_to_the_map_of_fixations_and_the_rest_is_the_weights_own():
    pre = E.squashed(Preprocess(256, 200, (.1, .2, .3), (.4, .5, .6), "bicubic"))
    assert pre == Preprocess(256, (224, 224), (.1, .2, .3), (.4, .5, .6), "bilinear", True)


def one_weight() -> tuple[dict, torch.optim.AdamW]:
    weight = torch.ones(1, requires_grad=True)
    optimiser = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimiser.step()
    return {"w": weight}, optimiser


def test_gains_below_min_delta_add_up_to_one():
    state = dict(step=-1, lowest=np.inf, mark=np.inf, waited=0, log=[])
    waited = []
    weight, optimiser = one_weight()
    for step, loss in enumerate([10., 9.4, 8.8, 8.2], 1):
        found = torch.tensor([[loss], [0.], [0.]], dtype=torch.double)
        E.note_validation(state, step, [found], weight, optimiser, min_delta=1.)
        waited.append(state["waited"])
    assert waited == [0, 1, 0, 1] and state["lowest"] == 8.2 and state["best_step"] == 4


@pytest.mark.parametrize("broken", ["loss", "weight", "moment"])
def test_a_state_that_is_no_number_is_not_kept(broken):
    state = dict(step=-1, lowest=np.inf, mark=np.inf, waited=0, log=[])
    weight, optimiser = one_weight()
    found = torch.ones(3, 2)
    if broken == "loss":
        found = found * torch.nan
    if broken == "weight":
        weight["w"].data.fill_(torch.inf)
    if broken == "moment":  # of a gradient whose square is infinite: the weight itself stands still
        optimiser.state[weight["w"]]["exp_avg_sq"].fill_(torch.inf)
    with pytest.raises(InputError, match="broke before step 7: .*--resume, --out and a lower --lr"):
        E.note_validation(state, 7, [found], weight, optimiser, min_delta=1.)
    assert state["step"] == -1 and state["log"] == []


def test_killed_and_resumed_training_equals_uninterrupted_bit_for_bit(blobs, tmp_path):
    whole, vit = tuned(blobs[:40], tmp_path / "a", epochs=3)
    child = fork(tuned, blobs[:40], tmp_path / "b", epochs=3)
    file = tmp_path / "b" / "tuned_B.pt"
    while not file.exists() or load_checkpoint(file)["step"] < 4:
        assert child.is_alive()
        time.sleep(.005)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert load_checkpoint(file)["step"] < whole["step"]
    resumed, again = tuned(blobs[:40], tmp_path / "b", epochs=3)
    assert str(resumed["log"]) == str(whole["log"])
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in vit.state_dict().items())


def test_a_complete_training_is_not_trained_again(blobs, tmp_path, monkeypatch):
    _, vit = tuned(blobs[:20], tmp_path, epochs=1)
    monkeypatch.setattr(RolloutViT, "forward", None)
    _, again = tuned(blobs[:20], tmp_path, epochs=1)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in vit.state_dict().items())


def test_two_processes_train_the_same_model(blobs, tmp_path):
    record, _ = tuned(blobs[:24], tmp_path / "one", epochs=2, eval_every=2)
    (tmp_path / "two").mkdir()
    in_group(2, two_train, blobs[:24], tmp_path / "two")
    log = load_checkpoint(tmp_path / "two" / "tuned_B.pt")["log"]
    assert [r["val_loss"] for r in log] == pytest.approx([r["val_loss"] for r in record["log"]], rel=1e-4)


def two_train(blobs: list, out: Path) -> None:
    tuned(blobs, out, epochs=2, eval_every=2)


@pytest.mark.parametrize("batch_size, n", [(8, 9), (1000, 40)])
def test_a_batch_that_exceeds_the_training_images_is_refused(batch_size, n):
    with pytest.raises(InputError, match=f"--batch-size {batch_size}"):
        E.split_held_out(range(n), batch_size, 0)


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


def measured(consistency, **values) -> dict:
    """Arrays of `align` with the same values under every metric."""
    n = len(consistency)
    stacked = np.stack(list(values.values()), 1)
    return {metric: stacked for metric in C.NAMES} | dict(
        models=np.array(list(values)), image=np.array([f"{i:03d}" for i in range(n)]),
        consistency=np.asarray(consistency), category=np.array(["cat"]), category_cc=stacked[:4].mean(0)[None])


def distinct() -> dict:
    """Arrays of `align` in which no two metrics, models, images or categories are alike: B's CC is above A's on
    some images and in 3 of 5 categories; two images have no consistency."""
    rng = np.random.default_rng(8)
    arrays = {metric: rng.random((31, 3)) + [i, i + (-1) ** i * (i + 1) / 5, i + .1]
              for i, metric in enumerate(C.NAMES)}
    arrays["cc"] = rng.uniform(.1, .6, (31, 3)) + [0, .15, .05]
    arrays["cc"][9, 1] = arrays["cc"][9, 0]  # no gain
    consistency = rng.uniform(.2, .8, 31)
    consistency[[4, 17]] = np.nan
    by_category = np.array([[.1, .3, .9], [.5, .2, .9], [.3, .6, .1], [.2, .25, .05], [.7, .4, .8]])
    return arrays | dict(models=np.array(list("ABC")), image=np.array([f"{i:03d}" for i in range(31)]),
                         consistency=consistency, category=np.array(list("vwxyz")), category_cc=by_category)


def known_values(arrays: dict) -> dict[str, np.ndarray]:
    """What is related to consistency, of the images that have one, sorted by it."""
    order = [i for i in np.argsort(arrays["consistency"]) if np.isfinite(arrays["consistency"][i])]
    a, b, c = arrays["cc"][order].T
    return {"consistency": arrays["consistency"][order], "CC of A": a, "CC of B": b, "CC of C": c,
            "gain B - A": b - a, "gain B - C": b - c, "headroom gain": (b - a) / (1 - a)}


QUARTERS = slice(0, 8), slice(8, 15), slice(15, 22), slice(22, 29)  # of the 29 images, by consistency


def test_every_entry_of_the_tests_is_the_number_of_its_formula():
    arrays, expected = distinct(), []
    for metric in ("cc", "nss", "nss_counts", "auc", "kl", "kl_loss_eps", "sim", "sauc", "gain"):
        of = dict(zip("ABC", arrays[metric].T))
        for k, v in of.items():
            expected.append(dict(test="mean", metric=metric, model=k, n=31, mean=v.mean(), sd=v.std(ddof=1),
                                 sem=v.std(ddof=1) / 31**.5))
        for a, b in ("BA", "BC", "CA"):
            expected.append(dict(test="paired t", metric=metric, pair=f"{a} - {b}", n=31) | paired(of[a], of[b]))
    values = known_values(arrays)
    for y in list(values)[1:]:
        expected.append(dict(test="Pearson r", x="consistency", y=y) | correlation(values["consistency"], values[y]))
    for q, part in enumerate(QUARTERS, 1):
        expected.append(dict(test="quartile of consistency", quartile=q, n=part.stop - part.start)
                        | {y: v[part].mean() for y, v in values.items()})
    found = C.alignment_tests(arrays)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert_same(one, other)


def test_every_line_of_the_table_is_the_number_of_its_formula():
    arrays, expected = distinct(), []

    def line(name: str, paper, ours, ci, n: int, unit: str = "") -> None:
        expected.append(dict(name=name, paper=paper, ours=ours, ci=ci, n=n, unit=unit))
    names = dict(cc="CC", nss="NSS", nss_counts="NSS of every fixation", auc="AUC", kl="KL",
                 kl_loss_eps="KL with eps 1e-10", sim="SIM")
    for metric, name in names.items():
        for k, v in zip("ABC", arrays[metric].T):
            line(f"{name}, {k}", None, v.mean(), interval(v), 31, "nats" if "KL" in name else "")
    a, b, _ = arrays["cc"].T
    line("images with a gain in CC", 100., 100 * (b > a).mean(), interval(100. * (b > a)), 31, "%")
    line("COCO categories with a gain in CC", "all", "3 of 5", None, 5)
    for metric in ("cc", "nss", "auc", "kl", "sim"):
        a, b, c = arrays[metric].T
        for k, other in (("A", a), ("C", c)):
            d = paired(b, other)
            p = "p < .001" if d["p"] < .001 else f"p = {d['p']:.3f}"
            line(f"{names[metric]}, B - {k}", "< 0, p < .001" if metric == "kl" else "> 0, p < .001", d["mean"],
                 d["ci"], 31, f"t {d['t']:.1f}, d {d['dz']:.2f}, {p}")
    assert {one["unit"][-8:-4] for one in expected[-10:]} == {"p < ", " = 0"}  # both are there
    values = known_values(arrays)
    x, headroom = values["consistency"], values["headroom gain"]
    line("inter-observer consistency", None, x.mean(), interval(arrays["consistency"][np.isfinite(
        arrays["consistency"])]), 29)
    r = correlation(x, values["gain B - A"])
    line("r(gain, consistency)", -.55, r["r"], r["ci"], 29)
    a, b, _ = arrays["cc"][np.isfinite(arrays["consistency"])].T
    line("headroom gain", None, headroom.mean(), interval((b - a) / (1 - a)), 29)
    for q, part in enumerate(QUARTERS, 1):
        line(f"headroom gain, quartile {q} of consistency", "> 0", headroom[part].mean(), interval(headroom[part]),
             part.stop - part.start)
    names |= dict(sauc="shuffled AUC", gain="information gain")
    for metric in ("sauc", "gain"):  # no map of a prior is among these arrays
        for k, v in zip("ABC", arrays[metric].T):
            line(f"{names[metric]}, {k}", None, v.mean(), interval(v), 31, "bits a fixation" * (metric == "gain"))
    for metric in ("sauc", "gain"):
        a, b, c = arrays[metric].T
        for k, other in (("A", a), ("C", c)):
            d = paired(b, other)
            p = "p < .001" if d["p"] < .001 else f"p = {d['p']:.3f}"
            line(f"{names[metric]}, B - {k}", None, d["mean"], d["ci"], 31, f"t {d['t']:.1f}, d {d['dz']:.2f}, {p}")
    assert C.claims(arrays)[-len(C.RECOGNITION):] == C.RECOGNITION  # without lines here
    found = evaluate(C.claims(arrays), arrays)
    assert [row["name"] for row in found] == [row["name"] for row in expected]
    for row, other in zip(found, expected):
        row.pop("verdict")
        assert_same(row, other)


def test_a_row_of_the_csv_holds_the_values_of_its_image_and_model():
    arrays = distinct()
    rows = E.table(arrays)
    assert len(rows) == 93
    for i, row in enumerate(rows):
        image, model = divmod(i, 3)
        assert (row["image"], row["condition"]) == (f"{image:03d}", "ABC"[model])
        assert all(row[metric] == arrays[metric][image, model] for metric in C.NAMES)
        assert str(row["consistency"]) == str(arrays["consistency"][image])


def test_what_is_left_out_of_training_and_of_validation_is_listed(monkeypatch):
    """Twenty images each, of which the one list lost some that the other did not."""
    images = [GazeImage(f"{i}.jpg", Path(f"{i}.jpg"), ()) for i in range(20)]
    monkeypatch.setattr(E, "load_gaze", lambda folder, split, *_: (images, {f"no gaze, {split}": [split]}))
    monkeypatch.setattr(E.benchmarks, "look_at", lambda places: None)
    places = dict(salicon=Path("salicon"), coco=None, imagenet=None)
    assert E.load_data(places, None, 2)[3] == {"no gaze, train": ["train"], "no gaze, val": ["val"]}
    assert E.load_data(places, None, None)[3] == {"no gaze, val": ["val"]}  # nothing is trained


def test_figures_show_the_numbers_of_their_arrays(monkeypatch, tmp_path):
    arrays, kept, rng = distinct(), {}, np.random.default_rng(2)
    maps = {k: rng.random((3, 6, 8)) for k in ("human", "A", "B")}
    arrays |= {f"example_{k}": v for k, v in maps.items()}
    arrays["example_image"] = rng.integers(0, 256, (3, 6, 8, 3), np.uint8)
    monkeypatch.setattr(E.results, "save_figure", lambda fig, path: kept.update({path.name: fig}))
    E.draw(arrays, {}, tmp_path)
    assert list(kept) == ["fig_2A", "fig_centre", "fig_1B", "fig_2B", "fig_2C"]
    for ax, metric, zero in zip(kept["fig_centre"].axes, ("sauc", "gain"), (.5, 0)):
        shown = [(mean.get_ydata()[0], *error.get_segments()[0][:, 1]) for mean, _, (error,) in ax.containers]
        assert shown == pytest.approx(np.array([(v.mean(), *interval(v)) for v in arrays[metric].T])), metric
        assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [zero]
    for ax, metric in zip(kept["fig_2A"].axes, ("cc", "nss", "auc", "kl", "sim")):
        assert bars(ax) == pytest.approx(np.array([mean_and_sem(v) for v in arrays[metric].T])), metric
        assert [text.get_text() for text in ax.get_xticklabels()] == list("ABC")
        dotted = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"]
        assert dotted == ([.5] if metric == "auc" else [])  # chance

    def dots(ax, k: int = -1) -> np.ndarray:
        return np.asarray(ax.collections[k].get_offsets())
    images, categories = kept["fig_2B"].axes
    assert np.array_equal(dots(images), arrays["cc"][:, :2])  # A across, B up
    assert np.array_equal(dots(categories), arrays["category_cc"][:, :2])
    assert np.array_equal(dots(categories, 1), arrays["category_cc"][:, [0, 2]])  # grey: C, with a line to B
    assert np.array_equal(categories.collections[0].get_segments(), arrays["category_cc"][:, [[0, 2], [0, 1]]])
    values, (scatter, by_quarter) = known_values(arrays), kept["fig_2C"].axes
    x, gain = values["consistency"], values["gain B - A"]
    found = dots(scatter)
    assert found[found[:, 0].argsort()] == pytest.approx(np.stack([x, gain], 1))
    (line,) = scatter.lines
    assert line.get_slope() == pytest.approx(np.cov(x, gain)[0, 1] / x.var(ddof=1))
    assert line.get_xy1() == pytest.approx((x.mean(), gain.mean()))
    expected = [mean_and_sem(values[f"gain B - {k}"][part]) for k in "AC" for part in QUARTERS]
    assert bars(by_quarter) == pytest.approx(np.array(expected))
    middle = [bar.get_x() + bar.get_width() / 2 for bar in by_quarter.patches]
    assert middle == pytest.approx([q + side for side in (-.2, .2) for q in (1, 2, 3, 4)])
    assert [text.get_text() for text in by_quarter.get_legend().get_texts()] == ["gain B - A", "gain B - C"]
    pictures = [ax.images for ax in kept["fig_1B"].axes[:15]]  # five rows of three
    a, b = (maps[k] / maps[k].mean((1, 2), keepdims=True) for k in "AB")
    for i in range(3):
        assert np.array_equal(pictures[i][0].get_array(), arrays["example_image"][i])
        for row, k in enumerate(("human", "A", "B"), 1):
            assert np.array_equal(pictures[3 * row + i][-1].get_array(), maps[k][i])
        np.testing.assert_allclose(pictures[12 + i][0].get_array(), b[i] - a[i], atol=1e-12)
        colours = pictures[12 + i][0].norm  # white: no change
        assert (-colours.vmin, colours.vmax) == pytest.approx([np.quantile(abs(b - a), .995)] * 2)


def test_a_difference_is_shown_with_its_t_d_and_p_and_lower_kl_is_better():
    """Four pairs worked out by hand: differences .1, .2, .3, .2 have mean .2, SD .0816, t 4.90, p .016."""
    a = np.array([.3, .2, .4, .1])
    arrays = measured([np.nan] * 4, A=a, B=a + [.1, .2, .3, .2], C=a)
    rows = {claim.name: claim for claim in C.comparisons(arrays)}
    assert len(rows) == 10 and rows["SIM, B - C"].unit == "t 4.9, d 2.45, p = 0.016"
    shown = {row["name"]: row for row in evaluate(rows.values(), arrays)}
    assert shown["CC, B - A"]["ours"] == pytest.approx(.2) and shown["CC, B - A"]["ci"][0] > 0
    assert shown["CC, B - A"]["verdict"] == "undecided"  # not p < .001
    assert (shown["KL, B - A"]["paper"], shown["KL, B - A"]["verdict"]) == ("< 0, p < .001", "differs")
    twelve = measured([np.nan] * 12, A=np.tile(a, 3), B=np.tile(a + [.1, .2, .3, .2], 3))
    rows = {row["name"]: row for row in evaluate(C.comparisons(twelve), twelve)}
    assert (rows["CC, B - A"]["verdict"], rows["KL, B - A"]["verdict"]) == ("agrees", "differs")


def plain_metrics(p: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """The metrics of a map and the counts of the fixations, both (224, 224), from their definitions."""
    human = gaussian_filter(counts, 15, mode="constant", truncate=4)
    human = (human - human.min()) / np.ptp(human)
    z, hit = (p - p.mean()) / p.std(), counts > 0
    thresholds = np.unique(p[hit])[::-1]
    tp, fp = ([0, *[(p[of] >= t).mean() for t in thresholds], 1] for of in (hit, ~hit))
    a, q = p / p.sum(), human / human.sum()
    kl, kl_loss_eps = ((q * np.log(eps + q / (a + eps))).sum() for eps in (2.**-52, 1e-10))
    return dict(cc=np.corrcoef(p.ravel(), human.ravel())[0, 1], nss=z[hit].mean(),
                nss_counts=(z * counts).sum() / counts.sum(), auc=np.trapezoid(tp, fp), kl=kl,
                kl_loss_eps=kl_loss_eps, sim=np.minimum(a, q).sum())


def counts_of(image: GazeImage) -> np.ndarray:
    counts = np.zeros((224, 224))
    for rows, cols in image.observers:
        np.add.at(counts, (rows, cols), 1)
    return counts


def beyond_centre(p: np.ndarray, centre: np.ndarray, counts: np.ndarray, others: np.ndarray) -> dict[str, float]:
    """Shuffled AUC over all pairs of fixations, and bits a fixation of maps that are one part in twenty uniform."""
    here, elsewhere = (np.repeat(p.ravel(), m.ravel().astype(int))[:, None] for m in (counts, others))
    a, b = (m / m.sum() + 1e-6 for m in (p.astype(float), centre))
    return dict(sauc=((here > elsewhere.T) + .5 * (here == elsewhere.T)).mean(),
                gain=(np.log2(a / b) * counts).sum() / counts.sum())


def test_every_metric_of_every_image_and_model_is_that_of_its_own_fixations(blobs, tmp_path, monkeypatch):
    """Seven images in batches of two, the fourth unreadable; one to three observers, some pixels fixated again;
    a map that is 0 on half of its pixels, on which the conventions of KL differ."""
    monkeypatch.setattr(E, "EVAL_BATCH", 2)
    images, rng = [], np.random.default_rng(5)
    for i, image in enumerate(blobs[:7]):
        points = [rng.integers(20, 200, (2, 9)) for _ in range(1 + i % 3)]
        observers = [np.concatenate([p, p[:, :4]], 1).astype(np.int16) for p in points]
        images.append(image._replace(observers=[tuple(o) for o in observers]))
    (tmp_path / "broken.png").write_bytes(b"no image")
    images[3] = images[3]._replace(path=tmp_path / "broken.png")

    def soft(x: torch.Tensor) -> tuple:
        return None, torch.nn.functional.interpolate(x, (224, 224), mode="bilinear").mean(1) + 1

    def half(x: torch.Tensor) -> tuple:
        return None, soft(x)[1].flip(2) * (torch.arange(224) >= 112)
    shown = {"cat": [images[i].name for i in (0, 2, 5)], "cup": ["none"], "dog": [images[i].name for i in (1, 2, 6)]}
    arrays, unreadable = E.align({"A": soft, "B": half}, images, PRE, shown, tmp_path, torch.device("cpu"), 0)
    read = [0, 1, 2, 4, 5, 6]
    assert unreadable == [images[3].name] and arrays["image"].tolist() == [images[i].name for i in read]
    for row, i in enumerate(read):
        counts, maps = [], []
        for rows, cols in images[i].observers:
            counts.append(np.zeros((224, 224)))
            np.add.at(counts[-1], (rows, cols), 1)
            maps.append(gaussian_filter(counts[-1], 15, mode="constant", truncate=4).ravel())
        pairs = [np.corrcoef(maps[j], maps[k])[0, 1] for k in range(len(maps)) for j in range(k)]
        expected = np.mean(pairs) if pairs else np.nan
        assert arrays["consistency"][row] == pytest.approx(expected, abs=1e-6, nan_ok=True)
        others = sum(counts_of(images[j]) for j in range(7) if j != i)  # an image that cannot be read counts
        y, x = np.mgrid[0:224, 0:224] - 111.5
        sd = [((k**2 * others).sum() / others.sum())**.5 for k in (y, x)]
        centre = np.exp(-.5 * (y / sd[0])**2 - .5 * (x / sd[1])**2)
        blurred = gaussian_filter(others, 15, mode="constant", truncate=4)
        maps = [net(E.gaze_images(images, PRE)[i]["image"][None])[1][0].double().numpy() for net in (soft, half)]
        for model, p in enumerate([*maps, centre, (blurred - blurred.min()) / np.ptp(blurred)]):
            for metric, value in (plain_metrics(p, sum(counts))
                                  | beyond_centre(p.astype(np.float32), centre, sum(counts), others)).items():
                assert arrays[metric][row, model] == pytest.approx(value, rel=2e-4, abs=1e-5), (metric, i)
    assert arrays["category"].tolist() == ["cat", "dog"]
    by_category = [arrays["cc"][[0, 2, 4]].mean(0), arrays["cc"][[1, 2, 5]].mean(0)]
    assert arrays["category_cc"] == pytest.approx(np.array(by_category))


def test_images_without_consistency_give_no_line_of_it():
    a, b, c = np.random.default_rng(5).random((3, 12))
    arrays = measured([np.nan] * 12, A=a, B=b, C=c)
    rows = {row["name"]: row for row in evaluate([*C.SCORES, *C.CONSISTENCY], arrays)}
    assert "headroom gain" not in rows and rows["CC, A"]["n"] == 12


# ------------------------------------------------------------------------------------------------ data

@pytest.fixture(scope="module")
def world() -> Path:
    """14 + 24 gaze images, two pictures a class and benchmark."""
    return demo.demo_world(parts=("imagenet", "objectnet", "salicon"))


def test_gaze_maps_of_the_loader_equal_the_density_map_of_the_file(world):
    images, _ = load_gaze(world / "salicon", "val")
    tree = json.loads((world / "salicon" / "fixations_val2014.json").read_text())
    image = next(i for i in tree["images"] if i["file_name"] == images[3].name)
    points = np.concatenate([a["fixations"] for a in tree["annotations"]
                             if a["image_id"] == image["id"] and a["fixations"]])
    rows, cols = (points[:, 0] - 1) * 224 / 480, (points[:, 1] - 1) * 224 / 640
    counts = E.gaze_images(images, PRE)[3]["fixations"]
    torch.testing.assert_close(human_maps(counts[None])[0].double(), density_map(rows, cols, (224, 224), 15),
                               atol=1e-5, rtol=1e-4)


def test_a_turned_photograph_is_measured_and_drawn_as_people_saw_it(tmp_path):
    """A camera's orientation 6 (turn right) and 3 (upside down), to which the gaze belongs; the same bytes
    without it give another picture."""
    pixels = np.random.default_rng(3).integers(0, 255, (48, 64, 3), np.uint8)
    for name, orientation, turned in (("a", 6, np.rot90(pixels, -1)), ("b", 3, np.rot90(pixels, 2))):
        exif = Image.Exif()
        exif[0x112] = orientation
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", exif=exif)
        Image.fromarray(turned).save(tmp_path / f"{name}_seen.png")
    gaze = [(np.array([5], np.int16), np.array([200], np.int16))]
    images = [GazeImage(f"{n}.png", tmp_path / f"{n}.png", gaze) for n in ("a", "a_seen", "b", "b_seen")]
    squash = Preprocess(None, (224, 224), (.5,) * 3, (.5,) * 3, "bilinear", squash=True)
    a, a_seen, b, b_seen = (item["image"] for item in E.gaze_images(images, squash))
    assert torch.equal(a, a_seen) and torch.equal(b, b_seen) and not torch.equal(a, b)
    nets = {k: lambda x, k=k: (None, torch.full((len(x), 224, 224), float(ord(k)))) for k in "CBA"}
    gone = GazeImage("gone.png", tmp_path / "gone.png", gaze)  # not among the images that were measured
    shown = E.examples(nets, [gone, *images], [image.name for image in images], squash, torch.device("cpu"))
    assert len(shown["example_A"]) == 4
    assert (shown["example_A"] == ord("A")).all() and (shown["example_B"] == ord("B")).all()
    assert shown["example_human"][3, 5, 200] == 1  # where people looked
    assert np.array_equal(*shown["example_image"][:2]) and np.array_equal(*shown["example_image"][2:])


def test_categories_of_coco_are_found_by_2014_and_2017_names_and_overlapping_files(tmp_path):
    """The ids of COCO's categories have gaps. Each file has an image, and shows, what the other does not."""
    (tmp_path / "annotations").mkdir()
    categories = [dict(id=18, name="dog"), dict(id=3, name="car"), dict(id=1, name="person")]
    objects = {"train2017": [(70, 7, 3), (90, 9, 18), (91, 9, 1), (92, 9, 1)], "val2017": [(70, 7, 3), (71, 7, 18)]}
    for k, rows in objects.items():
        (tmp_path / "annotations" / f"instances_{k}.json").write_text(json.dumps(dict(
            images=[dict(id=i, file_name=f"{i:012d}.jpg") for i in sorted({i for _, i, _ in rows})],
            annotations=[dict(id=a, image_id=i, category_id=c) for a, i, c in rows], categories=categories)))
    files, seven, nine = coco_files(tmp_path, "val"), "COCO_val2014_000000000007.jpg", "000000000009.jpg"
    shown = {"car": [seven], "dog": [nine, seven], "person": [nine]}
    assert len(files) == 2 and coco_categories(files, [seven, nine, "other.jpg"]) == shown
    assert [len(v) for v in read_coco(files).values()] == [2, 5, 3]  # each object once
    (tmp_path / "annotations" / "instances_val2014.json").write_text("{}")
    assert [f.name for f in coco_files(tmp_path, "val")] == ["instances_val2014.json"]  # the others unread
    with pytest.raises(InputError, match="none.*no instances_"):
        coco_files(tmp_path / "none", "val")


def test_names_of_categories_that_are_no_names_end_in_one_sentence(tmp_path):
    tree = dict(images=[dict(id=i, file_name="7.jpg") for i in (1, 2)],
                categories=[dict(id=1, name="dog"), dict(id=2, name=5)],
                annotations=[dict(id=i, image_id=i, category_id=i) for i in (1, 2)])
    (tmp_path / "instances_val2014.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match="instances_val2014.json"):
        coco_categories([tmp_path / "instances_val2014.json"], ["7.jpg"])


# ------------------------------------------------------------------------------------------------ the script

ARGV = ("--model demo_sl4 --workers 0 --device cpu --limit 8 --batch-size 3 --epochs 1 --eval-every 1 "
        "--lr 1e-4").split()


def run(world: Path, out: Path, *more: str) -> dict | None:
    E.main([*ARGV, "--data", str(world), "--out", str(out), *more])
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def two_images_of_imagenet_c() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(E.PAPER, "imagenet_c_images", 2)
        yield


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("run")
    return out, run(world, out)


@pytest.fixture
def no_figures(finished, monkeypatch) -> None:
    """Those of `finished` are enough."""
    monkeypatch.setattr(E, "draw", lambda *args: None)


@pytest.fixture
def drawn(finished, monkeypatch) -> list[str]:
    """Names of the figures that a run draws but does not save: `finished` does."""
    names = []
    monkeypatch.setattr(E.results, "save_figure", lambda fig, path: names.append(path.name))
    return names


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".csv", ".pth", ".json", ".npz")}


@pytest.mark.parametrize("device", ["mps"])  # which is cuda and more: no float64
def test_the_study_is_computed_on_one_device(world, tmp_path, no_figures, device):
    with one_device(device):
        run(world, tmp_path, "--device", device)


def test_the_whole_study_leaves_tables_figures_weights_and_results(finished):
    out, results = finished
    rows = read_csv(out / "per_image.csv")
    columns = "image condition cc nss nss_counts auc kl kl_loss_eps sim sauc gain consistency".split()
    assert list(rows[0]) == columns and len(rows) == 8 * 5
    assert [row["condition"] for row in rows[:5]] == ["A", "B", "C", "centre", "others"]
    assert len(read_csv(out / "benchmarks.csv")) == 3 * (8 + 2 * 15 + 8)
    figures = {f"fig_{k}.{kind}" for k in "1B 2A 2B 2C 4 centre".split() for kind in ("png", "pdf")}
    assert {p.name for p in out.glob("fig*")} == figures
    assert len(results["not_run"]) == 1 and results["not_run"][0].startswith("frost with ImageNet-C's six")
    names = [h["name"] for h in results["headline"]]
    assert len(names) == len(set(names)) and not (out / "unfinished").exists()
    assert results["conventions"]["kl_loss_eps"].endswith("1e-10")


def test_what_a_run_is_asked_for_reaches_training_and_measures(world, tmp_path, monkeypatch):
    """The seed and the recipe; the same models in alignment and benchmarks, each under its own name."""
    given = {}

    def tuned_models(names, vit, wrap, tuned_state, images, transform, recipe, folder, workers):
        given.update(names=names, recipe=recipe, training=[image.name for image in images], squash=transform)
        models = {k: small_vit(num_classes=12 + i) for i, k in enumerate(names, 1)}
        return dict(reversed(models.items())), {}, []

    def align(nets, images, transform, shown, folder, device, workers):
        given.update(nets={k: net.vit for k, net in nets.items()}, validation=[image.name for image in images])
        assert transform == given["squash"]
        return {"image": np.array([image.name for image in images])}, []

    def examples(nets, images, names, transform, device):
        given.update(examples=list(names))
        return {}

    def measure(models, pre, pictures, folder, device, workers, bfloat16, seed, frost_dir):
        given.update(models=models, pictures={name: [p.number for p in some] for name, some in pictures.items()},
                     seed=seed, crop=pre)
        raise KeyboardInterrupt
    for function in (tuned_models, align, examples):
        monkeypatch.setattr(E, function.__name__, function)
    monkeypatch.setattr(E.benchmarks, "measure", measure)
    found = []
    for seed in ("5", "6"):
        with pytest.raises(KeyboardInterrupt):
            run(world, tmp_path / seed, "--seed", seed, "--lam", "7")
        found.append(dict(given))
    five, six = found
    assert (five["recipe"]["seed"], five["seed"], six["recipe"]["seed"], six["seed"]) == (5, 5, 6, 6)
    assert (five["recipe"]["lam"], five["recipe"]["lr"], five["recipe"]["epochs"]) == (7, 1e-4, 1)
    assert all(some != six["pictures"][name] for name, some in five["pictures"].items() if name != "imagenet_c")
    assert list(five["nets"]) == list(five["models"]) == list("ABC")
    assert [model.head.out_features for model in five["models"].values()] == [12, 13, 14]
    assert all(five["nets"][k] is model for k, model in five["models"].items())
    assert not set(five["training"]) & set(five["validation"]) and len(five["training"]) == 8
    assert five["examples"] == five["validation"][:4]
    assert five["squash"] == E.squashed(five["crop"]) and not five["crop"].squash


CLAIMS_OF_THE_PAPER = {  # what the text says (Results and Benchmark): its number, the rows that show it
    "the tuned model aligns better than the baseline on all metrics, p < .001":
        ("> 0, p < .001", ["CC, B - A", "NSS, B - A", "AUC, B - A", "SIM, B - A"]),
    "and better than the shuffled control, p < .001":
        ("> 0, p < .001", ["CC, B - C", "NSS, B - C", "AUC, B - C", "SIM, B - C"]),
    "both on KL, which is the better the lower": ("< 0, p < .001", ["KL, B - A", "KL, B - C"]),
    "mean alignment of the three models (figure 2A, without numbers; how NSS and KL are computed is not said)":
        (None, [f"{name}, {k}" for k in "ABC" for name in ("CC", "NSS", "NSS of every fixation", "AUC", "KL",
                                                           "KL with eps 1e-10", "SIM")]),
    "for every image the gain is positive": (100, ["images with a gain in CC"]),
    "across every category the gain is positive": ("all", ["COCO categories with a gain in CC"]),
    "the gain falls with consistency, r = -.55, p < .0001": (-.55, ["r(gain, consistency)"]),
    "headroom-normalised gains are positive across all quartiles":
        ("> 0", [f"headroom gain, quartile {q} of consistency" for q in (1, 2, 3, 4)]),
    "top-1 accuracy of the three models on the three benchmarks (figure 4A, without numbers)":
        (None, [f"{name} top-1, {k}" for name in ("ImageNet", "ImageNet-C", "ObjectNet") for k in "ABC"]),
    "parity: BF01 222 on ImageNet": (222, ["BF01 ImageNet (unit information)", "BF01 ImageNet (JZS, r = 1)"]),
    "parity: BF01 242.8 on ImageNet-C":
        (242.8, ["BF01 ImageNet-C (unit information)", "BF01 ImageNet-C (JZS, r = 1)"]),
    "parity: BF01 89 on ObjectNet": (89, ["BF01 ObjectNet (unit information)", "BF01 ObjectNet (JZS, r = 1)"])}


def test_every_claim_of_the_paper_has_a_row(finished):
    """Its claims on animacy, object size and sparsity are exp03's, those on the ResNet exp02's; the share of
    trained parameters is test_trainable_share_is_the_papers."""
    rows = {row["name"]: row for row in finished[1]["headline"]}
    for claim, (paper, names) in CLAIMS_OF_THE_PAPER.items():
        for name in names:
            assert name in rows and rows[name]["paper"] == paper, f"{claim}: {name}"


def test_a_run_killed_between_any_two_files_gives_the_same_bytes_when_it_goes_on(world, finished, tmp_path,
                                                                                no_figures, monkeypatch):
    """Killed when C is trained, when half of the benchmarks are done, and just before its last files."""
    out, _ = finished
    replace, kills = os.replace, ["tuned_C.pt", "imagenet_c/00000.npz", "per_image.csv"]

    def replace_and_die(source, target) -> None:
        if kills and str(target).endswith(kills[0]):
            if kills.pop(0) == "tuned_C.pt":
                replace(source, target)  # after the first validation
            raise KeyboardInterrupt
        replace(source, target)
    monkeypatch.setattr(os, "replace", replace_and_die)
    for resume in ([], ["--resume"], ["--resume"]):
        with pytest.raises(KeyboardInterrupt):
            run(world, tmp_path, *resume)
    run(world, tmp_path, "--resume")
    a, b = content(out), content(tmp_path)
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] in (["results.json"], ["results.json", "arrays.npz"])
    assert json.loads(a["results.json"])["headline"] == json.loads(b["results.json"])["headline"]


def test_a_training_that_became_nan_goes_on_from_its_last_good_state_with_a_lower_lr(world, finished, tmp_path,
                                                                                     no_figures):
    with pytest.raises(InputError, match="broke before step 1"):
        run(world, tmp_path, "--lr", "1e30")
    kept = load_checkpoint(tmp_path / "unfinished" / "tuned_B.pt")
    assert kept["step"] == 0 and all(v.isfinite().all() for v in kept["now"].values())
    before = content(tmp_path)
    with pytest.raises(InputError, match="limit 8 -> 7"):
        run(world, tmp_path, "--lr", "1e-4", "--resume", "--limit", "7")
    with pytest.raises(InputError, match="unfinished run.*--resume|other arguments .lr"):
        run(world, tmp_path, "--lr", "1e-4")
    assert content(tmp_path) == before
    results = run(world, tmp_path, "--lr", "1e-4", "--resume")
    assert results["headline"] == finished[1]["headline"] and results["args"]["lr"] == 1e-4
    assert [row["lr"] for row in read_csv(tmp_path / "tuned_B.csv")] == [1e30, 1e-4, 1e-4]
    assert run(world, tmp_path, "--lr", "1e-4", "--resume")["headline"] == results["headline"]


def test_both_splits_are_opened_before_anything_is_trained(world, tmp_path):
    shutil.copytree(world / "salicon", tmp_path / "salicon")
    for broken in ("fixations_train2014.json", "fixations_val2014.json"):
        whole = (tmp_path / "salicon" / broken).read_bytes()
        for change in (lambda path: path.unlink(), lambda path: path.write_bytes(whole[:500])):
            change(tmp_path / "salicon" / broken)
            with pytest.raises(InputError, match=broken):
                run(world, tmp_path / "o", "--salicon", str(tmp_path / "salicon"))
            assert not (tmp_path / "o").exists()
        (tmp_path / "salicon" / broken).write_bytes(whole)


@pytest.mark.parametrize("wrong, said", [
    (["--data", "nowhere"], "no such folder"), (["--limit", "7"], "other arguments"),
    (["--lr", "2"], "other arguments"), (["--model-b", "none.pth"], "none.pth"),
    (["--batch-size", "400"], "--batch-size 400"), (["--frost", "none"], "six textures"),
    (["--coco", "typo"], "--coco typo: no such folder"), (["--seed", "1"], "other arguments")], ids=str)
def test_a_finished_run_stays_whole_after_wrong_arguments(world, finished, wrong, said):
    before = content(finished[0])
    with pytest.raises(InputError, match=said):
        run(world, finished[0], *wrong)
    assert content(finished[0]) == before and not (finished[0] / "unfinished").exists()


def test_plot_only_redraws_without_a_model(world, finished, monkeypatch, capsys, drawn):
    monkeypatch.setattr(E, "RolloutViT", None)
    run(world, finished[0], "--plot-only")
    assert sorted(drawn) == [f"fig_{k}" for k in ("1B", "2A", "2B", "2C", "4", "centre")]
    assert "paper" in capsys.readouterr().out


def without_training(world: Path, weights: Path, out: Path) -> None:
    run(world, out, "--model-b", str(weights / "tuned_B.pth"), "--model-c", str(weights / "tuned_C.pth"))


def test_two_processes_measure_what_one_does(world, finished, tmp_path, no_figures):
    in_group(2, without_training, world, finished[0], tmp_path)
    for name in ("per_image.csv", "benchmarks.csv"):
        a, b = (read_csv(folder / name) for folder in (finished[0], tmp_path))
        assert len(a) == len(b)
        for r, s in zip(a, b):
            assert r["image"] == s["image"]
            assert all(s[k] == pytest.approx(v, rel=1e-4) if isinstance(v, float) else s[k] == v
                       for k, v in r.items())
    assert not list(tmp_path.glob("tuned_*"))


def test_the_demo_finds_the_planted_gaze_with_the_shipped_models(world, tmp_path, no_figures, monkeypatch, capsys):
    shutil.copytree(world, tmp_path / "world", ignore=shutil.ignore_patterns("imagenet", "objectnet"))
    (tmp_path / "world" / "salicon" / "fixations_train2014.json").unlink()  # not needed where nothing is trained
    monkeypatch.setattr(demo, "demo_world", lambda **_: tmp_path / "world")
    shipped = [f"--model-{k.lower()}={E.benchmarks.ROOT}/checkpoints/demo_{k}.pth" for k in "BC"]
    E.main(["--out", str(tmp_path / "o"), "--workers", "0", "--device", "cpu", *shipped])
    said = capsys.readouterr().out
    assert "not run: ImageNet: no data" in said and "numbers of the built-in demo world" in said
    results = json.loads((tmp_path / "o" / "results.json").read_text())
    gain = {t["pair"]: t for t in results["tests"] if t.get("metric") == "cc" and "pair" in t}
    assert all(gain[pair]["n"] == 24 and gain[pair]["ci"][0] > 0 for pair in ("B - A", "B - C")), gain
    rows = {row["name"]: row for row in results["headline"]}  # B learned more than the centre bias
    assert rows["shuffled AUC, B - A"]["ci"][0] > 0 and rows["shuffled AUC, B - C"]["ci"][0] > 0
    assert rows["shuffled AUC, A"]["ci"][0] > .5 and rows["information gain, centre"]["ours"] == 0
    assert rows["AUC, centre"]["ci"][0] > .7 and rows["AUC, others"]["ci"][0] > .7  # which see no image
    low, high = rows["shuffled AUC, centre"]["ci"]
    assert low < .5 < high
    assert rows["shuffled AUC, others"]["ours"] < .5  # the misses made this map


def test_unreadable_images_are_left_out_and_listed_and_other_data_are_not_run(world, tmp_path, no_figures):
    shutil.copytree(world / "salicon", tmp_path / "salicon")
    for split in ("train", "val"):
        victim = sorted((tmp_path / "salicon" / "images").glob(f"*{split}*"))[2]
        victim.write_bytes(victim.read_bytes()[:900])
    E.main([*ARGV, "--salicon", str(tmp_path / "salicon"), "--out", str(tmp_path / "o")])
    results = json.loads((tmp_path / "o" / "results.json").read_text())
    assert [name.split("_")[1] for name in results["left_out"]["unreadable"]] == ["train2014", "val2014"]
    assert len(read_csv(tmp_path / "o" / "per_image.csv")) == 7 * 5
    for part in ("ImageNet:", "ImageNet-C:", "ObjectNet:", "COCO category"):
        assert part in " ".join(results["not_run"])


@pytest.mark.parametrize("same", ["B", "C"])
def test_a_model_that_is_a_is_said_first_and_not_compared_with_a(world, finished, tmp_path, capsys, drawn,
                                                                 same):
    vit, _ = E.benchmarks.load_model("demo_sl4", None, torch.device("cpu"))
    torch.save(attention_state(vit), tmp_path / "a.pth")
    files = {k: finished[0] / f"tuned_{k}.pth" for k in "BC"} | {same: tmp_path / "a.pth"}
    results = run(world, tmp_path / "o", "--limit", "4", *[f"--model-{k.lower()}={v}" for k, v in files.items()])
    said = capsys.readouterr().out
    assert f"model {same}: it is A" in results["not_run"][0]
    assert said.index(f"warning: model {same}: it is A") < said.index("95 % CI")
    names = [row["name"] for row in results["headline"]]
    assert "CC, A" in names and f"CC, {same}" not in names
    names = [name for name in names if not name.startswith("information gain, ") or same in name]
    compared = [name for name in names if same in name.split(", ")[-1] or "gain" in name or "BF01" in name]
    assert compared == [] if same == "B" else "CC, B - A" in names
    assert ("fig_2B" in drawn) == (same == "C")


def test_a_run_without_fixations_is_refused(world, tmp_path):
    with pytest.raises(InputError, match="no fixations; give --salicon"):
        E.main(["--imagenet", str(world / "imagenet"), "--model", "demo_sl4", "--out", str(tmp_path)])


@pytest.mark.real
@pytest.mark.skipif(not (SHARED / "real" / "osie").exists(), reason="no OSIE at GAZE_SHARED")
def test_osie_is_a_source_of_fixations_with_a_fixed_split():
    train, other = load_gaze(SHARED / "real" / "osie", "train")
    val, _ = load_gaze(SHARED / "real" / "osie", "val")
    assert (len(train), len(val)) == (250, 100) and not {i.name for i in train} & {i.name for i in val}
    assert len(train[0].observers) == 15 and not any(other.values())
