for (const letter of document.querySelectorAll(".letter")) {
  let claps = 0;
  const button = document.createElement("button");
  const show = () => {
    button.textContent = `👏 ${claps}`;
  };
  button.addEventListener("click", () => {
    claps += 1;
    show();
  });
  show();
  letter.append(button);
}
