"""Folders of transformers, read and written: the real library, in a process of its own, is the reference.

It lies where ``make setup`` puts it, or in the folder that MAE_PLUGIN_TRANSFORMERS names (another version, say).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_mae_cfg
from safetensors.torch import load_file, save_file

from mae_plugin.models.layers import LAYER_NORM_EPS
from mae_plugin.models.masking import PatchMask
from mae_plugin.models.plain import take_tokens
from mae_plugin.registry import MODELS
from mae_plugin.weights.checkpoint import read_weights
from mae_plugin.weights.formats import from_plugin, to_plugin
from mae_plugin.weights.huggingface import card_of_config, read_folder, write_folder

pytest.importorskip('mmpretrain')
from mmpretrain.models import ImageClassifier  # noqa: E402

TRANSFORMERS = Path(os.environ.get('MAE_PLUGIN_TRANSFORMERS') or Path(sys.prefix, 'transformers'))
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
CLASSES = ['cat', 'dog', 'emu', 'fox', 'gnu']
KINDS = dict(mae='ViTMAEForPreTraining', encoder='ViTMAEModel', vit='ViTModel', classifier='ViTForImageClassification')

SCRIPT = """
import sys
from pathlib import Path
import torch
from transformers import (AutoImageProcessor, AutoModel, ViTConfig, ViTForImageClassification, ViTMAEConfig,
                          ViTMAEForPreTraining, ViTMAEModel, ViTModel)

folder = Path(sys.argv[1])
given = torch.load(folder / 'inputs.pt')
imgs, found = given['imgs'], {}


@torch.no_grad()
def outputs(model):
    model.eval()
    if isinstance(model, ViTMAEForPreTraining):
        result = {}
        for model.config.norm_pix_loss in (False, True):
            result['norm_pix' if model.config.norm_pix_loss else 'pixels'] = model(imgs, noise=given['noise']).loss
        return dict(result, pred=model(imgs, noise=given['noise']).logits)
    if isinstance(model, ViTMAEModel):
        model.config.mask_ratio = 0.
        in_order = torch.arange(16.).expand(2, -1)
        return dict(tokens=model(imgs, noise=in_order).last_hidden_state)
    if isinstance(model, ViTForImageClassification):
        return dict(logits=model(imgs).logits)
    return dict(tokens=model(imgs).last_hidden_state)


sizes = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=192, image_size=64,
             patch_size=16, layer_norm_eps=1e-6)
decoder = dict(decoder_hidden_size=32, decoder_num_hidden_layers=2, decoder_num_attention_heads=4,
               decoder_intermediate_size=128)
torch.manual_seed(1)
for name, cls, config in (('mae', ViTMAEForPreTraining, ViTMAEConfig(**sizes, **decoder)),
                          ('encoder', ViTMAEModel, ViTMAEConfig(**sizes)), ('vit', ViTModel, ViTConfig(**sizes)),
                          ('classifier', ViTForImageClassification, ViTConfig(**sizes, num_labels=5))):
    model = cls(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=.2)
    model.save_pretrained(folder / 'theirs' / name)
    model.save_pretrained(folder / 'theirs' / f'{name}_sharded', max_shard_size='100KB')
    torch.save(model.state_dict(), folder / 'theirs' / name / 'modules.pth')
    found[f'theirs/{name}'] = outputs(model)

classes = dict(mae=ViTMAEForPreTraining, encoder=AutoModel, vit=AutoModel, classifier=ViTForImageClassification)
for path in sorted((folder / 'ours').iterdir()):
    model, info = classes[path.name].from_pretrained(path, output_loading_info=True)
    problems = {key: sorted(map(str, value)) for key, value in info.items() if value}
    processed = AutoImageProcessor.from_pretrained(path)(given['picture'], return_tensors='pt')['pixel_values']
    found[f'ours/{path.name}'] = dict(outputs(model), problems=problems, name=type(model).__name__,
                                      labels=model.config.id2label, processed=processed)
model = ViTModel.from_pretrained(folder / 'ours' / 'encoder', add_pooling_layer=False)
found['ours/encoder']['without masking'] = outputs(model)['tokens']
torch.save(found, folder / 'found.pt')
"""


def build(kind, state=None):
    """Our model of that kind, with the tensors ``state`` or random ones."""
    cfg = tiny_mae_cfg()
    if kind == 'mae':
        model = MODELS.build(cfg)
    elif kind == 'classifier':
        model = ImageClassifier(dict(cfg['backbone'], out_type='cls_token'),
                                head=dict(type='LinearClsHead', num_classes=5, in_channels=48))
    else:
        model = torch.nn.ModuleDict(dict(backbone=MODELS.build(cfg['backbone'])))
    model.load_state_dict({name: .2 * torch.randn_like(value) for name, value in model.state_dict().items()}
                          if state is None else state)
    return model.eval()


@torch.no_grad()
def outputs(model, kind, imgs, noise):
    """What the script computes, by the same names; predictions in the order of the mask."""
    if kind == 'classifier':
        return dict(logits=model(imgs))
    if kind != 'mae':
        return dict(tokens=model['backbone'](imgs)[-1])
    mask = PatchMask.from_scores(noise, 4, (4, 4))
    result = dict(pred=model.neck(model.backbone(imgs, mask), mask))
    for name, model.head.target.norm_pix in (('pixels', False), ('norm_pix', True)):
        result[name] = model.head.loss(result['pred'], imgs, mask)['loss']
    return result


def assert_same_outputs(ours, theirs, noise):
    for name, value in ours.items():
        expected = theirs[name]
        if name == 'pred':  # theirs are in image order
            expected = take_tokens(expected, PatchMask.from_scores(noise, 4, (4, 4)).ids_pred)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)


def assert_identical(state, expected):
    assert state.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(state[name], value)] == []


def published(state):
    """Tensors that transformers 5 wrote, under the names that it and 4 read."""
    return {name.replace('decoder_encoder.layer', 'decoder_layers'): value for name, value in state.items()}


def facts(kind):
    """What a folder of our tiny models says beside the tensors."""
    more = dict(mae=dict(decoder_num_heads=4, norm_pix=True, mask_ratio=.75), classifier=dict(classes=CLASSES))
    return dict(num_heads=3, mean=MEAN, std=STD, **more.get(kind, {}))


def tensors_of(kind, **changes):
    """Tensors of a random model of ours under transformers' names."""
    torch.manual_seed(2)
    state = build(kind).state_dict()
    if kind == 'vit':
        state |= {'pooler.dense.weight': torch.randn(48, 48), 'pooler.dense.bias': torch.randn(48)}
    tensors, homeless = from_plugin(state, 'huggingface')
    assert not homeless
    return tensors | changes


@pytest.fixture(scope='module')
def library(tmp_path_factory):
    """A folder, the inputs in it, and what the library computed of its own models there and of ours: one process."""
    if not (TRANSFORMERS / 'transformers').is_dir():
        pytest.skip(f'no transformers in {TRANSFORMERS}: make setup puts it there')
    folder = tmp_path_factory.mktemp('transformers')
    torch.manual_seed(0)
    inputs = dict(imgs=torch.randn(2, 3, 64, 64), noise=torch.rand(2, 16),
                  picture=torch.randint(256, (3, 64, 64), dtype=torch.uint8))
    torch.save(inputs, folder / 'inputs.pt')
    for kind in KINDS:
        write_folder(folder / 'ours' / kind, tensors_of(kind), dict(mean=MEAN), **facts(kind))
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT, folder], cwd=folder, capture_output=True, text=True, timeout=300,
        env={**os.environ, 'PYTHONPATH': str(TRANSFORMERS), 'HF_HUB_OFFLINE': '1'})
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, inputs, torch.load(folder / 'found.pt')


# --- with the library ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', KINDS)
def test_their_files_give_their_outputs_here_and_come_back_identical(library, kind):
    folder, inputs, found = library
    file = folder / 'theirs' / kind / 'model.safetensors'
    weights = read_weights(file)
    assert weights.format == 'huggingface' and weights.unknown == []
    model = build(kind, {name: value for name, value in weights.state.items() if not name.startswith('pooler.')})
    assert_same_outputs(outputs(model, kind, inputs['imgs'], inputs['noise']), found[f'theirs/{kind}'], inputs['noise'])
    back, homeless = from_plugin(weights.state, 'huggingface')
    write_folder(folder / 'back' / kind, back, **facts(kind))
    assert homeless == []
    assert_identical(load_file(folder / 'back' / kind / 'model.safetensors'), published(load_file(file)))


@pytest.mark.parametrize('kind', KINDS)
def test_all_their_spellings_are_read_alike(library, kind, tmp_path):
    """Shards, a pickle with the names of the files, and one with those of transformers 5's modules."""
    folder, _, _ = library
    expected = read_weights(folder / 'theirs' / kind / 'model.safetensors').state
    assert_identical(read_weights(folder / 'theirs' / kind / 'modules.pth').state, expected)
    _, tensors, config = read_folder(folder / 'theirs' / f'{kind}_sharded')
    assert len(list((folder / 'theirs' / f'{kind}_sharded').glob('*.safetensors'))) > 1
    assert config['num_attention_heads'] == 3
    assert_identical(to_plugin(tensors, 'huggingface')[0], expected)
    torch.save(published(load_file(folder / 'theirs' / kind / 'model.safetensors')), tmp_path / 'pytorch_model.bin')
    (tmp_path / 'config.json').write_text('{}')
    assert_identical(to_plugin(read_folder(tmp_path)[1], 'huggingface')[0], expected)


def test_positions_of_the_decoder_are_carried(library):
    """Transformers stretches them along one dimension where sizes differ, so nobody may make them anew."""
    folder, _, _ = library
    theirs = load_file(folder / 'theirs' / 'mae' / 'model.safetensors')
    ours = read_weights(folder / 'theirs' / 'mae' / 'model.safetensors').state
    assert torch.equal(ours['neck.decoder_pos_embed'], theirs['decoder.decoder_pos_embed'])
    assert torch.equal(ours['backbone.pos_embed'], theirs['vit.embeddings.position_embeddings'])


@pytest.mark.parametrize('kind, name', list(KINDS.items()))
def test_our_folders_give_our_outputs_there(library, kind, name):
    folder, inputs, found = library
    found = found[f'ours/{kind}']
    assert (found['name'], found['problems']) == (name, {})
    torch.manual_seed(2)
    expected = outputs(build(kind), kind, inputs['imgs'], inputs['noise'])
    assert_same_outputs(expected, found, inputs['noise'])
    if kind == 'encoder':  # the way to features, as ViTMAEModel would mask
        torch.testing.assert_close(found['without masking'], expected['tokens'], rtol=1e-5, atol=1e-5)
    pixels = inputs['picture'][None].float()
    expected = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(found['processed'], expected, rtol=1e-5, atol=1e-5)


def test_labels_are_theirs(library):
    assert list(library[2]['ours/classifier']['labels'].values()) == CLASSES


def test_the_library_stays_out_of_this_process(library):
    assert 'transformers' not in sys.modules


# --- writing ---------------------------------------------------------------------------------------------------------


def test_config_and_card(tmp_path):
    write_folder(tmp_path, tensors_of('mae'), dict(mean=MEAN), **facts('mae') | dict(mask_ratio=.5))
    _, tensors, config = read_folder(tmp_path)
    assert config['layer_norm_eps'] == LAYER_NORM_EPS
    assert (config['image_size'], config['patch_size'], config['mask_ratio'], config['norm_pix_loss']) == (
        64, 16, .5, True)
    assert (config['decoder_num_attention_heads'], config['decoder_intermediate_size']) == (4, 128)
    assert [255 * value for value in config['image_mean']] == pytest.approx(MEAN)
    assert read_weights(tmp_path / 'model.safetensors').card == dict(mean=MEAN)
    assert_identical(tensors, tensors_of('mae'))


def test_what_configs_of_others_say():
    assert card_of_config(dict(num_attention_heads=3, num_hidden_layers=2, image_mean=[.5]), 'a') == dict(
        backbone=dict(num_heads=3, depth=2))
    assert card_of_config(dict(image_mean=[.5], image_std=[.2]), 'a')['std'] == [51.]
    with pytest.raises(ValueError, match="a/config.json says hidden_act='relu'"):
        card_of_config(dict(hidden_act='relu'), 'a')


def test_classifier_of_wide_images(tmp_path):
    positions = torch.randn(1, 9, 48)
    tensors = tensors_of('classifier', **{'vit.embeddings.position_embeddings': positions})
    with pytest.raises(ValueError, match='8 positions are no square grid: give img_size'):
        write_folder(tmp_path, tensors, **facts('classifier'))
    with pytest.raises(ValueError, match=r'8 positions do not fit img_size=\(64, 64\)'):
        write_folder(tmp_path, tensors, img_size=64, **facts('classifier'))
    write_folder(tmp_path, tensors, img_size=(32, 64), **facts('classifier'))
    config = read_folder(tmp_path)[2]
    assert (config['image_size'], config['size']) == ([32, 64], dict(height=32, width=64))


@pytest.mark.parametrize('kind, changes, message', [
    ('mae', dict(decoder_num_heads=None, norm_pix=None), 'do not tell decoder_num_heads, norm_pix,'),
    ('encoder', dict(mean=None), 'do not tell mean,'),
    ('encoder', dict(num_heads=5), '48 .* 5 heads'),
    ('encoder', dict(num_heads=0), '48 .* 0 heads'),
    ('classifier', dict(classes=['cat']), '1 names for the 5 classes'),
])
def test_missing_and_wrong_facts(kind, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_folder(tmp_path / 'new', tensors_of(kind), **facts(kind) | changes)
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('kind, lost', [
    ('encoder', 'vit.embeddings.cls_token'), ('encoder', 'vit.layernorm.weight'),
    ('mae', 'decoder.mask_token'), ('mae', 'decoder.decoder_pred.weight')])
def test_models_that_transformers_does_not_have(kind, lost, tmp_path):
    tensors = tensors_of(kind)
    del tensors[lost]
    with pytest.raises(ValueError, match=f'have {lost}, and these weights have not'):
        write_folder(tmp_path, tensors, **facts(kind))


def test_masked_autoencoder_of_wide_images(tmp_path):
    tensors = tensors_of('mae', **{'vit.embeddings.position_embeddings': torch.randn(1, 9, 48)})
    with pytest.raises(ValueError, match='square images'):
        write_folder(tmp_path, tensors, img_size=(32, 64), **facts('mae'))


# --- reading what is wrong -------------------------------------------------------------------------------------------


@pytest.fixture
def sharded(tmp_path):
    """A folder of two shards, and its index."""
    folder = tmp_path / 'model'
    index = {}
    for shard, names in (('one.safetensors', ['a', 'b']), ('two.safetensors', ['c'])):
        folder.mkdir(exist_ok=True)
        save_file({name: torch.ones(2) for name in names}, folder / shard)
        index |= dict.fromkeys(names, shard)
    save_file({'d': torch.ones(2)}, tmp_path / 'outside.safetensors')
    (folder / 'config.json').write_text('{"hidden_size": 48}')

    def write(**changes):
        (folder / 'model.safetensors.index.json').write_text(json.dumps(dict(weight_map=index | changes)))
        return folder

    return write


def test_shards_are_joined(sharded):
    _, tensors, config = read_folder(sharded())
    assert sorted(tensors) == ['a', 'b', 'c'] and config == dict(hidden_size=48)


@pytest.mark.parametrize('shard', ['../outside.safetensors', '/etc/passwd', 'a/../../outside.safetensors'])
def test_index_does_not_lead_out_of_the_folder(sharded, shard):
    with pytest.raises(ValueError, match='index.json names the shard .* not a file of this folder: it is refused'):
        read_folder(sharded(d=shard))


def test_missing_shard_is_named(sharded):
    with pytest.raises(FileNotFoundError, match='index.json names the shard three.safetensors, which is missing'):
        read_folder(sharded(d='three.safetensors'))


def test_tensor_that_its_shard_lacks_is_named(sharded):
    with pytest.raises(ValueError, match='lacks 1 of the 4 tensors of its index, among them d in two.safetensors'):
        read_folder(sharded(d='two.safetensors'))


def test_shard_that_holds_no_tensors(sharded):
    folder = sharded(d='list.bin')
    torch.save([1], folder / 'list.bin')
    with pytest.raises(ValueError, match='list.bin holds a list in place of tensors by name'):
        read_folder(folder)


@pytest.mark.parametrize('file, text, message', [
    ('model.safetensors.index.json', '{"weight_map": ["a"]}', "no 'weight_map'"),
    ('model.safetensors.index.json', '{"weight_map": {"a": 1}}', "no 'weight_map'"),
    ('model.safetensors.index.json', '{"weight_', 'index.json is damaged: it is no JSON'),
    ('config.json', '[]', 'config.json is damaged: it holds a list'),
    ('config.json', '[' * 100_000, 'config.json is damaged: it is no JSON'),
    ('config.json', '\x00', 'config.json is damaged: it is no JSON'),
])
def test_damaged_json(sharded, file, text, message):
    folder = sharded()
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_folder(folder)


@pytest.mark.parametrize('lost', ['config.json', 'model.safetensors.index.json'])
def test_folder_of_something_else(sharded, lost):
    folder = sharded()
    (folder / lost).unlink()
    with pytest.raises(FileNotFoundError, match='is no model of transformers: such a folder holds config.json and one'):
        read_folder(folder)
