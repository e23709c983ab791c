'use strict';

const $ = (id) => document.getElementById(id);
const show = (id, shown) => { $(id).hidden = !shown; };

let token = null;
let model = null; // what /v1/model answers
let active = null; // what is shown: a clip or a camera

// ---- The service --------------------------------------------------------------------------

class ServiceError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const wait = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });

async function ask(path, options = {}, attempts = 5) {
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ServiceError(0, 'The service does not answer. Is it running?');
  }
  if (response.ok) return response;
  if (response.status === 429 && attempts > 1) {
    await wait(1000 * (Number(response.headers.get('Retry-After')) || 1));
    return ask(path, options, attempts - 1);
  }
  let message = `The service answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch { /* from something in between */ }
  throw new ServiceError(response.status, message);
}

function alertUser(message) {
  $('alert').textContent = message;
  show('alert', message !== '');
}

function fail(error) {
  if (error.name === 'AbortError') return;
  if (error.status === 401) {
    $('alert').textContent = token === null ? '' : 'The token is not the one of this service.';
    show('alert', token !== null);
    askForToken();
    return;
  }
  alertUser(error.message);
  $('status').textContent = '';
}

function askForToken() {
  $('model').textContent = 'Locked';
  show('token-form', true);
  $('token').focus();
}

$('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  token = $('token').value.trim();
  connect();
});

async function connect() {
  try {
    model = await (await ask('/v1/model')).json();
  } catch (error) {
    fail(error);
    if (error.status === 0) $('model').textContent = 'No service';
    return;
  }
  alertUser('');
  show('token-form', false);
  $('token').value = '';
  const window = model.window_seconds ? `, looks at ${seconds(model.window_seconds)} at once` : '';
  $('model').textContent = `${model.classes.length} classes, ${model.format} ${model.precision}${window}`;
  $('file').disabled = false;
  $('camera').disabled = false;
}

// ---- What is shown ------------------------------------------------------------------------

const seconds = (value) => `${value.toFixed(1)} s`;
const percent = (score) => `${Math.round(100 * score)} %`;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// A name, which may be anything, with places where it may be broken: before its words.
function named(where, name) {
  const words = name.split(/(?=[A-Z])/);
  where.replaceChildren(...words.flatMap((word) => [element('wbr'), word]));
  return where;
}

// Of [name, score] pairs; rows are kept, so that a reader's place is too.
function drawBars(list, top) {
  while (list.children.length > top.length) list.lastChild.remove();
  top.forEach(([name, score], i) => {
    let row = list.children[i];
    if (!row) {
      row = element('li');
      const bar = element('div', 'bar');
      bar.append(element('span'));
      row.append(element('bdi', 'name'), element('span', 'value'), bar);
      list.append(row);
    }
    if (row.children[0].textContent !== name) named(row.children[0], name);
    row.children[1].textContent = percent(score);
    row.children[2].firstChild.style.width = `${100 * score}%`;
  });
}

function setState(text, unsure) {
  if ($('state').textContent !== text) named($('state'), text);
  $('state').classList.toggle('unsure', unsure);
}

function draw(image, width, height) {
  const canvas = $('picture');
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    canvas.style.aspectRatio = `${width} / ${height}`;
  }
  canvas.getContext('2d').drawImage(image, 0, 0, width, height);
}

// ---- Timeline -----------------------------------------------------------------------------

const SVG = 'http://www.w3.org/2000/svg';
const SPAN = 30; // seconds of a camera that are shown
const COLOURS = 8;
const KEPT = 200; // actions in the list

function shape(tag, className, attributes) {
  const made = document.createElementNS(SVG, tag);
  made.setAttribute('class', className);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

class Timeline {
  // end: length of a clip in seconds; null for a camera.
  constructor(end) {
    this.end = end;
    this.colours = new Map();
    this.clear();
  }

  clear() {
    this.moments = []; // {start, time, name, score}
    this.actions = []; // {start, end, name, score}; end is null while it goes on
    this.time = 0;
    this.origin = null;
    this.list();
    this.redraw();
  }

  colour(name) {
    if (!this.colours.has(name)) this.colours.set(name, this.colours.size % COLOURS);
    return `c${this.colours.get(name)}`;
  }

  add(event) {
    if (this.origin === null) this.origin = this.end === null ? event.time : 0;
    this.time = event.time;
    if (event.event === 'prediction') {
      const last = this.moments[this.moments.length - 1];
      const start = last && event.time - last.time < 1 ? last.time : event.time - .1;
      this.moments.push({ start, time: event.time, name: event.class, score: event.score });
      if (this.end === null) {
        while (this.moments[0].time < event.time - SPAN - 1) this.moments.shift();
      }
    } else if (event.event === 'start') {
      this.actions.push({ start: event.start, end: null, name: event.class, score: event.score });
      if (this.actions.length > KEPT) this.actions.shift();
      this.list();
    } else if (event.event === 'end') {
      const last = this.actions[this.actions.length - 1];
      if (last) last.end = event.end;
      this.list();
    }
    this.redraw();
  }

  list() {
    const rows = [...this.actions].reverse().map((action) => {
      const row = element('li');
      const swatch = shape('svg', '', { viewBox: '0 0 12 12', 'aria-hidden': 'true' });
      swatch.append(shape('rect', this.colour(action.name), { width: 12, height: 12, rx: 2 }));
      const [from, to] = [action.start, action.end].map((time) => (time === null ? 'now'
        : (time - this.origin).toFixed(1)));
      row.append(swatch, element('span', 'time', `${from} – ${to}${to === 'now' ? '' : ' s'}`),
        named(element('bdi', 'name'), action.name), element('span', 'value', percent(action.score)));
      return row;
    });
    $('actions').replaceChildren(...(rows.length ? rows : [element('li', 'muted', 'Nothing yet.')]));
  }

  finish() {
    if (this.actions.length) return;
    const text = this.moments.length ? 'No action was sure for long enough.'
      : 'Too short for the model to look at as a stream.';
    $('actions').replaceChildren(element('li', 'muted', text));
  }

  redraw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      if (active === null || active.timeline === this) this.draw();
    });
  }

  draw() {
    const svg = $('timeline');
    const width = svg.clientWidth || 300;
    svg.setAttribute('viewBox', `0 0 ${width} 92`);
    const origin = this.origin || 0;
    const first = this.end === null ? Math.max(origin, this.time - SPAN) : 0;
    const last = this.end === null ? first + SPAN : this.end;
    const x = (time) => Math.min(width, Math.max(0, width * (time - first) / (last - first)));
    const made = [shape('rect', 'track', { width, height: 22, y: 4, rx: 3 }),
      shape('rect', 'track', { width, height: 30, y: 32, rx: 3 })];
    for (const moment of this.moments) {
      const [left, right] = [x(moment.start), x(moment.time)];
      if (right > left) {
        made.push(shape('rect', this.colour(moment.name), {
          x: left, y: 4, height: 22, width: right - left, opacity: .15 + .85 * moment.score ** 2 }));
      }
    }
    for (const action of this.actions) {
      const [left, right] = [x(action.start), x(action.end === null ? this.time : action.end)];
      if (right <= left) continue;
      made.push(shape('rect', this.colour(action.name), {
        x: left, y: 32, height: 30, width: right - left, rx: 3 }));
      const letters = Math.floor((right - left - 10) / 8);
      if (letters >= 3) {
        const label = shape('text', 'label', { x: left + 6, y: 51 });
        label.textContent = action.name.length > letters
          ? `${action.name.slice(0, letters - 1)}…` : action.name;
        made.push(label);
      }
    }
    this.ticks(made, first - origin, last - origin, (time) => x(time + origin), width);
    svg.replaceChildren(...made);
  }

  ticks(made, first, last, x, width) {
    const span = last - first;
    const step = [.1, .2, .5, 1, 2, 5, 10, 20, 50].find((size) => span / size * 60 <= width) || 100;
    for (let k = Math.ceil(first / step - 1e-9); k * step <= last + 1e-9; k += 1) {
      const place = x(k * step);
      made.push(shape('line', 'tick', { x1: place, x2: place, y1: 62, y2: 68 }));
      const anchor = place < 20 ? 'start' : (place > width - 20 ? 'end' : 'middle');
      const label = shape('text', '', { x: place, y: 82, 'text-anchor': anchor });
      label.textContent = `${Number((k * step).toFixed(1))} s`;
      made.push(label);
    }
    if (active && active.place !== undefined && active.timeline === this) {
      const place = x(active.place);
      made.push(shape('line', 'head', { x1: place, x2: place, y1: 0, y2: 66 }));
    }
  }
}

window.addEventListener('resize', () => { if (active) active.timeline.redraw(); });

// ---- A stream to the service --------------------------------------------------------------

const MAX_BUFFERED = 2 ** 20; // bytes that wait in the browser; further frames are not sent

class Stream {
  constructor(timeline, settings) {
    this.timeline = timeline;
    this.sent = new Map(); // time stamp -> when it was sent
    this.frames = 0;
    this.skipped = 0;
    this.dropped = 0;
    this.latencies = [];
    this.times = []; // of predictions
    this.ended = new Promise((done) => { this.end = done; });
    this.ready = new Promise((done, refuse) => {
      this.socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/v1/stream`);
      this.socket.binaryType = 'arraybuffer';
      this.socket.onopen = () => {
        const start = { type: 'start', settings };
        if (token !== null) start.token = token;
        this.socket.send(JSON.stringify(start));
      };
      this.socket.onmessage = (message) => this.take(JSON.parse(message.data), done);
      this.socket.onclose = (event) => {
        const error = this.error || new ServiceError(0, 'The connection to the service was lost.');
        refuse(error);
        this.end(event.code === 1000 || this.closing ? null : error);
      };
    });
    this.ready.catch(() => {});
  }

  get open() { return this.socket.readyState === WebSocket.OPEN; }

  take(content, done) {
    if (content.event === 'ready') done();
    else if (content.event === 'error') {
      if (content.timestamp === undefined) this.error = new ServiceError(0, content.message);
      else $('status').textContent = content.message;
    } else if (content.event === 'prediction') this.predicted(content);
    else if (content.event === 'closed') this.dropped = content.dropped;
    else if (content.event !== 'reset') this.timeline.add(content);
    this.tell();
  }

  predicted(content) {
    const now = performance.now();
    this.dropped = content.dropped;
    if (this.sent.has(content.time)) {
      this.latencies.push([now - this.sent.get(content.time), content.latency_ms]);
      if (this.latencies.length > 20) this.latencies.shift();
    }
    for (const stamp of this.sent.keys()) if (stamp <= content.time) this.sent.delete(stamp);
    this.times.push(now);
    if (this.times.length > 20) this.times.shift();
    this.timeline.add(content);
    drawBars($('live'), content.top);
    const unsure = content.state === 'unsure';
    setState(unsure ? 'Unsure' : content.state, unsure);
  }

  tell() {
    const middle = (values) => Math.round([...values].sort((a, b) => a - b)[values.length >> 1]);
    if (this.latencies.length) {
      const whole = middle(this.latencies.map(([all]) => all));
      const service = middle(this.latencies.map(([, part]) => part));
      fact('latency', `${whole} ms`, `${service} ms in the service`);
    }
    if (this.times.length > 1) {
      const passed = this.times[this.times.length - 1] - this.times[0];
      fact('rate', `${(1000 * (this.times.length - 1) / passed).toFixed(1)} a second`);
    }
    fact('frames', String(this.frames), `${this.dropped} dropped, ${this.skipped} not sent`);
  }

  // The service tells time stamps with four decimals.
  send(stamp, jpeg) {
    if (!this.open) return;
    if (this.socket.bufferedAmount > MAX_BUFFERED) {
      this.skipped += 1;
      return;
    }
    const rounded = Number(stamp.toFixed(4));
    const message = new Uint8Array(8 + jpeg.byteLength);
    new DataView(message.buffer).setFloat64(0, rounded, true);
    message.set(new Uint8Array(jpeg), 8);
    this.sent.set(rounded, performance.now());
    this.socket.send(message);
    this.frames += 1;
  }

  stop() {
    if (this.open) this.socket.send(JSON.stringify({ type: 'stop' }));
  }

  close() {
    this.closing = true;
    this.socket.close();
  }
}

function fact(id, text, more) {
  $(id).replaceChildren(text, ...(more ? [element('small', '', more)] : []));
}

function clearNow() {
  setState('Nothing yet', true);
  drawBars($('live'), []);
  for (const id of ['latency', 'rate', 'frames']) $(id).textContent = '–';
}

// ---- A clip -------------------------------------------------------------------------------

// Frames as /v1/frames sends them: seconds, length, JPEG.
function unpack(buffer) {
  const view = new DataView(buffer);
  const frames = [];
  for (let at = 0; at < buffer.byteLength;) {
    const length = view.getUint32(at + 8, true);
    frames.push({ time: view.getFloat64(at, true), jpeg: new Uint8Array(buffer, at + 12, length) });
    at += 12 + length;
  }
  return frames;
}

class Clip {
  constructor(file) {
    this.file = file;
    this.aborter = new AbortController();
    this.timeline = new Timeline(1);
    this.run = null; // the loop that plays, while one does
    this.at = 0;
  }

  get playing() { return this.run !== null; }

  async begin() {
    show('clip', true);
    $('clip-name').textContent = this.file.name;
    $('clip-class').textContent = 'Working …';
    drawBars($('clip-bars'), []);
    $('clip-facts').textContent = '';
    $('empty').textContent = 'Sending and decoding the clip …';
    try {
      await Promise.all([this.predict(), this.load()]);
    } catch (error) {
      if (active !== this) return;
      this.aborter.abort();
      $('clip-class').textContent = '';
      show('clip', false);
      stopAll();
      fail(error);
    }
  }

  post(path) {
    const body = new FormData();
    body.append('clip', this.file);
    return ask(path, { method: 'POST', body, signal: this.aborter.signal });
  }

  async predict() {
    const found = await (await this.post('/v1/predict')).json();
    if (active !== this) return;
    named($('clip-class'), found.name);
    drawBars($('clip-bars'), found.top.map(({ name, score }) => [name, score]));
    const { clip, seconds: took } = found;
    const milliseconds = (value) => `${Math.round(1000 * value)} ms`;
    $('clip-facts').textContent = `${clip.frames} frames of ${clip.width} × ${clip.height}. `
      + `Decoded in ${milliseconds(took.decoding)}, recognized in ${milliseconds(took.inference)}.`;
  }

  async load() {
    this.frames = unpack(await (await this.post('/v1/frames')).arrayBuffer());
    if (active !== this) return;
    const last = this.frames[this.frames.length - 1].time;
    this.interval = last / Math.max(1, this.frames.length - 1) || .04;
    this.length = last + this.interval;
    this.timeline.end = this.length;
    $('seek').max = String(this.frames.length - 1);
    show('playback', true);
    show('seen', true);
    show('empty', false);
    $('picture').setAttribute('aria-label', `Frames of ${this.file.name}`);
    await this.display(0);
    if (active === this) await this.play();
  }

  // A clip that is hardly longer than a window has no time for smoothing.
  settings() {
    const window = model.window_seconds || this.length;
    if (this.length >= 2 * window) return {};
    return { window_seconds: Math.min(window, this.length), smoothing: 'none', min_seconds: 0 };
  }

  async play() {
    if (this.playing) return;
    const run = {};
    this.run = run;
    $('play').textContent = 'Pause';
    if (this.at >= this.frames.length - 1) this.at = 0;
    if (this.at === 0 && !(this.stream && this.stream.open)) this.timeline.clear();
    if (!this.stream || !this.stream.open) {
      const stream = new Stream(this.timeline, this.settings());
      this.stream = stream;
      stream.ended.then((error) => { if (error && this.run === run) this.lost(error); });
      try {
        await stream.ready;
      } catch { return; } // told by lost()
    }
    if (this.run === run) this.step(run, this.at, performance.now()).catch(fail);
  }

  lost(error) {
    this.pause();
    fail(error);
  }

  pause() {
    this.run = null;
    $('play').textContent = 'Play';
  }

  // Shows and sends the frames whose time has come since the clip was at one of them.
  async step(run, from, began) {
    let next = from;
    while (this.run === run) {
      const time = this.frames[from].time + (performance.now() - began) / 1000;
      while (next < this.frames.length && this.frames[next].time <= time) {
        this.stream.send(this.frames[next].time, this.frames[next].jpeg);
        next += 1;
      }
      await this.display(next - 1);
      if (this.run === run && next === this.frames.length) {
        await this.finish();
        return;
      }
      await new Promise((done) => { requestAnimationFrame(done); });
    }
  }

  async finish() {
    this.pause();
    const { stream } = this;
    stream.stop();
    await stream.ended;
    if (active === this && this.stream === stream) this.timeline.finish();
  }

  async seek(index) {
    const playing = this.playing;
    this.pause();
    if (this.stream) this.stream.close();
    this.stream = null;
    this.timeline.clear();
    await this.display(index);
    if (playing && index < this.frames.length - 1) await this.play();
  }

  async display(index) {
    this.at = index;
    const { time, jpeg } = this.frames[index];
    this.place = time;
    $('seek').value = String(index);
    $('seek').setAttribute('aria-valuetext', seconds(time));
    $('position').textContent = `${time.toFixed(1)} of ${seconds(this.length)}`;
    const image = await createImageBitmap(new Blob([jpeg], { type: 'image/jpeg' }));
    if (active === this) draw(image, image.width, image.height);
    image.close();
    this.timeline.redraw();
  }

  stop() {
    this.aborter.abort();
    this.pause();
    if (this.stream) this.stream.close();
  }
}

// ---- A camera -----------------------------------------------------------------------------

const SIDE = 640; // longest side in pixels of what is sent
const QUALITY = .8;

class Camera {
  constructor() {
    this.timeline = new Timeline(null);
    this.video = document.createElement('video');
    this.video.muted = true;
    this.video.playsInline = true;
  }

  async begin() {
    $('empty').textContent = 'Waiting for the camera …';
    try {
      if (!navigator.mediaDevices) {
        throw new Error('Browsers give the camera to pages of localhost and of https only.');
      }
      const media = await navigator.mediaDevices.getUserMedia({
        video: { width: { ideal: SIDE }, frameRate: { ideal: 30 } } });
      if (active !== this) {
        media.getTracks().forEach((track) => track.stop());
        return;
      }
      this.media = media;
      media.getTracks()[0].onended = () => this.lost(new Error('The camera went away.'));
      this.video.srcObject = media;
      await this.video.play();
      this.stream = new Stream(this.timeline, {});
      this.stream.ended.then((error) => { if (error) this.lost(error); });
      await this.stream.ready;
    } catch (error) {
      this.lost(error.name === 'NotAllowedError'
        ? new Error('The browser was not allowed to use the camera.')
        : error.name === 'NotFoundError' ? new Error('There is no camera.') : error);
      return;
    }
    if (active !== this) return;
    show('empty', false);
    show('seen', true);
    this.timeline.redraw();
    show('camera', false);
    show('stop', true);
    $('stop').focus();
    $('picture').setAttribute('aria-label', 'Picture of the camera');
    $('status').textContent = '';
    this.run();
  }

  async run() {
    const scale = Math.min(1, SIDE / Math.max(this.video.videoWidth, this.video.videoHeight));
    const width = Math.round(scale * this.video.videoWidth);
    const height = Math.round(scale * this.video.videoHeight);
    while (active === this && this.stream.open) {
      await this.nextFrame();
      if (active !== this) return;
      const stamp = performance.now() / 1000;
      draw(this.video, width, height);
      const jpeg = await new Promise((done) => { $('picture').toBlob(done, 'image/jpeg', QUALITY); });
      if (jpeg) this.stream.send(stamp, await jpeg.arrayBuffer());
    }
  }

  nextFrame() {
    return new Promise((done) => {
      if (this.video.requestVideoFrameCallback) {
        this.video.requestVideoFrameCallback(done);
        // A hidden tab gets none; stop() is noticed then.
        setTimeout(done, 1000);
      } else setTimeout(done, 33);
    });
  }

  lost(error) {
    if (active !== this) return;
    stopAll();
    fail(error);
  }

  stop() {
    if (this.stream) this.stream.close();
    if (this.media) this.media.getTracks().forEach((track) => track.stop());
  }
}

// ---- What the user does -------------------------------------------------------------------

const NOTHING = $('empty').textContent;

function stopAll() {
  const stopped = active;
  active = null;
  if (stopped) stopped.stop();
  show('camera', true);
  if (document.activeElement === $('stop')) $('camera').focus();
  show('stop', false);
  show('playback', false);
  $('status').textContent = '';
  $('empty').textContent = NOTHING;
}

// The last picture stays after a clip and after a camera, but not under a message.
function clearPicture() {
  const canvas = $('picture');
  canvas.getContext('2d').clearRect(0, 0, canvas.width, canvas.height);
  canvas.setAttribute('aria-label', 'No picture yet');
  show('empty', true);
}

function begin(next) {
  stopAll();
  alertUser('');
  clearNow();
  show('clip', false);
  show('seen', false);
  clearPicture();
  active = next;
  next.timeline.clear();
  next.begin();
}

function open(file) {
  if (!model) return;
  if (file.size > model.limits.max_upload_bytes) {
    const largest = (model.limits.max_upload_bytes / 2 ** 20).toFixed(0);
    alertUser(`${file.name} is too large: the service takes clips of ${largest} MiB.`);
    return;
  }
  begin(new Clip(file));
}

$('file').addEventListener('change', () => {
  if ($('file').files.length) open($('file').files[0]);
  $('file').value = ''; // the same file may be chosen again
});
$('camera').addEventListener('click', () => begin(new Camera()));
$('stop').addEventListener('click', stopAll);
$('play').addEventListener('click', () => {
  if (active.playing) active.pause(); else active.play().catch(fail);
});
$('seek').addEventListener('input', () => {
  active.seek(Number($('seek').value)).catch(fail);
});
$('screen').addEventListener('dragover', (event) => {
  event.preventDefault();
  $('screen').classList.add('over');
});
$('screen').addEventListener('dragleave', () => $('screen').classList.remove('over'));
$('screen').addEventListener('drop', (event) => {
  event.preventDefault();
  $('screen').classList.remove('over');
  if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
});

connect();
