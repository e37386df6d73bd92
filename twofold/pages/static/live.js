
/* A live page fetches itself again and replaces the parts that differ; the reader's choices stay. */

const INTERVAL = 2000, LONGEST_INTERVAL = 15000; // milliseconds between requests
const parts = all("[data-part]"), known = parts.map((each) => each.innerHTML); // the HTML of each at its last update
const banner = document.querySelector(".lost");
let tag = null, wait = INTERVAL, timer = 0;

async function refresh() {
  clearTimeout(timer);
  let warning = "";
  try {
    const answer = await fetch(location.href, { cache: "no-cache" }); // the browser sends its copy's ETag along
    if (!tag || answer.headers.get("ETag") !== tag) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok) update(fresh);
      else warning = fresh.querySelector(".note")?.textContent ?? "The monitor can no longer show this page.";
      tag = answer.headers.get("ETag");
    }
    wait = INTERVAL;
  } catch {
    warning = "The monitor does not answer. Trying again.";
    wait = Math.min(wait * 1.5, LONGEST_INTERVAL);
  }
  if (banner.textContent !== warning) banner.textContent = warning;
  banner.hidden = !warning;
  if (!document.hidden) timer = setTimeout(refresh, wait);
}

function update(fresh) {
  const next = all("[data-part]", fresh), names = (list) => list.map((part) => part.dataset.part).join();
  if (names(next) !== names(parts)) return location.reload(); // a second run has started, or the settings of the first appeared
  document.title = fresh.title;
  next.forEach((part, k) => {
    if (known[k] === part.innerHTML) return;
    known[k] = part.innerHTML;
    renew(parts[k], part);
  });
}

const withoutAge = (card) => card.innerHTML.replace(/ checked=""|<time .*?<\/time>/g, "");

/* Elements that have the same keys as before take in what is new one by one; else the whole part is replaced. */

function renew(here, part) {
  for (const box of all("[type=checkbox]", part)) {
    box.checked = here.querySelector(`[value="${box.value}"]`)?.checked ?? box.checked;
  }
  const old = all("[data-key]", here), next = all("[data-key]", part), keys = (list) => list.map((each) => each.dataset.key).join("\n");
  const focused = document.activeElement, key = focused.closest("[data-key]")?.dataset.key;
  if (old.length && keys(old) === keys(next)) {
    old.forEach((each, k) => {
      if (each.renew) each.renew(next[k]);
      else if (withoutAge(each) !== withoutAge(next[k])) each.replaceChildren(...next[k].childNodes);
    });
  } else {
    here.replaceChildren(...part.childNodes);
    activate(here);
  }
  if (key && !focused.isConnected) here.querySelector(`[data-key="${CSS.escape(key)}"] ${focused.localName}`)?.focus({ preventScroll: true });
}

function updateAges() {
  for (const time of all("time[data-at]")) {
    time.textContent = `${duration(Math.max(1, Date.now() / 1000 - time.dataset.at))} ago`;
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
setInterval(updateAges, 1000);
updateAges();
timer = setTimeout(refresh, INTERVAL);
