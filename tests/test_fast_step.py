"""The fast step is the plain step: compiled, as a graph, with batches copied ahead."""

import copy
import gc
import logging
import weakref
from types import SimpleNamespace

import pytest
import torch
import torch._dynamo
from conftest import tiny_mae_cfg
from mmengine.structures import BaseDataElement

from mae_plugin.engine import AutocastOptimWrapper, CUDAGraphRecorder, FastStepHook, GraphedStep, fast_step
from mae_plugin.engine.graphed_step import WARM_UP, why_no_graph
from mae_plugin.models.layers import Attention, Block
from mae_plugin.registry import HOOKS, MODELS


@pytest.fixture
def said(monkeypatch):
    """What the modules say, as (level, text)."""
    lines = []
    for module in ('fast_step', 'graphed_step'):
        monkeypatch.setattr(f'mae_plugin.engine.{module}.print_log',
                            lambda text, logger=None, level=logging.INFO: lines.append((level, text)))
    return lines


@pytest.fixture
def dynamo():
    """Nothing compiled before; dynamo's settings are restored."""
    import torch._functorch.config
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch._dynamo.config.patch(recompile_limit=8, optimize_ddp=True), \
            torch._functorch.config.patch(force_non_lazy_backward_lowering=False):
        yield torch._dynamo.utils.counters['stats']
    torch._dynamo.reset()


def warnings_of(said):
    return [text for level, text in said if level == logging.WARNING]


def batch(i, size=4):
    """Images and keys that are a function of ``i``."""
    generator = torch.Generator().manual_seed(i)
    return dict(inputs=torch.randint(0, 256, (size, 3, 64, 64), dtype=torch.uint8, generator=generator),
                data_samples=[BaseDataElement(metainfo=dict(sample_key=(0, i, j))) for j in range(size)])


def blocks(model):
    return [module for module in model.modules() if isinstance(module, Block)]


def gradients(model):
    """Loss and gradients of one batch."""
    model.zero_grad()
    loss = model(**model.data_preprocessor(batch(0), True), mode='loss')['loss']
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def adamw(model, **kwargs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=2**-10, fused=True)
    return AutocastOptimWrapper(**dict(dict(dtype='float32', optimizer=optimizer), **kwargs))


def trained(model, count, train_step=None, batches=batch):
    """Losses of ``count`` steps with a learning rate that changes in each, and that float32 has exactly."""
    wrapper = adamw(model)
    step = train_step(model, wrapper) if train_step else model.train_step
    losses = []
    for i in range(count):
        wrapper.optimizer.param_groups[0]['lr'] = 2**-15 * (1 + i % 32)
        losses.append(step(batches(i), wrapper)['loss'])
    return torch.stack(losses).detach(), wrapper


# Compiled blocks


@pytest.mark.slow
def test_compiled_blocks_are_the_plain_blocks(dynamo, tiny_mae):
    """By Inductor's C++ code: loss and gradients, then 200 steps. Only the encoder: compiling takes ten seconds."""
    model, plain, names = tiny_mae, copy.deepcopy(tiny_mae), list(tiny_mae.state_dict())
    fast_step.compile_blocks(blocks(model.backbone))
    (loss, grads), (expected_loss, expected) = gradients(model), gradients(plain)
    assert dynamo['unique_graphs'] == 1 and list(model.state_dict()) == names
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
    assert grads.keys() == expected.keys()
    for name, grad in expected.items():
        assert (grads[name] - grad).norm() <= 1e-5 * grad.norm(), name
    losses, expected_losses = (trained(each, 200, batches=lambda i: batch(i % 8))[0] for each in (model, plain))
    torch.testing.assert_close(losses, expected_losses, rtol=1e-3, atol=0)
    assert losses[-8:].mean() < .95 * losses[:8].mean()


@pytest.mark.slow
def test_a_compiled_block_in_bfloat16_is_the_plain_block(dynamo):
    torch.manual_seed(0)
    x = torch.randn(4, 17, 48)
    plain = Block(48, 3, drop_path=.5)
    compiled = copy.deepcopy(plain)
    fast_step.compile_blocks([compiled])
    for block in (plain, compiled):
        torch.manual_seed(1)  # both draw the same
        with torch.autocast('cpu', torch.bfloat16):
            out = block(x)
        out.float().square().mean().backward()
    for (name, p), q in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        assert torch.cosine_similarity(p.grad.flatten(), q.grad.flatten(), dim=0) > .999, name
    assert dynamo['unique_graphs'] == 1


def test_blocks_alike_share_a_compilation_and_validation_has_none(dynamo, tiny_mae):
    fast_step.compile_blocks(blocks(tiny_mae), backend='aot_eager')
    tiny_mae.eval()
    tiny_mae.val_step(batch(0))
    assert not dynamo['unique_graphs']
    tiny_mae.train()
    _, expected = gradients(MODELS.build(tiny_mae_cfg()))
    _, grads = gradients(tiny_mae)
    assert grads.keys() == expected.keys() and dynamo['unique_graphs'] == 3
    assert 'forward' not in vars(copy.deepcopy(tiny_mae).backbone.blocks[0])
    assert copy.deepcopy(tiny_mae).backbone.blocks[0]._compiled_call_impl is None, 'a copy would run the original'


def test_drop_path_of_many_rates_is_compiled_and_draws_the_same(dynamo):
    """More rates than dynamo's own limit of 8."""
    torch.manual_seed(0)
    model = MODELS.build(tiny_mae_cfg(depth=12, drop_path_rate=.5))
    plain = copy.deepcopy(model)
    fast_step.compile_blocks(blocks(model), backend='aot_eager')
    assert torch._dynamo.config.recompile_limit == 32 + 2 * 14
    assert torch._dynamo.config.optimize_ddp is False, 'it would cut blocks in two'
    torch.manual_seed(1)
    loss, _ = gradients(model)
    torch.manual_seed(1)
    expected, _ = gradients(plain)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    assert dynamo['unique_graphs'] == 12 + 2


@pytest.mark.parametrize('drop_path_rate', [0., .5])
def test_activation_checkpointing_is_compiled(dynamo, said, drop_path_rate):
    torch.manual_seed(0)
    model = MODELS.build(tiny_mae_cfg(with_cp=True, drop_path_rate=drop_path_rate))
    plain = copy.deepcopy(model)
    fast_step.compile_blocks(blocks(model), backend='aot_eager')
    torch.manual_seed(1)
    _, grads = gradients(model)
    torch.manual_seed(1)
    _, expected = gradients(plain)
    torch.testing.assert_close(grads, expected, rtol=1e-5, atol=1e-8)
    assert dynamo['unique_graphs'] and not warnings_of(said)


def test_without_a_compiler_the_run_goes_on(dynamo, tiny_mae, said, monkeypatch):
    """One warning with the reason, and the numbers of the plain path."""
    plain = copy.deepcopy(tiny_mae)
    monkeypatch.setattr('torch._inductor.config.cpp.cxx', (None, '/no/compiler'))
    monkeypatch.setattr('torch._inductor.config.force_disable_caches', True)
    fast_step.compile_blocks(blocks(tiny_mae))
    losses, expected = trained(tiny_mae, 2)[0], trained(plain, 2)[0]
    assert torch.equal(losses, expected)
    warning, = warnings_of(said)
    assert 'No working C++ compiler' in warning and 'plain path' in warning
    assert not any(block._compiled_call_impl for block in blocks(tiny_mae))


def test_an_error_in_the_backward_pass_is_found_in_the_forward_pass(dynamo, tiny_mae, said, monkeypatch):
    def no_backward(module, inputs):
        raise RuntimeError('no backward code')
    from torch._dynamo.backends.common import aot_autograd
    broken = aot_autograd(fw_compiler=lambda module, inputs: module, bw_compiler=no_backward)
    fast_step.compile_blocks(blocks(tiny_mae), backend=broken)
    gradients(tiny_mae)
    assert len(warnings_of(said)) == 1 and 'no backward code' in warnings_of(said)[0]


def test_a_batch_that_does_not_fit_is_no_failure_of_the_compiler(dynamo, tiny_mae, said):
    def full(module, inputs):
        raise torch.OutOfMemoryError('CUDA out of memory')
    model_blocks = blocks(tiny_mae)
    fast_step.compile_blocks(model_blocks, backend='eager')
    block = model_blocks[0]
    block._compiled_call_impl = fast_step._in_training(block, full, lambda error: pytest.fail('given up'))
    with pytest.raises(torch.OutOfMemoryError):
        block(torch.zeros(1, 5, 48), None)


# The hook


def run(model, optim_wrapper=None):
    return SimpleNamespace(model=model, optim_wrapper=optim_wrapper)


def test_the_hook_switches_and_says_what_is_on(tiny_mae, said, monkeypatch):
    compiled = []
    monkeypatch.setattr(fast_step, 'compile_blocks', compiled.extend)
    HOOKS.build(dict(type='mae_plugin.FastStepHook')).before_train(run(tiny_mae))
    assert said == [(logging.INFO, 'Fast step: all switches are off.')] and not compiled
    attentions = [module for module in tiny_mae.modules() if isinstance(module, Attention)]
    assert {attention.backend for attention in attentions} == {'default'}
    FastStepHook(compile=True, timed_attention=True).before_train(run(tiny_mae))
    assert said[-1][1] == 'Fast step: 5 compiled blocks, timed attention in 5 layers.'
    assert compiled == blocks(tiny_mae) and {attention.backend for attention in attentions} == {'timed'}


def timm_mae(name='vit_giant_patch14_reg4_dinov2', **changes):
    """With timm's blocks in the encoder."""
    torch.manual_seed(0)
    cfg = tiny_mae_cfg()
    cfg['backbone'] = dict(type='mae_plugin.TimmViT', name=name, img_size=64, patch_size=16, embed_dim=48, depth=3,
                           num_heads=3, freeze_pos_embed=True) | changes
    model = MODELS.build(cfg)
    model.init_weights()
    return model


@pytest.mark.parametrize('changes', [dict(), dict(drop_path_rate=.5, with_cp=True)])
def test_blocks_of_timm_are_compiled(dynamo, said, monkeypatch, changes):
    compile_blocks = fast_step.compile_blocks
    monkeypatch.setattr(fast_step, 'compile_blocks', lambda blocks: compile_blocks(blocks, backend='aot_eager'))
    model = timm_mae(**changes)
    plain = copy.deepcopy(model)
    FastStepHook(compile=True).before_train(run(model))
    assert said[-1][1] == 'Fast step: 5 compiled blocks.'
    torch.manual_seed(1)
    _, grads = gradients(model)
    torch.manual_seed(1)
    _, expected = gradients(plain)
    torch.testing.assert_close(grads, expected, rtol=1e-4, atol=1e-7)
    assert dynamo['unique_graphs'] > 2 and not warnings_of(said)  # more than those of the decoder


def test_a_switch_is_true_or_false():
    with pytest.raises(ValueError, match="default_hooks.fast.compile='no' is neither True nor False"):
        FastStepHook(compile='no')


def test_after_the_run_nothing_holds_the_graph(tiny_mae):
    """The optimizer, which outlives it, would."""
    wrapper = adamw(tiny_mae)
    step = tiny_mae.train_step = graphed(StandIn())(tiny_mae, wrapper)
    for i in range(WARM_UP + 1):
        tiny_mae.train_step(batch(i), wrapper)
    assert step.replay is not None
    FastStepHook().after_train(run(tiny_mae))
    FastStepHook().after_train(run(tiny_mae))  # a run without one
    assert step.replay is None and tiny_mae.train_step is not step
    wrapper.load_state_dict(wrapper.state_dict())
    step = weakref.ref(step)
    gc.collect()
    assert step() is None


def test_a_model_without_blocks_is_left_alone(said):
    FastStepHook(compile=True, timed_attention=True, cuda_graph=True).before_train(run(torch.nn.Linear(2, 2)))
    assert [text.split('=')[0] for text in warnings_of(said)] == ['compile', 'timed_attention', 'cuda_graph']
    assert said[-1][1] == 'Fast step: all switches are off.'


# The step as a graph


class StandIn:
    """For a CUDA graph: what is recorded runs again on the same buffers, and returns its results in place.

    The optimizer's wrapper does not learn of it.
    """

    wrapper = None

    def __init__(self):
        self.warmed_up = self.recorded = self.replayed = 0

    def warm_up(self, step, last=False):
        self.warmed_up += 1
        assert last == (self.warmed_up % WARM_UP == 0)
        return step()

    def record(self, step):
        self.recorded += 1
        static = {}

        def replay():
            self.replayed += 1
            count = self.wrapper._inner_count
            for name, value in step().items():
                static.setdefault(name, torch.empty_like(value)).data.copy_(value)
            self.wrapper._inner_count = count
            return static
        return replay


def graphed(recorder):
    def make(model, wrapper):
        recorder.wrapper = wrapper
        return GraphedStep(model, wrapper, recorder)
    return make


def settings(wrapper):
    """What schedulers, the log and checkpoints see."""
    return wrapper.state_dict()['param_groups']


def equal_models(model, other):
    """Bit by bit."""
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_graphed_steps_are_the_plain_steps(tiny_mae):
    """Parameters, losses and learning rates, with masks by key; losses are no views of one buffer."""
    plain, recorder = copy.deepcopy(tiny_mae), StandIn()
    losses, wrapper = trained(tiny_mae, 20, graphed(recorder))
    expected, plain_wrapper = trained(plain, 20)
    assert torch.equal(losses, expected)
    assert len(set(losses.tolist())) == 20
    equal_models(tiny_mae, plain)
    assert (recorder.warmed_up, recorder.recorded, recorder.replayed) == (WARM_UP, 1, 20 - WARM_UP)
    assert wrapper.inner_count == 20 and settings(wrapper) == settings(plain_wrapper)
    assert type(settings(wrapper)[0]['lr']) is float


def test_graphed_steps_of_timms_blocks_are_the_plain_steps():
    model = timm_mae()
    plain = copy.deepcopy(model)
    losses, _ = trained(model, 6, graphed(StandIn()))
    expected, _ = trained(plain, 6)
    assert torch.equal(losses, expected)
    equal_models(model, plain)


def test_masks_follow_the_keys_of_the_batch(tiny_mae, monkeypatch):
    seen = []
    forward = type(tiny_mae.masking).forward
    monkeypatch.setattr(type(tiny_mae.masking), 'forward',
                        lambda *args: (seen.append(forward(*args)), seen[-1])[1])
    plain = copy.deepcopy(tiny_mae)
    trained(tiny_mae, 6, graphed(StandIn()))
    trained(plain, 6)
    for graph_mask, mask in zip(seen[:6], seen[6:], strict=True):
        assert torch.equal(graph_mask.ids_shuffle, mask.ids_shuffle)
    assert len({tuple(mask.ids_shuffle.flatten().tolist()) for mask in seen}) == 6


def test_without_keys_and_with_lists_of_images(tiny_mae):
    def unkeyed(i):
        return dict(inputs=list(batch(i)['inputs']))
    plain = copy.deepcopy(tiny_mae)
    torch.manual_seed(0)
    losses, _ = trained(tiny_mae, 6, graphed(StandIn()), batches=unkeyed)
    torch.manual_seed(0)
    assert torch.equal(losses, trained(plain, 6, batches=unkeyed)[0])


@pytest.mark.parametrize('short', [1, 5], ids=['before the recording', 'after it'])
def test_a_batch_of_another_shape_takes_the_plain_step(tiny_mae, said, short):
    def batches(i):
        return batch(i, size=3 if i in (short, 8) else 4)
    plain, recorder = copy.deepcopy(tiny_mae), StandIn()
    losses, wrapper = trained(tiny_mae, 10, graphed(recorder), batches=batches)
    assert torch.equal(losses, trained(plain, 10, batches=batches)[0])
    equal_models(tiny_mae, plain)
    assert recorder.replayed == 10 - WARM_UP - 2 and wrapper.inner_count == 10
    warning, = warnings_of(said)
    assert 'a batch of 3 images of [(3, 64, 64)]' in warning and 'drop_last' in warning


def test_a_loaded_state_is_used(tiny_mae):
    """A replay would update the state that was there before."""
    plain, recorder = copy.deepcopy(tiny_mae), StandIn()
    for model, make in ((tiny_mae, graphed(recorder)), (plain, None)):
        wrapper = adamw(model)
        step = make(model, wrapper) if make else model.train_step
        for i in range(5):
            step(batch(i), wrapper)
        saved = copy.deepcopy((model.state_dict(), wrapper.state_dict()))
        for i in range(5, 8):
            step(batch(i), wrapper)
        model.load_state_dict(saved[0])
        wrapper.load_state_dict(saved[1])
        for i in range(5, 11):
            step(batch(i), wrapper)
        state = wrapper.optimizer.state_dict()['state'][0]
        assert state['step'] == 11
    equal_models(tiny_mae, plain)
    assert recorder.recorded == 2


class NoRecording(StandIn):
    def record(self, step):
        raise RuntimeError('operation not permitted when stream is capturing')


class NoOptimizer(StandIn):
    """Fails when there are gradients."""

    def record(self, step):
        def fail():
            raise RuntimeError('operation not permitted when stream is capturing')
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.wrapper, 'step', fail)
            step()


@pytest.mark.parametrize('recorder', [NoRecording, NoOptimizer])
def test_what_cannot_be_recorded_takes_the_plain_step(tiny_mae, said, recorder):
    plain = copy.deepcopy(tiny_mae)
    losses, wrapper = trained(tiny_mae, 8, graphed(recorder()))
    assert torch.equal(losses, trained(plain, 8)[0])
    assert wrapper.inner_count == 8
    warning, = warnings_of(said)
    assert 'not permitted when stream is capturing' in warning and 'plain step' in warning


def test_a_part_that_asks_for_more_than_keys_takes_the_plain_step(tiny_mae, said, monkeypatch):
    """Its data would be that of the recorded batch for ever."""
    seen = []
    monkeypatch.setattr(tiny_mae.head, 'loss', lambda pred, imgs, mask, samples: (
        seen.append([sample.sample_key[1] for sample in samples]), dict(loss=pred.square().mean()))[1])
    trained(tiny_mae, 6, graphed(StandIn()))
    assert seen == [[i] * 4 for i in range(6)] and len(warnings_of(said)) == 1


def test_a_schedule_of_another_setting_takes_the_plain_step(tiny_mae, said):
    plain = copy.deepcopy(tiny_mae)
    for model, make in ((tiny_mae, graphed(StandIn())), (plain, None)):
        wrapper = adamw(model)
        step = make(model, wrapper) if make else model.train_step
        for i in range(8):
            wrapper.optimizer.param_groups[0]['weight_decay'] = .5 if i > 5 else .05
            step(batch(i), wrapper)
    equal_models(tiny_mae, plain)
    warning, = warnings_of(said)
    assert 'other than the learning rate' in warning


def test_an_error_of_the_user_is_not_hidden(tiny_mae, said):
    with pytest.raises(ValueError, match='model.backbone.img_size'):
        trained(tiny_mae, 1, graphed(StandIn()), batches=lambda i: dict(inputs=batch(i)['inputs'][..., :32]))


@pytest.mark.parametrize('changes, reason', [
    (dict(accumulative_counts=2), 'accumulative_counts=2'),
    (dict(clip_grad=dict(max_norm=1.)), 'clip_grad'),
    (dict(dtype='float16'), 'bfloat16'),
    (dict(), None)])
def test_what_a_graph_does_not_serve_is_named(tiny_mae, changes, reason):
    found = why_no_graph(tiny_mae, adamw(tiny_mae, **changes), 'cpu')
    assert found is None if reason is None else reason in found


def test_other_models_and_optimizers_are_named(tiny_mae):
    assert 'Linear is not a mae_plugin.MaskedAutoencoder' in why_no_graph(torch.nn.Linear(1, 1), None)
    assert 'not on a GPU' in why_no_graph(tiny_mae, adamw(tiny_mae))
    sgd = adamw(tiny_mae, optimizer=torch.optim.SGD(tiny_mae.parameters(), lr=1.))
    assert 'SGD has no capturable form' in why_no_graph(tiny_mae, sgd, 'cpu')


# On a GPU


def wrapped(model, dtype='bfloat16'):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    return AutocastOptimWrapper(dtype, optimizer=optimizer)


def on_gpu(data):
    return dict(data, inputs=data['inputs'].pin_memory())


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_recorded_steps_are_the_plain_steps(tiny_mae, dtype):
    model, plain = tiny_mae.cuda(), copy.deepcopy(tiny_mae).cuda()
    losses = []
    for each, make in ((model, graphed(CUDAGraphRecorder())), (plain, None)):
        wrapper = wrapped(each, dtype)
        step = make(each, wrapper) if make else each.train_step
        found = []
        for i in range(20):
            wrapper.optimizer.param_groups[0]['lr'] = 1e-3 * (i + 1) / 20
            found.append(step(on_gpu(batch(i, 3 if i == 10 else 4)), wrapper)['loss'])
        losses.append(torch.stack(found).detach())
        if make:
            assert step.replay is not None and not step.off, 'nothing was recorded'
    tolerance = 1e-6 if dtype == 'float32' else 1e-2
    torch.testing.assert_close(losses[0], losses[1], rtol=tolerance, atol=0)


@pytest.mark.gpu
def test_recorded_steps_never_wait_for_the_device(tiny_mae):
    model = tiny_mae.cuda()
    wrapper = wrapped(model)
    step = GraphedStep(model, wrapper, CUDAGraphRecorder())
    batches = [on_gpu(batch(i)) for i in range(WARM_UP + 4)]
    for data in batches[:WARM_UP + 1]:
        step(data, wrapper)
    torch.cuda.set_sync_debug_mode('error')
    try:
        for data in batches[WARM_UP + 1:]:
            step(data, wrapper)
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.gpu
def test_a_step_that_waits_for_the_device_is_not_recorded(tiny_mae, said, monkeypatch):
    """It would break PyTorch's allocator and generator, without which the plain step cannot go on."""
    model = tiny_mae.cuda()
    loss = model.head.loss
    monkeypatch.setattr(model.head, 'loss', lambda *args: (found := loss(*args), found['loss'].item())[0])
    wrapper = wrapped(model)
    step = GraphedStep(model, wrapper, CUDAGraphRecorder())
    for i in range(WARM_UP + 3):
        step(dict(inputs=batch(i)['inputs'].cuda()), wrapper)  # masks without keys are the generator's
    warning, = warnings_of(said)
    assert step.off and step.replay is None and 'synchronizing' in warning
    assert torch.cuda.get_sync_debug_mode() == 0 and wrapper.inner_count == WARM_UP + 3


@pytest.mark.gpu
def test_a_state_of_steps_that_were_counted_on_the_host_is_recorded(tiny_mae, said):
    """As a run without fused AdamW leaves it."""
    model = tiny_mae.cuda()
    wrapper = AutocastOptimWrapper(optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3))
    for i in range(2):
        model.train_step(on_gpu(batch(i)), wrapper)
    step = GraphedStep(model, wrapper, CUDAGraphRecorder())
    for i in range(2, WARM_UP + 4):
        step(on_gpu(batch(i)), wrapper)
    assert step.replay is not None and not warnings_of(said)
    assert wrapper.optimizer.state_dict()['state'][0]['step'] == WARM_UP + 4


@pytest.mark.gpu
def test_activation_checkpointing_is_recorded(said):
    model = MODELS.build(tiny_mae_cfg(with_cp=True)).cuda()
    wrapper = wrapped(model)
    step = GraphedStep(model, wrapper, CUDAGraphRecorder())
    for i in range(WARM_UP + 2):
        step(on_gpu(batch(i)), wrapper)
    assert step.replay is not None and not warnings_of(said)


@pytest.mark.gpu
@pytest.mark.parametrize('changes', [dict(), dict(with_cp=True)])
def test_steps_of_timms_blocks_are_recorded(said, changes):
    model = timm_mae(**changes).cuda()
    plain = copy.deepcopy(model)
    wrapper, plain_wrapper = wrapped(model, 'float32'), wrapped(plain, 'float32')
    step = GraphedStep(model, wrapper, CUDAGraphRecorder())
    for i in range(WARM_UP + 3):
        loss = step(on_gpu(batch(i)), wrapper)['loss']
        expected = plain.train_step(on_gpu(batch(i)), plain_wrapper)['loss'].detach()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    assert step.replay is not None and not warnings_of(said)


@pytest.mark.gpu
def test_all_switches_together_on_a_gpu(tiny_mae, dynamo, said):
    model, plain = tiny_mae.cuda(), copy.deepcopy(tiny_mae).cuda()
    wrapper, plain_wrapper = wrapped(model, 'float32'), wrapped(plain, 'float32')
    FastStepHook(compile=True, timed_attention=True, cuda_graph=True).before_train(run(model, wrapper))
    for i in range(10):
        loss = model.train_step(on_gpu(batch(i)), wrapper)['loss']
        expected = plain.train_step(on_gpu(batch(i)), plain_wrapper)['loss'].detach()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    assert not warnings_of(said) and model.train_step.replay is not None
