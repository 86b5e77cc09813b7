"""exp05_claims: every line of the table and every test equals plain sums over heads of which no two are alike."""
import numpy as np
import pytest
from scipy import stats

import exp05_claims as P
import exp05_gaze_video as E
from results import evaluate


def test_best_heads_are_the_smallest_of_each_model():
    distance = np.array([9, 1, 8, 2, 7, 3, 4, 50, 51, 52, 53, 54, 55.])
    model = np.array(["a"] * 7 + ["b"] * 6)
    assert P.best_heads(distance, model).tolist() == [1, 2, 3, 4, 7, 50, 51, 52, 53, 54]


def test_groups_are_not_tested_against_all_viewers_who_include_them():
    def names(*groups: str) -> list[str]:
        kind = np.repeat([*(f"viewer {g}" for g in groups), "dino4"], 5)
        model = np.where(kind == "dino4", "dino4.0", "")
        return [t["name"] for t in P.compare_kinds("all", kind, model, np.arange(len(kind), dtype=float))]
    assert names("adult", "old") == ["all, heads: viewer old vs viewer adult",
                                     "all, heads: dino4 vs viewer adult"]
    assert names("child", "old") == ["all, heads: dino4 vs all viewers"]


@pytest.mark.parametrize("layout, factor", [("any", 2), ("n2010", 10), ("cw2019", 7)])
def test_p_on_the_papers_data_is_corrected_as_the_paper_does(layout, factor):
    kind = np.repeat(["viewer adult", "viewer child", "dino4"], 6)
    model = np.array([""] * 12 + ["dino4.0"] * 6)
    distance = np.array([1., 3, 5, 7, 9, 11, 2, 4, 6, 8, 10, 12, 1.5, 3.5, 5.5, 7.5, 9.5, 20])
    tests = [t for t in P.compare_kinds("all", kind, model, distance, layout) if "adult" in t["name"]]
    assert [t["n_tests"] for t in tests] == [factor, factor]
    for test, other in zip(tests, (distance[6:12], np.sort(distance[12:])[:5])):
        p = stats.mannwhitneyu(other, distance[:6], method="exact").pvalue
        assert test["p_bonferroni"] == pytest.approx(min(1, factor * p))


def test_the_model_is_a_unit_from_three_models_on():
    kind = np.repeat(["viewer adult", "dino4", "sl4"], 18)
    model = np.array([""] * 18 + [f"dino4.{i // 6}" for i in range(18)] + [f"sl4.{i // 6}" for i in range(18)])
    tests = {t["name"]: t for t in P.compare_kinds("all", kind, model, np.arange(54.))}
    assert tests["all, heads: dino4 vs sl4"]["n"] == [15, 15]
    assert tests["all, models: dino4 vs sl4"]["medians"] == [26, 44]
    two = np.array([name.replace(".2", ".1") for name in model.tolist()])
    assert not any("models" in t["name"] for t in P.compare_kinds("all", kind, two, np.arange(54.)))


def hand_made() -> dict[str, np.ndarray]:
    """Everyone in two sets of clips, no two alike: models of 7 heads (dino4 and sl4 three, dino8 and sl8 one),
    two official ones, GBVS, 8 adults, 5 children, of whom one met nobody."""
    rng = np.random.default_rng(5)
    runs = [(f"{k}.{i}", k, 7) for k, n in (("dino4", 3), ("sl4", 3), ("dino8", 1), ("sl8", 1)) for i in range(n)]
    runs += [(f"{k}.0", k, 7) for k in P.OFFICIAL]
    rows = [(f"{name} block 0 head {h}", kind, name) for name, kind, n in runs for h in range(n)]
    rows += [(name, "GBVS", "") for name in E.CHANNELS]
    rows += [(f"v{i:02d}", "viewer adult" if i < 8 else "viewer child", "") for i in range(13)]
    condition, kind, model = map(np.array, zip(*rows))
    near = dict(zip(dict.fromkeys(kind.tolist()), (60, 95, 70, 120, 65, 90, 100, 50, 58)))
    distance = np.array([rng.normal(near[k], 16) for k in kind])
    other = np.where(kind == "sl8", -.5, .5) * distance + rng.normal(0, 12, len(kind))
    distance[[condition.tolist().index("v12"), condition.tolist().index("GBVS flicker")]] = np.nan
    other[3] = np.nan
    return dict(condition=condition, kind=kind, model=model, distance=np.stack([distance, other]),
                sets=["all", "CW2019: drama"])


def five_best(a: dict, kind: str) -> np.ndarray:
    return np.concatenate([sorted(a["distance"][0][a["model"] == m])[:5]
                           for m in sorted(set(a["model"][a["kind"] == kind]))])


@pytest.mark.parametrize("layout, factor", [("n2010", 10), ("any", 8)])
def test_every_line_of_the_table_and_every_test_is_worked_out_for_hand_made_distances(layout, factor):
    a = hand_made()
    kind, model, distance = a["kind"], a["model"], a["distance"][0]
    kinds = list(dict.fromkeys(kind.tolist()))
    tests = P.compare_kinds("all", kind, model, distance, layout)
    adults, groups = distance[kind == "viewer adult"], {"viewer child": distance[kind == "viewer child"][:4]}
    groups |= {k: five_best(a, k) for k in kinds[:6]}
    groups["GBVS"] = np.delete(distance[kind == "GBVS"], list(E.CHANNELS).index("GBVS flicker"))
    medians = {k: np.median(five_best(a, k).reshape(3, 5), 1) for k in ("dino4", "sl4")}
    wanted = {f"all, heads: {k} vs viewer adult": (v, adults, factor) for k, v in groups.items()}
    wanted |= {f"all, heads: dino{n} vs sl{n}": (groups[f"dino{n}"], groups[f"sl{n}"], 1) for n in (4, 8)}
    for k, v in medians.items():
        wanted[f"all, models: {k} vs viewer adult"] = v, adults, 10 if layout == "n2010" else 2
    wanted["all, models: dino4 vs sl4"] = medians["dino4"], medians["sl4"], 1
    assert [t["name"] for t in tests if "dino4 vs sl4" not in t["name"] and "dino8 vs sl8" not in t["name"]] == \
        [name for name in wanted if "vs sl" not in name] and len(tests) == len(wanted)
    numbers = {}
    for t in tests:
        x, y, n = wanted[t["name"]]
        p = stats.mannwhitneyu(x, y, method="exact").pvalue
        pooled = ((len(x) - 1) * x.var(ddof=1) + (len(y) - 1) * y.var(ddof=1)) / (len(x) + len(y) - 2)
        above = np.sign(x[:, None] - y).mean()
        numbers[t["name"]] = dict(p=p, p_bonferroni=min(1, n * p), d=(x.mean() - y.mean()) / pooled ** .5)
        assert (t["p"], t["p_bonferroni"], t["d"], t["delta"], t["U"]) == pytest.approx(
            (p, min(1, n * p), (x.mean() - y.mean()) / pooled ** .5, above, (above + 1) / 2 * len(x) * len(y)))
        assert t["n_tests"] == n and t["n"] == [len(x), len(y)]
        assert t["medians"] == pytest.approx([np.median(x), np.median(y)])
    r = P.set_correlations(a["sets"], a, a["distance"])
    assert [t["name"] for t in r] == [f"{k}: all and CW2019: drama" for k in kinds[:6]]
    pairs = {k: a["distance"][:, (kind == k) & np.isfinite(a["distance"]).all(0)] for k in kinds[:6]}
    for t, xy in zip(r, pairs.values()):
        found = stats.pearsonr(*xy)
        assert (t["r"], t["p"], t["n"]) == pytest.approx((found.statistic, found.pvalue, xy.shape[1]))
    assert r[0]["n"] == 20 and min(t["r"] for t in r) < 0
    rows = {row["name"]: row for row in evaluate(P.claims(layout, kinds, {"all": "px"}), a, tests + r)}
    lines = {f"{k}, 5 best heads": (np.median(groups[k]), len(groups[k])) for k in kinds[:4]}
    lines |= {f"{k}, best head": (distance[kind == k].min(), 7) for k in P.OFFICIAL}
    lines |= {("GBVS, all channels" if name == "GBVS" else name): (distance[a["condition"] == name][0], 1)
              for name in E.CHANNELS if name != "GBVS flicker"}
    lines |= {"viewer adult": (np.median(adults), 8), "viewer child": (np.median(groups["viewer child"]), 4)}
    if layout == "any":
        assert set(E.CHANNELS) - {"GBVS", "GBVS flicker"} <= set(rows)
    for k, v in groups.items():
        lines[f"{k} vs viewer adult"] = numbers[f"all, heads: {k} vs viewer adult"]["p_bonferroni"], len(v) + 8
    lines["dino8 vs viewer adult, Cohen's d"] = numbers["all, heads: dino8 vs viewer adult"]["d"], 13
    for n, size in ((4, 30), (8, 10)):
        lines[f"dino{n} vs sl{n}"] = numbers[f"all, heads: dino{n} vs sl{n}"]["p"], size
    for k in kinds[:4]:
        lines[f"{k}: heads' distances on N2010 and drama"] = np.corrcoef(*pairs[k])[0, 1], pairs[k].shape[1]
    assert set(rows) == set(lines)
    for name, (ours, n) in lines.items():
        assert (rows[name]["ours"], rows[name]["n"]) == pytest.approx((ours, n)), name
    in_drama, sl4 = a["distance"][1], kind == "sl4"
    five = np.concatenate([np.sort(in_drama[model == m])[:5] for m in sorted(set(model[sl4]))])
    genre = {row["name"]: row for row in evaluate(P.claims("cw2019", kinds, {"drama": "medians"}),
                                                 a | dict(sets=["all", "drama"]), [])}
    assert genre["drama: sl4, 5 best heads"]["ours"] == pytest.approx(np.median(five))
    assert genre["drama: viewer adult"]["ours"] == pytest.approx(np.median(in_drama[kind == "viewer adult"]))
    best, other = (distance[np.char.startswith(kind, k) & (model != "")].min() for k in ("dino", ("sl")))
    nearest = [int(np.flatnonzero(distance == v)[0]) for v in
               (best, min(other, distance[kind == P.OFFICIAL[1]].min()))]
    assert E.nearest_heads(a, distance) == sorted(nearest, key=lambda row: distance[row])
    closer = np.where(kind == P.OFFICIAL[1], distance / 100, distance)  # DeiT is of the others, not of DINO
    deit = int(np.where(kind == P.OFFICIAL[1], closer, np.inf).argmin())
    assert E.nearest_heads(a, closer) == [deit, nearest[0]]


def test_every_claim_of_the_paper_has_a_row():
    """The claims of the paper's text as far as exp05_gaze_video shows them; the clusters', the regions', the
    courses' and the animals' are rows of exp05_clusters."""
    trained = [f"{method}{depth}" for method in ("dino", "sl") for depth in (4, 8, 12)]
    viewers = ["viewer adult", "viewer child", "viewer adult ASD", "viewer child ASD"]
    n2010 = {c.name: c.paper for c in P.claims("n2010", [*trained, *P.OFFICIAL, "GBVS", *viewers],
                                               {"all": "px"})}
    units = {name: "median between viewers" for name in ("all", "animation", "drama", "nature")}
    cw2019 = {c.name: c.paper for c in P.claims("cw2019", [*trained, *P.OFFICIAL, "GBVS", "viewer"], units)}
    said = {
        "DINO models come nearer to viewers with depth": {f"dino{n}, 5 best heads": px for n, px in
                                                           ((4, 94.2), (8, 74.8), (12, 62.6))},
        "supervised models stay away": {f"sl{n}, 5 best heads": px for n, px in
                                        ((4, 166.5), (8, 155.7), (12, 147.6))},
        "the official models do the same": {"dino_vits16, best head": 53.1,
                                            "deit_small_patch16_224, best head": 88.2},
        "GBVS, all channels and each": {
            "GBVS, all channels": 137., "GBVS intensity": 108.2, "GBVS orientation": 101.9,
            "GBVS contrast": 150.2, "GBVS flicker": 162.6, "GBVS motion": 154.9, "GBVS colour": 134.3},
        "DINO-12 does not differ from adults": {"dino12 vs viewer adult": .1},
        "everyone else does": {
            "viewer child vs viewer adult": .0039, "viewer adult ASD vs viewer adult": .00051,
            "viewer child ASD vs viewer adult": 6.2e-10, "dino4 vs viewer adult": 2.1e-9,
            "dino8 vs viewer adult": 4.1e-5, "sl4 vs viewer adult": 1.4e-15, "sl8 vs viewer adult": 1e-14,
            "sl12 vs viewer adult": 5.3e-13, "GBVS vs viewer adult": 3.7e-6},
        "DINO-8's effect against adults": {"dino8 vs viewer adult, Cohen's d": 1.43},
        "DINO differs from supervised at each depth": {f"dino{n} vs sl{n}": "<= 8.2e-07" for n in (4, 8, 12)}}
    for claim, numbers in said.items():
        assert numbers.items() <= n2010.items(), claim
    by_genre = {"viewer": (.68, .70, .72), "dino4, 5 best heads": (1.30, 1.40, 1.22),
                "dino8, 5 best heads": (.94, 1.14, 1.11), "dino12, 5 best heads": (.92, 1.13, 1.08),
                "sl4, 5 best heads": (2.54, 2.19, 2.12), "sl8, 5 best heads": (2.20, 1.95, 1.83),
                "sl12, 5 best heads": (1.94, 1.95, 1.82), "dino_vits16, best head": (.97, 1.04, 1.11),
                "GBVS, all channels": (1.63, 1.40, 1.18)}
    r = {"dino4": (.93, .90, .91), "dino8": (.96, .95, .91), "dino12": (.94, .90, .89),
         "sl4": (.91, .92, .89), "sl8": (.94, .91, .84), "sl12": (.93, .88, .79)}
    for i, genre in enumerate(("drama", "animation", "nature")):
        for who, numbers in by_genre.items():
            assert cw2019[f"{genre}: {who}"] == numbers[i]
        for kind, numbers in r.items():
            for table in (n2010, cw2019):
                assert table[f"{kind}: heads' distances on N2010 and {genre}"] == numbers[i]
    missing = [name for name, paper in cw2019.items() if paper is None]
    assert missing == [f"{genre}: deit_small_patch16_224, best head" for genre in P.PAPER_R]  # not told
