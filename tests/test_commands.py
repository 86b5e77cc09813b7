"""The commands of the README and of the headers, as a user types them."""
import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import InputError, cls_attention
from processes import command
from weights import load_vit

ROOT = Path(__file__).resolve().parents[1]


COMMAND = r'((?:exp|reproduce)\w*\.py(?: +(?:[-\w.=/]+|"[^"\n]*"))*)'


def commands() -> list[str]:
    """Every `X.py --option ...` of the README, the headers, docs/ and checkpoints/README.md."""
    texts = [p.read_text(encoding="utf-8") for pattern in ("*.md", "docs/*.md", "checkpoints/*.md", "*.py")
             for p in ROOT.glob(pattern)]
    found = {m.strip() for text in texts for m in re.findall(COMMAND, text)}
    return sorted(m for m in found if re.match(r"\w+\.py +--", m))


@pytest.mark.parametrize("command", commands())
def test_written_command_names_a_script_and_passes_its_parser(command):
    script, *argv = shlex.split(command)
    assert (ROOT / script).exists()
    try:
        importlib.import_module(script.removesuffix(".py")).parse(argv)
    except InputError as e:  # the parser passed; a run's folder must be there
        assert script == "exp05_clusters.py" and "no results.json" in str(e)


def test_the_readmes_commands_are_among_those_tested():
    script = "exp04_saccades.py"
    assert {f"{script} --fovea 5 --layer 11", f"{script} --data IMAGENET --sweep --saliency --dtype bfloat16",
            "exp01_finetune_vit.py --salicon SALICON --coco COCO --imagenet IMAGENET --objectnet OBJECTNET",
            "exp05_gaze_video.py --data N2010"} <= set(commands())


def test_the_readmes_six_lines_give_the_attention_map_of_a_picture(tmp_path):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    assert len(code.splitlines()) <= 6 and code.count("dino_vits16") == 1
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (250, 400, 3), np.uint8)).save(tmp_path / "photo.jpg")
    (tmp_path / "own.py").write_text(code.replace("dino_vits16", "demo_dino12"))
    command("own.py", cwd=tmp_path)
    shown = np.asarray(Image.open(tmp_path / "attention.png").convert("L"), float)
    model, preprocess = load_vit("demo_dino12")
    x = preprocess(Image.open(tmp_path / "photo.jpg"))[None]
    heads = cls_attention(model, x)[0, 11].detach()
    assert shown.shape == (224, 224) and tuple(heads.shape[1:]) == (14, 14)
    row, col = np.divmod(np.argmax(shown), 224)
    assert 14 * (row // 16) + col // 16 == heads.amax(0).argmax()


def test_header_command_trains_on_the_demo_and_resumes(tmp_path):
    job = [ROOT / "exp05_train_vits.py", "--method", "dino", "--depth", "4", "--limit", "16", "--epochs", "1",
           "--batch-size", "8", "--warmup-epochs", "0", "--workers", "0", "--no-train-head", "--device", "cpu", "--out", tmp_path]
    assert "stopped at step 1 of 2" in command(*job, "--stop-step", "1", cwd=tmp_path)
    assert "attention lift" in command(*job, "--resume", cwd=tmp_path)
    assert (tmp_path / "fig_attention.png").exists()
    command(*job, "--plot-only", cwd=tmp_path)
    assert "other arguments" in command(*job, "--lr", "1", cwd=tmp_path, code=2)


SCRIPTS = sorted(path.name for path in ROOT.glob("exp0*.py") if "cli(main" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("written, said", [
    *((f"{script} --data /nowhere", "/nowhere") for script in SCRIPTS if script != "exp05_clusters.py"),
    ("exp05_clusters.py --run /nowhere", "/nowhere"), ("exp05_train_vits.py --device cuda:77", "--device"),
    ("exp05_train_vits.py --eval --weights none.pth --limit 24", "none.pth")])
def test_wrong_input_of_every_script_is_one_sentence_and_status_2(written, said, tmp_path):
    script, *argv = written.split()
    out = command(ROOT / script, *argv, "--out", tmp_path / "out", cwd=tmp_path, code=2)
    last = [line for line in out.splitlines() if line.startswith("error: ")]
    assert len(last) == 1 and said in last[0] and "Traceback" not in out and len(SCRIPTS) == 13


@pytest.mark.parametrize("command, said", [
    ("exp01_benchmarks --data EMPTY", "no benchmark can be run"), ("exp01_benchmarks --frost nothere", "nothere: no such"),
    ("exp01_benchmarks --frost EMPTY", "0 of frost1 ... frost6"), ("exp01_finetune_vit --frost EMPTY", "0 of frost1"),
    ("exp01_benchmarks --model-b nothere", "nothere: no such"), ("exp01_finetune_vit --frost nothere", "nothere: no such"),
    ("exp01_finetune_vit --model-c nothere", "nothere: no such"), ("exp03_biases --model-b nothere", "nothere: no such"),
    ("exp04_saccades --head nothere", "nothere: no such"), ("exp04_saliency --head nothere", "nothere: no such"),
    ("exp04_saliency --saccades EMPTY", "EMPTY: no finished run"), ("exp04_saliency --unisal-weights nothere", "nothere: no"),
    ("exp06_gaze_objects --layer 99", "has blocks 0 to 11")])
def test_what_is_wrong_on_this_machine_is_told_before_weights_are_looked_for(command, said, tmp_path, monkeypatch):
    (tmp_path / "EMPTY").mkdir()
    monkeypatch.setattr("weights.locate_weights", lambda spec: pytest.fail("weights were looked for"))
    script, *argv = command.replace("EMPTY", str(tmp_path / "EMPTY")).split()
    with pytest.raises(InputError, match=said):
        importlib.import_module(script).main([*argv, "--device", "cpu", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_help_is_short_enough_to_read():
    out = command(ROOT / "exp05_train_vits.py", "--help", cwd=ROOT)
    assert all(len(line) <= 160 for line in out.splitlines())
