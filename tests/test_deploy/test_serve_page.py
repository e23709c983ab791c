"""The page of the service, in a browser."""

import contextlib
import re
import time

import msgspec
import numpy as np
import pytest
from conftest import in_browser
from test_deploy.serving import CLASSES, TOKEN, FakeRecognizer, running, wait_for

from hri30_ext.deploy.runtime.certainty import ClassSets, OpenSet
from hri30_ext.deploy.serve.window import Window
from hri30_ext.errors import HRI30Error
from hri30_ext.synthetic.video import write_video

pytestmark = [pytest.mark.slow, in_browser]
# Runs if it is not shown as text.
HOSTILE = '<img src=x onerror=window.hacked=1><script>window.hacked=1</script>'


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """A clip of three seconds, which browsers do not play: MPEG-4 in AVI."""
    path = tmp_path_factory.mktemp('clips') / 'a clip ü.avi'
    write_video(np.stack([np.full((64, 96, 3), 2 * k, np.uint8) for k in range(90)]), path)
    return path


@pytest.fixture
def open_page(browser):
    """Returns a function that opens the page; all that it loads or says is checked."""
    said, asked, urls = [], [], []
    with contextlib.ExitStack() as stack:
        def open_it(recognizer=None, url=None, script='', **service):
            app = None
            if url is None:
                url, app = stack.enter_context(running(recognizer, **service))
            urls.append(url.partition('/#')[0])
            page = stack.enter_context(
                browser.new_context(permissions=('camera', ))).new_page()
            page.set_default_timeout(30_000)
            page.add_init_script(script)
            page.on('console', lambda message: said.append(message.text))
            page.on('pageerror', lambda error: said.append(str(error)))
            page.on('request', lambda request: asked.append(request.url))
            page.goto(url)
            return page, app
        yield open_it
    # The browser itself notes answers that are errors.
    assert [text for text in said if 'Failed to load resource' not in text] == []
    assert [url for url in asked
            if not url.startswith((*urls, 'blob:http:', 'data:,'))] == []


def choose(page, file):
    """Waits until the page is ready, and chooses a file."""
    page.locator('#file:enabled').wait_for(state='attached')
    page.set_input_files('#file', file)


def has(page, selector, text):
    """Waits for an element with a text."""
    found = page.locator(selector, has_text=text)
    found.first.wait_for()
    return found


def ended(page):
    """Waits until the clip was played to its end."""
    page.locator('video').evaluate("""video => video.ended || new Promise(
        done => video.addEventListener('ended', done, {once: true}))""")


def test_an_uploaded_clip_is_played_and_named(open_page, clip):
    page, app = open_page()
    has(page, '#model', '3 classes, onnx fp32, window 0.6 s')
    choose(page, clip)
    assert has(page, '#clip-class', 'PutDownDrill').is_visible()
    bars = page.locator('#clip-bars li')
    assert bars.count() == 3 and bars.first.text_content() == 'PutDownDrill80 %'
    assert '90 frames of 96 × 64' in page.locator('#clip-facts').text_content()
    assert page.locator('#clip-name').text_content() == clip.name
    # It plays by itself, and what is seen meanwhile stands beside it.
    has(page, '#state', 'PutDownDrill')
    ended(page)
    action = has(page, '#actions li', 'PutDownDrill')
    has(page, '#actions .time', re.compile(r'(2\.[89]|3\.0) s$'))
    assert action.count() == 1 and page.locator('#picture').is_hidden()
    assert page.locator('#live li').first.text_content() == 'PutDownDrill80 %'
    assert page.locator('#lasting span').text_content() == 'PutDownDrill'
    assert page.locator('#moments span').count() > 5
    assert 'ms' in page.locator('#latency').text_content()
    assert '0 not sent' in page.locator('#frames').text_content()
    assert page.locator('video').evaluate('video => video.videoWidth') == 96
    # The last frames that were sent are the bright ones.
    assert page.locator('#picture').evaluate(
        "canvas => canvas.getContext('2d').getImageData(9, 9, 1, 1).data[0]") > 150
    wait_for(lambda: not app.state.service.streams)


def test_an_unknown_action_is_said_and_is_no_event(open_page, clip):
    recognizer = FakeRecognizer()
    # 1 - 0.8 is too much for the first set. Scores of .8, .1 and .1 are too unsure.
    recognizer.info = msgspec.structs.replace(
        recognizer.info, sets=ClassSets(.1, .1, 9), open_set=OpenSet(
            .5, .05, 19, ((9., 0, -9), (0, 9, -9), (-9, 0, 9))))
    page, _ = open_page(recognizer)
    choose(page, clip)
    assert has(page, '#clip-class', 'Unknown').is_visible()
    assert page.locator('#clip-set').text_content() == 'With 90 % certainty: no class'
    has(page, '#state', 'Unknown')
    ended(page)
    has(page, '#actions', 'No action was sure')


def test_keys_are_enough(open_page, clip):
    page, app = open_page(FakeRecognizer(window_seconds=None), max_window_seconds=1)
    page.locator('#file:enabled').wait_for(state='attached')
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.id') == 'file'
    assert page.locator('label[for=file]').evaluate(
        'label => getComputedStyle(label).outlineStyle') == 'solid'
    # That the key opens the browser's own chooser; the chooser itself is not opened.
    page.evaluate("""document.querySelector('#file').addEventListener('click', event => {
        event.preventDefault(); window.opened = true; }, {once: true})""")
    page.keyboard.press('Enter')
    page.wait_for_function('window.opened')
    page.locator('#file').set_input_files(clip)
    has(page, '#state', 'PutDownDrill')
    # The controls are the browser's own.
    page.locator('video').press('Space')
    assert page.locator('video').evaluate('video => video.paused')
    # At its end, it starts again.
    page.locator('video').evaluate('video => { video.currentTime = video.duration; }')
    has(page, '#actions', 'Nothing yet.')
    page.locator('video').press('Space')
    has(page, '#actions li', 'PutDownDrill')
    ended(page)
    assert page.locator('#actions li').count() == 1 and page.locator('#alert').is_hidden()


def test_hostile_names_are_text(open_page, clip, tmp_path):
    names = (HOSTILE, HOSTILE.upper(), 'C')
    page, _ = open_page(FakeRecognizer(names, label=0))
    file = tmp_path / f'{HOSTILE.replace("/", "")}.avi'
    file.write_bytes(clip.read_bytes())
    choose(page, file)
    assert has(page, '#clip-class', HOSTILE).text_content() == HOSTILE
    has(page, '#actions li .name', HOSTILE)
    assert page.locator('#state').text_content() == HOSTILE
    assert page.locator('#clip-name').text_content() == file.name
    assert page.locator('img').count() == 0 and page.locator('script').count() == 1
    # A string to evaluate would be refused by the page's policy.
    assert page.locator('body').evaluate('() => window.hacked') is None


def test_what_cannot_be_used_is_told(open_page, clip, tmp_path):
    page, _ = open_page(max_upload_bytes=2**20, max_clip_seconds=2)
    file = tmp_path / 'notes.avi'
    file.write_text('not a video')
    choose(page, file)
    has(page, '#alert', 'cannot be decoded')
    assert page.locator('#clip').is_hidden() and page.locator('video').count() == 0
    choose(page, clip)
    has(page, '#alert', 'longer than 2 seconds')
    file.write_bytes(bytes(2**20 + 1))
    choose(page, file)
    has(page, '#alert', 'too large: the service takes clips of 1 MiB')


def test_the_token_is_asked_for(open_page, clip):
    page, _ = open_page(token=TOKEN)
    page.locator('#token:focus').wait_for()
    assert page.locator('#alert').is_hidden() and page.locator('#file').is_disabled()
    page.keyboard.type('wrong')
    page.keyboard.press('Enter')
    has(page, '#alert', 'not the one')
    page.fill('#token', TOKEN)
    page.keyboard.press('Enter')
    choose(page, clip)
    has(page, '#clip-class', 'PutDownDrill')
    has(page, '#actions li', 'PutDownDrill')
    assert page.locator('#token-form').is_hidden()
    assert page.locator('#token').input_value() == ''


def test_a_busy_service_is_asked_again(open_page, clip):
    # The page asks for the result and for the frames at once.
    page, _ = open_page(FakeRecognizer(before=lambda: time.sleep(.3)), max_requests=1)
    statuses = []
    page.on('response', lambda response: statuses.append(response.status))
    choose(page, clip)
    has(page, '#clip-class', 'PutDownDrill')
    page.locator('video').wait_for()
    assert 429 in statuses and page.locator('#alert').is_hidden()


def test_the_camera(open_page):
    page, app = open_page()
    page.locator('#camera:enabled').click()
    has(page, '#state', 'PutDownDrill')
    has(page, '#actions li', 'now')
    has(page, '#rate', 'per second')
    assert page.locator('#stop:focus').count() == 1
    assert app.state.service.streams == 1
    page.keyboard.press('Enter')
    page.locator('#camera:focus').wait_for()
    wait_for(lambda: not app.state.service.streams)
    assert page.locator('#stop').is_hidden() and page.locator('#alert').is_hidden()


def test_an_action_is_taught_at_the_camera(open_page):
    class Teacher:
        preprocessing, recognizer = FakeRecognizer().info.preprocessing, None
        seen = []

        def add(self, name, views, force):
            self.seen.append((name, np.stack(views), force))
            if not force:
                raise HRI30Error('The old classes fall.')
            self.recognizer = FakeRecognizer((*CLASSES, name), label=3)
            return f'{name} was learned'

    page, _ = open_page()
    page.locator('#camera:enabled').click()
    has(page, '#actions li', 'now')
    assert page.locator('#teach').is_hidden()
    quick = 'const real = setTimeout; window.setTimeout = (f, ms) => real(f, ms / 8);'
    page, _ = open_page(teacher=Teacher(), script=quick, token=TOKEN)
    page.set_default_timeout(120_000)  # five recordings on a busy machine
    page.fill('#token', TOKEN)
    page.keyboard.press('Enter')
    page.locator('#camera:enabled').click()
    page.fill('#action', 'Wave ü')
    page.keyboard.press('Enter')

    has(page, '#alert', 'The old classes fall.')
    page.check('#force')
    page.click('#learn:enabled')
    has(page, '#lesson', 'Wave ü was learned')
    has(page, '#state', 'Wave ü')
    has(page, '#model', '4 classes')
    (_, views, force), again = Teacher.seen
    assert force is False and again[0] == 'Wave ü' and again[2] is True
    # The same clips again, of what the camera showed.
    np.testing.assert_array_equal(again[1], views)
    assert views.shape == (5, 1, 4, 24, 32, 3) and views.std() > 20
    assert page.locator('#alert').is_hidden()
    assert page.locator('#action').input_value() == ''


def test_the_window_of_a_stream_is_a_page(open_page):
    recognizer = FakeRecognizer()
    window = Window(recognizer, 'camera 0')
    locked, _ = open_page(url=window.url.partition('#')[0])
    locked.locator('#token:focus').wait_for()
    page, _ = open_page(url=window.url)
    has(page, '#model', 'window 0.6 s')
    assert page.locator('#file-button').is_hidden() and page.locator('#camera').is_hidden()
    stream, shown = recognizer.stream(predictions=True), True
    for k in range(60):
        image = np.full((64, 96, 3), (0, 255, 0), np.uint8)
        events = [event.to_json() for event in stream.push(image, k / 30)]
        shown &= window.show(image, events)
        time.sleep(1 / 30)
    has(page, '#state', 'PutDownDrill')
    has(page, '#actions li', 'now')
    assert shown and page.locator('#picture').evaluate(
        "canvas => canvas.getContext('2d').getImageData(9, 9, 1, 1).data[1]") > 200
    page.locator('#stop').click()
    wait_for(lambda: not window.show(image, []))  # a reloaded page would come back
    window.close()


def test_nothing_is_wider_than_the_window(open_page, clip):
    names = tuple(f'MoveDiagonallyBackwardRightWithPolisher{k}' for k in range(30))
    page, _ = open_page(FakeRecognizer(names))
    choose(page, clip)
    has(page, '#actions li', names[1])
    has(page, '#clip-class', names[1])
    for width, scheme, colour in ((320, 'light', 'rgb(255, 255, 255)'),
                                  (1280, 'dark', 'rgb(20, 24, 29)')):
        page.set_viewport_size(dict(width=width, height=740))
        page.emulate_media(color_scheme=scheme)
        assert page.locator('html').evaluate('html => html.scrollWidth') == width
        assert page.locator('body').evaluate(
            'body => getComputedStyle(body).backgroundColor') == colour
