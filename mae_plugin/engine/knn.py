"""Weighted k-nearest-neighbour classification on frozen features: how good pretraining is, without training."""

from pathlib import PurePath

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..registry import HOOKS

FEATURES = ('cls_token', 'avg_featmap')


def knn_scores(bank: Tensor, labels: Tensor, queries: Tensor, num_classes: int, k: int = 20, temperature: float = 0.07,
               chunk_size: int = 256) -> Tensor:
    """Votes of the k images of the bank that are most like each query (Wu et al., 2018; DINO's setting).

    A neighbour of cosine similarity s votes for its class with the weight ``exp(s / temperature)``.

    Args:
        bank: Features (N, C), of any length.
        labels: Their classes (N,), from 0.
        queries: Features (Q, C).
        num_classes: Number of classes.
        k: Neighbours that vote.
        temperature: The lower, the more the nearest count.
        chunk_size: Queries compared at a time, which takes ``chunk_size * N`` numbers of memory.

    Returns:
        Scores (Q, num_classes): sums of the weights, all of a query divided by the same number.

    Raises:
        ValueError: The bank has fewer than ``k`` images, or ``k`` or ``temperature`` is not positive.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f'kNN: k={k} is not in 1 to {len(bank)}, the number of labelled images')
    if temperature <= 0:
        raise ValueError(f'kNN: temperature={temperature} is not positive')
    bank, scores = F.normalize(bank.float()).T, []
    for chunk in queries.split(chunk_size):
        similarity, neighbours = (F.normalize(chunk.float()) @ bank).topk(k)
        # Less the greatest, as in a softmax: exp(1 / 0.01) would be no float.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        scores.append(weights.new_zeros(len(chunk), num_classes).scatter_add_(1, labels[neighbours], weights))
    return torch.cat(scores)


@torch.no_grad()
def extract_features(model: nn.Module, loader: DataLoader, feature: str = 'cls_token') -> tuple[Tensor, list]:
    """Features (N, C) of a data set on the model's device, and labels, in its order; the same on every rank.

    Args:
        model: With a ``data_preprocessor``, and a ``backbone`` that returns tokens (B, 1 + L, C) or features (B, C).
        loader: Over the data set without shuffling. A label is ``gt_label`` of a sample, as mmpretrain's data sets
            give it, or the name of the folder that the image lies in.
        feature: Of tokens the class token, ``'cls_token'``, or the mean of the others, ``'avg_featmap'``.

    Raises:
        ValueError: ``feature`` is another.
    """
    if feature not in FEATURES:
        raise ValueError(f'kNN: feature={feature!r} is not one of {FEATURES}')
    training, features, labels = model.training, [], []
    model.eval()
    with torch.random.fork_rng(devices=[]):  # the loader draws a seed
        for batch in loader:
            imgs = model.data_preprocessor(batch, False)['inputs']
            if getattr(model.data_preprocessor, 'nodata', False):
                imgs = imgs.nan_to_num(0)  # as in pretraining
            tokens = model.backbone(imgs)[-1]
            if tokens.ndim == 3:
                tokens = tokens[:, 0] if feature == 'cls_token' else tokens[:, 1:].mean(dim=1)
            features.append(tokens)
            labels += [_label(sample) for sample in batch['data_samples']]
    model.train(training)
    # DefaultSampler gives image i to rank i modulo their number, and repeats the first images to make shares equal.
    count = len(loader.dataset)
    features = torch.stack(all_gather(torch.cat(features)), dim=1).flatten(0, 1)[:count]
    shares = all_gather_object(labels)
    return features, [label for group in zip(*shares, strict=True) for label in group][:count]


def knn_accuracy(model: nn.Module, bank: DataLoader, query: DataLoader, k: int = 20, temperature: float = 0.07,
                 feature: str = 'cls_token') -> float:
    """Share of the images of ``query``, in percent, that those of ``bank`` classify rightly; the same on every rank.

    Args:
        model: As for :func:`extract_features`.
        bank: Labelled images.
        query: Images to classify.
        k: As for :func:`knn_scores`.
        temperature: As for :func:`knn_scores`.
        feature: As for :func:`extract_features`.

    Raises:
        ValueError: A class of ``query`` is none of ``bank``, or as the two functions.
    """
    (features, names), (queries, truth) = (extract_features(model, loader, feature) for loader in (bank, query))
    classes = {name: number for number, name in enumerate(sorted(set(names)))}
    unknown = sorted(set(truth) - classes.keys())
    if unknown:
        raise ValueError(f'kNN: the labelled images have no class {unknown[0]} ({len(unknown)} such): both data sets '
                         'need the same folders of classes')
    labels, truth = (torch.tensor([classes[name] for name in part], device=queries.device) for part in (names, truth))
    share = slice(get_rank(), None, get_world_size())  # each rank classifies its part
    predicted = knn_scores(features, labels, queries[share], len(classes), k, temperature).argmax(dim=1)
    right = (predicted == truth[share]).sum().double()
    all_reduce(right)
    return 100 * right.item() / len(truth)


def _label(sample) -> int | str:
    """The class of a data sample."""
    if 'gt_label' in sample:
        return int(sample.gt_label)
    return PurePath(sample.img_path).parent.name


def build_loader(loader: dict) -> DataLoader:
    """A loader for features: the config of one, which needs no sampler."""
    return Runner.build_dataloader({
        'num_workers': 0, 'collate_fn': dict(type='default_collate'), **loader,
        'sampler': dict(type='DefaultSampler', shuffle=False), 'persistent_workers': False})


@HOOKS.register_module()
class KNNHook(Hook):
    """Measure pretraining as it goes on: kNN accuracy on frozen features, at every validation.

    ``knn/top1``, in percent, joins the metrics of the validation, and so the log, ``scalars.json`` and TensorBoard.
    Training is the same with and without it. In several processes each takes its share of the images.

    The data sets may be ``mae_plugin.UnlabelledImages`` of a folder with a subfolder for each class, or any that give
    ``gt_label``, as mmpretrain's. Transforms without randomness, as ``mae_plugin.ResizeCenterCrop``, belong to both.

    Args:
        bank: Config of the loader of the labelled images: ``batch_size``, ``dataset``, ``num_workers``.
        query: Likewise, of the images to classify.
        k: Neighbours that vote.
        temperature: The lower, the more the nearest count.
        feature: ``'cls_token'``, or ``'avg_featmap'`` for the mean of the patch tokens.
    """

    priority = 'HIGHEST'  # before the hooks that log the metrics

    def __init__(self, bank: dict, query: dict, k: int = 20, temperature: float = 0.07,
                 feature: str = 'cls_token') -> None:
        self.loaders = (bank, query)
        self.settings = dict(k=k, temperature=temperature, feature=feature)

    def before_run(self, runner) -> None:
        """Build the data sets, so that a wrong path is found before training."""
        self.loaders = [build_loader(loader) if isinstance(loader, dict) else loader for loader in self.loaders]

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Add ``knn/top1`` to ``metrics``."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        metrics['knn/top1'] = knn_accuracy(model, *self.loaders, **self.settings)

    after_test_epoch = after_val_epoch
