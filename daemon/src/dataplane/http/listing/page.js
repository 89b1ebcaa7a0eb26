"use strict";
(() => {
  const table = document.querySelector("table");
  const filter = document.querySelector("#filter");
  const total = document.querySelector("#total");
  const whole = total.textContent;
  const chunk = Number(table.dataset.chunk);
  const bodies = () => table.querySelectorAll("tbody:not(.up)");
  const entries = [...table.querySelectorAll("tbody:not(.up) > tr")].map((row, place) => ({ row, place }));
  const collator = new Intl.Collator(undefined, { numeric: true });
  const name = (entry) => (entry.name ??= entry.row.cells[0].firstElementChild.textContent);
  const isDirectory = (entry) => (entry.isDirectory ??= entry.row.classList.contains("d"));
  const values = {
    size: (entry) => (entry.size ??= Number(entry.row.cells[1].firstElementChild?.value ?? 0)),
    time: (entry) => (entry.time ??= Date.parse(entry.row.cells[2].firstElementChild.dateTime)),
  };
  const byName = table.dataset.order === "name"
    ? (one, other) => one.place - other.place
    : (one, other) => collator.compare(name(one), name(other));
  let order = entries;

  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const holds = (entry) => {
      const text = (entry.lower ??= name(entry).toLowerCase());
      return words.every((word) => text.includes(word));
    };
    const shown = words.length ? order.filter(holds) : order;
    const fresh = [];
    for (let from = 0; from < shown.length; from += chunk) {
      const body = document.createElement("tbody");
      body.append(...shown.slice(from, from + chunk).map((entry) => entry.row));
      fresh.push(body);
    }
    for (const body of bodies()) body.remove();
    table.append(...fresh);
    total.textContent = words.length
      ? `${shown.length.toLocaleString("en")} of ${entries.length.toLocaleString("en")} entries`
      : whole;
  };

  const sort = (header, key) => {
    const isDescending = header.ariaSort === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
    const value = values[key];
    const compare = value ? (one, other) => value(one) - value(other) || byName(one, other) : byName;
    order = [...entries].sort((one, other) =>
      isDirectory(other) - isDirectory(one) || (isDescending ? compare(other, one) : compare(one, other)));
    history.replaceState(null, "", `?sort=${key}${isDescending ? "&desc" : ""}`);
    show();
  };

  for (const form of table.tHead.querySelectorAll("form")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      sort(form.closest("th"), form.elements.sort.value);
    });
  }

  let pending = 0;
  filter.addEventListener("input", () => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(show);
  });

  const neighbour = (row, isNext) => {
    const [sibling, end] = isNext ? ["nextElementSibling", 0] : ["previousElementSibling", -1];
    return row[sibling] ?? [...(row.parentElement[sibling]?.rows ?? [])].at(end);
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const focused = document.activeElement;
    if (event.key === "/" && focused !== filter) {
      event.preventDefault();
      filter.focus();
      filter.select();
    } else if (event.key === "Escape" && focused === filter) {
      filter.value = "";
      show();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const row = focused.closest("tbody tr");
      const isNext = event.key === "ArrowDown";
      const next = row ? neighbour(row, isNext) : focused === filter && isNext ? bodies()[0]?.rows[0] : null;
      const link = next?.querySelector("a");
      if (!link) return;
      event.preventDefault();
      link.focus();
    }
  });

  document.querySelector(".filter").hidden = false;
  if (filter.value) show();
})();
