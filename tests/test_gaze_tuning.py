"""What exp01 and exp02 answer alike: data that are not there, pictures that cannot be read, wrong folders."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import demo
import exp01_finetune_vit
import exp02_resnet
from legacy import read_csv

STUDIES = [(exp01_finetune_vit, "demo_sl12"), (exp02_resnet, "demo_resnet")]


@pytest.fixture(scope="module")
def salicon(tmp_path_factory) -> Path:
    return demo.demo_world(tmp_path_factory.mktemp("world"), n_salicon=(1, 4), parts=("salicon",)) / "salicon"


@pytest.mark.parametrize("study, model, parts", [
    (*STUDIES[0], ("model B", "model C", "ImageNet:", "ImageNet-C:", "ObjectNet:", "COCO category")),
    (*STUDIES[1], ("model B", "ImageNet:", "COCO category"))], ids=["exp01", "exp02"])
def test_parts_without_data_are_reported_as_not_run(study, model, parts, salicon, tmp_path):
    argv = f"--model {model} --limit 3 --stages align benchmark --workers 0 --device cpu".split()
    study.main([*argv, "--salicon", str(salicon), "--out", str(tmp_path)])
    not_run = " ".join(json.loads((tmp_path / "results.json").read_text())["not_run"])
    for part in parts:
        assert part in not_run


@pytest.mark.parametrize("study, model", STUDIES, ids=["exp01", "exp02"])
def test_unreadable_images_are_skipped_and_listed(study, model, salicon, tmp_path):
    shutil.copytree(salicon, tmp_path / "salicon")
    victim = sorted((tmp_path / "salicon" / "images").glob("*val*"))[2]
    victim.write_bytes(victim.read_bytes()[:900])
    study.main(["--salicon", str(tmp_path / "salicon"), "--model", model, "--out", str(tmp_path / "o"),
                "--stages", "align", "--workers", "0", "--device", "cpu", "--limit", "4"])
    results = json.loads((tmp_path / "o" / "results.json").read_text())
    assert results["skipped"] == {"val, unreadable": [victim.name]}
    assert len(read_csv(tmp_path / "o" / "per_image.csv")) == 3


@pytest.mark.parametrize("study, model", STUDIES, ids=["exp01", "exp02"])
def test_wrong_input_ends_in_one_sentence_and_status_2(study, model, tmp_path):
    (tmp_path / "empty").mkdir()
    found = subprocess.run([sys.executable, study.__file__, "--salicon", tmp_path / "empty", "--model", model,
                            "--out", tmp_path / "o"], capture_output=True, text=True)
    assert found.returncode == 2 and "fixations_train2014.json" in found.stderr
    assert "Traceback" not in found.stderr
