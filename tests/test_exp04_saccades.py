"""exp04_saccades: dropped tokens equal masked ones, planted effects come out."""
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
from torch import nn

import exp04_saccades as S
from common import (InputError, Preprocess, VisionTransformer, cls_attention, generator, imagenet_wnids,
                    load_head, resize_matrix, upsample)
from processes import FORK, in_group
from legacy import read_csv, save_checkpoint, write_csv
from unisal import UNISAL

torch.set_num_threads(1)
SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
DRAW_ALL, SAVE = S.draw_all, S.save_figure


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Figures cost more than all else here: test_card_commands draws them, small, and the real ones once."""
    monkeypatch.setattr(S, "draw_all", lambda *args: None)


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


def test_shift_reveals_whole_foveas_and_clip_cuts_them():
    att = torch.zeros(1, 14, 14)
    att[0, 0, 0] = 1
    assert S.fixation_sequence(att, 5, 1, "clip")[1].sum() == 9
    fixations, visible = S.fixation_sequence(att, 5, 1, "shift")
    assert visible.sum() == 25 and fixations[0, 0].tolist() == [0, 0]


def test_when_all_is_seen_further_saccades_change_nothing():
    _, visible = S.fixation_sequence(torch.rand(2, 3, 3, generator=generator(1)), 3, 9)
    assert visible[:, -1].all() and not visible[:, 0].all()


@pytest.mark.parametrize("fovea", [0, 2, 4, 15, -3])
def test_even_or_too_large_foveas_are_refused(fovea):
    with pytest.raises(InputError, match=f"fovea {fovea}: expected an odd number"):
        S.fixation_sequence(torch.ones(1, 14, 14), fovea, 10)


def test_maps_with_nan_or_negative_values_are_refused():
    for bad in (torch.nan, -.1):
        with pytest.raises(InputError, match="negative"):
            S.fixation_sequence(torch.full((1, 5, 5), bad), 3, 2)


def test_bf16_predictions_agree_with_fp32(demo_study):
    study, images, index = demo_study
    exact = sum(study.main(images[:12], index[:12]), [])
    half = S.Study(study.model, study.view, study.head, study.items, study.foveas, study.block, "clip", 0,
                   study.device, torch.bfloat16)
    rough = sum(half.main(images[:12], index[:12]), [])
    study.model.float()
    same = [a[f"pred_{s}"] == b[f"pred_{s}"] for a, b in zip(exact, rough) for s in range(1, 11)]
    assert np.mean(same) > .9


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
    found = {k: (4 * v).astype(int).tolist() for k, v in S.transitions(correct).items()}
    assert found == {
        "correct to wrong": [0, 1, 0, 2, 0, 0, 0, 1], "back to correct": [0, 0, 1, 0, 0, 1, 1, 0],
        "stayed wrong": [0, 0, 0, 0, 2, 1, 0, 0], "stayed right": [0, 0, 0, 0, 0, 0, 1, 1]}
    assert S.first_success(correct).tolist() == [2, 4, 1, 9]


def test_every_image_that_ever_lost_its_answer_is_in_one_set():
    correct = np.random.default_rng(0).integers(0, 2, (300, 10))
    sets = S.transitions(correct)
    lost = np.maximum.accumulate(np.pad((correct[:, :-1] > correct[:, 1:]), ((0, 0), (1, 0))), 1).mean(0)
    np.testing.assert_allclose(sum(sets.values()), lost)


def test_early_stopping_stops_at_the_first_certain_saccade():
    certainty = np.array([[.1, .6, .2], [.9, 0, 0], [.1, .2, .3]])
    assert S.early_stop(certainty, .5).tolist() == [1, 0, 2]
    assert S.early_stop(certainty, 1.1).tolist() == [2, 2, 2]
    assert S.early_stop(certainty, 0).tolist() == [0, 0, 0]


def test_threshold_is_chosen_on_one_half_and_judged_on_the_other():
    rng, n = np.random.default_rng(1), 400
    ready = rng.integers(0, 10, n)[:, None]  # from this saccade on certain and correct
    certainty = np.where(np.arange(10) >= ready, .9, .2)
    t = {"label": np.zeros(n), "certainty": certainty, "correct": (certainty > .5).astype(float),
         "tokens": np.tile(np.arange(1, 11) * 9., (n, 1))}
    stop = S.stopping(t, 0)
    assert .2 < stop["threshold"] <= .9 and len(stop["correct"]) == n // 2
    assert stop["correct"].mean() == 1  # never stops too early
    half = np.random.default_rng([0, 4]).permutation(n) < n // 2
    np.testing.assert_allclose(stop["tokens"].mean(), 9 * (ready[~half].mean() + 1))


def test_verdicts_follow_the_interval():
    ones, zeros = np.ones(60), np.zeros(60)
    mixed, many = np.arange(60) % 2, np.arange(6000) % 2
    for a, b, expected, verdict in ((ones, zeros, "> 0", "agrees"), (ones, zeros, "< 0", "differs"),
                                    (mixed, 1 - mixed, "> 0", "undecided"),
                                    (mixed, mixed, "about 0", "undecided"), (many, many, "about 0", "agrees"),
                                    (ones, zeros, "about 5", "differs")):
        assert S.ordering("x", a, b, expected, "points", 100)["unit"] == f"points, {verdict}"


def test_crops_are_moved_inside_and_centred():
    images = torch.arange(20 * 30.).view(1, 1, 20, 30).expand(2, 3, 20, 30)
    crops = S.crop_at(images, torch.tensor([[0., 0.], [10., 15.]]), 6)
    assert crops.shape == (2, 3, 6, 6)
    assert torch.equal(crops[0], images[0, :, :6, :6]) and torch.equal(crops[1], images[1, :, 7:13, 12:18])


def test_weights_that_are_not_unisals_are_refused(tmp_path):
    torch.save(dict(list(UNISAL().state_dict().items())[1:]), tmp_path / "short.pth")
    with pytest.raises(InputError, match="not UNISAL's weights_best.pth"):
        S.load_unisal(tmp_path / "short.pth", "DHF1K")


# ------------------------------------------------------------------------------------------------ the demo

@pytest.fixture(scope="module")
def demo_study(tmp_path_factory):
    """The study of the demo world with its shipped model and head, 96 images in [0, 1], their indices."""
    args = S.parse("--limit 96 --fovea 3 --device cpu --workers 0".split())
    study, _, _ = S.set_up(args, tmp_path_factory.mktemp("study"), torch.device("cpu"))
    return study, *study.pixels([S.image_name(path) for path, _ in study.items])


def first_result(function):
    """The function, run at its first call only."""
    kept = []

    def again(*args):
        if not kept:
            kept.append(function(*args))
        return kept[0]
    return again


def gap(study, images, index, folder: Path) -> list[dict]:
    """Attention minus random at each saccade, with CI."""
    with torch.no_grad():
        write_csv(sum(study.main(images, index), []), folder / "per_image.csv")
    return S.paired_tests(S.collect(folder), [3])


def test_attention_beats_random_early_and_an_untrained_head_shows_no_difference(demo_study, tmp_path,
                                                                               monkeypatch):
    study, images, index = demo_study
    for name in ("look", "forward_visible"):  # both heads read the same features: computed once
        monkeypatch.setattr(S, name, first_result(getattr(S, name)))
    tests = gap(study, images, index, tmp_path)
    assert all(t["ci"][0] > 0 for t in tests[:3]) and tests[1]["diff"] > .2
    trained, study.head = study.head, nn.Linear(384, 12)
    nn.init.normal_(study.head.weight, std=.05, generator=generator(1))
    nn.init.zeros_(study.head.bias)
    untrained = gap(study, images, index, tmp_path)
    study.head = trained
    assert all(t["ci"][0] <= 0 <= t["ci"][1] for t in untrained[:3])
    assert max(abs(t["diff"]) for t in untrained) < .12


def test_a_models_own_head_stays_in_float32():
    args = S.parse("--model demo_sl4 --dtype bfloat16 --limit 2 --fovea 3 --device cpu --workers 0".split())
    study, *_ = S.set_up(args, Path("."), torch.device("cpu"))
    rows = study.main(*study.pixels([S.image_name(path) for path, _ in study.items]))
    assert study.model.pos_embed.dtype == torch.bfloat16 and study.head.in_features == 96
    assert all(0 <= r["certainty_10"] <= 1 for part in rows for r in part)


def test_random_fixations_are_a_function_of_seed_and_image(demo_study):
    study, *_ = demo_study
    a, b = study.random_maps(torch.tensor([3, 8]), (4, 5)), study.random_maps(torch.tensor([8]), (4, 5))
    assert torch.equal(a[1], b[0]) and not torch.equal(a[0], a[1])


CARD = [[], ["--fovea", "5", "--layer", "11"], ["--sweep"], ["--saliency"]]


@pytest.mark.parametrize("command", CARD, ids=[" ".join(c) or "bare" for c in CARD])
def test_card_commands(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(S, "draw_all", DRAW_ALL)
    drawn = {f"draw_{k}" for k in ("accuracy", "dynamics", "certainty", "entropy", "stopping", "strips")}
    for name in drawn if command else ():  # the bare command draws the figures that all share
        monkeypatch.setattr(S, name, lambda *args: None)

    def save(fig, path, **how):  # one as in a real run, the others small: PDFs are slow
        SAVE(fig, path, **how) if path.name == "fig03_accuracy" else fig.savefig(f"{path}.png", dpi=20)
    monkeypatch.setattr(S, "save_figure", save)
    n = 3
    S.main([*command, "--limit", str(n), "--out", str(tmp_path), "--workers", "0", "--device", "cpu"])
    text = capsys.readouterr().out
    assert "numbers of the built-in demo world" in text and "block 11 (layer 12 of 12)" in text
    results = json.loads((tmp_path / "results.json").read_text())
    rows = read_csv(tmp_path / "per_image.csv")
    foveas = [5] if command[:1] == ["--fovea"] else [3, 5]
    names = [f"{m} fovea{f}" for m in ("attention", "random") for f in foveas]
    assert [r["condition"] for r in rows] == n * names and list(rows[0])[:2] == ["image", "condition"]
    arrays = np.load(tmp_path / "saccades.npz")
    assert arrays["fixations"].shape == (n, 2 * len(foveas), 10, 2)
    assert arrays["pred"][0, 0, 3] == rows[0]["pred_4"]
    assert arrays["fixations"][0, 0, 3].tolist() == [rows[0]["row_4"], rows[0]["col_4"]]
    if not command:
        assert {p.stem for p in tmp_path.glob("fig*")} == {
            "fig03_accuracy", "fig04_dynamics", "fig05_certainty", "fig07_entropy", "fig08_examples",
            "fig13_maps", "fig_early_stopping"}
        assert (tmp_path / "fig03_accuracy.pdf").exists() and len(results["not_run"]) == 2
        for name in drawn - {"draw_accuracy"}:
            monkeypatch.setattr(S, name, lambda *args: None)
        (tmp_path / "fig03_accuracy.pdf").unlink()
        S.main(["--plot-only", "--out", str(tmp_path)])
        assert capsys.readouterr().out.count("accuracy, full image") == 1
        assert (tmp_path / "fig03_accuracy.pdf").exists()
    if command == ["--sweep"]:
        assert {p.stem for p in (tmp_path / "sweep").glob("*.png")} == {"fig06_depth_resolution",
                                                                        "fig17_depth_by_resolution"}
        rows = read_csv(tmp_path / "sweep" / "per_image.csv")
        assert len(rows) == n * (12 * 4 + 1) and 0 <= rows[-1]["certainty_10"] <= 1
        with np.load(tmp_path / "sweep" / "saccades.npz") as arrays:
            assert arrays["fixations"].shape == (n, 49, 10, 2)
            assert arrays["pred"][2, 48, 9] == rows[-1]["pred_10"]
    if command == ["--saliency"]:
        figures = {p.stem for p in (tmp_path / "saliency").glob("*.png")}
        assert figures == {"fig09_saliency_maps", "fig10_policies", "fig11_fixations"}
        assert any("UNISAL" in line for line in results["not_run"])


def test_commands_for_gpus_and_real_data_are_understood():
    for line in ("--data IMAGENET --sweep --saliency --dtype bfloat16", "--data imagenette",
                 "--data FOLDER --model dino_vits16 --train-head", "--data IMAGENET --sweep --saliency",
                 "--data IMAGENET --saliency --policy dino unisal --size 224 384 --unisal-static"):
        args = S.parse(line.split())
        assert args.model == "dino_vits16" and args.fovea == [3, 5] and args.border == "clip"
    assert S.parse([]).model == "demo_dino12"


@pytest.mark.real
def test_every_part_of_the_study_runs_on_real_images(tmp_path):
    data, file = SHARED / "real/imagenet", SHARED / "real/weights/dinov2_vits14_derived_fp16.pth"
    if not (data.is_dir() and file.exists()):
        pytest.skip(f"{data} or {file} is missing: set GAZE_SHARED to the shared folder")
    S.main(["--data", str(data), "--model", "dinov2_vits14", "--weights", str(file), "--train-head",
            "--animals", "--sweep", "--saliency", "--limit", "8", "--out", str(tmp_path), "--workers", "0",
            "--device", "cpu", "--fovea", "3", "--policy", "dino", "gbvs", "random"])
    for part, conditions in ((".", 2), ("sweep", 12 * 4 + 1), ("saliency", 3)):
        assert len(read_csv(tmp_path / part / "per_image.csv")) == 8 * conditions
    ours = [h["ours"] for h in json.loads((tmp_path / "results.json").read_text())["headline"]]
    assert len(ours) > 20 and all(isinstance(v, float) and np.isfinite(v) for v in ours)


# ------------------------------------------------------------------------------------------------ own data

def test_grey_cmyk_and_tiny_pictures_run_with_a_fitted_head_and_half_is_left_out(pictures, tmp_path):
    S.main(small(pictures, tmp_path))
    rows = read_csv(tmp_path / "per_image.csv")
    assert len(rows) == 2 * 6
    head = load_head(tmp_path / "linear_head.pth")
    assert (head.in_features, head.out_features) == (4 * 96, 3)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["images"] == 6 and results["unreadable"] == []


def test_truncated_picture_is_left_out_and_listed(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "data")
    for name in ("red", "green", "blue"):
        whole = (tmp_path / "data/val" / name / "0.jpg").read_bytes()
        (tmp_path / "data/val" / name / "torn.jpg").write_bytes(whole[:len(whole) // 2])
    save_checkpoint({"weight": torch.randn(3, 96), "bias": torch.zeros(3)}, tmp_path / "head.pth")
    argv = [a for a in small(tmp_path / "data", tmp_path / "out") if a != "--train-head"]
    S.main([*argv, "--head", str(tmp_path / "head.pth")])
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["unreadable"] == ["blue/torn.jpg", "green/torn.jpg", "red/torn.jpg"]
    assert len(read_csv(tmp_path / "out/per_image.csv")) == 2 * 12


def test_a_resumed_run_lists_the_fitting_pictures_that_could_not_be_read(pictures, tmp_path):
    shutil.copytree(pictures / "val", tmp_path / "data/val")
    shutil.copytree(pictures / "val", tmp_path / "data/train")
    (tmp_path / "data/train/red/torn.jpg").write_bytes(b"no image")
    argv = small(tmp_path / "data", tmp_path / "out")
    for resume in ([], ["--resume"]):
        S.main([*argv, *resume])
        results = json.loads((tmp_path / "out/results.json").read_text())
        assert results["unreadable"] == ["red/torn.jpg"]


def test_other_saliency_maps_and_unisal_become_policies(pictures, tmp_path):
    for path in (pictures / "val").glob("*/*.jpg"):
        bright = np.zeros((30, 40), np.float32)
        bright[25:, 35:] = 1 + np.arange(5)  # brightest in the last column
        (tmp_path / "maps" / path.parent.name).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "maps" / path.parent.name / f"{path.stem}.npy", bright)
    torch.save(UNISAL().state_dict(), tmp_path / "unisal.pth")
    S.main(small(pictures, tmp_path / "out", "--saliency", "--saliency-dir", str(tmp_path / "maps"),
                 "--policy", "dino", "unisal", "--unisal-weights", str(tmp_path / "unisal.pth"),
                 "--size", "64", "96", "--per-class", "1"))
    rows = read_csv(tmp_path / "out/saliency/per_image.csv")
    assert {r["condition"] for r in rows} == {"dino", "unisal", "other"} and len(rows) <= 9
    assert all(r["col_1"] == 5 for r in rows if r["condition"] == "other")  # grid of 4x6 tokens
    with pytest.raises(InputError, match="no map for .*expected"):
        S.external_map(tmp_path, Path("x/y.jpg"))


def test_cache_serves_the_second_run(pictures, tmp_path):
    view = Preprocess(64, 64, (.5,) * 3, (.5,) * 3)
    items = [(tmp_path / f"{i}.jpg", 0) for i in range(3)]
    for path, _ in items:
        path.write_bytes((pictures / "val/red/0.jpg").read_bytes())
    first = [S.Images(items, view, tmp_path / "cache")[i][1] for i in range(2)]
    for path, _ in items:
        was = path.stat()
        path.write_bytes(b"x" * was.st_size)  # no longer an image
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    data = S.Images(items, view, tmp_path / "cache")
    assert all(torch.equal(data[i][1], first[i]) for i in range(2))
    assert data[2] == (2, None)  # was not read before
    os.utime(items[0][0], ns=(0, 0))  # another file of that name and size
    assert S.Images(items, view, tmp_path / "cache")[0] == (0, None)


def test_imagenette_labels_are_classes_of_the_thousand(tmp_path, monkeypatch):
    wnids = imagenet_wnids()
    for k in (0, 217, 701):
        (tmp_path / "val" / wnids[k]).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / wnids[k] / "a.JPEG")
    monkeypatch.setattr(S, "download_imagenette", lambda root: tmp_path)
    items, _, classes = S.find_data("imagenette", 1000, False, None, 0, 0)
    assert [label for _, label in items] == [0, 217, 701] and len(classes) == 1000
    items, _, classes = S.find_data(str(tmp_path), None, True, None, 0, 0)
    assert classes == ["animal", "other"] and {label for _, label in items} <= {0, 1}


# ------------------------------------------------------------------------------------------------ processes

def interrupted(argv: list, part: Path) -> None:
    """Run main in a process of its own and kill -9 it when it has written the first rows."""
    child = FORK.Process(target=S.main, args=(argv,))
    child.start()
    while child.is_alive() and not (part.exists() and part.stat().st_size):
        time.sleep(.002)
    os.kill(child.pid, signal.SIGKILL)
    child.join()


def test_killed_and_resumed_run_equals_an_undisturbed_one(pictures, tmp_path):
    S.main(small(pictures, tmp_path / "a"))
    argv = small(pictures, tmp_path / "b")
    interrupted(argv, tmp_path / "b/per_image.part0.jsonl")
    assert not (tmp_path / "b/results.json").exists()  # killed in time
    S.main([*argv, "--resume"])
    for name in ("per_image.csv", "linear_head.pth"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with pytest.raises(InputError, match="border"):
        S.main([*argv, "--resume", "--border", "shift"])


def test_two_processes_equal_one(pictures, tmp_path):
    S.main(small(pictures, tmp_path / "one"))
    argv = small(pictures, tmp_path / "two", "--cache", str(tmp_path / "cache"))
    in_group(2, S.main, argv)
    assert (tmp_path / "one/per_image.csv").read_bytes() == (tmp_path / "two/per_image.csv").read_bytes()


# ------------------------------------------------------------------------------------------------ wrong input

def test_a_wrong_data_path_is_told_before_weights_are_fetched_or_rows_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(S, "load_vit", None)
    (tmp_path / "per_image.csv").write_text("image,condition\n")
    with pytest.raises(InputError, match="--data .*nowhere: no such folder"):
        S.main(["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path)])
    assert (tmp_path / "per_image.csv").exists()


def test_wrong_input_is_refused_in_one_sentence(pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "flat/a.jpg")
    save_checkpoint({"weight": torch.zeros(3, 100), "bias": torch.zeros(3)}, tmp_path / "wide.pth")
    save_checkpoint({"weight": torch.zeros(5, 96), "bias": torch.zeros(5)}, tmp_path / "five.pth")
    own = [a for a in small(pictures, tmp_path / "out") if a != "--train-head"]
    for argv, message in (
            (small(tmp_path / "missing", tmp_path / "out"), "missing"),
            (small(tmp_path / "empty", tmp_path / "out"), "no class folder"),
            (small(tmp_path / "flat", tmp_path / "out"), "class folder"),
            (small(pictures, tmp_path / "out", "--layer", "4"), "--layer 4: this model has blocks 0 to 3"),
            (small(pictures, tmp_path / "out", "--layer", "-1"), "blocks 0 to 3"),
            (small(pictures, tmp_path / "out", "--fovea", "4"), "fovea 4: expected an odd"),
            (small(pictures, tmp_path / "out", "--fovea", "15"), "at most 14"),
            (small(pictures, tmp_path / "out", "--saliency", "--size", "100", "96"), "multiples of the"),
            (small(pictures, tmp_path / "out", "--saliency", "--policy", "centre"), "makes saccades"),
            (small(pictures, tmp_path / "out", "--limit", "1"), "at least two"),
            (small(pictures, tmp_path / "out", "--head", "x"), "exclude each other"),
            (small(pictures, tmp_path / "out", "--animals"), "none of the 1000 classes"),
            (small(pictures, tmp_path / "out", "--saliency-dir", str(tmp_path / "no")), "no such folder"),
            (own, "no classifier"),
            ([*own, "--head", str(tmp_path / "wide.pth")], "the head reads 100 numbers"),
            ([*own, "--head", str(tmp_path / "five.pth")], "5 classes, the data 3"),
            ([*own, "--head", str(tmp_path / "no.pth")], "no such weight file"),
            ([*own, "--model", "resnet99"], "no model resnet99")):
        with pytest.raises(InputError, match=message):
            S.main(argv)
    for path in (tmp_path / "flat").iterdir():
        path.unlink()
    save_checkpoint({"weight": torch.zeros(2, 96), "bias": torch.zeros(2)}, tmp_path / "two.pth")
    argv = small(tmp_path / "flat", tmp_path / "out")
    for name, message in (("a", "one class"), ("b", "no readable image")):
        (tmp_path / "flat" / name).mkdir()
        (tmp_path / "flat" / name / "x.jpg").write_bytes(b"no image")
        with pytest.raises(InputError, match=message):
            S.main(argv)
    with pytest.raises(InputError, match="none of the 2 images can be read"):
        S.main([*(a for a in argv if a != "--train-head"), "--head", str(tmp_path / "two.pth")])


# ------------------------------------------------------------------------------------------------ claims


@torch.no_grad()
def test_maps_are_the_maximum_over_heads_of_the_block_that_layer_names(demo_study):
    study, images, index = demo_study
    every = cls_attention(study.model, study.normalise(images[:4])).amax(2)  # (4, 12, 14, 14)
    last, study.block = study.block, 2
    rows = study.main(images[:4], index[:4])
    study.block = last
    best = S.fixation_sequence(every[:, 2], 3, 10)[0]
    assert [[[r[f"row_{s}"], r[f"col_{s}"]] for s in range(1, 11)] for r, *_ in rows] == best.tolist()


@torch.no_grad()
def test_sweep_reads_the_maps_of_smaller_inputs(demo_study):
    study, images, index = demo_study
    x = study.normalise(images[:2])
    a = resize_matrix(224, 128, "bilinear", antialias=True)
    low = upsample(cls_attention(study.model, a @ x @ a.T).amax(2)[:, 11], (14, 14))
    tokens = S.fixation_sequence(low, 3, 10)[1].sum((2, 3))
    rows = [{r["condition"]: r for r in part} for part in study.sweep(images[:2], index[:2])]
    assert [[r["block11 grid08"][f"tokens_{s}"] for s in range(1, 11)] for r in rows] == tokens.tolist()


def measured(correct, row=0.) -> dict:
    n = len(correct)
    one = dict.fromkeys(("row", "col"), np.full((n, 10), row)) | {"correct": np.array(correct, float)}
    return one | {"tokens": np.tile(np.arange(1, 11.) * 9, (n, 1)), "n_tokens": np.full(n, 196.),
                  "image": np.arange(n), "label": np.zeros(n), "certainty": np.full((n, 10), .5),
                  "certainty_full": np.full(n, .5), "correct_full": np.ones(n), "entropy": np.arange(n) + 1.}


def test_lines_of_the_table_subtract_in_the_order_they_name():
    right, wrong = measured(np.ones((8, 10)), 3.), measured(np.zeros((8, 10)))
    main = {"attention fovea3": right, "random fovea3": wrong}
    found = {"dino": right, "gbvs": wrong, "unisal": wrong, "random": wrong}
    ours = {h["name"]: h["ours"] for h in S.saliency_headline(found, main, 3)}
    assert ours["accuracy, DINO - random"] == ours["accuracy, DINO - GBVS"] == 100
    assert ours["DINO to UNISAL - to GBVS, saccades 1-3"] == 0
    np.testing.assert_allclose(S.distances(right, wrong), 18 ** .5)
    later = measured(np.arange(10) >= np.arange(8)[:, None])  # image i: correct from saccade i + 1 on
    table = {h["name"]: h for h in S.entropy_rows("x", later, measured(1 - later["correct"][::-1]))}
    assert table["x: entropy per saccade needed, attention"]["ours"] == pytest.approx(1)
    late = {"attention fovea3": later, "random fovea3": wrong}
    ours = {h["name"]: h["ours"] for h in S.main_headline(late, [3], None, 0)}
    assert ours["fovea 3: correct at least once - full"] == 0
    assert ours["fovea 3: gap at saccade 1 - at 10"] == pytest.approx(100 * (1 - 8) / 8)
    grids = {f"block{b:02d} grid{g:02d}": right for b in range(4) for g in (14, 12, 10, 8)}
    ours = {h["name"]: h["ours"] for h in S.sweep_headline(grids | {"random": wrong})}
    assert ours["accuracy, 10x10 maps - random"] == ours["accuracy, block00 - random"] == 100


def test_certainty_is_that_of_images_right_on_the_full_image():
    later = np.arange(10) >= np.arange(8)[:, None]  # image i: correct from saccade i + 1 on
    a, r = measured(later), measured(later)
    a["certainty"], a["certainty_full"] = np.full((8, 10), .6), .9 - .05 * np.arange(8)
    for t in (a, r):
        t["correct_full"] = (np.arange(8) > 0) * 1.  # the first image is wrong in full
    a["certainty"][0], r["certainty"][0], a["certainty_full"][0] = 1, 0, 0
    table = {h["name"]: h for h in S.main_headline({"attention fovea3": a, "random fovea3": r}, [3], None, 0)}
    lines = [table[f"fovea 3: {k}"] for k in ("certainty, attention - random",
                                              "full-image certainty per saccade needed")]
    np.testing.assert_allclose([h["ours"] for h in lines], [.1, -.05], atol=1e-12)
    assert [h["n"] for h in lines] == [7, 7]


def test_disagreement_between_models_is_that_at_the_last_saccade_less_that_at_the_first():
    still, moves = measured(np.ones((8, 10))), measured(np.ones((8, 10)))
    moves["col"] = np.tile(np.arange(2., 12.), (8, 1))
    found = {"dino": still, "unisal": moves, "random": still}
    main = {"attention fovea3": still, "random fovea3": still}
    ours = {h["name"]: h["ours"] for h in S.saliency_headline(found, main, 3)}
    assert ours["DINO to UNISAL, saccade 10 - 1"] == 9


def test_threshold_ignores_the_half_that_judges():
    rng, n = np.random.default_rng(1), 400
    t = {"label": np.zeros(n), "certainty": rng.random((n, 10)),
         "correct": rng.integers(0, 2, (n, 10)).astype(float),
         "tokens": np.tile(np.arange(1, 11) * 9., (n, 1))}
    before, judged = S.stopping(t, 0)["threshold"], np.random.default_rng([0, 4]).permutation(n) >= n // 2
    t["certainty"][judged], t["correct"][judged] = rng.random((n // 2, 10)) ** 3, 0
    assert S.stopping(t, 0)["threshold"] == before


@torch.no_grad()
def test_resnet_sees_the_first_fixation_and_the_centre(demo_study):
    study, images, index = demo_study
    seen, grid = [], torch.zeros(2, 14, 14)
    grid[:, 9, 4] = 1.

    class Net(nn.Module):
        fc = nn.Linear(1, 12)

        def forward(self, crops):
            seen.append(crops)
            return torch.zeros(len(crops), 12)
    study.saliency(images[:2], index[:2], lambda *a: {"dino": grid}, Net())
    for crops, (top, left) in zip(seen, ((128, 48), (88, 88))):  # 48 px around row 152, col 72; the centre
        crop = images[:2, :, top:top + 48, left:left + 48]
        torch.testing.assert_close(crops, S.normalize(S.upsample(crop, (224, 224)), *S.IMAGENET))
