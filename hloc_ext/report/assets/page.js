"use strict";

const plots = [...document.querySelectorAll(".plot")];

function themeLayout() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: value("--line"), linecolor: value("--muted"), zerolinecolor: value("--line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: value("--text"), size: 14, family: getComputedStyle(document.body).fontFamily },
    legendBackground: value("--surface"),
    axis,
  };
}

function withTheme(layout, isScene) {
  const { axis, legendBackground, ...theme } = themeLayout();
  const themed = { ...layout, ...theme, autosize: true };
  themed.legend = { ...layout.legend, bgcolor: isScene ? legendBackground : "rgba(0,0,0,0)" };
  if (!isScene) {
    themed.xaxis = { ...layout.xaxis, ...axis };
    themed.yaxis = { ...layout.yaxis, ...axis };
  }
  return themed;
}

function draw(plot) {
  const isScene = plot.classList.contains("scene");
  const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
  const layout = plot.layout || figure.layout;
  const config = { responsive: true, displaylogo: false, displayModeBar: isScene ? "hover" : false, scrollZoom: isScene };
  Plotly.react(plot, plot.data || figure.data, withTheme(layout, isScene), config);
}

function drawAll() {
  plots.forEach(draw);
}

if (plots.length) {
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  matchMedia("print").addEventListener("change", drawAll);
}

// The wheel scrolls the page until the view has been clicked, so that a reader is not caught in it.
for (const plot of plots.filter((each) => each.classList.contains("scene"))) {
  let active = false;
  plot.addEventListener("pointerdown", () => { active = true; });
  plot.addEventListener("mouseleave", () => { active = false; });
  plot.addEventListener("wheel", (event) => { if (!active) event.stopPropagation(); }, { capture: true });
}

function sortKey(row, column) {
  const cell = row.cells[column];
  if (!("value" in cell.dataset)) return cell.textContent;
  return cell.dataset.value === "" ? null : Number(cell.dataset.value.replace("inf", "Infinity"));
}

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number") return a === b ? 0 : sign * (a < b ? -1 : 1);
  return sign * a.localeCompare(b, undefined, { numeric: true });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const ascending = header.getAttribute("aria-sort") !== "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => [sortKey(row, column), row]);
      rows.sort((a, b) => compare(a[0], b[0], ascending ? 1 : -1));
      table.tBodies[0].append(...rows.map((entry) => entry[1]));
    });
  });
}

for (const input of document.querySelectorAll(".filter")) {
  const rows = [...input.parentElement.querySelectorAll("tbody tr")];
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
