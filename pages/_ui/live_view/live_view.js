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

const TYPES = { int8: Int8Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array };

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
    // Returns the place of a frame that was not added at the end.
    const last = this.frames[this.frames.length - 1];
    if (last && frame.t <= last.t) return this.amend(frame);
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
      this.frames = this.frames.filter((f, i) => i % 2 === 1 || i > end - 20 || f.gradient_of?.length > 1); // the last with all details stays
      this.bytes = this.frames.reduce((sum, f) => sum + f.bytes, 0);
    }
  }
  amend(frame) {
    // A frame once more, with details that were asked for later: it takes the place of the first one.
    const i = this.frames.findLastIndex((f) => f.t <= frame.t), same = i >= 0 && this.frames[i].t === frame.t;
    this.bytes += frame.bytes - (same ? this.frames[i].bytes : 0);
    this.frames.splice(same ? i : i + 1, same ? 1 : 0, frame);
    return same ? Infinity : i + 1;
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
const tone = (hex, theme) => `rgb(${rgb(hex).map((v) => Math.round(theme.dark ? v + (255 - v) * 0.3 : v))})`;
const percent = (v) => `${(100 * v).toFixed(1)} %`;
const compact = (v) => (v >= 1e6 ? `${(v / 1e6).toFixed(1)} M` : v >= 1e4 ? `${(v / 1e3).toFixed(0)} k` : String(v));
const short = (v) => (v === 0 ? "0" : Math.abs(v) >= 1e4 || Math.abs(v) < 1e-3 ? v.toExponential(1) : String(+v.toPrecision(3)));
const duration = (s) => (s < 60 ? `${Math.ceil(s)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`);

function remembered(name, value) {
  // What this browser keeps, where it may keep anything.
  try {
    return value === undefined ? localStorage.getItem(name) : localStorage.setItem(name, value);
  } catch {
    return null;
  }
}

const write = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};
function describe(canvas, text) {
  if (canvas.getAttribute("aria-label") === text) return;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", text);
}

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
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: theme.text, family: theme.font }, xaxis: axis,
        yaxis: { ...axis, range: [-w, w], scaleanchor: "x" },
      },
      { displaylogo: false, displayModeBar: drag ? "hover" : false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendChartToCloud"] },
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
  } else if (k === 3) polygon(g, x, y, 1.25 * r, 4, 0);
  else if (k === 4) cross(g, x, y, r, 0);
  else if (k === 5) cross(g, x, y, r, 0.7854);
  else if (k === 6) polygon(g, x, y, 1.25 * r, 3, 3.1416);
  else if (k === 7) polygon(g, x, y, 1.4 * r, 10, 0, 0.45);
  else polygon(g, x, y, 1.2 * r, k % 2 ? 6 : 5, 0);
}

function polygon(g, x, y, r, corners, turn, inner = 1) {
  // From its top clockwise; with `inner` below 1 every second corner lies inside, which makes a star.
  for (let i = 0; i < corners; i++) {
    const angle = turn + (6.2832 * i) / corners, far = i % 2 ? r * inner : r;
    g[i ? "lineTo" : "moveTo"](x + far * Math.sin(angle), y - far * Math.cos(angle));
  }
  g.closePath();
}

function cross(g, x, y, r, turn) {
  for (let i = 0; i < 2; i++) {
    const a = turn + 1.5708 * i, [ux, uy] = [Math.cos(a), Math.sin(a)], long = 1.3 * r, thick = 0.42 * r;
    g.moveTo(x + long * ux - thick * uy, y + long * uy + thick * ux);
    g.lineTo(x + long * ux + thick * uy, y + long * uy - thick * ux);
    g.lineTo(x - long * ux + thick * uy, y - long * uy - thick * ux);
    g.lineTo(x - long * ux - thick * uy, y - long * uy + thick * ux);
    g.closePath();
  }
}

// -- a sheet of images ------------------------------------------------------------------------------------------------

const LOOKS = {
  pixels: ["Pixels", "Pixels as a screen shows them: what is darker than black or brighter than white is cut off."],
  stretched: ["Stretched", "Each image is stretched from its own lowest value to its own highest, so that faint patterns show."],
};

function pixelsOf(canvas, width, height) {
  // A canvas with one pixel for each of the image's, enlarged by the browser.
  if (canvas.width !== width || canvas.height !== height || !canvas.cake) {
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d"), image = context.createImageData(width, height);
    canvas.cake = { context, image, width, pixels: new Uint32Array(image.data.buffer) };
  }
  return canvas.cake;
}

class Painter {
  // Images of a frame, as pixels or stretched: frames hold them stretched, and what they were stretched from.
  constructor(shape) {
    this.shape = shape;
    this.look = "pixels";
    this.tables = [new Int32Array(256), new Int32Array(256)];
  }
  table(which, frame, n, weight) {
    // For each value of the image, what is shown of it, times its weight.
    const table = this.tables[which], low = frame.range[2 * n], step = (frame.range[2 * n + 1] - low) / 255;
    for (let v = 0; v < 256; v++) {
      const shown = this.look === "stretched" ? v : 255 * (low + step * v);
      table[v] = weight * (shown < 0 ? 0 : shown > 255 ? 255 : shown);
    }
    return table;
  }
  blit(target, left, top, a, n, b = a, u = 0) {
    // Image n, part of the way u from frame a to frame b.
    const [channels, height, width] = this.shape, size = width * height, from = a.images, to = b.images, pixels = target.pixels;
    const before = this.table(0, a, n, 256 * (1 - u)), after = this.table(1, b, n, 256 * u);
    const second = channels === 3 ? size : 0, third = 2 * second;
    for (let y = 0; y < height; y++)
      for (let x = 0, i = n * size * channels + y * width, o = (top + y) * target.width + left; x < width; x++, i++, o++) {
        const red = (before[from[i]] + after[to[i]] + 128) >> 8;
        const green = second ? (before[from[i + second]] + after[to[i + second]] + 128) >> 8 : red;
        const blue = second ? (before[from[i + third]] + after[to[i + third]] + 128) >> 8 : red;
        pixels[o] = 0xff000000 | (blue << 16) | (green << 8) | red;
      }
  }
  one(canvas, frame, n) {
    const target = pixelsOf(canvas, this.shape[2], this.shape[1]);
    this.blit(target, 0, 0, frame, n);
    target.context.putImageData(target.image, 0, 0);
  }
}

let sheets = 0; // so far: those of two views on a page are no group of radios together

class Sheet {
  // Samples of all mini-batches in flight, side by side. `choose` is told which one is wanted, by its place in flight.
  constructor(root, scene, painter, { choose, look, film }) {
    Object.assign(this, { scene, painter, choose });
    sheets++;
    this.canvas = element("canvas", { className: "sheet" });
    this.board = element("div", { className: "board", tabIndex: 0 }, this.canvas);
    this.board.setAttribute("role", "application");
    this.board.setAttribute("aria-label", "Sheet of samples: arrow keys choose one, Escape closes it");
    this.marks = [];
    this.caption = element("figcaption");
    this.hint = element("p", { className: "hint" });
    const radios = Object.entries(LOOKS).map(([value, [label]]) =>
      element("label", {}, element("input", { type: "radio", name: `look-${sheets}`, value, checked: value === painter.look, onchange: () => look(value) }), ` ${label}`),
    );
    const looks = element("div", { className: "looks" }, ...radios);
    looks.setAttribute("role", "radiogroup");
    looks.setAttribute("aria-label", "How pixels are shown");
    root.append(element("figure", { className: "pane all" }, element("div", { className: "head" }, this.caption, looks), this.board, this.hint, films("All of them", film)));
    this.canvas.onclick = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const column = Math.floor(((event.clientX - box.left) / box.width) * this.columns), row = Math.floor(((event.clientY - box.top) / box.height) * this.rows);
      this.board.focus({ preventScroll: true });
      this.choose(this.ids[Math.min(this.count - 1, row * this.columns + column)]);
    };
    this.board.onkeydown = (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns }[event.key];
      if (!by || !this.ids || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation(); // elsewhere the right arrow is one step
      const at = this.ids.indexOf(this.chosen), next = at < 0 ? 0 : at + by;
      if (next >= 0 && next < this.count) this.choose((this.chosen = this.ids[next])); // the next key may come before a picture
    };
  }
  draw(a, b, u, theme) {
    // Cross-fades from frame a to frame b, unless a new mini-batch has begun in between.
    const [, height, width] = this.scene.shape;
    if (b.batches?.[0] !== a.batches?.[0] || b.sheet !== a.sheet) [b, u] = [a, 0];
    const key = `${a.t}/${b.t}/${u.toFixed(2)}/${theme.name}/${this.painter.look}`;
    if (key === this.last) return false;
    this.last = key;
    this.hint.textContent = LOOKS[this.painter.look][1];
    this.count = a.sheet;
    this.ids = a.ids.subarray(0, a.sheet);
    this.columns = Math.ceil(Math.sqrt(this.count));
    this.rows = Math.ceil(this.count / this.columns);
    const gap = Math.max(1, Math.round(width / 14));
    const sheet = pixelsOf(this.canvas, this.columns * (width + gap) - gap, this.rows * (height + gap) - gap);
    for (let n = 0; n < this.count; n++) this.painter.blit(sheet, (n % this.columns) * (width + gap), Math.floor(n / this.columns) * (height + gap), a, n, b, u);
    sheet.context.putImageData(sheet.image, 0, 0);
    return true;
  }
  mark(chosen, group) {
    // A frame around the chosen sample, and a thin one around those of its group.
    this.chosen = chosen;
    const ids = chosen === null ? [] : [...group.filter((id) => id !== chosen), chosen], key = `${ids}/${this.columns}/${this.rows}/${this.count}`;
    if (key === this.marked) return;
    this.marked = key;
    const cells = ids.map((id) => this.ids.indexOf(id));
    while (this.marks.length < ids.length) {
      this.marks.push(element("div"));
      this.board.append(this.marks.at(-1));
    }
    this.marks.forEach((mark, i) => {
      mark.hidden = !(cells[i] >= 0);
      if (mark.hidden) return;
      mark.className = ids[i] === chosen ? "mark" : "mark partner";
      const left = cells[i] % this.columns, top = Math.floor(cells[i] / this.columns);
      Object.assign(mark.style, { left: `${(100 * left) / this.columns}%`, top: `${(100 * top) / this.rows}%`, width: `${100 / this.columns}%`, height: `${100 / this.rows}%` });
    });
  }
}

function films(of, film) {
  // Two buttons for a film of the frames; without a server that makes one there are none.
  const box = element("div", { className: "films" });
  if (!film) return box;
  box.append(`${of} as a film: `);
  for (const kind of ["gif", "mp4"])
    box.append(element("button", { type: "button", className: kind, textContent: kind.toUpperCase(), onclick: (event) => film(kind, event.currentTarget) }));
  return box;
}

// -- one sample ---------------------------------------------------------------------------------------------------------

const BARS = 10; // classes shown at most
const PARTNERS = 24; // likewise

class Detail {
  // All that is known of the chosen sample: what the teacher sees in it, its gradient, its distance, its group, its past.
  constructor(root, scene, painter, { choose, film }) {
    Object.assign(this, { scene, painter, choose });
    const canvas = (className) => element("canvas", { className });
    const part = (title, ...nodes) => element("section", {}, element("figcaption", { textContent: title }), ...nodes);
    this.name = element("b");
    this.words = element("div", { className: "words" });
    this.large = canvas("large");
    this.gradients = Array.from({ length: scene.shape[0] }, () => canvas("gradient"));
    this.slope = element("p", { className: "hint" });
    this.bars = element("div", { className: "bars" });
    this.chances = canvas("chances");
    this.distance = canvas("distance");
    this.far = element("p", { className: "hint" });
    this.partners = element("div", { className: "partners" });
    this.together = element("figcaption");
    this.strip = canvas("strip");
    const close = element("button", { type: "button", className: "close", textContent: "×", title: "Close (Escape)", onclick: () => choose(null) });
    close.setAttribute("aria-label", "Close the details of this sample");
    this.root = element(
      "figure", { className: "pane one" },
      element("div", { className: "head" }, this.name, close),
      this.words,
      element(
        "div", { className: "pair" },
        part("As it is now", this.large),
        part("Its gradient", element("div", { className: "gradients" }, ...this.gradients)),
        this.slope,
      ),
      part("The teacher's probabilities now, and as they changed", element("div", { className: "sees" }, this.bars, element("div", {}, this.chances))),
      part("Distance to the boundary", this.far, element("div", {}, this.distance)),
      films("This one", film),
    );
    this.more = element("figure", { className: "pane more" }, element("section", {}, this.together, this.partners), part("How it came to be", this.strip));
    root.append(this.root, this.more);
  }
  hide(hidden) {
    this.root.hidden = this.more.hidden = hidden;
  }
  draw(frames, i, frame, chosen, theme) {
    const now = performance.now(), width = this.root.clientWidth;
    const same = frame === this.frame && chosen === this.chosen && this.painter.look === this.look && theme.name === this.theme?.name && width === this.width;
    if (same && frames.length === this.known) return;
    if (now - (this.drawnAt ?? 0) < 100 && chosen === this.chosen) return;
    Object.assign(this, { drawnAt: now, frame, chosen, look: this.painter.look, theme, width, known: frames.length });
    const row = Math.floor(chosen / frame.each), n = frame.ids.indexOf(chosen);
    write(this.name, `Sample ${(chosen % frame.each) + 1} of mini-batch ${frame.batches[0] + row + 1}`);
    this.root.classList.toggle("unknown", n < 0);
    this.more.classList.toggle("unknown", n < 0);
    if (n < 0) return write(this.words, "Nothing is known of it at this moment: it is not on the sheet, and it had not been chosen.");
    this.painter.one(this.large, frame, n);
    this.drawGradient(frame);
    const own = frames.filter((f) => f.ids && f.batches[0] === frame.batches[0]);
    const past = own.map((f) => [f, f.ids.indexOf(chosen)]).filter(([, k]) => k >= 0);
    this.drawChances(past, frame, n);
    this.drawDistance(past, frame, n);
    this.drawPartners(frame);
    this.drawStrip(past.filter(([f]) => f.t <= frame.t));
  }
  chance(frame, n, c) {
    return frame.probabilities[n * this.scene.classes.length + c] / 65535;
  }
  answer(frame, n) {
    let best = 0;
    for (let c = 1; c < this.scene.classes.length; c++) if (this.chance(frame, n, c) > this.chance(frame, n, best)) best = c;
    return best;
  }
  drawChances(past, frame, n) {
    const { classes } = this.scene, told = frame.labels[n];
    let words = frame.steered === false ? "Made for no class in particular." : `Told to become ${classes[told]}.`;
    this.bars.parentElement.parentElement.hidden = !frame.probabilities;
    if (!frame.probabilities) return write(this.words, words);
    const seen = this.answer(frame, n);
    words += ` The teacher sees ${classes[seen]} (${Math.round(100 * this.chance(frame, n, seen))} %).`;
    write(this.words, words);
    // All classes, or where there are many, the likeliest and the one it was told.
    let shown = classes.map((_, c) => c);
    if (shown.length > BARS) shown = [told, ...shown.filter((c) => c !== told).sort((a, b) => this.chance(frame, n, b) - this.chance(frame, n, a)).slice(0, BARS - 1)].sort((a, b) => a - b);
    this.bars.style.setProperty("--name", `${3 + Math.max(...shown.map((c) => classes[c].length))}ch`);
    while (this.bars.childElementCount < shown.length) this.bars.append(element("div", {}, element("i"), element("span"), element("div", {}, element("b")), element("output")));
    shown.forEach((c, k) => {
      const bar = this.bars.children[k], p = this.chance(frame, n, c), [swatch, name, , value] = bar.children;
      bar.classList.toggle("told", c === told);
      swatch.style.background = bar.querySelector("b").style.background = tone(COLOURS[c % COLOURS.length], this.theme);
      bar.querySelector("b").style.width = `${100 * p}%`;
      write(name, c === told ? `▸ ${classes[c]}` : classes[c]);
      bar.title = classes[c];
      write(value, `${Math.round(100 * p)} %`);
    });
    const known = past.filter(([f]) => f.probabilities);
    const lines = shown.map((c) => ({ colour: tone(COLOURS[c % COLOURS.length], this.theme), width: c === told ? 3 : 1.25, y: known.map(([f, k]) => this.chance(f, k, c)), label: c === told || c === seen ? classes[c] : "" }));
    lines.sort((a, b) => a.width - b.width);
    this.plot(this.chances, 190, known.map(([f]) => f.step), lines, frame.step, { high: 1, ticks: [[0, "0"], [0.5, "50 %"], [1, "100 %"]] });
    describe(this.chances, `Probabilities over the steps; ${classes[told]}, which it was told, is now at ${Math.round(100 * this.chance(frame, n, told))} percent`);
  }
  drawDistance(past, frame, n) {
    const value = frame.distance[n], near = this.scene.near, known = past.filter(([f, k]) => Number.isFinite(f.distance[k]));
    const say = (v) => (Number.isNaN(v) ? "not known at this moment" : v === Infinity ? "no boundary in sight" : short(v));
    write(this.far, `${say(value)}${value <= near ? ", which counts as near" : ""} (to first order; inputs have standard deviation 1, and below ${near} is near).`);
    const y = known.map(([f, k]) => f.distance[k]), high = Math.max(2 * near, ...y) * 1.05;
    const line = { colour: tone(COLOURS[0], this.theme), width: 2, y };
    this.plot(this.distance, 84, known.map(([f]) => f.step), [line], frame.step, { high, ticks: [[0, "0"], [near, String(near)], [high / 1.05, short(high / 1.05)]], dashed: near });
    describe(this.distance, `Distance to the boundary over the steps, now ${say(value)}`);
  }
  plot(canvas, height, x, lines, at, { high, ticks, dashed }) {
    // Lines over the steps, with a mark at the step that is looked at.
    const width = canvas.parentElement.clientWidth;
    if (!width) return;
    const g = fitCanvas(canvas, width, height), left = 40, right = width - 8, top = 8, bottom = height - 18;
    const first = x[0] ?? 0, last = Math.max(first + 1, x[x.length - 1] ?? 1);
    const px = (v) => left + ((v - first) / (last - first)) * (right - left), py = (v) => bottom - (v / high) * (bottom - top);
    g.clearRect(0, 0, width, height);
    Object.assign(g, { font: "11px sans-serif", fillStyle: this.theme.text, strokeStyle: this.theme.line, lineWidth: 1, textAlign: "right", textBaseline: "middle" });
    let free = Infinity;
    for (const [value, text] of ticks) {
      const y = py(value);
      g.setLineDash(value === dashed ? [4, 3] : []);
      g.strokeStyle = value === dashed ? this.theme.text : this.theme.line;
      stroke(g, [[left, y], [right, y]]);
      if (free - y < 11) continue; // no room for its number
      free = y;
      g.fillText(text, left - 5, y);
    }
    g.setLineDash([]);
    Object.assign(g, { textBaseline: "top", textAlign: "left" });
    g.fillText(`step ${first}`, left, bottom + 4);
    g.textAlign = "right";
    if (x.length > 1) g.fillText(String(last), right, bottom + 4);
    for (const { y, colour, width: thick } of lines) {
      Object.assign(g, { strokeStyle: colour, lineWidth: thick, lineJoin: "round" });
      stroke(g, y.map((v, k) => [px(x[k]), py(v)]));
    }
    Object.assign(g, { fillStyle: this.theme.text, strokeStyle: this.theme.text, lineWidth: 1, textBaseline: "bottom", textAlign: "left" });
    if (x.length && at >= first && at < last) stroke(g, [[px(at), top], [px(at), bottom]]);
    for (const { y, label } of lines) if (label && y.length) g.fillText(label, left + 4, Math.max(top + 12, py(y[0]) - 2));
  }
  drawGradient(frame) {
    const k = frame.gradient_of ? frame.gradient_of.indexOf(this.chosen) : -1, [channels, height, width] = this.scene.shape;
    this.gradients.forEach((canvas) => (canvas.hidden = k < 0));
    if (k < 0) {
      const none = "No gradient here: before the first step there is none, and some methods move their samples without one.";
      return write(this.slope, frame.gradients ? "Its gradient is only known from the moment it was chosen." : none);
    }
    for (let c = 0; c < channels; c++) {
      const target = pixelsOf(this.gradients[c], width, height), from = (k * channels + c) * width * height;
      for (let i = 0; i < width * height; i++) target.pixels[i] = SLOPES[frame.gradient[from + i] + 127];
      target.context.putImageData(target.image, 0, 0);
      describe(this.gradients[c], `Gradient${channels === 3 ? ` of the ${["red", "green", "blue"][c]} channel` : ""}: orange above zero, blue below`);
    }
    const where = channels === 3 ? "Red, green and blue channel. " : "";
    write(this.slope, `${where}Orange: brighter here raises the loss; blue: brighter lowers it; white: no effect. The sample moves against it. Norm ${short(frame.gradient_norm[k])}, largest ${short(frame.gradient_peak[k])}.`);
  }
  group(frame) {
    const first = this.chosen - ((this.chosen % frame.each) % frame.group);
    return Array.from({ length: frame.group }, (_, k) => first + k);
  }
  drawPartners(frame) {
    const ids = this.group(frame).filter((id) => id !== this.chosen && frame.ids.includes(id)).slice(0, PARTNERS), { classes } = this.scene;
    const some = ids.length < frame.group - 1 ? `, ${ids.length} of ${frame.group - 1}` : "";
    write(this.together, frame.contrast ? `Its contrast partners${some}: the contrast term pulls them and it together. Click one.` : `Its group${some}: samples for other classes. No contrast term is at work between them. Click one.`);
    this.partners.parentElement.hidden = !ids.length;
    while (this.partners.childElementCount < ids.length) {
      const button = element("button", { type: "button", onclick: () => this.choose(button.sample) }, element("canvas"), element("b"), element("span"));
      this.partners.append(button);
    }
    [...this.partners.children].forEach((button, k) => {
      button.hidden = k >= ids.length;
      if (button.hidden) return;
      const n = frame.ids.indexOf(ids[k]), [canvas, told, seen] = button.children;
      button.sample = ids[k];
      this.painter.one(canvas, frame, n);
      write(told, classes[frame.labels[n]]);
      write(seen, frame.probabilities ? `seen as ${classes[this.answer(frame, n)]}` : "");
      const label = `Sample ${(ids[k] % frame.each) + 1}: told to become ${told.textContent}, ${seen.textContent}`;
      if (button.title !== label) button.title = label;
    });
  }
  drawStrip(past) {
    const [, height, width] = this.scene.shape, shown = Math.min(8, past.length), strip = pixelsOf(this.strip, 8 * (width + 1) - 1, height);
    strip.pixels.fill(0);
    for (let k = 0; k < shown; k++) {
      const [frame, n] = past[shown === 1 ? 0 : Math.round((k * (past.length - 1)) / (shown - 1))];
      this.painter.blit(strip, k * (width + 1), 0, frame, n);
    }
    strip.context.putImageData(strip.image, 0, 0);
    describe(this.strip, "The sample from its first known moment to now");
  }
}

// From blue over white to orange, for the 255 values of a gradient.
const SLOPES = Uint32Array.from({ length: 255 }, (_, i) => {
  const t = (i - 127) / 127, end = rgb(t < 0 ? COLOURS[0] : COLOURS[1]), [r, g, b] = end.map((v) => Math.round(255 + (v - 255) * Math.abs(t)));
  return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
});

function stroke(g, points) {
  g.beginPath();
  points.forEach(([x, y], k) => (k ? g.lineTo(x, y) : g.moveTo(x, y)));
  g.stroke();
}

// -- curves -----------------------------------------------------------------------------------------------------------

function smallChart(plot, theme, x, y) {
  // How Plotly lays out a small chart beside the picture: the words under its horizontal axis, and what its other axis has.
  const axis = { zeroline: false, gridcolor: theme.line, color: theme.text, nticks: 5, tickfont: { size: 11 } };
  return {
    width: plot.clientWidth || 320, height: plot.clientHeight || 190, margin: { l: 44, r: 8, t: 24, b: 34 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: theme.text, size: 11, family: theme.font }, legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0 }, showlegend: true,
    xaxis: { ...axis, title: { text: x, standoff: 4 } }, yaxis: { ...axis, ...y },
  };
}

const CURVES = { synthesis: "Losses per sample", student: "Loss of the student", teacher: "Loss of the teacher" };

class Curves {
  // The losses over the steps of the present stage, redrawn a few times a second, with a mark at each change of settings.
  constructor(root, scene) {
    this.plot = element("div", { className: "plot" });
    this.plot.style.visibility = "hidden"; // axes without a curve say nothing
    this.percent = scene.percent;
    this.title = scene.curves;
    this.caption = element("figcaption", { textContent: this.title ?? CURVES.synthesis });
    this.root = element("figure", { className: "curves" }, this.caption, this.plot);
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
    const y = this.percent ? { range: [0, 1.02], tickformat: ".0%" } : { rangemode: "tozero" };
    return { ...smallChart(this.plot, this.theme, ["student", "teacher"].includes(this.stage) ? "update" : "step", y), shapes: this.marks ?? [] };
  }
  draw(frames, stage) {
    if (!this.P || !this.plot.clientWidth) return;
    const own = frames.filter((f) => f.stage === stage && f.losses && Object.keys(f.losses).length);
    const names = [...new Set(own.flatMap((f) => Object.keys(f.losses)))];
    const traces = names.map((name, i) => ({
      type: "scatter", mode: "lines", name, x: own.map((f) => f.step), y: own.map((f) => f.losses[name] ?? null),
      line: { color: COLOURS[(i + 4) % COLOURS.length], width: 2, dash: ["solid", "dash", "dot", "dashdot"][i % 4] },
    }));
    this.marks = own.slice(1).flatMap((f, i) =>
      f.version !== own[i].version ? [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: f.step, x1: f.step, line: { dash: "dot", width: 1, color: this.theme.text } }] : [],
    );
    const before = !traces.length && frames.length < 2; // later, a method without losses has no curves
    this.stage = stage;
    this.caption.textContent = `${this.title ?? CURVES[stage] ?? CURVES.synthesis}${before ? ": none before the first step" : ""}`;
    this.root.style.visibility = traces.length || before ? "" : "hidden";
    this.plot.style.visibility = traces.length ? "" : "hidden";
    this.P.react(this.plot, traces, this.layout());
  }
  stop() {
    if (this.P) this.P.purge(this.plot);
  }
}

class Statistics {
  // What batch normalisation remembers of its training data, against what the samples give: on the diagonal they agree.
  constructor(root) {
    const caption = element("figcaption", { textContent: "Inside the teacher: each channel's statistics, of its data (across) and of the samples (up)" });
    caption.title = "Across: the mean and the standard deviation that batch normalisation keeps of its training data. Up: those of a mini-batch of samples. On the line they are the same.";
    this.plot = element("div", { className: "plot" });
    this.plot.setAttribute("role", "img");
    this.root = element("figure", { className: "curves statistics" }, caption, this.plot);
    root.append(this.root);
  }
  draw(plotly, theme, values) {
    const rows = values.length / 5, column = (k) => Array.from({ length: rows }, (_, i) => values[5 * i + k]);
    const layer = column(0), parts = [["means", 1, 2, "circle"], ["deviations", 3, 4, "square-open"]];
    const traces = parts.map(([name, x, y, symbol], i) => ({
      type: "scatter", mode: "markers", name, x: column(x), y: column(y), marker: { symbol, size: 5, opacity: 0.8, color: COLOURS[i + 4] },
      customdata: layer, hovertemplate: "layer %{customdata}: %{x:.2f} remembered, %{y:.2f} here<extra></extra>",
    }));
    const all = traces.flatMap((t) => [...t.x, ...t.y]), low = Math.min(...all), high = Math.max(...all);
    plotly.react(
      this.plot,
      [{ type: "scatter", mode: "lines", x: [low, high], y: [low, high], hoverinfo: "skip", showlegend: false, line: { color: theme.text, width: 1, dash: "dot" } }, ...traces],
      smallChart(this.plot, theme, "remembered", { title: { text: "samples", standoff: 4 } }),
      { displayModeBar: false },
    );
    const off = parts.map(([name, x, y]) => `${name} ${(column(x).reduce((sum, v, i) => sum + Math.abs(v - values[5 * i + y]), 0) / rows).toFixed(2)}`);
    this.plot.setAttribute("aria-label", `What batch normalisation remembers against what the samples give; on average they differ by: ${off.join(", ")}`);
    this.P = plotly;
  }
  stop() {
    this.P?.purge(this.plot);
  }
}

// -- sliders for what may change while it runs ------------------------------------------------------------------------

const TICKS = 1000;

class Slider {
  constructor(spec, changed, settled, word) {
    this.spec = spec;
    // A logarithmic slider that may be zero has zero at its left end and the smallest step beside it.
    this.low = spec.scale === "log" && !spec.low ? spec.high * 1e-7 : spec.low;
    this.input = element("input", { type: "range", min: 0, max: TICKS, step: 1, title: spec.help });
    this.input.setAttribute("aria-label", spec.label);
    this.value = element("output");
    const name = element("span", { className: "name", title: spec.help }, word ? word(spec.name, spec.label) : spec.label);
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
    this.input.disabled = !!this.spec.locked;
    this.show(value);
  }
  show(value) {
    const unit = value === 1 ? this.spec.unit?.replace(/s$/, "") : this.spec.unit;
    this.value.textContent = short(value) + (unit ? ` ${unit}` : "");
    this.input.setAttribute("aria-valuetext", this.value.textContent);
  }
}

// -- one step, taken apart -----------------------------------------------------------------------------------------------

const PHASES = ["Predict", "Losses", "Gradients", "Move", "Noise"];
const PHASE_SECONDS = 4;
const DASHES = [[], [5, 3], [1.5, 3]]; // of the terms' arrows, so that colour is not the only sign

class Explainer {
  // Slow motion of one step: what the engine says that the step was made of (cake_core/anatomy.py), phase by phase.
  constructor(view, root) {
    Object.assign(this, { view, root, active: false, frame: null, phase: 0 });
    const button = (className, textContent, onclick) => element("button", { type: "button", className, textContent, onclick });
    this.title = element("b");
    this.tabs = PHASES.map((name, i) => button("phase", `${i + 1} ${name}`, () => this.show(i)));
    this.caption = element("p", { className: "caption" });
    this.caption.setAttribute("aria-live", "polite");
    this.sample = element("div", { className: "sample" });
    this.maps = element("div", { className: "maps" });
    const close = button("close", "×", () => this.close());
    close.setAttribute("aria-label", "Close the step that is taken apart");
    root.append(
      element("div", { className: "head" }, this.title, close),
      element("div", { className: "phases" }, ...this.tabs),
      this.caption,
      this.maps,
      this.sample,
      element("div", { className: "phases" }, button("other", "Another sample", () => this.choose((this.at + 1) % this.count)), button("next", "Another step", () => this.step())),
    );
  }
  step() {
    // Asks for one step with all that it is made of.
    const { view } = this;
    if (view.moving) view.pause();
    view.follow();
    Object.assign(this, { active: true, frame: null, after: view.history.frames.at(-1)?.t ?? 0, asked: performance.now() });
    this.root.hidden = false;
    const { stage } = view.dom, points = view.scene?.kind === "points";
    if (points) view.teacher.root.after(this.root); // in the student's place: picture and words side by side
    else stage.parentElement.before(this.root);
    view.root.classList.toggle("explaining", points);
    write(this.title, "One step, taken apart");
    write(this.caption, ["done", "failed", "stopped"].includes(view.status.state) ? "This run has ended. Press Reset, and explain one of its steps." : "The step is being computed…");
    this.sample.replaceChildren();
    this.maps.replaceChildren();
    view.tellWishes();
    view.send({ op: "step" });
  }
  close() {
    if (!this.active) return;
    Object.assign(this, { active: false, frame: null });
    this.root.hidden = true;
    this.view.root.classList.remove("explaining");
    this.view.tellWishes();
    this.view.layout();
    this.view.redraw = true;
  }
  take(frame) {
    // A frame has come: the step that was asked for, or the same step with another sample's details.
    if (!this.active || frame.step == null || (frame.t <= this.after && !this.frame)) return;
    if (!frame.anatomy) {
      if (!this.frame && frame.stage === "synthesis") write(this.caption, NOT_APART);
      return;
    }
    const same = this.frame?.anatomy.step === frame.anatomy.step;
    this.frame = frame;
    this.count = frame.anatomy_p.shape[0];
    if (!same) this.at = this.worst();
    this.show(same ? this.phase : 0, !same && !this.view.reduced);
  }
  worst() {
    // The sample with the largest loss: there is most to see.
    const values = this.frame.anatomy_values, n = this.count;
    if (!values) return 0;
    let best = 0, most = -Infinity;
    for (let k = 0; k < n; k++) {
      let sum = 0;
      for (let t = 0; t < values.length / n; t++) sum += values[t * n + k] || 0;
      if (sum > most) [best, most] = [k, sum];
    }
    return best;
  }
  show(phase, playing = false) {
    if (!this.frame) return;
    Object.assign(this, { phase, playing, began: performance.now() });
    const a = this.frame.anatomy;
    write(this.title, `Step ${a.step}, taken apart`);
    this.tabs.forEach((tab, i) => tab.setAttribute("aria-current", i === phase ? "step" : "false"));
    write(this.caption, this.words(a)[phase]);
    this.tell();
    this.draw();
    this.view.redraw = true;
  }
  choose(k) {
    if (!this.frame) return;
    if (this.frame.images) return this.view.choose(((this.view.sample ?? -1) + 1) % this.frame.in_flight);
    this.at = k;
    this.show(this.phase);
  }
  words(a) {
    const images = !!this.frame.images, name = (t) => t.name.replaceAll("_", " "), list = (texts) => texts.join("; ");
    const told = a.right == null ? "" : ` ${percent(a.right)} of the samples are in the class that they were told${this.frame.images ? "" : " (those with a ring are not)"}.`;
    const range = a.eta[0] === a.eta[1] ? short(a.eta[0]) : `${short(a.eta[0])} (first mini-batch) to ${short(a.eta[1])} (last)`;
    const clip = a.clip > 0 ? ` Their sum is shortened to at most ${short(a.clip)}, which it was for ${percent(a.clipped)} of the samples.` : "";
    return [
      `Predict. The teacher gives each sample its probabilities; it is sure to ${percent(a.confidence)} on average.${told}`,
      a.terms.length
        ? `Losses. What each term says is wrong, weighted, per sample on average: ${list(a.terms.map((t) => `${name(t)} ${t.loss == null ? "(no sum over samples)" : short(t.loss)} (weight ${short(t.weight)})`))}.${images ? "" : " The larger the circle, the larger the loss."}`
        : "Losses. This method has none: it does not ask the teacher where to go.",
      a.terms.length
        ? `Gradients. ${images ? "Each term wants other pixels changed (orange: brighter raises its loss)" : "Each term pulls downhill, with its own arrow"}; mean length, weighted: ${list(a.terms.map((t) => `${name(t)} ${short(t.gradient)}`))}.${clip}`
        : "Gradients. There are none.",
      a.terms.length
        ? `Move. Samples go against the sum of the gradients, of mean length ${short(a.followed)}, times the step size, ${range}: ${short(a.move)} on average.`
        : "Move. Without a gradient nothing moves yet.",
      a.noise > 0 ? `Noise. Then each sample gets a random push of ${short(a.noise)} on average.` : "Noise. This method adds none: the step is done.",
    ];
  }
  tell() {
    // The numbers of one sample.
    const f = this.frame, n = this.count, k = Math.min(this.at, n - 1), { classes } = this.view.scene, size = f.anatomy_from.length / n;
    this.at = k;
    const vector = (array, from = k) => Array.from(array.subarray(from * size, (from + 1) * size));
    const say = (v) => (size === 2 ? `(${v.map(short).join(", ")})` : `length ${short(Math.hypot(...v))}`);
    const id = f.images ? f.anatomy.ids[0] : k, label = f.images ? f.labels[f.ids.indexOf(id)] : f.labels[k];
    const p = classes.map((c, i) => [c, f.anatomy_p[k * classes.length + i]]).sort((x, y) => y[1] - x[1]).slice(0, 3);
    const rows = [
      ["Probabilities", p.map(([c, v]) => `${c} ${percent(v)}`).join(", "), 0],
      ...f.anatomy.terms.map((t, i) => [`Loss, ${t.name}`, f.anatomy_values ? short(f.anatomy_values[i * n + k]) : "–", 1]),
      ...f.anatomy.terms.map((t, i) => [`Gradient, ${t.name}`, say(vector(f.anatomy_gradients, i * n + k)), 2]),
      ["Followed", say(vector(f.anatomy_followed)), 2],
      ["Move", say(vector(f.anatomy_move)), 3],
      ["Noise", say(vector(f.anatomy_noise)), 4],
    ];
    const table = element("table", {}, ...rows.map(([head, text, phase]) => element("tr", { className: phase === this.phase ? "now" : "" }, element("th", { textContent: head, scope: "row" }), element("td", { textContent: text }))));
    this.sample.replaceChildren(element("p", { textContent: `One sample${f.images ? ` (${id + 1})` : ", circled"}: told to become ${classes[label]}.` }), table);
  }
  draw() {
    // Of an image: what each term wants of its pixels, what is followed, and where it moves.
    const f = this.frame;
    this.maps.replaceChildren();
    if (!f.images) return;
    const [channels, height, width] = this.view.scene.shape, size = channels * height * width;
    const maps = [...f.anatomy.terms.map((t, i) => [t.name, f.anatomy_gradients.subarray(i * size, (i + 1) * size), 2]), ["together", f.anatomy_followed, 2], ["move", f.anatomy_move, 3], ["noise", f.anatomy_noise, 4]];
    for (const [name, values, phase] of maps) {
      if (!values.some(Boolean)) continue; // a method without noise
      const canvas = element("canvas"), target = pixelsOf(canvas, width, height), mean = new Float32Array(height * width);
      for (let c = 0; c < channels; c++) for (let i = 0; i < mean.length; i++) mean[i] += values[c * mean.length + i] / channels;
      const peak = mean.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-30);
      mean.forEach((v, i) => (target.pixels[i] = SLOPES[Math.round((127 * v) / peak) + 127]));
      target.context.putImageData(target.image, 0, 0);
      describe(canvas, `${name}, orange above zero, blue below, largest ${short(peak)}`);
      this.maps.append(element("figure", { className: phase === this.phase ? "now" : "" }, canvas, element("figcaption", { textContent: `${name}, up to ${short(peak)}` })));
    }
  }
  paint(map) {
    // Points of the plane, in the phase that is shown. True where it has drawn them.
    const f = this.frame;
    if (!f?.anatomy_from || f.images) return false;
    const passed = (performance.now() - this.began) / 1000;
    if (this.playing && passed > PHASE_SECONDS && this.phase < PHASES.length - 1) this.show(this.phase + 1, true);
    const u = this.view.reduced ? 1 : Math.min(1, Math.max(0, (passed - 0.4) / 1.6)), key = `${f.t}/${this.phase}/${this.at}/${u}/${map.key}`;
    if (key === this.key && !this.view.redraw) return true;
    this.key = key;
    const { view } = this, plane = view.teacher, g = fitCanvas(plane.above, map.width, map.height), n = this.count;
    plane.clearTrails();
    g.clearRect(0, 0, map.width, map.height);
    g.save();
    g.beginPath();
    g.rect(...map.box);
    g.clip();
    const moved = this.phase < 3 ? 0 : this.phase === 3 ? u : 1, shaken = this.phase === 4 ? u : 0;
    const at = (k, a = moved, b = shaken) => {
      const x = f.anatomy_from[2 * k] + a * f.anatomy_move[2 * k] + b * f.anatomy_noise[2 * k];
      const y = f.anatomy_from[2 * k + 1] + a * f.anatomy_move[2 * k + 1] + b * f.anatomy_noise[2 * k + 1];
      return [map.ox + x * map.sx, map.oy - y * map.sy];
    };
    if (this.phase === 1) this.paintLosses(g, at);
    if (this.phase >= 3) this.paintWays(g, at);
    for (let c = 0; c < view.scene.classes.length; c++) {
      g.beginPath();
      for (let k = 0; k < n; k++) if (f.labels[k] === c) marker(g, c, ...at(k), 2.7);
      g.fillStyle = COLOURS[c % COLOURS.length];
      g.fill();
    }
    if (this.phase === 0) this.paintRings(g, at);
    if (this.phase === 2) this.paintPulls(g, at);
    g.beginPath();
    g.arc(...at(this.at), 9, 0, 6.2832);
    Object.assign(g, { strokeStyle: view.theme.text, lineWidth: 2 });
    g.stroke();
    g.restore();
    this.spots = at;
    return true;
  }
  paintRings(g, at) {
    const f = this.frame, classes = this.view.scene.classes.length;
    if (f.anatomy.right == null) return;
    g.beginPath();
    for (let k = 0; k < this.count; k++) {
      let best = 0;
      for (let c = 1; c < classes; c++) if (f.anatomy_p[k * classes + c] > f.anatomy_p[k * classes + best]) best = c;
      if (best === f.labels[k]) continue;
      const [x, y] = at(k);
      g.moveTo(x + 4.6, y);
      g.arc(x, y, 4.6, 0, 6.2832);
    }
    Object.assign(g, { strokeStyle: this.view.theme.text, lineWidth: 1 });
    g.stroke();
  }
  paintLosses(g, at) {
    const values = this.frame.anatomy_values, n = this.count;
    if (!values) return;
    const sums = Array.from({ length: n }, (_, k) => {
      let sum = 0;
      for (let t = 0; t < values.length / n; t++) sum += Math.max(0, values[t * n + k] || 0);
      return sum;
    });
    const most = Math.max(1e-9, ...sums);
    g.beginPath();
    sums.forEach((sum, k) => {
      const [x, y] = at(k), r = 3 + 13 * Math.sqrt(sum / most);
      g.moveTo(x + r, y);
      g.arc(x, y, r, 0, 6.2832);
    });
    Object.assign(g, { strokeStyle: this.view.theme.text, lineWidth: 0.8, globalAlpha: 0.45 });
    g.stroke();
    g.globalAlpha = 1;
  }
  paintPulls(g, at) {
    // Downhill arrows of each term; all on one scale, the longest 46 pixels.
    const f = this.frame, n = this.count, all = f.anatomy_gradients;
    if (!all) return;
    let longest = 1e-9;
    for (let k = 0; k < all.length; k += 2) longest = Math.max(longest, Math.hypot(all[k], all[k + 1]));
    const every = Math.ceil(n / 150), shown = [...Array(n).keys()].filter((k) => k % every === 0 || k === this.at);
    f.anatomy.terms.forEach((term, t) => {
      g.beginPath();
      for (const k of shown) {
        const dx = -all[2 * (t * n + k)], dy = all[2 * (t * n + k) + 1], length = Math.hypot(dx, dy);
        if (length < longest * 1e-4) continue;
        const long = 46 * Math.sqrt(length / longest), [x, y] = at(k), ux = dx / length, uy = dy / length, [ex, ey] = [x + ux * long, y + uy * long];
        g.moveTo(x, y);
        g.lineTo(ex, ey);
        g.moveTo(ex - 5 * ux + 3 * uy, ey - 5 * uy - 3 * ux);
        g.lineTo(ex, ey);
        g.lineTo(ex - 5 * ux - 3 * uy, ey - 5 * uy + 3 * ux);
      }
      g.setLineDash(DASHES[t % DASHES.length]);
      Object.assign(g, { strokeStyle: tone(COLOURS[(t + 2) % COLOURS.length], this.view.theme), lineWidth: 1.6 });
      g.stroke();
    });
    g.setLineDash([]);
    // What the arrows are, in a corner.
    Object.assign(g, { font: "12px sans-serif", textAlign: "left", textBaseline: "middle", lineWidth: 2 });
    f.anatomy.terms.forEach((term, t) => {
      const [left, top] = [46, 26 + 16 * t];
      g.strokeStyle = g.fillStyle = tone(COLOURS[(t + 2) % COLOURS.length], this.view.theme);
      g.setLineDash(DASHES[t % DASHES.length]);
      stroke(g, [[left, top], [left + 26, top]]);
      g.fillStyle = this.view.theme.text;
      g.fillText(term.name, left + 32, top);
    });
    g.setLineDash([]);
  }
  paintWays(g, at) {
    g.beginPath();
    for (let k = 0; k < this.count; k++) {
      g.moveTo(...at(k, 0, 0));
      g.lineTo(...at(k));
    }
    Object.assign(g, { strokeStyle: this.view.theme.text, lineWidth: 1, globalAlpha: 0.5 });
    g.stroke();
    g.globalAlpha = 1;
  }
  pick(x, y) {
    // The sample nearest to a click.
    if (!this.frame || !this.spots) return;
    let best = 0, least = Infinity;
    for (let k = 0; k < this.count; k++) {
      const [px, py] = this.spots(k), d = Math.hypot(px - x, py - y);
      if (d < least) [best, least] = [k, d];
    }
    this.choose(best);
  }
}

const NOT_APART = "This step can't be taken apart: it is the first of a mini-batch, or the method does more in a step than follow a gradient of the teacher's answers.";

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
    this.saidAt = {}; // by name: when Python was told last
    this.sample = 0; // the image that is looked into, by its place among those in flight; null for none
    this.look = "pixels";
    this.status = { state: "ready" };
    window.cakeLive?.opened?.(this); // for those who measure (benchmarks/live_view.py)
    const query = matchMedia("(prefers-reduced-motion: reduce)");
    this.calm = () => (this.reduced = query.matches || remembered("cake-calm") === "yes");
    this.calm();
    query.onchange = this.calm;
    this.build();
    this.update(component);
    this.resized = new ResizeObserver(() => this.layout());
    this.resized.observe(this.root);
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey);
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
      this.pace();
      this.tellView();
    };
    d.time.oninput = () => this.seek((+d.time.value / 1000) * this.history.end);
    this.explainer = new Explainer(this, $(".anatomy"));
    $(".explain").onclick = () => this.explainer.step();
    const calm = d.options.querySelector("[name=calm]");
    calm.checked = this.reduced;
    calm.onchange = () => {
      remembered("cake-calm", calm.checked ? "yes" : "no");
      this.calm();
    };
    d.options.querySelectorAll("input:not([name=calm])").forEach((box) => {
      box.onchange = () => {
        this.options[box.name] = box.checked;
        if (box.name === "arrows") this.tellWishes();
        if (box.name === "trails") this.teacher?.clearTrails();
        this.redraw = true;
        this.tellView();
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
    this.root.toggleAttribute("data-watch", !!data.watch);
    const view = JSON.stringify(data.view);
    if (data.view && view !== this.takenView && this.isHeard("view")) {
      this.takenView = view;
      this.takeView(data.view);
    }
    if (data.job !== before.job && data.show?.length) this.begin(data.show);
    if (data.job !== before.job || data.recording !== before.recording) this.attach();
    if (JSON.stringify(data.sliders) !== this.takenSliders) this.makeSliders();
    if (data.feed && data.feed !== before.feed) this.feed(data.feed);
    this.showStatus();
  }

  say(name, value) {
    // The time makes the same words again count too, where Python has gone back meanwhile.
    const at = (this.saidAt[name] = Math.max(Date.now(), 1 + (this.saidAt[name] ?? 0)));
    this.setStateValue(name, { ...value, at });
  }
  isHeard(name) {
    // Whether what Python draws comes after the last that it was told. What does not would put back a newer choice.
    return !this.saidAt[name] || this.data.heard?.[name] === this.saidAt[name];
  }

  begin(show) {
    // What a lesson or a link wants to be seen from the beginning; whoever watches may change it.
    this.dom.options.querySelectorAll("input").forEach((box) => {
      if (box.name in this.options) box.checked = this.options[box.name] = show.includes(box.name);
    });
  }

  attach() {
    this.socket?.close();
    this.explainer.close();
    this.history.clear();
    Object.assign(this, { position: 0, following: true, replaying: false, scene: null, status: { state: "ready" }, told: null, backlog: true });
    this.dom.stage.replaceChildren();
    this.dom.chart.replaceChildren();
    [this.teacher, this.student, this.curves, this.statistics].forEach((part) => part?.stop?.());
    this.teacher = this.student = this.sheet = this.detail = this.curves = this.statistics = this.figure = null;
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
          if (gone) this.askForAnother(this.data.job);
          if (yes) {
            this.backlog = true;
            if (this.speed !== 1) this.pace();
            if (this.options.arrows || this.explainer.active) this.tellWishes();
          }
        },
      );
  }

  askForAnother(job, pause = 1000) {
    // The server does not know this job (any more), but the page may know what is left of it, and then shows another. It
    // is asked until it answers: while its own connection is down, what it is told is lost.
    if (this.connected !== "gone" || this.data.job !== job || !this.root.isConnected || pause > 60000) return;
    this.setTriggerValue("ended", `${job}/gone/${Date.now()}`);
    setTimeout(() => this.askForAnother(job, 1.3 * pause), pause);
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
      this.explainer.close();
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
    this.explainer.take(frame);
    const before = this.history.add(frame, this.status.state === "running");
    if (before === undefined) return this.history.frames.length === 1 && this.showStatus(); // now there is something to play
    if (before <= this.position) this.position++; // what is looked at stays
    if (this.held) this.position = this.history.end; // paused: details are of the newest moment
    this.redraw = true;
  }

  async setScene(scene) {
    this.scene = scene;
    this.history.clear();
    const drag = !matchMedia("(pointer: coarse)").matches; // a finger scrolls the page
    const stage = this.dom.stage;
    stage.replaceChildren();
    this.root.dataset.kind = scene.kind;
    this.dom.options.hidden = !["points", "images"].includes(scene.kind);
    for (const part of [this.curves, this.statistics]) {
      part?.stop();
      part?.root.remove();
    }
    this.statistics = null;
    this.curves = this.data.curves === false || scene.kind === "figure" ? null : new Curves(this.dom.chart, scene);
    if (scene.kind === "points") {
      this.teacher = new Plane(stage, "teacher");
      this.student = this.data.student === false ? null : new Plane(stage, "student");
      this.teacher.title.append(scene.drawn ? "Teacher, and the samples" : "Teacher, and the samples that walk to its boundary");
      this.student?.title.append(scene.in_loop ? "Student in the method's loop; then the one who sees all samples" : "Student, who sees the samples alone");
      this.teacher.setSurface(scene.teacher, this.theme);
      this.teacher.frame.addEventListener("click", (event) => {
        const box = this.teacher.frame.getBoundingClientRect();
        if (this.explainer.active) this.explainer.pick(event.clientX - box.left, event.clientY - box.top);
      });
      this.teacher.setLine(scene.boundary);
      this.student?.setLine(scene.boundary);
      stage.append(element("p", { textContent: scene.drawn ?? "" }));
    } else if (scene.kind === "images") {
      const painter = (this.painter = new Painter(scene.shape)), choose = (sample) => this.choose(sample);
      const film = (sample) => this.data.socket && ((kind, button) => this.film(kind, sample(), button));
      painter.look = this.look;
      this.sheet = new Sheet(stage, scene, painter, { choose, look: (name) => this.tellView((painter.look = this.look = name)), film: film(() => null) });
      this.detail = new Detail(stage, scene, painter, { choose, film: film(() => this.detail.chosen) });
      if (!this.data.recording) this.tellWishes();
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
      this.curvesAt = 0;
      this.redraw = true;
    } catch (error) {
      this.banner("The chart library could not be loaded. Reload the page; if that does not help, check the network.");
      console.error(error);
    }
  }

  // -- how it is shown, which the address has too -------------------------------------------------------------------

  takeView({ show, speed }) {
    const look = show.includes("stretched") ? "stretched" : "pixels", before = JSON.stringify(this.options) + this.speed + this.look;
    this.begin(show);
    Object.assign(this, { speed, look });
    this.dom.speed.value = speed;
    if (this.painter) this.painter.look = look;
    for (const radio of this.dom.stage.querySelectorAll(".looks input")) radio.checked = radio.value === look;
    if (!this.socket || before === JSON.stringify(this.options) + this.speed + this.look) return; // a new socket asks by itself
    this.pace();
    this.tellWishes();
    this.redraw = true;
  }
  tellView() {
    if (!this.data.view) return;
    const show = Object.keys(this.options).filter((name) => this.options[name]);
    this.say("view", { show: this.look === "stretched" ? [...show, "stretched"] : show, speed: this.speed });
  }
  pace() {
    this.send({ op: "rate", rate: (this.data.rate ?? STEPS_PER_SECOND) * this.speed });
  }

  // -- one image among many -----------------------------------------------------------------------------------------

  choose(sample) {
    this.sample = sample;
    this.tellWishes();
  }
  tellWishes() {
    // Only what somebody looks at is computed and sent.
    this.send({ op: "look", arrows: this.options.arrows, sample: this.scene?.kind === "images" ? this.sample : null, anatomy: this.explainer.active });
  }
  async film(kind, sample, button) {
    const url = new URL(`${this.data.socket}${this.data.job}/frames.${kind}`, document.baseURI), label = button.textContent;
    url.searchParams.set("look", this.look);
    if (sample !== null) url.searchParams.set("sample", sample);
    Object.assign(button, { disabled: true, textContent: "…" });
    try {
      const answer = await fetch(url);
      if (!answer.ok) return this.banner(await answer.text());
      const address = URL.createObjectURL(await answer.blob());
      element("a", { href: address, download: sample === null ? `samples.${kind}` : `sample-${sample + 1}.${kind}` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60000);
      this.banner("");
    } catch (error) {
      this.banner("The film could not be fetched. Check the connection and try again.");
    } finally {
      Object.assign(button, { disabled: false, textContent: label });
    }
  }

  // -- transport ----------------------------------------------------------------------------------------------------

  send(message) {
    if (this.data.watch) return false; // somebody else's run: the server would refuse it
    if (this.socket) return this.socket.send(message);
    this.setTriggerValue("command", { ...message, at: Date.now() });
    return true;
  }
  get moving() {
    return this.replaying || (this.following && ["running", "queued"].includes(this.status.state));
  }
  toggle() {
    this.explainer.close();
    if (this.data.watch) return this.lookBack();
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
  lookBack() {
    // Who only watches holds the picture, not the run.
    if (this.moving) return this.seek(this.current());
    const atEnd = this.position >= this.history.end;
    if (!atEnd) this.replaying = true;
    else if (this.status.state === "done") this.replay();
    else this.follow();
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
    this.explainer.close();
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
    if (this.data.watch) return;
    this.send({ op: "step" });
    this.follow();
  }
  reset() {
    if (this.data.watch) return;
    this.send({ op: "reset" });
    this.follow();
  }
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.root.isConnected) return;
    if (event.target.closest?.("input:not([type=range], [type=radio]), textarea, select, [contenteditable], [role=dialog]")) return;
    const actions = { " ": () => this.toggle(), ArrowRight: () => this.stepOnce(), r: () => this.reset(), "?": () => this.toggleHelp(), Escape: () => this.close() };
    const action = actions[event.key];
    const busy = event.key === " " ? "input, button, summary" : "input, button, a, summary"; // the space bar means nothing to a link
    if (!action || (event.target.closest?.(busy) && !["r", "?", "Escape"].includes(event.key))) return;
    event.preventDefault();
    action();
  }
  close() {
    if (this.explainer.active) return this.explainer.close();
    if (!this.dom.help.hidden) this.toggleHelp(false);
    else if (this.sheet && this.sample !== null) this.choose(null);
  }
  toggleHelp(open = this.dom.help.hidden) {
    this.dom.help.hidden = !open;
  }

  // -- settings that may change while it runs -----------------------------------------------------------------------

  makeSliders() {
    const box = this.dom.sliders;
    if (box.contains(document.activeElement) && document.activeElement.matches(":active")) return; // it is being dragged
    const same = this.sliders?.map((s) => s.spec.name).join() === this.data.sliders?.map((s) => s.name).join();
    if (same && !this.isHeard("settings")) return;
    this.takenSliders = JSON.stringify(this.data.sliders);
    if (same) {
      this.sliders.forEach((slider, i) => {
        slider.spec = this.data.sliders[i];
        slider.write(slider.spec.value);
      });
      return;
    }
    this.sliders = (this.data.sliders ?? []).map((spec) => new Slider(spec, (n, v) => this.change(n, v), () => this.settle(), (n, l) => this.word(n, l)));
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
    this.say("settings", Object.fromEntries(this.sliders.map((s) => [s.spec.name, s.read()])));
  }

  // -- words --------------------------------------------------------------------------------------------------------

  banner(text) {
    this.dom.banner.textContent = text;
    this.dom.banner.hidden = !text;
  }
  showStatus() {
    const { state, note, progress, seconds_left: left, queue, wait, waits, message } = this.status, d = this.dom;
    this.root.dataset.state = this.connected === false ? "disconnected" : state;
    d.play.textContent = this.moving ? "❚❚ Pause" : state === "done" && (this.following || this.position >= this.history.end) ? "↻ Replay" : "▶ Play";
    if (this.data.watch && !d.play.textContent.includes("Replay")) d.play.textContent = this.moving ? "❚❚ Hold" : this.position < this.history.end ? "▶ Play" : "▶ Follow";
    d.play.setAttribute("aria-pressed", this.moving);
    d.live.hidden = this.following || !!this.data.recording || ["done", "failed"].includes(state);
    const words = {
      ready: !this.history.frames.length ? "Getting ready…" : this.scene || note !== "Training a teacher" ? "Ready. Press Play, or the space bar." : "Press Play: a teacher is trained for these data first, then samples move.",
      queued: waits
        ? `This run ${waits}. It goes on by itself when others have ended.`
        : `Waiting: place ${queue} in the queue${wait != null ? `, for about ${duration(Math.max(1, wait))}` : ""}. Others are computing.`,
      running: `${note || "Running"}${left != null && left > 1 ? `, about ${duration(left)} left` : ""}`,
      paused: "Paused.",
      done: "Done. The results are below.",
      stopped: "Stopped. Press Reset to begin again.",
      failed: "Stopped by an error.",
    };
    const watched = { ready: "Not begun yet.", paused: "Its owner has paused it.", done: "Done.", stopped: "Its owner has stopped it." };
    let text = this.data.recording ? "" : (this.data.watch && watched[state]) || (words[state] ?? "");
    if (state === "stopped" && message && this.data.watch) text = "Stopped."; // the banner says by whom
    if (!this.following && !this.data.recording) text = this.replaying ? "Replay." : state === "paused" ? "Paused." : "Looking back.";
    if (this.connected === false) text = "Disconnected. Trying again…";
    if (this.connected === "gone" && this.data.watch) text = "This run has ended, or is not shared any more. Reload for one of your own.";
    else if (this.connected === "gone") text = "This run has ended and is no longer kept. Change a setting, or reload, to begin again.";
    if (d.status.textContent !== text) d.status.textContent = text;
    if (message !== this.said && (message || this.said)) this.banner((this.said = message) || "");
    d.banner.classList.toggle("told", !!message && d.banner.textContent === message); // news, and not an error
    const bar = this.root.querySelector(".progress > i");
    bar.style.transform = `scaleX(${state === "done" ? 1 : progress || 0})`;
  }
  describe() {
    const kind = this.scene?.kind, canvas = this.sheet?.canvas ?? this.teacher?.above;
    if (!canvas) return;
    describe(canvas, kind === "points" ? "Samples moving over the teacher's decision surface" : "A grid of synthetic images, changing step by step");
  }
  tellInWords(frame) {
    // For who does not see the picture: what it shows now, and no more often than one can listen.
    const now = performance.now(), { classes, kind } = this.scene;
    if (now - (this.wordsAt ?? 0) < 2000 || !["points", "images"].includes(kind)) return;
    this.wordsAt = now;
    const parts = [`${kind === "points" ? "Points in a plane, which a line parts into the teacher's classes" : "A sheet of synthetic images"}: ${classes.join(", ")}.`];
    parts.push(frame.step == null ? "" : frame.stage === "synthesis" ? `Step ${frame.step} of ${frame.total}: samples are being moved.` : frame.stage === "student" ? `The student learns: update ${frame.step} of ${frame.total}.` : "");
    const told = frame.labels && frame.steered !== false ? classes.map((c, k) => `${frame.labels.reduce((sum, y) => sum + (y === k), 0)} samples told ${c}`) : [];
    if (told.length && told.length <= 4) parts.push(`${told.join(", ")}.`);
    const format = { percent, count: compact, number: short };
    for (const { name, label, format: how } of this.data.numbers ?? []) if (frame.values?.[name] != null) parts.push(`${label}: ${format[how](frame.values[name])}.`);
    for (const [name, value] of Object.entries(frame.losses ?? {})) if (value != null) parts.push(`${name} loss ${short(value)}.`);
    const text = parts.filter(Boolean).join(" ");
    write(this.root.querySelector(".in-words p"), text);
    const canvas = this.sheet?.canvas ?? this.teacher?.above;
    if (canvas) describe(canvas, text);
  }
  word(name, label) {
    // A label that says what it means when it is pressed, where there is a word for it.
    const word = this.data.words?.[name];
    if (!word) return element("span", { textContent: label });
    const button = element("button", { type: "button", className: "word", textContent: label, title: word.sentence });
    button.setAttribute("aria-label", `${label}: what does it mean?`);
    button.onclick = (event) => {
      event.preventDefault();
      event.stopPropagation();
      const card = this.root.querySelector(".card"), here = this.root.getBoundingClientRect(), box = button.getBoundingClientRect();
      const leave = () => {
        card.hidden = true;
        button.focus({ preventScroll: true });
      };
      card.onkeydown = (event) => event.key === "Escape" && leave();
      card.onfocusout = (event) => card.contains(event.relatedTarget) || (card.hidden = true); // a click elsewhere
      const close = element("button", { type: "button", textContent: "Close", onclick: leave });
      const line = (tag, text) => (text ? [element(tag, { textContent: text })] : []);
      card.replaceChildren(...line("b", word.title), ...line("p", word.sentence), ...line("code", word.equation), ...line("small", word.where ? `Where: ${word.where}.` : ""), close);
      card.hidden = false;
      card.style.top = `${box.bottom - here.top + 6}px`;
      card.style.left = `${Math.max(0, Math.min(box.left - here.left, here.width - card.offsetWidth))}px`;
      close.focus();
    };
    return button;
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
        tile = element("div", { className: "tile", title: spec.help }, this.word(spec.name, spec.label), element("b"));
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
      font: getComputedStyle(this.root).fontFamily, // by name: Plotly measures words elsewhere in the page
    };
    for (const plane of [this.teacher, this.student])
      if (plane) {
        if (plane.probabilities) plane.setSurface(plane.probabilities, this.theme);
        plane.recolour(this.theme);
      }
    if (this.curves) this.curves.theme = this.theme;
    this.curvesAt = 0; // they are drawn again, in the new colours
    if (this.statistics) this.statistics.seen = null;
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
    const now = performance.now(), passed = Math.min(this.reduced ? 600 : 100, now - (this.lastDraw ?? now));
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
    const calm = this.reduced && this.moving && performance.now() - (this.calmAt ?? 0) < 500;
    if (calm && !this.redraw) return; // two pictures a second
    this.calmAt = performance.now();
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
    this.tellInWords(a);
    const now = performance.now();
    if (this.curves && now - (this.curvesAt ?? 0) > 600 && (frames.length !== this.curvesOf || a.stage !== this.curvesStage || !this.curvesAt)) {
      this.curvesAt = now;
      this.curvesOf = frames.length;
      this.curvesStage = a.stage;
      this.curves.draw(frames, ["evaluation", "control"].includes(a.stage) ? "student" : a.stage);
    }
    if (this.curves?.P && now - (this.statisticsAt ?? 0) > 300) {
      this.statisticsAt = now;
      const [seen] = this.latest(i, "statistics");
      if (seen && seen !== this.statistics?.seen) {
        this.statistics ??= new Statistics(this.dom.chart);
        this.statistics.draw(this.curves.P, this.theme, seen.statistics);
        this.statistics.seen = seen;
      }
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
    if (this.explainer.active && this.explainer.paint(map)) return;
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
    if (a.lines) this.paintLines(g, a.lines, b.lines?.length === a.lines.length ? b.lines : a.lines, u, [kx, ky, x0, y0]);
    const classes = this.scene.classes.length;
    for (let c = 0; c < classes; c++) {
      g.beginPath();
      for (let k = 0; k < n; k++) if (a.labels[k] === c) marker(g, c, at[2 * k], at[2 * k + 1], radius);
      g.fillStyle = tone(COLOURS[c % COLOURS.length], this.theme);
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
  paintLines(g, from, to, u, [kx, ky, x0, y0]) {
    // What a method shows of itself: rays, or a net. In few strokes, for there are many.
    g.beginPath();
    for (let k = 0; k < from.length; k += 4) {
      const at = (j) => from[k + j] * (1 - u) + to[k + j] * u;
      g.moveTo(x0 + kx * at(0), y0 - ky * at(1));
      g.lineTo(x0 + kx * at(2), y0 - ky * at(3));
    }
    g.globalAlpha = 0.45;
    g.strokeStyle = this.theme.text;
    g.lineWidth = 0.8;
    g.stroke();
    g.globalAlpha = 1;
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
      g.strokeStyle = tone(COLOURS[c % COLOURS.length], this.theme);
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
    const chosen = this.sample === null ? null : this.sample % frame.in_flight;
    if (chosen !== null) this.detail.draw(this.history.frames, at, frame, chosen, this.theme);
    this.detail.hide(chosen === null);
    this.sheet.mark(chosen, chosen === null ? [] : this.detail.group(frame));
    if (!changed) return;
    window.cakeLive?.painted?.(frame.step + u, frame.version);
    const [first, last] = frame.batches, many = first === last ? `Mini-batch ${first + 1}` : `Mini-batches ${first + 1} to ${last + 1}`;
    write(this.sheet.caption, `${many}. Click a sample to look into it.`);
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
        { ...layout, width: node.clientWidth, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: this.theme.text, family: this.theme.font }, xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis, automargin: !!layout.yaxis?.title } },
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
    [this.teacher, this.student, this.curves, this.statistics].forEach((part) => part?.stop?.());
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
