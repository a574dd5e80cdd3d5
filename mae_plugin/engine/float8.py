"""Linear layers in fp8, for wide encoders on GPUs that multiply in it."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from ..registry import HOOKS

_WIDE_ENOUGH = 1024


@HOOKS.register_module()
class Float8Hook(Hook):
    """Train the linear layers of the encoder's blocks in fp8, through torchao; opt-in, for ViT-L and H.

    Not the authors' numerics: inputs, weights and gradients are rounded to 8 bits before they are multiplied. Emulated,
    on 6 blocks of width 192, the gradients of the first step have a cosine of 0.9996 with those in bfloat16 (of the
    encoder 0.9986), and the losses of 100 steps differ by 1.8 % on average, by row 0.6 %; those in bfloat16 and float32
    by 0.7 %. Its speed and its effect on accuracy were not measured.

    Names of parameters, optimizer and checkpoints are as ever, so a run may resume with it or without. The decoder
    stays as it is: at a width of 512, rounding costs more than multiplying in fp8 saves.

    Args:
        linears: Names of the layers within a block of ``model.backbone.blocks``.
        recipe: Of torchao: ``tensorwise`` scales a tensor as a whole, which is fastest; ``rowwise`` each row, which
            rounds less; ``rowwise_with_gw_hp`` also keeps the gradients of weights in bfloat16.
        emulate: Round as fp8 would, but multiply in float32: runs on anything, and slowly.

    Raises:
        ValueError: torchao is not installed, the device cannot multiply in fp8, no layer has such a name, or one has a
            width that 16 does not divide. All when training begins.
    """

    def __init__(self, linears: Sequence[str] = ('qkv', 'proj', 'fc1', 'fc2'), recipe: str = 'tensorwise',
                 emulate: bool = False) -> None:
        self.linears, self.recipe, self.emulate = tuple(linears), recipe, emulate

    def before_train(self, runner) -> None:
        """Exchange the layers; their parameters stay the same objects."""
        try:
            from torchao.float8 import Float8LinearConfig, convert_to_float8_training
            from torchao.float8.config import Float8LinearRecipeName
        except ImportError as error:
            raise ValueError('mae_plugin.Float8Hook needs torchao: pip install torchao (the extra fp8)') from error
        recipes = [name.value for name in Float8LinearRecipeName]
        if self.recipe not in recipes:
            raise ValueError(f'mae_plugin.Float8Hook: recipe={self.recipe!r} is not one of {recipes}')
        if not self.emulate:
            _check_device()
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        blocks = getattr(getattr(model, 'backbone', None), 'blocks', nn.ModuleList())
        chosen = {name: layer for name, layer in blocks.named_modules() if self._is_chosen(layer, name)}
        self._check_widths(chosen)
        # The product that gives a weight's gradient runs over the tokens of a batch, by 16 at a time.
        pad = runner.train_dataloader.batch_size % 16 != 0
        config = replace(Float8LinearConfig.from_recipe_name(self.recipe), emulate=self.emulate, pad_inner_dim=pad)
        convert_to_float8_training(blocks, module_filter_fn=self._is_chosen, config=config)
        for name in chosen if self.emulate else ():
            blocks.get_submodule(name).register_forward_pre_hook(_cast_as_autocast)
        print_log(f'fp8: {len(chosen)} linear layers of the encoder ({self.recipe}'
                  f"{', emulated' if self.emulate else ''}). These are not the authors' numerics.", logger='current')

    def _is_chosen(self, layer: nn.Module, name: str) -> bool:
        return isinstance(layer, nn.Linear) and name.rpartition('.')[2] in self.linears

    def _check_widths(self, chosen: dict[str, nn.Linear]) -> None:
        if not chosen:
            raise ValueError(f'mae_plugin.Float8Hook: linears={list(self.linears)} names no linear layer within '
                             'model.backbone.blocks')
        for name, layer in chosen.items():
            if layer.in_features % 16 or layer.out_features % 16:
                raise ValueError(f'Float8Hook: blocks.{name} is {layer.in_features} to {layer.out_features}, '
                                 'and fp8 needs multiples of 16: leave its name out of linears')
        narrow = min(min(layer.in_features, layer.out_features) for layer in chosen.values())
        if narrow < _WIDE_ENOUGH:
            print_log(f'fp8: linear layers of width {narrow} are expected to be no faster than in bfloat16; below '
                      f'{_WIDE_ENOUGH} rounding costs what multiplying saves', logger='current', level=logging.WARNING)


def _cast_as_autocast(layer: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor | None:
    """As torchao does by itself, but also where the device is the CPU."""
    device = inputs[0].device.type
    return inputs[0].to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None


def _check_device() -> None:
    device = 'the CPU'
    if torch.cuda.is_available():
        capability = torch.cuda.get_device_capability()
        if capability >= (8, 9):
            return
        device = f'{torch.cuda.get_device_name()} (sm_{capability[0]}{capability[1]})'
    raise ValueError(f'mae_plugin.Float8Hook: {device} does not multiply in fp8, which takes a GPU of sm_89 or later '
                     '(Ada, Hopper): leave the hook out, or set emulate=True to try its numerics')
