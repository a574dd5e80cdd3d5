import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from mae_plugin.models import PatchMask, RandomMasking
from mae_plugin.models.masking import hash_noise, sample_keys
from mae_plugin.registry import MODELS


def test_patch_mask_by_hand():
    mask = PatchMask.from_scores(torch.tensor([[.4, .1, .9, .3]]), 2, (2, 2))
    assert mask.ids_keep.tolist() == [[1, 3]]
    assert mask.ids_pred.tolist() == [[0, 2]]
    assert mask.ids_restore.tolist() == [[2, 0, 3, 1]]
    assert mask.mask.tolist() == [[1, 0, 1, 0]]


def test_restore_undoes_shuffle():
    mask = PatchMask.from_scores(torch.rand(3, 30), 7, (5, 6))
    assert torch.equal(mask.ids_shuffle.gather(1, mask.ids_restore), torch.arange(30).expand(3, -1))
    assert (mask.mask.sum(1) == 23).all()


@pytest.mark.parametrize('ratio, L, kept', [(.75, 196, 49), (.75, 256, 64), (.9, 196, 19), (.6, 196, 78)])
def test_number_kept_is_truncated_as_the_authors_do(ratio, L, kept):
    assert RandomMasking(ratio)(torch.zeros(1, 3, 1, 1), (1, L)).ids_keep.size(1) == kept


@pytest.mark.parametrize('ratio', [0, 1, -.1, 75])
def test_ratio_outside_is_refused(ratio):
    with pytest.raises(ValueError, match=f'got {ratio}'):
        RandomMasking(ratio)


def test_a_grid_without_a_patch_to_keep_is_refused():
    with pytest.raises(ValueError, match='keeps 0'):
        RandomMasking(.9)(torch.zeros(1, 3, 1, 1), (3, 3))


def test_without_keys_it_is_one_torch_rand():
    torch.manual_seed(3)
    expected = torch.rand(2, 16)
    torch.manual_seed(3)
    mask = RandomMasking(.75)(torch.zeros(2, 3, 8, 8), (4, 4))
    assert torch.equal(mask.ids_shuffle, expected.argsort(1))
    after = torch.rand(1)
    torch.manual_seed(3)
    torch.rand(2, 16)
    assert torch.equal(after, torch.rand(1))


def sample(*key):
    return BaseDataElement(metainfo=dict(sample_key=key))


def test_with_keys_the_mask_depends_on_nothing_else():
    masking = RandomMasking(.75)
    samples = [sample(0, 2, i) for i in range(6)]
    whole = masking(torch.zeros(6, 3, 8, 8), (4, 4), samples).ids_shuffle
    torch.manual_seed(99)
    parts = [masking(torch.zeros(2, 3, 8, 8), (4, 4), samples[i:i + 2]).ids_shuffle for i in (0, 2, 4)]
    assert torch.equal(whole, torch.cat(parts))
    for other in (sample(1, 2, 0), sample(0, 3, 0), sample(0, 2, 1)):
        assert not torch.equal(whole[:1], masking(torch.zeros(1, 3, 8, 8), (4, 4), [other]).ids_shuffle)


def test_keys_may_come_as_one_tensor_by_name():
    samples, imgs = [sample(3, 2, i) for i in range(6)], torch.zeros(6, 3, 8, 8)
    keys = sample_keys(samples)
    assert keys.tolist() == [[3, 2, i] for i in range(6)] and sample_keys([BaseDataElement()]) is None
    expected = RandomMasking(.75)(imgs, (4, 4), samples).ids_shuffle
    assert torch.equal(RandomMasking(.75)(imgs, (4, 4), dict(sample_key=keys)).ids_shuffle, expected)


def test_a_key_for_some_samples_only_is_refused():
    with pytest.raises(ValueError, match='1 of 2 samples have a sample_key'):
        RandomMasking(.75)(torch.zeros(2, 3, 8, 8), (4, 4), [sample(0, 0, 0), BaseDataElement()])


def test_hash_is_splitmix64():
    """An independent computation with NumPy's unsigned integers."""
    def mix(z):
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return z ^ z >> np.uint64(31)

    gamma = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over='ignore'):
        state = np.uint64(0)
        for part in (5, 7, 2**40 + 1):
            state = mix(np.uint64(state + np.uint64(part) + gamma))
        expected = mix(state + np.arange(1, 51, dtype=np.uint64) * gamma)
    assert hash_noise(torch.tensor([(5, 7, 2**40 + 1)]), 50)[0].numpy().view(np.uint64).tolist() == expected.tolist()


def test_hash_is_uniform_over_patches_and_samples():
    noise = hash_noise(torch.tensor([(0, 0, i) for i in range(4000)]), 16)
    kept = PatchMask.from_scores(noise, 4, (4, 4)).mask.eq(0).float()
    share = kept.mean(0)
    assert (share - .25).abs().max() < .03  # four standard deviations
    correlation = torch.corrcoef(kept.T) - torch.eye(16)
    assert (correlation + torch.eye(16) * correlation.diag() + 1 / 15).abs().max() < .08


@pytest.mark.gpu
def test_hash_has_the_same_bits_on_the_gpu():
    keys = torch.tensor([(3, 1, i) for i in range(64)])
    for given in (keys, keys.cuda()):
        assert torch.equal(hash_noise(keys, 196), hash_noise(given, 196, 'cuda').cpu())


def test_the_masking_of_the_readme_keeps_the_edge():
    text = (Path(__file__).parents[1] / 'README.md').read_text()
    start = text.index('    import torch\n')
    example = textwrap.dedent(text[start:text.index('\nThe lowest scores', start)])
    namespace = {}
    try:
        exec(example, namespace)
        mask = namespace['CentreMasking'](mask_ratio=.75)(torch.zeros(2, 3, 32, 32), (4, 4))
    finally:
        MODELS.module_dict.pop('CentreMasking', None)
    assert mask.ids_keep.sort(dim=1).values.tolist() == [[0, 3, 12, 15]] * 2  # the corners of 4x4 patches
