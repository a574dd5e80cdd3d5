"""Make the environment that `make test`, `make demo` and `make lint` run in; return at once if it is there.

It runs on the machine's own Python, before anything is installed, so it needs the standard library only. What the
steps do, which variables they obey and what the messages mean is in docs/install.md.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

PYTHONS = ((3, 10), (3, 12))


def wrong_python(version) -> str:
    """Returns what is wrong with a Python of this version, or nothing."""
    if PYTHONS[0] <= tuple(version[:2]) <= PYTHONS[1]:
        return ''
    names = [f'python3.{minor}' for minor in (12, 11, 10)]
    here = next((name for name in names if shutil.which(name) and not subprocess.call(
        [name, '-V'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)), None)
    hint = 'this machine has one' if here else 'install one of them and name it'
    hint += f': PYTHON={here or "python3.12"} make setup'
    return f'Python 3.10, 3.11 or 3.12 is needed, and {sys.executable} is {version[0]}.{version[1]}; {hint}'


if wrong_python(sys.version_info):  # before the hints below, which older Pythons cannot evaluate
    sys.exit('set-up: ' + wrong_python(sys.version_info))

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / 'requirements'
STACKS = ('onedl', 'openmmlab')
STAMPS = 'mae_plugin_setup.json'
PYTHON = f'{sys.version_info[0]}.{sys.version_info[1]}'

# What the compiler sees before each of mmcv's 78 files. Compiled once, it saves more than half of the whole build.
PRECOMPILED = '#include <torch/types.h>\n'
# gcc takes a precompiled header only with the flags of the build, so they come from where torch takes them.
PRECOMPILE = """
import os, subprocess, sys, sysconfig
import setuptools
from distutils.ccompiler import new_compiler
from distutils.sysconfig import customize_compiler
from torch.utils.cpp_extension import include_paths
compiler = new_compiler()
customize_compiler(compiler)
cxx = os.environ.get('CXX', 'c++').split()
if 'Free Software Foundation' not in subprocess.run([*cxx, '--version'], capture_output=True, text=True).stdout:
    sys.exit('only gcc falls back by itself where a precompiled header does not fit')
paths = [f'-I{path}' for path in [*include_paths(), sysconfig.get_path('include')]]
flags = ['-std=c++17', '-DTORCH_API_INCLUDE_EXTENSION_H', '-DTORCH_EXTENSION_NAME=_ext']
header = sys.argv[1]
subprocess.run([*cxx, *compiler.compiler_so[1:], *paths, *flags, '-x', 'c++-header', header, '-o', header + '.part'],
               check=True)
os.replace(header + '.part', header + '.gch')
"""
PROBE = """
import json, re, subprocess, torch
from torch.utils.cpp_extension import CUDA_HOME
nvcc = None
if CUDA_HOME:
    try:
        text = subprocess.run([f'{CUDA_HOME}/bin/nvcc', '--version'], capture_output=True, text=True).stdout
        nvcc = re.search(r'release ([0-9.]+)', text)[1]
    except (OSError, TypeError):
        pass
print(json.dumps([torch.__version__, torch.version.cuda, nvcc, torch.cuda.is_available()]))
"""
BOXES = """
import sys, torch
boxes, scores = torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29]]), torch.tensor([.9, .8, .7])
"""
PROOF_TORCH = BOXES + """
import torchvision
assert torchvision.ops.nms(boxes, scores, .5).tolist() == [0, 2]
"""
PROOF_OPS = BOXES + """
import mmcv.ops
for device in sys.argv[1:]:
    assert mmcv.ops.nms(boxes.to(device), scores.to(device), .5)[1].tolist() == [0, 2]
"""
PROOF_ALL = PROOF_TORCH + PROOF_OPS + """
import cv2, importlib, importlib.metadata, mae_plugin, mmengine, timm
for part in ('datasets', 'models', 'evaluation'):
    for library in ('mmdet', 'mmseg', 'mmpretrain'):
        importlib.import_module(f'{library}.{part}')
names = {dist.metadata['Name'] for dist in importlib.metadata.distributions()}
assert [name for name in names if name.startswith('opencv')] == ['opencv-python-headless'], names
"""

NETWORK = '|'.join((
    'Failed to establish a new connection', 'NameResolutionError', 'Temporary failure in name resolution',
    'Connection refused', 'Network is unreachable', '[Rr]ead timed out', 'ConnectTimeout', 'ConnectionReset',
    'ConnectionError', 'Connection broken', 'IncompleteRead', 'RemoteDisconnected', 'connection (?:failed|timed out)'))
# The first that matches what a failed command printed says what to do. {what} is the package it was about.
REASONS = (
    (r'No space left on device|Errno 28|Disk quota exceeded',
     'the disk is full: make room (an environment takes about 5 GB, fetching it 3 more), or name a larger disk for '
     'the environment (VENV=...) and for temporary files (TMPDIR=...)'),
    (r'Killed signal terminated program|internal compiler error: Killed|virtual memory exhausted|'
     r'(?:c\+\+|cc1plus): out of memory',
     'the compiler ran out of memory: MAX_JOBS=1 make setup compiles one file at a time'),
    (r'Python\.h: No such file',
     'no headers of Python {python}: Debian, Ubuntu: apt install python{python}-dev; Fedora: dnf install '
     'python3-devel'),
    (r'cannot find -l|crt1\.o|stdlib\.h: No such file|<?(?:new|vector|cstddef)>?: No such file',
     'the C++ compiler is not complete: Debian, Ubuntu: apt install build-essential; Fedora: dnf install gcc-c++'),
    (r'ensurepip is not|No module named .?ensurepip',
     'this Python cannot make environments: Debian, Ubuntu: apt install python{python}-venv'),
    (r'CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError|certificate verify failed',
     '{what} could not be fetched: the certificate of the package index, or of the proxy before it, is not trusted; '
     'name the right one with PIP_CERT=/path/to/ca.pem'),
    (r'ProxyError|Tunnel connection failed|Proxy Authentication',
     '{what} could not be fetched: the proxy refuses, or is not there (HTTPS_PROXY, HTTP_PROXY, PIP_PROXY)'),
    (r'not a trusted or secure host',
     '{what} could not be fetched: the package index has no https; PIP_TRUSTED_HOST=its.name allows that'),
    (r'HTTP error (\d+)|(\d{3}) Client Error|(\d{3}) Server Error',
     '{what} could not be fetched: the package index refuses; if PIP_INDEX_URL names a mirror, try another'),
    (NETWORK,
     '{what} could not be fetched: no connection to the package index; behind a proxy set HTTPS_PROXY, for a mirror '
     'PIP_INDEX_URL, for wheels in a folder PIP_FIND_LINKS; then the same command carries on'),
    (r'ResolutionImpossible|conflicting dependencies|requires torch==',
     'the pinned versions do not go together; torch and torchvision come in pairs: see requirements/torch.txt, and '
     'PIP_CONSTRAINT if you set one'),
    (r'from versions: none',
     '{what} was not found: there is no connection to the package index, or it lacks this package (PIP_INDEX_URL, '
     'HTTPS_PROXY)'),
    (r'No matching distribution found|Could not find a version',
     '{what} is not in the package index: a mirror (PIP_INDEX_URL) may lack it, and so may all if requirements/ was '
     'changed'),
    (r'Permission denied|Errno 13', 'no permission to write: {line}'),
)


class SetupError(Exception):
    """What stops the set-up, in words that say what to do."""


def explain(lines, what: str) -> str:
    """Says in a sentence why a command failed.

    Args:
        lines: What it printed.
        what: What it was to do, in words.
    """
    text = '\n'.join(lines)
    asked = re.findall(r'No matching distribution found for (\S+)', text) or re.findall(
        r'requirement (\S+)(?: \(from|$)', text) or re.findall(r'^\s*(?:Collecting|Downloading) (\S+)', text, re.M)
    package = asked[-1].split('/')[-1] if asked else what
    for pattern, message in REASONS:
        found = re.search(pattern, text)
        if found:
            line = text[text.rfind('\n', 0, found.start()) + 1:].split('\n')[0].strip()
            return message.format(what=package, line=line, python=PYTHON)
    compiler = [line for line in lines if re.search(r': (?:fatal )?error: ', line)][:1]
    errors = compiler or [line for line in lines if re.search(r'error\b', line, re.I)] or lines or ['not a word']
    return f'{what} failed: {errors[-1].strip()}'


# --- checks of the machine -------------------------------------------------------------------------------------------


def check_venv():
    """Python can make environments (Debian's needs a package for it)."""
    if not (importlib.util.find_spec('venv') and importlib.util.find_spec('ensurepip')):
        raise SetupError(f'{sys.executable} cannot make environments (no venv, or no ensurepip): Debian, Ubuntu: '
                         f'apt install python{PYTHON}-venv')


def check_compiler():
    """There is a C++ compiler and Python's headers, for mmcv's ops."""
    compiler = shlex.split(os.environ.get('CXX', 'c++'))[0]
    if not shutil.which(compiler):
        raise SetupError(f'no C++ compiler ({compiler}), which mmcv needs: Debian, Ubuntu: apt install g++; Fedora: '
                         'dnf install gcc-c++; or name yours: CXX=clang++ make setup')
    header = Path(sysconfig.get_path('include'), 'Python.h')
    if not header.is_file():
        raise SetupError(f'no headers of Python {PYTHON} ({header}), which mmcv needs: Debian, Ubuntu: apt install '
                         f'python{PYTHON}-dev; Fedora: dnf install python3-devel')


def check_disk(folder: Path):
    """There is room for an environment: 8 GB, or what MAE_PLUGIN_MIN_DISK_GB says."""
    try:
        needed = float(os.environ.get('MAE_PLUGIN_MIN_DISK_GB', '8'))
    except ValueError:
        raise SetupError(f'MAE_PLUGIN_MIN_DISK_GB is no number: {os.environ["MAE_PLUGIN_MIN_DISK_GB"]}') from None
    free = free_gb(folder)
    if free < needed:
        raise SetupError(f'{free:.1f} GB are free at {folder}, and {needed:g} are needed: make room, put the '
                         'environment on another disk (VENV=/other/disk/venv make setup), or skip this check '
                         '(MAE_PLUGIN_MIN_DISK_GB=0 make setup)')


def free_gb(folder: Path) -> float:
    """Returns the free space of the disk that `folder` will be on, in GB."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e9


# --- what the user sees, and how commands run ------------------------------------------------------------------------


class Display:
    """Lines that stay, and one that changes while a step runs (no terminal: a new one every 20 seconds)."""

    def __init__(self, stream=None, every: float = 20):
        self.stream = stream or sys.stdout
        self.every = every
        self.tty = self.stream.isatty()
        self.start()

    def start(self):
        """Begins to count the time of a step."""
        self.begun = self.shown = time.monotonic()

    def elapsed(self) -> str:
        """Returns the time since the step began, as minutes:seconds."""
        minutes, seconds = divmod(int(time.monotonic() - self.begun), 60)
        return f'{minutes}:{seconds:02}'

    def say(self, text: str):
        """Prints a line that stays."""
        self.stream.write(('\r\033[K' if self.tty else '') + text + '\n')
        self.stream.flush()

    def status(self, text: str):
        """Shows how far the step is."""
        line = f'      {self.elapsed()} {text}'
        if self.tty:
            self.stream.write('\r\033[K' + line[:shutil.get_terminal_size().columns - 1])
            self.stream.flush()
        elif time.monotonic() - self.shown >= self.every:
            self.shown = time.monotonic()
            self.say(line)


class PipStatus:
    """Turns the lines of pip into a few words: what it is at, and how far."""

    def __init__(self):
        self.words, self.size, self.fetched = 'looking up versions', '', 0

    def __call__(self, line: str) -> str:
        """Returns the words after one more line."""
        found = re.match(r'\s*(Downloading|Using cached) (\S+)(?: \((.+)\))?', line)
        amount = re.match(r'Progress (\d+) of (\d+)', line)
        packages = re.match(r'Installing collected packages: (.*)', line)
        if amount:
            done, total = map(int, amount.groups())
            self.fetched += total if done == total else 0
            far = self.fetched + (done if done < total else 0)
            return f'{self.words}, {100 * done // max(total, 1)}% ({far / 1e9:.2f} GB in all)'
        if found:
            size = f' ({found[3]})' if found[3] else ''
            self.words = f'fetching {"-".join(found[2].split("/")[-1].split("-")[:2])}{size}'
        elif packages:
            count = packages[1].count(',') + 1
            self.words = f'unpacking {count} package{"s" * (count > 1)}'
        return self.words


def ninja_status(line: str) -> str:
    """Turns a line of the compilation into its counter, `[n/N] file`."""
    found = re.match(r"\s*(\[\d+/\d+\]) .*?([^/']+)\.o'?\.d ", line)
    return f'{found[1]} {found[2]}' if found else ''


class Shell:
    """Runs commands without a word; what they print goes to a log, a few words of it to the display."""

    def __init__(self, log: Path, display: Display, environ: dict):
        self.log, self.display, self.environ = log, display, environ

    def __call__(self, command: list, what: str, status=lambda line: '', **environ) -> list:
        """Runs a command to its end and returns its lines.

        Args:
            command: The command and its arguments.
            what: What it does, in words, for the message if it fails.
            status: Takes a line, returns what to show of it (nothing: leave what is shown).
            environ: Variables for this command alone.

        Raises:
            SetupError: It failed; the message says why and names the log.
        """
        lines, words = [], ['']
        # A session of its own, so that an interruption ends the compilers too and only we say so.
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, text=True, errors='replace', start_new_session=True,
                                   cwd=str(ROOT), env={**self.environ, **environ})

        def read():
            with open(self.log, 'a', encoding='utf-8') as log:
                log.write(f'$ {" ".join(map(str, command))}\n')
                for line in process.stdout:
                    words[0] = status(line) or words[0]
                    if not line.startswith('Progress '):
                        lines.append(line.rstrip('\n'))
                        log.write(line)
                        log.flush()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            while reader.is_alive():
                reader.join(.3)
                self.display.status(words[0] or what)
            process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
        if process.returncode:
            raise SetupError(f'{explain(lines, what)} (all it printed: {self.log})')
        return lines


# --- the environment -------------------------------------------------------------------------------------------------


def pins(name: str) -> list:
    """Returns the lines `package==version` of a file in requirements/."""
    lines = (line.split('#')[0].strip() for line in (REQUIREMENTS / name).read_text(encoding='utf-8').splitlines())
    return [line for line in lines if line]


def cache_folder() -> Path:
    """Returns where compiled wheels are kept: MAE_PLUGIN_CACHE, else mae_plugin in the user's cache."""
    home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(os.environ.get('MAE_PLUGIN_CACHE') or Path(home, 'mae_plugin')).absolute() / 'wheels'


def cache_key(python: str, torch: str, package: str, version: str, ops: str) -> str:
    """Returns the folder name of a compiled mmcv: everything its binary depends on."""
    return f'cp{python.replace(".", "")}-{sysconfig.get_platform()}-torch{torch}-{package}-{version}-{ops}'


def local_wheels(python: str, package: str, version: str) -> list:
    """Returns compiled wheels of mmcv that lie on this machine: in the cache, or where PIP_FIND_LINKS points."""
    cached = cache_folder().glob(cache_key(python, '*', package, version, '*'))
    named = map(Path, os.environ.get('PIP_FIND_LINKS', '').split())
    wheel = f'{package.replace("-", "_")}-{version}-cp{python.replace(".", "")}-*.whl'
    return [path for folder in [*cached, *named] for path in folder.glob(wheel)]


def choose_ops(force: str, gpu: bool, torch_cuda, nvcc) -> tuple:
    """Decides for which device mmcv's ops are compiled.

    Args:
        force: FORCE_CUDA, '1' or '0' or empty.
        gpu: Whether torch sees a GPU.
        torch_cuda: CUDA version of torch, or None.
        nvcc: CUDA version of the compiler, or None.

    Returns:
        'cuda' or 'cpu', and what the user should know about it.
    """
    if force == '1':
        return 'cuda', ''
    if force == '0' or not gpu or not torch_cuda:
        return 'cpu', ''
    if nvcc and nvcc.split('.')[0] == torch_cuda.split('.')[0]:
        return 'cuda', ''
    found = f'nvcc {nvcc}' if nvcc else 'no nvcc'
    return 'cpu', (f'there is a GPU, but {found}: mmcv gets CPU ops, with which pretraining and classification run on '
                   f'the GPU, detection does not; install the CUDA toolkit {torch_cuda.split(".")[0]} and call '
                   'FORCE_CUDA=1 make setup')


def jobs() -> int:
    """Returns how many files are compiled at once: a core and 1.2 GB of free memory each."""
    if os.environ.get('MAX_JOBS', '').isdigit():
        return int(os.environ['MAX_JOBS'])
    cores = len(os.sched_getaffinity(0))
    found = re.search(r'MemAvailable:\s+(\d+)', Path('/proc/meminfo').read_text())
    return max(1, min(cores, int(found[1]) // 1200000)) if found else cores


class Environment:
    """A virtual environment, and which steps of the set-up it has behind it.

    Args:
        venv: Its folder.
        stack: OpenMMLab family, 'onedl' or 'openmmlab'.
        display: Where progress is shown.
        keep_python: An environment that is there keeps its Python, whatever runs this script.
    """

    def __init__(self, venv: Path, stack: str, display: Display, keep_python: bool = False):
        self.venv, self.stack, self.display = venv, stack, display
        self.python = venv / 'bin' / 'python'
        self.stamps, self.note = {}, ''
        if (venv / STAMPS).is_file():
            try:
                self.stamps = json.loads((venv / STAMPS).read_text())
            except ValueError:  # not ours to read: begin anew
                pass
        self.version = self.stamps.get('python', PYTHON) if keep_python and self.python.exists() else PYTHON
        temporary = os.environ.get('TMPDIR') or venv / 'tmp'
        environ = {name: value for name, value in os.environ.items() if name not in ('PYTHONPATH', 'PYTHONHOME')}
        environ.update(PATH=f'{venv / "bin"}{os.pathsep}{os.environ.get("PATH", "")}', TMPDIR=str(temporary),
                       PYTHONNOUSERSITE='1', PYTHONUNBUFFERED='1', PIP_USER='0', PIP_NO_INPUT='1', LC_ALL='C.UTF-8',
                       PIP_DISABLE_PIP_VERSION_CHECK='1')
        self.shell = Shell(venv / 'setup.log', display, environ)
        self.mmcv = next(pin for pin in pins(f'{stack}.txt') if re.match(r'(onedl-)?mmcv==', pin)).split('==')

    def steps(self) -> list:
        """Returns (name, what the user reads, files it depends on, function) of every step in order."""
        def files(*names):
            return [REQUIREMENTS / f'{name}.txt' for name in names]

        return [
            ('venv', f'environment {self.venv} (Python {self.version})', [], self.make_venv),
            ('tools', 'pip, setuptools, ninja', files('build'), self.install_tools),
            ('torch', 'PyTorch', files('torch', 'constraints'), self.install_torch),
            ('libraries', f'the OpenMMLab family {self.stack} and other libraries',
             files('base', self.stack, 'demo', 'test'), self.install_libraries),
            ('mmcv', f'{"==".join(self.mmcv)} with compiled ops', files(self.stack), self.install_mmcv),
            ('transformers', 'transformers, in a folder of its own', files('transformers'), self.install_transformers),
            ('project', 'mae_plugin, editable', [ROOT / 'setup.cfg', ROOT / 'pyproject.toml'], self.install_project),
            ('proof', 'proof that all of it runs', [], self.prove_all),
        ]

    def keys(self) -> dict:
        """Returns what each step's stamp must say: a hash of its own inputs and of all the steps before it."""
        key, keys = f'{self.version} {self.stack} {self.venv}', {}
        for name, _, files, _ in self.steps():
            content = [key.encode(), name.encode(), *(file.read_bytes() for file in files)]
            keys[name] = key = hashlib.sha256(b'\0'.join(content)).hexdigest()
        return keys

    def packages(self) -> set:
        """Returns the names, with versions, of what is installed."""
        folder = self.venv / 'lib' / f'python{self.version}' / 'site-packages'
        return {path.name[:-len('.dist-info')] for path in folder.glob('*.dist-info')}

    def open_steps(self) -> list:
        """Returns the names of the steps that are still to be done; none where the environment is ready."""
        keys = self.keys()
        if not self.python.exists():
            self.stamps = {}
        force = {'0': 'cpu', '1': 'cuda'}.get(os.environ.get('FORCE_CUDA', ''))
        if force and self.stamps.get('ops', force) != force:
            self.stamps.pop('mmcv', None)
        now = self.packages()
        changed = [name for name in self.stamps.get('packages', []) if name not in now]
        changed += [name for name in now if name.startswith('opencv_python-')]
        if changed and self.stamps.get('proof') == keys['proof']:
            self.note = f'{self.venv} was changed after its set-up ({", ".join(sorted(changed))}): put right'
            self.stamps = {key: self.stamps[key] for key in ('python', 'venv')}
        left = [name for name in keys if self.stamps.get(name) != keys[name]]
        return left and list(dict.fromkeys([*left, 'proof']))

    def save(self, **stamps):
        """Writes the stamps down, at once or not at all."""
        self.stamps.update(stamps)
        part = self.venv / f'{STAMPS}.part'
        part.write_text(json.dumps(self.stamps, indent=1))
        part.replace(self.venv / STAMPS)

    def make(self):
        """Does the steps that are open."""
        left = self.open_steps()
        if not left:
            return
        self.check_machine(left)
        if self.note:
            self.display.say(self.note)
        if 'venv' not in left:  # what is begun and not finished must not pass for what was done before
            self.stamps = {key: value for key, value in self.stamps.items() if key not in left}
            self.save()
        begun = time.monotonic()
        steps, keys = self.steps(), self.keys()
        for number, (name, title, _, run) in enumerate(steps, 1):
            done = '' if name in left else ': there already'
            self.display.say(f'[{number}/{len(steps)}] {title}{done}')
            if not done:
                self.display.start()
                run()
                self.save(**{name: keys[name]})
                self.display.say(f'      done in {self.display.elapsed()}')
        self.save(packages=sorted(self.packages()))
        shutil.rmtree(self.venv / 'tmp', ignore_errors=True)
        self.display.begun = begun
        self.display.say(f'set up in {self.display.elapsed()}: {self.venv}')

    def check_machine(self, left: list):
        """Raises SetupError where this machine lacks what the open steps need."""
        if 'venv' in left:
            check_venv()
            if Path(sys.prefix).resolve() == self.venv:
                raise SetupError(f'{self.venv} cannot be made anew by its own Python: leave it (`deactivate`), or name '
                                 'another: PYTHON=/usr/bin/python3 make setup')
            if self.venv.exists() and not (self.venv / STAMPS).is_file():
                raise SetupError(f'{self.venv} exists and was not made by this set-up: delete it, or name another '
                                 'folder: VENV=.venv-mae make setup')
        if 'mmcv' in left and not local_wheels(self.version, *self.mmcv):
            check_compiler()
        if 'torch' in left:
            check_disk(self.venv)

    # --- the steps ---------------------------------------------------------------------------------------------------

    def make_venv(self):
        """Makes the environment, anew if there is one of another Python or family."""
        if self.venv.exists():
            shutil.rmtree(self.venv)
        self.venv.mkdir(parents=True)
        self.stamps = {}
        self.save(python=PYTHON)  # marks the folder as ours, should this be interrupted
        Path(self.shell.environ['TMPDIR']).mkdir(exist_ok=True)
        self.shell([sys.executable, '-m', 'venv', self.venv], 'making the environment')

    def pip(self, *arguments, what: str, status=None):
        """Runs pip in the environment."""
        Path(self.shell.environ['TMPDIR']).mkdir(exist_ok=True)
        return self.shell([self.python, '-m', 'pip', *arguments], what, status or PipStatus())

    def install(self, *arguments, what: str):
        """Runs pip install; bytecode is made by who imports first, which saves a quarter of the time."""
        self.pip('install', '--no-compile', '--progress-bar', 'raw', *arguments, what=what)

    def install_tools(self):
        """Installs what installs the rest; the pip that came with Python may not know our options."""
        self.pip('install', '--no-deps', '-r', REQUIREMENTS / 'build.txt', what='installing pip, setuptools and ninja')

    def install_torch(self):
        """Installs PyTorch with the CUDA libraries it asks for, and proves that torchvision fits."""
        if not any(name.startswith('torch-') for name in self.packages()):
            self.display.say('      2.8 GB to fetch, unless pip has them already')
        small = ['--no-cache-dir'] if free_gb(self.venv) < 12 else []  # the cache holds all wheels once more
        self.install(*small, '-r', REQUIREMENTS / 'torch.txt', '-c', REQUIREMENTS / 'constraints.txt',
                     what='installing PyTorch')
        problem = self.problem(PROOF_TORCH)
        if problem:
            raise SetupError(f'torch and torchvision do not match ({problem}): put a pair that belongs together into '
                             'requirements/torch.txt; if PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS brought another build '
                             'of one of them, leave that variable out and delete the environment (make clean)')

    def install_libraries(self):
        """Installs all but mmcv, without dependencies: the files are complete, and no second OpenCV comes in."""
        if any(name.startswith('opencv_python-') for name in self.packages()):
            self.pip('uninstall', '-y', 'opencv-python', 'opencv-python-headless', what='removing the second OpenCV')
        files = [part for name in ('base', 'demo', 'test') for part in ('-r', REQUIREMENTS / f'{name}.txt')]
        family = [pin for pin in pins(f'{self.stack}.txt') if pin.split('==')[0] != self.mmcv[0]]
        self.install('--no-deps', *files, *family, what='installing the libraries')

    def install_mmcv(self):
        """Installs mmcv from the cache, from a ready wheel, or compiled here; the first whose ops run."""
        package, version = self.mmcv
        torch, torch_cuda, nvcc, gpu = json.loads(self.shell([self.python, '-c', PROBE], 'looking for a GPU')[-1])
        ops, note = choose_ops(os.environ.get('FORCE_CUDA', ''), gpu, torch_cuda, nvcc)
        if note:
            self.display.say(f'      {note}')
        devices = ['cpu', 'cuda'] if ops == 'cuda' and gpu else ['cpu']
        cache = cache_folder() / cache_key(self.version, torch, package, version, ops)
        for wheel in self.ready_wheels(cache):
            problem = self.try_wheel(wheel, devices)
            if not problem:
                origin = 'compiled earlier' if wheel.parent == cache else 'found ready'
                self.display.say(f'      {origin}: {wheel.name}')
                break
            self.display.say(f'      {wheel.name} does not fit ({problem})')
        else:
            wheel = self.compile(ops)
            problem = self.try_wheel(wheel, devices)
            if problem:
                raise SetupError(f'mmcv was compiled, but its ops do not run: {problem} (log: {self.shell.log})')
        self.keep(wheel, cache)
        shutil.rmtree(self.venv / 'mmcv', ignore_errors=True)
        self.save(ops=ops)

    def ready_wheels(self, cache: Path):
        """Yields compiled wheels of mmcv: what the cache has, then what pip finds in the index or on PIP_FIND_LINKS."""
        yield from cache.glob('*.whl')
        folder = self.venv / 'mmcv' / 'ready'
        shutil.rmtree(folder, ignore_errors=True)
        try:
            self.pip('download', '--no-deps', '--only-binary', ':all:', '-d', folder, '=='.join(self.mmcv),
                     what='looking for a wheel')
        except SetupError:  # none there: the ordinary case, and compiling tells of anything worse
            return
        yield from folder.glob('*.whl')

    def try_wheel(self, wheel: Path, devices: list) -> str:
        """Installs a wheel of mmcv and returns why its ops do not run, or nothing."""
        try:
            self.install('--no-deps', '--no-index', '--force-reinstall', wheel, what=f'installing {wheel.name}')
        except SetupError as error:
            return str(error)
        return self.problem(PROOF_OPS, *devices)

    def problem(self, code: str, *arguments) -> str:
        """Runs Python code in the environment and returns the last line of its error, or nothing."""
        result = subprocess.run([str(self.python), '-c', code, *arguments], env=self.shell.environ, cwd=str(self.venv),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
        with open(self.shell.log, 'a', encoding='utf-8') as log:
            log.write(result.stdout)
        lines = result.stdout.strip().splitlines() or [f'exit code {result.returncode}']
        return lines[-1] if result.returncode else ''

    def compile(self, ops: str) -> Path:
        """Compiles mmcv and returns its wheel; goes on where an interrupted compilation stopped."""
        package, version = self.mmcv
        folder = self.venv / 'mmcv'
        source = folder / 'source'
        if not source.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            self.pip('download', '--no-deps', '--no-build-isolation', '--no-binary', ':all:', '-d', folder,
                     '=='.join(self.mmcv), what=f'fetching the source of {package} {version}')
            shutil.unpack_archive(str(next(folder.glob('*.tar.gz'))), str(folder / 'unpacked'))
            next((folder / 'unpacked').iterdir()).rename(source)
        count = jobs()
        self.display.say(f'      compiling, {count} files at once; '
                         f'{"a few minutes" if ops == "cpu" else "GPU code too, half an hour or more"}, but only once')
        environ = dict(MMCV_WITH_OPS='1', MAX_JOBS=str(count))
        environ.update(dict(FORCE_CUDA='1') if ops == 'cuda' else dict(FORCE_CUDA='0', CUDA_VISIBLE_DEVICES=''))
        flags = '-O2 -g0 -DNDEBUG'
        header = folder / 'torch_headers.h'
        compiled = Path(f'{header}.gch')
        if not compiled.is_file():
            header.write_text(PRECOMPILED)
            try:
                self.shell([self.python, '-c', PRECOMPILE, header], "torch's headers, which all files share",
                           CFLAGS=flags, CXXFLAGS=flags)
            except SetupError:  # without it all is the same, only slower
                pass
        if compiled.is_file():
            flags += f' -include {shlex.quote(str(header))}'
        for finished in source.glob('build/[!t]*'):  # all but the objects: a half-written library would pass for new
            shutil.rmtree(finished)
        self.shell([self.python, '-m', 'pip', 'wheel', '-v', '--no-deps', '--no-build-isolation', '-w',
                    folder / 'wheel', source], 'compiling mmcv', ninja_status, CFLAGS=flags, CXXFLAGS=flags, **environ)
        return next((folder / 'wheel').glob('*.whl'))

    def keep(self, wheel: Path, cache: Path):
        """Puts a wheel that runs into the cache, for the next environment."""
        if wheel.parent == cache:
            return
        try:
            cache.mkdir(parents=True, exist_ok=True)
            part = cache / f'{wheel.name}.{os.getpid()}.part'
            shutil.copyfile(wheel, part)
            part.replace(cache / wheel.name)
        except OSError as error:
            self.display.say(f'      not kept for next time: {error} (MAE_PLUGIN_CACHE names another folder)')

    def install_transformers(self):
        """Installs transformers where only tests that name its folder see it: mmpretrain breaks beside it."""
        folder = self.venv / 'transformers'
        shutil.rmtree(folder, ignore_errors=True)  # pip would leave there what it finds
        self.install('--no-deps', '--target', folder, '-r', REQUIREMENTS / 'transformers.txt',
                     what='installing transformers')

    def install_project(self):
        """Installs this clone in editable form, and nothing else."""
        self.install('--no-deps', '--no-build-isolation', '-e', ROOT, what='installing mae_plugin')

    def prove_all(self):
        """Imports everything once, and runs the compiled parts."""
        self.display.status('importing everything')
        problem = self.problem(PROOF_ALL, 'cpu')
        if problem:
            raise SetupError(f'the environment is made but does not work: {problem} (log: {self.shell.log})')


def main():
    """Reads the command line and makes the environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--stack', default='onedl', help='OpenMMLab family: onedl or openmmlab')
    parser.add_argument('--venv', help='folder of the environment (default: .venv, or .venv-openmmlab)')
    parser.add_argument('--keep-python', action='store_true', help='what is there keeps its Python')
    args = parser.parse_args()
    if args.stack not in STACKS:
        raise SetupError(f'STACK={args.stack} is none of the OpenMMLab families: {", ".join(STACKS)}')
    default = '.venv' if args.stack == 'onedl' else f'.venv-{args.stack}'
    venv = Path(os.path.abspath(ROOT / (args.venv or default)))
    display = Display()
    if not Environment(venv, args.stack, display, args.keep_python).open_steps():
        return
    with open(__file__) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            display.say('another set-up of this clone is running: waiting for it')
            fcntl.flock(lock, fcntl.LOCK_EX)
        Environment(venv, args.stack, display, args.keep_python).make()


def interrupt(*_):
    """Lets a request to end (SIGTERM) end us like Ctrl-C, compilers included."""
    raise KeyboardInterrupt


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, interrupt)
    try:
        main()
    except (SetupError, OSError) as error:
        Display().say(f'set-up: {error}')
        sys.exit(1)
    except KeyboardInterrupt:
        Display().say('set-up: interrupted; the same command carries on from here')
        sys.exit(130)
