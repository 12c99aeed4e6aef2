"use strict";
// In a frame of a notebook: tells how high it is, and is as light or as dark as what is around it.
(function () {
  if (parent === window) return;
  const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
  const dark = rules.filter((rule) => rule.media && rule.conditionText.includes("prefers-color-scheme: dark"));
  const told = () => parent.postMessage({ explorerHeight: Math.ceil(document.documentElement.getBoundingClientRect().height) + 1 }, "*");
  addEventListener("message", (event) => {
    if (event.source !== parent || !event.data || typeof event.data.explorerDark !== "boolean") return;
    document.documentElement.style.colorScheme = event.data.explorerDark ? "dark" : "light";
    for (const rule of dark) rule.media.mediaText = event.data.explorerDark ? "all" : "not all";
    document.getElementById("explorer").dispatchEvent(new Event("colours"));
  });
  new ResizeObserver(told).observe(document.documentElement);
})();
