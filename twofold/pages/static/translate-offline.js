
/* The runner of the page that holds its models: a worker, which a new job or the Cancel button ends. */

function offlineRunner() {
  const block = (id) => document.getElementById(id).textContent;
  const { models, webgpu } = JSON.parse(block("contents"));
  const code = URL.createObjectURL(new Blob([block("worker")], { type: "text/javascript" }));
  const speeds = {}; // milliseconds a pixel, by direction
  const loaded = new Set(); // directions whose model the worker has
  let worker = null;

  const stop = () => { worker?.terminate(); worker = null; loaded.clear(); };
  const running = () => {
    if (worker) return worker;
    worker = new Worker(code);
    worker.postMessage({ runtime: { ort: block("ort"), glue: block("glue"), wasm: block("wasm"), webgpu } });
    return worker;
  };

  const translate = (model, picture, at, tell, signal) => new Promise((resolve, reject) => {
    let timer = 0, began = 0, pixels = 0;
    const end = (settle, value) => { clearInterval(timer); signal.onabort = null; settle(value); };
    const fail = (message) => { stop(); end(reject, new Error(message)); };
    const progress = (step) => {
      clearInterval(timer);
      tell(step);
      if (pixels && began) speeds[model.direction] = (performance.now() - began) / pixels;
      pixels = 0;
    };
    running().onmessage = ({ data }) => {
      if (data.error) return data.broken ? fail(data.error) : end(reject, new Error(data.error));
      if (data.result) { loaded.add(model.direction); return end(resolve, data.result); }
      progress(data.step);
      if (!data.pixels) return;
      [began, pixels] = [performance.now(), data.pixels];
      const expected = speeds[model.direction] * pixels;
      if (expected) timer = setInterval(() => tell(data.step, Math.min(0.97, (performance.now() - began) / expected)), 100);
    };
    worker.onerror = (event) => { event.preventDefault(); fail(`This browser cannot run the model: ${event.message}.`); };
    signal.onabort = () => fail("");
    worker.postMessage({ picture, model, at, weights: loaded.has(model.direction) ? null : block(`model-${model.direction}`) });
  });
  return { models, translate };
}

startPage(offlineRunner());
