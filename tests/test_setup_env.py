"""The set-up's decisions: checks, stamps, which wheel, and what it says when something fails. Nothing is installed."""

import importlib.metadata
import importlib.util
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / 'tools' / 'setup_env.py'


@pytest.fixture
def setup_env(monkeypatch):
    for name in ('CXX', 'MAX_JOBS', 'FORCE_CUDA', 'PIP_FIND_LINKS', 'MAE_PLUGIN_CACHE', 'MAE_PLUGIN_MIN_DISK_GB'):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location('setup_env', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def display(setup_env):
    return setup_env.Display(io.StringIO())


@pytest.fixture
def environment(setup_env, display, tmp_path):
    return setup_env.Environment(tmp_path / 'venv', 'onedl', display)


def finish(environment, setup_env, packages=('torch-2.11.0',)):
    """Lets an environment look as if the set-up had gone through."""
    site = environment.venv / 'lib' / f'python{setup_env.PYTHON}' / 'site-packages'
    site.mkdir(parents=True)
    (environment.venv / 'bin').mkdir()
    environment.python.touch()
    for name in packages:
        (site / f'{name}.dist-info').mkdir()
    environment.save(python=setup_env.PYTHON, packages=list(packages), ops='cpu', **environment.keys())
    return site


# --- the machine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('version, wrong', [
    ((3, 9, 18), True), ((3, 10, 0), False), ((3, 12, 4), False), ((3, 13, 0), True)])
def test_python_versions(setup_env, version, wrong):
    problem = setup_env.wrong_python(version)
    assert bool(problem) == wrong
    assert not wrong or 'PYTHON=' in problem and f'{version[0]}.{version[1]};' in problem


def test_no_compiler(setup_env, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(setup_env.SetupError, match='no C\\+\\+ compiler \\(c\\+\\+\\).*apt install g\\+\\+'):
        setup_env.check_compiler()


def test_named_compiler_is_looked_for(setup_env, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler -m64')
    with pytest.raises(setup_env.SetupError, match='no-such-compiler\\)'):
        setup_env.check_compiler()


def test_no_headers(setup_env, monkeypatch, tmp_path):
    monkeypatch.setenv('CXX', sys.executable)
    monkeypatch.setattr(setup_env.sysconfig, 'get_path', lambda name: str(tmp_path))
    with pytest.raises(setup_env.SetupError, match=f'python{setup_env.PYTHON}-dev'):
        setup_env.check_compiler()


def test_no_venv_module(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env.importlib.util, 'find_spec', lambda name: None if name == 'ensurepip' else name)
    with pytest.raises(setup_env.SetupError, match=f'python{setup_env.PYTHON}-venv'):
        setup_env.check_venv()


def test_disk(setup_env, monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env, 'free_gb', lambda folder: 7.9)
    with pytest.raises(setup_env.SetupError, match='7.9 GB are free.* 8 are needed'):
        setup_env.check_disk(tmp_path)
    monkeypatch.setenv('MAE_PLUGIN_MIN_DISK_GB', '0')
    setup_env.check_disk(tmp_path)
    monkeypatch.setenv('MAE_PLUGIN_MIN_DISK_GB', 'little')
    with pytest.raises(setup_env.SetupError, match='no number: little'):
        setup_env.check_disk(tmp_path)


def test_free_space_of_a_folder_to_come(setup_env, tmp_path):
    assert setup_env.free_gb(tmp_path / 'not' / 'yet') == pytest.approx(setup_env.free_gb(tmp_path), rel=.1)


def test_jobs(setup_env, monkeypatch):
    cores = len(os.sched_getaffinity(0))
    assert 1 <= setup_env.jobs() <= cores
    monkeypatch.setattr(Path, 'read_text', lambda self: 'MemAvailable:     900000 kB\n')
    assert setup_env.jobs() == 1
    monkeypatch.setenv('MAX_JOBS', '7')
    assert setup_env.jobs() == 7


# --- what fails, in a sentence ---------------------------------------------------------------------------------------

FAILURES = [
    ("WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(Failed to establish a new "
     "connection: [Errno 111] Connection refused)': /simple/ninja/\nERROR: Could not find a version that satisfies "
     'the requirement ninja==1.13.2 (from versions: none)\nERROR: No matching distribution found for ninja==1.13.2',
     'ninja==1.13.2 could not be fetched: no connection'),
    ('  Downloading torch-2.11.0-cp311.whl (530.6 MB)\npip._vendor.urllib3.exceptions.ReadTimeoutError: Read timed '
     'out.',
     'torch-2.11.0-cp311.whl could not be fetched: no connection'),
    ("WARNING: connection broken by 'ProxyError(Cannot connect to proxy, Connection refused)'\nERROR: No matching "
     'distribution found for wheel', 'wheel could not be fetched: the proxy'),
    ("SSLError(SSLCertVerificationError(1, 'certificate verify failed'))\nERROR: No matching distribution found for a",
     'a could not be fetched: the certificate'),
    ('ERROR: Could not find a version that satisfies the requirement six==9 (from versions: 1.16.0)\n'
     'ERROR: No matching distribution found for six==9', 'six==9 is not in the package index'),
    ('ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device', 'the disk is full'),
    ('ERROR: Could not find a version that satisfies the requirement six==9 (from versions: none)\n'
     'ERROR: No matching distribution found for six==9', 'six==9 was not found: there is no connection'),
    ('ERROR: ResolutionImpossible: for help visit', 'torch and torchvision come in pairs'),
    ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
    ('types.h:1:10: fatal error: Python.h: No such file or directory', 'no headers of Python'),
    ('nms.cpp:3:1: error: no member x\nnms.cpp:9:1: error: other\nERROR: Failed building wheel',
     'compiling failed: nms.cpp:3:1: error: no member x'),
    ('  Downloading torch (407 MB)\nERROR: something new', 'compiling failed: ERROR: something new'),
    ('', 'compiling failed: not a word'),
]


@pytest.mark.parametrize('printed, said', FAILURES)
def test_explain(setup_env, printed, said):
    assert said in setup_env.explain(printed.splitlines(), 'compiling')


def test_failed_command_is_one_line_and_a_log(setup_env, display, tmp_path):
    shell = setup_env.Shell(tmp_path / 'log', display, dict(os.environ))
    code = 'import sys; print("Progress 1 of 2"); print("No space left on device"); sys.exit(3)'
    with pytest.raises(setup_env.SetupError, match='^the disk is full.*log\\)$'):
        shell([sys.executable, '-c', code], 'working')
    assert (tmp_path / 'log').read_text().splitlines()[-1] == 'No space left on device'


def alive(process: str) -> bool:
    try:
        return Path('/proc', process, 'stat').read_text().split()[2] != 'Z'
    except OSError:
        return False


def test_interrupted_command_is_ended_with_its_children(setup_env, display, tmp_path, monkeypatch):
    shell = setup_env.Shell(tmp_path / 'log', display, dict(os.environ))

    def interrupt(words):
        if 'ready' in words:
            raise KeyboardInterrupt

    monkeypatch.setattr(display, 'status', interrupt)
    code = 'import os, subprocess; p = subprocess.Popen(["sleep", "60"]); print("ready", p.pid, flush=True); p.wait()'
    with pytest.raises(KeyboardInterrupt):
        shell([sys.executable, '-c', code], 'working', status=lambda line: line)
    child = (tmp_path / 'log').read_text().split()[-1]
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(.05)
    assert not alive(child)


# --- progress --------------------------------------------------------------------------------------------------------


def test_pip_status(setup_env):
    status = setup_env.PipStatus()
    assert status('Collecting torch==2.11.0') == 'looking up versions'
    assert status('  Downloading torch-2.11.0-cp311-x86_64.whl (530.6 MB)\n') == 'fetching torch-2.11.0 (530.6 MB)'
    assert status('Progress 250000000 of 500000000\n') == 'fetching torch-2.11.0 (530.6 MB), 50% (0.25 GB in all)'
    status('Progress 500000000 of 500000000\n')
    status('  Using cached six-1.17.0-py2.py3-none-any.whl (11 kB)')
    assert status('Progress 10000000 of 20000000\n').endswith('50% (0.51 GB in all)')
    assert status('Installing collected packages: a, b, c') == 'unpacking 3 packages'


def test_ninja_status(setup_env):
    assert setup_env.ninja_status("  [3/78] c++ -MMD -MF '/a b/cpu/nms.o'.d -O2 -c /a/cpu/nms.cpp -o x") == '[3/78] nms'
    assert setup_env.ninja_status('  [78/78] c++ -MMD -MF /a/cpu/roi_align.o.d -O2') == '[78/78] roi_align'
    assert setup_env.ninja_status('copying a -> b') == ''


def test_display_without_terminal_prints_seldom(setup_env):
    stream = io.StringIO()
    display = setup_env.Display(stream, every=20)
    display.status('early')
    display.shown -= 21
    display.status('late')
    display.status('at once again')
    assert stream.getvalue() == '      0:00 late\n'


# --- stamps ----------------------------------------------------------------------------------------------------------


def test_fresh_environment_has_every_step_open(environment):
    assert environment.open_steps() == [
        'venv', 'tools', 'torch', 'libraries', 'mmcv', 'transformers', 'project', 'proof']


def test_finished_environment_has_none(environment, setup_env, display):
    finish(environment, setup_env)
    assert setup_env.Environment(environment.venv, 'onedl', display).open_steps() == []


def test_interrupted_environment_carries_on(environment, setup_env, monkeypatch):
    ran = []
    for name in ('make_venv', 'install_tools', 'install_libraries', 'install_mmcv', 'install_transformers',
                 'install_project', 'prove_all'):
        monkeypatch.setattr(environment, name, lambda name=name: ran.append(name))
    monkeypatch.setattr(environment, 'install_torch', lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(environment, 'check_machine', lambda left: None)
    (environment.venv / 'bin').mkdir(parents=True)
    environment.python.touch()
    with pytest.raises(KeyboardInterrupt):
        environment.make()
    assert ran == ['make_venv', 'install_tools']

    monkeypatch.setattr(environment, 'install_torch', lambda: ran.append('install_torch'))
    environment.make()
    assert ran[2:] == ['install_torch', 'install_libraries', 'install_mmcv', 'install_transformers', 'install_project',
                       'prove_all']
    assert environment.open_steps() == []


def test_changed_pin_opens_its_step_and_all_after_it(environment, setup_env, monkeypatch, tmp_path):
    finish(environment, setup_env)
    copy = tmp_path / 'requirements'
    copy.mkdir()
    for file in setup_env.REQUIREMENTS.glob('*.txt'):
        (copy / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(setup_env, 'REQUIREMENTS', copy)
    assert environment.open_steps() == []
    (copy / 'torch.txt').write_text('torch==9')
    assert environment.open_steps() == ['torch', 'libraries', 'mmcv', 'transformers', 'project', 'proof']


def test_transformers_goes_where_the_environment_does_not_look(environment, monkeypatch):
    calls = []
    monkeypatch.setattr(environment, 'install', lambda *arguments, what: calls.append([str(a) for a in arguments]))
    left_over = environment.venv / 'transformers' / 'transformers-5.0.0.dist-info'
    left_over.mkdir(parents=True)
    environment.install_transformers()
    assert [call[:3] for call in calls] == [['--no-deps', '--target', str(environment.venv / 'transformers')]]
    assert not left_over.exists()


def test_step_that_failed_has_no_stamp_any_more(environment, setup_env, display, monkeypatch):
    finish(environment, setup_env)
    monkeypatch.setenv('FORCE_CUDA', '1')
    monkeypatch.setattr(environment, 'install_mmcv', lambda: (_ for _ in ()).throw(setup_env.SetupError('no nvcc')))
    monkeypatch.setattr(environment, 'check_machine', lambda left: None)
    with pytest.raises(setup_env.SetupError):
        environment.make()
    monkeypatch.delenv('FORCE_CUDA')
    assert setup_env.Environment(environment.venv, 'onedl', display).open_steps() == ['mmcv', 'proof']


def test_pins_put_back_after_a_failure_do_not_pass_for_done(environment, setup_env, monkeypatch):
    finish(environment, setup_env)
    environment.save(torch='key of the old pins')
    monkeypatch.setattr(environment, 'install_torch', lambda: (_ for _ in ()).throw(setup_env.SetupError('no network')))
    monkeypatch.setattr(environment, 'check_machine', lambda left: None)
    with pytest.raises(setup_env.SetupError):
        environment.make()
    assert 'torch' not in json.loads((environment.venv / setup_env.STAMPS).read_text())


@pytest.mark.parametrize('change', ['torch gone', 'second OpenCV'])
def test_changed_packages_open_all_but_the_venv(environment, setup_env, change):
    site = finish(environment, setup_env)
    if change == 'torch gone':
        (site / 'torch-2.11.0.dist-info').rename(site / 'torch-2.12.0.dist-info')
    else:
        (site / 'opencv_python-4.12.0.88.dist-info').mkdir()
    assert environment.open_steps() == ['tools', 'torch', 'libraries', 'mmcv', 'transformers', 'project', 'proof']
    assert change.split()[0] in environment.note or 'opencv_python' in environment.note


def test_python_that_is_gone_opens_everything(environment, setup_env):
    finish(environment, setup_env)
    environment.python.unlink()
    assert environment.open_steps()[0] == 'venv'


def test_keep_python(environment, setup_env, display):
    finish(environment, setup_env)
    environment.save(python='3.99')
    assert setup_env.Environment(environment.venv, 'onedl', display, keep_python=True).version == '3.99'
    assert setup_env.Environment(environment.venv, 'onedl', display).version == setup_env.PYTHON


def test_other_family_in_the_same_folder_is_made_anew(environment, setup_env, display):
    finish(environment, setup_env)
    assert setup_env.Environment(environment.venv, 'openmmlab', display).open_steps()[0] == 'venv'


def test_forced_gpu_ops_open_mmcv_once(environment, setup_env, monkeypatch):
    finish(environment, setup_env)
    monkeypatch.setenv('FORCE_CUDA', '1')
    assert environment.open_steps() == ['mmcv', 'proof']
    environment.save(ops='cuda', **environment.keys())
    assert environment.open_steps() == []


def test_foreign_folder_is_left_alone(environment, setup_env):
    (environment.venv / 'bin').mkdir(parents=True)
    with pytest.raises(setup_env.SetupError, match='was not made by this set-up'):
        environment.make()


def test_no_compiler_needed_where_a_wheel_lies(environment, setup_env, monkeypatch, tmp_path):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    monkeypatch.setenv('MAE_PLUGIN_CACHE', str(tmp_path / 'cache'))
    with pytest.raises(setup_env.SetupError, match='no-such-compiler'):
        environment.check_machine(['mmcv'])
    package, version = environment.mmcv
    (tmp_path / f'{package.replace("-", "_")}-{version}-cp{setup_env.PYTHON.replace(".", "")}-x-y.whl').touch()
    monkeypatch.setenv('PIP_FIND_LINKS', f'/nowhere {tmp_path}')
    environment.check_machine(['mmcv'])


# --- mmcv ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('force, gpu, torch_cuda, nvcc, ops', [
    ('', False, '13.0', '13.0', 'cpu'),  # nvcc alone is no reason
    ('', True, '13.0', '13.1', 'cuda'),
    ('', True, '13.0', '12.8', 'cpu'),
    ('', True, '13.0', None, 'cpu'),
    ('', True, None, '13.0', 'cpu'),  # a CPU build of torch
    ('0', True, '13.0', '13.0', 'cpu'),
    ('1', False, '13.0', '13.0', 'cuda'),
])
def test_choose_ops(setup_env, force, gpu, torch_cuda, nvcc, ops):
    chosen, note = setup_env.choose_ops(force, gpu, torch_cuda, nvcc)
    assert chosen == ops
    assert bool(note) == (gpu and not force and bool(torch_cuda) and ops == 'cpu')


def test_cache_key_tells_apart_what_the_binary_depends_on(setup_env):
    base = ('3.11', '2.11.0+cu130', 'onedl-mmcv', '2.3.6', 'cpu')
    other = ('3.12', '2.11.0+cpu', 'mmcv', '2.1.0', 'cuda')
    keys = {setup_env.cache_key(*base)} | {setup_env.cache_key(*base[:i], other[i], *base[i + 1:]) for i in range(5)}
    assert len(keys) == 6


def test_cache_folder(setup_env, monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    assert setup_env.cache_folder() == tmp_path / '.cache' / 'mae_plugin' / 'wheels'
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'x'))
    assert setup_env.cache_folder() == tmp_path / 'x' / 'mae_plugin' / 'wheels'
    monkeypatch.setenv('MAE_PLUGIN_CACHE', str(tmp_path / 'y'))
    assert setup_env.cache_folder() == tmp_path / 'y' / 'wheels'


def test_first_wheel_whose_ops_run_is_taken_and_kept(environment, setup_env, monkeypatch, tmp_path):
    monkeypatch.setenv('MAE_PLUGIN_CACHE', str(tmp_path))
    bad, good = tmp_path / 'bad.whl', tmp_path / 'good.whl'
    good.write_text('binary')
    monkeypatch.setattr(environment, 'shell', lambda *args: ['["2.11.0", "13.0", null, false]'])
    monkeypatch.setattr(environment, 'ready_wheels', lambda cache: [bad, good])
    monkeypatch.setattr(environment, 'try_wheel', lambda wheel, devices: 'undefined symbol' if wheel == bad else '')
    environment.venv.mkdir()
    environment.install_mmcv()
    folder = setup_env.cache_folder() / setup_env.cache_key(setup_env.PYTHON, '2.11.0', *environment.mmcv, 'cpu')
    assert [path.name for path in folder.iterdir()] == ['good.whl']
    assert 'bad.whl does not fit (undefined symbol)' in environment.display.stream.getvalue()
    assert json.loads((environment.venv / setup_env.STAMPS).read_text()) == dict(ops='cpu')


def test_mmcv_is_compiled_where_no_wheel_fits(environment, setup_env, monkeypatch, tmp_path):
    monkeypatch.setenv('MAE_PLUGIN_CACHE', str(tmp_path))
    compiled = tmp_path / 'compiled.whl'
    compiled.touch()
    monkeypatch.setattr(environment, 'shell', lambda *args: ['["2.11.0", "13.0", null, false]'])
    monkeypatch.setattr(environment, 'ready_wheels', lambda cache: [tmp_path / 'bad.whl'])
    monkeypatch.setattr(environment, 'try_wheel', lambda wheel, devices: '' if wheel == compiled else 'no symbol')
    monkeypatch.setattr(environment, 'compile', lambda ops: compiled)
    environment.venv.mkdir()
    environment.install_mmcv()
    assert len(list(setup_env.cache_folder().glob('*/compiled.whl'))) == 1


def test_unwritable_cache_is_no_failure(environment, tmp_path):
    (tmp_path / 'file').touch()
    (tmp_path / 'a.whl').touch()
    environment.keep(tmp_path / 'a.whl', tmp_path / 'file' / 'cache')
    assert 'not kept for next time' in environment.display.stream.getvalue()


# --- the whole script ------------------------------------------------------------------------------------------------


def run(*arguments, **environ):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True,
                          env={**os.environ, **environ})


def test_unknown_family(tmp_path):
    result = run('--stack', 'mmlab', '--venv', tmp_path)
    assert (result.returncode, result.stderr) == (1, '')
    assert result.stdout == 'set-up: STACK=mmlab is none of the OpenMMLab families: onedl, openmmlab\n'


def test_no_network_is_one_sentence(tmp_path):
    result = run('--venv', tmp_path / 'venv', PIP_INDEX_URL='http://127.0.0.1:9/simple', PIP_EXTRA_INDEX_URL='',
                 PIP_FIND_LINKS='', PIP_RETRIES='1', MAE_PLUGIN_MIN_DISK_GB='0')
    assert (result.returncode, result.stderr) == (1, '')
    assert 'could not be fetched: no connection to the package index' in result.stdout.splitlines()[-1]


# --- the pinned versions ---------------------------------------------------------------------------------------------


def test_pins_are_complete(setup_env):
    """What the pinned packages ask for is pinned, but the second OpenCV, an extra of mmdet's, lvis's unused Cython."""
    pinned = {}
    for file in setup_env.REQUIREMENTS.glob('*.txt'):
        for pin in map(Requirement, setup_env.pins(file.name)):
            pinned[pin.name.lower().replace('_', '-')] = pin
    missing = set()
    for name, pin in pinned.items():
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # the other family, or for developers only
            continue
        if installed.version in pin.specifier:
            needs = map(Requirement, installed.requires or [])
            missing |= {need.name.lower().replace('_', '-') for need in needs
                        if not need.marker or need.marker.evaluate({'extra': ''})} - set(pinned)
    of_torch = {name for name in missing if name.startswith(('nvidia-', 'cuda-')) or name == 'triton'}
    assert missing - of_torch <= {'opencv-python', 'imagecorruptions-imaug', 'cython'}


def test_every_pin_is_exact(setup_env):
    for file in setup_env.REQUIREMENTS.glob('*.txt'):
        for pin in setup_env.pins(file.name):
            assert [spec.operator for spec in Requirement(pin).specifier] == ['=='], f'{file.name}: {pin}'
