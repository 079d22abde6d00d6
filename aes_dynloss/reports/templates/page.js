"use strict";
// Sorts the rows of a table by a column: numbers by value, names naturally, undefined values last, ties as they were.
document.addEventListener("click", (event) => {
  const button = event.target.closest("th button");
  if (!button) return;
  const heading = button.closest("th");
  const table = heading.closest("table");
  const place = heading.cellIndex;
  const numeric = heading.classList.contains("number");
  const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const keyed = Array.from(table.tBodies[0].rows, (row) => {
    const key = row.cells[place].dataset.v;
    return { row, key: key === undefined ? null : numeric ? Number(key) : key };
  });
  keyed.sort((one, other) => {
    if (one.key === null || other.key === null) return (one.key === null) - (other.key === null);
    const order = numeric ? one.key - other.key : one.key.localeCompare(other.key, undefined, { numeric: true });
    return direction * order;
  });
  table.tBodies[0].append(...keyed.map((entry) => entry.row));
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
});
// Shows the rows of a table that hold all words that are searched for, and says how many these are.
document.addEventListener("input", (event) => {
  const name = event.target.dataset && event.target.dataset.table;
  if (!name) return;
  const wanted = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = Array.from(document.getElementById(name).tBodies[0].rows);
  for (const row of rows) {
    const words = row.textContent.toLowerCase();
    row.hidden = !wanted.every((word) => words.includes(word));
  }
  const found = rows.filter((row) => !row.hidden).length;
  event.target.parentElement.querySelector("output").textContent = wanted.length ? `${found} of ${rows.length}` : "";
});
// Says where there is more to the right: until the end is reached, the edge fades.
function hint() {
  for (const box of document.querySelectorAll(".scroll")) {
    const over = box.scrollWidth - box.clientWidth;
    box.classList.toggle("sideways", over > 1);
    box.classList.toggle("more", over - box.scrollLeft > 1);
  }
}
hint();
addEventListener("resize", hint);
document.addEventListener("scroll", hint, { capture: true, passive: true });
document.addEventListener("toggle", hint, true);
document.addEventListener("change", hint);
// Paper cannot be unfolded.
window.addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
