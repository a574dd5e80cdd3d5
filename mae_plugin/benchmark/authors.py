"""The authors' implementation as a contender, from a clone on the user's disk (it is CC-BY-NC and none of it is here).

Their own ``train_one_epoch`` trains. It was written for torch 1.8, timm 0.3.2 and an old NumPy; what is patched for the
time of an import or a step is ``torch._six``, ``np.float``, the argument ``qk_scale`` of timm's block and, without a
GPU, ``torch.cuda.synchronize``. The assertion on timm's version is in scripts that are not imported.
"""

import contextlib
import importlib
import io
import math
import sys
import types
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import timm.models.vision_transformer as timm_vit
import torch
from mmengine.config import Config
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from mae_plugin.benchmark.contenders import Contender, built_model

_MODULES = ('models_mae', 'engine_pretrain')


class AuthorsContender(Contender):
    """The authors' model and training step: float16 with a scaler, gradient norm, and a wait for the device each step.

    Without a GPU their autocast does nothing, which leaves float32.

    Args:
        clone: Folder of a clone of their repository.
        cfg: Our config, which gives the sizes.
        state: Weights by our names.
        batch: Batch size.
        dtype: Precision; None is theirs, float16 on a GPU and float32 on the CPU.
        port: With today's fused attention and without scaler and gradient norm; None for ``dtype`` is then bfloat16.

    Raises:
        ValueError: If ``clone`` is none, or their model cannot have the config's sizes.
    """

    format = 'authors'

    def __init__(self, clone: str | Path, cfg: Config, state: dict[str, Tensor], batch: int, dtype: str | None = None,
                 port: bool = False) -> None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.dtype = dtype or ('bfloat16' if port else 'float16' if device == 'cuda' else 'float32')
        models, engine, misc = _import(Path(clone).expanduser())
        ours = built_model(cfg)
        encoder, decoder = ours.backbone, ours.neck
        if encoder.patch_size[0] != encoder.patch_size[1] or encoder.img_size[0] != encoder.img_size[1]:
            raise ValueError(f'--authors: their model has square images and patches, not {encoder.img_size} and '
                             f'{encoder.patch_size}')
        with _patched(), mock.patch.object(models, 'Block', _block(fused=port)):
            self.model = models.MaskedAutoencoderViT(
                img_size=encoder.img_size[0], patch_size=encoder.patch_size[0], in_chans=encoder.in_chans,
                embed_dim=encoder.embed_dim, depth=encoder.depth, num_heads=encoder.blocks[0].attn.num_heads,
                decoder_embed_dim=decoder.decoder_embed.out_features, decoder_depth=len(decoder.decoder_blocks),
                decoder_num_heads=decoder.decoder_blocks[0].attn.num_heads,
                mlp_ratio=encoder.blocks[0].mlp.fc1.out_features / encoder.embed_dim,
                norm_layer=partial(nn.LayerNorm, eps=1e-6), norm_pix_loss=ours.head.target.norm_pix)
        self.load(state)
        self.model.to(device)
        self.ends = (self.model.norm, self.model.decoder_pred)
        self.preprocessor = ours.data_preprocessor.to(device)
        self.device = torch.device(device)
        optimizer = cfg.optim_wrapper.optimizer
        self.optimizer = torch.optim.AdamW(
            param_groups_weight_decay(self.model, optimizer.get('weight_decay', .05)), lr=optimizer.lr,
            betas=optimizer.get('betas', (.9, .95)))
        self._engine = engine
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of a scaler without a GPU
            self._scaler = _step_without_scaler if port or self.dtype != 'float16' and device == 'cuda' else (
                misc.NativeScalerWithGradNormCount())
        # min_lr = lr and no warm-up: their schedule sets the learning rate each step, to what set_lr says.
        self._args = types.SimpleNamespace(accum_iter=1, mask_ratio=ours.masking.mask_ratio, warmup_epochs=0, epochs=1)
        self.set_lr(optimizer.lr * batch / 256)

    def set_lr(self, lr: float) -> None:
        """See :class:`Contender`."""
        self._args.lr = self._args.min_lr = lr

    def prepare(self, imgs: Tensor) -> tuple[Tensor, None]:
        """Normalised float32 images, as their loader gives them, and a label."""
        return self.preprocessor(dict(inputs=imgs))['inputs'], None

    def train(self, batches: Iterable[tuple]) -> float:
        """See :class:`Contender`; the loss is the mean over ``batches``."""
        with _patched(), mock.patch.object(torch.cuda.amp, 'autocast', self._autocast), \
                contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return self._engine.train_one_epoch(
                self.model, list(batches), self.optimizer, self.device, 0, self._scaler, args=self._args)['loss']

    def close(self) -> None:
        """See :class:`Contender`."""
        self.optimizer.zero_grad()

    def _autocast(self) -> torch.autocast:
        mixed = self.dtype != 'float32'
        return torch.autocast(self.device.type, getattr(torch, self.dtype) if mixed else None, enabled=mixed)


def check_clone(clone: str | Path) -> None:
    """Raise ValueError if there is no clone of the authors' repository."""
    for name in ('models_mae.py', 'engine_pretrain.py', 'util/misc.py'):
        if not (Path(clone).expanduser() / name).is_file():
            raise ValueError(f'--authors {clone}: there is no {name}; give the folder of a clone of '
                             'https://github.com/facebookresearch/mae')


def _step_without_scaler(loss: Tensor, optimizer: torch.optim.Optimizer, **_) -> None:
    loss.backward()
    optimizer.step()


def _block(fused: bool):
    """A block of timm that accepts the argument of old; without ``fused`` attention is two products and a softmax."""
    def build(*args, qk_scale: None = None, **kwargs) -> nn.Module:
        block = timm_vit.Block(*args, **kwargs)
        block.attn.fused_attn = fused
        return block
    return build


@contextlib.contextmanager
def _patched() -> Iterator[None]:
    six = types.ModuleType('torch._six')
    six.inf = math.inf
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(sys.modules, {'torch._six': six}))
        if not hasattr(np, 'float'):
            stack.enter_context(mock.patch.object(np, 'float', float, create=True))
        if not torch.cuda.is_available():
            stack.enter_context(mock.patch.object(torch.cuda, 'synchronize', lambda *_: None))
        yield


def _import(clone: Path) -> list[types.ModuleType]:
    """Their modules of the model, the loop and the scaler, without leaving ``util`` and others among the modules."""
    check_clone(clone)
    ours = {name: module for name, module in sys.modules.items() if name == 'util' or name.startswith('util.')}
    for name in ours:
        del sys.modules[name]
    with _patched(), mock.patch.object(sys, 'path', [str(clone), *sys.path]):
        try:
            return [importlib.import_module(name) for name in (*_MODULES, 'util.misc')]
        finally:
            theirs = [name for name in sys.modules
                      if name in _MODULES or name == 'util' or name.startswith('util.')]
            for name in theirs:
                del sys.modules[name]
            sys.modules.update(ours)
