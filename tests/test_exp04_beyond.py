"""exp04_beyond: operations are those torch counts, a memory equals the plain loop, planted truths come out."""
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import exp04_beyond as N
import exp04_saccades as S
from common import InputError, VisionTransformer, generator, upsample
from pretended import one_device
from processes import interrupted
from results import read_arrays


def waves(**how) -> VisionTransformer:
    """A ViT whose weights are sine waves."""
    net = VisionTransformer(**dict(img_size=96, embed_dim=24, depth=3, num_heads=2) | how).eval()
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(.3 * torch.sin(torch.arange(p.numel()).double() * (.7 + .1 * i) + i).view(p.shape))
    return net


def vit(net: VisionTransformer) -> np.ndarray:
    return np.array([net.patch_size, net.embed_dim, len(net.blocks), net.blocks[0].mlp[0].out_features, net.n_prefix])


def looked(net: VisionTransformer) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (2, 36, D) and masks (2, 10, 36) of saccades over random maps; the second image makes three."""
    visible = S.fixation_sequence(torch.rand(2, 6, 6, generator=generator(3)), 3, 10)[1]
    visible[1, 3:] = visible[1, 2]
    return net.embed(torch.rand(2, 3, 96, 96, generator=generator(4))), visible.flatten(-2)


def counted(work, *args) -> tuple[torch.Tensor, int]:
    """What work gives, and the operations that torch counts; of fused attention it counts none."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        return work(*args), counter.get_total_flops()


@pytest.mark.parametrize("how", [{}, dict(registers=4, mlp_ratio=3., patch_size=8, img_size=40)])
def test_operations_of_a_pass_are_those_that_torch_counts(how):
    net, (side, tokens) = waves(**how), (40, 25) if how else (96, 36)
    assert 1e9 * N.gflop(vit(net), tokens) == pytest.approx(counted(net, torch.rand(1, 3, side, side))[1])
    assert N.gflop(np.array([16, 384, 12, 1536, 1]), 196) == pytest.approx(9.2, abs=.05)  # DeiT-S: 4.6 G pairs


def test_the_front_is_what_nothing_beats_in_cost_and_accuracy():
    cost = np.array([1., 2, 2, 3, 3, 4, 5, 5, 0])
    accuracy = np.array([5., 6, 7, 7, 6, 9, 9, 9.5, 4])
    assert N.front(cost, accuracy).tolist() == [True, False, True, False, False, True, False, True, True]
    assert N.front(np.array([2., 1, 2, 1]), np.array([3., 3, 3, 3])).tolist() == [False, True, False, True]  # equals


def test_a_panel_shows_the_means_of_its_curves_and_their_front(tmp_path, monkeypatch):
    figures, answers = [], np.array([[1, 0, 1], [0, 0, 1]])
    monkeypatch.setattr(N.results, "save_figure", lambda fig, path: figures.append(fig))
    curves = dict(dear=(np.array([[5, 7, 8], [3, 5, 10]]), answers),
                  cheap=(np.array([[3, 5], [1, 2]]), answers[:, [1, 0]]))
    N.draw_panels({"left": curves, "right": dict(cheap=curves["cheap"])}, "GFLOP", tmp_path, best=True)
    left, right = figures[0].axes
    shown = {line.get_label(): line.get_xydata().tolist() for line in left.lines if line.get_label()[0] != "_"}
    assert shown["front"] == [[2, 0], [3.5, 50], [9, 100]]
    assert [c.get_label() for c in left.containers] == ["dear", "cheap"] and left.get_xscale() == "log"
    dear, cheap = (c[0].get_xydata().tolist() for c in left.containers)
    assert dear == [[4, 50], [6, 0], [9, 100]] and cheap == [[2, 0], [3.5, 50]]
    bars = [segment[:, 1] for segment in left.containers[0][2][0].get_segments()]  # Wilson's
    np.testing.assert_allclose(bars, 100 * np.stack(N.study.interval(answers.astype(float)), 1), atol=1e-9)
    assert left.get_xlabel() == "GFLOP" and left.get_title() == "left"
    assert right.containers[0][0].get_color() == left.containers[1][0].get_color() != left.containers[0][0].get_color()


def plain_loop(net: VisionTransformer, patches: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """forward_remembered of one image: patches (N, D), seen (S, N); a cache of keys and values for each block."""
    P, H, D, out, before = net.n_prefix, net.num_heads, net.embed_dim, [], torch.zeros_like(seen[0])
    kept = [(torch.zeros(0, D), torch.zeros(0, D)) for _ in net.blocks]
    for now in seen:
        x, cls = torch.cat([net.prefix()[0], patches[now & ~before]]), []
        for i, block in enumerate(net.blocks):
            q, k, v = block.attn.qkv(block.norm1(x)).split(D, 1)
            keys, values = torch.cat([kept[i][0], k]), torch.cat([kept[i][1], v])
            kept[i] = torch.cat([kept[i][0], k[P:]]), torch.cat([kept[i][1], v[P:]])
            heads = [(a @ b.T / (D // H) ** .5).softmax(1) @ c for a, b, c in zip(
                q.split(D // H, 1), keys.split(D // H, 1), values.split(D // H, 1))]
            x = x + block.ls1(block.attn.proj(torch.cat(heads, 1)))
            x = x + block.ls2(block.mlp(block.norm2(x)))
            cls.append(net.norm(x[0]))
        out.append(torch.cat(cls[-2:]))
        before = now
    return torch.stack(out)


@pytest.mark.parametrize("how", [{}, dict(registers=2, layerscale=.5)])
@torch.no_grad()
def test_a_memory_equals_the_plain_loop_with_its_operations_and_the_first_saccade_of_a_pass_anew(how):
    net = waves(**how)
    patches, seen = looked(net)
    ours, anew = N.forward_remembered(net, patches, seen, 2), S.forward_seen(net, patches, seen, 2)
    torch.testing.assert_close(ours[:, 0], anew[:, 0], atol=1e-6, rtol=0)
    assert (ours - anew)[:, 1:].abs().amax() > 1e-5  # later a memory is another thing
    tokens = seen.sum(2).numpy()
    new = np.diff(tokens, axis=1, prepend=0)
    work = 1e9 * N.gflop(vit(net), new, tokens - new).sum(1) - 6 * tokens[:, -1] * 16**2 * 24  # embedded before
    for i in range(2):
        expected, operations = counted(plain_loop, net, patches[i], seen[i])
        torch.testing.assert_close(ours[i], expected, atol=1e-5, rtol=0)
        assert work[i] == pytest.approx(operations)


@pytest.mark.parametrize("how, exact", [(dict(depth=1), 10), (dict(rotary=True), 1), (dict(rotary=True, depth=1), 10)])
@torch.no_grad()
def test_with_one_block_a_memory_is_exact_at_every_saccade_and_rotary_positions_are_kept(how, exact):
    net = waves(**how)
    patches, seen = looked(net)
    ours, anew = N.forward_remembered(net, patches, seen, 1), S.forward_seen(net, patches, seen, 1)
    torch.testing.assert_close(ours[:, :exact], anew[:, :exact], atol=1e-5, rtol=0)
    assert exact == 10 or (ours - anew).abs().amax() > 1e-4


def reader(weight: torch.Tensor, query: float) -> VisionTransformer:
    """One block, 4 wide: a patch's number is its sum with weight (16, 16); CLS attends to large numbers, the more the
    larger `query`, and adds up what it attends to in its first channel."""
    net = VisionTransformer(img_size=96, embed_dim=4, depth=1, num_heads=1).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
        net.patch_embed.proj.weight[0], net.patch_embed.proj.weight[3] = weight, -weight
        net.patch_embed.proj.bias.copy_(torch.tensor([0., 1, -1, 0]))
        net.cls_token.copy_(torch.tensor([0., 1, -1, 0]))
        for norm in (net.norm, net.blocks[0].norm1, net.blocks[0].norm2):
            norm.weight.fill_(1)
        qkv, proj = net.blocks[0].attn.qkv, net.blocks[0].attn.proj
        qkv.bias[0], qkv.weight[4, 0], qkv.weight[8, 0], proj.weight[0, 0] = query, 1, 1, 1
    return net


def test_a_periphery_tells_what_no_fovea_sees_and_that_of_another_image_does_not(monkeypatch):
    """Left or right half bright: no patch sees it, a copy of one token does."""
    net, head = reader(torch.tensor([1 / 768] * 8 + [-1 / 768] * 8).expand(3, 16, 16), 0), nn.Linear(4, 2)
    head.weight.data = torch.tensor([[1., 0, 0, 0], [-1, 0, 0, 0]])
    head.bias.data = torch.tensor([1e-3, 0])  # without a difference: class 0
    label, x = torch.arange(40) % 2, torch.ones(40, 3, 96, 96)
    x[label == 0, :, :, 48:], x[label == 1, :, :, :48] = -1, -1
    batch, masks = dict(image=x, other=x.roll(1, 0), index=torch.arange(40), readable=label > -1), []
    with torch.no_grad(), monkeypatch.context() as m:
        m.setattr(S, "forward_seen", lambda *args, f=S.forward_seen: [masks.append(args[2]), f(*args)][1])
        found = N.measure(batch, net, head, label, 0, 3, "clip", 0, 1)
    place = 6 * found["row"].long() + found["col"]  # what is fixated is seen, by every guide
    for mask, first in zip(masks, (0, 1, 5, 10)):
        assert mask.gather(3, place[:, first:first + mask.shape[1], :, None]).all()
    arrays = {key: torch.as_tensor(v).numpy() for key, v in found.items()} | dict(
        classes=np.arange(2), conditions=np.array(N.CONDITIONS), vit=vit(net), side=np.array(1),
        map_blocks=np.array(len(net.blocks)))
    correct = dict(zip(N.CONDITIONS, arrays["correct"].mean((0, 2))))
    assert correct["attention"] == correct["random"] == correct["remembered"] == .5 and arrays["periphery"].all()
    assert correct["attention + periphery"] == correct["random + periphery"] == 1
    assert correct["attention + another's periphery"] == 0  # the next image is of the other class
    rows = {row["name"]: row for row in N.claims(arrays)}
    assert rows["attention + periphery - attention: accuracy"]["ci"][0] > 30
    assert rows["attention + another's periphery - attention: accuracy"]["ci"][1] < 0
    assert rows["remembered, saccade 10: answer as recomputed"]["ours"] == 100


@torch.no_grad()
def test_looking_again_finds_what_the_periphery_shows_and_nothing_with_that_of_another_image():
    net, places = reader(torch.ones(3, 16, 16) / 768, 12), torch.randint(0, 4, (60, 2), generator=generator(5))
    x, planted = torch.zeros(60, 3, 96, 96), torch.zeros(60, 6, 6, dtype=bool)
    for i, (row, col) in enumerate(places.tolist()):  # a bright square of 3x3 tokens
        planted[i, row:row + 3, col:col + 3] = True
        x[i, :, 16 * row:16 * row + 48, 16 * col:16 * col + 48] = 1
    patches, coarse = net.embed(x), net.embed(N.smaller(net, x, 3))

    def share(visible: torch.Tensor) -> torch.Tensor:  # of the square, revealed after each saccade, (10,)
        return (visible & planted[:, None]).sum((0, 2, 3)) / planted.sum()
    (_, visible), (_, null), (blank, _) = (
        N.look_again(net, patches, seen, (6, 6), 3, "clip", 0)
        for seen in (coarse, coarse.roll(7, 0), torch.zeros_like(coarse)))
    chance = share(S.fixation_sequence(S.random_maps(torch.arange(60), (6, 6), 0), 3, 10)[1])
    assert share(visible)[0] > chance[0] + .3 and share(visible)[1] > .9
    assert abs(share(null)[0] - chance[0]) < .1 and (blank[:, 0] == blank[0, 0]).all()
    assert (visible.sum((2, 3)).diff(dim=1)[:, :7] > 0).all()  # no place twice, as long as there are others
    net, x = waves(registers=2), torch.rand(6, 3, 96, 96, generator=generator(6))  # every image's own patches count
    for i, p in enumerate(net.blocks.parameters()):
        p.add_(torch.randn(p.shape, generator=generator(7, i)) / 2)  # heads that differ
    patches, coarse = net.embed(x), net.embed(N.smaller(net, x, 3))
    together, seen = N.look_again(net, patches, coarse, (6, 6), 5, "shift", 1)
    for i in range(6):
        own = patches[i:i + 1], coarse[i:i + 1]
        assert N.look_again(net, *own, (6, 6), 5, "shift", 1)[0].equal(together[i:i + 1])
        before = torch.zeros(6, 6, dtype=bool)
        for k in range(3):
            e = net.encode(torch.cat([own[1], own[0][:, before.flatten()]], 1), [1])
            att = upsample(e.cls_attn[0][..., 3:12].amax(1).view(1, 3, 3), (6, 6)).masked_fill(before, 0)
            place, square = S.fixation_sequence(att, 5, 1, "shift")
            before = before | square[0, 0]
            assert place[0, 0].equal(together[i, k]) and before.equal(seen[i, k])


@torch.no_grad()
def test_every_condition_has_its_own_guide_tokens_and_answers(monkeypatch):
    net, label = waves(registers=2), torch.tensor([1, 4, 2])
    x, other = torch.rand(2, 3, 3, 96, 96, generator=generator(8))
    head = nn.Linear(2 * 24, 5)  # of the last two blocks
    head.weight.data = torch.randn(5, 48, generator=generator(9))
    index, labels = torch.tensor([5, 2, 9]), torch.zeros(10, dtype=torch.long)
    labels[index] = label
    with monkeypatch.context() as m:
        m.setattr(N.time, "perf_counter", iter([1., 7, 16]).__next__)
        batch = dict(image=x, other=other, index=index, readable=label > 0)
        found = N.measure(batch, net, head, labels, 1, 5, "shift", 3, 3)
    patches, coarse, wrong = (net.embed(v) for v in (x, N.smaller(net, x, 3), N.smaller(net, other, 3)))
    features, maps = S.look(net, x, [1], 2)
    small = S.look(net, N.smaller(net, x, 8), [1])[1][:, 0]
    looks = {name: S.fixation_sequence(att, 5, 10, "shift") for name, att in (
        ("attention", maps[:, 0]), ("random", S.random_maps(index, (6, 6), 3)),
        ("small copy", upsample(small, (6, 6))))}
    place, seen = looks["again"] = N.look_again(net, patches, coarse, (6, 6), 5, "shift", 1)
    looks["again, turned"] = 5 - place, seen.rot90(2, (2, 3))
    for c, name in enumerate(N.CONDITIONS):
        guide, _, beside = name.partition(" + ")
        place, seen = looks["attention" if name == "remembered" else guide]
        assert torch.stack([found["row"], found["col"]], -1)[:, c].equal(place.short())
        more = {"": patches[:, :0], "periphery": coarse, "another's periphery": wrong}[beside]
        work = N.forward_remembered if name == "remembered" else S.forward_seen
        mask = F.pad(seen.flatten(2), (0, more.shape[1]), value=True)
        pred, certainty = S.classify(head, work(net, torch.cat([patches, more], 1), mask, 2))
        assert found["tokens"][:, c].equal(seen.sum((2, 3)).short()) and found["pred"][:, c].equal(pred.short())
        torch.testing.assert_close(found["certainty"][:, c], certainty, atol=1e-5, rtol=0)
    assert found["pred_full"].equal(S.classify(head, features)[0]) and found["label"].equal(label)
    alone = S.classify(head, net.norm(net.encode(coarse).cls[:, -2:]).flatten(1))[0]
    assert found["periphery"].equal(alone == label) and found["entropy"].equal(S.map_entropy(maps[:, 0]))
    assert found["seconds"].tolist() == [[2, 3]] * 3  # an image, of 6 and 9


def test_a_smaller_copy_is_that_of_torch():
    x = torch.rand(2, 3, 96, 96, generator=generator(6))
    torch.testing.assert_close(N.smaller(waves(), x, 4), F.interpolate(x, (64, 64), mode="bilinear", antialias=True))


def answers(rule: str, n: int = 1200) -> dict:
    """Images that are answered from some saccade on, of which what the rule watches tells."""
    rng = np.random.default_rng(1)
    needed = rng.choice([2, 10], n) if rule.startswith("entropy") else rng.integers(1, 11, n)
    correct = N.STEPS >= needed[:, None]
    certainty = 50 * correct + 4. * N.STEPS  # higher when it is right
    if rule.startswith("growth"):
        certainty = np.cumsum(np.where(N.STEPS > needed[:, None], 1, 20 - N.STEPS), 1) / 2.  # grows until then
    return dict(correct=correct.astype(float), tokens=np.cumsum(rng.integers(3, 10, (n, 10)), 1).astype(float),
                certainty=certainty, entropy=needed.astype(float))


@pytest.mark.parametrize("rule", N.RULES)
def test_a_rule_that_knows_when_to_stop_is_found_and_one_that_watches_other_images_is_not(rule):
    t = answers(rule)
    order = np.random.default_rng(2).permutation(1200)
    shuffled = t | dict(certainty=t["certainty"][order], entropy=t["entropy"][order])
    for told, knows in ((t, True), (shuffled, False)):
        found = N.stopping(told)
        stop, fixed = ({key: v.mean(1) for key, v in found[name].items()} for name in (rule, "fixed number"))
        gain, null = (N.difference(stop["correct"], other)["ci"] for other in (fixed["correct"], stop["null"]))
        assert abs((stop["tokens"] - fixed["tokens"]).mean()) < 1.5  # of about 33
        assert min(gain[0], null[0]) > .03 if knows else null[0] < 0 < null[1]


def test_images_that_are_judged_do_not_choose():
    t, judged = answers("certainty", 100), np.arange(100)[:, None] % 2 == 1
    other = {key: np.where(judged, 0, t[key]) for key in ("correct", "tokens")} | dict(entropy=t["entropy"])
    other["certainty"] = np.where(judged & (np.arange(100)[:, None] > 50), np.nan, t["certainty"])  # of some
    for rule, found in N.stopping(other).items():
        assert (found["place"] == N.stopping(t)[rule]["place"])[:25].all()
        assert not found["correct"].any() and not found["tokens"].any()


def made(n: int = 7) -> dict:
    """Arrays of a run of n images of 36 patches in which no two conditions, saccades or images are alike."""
    rng, C = np.random.default_rng(6), len(N.CONDITIONS)
    arrays = {key: rng.integers(0, 3, (n, C, 10)) for key in ("pred", "row", "col")}
    return arrays | dict(
        conditions=np.array(N.CONDITIONS), classes=np.arange(3), label=rng.integers(0, 3, n), index=np.arange(n),
        pred_full=rng.integers(0, 3, n), correct_full=np.arange(n) % 3 > 0, certainty_full=rng.random(n),
        n_tokens=np.full(n, 36), entropy=rng.uniform(2, 5, n), periphery=np.arange(n) < 3,
        correct=rng.random((n, C, 10)) > np.arange(10)[::-1] / 14, certainty=rng.random((n, C, 10)),
        tokens=rng.integers(1, 5, (n, C, 10)).cumsum(2), seconds=rng.uniform(1, 9, (n, 2)),
        side=np.array(2), vit=np.array([16, 24, 3, 96, 5]), map_blocks=np.array(2))


def test_the_lines_of_the_table_are_those_worked_out_by_hand():
    arrays, n, c = made(), 7, N.CONDITIONS.index
    correct, tokens, pred = (arrays[key].astype(float) for key in ("correct", "tokens", "pred"))

    def cost(tokens, before=0, depth=3):
        return N.gflop(np.array([16, 24, depth, 96, 5]), tokens, before)
    full, full_right = cost(36), arrays["correct_full"]
    att, small, again = (tokens[:, c(name), :5] for name in ("attention", "small copy", "again"))
    new = np.diff(att, axis=1, prepend=0)
    each, looks = cost(att).sum(1), cost(again + 4)
    spent = {  # scheme: whose answers, operations of the answers until saccade 5, of what draws the map
        "each saccade": ("attention", each, cost(36, 0, 2)), "one pass": ("attention", cost(att[:, 4]), cost(36, 0, 2)),
        "remembered": ("remembered", cost(new, att - new).sum(1), cost(36, 0, 2)),
        "one pass, small copy's map": ("small copy", cost(small[:, 4]), cost(64, 0, 2)),
        "looking again": ("again + periphery", looks[:, 4], cost(4, 0, 2) + looks[:, :4].sum(1)),
        "one pass, random": ("random", cost(tokens[:, c("random"), 4]), 0)}
    expected = {"full image: operations": full, "periphery alone: accuracy": 300 / 7}
    for scheme, (name, answer, drawing) in spent.items():
        expected |= {f"saccade 5, {scheme}: operations": 100 * answer.mean() / full,
                     f"saccade 5, {scheme}: with the map's": 100 * (answer + drawing).mean() / full,
                     f"saccade 5, {scheme}: accuracy - full": 100 * (correct[:, c(name), 4] - full_right).mean()}
    stop = N.stopping(N.study.condition(arrays, "attention"))
    fixed = stop["fixed number"]
    for rule in N.RULES:
        for what, a, b, scale in (("fixed number: correct", "correct", fixed["correct"], 100),
                                  ("fixed number: tokens", "tokens", fixed["tokens"], 1),
                                  ("as another image: correct", "correct", stop[rule]["null"], 100)):
            expected[f"stopped by {rule} - {what}"] = scale * (stop[rule][a] - b).mean()
    for a, b in N.PAIRS:
        expected[f"{a} - {b}: accuracy"] = 100 * (correct[:, c(a)] - correct[:, c(b)]).mean()
    first = [[next((k for k, right in enumerate(row, 1) if right), 11) for row in correct[:, c(name)]]
             for name in ("attention + periphery", "attention")]
    expected["attention + periphery - attention: first correct"] = np.subtract(*first).mean()
    anew, kept = pred[:, c("attention")], pred[:, c("remembered")]
    for s in (1, 2, 3, 5, 10):
        expected[f"remembered, saccade {s}: answer as recomputed"] = 100 * (kept == anew)[:, s - 1].mean()
    another = [kept[i, 9] == anew[i - 3, 9] for i in range(n)]
    expected["remembered, saccade 10: answer as another's"] = 100 * np.mean(another)
    seconds = np.sort(arrays["seconds"], 0)[3]
    expected["remembered: time"] = 100 * seconds[1] / seconds[0]
    rows = {row["name"]: row for row in N.claims(arrays)}
    assert {name: row["ours"] for name, row in rows.items()} == pytest.approx(expected)
    assert Counter(row["unit"] for row in rows.values()) == {
        "GFLOP": 1, "% of full": 12, "points": 23, "tokens": 3, "%": 7, "saccades": 1, "% of recomputed": 1}
    assert Counter(row["n"] for row in rows.values()) == {7: len(rows) - 9, 3: 9}  # rules: of half the images
    by_certainty = N.tables(arrays)[2]["each, stopped by certainty (half the images)"]
    until = cost(tokens[1::2, c("attention")]).cumsum(1)
    for i, place in enumerate(stop["certainty"]["place"]):
        np.testing.assert_allclose(by_certainty[1][i], until[i, place])
        np.testing.assert_allclose(by_certainty[2][i], until[i, place] + cost(36, 0, 2))


def test_the_figures_show_what_their_panels_say(tmp_path, monkeypatch):
    arrays, drawn, steps = made(), {}, np.tile(np.arange(1, 11), (7, 1))
    monkeypatch.setattr(N, "draw_panels", lambda panels, x, path, best=False: drawn.update({path.name: (panels, best)}))
    N.draw(arrays, {}, tmp_path)
    stop, costs = N.tables(arrays)[1:]
    seen = {name: (steps, arrays["correct"][:, c]) for c, name in enumerate(N.CONDITIONS)}
    seen |= {"full image": (steps, np.tile(arrays["correct_full"][:, None], 10)),
             "periphery alone": (steps, np.tile(arrays["periphery"][:, None], 10))}
    anew, kept = (arrays["pred"][:, N.CONDITIONS.index(name)] for name in ("attention", "remembered"))

    def some(*names: str, more: str = "") -> dict:
        return {name: seen[name + more] for name in names} | {"full image": seen["full image"]}
    np.testing.assert_equal(drawn, {
        "fig_cost": ({"correct; operations of the answers": {name: (c[1], c[0]) for name, c in costs.items()},
                      "correct; with those for the map": {name: (c[2], c[0]) for name, c in costs.items()}}, True),
        "fig_stopping": ({"correct, of images that chose no threshold": {
            rule: (t["tokens"], t["correct"]) for rule, t in stop.items()}}, False),
        "fig_periphery": ({
            "correct": some("attention", "attention + periphery", "attention + another's periphery", "periphery alone"),
            "correct, random": some("random", "random + periphery", "periphery alone")}, False),
        "fig_remembered": ({"correct": some("attention", "remembered"), "same answer": {
            "as recomputed": (steps, kept == anew),
            "as another image's": (steps, kept == np.roll(anew, 3, 0))}}, False),
        "fig_again": ({"correct": some(*N.GUIDES),
                       "correct, with periphery": some(*N.GUIDES, more=" + periphery")}, False)})


def test_demo_command_draws_its_figures_and_goes_on_after_an_interruption(tmp_path, monkeypatch):
    argv = ["--limit", "6", "--batch-size", "3", "--layer", "5", "--fovea", "5", "15", "--border", "shift",
            "--seed", "4", "--periphery", "3", "--workers", "0", "--device", "cpu", "--out"]
    calls, measure = [], N.measure
    monkeypatch.setattr(N.results, "save_figure", lambda fig, path: fig.savefig(f"{path}.png", dpi=20))
    with monkeypatch.context() as m:
        m.setattr(N, "measure", lambda batch, **how: [calls.append(how), measure(batch, **how)][1])
        N.main([*argv, str(tmp_path / "a")])
    given = {key: calls[0][key] for key in ("block", "fovea", "border", "seed", "side")}
    assert given == dict(block=5, fovea=5, border="shift", seed=4, side=3)
    assert sorted(path.name for path in (tmp_path / "a").glob("fig*")) == [
        f"fig_{name}.png" for name in ("again", "cost", "periphery", "remembered", "stopping")]
    arrays = read_arrays(tmp_path / "a/arrays.npz")
    assert (arrays["row"][:, 4] == 13 - arrays["row"][:, 3]).all()  # turned
    assert (arrays["vit"].tolist(), arrays["side"], arrays["map_blocks"]) == ([16, 96, 12, 384, 1], 3, 6)
    monkeypatch.setattr(N, "draw", lambda *args: None)
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(N, "measure", interrupted(N.measure, 2))
        N.main([*argv, str(tmp_path / "b")])
    N.main([*argv, str(tmp_path / "b"), "--resume"])
    assert (tmp_path / "a/per_image.csv").read_bytes() == (tmp_path / "b/per_image.csv").read_bytes()


def test_wrong_input_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(SystemExit, match="2"):
        N.main(["--periphery", "0", "--out", str(tmp_path / "out")])
    with pytest.raises(InputError, match="fovea 4: expected an odd"):
        N.main(["--fovea", "4", "--device", "cpu", "--out", str(tmp_path / "out")])
    with pytest.raises(InputError, match="--periphery 14: expected fewer tokens a side than the image's own 14"):
        N.main(["--periphery", "14", "--limit", "4", "--device", "cpu", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_other_image_is_never_the_image_itself():
    for n in (2, 3, 7):
        others = [N.another(i, [dict(image=j) for j in range(n)])["other"] for i in range(n)]
        assert others == [(i + n // 2) % n for i in range(n)] and all(i != other for i, other in enumerate(others))


@pytest.mark.parametrize("device", ["cuda:0", "mps:0"])
def test_the_study_is_computed_on_one_device(device, tmp_path, monkeypatch):
    monkeypatch.setattr(N, "draw", lambda *args: None)
    with one_device(device):
        N.main(["--limit", "3", "--model", "demo_sl4", "--workers", "0", "--device", device, "--out", str(tmp_path)])
