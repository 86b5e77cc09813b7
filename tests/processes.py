"""Processes of a test: forked ones, which need not import torch anew, and those of a process group."""
import gc
import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

FIVE_MINUTES = 300


class Ended(NamedTuple):
    status: int
    stdout: str
    stderr: str


def fork(work, *args, **how) -> multiprocessing.Process:
    """work(*args, **how) in a forked process, started. Its progress bars have a lock of its own: with that of
    all processes a killed one would keep every bar waiting from then on. It collects no garbage of ours: one
    that ended a video decoder would wait for threads that it does not have."""
    def child() -> None:
        tqdm.set_lock(threading.RLock())
        work(*args, **how)
    process = multiprocessing.get_context("fork").Process(target=child)
    gc.freeze()
    process.start()
    gc.unfreeze()
    return process


def become(argv: tuple[str, ...], folder: Path, stdout: int, stderr: int) -> None:
    """`python argv ...` in this forked process."""
    os.chdir(folder)
    for number, stream in ((1, "stdout"), (2, "stderr")):
        os.dup2({1: stdout, 2: stderr}[number], number)
        setattr(sys, stream, open(number, "w", closefd=False, encoding="utf-8"))
    if argv[0] == "-c":
        sys.argv = ["-c", *argv[2:]]
        exec(argv[1], {"__name__": "__main__"})
    elif argv[0] == "-m":
        sys.argv = list(argv[1:])
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(argv)
        runpy.run_path(argv[0], run_name="__main__")


def python(*argv, cwd: Path | str = ".") -> Ended:
    """Status and output of `python argv ...`: a script, -m MODULE or -c CODE, and its arguments."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = fork(become, [*map(str, argv)], cwd, out.fileno(), err.fileno())
        process.join(FIVE_MINUTES)
        process.kill()  # what has not ended by now never will
        process.join()
        out.seek(0), err.seek(0)
        return Ended(process.exitcode, out.read().decode(), err.read().decode())


def command(*argv, cwd: Path | str = ".", code: int = 0) -> str:
    """What such a command says; it must end with this status."""
    ended = python(*argv, cwd=cwd)
    assert ended.status == code, ended.stderr
    return ended.stdout + ended.stderr


def one_of(world: int, rank: int, port: int, work, *args) -> None:
    if world > 1:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), MASTER_PORT=str(port),
                          MASTER_ADDR="127.0.0.1", CUDA_VISIBLE_DEVICES="")
        from common import init_distributed
        init_distributed()
    work(*args)


def in_group(world: int, work, *args) -> None:
    """work(*args) in the processes of a gloo group, which must all end well within five minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    some = [fork(one_of, world, rank, port, work, *args) for rank in range(world)]
    try:
        [p.join(FIVE_MINUTES) for p in some]
        assert [p.exitcode for p in some] == [0] * world
    finally:
        [p.kill() for p in some]


def interrupted(function, at: int):
    """The function, with Ctrl-C at that call; its .calls are counted, those after it, too."""
    def counted(*args, **kwargs):
        counted.calls += 1
        if counted.calls == at:
            raise KeyboardInterrupt
        return function(*args, **kwargs)
    counted.calls = 0
    return counted
