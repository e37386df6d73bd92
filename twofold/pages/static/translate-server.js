
/* The runner of the page of `twofold serve`: the server has the models. Addresses are relative to the page. */

const TRIES = 5, POLL = 10000; // requests while the server is full; milliseconds between looks for new snapshots
const moment = $(".moment"), slider = $(".snapshot"), grid = $(".sample"), formats = $(".formats");
const server = { models: [], translate: send, chosen };
let known = ""; // the answer to the last look
let places = [""]; // what the slider goes through: the best snapshot, each number of images, the newest (empty)

async function ask(address, options) {
  const answer = await fetch(address, options).catch(() => {
    options?.signal?.throwIfAborted();
    throw new Error("The server does not answer: is `twofold serve` still running?");
  });
  if (answer.ok || answer.status === 503) return answer;
  const { error } = await answer.json().catch(() => ({}));
  throw new Error(error ?? `The server answered with status ${answer.status}.`);
}

async function send(model, picture, at, tell, signal) {
  const query = { model: model.name, direction: model.direction, at, format: formats.value };
  if (places[slider.value]) query.snapshot = places[slider.value];
  for (let tries = 1; ; tries++) {
    tell("Translating");
    const answer = await ask(`translate?${new URLSearchParams(query)}`, { method: "POST", body: picture, signal });
    if (answer.ok) return answer.blob();
    const { error } = await answer.json().catch(() => ({}));
    if (tries === TRIES) throw new Error(error ?? "The server is busy: try again later.");
    tell("The server is busy; waiting");
    await new Promise((resolve) => { setTimeout(resolve, 1000 * (answer.headers.get("Retry-After") ?? 2)); });
    signal.throwIfAborted();
  }
}

/* Snapshots: the slider stays at the newest while a run goes on, and the picture is translated again. */

function chosen(model) {
  const newest = +slider.value === places.length - 1, kept = places[slider.value];
  places = [...(model.best ? ["best"] : []), ...model.snapshots.slice(0, -1), ""];
  slider.max = places.length - 1;
  slider.value = newest || !places.includes(kept) ? slider.max : places.indexOf(kept);
  $(".snapshots").hidden = places.length < 2;
  const format = formats.value;
  formats.replaceChildren(...model.formats.map((each) => new Option(each, each, false, each === format)));
  showMoment();
}

async function showMoment() {
  const place = places[slider.value], images = place === "best" ? null : place || model.newest;
  moment.textContent = place === "best" ? "the best on held-out images" : images ? `${images.toLocaleString("en")} images${place ? "" : ", the newest"}` : "";
  slider.ariaValueText = moment.textContent;
  const shown = model.samples.findLast((count) => count <= images);
  grid.parentElement.hidden = !shown;
  if (!shown) return;
  const address = `samples/${encodeURIComponent(model.name)}/${String(shown).padStart(9, "0")}-${model.direction}.webp`;
  if (grid.dataset.address === address) return;
  grid.dataset.address = address;
  grid.alt = `Samples of ${arrow(model)} after ${shown.toLocaleString("en")} images`;
  const blob = await ask(address).then((answer) => answer.blob(), () => null);
  if (blob && grid.dataset.address === address) replaceSource(grid, blob);
}

/* The list of models changes while the server follows a run. */

async function look() {
  try {
    const text = await (await ask("models")).text();
    if (text !== known) update(JSON.parse(text));
    known = text;
  } catch (error) {
    complain(error.message);
  }
}

function update(listed) {
  const before = model?.newest;
  server.models = listed.flatMap(({ name, directions }) => directions.map((direction) => ({ name, ...direction })));
  $("main").hidden = !server.models.length;
  $(".none").hidden = !!server.models.length;
  if (!server.models.length) return;
  if (runner) listModels();
  else startPage(server);
  if (known && model.newest !== before && !places[slider.value]) translate();
}

slider.oninput = showMoment;
slider.onchange = formats.onchange = () => translate();
setInterval(() => document.hidden || look(), POLL);
look();
