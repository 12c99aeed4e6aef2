"use strict";
// Before the explorer reads its runs: of all in the page, those that the address names, in that order.
(function () {
  const root = document.getElementById("explorer"), told = document.getElementById("runs-compared");
  const all = new Map([...root.querySelectorAll("script.run")].map((script) => [script.dataset.at, script]));
  const wanted = new URLSearchParams(location.search).getAll("run").filter((at) => all.has(at));
  const chosen = wanted.length ? wanted : [...all.keys()].slice(0, 2);
  all.forEach((script) => script.remove());
  chosen.forEach((at, k) => {
    root.append(all.get(at));
    const link = document.createElement("a");
    link.href = `${at}/report.html`;
    link.textContent = at.replace(/^runs\//, "");
    told.append(k ? ", " : "", link);
  });
})();
