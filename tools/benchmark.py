"""Measure how fast pretraining is: tables, JSON and a picture."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also works without installation

from mae_plugin.utils import run_config  # noqa: E402
from mae_plugin.utils.cli import leave, run_cli  # noqa: E402


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    step = commands.add_parser(
        'step', help='training steps of a config and of other implementations, in turns',
        description='Training steps of a config and of other implementations, in turns, on random images. A contender '
        'that does not compute what the plain path computes gets no number.')
    step.add_argument('config', help='a pretraining config')
    step.add_argument('--batch', type=int, nargs='+', help="batch sizes; default: the config's")
    step.add_argument('--rounds', type=int, default=5, help='turns of each contender (default: 5)')
    step.add_argument('--steps', type=int, help='steps of a turn (default: 30 on a GPU, 3 on the CPU)')
    step.add_argument(
        '--dtype', nargs='+', choices=['float32', 'bfloat16', 'float16'], default=[None],
        help="precisions of every contender; default: the config's, and of others as shipped")
    step.add_argument(
        '--against', nargs='+', default=[], metavar='CONTENDER', help="others' implementations: mmpretrain as shipped, "
        'mmpretrain-merged with few parameter groups')
    step.add_argument(
        '--authors', metavar='PATH', help="a clone of the authors' repository: their step as shipped, and, as "
        'authors-port, with fused attention and without loss scaling')
    step.add_argument(
        '--variants', nargs='+', default=[], metavar='NAME', help='the config with techniques switched on or off: '
        'compile, no-compile, fast, fast-compile, plain, plain-head, or NAME:key=value,key=value; any other name lists '
        'all')
    step.add_argument('--curves', type=int, default=0, metavar='N', help='also compare loss curves of N steps')
    step.add_argument('--gate-batch', type=int, default=8, help='batch of the parity gate (default: 8)')
    step.add_argument('--gate-only', action='store_true', help='only the parity gate')
    step.add_argument('--loop', action='store_true', help='also the step inside the training loop')
    step.add_argument('--gates', metavar='JSON', help='an earlier result of this config, whose parity still counts')
    step.add_argument('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                      help='change settings of the config, as for tools/train.py')
    kernels = commands.add_parser('kernels', help='attention and matrix products at the shapes of MAE')
    kernels.add_argument('--batch', type=int, default=1024, help='images (default: 1024)')
    loader = commands.add_parser(
        'loader', help='images/s of the loader of a config and of others, from files, in turns',
        description='Batches from image files by the loader of a config, in its modes, and by others, in turns: '
        'images/s by number of workers (0: one core does all), time by stage, memory of a worker, first batch.')
    loader.add_argument('--against', nargs='+', default=[], choices=['mmpretrain', 'torchvision', 'torchvision-float'],
                        help="others' loaders, of the same files: mmpretrain's MAE pipeline, torchvision's crops as "
                        "bytes or, as the authors', as normalised floats")
    loader.add_argument('--seconds', type=float, default=2., help='least length of a turn (default: 2)')
    train = commands.add_parser(
        'train', help='the training loop from image files, against the same step on random images',
        description='The training loop of a config from image files, in turns with the same step on random images that '
        'lie on the device.')
    train.add_argument('--iters', type=int, help='iterations of a block (default: 60 on a GPU, 4 on the CPU)')
    for command, rounds, batch in ((loader, 5, '64'), (train, 3, "the config's")):
        command.add_argument('config', help='a pretraining config')
        command.add_argument('--data', metavar='FOLDER', help="images, as data_root takes them; default: the config's")
        command.add_argument('--corpus', metavar='DIR', help='ImageNet-like images, made there on first use')
        command.add_argument('--images', type=int, default=2000, help='of the corpus (default: 2000)')
        command.add_argument('--store', metavar='DIR', help="for mode cached, made on first use; default: the corpus' "
                             'folder with _store, or a temporary one')
        command.add_argument(
            '--modes', nargs='+', default=['exact', 'fast'], metavar='MODE', help='of the images: exact, fast, cached, '
            'device; or NAME:key=value,key=value, settings of the config (default: exact fast)')
        command.add_argument('--workers', type=int, nargs='+', help='numbers of workers'
                             + (' (default: 0 and all cores)' if command is loader else "; default: the config's"))
        command.add_argument('--batch', type=int, help=f'batch size (default: {batch})')
        command.add_argument('--rounds', type=int, default=rounds, help=f'turns of each (default: {rounds})')
        command.add_argument('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                             help='change settings of the config, as for tools/train.py')
    for command in (step, kernels, loader, train):
        command.add_argument('--name', default=command.prog.split()[-1], help='of the files; default: the command')
        command.add_argument('--out', help='folder for JSON, Markdown and picture; default: only print')
    suite = commands.add_parser('suite', help='everything that is to be measured on a machine: benchmarks/*.sh')
    suite.add_argument('machine', choices=['gpu', 'cpu', 'feeding'], help='feeding: images from files, with and '
                       'without a GPU')
    suite.add_argument('--authors', metavar='PATH', help="a clone of the authors' repository")
    suite.add_argument('--try', dest='tiny', action='store_true', help='every piece at a tiny size, to see it run')
    suite.add_argument('--out', required=True, help='folder for the results')
    scaling = commands.add_parser(
        'scaling', help='many GPUs on paper, from what one does: the tables of docs/scaling.md')
    scaling.add_argument(
        '--images-per-second', type=float, nargs=3, metavar=('B', 'L', 'H'), help='measured, of one GPU; default: '
        'predictions')
    scaling.add_argument('--fixed-ms', type=float, nargs=3, metavar=('B', 'L', 'H'),
                         help='measured milliseconds of a step that do not depend on the batch')
    scaling.add_argument('--batch', type=int, default=512, help='images of a GPU (default: 512)')
    scaling.add_argument('--total', type=int, default=4096, help='images of all GPUs (default: 4096)')
    scaling.add_argument('--gpus', type=int, nargs='+', default=[2**i for i in range(11)])
    scaling.add_argument('--gpus-per-node', type=int, default=8)
    scaling.add_argument('--nvlink', type=float, default=350., help='GB/s of an all-reduce in a node (default: 350)')
    scaling.add_argument('--network', type=float, default=40., help='GB/s of a GPU between nodes (default: 40)')
    scaling.add_argument('--loader', type=float, default=85_600., help='images/s of the loaders of a node')
    for part in (parser, step, kernels, loader, train, suite, scaling):
        part.add_argument('--debug', action='store_true', help='show the whole traceback of an error')
    return parser.parse_args(argv)


def _check_positive(args: argparse.Namespace, *names: str) -> None:
    for name in names:
        values = getattr(args, name)
        if any(value < 1 for value in (values if isinstance(values, list) else [values]) if value is not None):
            raise ValueError(f'--{name.replace("_", "-")} {values}: at least 1 is needed')


def step(args: argparse.Namespace) -> None:
    """Compare training steps."""
    import torch

    from mae_plugin.benchmark import report
    from mae_plugin.benchmark.session import Spec
    from mae_plugin.benchmark.step import measure
    _check_positive(args, 'batch', 'rounds', 'steps', 'gate_batch', *(['curves'] if args.curves else []))
    cfg = run_config.load_config(args.config, args.cfg_options)
    variants = [('plugin', variant) for variant in ('', *args.variants)]
    others = [(name, '') for name in (*args.against, *(('authors', 'authors-port') if args.authors else ()))]
    specs = [Spec(project, dtype, variant, args.authors) for project, variant in (*variants, *others)
             for dtype in args.dtype]
    facts = dict(command=sys.argv[1:], config=args.config, options=args.cfg_options, machine=report.machine())
    known = []
    if args.gates and Path(args.gates).is_file():
        earlier = json.loads(Path(args.gates).read_text())
        if [earlier[key] for key in ('config', 'options')] == [args.config, args.cfg_options]:
            known = earlier['rows']

    def save(result: dict) -> None:
        if args.out:
            report.write(facts | result, Path(args.out), args.name)
    result = measure(
        cfg, specs, args.batch or [cfg.train_dataloader.batch_size], args.rounds,
        args.steps or (30 if torch.cuda.is_available() else 3), args.curves, args.gate_batch, args.gate_only, args.loop,
        known, say=_say, save=save)
    print(report.markdown(result))
    save(result)
    failed = [f"{row['name']}: {row['error']}" for row in result['rows']
              if row.get('error') and not row.get('does_not_fit')]
    if failed:
        raise ValueError(f'{len(failed)} could not be measured: {"; ".join(dict.fromkeys(failed))}')


def kernels(args: argparse.Namespace) -> None:
    """Time attention and matrix products."""
    import torch

    from mae_plugin.benchmark import report
    from mae_plugin.benchmark.kernels import attention_times, markdown, product_rates
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    result = dict(machine=report.machine())
    for name, measure in (('attention', attention_times), ('products', product_rates)):
        result[name] = measure(args.batch, device, torch.bfloat16)
    text = report.lines_of(result['machine']) + markdown(result['attention'], result['products'])
    print(text)
    if args.out:
        report.write_text(result, Path(args.out), args.name, text)


def loader(args: argparse.Namespace) -> None:
    """Compare loaders."""
    from mae_plugin.benchmark import corpus, loader, report
    _check_positive(args, 'batch', 'rounds')
    workers = args.workers or [0, corpus.usable_cores()]
    _feed(args, report.loader_markdown, lambda cfg, save: loader.measure(
        cfg, [*args.modes, *args.against], workers, args.batch or 64, args.rounds, args.seconds, _say, save))


def train(args: argparse.Namespace) -> None:
    """Compare the training loop from files with the bare step."""
    import torch

    from mae_plugin.benchmark import feeding, report
    _check_positive(args, 'batch', 'rounds', 'iters')
    iters = args.iters or (60 if torch.cuda.is_available() else 4)
    _feed(args, report.train_markdown, lambda cfg, save: feeding.measure(
        cfg, args.modes, args.workers or [cfg.train_dataloader.get('num_workers', 0)],
        args.batch or cfg.train_dataloader.batch_size, args.rounds, iters, _say, save))


def _feed(args: argparse.Namespace, markdown: Callable[[dict], str],
          measure: Callable[[Any, Callable[[dict], None]], dict]) -> None:
    """Measure on the images that ``args`` names; print and keep the tables."""
    from mae_plugin.benchmark import report
    from mae_plugin.benchmark.corpus import ensure_corpus, facts_of
    from mae_plugin.benchmark.loaders import sample_of
    if any(count < 0 for count in args.workers or ()):
        raise ValueError(f'--workers {args.workers}: at least 0 is needed')
    if args.data and args.corpus:
        raise ValueError('--data and --corpus: give one of them')
    root = args.data or args.corpus and str(ensure_corpus(args.corpus, args.images))
    with TemporaryDirectory(prefix='mae_benchmark') as temporary:
        store = args.store or (f'{args.corpus}_store' if args.corpus else f'{temporary}/store')
        cfg = run_config.load_config(args.config, [
            *([f'train_dataloader.dataset.data_root={root}'] if root else []),
            f'+train_dataloader.dataset.cache={store}', *args.cfg_options])
        facts = dict(command=sys.argv[1:], machine=report.machine(), images=facts_of(sample_of(cfg)))

        def text(result: dict) -> str:
            return report.lines_of(facts['machine'] | facts['images']) + markdown(result)

        def save(result: dict) -> None:
            if args.out:
                report.write_text(facts | result, Path(args.out), args.name, text(result))
        result = measure(cfg, save)
    print(text(result))
    save(result)
    if result['errors']:
        raise ValueError('; '.join(f'{name} could not be measured: {why}' for name, why in result['errors'].items()))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def suite(args: argparse.Namespace) -> None:
    """Measure all there is to be measured on this machine."""
    import torch

    from mae_plugin.benchmark import suite
    gpu = torch.cuda.is_available()
    if args.machine == 'gpu' and not args.tiny and not gpu:
        raise ValueError('suite gpu: there is no GPU here; --try runs every piece at a tiny size on the CPU')
    if args.machine == 'feeding':
        pieces = suite.feeding_pieces(gpu or args.tiny)
    else:
        authors = args.authors and str(Path(args.authors).expanduser().resolve())
        pieces = dict(gpu=suite.gpu_pieces, cpu=suite.cpu_pieces)[args.machine](authors)
    outcomes = suite.run(suite.tried(pieces) if args.tiny else pieces, Path(args.out).resolve(),
                         585 if args.machine == 'cpu' else 530, run_config.repository())
    bad = [outcome['name'] for outcome in outcomes if outcome['outcome'] != 'done']
    if bad:
        raise ValueError(f'{args.out}/summary.md has the results; not complete: {", ".join(bad)}')


def scaling(args: argparse.Namespace) -> None:
    """Print tables for many GPUs."""
    from mae_plugin.benchmark import scaling
    models = list(scaling.PREDICTED)
    for i, model in enumerate(models):
        rate = args.images_per_second[i] if args.images_per_second else model.images_per_second
        fixed = args.fixed_ms[i] / 1e3 if args.fixed_ms else model.fixed
        models[i] = scaling.Model(model.name, model.parameters, rate, fixed)
    cluster = scaling.Cluster(args.gpus_per_node, args.nvlink * 1e9, args.network * 1e9, loader=args.loader)
    print(scaling.markdown(models, cluster, args.gpus, args.batch, args.total,
                           'measured' if args.images_per_second else 'predicted, not measured'), end='')


def main(argv: Sequence[str]) -> None:
    """Measure."""
    args = parse_args(argv)
    dict(step=step, kernels=kernels, loader=loader, train=train, suite=suite, scaling=scaling)[args.command](args)


if __name__ == '__main__':
    leave(run_cli(main))
