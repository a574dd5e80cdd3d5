"""Folders of Hugging Face's transformers: ``config.json`` and ``preprocessor_config.json`` beside the weights."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from timm.layers import to_2tuple
from torch import Tensor

from .files import save_safetensors, write_whole
from .safe_load import load_file

CONFIG, PREPROCESSOR = 'config.json', 'preprocessor_config.json'
_FILES = ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json')
_PATCHES = 'vit.embeddings.patch_embeddings.projection.weight'
_POSITIONS = 'vit.embeddings.position_embeddings'
_ENCODER = ('vit.embeddings.cls_token', _POSITIONS, _PATCHES, 'vit.layernorm.weight')
_DECODER = tuple(f'decoder.{name}' for name in (
    'mask_token', 'decoder_pos_embed', 'decoder_embed.weight', 'decoder_norm.weight', 'decoder_pred.weight'))
_BICUBIC = 3  # of PIL


def is_folder(path: str | os.PathLike) -> bool:
    """Whether ``path`` is a folder with a ``config.json``."""
    return Path(path, CONFIG).is_file()


def read_folder(folder: str | os.PathLike) -> tuple[Path, dict[str, Tensor], dict]:
    """Read the tensors of a folder, from shards if need be, and what its two configs say, in one dict.

    Returns:
        The file of the tensors, or the index of the shards; the tensors; the configs.

    Raises:
        FileNotFoundError: There are no weights, no ``config.json``, or a shard is missing.
        ValueError: A file is damaged, or the index names a file outside the folder or a tensor that is not there.
    """
    folder = Path(folder)
    file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if file is None or not (folder / CONFIG).is_file():
        raise FileNotFoundError(f'{folder} is no model of transformers: such a folder holds {CONFIG} and one of '
                                f'{", ".join(_FILES)}')
    config = _read_json(folder / CONFIG)
    if (folder / PREPROCESSOR).is_file():
        config = _read_json(folder / PREPROCESSOR) | config
    if file.suffix != '.json':
        return file, load_file(file), config
    places = _read_json(file).get('weight_map')
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise ValueError(f"{file} has no 'weight_map' from names of tensors to names of files")
    tensors = {}
    for shard in sorted(set(places.values())):
        if shard != Path(shard).name:
            raise ValueError(f'{file} names the shard {shard!r}, which is not a file of this folder: it is refused')
        if not (folder / shard).is_file():
            raise FileNotFoundError(f'{file} names the shard {shard}, which is missing: fetch it once more')
        content = load_file(folder / shard)
        if not isinstance(content, dict):
            raise ValueError(f'{folder / shard} holds a {type(content).__name__} in place of tensors by name')
        tensors.update(content)
    lost = sorted(places.keys() - tensors.keys())
    if lost:
        raise ValueError(f'{folder} lacks {len(lost)} of the {len(places)} tensors of its index, among them {lost[0]} '
                         f'in {places[lost[0]]}')
    return file, tensors, config


def card_of_config(config: dict, folder: str) -> dict:
    """What the configs of a folder say, as a card (see :mod:`mae_plugin.weights.card`).

    Raises:
        ValueError: They describe another activation than GELU.
    """
    if config.get('hidden_act', 'gelu') != 'gelu':
        raise ValueError(f"{folder}/{CONFIG} says hidden_act={config['hidden_act']!r}, ours have 'gelu' only")
    card = {'backbone': {'num_heads': config.get('num_attention_heads'), 'depth': config.get('num_hidden_layers')},
            'decoder': {'decoder_num_heads': config.get('decoder_num_attention_heads')},
            'target': {'norm_pix': config.get('norm_pix_loss')}, 'masking': {'mask_ratio': config.get('mask_ratio')}}
    card = {part: facts for part, facts in card.items() if None not in facts.values()}
    if all(isinstance(config.get(key), list) for key in ('image_mean', 'image_std')):
        card.update(mean=[255 * value for value in config['image_mean']],
                    std=[255 * value for value in config['image_std']], channel_order='rgb')
    return card


def write_folder(folder: str | os.PathLike,
                 tensors: Mapping[str, Tensor],
                 card: dict | None = None,
                 *,
                 num_heads: int | None,
                 mean: Sequence[float] | None,
                 std: Sequence[float] | None,
                 img_size: int | Sequence[int] | None = None,
                 decoder_num_heads: int | None = None,
                 norm_pix: bool | None = None,
                 mask_ratio: float | None = None,
                 classes: Sequence[str] | None = None) -> None:
    """Write a folder that ``from_pretrained`` of transformers 4 and 5 reads.

    A decoder makes it a ``ViTMAEForPreTraining``, a classifier a ``ViTForImageClassification``, an encoder alone a
    ``ViTMAEModel``, and a ``ViTModel`` where it brings a pooler.

    Args:
        folder: Made if it is not there.
        tensors: By transformers' names, as :func:`~mae_plugin.weights.formats.from_plugin` gives them.
        card: What the file says of itself.
        num_heads: Attention heads of the encoder.
        mean: Mean of each channel in pixel values, 0 to 255.
        std: Standard deviation of each channel in pixel values.
        img_size: Image size, one number or (H, W); needed only where the positions are no square grid.
        decoder_num_heads: Attention heads of the decoder. This and the next two are needed where there is one.
        norm_pix: Whether the decoder predicts patches normalised by their own mean and standard deviation.
        mask_ratio: Share of hidden patches.
        classes: Names of the classes of a classifier; by default those that transformers makes up.

    Raises:
        ValueError: An argument that this model needs is None, or transformers has no such model.
    """
    decoder, classifier = any(name in tensors for name in _DECODER), 'classifier.weight' in tensors
    lost = [name for name in _ENCODER + _DECODER * decoder if name not in tensors]
    if lost:
        raise ValueError(f'{folder} cannot be written: the models of transformers have {", ".join(lost)}, and these '
                         'weights have not')
    needed = dict(num_heads=num_heads, mean=mean, std=std)
    if decoder:
        needed.update(decoder_num_heads=decoder_num_heads, norm_pix=norm_pix, mask_ratio=mask_ratio)
    unknown = [name for name, value in needed.items() if value is None]
    if unknown:
        raise ValueError(f'{folder} cannot be written: the weights do not tell {", ".join(unknown)}, which transformers'
                         f' needs: give them, as --facts {unknown[0]}=...')
    mae = not (classifier or 'vit.pooler.dense.weight' in tensors)
    config = _sizes(tensors, 'vit.encoder.layer', num_heads) | dict(
        model_type='vit_mae' if mae else 'vit', num_channels=tensors[_PATCHES].size(1),
        qkv_bias='vit.encoder.layer.0.attention.attention.query.bias' in tensors,
        layer_norm_eps=1e-6,  # ours and the authors'; the default there is 1e-12
        **_image(folder, tensors, img_size, square=mae))
    size = to_2tuple(config['image_size'])
    if decoder:
        config |= {f'decoder_{key}': value for key, value in _sizes(
            tensors, 'decoder.decoder_layers', decoder_num_heads).items()}
        # transformers 5 takes no other types
        config |= dict(architectures=['ViTMAEForPreTraining'], norm_pix_loss=bool(norm_pix),
                       mask_ratio=float(mask_ratio))
    elif classifier:
        count = tensors['classifier.weight'].size(0)
        names = [f'LABEL_{i}' for i in range(count)] if classes is None else classes
        if len(names) != count:
            raise ValueError(f'{folder} cannot be written: {len(names)} names for the {count} classes')
        config |= dict(architectures=['ViTForImageClassification'], id2label=dict(enumerate(names)),
                       label2id={name: i for i, name in enumerate(names)})
    else:
        config['architectures'] = ['ViTMAEModel' if mae else 'ViTModel']
        tensors = {name.removeprefix('vit.'): value for name, value in tensors.items()}
    preprocessor = dict(
        image_processor_type='ViTImageProcessor', do_resize=True, size=dict(height=size[0], width=size[1]),
        resample=_BICUBIC, do_rescale=True, rescale_factor=1 / 255, do_normalize=True,
        image_mean=[value / 255 for value in mean], image_std=[value / 255 for value in std])
    save_safetensors(Path(folder, 'model.safetensors'), tensors, card)
    for name, content in ((PREPROCESSOR, preprocessor), (CONFIG, config)):
        text = json.dumps(content, indent=2, sort_keys=True) + '\n'
        write_whole(Path(folder, name), lambda part, text=text: part.write_text(text, encoding='utf-8'))


def _sizes(tensors: Mapping[str, Tensor], layers: str, num_heads: int) -> dict:
    """Width, depth, heads and hidden width of the MLPs, under the names of the config."""
    depth = 1 + max(int(match[1]) for name in tensors if (match := re.match(rf'{re.escape(layers)}\.(\d+)\.', name)))
    hidden, width = tensors[f'{layers}.0.intermediate.dense.weight'].shape
    if num_heads < 1 or width % num_heads:
        raise ValueError(f'a width of {width} ({layers}) cannot be split into {num_heads} heads: give their number, as '
                         '--facts num_heads=... or decoder_num_heads=...')
    return dict(hidden_size=width, num_hidden_layers=depth, num_attention_heads=num_heads, intermediate_size=hidden)


def _image(folder: str | os.PathLike, tensors: Mapping[str, Tensor], img_size, square: bool) -> dict:
    """``image_size`` and ``patch_size`` of the config."""
    patch, length = tuple(tensors[_PATCHES].shape[2:]), tensors[_POSITIONS].size(1) - 1
    side = round(length ** .5)
    if img_size is None and side ** 2 != length:
        raise ValueError(f'{folder} cannot be written: its {length} positions are no square grid: give img_size=(H, W)')
    image = to_2tuple(img_size or (side * patch[0], side * patch[1]))
    if image[0] // patch[0] * (image[1] // patch[1]) != length:
        raise ValueError(f'{folder} cannot be written: {length} positions do not fit img_size={image} in patches of '
                         f'{patch}')
    if square and (image[0] != image[1] or patch[0] != patch[1]):
        raise ValueError(f'{folder} cannot be written: ViTMAE of transformers knows square images and patches only, '
                         f'and these are {image} and {patch}')
    return dict(image_size=image[0] if image[0] == image[1] else list(image),
                patch_size=patch[0] if patch[0] == patch[1] else list(patch))


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is damaged: it is no JSON ({error})') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} is damaged: it holds a {type(content).__name__} in place of names and values')
    return content
