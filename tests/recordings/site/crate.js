import { records } from "./records.js";

const crate = document.querySelector("#crate");
const addForm = document.querySelector("#add-form");
const filter = document.querySelector("#filter");

// Nothing is stored: every visit starts with the same crate, and so with the same page.
for (const record of records.slice(0, 5)) addItem(record.title, record.artist);
refresh();

function addItem(title, artist) {
  const item = document.createElement("li");

  const label = document.createElement("span");
  label.className = "title";
  label.textContent = title;

  const by = document.createElement("span");
  by.className = "artist";
  by.textContent = artist;

  const remove = document.createElement("button");
  remove.textContent = "Remove";
  remove.setAttribute("aria-label", `Remove ${title}`);
  remove.addEventListener("click", () => {
    item.remove();
    refresh();
  });

  item.append(label, by, remove);
  crate.append(item);
}

function refresh() {
  const wanted = filter.value.toLowerCase();
  let shown = 0;
  for (const item of crate.children) {
    item.hidden = !item.textContent.toLowerCase().includes(wanted);
    if (!item.hidden) shown += 1;
  }
  document.querySelector("#crate-count").textContent = `${shown} of ${crate.children.length} shown.`;
  document.querySelector("#crate-empty").hidden = shown > 0;
}

function titleOf(item) {
  return item.querySelector(".title").textContent;
}

addForm.addEventListener("submit", (event) => {
  event.preventDefault();
  addItem(addForm.elements.title.value, "added by you");
  addForm.reset();
  refresh();
});

filter.addEventListener("input", refresh);

document.querySelector("#sort").addEventListener("click", () => {
  const sorted = [...crate.children].sort((a, b) => titleOf(a).localeCompare(titleOf(b), "en"));
  crate.append(...sorted);
});
