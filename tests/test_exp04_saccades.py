"""exp04_saccades: dropped tokens equal masked ones, planted effects come out, runs survive kills and typos."""
import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import nn
from torch.utils.data import default_collate

import exp04_claims as C
import exp04_saccades as S
import exp04_saliency
from common import InputError, VisionTransformer, cls_attention, generator, resize_matrix, upsample
from data import Images, demo_folder, imagenet_wnids, read_csv
from processes import in_group, interrupted, python
from results import read_arrays, read_json, save_checkpoint
from weights import load_head, load_vit

torch.set_num_threads(1)
SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
DRAW = S.draw
SETTINGS = dict(block=11, foveas=[3], border="clip", seed=0, sweep=False)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Figures cost more than all else here: test_card_commands draws them."""
    monkeypatch.setattr(S, "draw", lambda *args: None)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Three classes of four pictures that differ in colour, in val/: RGB, grey, CMYK, and one of 9x7 px."""
    root = tmp_path_factory.mktemp("pictures")
    for k, name in enumerate(("red", "green", "blue")):
        (root / "val" / name).mkdir(parents=True)
        for i in range(4):
            size = (7, 9, 3) if i == 3 else (60, 80, 3)
            noise = np.random.default_rng([k, i]).integers(0, 90, size).astype(np.uint8)
            noise[..., k] += 140
            image = Image.fromarray(noise).convert(("RGB", "L", "CMYK", "RGB")[i])
            image.save(root / "val" / name / f"{i}.jpg", quality=95)
    return root


def small(data: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(data), "--out", str(out), "--model", "demo_dino4", "--train-head", "--fovea", "3",
            "--workers", "0", "--batch-size", "2", "--device", "cpu", *more]


def fixed_vit() -> VisionTransformer:
    """Five blocks, 24 wide, 14x14 tokens, weights that are sine waves."""
    net = VisionTransformer(embed_dim=24, depth=5, num_heads=2).eval()
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(.3 * torch.sin(torch.arange(p.numel()).double() * (.7 + .1 * i) + i).view(p.shape))
    return net


def fixed_input() -> tuple[torch.Tensor, torch.Tensor]:
    """Images (2, 3, 224, 224) and maps (2, 14, 14)."""
    x = torch.sin(torch.arange(2 * 3 * 224 * 224).double() * .37).float().view(2, 3, 224, 224)
    return x, torch.sin(torch.arange(2 * 196).double() * 1.3).float().view(2, 14, 14) + 1


# ------------------------------------------------------------------------------------------------ saccades

@pytest.mark.parametrize("fovea", [3, 5])
@pytest.mark.parametrize("border", ["clip", "shift"])
def test_dropped_tokens_equal_masked_attention_over_ten_saccades(fovea, border):
    net, (x, att) = fixed_vit(), fixed_input()
    _, visible = S.fixation_sequence(att, fovea, 10, border)
    ours = S.forward_visible(net, x, visible)  # (2, 10, 96)
    for s in range(10):  # a plain full pass in which the hidden tokens are masked as keys
        hidden = torch.cat([torch.zeros(2, 1, dtype=torch.bool), ~visible[:, s].flatten(1)], 1)  # (2, 197)
        first, cls = (net.cls_token + net.pos_embed[:, :1]).expand(2, -1, -1), []
        tokens = torch.cat([first, net.embed(x)], 1)
        for block in net.blocks:
            q, k, v = block.attn.qkv(block.norm1(tokens)).view(2, 197, 3, 2, 12).permute(2, 0, 3, 1, 4)
            scores = (q @ k.transpose(2, 3) / 12 ** .5).masked_fill(hidden[:, None, None], -torch.inf)
            tokens = tokens + block.attn.proj((scores.softmax(3) @ v).transpose(1, 2).reshape(2, 197, 24))
            tokens = tokens + block.mlp(block.norm2(tokens))
            cls.append(net.norm(tokens[:, 0]))
        torch.testing.assert_close(ours[:, s], torch.cat(cls[-4:], 1), atol=1e-5, rtol=0)


def test_features_equal_hugging_face_with_an_attention_mask():
    net, (x, att) = fixed_vit(), fixed_input()
    # transformers 5.23.0, ViTModel(attention_mask=...), these weights: CLS of hidden_states[-4:] after
    # layernorm, numbers 0, 30, 95 of image 0, then of image 1, after saccades 1 and 10
    theirs = {(3, 0): [.439672, .265247, -.435113, .530629, .25002, -.409615],
              (3, 9): [.494529, .26037, -.404511, .488224, .254189, -.429235],
              (5, 0): [.432379, .266502, -.43538, .531024, .250072, -.407102],
              (5, 9): [.482712, .256958, -.422598, .47236, .256342, -.433148]}
    for (fovea, s), numbers in theirs.items():
        ours = S.forward_visible(net, x, S.fixation_sequence(att, fovea, 10)[1])[:, s, [0, 30, 95]]
        np.testing.assert_allclose(ours.detach().flatten(), numbers, atol=5e-6)


def test_a_single_mask_an_image_gives_the_features_of_the_whole_batch_of_masks():
    net, (x, att) = fixed_vit(), fixed_input()
    visible = S.fixation_sequence(att, 3, 3)[1]
    together = S.forward_visible(net, x, visible)
    torch.testing.assert_close(S.forward_visible(net, x, visible[:, 2], 2), together[:, 2, 48:])
    everything = torch.ones(2, 14, 14, dtype=torch.bool)
    torch.testing.assert_close(S.forward_visible(net, x, everything, 1), net(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fovea", [1, 3, 5])
@pytest.mark.parametrize("border", ["clip", "shift"])
def test_visible_tokens_and_fixations_equal_a_plain_double_loop(fovea, border):
    att = torch.rand(4, 7, 9, generator=generator(fovea))
    fixations, visible = S.fixation_sequence(att, fovea, 6, border)
    for b in range(4):
        left, seen = att[b].clone(), set()
        for s in range(6):
            best = max(((r, c) for r in range(7) for c in range(9)), key=lambda rc: float(left[rc]))
            assert tuple(fixations[b, s].tolist()) == best
            row, col = best
            if border == "shift":
                row = min(max(row, fovea // 2), 6 - fovea // 2)
                col = min(max(col, fovea // 2), 8 - fovea // 2)
            for r in range(row - fovea // 2, row + fovea // 2 + 1):
                for c in range(col - fovea // 2, col + fovea // 2 + 1):
                    if 0 <= r < 7 and 0 <= c < 9:
                        seen.add((r, c))
                        left[r, c] = -1
            assert int(visible[b, s].sum()) == len(seen)
            assert all(visible[b, s][rc] for rc in seen)


def test_when_all_is_seen_further_saccades_change_nothing():
    _, visible = S.fixation_sequence(torch.rand(2, 3, 3, generator=generator(1)), 3, 9)
    assert visible[:, -1].all() and not visible[:, 0].all()


@pytest.mark.parametrize("fovea", [0, 2, 4, 15, -3])
def test_even_or_too_large_foveas_are_refused(fovea):
    with pytest.raises(InputError, match=f"fovea {fovea}: expected an odd number"):
        S.fixation_sequence(torch.ones(1, 14, 14), fovea, 10)


def test_a_map_of_zeros_but_for_one_place_is_never_fixated_twice():
    att = torch.zeros(2, 14, 14)
    att[0, 6, 6] = att[1, 13, 0] = 1
    fixations, visible = S.fixation_sequence(att, 3, 10)
    for b in range(2):
        assert len({tuple(place) for place in fixations[b].tolist()}) == 10
        for s in range(1, 10):
            assert not visible[b, s - 1][tuple(fixations[b, s])]
    flat = S.fixation_sequence(torch.zeros(1, 14, 14), 3, 10)[0][0]  # the first of what is left
    assert flat[:3].tolist() == [[0, 0], [0, 2], [0, 4]]


def test_single_maps_arrays_nan_and_negative_values_are_refused_in_a_sentence():
    mixed = torch.stack([torch.ones(5, 5), torch.full((5, 5), -1.)])  # of one image alone
    for bad in (torch.full((1, 5, 5), torch.nan), torch.full((1, 5, 5), -.1), torch.ones(5, 5),
                np.ones((1, 5, 5)), mixed):
        with pytest.raises(InputError, match=r"expected a tensor \(B, h, w\)"):
            S.fixation_sequence(bad, 3, 2)


@torch.no_grad()
def test_bf16_predictions_agree_with_fp32(demo):
    some = {key: value[:12] for key, value in demo.batch.items()}
    exact = S.measure(some, demo.model, demo.head, demo.labels, **SETTINGS)
    rough = S.measure(some, demo.model.bfloat16(), demo.head, demo.labels, **SETTINGS)
    demo.model.float()
    assert (exact["pred"] == rough["pred"]).float().mean() > .9


# ------------------------------------------------------------------------------------------------ measures

def test_certainty_is_zero_for_a_uniform_and_one_for_a_sure_answer():
    head = nn.Linear(4, 4)
    head.load_state_dict({"weight": torch.eye(4), "bias": torch.zeros(4)})
    pred, certainty = S.classify(head, torch.tensor([[0., 0, 0, 0], [0, 0, 300, 0], [0, 0, 0, np.log(3)]]))
    assert pred.tolist()[1:] == [2, 3]
    p = np.array([1, 1, 1, 3]) / 6
    np.testing.assert_allclose(certainty.detach(), [0, 1, 1 + (p * np.log(p)).sum() / np.log(4)], atol=1e-6)


def test_entropy_of_maps_is_in_bits_and_scale_free():
    maps = torch.zeros(3, 14, 14)
    maps[0] = 7.
    maps[1, 3, 3] = .01
    maps[2, 0, :8] = 1e-3
    np.testing.assert_allclose(S.map_entropy(maps), [np.log2(196), 0, 3], atol=1e-6)


def test_transitions_of_a_hand_made_sequence():
    correct = np.array([[0, 1, 1, 0, 0, 1, 1, 0],   # first success at 2 is no transition
                        [0, 0, 0, 1, 1, 1, 1, 1],
                        [1, 0, 1, 0, 0, 0, 1, 1],
                        [0, 0, 0, 0, 0, 0, 0, 0]])
    found = {k: v.sum(0).tolist() for k, v in C.transitions(correct).items()}
    assert found == {
        "correct to wrong": [0, 1, 0, 2, 0, 0, 0, 1], "back to correct": [0, 0, 1, 0, 0, 1, 1, 0],
        "still wrong after a change": [0, 0, 0, 0, 2, 1, 0, 0],
        "still correct after one": [0, 0, 0, 0, 0, 0, 1, 1]}


def test_every_image_that_ever_lost_its_answer_is_in_one_set():
    correct = np.random.default_rng(0).integers(0, 2, (300, 10))
    sets = C.transitions(correct)
    lost = np.maximum.accumulate(np.pad((correct[:, :-1] > correct[:, 1:]), ((0, 0), (1, 0))), 1)
    assert (sum(v.astype(int) for v in sets.values()) == lost).all()


def test_threshold_is_chosen_on_one_half_and_judged_on_the_other():
    rng, n = np.random.default_rng(1), 400
    ready = rng.integers(0, 10, n)[:, None]  # from this saccade on certain and correct
    certainty = np.where(np.arange(10) >= ready, .9, .2)
    t = {"certainty": certainty, "correct": (certainty > .5).astype(float),
         "tokens": np.tile(np.arange(1, 11) * 9., (n, 1))}
    stopped, last = C.stopping(t, 0)
    assert len(stopped["correct"]) == n // 2 and (last["tokens"] == 90).all()
    assert stopped["correct"].mean() == 1  # never stops too early
    half = np.random.default_rng([0, 4]).permutation(n) < n // 2
    np.testing.assert_allclose(stopped["tokens"].mean(), 9 * (ready[~half].mean() + 1))
    t |= {"certainty": np.ones((n, 10)), "correct": np.ones((n, 10))}  # as certain as can be at once
    assert (C.stopping(t, 0)[0]["tokens"] == 9).all()


# ------------------------------------------------------------------------------------------------ the demo

class Demo:
    """The demo world's shipped model and head, 60 images as one batch, their labels."""

    def __init__(self):
        self.model, self.view, self.head, _ = S.load_model("demo_dino12", None, None, False, None)
        items, _, _ = S.load_data(str(demo_folder("imagenet", n_val=60) / "imagenet"), False, None, 0, 0)
        images = Images([path for path, _ in items], self.view)
        self.batch = default_collate([images[i] for i in range(60)])
        self.labels = torch.tensor([label for _, label in items])


@pytest.fixture(scope="module")
def demo():
    return Demo()


def first_result(function):
    """The function, run at its first call only."""
    kept = []

    def again(*args):
        if not kept:
            kept.append(function(*args))
        return kept[0]
    return again


def table(found: dict, conditions: list[str]) -> dict:
    """What measure returns, as arrays of a run."""
    return {key: value.numpy() for key, value in found.items()} | {"conditions": np.array(conditions)}


@torch.no_grad()
def lines(demo, head) -> list[dict]:
    """Attention minus random at saccades 1, 2, 3, 5 and 10."""
    arrays = table(S.measure(demo.batch, demo.model, head, demo.labels, **SETTINGS),
                   ["attention fovea3", "random fovea3"])
    return [row for row in C.claims(arrays, [3], False, 0) if "attention - random, sacc" in row["name"]]


def test_attention_beats_random_early_and_an_untrained_head_shows_no_difference(demo, monkeypatch):
    for name in ("look", "forward_visible"):  # both heads read the same features: computed once
        monkeypatch.setattr(S, name, first_result(getattr(S, name)))
    trained = lines(demo, demo.head)
    assert [row["verdict"] for row in trained[:3]] == ["agrees"] * 3 and trained[1]["ours"] > 20
    untrained = nn.Linear(384, 12)
    nn.init.normal_(untrained.weight, std=.05, generator=generator(1))
    nn.init.zeros_(untrained.bias)
    for row in lines(demo, untrained)[:3]:
        assert row["ci"][0] <= 0 <= row["ci"][1] and abs(row["ours"]) < 12


@torch.no_grad()
def test_a_models_own_head_stays_in_float32(demo):
    model, _, head, block = S.load_model("demo_sl4", None, None, False, None)
    some = {key: value[:2] for key, value in demo.batch.items()}
    found = S.measure(some, model.bfloat16(), head, demo.labels, **SETTINGS | dict(block=block))
    assert head.in_features == 96 and head.weight.dtype == found["certainty"].dtype == torch.float32
    assert ((found["certainty"] >= 0) & (found["certainty"] <= 1)).all()


def test_random_fixations_are_a_function_of_seed_and_image():
    a, b = S.random_maps(torch.tensor([3, 8]), (4, 5), 0), S.random_maps(torch.tensor([8]), (4, 5), 0)
    assert torch.equal(a[1], b[0]) and not torch.equal(a[0], a[1])
    assert not torch.equal(b, S.random_maps(torch.tensor([8]), (4, 5), 1))


CARD = [[], ["--fovea", "5", "--layer", "11"], ["--sweep"]]
MAIN = {"fig03_accuracy", "fig04_dynamics", "fig05_certainty", "fig07_entropy", "fig08_examples", "fig13_maps"}


@pytest.mark.parametrize("command", CARD, ids=[" ".join(c) or "bare" for c in CARD])
def test_card_commands(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(S, "draw", DRAW)
    figures = [name for name in vars(S) if name.startswith("draw_") and name != "draw_sweep"]
    for name in figures if command else ():  # the bare command draws the figures that all share
        monkeypatch.setattr(S, name, lambda *args: None)
    n = 2
    S.main([*command, "--limit", str(n), "--out", str(tmp_path), "--workers", "0", "--device", "cpu"])
    assert "numbers of the built-in demo world" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["block"] == 11 and not (tmp_path / "unfinished").exists()
    rows, arrays = read_csv(tmp_path / "per_image.csv"), read_arrays(tmp_path / "arrays.npz")
    foveas = [5] if "--fovea" in command else [3, 5]
    names = [f"{m} fovea{f}" for m in ("attention", "random") for f in foveas]
    assert [r["condition"] for r in rows] == n * names and list(rows[0])[:2] == ["image", "condition"]
    assert arrays["row"].shape == (n, len(names) + 48 * ("--sweep" in command), 10)
    for key in ("pred", "row", "col", "tokens", "correct"):
        assert rows[1][f"{key}_4"] == arrays[key][0, 1, 3]
    if not command:
        assert {p.stem for p in tmp_path.glob("fig*")} == MAIN
        assert (tmp_path / "fig03_accuracy.pdf").exists() and len(results["not_run"]) == 2
        for name in set(figures) - {"draw_accuracy"}:
            monkeypatch.setattr(S, name, lambda *args: None)
        (tmp_path / "fig03_accuracy.pdf").unlink()
        S.main(["--limit", str(n), "--plot-only", "--out", str(tmp_path)])
        assert capsys.readouterr().out.count("accuracy, full image") == 1
        assert (tmp_path / "fig03_accuracy.pdf").exists()
    if command == ["--sweep"]:
        assert {p.stem for p in tmp_path.glob("fig*")} == {"fig06_fig17_blocks_resolutions"}
        rows = read_csv(tmp_path / "sweep.csv")
        assert len(rows) == 10 * (4 + 12 * 4) and rows[-1]["condition"] == "block11 8x8"
        assert rows[-1]["certainty"] == pytest.approx(arrays["certainty"][:, -1, -1].mean(), abs=1e-6)


def test_saliency_starts_the_second_script_with_the_same_arguments(pictures, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(S.runpy, "run_path", lambda file, run_name: started.append((file, list(S.sys.argv))))
    monkeypatch.setattr(S.sys, "argv", ["pytest"])
    argv = small(pictures, tmp_path / "out", "--limit", "2", "--sweep", "--saliency")
    S.main(argv)
    shared = [word for word in argv if word not in ("--sweep", "--saliency")]
    saliency = str(Path(S.__file__).with_name("exp04_saliency.py"))
    more = ["--out", str(tmp_path / "out/saliency"), "--saccades", str(tmp_path / "out")]
    assert started == [(saliency, [saliency, *shared, *more])]
    S.main([*argv, "--resume"])  # the first part is complete: only the second goes on
    assert len(started) == 2 and "--resume" in started[1][1]
    (tmp_path / "out/saliency/unfinished").mkdir(parents=True)
    S.main(argv)  # measured anew; the second part, which was interrupted, goes on
    assert started[2] == (saliency, [saliency, *shared, "--resume", *more])


def test_commands_for_gpus_and_real_data_are_understood(monkeypatch):
    for gpu, images in ((True, 256), (False, 32)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        assert S.parse([]).batch_size == images
    for line in ("--data IMAGENET --sweep --saliency --dtype bfloat16", "--data IMAGENET --sweep --saliency",
                 "--data FOLDER --model dino_vits16 --train-head"):
        args = S.parse(line.split())
        assert args.model in (None, "dino_vits16") and args.fovea == [3, 5] and args.border == "clip"
    assert S.parse(["--layer", "11"]).out.name == "demo_block11"


@pytest.mark.real
def test_every_part_of_the_study_runs_on_real_images(tmp_path):
    folder, file = SHARED / "real/imagenet/val", SHARED / "real/weights/dinov2_vits14_derived_fp16.pth"
    if not (folder.is_dir() and file.exists()):
        pytest.skip(f"{folder} or {file} is missing: set GAZE_SHARED to the shared folder")
    wnids = imagenet_wnids()
    for wnid in sorted(path.name for path in folder.iterdir())[::30]:
        place = tmp_path / "data" / ("animal" if wnids.index(wnid) < 398 else "other")
        place.mkdir(parents=True, exist_ok=True)
        for path in (folder / wnid).iterdir():
            (place / path.name).symlink_to(path)
    S.main(["--data", str(tmp_path / "data"), "--model", "dinov2_vits14", "--weights", str(file), "--train-head",
            "--sweep", "--limit", "3", "--out", str(tmp_path / "out"), "--workers", "0", "--device", "cpu",
            "--fovea", "3"])
    arrays = read_arrays(tmp_path / "out/arrays.npz")
    assert arrays["correct"].shape == (3, 2 + 12 * 4, 10) and (arrays["n_tokens"] == 256).all()
    ours = [h["ours"] for h in json.loads((tmp_path / "out/results.json").read_text())["headline"]]
    assert len(ours) > 20 and all(isinstance(v, float) and np.isfinite(v) for v in ours)


# ------------------------------------------------------------------------------------------------ own data

def test_grey_cmyk_and_tiny_pictures_run_with_a_fitted_head_and_half_is_left_out(pictures, tmp_path):
    S.main(small(pictures, tmp_path))
    assert len(read_csv(tmp_path / "per_image.csv")) == 2 * 6
    head = load_head(tmp_path / "linear_head.pth")
    assert (head.in_features, head.out_features) == (4 * 96, 3)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["unreadable"] == [] and results["model"] == "demo_dino4"
    # six images to fit on, far fewer than the 384 numbers of each: none is missed
    assert results["head_fitted"] == {"images": 6, "accuracy": 100.0, "unreadable": []}


def test_the_fit_of_a_head_says_how_many_images_it_gets_right(tmp_path, monkeypatch, demo):
    monkeypatch.setattr(S, "in_batches", lambda *args: dict(  # one number an image, which tells nothing
        x=np.zeros((5, 1), np.float32), index=np.arange(5), readable=np.ones(5, bool)))
    fit = [(Path(f"{k}.jpg"), label) for k, label in enumerate((0, 0, 0, 1, 1))]
    _, fitted = S.fit_head(demo.model, demo.view, fit, 2, tmp_path, 2, 0)
    assert fitted == {"images": 5, "accuracy": 60.0, "unreadable": []}  # all are called 0


def test_truncated_pictures_are_left_out_and_listed_and_change_no_other(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "data")
    save_checkpoint({"weight": torch.randn(3, 96), "bias": torch.zeros(3)}, tmp_path / "head.pth")
    argv = [a for a in small(tmp_path / "data", tmp_path / "out") if a != "--train-head"]
    for name in ("red", "green", "blue"):
        whole = (tmp_path / "data/val" / name / "0.jpg").read_bytes()
        (tmp_path / "data/val" / name / "torn.jpg").write_bytes(whole[:len(whole) // 2])
    S.main([*argv, "--head", str(tmp_path / "head.pth")])
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["unreadable"] == ["blue/torn.jpg", "green/torn.jpg", "red/torn.jpg"]
    rows = read_csv(tmp_path / "out/per_image.csv")
    assert len(rows) == 2 * 12 and not any("torn" in row["image"] for row in rows)


def test_a_resumed_run_lists_the_fitting_pictures_that_could_not_be_read(pictures, tmp_path, monkeypatch):
    shutil.copytree(pictures / "val", tmp_path / "data/val")
    shutil.copytree(pictures / "val", tmp_path / "data/train")
    (tmp_path / "data/train/red/torn.jpg").write_bytes(b"no image")
    argv = small(tmp_path / "data", tmp_path / "out")
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(S, "measure", interrupted(S.measure, 2))
        S.main(argv)
    S.main([*argv, "--resume"])
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["unreadable"] == ["red/torn.jpg"] and results["head_fitted"]["images"] == 12
    assert len(read_csv(tmp_path / "out/per_image.csv")) == 2 * 12


@pytest.mark.parametrize("script", [S, exp04_saliency])
def test_arguments_reach_what_is_measured_and_the_table(script, pictures, tmp_path, monkeypatch):
    asked, drawn, told = [], [], []
    measure, some_per_class, claims = script.measure, exp04_saliency.some_per_class, C.claims
    monkeypatch.setattr(script, "measure", lambda batch, **how: asked.append(how) or measure(batch, **how))
    monkeypatch.setattr(exp04_saliency, "some_per_class",
                        lambda items, n, seed: drawn.append((n, seed)) or some_per_class(items, n, seed))
    monkeypatch.setattr(C, "claims", lambda arrays, *args: told.append(args) or claims(arrays, *args))
    monkeypatch.setattr(exp04_saliency, "draw", lambda *args: None)
    script.main(small(pictures, tmp_path, "--fovea", "5", "3", "--seed", "3", "--layer", "1", "--border", "shift"))
    items, fit, _ = S.load_data(str(pictures), True, None, 3, 0)
    names = [f"{path.parent.name}/{path.name}" for path, _ in items]
    assert read_arrays(tmp_path / "arrays.npz")["image"].tolist() == names
    assert asked[0]["labels"].tolist() == [label for _, label in items]
    assert (asked[0]["seed"], asked[0]["block"], asked[0]["border"]) == (3, 1, "shift")
    if script is S:
        assert (asked[0]["foveas"], told, drawn) == ([5, 3], [([5, 3], False, 3, None)], [])
    else:
        assert (asked[0]["fovea"], drawn) == (5, [(10, 3)])


def test_labels_of_a_part_of_imagenet_are_classes_of_the_thousand(tmp_path):
    wnids = imagenet_wnids()
    for k in (0, 217, 701):
        (tmp_path / "val" / wnids[k]).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / wnids[k] / "a.JPEG")
    items, fit, classes = S.load_data(str(tmp_path), False, None, 0, 0)
    assert [label for _, label in items] == [0, 1, 2] and classes == [wnids[k] for k in (0, 217, 701)] and not fit
    items, names = S.data.labels_of(nn.Linear(2, 1000), items, classes)
    assert [label for _, label in items] == [0, 217, 701] and len(names) == 1000
    assert names[0] == "tench" and names[217] == "English springer"
    for classes in (["cat", "dog", "fish"], [f"class {k}" for k in range(1000)]):  # in which order, nobody knows
        with pytest.raises(InputError, match=f"'{classes[0]}' is no id of theirs"):
            S.data.labels_of(nn.Linear(2, 1000), items, classes)
    with pytest.raises(InputError, match="the head has 4 classes, the data 3 .cat, dog, fish"):
        S.data.labels_of(nn.Linear(2, 4), items, ["cat", "dog", "fish"])


def test_wrong_data_are_told_before_any_weights_are_asked_for(tmp_path, monkeypatch):
    def no_internet(*args):
        raise InputError("no weights")
    monkeypatch.setattr(S, "load_vit", no_internet)
    (tmp_path / "empty").mkdir()
    (tmp_path / "one/a").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "one/a/x.png")
    for place, said in (("missing", "no such folder"), ("empty", "no class folder"), ("one", "1 images to test")):
        for main in (S.main, exp04_saliency.main):
            with pytest.raises(InputError, match=said):
                main(["--data", str(tmp_path / place), "--out", str(tmp_path / "out"), "--device", "cpu"])


def test_names_that_are_no_utf8_survive_from_the_first_to_the_last_file(tmp_path):
    for k, folder in enumerate((b"caf\xe9", b"green")):
        place = os.fsencode(tmp_path) + b"/data/" + folder
        try:
            os.makedirs(place)
        except OSError:
            pytest.skip("this file system refuses such names")
        for i in range(4):
            noise = np.random.default_rng([k, i]).integers(0, 255, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(noise).save(os.fsdecode(place + b"/picture\xfc%d.png" % i))
    with open(os.fsdecode(place + b"/t\xf6rn.png"), "wb") as f:
        f.write(b"no image")
    argv = small(tmp_path / "data", tmp_path / "out")
    program = f"import exp04_saccades; exp04_saccades.main({argv!r})"
    done = python("-c", program)  # whose stdout takes nothing that is no UTF-8
    assert done.status == 0, done.stderr
    table = (tmp_path / "out/per_image.csv").read_bytes()
    assert table.count(b"picture\xfc") == 2 * 4 and b"caf\xe9/picture" in table
    names = read_json(tmp_path / "out/results.json")["unreadable"]
    assert [os.fsencode(name) for name in names] in ([], [b"green/t\xf6rn.png"])
    assert set(read_arrays(tmp_path / "out/arrays.npz")["image"]) <= {
        os.fsdecode(b"%s/picture\xfc%d.png" % (c, i)) for c in (b"caf\xe9", b"green") for i in range(4)}


# ------------------------------------------------------------------------------------------------ processes

def test_interrupted_and_resumed_run_equals_an_undisturbed_one(pictures, tmp_path, monkeypatch):
    S.main(small(pictures, tmp_path / "a"))
    argv = small(pictures, tmp_path / "b")
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(S, "measure", interrupted(S.measure, 3))
        S.main(argv)
    assert not (tmp_path / "b/results.json").exists()
    with pytest.raises(InputError, match="unfinished run"):
        S.main(argv)
    with pytest.raises(InputError, match="border"):
        S.main([*argv, "--resume", "--border", "shift"])
    S.main([*argv, "--resume"])
    for name in ("per_image.csv", "linear_head.pth"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_two_processes_equal_one(pictures, tmp_path):
    S.main(small(pictures, tmp_path / "one"))
    in_group(2, S.main, small(pictures, tmp_path / "two"))
    assert (tmp_path / "one/per_image.csv").read_bytes() == (tmp_path / "two/per_image.csv").read_bytes()


# ------------------------------------------------------------------------------------------------ wrong input

def test_wrong_input_is_refused_in_one_sentence_and_a_finished_run_stays_whole(pictures, tmp_path):
    out = tmp_path / "out"
    S.main(small(pictures, out))
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "flat/a.jpg")
    save_checkpoint({"weight": torch.zeros(3, 100), "bias": torch.zeros(3)}, tmp_path / "wide.pth")
    save_checkpoint({"weight": torch.zeros(5, 96), "bias": torch.zeros(5)}, tmp_path / "five.pth")
    save_checkpoint({"weight": torch.zeros(3, 192), "bias": torch.zeros(3)}, tmp_path / "vitb.pth")
    own = [a for a in small(pictures, out) if a != "--train-head"]
    for argv, message in (
            (small(tmp_path / "missing", out), "missing: no such folder"),
            (small(tmp_path / "empty", out), "no class folder"),
            (small(tmp_path / "flat", out), "class folder"),
            (small(pictures, out, "--layer", "4"), "--layer 4: this model has blocks 0 to 3"),
            (small(pictures, out, "--layer", "-1"), "blocks 0 to 3"),
            (small(pictures, out, "--fovea", "4"), "fovea 4: expected an odd"),
            (small(pictures, out, "--fovea", "15"), "at most 14"),
            (small(pictures, out, "--fovea", "5"), "other arguments .fovea"),
            (small(pictures, out, "--limit", "4"), "other arguments .limit"),
            (small(pictures, out, "--limit", "1"), "1 images to test, 3 classes"),
            (own, "no classifier of the CLS"),
            ([*own, "--head", str(tmp_path / "wide.pth")], "but Linear.in_features=100"),
            ([*own, "--head", str(tmp_path / "vitb.pth")], "CLS and the mean of the patches .* --train-head"),
            ([*own, "--head", str(tmp_path / "five.pth")], "5 classes, the data 3"),
            ([*own, "--head", str(tmp_path / "no.pth")], "no such weight file"),
            ([*own, "--model", "resnet99"], "no model resnet99")):
        with pytest.raises(InputError, match=message):
            S.main(argv)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == whole, message


def test_a_folder_without_a_readable_picture_is_refused(tmp_path):
    save_checkpoint({"weight": torch.zeros(2, 96), "bias": torch.zeros(2)}, tmp_path / "two.pth")
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "x.jpg").write_bytes(b"no image")
    argv = [a for a in small(tmp_path / "data", tmp_path / "out") if a != "--train-head"]
    with pytest.raises(InputError, match="none of the 2 images can be read"):
        S.main([*argv, "--head", str(tmp_path / "two.pth")])


# ------------------------------------------------------------------------------------------------ claims

@torch.no_grad()
def test_every_condition_has_the_saccades_of_its_own_map(demo):
    """Two foveas, the larger first; a block that is not the last; every block and smaller inputs."""
    model, head = S.load_model("demo_dino4", None, None, True, None)[0], nn.Linear(4 * 96, 12)
    nn.init.normal_(head.weight, std=.05, generator=generator(1))
    some = {key: value[:2] for key, value in demo.batch.items()}
    block, x = 1, some["image"]
    found = S.measure(some, model, head, demo.labels, block=block, foveas=[5, 3], border="shift", seed=4,
                      sweep=True)
    maps = {"full": cls_attention(model, x).amax(2)}  # the maximum over heads, (2, 4, 14, 14)
    for side in (12, 10, 8):
        a = resize_matrix(224, 16 * side, "bilinear", antialias=True)
        maps[f"{side}x{side}"] = upsample(cls_attention(model, a @ x @ a.T).amax(2), (14, 14))
    noise = torch.stack([torch.rand(14, 14, generator=generator(4, 3, i)) for i in (0, 1)])
    expected = {f"{kind} fovea{f}": (m, f) for f in (5, 3)
                for kind, m in (("attention", maps["full"][:, block]), ("random", noise))}
    expected |= {f"block{b:02d} {grid}": (maps[grid][:, b], 5) for grid in maps for b in range(4)}
    names = C.conditions([5, 3], 4, True)
    assert sorted(names) == sorted(expected)
    for c, name in enumerate(names):
        places, visible = S.fixation_sequence(*expected[name], 10, "shift")
        assert torch.equal(found["row"][:, c].long(), places[..., 0]), name
        assert torch.equal(found["col"][:, c].long(), places[..., 1]), name
        assert torch.equal(found["tokens"][:, c].long(), visible.sum((2, 3))), name
    p = maps["full"][:, block].flatten(1).double().numpy()
    np.testing.assert_allclose(found["entropy"], stats.entropy(p, base=2, axis=1), atol=1e-5)
    assert found["n_tokens"].tolist() == [196, 196] and torch.equal(found["index"], some["index"])
    e = model.encode(model.embed(x))
    p = head(model.norm(e.cls[:, -4:]).flatten(1)).softmax(1).double().numpy()  # oldest block first
    assert found["pred_full"].tolist() == p.argmax(1).tolist()
    np.testing.assert_allclose(found["certainty_full"], 1 - stats.entropy(p, axis=1) / np.log(12), atol=1e-5)


@torch.no_grad()
def test_answers_are_correct_where_they_are_the_label(demo):
    some = {key: value[:5] for key, value in demo.batch.items()}
    labels = demo.labels.clone()
    labels[:2] = (labels[:2] + 1) % 12  # so that full images are wrong too
    found, label = S.measure(some, demo.model, demo.head, labels, **SETTINGS), labels[:5]
    assert torch.equal(found["label"], label) and not found["correct_full"].all()
    assert torch.equal(found["correct_full"], found["pred_full"] == label)
    assert torch.equal(found["correct"], found["pred"] == label.view(5, 1, 1))
    other = S.measure(some, demo.model, demo.head, labels, **SETTINGS | dict(seed=1))
    for key in ("row", "col"):  # random fixations change with the seed, those of attention do not
        assert torch.equal(found[key][:, 0], other[key][:, 0])
        assert (found[key][:, 1] != other[key][:, 1]).any(1).all()


def folder_of_classes(root: Path) -> Path:
    """Eight classes of six images, in sorted order."""
    for k in range(8):
        (root / f"class{k}").mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (4, 4)).save(root / f"class{k}" / f"{i}.png")
    return root


def test_limit_takes_a_random_part_of_all_classes_that_changes_with_the_seed(tmp_path):
    root = folder_of_classes(tmp_path)
    every, _, _ = S.load_data(str(root), False, None, 0, 0)
    some, fit, classes = S.load_data(str(root), False, 16, 0, 0)
    assert len(every) == 48 and len(some) == 16 and len(classes) == 8 and not fit
    assert len({label for _, label in some}) > 5 and some == [item for item in every if item in some]
    assert some != S.load_data(str(root), False, 16, 1, 0)[0]


def test_a_head_is_fitted_on_one_half_and_tested_on_the_other(tmp_path):
    root = folder_of_classes(tmp_path / "flat")
    every, _, _ = S.load_data(str(root), False, None, 0, 0)
    for limit in (None, 16):
        items, fit, _ = S.load_data(str(root), True, limit, 0, 0)
        assert len(fit) == 24 and len(items) == (limit or 24) and not set(items) & set(fit)
        assert set(items) | set(fit) == set(every) or limit
        assert len({label for _, label in fit}) > 5
    assert fit != S.load_data(str(root), True, 16, 1, 0)[1]


def test_a_fitted_head_minimises_the_penalised_loss_of_standardised_features(tmp_path, monkeypatch, demo):
    x = torch.randn(60, 5, generator=generator(3)) * torch.tensor([1., 2, 5, .1, 1]) + 3
    labels = [int(v) for v in (x[:, 0] > 3.2).int() + (x[:, 1] > 3.5).int()]
    monkeypatch.setattr(S, "in_batches", lambda *args: dict(
        x=x.numpy(), index=np.arange(60), readable=np.ones(60, bool)))
    head, fitted = S.fit_head(demo.model, demo.view, [(Path("a.jpg"), v) for v in labels], 3, tmp_path, 2, 0)
    w = (head.weight.detach() * x.std(0)).requires_grad_()  # of features of mean 0, SD 1
    b = (head.bias + head.weight @ x.mean(0)).detach().requires_grad_()
    loss = nn.functional.cross_entropy((x - x.mean(0)) / x.std(0) @ w.T + b, torch.tensor(labels))
    (loss + 1e-3 * (w ** 2).sum()).backward()
    assert w.grad.abs().max() < 2e-4 and b.grad.abs().max() < 2e-4
    assert fitted["accuracy"] == pytest.approx(100 * np.mean(head(x).argmax(1).numpy() == labels), abs=.01)


def test_the_last_block_guides_unless_another_is_named():
    for asked, block in ((None, 3), (0, 0), (2, 2)):
        assert S.load_model("demo_dino4", None, None, True, asked)[3] == block


def test_a_network_of_images_that_are_not_square_is_refused(monkeypatch):
    model, view = load_vit("demo_dino4")
    monkeypatch.setattr(S, "load_vit", lambda *_: (model, dataclasses.replace(view, crop=(224, 384))))
    with pytest.raises(InputError, match=r"demo_dino4 takes images of \(224, 384\) px: expected square ones"):
        S.load_model("demo_dino4", None, None, True, None)


def measured(correct, **more) -> dict:
    """What `condition` gives of n images: saccade s reveals 9 s tokens."""
    n = len(correct)
    table = {"correct": np.array(correct, float), "tokens": np.tile(np.arange(1, 11.) * 9, (n, 1)),
             "n_tokens": np.full(n, 196.), "certainty": np.full((n, 10), .5), "certainty_full": np.full(n, .5),
             "correct_full": np.ones(n), "entropy": np.arange(n) + 1.}
    for key in C.FULL_IMAGE + C.PER_SACCADE:
        table.setdefault(key, np.zeros((n, 10) if key in C.PER_SACCADE else n))
    return C.condition(joined(measured=table | more), "measured")


def joined(**tables) -> dict:
    """Tables {attention_fovea3: measured(...)} as arrays of a run."""
    first = next(iter(tables.values()))
    stacked = {key: np.stack([t[key] for t in tables.values()], 1) for key in C.PER_SACCADE}
    names = np.array([name.replace("_", " ") for name in tables])
    return {key: first[key] for key in C.FULL_IMAGE} | stacked | {"conditions": names}


def test_official_accuracy_stands_beside_that_of_the_published_network_on_imagenet_alone():
    plain = S.parse(["--data", "IMAGENET"])
    assert S.study.official(plain, np.arange(600)) == 77.0
    assert S.study.official(plain, np.arange(600) % 10) is None  # Imagenette
    assert S.study.official(plain, np.arange(500)) is None and S.study.OFFICIAL == 77.0
    for more in (["--model", "dinov2_vits14"], ["--weights", "w.pth"], ["--head", "h.pth"], ["--train-head"]):
        assert S.study.official(S.parse(["--data", "IMAGENET", *more]), np.arange(600)) is None
    good = measured(np.ones((6, 10)))
    row = C.claims(joined(attention_fovea3=good, random_fovea3=good), [3], False, 0, 77.0)[0]
    assert (row["name"], row["paper"], row["ours"], row["verdict"]) == ("accuracy, full image", 77.0, 100, "")


def test_masks_of_any_size_share_every_layer_but_attention():
    """40 masks of 9 to 48 tokens, CLS not counted, are three packs of about 512 tokens: three calls of an MLP."""
    model, calls = fixed_vit(), []
    model.blocks[2].mlp.register_forward_hook(lambda layer, args, out: calls.append(args[0].shape[1]))
    visible = torch.arange(196) < torch.arange(9, 49).view(1, 40, 1)
    S.forward_visible(model, torch.zeros(1, 3, 224, 224), visible.view(1, 40, 14, 14))
    assert sum(calls) == sum(range(10, 50)) and len(calls) == 3 and max(calls) <= 512 + 49


CLAIMS = {  # what the paper's text says: its number, lines of the table; F stands for "fovea 3: ", then "fovea 5: "
    "77.0 % on full images": (77.0, ["accuracy, full image"]),
    "accuracy steadily increases, attention-guided and random": ("> 0", [
        "Fsaccade 10 - 1, attention", "Fsaccade 10 - 1, random"]),
    "markedly steeper under attention, above all in the first few saccades": ("> 0", [
        *[f"Fattention - random, saccade {s}" for s in (1, 2, 3, 5, 10)], "Fattention - random, mean of all"]),
    "the gap narrows; random approaches attention": ("> 0", ["Fgap at saccade 1 - at 10"]),
    "plateau, diminishing returns": ("> 0", ["Fgain to saccade 5 - from 5 to 10"]),
    "larger foveas accelerate the gains": ("> 0", ["fovea 5 - 3: accuracy, mean of all"]),
    "5x5: near-original performance after only a few saccades": (
        "about 0", ["fovea 5: accuracy, saccade 5 - full image"]),
    "attention exposes fewer tokens than random": ("< 0", ["Fvisible, attention - random"]),
    "most of the accuracy is recovered with less than half of the pixels": ("> 50", [
        "Fcorrect in full: also with less than half seen"]),
    "converges toward, but never fully reaches, the full image's": ("< 0", ["Faccuracy, saccade 10 - full image"]),
    "correct at least once surpasses the full image": ("> 0", ["Fcorrect at least once - full"]),
    "more so with the 5x5 fovea": ("> 0", ["fovea 5 - 3: correct at least once"]),
    "most changes occur during the first few saccades": (
        "> 0", ["Fchanges of the answer, saccades 2 to 5 - 6 to 10"]),
    "a substantial proportion of those lost is restored": (None, ["Fof those changed to wrong, correct again"]),
    "Stayed Wrong decreases": ("< 0", ["Fstill wrong after a change, saccade 10 - 5"]),
    "Stayed Right increases": ("> 0", ["Fstill correct after one, saccade 10 - 5"]),
    "most images are consistently correct": ("> 50", ["Fcorrect at most saccades"]),
    "those correct only during saccades were recognized only a few times": ("< 50", [
        "Fwrong in full: correct at most saccades"]),
    "certainty is higher under attention than random": ("> 0", [
        "Fcertainty, attention - random", "Fcertainty, attention - random, with never correct"]),
    "certainty closely matches that of the full image": ("about 0", [
        "Fcertainty, attention - full image", "Fcertainty, attention - full image, with never correct"]),
    "certainty rises at the first correct answer, in both conditions": ("> 0", [
        "Fcertainty, first correct - before, attention", "Fcertainty, first correct - before, random"]),
    "and continues to rise": ("> 0", [
        "Fcertainty, saccade 10 - first correct, attention", "Fcertainty, saccade 10 - first correct, random"]),
    "images correct after a few saccades are the most certain in full": ("< 0", [
        "Ffull-image certainty per saccade needed"]),
    "the first layer is worse than random": ("< 0", ["accuracy, block00 - random"]),
    "the second is better": ("> 0", ["accuracy, block01 - random"]),
    "sharp increase after the third layer": ("> 0", ["accuracy, block03 - block02"]),
    "maps become more effective through the layers": ("> 0", ["accuracy, last block - block00"]),
    "revealed pixels are comparable across layers": ("about 0", ["visible, last block - block00"]),
    "performance drops slightly with resolution": ("< 0", [
        "accuracy, 12x12 maps - full maps", "accuracy, 8x8 maps - full maps"]),
    "with 10x10 maps it remains close": ("about 0", ["accuracy, 10x10 maps - full maps"]),
    "low resolution remains more effective than random": (
        "> 0", [f"accuracy, {g}x{g} maps - random" for g in (12, 10, 8)]),
    "smaller maps reveal less": ("< 0", [f"visible, {g}x{g} maps - full maps" for g in (12, 10, 8)]),
    "depth and resolution: similar, worse overall": ("< 0", [
        f"accuracy, every block's {g}x{g} maps - full maps" for g in (12, 10, 8)]),
    "less refined features also find informative regions": ("> 0", [
        f"accuracy, every block's {g}x{g} maps - random" for g in (12, 10, 8)]),
    "entropy grows with the saccades needed": ("> 0", ["Fentropy per saccade needed, attention"]),
    "the opposite for random": ("< 0", ["Fentropy per saccade needed, random"]),
    "no image never correct has an entropy below 6.0 under attention": (
        "> 6.0", ["Flowest entropy, never correct, attention"]),
    "but under random": ("< 6.0", ["Flowest entropy, never correct, random"])}


def test_every_claim_of_the_paper_has_a_row():
    rng = np.random.default_rng(0)
    names = [f"{kind}_fovea{f}" for kind in ("attention", "random") for f in (3, 5)]
    names += [f"block{b:02d} {grid}" for grid in C.GRIDS for b in range(4)]
    often = rng.random((40, 1)) * (np.arange(40) > 4)[:, None]  # the first five images are never correct
    full = (np.arange(40) % 4 > 0) * 1.
    arrays = joined(**{name: measured(rng.random((40, 10)) < often, correct_full=full) for name in names})
    rows = {row["name"]: row for row in C.claims(arrays, [3, 5], True, 0, 77.0)}
    for claim, (paper, lines) in CLAIMS.items():
        for line in lines:
            for name in [line.replace("F", f"fovea {f}: ") for f in (3, 5)] if line[0] == "F" else [line]:
                assert name in rows and rows[name]["paper"] == paper, f"{claim}: {name}"


def test_the_table_on_screen_has_no_more_than_25_lines_and_the_accuracies_are_read_aloud(capsys):
    rng = np.random.default_rng(0)
    names = [f"{kind}_fovea{f}" for kind in ("attention", "random") for f in (3, 5)]
    names += [f"block{b:02d} {grid}" for grid in C.GRIDS for b in range(4)]
    arrays = joined(**{name: measured(rng.random((40, 10)) < .5) for name in names})
    shown = [row["name"] for row in C.claims(arrays, [3, 5], True, 0) if re.fullmatch(C.ON_SCREEN, row["name"])]
    assert len(shown) == 25 and "fovea 5 - 3: correct at least once" in shown
    assert capsys.readouterr().out == "computing tables\n"
    a = measured(np.arange(10) >= np.arange(4)[:, None], correct_full=np.array([1., 1, 1, 0]))
    C.print_accuracy(joined(attention_fovea5=a, random_fovea5=measured(np.zeros((4, 10)))), [5])
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == "accuracy (%) at saccade 1 2 3 5 10 full image".split()
    assert first.split() == "attention, fovea 5x5 25.0 50.0 75.0 100.0 100.0 75.0".split()
    assert second.split()[:4] == "random, fovea 5x5 0.0".split()


def test_threshold_ignores_the_half_that_judges():
    rng, n = np.random.default_rng(1), 400
    t = {"certainty": rng.random((n, 10)),
         "correct": rng.integers(0, 2, (n, 10)).astype(float),
         "tokens": np.tile(np.arange(1, 11) * 9., (n, 1))}
    judged = np.random.default_rng([0, 4]).permutation(n) >= n // 2
    before = C.stopping(t, 0)[0]["tokens"]
    t["correct"][judged] = 0  # were they asked, ten saccades would lose nothing and the first be enough
    stopped, last = C.stopping(t, 0)
    assert (stopped["tokens"] == before).all() and not stopped["correct"].any() and not last["correct"].any()


def test_intervals_of_shares_are_wilsons_and_stay_inside():
    answers = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    low, high = C.interval(answers)
    exact = [stats.binomtest(k, 4).proportion_ci(method="wilson") for k in (4, 0, 1)]
    # 1.96 is the normal quantile 1.959964 rounded
    np.testing.assert_allclose([low, high], np.transpose([[ci.low, ci.high] for ci in exact]), atol=1e-5)
    low, high = C.interval(np.array([[2.], [4], [6]]))
    np.testing.assert_allclose([low[0], high[0]], 4 + np.array([-1.96, 1.96]) * 2 / 3 ** .5)


def test_the_examples_are_of_different_classes(monkeypatch):
    monkeypatch.setattr(S, "look", lambda model, x, blocks: (None, torch.zeros(len(x), 1, 2, 2)))
    arrays = dict(entropy=np.arange(40.), label=np.arange(40) % 8, index=np.arange(40))
    images = [dict(image=torch.zeros(3, 4, 4))] * 40
    model = SimpleNamespace(blocks=[0], pos_embed=torch.zeros(1))
    chosen = S.examples(arrays, images, SimpleNamespace(std=(1, 1, 1), mean=(0, 0, 0)), model)["example"]
    # evenly from the most concentrated to the most diffuse, 0, 7, 15, 23, 31, 39: the nearest of a new class
    assert chosen == [0, 7, 14, 21, 33, 36]


def test_chance_is_one_of_the_classes_or_that_of_as_many_guesses_as_saccades():
    ax = S.figure_grid(1, 1)[1][0, 0]
    S.levels(ax, dict(correct_full=np.ones(3), chance=.25), C.STEPS)
    assert ax.lines[1].get_ydata()[:2] == pytest.approx([25, 43.75])  # 1 - .75 ** 2


def hand_made(n: int = 90) -> dict:
    """Arrays of a run with foveas 5 and 3, of which no two conditions, saccades or images are alike."""
    rng = np.random.default_rng(7)
    names = C.conditions([5, 3], 4, True)
    shape = (n, len(names), 10)
    ease = rng.random((n, 1, 1)) * (np.arange(n) > 9)[:, None, None]
    arrays = {key: rng.integers(0, 14, shape) for key in ("pred", "row", "col")}
    return arrays | dict(
        conditions=np.array(names), classes=np.array(list("abcde")), image=np.array([f"{i}" for i in range(n)]),
        correct=rng.random(shape) < ease * np.linspace(.5, 1.2, 10), certainty=rng.random(shape),
        tokens=np.sort(rng.integers(9, 190, shape)), n_tokens=np.full(n, 196), label=rng.integers(0, 5, n),
        pred_full=rng.integers(0, 5, n), correct_full=rng.random(n) < .7, certainty_full=rng.random(n),
        entropy=rng.uniform(4, 7, n), example_map=np.zeros((1, 4, 2, 2)))


def test_rows_of_both_tables_are_those_of_their_condition_and_saccade():
    arrays = hand_made(4)
    rows = list(C.image_rows(arrays, 3))
    assert [(row["image"], row["condition"]) for row in rows] == [
        (f"{i}", name) for i in range(4) for name in arrays["conditions"][:3]]
    for k, row in enumerate(rows):
        i, c = divmod(k, 3)
        for key in C.FULL_IMAGE:
            assert row[key] == pytest.approx(float(arrays[key][i]), abs=1e-6)
        for key in C.PER_SACCADE:
            assert [row[f"{key}_{s}"] for s in range(1, 11)] == pytest.approx(arrays[key][i, c].astype(float), abs=1e-6)
    rows = list(C.sweep_rows(arrays))
    assert len(rows) == 10 * len(arrays["conditions"])
    for k, row in enumerate(rows):
        c, s = divmod(k, 10)
        assert (row["condition"], row["saccade"]) == (arrays["conditions"][c], s + 1)
        for key in ("correct", "tokens", "certainty"):
            assert row[key] == pytest.approx(sum(arrays[key][:, c, s].astype(float)) / 4, abs=1e-6)


@pytest.fixture
def figures(monkeypatch) -> dict:
    """{name: figure} of those that are saved."""
    kept = {}
    monkeypatch.setattr(S, "save_figure", lambda fig, path: kept.update({path.name: fig}))
    return kept


def curves(ax) -> list[list[float]]:
    return [line.get_ydata().tolist() for line in ax.lines]


def test_curves_of_the_figures_are_means_over_the_images_with_their_intervals(figures):
    arrays, folder = hand_made(), Path()
    column = {name: c for c, name in enumerate(arrays["conditions"])}
    shown = {f: {kind: C.condition(arrays, f"{kind} fovea{f}") for kind in C.KINDS} for f in (3, 5)}
    S.draw_accuracy(shown, folder)
    for panels, f in zip(np.array(figures["fig03_accuracy"].axes).reshape(2, -1)[:, :2].T, (3, 5)):
        for i, kind in enumerate(C.KINDS):
            right = arrays["correct"][:, column[f"{kind} fovea{f}"]]
            seen = 100 * arrays["tokens"][:, column[f"{kind} fovea{f}"]] / 196
            above, below = panels[0].containers[i], panels[1].containers[i]
            assert above.lines[0].get_ydata() == pytest.approx(100 * right.mean(0))
            assert below.lines[0].get_ydata() == pytest.approx(seen.mean(0))
            exact = [stats.binomtest(int(k), 90).proportion_ci(method="wilson") for k in right.sum(0)]
            ends = np.array([bar[:, 1] for bar in above.lines[2][0].get_segments()])
            assert ends == pytest.approx(np.array([[100 * ci.low, 100 * ci.high] for ci in exact]), abs=.01)
        full = next(line for line in panels[0].lines if line.get_label() == "full image")
        assert full.get_ydata()[0] == pytest.approx(100 * arrays["correct_full"].mean())
    S.draw_dynamics(shown, folder)
    panels = np.array(figures["fig04_dynamics"].axes).reshape(4, -1)
    for k, f in enumerate((3, 5)):
        right = arrays["correct"][:, column[f"attention fovea{f}"]]
        once = [100 * np.mean([any(row[:s]) for row in right]) for s in range(1, 11)]
        assert panels[0, k].containers[0].lines[0].get_ydata() == pytest.approx(once)
        lost = [0] + [100 * np.mean(right[:, s - 1] & ~right[:, s]) for s in range(1, 10)]
        assert curves(panels[1, k])[0] == pytest.approx(lost)
        wrong_in_full = ~arrays["correct_full"] & right.any(1)
        for ax, part in ((panels[2, k], right), (panels[3, k], right[wrong_in_full])):
            heights = [bar.get_height() for bar in ax.patches]
            assert heights == [sum(part.sum(1) == times) for times in range(11)]


def test_first_success_is_drawn_by_the_saccade_at_which_it_came(figures):
    arrays, folder = hand_made(), Path()
    shown = {3: {kind: C.condition(arrays, f"{kind} fovea3") for kind in C.KINDS}}
    S.draw_first_success(shown, folder)
    for kind, ax, entropy in zip(C.KINDS, figures["fig05_certainty"].axes, figures["fig07_entropy"].axes):
        c = list(arrays["conditions"]).index(f"{kind} fovea3")
        right, sure, known = arrays["correct"][:, c], arrays["certainty"][:, c], arrays["correct_full"]
        first = np.array([[*row, True].index(True) + 1 for row in right])
        sets = {f"first correct at {s}": known & (first == s) for s in range(1, 11)}
        sets |= {"all of these": known & (first < 11), "all, with never correct": known}
        sets = {name: part for name, part in sets.items() if part.sum() >= 5}
        assert [line.get_label() for line in ax.lines] == [f"{k} (n = {v.sum()})" for k, v in sets.items()]
        for line, bar, part in zip(ax.lines, ax.patches, sets.values()):
            assert line.get_ydata() == pytest.approx(100 * sure[part].mean(0))
            assert bar.get_height() == pytest.approx(100 * arrays["certainty_full"][part].mean())
        dots, *dashes = entropy.lines
        assert dots.get_xdata().tolist() == [12 if s == 11 else s for s in first]
        assert dots.get_ydata().tolist() == arrays["entropy"].tolist()
        means = [arrays["entropy"][first == s].mean() for s in range(1, 12) if sum(first == s) >= 5]
        assert [line.get_ydata()[0] for line in dashes] == pytest.approx(means)


def test_blocks_and_smaller_inputs_are_drawn_in_their_order(figures):
    arrays = hand_made()
    S.draw_sweep(arrays, 5, Path())
    column = {name: c for c, name in enumerate(arrays["conditions"])}
    left, right, low_left, low_right, accuracy, tokens, *_ = figures["fig06_fig17_blocks_resolutions"].axes
    grids = ("full", "12x12", "10x10", "8x8")
    for ax, other, names in ((left, right, [f"block{b:02d} full" for b in range(4)]),
                             (low_left, low_right, [f"block03 {grid}" for grid in grids])):
        for line, seen, name in zip(ax.lines, other.lines, [*names, "random fovea5"]):
            assert line.get_ydata() == pytest.approx(100 * arrays["correct"][:, column[name]].mean(0)), name
            assert seen.get_ydata() == pytest.approx(arrays["tokens"][:, column[name]].mean(0)), name
            assert seen.get_label() == name
    for ax, key, unit in ((accuracy, "correct", 100), (tokens, "tokens", 1)):
        means = [[unit * arrays[key][:, column[f"block{b:02d} {grid}"]].mean() for b in range(4)] for grid in grids]
        assert ax.images[0].get_array().data == pytest.approx(np.array(means))


def test_examples_show_what_is_revealed_and_the_answers_of_attention(figures):
    arrays, rng = hand_made(), np.random.default_rng(1)
    arrays |= dict(example=np.array([40, 7]), example_map=rng.random((2, 4, 14, 14)).astype(np.float32),
                   example_image=rng.integers(0, 200, (2, 224, 224, 3)).astype(np.uint8),
                   pred=rng.integers(0, 5, arrays["pred"].shape))
    S.draw_examples(arrays, 2, 5, "clip", Path())
    axes = np.array(figures["fig08_examples"].axes).reshape(2, 7)
    visible = S.fixation_sequence(torch.from_numpy(arrays["example_map"][:, 2]), 5, 10)[1].numpy()
    for i, n in enumerate((40, 7)):
        words = [arrays["classes"][arrays[key][n]] for key in ("label", "pred_full")]
        assert axes[i, 0].get_title() == f"{words[0]}\nfull image: {words[1]}"
        for ax, s in zip(axes[i, 2:], (1, 2, 3, 5, 10)):
            pred, sure, right = (arrays[key][n, 0, s - 1] for key in ("pred", "certainty", "correct"))
            assert ax.get_title() == f"saccade {s}: {arrays['classes'][pred]}\ncertainty {100 * sure:.0f} %"
            assert ax.title.get_color() == (S.PALETTE["B"] if right else S.PALETTE["A"])
            seen = np.kron(visible[i, s - 1], np.ones((16, 16)))[..., None] == 1
            assert (ax.images[0].get_array() == np.where(seen, arrays["example_image"][i], 235)).all()
    blocks = np.array(figures["fig13_maps"].axes).reshape(2, 5)
    assert [ax.get_title() for ax in blocks[0]] == ["image", "block 0", "block 1", "block 2", "block 3"]
    shown = upsample(torch.from_numpy(arrays["example_map"][1]), (224, 224))
    assert blocks[1, 2].images[0].get_array().data == pytest.approx(shown[1].numpy())
