from importlib.machinery import SourceFileLoader
e = SourceFileLoader('e', '.edit.py').load_module(); sub, cut = e.sub, e.cut
f = 'tests/nightly/stress/two_hosts.py'
cut(f, ('class Run:', 'def compare('))
sub(f, ('def compare(folder', '''@contextlib.contextmanager
def running(tool: str, arguments: list[str], log: Path,
            names: dict[str, str] | None = None) -> Iterator[dict[str, subprocess.Popen]]:
    """Runs a tool on this machine, or on both hosts; yields its processes by host.

    Args:
        tool (str): ``train.sh`` or ``test.sh``.
        arguments (list[str]): Its arguments.
        log (Path): Prefix of its logs, which get the name of the host.
        names (dict[str, str], optional): Namespaces by host; None: this machine.
    """
    environment = {name: value for name, value in os.environ.items() if name not in (
        'GPUS', 'NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'HRI30_ROOT')}
    environment.update(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    hosts = {}
    with contextlib.ExitStack() as stack:
        for rank, (host, name) in enumerate((names or {'here': ''}).items()):
            within = []
            if names:
                environment.update(NNODES='2', NODE_RANK=str(rank),
                                   MASTER_ADDR=ADDRESSES[FIRST], PORT='29500')
                within = ['ip', 'netns', 'exec', name, 'unshare', '--uts', 'sh', '-c',
                          f'hostname {host}; exec "$@"', 'sh']
            file = stack.enter_context(open(f'{log}-{host}.log', 'wb'))
            hosts[host] = stack.enter_context(subprocess.Popen(
                [*within, 'bash', str(PROJECT_ROOT / 'tools' / tool), *arguments],
                env=environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, cwd=log.parent))
            stack.callback(hosts[host].terminate)  # the launcher ends its own
        yield hosts


def succeed(*call) -> None:
    """Runs a tool to its end; exits with the log of a host where it failed."""
    with running(*call) as hosts:
        for host, process in hosts.items():
            if process.wait(300):
                raise SystemExit(f'{host}: status {process.returncode}\\n'
                                 + Path(f'{call[2]}-{host}.log').read_text()[-3000:])


def compare(folder'''),
 ('''    with Run('train.sh', [CONFIG, '--work-dir', str(work), '--cfg-options', *options,
                          'max_epochs=2'], folder / 'train', names) as run:
        run.wait()
    for name, hosts in (('one', None), ('two', names)):
        with Run('test.sh', [CONFIG, str(work / 'epoch_2.pth'), '--out',
                             str(folder / f'results-{name}'), '--deterministic',
                             '--cfg-options', *options, 'report=False'],
                 folder / f'test-{name}', hosts) as run:
            run.wait()
''', '''    succeed('train.sh', [CONFIG, '--work-dir', str(work), '--cfg-options', *options,
                         'max_epochs=2'], folder / 'train', names)
    for name, hosts in (('one', None), ('two', names)):
        succeed('test.sh', [CONFIG, str(work / 'epoch_2.pth'), '--out',
                            str(folder / f'results-{name}'), '--deterministic',
                            '--cfg-options', *options, 'report=False'],
                folder / f'test-{name}', hosts)
'''),
 ('''              harm: Callable[[Run], None], limit: float) -> None:
    """Harms the second host during a training, and checks that both end."""
    with Run('train.sh', [CONFIG, '--work-dir', str(folder / what), '--cfg-options',
                          *options, 'max_epochs=10000',
                          f'peer_timeout={PEER_TIMEOUT}'],
             folder / f'train-{what}', names) as run:
        run.wait_for(FIRST, 'epoch 1/')
        harm(run)
        started = time.monotonic()
        for host, process in run.hosts.items():
            process.wait(limit)
            last = run.text(host).split('error: ')[-1].strip()
            print(f'{what}: {host} ended after {time.monotonic() - started:.1f} s, status '
                  f'{process.returncode}: {last}\\n')
            assert process.returncode not in (0, 1), run.text(host)[-3000:]
        assert 'lost the connection' in run.text(FIRST), run.text(FIRST)[-3000:]
''', '''              harm: Callable[[int], None], limit: float) -> None:
    """Harms the second host during a training, and checks that both end.

    ``harm`` takes the process of the second host's launcher.
    """
    log = folder / f'train-{what}'

    def text(host: str) -> str:
        return Path(f'{log}-{host}.log').read_text(errors='replace')

    with running('train.sh', [CONFIG, '--work-dir', str(folder / what), '--cfg-options',
                              *options, 'max_epochs=10000',
                              f'peer_timeout={PEER_TIMEOUT}'], log, names) as hosts:
        end = time.monotonic() + 120
        while 'epoch 1/' not in text(FIRST):
            assert time.monotonic() < end, text(FIRST)[-3000:]
            time.sleep(.1)
        harm(hosts[SECOND].pid)
        started = time.monotonic()
        for host, process in hosts.items():
            process.wait(limit)
            print(f'{what}: {host} ended after {time.monotonic() - started:.1f} s, status '
                  f'{process.returncode}: {text(host).split("error: ")[-1].strip()}\\n')
            assert process.returncode not in (0, 1), text(host)[-3000:]
        assert 'lost the connection' in text(FIRST), text(FIRST)[-3000:]


def kill_worker(launcher: int) -> None:
    """Kills a process that a launcher started."""
    children = Path(f'/proc/{launcher}/task/{launcher}/children').read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)
'''),
 ('''        break_off(folder, options, names, 'a killed process',
                  lambda run: os.kill(run.processes(SECOND)[0], signal.SIGKILL), 30)
''', '''        break_off(folder, options, names, 'a killed process', kill_worker, 30)
'''),
 ("lambda run: subprocess.run(['ip'", "lambda _: subprocess.run(['ip'"))
# upstream
f = 'tests/nightly/upstream.py'
cut(f, ('class Outcomes:', 'def read_expected'), ('def compare(', 'def find_source'))
sub(f, ('''def read_expected(text: str) -> dict[str, str]:
    """Reads lines of ``test: reason``; returns the reason by test.

    >>> read_expected('# why\\\\ntests/a.py::test_b: needs a network\\\\n')
    {'tests/a.py::test_b': 'needs a network'}
    """
    lines = [line for line in text.splitlines() if line and line[0] != '#']
    return dict(line.split(': ', 1) for line in lines)
''', '''class ExpectedFailures:
    """A plugin of pytest: a test that is listed must fail, and no other one may.

    Args:
        lines (list[str]): ``test: reason``.
    """

    def __init__(self, lines: list[str]) -> None:
        self.reasons = dict(line.split(': ', 1) for line in lines if line[0] != '#')

    def pytest_collection_modifyitems(self, items) -> None:
        """Marks the tests."""
        import pytest
        for item in items:
            if reason := self.reasons.pop(item.nodeid, None):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
        if self.reasons:
            raise pytest.UsageError(f'no such tests: {", ".join(self.reasons)}')
'''), ('''    found = Outcomes()
    pytest.main([*(str(source / 'tests' / folder) for folder in FOLDERS), '-q',
                 f'--rootdir={source}', '-p', 'no:cacheprovider', '--tb=short',
                 '--continue-on-collection-errors', '-W', 'ignore'], [found])
    commit = subprocess.run(['git', '-C', str(source), 'rev-parse', '--short', 'HEAD'],
                            capture_output=True, text=True).stdout.strip()
    lines = compare(found, read_expected(EXPECTED.read_text('utf-8')))
    print(f'\\nmmaction2 {commit}: {len(found.passed)} passed, {len(found.failed)} failed, '
          f'{len(found.skipped)} skipped; {len(lines)} not as expected', *lines, sep='\\n')
    return int(bool(lines) or not found.passed)
''', '''    expected = ExpectedFailures(EXPECTED.read_text('utf-8').splitlines())
    return pytest.main([*(str(source / 'tests' / folder) for folder in FOLDERS), '-q',
                        f'--rootdir={source}', '-p', 'no:cacheprovider', '--tb=short',
                        f'--ignore={source / NOT_IMPORTED}', '-W', 'ignore'], [expected])
'''), ('''#: What classification uses''', '''#: Needs mmpretrain to be imported.
NOT_IMPORTED = 'tests/models/backbones/test_mobileone_tsm.py'
#: What classification uses'''), ('import subprocess\n', ''),
 ('expected to; 1: another test failed, or one of those passed; 2: wrong arguments.', 'expected to; 1: another test failed, or one of those passed; 2 or more: pytest could not\nrun, or wrong arguments.'))
f = 'tests/nightly/upstream_failures.txt'
sub(f, ('tests/models/backbones/test_mobileone_tsm.py: needs mmpretrain\n', ''))
f = 'tests/nightly/fuzz/mutate.py'
cut(f, ('def _write_mp4', 'def _write_dv'))
sub(f, ("import av\nimport numpy as np\n", "import av\nimport numpy as np\nfrom clip_files import write\n"),
 ("    _write_mp4(frames, h264_mp4, 'libx264')\n", "    write(h264_mp4, frames, 'libx264')\n"),
 ("    _write_mp4(frames, mpeg4_mp4, 'mpeg4')\n", "    write(mpeg4_mp4, frames)\n"))
sub('tests/nightly/stress/mutated.py', ("sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'nightly' / 'fuzz')]", "sys.path[:0] = [str(ROOT), str(ROOT / 'tests'), str(ROOT / 'tests' / 'nightly' / 'fuzz')]"))
# benchmark/run.py
f = 'tests/benchmark/run.py'
sub(f, ("""        except HRI30Error as error:
            outcomes[name] = Outcome(None, note=f'failed: {error}', failed=True)
        except Exception as error:
            traceback.print_exc()
            outcomes[name] = Outcome(None, failed=True,
                                     note=f'failed: {type(error).__name__}: {error}')
""", """        except Exception as error:
            traceback.print_exc()
            outcomes[name] = Outcome(None, note=f'failed: {error!r}', failed=True)
"""), ("""    parser.add_argument('--scratch', metavar='D',
                        help='parent of the scratch folder (2 GB; 10 GB with '
                             "time_to_accuracy); default: the system's")
""", ''), (", dir=args.scratch,\n                                         ignore_cleanup_errors", ",\n                                         ignore_cleanup_errors"),
 ("epilog='Leave the machine idle otherwise. The file is rewritten after every row.')", "epilog='Leave the machine idle otherwise. The file is rewritten after every row. '\n               'The scratch folder in TMPDIR takes 2 GB, or 10 GB with time_to_accuracy.')"))
f = 'tests/benchmark/test_benchmark.py'
cut(f, ('def test_throughput', 'def test_a_side_that_fails'))
sub(f, ("""    assert 'is the bottleneck' in waiting.note
""", """    assert 'is the bottleneck' in waiting.note
    outcome = training.throughput(dataclasses.replace(setup, rounds=1))
    assert outcome.ratio == outcome.low > 0
"""), ("    assert content['rows'][1]['note'] == 'failed: no such clips'\n", "    assert 'no such clips' in content['rows'][1]['note']\n"),
 ("""    assert entry['note'].startswith('failed: train_pipeline_decode, stock: ')
""", ""), ("""def a_row(monkeypatch):
    \"\"\"Returns a function that adds a row until the end of the test.\"\"\"
    def add(name, measure=None, **options):
        monkeypatch.setitem(ROWS, name, Row(name, 'what it is', measure, **options))
        return ROWS[name]
    return add
""", """def rows(monkeypatch):
    \"\"\"The rows, to which a test may add some.\"\"\"
    added = dict(ROWS)
    monkeypatch.setattr('benchmark.rows.ROWS', added)
    return added
""") if False else ("xxx","xxx")) if False else None
sub(f, ("""    assert 'is the bottleneck' in waiting.note
""", """    assert 'is the bottleneck' in waiting.note
    outcome = training.throughput(dataclasses.replace(setup, rounds=1))
    assert outcome.ratio == outcome.low > 0
"""), ("    assert content['rows'][1]['note'] == 'failed: no such clips'\n", "    assert 'no such clips' in content['rows'][1]['note']\n"),
 ("""    assert entry['note'].startswith('failed: train_pipeline_decode, stock: ')
""", ""))
