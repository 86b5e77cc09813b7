"""exp05_train_vits: the recipe is the official one, and a training is a pure function of its arguments."""
import json
import math
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.functional import normalize

import exp05_evaluate_vits as V
import exp05_train_vits as E
from common import InputError, fit_linear, generator
from data import read_csv
from processes import FORK, in_group
from results import load_checkpoint, read_arrays, save_arrays

torch.set_num_threads(1)
TINY = "--width 24 --depth 2 --epochs 2 --warmup-epochs 1 --workers 0 --device cpu".split()
DINO, SUPERVISED = [*TINY, "--method", "dino"], [*TINY, "--method", "supervised"]


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Recipes of a second: small crops, a small head, three steps an epoch."""
    small = dict(heads=2, batch_size=8, global_size=32, final_size=64, dtype="float32", eval_resize=224)
    head = dict(local_size=16, locals=2, out_dim=40, head_hidden=32, bottleneck=16)
    patch.setitem(E.PAPER, "dino", E.PAPER["dino"] | small | head)
    patch.setitem(E.PAPER, "supervised", E.PAPER["supervised"] | small | {"final_epochs": 1})


@pytest.fixture
def tiny(monkeypatch) -> None:
    shrink(monkeypatch)


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


def train(pictures: Path, out: Path, *more: str) -> Path:
    E.main([*more, "--data", str(pictures), "--out", str(out)])
    return out


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


def dino_training(**recipe) -> E.Training:
    args = E.parse([*DINO, "--data", "x", "--drop-path", "0", "--batch-size", "4"])
    vars(args).update(recipe)
    return E.Training(args, 0, 2, torch.device("cpu"))  # two steps an epoch


def dino_step(training: E.Training, folder: Path) -> None:
    gen = generator(7, training.step)
    sizes = (64, 64, 32, 32)
    views = [torch.randint(0, 256, (4, 3, s, s), generator=gen, dtype=torch.uint8) for s in sizes]
    E.train(training, [(views, torch.zeros(4, dtype=torch.long))], folder)


def test_eight_dino_steps_equal_official_code(tiny, tmp_path):
    training = dino_training(epochs=4, lr=.5, clip_grad=.05)
    # MultiCropWrapper, DINOHead, DINOLoss, clip_gradients, cancel_gradients_last_layer, get_params_groups and
    # cosine_scheduler of facebookresearch/dino 7c446df on the same weights and views: at most 5e-7 apart
    official = [1.09129715, 1.05834734, 1.69448602, .11425737, .16822763, .18275851, .25651541, .41254044]
    losses = []
    for temperature in (.03, .03, .045, .045, .06, .06, .06, .06):  # its warm-up of three epochs
        training.recipe.teacher_temp = temperature
        dino_step(training, tmp_path)
        so_far = sum(2 * row["loss"] for row in training.log) + float(training.loss)
        losses.append(so_far - sum(losses))
    assert losses == pytest.approx(official, abs=2e-5)


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


class Kernels(TorchDispatchMode):
    """The names of the operations that reach the kernels."""
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names = [*getattr(self, "names", []), function.overloadpacket.__name__]
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("recipe", [DINO, SUPERVISED], ids=["dino", "supervised"])
def test_a_training_step_reads_no_number_back_from_the_device(recipe, tiny, tmp_path):
    training = E.Training(E.parse([*recipe, "--data", "x"]), 3, 100, torch.device("cpu"))
    views = [torch.randint(0, 256, (4, 3, s, s), dtype=torch.uint8) for s in (32, 32, 16, 16)]
    labels = torch.tensor([0, 1, 2, 0])
    training.optimiser.step = lambda: None  # on a CPU torch's own reads its step count
    with Kernels() as found:
        for _ in range(4):  # mixup and CutMix
            E.train(training, [(views, labels)], tmp_path)
    with Kernels() as one_hot:  # of labels that have not left the CPU
        F.one_hot(labels, 3)
    allowed = one_hot.names.count("_local_scalar_dense") if recipe == SUPERVISED else 0
    assert found.names.count("_local_scalar_dense") == 4 * allowed


def test_clipping_and_moving_average_take_a_few_launches_whatever_the_number_of_parameters():
    nets = [torch.nn.ModuleList(torch.nn.Linear(3, 4) for _ in range(40)) for _ in range(2)]
    gen = generator(3)
    for p in nets[0].parameters():
        p.grad = torch.randn(p.shape, generator=gen)
    plain = [p.grad.clone() for p in nets[0].parameters()]
    with Kernels() as found:
        E.clip_each(nets[0].parameters(), 2.)
        E.ema(nets[1].requires_grad_(False), nets[0], .9)
    assert len([name for name in found.names if name not in ("detach", "unbind", "select")]) < 12
    for p, gradient in zip(nets[0].parameters(), plain):
        q = torch.nn.Parameter(p.detach().clone())
        q.grad = gradient
        torch.nn.utils.clip_grad_norm_(q, 2.)
        assert torch.equal(p.grad, q.grad)


def test_normalise_equals_torchvision():
    x = torch.arange(2 * 3 * 5 * 4).to(torch.uint8).view(2, 3, 5, 4)
    ours = V.normalise(x, V.mean_sd(torch.device("cpu")))
    assert torch.equal(ours, normalize(x.float() / 255, (.485, .456, .406), (.229, .224, .225)))


def test_every_parameter_is_clipped_by_its_own_norm(tiny, tmp_path):
    training = dino_training(clip_grad=1e-3)
    dino_step(training, tmp_path)
    norms = [float(p.grad.norm()) for p in training.student.parameters() if p.grad is not None]
    assert max(norms) <= 1.001e-3 and sum(norm > .99e-3 for norm in norms) > 10


def test_last_layer_rests_in_the_first_epoch_only(tiny, tmp_path):
    training = dino_training()
    start = training.student.prototypes.detach().clone()
    for moved in (False, False, True):
        dino_step(training, tmp_path)
        assert torch.equal(training.student.prototypes, start) is not moved


def test_teacher_is_moving_average_of_student():
    teacher, student = torch.nn.Linear(2, 2).requires_grad_(False), torch.nn.Linear(2, 2)
    start = teacher.weight.clone()
    for _ in range(3):
        E.ema(teacher, student, .9)
    torch.testing.assert_close(teacher.weight, .9 ** 3 * start + (1 - .9 ** 3) * student.weight.detach())


def test_dino_ignores_the_length_of_prototypes():
    backbone = E.VisionTransformer(embed_dim=24, depth=1, num_heads=2)
    net = E.Dino(backbone, 16, 4, 10, generator(0))
    views = [torch.randn(5, 3, s, s, generator=generator(s)) for s in (32, 32, 16)]
    y = net(views)
    net.prototypes.data.mul_(torch.linspace(1, 9, 10)[:, None])
    torch.testing.assert_close(net(views), y)
    assert y.shape == (3, 5, 10) and y.abs().max() <= 1
    torch.testing.assert_close(net(views[:2]), y[:2])  # what the teacher sees


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
    kinds = set()
    for seed in range(10):
        x, t = E.mix(images, target, .8, 1., np.random.default_rng(seed))
        torch.testing.assert_close(x.mean((1, 2, 3)), t @ torch.arange(4.))
        assert torch.equal(t[:2, 2:], torch.zeros(2, 2)) and t.sum(1).allclose(torch.ones(4))
        kinds.add("mixup" if x.std((1, 2, 3)).max() < 1e-6 else "cutmix")
    assert kinds == {"mixup", "cutmix"}


def test_demo_resnet_has_seven_by_seven_maps():
    net = E.build(E.parse(["--arch", "resnet", "--method", "supervised"]), 12, generator(0)).eval()
    maps = torch.nn.Sequential(*list(net.children())[:-2])(torch.zeros(1, 3, 224, 224))  # without pooling, fc
    assert maps.shape == (1, 2048, 7, 7)


# ------------------------------------------------------------------------------------------------ determinism

@pytest.mark.parametrize("argv", ["--depth 2", "--method supervised", "--method supervised --arch resnet"])
def test_every_initial_weight_is_a_function_of_the_seed(argv):
    args = E.parse(argv.split())
    torch.manual_seed(1)
    a = E.Training(args, 12, 1, torch.device("cpu")).student.state_dict()
    torch.manual_seed(2)
    b = E.Training(args, 12, 1, torch.device("cpu")).student.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("recipe", [DINO, SUPERVISED], ids=["dino", "supervised"])
def test_killed_and_resumed_training_equals_uninterrupted_bit_for_bit(tiny, recipe, pictures, tmp_path):
    recipe = [*recipe, "--drop-path", ".3"]
    out, last = tmp_path / "b", Path("unfinished/last.pt")
    child = FORK.Process(target=train, args=(pictures, out, *recipe, "--save-minutes", "0"))
    child.start()
    while not (out / last).exists() or load_checkpoint(out / last)["step"] < 2:
        assert child.is_alive() or (out / last).exists()
        time.sleep(.005)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    train(pictures, out, *recipe, "--resume", "--stop-step", "5")  # in the second epoch
    train(pictures, tmp_path / "a", *recipe, "--stop-step", "5")
    assert load_checkpoint(out / last)["step"] == 5
    assert_same_bits(load_checkpoint(tmp_path / "a" / last), load_checkpoint(out / last))
    train(pictures, out, *recipe, "--resume")
    straight = train(pictures, tmp_path / "c", *recipe)
    assert {p.name for p in out.iterdir()} == {p.name for p in straight.iterdir()} >= {"model.pth", "log.csv"}
    for name in ("model.pth", "log.csv", "per_image.csv"):
        assert (straight / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.parametrize("recipe", [DINO, SUPERVISED], ids=["dino", "supervised"])
def test_two_processes_equal_one(tiny, recipe, pictures, tmp_path):
    recipe = [*recipe, "--drop-path", "0", "--data", str(pictures), "--stop-step", "5"]
    E.main([*recipe, "--out", str(tmp_path / "one")])
    in_group(2, E.main, [*recipe, "--out", str(tmp_path / "two")])
    a, b = (load_checkpoint(tmp_path / name / "unfinished/last.pt") for name in ("one", "two"))
    assert a["log"][0]["loss"] == pytest.approx(b["log"][0]["loss"], rel=1e-5)
    assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-5)
    for key in a["student"]:
        torch.testing.assert_close(a["student"][key], b["student"][key], atol=1e-4, rtol=1e-3)


def test_a_training_goes_on_with_two_processes_to_its_end(tiny, pictures, tmp_path):
    train(pictures, tmp_path, *SUPERVISED, "--stop-step", "4")
    in_group(2, train, pictures, tmp_path, *SUPERVISED, "--resume")
    assert len(read_csv(tmp_path / "per_image.csv")) == 8 and not (tmp_path / "unfinished").exists()


def test_views_are_a_function_of_seed_epoch_and_index(tiny, pictures):
    samples, _, _ = E.load_data(str(pictures), None, 0)
    views = E.Views(samples, E.parse([*DINO, "--data", "x", "--seed", "3"]))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b = views[1, 5], views[1, 5]
    assert torch.equal(torch.get_rng_state(), before)
    assert [v.shape[-1] for v in a[0]] == [32, 32, 16, 16]
    assert all(torch.equal(x, y) for x, y in zip(a[0], b[0]))
    assert not torch.equal(views[2, 5][0][0], a[0][0]) and not torch.equal(a[0][0], a[0][1])


def test_crops_grow_in_the_last_epochs_of_a_recipe_that_says_so():
    args = E.parse("--method supervised".split())  # the demo's: 160 px in the last of 4 epochs
    image = Image.new("RGB", (224, 224))
    assert [E.crops(args, epoch)[0](image).shape[-1] for epoch in range(4)] == [112, 112, 112, 160]


# ------------------------------------------------------------------------------------------------ runs

def files(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("wrong", [
    "--lr 3", "--method dino", "--limit 9", "--data nowhere", "--weights x.pth", "--batch-size 100",
    "--epochs 0", "--depth 3 --resume", "--eval --depth 3"])
def test_a_finished_training_stays_whole_when_a_command_is_wrong(tiny, pictures, finished, tmp_path, wrong):
    out = shutil.copytree(finished, tmp_path / "run")
    before = files(out)
    with pytest.raises((InputError, SystemExit)):  # argparse's refusal of a number
        E.main([*SUPERVISED, "--train-head", "--data", str(pictures), "--out", str(out), *wrong.split()])
    assert files(out) == before


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        return train(pictures, tmp_path_factory.mktemp("finished") / "run", *SUPERVISED, "--train-head")


def test_an_edited_recipe_is_another_run(tiny, pictures, tmp_path, monkeypatch):
    train(pictures, tmp_path, *DINO, "--stop-step", "1")
    with pytest.raises(InputError, match="--resume"):
        train(pictures, tmp_path, *DINO)
    with monkeypatch.context() as edited, pytest.raises(InputError, match="momentum 0.996 -> 0.9"):
        edited.setitem(E.PAPER, "dino", E.PAPER["dino"] | {"momentum": .9})
        train(pictures, tmp_path, *DINO, "--resume")
    train(pictures, tmp_path, *DINO, "--resume", "--stop-step", "2")
    assert load_checkpoint(tmp_path / "unfinished/last.pt")["step"] == 2


def test_a_new_training_replaces_the_old_when_complete(tiny, pictures, finished, tmp_path, monkeypatch):
    out = shutil.copytree(finished, tmp_path / "run")
    before = files(out)
    command = [*SUPERVISED, "--train-head"]
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        def interrupted(*args, **kwargs):
            raise KeyboardInterrupt
        broken.setattr(V, "vote", interrupted)  # the training itself is done
        train(pictures, out, *command)
    assert {p: content for p, content in files(out).items() if "unfinished" not in p.parts} == before
    train(pictures, out, *command, "--resume")
    for name in ("model.pth", "linear_head.pth", "log.csv", "per_image.csv"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    assert not (out / "unfinished").exists()


def test_resume_of_a_finished_training_draws_again(tiny, pictures, finished, tmp_path, monkeypatch):
    out = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(E, "train", None)
    for how in ("--resume", "--plot-only"):
        for p in out.glob("fig_*"):
            p.unlink()
        train(pictures, out, *SUPERVISED, "--train-head", how)
        assert len(list(out.glob("fig_*"))) == 2


def test_evaluation_of_a_saved_model_repeats_the_end_of_training(tiny, pictures, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    rows = read_csv(out / "per_image.csv")
    assert list(rows[0]) == ["image", "condition", "knn", "top1", "linear"] and len(rows) == 8
    assert load_checkpoint(out / "linear_head.pth")["weight"].shape == (2, 48)  # two blocks of 24
    before = files(out)
    train(pictures, out, *SUPERVISED, "--train-head", "--eval")
    assert read_csv(out / "eval" / "per_image.csv") == rows
    assert {p: content for p, content in files(out).items() if "eval" not in p.parts} == before
    other = tmp_path / "other"
    train(pictures, other, *SUPERVISED, "--train-head", "--eval", "--weights", str(out / "model.pth"))
    assert read_csv(other / "eval" / "per_image.csv") == rows  # with a head of its own
    assert (other / "eval" / "linear_head.pth").exists()


# ------------------------------------------------------------------------------------------------ wrong input

def test_unreadable_picture_is_replaced_by_the_next(tiny, pictures, tmp_path):
    samples, _, _ = E.load_data(str(pictures), None, 0)
    (tmp_path / "broken.png").write_bytes(b"no image")
    samples[3] = (tmp_path / "broken.png", 0)
    views = E.Views(samples, E.parse([*SUPERVISED, "--data", "x"]))
    assert torch.equal(views[0, 3][0][0], views[0, 4][0][0])


def test_unreadable_pictures_are_left_out_of_the_evaluation_and_listed(tiny, pictures, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    broken, gone = sorted((data / "val").glob("*/*"))[2], sorted((data / "train").glob("*/*"))[5]
    broken.write_bytes(broken.read_bytes()[:100])
    gone.unlink()
    gone.symlink_to("nowhere.png")
    train(data, tmp_path / "run", *SUPERVISED)
    rows = read_csv(tmp_path / "run" / "per_image.csv")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    name = f"{broken.parent.name}/{broken.name}"
    assert len(rows) == 7 and name not in {r["image"] for r in rows}
    assert results["unreadable"] == sorted([name, f"{gone.parent.name}/{gone.name}"])
    assert results["headline"][0]["n"] == 7


def test_wrong_input_is_named(tiny, pictures, tmp_path, capsys):
    with pytest.raises(InputError, match="train: .*; expected class folders"):
        E.load_data(str(tmp_path), None, 0)
    for argv, said in ((["--arch", "resnet"], "supervised"), (["--weights", "x"], "--eval"),
                       (["--drop-path", "1"], "below 1")):
        with pytest.raises(InputError, match=said):
            E.parse(argv)
    for argv in ("--epochs 0", "--depth 0", "--width 0", "--stop-step 0", "--warmup-epochs -1", "--lr -1",
                 "--lr nan", "--lr inf", "--save-minutes -1", "--drop-path nan"):
        with pytest.raises(SystemExit, match="2"):
            E.parse(argv.split())
        assert f"argument {argv.split()[0]}: " in capsys.readouterr().err
    for batch, world in ((8, 3), (8, 8), (26, 1)):  # does not divide, odd in a process, more than there is
        with pytest.raises(InputError, match="--batch-size"), pytest.MonkeyPatch.context() as patch:
            patch.setattr(E, "rank_world", lambda: (0, world))
            train(pictures, tmp_path / "none", *SUPERVISED, "--batch-size", str(batch))
    assert not (tmp_path / "none").exists()


def broken_loss(*args, right=F.cross_entropy) -> torch.Tensor:
    return right(*args) + torch.nan


def broken_gradient(*args, right=F.cross_entropy) -> torch.Tensor:
    loss = right(*args)
    return loss + 1e30 * (loss - loss.detach()) * 1e30  # the loss is right, its gradient infinite


@pytest.mark.parametrize("broken", [broken_loss, broken_gradient])
def test_what_is_not_finite_is_never_saved_and_a_lower_lr_goes_on(broken, tiny, pictures, tmp_path):
    command, last = [*SUPERVISED, "--save-minutes", "0"], tmp_path / "unfinished/last.pt"
    train(pictures, tmp_path, *command, "--stop-step", "4")  # in the second of two epochs of three steps
    good = files(tmp_path)
    with pytest.MonkeyPatch.context() as patch, \
            pytest.raises(InputError, match="after step 5; .* --resume and a lower --lr"):
        patch.setattr(E.F, "cross_entropy", broken)
        train(pictures, tmp_path, *command, "--resume")
    assert files(tmp_path) == good and load_checkpoint(last)["step"] == 4
    with pytest.raises(InputError, match="drop_path 0.1 -> 0.2"):  # all else stays, and lr without --resume
        train(pictures, tmp_path, *command, "--resume", "--lr", "1e-5", "--drop-path", ".2")
    with pytest.raises(InputError, match="lr 0.0005 -> 1e-05"):
        train(pictures, tmp_path, *command, "--lr", "1e-5")
    assert files(tmp_path) == good
    train(pictures, tmp_path, *command, "--resume", "--lr", "1e-5")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["notes"] == ["--lr was 0.0005 up to step 4, then 1e-05"] and results["args"]["lr"] == 1e-5
    log = read_csv(tmp_path / "log.csv")
    peak, low = 1e-5 * 8 / 512, 1e-5  # the last of three steps on half a cosine from the peak to min_lr
    assert log[1]["lr"] == pytest.approx(low + .5 * (peak - low) * (1 + math.cos(math.pi * 2 / 3)), rel=1e-9)
    with pytest.raises(InputError, match="other arguments"):
        train(pictures, tmp_path, *command, "--resume")  # it is finished


def test_the_weights_of_a_broken_epoch_are_not_saved_either(tiny, pictures, tmp_path):
    with pytest.raises(InputError, match="not finite after step 3"):
        train(pictures, tmp_path, *SUPERVISED, "--lr", "1e30", "--warmup-epochs", "0")
    assert list(files(tmp_path / "unfinished")) == []
    train(pictures, tmp_path, *SUPERVISED, "--resume", "--warmup-epochs", "0", "--stop-step", "1")
    assert load_checkpoint(tmp_path / "unfinished/last.pt")["step"] == 1


def test_help_shows_the_true_defaults(capsys):
    with pytest.raises(SystemExit):
        E.parse(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "of the models (dino bfloat16, supervised bfloat16; demo: float32, float32)" in said
    assert "images a batch (dino 512, supervised 1024; demo: 32, 32)" in said


# ------------------------------------------------------------------------------------------------ measures

def test_knn_weighs_neighbours_by_similarity():
    bank = torch.tensor([[1., 0.], [.8, .6], [.8, .6], [0., 1.]])
    labels = torch.tensor([0, 1, 1, 1])
    x = torch.tensor([[5., 0.], [.9, .5]])  # cosines with the bank 1, .8, .8, 0: e^(.2/.07) = 17.4 > 2 votes
    neighbours = V.nearest(F.normalize(x, dim=1) @ F.normalize(bank, dim=1).T, labels.expand(2, -1))
    assert V.vote(*neighbours, 2).tolist() == [0, 1]


def bank_files(folder: Path) -> list[Path]:
    """Five files of training features; the third image of the second cannot be read."""
    files = []
    for k in range(5):
        readable = torch.arange(9) != (2 if k == 1 else -1)
        features = torch.randn(9, 6, generator=generator(5, k, 1))  # the last block's are the last three
        files.append(folder / f"{k}.npz")
        save_arrays(files[-1], features=features, label=(torch.arange(9) + k) % 7, readable=readable,
                    index=9 * k + torch.arange(9))
    return files


def assert_neighbours_are_those_of_the_whole_bank(files: list[Path], share: int) -> None:
    x, read = torch.randn(11, 3, generator=generator(6)), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(V, "read_arrays", lambda file: read.append(file) or read_arrays(file))
        cosines, classes, bad = V.neighbours(files, x)
    assert len(read) <= share and bad == [11]
    arrays = [read_arrays(file) for file in files]
    bank, labels = (np.concatenate([part[key] for part in arrays]) for key in ("features", "label"))
    for i in range(11):
        cosine = bank[:, 3:] @ x[i].numpy() / np.linalg.norm(bank[:, 3:], axis=1) / float(x[i].norm())
        cosine[11] = -2
        best = np.argsort(-cosine)[:20]
        assert cosines[i].numpy() == pytest.approx(cosine[best], abs=1e-5)
        assert classes[i].tolist() == labels[best].tolist()


def test_knn_holds_one_file_at_a_time_and_no_process_reads_more_than_its_share(tmp_path):
    files = bank_files(tmp_path)
    assert_neighbours_are_those_of_the_whole_bank(files, 5)
    in_group(2, assert_neighbours_are_those_of_the_whole_bank, files, 3)


def test_linear_head_reads_raw_features_whatever_their_scale():
    gen = generator(1)
    y = torch.arange(300) % 3
    x = torch.randn(300, 6, generator=gen) + 1.5 * torch.eye(6)[y]
    weight, bias = fit_linear(x, y, 3)
    scaled, scaled_bias = fit_linear(100 * x + 40, y, 3)
    again = (100 * x + 40) @ scaled.T + scaled_bias
    torch.testing.assert_close(again, x @ weight.T + bias, atol=2e-2, rtol=1e-2)
    p = (x @ weight.T + bias).softmax(1)
    torch.testing.assert_close(p.mean(0), torch.full((3,), 1 / 3), atol=1e-3, rtol=0)  # at the optimum


def test_uniform_attention_has_no_lift_on_the_object(tmp_path):
    demo = pytest.importorskip("demo")
    demo.write_imagenet(tmp_path, "val", 4, 9)
    paths = sorted((tmp_path / "val").glob("*/*.JPEG"))
    masks = torch.stack([V.truth([(path, 0) for path in paths], True, i)["mask"] for i in range(4)])
    assert V.attention_lift(torch.full((4, 2, 14, 14), .1), masks).abs().max() < 1e-6
    on_object = torch.nn.functional.avg_pool2d(masks[:, None], 16)  # (4, 1, 14, 14)
    assert (V.attention_lift(on_object, masks) > .2).all()


def test_arrays_hold_what_the_figures_show(tiny, finished):
    arrays = read_arrays(finished / "arrays.npz")
    assert arrays["images"].shape == (6, 224, 224, 3) and arrays["maps"].shape == (6, 2, 14, 14)


@pytest.mark.parametrize("argv", ["--method supervised --depth 4", "--method supervised --arch resnet"])
def test_shipped_models_know_the_demo_scenes(tmp_path, argv):
    E.main([*argv.split(), "--eval", "--no-train-head", "--limit", "120", "--workers", "0", "--device", "cpu",
            "--out", str(tmp_path)])
    rows = read_csv(tmp_path / "eval" / "per_image.csv")
    assert len(rows) == 120 and np.mean([r["top1"] for r in rows]) > .8  # chance: 1 of 12
