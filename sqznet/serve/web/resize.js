// Crops and resizes a photograph to the square input of the network, as sqznet/images/crop.py does.
//
// The scaling of browsers (canvas, createImageBitmap) differs from that of training and between browsers. This code
// computes TensorFlow's `tf.image.resize`: half-pixel centres, weights that add up to 1, float32 throughout and, with
// antialiasing, a kernel that is wider the more the image shrinks.

const triangle = (x) => Math.max(0, 1 - x);
const KERNELS = {
  bilinear: { radius: 1, weight: triangle, offset: 0.5 },
  bilinear_corner: { radius: 1, weight: triangle, offset: 0 }, // pixel x is at x * scale, as in TensorFlow 1
  bicubic: { radius: 2, weight: keysCubic, offset: 0.5 },
};

// Keys 1981, a = -0.5.
function keysCubic(x) {
  if (x >= 2) return 0;
  if (x >= 1) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return (1.5 * x - 2.5) * x * x + 1;
}

/**
 * The part of a photograph that becomes the input of the network, in pixels of the photograph.
 *
 * @param {number} width of the photograph
 * @param {number} height of the photograph
 * @param {{image_size: number, resize_to: number, resize: "short"|"squash"}} preprocessing of manifest.json
 * @returns {{left: number, top: number, width: number, height: number}}
 */
export function centralBox(width, height, preprocessing) {
  const share = Math.fround(preprocessing.image_size / preprocessing.resize_to);
  const part = (side) => Math.min(side, Math.max(1, roundHalfEven(Math.fround(side * share))));
  let [boxWidth, boxHeight] = [part(width), part(height)];
  if (preprocessing.resize === "short") boxWidth = boxHeight = part(Math.min(width, height));
  else if (preprocessing.resize !== "squash") throw new Error(`unknown resize ${preprocessing.resize}`);
  return {
    left: Math.floor((width - boxWidth) / 2),
    top: Math.floor((height - boxHeight) / 2),
    width: boxWidth,
    height: boxHeight,
  };
}

/**
 * Scales RGBA pixels to a square of RGB pixels; alpha is ignored.
 *
 * @param {Uint8ClampedArray|Uint8Array} rgba (height, width, 4), as of ImageData
 * @param {number} width
 * @param {number} height
 * @param {{image_size: number, interpolation: string, antialias: boolean}} preprocessing of manifest.json
 * @returns {Uint8Array} (image_size, image_size, 3), 0..255
 */
export function resize(rgba, width, height, preprocessing) {
  const { image_size: size, interpolation, antialias = true } = preprocessing;
  const kernel = KERNELS[interpolation];
  if (!kernel) throw new Error(`unknown interpolation ${interpolation}; known are ${Object.keys(KERNELS).join(", ")}`);

  const squashed = new Float32Array(size * width * 3); // (size, width, 3)
  for (const [y, { start, weights }] of spans(height, size, kernel, antialias).entries()) {
    for (const [tap, weight] of weights.entries()) {
      let from = (start + tap) * width * 4;
      const end = (y + 1) * width * 3;
      for (let to = y * width * 3; to < end; to += 3, from += 4) {
        squashed[to] += weight * rgba[from];
        squashed[to + 1] += weight * rgba[from + 1];
        squashed[to + 2] += weight * rgba[from + 2];
      }
    }
  }

  const square = new Uint8Array(size * size * 3);
  for (const [x, { start, weights }] of spans(width, size, kernel, antialias).entries()) {
    for (let y = 0; y < size; y++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let tap = 0; tap < weights.length; tap++) {
          sum = Math.fround(sum + weights[tap] * squashed[(y * width + start + tap) * 3 + channel]);
        }
        square[(y * size + x) * 3 + channel] = Math.min(255, Math.max(0, roundHalfEven(sum)));
      }
    }
  }
  return square;
}

// For each pixel of the result: the first source pixel, and the weights of that one and the following ones.
function spans(from, to, kernel, antialias) {
  const inverse = Math.fround(1 / Math.fround(to / from));
  const widened = antialias ? Math.max(1, inverse) : 1;
  const reach = Math.fround(kernel.radius * widened);
  return Array.from({ length: to }, (_, index) => {
    const centre = Math.fround((index + kernel.offset) * inverse + 0.5 - kernel.offset);
    const start = clamp(Math.ceil(Math.fround(centre - reach - 0.5)), from);
    const last = clamp(Math.floor(Math.fround(centre + reach - 0.5)), from);
    const weights = new Float32Array(last - start + 1);
    for (let tap = 0; tap < weights.length; tap++) {
      weights[tap] = kernel.weight(Math.abs(start + tap + 0.5 - centre) / widened);
    }
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { start, weights: weights.map((weight) => weight / total) };
  });
}

function clamp(index, length) {
  return Math.min(length - 1, Math.max(0, index));
}

function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
}
