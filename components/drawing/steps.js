for (const root of document.querySelectorAll('[data-drawing="DRAWING"]:not([data-ready])')) {
  root.dataset.ready = "true";
  const sections = [...root.querySelectorAll("section[data-step]")];
  const label = root.querySelector("label.steps");
  const slider = label.querySelector("input");
  const show = () => {
    sections.forEach((section) => { section.hidden = section.dataset.step !== slider.value; });
    label.querySelector("output").textContent = `${slider.value} of ${slider.max}`;
  };
  label.hidden = false;
  slider.addEventListener("input", show);
  show();
}
