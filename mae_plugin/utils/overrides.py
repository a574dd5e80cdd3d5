"""``--cfg-options``: changes of a config that must hit something."""

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from mae_plugin.utils.cli import nearest

# What the Runner and our tools read besides the arguments of the Runner's constructor.
_ALSO_READ = {
    'activation_checkpointing', 'compile', 'custom_imports', 'efficient_conv_bn_eval', 'find_unused_parameters',
    'model_wrapper_cfg', 'prepare_data', 'recipe', 'runner_type', 'strategy', 'sync_bn', 'tta_model', 'tta_pipeline'
}


def apply_overrides(cfg, options: Sequence[str]) -> None:
    """Set ``key=value`` pairs in ``cfg``, in place.

    Args:
        cfg (mmengine.Config): The config.
        options: ``key=value``, where ``key`` is a dotted path with list positions as numbers
            (``param_scheduler.0.end``) and must exist; ``+key=value`` adds one. A value replaces what was there.

    Raises:
        ValueError: There is no ``=``, the path leads through something that has no keys, or the key is a variable that
            the config used while it was read, so that changing it has no effect.
        KeyError: The key does not exist; the message has the nearest ones.
    """
    for option in options:
        key, equals, text = option.partition('=')
        if not equals:
            raise ValueError(f"--cfg-options takes key=value, not '{option}'")
        adds, key = key.startswith('+'), key.removeprefix('+')
        if not adds:
            _check_exists(cfg, key)
            _check_is_read(cfg, key)
        _set(cfg, key, parse_value(text))


def parse_value(text: str) -> Any:
    """The value MMEngine's tools read from ``text``; Python literals, as ``{'a': 1}`` and ``"1"``, as well."""
    from mmengine.config import DictAction
    if text[:1] in tuple('[({\'"'):
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            pass
    if ',' in text or text[:1] in ('[', '('):
        return DictAction._parse_iterable(text)
    return DictAction._parse_int_float_bool(text)


def format_value(value: Any) -> str:
    """The inverse of :func:`parse_value`."""
    if isinstance(value, str):
        return value if parse_value(value) == value else repr(value)
    return repr(value)


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        yield from ((str(key), value) for key, value in node.items())
    elif isinstance(node, (list, tuple)):
        yield from ((str(i), value) for i, value in enumerate(node))


def _paths(node: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """All dotted paths below ``node`` with their values."""
    for key, value in _children(node):
        yield prefix + key, value
        yield from _paths(value, f'{prefix}{key}.')


def _check_exists(cfg, key: str) -> None:
    node = cfg._cfg_dict
    for part in key.split('.'):
        children = dict(_children(node))
        if part not in children:
            paths = [path for path, _ in _paths(cfg._cfg_dict)]
            last = key.rpartition('.')[2]
            near = nearest(key, paths) or [path for path in paths if path.rpartition('.')[2] == last][:3]
            hint = f'did you mean {" or ".join(near)}? ' if near else ''
            raise KeyError(f"--cfg-options: the config has no '{key}'; {hint}To add it, write +{key}=...")
        node = children[part]


def _check_is_read(cfg, key: str) -> None:
    """Refuse a top-level name that only served to write the config."""
    import inspect

    from mmengine.runner import Runner
    name, dot, rest = key.partition('.')
    if name in inspect.signature(Runner.__init__).parameters or name in _ALSO_READ:
        return
    value = cfg[name]
    uses = [path + dot + rest for path, other in _paths(cfg._cfg_dict)
            if path.partition('.')[0] != name and other == value and value not in (None, True, False)]
    hint = f'set {" and ".join(uses[:4])} instead' if uses else 'set what it was used for instead'
    raise ValueError(f"--cfg-options: '{name}' is a variable that the config has used already, changing it has no "
                     f'effect; {hint} (+{key}=... sets it all the same)')


def _set(cfg, key: str, value: Any) -> None:
    from mmengine.config import ConfigDict
    node, (*parents, last) = cfg._cfg_dict, key.split('.')
    for part in parents:
        if isinstance(node, dict):
            node = node.setdefault(part, ConfigDict())
        elif isinstance(node, list):
            node = node[int(part)]
    if isinstance(node, dict):
        node[last] = ConfigDict(value=value).value
    elif isinstance(node, list):
        node[int(last)] = ConfigDict(value=value).value
    else:
        raise ValueError(f"--cfg-options: cannot set '{key}': '{'.'.join(parents)}' is {node!r}; give it as a whole")
