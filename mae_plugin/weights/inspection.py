"""What a checkpoint is: model, sizes, parts, positions, and where it comes from."""

import argparse
import os
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..models.pos_embed import sincos_pos_embed
from ..models.resize import grid_of
from .checkpoint import Weights, read_weights, said, shorten

_SIZES = {(192, 12): 'ViT-Ti', (384, 12): 'ViT-S', (768, 12): 'ViT-B', (1024, 24): 'ViT-L', (1280, 32): 'ViT-H'}
_KINDS = dict(pretraining='masked autoencoder: encoder and decoder', encoder='encoder alone',
              classification='classifier', detection='detector', segmentation='segmenter')
_UNKNOWN = '? (no tensor tells)'


def inspect_checkpoint(path: str | os.PathLike) -> dict[str, str]:
    """Facts of a file by name, in the order to show them; what nothing in the file tells is left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As :func:`~mae_plugin.weights.checkpoint.read_weights`.
    """
    weights = read_weights(path)
    state, card = weights.state, weights.card or {}
    size = f' ({weights.place.stat().st_size / 2 ** 20:,.1f} MiB)' if weights.place else ''
    facts = {'file': weights.file + size,
             'SHA-256': weights.sha256,
             'format': f'{weights.format}, {len(state) + len(weights.unknown)} tensors, {_types(state)}',
             'holds': _KINDS[weights.kind]}
    facts['encoder'] = _encoder(state, said(card, 'backbone', 'num_heads'))
    facts['positions'] = _positions(state['backbone.pos_embed'], said(card, 'backbone', 'grid'),
                                   state.get('backbone.reg_token', torch.zeros(1, 0)).size(1))
    if weights.kind == 'pretraining':
        lost = weights.lost_of_decoder
        heads = said(card, 'decoder', 'decoder_num_heads')
        facts['decoder'] = (f'not whole: it lacks {shorten(lost)}' if lost else
                            weights.other_decoder or _decoder(state, heads))
    others = sorted({name.partition('.')[0] for name in state} - {'backbone'})
    if weights.kind not in ('pretraining', 'encoder'):
        facts['other parts'] = ', '.join(f'{part} ({sum(name.startswith(part + ".") for name in state)} tensors)'
                                         for part in others)
    if 'head.fc.weight' in state:
        facts['classes'] = str(state['head.fc.weight'].size(0))
    if weights.unknown:
        facts['without meaning'] = shorten(weights.unknown, 8)
    if weights.others:
        facts['other weights'] = f'{shorten(weights.others)}, which are not read'
    return {name: value for name, value in (facts | _provenance(weights, card)).items() if value}


def _depth(state: Mapping[str, Tensor], blocks: str) -> int:
    return 1 + max(int(match[1]) for name in state if (match := re.match(rf'{blocks}\.(\d+)\.', name)))


def _encoder(state: Mapping[str, Tensor], heads: int | None) -> str:
    width, depth = state['backbone.pos_embed'].size(2), _depth(state, r'backbone\.blocks')
    filters, mlp = state['backbone.patch_embed.proj.weight'], state.get('backbone.blocks.0.mlp.fc1.weight')
    patch = 'x'.join(map(str, filters.shape[2:]))
    words = [f'{_SIZES.get((width, depth), "plain ViT")}, width {width}, {depth} blocks, '
            f'{heads or _UNKNOWN} heads, {"" if mlp is None else f"MLP {mlp.size(0)}, "}'
            f'patches of {patch} pixels, {filters.size(1)} channels']
    words += [what for name, what in (
        ('backbone.cls_token', 'class token'), ('backbone.mask_token', 'mask token'),
        ('backbone.norm.weight', 'final norm'), ('backbone.fc_norm.weight', 'norm of the mean')) if name in state]
    if 'backbone.reg_token' in state:
        words.append(f'{state["backbone.reg_token"].size(1)} registers')
    words += [what for mark, what in (
        ('.fc1_g.', 'SwiGLU'), ('.ls1.', 'layer scale'), ('.rel_pos.rel_pos_h', 'relative positions of each side'),
        ('.rel_pos.table', 'table of relative positions'), ('.residual.', 'convolutions between windows'))
        if any(mark in name for name in state)]
    return ', '.join(words)


def _decoder(state: Mapping[str, Tensor], heads: int | None) -> str:
    return (f'width {state["neck.mask_token"].size(-1)}, {_depth(state, "neck.decoder_blocks")} blocks, '
            f'{heads or _UNKNOWN} heads, '
            f'{state["neck.decoder_pred.weight"].size(0)} numbers for a patch')


def _positions(pos_embed: Tensor, known: tuple[int, int] | None, registers: int) -> str:
    """Grid and kind of the positions (1, T + L, C)."""
    # Before the patches: of a class token; none, where prefix tokens have no positions; of class token and registers.
    slots = (1, 0, 1 + registers)
    slots, grid = next(((n, grid) for n in slots if (grid := grid_of(pos_embed.size(1) - n, known))), (1, None))
    if grid is None:
        return f'{pos_embed.size(1)}, of which one is of a class token and the others are on no square grid'
    pos_embed = pos_embed[:, slots:]
    fixed = sincos_pos_embed(pos_embed.size(2), grid)[:, 1:] if pos_embed.size(2) % 4 == 0 else torch.zeros(())
    close = dict(rtol=0, atol=1e-5 if pos_embed.dtype in (torch.float32, torch.float64) else 1e-2)
    kind = 'learned, or changed in fine-tuning'
    if fixed.shape == pos_embed.shape:
        swapped = torch.cat(fixed.chunk(2, dim=2)[::-1], dim=2)
        if torch.allclose(pos_embed.float(), fixed, **close):
            kind = "fixed sine and cosine, columns first (as the authors')"
        elif torch.allclose(pos_embed.float(), swapped, **close):
            kind = "fixed sine and cosine, rows first (as mmpretrain's)"
    return f'grid of {grid[0]}x{grid[1]}, {kind}'


def _provenance(weights: Weights, card: dict) -> dict[str, str]:
    place = dict(iteration=said(weights.rest, 'meta', 'iter'), epoch=weights.rest.get('epoch'))  # the authors' count
    found = {}
    if 'mean' in card:
        found['images'] = f'mean {card["mean"]}, std {card.get("std")}, {card.get("channel_order") or "no"} order'
    for name, key in (('trained for', 'task'), ('target', 'target'), ('masking', 'masking'), ('versions', 'versions'),
                      ('converted from', 'converted_from')):
        if card.get(key):
            found[name] = _plain(card[key])
    if card.get('parents'):
        found['started from'] = '; '.join(_plain(parent) for parent in card['parents'])
    for unit, number in place.items():
        if isinstance(number, int):
            resumable = 'with' if 'optimizer' in weights.rest else 'without'
            found['training'] = f'{unit} {number:,}, {resumable} the state that resuming needs'
    args = weights.rest.get('args')
    if isinstance(args, argparse.Namespace):  # of the authors' scripts
        told = {key: value for key, value in vars(args).items()
                if key in ('model', 'input_size', 'mask_ratio', 'norm_pix_loss', 'epochs', 'blr', 'batch_size')}
        found["the authors' arguments"] = _plain(told)
    if 'config' in card:
        found['config'] = 'stored (under meta.mae_plugin.config)'
    return found


def _plain(value: object) -> str:
    return ', '.join(f'{key} {item}' for key, item in value.items()) if isinstance(value, dict) else str(value)


def _types(state: Mapping[str, Tensor]) -> str:
    numbers = sum(value.numel() for value in state.values())
    types = sorted({str(value.dtype).removeprefix('torch.') for value in state.values()})
    return f'{numbers:,} numbers of {", ".join(types)}'
