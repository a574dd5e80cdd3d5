"""What is kept of a study: small files that say what was run, how, on what, and what came out."""

import csv
import io
import json
import shlex
from pathlib import Path

from mmengine.config import Config

from mae_plugin.utils.chain import Chain
from mae_plugin.visualization.curves import read_scalars
from mae_plugin.visualization.report import environment
from mae_plugin.visualization.study import as_csv, markdown, read_rows, said_of_seeds, study_svg

_LINES = 20  # of the training loss in a log


def write_study(chain: Chain, folder: Path, source: str) -> str:
    """Write the tables, the plot, and for each finished run its command, seconds, metrics, log and config.

    ::

        results.md  results.csv  label_efficiency.svg
        runs.csv            a line for each run
        logs/STAGE.csv      training loss and validations
        configs/NAME.py     the whole config of the first run of each config file, without the paths of a machine;
                            what others change is in runs.csv

    Args:
        chain: The study.
        folder: Gets the files; what is there of an earlier call is written anew.
        source: The config of the chain.

    Returns:
        The text of ``results.md``.
    """
    rows = read_rows(chain)
    for name in ('logs', 'configs'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / 'results.csv').write_text(as_csv(rows))
    (folder / 'label_efficiency.svg').write_text(study_svg(rows))
    finished = [name for name, stage in chain.stages.items()
                if stage.config and chain.record.get(name, {}).get('status') == 'finished']
    (folder / 'runs.csv').write_text(_runs(chain, finished))
    firsts = {}
    for name in finished:
        (folder / 'logs' / f'{name}.csv').write_text(_log(chain.work_dir / name))
        firsts.setdefault(Path(chain.stages[name].config).name, name)
    for config, name in firsts.items():  # what went in, by the hash in runs.csv
        inputs = json.loads((chain.work_dir / name / 'chain_inputs.json').read_text())
        Config(inputs['config']).dump(str(folder / 'configs' / config))
    hours = sum(chain.record[name]['seconds'] for name in finished) / 3600
    facts = environment()
    text = (f'`{source}`: {len(finished)} of {len(chain.configs)} runs have finished, {hours:.1f} hours of wall time '
            f'added up. In percent; {said_of_seeds(rows)}. The table was made on {facts["machine"]}; '
            f'{facts["software"]}.\n\n{markdown(rows)}')
    (folder / 'results.md').write_text(text, encoding='utf-8')
    return text


def _runs(chain: Chain, names: list[str]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['stage', 'config', 'starts from', 'changes', 'iterations', 'images seen', 'seconds', 'metrics',
                     'SHA-256 of the checkpoint', 'SHA-256 of what went in'])
    for name in names:
        stage, record = chain.stages[name], chain.record[name]
        metrics = ' '.join(f'{key}={value:.4f}' for key, value in record['metrics'].items())
        changes = [f'{key}={value}' for key, value in stage.cfg_options.items()]
        writer.writerow([name, stage.config, stage.init_from or '', shlex.join(changes), chain.amount(stage)[0],
                         record['images_seen'], record['seconds'], metrics, record['checkpoint_sha256'],
                         record['inputs_sha256']])
    return file.getvalue()


def _log(folder: Path) -> str:
    """Iteration, quantity and value: the loss, thinned, and every validation."""
    training, validation = read_scalars(folder)
    losses = sorted(training.get('loss', {}).items())
    thin = losses[::-max(1, -(-len(losses) // _LINES))][::-1]  # the last one is kept
    lines = [(step, 'loss', value) for step, value in thin]
    lines += [(step, key, value) for key, values in validation.items() for step, value in values.items()
              if key not in ('step', 'time', 'data_time') and isinstance(value, int | float)]
    return 'iteration,quantity,value\n' + ''.join(f'{step},{key},{value:.5g}\n' for step, key, value in sorted(lines))
