"""Images that cannot be read: counted, listed, and too many of them stop the run."""

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log

from mae_plugin.registry import HOOKS

from .hooks import checkpoint_follows, log_line_follows
from .throughput import data_samples_of

_WARNED = 10
_JUDGED = 1000  # images after which a share is one


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Counts the images that could not be read, lists them in ``bad_images.csv``, and stops the run at too many.

    It reads ``bad_images``, ((path, reason), ...), in the meta information of the loader's ``data_samples``: those that
    a sample stands for, see :class:`~mae_plugin.datasets.UnlabelledImages`. Whoever finds an image bad later, such as
    a data preprocessor that decodes on the device, adds to ``bad_images`` of that sample in the batch it was given
    (not of the copy that it returns) before the iteration ends. Samples without it only count as images drawn.

    The file in the work directory has the path, the reason and the iteration of the first time, each image once, from
    all processes. They exchange what is new every ``interval`` iterations, before checkpoints and at the end of
    validations and of the run; one process alone writes at once. The first ten are also warned of, and ``bad_images``
    in the log is the length of the list. A resumed run goes on with list and counts.

    Args:
        max_share: The run stops when more than this share of the images drawn so far could not be read, in [0, 1]; an
            image counts each time it is drawn, and the first 1,000 as 1,000. 0 stops at the first.
        interval: Iterations between exchanges of several processes.

    Raises:
        ValueError: If an argument is out of range; at an exchange, on all processes, if too many could not be read.
    """

    priority = 'NORMAL'  # before the LoggerHook and the CheckpointHook

    def __init__(self, max_share: float = 0.01, interval: int = 200) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f'BadImagesHook: max_share={max_share!r} is not in [0, 1]')
        if interval < 1:
            raise ValueError(f'BadImagesHook: interval={interval!r} is not at least 1')
        self.max_share = max_share
        self.interval = interval
        self.file: Path | None = None  # in a training
        self.listed: dict[str, tuple[str, int]] = {}  # path: reason, iteration
        self.new: dict[str, tuple[str, int]] = {}  # of this process, since the last exchange
        self.counts = [0, 0]  # images drawn and bad ones among them, of all processes until the last exchange
        self.own_counts = [0, 0]  # of this process since then

    def before_train(self, runner) -> None:
        """Go on with the list and the counts of the run that is resumed; a new run has none."""
        self.file = Path(runner.work_dir) / 'bad_images.csv'
        self.counts = list(runner.message_hub.runtime_info.get('images_drawn_and_bad', (0, 0)))
        self.listed = {}
        if not is_main_process():
            return
        if runner._resume and self.file.exists():
            with open(self.file, newline='', encoding='utf-8', errors='surrogateescape') as file:
                rows = [row for row in csv.reader(file) if len(row) == 3 and row[2].isdecimal()]
            self.listed = {path: (reason, int(iteration)) for path, reason, iteration in rows}
        self.file.unlink(missing_ok=True)
        self._write(self.listed)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Count; exchange where it is time; hand the length of the list to a line of the log."""
        self._count(data_batch, runner.iter + 1)
        if (self.every_n_train_iters(runner, self.interval) or checkpoint_follows(runner)
                or self.new and get_world_size() == 1):
            self._exchange(runner)
        if self.listed and log_line_follows(runner, batch_idx):
            runner.message_hub.update_scalar('train/bad_images', len(self.listed))

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Count."""
        self._count(data_batch, runner.iter)

    def after_val(self, runner) -> None:
        """Exchange, if it is a validation of a training."""
        if self.file:
            self._exchange(runner)

    def after_train(self, runner) -> None:
        """Exchange what was drawn since the last time."""
        self._exchange(runner)

    def _count(self, data_batch: Any, iteration: int) -> None:
        for sample in data_samples_of(data_batch):
            bad = sample.get('bad_images', ())
            self.own_counts[0] += 1 + len(bad)
            self.own_counts[1] += len(bad)
            for path, reason in bad:
                if path not in self.listed:
                    self.new.setdefault(path, (reason, iteration))

    def _exchange(self, runner) -> None:
        """Make the list and the counts of all processes the same; write, warn of what is new, and judge the share."""
        gathered = all_gather_object((self.own_counts, self.new))
        self.counts = [sum(numbers) for numbers in zip(self.counts, *(counts for counts, _ in gathered), strict=True)]
        found: dict[str, tuple[str, int]] = {}  # the first time of each
        for iteration, path, reason in sorted((iteration, path, reason) for _, new in gathered
                                              for path, (reason, iteration) in new.items()):
            if path not in self.listed:
                found.setdefault(path, (reason, iteration))
        self.own_counts, self.new = [0, 0], {}
        runner.message_hub.update_info('images_drawn_and_bad', self.counts)
        for path, (reason, _) in list(found.items())[:max(_WARNED - len(self.listed), 0)]:
            print_log(f'Another image takes the place of {_told(path, reason)} (of these, {_WARNED} are logged and all '
                      f'listed in {self.file})', logger='current', level=logging.WARNING)
        self.listed.update(found)
        self._write(found)
        self._judge()

    def _judge(self) -> None:
        drawn, bad = self.counts
        if bad > self.max_share * max(drawn, _JUDGED):
            first = '; '.join(_told(path, reason) for path, (reason, _) in list(self.listed.items())[:_WARNED])
            raise ValueError(
                f'{bad:,} of the {drawn:,} images drawn so far ({bad / drawn:.2%}) could not be read, more than '
                f'default_hooks.bad_images.max_share={self.max_share} allows (raise it to go on without them); the '
                f'{len(self.listed):,} different ones are listed in {self.file}, the first being {first}')

    def _write(self, entries: Mapping[str, tuple[str, int]]) -> None:
        if entries and is_main_process():
            begin = not self.file.exists()
            # Names that are no text survive.
            with open(self.file, 'a', newline='', encoding='utf-8', errors='surrogateescape') as file:
                writer = csv.writer(file)
                writer.writerows([('path', 'reason', 'iteration')] if begin else [])
                writer.writerows((path, reason, iteration) for path, (reason, iteration) in entries.items())


def _told(path: str, reason: str) -> str:
    return f'{path}: {reason.removeprefix(f"cannot read the image {path}: ")}'

