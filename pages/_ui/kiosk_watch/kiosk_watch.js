// For a stand. While the show goes on, the first touch or key hands the screen over (and does nothing else); after that,
// some time without either begins the show again. Python says which of both it is, and is told when it changes.

const EVENTS = ["pointerdown", "keydown", "wheel", "touchstart"];
const WARNING = 10; // seconds before the end in which it is announced
const watches = new WeakMap();

class Watch {
  constructor(root, component) {
    this.root = root.querySelector(".cake-kiosk");
    this.onEvent = (event) => this.touched(event);
    for (const name of EVENTS) window.addEventListener(name, this.onEvent, { capture: true, passive: false });
    this.clock = setInterval(() => this.tick(), 250);
    this.update(component);
  }
  update({ data, setTriggerValue }) {
    const before = this.data ?? {};
    Object.assign(this, { data, setTriggerValue });
    const key = `${data.mode}/${data.turn}/${data.ended}`;
    if (key !== this.key) Object.assign(this, { key, since: performance.now(), told: false });
    if (data.mode !== before.mode) this.last = performance.now();
    this.root.querySelector(".call").hidden = this.root.querySelector(".now").hidden = data.mode !== "show";
    this.root.querySelector(".now").textContent = data.now;
    this.tick();
  }
  touched(event) {
    this.last = performance.now();
    if (this.data.mode !== "show") return this.tick();
    event.preventDefault();
    event.stopImmediatePropagation();
    this.tell("taken");
  }
  tick() {
    const { mode, idle, seconds, rest, ended } = this.data, now = performance.now();
    const left = mode === "show" ? null : Math.ceil(idle - (now - this.last) / 1000);
    if (mode === "show" && now - this.since > 1000 * (ended ? rest : seconds)) this.tell("next");
    if (mode !== "show" && left <= 0) this.tell("idle");
    this.look(mode === "show" && ended);
    const text = left !== null && left <= Math.min(WARNING, idle / 2) ? `Still there? The show begins again in ${Math.max(0, left)} s.` : "";
    const line = this.root.querySelector(".left");
    if (line.textContent !== text) line.textContent = text;
    this.root.hidden = mode !== "show" && !text;
  }
  look(down) {
    // Nobody scrolls a stand: its outcome comes into view when there is one, and goes when the next preset begins.
    if (down === (this.down ?? false)) return;
    const heading = [...document.querySelectorAll("h3")].find((h) => h.textContent.trim() === this.data.outcome);
    if (down && !heading) return; // not yet
    this.down = down;
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
    if (down) heading.scrollIntoView({ behavior, block: "start" });
    else this.root.closest("[data-testid=stMain]")?.scrollTo({ top: 0, behavior });
  }
  tell(what) {
    if (this.told && performance.now() - this.told < 5000) return; // it is on its way; once more if nothing came of it
    this.told = performance.now();
    this.setTriggerValue(what, `${this.key}/${Date.now()}`);
  }
  destroy() {
    clearInterval(this.clock);
    for (const name of EVENTS) window.removeEventListener(name, this.onEvent, { capture: true });
  }
}

export default function (component) {
  const { parentElement } = component;
  const watch = watches.get(parentElement);
  if (watch) watch.update(component);
  else watches.set(parentElement, new Watch(parentElement, component));
  return () => unmount(parentElement);
}

export function unmount(parentElement) {
  watches.get(parentElement)?.destroy();
  watches.delete(parentElement);
}
