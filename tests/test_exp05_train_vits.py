"""exp05_train_vits: the recipe is the official one, and a training is a pure function of its arguments."""
import copy
import json
import math
import os
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2 as T

import demo
import exp05_evaluate_vits as V
import exp05_train_vits as E
from common import InputError, cls_attention, fit_linear, generator
from data import read_csv
from processes import fork, in_group
from pretended import one_device
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
    """Such recipes, without figures: those of `finished` are enough."""
    shrink(monkeypatch)
    monkeypatch.setattr(V, "draw", lambda *of: None)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Two classes of pictures of 32x40 px: 12 + 12 to train (three steps an epoch), 4 + 4 to validate."""
    root = tmp_path_factory.mktemp("pictures")
    for split, n in (("train", 12), ("val", 4)):
        for k, name in enumerate(("n01", "n02")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                noise = np.random.default_rng([k, i, n]).integers(0, 120, (32, 40, 3)) + 100 * k
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


@pytest.mark.parametrize("method", ["dino", "supervised"])
@pytest.mark.parametrize("depth", [4, 8, 12])
def test_models_are_those_of_the_paper(method, depth):
    """Yamamoto et al., code (vision_transformer.py, vit_small): 384 wide, 6 heads at every depth, patch 16,
    MLP four times as wide, biases on q, k, v, drop path up to .1; DINO: 65,536 outputs and no batch norm;
    SL: 1,000 classes; 300 epochs."""
    args = E.parse(["--method", method, "--depth", str(depth), "--data", "IMAGENET"])
    net = E.build(args, 1000, generator(0))
    per_block = 4 * (384 * 384 + 384) + 2 * 4 * 384 * 384 + 5 * 384 + 4 * 384
    rest = 3 * 16 * 16 * 384 + 384 + 384 + 197 * 384 + 2 * 384 + (385_000 if method == "supervised" else 0)
    assert sum(p.numel() for p in net.parameters()) == depth * per_block + rest
    assert [block.drop_path for block in net.blocks] == pytest.approx(np.linspace(0, .1, depth).tolist())
    assert {block.attn.num_heads for block in net.blocks} == {6} and args.epochs == 300
    assert net.pos_rule == ("offset" if method == "dino" else "size")  # as their official weights are read
    if method == "dino":
        head = E.Dino(net, args.head_hidden, args.bottleneck, 10, generator(0))
        assert args.out_dim == 65536 and [type(layer).__name__ for layer in head.mlp] == [
            "Linear", "GELU", "Linear", "GELU", "Linear"]


# What the paper says of the models it trained, and where the table shows it. It prints no accuracy, so no row
# has a paper's number; how the models look at videos are exp05_gaze_video's and exp05_clusters' rows.
CLAIMS_OF_THE_PAPER = {
    "the models learn their task (implied; no number)": ["k-NN top-1", "own head top-1", "linear head top-1"]}


def test_every_claim_of_the_paper_has_a_row(finished):
    rows = {row["name"]: row for row in json.loads((finished / "results.json").read_text())["headline"]}
    shown = [name for names in CLAIMS_OF_THE_PAPER.values() for name in names]
    assert list(rows) == shown == [claim.name for claim in V.CLAIMS][:3]
    assert all(row["paper"] is None and row["verdict"] == "" for row in rows.values())


def test_rows_of_the_table_are_percentages_of_images():
    arrays = dict(knn=np.arange(8) < 1, top1=np.arange(8) < 3, linear=np.arange(8) < 6, lift=np.full(8, .125))
    arrays = {key: values.astype(float) for key, values in arrays.items()}
    shown = {claim.name: claim.value(arrays) for claim in V.CLAIMS}
    assert {name: row["ours"] for name, row in shown.items()} == {
        "k-NN top-1": 12.5, "own head top-1": 37.5, "linear head top-1": 75., "attention lift": 12.5}
    assert {row["n"] for row in shown.values()} == {8}
    assert [claim.value({}) for claim in V.CLAIMS] == [None] * 4  # what was not measured has no row


def test_paper_defaults_are_the_official_ones():
    """main_dino.py of facebookresearch/dino, main.py of facebookresearch/deit, their evaluations' 256 px."""
    both = dict(width=384, heads=6, depth=12, drop_path=.1, epochs=300, lr=5e-4, dtype="bfloat16",
                global_size=224, final_size=224, final_epochs=0, eval_resize=256, train_head=False)
    args = vars(E.parse("--method dino --data IMAGENET".split()))
    assert args == args | both | dict(
        pos_rule="offset", out_dim=65536, head_hidden=2048, bottleneck=256, batch_size=512, warmup_epochs=10,
        min_lr=1e-6, weight_decay=.04, weight_decay_end=.4, clip_grad=3., freeze_last_layer=1, momentum=.996,
        teacher_temp=.04, locals=8, local_size=96, local_scale=(.05, .4), global_scale=(.4, 1.),
        jitter=(.4, .4, .2, .1), grayscale=.2, blur=(1., .1, .5), solarise=.2)
    args = vars(E.parse("--method supervised --data IMAGENET --workers 10".split()))
    assert args == args | both | dict(
        pos_rule="size", batch_size=1024, warmup_epochs=5, min_lr=1e-5, weight_decay=.05,
        weight_decay_end=.05, clip_grad=0., smoothing=.1, mixup=.8, cutmix=1., erasing=.25, randaugment=9,
        global_scale=(.08, 1.))


def test_the_demos_recipes_are_those_of_which_its_readme_gives_times_and_scores():
    """checkpoints/README.md; another recipe asks for other models and other numbers there."""
    both = dict(width=96, heads=6, drop_path=0., pos_rule="size", epochs=4, batch_size=32, dtype="float32",
                warmup_epochs=1, min_lr=1e-5, global_size=112, eval_resize=224, train_head=True)
    args = vars(E.parse("--method dino".split()))
    assert args == args | both | dict(
        out_dim=256, head_hidden=256, bottleneck=64, lr=.012, weight_decay=.04, weight_decay_end=.1,
        clip_grad=3., freeze_last_layer=0, momentum=.98, teacher_temp=.04, locals=4, local_size=48,
        local_scale=(.05, .4), global_scale=(.4, 1.), final_size=224, final_epochs=0, jitter=(.3, .3, .3, .02), grayscale=.05,
        blur=(.1, .1, 0.), solarise=0.)
    args = vars(E.parse("--method supervised".split()))
    assert args == args | both | dict(
        lr=.016, weight_decay=.05, weight_decay_end=.05, clip_grad=0., smoothing=.1, mixup=0., cutmix=1.,
        erasing=.25, randaugment=0, global_scale=(.25, 1.), final_size=160, final_epochs=1)
    assert E.DEMO_IMAGES == (15600, 1200)


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


def test_last_layer_rests_in_the_first_epoch_only(tiny, tmp_path):
    training = dino_training()
    start = training.student.prototypes.detach().clone()
    for moved in (False, False, True):
        dino_step(training, tmp_path)
        assert torch.equal(training.student.prototypes, start) is not moved


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


# ------------------------------------------------------------------------------------------------ written out

MEAN, SD = (torch.tensor(v)[:, None, None] for v in ((.485, .456, .406), (.229, .224, .225)))


def plain_vit(w: dict, x: torch.Tensor, heads: int, rates: list[float]) -> torch.Tensor:
    """Logits of a ViT with weights w, patch 16; a block's branches are dropped at its rate."""
    grid = [side // 16 for side in x.shape[-2:]]
    x = F.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=16)
    B, D = x.shape[:2]
    pos = w["pos_embed"][:, 1:].transpose(1, 2).reshape(1, D, 14, 14)
    x = (x + F.interpolate(pos, grid, mode="bicubic")).flatten(2).transpose(1, 2)  # (B, N, D)
    x = torch.cat([(w["cls_token"] + w["pos_embed"][:, :1]).expand(B, 1, D), x], 1)
    for i, rate in enumerate(rates):
        b = {name.removeprefix(f"blocks.{i}."): v for name, v in w.items() if name.startswith(f"blocks.{i}.")}
        for branch in ("attn", "mlp"):
            k = 1 if branch == "attn" else 2
            y = F.layer_norm(x, [D], b[f"norm{k}.weight"], b[f"norm{k}.bias"], 1e-6)
            if branch == "attn":
                q, k, v = (y @ b["attn.qkv.weight"].T + b["attn.qkv.bias"]).chunk(3, -1)
                y = []
                for head in range(heads):
                    own = slice(head * D // heads, (head + 1) * D // heads)
                    a = (q[..., own] @ k[..., own].transpose(1, 2) / math.sqrt(D / heads)).softmax(-1)
                    y.append(a @ v[..., own])
                y = torch.cat(y, -1) @ b["attn.proj.weight"].T + b["attn.proj.bias"]
            else:
                y = F.gelu(y @ b["mlp.fc1.weight"].T + b["mlp.fc1.bias"])
                y = y @ b["mlp.fc2.weight"].T + b["mlp.fc2.bias"]
            if rate:
                y = y * (torch.rand(B, 1, 1) < 1 - rate) / (1 - rate)
            x = x + y
    x = F.layer_norm(x, [D], w["norm.weight"], w["norm.bias"], 1e-6)[:, 0]
    return x @ w["head.weight"].T + w["head.bias"]


def plain_mix(x: torch.Tensor, target: torch.Tensor, rng: np.random.Generator) -> tuple:
    """Mixup (Beta(.8, .8)) or CutMix (Beta(1, 1)), one half each, of images 0 and 1, 2 and 3; and which."""
    partner = [1, 0, 3, 2]
    if rng.random() < .5:
        side, (img_h, img_w), mixed, taken = math.sqrt(1 - rng.beta(1., 1.)), x.shape[-2:], x.clone(), 0
        row, col = rng.integers(img_h), rng.integers(img_w)
        for r in range(row - int(img_h * side) // 2, row + int(img_h * side) // 2):
            for c in range(col - int(img_w * side) // 2, col + int(img_w * side) // 2):
                if 0 <= r < img_h and 0 <= c < img_w:
                    mixed[:, :, r, c] = x[partner, :, r, c]
                    taken += 1
        share, kind = 1 - taken / (img_h * img_w), "cutmix"
    else:
        share, kind = rng.beta(.8, .8), "mixup"
        mixed = share * x + (1 - share) * x[partner]
    return mixed, share * target + (1 - share) * target[partner], kind


def test_four_supervised_steps_equal_a_plain_loop(tiny, tmp_path):
    more = "--depth 3 --batch-size 4 --epochs 3 --warmup-epochs 1 --lr 2 --drop-path .4 --seed 3".split()
    training = E.Training(E.parse([*SUPERVISED, "--data", "x", *more]), 5, 2, torch.device("cpu"))
    w = {name: p.detach().clone().requires_grad_() for name, p in training.student.named_parameters()}
    m, v = ({name: torch.zeros_like(p) for name, p in w.items()} for _ in range(2))
    peak, low = 2 * 4 / 512, 1e-5  # six steps, two of them warm-up, four of half a cosine
    rates = [0, peak, peak, low + (peak - low) / 2 * (1 + math.cos(math.pi / 4))]
    kinds, losses = set(), []
    for step, lr in enumerate(rates):
        gen = generator(11, step)
        x = torch.randint(0, 256, (4, 3, 32, 48), generator=gen, dtype=torch.uint8)
        labels = torch.randint(0, 5, (4,), generator=gen)
        E.train(training, [([x], labels)], tmp_path)
        target = torch.full((4, 5), .1 / 5)
        target[range(4), labels] += .9
        x, target, kind = plain_mix((x / 255 - MEAN) / SD, target, np.random.default_rng([3, 3, step]))
        kinds.add(kind)
        torch.manual_seed(generator(3, 4, step, 0).initial_seed())
        loss = -(target * plain_vit(w, x, 2, [0, .2, .4]).log_softmax(1)).sum(1).mean()
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, list(w.values()))
        for (name, p), gradient, ours in zip(w.items(), gradients, training.student.parameters()):
            torch.testing.assert_close(ours.grad, gradient, atol=2e-6, rtol=1e-4)
            m[name] = .9 * m[name] + .1 * ours.grad  # AdamW; a sign of rounding errors would be anyone's
            v[name] = .999 * v[name] + .001 * ours.grad**2
            decay = .05 if name.endswith("weight") and "norm" not in name else 0.
            moved = m[name] / (1 - .9**(step + 1)) / ((v[name] / (1 - .999**(step + 1))).sqrt() + 1e-8)
            p.data = p.data * (1 - lr * decay) - lr * moved
            torch.testing.assert_close(ours.data, p.data, atol=2e-7, rtol=2e-5)
    assert kinds == {"mixup", "cutmix"}
    ours = [2 * row["loss"] for row in training.log]
    assert ours == pytest.approx([sum(losses[:2]), sum(losses[2:])], rel=1e-5)


def test_the_teacher_is_kept_and_drops_no_path(tiny, tmp_path):
    training = dino_training(drop_path=.5)
    views = [torch.randn(4, 3, 32, 32, generator=generator(k, 1)) for k in range(2)]
    assert torch.equal(training.teacher(views), training.teacher(views))
    assert not torch.equal(training.net(views), training.net(views))
    for _ in range(2):
        dino_step(training, tmp_path)  # the first at a learning rate of 0
    kept, taught = load_checkpoint(tmp_path / "model.pth"), training.teacher.backbone.state_dict()
    assert kept.keys() == taught.keys() and all(torch.equal(kept[key], taught[key].half()) for key in kept)
    assert any(not torch.equal(taught[key], v) for key, v in training.student.backbone.state_dict().items())


def test_a_dino_step_is_the_loss_written_out_and_what_follows_it(tiny, tmp_path):
    training = dino_training(clip_grad=.02, freeze_last_layer=0, epochs=4, warmup_epochs=0, lr=3.)
    training.teacher.centre = torch.linspace(-.1, .2, 40)
    teacher, student = copy.deepcopy(training.teacher), copy.deepcopy(training.student)
    gen = generator(7, 0)
    sizes = (64, 64, 32, 32)
    views = [torch.randint(0, 256, (4, 3, s, s), generator=gen, dtype=torch.uint8) for s in sizes]
    dino_step(training, tmp_path)

    def outputs(net: E.Dino, view: torch.Tensor) -> torch.Tensor:
        x = F.normalize(net.mlp(net.backbone((view / 255 - MEAN) / SD)), dim=1)
        return x @ F.normalize(net.prototypes, dim=1).T  # (4, 40)

    with torch.no_grad():
        taught = [outputs(teacher, view) for view in views[:2]]
    losses = []
    for i in range(2):
        for j in range(4):
            if i != j:
                p = ((taught[i] - teacher.centre) / .04).softmax(1)
                losses.append(-(p * (outputs(student, views[j]) / .1).log_softmax(1)).sum(1).mean())
    loss = sum(losses) / 6
    torch.testing.assert_close(training.loss, loss.detach(), atol=0, rtol=1e-5)
    for g, p in zip(torch.autograd.grad(loss, list(student.parameters())), training.student.parameters()):
        torch.testing.assert_close(p.grad, g * min(1, .02 / float(g.norm() + 1e-6)), atol=1e-6, rtol=1e-3)
    mean = torch.cat(taught).mean(0)
    torch.testing.assert_close(training.teacher.centre, .9 * torch.linspace(-.1, .2, 40) + .1 * mean)
    for t, before, s in zip(*(net.parameters() for net in (training.teacher, teacher, training.student))):
        torch.testing.assert_close(t, .996 * before + .004 * s)


@pytest.mark.parametrize("recipe, free", [(DINO, ()), (SUPERVISED, ("pos_embed", "cls_token"))])
def test_groups_of_the_optimiser_follow_the_schedule(recipe, free, tiny, tmp_path):
    more = "--batch-size 4 --epochs 3 --warmup-epochs 1 --lr .3".split()
    training = E.Training(E.parse([*recipe, "--data", "x", *more]), 3, 2, torch.device("cpu"))
    dino = recipe is DINO
    peak, low = .3 * 4 / (256 if dino else 512), 1e-6 if dino else 1e-5
    lr = [0, peak, peak, low + (peak - low) / 2 * (1 + math.cos(math.pi / 4))]  # six steps, two of warm-up
    wd = [.4 + (.04 - .4) / 2 * (1 + math.cos(math.pi * step / 6)) if dino else .05 for step in range(4)]
    for step in range(4):
        views = [torch.full((4, 3, s, s), 9 * step, dtype=torch.uint8) for s in (32, 32, 16, 16)]
        E.train(training, [(views, torch.arange(4) % 3)], tmp_path)
        decayed, others = training.optimiser.param_groups
        assert [group["lr"] for group in (decayed, others)] == pytest.approx([lr[step]] * 2, rel=1e-9)
        assert decayed["weight_decay"] == pytest.approx(wd[step], rel=1e-9) and others["weight_decay"] == 0
        assert (decayed["betas"], decayed["eps"]) == ((.9, .999), 1e-8)
    names = {id(p): name for name, p in training.student.named_parameters()}
    in_groups = [names.pop(id(p)) for group in (decayed, others) for p in group["params"]]
    assert not names and len(set(in_groups)) == len(in_groups)  # each once
    for name in in_groups[len(decayed["params"]):]:
        assert name.endswith("bias") or "norm" in name or name in free
    assert set(free) <= set(in_groups[len(decayed["params"]):])


DECIDES = {"RandomResizedCrop": ("size", "scale", "ratio"), "RandomErasing": ("p", "scale", "ratio", "value"),
           "ColorJitter": ("brightness", "contrast", "saturation", "hue"),
           "RandAugment": ("num_ops", "magnitude", "num_magnitude_bins"),
           "RandomSolarize": ("p", "threshold")}


def told(step) -> str:
    """A step of a view's transform and the numbers that decide it, as text."""
    if isinstance(step, T.RandomApply):
        return f"{step.p:g}: " + ", ".join(map(told, step.transforms))
    name = getattr(step, "__name__", type(step).__name__)
    numbers = [getattr(step, key) for key in DECIDES.get(name, ("p",)) if hasattr(step, key)]
    how = [step.interpolation.value] if hasattr(step, "interpolation") else []
    return " ".join([name, *(str(np.round(number, 4).tolist()) for number in numbers), *how])


def test_every_view_is_made_by_the_steps_of_the_official_recipes():
    def dino(size: int, scale: str, blur: str, solarise: str) -> list[str]:
        return [f"RandomResizedCrop [{size}, {size}] [{scale}] [0.75, 1.3333] bicubic",
                "RandomHorizontalFlip 0.5", "0.8: ColorJitter [0.6, 1.4] [0.6, 1.4] [0.8, 1.2] [-0.1, 0.1]",
                "RandomGrayscale 0.2", f"{blur}: pil_blur", f"RandomSolarize {solarise} 128", "PILToTensor"]
    # DataAugmentationDINO of main_dino.py; the probabilities of blur are 1, .1 and .5
    views = E.crops(E.parse("--data x".split()), 0)
    assert [list(map(told, view.transforms)) for view in views] == [
        dino(224, "0.4, 1.0", "1", "0.0"), dino(224, "0.4, 1.0", "0.1", "0.2"),
        *8 * [dino(96, "0.05, 0.4", "0.5", "0.0")]]
    # timm's create_transform with DeiT's arguments; RandAugment 9 of 10 is 27 of torchvision's 30
    view, = E.crops(E.parse("--data x --method supervised".split()), 0)
    augment = "0.5: RandAugment 1 27 31 bicubic"
    assert list(map(told, view.transforms)) == [
        "RandomResizedCrop [224, 224] [0.08, 1.0] [0.75, 1.3333] bicubic", "RandomHorizontalFlip 0.5",
        augment, augment, "PILToTensor", "RandomErasing 0.25 [0.02, 0.33] [0.3, 3.3] [124.0, 116.0, 104.0]"]


def test_blur_has_a_radius_of_a_tenth_to_two_pixels(monkeypatch):
    radii = []

    def remember(radius: float):
        radii.append(radius)
        return ImageFilter.BLUR
    monkeypatch.setattr(E.ImageFilter, "GaussianBlur", remember)
    for _ in range(300):
        E.pil_blur(Image.new("RGB", (8, 8)))
    assert .1 <= min(radii) < .15 and 1.95 < max(radii) <= 2
    assert np.mean(radii) == pytest.approx(1.05, abs=.1)


@pytest.mark.parametrize("drawn, kind, alpha", [(.499, "cutmix", 1.), (.5, "mixup", .8)])
def test_cutmix_and_mixup_share_the_batches_evenly(drawn, kind, alpha):
    alphas, images = [], torch.arange(2.)[:, None, None, None].expand(2, 3, 8, 12)

    def beta(a: float, b: float) -> float:
        alphas.extend([a, b])
        return .75
    rng = SimpleNamespace(random=lambda: drawn, beta=beta, integers={8: 1, 12: 6}.get)
    x, target = E.mix(images, torch.eye(2), .8, 1., rng)
    assert alphas == [alpha, alpha]
    if kind == "mixup":
        assert x.unique().tolist() == [.25, .75] and target[0].tolist() == [.75, .25]
    else:  # half the sides, 4 x 6 px, around row 1 and column 6: cut to rows 0 to 2, columns 3 to 8
        assert x[0, 0, :3, 3:9].eq(1).all() and x[0, 0].sum() == 18
        assert target[0].tolist() == pytest.approx([1 - 18 / 96, 18 / 96])


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
    args.seed = 1
    c = E.Training(args, 12, 1, torch.device("cpu")).student.state_dict()
    assert all(not torch.equal(a[key], c[key]) for key in a if a[key].ndim > 1)


@pytest.mark.parametrize("recipe", [DINO, SUPERVISED], ids=["dino", "supervised"])
def test_killed_and_resumed_training_equals_uninterrupted_bit_for_bit(tiny, recipe, pictures, tmp_path):
    recipe = [*recipe, "--drop-path", ".3"]
    out, last = tmp_path / "b", Path("unfinished/last.pt")
    child = fork(train, pictures, out, *recipe, "--save-minutes", "0")
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
    path, label = samples[5]
    with torch.random.fork_rng():
        torch.manual_seed(generator(3, 1, 1, 5).initial_seed())
        expected = [view(Image.open(path)) for view in E.crops(views.recipe, 1)]
    assert a[1] == label and all(torch.equal(x, y) for x, y in zip(a[0], expected))
    assert torch.equal(torch.get_rng_state(), before)
    assert [v.shape[-1] for v in a[0]] == [32, 32, 16, 16]
    assert all(torch.equal(x, y) for x, y in zip(a[0], b[0]))
    other = E.Views(samples, E.parse([*DINO, "--data", "x", "--seed", "4"]))
    for different in (views[0, 5][0][0], other[1, 5][0][0], a[0][1]):
        assert not torch.equal(different, a[0][0])


def test_the_seed_of_a_command_orders_its_images_and_draws_its_views(tiny, pictures, tmp_path, monkeypatch):
    given = []

    def remember(training, batches, folder):
        given.append((list(batches.batch_sampler), batches.dataset.recipe.seed, training.recipe.seed))
        raise KeyboardInterrupt
    monkeypatch.setattr(E, "train", remember)
    for seed in ("3", "4"):
        with pytest.raises(KeyboardInterrupt):
            train(pictures, tmp_path / seed, *DINO, "--seed", seed)
    assert [seeds for _, *seeds in given] == [[3, 3], [4, 4]]
    (three, *_), (four, *_) = given
    assert three != four and [len(batch) for batch in three] == 6 * [8]
    for epoch in (0, 1):
        of_epoch = sum(three[3 * epoch:3 * epoch + 3], [])
        assert sorted(of_epoch) == [(epoch, i) for i in range(24)] != of_epoch
    assert [i for _, i in sum(three[:3], [])] != [i for _, i in sum(three[3:], [])]


def test_limit_takes_a_random_part_in_the_old_order(pictures):
    whole, whole_val, _ = E.load_data(str(pictures), None, 0)
    train, val, classes = E.load_data(str(pictures), 8, 0)
    assert len(train) == 8 and val == whole_val and len(classes) == 2
    assert train == [sample for sample in whole if sample in train] != whole[:8]
    assert train == E.load_data(str(pictures), 8, 0)[0]


def test_crops_grow_in_the_last_epochs_of_a_recipe_that_says_so():
    args = E.parse("--method supervised".split())  # the demo's: 160 px in the last of 4 epochs
    image = Image.new("RGB", (224, 224))
    assert [E.crops(args, epoch)[0](image).shape[-1] for epoch in range(4)] == [112, 112, 112, 160]
    args = E.parse([])  # DINO's small crops of 48 px grow with the large ones
    vars(args).update(final_size=224, final_epochs=1)
    assert [[view(image).shape[-1] for view in E.crops(args, epoch)] for epoch in (2, 3)] == [
        2 * [112] + 4 * [48], 2 * [224] + 4 * [96]]


def test_a_checkpoint_is_kept_every_save_minutes(tiny, tmp_path, monkeypatch):
    training, clock, saved = dino_training(), iter(range(0, 9000, 50)), []
    training.per_epoch, training.total, training.stop = 100, 200, 200
    training.recipe.save_minutes = 2.
    training.save = lambda folder: saved.append(training.step)
    monkeypatch.setattr(E.time, "time", lambda: next(clock))
    views = [torch.zeros(4, 3, s, s, dtype=torch.uint8) for s in (32, 32, 16, 16)]
    E.train(training, [(views, torch.zeros(4, dtype=torch.long))] * 7, tmp_path)
    assert saved == [3, 6]  # 50 s a step: at 150 s, and 150 s after it


def test_what_is_scored_is_the_given_file_else_the_training_else_the_shipped_model(tmp_path, capsys):
    args = E.parse("--method dino --depth 12".split())
    _, head, files = E.load_model(args, 12, tmp_path)
    assert files["model"].name == "demo_dino12.pth" and head["weight"].shape == (12, 384)
    assert "scoring checkpoints/demo_dino12.pth" in capsys.readouterr().out
    shutil.copy(files["model"], tmp_path / "model.pth")
    assert E.load_model(args, 12, tmp_path)[1:] == ({}, {"model": tmp_path / "model.pth"})
    shutil.copy(files["head"], tmp_path / "linear_head.pth")
    assert E.load_model(args, 12, tmp_path)[2]["head"] == tmp_path / "linear_head.pth"
    args.weights = shutil.copy(files["model"], tmp_path / "other.pth")
    assert E.load_model(args, 12, tmp_path)[1:] == ({}, {"model": args.weights})  # not another model's head
    assert not capsys.readouterr().out


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


def test_files_of_an_ending_that_nothing_reads_are_named_of_both_splits(tiny, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "data")
    for name in ("train/n01/phone.heic", "val/n02/b.raw"):
        (tmp_path / "data" / name).write_bytes(b"1")
    out = train(tmp_path / "data", tmp_path / "run", *SUPERVISED)
    left_out = json.loads((out / "results.json").read_text())["left_out"]
    assert left_out == {"of an ending that nothing reads": ["n01/phone.heic", "n02/b.raw"]}


@pytest.mark.parametrize("method", [DINO, SUPERVISED])
@pytest.mark.parametrize("device", ["mps"])  # which is cuda and more: no float64
def test_the_training_is_computed_on_one_device(tiny, pictures, tmp_path, device, method):
    with one_device(device):
        train(pictures, tmp_path, *method, "--device", device, "--train-head")


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


def test_resume_of_a_finished_training_draws_again(pictures, finished, tmp_path, monkeypatch):
    shrink(monkeypatch)
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
    samples[3] = (tmp_path / "broken.png", 1)
    views = E.Views(samples, E.parse([*SUPERVISED, "--data", "x"]))
    assert torch.equal(views[0, 3][0][0], views[0, 4][0][0]) and views[0, 3][1] == views[0, 4][1] == 0


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
    for others, winner in ((16, 0), (18, 1)):  # with a temperature of .0692 to .0721 alone
        cosines = torch.tensor([[1.] + [.8] * others])
        assert V.vote(cosines, torch.tensor([[0] + [1] * others]), 2).tolist() == [winner]


def plain_features(net: E.VisionTransformer, paths: list[Path], flip: bool = False) -> torch.Tensor:
    """CLS of the last four of five blocks, after the final norm, oldest first; short side 256, centre 224."""
    found = []
    for path in paths:
        image = Image.open(path).resize((320, 256), Image.BICUBIC).crop((48, 16, 272, 240))
        x = (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - MEAN) / SD
        x = net.embed(x.flip(2)[None] if flip else x[None])
        x = torch.cat([net.cls_token + net.pos_embed[:, :1], x], 1)
        cls = []
        for block in net.blocks:
            x, _ = block(x)
            cls.append(net.norm(x)[0, 0])
        found.append(torch.cat(cls[-4:]))
    return torch.stack(found)


@torch.no_grad()
def test_scores_are_those_of_their_definitions(tmp_path, monkeypatch):
    args = E.parse([*SUPERVISED, "--data", "x", "--depth", "5", "--train-head"])
    args.heads = 2
    net = E.build(args, 3, generator(8)).eval()
    for p in net.parameters():
        p += .3 * torch.randn(p.shape, generator=generator(p.numel(), 1))
    rng, broken, samples = np.random.default_rng(12), tmp_path / "n01" / "broken.png", []
    broken.parent.mkdir()
    broken.write_bytes(b"no image")
    for i in range(54):  # each of its own colours
        image = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize((40, 32), Image.BICUBIC)
        image.save(tmp_path / "n01" / f"{i:02d}.png")
        samples.append((tmp_path / "n01" / f"{i:02d}.png", int(rng.integers(3))))
    train_set, val_set = samples[:34], samples[34:]
    vote, voters = V.vote, []
    monkeypatch.setattr(V, "vote", lambda cosines, *more: voters.append(cosines) or vote(cosines, *more))
    found, names, bad = V.score(net, [(broken, 2), *train_set], val_set, 3, args, torch.device("cpu"),
                                tmp_path, {})
    assert names == [f"{path.parent.name}/{path.name}" for path, _ in val_set] and bad == ["n01/broken.png"]

    x, z, mirrored = (plain_features(net, [path for path, _ in samples], flip)
                      for samples, flip in ((val_set, False), (train_set, False), (train_set, True)))
    y, bank_y = (torch.tensor([label for _, label in samples]) for samples in (val_set, train_set))
    knn, nearest = [], []
    for image, known in zip(x[:, -24:], voters[0]):
        cosine = F.cosine_similarity(image[None], z[:, -24:])
        best = cosine.argsort(descending=True)[:20]
        torch.testing.assert_close(known, cosine[best], atol=1e-4, rtol=1e-4)
        votes = [float((cosine[best] / .07).exp()[bank_y[best] == k].sum()) for k in range(3)]
        knn.append(int(np.argmax(votes)))
        nearest.append(int(bank_y[best[0]]))
    assert knn != nearest
    assert found["knn"].tolist() == (torch.tensor(knn) == y).tolist()
    assert found["top1"].tolist() == (net.head(x[:, -24:]).argmax(1) == y).tolist()
    with torch.enable_grad():
        weight, bias = fit_linear(torch.cat([z, mirrored]), bank_y.repeat(2), 3)
    assert found["linear"].tolist() == ((x @ weight.T + bias).argmax(1) == y).tolist()
    head = load_checkpoint(tmp_path / "linear_head.pth")
    torch.testing.assert_close(head["weight"], weight, atol=1e-3, rtol=1e-2)

    shown = V.examples(net, val_set, names, args, torch.device("cpu"))
    x = shown["images"].permute(0, 3, 1, 2)  # six of the 20, evenly
    for image, i in zip(x, (0, 3, 6, 10, 13, 16)):
        path, _ = val_set[i]
        whole = Image.open(path).resize((320, 256), Image.BICUBIC).crop((48, 16, 272, 240))
        assert np.array_equal(image.permute(1, 2, 0), np.array(whole))
    attention = cls_attention(net, (x / 255 - MEAN) / SD)[:, -1]
    torch.testing.assert_close(shown["maps"], attention, atol=1e-6, rtol=1e-4)


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


@torch.no_grad()
def test_lift_is_the_attention_on_the_main_object_beyond_its_area(tmp_path):
    """On demo pictures, one of them unreadable, of a network of two blocks with sharp attention."""
    demo.write_imagenet(tmp_path, "val", 8, 9)
    samples = [(path, i % 3) for i, path in enumerate(sorted((tmp_path / "val").glob("*/*.JPEG")))]
    samples[2][0].write_bytes(b"no image")
    args = E.parse("--method dino --depth 2 --no-train-head --device cpu --workers 0".split())
    net = E.build(args, 3, generator(8)).eval()
    for block in net.blocks:
        block.attn.qkv.weight.mul_(20)
    found, names, _ = V.score(net, samples[:2], samples, 3, args, torch.device("cpu"), tmp_path, {})
    expected, read = [], [path for path, _ in samples if path != samples[2][0]]
    for path in read:
        ids = demo.render_scene(9, int(path.stem.split("_")[-1])).ids
        share = (ids == 1).reshape(14, 16, 14, 16).mean((1, 3))  # of each patch
        x = (torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255 - MEAN) / SD
        lifts = []
        for head in cls_attention(net, x[None])[0, -1].double().numpy():
            lifts.append((head * share).sum() / head.sum() - share.mean())
        expected.append(np.mean(lifts))
    assert names == [f"{path.parent.name}/{path.name}" for path in read] and set(found) == {"knn", "lift"}
    assert found["lift"] == pytest.approx(expected, abs=1e-5) and np.ptp(expected) > .01


def test_figure_shows_images_the_mean_of_the_heads_and_every_head(tmp_path, monkeypatch):
    figures, rng = [], np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 224, 224, 3), dtype=np.uint8)
    arrays = dict(images=images, maps=rng.random((6, 2, 14, 14)))
    monkeypatch.setattr(V, "save_figure", lambda fig, path: figures.append(fig))
    V.draw(arrays, {}, tmp_path)
    axes = np.array(figures[0].axes).reshape(6, 4)
    assert [ax.get_title() for ax in axes[0]] == ["held-out image", "mean of heads", "head 0", "head 1"]
    for row, image, (one, two) in zip(axes, arrays["images"], arrays["maps"]):
        shown = [ax.images[0].get_array() for ax in row]
        for found, expected in zip(shown, (image, np.sqrt((one + two) / 2), np.sqrt(one), np.sqrt(two))):
            assert np.allclose(found, expected)


@pytest.mark.parametrize("argv, least", [
    ("--method supervised --depth 4 --no-train-head", dict(top1=.8)),
    ("--method supervised --arch resnet --no-train-head", dict(top1=.8)),
    ("--method dino", dict(linear=.8, lift=.2))])
def test_shipped_models_know_the_demo_scenes(tmp_path, capsys, argv, least):
    E.main([*argv.split(), "--eval", "--limit", "24", "--workers", "0", "--device", "cpu", "--out", str(tmp_path)])
    rows, said = read_csv(tmp_path / "eval" / "per_image.csv"), capsys.readouterr().out
    assert len(rows) == 24 and "scoring checkpoints/demo_" in said and "not the paper's data" in said
    for score, share in least.items():  # chance: 1 of 12; attention that is even has no lift
        assert np.mean([r[score] for r in rows]) > share
    assert {"per_image.csv", "results.json", "arrays.npz"} <= {p.name for p in (tmp_path / "eval").iterdir()}
