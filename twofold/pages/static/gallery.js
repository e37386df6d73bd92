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
  const scenes = box.querySelector(".scenes");

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
  dragDivider(stage);
  new MutationObserver(showNewest).observe(panel.querySelector(".frames"), { childList: true });
  showNewest();
}

/* The pointer and the keys move the divider of a stage. */

function dragDivider(stage) {
  const range = stage.querySelector("input");
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
}

/* Several runs: one slider for all. Each run shows its newest grid up to the moment, or its first. */

function sharedSlider(panel) {
  const slider = panel.querySelector(".controls input"), only = panel.querySelector(".only-translations");
  const figures = () => all(".beside figure", panel), source = () => panel.querySelector(".source img");
  let moments = [], shown = Infinity; // images seen; Infinity stays with the newest

  const show = () => {
    for (const figure of figures()) {
      const frames = all("[data-images]", figure), images = (frame) => +frame.dataset.images;
      const frame = frames.findLast((each) => images(each) <= shown) ?? frames[0];
      if (!frame) continue; // the sources
      frame.loading = "eager";
      for (const each of frames) each.hidden = each !== frame;
      figure.querySelector(".moment").textContent = frame.dataset.label;
    }
    if (source()) source().src = all("[data-images]", panel).find((frame) => !frame.hidden).src;
    slider.ariaValueText = panel.querySelector(".head .moment").textContent = `${moments[slider.value].toLocaleString("en")} images`;
  };
  const adopt = () => {
    moments = [...new Set(all("[data-images]", panel).map((frame) => +frame.dataset.images))].sort((p, q) => p - q);
    slider.max = moments.length - 1;
    slider.value = shown === Infinity ? slider.max : moments.findLastIndex((each) => each <= shown);
    slider.parentElement.hidden = moments.length === 1;
    show();
  };
  slider.oninput = () => {
    shown = slider.value === slider.max ? Infinity : moments[slider.value];
    show();
  };
  only.onchange = () => panel.querySelector(".beside").classList.toggle("only", only.checked);
  panel.renew = (fresh) => {
    panel.querySelector(".beside").replaceChildren(...fresh.querySelector(".beside").childNodes);
    adopt();
  };
  only.onchange();
  adopt();
}
