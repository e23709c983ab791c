'use strict';

const $ = (id) => document.getElementById(id);
const show = (shown, ...ids) => ids.forEach((id) => { $(id).hidden = !shown; });
const write = (id, ...content) => $(id).replaceChildren(...content);
const wait = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });
const happens = (target, event) => new Promise((done) => { target.addEventListener(event, done, { once: true }); });
const seconds = (value) => `${value.toFixed(1)} s`;
const percent = (score) => `${Math.round(100 * score)} %`;

const SIDE = 640; // longest side of a frame that is sent, pixels
const SPAN = 30; // seconds of a camera that the timeline shows
const LESSONS = 5; // clips of a new action
const COLOURS = 8; // .c0 to .c7 in style.css
const MAX_ACTIONS = 200; // rows of the list
const MAX_BUFFERED = 2 ** 20; // bytes that wait in the browser; further frames are not sent
const NOTHING = $('empty').textContent;
const PANELS = ['screen', 'now', 'clip', 'seen'].map((id) => [id, $(id).cloneNode(true)]); // as they begin

// hri30 stream --window opens the page with its token behind a #.
let token = location.hash.slice(1) || null;
let model = null; // the answer of /v1/model
let active = null; // the Clip or Live that is shown

// ---- Requests -----------------------------------------------------------------------------

async function ask(path, options = {}, attempts = 5) {
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const response = await fetch(path, { ...options, headers }).catch(() => {
    throw new Error('The service does not answer. Is it running?');
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

function upload(path, clips) {
  const body = new FormData();
  for (const clip of clips) body.append('clip', clip);
  return ask(path, { method: 'POST', body });
}

function alertUser(message) {
  write('alert', message);
  show(message !== '', 'alert');
}

function fail(error) {
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
  if (model.source) begin(new Live());
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
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.getContext('2d').drawImage(image, 0, 0, width, height);
}

// picture: the canvas or a video.
function showPicture(picture, label) {
  show(true, 'seen');
  show(false, 'empty');
  picture.ariaLabel = label;
}

const makeVideo = (options) => Object.assign(document.createElement('video'), { muted: true, playsInline: true, ...options });

// Shows a video, and sends its frames to the stream of its owner.
function showVideo(video, owner, label) {
  $('screen').prepend(video); // style.css then hides the canvas
  showPicture(video, label);
  const take = async (now, { mediaTime }) => {
    if (active !== owner) return;
    if (owner.length) timeline.draw(mediaTime);
    owner.sending = owner.stream?.send(owner.length ? mediaTime : now / 1000, video);
    await owner.sending;
    video.requestVideoFrameCallback(take);
  };
  video.requestVideoFrameCallback(take);
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
    this.recent = []; // when predictions came, ms
    this.socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}${path}`);
    this.socket.binaryType = 'arraybuffer';
    this.socket.onopen = () => this.tell({ type: 'start', token, settings });
    this.ready = new Promise((done) => { this.begun = done; }); // true, or false if it ended before
    this.ended = happens(this.socket, 'close').then(({ code }) => { // an error, or null
      this.begun(false);
      return code === 1000 || this.closing ? null : new Error(this.message ?? 'The connection to the service was lost.');
    });
    this.socket.onmessage = ({ data }) => {
      if (typeof data === 'string') this.take(JSON.parse(data));
      else onFrame(data);
    };
  }

  get open() { return this.socket.readyState === WebSocket.OPEN; }

  tell(message) { if (this.open) this.socket.send(JSON.stringify(message)); }

  take(event) {
    this.dropped = event.dropped ?? this.dropped;
    if (event.event === 'ready') this.begun(true);
    else if (event.event === 'closed' || (event.event === 'error' && !('timestamp' in event))) this.message = event.message;
    else if (event.event === 'error') write('status', event.message);
    else if (event.event !== 'reset') timeline.add(event);
    if (event.event === 'prediction') this.showPrediction(event);
    setFact('frames', String(this.frames), `${this.dropped} dropped, ${this.skipped} not sent`);
  }

  showPrediction(event) {
    const now = performance.now();
    this.recent = [...this.recent, now].slice(-20);
    setFact('latency', `${Math.round(event.latency_ms)} ms`, 'in the service');
    const rate = 1000 * (this.recent.length - 1) / (now - this.recent[0]);
    if (this.recent.length > 1) setFact('rate', `${rate.toFixed(1)} per second`);
    drawBars('live', event.top);
    const unsure = event.state === 'unsure';
    const state = unsure ? (event.unknown ? 'Unknown' : 'Unsure') : event.state;
    if ($('state').textContent !== state) write('state', ...breakable(state));
    $('state').classList.toggle('unsure', unsure);
  }

  // Sends the frame that a video shows.
  async send(stamp, video) {
    if (!this.open) return;
    if (this.socket.bufferedAmount > MAX_BUFFERED) {
      this.skipped += 1;
      return;
    }
    const { videoWidth, videoHeight } = video;
    const scale = Math.min(1, SIDE / Math.max(videoWidth, videoHeight));
    drawPicture(video, Math.round(scale * videoWidth), Math.round(scale * videoHeight));
    const jpeg = await new Promise((done) => { $('picture').toBlob(done, 'image/jpeg', .8); });
    if (!this.open) return;
    this.socket.send(new Blob([new Float64Array([stamp]), jpeg]));
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

  constructor(file) { this.file = file; }

  async begin() {
    show(true, 'clip');
    write('clip-name', this.file.name);
    write('empty', 'Sending and decoding the clip …');
    await Promise.all([this.predict(), this.load()]);
  }

  async predict() {
    const answer = await upload('/v1/predict', [this.file]);
    const { name, top, clip, unknown, set, certainty } = await answer.json();
    if (active !== this) return;
    write('clip-class', ...breakable(unknown ? 'Unknown' : name));
    $('clip-class').classList.toggle('unsure', unknown === true);
    show(set !== null, 'clip-set');
    if (set) write('clip-set', `With ${percent(certainty)} certainty: `, ...breakable(set.join(', ') || 'no class'));
    drawBars('clip-bars', top.map((one) => [one.name, one.score]));
    write('clip-facts', `${clip.frames} frames of ${clip.width} × ${clip.height}`);
  }

  async load() {
    const content = await (await upload('/v1/preview', [this.file])).blob();
    if (active !== this) return;
    const video = this.video = makeVideo({ controls: true, src: URL.createObjectURL(content) });
    await Promise.race([happens(video, 'loadedmetadata'), happens(video, 'error')]);
    if (video.error) throw new Error('The browser cannot play the clip.');
    if (active !== this) return;
    this.length = video.duration;
    timeline.clear(this.length);
    showVideo(video, this, `Frames of ${this.file.name}`);
    Object.assign(video, {
      onplay: () => this.play(),
      onended: () => this.finish(),
      onseeking: () => this.restart(),
      onseeked: () => { if (!video.paused) this.play(); } });
    this.play();
  }

  // Plays once there is a stream to send the frames to. A clip that is hardly longer than a
  // window leaves no time for smoothing.
  async play() {
    if (this.stream?.open) return;
    this.video.pause();
    this.restart();
    const window = Math.min(model.window_seconds ?? model.limits.max_window_seconds, this.length);
    const short = this.length < 2 * window && { smooth_seconds: 0, min_seconds: 0 };
    const stream = new Stream('/v1/stream', { window_seconds: window, ...short });
    this.stream = stream;
    const ready = await stream.ready;
    if (ready && active === this) this.video.play().catch(fail);
    const error = await stream.ended;
    if (!error || active !== this || (ready && this.video.paused)) return;
    this.video.pause();
    fail(error);
  }

  restart() {
    this.stream?.close();
    timeline.clear();
  }

  async finish() {
    const { stream } = this;
    await this.sending;
    if (!stream.open) return;
    stream.tell({ type: 'stop', clip: true });
    await stream.ended;
    if (active !== this || !this.video.ended) return;
    timeline.note = stream.message ?? 'No action was sure for long enough.';
    timeline.draw(this.length);
  }

  stop() {
    this.video?.pause();
    URL.revokeObjectURL(this.video?.src);
    this.stream?.close();
  }
}

// ---- A camera of the browser, and the source of hri30 stream ----------------------

class Live {
  length = null;

  async begin() {
    await (model.source ? this.watch() : this.film());
    if (active !== this) this.stop(); // stopped while the browser asked its user
    if (await this.stream.ready && active === this) {
      show(true, 'stop');
      show(false, 'camera');
      show(model.teach && Boolean(this.media), 'teach');
      $('stop').focus();
      if (this.video) showVideo(this.video, this, 'Picture of the camera');
      else showPicture($('picture'), 'Picture of the camera');
    }
    const error = await this.stream.ended;
    if (error) throw error;
    if (active === this) stopAll();
  }

  watch() {
    this.stream = new Stream('/v1/watch', {}, async (jpeg) => {
      this.stream.frames += 1;
      const image = await createImageBitmap(new Blob([jpeg], { type: 'image/jpeg' }));
      if (active === this) drawPicture(image, image.width, image.height);
      image.close();
    });
  }

  async film() {
    write('empty', 'Waiting for the camera …');
    if (!navigator.mediaDevices) throw new Error('Browsers give the camera to pages of localhost and of https only.');
    const wanted = { video: { width: { ideal: SIDE }, frameRate: { ideal: 30 } } };
    this.media = await navigator.mediaDevices.getUserMedia(wanted);
    this.video = makeVideo({ srcObject: this.media });
    await this.video.play();
    this.stream = new Stream('/v1/stream');
    this.media.getTracks()[0].onended = () => {
      this.stream.message = 'The camera went away.';
      this.stream.socket.close();
    };
  }

  stop() {
    this.stream?.close();
    this.media?.getTracks().forEach((track) => track.stop());
    if (model.source) write('model', 'The stream has ended.');
  }
}

// ---- A new action -------------------------------------------------------------------------

const lesson = { name: '', clips: [] }; // sent again, with force, if they are refused

// begun: called with the first data; an encoder may need a second to start.
async function record(media, duration, begun) {
  const recorder = new MediaRecorder(media);
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = happens(recorder, 'stop');
  recorder.start(100);
  do await Promise.race([happens(recorder, 'dataavailable'), stopped]);
  while (recorder.state === 'recording' && !parts.some(({ size }) => size));
  begun();
  await wait(duration);
  if (recorder.state === 'recording') recorder.stop();
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
  const query = new URLSearchParams({ name, force: $('force').checked });
  const { message } = await (await upload(`/v1/teach?${query}`, lesson.clips)).json();
  Object.assign(lesson, { name: '', clips: [] });
  $('teach').reset();
  await connect();
  write('lesson', message);
  if (active === live) begin(new Live()); // a stream keeps the model it began with
}

// ---- The user -----------------------------------------------------------------------------

function stopAll() {
  const stopped = active;
  active = null;
  show(!model?.source, 'camera', 'file-button');
  if (document.activeElement === $('stop')) $('camera').focus();
  show(false, 'stop', 'teach');
  write('status');
  write('empty', NOTHING);
  stopped?.stop();
}

async function begin(next) {
  stopAll();
  alertUser('');
  for (const [id, panel] of PANELS) $(id).replaceWith(panel.cloneNode(true));
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
$('camera').addEventListener('click', () => begin(new Live()));
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
for (const kind of ['dragover', 'dragleave', 'drop']) {
  $('stage').addEventListener(kind, (event) => {
    event.preventDefault();
    $('screen').classList.toggle('over', kind === 'dragover');
    if (kind === 'drop') openFile(event.dataTransfer.files[0]);
  });
}

connect().catch(fail);
