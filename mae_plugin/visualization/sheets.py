"""The pictures of a report: what each finished stage makes of images that it was not trained on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from mmengine.dataset import pseudo_collate

from mae_plugin.visualization.attention_maps import can_be_shown, class_attention, draw_attention
from mae_plugin.visualization.pictures import Sheet, Tile, draw_objects, draw_segments, legend, photo
from mae_plugin.visualization.predictions import (
    Predictor,
    annotated,
    box_score,
    class_score,
    detected,
    map_score,
    read_images,
)
from mae_plugin.visualization.reconstruction import NORMALISED, is_normalised, reconstruct, tiles
from mae_plugin.visualization.results import StageRun, find

_CHOICE = 'The images are spread evenly over the validation set; nobody picked them.'
_CANDIDATES = 96  # images of the validation set among which the best and the worst are looked for
_EXTREMES = 3  # of each


def make_sheets(runs: Sequence[StageRun]) -> dict[str, Sheet]:
    """Task (or ``'pretraining'``) to sheet, for what has finished."""
    sheets = {}
    pretraining = find(runs, 'pretraining')
    if pretraining and pretraining.finished:
        predictor = Predictor(pretraining, 8)
        sheets['pretraining'] = reconstruction_sheet(predictor)
        if can_be_shown(predictor.model.backbone):
            sheets['attention'] = attention_sheet(predictor)
    for task, (make, count, score) in _MAKERS.items():
        pair = {name: find(runs, task, name == 'with MAE') for name in ('with MAE', 'from scratch')}
        predictors = {name: Predictor(run, _CANDIDATES) for name, run in pair.items() if run and run.finished}
        if predictors:
            classes = next(iter(predictors.values())).classes
            predictions = {name: predictor.predict() for name, predictor in predictors.items()}
            number = len(next(iter(predictions.values())))
            evenly = [i * number // count for i in range(min(count, number))]
            sheets[task] = make(classes, _some(predictions, evenly))
            sheets[f'{task}: extremes'] = extremes_sheet(make, classes, predictions, score)
    return sheets


def extremes_sheet(make: Callable, classes: Sequence[str], predictions: dict[str, list],
                   score: Callable[[Any], float]) -> Sheet:
    """The images that the first of the models does best, and those that it does worst."""
    name, samples = next(iter(predictions.items()))
    order = sorted(range(len(samples)), key=lambda i: score(samples[i]))
    worst, best = order[:_EXTREMES], order[::-1][:_EXTREMES]
    sheet = make(classes, _some(predictions, [*best, *worst]))
    title = f'{sheet.title}: the best and the worst'
    caption = (f'Of {len(samples)} images spread evenly over the validation set, the {len(best)} that the model {name} '
               f'does best ({_listed(score, samples, best)}), then the {len(worst)} it does worst '
               f'({_listed(score, samples, worst)}). The number is {_SCORES[score]}.')
    return replace(sheet, name=f'{sheet.name}_extremes', title=title, caption=caption)


def _listed(score: Callable[[Any], float], samples: Sequence[Any], chosen: Sequence[int]) -> str:
    return ', '.join(f'{score(samples[i]):.2f}' for i in chosen)


def _some(predictions: dict[str, list], chosen: Sequence[int]) -> dict[str, list]:
    return {name: [samples[i] for i in chosen] for name, samples in predictions.items()}


def reconstruction_sheet(predictor: Predictor) -> Sheet:
    """Image, masked image, and the image with the hidden patches predicted."""
    rows = tiles(reconstruct(predictor.model, predictor.samples))
    groups = [[*row[:2], *row[3:]] for row in rows]
    hidden = getattr(predictor.model.masking, 'mask_ratio', 0)  # NoMasking has none
    caption = (
        f'Left, a held-out image; middle, what the encoder is given: {1 - hidden:.0%} of the patches; right, the same '
        'with the hidden patches as the decoder predicts them. Look at lines and textures that go on behind grey '
        'patches, and at small things of which nothing is left to see: those no model can know. Below, the PSNR of the '
        'hidden pixels. ')
    if is_normalised(predictor.model):
        caption += f'{NORMALISED} '
    columns = ('image', 'masked', 'predicted')[:len(groups[0])]
    return Sheet('reconstructions', 'Reconstructions', caption + _CHOICE, columns, groups)


def attention_sheet(predictor: Predictor) -> Sheet:
    """Image, and where the class token looks: all heads, and each."""
    model = predictor.model
    data = model.data_preprocessor(pseudo_collate(predictor.samples))
    weights = class_attention(model.backbone, data['inputs'])
    images = reconstruct(model, predictor.samples).columns[0]
    groups = [[Tile(photo(image)), *(Tile(draw_attention(image, each)) for each in (heads.mean(dim=0), *heads))]
              for image, heads in zip(images, weights, strict=True)]
    columns = ('image', 'all heads', *(f'head {i + 1}' for i in range(weights.size(1))))
    caption = ('What the class token of the pretrained encoder attends to in its last block, nothing hidden; from dark '
               '(least) to bright (most) within each picture. No label was used: bright places are what helped to '
               f'fill in the rest. {_CHOICE}')
    return Sheet('attention', 'Attention', caption, columns, groups)


def classification_sheet(classes: Sequence[str], predictions: dict[str, list]) -> Sheet:
    """Images with their class and what the models take them for."""
    samples = next(iter(predictions.values()))
    groups = []
    for i, image in enumerate(read_images(samples)):
        truth = int(samples[i].gt_label)
        lines = [f'truth: {classes[truth]}']
        for name, predicted in predictions.items():
            label = int(predicted[i].pred_label)
            lines.append(f'{name}: {classes[label]} {"✓" if label == truth else "✗"} '
                         f'{100 * float(predicted[i].pred_score[label]):.0f}%')
        groups.append([Tile(photo(image), '\n'.join(lines))])
    caption = ('Below each image its class, and what each model takes it for, with the probability it gives that '
               f'answer. {_CHOICE}')
    return Sheet('classifications', 'Classification', caption, ('', ), groups, across=5)


def detection_sheet(classes: Sequence[str], predictions: dict[str, list]) -> Sheet:
    """True and found boxes, and masks where there are any."""
    samples = next(iter(predictions.values()))
    groups = []
    for i, image in enumerate(read_images(samples)):
        truth = annotated(samples[i])
        objects = [truth, *(detected(found[i], len(truth.labels)) for found in predictions.values())]
        groups.append([Tile(draw_objects(image, each.boxes, each.labels, each.masks, each.scores, classes),
                            '' if len(each.labels) else 'nothing found') for each in objects])
    masks = annotated(samples[0]).masks is not None
    caption = (f'Boxes{", masks" if masks else ""} and classes; of the predictions as many as there are objects, those '
               'of the highest scores (of 100, beside the class). Look for objects that only one model finds, boxes '
               f'around nothing, wrong classes{", and how closely the masks follow the objects" if masks else ""}. '
               + _CHOICE)
    return Sheet('detections', 'Detection', caption, ('truth', *predictions), groups, legend(classes))


def segmentation_sheet(classes: Sequence[str], predictions: dict[str, list]) -> Sheet:
    """Images, true and predicted class of each pixel."""
    samples = next(iter(predictions.values()))
    groups = []
    for i, image in enumerate(read_images(samples)):
        maps = [samples[i].gt_sem_seg, *(predicted[i].pred_sem_seg for predicted in predictions.values())]
        maps = [np.asarray(each.data[0].cpu()) for each in maps]
        groups.append([Tile(photo(image)), *(Tile(draw_segments(image, each, classes)) for each in maps)])
    caption = ('The class of every pixel in colour; grey is background. Look for objects in one colour from end to '
               f'end, as in the truth, against those of several colours: found, but not recognised. {_CHOICE}')
    return Sheet('segmentations', 'Segmentation', caption, ('image', 'truth', *predictions), groups, legend(classes))


_SCORES = {
    class_score: 'the probability of the true class',
    box_score: 'the overlap (IoU) of the true boxes with those found of their class, 0 for what was not found',
    map_score: 'the IoU, averaged over the classes that are there or were found, without the background'}
_MAKERS = {'classification': (classification_sheet, 10, class_score), 'detection': (detection_sheet, 6, box_score),
           'segmentation': (segmentation_sheet, 6, map_score)}
