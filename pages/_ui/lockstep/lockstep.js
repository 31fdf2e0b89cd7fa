// Pictures of one to four stored runs. Each run comes as one tall image, picture below picture, and the steps that they
// show; one slider, in steps, moves through all: a run shows its latest picture up to that step, and rests when it has ended.

const SECONDS = 6; // that the longest run takes when it is played
const views = new WeakMap();

const element = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};

class Lockstep {
  constructor(parent, component) {
    this.root = parent.querySelector(".cake-lockstep");
    const find = (name) => this.root.querySelector(name);
    Object.assign(this, { button: find(".play"), slider: find("input"), clock: find(".clock"), panes: find(".panes"), playing: false });
    this.button.onclick = () => this.toggle();
    this.slider.oninput = () => (this.stop(), this.draw());
    this.update(component);
  }

  update({ data }) {
    const key = JSON.stringify(data.panes);
    if (key === this.key) return;
    this.key = key;
    this.root.dataset.state = "loading";
    this.stop();
    this.last = Math.max(1, ...data.panes.flatMap((p) => p.steps));
    Object.assign(this.slider, { max: this.last, value: this.last });
    this.shown = data.panes.map((pane) => {
      const words = element("span"), canvas = element("canvas");
      const figure = element("figure", {}, element("figcaption", {}, element("b", { textContent: pane.title }), " ", words));
      const one = { ...pane, words, canvas, figure, at: -1, image: null };
      if (pane.steps.length) {
        figure.append(canvas);
        const image = new Image();
        image.onload = () => ((one.image = image), this.draw());
        image.onerror = () => canvas.replaceWith(element("div", { className: "missing", textContent: "The pictures could not be loaded. Reload the page." }));
        image.src = new URL(pane.src, document.baseURI).href;
      } else figure.append(element("div", { className: "missing", textContent: "This run has kept no pictures." }));
      return one;
    });
    this.panes.replaceChildren(...this.shown.map((p) => p.figure));
    this.draw();
  }

  draw() {
    const now = Number(this.slider.value);
    this.clock.textContent = `step ${now} of ${this.last}`;
    for (const pane of this.shown) {
      if (!pane.steps.length) continue;
      const at = Math.max(0, pane.steps.findLastIndex((s) => s <= now)), end = pane.steps[pane.steps.length - 1];
      const words = now >= end ? `ended at step ${end}` : `step ${pane.steps[at]}`;
      if (pane.words.textContent !== words) pane.words.textContent = words;
      if (!pane.image || at === pane.at) continue;
      const { width, naturalHeight } = pane.image, height = naturalHeight / pane.steps.length;
      if (pane.canvas.width !== width || pane.canvas.height !== height) Object.assign(pane.canvas, { width, height });
      pane.canvas.getContext("2d").drawImage(pane.image, 0, at * height, width, height, 0, 0, width, height);
      pane.canvas.setAttribute("role", "img");
      pane.canvas.setAttribute("aria-label", `${pane.title} at step ${pane.steps[at]}`);
      pane.at = at;
    }
    if (this.shown.every((p) => p.image || !p.steps.length)) this.root.dataset.state = "ready";
  }

  toggle() {
    if (this.playing) return this.stop();
    if (Number(this.slider.value) >= this.last) this.slider.value = 0;
    this.playing = true;
    this.button.textContent = "❚❚ Pause";
    const from = Number(this.slider.value), start = performance.now();
    const move = (now) => {
      if (!this.playing) return;
      this.slider.value = Math.min(this.last, from + ((now - start) / 1000 / SECONDS) * this.last);
      this.draw();
      if (Number(this.slider.value) >= this.last) this.stop();
      else requestAnimationFrame(move);
    };
    requestAnimationFrame(move);
  }

  stop() {
    this.playing = false;
    this.button.textContent = "▶ Play";
  }
}

export default function (component) {
  const { parentElement } = component;
  const view = views.get(parentElement);
  if (view) view.update(component);
  else views.set(parentElement, new Lockstep(parentElement, component));
  return () => unmount(parentElement);
}

export function unmount(parentElement) {
  views.get(parentElement)?.stop();
  views.delete(parentElement);
}
