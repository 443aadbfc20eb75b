// The page: runs the chosen model file on the chosen photographs and shows the answers.

import { admit, fastest, measure, runWithin, runWithMapWithin } from "./backends.js";
import { CARD, fetchBytes, loadBundle, sha256 } from "./bundle.js";
import { drawMap, scoresOf } from "./class_map.js";
import { checkAnswers, checkPixels } from "./golden.js";
import { labelsOf } from "./labels.js";
import { decode, preprocess, show } from "./photo.js";
import { accelerators, BACKENDS, load, probabilities } from "./runtimes.js";
import { decode as decodeSqz } from "./sqz.js";
import { portsOf, toOnnx } from "./sqz_onnx.js";

const TOP = 5;
const SEARCHED_CLASSES = 20; // from so many on, the list of classes has a search field
const SHORT = 12; // digits of a hash

const at = (id) => document.getElementById(id);
let bundle = { files: [], golden: null }; // of loadBundle; a .sqz file works without a bundle
// The chosen file: { name, entry, labels, preprocessing, threshold, facts }; preprocessing as in the bundle. Below the
// threshold, a probability, the answer is "not sure".
let network;
let trials = []; // of the chosen file, the first in WebAssembly: { backend, model, ms, test, refused }
let used; // the trial whose model answers
let photos = []; // of the cards: { source: File, card: Element }
const opened = new Map(); // .sqz files opened from this machine, by name

// Jobs run one after the other, because a runtime must not run twice at the same time.
let last = Promise.resolve();

function enqueue(job) {
  document.body.dataset.state = "busy";
  last = last.then(job).catch(complain);
  const mine = last;
  mine.then(() => {
    if (mine === last) document.body.dataset.state = "idle";
  });
  return mine;
}

function complain(error) {
  console.error(error);
  at("problem").textContent = error.message || String(error);
  at("problem").hidden = false;
}

async function start() {
  const [, sqz] = location.hash.match(/^#([\w.-]+\.sqz)$/) ?? [];
  try {
    bundle = await loadBundle();
  } catch (error) {
    if (!sqz) throw error;
  }
  const { files, golden } = bundle;
  if (!files.length && !sqz) throw new Error("the bundle has no .tflite or .onnx file");
  at("file").replaceChildren(...files.map((name) => new Option(name, name)));
  at("example").disabled = !golden;
  const wanted = files.find((name) => location.hash === `#${encodeURIComponent(name)}`);
  await choose(sqz ?? wanted ?? files[0]);
}

async function choose(name) {
  const offered = Array.from(at("file").options, (option) => option.value);
  if (!offered.includes(name)) at("file").add(new Option(name, name));
  at("file").value = name;
  at("file").disabled = false;
  await useFile(name);
}

async function useFile(name) {
  at("problem").hidden = true;
  for (const { model } of trials) model?.release();
  trials = [];
  used = network = undefined;
  for (const { card } of photos) clearAnswer(card);
  clearDescription(name);
  const bytes = await (isSqz(name) ? openSqz(name) : openListed(name)).catch((error) => {
    at("backend").textContent = "";
    throw error;
  });
  const { entry } = network;
  const model = await load(name, bytes, entry).catch((error) => {
    at("backend").textContent = "";
    throw new Error(`${name} cannot be run: ${error.message ?? error}`);
  });
  const base = { backend: "wasm", model };
  trials.push(base);
  used = base;
  await testItself();
  base.ms = await measure(model, anyPixels());
  showBackend();
  await classifyAll();
  tryAccelerators(trials, bytes).catch(complain); // not awaited: photographs are answered meanwhile
}

function isSqz(name) {
  return name.endsWith(".sqz");
}

// The content of a file of the bundle.
async function openListed(name) {
  const { manifest, labels } = bundle;
  const entry = manifest.files[name];
  const { preprocessing, threshold } = manifest;
  describe({ name, entry, labels, preprocessing, threshold: threshold?.value ?? 0, facts: factsOfBundle() });
  const bytes = await fetchBytes(name);
  at("file-bytes").textContent = grouped(bytes.byteLength);
  const intact = (await showHash(bytes)) === entry.sha256;
  const [state, words] = intact ? ["passed", "as in the manifest"] : ["failed", "differs from the manifest"];
  setVerdict(at("file-intact"), state, words);
  return bytes;
}

// An ONNX file of the network in a .sqz file.
async function openSqz(name) {
  const local = opened.get(name);
  const bytes = await (local ? local.arrayBuffer() : fetchBytes(name));
  const size = local ? grouped(bytes.byteLength) : `${grouped(bytes.byteLength)} downloaded`;
  at("file-bytes").textContent = size;
  const hash = await showHash(bytes);
  const [stored, ms] = timed(() => decodeSqz(new Uint8Array(bytes)), `${name} cannot be decoded`);
  at("file-bytes").textContent = `${size}, decoded in ${Math.round(ms)} ms`;
  setVerdict(at("file-intact"), "passed", "its checksum is correct");
  const { image_size, resize_to, resize, interpolation, antialias, note } = stored;
  const preprocessing = { image_size, resize_to, resize, interpolation, antialias };
  const facts = {
    Name: name.replace(/\.sqz$/, ""),
    Origin: note,
    Version: `${hash.slice(0, SHORT)} (SHA-256 of the file)`,
  };
  describe({ name, entry: portsOf(stored), labels: await labelsOf(stored), preprocessing, threshold: 0, facts });
  return toOnnx(stored);
}

function timed(job, failure) {
  const began = performance.now();
  try {
    return [job(), performance.now() - began];
  } catch (error) {
    throw new Error(`${failure}: ${error.message}`);
  }
}

// What is known of the bundle's model. An empty value is not shown.
function factsOfBundle() {
  const { manifest, title } = bundle;
  const { data, pretrained_on: before, weights, sqznet, model_sha256: hash, threshold } = manifest;
  return {
    Name: title,
    "Trained on": data,
    "Pretrained on": before,
    "Published file": weights?.file,
    "Made with": sqznet && `sqznet ${sqznet}`,
    Version: hash && `${hash.slice(0, SHORT)} (SHA-256 of the weights)`,
    "Not sure": threshold && `below a probability of ${threshold.value}`,
    Card: title && CARD,
  };
}

function clearDescription(name) {
  at("file-name").textContent = name;
  at("backend").textContent = "Loading…";
  at("backend-list").replaceChildren();
  for (const id of ["file-input", "file-output", "file-bytes", "file-sha256"]) at(id).textContent = "–";
  setVerdict(at("file-intact"), "pending", "");
  for (const id of ["golden", "resize"]) showTest(id, "pending");
  at("again").disabled = at("map").disabled = true;
}

function describe(chosen) {
  network = chosen;
  const { entry, labels, preprocessing, facts } = network;
  const port = ({ dtype, shape }) => `${dtype} (${shape.map((side) => side ?? "any").join(", ")})`;
  const { input, output, class_map: map } = entry;
  at("file-input").textContent = `${port(input)} ${input.layout}, ${input.colour_order} ${input.range.join("–")}`;
  const steps = output.scale === 1 ? "" : `, in steps of 1/${1 / output.scale}`;
  at("file-output").textContent = port(output) + steps + (map ? `; class map ${port(map)}` : "");
  at("map").disabled = !map;
  at("map-note").textContent = map
    ? "Red is the place with the largest score of the class, grey is a score of 0."
    : "This file has no class maps. Export it with --outputs=probabilities,class_map.";
  const files = at("file").length;
  const classes = counted(labels.length, "class", "classes");
  at("about").textContent = `${facts.Name ?? "A model"}: ${classes}, ${counted(files, "file", "files")} to run`;
  at("steps").textContent = preprocessing.steps ? `Preprocessing: ${preprocessing.steps}.` : "";
  showModel(facts);
  at("classes").querySelector("summary").textContent = classes;
  at("class-search").hidden = labels.length < SEARCHED_CLASSES;
  at("class-search").value = "";
  showClasses();
}

function showModel(facts) {
  const rows = Object.entries(facts).filter(([, value]) => value);
  at("model").replaceChildren(
    ...rows.flatMap(([term, value]) => {
      const details = make("dd", "", term === "Card" ? "" : value);
      if (term === "Card") {
        details.append(Object.assign(make("a", "", value), { href: `model/${value}`, target: "_blank" }));
      }
      return [make("dt", "", term), details];
    }),
  );
}

// The classes that contain the searched text, with their numbers.
function showClasses() {
  const wanted = at("class-search").value.trim().toLowerCase();
  const rows = [];
  for (const [index, label] of network.labels.entries()) {
    if (!label.toLowerCase().includes(wanted)) continue;
    rows.push(Object.assign(make("li", "", label), { value: index }));
  }
  at("class-list").replaceChildren(...rows);
}

async function showHash(bytes) {
  const found = await sha256(bytes);
  at("file-sha256").textContent = found;
  return found;
}

function grouped(bytes) {
  return `${bytes.toLocaleString("en")} bytes`;
}

function counted(count, one, more) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : more}`;
}

function make(kind, name, text) {
  return Object.assign(document.createElement(kind), { className: name, textContent: text });
}

// Backends: each that the browser has is tested and timed, and the fastest that passes is used. A backend that blocks
// the browser's thread cannot be interrupted: a mark in sessionStorage remains, and the reloaded page refuses it.

const marks = new Set(); // of the backends that are tried now

function setMark(mark) {
  marks.add(mark);
  sessionStorage.setItem(mark, "started");
}

function removeMark(mark) {
  if (marks.delete(mark)) sessionStorage.removeItem(mark);
}

async function tryAccelerators(mine, bytes) {
  const { name, entry } = network;
  const { golden } = bundle;
  document.body.dataset.backends = "trying";
  const current = () => trials === mine; // no other file was chosen meanwhile
  for (const backend of isSqz(name) || !golden ? [] : accelerators()) {
    const check = (model) => checkAnswers(name, model, entry, golden);
    const open = () => load(name, bytes, entry, backend);
    const mark = `${name} ${backend}`;
    const stopped = sessionStorage.getItem(mark) && !marks.has(mark);
    if (!stopped) setMark(mark);
    const trial = { backend, ...(stopped ? { refused: "it stopped this page before" } : await admit(open, check)) };
    await enqueue(async () => {
      if (!current()) return trial.model?.release();
      mine.push(trial);
      if (trial.model) {
        trial.ms = await measure(trial.model, anyPixels()).catch((error) => refuse(trial, error));
      }
      showBackend();
    });
    removeMark(mark);
    if (!current()) return;
  }
  await enqueue(() => {
    if (current()) keepFastest();
  });
}

// Uses the fastest backend and releases the others. WebAssembly stays, for a backend that fails later.
function keepFastest() {
  const best = trials[fastest(trials)] ?? trials[0];
  for (const trial of trials.slice(1)) {
    if (trial !== best && trial.model) {
      trial.model.release();
      delete trial.model;
    }
  }
  if (best !== used) use(best);
  showBackend();
  document.body.dataset.backends = "chosen";
}

function use(trial) {
  used = trial;
  if (trial.test) showTest("golden", trial.test.passed ? "passed" : "failed", figuresOf(trial.test));
}

// The trial stays in the list, with the reason.
function refuse(trial, error) {
  trial.model.release();
  delete trial.model;
  trial.refused = error?.message || String(error);
}

function showBackend() {
  const { name } = network;
  const words = ({ backend, model, ms }) => `${model ? `${model.runtime}, ` : ""}${BACKENDS[backend]}, ${took(ms)}`;
  at("backend").textContent = `${name}, ${words(used)}`;
  const rows = trials.map((trial) => {
    const { backend, ms, refused, test } = trial;
    const reason = refused ?? (test?.passed === false ? "it fails the self-test" : "");
    const item = make("li", "", `${BACKENDS[backend]}: ${reason ? `refused, ${reason}` : took(ms)}`);
    item.dataset.backend = backend;
    item.dataset.state = trial === used ? "used" : reason ? "refused" : "admitted";
    return item;
  });
  const reason = isSqz(name)
    ? "Only WebAssembly: a .sqz file has no recorded answers to test others with."
    : !accelerators().length && "This browser has neither WebGPU nor WebNN.";
  if (reason) rows.push(make("li", "", reason));
  at("backend-list").replaceChildren(...rows);
}

function took(ms) {
  return ms >= 0 ? `${ms.toFixed(1)} ms` : "not timed";
}

// An input for timing. The time does not depend on its values.
function anyPixels() {
  return new Uint8Array(3 * network.preprocessing.image_size ** 2).fill(127);
}

// Self-test

async function testItself() {
  const { name, entry, preprocessing } = network;
  if (isSqz(name)) {
    for (const id of ["golden", "resize"]) showTest(id, "pending", "A .sqz file has no recorded answers.");
    return;
  }
  at("again").disabled = false;
  const { golden } = bundle;
  if (!golden) {
    for (const id of ["golden", "resize"]) showTest(id, "failed", "The bundle has no golden/golden.json.");
    return;
  }
  await test("golden", async () => {
    used.test = await checkAnswers(name, used.model, entry, golden);
    return { passed: used.test.passed, figures: figuresOf(used.test) };
  });
  await test("resize", async () => {
    const results = [];
    // Bundles of earlier versions have no turned copy.
    const photographs = [golden.photo, golden.photo_turned].filter(Boolean);
    for (const photo of photographs) results.push(await checkPixels(photo, preprocessing));
    const figures = results.map(
      ({ mean, largest, limit }, index) =>
        `${index ? "Turned copy" : "Mean difference"}: ${number(mean)} of 255 levels (allowed ${limit}), ` +
        `largest ${largest}.`,
    );
    return { passed: results.every(({ passed }) => passed), figures: figures.join(" ") };
  });
}

function figuresOf({ count, largest, tolerance, top1 }) {
  return (
    `Same top-1 class for ${top1} of ${count}; largest difference of a probability ` +
    `${number(largest)} (allowed ${number(tolerance)}).`
  );
}

async function test(id, run) {
  showTest(id, "running");
  try {
    const { passed, figures } = await run();
    showTest(id, passed ? "passed" : "failed", figures);
  } catch (error) {
    showTest(id, "failed", error.message);
  }
}

function showTest(id, state, figures = "") {
  const words = { pending: "", running: "running…", passed: "passed", failed: "failed" };
  at(id).dataset.state = state;
  setVerdict(at(id).querySelector(".verdict"), state, words[state]);
  at(id).querySelector(".figures").textContent = figures;
}

function setVerdict(element, state, words) {
  element.dataset.state = state;
  element.textContent = words;
}

// Photographs: a card for each, in their order. Only the files are kept; decoded images are released at once.

function usePhotos(files) {
  if (!files.length) return;
  stopCamera();
  at("problem").hidden = true;
  photos = files.map((source) => ({ source, card: cardOf(source.name) }));
  at("photos").replaceChildren(...photos.map(({ card }) => card));
  enqueue(classifyAll);
}

function cardOf(name) {
  const card = at("photo-template").content.cloneNode(true).firstElementChild;
  card.querySelector(".note").textContent = name;
  card.querySelector("canvas").setAttribute("aria-label", `${name}, not decoded yet`);
  return card;
}

async function classifyAll() {
  const mine = photos;
  if (!mine.length || !network) return;
  for (const [index, photo] of mine.entries()) {
    if (mine.length > 1) at("status").textContent = `Classifying ${index + 1} of ${mine.length}…`;
    await classify(photo).catch((error) => showReason(photo, error));
    await new Promise((resolve) => setTimeout(resolve)); // shows the answer
    if (photos !== mine) return; // others were chosen
  }
  const refused = mine.filter(({ card }) => card.dataset.state === "refused").length;
  const done = `${counted(mine.length - refused, "photograph", "photographs")} classified`;
  const [{ card, source }] = mine;
  at("status").textContent =
    mine.length === 1
      ? `${source.name}: ${card.querySelector(".answer").textContent}`
      : done + (refused ? `, ${refused} not` : "");
}

async function classify({ source, card }) {
  const { preprocessing } = network;
  const bitmap = await decode(source);
  const { width, height } = bitmap;
  const pixels = preprocess(bitmap, width, height, preprocessing);
  bitmap.close();
  const canvas = card.querySelector("canvas");
  show(pixels, preprocessing.image_size, canvas);
  canvas.setAttribute("aria-label", `${source.name}, as the network sees it`);
  const size = [width, height].join("\u00a0×\u00a0"); // no line break
  card.querySelector(".note").textContent = `${source.name}, ${size}`;
  if (!used) return;
  const [raw, map] = await answer(pixels);
  const best = showAnswer(card, probabilities(raw, network.entry.output));
  if (map) showMap(card, source.name, pixels, map, best);
}

// The raw output, and the class map if it is shown. A backend that fails now is not used again.
async function answer(pixels) {
  const withMap = at("map").checked && network.entry.class_map;
  const run = async () =>
    withMap ? runWithMapWithin(used.model, pixels) : [await runWithin(used.model, pixels), undefined];
  try {
    return await run();
  } catch (error) {
    if (used === trials[0]) throw error;
    refuse(used, error);
    use(trials[0]);
    showBackend();
    return run();
  }
}

// Draws the class map of an answer onto the input of the network.
function showMap(card, name, pixels, map, index) {
  const { preprocessing, entry, labels } = network;
  const size = preprocessing.image_size;
  const canvas = card.querySelector("canvas");
  show(drawMap(pixels, size, scoresOf(map, index, labels.length), entry.class_map), size, canvas);
  canvas.setAttribute("aria-label", `${name}, and where the network sees: ${labels[index]}`);
}

function showReason({ card, source }, error) {
  console.error(error);
  clearAnswer(card);
  card.dataset.state = "refused";
  card.querySelector(".answer").textContent = "Not classified";
  card.querySelector(".note").textContent = error.message || String(error);
  card.querySelector("canvas").setAttribute("aria-label", `${source.name}, not decoded`);
}

function clearAnswer(card) {
  card.dataset.state = "waiting";
  card.querySelector(".answer").textContent = "…";
  card.querySelector(".results").replaceChildren();
}

// Returns the index of the most probable class.
function showAnswer(card, shares) {
  const order = Array.from(shares.keys()).sort((a, b) => shares[b] - shares[a] || a - b);
  const best = order.slice(0, TOP);
  const guess = network.labels[best[0]];
  const sure = shares[best[0]] >= network.threshold;
  card.querySelector(".answer").textContent = sure ? guess : `not sure (best guess: ${guess})`;
  card.querySelector(".results").replaceChildren(...best.map((index) => bar(index, shares[index])));
  card.dataset.state = "ready";
  return best[0];
}

function bar(index, share) {
  const item = document.createElement("li");
  Object.assign(item.dataset, { output: index, probability: share });
  const fill = make("span", "fill", "");
  fill.style.width = `${100 * share}%`;
  const track = make("span", "track", "");
  track.append(fill);
  track.setAttribute("aria-hidden", "true");
  item.append(make("span", "label", network.labels[index]), track);
  item.append(make("span", "percent", `${(100 * share).toFixed(1)} %`));
  return item;
}

function number(value) {
  return value && Math.abs(value) < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(2)));
}

// The first press of the button starts the camera, the second takes the picture.

async function pressCamera() {
  const video = at("camera");
  if (!video.hidden) {
    if (!video.videoWidth) return; // no picture yet
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    usePhotos([new File([await canvas.convertToBlob()], "Camera picture")]); // a PNG
    return;
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new Error(`the camera cannot be used: ${error.message}`);
  }
  video.hidden = false;
  at("hint").hidden = true;
  at("camera-button").textContent = "Take the picture";
  await video.play();
}

function stopCamera() {
  const video = at("camera");
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  video.hidden = true;
  at("hint").hidden = false;
  at("camera-button").textContent = "Use the camera";
}

// Files that were dropped, pasted or chosen.
function take(files) {
  const sqz = files.find(({ name }) => isSqz(name));
  if (sqz) {
    enqueue(() => {
      opened.set(sqz.name, sqz);
      return choose(sqz.name);
    });
  }
  usePhotos(files.filter(({ name }) => !isSqz(name)));
}

at("file").addEventListener("change", (event) => {
  const name = event.target.value;
  history.replaceState(null, "", opened.has(name) ? "#" : `#${encodeURIComponent(name)}`);
  enqueue(() => useFile(name));
});
for (const id of ["photo", "sqz"]) {
  at(id).addEventListener("change", (event) => {
    take([...event.target.files]);
    event.target.value = ""; // so that choosing the same file again is a change
  });
}
at("map").addEventListener("change", () => enqueue(classifyAll));
at("class-search").addEventListener("input", showClasses);
addEventListener("pagehide", () => [...marks].forEach(removeMark)); // not called where a backend blocks the thread
at("camera-button").addEventListener("click", () => pressCamera().catch(complain));
at("example").addEventListener("click", async () => {
  const name = bundle.golden.photo;
  await fetchBytes(`golden/${name}`).then((bytes) => usePhotos([new File([bytes], name)]), complain);
});
at("again").addEventListener("click", () => enqueue(() => used && testItself()));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragging", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") take([...event.dataTransfer.files]);
  });
}
document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
enqueue(start);
