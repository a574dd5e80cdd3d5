"""A contender at work: built, held against the plain path, timed in turns with others, each in a process of its own."""

import atexit
import copy
import importlib.util
import itertools
import multiprocessing
import statistics
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from mae_plugin.benchmark import contenders, parity
from mae_plugin.benchmark.authors import AuthorsContender, check_clone
from mae_plugin.benchmark.contenders import Contender, built_model, images_of
from mae_plugin.benchmark.flops import training_flops
from mae_plugin.benchmark.loop import losses_in_loop, time_loop
from mae_plugin.benchmark.matmul import matmul_rate
from mae_plugin.utils.overrides import apply_overrides
from mae_plugin.utils.timing import seconds

PROJECTS = ('plugin', 'mmpretrain', 'mmpretrain-merged', 'authors', 'authors-port')
PARTS = ('encoder forward', 'decoder forward', 'loss', 'decoder backward', 'encoder backward', 'optimizer')


@dataclass(frozen=True)
class Spec:
    """A contender by name.

    Attributes:
        project: ``plugin``, ``mmpretrain``, ``mmpretrain-merged``, ``authors`` or ``authors-port``.
        dtype: Precision, None for the project's own.
        variant: Of the plugin.
        clone: Of the authors' repository.
        again: Whether it is the second one of its kind, which gives the noise.
    """

    project: str
    dtype: str | None = None
    variant: str = ''
    clone: str | None = None
    again: bool = False

    @property
    def name(self) -> str:
        """For tables."""
        words = [self.project, self.variant.partition(':')[0], '(again)' if self.again else '']
        return ' '.join(word for word in words if word)

    @property
    def other_numerics(self) -> bool:
        """Whether it is an opt-in that does not compute what the authors compute."""
        return any(name in self.variant for name in contenders.OTHER_NUMERICS)

    def check(self, device: str) -> None:
        """Raise ValueError where something is unknown or missing, before anything is built."""
        if self.dtype:
            contenders.check_dtype(self.dtype, device)
        if self.project == 'plugin':
            contenders.variant_options(self.variant)
        elif self.project.startswith('authors'):
            check_clone(self.clone)
        elif self.project not in PROJECTS:
            raise ValueError(f"there is no contender '{self.project}': there are {', '.join(PROJECTS)}")
        elif importlib.util.find_spec('mmpretrain') is None:
            raise ValueError(f'--against {self.project}: mmpretrain is not installed')


class Session:
    """One contender on one device, at one batch size.

    Args:
        spec: Which.
        settings: The pretraining config, as a dict.
        batch: Batch size.
    """

    def __init__(self, spec: Spec, settings: dict, batch: int) -> None:
        self.spec, self.cfg, self.batch = spec, Config(settings), batch
        self.device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        self.contender: Contender | None = None
        self.flops = None
        self._work_dir = tempfile.TemporaryDirectory(prefix='mae_benchmark')

    def gate(self, batch: int, warmup: int = 0) -> dict:
        """Parity with the plain path in float32 and, if it is another, in the contender's precision."""
        torch.backends.cudnn.allow_tf32 = False  # which only the gate's convolutions in float32 would use
        imgs = images_of(self.cfg, batch, 1, self.device)[0]
        reference = parity.plain_step(self.cfg, imgs)
        found, warnings = [], []
        for dtype in dict.fromkeys(['float32', self.spec.dtype]):
            contender = self._build(batch, dtype)
            if found and contender.dtype == 'float32':
                continue
            found.append(parity.compare(reference, parity.contender_step(contender, imgs, warmup), contender.dtype))
            # Of ours: a technique that cannot be had here. Others' libraries warn of much else.
            warnings += contender.warnings if self.spec.project == 'plugin' else []
            contender.close()
        failed = [f'{level.dtype} {why}' for level in found for why in level.failed]
        # Which only the loop does.
        if self.spec.variant.startswith(('prefetch', 'fast')) and 'fast-prefetch' not in self.spec.variant:
            difference = self._effect_of_prefetch(batch)
            failed += [f'float32 losses in the loop {difference:.1e} (limit 1e-06)'] if not difference <= 1e-6 else []
        torch.backends.cudnn.allow_tf32 = True
        return dict(levels=[level.as_dict() for level in found], failed=failed, warnings=[*dict.fromkeys(warnings)])

    def warm_up(self, steps: int) -> dict:
        """Build the contender and run ``steps`` steps.

        Returns:
            ``first``, seconds of the first step, which compiles; ``others``, of the rest; ``dtype``; ``flops`` an
            image.
        """
        self.contender = self._build(self.batch, self.spec.dtype)
        self._batches = itertools.cycle([self.contender.prepare(imgs) for imgs in images_of(
            self.cfg, self.batch, contenders.NUM_BATCHES, self.device)])
        first, = seconds(lambda: self._steps(1), self.device, 1)
        others, = seconds(lambda: self._steps(steps), self.device, 1)
        self._free()
        self.flops = training_flops(built_model(self.cfg))
        return dict(first=first, others=others, dtype=self.contender.dtype, flops=self.flops)

    def turn(self, steps: int) -> dict:
        """Time a block of steps, and a matrix product.

        Returns:
            ``seconds`` of a step, the ``rate`` of the product (FLOP/s), and ``peak`` memory (bytes; None on the CPU).
        """
        cuda = self.device.type == 'cuda'
        if cuda:
            self._steps(2)  # fills the allocator again
            torch.cuda.reset_peak_memory_stats()
        elapsed, = seconds(lambda: self._steps(steps), self.device, 1)
        peak = torch.cuda.max_memory_allocated() if cuda else None
        dtype = getattr(torch, self.contender.dtype)
        self._free()
        rate = matmul_rate(self.device, dtype, rounds=10 if cuda else 3)
        self._free()
        return dict(seconds=elapsed / steps, rate=rate, peak=peak)

    def split(self, rounds: int = 3) -> dict[str, float] | None:
        """Median seconds of each of :data:`PARTS` of a step, in a run of its own.

        The encoder's forward part has preprocessing and mask in it. None where the model is compiled as a whole or
        replayed as a graph, so that its parts cannot be seen.
        """
        times = [parts for _ in range(rounds) if (parts := self._split_once()) is not None]
        self._free()
        return {part: statistics.median(parts[part] for parts in times) for part in PARTS} if times else None

    def curve(self, steps: int, lr: float = 1e-4) -> list[float]:
        """Losses of ``steps`` steps from fresh weights, on the images, masks and learning rates of all contenders."""
        self.contender = None
        self._free()
        contender = self.contender = self._build(self.batch, self.spec.dtype)
        batches = itertools.cycle([contender.prepare(imgs) for imgs in images_of(
            self.cfg, self.batch, contenders.NUM_BATCHES, self.device)])
        losses = []
        for step in range(steps):
            contender.set_lr(lr * min(1., (step + 1) / 20))
            torch.manual_seed(step)
            loss = torch.as_tensor(contender.train([next(batches)]))
            losses.append(loss.detach().clone())  # a graph writes to the same place again
        self._free()
        return [loss.item() for loss in losses]

    def loop(self, steps: int, rounds: int) -> dict[str, list[float]]:
        """Seconds of a step inside the training loop of ``tools/train.py``, and of the bare step, in turns.

        The loop is the config's own with all hooks, on random images in memory; between its blocks the bare step runs
        on the same model: ``train_step`` on images that lie on the device.
        """
        return time_loop(self._with_options(), self.batch, self.spec.dtype, steps, rounds, Path(self._work_dir.name))

    def close(self) -> None:
        """Free everything."""
        if self.contender is not None:
            self.contender.close()
        self.contender = None
        self._work_dir.cleanup()
        self._free()

    def _build(self, batch: int, dtype: str | None) -> Contender:
        spec, state = self.spec, built_model(self.cfg).state_dict()
        args = (self.cfg, state, batch, dtype)
        if spec.project == 'plugin':
            return contenders.PluginContender(*args, Path(self._work_dir.name), variant=spec.variant)
        if spec.project.startswith('mmpretrain'):
            merged = spec.project == 'mmpretrain-merged'
            return contenders.MMPretrainContender(*args, Path(self._work_dir.name), merged)
        return AuthorsContender(spec.clone, *args, port=spec.project.endswith('port'))

    def _with_options(self, *options: str) -> Config:
        cfg = copy.deepcopy(self.cfg)
        apply_overrides(cfg, [*contenders.variant_options(self.spec.variant), *options])
        return cfg

    def _effect_of_prefetch(self, batch: int) -> float:
        """Largest relative difference between the losses of the training loop with and without prefetching."""
        with_it, without = (
            losses_in_loop(self._with_options(*off), batch, 'float32', 4, Path(self._work_dir.name))
            for off in ([], contenders.variant_options('no-prefetch')))
        return max(abs(a / b - 1) for a, b in zip(with_it, without, strict=True))

    def _steps(self, count: int) -> None:
        self.contender.train(list(itertools.islice(self._batches, count)))

    def _free(self) -> None:
        """Give memory back, so that the next contender has all of it."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def _split_once(self) -> dict[str, float] | None:
        stamps = [self._now()]

        def stamp(*_) -> None:
            stamps.append(self._now())

        def mark(module, args, output: Tensor) -> Tensor:
            return _Mark.apply(output, stamp)
        optimizer = self.contender.optimizer
        handles = [*(end.register_forward_hook(mark) for end in self.contender.ends),
                   optimizer.register_step_pre_hook(stamp)]
        try:
            self._steps(1)
        finally:
            for handle in handles:
                handle.remove()
        stamp()
        if len(stamps) != len(PARTS) + 1:
            return None
        if self.device.type == 'cuda':
            torch.cuda.synchronize()
            lengths = [start.elapsed_time(end) / 1e3 for start, end in itertools.pairwise(stamps)]
        else:
            lengths = [end - start for start, end in itertools.pairwise(stamps)]
        return dict(zip(PARTS, lengths, strict=True))

    def _now(self) -> 'float | torch.cuda.Event':
        if self.device.type != 'cuda':
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class _Mark(torch.autograd.Function):
    """The identity, which calls ``stamp`` when the forward and when the backward pass goes through it."""

    @staticmethod
    def forward(ctx, x: Tensor, stamp) -> Tensor:
        ctx.stamp = stamp
        stamp()
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.stamp()
        return gradient, None


class DoesNotFit(Exception):
    """The device has too little memory."""


class RemoteSession:
    """A :class:`Session` in a process of its own: ``call`` starts a method, ``result`` waits for it."""

    def __init__(self, spec: Spec, settings: dict, batch: int) -> None:
        context = multiprocessing.get_context('spawn')
        self.spec = spec
        self._pipe, theirs = context.Pipe()
        # Not a daemon, which could have no loader workers; so it is ended here should nobody have closed it.
        self._process = context.Process(target=_serve, args=(theirs, list(sys.path), spec, settings, batch))
        self._process.start()
        atexit.register(self._process.kill)
        theirs.close()

    def call(self, method: str, *args) -> None:
        """Start ``method`` of the session."""
        self._pipe.send((method, args))

    def result(self) -> Any:
        """What it returns.

        Raises:
            DoesNotFit: If there is too little memory.
            RuntimeError: Any other error, with its own words.
        """
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f'the process of {self.spec.name} ended with {self._process.exitcode}') from None
        return _value(kind, value)

    def close(self) -> None:
        """End the process."""
        try:
            self._pipe.send(('close', ()))
        except OSError:  # it has ended
            pass
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()


class LocalSession:
    """A :class:`Session` in this process with the methods of :class:`RemoteSession`; on the CPU memory allows it."""

    def __init__(self, spec: Spec, settings: dict, batch: int) -> None:
        self.spec, self._session = spec, Session(spec, settings, batch)

    def call(self, method: str, *args) -> None:
        """Keep ``method`` for :meth:`result`: two at once would disturb each other."""
        self._next = method, args

    def result(self) -> Any:
        """See :class:`RemoteSession`."""
        return _value(*_answer(self._session, *self._next))

    def close(self) -> None:
        """Free what the contender holds."""
        self._session.close()


def _value(kind: str, value: Any) -> Any:
    if kind == 'does not fit':
        raise DoesNotFit(value)
    if kind == 'error':
        raise RuntimeError(value)
    return value


def _answer(session: Session, method: str, args: tuple) -> tuple[str, Any]:
    try:
        return 'value', getattr(session, method)(*args)
    except (torch.OutOfMemoryError, MemoryError) as error:
        kind, text = 'does not fit', str(error)
    except Exception as error:
        if '--debug' in sys.argv:
            traceback.print_exc()
        kind, text = 'error', f'{type(error).__name__}: {error}' if not isinstance(error, ValueError) else str(error)
    # Here, where the traceback no longer holds the tensors.
    session.contender = None
    session._free()
    return kind, text


def _serve(pipe, path: list[str], *args) -> None:
    sys.path[:] = path
    session = Session(*args)
    while True:
        method, arguments = pipe.recv()
        if method == 'close':
            session.close()
            return
        pipe.send(_answer(session, method, arguments))
