window.addEventListener("error", (event) => { document.documentElement.dataset.error = event.message; });

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const shown = (id) => { document.getElementById(id).hidden = false; };
  shown("training");
  drawCurves(document.getElementById("curves"), document.getElementById("legend"), data.curves, data.upsamplers);
  if (data.images.length) { shown("pictures"); startPictures(data); }
  else document.getElementById("pictures").remove();
  if (data.volumes.length) { shown("volumes"); startVolumes(data.volumes); }
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
    select.addEventListener("change", () => { showSlider(); arrange(); });
  }
  // Features before the upsampler come first, those after it second.
  const first = data.upsamplers[0], last = data.upsamplers[data.upsamplers.length - 1];
  choices[0].value = first === last ? `0|${first}` : `1|${first}`;
  choices[1].value = `1|${last}`;

  function showSlider() {
    const side = (select) => ({ source: layerOf(select.value).source, name: select.selectedOptions[0].text });
    showPair(side(choices[0]), side(choices[1]), `${current.width} / ${current.height}`);
  }

  // A layer of an upsampler, or without a name one of the image itself.
  function panel(layer, name) {
    const words = name === undefined ? layer.words : `${name}: ${layer.words}`;
    const figure = makePane(layer.source, `${words} of ${current.name}`, current);
    const text = figure.querySelector("figcaption");
    if (name === undefined) figure.classList.add("reference");
    else {
      const who = document.createElement("span");
      who.className = "who";
      who.textContent = `${name}: `;
      text.append(who);
    }
    text.append(layer.caption);
    return figure;
  }

  function key() {
    const block = document.createElement("div");
    block.className = "key reference";
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
      cells.push(reference ? panel(reference) : key());
      for (const name of data.upsamplers) cells.push(panel(current.results[name][row], name));
    });
    const grid = element("panels");
    grid.style.setProperty("--columns", data.upsamplers.length + 1);
    grid.replaceChildren(...cells);
    applyView(grid);
  }

  // The zoom stays: what is looked at in one image can be compared in the next.
  function choose(image) {
    current = image;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(data.images[i] === image)));
    showSlider();
    showPanels();
  }

  const buttons = data.images.map((image) => {
    const button = document.createElement("button");
    const thumbnail = document.createElement("img");
    button.type = "button";
    thumbnail.src = image.references[0].source;
    thumbnail.alt = image.name;
    button.append(thumbnail);
    button.addEventListener("click", () => choose(image));
    return button;
  });

  // Of how many percent of the pixels the upsamplers on the left and on the right say something else.
  function difference(image) {
    const names = choices.map((select) => select.value.split("|")[1]);
    return image.differences[names.sort().join("|")] ?? 0;
  }

  // Show the images of a class, in an order; the chosen image stays where it is among them.
  function arrange() {
    const wanted = element("class-choice").value;
    const places = data.images.map((_, i) => i).filter((i) => !wanted || data.images[i].classes.includes(wanted));
    if (element("order").value) places.sort((a, b) => difference(data.images[b]) - difference(data.images[a]));
    element("thumbnails").replaceChildren(...places.map((i) => buttons[i]));
    element("how-many").textContent = `${places.length} of ${data.images.length}`;
    if (places.length && !places.some((i) => data.images[i] === current)) choose(data.images[places[0]]);
  }

  const classes = [...new Set(data.images.flatMap((image) => image.classes))].sort();
  for (const name of classes) element("class-choice").add(new Option(name, name));
  element("which").hidden = !classes.length;
  for (const id of ["class-choice", "order"]) element(id).addEventListener("change", arrange);
  arrange();
  element("zoom-in").addEventListener("click", () => zoomAt(1.4, 0.5, 0.5));
  element("zoom-out").addEventListener("click", () => zoomAt(1 / 1.4, 0.5, 0.5));
  element("zoom-reset").addEventListener("click", () => setView(1, 0, 0));
  view.listeners.push(() => {
    applyView(document);
    document.documentElement.classList.toggle("magnified", view.scale > 1);
    element("zoom-level").textContent = `${Math.round(view.scale * 100)} %`;
  });
  choose(data.images[0]);
}

start();
