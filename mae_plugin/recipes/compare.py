"""A config against a published recipe, fact by fact."""

import contextlib
import io
import logging
import math
import textwrap
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from .effects import BEHAVIOUR, effect_of
from .facts import accumulated, dense_part, read_facts
from .lr_curve import ZERO
from .parts import bare, flat
from .published import ANY, RECIPES, Fact, Recipe

_LR_TOLERANCE = 5e-3  # MMEngine reaches the peak an iteration earlier than the authors: 0.4 % of a warm-up of 250


class Difference(NamedTuple):
    """A fact in which a config is not the recipe; ``None`` where one of them says nothing."""

    fact: str
    published: object
    here: object
    effect: str
    source: str


def compare(cfg, name: str, batch: int | None = None) -> list[Difference]:
    """All differences of a config from a published recipe.

    Args:
        cfg: The config.
        name: A name of :data:`RECIPES`.
        batch: Images of a step over all processes; by default the config's ``recipe.batch_size``, else the published
            one, times ``accumulative_counts``.

    Raises:
        KeyError: There is no such recipe.
        ValueError: The config says nothing of training.
    """
    if name not in RECIPES:
        raise KeyError(f'there is no published recipe {name!r}; there are {", ".join(sorted(RECIPES))}')
    missing = [key for key in ('model', 'train_dataloader', 'optim_wrapper', 'train_cfg') if not cfg.get(key)]
    if missing:
        raise ValueError(f'{cfg.filename} has no {", ".join(missing)}: a config for training is needed')
    recipe = RECIPES[name]
    iterations = accumulated(cfg)
    batch = batch or ((cfg.get('recipe') or {}).get('batch_size') or recipe.batch) * iterations
    with _quiet():
        published = published_facts(recipe, batch, iterations, cfg.get('default_scope'))
        here = read_facts(cfg, recipe, batch)
    found = [_difference(name, fact, published.get(fact), here.get(fact)) for fact in {**published, **here}]
    return [difference for difference in found if difference] + _behaviour(cfg)


@contextlib.contextmanager
def _quiet():
    """Without the many lines that the libraries' constructors write."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(logging.NOTSET)


def published_facts(recipe: Recipe, batch: int, iterations: int, scope: str | None) -> dict[str, Fact]:
    """All facts of a recipe, the learning rate at its points among them, the heads leaf by leaf.

    Args:
        recipe: The recipe.
        batch: Images of a step.
        iterations: Of a step.
        scope: Of the library that the heads are of.
    """
    curve, times = recipe.curve, recipe.batch / batch
    source = 'the schedule at these iterations'
    facts = {'batch': Fact(recipe.batch, 'the schedule is made for it'),
             'iterations': Fact(round(curve.length * times * iterations), 'epochs by drop_last'),
             'lr': Fact(curve.peak / times if recipe.scales else curve.peak, source)}
    facts.update({f'lr, {name}': Fact(curve.at(i) / curve.peak, source) for name, i in curve.points.items()})
    facts['lr, last iteration, first layer'] = facts['lr, last iteration']
    facts.update(recipe.facts)
    if recipe.heads:
        for name, part in recipe.heads.value.items():
            leaves = flat(dense_part(part, scope), name)
            facts.update({leaf: Fact(value, recipe.heads.source) for leaf, value in leaves.items()})
    return facts


def _difference(recipe: str, fact: str, published: Fact | None, here: object) -> Difference | None:
    expected = published.value if published else None
    if expected is ANY or _equal(fact, expected, here):
        return None
    if here is None and fact.startswith(('weight decay of ', 'lr, ')):
        return None  # nothing of this kind is trained; or the whole schedule is a difference of its own
    return Difference(fact, expected, here, effect_of(fact, recipe), published.source if published else '-')


def _equal(fact: str, a: object, b: object) -> bool:
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str) and not isinstance(b, str):
        return len(a) == len(b) and all(_equal(fact, x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float | int) and isinstance(b, float | int):
        share = _LR_TOLERANCE if fact.startswith('lr') else 1e-6
        return math.isclose(a, b, rel_tol=share, abs_tol=ZERO if fact.startswith('lr,') else 1e-12)
    return a == b


def _behaviour(cfg) -> list[Difference]:
    """What the code of the config's parts does, whatever its settings."""
    model = cfg.model
    kinds = [bare((model.get(slot) or {}).get('type')) for slot in ('backbone', 'neck', 'head')]
    kinds.append(bare(cfg.optim_wrapper.get('constructor')))
    if cfg.get('default_scope') == 'mmseg':
        kinds = ['MAE(mmseg)' if kind == 'MAE' else kind for kind in kinds]
    ours = str((model.get('backbone') or {}).get('type', '')).startswith('mae_plugin.')
    return [] if ours else [
        Difference(f'code of {kind}: {fact}', *rest) for kind in kinds for fact, *rest in BEHAVIOUR.get(kind, ())]


def table(differences: Sequence[Difference], columns: int = 160) -> str:
    """The differences as a table for people, ``columns`` characters wide at most."""
    width = max(16, (columns - 8) // 5)
    rows = [('fact', 'published', 'here', 'what is known of its effect', 'source'),
            *((d.fact, _text(d.published), _text(d.here), d.effect, d.source) for d in differences)]
    cells = [[textwrap.wrap(text, width) or [''] for text in row] for row in rows]
    widths = [max(len(line) for row in cells for line in row[column]) for column in range(5)]
    lines = []
    for row in cells:
        for i in range(max(map(len, row))):
            lines.append('  '.join((cell[i] if i < len(cell) else '').ljust(w)
                                   for cell, w in zip(row, widths, strict=True)).rstrip())
        lines.append('  '.join('-' * w for w in widths) if row is cells[0] else '')
    return '\n'.join(lines)


def _text(value: object) -> str:
    if value is None:
        return '-'
    return f'{value:.6g}' if isinstance(value, float) else str(value)
