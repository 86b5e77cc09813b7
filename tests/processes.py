"""Processes of a test: forked ones, and those of a process group."""
import multiprocessing
import os
import socket

FORK = multiprocessing.get_context("fork")


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
    some = [FORK.Process(target=one_of, args=(world, rank, port, work, *args)) for rank in range(world)]
    try:
        [p.start() for p in some], [p.join(300) for p in some]
        assert [p.exitcode for p in some] == [0] * world
    finally:
        [p.kill() for p in some]
