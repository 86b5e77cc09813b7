"""How many kernels a GPU would start for a batch, and how often the processor would wait for it.

    python benchmarks/launches.py        # on the CPU: counted on tests/pretended.py's pretended GPU, a minute

Networks are narrow, as counts depend on blocks and masks alone. Each work is done once before, so that what is
kept for a device is there. float64 on MPS and tensors on two devices would be named below the table.
"""
import sys
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("", "tests")]

import torch

import common
import corruptions
import exp04_saccades as saccades
from gbvs import gbvs_sets
from pretended import pretended

BATCH = 32


def works(device: torch.device) -> dict:
    """{what: function of no argument}."""
    torch.manual_seed(0)  # what is fixated, and so how often masks are equally large, depends on the weights
    net = common.VisionTransformer(embed_dim=24, num_heads=2, num_classes=5).eval().to(device)
    x = torch.rand(BATCH, 3, 224, 224, generator=common.generator(1)).to(device)
    maps, fixations = x.mean(1), (x[:, 0] > .999).float()
    batch = dict(image=x, index=torch.arange(BATCH), readable=torch.ones(BATCH, dtype=torch.bool))
    metrics = (common.cc, common.nss, common.auc_judd, common.kld, common.sim)
    small, images = x[:8, :, :96, :128], (255 * x[:, :, :96, :96]).byte()
    return {
        "CLS maps of all blocks, 32 images": partial(common.cls_attention, net, x),
        "exp04: ten saccades of 32 images, attention and random, foveas 3 and 5": partial(
            saccades.measure, batch, net, net.head, torch.zeros(BATCH, dtype=torch.long), 11, [3, 5], "clip", 0,
            False),
        "five metrics of 32 maps": lambda: [metric(maps, fixations) for metric in metrics],
        "GBVS of 8 frames, all channels and each": partial(gbvs_sets, small, ["DIORFM", *"DIORFM"], small),
        "15 corruptions of 32 images": lambda: [corruptions.corrupt(images, name, 3, torch.arange(BATCH))
                                                for name in corruptions.CORRUPTIONS]}


def main() -> None:
    faults = []
    print(f"{'a batch':72} launches  blocking copies")
    with torch.no_grad():
        for kind in ("cuda", "mps"):
            with pretended(kind) as found:
                for what, work in works(found.device).items():
                    work()
                    found.launches.clear()
                    found.copies.clear()
                    work()
                    if kind == "cuda":
                        print(f"{what:72} {found.launches.total():8,}  {found.copies.total():15,}", flush=True)
                faults += found.faults
    print("\n".join(sorted(set(faults))) or "no float64 on MPS, no operation on two devices")


if __name__ == "__main__":
    main()
