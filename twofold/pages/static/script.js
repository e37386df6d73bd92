"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

/* Directions: one panel is shown at a time. */

function choose(direction) {
  for (const button of all(".switch button")) button.ariaPressed = button.dataset.direction === direction;
  for (const panel of all(".panel")) panel.hidden = panel.dataset.key !== direction;
}

/* Over time: one grid of many is shown; the next is decoded before the last is hidden, so that nothing flickers. */

function timeSlider(panel) {
  const slider = panel.querySelector(".controls input"), play = panel.querySelector(".play");
  const box = panel.querySelector(".frames"), frames = box.children;
  let timer = 0, newest = true;

  const show = async (place) => {
    slider.value = place;
    const frame = frames[slider.value];
    newest = frame === box.lastElementChild;
    slider.ariaValueText = panel.querySelector(".moment").textContent = frame.dataset.label;
    frame.loading = "eager";
    await frame.decode().catch(() => {});
    if (frames[slider.value] === frame) for (const other of frames) other.hidden = other !== frame;
  };
  const run = (on) => {
    clearInterval(timer);
    timer = on && setInterval(() => newest ? run(false) : show(+slider.value + 1), 350);
    play.textContent = on ? "❚❚" : "▶";
    play.ariaLabel = on ? "Pause" : "Play through training";
  };
  play.onclick = () => {
    if (!timer) show(newest ? 0 : slider.value);
    run(!timer);
  };
  slider.oninput = () => { run(false); show(slider.value); };
  slider.value = slider.max; // browsers restore an older place on reload
  slider.ariaValueText = box.lastElementChild.dataset.label;
  panel.renew = (fresh) => { // stay with the newest, or with the one that is shown
    const known = new Map([...frames].map((img) => [img.src, img]));
    const next = all(".frames img", fresh).map((img) => known.get(img.src) ?? Object.assign(img, { hidden: true }));
    const shown = next.findIndex((img) => !img.hidden);
    box.replaceChildren(...next);
    slider.max = next.length - 1;
    slider.parentElement.hidden = next.length === 1;
    show(newest || shown < 0 ? slider.max : shown);
  };
}

/* Before and after: two cells of the newest grid; the divider clips one of them. */

function divider(panel) {
  const box = panel.querySelector(".before-after"), stage = box.querySelector(".stage");
  const range = stage.querySelector("input"), scenes = box.querySelector(".scenes");

  const pick = (row) => {
    stage.style.setProperty("--row", row);
    [...scenes.children].forEach((button, place) => { button.ariaPressed = place === row; });
  };
  const scene = (_, row) => Object.assign(document.createElement("button"), {
    type: "button", className: "cell", style: `--row: ${row}`, ariaLabel: `Scene ${row + 1}`, onclick: () => pick(row),
  });
  const showNewest = async () => {
    const newest = panel.querySelector(".frames img:last-child");
    newest.loading = "eager";
    try { await newest.decode(); } catch { return; }
    const rows = Math.max(1, Math.round(newest.naturalHeight * 3 / newest.naturalWidth));
    box.style.setProperty("--grid", `url("${newest.src}")`);
    if (+box.style.getPropertyValue("--rows") === rows) return;
    box.style.setProperty("--rows", rows);
    box.hidden = false;
    scenes.replaceChildren(...Array.from({ length: rows > 1 ? rows : 0 }, scene));
    pick(0);
  };
  const cut = () => stage.style.setProperty("--cut", `${range.value}%`);
  const drag = (event) => {
    if (!event.buttons) return;
    const place = stage.getBoundingClientRect();
    range.value = 100 * (event.clientX - place.left) / place.width;
    cut();
  };
  range.oninput = cut;
  stage.onpointerdown = (event) => { stage.setPointerCapture(event.pointerId); drag(event); };
  stage.onpointermove = drag;
  stage.onclick = () => range.focus({ preventScroll: true });
  cut();
  new MutationObserver(showNewest).observe(panel.querySelector(".frames"), { childList: true });
  showNewest();
}

/* Charts fill the width they have; pointer, finger and arrow keys read out values. */

const LEFT = 46, RIGHT = 10, TOP = 24, BOTTOM = 40, HEIGHT = 230;
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

function readable(value) {
  if (value === null) return "–";
  const size = Math.abs(value);
  if (size >= 1e5) return compact.format(value);
  return size && size < 1e-3 ? value.toExponential(1).replace('.0e', 'e') : String(+value.toPrecision(3));
}

function set(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
}

function element(name, attributes, parent, words = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  set(made, attributes);
  made.textContent = words;
  parent?.append(made);
  return made;
}

function ticks(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, k) => (first + k) * step);
}

/* Each value becomes the mean of the middle half of its neighbours within `reach`: spikes disappear, gaps stay.
   The neighbours are kept sorted, since sorting them for every value takes far longer. */

function smooth(values, reach) {
  if (!reach) return values;
  const near = []; // sorted
  const add = (value) => { if (value != null) near.splice(near.findLastIndex((each) => each < value) + 1, 0, value); };
  const remove = (value) => { if (value != null) near.splice(near.indexOf(value), 1); };
  values.slice(0, reach).forEach(add);
  return values.map((value, here) => {
    add(values[here + reach]);
    remove(values[here - reach - 1]);
    if (value === null) return null;
    const cut = near.length >> 2, middle = near.slice(cut, near.length - cut);
    return middle.reduce((sum, each) => sum + each, 0) / middle.length;
  });
}

const SHARES = [0, 0.01, 0.02, 0.05, 0.1, 0.2]; // the part of a curve that smoothing uses on each side of a value
let share = SHARES[2];

function limits(curves, zero) { // the smoothed curve and 98 % of the values are inside; a few spikes may be outside
  const raw = curves.flatMap((c) => c.values).filter((v) => v !== null).sort((p, q) => p - q);
  const at = (part) => raw[Math.round(part * (raw.length - 1))];
  const shown = [at(0.01), at(0.99), ...curves.flatMap((c) => c.smooth).filter((v) => v !== null), ...zero ? [0] : []];
  const low = Math.min(...shown), high = Math.max(...shown), room = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
  return [zero && low === 0 ? 0 : low - room, high + room];
}

function line(images, values, x, y) {
  const point = (value, k) => `${values[k - 1] == null ? "M" : "L"}${x(images[k]).toFixed(1)} ${y(value).toFixed(1)}`;
  return values.map((value, k) => value === null ? "" : point(value, k)).join("");
}

function draw(figure) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const plot = figure.querySelector(".plot"), width = plot.clientWidth;
  if (!width) return;
  const curves = data.curves.map((c) => {
    const images = data.axes[c.axis];
    return { ...c, images, smooth: smooth(c.values, Math.floor(images.length * share)) };
  });
  const right = width - RIGHT, bottom = HEIGHT - BOTTOM, most = Math.max(...curves.map((c) => c.images.at(-1))) || 1;
  const [low, high] = limits(curves, data.zero);
  const x = (images) => LEFT + (right - LEFT) * images / most;
  const y = (value) => bottom - (bottom - TOP) * (Math.min(Math.max(value, low), high) - low) / (high - low);

  const summary = curves.map((c) => `${c.label} from ${readable(c.smooth[0])} to ${readable(c.smooth.at(-1))}`);
  const svg = element("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, tabindex: 0, role: "img",
    "aria-label": `${data.title}, over ${readable(most)} images: ${summary.join(", ")}. Use the arrow keys to read values.`,
  });
  element("text", { x: 0, y: 12 }, svg, data.unit);
  element("text", { x: (LEFT + right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, svg, "images seen");
  for (const value of ticks(low, high, 5)) {
    element("line", { class: "tick", x1: LEFT, x2: right, y1: y(value), y2: y(value) }, svg);
    element("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, svg, readable(value));
  }
  for (const count of ticks(0, most, Math.max(2, width / 110))) {
    element("text", { x: Math.min(x(count), right - 8), y: bottom + 18, "text-anchor": "middle" }, svg, compact.format(count));
  }
  for (const c of curves) {
    const group = element("g", { class: c.colour }, svg);
    if (c.values.some((value, place) => value !== c.smooth[place])) {
      element("path", { class: "faint", d: line(c.images, c.values, x, y) }, group);
    }
    element("path", { d: line(c.images, c.smooth, x, y) }, group);
    if (c.values.length === 1) element("circle", { r: 3, cx: x(c.images[0]), cy: y(c.values[0]) }, group);
  }
  const focused = plot.contains(document.activeElement);
  plot.replaceChildren(svg);
  if (focused) svg.focus({ preventScroll: true });
  readout(figure, svg, curves, x, y);
}

const nearest = (images, count) => images.reduce((best, each, place) => Math.abs(each - count) < Math.abs(images[best] - count) ? place : best, 0);

function readout(figure, svg, curves, x, y) {
  const rule = element("line", { class: "rule", y1: TOP, y2: HEIGHT - BOTTOM }, svg);
  const dots = curves.map((c) => element("circle", { r: 4 }, element("g", { class: c.colour }, svg)));
  const values = all(".legend b", figure), where = figure.querySelector(".where");
  const longest = curves.map((c) => c.images).reduce((p, q) => q.at(-1) > p.at(-1) ? q : p), most = longest.at(-1);

  const read = (count) => { // show the values at this count of images; null: the last ones
    figure.at = count;
    set(rule, { x1: x(count), x2: x(count), visibility: count === null ? "hidden" : "visible" });
    where.textContent = count === null ? "" : `at ${count.toLocaleString("en")} images`;
    curves.forEach((c, k) => {
      const place = nearest(c.images, count ?? most), value = count > c.images.at(-1) ? null : c.smooth[place];
      values[k].textContent = readable(value);
      set(dots[k], { cx: x(c.images[place]), cy: y(value), visibility: value === null ? "hidden" : "visible" });
    });
  };
  const point = (event) => {
    const across = event.clientX - svg.getBoundingClientRect().left;
    read(longest[nearest(longest, (across - x(0)) * most / ((x(most) - x(0)) || 1))]);
  };
  svg.onpointermove = svg.onpointerdown = point;
  svg.onpointerleave = svg.onblur = () => read(null);
  svg.onkeydown = (event) => {
    const stride = Math.max(1, Math.round(longest.length / 50)), last = longest.length - 1;
    const move = { ArrowLeft: -stride, ArrowRight: stride, Home: -longest.length, End: longest.length }[event.key];
    if (!move) return;
    event.preventDefault();
    read(longest[Math.min(Math.max(nearest(longest, figure.at ?? most) + move, 0), last)]);
  };
  read(figure.at ?? null);
}

const SIZES = new ResizeObserver((entries) => { for (const { target } of entries) draw(target.closest(".chart")); });

/* Make the controls and charts inside `root` work. Each `renew(fresh)` takes in a newer version of its element. */

function activate(root) {
  all(".panel:has(.frames)", root).forEach((panel) => { timeSlider(panel); divider(panel); });
  for (const button of all(".switch button", root)) button.onclick = () => choose(button.dataset.direction);
  if (all(".switch", root).length) choose(all(".panel", root)[0].dataset.key);
  for (const figure of all(".chart", root)) {
    SIZES.observe(figure.querySelector(".plot")); // which draws it as well
    figure.renew = (fresh) => {
      for (const part of ["script", ".legend"]) figure.querySelector(part).replaceWith(fresh.querySelector(part));
      draw(figure);
    };
  }
  for (const range of all(".smoothing input", root)) {
    range.value = SHARES.indexOf(share);
    range.oninput = () => {
      share = SHARES[range.value];
      range.ariaValueText = share ? `over ${200 * share} % of each curve` : "none";
      all(".chart").forEach(draw);
    };
    range.oninput();
  }
}

activate(document);
