// The map of feature space: one picture in two or three dimensions. Hover shows the input itself, a lasso or a click
// selects, trajectories can be played. It gets one binary message (see Embedding.encode in cake_core/embedding.py).
//
// A point is a row of that message: real inputs, then samples as they ended, then samples at earlier moments, moment by
// moment. Its name ("r12", "s7", "s7@40") stays the same in every map of a run; what is selected is kept by names.

const SHOWN = 60; // selected images at most
const SECONDS = 6; // that the whole way takes when it is played
const REAL = "#8A8A8A", MADE = "#0072B2"; // as in cake_core/figures.py
// From faint to strong against the background, so that late steps and high values stand out in both themes.
const SCALES = { light: ["#b8de29", "#55c667", "#1f968b", "#33638d", "#440154"], dark: ["#3e4a89", "#26828e", "#35b779", "#b5de2b", "#fff3a0"] };
const BUTTONS = {
  2: [["lasso2d", "select2d", "pan2d", "zoom2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"], ["toImage"]],
  3: [["orbitRotation", "pan3d", "zoom3d"], ["resetCameraDefault3d"], ["toImage"]],
};
const views = new WeakMap();

// -- helpers ----------------------------------------------------------------------------------------------------------

const TYPES = { uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array, float32: Float32Array };

function decode(buffer) {
  const start = new DataView(buffer);
  if (start.getUint32(0) !== 0x43414b45) throw new Error("not a picture of feature space");
  const length = start.getUint32(4, true);
  const message = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  for (const part of message.parts) {
    const count = part.shape.reduce((a, b) => a * b, 1);
    message[part.name] = new TYPES[part.dtype](buffer, 8 + length + part.offset, count);
    message[part.name].shape = part.shape;
  }
  return message;
}

const element = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};
const css = (node, name) => getComputedStyle(node).getPropertyValue(name).trim();
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const mix = (a, b, t) => `rgb(${rgb(a).map((v, i) => Math.round(v + t * (rgb(b)[i] - v)))})`;

function loadPlotly(url) {
  if (window.Plotly?.newPlot) return Promise.resolve(window.Plotly);
  window.cakePlotly ??= new Promise((resolve, reject) => {
    document.head.append(element("script", { src: url, onload: () => resolve(window.Plotly), onerror: reject }));
  });
  return window.cakePlotly;
}

const hasWebGL = (() => {
  let known;
  return () => (known ??= !!document.createElement("canvas").getContext("webgl"));
})();

const SHAPES = { real: '<circle cx="5" cy="5" r="3.6" fill="none" stroke="currentColor" stroke-width="1.4"/>', synthetic: '<path d="M5 .6 9.4 5 5 9.4 .6 5z" fill="currentColor"/>' };
const shape = (source) => `<svg viewBox="0 0 10 10" aria-hidden="true">${SHAPES[source]}</svg>`;

// -- the view ---------------------------------------------------------------------------------------------------------

class EmbeddingView {
  constructor(root, component) {
    this.root = root.querySelector(".cake-embedding");
    const $ = (selector) => this.root.querySelector(selector);
    this.dom = Object.fromEntries(
      ["banner", "time", "play", "clock", "plot", "legend", "side", "count", "clear", "hint", "thumbs", "more", "card", "words"].map((n) => [n, $(`.${n}`)]),
    );
    this.dom.slider = $("input");
    this.dom.image = $(".card canvas");
    this.chosen = new Set(); // names of the selected points
    this.hidden = new Set(); // what the legend has switched off
    this.moment = Infinity; // where the slider stands, in moments; beyond the last: the end
    this.pointer = { x: 0, y: 0, shift: false };
    this.dom.clear.onclick = () => this.choose([]);
    this.dom.play.onclick = () => this.toggle();
    this.dom.slider.oninput = () => this.seek(+this.dom.slider.value, false);
    const track = (event) => {
      const box = this.root.getBoundingClientRect();
      this.pointer = { x: event.clientX - box.left, y: event.clientY - box.top, shift: event.shiftKey };
    };
    for (const kind of ["pointermove", "pointerdown", "pointerup"]) this.dom.plot.addEventListener(kind, track, true);
    this.dom.plot.addEventListener("pointerdown", (event) => this.press(event), true);
    this.dom.plot.addEventListener("pointerup", () => this.release(), true);
    this.dom.plot.addEventListener("pointerleave", () => this.hideCard());
    this.resized = new ResizeObserver(() => this.resize());
    this.resized.observe(this.dom.plot);
    window.cakeEmbedding?.opened?.(this); // for tests
    this.update(component);
  }

  update({ data, setStateValue }) {
    const before = this.data ?? {};
    Object.assign(this, { data, setStateValue });
    const recoloured = this.readTheme();
    if (data.run !== before.run) {
      this.chosen = new Set(data.chosen);
      this.hidden.clear();
    }
    if (data.colour !== before.colour) this.hidden.clear();
    this.dom.plot.setAttribute("aria-label", data.alt);
    if (data.scene !== before.scene) this.load();
    else if (recoloured || data.colour !== before.colour || data.trajectories !== before.trajectories) this.show();
  }

  async load() {
    const address = this.data.scene;
    this.pause();
    try {
      const fetching = fetch(new URL(address, document.baseURI)).then((answer) => {
        if (!answer.ok) throw new Error(`${answer.status} for ${address}`);
        return answer.arrayBuffer();
      });
      const [plotly, buffer] = await Promise.all([loadPlotly(this.data.plotly), fetching]);
      if (this.gone || address !== this.data.scene) return; // another was asked for in the meantime
      this.P = plotly;
      this.prepare(decode(buffer));
      this.dom.banner.hidden = true;
    } catch (error) {
      this.dom.banner.textContent = "The picture could not be loaded. Reload the page; if that does not help, check the network.";
      this.dom.banner.hidden = false;
      console.error(error);
      return;
    }
    this.show();
  }

  prepare(scene) {
    const s = (this.scene = scene), rows = s.index.length;
    s.dimensions = s.position.shape[1];
    s.last = Math.max(0, s.moments.length - 1); // the last moment, counted from 0
    s.ended = rows - s.last * s.tracked.length;
    s.sample = Array.from(s.index, (i, row) => (row < s.real ? `r${i}` : `s${i}`));
    s.name = s.sample.map((name, row) => (row < s.ended ? name : `${name}@${s.step[row]}`));
    s.row = new Map(s.name.map((name, row) => [name, row]));
    s.images = s.shown.shape.length > 2;
    s.batches = s.batch.reduce((most, b) => Math.max(most, b), 0) + 1;
    s.longest = s.step.reduce((most, n) => Math.max(most, n), 0);
    this.root.dataset.kind = s.images ? "images" : "points";
    this.picked = new Set([...this.chosen].filter((name) => s.row.has(name)).map((name) => s.sample[s.row.get(name)]));
  }

  // -- which points, where, in which colour -------------------------------------------------------------------------

  get steps() {
    return this.data.colour === "step" && this.scene.last > 0; // all moments are points
  }
  get timed() {
    return this.scene.last > 0 && (this.data.trajectories || this.steps);
  }
  get now() {
    return this.timed ? Math.min(this.moment, this.scene.last) : this.scene.last;
  }
  at(row) {
    const { position, dimensions: d } = this.scene;
    return Array.from({ length: d }, (_, axis) => position[row * d + axis]);
  }
  rowAt(moment, k) {
    // The row of the k-th sample with a history at a moment of it.
    const s = this.scene;
    return moment >= s.last ? s.tracked[k] : s.ended + moment * s.tracked.length + k;
  }
  makePlaces() {
    // Synthetic points as they stand now: [row, position].
    const s = this.scene, places = [], samples = s.tracked.length, now = this.now, whole = Math.floor(now), part = now - whole;
    if (this.steps) {
      for (let m = 0; m <= whole; m++) for (let k = 0; k < samples; k++) places.push([this.rowAt(m, k), this.at(this.rowAt(m, k))]);
    } else if (now >= s.last) {
      for (let row = s.real; row < s.ended; row++) places.push([row, this.at(row)]);
    } else {
      for (let k = 0; k < samples; k++) {
        const from = this.at(this.rowAt(whole, k)), to = this.at(this.rowAt(whole + 1, k));
        places.push([this.rowAt(Math.round(now), k), from.map((v, axis) => v + part * (to[axis] - v))]);
      }
    }
    return places.filter(([row]) => this.isOn(row));
  }
  isOn(row) {
    const s = this.scene;
    return !this.hidden.has(row < s.real ? "real" : "synthetic") && !(this.data.colour === "class" && this.hidden.has(s.label[row]));
  }
  isLit(row) {
    const s = this.scene;
    if (!this.chosen.size) return true;
    return this.chosen.has(s.name[row]) || this.chosen.has(s.sample[row]) || (!this.steps && this.picked.has(s.sample[row]));
  }
  classColour(k) {
    const own = this.data.colours[k % this.data.colours.length];
    return this.theme.dark ? mix(own, "#ffffff", 0.28) : own; // or the darker ones would drown
  }
  scale(t) {
    const stops = SCALES[this.theme.dark ? "dark" : "light"], x = Math.max(0, Math.min(1, t)) * (stops.length - 1), i = Math.min(stops.length - 2, Math.floor(x));
    return mix(stops[i], stops[i + 1], x - i);
  }
  colourOf(row) {
    const s = this.scene, real = row < s.real;
    if (this.data.colour === "class") return this.classColour(s.label[row]);
    if (this.data.colour === "confidence") return this.scale((s.confidence[row] - 1 / s.classes.length) / (1 - 1 / s.classes.length));
    if (real) return this.theme.dark ? "#a8a8a8" : REAL;
    if (this.data.colour === "batch") return this.scale(s.batches > 1 ? s.batch[row] / (s.batches - 1) : 1);
    if (this.data.colour === "step") return this.scale(s.longest ? s.step[row] / s.longest : 1);
    return this.theme.dark ? mix(MADE, "#ffffff", 0.35) : MADE;
  }

  // -- drawing ------------------------------------------------------------------------------------------------------

  show() {
    if (!this.scene) return;
    this.draw();
    this.showTime();
    this.showLegend();
    this.showSelection();
    this.root.dataset.ready = this.data.scene; // for tests
  }

  columns(places) {
    const axes = Array.from({ length: this.scene.dimensions }, (_, axis) => places.map(([, at]) => at[axis]));
    return Object.fromEntries(axes.map((values, axis) => ["xyz"[axis], values]));
  }
  points(places, real, lit) {
    const three = this.scene.dimensions === 3, size = three ? 3.2 : real ? 6.5 : 6, color = places.map(([row]) => this.colourOf(row));
    return {
      type: three ? "scatter3d" : hasWebGL() ? "scattergl" : "scatter", mode: "markers", hoverinfo: "none", ...this.columns(places),
      marker: {
        size: lit && this.chosen.size ? size * 1.35 : size, symbol: real ? "circle-open" : "diamond", color,
        opacity: lit ? (real ? 0.75 : 0.85) : 0.13, line: real ? { width: 1.3, color } : { width: 0 },
      },
    };
  }
  madeGroups() {
    // Synthetic points that are not selected, and those that are (or all, where nothing is).
    const places = this.makePlaces();
    return [false, true].map((lit) => places.filter(([row]) => this.isLit(row) === lit));
  }
  lines() {
    // One trace for each stretch between two moments: faint at the start, strong at the end.
    const s = this.scene, three = s.dimensions === 3;
    if (!this.data.trajectories || !s.last) return [];
    const drawn = Array.from(s.tracked.keys()).filter((k) => {
      const row = s.tracked[k];
      return this.isOn(row) && (!this.chosen.size || this.picked.has(s.sample[row]));
    });
    const strength = Math.max(0.4, Math.min(0.9, 40 / drawn.length)); // many lines must not cover the points
    return Array.from({ length: s.last }, (_, m) => {
      const gap = Array(s.dimensions).fill(null);
      const places = drawn.flatMap((k) => [[0, this.at(this.rowAt(m, k))], [0, this.at(this.rowAt(m + 1, k))], [0, gap]]);
      const share = (m + 1) / s.last;
      return {
        type: three ? "scatter3d" : hasWebGL() ? "scattergl" : "scatter", mode: "lines", hoverinfo: "skip", connectgaps: false, ...this.columns(places),
        line: { width: this.chosen.size ? 2 : 1.2, color: this.data.colour === "step" ? this.scale(share) : this.theme.text },
        opacity: strength * (this.data.colour === "step" ? 1 : 0.25 + 0.75 * share), visible: m < this.now,
      };
    });
  }
  layout() {
    const s = this.scene, used = [...Array(s.ended).keys()].filter((row) => row < s.ended);
    if (this.timed) for (let row = s.ended; row < s.index.length; row++) used.push(row);
    const bare = { showticklabels: false, title: { text: "" }, zeroline: false, showspikes: false, ticks: "", gridcolor: this.theme.line };
    const axes = Array.from({ length: s.dimensions }, (_, axis) => {
      let low = Infinity, high = -Infinity;
      for (const row of used) {
        const v = s.position[row * s.dimensions + axis];
        if (v < low) low = v;
        if (v > high) high = v;
      }
      const margin = 0.05 * (high - low || 1);
      return { ...bare, range: [low - margin, high + margin], showbackground: false };
    });
    const common = {
      ...this.size(), margin: { l: 6, r: 6, t: 6, b: 6 }, showlegend: false, hovermode: "closest", uirevision: this.data.scene, selectionrevision: (this.revision = (this.revision ?? 0) + 1),
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: this.theme.text }, selections: [],
      modebar: { bgcolor: "rgba(0,0,0,0)", color: this.theme.text, activecolor: this.theme.text },
    };
    if (s.dimensions === 3) return { ...common, scene: { xaxis: axes[0], yaxis: axes[1], zaxis: axes[2], aspectmode: "data", dragmode: "orbit", camera: { eye: { x: 1, y: 1, z: 0.65 } } } };
    return {
      ...common, dragmode: "lasso", xaxis: axes[0], yaxis: { ...axes[1], scaleanchor: "x", scaleratio: 1 },
      newselection: { line: { color: this.theme.text, width: 1.5, dash: "dot" } },
    };
  }
  size() {
    const width = this.dom.plot.clientWidth || 320, height = Math.round(Math.max(320, Math.min(620, 0.95 * width)));
    this.dom.plot.style.height = `${height}px`;
    return { width, height };
  }
  resize() {
    if (this.drawn && this.dom.plot.clientWidth && this.dom.plot._fullLayout?.width !== this.dom.plot.clientWidth) this.P.relayout(this.dom.plot, this.size());
  }

  draw() {
    const s = this.scene, plot = this.dom.plot;
    if (this.drawn && this.drawn !== s.dimensions) {
      this.P.purge(plot);
      this.drawn = 0;
    }
    const real = [...Array(s.real).keys()].filter((row) => this.isOn(row)).map((row) => [row, this.at(row)]);
    const lines = this.lines(), [others, made] = this.madeGroups();
    const groups = [[real.filter(([row]) => !this.isLit(row)), true, false], [others, false, false], [real.filter(([row]) => this.isLit(row)), true, true], [made, false, true]];
    const ring = { ...this.points([], true, true), hoverinfo: "skip", marker: { size: s.dimensions === 3 ? 8 : 17, symbol: "circle-open", color: this.theme.text, line: { width: 2.5 } } };
    this.offset = lines.length; // where the traces with points begin
    this.rows = groups.map(([places]) => places.map(([row]) => row));
    this.P.react(plot, [...lines, ...groups.map((group) => this.points(...group)), ring], this.layout(), {
      displaylogo: false, displayModeBar: true, doubleClick: "reset", modeBarButtons: s.dimensions === 3 ? BUTTONS[3] : BUTTONS[2],
      toImageButtonOptions: { filename: "embedding", scale: 2 },
    });
    if (!this.drawn) this.listen(plot);
    this.drawn = s.dimensions;
    Object.assign(this.root.dataset, { lines: String(lines.length ? lines[0].x.length / 3 : 0), points: String(this.rows.flat().length) });
  }
  move() {
    // Only what moves is drawn anew.
    if (!this.drawn) return;
    const groups = this.madeGroups(), traces = groups.map((places, i) => this.points(places, false, i === 1)), plot = this.dom.plot;
    this.rows[1] = groups[0].map(([row]) => row);
    this.rows[3] = groups[1].map(([row]) => row);
    const changed = { "marker.color": traces.map((t) => t.marker.color) };
    for (const axis of "xyz".slice(0, this.scene.dimensions)) changed[axis] = traces.map((t) => t[axis]);
    const visible = Array.from({ length: this.offset }, (_, m) => m < this.now), key = visible.indexOf(false);
    if (this.offset && key !== this.visible) this.P.restyle(plot, { visible }, [...visible.keys()]);
    this.visible = key;
    return this.P.restyle(plot, changed, [this.offset + 1, this.offset + 3]);
  }

  // -- moments ------------------------------------------------------------------------------------------------------

  showTime() {
    const { time, slider, clock, play } = this.dom, s = this.scene;
    time.hidden = !this.timed;
    if (!this.timed) return this.pause();
    slider.max = s.last;
    slider.value = this.now;
    const whole = Math.floor(this.now), next = Math.min(s.last, whole + 1), step = Math.round(s.moments[whole] + (this.now - whole) * (s.moments[next] - s.moments[whole]));
    clock.textContent = `step ${step} of ${s.moments[s.last]}`;
    // The others were not kept on their way.
    if (this.steps || this.now < s.last) clock.textContent += `, ${s.tracked.length} samples with a history`;
    slider.setAttribute("aria-valuetext", clock.textContent);
    play.textContent = this.playing ? "❚❚ Pause" : "▶ Play";
    this.root.dataset.moment = this.now.toFixed(2);
  }
  seek(moment, playing = this.playing) {
    if (!playing) this.pause();
    this.moment = moment >= this.scene.last ? Infinity : moment;
    this.hideCard();
    this.move();
    this.showTime();
  }
  toggle() {
    if (this.playing) {
      this.pause();
      return this.showTime();
    }
    this.playing = true;
    let moment = this.now >= this.scene.last ? 0 : this.now, before = performance.now();
    const tick = async () => {
      if (!this.playing || this.gone) return;
      const now = performance.now();
      moment += (this.scene.last * Math.min(250, now - before)) / (1000 * SECONDS);
      before = now;
      if (moment >= this.scene.last) this.playing = false;
      this.seek(moment, true);
      this.request = requestAnimationFrame(tick);
    };
    this.seek(moment, true);
    this.request = requestAnimationFrame(tick);
  }
  pause() {
    this.playing = false;
    cancelAnimationFrame(this.request);
  }

  // -- hover and selection ------------------------------------------------------------------------------------------

  rowOf(point) {
    return this.rows[point.curveNumber - this.offset]?.[point.pointNumber];
  }
  listen(plot) {
    const rowsOf = (event) => (event?.points ?? []).map((point) => this.rowOf(point)).filter((row) => row !== undefined);
    plot.on("plotly_hover", (event) => {
      const [row] = rowsOf(event);
      if (row !== undefined) this.showCard(row);
    });
    plot.on("plotly_unhover", () => this.hideCard());
    plot.on("plotly_click", (event) => {
      const [row] = rowsOf(event);
      if (row !== undefined && !this.byHand) this.toggleRow(row);
    });
    plot.on("plotly_selected", (event) => {
      if (!event?.points || !this.pressed) return; // it also comes when our own drawing takes the outline away
      const rows = [...new Set(rowsOf(event))].sort((a, b) => a - b), before = this.pointer.shift ? [...this.chosen] : [];
      this.choose([...before, ...rows.map((row) => this.scene.name[row])]);
    });
  }
  press(event) {
    // Two presses at one place, which select nothing, end the selection.
    const before = this.pressed, { x, y } = this.pointer;
    this.pressed = { at: event.timeStamp, x, y, mouse: event.pointerType === "mouse", row: this.hovered ?? null };
    const twice = before && event.timeStamp - before.at < 400 && Math.hypot(x - before.x, y - before.y) < 6;
    if (twice && ["lasso", "select"].includes(this.dom.plot._fullLayout?.dragmode) && this.chosen.size) this.choose([]);
  }
  get byHand() {
    // In 3-D Plotly sees a press only nearer to a point than where it shows its image, and only while it draws. So with a
    // mouse the point whose image is shown is taken.
    return this.scene?.dimensions === 3 && this.pressed?.mouse;
  }
  release() {
    if (!this.byHand) return;
    const { x, y, row } = this.pressed, turned = Math.hypot(this.pointer.x - x, this.pointer.y - y) > 4;
    if (row !== null && !turned) this.toggleRow(row);
  }
  toggleRow(row) {
    const chosen = new Set(this.chosen), name = this.scene.name[row];
    if (!chosen.delete(name)) chosen.add(name);
    this.choose([...chosen]);
  }
  choose(names) {
    const s = this.scene;
    this.pressed = false;
    this.chosen = new Set(names);
    this.picked = new Set([...this.chosen].filter((name) => s.row.has(name)).map((name) => s.sample[s.row.get(name)]));
    this.hideCard();
    // Not within Plotly's own event: it has not finished with the old picture.
    setTimeout(() => this.gone || (this.draw(), this.showSelection()));
    this.setStateValue("selected", { run: this.data.run, names: [...this.chosen] });
  }

  words(row) {
    const s = this.scene, real = row < s.real, lines = [];
    lines.push(`${real ? "Real input" : "Sample"} ${s.index[row]}`);
    lines.push(real ? `class ${s.classes[s.label[row]]}, read as ${s.classes[s.answer[row]]}` : `read as ${s.classes[s.answer[row]]}`);
    lines.push(`confidence ${(100 * s.confidence[row]).toFixed(1)} %`);
    if (!real) lines.push(`mini-batch ${s.batch[row] + 1}, step ${s.step[row]}`);
    if (!s.images) lines.push(`(${s.shown[2 * row].toFixed(2)}, ${s.shown[2 * row + 1].toFixed(2)})`);
    return lines;
  }
  paint(canvas, row) {
    const [, height, width, colours = 1] = this.scene.shown.shape, image = new ImageData(width, height), start = row * height * width * colours;
    for (let i = 0; i < height * width; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = this.scene.shown[start + i * colours + (colours === 3 ? c : 0)];
      image.data[4 * i + 3] = 255;
    }
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }
  showCard(row) {
    const { card, image, words } = this.dom, s = this.scene;
    image.hidden = !s.images;
    if (s.images) this.paint(image, row);
    const [title, ...rest] = this.words(row);
    words.replaceChildren(element("b", { textContent: title }), ...rest.flatMap((line) => [element("br"), line]));
    card.dataset.name = s.name[row];
    card.hidden = false;
    this.hovered = row;
    // Beside the pointer, on the side that has room.
    const { x, y } = this.pointer, { offsetWidth: w, offsetHeight: h } = card, most = this.root.clientWidth - w - 4;
    card.style.left = `${Math.max(4, x + 16 + w > this.root.clientWidth ? Math.min(most, x - w - 16) : x + 16)}px`;
    card.style.top = `${Math.max(0, y - h / 2)}px`;
  }
  hideCard() {
    this.hovered = null;
    this.dom.card.hidden = true;
  }
  ring(row) {
    const at = row === null ? null : this.at(row), values = {};
    for (let axis = 0; axis < this.scene.dimensions; axis++) values["xyz"[axis]] = [at ? [at[axis]] : []];
    this.P.restyle(this.dom.plot, values, [this.offset + 4]);
  }
  showSelection() {
    const { count, clear, hint, thumbs, more } = this.dom, s = this.scene;
    const rows = [...this.chosen].map((name) => s.row.get(name)).filter((row) => row !== undefined);
    count.textContent = rows.length ? `${rows.length.toLocaleString("en")} selected` : "";
    clear.hidden = !rows.length;
    hint.textContent = rows.length ? "" : s.dimensions === 3 ? "Click points to select them; drag to turn the picture." : "Draw a line around points to select them, or click one. With Shift, more are added.";
    thumbs.replaceChildren();
    more.textContent = "";
    this.root.dataset.selected = String(rows.length);
    if (!s.images) return;
    const kept = rows.length <= SHOWN ? rows : Array.from({ length: SHOWN }, (_, i) => rows[Math.round((i * (rows.length - 1)) / (SHOWN - 1))]);
    for (const row of kept) {
      const source = row < s.real ? "real" : "synthetic", text = this.words(row).join(", ");
      const canvas = this.paint(element("canvas"), row);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", text);
      const caption = element("figcaption", { innerHTML: shape(source) });
      caption.style.color = this.colourOf(row);
      caption.append(element("span", { textContent: ` ${s.classes[s.label[row]]}`, style: `color:${this.theme.text}` }));
      const figure = element("figure", { title: text }, canvas, caption);
      figure.dataset.name = s.name[row];
      figure.onpointerenter = () => this.ring(row);
      figure.onpointerleave = () => this.ring(null);
      thumbs.append(figure);
    }
    if (rows.length > SHOWN) more.textContent = `and ${(rows.length - SHOWN).toLocaleString("en")} more: ${SHOWN} are shown, evenly picked. The table has all.`;
  }

  // -- legend and theme ---------------------------------------------------------------------------------------------

  showLegend() {
    const { legend } = this.dom, s = this.scene, { colour } = this.data, items = [];
    const toggle = (what, html, colour) => {
      const on = !this.hidden.has(what), button = element("button", { type: "button", innerHTML: html, title: "Show or hide" });
      button.setAttribute("aria-pressed", String(on));
      if (colour) button.firstChild.style.color = colour;
      button.onclick = () => {
        if (!this.hidden.delete(what)) this.hidden.add(what);
        this.draw();
        this.showLegend();
      };
      return button;
    };
    const bySource = colour === "source" ? [this.colourOf(0), this.colourOf(s.real)] : [];
    items.push(toggle("real", `${shape("real")} real`, bySource[0]), toggle("synthetic", `${shape("synthetic")} synthetic`, bySource[1]));
    if (colour === "class") {
      const present = new Set(s.label);
      s.classes.forEach((name, k) => {
        if (!present.has(k)) return;
        const button = toggle(k, "<i></i>");
        button.firstChild.style.background = this.classColour(k);
        button.append(name);
        items.push(button);
      });
    } else if (colour !== "source") {
      const ends = {
        confidence: [`${Math.round(100 / s.classes.length)} %`, "100 % confident"], batch: ["mini-batch 1", String(s.batches)], step: ["step 0", String(s.longest)],
      }[colour];
      const bar = element("i"), stops = Array.from({ length: 9 }, (_, i) => this.scale(i / 8));
      bar.style.background = `linear-gradient(90deg, ${stops})`;
      items.push(element("span", { className: "scale" }, ends[0], bar, ends[1]));
    }
    legend.replaceChildren(...items);
  }
  readTheme() {
    const background = css(this.root, "--st-background-color") || "#ffffff", probe = element("span", { style: `color:${background}` });
    this.root.append(probe);
    const parts = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
    probe.remove();
    const dark = parts[0] + parts[1] + parts[2] < 384;
    this.root.style.colorScheme = this.root.dataset.theme = dark ? "dark" : "light";
    if (this.theme?.name === background) return false;
    this.theme = { name: background, dark, text: css(this.root, "--st-text-color") || "#222222", line: css(this.root, "--st-border-color") || "#dddddd" };
    return true;
  }

  destroy() {
    this.gone = true;
    this.pause();
    this.resized.disconnect();
    if (this.drawn) this.P.purge(this.dom.plot);
  }
}

export default function (component) {
  const { parentElement } = component;
  const view = views.get(parentElement);
  if (view) view.update(component);
  else views.set(parentElement, new EmbeddingView(parentElement, component));
  return () => unmount(parentElement);
}

export function unmount(parentElement) {
  views.get(parentElement)?.destroy();
  views.delete(parentElement);
}
