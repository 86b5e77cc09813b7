"""Files and functions to copy work alone: a file as it is, a function with the few names that it needs."""
import ast
import math
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from processes import python

ROOT = Path(__file__).resolve().parents[1]
SOURCE = {p.stem: p.read_text(encoding="utf-8") for p in ROOT.glob("*.py")}

COPIES = {  # function: its file, names that it brings along; of a file to be copied whole, none
    "cls_attention": ("common.py", """
        InputError Attention LayerScale Block Encoded VisionTransformer resize_matrix
        pos_embed_for rotary_angles rotate attend attend_in_groups""".split()),
    "rollout": ("common.py", ["InputError"]),
    "cc": ("common.py", ["InputError", "pixels"]),
    "nss": ("common.py", ["InputError", "pixels"]),
    "auc_judd": ("common.py", ["InputError", "pixels"]),
    "kld": ("common.py", ["InputError", "pixels"]),
    "sim": ("common.py", ["InputError", "pixels"]),
    "density_map": ("common.py", ["InputError", "fixation_counts"]),
    "bf01_jzs": ("common.py", []),
    "gbvs": ("gbvs.py", []),
    "UNISAL": ("unisal.py", []),
    "fixation_sequence": ("exp04_saccades.py", ["SUPPRESSED", "common.InputError"]),
    "corrupt": ("corruptions.py", []),
    "grad_cam": ("exp02_resnet.py", ["features_and_cam", "common.InputError"]),
    "head_gaze": ("exp05_gaze_video.py", ["corner_means"]),
    "mds": ("exp05_scaling.py", ["classical"]),
    "kl_sweep": ("exp06_gaze_objects.py", """
        EPS METRICS SSIM_SD SSIM_RADIUS SSIM_C ssim common.InputError common.minmax
        common.gaussian_blur common.pixels common.kld common.cc common.sim""".split())}


@lru_cache
def definitions(text: str) -> dict[str, str]:
    """{name: source} of the functions, classes and constants of a module."""
    out = {}
    for node in ast.parse(text).body:
        names = [node.name] if hasattr(node, "name") else [
            v.id for t in getattr(node, "targets", []) for v in ast.walk(t) if isinstance(v, ast.Name)]
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        out |= dict.fromkeys(names, "\n".join(text.split("\n")[first - 1:node.end_lineno]))
    return out


def copied(name: str) -> dict:
    """The namespace of an empty file into which the function, its names and the imports were copied."""
    file, along = COPIES[name]
    own = Path(file).stem
    imports = {ast.unparse(node): None for stem in ("common", own) for node in ast.parse(SOURCE[stem]).body
               if isinstance(node, ast.Import)
               or isinstance(node, ast.ImportFrom) and node.module not in [*SOURCE, "__future__"]}
    home = {n.removeprefix("common."): "common" if n.startswith("common.") else own for n in [name, *along]}
    parts = {n: definitions(SOURCE[stem])[n] for n, stem in home.items()}
    order = sorted(parts, key=lambda n: (home[n] != "common", SOURCE[home[n]].index(parts[n])))
    lines = ["from __future__ import annotations", *imports, *dict.fromkeys(parts[n] for n in order)]
    exec(compile("\n\n".join(lines), f"<copy of {name}>", "exec"), space := {"__name__": "copy"})
    return space


def a_vit(space: dict) -> torch.nn.Module:
    model = space["VisionTransformer"](img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2)
    model.init_weights(torch.Generator().manual_seed(0))
    return model.eval()


def attention_maps(space):
    model, x = a_vit(space), torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        maps = space["cls_attention"](model, x)  # (B, L, H, h, w)
        full = model.encode(model.embed(x), full_attn=True).attn[1][:, :, 0, 1:]
    assert maps.shape == (2, 3, 2, 4, 6) and maps[:, 1].flatten(2).allclose(full, atol=1e-6)


def rolled_out(space):
    attn = torch.rand(3, 2, 4, 5, 5, dtype=torch.float64).softmax(-1)
    product = torch.eye(5, dtype=torch.float64)
    for a in attn.mean(2):
        product = (a + torch.eye(5)) / 2 @ product
    assert space["rollout"](attn).allclose(product[:, 0, 1:])


def auc(space):
    p, fix = torch.tensor([[[.9, .2], [.4, .1]]]), torch.tensor([[[1, 0], [0, 1]]])
    assert space["auc_judd"](p, fix).item() == pytest.approx(.75)  # (fp, tp): (0, 0) (0, .5) (1, 1)


def bayes_factor(space):
    assert space["bf01_jzs"](0., 50_000) == pytest.approx(280.26, abs=.01)
    assert math.isfinite(space["bf01_jzs"](40., 75_000, log=True))


def five_metrics(name):
    def run(space):
        p = torch.rand(1, 9, 9, dtype=torch.float64)
        fix = (p > p.mean()).double()
        best = {"cc": 1., "sim": 1., "kld": 0.}.get(name)
        value = space[name](p, fix if best is None else p).item()
        assert value > 0 if best is None else value == pytest.approx(best, abs=1e-9)
    return run


def density(space):
    m = space["density_map"]([10], [20], (40, 60), 3.)
    assert m.shape == (40, 60) and m[10, 20] == 1 and m[10, 23] == pytest.approx(math.exp(-.5))


def saccades(space):
    att = torch.zeros(1, 7, 7)
    att[0, 1, 1], att[0, 5, 5] = 2, 1
    fixations, visible = space["fixation_sequence"](att, 3, 2)
    assert fixations[0].tolist() == [[1, 1], [5, 5]] and visible.sum((2, 3)).tolist() == [[9, 18]]


def cam(space):
    import torchvision
    net = torchvision.models.resnet18(weights=None).eval()
    assert space["grad_cam"](net, torch.rand(2, 3, 64, 64)).shape == (2, 2, 2)


def gaze(space):
    attn = torch.zeros(5, 8)
    attn[3, 6] = attn[3, 5] = 1
    assert space["head_gaze"](attn, 16).tolist() == [95, 47]  # first box of 32 px that holds both patches


def scaling(space):
    x = np.random.default_rng(0).normal(size=(8, 2))
    D = np.linalg.norm(x[:, None] - x, axis=-1)
    y = space["mds"](D, 2)
    assert np.linalg.norm(y[:, None] - y, axis=-1) == pytest.approx(D, abs=1e-4)


def blur_widths(space):
    attn, maps = torch.rand(2, 3, 6, 6), torch.rand(4, 2, 6, 6)
    kl = space["kl_sweep"](attn, maps, [.5, 1.])
    assert kl.shape == (4, 2, 3, 2) and (torch.as_tensor(kl) > 0).all()


EXAMPLES = {"cls_attention": attention_maps, "rollout": rolled_out, "auc_judd": auc, "bf01_jzs": bayes_factor,
            "density_map": density, "fixation_sequence": saccades,
            "grad_cam": cam, "head_gaze": gaze, "mds": scaling, "kl_sweep": blur_widths,
            **{name: five_metrics(name) for name in ("cc", "nss", "sim", "kld")}}


@pytest.mark.parametrize("name", EXAMPLES)
def test_function_runs_alone_with_the_names_that_the_readme_lists(name):
    EXAMPLES[name](copied(name))


# Files to copy whole: the function they are copied for, what must be there before the example of the file's
# docstring, and what must hold after it.
WHOLE_FILES = {
    "gbvs.py": ("gbvs", "", """
assert maps.shape == (2, 24, 32) and maps.min() == 0 and maps.max() == 1
assert film.shape == (1, 24, 32) and not film.equal(maps[1:])
"""),
    "unisal.py": ("UNISAL", """
torch.save(UNISAL().state_dict(), "weights_best.pth")
images = torch.rand(2, 3, 64, 96)
""", """
assert log_p.shape == (2, 64, 96)
assert log_p.exp().sum((1, 2)).allclose(torch.ones(2), atol=1e-4)
"""),
    "corruptions.py": ("corrupt", "", """
assert snowy.shape == images.shape and snowy.dtype == torch.uint8 and not snowy.equal(images)
assert same.equal(snowy[2:])
for name in CORRUPTIONS:
    assert corrupt(images[:1, :, :32, :40], name, 3, torch.tensor([1])).shape == (1, 3, 32, 40)
""")}

# In a process that forgets the project: each file is imported with its own folder alone on the path.
RUN_EACH = """
import importlib.util, os, runpy, sys
root, *folders = sys.argv[1:]
project = [root, *(os.path.join(root, name) for name in ("tests", "demo"))]  # not .venv, which may be there, too
sys.path = ["", *(folder for folder in sys.path if folder and folder not in project)]
for name, module in [*sys.modules.items()]:
    if os.path.dirname(getattr(module, "__file__", None) or "") in project:
        del sys.modules[name]
for folder in folders:
    sys.path[0] = folder
    os.chdir(folder)
    for module in ("common", "data", "results", "exp01_finetune_vit"):
        assert importlib.util.find_spec(module) is None, module
    runpy.run_path("example.py")
    for copied in ("gbvs", "unisal", "corruptions"):
        sys.modules.pop(copied, None)
"""


def test_each_whole_file_runs_the_example_of_its_docstring_in_a_folder_of_its_own(tmp_path):
    folders = []
    for file, (_, before, after) in WHOLE_FILES.items():
        folder = tmp_path / f"alone_{len(folders)}"
        folder.mkdir()
        shutil.copy(ROOT / file, folder)
        card = ast.get_docstring(ast.parse(SOURCE[Path(file).stem]))
        example = [line.strip() for line in card.splitlines() if line.startswith("    ")]
        assert len(example) == 3
        start = f"import torch\nfrom {Path(file).stem} import *\n"
        (folder / "example.py").write_text(start + before + "\n".join(example) + after)
        folders.append(str(folder))
    done = python("-c", RUN_EACH, ROOT, *folders, cwd=tmp_path)
    assert done.status == 0, done.stderr


def test_every_function_to_copy_is_executed_and_named_by_the_readme():
    whole = {function: (file, []) for file, (function, _, _) in WHOLE_FILES.items()}
    assert set(COPIES) == set(EXAMPLES) | set(whole)
    assert {name: COPIES[name] for name in whole} == whole
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, (file, _) in COPIES.items():
        assert f"`{file if file in WHOLE_FILES else name}`" in readme, name


def needed(module: str, name: str, found: set) -> set[tuple[str, str]]:
    """found, with all (module, name) that a definition uses, also through others; annotations aside."""
    own, imported = definitions(SOURCE[module]), {}
    for node in ast.parse(SOURCE[module]).body:
        if isinstance(node, ast.ImportFrom) and node.module in SOURCE:
            imported |= {a.name: node.module for a in node.names}
    tree = ast.parse(own[name])
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if hasattr(node, field):
                setattr(node, field, None if field == "returns" or isinstance(node, ast.arg) else
                        ast.Constant(0))
    for n in {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}:
        place = module if n in own else imported.get(n)
        if place and (place, n) not in found:
            found.add((place, n))
            needed(place, n, found)
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_row_lists_all_names_that_are_needed_and_no_other(name):
    file, along = COPIES[name]
    own, found = Path(file).stem, set()
    for start in [name, "VisionTransformer"] if name == "cls_attention" else [name]:  # its argument
        found |= needed(own, start, {(own, start)})
    assert {n if place == own else f"{place}.{n}" for place, n in found} - {name} == set(along)
