
/* A live page fetches itself again and replaces the parts that differ; the reader's choices stay. */

const INTERVAL = 2000, LONGEST_INTERVAL = 15000; // milliseconds between requests
const parts = () => all("[data-part]");
const known = new Map(parts().map((each) => [each.dataset.part, each.innerHTML])); // the HTML of each part at its last update
const banner = document.querySelector(".lost");
let tag = "", wait = INTERVAL, timer = 0;

async function refresh() {
  clearTimeout(timer);
  try {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(location.href, { headers, cache: "no-store" });
    if (answer.status !== 304) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok) update(fresh);
      warn(answer.ok ? "" : fresh.querySelector(".note")?.textContent ?? "The monitor can no longer show this page.");
      tag = answer.ok ? answer.headers.get("ETag") ?? "" : "";
    } else warn("");
    wait = INTERVAL;
  } catch {
    warn("The monitor does not answer. Trying again.");
    wait = Math.min(wait * 1.5, LONGEST_INTERVAL);
  }
  if (!document.hidden) timer = setTimeout(refresh, wait);
}

function warn(words) {
  if (banner.textContent !== words) banner.textContent = words;
  banner.hidden = !words;
}

function update(fresh) {
  const names = (root) => all("[data-part]", root).map((part) => part.dataset.part).join();
  if (names(fresh) !== names(document)) return location.reload(); // a second run has started, or the settings of the first appeared
  document.title = fresh.title;
  for (const part of all("[data-part]", fresh)) {
    const name = part.dataset.part, here = parts().find((each) => each.dataset.part === name);
    if (!here || known.get(name) === part.innerHTML) continue;
    known.set(name, part.innerHTML);
    (UPDATES[name] ?? replace)(here, part);
  }
}

function replace(here, part) {
  here.replaceChildren(...part.childNodes);
  activate(here);
}

/* Selected boxes stay selected, and the card of a run without news stays. */
function updateRuns(here, part) {
  const list = here.querySelector(".runs"), cards = new Map(all("[data-key]", here).map((card) => [card.dataset.key, card]));
  const next = all("[data-key]", part).map((card) => {
    const old = cards.get(card.dataset.key);
    if (!old || withoutAge(old) === withoutAge(card)) return old ?? card;
    card.querySelector("input").checked = old.querySelector("input").checked;
    return card;
  });
  if (!list || !next.length) return replace(here, part);
  const focused = document.activeElement, key = focused?.closest("[data-key]")?.dataset.key;
  list.replaceChildren(...next);
  if (key) list.querySelector(`[data-key="${key}"] ${focused.localName}`)?.focus({ preventScroll: true });
}

const withoutAge = (card) => card.innerHTML.replace(/ checked=""|<time .*?<\/time>/g, "");

/* The slider and the divider stay; if the newest grid is shown, the next one is shown as well. */
function updatePictures(here, part) {
  const panels = all(".panel", here), next = all(".panel", part);
  const same = panels.length && panels.map((p) => p.dataset.direction).join() === next.map((p) => p.dataset.direction).join();
  if (!same) return replace(here, part);
  panels.forEach((panel, k) => {
    const known = new Map(all(".frames img", panel).map((img) => [img.getAttribute("src"), img]));
    const frames = all(".frames img", next[k]).map((img) => {
      const kept = known.get(img.getAttribute("src"));
      if (!kept) img.hidden = true;
      return kept ?? document.adoptNode(img);
    });
    panel.querySelector(".frames").replaceChildren(...frames);
    panel.dispatchEvent(new Event("update"));
  });
}

const titles = (root) => all(".chart h3", root).map((title) => title.textContent).join("\n");
const labels = (figure) => all(".legend li", figure).map((li) => li.className).join();

function updateCurves(here, part) {
  if (titles(here) !== titles(part) || !titles(part)) return replace(here, part);
  const next = all(".chart", part);
  all(".chart", here).forEach((figure, k) => {
    const data = next[k].querySelector("script").textContent, block = figure.querySelector("script");
    if (block.textContent === data) return;
    block.textContent = data;
    if (labels(figure) !== labels(next[k])) figure.querySelector(".legend").replaceWith(next[k].querySelector(".legend"));
    fill(figure, JSON.parse(data));
  });
}

function updateAlbum(here, part) { // the chosen direction stays
  const chosen = here.querySelector(".switch [aria-pressed=true]")?.dataset.direction;
  replace(here, part);
  if (chosen && here.querySelector(`.switch [data-direction="${chosen}"]`)) choose(chosen);
}

const UPDATES = { runs: updateRuns, pictures: updatePictures, curves: updateCurves, album: updateAlbum };

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min` : `${Math.round(hours / 24)} days`;
}

function updateAges() {
  for (const time of all("time[data-at]")) {
    const words = `${duration(Math.max(1, Date.now() / 1000 - time.dataset.at))} ago`;
    if (time.textContent !== words) time.textContent = words;
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
setInterval(updateAges, 1000);
updateAges();
timer = setTimeout(refresh, INTERVAL);
