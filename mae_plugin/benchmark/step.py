"""Training steps of several contenders side by side: parity first, then times in turns."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from mmengine.config import Config

from mae_plugin.benchmark.session import DoesNotFit, LocalSession, RemoteSession, Spec

Say = Callable[[str], None]


def measure(cfg: Config, specs: Sequence[Spec], batches: Sequence[int], rounds: int, steps: int, curves: int = 0,
            gate_batch: int = 8, gate_only: bool = False, loop: bool = False, known: Sequence[dict] = (),
            say: Say = print, save: Callable[[dict], None] = lambda result: None) -> dict:
    """Compare training steps.

    On a GPU every contender has a process of its own, and gives its memory back after each turn; on the CPU one process
    holds them all. The first one takes part twice, which shows the noise.

    Args:
        cfg: A pretraining config.
        specs: The contenders; the first one is what the others are compared with.
        batches: Batch sizes.
        rounds: Turns of each contender; every one is a block of ``steps`` steps.
        steps: Steps of a block.
        curves: Steps of the loss curves at the first batch size, 0 for none.
        gate_batch: Batch size of the parity gate.
        gate_only: Measure nothing else.
        loop: Also compare the first contender's step with the same inside the training loop.
        known: Rows of an earlier result for the same config, whose parity counts.
        say: Told what goes on.
        save: Given the result so far after each round and, with ``gate_only``, each contender.

    Returns:
        ``rows``, one for each contender and batch size; ``curves`` by contender; ``in_loop``.

    Raises:
        ValueError: If a contender is unknown, or the device lacks a precision.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    for spec in specs:
        spec.check(device)
    bench = _Bench(cfg, RemoteSession if device == 'cuda' else LocalSession, say)
    gates = {spec: row['parity'] for spec in specs for row in known
             if (spec.project, spec.variant, spec.dtype) == (row['project'], row['variant'], row['asked'])}

    def only_gates() -> dict:
        return dict(gates=True, rows=[dict(_row(spec, gate_batch), parity=gates[spec], error=gates[spec].get('error'))
                                      for spec in specs if spec in gates])
    for spec, gate in bench.gates([spec for spec in specs if spec not in gates], gate_batch):
        gates[spec] = gate
        if gate_only:
            save(only_gates())
    if gate_only:
        return only_gates()
    passed = [spec for spec in specs if not gates[spec].get('error')
              and (spec.other_numerics or not gates[spec]['failed'])]
    result: dict = dict(rows=[], curves={}, in_loop=[])
    for batch in batches:
        before = result['rows']
        refused = [dict(_row(spec, batch), parity=gates[spec], error=gates[spec].get('error', 'no parity'))
                   for spec in specs if spec not in passed]
        for rows in bench.times(passed, batch, rounds, steps, curves if batch == batches[0] else 0):
            timed = [dict(row, parity=gates[replace(spec, again=False)]) for spec, row in rows]
            result['rows'] = [*before, *timed, *refused]
            save(result)
        result['curves'] |= {f"{row['name']} {row['dtype']}": row.pop('curve')
                             for row in result['rows'] if row.get('curve')}
        if loop and passed and passed[0].project == 'plugin':
            result['in_loop'].append(dict(batch=batch, **bench.loop(passed[0], batch, rounds, steps)))
        save(result)
    return result


def summary(row: dict) -> dict:
    """Images a second, milliseconds (median, least, most) and MFU of a row."""
    times = row['seconds']
    images = row['batch'] / statistics.median(times)
    rate = statistics.median(row['rates'])
    flops = row.get('flops')
    return dict(images_per_second=images, ms=statistics.median(times) * 1e3, ms_min=min(times) * 1e3,
                ms_max=max(times) * 1e3, rate=rate, mfu=images * flops / rate if flops else None)


def times_as_fast(row: dict, other: dict) -> tuple[float, float, float]:
    """How many times as fast as ``other`` a row is: median, least and most of the ratios of each round."""
    ratios = [b / a for a, b in zip(row['seconds'], other['seconds'], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def _row(spec: Spec, batch: int) -> dict:
    return dict(name=spec.name, project=spec.project, variant=spec.variant, asked=spec.dtype, dtype=spec.dtype,
                batch=batch, other_numerics=spec.other_numerics)


class _Bench:

    def __init__(self, cfg: Config, kind: type, say: Say) -> None:
        self.cfg, self.kind, self.say = cfg, kind, say

    def open(self, spec: Spec, batch: int):
        return self.kind(spec, self.cfg.to_dict(), batch)

    def gates(self, specs: Sequence[Spec], batch: int) -> Iterator[tuple[Spec, dict]]:
        sessions = [self.open(spec, batch) for spec in specs]
        for session in sessions:
            # A scaler of float16 begins by skipping steps; a graph is recorded after some.
            warmup = 12 if 'cuda_graph' in session.spec.variant else 4
            session.call('gate', batch, warmup if torch.cuda.is_available() else 0)
        for session in sessions:
            gate = self._result(session, batch)
            self.say(f'parity of {session.spec.name} {session.spec.dtype or ""}: '
                     + (gate.get('error') or ', '.join(gate['failed']) or 'yes'))
            session.close()
            yield session.spec, gate

    def times(self, specs: Sequence[Spec], batch: int, rounds: int, steps: int, curves: int
              ) -> Iterator[list[tuple[Spec, dict]]]:
        """Rows of ``specs``, and of the first one a second time: after each round, and when all is done."""
        second = [replace(spec, again=True) for spec in specs[:1]]
        rows = {}
        sessions = [self.open(spec, batch) for spec in (*specs, *second)]
        for session in sessions:
            rows[session] = dict(_row(session.spec, batch), seconds=[], rates=[])
            session.call('warm_up', max(3, steps // 2))
        warm = {session: self._result(session, batch) for session in sessions}
        for session in sessions:  # two that were too large for each other may fit one after the other
            if warm[session].get('does_not_fit') and self.kind is RemoteSession:
                session.call('warm_up', max(3, steps // 2))
                warm[session] = self._result(session, batch)
            rows[session].update(warm[session])
        running = [session for session in sessions if 'error' not in rows[session]]
        for number in range(rounds):
            for session in list(running):
                session.call('turn', steps)
                turn = self._result(session, batch)
                row = rows[session]
                if 'error' in turn:
                    row['error'] = turn['error']
                    running.remove(session)
                    continue
                row['seconds'].append(turn['seconds'])
                row['rates'].append(turn['rate'])
                row['peak'] = turn['peak']
            self.say(f'batch {batch}, round {number + 1} of {rounds}: ' + ', '.join(
                f"{session.spec.name} {rows[session]['dtype']} {rows[session]['seconds'][-1] * 1e3:.4g} ms"
                for session in running))
            yield [(session.spec, row) for session, row in rows.items()]
        for session in sessions:
            if session in running and not session.spec.again:
                session.call('split')
                rows[session]['split'] = self._result(session, batch)
                if curves:
                    session.call('curve', curves)
                    rows[session]['curve'] = self._result(session, batch)
            session.close()
        yield [(session.spec, row) for session, row in rows.items()]

    def loop(self, spec: Spec, batch: int, rounds: int, steps: int) -> dict:
        session = self.open(spec, batch)
        session.call('loop', steps, rounds)
        found = self._result(session, batch)
        session.close()
        return found

    def _result(self, session, batch: int):
        """What the session answers; what goes wrong with one contender is said in its row, and the others go on."""
        try:
            return session.result()
        except DoesNotFit:
            smaller = [f'batch {batch // 2}'] if batch > 1 else []
            if session.spec.project == 'plugin':
                smaller.append('+model.backbone.with_cp=True')
            if session.spec.dtype == 'float32':
                smaller.append('bfloat16')
            return dict(error=f'does not fit at batch {batch}: try {", ".join(smaller)}', does_not_fit=True)
        except RuntimeError as error:
            return dict(error=' '.join(str(error).split()))
