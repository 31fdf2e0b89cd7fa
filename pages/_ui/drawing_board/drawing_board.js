// A board to draw points of several classes on. Strokes are kept here and told to Python when each has ended.

const COLOURS = ["#0072B2", "#D55E00", "#009E73"]; // as in the live view
const BRUSHES = [["spray", "Spray"], ["single", "One by one"], ["rub", "Rub out"]];
const SPREAD = 0.055; // of a spray, in half widths of the board
const APART = 0.03; // how far a pointer moves before the spray gives again
const views = new WeakMap();

const element = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};

function marker(g, k, x, y, r) {
  // One shape for each class, so that colour is not the only sign.
  g.beginPath();
  if (k === 0) g.arc(x, y, r, 0, 6.2832);
  else if (k === 1) g.rect(x - r * 0.88, y - r * 0.88, r * 1.76, r * 1.76);
  else {
    g.moveTo(x, y - 1.2 * r);
    g.lineTo(x + 1.1 * r, y + 0.8 * r);
    g.lineTo(x - 1.1 * r, y + 0.8 * r);
  }
  g.fill();
}

const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(6.2832 * Math.random());
const inside = (v) => Math.max(-1, Math.min(1, Math.round(v * 1e4) / 1e4));

class Board {
  constructor(root, component) {
    this.root = root.querySelector(".cake-draw");
    this.canvas = this.root.querySelector(":scope > canvas");
    this.history = [component.data.points ?? []]; // what was drawn after each stroke
    this.label = 0;
    this.brush = "spray";
    this.cross = [0, 0];
    this.update(component);
    this.build();
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.canvas);
  }
  update({ data, setStateValue }) {
    Object.assign(this, { data, setStateValue });
  }
  get points() {
    return this.history.at(-1);
  }

  build() {
    const radio = (name, value, checked, onchange, ...children) =>
      element("label", {}, element("input", { type: "radio", name: `cake-draw-${name}`, value, checked, onchange }), ...children);
    this.root.querySelector(".classes").append(
      ...this.data.classes.map((title, k) => {
        const sign = element("canvas", { width: 32, height: 32 }), g = sign.getContext("2d");
        sign.setAttribute("aria-hidden", "true");
        g.fillStyle = COLOURS[k];
        marker(g, k, 16, 16, 11);
        return radio("class", k, k === 0, () => (this.label = k), sign, title);
      }),
    );
    this.root.querySelector(".brushes").append(...BRUSHES.map(([name, title]) => radio("brush", name, name === this.brush, () => (this.brush = name), title)));
    this.root.querySelector(".back").onclick = () => this.back();
    this.root.querySelector(".clear").onclick = () => this.points.length && this.did([]);
    const c = this.canvas;
    c.onpointerdown = (event) => {
      if (event.button) return;
      c.setPointerCapture(event.pointerId);
      this.stroke = this.points;
      this.last = null;
      this.move(event);
    };
    c.onpointermove = (event) => {
      if (this.stroke) for (const e of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) this.move(e);
    };
    c.onpointerup = c.onpointercancel = () => this.end();
    c.onkeydown = (event) => this.key(event);
    c.onfocus = c.onblur = () => this.draw();
  }

  // -- drawing ---------------------------------------------------------------------------------------------------------

  move(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = [(2 * (event.clientX - box.left)) / box.width - 1, 1 - (2 * (event.clientY - box.top)) / box.height];
    if (this.last && (this.brush === "single" || Math.hypot(at[0] - this.last[0], at[1] - this.last[1]) < APART)) return;
    this.last = at;
    this.stroke = this.touched(this.stroke, at);
    this.draw();
  }
  touched(points, [x, y]) {
    // What there is after the brush was here.
    if (Math.abs(x) > 1 || Math.abs(y) > 1) return points;
    if (this.brush === "rub") return points.filter((p) => Math.hypot(p[0] - x, p[1] - y) > 2 * SPREAD);
    const many = this.brush === "spray" ? 3 : 1, spread = this.brush === "spray" ? SPREAD : 0;
    const fresh = Array.from({ length: many }, () => [inside(x + spread * normal()), inside(y + spread * normal()), this.label]);
    return [...points, ...fresh].slice(0, this.data.most);
  }
  end() {
    if (!this.stroke) return;
    const drawn = this.stroke;
    this.stroke = null;
    if (drawn !== this.points) this.did(drawn);
  }
  did(points) {
    this.history = [...this.history, points].slice(-100);
    this.tell();
  }
  back() {
    if (this.history.length < 2) return;
    this.history.pop();
    this.tell();
  }
  tell() {
    this.draw();
    this.setStateValue("points", this.points);
  }
  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }, move = moves[event.key];
    if (move) this.cross = this.cross.map((v, i) => Math.max(-1, Math.min(1, v + 0.06 * move[i])));
    else if (event.key === "Enter" || event.key === " ") this.did(this.touched(this.points, this.cross));
    else if (event.key === "Backspace") this.back();
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
  }

  draw() {
    const c = this.canvas, ratio = devicePixelRatio || 1, side = c.clientWidth, points = this.stroke ?? this.points;
    if (!side) return;
    if (c.width !== Math.round(side * ratio)) c.width = c.height = Math.round(side * ratio);
    const g = c.getContext("2d"), place = (v) => (side * (v + 1)) / 2;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, side, side);
    for (const [x, y, k] of points) {
      g.fillStyle = COLOURS[k];
      marker(g, k, place(x), place(-y), 3.6);
    }
    if (document.activeElement === c && c.matches(":focus-visible")) {
      const [x, y] = [place(this.cross[0]), place(-this.cross[1])];
      g.strokeStyle = getComputedStyle(c).color;
      g.lineWidth = 1.5;
      g.beginPath();
      g.moveTo(x - 9, y);
      g.lineTo(x + 9, y);
      g.moveTo(x, y - 9);
      g.lineTo(x, y + 9);
      g.stroke();
    }
    const counts = this.data.classes.map((title, k) => [points.filter((p) => p[2] === k).length, title]).filter(([n]) => n);
    this.root.querySelector(".count").textContent = counts.map(([n, title]) => `${n} ${title.toLowerCase()}`).join(", ") || "Nothing is drawn yet.";
  }
  destroy() {
    this.resized.disconnect();
  }
}

export default function (component) {
  const { parentElement } = component;
  const view = views.get(parentElement);
  if (view) view.update(component);
  else views.set(parentElement, new Board(parentElement, component));
  return () => unmount(parentElement);
}

export function unmount(parentElement) {
  views.get(parentElement)?.destroy();
  views.delete(parentElement);
}
