"""The house rules that a reader relies on: short files and functions, no import in a circle, files to copy alone."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = {  # lines, upper bounds
    "common.py": 778, "corruptions.py": 345, "data.py": 436, "download.py": 82, "exp01_benchmarks.py": 367,
    "exp01_claims.py": 224, "exp01_finetune_vit.py": 555, "exp01_price.py": 138, "exp02_resnet.py": 212,
    "exp03_biases.py": 454, "exp04_beyond.py": 367, "exp04_claims.py": 292, "exp04_saccades.py": 588,
    "exp04_saliency.py": 451, "exp05_claims.py": 167, "exp05_clusters.py": 384, "exp05_data.py": 391,
    "exp05_evaluate_vits.py": 221, "exp05_frames.py": 240, "exp05_gaze_video.py": 509,
    "exp05_looks.py": 254, "exp05_scaling.py": 210, "exp05_train_vits.py": 520,
    "exp06_gaze_objects.py": 601, "exp06_models.py": 239, "gaze.py": 403, "gbvs.py": 239,
    "reproduce.py": 302, "results.py": 553, "unisal.py": 166, "weights.py": 547}
DEMO_BUDGET = 1295
TRAINING = {("exp01_finetune_vit", "train"): 50, ("exp05_train_vits", "train"): 50}  # the one exception to 40
LONGEST = 40
NAMES = 30  # names imported from the project by a script
ALONE = "gbvs.py", "unisal.py", "corruptions.py"
FILES = sorted([*ROOT.glob("*.py"), *ROOT.glob("demo/*.py")])
OURS = {path.stem for path in ROOT.glob("*.py")} | {"demo"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, whole: bool = False) -> dict[str, list[str]]:
    """{module of the project: names} imported at the top of a file, or anywhere in it."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree(path)) if whole else tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            found.setdefault(node.module.split(".")[0], []).extend(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in OURS:
                    found.setdefault(alias.name.split(".")[0], []).append(alias.name)
    return found


def length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("name", BUDGETS)
def test_every_file_is_within_its_budget(name):
    assert length(ROOT / name) <= BUDGETS[name]


def test_the_demo_world_is_within_its_budget_and_imports_common_alone():
    assert sum(length(path) for path in ROOT.glob("demo/*.py")) <= DEMO_BUDGET
    for path in ROOT.glob("demo/*.py"):
        assert set(imports(path, whole=True)) <= {"common", "demo"}, path.name


def test_no_file_without_a_budget():
    assert {path.name for path in ROOT.glob("*.py")} == set(BUDGETS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_functions_and_lines_are_short(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= TRAINING.get((path.stem, node.name), LONGEST), f"{node.name} has {lines} lines"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert len(line) <= 110, f"line {number}"


@pytest.mark.parametrize("path", [p for p in FILES if p.name.startswith("exp")], ids=lambda p: p.name)
def test_a_script_imports_few_names_of_the_project(path):
    assert sum(map(len, imports(path).values())) <= NAMES


@pytest.mark.parametrize("name", ALONE)
def test_a_file_to_copy_imports_nothing_of_the_project(name):
    assert not imports(ROOT / name, whole=True)


def test_no_import_goes_in_a_circle():
    edges = {path.stem: set(imports(path, whole=True)) for path in ROOT.glob("*.py")}
    edges["demo"] = set().union(*(imports(path, whole=True) for path in ROOT.glob("demo/*.py"))) - {"demo"}
    while leaves := [name for name, needs in edges.items() if not needs & set(edges)]:
        for name in leaves:
            del edges[name]
    assert not edges


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_nothing_loads_loosely_or_runs_code_of_a_file(path):
    text = path.read_text(encoding="utf-8")
    for word in ("strict=False", "weights_only=False", "allow_pickle=True", "plt.show", ".cuda()"):
        assert word not in text
