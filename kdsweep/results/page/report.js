"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");

// Names such as "@accent" stand for the page's own colours, which follow the theme.
function colours() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue("--" + name).trim();
}
function painted(value, colour) {
  if (typeof value === "string") return value.startsWith("@") ? colour(value.slice(1)) || value : value;
  if (Array.isArray(value)) return value.map((item) => painted(item, colour));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, key === "text" ? item : painted(item, colour)]));
  }
  return value;
}
function axis(given, colour) {
  return Object.assign({
    gridcolor: colour("line"), linecolor: colour("faint"), zeroline: false, automargin: true, ticks: "",
  }, given, (given || {}).title ? { title: { text: given.title, standoff: 12 } } : {});
}
function draw() {
  const colour = colours();
  for (const [id, figure] of Object.entries(figures)) {
    const given = painted(figure.layout, colour);
    const layout = Object.assign({ margin: { l: 60, r: 16, t: 10, b: 46 } }, given, {
      height: figure.height, autosize: true, hovermode: "closest",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("text") },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("text") },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("faint"), font: { color: colour("text") }, align: "left" },
      xaxis: axis(given.xaxis, colour), yaxis: axis(given.yaxis, colour),
    });
    layout.margin = Object.assign({ l: 60, r: 16, t: 10, b: 46 }, given.margin || {});
    Plotly.react(id, painted(figure.data, colour), layout, {
      responsive: true, displaylogo: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendDataToCloud"],
      displayModeBar: figure.height > 300 ? "hover" : false,
    });
  }
}
draw();
dark.addEventListener("change", draw);

for (const head of document.querySelectorAll("th[data-sort]")) {
  head.tabIndex = 0;
  const sort = () => {
    const body = head.closest("table").tBodies[0], column = head.cellIndex;
    const down = head.getAttribute("aria-sort") !== "descending";
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const number = (text) => (text === "" || isNaN(text) ? null : Number(text));
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)], [p, q] = [number(x), number(y)];
      if (p === null && q === null) return down ? y.localeCompare(x) : x.localeCompare(y);
      if (p === null || q === null) return p === null ? 1 : -1; // what has no value comes last
      return down ? q - p : p - q;
    });
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
}
