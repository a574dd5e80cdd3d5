"""``tools/train.py`` in several processes on the CPU, forked from a server that has imported everything, and killed
where they hang."""

import multiprocessing
import multiprocessing.forkserver
import os
import socket
import sys
import time
from pathlib import Path

import pytest
import torch

from mae_plugin.utils.cli import run_cli

from .tools import load_tool

_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(['tiny.preload'])
_SECONDS = 100


def _run(rank: int, count: int, port: int, folder: str, arguments: list[str]) -> None:
    """A process: prints to ``out_<rank>.txt``."""
    os.chdir(folder)
    with open(f'out_{rank}.txt', 'w') as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1',
                      MASTER_PORT=str(port))
    torch.set_num_threads(1)
    code = run_cli(load_tool('train').main, arguments + (['--launcher', 'pytorch'] if count > 1 else []))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def train(folder: Path, count: int, *arguments) -> tuple[list[int], str]:
    """Run the tool in ``folder``; the exit codes, and what rank 0 printed."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:  # the server does not get sys.path, and is silent where imports fail
        patch.setenv('PYTHONPATH', os.pathsep.join(sys.path))
        multiprocessing.forkserver.ensure_running()
    processes = [_CONTEXT.Process(target=_run, args=(rank, count, port, str(folder), [*map(str, arguments)]))
                 for rank in range(count)]
    for process in processes:
        process.start()
    end = time.monotonic() + _SECONDS
    while any(process.is_alive() for process in processes) and time.monotonic() < end:
        if any(process.exitcode for process in processes):  # the others wait for it in vain
            end = min(end, time.monotonic() + 3)
        time.sleep(0.02)
    for process in processes:
        process.kill()
        process.join()
    return [process.exitcode for process in processes], (folder / 'out_0.txt').read_text()
