for (const root of document.querySelectorAll('[data-drawing="DRAWING"]:not([data-ready])')) {
  root.dataset.ready = "true";
  const sections = [...root.querySelectorAll("section[data-view]")];
  const controls = root.querySelector(".controls");
  const buttons = sections.map((section) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = section.dataset.view;
    button.addEventListener("click", () => show(section));
    controls.append(button);
    return button;
  });
  const show = (chosen) => sections.forEach((section, index) => {
    section.hidden = section !== chosen;
    buttons[index].setAttribute("aria-pressed", String(section === chosen));
  });
  show(sections[0]);
}
