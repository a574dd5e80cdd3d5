"""The published recipes of pretraining and classification as plain data: fact, value, source; and all recipes by name.

Sources: [MAE] is He et al. (2022) by its tables and appendix; file names are those of facebookresearch/mae. Lengths are
iterations, from epochs by the authors' drop_last: 312 at a batch of 4096, 1,251 at 1024 and 78 at 16384 images.
"""

from typing import NamedTuple

from .lr_curve import Curve, cosine

IMAGENET = 1_281_167  # images for training


class Fact(NamedTuple):
    """A published value and where it is published."""

    value: object
    source: str


class Recipe(NamedTuple):
    """A published recipe.

    Attributes:
        facts: Facts by name.
        curve: Learning rate over the run, at ``batch``.
        batch: Images of a step.
        images: Images of an epoch, for configs that count epochs; None where nobody does.
        scales: The learning rate is written for 256 images and follows the batch.
        heads: Parts of a dense task, in the vocabulary of its library, and their source.
    """

    facts: dict[str, Fact]
    curve: Curve
    batch: int
    images: int | None = IMAGENET
    scales: bool = True
    heads: Fact | None = None


class Any:
    """Not published, or of no effect here: every value will do."""

    def __repr__(self) -> str:
        return 'any'


ANY = Any()


def said(source: str, facts: dict[str, object]) -> dict[str, Fact]:
    """Facts of one source."""
    return {name: Fact(value, source) for name, value in facts.items()}


SIZES = {'base': dict(width=768, depth=12, heads=12, patch=(16, 16)),
         'large': dict(width=1024, depth=24, heads=16, patch=(16, 16)),
         'huge': dict(width=1280, depth=32, heads=16, patch=(14, 14))}


def encoder(size: str, source: str = '[MAE] A.1; models_mae.py:223-250', **facts) -> dict[str, Fact]:
    """Facts of an encoder; ``facts`` are those in which it is no plain ViT of this size."""
    plain = {'mlp ratio': 4, 'norm eps': 1e-6, 'qkv bias': True, 'channels': 3, 'class token': True, 'drop path': 0.,
             'dropout': 0., 'layer scale': None, 'relative position': None, 'window': None, 'global blocks': None,
             'convolution blocks': (), 'start': 'pretrained',
             'grid of positions': (16, 16) if size == 'huge' else (14, 14), 'positions': ANY, 'mlp bias init': ANY}
    named = {key.replace('_', ' '): value for key, value in facts.items()}
    return said(source, {f'encoder.{key}': value for key, value in {**SIZES[size], **plain, **named}.items()})


EVERYWHERE = {
    **said('main_pretrain.py:180', {'optimizer': 'AdamW', 'optimizer eps': 1e-8}),
    **said('util/misc.py: clip_grad=None; [MAE] A.1', {'gradient clipping': None}),
    **said('engine_pretrain.py:47; engine_finetune.py', {
        'precision': 'half precision', 'gradients are sent in': 'float32'}),
    **said('torch.cuda.amp.GradScaler by default: util/misc.py', {'loss scale': 'dynamic'}),
    **said('main_pretrain.py: seed + rank', {'seeds of the processes': 'one each'}),
    **said('main_pretrain.py: DistributedSampler', {'order of images': 'random'}),
    **said('main_pretrain.py:148', {'short batches': 'none', 'images beyond the last whole batch': ANY}),
    **said('util/datasets.py:24-28', {'normalisation': "ImageNet's mean and deviation, red first"}),
    **said('util/misc.py: load_model, only with --resume', {'resumes by itself': False}),
    **said('-', {'moving average of the weights': None})}

PRETRAIN = {
    **EVERYWHERE,
    **said('[MAE] Table 8; main_pretrain.py:180', {'optimizer betas': (0.9, 0.95), 'weight decay': 0.05}),
    **said('main_pretrain.py:179, timm: parameters of one dimension are not decayed, tokens have three', {
        'weight decay of weights': 'yes', 'weight decay of the class token': 'yes',
        'weight decay of the mask token': 'yes', 'weight decay of biases': 'no',
        'weight decay of norms of the encoder': 'no', 'weight decay of other norms': 'no'}),
    **said('[MAE] Table 8', {'layer decay': 1.}),
    **said('models_mae.py:37,51', {'trained': 'all but positions'}),
    **said('main_pretrain.py:165-166', {'lr follows the batch': True}),
    **said('main_pretrain.py:148', {'images beyond the last whole batch': 'left out', 'images held out': None}),
    **said('[MAE] A.1; models_mae.py:223-250', {
        'decoder.width': 512, 'decoder.depth': 8, 'decoder.heads': 16, 'decoder.mlp ratio': 4,
        'decoder.norm eps': 1e-6}),
    **said('main_pretrain.py:53', {'masking': 'random', 'mask ratio': 0.75}),
    **said('models_mae.py:204-213', {'loss': 'mean squared error of hidden patches'}),
    **said('main_pretrain.py:123-127; [MAE] A.1', {
        'train crop size': 224, 'train crop area': (0.2, 1.), 'train crop aspect': (0.75, 1.3333),
        'train crop interpolation': 'bicubic (PIL)', 'train crop sampling': 'ten tries, then the centre',
        'train flip': 0.5, 'train order of transforms': ('crop', 'flip')})}
_PRETRAIN_ENCODER = dict(output='all tokens after the norm', start='random', positions='column first',
                         mlp_bias_init='0')


def _pretrain(size: str, target: str, epochs: int) -> Recipe:
    facts = {**PRETRAIN, **encoder(size, **_PRETRAIN_ENCODER), **said('PRETRAIN.md; [MAE] Table 1', {'target': target})}
    return Recipe(facts, cosine(2.4e-3, 40 * 312, epochs * 312), 4096)


CLASSIFY = {
    **EVERYWHERE,
    **said('main_finetune.py; main_linprobe.py', {'lr follows the batch': True, 'classes': 1000, 'loss weight': 1.}),
    **said('util/datasets.py:51-65', {
        'test resize': ('short side', 256), 'test interpolation': 'bicubic (PIL)', 'test crop': 224}),
    **said('util/datasets.py:37-48', {
        'train crop size': 224, 'train crop area': (0.08, 1.), 'train crop aspect': (0.75, 1.3333),
        'train crop interpolation': 'bicubic (PIL)', 'train flip': 0.5})}

FINETUNE = {
    **CLASSIFY,
    **said('[MAE] Table 9; main_finetune.py', {'optimizer betas': (0.9, 0.999), 'weight decay': 0.05}),
    **said('util/lr_decay.py:31-37', {
        'weight decay of weights': 'yes', 'weight decay of the class token': 'no',
        'weight decay of the position embedding': 'no', 'weight decay of biases': 'no',
        'weight decay of norms of the encoder': 'no'}),
    **said('models_vit.py:20-32', {'trained': 'everything'}),
    **said('util/datasets.py:37-48', {
        'train crop sampling': 'ten tries, then the centre', 'train augmentation': 'rand-m9-mstd0.5-inc1',
        'train colour jitter': None, 'train order of transforms': ('crop', 'flip', 'augmentation')}),
    **said('main_finetune.py:88-95; timm', {
        'train erasing': 'pixel, probability 0.25, area 0.02 to 0.333',
        'train erasing happens': 'after normalisation'}),
    **said('main_finetune.py:97-109; [MAE] Table 9', {
        'train mixup': 0.8, 'train CutMix': 1., 'label smoothing': 0.1, 'loss': 'cross entropy',
        'labels of the loss': 'soft', 'train mixing': 'a batch with probability 1, CutMix in 0.5 of them'}),
    **said('main_finetune.py:251-257', {'initial weights of the head': 'truncated normal, 2e-05'})}
_POOLED = dict(output='mean of the patches, then a fresh norm')


def _finetune(size: str, lr: float, decay: float, drop_path: float, source: str) -> Recipe:
    epochs = 100 if size == 'base' else 50
    facts = {**FINETUNE, **encoder(size, drop_path=drop_path, **_POOLED), **said(source, {'layer decay': decay}),
             'encoder.drop path': Fact(drop_path, source)}
    curve = cosine(lr, 5 * 1251, epochs * 1251, least=1e-6)  # min_lr: main_finetune.py:73
    facts.update(said('util/lr_sched.py: the least rate is multiplied by the layer decay, too', {
        'lr, last iteration, first layer': 1e-6 / lr}))
    return Recipe(facts, curve, 1024)


def _huge_448(recipe: Recipe) -> Recipe:
    return recipe._replace(facts={
        **recipe.facts, **said('[MAE] Table 3', {'train crop size': 448}),
        **said('util/pos_embed.py:75-96, when weights are loaded', {'encoder.grid of positions': (32, 32)}),
        **said('util/datasets.py:53-57: no border above 224', {'test resize': ('short side', 448), 'test crop': 448})})


def _scratch(size: str) -> Recipe:
    epochs, drop_path = (300, 0.1) if size == 'base' else (200, 0.2)
    unpublished = ('train erasing', 'train erasing happens', 'initial weights of the head', 'train mixing')
    facts = {**FINETUNE, **encoder(size, '[MAE] Table 11', drop_path=drop_path, start='random', **_POOLED),
             **said('[MAE] Table 11', {
                 'optimizer betas': (0.9, 0.95), 'weight decay': 0.3, 'layer decay': 1.,
                 'moving average of the weights': 0.9999}),
             **said('not published', dict.fromkeys(unpublished, ANY))}
    return Recipe(facts, cosine(1.6e-3, 20 * 312, epochs * 312), 4096)


def _linear_probe(size: str) -> Recipe:
    epochs = 90 if size == 'base' else 50
    facts = {**CLASSIFY, **encoder(size, output='class token after the norm'),
             **said('util/lars.py:18-47; [MAE] Table 10', {
                 'optimizer': 'LARS', 'optimizer eps': ANY, 'optimizer momentum': 0.9, 'trust coefficient': 0.001,
                 'weight decay': 0., 'learning rate enters': 'after momentum',
                 'parameters of one dimension have a trust ratio': False}),
             **said('main_linprobe.py:224-227', {'trained': 'what follows the encoder', 'layer decay': 1.}),
             **said('main_linprobe.py:189-222', {
                 'norm before the head': 'BatchNorm without affine, eps 1e-06',
                 'initial weights of the head': 'truncated normal, 0.01', 'loss': 'cross entropy',
                 'labels of the loss': 'hard'}),
             **said('util/crop.py:15-42', {
                 'train crop sampling': 'one try, sides clipped', 'train order of transforms': ('crop', 'flip')})}
    return Recipe(facts, cosine(6.4, 10 * 78, epochs * 78), 16384)


def _partial(recipe: Recipe, blocks: str) -> Recipe:
    """[MAE] section 4.3: as fine-tuning from raw pixels, but for what is trained; the epochs are 50, 100 or 200."""
    trained = f'{blocks}, final norm, what follows the encoder'
    return recipe._replace(facts={**recipe.facts, **said('[MAE] section 4.3, Fig. 9', {'trained': trained})})


_README, _TABLE_9 = 'FINETUNE.md, for the released weights', '[MAE] Table 9, for raw pixels'
RECIPES: dict[str, Recipe] = {
    **{f'pretrain/normalised/{size}': _pretrain(size, 'normalised pixels', 1600) for size in SIZES},
    **{f'pretrain/raw/{size}': _pretrain(size, 'raw pixels', 800) for size in SIZES},
    'finetune/normalised/base': _finetune('base', 2e-3, 0.65, 0.1, _README),
    'finetune/normalised/large': _finetune('large', 4e-3, 0.75, 0.2, _README),
    'finetune/normalised/huge': _finetune('huge', 4e-3, 0.75, 0.3, _README),
    'finetune/raw/base': _finetune('base', 4e-3, 0.75, 0.1, _TABLE_9),
    'finetune/raw/large': _finetune('large', 4e-3, 0.75, 0.1, _TABLE_9),
    'finetune/raw/huge': _finetune('huge', 4e-3, 0.75, 0.2, _TABLE_9),
    **{f'linear-probe/{size}': _linear_probe(size) for size in SIZES},
    **{f'scratch/{size}': _scratch(size) for size in SIZES}}
RECIPES['finetune/normalised/huge-448'] = _huge_448(RECIPES['finetune/normalised/huge'])
RECIPES.update({f'partial/large/{name}': _partial(RECIPES['finetune/raw/large'], blocks) for name, blocks in (
    ('half', 'part of block 23'), ('1', 'block 23'), ('4', 'block 20, block 21, block 22, block 23'))})

from .published_dense import DENSE_RECIPES  # noqa: E402  (made of what is above)

RECIPES.update(DENSE_RECIPES)
