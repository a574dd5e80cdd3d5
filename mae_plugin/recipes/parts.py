"""A part of a config that remembers which of its settings were asked for, so that none is passed over in silence."""

import inspect
import json
from collections.abc import Callable, Sequence

from mmengine.registry import DefaultScope, Registry


class Part:
    """A dict of a config, read setting by setting.

    Args:
        cfg: The dict; None is an empty one.
        path: Where it stands in the config, for messages.
    """

    def __init__(self, cfg: dict | None, path: str) -> None:
        self._left = dict(cfg or {})
        self.path, self.type = path, bare(self._left.pop('type', None))

    def __call__(self, key: str, default=None):
        """The setting, which then counts as read."""
        return self._left.pop(key, default)

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def ignore(self, *keys: str) -> None:
        """Settings without effect on the result of a run."""
        for key in keys:
            self._left.pop(key, None)

    def unread(self) -> dict[str, object]:
        """What nobody asked for, as facts."""
        return {f'not understood: {self.path}.{key}': value for key, value in self._left.items()}


def bare(kind) -> str | None:
    """The name of a type without its scope."""
    if isinstance(kind, type):
        return kind.__name__
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind


def read(cfg: dict | None, path: str, readers: dict[str, Callable[[Part], dict]]) -> dict[str, object]:
    """The facts of a part by the reader of its type; what no reader knows is a fact "not understood"."""
    part = Part(cfg, path)
    if part.type not in readers:
        return {f'not understood: {path}': part.type}
    return {**readers[part.type](part), **part.unread()}


def flat(value, path: str) -> dict[str, object]:
    """Nested dicts, and lists of dicts, as facts with dotted names."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(v, dict) for v in value):
        items = enumerate(value)
    else:
        return {path: value}
    return {name: leaf for key, inner in items for name, leaf in flat(inner, f'{path}.{key}').items()}


def with_defaults(cfg, registry: Registry, scope: str):
    """A part of a library's config with the defaults of its classes filled in, so that configs compare by effect.

    Types lose their scope; a norm becomes its name and ``eps``; settings without effect are dropped.
    """
    if isinstance(cfg, Sequence) and not isinstance(cfg, str):
        return [with_defaults(item, registry, scope) for item in cfg]
    if not isinstance(cfg, dict):
        return cfg
    cfg = dict(cfg)
    if 'type' in cfg:
        defaults = _defaults(cfg['type'], registry, scope)
        cfg = {**{key: value for key, value in defaults.items() if key != 'init_cfg'}, **cfg, 'type': bare(cfg['type'])}
    if isinstance(cfg.get('norm_cfg'), dict):
        norm = cfg['norm_cfg']
        kind = {'LN2d': 'LayerNorm2d', 'SyncBN': 'BN'}.get(bare(norm['type']), bare(norm['type']))
        cfg['norm_cfg'] = f'{kind}, eps {norm.get("eps", 1e-5):g}'  # mmcv gives every norm an eps
    if cfg.get('init_cfg') is not None:
        cfg['init_cfg'] = json.dumps(cfg['init_cfg'], sort_keys=True, default=str)
    for key in ('debug', 'train_cfg', 'test_cfg', 'context_block', 'plugins', 'class_weight'):
        if cfg.get(key) in (None, False):
            cfg.pop(key, None)
    cfg.pop('ann_file', None)  # where data lies
    return {key: with_defaults(value, registry, scope) for key, value in cfg.items()}


def _defaults(kind, registry: Registry, scope: str) -> dict[str, object]:
    with DefaultScope.overwrite_default_scope(scope), registry.switch_scope_and_registry(None) as found:
        cls = kind if isinstance(kind, type) else found.get(kind)
    defaults = {}
    for base in getattr(cls, '__mro__', ()):
        if '__init__' not in vars(base) or not inspect.isfunction(base.__init__):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        for parameter in parameters:
            if parameter.default is not inspect.Parameter.empty:
                defaults.setdefault(parameter.name, parameter.default)
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return defaults
