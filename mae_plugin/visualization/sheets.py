"""The pictures of a report: what each finished stage makes of images that it was not trained on."""

from collections.abc import Sequence

import numpy as np

from mae_plugin.visualization.pictures import Sheet, Tile, draw_objects, draw_segments, legend, photo
from mae_plugin.visualization.predictions import Predictor, annotated, detected, read_images
from mae_plugin.visualization.reconstruction import NORMALISED, is_normalised, reconstruct, tiles
from mae_plugin.visualization.results import StageRun, find

_CHOICE = 'The images are spread evenly over the validation set; nobody picked them.'


def make_sheets(runs: Sequence[StageRun]) -> dict[str, Sheet]:
    """Task (or ``'pretraining'``) to sheet, for what has finished."""
    sheets = {}
    pretraining = find(runs, 'pretraining')
    if pretraining and pretraining.finished:
        sheets['pretraining'] = reconstruction_sheet(Predictor(pretraining, 8))
    for task, (make, count) in _MAKERS.items():
        pair = {name: find(runs, task, name == 'with MAE') for name in ('with MAE', 'from scratch')}
        predictors = {name: Predictor(run, count) for name, run in pair.items() if run and run.finished}
        if predictors:
            classes = next(iter(predictors.values())).classes
            sheets[task] = make(classes, {name: predictor.predict() for name, predictor in predictors.items()})
    return sheets


def reconstruction_sheet(predictor: Predictor) -> Sheet:
    """Image, masked image, and the image with the hidden patches predicted."""
    rows = tiles(reconstruct(predictor.model, predictor.samples))
    groups = [[*row[:2], *row[3:]] for row in rows]
    hidden = getattr(predictor.model.masking, 'mask_ratio', 0)  # NoMasking has none
    caption = (
        f'Left, a held-out image; middle, what the encoder is given: {1 - hidden:.0%} of the patches; right, the same '
        'with the hidden patches as the decoder predicts them. Look at strokes that go on behind grey patches, and at '
        'digits of which nothing is left to see: those no model can know. Below, the PSNR of the hidden pixels. ')
    if is_normalised(predictor.model):
        caption += f'{NORMALISED} '
    columns = ('image', 'masked', 'predicted')[:len(groups[0])]
    return Sheet('reconstructions', 'Reconstructions', caption + _CHOICE, columns, groups)


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
               'of the highest scores (of 100, beside the class). Look for digits that only one model finds, boxes '
               f'around nothing, wrong classes{", and how closely the masks follow the strokes" if masks else ""}. '
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
    caption = ('The class of every pixel in colour; grey is background. Look for digits in one colour from end to end, '
               f'as in the truth, against shapes of several colours: found, but not read. {_CHOICE}')
    return Sheet('segmentations', 'Segmentation', caption, ('image', 'truth', *predictions), groups, legend(classes))


_MAKERS = {'classification': (classification_sheet, 10), 'detection': (detection_sheet, 6),
           'segmentation': (segmentation_sheet, 6)}
