"""The demo's table, sentences, pictures and page, from records and models made here: no OpenMMLab library is needed."""

import json
import re
import runpy
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_mae_cfg
from mmengine.registry import DefaultScope
from PIL import Image
from tiny.tools import ROOT

from mae_plugin.registry import MODELS
from mae_plugin.utils.chain import Chain, read_stages
from mae_plugin.utils.cli import run_cli
from mae_plugin.utils.run_config import load_config
from mae_plugin.visualization.attention_maps import class_attention, draw_attention
from mae_plugin.visualization.curves import make_plots, read_scalars
from mae_plugin.visualization.pictures import TILE, Sheet, Tile, colour_of, draw_objects, draw_segments, legend, photo
from mae_plugin.visualization.predictions import Predictor, box_score, class_score, map_score
from mae_plugin.visualization.reconstruction import reconstruct
from mae_plugin.visualization.report import make_report, render
from mae_plugin.visualization.results import (
    Row,
    StageRun,
    compare,
    firsts,
    pretraining_summary,
    read_runs,
    results_table,
    verdict,
    verdicts,
)
from mae_plugin.visualization.sheets import classification_sheet, detection_sheet, extremes_sheet, reconstruction_sheet

pytest_plugins = ['tiny.tools']
METRICS = {
    'pretrain': {'mae/masked_loss': .4567, 'mae/psnr': 20.25},
    'classify': {'accuracy/top1': 90.}, 'classify_scratch': {'accuracy/top1': 70.},
    'detect': {'coco/bbox_mAP': .25, 'coco/bbox_mAP_50': .5, 'coco/segm_mAP': .2},
    'detect_scratch': {'coco/bbox_mAP': .125, 'coco/bbox_mAP_50': .25, 'coco/segm_mAP': .1},
    'segment': {'mIoU': 40., 'aAcc': 90.}, 'segment_scratch': {'mIoU': 45., 'aAcc': 91.},
}
CLASSIFIER = """
_base_ = [{runtime!r}]
default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=2, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mae_plugin.PlainViT', img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3,
                  out_type='avg_featmap'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=48))
val_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root={images!r},
                 pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
test_dataloader = val_dataloader
test_evaluator = val_evaluator = dict(type='Accuracy', topk=(1, ))
test_cfg = val_cfg = dict()
"""
TASK = """
default_scope = '{}'
model = dict(type='Model', backbone=dict(init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint='x.pth')))
train_dataloader = dict(batch_size=16)
train_cfg = dict(max_iters=500)
"""


@pytest.fixture
def images(tmp_path):
    """A folder of three pictures with something to see."""
    (tmp_path / 'images').mkdir()
    for i in range(3):
        rows, columns = np.mgrid[:64, :64]
        picture = np.stack([rows * 4, columns * 4, (rows + columns) * (i + 1) % 256], -1).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / 'images' / f'{i}.png')
    return tmp_path / 'images'


@pytest.fixture
def chain(tmp_path, images):
    """A finished chain whose pretraining has a real checkpoint, and whose tasks only have their records."""
    dataset = dict(type='mae_plugin.UnlabelledImages', data_root=str(images), pipeline=[
        dict(type='mae_plugin.ResizeCenterCrop', size=64, crop_share=1.), dict(type='mae_plugin.PackUnlabelled')])
    (tmp_path / 'mae.py').write_text(
        f'model = {tiny_mae_cfg()!r}\ntrain_dataloader = dict(batch_size=128)\ntrain_cfg = dict(max_iters=800)\n'
        f'val_dataloader = dict(dataset={dataset!r})\n')
    for name, scope in (('classify', 'mmpretrain'), ('detect', 'mmdet'), ('segment', 'mmseg')):
        (tmp_path / f'{name}.py').write_text(TASK.format(scope))
    stages = []
    for name in METRICS:
        config = tmp_path / f'{name.removesuffix("_scratch").replace("pretrain", "mae")}.py'
        start = {} if name == 'pretrain' else dict(cfg_options={'model.backbone.init_cfg': None}) \
            if name.endswith('scratch') else dict(init_from='pretrain')
        stages.append(dict(name=name, config=str(config), **start))
    work_dir = tmp_path / 'demo'
    record = {}
    for stage in stages:
        name = stage['name']
        (work_dir / name).mkdir(parents=True)
        (work_dir / name / 'iter_1.pth').touch()
        record[name] = dict(status='finished', config=stage['config'], seconds=90, checkpoint=f'{name}/iter_1.pth',
                            checkpoint_sha256='f00d' * 16, metrics=METRICS[name])
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(tiny_mae_cfg()).state_dict()), work_dir / 'pretrain' / 'iter_1.pth')
    (work_dir / 'chain.json').write_text(json.dumps(record))
    return Chain(read_stages(stages, (), 'test'), work_dir)


def only_pretraining(chain):
    """The same chain, stopped after its first stage."""
    chain.record = {'pretrain': chain.record['pretrain'], 'classify': dict(status='started', seconds=3.)}
    return chain


def test_table_pairs_the_starts_of_each_task_in_percent(chain):
    lines = [line.split() for line in results_table(compare(read_runs(chain))).splitlines()[1:]]
    assert lines == [
        'classification top-1 accuracy 90.0 70.0 +20.0 8,000'.split(),
        'detection box AP 25.0 12.5 +12.5 8,000'.split(),
        'detection box AP50 50.0 25.0 +25.0 8,000'.split(),
        'detection mask AP 20.0 10.0 +10.0 8,000'.split(),
        'segmentation mIoU 40.0 45.0 -5.0 8,000'.split(),
    ]


def test_a_detector_that_found_nothing_has_an_ap_of_zero(chain):
    """mmdet then reports no metric at all."""
    chain.record['detect_scratch']['metrics'] = {}
    del chain.record['detect']['metrics']['coco/segm_mAP']
    rows = [row for row in compare(read_runs(chain)) if row.task == 'detection']
    assert [(row.metric, row.mae, row.scratch) for row in rows] == [('box AP', 25, 0), ('box AP50', 50, 0)]
    assert 'Pretraining helped' in verdicts(rows)['detection']
    chain.record['detect']['metrics'] = {}
    assert 'Both are at 0' in verdicts(compare(read_runs(chain)))['detection']


def test_the_batch_is_that_of_all_processes(chain):
    chain.stages['detect'].gpus = 4
    del chain.record['detect']
    assert next(run for run in read_runs(chain) if run.name == 'detect').budget == (500, 64)
    chain.record['classify']['images_seen'] = 500 * 16 * 4
    run = read_runs(chain)[1]
    assert (run.name, run.budget, run.images) == ('classify', (500, 64), 32_000)
    assert '500 × 64' in render([run], {}, [])


def test_sentences_say_where_pretraining_did_not_help(chain):
    sentences = verdicts(compare(read_runs(chain)))
    assert sentences['classification'] == 'Pretraining helped: top-1 accuracy 90.0 with MAE, 70.0 from scratch.'
    assert sentences['segmentation'] == \
        'Pretraining did not help within this budget: mIoU 40.0 with MAE, 45.0 from scratch.'
    assert 'saw 102,400 images' in pretraining_summary(read_runs(chain))
    assert 'PSNR 20.2 dB' in pretraining_summary(read_runs(chain))


@pytest.mark.parametrize('values, start', [
    ([(0, 0), (0, 0)], 'Both are at 0'),
    ([(50, 50.5), (20, 20)], 'No clear difference'),
    ([(50, 40), (20, 30)], 'Mixed: better in a 50.0 with MAE, 40.0 from scratch; worse in b 20.0'),
    ([(50, None), (20, None)], 'Nothing to compare: the run from scratch did not finish'),
    ([(None, None)], 'Nothing to compare: the run with MAE and the run from scratch did not finish'),
])
def test_verdict_is_honest_about_the_rest(values, start):
    rows = [Row('detection', name, *pair, '1') for name, pair in zip('ab', values, strict=False)]
    assert verdict(rows).startswith(start)


def test_a_checkpoint_that_is_gone_does_not_count(chain):
    (chain.work_dir / 'detect' / 'iter_1.pth').unlink()
    rows = {row.metric: row for row in compare(read_runs(chain))}
    assert (rows['box AP'].mae, rows['box AP'].scratch) == (None, 12.5)


def test_reconstruction_keeps_visible_patches_and_greys_hidden_ones(chain):
    predictor = Predictor(read_runs(chain)[0], 8)
    assert len(predictor.samples) == 3  # the validation set has no more
    mean = np.array([124, 116, 104])
    found = reconstruct(predictor.model, predictor.samples)
    for index, (image, masked, _, filled, psnr) in enumerate(zip(*found.columns, found.psnr, strict=True)):
        np.testing.assert_array_equal(image, predictor.samples[index]['inputs'].permute(1, 2, 0).numpy())
        hidden = np.array([[(masked[y:y + 16, x:x + 16] == mean).all() for x in range(0, 64, 16)]
                           for y in range(0, 64, 16)])
        assert hidden.sum() == 12
        seen = ~hidden.repeat(16, 0).repeat(16, 1)
        np.testing.assert_array_equal(filled[seen], image[seen])
        np.testing.assert_array_equal(masked[seen], image[seen])
        error = (filled[~seen].astype(float) - image[~seen]) ** 2
        assert psnr == pytest.approx(10 * np.log10(255**2 / error.mean()), abs=.5)  # pictures are clipped and rounded
    predictor = Predictor(read_runs(chain)[0], 8)
    again = reconstruct(predictor.model, predictor.samples)
    np.testing.assert_array_equal(again.columns[1][-1], masked)  # fixed masks


def test_sheet_has_a_tile_for_each_column_of_each_example(chain):
    sheet = reconstruction_sheet(Predictor(read_runs(chain)[0], 8))
    assert [len(group) for group in sheet.groups] == [3, 3, 3]
    assert re.fullmatch(r'\d+\.\d dB', sheet.groups[0][2].note)
    assert '25% of the patches' in sheet.caption
    tiles = np.zeros((TILE, TILE, 3), np.uint8)
    for across in (1, 2):
        sheet = Sheet('x', 'X', '', ('a', 'b'), [[Tile(photo(tiles)), Tile(photo(tiles))]] * 3, across=across)
        dark = (np.asarray(sheet.to_image()).sum(-1) == 0)
        assert dark.sum() == pytest.approx(6 * TILE**2, rel=.01)  # and the title
        widest = dark.sum(1).max() / TILE
        assert widest == 2 * across


def test_a_classifier_predicts_on_the_page_what_was_measured(tmp_path, run_tool):
    """Also where the config leaves the preprocessor to the runner; without it the numbers differ."""
    pytest.importorskip('mmpretrain')
    draw = np.random.default_rng(0)
    for i in range(24):
        (tmp_path / 'images' / str(i % 2)).mkdir(parents=True, exist_ok=True)
        picture = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(picture).save(tmp_path / 'images' / str(i % 2) / f'{i}.png')
    (tmp_path / 'classify.py').write_text(CLASSIFIER.format(
        runtime=str(ROOT / 'configs/_base_/default_runtime.py'), images=str(tmp_path / 'images')))
    cfg = load_config(tmp_path / 'classify.py')
    (tmp_path / 'classify').mkdir()
    checkpoint = tmp_path / 'classify' / 'iter_1.pth'
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), checkpoint)
    code, out, err = run_tool('test', tmp_path / 'classify.py', checkpoint, '--work-dir', tmp_path / 'test',
                              '--out', tmp_path / 'metrics.json')
    assert code == 0, out + err
    run = StageRun('classify', 'classify.py', 'classification', False, cfg, checkpoint.parent,
                   dict(checkpoint='classify/iter_1.pth'))

    def top1():
        predictor = Predictor(run, 24)
        return 100 * np.mean([int(sample.pred_label == sample.gt_label) for sample in predictor.predict()])
    measured = json.loads((tmp_path / 'metrics.json').read_text())['accuracy/top1']
    assert top1() == pytest.approx(measured)
    cfg.data_preprocessor = None
    assert top1() != pytest.approx(measured)


def test_objects_are_drawn_where_and_as_what_they_are():
    image = np.full((64, 64, 3), 100, np.uint8)
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 30:50, 20:40] = True
    boxes, labels, scores = np.array([[20., 30., 40., 50.]]), np.array([3]), np.array([.87])
    tile = np.asarray(draw_objects(image, boxes, labels, mask, scores, '0123'))
    scale = TILE // 64
    assert tuple(tile[30 * scale, 30 * scale]) == colour_of(3)  # the upper edge of the box
    inside, outside = tile[40 * scale, 30 * scale].astype(int), tile[40 * scale, 60 * scale].astype(int)
    assert outside.std() == 0 and abs(inside - colour_of(3)).sum() < abs(outside - colour_of(3)).sum() / 2


def test_segments_share_the_colours_of_detection():
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 32:] = 2
    classes = ('background', 'zero', 'one')
    tile = np.asarray(draw_segments(np.full((64, 64, 3), 100, np.uint8), labels, classes)).astype(int)
    assert tile[10, 10].std() == 0
    assert abs(tile[10, -10] - colour_of(1)).max() < 40
    assert legend(classes) == [('zero', colour_of(0)), ('one', colour_of(1))] == legend(classes[1:])


def test_classification_notes_say_right_and_wrong(images):
    def sample(label, score):
        return SimpleNamespace(img_path=images / '0.png', gt_label=torch.tensor([1]), pred_label=torch.tensor([label]),
                               pred_score=torch.tensor([1 - score, score] if label else [score, 1 - score]))

    sheet = classification_sheet(('cat', 'dog'), {'with MAE': [sample(1, .9)], 'from scratch': [sample(0, .6)]})
    assert sheet.groups[0][0].note == 'truth: dog\nwith MAE: dog ✓ 90%\nfrom scratch: cat ✗ 60%'


def test_as_many_detections_as_objects_the_surest(images):
    from mmengine.structures import InstanceData
    boxes = torch.tensor([[5., 5., 20., 20.], [30., 30., 50., 50.]])
    sample = dict(img_path=images / '0.png', gt_instances=InstanceData(bboxes=boxes[:1], labels=torch.tensor([0])))
    found = [InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]), scores=torch.tensor(scores))
             for scores in ([.2, .1], [.1, .2])] + [InstanceData(
                 bboxes=boxes[:0], labels=torch.zeros(0, dtype=int), scores=torch.zeros(0))]
    samples = [[SimpleNamespace(**sample, pred_instances=each)] for each in found]
    sheet = detection_sheet('ab', dict(zip('xyz', samples, strict=True)))
    drawn = [len(np.unique(np.asarray(tile.image)[150, :].std(-1))) > 1 for tile in sheet.groups[0]]
    assert drawn == [False, False, True, False]  # the middle of the picture: only the second box passes there
    assert [tile.note for tile in sheet.groups[0]] == ['', '', '', 'nothing found']
    assert 'masks' not in sheet.caption


def test_scores_of_single_images():
    from mmengine.structures import InstanceData, PixelData
    assert class_score(SimpleNamespace(gt_label=torch.tensor([1]), pred_score=torch.tensor([.3, .7]))) == pytest.approx(
        .7)
    truth = InstanceData(bboxes=torch.tensor([[0., 0., 10., 10.], [20., 0., 30., 10.]]), labels=torch.tensor([0, 1]))
    found = InstanceData(bboxes=torch.tensor([[0., 0., 10., 5.], [20., 0., 30., 10.], [20., 0., 30., 10.]]),
                         labels=torch.tensor([0, 0, 1]), scores=torch.tensor([.9, .8, .7]))
    # Of the two surest, the first covers half of its object, and the second is of another class than the object there.
    assert box_score(SimpleNamespace(gt_instances=truth, pred_instances=found)) == pytest.approx(.25)
    assert box_score(SimpleNamespace(gt_instances=truth, pred_instances=found[[0, 2]])) == pytest.approx(.75)
    assert box_score(SimpleNamespace(gt_instances=truth[:0], pred_instances=found)) == 1
    truth, found = torch.tensor([[[0, 1, 1, 2]]]), torch.tensor([[[0, 0, 1, 3]]])
    sample = SimpleNamespace(gt_sem_seg=PixelData(data=truth), pred_sem_seg=PixelData(data=found))
    assert map_score(sample) == pytest.approx((1 / 2 + 0 + 0) / 3)  # class 3 was found where there is 2
    sample.gt_sem_seg.data = torch.tensor([[[0, 255, 1, 255]]])
    assert map_score(sample) == 1  # what is ignored counts neither way


def test_extremes_are_those_of_the_first_model(images):
    def sample(score):
        return SimpleNamespace(img_path=images / '0.png', gt_label=torch.tensor([0]), pred_label=torch.tensor([0]),
                               pred_score=torch.tensor([score, 1 - score]))
    scores = [.5, .9, .1, .7, .3, .8, .2]
    predictions = {'with MAE': [sample(score) for score in scores], 'from scratch': [sample(.5)] * 7}
    sheet = extremes_sheet(classification_sheet, ('cat', 'dog'), predictions, class_score)
    notes = [re.search(r'MAE: cat ✓ (\d+)%', group[0].note)[1] for group in sheet.groups]
    assert notes == ['90', '80', '70', '10', '20', '30'] and sheet.name == 'classifications_extremes'
    assert 'Of 7 images' in sheet.caption and '0.90, 0.80, 0.70' in sheet.caption


def test_attention_is_that_of_the_last_block(chain):
    """By hand: the attention of the class token, and with the values and the projection the output of the layer."""
    model = Predictor(read_runs(chain)[0], 8).model
    backbone, inputs, outputs = model.backbone, [], []
    attention = backbone.blocks[-1].attn
    handle = attention.register_forward_hook(lambda module, args, out: inputs.append(args[0]) or outputs.append(out))
    imgs = torch.randn(2, 3, 64, 48)
    weights = class_attention(backbone, imgs)
    handle.remove()
    assert weights.shape == (2, attention.num_heads, 4, 3) and (weights > 0).all()
    rest = 1 - weights.sum(dim=(2, 3))  # to itself
    _, _, values = attention.qkv(inputs[0]).chunk(3, dim=-1)
    values = values.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
    mixed = rest[..., None] * values[:, :, 0] + (weights.flatten(2)[..., None] * values[:, :, 1:]).sum(dim=2)
    torch.testing.assert_close(attention.proj(mixed.flatten(1)), outputs[0][:, 0], rtol=1e-4, atol=1e-5)
    backbone.with_cls_token = False
    with pytest.raises(ValueError, match='attention maps are those of a class token'):
        class_attention(backbone, imgs)


def test_attention_is_drawn_from_dark_to_bright():
    weights = torch.zeros(4, 4)
    weights[0, 0] = 1
    tile = np.asarray(draw_attention(np.full((64, 64, 3), 128, np.uint8), weights)).astype(int)
    assert tile[10, 10].sum() > 2 * tile[-10, -10].sum()


def test_pictures_show_the_first_run_of_each_start(chain):
    runs = read_runs(chain)
    again = [replace(run, name=f'{run.name}_2') for run in runs]
    assert [run.name for run in firsts([*runs, *again])] == [run.name for run in runs]


def test_scalars_of_a_resumed_run_are_joined_the_later_counts(tmp_path):
    for folder, lines in (('20260101', [dict(lr=1, loss=3., step=1), dict(lr=1, loss=9., step=2)]),
                          ('20260102', [dict(lr=1, loss=2., step=2), dict(mIoU=5., step=2)])):
        (tmp_path / folder / 'vis_data').mkdir(parents=True)
        (tmp_path / folder / 'vis_data' / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    training, validation = read_scalars(tmp_path)
    assert training['loss'] == {1: 3., 2: 2.}
    assert validation['mIoU'] == {2: 5.}


def write_log(chain, name):
    folder = chain.work_dir / name / '20260101' / 'vis_data'
    folder.mkdir(parents=True)
    lines = [dict(lr=1, loss=2., step=10), dict(lr=1, loss=1., step=20), dict(METRICS[name], step=20)]
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))


def test_curves_show_both_starts_in_percent(chain):
    for name in ('detect', 'detect_scratch'):
        write_log(chain, name)
    loss, metric = make_plots(read_runs(chain))
    assert [line[0] for line in loss.lines] == [True, False]
    assert loss.lines[0][1:] == ([10, 20], [2., 1.])
    assert [line[2] for line in metric.lines] == [[25.], [12.5]]
    svg = loss.to_svg()
    assert 'var(--mae)' in svg and 'var(--scratch)' in svg and svg.startswith('<svg') and '<!' not in svg


def test_page_is_one_file_and_escapes(chain):
    run = only_pretraining(chain)
    run.record['pretrain']['metrics']['mae/psnr'] = 21.
    run.stages['classify'].config += '<b>&"'
    write_log(run, 'pretrain')
    runs = read_runs(run)
    sheet = Sheet('x', '<i>title', 'a & b', ('"column', ), [[Tile(photo(np.zeros((8, 8, 3), np.uint8)), '<note>')]],
                  [('<k>', (1, 2, 3))])
    page = render(runs, dict(pretraining=sheet), make_plots(runs))
    assert '<b>&"' not in page and '<i>title' not in page and '<note>' not in page and '<k>' not in page
    for text in ('<i>title', 'a & b', '<note>', '<k>', 'f00d' * 4, '102,400', 'PSNR 21.0 dB', 'torch '):
        assert text in unescape(page)
    addresses = re.findall(r'(?:src|href)="([^"]{0,30})|url\(([^)]{0,9})', page)
    assert addresses and all((a or b).startswith(('data:image/jpeg;base64,', '#')) for a, b in addresses)
    assert '<script' not in page and '@import' not in page


def test_report_shows_what_there_is(chain):
    write_log(chain, 'pretrain')
    page = make_report(only_pretraining(chain))
    assert {file.name for file in page.parent.glob('*.png')} == {'reconstructions.png', 'attention.png', 'curves.png'}
    text = unescape(page.read_text())
    assert text.count('data:image/jpeg;base64,') == 9 + 3 * (2 + 3)  # of three images: all heads, and each of three
    assert 'Nothing to compare: the run with MAE and the run from scratch did not finish.' in text
    chain.record = {}
    with pytest.raises(FileNotFoundError, match='holds no chain.json'):
        make_report(chain)


def test_plan_multiplies_iterations_and_batch(chain):
    demo = runpy.run_path(str(Path(__file__).parents[1] / 'tools' / 'demo.py'))
    chain.record, chain.work_dir = {}, chain.work_dir / 'never'
    plan = demo['plan'](chain, {'pretrain': 6., 'detect': 4.5})
    assert re.search(r'pretrain +new +800 +x 128 += 102,400 +6\.0\n', plan)
    assert re.search(r'classify +new +500 +x 16 +=   8,000 +\?', plan)
    assert re.search(r'in all +10\.5\n', plan)


def test_demo_reports_an_error_in_one_message(tmp_path, capsys):
    demo = runpy.run_path(str(Path(__file__).parents[1] / 'tools' / 'demo.py'))
    assert run_cli(demo['main'], ['--report-only', '--work-dir', str(tmp_path / 'none')]) == 1
    assert capsys.readouterr().err.startswith(f'error: {tmp_path / "none"} holds no chain.json')
