"""tools/reconstruct.py: the model of a checkpoint, from its card or measured, on images; and what it refuses."""

import re

import numpy as np
import pytest
import torch
from conftest import tiny_mae_cfg
from mmengine import Config
from PIL import Image
from tiny.tools import run_tool  # noqa: F401

from mae_plugin.registry import MODELS
from mae_plugin.weights.card import make_card
from mae_plugin.weights.files import CARD_KEY
from mae_plugin.weights.formats import from_plugin
from mae_plugin.weights.huggingface import write_folder
from mae_plugin.weights.rebuild import load_autoencoder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images, checkpoints ``ours.pth`` with a card and ``authors.pth`` without, below the folder the test runs in."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ('images/a.png', 'images/b.jpg', 'images/more/a.jpg'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((120, 90)))
        Image.fromarray(pixels).save(tmp_path / name)
    torch.manual_seed(0)
    cfg = Config(dict(model=tiny_mae_cfg(img_size=(64, 96), patch_size=(16, 8))))
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta={CARD_KEY: make_card(model, cfg)}), 'ours.pth')
    (tmp_path / 'config.py').write_text(f'model = {cfg.model.to_dict()!r}\n')
    torch.manual_seed(1)
    small = MODELS.build(tiny_mae_cfg() | dict(
        backbone=dict(tiny_mae_cfg()['backbone'], embed_dim=192, depth=1),
        neck=dict(type='mae_plugin.MAEDecoder', decoder_embed_dim=512, decoder_depth=1, decoder_num_heads=16)))
    small.init_weights()
    tensors = small.backbone.state_dict() | small.neck.state_dict()
    torch.save(dict(model=tensors), 'authors.pth')
    torch.save(dict(model=small.backbone.state_dict()), 'encoder.pth')
    torch.save(dict(state_dict={f'backbone.{name}': value for name, value in small.backbone.state_dict().items()}
                    | {'head.fc.weight': torch.zeros(2, 192), 'head.fc.bias': torch.zeros(2)}), 'classifier.pth')
    return tmp_path


def made(out):
    """The pictures and the page, as bytes."""
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


def dbs(out):
    return [float(number) for number in re.findall(r'([\d.]+) dB', out)]


def test_pictures_numbers_and_a_page(folder, run_tool):  # noqa: F811
    (folder / 'images/broken.jpg').write_bytes(b'no image')
    code, out, err = run_tool('reconstruct', 'images', '--checkpoint', 'ours.pth', '--out', 'first')
    assert code == 0, err
    assert 'skipped' in err and 'broken.jpg' in err and err.count('\n') == 1
    assert made(folder / 'first').keys() == {'a.png', 'a-2.png', 'b.png', 'index.html'}
    *each, mean = dbs(out)
    assert mean == pytest.approx(sum(each) / 3, abs=.02) and len(each) == 3
    assert 'RandomMasking, 75% of the patches hidden, seed 0' in out and 'up to its brightness and contrast' in out
    page = (folder / 'first/index.html').read_text()
    assert page.count('<img') == 3 and 'src="a-2.png"' in page and all(f'{number:.2f} dB' in page for number in each)

    assert run_tool('reconstruct', 'images', '--checkpoint', 'ours.pth', '--out', 'again')[0] == 0
    assert made(folder / 'again') == made(folder / 'first')
    assert run_tool('reconstruct', 'images', '--checkpoint', 'ours.pth', '--out', 'other', '--seed', 1)[0] == 0
    assert all(made(folder / 'other')[name] != content for name, content in made(folder / 'first').items())


def test_the_mask_of_an_image_alone_is_that_in_a_folder(folder, run_tool):  # noqa: F811
    run_tool('reconstruct', 'images', '--checkpoint', 'ours.pth', '--out', 'all')
    code, out, err = run_tool('reconstruct', 'images/b.jpg', '--checkpoint', 'ours.pth', '--out', 'one')
    assert code == 0, err
    assert made(folder / 'one')['b.png'] == made(folder / 'all')['b.png'] and 'images/b.jpg' in out


def test_another_ratio_and_masking(folder, run_tool):  # noqa: F811
    code, out, _ = run_tool('reconstruct', 'images/b.jpg', '--checkpoint', 'ours.pth', '--mask-ratio', .5)
    assert code == 0 and '50% of the patches hidden' in out
    code, out, _ = run_tool('reconstruct', 'images/b.jpg', '--checkpoint', 'ours.pth', '--masking', 'NoMasking')
    assert code == 0 and 'NoMasking, seed 0' in out


def test_the_model_is_the_one_that_was_saved(folder):
    """All parts, by their outputs; the config gives the same as the card."""
    stored = torch.load('ours.pth', weights_only=True)
    model = MODELS.build(Config.fromfile('config.py').model).eval()
    model.load_state_dict(stored['state_dict'])
    imgs = torch.randn(2, 3, 64, 96)
    for cfg in (None, Config.fromfile('config.py')):
        rebuilt = load_autoencoder('ours.pth', cfg)
        results = []
        for each in (model, rebuilt):
            torch.manual_seed(0)
            results.append(each.reconstruct(imgs))
        torch.testing.assert_close(vars(results[1]), vars(results[0]), rtol=0, atol=0)
        assert not rebuilt.training


def test_files_of_others(folder, run_tool):  # noqa: F811
    """Measured: the authors' layout, for which one says how targets were made, and transformers', which says it."""
    code, _, err = run_tool('reconstruct', 'images', '--checkpoint', 'authors.pth')
    assert code == 1 and 'does not say whether its targets were normalised: give --norm-pix' in err
    found = {}
    for option in ('--norm-pix', '--raw'):
        code, out, err = run_tool('reconstruct', 'images', '--checkpoint', 'authors.pth', option)
        assert code == 0, err
        assert ('up to its brightness' in out) == (option == '--norm-pix')
        found[option] = dbs(out)
    assert found['--norm-pix'] != found['--raw']
    state = torch.load('authors.pth', weights_only=True)['model']
    ours = {f'{"neck" if name.startswith(("decoder", "mask_token")) else "backbone"}.{name}': value
            for name, value in state.items()}
    write_folder(folder / 'theirs', from_plugin(ours, 'huggingface')[0], num_heads=3, decoder_num_heads=16,
                 mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], norm_pix=True, mask_ratio=.75)
    code, out, err = run_tool('reconstruct', 'images', '--checkpoint', 'theirs')
    assert code == 0 and dbs(out) == found['--norm-pix'], err


def change_card(change):
    content = torch.load('ours.pth', weights_only=True)
    change(content['meta'][CARD_KEY])
    torch.save(content, 'changed.pth')


@pytest.mark.parametrize('kind', ['subprocess.Popen', 'mae_plugin.utils.cli.run_cli', 'mmengine.BaseModel'])
def test_nothing_is_built_that_is_no_part_of_ours(folder, run_tool, kind):  # noqa: F811
    """MMEngine would import, and call, any name with a dot."""
    change_card(lambda card: card['config']['model'].update(masking=dict(type=kind, args='touch executed')))
    code, _, err = run_tool('reconstruct', 'images', '--checkpoint', 'changed.pth')
    assert code == 1 and f"'{kind}', which is no part of this plugin" in err and not (folder / 'executed').exists()


def test_a_target_without_pixels(folder, run_tool):  # noqa: F811
    from mae_plugin.models import Target
    MODELS.register_module('NoPixels', module=type('NoPixels', (Target, ), {}))
    change_card(lambda card: card['config']['model']['head'].update(target=dict(type='mae_plugin.NoPixels')))
    code, _, err = run_tool('reconstruct', 'images', '--checkpoint', 'changed.pth')
    MODELS.module_dict.pop('NoPixels')
    assert code == 1 and 'predicts a NoPixels, which cannot be turned back into pixels' in err


@pytest.mark.parametrize('arguments, message', [
    (['--checkpoint', 'encoder.pth'], 'holds an encoder alone'),
    (['--checkpoint', 'classifier.pth'], 'fine-tuned for classification'),
    (['--checkpoint', 'absent.pth'], 'absent.pth'),
    (['--checkpoint', 'ours.pth', '--raw'], 'says of its target norm_pix=True: leave out'),
    (['--checkpoint', 'ours.pth', '--mask-ratio', '1'], 'lies between 0 and 1'),
    (['--checkpoint', 'ours.pth', '--masking', 'RandomMaskin'], 'is unknown; there are .*mae_plugin.RandomMasking'),
    (['--checkpoint', 'ours.pth', '--masking', 'NoMasking', '--mask-ratio', '.5'], 'NoMasking has no ratio'),
    (['--checkpoint', 'ours.pth', '--masking', 'MAEDecoder'], '--masking MAEDecoder needs out_dim'),
    (['--checkpoint', 'ours.pth', '--bands', '3'], 'bands=[3]'),
    (['--checkpoint', 'ours.pth', '--max-images', '0'], '--max-images 0 is not at least 1'),
    (['--checkpoint', 'authors.pth', '--config', 'config.py'], 'authors.pth does not fit MaskedAutoencoder'),
])
def test_what_cannot_be_done_is_one_sentence(folder, run_tool, arguments, message):  # noqa: F811
    code, _, err = run_tool('reconstruct', 'images', *arguments)
    assert code == 1 and re.search(message.replace('[', r'\['), err) and err.count('\n') == 1, err


def test_a_config_of_other_colours_is_refused(folder, run_tool):  # noqa: F811
    text = (folder / 'config.py').read_text().replace('123.675', '127.5')
    (folder / 'other.py').write_text(text)
    code, _, err = run_tool('reconstruct', 'images', '--checkpoint', 'ours.pth', '--config', 'other.py')
    assert code == 1 and 'of another run than the config: mean is [123.675' in err


def test_none_of_the_first_can_be_read(folder, run_tool):  # noqa: F811
    (folder / 'images/_.jpg').write_bytes(b'no image')
    code, _, err = run_tool('reconstruct', 'images', '--checkpoint', 'ours.pth', '--max-images', 1)
    assert code == 1 and 'none of the first 1 images of images can be read' in err
    assert not (folder / 'reconstructions').exists()
