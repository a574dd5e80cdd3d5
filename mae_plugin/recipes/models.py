"""What the parts of a model come to, in this plugin's, mmpretrain's, mmseg's and mmdet's ViTDet's vocabulary."""

from collections.abc import Callable

from timm.layers import to_2tuple

from .parts import Part, read

_ARCHS = {'b': (768, 12, 12), 'base': (768, 12, 12), 'l': (1024, 24, 16), 'large': (1024, 24, 16),
          'h': (1280, 32, 16), 'huge': (1280, 32, 16)}
_OUTPUTS = {
    'raw': 'all tokens after the norm', 'cls_token': 'class token after the norm',
    'avg_featmap': 'mean of the patches, then a fresh norm', 'featmap': 'maps without a norm'}


def _encoder(width: int, depth: int, heads: int, **facts) -> dict[str, object]:
    """Facts of an encoder; the defaults are those of a plain ViT."""
    plain = dict(mlp_ratio=4, norm_eps=1e-6, qkv_bias=True, drop_path=0., dropout=0., layer_scale=None, window=None,
                 global_blocks=None, relative_position=None, convolution_blocks=())
    facts = {**plain, **facts}
    facts['mlp_ratio'], facts['drop_path'] = int(facts['mlp_ratio']), float(facts['drop_path'])
    return {f'encoder.{key.replace("_", " ")}': value
            for key, value in dict(width=width, depth=depth, heads=heads, **facts).items()}


def _blocks(indexes, depth: int) -> tuple[int, ...]:
    return tuple(sorted(i % depth for i in ([indexes] if isinstance(indexes, int) else indexes)))


def _taps(out_type: str, indexes, depth: int) -> dict[str, object]:
    return dict(maps_of_blocks=_blocks(indexes, depth)) if out_type == 'featmap' else {}


def _global_blocks(windowed, depth: int) -> tuple[int, ...]:
    return tuple(i for i in range(depth) if i not in _blocks(windowed, depth))


def _grid(size, patch: tuple[int, int]) -> tuple[int, int]:
    return tuple(side // p for side, p in zip(to_2tuple(size), patch, strict=True))


def _start(init_cfg) -> str:
    kind = str((init_cfg or {}).get('type', '') if isinstance(init_cfg, dict) else '')
    return 'pretrained' if kind.endswith('Pretrained') else 'random'


def _eps(norm_cfg: dict, default: float = 1e-5) -> float:
    return norm_cfg.get('eps', default)  # mmcv's default; torch's is the same


def _plain_vit(part: Part) -> dict[str, object]:
    part.ignore('freeze_pos_embed', 'trainable_blocks')  # the optimizer's groups tell
    part.ignore('drop_path_skips', 'with_cp')  # the same mathematics
    patch = to_2tuple(part('patch_size', 16))
    grid = _grid(part('img_size', 224), patch)
    depth, width = part('depth', 12), part('embed_dim', 768)
    out_type = part('out_type', 'raw')
    rel_pos = Part(part('rel_pos'), f'{part.path}.rel_pos')
    window, windowed = part('window_size', 0), part('window_block_indexes', ())
    size = rel_pos('size')
    blocks = _blocks(part('conv_block_indexes', ()), depth)
    return _encoder(
        width, depth, part('num_heads', 12), patch=patch, channels=part('in_chans', 3),
        mlp_ratio=part('mlp_ratio', 4), output=_OUTPUTS[out_type], **_taps(out_type, part('out_indices', -1), depth),
        class_token=part('with_cls_token', True), drop_path=part('drop_path_rate', 0.),
        layer_scale=part('init_values'), window=window or None,
        global_blocks=_global_blocks(windowed, depth) if window else None, convolution_blocks=blocks,
        relative_position={'DecomposedRelPos': 'decomposed', 'RelPosBias': 'bias'}.get(rel_pos.type, rel_pos.type),
        relative_position_grid=(to_2tuple(size) if size else grid) if rel_pos.type else None, positions='column first',
        grid_of_positions=grid, mlp_bias_init='0', start=_start(part('init_cfg'))) | rel_pos.unread()


def _mask_token_vit(part: Part) -> dict[str, object]:
    return {**_plain_vit(part), 'encoder.sees': 'hidden patches too, as mask tokens'}


def _mmpretrain_vit(part: Part, default_output: str = 'cls_token', **facts) -> dict[str, object]:
    arch = part('arch', 'base')
    part.ignore('interpolate_mode', 'frozen_stages')
    patch = to_2tuple(part('patch_size', 16))
    if arch not in _ARCHS:
        return {f'not understood: {part.path}.arch': arch}
    width, depth, heads = _ARCHS[arch]
    out_type, final_norm = part('out_type', default_output), part('final_norm', True)
    norms = {} if final_norm != (out_type == 'avg_featmap') else {
        f'not understood: {part.path}.final_norm': f'{final_norm} with out_type={out_type}'}
    return _encoder(
        width, depth, heads, patch=patch, channels=part('in_channels', 3),
        grid_of_positions=_grid(part('img_size', 224), patch), norm_eps=_eps(part('norm_cfg', dict(eps=1e-6))),
        qkv_bias=part('qkv_bias', True),
        output=_OUTPUTS[out_type], **_taps(out_type, part('out_indices', -1), depth),
        class_token=part('with_cls_token', True), drop_path=part('drop_path_rate', 0.), dropout=part('drop_rate', 0.),
        layer_scale=part('layer_scale_init_value', 0.) or None, mlp_bias_init='N(0, 1e-6)',
        start=_start(part('init_cfg')), **facts) | norms


def _mae_vit(part: Part) -> dict[str, object]:
    return {'masking': 'random', 'mask ratio': part('mask_ratio', 0.75),
            **_mmpretrain_vit(part, default_output='raw', positions='row first')}


def _mmseg_mae(part: Part) -> dict[str, object]:
    part.ignore('norm_eval', 'num_fcs', 'act_cfg', 'pretrained')
    depth, patch = part('num_layers', 12), to_2tuple(part('patch_size', 16))
    grid = _grid(part('img_size', 224), patch)
    off = {key: part(key, False) for key in ('patch_norm', 'final_norm')}
    return _encoder(
        part('embed_dims', 768), depth, part('num_heads', 12), patch=patch, channels=part('in_channels', 3),
        mlp_ratio=part('mlp_ratio', 4), norm_eps=_eps(part('norm_cfg', {})), output=_OUTPUTS['featmap'],
        maps_of_blocks=_blocks(part('out_indices', -1), depth), class_token=True, drop_path=part('drop_path_rate', 0.),
        dropout=part('attn_drop_rate', 0.), layer_scale=part('init_values', 0.1), relative_position='bias',
        relative_position_grid=grid, grid_of_positions=grid, start='pretrained') | {
            f'not understood: {part.path}.{key}': value for key, value in off.items() if value} | (
                {f'not understood: {part.path}.init_cfg': part('init_cfg')} if 'init_cfg' in part else {})


def _vitdet_vit(part: Part) -> dict[str, object]:
    depth, size, patch = part('depth', 12), part('img_size', 1024), part('patch_size', 16)
    part.ignore('pretrain_use_cls_token', 'act_cfg', 'rel_pos_zero_init')
    window = part('window_size', 0)
    relative = dict(relative_position='decomposed', relative_position_grid=(size // patch, ) * 2)
    return _encoder(
        part('embed_dim', 768), depth, part('num_heads', 12), patch=to_2tuple(patch), channels=part('in_chans', 3),
        mlp_ratio=part('mlp_ratio', 4), norm_eps=_eps(part('norm_cfg', dict(eps=1e-6))),
        qkv_bias=part('qkv_bias', True), output=_OUTPUTS['featmap'], maps_of_blocks=(depth - 1, ), class_token=False,
        drop_path=part('drop_path_rate', 0.), window=window or None,
        grid_of_positions=_grid(part('pretrain_img_size', 224), to_2tuple(patch)),
        global_blocks=_global_blocks(part('window_block_indexes', (0, 1, 3, 4, 6, 7, 9, 10)), depth),
        **(relative if part('use_rel_pos', False) else {}), start=_start(part('init_cfg'))) | (
            {} if part('use_abs_pos', True) else {f'not understood: {part.path}.use_abs_pos': False})


def _decoder(width: int, depth: int, heads: int, mlp_ratio: float) -> dict[str, object]:
    return {'decoder.width': width, 'decoder.depth': depth, 'decoder.heads': heads, 'decoder.mlp ratio': int(mlp_ratio)}


def _decoder_of(part: Part) -> dict[str, object]:
    part.ignore('with_cp')  # the same mathematics
    part.ignore('in_chans', 'embed_dim', 'patch_size', 'num_patches', 'img_size')  # follow from the encoder
    eps = _eps(part('norm_cfg', dict(eps=1e-6)))
    return {**_decoder(part('decoder_embed_dim', 512), part('decoder_depth', 8), part('decoder_num_heads', 16),
                       part('mlp_ratio', 4)), 'decoder.norm eps': eps}


def _masking_of(kind: str) -> Callable[[Part], dict[str, object]]:
    return lambda part: {'masking': kind, 'mask ratio': part('mask_ratio', 0.75),
                         'ratio of predicted patches': part('pred_ratio')}


def _our_head(part: Part) -> dict[str, object]:
    targets = {'PixelTarget': lambda t: {'target': 'normalised pixels' if t('norm_pix', True) else 'raw pixels'}}
    kind, beta = part('loss_type', 'l2'), part('beta', 1.)
    errors = {'l2': 'mean squared error', 'l1': 'mean absolute error', 'smooth_l1': f'mean smooth L1, beta {beta:g},'}
    return {'loss': f'{errors.get(kind, kind)} of hidden patches',
            **read(part('target'), f'{part.path}.target', targets)}


def _mmpretrain_head(part: Part) -> dict[str, object]:
    part.ignore('patch_size', 'in_channels')
    losses = {'PixelReconstructionLoss': lambda loss: {
        'loss': {'L2': 'mean squared error of hidden patches'}.get(loss('criterion'), 'another')}}
    return {'target': 'normalised pixels' if part('norm_pix', False) else 'raw pixels',
            **read(part('loss'), f'{part.path}.loss', losses)}


def _pyramid(part: Part) -> dict[str, object]:
    part.ignore('in_channels')
    strides = tuple(16 / scale for scale in part('scales', (4, 2, 1, .5)))
    return {'pyramid.width': part('out_channels', 256), 'pyramid.strides': strides,
            'pyramid.extra level': part('extra_level', True), 'pyramid.norm eps': 1e-6,
            'pyramid.initial convolutions': "PyTorch's"}


def _simple_fpn(part: Part) -> dict[str, object]:
    part.ignore('in_channels', 'backbone_channel')
    return {'pyramid.width': part('out_channels'), 'pyramid.strides': (4., 8., 16., 32.),
            'pyramid.extra level': part('num_outs') == 5, 'pyramid.norm eps': _eps(part('norm_cfg', {})),
            'pyramid.initial convolutions': 'Kaiming'}


def _feature2pyramid(part: Part) -> dict[str, object]:
    part.ignore('embed_dim')
    norm = part('norm_cfg', dict(type='SyncBN'))
    return {'pyramid.rescales': tuple(part('rescales', (4, 2, 1, .5))), 'pyramid.norm': norm['type']}


ENCODERS = {'PlainViT': _plain_vit, 'MaskTokenViT': _mask_token_vit, 'VisionTransformer': _mmpretrain_vit,
            'MAEViT': _mae_vit, 'MAE': _mmseg_mae, 'ViT': _vitdet_vit}
MASKINGS = {'RandomMasking': _masking_of('random'), 'BlockMasking': _masking_of('block'),
            'GridMasking': _masking_of('grid')}
DECODERS = {'MAEDecoder': _decoder_of, 'MAEPretrainDecoder': _decoder_of}
RECONSTRUCTION_HEADS = {'PixelReconstructionHead': _our_head, 'MAEPretrainHead': _mmpretrain_head}
PYRAMIDS = {'SimpleFeaturePyramid': _pyramid, 'SimpleFPN': _simple_fpn, 'Feature2Pyramid': _feature2pyramid}


def _classifier(part: Part) -> dict[str, object]:
    part.ignore('in_channels', 'topk', 'cal_acc')
    init, loss = part('init_cfg'), Part(part('loss'), f'{part.path}.loss')
    init = init[0] if isinstance(init, list) else init
    known = init and init['type'] == 'TruncNormal' and init['layer'] == 'Linear'
    facts = {'classes': part('num_classes'), 'initial weights of the head':
             f'truncated normal, {init["std"]:g}' if known else init}
    loss.ignore('num_classes')
    soft = loss('use_soft', False)
    facts.update({'loss weight': loss('loss_weight', 1.),
                  'labels of the loss': 'soft' if soft or loss.type == 'LabelSmoothLoss' else 'hard'})
    if loss.type == 'LabelSmoothLoss':
        facts['label smoothing'] = loss('label_smooth_val')
        if loss('mode', 'original') != 'original':
            facts['not understood: model.head.loss.mode'] = 'not original'
    return {'loss': 'cross entropy' if loss.type in ('LabelSmoothLoss', 'CrossEntropyLoss', None) else loss.type,
            **facts, **loss.unread()}


def _batch_norm(part: Part) -> dict[str, object]:
    part.ignore('input_features', 'num_features')
    affine = 'with' if part('affine', False) else 'without'
    return {'norm before the head': f'BatchNorm {affine} affine, eps {part("eps", 1e-6):g}'}


CLASSIFIERS = {'LinearClsHead': _classifier, 'VisionTransformerClsHead': _classifier}
FEATURE_NORMS = {'ClsBatchNormNeck': _batch_norm}
