"""report.html: its text, and how it behaves in a browser."""

import json
import os
import re

import numpy as np
import pytest
from conftest import CLASSES, DEMO_CONFIG, in_browser

from hri30_ext.apis.common import write_result_folder
from hri30_ext.apis.reporting import report
from hri30_ext.config import load_config
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.analysis import analyze
from hri30_ext.evaluation.calibration import Calibration
from hri30_ext.evaluation.results import Results
from hri30_ext.names import HRI30_CLASSES, VIDEO_SUFFIXES
from hri30_ext.report import write_report
from hri30_ext.report.frames import read_clip, to_data_uris

# Runs if any name is not escaped: in text, in an attribute, in a script's data.
HOSTILE = '"><img src=x onerror=window.hacked=1></script><script>window.hacked=1</script>\''
SCORES = np.array([[.7, .2, .1], [.1, .8, .1], [.2, .7, .1], [.1, .1, .8]])
LABELS = [0, 1, 0, 2]


def make_results(labels=LABELS, classes=CLASSES, data='my clips', videos='abcd',
                 filenames=None, groups=(7, 7, 8, 8), scores=SCORES):
    return Results(list(videos), scores, classes, labels, groups, filenames, data)


def write(folder, results=None, calibration=None, **options):
    """Writes scores and their report as testing does; returns the path of the report."""
    results = results or make_results()
    results.save(folder / 'scores.npz')
    return write_report(folder, results, None if results.labels_N is None else
                        analyze(results, calibration), **options)


def text_of(folder, results=None, *args, **options):
    return write(folder, results, *args, **options).read_text(encoding='utf-8')


@pytest.fixture
def cfg(options):
    return load_config(DEMO_CONFIG, options)


@pytest.fixture
def clips(clips_root):
    return [str(file) for file in sorted(clips_root.rglob('*'))
            if file.suffix in VIDEO_SUFFIXES][:4]


# ---- the text --------------------------------------------------------------------------


def test_every_section_of_labelled_clips(tmp_path, cfg):
    (tmp_path / 'training_curves.png').write_bytes(b'picture')
    text = text_of(tmp_path / 'val', None, Calibration(1.5, ''), cfg=cfg,
                   checkpoint=str(tmp_path / 'best.pth'))
    sections = ['figures', 'classes', 'confusion', 'breakdown', 'calibration', 'training',
                'confident', 'worst', 'made']
    assert re.findall(r'<section id="(\w+)"', text) == sections
    for part in ('my clips', 'best.pth', 'group, val_groups=1', '0.750', 'to 1.000',
                 'over 2 groups of recordings: too few groups',
                 '1 of 4 clips are wrong', 'Temperature 1.50', 'test_pipeline', 'mmengine',
                 '2 (7, 8)'):
        assert part in text, part
    assert 'Predictions</h2>' not in text and 'class="warning"' not in text
    assert re.findall(r'<a href="#(\w+)"', text) == sections
    assert text.count('src="data:image/png;base64,') == 2


def test_clips_that_could_not_be_read_are_listed(tmp_path):
    text = text_of(tmp_path, make_results().without({
        'b': f'cannot be decoded ({HOSTILE}).'}))
    assert 'id="failed"' in text and 'Clips that could not be read' in text
    assert 'Of 3 clips.' in text and HOSTILE not in text and 'onerror=window' in text


def test_unlabelled_clips_have_predictions_and_no_metrics(tmp_path, cfg):
    scores = SCORES[[0, 1, 2, 0]]
    text = text_of(tmp_path, make_results(labels=None, scores=scores, groups=None), cfg=cfg)
    assert re.findall(r'<section id="(\w+)"', text) == [
        'predictions', 'uncertain', 'made']
    assert 'have no labels' in text and 'id="matrix"' not in text
    page = text.partition('</style>')[2].partition('<pre')[0]
    # Nothing that does not apply: no split, no groups, no classes without a clip.
    for word in ('accuracy', 'Split', 'Groups', CLASSES[2]):
        assert f'>{word}' not in page, word


def test_kinds_of_action_and_groups(tmp_path):
    results = make_results(classes=HRI30_CLASSES, scores=np.eye(30)[[26, 19, 22, 0]],
                           labels=[26, 19, 19, 0], groups=[1, 1, 2, -1])
    text = text_of(tmp_path, results)
    for part in ('By kind of action', 'body motion only', 'By group of recordings',
                 'over 4 single clips', 'Direction only'):
        assert part in text, part
    plain = text_of(tmp_path / 'b', make_results(groups=None))
    assert 'By kind of action' not in plain and 'By group' not in plain


def test_the_page_says_what_figures_are_worth(tmp_path, cfg):
    cfg.split.type = 'random'
    for data, warning in (('clips, val', 'it leaks'),
                          ('clips, test', 'chosen by scores that leak'),
                          ('synthetic data, val', 'these figures say nothing about HRI30')):
        assert warning in text_of(tmp_path, make_results(data=data), cfg=cfg)


def test_nothing_comes_from_elsewhere(tmp_path, cfg, clips):
    text = text_of(tmp_path, make_results(filenames=clips), cfg=cfg)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy.replace('&#39;', "'")
    assert 'unsafe' not in policy and policy.count('sha256-') == 2
    page = re.sub(r'<pre.*?</pre>', '', text, flags=re.DOTALL)
    references = re.findall(r'<[^>]*\s(?:src|href|srcset|action|data)\s*=\s*(\S+)', page)
    own = re.compile(r'"(#|data:image/(jpeg|png);base64,)')
    assert references and all(map(own.match, references))
    assert 'http:' not in page and 'https:' not in page
    assert '@import' not in page and 'url(' not in page
    # The policy refuses these.
    assert not re.search(r'<[^>]*\s(style|on\w+)=', page)
    assert page.count('data:image/jpeg;base64,') >= 2 * 8


def test_clips_are_shown_and_those_that_cannot_be_read_are_noted(tmp_path, clips, cfg):
    broken = tmp_path / 'broken.avi'
    broken.write_bytes(b'not a video')
    filenames = [str(broken), '', str(tmp_path / 'gone.avi'), 'https://example.org/a.avi']
    text = text_of(tmp_path / 'val', make_results(filenames=filenames), cfg=cfg)
    for note in ('cannot be decoded', 'the clip: no such file', 'gone.avi: no such file',
                 'a.avi: no such file'):
        assert note in text
    assert 'data:image/jpeg' not in text


def test_frames_are_those_of_testing(clips, cfg):
    cfg.test_pipeline[1].num_clips = 2
    frames, size, view = read_clip(clips[0], cfg)
    # The first view of the two that the model gets, in the aspect ratio of the clip.
    assert frames.shape == (4, 32, 32, 3) and size == (176, 117)
    np.testing.assert_array_equal(frames[None], view.permute(0, 2, 3, 4, 1))
    whole = read_clip(clips[0])
    assert whole.frames_THWC.shape == (8, 64, 96, 3) and whole.size == (176, 117)
    uris = to_data_uris(frames, size)
    assert len(uris) == 4 and all(uri.startswith('data:image/jpeg;base64,') for uri in uris)


def test_charts_of_analyses_are_shown_unless_they_are_older(tmp_path):
    write(tmp_path)
    for name in ('robustness', 'early'):
        (tmp_path / f'{name}.png').write_bytes(b'picture')
    text = report(tmp_path).read_text(encoding='utf-8')
    for name in ('robustness', 'early'):
        assert f'id="{name}"' in text and f'href="#{name}"' in text
    assert text.count('src="data:image/png;base64,cGljdHVyZQ=="') == 2
    os.utime(tmp_path / 'early.png', (1, 1))
    assert 'id="early"' not in report(tmp_path).read_text(encoding='utf-8')


def test_a_report_is_written_again_from_scores_alone(tmp_path):
    write_result_folder(tmp_path, make_results(), Calibration(1.5, ''))
    first = (tmp_path / 'report.html').read_text(encoding='utf-8')
    for name in ('report.html', 'metrics.json'):
        (tmp_path / name).unlink()
    assert report(tmp_path / 'scores.npz') == tmp_path / 'report.html'
    again = (tmp_path / 'report.html').read_text(encoding='utf-8')
    dated = re.compile(r'\d{4}-\d\d-\d\d \d\d:\d\d')
    assert dated.sub('', again) == dated.sub('', first) and 'Temperature 1.50' in again
    (tmp_path / 'analysis.json').unlink()
    assert 'No temperature' in report(tmp_path).read_text(encoding='utf-8')


def test_hostile_names_are_escaped(tmp_path, cfg):
    cfg.work_dir = HOSTILE
    text = text_of(tmp_path, make_results(
        videos=[HOSTILE, 'b', 'c', 'd'], data=HOSTILE, classes=[HOSTILE, 'B', 'C'],
        filenames=[HOSTILE] * 4), cfg=cfg, checkpoint=HOSTILE)
    assert '<img src=x' not in text and '<script>window' not in text
    assert text.count('<script') == text.count('</script>') == 2
    data = re.search(r'id="matrix-data">(.*?)</script>', text)[1]
    assert json.loads(data)['names'][0] == HOSTILE


def test_mistakes_are_named(tmp_path, options):
    with pytest.raises(HRI30Error, match='no such file'):
        report(tmp_path)
    write(tmp_path)
    gone = str(tmp_path / 'gone.pth')
    with pytest.raises(HRI30Error, match='gone.pth: no such'):
        report(tmp_path, DEMO_CONFIG, gone, options)
    report(tmp_path, DEMO_CONFIG, gone, options, explain=False)
    (tmp_path / 'analysis.json').write_text('{')
    with pytest.raises(HRI30Error, match='analysis.json: not readable'):
        report(tmp_path)


def test_many_classes_show_the_most_confused(tmp_path):
    scores = np.full((100, 100), .001)
    scores[np.arange(100), np.arange(100) // 2] = .9
    names = [f'Class{k}' for k in range(100)]
    text = text_of(tmp_path, Results([f'{k:03}' for k in range(100)], scores, names,
                                     range(100)))
    assert '40 are left out' in text and text.count('role="gridcell"') == 60 * 60


def test_no_clips_at_all_and_a_name_that_is_not_utf8(tmp_path):
    assert text_of(tmp_path, Results([], np.zeros((0, 3)), CLASSES))
    assert 'c\\udcff' in text_of(tmp_path, Results(['c\udcff'], SCORES[:1], CLASSES))


# ---- in a browser ----------------------------------------------------------------------


@pytest.fixture
def open_page(browser):
    """Returns a function that opens a report; all that it loads or says is checked."""
    said, asked = [], []

    def open_report(path):
        page = browser.new_context().new_page()
        page.on('console', lambda message: said.append(message.text))
        page.on('pageerror', lambda error: said.append(str(error)))
        page.on('request', lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page
    yield open_report
    assert said == []
    assert [url for url in asked if not url.startswith(('data:', 'file:'))] == []
    assert len([url for url in asked if url.startswith('file:')]) == 1


@pytest.mark.slow
@in_browser
def test_tables_sort_and_the_matrix_answers_and_filters(tmp_path, open_page):
    page = open_page(write(tmp_path))
    header = page.locator('#classes th', has_text='Recall')

    def ids():
        return page.locator('#classes tbody td:first-child').all_text_contents()

    assert ids() == ['1', '2', '3']
    header.locator('button').click()
    assert header.get_attribute('aria-sort') == 'ascending' and ids() == ['1', '2', '3']
    header.locator('button').press('Enter')
    assert header.get_attribute('aria-sort') == 'descending' and ids() == ['2', '3', '1']

    tooltip = page.locator('#tooltip')
    assert tooltip.is_hidden()
    cell = page.locator('#matrix tbody tr').nth(0).locator('td').nth(1)
    cell.hover()
    words = tooltip.text_content()
    assert tooltip.is_visible() and all(part in words for part in (*CLASSES[:2], '1 of 2'))
    page.locator('h1').hover()
    assert tooltip.is_hidden()
    page.locator('#matrix td[tabindex="0"]').focus()
    page.keyboard.press('ArrowRight')
    assert tooltip.is_visible() and tooltip.text_content() == words
    page.keyboard.press('Escape')
    assert tooltip.is_hidden()

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
    page.set_viewport_size(dict(width=360, height=740))  # a phone scrolls down only
    assert page.evaluate('document.documentElement.scrollWidth') <= 360
    page.emulate_media(media='print', color_scheme='dark')
    assert not page.locator('nav').is_visible()
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') == (
        'rgb(255, 255, 255)')
