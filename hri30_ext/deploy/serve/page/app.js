'use strict';

const $ = (id) => document.getElementById(id);
const show = (shown, ...ids) => ids.forEach((id) => { $(id).hidden = !shown; });
const write = (id, ...content) => $(id).replaceChildren(...content);
const wait = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });
const seconds = (value) => `${value.toFixed(1)} s`;
const percent = (score) => `${Math.round(100 * score)} %`;

const SIDE = 640; // longest side of a camera frame that is sent, pixels
const SPAN = 30; // seconds of a camera that the timeline shows
const LESSONS = 5; // clips of a new action
const COLOURS = 8; // .c0 to .c7 in style.css
const MAX_ACTIONS = 200; // rows of the list
const MAX_BUFFERED = 2 ** 20; // bytes that wait in the browser; further frames are not sent
const NOTHING = $('empty').textContent;
const PANELS = ['now', 'clip', 'seen'].map((id) => [id, $(id).cloneNode(true)]); // as they begin

// tools/deploy/stream.py --window opens the page with its token behind a #.
let token = location.hash.slice(1) || null;
let model = null; // the answer of /v1/model
let active = null; // the Clip or Live that is shown

// ---- Requests -----------------------------------------------------------------------------

async function ask(path, options = {}, attempts = 5) {
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const response = await fetch(path, { ...options, headers }).catch((error) => {
    throw error.name === 'AbortError' ? error : new Error('The service does not answer. Is it running?');
  });
  if (response.ok) return response;
  if (response.status === 429 && attempts > 1) {
    await wait(1000 * (Number(response.headers.get('Retry-After')) || 1));
    return ask(path, options, attempts - 1);
  }
  const answer = await response.json().catch(() => null); // a proxy may answer otherwise
  const message = answer?.error?.message ?? `The service answered ${response.status}.`;
  throw Object.assign(new Error(message), { status: response.status });
}

function alertUser(message) {
  write('alert', message);
  show(message !== '', 'alert');
}

function fail(error) {
  if (error.name === 'AbortError') return;
  write('status');
  alertUser(error.message);
  if (error.status !== 401) return;
  alertUser(token === null ? '' : 'The token is not the one of this service.');
  write('model', 'Locked');
  show(true, 'token-form');
  $('token').focus();
}

async function connect() {
  write('model', 'No service');
  model = await (await ask('/v1/model')).json();
  alertUser('');
  show(false, 'token-form');
  $('token').value = '';
  const length = model.window_seconds ? `, window ${seconds(model.window_seconds)}` : '';
  write('model', `${model.classes.length} classes, ${model.format} ${model.precision}${length}`);
  if (model.source) begin(new Live(watch));
  else for (const id of ['file', 'camera']) $(id).disabled = false;
}

// ---- Parts of the page --------------------------------------------------------------------

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

// A class name as text that may break before each of its words.
const breakable = (name) => name.split(/(?=[A-Z])/).flatMap((word) => [element('wbr', ''), word]);

// The items of a list of classes and their scores.
const scored = (name, score) => [element('bdi', 'name', ...breakable(name)), element('span', 'value', percent(score))];

function drawBars(id, top) {
  write(id, ...top.map(([name, score]) => {
    const bar = Object.assign(document.createElement('progress'), { value: score });
    return element('li', '', ...scored(name, score), bar);
  }));
}

const setFact = (id, text, more = '') => write(id, text, element('small', '', more));

function drawPicture(image, width, height) {
  const canvas = $('picture');
  if (canvas.width !== width || canvas.height !== height) {
    Object.assign(canvas, { width, height });
    canvas.style.aspectRatio = `${width} / ${height}`;
  }
  canvas.getContext('2d').drawImage(image, 0, 0, width, height);
}

async function drawJpeg(jpeg, owner) {
  const image = await createImageBitmap(new Blob([jpeg], { type: 'image/jpeg' }));
  if (active === owner) drawPicture(image, image.width, image.height);
  image.close();
}

// Two lanes of blocks, the times below them, and the list of actions.
const timeline = {
  // length: of a clip, in seconds; null for a camera.
  clear(length = this.length) {
    Object.assign(this, {
      length,
      colours: new Map(),
      moments: [], // {start, end, name, score} of predictions
      actions: [], // the same of actions; end is null while one goes on
      time: 0, // of the last event
      origin: length === null ? null : 0,
      note: 'Nothing yet.' });
    this.draw();
  },

  add({ event, time, class: name, score, start, end, unknown }) {
    this.origin ??= time;
    this.time = time;
    if (unknown) return this.draw();
    if (event === 'prediction') {
      const before = this.moments.at(-1)?.end ?? -Infinity;
      this.moments.push({ start: time - before < 1 ? before : time - .1, end: time, name, score });
      if (this.length === null) while (this.moments[0].end < time - SPAN) this.moments.shift();
    } else if (event === 'start') {
      this.actions = [...this.actions, { start, end: null, name, score }].slice(-MAX_ACTIONS);
    } else if (this.actions.length) this.actions.at(-1).end = end;
    this.draw();
  },

  draw(place = null) { // of the player, in seconds
    const origin = this.origin ?? 0;
    const first = this.length === null ? Math.max(origin, this.time - SPAN) : 0;
    const span = this.length ?? SPAN;
    const at = (time) => 100 * Math.min(1, Math.max(0, (time - first) / span));
    const block = ({ start, end, name }, text, opacity) => {
      const made = element('span', this.colour(name), text);
      const left = at(start);
      Object.assign(made.style, { left: `${left}%`, width: `${at(end ?? this.time) - left}%`, opacity });
      return made;
    };
    const when = (time) => seconds(time - origin);
    write('moments', ...this.moments.map((one) => block(one, '', .15 + .85 * one.score ** 2)));
    write('lasting', ...this.actions.filter(({ end }) => (end ?? this.time) > first).map((one) => block(one, one.name, 1)));
    write('ticks', ...[0, .25, .5, .75, 1].map((part) => element('span', '', when(first + part * span))));
    show(place !== null, 'place');
    $('place').style.left = `${at(place)}%`;
    const rows = this.actions.map(({ start, end, name, score }) => element('li', '',
      element('span', `swatch ${this.colour(name)}`),
      element('span', 'time', `${when(start)} – ${end === null ? 'now' : when(end)}`), ...scored(name, score)));
    write('actions', ...(rows.length ? rows.reverse() : [element('li', 'muted', this.note)]));
  },

  colour(name) {
    if (!this.colours.has(name)) this.colours.set(name, this.colours.size % COLOURS);
    return `c${this.colours.get(name)}`;
  },
};

// ---- A WebSocket to the service -----------------------------------------------------------

class Stream {
  // onFrame: called with each JPEG that the service sends, which /v1/watch does.
  constructor(path, settings = {}, onFrame = null) {
    Object.assign(this, { frames: 0, skipped: 0, dropped: 0 });
    this.sent = new Map(); // time stamp -> when it was sent, ms
    this.recent = []; // [when it came, latency, latency in the service] of predictions, ms
    this.socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}${path}`);
    this.socket.binaryType = 'arraybuffer';
    this.socket.onopen = () => this.tell({ type: 'start', token, settings });
    this.ended = new Promise((end) => { this.end = end; }); // an error, or null
    this.ready = new Promise((done) => { // true, or false if it ended before
      this.socket.onmessage = ({ data }) => {
        if (typeof data === 'string') this.take(JSON.parse(data), done);
        else onFrame(data);
      };
      this.socket.onclose = ({ code }) => {
        done(false);
        this.end(code === 1000 || this.closing ? null
          : new Error(this.message ?? 'The connection to the service was lost.'));
      };
    });
  }

  get open() { return this.socket.readyState === WebSocket.OPEN; }

  tell(message) { if (this.open) this.socket.send(JSON.stringify(message)); }

  take(event, done) {
    this.dropped = event.dropped ?? this.dropped;
    if (event.event === 'ready') done(true);
    else if (event.event === 'closed' || (event.event === 'error' && !('timestamp' in event))) this.message = event.message;
    else if (event.event === 'error') write('status', event.message);
    else if (event.event !== 'reset') timeline.add(event);
    if (event.event === 'prediction') this.showPrediction(event);
    setFact('frames', String(this.frames), `${this.dropped} dropped, ${this.skipped} not sent`);
  }

  showPrediction(event) {
    const now = performance.now();
    const sent = this.sent.get(event.time) ?? now - event.latency_ms;
    for (const stamp of this.sent.keys()) if (stamp <= event.time) this.sent.delete(stamp);
    this.recent = [...this.recent, [now, now - sent, event.latency_ms]].slice(-20);
    const [whole, service] = [1, 2].map((column) => Math.round(
      this.recent.map((row) => row[column]).sort((a, b) => a - b)[this.recent.length >> 1]));
    setFact('latency', `${whole} ms`, `${service} ms in the service`);
    const rate = 1000 * (this.recent.length - 1) / (now - this.recent[0][0]);
    if (this.recent.length > 1) setFact('rate', `${rate.toFixed(1)} per second`);
    drawBars('live', event.top);
    const unsure = event.state === 'unsure';
    const state = unsure ? (event.unknown ? 'Unknown' : 'Unsure') : event.state;
    if ($('state').textContent !== state) write('state', ...breakable(state));
    $('state').classList.toggle('unsure', unsure);
  }

  send(stamp, jpeg) {
    if (!this.open) return;
    if (this.socket.bufferedAmount > MAX_BUFFERED) {
      this.skipped += 1;
      return;
    }
    const rounded = Number(stamp.toFixed(4)); // as the service answers it
    const message = new Uint8Array(8 + jpeg.byteLength);
    new DataView(message.buffer).setFloat64(0, rounded, true);
    message.set(new Uint8Array(jpeg), 8);
    this.sent.set(rounded, performance.now());
    this.socket.send(message);
    this.frames += 1;
  }

  close() {
    this.closing = true;
    this.socket.close();
  }
}

// ---- A clip -------------------------------------------------------------------------------

class Clip {
  length = 1;
  run = null; // identifies the loop that plays, while one does
  index = 0;
  aborter = new AbortController();

  constructor(file) { this.file = file; }

  async begin() {
    show(true, 'clip');
    write('clip-name', this.file.name);
    write('empty', 'Sending and decoding the clip …');
    await Promise.all([this.predict(), this.load()]);
  }

  post(path) {
    const body = new FormData();
    body.append('clip', this.file);
    return ask(path, { method: 'POST', body, signal: this.aborter.signal });
  }

  async predict() {
    const { name, top, clip, seconds: took, unknown, set, certainty } = await (await this.post('/v1/predict')).json();
    if (active !== this) return;
    write('clip-class', ...breakable(unknown ? 'Unknown' : name));
    $('clip-class').classList.toggle('unsure', unknown === true);
    show(set !== null, 'clip-set');
    if (set) write('clip-set', `With ${percent(certainty)} certainty: `, ...breakable(set.join(', ') || 'no class'));
    drawBars('clip-bars', top.map((one) => [one.name, one.score]));
    const [decoding, inference] = [took.decoding, took.inference].map((s) => Math.round(1000 * s));
    write('clip-facts', `${clip.frames} frames of ${clip.width} × ${clip.height}. `
      + `Decoded in ${decoding} ms, recognized in ${inference} ms.`);
  }

  // /v1/frames answers, for each frame: seconds (float64), length (uint32), JPEG.
  async load() {
    const buffer = await (await this.post('/v1/frames')).arrayBuffer();
    if (active !== this) return;
    const view = new DataView(buffer);
    this.frames = [];
    for (let at = 0, length; at < buffer.byteLength; at += 12 + length) {
      length = view.getUint32(at + 8, true);
      this.frames.push({ time: view.getFloat64(at, true), jpeg: new Uint8Array(buffer, at + 12, length) });
    }
    this.last = this.frames.length - 1;
    const { time } = this.frames[this.last];
    this.length = time + (time / this.last || .04);
    timeline.clear(this.length);
    $('seek').max = String(this.last);
    show(true, 'playback');
    showPicture(`Frames of ${this.file.name}`);
    await this.display(0);
    if (active === this) await this.play();
  }

  // Starts a stream, unless it is paused. A clip that is hardly longer than a window leaves no
  // time for smoothing.
  async connect(run) {
    if (this.stream?.open) return;
    timeline.clear();
    const window = Math.min(model.window_seconds || this.length, this.length);
    const short = { window_seconds: window, smoothing: 'none', min_seconds: 0 };
    this.stream = new Stream('/v1/stream', this.length < 2 * window ? short : {});
    this.stream.ended.then((error) => {
      if (!error || this.run !== run) return;
      this.pause();
      fail(error);
    });
    await this.stream.ready;
  }

  // Shows and sends each frame when its time has come.
  async play() {
    const run = {};
    this.run = run;
    write('play', 'Pause');
    if (this.index === this.last) this.index = 0;
    await this.connect(run);
    const begin = performance.now() - 1000 * this.frames[this.index].time;
    for (let next = this.index; this.run === run && next <= this.last;) {
      for (; this.frames[next]?.time <= (performance.now() - begin) / 1000; next += 1) {
        this.stream.send(this.frames[next].time, this.frames[next].jpeg);
      }
      await this.display(Math.max(0, next - 1));
      await new Promise((done) => { requestAnimationFrame(done); });
    }
    if (this.run !== run) return;
    this.pause();
    this.stream.tell({ type: 'stop', clip: true });
    await this.stream.ended;
    timeline.note = this.stream.message ?? 'No action was sure for long enough.';
    if (active === this) await this.display(this.index);
  }

  pause() {
    this.run = null;
    write('play', 'Play');
  }

  async seek(index) {
    const playing = this.run !== null;
    this.pause();
    this.stream?.close();
    this.stream = null;
    timeline.clear();
    await this.display(index);
    if (playing && index < this.last) await this.play();
  }

  async display(index) {
    this.index = index;
    const { time, jpeg } = this.frames[index];
    timeline.draw(time);
    $('seek').value = String(index);
    $('seek').setAttribute('aria-valuetext', seconds(time));
    write('position', `${time.toFixed(1)} of ${seconds(this.length)}`);
    await drawJpeg(jpeg, this);
  }

  stop() {
    this.aborter.abort();
    this.pause();
    this.stream?.close();
  }
}

// ---- A camera of the browser, and the source of tools/deploy/stream.py ----------------------

class Live {
  length = null;

  // open: sets this.stream, and may return a function that runs once it is ready.
  constructor(open) { this.open = open; }

  async begin() {
    const run = await this.open(this);
    if (active !== this) this.stop(); // stopped while the browser asked its user
    if (await this.stream.ready && active === this) {
      show(true, 'stop');
      show(false, 'camera');
      show(model.teach && Boolean(this.media), 'teach');
      $('stop').focus();
      showPicture('Picture of the camera');
      run?.();
    }
    const error = await this.stream.ended;
    if (error) throw error;
    if (active === this) stopAll();
  }

  stop() {
    this.stream?.close();
    this.media?.getTracks().forEach((track) => track.stop());
    if (model.source) write('model', 'The stream has ended.');
  }
}

function watch(live) {
  live.stream = new Stream('/v1/watch', {}, (jpeg) => {
    live.stream.frames += 1;
    drawJpeg(jpeg, live);
  });
}

async function camera(live) {
  write('empty', 'Waiting for the camera …');
  if (!navigator.mediaDevices) {
    throw new Error('Browsers give the camera to pages of localhost and of https only.');
  }
  const messages = { NotAllowedError: 'The browser was not allowed to use the camera.',
    NotFoundError: 'There is no camera.' };
  const wanted = { video: { width: { ideal: SIDE }, frameRate: { ideal: 30 } } };
  live.media = await navigator.mediaDevices.getUserMedia(wanted).catch((error) => {
    throw new Error(messages[error.name] ?? error.message);
  });
  const video = Object.assign(document.createElement('video'), {
    muted: true, playsInline: true, srcObject: live.media });
  await video.play();
  const stream = new Stream('/v1/stream');
  live.stream = stream;
  live.media.getTracks()[0].onended = () => {
    stream.message = 'The camera went away.';
    stream.socket.close();
  };
  return async () => {
    const { videoWidth, videoHeight } = video;
    const scale = Math.min(1, SIDE / Math.max(videoWidth, videoHeight));
    const size = [videoWidth, videoHeight].map((side) => Math.round(scale * side));
    while (active === live && stream.open) {
      const stamp = performance.now() / 1000;
      drawPicture(video, ...size);
      const jpeg = await new Promise((done) => { $('picture').toBlob(done, 'image/jpeg', .8); });
      if (jpeg) stream.send(stamp, await jpeg.arrayBuffer());
      // A hidden tab gets no frames; that it was stopped is noticed then.
      await (video.requestVideoFrameCallback ? Promise.race([wait(1000),
        new Promise((done) => { video.requestVideoFrameCallback(done); })]) : wait(33));
    }
  };
}

// ---- A new action -------------------------------------------------------------------------

const lesson = { name: '', clips: [] }; // sent again, with force, if they are refused

// begun: called with the first data; an encoder may need a second to start.
async function record(media, duration, begun) {
  const recorder = new MediaRecorder(media);
  const parts = [];
  const started = new Promise((done) => {
    recorder.ondataavailable = ({ data }) => {
      parts.push(data);
      if (data.size) done();
    };
  });
  const stopped = new Promise((done, failed) => {
    recorder.onstop = done;
    recorder.onerror = () => failed(new Error('The browser cannot record the camera.'));
  });
  recorder.start(100);
  await Promise.race([started, stopped]);
  begun();
  await wait(duration);
  if (recorder.state !== 'inactive') recorder.stop();
  await stopped;
  return new Blob(parts);
}

async function teach(live) {
  const name = $('action').value.trim();
  if (name !== lesson.name || !$('force').checked) Object.assign(lesson, { name, clips: [] });
  while (lesson.clips.length < LESSONS) {
    const count = `Clip ${lesson.clips.length + 1} of ${LESSONS}`;
    for (const left of [3, 2, 1]) {
      write('lesson', `${count} in ${left} …`);
      await wait(1000);
      if (active !== live) return write('lesson');
    }
    const clip = await record(live.media, 1000 * Math.max(1, model.window_seconds ?? 2),
      () => write('lesson', `${count}: perform ${name} now`));
    if (active !== live) return write('lesson');
    lesson.clips.push(clip);
  }
  write('lesson', 'Learning …');
  const body = new FormData();
  for (const clip of lesson.clips) body.append('clip', clip);
  const query = new URLSearchParams({ name, force: $('force').checked });
  const { message } = await (await ask(`/v1/teach?${query}`, { method: 'POST', body })).json();
  Object.assign(lesson, { name: '', clips: [] });
  $('teach').reset();
  await connect();
  write('lesson', message);
  if (active === live) begin(new Live(camera)); // a stream keeps the model it began with
}

// ---- The user -----------------------------------------------------------------------------

function showPicture(label) {
  show(true, 'seen');
  show(false, 'empty');
  $('picture').setAttribute('aria-label', label);
}

function stopAll() {
  const stopped = active;
  active = null;
  show(!model?.source, 'camera', 'file-button');
  if (document.activeElement === $('stop')) $('camera').focus();
  show(false, 'stop', 'playback', 'teach');
  write('status');
  write('empty', NOTHING);
  stopped?.stop();
}

async function begin(next) {
  stopAll();
  alertUser('');
  for (const [id, panel] of PANELS) $(id).replaceWith(panel.cloneNode(true));
  const canvas = $('picture');
  canvas.getContext('2d').clearRect(0, 0, canvas.width, canvas.height);
  canvas.setAttribute('aria-label', 'No picture yet');
  show(true, 'empty');
  active = next;
  timeline.clear(next.length);
  try {
    await next.begin();
  } catch (error) {
    if (active !== next) return; // it was stopped, or something else was chosen
    stopAll();
    show(false, 'clip');
    fail(error);
  }
}

function openFile(file) {
  if (!file || !model || model.source) return;
  const most = model.limits.max_upload_bytes;
  if (file.size <= most) begin(new Clip(file));
  else alertUser(`${file.name} is too large: the service takes clips of ${Math.floor(most / 2 ** 20)} MiB.`);
}

$('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  token = $('token').value.trim();
  connect().catch(fail);
});
$('file').addEventListener('change', () => {
  openFile($('file').files[0]);
  $('file').value = ''; // the same file may be chosen again
});
$('camera').addEventListener('click', () => begin(new Live(camera)));
$('stop').addEventListener('click', stopAll);
$('teach').addEventListener('submit', (event) => {
  event.preventDefault();
  alertUser('');
  $('learn').disabled = true;
  teach(active).catch((error) => {
    write('lesson');
    fail(error);
  }).finally(() => { $('learn').disabled = false; });
});
$('play').addEventListener('click', () => {
  if (active.run) active.pause(); else active.play().catch(fail);
});
$('seek').addEventListener('input', () => active.seek(Number($('seek').value)).catch(fail));
for (const kind of ['dragover', 'dragleave', 'drop']) {
  $('screen').addEventListener(kind, (event) => {
    event.preventDefault();
    $('screen').classList.toggle('over', kind === 'dragover');
    if (kind === 'drop') openFile(event.dataTransfer.files[0]);
  });
}

connect().catch(fail);
