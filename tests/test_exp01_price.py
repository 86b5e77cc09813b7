"""exp01_price: gains and costs are those of each lambda's own run, and what was tuned before is refused."""
import json
from pathlib import Path

import numpy as np
import pytest

import exp01_price as P
from by_formula import mcnemar, paired
from common import InputError
from results import save_arrays, write_json

GAINS = {"cc": "CC", "sauc": "shuffled AUC"}
ARGV = "--model demo_sl4 --limit 10 --device cpu --lam 5 .5".split()


def arrays_of(seed: int, models: str, effect: float) -> dict:
    """20 gaze images, 40 pictures: B's scores are above A's by `effect` on average, C's are not; both make more
    errors than A."""
    rng, order = np.random.default_rng(seed), ["ABC".index(k) for k in models]
    scores = {name: rng.uniform(.2, .6, (20, 1)) + rng.normal(0, .01, (20, 3)) + [0, effect, 0] for name in ("auc", *GAINS)}
    right = (rng.random((40, 1, 3)) < [.9, .9 - effect, .8]).astype(np.uint8)
    return {name: v[:, order] for name, v in scores.items()} | dict(
        models=np.array([*models]), benchmark_models=np.array([*models]), imagenet_correct=right[..., order])


@pytest.fixture
def studies(monkeypatch) -> dict:
    """exp01's main stands for runs of lambda .5, whose B is A, and of 5; {lambda: arrays}."""
    runs = {.5: arrays_of(1, "AC", .1), 5.: arrays_of(2, "ABC", .3)}

    def main(words: list[str]) -> None:
        args = P.exp01.parse(words)
        assert args.resume == args.out.exists() and args.model == "demo_sl4" and args.limit == 10  # its own arguments reach it
        save_arrays(args.out / "arrays.npz", **runs[args.lam])
        not_run = ["frost"] + ["model B: it is A"] * (args.lam == .5)
        write_json({"data": "demo", "images": 20, "not_run": not_run, "args": {"data": "demo"}}, args.out / "results.json")
    monkeypatch.setattr(P.exp01, "main", main)
    return runs


def test_every_row_is_the_gain_or_the_cost_of_its_own_run_and_model(studies, tmp_path, capsys):
    for _ in range(2):  # the same command again goes on
        P.main([*ARGV, "--out", str(tmp_path)])
    rows = {row["name"]: row for row in json.loads((tmp_path / "results.json").read_text())["headline"]}
    expected = {}
    for lam, of in studies.items():
        for i, k in list(enumerate(of["models"].tolist()))[1:]:
            for metric, label in GAINS.items():
                found = paired(of[metric][:, i], of[metric][:, 0])
                expected[f"lambda {lam:g}: {label}, {k} - A"] = np.array([found["mean"], *found["ci"]])
            right = of["imagenet_correct"][:, 0].astype(float)
            found = mcnemar(right[:, i], right[:, 0])
            expected[f"lambda {lam:g}: ImageNet top-1, {k} - A"] = 100 * np.array([found["diff"], *found["ci"]])
    assert rows.keys() == expected.keys()
    for name, numbers in expected.items():
        assert (rows[name]["ours"], *rows[name]["ci"]) == pytest.approx(numbers), name
    assert rows["lambda 5: CC, B - A"]["ci"][0] > .2  # planted
    low, high = rows["lambda 5: CC, C - A"]["ci"]  # and absent
    assert low < 0 < high
    assert "lambda 0.5: CC, C - A" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["not_run"] == ["frost", "model B: it is A"]


def test_a_model_without_a_classifier_has_gains_but_no_price(studies, tmp_path):
    for arrays in studies.values():
        del arrays["imagenet_correct"]
    P.main([*ARGV, "--out", str(tmp_path)])
    names = [row["name"] for row in json.loads((tmp_path / "results.json").read_text())["headline"]]
    assert len(names) == 6 and not any("ImageNet" in name for name in names)


def test_plot_only_reaches_exp01_which_measures_nothing(tmp_path):
    with pytest.raises(InputError, match="lambda0.5"):
        P.main([*ARGV, "--plot-only", "--out", str(tmp_path / "out")])


def test_the_figure_has_a_point_for_each_lambda_and_model(studies, tmp_path, monkeypatch):
    kept = {}
    monkeypatch.setattr(P.results, "save_figure", lambda fig, path: kept.update({path.name: fig}))
    P.main([*ARGV, "--out", str(tmp_path)])
    for ax, metric in zip(kept["fig_price"].axes, GAINS):
        lines = {line.get_label(): line.get_xydata() for line in ax.lines if "lambda" in line.get_label()}
        assert [len(lines[f"{k}, by lambda"]) for k in "BC"] == [1, 2]
        of = studies[5.]
        right = of["imagenet_correct"][:, 0].astype(float).mean(0)
        b = 100 * (right[1] - right[0]), (of[metric][:, 1] - of[metric][:, 0]).mean()
        np.testing.assert_allclose(lines["B, by lambda"], [b])
        answers = of["imagenet_correct"][:, 0].T.astype(float)
        across, up = 100 * np.array(mcnemar(answers[1], answers[0])["ci"]), paired(*of[metric].T[[1, 0]])["ci"]
        bars = [line.get_xydata().ravel().tolist() for line in ax.lines if len(line.get_xdata()) == 2]
        for bar in ([across[0], b[1], across[1], b[1]], [b[0], up[0], b[0], up[1]]):
            assert any(np.allclose(bar, other) for other in bars)
        assert sorted(text.get_text() for text in ax.texts) == ["0.5", "5", "5"]


@pytest.mark.parametrize("more, says", [
    (["--model-b", "b.pth"], "were tuned with a lambda of their own"),
    (["--data", "{world}"], "world: no ImageNet there, whose accuracy is the price"),
    (["--limit", "0"], None)])
def test_wrong_input_is_refused_before_any_run(studies, tmp_path, more, says, capsys):
    (tmp_path / "world" / "salicon").mkdir(parents=True)
    more = [word.format(world=tmp_path / "world") for word in more]
    with pytest.raises(InputError if says else SystemExit, match=says or "2"):
        P.main([*ARGV, *more, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_commands_that_differ_have_folders_that_differ():
    folders = [P.parse(words).out for words in ([], ["--limit", "9"], ["--lam", "1", "3"], ["--lam", "3", "1"])]
    assert P.parse("--lam 5 .5 70 8".split()).lam == [.5, 5, 8, 70]
    assert folders[2] == folders[3] == Path("runs/exp01_price/demo_lam1-3") and len(set(folders)) == 3
