/* The page of one slide. */

import { byId, keepInTab, make } from "./dom.js";
import { HeatLayer } from "./heat_layer.js";
import { bindKeys } from "./keys.js";
import { drawBar, tissueColour } from "./legend.js";
import { LineLayer } from "./line_layer.js";
import { Overview } from "./overview.js";
import { Choices, listRegions, markRegion, tellFacts } from "./panel.js";
import { bindPlace } from "./place.js";
import { bindPointers } from "./pointer.js";
import { findRegions, regionEdges } from "./regions.js";
import { askBytes, askJson } from "./server.js";
import { asRow, bindNeighbours, bindPanel, tellCalled, tellProblems } from "./slide_frame.js";
import { keysOf } from "./slide_keys.js";
import { SlideLayer } from "./slide_layer.js";
import { Stage } from "./stage.js";
import { TileTable } from "./tile_table.js";
import { length, probability, roundLength } from "./wording.js";

const KEY = location.pathname.split("/").pop();
const PATH = `api/slides/${KEY}`;
const SCALE_PX = 180;

/** The slide with its layers; heatmap and lines are there once scores are. */
class SlidePage {
  constructor(slide) {
    this.slide = slide;
    this.sizePx = slide.picture?.size_px ?? slide.scored.size_px;
    this.mpp = slide.scored?.mpp ?? slide.picture?.mpp ?? null;
    this.stage = new Stage(byId("stage"), this.sizePx);
    this.view = this.stage.view;
    this.pixels = null;
    if (slide.picture) {
      this.pixels = new SlideLayer(PATH, slide.picture, () => this.#pixelsCame());
      this.stage.layers.push(this.pixels);
    }
    this.problem = null; // what could not be loaded last
    this.told = "[]";
    this.seen = ""; // the tiles whose probabilities are told
    this.regions = [];
    this.region = -1;
    byId("overview").hidden = !slide.picture;
    this.overview = new Overview(byId("overview"), this.sizePx, [], (x, y) => this.#move({ x, y }));
    this.stage.whenDrawn = () => this.#drawn();
    bindPointers(this.stage, (x, y) => this.pointAt(x, y));
    bindPlace(this.stage);
  }

  async showScores() {
    const { scored, scale } = this.slide;
    this.tiles = new TileTable(await askBytes(`${PATH}/tiles`), scored);
    this.lines = new LineLayer(scored, this.tiles);
    this.#bindTissue();
    if (!hasScores(this.slide)) {
      this.stage.layers.push(this.lines);
      this.stage.redraw();
      return;
    }
    this.heat = new HeatLayer(PATH, scored, scale, this.tiles);
    this.stage.layers.push(this.heat, this.lines);
    this.overview.layers.push(this.heat);
    this.choices = new Choices(this.slide, (name) => this.choose(name));
    this.#tellUnread();
    await this.choose("class");
  }

  #bindTissue() {
    const show = () => {
      this.lines.isTissueShown = byId("tissue-shown").checked;
      this.stage.redraw();
    };
    byId("tissue").hidden = false;
    byId("tissue-shown").addEventListener("change", show);
    show();
  }

  /** Show what was chosen by the control `name`. */
  async choose(name) {
    const { choices, heat, lines } = this;
    if (name === "class" && !(await this.#takeClass(choices.number))) return;
    heat.isShown = choices.is("heat-shown");
    lines.areRegionsShown = choices.is("regions-shown") && heat.isShown;
    if (name !== "threshold" || choices.is("above-only")) this.stage.later(this.#colour);
    if (["class", "threshold"].includes(name)) this.stage.later(this.#findRegions);
    choices.tell();
    this.#drawBar();
    this.stage.redraw();
  }

  /** Load a class; return whether it is still the one to show. */
  async #takeClass(number) {
    const { choices, heat } = this;
    let rasters = null;
    this.problem = null;
    try {
      rasters = await heat.load(number);
    } catch (problem) {
      this.problem = problem;
    }
    if (number !== choices.number) return false; // meanwhile another one was chosen
    this.#tellProblems();
    if (rasters) heat.take(number, rasters);
    else if (heat.values.length) choices.number = heat.number;
    return rasters !== null;
  }

  #tellProblems() {
    const own = [this.pixels?.problem, this.problem].filter(Boolean).map(asRow);
    const told = JSON.stringify(own);
    if (told !== this.told) tellProblems([...this.slide.problems, ...own]);
    this.told = told;
  }

  #colour = () => this.heat.colour(this.choices.opacity, this.choices.least);

  #findRegions = () => {
    const { width, height, cell_px: cell } = this.heat.raster;
    this.regions = findRegions(this.heat.hot, width, this.choices.threshold);
    this.lines.edges = regionEdges(this.heat.hot, width, height, this.choices.threshold);
    this.lines.chosen = null;
    this.region = -1;
    listRegions(this.regions, cell, this.mpp, (number) => this.goToRegion(number));
  };

  /** Go so many regions on. */
  stepRegion(by) {
    this.stage.settle(); // the threshold may just have moved
    this.goToRegion(by > 0 ? this.region + by : Math.max(this.region, 0) + by);
  }

  goToRegion(number) {
    if (!this.regions.length) return;
    this.region = (number + this.regions.length) % this.regions.length;
    const region = this.regions[this.region];
    const cell = this.heat.raster.cell_px;
    this.lines.chosen = region;
    markRegion(this.region);
    const box = Object.fromEntries(["left", "top", "right", "bottom"].map((edge) => [edge, region[edge] * cell]));
    this.view.show(box);
    this.stage.redraw();
  }

  /** Tell the probabilities at a place in level-0 pixels, of none where it is null. */
  pointAt(x, y) {
    if (!this.tiles) return;
    const found = x === null ? [] : this.tiles.at(x, y);
    const tile = found.at(-1) ?? null;
    byId("reading").hidden = tile === null;
    const seen = `${found} ${this.choices?.number}`;
    if (seen === this.seen) return;
    this.seen = seen;
    this.lines.tile = tile;
    this.stage.redraw();
    if (tile !== null) this.#tell(found, tile);
  }

  #tell(found, tile) {
    const [left, top] = this.tiles.corner(tile).map(Math.round);
    const parts = this.tiles.mean(found).map((value, number) =>
      make("span", { class: this.choices?.number === number ? "value main" : "value" },
        `p(${this.slide.scored.classes[number]}) `, make("b", {}, Number.isNaN(value) ? "not read" : probability(value, 3))));
    const several = found.length > 1 ? `mean of ${found.length} tiles, ` : "";
    parts.push(make("span", { class: "where" }, `${several}tile ${tile + 1} at ${left}, ${top}`));
    byId("reading").replaceChildren(...parts);
  }

  #tellUnread() {
    const { length: n } = this.tiles.unread;
    byId("unread").hidden = !n;
    byId("unread").textContent = `${n} tile${n === 1 ? "" : "s"} could not be read: crossed out in red, no score.`;
  }

  #pixelsCame() {
    this.#tellProblems();
    if (this.pixels.overview && !this.beneath) this.#drawBar();
    this.stage.redraw();
  }

  #drawBar() {
    if (!this.heat) return;
    const picture = this.pixels?.overview;
    if (picture && this.heat.values.length) this.beneath ??= tissueColour(picture, this.heat.values, this.#spread());
    drawBar(byId("bar"), this.slide.scale, this.beneath ?? [255, 255, 255], this.choices);
  }

  /** The part of the raster that lies on the slide, in cells. */
  #spread() {
    const { width, height } = this.heat.raster;
    return { width, height };
  }

  #drawn() {
    this.overview.draw(this.pixels?.overview, this.view);
    const unit = this.mpp ?? 1;
    const longest = roundLength((SCALE_PX * unit) / this.view.now.scale);
    byId("scale-bar").style.width = `${(longest / unit) * this.view.now.scale}px`;
    const zoom = this.mpp ? `${+(this.mpp / this.view.now.scale).toPrecision(2)} µm/px` : "resolution not stated";
    byId("scale-text").textContent = `${this.mpp ? length(longest) : `${longest} px`} · ${zoom}`;
  }

  #move({ x, y }) {
    this.view.go({ x, y, scale: this.view.now.scale }, true);
    this.stage.redraw();
  }

  act(change) {
    change(this.view);
    this.stage.redraw();
  }

  /** Move by keys, and tell what is in the middle then. */
  pan(dx, dy) {
    this.act((view) => view.pan(dx, dy));
    this.pointAt(this.view.aim.x, this.view.aim.y);
  }
}

/** Whether there is a heatmap to show. */
function hasScores({ scored }) {
  return Boolean(scored?.classes.length && scored.n_tiles);
}

async function start() {
  bindPanel();
  let slide;
  let page = null;
  try {
    slide = await askJson(PATH);
    if (slide.scored?.n_tiles === 0)
      slide.problems.push({ step: "tile", error: `no tiles (${slide.status})`, hint: "no model has seen any of it" });
    document.title = `${slide.slide_id} · slidebag`;
    byId("slide-id").textContent = slide.slide_id;
    byId("subtitle").textContent = [slide.run, slide.patient_id].filter(Boolean).join(" · ");
    tellCalled(slide);
    tellProblems(slide.problems);
    bindNeighbours(slide, KEY);
    keepInTab("seen", KEY);
    if (slide.picture || slide.scored) page = new SlidePage(slide);
    tellFacts(slide, page?.mpp ?? null);
  } catch (problem) {
    tellProblems([...(slide?.problems ?? []), asRow(problem)]);
  }
  bindKeys(keysOf(page, slide && hasScores(slide)));
  if (page) await fill(page);
  else byId("stage").setAttribute("aria-busy", "false");
}

/** Let the page be used, and add the scores when they have come. */
async function fill(page) {
  bindButtons(page);
  try {
    if (page.slide.scored) await page.showScores();
  } catch (problem) {
    tellProblems([...page.slide.problems, asRow(problem)]);
  }
  page.stage.isWaiting = false;
  page.stage.redraw();
}

function bindButtons(page) {
  byId("zoom-in").addEventListener("click", () => page.act((view) => view.zoom(1.5)));
  byId("zoom-out").addEventListener("click", () => page.act((view) => view.zoom(1 / 1.5)));
  byId("zoom-fit").addEventListener("click", () => page.act((view) => view.fit()));
  byId("zoom-full").addEventListener("click", () =>
    page.act((view) => view.zoom(1 / page.stage.ratio / view.aim.scale)));
  byId("region-after").addEventListener("click", () => page.stepRegion(1));
  byId("region-before").addEventListener("click", () => page.stepRegion(-1));
}

await start();
