import { records } from "./records.js";

const shelf = document.querySelector("#shelf");
const details = document.querySelector("#details");
const like = document.querySelector("#details-like");

for (const record of records) {
  const card = document.createElement("li");
  card.className = "card";

  const title = document.createElement("h2");
  title.textContent = record.title;

  const artist = document.createElement("p");
  artist.textContent = `${record.artist}, ${record.year}`;

  const open = document.createElement("button");
  open.dataset.record = record.id;
  open.textContent = "Details";
  open.addEventListener("click", () => showDetails(record));

  card.append(title, artist, open);
  shelf.append(card);
}

function showDetails(record) {
  details.querySelector("#details-title").textContent = record.title;
  details.querySelector("#details-artist").textContent = `${record.artist}, ${record.year}`;
  details.querySelector("#details-note").textContent = record.note;
  setLiked(false);
  details.showModal();
}

function setLiked(liked) {
  like.setAttribute("aria-pressed", String(liked));
  like.textContent = liked ? "♥ Liked" : "♡ Like";
}

like.addEventListener("click", () => setLiked(like.getAttribute("aria-pressed") === "false"));
