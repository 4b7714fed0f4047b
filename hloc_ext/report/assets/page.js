"use strict";

const plots = [...document.querySelectorAll(".plot")];
const narrow = matchMedia("(max-width: 760px)");

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function withTheme(layout, isScene) {
  const axis = { gridcolor: color("--line"), linecolor: color("--muted"), zerolinecolor: color("--line"), automargin: true };
  const clear = "rgba(0,0,0,0)";
  const themed = {
    ...layout,
    autosize: true,
    uirevision: "keep",
    paper_bgcolor: clear,
    plot_bgcolor: clear,
    font: { color: color("--text"), size: narrow.matches ? 13 : 14, family: getComputedStyle(document.body).fontFamily },
    legend: { ...layout.legend, bgcolor: isScene ? color("--stripe") : clear },
    hoverlabel: { font: { size: 14 } },
    modebar: { bgcolor: clear, color: color("--muted"), activecolor: color("--accent") },
  };
  return isScene ? themed : { ...themed, xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis } };
}

// A view that is higher than wide needs more distance to show the same width.
function fitWidth(plot, layout) {
  const factor = Math.max(1, Math.min(2, plot.clientHeight / plot.clientWidth));
  const eye = layout.scene.camera.eye;
  for (const name of ["x", "y", "z"]) eye[name] *= factor;
}

function draw(plot) {
  const isScene = plot.classList.contains("scene");
  const first = !plot.layout;
  const figure = first ? JSON.parse(document.getElementById(plot.dataset.figure).textContent) : plot;
  if (isScene) {
    if (first) fitWidth(plot, figure.layout);
    for (const trace of figure.data) if (trace.name === "grid") trace.line.color = color("--grid");
  }
  const config = { responsive: true, displaylogo: false, displayModeBar: isScene && !narrow.matches ? "hover" : false, scrollZoom: isScene };
  Plotly.react(plot, figure.data, withTheme(figure.layout, isScene), config);
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

for (const swipe of document.querySelectorAll(".swipe")) {
  const slider = swipe.querySelector("input");
  const move = () => swipe.style.setProperty("--at", `${slider.value}%`);
  slider.addEventListener("input", move);
  move();
}
