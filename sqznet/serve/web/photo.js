// Converts an image file or a camera picture to the input pixels of the network.

import { isCmykJpegWithProfile, isWebp, webpOrientation } from "./headers.js";
import { centralBox, resize } from "./resize.js";

/**
 * @param {Blob} blob an encoded image
 * @returns {Promise<ImageBitmap>} upright, in sRGB; of an animation, the first picture
 */
export async function decode(blob) {
  const name = blob.name ?? "this file";
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (isCmykJpegWithProfile(bytes)) {
    throw new Error(`${name} is a CMYK image with a colour profile, which browsers convert wrongly; save it as sRGB`);
  }
  const turns = isWebp(bytes);
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      colorSpaceConversion: "default", // uses the file's profile, as in training
      premultiplyAlpha: "none",
      imageOrientation: turns ? "none" : "from-image",
    });
  } catch {
    throw new Error(`${name} is not an image that this browser can decode`);
  }
  return turns ? turned(bitmap, webpOrientation(bytes)) : bitmap;
}

// Rotates or mirrors an image by its EXIF orientation.
function turned(image, orientation) {
  const { width, height } = image;
  const transform = {
    2: [-1, 0, 0, 1, width, 0],
    3: [-1, 0, 0, -1, width, height],
    4: [1, 0, 0, -1, 0, height],
    5: [0, 1, 1, 0, 0, 0],
    6: [0, 1, -1, 0, height, 0],
    7: [0, -1, -1, 0, height, width],
    8: [0, -1, 1, 0, 0, width],
  }[orientation];
  if (!transform) return image;
  const canvas = orientation < 5 ? new OffscreenCanvas(width, height) : new OffscreenCanvas(height, width);
  const context = canvas.getContext("2d", { colorSpace: "srgb" });
  context.imageSmoothingEnabled = false;
  context.setTransform(...transform);
  context.drawImage(image, 0, 0);
  image.close();
  return canvas.transferToImageBitmap();
}

/**
 * @param {ImageBitmap|HTMLVideoElement} image
 * @param {number} width of the image, in its own pixels
 * @param {number} height of the image, in its own pixels
 * @param {object} preprocessing of manifest.json
 * @returns {Uint8Array} (image_size, image_size, 3) RGB, 0..255
 */
export function preprocess(image, width, height, preprocessing) {
  const box = centralBox(width, height, preprocessing);
  const rgba = pixelsOf(image, box);
  return resize(rgba, box.width, box.height, preprocessing);
}

// RGBA pixels of a part of an image, without scaling, composited on white.
function pixelsOf(image, { left, top, width, height }) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  context.drawImage(image, -left, -top);
  return context.getImageData(0, 0, width, height).data;
}

/** RGB pixels of an encoded image at its own size, (height, width, 3). */
export async function exactPixels(blob) {
  const bitmap = await decode(blob);
  const rgba = pixelsOf(bitmap, { left: 0, top: 0, width: bitmap.width, height: bitmap.height });
  bitmap.close();
  return rgba.filter((_, index) => index % 4 !== 3);
}

/** Draws RGB pixels (size, size, 3) onto a canvas. */
export function show(pixels, size, canvas) {
  [canvas.width, canvas.height] = [size, size];
  const image = new ImageData(size, size);
  for (let pixel = 0; pixel < size * size; pixel++) {
    image.data.set(pixels.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
    image.data[4 * pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
