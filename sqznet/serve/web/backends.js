// Chooses what runs a file: the fastest of the backends that pass the self-test.

/** A backend is refused if it has not loaded the file and passed the self-test after that long. */
export const TRIAL_MS = 30_000;
const RUN_MS = 5_000; // of one run, afterwards
const TIMED_RUNS = 20;
const TIMED_MS = 1_000; // no new timed run after that long

/**
 * Loads a file on a backend and tests it.
 *
 * @param {() => Promise<{run: Function, release: Function}>} open loads the file, as runtimes.load
 * @param {(model: object) => Promise<object>} check tests it, as golden.checkAnswers
 * @param {number} limit in milliseconds
 * @returns {Promise<{model?: object, test?: object, refused?: string}>} either the model and the result of its test, or
 *   the reason why the backend is refused. A refused model is released, also one that comes after the limit.
 */
export async function admit(open, check, limit = TRIAL_MS) {
  let late = false;
  const trial = async () => {
    const model = await open();
    try {
      const test = await check(model);
      if (!test.passed) throw new Error(`its answers differ from the recorded ones by up to ${test.largest}`);
      if (late) throw new Error("it answered too late");
      return { model, test };
    } catch (error) {
      model.release();
      throw error;
    }
  };
  try {
    return await within(limit, trial());
  } catch (error) {
    late = true;
    return { refused: error?.message || String(error) };
  }
}

/**
 * The milliseconds of a run, the median of several after one that is not counted.
 *
 * @param {{run: Function}} model
 * @param {Uint8Array} pixels any input of the network
 */
export async function measure(model, pixels) {
  await runWithin(model, pixels);
  const times = [];
  const began = performance.now();
  while (times.length < TIMED_RUNS && performance.now() - began < TIMED_MS) {
    const before = performance.now();
    await runWithin(model, pixels);
    times.push(performance.now() - before);
  }
  return median(times);
}

/** The raw output for `pixels`; an error if the backend does not answer in time. */
export function runWithin(model, pixels, limit = RUN_MS) {
  return within(limit, model.run(pixels));
}

/** The raw output and the class map for `pixels`; an error if the backend does not answer in time. */
export function runWithMapWithin(model, pixels, limit = RUN_MS) {
  return within(limit, model.runWithMap(pixels));
}

/** The index of the trial with the lowest `ms` whose model passed its test; -1 if there is none. */
export function fastest(trials) {
  const times = trials.map(({ model, test, ms }) => (model && test?.passed && ms >= 0 ? ms : Infinity));
  const best = Math.min(...times);
  return best === Infinity ? -1 : times.indexOf(best);
}

function within(limit, promise) {
  let timer;
  const over = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it did not answer within ${limit / 1000} s`)), limit);
  });
  return Promise.race([promise, over]).finally(() => clearTimeout(timer));
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
