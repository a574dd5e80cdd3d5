"""Hooks: what a checkpoint holds, what it says of itself, and whether it is the right one for the model."""

import logging
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.utils import apply_to
from torch import Tensor, nn

from mae_plugin.engine.distributed import whole_shapes
from mae_plugin.models import MaskedAutoencoder
from mae_plugin.registry import HOOKS
from mae_plugin.utils.hashing import file_sha256
from mae_plugin.weights.card import COMPARED, OF_DECODER, disagreements, lineage, make_card
from mae_plugin.weights.checkpoint import card_of, check_finite, kind_of
from mae_plugin.weights.files import CARD_KEY
from mae_plugin.weights.formats import recognise

_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.Size, torch.dtype, torch.device)
_HISTORY = ('log_history', 'count_history', 'max_length')
_FOREIGN = object()


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of several processes and of ``--tta``."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Save nothing but tensors, numbers, text and containers of them, which any restricted reader reads.

    ``torch.load(file, weights_only=True)`` needs no list of allowed classes then. MMEngine adds its log history and
    NumPy's arrays and numbers; they become tensors and Python's numbers. What cannot be made plain, like a function in
    the state of a scheduler, is left out with a warning: with it, no restricted reader would read the file at all. Of
    what the run holds nothing is changed, and weights are not copied.

    When a run is resumed, log histories and arrays are what they were.
    """

    priority = 'LOWEST'  # after hooks that add to the checkpoint, as EMA does

    def __init__(self) -> None:
        self.left_out: set[tuple[str, type]] = set()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Make every entry of ``checkpoint`` plain."""
        plain = dict(self._plain(checkpoint, ''))
        checkpoint.clear()
        checkpoint.update(plain)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Give the message hub its histories and arrays back; older checkpoints hold them as they are."""
        hub = checkpoint.get('message_hub')
        if isinstance(hub, dict):
            hub['log_scalars'] = {name: _history(value) for name, value in hub.get('log_scalars', {}).items()}
            hub['runtime_info'] = apply_to(hub.get('runtime_info', {}), lambda value: isinstance(value, Tensor),
                                           lambda value: value.cpu().numpy())
        if runner._resume:
            # MMEngine warns unless the pickles are equal, which those of an array and of a tensor are not.
            ours = getattr(runner.train_dataloader.dataset, 'metainfo', None)
            meta = checkpoint.get('meta', {})
            if self._comparable(meta.get('dataset_meta')) == self._comparable(ours):
                meta['dataset_meta'] = ours

    def _comparable(self, meta: Any) -> Any:
        return apply_to(self._plain(meta, 'dataset_meta'), lambda value: isinstance(value, Tensor), Tensor.tolist)

    def _plain(self, value: Any, key: str) -> Any:
        """``value`` itself if it is plain, else a copy that is; ``_FOREIGN`` if there can be none."""
        if type(value) in _PLAIN or isinstance(value, Tensor):
            return value
        if isinstance(value, HistoryBuffer):
            return self._plain(dict(zip(_HISTORY, (*value.data, value.max_length), strict=True)), key)
        if isinstance(value, np.ndarray):
            try:
                return torch.from_numpy(np.array(value, value.dtype.newbyteorder('=')))
            except TypeError:  # text and objects
                return self._plain(value.tolist(), key)
        if isinstance(value, np.generic) and not isinstance(value.item(), np.generic):
            return self._plain(value.item(), key)
        for kind in (int, float, str):
            if isinstance(value, kind):
                return kind(value)
        if isinstance(value, dict):
            return self._plain_dict(value, key)
        for kind in (list, tuple, set):
            if isinstance(value, kind):
                items = [self._plain(item, f'{key}.{i}') for i, item in enumerate(value)]
                return kind(None if item is _FOREIGN else item for item in items)
        if (key, type(value)) not in self.left_out:
            self.left_out.add((key, type(value)))
            print_log(f'{key} is left out of the checkpoints: what a {type(value).__module__}.{type(value).__name__} '
                      'holds can only be read by running code', logger='current', level=logging.WARNING)
        return _FOREIGN

    def _plain_dict(self, value: dict, key: str) -> dict:
        items = [(self._plain(name, f'{key}.{name}'.lstrip('.')), self._plain(item, f'{key}.{name}'.lstrip('.')))
                 for name, item in value.items()]
        same = all(name is old and item is old_item
                   for (name, item), (old, old_item) in zip(items, value.items(), strict=True))
        if same and type(value) in (dict, OrderedDict):  # a state dict keeps its versions, which are an attribute
            return value
        return {name: item for name, item in items if name is not _FOREIGN and item is not _FOREIGN}


def _history(value: Any) -> Any:
    if not isinstance(value, dict) or value.keys() != {*_HISTORY}:
        return value
    log, count, max_length = (value[name] for name in _HISTORY)
    return HistoryBuffer(log.cpu().numpy(), count.cpu().numpy(), max_length)


@HOOKS.register_module()
class CheckpointCardHook(Hook):
    """Give every checkpoint a card, see :mod:`mae_plugin.weights.card`, and hold the model against that of its start.

    A run starts from a file by ``init_cfg`` (:class:`~mae_plugin.models.pretrained.MAEPretrained`), ``load_from`` or
    ``--resume``; a test has one, too. Images that are normalised otherwise, or another number of heads, change no
    tensor's size and would only cost accuracy. A file without a card is not compared, which the log says.

    Args:
        allow: Names of :data:`~mae_plugin.weights.card.COMPARED` that may differ from the file's.

    Raises:
        ValueError: ``allow`` has another name; or the model disagrees with the file, and the message has each value.
    """

    priority = 'LOWEST'

    def __init__(self, allow: Collection[str] = ()) -> None:
        unknown = [name for name in allow if name not in COMPARED]
        if unknown:
            raise ValueError(f'default_hooks.card.allow={allow!r} is not a list of names from {", ".join(COMPARED)}')
        self.allow = set(allow)
        self.start: tuple[str, dict | None] | None = None  # of load_from
        self.parents: list[dict] = []

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare the file of ``load_from`` or ``--resume``; a resumed run keeps its parents."""
        file = str(runner._load_from or 'the resumed checkpoint')
        card = card_of(checkpoint, file)
        self._compare(runner, file, card)
        if runner._resume:
            self.parents = list((card or {}).get('parents') or ())
        else:
            self.start = file, card

    def before_train(self, runner) -> None:
        """Compare the file of ``init_cfg``, and note what the run starts from."""
        model = _unwrapped(runner.model)
        for part in (model, getattr(model, 'backbone', None)):
            loaded = getattr(part, 'loaded_from', None)
            if loaded is not None:
                init_cfgs = part.init_cfg if isinstance(part.init_cfg, list) else [part.init_cfg or {}]
                resized = ['patch_size'] if any(cfg.get('resize') for cfg in init_cfgs) else []
                fresh = [] if part is model else OF_DECODER
                self._compare(runner, loaded['file'], loaded['card'], [*resized, *fresh])
                if not runner._resume:
                    self.parents = lineage(**loaded)
                break
        if self.start is not None and is_main_process():  # which alone saves
            file, card = self.start
            path = Path(file).expanduser()
            self.parents = lineage(file, file_sha256(path) if path.is_file() else None, card)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Add the card."""
        checkpoint['meta'][CARD_KEY] = make_card(_unwrapped(runner.model), runner.cfg, self.parents)

    def _compare(self, runner, file: str, card: dict | None, ignored: Collection[str] = ()) -> None:
        if card is None:
            print_log(f'{file} has no card (it is older, or of another project): whether mean, std, order of channels '
                      'and number of heads are what it was trained with is not checked', logger='current')
            return
        found = disagreements(card, make_card(_unwrapped(runner.model), runner.cfg), {*self.allow, *ignored})
        if found:
            allow = ','.join(f'"{name}"' for name in sorted({*self.allow, *found}))
            raise ValueError(
                f'{file} holds another model than the config, or one that was trained otherwise: '
                f'{"; ".join(found.values())}: set the config to what the file has, or, if the difference is meant, '
                f'allow it: default_hooks.card.allow=[{allow}]')


@HOOKS.register_module()
class CheckpointFitsHook(Hook):
    """Stop when a checkpoint that is loaded does not hold every weight of the model, in its size, and finite.

    MMEngine warns and goes on with the random weights. What the file holds beyond the model is left to that warning.

    Args:
        resume: The checkpoint must also hold what a run needs to go on.
        part: Check only weights whose name begins so; ``backbone.`` for ``load_from``, where the head may be new.

    Raises:
        ValueError: The checkpoint does not fit; the message counts what is wrong and names the first of each kind. Or
            it holds NaN or infinite numbers, or the run to resume had a schedule of another length.
    """

    priority = 'LOWEST'  # after hooks that swap weights in the checkpoint, as EMA does

    def __init__(self, resume: bool = False, part: str = ''):
        self.resume, self.part = resume, part

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare names and shapes, and the parts needed to resume."""
        path = runner._load_from
        absent = {'meta', 'message_hub', 'optimizer', 'state_dict'} - checkpoint.keys()
        if self.resume and absent:
            raise ValueError(
                f'{path} holds no {", ".join(sorted(absent))}: a run cannot go on from it. '
                'To start a new run from its weights, set load_from or init_cfg instead of --resume')
        self._check_weights(_unwrapped(runner.model), checkpoint, path)
        if self.resume:
            self._check_schedule(runner, checkpoint, path)
        elif self.part and 'optimizer' in checkpoint:
            print_log(f'load_from takes only the weights of {path}; --resume {path} would go on with its run',
                      logger='current')

    def _check_weights(self, model: nn.Module, checkpoint: dict, path: str) -> None:
        stored = {name.removeprefix('module.'): value
                  for name, value in checkpoint.get('state_dict', checkpoint).items()
                  if isinstance(name, str) and isinstance(value, Tensor)}
        weights = whole_shapes(model)
        expected = {name: shape for name, shape in weights.items()
                    if name.startswith(self.part) and 'num_batches_tracked' not in name}
        missing = [name for name in expected if name not in stored]
        resized = [name for name in expected if name in stored and stored[name].shape != expected[name]]
        problems = []
        if missing:
            problems.append(f'{len(missing)} of the {len(expected)} tensors are missing (the first: {missing[0]})')
        if resized:
            name = resized[0]
            problems.append(f'{len(resized)} are of another size (the first: {name}, {tuple(stored[name].shape)} in '
                            f'the file and {tuple(expected[name])} in the model)')
        if problems:
            raise ValueError(f'{path} is a checkpoint of another model: {"; ".join(problems)}'
                             + self._remedy(model, checkpoint, path))
        check_finite({name: value for name, value in stored.items() if name in weights}, path)

    def _remedy(self, model: nn.Module, checkpoint: dict, path: str) -> str:
        container = next((key for key in ('state_dict', 'model') if isinstance(checkpoint.get(key), dict)), '')
        names = [name for name in (checkpoint[container] if container else checkpoint) if isinstance(name, str)]
        project = recognise(names, container)
        theirs = '' if project in (None, 'plugin') else f'. Its names are those of {project}'
        if self.part:
            place = 'whole model' if isinstance(model, MaskedAutoencoder) else 'backbone'
            return (f"{theirs}. In place of load_from, let the {place} have init_cfg=dict("
                    f"type='mae_plugin.MAEPretrained', checkpoint='{path}'), which reads files of other projects, too, "
                    'and with resize=True other sizes')
        if theirs:
            return f'{theirs}: convert it with tools/convert_checkpoint.py {path} OUT --to plugin'
        stored, wanted = kind_of(names), kind_of(whole_shapes(model))
        return '' if stored == wanted else f': it is one of {stored}, and of {wanted} is expected'

    @staticmethod
    def _check_schedule(runner, checkpoint: dict, path: str) -> None:
        """Stop where the run has another length: the schedule comes from the file, and past its end the rate stays."""
        if isinstance(runner.param_schedulers, list) and checkpoint.get('param_schedulers'):
            ends = [max(scheduler.end for scheduler in runner.param_schedulers),
                    max(state.get('end', 0) for state in checkpoint['param_schedulers'])]
            if ends[0] != ends[1]:
                raise ValueError(
                    f'the learning-rate schedule of {path} ends at {ends[1]:,}, that of the config at {ends[0]:,}: '
                    'resume with the settings it had (train_cfg.max_iters, --fit-batch and the batch of all '
                    'processes), or start a new run from its weights in another --work-dir '
                    f'(--cfg-options load_from={path})')
