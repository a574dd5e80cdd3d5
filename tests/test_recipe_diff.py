import importlib.util
import json
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from tiny.tools import load_tool

from mae_plugin.recipes import RECIPES, compare, table
from mae_plugin.recipes.effects import EFFECTS, effect_of
from mae_plugin.recipes.groups import build_model, layer_of
from mae_plugin.recipes.lr_curve import cosine, of_schedulers, polynomial, steps
from mae_plugin.recipes.published import ANY
from mae_plugin.utils.run_config import load_config
from mae_plugin.utils.schedule import fit_batch

CONFIGS = Path(__file__).parents[1] / 'configs'
PRETRAIN = 'pretrain/mae_vit-base-p16_in1k.py'
FINETUNE = 'classification/vit-base_in1k.py'
SCRATCH = 'classification/scratch-vit-base_in1k.py'
PROBE = 'classification/linear-probe_vit-base_in1k.py'
DETECT = 'detection/vitdet_mask-rcnn_vit-base_coco.py'
LVIS = 'detection/vitdet_cascade_vit-base_lvis.py'
SEGMENT = 'segmentation/upernet_vit-base_ade20k-512x512.py'


def recipe_of(path):
    return (Config.fromfile(path).get('recipe') or {}).get('name')


def need(cfg):
    if cfg.get('default_scope') not in (None, 'mmengine', 'mae_plugin'):
        pytest.importorskip(cfg.default_scope)


def differences(path, *options, recipe=None, **kwargs):
    cfg = load_config(CONFIGS / path, options)
    need(cfg)
    return {found.fact: found for found in compare(cfg, recipe or cfg.recipe.name, **kwargs)}


NAMED = {str(path.relative_to(CONFIGS)): name for path in sorted(CONFIGS.rglob('*.py'))
         if path.parts[-2] not in ('chains', 'datasets', 'models', 'schedules', '_base_') and (name := recipe_of(path))}


@pytest.mark.parametrize('path', NAMED)
def test_ours_are_the_published_recipes(path):
    found = differences(path)
    assert not found, '\n' + table(list(found.values()))


def test_every_published_recipe_has_its_config():
    assert set(RECIPES) - set(NAMED.values()) == {'upernet/base/multi-scale'}


# -- One changed number is found ---------------------------------------------------------------------------------------

CHANGES = [
    (PRETRAIN, 'optim_wrapper.optimizer.lr=1.6e-4', 'lr'),
    (PRETRAIN, 'optim_wrapper.optimizer.weight_decay=0.04', 'weight decay'),
    (PRETRAIN, 'optim_wrapper.optimizer.betas=(0.9,0.999)', 'optimizer betas'),
    (PRETRAIN, 'optim_wrapper.optimizer.type=Adam', 'optimizer'),
    (PRETRAIN, '+optim_wrapper.clip_grad.max_norm=1', 'gradient clipping'),
    (PRETRAIN, 'optim_wrapper.dtype=float32', 'precision'),
    (PRETRAIN, "+optim_wrapper.paramwise_cfg.no_decay=('1d','cls_token')", 'weight decay of the class token'),
    (PRETRAIN, '+optim_wrapper.paramwise_cfg.no_decay=()', 'weight decay of biases'),
    (PRETRAIN, 'param_scheduler.0.start_factor=1e-4', 'lr, start'),
    (PRETRAIN, 'param_scheduler.0.end=12800', 'lr, half of the warm-up'),
    (PRETRAIN, 'param_scheduler.1.eta_min=1e-6', 'lr, last iteration'),
    (PRETRAIN, 'train_cfg.max_iters=500800', 'iterations'),
    (PRETRAIN, 'auto_scale_lr.enable=False', 'lr follows the batch'),
    (PRETRAIN, 'recipe.batch_size=2048', 'batch'),
    (PRETRAIN, 'train_dataloader.sampler.epoch_multiple=1', 'images beyond the last whole batch'),
    (PRETRAIN, 'train_dataloader.dataset.holdout=0.01', 'images held out'),
    (PRETRAIN, 'train_dataloader.dataset.pipeline.0.scale=(0.08,1)', 'train crop area'),
    (PRETRAIN, '+train_dataloader.dataset.pipeline.0.ratio=(1,1)', 'train crop aspect'),
    (PRETRAIN, '+train_dataloader.dataset.pipeline.1.prob=0.4', 'train flip'),
    (PRETRAIN, 'train_dataloader.dataset.mode=fast', 'how crops are made'),
    (PRETRAIN, 'model.backbone.img_size=192', 'train crop size'),
    (PRETRAIN, 'model.data_preprocessor.std=[58,57,57]', 'normalisation'),
    (PRETRAIN, 'model.masking.mask_ratio=0.7', 'mask ratio'),
    (PRETRAIN, 'model.masking.type=mae_plugin.BlockMasking', 'masking'),
    (PRETRAIN, 'model.head.target.norm_pix=False', 'target'),
    (PRETRAIN, '+model.head.loss_type=l1', 'loss'),
    (PRETRAIN, '+model.masking.pred_ratio=0.5', 'ratio of predicted patches'),
    (PRETRAIN, 'model.backbone.type=mae_plugin.MaskTokenViT', 'encoder.sees'),
    (PRETRAIN, 'model.neck.decoder_depth=4', 'decoder.depth'),
    (PRETRAIN, 'model.backbone.depth=11', 'encoder.depth'),
    (PRETRAIN, 'model.backbone.freeze_pos_embed=False', 'trained'),
    (PRETRAIN, '+model.backbone.drop_path_rate=0.1', 'encoder.drop path'),
    (PRETRAIN, 'resume=True', 'resumes by itself'),
    (PRETRAIN, '+train_dataloader.sampler.shuffle=False', 'order of images'),
    (PRETRAIN, 'randomness.diff_rank_seed=False', 'seeds of the processes'),
    (PRETRAIN, 'train_dataloader.dataset.split=val', 'train split'),
    (FINETUNE, 'train_dataloader.sampler.shuffle=False', 'order of images'),
    (FINETUNE, 'randomness=None', 'seeds of the processes'),
    (FINETUNE, '+optim_wrapper.loss_scale=512', 'loss scale'),
    (FINETUNE, '+optim_wrapper.accumulative_counts=4', 'batch'),
    (FINETUNE, '+model.head.loss.loss_weight=3', 'loss weight'),
    (FINETUNE, 'model.head.loss.use_soft=False', 'labels of the loss'),
    (FINETUNE, 'optim_wrapper.paramwise_cfg.layer_decay_rate=0.75', 'layer decay'),
    (FINETUNE, "optim_wrapper.paramwise_cfg.no_decay=('1d','pos_embed')", 'weight decay of the class token'),
    (FINETUNE, 'param_scheduler.0.end=6000', 'lr, half of the warm-up'),
    (FINETUNE, 'param_scheduler.1.eta_min_ratio=1e-3', 'lr, last iteration'),
    (FINETUNE, 'model.backbone.drop_path_rate=0.2', 'encoder.drop path'),
    (FINETUNE, 'model.backbone.out_type=cls_token', 'encoder.output'),
    (FINETUNE, '+model.backbone.trainable_blocks=4', 'trained'),
    (FINETUNE, 'model.backbone.init_cfg=None', 'encoder.start'),
    (FINETUNE, 'model.head.init_cfg.std=0.01', 'initial weights of the head'),
    (FINETUNE, 'model.data_preprocessor.mixup.mixup_alpha=0.2', 'train mixup'),
    (FINETUNE, 'model.data_preprocessor.mixup.switch_prob=0.4', 'train mixing'),
    (FINETUNE, 'model.data_preprocessor.mixup.label_smoothing=0', 'label smoothing'),
    (FINETUNE, 'model.data_preprocessor.erasing.probability=0.5', 'train erasing'),
    (FINETUNE, 'train_dataloader.dataset.pipeline.1.auto_augment=rand-m8-mstd0.5-inc1', 'train augmentation'),
    (FINETUNE, 'train_dataloader.dataset.pipeline.1.interpolation=bilinear', 'train crop interpolation'),
    (FINETUNE, 'train_dataloader.dataset.pipeline.1.color_jitter=0.4', 'train colour jitter'),
    (FINETUNE, 'test_dataloader.dataset.pipeline.1.crop_pct=1.0', 'test resize'),
    (FINETUNE, 'test_dataloader.dataset.pipeline.1.input_size=256', 'test crop'),
    (SCRATCH, 'custom_hooks.0.momentum=1e-3', 'moving average of the weights'),
    (SCRATCH, '+custom_hooks.0.ema_type=StochasticWeightAverage', 'moving average of the weights'),
    (SCRATCH, '+custom_hooks.0.interval=100', 'steps between averages'),
    (SCRATCH, '+custom_hooks.0.begin_iter=6240', 'moving average begins, iteration'),
    (SCRATCH, '+custom_hooks.0.begin_epoch=20', 'moving average begins, epoch'),
    ('classification/partial-half-block_vit-large_in1k.py', 'model.backbone.trainable_blocks=1', 'trained'),
    ('classification/partial-1-block_vit-large_in1k.py', 'model.backbone.trainable_blocks=2', 'trained'),
    ('classification/partial-4-blocks_vit-large_in1k.py', 'model.backbone.trainable_blocks=3', 'trained'),
    (PROBE, 'optim_wrapper.optimizer.momentum=0.95', 'optimizer momentum'),
    (PROBE, 'optim_wrapper.optimizer.trust_coeff=0.01', 'trust coefficient'),
    (PROBE, 'model.neck.affine=True', 'norm before the head'),
    (PROBE, 'model.backbone.trainable_blocks=1', 'trained'),
    (PROBE, 'train_dataloader.dataset.pipeline.1.type=RandomResizedCrop', 'not understood: '
     'train_dataloader.dataset.pipeline.1.size'),
    (DETECT, 'optim_wrapper.paramwise_cfg.layer_decay_rate=0.75', 'layer decay'),
    (DETECT, "optim_wrapper.paramwise_cfg.no_decay=('1d','pos_embed')", 'weight decay of other norms'),
    (DETECT, "optim_wrapper.paramwise_cfg.no_decay=('norm','pos_embed','rel_pos')",
     'weight decay of relative position'),
    (DETECT, 'param_scheduler.1.milestones=[163880,177546]', 'lr, before step 1'),
    (DETECT, 'param_scheduler.1.milestones=[163889,177548]', 'lr, from step 2'),
    (DETECT, 'param_scheduler.0.end=260', 'lr, half of the warm-up'),
    (DETECT, 'custom_hooks=[]', 'gradients are sent in'),
    (DETECT, 'model.backbone.window_size=16', 'encoder.window'),
    (DETECT, 'model.backbone.window_block_indexes=(0,1,2,3,4,6,7,9,10)', 'encoder.global blocks'),
    (DETECT, 'model.backbone.rel_pos.size=32', 'encoder.relative position grid'),
    (DETECT, 'model.rpn_head.num_convs=1', 'rpn_head.num_convs'),
    (DETECT, '+model.rpn_head.loss_cls.class_weight=[2.0]', 'rpn_head.loss_cls.class_weight'),
    (DETECT, 'model.roi_head.bbox_head.norm_cfg.eps=1e-5', 'roi_head.bbox_head.norm_cfg'),
    (DETECT, 'model.train_cfg.rcnn.sampler.num=256', 'train_cfg.rcnn.sampler.num'),
    (DETECT, 'model.test_cfg.rcnn.score_thr=0.01', 'test_cfg.rcnn.score_thr'),
    (DETECT, 'model.data_preprocessor.pad_size_divisor=32', 'test padded to'),
    (DETECT, 'train_dataloader.dataset.pipeline.3.ratio_range=(0.5,2)', 'train resize range'),
    (DETECT, 'train_dataloader.dataset.pipeline.3.backend=cv2', 'train interpolation'),
    (DETECT, 'train_dataloader.dataset.pipeline.4.crop_size=(896,896)', 'train crop size'),
    (DETECT, 'train_dataloader.dataset.pipeline.5.keep_empty=True', 'train images left without an object'),
    (DETECT, '+train_dataloader.dataset.filter_cfg.min_size=32', 'least side of an image'),
    (DETECT, 'test_dataloader.dataset.pipeline.1.scale=(1333,800)', 'test resize to fit'),
    (LVIS, 'train_dataloader.sampler.threshold=0.01', 'repeat factor of rare classes'),
    (LVIS, 'model.roi_head.bbox_head.loss_cls.num_sample=60', 'roi_head.bbox_head.loss_cls.num_sample'),
    (LVIS, '+model.roi_head.stage_ious=(0.5,0.6,0.75)', 'roi_head.stage_ious'),
    (SEGMENT, 'param_scheduler.1.begin=1500', 'lr, 25 %'),
    (SEGMENT, 'param_scheduler.1.power=0.9', 'lr, 50 %'),
    (SEGMENT, "optim_wrapper.paramwise_cfg.no_decay=('1d','pos_embed')", 'weight decay of the position embedding'),
    (SEGMENT, 'model.backbone.out_indices=(2,5,8,11)', 'encoder.maps of blocks'),
    (SEGMENT, 'model.backbone.init_values=1e-6', 'encoder.layer scale'),
    (SEGMENT, 'model.decode_head.channels=512', 'decode_head.channels'),
    (SEGMENT, 'model.auxiliary_head.loss_decode.loss_weight=1.0', 'auxiliary_head.loss_decode.loss_weight'),
    (SEGMENT, 'model.test_cfg.stride=(256,256)', 'test_cfg.stride'),
    (SEGMENT, 'model.test_cfg.mode=whole', 'test_cfg.mode'),
]


@pytest.mark.parametrize(('path', 'option', 'fact'), CHANGES, ids=[change[1] for change in CHANGES])
def test_a_changed_number_is_found(path, option, fact):
    assert fact in differences(path, option)


@pytest.mark.parametrize(('path', 'option', 'named'), [
    (PRETRAIN, 'model.neck.type=mae_plugin.LinearDecoder', 'model.neck'),
    (PRETRAIN, 'train_dataloader.dataset.pipeline.1.type=Sharpen', 'train_dataloader.dataset.pipeline.1'),
    (PRETRAIN, '+train_dataloader.dataset.pipeline.1.by=2', 'train_dataloader.dataset.pipeline.1.by'),
    (PRETRAIN, '+train_dataloader.sampler.weights=2', 'train_dataloader.sampler.weights'),
    (PRETRAIN, '+model.corruption.type=Noise', 'model.corruption'),
    (PRETRAIN, 'model.backbone.type=ResNet', 'model.backbone'),
    (PRETRAIN, '+model.backbone.frozen_stages=2', 'model.backbone.frozen_stages'),
    (PRETRAIN, '+optim_wrapper.optimizer.amsgrad=True', 'optim_wrapper.optimizer.amsgrad'),
    (PRETRAIN, '+optim_wrapper.paramwise_cfg.bias_mult=2', 'optim_wrapper.paramwise_cfg.bias_mult'),
    (PRETRAIN, 'param_scheduler.1.type=CosineRestartLR', 'param_scheduler'),
    (PRETRAIN, '+param_scheduler.0.colour=red', 'param_scheduler'),
    (PRETRAIN, '+train_dataloader.dataset.max_images=1000', 'train_dataloader.dataset.max_images'),
    (PRETRAIN, '+train_dataloader.batch_sampler.type=Sorted', 'train_dataloader.batch_sampler'),
    (FINETUNE, '+train_dataloader.dataset.indices=1000', 'train_dataloader.dataset.indices'),
    (FINETUNE, '+test_dataloader.dataset.indices=1000', 'test_dataloader.dataset.indices'),
    (DETECT, '+train_dataloader.dataset.indices=1000', 'train_dataloader.dataset.indices'),
    (DETECT, '+train_dataloader.dataset.filter_cfg.least=9', 'train_dataloader.dataset.filter_cfg.least'),
    (SEGMENT, '+train_dataloader.dataset.reduce_zero_label=False', 'train_dataloader.dataset.reduce_zero_label'),
    (SCRATCH, 'custom_hooks.0.type=SwitchHook', 'custom_hooks.0'),
    (SCRATCH, '+custom_hooks.0.update_buffers=True', 'custom_hooks.0.update_buffers'),
])
def test_what_is_not_understood_is_said(path, option, named):
    assert f'not understood: {named}' in differences(path, option)


def test_the_published_values_may_be_written_down():
    assert not differences(PRETRAIN, '+model.head.loss_type=l2', '+model.masking.pred_ratio=None')


def test_a_teacher_is_built_without_memory():
    found = differences('parts/target_features.py', recipe='pretrain/normalised/base')
    assert not any('the optimizer groups' in fact for fact in found)


def test_every_unknown_hook_is_said():
    found = differences(SCRATCH, 'custom_hooks=[{"type":"SwitchHook"},{"type":"FreezeHook"}]')
    assert [found[f'not understood: custom_hooks.{i}'].here for i in range(2)] == ['SwitchHook', 'FreezeHook']


@pytest.mark.parametrize('times', [1, 4])
def test_settings_of_wrapped_data_sets_are_found(times):
    cfg = load_config(CONFIGS / DETECT)
    need(cfg)
    inner = dict(cfg.train_dataloader.dataset, indices=1000)
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=times, dataset=inner)
    assert [difference.fact for difference in compare(cfg, cfg.recipe.name)] == [
        'not understood: train_dataloader.dataset.dataset.indices']  # the run is counted in iterations


@pytest.mark.parametrize('share, facts', [(1., []), (.5, ['not understood: train_dataloader.dataset.share'])])
def test_a_share_of_the_labels_is_a_difference(share, facts):
    cfg = load_config(CONFIGS / DETECT)
    need(cfg)
    cfg.train_dataloader.dataset = dict(
        type='mae_plugin.LabelShare', share=share, seed=3, dataset=cfg.train_dataloader.dataset)
    assert [difference.fact for difference in compare(cfg, cfg.recipe.name)] == facts


@pytest.mark.parametrize('path', [PRETRAIN, FINETUNE, SCRATCH, PROBE, DETECT, LVIS, SEGMENT])
def test_an_accumulated_batch_is_the_published_one(path):
    cfg = load_config(CONFIGS / path)
    need(cfg)
    name = cfg.recipe.name
    fit_batch(cfg, 'accumulate', path)  # without a launcher, so by one process
    assert cfg.optim_wrapper.accumulative_counts * cfg.recipe.batch_size == RECIPES[name].batch > cfg.recipe.batch_size
    found = compare(cfg, name)
    assert not found, '\n' + table(found)
    cfg.optim_wrapper.accumulative_counts *= 2
    assert 'batch' in {difference.fact for difference in compare(cfg, name)}


def test_accumulation_makes_another_batch():
    found = differences(FINETUNE, '+optim_wrapper.accumulative_counts=4')
    assert (found['batch'].published, found['batch'].here) == (1024, 4096)
    assert 'lr' not in found and 'iterations' not in found  # the rate follows the batch, and as many images are seen


def test_another_batch():
    found = differences(PRETRAIN, batch=512)
    assert found['batch'].here == 512 and found['iterations'].published == 8 * 499_200
    assert 'lr' not in found  # it follows the batch


# -- Other libraries ---------------------------------------------------------------------------------------------------


def theirs(library, path):
    spec = importlib.util.find_spec(library)
    if spec is None or not (file := Path(spec.origin).parent / '.mim' / 'configs' / path).is_file():
        pytest.skip(f'{library} with its {path} is not here')
    return file


def found_in(file, recipe, **kwargs):
    cfg = load_config(file)
    pytest.importorskip(cfg.default_scope)
    return {found.fact: found for found in compare(cfg, recipe, **kwargs)}


MMPRETRAIN_PRETRAINING = {
    'encoder.positions', 'weight decay of the class token', 'weight decay of the mask token', 'encoder.mlp bias init',
    'short batches', 'images beyond the last whole batch', 'iterations', 'lr, start', 'lr follows the batch',
    'resumes by itself', 'code of MAEViT: forward(mask=False)', 'code of MAEViT: image shapes',
    'code of MAEViT: input channels', 'code of MAEPretrainHead: pictures of reconstructions'}


@pytest.mark.parametrize('size', ['base', 'large', 'huge'])
def test_deviations_of_mmpretrains_pretraining(size):
    patch = 14 if size == 'huge' else 16
    file = theirs('mmpretrain', f'mae/mae_vit-{size}-p{patch}_8xb512-amp-coslr-1600e_in1k.py')
    assert set(found_in(file, f'pretrain/normalised/{size}')) == MMPRETRAIN_PRETRAINING
    one_gpu = found_in(file, f'pretrain/normalised/{size}', batch=512)
    assert set(one_gpu) == MMPRETRAIN_PRETRAINING | {'batch', 'lr'}
    assert one_gpu['lr'].here == pytest.approx(8 * one_gpu['lr'].published)


def test_a_start_factor_of_nearly_zero_is_zero():
    file = theirs('mmpretrain', 'mae/mae_vit-large-p16_8xb512-amp-coslr-800e_in1k.py')  # 1e-9
    found = found_in(file, 'pretrain/normalised/large')
    assert set(found) == MMPRETRAIN_PRETRAINING - {'lr, start'}
    assert found['iterations'].here == 800 * 313


FINE_TUNING = {'precision', 'train erasing happens', 'lr, start', 'lr, last iteration, first layer', 'short batches',
               'iterations', 'lr follows the batch'}


@pytest.mark.parametrize(('file', 'recipe', 'more'), [
    ('vit-base-p16_8xb128-coslr-100e_in1k.py', 'base', set()),
    ('vit-large-p16_8xb128-coslr-50e_in1k.py', 'large', set()),
    ('vit-huge-p14_8xb128-coslr-50e_in1k.py', 'huge', set()),
    ('vit-huge-p14_32xb8-coslr-50e_in1k-448px.py', 'huge-448', {'test resize', 'images of a process'})])
def test_deviations_of_mmpretrains_fine_tuning(file, recipe, more):
    found = found_in(theirs('mmpretrain', f'mae/benchmarks/{file}'), f'finetune/normalised/{recipe}')
    assert set(found) == FINE_TUNING | more
    if more:
        assert (found['test resize'].published, found['test resize'].here) == (('short side', 448), ('short side', 512))


@pytest.mark.parametrize('size', ['base', 'large'])
def test_deviations_of_mmpretrains_linear_probe(size):
    file = theirs('mmpretrain', f'mae/benchmarks/vit-{size}-p16_8xb2048-linear-coslr-90e_in1k.py')
    found = found_in(file, f'linear-probe/{size}')
    assert set(found) == {
        'train crop interpolation', 'test interpolation', 'train crop sampling', 'learning rate enters',
        'parameters of one dimension have a trust ratio', 'lr, start', 'lr follows the batch'} | (
            {'iterations'} if size == 'large' else set())  # 90 epochs, where the authors found 50 enough


def test_deviations_of_mmsegs_upernet():
    name = 'mae-base_upernet_8xb2-amp-160k_ade20k-512x512'
    found = found_in(theirs('mmseg', f'mae/{name}.py'), 'upernet/base')
    code = {fact for fact in found if fact.startswith('code of ')}
    assert set(found) - code == {  # its line falls from the end of the warm-up on
        'precision', 'lr, half of the warm-up', 'lr, end of the warm-up', 'lr, 25 %', 'lr, 50 %', 'lr, 75 %'}
    assert 'fp16 is ignored' in found['precision'].here
    assert code == {f'code of {fact}' for fact in (
        'MAE(mmseg): names without weight decay', 'MAE(mmseg): test image sizes', 'MAE(mmseg): checkpoints that load',
        'MAE(mmseg): attention', 'MAE(mmseg): attn_cfg', 'Feature2Pyramid: order of rescales',
        'LayerDecayOptimizerConstructor: depth for the layer decay')}
    assert 'test scales' in found_in(theirs('mmseg', f'mae/{name}-ms.py'), 'upernet/base/multi-scale')


def mmdet_project(cfg):
    """Our config with what mmdet's ViTDet project has otherwise, in its words."""
    image, pad = (1024, 1024), dict(type='Pad', size=(1024, 1024), pad_val=dict(img=(114, 114, 114)))
    model, norm = cfg.model, dict(type='LN2d', requires_grad=True)
    windowed = model.backbone.window_block_indexes
    model.backbone = dict(
        type='ViT', img_size=1024, patch_size=16, embed_dim=768, depth=12, num_heads=12, drop_path_rate=0.1,
        window_size=14, mlp_ratio=4, qkv_bias=True, norm_cfg=dict(type='LN', requires_grad=True), use_rel_pos=True,
        window_block_indexes=windowed, init_cfg=dict(type='Pretrained', checkpoint='mae_pretrain_vit_base.pth'))
    model.neck = dict(type='SimpleFPN', backbone_channel=768, in_channels=[192, 384, 768, 768], out_channels=256,
                      num_outs=5, norm_cfg=norm)
    model.roi_head.bbox_head.norm_cfg = model.roi_head.mask_head.norm_cfg = norm
    cfg.train_dataloader.dataset.filter_cfg.min_size = 32
    cfg.train_dataloader.dataset.pipeline[4:6] = [
        dict(type='RandomCrop', crop_type='absolute_range', crop_size=image, recompute_bbox=True,
             allow_negative_crop=True),
        dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)), pad]
    cfg.test_dataloader.dataset.pipeline.insert(2, pad)
    cfg.optim_wrapper.update(
        constructor='LayerDecayOptimizerConstructor',
        paramwise_cfg=dict(decay_rate=0.7, decay_type='layer_wise', num_layers=12))
    cfg.pop('randomness')
    return cfg


def test_deviations_of_mmdets_vitdet():
    pytest.importorskip('mmdet')
    cfg = mmdet_project(load_config(CONFIGS / DETECT))
    found = {difference.fact for difference in compare(cfg, 'vitdet/mask-rcnn/base/coco')}
    assert found == {
        'encoder.norm eps', 'pyramid.norm eps', 'roi_head.bbox_head.norm_cfg', 'roi_head.mask_head.norm_cfg',
        'train padding', 'test padding', 'train crop moves', 'least side of an image',
        'train images left without an object', 'pyramid.initial convolutions', 'code of ViT: checkpoints that load',
        'code of ViT: attention', 'code of LayerDecayOptimizerConstructor: depth for the layer decay',
        'not understood: the optimizer groups', 'layer decay', 'trained',  # the project itself is not here
        'seeds of the processes'}


# -- Parts -------------------------------------------------------------------------------------------------------------

EPOCH, LENGTH = 5, 50
SCHEDULES = [
    [dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=10),
     dict(type='CosineAnnealingLR', by_epoch=False, begin=10)],
    [dict(type='LinearLR', start_factor=1e-9, by_epoch=False, begin=0, end=10),
     dict(type='CosineAnnealingLR', eta_min_ratio=.1, by_epoch=False, begin=10)],
    [dict(type='LinearLR', start_factor=1e-4, end=2, convert_to_iter_based=True),
     dict(type='CosineAnnealingLR', T_max=8, begin=2, end=10, eta_min=.01, convert_to_iter_based=True)],
    [dict(type='LinearLR', start_factor=1e-4, end=3), dict(type='CosineAnnealingLR', T_max=8, begin=2, end=10)],
    [dict(type='LinearLR', start_factor=.001, by_epoch=False, end=10),
     dict(type='MultiStepLR', by_epoch=False, milestones=[30, 40], gamma=.1)],
    [dict(type='LinearLR', start_factor=.001, by_epoch=False, end=10),
     dict(type='PolyLR', by_epoch=False, begin=0, power=.9)],
    [dict(type='ConstantLR', factor=.1, by_epoch=False, end=10),
     dict(type='PolyLR', by_epoch=False, begin=10, eta_min=.02)],
    [dict(type='MultiStepLR', milestones=[3, 7])],
]


def by_mmengine(schedulers, lr):
    """The learning rate of each iteration, by the real schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    built, rates = [], []
    for cfg in schedulers:
        cfg, by_epoch = dict(cfg), cfg.get('by_epoch', True)
        cfg.setdefault('end', LENGTH // EPOCH if by_epoch else LENGTH)
        cls = PARAM_SCHEDULERS.get(cfg.pop('type'))
        if cfg.pop('convert_to_iter_based', False):
            built.append((1, cls.build_iter_from_epoch(optimizer, epoch_length=EPOCH, **cfg)))
        else:
            built.append((EPOCH if by_epoch else 1, cls(optimizer, **cfg)))
    for i in range(LENGTH):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for unit, scheduler in built:
            if (i + 1) % unit == 0:
                scheduler.step()
    return rates


@pytest.mark.parametrize('schedulers', SCHEDULES)
def test_closed_form_of_mmengines_schedulers(schedulers):
    at = of_schedulers(schedulers, .5, LENGTH, EPOCH, LENGTH // EPOCH)
    torch.testing.assert_close([at(i) for i in range(LENGTH)], by_mmengine(schedulers, .5), atol=1e-12, rtol=1e-9)


def test_schedulers_that_are_not_understood():
    with pytest.raises(ValueError, match='overlap'):
        of_schedulers([dict(type='LinearLR', by_epoch=False, end=10),
                       dict(type='CosineAnnealingLR', eta_min=.1, by_epoch=False)], 1., LENGTH, None)
    with pytest.raises(ValueError, match='unknown length'):
        of_schedulers([dict(type='LinearLR', end=10)], 1., LENGTH, None)


def test_published_rates_by_hand():
    curve = cosine(2.4e-3, 40, 1600, least=1e-6)
    assert (curve.at(0), curve.at(20), curve.at(40)) == (0, 1.2e-3, 2.4e-3)
    assert curve.at(820) == pytest.approx((2.4e-3 + 1e-6) / 2) and curve.at(1600) == pytest.approx(1e-6)
    assert curve.at(430) == pytest.approx(1e-6 + (2.4e-3 - 1e-6) * (1 + math.sqrt(.5)) / 2)
    curve = steps(1e-4, 250, .001, (163_889, 177_546), 184_375)
    assert [curve.at(i) for i in (0, 250, 163_888, 163_889, 177_546)] == pytest.approx([1e-7, 1e-4, 1e-4, 1e-5, 1e-6])
    curve = polynomial(1e-4, 1500, 1e-6, 160_000)
    assert curve.at(80_000) == pytest.approx(5e-5)
    assert curve.at(750) == pytest.approx(1e-4 * (1 - 750 / 160_000) * .5, rel=1e-5)


def decayed_in_pretraining(name):
    return name.endswith('weight') and 'norm' not in name or name.endswith(('cls_token', 'mask_token'))


def decayed_in_fine_tuning(name):
    return name.endswith('weight') and 'norm' not in name


def decayed_in_detection(name):
    return not re.match(r'backbone\.(blocks\.\d+\.norm|pos_embed)', name)


def decayed_in_segmentation(name):
    norm = 'norm' in name or re.search(r'\.bn\.|upsample_4x\.1\.', name)
    return name.endswith(('cls_token', 'pos_embed', 'table')) or name.endswith('weight') and not norm


GROUPS = [
    ('pretrain/mae_vit-base-p16_in1k.py', 12, 1., decayed_in_pretraining),
    ('pretrain/mae_vit-large-p16_in1k.py', 24, 1., decayed_in_pretraining),
    ('pretrain/mae_vit-huge-p14_in1k.py', 32, 1., decayed_in_pretraining),
    ('classification/vit-base_in1k.py', 12, .65, decayed_in_fine_tuning),
    ('classification/vit-large_in1k.py', 24, .75, decayed_in_fine_tuning),
    ('classification/vit-huge_in1k.py', 32, .75, decayed_in_fine_tuning),
    ('classification/vit-base_in1k-raw.py', 12, .75, decayed_in_fine_tuning),
    ('detection/vitdet_mask-rcnn_vit-base_coco.py', 12, .7, decayed_in_detection),
    ('detection/vitdet_mask-rcnn_vit-large_coco.py', 24, .8, decayed_in_detection),
    ('detection/vitdet_mask-rcnn_vit-huge_coco.py', 32, .9, lambda name: True),
    ('detection/vitdet_cascade_vit-huge_lvis.py', 32, .9, lambda name: True),
    ('segmentation/upernet_vit-base_ade20k-512x512.py', 12, .65, decayed_in_segmentation),
]


@pytest.mark.parametrize(('path', 'depth', 'rate', 'decayed'), GROUPS, ids=[group[0] for group in GROUPS])
def test_rate_and_decay_of_every_parameter(path, depth, rate, decayed):
    cfg = load_config(CONFIGS / path)
    need(cfg)
    model = build_model(cfg)
    optimizer = cfg.optim_wrapper.optimizer
    wrapper = {key: value for key, value in cfg.optim_wrapper.items() if key not in ('type', 'dtype')}
    groups = build_optim_wrapper(model, wrapper).optimizer.param_groups
    settings = {id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']}
    checked = 0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        block = re.match(r'backbone\.blocks\.(\d+)\.', name)
        first = re.match(r'backbone\.(patch_embed|pos_embed|cls_token)', name)
        above = depth - int(block[1]) if block else depth + 1 if first else 0
        assert layer_of(name, depth) == depth + 1 - above
        expected = optimizer.lr * rate ** above, optimizer.weight_decay * bool(decayed(name))
        assert settings[id(parameter)] == pytest.approx(expected), name
        checked += 1
    assert checked == len(settings) > 12 * depth


def test_effects_belong_to_facts():
    facts = {fact for recipe in RECIPES.values() for fact in recipe.facts} | {
        'not understood', 'lr', 'lr, start', 'lr, last iteration, first layer', 'batch', 'iterations',
        'images of a process'}
    lost = [(fact, recipe) for fact, recipe, _ in EFFECTS
            if not any(name.startswith(fact) for name in facts) or not any(name.startswith(recipe) for name in RECIPES)]
    assert not lost
    assert effect_of('encoder.window', 'vitdet/mask-rcnn/base/coco').startswith('B: without propagation 48.9')
    assert effect_of('encoder.window', 'upernet/base') == 'not measured'
    assert not [fact for recipe in RECIPES.values() for fact, (value, source) in recipe.facts.items()
                if value is not ANY and not source]


# -- Tool --------------------------------------------------------------------------------------------------------------


def test_tool(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '160')
    main = load_tool('recipe_diff').main
    assert main([str(CONFIGS / PRETRAIN)]) == 0
    assert 'is pretrain/normalised/base: no difference' in capsys.readouterr().out
    assert main([str(CONFIGS / PRETRAIN), '--recipe', 'pretrain/raw/base', '--json']) == 2  # target and length
    found = {difference['fact']: difference for difference in json.loads(capsys.readouterr().out)}
    assert found['target']['published'] == 'raw pixels' and '84.9 / 73.5' in found['target']['effect']
    assert main([str(CONFIGS / PRETRAIN), '--cfg-options', 'model.masking.mask_ratio=0.5']) == 1
    shown = capsys.readouterr().out
    assert re.search(r'mask ratio +0\.75 +0\.5 +fine-tuning is good', shown)
    main(['--list'])
    assert capsys.readouterr().out.splitlines() == sorted(RECIPES)


def test_tool_names_what_is_wrong():
    main = load_tool('recipe_diff').main
    with pytest.raises(KeyError, match='no published recipe'):
        main([str(CONFIGS / PRETRAIN), '--recipe', 'pretrain/base'])
    with pytest.raises(ValueError, match='does not name a published recipe'):
        main([str(CONFIGS / 'pretrain/mae_vit-tiny-p16_digits.py')])
    with pytest.raises(ValueError, match=r'in1k.py has no train_cfg: a config for training'):
        differences(PRETRAIN, 'train_cfg=None')
    with pytest.raises(ValueError, match='give a config, or --list'):
        main([])


@pytest.mark.parametrize(('arguments', 'code'), [
    ([], 0), (['--cfg-options', 'model.masking.mask_ratio=0.5'], 1), (['--recipe', 'none'], 2)])
def test_exit_codes(arguments, code):
    assert load_tool('recipe_diff').exit_code([str(CONFIGS / PRETRAIN), *arguments]) == code
