// Leaf through the slices of a volume, all upsamplers side by side.
function startVolumes(volumes) {
  const element = (id) => document.getElementById(id);
  const choice = element("volume-choice"), range = element("slice-choice");
  volumes.forEach((volume, index) => choice.add(new Option(volume.name, String(index))));

  function showVolume() {
    const volume = volumes[Number(choice.value)];
    range.max = String(volume.slices.length - 1);
    range.value = String(Math.floor(volume.slices.length / 2));
    const panels = Object.keys(volume.layers).map((name) => {
      const figure = makePane("", `${name} of ${volume.name}`, volume);
      figure.querySelector("figcaption").textContent = name;
      return figure;
    });
    element("slices").style.setProperty("--columns", panels.length);
    element("slices").replaceChildren(...panels);
    showSlice();
  }

  function showSlice() {
    const volume = volumes[Number(choice.value)], place = Number(range.value);
    element("slice-number").textContent = String(volume.slices[place]);
    Object.entries(volume.layers).forEach(([name, sources], index) => {
      const image = element("slices").children[index].querySelector("img");
      image.src = sources[place];
      image.alt = `${name}, slice ${volume.slices[place]} of ${volume.name}`;
    });
    applyView(element("slices"));
  }

  choice.addEventListener("change", showVolume);
  range.addEventListener("input", showSlice);
  view.listeners.push(() => applyView(element("slices")));
  showVolume();
}
