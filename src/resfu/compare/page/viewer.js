"use strict";

// All pictures share one view: scale, and the position of the picture's origin in units of the panel's size.
const view = { scale: 1, x: 0, y: 0, listeners: [] };
const MAX_SCALE = 24;

function setView(scale, x, y) {
  view.scale = Math.min(MAX_SCALE, Math.max(1, scale));
  const least = 1 - view.scale; // the picture always covers the panel
  view.x = Math.min(0, Math.max(least, x));
  view.y = Math.min(0, Math.max(least, y));
  for (const listener of view.listeners) listener();
}

// Zoom so that the point (px, py) of the panel, in 0..1, stays where it is.
function zoomAt(factor, px, py) {
  const scale = Math.min(MAX_SCALE, Math.max(1, view.scale * factor));
  const ratio = scale / view.scale;
  setView(scale, px - (px - view.x) * ratio, py - (py - view.y) * ratio);
}

function applyView(root) {
  for (const image of root.querySelectorAll("img.zoomed")) {
    image.style.transform = `translate(${view.x * 100}%, ${view.y * 100}%) scale(${view.scale})`;
  }
}

function picture(source, description) {
  const image = document.createElement("img");
  image.className = "zoomed";
  image.src = source;
  image.alt = description;
  image.draggable = false;
  return image;
}

// Make an element of class `view` answer wheel, drag and keys.
function makeZoomable(element) {
  element.tabIndex = 0;
  element.addEventListener("wheel", (event) => {
    // Without focus the wheel scrolls the page, as a reader expects.
    if (!element.contains(document.activeElement) && !event.ctrlKey) return;
    event.preventDefault();
    const box = element.getBoundingClientRect();
    zoomAt(Math.exp(-event.deltaY * 0.0015), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }, { passive: false });
  let drag = null;
  element.addEventListener("pointerdown", (event) => {
    element.focus({ preventScroll: true });
    drag = { x: event.clientX, y: event.clientY, viewX: view.x, viewY: view.y };
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const box = element.getBoundingClientRect();
    setView(view.scale, drag.viewX + (event.clientX - drag.x) / box.width, drag.viewY + (event.clientY - drag.y) / box.height);
  });
  for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => { drag = null; });
  element.addEventListener("keydown", (event) => {
    const step = 0.12;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key === "+" || event.key === "=") zoomAt(1.4, 0.5, 0.5);
    else if (event.key === "-") zoomAt(1 / 1.4, 0.5, 0.5);
    else if (event.key === "0") setView(1, 0, 0);
    else if (event.key in moves && view.scale > 1) setView(view.scale, view.x + moves[event.key][0], view.y + moves[event.key][1]);
    else return;
    event.preventDefault();
  });
}

// A picture with an empty caption; `size` has its width and height, `description` says what it is.
function makePane(source, description, size) {
  const figure = document.createElement("figure");
  const box = document.createElement("div");
  box.className = "view";
  box.style.aspectRatio = `${size.width} / ${size.height}`;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", description);
  box.append(picture(source, description));
  makeZoomable(box);
  figure.append(box, document.createElement("figcaption"));
  return figure;
}

// Two pictures, one over the other, with a movable border between them.
function makeSlider(root, range) {
  root.innerHTML = "";
  const box = document.createElement("div");
  box.className = "view";
  const halves = ["left", "right"].map((side) => {
    const half = document.createElement("div");
    half.className = "half";
    const name = document.createElement("span");
    name.className = `name ${side}`;
    return { half, name };
  });
  const handle = document.createElement("div");
  handle.className = "handle";
  box.append(halves[1].half, halves[0].half);
  root.append(box, halves[0].name, halves[1].name, handle);
  makeZoomable(box);
  const divide = () => {
    const percent = Number(range.value);
    halves[0].half.style.clipPath = `inset(0 ${100 - percent}% 0 0)`;
    handle.style.left = `${percent}%`;
  };
  range.addEventListener("input", divide);
  let held = false;
  handle.addEventListener("pointerdown", (event) => { held = true; handle.setPointerCapture(event.pointerId); event.preventDefault(); });
  handle.addEventListener("pointerup", () => { held = false; });
  handle.addEventListener("pointermove", (event) => {
    if (!held) return;
    const area = root.getBoundingClientRect();
    range.value = String((event.clientX - area.left) / area.width * 100);
    divide();
  });
  divide();
  return (left, right, ratio) => {
    box.style.aspectRatio = ratio;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `Left: ${left.name}. Right: ${right.name}.`);
    [left, right].forEach((side, index) => {
      halves[index].half.replaceChildren(picture(side.source, side.name));
      halves[index].name.textContent = side.name;
    });
    applyView(box);
  };
}
