from importlib.machinery import SourceFileLoader
e = SourceFileLoader('e', '.edit.py').load_module(); sub, cut = e.sub, e.cut
f = 'tests/benchmark/test_stock.py'
cut(f, ('def test_changed_keys():', 'def test_stock_is_changed'),
    ('    # A change that is not documented is seen.', "\n\n@pytest.mark.parametrize('loader"),
    ('    without = demo_config(', None))
sub(f, ("""    # Steps are those of stock, but for sizes.
    for name in ('train', 'val', 'test'):
        kinds = [step.type for step in cfg[f'{name}_dataloader'].dataset.pipeline]
        assert kinds == [step.type for step in
                         get_config(STOCK)[f'{name}_dataloader'].dataset.pipeline]
""", """    # Steps are those of stock, but for sizes.
    without = demo_config(ours, str(tmp_path), flip=False)
    for name in ('train', 'val', 'test'):
        kinds, unflipped, stock = (
            [step.type for step in each[f'{name}_dataloader'].dataset.pipeline]
            for each in (cfg, without, get_config(STOCK)))
        assert kinds == stock and unflipped == [kind for kind in kinds if kind != 'Flip']
"""))
# planted
f = 'tests/nightly/stress/planted.py'
sub(f, ("""    parser.add_argument('--data', type=Path, metavar='D',
                        help='a clean data set rendered before; default: rendered in --out')
    parser.add_argument('--size', type=int, nargs=2, default=(720, 480), metavar=('W', 'H'))
""", ''), ("""    parser.add_argument('--workers', type=int, metavar='N')
    parser.add_argument('--seconds', type=float, default=20, metavar='S',
                        help='time limit for each clip; default: %(default)s')
""", ''), ("""    clean = args.data or args.out / 'clean'
    write_dataset(clean, GROUPS, 1, args.clips // GROUPS // CLASSES, 'mpeg4',
                  tuple(args.size), workers=args.workers)
    options = dict(workers=args.workers, seconds=args.seconds,
                   decode='bad_decoder:inspect')
    before = doctor.examine(clean, **options)
""", """    clean = args.out / 'clean'
    write_dataset(clean, GROUPS, 1, args.clips // GROUPS // CLASSES, 'mpeg4')
    options = dict(seconds=20, decode='bad_decoder:inspect')
    before = doctor.examine(clean, **options)
"""), ("""    clips = sum(len(os.listdir(clean / name)) for name in ('train_set', 'test_set'))
    print(f'clean: {clips} clips, exit code {before.exit_code}, '
          f'{clips / before.seconds:.1f} clips/s')
""", """    print(f'clean: {len(before.clips)} clips, exit code {before.exit_code}, '
          f'{len(before.clips) / before.seconds:.1f} clips/s')
"""), ("import os\n", ''),
 ("""def choose(count, rng):
    \"\"\"Returns names of faults, all once before any is repeated.\"\"\"
    names = [str(name) for name in rng.permutation(list(FAULTS))[:count]]
    again = [name for name in names if repeats(name)]
    return names + [str(name) for name in rng.choice(again, max(0, count - len(names)))]


def repeats(name):
    \"\"\"Whether a fault can be planted twice: those that need a certain clip cannot.\"\"\"
    return name in ('empty', 'undecodable', 'truncated', 'corrupt', 'black', 'still',
                    'missing_clip', 'malformed_name', 'zeros', 'green')


def plant(""", """def plant("""),
 ("""    return [(name, FAULTS[name](garden)) for name in choose(count, rng)]
""", """    names = rng.permutation(list(FAULTS)).tolist()[:count]
    names += rng.choice(REPEATED, count - len(names)).tolist()
    return [(name, FAULTS[name](garden)) for name in names]
"""), ("ALARMS = ('error', 'warning')\n", """ALARMS = ('error', 'warning')
#: Faults that can be planted more than once: they need no certain clip.
REPEATED = ('empty', 'undecodable', 'truncated', 'corrupt', 'black', 'still',
            'missing_clip', 'malformed_name', 'zeros', 'green')
"""))
# mutated: one list of checks stays; the formatting of kinds goes
f = 'tests/nightly/stress/mutated.py'
cut(f, ('def _kind(', "if __name__"))
sub(f, ("""    kinds = Counter(_kind(reading) for _, reading in found.values() if reading)
    print""", "    print"), ("""    for kind, count in kinds.most_common():
        print(f'  {count:5}  {kind}')
""", ''), ("""def run(*command: str, log: Path, environment: dict) -> tuple[int, float]:
    \"\"\"Runs a tool; returns its exit code (-1 if it did not end) and its seconds.\"\"\"
    started = time.monotonic()
    with open(log, 'w', encoding='utf-8') as file:
        try:
            code = subprocess.run(
                [sys.executable, '-m', 'hri30_ext.cli', *map(str, command)], stdout=file,
                stderr=file, cwd=ROOT, env=environment, timeout=3600).returncode
        except subprocess.TimeoutExpired:
            code = -1
    return code, time.monotonic() - started
""", """def run(*command: str | Path, log: Path, expected: int) -> list[str]:
    \"\"\"Runs a verb of hri30; returns what is wrong with its exit status.\"\"\"
    started = time.monotonic()
    with open(log, 'w', encoding='utf-8') as file:
        code = subprocess.run(
            [sys.executable, '-m', 'hri30_ext.cli', *map(str, command)], stdout=file,
            stderr=file, cwd=ROOT, timeout=3600).returncode
    print(f'{log}: exit {code}, {time.monotonic() - started:.0f} s', flush=True)
    return [f'{command[0]} ended with {code}, expected {expected}'] * (code != expected)
"""), ("""    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    environment.pop('HRI30_ROOT', None)
    wrong = []

    code, seconds = run('train', config, '--work-dir', out / 'run',
                        *options, 'max_epochs=1', 'warmup_epochs=0', 'report=False',
                        log=out / 'train.log', environment=environment)
    print(f'training: exit {code}, {seconds:.0f} s, {out / "train.log"}', flush=True)
    if code != 0:
        wrong.append(f'training ended with {code}, expected 0')
    code, seconds = run('test', config, out / 'run' / 'epoch_1.pth',
                        '--split', 'test', '--out', out / 'result', *options,
                        'report=False', log=out / 'test.log', environment=environment)
    print(f'testing: exit {code}, {seconds:.0f} s, {out / "test.log"}', flush=True)

""", """    os.environ['OMP_NUM_THREADS'] = '1'
    os.environ.pop('HRI30_ROOT', None)
"""), ("""    if code != (3 if unread else 0):
        wrong.append(f'testing ended with {code}, expected {3 if unread else 0}')

""", """    wrong = run('train', config, '--work-dir', out / 'run', *options, 'max_epochs=1',
                'warmup_epochs=0', 'report=False', log=out / 'train.log', expected=0)
    wrong += run('test', config, out / 'run' / 'epoch_1.pth', '--split', 'test', '--out',
                 out / 'result', *options, 'report=False', log=out / 'test.log',
                 expected=3 if unread else 0)
"""), )
# fuzz/run
f = 'tests/nightly/fuzz/run.py'
sub(f, ("""            import traceback
            traceback.print_exc()
""", """            traceback.print_exc()
"""), ("import time\n", "import time\nimport traceback\n"),
 ("""    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None or args.target == 'videos':
        module = importlib.import_module(args.target)
        return min(1, damage_seeds(args.target, module, args.seconds, args.seed,
                                   args.found))
""", """    if args.target == 'videos' or not importlib.util.find_spec('atheris'):
        module = importlib.import_module(args.target)
        return min(1, damage_seeds(args.target, module, args.seconds, args.seed,
                                   args.found))
    import atheris
"""), ("import importlib\n", "import importlib.util\n"))
# exports: docs use the size, difference and shift; latency is a row of the benchmark
