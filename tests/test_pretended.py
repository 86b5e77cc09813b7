"""Every public function on one device, cuda's and mps's, pretended on the CPU; the scripts' commands are run so
in their own test files."""
import inspect

import numpy as np
import pytest
import torch

import common
import corruptions
import exp04_saccades as saccades
import gbvs
from pretended import one_device, pretended
from unisal import UNISAL

DEVICES = ["cuda:0", "mps:0"]


def vit(**more) -> common.VisionTransformer:
    return common.VisionTransformer(img_size=64, embed_dim=48, depth=2, num_heads=6, **more).eval()


def attention(d: torch.device) -> list:
    x, found = torch.rand(2, 3, 64, 96).to(d), []
    for net in (vit(registers=4, pos_rule="antialias"), vit(rotary=True), vit(pos_rule="offset", num_classes=3)):
        net = net.to(d)
        full = net.encode(net.embed(x), full_attn=True).attn
        found += [common.cls_attention(net, x), common.rollout(full, net.n_prefix),
                  net(x, torch.arange(5).expand(2, 5).to(d))]
        visible = (torch.rand(2, 3, 4, 6) > .5).to(d)
        found.append(saccades.forward_visible(net, x, visible, 1))
    return found


def metrics(d: torch.device) -> list:
    p, fixations = torch.rand(3, 40, 50).to(d), (torch.rand(3, 40, 50) > .9).float().to(d)
    found = [metric(p, fixations) for metric in (common.cc, common.nss, common.auc_judd, common.kld, common.sim)]
    return [*found, common.minmax(p), common.gaussian_blur(p, 2.), common.upsample(p, (80, 100))]


def saliency(d: torch.device) -> list:
    x = torch.rand(2, 3, 64, 96).to(d)
    found = gbvs.gbvs_sets(x, ["DIORFM", "C"], previous=x.roll(1, 0))
    return [found, UNISAL().eval().to(d)(torch.rand(1, 1, 3, 64, 96).to(d))]


def corrupted(d: torch.device) -> list:
    x = torch.randint(0, 256, (2, 3, 40, 48), dtype=torch.uint8).to(d)
    return [corruptions.corrupt(x, name, 3, torch.arange(2)) for name in corruptions.CORRUPTIONS]


def linear(d: torch.device) -> list:
    return [*common.fit_linear(torch.randn(30, 4).to(d), (torch.arange(30) % 3).to(d), 3)]


def looks(d: torch.device) -> list:
    maps = torch.rand(2, 8, 9).to(d)
    places, visible = saccades.fixation_sequence(maps, 3, 4)
    return [places, visible, saccades.map_entropy(maps)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("work", [attention, metrics, saliency, corrupted, linear, looks])
def test_functions_compute_where_their_tensors_are(work, device):
    with one_device(device):
        results = [result.device for result in work(torch.device(device))]
    assert set(results) == {torch.device(device)} or work is metrics  # their numbers are for tables


@pytest.mark.parametrize("device", DEVICES)
def test_what_lies_on_two_devices_is_found(device):
    with pretended(device) as found:
        d = torch.device(device)
        x = torch.rand(3, 4).to(d).requires_grad_()
        (x * 2).sum().backward()
        assert x.grad.device == d and not found.faults and found.launches
        for wrong in (lambda: x + torch.rand(4), lambda: torch.rand(9)[x.argmax(1)], lambda: x.detach().numpy(),
                      lambda: torch.cat([x, torch.rand(1, 4)])):
            before = len(found.faults)
            wrong()
            assert len(found.faults) > before
        assert not found.copies
        x.sum().item()
        x.detach().cpu()
        assert found.copies.total() == 2


def test_a_function_that_forgets_the_device_is_found():
    """`gaussian_blur` whose kernel stays on the CPU: what these tests are for."""
    source, names = inspect.getsource(common.gaussian_blur), dict(vars(common))
    assert source.count(".to(maps)") == 1
    exec(source.replace(".to(maps)", ".float()"), names)
    for blur, faults in ((common.gaussian_blur, False), (names["gaussian_blur"], True)):
        with pretended("cuda:0") as found:
            blur(torch.rand(2, 8, 9).to("cuda"), 1.)
        assert bool(found.faults) == faults


def test_saccades_are_planned_without_waiting_for_the_device():
    with pretended("cuda:0") as found:
        saccades.fixation_sequence(torch.rand(2, 8, 9).to("cuda"), 3, 4)
    assert found.launches and not found.copies and not found.faults


def test_a_batch_of_exp04_waits_once_and_attends_once_for_all_masks_of_a_size():
    with pretended("cuda:0") as found:
        d, B = torch.device("cuda:0"), 3
        net, x = vit(num_classes=3).to(d), torch.rand(B, 3, 64, 64).to(d)
        batch = dict(image=x, index=torch.arange(B), readable=torch.ones(B, dtype=torch.bool))
        labels = torch.zeros(B, dtype=torch.long)
        kinds = saccades.measure(batch, net, net.head, labels, 1, [3], "clip", 0, True)
    lines, start = inspect.getsourcelines(common.attend)
    attention = sum(found.launches[f"common.py:{line}"] for line in range(start, start + len(lines)))
    passes, sizes = 1 + len(saccades.LOW_GRIDS), len(kinds["tokens"].unique())
    assert attention == len(net.blocks) * (passes + sizes)  # the whole images of each resolution, the masks
    assert found.copies.total() == 1 and not found.faults
    assert found.launches.total() - attention < 400  # 10 conditions x 10 saccades x 3 images are 300 masks


def test_float64_on_a_mac_is_found():
    with pretended("mps:0") as found:
        torch.rand(3).to("mps").cpu().double()
        assert not found.faults
        torch.rand(3).to("mps").double()
        torch.from_numpy(np.zeros(3)).to("mps")
    assert len(found.faults) == 2 and "float64 on mps at test_pretended.py" in found.faults[0]
