"""Scaled dot-product attention by the kernel that is fastest for a shape."""

import statistics
import warnings
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..utils.timing import seconds

_KERNELS = {
    'flash': SDPBackend.FLASH_ATTENTION,
    'efficient': SDPBackend.EFFICIENT_ATTENTION,
    'cudnn': SDPBackend.CUDNN_ATTENTION,
    'math': SDPBackend.MATH,
}
BACKENDS = ('default', 'timed', 'matmul', *_KERNELS)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, backend: str = 'default',
           scale: float | None = None) -> Tensor:
    """softmax(scale q k' + bias) v.

    Args:
        q: Queries (B, heads, M, d).
        k: Keys (B, heads, N, d).
        v: Values (B, heads, N, c).
        bias: What is added to the logits, broadcast to (B, heads, M, N).
        backend: ``default`` is PyTorch's own choice among its kernels; ``flash``, ``efficient``, ``cudnn`` and ``math``
            are these; ``matmul`` is two matrix products with a softmax between them; ``timed`` tries all of them once
            for each shape and keeps the fastest. All compute the same but for rounding.
        scale: 1 / sqrt(d) by default.

    Returns:
        (B, heads, M, c).

    Raises:
        ValueError: If ``backend`` is another.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend='{backend}' is not one of {BACKENDS}")
    if backend == 'timed':
        train = torch.is_grad_enabled() and q.requires_grad
        bias_facts = None if bias is None else (tuple(bias.shape), bias.dtype, train and bias.requires_grad)
        backend = fastest(tuple(q.shape), tuple(k.shape), tuple(v.shape), q.dtype, str(q.device), train, bias_facts)
    if backend == 'matmul':
        logits = (q * (scale or q.size(-1)**-0.5)) @ k.transpose(-2, -1)
        # A softmax in half precision sums in float32 all the same, and is rounded before the product in any case.
        return (logits if bias is None else logits + bias).softmax(dim=-1).to(v.dtype) @ v
    extra = q.size(-1) - v.size(-1)
    if extra and (backend == 'flash' or backend == 'default' and q.device.type == 'cpu'):
        # Flash attention, on the CPU the only fused kernel, wants one width.
        return attend(q, k, F.pad(v, (0, extra)), bias, backend, scale)[..., :-extra]
    with nullcontext() if backend == 'default' else sdpa_kernel(_KERNELS[backend]):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


MAX_TIMED = 64  # shapes: images of ever new sizes would never stop being timed
_fastest: dict[tuple, str] = {}


@torch.compiler.assume_constant_result  # asked while a compiler traces, not when its code runs
def fastest(q_shape: tuple[int, ...], k_shape: tuple[int, ...], v_shape: tuple[int, ...], dtype: torch.dtype,
            device: str, train: bool, bias: tuple | None = None) -> str:
    """The backend that takes least time for such tensors, forward and, with ``train``, backward; timed once.

    After :data:`MAX_TIMED` shapes it is ``default`` for others.

    Args:
        q_shape: Shape of the queries.
        k_shape: Shape of the keys.
        v_shape: Shape of the values.
        dtype: Type of all three.
        device: Where they are.
        train: Whether gradients are needed.
        bias: Shape and type of the bias and whether it needs a gradient, or None.
    """
    case = (q_shape, k_shape, v_shape, dtype, device, train, bias)
    if case not in _fastest and len(_fastest) < MAX_TIMED:
        _fastest[case] = _time_case(*case)
    return _fastest.get(case, 'default')


def _time_case(q_shape: tuple, k_shape: tuple, v_shape: tuple, dtype: torch.dtype, device: str, train: bool,
               bias: tuple | None) -> str:
    generator = torch.Generator(device).manual_seed(0)

    def tensor(shape, dtype, requires_grad):
        return torch.randn(shape, generator=generator, dtype=dtype, device=device).requires_grad_(requires_grad)

    try:
        # As heads lie in the output of a linear layer, (B, N, heads, d): some kernels make a copy of that.
        q, k, v = (tensor((B, N, heads, d), dtype, False).transpose(1, 2).requires_grad_(train)
                   for B, heads, N, d in (q_shape, k_shape, v_shape))
        bias = None if bias is None else tensor(*bias)
        times = time_backends(q, k, v, bias)
    except torch.OutOfMemoryError:  # no room to try: leave it to PyTorch
        times = {}
    best = min(times, key=times.get, default='default')
    if times.get('default', 0) < 1.1 * times.get(best, 1):  # within the noise: the same choice in every run
        best = 'default'
    found = ', '.join(f'{name} {1e3 * value:.3g} ms' for name, value in sorted(times.items(), key=lambda x: x[1]))
    print_log(f'Attention of queries {q_shape} and keys {k_shape}, {dtype} on {device}: {best} ({found}).',
              logger='current')
    return best


def time_backends(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, rounds: int = 7) -> dict[str, float]:
    """Median seconds of :func:`attend` with each backend that runs here, forward and backward where it is asked for."""
    steps = {}
    for name in ('default', 'matmul', *_KERNELS):
        step = _step(q, k, v, bias, name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # PyTorch gives its reasons twice
                step()  # warm-up, and the sieve: a kernel that does not serve this case, or has no room, raises
        except RuntimeError:
            continue
        steps[name] = step
    times = {name: [] for name in steps}
    for _ in range(rounds):  # interleaved, so that what disturbs one disturbs all
        for name, step in steps.items():
            times[name] += seconds(step, q.device, rounds=1)
    return {name: statistics.median(values) for name, values in times.items()}


def _step(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, backend: str) -> Callable[[], None]:
    inputs = [x for x in (q, k, v, bias) if x is not None and x.requires_grad]

    def step() -> None:
        with torch.set_grad_enabled(bool(inputs)):
            out = attend(q, k, v, bias, backend).transpose(1, 2).flatten(2)  # for the next linear layer
            if inputs:
                torch.autograd.grad(out, inputs, torch.ones_like(out))
    return step
