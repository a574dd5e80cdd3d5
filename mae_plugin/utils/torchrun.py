"""``python -m mae_plugin.utils.torchrun``: torchrun, except that a failure is reported in one message."""

import logging
import sys
from collections.abc import Sequence

from mae_plugin.utils.cli import run_cli


def main(argv: Sequence[str]) -> None:
    """Run torchrun with its own arguments.

    Raises:
        ValueError: A process failed; names the first one and its error.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    if '--debug' not in argv:
        logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    try:
        run.run(run.parse_args(argv))
    except SignalException as signal:
        sys.exit(128 + signal.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        message = failure.message['message'] if isinstance(failure.message, dict) else failure.message
        if failure.error_file_data.get('message') == '<NONE>' and failure.exitcode > 0:
            message = 'its error is above'
        raise ValueError(f'rank {rank} stopped first, with exit code {failure.exitcode}: {message}') from failed


if __name__ == '__main__':
    sys.exit(run_cli(main))
