"""exp06, models: a planted head comes out first and above chance, maps of other images and the centre do not."""
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

import demo
import exp06_models as E
from common import (InputError, ROOT, VisionTransformer, auc_judd, centre_gaussian, cls_attention, gaussian_blur,
                    generator, information_gain, nss, shuffled_auc)
from data import read_csv
from pretended import one_device
from processes import in_group, interrupted
from results import estimate, evaluate

torch.set_num_threads(1)
SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
N = 24  # images of the world


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Pictures of 60x80 px with a bright disk near the middle; four people, each with ten fixations on the disk and
    ten around the middle; the last saw every second picture."""
    root = tmp_path_factory.mktemp("world")
    (root / "images").mkdir()
    lines, (rows, cols) = ["participant,image,x_px,y_px,duration_s"], np.mgrid[:60, :80]
    for i in range(N):
        rng = np.random.default_rng([3, i])
        row, col = rng.uniform((18, 24), (42, 56))
        picture = rng.integers(0, 60, (60, 80, 3)) + 190 * ((rows - row)**2 + (cols - col)**2 < 50)[..., None]
        Image.fromarray(picture.astype(np.uint8)).save(root / "images" / f"{i:02d}.png")
        for person in "abcd"[:3 + i % 2]:
            y, x = np.concatenate([rng.normal((row, col), 2, (10, 2)), rng.normal((30, 40), (8, 12), (10, 2))]).T
            lines += [f"{person},{i:02d}.png,{a:.1f},{b:.1f},.{1 + k % 8}"
                      for k, (a, b) in enumerate(zip(x.clip(0, 79), y.clip(0, 59)))]
    (root / "fixations.csv").write_text("\n".join(lines) + "\n")
    return root


def run(world: Path, out: Path, *more: str) -> dict:
    E.main(["--data", str(world), "--out", str(out), "--workers", "0", "--device", "cpu", "--size", "64", "80",
            *(more if "--model" in more else ("--model", "demo_dino4", *more))])
    return json.loads((out / "results.json").read_text())


@pytest.fixture(autouse=True)
def small_maps(monkeypatch) -> None:
    """Maps of 56x56 px: a sixteenth of the time."""
    monkeypatch.setattr(E.data, "MAP_SIZE", (56, 56))
    monkeypatch.setattr(E, "SIGMA", 2.)


@pytest.fixture
def planted(world, monkeypatch) -> None:
    """In place of attention: noise, but head 2 of block 1 knows the disk and the middle, from which the fixations
    were drawn, the rollout those of another image."""
    known = []
    for path in sorted((world / "images").iterdir()):
        bright = np.asarray(Image.open(path).convert("L").resize((56, 56))).astype(float) > 150
        middle = np.exp(-.5 * (((np.mgrid[:56, :56] - 27.5).T / (8 * 56 / 60, 12 * 56 / 80))**2).sum(-1).T)
        disk = gaussian_filter(bright.astype(float), 1.5)
        known.append(torch.from_numpy(disk / disk.sum() + middle / middle.sum()).float())
    order = iter([*range(0, N, 2), *range(1, N, 2)])  # chosen on the first of them, judged on the others

    def maps(vit, x, dtype):
        found = torch.empty(len(x), 14, 56, 56)
        for one in found:
            i = next(order)
            one[:] = torch.rand(14, 56, 56, generator=generator(7, i, 1))
            one[8], one[13] = known[i], known[(i + 5) % N]
        return found
    monkeypatch.setattr(E, "maps_of", maps)


def rows_of(results: dict) -> dict[str, dict]:
    return {row["name"]: row for row in results["headline"]}


def test_a_planted_head_is_chosen_and_found_and_what_sees_no_image_is_at_chance(world, tmp_path, planted):
    results = run(world, tmp_path)
    assert results["notes"] == ["best head of demo_dino4: block 1, head 2"]
    found = rows_of(results)
    assert len(found) == 4 * 7 and all(row["n"] == N // 2 for row in found.values())
    gain = E.METRICS["gain"]
    assert found["demo_dino4, best head: shuffled AUC"]["ci"][0] > .6
    assert found[f"demo_dino4, best head: {gain}"]["ci"][0] > .2
    low, high = found["demo_dino4, rollout: shuffled AUC"]["ci"]  # maps of other images
    assert low < .5 < high
    low, high = found["demo_dino4, last block: shuffled AUC"]["ci"]  # noise
    assert low < .5 < high
    low, high = found["centre: shuffled AUC"]["ci"]
    assert low < .5 < high and found["centre: AUC"]["ci"][0] > .6
    assert found[f"centre: {gain}"]["ours"] == 0 and found[f"centre: {gain}"]["ci"] == [0, 0]
    assert found["people: shuffled AUC"]["ci"][0] > .6 and found[f"people: {gain}"]["ci"][0] > .2
    assert found["GBVS: shuffled AUC"]["ci"][0] > .5
    rows = read_csv(tmp_path / "per_image.csv")
    assert {row["image"] for row in rows} == {f"{i:02d}.png" for i in range(1, N, 2)} and len(rows) == 7 * N // 2
    drawn = (tmp_path / "fig_models.png").read_bytes()
    assert len(drawn) > 2000 and not (tmp_path / "unfinished").exists()
    (tmp_path / "fig_models.png").unlink()
    run(world, tmp_path, "--plot-only")
    assert (tmp_path / "fig_models.png").read_bytes() == drawn


def test_on_the_demo_the_masks_of_objects_beat_the_centre_and_those_of_other_images_do_not(tmp_path):
    """Twenty objects in the middle of their pictures: there AUC and NSS hardly tell an object from another's."""
    root = demo.demo_world(tmp_path, parts=("objects",)) / "objects"
    items, _ = E.load_data(root, None, False)
    people = sorted({person for _, looks in items for person, *_ in looks})
    images = [E.objects.Objects(items, people, (56, 56), lambda picture: 0, (255,) * 3)[i] for i in range(20)]
    fix = torch.stack([image["fix"].sum(0) for image in images]).double()
    masks = torch.stack([gaussian_blur(image["coverage"], 2.) for image in images]).double()
    centre = torch.cat([centre_gaussian((fix.sum(0) - one)[None]) for one in fix])
    true, wrong, prior = (m / m.sum((1, 2), keepdim=True) for m in (masks, masks.roll(1, 0), centre))
    scores = {}
    for name, maps in dict(true=true, mixed=true + prior, wrong=wrong, centre=centre).items():
        found = [E.judge(maps[i:i + 1], fix[i:i + 1], (fix.sum(0) - fix[i])[None])[:, 0] for i in range(20)]
        scores[name] = [estimate(v) for v in torch.stack(found, 1).numpy()]  # NSS, AUC, shuffled AUC, gain
    assert scores["true"][2]["ci"][0] > .5 and scores["mixed"][3]["ci"][0] > 0
    for name in ("wrong", "centre"):
        low, high = scores[name][2]["ci"]
        assert low < .5 < high and scores[name][1]["ours"] > .85 and scores[name][3]["ours"] <= 0


def test_the_head_is_chosen_on_half_of_the_images_and_judged_on_the_others(world, tmp_path, monkeypatch):
    """Heads that see the disk on one half of the images alone: head 2 of block 0 on the half that is judged."""
    seen, counts, measure = [], [], E.measure

    def maps(vit, x, dtype):
        assert x.shape[2:] == (64, 80) and dtype == torch.bfloat16
        disk = torch.nn.functional.interpolate(x.mean(1, keepdim=True), (56, 56), mode="bilinear")[:, 0]
        half = "choosing" if len(seen) < N // 2 else "judging"
        seen.extend(x)
        noise = torch.rand(len(x), 10, 56, 56, generator=generator(7, len(seen), 1))
        noise[:, 4 if half == "choosing" else 2] = disk
        noise[:, 3] = -disk  # as far below chance
        noise[:, 8:] = 5 * disk[:, None]  # no heads
        return noise
    monkeypatch.setattr(E, "measure", lambda *batch, **how: [counts.append(how["everyone"]), measure(*batch, **how)][1])
    monkeypatch.setattr(E, "maps_of", maps)
    monkeypatch.setattr(E, "draw", lambda *a: None)
    results = run(world, tmp_path, "--dtype", "bfloat16")
    assert len({float(x.double().sum()) for x in seen}) == len(seen) == N  # every picture once
    assert counts[0].sum() == 24 * 20 * 3.5  # fixations on all of them
    assert results["notes"] == ["best head of demo_dino4: block 0, head 4"]
    found = rows_of(results)
    assert abs(found["demo_dino4, best head: NSS"]["ours"]) < .3  # noise, there
    assert found["demo_dino4, last block: NSS"]["ours"] > 1


def test_a_fixation_counts_once_if_it_is_on_its_picture_as_people_saw_it(tmp_path):
    (tmp_path / "images").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6  # stored 60 px wide and 80 high, seen the other way round
    for name in "abcde":
        Image.new("RGB", (60, 80)).save(tmp_path / "images" / f"{name}.png", exif=turned)
    lines = ["participant,image,x_px,y_px,duration_s"] + [
        f"p,{name}.png,{x},{x / 2},.3" for name in "abcd" for x in (9, 40, 70)]
    edges = ["p,a.png,79.9,59.9,.2", "p,a.png,0,0,.2", "q,a.png,80,5,.2", "q,b.png,5,60,.2", "p,e.png,-.1,5,2"]
    (tmp_path / "fixations.csv").write_text("\n".join(lines + edges))
    items, left_out = E.load_data(str(tmp_path), None, False)
    most = [("p", 4.5, 9, 1), ("p", 20, 40, 1), ("p", 35, 70, 1)]
    first = most + [("p", 59.9, 79.9, 1), ("p", 0, 0, 1)]
    assert [looks for _, looks in items] == [first, most, most, most] and left_out == ["e.png"]
    seen = E.pictures(items, ["p"], {"m": lambda picture: torch.tensor(picture.size)})[0]
    assert seen["image"]["m"].tolist() == [80, 60] and seen["fix"].shape == (1, 56, 56) and seen["fix"].sum() == 5
    (tmp_path / "fixations.csv").write_text("\n".join(lines[:-3] + ["p,d.png,.1,.2,1"]))
    with pytest.raises(InputError, match=f"{tmp_path.name}: the gaze of all viewers on d.png, .* within 1 px"):
        E.load_data(str(tmp_path), None, False)


@pytest.fixture
def moved(monkeypatch) -> torch.Tensor:
    """Maps of two images, (2, 5, 7, 9), which a "model" and its input move by so many columns."""
    maps = torch.rand(2, 5, 7, 9, generator=generator(1))
    monkeypatch.setattr(E, "maps_of", lambda vit, x, dtype: maps.roll(vit + int(x.mean()), 3))
    return maps


def test_the_nss_of_every_head_is_that_of_its_map_and_everybodys_fixations(moved):
    looks = (torch.rand(2, 3, 56, 56, generator=generator(2)) > .8).float()  # at some pixels, of two people
    images = {"m": torch.zeros(2, 3, 8, 8), "n": torch.ones(2, 3, 8, 8)}
    batch = {"image": images, "fix": looks, "readable": torch.ones(2, dtype=torch.bool)}
    found = E.choose(batch, {"m": 0, "n": 2}, torch.device("cpu"), torch.float32)
    for name, move in (("m", 0), ("n", 3)):
        big = torch.nn.functional.interpolate(moved.roll(move, 3), (56, 56), mode="bilinear").double()
        for i, h in np.ndindex(2, 3):
            expected = nss(big[i, h:h + 1], looks[i].sum(0)[None]).item()
            assert found[name][i, h].item() == pytest.approx(expected, abs=1e-4)
        assert found[name].shape == (2, 3)  # the mean and the rollout are no heads


def test_maps_are_the_heads_their_mean_and_the_rollout():
    vit = VisionTransformer(img_size=64, embed_dim=24, depth=4, num_heads=3, registers=2).eval()
    vit.init_weights(generator(1))
    with torch.no_grad():
        for block in vit.blocks:
            block.attn.qkv.weight.mul_(30)  # attention far from even
        x = torch.randn(2, 3, 64, 96, generator=generator(1))
        maps, rough = (E.maps_of(vit, x, dtype) for dtype in (torch.float32, torch.bfloat16))
        heads = cls_attention(vit, x)  # (2, 4, 3, h, w)
        product = torch.eye(3 + 24)
        for a in vit.encode(vit.embed(x), full_attn=True).attn:
            a = a.mean(1) + torch.eye(27)
            product = a / a.sum(-1, keepdim=True) @ product
    small = torch.cat([heads.flatten(1, 2), heads[:, 3].mean(1, keepdim=True), product[:, :1, 3:].view(2, 1, 4, 6)], 1)
    torch.testing.assert_close(maps, small, atol=1e-6, rtol=1e-4)
    assert 1e-3 < (rough - maps).abs().max() < .2


def test_inputs_are_squashed_to_the_size_and_no_model_is_called_as_another_source(tmp_path):
    models, inputs = E.load_models(["demo_dino4"], [], (64, 96))
    assert [*models] == ["demo_dino4"] and [*inputs] == ["demo_dino4", "GBVS"]
    picture = Image.new("RGB", (50, 70), "white")
    assert {inputs[name](picture).shape for name in inputs} == {(3, 64, 96)} and (inputs["GBVS"](picture) == 1).all()
    shutil.copy(ROOT / "checkpoints" / "demo_dino4.pth", tmp_path / "GBVS.pth")
    with pytest.raises(InputError, match="GBVS: expected names that differ"):
        E.load_models([f"auto={tmp_path / 'GBVS.pth'}"], [], (64, 96))


def test_every_map_is_judged_by_every_metric_with_its_own_fixations():
    g = generator(2)
    maps, others = torch.rand(6, 30, 40, generator=g), torch.randint(0, 3, (1, 30, 40), generator=g).double()
    fix = (torch.rand(6, 30, 40, generator=g) > .9).double()
    centre = centre_gaussian(others)
    for looks in (fix, fix[:1]):
        found = E.judge(maps, looks, others)
        assert found.shape == (4, 6)
        for s in range(6):
            p, f = maps[s:s + 1], looks[s % len(looks)][None]
            expected = [nss(p, f), auc_judd(p, f), shuffled_auc(p, f, others), information_gain(p, centre, f)]
            torch.testing.assert_close(found[:, s], torch.cat(expected))


def test_people_are_judged_by_the_map_of_the_others_of_the_same_image_and_models_by_their_own_maps(moved):
    looks = (torch.rand(2, 3, 56, 56, generator=generator(4)) > .99).float()
    looks[0, 1] = 0  # has not looked
    looks[1, 1:] = 0  # one person alone
    everyone = looks.sum((0, 1)) + (torch.rand(56, 56, generator=generator(5)) > .9)
    images = {"m": torch.zeros(2, 3, 8, 8), "n": torch.ones(2, 3, 8, 8),
              "GBVS": torch.rand(2, 3, 64, 64, generator=generator(3))}
    batch, best = {"image": images, "fix": looks, "readable": None}, {"m": 2, "n": 1}
    found = E.measure(batch, {"m": 0, "n": 2}, best, everyone, torch.device("cpu"), torch.float32)["scores"]
    for move, head, own in ((0, 2, found[:, :, :3]), (3, 1, found[:, :, 3:6])):
        maps = torch.nn.functional.interpolate(moved.roll(move, 3)[:, [head, 3, 4]], (56, 56), mode="bilinear")
        for i in range(2):
            fix = looks[i].sum(0, keepdim=True)
            torch.testing.assert_close(own[i], E.judge(maps[i], fix, everyone - fix), atol=1e-3, rtol=1e-3)
    found = found[:, :, 6:]  # GBVS, centre, others, people
    assert found.shape == (2, 4, 4) and found[1, :, 3].isnan().all() and not found[1, :, :3].isnan().any()
    others, scores = (everyone - looks[0].sum(0))[None].double(), []
    for one, other in ((0, 2), (2, 0)):
        p = torch.from_numpy(gaussian_filter(looks[0, other].double().numpy(), 2, mode="constant", truncate=4))[None]
        f = looks[0, one][None].double()
        scores.append(torch.cat([nss(p, f), auc_judd(p, f), shuffled_auc(p, f, others),
                                 information_gain(p, centre_gaussian(others), f)]))
    torch.testing.assert_close(found[0, :, 3], torch.stack(scores).mean(0), atol=1e-3, rtol=1e-3)
    mean_map = torch.from_numpy(gaussian_filter(others[0].numpy(), 2, mode="constant", truncate=4))[None]
    fix = looks[0].sum(0, keepdim=True).double()
    assert found[0, 0, 2].item() == pytest.approx(nss(mean_map, fix).item(), abs=1e-4)
    assert found[0, 2, 1].item() == pytest.approx(shuffled_auc(centre_gaussian(others), fix, others).item(), abs=1e-4)


def test_a_line_is_the_mean_of_the_images_that_have_the_value():
    scores = np.arange(24.).reshape(3, 4, 2) ** 2
    scores[1, 0, 1] = scores[2, 3, 0] = np.nan
    scores[:, 2, 1] = np.nan
    rows = {row["name"]: (row["ours"], row["n"]) for row in evaluate(E.claims(["one", "two"]), scores)}
    assert [*rows] == [f"{source}: {label}" for label in E.METRICS.values() for source in ("one", "two")][:5] + [
        f"{source}: {E.METRICS['gain']}" for source in ("one", "two")]
    assert rows["two: NSS"] == ((1 + 17**2) / 2, 2) and rows["one: AUC"] == ((4 + 100 + 18**2) / 3, 3)
    assert rows[f"one: {E.METRICS['gain']}"] == ((36 + 14**2) / 2, 2)


def test_the_figure_shows_every_mean_with_its_interval_and_the_centres_as_a_line(tmp_path, monkeypatch):
    sources, figures = ["one, rollout", "centre", "people"], []
    rows = [dict(name=f"{source}: {label}", ours=10 * m + s, ci=(10 * m + s - 1, 10 * m + s + 2))
            for m, label in enumerate(E.METRICS.values()) for s, source in enumerate(sources)]
    monkeypatch.setattr(E.results, "save_figure", lambda fig, path: figures.append(fig))
    E.draw({}, dict(sources=sources, headline=rows[:-1]), tmp_path)  # without the people's gain
    left = figures[0].axes[0]
    assert [tick.get_text() for tick in left.get_yticklabels()] == sources and left.get_ylim() == (2.5, -.5)
    for m, (ax, label) in enumerate(zip(figures[0].axes, E.METRICS.values())):
        expected = [line for s in range(2 if m == 3 else 3) for line in (
            [[10 * m + s - 1, s], [10 * m + s + 2, s]], [[10 * m + s, s]])] + [[[10 * m + 1, 0], [10 * m + 1, 1]]]
        assert ax.get_xlabel() == label and [line.get_xydata().tolist() for line in ax.lines] == expected
        colours = [E.KINDS["rollout"], E.PLAIN["centre"], E.PLAIN["people"]]
        assert all(line.get_color() == colours[i // 2] for i, line in enumerate(ax.lines[:-1]))


# ------------------------------------------------------------------------------------------------ the script

def test_commands_of_the_card_parse():
    parsed = [E.parse(line.split()) for line in re.findall(r"exp06_models\.py(.*)$", E.__doc__, re.MULTILINE)]
    assert [a.model for a in parsed] == [E.DEMO_MODELS, ["dino_vits16", "dino_vitb16"], ["dinov2_vits14"]]
    assert [*parsed[0].size] == [224, 224] and [*parsed[1].size] == [480, 480] and parsed[2].tuned == [Path("tuned_B.pth")]


def test_a_run_stopped_between_batches_ends_as_an_undisturbed_one(world, tmp_path, monkeypatch):
    """Of a model, the same with another file, and one that exp01 tuned; an image without a file, a damaged one."""
    data = tmp_path / "data"
    shutil.copytree(world, data)
    (data / "images" / "03.png").unlink()
    damaged = data / "images" / "05.png"
    damaged.write_bytes(damaged.read_bytes()[:900])
    file = ROOT / "checkpoints" / "demo_sl12.pth"
    models = ["--model", f"demo_sl12={file}", f"auto={ROOT / 'checkpoints' / 'demo_dino4.pth'}", "--limit", "8",
              "--tuned", str(ROOT / "checkpoints" / "demo_B.pth")]
    monkeypatch.setattr(E, "draw", lambda *a: None)
    straight = run(data, tmp_path / "a", *models)
    sources = [f"{name}, {kind}" for name in ("demo_sl12", "demo_dino4", "demo_sl12+demo_B") for kind in E.KINDS]
    assert straight["sources"] == sources + ["GBVS", "centre", "others", "people"]
    assert straight["left_out"] == {"unreadable, or no fixation on it": ["03.png", "05.png"]}
    assert {row["n"] for row in straight["headline"]} == {4}
    found = rows_of(straight)
    assert found["demo_sl12, rollout: NSS"]["ours"] != found["demo_sl12+demo_B, rollout: NSS"]["ours"]
    stop = interrupted(E.measure, 2)
    monkeypatch.setattr(E, "measure", stop)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "b", *models)
    table = data / "fixations.csv"
    before = table.read_text()
    table.write_text(before + "a,00.png,1,1,.1\n")
    with pytest.raises(InputError, match="other"):
        run(data, tmp_path / "b", *models, "--resume")
    table.write_text(before)
    resumed = run(data, tmp_path / "b", *models, "--resume")
    assert stop.calls == 3  # two batches of the judged half, one of them begun twice
    assert (tmp_path / "a/per_image.csv").read_bytes() == (tmp_path / "b/per_image.csv").read_bytes()
    assert straight["headline"] == resumed["headline"]


def test_a_picture_that_opens_but_is_refused_chooses_no_head_and_is_left_out(world, tmp_path, monkeypatch):
    """16 bits of which 12 are used; one in each half. The eye was lost six times, on a picture that is judged."""
    shutil.copytree(world, tmp_path / "data")
    with (tmp_path / "data" / "fixations.csv").open("a") as file:
        file.write("a,07.png,0,0,.1\n" * 6)
    monkeypatch.setattr(E, "draw", lambda *a: None)
    whole = run(tmp_path / "data", tmp_path / "b", "--limit", "8")
    assert [note[:18] for note in whole["notes"]] == ["best head of demo_", "1.1% of the gaze i"]  # of 566
    for name in ("02.png", "03.png"):
        file = tmp_path / "data" / "images" / name
        grey = np.asarray(Image.open(file).convert("L")).astype(np.uint16) * 16
        Image.fromarray(grey).save(file)
    found = run(tmp_path / "data", tmp_path / "a", "--limit", "8", "--lost-at-zero")
    assert found["left_out"] == {"unreadable, or no fixation on it": ["02.png", "03.png"]}
    assert {row["n"] for row in found["headline"]} == {3} and {row["n"] for row in whole["headline"]} == {4}
    nss_of = np.load(tmp_path / "b" / "arrays.npz")["NSS of heads, demo_dino4"]  # (4, heads), of 00, 02, 04, 06
    block, head = divmod(int(nss_of[[0, 2, 3]].mean(0).argmax()), 6)
    assert found["notes"] == [f"best head of demo_dino4: block {block}, head {head}"]


@pytest.mark.parametrize("device", ["mps"])  # which is cuda and more: no float64
def test_the_study_is_computed_on_one_device(world, tmp_path, monkeypatch, device):
    monkeypatch.setattr(E, "draw", lambda *a: None)
    with one_device(device):
        run(world, tmp_path, "--device", device, "--limit", "4")


def test_two_processes_give_the_rows_of_one(world, tmp_path, monkeypatch):
    monkeypatch.setattr(E, "draw", lambda *a: None)
    run(world, tmp_path / "one", "--limit", "7")
    in_group(2, run, world, tmp_path / "two", "--limit", "7")
    a, b = (read_csv(tmp_path / name / "per_image.csv") for name in ("one", "two"))
    assert len(a) == len(b) == 3 * 7
    for x, y in zip(a, b):
        assert all(y[k] == (v if isinstance(v, str) else pytest.approx(v, rel=1e-4)) for k, v in x.items())


@pytest.mark.parametrize("argv, says", [
    ("--limit 3", "24 of 24 images can be read and have fixations, --limit 3"), ("--model vgg", "no model vgg"),
    ("--model demo_dino4 demo_dino4", "demo_dino4, demo_dino4: expected names that differ"),
    ("--model auto=plain.pth", "plain.pth: no such weight file"), ("--model demo_dino4=gone.pth", "gone.pth: no such"),
    ("--weights gone.pth", "--model NAME=FILE"), ("--tuned gone.pth", "gone.pth: no such weight file"),
    (f"--tuned {ROOT / 'checkpoints' / 'demo_B.pth'}", "tuned weights of this model")])
def test_wrong_arguments_end_before_anything_is_measured(argv, says, world, tmp_path):
    with pytest.raises(InputError, match=re.escape(says)):
        run(world, tmp_path / "out", *argv.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.real
def test_the_best_head_of_a_trained_vit_is_found_on_osie(tmp_path):
    weights = SHARED / "real" / "weights" / "dinov2_vits14_derived_fp16.pth"
    if not weights.exists():
        pytest.skip(f"no OSIE images and weights in {SHARED}; name their folder with GAZE_SHARED")
    E.main(["--data", str(SHARED / "real" / "osie"), "--model", f"dinov2_vits14={weights}", "--size", "224", "294",
            "--limit", "8", "--workers", "0", "--device", "cpu", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "results.json").read_text())
    found = rows_of(results)
    assert "block 8, head 4" in results["notes"][0] and found["dinov2_vits14, best head: NSS"]["ours"] > 1.2
    assert found["people: NSS"]["ours"] > found["GBVS: NSS"]["ours"] > found["centre: NSS"]["ours"] - .5
