
/* A page that translates pictures. The runner does the work, in a worker or on a server. It has
   models: { name, direction, … } each, and
   translate(model, picture, at, tell, signal): a promise of a Blob; tell(step, share) shows progress, share from 0 to 1. */

const $ = (selector) => document.querySelector(selector);
const stage = $(".stage"), after = $("img.after"), before = $("img.before"), names = $(".names"), scale = $(".scale");
const SUFFIXES = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/tiff": "tif" };
let runner, model, picture, result, job;

function startPage(chosen) {
  runner = chosen;
  listModels();
  dragDivider(stage);
  names.onchange = () => { setModel(runner.models.find(({ name }) => name === names.value)); translate(); };
  scale.onchange = translate;
  for (const input of all("input[type=file]")) input.onchange = () => { openFirst(input.files); input.value = ""; };
  $(".cancel").onclick = endJob;
  $(".again").onclick = () => {
    const file = new File([result], $(".save").download, { type: result.type });
    setModel(wayBack() ?? model);
    open(file);
  };
  before.onload = () => fitStage(before);
  after.onload = () => fitStage(after);
  before.onerror = after.onerror = ({ target }) => { target.hidden = true; };
  document.onpaste = ({ clipboardData }) => openFirst(clipboardData.files);
  document.ondragover = (event) => { event.preventDefault(); document.body.classList.add("dragging"); };
  document.ondragleave = ({ relatedTarget }) => { if (!relatedTarget) document.body.classList.remove("dragging"); };
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    openFirst(event.dataTransfer.files);
  };
  camera();
}

/* Models and directions */

function listModels() {
  const listed = [...new Set(runner.models.map(({ name }) => name))];
  names.replaceChildren(...listed.map((name) => new Option(name)));
  names.parentElement.hidden = listed.length < 2;
  setModel(runner.models.find((each) => sameModel(each, model)) ?? runner.models[0]);
}

const sameModel = (one, other) => one.name === other?.name && one.direction === other.direction;
const arrow = ({ direction }) => [...direction.toUpperCase()].join("→");
const wayBack = () => runner.models.find(({ name, direction }) => name === model.name && direction !== model.direction);

function setModel(chosen) {
  model = chosen;
  names.value = model.name;
  const ways = runner.models.filter(({ name }) => name === model.name);
  $(".switch").hidden = ways.length < 2;
  $(".switch").replaceChildren(...ways.map((way) => Object.assign(document.createElement("button"), {
    type: "button", textContent: arrow(way), ariaPressed: way === model, onclick: () => { setModel(way); translate(); },
  })));
  const [from, to] = model.direction, [source, target] = all(".tag");
  Object.assign(source, { className: `tag ${from}`, textContent: from.toUpperCase() });
  Object.assign(target, { className: `tag ${to}`, textContent: arrow(model) });
  $(".again").textContent = wayBack() ? `Translate back ${arrow(wayBack())}` : "Translate the result again";
  $(".stage input").ariaLabel = `Divider between ${source.textContent} and ${target.textContent}, in percent`;
  runner.chosen?.(model);
}

/* Pictures in */

function openFirst(files) {
  if (files.length) open(files[0]);
  else complain("That is not a picture file: save the picture first, then choose it here.");
}

function open(file) {
  picture = file;
  replaceSource(before, file);
  stage.classList.add("waiting");
  $(".outcome").hidden = false;
  $(".results").hidden = true;
  translate();
}

function replaceSource(img, blob) {
  URL.revokeObjectURL(img.src);
  img.hidden = false;
  img.src = URL.createObjectURL(blob);
}

function fitStage({ naturalWidth: width, naturalHeight: height }) {
  stage.style.setProperty("--ratio", width / height);
}

function camera() {
  const view = $(".viewfinder"), video = $("video");
  view.onclose = () => { for (const track of video.srcObject?.getTracks() ?? []) track.stop(); };
  $(".close").onclick = () => view.close();
  $(".shutter").onclick = () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    view.close();
    canvas.toBlob((blob) => open(new File([blob], "camera.png", { type: blob.type })));
  };
  $(".camera").onclick = async () => {
    if (matchMedia("(pointer: coarse)").matches) return $("[capture]").click(); // the camera of a phone
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } } });
      view.showModal();
    } catch {
      complain("The browser gives this page no camera: allow it, or choose a picture file.");
    }
  };
}

/* The translation */

async function translate() {
  if (!picture) return;
  endJob();
  const own = job = new AbortController(), began = performance.now(), seconds = () => (performance.now() - began) / 1000;
  const clock = setInterval(() => { $(".seconds").textContent = `${seconds().toFixed(0)} s`; }, 500);
  complain("");
  $(".seconds").textContent = "";
  tell("Starting");
  $(".work").hidden = false;
  try {
    const blob = await runner.translate(model, picture, scale.value, tell, own.signal);
    if (job === own) await show(blob, seconds());
  } catch (error) {
    if (job !== own) return;
    complain(error.message);
    stage.classList.add("waiting");
    $(".results").hidden = true;
    $(".outcome").hidden = before.hidden;
  } finally {
    clearInterval(clock);
    if (job === own) endJob();
  }
}

function endJob() {
  job?.abort();
  job = null;
  $(".work").hidden = true;
}

function tell(step, share) {
  const bar = $("progress"), status = $(".step");
  if (status.textContent !== step) status.textContent = step;
  if (share === undefined) bar.removeAttribute("value");
  else bar.value = share;
}

async function show(blob, seconds) {
  result = blob;
  replaceSource(after, blob);
  const shown = await after.decode().then(() => true, () => false), save = $(".save");
  stage.classList.toggle("waiting", !shown);
  $(".results").hidden = false;
  save.href = after.src;
  save.download = `${picture.name.replace(/\.[^.]*$/, "") || "picture"}-${model.direction}.${SUFFIXES[blob.type] ?? "npy"}`;
  const size = shown ? `${after.naturalWidth} × ${after.naturalHeight} pixels · ` : "This browser cannot show this kind of file; download it. ";
  $(".about").textContent = `${size}${seconds.toFixed(1)} s`;
}

function complain(message) {
  $(".problem").textContent = message;
  $(".problem").hidden = !message;
}
