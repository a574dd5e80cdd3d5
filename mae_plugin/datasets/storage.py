"""Reading that may fail for a while: time limits and retries, and remote files, many at once, through fsspec."""

import asyncio
import errno
import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import numpy as np

_AT_ONCE = 16  # requests of one process
_FIRST_PAUSE = 0.5  # seconds before the second try; doubled for each further one
_LISTING = 30  # a listing may be of thousands of requests, which the file system makes by itself
_PASSING = {getattr(errno, name) for name in (
    'EIO ESTALE EBUSY ENETDOWN ENETUNREACH ENETRESET EHOSTDOWN EHOSTUNREACH').split()}
# By name, for the packages are optional: of Python, requests and botocore, then aiohttp, botocore, httpx.
_PASSING_KINDS = {
    'TimeoutError', 'ConnectionError', 'ClientConnectionError', 'ClientPayloadError', 'HTTPClientError',
    'TransportError'}
_VERSION = ('etag', 'md5', 'content-md5', 'crc32c', 'generation', 'versionid', 'mtime', 'modified', 'last-modified',
            'last_modified', 'lastmodified', 'updated', 'created')
# After a fork fsspec forgets its file systems. One of HTTP that is collected in the child first waits for the parent's
# event loop, in vain, then closes sockets that the parent's loop watches. So none is ever collected.
_kept = set()

Request = tuple[str, int | None, int | None]


def is_url(path: str) -> bool:
    """Whether a path is one of fsspec, such as ``s3://bucket/key``."""
    return '://' in path


def _is_http(path: str) -> bool:
    return path.startswith(('http://', 'https://'))


def join(base: str, name: bytes) -> str:
    """Location of a file below a folder or URL. In a name below an HTTP URL nothing is escaped yet."""
    return f'{base.rstrip("/")}/{quote(name) if _is_http(base) else name.decode(errors="surrogateescape")}'


def reason_of(error: BaseException) -> BaseException:
    """What is behind a file that was not found: so fsspec reports every HEAD that fails."""
    return error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ is not None else error


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    error = reason_of(error)
    status = getattr(error, 'status', None) or getattr(error, 'code', None) or getattr(  # of aiohttp, gcsfs, httpx
        getattr(error, 'response', None), 'status_code', None)
    if isinstance(status, int):
        return status >= 500 or status in (408, 429)
    if type(error) is OSError:
        return error.errno is None or error.errno in _PASSING
    return any(kind.__name__ in _PASSING_KINDS for kind in type(error).__mro__)


async def _refuse_whole_file(response: Any) -> None:
    """A check by aiohttp of every response: that of a part must not be the whole file, which may take an hour."""
    if response.status == 200 and 'Range' in response.request_info.headers:
        response.close()
        raise ValueError('the server ignores Range, so no part of the file can be read: copy the file, or unpack it')


class Storage:
    """How a source reads its files.

    What may pass (no answer in time, a connection cut, HTTP 5xx or 429, EIO or ESTALE of a network drive) is tried
    again. When that was in vain and nothing else was answered meanwhile, further requests get one try each until
    something is, and of a batch no more than 16 are made: a server that is gone is noticed soon, whatever the number of
    images asked for.

    Args:
        timeout: seconds that a request to asynchronous file systems (HTTP, S3, GCS, Azure) may take; others have limits
            of their own.
        tries: how often a request is made.
        options: arguments of fsspec's file systems, by protocol: ``dict(s3=dict(anon=True))``.

    Raises:
        ValueError: if ``timeout`` or ``tries`` is out of range.
    """

    def __init__(self, timeout: float = 20, tries: int = 4, options: Mapping[str, Mapping] | None = None) -> None:
        if not timeout > 0:
            raise ValueError(f'storage.timeout={timeout!r} is not above 0 seconds')
        if not (isinstance(tries, int) and tries >= 1):
            raise ValueError(f'storage.tries={tries!r} is not an integer of at least 1')
        if not all(isinstance(arguments, Mapping) for arguments in (options or {}).values()):
            raise ValueError(f'storage.options={dict(options)!r} needs a dict for each protocol, such as '
                             'dict(s3=dict(anon=True))')
        self.timeout = timeout
        self.tries = tries
        self.options = dict(options or {})
        self._answers = 0
        self._gone = False

    def _open(self, url: str) -> tuple[Any, str]:
        """The file system of a URL in this process, and the path in it."""
        import fsspec  # not before it is needed
        protocol = url.split(':', 1)[0]
        options = dict(self.options.get(protocol, {}))
        if protocol in ('http', 'https'):
            options['client_kwargs'] = {**options.get('client_kwargs', {}), 'raise_for_status': _refuse_whole_file}
        try:
            system, path = fsspec.url_to_fs(url, **options)
        except ImportError as error:
            extra = {'https': 'http', 's3a': 's3', 'az': 'abfs'}.get(protocol, protocol)
            raise ImportError(f'{url} needs a package more ({error}): pip install "fsspec[{extra}]"') from error
        except ValueError as error:
            raise ValueError(f'{url} cannot be opened, fsspec says: {error}') from error
        _kept.add(system)
        return system, path

    def _answered(self) -> None:
        self._answers += 1
        self._gone = False

    def _pause(self, error: Exception, tried: int, answers: int) -> float | None:
        """Seconds until the next try; None if there is to be none. ``answers`` there had been before the first."""
        if not _may_pass(error):
            self._answered()
        elif tried < self.tries and not self._gone:
            return _FIRST_PAUSE * 2**(tried - 1)
        else:
            self._gone = self._answers == answers
        return None

    def _failure(self, error: Exception, tried: int) -> Exception:
        if not _may_pass(error):
            return error
        error = reason_of(error)
        failure = ConnectionError(f'{str(error) or type(error).__name__}, '
                                  f'tried {"once" if tried == 1 else f"{tried} times"}')
        failure.__cause__ = error
        return failure

    def attempt(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        """What a function returns, or the exception that is its last word."""
        answers = self._answers
        for tried in count(1):
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                pause = self._pause(error, tried, answers)
                if pause is None:
                    return self._failure(error, tried)
            else:
                self._answered()
                return result
            time.sleep(pause)

    async def _attempt_async(self, limit: float, function: Callable, *args: Any, **kwargs: Any) -> Any:
        answers = self._answers
        for tried in count(1):
            try:
                result = await asyncio.wait_for(function(*args, **kwargs), limit)
            except Exception as error:
                if isinstance(error, asyncio.TimeoutError) and not str(error):
                    error = TimeoutError(f'no answer within {limit:g} s')
                pause = self._pause(error, tried, answers)
                if pause is None:
                    return self._failure(error, tried)
            else:
                self._answered()
                return result
            await asyncio.sleep(pause)

    def _call(self, method: str, calls: Sequence[tuple[Any, str, dict]], limit: float) -> list:
        """Results, or exceptions, of a method of (file system, path, options) each; at once where it is async."""
        results = [None] * len(calls)
        waiting = []
        for number, (system, path, kwargs) in enumerate(calls):
            if isinstance(system, Exception):
                results[number] = system
            elif system.async_impl:
                waiting.append(number)
            else:
                results[number] = self.attempt(getattr(system, method), path, **kwargs)
        if waiting:
            from fsspec.asyn import sync

            async def gather() -> list:
                slots = asyncio.Semaphore(_AT_ONCE)
                failures = []

                async def one(system: Any, path: str, kwargs: dict) -> Any:
                    async with slots:
                        if self._gone and failures:  # they speak for those that wait
                            return failures[-1]
                        result = await self._attempt_async(limit, getattr(system, f'_{method}'), path, **kwargs)
                        if isinstance(result, ConnectionError):
                            failures.append(result)
                        return result
                return await asyncio.gather(*[one(*calls[number]) for number in waiting])
            for number, result in zip(waiting, sync(calls[waiting[0]][0].loop, gather), strict=True):
                results[number] = result
        return results

    def read_many(self, requests: Sequence[Request]) -> list[bytes | Exception]:
        """Files, or parts of files: (URL, first byte or None, end or None) each; for what fails, the exception."""
        calls = []
        for url, start, end in requests:
            try:
                calls.append((*self._open(url), dict(start=start, end=end)))
            except Exception as error:
                calls.append((error, url, {}))
        results = self._call('cat_file', calls, self.timeout)
        for number, (_, start, end) in enumerate(requests):
            if end is not None and isinstance(results[number], bytes) and len(results[number]) != end - start:
                results[number] = EOFError('the archive ends inside this image') if (
                    len(results[number]) < end - start) else ValueError('the server sends more than it was asked for')
        return results

    def read(self, url: str, start: int | None = None, end: int | None = None) -> bytes:
        """A file, or its bytes from ``start`` to before ``end``.

        Raises:
            ConnectionError: if it failed for what may pass, as often as it was tried.
            Exception: of the file system, for what does not pass.
        """
        return only(self.read_many([(url, start, end)]))

    def info(self, urls: Sequence[str]) -> list[dict]:
        """What fsspec knows of some files, ``size`` among it; raises as :meth:`read`."""
        calls = [(*self._open(url), {}) for url in urls]
        for system in {system for system, _, _ in calls}:
            system.invalidate_cache()
        return [only([result]) for result in self._call('info', calls, self.timeout)]

    def marks(self, urls: Sequence[str]) -> np.ndarray:
        """What changes when one of some files is written, as :func:`~.index_cache.mark`: (n, 3) int64."""
        marks = []
        for info in self.info(urls):
            version = sorted((key.lower(), str(value)) for key, value in info.items() if key.lower() in _VERSION)
            digest = hashlib.sha256(repr((info['size'], version)).encode()).digest()
            # Times of zero are long past. Where nothing but a size is known, one in the future forbids a cache.
            marks.append((0 if version else 2**62, 0, int.from_bytes(digest[:7], 'big')))
        return np.array(marks, np.int64)

    def glob(self, pattern: str) -> list[str]:
        """URLs of the files that match a pattern with ``*``; raises as :meth:`read`."""
        system, path = self._open(pattern)
        system.invalidate_cache()
        found = only(self._call('glob', [(system, path, {})], self._listing_limit(path)))
        before = pattern.index('*')
        base, base_path = pattern[:before].rpartition('/')[0], path[:path.index('*')].rpartition('/')[0]
        return [base + match[len(base_path):] for match in sorted(found)]

    def walk(self, url: str) -> Iterator[bytes]:
        """Names of all files below a URL, in no order; raises as :meth:`read`."""
        system, base = self._open(url)
        system.invalidate_cache()  # of listings, which grows with them too
        base = base.rstrip('/')
        below = names_below(base)
        folders, entered = [base], {base}
        while folders:
            # Without its slash an HTTP server answers for a folder by a redirection.
            calls = [(system, f'{folder}/' if _is_http(folder) else folder, dict(detail=True)) for folder in folders]
            folders = []
            for listing in self._call('ls', calls, self._listing_limit(base)):
                for entry in only([listing]):
                    path = entry['name'].rstrip('/')
                    name = below(path)
                    if not name or name.rpartition(b'/')[2].startswith(b'.'):
                        continue
                    if entry['type'] != 'directory':
                        yield name
                    elif path not in entered:
                        entered.add(path)
                        folders.append(path)
        system.invalidate_cache()

    def _listing_limit(self, path: str) -> float:
        return self.timeout if _is_http(path) else _LISTING * self.timeout


def only(results: Iterable) -> Any:
    """The single result, raised if it is an exception."""
    result, = results
    if isinstance(result, Exception):
        raise result
    return result


def names_below(base: str) -> Callable[[str], bytes]:
    """Function from a location to its name below the folder or URL ``base``, as :func:`join` takes it; else empty."""
    def name(path: str) -> bytes:
        if not path.startswith(f'{base}/'):
            return b''
        path = path[len(base) + 1:]
        if not _is_http(base):
            return path.encode(errors='surrogateescape')
        return b'' if '?' in path else unquote_to_bytes(path)  # such links sort an index page
    return name


class RemoteFile(io.RawIOBase):
    """A remote file to seek in, of which only what is read is fetched; to be put into a ``BufferedReader``.

    Args:
        storage: fetches.
        url: of the file.
        size: of the file in bytes.
    """

    def __init__(self, storage: Storage, url: str, size: int) -> None:
        super().__init__()
        self._storage, self._url, self._size, self._position = storage, url, size, 0

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: D102
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        data = self._storage.read(self._url, self._position, end)
        buffer[:len(data)] = data
        self._position = end
        return len(data)
