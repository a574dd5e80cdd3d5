import pytest
import torch

from mae_plugin.models.attention import BACKENDS, _fastest, attend, time_backends
from mae_plugin.models.layers import Attention


def tensors(dtype=torch.float64, queries=5, keys=7, requires_grad=True):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, dtype=dtype, requires_grad=requires_grad) for n in (queries, keys, keys))
    return q, k, v, torch.randn(1, 3, queries, keys, dtype=dtype, requires_grad=requires_grad)


@pytest.mark.parametrize('with_bias', [False, True])
@pytest.mark.parametrize('backend', ['default', 'timed', 'matmul', 'math'])
def test_backends_are_the_formula(backend, with_bias):
    q, k, v, bias = tensors()
    if not with_bias:
        bias = None
    inputs = [x for x in (q, k, v, bias) if x is not None]
    weights = torch.einsum('bhmd,bhnd->bhmn', q, k) / 8**.5
    weights = (weights if bias is None else weights + bias).exp()
    expected = torch.einsum('bhmn,bhnd->bhmd', weights / weights.sum(-1, keepdim=True), v)
    found = attend(q, k, v, bias, backend)
    torch.testing.assert_close(found, expected)
    seed = torch.randn_like(expected)
    torch.testing.assert_close(torch.autograd.grad(found, inputs, seed), torch.autograd.grad(expected, inputs, seed))


@pytest.fixture(autouse=True)
def nothing_timed_before():
    _fastest.clear()
    yield
    _fastest.clear()


def test_an_unknown_backend_names_the_known():
    with pytest.raises(ValueError, match="backend='fa9' is not one of .*'timed', 'matmul'"):
        attend(*tensors(), backend='fa9')


def test_a_shape_is_timed_once_and_the_fastest_is_kept(monkeypatch):
    calls = []

    def timed(q, k, v, bias):
        calls.append((q.shape, q.requires_grad, None if bias is None else bias.requires_grad))
        return dict(default=2., matmul=1., flash=3.)
    monkeypatch.setattr('mae_plugin.models.attention.time_backends', timed)
    used = []
    monkeypatch.setattr('mae_plugin.models.attention.F.scaled_dot_product_attention',
                        lambda *args, **kwargs: used.append(1))
    q, k, v, bias = tensors(torch.float32)
    for _ in range(3):
        attend(q, k, v, bias, 'timed')
    with torch.no_grad():
        attend(q, k, v, None, 'timed')
    assert calls == [(q.shape, True, True), (q.shape, False, None)]
    assert not used, 'the slower kernel was used'


def test_images_of_ever_new_sizes_stop_being_timed(monkeypatch):
    monkeypatch.setattr('mae_plugin.models.attention.MAX_TIMED', 2)
    timed = []
    monkeypatch.setattr('mae_plugin.models.attention.time_backends',
                        lambda q, *args: timed.append(q.size(2)) or dict(default=2., matmul=1.))
    for queries in (3, 4, 5, 4, 6):
        args = tensors(queries=queries)
        torch.testing.assert_close(attend(*args, backend='timed'), attend(*args))
    assert timed == [3, 4] and [*_fastest.values()] == ['matmul'] * 2


@pytest.mark.parametrize('matmul, chosen', [(.95, 'default'), (.8, 'matmul')])
def test_noise_does_not_choose(monkeypatch, matmul, chosen):
    monkeypatch.setattr('mae_plugin.models.attention.time_backends', lambda *args: dict(default=1., matmul=matmul))
    attend(*tensors(), backend='timed')
    assert [*_fastest.values()] == [chosen]


def test_where_nothing_can_be_timed_pytorch_chooses(monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError
    monkeypatch.setattr('mae_plugin.models.attention.time_backends', full)
    q, k, v, bias = tensors()
    torch.testing.assert_close(attend(q, k, v, bias, 'timed'), attend(q, k, v, bias))


def test_kernels_that_do_not_serve_a_case_are_left_out():
    times = time_backends(*tensors(torch.float32, requires_grad=False), rounds=1)
    assert {'default', 'matmul', 'math'} <= times.keys() <= set(BACKENDS)
    assert 'cudnn' not in times, 'there is none on the CPU'
    assert all(seconds > 0 for seconds in times.values())


def test_what_is_timed_lies_in_memory_as_in_the_model(monkeypatch):
    """A kernel that copies heads pays for it."""
    seen = []
    monkeypatch.setattr('mae_plugin.models.attention.time_backends',
                        lambda q, k, v, bias: seen.append((q, k, v)) or dict(default=1.))
    model = Attention(24, 3)
    q, k, v = model._heads(model.qkv(torch.randn(2, 7, 24)), 3)
    attend(q, k, v, backend='timed')
    for fake, real in zip(seen[0], (q, k, v), strict=True):
        assert fake.shape == real.shape and fake.is_leaf and fake.requires_grad
        assert sorted(range(4), key=fake.stride) == sorted(range(4), key=real.stride)


def test_the_time_of_the_backward_pass_counts(monkeypatch):
    steps = []
    monkeypatch.setattr('torch.autograd.grad', lambda out, inputs, seed: steps.append(len(inputs)))
    q, k, v, bias = tensors(torch.float32)
    time_backends(q, k, v, bias, rounds=1)
    assert steps and set(steps) == {4}


@pytest.mark.parametrize('best', ['default', 'matmul', 'math', 'flash'])
def test_compiled_attention_is_timed_before_it_is_traced(best, monkeypatch):
    """Whatever is the fastest; a graph break would be an error."""
    monkeypatch.setattr('mae_plugin.models.attention.time_backends', lambda *args: {'default': 2., best: 1.})
    torch._dynamo.reset()
    torch.manual_seed(0)
    attention = Attention(24, 3)
    x = torch.randn(2, 6, 24)
    expected = attention(x)
    attention.backend = 'timed'
    compiled = torch.compile(attention, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    assert [*_fastest.values()] == [best]
