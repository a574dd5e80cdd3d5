"""Jobs side by side: each after what it needs, as many at a time as there are places, and an end that ends all."""

import subprocess
import sys
import threading
import time

import pytest

from mae_plugin.utils import side_by_side
from mae_plugin.utils.side_by_side import Job, Processes, run_jobs, shares_of_machine


def nothing():
    pass


def test_order_and_places():
    """Two at a time, a child after its parent, each place used by one job at a time."""
    log, lock, busy, most = [], threading.Lock(), set(), []

    def job(name):
        def run(place):
            with lock:
                assert place['number'] not in busy
                busy.add(place['number'])
                most.append(len(busy))
                log.append(f'{name} begins')
            time.sleep(.02)
            with lock:
                busy.discard(place['number'])
                log.append(f'{name} ends')
        return run

    jobs = {'a': Job(job('a')), 'b': Job(job('b'), ['a']), 'c': Job(job('c')), 'd': Job(job('d'), ['a', 'c'])}
    run_jobs(jobs, [dict(number='0'), dict(number='1')], nothing)
    assert max(most) == 2 and len(log) == 8
    assert log.index('a ends') < log.index('b begins') and log.index('c ends') < log.index('d begins')
    assert {log[0], log[1]} == {'a begins', 'c begins'}  # what need not wait goes ahead


def test_one_place_keeps_the_order():
    log = []
    run_jobs({name: Job(lambda place, name=name: log.append(name)) for name in 'hgfedcba'}, [{}], nothing)
    assert log == list('hgfedcba')


def test_after_a_failure_nothing_begins_and_what_runs_ends():
    log = []

    def fail(place):
        raise ValueError('broken')

    def slow(place):
        time.sleep(.1)
        log.append('slow')

    jobs = {'fail': Job(fail), 'slow': Job(slow), 'later': Job(lambda place: log.append('later'))}
    with pytest.raises(ValueError, match='broken'):
        run_jobs(jobs, [{}, {}], nothing)
    assert log == ['slow']


def test_an_interruption_ends_the_processes(monkeypatch):
    """What a signal's handler raises in the main thread."""
    processes, started = Processes(), threading.Event()

    def sleep(place):
        process = processes.start([sys.executable, '-c', 'import time; time.sleep(60)'])
        started.set()
        process.wait()
        processes.ended(process)

    class Interrupted:
        def put(self, _):
            pass

        def get(self):
            started.wait()
            raise SystemExit(143)
    monkeypatch.setattr(side_by_side, 'SimpleQueue', Interrupted)
    begin = time.monotonic()
    with pytest.raises(SystemExit):
        run_jobs({'a': Job(sleep)}, [{}], processes.stop)
    assert time.monotonic() - begin < 30
    with pytest.raises(RuntimeError, match='interrupted'):
        processes.start([sys.executable])


def test_processes_that_ended_are_forgotten():
    processes = Processes()
    process = processes.start([sys.executable, '-c', ''], stdout=subprocess.DEVNULL)
    process.wait()
    processes.ended(process)
    processes.stop()  # nothing to end


def test_shares_of_the_machine(monkeypatch):
    assert shares_of_machine(1) == [{}]
    monkeypatch.setattr(side_by_side.os, 'sched_getaffinity', lambda _: set(range(8)), raising=False)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    assert shares_of_machine(2) == [{}, {}]  # the user's own
    monkeypatch.delenv('OMP_NUM_THREADS')
    assert shares_of_machine(3) == [{'OMP_NUM_THREADS': '2'}] * 3
    assert shares_of_machine(16)[0] == {'OMP_NUM_THREADS': '1'}
    monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,7')
    assert [place['CUDA_VISIBLE_DEVICES'] for place in shares_of_machine(2)] == ['4', '7']
    with pytest.raises(ValueError, match='3 trainings at a time are too many for 2 GPUs'):
        shares_of_machine(3)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    assert [place['CUDA_VISIBLE_DEVICES'] for place in shares_of_machine(2)] == ['0', '1']
