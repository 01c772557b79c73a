/* Numbers as people read them. */

/** A probability; 0.00 and 1.00 would claim certainty. */
export function probability(value, digits = 2) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const least = 10 ** -digits;
  if (value < least / 2) return `< ${least.toFixed(digits)}`;
  return value >= 1 - least / 2 ? `> ${(1 - least).toFixed(digits)}` : value.toFixed(digits);
}

/** The longest of 1, 2 and 5 times a power of ten that is at most `longest`. */
export function roundLength(longest) {
  const power = 10 ** Math.floor(Math.log10(longest));
  return Math.max(...[1, 2, 5].map((step) => step * power).filter((length) => length <= longest));
}

/** A length as it is read at the microscope: mm from one on, µm below. */
export function length(um) {
  return um >= 1000 ? `${+(um / 1000).toPrecision(3)} mm` : `${+um.toPrecision(3)} µm`;
}

/** An area in mm², or in pixels where the slide's resolution is not known. */
export function area(px, mpp) {
  if (mpp === null) return `${count(Math.round(px))} px²`;
  const mm2 = (px * mpp * mpp) / 1e6;
  return mm2 >= 0.01 ? `${+mm2.toPrecision(2)} mm²` : `${count(+(mm2 * 1e6).toPrecision(2))} µm²`;
}

export function count(number) {
  return number.toLocaleString("en");
}

export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}
