"""The converter: every pair of formats, suffix and flag, what it refuses, and what the inspector says."""

import itertools
import json
import re
from argparse import Namespace

import pytest
import timm
import torch
from conftest import tiny_mae_cfg
from tiny.tools import load_tool

from mae_plugin.models import PlainViT
from mae_plugin.registry import MODELS
from mae_plugin.utils.hashing import file_sha256
from mae_plugin.weights.card import lineage
from mae_plugin.weights.checkpoint import read_weights
from mae_plugin.weights.convert import FACTS, convert
from mae_plugin.weights.files import CARD_KEY, content_sha256, save_safetensors
from mae_plugin.weights.formats import FORMATS, from_plugin
from mae_plugin.weights.inspection import inspect_checkpoint
from mae_plugin.weights.safe_load import load_file

WITH_DECODER = ('plugin', 'authors', 'mmpretrain', 'huggingface')
CARD = dict(mean=[1., 2., 3.], std=[4., 5., 6.], channel_order='rgb',
            backbone=dict(num_heads=3, depth=3, grid=[4, 4]), decoder=dict(decoder_num_heads=4), task='pretraining')


@pytest.fixture
def model():
    model = MODELS.build(tiny_mae_cfg())
    model.init_weights()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


@pytest.fixture
def checkpoint(model, tmp_path):
    meta = dict(iter=5, mae_plugin=CARD)
    torch.save(dict(meta=meta, state_dict=model.state_dict(), optimizer={}), tmp_path / 'iter_5.pth')
    return tmp_path / 'iter_5.pth'


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == value.dtype and torch.equal(state[name], value), name


def run(*arguments):
    return load_tool('convert_checkpoint').main([str(argument) for argument in arguments])


@pytest.mark.parametrize('first, second', itertools.permutations(FORMATS, 2))
def test_an_encoder_goes_through_any_two_formats(model, checkpoint, tmp_path, first, second):
    one, two, back = tmp_path / 'one.pth', tmp_path / 'two.safetensors', tmp_path / 'back.pth'
    convert(checkpoint, one, first, encoder_only=True)
    convert(one, two, second)
    convert(two, back, 'plugin')
    assert_same(read_weights(back).state,
                {f'backbone.{name}': value for name, value in model.backbone.state_dict().items()})


@pytest.mark.parametrize('first, second', itertools.permutations(WITH_DECODER, 2))
def test_a_decoder_goes_along_where_it_has_a_place(model, checkpoint, tmp_path, first, second):
    convert(checkpoint, tmp_path / 'one.safetensors', first)
    convert(tmp_path / 'one.safetensors', tmp_path / 'two.pth', second)
    weights = read_weights(tmp_path / 'two.pth')
    assert_same(weights.state, model.state_dict())
    assert (weights.format, weights.kind) == (second, 'pretraining')


@pytest.mark.parametrize('name', [name for name in FORMATS if name not in WITH_DECODER])
def test_nothing_is_left_out_in_silence(checkpoint, tmp_path, name):
    message = rf'iter_5.pth: 32 of its 74 .* in the format {name} .*mask_token.*encoder-only'
    with pytest.raises(ValueError, match=message):
        run(checkpoint, tmp_path / 'out.pth', '--to', name)
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_types_and_memory_layout_stay(model, tmp_path, dtype, suffix):
    """Also of tensors that are not contiguous, that share memory or that are part of a larger one."""
    state = {name: value.to(dtype) for name, value in model.backbone.state_dict().items()}
    state['blocks.0.attn.proj.weight'] = state['blocks.0.attn.proj.weight'].t()
    state['blocks.1.norm1.bias'] = state['blocks.1.norm1.weight']
    state['blocks.2.mlp.fc2.bias'] = torch.zeros(10_000_000, dtype=dtype)[:48]
    torch.save(state, tmp_path / 'in.pth')
    convert(tmp_path / 'in.pth', tmp_path / f'out.{suffix}', 'mmpretrain')
    convert(tmp_path / f'out.{suffix}', tmp_path / 'back.pth', 'timm')
    assert_same(torch.load(tmp_path / 'back.pth', weights_only=True), state)
    assert (tmp_path / f'out.{suffix}').stat().st_size < 2_000_000


def test_the_card_travels(checkpoint, tmp_path):
    run(checkpoint, tmp_path / 'out.safetensors', '--to', 'huggingface')
    card = read_weights(tmp_path / 'out.safetensors').card
    origin = card.pop('converted_from')
    assert card == CARD
    assert origin == dict(file='iter_5.pth', sha256=file_sha256(checkpoint), format='plugin')
    run(tmp_path / 'out.safetensors', tmp_path / 'back.pth', '--to', 'authors')
    back = read_weights(tmp_path / 'back.pth')
    assert back.card['mean'] == CARD['mean']
    # What is trained from there goes back to the first file, over both conversions.
    parents = lineage('back.pth', back.sha256, back.card)
    assert [parent['file'] for parent in parents] == ['back.pth', 'out.safetensors', 'iter_5.pth']
    assert [parent['sha256'] for parent in parents] == [
        file_sha256(tmp_path / name) for name in ('back.pth', 'out.safetensors', checkpoint.name)]


def test_a_file_without_a_place_for_the_card_is_told(checkpoint, tmp_path, capsys):
    for name, told in (('a.pth', True), ('a.safetensors', False)):
        run(checkpoint, tmp_path / name, '--to', 'timm', '--encoder-only')
        assert ('a.pth holds tensors alone' in capsys.readouterr().out) is told
        assert ('mean' in (read_weights(tmp_path / name).card or {})) is not told


def test_others_can_read_what_is_written(model, checkpoint, tmp_path):
    """Plain torch.load without any allow-list, and safetensors' own reader."""
    from safetensors.torch import load_file as their_reader
    run(checkpoint, tmp_path / 'a.pth', '--to', 'authors')
    assert_same(torch.load(tmp_path / 'a.pth', weights_only=True)['model'],
                {name.partition('.')[2]: value for name, value in model.state_dict().items()})
    run(checkpoint, tmp_path / 'a.safetensors', '--to', 'mmpretrain')
    assert_same(their_reader(tmp_path / 'a.safetensors'), from_plugin(model.state_dict(), 'mmpretrain')[0])


def test_an_output_that_exists(checkpoint, tmp_path):
    (tmp_path / 'out.pth').write_text('mine')
    with pytest.raises(ValueError, match=r'out.pth exists: name another file, or give --overwrite'):
        run(checkpoint, tmp_path / 'out.pth', '--to', 'authors')
    assert (tmp_path / 'out.pth').read_text() == 'mine'
    run(checkpoint, tmp_path / 'out.pth', '--to', 'authors', '--overwrite')
    assert read_weights(tmp_path / 'out.pth').format == 'authors'
    run(tmp_path / 'out.pth', tmp_path / 'out.pth', '--to', 'plugin', '--overwrite')
    assert read_weights(tmp_path / 'out.pth').format == 'plugin'


def test_what_is_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match='out.onnx: the name of the new file ends in one of .pth'):
        run(checkpoint, tmp_path / 'out.onnx', '--to', 'timm')
    with pytest.raises(FileNotFoundError, match='nowhere.pth does not exist; checkpoints in its folder: iter_5.pth'):
        run(tmp_path / 'nowhere.pth', tmp_path / 'out.pth', '--to', 'timm')
    state = PlainViT(img_size=64, embed_dim=48, depth=3, num_heads=3).state_dict()
    torch.save(state | {'dist_token': torch.zeros(1, 1, 48)}, tmp_path / 'deit.pth')
    with pytest.raises(ValueError, match=r'deit.pth holds tensors that the format timm has no meaning for .dist'):
        run(tmp_path / 'deit.pth', tmp_path / 'out.pth', '--to', 'plugin', '--encoder-only')
    state = load_file(checkpoint)['state_dict']
    torch.save(state | {'decode_head.weight': torch.zeros(1)}, tmp_path / 'one.pth')
    with pytest.raises(ValueError, match=r'one.pth: 1 of its 75 tensors .*authors .decode_head.weight.: --encoder-o'):
        run(tmp_path / 'one.pth', tmp_path / 'out.pth', '--to', 'authors')
    torch.save(state | {f'backbone.blocks.{i}.ls1.gamma': torch.zeros(48) for i in range(3)}, tmp_path / 'one.pth')
    with pytest.raises(ValueError, match=r'one.pth: 3 of its 77 tensors .*authors .backbone.blocks.0.ls1.*gamma.$'):
        run(tmp_path / 'one.pth', tmp_path / 'out.pth', '--to', 'authors')
    assert not list(tmp_path.glob('*out*'))


def test_a_card_that_says_more_than_there_is(model, tmp_path):
    state = {name: value for name, value in model.state_dict().items() if 'blocks.2.' not in name}
    torch.save(dict(meta=dict(mae_plugin=CARD), state_dict=state), tmp_path / 'half.pth')
    with pytest.raises(ValueError, match='half.pth holds 2 blocks of the 3 that it says it has'):
        run(tmp_path / 'half.pth', tmp_path / 'out.pth', '--to', 'authors')


def test_every_flipped_bit_of_safetensors_is_seen(model, tmp_path):
    path = tmp_path / 'a.safetensors'
    tensors = {name: value for name, value in model.backbone.state_dict().items() if 'blocks.0.norm1' in name}
    save_safetensors(path, tensors, CARD)
    content = path.read_bytes()
    silent = []
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            loaded = load_file(path)
        except ValueError as error:
            assert 'a.safetensors' in str(error)
            continue
        if loaded.keys() != tensors.keys() or not all(torch.equal(loaded[name], tensors[name]) for name in tensors):
            silent.append(position)
    assert not silent


def test_a_card_without_its_hash_is_damage(model, tmp_path):
    """One flipped bit in the name of the hash would turn the check off."""
    path = tmp_path / 'a.safetensors'
    save_safetensors(path, model.backbone.state_dict(), CARD)
    path.write_bytes(path.read_bytes().replace(b'"sha256"', b'"sha257"'))
    with pytest.raises(ValueError, match='a.safetensors is not a checkpoint.* does not have the SHA-256'):
        load_file(path)


def test_the_hash_covers_names_types_shapes_and_metadata():
    a = {'a': torch.arange(6.), 'b': torch.zeros(2)}
    first = content_sha256(a, {'x': '1'})
    others = [{'a': torch.arange(6.), 'c': torch.zeros(2)}, {'a': torch.arange(6.).view(2, 3), 'b': torch.zeros(2)},
              {'a': torch.arange(6.), 'b': torch.zeros(2).int()},
              {'a': torch.arange(6.), 'b': torch.tensor([0., -0.])}]
    hashes = {content_sha256(other, {'x': '1'}) for other in others} | {
        first, *(content_sha256(a, metadata) for metadata in ({'x': '2'}, {'x': '1', CARD_KEY: '{}'}))}
    assert len(hashes) == 7
    assert content_sha256(dict(reversed(a.items())), {'x': '1', 'sha256': 'any'}) == first


def test_inspection_of_ours(checkpoint, capsys):
    load_tool('inspect_checkpoint').main([str(checkpoint), '--json'])
    facts = json.loads(capsys.readouterr().out)
    assert facts['SHA-256'] == file_sha256(checkpoint)
    assert facts['holds'] == 'masked autoencoder: encoder and decoder'
    assert facts['encoder'] == ('plain ViT, width 48, 3 blocks, 3 heads, MLP 192, patches of 16x16 pixels, 3 channels, '
                                'class token, final norm')
    assert facts['decoder'] == 'width 32, 2 blocks, 4 heads, 768 numbers for a patch'
    assert facts['images'] == 'mean [1.0, 2.0, 3.0], std [4.0, 5.0, 6.0], rgb order'
    assert facts['training'] == 'iteration 5, with the state that resuming needs'


def test_inspection_tells_positions(tmp_path):
    vit = PlainViT(img_size=64, embed_dim=48, depth=3, num_heads=3)
    state = vit.state_dict()
    for values, said in ((vit.pos_embed, 'columns first'), (vit.pos_embed.roll(24, 2), 'rows first'),
                         (vit.pos_embed + .01, 'learned')):
        torch.save(state | {'pos_embed': values.data}, tmp_path / 'a.pth')
        assert said in inspect_checkpoint(tmp_path / 'a.pth')['positions']


def test_inspection_of_others(model, tmp_path, capsys):
    state = {name.partition('.')[2]: value for name, value in model.state_dict().items()}
    args = Namespace(norm_pix_loss=True, mask_ratio=.75, output_dir='x')
    torch.save(dict(model=state, args=args, epoch=799, optimizer={}), tmp_path / 'a.pth')
    facts = inspect_checkpoint(tmp_path / 'a.pth')
    assert facts['training'] == 'epoch 799, with the state that resuming needs'
    assert facts['target'] == 'norm_pix True' and facts['masking'] == 'mask_ratio 0.75'
    assert facts['format'].startswith('authors, 74 tensors, ')
    assert facts["the authors' arguments"] == 'norm_pix_loss True, mask_ratio 0.75'
    assert '? (no tensor tells) heads' in facts['encoder']
    load_tool('inspect_checkpoint').main([str(tmp_path / 'a.pth')])
    assert 'grid of 4x4' in capsys.readouterr().out


def test_inspection_of_what_is_no_plain_vit(tmp_path):
    """Tensors without meaning count; a width that no sines and cosines have is no obstacle."""
    state = timm.models.VisionTransformer(img_size=64, embed_dim=54, depth=1, num_heads=3, num_classes=0).state_dict()
    torch.save(state | {'dist_token': torch.zeros(1, 1, 54)}, tmp_path / 'a.pth')
    facts = inspect_checkpoint(tmp_path / 'a.pth')
    assert facts['format'].startswith(f'timm, {len(state) + 1} tensors, ')
    assert (facts['without meaning'], facts['positions']) == (
        'dist_token', 'grid of 4x4, learned, or changed in fine-tuning')


def test_relative_positions_that_mmseg_cannot_have(tmp_path):
    vit = PlainViT(img_size=(32, 64), embed_dim=48, depth=3, num_heads=3, rel_pos=dict(type='RelPosBias'))
    torch.save({f'backbone.{name}': value for name, value in vit.state_dict().items()}, tmp_path / 'wide.pth')
    with pytest.raises(ValueError, match='wide.pth has no form as mmseg: .*_bias_table has 24 rows, which no square'):
        run(tmp_path / 'wide.pth', tmp_path / 'out.pth', '--to', 'mmseg')


@pytest.mark.parametrize('encoder_only', [False, True])
def test_a_folder_of_transformers(model, checkpoint, tmp_path, encoder_only):
    """What the card does not tell is asked for; the folder is read by everything that reads a file."""
    arguments = [checkpoint, tmp_path / 'vit', '--to', 'huggingface', *['--encoder-only'] * encoder_only]
    if not encoder_only:
        with pytest.raises(ValueError, match='vit cannot be written: .* norm_pix, mask_ratio, .* --facts norm_pix='):
            run(*arguments)
        arguments += ['--facts', 'norm_pix=True', 'mask_ratio=0.75']
    run(*arguments)
    weights = read_weights(tmp_path / 'vit')
    assert_same(weights.state, {name: value for name, value in model.state_dict().items()
                                if name.startswith('backbone.') or not encoder_only})
    for key in ('mean', 'std', 'channel_order'):
        assert weights.card[key] == pytest.approx(CARD[key])
    assert weights.card['backbone'] == dict(CARD['backbone'], depth=3)
    assert weights.card['converted_from']['sha256'] == file_sha256(checkpoint)
    assert '3 heads' in inspect_checkpoint(tmp_path / 'vit')['encoder']
    vit = PlainViT(img_size=64, embed_dim=48, depth=3, num_heads=3, init_cfg=dict(
        type='mae_plugin.MAEPretrained', checkpoint=str(tmp_path / 'vit')))
    vit.init_weights()
    assert_same(vit.state_dict(), model.backbone.state_dict())
    with pytest.raises(ValueError, match='vit exists'):
        run(*arguments)


def test_facts(checkpoint, tmp_path):
    run(checkpoint, tmp_path / 'out.pth', '--to', 'plugin', '--facts', 'num_heads=6', 'std=[7.,8.,9.]')
    card = read_weights(tmp_path / 'out.pth').card
    assert card['backbone'] == dict(CARD['backbone'], num_heads=6) and card['std'] == [7., 8., 9.]
    for fact, message in (
            ('heads=3', 'heads: the facts of a file are mean'), ('num_heads=x', 'write num_heads=12'),
            ('std=[0.229,0.224,0.225]', 'std=.* is a share of 255'),
            ('mean=3', 'mean=3 is no list'), ('num_heads="3"', "num_heads='3' is no int")):
        with pytest.raises(ValueError, match=message):
            run(checkpoint, tmp_path / 'no.pth', '--to', 'plugin', '--facts', fact)


def test_blue_first_has_no_folder(model, tmp_path):
    card = dict(CARD, channel_order='bgr', target=dict(norm_pix=True), masking=dict(mask_ratio=.75))
    torch.save(dict(meta=dict(mae_plugin=card), state_dict=model.state_dict()), tmp_path / 'bgr.pth')
    with pytest.raises(ValueError, match='bgr.pth was trained with blue first'):
        run(tmp_path / 'bgr.pth', tmp_path / 'vit', '--to', 'huggingface')


@pytest.mark.parametrize('lost', ['neck.decoder_blocks.0.', 'neck.decoder_blocks.1.mlp', 'neck.mask_token',
                                  'neck.decoder_pred.weight', 'neck.decoder_blocks.'])
def test_half_a_decoder(model, tmp_path, lost):
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(lost)}
    torch.save(state, tmp_path / 'half.pth')
    with pytest.raises(ValueError, match=rf'half.pth lacks part of its decoder: {lost}.*--encoder-only'):
        run(tmp_path / 'half.pth', tmp_path / 'out.pth', '--to', 'authors')
    assert inspect_checkpoint(tmp_path / 'half.pth')['decoder'].startswith(f'not whole: it lacks {lost}')
    run(tmp_path / 'half.pth', tmp_path / 'out.pth', '--to', 'authors', '--encoder-only')


def test_what_was_written_is_compared_with_what_was_read(checkpoint, tmp_path, monkeypatch):
    """A bit that changes on the way, the sign of a zero too, and a tensor that is forgotten."""
    def forgets(state, name):
        return {key: value for key, value in state.items() if 'norm1' not in key}, []

    def changes(state, name):
        return state | {'neck.mask_token': -state['neck.mask_token']}, []

    content = torch.load(checkpoint, weights_only=True)
    content['state_dict']['neck.mask_token'].zero_()
    torch.save(content, checkpoint)
    for wrong in (forgets, changes):
        monkeypatch.setattr('mae_plugin.weights.convert.from_plugin', wrong)
        for suffix in ('pth', 'safetensors'):
            with pytest.raises(OSError, match='does not hold what was written to it'):
                convert(checkpoint, tmp_path / f'{wrong.__name__}.{suffix}', 'plugin')


def test_links_are_replaced_not_followed(checkpoint, tmp_path):
    (tmp_path / 'mine').write_text('mine')
    (tmp_path / 'vit').mkdir()
    facts = ('--facts', 'norm_pix=True', 'mask_ratio=0.75')
    for name in ('out.pth', 'vit/config.json', 'vit/model.safetensors'):
        (tmp_path / name).symlink_to(tmp_path / 'mine')
    run(checkpoint, tmp_path / 'out.pth', '--to', 'plugin', '--overwrite')
    run(checkpoint, tmp_path / 'vit', '--to', 'huggingface', '--overwrite', *facts)
    assert (tmp_path / 'mine').read_text() == 'mine'
    assert read_weights(tmp_path / 'out.pth').sha256 == file_sha256(tmp_path / 'out.pth')
    assert read_weights(tmp_path / 'vit').kind == 'pretraining'


def test_parameters_are_written_as_tensors(model, tmp_path):
    torch.save(dict(model.named_parameters()), tmp_path / 'in.pth')
    convert(tmp_path / 'in.pth', tmp_path / 'out.pth', 'plugin')
    assert not any(value.requires_grad for value in load_file(tmp_path / 'out.pth')['state_dict'].values())


@pytest.mark.parametrize('name, kind', [
    ('decode_head.conv_seg.weight', 'segmentation'), ('roi_head.a', 'detection'), ('rpn_head.a', 'detection'),
    ('bbox_head.a', 'detection'), ('head.fc.weight', 'classification'), ('backbone.fc_norm.weight', 'classification'),
    ('neck.levels.0.0.weight', 'encoder'), ('neck.decoder_norm.bias', 'pretraining')])
def test_the_kind_of_a_file(model, tmp_path, name, kind):
    """Also where other things are saved beside the tensors, as some scripts do."""
    state = {f'backbone.{key}': value for key, value in model.backbone.state_dict().items()}
    torch.save(state | {name: torch.zeros(5, 48), 'optimizer': {'state': {}, 'lr': 1}, 'epoch': 3}, tmp_path / 'a.pth')
    weights = read_weights(tmp_path / 'a.pth')
    assert weights.kind == kind and weights.rest == {'optimizer': {'state': {}, 'lr': 1}, 'epoch': 3}


def test_help_names_every_format_and_fact(capsys):
    with pytest.raises(SystemExit):
        run('--help')
    words = set(re.findall(r'\w+', capsys.readouterr().out))
    assert words >= {*FORMATS, *FACTS}


def test_an_unknown_format(checkpoint, tmp_path):
    with pytest.raises(ValueError, match='keras is no format; there are huggingface, .*timm'):
        run(checkpoint, tmp_path / 'out.pth', '--to', 'keras')
