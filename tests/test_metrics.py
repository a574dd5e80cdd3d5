import math

import pytest

from mae_plugin.engine import MaskedReconstruction


@pytest.mark.parametrize('data_range', [255, 10_000])
def test_loss_and_psnr_are_means_over_images(data_range):
    metric = MaskedReconstruction(data_range)
    metric.process({}, [dict(masked_loss=.5, masked_mse=10.)])
    metric.process({}, [dict(masked_loss=1., masked_mse=20.), dict(masked_loss=3., masked_mse=120.)])
    result = metric.evaluate(3)
    assert math.isclose(result['mae/masked_loss'], 1.5)
    assert math.isclose(result['mae/psnr'], 10 * math.log10(data_range**2 / 50))


def test_without_pixels_there_is_no_psnr():
    metric = MaskedReconstruction()
    metric.process({}, [dict(masked_loss=.5), dict(masked_loss=1.)])
    assert metric.evaluate(2) == {'mae/masked_loss': .75}


def test_images_without_data_are_left_out():
    metric = MaskedReconstruction()
    metric.process({}, [dict(masked_loss=.5, masked_mse=10.), dict(masked_loss=math.nan, masked_mse=math.nan)])
    found = metric.evaluate(2)
    assert math.isclose(found['mae/masked_loss'], .5)
    assert math.isclose(found['mae/psnr'], 10 * math.log10(255**2 / 10))
