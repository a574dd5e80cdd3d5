"""kNN classification: the votes against brute force, features and labels in order, and the hook in a pretraining."""

import json
import math

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.structures import BaseDataElement
from PIL import Image
from tiny.tools import ROOT, run_tool  # noqa: F401
from torch import nn
from torch.utils.data import DataLoader

from mae_plugin.engine import knn
from mae_plugin.engine.knn import extract_features, knn_accuracy, knn_scores
from mae_plugin.utils.run_config import load_config
from mae_plugin.weights.safe_load import load_file

PRETRAIN = ROOT / 'configs/pretrain/mae_vit-mini-p8_digits-knn.py'


def test_two_neighbours_by_hand():
    """Cosines 1 and 0.6 of three: e^(1/T) for class 1, e^(0.6/T) for class 0, up to a common factor."""
    bank = torch.tensor([[3., 0.], [.6, .8], [-1., 0.]])
    scores = knn_scores(bank, torch.tensor([1, 0, 0]), torch.tensor([[5., 0.]]), num_classes=3, k=2, temperature=.2)
    torch.testing.assert_close(scores / scores[0, 1], torch.tensor([[math.exp((.6 - 1) / .2), 1., 0.]]))


@pytest.mark.parametrize('chunk_size', [1, 7, 100])
def test_equals_brute_force(chunk_size):
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(50, 6, generator=generator), torch.randn(20, 6, generator=generator)
    labels = torch.randint(0, 4, (50, ), generator=generator)
    expected = torch.zeros(20, 4)
    for i, query in enumerate(queries):
        near = sorted(((query @ other / query.norm() / other.norm()).item(), int(label))
                      for other, label in zip(bank, labels, strict=True))[-5:]
        for similarity, label in near:
            expected[i, label] += math.exp(similarity / .1)
    scores = knn_scores(bank, labels, queries, 4, k=5, temperature=.1, chunk_size=chunk_size)
    torch.testing.assert_close(scores / scores.sum(1, keepdim=True), expected / expected.sum(1, keepdim=True))


def test_a_low_temperature_is_the_nearest_neighbour():
    generator = torch.Generator().manual_seed(1)
    bank, queries = torch.randn(30, 4, generator=generator), torch.randn(9, 4, generator=generator)
    scores = knn_scores(bank, torch.arange(30), queries, 30, k=30, temperature=1e-4)
    assert scores.isfinite().all()
    assert torch.equal(scores.argmax(1), nn.functional.cosine_similarity(queries[:, None], bank, dim=2).argmax(1))


@pytest.mark.parametrize('settings, message', [
    (dict(k=4), 'k=4 is not in 1 to 3'), (dict(k=0), 'k=0'), (dict(k=1, temperature=0.), 'temperature=0.0')])
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        knn_scores(torch.eye(3), torch.arange(3), torch.eye(3), 3, **settings)


class Preprocessor(nn.Module):
    def forward(self, data, training):
        assert not training
        return data


class Backbone(nn.Module):
    """Tokens: twice the number of the image first, then its number and its number + 2."""

    def forward(self, inputs):
        assert not self.training
        return (torch.stack([2 * inputs, inputs, inputs + 2], dim=1)[..., None].float(), )


def tiny_model():
    model = nn.Module()
    model.data_preprocessor, model.backbone = Preprocessor(), Backbone()
    return model


def loader(count, rank=None):
    """Images that are their numbers, as the share of a rank."""
    class Numbers(list):
        def __getitem__(self, index):
            path = f'/x/{index % 3}/{index}.jpg'
            return dict(inputs=index, data_samples=BaseDataElement(metainfo=dict(img_path=path)))

    dataset = Numbers(range(count))
    sampler = DefaultSampler(dataset, shuffle=False)
    if rank is not None:
        sampler.rank, sampler.world_size = rank, 2
        sampler.num_samples, sampler.total_size = math.ceil(count / 2), 2 * math.ceil(count / 2)
    return DataLoader(dataset, batch_size=3, sampler=sampler, collate_fn=lambda samples: dict(
        inputs=torch.tensor([s['inputs'] for s in samples]), data_samples=[s['data_samples'] for s in samples]))


@pytest.mark.parametrize('feature, expected', [
    ('cls_token', 2 * torch.arange(7)), ('avg_featmap', 1 + torch.arange(7))])
def test_features_and_labels_are_in_the_order_of_the_data_set(feature, expected):
    model, state = tiny_model(), torch.get_rng_state()
    features, labels = extract_features(model, loader(7), feature)
    assert torch.equal(features[:, 0], expected.float()) and labels == [str(i % 3) for i in range(7)]
    assert model.training and torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="feature='mean' is not one of"):
        extract_features(model, loader(7), 'mean')


def test_two_ranks_see_what_one_sees(monkeypatch):
    """Of seven images each rank has four, the last of which is a repetition."""
    shares = [extract_features(tiny_model(), loader(7, rank)) for rank in range(2)]
    assert [len(labels) for _, labels in shares] == [4, 4]
    monkeypatch.setattr(knn, 'all_gather', lambda _: [features for features, _ in shares])
    monkeypatch.setattr(knn, 'all_gather_object', lambda _: [labels for _, labels in shares])
    features, labels = extract_features(tiny_model(), loader(7, 0))
    assert features[:, 0].tolist() == [0, 2, 4, 6, 8, 10, 12] and labels == [str(i % 3) for i in range(7)]


def test_queries_of_an_unknown_class_are_refused():
    with pytest.raises(ValueError, match='no class 2'):
        knn_accuracy(tiny_model(), loader(2), loader(5), k=1)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Scenes without labels, and two classes of pictures of one colour, below the folder the test runs in."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for number in range(6):
            colour = rng.integers(0, 40, 3) + (200 if number % 2 else 0)
            pixels = np.broadcast_to(colour.astype(np.uint8), (96, 96, 3))
            for folder in ('pretrain', 'classification'):
                path = tmp_path / 'data/digit_scenes' / folder / split / 'dark light'.split()[number % 2]
                path.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path / f'{number}.jpg')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_hook_reports_with_the_validation_and_changes_no_training(folders, run_tool):  # noqa: F811
    small = ['prepare_data=None', 'model.backbone.depth=1', 'train_dataloader.num_workers=0', 'param_scheduler=[]',
             'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0', 'train_cfg.max_iters=4',
             'train_cfg.val_interval=2', 'train_dataloader.batch_size=2', 'default_hooks.checkpoint.interval=4']
    hook = ['custom_hooks.0.k=3', 'custom_hooks.0.bank.num_workers=0', 'custom_hooks.0.query.num_workers=0']
    for name, options in dict(with_knn=hook, without=['custom_hooks=[]']).items():
        code, out, err = run_tool('train', PRETRAIN, '--work-dir', name, '--cfg-options', *small, *options)
        assert code == 0, out + err
    lines = next((folders / 'with_knn').glob('*/vis_data/scalars.json')).read_text().splitlines()
    found = [json.loads(line) for line in lines if 'knn/top1' in line]
    assert [(line['step'], line['knn/top1']) for line in found] == [(2, 100.), (4, 100.)]  # bright from dark
    assert 'mae/masked_loss' in found[0]
    states = [load_file(folders / name / 'iter_4.pth')['state_dict'] for name in ('with_knn', 'without')]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_the_tool_reads_any_checkpoint_of_the_encoder(folders, run_tool, tiny_mae):  # noqa: F811
    """One of pretraining, the encoder alone under the authors' names, and one that was fine-tuned on the mean."""
    pytest.importorskip('mmpretrain')
    options = ['prepare_data=None', 'model.backbone.depth=3', 'model.backbone.img_size=64',
               'model.backbone.num_heads=3', 'model.backbone.patch_size=16', 'model.backbone.embed_dim=48',
               'val_dataloader.num_workers=0',
               *(f'{part}_dataloader.dataset.metainfo.classes=[dark,light]' for part in ('train', 'val'))]
    encoder = tiny_mae.backbone.state_dict()
    pooled = {name.replace('norm.', 'fc_norm.') if name.startswith('norm.') else name: value
              for name, value in encoder.items()}
    files = dict(pretrained=dict(state_dict=tiny_mae.state_dict()), authors=dict(model=encoder),
                 finetuned=dict(state_dict={f'backbone.{name}': value for name, value in pooled.items()}))
    for name, checkpoint in files.items():
        torch.save(checkpoint, f'{name}.pth')
        code, out, err = run_tool('knn', ROOT / 'configs/classification/vit-mini_digits.py', f'{name}.pth', '--k', 3,
                                  '--feature', 'avg_featmap', '--cfg-options', *options)
        assert code == 0 and 'kNN, k=3: 100.00 % top-1' in out, out + err


def test_the_tool_sees_through_a_share_of_the_labels(folders, run_tool, tiny_mae):  # noqa: F811
    """Four of six labelled pictures, two of each class: with ``k=5`` there are too few."""
    pytest.importorskip('mmpretrain')
    cfg = load_config(ROOT / 'configs/classification/vit-mini_digits.py', [
        'prepare_data=None', 'model.backbone.depth=3', 'model.backbone.img_size=64', 'model.backbone.num_heads=3',
        'model.backbone.patch_size=16', 'model.backbone.embed_dim=48', 'val_dataloader.num_workers=0',
        *(f'{part}_dataloader.dataset.metainfo.classes=[dark,light]' for part in ('train', 'val'))])
    cfg.train_dataloader.dataset = dict(
        type='mae_plugin.LabelShare', share=.6, seed=0, dataset=cfg.train_dataloader.dataset)
    cfg.dump('shared.py')
    torch.save(dict(state_dict=tiny_mae.state_dict()), 'x.pth')
    code, out, err = run_tool('knn', 'shared.py', 'x.pth', '--k', 4)
    assert code == 0 and 'kNN, k=4: ' in out, out + err
    code, _, err = run_tool('knn', 'shared.py', 'x.pth', '--k', 5)
    assert code == 1 and 'k=5 is not in 1 to 4' in err
