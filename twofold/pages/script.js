"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

/* Directions: one panel at a time. */

function choose(direction) {
  for (const button of all(".switch button")) button.setAttribute("aria-pressed", button.dataset.direction === direction);
  for (const panel of all(".panel")) panel.hidden = panel.dataset.direction !== direction;
}

/* Over time: show one grid of many; the next is decoded before the last one goes, so nothing flickers. */

function scrub(panel) {
  const frames = all(".frames img", panel), slider = panel.querySelector(".controls input");
  const play = panel.querySelector(".play"), moment = panel.querySelector(".moment");
  let timer = 0;

  const show = async () => {
    const wanted = slider.value, frame = frames[wanted];
    slider.setAttribute("aria-valuetext", frame.dataset.label);
    moment.textContent = frame.dataset.label;
    await frame.decode().catch(() => {});
    if (slider.value === wanted) for (const other of frames) other.hidden = other !== frame;
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "▶";
    play.setAttribute("aria-label", "Play through training");
  };
  const advance = () => {
    if (+slider.value >= frames.length - 1) return stop();
    slider.value = +slider.value + 1;
    show();
  };
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (+slider.value >= frames.length - 1) slider.value = 0;
    show();
    timer = setInterval(advance, 350);
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "Pause");
  });
  slider.addEventListener("input", () => { stop(); show(); });
  slider.value = frames.length - 1; // browsers restore an older place on reload
  slider.setAttribute("aria-valuetext", frames.at(-1).dataset.label);
}

/* Before and after: two cells of the newest grid, one clipped at the line. */

async function compare(panel) {
  const box = panel.querySelector(".before-after"), stage = box.querySelector(".stage");
  const range = stage.querySelector("input"), scenes = box.querySelector(".scenes");
  const newest = all(".frames img", panel).at(-1);
  try { await newest.decode(); } catch { return; }
  const rows = Math.max(1, Math.round(newest.naturalHeight * 3 / newest.naturalWidth));
  box.style.setProperty("--grid", `url("${newest.src}")`);
  box.style.setProperty("--rows", rows);
  box.hidden = false;

  const pick = (row) => {
    stage.style.setProperty("--row", row);
    all("button", scenes).forEach((button, place) => button.setAttribute("aria-pressed", place === row));
  };
  for (let row = 0; rows > 1 && row < rows; row++) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "cell";
    button.style.setProperty("--row", row);
    button.setAttribute("aria-label", `Scene ${row + 1}`);
    button.addEventListener("click", () => pick(row));
    scenes.append(button);
  }
  pick(0);

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

/* Charts: drawn to the width they have, with a readout under the pointer, the finger or the arrow keys. */

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

function limits(curves) { // a few spikes may leave the picture, the smoothed curve may not
  const raw = curves.flatMap((c) => c.raw).filter((v) => v !== null).sort((p, q) => p - q);
  const shown = curves.flatMap((c) => c.smooth).filter((v) => v !== null);
  const at = (share) => raw[Math.round(share * (raw.length - 1))] ?? 0;
  const high = Math.max(0, at(0.99), ...shown), low = Math.min(0, at(0.01), ...shown);
  return high > low ? [low, high + (high - low) * 0.05] : [low, low + 1];
}

function line(values, x, y) {
  let path = "", pen = "M";
  values.forEach((value, place) => {
    if (value === null) { pen = "M"; return; }
    path += `${pen}${x(place).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

function draw(figure, data) {
  const plot = figure.querySelector(".plot"), width = plot.clientWidth, { images, curves } = data;
  if (!width) return;
  const right = width - RIGHT, bottom = HEIGHT - BOTTOM, most = images.at(-1) || 1;
  const [low, high] = limits(curves);
  const across = (count) => LEFT + (right - LEFT) * count / most, x = (place) => across(images[place]);
  const y = (value) => bottom - (bottom - TOP) * (Math.min(Math.max(value, low), high) - low) / (high - low);

  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const summary = curves.map((c) => `${c.label} from ${readable(c.smooth[0])} to ${readable(c.smooth.at(-1))}`);
  for (const [key, value] of Object.entries({
    viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, tabindex: 0, role: "img",
    "aria-label": `${data.title}, over ${readable(images.at(-1))} images: ${summary.join(", ")}. Arrow keys read it out.`,
  })) svg.setAttribute(key, value);
  element("text", { x: 0, y: 12 }, svg, data.unit);
  element("text", { x: (LEFT + right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, svg, "images seen");
  for (const value of ticks(low, high, 5)) {
    element("line", { class: "tick", x1: LEFT, x2: right, y1: y(value), y2: y(value) }, svg);
    element("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, svg, readable(value));
  }
  for (const count of ticks(0, most, Math.max(2, width / 110))) {
    element("text", { x: Math.min(across(count), right - 8), y: bottom + 18, "text-anchor": "middle" }, svg, compact.format(count));
  }
  for (const c of curves) {
    const group = element("g", { class: c.colour }, svg);
    if (c.raw.some((value, place) => value !== c.smooth[place])) element("path", { class: "faint", d: line(c.raw, x, y) }, group);
    element("path", { d: line(c.smooth, x, y) }, group);
  }
  plot.replaceChildren(svg);
  readout(figure, svg, data, x, y, bottom);
}

function readout(figure, svg, { images, curves }, x, y, bottom) {
  const rule = element("line", { class: "rule", y1: TOP, y2: bottom }, svg);
  const dots = curves.map((c) => element("circle", { r: 4 }, element("g", { class: c.colour }, svg)));
  const values = all(".legend b", figure), where = figure.querySelector(".where");
  let here = images.length - 1;

  const read = (place, at) => {
    here = place;
    rule.style.display = at ? "" : "none";
    rule.setAttribute("x1", x(place));
    rule.setAttribute("x2", x(place));
    where.textContent = at ? `at ${images[place].toLocaleString("en")} images` : "";
    curves.forEach((c, k) => {
      const value = c.smooth[place];
      values[k].textContent = readable(value);
      dots[k].style.display = value === null ? "none" : "";
      dots[k].setAttribute("cx", x(place));
      dots[k].setAttribute("cy", y(value ?? 0));
    });
  };
  const rest = () => read(images.length - 1, false);
  const point = (event) => {
    const across = event.clientX - svg.getBoundingClientRect().left;
    let best = 0;
    images.forEach((_, place) => { if (Math.abs(x(place) - across) < Math.abs(x(best) - across)) best = place; });
    read(best, true);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", rest);
  svg.addEventListener("blur", rest);
  svg.addEventListener("keydown", (event) => {
    const stride = Math.max(1, Math.round(images.length / 50));
    const move = { ArrowLeft: -stride, ArrowRight: stride, Home: -images.length, End: images.length }[event.key];
    if (!move) return;
    event.preventDefault();
    read(Math.min(Math.max(here + move, 0), images.length - 1), true);
  });
  rest();
}

all(".panel").forEach((panel) => { scrub(panel); compare(panel); });
if (all(".switch").length) {
  for (const button of all(".switch button")) button.addEventListener("click", () => choose(button.dataset.direction));
  choose(all(".panel")[0].dataset.direction);
}
for (const figure of all(".chart")) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  new ResizeObserver(() => draw(figure, data)).observe(figure.querySelector(".plot"));
}
