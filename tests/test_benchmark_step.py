"""Comparing training steps: the gate, the parts of a step, tables, and what goes wrong."""

import json

import pytest
import torch
from mmengine.config import Config
from tiny.tools import load_tool, run_tool  # noqa: F401

from mae_plugin.benchmark import contenders, parity, report, suite
from mae_plugin.benchmark import session as session_module
from mae_plugin.benchmark.contenders import PluginContender, check_dtype, variant_options
from mae_plugin.benchmark.loaders import data_options
from mae_plugin.benchmark.session import PARTS, LocalSession, RemoteSession, Session, Spec
from mae_plugin.benchmark.step import measure, times_as_fast
from mae_plugin.utils.run_config import load_config

CONFIG = 'configs/pretrain/mae_vit-base-p16_in1k.py'
TINY = list(suite._TINY)


@pytest.fixture
def cfg():
    return load_config(CONFIG, [*TINY, 'optim_wrapper.dtype=float32'])


@pytest.fixture(autouse=True)
def no_large_product(monkeypatch):
    monkeypatch.setattr(session_module, 'matmul_rate', lambda *args, **kwargs: 1e12)


def quiet_measure(cfg, specs, **kwargs):
    defaults = dict(batches=[2], rounds=2, steps=1, gate_batch=2, say=lambda text: None)
    return measure(cfg, specs, **{**defaults, **kwargs})


def gate(cfg, variant='', spoil=None, dtype='float32', tmp_path=None):
    """Parity of a variant, after ``spoil(model)``."""
    imgs = contenders.images_of(cfg, 2, 1, 'cpu')[0]
    contender = PluginContender(cfg, contenders.built_model(cfg).state_dict(), 2, dtype, tmp_path, variant)
    if spoil:
        spoil(contender.model)
    return parity.compare(parity.plain_step(cfg, imgs), parity.contender_step(contender, imgs), dtype)


@pytest.mark.parametrize('variant', ['', 'no-grouped', 'with_cp', 'plain', 'plain-order'])
def test_variants_compute_what_the_plain_path_computes(cfg, variant, tmp_path):
    found = gate(cfg, variant, tmp_path=tmp_path)
    assert found.failed == [] and found.loss <= 1e-6 and found.worst <= 1e-5


def test_half_precision_passes_by_its_own_limits(cfg, tmp_path):
    found = gate(cfg, dtype='bfloat16', tmp_path=tmp_path)
    assert found.failed == [] and found.gradient > 1e-5


def rescale_loss(model):
    loss = model.loss
    model.loss = lambda *args: {name: 1.001 * value for name, value in loss(*args).items()}


def drop_a_gradient(model):
    model.neck.mask_token.register_hook(torch.zeros_like)


def freeze(model):
    model.backbone.cls_token.requires_grad_(False)


@pytest.mark.parametrize('spoil, dtype, said', [
    (rescale_loss, 'float32', 'loss'), (rescale_loss, 'bfloat16', 'loss'), (drop_a_gradient, 'float32', 'mask_token'),
    (lambda model: model.backbone.blocks[0].norm1.weight.data.mul_(2), 'bfloat16', 'cosine'),
    (freeze, 'float32', 'cls_token (only one has it)')])
def test_the_gate_catches_a_contender_that_computes_something_else(cfg, spoil, dtype, said, tmp_path):
    assert said in ' '.join(gate(cfg, spoil=spoil, dtype=dtype, tmp_path=tmp_path).failed)


def test_a_step_of_the_gate_leaves_the_weights_alone(cfg, tmp_path):
    state = contenders.built_model(cfg).state_dict()
    contender = PluginContender(cfg, state, 2, 'float32', tmp_path)
    parity.contender_step(contender, contenders.images_of(cfg, 2, 1, 'cpu')[0], warmup=2)
    assert all(torch.equal(value, state[name]) for name, value in contender.model.state_dict().items())


def test_mmpretrain_and_the_plugin_agree_and_are_compared(cfg, tmp_path):
    pytest.importorskip('mmpretrain')
    specs = [Spec('plugin'), Spec('mmpretrain', 'bfloat16'), Spec('mmpretrain-merged')]
    result = quiet_measure(cfg, specs, curves=3)
    rows = {row['name']: row for row in result['rows']}
    assert set(rows) == {'plugin', 'mmpretrain', 'mmpretrain-merged', 'plugin (again)'}
    assert all(not row['parity']['failed'] and len(row['seconds']) == 2 for row in rows.values())
    assert [level['dtype'] for level in rows['mmpretrain']['parity']['levels']] == ['float32', 'bfloat16']
    curves = result['curves']
    assert curves['plugin float32'] == pytest.approx(curves['mmpretrain-merged float32'], rel=1e-6)
    assert curves['plugin float32'] == pytest.approx(curves['mmpretrain bfloat16'], rel=1e-3)
    report.write(result, tmp_path, 'step')
    assert json.loads((tmp_path / 'step.json').read_text()) == result
    table = (tmp_path / 'step.md').read_text()
    assert table.count('| mmpretrain bfloat16 |') >= 2 and 'encoder backward' in table


def test_parts_of_a_step_add_up_to_it(cfg):
    session = Session(Spec('plugin'), cfg.to_dict(), 2)
    session.warm_up(1)
    parts = session.split(rounds=2)
    assert tuple(parts) == PARTS and all(value > 0 for value in parts.values())
    session.contender.model.forward = lambda *args, **kwargs: dict(loss=session.contender.model.neck.mask_token.sum())
    assert session.split(rounds=1) is None  # what never passes the ends cannot be split
    session.close()


def test_the_loop_and_the_bare_step(cfg):
    session = Session(Spec('plugin'), cfg.to_dict(), 2)
    times = session.loop(steps=2, rounds=3)
    assert len(times['in_loop']) == len(times['bare']) == 3 and min(times['in_loop'] + times['bare']) > 0
    session.close()


def test_a_process_of_its_own_answers_as_the_same_process(cfg):
    answers = []
    for kind in (LocalSession, RemoteSession):
        session = kind(Spec('plugin'), cfg.to_dict(), 2)
        session.call('curve', 2)
        answers.append(session.result())
        session.call('nothing')
        with pytest.raises(RuntimeError, match="has no attribute 'nothing'"):
            session.result()
        session.close()
    assert answers[0] == pytest.approx(answers[1], rel=1e-6)


def test_a_process_of_its_own_has_loader_workers(cfg, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '2')  # a core is left for one
    session = RemoteSession(Spec('plugin', 'float32', 'prefetch'), cfg.to_dict(), 2)
    session.call('gate', 2)
    assert session.result()['failed'] == []
    session.close()


def test_a_loop_of_other_losses_has_no_parity(cfg, monkeypatch):
    """Prefetching is in the loop alone."""
    losses = iter([[1., 1.00001], [1., 1.]])
    monkeypatch.setattr(session_module, 'losses_in_loop', lambda *args: next(losses))
    session = Session(Spec('plugin', 'float32', 'prefetch'), cfg.to_dict(), 2)
    assert session.gate(2)['failed'] == ['float32 losses in the loop 1.0e-05 (limit 1e-06)']
    session.close()


def test_each_parity_is_kept_at_once(cfg):
    """A suite cuts off what takes too long; the pieces after it need what was found."""
    saved = []
    quiet_measure(cfg, [Spec('plugin'), Spec('plugin', variant='plain')], gate_only=True, save=saved.append)
    assert [[row['name'] for row in result['rows']] for result in saved] == [['plugin'], ['plugin', 'plugin plain']]
    assert all(row['parity']['failed'] == [] for row in saved[-1]['rows'])


def test_a_contender_that_fails_leaves_the_others_alone(cfg, monkeypatch):
    wrong = Spec('plugin', variant='wrong:model.neck.decoder_depth=0')
    result = quiet_measure(cfg, [Spec('plugin'), wrong])
    errors = {row['name']: row.get('error') for row in result['rows']}
    assert errors['plugin'] is None and 'decoder_depth=0' in errors['plugin wrong']
    assert 'decoder_depth=0' in report.markdown(result)


def test_a_model_of_another_size_is_no_contender(cfg):
    result = quiet_measure(cfg, [Spec('plugin'), Spec('plugin', variant='ratio:model.masking.mask_ratio=0.5')])
    row = result['rows'][-1]
    assert row['error'] == 'no parity' and not row.get('seconds') and row['parity']['failed']


def test_a_batch_that_does_not_fit_says_what_would(cfg, monkeypatch):
    turn = Session.turn

    def scarce(self, steps):
        if self.spec.variant:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return turn(self, steps)
    monkeypatch.setattr(Session, 'turn', scarce)
    rows = quiet_measure(cfg, [Spec('plugin'), Spec('plugin', 'float32', 'no-grouped')], batches=[4])['rows']
    assert rows[1]['error'] == 'does not fit at batch 4: try batch 2, +model.backbone.with_cp=True, bfloat16'
    assert len(rows[0]['seconds']) == 2


def test_ratios_are_taken_round_by_round():
    slow, fast = dict(seconds=[2., 4., 8.]), dict(seconds=[1., 1., 4.])
    assert times_as_fast(fast, slow) == (2., 2., 4.)


@pytest.mark.parametrize('spec, said', [
    (Spec('timm'), "no contender 'timm': there are plugin, mmpretrain"),
    (Spec('plugin', 'float16'), 'float16: the CPU has float32, bfloat16'),
    (Spec('plugin', variant='warp'), "no variant 'warp': there are compile"),
    (Spec('authors', clone='/nowhere'), '--authors /nowhere: there is no models_mae.py')])
def test_what_cannot_be_compared_is_said_before_anything_is_built(cfg, spec, said):
    if spec.dtype and torch.cuda.is_available():
        pytest.skip('a GPU has it')
    with pytest.raises(ValueError, match=said):
        quiet_measure(cfg, [spec])


def test_variants_by_name():
    assert variant_options('no-compile') == ['default_hooks.fast.compile=False']
    on = variant_options('fast')
    assert variant_options('fast-compile') == [*on, 'default_hooks.fast.compile=False']
    assert variant_options('fast+cuda_graph') == [*on, 'default_hooks.fast.cuda_graph=True']
    assert variant_options('mine:a.b=[1,2],+c=3') == ['a.b=[1,2]', '+c=3']
    assert variant_options('plain-head') == []


def test_a_config_that_is_no_pretraining():
    with pytest.raises(ValueError, match='a config of pretraining is needed'):
        contenders.built_model(Config(dict(model=dict(type='ImageClassifier'))))


def test_precisions_of_the_cpu():
    check_dtype('bfloat16', 'cpu')
    with pytest.raises(ValueError, match='float32, bfloat16'):
        check_dtype('float16', 'cpu')


def test_the_tool(run_tool, tmp_path):  # noqa: F811
    code, out, err = run_tool('benchmark', 'step', CONFIG, '--batch', 2, '--rounds', 1, '--steps', 1, '--gate-batch', 2,
                              '--dtype', 'float32', '--out', tmp_path, '--cfg-options', *TINY)
    assert code == 0, err
    assert '| plugin | float32 | 2 |' in out and (tmp_path / 'step.json').is_file()
    gates = ['--gates', tmp_path / 'step.json', '--gate-only', '--dtype', 'float32', '--cfg-options', *TINY]
    code, out, err = run_tool('benchmark', 'step', CONFIG, *gates)
    assert code == 0 and 'parity of' not in err and '| plugin | float32 | yes |' in out
    code, _, err = run_tool('benchmark', 'step', CONFIG, '--batch', 0)
    assert code == 1 and '--batch [0]: at least 1 is needed' in err


def test_pieces_of_a_suite_fail_alone(tmp_path, monkeypatch):
    pieces = [suite.Piece('one', 'a scale', ['scaling'], 60), suite.Piece('two', 'no command', ['nothing'], 60),
              suite.Piece('three', 'too long', ['kernels', '--batch', '4096'], .2)]
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'benchmark.py').write_text(
        'import sys, time\nprint("said")\nif "kernels" in sys.argv: time.sleep(60)\nsys.exit("nothing" in sys.argv)')
    outcomes = suite.run(pieces, tmp_path / 'out', 600, tmp_path)
    assert [outcome['outcome'].split(',')[0] for outcome in outcomes] == [
        'done', 'failed with exit code 1', 'cut off after 0 s; what was done by then is kept']
    text = (tmp_path / 'out' / 'summary.md').read_text()
    assert text.count('said') >= 2 and len(json.loads((tmp_path / 'out' / 'summary.json').read_text())) == 3
    assert suite.run(pieces[:1], tmp_path / 'out', 0, tmp_path)[0]['outcome'] == 'no time left'


@pytest.mark.parametrize('pieces, seconds', [
    (suite.gpu_pieces('/clone'), 530), (suite.cpu_pieces('/clone'), 580), (suite.feeding_pieces(True), 530),
    (suite.feeding_pieces(False), 530)])
def test_pieces_have_arguments_that_the_tool_takes(pieces, seconds):
    parse = load_tool('benchmark').parse_args
    for piece in [*pieces, *suite.tried(pieces)]:
        if piece.arguments[0] == 'pytest':
            continue
        args = parse([*piece.arguments, '--out', 'out'])
        for variant in getattr(args, 'variants', []):
            variant_options(variant)
        for mode in getattr(args, 'modes', []):
            data_options(mode)
    assert sum(piece.limit for piece in pieces) <= seconds


def test_a_gpu_is_asked_for(run_tool, tmp_path):  # noqa: F811
    if torch.cuda.is_available():
        pytest.skip('there is one')
    code, _, err = run_tool('benchmark', 'suite', 'gpu', '--out', tmp_path)
    assert code == 1 and 'there is no GPU here; --try' in err
