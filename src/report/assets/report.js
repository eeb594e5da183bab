"use strict";
// Tables, plots and pictures are there without this; it adds sorting, filtering, and the viewer of before and after.
(() => {
  document.documentElement.classList.add("js");

  const MOST_ZOOM = 32;
  const TAGS = {
    restored: ["Blurred", "Restored"],
    sharp: ["Restored", "Sharp"],
    difference: ["|Blurred − sharp|", "|Restored − sharp|"],
  };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const number = (text) => Number(text.replace("inf", "Infinity"));
  const all = (root, selector) => [...root.querySelectorAll(selector)];
  const press = (buttons, pressed) =>
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === pressed)));

  // Before and after. Offsets are shares of the stage's size, so they hold when the window changes.
  function startViewer(viewer) {
    const stage = viewer.querySelector(".stage");
    const pixels = Number(viewer.querySelector("img").getAttribute("width"));
    const divide = viewer.querySelector(".divide input");
    const scaleText = viewer.querySelector(".scale");
    const views = all(viewer, "button[data-view]");
    const amplify = viewer.querySelector(".amplify");
    const place = { x: 0, y: 0, scale: 1 };

    function show() {
      place.x = clamp(place.x, 1 - place.scale, 0);
      place.y = clamp(place.y, 1 - place.scale, 0);
      for (const [name, value] of Object.entries(place)) stage.style.setProperty(`--${name}`, value);
      const shown = (place.scale * stage.clientWidth) / pixels;
      scaleText.textContent = `${Math.round(shown * 100)} %`;
      stage.classList.toggle("zoomed", place.scale > 1);
      stage.classList.toggle("pixels", shown >= 3);
    }
    // About a point of the stage, which stays where it is.
    function zoom(factor, x = 0.5, y = 0.5) {
      const scale = clamp(place.scale * factor, 1, MOST_ZOOM);
      place.x = x - ((x - place.x) * scale) / place.scale;
      place.y = y - ((y - place.y) * scale) / place.scale;
      place.scale = scale;
      show();
    }
    function move(x, y) {
      place.x += x;
      place.y += y;
      show();
    }
    function setDivide(share) {
      divide.value = clamp(share * 100, 0, 100);
      viewer.style.setProperty("--divide", `${divide.value}%`);
    }
    function setView(button) {
      viewer.dataset.view = button.dataset.view;
      press(views, button);
      amplify.hidden = button.dataset.view !== "difference";
      all(viewer, ".tag").forEach((tag, side) => (tag.textContent = TAGS[button.dataset.view][side]));
    }
    const at = (event) => {
      const box = stage.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };

    divide.addEventListener("input", () => setDivide(divide.value / 100));
    views.forEach((button) => button.addEventListener("click", () => setView(button)));
    const amount = amplify.querySelector("input");
    amount.addEventListener("input", () => {
      viewer.style.setProperty("--amplify", amount.value);
      amplify.querySelector("output").textContent = `${amount.value}×`;
    });
    const zooms = { in: () => zoom(1.5), out: () => zoom(1 / 1.5), fit: () => zoom(0) };
    all(viewer, "button[data-zoom]").forEach((button) =>
      button.addEventListener("click", zooms[button.dataset.zoom]));
    // The wheel alone scrolls the page, as everywhere.
    stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), ...at(event));
    }, { passive: false });

    // Dragging moves the divide; of a zoomed picture it moves the picture, unless it takes the divide itself.
    let drag = null;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const [x, y] = at(event);
      drag = { divide: place.scale === 1 || event.target.matches(".handle"), x, y };
      stage.setPointerCapture(event.pointerId);
      if (drag.divide) setDivide(x);
    });
    stage.addEventListener("pointermove", (event) => {
      if (!drag) return;
      const [x, y] = at(event);
      if (drag.divide) setDivide(x);
      else move(x - drag.x, y - drag.y);
      Object.assign(drag, { x, y });
    });
    ["pointerup", "pointercancel"].forEach((name) => stage.addEventListener(name, () => (drag = null)));
    stage.addEventListener("dragstart", (event) => event.preventDefault());
    stage.addEventListener("dblclick", (event) => zoom(place.scale > 1 ? 0 : 4, ...at(event)));
    const keys = {
      "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: () => zoom(0),
      ArrowLeft: () => move(0.1, 0), ArrowRight: () => move(-0.1, 0),
      ArrowUp: () => move(0, 0.1), ArrowDown: () => move(0, -0.1),
    };
    stage.addEventListener("keydown", (event) => {
      const arrows = event.key.startsWith("Arrow");
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || (arrows && place.scale === 1)) return;
      event.preventDefault();
      keys[event.key]();
    });
    new ResizeObserver(show).observe(stage);
    all(viewer, "[hidden]").filter((part) => part !== amplify).forEach((part) => (part.hidden = false));
    setDivide(0.5);
    show();
  }

  // A cell's number if it has one, or else its text; what is no number comes last.
  function compare(a, b) {
    if (typeof a === "string" || typeof b === "string") {
      return String(a).localeCompare(String(b), undefined, { numeric: true });
    }
    return Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : a < b ? -1 : Number(a > b);
  }

  function startTable(table) {
    const headings = all(table, "thead th");
    const body = table.tBodies[0];
    const value = (row, column) => {
      const { dataset, textContent } = row.cells[column];
      return dataset.value === undefined ? textContent : number(dataset.value);
    };
    headings.forEach((heading, column) =>
      heading.querySelector("button").addEventListener("click", () => {
        const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        headings.forEach((other) => other.setAttribute("aria-sort", other === heading ? order : "none"));
        const sign = order === "ascending" ? 1 : -1;
        const keyed = [...body.rows].map((row) => [value(row, column), row]);
        keyed.sort((a, b) => sign * compare(a[0], b[0]));
        body.append(...keyed.map((pair) => pair[1]));
      }));
  }

  function startOrder(toolbar) {
    const shown = document.getElementById("shown");
    const buttons = all(toolbar, "button");
    const gain = (article) => number(article.dataset.gain);
    const orders = {
      losses: (a, b) => compare(gain(a), gain(b)),
      gains: (a, b) => compare(gain(b), gain(a)),
      name: (a, b) => compare(a.dataset.name, b.dataset.name),
    };
    buttons.forEach((button) =>
      button.addEventListener("click", () => {
        press(buttons, button);
        shown.append(...[...shown.children].sort(orders[button.dataset.order]));
      }));
    toolbar.hidden = false;
  }

  function startFilter(toolbar) {
    const select = toolbar.querySelector("select");
    select.addEventListener("change", () =>
      all(document, "[data-dataset]").forEach((part) =>
        (part.hidden = select.value !== "" && part.dataset.dataset !== select.value)));
    toolbar.hidden = false;
  }

  document.addEventListener("DOMContentLoaded", () => {
    all(document, ".viewer").forEach(startViewer);
    all(document, "table.sortable").forEach(startTable);
    const [order, filter] = ["order", "filter"].map((id) => document.getElementById(id));
    if (order) startOrder(order);
    if (filter) startFilter(filter);
  });
})();
