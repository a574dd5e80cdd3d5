"""Pretraining on many GPUs, on paper: what a step takes from its measured parts, and which of them is the limit."""

from collections.abc import Sequence
from dataclasses import dataclass

IMAGENET_22K, BILLION = 14_200_000, 1_000_000_000
COMPUTE_BOUND = .8
_HOURS = 3600.


@dataclass(frozen=True)
class Model:
    """What one GPU does.

    Attributes:
        name: For tables.
        parameters: Trained ones.
        images_per_second: At large batches, forward, backward and update.
        fixed: Seconds of a step whatever the batch: reading and writing weights and moments, and casts.
    """

    name: str
    parameters: float
    images_per_second: float
    fixed: float


@dataclass(frozen=True)
class Cluster:
    """What connects the GPUs, and feeds them.

    Attributes:
        gpus_per_node: GPUs that NVLink connects.
        nvlink: Bytes a second that an all-reduce moves through a GPU within a node (its bus bandwidth).
        network: The same between nodes, for each GPU.
        latency: Seconds that a message takes from node to node.
        bucket: Bytes of gradients that are exchanged at once; the last one has no computation to hide behind.
        loader: Images a second that the processors of a node decode and crop.
    """

    gpus_per_node: int = 8
    nvlink: float = 350e9
    network: float = 40e9
    latency: float = 10e-6
    bucket: float = 25e6
    loader: float = 85_600.


@dataclass(frozen=True)
class Step:
    """A step on many GPUs.

    Attributes:
        gpus: How many.
        batch: Images of each.
        compute: Seconds of the arithmetic.
        exchange: Seconds of the all-reduce.
        exposed: Those of them that no computation hides.
        loading: Seconds to load the images.
        seconds: Of the step.
        efficiency: Images a second over those of as many GPUs at large batches.
        limit: ``compute`` where it takes :data:`COMPUTE_BOUND` of the step or more; else what takes most of the rest:
            ``gradients`` (their exchange), ``update`` (of the weights) or ``loader``.
    """

    gpus: int
    batch: float
    compute: float
    exchange: float
    exposed: float
    loading: float
    seconds: float
    efficiency: float
    limit: str


# Predictions, for an H200: the goals of the project and the optimizer's traffic at 4.3 TB/s. None of it is measured.
PREDICTED = (Model('ViT-B/16', 111.7e6, 7500., 1.04e-3), Model('ViT-L/16', 329.2e6, 3800., 3.06e-3),
             Model('ViT-H/14', 656.6e6, 1700., 6.11e-3))


def all_reduce(size: float, gpus: int, cluster: Cluster) -> float:
    """Seconds to average ``size`` bytes: summed within the nodes, then between them, each GPU its share, and back."""
    local = min(gpus, cluster.gpus_per_node)
    nodes = -(-gpus // cluster.gpus_per_node)
    within = 2 * (local - 1) / local * size / cluster.nvlink
    between = 2 * (nodes - 1) / nodes * size / local / cluster.network + 2 * (nodes - 1).bit_length() * cluster.latency
    return within + between


def step(model: Model, gpus: int, batch: float, cluster: Cluster) -> Step:
    """A step of ``batch`` images on each of ``gpus``.

    Gradients are exchanged in float32 while the backward pass, two thirds of the arithmetic, goes on; what is left,
    at least the last bucket, adds to the step. Loading goes on beside it all.
    """
    arithmetic = batch / model.images_per_second
    size = 4 * model.parameters
    exchange = exposed = 0.
    if gpus > 1:
        buckets = max(1, round(size / cluster.bucket))
        exchange = buckets * all_reduce(size / buckets, gpus, cluster)
        exposed = max(exchange - 2 / 3 * arithmetic, exchange / buckets)
    loading = batch / (cluster.loader / cluster.gpus_per_node)
    training = arithmetic + model.fixed + exposed
    seconds = max(training, loading)
    if arithmetic >= COMPUTE_BOUND * seconds:
        limit = 'compute'
    elif loading > training:
        limit = 'loader'
    else:
        limit = 'gradients' if exposed > model.fixed else 'update'
    return Step(gpus, batch, arithmetic, exchange, exposed, loading, seconds, arithmetic / seconds, limit)


def gpu_hours(model: Model, images: float, gpus: int, batch: float, cluster: Cluster) -> float:
    """GPU-hours to train on ``images`` images."""
    return images / batch * step(model, gpus, batch, cluster).seconds / _HOURS


def compute_bound_until(model: Model, total: int, cluster: Cluster) -> int:
    """The most GPUs, a power of two, up to which a step of ``total`` images is bound by computing; 0 for none."""
    fitting = [gpus for gpus in (2**i for i in range(11))
               if gpus <= total and step(model, gpus, total / gpus, cluster).limit == 'compute']
    return max(fitting, default=0)


def markdown(models: Sequence[Model], cluster: Cluster, gpus: Sequence[int], batch: int, total: int,
             label: str) -> str:
    """The tables of ``docs/scaling.md``.

    Args:
        models: The models.
        cluster: The cluster.
        gpus: Numbers of GPUs.
        batch: Images of each GPU in the first table.
        total: Images of all GPUs in the second.
        label: Where the figures of ``models`` come from.
    """
    node = cluster.gpus_per_node
    lines = [
        f'Of one GPU ({label}): ' + ', '.join(
            f'{model.name} {model.images_per_second:,.0f} images/s and {model.fixed * 1e3:.2f} ms a step'
            for model in models) + '.',
        f'Of the cluster (assumed): {node} GPUs a node, all-reduce at {cluster.nvlink / 1e9:g} GB/s within a node and '
        f'{cluster.network / 1e9:g} GB/s a GPU between nodes, {cluster.latency * 1e6:g} µs a message, buckets of '
        f'{cluster.bucket / 1e6:g} MB, {cluster.loader:,.0f} images/s from the loaders of a node.', '']
    for title, per_gpu in ((f'{batch} images on each GPU', lambda count: batch),
                           (f'{total} images on all GPUs, as the recipe has it', lambda count: total / count)):
        lines += [f'### {title}', '', '| GPUs | ' + ' | '.join(
            f'{model.name}: images/s | efficiency | limit' for model in models) + ' |',
            '| --- ' * (1 + 3 * len(models)) + '|']
        for count in gpus:
            if per_gpu(count) < 1:
                continue
            cells = []
            for model in models:
                found = step(model, count, per_gpu(count), cluster)
                cells.append(f'{count * found.batch / found.seconds:,.0f} | {found.efficiency:.0%} | {found.limit}')
            lines.append(f'| {count} | ' + ' | '.join(cells) + ' |')
        lines.append('')
    until = ', '.join(f'{compute_bound_until(model, total, cluster)} GPUs ({model.name})' for model in models)
    names = ' | '.join(model.name for model in models)
    lines += [f'{total} images on all GPUs are bound by computing up to {until}.', '', '### GPU-hours', '',
              f'| images | GPUs, images on each | {names} |', '| --- ' * (2 + len(models)) + '|']
    for name, images in ((f'ImageNet-22k ({IMAGENET_22K / 1e6:g} M), one pass', IMAGENET_22K),
                         ('ImageNet-22k, 100 passes', 100 * IMAGENET_22K), ('a billion images, one pass', BILLION)):
        for count, each in ((node, batch), (64, total // 64)):
            lines.append(f'| {name} | {count}, {each} | ' + ' | '.join(
                f'{gpu_hours(model, images, count, each, cluster):,.1f}' for model in models) + ' |')
    return '\n'.join(lines) + '\n'
