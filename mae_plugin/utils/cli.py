"""The frame of every command line tool: an error is one message, and its traceback is kept."""

import ast
import difflib
import importlib.util
import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

_TRACEBACK = 'Traceback (most recent call last):'
_OUT_OF_MEMORY = re.compile(r"CUDA out of memory(\. Tried to allocate [\d.]+ \w+)?"
                            r"|can't allocate memory(: you tried to allocate \d+ bytes)?")
_work_dir: Path | None = None


def keep_traceback_in(work_dir: str | os.PathLike) -> None:
    """Name the folder whose ``error.log`` gets the traceback of an error; it is written only if the folder exists."""
    global _work_dir
    _work_dir = Path(work_dir)


def run_cli(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run ``main(argv)`` and turn any error into one message on stderr.

    The traceback goes to ``error.log`` in the folder of :func:`keep_traceback_in`; ``--debug`` among the arguments
    shows it instead. Under torchrun the message goes to the launcher, which reports the first process that failed.

    Returns:
        The exit code: 0, 1 for an error, 130 for Ctrl-C.
    """
    global _work_dir
    _work_dir = None
    # PyTorch's threads spin while they wait for each other. Where loader workers or other programs want the same cores,
    # that made a training step on two cores five times slower. Read when torch is imported, so set before.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    # Tensors on the CPU in pages of 2 MB where the system has them: every step allocates its activations anew, and the
    # kernel hands out and clears 4 KB at a time otherwise.
    os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')
    argv = sys.argv[1:] if argv is None else argv
    try:
        main(argv)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except Exception as error:
        message = describe(error)
        log = _append_traceback()
        if '--debug' in argv:
            traceback.print_exc()
        elif log:
            message += f' [traceback: {log}]'
        if not _tell_launcher(message):
            print(f'error: {message}', file=sys.stderr)
        return 1
    return 0


def leave(code: int) -> None:
    """End the process with ``code``; if it is one of several and all went well, at once, without Python's tear-down.

    Threads of a process group on the CPU sometimes abort a process that is being torn down, and a finished job would
    count as failed. All files are written by then; loader workers end when their parent is gone.
    """
    if code == 0 and int(os.environ.get('WORLD_SIZE', 1)) > 1:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def describe(error: BaseException) -> str:
    """What went wrong, in one line: without wrappers and tracebacks, with near names where a name is unknown."""
    name, text = type(error).__name__, str(error)
    if isinstance(error, KeyError) and len(error.args) == 1:
        text = str(error.args[0])
    where = ''
    if _TRACEBACK in text:  # from a DataLoader worker or a spawned process
        name, text = _last_error(text)
    elif error.__traceback__ is not None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f' (at {frame.filename}:{frame.lineno})'
    if isinstance(error, OSError) and error.filename is not None and text.startswith('[Errno'):
        text = f'{error.filename}: {error.strerror}'
    text = re.sub(r'^class `\w+` in \S+: ', '', ' '.join(text.split()))
    unknown = re.search(r'(\S+) is not in the (\S+?::)?(.+?) registry', text) or re.match(r'Failed to get (\S+)$', text)
    if unknown:
        return _unknown_type(unknown[1].strip('`\'"'))
    if name in ('ValueError', 'KeyError', 'OSError', 'FileNotFoundError') and ' ' in text:
        return text
    full = _OUT_OF_MEMORY.search(text)
    if full:
        return (f'{full[0]}. What needs less: a smaller train_dataloader.batch_size (--fit-batch accumulate keeps the '
                'recipe), +model.backbone.with_cp=True (activation checkpointing), half precision (--amp)')
    return f'{name}: {text}{where}'


def nearest(name: str, names: Sequence[str], count: int = 3) -> list[str]:
    """The ``names`` most like ``name``, best first, regardless of case."""
    lower = {other.lower(): other for other in names}
    return [lower[match] for match in difflib.get_close_matches(name.lower(), lower, count, cutoff=0.6)]


def _last_error(text: str) -> tuple[str, str]:
    """Name and message of the error that ends a printed traceback."""
    lines = text.rsplit(_TRACEBACK, 1)[1].strip('\n').splitlines()
    start = next((i for i, line in enumerate(lines) if line[:1] not in (' ', '')), 0)
    name, _, message = '\n'.join(lines[start:]).partition(': ')
    if message[:1] in ('"', "'") and name == 'KeyError':
        try:
            message = str(ast.literal_eval(message.strip()))
        except (SyntaxError, ValueError):
            pass
    return name.rsplit('.', 1)[-1], message


def _unknown_type(name: str) -> str:
    """Explain a ``type`` that no registry knows."""
    import mmengine.registry as mm

    from mae_plugin import registry as ours
    registries = [value for value in vars(ours).values() if isinstance(value, mm.Registry)]
    for registry in registries:
        registry.import_from_location()
    our_names = sorted({f'mae_plugin.{key}' for registry in registries for key in registry.module_dict})
    scope, _, bare = name.rpartition('.')
    if f'mae_plugin.{bare}' in our_names:
        return f"type '{name}' is unknown; did you mean 'mae_plugin.{bare}'?"
    if scope and scope != 'mae_plugin' and importlib.util.find_spec(scope.split('.')[0]) is None:
        return f"type '{name}' is unknown, because the package {scope} is not installed"
    others = {key if child.scope in ('mmengine', '') else f'{child.scope}.{key}'
              for root in vars(mm).values() if isinstance(root, mm.Registry)
              for child in (root, *root.children.values()) if child.scope != 'mae_plugin' for key in child.module_dict}
    bare_names = {choice.rpartition('.')[2]: choice for choice in (*others, *our_names)}
    near = [bare_names[match] for match in nearest(bare, list(bare_names))]
    hint = f'did you mean {" or ".join(near)}? ' if near else ''
    return (f"type '{name}' is unknown; {hint}Ours are {', '.join(our_names)}; the module of a class of your own is "
            "named in custom_imports")


def _append_traceback() -> Path | None:
    if _work_dir is None or not _work_dir.is_dir():
        return None
    rank = os.environ.get('RANK', '0')
    log = _work_dir / ('error.log' if rank == '0' else f'error_rank{rank}.log')
    with open(log, 'a') as file:
        file.write(f'{time.strftime("%Y-%m-%d %H:%M:%S")} {" ".join(sys.argv)}\n{traceback.format_exc()}\n')
    return log


def _tell_launcher(message: str) -> bool:
    """Write ``message`` where torchrun looks for it (the format of torch.distributed.elastic); False without one."""
    file = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if not file:
        return False
    details = {'py_callstack': message, 'timestamp': str(int(time.time()))}
    Path(file).write_text(json.dumps({'message': {'message': message, 'extraInfo': details}}))
    return True
