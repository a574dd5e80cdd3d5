"""What is known of the effect of deviating from a recipe."""

_PROBE = 'with the other deviations of mmpretrain: 67.1 for 67.8 (B), 75.5 for 76.0 (L)'

# Beginning of the fact's name, beginning of the recipe's name, effect; of those that fit, the first holds.
EFFECTS: tuple[tuple[str, str, str], ...] = (
    ('not understood', '', 'unknown: compare by hand'),
    ('target', '', 'ViT-L, 800 epochs: raw 84.9 / 73.5, normalised 85.4 / 73.9 (fine-tuning / linear; [MAE] Table 1d)'),
    ('mask ratio', '', 'fine-tuning is good from 40 to 80 %, linear probing best at 75 % ([MAE] Fig. 5)'),
    ('masking', '', 'ViT-L at 75 %: random 84.9, block 82.8, grid 84.0 ([MAE] Table 1f)'),
    ('decoder.depth', '', 'ViT-L, 1 to 12 blocks: 84.4 to 84.9 fine-tuning, 65.5 to 73.5 linear ([MAE] Table 1a)'),
    ('decoder.width', '', 'ViT-L, 128 to 1024: 84.3 to 84.9 fine-tuning, 69.1 to 73.5 linear ([MAE] Table 1b)'),
    ('encoder.positions', '', 'trains as well on squares; the table must travel with the weights, never be recomputed'),
    ('encoder.grid of positions', '', 'positions are trained on another grid and resampled from it; not measured'),
    ('encoder.mlp bias init', '', 'negligible; tests of the initialisation differ'),
    ('encoder.norm eps', 'vitdet', 'not measured; pretraining had 1e-6'),
    ('encoder.window', 'vitdet', 'B: without propagation 48.9, with four global blocks 51.2 box AP ([ViTDet] Table 8)'),
    ('encoder.global blocks', 'vitdet', 'B: none 48.9, two 50.7, four 51.2, last four 50.9 box AP ([ViTDet] Table 8)'),
    ('encoder.convolution blocks', 'vitdet', 'B: four 51.0, four global blocks 51.2 box AP ([ViTDet] Table 8)'),
    ('encoder.relative position', 'vitdet', 'about 1 AP ([ViTDet] section 4.2)'),
    ('encoder.layer scale', 'upernet', "BEiT's 1e-6 would erase the pretrained features"),
    ('encoder.start', '', 'from scratch B 82.3, L 82.6, H 83.1; from MAE 83.6, 85.9, 86.9 ([MAE] Table 3)'),
    ('weight decay of the', 'pretrain', 'not measured; one token'),
    ('layer decay', 'vitdet', 'up to 0.3 AP ([ViTDet] A.2)'),
    ('layer decay', 'finetune', 'not measured alone; tuned with the rate for each size (FINETUNE.md)'),
    ('lr follows the batch', '', 'one GPU of 512 images has 8 times the rate, unless --auto-scale-lr '
     '(compare open-mmlab/mmpretrain#1632)'),
    ('lr, start', '', 'negligible'),
    ('lr, last iteration, first layer', '', 'not measured; a least rate of all layers is much for the first'),
    ('lr', '', 'not measured alone; a rate that is too high ends in NaN'),
    ('iterations', 'pretrain', 'one more an epoch is negligible; ViT-L: 84.9 after 800, 85.1 after 1600 epochs of raw '
     'pixels ([MAE] Table 7)'),
    ('iterations', '', 'one more an epoch is negligible'),
    ('short batches', '', 'one smaller step an epoch, at the full rate; negligible'),
    ('images beyond the last whole batch', '', 'one more iteration an epoch; negligible'),
    ('images of a process', '', 'another batch, and rate, than the name tells'),
    ('batch', '', 'iterations and rate belong to it'),
    ('precision', '', 'float32 is safer and slower; the published number was trained in half precision'),
    ('gradients are sent in', 'vitdet', "51.4 to 51.6 box AP with float16, says mmdet's docstring"),
    ('gradient clipping', '', 'not measured; people add it against NaN (facebookresearch/mae#42)'),
    ('moving average', 'scratch', 'B 82.1 to 82.3, L 81.5 to 82.6, H 80.9 to 83.1 ([MAE] A.2)'),
    ('seeds of the processes', 'pretrain', 'masks alike on all processes, unless each is a function of its image'),
    ('seeds of the processes', '', 'drop path, mixup and erasing alike on all processes'),
    ('resumes by itself', '', 'a work directory that is used again goes on with the run in it, unasked'),
    ('train crop area', 'pretrain', 'ViT-L: random size 84.9 / 73.5, fixed size 84.7 / 73.1 ([MAE] Table 1e)'),
    ('train colour jitter', 'pretrain', 'ViT-L: 84.3 / 71.9 with it, 84.9 / 73.5 without ([MAE] Table 1e)'),
    ('train crop interpolation', 'linear', _PROBE),
    ('test interpolation', 'linear', _PROBE),
    ('train crop sampling', 'linear', _PROBE),
    ('parameters of one dimension', 'linear', _PROBE),
    ('learning rate enters', 'linear', f'warm-up and decay act late, by the momentum; {_PROBE}'),
    ('train erasing happens', 'finetune', 'noise is clipped to pixel values; mmpretrain reaches the published numbers'),
    ('test resize', 'finetune/normalised/huge-448', '87.3 for 87.8, with a recipe that is guessed'),
    ('train padding', 'vitdet', 'images of less than 1024 pixels have a grey border; not measured'),
    ('test padding', 'vitdet', 'images have a grey border; not measured'),
    ('train images left without', 'vitdet', 'fewer empty images; not measured'),
    ('train crops without', 'vitdet', 'fewer empty images; not measured'),
    ('least side of an image', 'vitdet', 'drops tiny images; not measured'),
    ('pyramid.initial', 'vitdet', 'another start; not measured'),
    ('test scales', 'upernet', '48.13 with one, 48.70 with six and mirrored (mmseg)'))


def effect_of(fact: str, recipe: str) -> str:
    """What is known of a deviation from ``recipe`` in ``fact``."""
    return next((text for beginning, family, text in EFFECTS
                 if fact.startswith(beginning) and recipe.startswith(family)), 'not measured')


# What the code of a part does, whatever its settings: part -> (fact, published, here, effect, source).
BEHAVIOUR: dict[str, tuple[tuple[str, str, str, str, str], ...]] = {
    'MAEViT': (
        ('forward(mask=False)', 'masks nothing', 'masks all the same', 'features of masked images, unnoticed',
         'mmpretrain/models/selfsup/mae.py:182'),
        ('image shapes', 'any, in this plugin', 'squares only', 'crops that are no squares fail',
         'mmpretrain/models/selfsup/mae.py:98'),
        ('input channels', 'one setting, in this plugin', 'no in_channels: only patch_cfg reaches it',
         'patch size and channels are repeated in encoder, decoder and head',
         'mmpretrain/models/selfsup/mae.py:58-87')),
    'MAEPretrainHead': (
        ('pictures of reconstructions', "the authors' notebook", 'unpatchify is never called', 'nothing to look at',
         'open-mmlab/mmpretrain#1526, #1823, #1915'), ),
    'ViT': (
        ('checkpoints that load', 'any of MAE, with a report', 'only with the key "model", strict=False',
         "mmpretrain's weights are an error, wrong names pass in silence (open-mmlab/mmdetection#11833)",
         'projects/ViTDet/vitdet/vit.py:432-435'),
        ('attention', 'fused, in this plugin', 'explicit softmax', 'the same numbers, slower, with more memory',
         'projects/ViTDet/vitdet/vit.py:209-217')),
    'LayerDecayOptimizerConstructor': (
        ('depth for the layer decay', 'asked of the model, in this plugin', 'num_layers, repeated in paramwise_cfg',
         'a forgotten change decays wrongly', 'projects/ViTDet; mmseg/engine/optimizers'), ),
    'MAE(mmseg)': (
        ('names without weight decay', 'pos_embed and cls_token were meant', 'compared without "backbone.": both decay',
         'as in the run that reached 48.15 mIoU',
         'mmseg/engine/optimizers/layer_decay_optimizer_constructor.py:134-135'),
        ('test image sizes', 'any, in this plugin', 'the training crop only', 'whole inference and other crops fail',
         'mmseg/models/backbones/mae.py:247'),
        ('checkpoints that load', 'any of MAE, with a report', 'only those of beit2mmseg.py; others load nothing',
         'training from scratch, unnoticed (open-mmlab/mmsegmentation#1288)', 'mmseg/models/backbones/mae.py:183-189'),
        ('attention', 'fused, in this plugin', 'explicit, with a bias of (N + 1)^2 in each layer',
         'the same numbers, slower, with more memory', 'mmseg/models/backbones/beit.py:130-145'),
        ('attn_cfg', 'a dict of each layer', 'one mutable default, updated in place', 'none with one model',
         'mmseg/models/backbones/beit.py:188-191')),
    'Feature2Pyramid': (
        ('order of rescales', 'as given', 'read as 4, 2, 1, 0.5 whatever it says', 'none with this order',
         'mmseg/models/necks/featurepyramid.py:52-67'), )}
