"""Everything that is to be measured on a machine, in one go: each piece a process with a time limit of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PRETRAIN = 'configs/pretrain/mae_vit-{}_in1k.py'
BASE, LARGE, HUGE = (_PRETRAIN.format(name) for name in ('base-p16', 'large-p16', 'huge-p14'))
SWITCHES = ('compile', 'timed_attention', 'cuda_graph', 'fused', 'prefetch', 'with_cp')
OFF = ('fast-compile', 'fast-timed_attention', 'fast-fused', 'fast-prefetch', 'fast-grouped')
PLAIN = ('plain', 'plain-embed', 'plain-attention', 'plain-order', 'plain-last_block', 'plain-head')
_TINY = ('model.backbone.img_size=64 model.backbone.patch_size=16 model.backbone.embed_dim=32 model.backbone.depth=2 '
         'model.backbone.num_heads=2 model.neck.decoder_embed_dim=32 model.neck.decoder_depth=2 '
         'model.neck.decoder_num_heads=2').split()


# Two crops of each decoded image, in different batches.
_REPEATED = 'fast-r2:+train_dataloader.dataset.mode=fast,+train_dataloader.dataset.repeats=2'


@dataclass(frozen=True)
class Piece:
    """One measurement.

    Attributes:
        name: Of its files.
        question: What it answers.
        arguments: Of ``tools/benchmark.py``, or of ``python -m`` for ``pytest``.
        limit: Seconds after which it is cut off.
    """

    name: str
    question: str
    arguments: Sequence[str]
    limit: float


def gpu_pieces(authors: str | None) -> list[Piece]:
    """What needs a GPU, most wanted first; 530 seconds in all."""
    clone = ['--authors', authors] if authors else []
    gates = ['--gates', 'gates.json']
    peers = ['--against', 'mmpretrain', 'mmpretrain-merged', *clone]
    return [
        Piece('kernels', 'machine, attention backends and matrix products', ['kernels', '--batch', '1024'], 40),
        Piece('gates', 'which switch may become the default: each alone against the plain path', [
            'step', BASE, '--gate-only', '--variants', *SWITCHES, 'fast', 'fast+cuda_graph', 'plain', *OFF, *PLAIN[1:],
            *peers], 110),
        Piece('peers', "ViT-B against mmpretrain and the authors' code", [
            'step', BASE, '--batch', '64', '512', '1024', '--variants', 'fast', *peers, *gates, '--curves', '200',
            '--loop'], 140),
        Piece('large', 'ViT-L', ['step', LARGE, '--batch', '512', '--variants', 'fast', '--gate-batch', '2'], 40),
        Piece('huge', 'ViT-H', ['step', HUGE, '--batch', '256', '--variants', 'fast', '--gate-batch', '2'], 50),
        Piece('graph', 'ViT-B at 64 images, as a graph', [
            'step', BASE, '--batch', '64', '--variants', 'cuda_graph', 'fast+cuda_graph', *gates], 35),
        Piece('tests', 'tests that need a GPU', ['pytest', '-q', '-m', 'gpu'], 60),
        Piece('attribution', 'what each technique brings: one off at a time', [
            'step', BASE, '--batch', '256', '--rounds', '3', '--steps', '20', '--variants', 'fast', *OFF, *PLAIN,
            *gates], 55),
    ]


def feeding_pieces(gpu: bool) -> list[Piece]:
    """From JPEG files to the step, of files made on first use: 530 seconds in all."""
    fast = BASE.replace('.py', '-fast.py')
    others = ['--against', 'mmpretrain', 'torchvision', 'torchvision-float']
    on_gpu = [
        Piece('train', 'ViT-B from files, share of the same step on random images', [
            'train', fast, '--corpus', 'corpus', '--images', '4000', '--modes', 'device', 'cached', 'fast', _REPEATED,
            '--workers', '14', '--iters', '40', '--rounds', '2'], 275),
        Piece('loader', 'the loader alone', [
            'loader', fast, '--corpus', 'corpus', '--images', '4000', '--modes', 'exact', 'fast', 'cached', 'device',
            *others, '--workers', '4', '8', '16', '--batch', '128', '--rounds', '3', '--seconds', '1.5'], 255),
    ]
    on_cpu = [
        Piece('loader', 'the loader alone', [
            'loader', BASE, '--corpus', 'corpus', '--modes', 'exact', 'fast', 'cached', *others, '--workers', '0', '1',
            '2', '--seconds', '1.2'], 510),
    ]
    return on_gpu if gpu else on_cpu


def cpu_pieces(authors: str | None) -> list[Piece]:
    """What two cores can measure, 580 seconds in all; and the pieces for a GPU, tried at a tiny size."""
    clone = ['--authors', authors] if authors else []
    dtypes = ['--dtype', 'float32', 'bfloat16']
    return [
        Piece('peers', 'ViT-B/16, batch 8, against mmpretrain', [
            'step', BASE, '--batch', '8', *dtypes, '--against', 'mmpretrain', *clone, '--steps', '1', '--gate-batch',
            '2'], 330),
        Piece('loop', 'ViT-B/16 inside the training loop', [
            'step', BASE, '--batch', '8', '--dtype', 'bfloat16', '--steps', '2', '--rounds', '3', '--gate-batch', '2',
            '--loop'], 100),
        Piece('try', 'the pieces for a GPU, tried at a tiny size', ['suite', 'gpu', '--try', *clone], 150),
    ]


def tried(pieces: Sequence[Piece], kernels_batch: int = 2) -> list[Piece]:
    """The same pieces at a tiny size, which shows that they run."""
    small = []
    for piece in pieces:
        arguments = list(piece.arguments)
        if arguments[0] == 'step':
            arguments = _replaced(arguments, '--batch', '2') if '--batch' in arguments else arguments
            arguments += ['--rounds', '2', '--steps', '1', '--gate-batch', '2', '--cfg-options', *_TINY]
            if '--curves' in arguments:
                arguments[arguments.index('--curves') + 1] = '3'
        elif arguments[0] == 'kernels':
            arguments = ['kernels', '--batch', str(kernels_batch)]
        elif arguments[0] in ('loader', 'train'):
            for name, value in (('--images', '24'), ('--workers', '2'), ('--rounds', '1'), ('--seconds', '0'),
                                ('--iters', '1'), ('--batch', '2')):
                arguments = _replaced(arguments, name, value)
            arguments += ['--cfg-options', *_TINY, 'default_hooks.fast.compile=False']
        elif arguments[0] == 'pytest':
            arguments += ['--collect-only']
        small.append(Piece(piece.name, piece.question, arguments, 120))
    return small


def _replaced(arguments: list[str], name: str, value: str) -> list[str]:
    """``arguments`` with one value for an option, which is added where it is not."""
    if name in ('--seconds', '--iters') and name not in arguments:
        return arguments
    start = arguments.index(name) if name in arguments else len(arguments)
    end = next((i for i in range(start + 1, len(arguments)) if arguments[i].startswith('--')), len(arguments))
    return [*arguments[:start], name, value, *arguments[end:]]


def run(pieces: Sequence[Piece], out: Path, deadline: float, root: Path) -> list[dict]:
    """Run ``pieces`` in turn, and write ``summary.json`` and ``summary.md`` into ``out`` after each.

    Args:
        pieces: What to run.
        out: Folder of their files and logs.
        deadline: Seconds for all; a piece gets its own limit or what is left.
        root: The repository.

    Returns:
        For each piece ``name``, ``question``, ``seconds`` and ``outcome``.
    """
    out.mkdir(parents=True, exist_ok=True)
    began, outcomes = time.monotonic(), []
    for piece in pieces:
        left = deadline - (time.monotonic() - began)
        start = time.monotonic()
        outcome = _run_piece(piece, out, min(piece.limit, left), root) if left > 5 else 'no time left'
        outcomes.append(dict(name=piece.name, question=piece.question, outcome=outcome,
                             seconds=time.monotonic() - start))
        print(f'{piece.name}: {outcome} ({outcomes[-1]["seconds"]:.0f} s)', flush=True)
        (out / 'summary.json').write_text(json.dumps(outcomes, indent=1))
        (out / 'summary.md').write_text(_summary(outcomes, out))
    return outcomes


def _run_piece(piece: Piece, out: Path, limit: float, root: Path) -> str:
    tool, *arguments = piece.arguments
    if tool == 'pytest':
        command = [sys.executable, '-m', 'pytest', *arguments]
    else:
        arguments = [str(out / word) if word in ('gates.json', 'corpus') else word for word in arguments]
        command = [sys.executable, str(root / 'tools' / 'benchmark.py'), tool, *arguments]
        command += ['--out', str(out / piece.name if tool == 'suite' else out)]
        command += ['--name', piece.name] if tool != 'suite' else []
    with open(out / f'{piece.name}.log', 'w') as log:
        # A process group of its own, so that its children end with it.
        process = subprocess.Popen(command, cwd=root, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f'cut off after {limit:.0f} s; what was done by then is kept'
    return 'done' if code == 0 else f'failed with exit code {code}, see {piece.name}.log'


def _summary(outcomes: Sequence[dict], out: Path) -> str:
    parts = []
    for outcome in outcomes:
        parts.append(f"## {outcome['name']}: {outcome['question']}\n\n"
                     f"{outcome['outcome']}, {outcome['seconds']:.0f} s\n")
        for file in (out / f"{outcome['name']}.md", out / outcome['name'] / 'summary.md'):
            if file.is_file():
                parts.append(file.read_text())
        log = out / f"{outcome['name']}.log"
        if not (out / f"{outcome['name']}.md").is_file() and log.is_file():
            parts.append('```\n' + '\n'.join(log.read_text().splitlines()[-15:]) + '\n```\n')
    return '\n'.join(parts)
