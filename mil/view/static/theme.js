/* Light or dark: as the system has it, until the button says otherwise. No module, so that it is set before
   anything is drawn. */
"use strict";

(() => {
  const kept = "slidebag-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");

  function recall() {
    try {
      return localStorage.getItem(kept);
    } catch {
      return null; // storage is switched off
    }
  }

  function show(theme) {
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new Event("themechange"));
  }

  function toggle() {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(kept, theme);
    } catch {
      // then it holds for this page
    }
    show(theme);
  }

  show(recall() ?? (system.matches ? "dark" : "light"));
  system.addEventListener("change", () => recall() ?? show(system.matches ? "dark" : "light"));
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", toggle);
  });
})();
