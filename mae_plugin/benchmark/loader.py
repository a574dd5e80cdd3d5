"""How fast loaders make batches from image files, in turns; where the time goes, and what a worker holds."""

import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest import mock

import torch
from mmengine.config import Config

from mae_plugin.benchmark.loaders import OTHERS, LoaderContender
from mae_plugin.benchmark.step import times_as_fast
from mae_plugin.datasets.encoded import EncodedImages
from mae_plugin.engine.prefetch import tensors_of
from mae_plugin.utils.cli import describe

FAR = 10**9  # a position in the stream: 800 epochs of ImageNet
STAGES = ('read', 'header', 'decode', 'resize', 'flip and pack', 'collate', 'other')
# Where a project does what; a name that one version does not have leaves its time to 'other'.
_DATASETS = 'mae_plugin.datasets'
_PLACES = {
    f'{_DATASETS}.reader:open_picture': 'header',
    f'{_DATASETS}.picture:Picture.pixels': 'decode',
    f'{_DATASETS}.picture:JpegPicture.pixels': 'decode',
    f'{_DATASETS}.picture:resize_exact': 'resize',
    f'{_DATASETS}.picture:resize_fast': 'resize',
    f'{_DATASETS}.store:open_picture': 'header',
    f'{_DATASETS}.store:resize_fast': 'resize',
    f'{_DATASETS}.transforms:KeyedRandomFlip.__call__': 'flip and pack',
    f'{_DATASETS}.transforms:PackUnlabelled.__call__': 'flip and pack',
    f'{_DATASETS}.batch:Batch.append': 'collate',
    'mmengine.fileio:get': 'read',
    'mmcv:imfrombytes': 'decode',
    'mmcv:imcrop': 'resize',
    'mmcv:imresize': 'resize',
    'mmcv.transforms:RandomFlip.transform': 'flip and pack',
    'mmpretrain.datasets.transforms:PackInputs.transform': 'flip and pack',
    'torchvision.datasets.folder:pil_loader': 'decode',  # reads as it decodes
    'torchvision.transforms.functional:resized_crop': 'resize',
    'torchvision.transforms.functional:hflip': 'flip and pack',
    'torchvision.transforms.functional:pil_to_tensor': 'flip and pack',
    'torchvision.transforms.functional:to_tensor': 'flip and pack',
    'torchvision.transforms.functional:normalize': 'flip and pack',
}


def measure(cfg: Config, contenders: Sequence[str], workers: Sequence[int], batch: int, rounds: int, seconds: float,
            say: Callable[[str], None] = print, save: Callable[[dict], None] = lambda result: None) -> dict:
    """Compare loaders.

    Args:
        cfg: A pretraining config.
        contenders: By name, see :class:`LoaderContender`. The first takes part twice, which shows the noise.
        workers: Numbers of worker processes; with 0 one core does all.
        batch: Batch size.
        rounds: Turns of each contender at each number.
        seconds: Least length of a turn.
        say: Told what goes on.
        save: Given the result so far after each round.

    Returns:
        ``rows`` (contender, workers, and for each round ``seconds`` and ``cpu`` seconds of an image), ``splits``
        (seconds of an image by stage), ``memory``, ``first_batch``, and ``errors`` by contender.
    """
    result: dict = dict(batch=batch, rows=[], splits={}, memory={}, first_batch={}, errors={})
    running: dict[str, LoaderContender] = {}
    for name in contenders:
        try:
            running[name] = LoaderContender(cfg, name, batch)
        except Exception as error:  # the others go on
            result['errors'][name] = describe(error)
            say(f'{name}: {result["errors"][name]}')
    turns = [(count, name, again) for count in workers for again in (False, True) for name in running
             if not again or name == next(iter(running))]
    rows = {turn: dict(name=f'{turn[1].partition(":")[0]}{" (again)" * turn[2]}', contender=turn[1], workers=turn[0],
                       batch=batch, seconds=[], cpu=[]) for turn in turns}
    result['rows'] = list(rows.values())
    for number in range(rounds):
        for (count, name, _), row in rows.items():
            elapsed, cpu = _turn(running[name], count, number * 1_000_003, batch, seconds)
            row['seconds'].append(elapsed)
            row['cpu'].append(cpu)
        say(f'round {number + 1} of {rounds}: ' + ', '.join(
            f'{row["name"]} {row["workers"]}w {1 / row["seconds"][-1]:.0f}' for row in rows.values()) + ' images/s')
        save(result)
    for name, contender in running.items():
        result['splits'][name] = split(contender, batch, seconds)
        save(result)
    for name, contender in running.items():
        if name not in OTHERS:
            result['memory'][name] = worker_memory(contender, batch)
            result['first_batch'][name] = [first_batch(contender, max(workers), position) for position in (0, FAR)]
            save(result)
    return result


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _turn(contender: LoaderContender, workers: int, position: int, batch: int, least: float) -> tuple[float, float]:
    """(seconds, CPU seconds) of an image, over at least ``least`` seconds and as many batches of each worker."""
    with _one_thread():
        batches = contender.batches(workers, position)
        processes = [worker.pid for worker in getattr(batches, '_workers', ())]
        for _ in range(max(workers, 1)):  # they start together, and their first batches come together
            contender.finish(next(batches))
        count, cpu, start = 0, _cpu_seconds(processes), time.perf_counter()
        while not count or time.perf_counter() - start < least:
            for _ in range(max(workers, 1)):
                contender.finish(next(batches))
            count += max(workers, 1)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        images = count * batch
        return (time.perf_counter() - start) / images, (_cpu_seconds(processes) - cpu) / images


def _cpu_seconds(processes: Sequence[int]) -> float:
    """Of this process and others."""
    total = time.process_time()
    for process in processes:
        try:
            fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
        except OSError:  # no /proc
            return float('nan')
        total += sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')
    return total


def times_as_cheap(row: dict, other: dict) -> tuple[float, float, float]:
    """How many times the images of ``other`` a row makes in the same time of processors: median, least and most."""
    return times_as_fast(dict(seconds=row['cpu']), dict(seconds=other['cpu']))


def summary(row: dict) -> dict:
    """Images a second (median, least, most), and images per second of processor time."""
    rates = [1 / seconds for seconds in row['seconds']]
    return dict(rate=1 / statistics.median(row['seconds']), least=min(rates), most=max(rates),
                per_core=1 / statistics.median(row['cpu']))


class _Stopwatch:
    """Seconds by stage; a stage inside another is not counted for the outer one."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inner = [0.]

    def wrap(self, stage: str, work: Callable) -> Callable:
        """``work``, whose time is taken."""
        def timed(*args, **kwargs):
            start = time.perf_counter()
            self._inner.append(0.)
            try:
                return work(*args, **kwargs)
            finally:
                elapsed = time.perf_counter() - start
                self.seconds[stage] += elapsed - self._inner.pop()
                self._inner[-1] += elapsed
        return timed


def _owner(place: str) -> tuple[Any, str]:
    """The module or class of a place, None if it is not there, and the name in it."""
    owner, _, name = place.rpartition('.' if '.' in place.partition(':')[2] else ':')
    try:
        return resolve_name(owner), name
    except (ImportError, AttributeError):
        return None, name


def split(contender: LoaderContender, batch: int, least: float) -> dict[str, float]:
    """Seconds of an image by :data:`STAGES`, in one process and a run of its own; they add up to the whole."""
    watch = _Stopwatch()
    with ExitStack() as stack:
        stack.enter_context(_one_thread())
        source = getattr(contender.dataset, 'source', None)
        places = [(source, name, 'read') for name in ('read', '_read')]
        places += [(*_owner(place), stage) for place, stage in _PLACES.items()]
        for owner, name, stage in places:
            if hasattr(owner, name):
                stack.enter_context(mock.patch.object(owner, name, watch.wrap(stage, getattr(owner, name))))
        loader = contender.loader(0)
        loader.collate_fn = watch.wrap('collate', loader.collate_fn)
        batches = iter(loader)
        next(batches)
        watch.seconds.clear()
        take = watch.wrap('other', lambda: next(batches))
        count, start = 0, time.perf_counter()
        while not count or time.perf_counter() - start < least:
            take()
            count += batch
    return {stage: watch.seconds[stage] / count for stage in STAGES}


def first_batch(contender: LoaderContender, workers: int, position: int) -> float:
    """Seconds from the start of the loader, with its workers, to the first batch."""
    start = time.perf_counter()
    batches = contender.batches(workers, position)
    next(batches)
    return time.perf_counter() - start


def worker_memory(contender: LoaderContender, batch: int, workers: int = 2, rounds: int = 4) -> dict | None:
    """What a worker holds for its batches, over the bytes of these.

    Its memory is its share of anonymous memory (``Pss_Anon``) and all shared memory that it has open, while the
    training takes batches more slowly than they are made, so that all ``prefetch_factor`` of them are waiting or being
    made; at most, but for a twentieth of the time: for a moment a batch that is handed over still counts. Taken off is
    the same of a worker of the same loader with batches of one image: program, decoder, list of images.

    Returns:
        ``bytes``, ``batches`` (``prefetch_factor`` times the bytes of a batch's tensors), their ``ratio``, and the
        bytes of the ``idle`` worker; None where the system does not tell.
    """
    if not Path('/proc/self/smaps_rollup').is_file() or 'Pss_Anon' not in Path('/proc/self/smaps_rollup').read_text():
        return None
    idle, _ = _peak(contender, 1, workers, rounds * batch)
    peak, size = _peak(contender, batch, workers, rounds * workers)
    factor = contender.loader(workers).prefetch_factor
    return dict(bytes=peak - idle, batches=factor * size, ratio=(peak - idle) / (factor * size), idle=idle)


def _peak(contender: LoaderContender, batch: int, workers: int, count: int) -> tuple[float, int]:
    """Bytes that a worker holds, but for moments, while it makes batches; and the bytes of the tensors of one."""
    batches = contender.batches(workers, batch_size=batch, pin_memory=False)
    processes = [worker.pid for worker in batches._workers]
    for _ in range(workers):  # they start
        size = _bytes_of(next(batches))
    start = time.perf_counter()
    for _ in range(workers):
        next(batches)
    pause = 1.2 * (time.perf_counter() - start)  # in which a worker makes a batch
    held, done = {process: [] for process in processes}, threading.Event()

    def watch() -> None:
        while True:  # at least once
            for process in processes:
                held[process].append(_memory(process))
            if done.wait(.004):
                return
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(count):
        if batch > 1:
            time.sleep(pause)
        next(batches)
    time.sleep(pause)
    done.set()
    watcher.join()
    return round(statistics.mean(sorted(values)[int(.95 * len(values))] for values in held.values())), size


def _memory(process: int) -> int:
    """Bytes that are a process's own, and of shared memory that it has open."""
    folder = Path(f'/proc/{process}')
    anonymous = int((folder / 'smaps_rollup').read_text().partition('Pss_Anon:')[2].split()[0]) * 1024
    shared = {}
    for link in (folder / 'fd').iterdir():
        try:
            if os.readlink(link).startswith('/dev/shm/'):
                status = os.stat(link)
                shared[status.st_ino] = status.st_blocks * 512
        except OSError:  # closed since
            continue
    return anonymous + sum(shared.values())


def _bytes_of(batch: Any) -> int:
    images = batch.get('inputs') if isinstance(batch, dict) else None
    tensors = (images.files, images.decoded) if isinstance(images, EncodedImages) else tensors_of(batch)
    return sum(tensor.nbytes for tensor in tensors)
