"""Several jobs at a time, each after those that it needs."""

import os
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

_PATIENCE = 10.  # seconds for interrupted jobs to note how far they came


@dataclass
class Job:
    """Work that waits for other work.

    Args:
        run: The work, given the environment variables of the place where it is done.
        after: Names of the jobs that must have ended.
    """

    run: Callable[[dict[str, str]], None]
    after: Collection[str] = ()


def run_jobs(jobs: Mapping[str, Job], places: Sequence[dict[str, str]], stop: Callable[[], None]) -> None:
    """Run all, in their order as far as they need not wait, one at each place at a time.

    After a failure no other job begins; those that run go on to their end, and the first error is raised.

    Args:
        jobs: By name. A job may need earlier ones only.
        places: Environment variables of each place.
        stop: Ends what the running jobs wait for; called if this call is itself interrupted.
    """
    waiting, free, errors = dict(jobs), list(places), []
    running: dict[str, threading.Thread] = {}
    ended: SimpleQueue = SimpleQueue()

    def work(name: str, job: Job, place: dict[str, str]) -> None:
        try:
            job.run(place)
            error = None
        except BaseException as caught:
            error = caught
        ended.put((name, place, error))

    try:
        while running or waiting and not errors:
            ready = [] if errors else [name for name in waiting if not {*waiting, *running} & {*waiting[name].after}]
            for name in ready[:len(free)]:
                # A daemon, for an interrupted job may wait for the output of processes that its own one has left.
                running[name] = threading.Thread(
                    target=work, args=(name, waiting.pop(name), free.pop(0)), daemon=True)
                running[name].start()
            name, place, error = ended.get()
            running.pop(name).join()
            free.append(place)
            if error:
                errors.append(error)
    except BaseException:
        stop()
        for thread in running.values():
            thread.join(_PATIENCE)
        raise
    if errors:
        raise errors[0]


def shares_of_machine(number: int) -> list[dict[str, str]]:
    """Environment variables that give each of ``number`` jobs its share of the GPUs, or of the CPU's cores.

    A job gets one GPU; on the CPU it gets as many threads as it has cores, unless ``OMP_NUM_THREADS`` says otherwise.
    One job has the machine for itself, and is told nothing.

    Raises:
        ValueError: There are GPUs, but fewer than ``number``.
    """
    if number == 1:
        return [{}]
    import torch
    gpus = torch.cuda.device_count()
    if gpus:
        if number > gpus:
            raise ValueError(f'{number} trainings at a time are too many for {gpus} GPUs: each has one of its own')
        visible = os.environ.get('CUDA_VISIBLE_DEVICES', ','.join(map(str, range(gpus)))).split(',')
        return [{'CUDA_VISIBLE_DEVICES': visible[i]} for i in range(number)]
    if 'OMP_NUM_THREADS' in os.environ:
        return [{}] * number
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return [{'OMP_NUM_THREADS': str(max(1, cores // number))}] * number


class Processes:
    """Child processes of several threads, to be ended together."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def start(self, command: Sequence[str], **options) -> subprocess.Popen:
        """Start one. Options are those of ``subprocess.Popen``.

        Raises:
            RuntimeError: All were ended.
        """
        with self._lock:
            if self._stopped:
                raise RuntimeError('interrupted')
            process = subprocess.Popen(command, **options)
            self._running.add(process)
        return process

    def ended(self, process: subprocess.Popen) -> None:
        """Forget one that has ended."""
        with self._lock:
            self._running.discard(process)

    def stop(self) -> None:
        """End all, and start no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()
