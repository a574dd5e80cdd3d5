"""What data pipelines, batch augmentations and data preprocessors do, in words that hold for every library."""

from collections.abc import Callable, Sequence

from .parts import Part, bare, read

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_OUR_CROPS = 'bicubic (PIL)'


def pipeline_facts(pipeline: Sequence[dict], path: str, prefix: str, img_size=None) -> dict[str, object]:
    """Facts of a pipeline, and the order of the steps that change the image.

    Args:
        pipeline: The transforms.
        path: Where they stand in the config.
        prefix: ``train`` or ``test``, the first word of the facts.
        img_size: Size of the model's images, which is that of a crop that names none.

    Returns:
        Facts by name; a transform that no reader knows is a fact "not understood".
    """
    facts, order = {}, []
    for i, step in enumerate(pipeline):
        if bare(step['type']) in _SILENT:
            continue
        if 'size' in step and step['size'] is None:
            step = {**step, 'size': img_size}
        for name, value in read(step, f'{path}.{i}', _STEPS).items():
            unknown = name.startswith('not understood')
            if prefix == 'test' and name == 'masks as':
                continue  # detections are compared with the annotation file
            facts[name if unknown else f'{prefix} {name}'] = value
        order += _ORDER.get(bare(step['type']), ())
    if prefix == 'train':
        facts['train order of transforms'] = tuple(order)
    return facts


def _how(part: Part, interpolation: str = 'bilinear', backend: str = 'cv2') -> str:
    backend = {'cv2': 'OpenCV', 'pillow': 'PIL'}.get(part('backend', backend), 'another library')
    return f'{part("interpolation", interpolation)} ({backend})'


def _square(size) -> int | tuple[int, ...]:
    size = (size, size) if isinstance(size, int) else tuple(size)
    return size[0] if len({*size}) == 1 else size


def _crop(size, area, aspect, interpolation: str, sampling: str = 'ten tries, then the centre') -> dict[str, object]:
    return {'crop size': _square(size), 'crop area': tuple(area), 'crop aspect': tuple(round(a, 4) for a in aspect),
            'crop interpolation': interpolation, 'crop sampling': sampling}


def _keyed_crop(part: Part) -> dict[str, object]:
    return _crop(part('size'), part('scale', (0.2, 1.)), part('ratio', (3 / 4, 4 / 3)), _OUR_CROPS)


def _loop_free_crop(part: Part) -> dict[str, object]:
    return _crop(part('size'), part('scale', (0.08, 1.)), part('ratio', (3 / 4, 4 / 3)), _OUR_CROPS,
                 'one try, sides clipped')


def _mmpretrain_crop(part: Part) -> dict[str, object]:
    tries = part('max_attempts', 10)
    return _crop(part('scale'), part('crop_ratio_range', (0.08, 1.)), part('aspect_ratio_range', (3 / 4, 4 / 3)),
                 _how(part), 'ten tries, then the centre' if tries == 10 else f'{tries} tries, then the centre')


def _flip(part: Part) -> dict[str, object]:
    prob, direction = part('prob', 0.5), part('direction', 'horizontal')
    return {'flip': prob if direction == 'horizontal' else (prob, direction)}


def _timm(part: Part) -> dict[str, object]:
    """The ``create_transform`` of timm, with the defaults of timm 1.0."""
    size, interpolation = part('input_size', 224), f'{part("interpolation", "bilinear")} (PIL)'
    if not part('is_training', False):
        share = part('crop_pct') or 0.875
        return {'resize': ('short side', int(_square(size) / share)), 'interpolation': interpolation,
                'crop': _square(size)}
    jitter = part('color_jitter', 0.4)
    return {**_crop(size, part('scale') or (0.08, 1.), part('ratio') or (3 / 4, 4 / 3), interpolation),
            'flip': part('hflip', 0.5), 'augmentation': part('auto_augment'), 'colour jitter': jitter or None}


def _rand_augment(part: Part) -> dict[str, object]:
    hparams, policies = dict(part('hparams', {})), part('policies')
    level, std, total = part('magnitude_level'), part('magnitude_std', 0.), part('total_level', 10)
    pad = hparams.pop('pad_val', 128)
    known = policies == 'timm_increasing' and total == 10 and part('num_policies') == 2
    known = known and hparams == dict(interpolation='bicubic') and list(pad) == [104, 116, 124]
    return {'augmentation': f'rand-m{level}-mstd{std}-inc1' if known else f'{policies}, {level} of {total}, {pad}'}


def _mmpretrain_erasing(part: Part) -> dict[str, object]:
    fill = part('fill_color', (128, 128, 128)), part('fill_std')
    facts = erasing(part('erase_prob', 0.5), part('min_area_ratio', 0.02), part('max_area_ratio', 0.4),
                    'pixel' if part('mode', 'const') == 'rand' and fill[1] else 'const')
    return {**facts, 'erasing happens': 'before normalisation, in whole pixel values', **(
        {} if part('aspect_range', (0.3, 10 / 3)) == (0.3, 10 / 3) else {'erasing aspect': 'another'})}


def erasing(probability: float, least: float, most: float, mode: str) -> dict[str, object]:
    """Facts of random erasing, as timm's and mmpretrain's settings are read."""
    return {'erasing': f'{mode}, probability {probability:g}, area {least:g} to {most:.3g}'}


def _center_resize(part: Part) -> dict[str, object]:
    size, share = part('size'), part('crop_share', 0.875)
    return {'resize': ('short side', int(_square(size) / share)), 'interpolation': _OUR_CROPS, 'crop': _square(size)}


def _resize_edge(part: Part) -> dict[str, object]:
    scale, edge = part('scale'), part('edge', 'short')
    return {'resize': (f'{edge} side', scale), 'interpolation': _how(part)}


def _random_resize(part: Part) -> dict[str, object]:
    scale, ratio = tuple(part('scale')), part('ratio_range')
    part.ignore('resize_type')
    return {'resize to fit': scale, 'resize range': tuple(ratio) if ratio else None,
            'keeps the aspect': part('keep_ratio', False), 'interpolation': _how(part)}


def _resize(part: Part) -> dict[str, object]:
    return {'resize to fit': tuple(part('scale')), 'keeps the aspect': part('keep_ratio', False),
            'interpolation': _how(part)}


def _random_crop(part: Part) -> dict[str, object]:
    """Those of mmdet and of mmseg, which share a name; for smaller crops mmdet's kinds are the same."""
    facts = {'crop size': _square(part('crop_size'))}
    kind, ratio = part('crop_type'), part('cat_max_ratio')
    part.ignore('ignore_index', 'bbox_clip_border')
    if kind not in (None, 'absolute', 'absolute_range'):
        facts['crop kind'] = kind
    if kind is None:
        return {**facts, 'crop with at most of one class': ratio if ratio is not None else 1.}
    return {**facts, 'crop moves': 'in x and y independently', 'boxes': 'of the cropped masks' if part(
        'recompute_bbox', False) else 'cropped', 'crops without an object': 'stay' if part(
            'allow_negative_crop', False) else 'are drawn again'}


def _fixed_size_crop(part: Part) -> dict[str, object]:
    return {'crop size': _square(part('crop_size')), 'crop moves': 'in x and y by one draw', 'boxes':
            'of the cropped masks' if part('recompute_bbox', False) else 'cropped', 'crops without an object': 'stay'}


def _filter(part: Part) -> dict[str, object]:
    part.ignore('min_gt_bbox_wh', 'by_box', 'by_mask', 'min_gt_mask_area')  # boxes of no area
    return {'images left without an object': 'are drawn again' if part('keep_empty', True) else 'stay'}


def _pad(part: Part) -> dict[str, object]:
    value = part('pad_val', 0)
    value = value.get('img', 0) if isinstance(value, dict) else value
    value = value if isinstance(value, int) else _square(value)
    return {'padded to': _square(part('size')), 'padding': f'{value} before normalisation'}


def _photometric(part: Part) -> dict[str, object]:
    part.ignore(*(key for key, default in dict(
        brightness_delta=32, contrast_range=(.5, 1.5), saturation_range=(.5, 1.5), hue_delta=18).items()
        if key in part and part(key) == default))
    return {'photometric distortion': True}


def _load_annotations(part: Part) -> dict[str, object]:
    part.ignore('with_bbox', 'with_label', 'with_seg', 'reduce_zero_label', 'imdecode_backend', 'box_type')
    polygons = not part('poly2mask', True)
    return {'masks as': 'polygons' if polygons else 'bitmaps'} if part('with_mask', False) else {}


def _tta(part: Part) -> dict[str, object]:
    resizes, flips = part('transforms')[:2]
    return {'scales': f'{len(resizes)}, {"mirrored too" if len(flips) > 1 else "not mirrored"}'}


_SILENT = ('LoadImageFromFile', 'LoadImage', 'PackInputs', 'PackDetInputs', 'PackSegInputs', 'PackUnlabelled',
           'CheckLabelMap')
_STEPS: dict[str, Callable[[Part], dict]] = {
    'KeyedRandomResizedCrop': _keyed_crop, 'RandomResizedCrop': _mmpretrain_crop,
    'LoopFreeRandomResizedCrop': _loop_free_crop, 'TimmTransform': _timm, 'RandAugment': _rand_augment,
    'RandomErasing': _mmpretrain_erasing, 'KeyedRandomFlip': _flip, 'RandomFlip': _flip,
    'ResizeCenterCrop': _center_resize, 'ResizeEdge': _resize_edge,
    'CenterCrop': lambda part: {'crop': _square(part('crop_size'))},
    'RandomResize': _random_resize, 'Resize': _resize, 'RandomCrop': _random_crop, 'FixedSizeCrop': _fixed_size_crop,
    'FilterAnnotations': _filter, 'Pad': _pad, 'PhotoMetricDistortion': _photometric,
    'LoadAnnotations': _load_annotations, 'TestTimeAug': _tta}
_ORDER = {
    **dict.fromkeys(('KeyedRandomResizedCrop', 'RandomResizedCrop', 'LoopFreeRandomResizedCrop', 'RandomCrop',
                     'FixedSizeCrop'), ('crop', )),
    **dict.fromkeys(('KeyedRandomFlip', 'RandomFlip'), ('flip', )), 'TimmTransform': ('crop', 'flip', 'augmentation'),
    'RandAugment': ('augmentation', ), 'RandomResize': ('resize', ), 'PhotoMetricDistortion': ('distortion', )}


def normalisation(part: Part, rgb: bool) -> dict[str, object]:
    """Mean and standard deviation, and whether the model sees red first."""
    mean, std = tuple(part('mean', ())), tuple(part('std', ()))
    imagenet = (mean, std) == (IMAGENET_MEAN, IMAGENET_STD) and rgb
    return {'normalisation': "ImageNet's mean and deviation, red first" if imagenet else (mean, std, rgb)}


def _cls_preprocessor(part: Part) -> dict[str, object]:
    part.ignore('num_classes')
    facts = normalisation(part, part('to_rgb', False))
    erase, mixup = part('erasing'), part('mixup')
    if erase:
        erase = Part(erase, f'{part.path}.erasing')
        found = erasing(erase('probability', 0.5), erase('min_area', 0.02), erase('max_area', 1 / 3),
                        erase('mode', 'const'))
        facts.update({f'train {name}': value for name, value in found.items()})
        facts['train erasing happens'] = 'after normalisation'
        if erase('max_count', 1) != 1 or erase('min_count', 1) != 1 or erase('min_aspect', 0.3) != 0.3:
            facts['train erasing aspect'] = 'another'
        facts.update(erase.unread())
    if mixup:
        mixup = Part(mixup, f'{part.path}.mixup')
        facts.update(mixing(mixup('mixup_alpha', 1.), mixup('cutmix_alpha', 0.), mixup('prob', 1.),
                            mixup('switch_prob', 0.5), mixup('mode', 'batch')))
        facts['label smoothing'] = mixup('label_smoothing', 0.1)
        facts.update(mixup.unread())
    return facts


def mixing(mixup: float, cutmix: float, prob: float = 1., switch: float = .5, mode: str = 'batch') -> dict[str, object]:
    """Facts of mixup and CutMix."""
    return {'train mixup': mixup, 'train CutMix': cutmix, 'train mixing': (
        f'a {mode} with probability {prob:g}, CutMix in {switch:g} of them')}


def _det_preprocessor(part: Part) -> dict[str, object]:
    facts = normalisation(part, part('bgr_to_rgb', False))
    part.ignore('pad_mask', 'mask_pad_value')
    divisor = part('pad_size_divisor', 1)
    padded = {'padded to': divisor if divisor >= 1024 else f'multiples of {divisor}',
              'padding': f'{part("pad_value", 0)} after normalisation'}
    facts.update({f'{prefix} {name}': value for prefix in ('train', 'test') for name, value in padded.items()})
    for i, cfg in enumerate(part('batch_augments') or ()):
        facts.update({f'train {name}': value for name, value in read(
            cfg, f'{part.path}.batch_augments.{i}', {'BatchFixedSizePad': _batch_pad}).items()})
    return facts


def _batch_pad(part: Part) -> dict[str, object]:
    part.ignore('pad_mask', 'mask_pad_value')
    value = part('img_pad_value', 0)
    return {'padded to': _square(part('size')), 'padding': f'{value} after normalisation'}


def _seg_preprocessor(part: Part) -> dict[str, object]:
    facts = normalisation(part, part('bgr_to_rgb', False))
    part.ignore('test_cfg')  # a test image is padded to what the windows need
    return {**facts, 'train padded to': _square(part('size', 0)), 'train padding': f'{part("pad_val", 0)} after '
            'normalisation', 'train padding of the map': part('seg_pad_val', 255)}


def _selfsup_preprocessor(part: Part) -> dict[str, object]:
    part.ignore('non_blocking')
    return normalisation(part, part('to_rgb', False))


def _mae_preprocessor(part: Part) -> dict[str, object]:
    part.ignore('non_blocking')
    return normalisation(part, True)  # the images are read red first


PREPROCESSORS = {
    'MAEDataPreprocessor': _mae_preprocessor, 'SelfSupDataPreprocessor': _selfsup_preprocessor,
    'ClsDataPreprocessor': _cls_preprocessor, 'MixupDataPreprocessor': _cls_preprocessor,
    'DetDataPreprocessor': _det_preprocessor, 'SegDataPreProcessor': _seg_preprocessor}
