from importlib.machinery import SourceFileLoader
e = SourceFileLoader('e', '.edit.py').load_module(); sub, cut = e.sub, e.cut
sub('tests/nightly/run.py', ("    'container': ('container.py', '', 60),\n", ''))
sub('docs/deploy.md', ('tests/nightly/service_load.py', 'tests/nightly/stress/service.py'))
sub('tests/test_deploy/test_serve.py', ('from nightly.service_load import measure', 'from nightly.stress.service import measure'))
# gpu
sub('tests/gpu/run.sh', ('# gpu.json and gpu.md.', '# gpu.xml, which has the figures of each test as its properties.'),
    ('rs "${arguments[@]}" || status=$?', 'rs --junit-xml "$out/gpu.xml" \\\n    "${arguments[@]}" || status=$?'),
    (' HRI30_GPU_OUT="$out"', ''),
    ("printf 'Figures: %s and %s\\n' \"$out/gpu.json\" \"$out/gpu.md\"", "printf 'Figures: %s\\n' \"$out/gpu.xml\""))
cut('tests/gpu/conftest.py', ('def pytest_runtest_logreport', None))
sub('tests/gpu/conftest.py', ('_rows: dict[str, dict] = {}\n', ''),
 ('''"""Skips this folder without CUDA, and writes what its tests measured.

HRI30_FAKE_GPU=1 runs the tests on the CPU, to see that they can run; their figures then say
nothing about a GPU. HRI30_GPU_OUT names the folder of ``gpu.json`` and ``gpu.md``.
"""

import datetime
import json
import os''', '''"""Skips this folder without CUDA, and records what its tests measure.

HRI30_FAKE_GPU=1 runs the tests on the CPU, to see that they can run; their figures then say
nothing about a GPU. Figures are properties in the file of pytest's ``--junit-xml``.
"""

import os'''),
 ('from hri30_ext.utils.fileio import atomic_write_text\n', ''),
 ('''@pytest.fixture
def note(request):
    """Returns a function that keeps a figure of the test for the table."""
    def keep(name, value, bound=''):
        _rows[request.node.nodeid].setdefault('figures', []).append(
            dict(name=name, value=float(value), bound=bound))
    _rows.setdefault(request.node.nodeid, {})
    return keep
''', '''@pytest.fixture(scope='session', autouse=True)
def about(record_testsuite_property):
    """Records the device and the versions."""
    record_testsuite_property('device', torch.cuda.get_device_name() if DEVICE == 'cuda'
                              else 'the CPU in place of a GPU')
    record_testsuite_property('torch', f'{torch.__version__}, CUDA {torch.version.cuda}')


@pytest.fixture
def note(record_property):
    """Returns a function that records a figure of the test, and its bound."""
    return lambda name, value, bound: record_property(name, f'{value:.4g} ({bound})')
'''))
sub('tests/test_tools/test_gpu_suite.py',
 ('import json\n', ''), ('import sys\n', 'import sys\nfrom xml.etree import ElementTree\n'),
 ('''    text = run('--out', tmp_path, CUDA_VISIBLE_DEVICES='')
    assert '10 skipped' in text and 'needs CUDA' in text and 'passed' not in text
    assert {row['outcome'] for row in json.loads(
        (tmp_path / 'gpu.json').read_text())['tests'].values()} == {'skipped'}
''', '''    text = run('--out', tmp_path, CUDA_VISIBLE_DEVICES='')
    assert '10 skipped' in text and 'needs CUDA' in text and 'passed' not in text
'''),
 ('''    table = (tmp_path / 'gpu.md').read_text()
    assert table.count('| passed |') == 6 and 'device: the CPU in place of a GPU' in table
    assert 'relative error of the gradient' in table''', '''    suite, = ElementTree.parse(tmp_path / 'gpu.xml').getroot()
    assert (suite.get('tests'), suite.get('failures'), suite.get('errors')) == (
        '6', '0', '0')
    names = [each.get('name') for each in suite.iter('property')]
    assert 'device' in names and names.count('relative error of the gradient') == 3'''))
# benchmark tests
f = 'tests/benchmark/test_benchmark.py'
cut(f, ('def test_table(', "\n\nclass Side"), ('\n\nclass Side', 'def test_command_lists_rows'),
    ('def test_command_lists_rows', 'def test_a_row_end_to_end'),
    ("@pytest.mark.parametrize('card, peak'", 'def test_a_side_that_fails'))
