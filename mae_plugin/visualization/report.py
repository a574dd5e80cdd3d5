"""One page that shows what a chain did: a single file that can be sent, for any screen, light or dark."""

import base64
import importlib.metadata
import io
import os
import platform
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mae_plugin.utils.chain import Chain
from mae_plugin.visualization import results
from mae_plugin.visualization.curves import MAE, SCRATCH, Plot, make_plots, save_curves
from mae_plugin.visualization.pictures import Sheet, Tile
from mae_plugin.visualization.results import Row, StageRun, number
from mae_plugin.visualization.sheets import make_sheets
from mae_plugin.visualization.study import Row as StudyRow
from mae_plugin.visualization.study import read_rows, said_of_seeds, study_svg, tables
from mae_plugin.visualization.style import STYLE

_PACKAGES = ('torch', 'torchvision', 'timm', 'numpy', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')


def make_report(chain: Chain) -> Path:
    """Draw the pictures of a chain and write the page, with what has finished; all go to the chain's folder.

    Returns:
        The page, ``report.html``.

    Raises:
        FileNotFoundError: The chain never ran there.
    """
    if not chain.record:
        raise FileNotFoundError(f'{chain.work_dir} holds no chain.json: nothing was run there that could be shown')
    runs = results.read_runs(chain)
    sheets = make_sheets(runs)
    for sheet in sheets.values():
        sheet.to_image().save(chain.work_dir / f'{sheet.name}.png')
    plots = make_plots(results.firsts(runs))
    if plots:
        save_curves(plots, chain.work_dir / 'curves.png')
    page = chain.work_dir / 'report.html'
    rows = read_rows(chain) if any(stage.about for stage in chain.stages.values()) else ()
    page.write_text(render(runs, sheets, plots, rows), encoding='utf-8')
    return page


def render(runs: Sequence[StageRun], sheets: dict[str, Sheet], plots: Sequence[Plot],
           study: Sequence[StudyRow] = ()) -> str:
    """The page as HTML.

    Args:
        runs: The trainings of the chain.
        sheets: As :func:`~mae_plugin.visualization.sheets.make_sheets` gives them.
        plots: The curves.
        study: As :func:`~mae_plugin.visualization.study.read_rows` gives it for a chain with a study.
    """
    rows = results.compare(runs)
    sentences = results.verdicts(rows)
    sections = [_header(runs, rows, sentences, _STUDY if study else _PAIR)]
    if study:
        sections.append(_study(study))
    sections += [_pictures('', sheets[name]) for name in ('pretraining', 'attention') if name in sheets]
    for task, sentence in sentences.items():
        sections += [_pictures(text, sheets[name]) for name, text in ((task, sentence), (f'{task}: extremes', ''))
                     if name in sheets]
    if plots:
        sections.append(_curves(plots))
    body = '\n'.join([*sections, _making(runs)])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>One masked autoencoder, three tasks</title>
<style>:root {{ --mae: {MAE}; --scratch: {SCRATCH}; }}{STYLE}</style>
</head>
<body><main>
{body}
</main></body>
</html>
"""


def environment() -> dict[str, str]:
    """Hardware, system and versions, as they are where this runs."""
    import torch
    distributions = importlib.metadata.packages_distributions()
    packages = [f'{distributions[name][0]} {importlib.metadata.version(distributions[name][0])}'
                for name in _PACKAGES if name in distributions]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    devices = [f'{_processor()}, {cores} cores',
               *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))]
    return {'machine': '; '.join(devices), 'system': platform.platform(),
            'software': ', '.join([f'Python {platform.python_version()}', *packages])}


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


# What is compared with what.
_PAIR = ('Each task has a twin <span class="scratch">from scratch</span>: the same network, data, recipe, seed and '
         'number of iterations, but random weights to start from.')
_STUDY = ('Each task was also trained <span class="scratch">from scratch</span>, with the same network, data and '
          'number of iterations, but random weights to start from.')


def _header(runs: Sequence[StageRun], rows: Sequence[Row], sentences: dict[str, str], compared: str) -> str:
    items = ''.join(f'<li><b>{escape(task.capitalize())}.</b> {escape(sentence)}</li>'
                    for task, sentence in sentences.items())
    return f"""
<h1>One masked autoencoder, three tasks</h1>
<div class="top">
<div>
<p>A vision transformer learned to fill in the hidden patches of images without labels.
<span class="mae">With MAE</span>, that one checkpoint starts every task. {compared} The cost of pretraining comes on
top of these equal budgets.</p>
<p>{escape(results.pretraining_summary(runs))}</p>
<ul>{items}</ul>
</div>
{_results(rows)}
</div>"""


def _results(rows: Sequence[Row]) -> str:
    lines, task = [], None
    for row in rows:
        if row.task != task:
            task = row.task
            lines.append(f'<tr class="task"><td colspan="5">{escape(task.capitalize())} '
                         f'<span>{escape(row.images)} images seen</span></td></tr>')
        bars = ''.join(f'<div class="{name}"><i style="width:{value or 0:.1f}%"></i></div>'
                       for name, value in (('mae', row.mae), ('scratch', row.scratch)))
        lines.append(f'<tr><td>{escape(row.metric)}</td><td>{number(row.mae)}</td><td>{number(row.scratch)}</td>'
                     f'<td>{number(row.difference, sign=True)}</td><td class="bars">{bars}</td></tr>')
    return f"""<div class="wide results"><table>
<caption>In percent. Images seen count repetitions. One run each: less than three points may be chance.</caption>
<tr><th></th><th class="mae">with MAE</th><th class="scratch">from scratch</th><th>difference</th>
<th class="bars"></th></tr>
{''.join(lines)}</table></div>"""


def _study(rows: Sequence[StudyRow]) -> str:
    lines = []
    for (task, metric), (head, *body) in tables(rows).items():
        if not lines:
            lines.append(f'<tr>{"".join(f"<th>{escape(cell)}</th>" for cell in head)}</tr>')
        lines.append(f'<tr class="task"><td colspan="{len(head)}">{escape(task.capitalize())} '
                     f'<span>{escape(metric)}</span></td></tr>')
        lines += [f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in line)}</tr>' for line in body]
    return f"""
<h2>With how many labels</h2>
<div class="wide results"><table>
<caption>In percent; {said_of_seeds(rows)}. Runs of a task have the same number of iterations; those from scratch may
have rates of their own. Pictures, curves and sentences of this page are of the first run of each kind.</caption>
{''.join(lines)}</table></div>
<figure><div class="wide paper">{study_svg(rows)}</div></figure>"""


def _pictures(sentence: str, sheet: Sheet) -> str:
    columns = len(sheet.columns)
    least = f'min(100%, {120 * columns + 20}px)' if columns > 1 else 'min(45%, 170px)'
    groups = ''.join(f'<div class="group">{_group(sheet.columns, group)}</div>' for group in sheet.groups)
    keys = ''.join(f'<span class="key" style="--colour:rgb{colour}">{escape(name)}</span>'
                   for name, colour in sheet.legend)
    return f"""
<h2>{escape(sheet.title)}</h2>
{f'<p>{escape(sentence)}</p>' if sentence else ''}
<figure><div class="groups" style="--columns:{columns}; --least:{least}">{groups}</div>
<figcaption>{f'<p>{keys}</p>' if keys else ''}{escape(sheet.caption)}</figcaption></figure>"""


def _group(columns: Sequence[str], tiles: Sequence[Tile]) -> str:
    cells = [f'<span>{escape(column)}</span>' for column in columns if column]
    cells += [f'<img alt="{escape(column or tile.note)}" src="{_embedded(tile)}">'
              for column, tile in zip(columns, tiles, strict=True)]
    if any(tile.note for tile in tiles):
        cells += [f'<span>{escape(tile.note)}</span>' for tile in tiles]
    return ''.join(cells)


def _embedded(tile: Tile) -> str:
    file = io.BytesIO()
    tile.image.save(file, 'JPEG', quality=88, subsampling=0)
    return f'data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}'


def _curves(plots: Sequence[Plot]) -> str:
    return f"""
<h2>Curves</h2>
<p><span class="key mae">with MAE, and pretraining itself</span><span class="key scratch">from scratch</span></p>
<figure><div class="plots">{''.join(plot.to_svg() for plot in plots)}</div>
<figcaption>The training loss is MMEngine's, averaged over the last iterations; the metrics are those of the validation
images. Look at how early the two starts part, and at whether the lower curve still rises where the budget ends: there
more iterations might narrow the gap.</figcaption></figure>"""


def _making(runs: Sequence[StageRun]) -> str:
    lines = []
    for run in runs:
        iterations, batch = run.budget
        minutes = f'{run.record["seconds"] / 60:.1f}' if 'seconds' in run.record else '–'
        cells = (run.name, run.record.get('status', 'not run'), f'{iterations:,} × {batch}', f'{run.images:,}', minutes)
        lines.append(f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}'
                     f'<td class="left"><code>{escape(run.record.get("checkpoint_sha256", "")[:16])}</code></td>'
                     f'<td class="left"><code>{escape(run.config)}</code></td></tr>')
    total = sum(run.record.get('seconds', 0) for run in runs) / 60
    facts = ''.join(f'<li><b>{escape(name.capitalize())}:</b> {escape(value)}</li>'
                    for name, value in {'time': f'{total:.1f} minutes for all stages', **environment()}.items())
    return f"""
<h2>How it was made</h2>
<div class="wide small"><table>
<tr><th>stage</th><th>state</th><th>iterations × batch</th><th>images seen</th><th>minutes</th>
<th class="left">SHA-256 of the checkpoint</th><th class="left">config</th></tr>
{''.join(lines)}</table></div>
<ul class="small soft">{facts}<li><b>Written:</b> {time.strftime('%Y-%m-%d %H:%M')}</li></ul>"""
