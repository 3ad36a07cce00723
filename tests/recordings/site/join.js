const form = document.querySelector("#sign-up");

const checks = {
  name: (value) => (value.trim() === "" ? "Please tell us what to call you." : ""),
  email: (value) => (/^\S+@\S+\.\S+$/.test(value) ? "" : "That does not look like an e-mail address."),
  password: (value) => (value.length < 8 ? "Eight characters or more, please." : ""),
};

/** Shows or clears the complaint below one field; true when there is none. */
function checkField(field) {
  const problem = checks[field](form.elements[field].value);
  const line = document.querySelector(`#${field}-problem`);
  line.textContent = problem;
  line.hidden = problem === "";
  return problem === "";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const results = Object.keys(checks).map(checkField);
  if (results.includes(false)) return;

  document.querySelector("#welcome-title").textContent = `Welcome, ${form.elements.name.value}! 🎉`;
  document.querySelector("#welcome-genre").textContent = form.elements.genre.value;
  document.querySelector("#welcome").hidden = false;
  form.hidden = true;
});
