
/* A live page fetches itself again, and puts what differs in its place; what the reader has set stays as it is. */

const EVERY = 2000, PATIENCE = 15000; // milliseconds between looks, while all is well and at most
const parts = () => all("[data-part]");
const before = new Map(parts().map((each) => [each.dataset.part, each.innerHTML])); // as it came, before any script
const banner = document.querySelector(".lost");
let tag = "", wait = EVERY, timer = 0;

async function look() {
  clearTimeout(timer);
  try {
    const asked = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(location.href, { headers: asked, cache: "no-store" });
    if (answer.status !== 304) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok) renew(fresh);
      say(answer.ok ? "" : fresh.querySelector(".note")?.textContent ?? "The monitor cannot show this any more.");
      tag = answer.ok ? answer.headers.get("ETag") ?? "" : "";
    } else say("");
    wait = EVERY;
  } catch {
    say("The monitor does not answer; trying again.");
    wait = Math.min(wait * 1.5, PATIENCE);
  }
  if (!document.hidden) timer = setTimeout(look, wait);
}

function say(words) {
  if (banner.textContent !== words) banner.textContent = words;
  banner.hidden = !words;
}

function renew(fresh) {
  const names = (root) => all("[data-part]", root).map((part) => part.dataset.part).join();
  if (names(fresh) !== names(document)) return location.reload(); // another kind of page: a second run has come
  document.title = fresh.title;
  for (const part of all("[data-part]", fresh)) {
    const name = part.dataset.part, here = parts().find((each) => each.dataset.part === name);
    if (!here || before.get(name) === part.innerHTML) continue;
    before.set(name, part.innerHTML);
    (HOW[name] ?? replace)(here, part);
  }
}

function replace(here, part) {
  here.replaceChildren(...part.childNodes);
  enliven(here);
}

/* Ticks stay, and so does the card of a run that has nothing new. */
function renewRuns(here, part) {
  const list = here.querySelector(".runs"), cards = new Map(all("[data-key]", here).map((card) => [card.dataset.key, card]));
  const next = all("[data-key]", part).map((card) => {
    const old = cards.get(card.dataset.key);
    if (!old || lasting(old) === lasting(card)) return old ?? card;
    card.querySelector("input").checked = old.querySelector("input").checked;
    return card;
  });
  if (!list || !next.length) return replace(here, part);
  const focused = document.activeElement, key = focused?.closest("[data-key]")?.dataset.key;
  list.replaceChildren(...next);
  if (key) list.querySelector(`[data-key="${key}"] ${focused.localName}`)?.focus({ preventScroll: true });
}

const lasting = (card) => card.innerHTML.replace(/ checked=""|<time .*?<\/time>/g, "");

/* The place in time and the divider stay; who looks at the newest grid gets the next one. */
function renewPictures(here, part) {
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
    panel.dispatchEvent(new Event("renew"));
  });
}

const titles = (root) => all(".chart h3", root).map((title) => title.textContent).join("\n");
const labels = (figure) => all(".legend li", figure).map((li) => li.className).join();

function renewCurves(here, part) {
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

function renewAlbum(here, part) { // the direction that was chosen stays
  const chosen = here.querySelector(".switch [aria-pressed=true]")?.dataset.direction;
  replace(here, part);
  if (chosen && here.querySelector(`.switch [data-direction="${chosen}"]`)) choose(chosen);
}

const HOW = { runs: renewRuns, pictures: renewPictures, curves: renewCurves, album: renewAlbum };

function since(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min` : `${Math.round(hours / 24)} days`;
}

function tell() {
  for (const time of all("time[data-at]")) {
    const words = `${since(Math.max(1, Date.now() / 1000 - time.dataset.at))} ago`;
    if (time.textContent !== words) time.textContent = words;
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
setInterval(tell, 1000);
tell();
timer = setTimeout(look, EVERY);
