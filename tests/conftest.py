"""One thread a process: two test processes run side by side."""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; scripts run by tests inherit it

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def small_demo_world(tmp_path_factory):
    """The demo world of a script without --data: a few pictures, drawn once for all files and processes."""
    import demo
    base, drawn = tmp_path_factory.getbasetemp(), demo.demo_world
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def small(cache_dir=None, planted=True, **how):
        few = dict(n_train=12, n_val=24, n_salicon=(14 if planted else 1, 24), n_objectnet=2)
        return drawn(cache_dir or shared / "demo_world", planted=planted, **few | how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "demo_world", small)
        patch.setattr(demo.world, "CLIPS", 3)  # one of each genre
        yield


@pytest.fixture(scope="session")
def tuned(tmp_path_factory) -> dict:
    """Stand-ins of exp01's B and C in its format: attention weights of demo_sl4, disturbed."""
    from common import generator
    from results import save_checkpoint
    from weights import attention_state, load_vit
    vit, _ = load_vit("demo_sl4")
    paths = {}
    for k, seed in (("B", 1), ("C", 2)):
        state = {n: (p + .3 * p.std() * torch.randn(p.shape, generator=generator(seed, i, 1))).half()
                 for i, (n, p) in enumerate(attention_state(vit).items())}
        paths[k] = tmp_path_factory.mktemp("tuned") / f"tuned_{k}.pth"
        save_checkpoint(state, paths[k])
    return paths


@pytest.fixture(scope="module", autouse=True)
def coarse_figures():
    """A run's figures are drawn once, coarsely and without a PDF: drawn four times over, as users get them, they
    took a third of the suite's time. test_results saves them as users do."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    savefig = Figure.savefig

    def coarse(fig: Figure, file, **how) -> None:
        if "bbox_inches" not in how:  # not a run's
            savefig(fig, file, **how)
        elif how["format"] == "png":
            fig.set_layout_engine("none")
            fig.dpi = 20
            FigureCanvasAgg(fig).print_png(file)
        else:
            file.write(b"%PDF")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", coarse)
        yield


@pytest.fixture(scope="session")
def blobs(tmp_path_factory) -> list:
    """Pictures with one bright disk, which two observers look at."""
    from gaze import GazeImage
    root, images = tmp_path_factory.mktemp("blobs"), []
    for i in range(48):
        rng = np.random.default_rng([7, i])
        row, col = rng.integers(8, 56, 2)
        rows, cols = np.mgrid[:64, :64]
        x = rng.integers(0, 60, (64, 64, 3)) + 190 * ((rows - row)**2 + (cols - col)**2 < 80)[..., None]
        Image.fromarray(x.astype(np.uint8)).save(root / f"{i:02d}.png")
        points = rng.normal((3.5 * row, 3.5 * col), 8, (2, 20, 2)).clip(0, 223).astype(np.int16)
        gaze = [(p[:, 0], p[:, 1]) for p in points]
        images.append(GazeImage(f"{i:02d}.png", root / f"{i:02d}.png", gaze))
    return images
