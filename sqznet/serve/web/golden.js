// The self-test of a bundle: recorded inputs must give the recorded outputs, and a photograph its recorded pixels.

import { fetchBytes } from "./bundle.js";
import { decode, exactPixels, preprocess } from "./photo.js";
import { probabilities } from "./runtimes.js";

const ARRAYS = { float32: Float32Array, uint8: Uint8Array };
// Levels of 255. TensorFlow decodes JPEGs with a faster, less exact cosine transform than browsers, which makes pixels
// darker by 0.8 levels on average. 90 photographs differed by 0.6 to 1.8. A wrong crop or wrong colours mostly give
// 5 to 50.
const MEAN_LEVELS = 2;

/**
 * Runs every golden input through a file.
 *
 * @param {string} name of the file
 * @param {{run: Function}} model of runtimes.load
 * @param {object} entry of the file in manifest.json
 * @param {object} golden golden.json
 * @returns {Promise<{passed: boolean, count: number, largest: number, tolerance: number, top1: number}>}
 *   `largest`: difference of any probability; `top1`: number of inputs with the recorded top-1 class.
 */
export async function checkAnswers(name, model, entry, golden) {
  const recorded = golden.expected[name];
  if (!recorded) throw new Error(`golden.json has no answers for ${name}`);
  const inputs = new Uint8Array(await fetchBytes(`golden/${golden.inputs.file}`));
  const expected = read(await fetchBytes(`golden/${recorded.file}`), recorded);
  const pixels = inputs.length / golden.count;
  const classes = recorded.shape[1];
  let [largest, top1] = [0, 0];
  for (let index = 0; index < golden.count; index++) {
    const raw = await model.run(inputs.subarray(index * pixels, (index + 1) * pixels));
    if (raw.length !== classes) throw new Error(`${name} has ${raw.length} outputs, and golden.json has ${classes}`);
    const got = probabilities(raw, entry.output);
    const wanted = probabilities(expected.subarray(index * classes, (index + 1) * classes), entry.output);
    for (let each = 0; each < classes; each++) {
      largest = Math.max(largest, Math.abs(got[each] - wanted[each])); // NaN stays NaN and does not pass
    }
    if (likeliest(got) === recorded.top1[index]) top1++;
  }
  const { tolerance } = recorded;
  return { passed: largest <= tolerance, count: golden.count, largest, tolerance, top1 };
}

/**
 * Decodes and resizes the golden photograph, and compares it with the golden pixels.
 *
 * @param {string} photo a file in golden/: the photograph of golden.json, or its turned copy
 * @param {object} preprocessing of manifest.json
 * @returns {Promise<{passed: boolean, largest: number, mean: number, limit: number}>} in levels of 255
 */
export async function checkPixels(photo, preprocessing) {
  const bitmap = await decode(new Blob([await fetchBytes(`golden/${photo}`)]));
  const got = preprocess(bitmap, bitmap.width, bitmap.height, preprocessing);
  bitmap.close();
  const wanted = await exactPixels(new Blob([await fetchBytes("golden/0.png")]));
  if (got.length !== wanted.length) throw new Error("the size of golden/0.png is not that of the network's input");
  let [largest, sum] = [0, 0];
  for (let index = 0; index < got.length; index++) {
    const difference = Math.abs(got[index] - wanted[index]);
    largest = Math.max(largest, difference);
    sum += difference;
  }
  const mean = sum / got.length;
  return { passed: mean <= MEAN_LEVELS, largest, mean, limit: MEAN_LEVELS };
}

/** Index of the largest value; of equal values, the first. */
export function likeliest(values) {
  return values.indexOf(Math.max(...values));
}

function read(bytes, { dtype, shape, file }) {
  const wanted = shape.reduce((product, side) => product * side, ARRAYS[dtype].BYTES_PER_ELEMENT);
  if (bytes.byteLength !== wanted) throw new Error(`golden/${file} has ${bytes.byteLength} bytes, not ${wanted}`);
  return new ARRAYS[dtype](bytes); // little-endian, as on every machine with a browser
}
