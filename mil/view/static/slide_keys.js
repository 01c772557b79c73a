/* The keys of a slide's page. */

import { byId } from "./dom.js";

const PAN_PX = 120;

const press = (id) => () => byId(id).click();

/** The keys of the page; without a slide to look at, those that leave it. Scores may still be on their way. */
export function keysOf(page, hasScores) {
  const leaving = [
    ["j", "next slide", press("after")],
    ["k", "slide before", press("before")],
    ["b Escape", "back to the cohort", press("back")],
    ["d", "dark or light", press("theme")],
    ["s", "panel", press("toggle-panel")],
  ];
  if (!page) return leaving;
  const moving = [
    ["ArrowLeft", "move left", () => page.pan(PAN_PX, 0)],
    ["ArrowRight", "move right", () => page.pan(-PAN_PX, 0)],
    ["ArrowUp", "move up", () => page.pan(0, PAN_PX)],
    ["ArrowDown", "move down", () => page.pan(0, -PAN_PX)],
    ["+ =", "zoom in", () => page.act((view) => view.zoom(1.5))],
    ["- _", "zoom out", () => page.act((view) => view.zoom(1 / 1.5))],
    ["0", "whole slide", () => page.act((view) => view.fit())],
    ["1", "a pixel of the scan on one of the screen", press("zoom-full")],
    ["t", "outline of tissue", press("tissue-shown")],
  ];
  if (!hasScores) return [...moving, ...leaving];
  return [
    ["n", "next hot region", () => page.stepRegion(1)],
    ["p", "region before", () => page.stepRegion(-1)],
    ["h", "heatmap on or off", () => page.choices?.toggle("heat-shown")],
    ["c", "next class", () => page.choices?.nextClass()],
    [", .", "less or more opacity", (event) => page.choices?.add("opacity", event.key === "." ? 5 : -5)],
    ["[ ]", "lower or higher threshold", (event) => page.choices?.add("threshold", event.key === "]" ? 0.01 : -0.01)],
    ["a", "only from the threshold on", () => page.choices?.toggle("above-only")],
    ["o", "outline of regions", () => page.choices?.toggle("regions-shown")],
    ...moving,
    ...leaving,
  ];
}
