window.addEventListener("error", (event) => { document.documentElement.dataset.error = event.message; });

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

  // "place" among the references, or "place|upsampler" among its layers.
  const layerOf = (key) => {
    const [place, name] = key.split("|");
    return (name === undefined ? current.references : current.results[name])[Number(place)];
  };
  const layers = current.results[data.upsamplers[0]];
  for (const select of choices) {
    current.references.forEach((layer, place) => select.add(new Option(layer.words, String(place))));
    for (const name of data.upsamplers) {
      const group = document.createElement("optgroup");
      group.label = name;
      layers.forEach((layer, place) => group.append(new Option(`${name}: ${layer.words}`, `${place}|${name}`)));
      select.add(group);
    }
    select.addEventListener("change", showSlider);
  }
  // Features before the upsampler come first, those after it second.
  const first = data.upsamplers[0], last = data.upsamplers[data.upsamplers.length - 1];
  choices[0].value = first === last ? `0|${first}` : `1|${first}`;
  choices[1].value = `1|${last}`;

  function showSlider() {
    const side = (select) => ({ source: layerOf(select.value).source, name: select.selectedOptions[0].text });
    showPair(side(choices[0]), side(choices[1]), `${current.width} / ${current.height}`);
  }

  function panel(layer, words) {
    const figure = document.createElement("figure");
    const box = document.createElement("div");
    box.className = "view";
    box.style.aspectRatio = `${current.width} / ${current.height}`;
    box.append(picture(layer.source, `${words} of ${current.name}`));
    makeZoomable(box);
    const text = document.createElement("figcaption");
    text.textContent = layer.caption;
    figure.append(box, text);
    return figure;
  }

  function key() {
    const block = document.createElement("div");
    block.className = "key";
    for (const [colour, words] of data.key) {
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
    const cells = [heading(current.name), ...data.upsamplers.map(heading)];
    layers.forEach((_, row) => {
      const reference = current.references[row];
      cells.push(reference ? panel(reference, reference.words) : key());
      for (const name of data.upsamplers) {
        const layer = current.results[name][row];
        cells.push(panel(layer, `${name}: ${layer.words}`));
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
    thumbnail.src = image.references[0].source;
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
