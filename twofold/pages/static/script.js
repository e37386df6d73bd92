"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

/* Directions: one panel is shown at a time. */

function choose(direction) {
  for (const button of all(".switch button")) button.setAttribute("aria-pressed", button.dataset.direction === direction);
  for (const panel of all(".panel")) panel.hidden = panel.dataset.direction !== direction;
}

/* Over time: one grid of many is shown; the next is decoded before the last is hidden, so that nothing flickers. */

function timeSlider(panel) {
  const slider = panel.querySelector(".controls input"), controls = panel.querySelector(".controls");
  const play = panel.querySelector(".play"), moment = panel.querySelector(".moment");
  const frames = () => all(".frames img", panel);
  let timer = 0, newest = true;

  const show = async () => {
    const wanted = slider.value, frame = frames()[wanted];
    newest = +wanted >= frames().length - 1;
    slider.setAttribute("aria-valuetext", frame.dataset.label);
    moment.textContent = frame.dataset.label;
    frame.loading = "eager";
    await frame.decode().catch(() => {});
    if (slider.value === wanted) for (const other of frames()) other.hidden = other !== frame;
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "▶";
    play.setAttribute("aria-label", "Play through training");
  };
  const advance = () => {
    if (+slider.value >= frames().length - 1) return stop();
    slider.value = +slider.value + 1;
    show();
  };
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (+slider.value >= frames().length - 1) slider.value = 0;
    show();
    timer = setInterval(advance, 350);
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "Pause");
  });
  slider.addEventListener("input", () => { stop(); show(); });
  panel.addEventListener("update", () => { // frames were added: stay with the newest, or with the one that is shown
    const last = frames().length - 1, shown = frames().findIndex((frame) => !frame.hidden);
    controls.hidden = !last;
    slider.max = last;
    slider.value = newest || shown < 0 ? last : shown;
    show();
  });
  slider.value = frames().length - 1; // browsers restore an older place on reload
  slider.setAttribute("aria-valuetext", frames().at(-1).dataset.label);
}

/* Before and after: two cells of the newest grid; the divider clips one of them. */

function divider(panel) {
  const box = panel.querySelector(".before-after"), stage = box.querySelector(".stage");
  const range = stage.querySelector("input"), scenes = box.querySelector(".scenes");

  const pick = (row) => {
    stage.style.setProperty("--row", row);
    all("button", scenes).forEach((button, place) => button.setAttribute("aria-pressed", place === row));
  };
  const scene = (row) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "cell";
    button.style.setProperty("--row", row);
    button.setAttribute("aria-label", `Scene ${row + 1}`);
    button.addEventListener("click", () => pick(row));
    return button;
  };
  const showNewest = async () => {
    const newest = all(".frames img", panel).at(-1);
    newest.loading = "eager";
    try { await newest.decode(); } catch { return; }
    const rows = Math.max(1, Math.round(newest.naturalHeight * 3 / newest.naturalWidth));
    box.style.setProperty("--grid", `url("${newest.src}")`);
    if (+box.style.getPropertyValue("--rows") === rows) return;
    box.style.setProperty("--rows", rows);
    box.hidden = false;
    scenes.replaceChildren(...Array.from({ length: rows > 1 ? rows : 0 }, (_, row) => scene(row)));
    pick(0);
  };
  panel.addEventListener("update", showNewest);
  showNewest();

  const cut = () => stage.style.setProperty("--cut", `${range.value}%`);
  const drag = (event) => {
    const place = stage.getBoundingClientRect();
    range.value = 100 * (event.clientX - place.left) / place.width;
    cut();
  };
  range.addEventListener("input", cut);
  stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); drag(event); });
  stage.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
  stage.addEventListener("click", () => range.focus({ preventScroll: true }));
  cut();
}

/* Charts fill the width they have; pointer, finger and arrow keys read out values. */

const LEFT = 46, RIGHT = 10, TOP = 24, BOTTOM = 40, HEIGHT = 230;
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

function readable(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e5) return compact.format(value);
  return size && size < 1e-3 ? value.toExponential(1).replace('.0e', 'e') : String(+value.toPrecision(3));
}

function element(name, attributes, parent, words) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (words !== undefined) made.textContent = words;
  parent.append(made);
  return made;
}

function ticks(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step || 0);
  return found;
}

/* Each value becomes the mean of the middle half of its neighbours within `reach`: spikes disappear, gaps stay.
   The neighbours are kept sorted, since sorting them for every value takes forty times as long. */

function smooth(values, reach) {
  if (!reach) return values;
  const near = []; // sorted
  const position = (value) => {
    let low = 0, high = near.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (near[middle] < value) low = middle + 1; else high = middle;
    }
    return low;
  };
  const add = (value) => { if (value !== null && value !== undefined) near.splice(position(value), 0, value); };
  const remove = (value) => { if (value !== null && value !== undefined) near.splice(position(value), 1); };
  for (let k = 0; k < reach; k++) add(values[k]);
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
  const shown = curves.flatMap((c) => c.smooth).filter((v) => v !== null);
  const at = (part) => raw[Math.round(part * (raw.length - 1))];
  const high = [at(0.99), ...zero ? [0] : []].concat(shown).reduce((p, q) => Math.max(p, q));
  const low = [at(0.01), ...zero ? [0] : []].concat(shown).reduce((p, q) => Math.min(p, q));
  const room = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
  return [zero && low === 0 ? 0 : low - room, high + room];
}

function line(images, values, x, y) {
  let path = "", pen = "M";
  values.forEach((value, place) => {
    if (value === null) { pen = "M"; return; }
    path += `${pen}${x(images[place]).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

const drawn = new WeakMap(); // of each figure: its data, and the place that the reader points at

function fill(figure, data) {
  data.curves = data.curves.map((c) => ({ ...c, images: data.axes[c.axis] }));
  drawn.set(figure, { ...drawn.get(figure), data });
  draw(figure);
}

function draw(figure) {
  const { data } = drawn.get(figure), plot = figure.querySelector(".plot"), width = plot.clientWidth;
  if (!width) return;
  const curves = data.curves.map((c) => ({ ...c, smooth: smooth(c.values, Math.floor(c.images.length * share)) }));
  const right = width - RIGHT, bottom = HEIGHT - BOTTOM, most = Math.max(...curves.map((c) => c.images.at(-1))) || 1;
  const [low, high] = limits(curves, data.zero);
  const x = (images) => LEFT + (right - LEFT) * images / most;
  const y = (value) => bottom - (bottom - TOP) * (Math.min(Math.max(value, low), high) - low) / (high - low);

  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const summary = curves.map((c) => `${c.label} from ${readable(c.smooth[0])} to ${readable(c.smooth.at(-1))}`);
  for (const [key, value] of Object.entries({
    viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, tabindex: 0, role: "img",
    "aria-label": `${data.title}, over ${readable(most)} images: ${summary.join(", ")}. Use the arrow keys to read values.`,
  })) svg.setAttribute(key, value);
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
  readout(figure, svg, curves, x, y, bottom);
}

const nearest = (images, count) => images.reduce((best, each, place) => Math.abs(each - count) < Math.abs(images[best] - count) ? place : best, 0);

function readout(figure, svg, curves, x, y, bottom) {
  const rule = element("line", { class: "rule", y1: TOP, y2: bottom }, svg);
  const dots = curves.map((c) => element("circle", { r: 4 }, element("g", { class: c.colour }, svg)));
  const values = all(".legend b", figure), where = figure.querySelector(".where"), state = drawn.get(figure);
  const longest = curves.reduce((p, q) => q.images.at(-1) > p.images.at(-1) ? q : p).images;

  const read = (count) => { // show the values at this count of images; null: the last ones
    state.at = count;
    rule.style.display = count === null ? "none" : "";
    if (count !== null) {
      rule.setAttribute("x1", x(count));
      rule.setAttribute("x2", x(count));
    }
    where.textContent = count === null ? "" : `at ${count.toLocaleString("en")} images`;
    curves.forEach((c, k) => {
      const place = count === null ? c.images.length - 1 : nearest(c.images, count);
      const beyond = count > c.images.at(-1) && c.images !== longest;
      const value = beyond ? null : c.smooth[place];
      values[k].textContent = readable(value);
      dots[k].style.display = value === null ? "none" : "";
      dots[k].setAttribute("cx", x(c.images[place]));
      dots[k].setAttribute("cy", y(value ?? 0));
    });
  };
  const rest = () => read(null);
  const point = (event) => {
    const across = event.clientX - svg.getBoundingClientRect().left, most = longest.at(-1);
    read(longest[nearest(longest, (across - x(0)) * most / ((x(most) - x(0)) || 1))]);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", rest);
  svg.addEventListener("blur", rest);
  svg.addEventListener("keydown", (event) => {
    const stride = Math.max(1, Math.round(longest.length / 50)), last = longest.length - 1;
    const move = { ArrowLeft: -stride, ArrowRight: stride, Home: -longest.length, End: longest.length }[event.key];
    if (!move) return;
    event.preventDefault();
    const here = state.at === null ? last : nearest(longest, state.at);
    read(longest[Math.min(Math.max(here + move, 0), last)]);
  });
  read(state.at ?? null);
}

const SIZES = new ResizeObserver((entries) => { for (const { target } of entries) draw(target.closest(".chart")); });

/* Make the controls and charts inside `root` work. */

function activate(root) {
  all(".panel:has(.frames)", root).forEach((panel) => { timeSlider(panel); divider(panel); });
  for (const button of all(".switch button", root)) button.addEventListener("click", () => choose(button.dataset.direction));
  if (all(".switch", root).length) choose(all(".panel", root)[0].dataset.direction);
  for (const figure of all(".chart", root)) {
    fill(figure, JSON.parse(figure.querySelector("script").textContent));
    SIZES.observe(figure.querySelector(".plot"));
  }
  for (const range of all(".smoothing input", root)) {
    range.value = SHARES.indexOf(share);
    const announce = () => range.setAttribute("aria-valuetext", share ? `over ${200 * share} % of each curve` : "none");
    range.addEventListener("input", () => { share = SHARES[range.value]; announce(); for (const figure of all(".chart")) draw(figure); });
    announce();
  }
}

activate(document);
