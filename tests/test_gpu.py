"""What a GPU computes against the processor; skipped where there is none."""
import numpy as np
import pytest
import torch

import exp04_saccades as saccades
from common import pick_device
from results import read_arrays
from test_pretended import attention, corrupted, linear, looks, metrics, saliency

GPUS = [name for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
        if there]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="needs a CUDA device, or a Mac's GPU")]


def assert_close(ours: list, theirs: list) -> None:
    """Within float32's rounding; bytes of pictures within 1."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        bytes_of_pictures = b.dtype == torch.uint8
        torch.testing.assert_close(a.detach().cpu().float(), b.detach().float(), rtol=1e-4,
                                   atol=1 if bytes_of_pictures else 1e-4)


@pytest.mark.parametrize("work", [attention, metrics, saliency, corrupted, linear, looks])
def test_public_functions_give_the_processors_values(work):
    found = []
    for device in (pick_device(), torch.device("cpu")):
        torch.manual_seed(0)
        found.append(work(device))
    assert_close(*found)


@pytest.mark.parametrize("dtype, same", [("float32", .999), ("bfloat16", .95)])
def test_saccades_are_the_processors(tmp_path, dtype, same):
    runs = []
    for name in GPUS[0], "cpu":
        saccades.main(["--limit", "24", "--device", name, "--dtype", dtype if name != "cpu" else "float32",
                       "--out", str(tmp_path / name)])
        runs.append(read_arrays(tmp_path / name / "arrays.npz"))
    gpu, cpu = (run["correct"] for run in runs)
    assert np.mean(gpu == cpu) >= same
