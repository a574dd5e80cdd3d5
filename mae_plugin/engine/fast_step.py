"""Exact switches of how a training step is executed."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import nn

from mae_plugin.models import TimmViT
from mae_plugin.models.layers import Attention, Block
from mae_plugin.registry import HOOKS

from .graphed_step import CUDAGraphRecorder, GraphedStep, why_no_graph


@HOOKS.register_module()
class FastStepHook(Hook):
    """Execute the steps of a run faster, with the same mathematics; each switch alone, for any model of MMEngine.

    Parity with the plain step was measured on the CPU, not yet on a GPU, so all are off by default. Where one cannot
    be had, one warning gives the reason, and the run goes on without it.

    Args:
        compile: Compile each transformer :class:`~mae_plugin.models.layers.Block`, and those of a
            :class:`~mae_plugin.models.TimmViT`, by ``torch.compile``: residual sums, norms, GELU and casts become a
            few kernels. Blocks alike share one compilation; names, checkpoints and DDP stay as they are. It takes
            seconds to minutes at the first iteration, for images of one size. Validation runs the plain block: its
            shapes would be compiled for little. So do masks, target and head, of whose norms and sums the blocks have
            twenty to fifty times as many.
        timed_attention: Compute attention by the kernel that is timed as fastest for each shape, see
            :func:`~mae_plugin.models.attention.attend`.
        cuda_graph: Launch the whole step as one CUDA graph, see :class:`~mae_plugin.engine.GraphedStep`: for batches
            so small that the host cannot launch kernels as fast as the GPU finishes them. Pretraining only.

    Raises:
        ValueError: If a switch is neither True nor False.
    """

    priority = 'LOWEST'  # after hooks that change the model

    def __init__(self, compile: bool = False, timed_attention: bool = False, cuda_graph: bool = False) -> None:
        for name, value in dict(compile=compile, timed_attention=timed_attention, cuda_graph=cuda_graph).items():
            if not isinstance(value, bool):
                raise ValueError(f'default_hooks.fast.{name}={value!r} is neither True nor False')
        self.compile, self.timed_attention, self.cuda_graph = compile, timed_attention, cuda_graph

    def before_train(self, runner) -> None:
        """Switch on what is asked for, and say so."""
        blocks = [block for module in runner.model.modules() for block in _blocks(module)]
        attentions = [module for module in runner.model.modules() if isinstance(module, Attention)]
        on = []
        if self.compile and _there_are(blocks, 'compile', runner.model):
            compile_blocks(blocks)
            on.append(f'{len(blocks)} compiled blocks')
        if self.timed_attention and _there_are(attentions, 'timed_attention', runner.model):
            for attention in attentions:
                attention.backend = 'timed'
            on.append(f'timed attention in {len(attentions)} layers')
        if self.cuda_graph:
            reason = why_no_graph(runner.model, runner.optim_wrapper)
            if reason:
                _warn(f'cuda_graph=True has no effect: {reason}')
            else:
                runner.model.train_step = GraphedStep(runner.model, runner.optim_wrapper, CUDAGraphRecorder())
                on.append('a CUDA graph of the step')
        print_log(f'Fast step: {", ".join(on) or "all switches are off"}.', logger='current')

    def after_train(self, runner) -> None:
        """Free the graph and its memory."""
        step = runner.model.__dict__.get('train_step')
        if isinstance(step, GraphedStep):
            step.close()
            del runner.model.train_step


def _blocks(module: nn.Module) -> Iterable[nn.Module]:
    """What to compile at ``module``: itself, if it is a block, and timm's if it holds them."""
    return module.blocks if isinstance(module, TimmViT) else [module] if isinstance(module, Block) else ()


def compile_blocks(blocks: Sequence[nn.Module], backend: str = 'inductor') -> None:
    """Compile what ``blocks`` compute in training; if that fails, all of them go back to the plain path.

    Settings of PyTorch's compiler change for the whole process: the limit of compilations, and no cuts for DDP.

    Args:
        blocks: The modules, changed in place; their parameters keep their names.
        backend: One of ``torch.compile``.
    """
    import torch._dynamo
    import torch._functorch.config as aot
    # A compilation for each rate of drop path and each shape, of which each value of a changing mask ratio has three;
    # past the limit, blocks run as they are. timm sets it to a million: images of ever new sizes would never stop
    # compiling.
    if 'DYNAMO_CACHE_SIZE_LIMIT' not in os.environ:  # the user's own, as in mmdet
        torch._dynamo.config.recompile_limit = 32 + 2 * len(blocks)
    torch._dynamo.config.optimize_ddp = False  # it would cut blocks in two; they are small enough for DDP to overlap
    if hasattr(aot, 'force_non_lazy_backward_lowering'):  # of newer torch
        aot.force_non_lazy_backward_lowering = True  # the backward pass fails to compile here, too, not in backward()

    def give_up(error: Exception) -> None:
        for block in blocks:
            block._compiled_call_impl = None
        error = getattr(error, 'inner_exception', error)
        reason = next(filter(None, str(error).splitlines()), '')
        _warn(f'default_hooks.fast.compile: the blocks cannot be compiled here ({type(error).__name__}: {reason}); '
              'the run goes on with the plain path')

    for block in blocks:
        # Random numbers as in the plain path; Inductor's own would be others of the same distribution.
        options = dict(fallback_random=True) if backend == 'inductor' else None
        block.compile(dynamic=False, backend=backend, options=options)
        block._compiled_call_impl = _in_training(block, block._compiled_call_impl, give_up)


def _in_training(block: nn.Module, compiled: Callable, give_up: Callable[[Exception], None]) -> Callable:
    plain = block._call_impl

    def call(*args, **kwargs) -> Any:
        if not block.training:
            return plain(*args, **kwargs)
        try:
            return compiled(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler fails in many ways
            give_up(error)
            return plain(*args, **kwargs)
    return call


def _there_are(modules: Sequence[nn.Module], switch: str, model: nn.Module) -> bool:
    if not modules:
        _warn(f'{switch}=True has no effect: {type(model).__name__} has no blocks that it serves')
    return bool(modules)


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
