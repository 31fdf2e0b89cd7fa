// The live view: watches one job over a socket, keeps its history, and draws it at the display's own rate.
//
// Messages are JSON texts (where the job is) and binary scenes and frames (see cake_core/frames.py). Drawing never
// waits for the network: it plays a moment behind the newest frame and interpolates between frames.

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B7500", "#7A5195", "#4D4D4D", "#A8522A"];
const HISTORY = 600; // frames kept; when full, every second one goes
const HISTORY_BYTES = 24e6;
const ARROWS = 400; // drawn at most
const SPEEDS = [0.25, 0.5, 1, 2, 4, 8];
const STEPS_PER_SECOND = 30; // at speed 1
const views = new WeakMap();

// -- the wire ---------------------------------------------------------------------------------------------------------

const TYPES = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };

function decode(buffer) {
  const header = new DataView(buffer);
  if (header.getUint32(0) !== 0x43414b45) throw new Error("not a frame");
  const length = header.getUint32(4, true);
  const message = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  for (const part of message.parts) {
    const count = part.shape.reduce((a, b) => a * b, 1);
    message[part.name] = new TYPES[part.dtype](buffer, 8 + length + part.offset, count);
    message[part.name].shape = part.shape;
  }
  message.bytes = buffer.byteLength;
  return message;
}

class Socket {
  // Reconnects with growing pauses. `receive` gets decoded messages, `connected` a boolean.
  constructor(path, receive, connected) {
    Object.assign(this, { path, receive, connected, wait: 250, closed: false });
    this.open();
  }
  open() {
    const url = new URL(this.path, document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.socket = new WebSocket(url));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.wait = 250;
      this.connected(true);
    };
    socket.onmessage = (event) => {
      if (typeof event.data === "string") this.receive(JSON.parse(event.data));
      else {
        this.receive(decode(event.data));
        socket.send('{"op":"seen"}'); // a credit: the server keeps at most three frames on their way
      }
    };
    socket.onclose = (event) => {
      if (this.closed) return;
      this.connected(false, event.code === 4404);
      if (event.code === 4404) return; // the server does not know this job
      setTimeout(() => this.closed || this.open(), this.wait);
      this.wait = Math.min(5000, this.wait * 2);
    };
  }
  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }
  close() {
    this.closed = true;
    this.socket.close();
  }
}

// -- history ----------------------------------------------------------------------------------------------------------

class History {
  constructor() {
    this.clear();
  }
  clear() {
    this.frames = [];
    this.bytes = 0;
    this.interval = 1000 / STEPS_PER_SECOND; // usual time between frames
    this.offset = null; // our clock minus the server's
  }
  add(frame, live) {
    const last = this.frames[this.frames.length - 1];
    if (last && frame.t <= last.t) return; // sent again after a reconnect
    if (live) {
      const offset = performance.now() - frame.t;
      // The smallest offset is the quickest message; let it grow slowly in case a clock drifts.
      this.offset = this.offset === null ? offset : Math.min(offset, this.offset + 0.5);
      if (last) this.interval += 0.1 * (Math.min(2000, frame.t - last.t) - this.interval);
    }
    this.frames.push(frame);
    this.bytes += frame.bytes;
    if (this.frames.length > HISTORY || this.bytes > HISTORY_BYTES) {
      const end = this.frames.length - 1;
      this.frames = this.frames.filter((_, i) => i % 2 === 1 || i > end - 20);
      this.bytes = this.frames.reduce((sum, f) => sum + f.bytes, 0);
    }
  }
  get end() {
    return Math.max(0, this.frames.length - 1);
  }
  livePosition() {
    // Where the playhead is when it follows the job: a little behind the newest frame, so that there is always a next
    // frame to move toward.
    const f = this.frames;
    if (f.length < 2 || this.offset === null) return this.end;
    const t = performance.now() - this.offset - Math.max(60, 1.5 * this.interval);
    let i = f.length - 1;
    while (i > 0 && f[i].t > t) i--;
    if (i === f.length - 1) return i;
    return i + Math.min(1, Math.max(0, (t - f[i].t) / (f[i + 1].t - f[i].t)));
  }
}

// -- helpers ----------------------------------------------------------------------------------------------------------

const element = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};
const css = (node, name) => getComputedStyle(node).getPropertyValue(name).trim();
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const percent = (v) => `${(100 * v).toFixed(1)} %`;
const compact = (v) => (v >= 1e6 ? `${(v / 1e6).toFixed(1)} M` : v >= 1e4 ? `${(v / 1e3).toFixed(0)} k` : String(v));
const short = (v) => (v === 0 ? "0" : Math.abs(v) >= 1e4 || Math.abs(v) < 1e-3 ? v.toExponential(1) : String(+v.toPrecision(3)));
const duration = (s) => (s < 60 ? `${Math.ceil(s)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`);

function fitCanvas(canvas, width, height) {
  // Returns the context, scaled so that one unit is one CSS pixel.
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

function loadPlotly(url) {
  if (window.Plotly?.newPlot) return Promise.resolve(window.Plotly);
  window.cakePlotly ??= new Promise((resolve, reject) => {
    const script = element("script", { src: url, onload: () => resolve(window.Plotly), onerror: reject });
    document.head.append(script);
  });
  return window.cakePlotly;
}

// -- a pane of the plane ----------------------------------------------------------------------------------------------

class Plane {
  // Plotly draws axes and boundary; a canvas below it the surface, one above it the points.
  constructor(root, name) {
    this.plot = element("div", { className: "plot" });
    this.below = element("canvas", { className: "layer" });
    this.trail = element("canvas", { className: "layer over" });
    this.above = element("canvas", { className: "layer over points" });
    this.title = element("figcaption");
    this.frame = element("div", { className: "frame" }, this.below, this.plot, this.trail, this.above);
    this.root = element("figure", { className: `pane ${name}` }, this.title, this.frame);
    this.surface = null;
    this.lines = [];
    root.append(this.root);
  }
  async start(plotly, scene, theme, drag) {
    this.P = plotly;
    this.scene = scene;
    this.text = theme.text;
    this.dirty = true;
    if (!plotly) return;
    const w = scene.half_width;
    const axis = {
      range: [-w, w], zeroline: false, showgrid: false, ticks: "outside", ticklen: 3, nticks: 6, fixedrange: !drag,
      tickfont: { size: 11 }, color: theme.text,
    };
    await plotly.newPlot(
      this.plot,
      [{ type: "scatter", mode: "lines", x: this.lines[0] ?? [null], y: this.lines[1] ?? [null], hoverinfo: "skip", line: { color: theme.text, width: 2 } }],
      {
        ...this.size(), margin: { l: 34, r: 6, t: 12, b: 28 }, showlegend: false, uirevision: "keep", dragmode: drag ? "pan" : false,
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: theme.text }, xaxis: axis,
        yaxis: { ...axis, range: [-w, w], scaleanchor: "x" },
      },
      { displaylogo: false, displayModeBar: drag ? "hover" : false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] },
    );
  }
  size() {
    const width = this.frame.clientWidth;
    return { width, height: Math.min(width, 460) };
  }
  resize() {
    if (this.P && this.frame.clientWidth && this.frame.clientWidth !== this.plot._fullLayout?.width) {
      this.P.relayout(this.plot, this.size());
      this.dirty = true;
    }
  }
  recolour(theme) {
    if (!this.P) return;
    this.P.update(this.plot, { "line.color": theme.text }, { "font.color": theme.text, "xaxis.color": theme.text, "yaxis.color": theme.text });
    this.dirty = true;
  }
  setLine(segments) {
    const x = [], y = [];
    for (let i = 0; i < segments.length; i += 4) {
      x.push(segments[i], segments[i + 2], null);
      y.push(segments[i + 1], segments[i + 3], null);
    }
    this.lines = [x, y];
    if (this.P) this.P.restyle(this.plot, { x: [x], y: [y] }, [0]);
  }
  setSurface(probabilities, theme) {
    // Each class tints the background by its probability.
    const [rows, columns, classes] = probabilities.shape;
    this.probabilities = probabilities;
    const image = new ImageData(columns, rows);
    const tints = COLOURS.map((c) => rgb(c).map((v, i) => v * theme.tint + theme.background[i] * (1 - theme.tint)));
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const from = (row * columns + column) * classes, to = ((rows - 1 - row) * columns + column) * 4;
        let sum = 0, r = 0, g = 0, b = 0;
        for (let k = 0; k < classes; k++) {
          const p = probabilities[from + k], tint = tints[k % tints.length];
          sum += p; r += p * tint[0]; g += p * tint[1]; b += p * tint[2];
        }
        image.data.set([r / sum, g / sum, b / sum, 255], to);
      }
    this.surface ??= new OffscreenCanvas(columns, rows);
    this.surface.getContext("2d").putImageData(image, 0, 0);
    this.dirty = true;
  }
  map() {
    // From data to pixels, as Plotly has it now; without Plotly, the whole square.
    if (!this.scene) return null;
    const { width, height } = this.size(), whole = [-this.scene.half_width, this.scene.half_width];
    const bare = { xaxis: { _offset: 1, _length: width - 2, range: whole }, yaxis: { _offset: 1, _length: height - 2, range: whole }, width, height };
    const layout = this.P ? this.plot._fullLayout : bare;
    if (!(layout?.xaxis?._length > 0)) return null;
    const { xaxis: x, yaxis: y } = layout;
    const sx = x._length / (x.range[1] - x.range[0]), sy = y._length / (y.range[1] - y.range[0]);
    const map = { sx, sy, ox: x._offset - x.range[0] * sx, oy: y._offset + y.range[1] * sy, box: [x._offset, y._offset, x._length, y._length] };
    map.key = [sx, sy, map.ox, map.oy, layout.width, layout.height].join();
    map.width = layout.width;
    map.height = layout.height;
    return map;
  }
  drawSurface(map) {
    if (!this.dirty && map.key === this.surfaceKey) return;
    this.dirty = false;
    this.surfaceKey = map.key;
    const g = fitCanvas(this.below, map.width, map.height), w = this.scene.half_width;
    g.clearRect(0, 0, map.width, map.height);
    if (!this.surface) return;
    g.save();
    g.beginPath();
    g.rect(...map.box);
    g.clip();
    g.imageSmoothingQuality = "high";
    g.drawImage(this.surface, map.ox - w * map.sx, map.oy - w * map.sy, 2 * w * map.sx, 2 * w * map.sy);
    if (!this.P) this.drawLine(g, map);
    g.restore();
  }
  drawLine(g, map) {
    const [x, y] = this.lines;
    g.beginPath();
    for (let k = 0; k < x.length; k += 3) {
      g.moveTo(map.ox + x[k] * map.sx, map.oy - y[k] * map.sy);
      g.lineTo(map.ox + x[k + 1] * map.sx, map.oy - y[k + 1] * map.sy);
    }
    g.strokeStyle = this.text;
    g.lineWidth = 2;
    g.stroke();
  }
  clearTrails() {
    this.trail.getContext("2d").clearRect(0, 0, 1e5, 1e5);
  }
  stop() {
    if (this.P) this.P.purge(this.plot);
  }
}

function marker(g, k, x, y, r) {
  // One shape for each class, so that colour is not the only sign.
  if (k === 0) {
    g.moveTo(x + r, y);
    g.arc(x, y, r, 0, 6.2832);
  } else if (k === 1) g.rect(x - r * 0.88, y - r * 0.88, r * 1.76, r * 1.76);
  else if (k === 2) {
    g.moveTo(x, y - 1.2 * r);
    g.lineTo(x + 1.1 * r, y + 0.8 * r);
    g.lineTo(x - 1.1 * r, y + 0.8 * r);
  } else {
    g.moveTo(x, y - 1.2 * r);
    g.lineTo(x + 1.2 * r, y);
    g.lineTo(x, y + 1.2 * r);
    g.lineTo(x - 1.2 * r, y);
  }
}

// -- a sheet of images ------------------------------------------------------------------------------------------------

class Sheet {
  // All images on one canvas, one pixel for each of theirs, enlarged by the browser; and one of them by itself.
  constructor(root) {
    this.canvas = element("canvas", { className: "sheet" });
    this.mark = element("div", { className: "mark" });
    this.caption = element("figcaption");
    const board = element("div", { className: "board" }, this.canvas, this.mark);
    this.large = element("canvas", { className: "large" });
    this.strip = element("canvas", { className: "strip" });
    this.words = element("div", { className: "words" });
    root.append(
      element("figure", { className: "pane" }, this.caption, board),
      element(
        "figure", { className: "pane one" }, element("figcaption", { textContent: "One sample: click another in the grid" }),
        this.large, this.words, element("figcaption", { textContent: "How it came to be" }), this.strip,
      ),
    );
    this.selected = 0;
    this.canvas.onclick = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const column = Math.floor(((event.clientX - box.left) / box.width) * this.columns), row = Math.floor(((event.clientY - box.top) / box.height) * this.rows);
      this.selected = Math.min(this.count - 1, row * this.columns + column);
      this.oneAt = 0;
    };
  }
  start(scene) {
    this.scene = scene;
    this.last = null;
  }
  draw(a, b, u, theme) {
    // Cross-fades from frame a to frame b, unless a new mini-batch has begun in between.
    const [, height, width] = this.scene.shape;
    if (b.batches?.[0] !== a.batches?.[0] || !b.images) [b, u] = [a, 0];
    const key = `${a.t}/${b.t}/${u.toFixed(2)}/${theme.name}`;
    if (key === this.last) return false;
    this.last = key;
    this.count = a.images.shape[0];
    this.columns = Math.ceil(Math.sqrt(this.count));
    this.rows = Math.ceil(this.count / this.columns);
    const gap = Math.max(1, Math.round(width / 14));
    const sheet = this.pixelsOf(this.canvas, this.columns * (width + gap) - gap, this.rows * (height + gap) - gap);
    for (let n = 0; n < this.count; n++) this.blit(sheet, (n % this.columns) * (width + gap), Math.floor(n / this.columns) * (height + gap), a.images, b.images, n, u);
    sheet.context.putImageData(sheet.image, 0, 0);
    return true;
  }
  drawOne(frames, i, frame) {
    // The chosen sample enlarged, what it was told and what the teacher sees, and its past in this mini-batch.
    const now = performance.now(), [, height, width] = this.scene.shape, n = Math.min(this.selected, this.count - 1);
    if (now - (this.oneAt ?? 0) < 100) return;
    this.oneAt = now;
    const large = this.pixelsOf(this.large, width, height);
    this.blit(large, 0, 0, frame.images, frame.images, n, 0);
    large.context.putImageData(large.image, 0, 0);
    let words = `Told to become ${this.scene.classes[frame.labels[n]]}.`;
    if (frame.predicted) words += ` The teacher sees ${this.scene.classes[frame.predicted[n]]} (${Math.round(frame.confidence[n] / 2.55)} %).`;
    if (this.words.textContent !== words) this.words.textContent = words;
    const own = frames.slice(0, i + 1).filter((f) => f.images && f.batches[0] === frame.batches[0]), shown = Math.min(8, own.length);
    const strip = this.pixelsOf(this.strip, 8 * (width + 1) - 1, height);
    strip.pixels.fill(0);
    for (let k = 0; k < shown; k++) {
      const past = own[shown === 1 ? 0 : Math.round((k * (own.length - 1)) / (shown - 1))];
      this.blit(strip, k * (width + 1), 0, past.images, past.images, n, 0);
    }
    strip.context.putImageData(strip.image, 0, 0);
    const at = { left: n % this.columns, top: Math.floor(n / this.columns) };
    Object.assign(this.mark.style, { left: `${(100 * at.left) / this.columns}%`, top: `${(100 * at.top) / this.rows}%`, width: `${100 / this.columns}%`, height: `${100 / this.rows}%` });
  }
  pixelsOf(canvas, width, height) {
    if (canvas.width !== width || canvas.height !== height || !canvas.cake) {
      Object.assign(canvas, { width, height });
      const context = canvas.getContext("2d"), image = context.createImageData(width, height);
      canvas.cake = { context, image, width, pixels: new Uint32Array(image.data.buffer) };
    }
    return canvas.cake;
  }
  blit(target, left, top, from, to, n, u) {
    const [channels, height, width] = this.scene.shape, size = width * height, k = Math.round(256 * u);
    for (let y = 0; y < height; y++)
      for (let x = 0, i = n * size * channels + y * width, o = (top + y) * target.width + left; x < width; x++, i++, o++) {
        const r = (from[i] * (256 - k) + to[i] * k) >> 8;
        const g = channels === 3 ? (from[i + size] * (256 - k) + to[i + size] * k) >> 8 : r;
        const b = channels === 3 ? (from[i + 2 * size] * (256 - k) + to[i + 2 * size] * k) >> 8 : r;
        target.pixels[o] = 0xff000000 | (b << 16) | (g << 8) | r;
      }
  }
}

// -- curves -----------------------------------------------------------------------------------------------------------

class Curves {
  // The losses over the steps of the present stage, redrawn a few times a second, with a mark at each change of settings.
  constructor(root, scene) {
    this.plot = element("div", { className: "plot" });
    this.percent = scene.percent;
    this.root = element("figure", { className: "curves" }, element("figcaption", { textContent: scene.curves ?? "Losses per sample" }), this.plot);
    root.append(this.root);
  }
  async start(plotly, theme) {
    this.P = plotly;
    this.theme = theme;
    this.drawn = 0;
    this.names = [];
    await plotly.newPlot(this.plot, [], this.layout(), { displayModeBar: false, staticPlot: true });
  }
  layout() {
    const axis = { zeroline: false, gridcolor: this.theme.line, color: this.theme.text, nticks: 5, tickfont: { size: 11 } };
    return {
      width: this.plot.clientWidth || 320, height: this.plot.clientHeight || 190, margin: { l: 44, r: 8, t: 24, b: 34 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: this.theme.text, size: 11 }, legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0 }, showlegend: true,
      xaxis: { ...axis, title: { text: "step", standoff: 4 } }, yaxis: this.percent ? { ...axis, range: [0, 1.02], tickformat: ".0%" } : { ...axis, rangemode: "tozero" },
      shapes: this.marks ?? [],
    };
  }
  draw(frames, stage) {
    if (!this.P || !this.plot.clientWidth) return;
    const own = frames.filter((f) => f.stage === stage && f.losses && Object.keys(f.losses).length);
    const names = [...new Set(own.flatMap((f) => Object.keys(f.losses)))];
    const traces = names.map((name, i) => ({
      type: "scatter", mode: "lines", name, x: own.map((f) => f.step), y: own.map((f) => f.losses[name] ?? null),
      line: { color: COLOURS[(i + 4) % COLOURS.length], width: 2 },
    }));
    this.marks = own.slice(1).flatMap((f, i) =>
      f.version !== own[i].version ? [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: f.step, x1: f.step, line: { dash: "dot", width: 1, color: this.theme.text } }] : [],
    );
    this.P.react(this.plot, traces, this.layout());
  }
  stop() {
    if (this.P) this.P.purge(this.plot);
  }
}

// -- sliders for what may change while it runs ------------------------------------------------------------------------

const TICKS = 1000;

class Slider {
  constructor(spec, changed, settled) {
    this.spec = spec;
    // A logarithmic slider that may be zero has zero at its left end and the smallest step beside it.
    this.low = spec.scale === "log" && !spec.low ? spec.high * 1e-7 : spec.low;
    this.input = element("input", { type: "range", min: 0, max: TICKS, step: 1, title: spec.help });
    this.input.setAttribute("aria-label", spec.label);
    this.value = element("output");
    const name = element("span", { className: "name", textContent: spec.label, title: spec.help });
    const [letter, index] = (spec.symbol || "").split("_");
    if (letter) name.append(element("i", { textContent: ` ${letter}` }, index ? element("sub", { textContent: index }) : ""));
    this.root = element("label", { className: "slider" }, name, this.value, this.input);
    this.input.oninput = () => {
      this.show(this.read());
      changed(spec.name, this.read());
    };
    this.input.onchange = () => settled(spec.name, this.read());
    this.write(spec.value);
  }
  read() {
    const t = +this.input.value / TICKS, { scale, low, high, step } = this.spec;
    if (scale !== "log") return step ? +(low + Math.round((t * (high - low)) / step) * step).toFixed(6) : low + t * (high - low);
    if (!low && t === 0) return 0;
    return +(this.low * (high / this.low) ** t).toPrecision(2);
  }
  write(value) {
    const { scale, low, high } = this.spec;
    const t = scale !== "log" ? (value - low) / (high - low) : value <= 0 ? 0 : Math.log(value / this.low) / Math.log(high / this.low);
    this.input.value = Math.round(TICKS * t);
    this.show(value);
  }
  show(value) {
    this.value.textContent = short(value) + (this.spec.unit ? ` ${this.spec.unit}` : "");
    this.input.setAttribute("aria-valuetext", this.value.textContent);
  }
}

// -- the view ---------------------------------------------------------------------------------------------------------

class LiveView {
  constructor(root, component) {
    this.root = root.querySelector(".cake-live");
    this.history = new History();
    this.position = 0; // playhead, in frames of the history
    this.following = true; // it stays at the end
    this.replaying = false; // it moves through the past
    this.speed = 1;
    this.options = { trails: false, arrows: false, data: false };
    this.status = { state: "ready" };
    window.cakeLive?.opened?.(this); // for those who measure (benchmarks/live_view.py)
    this.build();
    this.update(component);
    this.resized = new ResizeObserver(() => this.layout());
    this.resized.observe(this.root);
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey);
    this.reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const loop = () => {
      this.request = requestAnimationFrame(loop); // before drawing: an error in one picture must not end the show
      try {
        this.draw();
      } catch (error) {
        if (this.root.dataset.error !== String(error)) console.error(error);
        this.root.dataset.error = String(error);
      }
    };
    this.request = requestAnimationFrame(loop);
  }

  build() {
    const $ = (selector) => this.root.querySelector(selector);
    this.dom = Object.fromEntries(
      ["play", "step", "reset", "speed", "time", "clock", "live", "status", "banner", "stage", "sliders", "numbers", "chart", "options", "help"].map((n) => [n, $(`.${n}`)]),
    );
    const d = this.dom;
    d.play.onclick = () => this.toggle();
    d.step.onclick = () => this.stepOnce();
    d.reset.onclick = () => this.reset();
    d.live.onclick = () => this.follow();
    for (const s of SPEEDS) d.speed.append(element("option", { value: s, textContent: `${s}×`, selected: s === 1 }));
    d.speed.onchange = () => {
      this.speed = +d.speed.value;
      this.send({ op: "rate", rate: (this.data.rate ?? STEPS_PER_SECOND) * this.speed });
    };
    d.time.oninput = () => this.seek((+d.time.value / 1000) * this.history.end);
    d.options.querySelectorAll("input").forEach((box) => {
      box.onchange = () => {
        this.options[box.name] = box.checked;
        if (box.name === "arrows") this.send({ op: "look", arrows: box.checked });
        if (box.name === "trails") this.teacher?.clearTrails();
        this.redraw = true;
      };
    });
    d.help.onclick = (event) => event.target.closest("button") && this.toggleHelp(false);
    $(".ask").onclick = () => this.toggleHelp();
  }

  // -- what Python says ---------------------------------------------------------------------------------------------

  update({ data, setStateValue, setTriggerValue }) {
    const before = this.data ?? {};
    Object.assign(this, { data, setStateValue, setTriggerValue });
    this.readTheme();
    if (data.job !== before.job || data.recording !== before.recording) this.attach();
    if (JSON.stringify(data.sliders) !== JSON.stringify(before.sliders)) this.makeSliders();
    if (data.feed && data.feed !== before.feed) this.feed(data.feed);
    this.showStatus();
  }

  attach() {
    this.socket?.close();
    this.history.clear();
    Object.assign(this, { position: 0, following: true, replaying: false, scene: null, status: { state: "ready" }, told: null, backlog: true });
    this.dom.stage.replaceChildren();
    this.dom.chart.replaceChildren();
    [this.teacher, this.student, this.curves].forEach((part) => part?.stop?.());
    this.teacher = this.student = this.sheet = this.curves = this.figure = null;
    this.connected = null;
    this.root.toggleAttribute("data-recording", !!this.data.recording);
    if (this.data.recording) this.loadRecording(this.data.recording);
    else if (this.data.socket)
      this.socket = new Socket(
        this.data.socket + this.data.job,
        (message) => this.receive(message),
        (yes, gone) => {
          this.connected = gone ? "gone" : yes;
          this.showStatus();
          if (yes) {
            this.backlog = true;
            if (this.speed !== 1) this.dom.speed.onchange();
            if (this.options.arrows) this.send({ op: "look", arrows: true });
          }
        },
      );
  }

  async loadRecording(url) {
    // A stored run: messages one after the other, each behind its length. Played in a loop.
    const buffer = await (await fetch(url)).arrayBuffer(), view = new DataView(buffer);
    for (let at = 0; at + 4 <= buffer.byteLength; ) {
      const length = view.getUint32(at, true);
      this.receive(decode(buffer.slice(at + 4, at + 4 + length)));
      at += 4 + length;
    }
    this.following = false;
    this.replaying = !this.reduced;
    this.position = this.reduced ? this.history.end : 0;
    this.showStatus();
  }

  feed(base64) {
    // Without a socket, Python hands over what has come since the last time, as a recording does.
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
    for (let at = 0; at + 5 <= bytes.length; ) {
      const length = view.getUint32(at, true), part = bytes.buffer.slice(at + 5, at + 5 + length);
      this.receive(bytes[at + 4] ? decode(part) : JSON.parse(new TextDecoder().decode(part)));
      at += 5 + length;
    }
    this.connected = true;
  }

  // -- what the job says --------------------------------------------------------------------------------------------

  receive(message) {
    if (message.type === "scene") this.setScene(message);
    else if (message.type === "frame") this.addFrame(message);
    else if (message.type === "refused") this.banner(message.message);
    else if (message.type === "status") this.setStatus(message);
  }

  setStatus(status) {
    const before = this.status.state;
    this.status = status;
    this.backlog = false;
    if (status.state === "ready" && before !== "ready" && status.progress === 0) {
      this.history.clear(); // it was reset
      Object.assign(this, { position: 0, following: true, replaying: false, told: null });
      this.teacher?.clearTrails();
      if (this.student) this.student.surface = null;
      this.banner("");
    }
    if (["done", "failed"].includes(status.state)) this.tell(status.state);
    this.showStatus();
  }

  tell(state) {
    // Python draws results: once for each ending, also for one that came while nobody was looking.
    const what = `${this.data.job}/${state}/${this.status.result?.run ?? ""}`;
    if (this.told === what) return;
    this.told = what;
    if (this.data.seen !== what) this.setTriggerValue("ended", what);
  }

  addFrame(frame) {
    this.history.add(frame, this.status.state === "running");
    if (this.history.frames.length === 1) this.showStatus(); // now there is something to play
  }

  async setScene(scene) {
    this.scene = scene;
    this.history.clear();
    const drag = !matchMedia("(pointer: coarse)").matches; // a finger scrolls the page
    const stage = this.dom.stage;
    stage.replaceChildren();
    this.root.dataset.kind = scene.kind;
    this.dom.options.hidden = scene.kind !== "points";
    this.curves?.stop();
    this.curves?.root.remove();
    this.curves = this.data.curves === false || scene.kind === "figure" ? null : new Curves(this.dom.chart, scene);
    if (scene.kind === "points") {
      this.teacher = new Plane(stage, "teacher");
      this.student = this.data.student === false ? null : new Plane(stage, "student");
      this.teacher.title.append("Teacher, and the samples that walk to its boundary");
      this.student?.title.append("Student, who sees the samples alone");
      this.teacher.setSurface(scene.teacher, this.theme);
      this.teacher.setLine(scene.boundary);
      this.student?.setLine(scene.boundary);
    } else if (scene.kind === "images") {
      this.sheet = new Sheet(stage);
      this.sheet.start(scene);
    } else if (scene.kind === "figure") {
      const names = (scene.legend ?? []).map(([name, colour, dash]) => {
        const line = element("i", { className: dash });
        line.style.color = colour;
        return element("span", {}, line, name);
      });
      stage.append(element("div", { className: "legend" }, ...names), (this.figure = element("div", { className: "figures" })), element("p", { textContent: scene.note ?? "" }));
    }
    this.describe();
    try {
      const plotly = this.data.plotly ? await loadPlotly(this.data.plotly) : null;
      if (this.scene !== scene) return; // another job has begun meanwhile
      await Promise.all([
        this.teacher?.start(plotly, scene, this.theme, drag),
        this.student?.start(plotly, scene, this.theme, drag),
        plotly && this.curves?.start(plotly, this.theme),
      ]);
      this.redraw = true;
    } catch (error) {
      this.banner("The chart library could not be loaded. Reload the page; if that does not help, check the network.");
      console.error(error);
    }
  }

  // -- transport ----------------------------------------------------------------------------------------------------

  send(message) {
    if (this.socket) return this.socket.send(message);
    this.setTriggerValue("command", { ...message, at: Date.now() });
    return true;
  }
  get moving() {
    return this.replaying || (this.following && ["running", "queued"].includes(this.status.state));
  }
  toggle() {
    if (this.moving) return this.pause();
    const atEnd = this.following || this.held || this.position >= this.history.end;
    if (!atEnd) this.replaying = true;
    else if (["done", "failed", "stopped"].includes(this.status.state)) {
      if (this.status.state === "done" || this.data.recording) this.replay();
      else this.reset();
    } else {
      this.follow();
      this.send({ op: "play" });
      this.status = { ...this.status, state: "running" };
    }
    this.showStatus();
  }
  pause() {
    // Freeze what is seen at once; the job hears of it as soon as it can.
    const live = this.following;
    this.position = this.current();
    this.following = this.replaying = false;
    if (live && ["running", "queued"].includes(this.status.state)) {
      this.send({ op: "pause" });
      this.status = { ...this.status, state: "paused" };
      this.held = true; // at the end of what is known
    }
    this.showStatus();
  }
  replay() {
    this.position = 0;
    this.following = this.held = false;
    this.replaying = true;
    this.teacher?.clearTrails();
  }
  follow() {
    this.following = true;
    this.replaying = this.held = false;
    this.showStatus();
  }
  seek(position) {
    this.following = this.replaying = this.held = false;
    this.position = position;
    this.teacher?.clearTrails();
    this.showStatus();
  }
  stepOnce() {
    const behind = !this.following && !this.held && this.position < this.history.end;
    if (this.replaying || behind) {
      this.seek(Math.min(this.history.end, Math.floor(this.position) + 1));
      return;
    }
    this.send({ op: "step" });
    this.follow();
  }
  reset() {
    this.send({ op: "reset" });
    this.follow();
  }
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.root.isConnected) return;
    if (event.target.closest?.("input:not([type=range]), textarea, select, [contenteditable], [role=dialog]")) return;
    const actions = { " ": () => this.toggle(), ArrowRight: () => this.stepOnce(), r: () => this.reset(), "?": () => this.toggleHelp(), Escape: () => this.toggleHelp(false) };
    const action = actions[event.key];
    if (!action || (event.target.closest?.("input, button, a, summary") && ![..."r?"].includes(event.key))) return;
    event.preventDefault();
    action();
  }
  toggleHelp(open = this.dom.help.hidden) {
    this.dom.help.hidden = !open;
  }

  // -- settings that may change while it runs -----------------------------------------------------------------------

  makeSliders() {
    const box = this.dom.sliders;
    if (box.contains(document.activeElement) && document.activeElement.matches(":active")) return; // it is being dragged
    const same = this.sliders?.map((s) => s.spec.name).join() === this.data.sliders?.map((s) => s.name).join();
    if (same) {
      this.sliders.forEach((slider, i) => {
        slider.spec = this.data.sliders[i];
        slider.write(slider.spec.value);
      });
      return;
    }
    this.sliders = (this.data.sliders ?? []).map((spec) => new Slider(spec, (n, v) => this.change(n, v), () => this.settle()));
    box.replaceChildren(...this.sliders.map((s) => s.root));
    box.hidden = !this.sliders.length;
  }
  change(name, value) {
    this.changed = { ...this.changed, [name]: value };
    if (this.changing) return;
    this.changing = requestAnimationFrame(() => {
      this.changing = null;
      if (this.socket) this.send({ op: "set", settings: this.changed });
      this.changed = null;
    });
  }
  settle() {
    // The value goes to the session and the URL once the finger is off.
    this.setStateValue("settings", Object.fromEntries(this.sliders.map((s) => [s.spec.name, s.read()])));
  }

  // -- words --------------------------------------------------------------------------------------------------------

  banner(text) {
    this.dom.banner.textContent = text;
    this.dom.banner.hidden = !text;
  }
  showStatus() {
    const { state, note, progress, seconds_left: left, queue, message } = this.status, d = this.dom;
    this.root.dataset.state = this.connected === false ? "disconnected" : state;
    d.play.textContent = this.moving ? "❚❚ Pause" : state === "done" && (this.following || this.position >= this.history.end) ? "↻ Replay" : "▶ Play";
    d.play.setAttribute("aria-pressed", this.moving);
    d.live.hidden = this.following || !!this.data.recording || ["done", "failed"].includes(state);
    const words = {
      ready: this.history.frames.length ? "Ready. Press Play, or the space bar." : "Getting ready…",
      queued: `Waiting: place ${queue} in the queue. Others are computing.`,
      running: `${note || "Running"}${left != null && left > 1 ? `, about ${duration(left)} left` : ""}`,
      paused: "Paused.",
      done: "Done. The results are below.",
      stopped: "Stopped. Press Reset to begin again.",
      failed: "Stopped by an error.",
    };
    let text = this.data.recording ? "" : words[state] ?? "";
    if (!this.following && !this.data.recording) text = this.replaying ? "Replay." : state === "paused" ? "Paused." : "Looking back.";
    if (this.connected === false) text = "Disconnected. Trying again…";
    if (this.connected === "gone") text = "This run has ended and is no longer kept. Change a setting, or reload, to begin again.";
    if (d.status.textContent !== text) d.status.textContent = text;
    if (state === "failed") this.banner(message);
    const bar = this.root.querySelector(".progress > i");
    bar.style.transform = `scaleX(${state === "done" ? 1 : progress || 0})`;
  }
  describe() {
    const kind = this.scene?.kind, canvas = this.sheet?.canvas ?? this.teacher?.above;
    if (!canvas) return;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", kind === "points" ? "Samples moving over the teacher's decision surface" : "A grid of synthetic images, changing step by step");
  }
  showNumbers(frame) {
    const now = performance.now();
    if (frame === this.numbered || now - (this.numbersAt ?? 0) < 150) return;
    this.numbersAt = now;
    this.numbered = frame;
    const format = { percent, count: compact, number: short };
    this.tiles ??= new Map();
    for (const [order, spec] of (this.data.numbers ?? []).entries()) {
      const value = frame.values?.[spec.name];
      let tile = this.tiles.get(spec.name);
      if (tile) tile.hidden = value == null;
      if (value == null) continue;
      if (!tile) {
        tile = element("div", { className: "tile", title: spec.help }, element("span", { textContent: spec.label }), element("b"));
        tile.style.order = order;
        this.tiles.set(spec.name, tile);
        this.dom.numbers.append(tile);
      }
      const text = format[spec.format](value);
      if (tile.lastChild.textContent !== text) tile.lastChild.textContent = text;
    }
  }

  // -- drawing ------------------------------------------------------------------------------------------------------

  readTheme() {
    const background = css(this.root, "--st-background-color") || "#ffffff", probe = element("span", { style: `color:${background}` });
    this.root.append(probe);
    const parts = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
    probe.remove();
    const dark = parts[0] + parts[1] + parts[2] < 384;
    this.root.style.colorScheme = this.root.dataset.theme = dark ? "dark" : "light"; // for the browser's own sliders and boxes
    const name = `${background}`;
    if (this.theme?.name === name) return;
    this.theme = {
      name, dark, background: parts.slice(0, 3), tint: dark ? 0.42 : 0.34,
      text: css(this.root, "--st-text-color") || "#222222", line: css(this.root, "--st-border-color") || "#dddddd",
    };
    for (const plane of [this.teacher, this.student])
      if (plane) {
        if (plane.probabilities) plane.setSurface(plane.probabilities, this.theme);
        plane.recolour(this.theme);
      }
    if (this.curves) this.curves.theme = this.theme;
    this.redraw = true;
  }
  layout() {
    this.teacher?.resize();
    this.student?.resize();
    this.curvesAt = 0;
    this.redraw = true;
  }
  current() {
    if (this.following) return this.status.state === "running" ? this.history.livePosition() : this.history.end;
    return Math.min(this.position, this.history.end);
  }
  advance() {
    const now = performance.now(), passed = Math.min(100, now - (this.lastDraw ?? now));
    this.lastDraw = now;
    if (!this.replaying) return;
    this.position += (passed / 1000) * STEPS_PER_SECOND * this.speed;
    if (this.position < this.history.end) return;
    if (this.data.recording) {
      // Rest on the outcome, then begin again.
      this.rest = (this.rest ?? 0) + passed;
      this.position = this.history.end;
      if (this.rest > 2500) {
        this.rest = 0;
        this.replay();
      }
    } else if (this.status.state === "done") this.seek(this.history.end);
    else this.follow();
  }
  draw() {
    this.advance();
    const frames = this.history.frames;
    if (!frames.length || !this.scene) return;
    const position = this.current(), i = Math.floor(position), u = position - i;
    const a = frames[i], b = frames[Math.min(i + 1, frames.length - 1)];
    this.drawn = position;
    this.showNumbers(a);
    if (this.scene.kind === "points") this.drawPoints(i, u);
    else if (this.scene.kind === "images") this.drawImages(i, u);
    else if (this.scene.kind === "figure") this.drawFigure(i);
    this.drawTime(position, a);
    const now = performance.now();
    if (this.curves && now - (this.curvesAt ?? 0) > 600 && (frames.length !== this.curvesOf || a.stage !== this.curvesStage || !this.curvesAt)) {
      this.curvesAt = now;
      this.curvesOf = frames.length;
      this.curvesStage = a.stage;
      this.curves.draw(frames, ["evaluation", "control"].includes(a.stage) ? "student" : a.stage);
    }
    this.redraw = false;
  }
  latest(i, part) {
    // The newest frame up to i that has this part.
    const frames = this.history.frames;
    for (let k = Math.min(i, frames.length - 1); k >= 0; k--) if (frames[k][part]) return [frames[k], k];
    return [null, -1];
  }
  drawPoints(i, u) {
    const [frame, at] = this.latest(i, "xy");
    const map = this.teacher.map();
    if (!map) return;
    this.teacher.drawSurface(map);
    this.drawStudent(i);
    if (!frame) return;
    const next = this.history.frames[at + 1];
    const move = at === i && next?.xy && next.batches[0] === frame.batches[0] && next.xy.length === frame.xy.length ? u : 0;
    const key = `${frame.t}/${move.toFixed(3)}/${map.key}`;
    if (key === this.pointsKey && !this.redraw) return;
    this.pointsKey = key;
    this.paintPoints(this.teacher, map, frame, move ? next : frame, move);
    window.cakeLive?.painted?.(frame.step + move, frame.version);
  }
  paintPoints(plane, map, a, b, u) {
    const g = fitCanvas(plane.above, map.width, map.height), w = this.scene.half_width * this.scene.reach;
    g.clearRect(0, 0, map.width, map.height);
    g.save();
    g.beginPath();
    g.rect(...map.box);
    g.clip();
    const kx = ((2 * w) / 65535) * map.sx, ky = ((2 * w) / 65535) * map.sy, x0 = map.ox - w * map.sx, y0 = map.oy + w * map.sy;
    if (this.options.data) this.paintData(g, kx, ky, x0, y0);
    const n = a.labels.length, radius = n > 1500 ? 2.1 : 2.7;
    if (!this.at || this.at.length !== 2 * n) this.at = new Float32Array(2 * n);
    const at = this.at, before = this.options.trails && this.trailKey === map.key ? Float32Array.from(at) : null;
    for (let k = 0; k < 2 * n; k += 2) {
      at[k] = x0 + kx * (a.xy[k] * (1 - u) + b.xy[k] * u);
      at[k + 1] = y0 - ky * (a.xy[k + 1] * (1 - u) + b.xy[k + 1] * u);
    }
    if (this.options.trails) this.paintTrails(plane, map, before, at);
    if (this.options.arrows && a.arrows) this.paintArrows(g, a, map);
    const classes = this.scene.classes.length;
    for (let c = 0; c < classes; c++) {
      g.beginPath();
      for (let k = 0; k < n; k++) if (a.labels[k] === c) marker(g, c, at[2 * k], at[2 * k + 1], radius);
      g.fillStyle = COLOURS[c % COLOURS.length];
      g.fill();
    }
    g.restore();
  }
  paintTrails(plane, map, before, at) {
    // Fades what is there and adds the latest move. A new view begins with a clean sheet.
    const g = fitCanvas(plane.trail, map.width, map.height);
    if (!before) {
      g.clearRect(0, 0, map.width, map.height);
      this.trailKey = map.key;
      return;
    }
    g.save();
    g.globalCompositeOperation = "destination-out";
    g.fillStyle = "rgba(0,0,0,0.035)";
    g.fillRect(0, 0, map.width, map.height);
    g.restore();
    g.save();
    g.beginPath();
    g.rect(...map.box);
    g.clip();
    g.beginPath();
    for (let k = 0; k < at.length; k += 2)
      if (Math.abs(at[k] - before[k]) + Math.abs(at[k + 1] - before[k + 1]) < 60) {
        g.moveTo(before[k], before[k + 1]);
        g.lineTo(at[k], at[k + 1]);
      }
    const alpha = Math.max(0.08, Math.min(0.35, 260 / at.length)); // many trails must not cover the picture
    g.strokeStyle = `rgba(${this.theme.dark ? "255,255,255" : "0,0,0"},${alpha})`;
    g.lineWidth = 0.8;
    g.stroke();
    g.restore();
  }
  paintArrows(g, frame, map) {
    // Downhill, a fixed length for the longest in view.
    const every = Math.ceil(frame.labels.length / ARROWS);
    let longest = 1e-9;
    for (let k = 0; k < frame.arrows.length; k += 2) longest = Math.max(longest, Math.hypot(frame.arrows[k], frame.arrows[k + 1]));
    g.beginPath();
    for (let k = 0; k < frame.labels.length; k += every) {
      const dx = frame.arrows[2 * k], dy = -frame.arrows[2 * k + 1], length = Math.hypot(dx, dy);
      if (length < longest * 1e-4) continue;
      const shown = 6 + 16 * Math.sqrt(length / longest), x = this.at[2 * k], y = this.at[2 * k + 1];
      const ex = x + (dx / length) * shown, ey = y + (dy / length) * shown, hx = (dx / length) * 4, hy = (dy / length) * 4;
      g.moveTo(x, y);
      g.lineTo(ex, ey);
      g.moveTo(ex - hx + hy * 0.6, ey - hy - hx * 0.6);
      g.lineTo(ex, ey);
      g.lineTo(ex - hx - hy * 0.6, ey - hy + hx * 0.6);
    }
    g.strokeStyle = this.theme.text;
    g.lineWidth = 1;
    g.stroke();
  }
  paintData(g, kx, ky, x0, y0) {
    const { data, data_labels: labels } = this.scene;
    g.globalAlpha = 0.75;
    g.lineWidth = 1;
    for (let c = 0; c < this.scene.classes.length; c++) {
      g.beginPath();
      for (let k = 0; k < labels.length; k++)
        if (labels[k] === c) {
          const x = x0 + kx * data[2 * k], y = y0 - ky * data[2 * k + 1];
          marker(g, c, x, y, 3.2);
        }
      g.strokeStyle = COLOURS[c % COLOURS.length];
      g.stroke();
    }
    g.globalAlpha = 1;
  }
  drawStudent(i) {
    const plane = this.student, map = plane?.map();
    if (!map) return;
    const [frame] = this.latest(i, "student");
    plane.root.classList.toggle("waiting", !frame);
    if (frame !== plane.shown) {
      plane.shown = frame;
      if (frame) plane.setSurface(frame.student, this.theme);
      else plane.surface = null;
      plane.dirty = true;
    }
    plane.drawSurface(map);
  }
  drawImages(i, u) {
    const [frame, at] = this.latest(i, "images");
    if (!frame) return;
    const next = this.history.frames[at + 1];
    const changed = this.sheet.draw(frame, at === i && next?.images ? next : frame, at === i && !this.reduced ? u : 0, this.theme);
    this.sheet.drawOne(this.history.frames, at, frame);
    if (!changed) return;
    window.cakeLive?.painted?.(frame.step + u, frame.version);
    if (frame.batches && frame !== this.captioned) {
      this.captioned = frame;
      const [first, last] = frame.batches;
      this.sheet.caption.textContent = first === last ? `Mini-batch ${first + 1}` : `Mini-batches ${first + 1} to ${last + 1}`;
    }
  }
  drawFigure(i) {
    // A whole figure made in Python, or several side by side, redrawn in place when there is a new one.
    const [frame] = this.latest(i, "figure");
    const width = this.dom.stage.clientWidth, key = `${frame?.t}/${width}/${this.theme.name}`;
    if (!frame || !window.Plotly?.react || key === this.figureKey) return;
    this.figureKey = key;
    const figures = [frame.figure].flat(), axis = { gridcolor: this.theme.line, color: this.theme.text, zeroline: false };
    while (this.figure.children.length < figures.length) this.figure.append(element("div"));
    figures.forEach(({ data, layout }, k) => {
      const node = this.figure.children[k];
      delete layout.template;
      if (layout.meta) {
        node.setAttribute("role", "img");
        node.setAttribute("aria-label", layout.meta);
      }
      window.Plotly.react(
        node, data,
        { ...layout, width: node.clientWidth, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: this.theme.text, family: "inherit" }, xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis } },
        { displayModeBar: false },
      );
    });
  }
  drawTime(position, frame) {
    const now = performance.now();
    if (now - (this.timeAt ?? 0) < 100 && !this.redraw) return; // text and slider cost more to paint than all points
    this.timeAt = now;
    const d = this.dom, value = Math.round((1000 * position) / Math.max(1, this.history.end));
    if (!d.time.matches(":active") && +d.time.value !== value) d.time.value = value;
    const unit = ["student", "teacher"].includes(frame.stage) ? "update" : "step";
    const text = frame.step != null ? `${unit} ${compact(frame.step)}${frame.total ? ` of ${compact(frame.total)}` : ""}` : "";
    if (d.clock.textContent !== text) d.clock.textContent = text;
  }

  destroy() {
    cancelAnimationFrame(this.request);
    document.removeEventListener("keydown", this.onKey);
    this.resized.disconnect();
    this.socket?.close();
    [this.teacher, this.student, this.curves].forEach((part) => part?.stop?.());
  }
}

export default function (component) {
  const { parentElement } = component;
  const view = views.get(parentElement);
  if (view) view.update(component);
  else views.set(parentElement, new LiveView(parentElement, component));
  return () => unmount(parentElement);
}

export function unmount(parentElement) {
  views.get(parentElement)?.destroy();
  views.delete(parentElement);
}
