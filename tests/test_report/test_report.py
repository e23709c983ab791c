"""report.html: its text, and how it behaves in a browser."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from conftest import CLASSES, DEMO_CONFIG, run_tool

from hri30_ext.config import load_config
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.metrics import HRI30Metric
from hri30_ext.evaluation.results import Results
from hri30_ext.evaluation.writers import write_results
from hri30_ext.names import VIDEO_SUFFIXES
from hri30_ext.report import write_report
from hri30_ext.report.charts import ticks
from hri30_ext.report.frames import read_frames, to_data_uris
from hri30_ext.utils.curves import write_curves

# Runs if any name is not escaped: in text, in an attribute, in a script's data.
HOSTILE = '"><img src=x onerror=window.hacked=1></script><script>window.hacked=1</script>\''
SCORES = np.array([[.7, .2, .1], [.1, .8, .1], [.2, .7, .1], [.1, .1, .8]])
LABELS = [0, 1, 0, 2]
ANALYSIS = dict(
    intervals=dict(level=.95, unit='groups', resamples=2000, top1=[.5, 1.],
                   mean_class=[.4, 1.], macro_f1=[.3, 1.]),
    calibration=dict(ece=.125, nll=.5, temperature=1.5, ece_scaled=.0625, nll_scaled=.4,
                     bins=[dict(low=0., high=.5, confidence=None, accuracy=None, clips=0),
                           dict(low=.5, high=1., confidence=.75, accuracy=.7, clips=4)]),
    errors=dict(clips=4, wrong=1, direction=1, tool=0, direction_and_tool=0, other=0),
    kinds=[dict(name='Walking about', classes=3, clips=4, top1=.75, mean_class=.8)],
    groups=[dict(group=7, clips=4, top1=.75)])


def make_folder(folder, labels=LABELS, analysis=ANALYSIS, classes=CLASSES, data='my clips',
                videos='abcd', filenames=None):
    """Writes a result folder as testing does."""
    results = Results(list(videos), SCORES, classes, labels, [7, 7, 8, -1], filenames, data)
    metrics = {} if labels is None else HRI30Metric.calculate(SCORES, np.array(labels))
    write_results(folder, results, metrics)
    if analysis is not None:
        (folder / 'analysis.json').write_text(json.dumps(analysis))
    return folder


def text_of(folder, **options):
    return write_report(folder, **options).read_text(encoding='utf-8')


@pytest.fixture
def cfg(options):
    return load_config(DEMO_CONFIG, options)


@pytest.fixture
def clips(clips_root):
    return [str(file) for file in sorted(clips_root.rglob('*'))
            if file.suffix in VIDEO_SUFFIXES][:4]


# ---- the text --------------------------------------------------------------------------


def test_every_section_of_labelled_clips(tmp_path, cfg):
    write_curves(tmp_path / 'training_curves.csv', [
        dict(epoch=1, minutes=1, train_loss=2, val_loss=1.5, val_top1=.5, lr=.1),
        dict(epoch=2, minutes=2, train_loss=1, val_loss=1.2, val_top1=.7, lr=.05)])
    folder = make_folder(tmp_path / 'val')
    text = text_of(folder, cfg=cfg, checkpoint='/models/best.pth', explain=False)
    sections = ['figures', 'classes', 'confusion', 'breakdown', 'calibration', 'training',
                'confident', 'worst', 'made']
    assert re.findall(r'<section id="(\w+)"', text) == sections
    for part in ('my clips', 'best.pth', 'group, val_groups=1', '0.750', '0.500 to 1.000',
                 'whole groups of recordings resampled 2000 times', 'Walking about',
                 'Temperature 1.50', '0.125', '2 epochs in 2.0 minutes', 'test_pipeline',
                 'mmengine', '2 (7, 8)'):
        assert part in text, part
    assert 'Predictions</h2>' not in text and 'class="warning"' not in text
    assert text.count('<polyline') == 4


def test_clips_that_could_not_be_read_are_listed(tmp_path):
    folder = make_folder(tmp_path)
    Results.load(folder).without({'b': f'cannot be decoded ({HOSTILE}).'}).save(
        folder / 'scores.npz')
    (folder / 'metrics.json').unlink()
    text = text_of(folder)
    assert 'id="failed"' in text and 'Clips that could not be read' in text
    assert 'Of 3 clips.' in text and HOSTILE not in text and 'onerror=window' in text


def test_unlabelled_clips_have_predictions_and_no_metrics(tmp_path):
    text = text_of(make_folder(tmp_path, labels=None, analysis=None))
    assert re.findall(r'<section id="(\w+)"', text) == [
        'predictions', 'training', 'uncertain', 'made']
    assert 'have no labels' in text and '2 clips are given' not in text
    assert 'id="matrix"' not in text and 'accuracy' not in text.partition('</style>')[2]


@pytest.mark.parametrize('analysis', [
    None, {}, dict.fromkeys(ANALYSIS), dict.fromkeys(ANALYSIS, []),
    dict.fromkeys(ANALYSIS, {}), dict.fromkeys(ANALYSIS, 'x'),
    dict(calibration=dict(dict.fromkeys(ANALYSIS['calibration']), ece=.1)),
    dict(intervals=dict(level=.95, top1=[None, 1]), kinds=[None, {}], groups=[{}],
         errors=dict(wrong=None, tool=1), calibration=dict(bins=[{}, None]))])
def test_parts_of_the_analysis_may_be_missing(tmp_path, analysis):
    text = text_of(make_folder(tmp_path, analysis=analysis))
    assert '0.750' in text and 'id="matrix"' in text and 'section id="made"' in text


def test_metrics_are_computed_where_their_file_is_gone(tmp_path):
    folder = make_folder(tmp_path)
    (folder / 'metrics.json').unlink()
    assert 'tile-value">0.750' in text_of(folder)


def test_a_random_split_is_warned_of(tmp_path, cfg):
    cfg.split.type = 'random'
    assert 'it leaks' in text_of(make_folder(tmp_path / 'a', data='clips, val'), cfg=cfg)
    text = text_of(make_folder(tmp_path / 'b', data='clips, test'), cfg=cfg)
    assert 'chosen by scores that leak' in text


def test_embedded_data_says_nothing_about_hri30(tmp_path):
    text = text_of(make_folder(tmp_path, data='embedded data (rendered, seed 0), val'))
    assert 'these figures say nothing about HRI30' in text
    assert 'do not say which data' in text_of(make_folder(tmp_path, data=''))


def test_nothing_comes_from_elsewhere(tmp_path, cfg, clips):
    text = text_of(make_folder(tmp_path, filenames=clips), cfg=cfg, explain=False)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy.replace('&#39;', "'")
    assert 'unsafe' not in policy and policy.count('sha256-') == 2
    page = re.sub(r'<pre.*?</pre>', '', text, flags=re.DOTALL)
    references = re.findall(r'<[^>]*\s(?:src|href|srcset|action|data)\s*=\s*(\S+)', page)
    assert references and all(reference.startswith(('"data:image/jpeg;base64,', '"#'))
                              for reference in references)
    assert 'http:' not in page and 'https:' not in page
    assert '@import' not in page and 'url(' not in page
    # The policy refuses these.
    assert not re.search(r'<[^>]*\s(style|on\w+)=', page)
    assert page.count('data:image/jpeg;base64,') >= 2 * 8


def test_clips_are_shown_and_those_that_cannot_be_read_are_noted(tmp_path, clips, cfg):
    broken = tmp_path / 'broken.avi'
    broken.write_bytes(b'not a video')
    filenames = [str(broken), '', str(tmp_path / 'gone.avi'), 'https://example.org/a.avi']
    text = text_of(make_folder(tmp_path / 'val', filenames=filenames), cfg=cfg)
    for note in ('cannot be decoded', 'was not recorded', 'gone.avi: no such file',
                 'a.avi: no such file'):
        assert note in text
    assert 'data:image' not in text


def test_frames_are_those_of_testing(clips, cfg):
    frames = read_frames(clips[0], cfg)
    # The fixture's config samples four.
    assert frames.shape == (4, 117, 176, 3) and frames.dtype == np.uint8
    assert read_frames(clips[0]).shape == (8, 117, 176, 3)
    uris = to_data_uris(frames, (20, 30))
    assert len(uris) == 4 and all(uri.startswith('data:image/jpeg;base64,') for uri in uris)


def test_a_checkpoint_that_is_gone_costs_only_the_overlays(tmp_path, clips, cfg):
    text = text_of(make_folder(tmp_path, filenames=clips), cfg=cfg,
                   checkpoint=tmp_path / 'gone.pth')
    assert 'looked is not shown' in text and 'data:image' in text


def test_hostile_names_are_escaped(tmp_path, cfg):
    cfg.work_dir = HOSTILE
    folder = make_folder(tmp_path, videos=[HOSTILE, 'b', 'c', 'd'], data=HOSTILE,
                         classes=[HOSTILE, 'B', 'C'], filenames=[HOSTILE] * 4)
    text = text_of(folder, cfg=cfg, checkpoint=HOSTILE, explain=False)
    assert '<img src=x' not in text and '<script>window' not in text
    assert text.count('<script') == text.count('</script>') == 2
    data = re.search(r'id="matrix-data">(.*?)</script>', text)[1]
    assert json.loads(data)['names'][0] == HOSTILE


def test_a_name_that_is_not_utf8_is_written(tmp_path):
    Results(['c\udcff'], SCORES[:1], CLASSES).save(tmp_path / 'scores.npz')
    assert 'c\\udcff' in text_of(tmp_path)


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = make_folder(tmp_path)
    write_report(folder)
    before = (folder / 'report.html').read_bytes()

    def fail(*args):
        raise OSError('disk full')
    monkeypatch.setattr('hri30_ext.utils.fileio.os.replace', fail)
    with pytest.raises(OSError, match='disk full'):
        write_report(folder)
    assert (folder / 'report.html').read_bytes() == before
    assert not list(folder.glob('.report*'))


def test_mistakes_are_named(tmp_path):
    with pytest.raises(HRI30Error, match='no such file'):
        write_report(tmp_path)
    folder = make_folder(tmp_path)
    (folder / 'analysis.json').write_text('{')
    with pytest.raises(HRI30Error, match='analysis.json: not readable'):
        write_report(folder)


def test_many_classes_show_the_most_confused(tmp_path):
    scores = np.full((100, 100), .001)
    scores[np.arange(100), np.arange(100) // 2] = .9
    names = [f'Class{k}' for k in range(100)]
    results = Results([f'{k:03}' for k in range(100)], scores, names, range(100))
    write_results(tmp_path, results, HRI30Metric.calculate(scores, np.arange(100)))
    text = text_of(tmp_path)
    assert '40 are left out' in text and text.count('role="gridcell"') == 60 * 60


def test_no_clips_at_all(tmp_path):
    Results([], np.zeros((0, 3)), CLASSES).save(tmp_path / 'scores.npz')
    assert 'The 0 clips have no labels' in text_of(tmp_path)


def test_round_ticks():
    assert ticks(0, 1) == pytest.approx([0, .2, .4, .6, .8, 1])
    assert ticks(1, 50) == pytest.approx([10, 20, 30, 40, 50])
    assert ticks(2, 2) == [2]


@pytest.mark.slow
def test_the_tool_writes_it(tmp_path):
    folder = make_folder(tmp_path / 'val')
    result = run_tool('analysis/report.py', folder, '--no-explain', cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (folder / 'report.html').is_file() and 'report.html' in result.stdout
    result = run_tool('analysis/report.py', tmp_path / 'none', cwd=tmp_path)
    assert result.returncode == 2 and 'no such file' in result.stderr


# ---- in a browser ----------------------------------------------------------------------

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
in_browser = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get('CI') != 'true',
    reason='no chromium: apt-get install chromium')


@pytest.fixture
def open_page():
    """Returns a function that opens a report; all that it loads or says is checked."""
    from playwright.sync_api import sync_playwright
    said, asked = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=['--no-sandbox'] if os.getuid() == 0 else [])

        def open_report(path, **options):
            page = browser.new_context(**options).new_page()
            page.on('console', lambda message: said.append(message.text))
            page.on('pageerror', lambda error: said.append(str(error)))
            page.on('request', lambda request: asked.append(request.url))
            page.goto(path.as_uri())
            return page
        yield open_report
        browser.close()
    assert said == []
    assert [url for url in asked if not url.startswith(('data:', 'file:'))] == []
    assert len([url for url in asked if url.startswith('file:')]) == 1


@pytest.mark.slow
@in_browser
def test_the_table_sorts(tmp_path, open_page):
    page = open_page(write_report(make_folder(tmp_path)))
    header = page.locator('#classes th', has_text='Recall')

    def ids():
        return page.locator('#classes tbody td:first-child').all_text_contents()

    assert ids() == ['1', '2', '3']
    header.locator('button').click()
    assert header.get_attribute('aria-sort') == 'ascending' and ids() == ['1', '2', '3']
    header.locator('button').press('Enter')
    assert header.get_attribute('aria-sort') == 'descending' and ids() == ['2', '3', '1']
    assert page.locator('#classes [aria-sort=ascending]').count() == 0
    page.locator('#classes th button', has_text='Class').click()
    assert ids() == ['1', '2', '3']


@pytest.mark.slow
@in_browser
def test_the_matrix_answers_pointer_and_keys(tmp_path, open_page):
    page = open_page(write_report(make_folder(tmp_path)))
    tooltip = page.locator('#tooltip')
    assert tooltip.is_hidden()
    cell = page.locator('#matrix tbody tr').nth(0).locator('td').nth(1)
    cell.hover()
    words = f'True: {CLASSES[0]}\nPredicted: {CLASSES[1]}\n1 of 2 clips, 50 %'
    assert tooltip.is_visible() and tooltip.text_content() == words
    assert cell.get_attribute('aria-label') == words.replace('\n', '. ')
    page.locator('h1').hover()
    assert tooltip.is_hidden()
    page.locator('#matrix td[tabindex="0"]').focus()
    assert '1 of 2 clips, 50 %' in tooltip.text_content()
    page.keyboard.press('ArrowRight')
    assert tooltip.is_visible() and tooltip.text_content() == words
    page.keyboard.press('ArrowDown')
    assert f'True: {CLASSES[1]}\n' in tooltip.text_content()
    page.keyboard.press('Escape')
    assert tooltip.is_hidden()


@pytest.mark.slow
@in_browser
def test_the_matrix_filters(tmp_path, open_page):
    page = open_page(write_report(make_folder(tmp_path)))
    rows = page.locator('#matrix tbody tr:visible')
    columns = page.locator('#matrix thead th:visible')
    assert rows.count() == columns.count() == 3
    page.check('#matrix-confused')
    assert rows.count() == columns.count() == 2
    assert page.locator('#matrix-status').text_content() == '2 of 3 classes'
    page.uncheck('#matrix-confused')
    # With a class stand those that it is taken for.
    page.fill('#matrix-filter', CLASSES[0].upper())
    assert rows.count() == 1 and columns.count() == 2
    page.fill('#matrix-filter', '3')
    assert rows.count() == columns.count() == 1
    page.fill('#matrix-filter', '')
    first = rows.nth(0).locator('td').nth(0)
    assert first.text_content() == '50'
    page.select_option('#matrix-unit', 'count')
    assert first.text_content() == '1'


@pytest.mark.slow
@in_browser
def test_a_phone_scrolls_down_only(tmp_path, open_page, clips, cfg):
    names = [f'MoveDiagonallyBackwardRightWithPolisher{k}' for k in range(3)]
    folder = make_folder(tmp_path / 'val', classes=names, filenames=clips,
                         data='x' * 120, videos=['v' * 90 + end for end in 'abcd'])
    path = write_report(folder, cfg=cfg)
    page = open_page(path, viewport=dict(width=360, height=740), is_mobile=True,
                     has_touch=True)
    page.locator('summary').last.click()
    assert page.evaluate('document.documentElement.scrollWidth') <= 360
    assert page.locator('#confusion .scroll').evaluate(
        'box => box.getBoundingClientRect().right') <= 360


@pytest.mark.slow
@in_browser
def test_hostile_names_run_nothing_and_are_read(tmp_path, open_page, cfg):
    cfg.work_dir = HOSTILE
    folder = make_folder(tmp_path, videos=['a', 'b', HOSTILE, 'd'], data=HOSTILE,
                         classes=[HOSTILE, 'B', 'C'], filenames=[HOSTILE] * 4)
    page = open_page(write_report(folder, cfg=cfg, checkpoint=HOSTILE, explain=False))
    page.locator('#matrix td').nth(1).hover()
    page.locator('#matrix td[tabindex="0"]').focus()
    page.locator('summary').last.click()
    assert page.evaluate('window.hacked') is None
    assert page.locator('img').count() == 0
    assert page.locator('h1').text_content() == HOSTILE
    assert page.locator('#classes tbody th').first.text_content() == HOSTILE
    assert page.locator('#confident h3').first.text_content() == HOSTILE
    assert HOSTILE in page.locator('#tooltip').text_content()
    assert 'window.hacked' in page.locator('pre').text_content()


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize('labels', [LABELS, None])
def test_it_prints(tmp_path, open_page, labels):
    page = open_page(write_report(make_folder(tmp_path, labels=labels)),
                     color_scheme='dark')
    page.emulate_media(media='print')
    assert not page.locator('nav').is_visible()
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') == (
        'rgb(255, 255, 255)')
    assert page.pdf(format='A4').startswith(b'%PDF')
