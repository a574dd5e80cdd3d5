"""Labels that do not fit: one sentence before the start, of file, item and remedy. What fits passes silently."""

import copy
import importlib.util
import json
import os

import numpy as np
import pytest
from mmengine import Config
from PIL import Image
from tiny.tools import ROOT

from mae_plugin.datasets import CheckLabelMap
from mae_plugin.datasets.label_checks import check_labels, check_maps_when_loaded, datasets_of

pytest_plugins = ['tiny.tools']
LOADERS = ('train_dataloader', 'val_dataloader')


def needs(library):
    return pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f'needs {library}')


def config(scope, model, train, val=None):
    loaders = {name: dataset and dict(dataset=dataset) for name, dataset in zip(LOADERS, (train, val), strict=True)}
    return Config(dict(default_scope=scope, model=model, **loaders))


def said(capsys):
    """What was printed, but for the notes of a library that is imported."""
    return [line for line in capsys.readouterr().out.splitlines() if 'OneDL' not in line]


def message(cfg, error=ValueError):
    with pytest.raises(error) as caught:
        check_labels(cfg, LOADERS)
    text = str(caught.value)
    assert '\n' not in text
    return text


# Classification


def class_tree(folder, classes, images=1, suffix='.png'):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(images):
            Image.new('RGB', (8, 8)).save(folder / name / f'{i}{suffix}')
    return folder


def classification(root, count=2, train='train', val='val', **settings):
    datasets = [prefix and dict(type='CustomDataset', data_root=str(root), data_prefix=prefix, **settings)
                for prefix in (train, val)]
    return config('mmpretrain', dict(head=dict(num_classes=count)), *datasets)


@pytest.fixture
def trees(tmp_path):
    for split in ('train', 'val'):
        class_tree(tmp_path / split, ['cat', 'dog'])
    return tmp_path


def test_class_folders_that_fit_pass_silently(trees, capsys):
    check_labels(classification(trees), LOADERS)
    check_labels(classification(trees, metainfo=dict(classes=['Cat', 'Dog'])), LOADERS)
    check_labels(config('mmpretrain', dict(head=None), dict(type='CustomDataset', data_root=str(trees),
                                                            data_prefix='train')), LOADERS)
    assert not said(capsys)


def test_class_folders_that_do_not_fit(trees):
    text = message(classification(trees, count=3))
    assert f'{trees}/train has 2 class folders (cat, dog), but model.head.num_classes is 3: set it to 2' in text
    text = message(classification(trees, metainfo=dict(classes=['a', 'b', 'c'])))
    assert 'train_dataloader.dataset.metainfo.classes names 3 classes, but model.head.num_classes is 2' in text
    class_tree(trees / 'other', ['cat', 'cow'])
    text = message(classification(trees, val='other'))
    assert f'{trees}/other' in text and f'{trees}/train' in text and 'number 1 on, cow where the other has dog' in text
    (trees / 'more').mkdir()
    text = message(classification(trees, train='more'))
    assert f'{trees}/more has no class folders' in text
    for name in ('cat', 'dog'):
        (trees / 'more' / name).mkdir()
        (trees / 'more' / name / 'notes.txt').write_text('no image')
    text = message(classification(trees, train='more'))
    assert f'no class folder of {trees}/more (cat, dog) holds an image .jpg' in text


def test_a_metric_may_be_for_fewer_classes(trees):
    cfg = classification(trees, count=5, train=None)
    assert 'model.head.num_classes is 5' in message(cfg)
    cfg.val_evaluator = dict(type='SingleLabelMetric', num_classes=2)
    check_labels(cfg, LOADERS)
    cfg.val_evaluator.num_classes = 3
    assert f'{trees}/val has 2 class folders (cat, dog), but val_evaluator.num_classes is 3' in message(cfg)


def test_a_missing_class_of_the_validation_is_named(trees):
    class_tree(trees / 'fewer', ['cat'])
    assert 'number 1 on, nothing where the other has dog' in message(classification(trees, None, val='fewer'))
    assert 'number 1 on, dog where the other has nothing' in message(classification(trees, None, 'fewer', 'val'))


def test_names_of_classes_may_lie_in_a_file(trees, capsys):
    """As MMEngine and mmpretrain read it; a text that is no file would be taken for its letters."""
    file = trees / 'classes.txt'
    for names, setting in (dict(metainfo=dict(classes=str(file))), 'metainfo.classes'), (dict(classes=str(file)),
                                                                                         'classes'):
        file.write_text('Cat\nDog\n')
        check_labels(classification(trees, **names), LOADERS)
        assert not said(capsys)
        file.write_text('Cat\nDog\nCow\n')
        assert 'classes names 3 classes' in message(classification(trees, **names))
        file.unlink()
        text = message(classification(trees, **names))
        assert f'train_dataloader.dataset.{setting} is the text {str(file)!r}, and no such file exists' in text
    assert "write ('cat', ) for a single class" in message(classification(trees, metainfo=dict(classes=('cat'))))


@pytest.mark.parametrize('content, text', [
    ('a.jpg 0\nb.jpg 2\n', 'line 2: class 2 does not exist, for model.head.num_classes is 2'),
    ('a.jpg 0\nb.jpg dog\n', "line 2: 'b.jpg dog' does not end in the number of a class"), ('', 'is empty'),
    ('a.jpg\n', "line 1: 'a.jpg'")])
def test_lists_of_classes(trees, content, text):
    (trees / 'list.txt').write_text(content)
    said = message(classification(trees, ann_file='list.txt'))
    assert f'{trees}/list.txt' in said and text in said


def test_a_list_in_another_encoding(trees):
    (trees / 'list.txt').write_bytes('Übung.jpg 0\n'.encode('latin-1'))
    assert f'{trees}/list.txt is no text in UTF-8' in message(classification(trees, ann_file='list.txt'))


# Files


def test_missing_files_name_the_setting_and_the_environment_variable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'config.py').write_text("""
default_scope = 'mmpretrain'
model = dict(head=dict(num_classes=2))
train_dataloader = dict(dataset=dict(
    type='RepeatDataset', times=2,
    dataset=dict(type='CustomDataset', data_root='{{$PICTURES_ROOT:data/pictures}}', data_prefix='train')))
""")
    text = message(Config.fromfile('config.py'), FileNotFoundError)
    assert text == ('train_dataloader.dataset.dataset.data_root: there is no folder data/pictures; set the environment '
                    'variable PICTURES_ROOT to where the data lies, or put the data there')
    (tmp_path / 'data/pictures').mkdir(parents=True)
    text = message(Config.fromfile('config.py'), FileNotFoundError)
    assert 'dataset.data_prefix: there is no folder data/pictures/train; set the environment variable' in text
    (tmp_path / 'other.py').write_text((tmp_path / 'config.py').read_text().replace("'train'", "'/data/pictures_b'"))
    monkeypatch.setenv('PICTURES_ROOT', '/data/pictures')
    assert 'environment' not in message(Config.fromfile('other.py'), FileNotFoundError)
    monkeypatch.setenv('PICTURES_ROOT', '/nowhere')
    assert 'data_root: there is no folder /nowhere; set' in message(Config.fromfile('config.py'), FileNotFoundError)


def test_no_variable_no_mention_and_only_the_first_process_looks(tmp_path, monkeypatch):
    cfg = classification(tmp_path / 'nowhere')
    text = message(cfg, FileNotFoundError)
    assert 'the environment variable' not in text and f'{tmp_path}/nowhere; set it right' in text
    check_labels(cfg, ['test_dataloader'])
    for launcher, variable in dict(pytorch='RANK', slurm='SLURM_PROCID').items():
        cfg.launcher = launcher
        message(cfg, FileNotFoundError)
        with monkeypatch.context() as environment:
            environment.setenv(variable, '1')
            check_labels(cfg, LOADERS)


def test_only_files_on_disk_are_looked_for(tmp_path):
    """Not what a backend fetches."""
    message(classification(tmp_path / 'nowhere'), FileNotFoundError)
    check_labels(classification(tmp_path / 'nowhere', backend_args=dict(backend='petrel')), LOADERS)
    message(classification('bucket/pictures'), FileNotFoundError)
    check_labels(classification('s3://bucket/pictures'), LOADERS)


def test_data_sets_within_wrappers_are_found():
    inner = dict(type='CocoDataset', ann_file='a.json')
    other = dict(type='mmseg.ADE20KDataset')
    cfg = config('mmdet', {}, dict(type='ClassBalancedDataset', dataset=dict(type='RepeatDataset', dataset=inner)),
                 dict(type='ConcatDataset', datasets=[inner, other]))
    assert [(found.setting, found.type, found.library) for found in datasets_of(cfg, LOADERS)] == [
        ('train_dataloader.dataset.dataset.dataset', 'mmdet.CocoDataset', 'mmdet'),
        ('val_dataloader.dataset.datasets.0', 'mmdet.CocoDataset', 'mmdet'),
        ('val_dataloader.dataset.datasets.1', 'mmseg.ADE20KDataset', 'mmseg')]


# Detection

COCO = dict(
    images=[dict(id=number, file_name=f'{number}.png', width=40, height=30) for number in (7, 8)],
    categories=[dict(id=3, name='car'), dict(id=9, name='bus')],
    annotations=[
        dict(id=1, image_id=7, category_id=3, bbox=[0, 0, 40, 30], area=1200, segmentation=[[0, 0, 40, 0, 40, 30]]),
        dict(id=2, image_id=7, category_id=9, bbox=[-.5, 0, 41, 30.9], area=1200, segmentation=[[0, 0, 40, 0, 40, 30]]),
        dict(id=3, image_id=8, category_id=9, bbox=[0, 0, 40, 30], area=1200, iscrowd=1,
             segmentation=dict(counts=[0, 1200], size=[30, 40])),
    ])


@pytest.fixture
def coco(tmp_path):
    """``coco(change, **settings)``: a config whose annotation file was changed by a function of its content."""
    (tmp_path / 'images').mkdir()
    for number in (7, 8):
        Image.new('RGB', (40, 30)).save(tmp_path / f'images/{number}.png')

    def make(change=None, classes=('car', 'bus'), heads=2, kind='CocoDataset', **settings):
        content = copy.deepcopy(COCO)
        if change is not None:
            content = change(content) or content
        (tmp_path / 'ann.json').write_text(content if isinstance(content, str) else json.dumps(content))
        settings = dict(metainfo=dict(classes=classes)) | settings if classes else settings
        box_heads = [dict(num_classes=heads)] * 3
        model = dict(roi_head=dict(bbox_head=box_heads, mask_head=dict(num_classes=heads)))
        return config('mmdet', model, dict(
            type=kind, data_root=str(tmp_path), ann_file='ann.json', data_prefix=dict(img='images'),
            pipeline=[dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]) | settings)

    return make


@needs('mmdet')
def test_boxes_that_fit_pass_silently(coco, capsys):
    """Boxes at the border, or half a pixel beyond; crowds as run lengths; fewer classes than the file has."""
    check_labels(coco(), LOADERS)
    check_labels(coco(classes=('bus', ), heads=1), LOADERS)
    for change in (lambda content: content['annotations'].clear(), drop('annotations', None)):
        check_labels(coco(change, test_mode=True), LOADERS)  # images to predict on
    check_labels(coco(put('annotations', 0, ignore=1, bbox=[0, 0, 0, 0])), LOADERS)  # mmdet leaves it out
    polygons = [[60, 5, 20, 5, 20, 9], [3, 3, 4, 4]]  # begins outside; one of two is whole
    check_labels(coco(put('annotations', 0, segmentation=polygons)), LOADERS)
    check_labels(coco(put('annotations', 0, segmentation=[[1, 2]]), pipeline=[]), LOADERS)  # masks are not loaded
    check_labels(coco(kind='CocoSegDataset', ann_file=''), LOADERS)  # not of this format
    assert not said(capsys)


def drop(key, part, number=0):
    return lambda content: (content[part][number] if part else content).pop(key) and None


def put(part, number, **values):
    return lambda content: content[part][number].update(values)


@needs('mmdet')
@pytest.mark.parametrize('change, texts', [
    (put('annotations', 1, image_id=5), ['annotation 2', 'image 5', 'add the image']),
    (put('annotations', 1, image_id='7'), ['annotation 2', "image '7'"]),
    (put('annotations', 0, category_id=4), ['annotation 1', 'category 4', 'category_id']),
    (put('annotations', 0, bbox=[30, 10, 20, 10]), ['annotation 1 of image 7', '[30, 10, 20, 10]', '40x30', '1 of 3',
                                                    '[x, y, width, height]']),
    (put('annotations', 2, bbox=[50, 10, 5, 5]), ['annotation 3', 'leaves its image']),
    (put('annotations', 2, bbox=[-5, 10, 20, 5]), ['annotation 3', 'leaves its image']),
    (put('annotations', 2, bbox=[5, 10, 0, 5]), ['annotation 3', 'no area']),
    (put('annotations', 2, bbox=[5, 10, float('nan'), 5]), ['annotation 3', 'no area']),
    (put('annotations', 2, bbox=[float('nan'), 10, 5, 5]), ['annotation 3', 'no area']),
    (put('annotations', 2, area=0), ['annotation 3', 'area 0, has no area']),
    (put('annotations', 2, area='9'), ['annotation 3', 'area']),
    (put('annotations', 0, segmentation=[[1, 2, 3, 4]]), ['annotation 1', 'polygon of three points', '1 of 3']),
    (put('annotations', 0, segmentation=[[41, 2, 50, 4, 50, 9]]), ['annotation 1', 'outside its image of 40x30']),
    (put('annotations', 0, segmentation=[[1, -2, 5, -4, 5, -9]]), ['annotation 1', 'outside its image of 40x30']),
    (put('annotations', 0, segmentation=[1, 2, 3, 4, 5, 6]), ['annotation 1', 'no list of polygons']),
    (put('images', 1, width='60'), ['image 8', "'60'", 'as numbers']),
    (put('images', 1, id=7), ['two images have the id 7']),
    (put('images', 1, file_name='x.png'), ['image 8', 'x.png', 'images', 'data_prefix.img']),
    (put('categories', 0, name='bus'), ["'bus' more than once"]),
    (drop('annotations', None), ['"annotations"', 'COCO']),
    (put('annotations', 2, bbox=[5, 10, 5]), ['annotation 3', 'bbox of four numbers']),
    (put('annotations', 2, bbox=['5', '10', '5', '5']), ['annotation 3', 'bbox of four numbers']),
    (drop('area', 'annotations'), ['annotation 1', 'area']),
    (drop('segmentation', 'annotations'), ['annotation 1', 'segmentation', 'with_mask', 'FasterRCNN']),
    (drop('width', 'images', 1), ['image 8', 'width']),
    (drop('name', 'categories'), ["{'id': 3}", 'name']),
    (put('images', 0, file_name='7.jpg'), ['image 7', '7.jpg', 'images', 'data_prefix.img']),
    (lambda content: content['images'].clear(), ['has no images']),
    (lambda content: content['annotations'].clear(), ['no box of the classes']),
    (lambda content: content.pop('categories') and None, ['"categories"', 'COCO']),
    (lambda content: 'a list of boxes', ['is no JSON', 'COCO']),
])
def test_boxes_that_do_not_fit(coco, tmp_path, change, texts):
    text = message(coco(change), FileNotFoundError if 'data_prefix.img' in texts else ValueError)
    for expected in (f'{tmp_path}/ann.json', *texts):
        assert expected in text


@needs('mmdet')
@pytest.mark.parametrize('settings, texts', [
    (dict(classes=('cat', 'dog')), ['none of the 2 classes', 'car, bus', 'train_dataloader.dataset.metainfo']),
    (dict(classes=('car', 'bos')), ["'bos'", "did you mean 'bus'"]),
    (dict(classes=('bus', 'car')), ["'bus' where", "'car'", 'order']),
    (dict(classes=('car', 'car')), ['metainfo.classes', "'car' more than once"]),
    (dict(heads=80), ['names 2 classes', 'model.roi_head.bbox_head.num_classes is 80']),
    (dict(classes=None), ['CocoDataset', '80 classes', 'num_classes is 2']),
    (dict(classes=None, heads=80, change=put('categories', 0, name='forklift')),
     ["annotation 1 is of class 'forklift'", '80 classes of CocoDataset', 'metainfo']),
    (dict(classes=None, heads=80, change=lambda content: [category.update(name=f'part {category["id"]}')
                                                          for category in content['categories']] and None),
     ['none of the 80 classes (person, bicycle, car', 'part 3, part 9']),
])
def test_class_names_that_match_nothing(coco, settings, texts):
    text = message(coco(**settings))
    for expected in texts:
        assert expected in text


@needs('mmdet')
def test_a_rare_odd_box_is_only_said(coco, capsys):
    """COCO's own training set has some without area, which mmdet leaves out."""
    def many(content):
        content['annotations'] += [dict(content['annotations'][0], id=number) for number in range(4, 400)]
        content['annotations'][10]['bbox'] = [3, 4, 0, 10]
        content['annotations'][11].update(area=0, segmentation=[])
    check_labels(coco(many), LOADERS)
    said = capsys.readouterr().out
    assert 'annotation 11 of image 7, bbox [3, 4, 0, 10], area 1200, has no area (2 of 399 boxes' in said


XML = """<annotation><filename>{name}.jpg</filename><size><width>40</width><height>30</height></size>
<object><name>{kind}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>
</bndbox></object></annotation>"""


@pytest.fixture
def voc(tmp_path):
    def make(kinds=('car', 'bus'), box=(1, 1, 40, 30), classes=('car', 'bus'), heads=2, lost=(), xml=XML, **settings):
        (tmp_path / 'Annotations').mkdir()
        for number, kind in enumerate(kinds):
            if number not in lost:
                (tmp_path / f'Annotations/{number}.xml').write_text(xml.format(name=number, kind=kind, box=box))
        (tmp_path / 'train.txt').write_text('\n'.join(map(str, range(len(kinds)))))
        metainfo = dict(metainfo=dict(classes=classes)) if classes else {}
        return config('mmdet', dict(bbox_head=dict(num_classes=heads)), dict(
            type='VOCDataset', data_root=str(tmp_path), ann_file='train.txt', data_prefix=dict(sub_data_root=''),
            **metainfo, **settings))

    return make


@needs('mmdet')
@pytest.mark.parametrize('settings', [
    {}, dict(classes=('car', ), heads=1), dict(classes=None, heads=20),
    dict(kinds=('car', ), test_mode=True),  # few images need not show every class
    dict(xml='<annotation></annotation>', test_mode=True),  # images to predict on
    dict(xml=XML.replace('40', '0').replace('30', '0'))])  # a size that is not known
def test_voc_that_fits_passes_silently(voc, capsys, settings):
    check_labels(voc(**settings), LOADERS)
    assert not said(capsys)


@needs('mmdet')
@pytest.mark.parametrize('settings, texts, error', [
    (dict(lost=[1]), ["names '1'", 'Annotations/1.xml'], FileNotFoundError),
    (dict(classes=('car', 'buss')), ["'buss'", "did you mean 'bus'"], ValueError),
    (dict(classes=('cat', 'dog')), ['none of the 2 classes', 'bus, car'], ValueError),
    (dict(classes=None, heads=20, kinds=('car', 'forklift')), ['1.xml', "'forklift'", '20 classes'], ValueError),
    (dict(heads=20), ['names 2 classes', 'model.bbox_head.num_classes is 20'], ValueError),
    (dict(box=(5, 5, 60, 20)), ['a car in', '0.xml', '40x30', '2 of 2'], ValueError),
    (dict(box=('x', 5, 60, 20)), ['0.xml', 'Pascal VOC'], ValueError),
    (dict(xml='<annotation></annotation>'), ['no box of the classes'], ValueError),
    (dict(classes=('car', 'car')), ["'car' more than once"], ValueError),
    (dict(kinds=()), ['train.txt is empty'], ValueError),
])
def test_voc_that_does_not_fit(voc, settings, texts, error):
    text = message(voc(**settings), error)
    for expected in texts:
        assert expected in text


# Segmentation


@pytest.fixture
def maps(tmp_path):
    """``maps(arrays, ...)``: a config of images with these label maps."""
    def make(arrays, count=2, kind='BaseSegDataset', classes=None, size=None, images='.png', head=None, **settings):
        for name in ('images', 'maps'):
            (tmp_path / name).mkdir()
        for number, array in enumerate(arrays):
            Image.fromarray(array).save(tmp_path / f'maps/{number}.png')
            Image.new('RGB', size or array.shape[1::-1]).save(tmp_path / f'images/{number}{images}')
        settings = dict(metainfo=dict(classes=classes)) | settings if classes else settings
        return config('mmseg', dict(decode_head=dict(num_classes=count) | (head or {})), dict(
            type=kind, data_root=str(tmp_path), img_suffix='.png',
            data_prefix=dict(img_path='images', seg_map_path='maps')) | settings)

    return make


def label_map(*values, shape=(6, 8), dtype=np.uint8):
    return np.resize(np.asarray(values, dtype), shape)


@needs('mmseg')
@pytest.mark.parametrize('values, settings', [
    ((0, 1, 255), {}), ((0, ), {}), ((0, 1, 255), dict(classes=('a', 'b'))), ((0, 1), dict(count=1)),
    ((0, 1, 150, 255), dict(kind='ADE20KDataset', count=150)), ((1, 2, 0), dict(reduce_zero_label=True)),
    ((0, 1, 2), dict(head=dict(ignore_index=2))), ((0, 2), dict(head=dict(ignore_index=2))),
    ((1, 2, 3), dict(head=dict(ignore_index=2), reduce_zero_label=True)),
    ((0, 1, 255), dict(head=dict(ignore_index=None))),
    ((0, 9, 18), dict(kind='CityscapesDataset', classes=('road', 'bicycle'), count=2, seg_map_suffix='.png')),
])
def test_maps_that_fit_pass_silently(maps, capsys, values, settings):
    check_labels(maps([label_map(*values)] * 3, **settings), LOADERS)
    assert not said(capsys)


@needs('mmseg')
@pytest.mark.parametrize('array, settings, texts', [
    (label_map(0, 1, 2), {}, ['maps/0.png', 'value 2', '2 classes', '0 to 1', '255']),
    (label_map(0, 151), dict(kind='ADE20KDataset', count=150), ['value 151', '150 classes', '1 to 150', '0 is']),
    (label_map(1, 3), dict(reduce_zero_label=True), ['value 3', '1 to 2']),
    (label_map(0, 300, dtype=np.uint16), dict(count=200), ['value 300']),
    (label_map(0, 255), {}, ['maps/0.png', '0 and 255 only', 'ignored', 'Image.fromarray']),
    (label_map(0, 255), dict(count=5), ['0 and 255 only', 'class 0 were all there is']),
    (label_map(0, 255), dict(reduce_zero_label=True), ['0 and 255 only', 'both mean "ignored"', 'no class is left',
                                                       'leave reduce_zero_label out']),
    (label_map(0, 1, 255), dict(head=dict(ignore_index=2)), ['value 255', '2 is ignored', 'decode_head']),
    (label_map(0, 1, 2), dict(ignore_index=2), ['value 2', '255 is ignored', 'decode_head']),  # mmseg asks the head
    (label_map(1, 4), dict(head=dict(ignore_index=2), reduce_zero_label=True), ['value 4', '1 to 2', '3 is ignored']),
    (np.zeros((6, 8, 3), np.uint8), {}, ['maps/0.png', 'in colour', 'number of the class']),
    (label_map(0, 1), dict(size=(8, 7)), ['maps/0.png has 8x6', 'images/0.png 8x7']),
    (label_map(0, 1), dict(classes=('a', 'b', 'c')), ['classes names 3', 'model.decode_head.num_classes is 2']),
    (label_map(0, 1), dict(kind='ADE20KDataset'), ['ADE20KDataset', '150 classes', 'num_classes is 2']),
    (label_map(0, 1), dict(img_suffix='.jpg'), ['images holds no image that ends in .jpg, but .png', 'img_suffix']),
])
def test_maps_that_do_not_fit(maps, array, settings, texts):
    text = message(maps([array] * 3, **settings))
    for expected in texts:
        assert expected in text


@needs('mmseg')
def test_maps_that_are_missing(maps, tmp_path):
    cfg = maps([label_map(0, 1)] * 3)
    (tmp_path / 'maps/1.png').unlink()
    text = message(cfg, FileNotFoundError)
    assert 'images/1.png has no label map' in text and 'maps/1.png: add it, or set' in text and 'seg_map_suffix' in text
    (tmp_path / 'list.txt').write_text('0\n2\n')
    cfg.train_dataloader.dataset.ann_file = 'list.txt'
    check_labels(cfg, LOADERS)
    (tmp_path / 'list.txt').write_text('0\n3\n')
    assert "list.txt names '3'" in message(cfg, FileNotFoundError)


@needs('mmseg')
def test_an_image_on_its_side_has_the_size_it_is_read_in(maps, tmp_path):
    cfg = maps([label_map(0, 1)])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (6, 8)).save(tmp_path / 'images/0.png', exif=exif)
    check_labels(cfg, LOADERS)


@needs('mmseg')
def test_maps_of_a_large_set_are_sampled_over_all_of_it(maps, monkeypatch):
    from mae_plugin.datasets import label_map_checks
    monkeypatch.setattr(label_map_checks, '_MAPS', 5)
    opened, read = [], label_map_checks._open
    monkeypatch.setattr(label_map_checks, '_open', lambda path: opened.append(os.path.basename(path)) or read(path))
    check_labels(maps([label_map(0, 1)] * 23), LOADERS)
    assert opened[::2] == ['0.png', '13.png', '18.png', '22.png', '7.png']  # sorted as text


def test_every_map_is_checked_as_it_is_loaded():
    check = CheckLabelMap(num_classes=2)
    good = dict(gt_seg_map=label_map(0, 1, 255), seg_map_path='good.png', reduce_zero_label=False)
    assert check(good) is good
    with pytest.raises(ValueError, match='bad.png has the value 7, but the 2 classes are the values 0 to 1'):
        check(dict(good, gt_seg_map=label_map(0, 7), seg_map_path='bad.png'))
    with pytest.raises(ValueError, match='bad.png has the value 3, but the 2 classes are the values 1 to 2'):
        check(dict(gt_seg_map=label_map(0, 2), seg_map_path='bad.png', reduce_zero_label=True))  # as loaded: one less
    with pytest.raises(ValueError, match='good.png has the value 255, but .* 2 is ignored'):
        CheckLabelMap(num_classes=2, ignore_index=2)(good)
    CheckLabelMap(num_classes=2, ignore_index=2)(dict(good, gt_seg_map=label_map(0, 1, 2)))
    with pytest.raises(ValueError, match='bad.png is a picture in colour'):
        check(dict(good, gt_seg_map=np.zeros((2, 2, 3), np.uint8), seg_map_path='bad.png'))


@pytest.mark.parametrize('head, expected', [
    (dict(num_classes=5), dict(num_classes=5, ignore_index=255)),
    (dict(num_classes=1), dict(num_classes=2, ignore_index=255)),  # one output tells two classes apart
    (dict(num_classes=5, ignore_index=7), dict(num_classes=5, ignore_index=7))])
def test_the_check_of_every_map_follows_the_loading(maps, head, expected):
    cfg = maps([label_map(0, 1)], head=head, pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')])
    check_maps_when_loaded(cfg, LOADERS)
    assert cfg.train_dataloader.dataset.pipeline[2] == dict(type='mae_plugin.CheckLabelMap', **expected)
    assert [transform.type for transform in cfg.train_dataloader.dataset.pipeline][1::2] == [
        'LoadAnnotations', 'PackSegInputs']
    once = list(cfg.train_dataloader.dataset.pipeline)
    check_maps_when_loaded(cfg, LOADERS)  # of a stored config
    assert cfg.train_dataloader.dataset.pipeline == once


@needs('mmseg')
def test_images_to_predict_on_need_no_maps(maps, tmp_path):
    cfg = maps([label_map(0, 1)])
    (tmp_path / 'maps/0.png').unlink()
    (tmp_path / 'maps').rmdir()
    message(cfg, FileNotFoundError)
    for prefix in dict(img_path='images', seg_map_path=''), dict(img_path='images'):
        cfg.train_dataloader.dataset.update(data_prefix=prefix, test_mode=True)
        check_labels(cfg, LOADERS)


# Through the tools


@needs('mmseg')
def test_the_tools_refuse_before_the_start(run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = ROOT / 'configs/segmentation/upernet_vit-base_ade20k-512x512.py'
    code, out, err = run_tool('train', name, '--work-dir', 'run', '--fit-batch', 'keep')
    assert code == 1 and 'Traceback' not in out + err
    assert 'there is no folder data/ade/ADEChallengeData2016; set the environment variable ADE20K_ROOT' in err
    assert err[err.index('error: '):].count('\n') == 1


@needs('mmseg')
def test_a_map_that_no_sample_saw_stops_the_training_by_name(run_tool, tmp_path, monkeypatch):
    from test_segmentation import reduced
    from tiny.generated import make_ade

    from mae_plugin.datasets import label_map_checks
    monkeypatch.chdir(tmp_path)
    annotations = make_ade(tmp_path) / 'annotations/training'
    for file in sorted(annotations.iterdir())[1:]:
        Image.fromarray(np.full((64, 96), 200, np.uint8)).save(file)
    monkeypatch.setattr(label_map_checks, '_MAPS', 1)
    reduced('upernet_vit-base_ade20k-512x512').dump('small.py')
    code, out, err = run_tool('train', 'small.py', '--work-dir', 'run')
    assert code == 1 and 'annotations/training/ADE_' in err and 'has the value 200, but the 150 classes' in err
