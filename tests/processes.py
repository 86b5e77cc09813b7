"""Processes of a test: forked ones, and two of a process group."""
import multiprocessing
import os
import time

FORK = multiprocessing.get_context("fork")


def one_of_two(rank: int, port: int, work, *args) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES="")
    from common import init_distributed
    init_distributed()
    work(*args)


def in_two(work, *args) -> None:
    port = 20000 + (os.getpid() * 7 + int(time.time())) % 20000
    two = [FORK.Process(target=one_of_two, args=(r, port, work, *args)) for r in range(2)]
    [p.start() for p in two], [p.join() for p in two]
    assert [p.exitcode for p in two] == [0, 0]
