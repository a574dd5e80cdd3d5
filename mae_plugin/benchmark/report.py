"""What was measured, as Markdown, JSON and a picture."""

import json
import os
import platform
import shutil
import statistics
import subprocess
from pathlib import Path

import torch

from mae_plugin.benchmark import loader
from mae_plugin.benchmark.corpus import usable_cores
from mae_plugin.benchmark.session import PARTS
from mae_plugin.benchmark.step import summary, times_as_fast


def machine() -> dict:
    """What a figure needs beside it: processor, cores, GPU with its clocks, versions."""
    found = dict(cpu=_cpu_name(), logical_cores=os.cpu_count(), physical_cores=_physical_cores(),
                 usable_cores=usable_cores(), threads=torch.get_num_threads(), python=platform.python_version(),
                 torch=torch.__version__)
    if torch.cuda.is_available():
        found.update(gpu=torch.cuda.get_device_name(), cuda=torch.version.cuda)
        if shutil.which('nvidia-smi'):
            fields = 'driver_version,memory.total,clocks.sm,clocks.mem,power.draw,clocks_throttle_reasons.active'
            query = subprocess.run(['nvidia-smi', f'--query-gpu={fields}', '--format=csv'], capture_output=True,
                                   text=True, timeout=20)
            found['nvidia_smi'] = query.stdout.strip() or query.stderr.strip()
    return found


def _cpu_name() -> str:
    cpuinfo = Path('/proc/cpuinfo')
    facts = {}
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(':')
            facts.setdefault(key.strip(), value.strip())
    if 'model name' not in facts:
        return platform.processor() or platform.machine()
    cores = f", {facts['cpu cores']} cores a socket" if 'cpu cores' in facts else ''
    return f"{facts['model name']} (family {facts.get('cpu family')}, model {facts.get('model')}{cores})"


def _physical_cores() -> int | None:
    """Cores that are not the second thread of another, or None where the system does not tell."""
    cpuinfo = Path('/proc/cpuinfo')
    blocks = cpuinfo.read_text().split('\n\n') if cpuinfo.is_file() else []
    cores = {tuple(line.partition(':')[2] for line in block.splitlines() if line.startswith(('physical id', 'core id')))
             for block in blocks if 'core id' in block}
    return len(cores) or None


def lines_of(facts: dict) -> str:
    """A list of names and values, above the tables."""
    return ''.join(f'- {name}: {value:.4g}\n' if isinstance(value, float) else f'- {name}: {value}\n'
                   for name, value in facts.items()) + '\n'


def markdown(result: dict) -> str:
    """All tables of a result of ``tools/benchmark.py step``."""
    rows = result['rows']
    if result.get('gates'):
        return _table(['contender', 'precision', 'may it become the default', 'parity with the plain path'], [
            [row['name'], row['dtype'] or 'its own', _verdict(row), row['error'] or _parity(row)] for row in rows])
    parts = [_table(['contender', 'precision', 'batch', 'images/s', 'ms a step (least to most)', 'peak GiB', 'MFU',
                     'matmul TFLOP/s', 'first step s', 'parity'], [_main_line(row) for row in rows])]
    timed = [row for row in rows if row.get('seconds')]
    for batch in dict.fromkeys(row['batch'] for row in timed):
        same = [row for row in timed if row['batch'] == batch]
        columns = [row for row in same if row['project'] != 'plugin' or not row['variant']]
        if len(same) > 1:
            parts.append(f'Batch {batch}: how many times as fast a row is as a column, median of the rounds (least to '
                         'most); the same contender twice is the noise.\n')
            parts.append(_table(['', *map(_label, columns)], [
                [_label(row), *(_ratio(row, other) if row is not other else '' for other in columns)]
                for row in same]))
    split = [row for row in timed if isinstance(row.get('split'), dict) and 'error' not in row['split']]
    if split:
        parts.append('Milliseconds of the parts of a step, in a run of its own.\n')
        parts.append(_table(['contender', 'batch', *PARTS], [
            [_label(row), row['batch'], *(f"{row['split'][part] * 1e3:.4g}" for part in PARTS)] for row in split]))
    for measured in result.get('in_loop', []):
        parts.append(_in_loop(measured))
    curves = {name: curve for name, curve in result.get('curves', {}).items() if isinstance(curve, list)}
    if len(curves) > 1:
        (first, reference), *others = curves.items()
        parts.append(f'Loss after {len(reference)} steps from the same weights, images and masks; and the largest '
                     f'relative difference from {first} in any step.\n')
        parts.append(_table(['contender', 'last loss', 'largest difference'], [
            [name, f'{curve[-1]:.6f}', f'{max(abs(a / b - 1) for a, b in zip(curve, reference, strict=True)):.1e}']
            for name, curve in curves.items()]))
    return '\n'.join(parts)


def loader_markdown(result: dict) -> str:
    """All tables of a result of ``tools/benchmark.py loader``."""
    rows = [row for row in result['rows'] if row['seconds']]
    lines = []
    for row in rows:
        found = loader.summary(row)
        lines.append([row['name'], row['workers'], f"{found['rate']:.4g} ({found['least']:.4g} to {found['most']:.4g})",
                      f"{found['per_core']:.4g}"])
    parts = [_table(['loader', 'workers', 'images/s (least to most)', 'images per second of a core'], lines)]
    for workers in dict.fromkeys(row['workers'] for row in rows):
        same = [row for row in rows if row['workers'] == workers]
        parts.append(f'{workers} workers: images per second of a core, row over column, median of the rounds (least to '
                     'most); the same loader twice is the noise.\n')
        parts.append(_table(['', *(row['name'] for row in same[:-1])], [
            [row['name'], *('{:.2f} ({:.2f} to {:.2f})'.format(*loader.times_as_cheap(row, other))
                            if row is not other else '' for other in same[:-1])] for row in same]))
    if result['splits']:
        parts.append('Microseconds of an image in one process, in a run of its own.\n')
        parts.append(_table(['loader', *loader.STAGES, 'all'], [
            [name, *(f'{parts[stage] * 1e6:.0f}' for stage in loader.STAGES), f'{sum(parts.values()) * 1e6:.0f}']
            for name, parts in result['splits'].items()]))
    if result['first_batch']:
        parts.append('What a worker holds for its batches over the bytes of these, and the time until the first batch '
                     f'is there, at the start of the stream and at image {loader.FAR:,}.\n')
        parts.append(_table(['loader', 'memory', 'of batches, MB', 'idle worker, MB', 'first batch s', 'far s'], [
            [name, *(f"{memory['ratio']:.2f}x {memory['batches'] / 1e6:.1f} {memory['idle'] / 1e6:.0f}".split()
                     if memory else '–––'), *(f'{seconds:.2f}' for seconds in result['first_batch'][name])]
            for name, memory in result['memory'].items()]))
    return '\n'.join(parts) + _errors(result)


def train_markdown(result: dict) -> str:
    """The table of a result of ``tools/benchmark.py train``."""
    lines = []
    for row in result['rows']:
        middle, least, most = times_as_fast(dict(seconds=row['in_loop']), dict(seconds=row['bare']))
        rates = [row['batch'] / statistics.median(row[kind]) for kind in ('in_loop', 'bare')]
        lines.append([row['name'], row['batch'], row['workers'], *(f'{rate:.4g}' for rate in rates),
                      f'{middle:.1%} ({least:.1%} to {most:.1%})', f"{statistics.median(row['waits']):.1%}",
                      '–' if row['jpeg_engine'] is None else f"{row['jpeg_engine']:.0f} %"])
    return _table(['mode', 'batch', 'workers', 'images/s', 'of the step on random images', 'share (least to most)',
                   'wait for images', 'JPEG engine'], lines) + _errors(result)


def _errors(result: dict) -> str:
    return ''.join(f'\n{name}: {error}\n' for name, error in result['errors'].items())


def write_text(result: dict, folder: Path, name: str, text: str) -> None:
    """Write ``name.json`` and, with ``text``, ``name.md`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{name}.json').write_text(json.dumps(result, indent=1))
    (folder / f'{name}.md').write_text(text)


def write(result: dict, folder: Path, name: str) -> None:
    """Write a result of ``step``: ``name.json``, ``name.md`` and, where matplotlib is installed, ``name.png``."""
    write_text(result, folder, name, markdown(result))
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return
    plot(result, folder / f'{name}.png')


def plot(result: dict, file: Path) -> None:
    """Images a second of each contender, and the loss curves if there are any."""
    from matplotlib.figure import Figure
    timed = [row for row in result['rows'] if row.get('seconds')]
    curves = {name: curve for name, curve in result.get('curves', {}).items() if isinstance(curve, list)}
    if not timed and not curves:
        return
    panels = int(bool(timed)) + int(bool(curves))
    figure = Figure(figsize=(7, .8 + .32 * len(timed) + 3.2 * bool(curves)), layout='constrained')
    axes = list(figure.subplots(panels, 1, squeeze=False)[:, 0])
    if timed:
        axis = axes.pop(0)
        labels = [f"{_label(row)}, batch {row['batch']}" for row in timed]
        middle = [summary(row)['images_per_second'] for row in timed]
        spread = [[m - row['batch'] / max(row['seconds']) for m, row in zip(middle, timed, strict=True)],
                  [row['batch'] / min(row['seconds']) - m for m, row in zip(middle, timed, strict=True)]]
        axis.barh(range(len(timed)), middle, xerr=spread, color='#2568b5', error_kw=dict(lw=1, ecolor='#64666d'))
        axis.set_yticks(range(len(timed)), labels, fontsize=8)
        axis.invert_yaxis()
        axis.set_xlabel('images/s, median with least and most', fontsize=9)
    if curves:
        axis = axes.pop(0)
        for number, (name, curve) in enumerate(curves.items()):
            axis.plot(curve, label=name, lw=1.6, ls=['-', '--', ':', '-.'][number % 4])
        axis.set_xlabel('step', fontsize=9)
        axis.set_ylabel('loss', fontsize=9)
        axis.legend(fontsize=8, frameon=False)
    for axis in figure.axes:
        axis.spines[['top', 'right']].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.savefig(file, dpi=150)


def _label(row: dict) -> str:
    return f"{row['name']} {row['dtype'] or ''}".strip()


def _verdict(row: dict) -> str:
    if row['error']:
        return 'not measured'
    if row['parity']['warnings']:
        return 'see the warning'
    return 'no' if row['parity']['failed'] or row['other_numerics'] else 'yes'


def _parity(row: dict) -> str:
    failed = ', '.join(row['parity'].get('failed', []))
    warned = ''.join(f' WARNING: {text}' for text in row['parity'].get('warnings', []))
    levels = '; '.join(
        f"{level['dtype']} loss {level['loss']:.0e}, gradients "
        + (f"{level['gradient']:.0e}, of one tensor at most {level['worst']:.0e}" if level['dtype'] == 'float32'
           else f"cosine {level['cosine']:.5f}") for level in row['parity'].get('levels', []))
    if failed:
        return f"{'other numerics' if row['other_numerics'] else 'FAILED'}: {failed}{warned}"
    return (levels or '–') + warned


def _main_line(row: dict) -> list[str]:
    levels = _parity(row)
    line = [row['name'], row['dtype'] or 'its own', str(row['batch'])]
    if not row.get('seconds'):
        return [*line, '–', row.get('error', '–'), *['–'] * 4, levels]
    found = summary(row)
    return [*line, f"{found['images_per_second']:.4g}",
            f"{found['ms']:.4g} ({found['ms_min']:.4g} to {found['ms_max']:.4g})",
            f"{row['peak'] / 2**30:.1f}" if row.get('peak') else '–', f"{found['mfu']:.1%}" if found['mfu'] else '–',
            f"{found['rate'] / 1e12:.3g}", f"{row['first']:.3g}", levels]


def _ratio(row: dict, other: dict) -> str:
    if len(row['seconds']) != len(other['seconds']):
        return '–'
    middle, least, most = times_as_fast(row, other)
    return f'{middle:.2f} ({least:.2f} to {most:.2f})'


def _in_loop(measured: dict) -> str:
    if 'error' in measured:
        return f"Batch {measured['batch']}, step inside the training loop: {measured['error']}\n"
    rows = [dict(seconds=measured[part]) for part in ('in_loop', 'bare')]
    middle, least, most = times_as_fast(*rows)
    return (f"Batch {measured['batch']}: the training loop with all hooks and random images in memory runs at "
            f'{middle:.1%} (least {least:.1%}, most {most:.1%}) of the speed of the bare step.\n')


def _table(header: list[str], lines: list[list]) -> str:
    cells = [header, ['---'] * len(header), *lines]
    return ''.join('| ' + ' | '.join(str(cell) for cell in line) + ' |\n' for line in cells)
