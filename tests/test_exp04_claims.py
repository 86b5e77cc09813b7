"""exp04_claims: every line of the table equals plain sums over images of which no two are alike."""
import numpy as np
import pytest
from scipy import stats

import exp04_claims as C

N, DEPTH, SEED = 240, 5, 3
NAMES = [f"{kind} fovea{f}" for kind in ("attention", "random") for f in (5, 3)]
NAMES += [f"block{b:02d} {grid}" for grid in ("full", "12x12", "10x10", "8x8") for b in range(DEPTH)]


def run() -> dict:
    """Arrays of a run with foveas 5 and 3 and --sweep: conditions differ in how often they are correct and in
    what they reveal, saccades and images too; 20 images are never correct; some see half of the image."""
    rng = np.random.default_rng(0)
    ease = np.r_[np.zeros(20), rng.uniform(.3, 1.3, N - 20)]
    gain = rng.uniform(.2, .8, len(NAMES))[:, None] * np.linspace(.6, 1.2, 10)
    correct = rng.random((N, len(NAMES), 10)) < ease[:, None, None] * gain
    tokens = np.sort(rng.integers(9, 190, (N, len(NAMES), 10)))
    tokens[::5, :, 4] = 98  # half of 196
    return dict(
        conditions=np.array(NAMES), correct=correct, tokens=np.sort(tokens), n_tokens=np.full(N, 196),
        certainty=(.3 * rng.random(correct.shape) + .4 * correct).astype(np.float32),
        certainty_full=rng.random(N), label=rng.integers(0, 5, N), classes=np.array(list("abcdefg")),
        correct_full=rng.random(N) < .7, entropy=rng.uniform(4, 7, N), pred_full=np.zeros(N),
        **{key: np.zeros(correct.shape) for key in ("pred", "row", "col")})


def share(right, among=None) -> tuple:
    """(%, low, high, n) of answers, with Wilson's interval."""
    kept = [bool(x) for x, y in zip(right, np.ones(N) if among is None else among) if y]
    ci = stats.binomtest(sum(kept), len(kept)).proportion_ci(method="wilson")
    return 100 * sum(kept) / len(kept), 100 * ci.low, 100 * ci.high, len(kept)


def answers(a, b) -> tuple:
    """(points, low, high, n) of two rows of answers: the adjusted Wald interval of Bonett & Price."""
    gained, lost = sum(x > y for x, y in zip(a, b)), sum(x < y for x, y in zip(a, b))
    d, s = (gained - lost) / (N + 2), (gained + lost + 2) / (N + 2)
    half = 1.959964 * ((s - d * d) / (N + 2))**.5
    return 100 * (gained - lost) / N, 100 * (d - half), 100 * (d + half), N


def numbers(a, b, scale=1., among=None) -> tuple:
    """(mean difference, low, high, n) of two rows of numbers: the paired t test's interval."""
    kept = slice(None) if among is None else among
    test = stats.ttest_rel(np.asarray(a, float)[kept], np.asarray(b, float)[kept])
    ci = test.confidence_interval()
    mean = np.mean(np.asarray(a, float)[kept]) - np.mean(np.asarray(b, float)[kept])
    return scale * mean, scale * ci.low, scale * ci.high, test.df + 1


def slope(first, y, among) -> tuple:
    """(slope, low, high, n) of a straight line through y over the saccade of first success."""
    x, y = first[among].astype(float), y[among]
    x, n = x - x.mean(), among.sum()
    b = (x * y).sum() / (x * x).sum()
    rest = y - y.mean() - b * x
    half = stats.t.ppf(.975, n - 2) * ((rest**2).sum() / (n - 2) / (x * x).sum())**.5
    return b, b - half, b + half, n


def changes(row: list) -> list[list[int]]:
    """Of the ten answers to an image, where it is lost, back, still wrong after a loss, still right."""
    found = [[0] * 10 for _ in range(4)]
    was_lost = False
    for s in range(1, 10):
        before, now = row[s - 1], row[s]
        if was_lost:
            found[{(0, 1): 1, (0, 0): 2, (1, 1): 3}.get((int(before), int(now)), 0)][s] = 1
        elif before and not now:
            found[0][s] = 1
        was_lost = was_lost or before and not now
    return found


def stopped(certainty, correct, tokens) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(correct, tokens, which images) of the second half, each stopped at its first saccade of a certainty that
    in the first half costs the fewest tokens and at most a hundredth of the accuracy of ten saccades."""
    choosing = np.random.default_rng([SEED, 4]).permutation(N) < N // 2
    best, cheapest = None, np.inf
    for threshold in [*np.quantile(certainty[choosing], np.linspace(0, 1, 200)), 2.]:
        at = [next((s for s in range(10) if row[s] >= threshold), 9) for row in certainty]
        right, seen = (np.array([row[s] for row, s in zip(v, at)]) for v in (correct, tokens))
        loss = correct[choosing, 9].mean() - right[choosing].mean()
        if loss <= .01 and seen[choosing].mean() < cheapest:
            best, cheapest = (right[~choosing], seen[~choosing], ~choosing), seen[choosing].mean()
    return best


def of_a_fovea(a: dict, f: int) -> dict[str, tuple]:
    """{line of the table: (ours, low, high, n)} of attention and random maps with a fovea."""
    k, m = NAMES.index(f"attention fovea{f}"), NAMES.index(f"random fovea{f}")
    att, rnd = a["correct"][:, k].astype(float), a["correct"][:, m].astype(float)  # (n, 10)
    full, sure_full = a["correct_full"].astype(float), a["certainty_full"]
    sure, unsure = a["certainty"][:, k].astype(float), a["certainty"][:, m].astype(float)
    first, first_random = (np.array([[*row, 1].index(1) + 1 for row in v]) for v in (att, rnd))  # 11: never
    ever, ever_random = first < 11, first_random < 11
    lost, back, still_wrong, still_right = np.array([changes(row) for row in att]).transpose(1, 0, 2)
    below_half = np.array([sum(t < 98 for t in row) for row in a["tokens"][:, k]])
    known = full == 1
    lines = {}
    for name, v in (("attention", att), ("random", rnd)):
        lines |= {f"accuracy, {name}, saccade {s}": share(v[:, s - 1]) for s in (1, 2, 3, 5, 10)}
        lines[f"saccade 10 - 1, {name}"] = answers(v[:, 9], v[:, 0])
    for s in (1, 2, 3, 5, 10):
        lines[f"attention - random, saccade {s}"] = answers(att[:, s - 1], rnd[:, s - 1])
    for name, v, c, start in (("attention", att, sure, first), ("random", rnd, unsure, first_random)):
        later = known & (start > 1) & (start < 11)
        here = np.array([c[i, min(start[i], 10) - 1] for i in range(N)])
        before = np.array([c[i, start[i] - 2] for i in range(N)])
        lines[f"certainty, first correct - before, {name}"] = numbers(here, before, 100, later)
        lines[f"certainty, saccade 10 - first correct, {name}"] = numbers(c[:, 9], here, 100, later)
    lines |= {
        "gap at saccade 1 - at 10": numbers(att[:, 0] - rnd[:, 0], att[:, 9] - rnd[:, 9], 100),
        "attention - random, mean of all": numbers(att.mean(1), rnd.mean(1), 100),
        "gain to saccade 5 - from 5 to 10": numbers(2 * att[:, 4], att[:, 0] + att[:, 9], 100),
        "accuracy, saccade 10 - full image": answers(att[:, 9], full),
        "correct in full: also with less than half seen": share(
            [att[i, max(below_half[i] - 1, 0)] for i in range(N)], known),
        "visible, attention - random": numbers(
            a["tokens"][:, k].mean(1), a["tokens"][:, m].mean(1), 100 / 196),
        "correct at least once - full": answers(ever, full),
        "changes of the answer, saccades 2 to 5 - 6 to 10": numbers(
            (lost + back)[:, 1:5].sum(1), (lost + back)[:, 5:].sum(1)),
        "of those changed to wrong, correct again": share(back.any(1), lost.any(1)),
        "still wrong after a change, saccade 10 - 5": answers(still_wrong[:, 9], still_wrong[:, 4]),
        "still correct after one, saccade 10 - 5": answers(still_right[:, 9], still_right[:, 4]),
        "correct at most saccades": share(att.sum(1) > 5),
        "wrong in full: correct at most saccades": share(att.sum(1) > 5, ever & ~known),
        "certainty, attention - random": numbers(
            sure.mean(1), unsure.mean(1), 100, known & ever & ever_random),
        "certainty, attention - random, with never correct": numbers(
            sure.mean(1), unsure.mean(1), 100, known),
        "certainty, attention - full image": numbers(sure.mean(1), sure_full, 100, known & ever),
        "certainty, attention - full image, with never correct": numbers(
            sure.mean(1), sure_full, 100, known),
        "full-image certainty per saccade needed": slope(first, 100 * sure_full, ever & known),
        "entropy per saccade needed, attention": slope(first, a["entropy"], ever),
        "entropy per saccade needed, random": slope(first_random, a["entropy"], ever_random),
        "lowest entropy, never correct, attention": (min(a["entropy"][~ever]), None, None, sum(~ever)),
        "lowest entropy, never correct, random": (
            min(a["entropy"][~ever_random]), None, None, sum(~ever_random))}
    early, seen, judged = stopped(a["certainty"][:, k], att, a["tokens"][:, k])
    gain, loss = (early > att[judged, 9]).sum(), (early < att[judged, 9]).sum()
    lines["accuracy, stopped early - at saccade 10"] = (100 * (gain - loss) / judged.sum(), ..., ..., N // 2)
    part = 100 * seen / a["tokens"][judged, k, 9]
    lines["tokens when stopped early"] = (part.mean(), ..., ..., N // 2)
    return {f"fovea {f}: {name}": line for name, line in lines.items()}


def of_both_and_of_the_sweep(a: dict) -> dict[str, tuple]:
    right = dict(zip(NAMES, a["correct"].astype(float).transpose(1, 0, 2)))  # {condition: (n, 10)}
    seen = dict(zip(NAMES, a["tokens"].transpose(1, 0, 2)))
    mean = {name: v.mean(1) for name, v in right.items()}
    five, three, noise = "attention fovea5", "attention fovea3", "random fovea5"
    every = {grid: sum(mean[f"block{b:02d} {grid}"] for b in range(5)) / 5
             for grid in ("full", "12x12", "10x10", "8x8")}
    lines = {
        "fovea 5 - 3: accuracy, mean of all": numbers(mean[five], mean[three], 100),
        "fovea 5 - 3: correct at least once": answers(right[five].max(1), right[three].max(1)),
        "fovea 5: accuracy, saccade 5 - full image": answers(
            right[five][:, 4], a["correct_full"].astype(float)),
        "accuracy, block00 - random": numbers(mean["block00 full"], mean[noise], 100),
        "accuracy, block01 - random": numbers(mean["block01 full"], mean[noise], 100),
        "accuracy, block03 - block02": numbers(mean["block03 full"], mean["block02 full"], 100),
        "accuracy, last block - block00": numbers(mean["block04 full"], mean["block00 full"], 100),
        "visible, last block - block00": numbers(
            seen["block04 full"].mean(1), seen["block00 full"].mean(1))}
    for grid in ("12x12", "10x10", "8x8"):
        last = f"block04 {grid}"
        lines |= {
            f"accuracy, {grid} maps - random": numbers(mean[last], mean[noise], 100),
            f"accuracy, {grid} maps - full maps": numbers(mean[last], mean["block04 full"], 100),
            f"visible, {grid} maps - full maps": numbers(seen[last].mean(1), seen["block04 full"].mean(1)),
            f"accuracy, every block's {grid} maps - random": numbers(every[grid], mean[noise], 100),
            f"accuracy, every block's {grid} maps - full maps": numbers(every[grid], every["full"], 100)}
    return lines


def test_every_line_of_the_table_equals_plain_sums_over_the_images():
    arrays = run()
    rows = {row["name"]: row for row in C.claims(arrays, [5, 3], True, SEED)}
    expected = {"accuracy, full image": share(arrays["correct_full"])}
    expected |= of_a_fovea(arrays, 5) | of_a_fovea(arrays, 3) | of_both_and_of_the_sweep(arrays)
    assert set(rows) == set(expected)
    for name, (ours, low, high, n) in expected.items():
        assert rows[name]["ours"] == pytest.approx(ours, abs=1e-9), name
        assert rows[name]["n"] == n, name
        if low is None:
            assert rows[name]["ci"] is None, name
        elif low is not ...:
            assert rows[name]["ci"] == pytest.approx((low, high), rel=1e-4, abs=1e-4), name
    for f in (5, 3):
        tokens = rows[f"fovea {f}: tokens when stopped early"]
        assert tokens["ci"][0] < tokens["ours"] < tokens["ci"][1] and tokens["unit"] == "% of saccade 10"


def test_the_half_that_chooses_the_threshold_changes_with_the_seed():
    t = C.condition(run(), "attention fovea5")
    assert C.stopping(t, 0)[1]["tokens"].tolist() != C.stopping(t, 1)[1]["tokens"].tolist()


def test_chance_counts_the_classes_of_the_head_and_without_them_those_shown():
    arrays = run()
    assert C.condition(arrays, "random fovea3")["chance"] == pytest.approx(1 / 7)
    del arrays["classes"]
    assert C.condition(arrays, "random fovea3")["chance"] == pytest.approx(1 / 5)


def test_entropies_of_other_grids_are_not_held_against_the_papers_bits():
    arrays = run() | dict(n_tokens=np.full(N, 256))
    names = [row["name"] for row in C.claims(arrays, [5], False, SEED)]
    assert not any("lowest entropy" in name for name in names)
    assert "fovea 5: entropy per saccade needed, random" in names
