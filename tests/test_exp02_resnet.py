"""exp02: Grad-CAM is the field's and differentiable twice, batch norm is as stated, effects are found."""
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet50
from torchvision.models.resnet import Bottleneck, ResNet

import demo
import exp02_resnet as E
from by_formula import assert_same, bars, interval, log_jzs, mcnemar, mean_and_sem, paired
from common import InputError, cc, generator, minmax, upsample
from data import read_csv
from exp01_claims import NAMES
from exp01_finetune_vit import attention_kl, gaze_images, human_maps, save_files, squashed, tunable
from exp01_finetune_vit import tuned_models
from gaze import load_gaze
from pretended import one_device
from processes import in_group
from results import evaluate, load_checkpoint
from weights import Preprocess, load_resnet, load_tuned

torch.set_num_threads(1)
SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def small_resnet(width: int = 8, seed: int = 4) -> ResNet:
    """One narrow block a stage, 5 classes, batch norms that are no identity."""
    net, g = ResNet(Bottleneck, [1, 1, 1, 1], 5, width_per_group=width), generator(seed)
    for name, p in net.named_parameters():
        if p.ndim > 1:
            torch.nn.init.kaiming_normal_(p, generator=g)
        else:
            torch.nn.init.normal_(p, float(name.endswith("weight")), .1, generator=g)
    for name, b in net.named_buffers():
        if name.endswith("mean"):
            torch.nn.init.normal_(b, 0., .1, generator=g)
        if name.endswith("var"):
            torch.nn.init.uniform_(b, .5, 1.5, generator=g)
    return net.eval()


# ------------------------------------------------------------------------------------------------ Grad-CAM

# torchcam 0.5.0 (maps of layer4 in [0, 1]) and grad-cam 1.5.7 (maps of layer4 and layer3 at 64x96 px, every
# 21st row and 31st column) on small_resnet() and randn(2, 3, 64, 96, generator=generator(5))
TORCHCAM = {
    None: ((0, .931148, .294834, 1, .809674, .496507), (.175895, .637223, 1, .73946, 0, .310348)),
    (1, 4): ((1, .813462, .736357, 0, 0, 0), (.407354, 0, 0, .407401, 1, .331678))}
GRAD_CAM = {
    ("layer4", None): (
        (0, .451026, .642819, .294834, .171875, .529536, .647108, .329496,
         .828125, .829301, .663482, .461843, 1, .907811, .66777, .496506),
        (.171878, .396423, .800639, 1, .269213, .393303, .686479, .880888,
         .640855, .381389, .250597, .426097, .73819, .378269, .136438, .306985)),
    ("layer4", (1, 4)): (
        (1, .909646, .778524, .736356, .828125, .7533, .644715, .609795,
         .171875, .156345, .133809, .126561, 0, 0, 0, 0),
        (.411162, .212005, 0, 0, .41117, .29604, .120945, .05754,
         .411201, .616897, .582737, .277238, .411209, .700932, .703682, .334778)),
    ("layer3", None): (
        (0, .288032, .345686, .269323, .12255, .529152, .212508, .06212,
         .381186, .410759, .399982, .430863, .493169, .189012, .132223, .127855),
        (0, .490809, .341418, .07859, .338404, .277001, .053346, .01228,
         .492934, .338656, .185408, .143371, .27341, 0, .40733, .917574)),
    ("layer3", (1, 4)): (
        (0, .760432, .012614, 0, .858082, .118817, .001971, .098062, .399444, 0, 0, 0, 0, 0, 0, 0),
        (.234307, .178763, .052998, .310322, .425966, .686454, .684822, .873523,
         .20272, .74695, .455648, .525116, .363416, .835922, .580311, 0))}


@pytest.mark.parametrize("target", TORCHCAM, ids=str)
def test_grad_cam_equals_torchcam(target):
    x = torch.randn(2, 3, 64, 96, generator=generator(5))
    cam = minmax(E.grad_cam(small_resnet(), x, target and torch.tensor(target)))
    assert cam.shape == (2, 2, 3)
    torch.testing.assert_close(cam.flatten(1), torch.tensor(TORCHCAM[target]).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("target", [-1, 5000, [0, 5000], np.array([-3, 0])])
def test_a_class_that_the_model_does_not_have_is_told(target):
    with pytest.raises(InputError, match=r"class .*: this model has classes 0 to \d+"):
        E.grad_cam(small_resnet(), torch.randn(2, 3, 64, 96), target)


@pytest.mark.parametrize("layer, target", GRAD_CAM, ids=str)
def test_grad_cam_equals_package_grad_cam_after_its_second_min_max(layer, target):
    x = torch.randn(2, 3, 64, 96, generator=generator(5))
    cam = minmax(upsample(E.grad_cam(small_resnet(), x, target and torch.tensor(target), layer), (64, 96)))
    stored = torch.tensor(GRAD_CAM[layer, target]).float()
    torch.testing.assert_close(cam[:, ::21, ::31].flatten(1), stored, atol=1e-5, rtol=0)
    if (layer, target) == ("layer4", None):  # what is tuned and measured
        net = small_resnet()
        features, maps = E.GradCamResNet(net, (64, 96))(x)
        torch.testing.assert_close(maps, cam, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(net.fc(features), net(x), atol=1e-5, rtol=1e-4)


def test_grad_cam_works_in_inference_mode_under_autocast_and_for_one_class():
    model, x = load_resnet("demo_resnet")[0], torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain = E.grad_cam(model, x, torch.tensor([3, 3]))
    assert torch.equal(E.grad_cam(model, x, 3), plain) and torch.equal(E.grad_cam(model, x.numpy(), [3, 3]), plain)
    with torch.inference_mode():
        assert torch.equal(E.grad_cam(model, x, 3), plain)
        assert torch.equal(E.grad_cam(model, x * 1, 3), plain)  # a tensor made in inference mode
    with torch.autocast("cpu", torch.bfloat16):
        low = E.grad_cam(model, x, 3).float()
    assert torch.corrcoef(torch.stack([low.flatten(), plain.flatten()]))[0, 1] > .98


def test_grad_cam_of_layer4_is_the_predicted_class_own_weighted_sum_of_maps():
    net, x, maps = small_resnet(), torch.randn(3, 3, 96, 64, generator=generator(6)), []
    handle = net.layer4.register_forward_hook(lambda *a: maps.append(a[-1].detach()))
    with torch.no_grad():
        target = net(x).argmax(1)
        cam = E.grad_cam(net, x)
    handle.remove()
    weighted = torch.einsum("bk,bkhw->bhw", net.fc.weight[target], maps[0]).detach()
    torch.testing.assert_close(cam, torch.relu(weighted) / 6, atol=1e-5, rtol=1e-5)  # 3 x 2 places
    assert not cam.requires_grad and all(p.grad is None for p in net.parameters())


def test_map_of_an_image_does_not_depend_on_its_batch_and_a_map_without_positive_values_is_zero():
    net, x = small_resnet(), torch.randn(3, 3, 64, 64, generator=generator(7))
    torch.testing.assert_close(E.grad_cam(net, x)[1:2], E.grad_cam(net, x[1:2]), atol=1e-5, rtol=1e-4)
    net.fc.weight.data.fill_(-1.)
    wrapped = E.GradCamResNet(net, size=(64, 64)).eval()
    with torch.no_grad():
        features, maps = wrapped(x)
    assert maps.abs().max() == 0 and torch.isfinite(attention_kl(maps, torch.rand(3, 64, 64))).all()
    torch.testing.assert_close(net.fc(features), net(x), atol=1e-5, rtol=1e-5)


class CamLoss(torch.nn.Module):
    """Attention loss through the Grad-CAM of layer3: its weights of maps depend on layer4's parameters."""

    def __init__(self, net: ResNet, create_graph: bool = True):
        super().__init__()
        self.net, self.create_graph = net, create_graph

    def forward(self, x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        if self.create_graph:
            cam = E.grad_cam(self.net, x, torch.tensor([1, 3]), "layer3", create_graph=True)
        else:  # first order alone: the weights of the maps are taken for constants
            maps = torch.nn.Sequential(*list(self.net.children())[:7])(x)
            score = self.net.fc(self.net.layer4(maps).mean((2, 3)))[[0, 1], [1, 3]].sum()
            weights, = torch.autograd.grad(score, maps, retain_graph=True)
            cam = torch.relu(torch.einsum("bk,bkhw->bhw", weights.mean((2, 3)), maps))
        return attention_kl(minmax(upsample(cam, (32, 48))), q).sum()


def slopes(loss, net: torch.nn.Module, names: list[str]) -> list[tuple[float, float]]:
    """(gradient times direction, central difference along it) of three random directions in these weights."""
    weights, out = {k: v.detach() for k, v in net.named_parameters() if k in names}, []
    for i in range(3):
        gen = generator(10, i)
        step = {k: torch.randn(v.shape, generator=gen, dtype=v.dtype) for k, v in weights.items()}
        leaves = {k: v.clone().requires_grad_() for k, v in weights.items()}
        gradient = torch.autograd.grad(loss(leaves), leaves.values(), allow_unused=True)
        up, down = (loss({k: v + h * step[k] for k, v in weights.items()}) for h in (1e-6, -1e-6))
        out.append((sum(float((g * step[k]).sum()) for k, g in zip(leaves, gradient) if g is not None),
                    float((up - down).detach()) / 2e-6))
    return out


def test_second_derivative_of_grad_cam_equals_finite_differences():
    x = torch.randn(2, 3, 64, 96, generator=generator(8)).double()
    q = torch.rand(2, 32, 48, generator=generator(9)).double()
    names = [f"net.{k}" for k in ("layer4.0.conv2.weight", "layer4.0.bn1.weight", "layer3.0.bn2.bias")]
    for part in (names, names[:1]):
        for create_graph in (True, False):
            module = CamLoss(small_resnet(4).double(), create_graph)
            for m in module.modules():  # with ReLU the gradient jumps where a unit crosses 0
                if hasattr(m, "relu"):
                    m.relu = torch.nn.SiLU()
            found = slopes(lambda w: torch.func.functional_call(module, w, (x, q)), module, part)
            gaps = [abs(a - b) for a, b in found]
            assert max(abs(b) for _, b in found) > .1
            assert (max(gaps) < 1e-5) == create_graph, gaps  # first order alone is another gradient


def test_loss_of_the_training_has_the_right_gradient():
    cam = E.GradCamResNet(small_resnet(4).double(), size=(32, 32))
    x = torch.randn(2, 3, 96, 96, generator=generator(2)).double()
    q = torch.rand(2, 32, 32, generator=generator(3)).double()

    def loss(weights: dict) -> torch.Tensor:
        features, maps = torch.func.functional_call(cam, weights, x)
        return attention_kl(maps, q).sum() + features.square().mean()
    for a, b in slopes(loss, cam, [k for k, _ in cam.named_parameters() if "layer4" in k]):
        assert a == pytest.approx(b, abs=1e-5, rel=1e-5) and abs(b) > .01


def test_layer4_of_resnet50_is_tuned_and_the_paper_is_the_default():
    with torch.device("meta"):
        net = resnet50()
    tunable(net, E.layer4_state)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert (trained, sum(p.numel() for p in net.parameters())) == (14_964_736, 25_557_032)  # 58.6 %
    args = E.parse("--salicon SALICON --coco COCO --imagenet IMAGENET".split())
    assert (args.lr, args.lam, args.batch_size, args.epochs, args.eval_every) == (5e-6, .01, 8, 20, 200)
    assert (args.patience, args.min_delta, args.model, args.data) == (3, 1e-3, "resnet50", None)
    assert args.weight_decay == .01
    args = E.parse([])
    assert (args.lr, args.lam, args.batch_size, args.epochs, args.eval_every) == (5e-6, .01, 8, 3, 27)
    assert (args.patience, args.min_delta, args.model, args.data) == (3, 1e-3, "demo_resnet", "demo")


def test_loader_reads_depth_and_width_from_the_file_and_refuses_others(tmp_path):
    net = small_resnet()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    again, pre = load_resnet("resnet50", tmp_path / "net.pth")
    x = torch.randn(1, 3, 64, 64, generator=generator(1))
    assert torch.equal(again(x), net(x)) and pre.resize == 232
    torch.save({k: v for k, v in net.state_dict().items() if "layer4.0.bn1" not in k}, tmp_path / "part.pth")
    with pytest.raises(InputError, match="bn1"):
        load_resnet("resnet50", tmp_path / "part.pth")
    with pytest.raises(InputError, match="expected resnet50 or demo_resnet"):
        load_resnet("resnet18")


# ------------------------------------------------------------------------------------------------ training

PRE = Preprocess(None, 96, (.5,) * 3, (.5,) * 3, "bilinear", squash=True)


def tuned(blobs: list, out: Path, **more) -> tuple[dict, ResNet]:
    recipe = E.PAPER | dict(lr=3e-4, epochs=5, eval_every=4, lam=100., batch_size=8, seed=0) | more
    models, records, _ = tuned_models("B", small_resnet(), E.GradCamResNet, E.layer4_state, blobs, PRE, recipe,
                                      out, 0)
    return records["B"], models["B"]


def held_out_cc(net: ResNet, blobs: list) -> float:
    items = [gaze_images(blobs, PRE)[i] for i in range(len(blobs))]
    with torch.no_grad():
        _, maps = E.GradCamResNet(net)(torch.stack([item["image"] for item in items]))
    return float(cc(maps, human_maps(torch.stack([item["fixations"] for item in items]))).mean())


def test_tuning_finds_planted_fixations_and_fixations_of_other_images_are_not_found(blobs, tmp_path):
    quick = dict(lr=1e-3, epochs=2)
    others = [a._replace(observers=b.observers) for a, b in zip(blobs, blobs[17:40] + blobs[:17])]
    _, b = tuned(blobs[:40], tmp_path / "b", **quick)
    _, c = tuned(others, tmp_path / "c", **quick)
    a_cc, b_cc, c_cc = (held_out_cc(v, blobs[40:]) for v in (small_resnet(), b, c))
    assert b_cc > a_cc + .1 and b_cc > c_cc + .1, (a_cc, b_cc, c_cc)


def test_only_layer4_moves_no_statistics_do_and_the_file_restores_the_model(blobs, tmp_path):
    record, net = tuned(blobs[:20], tmp_path, epochs=2, eval_every=1, patience=9)
    start, now = small_resnet().state_dict(), net.state_dict()
    learnt = {k for k, _ in net.named_parameters() if k.startswith("layer4.")}
    last = load_checkpoint(tmp_path / "tuned_B.pt")["now"]  # of the last step, whichever is the best
    assert {k.removeprefix("resnet.") for k in last} == learnt
    assert all(not torch.equal(v, start[k.removeprefix("resnet.")]) for k, v in last.items())
    assert all(torch.equal(now[k], start[k]) for k in now if k not in learnt)
    save_files({"B": record}, {}, tmp_path)
    again = load_tuned(small_resnet(), tmp_path / "tuned_B.pth", E.layer4_state)
    x = torch.randn(2, 3, 64, 64, generator=generator(1))
    assert torch.equal(again(x), net(x)) and record["step"] == 4
    with pytest.raises(InputError, match="tuned weights"):
        load_tuned(small_resnet(16), tmp_path / "tuned_B.pth", E.layer4_state)


def test_two_processes_train_the_same_model(blobs, tmp_path):
    record, _ = tuned(blobs[:24], tmp_path / "one", epochs=1, eval_every=1)
    (tmp_path / "two").mkdir()
    in_group(2, two_train, blobs[:24], tmp_path / "two")
    log = load_checkpoint(tmp_path / "two" / "tuned_B.pt")["log"]
    assert [r["val_loss"] for r in log] == pytest.approx([r["val_loss"] for r in record["log"]], rel=1e-3)


def two_train(blobs: list, out: Path) -> None:
    tuned(blobs, out, epochs=1, eval_every=1)


# ------------------------------------------------------------------------------------------------ the table

CLAIMS_OF_THE_PAPER = {  # what CNN Replication and the Discussion say: {row: the paper's number}
    "CC .39 -> .11": {"CC, A": .39, "CC, B": .11},
    "NSS .49 -> .13, of either convention": {"NSS, A": .49, "NSS, B": .13, "NSS of every fixation, A": .49,
                                             "NSS of every fixation, B": .13},
    "AUC .74 -> .58": {"AUC, A": .74, "AUC, B": .58},
    "KL .90 -> 1.86, of either convention": {"KL, A": .9, "KL, B": 1.86, "KL with eps 1e-10, A": .9,
                                             "KL with eps 1e-10, B": 1.86},
    "SIM .59 -> .45": {"SIM, A": .59, "SIM, B": .45},
    "all five decline, p < .001": {f"{name}, B - A": f"{sign} 0, p < .001" for name, sign in (
        ("CC", "<"), ("NSS", "<"), ("AUC", "<"), ("KL", ">"), ("SIM", "<"))},
    "better on about 15 % of the images": {"images with a gain in CC": "about 15"},
    "better in a single category": {"COCO categories with a gain in CC": "1 of 80"},
    "ImageNet 80.3 -> 68.7 %": {"ImageNet top-1, A": 80.3, "ImageNet top-1, B": 68.7},
    "a fall of 11.6 points": {"ImageNet, B - A": -11.6}}


def distinct() -> dict:
    """Arrays of `align` and of ImageNet in which no two metrics, models or images are alike: B's CC is above A's on
    some images and in one of four categories; 3 of A's maps and 5 of B's are blank, some correlations below 0."""
    rng = np.random.default_rng(9)
    arrays = {metric: rng.random((30, 2)) + [i, i + (-1)**i * (i + 1) / 5] for i, metric in enumerate(NAMES)}
    arrays["cc"] = rng.uniform(-.1, .6, (30, 2))
    arrays["cc"][[2, 8, 21], 0] = 0
    arrays["cc"][[1, 8, 9, 14, 29], 1] = 0
    right = rng.random((50, 1, 2)) < [.8, .5]
    return arrays | dict(models=np.array(list("AB")), image=np.arange(30), consistency=rng.uniform(.2, .8, 30),
                         category=np.array(list("wxyz")), benchmark_models=np.array(list("AB")),
                         category_cc=np.array([[.1, .3], [.5, .2], [.3, .1], [.7, .4]]), imagenet_correct=right)


def test_every_line_of_the_table_is_the_number_of_its_formula_beside_the_papers():
    arrays, expected = distinct(), []
    paper = {name: number for rows in CLAIMS_OF_THE_PAPER.values() for name, number in rows.items()}

    def line(name: str, ours, ci, n: int, unit: str = "") -> None:
        expected.append(dict(name=name, paper=paper.pop(name, None), ours=ours, ci=ci, n=n, unit=unit))
    names = dict(cc="CC", nss="NSS", nss_counts="NSS of every fixation", auc="AUC", kl="KL",
                 kl_loss_eps="KL with eps 1e-10", sim="SIM")
    for metric, name in names.items():
        for k, v in zip("AB", arrays[metric].T):
            line(f"{name}, {k}", v.mean(), interval(v), 30, "nats" if "KL" in name else "")
    a, b = arrays["cc"].T
    line("images with a gain in CC", 100 * (b > a).mean(), interval(100. * (b > a)), 30, "%")
    line("COCO categories with a gain in CC", "1 of 4", None, 4)
    for metric in ("cc", "nss", "auc", "kl", "sim"):
        d = paired(*arrays[metric].T[::-1])
        p = "p < .001" if d["p"] < .001 else f"p = {d['p']:.3f}"
        line(f"{names[metric]}, B - A", d["mean"], d["ci"], 30, f"t {d['t']:.1f}, d {d['dz']:.2f}, {p}")
    line("blank Grad-CAMs, A", 10., None, 30, "%")
    line("blank Grad-CAMs, B", 100 * 5 / 30, None, 30, "%")
    a, b = arrays["imagenet_correct"][:, 0].T.astype(float)
    for k, v in (("A", a), ("B", b)):
        line(f"ImageNet top-1, {k}", 100 * v.mean(), interval(100 * v, 2000), 50, "%")
    line("ImageNet, B - A", 100 * (b - a).mean(), tuple(100 * v for v in mcnemar(b, a)["ci"]), 50, "points")
    t = paired(b, a)["t"]
    line("BF01 ImageNet (unit information)", 50**.5 * (1 + t**2 / 49)**-25, None, 50)
    line("BF01 ImageNet (JZS, r = 1)", np.exp(log_jzs(t, 50, 1.)), None, 50)
    found = evaluate(E.claims(arrays), arrays)
    assert paper == {}  # every number of the paper has its row
    assert [row["name"] for row in found] == [row["name"] for row in expected]
    for row, other in zip(found, expected):
        row.pop("verdict")
        assert_same(row, other)


def test_figures_show_the_numbers_of_their_arrays(monkeypatch, tmp_path):
    arrays, kept = distinct(), {}
    monkeypatch.setattr(E.results, "save_figure", lambda fig, path: kept.update({path.name: fig.axes}))
    E.draw(arrays, {}, tmp_path)
    for ax, metric in zip(kept["fig_5B"], ("cc", "nss", "auc", "kl", "sim")):
        assert bars(ax) == pytest.approx(np.array([mean_and_sem(v) for v in arrays[metric].T])), metric
    right = 100. * arrays["imagenet_correct"][:, 0].T
    assert [text.get_text() for text in kept["fig_5B"][5].get_xticklabels()] == list("AB")
    assert bars(kept["fig_5B"][5]) == pytest.approx(np.array([(v.mean(), *interval(v, 2000)) for v in right]))
    for ax, key in zip(kept["fig_5C"], ("cc", "category_cc")):
        assert np.array_equal(ax.collections[-1].get_offsets(), arrays[key])  # A across, B up


def test_only_the_papers_network_is_given_the_papers_preprocessing(monkeypatch):
    own = Preprocess(36, 36, (0.,) * 3, (1.,) * 3)
    monkeypatch.setattr(E, "load_resnet", lambda name, weights: (small_resnet(), own))
    _, pre = E.load_model("resnet50", None, torch.device("cpu"))
    assert (pre.resize, pre.crop, pre.squash) == ((256, 256), 224, False)
    assert E.load_model("demo_resnet", None, torch.device("cpu"))[1] == own


# ------------------------------------------------------------------------------------------------ the script

@pytest.fixture(scope="module")
def world() -> Path:
    """14 + 24 gaze images, two pictures a class."""
    return demo.demo_world(parts=("imagenet", "salicon"))


ARGV = ("--model demo_resnet --workers 0 --device cpu --limit 8 --batch-size 3 --epochs 1 --eval-every 1 "
        "--lr 1e-5").split()


def run(world: Path, out: Path, *more: str) -> dict | None:
    E.main([*ARGV, "--data", str(world), "--out", str(out), *more])
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("run")
    return out, run(world, out)


@pytest.fixture
def no_figures(finished, monkeypatch) -> None:
    """Those of `finished` are enough."""
    monkeypatch.setattr(E, "draw", lambda *args: None)


@pytest.mark.parametrize("device", ["mps"])  # which is cuda and more: no float64
def test_the_study_is_computed_on_one_device(world, tmp_path, no_figures, device):
    with one_device(device):
        run(world, tmp_path, "--device", device)


def test_the_whole_study_leaves_tables_figures_weights_and_results(finished):
    out, results = finished
    assert len(read_csv(out / "per_image.csv")) == 8 * 4 and len(read_csv(out / "benchmarks.csv")) == 2 * 8
    assert {p.name for p in out.glob("fig*")} == {f"fig_{k}.{kind}" for k in ("5B", "5C") for kind in ("png", "pdf")}
    assert results["not_run"] == []
    assert "blank Grad-CAMs, B" in {row["name"] for row in results["headline"]}
    assert results["conventions"]["nss"] == "each fixated pixel once"


def test_what_a_run_is_asked_for_reaches_training_and_measures(world, tmp_path, monkeypatch):
    given = {}

    def tuned(names, net, wrap, tuned_state, images, transform, recipe, folder, workers):
        given.update(names=names, wrap=wrap, state=tuned_state, recipe=recipe, squash=transform)
        return {"B": small_resnet()}, {}, []

    def align(nets, images, transform, shown, folder, device, workers):
        assert transform == given["squash"]
        given.update(nets={k: net.resnet for k, net in nets.items()})
        return {}, []

    def measure(models, pre, pictures, folder, device, workers, bfloat16, seed):
        given.update(models=models, numbers=[p.number for p in pictures["imagenet"]], seed=seed, crop=pre)
        raise KeyboardInterrupt
    monkeypatch.setattr(E, "tuned_models", tuned)
    monkeypatch.setattr(E, "align", align)
    monkeypatch.setattr(E.benchmarks, "measure", measure)
    found = []
    for seed in ("5", "6"):
        with pytest.raises(KeyboardInterrupt):
            run(world, tmp_path / seed, "--seed", seed, "--lam", "7")
        found.append(dict(given))
    five, six = found
    assert (five["recipe"]["seed"], five["seed"], six["recipe"]["seed"], six["seed"]) == (5, 5, 6, 6)
    assert (five["recipe"]["lam"], five["names"], five["state"]) == (7, ["B"], E.layer4_state)
    assert five["wrap"] is E.GradCamResNet and five["numbers"] != six["numbers"]
    assert list(five["nets"]) == list(five["models"]) == list("AB")
    assert all(five["nets"][k] is model for k, model in five["models"].items())
    assert five["models"]["A"].fc.out_features == 12 and five["squash"] == squashed(five["crop"])


def test_a_killed_run_that_goes_on_gives_the_same_bytes(world, finished, tmp_path, no_figures, monkeypatch):
    """Killed after the untuned model's validation, after the first step, among the maps, before the last files."""
    replace, kills = os.replace, ["tuned_B.pt", "tuned_B.pt", "maps/00000.npz", "per_image.csv"]

    def replace_and_die(source, target) -> None:
        if kills and str(target).endswith(kills[0]):
            if kills.pop(0) == "tuned_B.pt":
                replace(source, target)
            raise KeyboardInterrupt
        replace(source, target)
    monkeypatch.setattr(os, "replace", replace_and_die)
    for resume in ([], ["--resume"], ["--resume"], ["--resume"]):
        with pytest.raises(KeyboardInterrupt):
            run(world, tmp_path, *resume)
    results = run(world, tmp_path, "--resume")
    assert results["headline"] == finished[1]["headline"]
    for name in ("per_image.csv", "benchmarks.csv", "tuned_B.pth", "tuned_B.csv"):
        assert (tmp_path / name).read_bytes() == (finished[0] / name).read_bytes(), name


@pytest.mark.parametrize("wrong, said", [
    (["--data", "nowhere"], "no such folder"), (["--limit", "6"], "other arguments"),
    (["--model-b", "none.pth"], "none.pth"), (["--batch-size", "400"], "--batch-size 400")], ids=str)
def test_a_finished_run_stays_whole_after_wrong_arguments(world, finished, wrong, said):
    before = {p.name: p.read_bytes() for p in finished[0].iterdir()}
    with pytest.raises(InputError, match=said):
        run(world, finished[0], *wrong)
    assert {p.name: p.read_bytes() for p in finished[0].iterdir()} == before


def test_plot_only_redraws_without_a_model(world, finished, monkeypatch, capsys):
    (finished[0] / "fig_5B.png").unlink()
    monkeypatch.setattr(E, "load_resnet", None)
    run(world, finished[0], "--plot-only")
    assert (finished[0] / "fig_5B.png").exists() and "paper" in capsys.readouterr().out


def without_training(world: Path, weights: Path, out: Path) -> None:
    run(world, out, "--model-b", str(weights / "tuned_B.pth"))


def test_two_processes_measure_what_one_does(world, finished, tmp_path, no_figures):
    in_group(2, without_training, world, finished[0], tmp_path)
    for name in ("per_image.csv", "benchmarks.csv"):
        a, b = (read_csv(folder / name) for folder in (finished[0], tmp_path))
        assert len(a) == len(b)
        for r, s in zip(a, b):
            assert r["image"] == s["image"]
            assert all(s[k] == pytest.approx(v, rel=1e-3) if isinstance(v, float) else s[k] == v
                       for k, v in r.items())


@pytest.mark.real
@pytest.mark.skipif(not (SHARED / "real" / "osie").exists(), reason="no OSIE at GAZE_SHARED")
def test_osie_runs_from_end_to_end_with_the_demo_network_and_a_random_resnet50(tmp_path):
    torch.save(small_resnet(64).state_dict(), tmp_path / "random.pth")
    for weights in ([], ["--model", "resnet50", "--weights", str(tmp_path / "random.pth")]):
        out = tmp_path / f"run{len(weights)}"
        E.main(["--salicon", str(SHARED / "real" / "osie"), "--model", "demo_resnet", *weights,
                "--out", str(out), "--limit", "12", "--epochs", "1", "--workers", "0", "--device", "cpu"])
        results = json.loads((out / "results.json").read_text())
        assert {h["n"] for h in results["headline"]} == {12} and (out / "fig_5C.png").exists()
        assert " ".join(results["not_run"]).count("give --") == 2
    assert load_gaze(SHARED / "real" / "osie", "val")[0][0].name in {r["image"] for r in
                                                                  read_csv(out / "per_image.csv")}
