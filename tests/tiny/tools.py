"""Running the command line tools inside the test process."""

import importlib.util
import itertools
import os
import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner import checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from mae_plugin.utils.cli import run_cli

TINY = Path(__file__).parent
ROOT = TINY.parents[1]
CONFIG = str(TINY / 'tiny_config.py')
_numbers = itertools.count()


def load_tool(name):
    """The module ``tools/<name>.py``."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment():
    """Environment of a tool that runs as a process of its own."""
    path = os.pathsep.join([str(TINY), os.environ.get('PYTHONPATH', '')])
    return {**os.environ, 'PYTHONPATH': path, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}


@pytest.fixture
def run_tool(monkeypatch, capfd):
    """``run_tool(name, *arguments) -> (exit code, stdout, stderr)``; undoes what the tools set for the process."""
    monkeypatch.syspath_prepend(str(TINY))
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes)
    for name in {'load_from_http', '_safe_torch_load'} & vars(checkpoint).keys():
        monkeypatch.setattr(checkpoint, name, getattr(checkpoint, name))
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def run(name, *arguments):
        arguments = [str(argument) for argument in arguments]
        if name in ('train', 'test'):  # MMEngine names loggers by the second, and two runs would share one
            arguments += ['--cfg-options', f'+experiment_name=run{next(_numbers)}']
        capfd.readouterr()
        code = run_cli(load_tool(name).main, arguments)
        return (code, *capfd.readouterr())

    return run


def assert_plain(path):
    """PyTorch's restricted reader reads the file, with nothing allowed that is not allowed everywhere."""
    foreign = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        assert torch.serialization.get_unsafe_globals_in_checkpoint(path) == []
        torch.load(path, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(foreign)
