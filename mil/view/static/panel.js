/* The panel beside the slide: what the heatmap shows, its regions, facts of the slide. */

import { byId, keep, kept, make } from "./dom.js";
import { area, count, length, plural, probability } from "./wording.js";

const MOST_LISTED = 200;
const OPACITY = 65; // per cent, as in the overlay pictures

/** The choices of the heatmap's controls; `changed` is called with the name of what was changed. */
export class Choices {
  constructor(slide, changed) {
    this.slide = slide;
    this.frozen = slide.tile_threshold ?? 0.5;
    const { classes } = slide.scored;
    const called = classes.indexOf(slide.prediction);
    const positive = classes.slice(1).map((name) => `p(${name})`).join(" + ");
    const names = classes.map((name) => `p(${name})`);
    if (classes.length > 2) names.push(positive);
    byId("class").replaceChildren(...names.map((name, number) => make("option", { value: number }, name)));
    byId("class").value = called > 0 ? called : Math.min(1, classes.length - 1);
    byId("opacity").value = kept("opacity") ?? OPACITY;
    byId("threshold").value = this.frozen;
    this.threshold = this.frozen; // which the control's steps may not hit
    byId("frozen").textContent = slide.tile_threshold === null
      ? "The model has no threshold; shown is 0.5:"
      : `Frozen with the model at ${this.frozen.toFixed(3)} for ${positive}:`;
    byId("threshold").addEventListener("input", () => {
      this.threshold = Number(byId("threshold").value);
      changed("threshold");
    });
    byId("reset").addEventListener("click", () => {
      this.set("threshold", this.frozen);
      this.threshold = this.frozen;
      changed("threshold");
    });
    byId("opacity").addEventListener("input", () => {
      keep("opacity", byId("opacity").value);
      changed("opacity");
    });
    byId("class").addEventListener("change", () => changed("class"));
    for (const name of ["heat-shown", "above-only", "regions-shown"])
      byId(name).addEventListener("change", () => changed(name));
    byId("region-of").hidden = classes.length < 3;
    byId("region-of").textContent = `max and mean are of ${positive}`;
    byId("heatmap").hidden = byId("regions").hidden = false;
  }

  get number() {
    return Number(byId("class").value);
  }

  set number(number) {
    byId("class").value = number;
  }

  get opacity() {
    return Number(byId("opacity").value) / 100;
  }

  /** How hot a place has to be to be coloured, null where that does not matter. */
  get least() {
    return this.is("above-only") ? this.threshold : null;
  }

  /** Where the threshold is on the scale of the class, null where it is one for several. */
  get mark() {
    return this.slide.scored.classes.length === 2 && this.number === 1 ? this.threshold : null;
  }

  is(name) {
    return byId(name).checked;
  }

  /** Change a control as if by hand. */
  set(name, value) {
    const control = byId(name);
    if (control.type === "checkbox") control.checked = value;
    else control.value = value;
    control.dispatchEvent(new Event(control.type === "range" ? "input" : "change"));
  }

  add(name, step) {
    this.set(name, Number(byId(name).value) + step);
  }

  toggle(name) {
    this.set(name, !this.is(name));
  }

  nextClass() {
    this.set("class", (this.number + 1) % byId("class").options.length);
  }

  tell() {
    byId("threshold-value").textContent = this.threshold.toFixed(2);
    byId("opacity-value").textContent = `${byId("opacity").value} %`;
    const name = byId("class").selectedOptions[0].textContent;
    byId("bar").setAttribute("aria-label", `colours of ${name} from 0 to 1, dark violet over green to yellow`);
  }
}

/** List the regions; `go` is called with the number of the one that is pressed. */
export function listRegions(regions, cellPx, mpp, go) {
  byId("region-count").textContent = regions.length ? count(regions.length) : "";
  const rows = regions.slice(0, MOST_LISTED).map((region, number) =>
    make("li", {}, make("button", { type: "button", onclick: () => go(number) },
      make("span", { class: "number" }, `${number + 1}`),
      make("span", {}, area(region.cells * cellPx * cellPx, mpp)),
      make("span", {}, `max ${probability(region.most)}`),
      make("span", {}, `mean ${probability(region.sum / region.cells)}`))));
  if (!regions.length) rows.push(make("li", { class: "note" }, "No tile of this class is at or above the threshold."));
  if (regions.length > MOST_LISTED)
    rows.push(make("li", { class: "note" }, `and ${plural(regions.length - MOST_LISTED, "smaller one")}`));
  byId("region-list").replaceChildren(...rows);
}

/** Mark the region that is looked at. */
export function markRegion(number) {
  [...byId("region-list").querySelectorAll("button")].forEach((button, at) => {
    if (at === number) {
      button.setAttribute("aria-current", "true");
      button.scrollIntoView({ block: "nearest" });
    } else button.removeAttribute("aria-current");
  });
}

/** Tell what is known of the slide. */
export function tellFacts(slide, mpp) {
  const [width, height] = slide.picture?.size_px ?? slide.scored?.size_px ?? [0, 0];
  const facts = [
    ["label", slide.label],
    ["patient", slide.patient_id],
    ["prediction", slide.prediction],
    ...Object.entries(slide.probability ?? {}).map(([name, value]) => [`p(${name})`, probability(value)]),
    ["flags", (slide.flags ?? []).join(", ")],
    ["size", width ? `${count(width)} × ${count(height)} px` : ""],
    ["extent", mpp && width ? `${length(width * mpp)} × ${length(height * mpp)}` : ""],
    ["resolution", mpp ? `${+mpp.toPrecision(5)} µm/px` : "not stated"],
    ["tiles", slide.scored ? count(slide.scored.n_tiles) : ""],
    ["tile side", slide.scored && mpp ? length(slide.scored.tile_px * mpp) : ""],
    ["learner", slide.scored?.learner],
    ["reader", slide.picture?.reader],
    ["status", slide.status],
  ];
  byId("facts").replaceChildren(...facts.filter(([, told]) => told).map(([name, told]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, told))));
}
