window.addEventListener("error", (event) => { document.documentElement.dataset.error = event.message; });

const LAYERS = [
  ["before", "features before"],
  ["after", "features after"],
  ["mask", "prediction"],
  ["error", "errors"],
];

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  drawCurves(document.getElementById("curves"), document.getElementById("legend"), data.curves, data.upsamplers);
  if (data.images.length) startPictures(data);
  else document.getElementById("pictures").remove();
  if (data.volumes.length) startVolumes(data.volumes);
  else document.getElementById("volumes").remove();
  document.documentElement.dataset.ready = "true";
}

function startPictures(data) {
  const element = (id) => document.getElementById(id);
  const choices = [element("left-choice"), element("right-choice")];
  const showPair = makeSlider(element("slider"), element("divide"));
  let current = data.images[0];

  // "layer" of the image itself, or "layer|upsampler".
  const sourceOf = (key) => {
    const [layer, name] = key.split("|");
    return name === undefined ? current[layer] : current.results[name][layer];
  };
  for (const select of choices) {
    select.add(new Option("image", "image"));
    select.add(new Option("ground truth", "label"));
    for (const name of data.upsamplers) {
      const group = document.createElement("optgroup");
      group.label = name;
      for (const [layer, words] of LAYERS) group.append(new Option(`${name}: ${words}`, `${layer}|${name}`));
      select.add(group);
    }
    select.addEventListener("change", showSlider);
  }
  const first = data.upsamplers[0], last = data.upsamplers[data.upsamplers.length - 1];
  choices[0].value = first === last ? `before|${first}` : `after|${first}`;
  choices[1].value = `after|${last}`;

  function showSlider() {
    const side = (select) => ({ source: sourceOf(select.value), name: select.selectedOptions[0].text });
    showPair(side(choices[0]), side(choices[1]), `${current.width} / ${current.height}`);
  }

  function panel(source, words, caption) {
    const figure = document.createElement("figure");
    const box = document.createElement("div");
    box.className = "view";
    box.style.aspectRatio = `${current.width} / ${current.height}`;
    box.append(picture(source, `${words} of ${current.name}`));
    makeZoomable(box);
    const text = document.createElement("figcaption");
    text.textContent = caption;
    figure.append(box, text);
    return figure;
  }

  function key() {
    const block = document.createElement("div");
    block.className = "key";
    const entries = [["var(--good)", "correct"], ["var(--wrong)", "wrong"], ["var(--ignored)", "not counted"], ...data.classes];
    for (const [colour, words] of entries) {
      const line = document.createElement("div");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = colour;
      line.append(swatch, words);
      block.append(line);
    }
    return block;
  }

  function heading(words) {
    const block = document.createElement("div");
    block.className = "column";
    block.textContent = words;
    return block;
  }

  function showPanels() {
    const references = [
      () => panel(current.image, "Image", "image"),
      () => panel(current.overlay, "Ground truth over the image", "ground truth over the image"),
      () => panel(current.label, "Ground truth", "ground truth"),
      key,
    ];
    const cells = [heading(current.name), ...data.upsamplers.map(heading)];
    LAYERS.forEach(([layer, words], row) => {
      cells.push(references[row]());
      for (const name of data.upsamplers) {
        const result = current.results[name];
        const caption = layer === "error" ? `errors: ${(100 - result.correct).toFixed(1)} % of the pixels` : words;
        cells.push(panel(result[layer], `${name}: ${words}`, caption));
      }
    });
    const grid = element("panels");
    grid.style.gridTemplateColumns = `repeat(${data.upsamplers.length + 1}, minmax(180px, 380px))`;
    grid.replaceChildren(...cells);
    applyView(grid);
  }

  function choose(index) {
    current = data.images[index];
    [...element("thumbnails").children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
    setView(1, 0, 0);
    showSlider();
    showPanels();
  }

  data.images.forEach((image, index) => {
    const button = document.createElement("button");
    const thumbnail = document.createElement("img");
    button.type = "button";
    thumbnail.src = image.image;
    thumbnail.alt = image.name;
    button.append(thumbnail);
    button.addEventListener("click", () => choose(index));
    element("thumbnails").append(button);
  });
  element("zoom-in").addEventListener("click", () => zoomAt(1.4, 0.5, 0.5));
  element("zoom-out").addEventListener("click", () => zoomAt(1 / 1.4, 0.5, 0.5));
  element("zoom-reset").addEventListener("click", () => setView(1, 0, 0));
  view.listeners.push(() => {
    applyView(document);
    element("zoom-level").textContent = `${Math.round(view.scale * 100)} %`;
  });
  choose(0);
}

start();
