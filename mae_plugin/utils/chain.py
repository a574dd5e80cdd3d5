"""A chain of runs: each stage starts from the checkpoint of an earlier one, and finished stages are not run again.

A chain is a config with a ``work_dir`` and a list of ``stages``::

    work_dir = 'work_dirs/demo'
    stages = [
        dict(name='data', command=['python', 'tools/datasets/x.py', 'data/x'], creates='data/x'),
        dict(name='pretrain', config='configs/pretrain/x.py', cfg_options={'train_cfg.max_iters': 100}),
        dict(name='detect', config='configs/detection/x.py', init_from='pretrain'),
        dict(name='detect-scratch', config='configs/detection/x.py', cfg_options={'model.backbone.init_cfg': None}),
    ]

The record ``work_dir/chain.json`` says for each stage what went in (a hash of the resolved config and of the parent's
checkpoint) and what came out. A stage whose input has changed since is never overwritten or reused in silence.
"""

import fcntl
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mae_plugin.utils.cli import nearest
from mae_plugin.utils.hashing import file_sha256
from mae_plugin.utils.overrides import format_value, parse_value
from mae_plugin.utils.run_config import find_file, load_config, newest_checkpoint, repository
from mae_plugin.utils.schedule import fit_batch
from mae_plugin.utils.side_by_side import Job, Processes, run_jobs, shares_of_machine

_INIT_KEY = 'model.backbone.init_cfg.checkpoint'
# What may change without making the result another one.
_HARMLESS = {'work_dir', 'launcher', 'resume', 'env_cfg', 'log_level', 'log_processor', 'visualizer'}
_HARMLESS_IN_LOADERS = {'num_workers', 'pin_memory', 'persistent_workers', 'prefetch_factor'}
_NOT_METRICS = {'data_time', 'time', 'step', 'iter', 'epoch', 'lr', 'memory'}


@dataclass
class Stage:
    """One entry of ``stages``: a training (``config``) or any other step (``command``).

    Args:
        name: Its folder in the chain's ``work_dir``.
        config: The config to train.
        cfg_options: Changes of the config, dotted key to value; ``+key`` adds one.
        init_from: The earlier stage whose last checkpoint becomes ``model.backbone.init_cfg.checkpoint``.
        command: Program and arguments; ``python`` means the interpreter of the chain.
        creates: A file or folder the command makes; the command runs again if it is gone.
        gpus: Processes of the training, on GPUs or sharing the CPU; 0 for one without a launcher. ``--gpus`` of the
            chain replaces it.
        fit_batch: ``--fit-batch`` of the training, where its batch is not the one that the schedule is made for.
        about: What this run is in a comparison, for tables only, see :mod:`mae_plugin.utils.study`.
    """

    name: str
    config: str | None = None
    cfg_options: dict[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    command: list[str] | None = None
    creates: str | None = None
    gpus: int = 0
    fit_batch: str | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def options(self, init: str | None) -> list[str]:
        """All ``--cfg-options``, with the checkpoint ``init`` to start from."""
        changes = {**self.cfg_options, **({_INIT_KEY: init} if self.init_from else {})}
        return [f'{key}={format_value(value)}' for key, value in changes.items()]


def read_stages(raw: Any, options: Sequence[str], source: str) -> list[Stage]:
    """Check the ``stages`` of the chain config ``source`` and add ``STAGE.key=value`` options.

    Raises:
        ValueError: A stage is not what :class:`Stage` describes, or an option names no stage.
    """
    if not isinstance(raw, list) or not raw:
        raise ValueError(f'{source} is not a chain: it needs stages = [dict(name=..., config=...), ...]')
    known = list(Stage.__dataclass_fields__)
    stages: dict[str, Stage] = {}
    for entry in raw:
        unknown = [key for key in entry if key not in known]
        if unknown:
            raise ValueError(f'{source}: a stage has no {unknown[0]!r}; it has {", ".join(known)}')
        stage = Stage(**entry)
        if stage.name in stages or not re.fullmatch(r'[\w-]+', stage.name):
            raise ValueError(f'{source}: {stage.name!r} is no name for a stage: letters, digits, - and _, each once')
        if (stage.config is None) == (stage.command is None):
            raise ValueError(f'{source}: stage {stage.name!r} needs either a config or a command')
        trained = [name for name, earlier in stages.items() if earlier.config]
        if stage.init_from is not None and stage.init_from not in trained:
            raise ValueError(f'{source}: stage {stage.name!r} starts from {stage.init_from!r}, which is no stage '
                             f'trained before it: {", ".join(trained) or "none"}')
        stages[stage.name] = stage
    for option in options:
        name, _, rest = option.partition('.')
        key, equals, value = rest.partition('=')
        if name not in stages or not equals:
            near = nearest(name, list(stages)) or list(stages)
            raise ValueError(f"--cfg-options takes STAGE.key=value, not '{option}'; stages: {', '.join(near)}")
        stages[name].cfg_options[key] = parse_value(value)
    return list(stages.values())


class Chain:
    """Runs stages, and keeps the record of what they did.

    A stage's record says 'started' from its first launch on and 'finished' after its end; it is deleted when the stage
    begins anew. Only a stage that was started with the input it has now goes on from its newest checkpoint
    (``--resume``); a new one never does.

    Args:
        stages: In order.
        work_dir: Gets ``chain.json`` and a folder for each stage.
        gpus: Processes of each training; 0 for what each stage says.
        rerun: Move the folder of a stage whose input has changed aside and run it again.
    """

    def __init__(self, stages: Sequence[Stage], work_dir: str | os.PathLike, gpus: int = 0, rerun: bool = False):
        self.stages = {stage.name: stage for stage in stages}
        self.gpus = gpus
        self.rerun = rerun
        self._saving = threading.Lock()
        self.move_to(work_dir)
        self.configs = {}
        for stage in stages:
            if stage.config:
                try:
                    cfg = self.configs[stage.name] = load_config(stage.config, stage.options(''))
                    fit_batch(cfg, stage.fit_batch, stage.config, max(self.processes(stage), 1))
                except Exception as error:
                    message = error.args[0] if isinstance(error, KeyError) else error
                    raise ValueError(f'stage {stage.name!r}: {message}') from error

    def move_to(self, work_dir: str | os.PathLike) -> None:
        """Take ``work_dir`` and the record in it from now on."""
        self.work_dir = Path(work_dir)
        self.file = self.work_dir / 'chain.json'
        self.record = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def inputs(self, stage: Stage) -> dict[str, Any]:
        """What decides the result of ``stage``: the command; or config, parent's checkpoint and number of processes."""
        if stage.command:
            return dict(command=stage.command)
        cfg = {key: value for key, value in self.configs[stage.name].to_dict().items() if key not in _HARMLESS}
        for key, value in cfg.items():
            if key.endswith('_dataloader') and value:
                cfg[key] = {name: item for name, item in value.items() if name not in _HARMLESS_IN_LOADERS}
        return dict(config=json.loads(json.dumps(cfg, default=str)),
                    parent=self.record.get(stage.init_from, {}).get('checkpoint_sha256'),
                    processes=max(self.processes(stage), 1))

    def state(self, stage: Stage) -> str:
        """What will happen to ``stage``.

        Returns:
            'new', 'continues' (it was interrupted), 'finished', 'changed' (it was run with other input), 'waits' (its
            parent will be run again, and then it), or 'unknown' (it has a checkpoint, but no record).
        """
        record = self.record.get(stage.name)
        folder = self.work_dir / stage.name
        if record is None and stage.config and newest_checkpoint(folder):
            return 'unknown'
        if record is None or not folder.is_dir() or (stage.creates and not Path(stage.creates).exists()):
            return 'new'
        if stage.init_from and self.state(self.stages[stage.init_from]) != 'finished':
            return 'waits' if newest_checkpoint(folder) else 'new'
        if record['inputs_sha256'] != hash_of(self.inputs(stage)):
            return 'changed' if record['status'] == 'finished' or newest_checkpoint(folder) else 'new'
        return 'finished' if record['status'] == 'finished' else 'continues'

    def plan(self) -> str:
        """A table of what will be done."""
        rows = [('stage', 'state', 'iterations', 'images seen', 'starts from', 'config or command')]
        for stage in self.stages.values():
            what = stage.config or ' '.join(stage.command)
            iterations, images = self.amount(stage)
            rows.append((stage.name, self.state(stage), iterations, _count(images), stage.init_from or '', what))
        return table(rows)

    def summary(self) -> str:
        """A table of the results."""
        rows = [('stage', 'time', 'images seen', 'checkpoint', 'result')]
        for stage in self.stages.values():
            record = self.record.get(stage.name, {})
            metrics = ', '.join(f'{key} {value:.4g}' for key, value in list(record.get('metrics', {}).items())[:3])
            rows.append((stage.name, _clock(record.get('seconds', 0)), _count(record.get('images_seen')),
                         record.get('checkpoint_sha256', '')[:12], metrics))
        return table(rows)

    def run(self, jobs: int = 1) -> None:
        """Run what is not finished, in order.

        Args:
            jobs: Trainings at a time. They share the CPU's cores, or take one of the GPUs each. A stage begins when
                that which it starts from has ended; a ``command`` runs alone.

        Raises:
            ValueError: A stage was finished or begun with other or unknown input, or has failed; or another call is
                running in ``work_dir``, or a training that outlived one; or several are to run at a time that have
                several processes each.
        """
        if jobs < 1:
            raise ValueError(f'--jobs {jobs}: give the number of trainings at a time, at least 1')
        several = [stage.name for stage in self.stages.values() if self.processes(stage) > 1]
        if jobs > 1 and several:
            raise ValueError(f'--jobs {jobs} is for trainings of one process, and stage {several[0]!r} has several')
        with _alone_in(self.work_dir) as lock:
            self.move_to(self.work_dir)  # what another call has done since
            processes, work, barrier = Processes(), {}, []
            for name, stage in self.stages.items():
                def run(place, stage=stage):
                    self._finish_stage(stage, _Launcher(processes, place, lock))
                work[name] = Job(run, list(work) if stage.command else {*barrier, *filter(None, [stage.init_from])})
                barrier = [name] if stage.command else barrier
            run_jobs(work, shares_of_machine(jobs), processes.stop)

    def commands(self) -> list[str]:
        """What the stages run, as one would type it."""
        return [shlex.join(self._command(stage)) for stage in self.stages.values()]

    def processes(self, stage: Stage) -> int:
        """Processes that train ``stage``; 0 for one without a launcher."""
        return self.gpus or stage.gpus

    def amount(self, stage: Stage) -> tuple[str, int | None]:
        """Iterations (or epochs) as text, and images seen where they can be known without the data."""
        if stage.command:
            return '', None
        cfg = self.configs[stage.name]
        loader = cfg.train_dataloader
        iterations = cfg.train_cfg.get('max_iters')
        if iterations is None:
            return f'{cfg.train_cfg.max_epochs} epochs', None
        batch = loader['batch_size'] if 'batch_size' in loader else loader.batch_sampler.batch_size
        return f'{iterations:,}', iterations * batch * max(self.processes(stage), 1)

    def _command(self, stage: Stage) -> list[str]:
        if stage.command:
            program, *arguments = stage.command
            if program == 'python':
                program, arguments[:1] = sys.executable, [str(find_file(argument)) for argument in arguments[:1]]
            return [program, *arguments]
        tools, config = repository() / 'tools', str(find_file(stage.config))
        if self.processes(stage):
            command = ['bash', str(tools / 'dist_train.sh'), config, str(self.processes(stage))]
        else:
            command = [sys.executable, str(tools / 'train.py'), config]
        command += ['--work-dir', str(self.work_dir / stage.name)]
        if self.state(stage) == 'continues':
            command.append('--resume')
        if stage.fit_batch:
            command += ['--fit-batch', stage.fit_batch]
        options = stage.options(self._parent_checkpoint(stage))
        return [*command, '--cfg-options', *options] if options else command

    def _parent_checkpoint(self, stage: Stage) -> str | None:
        if stage.init_from is None:
            return None
        path = self.record.get(stage.init_from, {}).get('checkpoint')
        return str(self.work_dir / path) if path else f'<checkpoint of {stage.init_from}>'

    def _set_aside(self, stage: Stage) -> None:
        folder = self.work_dir / stage.name
        if stage.name in self.record:
            found = differences(_read_json(folder / 'chain_inputs.json'), self.inputs(stage))
            what = f'stage {stage.name!r} was run with other input ({"; ".join(found[:5])})'
        else:
            what = f'stage {stage.name!r} has {newest_checkpoint(folder)}, of which {self.file} says nothing'
        if not self.rerun:
            raise ValueError(f'{what}: --rerun runs it again and keeps {folder} under another name; '
                             'another --work-dir starts a chain of its own')
        number = next(n for n in range(1, 10_000) if not folder.with_name(f'{folder.name}.old{n}').exists())
        aside = folder.with_name(f'{folder.name}.old{number}')
        folder.rename(aside)
        self.record.pop(stage.name, None)
        print(f'[{stage.name}] {what}; it is kept as {aside}', flush=True)

    def _finish_stage(self, stage: Stage, launcher: '_Launcher') -> None:
        state = self.state(stage)
        if state == 'finished':
            print(f'[{stage.name}] is finished', flush=True)
            return
        if state in ('changed', 'unknown'):
            self._set_aside(stage)
        self._run_stage(stage, launcher)

    def _run_stage(self, stage: Stage, launcher: '_Launcher') -> None:
        folder = self.work_dir / stage.name
        if self.state(stage) == 'new':
            self.record.pop(stage.name, None)
        folder.mkdir(parents=True, exist_ok=True)
        if stage.init_from:
            self._check_parent(stage)
        inputs = self.inputs(stage)
        command = self._command(stage)
        entry = dict(
            status='started', config=stage.config, command=command, init_from=stage.init_from,
            inputs_sha256=hash_of(inputs), parent_sha256=inputs.get('parent'), images_seen=self.amount(stage)[1],
            seconds=self.record.get(stage.name, {}).get('seconds', 0))
        self._save(stage, entry)
        (folder / 'chain_inputs.json').write_text(json.dumps(inputs, indent=1))
        print(f'[{stage.name}] {shlex.join(command)}', flush=True)
        start = time.monotonic()
        try:
            code, lines = _run_logged(command, folder / 'chain.log', stage.name, bool(stage.command), launcher)
        finally:
            entry['seconds'] = round(entry['seconds'] + time.monotonic() - start, 1)
            self._save(stage, entry)
        if code:
            print('\n'.join(lines), file=sys.stderr)
            reason = next((line for line in reversed(lines) if line.startswith('error: ')), 'see its last lines above')
            raise ValueError(f'stage {stage.name!r} failed with exit code {code}: {reason.removeprefix("error: ")} '
                             f'(log: {folder / "chain.log"})')
        if stage.config:
            checkpoint = newest_checkpoint(folder)
            if checkpoint is None:
                raise ValueError(f'stage {stage.name!r} ended without a checkpoint in {folder}')
            entry.update(checkpoint=os.path.relpath(checkpoint, self.work_dir), metrics=final_metrics(folder),
                         checkpoint_sha256=file_sha256(checkpoint))
        entry['status'] = 'finished'
        self._save(stage, entry)

    def _check_parent(self, stage: Stage) -> None:
        parent = self.record[stage.init_from]
        path = self.work_dir / parent['checkpoint']
        if not path.is_file() or file_sha256(path) != parent['checkpoint_sha256']:
            raise ValueError(f'stage {stage.name!r} starts from {path} of stage {stage.init_from!r}, which is '
                             f'{"gone" if not path.is_file() else "not the file it made (its SHA-256 differs)"}: '
                             f'remove {self.work_dir / stage.init_from} to train it again')

    def _save(self, stage: Stage, entry: dict[str, Any]) -> None:
        with self._saving:  # stages that run side by side
            self.record[stage.name] = dict(entry)
            temporary = self.file.with_suffix('.tmp')
            temporary.write_text(json.dumps(dict(self.record), indent=1))
            os.replace(temporary, self.file)


def final_metrics(work_dir: Path) -> dict[str, float]:
    """The last validation of a run, or its last losses if it never validated, from ``vis_data/scalars.json``."""
    lines = [json.loads(line) for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
             for line in file.read_text().splitlines()]
    training = [line for line in lines if 'lr' in line]
    validations = [line for line in lines if not line.keys() & {'lr', 'reconstruction/psnr'}]
    last = (validations or training or [{}])[-1]
    return {key: value for key, value in last.items() if key not in _NOT_METRICS and isinstance(value, (int, float))}


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """Lock ``folder``; processes that inherit the file number that this yields hold the lock until they end, too.

    Raises:
        ValueError: It is locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f'{folder} is in use by another call, or by a training that a killed one left behind: '
                             'wait for its end, or end it') from None
        except OSError:  # a file system without locks
            pass
        yield file.fileno()


@dataclass
class _Launcher:
    """Where and with what a stage's process is started.

    Args:
        processes: Those of all stages that run.
        place: Environment variables of its own.
        lock: File number that it inherits, and so holds the lock until it ends.
    """

    processes: Processes
    place: dict[str, str]
    lock: int


def _run_logged(command: Sequence[str], log: Path, name: str, show_all: bool,
                launcher: _Launcher) -> tuple[int, list[str]]:
    """Run ``command``, append its output to ``log`` and show its progress (or all of it).

    Returns:
        The exit code and the last lines of the output.
    """
    last = deque(maxlen=15)
    environment = {**os.environ, 'PYTHON': sys.executable, 'PYTHONUNBUFFERED': '1', **launcher.place}
    with open(log, 'ab') as file:
        process = launcher.processes.start(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, pass_fds=[launcher.lock])
        try:
            for raw in process.stdout:
                file.write(raw)
                file.flush()
                last.append(raw.decode(errors='replace').rstrip())
                progress = re.search(r'(?:Iter|Epoch)\(\w+\) .*', last[-1])
                if progress or show_all:
                    print(f'[{name}] {progress[0] if progress else last[-1]}', flush=True)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait()
            launcher.processes.ended(process)
    return process.returncode, list(last)


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A line ``dotted.key: old -> new`` for each value that two nested dicts do not share."""
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += [f'{key}.{line}' for line in differences(a, b)]
        elif a != b:
            found.append(f'{key}: {str(a)[:60]} -> {str(b)[:60]}')
    return found


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}


def hash_of(inputs: dict[str, Any]) -> str:
    """SHA-256, in hexadecimal, of what JSON makes of ``inputs``, in any order of their keys."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _count(number: int | None) -> str:
    return '' if number is None else f'{number:,}'


def _clock(seconds: float) -> str:
    return f'{int(seconds) // 60}:{int(seconds) % 60:02}'


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, flush left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)
