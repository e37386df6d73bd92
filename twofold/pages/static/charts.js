
/* Charts fill the width they have; pointer, finger and keys read out values and zoom. */

const LEFT = 46, RIGHT = 10, TOP = 24, BOTTOM = 40, HEIGHT = 230;
const SHARES = [0, 0.01, 0.02, 0.05, 0.1, 0.2]; // the part of a curve that smoothing uses on each side of a value
const view = { share: SHARES[2], log: false, time: false, last: 1, range: null }; // what the reader chose, for all charts
let clocks = {}; // of each run, by its colour: images seen and seconds of training
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

function readable(value) {
  if (value === null) return "–";
  const size = Math.abs(value);
  if (size >= 1e5) return compact.format(value);
  return size && size < 1e-3 ? value.toExponential(1).replace('.0e', 'e') : String(+value.toPrecision(3));
}

function duration(seconds) {
  const minutes = Math.round(seconds / 60), hours = Math.floor(minutes / 60);
  if (minutes < 60) return minutes < 2 ? `${Math.round(seconds)} s` : `${minutes} min`;
  return hours < 48 ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min` : `${Math.round(hours / 24)} days`;
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

function logTicks(low, high) { // for a scale from 10^low to 10^high
  if (high - low < 1) return ticks(10 ** low, 10 ** high, 5).filter((value) => value > 0);
  const step = Math.ceil((high - low) / 6), within = (value) => Math.log10(value) >= low && Math.log10(value) <= high;
  const powers = ticks(Math.floor(low), Math.ceil(high), 100).filter((power) => power === Math.round(power) && power % step === 0);
  return powers.flatMap((power) => (high - low < 2.5 ? [1, 2, 5] : [1]).map((k) => k * 10 ** power)).filter(within);
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

/* Seconds of training at which a run had seen so many images: between two reports by a line, after the last one its
   time. A run is known by its colour; null if its times are not recorded. */

function seconds(colour, images) {
  const clock = clocks[colour] ?? clocks[""];
  if (!clock) return null;
  const [counts, times] = clock;
  let k = 1;
  return images.map((count) => {
    while (k < counts.length - 1 && counts[k] < count) k++;
    const part = (count - counts[k - 1]) / (counts[k] - counts[k - 1] || 1);
    return times[k - 1] + Math.min(Math.max(part, 0), 1) * (times[k] - times[k - 1]);
  });
}

const UNITS = [[7200, 3600, "hours of training"], [120, 60, "minutes of training"], [0, 1, "seconds of training"]];
const units = (most) => view.time ? UNITS.find(([least]) => most >= least) : [0, 1, "images seen"];

/* The curves of a chart, whole and smoothed, at their places on the horizontal axis. */

function measured(figure) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const curves = data.curves.map((c, place) => {
    const images = data.axes[c.axis], values = smooth(c.values, Math.floor(images.length * view.share));
    return { ...c, place, xs: view.time ? seconds(c.colour, images) : images, smooth: values };
  });
  return { ...data, curves: curves.filter((c) => c.xs) };
}

function shown(curve, from, to) { // the part of a curve in this range
  const first = curve.xs.findIndex((x) => x >= from), end = curve.xs.findLastIndex((x) => x <= to) + 1;
  const [xs, values, smooth] = [curve.xs, curve.values, curve.smooth].map((each) => first < 0 ? [] : each.slice(first, end));
  return { ...curve, xs, values, smooth };
}

/* A logarithmic scale leaves gaps for values that are not positive; a chart that is mostly such values stays linear. */

function usesLog(curves) {
  const values = curves.flatMap((c) => c.smooth).filter((value) => value !== null);
  return view.log && values.filter((value) => value > 0).length > values.length / 2;
}

const logarithm = (value) => value === null || value <= 0 ? null : Math.log10(value);

function limits(curves, zero) { // the smoothed curve and 98 % of the values are inside; a few spikes may be outside
  const raw = curves.flatMap((c) => c.values).filter((v) => v !== null).sort((p, q) => p - q);
  if (!raw.length) return [0, 1];
  const at = (part) => raw[Math.round(part * (raw.length - 1))];
  const inside = [at(0.01), at(0.99), ...curves.flatMap((c) => c.smooth).filter((v) => v !== null), ...zero ? [0] : []];
  const low = Math.min(...inside), high = Math.max(...inside), room = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
  return [zero && low === 0 ? 0 : low - room, high + room];
}

function line(xs, values, x, y) {
  const point = (value, k) => `${values[k - 1] == null ? "M" : "L"}${x(xs[k]).toFixed(1)} ${y(value).toFixed(1)}`;
  return values.map((value, k) => value === null ? "" : point(value, k)).join("");
}

function draw(figure) {
  const plot = figure.querySelector(".plot"), width = plot.clientWidth;
  if (!width) return;
  const data = measured(figure), most = Math.max(0, ...data.curves.map((c) => c.xs.at(-1))) || 1;
  const [from, to] = view.range ?? [most * (1 - view.last), most];
  const curves = data.curves.map((c) => shown(c, from, to)), log = usesLog(curves);
  const scaled = log ? curves.map((c) => ({ ...c, values: c.values.map(logarithm), smooth: c.smooth.map(logarithm) })) : curves;
  const [low, high] = limits(scaled, data.zero && !log);
  const right = width - RIGHT, bottom = HEIGHT - BOTTOM;
  const x = (place) => LEFT + (right - LEFT) * (place - from) / (to - from || 1);
  const y = (value) => bottom - (bottom - TOP) * (Math.min(Math.max(value, low), high) - low) / (high - low);

  const summary = curves.map((c) => `${c.label} from ${readable(c.smooth[0] ?? null)} to ${readable(c.smooth.at(-1) ?? null)}`);
  const [, size, unit] = units(most);
  const svg = element("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, tabindex: 0, role: "img",
    "aria-label": `${data.title}, over ${readable((to - from) / size)} ${unit}: ${summary.join(", ")}. Arrow keys read values; + and - zoom.`,
  });
  element("text", { x: 0, y: 12 }, svg, [data.unit, view.log ? log ? "log scale" : "linear scale: not positive" : ""].filter(Boolean).join(" · "));
  element("text", { x: (LEFT + right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, svg, unit);
  for (const value of log ? logTicks(low, high) : ticks(low, high, 5)) {
    const height = y(log ? Math.log10(value) : value);
    element("line", { class: "tick", x1: LEFT, x2: right, y1: height, y2: height }, svg);
    element("text", { x: LEFT - 8, y: height + 4, "text-anchor": "end" }, svg, readable(value));
  }
  for (const count of ticks(from / size, to / size, Math.max(2, width / 110))) {
    element("text", { x: Math.min(x(count * size), right - 8), y: bottom + 18, "text-anchor": "middle" }, svg, compact.format(count));
  }
  if (!curves.length) element("text", { x: LEFT, y: HEIGHT / 2 }, svg, "The run recorded no times.");
  for (const c of scaled) {
    const group = element("g", { class: c.colour }, svg);
    if (c.values.some((value, place) => value !== c.smooth[place])) {
      element("path", { class: "faint", d: line(c.xs, c.values, x, y) }, group);
    }
    element("path", { d: line(c.xs, c.smooth, x, y) }, group);
    if (c.values.length === 1 && c.values[0] !== null) element("circle", { r: 3, cx: x(c.xs[0]), cy: y(c.values[0]) }, group);
  }
  const focused = plot.contains(document.activeElement);
  plot.replaceChildren(svg);
  if (focused) svg.focus({ preventScroll: true });
  const axis = { from, to, most, x, at: (pixel) => from + Math.min(Math.max((pixel - LEFT) / (right - LEFT), 0), 1) * (to - from) };
  const read = readout(figure, svg, curves, axis, (value) => y(log ? logarithm(value) : value));
  pointers(figure, svg, axis, read);
}

const nearest = (xs, place) => xs.reduce((best, each, k) => Math.abs(each - place) < Math.abs(xs[best] - place) ? k : best, 0);

/* Show the values at a place of the axis. Returns `read(place)`; null: the last values. */

function readout(figure, svg, curves, { from, to, most, x }, y) {
  const rule = element("line", { class: "rule", y1: TOP, y2: HEIGHT - BOTTOM }, svg);
  const dots = curves.map((c) => element("circle", { r: 4, visibility: "hidden" }, element("g", { class: c.colour }, svg)));
  const values = all(".legend b", figure), where = figure.querySelector(".where");
  const longest = curves.map((c) => c.xs).reduce((p, q) => (q.at(-1) ?? -1) > (p.at(-1) ?? -1) ? q : p, []);

  const read = (wanted) => {
    const place = wanted === null || !longest.length ? null : longest[nearest(longest, wanted)];
    figure.at = place;
    set(rule, { x1: x(place), x2: x(place), visibility: place === null ? "hidden" : "visible" });
    where.textContent = place === null ? "" : view.time ? `at ${duration(place)}` : `at ${place.toLocaleString("en")} images`;
    curves.forEach((c, k) => {
      const last = c.xs.at(-1), value = !c.xs.length || place > last ? null : c.smooth[nearest(c.xs, place ?? last)];
      values[c.place].textContent = readable(value);
      const drawn = value !== null && y(value) !== null;
      set(dots[k], { cx: x(c.xs[nearest(c.xs, place ?? last)] ?? from), cy: drawn ? y(value) : 0, visibility: drawn ? "visible" : "hidden" });
    });
  };
  svg.onblur = () => read(null);
  svg.onkeydown = (event) => {
    const zoom = { "+": 0.5, "=": 0.5, "-": 2 }[event.key];
    if (zoom) return zoomBy(zoom, figure.at ?? to, { from, to, most });
    const stride = Math.max(1, Math.round(longest.length / 50)), last = longest.length - 1;
    const move = { ArrowLeft: -stride, ArrowRight: stride, Home: -longest.length, End: longest.length }[event.key];
    if (!move || last < 0) return;
    event.preventDefault();
    read(longest[Math.min(Math.max(nearest(longest, figure.at ?? to) + move, 0), last)]);
  };
  read(figure.at >= from && figure.at <= to ? figure.at : null);
  return read;
}

/* The pointer reads values; a mouse that drags selects a range for all charts, a double click shows everything again. */

function pointers(figure, svg, axis, read) {
  const plot = figure.querySelector(".plot"), place = (event) => axis.at(event.clientX - svg.getBoundingClientRect().left);
  const band = element("rect", { class: "band", y: TOP, height: HEIGHT - BOTTOM - TOP, visibility: "hidden" }, svg);
  plot.onpointerdown = (event) => {
    read(place(event));
    if (event.pointerType === "touch" || event.button) return;
    figure.start = place(event);
    plot.setPointerCapture(event.pointerId);
  };
  plot.onpointermove = (event) => {
    read(place(event));
    if (figure.start == null) return;
    const [left, right] = [figure.start, place(event)].map(axis.x).sort((p, q) => p - q);
    set(band, { x: left, width: right - left, visibility: "visible" });
  };
  plot.onpointerup = plot.onpointercancel = (event) => {
    const [from, to] = [figure.start ?? 0, place(event)].sort((p, q) => p - q), dragged = figure.start != null && event.type === "pointerup";
    figure.start = null;
    if (dragged && axis.x(to) - axis.x(from) > 6) change({ range: [from, to] });
    else set(band, { visibility: "hidden" });
  };
  plot.onpointerleave = () => read(null);
  plot.ondblclick = () => change({ range: null, last: 1 });
}

function zoomBy(factor, centre, { from, to, most }) {
  const width = (to - from) * factor, start = Math.min(Math.max(centre - width / 2, 0), Math.max(most - width, 0));
  change(width >= most ? { range: null, last: 1 } : { range: [start, start + width] });
}

/* Choose what all charts show, and draw them. */

function change(chosen) {
  Object.assign(view, chosen);
  for (const box of all(".view")) showChoice(box);
  all(".chart").forEach(draw);
}

function showChoice(box) {
  const [smoothing, axis, range, log] = all("input, select", box);
  smoothing.value = SHARES.indexOf(view.share);
  smoothing.ariaValueText = view.share ? `over ${200 * view.share} % of each curve` : "none";
  axis.value = view.time ? "time" : "images";
  range.lastElementChild.hidden = !view.range; // "selected"
  range.value = view.range ? "" : view.last;
  log.checked = view.log;
}

function controls(box) {
  const [smoothing, axis, range, log] = all("input, select", box);
  smoothing.oninput = () => change({ share: SHARES[smoothing.value] });
  axis.onchange = () => change({ time: axis.value === "time", range: null });
  range.onchange = () => change({ range: null, last: +range.value });
  log.onchange = () => change({ log: log.checked });
  showChoice(box);
}

const SIZES = new ResizeObserver((entries) => { for (const { target } of entries) draw(target.closest(".chart")); });

/* Make the controls and charts inside `root` work. Each `renew(fresh)` takes in a newer version of its element. */

function activate(root) {
  all(".panel:has(.stage)", root).forEach((panel) => { timeSlider(panel); divider(panel); });
  all(".panel:has(.beside)", root).forEach(sharedSlider);
  for (const button of all(".switch button", root)) button.onclick = () => choose(button.dataset.direction);
  if (all(".switch", root).length) choose(all(".panel", root)[0].dataset.key);
  for (const figure of all(".chart", root)) {
    SIZES.observe(figure.querySelector(".plot")); // which draws it as well
    figure.renew = (fresh) => {
      for (const part of ["script", ".legend"]) figure.querySelector(part).replaceWith(fresh.querySelector(part));
      draw(figure);
    };
  }
  all(".view", root).forEach(controls);
  for (const script of all(".clocks", root)) {
    script.renew = (fresh) => { clocks = JSON.parse(fresh.textContent); };
    script.renew(script);
  }
}

activate(document);
