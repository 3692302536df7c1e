const SERIES = ["#3b82c4", "#d9662b", "#2f9e6e", "#b04fa8", "#c79a1b", "#5f6fd1", "#c8475c", "#4aa3b5", "#8a7a55", "#7f9a2d", "#9a5f3c", "#777f88"];
const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, parent, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

// Round steps (1, 2 or 5 times a power of ten) that cut a range into about `count` parts.
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let t = Math.ceil(low / step); t * step <= high + step * 1e-9; t++) found.push(t * step);
  return found;
}

function smoothed(points, span) {
  return points.map((point, index) => {
    const around = points.slice(Math.max(0, index - span), index + span + 1);
    return [point[0], around.reduce((sum, p) => sum + p[1], 0) / around.length];
  });
}

function plain(value) {
  return Math.abs(value) >= 10 ? value.toFixed(1) : value.toPrecision(3);
}

// One chart: {title, series: [{upsampler, seed, points: [[step, value], ...]}]}.
function drawChart(chart, upsamplers) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = chart.title;
  const readout = document.createElement("div");
  readout.className = "readout";
  const all = chart.series.flatMap((series) => series.points);
  const width = 560, height = 300, left = 48, right = 12, top = 10, bottom = 34;
  const steps = all.map((p) => p[0]), values = all.map((p) => p[1]).sort((a, b) => a - b);
  const x0 = Math.min(...steps), x1 = Math.max(...steps, x0 + 1);
  // The first losses of a run are high and would flatten the rest: leave out the upper percent when there are many.
  let y0 = values[0], y1 = values[values.length > 100 ? Math.floor(values.length * 0.99) : values.length - 1];
  if (y1 <= y0) { y0 -= 0.5; y1 += 0.5; }
  const margin = (y1 - y0) * 0.06;
  y0 -= margin; y1 += margin;
  const px = (s) => left + (s - x0) / (x1 - x0) * (width - left - right);
  const py = (v) => top + (y1 - Math.min(y1, Math.max(y0, v))) / (y1 - y0) * (height - top - bottom);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${chart.title} over training steps` });
  for (const v of ticks(y0, y1, 5)) {
    svg("line", { class: "grid", x1: left, x2: width - right, y1: py(v), y2: py(v) }, drawing);
    svg("text", { x: left - 6, y: py(v) + 4, "text-anchor": "end" }, drawing, String(Number(v.toPrecision(6))));
  }
  for (const s of ticks(x0, x1, 6)) svg("text", { x: px(s), y: height - 14, "text-anchor": "middle" }, drawing, String(s));
  svg("text", { x: width - right, y: height - 1, "text-anchor": "end" }, drawing, "step");
  const path = (points) => points.map((p, i) => `${i ? "L" : "M"}${px(p[0]).toFixed(1)} ${py(p[1]).toFixed(1)}`).join("");
  for (const series of chart.series) {
    const stroke = SERIES[upsamplers.indexOf(series.upsampler) % SERIES.length];
    const many = series.points.length > 60;
    if (many) svg("path", { class: "raw", d: path(series.points), stroke }, drawing);
    series.line = many ? smoothed(series.points, Math.ceil(series.points.length / 40)) : series.points;
    svg("path", { class: "line", d: path(series.line), stroke }, drawing);
    if (!many) for (const p of series.points) svg("circle", { cx: px(p[0]), cy: py(p[1]), r: 3, fill: stroke }, drawing);
  }
  const cursor = svg("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" }, drawing);
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const step = x0 + ((event.clientX - box.left) / box.width * width - left) / (width - left - right) * (x1 - x0);
    const nearest = (line) => line.reduce((best, p) => (Math.abs(p[0] - step) < Math.abs(best[0] - step) ? p : best));
    const shown = chart.series.map((series) => [series, nearest(series.line)]);
    const at = shown[0][1][0];
    cursor.setAttribute("x1", px(at));
    cursor.setAttribute("x2", px(at));
    cursor.setAttribute("visibility", "visible");
    readout.textContent = `step ${at}: ` + shown.map(([s, p]) => `${s.upsampler} (seed ${s.seed}) ${plain(p[1])}`).join(", ");
  });
  figure.append(caption, drawing, readout);
  return figure;
}

function drawCurves(root, legend, charts, upsamplers) {
  upsamplers.forEach((name, index) => {
    const entry = document.createElement("span");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = SERIES[index % SERIES.length];
    entry.append(swatch, name);
    legend.append(entry);
  });
  for (const chart of charts) {
    if (chart.series.some((series) => series.points.length)) root.append(drawChart(chart, upsamplers));
  }
}
