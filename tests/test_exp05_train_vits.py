"""exp05_train_vits: the recipe is the official one, and a training is a pure function of its arguments."""
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

import common
import exp05_train_vits as E
from common import InputError, generator
from processes import FORK, in_group
from legacy import load_checkpoint, read_csv, save_checkpoint

torch.set_num_threads(1)
TINY = ("--width 24 --heads 2 --depth 2 --batch-size 8 --epochs 2 --warmup-epochs 1 --global-size 32 "
        "--workers 0 --device cpu --dtype float32 --eval-every 2 --eval-resize 224").split()
DINO = TINY + "--method dino --local-size 16 --locals 2 --out-dim 40 --head-hidden 32 --bottleneck 16".split()
SUPERVISED = TINY + "--method supervised".split()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Two classes of 32-px pictures: 12 + 12 to train (three steps an epoch), 4 + 4 to validate."""
    root = tmp_path_factory.mktemp("pictures")
    for split, n in (("train", 12), ("val", 4)):
        for k, name in enumerate(("n01", "n02")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                noise = np.random.default_rng([k, i, n]).integers(0, 120, (32, 32, 3)) + 100 * k
                Image.fromarray(noise.astype(np.uint8)).save(folder / f"{i}.png")
    return root


def trained(pictures: Path, out: Path, *more: str) -> dict:
    E.main([*more, "--data", str(pictures), "--out", str(out)])
    return load_checkpoint(out / "last.pt")


def leaves(x, path=""):
    if isinstance(x, dict):
        for k, v in x.items():
            yield from leaves(v, f"{path}.{k}")
    elif isinstance(x, list):
        for i, v in enumerate(x):
            yield from leaves(v, f"{path}.{i}")
    else:
        yield path, x


def assert_same_bits(a: dict, b: dict) -> None:
    a, b = dict(leaves(a)), dict(leaves(b))
    assert a.keys() == b.keys()
    for key in a:
        if not key.endswith("images_per_s"):  # the only measured time in a checkpoint
            assert torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key], key


# ------------------------------------------------------------------------------------------------ the recipe

def test_dino_loss_equals_official():
    z = np.arange(5 * 3 * 7).reshape(5, 3, 7)  # five views, three images, seven outputs
    student, teacher = torch.tensor(np.sin(z)).float(), torch.tensor(np.cos(1.3 * z[:2])).float()
    # main_dino.DINOLoss of facebookresearch/dino 7c446df, temperature .07, this centre
    loss = E.dino_loss(student, teacher, torch.linspace(-.2, .3, 7), .07)
    assert float(loss) == pytest.approx(9.8007059, rel=1e-6)
    # lightly 1.6.0 DINOLoss, centre 0
    assert float(E.dino_loss(student, teacher, torch.zeros(7), .07)) == pytest.approx(9.4937506, rel=1e-6)


def dino_trainer(*more: str) -> E.Trainer:
    args = E.parse([*DINO, "--data", "x", "--drop-path", "0", *more])
    return E.Trainer(args, 0, 2, torch.device("cpu"))  # two steps an epoch


def dino_step(trainer: E.Trainer) -> float:
    gen = generator(7, trainer.step)
    sizes = (64, 64, 32, 32)
    views = [torch.randint(0, 256, (4, 3, s, s), generator=gen, dtype=torch.uint8) for s in sizes]
    return float(trainer.train_step(views, torch.zeros(4, dtype=torch.long), torch.zeros(4)))


def test_eight_dino_steps_equal_official_code():
    trainer = dino_trainer(*("--batch-size 4 --epochs 4 --lr .5 --warmup-teacher-temp .03 --teacher-temp .06 "
                             "--warmup-teacher-epochs 3 --clip-grad .05").split())
    # MultiCropWrapper, DINOHead, DINOLoss, clip_gradients, cancel_gradients_last_layer, get_params_groups and
    # cosine_scheduler of facebookresearch/dino 7c446df on the same weights and views: at most 5e-7 apart
    official = [1.09129715, 1.05834734, 1.69448602, .11425737, .16822763, .18275851, .25651541, .41254044]
    assert [dino_step(trainer) for _ in range(8)] == pytest.approx(official, abs=2e-5)


def test_schedule_equals_official():
    # utils.cosine_scheduler(5e-4, 1e-6, 5, 4, warmup_epochs=2) of facebookresearch/dino 7c446df
    official = {0: 0., 1: 7.142857142857143e-05, 7: .0005, 8: .0005, 13: .0003150753517530789,
                19: 9.501506340877485e-06}
    for step, value in official.items():
        assert E.cosine(step, 20, 5e-4, 1e-6, 8) == pytest.approx(value, rel=1e-12)


def test_paper_defaults_are_the_official_ones():
    args = E.parse("--method dino --data IMAGENET".split())
    assert (args.out_dim, args.momentum, args.teacher_temp, args.clip_grad) == (65536, .996, .04, 3.)
    assert (args.lr, args.weight_decay, args.weight_decay_end, args.warmup_epochs) == (5e-4, .04, .4, 10)
    assert (args.locals, args.local_size, args.freeze_last_layer, args.epochs) == (8, 96, 1, 300)
    args = E.parse("--method supervised --data IMAGENET --workers 10".split())
    assert (args.weight_decay, args.warmup_epochs, args.mixup, args.cutmix) == (.05, 5, .8, 1.)
    assert (args.smoothing, args.erasing, args.drop_path, args.depth) == (.1, .25, .1, 12)


def test_gradients_are_clipped_per_parameter():
    net = torch.nn.Linear(4, 3)
    net.weight.grad, net.bias.grad = torch.full((3, 4), 5.), torch.full((3,), .5)
    E.clip_each_gradient(net, 3.)
    assert float(net.weight.grad.norm()) == pytest.approx(3.)  # was 17.3
    assert torch.equal(net.bias.grad, torch.full((3,), .5))  # its own norm .87 is below the limit


def test_last_layer_rests_in_the_first_epoch_only():
    trainer = dino_trainer()
    start = trainer.student.head.prototypes.detach().clone()
    dino_step(trainer), dino_step(trainer)
    assert torch.equal(trainer.student.head.prototypes, start)
    dino_step(trainer)
    assert not torch.equal(trainer.student.head.prototypes, start)


def test_teacher_is_moving_average_of_student():
    teacher, student = torch.nn.Linear(2, 2).requires_grad_(False), torch.nn.Linear(2, 2)
    start = teacher.weight.clone()
    for _ in range(3):
        E.ema(teacher, student, .9)
    torch.testing.assert_close(teacher.weight, .9 ** 3 * start + (1 - .9 ** 3) * student.weight.detach())


def test_head_ignores_the_length_of_prototypes():
    head, x = E.DinoHead(8, 16, 4, 10, generator(0)), torch.randn(5, 8, generator=generator(1))
    y = head(x)
    head.prototypes.data.mul_(torch.linspace(1, 9, 10)[:, None])
    torch.testing.assert_close(head(x), y)
    assert y.abs().max() <= 1


def test_only_matrices_decay_and_in_deit_not_the_embeddings():
    net = E.VisionTransformer(embed_dim=24, depth=1, num_heads=2, num_classes=3)
    for embeddings in (True, False):
        decayed = {id(p) for p in E.parameter_groups(net, embeddings)[0]["params"]}
        names = {n for n, p in net.named_parameters() if id(p) in decayed}
        matrices = {n for n, p in net.named_parameters() if n.endswith("weight") and "norm" not in n}
        assert names == matrices | ({"pos_embed", "cls_token"} if embeddings else set())


def test_mix_keeps_pairs_and_its_share_is_the_share_of_pixels():
    images = torch.arange(4.)[:, None, None, None].expand(4, 3, 20, 30)  # image i is all i
    target = torch.eye(4)
    for mixup, cutmix in ((.8, 0.), (0., 1.), (.8, 1.)):
        for seed in range(5):
            x, t = E.mix(images, target, mixup, cutmix, np.random.default_rng(seed))
            torch.testing.assert_close(x.mean((1, 2, 3)), t @ torch.arange(4.))
            assert torch.equal(t[:2, 2:], torch.zeros(2, 2)) and t.sum(1).allclose(torch.ones(4))


def test_demo_resnet_has_seven_by_seven_maps():
    net = E.build(E.parse(["--arch", "resnet", "--method", "supervised"]), 12, generator(0)).eval()
    maps = torch.nn.Sequential(*list(net.children())[:-2])(torch.zeros(1, 3, 224, 224))  # without pooling, fc
    assert maps.shape == (1, 2048, 7, 7)


# ------------------------------------------------------------------------------------------------ determinism

@pytest.mark.parametrize("recipe", [DINO, SUPERVISED], ids=["dino", "supervised"])
def test_killed_and_resumed_training_equals_uninterrupted_bit_for_bit(recipe, pictures, tmp_path):
    recipe = [*recipe, "--drop-path", ".3"]
    straight = trained(pictures, tmp_path / "a", *recipe)
    out = tmp_path / "b"
    child = FORK.Process(target=trained, args=(pictures, out, *recipe, "--save-minutes", "0"))
    child.start()
    while not (out / "last.pt").exists() or load_checkpoint(out / "last.pt")["step"] < 2:
        assert child.is_alive() or (out / "last.pt").exists()
        time.sleep(.005)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    trained(pictures, out, *recipe, "--resume", "--stop-step", "4")  # in the second epoch
    resumed = trained(pictures, out, *recipe, "--resume")
    assert straight["step"] == resumed["step"] == 6
    assert_same_bits(straight, resumed)
    assert (tmp_path / "a" / "model.pth").read_bytes() == (out / "model.pth").read_bytes()


@pytest.mark.parametrize("recipe", [DINO, SUPERVISED], ids=["dino", "supervised"])
def test_two_processes_equal_one(recipe, pictures, tmp_path):
    recipe = [*recipe, "--drop-path", "0", "--data", str(pictures)]
    E.main([*recipe, "--out", str(tmp_path / "one")])
    in_group(2, E.main, [*recipe, "--out", str(tmp_path / "two")])
    a, b = (read_csv(tmp_path / name / "log.csv") for name in ("one", "two"))
    assert [r["loss"] for r in a] == pytest.approx([r["loss"] for r in b], rel=1e-5)
    a, b = (load_checkpoint(tmp_path / name / "last.pt") for name in ("one", "two"))
    for key in a["student"]:
        torch.testing.assert_close(a["student"][key], b["student"][key], atol=1e-4, rtol=1e-3)


def test_batches_of_all_processes_make_the_batch_of_one(monkeypatch):
    whole = list(E.batches(20, 6, 5, 2, 8))
    parts = []
    for rank in range(3):
        monkeypatch.setattr(common, "rank_world", lambda: (rank, 3))
        parts.append(list(E.batches(20, 6, 5, 2, 8)))
    assert [a + b + c for a, b, c in zip(*parts)] == whole
    monkeypatch.undo()
    first_epoch = [i for batch in E.batches(20, 5, 5, 0, 4) for _, i in batch]
    assert sorted(first_epoch) == list(range(20)) and first_epoch != list(range(20))


def test_views_are_a_function_of_seed_epoch_and_index(pictures):
    samples, _, _ = E.image_folders(str(pictures), None, 0)
    views = E.Views(samples, E.transforms(E.parse([*DINO, "--data", "x"])), seed=3)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b = views[1, 5], views[1, 5]
    assert torch.equal(torch.get_rng_state(), before)
    assert [v.shape[-1] for v in a[0]] == [32, 32, 16, 16]
    assert all(torch.equal(x, y) for x, y in zip(a[0], b[0]))
    assert not torch.equal(views[2, 5][0][0], a[0][0]) and not torch.equal(a[0][0], a[0][1])


def test_kill_during_checkpoint_leaves_a_whole_file(tmp_path):
    path, state = tmp_path / "last.pt", {"x": torch.arange(3_000_000)}

    def write_for_ever():
        while True:
            save_checkpoint(state, path)
    for delay in (0., .01, .03):
        child = FORK.Process(target=write_for_ever)
        child.start()
        while not path.exists():
            time.sleep(.001)
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert torch.equal(load_checkpoint(path)["x"], state["x"])


# ------------------------------------------------------------------------------------------------ wrong input

def test_resume_with_other_arguments_is_refused_and_nothing_is_overwritten(pictures, tmp_path):
    trained(pictures, tmp_path, *DINO, "--stop-step", "1")
    with pytest.raises(InputError, match="lr"):
        trained(pictures, tmp_path, *DINO, "--lr", "3", "--resume")
    with pytest.raises(InputError, match="holds a training"):
        trained(pictures, tmp_path, *DINO, "--lr", "3")
    assert trained(pictures, tmp_path, *DINO, "--resume", "--stop-step", "2")["step"] == 2


def test_unreadable_picture_is_replaced_named_and_counted(pictures, tmp_path, capsys):
    samples, _, _ = E.image_folders(str(pictures), None, 0)
    (tmp_path / "broken.png").write_bytes(b"no image")
    samples[3] = (str(tmp_path / "broken.png"), 0)
    transforms = E.transforms(E.parse([*SUPERVISED, "--data", "x"]))
    views, label, bad = E.Views(samples, transforms)[0, 3]
    assert bad == 1 and torch.equal(views[0], E.Views(samples, transforms)[0, 4][0][0])
    assert "broken.png" in capsys.readouterr().err
    assert not E.Views(samples, transforms, substitute=False)[0, 3][0][0].any()  # black, and flagged


def test_unreadable_picture_is_left_out_of_the_evaluation_and_listed(pictures, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    broken, gone = sorted((data / "val").glob("*/*"))[2], sorted((data / "train").glob("*/*"))[5]
    broken.write_bytes(broken.read_bytes()[:100])
    gone.unlink()
    gone.symlink_to("nowhere.png")
    trained(data, tmp_path / "run", *SUPERVISED)
    rows = read_csv(tmp_path / "run" / "per_image.csv")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    name = f"{broken.parent.name}/{broken.name}"
    assert len(rows) == 7 and name not in {r["image"] for r in rows}
    assert results["unreadable"] == sorted([name, f"{gone.parent.name}/{gone.name}"])
    assert results["n_train"] == 23 and results["headline"][0]["n"] == 7


def test_wrong_input_is_named(pictures, tmp_path):
    with pytest.raises(InputError, match="train/<class>"):
        E.image_folders(str(tmp_path), None, 0)
    with pytest.raises(InputError, match="supervised"):
        E.parse(["--arch", "resnet"])
    args = E.parse([*SUPERVISED, "--data", "x"])
    for world, n in ((3, 24), (8, 24), (1, 7)):  # does not divide, odd with mixup, too few
        with pytest.raises(InputError, match="--batch-size"):
            E.check(args, n, world, torch.device("cpu"))


# ------------------------------------------------------------------------------------------------ measures

def test_knn_weighs_neighbours_by_similarity():
    bank = torch.tensor([[1., 0.], [.8, .6], [.8, .6], [0., 1.]])
    labels = torch.tensor([0, 1, 1, 1])
    x = torch.tensor([[5., 0.], [.9, .5]])  # cosines with the bank 1, .8, .8, 0: e^(.2/.07) = 17.4 > 2 votes
    assert E.knn(bank, labels, x, 2).tolist() == [0, 1]


def test_linear_head_reads_raw_features_whatever_their_scale():
    gen = generator(1)
    y = torch.arange(300) % 3
    x = torch.randn(300, 6, generator=gen) + 1.5 * torch.eye(6)[y]
    weight, bias = E.fit_linear(x, y, 3)
    scaled, scaled_bias = E.fit_linear(100 * x + 40, y, 3)
    again = (100 * x + 40) @ scaled.T + scaled_bias
    torch.testing.assert_close(again, x @ weight.T + bias, atol=2e-2, rtol=1e-2)
    p = (x @ weight.T + bias).softmax(1)
    torch.testing.assert_close(p.mean(0), torch.full((3,), 1 / 3), atol=1e-3, rtol=0)  # at the optimum


def test_uniform_attention_has_no_lift_on_the_object(tmp_path):
    demo = pytest.importorskip("demo")
    demo.write_imagenet(tmp_path, "val", 4, 9)
    samples = [(str(p), 0) for p in sorted((tmp_path / "val").glob("*/*.JPEG"))]
    net = E.VisionTransformer(embed_dim=24, depth=1, num_heads=2)
    net.blocks[0].attn.qkv.weight.data.zero_()  # equal scores: every token gets 1/197
    lift = E.attention_lift(net, samples, torch.device("cpu"))
    assert lift.shape == (4, 2) and lift.abs().max() < 1e-6


def test_evaluation_of_a_saved_model_repeats_the_end_of_training(pictures, tmp_path):
    trained(pictures, tmp_path, *SUPERVISED, "--train-head")
    rows = read_csv(tmp_path / "per_image.csv")
    assert list(rows[0]) == ["image", "condition", "knn", "top1", "linear"] and len(rows) == 8
    head = load_checkpoint(tmp_path / "linear_head.pth")
    assert head["weight"].shape == (2, 48)  # two blocks of 24
    before = {p: p.read_bytes() for p in tmp_path.glob("*.*")}
    E.main([*SUPERVISED, "--data", str(pictures), "--out", str(tmp_path), "--train-head", "--eval"])
    assert read_csv(tmp_path / "eval" / "per_image.csv") == rows
    assert {p: p.read_bytes() for p in tmp_path.glob("*.*")} == before
    assert tmp_path / "fig_training.pdf" in before


@pytest.mark.parametrize("argv, key, least", [
    ("--method supervised --depth 4", "top1", .8), ("--method supervised --arch resnet", "top1", .8)])
def test_shipped_models_know_the_demo_scenes(tmp_path, argv, key, least):
    E.main([*argv.split(), "--eval", "--no-train-head", "--limit", "120", "--workers", "0", "--device", "cpu",
            "--out", str(tmp_path)])
    rows = read_csv(tmp_path / "eval" / "per_image.csv")
    assert len(rows) == 120 and np.mean([r[key] for r in rows]) > least  # chance: 1 of 12
