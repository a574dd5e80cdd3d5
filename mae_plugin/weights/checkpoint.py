"""The weights of any file under the names of our models, checked as far as a file alone can be."""

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .files import CARD_KEY, file_sha256
from .formats import FORMATS, recognise, to_plugin
from .huggingface import card_of_config, is_folder, read_folder
from .safe_load import load_file, safetensors_metadata

TIMM = 'timm://'
_CONTAINERS = ('state_dict', 'model')
_EMBEDDINGS = ('backbone.patch_embed.proj.weight', 'backbone.patch_embed.proj.bias', 'backbone.pos_embed')


@dataclass
class Weights:
    """What a file holds.

    Args:
        file: Its path as given, or ``timm://NAME``.
        format: Whose names it has, a key of :data:`~mae_plugin.weights.formats.FORMATS`.
        state: Tensors by the names of our models: ``backbone.``, ``neck.`` (decoder), ``head.`` and so on.
        unknown: The file's names that its format has no meaning for.
        card: What it says of itself, see :mod:`mae_plugin.weights.card`; None if nothing.
        sha256: Of the file; of a folder's, or of the index of its shards; None where there is none.
        rest: What else is in it, beside the tensors.
    """

    file: str
    format: str
    state: dict[str, Tensor]
    unknown: list[str]
    card: dict | None
    sha256: str | None
    rest: dict

    @property
    def kind(self) -> str:
        """``pretraining``, ``encoder``, ``classification``, ``detection`` or ``segmentation``."""
        return kind_of(self.state)

    def check_known(self) -> None:
        """Check that every tensor has a meaning here.

        Raises:
            ValueError: Some have none.
        """
        if self.unknown:
            raise ValueError(f'{self.file} holds tensors that the format {self.format} has no meaning for '
                             f'({shorten(self.unknown)}): it is another kind of ViT than the plain one, or damaged')


def kind_of(names: Collection[str]) -> str:
    """:attr:`Weights.kind` of tensors by our names."""
    parts = {name.partition('.')[0] for name in names}
    for part, kind in (('decode_head', 'segmentation'), ('roi_head', 'detection'), ('rpn_head', 'detection'),
                       ('bbox_head', 'detection'), ('head', 'classification')):
        if part in parts:
            return kind
    if 'backbone.fc_norm.weight' in names:
        return 'classification'
    return 'pretraining' if any(name.startswith('neck.decoder_') for name in names) else 'encoder'


def read_weights(path: str | os.PathLike) -> Weights:
    """Read the weights of a file of any of our formats, of a folder of transformers', or of ``timm://NAME``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint or damaged, holds another model, lacks part of the encoder, or holds numbers
            that are not finite. The message names the file, what was expected and what was found.
    """
    file = str(path)
    if file.startswith(TIMM):
        tensors, card, rest, sha256, name = *_from_timm(file), None, 'timm'
    else:
        place = Path(file).expanduser()
        tensors, card, rest, container = _from_folder(place) if is_folder(place) else _from_file(file)
        name, sha256 = recognise(tensors, container), file_sha256(rest.get('file', place))
    if name is None:
        raise ValueError(f'{file} holds another model: none of its tensors ({shorten(list(tensors))}) is of a block of '
                         f'a plain ViT, which is expected, by the names of {", ".join(FORMATS)}')
    state, unknown = to_plugin(tensors, name)
    check_finite(state, file)
    try:
        check_encoder(state, file, ((card or {}).get('backbone') or {}).get('depth'))
    except ValueError as error:
        if not unknown:
            raise
        raise ValueError(f'{error}; and it holds {shorten(unknown)}, without a meaning in the format {name}: it is '
                         'another kind of ViT than the plain one, or damaged') from error
    return Weights(file, name, state, unknown, card, sha256, rest)


def tensors_in(content: object, file: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of what :func:`load_file` read, and the key they are under (empty for none).

    Raises:
        ValueError: There are none.
    """
    container = next((key for key in _CONTAINERS if isinstance(content, dict)
                      and isinstance(content.get(key), dict)), '')
    state = content[container] if container else content
    tensors = {re.sub(r'^((module|_orig_mod)\.)+', '', name): value for name, value in state.items()
               if isinstance(value, Tensor)} if isinstance(state, dict) else {}  # of DDP and torch.compile
    if not tensors:
        raise ValueError(f"{file} holds no model: neither a state dict, nor one under 'state_dict' or 'model'"
                         + (f'; it has {shorten(sorted(map(str, content)))}' if isinstance(content, dict) else ''))
    return tensors, container


def _from_file(path: str) -> tuple[dict[str, Tensor], dict | None, dict, str]:
    content = load_file(path)
    tensors, container = tensors_in(content, path)
    rest = {key: value for key, value in content.items() if key != container} if container else {}
    return tensors, card_of(content, path), rest, container


def card_of(content: object, path: str | os.PathLike) -> dict | None:
    """The card (see :mod:`mae_plugin.weights.card`) of a file, ``content`` being what was read; None without one."""
    path = Path(path).expanduser()
    if path.suffix == '.safetensors':
        card = json.loads(safetensors_metadata(path).get(CARD_KEY, 'null'))
    else:
        meta = content.get('meta') if isinstance(content, dict) else None
        card = meta.get(CARD_KEY) if isinstance(meta, dict) else None
    return card if isinstance(card, dict) else None


def _from_folder(folder: Path) -> tuple[dict[str, Tensor], dict | None, dict, str]:
    file, tensors, config = read_folder(folder)
    card = card_of(tensors, file) or {}
    # The configs are what transformers goes by, so they are believed; the file tells more, if it is ours.
    for key, value in card_of_config(config, str(folder)).items():
        card[key] = {**(card.get(key) or {}), **value} if isinstance(value, dict) else value
    return tensors_in(tensors, str(file))[0], card, dict(file=file, config=config), ''


def _from_timm(address: str) -> tuple[dict[str, Tensor], dict, dict]:
    """State dict of a pretrained model of timm, and what its configuration says, as a card."""
    import timm
    name = address.removeprefix(TIMM)
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # no such model, or no network: timm and the hub have many classes for these
        near = ', '.join(timm.list_pretrained(f'{name.partition("_patch")[0]}*')[:5])
        raise ValueError(f'{address}: timm gives no weights: {str(error).splitlines()[0]}'
                         + (f'; among its models are {near}' if near else '')) from error
    given = model.pretrained_cfg
    card = dict(mean=[255 * value for value in given['mean']], std=[255 * value for value in given['std']],
                channel_order='rgb', backbone=dict(num_heads=model.blocks[0].attn.num_heads))
    return model.state_dict(), card, {}


def check_finite(state: Mapping[str, Tensor], file: str) -> None:
    """Check that all numbers are finite.

    Raises:
        ValueError: Some are not; the message has the first tensor, and how many.
    """
    # A sum is finite only if all of its terms are, and ten times as fast; it may also overflow.
    broken = {name: int((~value.isfinite()).sum()) for name, value in state.items()
              if value.is_floating_point() and not value.sum().isfinite() and not value.isfinite().all()}
    if broken:
        name = next(iter(broken))
        raise ValueError(f'{file} holds NaN or infinite numbers in {len(broken)} of its {len(state)} tensors (the '
                         f'first: {broken[name]} of {state[name].numel()} in {name}): the run that wrote it had '
                         'diverged; take an earlier checkpoint')


def check_encoder(state: Mapping[str, Tensor], file: str, depth: int | None = None) -> None:
    """Check that blocks are numbered without a gap and alike, embeddings there, and all floating-point numbers.

    Args:
        state: Tensors by our names.
        file: For messages.
        depth: How many blocks there must be; None if that is not known.

    Raises:
        ValueError: They are not.
    """
    blocks: dict[int, dict[str, tuple]] = {}
    for name, value in state.items():
        match = re.fullmatch(r'backbone\.blocks\.(\d+)\.(.+)', name)
        # Convolutions are in some blocks only, and windows have smaller tables.
        if match and not re.match(r'residual\.|attn\.rel_pos\.', match[2]):
            blocks.setdefault(int(match[1]), {})[match[2]] = tuple(value.shape)
    lost = [name for name in _EMBEDDINGS if name not in state]
    parts = Counter(name for block in blocks.values() for name in block)
    for i in range(max(blocks, default=-1) + 1):
        lost += [f'backbone.blocks.{i}.{name}' for name in parts if name not in blocks.get(i, {})]
    if lost or not blocks:
        raise ValueError(f'{file} lacks part of its encoder: {shorten(lost or ["backbone.blocks"])}')
    integers = [name for name, value in state.items()
                if name.startswith('backbone.') and not value.is_floating_point()]
    if integers:
        raise ValueError(f'{file} holds {state[integers[0]].dtype} in {shorten(integers)}, floating-point numbers are '
                         'expected: take the file from before it was quantised')
    if depth not in (None, len(blocks)):
        raise ValueError(f'{file} holds {len(blocks)} blocks of the {depth} that it says it has')
    for name in parts:
        shapes = {block[name] for block in blocks.values()}
        if len(shapes) > 1:
            raise ValueError(f'{file} holds blocks of several sizes: {name} is {" and ".join(map(str, shapes))}')


def shorten(names: list[str], shown: int = 4) -> str:
    """``a, b, c, d and 20 more``."""
    return ', '.join(names[:shown]) + (f' and {len(names) - shown} more' if len(names) > shown else '')
