"""Every config of ours, reduced in size: it builds, trains two iterations, validates and is tested."""

import importlib.util
import json

import pytest
from mmengine import Config
from test_neu import archives
from tiny import generated
from tiny.shrink import shrink
from tiny.tools import ROOT, assert_plain, run_tool  # noqa: F401

from mae_plugin.datasets.digit_scenes import ensure_digit_scenes
from mae_plugin.datasets.neu import ensure_neu
from mae_plugin.datasets.spectral_scenes import ensure_spectral_scenes

CONFIGS = sorted(path for folder in ('pretrain', 'classification', 'detection', 'segmentation')
                 for path in (ROOT / 'configs' / folder).glob('*.py'))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A folder with ``data/`` in it: a few images in the layout of every data set that the configs name."""
    pytest.importorskip('sklearn')
    top = tmp_path_factory.mktemp('all_configs')
    generated.make_images(top / 'data/images')
    generated.make_tiles(top / 'data/tiles')
    generated.make_classification(top / 'data')
    generated.make_ade(top)
    generated.make_custom_maps(top / 'data/my_images')
    if importlib.util.find_spec('mmdet'):
        generated.make_coco(top / 'data/coco')
        generated.make_lvis(top / 'data/lvis')
    generated.make_custom_coco(top / 'data/custom_coco')
    generated.make_custom_voc(top / 'data/custom_voc')
    ensure_neu(top / 'data/neu', *archives(top / 'raw'))
    ensure_digit_scenes(top / 'data/digit_scenes', pretrain_train=4, pretrain_val=4, detection_train=40,
                        detection_val=4, classification_train=40, classification_val=10)
    ensure_spectral_scenes(top / 'data/spectral_scenes', train=10, val=10)
    return top


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_trains_and_tests(run_tool, data, tmp_path, monkeypatch, path):  # noqa: F811
    monkeypatch.chdir(data)
    cfg = Config.fromfile(path)
    library = cfg.get('default_scope')
    if library and importlib.util.find_spec(library) is None:
        pytest.skip(f'needs {library}')
    shrink(cfg)
    small = tmp_path / path.name
    cfg.dump(small)
    options = ['--cfg-options', 'prepare_data=None'] if 'prepare_data' in cfg else []
    code, out, err = run_tool('train', small, '--work-dir', tmp_path / 'run', *options)
    assert code == 0, out + err
    assert_plain(tmp_path / 'run' / 'iter_2.pth')
    code, out, err = run_tool('test', small, tmp_path / 'run' / 'iter_2.pth', '--work-dir', tmp_path / 'test',
                              '--out', tmp_path / 'metrics.json', *options)
    assert code == 0, out + err
    assert json.loads((tmp_path / 'metrics.json').read_text())
