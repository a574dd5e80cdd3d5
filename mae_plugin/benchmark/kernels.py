"""The kernels that a step is made of, one by one: attention at the shapes of MAE, and its matrix products."""

from collections.abc import Sequence

import torch

from mae_plugin.benchmark.matmul import matmul_rate
from mae_plugin.models.attention import time_backends
from mae_plugin.utils.timing import seconds

# Model and part: tokens, width, heads of attention, and the (inputs, outputs) of linear layers beside the blocks'.
SHAPES = {
    'B encoder': (50, 768, 12, [(768, 512)]), 'L encoder': (50, 1024, 16, [(1024, 512)]),
    'H encoder': (65, 1280, 16, [(1280, 512)]), 'decoder': (197, 512, 16, [(512, 768)]),
    'H decoder': (257, 512, 16, [(512, 588)])}


def attention_times(batch: int, device: str, dtype: torch.dtype, parts: Sequence[str] = tuple(SHAPES)) -> list[dict]:
    """Milliseconds of each attention backend, forward and backward; those that do not run are left out."""
    rows = []
    for part in parts:
        tokens, width, heads, _ = SHAPES[part]
        shape = (batch, heads, tokens, width // heads)
        q, k, v = (torch.randn(batch, tokens, heads, width // heads, device=device, dtype=dtype)
                   .transpose(1, 2).requires_grad_() for _ in range(3))
        times = {name: 1e3 * value for name, value in time_backends(q, k, v).items()}
        rows.append(dict(part=part, shape=shape, ms=times, best=min(times, key=times.get)))
    return rows


def product_rates(batch: int, device: str, dtype: torch.dtype, parts: Sequence[str] = tuple(SHAPES)) -> list[dict]:
    """FLOP/s of the three products of each linear layer (forward, input gradient, weight gradient)."""
    peak = matmul_rate(device, dtype)
    rows = []
    for part in parts:
        tokens, width, _, others = SHAPES[part]
        rows_of_input = batch * tokens
        for inputs, outputs in [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width), *others]:
            x = torch.randn(rows_of_input, inputs, device=device, dtype=dtype)
            weight = torch.randn(outputs, inputs, device=device, dtype=dtype)
            y = torch.randn(rows_of_input, outputs, device=device, dtype=dtype)
            products = dict(forward=lambda x=x, w=weight: x @ w.T, input_gradient=lambda y=y, w=weight: y @ w,
                            weight_gradient=lambda x=x, y=y: y.T @ x)
            flops = 2. * rows_of_input * inputs * outputs
            rates = {name: flops / sorted(seconds(product, device, 5, warmup=1))[2]
                     for name, product in products.items()}
            rows.append(dict(part=part, m=rows_of_input, k=inputs, n=outputs, rates=rates))
    return [dict(row, peak=peak) for row in rows]


def markdown(attention: Sequence[dict], products: Sequence[dict]) -> str:
    """Both as tables."""
    names = list(dict.fromkeys(name for row in attention for name in row['ms']))
    lines = ['Attention, forward and backward, ms (– does not run):', '',
             '| part | (batch, heads, tokens, width) | ' + ' | '.join(names) + ' | best |',
             '| --- ' * (3 + len(names)) + '|']
    lines += [f"| {row['part']} | {row['shape']} | " + ' | '.join(
        f"{row['ms'][name]:.4g}" if name in row['ms'] else '–' for name in names) + f" | {row['best']} |"
        for row in attention]
    kinds = list(products[0]['rates'])
    lines += ['', f"Linear layers, TFLOP/s (share of the large product, {products[0]['peak'] / 1e12:.4g}):", '',
              '| part | M | K | N | ' + ' | '.join(kind.replace('_', ' ') for kind in kinds) + ' |',
              '| --- ' * (4 + len(kinds)) + '|']
    lines += [f"| {row['part']} | {row['m']} | {row['k']} | {row['n']} | " + ' | '.join(
        f"{row['rates'][kind] / 1e12:.4g} ({row['rates'][kind] / row['peak']:.0%})" for kind in kinds) + ' |'
        for row in products]
    return '\n'.join(lines) + '\n'
