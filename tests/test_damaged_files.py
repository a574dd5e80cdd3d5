"""Damaged and foreign files of every kind: none loads in silence, each answer names file, expectation and finding."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import timm
import torch
from conftest import tiny_mae_cfg
from safetensors.torch import save_file

from mae_plugin.models import PlainViT
from mae_plugin.registry import MODELS
from mae_plugin.utils.hashing import file_sha256
from mae_plugin.weights.convert import convert
from mae_plugin.weights.files import CARD_KEY, SHA256_KEY, content_sha256, save_safetensors
from mae_plugin.weights.formats import FORMATS, from_plugin
from mae_plugin.weights.inspection import inspect_checkpoint

SIZES = dict(img_size=64, embed_dim=48, depth=3, num_heads=3)


class Runs:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def content_of(name, state):
    """What a ``.pth`` file of the format holds, for our names ``state``."""
    tensors, homeless = from_plugin(state, name)
    assert not homeless
    container = FORMATS[name].container
    return {container: tensors} if container else tensors


def tensors_of(content):
    return next((content[key] for key in ('state_dict', 'model') if key in content), content)


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def flips(data, count, start, end):
    """``data`` with one flipped bit, at ``count`` places between ``start`` and ``end``."""
    for i in range(count):
        place = start + (end - start) * i // count
        yield data[:place] + bytes([data[place] ^ 1 << i % 8]) + data[place + 1:]


def damaged_in_bytes(name, state, folder):
    """Flipped bits and cuts, in the two kinds of files."""
    data = saved(content_of(name, state))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    start = data.index(largest.filename.encode()) + len(largest.filename) + 64  # after its alignment
    for i, other in enumerate(flips(data, 5, start, start + largest.file_size - 64)):
        yield f'flip{i}.pth', other
    for i in range(5):
        yield f'cut{i}.pth', data[:len(data) * (2 * i + 1) // 10]
    save_safetensors(folder / 'whole.safetensors', tensors_of(content_of(name, state)), None)
    data = (folder / 'whole.safetensors').read_bytes()
    for i, other in enumerate(flips(data, 5, len(data) // 3, len(data))):
        yield f'flip{i}.safetensors', other
    for i in range(4):
        yield f'cut{i}.safetensors', data[:len(data) * (2 * i + 1) // 8]


def damaged_in_names(name, state):
    """Renamed, missing and surplus tensors, other values and sizes; all are files that can be read."""
    tensors = tensors_of(content_of(name, state))
    blocks = [key for key in tensors if '.0.' in key and tensors[key].dim()]
    for i, key in enumerate(blocks[::4]):
        yield f'renamed{i}', {other if other != key else f'{key}_': value for other, value in tensors.items()}
        yield f'missing{i}', {other: value for other, value in tensors.items() if other != key}
    key = blocks[2]
    for what, value in (('nan', torch.full_like(tensors[key], torch.nan)),
                        ('infinite', torch.full_like(tensors[key], torch.inf)),
                        ('longer', torch.cat([tensors[key], tensors[key]])), ('empty', tensors[key][:0])):
        yield what, tensors | {key: value}
    last = [key for key in tensors if '.1.' in key or '.2.' in key]
    yield 'half', {key: value for key, value in tensors.items() if key not in last}
    yield 'embeddings', {key: value for key, value in tensors.items() if '.0.' in key or key in last}


def foreign():
    """Other models and other things."""
    yield 'resnet.pth', saved(timm.create_model('resnet18').state_dict())
    yield 'swin.pth', saved(dict(model=timm.create_model('swin_tiny_patch4_window7_224').state_dict()))
    yield 'convnext.pth', saved(timm.create_model('convnext_atto').state_dict())
    yield 'optimizer.pth', saved(dict(optimizer=dict(state={}), meta=dict(iter=3)))
    yield 'list.pth', saved([torch.zeros(3)])
    yield 'tensor.pth', saved(torch.zeros(3))
    yield 'empty_dict.pth', saved({})
    yield 'number.pth', saved(dict(state_dict=3))
    yield 'empty.pth', b''
    yield 'text.pth', b'not a checkpoint\n' * 100
    yield 'page.pth', b'<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>'
    yield 'pointer.pth', b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 342\n'
    yield 'image.pth', b'\x89PNG\r\n\x1a\n' + bytes(200)
    yield 'page.safetensors', b'<!DOCTYPE html><html></html>'
    yield 'empty.safetensors', b''
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('readme.txt', 'weights')
    yield 'archive.pth', archive.getvalue()
    for i, function in enumerate((eval, exec, os.system, os.mkdir, getattr, __import__, print, open)):
        for where, content in (('top', Runs(function, 'x')), ('weights', dict(state_dict={'a': Runs(function, 'x')})),
                               ('meta', dict(model={'blocks.0.a': torch.zeros(1)}, meta=Runs(function, 'x')))):
            if function is not getattr:
                yield f'hostile{i}_{where}.pth', saved(content)
                yield f'hostile{i}_{where}_old.pth', pickle.dumps(content)


@pytest.fixture(scope='module')
def state():
    model = MODELS.build(tiny_mae_cfg()).backbone
    torch.manual_seed(0)
    return {f'backbone.{name}': torch.randn_like(value) for name, value in model.state_dict().items()}


def refusal(path, **sizes):
    """The message with which a backbone refuses the file."""
    model = PlainViT(**SIZES | sizes, init_cfg=dict(type='mae_plugin.MAEPretrained', checkpoint=str(path)))
    with pytest.raises(ValueError) as error:
        model.init_weights()
    return str(error.value)


@pytest.mark.parametrize('name', FORMATS)
def test_damaged(name, state, tmp_path):
    for file, data in damaged_in_bytes(name, state, tmp_path):
        (tmp_path / file).write_bytes(data)
        message = refusal(tmp_path / file)
        assert str(tmp_path / file) in message
        assert 'cut off or damaged' in message, message
    for what, tensors in damaged_in_names(name, state):
        for suffix, save in (('pth', torch.save), ('safetensors', lambda value, path: save_file(
                {key: item.clone() for key, item in value.items()}, path))):
            path = tmp_path / f'{what}.{suffix}'
            save(tensors, path)
            message = refusal(path)
            assert str(path) in message
            said = {'renamed': 'lacks|holds', 'missing': 'lacks', 'nan': 'NaN or inf', 'infinite': 'NaN or inf',
                    'longer': 'size', 'empty': 'size', 'half': 'lacks', 'embeddings': 'lacks|another model'}
            wanted = next(text for kind, text in said.items() if what.startswith(kind))
            assert any(text in message for text in wanted.split('|')), (what, message)


@pytest.mark.parametrize('sizes', [dict(embed_dim=96), dict(depth=4), dict(depth=2), dict(patch_size=8, img_size=32),
                                   dict(in_chans=1), dict(img_size=128), dict(mlp_ratio=2.)], ids=str)
@pytest.mark.parametrize('name', FORMATS)
def test_other_sizes(name, sizes, state, tmp_path):
    torch.save(content_of(name, state), tmp_path / 'a.pth')
    message = refusal(tmp_path / 'a.pth', **sizes)
    assert str(tmp_path / 'a.pth') in message
    assert any(word in message for word in ('another size', 'lacks', 'it holds', 'grid')), message


def test_foreign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'files').mkdir()
    for file, data in foreign():
        path = tmp_path / 'files' / file
        path.write_bytes(data)
        message = refusal(path)
        assert str(path) in message
        assert any(word in message for word in (
            'holds another model', 'holds no model', 'is not a checkpoint', 'is refused: it holds')), message
        assert 'hostile' not in file or 'code' in message or 'not a checkpoint' in message, message
        with pytest.raises(ValueError, match=file):
            convert(path, tmp_path / 'out.pth', 'plugin')
    assert [entry.name for entry in tmp_path.iterdir()] == ['files']  # no code ran, nothing was written


def refused_everywhere(path, message):
    for what in (refusal, inspect_checkpoint, lambda path: convert(path, path.parent / 'out.pth', 'plugin')):
        if what is refusal:
            answer = refusal(path)
        else:
            with pytest.raises(ValueError) as error:
                what(path)
            answer = str(error.value)
        assert str(path) in answer and message in answer
    assert not (path.parent / 'out.pth').exists()


ODD = {
    'sparse': lambda value: value.to_sparse(), 'compressed': lambda value: value.to_sparse_csr(),
    'quantised': lambda value: torch.quantize_per_tensor(value, .1, 0, torch.qint8),
    'nowhere': lambda value: value.to('meta'),
    'complex': lambda value: value.to(torch.complex64), 'float8': lambda value: value.to(torch.float8_e4m3fn),
    'array': lambda value: value.numpy(), 'integer': lambda value: value.to(torch.int8),
    'truth': lambda value: value > 0}


@pytest.mark.parametrize('kind', ODD)
@pytest.mark.filterwarnings('ignore:Sparse CSR:UserWarning', 'ignore:torch.quantize_per_tensor:UserWarning')
def test_numbers_of_another_kind(kind, state, tmp_path):
    name = 'backbone.blocks.1.mlp.fc1.weight'
    torch.save(dict(state_dict=state | {name: ODD[kind](state[name])}), tmp_path / 'odd.pth')
    refused_everywhere(tmp_path / 'odd.pth', f'holds {name} as torch.' if kind in ('integer', 'truth') else
                       f'under {name} it holds what is no dense tensor')


def test_numbers_of_a_decoder(tmp_path):
    state = {name: value.to(torch.int32) if 'decoder_' in name else value
             for name, value in MODELS.build(tiny_mae_cfg()).state_dict().items()}
    torch.save(state, tmp_path / 'odd.pth')
    refused_everywhere(tmp_path / 'odd.pth', 'holds neck.decoder_pos_embed as torch.int32')


@pytest.mark.parametrize('key, value', [
    (3, torch.zeros(2)), (None, torch.zeros(2)), (('a', 1), torch.zeros(2)),
    ('neck', {'decoder_pos_embed': torch.zeros(2)}), ('neck.mask_token', np.zeros(2)),
    ('module.backbone.norm.weight', torch.zeros(48)), ('_orig_mod.module.backbone.norm.weight', torch.zeros(48))])
def test_tensors_without_a_name_of_their_own(key, value, state, tmp_path):
    torch.save(dict(state_dict=state | {key: value}), tmp_path / 'odd.pth')
    refused_everywhere(tmp_path / 'odd.pth', f'under {key} it holds what is no dense tensor')


@pytest.mark.parametrize('part', ['norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2'])
def test_a_part_that_all_blocks_lack(part, state, tmp_path):
    torch.save({name: value for name, value in state.items() if part not in name}, tmp_path / 'odd.pth')
    refused_everywhere(tmp_path / 'odd.pth', f'lacks part of its encoder: backbone.blocks.0.{part}.weight, ')


@pytest.mark.parametrize('name, change', [
    ('backbone.pos_embed', lambda value: value[0]), ('backbone.pos_embed', lambda value: value[0, 0, 0]),
    ('backbone.pos_embed', lambda value: value[:, :0]),
    ('backbone.patch_embed.proj.weight', lambda value: value.flatten(1)),
    ('blocks.*.norm1.weight', lambda value: value[0]),
    ('blocks.*.mlp.fc2.weight', lambda value: value[:, ::2]),  # as in SwiGLU
    ('blocks.*.attn.qkv.weight', lambda value: value[:48]), ('backbone.cls_token', lambda value: value[:, :0]),
    ('blocks.*.mlp.fc1.weight', lambda value: value.flatten())])
def test_tensors_of_another_shape(name, change, state, tmp_path):
    odd = {other: change(value) if other == name or other.endswith(name.partition('*')[2] or '-') else value
           for other, value in state.items()}
    torch.save(odd, tmp_path / 'odd.pth')
    refused_everywhere(tmp_path / 'odd.pth', ', which no plain ViT has')


@pytest.mark.parametrize('part', ['norm1.weight', 'attn.qkv.bias', 'mlp.fc1.weight'])
def test_blocks_of_several_sizes(part, state, tmp_path):
    name = f'backbone.blocks.2.{part}'
    torch.save(state | {name: torch.cat([state[name], state[name]])}, tmp_path / 'odd.pth')
    refused_everywhere(tmp_path / 'odd.pth', f'holds blocks of several sizes: {part} is (')


@pytest.mark.parametrize('number', ['999999999', '01', '\u0661'])
def test_blocks_of_odd_numbers(number, state, tmp_path):
    odd = {name.replace('.2.', f'.{number}.'): value for name, value in state.items()}
    torch.save(odd, tmp_path / 'odd.pth')
    refused_everywhere(tmp_path / 'odd.pth', 'lacks part of its encoder: backbone.blocks.2.norm1.weight')
    torch.save({name.partition('.')[2]: value for name, value in odd.items()}, tmp_path / 'timm.pth')
    refused_everywhere(tmp_path / 'timm.pth', 'lacks part of its encoder: backbone.blocks.2.norm1.weight')


@pytest.mark.parametrize('card', ['{', '[' * 100_000, '{"backbone": 3}', '{"decoder": "x"}', '{"parents": 5}',
                                  '{"backbone": {"grid": "ab"}}', '{"backbone": {"grid": [4, 4, 1]}}'])
def test_cards_of_another_form(card, state, tmp_path):
    metadata = {CARD_KEY: card}
    metadata[SHA256_KEY] = content_sha256(state, metadata)
    save_file(state, tmp_path / 'odd.safetensors', metadata)
    refused_everywhere(tmp_path / 'odd.safetensors', 'mae_plugin')


@pytest.mark.parametrize('value', ['/etc/hostname', 0, 12345])
def test_what_a_file_says_never_leads_to_another(value, state, tmp_path):
    torch.save(dict(state_dict=state, file=value, place=value), tmp_path / 'a.pth')
    size = f'{(tmp_path / "a.pth").stat().st_size / 2 ** 20:,.1f} MiB'
    facts = inspect_checkpoint(tmp_path / 'a.pth')
    assert facts['SHA-256'] == file_sha256(tmp_path / 'a.pth') and size in facts['file']


def test_these_are_more_than_two_hundred(state, tmp_path):
    files = len(list(foreign()))
    for name in FORMATS:
        files += len(list(damaged_in_bytes(name, state, tmp_path))) + 2 * len(list(damaged_in_names(name, state)))
    assert files > 200
