"""Devices, random generators, the helpers of several processes."""
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import common
from common import InputError
from processes import in_group

ROOT = Path(__file__).resolve().parents[1]


def test_unusable_device_is_an_input_error():
    with pytest.raises(InputError, match="--device"):
        common.pick_device("cuda:99")


def test_float32_is_float32_once_a_device_is_picked():
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    common.pick_device("cpu")
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_several_processes_on_the_one_gpu_of_a_mac_are_refused(monkeypatch):
    for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(key, "0")
    monkeypatch.setattr(common.dist, "init_process_group", lambda *a, **k: pytest.fail("a group was made"))
    with pytest.raises(InputError, match="Mac.*--device cpu"):
        common.init_distributed(torch.device("mps"))


def test_attention_on_a_mac_is_given_contiguous_tensors(monkeypatch):
    given, kernel = [], F.scaled_dot_product_attention

    def record(*qkv_mask):
        given.append([t.is_contiguous() for t in qkv_mask[:3]])
        return kernel(*qkv_mask)
    layer, x = common.Attention(8, 2), torch.rand(2, 5, 8, generator=common.generator(1))
    expected = layer(x)[0]
    monkeypatch.setattr(common.F, "scaled_dot_product_attention", record)
    layer(x)
    monkeypatch.setattr(torch.Tensor, "device", property(lambda t: torch.device("mps")))
    torch.testing.assert_close(layer(x)[0], expected)
    assert given == [[False] * 3, [True] * 3]


def test_a_mac_whose_gpu_computes_attention_wrongly_is_refused(monkeypatch):
    """A pretended Mac: what is put on its GPU stays where it is."""
    kernel, wrong, move = F.scaled_dot_product_attention, [], torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda t, to: wrong.append(len(wrong)) or move(t, "cpu"))
    monkeypatch.setattr(common.torch, "empty", lambda *size, device=None: None)
    assert common.pick_device("mps") == torch.device("mps") and len(wrong) == 3

    def first_differs(*qkv):
        monkeypatch.setattr(common.F, "scaled_dot_product_attention", kernel)
        return kernel(*qkv) + .01
    monkeypatch.setattr(common.F, "scaled_dot_product_attention", first_differs)
    with pytest.raises(InputError, match="computes attention wrongly on this Mac's GPU; use --device cpu"):
        common.pick_device("mps")


def test_a_linear_head_is_the_same_fitted_on_all_rows_or_on_a_few_at_a_time(monkeypatch):
    x = torch.randn(50, 4, generator=common.generator(2))
    y = (x @ torch.tensor([[1., 0, 2], [0, 1, 0], [-1, 1, 0], [.5, 0, 0]])).argmax(1)
    weight, bias = common.fit_linear(x, y, 3)
    monkeypatch.setattr(common, "LINEAR_ROWS", 7)
    few, few_bias = common.fit_linear(x, y, 3)
    torch.testing.assert_close(few, weight, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(few_bias, bias, atol=2e-2, rtol=2e-2)


def test_generators_are_functions_of_their_key():
    a, b, c = (torch.rand(3, generator=common.generator(*k)) for k in ((0, 1), (0, 1), (1, 0)))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_fast_process_waits_for_hours_for_a_slow_one(monkeypatch):
    given = {}
    monkeypatch.setattr(common.dist, "init_process_group", lambda backend, **more: given.update(more))
    monkeypatch.setattr(common.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(common.dist, "get_world_size", lambda: 1)
    for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(key, "0")
    common.init_distributed(torch.device("cpu"))
    assert given["timeout"].total_seconds() >= 12 * 3600  # torch's own: 30 minutes, on a GPU 10


def test_without_processes_this_one_has_all_items_and_rows(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert common.init_distributed() == (0, 1) and common.shard([1, 2]) == [1, 2]
    assert common.gather_rows([1, 2]) == [1, 2]
    common.barrier()


def three(file: Path) -> None:
    rank, world = common.rank_world()
    assert world == 3 and common.gather_rows(common.shard(range(5))) == [0, 3, 1, 4, 2]
    with common.first_process_first():
        if rank == 0:
            time.sleep(.3)
            file.write_text("drawn once")
        assert file.exists()


def test_three_processes_share_items_once_and_the_first_goes_first(tmp_path):
    in_group(3, three, tmp_path / "file")
