"use strict";
// The page from its data. Names are set as text, never as HTML. ASCII alone: see page.py.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const share = (value) => value === null || value === undefined ? "\u2013" : value.toFixed(3);
const percent = (value) => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)}%`;

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function table(into, heads, rows) {
  into.append(make("thead", {}, make("tr", {}, ...heads.map((h) => make("th", { scope: "col" }, h)))));
  into.append(make("tbody", {}, ...rows));
}

function row(head, cells) {
  return make("tr", {}, make("th", { scope: "row" }, ...head),
    ...cells.map((cell) => make("td", {}, cell)));
}

function bar(value) {
  const shown = make("span", { class: "bar" }, share(value));
  if (value) shown.append(make("i", { style: `width: ${(8 * value).toFixed(2)}rem` }));
  return shown;
}

const swatch = (colour) => make("span", { class: "swatch", style: `background: ${colour}` });

// ------------------------------------------------------------------------------------- charts

const DASHES = ["", "7 3", "2 3", "9 3 2 3", "14 4", "4 4"]; // told apart without colour too
const look = (number) => ({
  stroke: `var(--line-${number % 6 + 1})`, "stroke-dasharray": DASHES[number % 6],
});

// Lines over 1, 2, 3, ...; null values are left out.
function chart(title, lines, across) {
  const [left, right, top, bottom, width, height] = [40, 12, 10, 36, 400, 240];
  const values = lines.flatMap((line) => line.values).filter((value) => value !== null);
  const count = Math.max(...lines.map((line) => line.values.length));
  const high = Math.max(...values) || 1;
  const x = (index) => left + (width - left - right) * index / Math.max(count - 1, 1);
  const y = (value) => height - bottom - (height - top - bottom) * value / high;
  const svg = make("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${title}, by ${across}. The numbers stand below.`,
  });
  for (let part = 0; part <= 4; part += 1) {
    const value = high * part / 4;
    svg.append(make("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      make("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toPrecision(2)));
  }
  for (let index = 0; index < count; index += Math.ceil(count / 8)) {
    svg.append(make("text", { x: x(index), y: height - bottom + 16, "text-anchor": "middle" }, `${index + 1}`));
  }
  svg.append(make("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, across));
  lines.forEach((line, number) => {
    const points = line.values.map((value, index) => [x(index), value]).filter(([, value]) => value !== null);
    const path = points.map(([px, value], k) => `${k ? "L" : "M"}${px.toFixed(1)} ${y(value).toFixed(1)}`);
    const dots = points.map(([px, value]) => `M${px.toFixed(1)} ${y(value).toFixed(1)}h0`);
    svg.append(make("path", { d: path.join(""), ...look(number) }));
    svg.append(make("path", { d: dots.join(""), stroke: look(number).stroke, class: "dots" }));
  });
  const key = make("ul", { class: "key" }, ...lines.map((line, number) => make("li", {},
    make("svg", { viewBox: "0 0 32 6", "aria-hidden": "true" }, make("path", { d: "M0 3H32", ...look(number) })),
    line.name)));
  const numbers = make("table");
  table(numbers, [across, ...Array.from({ length: count }, (_, index) => `${index + 1}`)],
    lines.map((line) => row([line.name], line.values.map(share))));
  const scroll = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${title}: numbers` }, numbers);
  return make("div", {}, make("h3", {}, title), svg, key,
    make("details", {}, make("summary", {}, "As numbers"), scroll));
}

// ------------------------------------------------------------------------------------ gallery

const last = Math.max(1, ...data.gallery.flatMap((item) => item.layers.map((layer) => layer.step || 1)));
let found = data.gallery;
let chosen = 0;

function showPicture() {
  const item = found[chosen], step = Number(at("step").value);
  const hasSteps = Boolean(item && item.layers.some((layer) => layer.step));
  at("step").disabled = !hasSteps;
  at("step-value").textContent = hasSteps ? ` ${step} of ${last}` : " none: not a training picture";
  at("step").setAttribute("aria-valuetext", `step ${step} of ${last}`);
  [...at("thumbnails").children].forEach(({ firstChild: button }, index) => {
    button.tabIndex = index === chosen ? 0 : -1;
    button.setAttribute("aria-current", index === chosen);
  });
  at("picture-title").textContent = item ? item.id : "";
  at("picture-facts").textContent = item ? [
    item.tags.length ? `Tags: ${item.tags.join(", ")}` : "No tags", `split ${item.split}`,
    item.iou === null ? null : `${item.judged}: mean IoU of its objects ${share(item.iou)}`,
  ].filter(Boolean).join("; ") : "";
  const layers = item ? item.layers.filter((layer) => layer.step === null || layer.step === step) : [];
  at("layers").replaceChildren(...layers.map((layer) => make("figure", {},
    make("img", { src: layer.image, alt: `${layer.title}: ${item.id}` }),
    make("figcaption", {}, layer.title))));
}

function thumbnail(item, index) {
  const name = make("span", {}, item.id, ...(item.iou === null ? [] : [make("br"), share(item.iou)]));
  const button = make("button", { type: "button" },
    make("img", { src: item.layers[0].image, alt: "" }), name);
  button.addEventListener("click", () => { chosen = index; showPicture(); });
  return make("li", {}, button);
}

function search() {
  const words = at("search").value.trim().toLowerCase();
  found = data.gallery.filter((item) => [item.id, ...item.tags].some((text) => text.toLowerCase().includes(words)));
  chosen = 0;
  at("thumbnails").replaceChildren(...found.map(thumbnail));
  at("count").textContent = `${found.length} of ${data.gallery.length} pictures`
    + (data.gallery.some((item) => item.iou !== null) ? ", of training and of validation the worst first" : "")
    + (data.left_out ? `; ${data.left_out} more had no room here` : "");
  showPicture();
}

function choose(index) {
  chosen = Math.min(Math.max(index, 0), found.length - 1);
  showPicture();
  const button = at("thumbnails").children[chosen].firstChild;
  button.focus();
  button.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function slide(by) {
  at("step").value = Number(at("step").value) + by;
  showPicture();
}

function fillGallery() {
  if (!data.gallery.length) return false;
  const tags = [...new Set(data.gallery.flatMap((item) => item.tags))].sort();
  at("tags").append(...tags.map((tag) => make("option", { value: tag })));
  at("legend").append(...data.classes.slice(1).map(({ name, colour }) => make("li", {}, swatch(colour), name)));
  Object.assign(at("step"), { max: last, value: 1 });
  at("step-label").hidden = last === 1;
  at("step").addEventListener("input", showPicture);
  at("search").addEventListener("input", search);
  at("thumbnails").addEventListener("keydown", (event) => {
    const keys = {
      ArrowUp: () => choose(chosen - 1), ArrowDown: () => choose(chosen + 1),
      Home: () => choose(0), End: () => choose(found.length - 1),
      ArrowLeft: () => slide(-1), ArrowRight: () => slide(1),
    };
    if (!keys[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  search();
  return true;
}

// ---------------------------------------------------------------------------- the other sections

function fillVerdict() {
  at("sentences").append(...data.sentences.map((sentence) => make("li", {}, sentence)));
  return data.sentences.length > 0;
}

function fillSteps() {
  if (!data.losses.some(({ title }) => title.includes("M_t"))) return false;
  const measured = (name) => data.steps.map((step) => step[name]);
  const lines = [["labelled pixels", "mask_miou"], ["unlabelled counted wrong", "mask_miou_void_wrong"]]
    .map(([name, key]) => ({ name, values: measured(key) }))
    .filter((line) => line.values.some((value) => value !== null));
  if (lines.length) at("step-charts").append(chart("mIoU of the masks S", lines, "erase steps merged"));
  const heads = ["steps", "loss of M_t", "mIoU, labelled", "mIoU, unlabelled wrong", "labelled", "\u03b4", "IoU with the salient area"];
  table(at("step-table"), heads, data.steps.map((step, index) => row([index ? `1 to ${index + 1}` : "1"], [
    share(step.classifier_loss), share(step.mask_miou), share(step.mask_miou_void_wrong),
    share(step.mask_labelled_share), step.threshold === null ? "\u2013" : `${step.threshold}`, share(step.agreement),
  ])));
  return true;
}

function fillSegmenters() {
  const highest = (one) => Math.max(one.plain, one.crf);
  const ceilings = data.segmenters.filter((one) => one.ceiling && highest(one) > 0);
  // Of a ceiling that was measured in the same way.
  const best = ({ how }) => Math.max(0, ...ceilings.filter((one) => one.how === how).map(highest));
  const rows = data.segmenters.map((one) => {
    const made = row([one.ceiling ? `${one.title} (ceiling)` : one.title], [bar(one.plain), bar(one.crf)]);
    if (one.ceiling) made.className = "ceiling";
    if (ceilings.length) made.append(make("td", {}, best(one) ? percent(highest(one) / best(one)) : "\u2013"));
    return made;
  });
  const heads = ["segmenter", "mIoU", "with CRF", ...(ceilings.length ? ["of the ceiling"] : [])];
  if (rows.length) table(at("segmenter-table"), heads, rows);
  return rows.length > 0 || data.losses.some(({ title }) => title.includes("segmenters"));
}

function showResult() {
  const result = data.results[Number(at("result").value)];
  at("class-table").replaceChildren();
  table(at("class-table"), ["class", "IoU"], result.iou.map((iou, id) =>
    row([swatch(data.classes[id].colour), data.classes[id].name], [bar(iou)])));
  at("confused").replaceChildren(...result.confused.map(([truth, said, part]) => make("li", {},
    `${percent(part)} of ${data.classes[truth].name} is taken for ${data.classes[said].name}`)));
}

function fillClasses() {
  if (!data.results.length) return false;
  at("result").append(...data.results.map((result, index) =>
    make("option", { value: index }, `${result.title}: mIoU ${share(result.miou)}`)));
  at("result").addEventListener("change", showResult);
  showResult();
  return true;
}

function fillFlow() {
  const sum = (phases) => phases.reduce((total, phase) => total + phase.seconds, 0);
  at("total").textContent = `${duration(sum(data.flow.flatMap((stage) => stage.phases)))} in all.`;
  at("stages").append(...data.flow.map((stage) => make("li", {},
    make("h3", {}, make("span", {}, stage.title), make("span", { class: "time" }, duration(sum(stage.phases)))),
    make("ul", {}, ...stage.phases.map((phase) => make("li", {},
      make("div", { class: "phase" }, make("code", {}, phase.key), make("span", { class: "time" }, duration(phase.seconds))),
      ...(phase.said ? [make("p", { class: "said" }, phase.said)] : []),
      ...(phase.stale ? [make("p", { class: "said stale" }, "stale: what it was made from was made again")] : [])))))));
  return data.flow.length > 0;
}

function fillCharts() {
  for (const { title, lines } of data.losses) {
    at(title.includes("M_t") ? "step-charts" : "segmenter-charts").append(chart(title, lines, "epoch"));
  }
}

// --------------------------------------------------------------------------------------- colours

function isDark() {
  const set = document.documentElement.style.colorScheme;
  return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function nameColours() {
  at("theme").textContent = isDark() ? "Light colours" : "Dark colours";
}

at("theme").addEventListener("click", () => {
  document.documentElement.style.colorScheme = isDark() ? "light" : "dark";
  nameColours();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameColours);
nameColours();

document.title = `AE-PSL: ${data.run}`;
at("run").textContent = data.run;
const SECTIONS = [
  ["verdict", "In words", fillVerdict, "Numbers to put in words: nothing was measured."],
  ["gallery", "Pictures", fillGallery, "Pictures: make the report again (--restart)."],
  ["steps", "Erase steps", fillSteps, "Erase steps: no classifier is finished."],
  ["segmenters", "Segmenters", fillSegmenters, "Segmenters: none is finished."],
  ["classes", "Classes", fillClasses, "IoU by class: nothing was evaluated against ground truth."],
  ["flow", "Phases", fillFlow, "Phases: none is finished."],
];
for (const [id, title, fill, absent] of SECTIONS) {
  if (fill()) {
    at("contents").append(make("li", {}, make("a", { href: `#${id}` }, title)));
  } else {
    at(id).remove();
    at("absent").append(make("li", {}, absent));
  }
}
fillCharts();
if (!at("absent").children.length) at("missing").remove();
