import pytest
import torch
from torch import nn

from mae_plugin.models import PlainViT
from mae_plugin.models.layers import Block, draw_kept


class Masked(nn.Module):
    """Drop path as it is usually done, for given samples."""

    def __init__(self, kept, keep):
        super().__init__()
        self.kept, self.keep = kept, keep

    def forward(self, x):
        scale = x.new_zeros(len(x), 1, 1)
        scale[self.kept] = 1 / self.keep
        return x * scale


def block(**options):
    torch.manual_seed(0)
    found = Block(24, 2, init_values=.5, drop_path=.3, drop_path_skips=True, **options).double().train()
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=.3)
    return found


def vit(**options):
    torch.manual_seed(0)
    model = PlainViT(32, 8, embed_dim=24, depth=3, num_heads=2, out_type='featmap', with_cls_token=False, **options)
    model.init_weights()
    return model


@pytest.mark.parametrize('options', [{}, dict(window_size=3), dict(with_cp=True), dict(residual_conv=True)])
@pytest.mark.parametrize('kept', [[], [1], [0, 2, 3], [0, 1, 2, 3]])
def test_equals_multiplying_by_zero(monkeypatch, kept, options):
    skipping, masked = block(**options), block(**options)
    monkeypatch.setattr('mae_plugin.models.layers.draw_kept', lambda *args: torch.tensor(kept, dtype=torch.long))
    masked.drop_path = Masked(kept, .7)
    results = []
    for model in (skipping, masked):
        torch.manual_seed(1)
        x = torch.randn(4, 20, 24, dtype=torch.float64, requires_grad=True)
        y = model(x, (4, 5))
        results.append([y, *torch.autograd.grad(y, [x, *model.parameters()], torch.randn_like(y))])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_dropped_branches_are_not_computed(monkeypatch):
    monkeypatch.setattr('mae_plugin.models.layers.draw_kept', lambda *args: torch.tensor([0, 2]))
    model, seen = block(), []
    for part in (model.attn, model.mlp):
        part.register_forward_hook(lambda part, args, out: seen.append(len(out)))
    model(torch.randn(5, 4, 24).double())
    model.eval()(torch.randn(5, 4, 24).double())
    assert seen == [2, 2, 5, 5]


def test_each_sample_is_kept_on_its_own():
    torch.manual_seed(0)
    drawn = torch.zeros(4000, 5)
    for row in drawn:
        row[draw_kept(5, .7, row.device)] = 1
    error = (.7 * .3 / 4000)**.5
    assert (drawn.mean(0) - .7).abs().max() < 4 * error
    others = torch.corrcoef(drawn.t()) - torch.eye(5)
    assert others.abs().max() < 4 / 4000**.5


def test_each_branch_draws_for_itself_with_its_own_rate(monkeypatch):
    calls = []
    monkeypatch.setattr('mae_plugin.models.layers.draw_kept',
                        lambda batch, keep, device: calls.append((batch, keep)) or torch.arange(batch))
    vit(drop_path_rate=.4, drop_path_skips=True).train()(torch.randn(2, 3, 32, 32))
    assert calls == [(2, pytest.approx(.8))] * 2 + [(2, pytest.approx(.6))] * 2


def test_evaluation_is_unchanged():
    imgs = torch.randn(2, 3, 32, 32)
    assert torch.equal(vit(drop_path_rate=.5, drop_path_skips=True).eval()(imgs)[0], vit().eval()(imgs)[0])


def test_checkpointing_drops_the_same_again():
    found = []
    for with_cp in (False, True):
        model = vit(drop_path_rate=.5, drop_path_skips=True, with_cp=with_cp).train()
        torch.manual_seed(4)
        model(torch.ones(6, 3, 32, 32))[0].square().sum().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*found)


def test_under_bf16_the_residual_stream_keeps_its_type():
    for bf16, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        model = vit(drop_path_rate=.5, drop_path_skips=True, bf16_residual=bf16).train()
        with torch.autocast('cpu', torch.bfloat16):
            assert model(torch.randn(4, 3, 32, 32))[0].dtype == dtype


def test_a_compiled_model_skips_nothing(monkeypatch):
    monkeypatch.setattr('mae_plugin.models.layers.draw_kept', None)
    model = block()
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    x = torch.randn(64, 4, 24).double()
    attended = compiled(x) != x
    share = attended.flatten(1).any(1).double().mean()  # a sample stays as it is where both branches are dropped
    assert .7 < share < 1


@pytest.mark.gpu
def test_the_draw_does_not_wait_for_the_device():
    model = vit(drop_path_rate=.5, drop_path_skips=True).cuda().train()
    imgs = torch.randn(4, 3, 32, 32, device='cuda')
    torch.cuda.set_sync_debug_mode('error')
    try:
        for _ in range(8):
            model(imgs)[0].sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')
