"""A pretended GPU: everything is computed on the CPU, and every storage knows on which device it would lie.

    with pretended("mps:0") as found: ...    # found.faults, found.launches, found.copies

Found are operations on tensors of two devices, NumPy of a GPU's tensor and float64 on MPS, each with file and line;
counted are kernels that a GPU would start and copies that the processor would wait for. Views, gradients and what
autograd saves share a storage, so they are where it is. Not seen: missing or different kernels, streams, memory.
"""
import contextlib
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import torch
import torch._dynamo  # imported now: under the pretended device it could not be
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import gbvs

CPU, TESTS = torch.device("cpu"), Path(__file__).resolve().parent
TWO_DEVICES = {"copy_", "_to_copy", "index", "index_put_", "_index_put_impl_", "set_"}  # may be of two
LIKE = {"new_zeros", "new_empty", "new_ones", "new_full", "empty_like", "zeros_like", "new_empty_strided"}
WAITS = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "unique_consecutive", "_unique2"}
VIEWS = {"view", "_unsafe_view", "transpose", "permute", "expand", "select", "slice", "split", "t", "alias",
         "split_with_sizes", "unsqueeze", "squeeze", "detach", "unbind", "as_strided", "_reshape_alias",
         "unfold", "diagonal", "view_as_real", "empty", "new_empty", "empty_like", "empty_strided"}


def tensors(tree) -> list[Tensor]:
    """Those of nested tuples, lists and dicts; torch's own way takes a third of the time of all."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, (tuple, list)):
        return []
    return [tensor for branch in tree for tensor in tensors(branch)]


class Found:
    """Where storages lie, and what was found."""

    def __init__(self, device: str):
        self.device, self.places, self.default, self.faults = torch.device(device), {}, None, []
        self.launches, self.copies = Counter(), Counter()  # {file of the project: how many}

    def place(self, tensor: Tensor) -> torch.device:
        storage, device = self.places.get(tensor.untyped_storage()._cdata, (None, CPU))
        return CPU if storage is None or storage.expired() else device

    def put(self, tensor: Tensor, device: torch.device) -> Tensor:
        storage = tensor.untyped_storage()
        self.places[storage._cdata] = StorageWeakRef(storage), device
        if device.type == "mps" and tensor.dtype in (torch.float64, torch.complex128):
            self.fault(f"{tensor.dtype} on mps")
        return tensor

    def meant(self, device) -> torch.device:
        """cuda and cuda:0 are one device here."""
        device = torch.device(device)
        return device if device == CPU else self.device

    def line(self) -> str:
        frame = sys._getframe(1)
        while frame.f_back and ("site-packages" in frame.f_code.co_filename
                                or frame.f_code.co_filename == __file__):
            frame = frame.f_back
        return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"

    def fault(self, what: str) -> None:
        self.faults.append(f"{what} at {self.line()}")


class Asked(TorchFunctionMode):
    """What Python asks for: moves to a device, tensors made on one, NumPy arrays."""

    def __init__(self, found: Found):
        super().__init__()
        self.found = found

    def move(self, func, x: Tensor, rest: tuple, kwargs: dict) -> Tensor:
        here, like = self.found.place(x), next(iter(tensors((rest[:1], kwargs.get("other")))), None)
        if func is Tensor.cpu:
            device, dtype = CPU, None
        elif func is Tensor.cuda:
            device, dtype = self.found.device, None
        elif like is not None:
            device, dtype = self.found.place(like), like.dtype
        else:
            known = {key: kwargs[key] for key in ("device", "dtype", "non_blocking") if key in kwargs}
            device, dtype = torch._C._nn._parse_to(*(v for v in rest if not isinstance(v, bool)), **known)[:2]
        device = self.found.meant(device or here)
        out = x if dtype in (None, x.dtype) else x.to(dtype)
        if device == here and out is x:
            return x
        if device == CPU != here and not kwargs.get("non_blocking"):
            self.found.copies[self.found.line()] += 1
        return self.found.put(x.to(x.dtype, copy=True) if out is x else out, device)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, found = dict(kwargs or {}), self.found
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self.move(func, args[0], args[1:], kwargs)
        gpu = next((d for d in map(found.place, tensors((args, kwargs))) if d != CPU), None)
        if func in (Tensor.numpy, Tensor.__array__) and gpu:
            found.fault("NumPy of a tensor of the GPU")
        asked = gpu if func is Tensor.new_tensor else None
        if kwargs.get("device") is not None:
            asked = found.meant(kwargs.pop("device"))
        before, found.default = found.default, asked or gpu
        try:
            out = func(*args, **kwargs)
        finally:
            found.default = before
        for made in tensors(out) if asked else ():
            found.put(made, asked)
        return out


class Run(TorchDispatchMode):
    """What reaches the kernels: tensors of one device, where the results lie too."""

    def __init__(self, found: Found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, found, name = dict(kwargs or {}), self.found, func.overloadpacket.__name__
        if name == "is_pinned":
            return False
        if name == "_pin_memory":
            return args[0].clone()
        if torch.is_inference_mode_enabled() and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        given = [(t, found.place(t)) for t in tensors((args, kwargs))]
        if len({d for t, d in given if t.dim()}) > 1 and name not in TWO_DEVICES:
            found.fault(f"{name} of {[f'{d.type} {tuple(t.shape)}' for t, d in given]}")
        if name.startswith(("index", "_index_put")) and name != "index_select":  # indices may be on the CPU
            values = {d for t, d in given[-1:] if t.dim() and "put" in name}
            indices = {d for _, d in given if d != CPU} or {given[0][1]}
            if values | indices != {given[0][1]}:
                found.fault(f"{name} of a tensor of {given[0][1]} by one elsewhere")
        device = next((d for _, d in given if d != CPU), CPU)
        if kwargs.get("device") is not None and torch.device(kwargs["device"]) != CPU:
            device, kwargs["device"] = found.device, CPU
        if device == CPU and (not given or name in LIKE):
            device = found.default or CPU
        if name in ("copy_", "index_put_"):
            device = given[0][1]
        if device != CPU and name in WAITS:
            found.copies[found.line()] += 1
        if device != CPU and name not in VIEWS:
            found.launches[found.line()] += 1
        old, out = {t.untyped_storage()._cdata for t, _ in given}, func(*args, **kwargs)
        for made in tensors(out):
            if made.untyped_storage()._cdata not in old:
                found.put(made, device)
        return out


@contextlib.contextmanager
def pretended(device: str):
    for function in vars(gbvs).values():  # what it keeps for a device was of an earlier pretence
        getattr(function, "cache_clear", int)()
    found, patch, autocast = Found(device), mock.patch.object, torch.autocast
    kind, one = found.device.type, torch.optim.Optimizer
    checks = [name for name in dir(one) if name.endswith("capture_health_check")]

    def on_cpu(device_type, dtype=None, enabled=True, **_):
        half = torch.bfloat16 if dtype in (None, torch.float32) else dtype
        return autocast("cpu", half, enabled=enabled)

    with contextlib.ExitStack() as stack:
        for change in (patch(Tensor, "device", property(found.place)), patch(torch, "autocast", on_cpu),
                       patch(torch.cuda, "is_available", lambda: kind == "cuda"),
                       patch(torch.cuda, "device_count", lambda: int(kind == "cuda")),
                       patch(torch.cuda, "_lazy_init", lambda: None),
                       patch(torch.cuda, "get_device_name", lambda device=None: "pretended"),
                       patch(torch.backends.mps, "is_available", lambda: kind == "mps"),
                       *(patch(one, name, lambda self: None) for name in checks)):
            stack.enter_context(change)
        stack.enter_context(Asked(found))
        stack.enter_context(Run(found))
        yield found


@contextlib.contextmanager
def one_device(device: str):
    """A pretended GPU on which nothing may be found."""
    with pretended(device) as found:
        yield
    assert not found.faults, "\n".join(sorted(set(found.faults)))
