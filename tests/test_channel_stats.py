"""Mean and standard deviation of the channels of a data set."""

import json

import numpy as np
import pytest
from tiny.tools import run_tool  # noqa: F401

from mae_plugin.datasets import UnlabelledImages
from mae_plugin.datasets.channel_stats import Moments, channel_stats


@pytest.fixture
def tiles(tmp_path):
    """Images of several sizes and levels, in part without data."""
    folder, random = tmp_path / 'tiles', np.random.default_rng(0)
    folder.mkdir()
    for number in range(12):
        values = random.integers(1, 3000, (random.integers(5, 30), random.integers(5, 30), 4)) + 4000 * number
        values[:number % 5] = 0
        np.save(folder / f'{number:02}.npy', values.astype(np.uint16))
    return folder


def expected(folder, nodata=True):
    values = np.concatenate([np.load(path).reshape(-1, 4) for path in sorted(folder.glob('*.npy'))]).astype(float)
    values = values[values.any(axis=1)] if nodata else values
    return len(values), values.mean(axis=0), values.std(axis=0)


@pytest.mark.parametrize('nodata', [0, None])
def test_they_are_numpys_whatever_the_number_of_workers(tiles, nodata):
    images = UnlabelledImages(tiles, [], mode='array', channels=4, arrays=dict(nodata=nodata))
    totals = [list(channel_stats(images, workers))[-1][0] for workers in (0, 2)]
    count, mean, std = expected(tiles, nodata is not None)
    np.testing.assert_array_equal(totals[0].count, [count] * 4)
    np.testing.assert_allclose(totals[0].mean, mean, rtol=1e-13)
    np.testing.assert_allclose(totals[0].std, std, rtol=1e-13)
    for alone, helped in zip(*totals, strict=True):
        np.testing.assert_array_equal(alone, helped)


def test_nothing_is_lost_where_the_mean_is_large():
    """The sum of squares less the square of the sum would leave no digit."""
    values = np.random.default_rng(0).normal(1e6, 1, (50, 40, 2))
    total = Moments.of(values[:20]).merged(Moments.of(values[20:])).merged(Moments.of(np.full((3, 3, 2), np.nan)))
    np.testing.assert_allclose(total.std, values.std(axis=(0, 1)), rtol=1e-9)
    np.testing.assert_array_equal(total.count, [2000, 2000])


def test_the_tool(run_tool, tiles, tmp_path):  # noqa: F811
    count, mean, std = expected(tiles)
    (tiles / '12.npy').write_bytes(b'no array')
    code, out, err = run_tool('channel_stats', tiles, '--mode', 'array', '--channels', 4, '--nodata', 0,
                              '--workers', 0, '--out', tmp_path / 'new/stats.json')
    assert code == 0, out + err
    found = json.loads((tmp_path / 'new/stats.json').read_text())
    np.testing.assert_allclose([found['mean'], found['std']], [mean, std], rtol=1e-5)
    assert found['count'] == [count] * 4 and found['images'] == 12 and f'mean={found["mean"]}' in out
    (path, reason), = found['bad_images']
    assert path.endswith('12.npy') and reason in out and '1 images could not be read' in out
    config = tmp_path / 'config.py'
    config.write_text(f"train_dataloader = dict(dataset=dict(type='mae_plugin.UnlabelledImages', mode='array', "
                      f"channels=4, arrays=dict(nodata=0), data_root={str(tiles)!r}, pipeline=[]))")
    code, of_config, err = run_tool('channel_stats', config, '--workers', 0)
    assert code == 0 and of_config == out, of_config + err
    code, out, _ = run_tool('channel_stats', config, '--workers', 0, '--channels', 2, '--bands', 3, 0)
    assert code == 0 and f'mean={[found["mean"][3], found["mean"][0]]}' in out
    config.write_text("train_dataloader = dict(dataset=dict(type='CustomDataset'))")
    code, _, err = run_tool('channel_stats', config)
    assert code == 1 and 'train_dataloader.dataset of CustomDataset' in err
